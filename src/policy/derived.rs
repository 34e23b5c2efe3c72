//! Columns beyond a record's own: along references to stored entities (`resource.patient.vip`), up the hierarchy, and what an atom
//! comes to by value. Each is made once and then follows the changes of records and entities, slot by slot.

use std::{
    collections::{HashMap, HashSet},
    ops::Deref,
    sync::{Arc, LazyLock},
};

use roaring::RoaringBitmap;

use super::{
    Bundle, Columns, Directory,
    columns::{Code, Column},
    directory::Mark,
    tree::Step,
    world::declared_by_schema,
};
use crate::model::{EntityUid, Value};

/// Things remembered for one schema; beyond it all are forgotten.
const KEPT: usize = 256;

/// Schemas that things are remembered for: the one in force, and one that is tried against the same records.
const SCHEMAS: usize = 2;

/// What an atom comes to for one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    True,
    False,
    Bad,
}

/// An outcome, and every entity that it may depend on.
pub(super) struct Judged {
    pub(super) outcome: Outcome,
    pub(super) looked_at: HashSet<EntityUid>,
}

/// How a derived column comes from the column before it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Way {
    /// The last step of a path of at least two.
    Along(Vec<Step>),
    /// All ancestors of the values at the end of a path; of the records' parents, for no path.
    Above(Vec<Step>),
    /// What a node comes to for each value at the end of a path.
    Truth(u64, Vec<Step>),
}

/// What the state of columns and directory was when something was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    columns: u64,
    directory: Mark,
}

#[derive(Debug)]
struct Made {
    at: Moment,
    column: Arc<Column>,
    /// Of a truth: entities to the values whose outcome may depend on them, and the outcome without a value.
    depends: HashMap<EntityUid, HashSet<Code>>,
    absent: Option<Outcome>,
}

/// What was made for one schema.
type Memory = HashMap<Way, Made>;

/// What was made, by schema.
#[derive(Debug, Default)]
pub(super) struct Memories {
    by_schema: HashMap<[u8; 32], Memory>,
}

impl Memories {
    fn of(&mut self, schema: [u8; 32]) -> &mut Memory {
        if self.by_schema.len() >= SCHEMAS && !self.by_schema.contains_key(&schema) {
            self.by_schema.clear();
        }
        let memory = self.by_schema.entry(schema).or_default();
        if memory.len() > KEPT {
            memory.clear();
        }
        memory
    }
}

/// Columns, directory and bundle, together for one plan.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) bundle: &'a Bundle,
    pub(super) columns: &'a Columns,
    pub(super) directory: &'a Directory,
}

/// A column that is there anyway, or one that was made.
enum Source<'a> {
    Own(&'a Column),
    Made(Arc<Column>),
}

impl Deref for Source<'_> {
    type Target = Column;
    fn deref(&self) -> &Column {
        match self {
            Self::Own(column) => column,
            Self::Made(column) => column,
        }
    }
}

static NOTHING: LazyLock<Column> = LazyLock::new(Column::default);

type Judge<'j> = dyn FnMut(&[Option<Value>]) -> Option<Vec<Judged>> + 'j;

impl<'a> Ground<'a> {
    /// The column at the end of a path.
    pub(super) fn column<T>(&self, path: &[Step], with: impl FnOnce(&Column) -> T) -> T {
        let column = match path {
            [] | [_] => self.own_column(path),
            [..] => Source::Made(self.made(&Way::Along(path.to_vec()))),
        };
        with(&column)
    }

    /// All ancestors of the values at the end of a path, as sets; broken where one of them is not stored, absent where the value
    /// itself is not, or is no entity. For no path: what is above the records' parents, broken where a parent is not stored either.
    pub(super) fn above(&self, path: &[Step]) -> Arc<Column> {
        self.made(&Way::Above(path.to_vec()))
    }

    /// What a node comes to for each value at the end of a path, and without one. `judge` is asked about values that are new. `None`
    /// where it cannot say.
    pub(super) fn truth(&self, node: u64, path: &[Step], judge: &mut Judge<'_>) -> Option<(Arc<Column>, Outcome)> {
        let way = Way::Truth(node, path.to_vec());
        let mut memories = self.columns.memories.lock();
        let memory = memories.of(self.bundle.ground);
        let column = self.refresh(memory, &way, judge)?;
        let absent = memory.get(&way).and_then(|made| made.absent)?;
        Some((column, absent))
    }

    /// The same for some slots alone, good for this once.
    pub(super) fn truth_of(&self, groups: Vec<Group>, judge: &mut Judge<'_>) -> Option<(Arc<Column>, Outcome)> {
        let (mut column, mut depends) = (Column::default(), HashMap::new());
        let absent = self.judge_all(groups, &mut column, &mut depends, judge)?;
        Some((Arc::new(column), absent))
    }

    /// The slot of a record of this collection.
    pub(super) fn own(&self, uid: &EntityUid) -> Option<u32> {
        self.columns.slot(uid)
    }

    fn made(&self, way: &Way) -> Arc<Column> {
        let mut memories = self.columns.memories.lock();
        let memory = memories.of(self.bundle.ground);
        self.refresh(memory, way, &mut |_| None).unwrap_or_default()
    }

    /// A column of the records' own.
    pub(super) fn of_record(&self, step: &Step) -> &'a Column {
        let column = match step {
            Step::Attr(name) => self.columns.attribute(name),
            Step::Tag(Some(key)) => self.columns.tag(key),
            Step::Tag(None) => None,
        };
        column.unwrap_or(&NOTHING)
    }

    fn own_column(&self, path: &[Step]) -> Source<'a> {
        Source::Own(path.first().map_or(&NOTHING, |step| self.of_record(step)))
    }

    fn at(&self, memory: &mut Memory, path: &[Step]) -> Source<'a> {
        match path {
            [] | [_] => self.own_column(path),
            [..] => {
                let made = self.refresh(memory, &Way::Along(path.to_vec()), &mut |_| None);
                Source::Made(made.unwrap_or_default())
            }
        }
    }

    /// The column before the last step.
    fn source(&self, memory: &mut Memory, way: &Way) -> Source<'a> {
        match way {
            Way::Along(path) => self.at(memory, path.split_last().map_or(&[], |(_, from)| from)),
            Way::Above(path) if path.is_empty() => Source::Own(self.columns.parents()),
            Way::Above(path) | Way::Truth(_, path) => self.at(memory, path),
        }
    }

    /// The present state.
    pub(super) fn moment(&self) -> Moment {
        Moment { columns: self.columns.changes().mark(), directory: self.directory.mark() }
    }

    /// Brings what was made up to date, or makes it.
    fn refresh(&self, memory: &mut Memory, way: &Way, judge: &mut Judge<'_>) -> Option<Arc<Column>> {
        let now = self.moment();
        if let Some(made) = memory.get(way).filter(|made| made.at == now) {
            return Some(Arc::clone(&made.column));
        }
        let from = self.source(memory, way);
        let kept = memory.remove(way);
        let behind = kept.and_then(|made| Some((self.behind(memory, way, &made)?, made)));
        let (behind, mut made) = match behind {
            Some((behind, made)) => (Some(behind), Made { at: now, ..made }),
            None => {
                let (column, depends) = (Arc::default(), HashMap::new());
                (None, Made { at: now, column, depends, absent: None })
            }
        };
        self.follow(way, &from, behind.as_ref(), &mut made, judge)?;
        let column = Arc::clone(&made.column);
        memory.insert(way.clone(), made);
        Some(column)
    }

    /// Slots that may have changed since; `None` where nobody remembers.
    fn behind(&self, memory: &mut Memory, way: &Way, made: &Made) -> Option<RoaringBitmap> {
        let mut behind: RoaringBitmap = self.columns.changes().since(made.at.columns)?.copied().collect();
        let changed: HashSet<&EntityUid> = self.directory.changes_since(made.at.directory)?.collect();
        let mut passed = |source: &Column| {
            changed.iter().filter_map(|uid| source.referring(uid)).for_each(|slots| slots.add_to(&mut behind));
        };
        match way {
            Way::Along(path) => {
                (1..path.len()).for_each(|end| passed(&self.at(memory, path.get(..end).unwrap_or_default())))
            }
            Way::Above(path) => {
                (1..=path.len()).for_each(|end| passed(&self.at(memory, path.get(..end).unwrap_or_default())))
            }
            Way::Truth(_, path) => {
                (1..path.len()).for_each(|end| passed(&self.at(memory, path.get(..end).unwrap_or_default())))
            }
        }
        match way {
            Way::Along(_) => {}
            Way::Above(_) => {
                for uid in &changed {
                    let above = made.column.holding_entity(uid);
                    let parents = self.columns.parents().holding_entity(uid);
                    above.into_iter().chain(parents).for_each(|slots| slots.add_to(&mut behind));
                }
            }
            Way::Truth(_, path) => {
                let from = self.at(memory, path);
                let codes: HashSet<Code> =
                    changed.iter().filter_map(|uid| made.depends.get(*uid)).flatten().copied().collect();
                codes.iter().filter_map(|code| from.slots(*code)).for_each(|slots| slots.add_to(&mut behind));
            }
        }
        Some(behind)
    }

    /// Makes the slots that are `behind` what they are now; all, if it is not known which are.
    fn follow(
        &self,
        way: &Way,
        from: &Column,
        behind: Option<&RoaringBitmap>,
        made: &mut Made,
        judge: &mut Judge<'_>,
    ) -> Option<()> {
        let to = Arc::make_mut(&mut made.column);
        let changed: Vec<Group> = match behind {
            None => {
                to.broken.clone_from(&from.broken);
                to.unsure.clone_from(&from.unsure);
                groups(from).collect()
            }
            Some(behind) => regroup(from, behind, to),
        };
        let mut next = Gathered::default();
        match way {
            Way::Along(path) => {
                let step = path.last()?;
                changed.into_iter().for_each(|group| self.step(group, step, to, &mut next));
            }
            Way::Above(path) => {
                let from = if path.is_empty() { From::Parents } else { From::Value };
                changed.into_iter().for_each(|group| self.climb(group, from, to, &mut next));
            }
            Way::Truth(..) => {
                made.absent = Some(self.judge_all(changed, to, &mut made.depends, judge)?);
            }
        }
        next.put_into(to);
        Some(())
    }

    /// What values come to; the outcome without a value.
    fn judge_all(
        &self,
        groups: Vec<Group>,
        to: &mut Column,
        depends: &mut HashMap<EntityUid, HashSet<Code>>,
        judge: &mut Judge<'_>,
    ) -> Option<Outcome> {
        let mut asked: Vec<Option<Value>> = groups.iter().map(|group| Some(group.value.clone())).collect();
        asked.push(None);
        let mut judged = judge(&asked)?;
        let absent = judged.pop()?.outcome;
        let mut next = Gathered::default();
        for (mut group, judged) in groups.into_iter().zip(judged) {
            for uid in judged.looked_at {
                self.set_aside_own(&uid, &mut group.slots, to);
                depends.entry(uid).or_default().insert(group.code);
            }
            self.judged(group, judged.outcome, to, &mut next);
        }
        next.put_into(to);
        Some(absent)
    }

    /// One step on from the slots of a value.
    fn step(&self, mut group: Group, step: &Step, to: &mut Column, next: &mut Gathered) {
        let value = match (&group.value, step) {
            (Value::Entity(uid), _) => {
                self.set_aside_own(uid, &mut group.slots, to);
                match (self.directory.get(uid), step) {
                    (Some(entity), Step::Attr(name)) => Ok(entity.attrs.get(name)),
                    (Some(entity), Step::Tag(Some(key))) => Ok(entity.tags.get(key)),
                    (None, Step::Attr(_) | Step::Tag(Some(_))) if declared_by_schema(self.bundle, uid) => Ok(None),
                    (None, _) | (Some(_), Step::Tag(None)) => Err(()),
                }
            }
            (Value::Record(fields), Step::Attr(name)) => Ok(fields.get(name)),
            _ => Err(()),
        };
        match value {
            Ok(Some(value)) => next.add(value, group.slots),
            Ok(None) => {}
            Err(()) => to.broken.extend(group.slots),
        }
    }

    /// A record whose value is itself, or leads back to it, counts as stored for itself alone: what lies beyond is left to the full decision.
    fn set_aside_own(&self, uid: &EntityUid, slots: &mut Vec<u32>, to: &mut Column) {
        let own = self.own(uid).and_then(|own| slots.binary_search(&own).ok());
        if let Some(at) = own {
            to.unsure.insert(slots.remove(at));
        }
    }

    /// All ancestors of a value.
    fn climb(&self, mut group: Group, from: From, to: &mut Column, next: &mut Gathered) {
        let (mut above, mut whole) = (HashSet::new(), true);
        match (&group.value, from) {
            (Value::Set(items), From::Parents) => {
                for uid in items.iter().filter_map(Value::entity) {
                    whole &= self.climb_from(uid, &mut above);
                }
            }
            (Value::Entity(uid), From::Value) => {
                self.set_aside_own(uid, &mut group.slots, to);
                if self.directory.contains(uid) {
                    whole = self.climb_from(uid, &mut above);
                } else if !declared_by_schema(self.bundle, uid) {
                    return;
                }
            }
            (_, From::Parents | From::Value) => return,
        }
        above.iter().for_each(|uid| self.set_aside_own(uid, &mut group.slots, to));
        if !whole {
            to.broken.extend(group.slots.iter().copied());
        }
        next.add(&Value::Set(above.into_iter().map(Value::Entity).collect()), group.slots);
    }

    /// Adds every ancestor of an entity; whether it and all of them are stored.
    fn climb_from(&self, uid: &EntityUid, above: &mut HashSet<EntityUid>) -> bool {
        let mut whole = true;
        let mut open = vec![uid];
        while let Some(uid) = open.pop() {
            match self.directory.get(uid) {
                Some(entity) => {
                    let new = |parent: &&EntityUid| above.insert((*parent).clone());
                    open.extend(entity.parents.iter().filter(new));
                }
                None => whole &= declared_by_schema(self.bundle, uid),
            }
        }
        whole
    }

    fn judged(&self, mut group: Group, outcome: Outcome, to: &mut Column, next: &mut Gathered) {
        let mut uids = Vec::new();
        group.value.entities(&mut uids);
        uids.into_iter().for_each(|uid| self.set_aside_own(uid, &mut group.slots, to));
        match outcome {
            Outcome::True => next.add(&Value::Bool(true), group.slots),
            Outcome::False => next.add(&Value::Bool(false), group.slots),
            Outcome::Bad => to.broken.extend(group.slots),
        }
    }
}

/// What a hierarchy is climbed from.
#[derive(Clone, Copy)]
enum From {
    /// The value itself, an entity.
    Value,
    /// A set of parents.
    Parents,
}

/// Slots with one value, in order.
pub(super) struct Group {
    pub(super) value: Value,
    code: Code,
    pub(super) slots: Vec<u32>,
}

/// Every value of a column with its slots.
pub(super) fn groups(column: &Column) -> impl Iterator<Item = Group> {
    column.values().map(|(code, value, slots)| Group { value, code, slots: slots.iter().collect() })
}

/// The values that some slots have.
pub(super) fn groups_of(column: &Column, slots: &RoaringBitmap) -> Vec<Group> {
    let mut groups: HashMap<Code, Vec<u32>> = HashMap::new();
    for slot in slots {
        if let Some(code) = column.code(slot) {
            groups.entry(code).or_default().push(slot);
        }
    }
    groups.into_iter().filter_map(|(code, slots)| Some(Group { value: column.value(code)?, code, slots })).collect()
}

/// Takes `behind` out of `to`, and says by value what they have now.
fn regroup(from: &Column, behind: &RoaringBitmap, to: &mut Column) -> Vec<Group> {
    for slot in behind {
        to.clear(slot);
        if from.broken.contains(slot) {
            to.broken.insert(slot);
        }
        if from.unsure.contains(slot) {
            to.unsure.insert(slot);
        }
    }
    groups_of(from, behind)
}

/// Slots by the value that they get: many values of one column often lead to few of the next.
#[derive(Default)]
struct Gathered(HashMap<Value, Vec<u32>>);

impl Gathered {
    fn add(&mut self, value: &Value, slots: Vec<u32>) {
        match self.0.get_mut(value) {
            Some(gathered) => gathered.extend(slots),
            None => drop(self.0.insert(value.clone(), slots)),
        }
    }

    fn put_into(self, to: &mut Column) {
        for (value, slots) in self.0 {
            to.extend(&value, &slots.into_iter().collect());
        }
    }
}
