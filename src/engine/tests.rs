//! What a use case does that no answer shows: what it waits for, and how much it looks at. Over a real store, without HTTP.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
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
    model::{Action, BundleSource, CollectionName, Embedding, Isolation, Metric, Phi},
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

/// Says whenever it is asked for the time, to whoever listens.
struct Telltale(Lock<Option<Sender<()>>>);

impl Clock for Telltale {
    fn now(&self) -> Instant {
        if let Some(told) = self.0.lock().as_ref() {
            let _ = told.send(());
        }
        SystemClock.now()
    }
}

/// Puts another version in force each time that the clock was asked, as a change would; says how often.
fn change_all_the_time(engine: &Wardkeep, asked: &Receiver<()>, most: usize) -> usize {
    asked
        .iter()
        .take(most)
        .map(|()| {
            let _writing = engine.writing.lock();
            engine.world.write().policy.version += 1;
        })
        .count()
}

#[test]
fn a_batch_comes_in_however_fast_policies_change() {
    let clock = Arc::new(Telltale(Lock::new(None)));
    let bench = Bench::with(Environment { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Environment::default() });
    let lines: Vec<Line> = (0..1_000).map(|number| line(number, number)).collect();
    let grant = bench.grant();
    let (told, asked) = channel();
    *clock.0.lock() = Some(told);
    let most = 100;
    std::thread::scope(|threads| {
        let bench = &bench;
        let changes = threads.spawn(move || change_all_the_time(&bench.engine, &asked, most));
        let ingested = bench.engine.ingest_whole(&grant, &lines, Mode::Upsert).unwrap();
        *clock.0.lock() = None;
        assert_eq!(ingested.accepted, 1_000);
        assert!(changes.join().unwrap() < most, "it came in only once the changes had come to an end");
    });
}
