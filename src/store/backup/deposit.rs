//! What an escrow holds beside the root secret: the data keys; what every row is, so that a restore knows what went or changed since a
//! backup; and the legal holds themselves, which a restore must not lose.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{BackupError, Digest, Index, digest, withdrawn::Point};
use crate::{
    clock::Instant,
    crypto::KeyTag,
    store::{
        Kind, Store, StoreError,
        codec::{self, Bytes},
    },
};

/// Data keys, or rows, in one part.
const PART: usize = 50_000;

/// The parts follow one another, each behind its length.
#[derive(Serialize, Deserialize)]
enum Part {
    Head {
        at: Instant,
        sequence: u64,
    },
    Keys(Vec<(KeyTag, Bytes)>),
    Rows(Vec<(Digest, RowDeposit)>),
    Ledger(Point),
    /// The rows of legal holds, as they are sealed in the engine.
    Holds(Vec<(Bytes, Bytes)>),
}

/// What an escrow knows of a row.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct RowDeposit {
    /// The first byte of its key: its kind.
    pub(super) kind: u8,
    pub(super) value: Digest,
}

/// An escrow's body, read.
#[derive(Default)]
pub(super) struct Deposit {
    pub(super) at: Option<Instant>,
    pub(super) sequence: u64,
    /// How far the ledger was.
    pub(super) ledger: Option<Point>,
    /// Data keys, each as a change carries it.
    pub(super) keys: HashMap<KeyTag, Vec<u8>>,
    /// Rows, by the digests of their keys.
    pub(super) rows: HashMap<Digest, RowDeposit>,
    /// Legal holds, each with its row's name; `None` in an escrow from before these were put in.
    pub(super) holds: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl Store {
    /// All that a restore needs of the keys, for its holder alone: without the key provider (the passphrase) it is noise. It opens
    /// every backup of this store as far as things were there when it was taken, so it must not outlive the next erasure by much.
    pub fn escrow(&self, at: Instant) -> Result<Vec<u8>, BackupError> {
        let (mut rows, mut holds) = (Index::new(), BTreeMap::new());
        let mut note = |key: &[u8], value: Option<&[u8]>| {
            if Kind::of(key) == Some(Kind::Hold) {
                match value {
                    Some(value) => holds.insert(key.to_vec(), value.to_vec()),
                    None => holds.remove(key),
                };
            }
            match value {
                Some(value) => rows.insert(key.to_vec(), digest(value)),
                None => rows.remove(key),
            };
            Ok(())
        };
        let watch = self.watch()?;
        self.each_row(&mut note)?;
        let (sequence, keys, ledger) = watch.settle(&mut note, |account| {
            let ledger = self.withdrawals.enter_escrow(at, account.sequence)?;
            Ok((account.sequence, self.keychain.all()?, ledger))
        })?;
        let mut body = Zeroizing::new(Vec::with_capacity(keys.len() * 128 + rows.len() * 34));
        write(&mut body, &Part::Head { at, sequence })?;
        write(&mut body, &Part::Ledger(ledger))?;
        let keys: Vec<_> = keys.into_iter().map(|(id, carried)| (id, Bytes(Zeroizing::new(carried)))).collect();
        for part in keys.chunks(PART) {
            write(&mut body, &Part::Keys(part.to_vec()))?;
        }
        let known = |(key, value): (&Vec<u8>, &Digest)| {
            (digest(key), RowDeposit { kind: key.first().copied().unwrap_or_default(), value: *value })
        };
        let rows: Vec<_> = rows.iter().map(known).collect();
        for part in rows.chunks(PART) {
            write(&mut body, &Part::Rows(part.to_vec()))?;
        }
        let holds: Vec<_> = holds.into_iter().map(|(key, value)| (Bytes(key.into()), Bytes(value.into()))).collect();
        for part in holds.chunks(PART) {
            write(&mut body, &Part::Holds(part.to_vec()))?;
        }
        if holds.is_empty() {
            write(&mut body, &Part::Holds(Vec::new()))?;
        }
        Ok(self.ring().escrow(&body, &*self.entropy).map_err(StoreError::from)?)
    }
}

impl Deposit {
    pub(super) fn read(mut body: &[u8]) -> Option<Self> {
        let mut deposit = Self::default();
        while let Some((length, rest)) = body.split_first_chunk() {
            let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
            match codec::decode(part)? {
                Part::Head { at, sequence } => (deposit.at, deposit.sequence) = (Some(at), sequence),
                Part::Keys(keys) => deposit.keys.extend(keys.into_iter().map(|(id, carried)| (id, carried.0.to_vec()))),
                Part::Rows(rows) => deposit.rows.extend(rows),
                Part::Ledger(point) => deposit.ledger = Some(point),
                Part::Holds(holds) => {
                    let rows = holds.into_iter().map(|(key, value)| (key.0.to_vec(), value.0.to_vec()));
                    deposit.holds.get_or_insert_default().extend(rows);
                }
            }
            body = rest;
        }
        (body.is_empty() && deposit.at.is_some()).then_some(deposit)
    }
}

/// A body as it was before escrows held legal holds, and before that the place in the ledger too.
#[cfg(test)]
pub(super) fn of_an_older_build(mut body: &[u8], knows_the_ledger: bool) -> Vec<u8> {
    let mut older = Vec::new();
    while let Some((length, rest)) = body.split_first_chunk::<4>() {
        let (part, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        match codec::decode(part).unwrap() {
            Part::Holds(_) => {}
            Part::Ledger(_) if !knows_the_ledger => {}
            Part::Head { .. } | Part::Keys(_) | Part::Rows(_) | Part::Ledger(_) => {
                older.extend_from_slice(length);
                older.extend_from_slice(part);
            }
        }
        body = rest;
    }
    older
}

fn write(body: &mut Vec<u8>, part: &Part) -> Result<(), StoreError> {
    let bytes = codec::encode(part, 1 << 20)?;
    body.extend_from_slice(&u32::try_from(bytes.len()).map_err(|_| StoreError::TooLarge)?.to_le_bytes());
    body.extend_from_slice(&bytes);
    Ok(())
}
