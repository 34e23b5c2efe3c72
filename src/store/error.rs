//! What can go wrong with a store, by what one can do about it.

use super::{EngineError, EngineKind, Kind};
use crate::{crypto::KeyError, model::SealError};

/// Why a store refused. Never holds content or an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("the data directory is in use by another process: stop that one first")]
    Locked,
    /// Not a store, or one whose making was cut short.
    #[error(
        "there is no whole store in this directory: run `wardkeep init` (where an earlier one was interrupted, remove what it left first), or restore a backup"
    )]
    Missing,
    /// `create` on a directory that holds something.
    #[error(
        "the directory is not empty: choose another for a new store, or remove what an interrupted `init` left in it (or `restore`)"
    )]
    Occupied,
    /// Another engine is asked for than the one it was made with.
    #[error(
        "this store was made with {made_with}, and the configuration says {asked}: set storage.engine to \"{made_with}\" or leave it out, or run `wardkeep store migrate --to {asked}` first"
    )]
    OtherEngine {
        /// What its files are.
        made_with: EngineKind,
        /// What was asked for.
        asked: EngineKind,
    },
    /// The key ring.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A part is older than the rest.
    #[error("the store was rolled back: {0}; restore all of one backup")]
    RolledBack(&'static str),
    /// One object does not open.
    #[error("a stored {kind} is damaged (object {name}): run `wardkeep store verify`, then restore a backup", kind = kind.label())]
    Damaged {
        /// What it is.
        kind: Kind,
        /// Its keyed name in hex.
        name: String,
    },
    /// Rows are missing, added or changed.
    #[error("the stored {kind}s do not add up: some were lost or changed; run `wardkeep store verify`, then restore a backup", kind = .0.label())]
    Lost(Kind),
    /// The engine's account of itself, or the manifest.
    #[error("{0} is damaged: run `wardkeep store verify`, then restore a backup")]
    DamagedPart(&'static str),
    /// The ledger of erasures and revocations.
    #[error(
        "the ledger of erasures and revocations (the file `ledger`) is damaged: put its copy from beside the backup in its place; where there is none, remove it, start once with `serve --accept-missing-ledger`, and take a new backup and escrow at once"
    )]
    DamagedLedger,
    /// The same, missing or older than the rest.
    #[error(
        "the ledger of erasures and revocations (the file `ledger`) is missing or older than the rest: put its copy from beside the backup in its place; where there is none, start once with `serve --accept-missing-ledger`, and take a new backup and escrow at once"
    )]
    LedgerBehind,
    /// The storage engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The file system.
    #[error(
        "the data directory cannot be read or written ({0}): see to the disk's space, permissions and health, then start again"
    )]
    Io(std::io::ErrorKind),
    /// A commit failed before; what is durable is only known after opening anew.
    #[error("an earlier write failed: free the disk or mend it, then restart the server")]
    Halted,
    /// The change was sealed under a key that was destroyed meanwhile: seal it again.
    #[error("the change was made under a key that has been destroyed since: try again")]
    Stale,
    /// A value beyond the codec's bounds.
    #[error("a value is too large to store")]
    TooLarge,
    /// Sealing failed.
    #[error("a value cannot be sealed: the operating system gives no random bytes, or it is too large")]
    Seal,
}

impl StoreError {
    pub(super) fn io(error: std::io::Error) -> Self {
        Self::Io(error.kind())
    }
}

impl From<SealError> for StoreError {
    fn from(_: SealError) -> Self {
        Self::Seal
    }
}

impl From<crate::crypto::EntropyError> for StoreError {
    fn from(_: crate::crypto::EntropyError) -> Self {
        Self::Seal
    }
}
