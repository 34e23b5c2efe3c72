//! Seals, signatures and disks for tests: simple ones that are not those of the product, and a disk that fails when told to.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::*;
use crate::{
    clock::Instant,
    model::{Action, EntityUid, KeyId, RetrievalId, SealError, Sealer, Signer},
};

pub(super) const ORIGIN: &str = "wardkeep.test/audit";

/// Encrypts with a hash in counter mode, authenticates with HMAC.
pub(super) struct TestSealer {
    key: [u8; 32],
    nonces: AtomicU64,
}

impl TestSealer {
    pub(super) fn new(key: u8) -> Self {
        Self { key: [key; 32], nonces: AtomicU64::new(1) }
    }

    fn mask(&self, nonce: &[u8], bytes: &mut [u8]) {
        for (n, chunk) in bytes.chunks_mut(32).enumerate() {
            let pad = Sha256::new().chain_update(self.key).chain_update(nonce).chain_update(n.to_be_bytes()).finalize();
            chunk.iter_mut().zip(pad).for_each(|(byte, mask)| *byte ^= mask);
        }
    }

    fn tag(&self, place: &[u8], nonce: &[u8], masked: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).unwrap();
        mac.update(&(place.len() as u64).to_be_bytes());
        [place, nonce, masked].iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

impl Sealer for TestSealer {
    fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce = self.nonces.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut masked = plain.to_vec();
        self.mask(&nonce, &mut masked);
        let tag = self.tag(place, &nonce, &masked);
        Ok([&nonce[..], &masked, &tag].concat())
    }

    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, rest) = sealed.split_at_checked(8).ok_or(SealError)?;
        let (masked, tag) = rest.split_last_chunk::<32>().ok_or(SealError)?;
        if *tag != self.tag(place, nonce, masked) {
            return Err(SealError);
        }
        let mut plain = masked.to_vec();
        self.mask(nonce, &mut plain);
        Ok(Zeroizing::new(plain))
    }
}

pub(super) struct TestSigner(SigningKey);

impl TestSigner {
    pub(super) fn new(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }
}

impl Signer for TestSigner {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }
}

/// Which step of writing is to fail, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The step does nothing and fails.
    Refuse(io::ErrorKind),
    /// A write leaves so many bytes and then finds no space; other steps do nothing and fail.
    Short(usize),
    /// The step is done, and fails all the same.
    Lie,
}

/// A real disk whose steps fail from one number to another.
pub(super) struct FailingDisk {
    steps: AtomicU64,
    from: AtomicU64,
    until: AtomicU64,
    failure: Failure,
}

impl FailingDisk {
    pub(super) fn new(failure: Failure) -> Arc<Self> {
        let never = AtomicU64::new(u64::MAX);
        Arc::new(Self { steps: AtomicU64::new(0), from: never, until: AtomicU64::new(u64::MAX), failure })
    }

    /// From now on, `after` steps succeed, then `count` fail.
    pub(super) fn fail(&self, after: u64, count: u64) {
        let from = self.steps.load(Ordering::SeqCst) + after;
        self.from.store(from, Ordering::SeqCst);
        self.until.store(from.saturating_add(count), Ordering::SeqCst);
    }

    pub(super) fn mend(&self) {
        self.from.store(u64::MAX, Ordering::SeqCst);
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::SeqCst)
    }

    /// Whether the step that comes now fails.
    fn next(&self) -> Option<Failure> {
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        let fails = step >= self.from.load(Ordering::SeqCst) && step < self.until.load(Ordering::SeqCst);
        fails.then_some(self.failure)
    }

    fn step<T>(&self, doing: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.next() {
            None => doing(),
            Some(Failure::Refuse(kind)) => Err(kind.into()),
            Some(Failure::Short(_)) => Err(io::ErrorKind::StorageFull.into()),
            Some(Failure::Lie) => {
                doing()?;
                Err(io::Error::other("input/output error"))
            }
        }
    }
}

/// A shared failing disk.
#[derive(Clone)]
pub(super) struct OnFailing(pub(super) Arc<FailingDisk>);

impl Disk for OnFailing {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.step(|| RealDisk.make_dir(dir))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.0.step(|| RealDisk.create(path))?;
        Ok(Box::new(FailingFile { file, disk: Arc::clone(&self.0) }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.0.step(|| RealDisk.open(path))?;
        Ok(Box::new(FailingFile { file, disk: Arc::clone(&self.0) }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.step(|| RealDisk.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.step(|| RealDisk.sync_dir(dir))
    }
}

struct FailingFile {
    file: Box<dyn DiskFile>,
    disk: Arc<FailingDisk>,
}

impl DiskFile for FailingFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match self.disk.next() {
            None => self.file.write_at(offset, bytes),
            Some(Failure::Refuse(kind)) => Err(kind.into()),
            Some(Failure::Short(kept)) => {
                self.file.write_at(offset, &bytes[..kept.min(bytes.len())])?;
                Err(io::ErrorKind::StorageFull.into())
            }
            Some(Failure::Lie) => {
                self.file.write_at(offset, bytes)?;
                Err(io::Error::other("input/output error"))
            }
        }
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        let file = &mut self.file;
        self.disk.step(|| file.truncate(bytes))
    }

    fn sync(&mut self) -> io::Result<()> {
        let file = &mut self.file;
        self.disk.step(|| file.sync())
    }
}

/// An entry with every field set.
pub(super) fn full_entry() -> Entry {
    Entry {
        outcome: Outcome::Denied,
        detail: Some("forbidden".into()),
        caller: Some(EntityUid::new("Clinician", "nurse-joy")),
        actor: Some(EntityUid::new("Service", "rag")),
        authentication: Authentication::ApiKey(KeyId([7; 8])),
        source: Some("192.0.2.7".parse().unwrap()),
        action: Some(Action::Retrieve),
        purpose: Some("treatment".into()),
        patient: Some(EntityUid::new("Patient", "patient-0042")),
        collection: Some("notes".parse().unwrap()),
        target: Some(EntityUid::new("CareTeam", "team-9")),
        question: Some([3; 16]),
        bundle: Some(BundleRef { version: 7, digest: [5; 32] }),
        policies: vec!["nurse-care-team".into(), "part2-consent".into()],
        counts: Counts { permitted: Some(130), asked: Some(50), returned: Some(2) },
        records: vec!["rec-000017".parse().unwrap(), "rec-000018".parse().unwrap()],
        patients: vec![EntityUid::new("Patient", "patient-0042")],
        cap: Some(8),
        bound_by: vec!["nurse-care-team".into()],
        withheld: Some(Withheld { records: 3, undecided: 1, by: vec!["nurse-care-team".into()] }),
        model: Some("minilm".into()),
        retrieval: Some(RetrievalId([9; 16])),
        trace: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
        change: Some(12),
        ..Entry::new(Instant::from_millis(1_770_000_000_000), What::Search)
    }
}

/// The entry that tests write as number `n`: different for each, of different lengths.
pub(super) fn entry(n: u64) -> Entry {
    Entry { purpose: Some("x".repeat((n % 7) as usize * 20)), change: Some(n), ..full_entry() }
}

pub(super) fn entries(numbers: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    numbers.map(entry).collect()
}

pub(super) fn sealer() -> Arc<dyn Sealer> {
    Arc::new(TestSealer::new(1))
}

pub(super) fn signer() -> Arc<dyn Signer> {
    Arc::new(TestSigner::new(1))
}

pub(super) fn create(dir: &Path) -> Log {
    Log::create(dir, ORIGIN, sealer(), signer(), Arc::new(RealDisk)).unwrap()
}

pub(super) fn open(dir: &Path, expected: Expected, outbox: Frames) -> Result<Log, LogError> {
    Log::open(dir, ORIGIN, sealer(), signer(), Arc::new(RealDisk), expected, outbox)
}

/// Appends entries `from` to `until` in one group of retrievals.
pub(super) fn append(log: &mut Log, numbers: std::ops::RangeInclusive<u64>) -> Head {
    let staged = log.stage(&entries(numbers)).unwrap();
    log.append(Frames::new(), staged).unwrap()
}

/// What the log says, as the numbers that `entry` was given.
pub(super) fn numbers(log: &Log) -> Vec<u64> {
    let read = log.read(0, usize::MAX).unwrap();
    assert!(read.iter().map(|(sequence, _)| *sequence).eq(1..=read.len() as u64));
    read.into_iter().map(|(_, entry)| entry.change.unwrap()).collect()
}
