//! Whether time tells of an erased patient: stores in which one was erased beside stores that never held any, searched over HTTP in an order
//! of chance; each round founds them anew, for where memory lies moves times as well. Prints a table; asserts that the answers are the same.
//!
//! `cargo bench --bench erased` (WARDKEEP_BENCH_RECORDS and WARDKEEP_BENCH_ROUNDS set other sizes)

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod generated;

use std::{sync::Arc, time::Instant};

use comfy_table::Table;
use generated::{DIMENSION, Rng, base64};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use wardkeep::{
    crypto::{KdfCost, Passphrase},
    engine::{Environment, Settings, Wardkeep},
    http::{App, serve},
    leaktest::measure::{auc, mean, quantile},
};

/// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RECORDS_PER_PATIENT: usize = 20;
/// Patients of the clinician who sees few.
const TEAM: usize = 10;
/// Records of the patient who is erased, for each hundred of the others.
const ERASED_SHARE: usize = 20;
/// Searches of each caller in each store and round that count, after as many that do not.
const SEARCHES: usize = 300;
const PATIENT: &str = "patient-who-goes";

const SCHEMA: &str = r#"
    entity Administrator; entity System; entity Collection; entity Document in [Collection]; entity Patient;
    entity Clinician = { patients?: Set<Patient> };
    entity Record in [Document, Collection] = { patient?: Patient };
    action Retrieve, Read, ReadVector appliesTo { principal: [Clinician, Administrator], resource: [Record], context: {} };
    action Search, Ingest, Erase, Export, BreakGlass
        appliesTo { principal: [Clinician, Administrator], resource: [Collection], context: {} };
    action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass, Explain
        appliesTo { principal: [Administrator], resource: [System], context: {} };
"#;
const POLICIES: &str = r#"
    @id("administrators") permit(principal is Administrator, action, resource);
    @id("everybody-asks") permit(principal is Clinician, action == Action::"Search", resource);
    @id("team") permit(principal is Clinician, action == Action::"Retrieve", resource)
        when { principal has patients && resource has patient && principal.patients.contains(resource.patient) };
    @id("all") permit(principal == Clinician::"all", action == Action::"Retrieve", resource);
"#;
const CALLERS: [&str; 2] = ["team", "all"];

fn main() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse().ok());
    // cargo passes `--bench`; a test run of all targets passes nothing and wants a quick pass.
    let quick = !std::env::args().any(|a| a == "--bench");
    let records = number("WARDKEEP_BENCH_RECORDS").unwrap_or(if quick { 400 } else { 10_000 });
    let rounds = number("WARDKEEP_BENCH_ROUNDS").unwrap_or(if quick { 2 } else { 12 });
    let mut seen = CALLERS.map(|_| Seen::default());
    for round in 0..rounds {
        let mut stores = [Past::Erased, Past::Never, Past::Never].map(|past| Hospital::found(past, records));
        // whoever is founded first may lie better in memory
        if round % 2 == 1 {
            stores.swap(1, 2);
        }
        for (caller, seen) in CALLERS.into_iter().zip(&mut seen) {
            seen.add(&times(&stores, caller, if quick { 5 } else { SEARCHES }, round as u64));
        }
        eprintln!("round {} of {rounds}", round + 1);
    }
    let mut table = Table::new();
    table.set_header([
        "caller",
        "median us, erased",
        "never there",
        "area, erased against never",
        "the same twice (control)",
    ]);
    for (caller, seen) in CALLERS.into_iter().zip(&seen) {
        let interval = |areas: &[f64]| {
            let mean = mean(areas);
            format!("{:.3} [{:.3}, {:.3}]", mean.value, mean.interval.low, mean.interval.high)
        };
        table.add_row([
            caller.to_owned(),
            format!("{:.0}", quantile(&seen.erased, 0.5)),
            format!("{:.0}", quantile(&seen.never, 0.5)),
            interval(&seen.areas),
            interval(&seen.controls),
        ]);
    }
    println!(
        "{records} records, a patient with {} more who was erased; {rounds} rounds, answers alike\n{table}",
        records * ERASED_SHARE / 100
    );
}

#[derive(Default)]
struct Seen {
    erased: Vec<f64>,
    never: Vec<f64>,
    areas: Vec<f64>,
    controls: Vec<f64>,
}

impl Seen {
    fn add(&mut self, [erased, never, again]: &[Vec<f64>; 3]) {
        self.areas.push(auc(never, erased));
        self.controls.push(auc(never, again));
        self.erased.extend(erased);
        self.never.extend(never);
    }
}

/// Microseconds of a caller's searches in each store, each question asked of all of them in an order of chance.
fn times(stores: &[Hospital; 3], caller: &str, count: usize, round: u64) -> [Vec<f64>; 3] {
    let mut rng = Rng(0x5eed + round);
    let mut times = [const { Vec::new() }; 3];
    let keys = stores.each_ref().map(|store| store.key(caller));
    for n in 0..2 * count {
        let question = json!({"vector_base64": base64(&rng.vector()), "limit": 10, "purpose": "treatment"});
        let mut order = [0, 1, 2];
        order.swap(0, (rng.next() % 3) as usize);
        order.swap(1, 1 + (rng.next() % 2) as usize);
        let mut answers = [const { None }; 3];
        for at in order {
            let began = Instant::now();
            let answer = stores[at].call(&keys[at], "POST", "/v1/collections/ward/search", &question);
            if n >= count {
                times[at].push(began.elapsed().as_secs_f64() * 1e6);
            }
            answers[at] = Some(answer["results"].clone());
        }
        assert!(
            answers[0] == answers[1] && answers[1] == answers[2],
            "{caller}: an answer tells of the erased patient"
        );
    }
    times
}

/// What a store has behind it.
#[derive(Clone, Copy, PartialEq)]
enum Past {
    /// A patient was there and was erased.
    Erased,
    Never,
}

/// A store and its server, in this process.
struct Hospital {
    url: String,
    root: String,
    agent: ureq::Agent,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    _home: TempDir,
}

impl Hospital {
    fn found(past: Past, records: usize) -> Self {
        let home = TempDir::new().unwrap();
        let dir = home.path().join("data");
        let phrase = Passphrase::from_bytes(b"a passphrase for the benchmark".to_vec()).unwrap();
        let founding = Wardkeep::create(&dir, &phrase, KdfCost::FLOOR, Environment::default()).unwrap();
        let engine =
            Arc::new(Wardkeep::open(&dir, &phrase, Settings::default(), Environment::default(), &|_| ()).unwrap());
        let (told, address) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async {
                let running = serve(App::new(engine, Vec::new()), ([127, 0, 0, 1], 0).into()).await.unwrap();
                told.send(running.address().unwrap()).unwrap();
                running.until(async move { drop(stopped.await) }).await.unwrap();
            });
        });
        let hospital = Self {
            url: format!("http://{}", address.recv().unwrap()),
            root: founding.api_key.to_string(),
            agent: ureq::Agent::new_with_defaults(),
            stop: Some(stop),
            thread: Some(thread),
            _home: home,
        };
        hospital.fill(past, records);
        hospital
    }

    fn fill(&self, past: Past, records: usize) {
        let root = &self.root;
        let bundle = json!({"schema": SCHEMA, "policies": POLICIES, "note": "the hospital of the benchmark"});
        self.call(root, "PUT", "/v1/policies?allow_widening=true", &bundle);
        self.call(root, "PUT", "/v1/collections/ward", &json!({"dimension": DIMENSION, "metric": "cosine"}));
        let team: Vec<Json> =
            (0..TEAM).map(|n| json!({"__entity": {"type": "Patient", "id": patient(7 * n)}})).collect();
        self.call(
            root,
            "PUT",
            "/v1/entities",
            &json!([
                {"uid": {"type": "Clinician", "id": "team"}, "attrs": {"patients": team}, "parents": []},
                {"uid": {"type": "Clinician", "id": "all"}, "attrs": {}, "parents": []},
            ]),
        );
        let mut rng = Rng(11);
        let all: Vec<Json> =
            (0..records).map(|n| record(&format!("r{n:06}"), &patient(n / RECORDS_PER_PATIENT), &mut rng)).collect();
        let (before, after) = all.split_at(records / 2);
        self.put(before);
        if past == Past::Erased {
            let theirs: Vec<Json> =
                (0..records * ERASED_SHARE / 100).map(|n| record(&format!("gone{n:06}"), PATIENT, &mut rng)).collect();
            self.put(&theirs);
        }
        self.put(after);
        if past == Past::Erased {
            self.call(root, "POST", "/v1/collections/ward/erase", &json!({"patient": PATIENT}));
        }
    }

    fn put(&self, records: &[Json]) {
        for some in records.chunks(500) {
            self.call(&self.root, "PUT", "/v1/collections/ward/records", &json!({"records": some}));
        }
    }

    fn key(&self, clinician: &str) -> String {
        let made = self.call(&self.root, "POST", "/v1/callers", &json!({"type": "Clinician", "id": clinician}));
        made["api_key"].as_str().unwrap().to_owned()
    }

    fn call(&self, key: &str, method: &str, path: &str, body: &Json) -> Json {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json")
            .body(body.to_string())
            .unwrap();
        let mut answer = self.agent.run(request).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }
}

impl Drop for Hospital {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn patient(n: usize) -> String {
    format!("patient-{n:05}")
}

fn record(id: &str, patient: &str, rng: &mut Rng) -> Json {
    json!({
        "id": id, "document": format!("{patient}-notes"), "vector_base64": base64(&rng.vector()),
        "text": format!("Note {id}. {}", "The course has been stable and the plan is unchanged. ".repeat(6)),
        "attributes": {"patient": {"__entity": {"type": "Patient", "id": patient}}},
    })
}
