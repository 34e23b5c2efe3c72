//! A drill: 100,000 generated records of 384 dimensions are backed up, changed a little, backed up again, and restored; every seal of what
//! came back is opened. Prints a table; asserts that it is sound.
//!
//! `cargo bench --bench backup` (WARDKEEP_BENCH_RECORDS sets another size)

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::{path::Path, time::Instant};

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use wardkeep::{
    clock,
    crypto::{KdfCost, Passphrase},
    model::{Collection, Embedding, EntityUid, Isolation, Metric, Phi, Record, Value},
    store::{LogCut, OpenOptions, Plan, Store, StoredRecord, Taken, restore},
};

/// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DIMENSION: usize = 384;
const BATCH: usize = 1_000;
const RECORDS_PER_PATIENT: usize = 20;

fn main() {
    let records: usize = std::env::var("WARDKEEP_BENCH_RECORDS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    // cargo passes `--bench`; a test run of all targets passes nothing and wants a quick pass.
    let records = if std::env::args().any(|a| a == "--bench") { records } else { 2_000 };
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    let store = Store::create(&path("data"), &phrase(), KdfCost::default(), &OpenOptions::default()).unwrap();
    for from in (0..records).step_by(BATCH) {
        put(&store, from..(from + BATCH).min(records), 1);
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["step", "seconds", "objects", "bytes"]);
    let mut row = |step: &str, begun: Instant, objects: u64, bytes: u64| {
        table.add_row([
            step.to_owned(),
            format!("{:.2}", begun.elapsed().as_secs_f64()),
            objects.to_string(),
            bytes.to_string(),
        ]);
    };

    let begun = Instant::now();
    let whole = back_up(&store, &path("backup"));
    row("whole backup", begun, whole.changed, whole.bytes);
    put(&store, 0..(records / 100).max(1), 2);
    let begun = Instant::now();
    let added = back_up(&store, &path("backup"));
    row("what changed: one in a hundred", begun, added.changed, added.bytes);
    let begun = Instant::now();
    let escrow = store.escrow(now()).unwrap();
    row("escrow", begun, whole.objects, escrow.len() as u64);

    let begun = Instant::now();
    let passphrase = phrase();
    let plan = Plan {
        from: &path("backup"),
        until: None,
        escrow: &escrow,
        ledger: None,
        accept_missing_ledger: false,
        unlock: &passphrase,
        to: &path("restored"),
        now: now(),
        accept_old_escrow: false,
        accept_older_permissions: false,
    };
    let restored = restore(&plan, &OpenOptions::default(), &|_| ()).unwrap();
    row("restore", begun, restored.objects, whole.bytes + added.bytes);
    let begun = Instant::now();
    let report = Store::examine(&path("restored"), &phrase(), &OpenOptions::default()).unwrap();
    row("every seal opened", begun, report.counts.iter().map(|(_, n)| n).sum(), 0);
    println!("{table}");
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(restored.gone_since + restored.older + restored.lost, 0);
}

fn now() -> clock::Instant {
    clock::Instant::from_millis(1_770_000_000_000)
}

fn phrase() -> Passphrase {
    Passphrase::from_bytes(b"a sentence to open it\n".to_vec()).unwrap()
}

fn put(store: &Store, range: std::ops::Range<usize>, version: u64) {
    let records: Vec<_> = range.map(|n| record(n, version)).collect();
    store.commit(&[store.put_records(&collection(), &records, now()).unwrap()], &[], 0).unwrap();
    store.write_manifest(0, [0; 32], 0).unwrap();
}

fn back_up(store: &Store, to: &Path) -> Taken {
    let mut copying = store.back_up_to(to).unwrap();
    copying.rows(&|_| ()).unwrap();
    copying.settle(LogCut::default(), now()).unwrap();
    copying.finish().unwrap()
}

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

/// A record of about 2.5 KB.
fn record(n: usize, version: u64) -> StoredRecord {
    let components = (0..DIMENSION).map(|i| ((n * 7 + i * 13) % 1_009) as f32 - 504.5).collect();
    let record = Record {
        id: format!("rec-{n:08}").parse().unwrap(),
        document: format!("doc-{:08}", n / 5).parse().unwrap(),
        embedding: Embedding::new(components, DIMENSION, Metric::Cosine).unwrap(),
        text: Phi::new("a clinical note of some length, ".repeat(25)),
        attrs: [
            ("patient".into(), Value::Entity(EntityUid::new("Patient", format!("p-{}", n / RECORDS_PER_PATIENT)))),
            ("department".into(), Value::text("cardiology")),
        ]
        .into(),
        tags: [].into(),
        parents: [EntityUid::new("Collection", "bench")].into(),
    };
    StoredRecord { record, version }
}
