//! Attributes of a collection's records turned sideways: which slots have which value. Knows no bundle.

use roaring::RoaringBitmap;

use crate::model::{Entity, Slot};

/// One collection's columns.
#[derive(Debug, Default)]
pub struct Columns {
    live: RoaringBitmap,
}

impl Columns {
    /// Empty ones.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a record in at a slot that is not in use.
    pub fn insert(&mut self, slot: Slot, _entity: &Entity) {
        self.live.insert(slot.0);
    }

    /// Takes a record out.
    pub fn remove(&mut self, slot: Slot) {
        self.live.remove(slot.0);
    }

    /// The slots in use.
    pub fn live(&self) -> &RoaringBitmap {
        &self.live
    }
}
