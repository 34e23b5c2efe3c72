//! Every change of state as one value: sealed, versioned, serialisable. `apply` reads neither clock nor randomness, so that
//! replaying all changes in their order gives the same store, byte for byte.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    StoreError,
    backup::Deed,
    codec::{self, Bytes},
    draft::Draft,
};
use crate::{
    clock::Instant,
    crypto::{self, KeyTag, Stamp},
};

/// A sealed row: keyed name and sealed value.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    key: Bytes,
    value: Bytes,
}

impl Row {
    pub(super) fn new(key: Vec<u8>, value: Vec<u8>) -> Self {
        Self { key: Bytes(Zeroizing::new(key)), value: Bytes(Zeroizing::new(value)) }
    }
}

/// A row sealed anew, and the head of what it was: if that is another by now, the change is stale.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    was: Bytes,
    row: Row,
}

impl Moved {
    pub(super) fn new(was: &[u8], row: Row) -> Self {
        Self { was: Bytes(Zeroizing::new(was.to_vec())), row }
    }
}

/// The keyed name of a row.
pub type RowKey = Vec<u8>;

/// One change of state, with its time, its data keys (wrapped) and its rows (sealed). Holds nothing readable.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A collection was created, or its settings written again.
    PutCollection {
        /// When.
        at: Instant,
        /// Data keys that may be new.
        keys: Vec<(KeyTag, Vec<u8>)>,
        /// Its row.
        row: Row,
    },
    /// A collection and all its records went.
    DropCollection {
        /// When.
        at: Instant,
        /// Its row's name.
        row: RowKey,
        /// What its records' names start with.
        records: Vec<u8>,
    },
    /// Records were written.
    PutRecords {
        /// When.
        at: Instant,
        /// Data keys that may be new.
        keys: Vec<(KeyTag, Vec<u8>)>,
        /// Their rows.
        rows: Vec<Row>,
    },
    /// Records were erased.
    EraseRecords {
        /// When.
        at: Instant,
        /// Their names.
        rows: Vec<RowKey>,
    },
    /// Entities were written, each whole.
    PutEntities {
        /// When.
        at: Instant,
        /// Data keys that may be new.
        keys: Vec<(KeyTag, Vec<u8>)>,
        /// Their rows.
        rows: Vec<Row>,
    },
    /// Entities were removed.
    RemoveEntities {
        /// When.
        at: Instant,
        /// Their names.
        rows: Vec<RowKey>,
    },
    /// A bundle was activated.
    PutBundle {
        /// When.
        at: Instant,
        /// Data keys that may be new.
        keys: Vec<(KeyTag, Vec<u8>)>,
        /// Its row.
        row: Row,
    },
    /// An API key was made.
    PutApiKey {
        /// When.
        at: Instant,
        /// Data keys that may be new.
        keys: Vec<(KeyTag, Vec<u8>)>,
        /// Its row.
        row: Row,
    },
    /// An API key was revoked.
    RemoveApiKey {
        /// When.
        at: Instant,
        /// Its row's name.
        row: RowKey,
    },
    /// Rows were sealed anew under other keys; what they say is the same.
    Reseal {
        /// When.
        at: Instant,
        /// Whether keys that nothing is left under take their wraps with them.
        wraps: Wraps,
        /// Data keys that may be new.
        keys: Vec<(KeyTag, Vec<u8>)>,
        /// The rows.
        rows: Vec<Moved>,
    },
    /// A rotation begins: the ring key is renewed, and every data key is to be.
    Rotate {
        /// When.
        at: Instant,
    },
    /// The wraps of these buckets were renewed, and with the last of them the ring key; or the ring key alone.
    RenewWraps {
        /// When.
        at: Instant,
        /// The buckets.
        buckets: Vec<u8>,
        /// Whether the ring key was renewed too.
        ring: RingKey,
    },
    /// A legal hold was put on a patient.
    PutHold {
        /// When.
        at: Instant,
        /// Data keys that may be new.
        keys: Vec<(KeyTag, Vec<u8>)>,
        /// Its row.
        row: Row,
    },
    /// A legal hold was lifted.
    RemoveHold {
        /// When.
        at: Instant,
        /// Its row's name.
        row: RowKey,
    },
    /// Rows of any kind came back from a backup.
    Restore {
        /// When.
        at: Instant,
        /// Their data keys.
        keys: Vec<(KeyTag, Vec<u8>)>,
        /// The rows.
        rows: Vec<Row>,
    },
    /// Data keys were destroyed, whatever was counted under them.
    DestroyKeys {
        /// When.
        at: Instant,
        /// The keys.
        keys: Vec<KeyTag>,
    },
}

/// When the wraps of keys that a change destroys are renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wraps {
    /// In the same commit: what lay under the keys is gone.
    Now,
    /// By a later `RenewWraps`, once for many.
    Later,
}

/// What becomes of the ring key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RingKey {
    /// It stays.
    Kept,
    /// It is renewed.
    Renewed,
}

/// What a change asks of the wraps of data keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand<'a> {
    /// Where a key is destroyed, its bucket and the ring key are renewed, and with them every bucket that is behind: its key may open
    /// keys that the same owner had before.
    WhereLost,
    /// Where a key is destroyed, its bucket is left to a later change if one is to come, because it is behind. What takes nothing away
    /// asks no more: while keys are renewed, writing a record or its like over may well destroy its owner's earlier key.
    Later,
    /// The ring key is renewed, and a new epoch begins.
    NewEpoch,
    /// These buckets, and perhaps the ring key.
    Renew(&'a [u8], RingKey),
}

impl Change {
    /// When it was made.
    pub fn at(&self) -> Instant {
        match self {
            Self::PutCollection { at, .. }
            | Self::DropCollection { at, .. }
            | Self::PutRecords { at, .. }
            | Self::EraseRecords { at, .. }
            | Self::PutEntities { at, .. }
            | Self::RemoveEntities { at, .. }
            | Self::PutBundle { at, .. }
            | Self::PutApiKey { at, .. }
            | Self::RemoveApiKey { at, .. }
            | Self::Reseal { at, .. }
            | Self::Rotate { at, .. }
            | Self::RenewWraps { at, .. }
            | Self::PutHold { at, .. }
            | Self::RemoveHold { at, .. }
            | Self::Restore { at, .. }
            | Self::DestroyKeys { at, .. } => *at,
        }
    }

    /// What tells this writing of each record from every other, in the order in which they were given.
    pub fn stamps(&self) -> impl Iterator<Item = Stamp> {
        let rows = match self {
            Self::PutRecords { rows, .. } => rows.as_slice(),
            Self::PutCollection { .. }
            | Self::DropCollection { .. }
            | Self::EraseRecords { .. }
            | Self::PutEntities { .. }
            | Self::RemoveEntities { .. }
            | Self::PutBundle { .. }
            | Self::PutApiKey { .. }
            | Self::RemoveApiKey { .. }
            | Self::Reseal { .. }
            | Self::Rotate { .. }
            | Self::RenewWraps { .. }
            | Self::Restore { .. }
            | Self::PutHold { .. }
            | Self::RemoveHold { .. }
            | Self::DestroyKeys { .. } => &[],
        };
        rows.iter().map(|row| crypto::stamp_of(&row.value.0).unwrap_or_default())
    }

    /// Its bytes, version first.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StoreError> {
        codec::encode(self, 0).map(|bytes| bytes.to_vec())
    }

    /// Reads what `to_bytes` made. The rows' own seals are checked when they are opened.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::decode(bytes).ok_or(StoreError::DamagedPart("a change"))
    }

    /// What of it an older backup must not undo: what went, and which permissions were written.
    pub(super) fn lasting(&self) -> Vec<Deed> {
        let gone = |key: &RowKey| Deed::Gone { key: Bytes(Zeroizing::new(key.clone())) };
        let changed = |row: &Row| Deed::Changed { key: row.key.clone() };
        match self {
            Self::EraseRecords { rows, .. } | Self::RemoveEntities { rows, .. } => rows.iter().map(gone).collect(),
            Self::RemoveApiKey { row, .. } | Self::RemoveHold { row, .. } => vec![gone(row)],
            Self::DropCollection { row, records, .. } => {
                vec![gone(row), Deed::AllGone { prefix: Bytes(Zeroizing::new(records.clone())) }]
            }
            Self::PutEntities { rows, .. } => rows.iter().map(changed).collect(),
            Self::PutBundle { row, .. } | Self::PutHold { row, .. } => vec![changed(row)],
            Self::PutCollection { .. }
            | Self::PutRecords { .. }
            | Self::PutApiKey { .. }
            | Self::Reseal { .. }
            | Self::Rotate { .. }
            | Self::RenewWraps { .. }
            | Self::Restore { .. }
            | Self::DestroyKeys { .. } => Vec::new(),
        }
    }

    pub(super) fn demand(&self) -> Demand<'_> {
        match self {
            Self::DropCollection { .. }
            | Self::EraseRecords { .. }
            | Self::RemoveEntities { .. }
            | Self::RemoveApiKey { .. }
            | Self::RemoveHold { .. }
            | Self::Restore { .. }
            | Self::DestroyKeys { .. }
            | Self::Reseal { wraps: Wraps::Now, .. } => Demand::WhereLost,
            Self::PutCollection { .. }
            | Self::PutRecords { .. }
            | Self::PutEntities { .. }
            | Self::PutBundle { .. }
            | Self::PutApiKey { .. }
            | Self::PutHold { .. }
            | Self::Reseal { wraps: Wraps::Later, .. } => Demand::Later,
            Self::Rotate { .. } => Demand::NewEpoch,
            Self::RenewWraps { buckets, ring, .. } => Demand::Renew(buckets, *ring),
        }
    }

    pub(super) fn apply(&self, draft: &mut Draft<'_>) -> Result<(), StoreError> {
        match self {
            Self::PutCollection { at: _, keys, row }
            | Self::PutBundle { at: _, keys, row }
            | Self::PutApiKey { at: _, keys, row }
            | Self::PutHold { at: _, keys, row } => put(draft, keys, std::slice::from_ref(row))?,
            Self::PutRecords { at: _, keys, rows }
            | Self::PutEntities { at: _, keys, rows }
            | Self::Restore { at: _, keys, rows } => put(draft, keys, rows)?,
            Self::EraseRecords { at: _, rows } | Self::RemoveEntities { at: _, rows } => {
                rows.iter().try_for_each(|key| draft.remove(key))?;
            }
            Self::RemoveApiKey { at: _, row } | Self::RemoveHold { at: _, row } => draft.remove(row)?,
            Self::Rotate { at: _ } | Self::RenewWraps { at: _, .. } => {}
            Self::DestroyKeys { at: _, keys } => keys.iter().try_for_each(|id| draft.destroy(*id))?,
            Self::Reseal { at: _, wraps: _, keys, rows } => {
                keys.iter().try_for_each(|(id, wrapped)| draft.put_key(*id, wrapped))?;
                rows.iter().try_for_each(|Moved { was, row }| draft.move_row(&was.0, &row.key.0, &row.value.0))?;
            }
            Self::DropCollection { at: _, row, records } => {
                draft.remove(row)?;
                draft.remove_all(records)?;
            }
        }
        draft.settle()
    }
}

fn put(draft: &mut Draft<'_>, keys: &[(KeyTag, Vec<u8>)], rows: &[Row]) -> Result<(), StoreError> {
    keys.iter().try_for_each(|(id, wrapped)| draft.put_key(*id, wrapped))?;
    rows.iter().try_for_each(|row| draft.put(&row.key.0, &row.value.0))
}
