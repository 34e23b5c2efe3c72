//! How long a restart takes, and how much memory a vector: a store of 100,000 generated records of 384 dimensions is made, then
//! opened again. Prints tables; asserts nothing.
//!
//! `cargo bench --bench reopen` (WARDKEEP_BENCH_RECORDS sets another size, WARDKEEP_BENCH_DIR keeps the store and uses it again)

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use comfy_table::Table;
use rustix::time::{ClockId, clock_gettime};
use wardkeep::{
    clock,
    crypto::{KdfCost, KeyRing, Passphrase},
    engine::{Environment, Memory, Settings, Wardkeep},
    index::VectorIndex,
    model::{
        BundleSource, Collection, Embedding, Entity, EntityUid, Isolation, Metric, Phi, Record, Value,
        entity::Attributes,
    },
    store::{Change, OpenOptions, Store, StoredBundle, StoredRecord},
};

/// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DIMENSION: usize = 384;
/// What a start from what was kept should take at most, for so many records: printed beside what it took.
const READY_MS_MAX: u32 = 1_000;
const READY_RECORDS: usize = 100_000;
/// Bytes that a process which holds an index alone should take for each vector at most: 2.1 KiB, and 0.6 KiB in lean memory.
const BYTES_MAX: [(&str, u32); 2] = [("fast", 2_150), ("lean", 614)];
const RECORDS_PER_PATIENT: usize = 20;
const DEPARTMENTS: u64 = 11;
const DOC_TYPES: [&str; 6] =
    ["progress_note", "discharge_summary", "lab_report", "radiology", "psychotherapy", "consult"];
/// What a child of this process is told to do.
const OPEN: &str = "--open-once";
const INDEX: &str = "--index-once";

const SCHEMA: &str = include_str!("../src/policy/starter.cedarschema");

/// xorshift64*: the same hospital every time.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }

    /// Roughly normal: the sum of four uniforms.
    fn normal(&mut self) -> f32 {
        (0..4).map(|_| (self.next() >> 40) as f32 / (1_u64 << 24) as f32 - 0.5).sum()
    }
}

fn main() {
    let records: usize = std::env::var("WARDKEEP_BENCH_RECORDS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    // cargo passes `--bench`; a test run of all targets passes nothing and wants a quick pass.
    let records = if std::env::args().any(|a| a == "--bench") { records } else { 2_000 };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [OPEN, memory, kept] => {
            return open_once(Path::new(&std::env::var("WARDKEEP_BENCH_DIR").unwrap()), memory, kept);
        }
        [INDEX, memory, records] => return index_once(memory, records.parse().unwrap()),
        _ => {}
    }
    let home = tempfile::tempdir().unwrap();
    let kept = std::env::var("WARDKEEP_BENCH_DIR").ok().map(PathBuf::from);
    let dir = kept.unwrap_or_else(|| home.path().join("store"));
    if !dir.join("keyring").exists() {
        found(&dir);
        fill(&dir, records);
    }
    print_size(&dir);
    print_parts(&dir);
    print_openings(&dir, records);
}

fn phrase() -> Passphrase {
    Passphrase::from_bytes(b"a sentence to open it\n".to_vec()).unwrap()
}

fn found(dir: &Path) {
    drop(Wardkeep::create(dir, &phrase(), KdfCost::default(), Environment::default()).unwrap());
}

/// Writes beneath the engine, where no entry of the audit log is needed for each thousand.
fn fill(dir: &Path, records: usize) {
    let store = Store::open(dir, &phrase(), &OpenOptions::default()).unwrap();
    let now = clock::Instant::from_millis(1_770_000_000_000);
    let spec = collection();
    commit(&store, &[store.put_bundle(2, &bundle(now), now).unwrap(), store.put_collection(&spec, now).unwrap()]);
    let patients: Vec<Entity> = (0..records / RECORDS_PER_PATIENT).map(patient).collect();
    for some in patients.chunks(10_000) {
        commit(&store, &[store.put_entities(some, now).unwrap()]);
    }
    let mut rng = Rng(7);
    let mut centre = Vec::new();
    let mut batch = Vec::new();
    for n in 0..records {
        if n % RECORDS_PER_PATIENT == 0 {
            centre = (0..DIMENSION).map(|_| rng.normal()).collect();
        }
        batch.push(StoredRecord { record: record(n, &centre, &mut rng), version: 2 });
        if batch.len() == 1_000 || n + 1 == records {
            commit(&store, &[store.put_records(&spec, &std::mem::take(&mut batch), now).unwrap()]);
        }
    }
}

fn commit(store: &Store, changes: &[Change]) {
    let manifest = store.manifest();
    store.commit(changes, &[], 0).unwrap();
    store.write_manifest(manifest.audit_size, manifest.audit_root, manifest.audit_group).unwrap();
}

fn bundle(at: clock::Instant) -> StoredBundle {
    let source = BundleSource {
        schema: SCHEMA.into(),
        policies: include_str!("../src/policy/starter.cedar").into(),
        note: "the ward".into(),
        ..BundleSource::default()
    };
    StoredBundle { source, author: EntityUid::new("Administrator", "root"), at, restores: None }
}

fn collection() -> Collection {
    Collection {
        name: "ward".parse().unwrap(),
        dimension: DIMENSION,
        metric: Metric::Cosine,
        subject_attribute: "patient".into(),
        isolation: Isolation::Strict,
        embedding_model: None,
    }
}

fn patient(n: usize) -> Entity {
    let mut entity = Entity::bare(patient_uid(n));
    entity.attrs.insert("facility".into(), Value::text(format!("site-{}", n % 5)));
    entity.attrs.insert("vip".into(), Value::Bool(n.is_multiple_of(97)));
    entity
}

fn patient_uid(n: usize) -> EntityUid {
    EntityUid::new("Patient", format!("patient-{n:06}"))
}

/// A note of some 900 bytes with a dozen attributes; a patient's vectors lie near a centre of the patient's own.
fn record(n: usize, centre: &[f32], rng: &mut Rng) -> Record {
    let vector = centre.iter().map(|x| x + 0.7 * rng.normal()).collect();
    let words =
        ["stable", "denies", "pain", "afebrile", "follow-up", "in", "two", "weeks", "dose", "increased", "labs"];
    let text: Vec<&str> = (0..140).map(|_| words[rng.below(words.len() as u64) as usize]).collect();
    let entity = |ty: &str, id: String| Value::Entity(EntityUid::new(ty, id));
    let moment = format!("2026-{:02}-{:02}T{:02}:00:00Z", 1 + rng.below(12), 1 + rng.below(28), rng.below(24));
    let moment = Value::Extension { function: "datetime".into(), arguments: vec![Value::text(moment)] };
    let attrs: Attributes = [
        ("patient".into(), Value::Entity(patient_uid(n / RECORDS_PER_PATIENT))),
        ("doc_type".into(), Value::text(DOC_TYPES[rng.below(DOC_TYPES.len() as u64) as usize])),
        ("department".into(), entity("Department", format!("department-{}", rng.below(DEPARTMENTS)))),
        ("facility".into(), Value::text(format!("site-{}", rng.below(5)))),
        ("sensitivity".into(), Value::Long(rng.below(4) as i64)),
        ("author".into(), entity("Clinician", format!("clinician-{:04}", rng.below(600)))),
        ("created_at".into(), moment),
        ("source".into(), Value::text(format!("interface-{}", rng.below(9)))),
    ]
    .into();
    let document = format!("document-{:06}", n / 4);
    Record {
        id: format!("record-{n:08}").parse().unwrap(),
        document: document.parse().unwrap(),
        embedding: Embedding::new(vector, DIMENSION, Metric::Cosine).unwrap(),
        text: Phi::new(text.join(" ")),
        attrs,
        tags: Attributes::new(),
        parents: [EntityUid::new("Document", format!("ward/{document}")), EntityUid::new("Collection", "ward")].into(),
    }
}

fn print_size(dir: &Path) {
    let mut table = Table::new();
    table.set_header(["on disk", "MiB"]);
    for room in ["engine", "audit", "derived"] {
        table.add_row([room.to_owned(), format!("{:.0}", bytes_below(&dir.join(room)) as f64 / f64::from(1 << 20))]);
    }
    println!("{table}");
}

fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// What a start is made of, each part alone.
fn print_parts(dir: &Path) {
    let mut table = Table::new();
    table.set_header(["part", "ms", "CPU ms"]);
    let mut row = |name: &str, work: &mut dyn FnMut()| {
        let (started, cpu) = (Instant::now(), cpu());
        work();
        table.add_row([name.to_owned(), ms(started.elapsed()), ms(crate::cpu() - cpu)]);
    };
    row("passphrase to key ring", &mut || drop(KeyRing::open(&dir.join("keyring"), &phrase()).unwrap()));
    let mut store = None;
    row("store: key ring, engine, survey", &mut || {
        store = Some(
            Store::open(dir, &phrase(), &OpenOptions { cache_bytes: 256 << 20, ..OpenOptions::default() }).unwrap(),
        );
    });
    let store = store.unwrap();
    row("entities", &mut || drop(store.entities().unwrap()));
    let mut count = 0;
    row("records read, opened and decoded", &mut || {
        store
            .records(&collection().name, &mut |_| {
                count += 1;
                Ok(())
            })
            .unwrap();
    });
    println!("{count} records\n{table}");
}

/// Each opening in a process of its own, so that its memory is its own.
fn print_openings(dir: &Path, records: usize) {
    let mut table = Table::new();
    table.set_header([
        "memory",
        "kept",
        "ready after ms",
        "at most",
        "CPU ms",
        "process MiB",
        "bytes a record",
        "index bytes a vector",
        "closed in ms",
    ]);
    for (memory, kept) in
        [("fast", "no"), ("fast", "yes"), ("fast", "yes"), ("lean", "no"), ("lean", "yes"), ("lean", "yes")]
    {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([OPEN, memory, kept])
            .env("WARDKEEP_BENCH_DIR", dir)
            .output()
            .unwrap();
        let told = String::from_utf8(child.stdout).unwrap();
        let figures: Vec<f64> = told.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let [ready, cpu, grown, index, closed] = figures[..] else {
            panic!("{told}{}", String::from_utf8_lossy(&child.stderr))
        };
        table.add_row([
            memory.to_owned(),
            kept.to_owned(),
            format!("{ready:.0}"),
            if kept == "yes" && records <= READY_RECORDS { READY_MS_MAX.to_string() } else { String::new() },
            format!("{cpu:.0}"),
            format!("{:.0}", grown / f64::from(1 << 20)),
            format!("{:.0}", grown / records as f64),
            format!("{:.0}", index / records as f64),
            format!("{closed:.0}"),
        ]);
    }
    println!("{table}");
    let mut table = Table::new();
    table.set_header(["index alone", "process bytes a vector", "at most", "accounted bytes a vector"]);
    for (memory, most) in BYTES_MAX {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([INDEX, memory, &records.to_string()])
            .output()
            .unwrap();
        let told = String::from_utf8(child.stdout).unwrap();
        let figures: Vec<f64> = told.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let [grown, accounted] = figures[..] else { panic!("{told}") };
        table.add_row([
            memory.to_owned(),
            format!("{:.0}", grown / records as f64),
            most.to_string(),
            format!("{:.0}", accounted / records as f64),
        ]);
    }
    println!("{table}");
}

/// The child's part: opens once, without or with what an earlier run kept, and prints figures.
fn open_once(dir: &Path, memory: &str, kept: &str) {
    if kept == "no" {
        let _ = std::fs::remove_dir_all(dir.join("derived"));
    }
    let memory: Memory = memory.parse().unwrap();
    // so that what is measured is not the engine's cache of pages
    let settings = Settings { memory, cache_bytes: 16 << 20, ..Settings::default() };
    let before = resident();
    let (started, cpu_before) = (Instant::now(), cpu());
    let engine = Wardkeep::open(dir, &phrase(), settings, Environment::default(), &|_| ()).unwrap();
    let (took, spent) = (started.elapsed(), cpu() - cpu_before);
    let grown = resident().saturating_sub(before);
    let (index, _) = engine.index_bytes();
    let closing = Instant::now();
    engine.close();
    let milliseconds = |took: Duration| took.as_secs_f64() * 1e3;
    println!("{} {} {grown} {index} {}", milliseconds(took), milliseconds(spent), milliseconds(closing.elapsed()));
}

/// The child's part: nothing but an index, filled row by row.
fn index_once(memory: &str, records: usize) {
    let mut rng = Rng(7);
    let before = resident();
    let mut index = match memory.parse().unwrap() {
        Memory::Fast => VectorIndex::new(DIMENSION, Metric::Cosine, Isolation::Strict),
        Memory::Lean => VectorIndex::lean(DIMENSION, Metric::Cosine, Isolation::Strict),
    };
    let encoder = index.encoder();
    for _ in 0..records {
        let vector = (0..DIMENSION).map(|_| rng.normal()).collect();
        index.push(&encoder.encode(Embedding::new(vector, DIMENSION, Metric::Cosine).unwrap()));
    }
    println!("{} {}", resident() - before, index.memory_bytes());
}

fn ms(took: Duration) -> String {
    format!("{:.0}", took.as_secs_f64() * 1e3)
}

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}
