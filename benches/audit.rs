//! What an audit entry costs: groups of 1, 16 and 128, and opening a log. `cargo bench --bench audit`

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wardkeep::{
    audit::{Authentication, BundleRef, Counts, Entry, Frames, Log, RealDisk, What, verify},
    clock::Instant,
    model::{Action, EntityUid, KeyId, RetrievalId, SealError, Sealer, Signer},
};
use zeroize::Zeroizing;

const ORIGIN: &str = "wardkeep.bench/audit";

/// A stand-in: masks with a constant and authenticates, which costs about what the real seal does.
struct BenchSealer(AtomicU64);

impl BenchSealer {
    fn tag(place: &[u8], masked: &[u8]) -> Result<[u8; 32], SealError> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&[7; 32]).map_err(|_| SealError)?;
        mac.update(place);
        mac.update(masked);
        Ok(mac.finalize().into_bytes().into())
    }
}

impl Sealer for BenchSealer {
    fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce = self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut sealed = nonce.to_vec();
        sealed.extend(plain.iter().map(|byte| byte ^ 0x5a));
        let tag = Self::tag(place, &sealed)?;
        sealed.extend(tag);
        Ok(sealed)
    }

    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (masked, tag) = sealed.split_last_chunk::<32>().ok_or(SealError)?;
        if *tag != Self::tag(place, masked)? {
            return Err(SealError);
        }
        Ok(Zeroizing::new(masked.iter().skip(8).map(|byte| byte ^ 0x5a).collect()))
    }
}

struct BenchSigner(SigningKey);

impl Signer for BenchSigner {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }
}

/// What a nurse's search of ten records leaves.
fn entry(n: u64) -> Entry {
    let records = (0..10).filter_map(|hit| format!("rec-{:06}", n % 90_000 * 10 + hit).parse().ok());
    Entry {
        caller: Some(EntityUid::new("Clinician", "nurse-0017")),
        authentication: Authentication::ApiKey(KeyId([7; 8])),
        source: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        action: Some(Action::Retrieve),
        purpose: Some("treatment".into()),
        collection: "notes".parse().ok(),
        question: Some([3; 16]),
        bundle: Some(BundleRef { version: 7, digest: [5; 32] }),
        policies: vec!["nurse-care-team".into()],
        counts: Counts { permitted: Some(130), asked: Some(10), returned: Some(10) },
        records: records.collect(),
        patients: vec![EntityUid::new("Patient", "patient-0042"), EntityUid::new("Patient", "patient-0043")],
        cap: Some(10),
        bound_by: vec!["requested".into()],
        retrieval: Some(RetrievalId([9; 16])),
        ..Entry::new(Instant::from_millis(1_770_000_000_000), What::Search)
    }
}

fn keys() -> (Arc<dyn Sealer>, Arc<dyn Signer>) {
    (Arc::new(BenchSealer(AtomicU64::new(0))), Arc::new(BenchSigner(SigningKey::from_bytes(&[1; 32]))))
}

fn benches(criterion: &mut Criterion) {
    if let Err(error) = measure(criterion) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn measure(criterion: &mut Criterion) -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir_in(".")?;
    let (sealer, signer) = keys();
    let mut log = Log::create(&dir.path().join("append"), ORIGIN, sealer.clone(), signer.clone(), Arc::new(RealDisk))?;
    let mut group = criterion.benchmark_group("audit_append");
    for size in [1_u64, 16, 128] {
        let entries: Vec<Entry> = (0..size).map(entry).collect();
        group.throughput(Throughput::Elements(size));
        group.bench_function(format!("group_of_{size}"), |bencher| {
            bencher.iter(|| log.stage(&entries).and_then(|staged| log.append(Frames::new(), staged)).is_ok());
        });
    }
    let entries: Vec<Entry> = (0..128).map(entry).collect();
    group.bench_function("stage_128_without_the_disk", |bencher| {
        bencher.iter(|| {
            let staged = log.stage(&entries).is_ok();
            log.unstage();
            staged
        });
    });
    group.finish();

    let long = dir.path().join("open");
    let mut log = Log::create(&long, ORIGIN, sealer.clone(), signer.clone(), Arc::new(RealDisk))?;
    for first in 0..782_u64 {
        let staged = log.stage(&(0..128).map(|n| entry(first * 128 + n)).collect::<Vec<_>>())?;
        log.append(Frames::new(), staged)?;
    }
    let head = log.head();
    let mut group = criterion.benchmark_group("audit_read");
    group.throughput(Throughput::Elements(head.size));
    group.sample_size(10);
    group.bench_function("open_100k", |bencher| {
        let opened = || {
            Log::open(&long, ORIGIN, sealer.clone(), signer.clone(), Arc::new(RealDisk), head, Frames::new()).is_ok()
        };
        bencher.iter(opened);
    });
    group.bench_function("verify_100k_with_seals", |bencher| {
        bencher.iter(|| verify(&long, ORIGIN, Some(sealer.as_ref()), signer.public_key(), Some(head)).is_sound());
    });
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("page_of_1000_from_the_middle", |bencher| {
        bencher.iter(|| log.read(50_000, 1_000).map(|page| page.len()).ok());
    });
    group.finish();
    Ok(())
}

criterion_group!(audit, benches);
criterion_main!(audit);
