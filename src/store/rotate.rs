//! Rotation: every data key renewed, part by part, while the store is in use. What is left to do is written nowhere of its own: each
//! key says which epoch it was made in, and the ring file which one it is.

use super::{Change, Kind, Resealed, RingKey, RowKey, Store, StoreError, Wraps};
use crate::{clock::Instant, crypto, model::limits};

/// How far a rotation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// Counts rotations.
    pub epoch: u32,
    /// Data keys that there are.
    pub data_keys: usize,
    /// Data keys of an earlier epoch.
    pub behind: usize,
    /// Buckets whose wraps may still open keys that have been replaced, and how many keys each holds.
    pub buckets: Vec<(u8, usize)>,
}

impl Census {
    /// Whether nothing is left to renew.
    pub fn is_done(&self) -> bool {
        self.behind == 0 && self.buckets.is_empty()
    }
}

impl Store {
    /// How far a rotation is.
    pub fn census(&self) -> Census {
        self.keychain.census()
    }

    /// Begins a rotation: from its commit on every data key there is counts as one of an earlier epoch, and an old copy of a wrapped key
    /// opens with no ring key that is left.
    pub fn rotate(&self, at: Instant) -> Change {
        Change::Rotate { at }
    }

    /// Renews the ring key alone.
    pub fn renew_ring_key(&self, at: Instant) -> Change {
        Change::RenewWraps { at, buckets: Vec::new(), ring: RingKey::Renewed }
    }

    /// Small parts that hold all sealed rows together, each by what its rows' names begin with.
    pub fn parts(&self) -> Result<Vec<RowKey>, StoreError> {
        let mut parts: Vec<RowKey> =
            [Kind::Collection, Kind::Bundle, Kind::ApiKey, Kind::Hold].map(|kind| kind.prefix().into()).into();
        let mut stems = vec![Kind::Entity.prefix().to_vec()];
        self.engine.scan(&Kind::Collection.prefix(), &mut |key, _| {
            let of_collection = key.get(1..).unwrap_or_default();
            stems.push([&Kind::Record.prefix(), of_collection].concat());
            Ok(())
        })?;
        // what follows is a keyed hash: each part holds about as much as the next
        let each = |stem: &RowKey| (0..=u8::MAX).map(|byte| [stem.as_slice(), &[byte]].concat()).collect::<Vec<_>>();
        parts.extend(stems.iter().flat_map(each));
        Ok(parts)
    }

    /// The rows of a part that lie under keys of an earlier epoch.
    pub fn behind(&self, part: &[u8]) -> Result<Vec<RowKey>, StoreError> {
        let mut rows = Vec::new();
        self.engine.scan(part, &mut |key, value| {
            if crypto::key_of(value).is_some_and(|id| self.keychain.is_behind(id)) {
                rows.push(key.to_vec());
            }
            Ok(())
        })?;
        Ok(rows)
    }

    /// Seals the first of `rows` anew under their owners' present keys, as many as one step of a rotation takes.
    pub fn bring_up(&self, rows: &[RowKey], at: Instant) -> Result<Resealed, StoreError> {
        self.reseal(rows.iter().cloned(), Wraps::Later, limits::ROTATION_ROWS, at)
    }

    /// Renews the wraps of some buckets that are behind, of so many data keys at most, but one bucket at least; with the last of them the
    /// ring key. `None` where none is.
    pub fn renew_wraps(&self, at: Instant, most: usize) -> Option<Change> {
        let (behind, mut keys) = (self.census().buckets, 0);
        let fits = |(at, (_, held)): &(usize, &(u8, usize))| {
            keys += held;
            *at == 0 || keys <= most
        };
        let buckets: Vec<u8> = behind.iter().enumerate().take_while(fits).map(|(_, (number, _))| *number).collect();
        let ring = if buckets.len() < behind.len() { RingKey::Kept } else { RingKey::Renewed };
        (!buckets.is_empty()).then_some(Change::RenewWraps { at, buckets, ring })
    }
}
