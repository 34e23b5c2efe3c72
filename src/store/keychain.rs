//! The data keys in memory: one for each owner. Keys are made when something is first sealed for an owner and become
//! durable with the first commit that uses them, wrapped by the key of their bucket: the first byte of a key's id is its bucket's number.
//! Whatever wraps them is the store's own affair, which no change knows of.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use parking_lot::RwLock;

use super::{Census, Kind, StoreError, draft::Draft, names};
use crate::{
    crypto::{BucketKey, DataKey, Entropy, KeyRing, KeyTag, Renewal, WrappedKey},
    model::SealError,
};

/// A data key to seal with, and its form in transit if no commit is known to hold it yet.
pub(super) struct Sealing {
    pub(super) key: Arc<DataKey>,
    pub(super) pending: Option<Vec<u8>>,
}

/// Data keys by id, each in the form in which a change carries it.
pub(super) type Carried = Vec<(KeyTag, Vec<u8>)>;

pub(super) struct Keychain {
    ring: KeyRing,
    entropy: Arc<dyn Entropy>,
    keys: RwLock<Keys>,
}

struct Keys {
    by_owner: HashMap<[u8; 16], KeyTag>,
    buckets: Vec<Bucket>,
}

/// The data keys whose ids begin with one byte, and what wraps them.
#[derive(Default)]
struct Bucket {
    wrapping: Option<BucketKey>,
    keys: HashMap<KeyTag, Held>,
}

struct Held {
    data: WrappedKey,
    pending: Option<Vec<u8>>,
    /// Wrapped by the ring key itself, as it was until 0.1.
    direct: bool,
}

/// What a commit does to the wraps, not yet durable.
pub(super) struct Rewrapped {
    buckets: BTreeMap<u8, BucketKey>,
    /// Whether every bucket hangs on a new ring key.
    renewed: bool,
}

impl Keychain {
    pub(super) fn new(ring: KeyRing, entropy: Arc<dyn Entropy>) -> Self {
        let keys =
            Keys { by_owner: HashMap::new(), buckets: std::iter::repeat_with(Bucket::default).take(256).collect() };
        Self { ring, entropy, keys: RwLock::new(keys) }
    }

    /// Takes in a bucket's wrapped key.
    pub(super) fn load_bucket(&self, number: u8, wrapped: &[u8]) -> Result<(), StoreError> {
        let damaged = |_| StoreError::Damaged { kind: Kind::KeyBucket, name: hex::encode([number]) };
        let key = self.ring.unwrap_bucket(number, wrapped).map_err(damaged)?;
        self.keys.write().bucket_mut(number)?.wrapping = Some(key);
        Ok(())
    }

    /// Takes in a wrapped key that the engine holds.
    pub(super) fn load(&self, id: KeyTag, wrapped: &[u8]) -> Result<(), StoreError> {
        let damaged = |_| StoreError::Damaged { kind: Kind::DataKey, name: hex::encode(id) };
        let direct = self.ring.hangs_on(wrapped).is_some();
        let mut keys = self.keys.write();
        let bucket = keys.bucket_mut(number(&id))?;
        let data = self.ring.unwrap(bucket.wrapping.as_ref().map(|b| &*b.key), id, wrapped).map_err(damaged)?;
        keys.hold(Held { data, pending: None, direct })
    }

    /// The key that opens what says it is under `id`.
    pub(super) fn opening(&self, id: KeyTag) -> Option<Arc<DataKey>> {
        self.keys.read().held(&id).map(|held| held.data.key.clone())
    }

    /// The key to seal with for an owner; made now if there is none of this epoch.
    pub(super) fn sealing(&self, owner: [u8; 16]) -> Result<Sealing, StoreError> {
        let epoch = self.ring.epoch();
        if let Some(found) = self.keys.read().find(&owner, epoch) {
            return Ok(found);
        }
        self.make(owner, epoch, |keys| keys.find(&owner, epoch))
    }

    /// A fresh key for the owner of `id`: what is sealed for them from here on goes under it.
    pub(super) fn roll(&self, id: KeyTag) -> Result<(), StoreError> {
        let owner = self.owner(id).ok_or(StoreError::Stale)?;
        self.make(owner, self.ring.epoch(), |_| None).map(drop)
    }

    /// The buckets whose keys may still open data keys that were replaced since a rotation began.
    pub(super) fn behind(&self) -> BTreeSet<u8> {
        let (keys, epoch) = (self.keys.read(), self.ring.epoch());
        let numbered = (0..=u8::MAX).zip(&keys.buckets);
        numbered.filter(|(_, bucket)| bucket.is_behind(epoch)).map(|(number, _)| number).collect()
    }

    /// How far a rotation is.
    pub(super) fn census(&self) -> Census {
        let (keys, epoch) = (self.keys.read(), self.ring.epoch());
        let mut census = Census { epoch, data_keys: 0, behind: 0, buckets: Vec::new() };
        for (number, bucket) in (0..=u8::MAX).zip(&keys.buckets) {
            census.data_keys += bucket.durable().count();
            census.behind += bucket.keys.values().filter(|k| k.pending.is_none() && k.data.epoch < epoch).count();
            if bucket.is_behind(epoch) {
                census.buckets.push((number, bucket.keys.len()));
            }
        }
        census
    }

    /// Whether a key is to be renewed.
    pub(super) fn is_behind(&self, id: KeyTag) -> bool {
        let epoch = self.ring.epoch();
        self.keys.read().held(&id).is_some_and(|held| held.data.epoch < epoch)
    }

    /// To whom a key belongs.
    pub(super) fn owner(&self, id: KeyTag) -> Option<[u8; 16]> {
        self.keys.read().held(&id).map(|held| held.data.scope)
    }

    /// Every key of these owners that a commit holds: while keys are renewed, more than one each.
    pub(super) fn of_owners(&self, owners: &HashSet<[u8; 16]>) -> Vec<KeyTag> {
        let keys = self.keys.read();
        let held = keys.buckets.iter().flat_map(|bucket| &bucket.keys);
        held.filter(|(_, held)| held.pending.is_none() && owners.contains(&held.data.scope))
            .map(|(id, _)| *id)
            .collect()
    }

    fn make(
        &self,
        owner: [u8; 16],
        epoch: u32,
        meanwhile: impl FnOnce(&Keys) -> Option<Sealing>,
    ) -> Result<Sealing, StoreError> {
        let key = Arc::new(DataKey::generate(&*self.entropy)?);
        let data = WrappedKey { scope: owner, epoch, key: key.clone() };
        let carried = self.ring.carry(&data, &*self.entropy)?;
        let mut keys = self.keys.write();
        if let Some(found) = meanwhile(&keys) {
            return Ok(found);
        }
        keys.hold(Held { data, pending: Some(carried.clone()), direct: false })?;
        Ok(Sealing { key, pending: Some(carried) })
    }

    /// Takes in keys that a change brings from elsewhere (a replay), before anything is written.
    pub(super) fn admit(&self, brought: &Carried) -> Result<(), StoreError> {
        for (id, carried) in brought {
            if self.keys.read().held(id).is_none() {
                let data = self.ring.receive(*id, carried).map_err(|SealError| StoreError::DamagedPart("a change"))?;
                self.keys.write().hold(Held { data, pending: Some(carried.clone()), direct: false })?;
            }
        }
        Ok(())
    }

    /// Puts wraps into a draft: the keys that are new in it by their buckets' keys; the keys of `renewed` buckets anew; and where the ring
    /// key is renewed with it, every bucket.
    pub(super) fn rewrap(
        &self,
        draft: &mut Draft<'_>,
        now: &Carried,
        gone: &HashSet<KeyTag>,
        renewed: &BTreeSet<u8>,
        renewal: Option<&Renewal>,
    ) -> Result<Rewrapped, StoreError> {
        let keys = self.keys.read();
        let mut rewrapped = Rewrapped { buckets: BTreeMap::new(), renewed: renewal.is_some() };
        let mut wrap: BTreeSet<KeyTag> = now.iter().map(|(id, _)| *id).collect();
        for number in renewed {
            let bucket = keys.bucket(*number)?;
            let epoch = bucket.epoch_without(gone).unwrap_or(u32::MAX).min(self.ring.epoch_after(renewal));
            rewrapped.buckets.insert(*number, self.bucket_key(epoch)?);
            wrap.extend(bucket.durable());
        }
        if renewal.is_some() {
            wrap.extend(keys.buckets.iter().flat_map(Bucket::direct));
        }
        for id in wrap.iter().filter(|id| !gone.contains(*id)) {
            let bucket = self.wrapping(&keys, &mut rewrapped, number(id))?;
            let data = &keys.held(id).ok_or(StoreError::Stale)?.data;
            draft.put_foreign(&names::data_key(*id), &self.ring.wrap(&bucket.key, data, &*self.entropy)?)?;
        }
        self.write_buckets(draft, &keys, &rewrapped, renewal)?;
        Ok(rewrapped)
    }

    /// The key of a bucket; made now if it has none.
    fn wrapping(&self, keys: &Keys, rewrapped: &mut Rewrapped, number: u8) -> Result<BucketKey, StoreError> {
        if let Some(key) = rewrapped.buckets.get(&number).or(keys.bucket(number)?.wrapping.as_ref()) {
            return Ok(key.clone());
        }
        let key = self.bucket_key(self.ring.epoch())?;
        rewrapped.buckets.insert(number, key.clone());
        Ok(key)
    }

    fn bucket_key(&self, epoch: u32) -> Result<BucketKey, StoreError> {
        Ok(BucketKey { key: Arc::new(DataKey::generate(&*self.entropy)?), epoch })
    }

    fn write_buckets(
        &self,
        draft: &mut Draft<'_>,
        keys: &Keys,
        rewrapped: &Rewrapped,
        renewal: Option<&Renewal>,
    ) -> Result<(), StoreError> {
        for (number, bucket) in (0..=u8::MAX).zip(&keys.buckets) {
            let key = match (rewrapped.buckets.get(&number), &bucket.wrapping, renewal) {
                (Some(new), _, _) => new,
                (None, Some(old), Some(_)) => old,
                (None, _, _) => continue,
            };
            let wrapped = self.ring.wrap_bucket(number, key, renewal, &*self.entropy)?;
            draft.put_foreign(&names::key_bucket(number), &wrapped)?;
        }
        Ok(())
    }

    /// Every key that a commit holds, each in the form in which a change carries it.
    pub(super) fn all(&self) -> Result<Carried, StoreError> {
        let keys = self.keys.read();
        let held = keys.buckets.iter().flat_map(|bucket| &bucket.keys).filter(|(_, held)| held.pending.is_none());
        held.map(|(id, held)| Ok((*id, self.ring.carry(&held.data, &*self.entropy)?))).collect()
    }

    /// What a durable commit did to the keys: `now` are there, `gone` are destroyed.
    pub(super) fn settle(&self, rewrapped: Rewrapped, now: &Carried, gone: &HashSet<KeyTag>) -> Result<(), StoreError> {
        let mut keys = self.keys.write();
        for (number, key) in rewrapped.buckets {
            keys.bucket_mut(number)?.wrapping = Some(key);
        }
        if rewrapped.renewed {
            keys.buckets.iter_mut().flat_map(|bucket| bucket.keys.values_mut()).for_each(|held| held.direct = false);
        }
        for (id, _) in now {
            if let Some(held) = keys.bucket_mut(number(id))?.keys.get_mut(id) {
                held.pending = None;
            }
        }
        gone.iter().try_for_each(|id| keys.forget(id))
    }
}

impl Keys {
    fn bucket(&self, number: u8) -> Result<&Bucket, StoreError> {
        self.buckets.get(usize::from(number)).ok_or(StoreError::Halted)
    }

    fn bucket_mut(&mut self, number: u8) -> Result<&mut Bucket, StoreError> {
        self.buckets.get_mut(usize::from(number)).ok_or(StoreError::Halted)
    }

    fn held(&self, id: &KeyTag) -> Option<&Held> {
        self.bucket(number(id)).ok()?.keys.get(id)
    }

    fn hold(&mut self, held: Held) -> Result<(), StoreError> {
        let id = held.data.key.id();
        // an owner may have two keys while one is being renewed: what is sealed next goes under the later one
        let later = self.by_owner.get(&held.data.scope).and_then(|other| self.held(other));
        if later.is_none_or(|other| other.data.epoch <= held.data.epoch) {
            self.by_owner.insert(held.data.scope, id);
        }
        self.bucket_mut(number(&id))?.keys.insert(id, held);
        Ok(())
    }

    fn find(&self, owner: &[u8; 16], epoch: u32) -> Option<Sealing> {
        let held = self.held(self.by_owner.get(owner)?)?;
        (held.data.epoch >= epoch).then(|| Sealing { key: held.data.key.clone(), pending: held.pending.clone() })
    }

    fn forget(&mut self, id: &KeyTag) -> Result<(), StoreError> {
        if let Some(held) = self.bucket_mut(number(id))?.keys.remove(id)
            && self.by_owner.get(&held.data.scope) == Some(id)
        {
            self.by_owner.remove(&held.data.scope);
        }
        Ok(())
    }
}

impl Bucket {
    fn is_behind(&self, epoch: u32) -> bool {
        self.wrapping.as_ref().is_some_and(|wrapping| wrapping.epoch < epoch)
    }

    /// The keys that the engine holds.
    fn durable(&self) -> impl Iterator<Item = KeyTag> {
        self.keys.iter().filter(|(_, held)| held.pending.is_none()).map(|(id, _)| *id)
    }

    /// The earliest epoch of the keys that the engine holds once some are gone: until those are renewed too, so is the bucket's. A key
    /// that no commit holds yet, and perhaps never one will, does not count: should it come late, its bucket goes when it is replaced.
    fn epoch_without(&self, gone: &HashSet<KeyTag>) -> Option<u32> {
        let held = self.keys.iter().filter(|(id, held)| held.pending.is_none() && !gone.contains(*id));
        held.map(|(_, held)| held.data.epoch).min()
    }

    fn direct(&self) -> impl Iterator<Item = KeyTag> {
        self.keys.iter().filter(|(_, held)| held.direct).map(|(id, _)| *id)
    }
}

/// The bucket of a data key.
pub(super) fn number(id: &KeyTag) -> u8 {
    let [first, ..] = id;
    *first
}

/// The id that the name of a data key's row holds.
pub(super) fn id_of_row(key: &[u8]) -> Result<KeyTag, StoreError> {
    let damaged = || StoreError::Damaged { kind: Kind::DataKey, name: names::shown(key) };
    key.get(1..).and_then(|id| id.try_into().ok()).ok_or_else(damaged)
}

/// The number that the name of a bucket's row holds.
pub(super) fn number_of_row(key: &[u8]) -> Result<u8, StoreError> {
    match key {
        [_, number] => Ok(*number),
        _ => Err(StoreError::Damaged { kind: Kind::KeyBucket, name: names::shown(key) }),
    }
}
