//! Sealed things on disk: the only home of the storage engine and of the codec.
//!
//! A data directory holds `LOCK`, `keyring`, `engine/`, `audit/` (another module's), `derived/`, `manifest.a` and `manifest.b`. Every
//! change is a [`Change`]: sealed before the commit, applied by a function that reads neither clock nor randomness. One
//! commit writes its changes, the audit frames that tell of them and the engine's own account of itself (how many rows
//! of each kind, and a keyed sum over all of them) in one durable batch. The manifest outside the engine remembers how
//! far the engine was, so that an older copy of either is refused.

mod backup;
mod change;
mod codec;
mod crew;
mod derived;
mod disk;
mod draft;
mod engine;
mod error;
mod evidence;
mod handover;
mod keychain;
mod layout;
mod ledger;
mod load;
mod manifest;
mod names;
mod quiet;
mod rebuild;
mod redb_engine;
mod rotate;
mod sled_engine;
mod vault;
mod verify;
mod write;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod fixture;
#[cfg(test)]
pub(crate) mod key_tests;
#[cfg(test)]
pub(crate) mod pieces;
#[cfg(test)]
mod rebuild_tests;
#[cfg(test)]
mod tests;

pub use backup::{
    BackupError, Copying, HoldsOf, Inspected, LedgerCopy, LedgerDoubt, LedgerState, LogCut, Plan, Replayed, Restored,
    Rising, Taken, inspect, restore,
};
pub use change::{Change, Moved, RingKey, Row, RowKey, Wraps};
pub use codec::{Bytes, StoredBundle, StoredRecord};
pub use derived::{Derived, Reading, Writing};
pub use disk::{Disk, RealDisk};
pub use engine::{Batch, EachRow, Engine, EngineError, EngineKind};
pub use error::StoreError;
pub use evidence::Evidence;
pub use handover::{Begun, Guarded, Handover, Pieces, Published, Room, Sink, Turns};
#[cfg(test)]
pub(crate) use load::RECORDS_ASKED_FOR;
pub use load::{Hand, Intake, SealedRecord, StoredName};
pub use manifest::Manifest;
pub use names::Kind;
pub use rebuild::{Rebuilt, RowsCopied, Stat};
pub use rotate::Census;
pub use vault::{OpenOptions, Store};
pub use verify::{Damage, Report, Shortfall};
pub use write::{Resealed, Whose};
