//! The engine's account of itself: how many rows of each kind there are, and a keyed sum over all of them. It is written
//! in the same batch as the rows, so whatever the engine loses or brings back is seen when the sums are made again.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    Kind, StoreError, codec,
    draft::{Draft, Live, Touched},
};
use crate::crypto::{KeyRing, KeyTag};

/// Rows of one kind: how many, and the sum of their keyed hashes (four lanes, each modulo 2^64). The terms are known to
/// the ring's holder alone, so nobody else can find another set of rows with the same sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) count: u64,
    sum: [u64; 4],
}

impl Tally {
    pub(super) fn add(&mut self, term: [u8; 32]) {
        self.count = self.count.wrapping_add(1);
        self.shift(term, u64::wrapping_add);
    }

    fn subtract(&mut self, term: [u8; 32]) {
        self.count = self.count.wrapping_sub(1);
        self.shift(term, u64::wrapping_sub);
    }

    fn shift(&mut self, term: [u8; 32], by: fn(u64, u64) -> u64) {
        for (lane, eight) in self.sum.iter_mut().zip(term.as_chunks::<8>().0) {
            *lane = by(*lane, u64::from_le_bytes(*eight));
        }
    }
}

/// The account, as it is sealed in the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Account {
    /// Number of the last change.
    pub(super) sequence: u64,
    /// Number of the last commit.
    pub(super) commits: u64,
    tallies: [Tally; Kind::ALL.len()],
}

/// The account as it is written: kinds that came later are at the end of the list.
#[derive(Serialize, Deserialize)]
struct Written {
    sequence: u64,
    commits: u64,
    tallies: Vec<Tally>,
}

/// Kinds that there were until 0.1, when the list had no length. Neither form reads as the other: 34 numbers are left of the old one
/// behind what would be a length, and a tally has five.
const FIRST_KINDS: usize = 7;

#[derive(Deserialize)]
struct FirstWritten {
    sequence: u64,
    commits: u64,
    tallies: [Tally; FIRST_KINDS],
}

impl Account {
    pub(super) fn tally(&mut self, kind: Kind) -> &mut Tally {
        let [keys, collections, records, entities, bundles, api_keys, outbox, key_buckets, holds] = &mut self.tallies;
        match kind {
            Kind::DataKey => keys,
            Kind::Collection => collections,
            Kind::Record => records,
            Kind::Entity => entities,
            Kind::Bundle => bundles,
            Kind::ApiKey => api_keys,
            Kind::Outbox => outbox,
            Kind::KeyBucket => key_buckets,
            Kind::Hold => holds,
        }
    }

    /// How many rows of each kind.
    pub(super) fn counts(&self) -> Vec<(Kind, u64)> {
        Kind::ALL.into_iter().zip(self.tallies.iter().map(|tally| tally.count)).collect()
    }

    /// The kinds whose rows are not those of `found`, with both counts.
    pub(super) fn differences(&self, found: &Self) -> Vec<(Kind, u64, u64)> {
        let pairs = Kind::ALL.into_iter().zip(self.tallies.iter().zip(&found.tallies));
        pairs.filter(|(_, (a, b))| a != b).map(|(kind, (a, b))| (kind, a.count, b.count)).collect()
    }

    /// One hash over all of it, for the manifest.
    pub(super) fn root(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"wardkeep/root/1");
        for n in [self.sequence, self.commits] {
            hash.update(n.to_be_bytes());
        }
        // a kind that came later counts from its first row on: until then the root is the one that older manifests know
        let (first, later) = self.tallies.split_at_checked(FIRST_KINDS).unwrap_or((&self.tallies, &[]));
        for tally in first.iter().chain(later.iter().filter(|tally| **tally != Tally::default())) {
            hash.update(tally.count.to_be_bytes());
            tally.sum.iter().for_each(|lane| hash.update(lane.to_be_bytes()));
        }
        hash.finalize().into()
    }

    /// The account after a draft of `changes` changes.
    pub(super) fn after(&self, draft: &Draft<'_>, changes: u64, ring: &KeyRing) -> Self {
        let mut next = *self;
        next.sequence = next.sequence.saturating_add(changes);
        next.commits = next.commits.saturating_add(1);
        for (key, Touched { before, after }) in draft.touched() {
            if let Some(kind) = Kind::of(key) {
                let tally = next.tally(kind);
                before.iter().for_each(|value| tally.subtract(ring.row(key, value)));
                after.iter().for_each(|value| tally.add(ring.row(key, value)));
            }
        }
        next
    }

    pub(super) fn seal(&self, ring: &KeyRing) -> Result<Vec<u8>, StoreError> {
        let written = Written { sequence: self.sequence, commits: self.commits, tallies: self.tallies.to_vec() };
        Ok(ring.sealer("account").seal(b"", &codec::encode(&written, 512)?)?)
    }

    pub(super) fn open(ring: &KeyRing, sealed: &[u8]) -> Result<Self, StoreError> {
        let damaged = StoreError::DamagedPart("the store's account of its objects");
        let plain = ring.sealer("account").open(b"", sealed).map_err(|_| damaged.clone())?;
        decode(&plain).ok_or(damaged)
    }
}

fn decode(plain: &[u8]) -> Option<Account> {
    let Written { sequence, commits, tallies } = codec::decode(plain).or_else(|| {
        let FirstWritten { sequence, commits, tallies } = codec::decode(plain)?;
        Some(Written { sequence, commits, tallies: tallies.into() })
    })?;
    let mut account = Account { sequence, commits, ..Account::default() };
    for (at, tally) in tallies.into_iter().enumerate() {
        *account.tallies.get_mut(at)? = tally;
    }
    Some(account)
}

/// What the one writer knows.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) account: Account,
    /// Rows under each data key.
    pub(super) live: Live,
    /// Data keys destroyed since the store was opened.
    pub(super) destroyed: HashSet<KeyTag>,
    /// Audit frames that wait in the engine.
    pub(super) outbox: BTreeSet<u64>,
    /// A write failed: nothing more is written until the store is opened anew.
    pub(super) halted: bool,
    /// Rows that commits touched since somebody began to copy all of them.
    pub(super) watched: Option<BTreeSet<Vec<u8>>>,
}

impl Ledger {
    /// Takes over the counts of a durable commit.
    pub(super) fn adopt(&mut self, account: Account, counts: HashMap<KeyTag, u64>, gone: &HashSet<KeyTag>) {
        self.account = account;
        for (id, n) in counts {
            if n == 0 {
                self.live.remove(&id)
            } else {
                self.live.insert(id, n)
            };
        }
        self.destroyed.extend(gone);
    }
}
