//! Keys renewed under load: 100,000 generated records of 384 dimensions and 100,000 data keys in the real binary, which is killed ten
//! times (SIGKILL) on the way and started again. Searches and writes go on throughout; those that fail while the server is up are
//! counted. Then what a destruction costs; and at the end the old key file is tried on the new store, and the new one on the old.
//! Prints tables; asserts that no request failed and that no key opens what it should not.
//!
//! `cargo bench --bench rotation` (WARDKEEP_BENCH_RECORDS and WARDKEEP_BENCH_KILLS set other sizes, WARDKEEP_BENCH_BINARY another build)

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod generated;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use generated::{DIMENSION, Rng, base64};
use serde_json::{Value as Json, json};
use wardkeep::{
    crypto::Passphrase,
    store::{OpenOptions, Report, Store},
};

/// With an entity of each patient there are as many data keys as records.
const RECORDS_PER_PATIENT: usize = 2;
/// Patients of the clinician who sees few.
const TEAM: usize = 50;
const CALM: Duration = Duration::from_secs(20);
/// Between two writes of a record.
const WRITES_EVERY: Duration = Duration::from_millis(50);
const STATUS_EVERY: Duration = Duration::from_millis(200);
const ERASURES: usize = 20;
const PHRASE: &str = "a passphrase for the benchmark";

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

fn main() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse().ok());
    // cargo passes `--bench`; a test run of all targets passes nothing and wants a quick pass.
    let quick = !std::env::args().any(|a| a == "--bench");
    let records = number("WARDKEEP_BENCH_RECORDS").unwrap_or(if quick { 2_000 } else { 100_000 });
    let kills = number("WARDKEEP_BENCH_KILLS").unwrap_or(if quick { 2 } else { 10 });
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let mut server = Server::found(&data);
    let keys = server.furnish(records);
    server.kill();
    let old = home.path().join("old");
    copy(&data, &old);
    server.start();
    let load = Load::begin(&server, &keys, records);
    let calm = load.measured(|| std::thread::sleep(if quick { CALM / 20 } else { CALM }));
    let mut rotation = Vec::new();
    let busy = load.measured(|| rotation = rotate(&mut server, &load, kills));
    let failed = load.end();
    print_rotation(&rotation);
    print_load(&calm, &busy, failed);
    print_destruction(&server, records);
    server.kill();
    print_keys(&data, &old);
    assert_eq!(failed, 0, "a request failed while the server was up");
}

/// From one start of the server to its end, or to the end of the rotation.
struct Stretch {
    started_in: Duration,
    found: u64,
    reached: u64,
    took: Duration,
}

/// Rotates the keys, kills the server on the way as often as is wanted, and goes on after each.
fn rotate(server: &mut Server, load: &Load, kills: usize) -> Vec<Stretch> {
    let begun = server.call("POST", "/v1/keys/rotate", &json!({}));
    let total = begun["data_keys"].as_u64().unwrap();
    let (mut stretches, mut started_in) = (Vec::new(), Duration::ZERO);
    for kill in 1..=kills + 1 {
        let began = Instant::now();
        let found = server.renewed().0;
        let target = if kill > kills { u64::MAX } else { total * kill as u64 / (kills as u64 + 1) };
        let mut now = (found, false);
        while now.0 < target && !now.1 {
            std::thread::sleep(STATUS_EVERY.min(Duration::from_millis(total / 100)));
            now = server.renewed();
        }
        let took = began.elapsed();
        eprintln!(
            "{} of {total} keys renewed, kill {} of {kills}: {:.0} s",
            now.0,
            kill.min(kills),
            took.as_secs_f64()
        );
        stretches.push(Stretch { started_in, found, reached: now.0, took });
        if kill <= kills {
            assert!(!now.1, "the rotation ended before it was killed as often as was wanted");
            load.cut();
            server.kill();
            let began = Instant::now();
            server.start();
            started_in = began.elapsed();
            load.resume(&server.url);
        }
    }
    stretches
}

fn print_rotation(stretches: &[Stretch]) {
    let mut table = table(["start", "ready after ms", "renewed before", "renewed at its end", "seconds", "keys/s"]);
    for (number, Stretch { started_in, found, reached, took }) in stretches.iter().enumerate() {
        table.add_row([
            (number + 1).to_string(),
            ms(*started_in),
            found.to_string(),
            reached.to_string(),
            format!("{:.1}", took.as_secs_f64()),
            format!("{:.0}", reached.saturating_sub(*found) as f64 / took.as_secs_f64()),
        ]);
    }
    let took: Duration = stretches.iter().map(|stretch| stretch.took).sum();
    println!("a rotation, killed {} times: {:.0} s\n{table}", stretches.len() - 1, took.as_secs_f64());
}

/// How long requests of one kind took.
type Times = BTreeMap<&'static str, Vec<Duration>>;

/// Clients that ask and write without end, and how they fare.
struct Load {
    shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

struct Shared {
    url: Mutex<Option<String>>,
    times: Mutex<Times>,
    failed: AtomicUsize,
    cut: AtomicUsize,
    /// The server is about to be killed, or down: what fails now is no fault.
    killing: AtomicBool,
    over: AtomicBool,
}

impl Load {
    fn begin(server: &Server, keys: &[(&'static str, String)], records: usize) -> Self {
        let shared = Arc::new(Shared {
            url: Mutex::new(Some(server.url.clone())),
            times: Mutex::default(),
            failed: AtomicUsize::new(0),
            cut: AtomicUsize::new(0),
            killing: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        for (who, key) in keys {
            let (shared, who, key) = (Arc::clone(&shared), *who, key.clone());
            threads.push(std::thread::spawn(move || {
                let mut rng = Rng(who.len() as u64);
                let body = |rng: &mut Rng| json!({"vector_base64": base64(&rng.vector()), "limit": 10, "purpose": "treatment"});
                shared.go_on(who, Duration::ZERO, |agent, url| {
                    post(agent, "POST", &format!("{url}/v1/collections/ward/search"), &key, &body(&mut rng))
                });
            }));
        }
        let (writing, root) = (Arc::clone(&shared), server.root.clone());
        threads.push(std::thread::spawn(move || {
            let mut rng = Rng(5);
            writing.go_on("write of a record", WRITES_EVERY, |agent, url| {
                let n = (rng.next() % records as u64) as usize;
                let line = record(n, &mut rng);
                post(agent, "PUT", &format!("{url}/v1/collections/ward/records"), &root, &json!({"records": [line]}))
            });
        }));
        Self { shared, threads }
    }

    /// What the clients met while `work` was done.
    fn measured(&self, work: impl FnOnce()) -> Times {
        self.shared.times.lock().unwrap().clear();
        work();
        std::mem::take(&mut self.shared.times.lock().unwrap())
    }

    fn cut(&self) {
        self.shared.killing.store(true, SeqCst);
        *self.shared.url.lock().unwrap() = None;
    }

    fn resume(&self, url: &str) {
        // what hit the dead server has told so before anything is counted again
        std::thread::sleep(Duration::from_millis(100));
        self.shared.killing.store(false, SeqCst);
        *self.shared.url.lock().unwrap() = Some(url.to_owned());
    }

    fn end(self) -> usize {
        self.shared.over.store(true, SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        println!("requests cut off by a kill: {}", self.shared.cut.load(SeqCst));
        self.shared.failed.load(SeqCst)
    }
}

impl Shared {
    /// Does `once` again and again while there is a server.
    fn go_on(
        &self,
        what: &'static str,
        pause: Duration,
        mut once: impl FnMut(&ureq::Agent, &str) -> Result<(), String>,
    ) {
        let agent = ureq::Agent::new_with_defaults();
        while !self.over.load(SeqCst) {
            let Some(url) = self.url.lock().unwrap().clone() else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            let began = Instant::now();
            match once(&agent, &url) {
                Ok(()) => self.times.lock().unwrap().entry(what).or_default().push(began.elapsed()),
                Err(_) if self.killing.load(SeqCst) => drop(self.cut.fetch_add(1, SeqCst)),
                Err(why) => {
                    println!("FAILED: {what}: {why}");
                    self.failed.fetch_add(1, SeqCst);
                }
            }
            std::thread::sleep(pause);
        }
    }
}

fn post(agent: &ureq::Agent, method: &str, url: &str, key: &str, body: &Json) -> Result<(), String> {
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(url)
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .body(body.to_string())
        .unwrap();
    let mut answer = agent.run(request).map_err(|error| error.to_string())?;
    answer.body_mut().read_to_string().map(drop).map_err(|error| error.to_string())
}

fn print_load(calm: &Times, busy: &Times, failed: usize) {
    let mut table = table([
        "request",
        "calm",
        "p50 ms",
        "p99 ms",
        "while keys are renewed",
        "p50 ms",
        "p99 ms",
        "max ms",
        "p99 ratio",
    ]);
    for (what, before) in calm {
        let (before, during) = (sorted(before), sorted(&busy[what]));
        table.add_row([
            (*what).to_owned(),
            before.len().to_string(),
            fine(at(&before, 0.5)),
            fine(at(&before, 0.99)),
            during.len().to_string(),
            fine(at(&during, 0.5)),
            fine(at(&during, 0.99)),
            fine(at(&during, 1.0)),
            format!("{:.2}", at(&during, 0.99).as_secs_f64() / at(&before, 0.99).as_secs_f64()),
        ]);
    }
    println!("{table}\nfailed while the server was up: {failed}");
}

/// One patient, then one record whose patient has another, each alone on a quiet server.
fn print_destruction(server: &Server, records: usize) {
    let keys = server.call("GET", "/v1/keys", &Json::Null)["data_keys"].as_u64().unwrap();
    let mut table = table(["destroyed", "times", "p50 ms", "max ms", "server CPU ms each"]);
    let mut row = |what: &str, body: &dyn Fn(usize) -> Json| {
        let cpu = server.cpu();
        let times: Vec<Duration> = (0..ERASURES)
            .map(|n| {
                let began = Instant::now();
                let answer = server.call("POST", "/v1/collections/ward/erase", &body(n));
                assert!(answer["erased"].as_u64().is_some_and(|n| n > 0), "{answer}");
                began.elapsed()
            })
            .collect();
        let cpu = (server.cpu() - cpu) / ERASURES as u32;
        let times = sorted(&times);
        table.add_row([what.to_owned(), ERASURES.to_string(), fine(at(&times, 0.5)), fine(at(&times, 1.0)), fine(cpu)]);
    };
    let patients = records / RECORDS_PER_PATIENT;
    row("a patient", &|n| json!({"patient": patient(patients - 1 - n)}));
    row("a record", &|n| json!({"ids": [id((patients - 1 - ERASURES - n) * RECORDS_PER_PATIENT)]}));
    println!("of {records} records under {keys} data keys\n{table}");
}

/// Every object opened, with each key file on each store.
fn print_keys(data: &Path, old: &Path) {
    let home = tempfile::tempdir_in(data.parent().unwrap()).unwrap();
    let mut table = table(["store", "key file", "objects", "that do not open"]);
    let mut row = |store: &str, at: &Path, ring: &str, keyring: &Path| {
        let place = home.path().join(store).join(ring);
        copy(at, &place);
        fs::copy(keyring.join("keyring"), place.join("keyring")).unwrap();
        let phrase = Passphrase::from_bytes(PHRASE.as_bytes().to_vec()).unwrap();
        let report = Store::examine(&place, &phrase, &OpenOptions::default()).unwrap();
        fs::remove_dir_all(&place).unwrap();
        let objects = sealed_objects(&report);
        table.add_row([store.to_owned(), ring.to_owned(), objects.to_string(), report.damaged.len().to_string()]);
        (objects, report.damaged.len() as u64)
    };
    let own = [row("old", old, "old", old), row("new", data, "new", data)];
    let crossed = [row("new", data, "old", old), row("old", old, "new", data)];
    println!("{table}");
    assert!(own.iter().all(|(objects, shut)| *objects > 0 && *shut == 0), "each key file opens its own store");
    assert!(crossed.iter().all(|(objects, shut)| objects == shut), "and nothing of the other");
}

/// What lies under a key that a rotation renews: all but entries on their way to the log, which lie under the audit's own.
fn sealed_objects(report: &Report) -> u64 {
    report.counts.iter().filter(|(kind, _)| *kind != wardkeep::store::Kind::Outbox).map(|(_, n)| n).sum()
}

fn id(n: usize) -> String {
    format!("rec-{n:07}")
}

fn patient(n: usize) -> String {
    format!("p-{n:06}")
}

fn record(n: usize, rng: &mut Rng) -> Json {
    let patient = patient(n / RECORDS_PER_PATIENT);
    json!({
        "id": id(n),
        "document": format!("{patient}-progress_note"),
        "vector_base64": base64(&rng.vector()),
        "text": format!("Progress note {n}. {}", "The course has been stable and the plan is unchanged. ".repeat(6)),
        "attributes": {"patient": {"__entity": {"type": "Patient", "id": patient}}},
    })
}

/// Generated records, a line at a time.
struct Lines {
    rng: Rng,
    next: usize,
    end: usize,
    line: Vec<u8>,
    at: usize,
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.line.len() {
            if self.next == self.end {
                return Ok(0);
            }
            self.line = format!("{}\n", record(self.next, &mut self.rng)).into_bytes();
            (self.at, self.next) = (0, self.next + 1);
        }
        let count = buffer.len().min(self.line.len() - self.at);
        buffer[..count].copy_from_slice(&self.line[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// The real binary on a free port.
struct Server {
    data: PathBuf,
    child: Option<Child>,
    url: String,
    root: String,
    agent: ureq::Agent,
}

impl Server {
    fn found(data: &Path) -> Self {
        let made = binary(&["init", "--json"], data).output().unwrap();
        let made: Json = serde_json::from_slice(&made.stdout).unwrap();
        let root = made["api_key"].as_str().unwrap().to_owned();
        let agent = ureq::Agent::new_with_defaults();
        let mut server = Self { data: data.to_owned(), child: None, url: String::new(), root, agent };
        server.start();
        server
    }

    fn start(&mut self) {
        let mut serve = binary(&["serve", "--listen", "127.0.0.1:0"], &self.data);
        let mut child = serve.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.child = Some(child);
        line.trim().rsplit(' ').next().unwrap().clone_into(&mut self.url);
        assert!(self.url.starts_with("http://"), "{line}");
    }

    /// kill -9.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn call(&self, method: &str, path: &str, body: &Json) -> Json {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.root));
        let answer = match method {
            "GET" => self.agent.run(request.body(()).unwrap()),
            _ => self.agent.run(request.header("content-type", "application/json").body(body.to_string()).unwrap()),
        };
        serde_json::from_str(&answer.unwrap().body_mut().read_to_string().unwrap()).unwrap()
    }

    /// Data keys renewed, and whether nothing is left to renew.
    fn renewed(&self) -> (u64, bool) {
        let status = self.call("GET", "/v1/keys", &Json::Null);
        (status["renewed"].as_u64().unwrap(), status["state"] == "current")
    }

    /// Bundle, people and records; the keys of those who ask.
    fn furnish(&self, records: usize) -> Vec<(&'static str, String)> {
        self.call(
            "PUT",
            "/v1/policies?allow_widening=true",
            &json!({"schema": SCHEMA, "policies": POLICIES, "note": "benchmark"}),
        );
        self.call("PUT", "/v1/collections/ward", &json!({"dimension": DIMENSION, "metric": "cosine"}));
        let patients = records / RECORDS_PER_PATIENT;
        let entity =
            |ty: &str, id: &str, attrs: Json| json!({"uid": {"type": ty, "id": id}, "attrs": attrs, "parents": []});
        let mut entities: Vec<Json> = (0..patients).map(|n| entity("Patient", &patient(n), json!({}))).collect();
        let team: Vec<Json> = (0..TEAM).map(|n| json!({"__entity": {"type": "Patient", "id": patient(n)}})).collect();
        entities.push(entity("Clinician", "few", json!({ "patients": team })));
        entities.push(entity("Clinician", "all", json!({})));
        self.call("PUT", "/v1/entities", &Json::Array(entities));
        let lines = Lines { rng: Rng(7), next: 0, end: records, line: Vec::new(), at: 0 };
        let answer = self
            .agent
            .put(format!("{}/v1/collections/ward/records", self.url))
            .header("authorization", format!("Bearer {}", self.root))
            .content_type("application/x-ndjson")
            .send(ureq::SendBody::from_owned_reader(lines))
            .unwrap()
            .body_mut()
            .read_to_string()
            .unwrap();
        let answer: Json = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["accepted"], records, "{answer}");
        let key = |who: &str| self.call("POST", "/v1/callers", &json!({"type": "Clinician", "id": who}));
        [("few", "search over 100 records"), ("all", "search over all records")]
            .map(|(who, what)| (what, key(who)["api_key"].as_str().unwrap().to_owned()))
            .into()
    }

    /// User and system time of the server so far.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.as_ref().unwrap().id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn binary(words: &[&str], data: &Path) -> Command {
    let binary = std::env::var("WARDKEEP_BENCH_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_wardkeep").to_owned());
    let mut command = Command::new(binary);
    command.args(words).arg("--data").arg(data).env("WARDKEEP_PASSPHRASE", PHRASE);
    command
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    table
}

fn sorted(times: &[Duration]) -> Vec<Duration> {
    let mut times = times.to_vec();
    times.sort();
    times
}

fn at(sorted: &[Duration], share: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

fn ms(took: Duration) -> String {
    format!("{:.0}", took.as_secs_f64() * 1e3)
}

fn fine(took: Duration) -> String {
    format!("{:.2}", took.as_secs_f64() * 1e3)
}
