//! A store with a bundle under which `Administrator::"root"` may do everything, so that what is stored can be read back whole;
//! the real binary on its directory; and copies of it.

#![allow(dead_code, reason = "each module of the suite uses its own part")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Arc,
};

use rustix::process::Signal;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use wardkeep::{
    crypto::{Entropy, KdfCost, OsEntropy},
    engine::{Environment, Settings, Wardkeep},
    store::EngineKind,
};

use super::{
    harness::{Client, Server, passphrase},
    said,
};

pub const PHRASE: &str = "correct horse battery staple";
/// Components of a vector in collection `notes`.
pub const DIMENSION: usize = 8;

const SCHEMA: &str = r#"
    entity Administrator; entity System; entity Collection; entity Document in [Collection]; entity Patient;
    entity Reader = { rev: Long };
    entity Record in [Document, Collection] = { patient?: Patient, rev: Long, kind: String };
    action Retrieve, Read, ReadVector appliesTo {
        principal: [Reader, Administrator], resource: [Record], context: { purpose: String },
    };
    action Search, Ingest, Erase, Export, BreakGlass appliesTo {
        principal: [Reader, Administrator], resource: [Collection], context: {},
    };
    action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass, Explain
    appliesTo { principal: [Administrator], resource: [System], context: {} };
"#;

/// The bundle; `rev` is written into it, so that each is another.
pub fn bundle(rev: u64) -> Json {
    let policies = format!(
        "// revision {rev}\n@id(\"administrators-may-do-everything\") permit(principal is Administrator, action, resource);\n"
    );
    json!({"schema": SCHEMA, "policies": policies, "note": format!("revision {rev}")})
}

/// The bundle into force, and the collection `notes`.
pub fn furnish(root: &Client) {
    root.put("/v1/policies?allow_widening=true", &bundle(0)).ok();
    root.put("/v1/collections/notes", &json!({"dimension": DIMENSION, "metric": "cosine"})).ok();
}

/// A furnished server on a new store.
pub fn server() -> Server {
    server_on(EngineKind::default())
}

/// The same on a storage engine.
pub fn server_on(engine: EngineKind) -> Server {
    let server = Server::with(settings_on(engine), Environment::default);
    furnish(&server.root());
    server
}

pub fn settings_on(engine: EngineKind) -> Settings {
    Settings { storage_engine: Some(engine), ..Settings::default() }
}

/// A new store whose passphrase is cheap to try; its root's key.
pub fn found(dir: &Path) -> String {
    found_on(EngineKind::default(), dir)
}

/// The same on a storage engine.
pub fn found_on(engine: EngineKind, dir: &Path) -> String {
    let (cost, settings) = (KdfCost::FLOOR, settings_on(engine));
    Wardkeep::create_on(dir, &passphrase(), cost, settings, Environment::default()).unwrap().api_key.to_string()
}

/// Makes a test of each function, once for each storage engine.
macro_rules! on_each_engine {
    ($($test:ident),* $(,)?) => {
        mod on_sled { $(#[test] fn $test() { super::$test(wardkeep::store::EngineKind::Sled) })* }
        mod on_redb { $(#[test] fn $test() { super::$test(wardkeep::store::EngineKind::Redb) })* }
    };
}
pub(crate) use on_each_engine;

/// A server on a directory that is there.
pub fn serve(home: &Arc<TempDir>, dir: &Path, key: &str, environment: Environment) -> Server {
    Server::open(Arc::clone(home), dir, key, Settings::default(), environment)
}

/// Stops a server and lets go of its directory: offline verbs may look at it now.
pub fn closed(mut server: Server) -> (Arc<TempDir>, PathBuf) {
    server.stop();
    (Arc::clone(&server.home), server.dir.clone())
}

/// A record of a document, in its revision.
pub fn record(id: &str, document: &str, rev: u64) -> Json {
    said::planted(id);
    let seed = id.bytes().fold(7_u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
    let vector: Vec<f64> =
        (0..DIMENSION as u64).map(|i| ((seed.wrapping_mul(i + 3) >> 5) % 199) as f64 / 100.0 - 0.991).collect();
    json!({
        "id": id, "document": document, "vector": vector, "text": format!("what {id} says in revision {rev}"),
        "attributes": {"rev": rev, "kind": "a-kind-of-note", "patient": {"type": "Patient", "id": format!("patient-of-{document}")}},
    })
}

/// Puts records in, whole.
pub fn put_records(client: &Client, records: &[Json]) -> super::harness::Answer {
    client.put("/v1/collections/notes/records", &json!({ "records": records }))
}

/// A question near to a record.
pub fn question(id: &str, limit: usize) -> Json {
    json!({"vector": record(id, "", 0)["vector"], "limit": limit, "purpose": "treatment"})
}

/// Every record of `notes` that root may read, in order of ids.
pub fn all_records(root: &Client) -> Vec<Json> {
    let (mut all, mut after) = (Vec::new(), Json::Null);
    loop {
        let page = root
            .post(
                "/v1/collections/notes/records/list",
                &json!({"purpose": "treatment", "after": after, "limit": 1_000}),
            )
            .ok();
        let records = page["records"].as_array().unwrap();
        if records.is_empty() {
            return all;
        }
        all.extend(records.iter().cloned());
        after = page["next"].clone();
    }
}

/// Every audit entry after number `after`, in order.
pub fn all_entries(root: &Client, mut after: u64) -> Vec<Json> {
    let mut all = Vec::new();
    loop {
        let page = root.get(&format!("/v1/audit?after={after}&limit=1000")).ok();
        all.extend(page["entries"].as_array().unwrap().iter().cloned());
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => return all,
        }
    }
}

/// What an entry is about: `search`, `ingest` …
pub fn what(entry: &Json) -> &str {
    entry["what"].as_str().unwrap_or_default()
}

/// A server in a process of its own.
pub struct Process {
    child: Child,
    pub url: String,
}

impl Process {
    /// Starts `wardkeep serve` and waits until it says that it listens.
    pub fn serve(dir: &Path) -> Self {
        Self::serve_with(dir, &BTreeMap::from([("WARDKEEP_PASSPHRASE", PHRASE.to_owned())]))
    }

    /// The same with other variables than the passphrase.
    pub fn serve_with(dir: &Path, variables: &BTreeMap<&'static str, String>) -> Self {
        let mut serve = bare_command(&["serve"]);
        serve.envs(variables);
        Self::start(serve, dir).unwrap_or_else(|why| panic!("the server did not start: {why}"))
    }

    /// Starts a command that serves; what it said instead, if it does not listen.
    pub fn start(mut command: Command, dir: &Path) -> Result<Self, String> {
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(dir).stdout(Stdio::piped()).stderr(Stdio::piped());
        let hearing = said::Hearing::of(&mut command);
        Self::listening(&mut command).map_err(|said| match hearing {
            Some(hearing) => said + &hearing.said(),
            None => said,
        })
    }

    /// Any way to start a server whose output can be read.
    pub fn of(command: &mut Command) -> Self {
        Self::listening(command).unwrap_or_else(|why| panic!("the server did not start: {why}"))
    }

    fn listening(command: &mut Command) -> Result<Self, String> {
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let mut process = Self { url: String::new(), child };
        match said.trim().strip_prefix("wardkeep listening on ") {
            Some(url) => {
                process.url = url.to_owned();
                Ok(process)
            }
            None => {
                drop(process.child.stderr.take().map(|mut err| err.read_to_string(&mut said)));
                Err(said)
            }
        }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary with the stores' passphrase, and nothing else of this environment that it would listen to.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = bare_command(arguments);
    command.env("WARDKEEP_PASSPHRASE", PHRASE);
    command
}

/// The binary without a passphrase.
pub fn bare_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wardkeep"));
    command.args(arguments);
    let ours =
        std::env::vars().map(|(name, _)| name).filter(|n| n.starts_with("WARDKEEP_") || n == "CREDENTIALS_DIRECTORY");
    for name in ours {
        command.env_remove(name);
    }
    command
}

/// Runs the binary on a directory: exit code, output, errors.
pub fn run(arguments: &[&str], dir: &Path) -> (i32, String, String) {
    said(command(arguments).arg("--data").arg(dir).output().unwrap())
}

pub fn said(output: Output) -> (i32, String, String) {
    said::heard(&output);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// Both offline checks find nothing.
#[track_caller]
pub fn assert_sound(dir: &Path) {
    for verb in ["store", "audit"] {
        let (code, out, err) = run(&[verb, "verify"], dir);
        assert_eq!(code, 0, "{verb} verify: {out}{err}");
    }
}

/// Copies a directory.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every file below a directory.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for path in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

/// Bytes of all files below a directory.
pub fn bytes(dir: &Path) -> u64 {
    files(dir).iter().map(|file| file.metadata().unwrap().len()).sum()
}

/// Does something at the end of a scope, also where an assertion fails before it: threads that are told to end by this would go on for ever.
pub struct Finally<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Whether the long runs were asked for.
pub fn full() -> bool {
    std::env::var("WARDKEEP_TESTS").is_ok_and(|wish| wish == "full")
}

/// A sequence that its printed seed repeats: `WARDKEEP_SEED`, or a new one.
pub struct Dice(u64);

impl Dice {
    pub fn new(what: &str) -> Self {
        let seed = std::env::var("WARDKEEP_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
            let mut seed = [0; 8];
            OsEntropy.fill(&mut seed).unwrap();
            u64::from_le_bytes(seed)
        });
        println!("{what}: WARDKEEP_SEED={seed}");
        Self(seed)
    }

    /// Another sequence, for another thread.
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
