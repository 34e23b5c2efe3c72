//! The disk fails: no answer without its audit entry, nothing half done, nothing acknowledged lost; and a million bad credentials
//! neither fill it nor wait for it. The full disk is a small tmpfs where one can be mounted (root); elsewhere that test says so.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    net::TcpStream,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering::SeqCst},
        mpsc::channel,
    },
    time::Duration,
};

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use wardkeep::{
    audit::{self, DiskFile},
    authn::{Credential, Origin},
    clock::{Clock, Instant, SystemClock},
    engine::{Environment, Refusal, Settings},
    store::{self, EngineKind},
};

use super::{
    harness::{Answer, Client, Server},
    plain::{
        self, Finally, all_entries, all_records, assert_sound, bundle, bytes, closed, full, furnish, question, record,
        what,
    },
};

/// How a disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Fault {
    /// It does not.
    None,
    /// Writes find no space.
    Full,
    /// Writes leave a part of themselves and then find no space.
    Short,
    /// Writes succeed and cannot be made durable.
    Unsynced,
    /// Everything is done and reported as failed.
    Lie,
    /// Nothing returns until the disk is mended.
    Hangs,
}

const FAULTS: [Fault; 4] = [Fault::Full, Fault::Short, Fault::Unsynced, Fault::Lie];

const NO_SPACE: i32 = 28;
const IO_ERROR: i32 = 5;

fn error<T>(raw: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(raw))
}

/// A real disk that fails when told to, and counts what it is asked for.
#[derive(Default)]
struct Flaky {
    fault: AtomicU8,
    /// So many more steps succeed before the fault shows.
    grace: AtomicI64,
    steps: AtomicU64,
    /// Held while the disk hangs.
    stuck: Gate,
}

/// Holds back who passes while it is closed.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let closed = self.closed.lock().unwrap();
        drop(self.opened.wait_while(closed, |closed| *closed).unwrap());
    }
}

impl Flaky {
    fn break_down(&self, fault: Fault) {
        self.break_after(0, fault);
    }

    fn break_after(&self, steps: i64, fault: Fault) {
        self.grace.store(steps, SeqCst);
        self.stuck.set(fault == Fault::Hangs);
        self.fault.store(fault as u8, SeqCst);
    }

    fn mend(&self) {
        self.break_down(Fault::None);
    }

    fn steps(&self) -> u64 {
        self.steps.load(SeqCst)
    }

    fn fault(&self) -> Fault {
        let now = self.fault.load(SeqCst);
        let fault =
            [Fault::None, Fault::Full, Fault::Short, Fault::Unsynced, Fault::Lie, Fault::Hangs][usize::from(now)];
        if fault != Fault::None && self.grace.fetch_sub(1, SeqCst) > 0 { Fault::None } else { fault }
    }

    fn write(&self, bytes: &[u8], write: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.steps.fetch_add(1, SeqCst);
        match self.fault() {
            Fault::None | Fault::Unsynced => write(bytes),
            Fault::Full => error(NO_SPACE),
            Fault::Short => write(&bytes[..bytes.len() / 2]).and(error(NO_SPACE)),
            Fault::Lie => write(bytes).and(error(IO_ERROR)),
            Fault::Hangs => {
                self.stuck.pass();
                write(bytes)
            }
        }
    }

    fn sync(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.steps.fetch_add(1, SeqCst);
        match self.fault() {
            Fault::None | Fault::Full | Fault::Short => sync(),
            Fault::Unsynced => error(IO_ERROR),
            Fault::Lie => sync().and(error(IO_ERROR)),
            Fault::Hangs => {
                self.stuck.pass();
                sync()
            }
        }
    }
}

/// What lies under the audit log.
struct UnderAudit(Arc<Flaky>);

struct UnderAuditFile(Box<dyn DiskFile>, Arc<Flaky>);

impl audit::Disk for UnderAudit {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        audit::RealDisk.make_dir(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(UnderAuditFile(audit::RealDisk.create(path)?, Arc::clone(&self.0))))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(UnderAuditFile(audit::RealDisk.open(path)?, Arc::clone(&self.0))))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        audit::RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync(|| audit::RealDisk.sync_dir(dir))
    }
}

impl DiskFile for UnderAuditFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let Self(file, disk) = self;
        disk.write(bytes, |bytes| file.write_at(offset, bytes))
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.0.truncate(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        let Self(file, disk) = self;
        disk.sync(|| file.sync())
    }
}

/// What lies under the storage engine and the manifest.
struct UnderStore(Arc<Flaky>);

impl store::Disk for UnderStore {
    fn sync(&self, file: &File) -> io::Result<()> {
        self.0.sync(|| file.sync_data())
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write(bytes, |bytes| file.write_all_at(bytes, offset))
    }
}

/// A clock that stands until it is moved.
struct Watch(AtomicI64);

impl Clock for Watch {
    fn now(&self) -> Instant {
        Instant::from_millis(self.0.load(SeqCst))
    }
}

/// A furnished server with ten records, over disks that can fail.
struct Ward {
    server: Server,
    log: Arc<Flaky>,
    store: Arc<Flaky>,
}

fn environment(log: &Arc<Flaky>, store: &Arc<Flaky>) -> Environment {
    Environment {
        disk: Arc::new(UnderAudit(Arc::clone(log))),
        store_disk: Arc::new(UnderStore(Arc::clone(store))),
        ..Environment::default()
    }
}

impl Ward {
    fn new() -> Self {
        Self::on(EngineKind::default())
    }

    fn on(engine: EngineKind) -> Self {
        let (log, store) = (Arc::new(Flaky::default()), Arc::new(Flaky::default()));
        let home = Arc::new(TempDir::new().unwrap());
        let dir = home.path().join("data");
        let key = plain::found_on(engine, &dir);
        let server = plain::serve(&home, &dir, &key, environment(&log, &store));
        furnish(&server.root());
        plain::put_records(&server.root(), &ten()).ok();
        Self { server, log, store }
    }

    /// Stops it with its disks as they are, and starts it again on sound ones.
    fn restart_on_sound_disks(self) -> Server {
        self.server.restart()
    }
}

fn ten() -> Vec<Json> {
    (0..10).map(|n| record(&format!("first-{n}"), "the-first-ten", 1)).collect()
}

/// Every way to get something of a record or of the log.
fn retrievals(root: &Client) -> Vec<(&'static str, Answer)> {
    vec![
        ("search", root.search("notes", &question("first-3", 5))),
        ("list", root.post("/v1/collections/notes/records/list", &json!({"purpose": "treatment"}))),
        ("read", root.get("/v1/collections/notes/records/first-3?purpose=treatment")),
        ("absent", root.get("/v1/collections/notes/records/no-such-record?purpose=treatment")),
        ("audit", root.get("/v1/audit")),
        ("checkpoint", root.get("/v1/audit/checkpoint")),
        ("entities", root.get("/v1/entities/Administrator")),
        ("policies", root.get("/v1/policies")),
        ("collections", root.get("/v1/collections")),
        ("callers", root.get("/v1/callers")),
    ]
}

#[track_caller]
fn assert_nothing_leaves(root: &Client) {
    for (what, answer) in retrievals(root) {
        assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"), "{what}: {}", answer.text());
        for content in ["first-", "revision", "a-kind-of-note", "Administrator", "notes", "results", "entries"] {
            assert!(!answer.text().contains(content), "{what}: {}", answer.text());
        }
    }
}

#[track_caller]
fn assert_everything_answers(root: &Client) {
    for (what, answer) in retrievals(root) {
        assert_eq!(answer.status, if what == "absent" { 404 } else { 200 }, "{what}: {}", answer.text());
    }
}

/// A change of each kind, under a name of its own; each answers whether it was acknowledged.
fn changes(root: &Client, name: &str) -> Vec<(&'static str, u16)> {
    let batch: Vec<_> = (0..3).map(|i| record(&format!("{name}-json-{i}"), name, 1)).collect();
    let lines: String = (0..3).map(|i| format!("{}\n", record(&format!("{name}-lines-{i}"), name, 1))).collect();
    let people: Vec<_> = (0..3)
        .map(|i| json!({"uid": {"type": "Reader", "id": format!("{name}-{i}")}, "attrs": {"rev": 1}, "parents": []}))
        .collect();
    vec![
        ("json", plain::put_records(root, &batch).status),
        ("lines", root.put_lines("/v1/collections/notes/records", &lines).status),
        ("entities", root.put("/v1/entities", &json!(people)).status),
        ("policies", root.put("/v1/policies?allow_widening=true", &bundle(name.len() as u64)).status),
        ("erase", root.post("/v1/collections/notes/erase", &json!({"ids": ["first-0", "first-1"]})).status),
        ("key", root.post("/v1/callers", &json!({"type": "Administrator", "id": "root"})).status),
        ("collection", root.put(&format!("/v1/collections/{name}"), &json!({"dimension": 2, "metric": "dot"})).status),
    ]
}

/// Which of the changes under a name are in force; a change that is half there ends the test.
fn in_force(root: &Client, name: &str) -> Vec<(&'static str, bool)> {
    let ids: Vec<String> = all_records(root).iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect();
    let whole = |prefix: String, of: usize| {
        let n = ids.iter().filter(|id| id.starts_with(&prefix)).count();
        assert!(n == 0 || n == of, "{prefix}: {n} of {of}");
        n == of
    };
    let entities = root.get("/v1/entities/Reader").ok();
    let people = entities["entities"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|e| e["uid"]["id"].as_str().unwrap().starts_with(name))
        .count();
    assert!(people == 0 || people == 3, "half the entities: {people}");
    let keys = root.get("/v1/callers").ok()["callers"].as_array().unwrap().len();
    vec![
        ("json", whole(format!("{name}-json-"), 3)),
        ("lines", whole(format!("{name}-lines-"), 3)),
        ("entities", people == 3),
        ("policies", root.get("/v1/policies").ok()["note"] == bundle(name.len() as u64)["note"]),
        ("erase", !whole("first-0".into(), 1) && !whole("first-1".into(), 1)),
        ("key", keys == 2),
        ("collection", root.get(&format!("/v1/collections/{name}")).status == 200),
    ]
}

/// The entry that tells of a change under a name.
fn told(entries: &[Json], name: &str) -> Vec<(&'static str, bool)> {
    let names = |entry: &Json, text: &str| {
        entry["records"].as_array().is_some_and(|r| r.iter().any(|id| id.as_str().unwrap().starts_with(text)))
    };
    let any = |test: &dyn Fn(&Json) -> bool| {
        let n = entries.iter().filter(|e| test(e)).count();
        assert!(n < 2, "a change is told twice");
        n == 1
    };
    vec![
        ("json", any(&|e| what(e) == "ingest" && names(e, &format!("{name}-json-")))),
        ("lines", any(&|e| what(e) == "ingest" && names(e, &format!("{name}-lines-")))),
        ("entities", any(&|e| what(e) == "put_entities")),
        ("policies", any(&|e| what(e) == "put_policies" && e["bundle"]["version"] == 3)),
        ("erase", any(&|e| what(e) == "erase")),
        ("key", any(&|e| what(e) == "make_key" && e["sequence"] != 1)),
        ("collection", any(&|e| what(e) == "put_collection" && e["collection"] == name)),
    ]
}

#[test]
fn while_the_audit_log_cannot_be_written_nothing_leaves_and_at_most_the_change_under_way_is_made() {
    for fault in FAULTS {
        let ward = Ward::new();
        let root = ward.server.root();
        ward.log.break_down(fault);
        assert_nothing_leaves(&root);
        let answers = changes(&root, "outage");
        assert!(answers.iter().all(|(_, status)| *status == 503), "{fault:?}: {answers:?}");
        assert_nothing_leaves(&root);

        // Space returns: served again without a restart, and what is in force is what the log tells.
        ward.log.mend();
        assert_everything_answers(&root);
        let made = in_force(&root, "outage");
        assert_eq!(made, told(&all_entries(&root, 0), "outage"), "{fault:?}");
        assert!(
            made.iter().filter(|(_, is)| *is).count() <= 1,
            "one change was under way, the others were refused: {made:?}"
        );
        let after = changes(&root, "afterwards");
        assert!(after.iter().all(|(_, status)| (200..300).contains(status)), "{after:?}");

        let server = ward.restart_on_sound_disks();
        let root = server.root();
        assert_eq!(
            told(&all_entries(&root, 0), "outage").iter().filter(|(w, is)| *is && *w == "json").count(),
            made.iter().filter(|(w, is)| *is && *w == "json").count()
        );
        for (what, is) in in_force(&root, "afterwards").into_iter().filter(|(what, _)| !["erase", "key"].contains(what))
        {
            assert!(is, "{fault:?}: {what} was acknowledged");
        }
        let (_home, dir) = closed(server);
        assert_sound(&dir);
    }
}

#[test]
fn a_change_whose_entry_did_not_reach_the_log_has_it_after_a_restart() {
    for fault in FAULTS {
        let ward = Ward::new();
        ward.log.break_down(fault);
        let batch = [record("kept-0", "kept", 1), record("kept-1", "kept", 1)];
        assert_eq!(plain::put_records(&ward.server.root(), &batch).status, 503);
        assert_nothing_leaves(&ward.server.root());
        let server = ward.restart_on_sound_disks();
        let ids: Vec<_> =
            all_records(&server.root()).iter().filter(|r| r["document"] == "kept").map(|r| r["id"].clone()).collect();
        let entries = all_entries(&server.root(), 0);
        let entries: Vec<_> = entries.iter().filter(|e| what(e) == "ingest" && e["records"][0] == "kept-0").collect();
        assert_eq!((ids.len(), entries.len()), (2, 1), "{fault:?}: the change, and its entry once");
        assert_eq!(entries[0]["records"], json!(["kept-0", "kept-1"]));
        let (_home, dir) = closed(server);
        assert_sound(&dir);
    }
}

/// Engine and manifest: whichever of their steps fails, the store ends its run, and the next one has everything acknowledged.
fn after_the_store_could_not_write_nothing_leaves_until_it_is_opened_anew_and_nothing_acknowledged_is_lost(
    engine: EngineKind,
) {
    for fault in FAULTS {
        for step in 0..6 {
            let ward = Ward::on(engine);
            let root = ward.server.root();
            let nobody = ward.server.nobody();
            assert_eq!(nobody.get("/readyz").ok()["status"], "ready");
            ward.store.break_after(step, fault);
            // The fault shows after so many steps of the store's disk: in one of these at the latest.
            let mut acknowledged = Vec::new();
            for n in 0..6 {
                let id = format!("change-{n}");
                let answer = plain::put_records(&root, &[record(&id, &id, 1)]);
                match answer.status {
                    200 => acknowledged.push(id),
                    503 => assert!(answer.text().contains("restart the server"), "{}", answer.text()),
                    other => panic!("{other}: {}", answer.text()),
                }
            }
            assert!(acknowledged.len() < 6, "{fault:?} {step}: the fault must have shown");
            // Mended or not: what is durable is known only after opening anew.
            assert_nothing_leaves(&root);
            ward.store.mend();
            assert_nothing_leaves(&root);
            assert_eq!(nobody.get("/readyz").expect(503).code(), "unavailable", "{fault:?} {step}: not ready any more");
            nobody.get("/healthz").ok();
            assert!(changes(&root, "halted").iter().all(|(_, status)| *status == 503));

            let server = ward.restart_on_sound_disks();
            server.nobody().get("/readyz").ok();
            let ids: Vec<_> =
                all_records(&server.root()).iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect();
            assert!(acknowledged.iter().all(|id| ids.contains(id)), "{fault:?} {step}: {acknowledged:?} of {ids:?}");
            let entries = all_entries(&server.root(), 0);
            for id in ids.iter().filter(|id| id.starts_with("change-")) {
                let n = entries.iter().filter(|e| what(e) == "ingest" && e["records"][0] == id.as_str()).count();
                assert_eq!(n, 1, "{fault:?} {step}: {id} is there, so its entry is, once");
            }
            let (_home, dir) = closed(server);
            assert_sound(&dir);
        }
    }
}

/// A small file system in memory; gone with the value.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path, bytes: u64) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=700"), "tmpfs"]).arg(at);
        mount.output().is_ok_and(|done| done.status.success()).then(|| Self(at.to_owned()))
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Takes all space that is left.
    fn fill(&self) {
        let mut file = File::create(self.ballast()).unwrap();
        let mut chunk = vec![1; 64 << 10];
        while !chunk.is_empty() {
            if io::Write::write_all(&mut file, &chunk).is_err() {
                chunk.truncate(chunk.len() / 2);
            }
        }
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

plain::on_each_engine!(
    after_the_store_could_not_write_nothing_leaves_until_it_is_opened_anew_and_nothing_acknowledged_is_lost,
    on_a_full_disk_nothing_leaves_and_once_there_is_space_everything_acknowledged_is_there,
);

fn on_a_full_disk_nothing_leaves_and_once_there_is_space_everything_acknowledged_is_there(engine: EngineKind) {
    for (part, size) in [("audit", 1 << 20), ("", 64 << 20)] {
        let home = Arc::new(TempDir::new().unwrap());
        let (made, dir) = (home.path().join("made"), home.path().join("data"));
        let key = plain::found_on(engine, &made);
        fs::create_dir_all(dir.join(part)).unwrap();
        let Some(disk) = Tmpfs::mount(&dir.join(part), size) else {
            println!("not shown here: a tmpfs cannot be mounted");
            return;
        };
        plain::copy(&made, &dir);
        let server = plain::serve(&home, &dir, &key, Environment::default());
        let root = server.root();
        furnish(&root);
        plain::put_records(&root, &ten()).ok();
        disk.fill();

        // Pages that have room may take some more; then nothing leaves.
        let mut acknowledged: Vec<String> = Vec::new();
        let mut refused = 0;
        for n in 0..2_000 {
            let id = format!("change-{n:04}");
            match plain::put_records(&root, &[record(&id, &id, 1)]).status {
                200 => acknowledged.push(id),
                503 => refused += 1,
                other => panic!("{other}"),
            }
            if refused == 3 {
                break;
            }
        }
        println!("{part:?}: {} changes were still acknowledged", acknowledged.len());
        assert_eq!(refused, 3, "the disk must have become full");
        assert_nothing_leaves(&root);

        disk.free();
        if part == "audit" {
            assert_everything_answers(&root);
        }
        let server = server.restart();
        let ids: Vec<_> = all_records(&server.root()).iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect();
        assert!(acknowledged.iter().chain([&"first-9".to_owned()]).all(|id| ids.contains(id)), "{part:?}");
        let entries = all_entries(&server.root(), 0);
        for id in ids.iter().filter(|id| id.starts_with("change-")) {
            assert!(entries.iter().any(|e| e["records"][0] == id.as_str()), "{part:?}: {id} has no entry");
        }
        assert_everything_answers(&server.root());
        let (_home, dir) = closed(server);
        assert_sound(&dir);
    }
}

/// A credential of the right form that nobody holds.
fn stranger(n: u64) -> Credential {
    format!("wk_{n:016x}_{}", "A".repeat(43)).parse().unwrap()
}

fn origin(n: u64) -> Origin {
    let address = if n.is_multiple_of(2) {
        std::net::IpAddr::from(u32::try_from(n % (1 << 31)).unwrap().to_be_bytes())
    } else {
        std::net::IpAddr::from(std::net::Ipv6Addr::from_bits(u128::from(n) << 64))
    };
    Origin { address: Some(address), request: [7; 16] }
}

/// "Do not slow a caller" without a clock: a bad credential touches no disk, so nobody queues behind it for one; and it is answered
/// while the disk hangs, so it takes no lock that a caller's way to the disk holds.
#[test]
fn a_million_bad_credentials_add_less_than_a_megabyte_to_the_log_and_touch_no_disk() {
    let (log, store) = (Arc::new(Flaky::default()), Arc::new(Flaky::default()));
    let watch = Arc::new(Watch(AtomicI64::new(SystemClock.now().millis())));
    let home = Arc::new(TempDir::new().unwrap());
    let dir = home.path().join("data");
    let key = plain::found(&dir);
    let environment = Environment { clock: Arc::clone(&watch) as Arc<dyn Clock>, ..environment(&log, &store) };
    let server = plain::serve(&home, &dir, &key, environment);
    furnish(&server.root());
    plain::put_records(&server.root(), &ten()).ok();
    let search = || {
        let before = (log.steps(), store.steps());
        server.root().search("notes", &question("first-3", 5)).expect(200);
        (log.steps() - before.0, store.steps() - before.1)
    };
    let cost = search();
    let before = bytes(&dir.join("audit"));

    // Ten minutes of attack by 100,000 sources; every five seconds the server looks whether sums are due, as its timer does.
    const ATTEMPTS: u64 = 1_000_000;
    const LOOKS: u64 = 120;
    let mut written = 0;
    for look in 0..LOOKS {
        let steps = log.steps() + store.steps();
        for n in 0..ATTEMPTS / LOOKS {
            let n = look * (ATTEMPTS / LOOKS) + n;
            let credential = n.is_multiple_of(3).then(|| stranger(n % 1_000));
            assert_eq!(server.engine.sign_in(credential.as_ref(), &origin(n % 100_000)), Err(Refusal::Unauthenticated));
        }
        assert_eq!(log.steps() + store.steps(), steps, "a bad credential touched the disk");
        watch.0.fetch_add(5_000, SeqCst);
        server.engine.write_failures(false);
        written += log.steps() + store.steps() - steps;
    }
    server.engine.write_failures(true);
    let grown = bytes(&dir.join("audit")) - before;
    println!("{ATTEMPTS} bad credentials added {grown} bytes to the log, in {written} steps of the disk");
    assert!(grown < 1_000_000, "{grown}");
    assert!(written < 100, "the sums of a minute are written in groups: {written}");
    assert_eq!(search(), cost, "a caller's search costs as many steps of the disk as before");

    // Every one of them is counted.
    let counted = |e: &Json| e["what"]["sign_in_failures"]["count"].as_u64();
    let sum: u64 = all_entries(&server.root(), 0).iter().filter_map(counted).sum();
    assert_eq!(sum, ATTEMPTS / LOOKS * LOOKS);
    let (_home, dir) = closed(server);
    assert_sound(&dir);
}

#[test]
fn a_bad_credential_is_answered_while_the_disk_hangs_and_a_caller_is_served_after_thousands_of_them() {
    let ward = Ward::new();
    let root = ward.server.root();
    let before = bytes(&ward.server.dir.join("audit"));
    ward.log.break_down(Fault::Hangs);
    std::thread::scope(|scope| {
        let mended = Finally(|| ward.log.mend());
        let (told, heard) = channel();
        let root = &root;
        let waiting = scope.spawn(move || {
            let answer = root.search("notes", &question("first-3", 5));
            told.send(()).unwrap();
            answer
        });
        let attempts = if full() { 20_000 } else { 2_000 };
        for n in 0..attempts {
            let key = if n % 2 == 0 { format!("wk_{n:016x}_{}", "A".repeat(43)) } else { format!("nonsense-{n}") };
            let refused = ward.server.client(&key).search("notes", &question("first-3", 5));
            assert_eq!((refused.status, refused.code().as_str()), (401, "unauthenticated"));
        }
        assert!(heard.try_recv().is_err(), "the search must have waited for the disk all the while");
        drop(mended);
        assert_eq!(waiting.join().unwrap().expect(200).ids().len(), 5);
    });
    let grown = bytes(&ward.server.dir.join("audit")) - before;
    assert!(grown < 10_000, "thousands of bad credentials over HTTP added {grown} bytes");
    let server = ward.restart_on_sound_disks();
    let sum: u64 =
        all_entries(&server.root(), 0).iter().filter_map(|e| e["what"]["sign_in_failures"]["count"].as_u64()).sum();
    assert_eq!(
        sum,
        if full() { 20_000 } else { 2_000 },
        "they were summed up and written at the latest when the server stopped"
    );
    let (_home, dir) = closed(server);
    assert_sound(&dir);
}

/// Whoever sends half a request and waits must not keep a store from being closed.
#[test]
fn a_request_that_is_never_finished_does_not_hold_the_end_for_ever() {
    let home = Arc::new(TempDir::new().unwrap());
    let dir = home.path().join("data");
    let key = plain::found(&dir);
    let (settings, environment) = (Settings::default(), Environment::default());
    let short = |running: wardkeep::http::Running| running.with_grace(Duration::from_millis(200));
    let mut server = Server::open_with(Arc::clone(&home), &dir, &key, settings, environment, short);
    let mut half = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    write!(
        half,
        "PUT /v1/policies HTTP/1.1\r\nhost: wardkeep\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: 1000\r\nexpect: 100-continue\r\n\r\n"
    )
    .unwrap();
    // It is under way once the server asks for its body, which never ends.
    let mut said = String::new();
    BufReader::new(half.try_clone().unwrap()).read_line(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 100"), "{said}");
    half.write_all(b"{").unwrap();
    let (told, ended) = channel();
    std::thread::spawn(move || {
        server.stop();
        drop(server);
        let _ = told.send(());
    });
    // A body may pause for 30 seconds: an end that waited for it would come later than this.
    ended.recv_timeout(Duration::from_secs(20)).expect("the server waits for what never comes");
    assert_sound(&dir);
}
