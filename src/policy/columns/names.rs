//! Which slot a record of a name lies at, without keeping the name: a keyed hash of it is enough to find it again.

use std::{collections::hash_map::RandomState, hash::BuildHasher};

use hashbrown::HashTable;

use crate::model::EntityUid;

/// Names to slots. Two names meet by chance once in 2^64 pairs, by design never: the keys are random.
#[derive(Debug, Default)]
pub(super) struct Names {
    table: HashTable<u32>,
    hashes: Vec<[u64; 2]>,
    keys: [RandomState; 2],
}

impl Names {
    pub(super) fn slot(&self, uid: &EntityUid) -> Option<u32> {
        self.find(self.hash(uid))
    }

    pub(super) fn reserve(&mut self, names: usize) {
        let hashes = &self.hashes;
        self.table.reserve(names, |slot| hashes.get(*slot as usize).map_or(0, |hash| hash[0]));
        self.hashes.reserve_exact(names);
    }

    fn hash(&self, uid: &EntityUid) -> [u64; 2] {
        self.keys.each_ref().map(|key| key.hash_one(uid))
    }

    fn find(&self, hash: [u64; 2]) -> Option<u32> {
        self.table.find(hash[0], |slot| self.hashes.get(*slot as usize) == Some(&hash)).copied()
    }

    /// A name that lies elsewhere already moves here.
    pub(super) fn insert(&mut self, slot: u32, uid: &EntityUid) {
        let hash = self.hash(uid);
        if let Some(old) = self.find(hash) {
            self.remove(old);
        }
        let at = slot as usize;
        if at >= self.hashes.len() {
            self.hashes.resize(at + 1, [0; 2]);
        }
        if let Some(place) = self.hashes.get_mut(at) {
            *place = hash;
        }
        let hashes = &self.hashes;
        self.table.insert_unique(hash[0], slot, |slot| hashes.get(*slot as usize).map_or(0, |hash| hash[0]));
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let Some(hash) = self.hashes.get(slot as usize) else { return };
        if let Ok(found) = self.table.find_entry(hash[0], |at| *at == slot) {
            found.remove();
        }
    }
}
