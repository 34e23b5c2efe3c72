//! The data keys in memory: one for each owner. Keys are made when something is first sealed for an owner and become
//! durable with the first commit that uses them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::RwLock;

use super::{Kind, StoreError, names};
use crate::crypto::{DataKey, Entropy, KeyRing, KeyTag, WrappedKey};

/// A data key to seal with, and its wrapped form if no commit is known to hold it yet.
pub(super) struct Sealing {
    pub(super) key: Arc<DataKey>,
    pub(super) pending: Option<Vec<u8>>,
}

pub(super) struct Keychain {
    ring: KeyRing,
    entropy: Arc<dyn Entropy>,
    keys: RwLock<Keys>,
}

#[derive(Default)]
struct Keys {
    by_owner: HashMap<[u8; 16], KeyTag>,
    by_id: HashMap<KeyTag, Held>,
}

struct Held {
    owner: [u8; 16],
    key: Arc<DataKey>,
    pending: Option<Vec<u8>>,
}

impl Keychain {
    pub(super) fn new(ring: KeyRing, entropy: Arc<dyn Entropy>) -> Self {
        Self { ring, entropy, keys: RwLock::default() }
    }

    /// Takes in a wrapped key that the engine holds.
    pub(super) fn load(&self, id: KeyTag, wrapped: &[u8]) -> Result<(), StoreError> {
        let damaged = |_| StoreError::Damaged { kind: Kind::DataKey, name: hex::encode(id) };
        let WrappedKey { scope, key } = self.ring.unwrap(id, wrapped).map_err(damaged)?;
        let mut keys = self.keys.write();
        keys.by_owner.insert(scope, id);
        keys.by_id.insert(id, Held { owner: scope, key: Arc::new(key), pending: None });
        Ok(())
    }

    /// The key that opens what says it is under `id`.
    pub(super) fn opening(&self, id: KeyTag) -> Option<Arc<DataKey>> {
        self.keys.read().by_id.get(&id).map(|held| held.key.clone())
    }

    /// The key to seal with for an owner; made now if there is none.
    pub(super) fn sealing(&self, owner: [u8; 16]) -> Result<Sealing, StoreError> {
        if let Some(found) = self.keys.read().find(&owner) {
            return Ok(found);
        }
        let key = Arc::new(DataKey::generate(&*self.entropy)?);
        let wrapped = self.ring.wrap(&owner, &key, &*self.entropy)?;
        let mut keys = self.keys.write();
        if let Some(found) = keys.find(&owner) {
            return Ok(found);
        }
        keys.by_owner.insert(owner, key.id());
        keys.by_id.insert(key.id(), Held { owner, key: key.clone(), pending: Some(wrapped.clone()) });
        Ok(Sealing { key, pending: Some(wrapped) })
    }

    /// Takes in keys that a change brings from elsewhere (a replay), before anything is written.
    pub(super) fn admit(&self, brought: &[(KeyTag, Vec<u8>)]) -> Result<(), StoreError> {
        let unknown = |id: &KeyTag| !self.keys.read().by_id.contains_key(id);
        brought.iter().filter(|(id, _)| unknown(id)).try_for_each(|(id, wrapped)| self.load(*id, wrapped))
    }

    /// What a durable commit did to the keys: `now` are there, `gone` are destroyed.
    pub(super) fn settle(&self, now: &[(KeyTag, Vec<u8>)], gone: &HashSet<KeyTag>) {
        let mut keys = self.keys.write();
        for (id, _) in now {
            if let Some(held) = keys.by_id.get_mut(id) {
                held.pending = None;
            }
        }
        for id in gone {
            if let Some(held) = keys.by_id.remove(id)
                && keys.by_owner.get(&held.owner) == Some(id)
            {
                keys.by_owner.remove(&held.owner);
            }
        }
    }
}

impl Keys {
    fn find(&self, owner: &[u8; 16]) -> Option<Sealing> {
        let held = self.by_id.get(self.by_owner.get(owner)?)?;
        Some(Sealing { key: held.key.clone(), pending: held.pending.clone() })
    }
}

/// The id that the name of a data key's row holds.
pub(super) fn id_of_row(key: &[u8]) -> Result<KeyTag, StoreError> {
    let damaged = || StoreError::Damaged { kind: Kind::DataKey, name: names::shown(key) };
    key.get(1..).and_then(|id| id.try_into().ok()).ok_or_else(damaged)
}
