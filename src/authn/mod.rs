//! Credential to caller. Knows API keys and the passphrase; knows nothing of HTTP or of what a caller may do.

mod key;

use std::{collections::HashMap, fmt, net::IpAddr};

use subtle::ConstantTimeEq;

pub use key::{Credential, CredentialError, issue};

use crate::{
    clock::Instant,
    crypto::KeyRing,
    model::{ApiKey, EntityUid, KeyId},
    store::Store,
};

/// How a caller proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// An API key, by its public name.
    ApiKey(KeyId),
    /// The store's passphrase, at the machine itself.
    Passphrase,
}

/// An authenticated principal. Only this module makes one.
#[derive(Clone, PartialEq, Eq)]
pub struct Caller {
    uid: EntityUid,
    proof: Proof,
    purposes: Option<Vec<String>>,
}

/// The operator at the machine: whoever opened the store with its passphrase acts as root.
pub struct Operator(Caller);

impl Operator {
    /// An open store is the proof: it cannot be had without the passphrase.
    pub fn of(_opened: &Store) -> Self {
        Self(Caller { uid: root(), proof: Proof::Passphrase, purposes: None })
    }

    /// As a caller.
    pub fn caller(&self) -> &Caller {
        &self.0
    }

    /// No network address.
    pub fn origin(&self) -> Origin {
        Origin { address: None, request: [0; 16] }
    }
}

impl Caller {
    /// The principal in Cedar's sense.
    pub fn uid(&self) -> &EntityUid {
        &self.uid
    }

    /// How they proved it.
    pub fn proof(&self) -> Proof {
        self.proof
    }

    /// Whether the credential may be used for `purpose`.
    pub fn may_claim(&self, purpose: &str) -> bool {
        self.purposes.as_ref().is_none_or(|allowed| allowed.iter().any(|p| p == purpose))
    }
}

/// Redacted: who called is for the audit log.
impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({:?}, {:?})", self.uid, self.proof)
    }
}

/// The first administrator, whose key `init` prints.
pub fn root() -> EntityUid {
    EntityUid::new("Administrator", "root")
}

/// A credential that is not accepted. Does not say which part was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the credential is not known, has expired, or was revoked")]
pub struct NotAccepted;

/// Every API key in force.
#[derive(Default)]
pub struct Keys {
    by_id: HashMap<KeyId, ApiKey>,
}

impl Keys {
    /// The table at start.
    pub fn new(keys: impl IntoIterator<Item = ApiKey>) -> Self {
        Self { by_id: keys.into_iter().map(|key| (key.key_id, key)).collect() }
    }

    /// Who speaks. An unknown key id costs the same hash as a known one, so that ids cannot be told by time.
    pub fn authenticate(&self, credential: &Credential, now: Instant, ring: &KeyRing) -> Result<Caller, NotAccepted> {
        let presented = ring.verifier(credential.secret());
        let known = self.by_id.get(&credential.key_id());
        let expected = known.map_or([0; 32], |key| key.verifier);
        let matches = bool::from(presented.ct_eq(&expected));
        match known {
            Some(key) if matches && in_time(key, now) => {
                Ok(Caller { uid: key.caller.clone(), proof: Proof::ApiKey(key.key_id), purposes: key.purposes.clone() })
            }
            Some(_) | None => Err(NotAccepted),
        }
    }

    /// Whether a caller authenticated earlier would be let in again: asked anew during long streams.
    pub fn still_accepts(&self, caller: &Caller, now: Instant) -> bool {
        match caller.proof {
            Proof::ApiKey(id) => self.by_id.get(&id).is_some_and(|key| key.caller == caller.uid && in_time(key, now)),
            Proof::Passphrase => true,
        }
    }

    /// Adds a key.
    pub fn insert(&mut self, key: ApiKey) {
        self.by_id.insert(key.key_id, key);
    }

    /// Takes a key out of force.
    pub fn remove(&mut self, id: KeyId) -> Option<ApiKey> {
        self.by_id.remove(&id)
    }

    /// A key by its public name.
    pub fn find(&self, id: KeyId) -> Option<&ApiKey> {
        self.by_id.get(&id)
    }

    /// Every key, by key id.
    pub fn list(&self) -> Vec<&ApiKey> {
        let mut all: Vec<_> = self.by_id.values().collect();
        all.sort_by_key(|key| key.key_id);
        all
    }

    /// Whether any key speaks for `uid`.
    pub fn speak_for(&self, uid: &EntityUid) -> bool {
        self.by_id.values().any(|key| key.caller == *uid)
    }
}

fn in_time(key: &ApiKey, now: Instant) -> bool {
    key.expires_at.is_none_or(|end| now < end)
}

/// Where a request came from: for policies (`context.source_ip`) and the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The socket's peer, or the address that a configured proxy forwarded.
    pub address: Option<IpAddr>,
    /// The request's own id: 128 random bits, echoed in every answer.
    pub request: [u8; 16],
}
