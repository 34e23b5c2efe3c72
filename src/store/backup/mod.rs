//! Backups: what a store holds at one moment, written while it is written to; and a store made anew from them. Knows nothing of what is
//! in a row.
//!
//! A backup is a directory of files `00000000.wkb`, `00000001.wkb`, …: the first is whole, each later one holds what changed since. Before
//! one is added, all that it stands on is read and held against its links; where that is damaged or missing, the next file is whole again,
//! and a restore begins with it. `LOCK` keeps a second backup out.
//!
//! ```text
//! "WKBACK\0" 1 | store id 16 | set id 16 | number u32 | link 32          the link is the SHA-256 of the file before, zero in a whole one
//! then chunks: length u32, sealed; each bound to all of the header, to its own number, and to whether it is the last
//! ```
//! A chunk holds items ([`Item`]): rows as they lie in the engine, still sealed under their data keys; rows that went; parts of the audit
//! log; the engine's account of itself; and at the end an index of every row, so that the next file knows what changed. The chunks are
//! sealed once more under a key of their own class, so that a backup shows sizes and nothing else.
//!
//! A stream is the same as a whole file, number 0 of a set of its own; it lies in no directory, and no ledger lies beside it.
//!
//! **No key is in a backup.** Data keys lie in an [`Escrow`](crate::crypto::Escrow), taken apart and often: a patient whose key was
//! destroyed is noise in every backup as soon as the escrows from before are gone. What was erased or revoked after the escrow stands in a
//! ledger (`withdrawn`), of which a copy lies beside the backup: a restore replays it, and refuses without it. What derives from records (columns, snapshots of an
//! index) is in no backup either.

mod beside;
mod deposit;
mod inspect;
mod restore;
mod rising;
mod room;
mod stream;
mod take;
mod withdrawn;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, io};

use serde::{Deserialize, Serialize};

use super::{StoreError, codec::Bytes};
use crate::{clock::Instant, model::limits};
pub use inspect::{Inspected, inspect};
pub use restore::{HoldsOf, Plan, Replayed, Restored, restore};
pub use rising::Rising;
pub use take::{Copying, LogCut, Taken};
pub(super) use withdrawn::{Deed, LEDGER, Point, Withdrawals};
pub use withdrawn::{LedgerCopy, LedgerDoubt, LedgerState};

/// What one chunk holds, in order.
#[derive(Serialize, Deserialize)]
enum Item {
    /// A row is this now.
    Put { key: Bytes, value: Bytes },
    /// A row is gone.
    Gone { key: Bytes },
    /// A part of a file of the audit log.
    Log { file: Box<str>, offset: u64, bytes: Bytes },
    /// How long a file of the audit log is after this file.
    LogEnd { file: Box<str>, length: u64 },
    /// How far the audit log is: entries, Merkle root, last group.
    Head { size: u64, root: [u8; 32], group: u64 },
    /// The engine's account of itself, sealed, and when this was.
    Account { sealed: Bytes, at: Instant },
    /// What some of the rows are after this file.
    Index(Vec<(Bytes, Digest)>),
    /// The storage engine that the store lies on.
    Engine(Box<str>),
    /// How far the ledger was.
    Ledger(Point),
}

/// What every row is, by its key.
type Index = BTreeMap<Vec<u8>, Digest>;

/// The start of a SHA-256 of a row's value.
type Digest = [u8; 16];

/// Why a backup could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The directory of the backup.
    #[error(
        "the backup's directory cannot be read or written ({0}): see to its disk's space, permissions and health; the store itself is well"
    )]
    Io(io::ErrorKind),
    /// Others may write the directory.
    #[error(
        "the backup's directory is another user's, or may be written by others: give it to the user that wardkeep runs as, with mode 0700"
    )]
    Exposed,
    /// Another one is being made.
    #[error("another backup of this store, or into this directory, is being made: wait for it")]
    Busy,
    /// There is none, or not the file that was asked for.
    #[error("there is no backup in this directory, or no file of that number")]
    Missing,
    /// Another store's.
    #[error("the backup in this directory is of another store: choose another directory, or the escrow of that store")]
    Foreign,
    /// A file is not what was written, or not the one after the file before it.
    #[error(
        "file {0} of the backup is damaged or does not follow the one before it: use an earlier file with `--until`, or another backup"
    )]
    Damaged(u32),
    /// A file ends too early.
    #[error(
        "file {0} of the backup ends before its end: it was cut off, or its making was, and nothing can be made from it; use an earlier file with `--until`, or another backup"
    )]
    Unfinished(u32),
    /// A file that was given alone follows another one.
    #[error(
        "file {0} of the backup holds only what changed since the one before: name the directory that they lie in, or a file that is whole"
    )]
    NotWhole(u32),
    /// What a streamed backup goes to.
    #[error(
        "the backup's stream could not be written ({0}): whoever reads it has gone, may not have it any more, or is too slow; what was written cannot be restored"
    )]
    Stream(io::ErrorKind),
    /// The escrow is not what was written.
    #[error("the escrow is damaged, or is none: use another one that was taken after the backup")]
    DamagedEscrow,
    /// The rows are not those that the store counted.
    #[error("the backup does not add up: rows are missing, added or changed")]
    DoesNotAddUp,
    /// The keys of the escrow are older than the backup.
    #[error(
        "the escrow is older than the backup: keys of what came later are missing, and what was erased since would come back; use one that was taken after the backup, or an earlier file with `--until`"
    )]
    OlderEscrow,
    /// Too long ago that anybody can say what was erased since.
    #[error(
        "the escrow is more than {} days old: what was erased or revoked since would come back; pass `--accept-old-escrow` if nothing was",
        limits::ESCROW_DAYS
    )]
    OldEscrow,
    /// Taken at a time that is not yet.
    #[error(
        "the escrow was taken {0} s after what this machine's clock says: set the clock right, so that it is known how old it is"
    )]
    FutureEscrow(i64),
    /// The ledger beside the backup is not a copy of the store's.
    #[error(
        "the ledger there is damaged, another store's, or knows entries that this store does not: move it away, and find out why"
    )]
    ForeignLedger,
    /// Nothing tells what was erased or revoked since.
    #[error(
        "the ledger of erasures and revocations is missing, damaged, or ends before the escrow was taken, so that what was erased or revoked since would come back; name it with `--ledger` (its copies lie beside the backup and in the lost data directory), or pass `--accept-missing-ledger` if nothing was"
    )]
    NoLedger,
    /// Permissions would be those of an earlier time.
    #[error(
        "since this backup {0} entities, policies, keys or legal holds were changed or came that it does not know, so permissions that were revoked would come back; use a later backup, or pass `--accept-older-permissions` and set them right before anybody asks"
    )]
    OlderPermissions(u64),
}

impl BackupError {
    fn io(error: io::Error) -> Self {
        Self::Io(error.kind())
    }

    /// The same where there is no directory, but a stream.
    pub fn of_stream(self) -> Self {
        match self {
            Self::Io(kind) => Self::Stream(kind),
            other => other,
        }
    }
}

fn digest(value: &[u8]) -> Digest {
    use sha2::{Digest as _, Sha256};
    crate::crypto::short(Sha256::digest(value).into())
}

fn file_name(number: u32) -> String {
    format!("{number:08}.wkb")
}
