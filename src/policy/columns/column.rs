//! One attribute, tag, or way through entities: which slots have which value, and which value a slot has.

use std::{collections::HashMap, sync::Arc};

use roaring::RoaringBitmap;

use super::{codes::Codes, dictionary::Code, dictionary::Dictionary, slots::Slots};
use crate::model::{EntityUid, Value};

/// Values by slot and slots by value.
#[derive(Debug, Clone, Default)]
pub(in crate::policy) struct Column {
    /// By slot: one more than the code of its value, 0 without one.
    codes: Codes,
    values: Dictionary,
    /// Elements of sets.
    elements: Dictionary,
    /// Slots with a value.
    pub(in crate::policy) present: RoaringBitmap,
    /// Slots with a set, with a set of entities alone, with an entity; with an entity by its type.
    pub(in crate::policy) sets: RoaringBitmap,
    pub(in crate::policy) entity_sets: RoaringBitmap,
    pub(in crate::policy) entities: RoaringBitmap,
    pub(in crate::policy) types: HashMap<Arc<str>, RoaringBitmap>,
    /// Of a way through entities: slots where it leads through one that is not stored, or through no entity at all.
    pub(in crate::policy) broken: RoaringBitmap,
    /// Slots whose value leads back to their own record: no two such records are alike.
    pub(in crate::policy) unsure: RoaringBitmap,
}

impl Column {
    /// Slots with one of these values, of those within `bounds` if there are any.
    pub(in crate::policy) fn having<'v>(
        &self,
        values: impl IntoIterator<Item = &'v Value>,
        bounds: Option<&RoaringBitmap>,
    ) -> RoaringBitmap {
        union(&self.values, values, bounds)
    }

    /// Slots with a set that holds one of these, of those within `bounds` if there are any.
    pub(in crate::policy) fn holding<'v>(
        &self,
        elements: impl IntoIterator<Item = &'v Value>,
        bounds: Option<&RoaringBitmap>,
    ) -> RoaringBitmap {
        union(&self.elements, elements, bounds)
    }

    /// Distinct values with their codes and slots.
    pub(in crate::policy) fn values(&self) -> impl Iterator<Item = (Code, Value, &Slots)> {
        self.values.codes().filter_map(|code| Some((code, self.values.value(code)?, self.values.slots(code)?)))
    }

    /// Slots with the value of a code.
    pub(in crate::policy) fn slots(&self, code: Code) -> Option<&Slots> {
        self.values.slots(code)
    }

    /// How many distinct values there are.
    pub(in crate::policy) fn distinct(&self) -> usize {
        self.values.len()
    }

    /// The code of the value of one slot.
    pub(in crate::policy) fn code(&self, slot: u32) -> Option<Code> {
        self.codes.at(slot).checked_sub(1).map(Code)
    }

    /// The value of a code in use.
    pub(in crate::policy) fn value(&self, code: Code) -> Option<Value> {
        self.values.value(code)
    }

    /// Gives a slot a value.
    pub(in crate::policy) fn insert(&mut self, value: &Value, slot: u32) {
        self.clear(slot);
        let code = self.values.insert(value, slot);
        self.codes.set(slot, code.0 + 1);
        self.note(value, &mut |set| {
            set.insert(slot);
        });
        if let Value::Set(items) = value {
            for item in items {
                self.elements.insert(item, slot);
            }
        }
    }

    /// Gives all of `slots`, which have none, this value.
    pub(in crate::policy) fn extend(&mut self, value: &Value, slots: &RoaringBitmap) {
        if slots.is_empty() {
            return;
        }
        let code = self.values.extend(value, slots);
        slots.iter().for_each(|slot| self.codes.set(slot, code.0 + 1));
        self.note(value, &mut |set| *set |= slots);
        if let Value::Set(items) = value {
            for item in items {
                self.elements.extend(item, slots);
            }
        }
    }

    /// Puts slots into the sets that a value of this kind belongs to.
    fn note(&mut self, value: &Value, put: &mut dyn FnMut(&mut RoaringBitmap)) {
        put(&mut self.present);
        match value {
            Value::Set(items) => {
                put(&mut self.sets);
                if items.iter().all(|item| matches!(item, Value::Entity(_))) {
                    put(&mut self.entity_sets);
                }
            }
            Value::Entity(uid) => {
                put(&mut self.entities);
                put(self.types.entry(Arc::clone(&uid.ty)).or_default());
            }
            Value::Bool(_) | Value::Long(_) | Value::Text(_) | Value::Record(_) | Value::Extension { .. } => {}
        }
    }

    /// Takes a slot out, whatever it has.
    pub(in crate::policy) fn clear(&mut self, slot: u32) {
        self.broken.remove(slot);
        self.unsure.remove(slot);
        let Some(code) = self.code(slot) else { return };
        if self.sets.contains(slot)
            && let Some(Value::Set(items)) = self.values.value(code)
        {
            let codes: Vec<Code> = items.iter().filter_map(|item| self.elements.find(item)).collect();
            codes.into_iter().for_each(|code| self.elements.remove(code, slot));
        }
        self.values.remove(code, slot);
        self.codes.set(slot, 0);
        for set in [&mut self.present, &mut self.sets, &mut self.entity_sets, &mut self.entities] {
            set.remove(slot);
        }
        self.types.retain(|_, slots| {
            slots.remove(slot);
            !slots.is_empty()
        });
    }

    /// Slots with this entity as their value.
    pub(in crate::policy) fn referring(&self, uid: &EntityUid) -> Option<&Slots> {
        self.values.slots(self.values.find(&Value::Entity(uid.clone()))?)
    }

    /// Slots with a set that holds this entity.
    pub(in crate::policy) fn holding_entity(&self, uid: &EntityUid) -> Option<&Slots> {
        self.elements.slots(self.elements.find(&Value::Entity(uid.clone()))?)
    }
}

fn union<'v>(
    dictionary: &Dictionary,
    values: impl IntoIterator<Item = &'v Value>,
    bounds: Option<&RoaringBitmap>,
) -> RoaringBitmap {
    let mut union = RoaringBitmap::new();
    let codes = values.into_iter().filter_map(|value| dictionary.find(value));
    for slots in codes.filter_map(|code| dictionary.slots(code)) {
        match bounds {
            None => slots.add_to(&mut union),
            Some(bounds) => slots.add_within(bounds, &mut union),
        }
    }
    union
}
