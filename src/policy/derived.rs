//! Columns beyond a record's own: along references to stored entities (`resource.patient.vip`), and up the hierarchy.
//! Made from columns and directory together, kept until either changes.

use std::{collections::HashMap, sync::Arc};

use roaring::RoaringBitmap;

use super::{Bundle, Columns, Directory, columns::Column, tree::Step, world::declared_by_schema};
use crate::model::{EntityUid, Value};

/// Things remembered; beyond it all are forgotten.
const KEPT: usize = 256;

/// What the state of columns, directory and bundle was when something was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stamp {
    columns: u64,
    directory: u64,
    bundle: [u8; 32],
}

/// What an atom comes to for one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    True,
    False,
    Bad,
}

/// Derived columns, hierarchies and outcomes in use.
#[derive(Debug, Default)]
pub(super) struct Memory {
    stamp: Stamp,
    columns: HashMap<Vec<Step>, Arc<Column>>,
    kin: HashMap<Vec<Step>, Arc<Kin>>,
    /// By node: outcomes by value, good for one state of the directory; `None` stands for no value.
    outcomes: HashMap<u64, (u64, HashMap<Option<Value>, Outcome>)>,
}

/// Where the values of a column stand in the hierarchy.
#[derive(Debug, Default)]
pub(super) struct Kin {
    /// An ancestor (not the value itself) to slots.
    pub(super) below: HashMap<EntityUid, RoaringBitmap>,
    /// The value is not stored, or no entity.
    pub(super) unstored: RoaringBitmap,
    /// Some ancestor is not stored.
    pub(super) broken: RoaringBitmap,
}

/// Columns, directory and bundle, together for one plan.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) bundle: &'a Bundle,
    pub(super) columns: &'a Columns,
    pub(super) directory: &'a Directory,
}

impl Ground<'_> {
    fn stamp(&self) -> Stamp {
        Stamp { columns: self.columns.version(), directory: self.directory.version(), bundle: self.bundle.digest() }
    }

    /// Runs `with` on what is remembered for the present state.
    fn remember<T>(&self, with: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memory = self.columns.memory.lock();
        let stamp = self.stamp();
        if memory.stamp != stamp || memory.columns.len() + memory.kin.len() > KEPT {
            memory.columns.clear();
            memory.kin.clear();
            memory.stamp = stamp;
        }
        if memory.outcomes.len() > KEPT {
            memory.outcomes.clear();
        }
        with(&mut memory)
    }

    /// Outcomes of a node that are still good, taken out; `keep` puts them back.
    pub(super) fn outcomes(&self, node: u64) -> HashMap<Option<Value>, Outcome> {
        let version = self.directory.version();
        let kept = self.remember(|memory| memory.outcomes.remove(&node));
        kept.filter(|(made, _)| *made == version).map(|(_, outcomes)| outcomes).unwrap_or_default()
    }

    pub(super) fn keep(&self, node: u64, outcomes: HashMap<Option<Value>, Outcome>) {
        let version = self.directory.version();
        self.remember(|memory| memory.outcomes.insert(node, (version, outcomes)));
    }

    /// The column at the end of a path of at least one step.
    pub(super) fn column<T>(&self, path: &[Step], with: impl FnOnce(&Column) -> T) -> T {
        let empty = Column::default();
        match path {
            [] => with(&empty),
            [Step::Attr(name)] => with(self.columns.attribute(name).unwrap_or(&empty)),
            [Step::Tag(Some(key))] => with(self.columns.tag(key).unwrap_or(&empty)),
            [Step::Tag(None)] => with(&empty),
            [..] => with(&self.derived(path)),
        }
    }

    fn derived(&self, path: &[Step]) -> Arc<Column> {
        if let Some(known) = self.remember(|memory| memory.columns.get(path).cloned()) {
            return known;
        }
        let column = match path.split_last() {
            Some((step, from)) => self.column(from, |from| self.stepped(from, step)),
            None => Column::default(),
        };
        let column = Arc::new(column);
        self.remember(|memory| memory.columns.insert(path.to_vec(), Arc::clone(&column)));
        column
    }

    fn stepped(&self, from: &Column, step: &Step) -> Column {
        let mut to = Column::default();
        to.broken.clone_from(&from.broken);
        to.unsure.clone_from(&from.unsure);
        for (value, slots) in from.values() {
            let next = match (value, step) {
                (Value::Entity(uid), step) => {
                    if self.own(uid).is_some_and(|slot| slots.contains(slot)) {
                        to.unsure |= slots;
                        continue;
                    }
                    match (self.directory.get(uid), step) {
                        (Some(entity), Step::Attr(name)) => entity.attrs.get(name),
                        (Some(entity), Step::Tag(Some(key))) => entity.tags.get(key),
                        (None, Step::Attr(_) | Step::Tag(Some(_))) if declared_by_schema(self.bundle, uid) => None,
                        (None, _) | (Some(_), Step::Tag(None)) => {
                            to.broken |= slots;
                            None
                        }
                    }
                }
                (Value::Record(fields), Step::Attr(name)) => fields.get(name),
                _ => {
                    to.broken |= slots;
                    None
                }
            };
            if let Some(next) = next {
                to.extend(next, slots);
            }
        }
        to
    }

    /// The slot of a record of this collection.
    pub(super) fn own(&self, uid: &EntityUid) -> Option<u32> {
        self.columns.slot(uid)
    }

    /// Where the values at the end of a path stand; for no path, where the records themselves do.
    pub(super) fn kin(&self, path: &[Step]) -> Arc<Kin> {
        if let Some(known) = self.remember(|memory| memory.kin.get(path).cloned()) {
            return known;
        }
        let mut kin = Kin::default();
        if path.is_empty() {
            for (parent, slots) in self.columns.parents() {
                self.climb(parent, slots, &mut kin, true);
            }
        } else {
            self.column(path, |column| {
                kin.unstored = &column.present - &column.entities;
                for (value, slots) in column.values() {
                    if let Value::Entity(uid) = value {
                        self.climb(uid, slots, &mut kin, false);
                    }
                }
            });
        }
        let kin = Arc::new(kin);
        self.remember(|memory| memory.kin.insert(path.to_vec(), Arc::clone(&kin)));
        kin
    }

    /// `parent`: the entity is itself an ancestor, of the records.
    fn climb(&self, uid: &EntityUid, slots: &RoaringBitmap, kin: &mut Kin, parent: bool) {
        if parent {
            *kin.below.entry(uid.clone()).or_default() |= slots;
        }
        match self.directory.get(uid) {
            Some(entity) if entity.parents.is_empty() => {}
            Some(entity) => {
                let (ancestors, whole) = self.directory.ancestors(entity);
                for ancestor in ancestors {
                    *kin.below.entry(ancestor).or_default() |= slots;
                }
                if !whole {
                    kin.broken |= slots;
                }
            }
            None if declared_by_schema(self.bundle, uid) => {}
            None if parent => kin.broken |= slots,
            None => kin.unstored |= slots,
        }
    }
}
