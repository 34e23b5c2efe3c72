//! Attributes of a collection's records turned sideways: which slots have which value. Knows no bundle; what a bundle makes of
//! it is remembered beside it and follows each change.

mod codes;
mod column;
mod dictionary;
mod journal;
mod names;
mod packed;
mod sheet;
mod slots;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use roaring::RoaringBitmap;

use self::names::Names;
pub use self::sheet::{Sheet, SheetName};
pub(super) use self::{column::Column, dictionary::Code, journal::Changes};
use super::{derived::Memories, scopes::Scopes};
use crate::model::{Entity, EntityUid, Slot, Value, entity::Attributes};

/// One collection's columns.
#[derive(Debug, Default)]
pub struct Columns {
    live: RoaringBitmap,
    attrs: BTreeMap<Arc<str>, Column>,
    tags: BTreeMap<Arc<str>, Column>,
    /// Direct parents, as a set.
    parents: Column,
    names: Names,
    types: HashMap<Arc<str>, RoaringBitmap>,
    changes: Changes<u32>,
    pub(super) memories: Mutex<Memories>,
    pub(super) scopes: Mutex<Scopes>,
}

impl Columns {
    /// Empty ones.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes room for so many records at once.
    pub fn reserve(&mut self, records: usize) {
        self.names.reserve(records);
    }

    /// Takes a record in; one that lies at the slot already is taken out first.
    pub fn insert(&mut self, slot: Slot, entity: &Entity) {
        self.remove(slot);
        let slot = slot.0;
        self.changes.note(slot);
        self.live.insert(slot);
        self.names.insert(slot, &entity.uid);
        self.types.entry(Arc::clone(&entity.uid.ty)).or_default().insert(slot);
        put_all(&mut self.attrs, &entity.attrs, slot);
        put_all(&mut self.tags, &entity.tags, slot);
        if !entity.parents.is_empty() {
            let parents = entity.parents.iter().cloned().map(Value::Entity).collect();
            self.parents.insert(&Value::Set(parents), slot);
        }
    }

    /// Takes a record out.
    pub fn remove(&mut self, slot: Slot) {
        let slot = slot.0;
        if !self.live.remove(slot) {
            return;
        }
        self.changes.note(slot);
        self.names.remove(slot);
        self.types.retain(|_, slots| {
            slots.remove(slot);
            !slots.is_empty()
        });
        self.attrs.values_mut().chain(self.tags.values_mut()).for_each(|column| column.clear(slot));
        self.tags.retain(|_, column| !column.present.is_empty());
        self.parents.clear(slot);
    }

    /// Forgets every plan: the next one is bound anew. For measuring.
    pub fn forget_plans(&self) {
        *self.scopes.lock() = Scopes::default();
    }

    /// Forgets everything that was made of the columns: the next plan begins from nothing. For measuring.
    pub fn forget_all(&self) {
        self.forget_plans();
        *self.memories.lock() = Memories::default();
    }

    /// The slots in use.
    pub fn live(&self) -> &RoaringBitmap {
        &self.live
    }

    /// The slots whose attribute `name` has a value for which `holds` does; it is asked once for each value that there is.
    pub fn slots_where(&self, name: &str, holds: impl Fn(&Value) -> bool) -> RoaringBitmap {
        let mut slots = RoaringBitmap::new();
        for (_, value, having) in self.attrs.get(name).into_iter().flat_map(Column::values) {
            if holds(&value) {
                having.add_to(&mut slots);
            }
        }
        slots
    }

    /// Slots that came, went or changed, in order of time.
    pub(super) fn changes(&self) -> &Changes<u32> {
        &self.changes
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&Column> {
        self.attrs.get(name)
    }

    pub(super) fn tag(&self, key: &str) -> Option<&Column> {
        self.tags.get(key)
    }

    pub(super) fn slot(&self, uid: &EntityUid) -> Option<u32> {
        self.names.slot(uid)
    }

    pub(super) fn of_type(&self, ty: &str) -> Option<&RoaringBitmap> {
        self.types.get(ty)
    }

    /// Direct parents: a set of entities a slot.
    pub(super) fn parents(&self) -> &Column {
        &self.parents
    }
}

fn put_all(columns: &mut BTreeMap<Arc<str>, Column>, values: &Attributes, slot: u32) {
    for (name, value) in values {
        match columns.get_mut(name) {
            Some(column) => column.insert(value, slot),
            None => columns.entry(Arc::clone(name)).or_default().insert(value, slot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u32, parents: &[&str]) -> Entity {
        let mut entity = Entity::bare(EntityUid::new("Record", format!("ward/{id}")));
        entity.attrs.insert("kind".into(), Value::text(format!("kind-{}", id % 3)));
        entity.attrs.insert("labels".into(), Value::Set([Value::Long(i64::from(id % 2)), Value::Long(9)].into()));
        entity.attrs.insert("author".into(), Value::Entity(EntityUid::new("Clinician", format!("c{}", id % 5))));
        entity.tags.insert(format!("tag-{}", id % 2).into(), Value::Bool(true));
        entity.parents = parents.iter().map(|p| EntityUid::new("Document", *p)).collect();
        entity
    }

    #[test]
    fn columns_know_what_is_there_and_forget_what_went() {
        let mut columns = Columns::new();
        for id in 0..100 {
            columns.insert(Slot(id), &record(id, &["d1"]));
        }
        let kind =
            |columns: &Columns, value: &str| columns.attribute("kind").unwrap().having([&Value::text(value)], None);
        assert_eq!(kind(&columns, "kind-1"), (0..100).filter(|id| id % 3 == 1).collect());
        assert_eq!(columns.slots_where("kind", |value| *value == Value::text("kind-1")), kind(&columns, "kind-1"));
        assert!(columns.slots_where("none", |_| true).is_empty());
        assert_eq!(columns.attribute("labels").unwrap().holding([&Value::Long(9)], None).len(), 100);
        assert_eq!(columns.attribute("labels").unwrap().holding([&Value::Long(0)], None).len(), 50);
        assert_eq!(columns.slot(&EntityUid::new("Record", "ward/7")), Some(7));
        columns.insert(Slot(7), &record(300, &[]));
        assert_eq!(columns.slot(&EntityUid::new("Record", "ward/7")), None);
        assert_eq!(columns.slot(&EntityUid::new("Record", "ward/300")), Some(7));
        assert_eq!(columns.parents().present.len(), 99);
        for id in 0..100 {
            columns.remove(Slot(id));
        }
        assert!(columns.live().is_empty() && columns.tags.is_empty());
        assert!(columns.of_type("Record").is_none());
        for name in ["kind", "labels", "author"] {
            let column = columns.attribute(name).unwrap();
            assert_eq!(column.distinct(), 0);
            assert!(column.present.is_empty() && column.sets.is_empty() && column.types.is_empty());
        }
    }
}
