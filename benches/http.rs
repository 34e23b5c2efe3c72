//! End to end over HTTP: 100,000 generated records of 384 dimensions go in as NDJSON, then five roles search. The server is the real
//! binary in a process of its own, so that its CPU time and memory are its own. Prints tables; asserts nothing.
//!
//! `cargo bench --bench http` (WARDKEEP_BENCH_RECORDS sets another size; the server reads its own variables, WARDKEEP_INDEX_MEMORY=lean say)

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod generated;

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use comfy_table::Table;
use generated::{DIMENSION, Rng, base64};
use serde_json::{Value as Json, json};

const RECORDS_PER_PATIENT: usize = 20;
const SEARCHES: usize = 2_000;
/// Clients at a time in the second measurement: one disk sync then serves several.
const CLIENTS: usize = 8;

/// A patient's records lie near a centre of the patient's own.
fn near(rng: &mut Rng, centre: &[f32]) -> Vec<f32> {
    centre.iter().map(|x| x + 0.7 * rng.normal()).collect()
}

fn main() {
    let records: usize = std::env::var("WARDKEEP_BENCH_RECORDS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    // cargo passes `--bench`; a test run of all targets passes nothing and wants a quick pass.
    let records = if std::env::args().any(|a| a == "--bench") { records } else { 2_000 };
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    server.govern(records / RECORDS_PER_PATIENT);
    ingest(&server, records);
    search(&server, records);
}

fn ingest(server: &Server, records: usize) {
    let before = server.cpu();
    let started = Instant::now();
    let answer = server
        .agent
        .put(format!("{}/v1/collections/ward/records", server.url))
        .header("authorization", format!("Bearer {}", server.root))
        .content_type("application/x-ndjson")
        .send(ureq::SendBody::from_owned_reader(Lines::new(records)))
        .unwrap()
        .body_mut()
        .read_to_string()
        .unwrap();
    let took = started.elapsed();
    let answer: Json = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["accepted"], records, "{answer}");
    let (peak, now) = server.memory_mib();
    let mut table = Table::new();
    table.set_header(["NDJSON over HTTP, durable", ""]);
    table.add_row(["records".to_owned(), records.to_string()]);
    table.add_row(["records/s".to_owned(), format!("{:.0}", records as f64 / took.as_secs_f64())]);
    table.add_row([
        "server CPU us/record".to_owned(),
        format!("{:.0}", (server.cpu() - before).as_secs_f64() * 1e6 / records as f64),
    ]);
    table.add_row(["memory after, MiB".to_owned(), format!("{now:.0}")]);
    table.add_row(["peak during / after".to_owned(), format!("{:.2}", peak / now)]);
    println!("{table}");
}

fn search(server: &Server, records: usize) {
    let patients = records / RECORDS_PER_PATIENT;
    let mut table = Table::new();
    table.set_header(["role", "permitted", "searches", "server CPU us", "with 8 clients", "latency p50 us", "p99 us"]);
    let roles = [
        ("nurse", "treatment", 7 * RECORDS_PER_PATIENT),
        ("physician", "treatment", 45 * RECORDS_PER_PATIENT),
        ("attending", "treatment", (patients / 10) * RECORDS_PER_PATIENT),
        ("privacy_officer", "operations", records),
        ("temp", "treatment", 0),
    ];
    let mut rng = Rng(99);
    for (role, purpose, permitted) in roles {
        let key = server.call("POST", "/v1/callers", &json!({"type": "Clinician", "id": role}))["api_key"]
            .as_str()
            .unwrap()
            .to_owned();
        let bodies: Vec<String> = (0..64)
            .map(|_| json!({"vector_base64": base64(&rng.vector()), "limit": 10, "purpose": purpose}).to_string())
            .collect();
        let ask = |body: &str| {
            let answer = server
                .agent
                .post(format!("{}/v1/collections/ward/search", server.url))
                .header("authorization", format!("Bearer {key}"))
                .content_type("application/json")
                .send(body)
                .unwrap()
                .body_mut()
                .read_to_string()
                .unwrap();
            assert!(answer.contains("retrieval_id"), "{answer}");
        };
        let searches = if permitted > 50_000 { SEARCHES / 10 } else { SEARCHES };
        bodies.iter().for_each(|b| ask(b));
        let before = server.cpu();
        let mut latencies: Vec<Duration> = (0..searches)
            .map(|i| {
                let started = Instant::now();
                ask(&bodies[i % bodies.len()]);
                started.elapsed()
            })
            .collect();
        let cpu = (server.cpu() - before).as_secs_f64() * 1e6 / searches as f64;
        let before = server.cpu();
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (bodies, ask) = (&bodies, &ask);
                scope.spawn(move || (0..searches / CLIENTS).for_each(|i| ask(&bodies[(i + client) % bodies.len()])));
            }
        });
        let shared = (server.cpu() - before).as_secs_f64() * 1e6 / searches as f64;
        latencies.sort();
        let at = |share: f64| latencies[((searches - 1) as f64 * share) as usize].as_micros().to_string();
        table.add_row([
            role.into(),
            permitted.to_string(),
            searches.to_string(),
            format!("{cpu:.0}"),
            format!("{shared:.0}"),
            at(0.5),
            at(0.99),
        ]);
    }
    println!("{table}");
}

/// Generated records, a line at a time, so that the client's memory stays flat too.
struct Lines {
    rng: Rng,
    centre: Vec<f32>,
    next: usize,
    end: usize,
    line: Vec<u8>,
    at: usize,
}

impl Lines {
    fn new(records: usize) -> Self {
        Self { rng: Rng(7), centre: Vec::new(), next: 0, end: records, line: Vec::new(), at: 0 }
    }

    fn fill(&mut self) {
        let n = self.next;
        if n.is_multiple_of(RECORDS_PER_PATIENT) {
            self.centre = self.rng.vector();
        }
        let vector = near(&mut self.rng, &self.centre);
        let patient = format!("p-{:06}", n / RECORDS_PER_PATIENT);
        let mut line = json!({
            "id": format!("rec-{n:07}"),
            "document": format!("{patient}-progress_note"),
            "vector_base64": base64(&vector),
            "text": format!("Progress note {n} of this patient. {}", "The course has been stable and the plan is unchanged. ".repeat(6)),
            "attributes": {
                "patient": {"__entity": {"type": "Patient", "id": patient}},
                "doc_type": "progress_note",
                "department": {"__entity": {"type": "Department", "id": "cardiology"}},
                "facility": "harborview_hospital",
                "sensitivity": 1,
                "author": {"__entity": {"type": "Clinician", "id": "attending"}},
                "created_at": {"__extn": {"fn": "datetime", "arg": "2026-01-31T08:00:00Z"}},
                "source": "generated",
            },
        }).to_string();
        line.push('\n');
        self.line = line.into_bytes();
        self.at = 0;
        self.next += 1;
    }
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.line.len() {
            if self.next == self.end {
                return Ok(0);
            }
            self.fill();
        }
        let count = buffer.len().min(self.line.len() - self.at);
        buffer[..count].copy_from_slice(&self.line[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// The real binary on a free port.
struct Server {
    child: Child,
    url: String,
    root: String,
    agent: ureq::Agent,
}

impl Server {
    fn start(home: &Path) -> Self {
        let binary = env!("CARGO_BIN_EXE_wardkeep");
        let data = home.join("data");
        let passphrase = ("WARDKEEP_PASSPHRASE", "a passphrase for the benchmark");
        let made = Command::new(binary)
            .args(["init", "--json", "--data"])
            .arg(&data)
            .env(passphrase.0, passphrase.1)
            .output()
            .unwrap();
        let made: Json = serde_json::from_slice(&made.stdout).unwrap();
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(&data)
            .env(passphrase.0, passphrase.1)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().rsplit(' ').next().unwrap().to_owned();
        Self { child, url, root: made["api_key"].as_str().unwrap().to_owned(), agent: ureq::Agent::new_with_defaults() }
    }

    fn call(&self, method: &str, path: &str, body: &Json) -> Json {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.root))
            .body(body.to_string())
            .unwrap();
        serde_json::from_str(&self.agent.run(request).unwrap().body_mut().read_to_string().unwrap()).unwrap()
    }

    /// The clinical bundle and a staff that sees from nothing to everything.
    fn govern(&self, patients: usize) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/clinical");
        let (mut schema, mut policies) = (String::new(), String::new());
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.extension().and_then(|e| e.to_str()) {
                Some("cedarschema") => schema = fs::read_to_string(path).unwrap(),
                Some("cedar") => writeln!(policies, "{}", fs::read_to_string(path).unwrap()).unwrap(),
                _ => {}
            }
        }
        self.call("PUT", "/v1/policies", &json!({"schema": schema, "policies": policies, "note": "benchmark"}));
        self.call("PUT", "/v1/collections/ward", &json!({"dimension": DIMENSION, "metric": "cosine"}));
        let uid = |ty: &str, id: &str| json!({"type": ty, "id": id});
        let mut entities = vec![
            json!({"uid": uid("Role", "treating"), "attrs": {}, "parents": []}),
            json!({"uid": uid("Department", "cardiology"), "attrs": {}, "parents": []}),
        ];
        for p in 0..patients {
            let attrs = json!({"vip": false, "part2_consent": false, "facility": "harborview_hospital"});
            entities.push(json!({"uid": uid("Patient", &format!("p-{p:06}")), "attrs": attrs, "parents": []}));
        }
        for (role, count) in
            [("nurse", 7), ("physician", 45), ("attending", patients / 10), ("privacy_officer", 0), ("temp", 0)]
        {
            let team: Vec<_> =
                (0..count).map(|i| uid("Patient", &format!("p-{:06}", i * patients / count.max(1)))).collect();
            let treating = ["nurse", "physician", "attending"].contains(&role);
            let parents = if treating { json!([uid("Role", "treating")]) } else { json!([]) };
            entities.push(json!({"uid": uid("Role", role), "attrs": {}, "parents": parents}));
            let mut attrs = json!({"departments": []});
            if treating {
                entities.push(json!({"uid": uid("CareTeam", role), "attrs": {"patients": team}, "parents": []}));
                attrs["care_team"] = uid("CareTeam", role);
            }
            entities.push(json!({"uid": uid("Clinician", role), "attrs": attrs, "parents": [uid("Role", role)]}));
        }
        let answer = self.call("PUT", "/v1/entities", &Json::Array(entities));
        assert!(answer.get("written").is_some(), "{answer}");
    }

    /// User and system time of the server so far.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
    }

    /// Peak and present resident memory.
    fn memory_mib(&self) -> (f64, f64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|l| l.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
        };
        (field("VmHWM"), field("VmRSS"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
