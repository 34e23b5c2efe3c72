//! What lies on disk: nothing readable, nothing changed without being noticed, and clear words at the door.
//! Bytes are changed at a few dozen positions of each file; `WARDKEEP_TESTS=full` tries many more, `WARDKEEP_SEED` repeats a run.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use wardkeep::{
    audit,
    crypto::KdfCost,
    engine::{Environment, Settings, Wardkeep, origin_of},
    store::{self, EngineKind, OpenOptions, Store},
};

use super::{
    harness::{self, Client, Server, passphrase},
    plain::{
        self, Dice, Process, assert_sound, bare_command, bundle, closed, command, copy, files, full, on_each_engine,
        question, record, run, said,
    },
};

// ---- nothing readable ------------------------------------------------------------------------------------------------------

/// Runs of bytes that must not be found, by their length.
#[derive(Default)]
struct Planted {
    by_length: BTreeMap<usize, Runs>,
}

/// Hashes of runs of one length, and a filter before them.
#[derive(Default)]
struct Runs {
    hashes: Vec<u64>,
    filter: Vec<u64>,
}

const FILTER_BITS: u64 = 1 << 27;
const BASE: u64 = 0x9E37_79B9_7F4A_7C15;

/// Every run of `length` bytes and where it begins; runs of one byte repeated say nothing.
fn runs(bytes: &[u8], length: usize) -> impl Iterator<Item = (usize, u64)> + '_ {
    let top = (1..length).fold(1_u64, |power, _| power.wrapping_mul(BASE));
    let (mut hash, mut same) = (0_u64, 0_usize);
    bytes.iter().enumerate().filter_map(move |(at, byte)| {
        let gone = if at >= length { bytes[at - length] } else { 0 };
        hash = hash.wrapping_sub(top.wrapping_mul(u64::from(gone))).wrapping_mul(BASE).wrapping_add(u64::from(*byte));
        same = if at > 0 && bytes[at - 1] == *byte { same + 1 } else { 1 };
        (at + 1 >= length && same < length)
            .then(|| (at + 1 - length, (hash ^ (hash >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9)))
    })
}

impl Planted {
    /// Runs of `length` bytes of `value`: those that begin at multiples of `stride`; in a long run of the tests, all.
    fn plant(&mut self, value: &[u8], length: usize, stride: usize) {
        let stride = if full() { 1 } else { stride };
        let chosen = runs(value, length).filter(|(at, _)| at.is_multiple_of(stride)).map(|(_, hash)| hash);
        self.by_length.entry(length).or_default().hashes.extend(chosen);
    }

    /// A text or id: every twelve bytes of it, raw, in hex and in base64 at each of its three alignments.
    fn plant_text(&mut self, value: &[u8]) {
        if value.len() < 12 {
            return;
        }
        self.plant(value, 12, 1);
        self.plant(hex::encode(value).as_bytes(), 24, 8);
        self.plant(hex::encode_upper(value).as_bytes(), 24, 8);
        for alphabet in [STANDARD, URL_SAFE] {
            for offset in 0..3 {
                let encoded = alphabet.encode([vec![0; offset], value.to_vec()].concat());
                // Digits that hold bits of the value alone.
                let own = (offset * 8).div_ceil(6)..(offset + value.len()) * 8 / 6;
                self.plant(&encoded.as_bytes()[own], 15, 4);
            }
        }
    }

    /// A vector: every 16 bytes of it, as given and normalised, and every 32 bytes of codes made of it.
    fn plant_vector(&mut self, vector: &[f32]) {
        for bytes in vector_bytes(vector) {
            self.plant(&bytes, 16, 4);
        }
        for codes in codes(vector) {
            self.plant(&codes, 32, 4);
        }
    }

    fn ready(&mut self) {
        for runs in self.by_length.values_mut() {
            runs.hashes.sort_unstable();
            runs.hashes.dedup();
            runs.filter = vec![0; usize::try_from(FILTER_BITS / 64).unwrap()];
            for hash in &runs.hashes {
                let bit = hash % FILTER_BITS;
                runs.filter[usize::try_from(bit / 64).unwrap()] |= 1 << (bit % 64);
            }
        }
    }

    fn len(&self) -> usize {
        self.by_length.values().map(|runs| runs.hashes.len()).sum()
    }

    /// Which of the runs lie in the files below `dir`: length, hash, file, place.
    fn found(&self, dir: &Path) -> BTreeMap<(usize, u64), (PathBuf, usize)> {
        let mut found = BTreeMap::new();
        for file in files(dir) {
            let bytes = fs::read(&file).unwrap();
            for (length, planted) in &self.by_length {
                for (at, hash) in runs(&bytes, *length) {
                    let bit = hash % FILTER_BITS;
                    let may = planted.filter[usize::try_from(bit / 64).unwrap()] & (1 << (bit % 64)) != 0;
                    if may && planted.hashes.binary_search(&hash).is_ok() {
                        found.entry((*length, hash)).or_insert_with(|| (file.clone(), at));
                    }
                }
            }
        }
        found
    }
}

fn normalised(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    vector.iter().map(|x| (f64::from(*x) / length) as f32).collect()
}

fn vector_bytes(vector: &[f32]) -> Vec<Vec<u8>> {
    let bytes = |v: &Vec<f32>| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let own = wardkeep::model::Embedding::new(vector.to_vec(), vector.len(), wardkeep::model::Metric::Cosine).unwrap();
    let forms = [vector.to_vec(), normalised(vector), own.components().to_vec()];
    forms.iter().map(bytes).collect()
}

/// The usual int8 codes (by 127, by the largest component, shifted to unsigned) and the signs as bits in both orders.
fn codes(vector: &[f32]) -> Vec<Vec<u8>> {
    let unit = normalised(vector);
    let largest = unit.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let int8 =
        |scale: f32| unit.iter().map(|x| (x * scale).round().clamp(-127.0, 127.0) as i8 as u8).collect::<Vec<u8>>();
    let (plain, scaled) = (int8(127.0), int8(127.0 / largest));
    let shifted = |codes: &[u8]| codes.iter().map(|c| c.wrapping_add(128)).collect::<Vec<u8>>();
    let bits = |bit: fn(usize) -> u8| {
        unit.chunks(8)
            .map(|eight| eight.iter().enumerate().map(|(i, x)| u8::from(*x > 0.0) << bit(i)).sum())
            .collect::<Vec<u8>>()
    };
    vec![shifted(&plain), shifted(&scaled), plain, scaled, bits(|i| 7 - i as u8), bits(|i| i as u8)]
}

fn vector_of(record: &Json) -> Vec<f32> {
    match record["vector_base64"].as_str() {
        Some(text) => {
            STANDARD.decode(text).unwrap().as_chunks::<4>().0.iter().map(|c| f32::from_le_bytes(*c)).collect()
        }
        None => record["vector"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect(),
    }
}

/// Every text inside a JSON value; ids also as they would stand in JSON, where short ones are long enough.
fn texts(json: &Json, into: &mut Vec<String>) {
    match json {
        Json::String(text) => {
            into.push(text.clone());
            into.push(format!("\"id\":\"{text}\""));
        }
        Json::Array(list) => list.iter().for_each(|one| texts(one, into)),
        Json::Object(fields) => {
            fields.iter().filter(|(name, _)| !name.starts_with("vector")).for_each(|(_, one)| texts(one, into))
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

/// The sample ward and a collection of long names beside it; every text, and every vector.
struct Everything {
    texts: Vec<String>,
    vectors: Vec<Vec<f32>>,
}

const LONG: usize = 40;

fn long_records() -> Vec<Json> {
    let sample = harness::lines("examples/ward/records.ndjson").into_iter().take(LONG);
    sample
        .enumerate()
        .map(|(n, mut record)| {
            record["id"] = json!(format!("record-with-a-long-name-{n:05}"));
            record["document"] = json!(format!("document-with-a-long-name-{:05}", n / 4));
            record["text"] = json!(format!("the narrative of the long-named record {n}: nothing abnormal was found"));
            record["attributes"]["patient"] =
                json!({"type": "Patient", "id": format!("patient-with-a-long-name-{:05}", n / 8)});
            record
        })
        .collect()
}

impl Everything {
    fn gather(keys: &[String]) -> Self {
        let (mut found, mut vectors) = (Vec::new(), Vec::new());
        let mut all = harness::lines("examples/ward/records.ndjson");
        all.extend(long_records());
        let questions = harness::lines("examples/ward/queries.ndjson");
        vectors.extend(all.iter().chain(&questions[..20]).map(vector_of));
        for record in &all {
            texts(record, &mut found);
            let compound = |collection: &str| format!("{collection}/{}", record["id"].as_str().unwrap());
            found.extend([compound("ward"), compound("long-named-collection")]);
        }
        texts(&serde_json::from_str(&harness::file("examples/ward/entities.json")).unwrap(), &mut found);
        let bundle = harness::bundle("policies/clinical");
        texts(&bundle, &mut found);
        found.extend(
            bundle["policies"]
                .as_str()
                .unwrap()
                .lines()
                .chain(bundle["schema"].as_str().unwrap().lines())
                .map(|l| l.trim().to_owned()),
        );
        found.extend(keys.iter().cloned());
        found.extend(
            [plain::PHRASE, "long-named-collection", "an-embedding-model-with-a-name", "treatment", "m-nurse-000"]
                .map(str::to_owned),
        );
        found.sort_unstable();
        found.dedup();
        Self { texts: found, vectors }
    }

    fn planted(&self) -> Planted {
        let mut planted = Planted::default();
        self.texts.iter().for_each(|text| planted.plant_text(text.as_bytes()));
        self.vectors.iter().for_each(|vector| planted.plant_vector(vector));
        planted.ready();
        planted
    }

    /// The same in files that hide nothing, in every form.
    fn write_plainly(&self, dir: &Path) {
        fs::create_dir(dir).unwrap();
        let write = |name: &str, parts: Vec<Vec<u8>>| fs::write(dir.join(name), parts.join(&b"\xff\0"[..])).unwrap();
        let all = |form: &dyn Fn(&[u8]) -> Vec<u8>| self.texts.iter().map(|t| form(t.as_bytes())).collect();
        write("raw", all(&|t| t.to_vec()));
        write("hex", all(&|t| hex::encode(t).into()));
        write("hex-upper", all(&|t| hex::encode_upper(t).into()));
        for offset in 0..3 {
            write(&format!("base64-{offset}"), all(&|t| STANDARD.encode([&vec![7; offset], t].concat()).into()));
            write(&format!("base64-url-{offset}"), all(&|t| URL_SAFE.encode([&vec![7; offset], t].concat()).into()));
        }
        write("vectors", self.vectors.iter().flat_map(|v| vector_bytes(v)).collect());
        write("codes", self.vectors.iter().flat_map(|v| codes(v)).collect());
    }
}

#[test]
fn nothing_planted_can_be_read_in_any_file_while_the_server_runs_or_rests() {
    let server = Server::ward();
    let root = server.root();
    let settings = json!({"dimension": 384, "metric": "cosine", "isolation": "fast", "embedding_model": "an-embedding-model-with-a-name"});
    root.put("/v1/collections/long-named-collection", &settings).ok();
    plain_ok(&root, &long_records());
    let nurse = server.key_for("Clinician", "m-nurse-000");
    let everything = Everything::gather(&[nurse.key.clone(), server.root_key.clone()]);
    let planted = everything.planted();
    println!("{} runs of bytes are looked for", planted.len());

    let mut found = 0;
    for query in harness::lines("examples/ward/queries.ndjson").iter().take(20) {
        let body = json!({"vector_base64": query["vector_base64"], "limit": 10, "purpose": "treatment", "model": "a-language-model-with-a-name"});
        found += nurse.search("ward", &body).expect(200).ids().len();
    }
    assert!(found > 0);
    nurse.post("/v1/collections/ward/records/list", &json!({"purpose": "treatment"})).expect(200);
    assert!(plain::all_entries(&root, 0).len() > 20);
    root.post("/v1/collections/long-named-collection/erase", &json!({"document": "document-with-a-long-name-00003"}))
        .ok();
    server.engine.keep().unwrap();
    assert!(fs::metadata(server.dir.join("derived/data")).unwrap().len() > 500_000, "codes and columns are kept");
    assert_clean(&planted, &server.dir, "while the server runs");

    let (home, dir) = closed(server);
    assert!(dir.join("derived/key").exists());
    assert_clean(&planted, &dir, "at rest");
    let (code, ..) = run(&["store", "verify"], &dir);
    assert_eq!(code, 0);
    assert_clean(&planted, &dir, "after it was verified");

    // The control: the same scan finds every one of them where nothing is sealed.
    let control = home.path().join("control");
    everything.write_plainly(&control);
    let missed = planted.len() - planted.found(&control).len();
    assert_eq!(missed, 0, "the scan misses runs that lie in the open");
}

fn plain_ok(root: &Client, records: &[Json]) {
    let answer = root.put("/v1/collections/long-named-collection/records", &json!({ "records": records })).ok();
    assert_eq!(answer["accepted"], records.len());
}

#[track_caller]
fn assert_clean(planted: &Planted, dir: &Path, when: &str) {
    let found = planted.found(dir);
    let shown: Vec<_> = found.iter().take(5).map(|((length, _), (file, at))| (length, file, at)).collect();
    assert!(found.is_empty(), "{when}: {} runs lie in the open, such as {shown:?}", found.len());
}

// ---- nothing changed without being noticed ----------------------------------------------------------------------------------

/// A store with some history: its directory at three moments, and everything in it at the last.
struct History {
    home: Arc<TempDir>,
    moments: [PathBuf; 3],
    expected: Contents,
}

/// Everything that can be read.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Contents {
    stored: Vec<String>,
    audit: Vec<String>,
}

fn options() -> OpenOptions {
    OpenOptions { cache_bytes: 8 << 20, ..OpenOptions::default() }
}

fn settings() -> Settings {
    Settings { cache_bytes: 8 << 20, ..Settings::default() }
}

/// Reads a store back, and its audit log up to entry `until`.
fn contents(dir: &Path, until: usize) -> Result<Contents, String> {
    let store = Store::open(dir, &passphrase(), &options()).map_err(|e| e.to_string())?;
    let mut stored = Vec::new();
    let read = (|| {
        stored.extend(store.collections()?.iter().map(|c| format!("{c:?}")));
        stored.extend(store.entities()?.iter().map(|e| e.to_json().to_string()));
        stored.extend(store.api_keys()?.iter().map(|k| {
            format!("{} {:?} {:?} {:?} {:?}", k.key_id, k.caller, k.verifier, k.created_at, (k.expires_at, &k.purposes))
        }));
        for version in store.bundle_versions()? {
            stored.push(format!("{version} {:?}", store.bundle_of(version)?));
        }
        for collection in store.collections()? {
            store.records(&collection.name, &mut |one| {
                let (record, vector) = (&one.record, one.record.embedding.components());
                let entity = record.entity(&collection.name).to_json();
                stored.push(format!(
                    "{} {} {vector:?} {entity} {}",
                    record.document.as_str(),
                    record.text.reveal(),
                    one.version
                ));
                Ok(())
            })?;
        }
        Ok(())
    })();
    read.map_err(|e: store::StoreError| e.to_string())?;
    stored.sort();
    let (ring, manifest) = (store.ring(), store.manifest());
    let expected =
        audit::Expected { size: manifest.audit_size, root: manifest.audit_root, group: manifest.audit_group };
    let log = audit::Log::open(
        &store.audit_dir(),
        &origin_of(ring),
        ring.sealer("audit"),
        ring.signer(),
        Arc::new(audit::RealDisk),
        expected,
        store.outbox().map_err(|e| e.to_string())?,
    )
    .map_err(|e| e.to_string())?;
    let entries = log.read(0, until).map_err(|e| e.to_string())?;
    Ok(Contents {
        stored,
        audit: entries.iter().map(|(n, e)| format!("{n} {}", serde_json::to_string(e).unwrap())).collect(),
    })
}

impl History {
    fn new(engine: EngineKind) -> Self {
        let server = plain::server_on(engine);
        let home = Arc::clone(&server.home);
        let moments = ["first", "second", "third"].map(|name| home.path().join(name));
        let root = server.root();
        fill(&root, 0..30);
        let (_, dir) = closed(server);
        copy(&dir, &moments[0]);

        let server = plain::serve(&home, &dir, &root.key, Environment::default());
        let root = server.root();
        fill(&root, 20..60);
        root.put("/v1/policies?allow_widening=true", &bundle(2)).ok();
        root.post("/v1/callers", &json!({"type": "Reader", "id": "reader-1"})).ok();
        (0..3).for_each(|_| drop(root.search("notes", &question("r-003", 5)).ok()));
        let (_, dir) = closed(server);
        copy(&dir, &moments[1]);

        let server = plain::serve(&home, &dir, &root.key, Environment::default());
        let root = server.root();
        fill(&root, 50..80);
        root.post("/v1/collections/notes/erase", &json!({"document": "d-2"})).ok();
        root.put("/v1/policies?allow_widening=true", &bundle(3)).ok();
        let (_, dir) = closed(server);
        copy(&dir, &moments[2]);
        let expected = contents(&dir, usize::MAX).unwrap();
        assert!(
            expected.stored.len() > 70 && expected.audit.len() > 15,
            "{} {}",
            expected.stored.len(),
            expected.audit.len()
        );
        Self { home, moments, expected }
    }

    fn last(&self) -> &Path {
        &self.moments[2]
    }

    /// Opens a forgery as the server would, and reads everything: refused with clear words, or all of it as it was.
    fn verdict(&self, forge: impl FnOnce(&Path)) -> Verdict {
        let forged = tempfile::tempdir_in(self.home.path()).unwrap();
        let dir = forged.path().join("data");
        copy(self.last(), &dir);
        forge(&dir);
        let refused = match Wardkeep::open(&dir, &passphrase(), settings(), Environment::default(), &|_| {}) {
            Err(error) => Some(error.to_string()),
            Ok(engine) => {
                engine.close();
                drop(engine);
                None
            }
        };
        match refused {
            Some(words) => {
                assert!(words.len() > 20 && !words.contains("panic") && !words.contains("r-0"), "{words}");
                Verdict::Refused { words, named: named(&dir) }
            }
            None => match contents(&dir, self.expected.audit.len()) {
                Ok(all) if all == self.expected => Verdict::Harmless,
                Ok(_) => Verdict::Served,
                Err(words) => Verdict::Late { words },
            },
        }
    }
}

/// Whether the offline checks name anything.
fn named(dir: &Path) -> bool {
    let Ok(evidence) = Store::evidence(dir, &passphrase()) else { return true };
    let ring = evidence.ring();
    let head = evidence.manifest().ok().map(|m| audit::Expected {
        size: m.audit_size,
        root: m.audit_root,
        group: m.audit_group,
    });
    let log = audit::verify(
        &evidence.audit_dir(),
        &origin_of(ring),
        Some(ring.sealer("audit").as_ref()),
        ring.signer().public_key(),
        head,
    );
    !log.is_sound() || !evidence.examine(&options()).is_sound()
}

#[derive(Debug, PartialEq)]
enum Verdict {
    /// Not opened, for this reason; and whether the offline checks name damage.
    Refused { words: String, named: bool },
    /// Opened, and everything is as it was.
    Harmless,
    /// Opened, and something else is read than was written.
    Served,
    /// Opened at first and refused later.
    Late { words: String },
}

fn fill(root: &Client, range: std::ops::Range<usize>) {
    let rev = range.start as u64;
    let records: Vec<_> = range.clone().map(|n| record(&format!("r-{n:03}"), &format!("d-{}", n / 10), rev)).collect();
    plain::put_records(root, &records).ok();
    let people: Vec<_> = (0..4)
        .map(|n| json!({"uid": {"type": "Reader", "id": format!("reader-{n}")}, "attrs": {"rev": rev}, "parents": []}))
        .collect();
    root.put("/v1/entities", &json!(people)).ok();
}

/// Files of a directory by their names in it.
fn names(dir: &Path) -> Vec<PathBuf> {
    files(dir).iter().map(|file| file.strip_prefix(dir).unwrap().to_owned()).collect()
}

/// Runs forgeries on two threads. None may be served; what is refused must be named by the offline checks too.
fn try_all(history: &History, forgeries: &[(String, Forgery)]) -> BTreeMap<&'static str, usize> {
    let next = AtomicI64::new(0);
    let verdicts = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((name, forge)) = forgeries.get(usize::try_from(next.fetch_add(1, SeqCst)).unwrap()) {
                    let verdict = history.verdict(forge);
                    verdicts.lock().unwrap().push((name.clone(), verdict));
                }
            });
        }
    });
    let mut counts = BTreeMap::new();
    for (name, verdict) in verdicts.into_inner().unwrap() {
        let kind = match &verdict {
            Verdict::Refused { named: true, .. } => "refused",
            Verdict::Harmless => "harmless",
            Verdict::Refused { named: false, .. } | Verdict::Served | Verdict::Late { .. } => {
                panic!("{name}: {verdict:?}")
            }
        };
        *counts.entry(kind).or_insert(0) += 1;
    }
    println!("{counts:?}");
    counts
}

type Forgery = Box<dyn Fn(&Path) + Send + Sync>;

fn refused(counts: &BTreeMap<&'static str, usize>) -> usize {
    counts.get("refused").copied().unwrap_or(0)
}

on_each_engine!(
    flipped_cut_and_overwritten_bytes_in_any_file_are_refused_or_harmless,
    files_that_are_missing_older_or_another_stores_are_refused_or_harmless,
    any_part_of_an_older_moment_without_the_rest_is_refused_or_harmless,
);

fn flipped_cut_and_overwritten_bytes_in_any_file_are_refused_or_harmless(engine: EngineKind) {
    let history = History::new(engine);
    let mut dice = Dice::new("positions");
    let positions = if full() { 2_000 } else { 16 };
    let mut forgeries: Vec<(String, Forgery)> = Vec::new();
    for name in names(history.last()) {
        let bytes = Arc::new(fs::read(history.last().join(&name)).unwrap());
        let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        let mut forge = |what: String, change: Box<dyn Fn(&mut Vec<u8>) + Send + Sync>| {
            let (name, bytes) = (name.clone(), Arc::clone(&bytes));
            forgeries.push((
                format!("{} {what}", name.display()),
                Box::new(move |dir| {
                    let mut changed = bytes.to_vec();
                    change(&mut changed);
                    fs::write(dir.join(&name), changed).unwrap();
                }),
            ));
        };
        forge("longer by a byte".into(), Box::new(|bytes| bytes.push(7)));
        if used == 0 {
            continue;
        }
        for i in 0..positions {
            // Half of them spread evenly over what is used, half at random.
            let at = if i % 2 == 0 { i * used / positions } else { usize::try_from(dice.below(used as u64)).unwrap() };
            let mask = 1_u8 << dice.below(8);
            forge(format!("byte {at} ^ {mask}"), Box::new(move |bytes| bytes[at] ^= mask));
        }
        for length in [0, 1, used / 3, used / 2, used - 1, usize::try_from(dice.below(used as u64)).unwrap()] {
            forge(format!("cut to {length}"), Box::new(move |bytes| bytes.truncate(length)));
        }
        for _ in 0..2 {
            let (from, to) =
                (usize::try_from(dice.below(used as u64)).unwrap(), usize::try_from(dice.below(used as u64)).unwrap());
            forge(
                format!("64 bytes of {from} over {to}"),
                Box::new(move |bytes| {
                    let piece: Vec<u8> = bytes[from..].iter().take(64).copied().collect();
                    bytes[to..].iter_mut().zip(piece).for_each(|(byte, new)| *byte = new);
                }),
            );
            forge(
                format!("zeros over {to}"),
                Box::new(move |bytes| bytes[to..].iter_mut().take(64).for_each(|b| *b = 0)),
            );
        }
    }
    println!("{} forgeries", forgeries.len());
    let counts = try_all(&history, &forgeries);
    assert!(refused(&counts) > forgeries.len() / 4, "the walk must have hit live bytes: {counts:?}");
}

fn files_that_are_missing_older_or_another_stores_are_refused_or_harmless(engine: EngineKind) {
    let history = History::new(engine);
    let other = History::new(engine);
    let mut forgeries: Vec<(String, Forgery)> = Vec::new();
    let mut forge = |what: String, change: Forgery| forgeries.push((what, change));
    let parts: Vec<PathBuf> = names(history.last()).into_iter().chain(["engine", "audit"].map(PathBuf::from)).collect();
    for name in &parts {
        let gone = name.clone();
        forge(format!("{} is missing", name.display()), Box::new(move |dir| remove(&dir.join(&gone))));
        let sources = [
            ("from the first moment", &history.moments[0]),
            ("from the second moment", &history.moments[1]),
            ("of another store", &other.moments[2]),
        ];
        for (whence, source) in sources {
            let (name, source) = (name.clone(), source.clone());
            if source.join(&name).exists() {
                forge(format!("{} {whence}", name.display()), Box::new(move |dir| put_back(&source, dir, &name)));
            }
        }
    }
    // Several parts of one older moment at once, never all of them.
    let manifests = ["manifest.a", "manifest.b"];
    for moment in &history.moments[..2] {
        for older in [&["engine"][..], &["audit"], &["keyring"]] {
            let (moment, older) = (moment.clone(), older.to_vec());
            forge(
                format!("manifests and {older:?} of {}", moment.file_name().unwrap().display()),
                Box::new(move |dir| {
                    manifests.iter().chain(&older).for_each(|name| put_back(&moment, dir, Path::new(name)));
                }),
            );
        }
        let moment = moment.clone();
        forge(
            format!("engine and audit of {}", moment.file_name().unwrap().display()),
            Box::new(move |dir| {
                ["engine", "audit"].iter().for_each(|name| put_back(&moment, dir, Path::new(name)));
            }),
        );
    }
    // Files of one store exchanged for one another.
    for (a, b) in [
        ("manifest.a", "manifest.b"),
        ("manifest.a", "keyring"),
        ("keyring", engine_file(engine)),
        ("manifest.b", "audit/0000000000000001.log"),
    ] {
        forge(
            format!("{a} and {b} exchanged"),
            Box::new(move |dir| {
                let (one, two) = (fs::read(dir.join(a)).unwrap(), fs::read(dir.join(b)).unwrap());
                fs::write(dir.join(a), two).unwrap();
                fs::write(dir.join(b), one).unwrap();
            }),
        );
    }
    let counts = try_all(&history, &forgeries);
    assert!(refused(&counts) > 20, "{counts:?}");

    // And of these it is certain that they must not open.
    for (name, moment) in [("engine", 0), ("engine", 1), ("audit", 0), ("audit", 1)] {
        let verdict = history.verdict(|dir| put_back(&history.moments[moment], dir, Path::new(name)));
        assert!(matches!(&verdict, Verdict::Refused { named: true, .. }), "older {name}: {verdict:?}");
    }
    for name in ["keyring", "engine", "audit"] {
        let verdict = history.verdict(|dir| put_back(&other.moments[2], dir, Path::new(name)));
        assert!(matches!(&verdict, Verdict::Refused { named: true, .. }), "another store's {name}: {verdict:?}");
        let verdict = history.verdict(|dir| remove(&dir.join(name)));
        assert!(matches!(&verdict, Verdict::Refused { named: true, .. }), "{name} is missing: {verdict:?}");
    }
}

/// The file that holds an engine's rows.
fn engine_file(engine: EngineKind) -> &'static str {
    match engine {
        EngineKind::Sled => "engine/db",
        EngineKind::Redb => "engine/rows.redb",
    }
}

/// Every proper subset of the parts of a data directory, put back as it was at an earlier moment. What can be made again (`derived`) goes
/// with some of them: it knows of no moment by itself.
fn any_part_of_an_older_moment_without_the_rest_is_refused_or_harmless(engine: EngineKind) {
    const PARTS: [&str; 6] = ["keyring", "manifest.a", "manifest.b", "engine", "audit", "ledger"];
    let history = History::new(engine);
    let moments = if full() { &history.moments[..2] } else { &history.moments[1..2] };
    let mut forgeries: Vec<(String, Forgery)> = Vec::new();
    let mut forge = |moment: &Path, older: Vec<&'static str>| {
        let moment = moment.to_owned();
        let what = format!("{older:?} of {}", moment.file_name().unwrap().display());
        let change: Forgery =
            Box::new(move |dir| older.iter().for_each(|name| put_back(&moment, dir, Path::new(name))));
        forgeries.push((what, change));
    };
    for moment in moments {
        forge(moment, vec!["derived"]);
        for subset in 1..(1 << PARTS.len()) - 1 {
            let older: Vec<_> = (0..PARTS.len()).filter(|n| subset & (1 << n) != 0).map(|n| PARTS[n]).collect();
            if full() || subset % 4 == 0 {
                forge(moment, [older.as_slice(), &["derived"]].concat());
            }
            forge(moment, older);
        }
    }
    let counts = try_all(&history, &forgeries);
    assert!(refused(&counts) > forgeries.len() * 3 / 4, "{counts:?}");

    // And of these it is certain that they must not open.
    let all_but_the_ledger =
        |dir: &Path| PARTS[..5].iter().for_each(|name| put_back(&history.moments[1], dir, Path::new(name)));
    let the_ledger = |dir: &Path| put_back(&history.moments[1], dir, Path::new("ledger"));
    let verdicts = [history.verdict(all_but_the_ledger), history.verdict(the_ledger)];
    for verdict in verdicts {
        assert!(matches!(&verdict, Verdict::Refused { named: true, .. }), "{verdict:?}");
    }
}

fn remove(path: &Path) {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
}

/// Puts a part of another directory in the place of this one's.
fn put_back(from: &Path, dir: &Path, name: &Path) {
    let (source, target) = (from.join(name), dir.join(name));
    if target.exists() {
        remove(&target);
    }
    if source.is_dir() { copy(&source, &target) } else { assert!(fs::copy(&source, &target).is_ok()) }
}

#[test]
fn the_command_names_what_is_damaged_and_exits_with_3() {
    let history = History::new(EngineKind::Sled);
    let forged = |forge: &dyn Fn(&Path)| {
        let forged = tempfile::tempdir_in(history.home.path()).unwrap();
        let dir = forged.path().join("data");
        copy(history.last(), &dir);
        forge(&dir);
        let told = run(&["store", "verify", "--json"], &dir);
        let (code, words, _) = run(&["store", "verify"], &dir);
        assert_eq!(told.0, code, "{words}");
        let json: Json = serde_json::from_str(&told.1).unwrap_or_else(|e| panic!("{e}: {}{}", told.1, told.2));
        (code, json, words)
    };
    let flip = |dir: &Path, name: &str, at: fn(usize) -> usize| {
        let mut bytes = fs::read(dir.join(name)).unwrap();
        let at = at(bytes.len());
        bytes[at] ^= 1;
        fs::write(dir.join(name), bytes).unwrap();
    };
    let (code, json, words) = forged(&|_| {});
    assert_eq!((code, &json["sound"], &json["objects"]["record"]), (0, &json!(true), &json!(70)), "{words}");
    assert!(words.ends_with("sound\n"), "{words}");

    let (code, json, words) = forged(&|dir| flip(dir, "audit/0000000000000001.log", |length| length / 2));
    assert_eq!((code, &json["sound"], &json["audit"]["sound"]), (3, &json!(false), &json!(false)));
    assert!(json["audit"]["broken"].as_str().unwrap().starts_with("entry "), "{json}");
    assert!(words.contains("BROKEN at entry"), "{words}");

    let (code, json, words) = forged(&|dir| put_back(&history.moments[1], dir, Path::new("engine")));
    assert_eq!((code, &json["sound"]), (3, &json!(false)));
    assert!(words.contains("the storage engine is older than the manifest"), "{words}");

    let (code, json, _) = forged(&|dir| flip(dir, "manifest.a", |_| 40));
    assert_eq!((code, json["parts"][0].as_str().unwrap()), (3, "manifest.a does not open"));

    let (code, _, words) = forged(&|dir| flip(dir, "keyring", |_| 40));
    assert_eq!(code, 3);
    assert!(words.contains("the key file is damaged"), "{words}");

    let (code, _, words) = forged(&|dir| ["manifest.a", "manifest.b"].iter().for_each(|name| remove(&dir.join(name))));
    assert_eq!(code, 3);
    assert!(words.contains("the manifest is damaged"), "{words}");

    // A row that was changed by someone who can write into the engine, but has no key.
    let (code, json, words) = forged(&|dir| {
        let db = sled::Config::new().path(dir.join("engine")).segment_size(2 << 20).open().unwrap();
        let (key, value) = db.scan_prefix(b"R").next().unwrap().unwrap();
        let mut value = value.to_vec();
        value[100] ^= 1;
        db.insert(key, value).unwrap();
        db.flush().unwrap();
    });
    assert_eq!((code, &json["damaged"][0]["kind"]), (3, &json!("record")), "{words}");
    assert!(words.contains("DAMAGED    record "), "{words}");
}

// ---- clear words at the door --------------------------------------------------------------------------------------------------

/// The exit code, and words that must be among the errors.
#[track_caller]
fn assert_refused((code, out, err): (i32, String, String), expected: i32, words: &str) {
    assert_eq!(code, expected, "{out}{err}");
    assert!(err.starts_with("error: ") && err.contains(words), "{err}");
    assert!(out.is_empty(), "{out}");
}

const OFFLINE: [&[&str]; 3] = [&["serve", "--listen", "127.0.0.1:0"], &["store", "verify"], &["audit", "verify"]];

#[test]
fn a_second_process_is_refused_while_the_first_runs() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("data");
    let key = plain::found(&dir);
    let mut first = Process::serve(&dir);
    for verb in OFFLINE {
        assert_refused(run(verb, &dir), 1, "the data directory is in use by another process: stop that one first");
    }
    assert_refused(run(&["init"], &dir), 1, "the directory is not empty");
    // Even one that removes the lock.
    fs::remove_file(dir.join("LOCK")).unwrap();
    let (code, out, err) = run(OFFLINE[0], &dir);
    assert_eq!(code, 1, "{out}{err}");
    Client::new(&first.url, &key).get("/v1/collections").expect(200);
    first.kill();
    assert_sound(&dir);
}

#[test]
fn a_wrong_or_missing_passphrase_and_a_directory_that_is_no_store_are_told_apart() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("data");
    plain::found(&dir);
    let nowhere = home.path().join("nowhere");
    let empty = home.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let full = home.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("letter"), "dear").unwrap();
    let file = home.path().join("passphrase");
    for verb in OFFLINE {
        let on = |phrase: Option<&str>, dir: &Path| {
            let mut command = bare_command(verb);
            command.arg("--data").arg(dir).stdin(Stdio::null());
            if let Some(phrase) = phrase {
                command.env("WARDKEEP_PASSPHRASE", phrase);
            }
            said(command.output().unwrap())
        };
        assert_refused(on(Some("a wrong passphrase"), &dir), 1, "the passphrase is wrong or the key file was changed");
        assert_refused(on(None, &dir), 2, "no passphrase: give --passphrase-file FILE, or set WARDKEEP_PASSPHRASE");
        assert_refused(on(Some("\n"), &dir), 2, "the passphrase is empty");
        for no_store in [&nowhere, &empty, &full] {
            assert_refused(
                on(Some(plain::PHRASE), no_store),
                1,
                "there is no whole store in this directory: run `wardkeep init`",
            );
        }
        fs::write(&file, "a wrong passphrase\n").unwrap();
        let told = said(command(verb).arg("--data").arg(&dir).arg("--passphrase-file").arg(&file).output().unwrap());
        assert_refused(told, 1, "the passphrase is wrong");
        let told = said(command(verb).arg("--data").arg(&dir).arg("--passphrase-file").arg(&nowhere).output().unwrap());
        assert_refused(told, 1, "cannot read the passphrase from");
    }
    assert!(!nowhere.exists() && fs::read_dir(&empty).unwrap().next().is_none(), "a refusal leaves nothing behind");
    assert_eq!(fs::read(full.join("letter")).unwrap(), b"dear");
    assert_eq!(fs::read_dir(&full).unwrap().count(), 1);
    assert_sound(&dir);
}

#[test]
fn init_makes_a_store_in_a_new_or_empty_directory_only() {
    let home = TempDir::new().unwrap();
    let full = home.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("letter"), "dear").unwrap();
    assert_refused(run(&["init"], &full), 1, "the directory is not empty: choose another");
    assert_eq!(fs::read_dir(&full).unwrap().count(), 1);
    let told = said(bare_command(&["init", "--data"]).arg(home.path().join("none")).output().unwrap());
    assert_refused(told, 2, "no passphrase");
    assert!(!home.path().join("none").exists());

    let dir = home.path().join("made");
    let (code, out, err) = run(&["init", "--json"], &dir);
    assert_eq!(code, 0, "{err}");
    let made: Json = serde_json::from_str(&out).unwrap();
    assert_refused(run(&["init"], &dir), 1, "the directory is not empty");
    let process = Process::serve(&dir);
    Client::new(&process.url, made["api_key"].as_str().unwrap()).get("/v1/policies").expect(200);
    drop(process);
    assert_sound(&dir);
}

/// A disk on which a step fails, and all after it: what is left is what a crash before that step leaves.
struct Ends(AtomicI64);

impl Ends {
    fn step(&self) -> std::io::Result<()> {
        if self.0.fetch_sub(1, SeqCst) > 0 { Ok(()) } else { Err(std::io::Error::other("the end")) }
    }
}

struct OnEnds(Arc<Ends>);

struct OnEndsFile(Box<dyn audit::DiskFile>, Arc<Ends>);

impl store::Disk for OnEnds {
    fn sync(&self, file: &fs::File) -> std::io::Result<()> {
        self.0.step().and_then(|()| store::RealDisk.sync(file))
    }

    fn write_at(&self, file: &fs::File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        self.0.step().and_then(|()| store::RealDisk.write_at(file, bytes, offset))
    }
}

impl audit::Disk for OnEnds {
    fn make_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.0.step().and_then(|()| audit::RealDisk.make_dir(dir))
    }

    fn create(&self, path: &Path) -> std::io::Result<Box<dyn audit::DiskFile>> {
        self.0.step()?;
        Ok(Box::new(OnEndsFile(audit::RealDisk.create(path)?, Arc::clone(&self.0))))
    }

    fn open(&self, path: &Path) -> std::io::Result<Box<dyn audit::DiskFile>> {
        self.0.step().and_then(|()| audit::RealDisk.open(path))
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.0.step().and_then(|()| audit::RealDisk.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.0.step().and_then(|()| audit::RealDisk.sync_dir(dir))
    }
}

impl audit::DiskFile for OnEndsFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.1.step().and_then(|()| self.0.write_at(offset, bytes))
    }

    fn truncate(&mut self, bytes: u64) -> std::io::Result<()> {
        self.1.step().and_then(|()| self.0.truncate(bytes))
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.1.step().and_then(|()| self.0.sync())
    }
}

/// What an interrupted `init` leaves is told as that, or is a whole store; and `init` works once it is removed.
#[track_caller]
fn assert_told_as_unfinished(dir: &Path, when: &str) {
    let (code, out, err) = run(&["init"], dir);
    assert!(
        code == 0 || (code == 1 && err.contains("remove what an interrupted `init` left in it")),
        "{when}: {out}{err}"
    );
    if code == 0 {
        return;
    }
    // Once its last commit is durable it is a store; its key was not shown, and nobody was told that it was made.
    match Wardkeep::open(dir, &passphrase(), settings(), Environment::default(), &|_| {}) {
        Ok(engine) => engine.close(),
        Err(error) => {
            let words = error.to_string();
            let told = words.contains("there is no whole store in this directory")
                || words.contains("its creation was interrupted");
            assert!(told, "{when}: {words}");
            assert_refused(run(OFFLINE[0], dir), 1, &words);
        }
    }
}

#[test]
fn an_interrupted_init_is_told_as_that_at_whichever_step_it_ended() {
    let mut ended = 0;
    for step in 0.. {
        let home = TempDir::new().unwrap();
        let dir = home.path().join("data");
        let ends = Arc::new(Ends(AtomicI64::new(step)));
        let environment = Environment {
            disk: Arc::new(OnEnds(Arc::clone(&ends))),
            store_disk: Arc::new(OnEnds(Arc::clone(&ends))),
            ..Environment::default()
        };
        let made = Wardkeep::create(&dir, &passphrase(), KdfCost::FLOOR, environment);
        if ends.0.load(SeqCst) >= 0 {
            assert!(made.is_ok());
            break;
        }
        ended += 1;
        assert_told_as_unfinished(&dir, &format!("step {step}"));
    }
    assert!(ended > 10, "{ended}");

    // Before the disks are first asked: the directory, its rooms, half a key file.
    for left in 0..4 {
        let home = TempDir::new().unwrap();
        let dir = home.path().join("data");
        fs::create_dir(&dir).unwrap();
        if left > 0 {
            fs::create_dir(dir.join("engine")).unwrap();
            fs::create_dir(dir.join("audit")).unwrap();
        }
        if left > 1 {
            fs::write(dir.join("LOCK"), "").unwrap();
        }
        if left > 2 {
            fs::write(dir.join("keyring"), "WKRING").unwrap();
        }
        if left > 0 {
            assert_told_as_unfinished(&dir, &format!("with {left} parts"));
            fs::remove_dir_all(&dir).unwrap();
        }
        assert_eq!(run(&["init"], &dir).0, 0);
    }
}

#[test]
fn an_init_that_was_killed_is_told_as_that() {
    let mut dice = Dice::new("kills");
    for _ in 0..6 {
        let home = TempDir::new().unwrap();
        let dir = home.path().join("data");
        let mut child = command(&["init", "--data"]).arg(&dir).stdout(Stdio::null()).spawn().unwrap();
        // Not a wait for anything: the moment itself is what is random.
        std::thread::sleep(std::time::Duration::from_millis(dice.below(700)));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_told_as_unfinished(&dir, "killed");
    }
}
