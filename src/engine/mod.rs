//! The use cases: the only module that knows the order of steps. Knows nothing of HTTP; async happens outside.

mod backup;
mod callers;
mod cap;
mod certificate;
mod collections;
mod context;
mod diff;
mod disclosure;
mod entities;
mod erase;
mod explain;
mod gate;
mod grant;
mod graphs;
mod history;
mod holds;
mod ingest;
mod journal;
mod keeper;
mod kept;
#[cfg(test)]
mod kept_tests;
mod keys;
mod loading;
mod log;
mod policies;
mod recover;
mod refusal;
mod retention;
mod retrieve;
mod rotation;
mod sign_in;
#[cfg(test)]
mod tests;
mod trail;
mod watch;
mod world;

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

pub use backup::{RestoreError, restore};
pub use callers::{Issued, Listed};
pub use cap::Bound;
pub use certificate::{Certificate, NotCertified};
pub use collections::Shown;
pub use context::Circumstances;
pub use diff::{
    Asking, CallerRow, Chosen, Compared, Comparison, Difference, Figures, Over, Past, PastRow, Right, RoleRow, Steps,
    Total,
};
pub use disclosure::{Disclosure, Include};
pub use entities::Written;
pub use erase::{EarlierPolicies, Erased, Erasure, Holds, NamingEntities, NamingVersion, Own, StillNamed};
pub use explain::{Assumed, Explained, Tried, Why};
pub use gate::{Release, Released, Scope};
pub use grant::{
    Asked, Detail, Erase, Explain, Grant, Ingest, ManageCallers, ManageCollections, ManageEntities, ManageKeys,
    ManagePolicies, Offline, Operation, Read, ReadAudit, Search,
};
pub use history::{Edition, History, Version};
pub use holds::Held;
pub use ingest::{Draft, Ingested, Line, Mode};
pub use journal::Receipt;
pub use keys::{KeyStatus, RotationState};
pub use log::{Page, Sieve};
pub use policies::{Activated, Allow};
pub use recover::{Environment, Founding, OpenError, Progress, origin_of};
pub use refusal::{Fault, Refusal};
pub use retention::{Expiry, Retention, Unfit};
pub use retrieve::{Listing, Question, Reading, Which};
pub use watch::{ClockBehind, WatchError};

use crate::{
    audit::BundleRef,
    authn::{Keys, Operator},
    clock::Clock,
    crypto::{Entropy, EntropyError},
    store::{EngineKind, Store},
};

/// Bounds that the operator sets.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Records in one answer, whatever the policies allow.
    pub max_records: usize,
}

/// What is held in memory of each vector. The answers are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    /// Its codes and itself.
    #[default]
    Fast,
    /// Its codes: whatever comes close is opened from the store. There are no graphs: they are built of vectors, and walked along them.
    Lean,
}

impl std::str::FromStr for Memory {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "fast" => Ok(Self::Fast),
            "lean" => Ok(Self::Lean),
            _ => Err("must be `fast` or `lean`"),
        }
    }
}

/// What the operator sets.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Bounds on answers.
    pub limits: Limits,
    /// Memory for the storage engine's cache, in bytes.
    pub cache_bytes: u64,
    /// The storage engine that a store is made with, or must have been made with.
    pub storage_engine: Option<EngineKind>,
    /// What is held of vectors.
    pub memory: Memory,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits { max_records: 1_000 },
            cache_bytes: 256 << 20,
            storage_engine: None,
            memory: Memory::default(),
        }
    }
}

/// A running store.
pub struct Wardkeep {
    store: Arc<Store>,
    world: Arc<RwLock<World>>,
    /// Under a lock of their own, so that signing in never waits for a search or a change.
    keys: Arc<RwLock<Keys>>,
    journal: Arc<Journal>,
    graphs: graphs::Graphs,
    keeper: keeper::Keeper,
    rotation: rotation::Rotation,
    retaining: retention::Retaining,
    /// One change at a time is checked and written, so that what was checked still holds when it is written.
    writing: Arc<Mutex<()>>,
    failures: sign_in::Failures,
    limits: Limits,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

use journal::Journal;
use world::World;

impl Wardkeep {
    /// The bundle in force, as entries name it. May be called while the world is being read.
    fn bundle_in_force(&self) -> BundleRef {
        let world = self.world.read_recursive();
        BundleRef { version: world.policy.version, digest: world.policy.bundle.digest() }
    }

    /// Whoever opened the store with its passphrase, at the machine itself.
    pub fn operator(&self) -> Operator {
        Operator::of(&self.store)
    }

    /// Bytes that vectors and their codes take in memory, and how many there are.
    pub fn index_bytes(&self) -> (usize, usize) {
        let world = self.world.read();
        let all = world.collections.values();
        all.fold((0, 0), |(bytes, count), holding| (bytes + holding.index.memory_bytes(), count + holding.len()))
    }

    /// Whether an earlier write failed, so that nothing is answered until the store is opened anew.
    pub fn is_halted(&self) -> bool {
        self.store.is_halted()
    }

    /// The key that verifies the audit log.
    pub fn audit_public_key(&self) -> [u8; 32] {
        self.store.ring().signer().public_key()
    }

    /// Random bytes for an id of a request.
    pub fn random_id(&self) -> Result<[u8; 16], Refusal> {
        let mut id = [0; 16];
        self.entropy.fill(&mut id)?;
        Ok(id)
    }
}

impl From<EntropyError> for Refusal {
    fn from(_: EntropyError) -> Self {
        Self::Unavailable("the operating system gives no random bytes")
    }
}
