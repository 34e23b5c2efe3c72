//! What a use case does that no answer shows: what it waits for, and how much it looks at. Over a real store, without HTTP.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, ThreadId},
    time::Duration,
};

use parking_lot::Mutex as Lock;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{
    authn::{Caller, Credential, Origin},
    clock::{Instant, SystemClock},
    crypto::{KdfCost, Passphrase},
    model::{Action, BundleSource, CollectionName, Embedding, Isolation, Metric, Phi, Slot},
    store::RECORDS_ASKED_FOR,
};

const SCHEMA: &str = r#"
entity Administrator; entity System; entity Collection; entity Document; entity Patient;
entity Record in [Document, Collection] = { patient?: Patient };
action Retrieve, Read, ReadVector appliesTo { principal: [Administrator], resource: [Record], context: {} };
action Search, Ingest, Erase, Export, BreakGlass appliesTo { principal: [Administrator], resource: [Collection], context: {} };
action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass, Explain
appliesTo { principal: [Administrator], resource: [System], context: {} };
"#;

const POLICIES: &str = r#"
@id("administration") permit (principal is Administrator, action, resource is System);
@id("upkeep") permit (principal is Administrator, action, resource is Collection);
@id("two-patients") @max_patients("2") permit (principal is Administrator, action == Action::"Retrieve", resource);
"#;

/// Failing is seen after so long at the latest; succeeding never waits.
const PATIENCE: Duration = Duration::from_secs(60);

const NOWHERE: Origin = Origin { address: None, request: [0; 16] };

struct Bench {
    engine: Wardkeep,
    credential: Credential,
    _home: TempDir,
}

impl Bench {
    fn with(environment: Environment) -> Self {
        let home = TempDir::new().unwrap();
        let dir = home.path().join("data");
        let passphrase = Passphrase::from_bytes(b"correct horse battery staple".to_vec()).unwrap();
        let founding = Wardkeep::create(&dir, &passphrase, KdfCost::FLOOR, Environment::default()).unwrap();
        let engine = Wardkeep::open(&dir, &passphrase, Settings::default(), environment, &|_| {}).unwrap();
        let source = BundleSource { schema: SCHEMA.into(), policies: POLICIES.into(), ..crate::policy::starter() };
        let allow = Allow { widening: true, ..Allow::default() };
        engine.put_policies(&engine.operator_grant(&engine.operator()), source, None, allow).unwrap();
        let credential = founding.api_key.parse().unwrap();
        let bench = Self { engine, credential, _home: home };
        bench.collection();
        bench
    }

    fn collection(&self) {
        let caller = self.caller();
        let grant = self.engine.authorise(&caller, &NOWHERE, Circumstances::of(notes())).unwrap();
        let spec = crate::model::Collection {
            name: notes(),
            dimension: 2,
            metric: Metric::Dot,
            subject_attribute: "patient".into(),
            isolation: Isolation::Strict,
            embedding_model: None,
        };
        self.engine.put_collection(&grant, spec).unwrap();
    }

    fn caller(&self) -> Caller {
        self.engine.sign_in(Some(&self.credential), &NOWHERE).unwrap()
    }

    fn grant<A: Asked>(&self) -> Grant<A> {
        self.engine.authorise(&self.caller(), &NOWHERE, Circumstances::of(notes())).unwrap()
    }

    fn ingest(&self, lines: &[Line]) -> Ingested {
        self.engine.ingest_whole(&self.grant(), lines, Mode::Upsert).unwrap()
    }
}

fn notes() -> CollectionName {
    "notes".parse().unwrap()
}

/// The further down the list, the less near to (1, 0).
fn line(number: usize, patient: usize) -> Line {
    let draft = Draft {
        id: format!("r{number:05}"),
        document: "d".into(),
        vector: vec![10_000.0 - number as f32, 1.0],
        text: Phi::new("a text".into()),
        attributes: json!({"patient": {"type": "Patient", "id": format!("p{patient}")}}),
        tags: json!({}),
        parents: Vec::new(),
    };
    Line { number: number + 1, draft: Ok(draft) }
}

#[test]
fn signing_in_does_not_wait_for_a_search_or_a_change() {
    let bench = Bench::with(Environment::default());
    let change = bench.engine.writing.lock();
    let world = bench.engine.world.write();
    std::thread::scope(|threads| {
        let (told, signed_in) = channel();
        let bench = &bench;
        threads.spawn(move || told.send(bench.engine.sign_in(Some(&bench.credential), &NOWHERE).is_ok()));
        let answered = signed_in.recv_timeout(PATIENCE);
        drop((world, change));
        assert_eq!(answered, Ok(true), "it waits for the world");
    });
}

#[test]
fn where_a_cap_on_patients_is_used_up_only_the_patients_that_it_covers_are_looked_at() {
    let bench = Bench::with(Environment::default());
    // Two patients with eight records in all among a thousand of others, at both ends of the ranking.
    let whose = |number: usize| match number {
        0..=2 => 0,
        3..=5 | 1_000.. => 1,
        other => other,
    };
    bench.ingest(&(0..1_002).map(|number| line(number, whose(number))).collect::<Vec<_>>());
    let (engine, world) = (&bench.engine, bench.engine.world.read());
    let holding = world.holding(&notes()).unwrap();
    let scope = Scope::plan(engine, &world, holding, &bench.grant::<Search>(), Action::Retrieve).unwrap();
    let query = Embedding::new(vec![1.0, 0.0], 2, Metric::Dot).unwrap();
    let release = gate::nearest(engine, &world, holding, &scope, &query, 20).unwrap();
    let ids: Vec<_> = release.ids().iter().map(|id| id.as_str().to_owned()).collect();
    assert_eq!(ids, ["r00000", "r00001", "r00002", "r00003", "r00004", "r00005", "r01000", "r01001"]);
    assert_eq!(release.decided, 22, "the first round of twenty, then what is left of the two patients");
    assert_eq!(release.cut.records, 14);
}

#[test]
fn rows_of_nobody_are_those_without_a_patient_through_writes_and_erasures() {
    let bench = Bench::with(Environment::default());
    let nobodys = |number: usize| {
        let Line { number, draft } = line(number, 0);
        Line { number, draft: draft.map(|draft| Draft { document: "alone".into(), attributes: json!({}), ..draft }) }
    };
    let known = |count: u64, context: &str| {
        let world = bench.engine.world.read();
        let holding = world.holding(&notes()).unwrap();
        let without = |slot: &u32| holding.row(Slot(*slot)).is_some_and(|row| row.patient.is_none());
        let expected: roaring::RoaringBitmap = holding.index.live().iter().filter(without).collect();
        assert_eq!((holding.of_nobody(), expected.len()), (&expected, count), "{context}");
    };
    known(0, "empty");
    bench.ingest(&[line(0, 1), nobodys(1), nobodys(2), line(3, 2), nobodys(4)]);
    known(3, "written");
    bench.ingest(&[nobodys(1), line(3, 2), nobodys(5)]);
    known(4, "written over");
    let ids = ["r00002", "r00003", "r00005"].map(|id| id.parse().unwrap()).to_vec();
    bench.engine.erase(&bench.grant(), &Erasure::Records(ids)).unwrap();
    known(2, "erased");
}

#[test]
fn a_read_of_a_hidden_record_opens_as_little_as_one_of_a_record_that_is_not_there() {
    let bench = Bench::with(Environment::default());
    bench.ingest(&[line(0, 0), line(1, 1)]);
    let policies = format!(
        "{POLICIES} @id(\"own\") permit (principal, action == Action::\"Read\", resource) \
         when {{ resource has patient && resource.patient == Patient::\"p0\" }};"
    );
    let source = BundleSource { schema: SCHEMA.into(), policies, ..crate::policy::starter() };
    let allow = Allow { widening: true, ..Allow::default() };
    bench.engine.put_policies(&bench.engine.operator_grant(&bench.engine.operator()), source, None, allow).unwrap();
    let reading = bench.engine.reading(&bench.caller(), &NOWHERE, notes(), None).unwrap();
    let read = |id: &str| {
        let before = RECORDS_ASKED_FOR.get();
        let shown = bench.engine.read(&reading, &id.parse().unwrap()).is_ok();
        (shown, RECORDS_ASKED_FOR.get() - before)
    };
    assert_eq!(read("r00000"), (true, 1), "the control: what may be read is opened");
    assert_eq!(read("r00001"), (false, 0), "hidden");
    assert_eq!(read("nobody-has-it"), (false, 0), "not there");
}

/// Each time that the thread of the test asks it, it lets somebody else act first. What runs in the background asks it too, with locks
/// of its own in hand: that is answered at once.
struct Telltale {
    whose: ThreadId,
    ears: Lock<Option<(Sender<()>, Receiver<()>)>>,
}

impl Clock for Telltale {
    fn now(&self) -> Instant {
        if self.whose == thread::current().id()
            && let Some((told, go_on)) = self.ears.lock().as_ref()
        {
            let _ = told.send(());
            let _ = go_on.recv();
        }
        SystemClock.now()
    }
}

/// Whenever the clock is asked while no change is under way, another version comes into force before the one who asked can change
/// anything; `most` times. Says how often it did.
fn change_all_the_time(engine: &Wardkeep, asked: &Receiver<()>, go_on: &Sender<()>, most: usize) -> usize {
    let mut changes = 0;
    for () in asked {
        // Taken before the other goes on: it has to wait for this change.
        let writing = engine.writing.try_lock().filter(|_| changes < most);
        let _ = go_on.send(());
        if writing.is_some() {
            engine.world.write().policy.version += 1;
            changes += 1;
        }
    }
    changes
}

#[test]
fn a_batch_comes_in_however_fast_policies_change() {
    let clock = Arc::new(Telltale { whose: thread::current().id(), ears: Lock::new(None) });
    let bench = Bench::with(Environment { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Environment::default() });
    let lines: Vec<Line> = (0..10).map(|number| line(number, number)).collect();
    let grant = bench.grant();
    let ((told, asked), (go, going)) = (channel(), channel());
    *clock.ears.lock() = Some((told, going));
    std::thread::scope(|threads| {
        let bench = &bench;
        let changes = threads.spawn(move || change_all_the_time(&bench.engine, &asked, &go, 50));
        let ingested = bench.engine.ingest_whole(&grant, &lines, Mode::Upsert).unwrap();
        *clock.ears.lock() = None;
        assert_eq!(ingested.accepted, 10);
        // the clock may be asked once more after the batch is in, with the lock given back
        let changes = changes.join().unwrap();
        assert!(
            (2..=3).contains(&changes),
            "after two attempts in vain the batch is built while nothing may change: {changes}"
        );
    });
}

mod erasing {
    //! What erasing does on the disk, looked for byte by byte, and what it answers.

    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    use super::*;
    use crate::{
        crypto::{Entropy, EntropyError, OsEntropy},
        model::{Entity, EntityUid, RecordId, limits},
        store::{StoredRecord, key_tests::Forensics},
    };

    impl Bench {
        pub(super) fn dir(&self) -> std::path::PathBuf {
            self._home.path().join("data")
        }

        pub(super) fn copied(&self) -> std::path::PathBuf {
            let to = self._home.path().join("copy");
            copy(&self.dir(), &to);
            to
        }

        pub(super) fn stored(&self, number: usize) -> StoredRecord {
            self.engine.store.record(&notes(), &id(number)).unwrap().unwrap()
        }

        pub(super) fn erase(&self, erasure: &Erasure) -> Erased {
            self.engine.erase(&self.grant(), erasure).unwrap()
        }
    }

    pub(super) fn id(number: usize) -> RecordId {
        format!("r{number:05}").parse().unwrap()
    }

    fn copy(from: &std::path::Path, to: &std::path::Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            let target = to.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => copy(&entry.path(), &target),
                false => drop(std::fs::copy(entry.path(), target).unwrap()),
            }
        }
    }

    fn patient(id: &str) -> Json {
        json!({"uid": {"type": "Patient", "id": id}, "attrs": {}, "parents": []})
    }

    use serde_json::Value as Json;

    #[test]
    fn a_patient_is_erased_with_their_entity_from_every_copy_and_page() {
        let bench = Bench::with(Environment::default());
        bench.ingest(&[line(0, 1), line(1, 1), line(2, 2)]);
        bench.engine.put_entities(&bench.caller(), &NOWHERE, &[patient("p1"), patient("p2")]).unwrap();
        let (gone, stays) = ([bench.stored(0), bench.stored(1)], bench.stored(2));
        let own = Entity::bare(EntityUid::new("Patient", "p1"));
        let before = bench.copied();
        let control = Forensics::of(bench.engine.store.ring(), &[&before]);
        assert!(gone.iter().all(|r| control.reads_in(&notes(), r)) && control.reads_entity_as(&own));

        let kept = bench.erase(&Erasure::Patient("p1".into(), Own::Kept));
        assert_eq!((kept.erased, kept.still_named.unwrap().entities.unwrap().own_entity), (2, true));
        let removed = bench.erase(&Erasure::Patient("p1".into(), Own::Removed));
        assert_eq!((removed.erased, removed.still_named.unwrap().entities.unwrap().own_entity), (0, false));
        let left = Forensics::of(bench.engine.store.ring(), &[&before, &bench.dir()]);
        assert!(!gone.iter().any(|r| left.reads_in(&notes(), r)) && !left.reads_entity_as(&own));
        assert!(left.reads_in(&notes(), &stays), "the others are found with the keys that are left");
    }

    #[test]
    fn one_record_is_erased_from_every_copy_and_page_and_its_patients_others_stay() {
        let bench = Bench::with(Environment::default());
        bench.ingest(&(0..5).map(|n| line(n, 1)).collect::<Vec<_>>());
        let gone = bench.stored(2);
        let before = bench.copied();
        let erased = bench.erase(&Erasure::Records(vec![id(2), id(9)]));
        assert_eq!((erased.erased, erased.missing, erased.resealed), (1, 1, Some(4)));
        let left = Forensics::of(bench.engine.store.ring(), &[&before, &bench.dir()]);
        assert!(!left.reads_in(&notes(), &gone));
        assert!([0, 1, 3, 4].iter().all(|n| left.reads_in(&notes(), &bench.stored(*n))));
    }

    #[test]
    fn more_others_than_one_commit_takes_are_sealed_apart_before() {
        let bench = Bench::with(Environment::default());
        for from in [0, 10_000] {
            bench.ingest(&(from..from + 1_251).map(|n| line(n, 1)).collect::<Vec<_>>());
        }
        let gone = bench.stored(7);
        let before = bench.copied();
        let erased = bench.erase(&Erasure::Records(vec![id(7)]));
        assert_eq!(erased.resealed, Some(2_501));
        let entries: Vec<_> = bench.engine.audit(&bench.grant(), 0, 1_000, &Sieve::default()).unwrap().entries;
        let renewals = entries.iter().filter(|(_, entry)| entry.what == crate::audit::What::RenewKeys);
        assert_eq!(renewals.count(), 2, "each commit before the last has its own entry");
        let left = Forensics::of(bench.engine.store.ring(), &[&before, &bench.dir()]);
        assert!(!left.reads_in(&notes(), &gone));
    }

    #[test]
    fn a_certificate_holds_under_the_audit_key_and_no_other_and_not_if_it_is_changed() {
        let bench = Bench::with(Environment::default());
        bench.ingest(&[line(0, 1), line(1, 1)]);
        let erasure = Erasure::Patient("p1".into(), Own::Kept);
        let certificate = bench.engine.erase_certified(&bench.grant(), &erasure).unwrap().certificate.unwrap();
        let key = bench.engine.audit_public_key();
        let sent: Certificate = serde_json::from_str(&serde_json::to_string(&certificate).unwrap()).unwrap();
        assert_eq!(sent.verify(&key), Ok(()));
        assert_eq!(sent.statement["erased"], json!({"patient": "p1"}));
        assert_eq!(sent.statement["records_erased"], json!(2));
        assert!(sent.statement["kept"].as_str().unwrap().contains("audit log keeps"));
        assert_eq!(sent.verify(&[7; 32]), Err(NotCertified::Signature));
        for (field, value) in [("records_erased", json!(3)), ("collection", json!("other"))] {
            let mut changed = sent.clone();
            changed.statement[field] = value;
            assert_eq!(changed.verify(&key), Err(NotCertified::Signature));
        }
        let other = Certificate { statement: json!({"form": "something"}), ..sent };
        assert_eq!(other.verify(&key), Err(NotCertified::Form));
    }

    #[test]
    fn after_a_rotation_no_old_copy_opens_with_any_key_that_is_left_and_all_that_is_stored_does() {
        let bench = Bench::with(Environment::default());
        bench.ingest(&(0..40).map(|n| line(n, n / 3)).collect::<Vec<_>>());
        bench.engine.put_entities(&bench.caller(), &NOWHERE, &[patient("p1")]).unwrap();
        let (before, some) = (bench.copied(), [bench.stored(0), bench.stored(35)]);
        let own = Entity::bare(EntityUid::new("Patient", "p1"));
        let control = Forensics::of(bench.engine.store.ring(), &[&before]);
        assert!(some.iter().all(|r| control.reads_in(&notes(), r)) && control.reads_entity_as(&own));
        let keys = bench.engine.authorise_keys(&bench.caller(), &NOWHERE).unwrap();
        bench.engine.rotate_keys(&keys).unwrap();
        bench.engine.settle_rotation();
        let status = bench.engine.key_status(&keys).unwrap();
        assert_eq!((status.state, status.renewed), (RotationState::Current, status.data_keys));
        let old = Forensics::of(bench.engine.store.ring(), &[&before]);
        assert!(!some.iter().any(|r| old.reads_in(&notes(), r)) && !old.reads_entity_as(&own));
        let now = Forensics::of(bench.engine.store.ring(), &[&bench.dir()]);
        assert!(some.iter().all(|r| now.reads_in(&notes(), r)) && now.reads_entity_as(&own));
        assert!(bench.engine.store.verify().unwrap().is_sound());
    }

    /// Gives nothing to whoever renews keys, until it is told to.
    struct Barren {
        gives: AtomicBool,
        asked: Lock<Sender<()>>,
    }

    impl Entropy for Barren {
        fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
            if std::thread::current().name() == Some("rotation") && !self.gives.load(SeqCst) {
                let _ = self.asked.lock().send(());
                return Err(EntropyError);
            }
            OsEntropy.fill(out)
        }
    }

    #[test]
    fn a_rotation_that_met_an_error_goes_on_by_itself_and_what_is_erased_meanwhile_is_gone() {
        let (asked, asking) = channel();
        let entropy = Arc::new(Barren { gives: AtomicBool::new(true), asked: Lock::new(asked) });
        let bench =
            Bench::with(Environment { entropy: Arc::clone(&entropy) as Arc<dyn Entropy>, ..Environment::default() });
        bench.ingest(&(0..40).map(|n| line(n, n / 2)).collect::<Vec<_>>());
        let (before, gone, stays) = (bench.copied(), bench.stored(0), bench.stored(35));
        let keys = bench.engine.authorise_keys(&bench.caller(), &NOWHERE).unwrap();
        entropy.gives.store(false, SeqCst);
        bench.engine.rotate_keys(&keys).unwrap();
        (0..2).for_each(|_| asking.recv_timeout(PATIENCE).unwrap());
        bench.erase(&Erasure::Patient("p0".into(), Own::Kept));
        let left = Forensics::of(bench.engine.store.ring(), &[&before, &bench.dir()]);
        assert!(!left.reads_in(&notes(), &gone) && left.reads_in(&notes(), &stays));
        entropy.gives.store(true, SeqCst);
        let began = std::time::Instant::now();
        while bench.engine.key_status(&keys).unwrap().state != RotationState::Current {
            assert!(began.elapsed() < PATIENCE, "it never goes on");
            std::thread::yield_now();
        }
        assert!(!Forensics::of(bench.engine.store.ring(), &[&before]).reads_in(&notes(), &stays));
    }

    #[test]
    fn what_lies_under_the_same_keys_is_sealed_anew_up_to_the_bound_and_not_one_past_it() {
        let most = limits::RESEALED_RECORDS;
        let fits = |others| super::super::erase::Plan::with_others(vec![id(0); others]).refuse_crowd(None);
        assert_eq!(fits(most), Ok(()));
        assert!(matches!(fits(most + 1), Err(Refusal::Conflict { code: "too_many_under_one_key", .. })));
    }

    #[test]
    fn holds_are_placed_up_to_the_bound_and_not_one_past_it() {
        let bench = Bench::with(Environment::default());
        let patient = |n: usize| EntityUid::new("Patient", format!("p{n}"));
        let hold =
            |n| crate::model::Hold { patient: patient(n), by: patient(0), since: SystemClock.now(), reason: None };
        {
            let mut world = bench.engine.world.write();
            (1..limits::HOLDS).for_each(|n| drop(world.holds.insert(patient(n), hold(n))));
        }
        let place = |n| bench.engine.hold(&bench.grant(), patient(n), None).map(drop);
        assert_eq!(place(0), Ok(()));
        assert!(matches!(place(limits::HOLDS), Err(Refusal::Invalid(faults)) if faults[0].code == "too_many_holds"));
        assert_eq!(place(1), Ok(()), "one that is there stays");
    }

    #[test]
    fn entities_that_speak_of_a_patient_are_named_up_to_the_bound_and_counted_beyond() {
        let bench = Bench::with(Environment::default());
        let mut source = BundleSource { schema: SCHEMA.into(), policies: POLICIES.into(), ..crate::policy::starter() };
        source.schema.push_str("entity Team = { patient: Patient };");
        let allow = Allow { widening: true, ..Allow::default() };
        bench.engine.put_policies(&bench.engine.operator_grant(&bench.engine.operator()), source, None, allow).unwrap();
        let team = |n: usize| {
            let of = json!({"type": "Patient", "id": "p1"});
            json!({"uid": {"type": "Team", "id": format!("{n}")}, "attrs": {"patient": of}, "parents": []})
        };
        bench.engine.put_entities(&bench.caller(), &NOWHERE, &[patient("p1")]).unwrap();
        let named = || {
            let erased = bench.erase(&Erasure::Patient("p1".into(), Own::Kept));
            let named = erased.still_named.unwrap().entities.unwrap();
            (named.entities.len(), named.entities_count)
        };
        let teams: Vec<_> = (0..limits::STILL_NAMED).map(team).collect();
        bench.engine.put_entities(&bench.caller(), &NOWHERE, &teams).unwrap();
        assert_eq!(named(), (limits::STILL_NAMED, limits::STILL_NAMED));
        bench.engine.put_entities(&bench.caller(), &NOWHERE, &[team(limits::STILL_NAMED)]).unwrap();
        assert_eq!(named(), (limits::STILL_NAMED, limits::STILL_NAMED + 1));
    }

    #[test]
    fn what_still_speaks_of_an_erased_patient_is_named() {
        let bench = Bench::with(Environment::default());
        let mut source = BundleSource { schema: SCHEMA.into(), policies: POLICIES.into(), ..crate::policy::starter() };
        source.schema.push_str("entity Team = { patients: Set<Patient> };");
        source.policies.push_str(
            r#"@id("about-p1") forbid (principal, action == Action::"Read", resource) when { resource has patient && resource.patient == Patient::"p1" };"#,
        );
        let allow = Allow { widening: true, ..Allow::default() };
        bench.engine.put_policies(&bench.engine.operator_grant(&bench.engine.operator()), source, None, allow).unwrap();
        bench.ingest(&[line(0, 1)]);
        let team = |id: &str, patients: &[&str]| {
            let patients: Vec<_> = patients.iter().map(|p| json!({"type": "Patient", "id": p})).collect();
            json!({"uid": {"type": "Team", "id": id}, "attrs": {"patients": patients}, "parents": []})
        };
        let teams = [team("a", &["p1", "p2"]), team("b", &["p2"]), patient("p1")];
        bench.engine.put_entities(&bench.caller(), &NOWHERE, &teams).unwrap();
        let named = bench.erase(&Erasure::Patient("p1".into(), Own::Kept)).still_named.unwrap();
        assert_eq!(named.api_keys, Some(false));
        assert_eq!(named.policies.unwrap().iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["about-p1"]);
        let entities = named.entities.unwrap();
        assert_eq!(entities.entities, [EntityUid::new("Team", "a")]);
        assert_eq!((entities.entities_count, entities.own_entity), (1, true));
    }

    #[test]
    fn earlier_versions_of_policies_that_speak_of_an_erased_patient_are_named_up_to_the_bound_and_counted_beyond() {
        let bench = Bench::with(Environment::default());
        let put = |more: &str| {
            let source = BundleSource {
                schema: SCHEMA.into(),
                policies: format!("{POLICIES}{more}"),
                ..crate::policy::starter()
            };
            let allow = Allow { widening: true, ..Allow::default() };
            let operator = bench.engine.operator_grant(&bench.engine.operator());
            bench.engine.put_policies(&operator, source, None, allow).unwrap().version
        };
        let about = |patient: &str| {
            format!(
                "@id(\"about-{patient}\") forbid (principal, action == Action::\"Read\", resource) when {{ resource has patient && resource.patient == Patient::\"{patient}\" }};"
            )
        };
        let first = put(&about("p1"));
        put(&about("p2"));
        let second = put(&format!("{}{}", about("p1"), about("p3")));
        put("");
        let named = || {
            let named = bench.erase(&Erasure::Patient("p1".into(), Own::Kept)).still_named.unwrap();
            assert_eq!(named.policies, Some(Vec::new()), "none in force does");
            let earlier = named.earlier.unwrap();
            assert_eq!(earlier.unreadable_versions, 0);
            earlier
        };
        let of = |version| NamingVersion { version, policies: vec!["about-p1".into()] };
        assert_eq!(named().earlier_policies, [of(second), of(first)]);
        assert_eq!(named().earlier_versions, 2);
        let shown = serde_json::to_value(bench.erase(&Erasure::Patient("p1".into(), Own::Kept))).unwrap();
        assert_eq!(shown["still_named"]["earlier_policies"][0], json!({"version": second, "policies": ["about-p1"]}));
        assert_eq!(shown["still_named"]["earlier_versions"], 2);

        // as many more as the bound, written beside the history that the engine checks
        let source = BundleSource { schema: SCHEMA.into(), policies: about("p1"), ..crate::policy::starter() };
        let stored = |at| crate::store::StoredBundle {
            source: source.clone(),
            author: EntityUid::new("Administrator", "root"),
            at,
            restores: None,
        };
        let store = &bench.engine.store;
        let mut version = bench.engine.bundle_in_force().version;
        let at = SystemClock.now();
        let more: Vec<_> =
            (1..limits::STILL_NAMED as u64).map(|n| store.put_bundle(version + n, &stored(at), at)).collect();
        store.commit(&more.into_iter().map(Result::unwrap).collect::<Vec<_>>(), &[], 0).unwrap();
        version += limits::STILL_NAMED as u64 - 1;
        bench.engine.world.write().policy.version = version;
        let earlier = named();
        assert_eq!(
            (earlier.earlier_policies.len(), earlier.earlier_versions),
            (limits::STILL_NAMED, limits::STILL_NAMED)
        );
        bench.engine.world.write().policy.version += 1;
        let earlier = named();
        assert_eq!(
            (earlier.earlier_policies.len(), earlier.earlier_versions),
            (limits::STILL_NAMED, limits::STILL_NAMED + 1)
        );
    }
}

mod unreadable;

mod streaming {
    //! A backup as a stream: its entries, and who may have it how long.

    use std::{
        io::{ErrorKind, Write},
        sync::atomic::{AtomicI64, Ordering::SeqCst},
    };

    use super::*;
    use crate::audit::{Entry, Outcome, What};

    struct Set(AtomicI64);

    impl Clock for Set {
        fn now(&self) -> Instant {
            Instant::from_millis(self.0.load(SeqCst))
        }
    }

    /// Takes so many bytes, and then none.
    struct Short<'a>(&'a mut Vec<u8>, usize);

    impl Write for Short<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let takes = self.1.saturating_sub(self.0.len()).min(bytes.len());
            match takes {
                0 => Err(ErrorKind::BrokenPipe.into()),
                some => self.0.write(&bytes[..some]),
            }
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn backups(bench: &Bench) -> Vec<(Outcome, Option<String>)> {
        let entries = bench.engine.audit(&bench.grant(), 0, 1_000, &Sieve::default()).unwrap().entries;
        let told = |entry: &Entry| (entry.outcome, entry.detail.clone().map(|detail| detail.to_string()));
        entries.iter().filter(|(_, entry)| entry.what == What::Backup).map(|(_, entry)| told(entry)).collect()
    }

    #[test]
    fn a_stream_is_in_the_log_before_its_first_byte_and_one_that_nobody_reads_to_the_end_has_failed_and_bars_no_other()
    {
        let bench = Bench::with(Environment::default());
        bench.ingest(&[line(0, 1), line(1, 2)]);
        let begun = (Outcome::Allowed, Some("stream_begun".into()));
        let mut none = Vec::new();
        let refused = bench.engine.stream_backup(&bench.grant(), &mut Short(&mut none, 0), &|_| ()).unwrap_err();
        assert!(matches!(refused, Refusal::Conflict { code: "backup_stream", .. }), "{refused:?}");
        let told = backups(&bench);
        assert_eq!(told, [begun.clone(), (Outcome::Failed, Some("stream_left".into()))]);
        assert!(none.is_empty());
        let mut whole = Vec::new();
        let taken = bench.engine.stream_backup(&bench.grant(), &mut whole, &|_| ()).unwrap();
        assert_eq!(taken.bytes, whole.len() as u64);
        let told = backups(&bench);
        assert_eq!((&told[2], &told[3]), (&begun, &(Outcome::Allowed, Some("stream".into()))));
        let mut cut = Vec::new();
        let half = &mut Short(&mut cut, whole.len() / 2);
        assert!(bench.engine.stream_backup(&bench.grant(), half, &|_| ()).is_err());
    }

    #[test]
    fn a_stream_ends_within_seconds_for_whom_its_key_is_taken_from() {
        let clock = Arc::new(Set(AtomicI64::new(SystemClock.now().millis())));
        let shared = Arc::clone(&clock) as Arc<dyn Clock>;
        let bench = Bench::with(Environment { clock: shared, ..Environment::default() });
        let (grant, mut taken) = (bench.grant::<ManageKeys>(), Vec::new());
        let mut out = bench.engine.while_permitted(&grant, &mut taken);
        out.write_all(b"one").unwrap();
        let id = bench.engine.keys(&bench.grant()).unwrap()[0].key_id.parse().unwrap();
        let operator = bench.engine.operator();
        bench.engine.revoke_key(operator.caller(), &NOWHERE, Some(id)).unwrap();
        out.write_all(b"two").unwrap();
        clock.0.fetch_add(5_000, SeqCst);
        assert_eq!(out.write_all(b"three").unwrap_err().kind(), ErrorKind::PermissionDenied);
        drop(out);
        assert_eq!(taken, b"onetwo");
    }
}
