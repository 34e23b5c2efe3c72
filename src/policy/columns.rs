//! Attributes of a collection's records turned sideways: which slots have which value. Knows no bundle; what a bundle makes of
//! it is remembered beside it and dies with the next change.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;
use roaring::RoaringBitmap;

use super::derived::Memory;
use crate::model::{Entity, EntityUid, Slot, Value, entity::Attributes};

/// One collection's columns.
#[derive(Debug, Default)]
pub struct Columns {
    live: RoaringBitmap,
    attrs: HashMap<Arc<str>, Column>,
    tags: HashMap<Arc<str>, Column>,
    parents: HashMap<EntityUid, RoaringBitmap>,
    by_uid: HashMap<EntityUid, u32>,
    types: HashMap<Arc<str>, RoaringBitmap>,
    rows: HashMap<u32, Row>,
    version: u64,
    pub(super) memory: Mutex<Memory>,
}

/// What it takes to find a record's entries again.
#[derive(Debug)]
struct Row {
    uid: EntityUid,
    attrs: Codes,
    tags: Codes,
    parents: Box<[EntityUid]>,
}

type Codes = Box<[(Arc<str>, u32)]>;

/// One attribute, tag, or way through entities: value to slots.
#[derive(Debug, Default)]
pub(super) struct Column {
    codes: HashMap<Value, u32>,
    entries: Vec<(Value, RoaringBitmap)>,
    free: Vec<u32>,
    /// Element of a set to slots.
    elements: HashMap<Value, RoaringBitmap>,
    /// Slots with a value.
    pub(super) present: RoaringBitmap,
    /// Slots with a set, with a set of entities alone, with an entity; with an entity by its type.
    pub(super) sets: RoaringBitmap,
    pub(super) entity_sets: RoaringBitmap,
    pub(super) entities: RoaringBitmap,
    pub(super) types: HashMap<Arc<str>, RoaringBitmap>,
    /// Of a way through entities: slots where it leads through one that is not stored, or through no entity at all.
    pub(super) broken: RoaringBitmap,
    /// Slots whose value leads back to their own record: no two such records are alike.
    pub(super) unsure: RoaringBitmap,
}

impl Column {
    pub(super) fn slots(&self, value: &Value) -> Option<&RoaringBitmap> {
        self.codes.get(value).and_then(|code| self.entries.get(*code as usize)).map(|(_, slots)| slots)
    }

    pub(super) fn holding(&self, element: &Value) -> Option<&RoaringBitmap> {
        self.elements.get(element)
    }

    /// Distinct values with their slots.
    pub(super) fn values(&self) -> impl Iterator<Item = (&Value, &RoaringBitmap)> {
        self.entries.iter().filter(|(_, slots)| !slots.is_empty()).map(|(value, slots)| (value, slots))
    }

    /// Gives all of `slots` this value.
    pub(super) fn extend(&mut self, value: &Value, slots: &RoaringBitmap) -> u32 {
        self.present |= slots;
        match value {
            Value::Set(items) => {
                self.sets |= slots;
                if items.iter().all(|item| matches!(item, Value::Entity(_))) {
                    self.entity_sets |= slots;
                }
                for item in items {
                    *self.elements.entry(item.clone()).or_default() |= slots;
                }
            }
            Value::Entity(uid) => {
                self.entities |= slots;
                *self.types.entry(Arc::clone(&uid.ty)).or_default() |= slots;
            }
            Value::Bool(_) | Value::Long(_) | Value::Text(_) | Value::Record(_) | Value::Extension { .. } => {}
        }
        let code = self.code(value);
        if let Some((_, held)) = self.entries.get_mut(code as usize) {
            *held |= slots;
        }
        code
    }

    fn code(&mut self, value: &Value) -> u32 {
        let next = self.free.last().copied().unwrap_or(self.entries.len() as u32);
        match self.codes.entry(value.clone()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                place.insert(next);
                match self.free.pop().and_then(|code| self.entries.get_mut(code as usize)) {
                    Some(entry) => entry.0 = value.clone(),
                    None => self.entries.push((value.clone(), RoaringBitmap::new())),
                }
                next
            }
        }
    }

    fn remove(&mut self, code: u32, slot: u32) {
        let Some((value, slots)) = self.entries.get_mut(code as usize) else { return };
        slots.remove(slot);
        for set in [&mut self.present, &mut self.sets, &mut self.entity_sets, &mut self.entities] {
            set.remove(slot);
        }
        match &*value {
            Value::Set(items) => items.iter().for_each(|item| take_out(&mut self.elements, item, slot)),
            Value::Entity(uid) => take_out(&mut self.types, &uid.ty, slot),
            Value::Bool(_) | Value::Long(_) | Value::Text(_) | Value::Record(_) | Value::Extension { .. } => {}
        }
        if slots.is_empty() {
            // content goes with its last record
            self.codes.remove(&std::mem::replace(value, Value::Bool(false)));
            self.free.push(code);
        }
    }
}

fn take_out<K: std::hash::Hash + Eq>(map: &mut HashMap<K, RoaringBitmap>, key: &K, slot: u32) {
    if let Some(slots) = map.get_mut(key) {
        slots.remove(slot);
        if slots.is_empty() {
            map.remove(key);
        }
    }
}

impl Columns {
    /// Empty ones.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a record in; one that lies at the slot already is taken out first.
    pub fn insert(&mut self, slot: Slot, entity: &Entity) {
        self.remove(slot);
        self.version += 1;
        let slot = slot.0;
        let one = RoaringBitmap::from_iter([slot]);
        self.live.insert(slot);
        self.by_uid.insert(entity.uid.clone(), slot);
        self.types.entry(Arc::clone(&entity.uid.ty)).or_default().insert(slot);
        for parent in &entity.parents {
            self.parents.entry(parent.clone()).or_default().insert(slot);
        }
        let row = Row {
            uid: entity.uid.clone(),
            attrs: coded(&mut self.attrs, &entity.attrs, &one),
            tags: coded(&mut self.tags, &entity.tags, &one),
            parents: entity.parents.iter().cloned().collect(),
        };
        self.rows.insert(slot, row);
    }

    /// Takes a record out.
    pub fn remove(&mut self, slot: Slot) {
        let slot = slot.0;
        let Some(row) = self.rows.remove(&slot) else { return };
        self.version += 1;
        self.live.remove(slot);
        if self.by_uid.get(&row.uid) == Some(&slot) {
            self.by_uid.remove(&row.uid);
        }
        take_out(&mut self.types, &row.uid.ty, slot);
        row.parents.iter().for_each(|parent| take_out(&mut self.parents, parent, slot));
        for (columns, codes) in [(&mut self.attrs, &row.attrs), (&mut self.tags, &row.tags)] {
            for (name, code) in codes {
                if let Some(column) = columns.get_mut(name) {
                    column.remove(*code, slot);
                }
            }
        }
    }

    /// The slots in use.
    pub fn live(&self) -> &RoaringBitmap {
        &self.live
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&Column> {
        self.attrs.get(name)
    }

    pub(super) fn tag(&self, key: &str) -> Option<&Column> {
        self.tags.get(key)
    }

    pub(super) fn slot(&self, uid: &EntityUid) -> Option<u32> {
        self.by_uid.get(uid).copied()
    }

    pub(super) fn of_type(&self, ty: &str) -> Option<&RoaringBitmap> {
        self.types.get(ty)
    }

    pub(super) fn parents(&self) -> &HashMap<EntityUid, RoaringBitmap> {
        &self.parents
    }
}

fn coded(columns: &mut HashMap<Arc<str>, Column>, values: &Attributes, one: &RoaringBitmap) -> Codes {
    let mut code = |(name, value): (&Arc<str>, &Value)| match columns.get_key_value(name) {
        Some((known, _)) => {
            let known = Arc::clone(known);
            let code = columns.get_mut(&known).map_or(0, |column| column.extend(value, one));
            (known, code)
        }
        None => (Arc::clone(name), columns.entry(Arc::clone(name)).or_default().extend(value, one)),
    };
    values.iter().map(&mut code).collect()
}
