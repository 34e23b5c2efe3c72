//! Columns on their way to where they outlive the process, and back: value by value, each with its slots.

use std::sync::Arc;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::{Column, Columns};
use crate::model::{EntityUid, Slot, Value};

/// Which column of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SheetName {
    /// An attribute.
    Attribute(Arc<str>),
    /// A tag.
    Tag(Arc<str>),
    /// Direct parents.
    Parents,
}

/// One column: its distinct values, and the slots that have each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sheet {
    /// Which one.
    pub name: SheetName,
    /// Values and slots, in no order.
    pub values: Vec<(Value, Vec<u32>)>,
}

impl Columns {
    /// The columns that there are.
    pub fn sheets(&self) -> Vec<SheetName> {
        let attributes = self.attrs.keys().cloned().map(SheetName::Attribute);
        let tags = self.tags.keys().cloned().map(SheetName::Tag);
        attributes.chain(tags).chain([SheetName::Parents]).collect()
    }

    /// One of them, as far as it concerns `slots`.
    pub fn sheet(&self, name: &SheetName, slots: &RoaringBitmap) -> Sheet {
        let column = match name {
            SheetName::Attribute(name) => self.attrs.get(name),
            SheetName::Tag(name) => self.tags.get(name),
            SheetName::Parents => Some(&self.parents),
        };
        let within =
            |having: &super::slots::Slots| -> Vec<u32> { having.iter().filter(|slot| slots.contains(*slot)).collect() };
        let values = column.into_iter().flat_map(Column::values).map(|(_, value, having)| (value, within(having)));
        Sheet { name: name.clone(), values: values.filter(|(_, slots)| !slots.is_empty()).collect() }
    }

    /// Takes in a record whose values come by sheets.
    pub fn restore(&mut self, slot: Slot, uid: &EntityUid) {
        self.live.insert(slot.0);
        self.names.insert(slot.0, uid);
        self.types.entry(Arc::clone(&uid.ty)).or_default().insert(slot.0);
    }

    /// Takes in a column, of which nothing is there yet. What it says of slots without a record is left out.
    pub fn restore_sheet(&mut self, sheet: &Sheet) {
        let column = match &sheet.name {
            SheetName::Attribute(name) => self.attrs.entry(Arc::clone(name)).or_default(),
            SheetName::Tag(name) => self.tags.entry(Arc::clone(name)).or_default(),
            SheetName::Parents => &mut self.parents,
        };
        for (value, slots) in &sheet.values {
            // a slot has one value: of two, were there ever two, the first
            let slots = slots.iter().copied().filter(|slot| self.live.contains(*slot) && column.code(*slot).is_none());
            column.extend(value, &slots.collect());
        }
    }

    /// Every entity that the record at a slot refers to by attribute, tag or parent, as often as it does.
    pub fn references(&self, slot: Slot) -> Vec<EntityUid> {
        let mut found = Vec::new();
        let columns = self.attrs.values().chain(self.tags.values()).chain([&self.parents]);
        for value in columns.filter_map(|column| column.value(column.code(slot.0)?)) {
            let mut uids = Vec::new();
            value.entities(&mut uids);
            found.extend(uids.into_iter().cloned());
        }
        found
    }
}

impl Sheet {
    /// Every entity that its values refer to, with how many slots have such a value.
    pub fn references(&self) -> impl Iterator<Item = (&EntityUid, u64)> {
        self.values.iter().flat_map(|(value, slots)| {
            let mut uids = Vec::new();
            value.entities(&mut uids);
            uids.into_iter().map(move |uid| (uid, slots.len() as u64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Entity;

    fn record(n: u32) -> Entity {
        let mut entity = Entity::bare(EntityUid::new("Record", format!("c/{n}")));
        let patient = |n| Value::Entity(EntityUid::new("Patient", format!("p{n}")));
        entity.attrs.insert("patient".into(), patient(n / 3));
        entity.attrs.insert("team".into(), Value::Set((0..n % 4).map(patient).collect()));
        if n.is_multiple_of(2) {
            entity.tags.insert("t".into(), Value::Long(i64::from(n % 5)));
        }
        entity.parents.extend([EntityUid::new("Document", format!("c/{}", n / 2)), EntityUid::new("Collection", "c")]);
        entity
    }

    #[test]
    fn columns_restored_from_sheets_are_those_that_were_written() {
        let mut columns = Columns::new();
        (0..500).for_each(|n| columns.insert(Slot(n), &record(n)));
        (0..500).step_by(7).for_each(|n| columns.remove(Slot(n)));
        let live = columns.live().clone();
        let sheets: Vec<Sheet> = columns.sheets().iter().map(|name| columns.sheet(name, &live)).collect();
        let mut restored = Columns::new();
        live.iter().for_each(|slot| restored.restore(Slot(slot), &record(slot).uid));
        sheets.iter().for_each(|sheet| restored.restore_sheet(sheet));
        assert_eq!(restored.live(), columns.live());
        for slot in 0..500 {
            let sorted = |mut uids: Vec<EntityUid>| {
                uids.sort();
                uids
            };
            let expected =
                if live.contains(slot) { record(slot).references().into_iter().cloned().collect() } else { vec![] };
            assert_eq!(sorted(restored.references(Slot(slot))), sorted(expected));
            assert_eq!(restored.slot(&record(slot).uid), live.contains(slot).then_some(slot));
        }
        let pairs = [(&columns.attrs, &restored.attrs), (&columns.tags, &restored.tags)];
        for (name, before, after) in pairs.iter().flat_map(|(a, b)| a.iter().map(|(name, c)| (name, c, &b[name]))) {
            assert_eq!(before.present, after.present, "{name}");
            assert_eq!(before.sets, after.sets, "{name}");
            assert_eq!(before.entity_sets, after.entity_sets, "{name}");
            assert_eq!(before.entities, after.entities, "{name}");
            assert_eq!(before.types, after.types, "{name}");
            for value in before.values().map(|(_, value, _)| value) {
                assert_eq!(before.having([&value], None), after.having([&value], None), "{name}");
            }
            let patients: Vec<Value> =
                (0..4).map(|n| Value::Entity(EntityUid::new("Patient", format!("p{n}")))).collect();
            for patient in &patients {
                assert_eq!(before.holding([patient], None), after.holding([patient], None), "{name}");
            }
        }
        // and what is taken out again leaves nothing
        live.iter().for_each(|slot| restored.remove(Slot(slot)));
        assert!(restored.live().is_empty());
        assert!(restored.attrs.values().all(|column| column.present.is_empty() && column.distinct() == 0));
    }
}
