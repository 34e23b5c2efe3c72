//! The stored entities in memory, with their form for Cedar beside them. Knows no schema.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use cedar_policy::Entity as CedarEntity;

#[cfg(test)]
use super::agreement::{Mutant, planted};
use super::{columns::Changes, convert};
use crate::model::{Entity, EntityUid};

/// One count for all directories of the process, so that a mark names one state of one directory.
static DIRECTORIES: AtomicU64 = AtomicU64::new(1);

/// One state of one directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mark {
    directory: u64,
    changes: u64,
}

/// All stored entities but records. Iteration is in the order of ids.
#[derive(Debug)]
pub struct Directory {
    by_type: HashMap<Arc<str>, BTreeMap<Arc<str>, Held>>,
    referrers: HashMap<EntityUid, usize>,
    number: u64,
    changes: Changes<EntityUid>,
}

#[derive(Debug)]
struct Held {
    entity: Arc<Entity>,
    /// Made when Cedar is first asked about it; `None` within if it cannot be made.
    cedar: OnceLock<Option<CedarEntity>>,
}

impl Default for Directory {
    fn default() -> Self {
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        Self { by_type: HashMap::new(), referrers: HashMap::new(), number, changes: Changes::default() }
    }
}

impl Directory {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The entity of this name.
    pub fn get(&self, uid: &EntityUid) -> Option<&Arc<Entity>> {
        self.held(uid).map(|held| &held.entity)
    }

    /// Whether an entity of this name is stored.
    pub fn contains(&self, uid: &EntityUid) -> bool {
        self.held(uid).is_some()
    }

    /// How many entities are stored.
    pub fn len(&self) -> usize {
        self.by_type.values().map(BTreeMap::len).sum()
    }

    /// Whether none is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A name for the present state, which no other state of any directory in this process has.
    pub(super) fn mark(&self) -> Mark {
        Mark { directory: self.number, changes: self.changes.mark() }
    }

    /// Entities that came, went or changed since; `None` where that is forgotten, or was another directory.
    pub(super) fn changes_since(&self, mark: Mark) -> Option<impl Iterator<Item = &EntityUid>> {
        if mark.directory == self.number { self.changes.since(mark.changes) } else { None }
    }

    /// Stores an entity, whole; gives back what it replaced.
    pub fn upsert(&mut self, entity: Entity) -> Option<Arc<Entity>> {
        let changed = entity.uid.clone();
        #[cfg(test)]
        let changed = planted(Mutant::ChangeNotNoted, changed, |_| EntityUid::new("Nobody", "nobody"));
        self.changes.note(changed);
        for uid in distinct_references(&entity) {
            *self.referrers.entry(uid).or_insert(0) += 1;
        }
        let uid = entity.uid.clone();
        let held = Held { entity: Arc::new(entity), cedar: OnceLock::new() };
        let old = self.by_type.entry(uid.ty).or_default().insert(uid.id, held)?;
        self.forget_references(&old.entity);
        Some(old.entity)
    }

    /// Stores an entity that has nothing but its name, unless there is one already.
    pub fn imply(&mut self, uid: EntityUid) {
        if !self.contains(&uid) {
            self.upsert(Entity::bare(uid));
        }
    }

    /// Removes an entity; whether there was one.
    pub fn remove(&mut self, uid: &EntityUid) -> bool {
        let removed = self.by_type.get_mut(&uid.ty).and_then(|of_type| of_type.remove(&uid.id));
        let Some(old) = removed else { return false };
        self.changes.note(uid.clone());
        self.forget_references(&old.entity);
        true
    }

    /// The entities of one type, by id.
    pub fn of_type(&self, ty: &str) -> impl Iterator<Item = &Arc<Entity>> {
        self.by_type.get(ty).into_iter().flat_map(|of_type| of_type.values().map(|held| &held.entity))
    }

    /// Every entity.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entity>> {
        self.by_type.values().flat_map(|of_type| of_type.values().map(|held| &held.entity))
    }

    /// How many stored entities refer to this one by attribute, tag or parent (itself not counted).
    pub fn referrers(&self, uid: &EntityUid) -> usize {
        self.referrers.get(uid).copied().unwrap_or(0)
    }

    /// Every ancestor that stored entities lead to, itself left out, and whether all of them are stored.
    pub fn ancestors(&self, entity: &Entity) -> (HashSet<EntityUid>, bool) {
        let mut found = HashSet::new();
        let mut whole = true;
        let mut open: Vec<&EntityUid> = entity.parents.iter().collect();
        while let Some(uid) = open.pop() {
            if !found.insert(uid.clone()) {
                continue;
            }
            match self.get(uid) {
                Some(parent) => open.extend(&parent.parents),
                None => whole = false,
            }
        }
        (found, whole)
    }

    /// An entity that would be its own ancestor if `upserts` were stored.
    pub fn cycle(&self, upserts: &[Entity]) -> Option<EntityUid> {
        let new: HashMap<&EntityUid, &Entity> = upserts.iter().map(|e| (&e.uid, e)).collect();
        let parents = |uid: &EntityUid| match new.get(uid) {
            Some(entity) => Some(&entity.parents),
            None => self.get(uid).map(|e| &e.parents),
        };
        // a cycle that was not there before goes through something new; `done` keeps the walk linear
        let mut done: HashSet<&EntityUid> = HashSet::new();
        for start in upserts {
            if let Some(uid) = cycle_from(&start.uid, &parents, &mut done) {
                return Some(uid.clone());
            }
        }
        None
    }

    pub(super) fn cedar(&self, uid: &EntityUid) -> Option<&CedarEntity> {
        let held = self.held(uid)?;
        held.cedar.get_or_init(|| convert::entity(&held.entity)).as_ref()
    }

    fn held(&self, uid: &EntityUid) -> Option<&Held> {
        self.by_type.get(&uid.ty)?.get(&uid.id)
    }

    fn forget_references(&mut self, entity: &Entity) {
        for uid in distinct_references(entity) {
            if let Some(count) = self.referrers.get_mut(&uid) {
                *count -= 1;
                if *count == 0 {
                    self.referrers.remove(&uid);
                }
            }
        }
    }
}

fn distinct_references(entity: &Entity) -> HashSet<EntityUid> {
    entity.references().into_iter().filter(|uid| **uid != entity.uid).cloned().collect()
}

/// Depth-first without recursion: a hierarchy may be as deep as a client makes it.
fn cycle_from<'a>(
    start: &'a EntityUid,
    parents: &impl Fn(&EntityUid) -> Option<&'a BTreeSet<EntityUid>>,
    done: &mut HashSet<&'a EntityUid>,
) -> Option<&'a EntityUid> {
    enum Step<'a> {
        Enter(&'a EntityUid),
        Leave(&'a EntityUid),
    }
    let mut on_path: HashSet<&EntityUid> = HashSet::new();
    let mut stack = vec![Step::Enter(start)];
    while let Some(step) = stack.pop() {
        match step {
            Step::Leave(uid) => {
                on_path.remove(uid);
                done.insert(uid);
            }
            Step::Enter(uid) if on_path.contains(uid) => return Some(uid),
            Step::Enter(uid) if done.contains(uid) => {}
            Step::Enter(uid) => {
                on_path.insert(uid);
                stack.push(Step::Leave(uid));
                stack.extend(parents(uid).into_iter().flatten().map(Step::Enter));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(id: &str, parents: &[&str]) -> Entity {
        let mut entity = Entity::bare(EntityUid::new("Group", id));
        entity.parents = parents.iter().map(|p| EntityUid::new("Group", *p)).collect();
        entity
    }

    #[test]
    fn a_cycle_is_found_through_stored_and_new_entities_and_a_diamond_is_none() {
        let mut directory = Directory::new();
        directory.upsert(group("a", &["b"]));
        directory.upsert(group("b", &["c"]));
        assert!(directory.cycle(&[group("c", &["a"])]).is_some());
        assert!(directory.cycle(&[group("c", &["c"])]).is_some());
        assert!(directory.cycle(&[group("c", &["d"]), group("d", &["b"])]).is_some());
        assert!(directory.cycle(&[group("c", &["a"]), group("b", &[])]).is_none());
        assert!(directory.cycle(&[group("x", &["a", "b"]), group("y", &["x", "a"])]).is_none());
    }

    #[test]
    fn referrers_are_counted_once_each_and_forgotten_with_them() {
        let mut directory = Directory::new();
        let target = EntityUid::new("Group", "t");
        let mut twice = group("a", &["t"]);
        twice.attrs.insert("friend".into(), crate::model::Value::Entity(target.clone()));
        directory.upsert(twice.clone());
        assert_eq!(directory.referrers(&target), 1);
        directory.upsert(twice);
        assert_eq!(directory.referrers(&target), 1);
        directory.upsert(group("b", &["t"]));
        assert_eq!(directory.referrers(&target), 2);
        assert!(directory.remove(&EntityUid::new("Group", "a")));
        assert!(!directory.remove(&EntityUid::new("Group", "a")));
        directory.upsert(group("b", &[]));
        assert_eq!(directory.referrers(&target), 0);
    }

    #[test]
    fn an_implied_entity_does_not_replace_a_stored_one() {
        let mut directory = Directory::new();
        directory.upsert(group("a", &["b"]));
        let mark = directory.mark();
        directory.imply(EntityUid::new("Group", "a"));
        assert_eq!(directory.mark(), mark);
        directory.imply(EntityUid::new("Group", "z"));
        assert_eq!(directory.of_type("Group").map(|e| e.uid.id.to_string()).collect::<Vec<_>>(), ["a", "z"]);
        assert_eq!(directory.get(&EntityUid::new("Group", "a")).unwrap().parents.len(), 1);
        assert!(!directory.ancestors(&group("q", &["a"])).1);
    }
}
