//! What sealing, storing and reading cost: `cargo bench --bench seal`.

use std::{hint::black_box, path::Path};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use wardkeep::{
    clock::Instant,
    crypto::{DataKey, Entropy, KdfCost, OsEntropy, Passphrase},
    model::{Collection, Embedding, EntityUid, Isolation, Metric, Phi, Record, Value},
    store::{OpenOptions, Store, StoredRecord},
};

const BATCH: usize = 1_000;
const DIMENSION: usize = 384;

fn collection() -> Collection {
    Collection {
        name: "bench".parse().unwrap(),
        dimension: DIMENSION,
        metric: Metric::Cosine,
        subject_attribute: "patient".into(),
        isolation: Isolation::Strict,
        embedding_model: None,
    }
}

/// A record of about 2.5 KB; twenty records a patient.
fn record(n: usize) -> StoredRecord {
    let components = (0..DIMENSION).map(|i| ((n * 7 + i * 13) % 1_009) as f32 - 504.5).collect();
    let record = Record {
        id: format!("rec-{n:08}").parse().unwrap(),
        document: format!("doc-{:08}", n / 5).parse().unwrap(),
        embedding: Embedding::new(components, DIMENSION, Metric::Cosine).unwrap(),
        text: Phi::new("a clinical note of some length, ".repeat(25)),
        attrs: [
            ("patient".into(), Value::Entity(EntityUid::new("Patient", format!("p-{}", n / 20)))),
            ("department".into(), Value::text("cardiology")),
            ("kind".into(), Value::text("progress-note")),
        ]
        .into(),
        tags: [].into(),
        parents: [EntityUid::new("Collection", "bench")].into(),
    };
    StoredRecord { record, version: 1 }
}

fn store(dir: &Path) -> Store {
    let passphrase = Passphrase::from_bytes(b"a sentence to open it".to_vec()).unwrap();
    Store::create(dir, &passphrase, KdfCost::FLOOR, &OpenOptions::default()).unwrap()
}

fn batch(from: usize) -> Vec<StoredRecord> {
    (from..from + BATCH).map(record).collect()
}

fn put(store: &Store, records: &[StoredRecord]) {
    let change = store.put_records(&collection(), records, Instant::from_millis(0)).unwrap();
    store.commit(&[change], &[], 0).unwrap();
    store.write_manifest(0, [0; 32], 0).unwrap();
}

fn envelope(c: &mut Criterion) {
    let mut group = c.benchmark_group("envelope 2.5 KB");
    let key = DataKey::generate(&OsEntropy).unwrap();
    let plain = vec![7_u8; 2_560];
    let place: [&[u8]; 2] = [b"row", b"name"];
    group.throughput(Throughput::Bytes(plain.len() as u64));
    group.bench_function("seal", |b| {
        b.iter(|| {
            let mut nonce = [0; 24];
            OsEntropy.fill(&mut nonce).unwrap();
            key.seal(&nonce, &place, black_box(&plain)).unwrap()
        });
    });
    let sealed = key.seal(&[1; 24], &place, &plain).unwrap();
    group.bench_function("open", |b| b.iter(|| key.open(&place, black_box(&sealed)).unwrap()));
    group.finish();
}

fn writing(c: &mut Criterion) {
    let mut group = c.benchmark_group("1,000 records x 384");
    group.sample_size(20);
    group.throughput(Throughput::Elements(BATCH as u64));
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("data"));
    let mut next = 0;
    let mut fresh = || {
        next += BATCH;
        batch(next)
    };
    let records = fresh();
    group.bench_function("put_records", |b| {
        b.iter(|| store.put_records(&collection(), black_box(&records), Instant::from_millis(0)).unwrap());
    });
    group.bench_function("put_records + commit + manifest", |b| {
        b.iter_batched(&mut fresh, |records| put(&store, &records), BatchSize::PerIteration);
    });
    group.finish();
}

fn reading(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("data"));
    (0..10).for_each(|n| put(&store, &batch(n * BATCH)));
    let (name, mut n) = (collection().name, 0);
    c.bench_function("record() of 10,000", |b| {
        b.iter(|| {
            n = (n + 7_919) % 10_000;
            store.record(&name, &format!("rec-{n:08}").parse().unwrap()).unwrap().unwrap()
        });
    });
    c.bench_function("records() of 10,000", |b| {
        b.iter(|| {
            let mut seen = 0;
            store
                .records(&name, &mut |record| {
                    seen += black_box(record).record.text.reveal().len();
                    Ok(())
                })
                .unwrap();
            seen
        });
    });
}

criterion_group!(benches, envelope, writing, reading);
criterion_main!(benches);
