//! A patient erased over HTTP while data keys are being renewed: what is left on the disk afterwards, looked for byte by byte. Here and not
//! in the suite, because only the crate's own tests have the digger.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::SeqCst},
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use super::{App, Running, serve};
use crate::{
    crypto::{Entropy, EntropyError, KdfCost, KeyRing, OsEntropy, Passphrase},
    engine::{Environment, Settings, Wardkeep},
    store::{Disk, OpenOptions, RealDisk, Store, StoredRecord, key_tests::Forensics},
};

/// Failing is seen after so long at the latest; succeeding never waits.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const PATIENTS: usize = 6;
/// Records of each: more in all than a first step renews.
const RECORDS: usize = 14;

pub(super) const SCHEMA: &str = r#"
entity Administrator; entity System; entity Collection; entity Document; entity Patient;
entity Record in [Document, Collection] = { patient?: Patient };
action Retrieve, Read, ReadVector appliesTo { principal: [Administrator], resource: [Record], context: {} };
action Search, Ingest, Erase, Export, BreakGlass appliesTo { principal: [Administrator], resource: [Collection], context: {} };
action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass, Explain
appliesTo { principal: [Administrator], resource: [System], context: {} };
"#;

/// How much of a rotation is done before it meets an error.
#[derive(Debug, Clone, Copy)]
enum Done {
    Nothing,
    /// Its first step, as far as that is durable.
    AStep,
}

const GIVES: u8 = 0;
/// Gives until the disk is synced once more after the renewing asked.
const GIVES_FOR_A_STEP: u8 = 1;
const UNDER_WAY: u8 = 2;
const BARREN: u8 = 3;

/// Random bytes that the thread which renews keys is refused from some moment on.
struct Halting {
    mode: AtomicU8,
    refused: Mutex<Sender<()>>,
}

impl Halting {
    fn set(&self, mode: u8) {
        self.mode.store(mode, SeqCst);
    }
}

impl Entropy for Halting {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
        if std::thread::current().name() == Some("rotation") {
            let _ = self.mode.compare_exchange(GIVES_FOR_A_STEP, UNDER_WAY, SeqCst, SeqCst);
            if self.mode.load(SeqCst) == BARREN {
                let _ = self.refused.lock().send(());
                return Err(EntropyError);
            }
        }
        OsEntropy.fill(out)
    }
}

impl Disk for Halting {
    fn sync(&self, file: &std::fs::File) -> std::io::Result<()> {
        RealDisk.sync(file)?;
        let _ = self.mode.compare_exchange(UNDER_WAY, BARREN, SeqCst, SeqCst);
        Ok(())
    }

    fn write_at(&self, file: &std::fs::File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        RealDisk.write_at(file, bytes, offset)
    }
}

pub(super) fn passphrase() -> Passphrase {
    Passphrase::from_bytes(b"correct horse battery staple".to_vec()).unwrap()
}

/// A server on a directory; stopped and closed when it is dropped.
pub(super) struct Server {
    pub(super) url: String,
    key: String,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn on(dir: &Path, key: &str, environment: Environment) -> Self {
        let engine = Wardkeep::open(dir, &passphrase(), Settings::default(), environment, &|_| {}).unwrap();
        Self::of(App::new(Arc::new(engine), Vec::new()), key, |running| running)
    }

    /// A server over an application, set as `set` sets it.
    pub(super) fn of(app: Arc<App>, key: &str, set: impl FnOnce(Running) -> Running + Send + 'static) -> Self {
        let (told, address) = channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let running = set(serve(app, ([127, 0, 0, 1], 0).into()).await.unwrap());
                told.send(running.address().unwrap()).unwrap();
                running.until(async move { drop(stopped.await) }).await.unwrap();
            });
        });
        let url = format!("http://{}", address.recv().unwrap());
        Self { url, key: key.to_owned(), stop: Some(stop), thread: Some(thread) }
    }

    pub(super) fn ask(&self, method: &str, path: &str, body: &Json) -> Json {
        let (status, text) = self.answer(method, path, body);
        assert_eq!(status, 200, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Status and body of any answer.
    pub(super) fn answer(&self, method: &str, path: &str, body: &Json) -> (u16, String) {
        let config = ureq::Agent::config_builder().http_status_as_error(false).max_idle_connections(0).build();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json");
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let mut answer = ureq::Agent::new_with_config(config).run(request.body(bytes.as_slice()).unwrap()).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        (answer.status().as_u16(), text)
    }

    fn keys(&self) -> Json {
        self.ask("GET", "/v1/keys", &Json::Null)
    }

    /// Text of every record, by its id.
    fn texts(&self) -> BTreeMap<String, String> {
        let page =
            self.ask("POST", "/v1/collections/notes/records/list", &json!({"purpose": "treatment", "limit": 1_000}));
        let of = |record: &Json| ["id", "text"].map(|name| record[name].as_str().unwrap().to_owned());
        page["records"].as_array().unwrap().iter().map(of).map(|[id, text]| (id, text)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Makes a store with all its patients in `dir`; the key of its root.
fn found(dir: &Path) -> String {
    let founding = Wardkeep::create(dir, &passphrase(), KdfCost::FLOOR, Environment::default()).unwrap();
    let server = Server::on(dir, founding.api_key.as_str(), Environment::default());
    let policies = "@id(\"all\") permit(principal is Administrator, action, resource);";
    server.ask("PUT", "/v1/policies?allow_widening=true", &json!({"schema": SCHEMA, "policies": policies}));
    server.ask("PUT", "/v1/collections/notes", &json!({"dimension": 2, "metric": "dot"}));
    let record = |n: usize| {
        let patient = json!({"type": "Patient", "id": format!("p{:02}", n / RECORDS)});
        json!({"id": format!("r{n:03}"), "document": format!("d{n}"), "vector": [n, 1], "text": format!("narrative {n}"), "attributes": {"patient": patient}})
    };
    let records: Vec<_> = (0..PATIENTS * RECORDS).map(record).collect();
    server.ask("PUT", "/v1/collections/notes/records", &json!({ "records": records }));
    server.key.clone()
}

fn copy(from: &Path, to: PathBuf) -> PathBuf {
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => drop(copy(&entry.path(), target)),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
    to
}

/// Every record as it lies in a copy of the store.
fn stored(dir: &Path) -> BTreeMap<String, StoredRecord> {
    let store = Store::open(dir, &passphrase(), &OpenOptions::default()).unwrap();
    let mut all = BTreeMap::new();
    store
        .records(&"notes".parse().unwrap(), &mut |stored| {
            all.insert(stored.record.id.as_str().to_owned(), stored);
            Ok(())
        })
        .unwrap();
    all
}

fn wait_until_refused(refusals: &Receiver<()>) {
    refusals.recv_timeout(PATIENCE).expect("the renewing meets its error");
}

#[test]
fn patients_erased_over_http_while_keys_are_renewed_are_noise_to_every_key_on_disk_and_nobody_else_is_lost() {
    for done in [Done::Nothing, Done::AStep] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let key = found(&dir);
        let before = copy(&dir, home.path().join("before"));
        let records = stored(&copy(&dir, home.path().join("opened")));
        let (refused, refusals) = channel();
        let halting = Arc::new(Halting { mode: AtomicU8::new(GIVES), refused: Mutex::new(refused) });
        let environment =
            Environment { entropy: halting.clone(), store_disk: halting.clone(), ..Environment::default() };
        let server = Server::on(&dir, &key, environment);
        let all = server.texts();
        assert_eq!(all.len(), PATIENTS * RECORDS);
        let (notes, on_disk) =
            ("notes".parse().unwrap(), || KeyRing::open(&dir.join("keyring"), &passphrase()).unwrap());
        let control = Forensics::of(&on_disk(), &[&before]);
        assert!(control.reads_in(&notes, &records["r000"]), "until they are erased they are found");

        halting.set(match done {
            Done::Nothing => BARREN,
            Done::AStep => GIVES_FOR_A_STEP,
        });
        server.ask("POST", "/v1/keys/rotate", &json!({}));
        wait_until_refused(&refusals);
        let keys = server.keys();
        let renewed = keys["renewed"].as_u64().unwrap();
        println!("{done:?}: {renewed} of {} data keys were renewed", keys["data_keys"]);
        assert!(
            matches!(done, Done::Nothing) == (renewed == 0) && renewed < keys["data_keys"].as_u64().unwrap(),
            "{keys}"
        );
        // every third: whatever is renewed first, some of these are and some are not
        let erased: Vec<usize> = (0..PATIENTS).step_by(3).collect();
        for patient in &erased {
            let body = json!({"patient": format!("p{patient:02}"), "certificate": true});
            let answer = server.ask("POST", "/v1/collections/notes/erase", &body);
            assert_eq!(answer["erased"], RECORDS);
        }
        assert_eq!(server.keys()["state"], "renewing", "the rotation still goes on");
        let left = Forensics::of(&on_disk(), &[&before, &dir]);
        let is_gone = |id: &str| erased.contains(&(id[1..].parse::<usize>().unwrap() / RECORDS));
        // digging takes long: some of each
        for (id, record) in records.iter().step_by(3) {
            assert_eq!(left.reads_in(&notes, record), !is_gone(id), "{done:?}: {id}");
        }

        halting.set(GIVES);
        let began = Instant::now();
        while server.keys()["state"] != "current" {
            assert!(began.elapsed() < PATIENCE, "the rotation never ends");
            std::thread::yield_now();
        }
        let others: BTreeMap<_, _> = all.into_iter().filter(|(id, _)| !is_gone(id)).collect();
        assert_eq!(server.texts(), others, "nobody else is lost");
        drop(server);
        let old = Forensics::of(&on_disk(), &[&before]);
        let mut some = records.values().step_by(20);
        assert!(!some.any(|record| old.reads_in(&notes, record)), "after a rotation old copies are noise");
        let store = Store::open(&dir, &passphrase(), &OpenOptions::default()).unwrap();
        assert!(store.verify().unwrap().is_sound());
    }
}
