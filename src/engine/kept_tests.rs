//! What is kept for a quick start, and lean memory: whatever happens to either, answers are those of an exact scan of what is stored.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{
    authn::{Credential, Origin},
    crypto::{KdfCost, Passphrase},
    model::{BundleSource, CollectionName, Embedding, Isolation, Metric, Phi, RecordId, Slot},
    store::Published,
};

const SCHEMA: &str = r#"
entity Administrator; entity System; entity Collection; entity Document; entity Patient;
entity Record in [Document, Collection] = { patient?: Patient, kind: String, ingested_at?: datetime };
action Retrieve, Read, ReadVector appliesTo { principal: [Administrator], resource: [Record], context: {} };
action Search, Ingest, Erase, Export, BreakGlass appliesTo { principal: [Administrator], resource: [Collection], context: {} };
action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass, Explain
appliesTo { principal: [Administrator], resource: [System], context: {} };
"#;

const POLICIES: &str = r#"
@id("administration") permit (principal is Administrator, action, resource is System);
@id("upkeep") permit (principal is Administrator, action, resource is Collection);
@id("open") permit (principal is Administrator, action == Action::"Retrieve", resource) when { resource.kind != "closed" };
"#;

const NOWHERE: Origin = Origin { address: None, request: [0; 16] };
/// Long enough for codes.
const DIMENSION: usize = 64;
const KINDS: [&str; 3] = ["note", "letter", "closed"];

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    /// Small whole numbers: every product is exact in f32, in whatever order it is summed up.
    fn vector(&mut self) -> Vec<f32> {
        (0..DIMENSION).map(|_| self.roll(15) as f32 - 7.0).collect()
    }
}

/// What should be stored: id to vector and kind.
type Model = BTreeMap<String, (Vec<f32>, usize)>;

struct House {
    home: TempDir,
    credential: Arc<Credential>,
}

impl House {
    fn new() -> Self {
        let home = TempDir::new().unwrap();
        let founding =
            Wardkeep::create(&home.path().join("data"), &phrase(), KdfCost::FLOOR, Environment::default()).unwrap();
        let house = Self { credential: Arc::new(founding.api_key.parse().unwrap()), home };
        let engine = house.open(Memory::Fast);
        let source = BundleSource { schema: SCHEMA.into(), policies: POLICIES.into(), ..crate::policy::starter() };
        let allow = Allow { widening: true, ..Allow::default() };
        engine.put_policies(&engine.operator_grant(&engine.operator()), source, None, allow).unwrap();
        let spec = crate::model::Collection {
            name: notes(),
            dimension: DIMENSION,
            metric: Metric::Dot,
            subject_attribute: "patient".into(),
            isolation: Isolation::Strict,
            embedding_model: None,
        };
        engine.put_collection(&house.grant(&engine), spec).unwrap();
        shut(engine);
        house
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn room(&self) -> PathBuf {
        self.dir().join("derived")
    }

    fn open(&self, memory: Memory) -> Wardkeep {
        let settings = Settings { memory, cache_bytes: 8 << 20, ..Settings::default() };
        Wardkeep::open(&self.dir(), &phrase(), settings, Environment::default(), &|_| {}).unwrap()
    }

    fn grant<A: Asked>(&self, engine: &Wardkeep) -> Grant<A> {
        let caller = engine.sign_in(Some(self.credential.as_ref()), &NOWHERE).unwrap();
        engine.authorise(&caller, &NOWHERE, Circumstances::of(notes())).unwrap()
    }

    /// Writes some records of `ids`, new ones and ones that are there.
    fn write(&self, engine: &Wardkeep, model: &mut Model, ids: std::ops::Range<usize>, count: usize, dice: &mut Dice) {
        let mut batch = Model::new();
        for _ in 0..count {
            let id = format!("r{:05}", ids.start + dice.roll(ids.len()));
            batch.insert(id, (dice.vector(), dice.roll(KINDS.len())));
        }
        let lines: Vec<Line> = (1..).zip(&batch).map(|(n, (id, (vector, kind)))| line(n, id, vector, *kind)).collect();
        engine.ingest_whole(&self.grant(engine), &lines, Mode::Upsert).unwrap();
        model.extend(batch);
    }

    fn erase(&self, engine: &Wardkeep, model: &mut Model, count: usize, dice: &mut Dice) {
        let ids: Vec<String> =
            (0..count).filter_map(|_| model.keys().nth(dice.roll(model.len().max(1))).cloned()).collect();
        let named: Vec<RecordId> = ids.iter().map(|id| id.parse().unwrap()).collect();
        if !named.is_empty() {
            engine.erase(&self.grant(engine), &Erasure::Records(named)).unwrap();
        }
        ids.iter().for_each(|id| drop(model.remove(id)));
    }

    /// Every question gets the answer of an exact scan of what should be there, and nothing else is there.
    fn check(&self, engine: &Wardkeep, model: &Model, dice: &mut Dice, context: &str) {
        for _ in 0..4 {
            let vector = dice.vector();
            let expected = nearest(model, &vector, 10);
            assert_eq!(self.search(engine, &vector), expected, "{context}");
        }
        let world = engine.world.read();
        let holding = world.holding(&notes()).unwrap();
        assert_eq!(holding.ids(holding.index.live()).len(), model.len(), "{context}");
        assert_eq!(holding.columns.live(), holding.index.live(), "{context}");
        let referred: u64 = world.referred.values().sum();
        // the patient and the server's own parents
        let expected: usize = holding.index.live().iter().map(|s| holding.columns.references(Slot(s)).len()).sum();
        assert_eq!(referred, expected as u64, "{context}");
        for (id, (vector, _)) in model {
            let (slot, row) = holding.find(&id.parse().unwrap()).unwrap();
            assert!(holding.of_patient(row.patient.as_ref().unwrap()).contains(slot.0), "{context}");
            let held = holding.index.vector(slot);
            assert!(held.is_none_or(|held| held == vector.as_slice()), "{context}");
            assert_eq!(held.is_some(), holding.index.holds_vectors(), "{context}");
        }
    }

    fn search(&self, engine: &Wardkeep, vector: &[f32]) -> Vec<(String, f32)> {
        // before the lock: a reader that reads once more waits for a writer that waits for it
        let grant = self.grant::<Search>(engine);
        let release = released(engine, &grant, vector);
        release.records.iter().map(|r| (r.record.id.as_str().to_owned(), r.score.unwrap())).collect()
    }
}

fn released(engine: &Wardkeep, grant: &Grant<Search>, vector: &[f32]) -> Release {
    let world = engine.world.read();
    let holding = world.holding(&notes()).unwrap();
    let scope = Scope::plan(engine, &world, holding, grant, crate::model::Action::Retrieve).unwrap();
    let query = Embedding::new(vector.to_vec(), DIMENSION, Metric::Dot).unwrap();
    gate::nearest(engine, &world, holding, &scope, &query, 10).unwrap()
}

/// Ends it, so that the directory is free.
fn shut(engine: Wardkeep) {
    engine.close();
    drop(engine);
}

fn phrase() -> Passphrase {
    Passphrase::from_bytes(b"correct horse battery staple".to_vec()).unwrap()
}

fn notes() -> CollectionName {
    "notes".parse().unwrap()
}

/// A record's patient and document follow from its id: they never change.
fn line(number: usize, id: &str, vector: &[f32], kind: usize) -> Line {
    let n: usize = id[1..].parse().unwrap();
    let draft = Draft {
        id: id.to_owned(),
        document: format!("d{}", n / 3),
        vector: vector.to_vec(),
        text: Phi::new(format!("what {id} says")),
        attributes: json!({"patient": {"type": "Patient", "id": format!("p{}", n / 7)}, "kind": KINDS[kind]}),
        tags: json!({}),
        parents: Vec::new(),
    };
    Line { number, draft: Ok(draft) }
}

fn product(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}

/// The plain way.
fn nearest(model: &Model, query: &[f32], count: usize) -> Vec<(String, f32)> {
    let open = model.iter().filter(|(_, (_, kind))| KINDS[*kind] != "closed");
    let mut all: Vec<(String, f32)> = open.map(|(id, (vector, _))| (id.clone(), product(vector, query))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all.truncate(count);
    all
}

/// How many records were not taken from what was kept when the store was opened, or were thrown out of it.
fn made_anew(engine: &Wardkeep) -> u64 {
    engine.world.read().turnover
}

/// A house with records and what is kept of them.
fn kept(dice: &mut Dice) -> (House, Model) {
    let (house, mut model) = (House::new(), Model::new());
    let engine = house.open(Memory::Fast);
    house.write(&engine, &mut model, 0..600, 900, dice);
    shut(engine);
    (house, model)
}

#[test]
fn a_start_takes_all_rows_from_what_was_kept_and_answers_as_before() {
    let mut dice = Dice(11);
    let (house, model) = kept(&mut dice);
    for memory in [Memory::Fast, Memory::Lean, Memory::Fast] {
        let engine = house.open(memory);
        assert_eq!(made_anew(&engine), 0);
        house.check(&engine, &model, &mut dice, &format!("{memory:?}"));
        shut(engine);
    }
}

#[test]
fn without_what_was_kept_everything_is_made_anew_and_answers_are_the_same() {
    let mut dice = Dice(12);
    let (house, model) = kept(&mut dice);
    let data = fs::read(house.room().join("data")).unwrap();
    let spoil: [(&str, &dyn Fn()); 5] = [
        ("gone", &|| fs::remove_dir_all(house.room()).unwrap()),
        ("a changed byte", &|| {
            let mut changed = fs::read(house.room().join("data")).unwrap();
            let at = changed.len() / 2;
            changed[at] ^= 1;
            fs::write(house.room().join("data"), changed).unwrap();
        }),
        ("cut short", &|| fs::write(house.room().join("data"), &data[..data.len() / 2]).unwrap()),
        ("empty", &|| fs::write(house.room().join("data"), b"").unwrap()),
        ("without its key", &|| fs::remove_file(house.room().join("key")).unwrap()),
    ];
    for (what, spoil) in spoil {
        spoil();
        let engine = house.open(Memory::Fast);
        assert_eq!(made_anew(&engine), model.len() as u64, "{what}");
        house.check(&engine, &model, &mut dice, what);
        shut(engine);
        let engine = house.open(Memory::Fast);
        assert_eq!(made_anew(&engine), 0, "it was kept again at the end: {what}");
        shut(engine);
    }
}

#[test]
fn what_was_kept_of_an_earlier_time_is_believed_of_no_record_that_is_another_by_now() {
    let mut dice = Dice(13);
    let (house, mut model) = kept(&mut dice);
    let old = house.home.path().join("old");
    copy(&house.room(), &old);
    let before = model.clone();
    let engine = house.open(Memory::Fast);
    house.write(&engine, &mut model, 0..900, 200, &mut dice);
    assert!(!house.room().join("key").exists(), "records were replaced");
    shut(engine);
    fs::remove_dir_all(house.room()).unwrap();
    copy(&old, &house.room());
    let changed = model.iter().filter(|(id, now)| before.get(*id) != Some(now)).count() as u64;
    let engine = house.open(Memory::Lean);
    assert_eq!(made_anew(&engine), changed);
    house.check(&engine, &model, &mut dice, "an old one");
    shut(engine);

    // after an erasure the ring key is another: the old one opens no more
    let engine = house.open(Memory::Fast);
    house.erase(&engine, &mut model, 3, &mut dice);
    shut(engine);
    fs::remove_dir_all(house.room()).unwrap();
    copy(&old, &house.room());
    let engine = house.open(Memory::Fast);
    assert_eq!(made_anew(&engine), model.len() as u64);
    house.check(&engine, &model, &mut dice, "one from before an erasure");
    shut(engine);
}

#[test]
fn what_another_store_kept_is_nothing() {
    let mut dice = Dice(14);
    let (house, model) = kept(&mut dice);
    let (other, _) = kept(&mut dice);
    fs::remove_dir_all(house.room()).unwrap();
    copy(&other.room(), &house.room());
    let engine = house.open(Memory::Fast);
    assert_eq!(made_anew(&engine), model.len() as u64);
    house.check(&engine, &model, &mut dice, "another store's");
    shut(engine);
}

#[test]
fn an_erasure_leaves_nothing_that_was_kept_before_it_is_acknowledged() {
    let mut dice = Dice(15);
    let (house, mut model) = kept(&mut dice);
    let engine = house.open(Memory::Fast);
    assert!(house.room().join("key").exists());
    house.erase(&engine, &mut model, 1, &mut dice);
    assert!(!house.room().join("key").exists() && !house.room().join("data").exists());
    assert_eq!(engine.keep().unwrap(), Published::Whole);
    assert!(house.room().join("key").exists());
    // a kill: nothing is closed
    let copied = House { home: TempDir::new().unwrap(), credential: house.credential.clone() };
    copy(&house.dir(), &copied.dir());
    let again = copied.open(Memory::Fast);
    // other records of the same patient were sealed anew, which memory was not told
    assert!(made_anew(&again) < 10);
    copied.check(&again, &model, &mut dice, "after a kill");
    shut(again);
    shut(engine);
}

const STEPS_A_ROUND: usize = 6;
const KEPT_A_ROUND: usize = 4;
const SEARCHES_A_ROUND: usize = 30;

/// One seed of mixed work: two who write and erase, one who keeps all the time, one who searches; then a restart in either kind of memory.
fn mixed(seed: u64, rounds: usize) {
    let mut dice = Dice(seed);
    let house = House::new();
    let mut models = [Model::new(), Model::new()];
    for round in 0..rounds {
        let memory = [Memory::Fast, Memory::Lean][dice.roll(2)];
        let context = format!("seed {seed}, round {round}, {memory:?}");
        let engine = house.open(memory);
        let all =
            |models: &[Model; 2]| models.iter().flatten().map(|(id, v)| (id.clone(), v.clone())).collect::<Model>();
        house.check(&engine, &all(&models), &mut dice, &context);
        let ended = AtomicBool::new(false);
        std::thread::scope(|threads| {
            let (house, engine, ended) = (&house, &engine, &ended);
            let writers: Vec<_> = models
                .iter_mut()
                .enumerate()
                .map(|(n, model)| {
                    let mut dice = Dice(dice.roll(1 << 30) as u64 + 1);
                    threads.spawn(move || {
                        for _ in 0..STEPS_A_ROUND {
                            match dice.roll(3) {
                                0 if !model.is_empty() => house.erase(engine, model, 1 + dice.roll(5), &mut dice),
                                _ => {
                                    house.write(engine, model, n * 1_000..n * 1_000 + 400, 1 + dice.roll(60), &mut dice)
                                }
                            }
                        }
                    })
                })
                .collect();
            threads.spawn(move || {
                for _ in 0..KEPT_A_ROUND {
                    if !ended.load(Ordering::Relaxed) {
                        engine.keep().unwrap();
                    }
                }
            });
            threads.spawn(move || {
                let mut dice = Dice(seed + 1);
                for _ in 0..SEARCHES_A_ROUND {
                    let found = house.search(engine, &dice.vector());
                    assert!(found.is_sorted_by(|a, b| a.1 >= b.1));
                }
            });
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            ended.store(true, Ordering::Relaxed);
        });
        house.check(&engine, &all(&models), &mut dice, &context);
        shut(engine);
    }
}

/// Two seeds in the usual run; with `WARDKEEP_TESTS=full` twelve longer ones as well, some 30,000 records written, replaced and erased.
#[test]
fn mixed_work_while_it_is_kept_and_restarts_never_differ_from_an_exact_scan() {
    for seed in [1, 2] {
        mixed(seed, 3);
    }
    if std::env::var("WARDKEEP_TESTS").is_ok_and(|wish| wish == "full") {
        for seed in 100..112 {
            mixed(seed, 10);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

mod in_the_window {
    //! A commit is durable and not yet in force, and just then the keeper begins: what it sees is what the commit took away.

    use std::{
        fs::File,
        io,
        os::unix::fs::FileExt,
        sync::mpsc::{Receiver, Sender, channel},
    };

    use parking_lot::Mutex;

    use super::*;
    use crate::{
        crypto::{Entropy, EntropyError, OsEntropy},
        store::Disk,
    };

    /// Where a thread stops once, says so, and waits until it is let on.
    #[derive(Default)]
    struct Gate(Mutex<Option<(Sender<()>, Receiver<()>)>>);

    impl Gate {
        /// Closes it: who waits for a thread to come, and who lets it on.
        fn shut(&self) -> (Receiver<()>, Sender<()>) {
            let ((come, coming), (go, going)) = (channel(), channel());
            *self.0.lock() = Some((come, going));
            (coming, go)
        }

        fn pass(&self, thread: &str) {
            let here = || std::thread::current().name() == Some(thread);
            let shut = if here() { self.0.lock().take() } else { None };
            if let Some((come, going)) = shut {
                let _ = come.send(());
                let _ = going.recv();
            }
        }
    }

    struct GatedDisk(Arc<Gate>);

    impl Disk for GatedDisk {
        fn sync(&self, file: &File) -> io::Result<()> {
            self.0.pass("journal");
            file.sync_data()
        }

        fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
            file.write_all_at(bytes, offset)
        }
    }

    struct GatedEntropy(Arc<Gate>);

    impl Entropy for GatedEntropy {
        fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
            // a nonce: the last piece is about to be sealed
            if out.len() == 24 {
                self.0.pass("keeper");
            }
            OsEntropy.fill(out)
        }
    }

    /// An engine with nothing kept, and what stops its writer and its keeper.
    struct Window {
        engine: Wardkeep,
        disk: Arc<Gate>,
        entropy: Arc<Gate>,
    }

    impl Window {
        fn open(house: &House) -> Self {
            Self::open_in(house, Memory::Fast)
        }

        fn open_in(house: &House, memory: Memory) -> Self {
            let (disk, entropy) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
            let environment = Environment {
                entropy: Arc::new(GatedEntropy(Arc::clone(&entropy))),
                store_disk: Arc::new(GatedDisk(Arc::clone(&disk))),
                ..Environment::default()
            };
            let settings = Settings { memory, cache_bytes: 8 << 20, ..Settings::default() };
            let engine = Wardkeep::open(&house.dir(), &phrase(), settings, environment, &|_| {}).unwrap();
            Self { engine, disk, entropy }
        }

        /// The keeper begins while `change` is durable and not in force, and ends once it is acknowledged.
        fn keep_during(&self, change: impl FnOnce() + Send) -> Published {
            self.engine.forget_kept().unwrap();
            let ((durable, go_on), (gathered, publish)) = (self.disk.shut(), self.entropy.shut());
            std::thread::scope(|threads| {
                let writer = threads.spawn(change);
                durable.recv().unwrap();
                let keeper = threads.spawn(|| {
                    let published = self.engine.keep().unwrap();
                    // where it never came so far nobody is to wait for it
                    *self.entropy.0.lock() = None;
                    published
                });
                let _ = gathered.recv();
                go_on.send(()).unwrap();
                writer.join().unwrap();
                let _ = publish.send(());
                keeper.join().unwrap()
            })
        }

        fn id_at(&self, slot: u32) -> RecordId {
            self.engine.world.read().holding(&notes()).unwrap().row(Slot(slot)).unwrap().id.clone()
        }
    }

    #[test]
    fn codes_of_what_was_replaced_are_not_kept_as_those_of_what_replaced_it() {
        let mut dice = Dice(99);
        let house = House::new();
        let window = Window::open(&house);
        let mut model = Model::new();
        (0..8_400).for_each(|n| drop(model.insert(format!("r{n:05}"), (dice.vector(), 0))));
        let lines: Vec<Line> = (1..).zip(&model).map(|(n, (id, (v, k)))| line(n, id, v, *k)).collect();
        window.engine.ingest_whole(&house.grant(&window.engine), &lines, Mode::Upsert).unwrap();
        let id = window.id_at(8_300).as_str().to_owned();
        let fresh: Vec<f32> = (0..DIMENSION).map(|i| if i % 2 == 0 { 7.0 } else { -7.0 }).collect();
        let grant = house.grant(&window.engine);
        window.keep_during(|| {
            drop(window.engine.ingest_whole(&grant, &[line(1, &id, &fresh, 0)], Mode::Upsert).unwrap());
        });
        model.insert(id, (fresh.clone(), 0));
        let copied = House { home: TempDir::new().unwrap(), credential: house.credential.clone() };
        copy(&house.dir(), &copied.dir());
        let again = copied.open(Memory::Fast);
        assert_eq!(copied.search(&again, &fresh), nearest(&model, &fresh, 10), "after a kill");
    }

    #[test]
    fn a_search_just_then_gives_score_and_text_of_one_writing() {
        let mut dice = Dice(97);
        for memory in [Memory::Fast, Memory::Lean] {
            let (house, model) = kept(&mut dice);
            let window = Window::open_in(&house, memory);
            let (id, (old, _)) = model.iter().find(|(_, (_, kind))| KINDS[*kind] != "closed").unwrap();
            let fresh: Vec<f32> = old.iter().enumerate().map(|(n, x)| if n < 8 { -x } else { *x }).collect();
            let (ingest, search) = (house.grant(&window.engine), house.grant::<Search>(&window.engine));
            window.engine.forget_kept().unwrap();
            let (durable, go_on) = window.disk.shut();
            let release = std::thread::scope(|threads| {
                let change = || window.engine.ingest_whole(&ingest, &[line(1, id, &fresh, 0)], Mode::Upsert).unwrap();
                let writer = threads.spawn(change);
                durable.recv().unwrap();
                let release = released(&window.engine, &search, old);
                go_on.send(()).unwrap();
                writer.join().unwrap();
                release
            });
            let replaced = release.records.iter().find(|r| r.record.id.as_str() == id.as_str()).unwrap();
            assert_eq!(replaced.record.embedding.components(), fresh, "it was opened as it is by now");
            for released in &release.records {
                assert_eq!(released.score.unwrap(), product(released.record.embedding.components(), old), "{memory:?}");
            }
            assert!(release.records.is_sorted_by(|a, b| a.score >= b.score));
        }
    }

    #[test]
    fn what_was_erased_is_not_kept() {
        let mut dice = Dice(98);
        let (house, _) = kept(&mut dice);
        let window = Window::open(&house);
        let id = window.id_at(100);
        let grant = house.grant(&window.engine);
        window.keep_during(|| drop(window.engine.erase(&grant, &Erasure::Records(vec![id.clone()])).unwrap()));
        let mut reading = window.engine.store.derived().read();
        let restored = reading.as_mut().and_then(|reading| super::kept::read(reading, Memory::Fast));
        let found = restored.is_some_and(|all| all[&notes()].holding.find(&id).is_some());
        assert!(!found, "it lies in `derived/` after its erasure was acknowledged");
        assert_eq!(window.engine.keep().unwrap(), Published::Whole, "once it is in force");
    }
}
