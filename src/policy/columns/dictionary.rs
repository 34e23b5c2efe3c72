//! Values under short codes, each with the slots that have it. A value goes with its last slot.

use std::{collections::hash_map::RandomState, hash::BuildHasher};

use hashbrown::HashTable;
use roaring::RoaringBitmap;

use super::{
    packed::{self, Packed},
    slots::Slots,
};
use crate::model::Value;

/// Number of a value in its dictionary; free again once no slot has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::policy) struct Code(pub(super) u32);

/// Value to code to slots.
#[derive(Debug, Clone, Default)]
pub(super) struct Dictionary {
    table: HashTable<u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    hasher: RandomState,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    packed: Packed,
    slots: Slots,
}

impl Dictionary {
    pub(super) fn find(&self, value: &Value) -> Option<Code> {
        self.find_packed(&packed::pack(value))
    }

    fn find_packed(&self, packed: &[u8]) -> Option<Code> {
        let is_it = |code: &u32| self.entries.get(*code as usize).is_some_and(|entry| *entry.packed == *packed);
        self.table.find(self.hasher.hash_one(packed), is_it).map(|code| Code(*code))
    }

    pub(super) fn value(&self, code: Code) -> Option<Value> {
        packed::unpack(&self.entries.get(code.0 as usize)?.packed)
    }

    pub(super) fn slots(&self, code: Code) -> Option<&Slots> {
        self.entries.get(code.0 as usize).map(|entry| &entry.slots)
    }

    /// Codes in use.
    pub(super) fn codes(&self) -> impl Iterator<Item = Code> {
        let used = |(code, entry): (usize, &Entry)| (!entry.slots.is_empty()).then_some(Code(code as u32));
        self.entries.iter().enumerate().filter_map(used)
    }

    /// How many values are in use.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, value: &Value, slot: u32) -> Code {
        let code = self.intern(value);
        if let Some(entry) = self.entries.get_mut(code.0 as usize) {
            entry.slots.insert(slot);
        }
        code
    }

    pub(super) fn extend(&mut self, value: &Value, slots: &RoaringBitmap) -> Code {
        let code = self.intern(value);
        if let Some(entry) = self.entries.get_mut(code.0 as usize) {
            entry.slots.extend(slots);
        }
        code
    }

    /// The code of a value, which must be given a slot next.
    fn intern(&mut self, value: &Value) -> Code {
        let packed = packed::pack(value);
        if let Some(code) = self.find_packed(&packed) {
            return code;
        }
        let hash = self.hasher.hash_one(&*packed);
        let entry = Entry { packed, slots: Slots::None };
        let code = match self.free.pop() {
            Some(code) => code,
            None => self.entries.len() as u32,
        };
        match self.entries.get_mut(code as usize) {
            Some(place) => *place = entry,
            None => self.entries.push(entry),
        }
        let (entries, hasher) = (&self.entries, &self.hasher);
        let rehash = |code: &u32| entries.get(*code as usize).map_or(0, |e| hasher.hash_one(&*e.packed));
        self.table.insert_unique(hash, code, rehash);
        Code(code)
    }

    pub(super) fn remove(&mut self, code: Code, slot: u32) {
        let Some(entry) = self.entries.get_mut(code.0 as usize) else { return };
        entry.slots.remove(slot);
        if !entry.slots.is_empty() {
            return;
        }
        let packed = std::mem::take(&mut entry.packed);
        if let Ok(found) = self.table.find_entry(self.hasher.hash_one(&*packed), |at| *at == code.0) {
            found.remove();
            self.free.push(code.0);
        }
    }
}
