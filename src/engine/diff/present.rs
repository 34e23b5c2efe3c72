//! Every caller against every record, as both bundles decide now.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;
use serde::Serialize;

use super::{
    Comparison,
    figures::{Change, Counts, Figures, Rows, Total, by_action, shown},
    side::{Opened, Question, Side, View},
};
use crate::{
    clock::Instant,
    engine::{
        Circumstances, Refusal, Wardkeep,
        world::{Holding, World},
    },
    model::{Action, CollectionName, Entity, EntityUid, limits},
};

/// The actions that show a record.
const ACTIONS: [Action; 2] = [Action::Retrieve, Action::Read];

/// Parents that a role's name tells; more are counted.
const PARENTS_NAMED: usize = 5;

/// Callers of one kind.
#[derive(Debug, Clone, Serialize)]
pub struct RoleRow {
    /// `Clinician in Role::"nurse"`: the type, and the direct parents.
    pub role: String,
    /// In which collection.
    pub collection: String,
    /// For which purpose.
    pub purpose: Option<String>,
    /// By which actions; both where they agree.
    pub actions: Vec<Action>,
    /// How many callers of this role there are.
    pub callers: u64,
    /// For how many of them something changes.
    pub changed: u64,
    /// Records that some caller of this role would see and did not.
    pub gained: Figures,
    /// Records that some caller of this role saw and would not.
    pub lost: Figures,
}

/// One caller for whom something changes.
#[derive(Debug, Clone, Serialize)]
pub struct CallerRow {
    /// Who.
    pub caller: EntityUid,
    /// Of which role.
    pub role: String,
    /// In which collection.
    pub collection: String,
    /// For which purpose.
    pub purpose: Option<String>,
    /// By which actions; both where they agree.
    pub actions: Vec<Action>,
    /// How many records they see before.
    pub before: u64,
    /// How many after.
    pub after: u64,
    /// Records that they would see and did not.
    pub gained: Figures,
    /// Records that they saw and would not.
    pub lost: Figures,
}

/// Callers of one kind for whom it changes whether they may search at all.
#[derive(Debug, Clone, Serialize)]
pub struct Asking {
    /// Of which role.
    pub role: String,
    /// Revision collection.
    pub collection: String,
    /// For which purpose.
    pub purpose: Option<String>,
    /// How many may who could not.
    pub gained: u64,
    /// How many may not who could.
    pub lost: u64,
}

pub(super) struct Present<'a> {
    pub(super) engine: &'a Wardkeep,
    pub(super) old: &'a Side,
    pub(super) new: &'a Side,
    pub(super) comparison: &'a Comparison,
    pub(super) purposes: Vec<Option<String>>,
    pub(super) now: Instant,
}

/// What was found.
pub(super) struct Found {
    pub(super) totals: Vec<Total>,
    pub(super) roles: Vec<RoleRow>,
    pub(super) roles_omitted: u64,
    pub(super) callers: Vec<CallerRow>,
    pub(super) callers_omitted: u64,
    pub(super) asking: Vec<Asking>,
}

/// A caller, and the role that they are counted under.
pub(super) struct Who {
    uid: EntityUid,
    role: String,
}

impl Present<'_> {
    /// Every stored entity of a type that may be shown a record, or those that were named; in order of role.
    pub(super) fn callers(&self) -> Result<Vec<Who>, Refusal> {
        let world = self.engine.world.read();
        let found: Vec<Who> = match &self.comparison.callers {
            Some(named) => {
                let once: BTreeSet<&EntityUid> = named.iter().collect();
                once.into_iter().map(|uid| self.named(&world, uid)).collect::<Result<_, _>>()?
            }
            None => self.all(&world),
        };
        let collections = self.collections_in(&world)?.len();
        bounded(found.len(), self.purposes.len(), collections)?;
        Ok(found)
    }

    fn named(&self, world: &World, uid: &EntityUid) -> Result<Who, Refusal> {
        let stored = [self.old, self.new].into_iter().find_map(|side| side.directory(world).get(uid));
        let stored = stored.ok_or_else(|| Refusal::invalid("callers", "a caller that is named is not stored"))?;
        Ok(Who { uid: uid.clone(), role: role(stored) })
    }

    fn all(&self, world: &World) -> Vec<Who> {
        let sides = [self.old, self.new];
        let types: BTreeSet<_> = sides
            .iter()
            .flat_map(|side| ACTIONS.into_iter().flat_map(|action| side.bundle.principals(action)))
            .collect();
        let mut found: BTreeMap<&EntityUid, String> = BTreeMap::new();
        for side in sides {
            for entity in types.iter().flat_map(|ty| side.directory(world).of_type(ty)) {
                found.entry(&entity.uid).or_insert_with(|| role(entity));
            }
        }
        let mut found: Vec<Who> = found.into_iter().map(|(uid, role)| Who { uid: uid.clone(), role }).collect();
        found.sort_by(|a, b| (&a.role, &a.uid).cmp(&(&b.role, &b.uid)));
        found
    }

    pub(super) fn collections(&self) -> Result<Vec<CollectionName>, Refusal> {
        self.collections_in(&self.engine.world.read())
    }

    fn collections_in(&self, world: &World) -> Result<Vec<CollectionName>, Refusal> {
        match &self.comparison.collections {
            None => Ok(world.collections.keys().cloned().collect()),
            Some(named) if named.iter().all(|name| world.holding(name).is_some()) => {
                let once: BTreeSet<&CollectionName> = named.iter().collect();
                Ok(once.into_iter().cloned().collect())
            }
            Some(_) => Err(Refusal::Absent),
        }
    }

    pub(super) fn compare(
        &self,
        callers: &[Who],
        collections: &[CollectionName],
        step: &dyn Fn(u64),
    ) -> Result<Found, Refusal> {
        let (mut roles, mut rows) = (Rows::new(), Rows::new());
        let (mut totals, mut asking) = (Vec::new(), Vec::new());
        let mut done = 0;
        for name in collections {
            let mut tally = Tally::default();
            for who in callers {
                // one caller at a time: changes and other requests do not wait for all of them
                let world = self.engine.world.read();
                if let Some(holding) = world.holding(name) {
                    let view = View { engine: self.engine, world: &world, holding };
                    self.one(view, who, &mut tally, &mut rows)?;
                }
                done += 1;
                step(done);
            }
            let world = self.engine.world.read();
            if let Some(holding) = world.holding(name) {
                tally.finish(holding, self.comparison.samples, &mut roles, &mut totals, &mut asking);
            }
        }
        Ok(Found {
            totals,
            roles: roles.kept,
            roles_omitted: roles.omitted,
            callers: rows.kept,
            callers_omitted: rows.omitted,
            asking,
        })
    }

    fn one(&self, view: View<'_>, who: &Who, tally: &mut Tally, rows: &mut Rows<CallerRow>) -> Result<(), Refusal> {
        let name = &view.holding.spec.name;
        let mut changed = [false; 2];
        for purpose in &self.purposes {
            let circumstances = Circumstances::of(name.clone()).purpose(purpose.clone());
            let question = Question { caller: &who.uid, circumstances: &circumstances, now: self.now, address: None };
            let key = Key { role: who.role.clone(), purpose: purpose.clone() };
            let may = |side: &Side| side.may_ask(view.world, name, &question);
            tally.asks(&key, may(self.old)?, may(self.new)?);
            let [retrieve, read] = ACTIONS;
            let seen = [
                self.seen(view, &question, retrieve, &mut tally.opened)?,
                self.seen(view, &question, read, &mut tally.opened)?,
            ];
            tally.add(&key, &seen);
            for (has, seen) in changed.iter_mut().zip(&seen) {
                *has |= !seen.change.is_none();
            }
            let [retrieve, read] = &seen;
            for (actions, seen) in by_action(retrieve, read) {
                if !seen.change.is_none() {
                    rows.push(self.row(view.holding, who, purpose, actions, &seen), limits::DIFF_ROWS);
                }
            }
        }
        for (count, changed) in tally.callers.iter_mut().zip(changed) {
            *count += u64::from(changed);
        }
        Ok(())
    }

    fn seen(
        &self,
        view: View<'_>,
        question: &Question<'_>,
        action: Action,
        opened: &mut Opened,
    ) -> Result<Seen, Refusal> {
        let mut see = |side: &Side| side.visible(view, question, action, None, opened);
        let (old, new) = (see(self.old)?, see(self.new)?);
        Ok(Seen { before: old.len(), after: new.len(), change: Change::between(&old, &new) })
    }

    fn row(
        &self,
        holding: &Holding,
        who: &Who,
        purpose: &Option<String>,
        actions: Vec<Action>,
        seen: &Seen,
    ) -> CallerRow {
        let figures = |slots: &RoaringBitmap| Figures::of(holding, slots, self.comparison.samples);
        CallerRow {
            caller: who.uid.clone(),
            role: who.role.clone(),
            collection: holding.spec.name.as_str().to_owned(),
            purpose: purpose.clone(),
            actions,
            before: seen.before,
            after: seen.after,
            gained: figures(&seen.change.gained),
            lost: figures(&seen.change.lost),
        }
    }
}

/// Refuses more than one comparison may be.
fn bounded(callers: usize, purposes: usize, collections: usize) -> Result<(), Refusal> {
    if callers.saturating_mul(purposes).saturating_mul(collections) <= limits::DIFF_COMPARISONS {
        return Ok(());
    }
    let most = limits::DIFF_COMPARISONS;
    let detail = format!("callers x purposes x collections are more than {most}; name some of them");
    Err(Refusal::invalid("too_many_comparisons", detail))
}

/// The type, and the direct parents.
pub(super) fn role(entity: &Entity) -> String {
    let named: Vec<String> = entity.parents.iter().take(PARENTS_NAMED).map(shown).collect();
    match (named.is_empty(), entity.parents.len() - named.len()) {
        (true, _) => entity.uid.ty.as_ref().to_owned(),
        (false, 0) => format!("{} in {}", entity.uid.ty, named.join(", ")),
        (false, more) => format!("{} in {} and {more} more", entity.uid.ty, named.join(", ")),
    }
}

/// What one caller sees before and after.
#[derive(Clone, PartialEq)]
struct Seen {
    before: u64,
    after: u64,
    change: Change,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    role: String,
    purpose: Option<String>,
}

/// Both actions of callers of one role.
#[derive(Default)]
struct Role {
    callers: u64,
    actions: [RoleChange; 2],
}

#[derive(Clone, PartialEq, Default)]
struct RoleChange {
    changed: u64,
    change: Change,
}

#[derive(Clone, PartialEq, Default)]
struct Sum {
    change: Change,
    gained_pairs: u64,
    lost_pairs: u64,
}

/// One collection, while its callers are gone through.
#[derive(Default)]
struct Tally {
    roles: BTreeMap<Key, Role>,
    may: Counts<Key>,
    may_not: Counts<Key>,
    sums: [Sum; 2],
    /// Callers for whom something changes, by action.
    callers: [u64; 2],
    opened: Opened,
}

impl Tally {
    fn asks(&mut self, key: &Key, before: bool, after: bool) {
        match (before, after) {
            (false, true) => *self.may.entry(key.clone()).or_default() += 1,
            (true, false) => *self.may_not.entry(key.clone()).or_default() += 1,
            (true, true) | (false, false) => {}
        }
    }

    fn add(&mut self, key: &Key, seen: &[Seen; 2]) {
        let role = self.roles.entry(key.clone()).or_default();
        role.callers += 1;
        for ((of_role, sum), seen) in role.actions.iter_mut().zip(&mut self.sums).zip(seen) {
            of_role.changed += u64::from(!seen.change.is_none());
            of_role.change.add(&seen.change);
            sum.change.add(&seen.change);
            sum.gained_pairs += seen.change.gained.len();
            sum.lost_pairs += seen.change.lost.len();
        }
    }

    fn finish(
        self,
        holding: &Holding,
        samples: usize,
        roles: &mut Rows<RoleRow>,
        totals: &mut Vec<Total>,
        asking: &mut Vec<Asking>,
    ) {
        let collection = || holding.spec.name.as_str().to_owned();
        let figures = |slots: &RoaringBitmap| Figures::of(holding, slots, samples);
        for (key, role) in self.roles {
            let [retrieve, read] = &role.actions;
            for (actions, of_role) in by_action(retrieve, read).into_iter().filter(|(_, r)| r.changed > 0) {
                let row = RoleRow {
                    role: key.role.clone(),
                    collection: collection(),
                    purpose: key.purpose.clone(),
                    actions,
                    callers: role.callers,
                    changed: of_role.changed,
                    gained: figures(&of_role.change.gained),
                    lost: figures(&of_role.change.lost),
                };
                roles.push(row, limits::DIFF_ROWS);
            }
        }
        let [retrieve, read] = &self.sums;
        let [retrievers, readers] = self.callers;
        for (actions, (sum, callers)) in by_action(&(retrieve.clone(), retrievers), &(read.clone(), readers)) {
            totals.push(Total {
                collection: collection(),
                actions,
                callers,
                gained: figures(&sum.change.gained),
                gained_pairs: sum.gained_pairs,
                lost: figures(&sum.change.lost),
                lost_pairs: sum.lost_pairs,
            });
        }
        let keys: BTreeSet<&Key> = self.may.keys().chain(self.may_not.keys()).collect();
        for key in keys.into_iter().take(limits::DIFF_ROWS) {
            let count = |counts: &Counts<Key>| counts.get(key).copied().unwrap_or(0);
            asking.push(Asking {
                role: key.role.clone(),
                collection: collection(),
                purpose: key.purpose.clone(),
                gained: count(&self.may),
                lost: count(&self.may_not),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_bounded_at_the_limit_and_one_past_it() {
        assert!(bounded(limits::DIFF_COMPARISONS, 1, 1).is_ok());
        assert!(bounded(limits::DIFF_COMPARISONS / 4, 2, 2).is_ok());
        assert!(bounded(limits::DIFF_COMPARISONS + 1, 1, 1).is_err());
        assert!(bounded(usize::MAX, 2, 2).is_err());
    }

    #[test]
    fn a_role_names_the_type_and_a_few_parents() {
        let mut entity = Entity::bare(EntityUid::new("Clinician", "x"));
        assert_eq!(role(&entity), "Clinician");
        entity.parents.insert(EntityUid::new("Role", "nurse"));
        assert_eq!(role(&entity), "Clinician in Role::\"nurse\"");
        entity.parents.extend((0..PARENTS_NAMED).map(|n| EntityUid::new("Team", n.to_string())));
        assert!(role(&entity).ends_with(" and 1 more"), "{}", role(&entity));
    }
}
