//! A backup as a stream, over a real connection, to clients that do not take it to its end: what the log says, what goes on meanwhile, and
//! that nothing can be restored from what they have. Here and not in the suite, because only the crate's own tests set how long is waited.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::{
    App,
    backup::Streams,
    health,
    rotation_tests::{PATIENCE, SCHEMA, Server, passphrase},
};
use crate::{
    clock::{self, Clock, SystemClock},
    crypto::{Escrow, KdfCost, OsEntropy},
    engine::{Environment, Settings, Wardkeep},
    store,
};

/// More than all that a connection and the server hold of a stream that nobody reads.
const RECORDS: usize = 24;
const TEXT_BYTES: usize = 1_000_000;
/// So much is read before somebody loses patience.
const SOME: usize = 100_000;

/// A clock that is set.
struct Set(AtomicI64);

impl Clock for Set {
    fn now(&self) -> clock::Instant {
        clock::Instant::from_millis(self.0.load(SeqCst))
    }
}

/// A store of large records, and its server.
struct Ward {
    server: Option<(Server, Arc<Wardkeep>)>,
    clock: Arc<Set>,
    key: String,
    home: TempDir,
}

impl Ward {
    /// Whoever reads nothing for `stall` is let go; at the end, requests under way have `grace`.
    fn new(stall: Duration, grace: Duration) -> Self {
        let home = TempDir::new().unwrap();
        let dir = home.path().join("data");
        let founding = Wardkeep::create(&dir, &passphrase(), KdfCost::FLOOR, Environment::default()).unwrap();
        let clock = Arc::new(Set(AtomicI64::new(SystemClock.now().millis())));
        let key = founding.api_key.to_string();
        let ward = Self { server: None, clock, key, home }.serving(stall, grace);
        let policies = "@id(\"all\") permit(principal is Administrator, action, resource);";
        ward.ask("PUT", "/v1/policies?allow_widening=true", &json!({"schema": SCHEMA, "policies": policies}));
        ward.ask("PUT", "/v1/collections/notes", &json!({"dimension": 2, "metric": "dot"}));
        let record = |n: usize| {
            let patient = json!({"type": "Patient", "id": format!("p{}", n / 2)});
            json!({"id": format!("r{n:02}"), "document": "d", "vector": [n, 1], "text": "x".repeat(TEXT_BYTES), "attributes": {"patient": patient}})
        };
        let records: Vec<_> = (0..RECORDS).map(record).collect();
        for some in records.chunks(4) {
            ward.ask("PUT", "/v1/collections/notes/records", &json!({ "records": some }));
        }
        ward
    }

    fn serving(mut self, stall: Duration, grace: Duration) -> Self {
        let shared = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let environment = Environment { clock: shared, ..Environment::default() };
        let dir = self.home.path().join("data");
        let engine = Wardkeep::open(&dir, &passphrase(), Settings::default(), environment, &|_| {}).unwrap();
        let engine = Arc::new(engine);
        let app = App {
            engine: Arc::clone(&engine),
            proxies: Vec::new(),
            backups: Some(self.home.path().join("backups")),
            metrics: health::Metrics::default(),
            streams: Streams { stall, ..Streams::default() },
        };
        self.server = Some((Server::of(Arc::new(app), &self.key, move |running| running.with_grace(grace)), engine));
        self
    }

    fn server(&self) -> &Server {
        &self.server.as_ref().unwrap().0
    }

    fn ask(&self, method: &str, path: &str, body: &Json) -> Json {
        self.server().ask(method, path, body)
    }

    /// Asks for a stream with `key`, and reads a little of it.
    fn stream(&self, key: &str) -> Reader {
        let mut socket = TcpStream::connect(self.server().url.strip_prefix("http://").unwrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "POST /v1/backup/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: 0\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).unwrap();
        let mut taken = vec![0; SOME];
        socket.read_exact(&mut taken).unwrap();
        assert!(taken.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&taken[..200]));
        Reader { socket, taken }
    }

    /// What the log says of backups: how each entry came out, and its detail.
    fn told(&self) -> Vec<[String; 2]> {
        let entries = self.ask("GET", "/v1/audit?limit=1000", &Json::Null)["entries"].clone();
        let entries = entries.as_array().unwrap().iter().filter(|entry| entry["what"] == "backup");
        entries.map(|entry| ["outcome", "detail"].map(|name| entry[name].as_str().unwrap().to_owned())).collect()
    }

    /// Waits until the log says that a stream which was begun has ended so.
    fn wait_until_told(&self, why: &str) {
        let [begun, ended] = [["allowed", "stream_begun"], ["failed", why]];
        let began = Instant::now();
        loop {
            let told = self.told();
            match told.as_slice() {
                [first, second] => {
                    return assert_eq!((first, second), (&begun.map(Into::into), &ended.map(Into::into)));
                }
                [first] => assert_eq!(first, &begun.map(Into::<String>::into)),
                _ => panic!("{told:?}"),
            }
            assert!(began.elapsed() < PATIENCE, "the log never says how the stream ended");
            std::thread::yield_now();
        }
    }

    /// A patient is erased, keys are rotated to the end, and another backup is made; the log says only that.
    fn assert_all_goes_on(&self) {
        assert_eq!(self.ask("POST", "/v1/collections/notes/erase", &json!({"patient": "p1"}))["erased"], 2);
        self.rotate();
        let before = self.told().len();
        assert_eq!(self.ask("POST", "/v1/backup", &json!({}))["number"], 0);
        let (taken, whole) = self.stream(&self.key).rest();
        assert!(whole && self.can_be_restored(&taken), "the control: a stream that was read to its end");
        assert_eq!(self.told()[before..].iter().map(|[outcome, _]| outcome).collect::<Vec<_>>(), ["allowed"; 3]);
    }

    /// To the end, without the pauses that leave others alone.
    fn rotate(&self) {
        self.ask("POST", "/v1/keys/rotate", &json!({}));
        self.server.as_ref().unwrap().1.settle_rotation();
        assert_eq!(self.ask("GET", "/v1/keys", &Json::Null)["state"], "current");
    }

    fn can_be_restored(&self, taken: &[u8]) -> bool {
        let engine = self.home.path().join("escrow");
        let escrow = self.escrow();
        fs::write(&engine, &escrow).unwrap();
        let file = self.home.path().join("streamed.wkb");
        fs::write(&file, taken).unwrap();
        let ring = Escrow::open(&escrow, &passphrase()).unwrap().keys(&OsEntropy).unwrap();
        let sound = store::inspect(&file, &ring).is_ok_and(|files| files.iter().all(|file| file.sound));
        let to = self.home.path().join(format!("restored-{}", taken.len()));
        let plan = store::Plan {
            from: &file,
            until: None,
            escrow: &escrow,
            ledger: None,
            unlock: &passphrase(),
            to: &to,
            now: self.clock.now(),
            accept_old_escrow: false,
            accept_missing_ledger: true,
            accept_older_permissions: true,
        };
        let environment = Environment { clock: Arc::clone(&self.clock) as Arc<dyn Clock>, ..Environment::default() };
        let restored = crate::engine::restore(&plan, Settings::default(), environment, &|_| ());
        assert_eq!(restored.is_ok(), sound, "{:?}", restored.err().map(|error| error.to_string()));
        sound
    }

    fn escrow(&self) -> Vec<u8> {
        let mut socket = TcpStream::connect(self.server().url.strip_prefix("http://").unwrap()).unwrap();
        let head = format!(
            "POST /v1/escrow HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\ncontent-length: 0\r\n\r\n",
            self.key
        );
        socket.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        let body = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        answer.split_off(body)
    }
}

/// Whoever asked for a stream, and what they have of it.
struct Reader {
    socket: TcpStream,
    taken: Vec<u8>,
}

impl Reader {
    /// Reads on as long as anything comes: the backup's bytes, and whether the answer came to its end.
    fn rest(mut self) -> (Vec<u8>, bool) {
        let mut piece = vec![0; 64 << 10];
        // the last chunk is empty
        while !self.taken.ends_with(b"\r\n0\r\n\r\n") {
            match self.socket.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(read) => self.taken.extend_from_slice(&piece[..read]),
            }
        }
        self.so_far()
    }

    /// What came until now.
    fn so_far(&self) -> (Vec<u8>, bool) {
        let head = self.taken.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let (mut rest, mut body) = (&self.taken[head..], Vec::new());
        while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
            let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
            let chunk = &rest[line + 2..];
            if length == 0 {
                return (body, true);
            }
            body.extend_from_slice(&chunk[..length.min(chunk.len())]);
            rest = chunk.get(length + 2..).unwrap_or_default();
        }
        (body, false)
    }
}

const NEVER: Duration = Duration::from_secs(3_600);
const AT_ONCE: Duration = Duration::from_millis(50);

#[test]
fn who_reads_a_little_of_a_backup_and_then_nothing_is_let_go_and_told_of_as_failed() {
    let ward = Ward::new(Duration::from_millis(300), NEVER);
    let reader = ward.stream(&ward.key);
    ward.wait_until_told("stream_stalled");
    ward.assert_all_goes_on();
    let (taken, whole) = reader.rest();
    assert!(taken.starts_with(b"WKBACK") && !whole && !ward.can_be_restored(&taken));
}

#[test]
fn while_a_backup_is_not_read_only_another_one_waits_and_once_its_reader_has_gone_not_even_that() {
    let ward = Ward::new(NEVER, NEVER);
    let reader = ward.stream(&ward.key);
    let (status, text) = ward.server().answer("POST", "/v1/backup", &json!({}));
    assert!(status == 409 && text.contains("backup_running"), "{text}");
    let told = ward.told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(ward.ask("POST", "/v1/collections/notes/erase", &json!({"patient": "p0"}))["erased"], 2);
    ward.rotate();
    let record = json!({"id": "late", "document": "e", "vector": [1, 1], "text": "late", "attributes": {}});
    ward.ask("PUT", "/v1/collections/notes/records", &json!({"records": [record]}));
    assert_eq!(ward.told(), told, "the stream is still there");

    let (taken, _) = reader.so_far();
    drop(reader);
    let began = Instant::now();
    while ward.told().len() == told.len() {
        assert!(began.elapsed() < PATIENCE, "the log never says that its reader has gone");
        std::thread::yield_now();
    }
    assert_eq!(ward.told().last(), Some(&["failed", "stream_left"].map(Into::into)));
    ward.assert_all_goes_on();
    assert!(!ward.can_be_restored(&taken));
}

#[test]
fn a_backup_ends_for_whom_its_key_is_taken_from_in_the_middle_and_what_they_have_is_none() {
    let ward = Ward::new(NEVER, NEVER);
    let made = ward.ask("POST", "/v1/callers", &json!({"type": "Administrator", "id": "root"}));
    let reader = ward.stream(made["api_key"].as_str().unwrap());
    ward.ask("DELETE", &format!("/v1/callers/keys/{}", made["key_id"].as_str().unwrap()), &Json::Null);
    ward.clock.0.fetch_add(5_000, SeqCst);
    ward.wait_until_told("stream_withdrawn");
    let (taken, whole) = reader.rest();
    assert!(taken.starts_with(b"WKBACK") && !whole && !ward.can_be_restored(&taken));
    ward.assert_all_goes_on();
}

#[test]
fn a_server_that_stops_breaks_off_what_nobody_reads_and_its_log_says_so_before_it_closes() {
    let mut ward = Ward::new(NEVER, AT_ONCE);
    let reader = ward.stream(&ward.key);
    drop(ward.server.take());
    let (taken, whole) = reader.rest();
    assert!(taken.starts_with(b"WKBACK") && !whole);
    let ward = ward.serving(NEVER, AT_ONCE);
    ward.wait_until_told("stream_stopped");
    assert!(!ward.can_be_restored(&taken));
    ward.assert_all_goes_on();
}
