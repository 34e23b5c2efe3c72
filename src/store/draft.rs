//! The store as it would be after the changes of one commit: what `apply` writes to. It keeps the rule that a data key
//! lives exactly as long as something is sealed under it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Engine, Kind, StoreError, engine::Batch, names};
use crate::crypto::{self, KeyTag};

/// How many rows are sealed under each data key.
pub(super) type Live = HashMap<KeyTag, u64>;

/// A row that a commit touches.
pub(super) struct Touched {
    pub(super) before: Option<Vec<u8>>,
    pub(super) after: Option<Vec<u8>>,
}

/// Changes on top of an engine, not yet written.
pub(super) struct Draft<'a> {
    engine: &'a dyn Engine,
    live: &'a Live,
    destroyed: &'a HashSet<KeyTag>,
    rows: BTreeMap<Vec<u8>, Touched>,
    counts: Live,
    unsettled: BTreeSet<KeyTag>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(engine: &'a dyn Engine, live: &'a Live, destroyed: &'a HashSet<KeyTag>) -> Self {
        let (rows, counts, unsettled) = (BTreeMap::new(), Live::new(), BTreeSet::new());
        Self { engine, live, destroyed, rows, counts, unsettled }
    }

    /// Writes a sealed row; its data key must be there.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let under = crypto::key_of(value).ok_or(StoreError::DamagedPart("a change"))?;
        if !self.has_key(under)? {
            return Err(StoreError::Stale);
        }
        self.count(under, 1);
        self.set(key, Some(value.to_vec()))
    }

    /// Writes a row sealed anew, unless it is no longer the one that begins with `was`.
    pub(super) fn move_row(&mut self, was: &[u8], key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        match &self.touch(key)?.after {
            Some(there) if there.starts_with(was) => self.put(key, value),
            Some(_) | None => Err(StoreError::Stale),
        }
    }

    /// Adds a wrapped data key. One that was destroyed never comes back.
    pub(super) fn put_key(&mut self, id: KeyTag, wrapped: &[u8]) -> Result<(), StoreError> {
        if self.destroyed.contains(&id) {
            return Err(StoreError::Stale);
        }
        self.unsettled.insert(id);
        let key = names::data_key(id);
        if self.touch(&key)?.after.is_none() { self.set(&key, Some(wrapped.to_vec())) } else { Ok(()) }
    }

    /// Destroys a data key, whatever is counted under it.
    pub(super) fn destroy(&mut self, id: KeyTag) -> Result<(), StoreError> {
        self.counts.insert(id, 0);
        self.set(&names::data_key(id), None)
    }

    /// Writes a row that is sealed by others.
    pub(super) fn put_foreign(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.set(key, Some(value.to_vec()))
    }

    /// Removes a row, if it is there.
    pub(super) fn remove(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.set(key, None)
    }

    /// Removes every row whose key starts with `prefix`.
    pub(super) fn remove_all(&mut self, prefix: &[u8]) -> Result<(), StoreError> {
        let mut keys: BTreeSet<Vec<u8>> =
            self.rows.range(prefix.to_vec()..).map(|(k, _)| k).take_while(|k| k.starts_with(prefix)).cloned().collect();
        self.engine.scan(prefix, &mut |key, _| {
            keys.insert(key.to_vec());
            Ok(())
        })?;
        keys.iter().try_for_each(|key| self.remove(key))
    }

    /// Ends one change: data keys that nothing is sealed under any more are destroyed.
    pub(super) fn settle(&mut self) -> Result<(), StoreError> {
        for id in std::mem::take(&mut self.unsettled) {
            if self.counts.get(&id).or(self.live.get(&id)).is_none_or(|n| *n == 0) {
                self.set(&names::data_key(id), None)?;
            }
        }
        Ok(())
    }

    /// What changed, in order of keys.
    pub(super) fn touched(&self) -> impl Iterator<Item = (&[u8], &Touched)> {
        self.rows.iter().filter(|(_, row)| row.before != row.after).map(|(key, row)| (key.as_slice(), row))
    }

    /// The writes, and the counts that hold once they are durable.
    pub(super) fn into_parts(self) -> (Batch, Live) {
        let changed = self.rows.into_iter().filter(|(_, row)| row.before != row.after);
        (changed.map(|(key, row)| (key, row.after)).collect(), self.counts)
    }

    fn set(&mut self, key: &[u8], value: Option<Vec<u8>>) -> Result<(), StoreError> {
        let row = self.touch(key)?;
        let old = std::mem::replace(&mut row.after, value);
        let sealed_by_us = match Kind::of(key) {
            Some(Kind::DataKey | Kind::KeyBucket | Kind::Outbox) | None => false,
            Some(Kind::Collection | Kind::Record | Kind::Entity | Kind::Bundle | Kind::ApiKey | Kind::Hold) => true,
        };
        if let (true, Some(under)) = (sealed_by_us, old.as_deref().and_then(crypto::key_of)) {
            self.count(under, -1);
        }
        Ok(())
    }

    fn touch(&mut self, key: &[u8]) -> Result<&mut Touched, StoreError> {
        if !self.rows.contains_key(key) {
            let before = self.engine.get(key)?;
            self.rows.insert(key.to_vec(), Touched { after: before.clone(), before });
        }
        self.rows.get_mut(key).ok_or(StoreError::Halted)
    }

    fn has_key(&mut self, id: KeyTag) -> Result<bool, StoreError> {
        match self.rows.get(names::data_key(id).as_slice()) {
            Some(row) => Ok(row.after.is_some()),
            None => Ok(self.live.get(&id).is_some_and(|n| *n > 0)),
        }
    }

    fn count(&mut self, id: KeyTag, by: i64) {
        let base = self.live.get(&id).copied().unwrap_or(0);
        let n = self.counts.entry(id).or_insert(base);
        *n = n.saturating_add_signed(by);
        self.unsettled.insert(id);
    }
}
