//! kill -9 and power cuts at random moments: what was acknowledged is there, nothing is half there, no answer left without its audit
//! entry. 50 kills and 12 power cuts by default; `WARDKEEP_TESTS=full` kills 500 times and cuts 400 times; `WARDKEEP_LOOP=1`, as root,
//! cuts the power of a file system of its own too.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::mpsc::{Sender, channel},
};

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use wardkeep::store::EngineKind;

use super::{
    harness::{Answer, Client},
    plain::{
        self, Dice, Process, all_entries, all_records, assert_sound, bundle, found_on, full, on_each_engine, question,
        record, what,
    },
    powercut::{LoopDevice, Shim},
};

/// Records in a JSON body.
const BATCH: usize = 7;
/// Lines of an upload: one whole commit of 1,000, and a rest.
const LINES: usize = 1_020;
const COMMIT: usize = 1_000;
/// Rounds that one store lives through. All of it is looked at after each, so that a longer life takes longer by the square.
const LIFE: u64 = 40;
/// Entities that are written together.
const READERS: usize = 5;

#[test]
fn what_was_acknowledged_is_there_after_kill_9_and_nothing_is_half_there() {
    let kills = if full() { 250 } else { 25 };
    let mut dice = Dice::new("kills");
    let dices = [dice.fork(), dice.fork()];
    std::thread::scope(|scope| {
        let runs: Vec<_> = EngineKind::ALL
            .into_iter()
            .zip(dices)
            .map(|(engine, dice)| scope.spawn(move || rounds(engine, &End::Killed, dice, kills)))
            .collect();
        let totals: Vec<_> = runs.into_iter().map(|run| run.join().unwrap()).collect();
        println!("acknowledged: {totals:?}");
        for kind in ["ingest", "erase", "put_policies", "put_entities", "make_key", "revoke_key", "search"] {
            let times: u64 = totals.iter().filter_map(|t| t.get(kind)).sum();
            assert!(times > 3, "the run must have exercised {kind}: {times}");
        }
    });
}

on_each_engine!(
    what_was_acknowledged_is_there_after_a_power_cut_and_nothing_is_half_there,
    without_the_sync_of_the_data_the_same_rounds_fail,
    on_a_file_system_that_is_shut_down_nothing_acknowledged_is_lost,
);

fn what_was_acknowledged_is_there_after_a_power_cut_and_nothing_is_half_there(engine: EngineKind) {
    let cuts = if full() { 200 } else { 6 };
    let end = End::PowerCut(Shim::new());
    println!("acknowledged: {:?}", rounds(engine, &end, Dice::new("power cuts"), cuts));
}

/// The control: a disk that forgets what fdatasync promised, for all files or for the engine's alone. The loss must be seen by these
/// rounds, and where the rest of the store still knows of it, by the store itself.
fn without_the_sync_of_the_data_the_same_rounds_fail(engine: EngineKind) {
    let seen_by_the_store = ["not sound", "did not start"];
    let seen_by_the_rounds = ["is there", "are gone", "is gone", "entries tell of it"];
    for (deaf, words) in
        [("/", &[&seen_by_the_store[..], &seen_by_the_rounds].concat()[..]), ("/engine/", &seen_by_the_store)]
    {
        let mut dice = Dice::new("a disk that forgets");
        let run = std::thread::spawn(move || rounds(engine, &End::PowerCut(Shim::deaf_to(deaf)), dice.fork(), 12));
        let Err(told) = run.join() else { panic!("{deaf}: the loss was not seen") };
        let told = told.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(words.iter().any(|word| told.contains(word)), "{deaf}: {told}");
    }
}

fn on_a_file_system_that_is_shut_down_nothing_acknowledged_is_lost(engine: EngineKind) {
    if std::env::var_os("WARDKEEP_LOOP").is_none() {
        println!("not shown here: set WARDKEEP_LOOP=1, as root");
        return;
    }
    let end = End::ShutDown(LoopDevice::mount());
    println!("acknowledged: {:?}", rounds(engine, &end, Dice::new("shut down"), if full() { 100 } else { 10 }));
}

type Totals = BTreeMap<&'static str, u64>;

/// How a server's life ends.
enum End {
    Killed,
    /// Killed, and what was not synced is lost.
    PowerCut(Shim),
    /// Its file system is shut down under it, and mounted again.
    ShutDown(LoopDevice),
}

impl End {
    fn serve(&self, dir: &Path) -> Process {
        match self {
            Self::PowerCut(shim) => shim.serve(dir).unwrap_or_else(|why| panic!("the server did not start: {why}")),
            Self::Killed | Self::ShutDown(_) => Process::serve(dir),
        }
    }

    fn strike(&self, process: &mut Process) {
        match self {
            Self::ShutDown(device) => device.shut_down(process),
            Self::Killed | Self::PowerCut(_) => process.kill(),
        }
    }

    /// What the machine finds when it is on again.
    fn mend(&self, dir: &Path, dice: &mut Dice) {
        match self {
            Self::Killed => {}
            Self::PowerCut(shim) => drop(shim.cut(dir, dice)),
            Self::ShutDown(device) => device.remount(),
        }
    }
}

fn rounds(engine: EngineKind, end: &End, mut dice: Dice, count: u64) -> Totals {
    let mut totals = Totals::new();
    for begun in (0..count).step_by(LIFE as usize) {
        life(engine, end, &mut dice, begun..count.min(begun + LIFE), &mut totals);
    }
    totals
}

/// One store through so many rounds.
fn life(engine: EngineKind, end: &End, dice: &mut Dice, rounds: std::ops::Range<u64>, totals: &mut Totals) {
    let home = match end {
        End::ShutDown(device) => TempDir::new_in(device.path()).unwrap(),
        End::Killed | End::PowerCut(_) => TempDir::new().unwrap(),
    };
    let dir = home.path().canonicalize().unwrap().join("data");
    let key = found_on(engine, &dir);
    plain::furnish(&Client::new(&Process::serve(&dir).url, &key));
    let mut process = end.serve(&dir);
    let mut ledger = Ledger::default();
    for round in rounds {
        let root = Client::new(&process.url, &key);
        for (kind, n) in ledger.work_until_the_end(&root, &mut process, end, dice) {
            *totals.entry(kind).or_default() += n;
        }
        end.mend(&dir, dice);
        assert_sound(&dir);
        process = end.serve(&dir);
        println!("{engine} {round}");
        ledger.check(&Client::new(&process.url, &key));
    }
}

/// What is known of something that is written whole, in revisions: the last acknowledged, and the last sent.
#[derive(Default, Clone, Copy, Debug)]
struct Known {
    acknowledged: u64,
    sent: u64,
}

impl Known {
    /// Sends the next revision.
    fn advance(&mut self, send: impl FnOnce(u64) -> Option<Answer>) -> Option<()> {
        self.sent = self.acknowledged + 1;
        send(self.sent)?.ok();
        self.acknowledged = self.sent;
        Some(())
    }

    /// After a restart: one of the two, and from now on that.
    #[track_caller]
    fn settle(&mut self, found: u64, what: &str) {
        assert!(found == self.acknowledged || found == self.sent, "{what}: {found} is there of {self:?}");
        *self = Self { acknowledged: found, sent: found };
    }
}

/// An upload of lines, and whether its document was erased since.
#[derive(Default, Debug)]
struct Upload {
    number: u64,
    /// How many of its lines are known to be there; nothing is known of one that was broken off.
    lines: Option<usize>,
    erasing: bool,
    erased: bool,
}

/// An API key.
#[derive(Debug)]
struct Key {
    id: String,
    revoking: bool,
    revoked: bool,
}

/// All that one client knows of one store.
#[derive(Default)]
struct Ledger {
    batches: Vec<Known>,
    uploads: Vec<Upload>,
    policies: Known,
    readers: Known,
    keys: Vec<Key>,
    retrievals: Vec<String>,
    acknowledged: HashMap<&'static str, u64>,
    audit_read: u64,
}

impl Ledger {
    /// Six clients at once, until so many changes were acknowledged and a moment more; then the end.
    fn work_until_the_end(
        &mut self,
        root: &Client,
        process: &mut Process,
        end: &End,
        dice: &mut Dice,
    ) -> HashMap<&'static str, u64> {
        let changes = dice.below(60);
        let moment = dice.below(4_000);
        let mut dices: Vec<Dice> = (0..6).map(|_| dice.fork()).collect();
        let before = self.acknowledged.clone();
        let (said, heard) = channel::<&'static str>();
        let Self { batches, uploads, policies, readers, keys, retrievals, .. } = self;
        let acknowledged = &mut self.acknowledged;
        std::thread::scope(|scope| {
            let mut worker = |mut act: Box<dyn FnMut(&mut Dice) -> Option<&'static str> + Send>| {
                let (mut dice, said): (Dice, Sender<_>) = (dices.pop().unwrap(), said.clone());
                scope.spawn(move || {
                    while let Some(what) = act(&mut dice) {
                        let _ = said.send(what);
                    }
                });
            };
            worker(Box::new(|dice| ingest(root, batches, dice)));
            worker(Box::new(|dice| upload_or_erase(root, uploads, dice)));
            worker(Box::new(|dice| make_or_revoke(root, keys, dice)));
            worker(Box::new(|_| {
                policies.advance(|rev| send(root, "PUT", "/v1/policies?allow_widening=true", &bundle(rev)))?;
                Some("put_policies")
            }));
            worker(Box::new(|_| {
                readers.advance(|rev| send(root, "PUT", "/v1/entities", &people(rev)))?;
                Some("put_entities")
            }));
            worker(Box::new(|_| {
                let answer = send(root, "POST", "/v1/collections/notes/search", &question("b000001-0", 5))?.ok();
                retrievals.push(answer["retrieval_id"].as_str().unwrap().to_owned());
                Some("search")
            }));
            drop(said);
            let mut count = |name| *acknowledged.entry(name).or_default() += 1;
            let mut left = changes;
            while left > 0
                && let Ok(what) = heard.recv()
            {
                count(what);
                left -= u64::from(what != "search");
            }
            // Not a wait for anything: the moment itself is what is random.
            std::thread::sleep(std::time::Duration::from_micros(moment));
            end.strike(process);
            heard.iter().for_each(count);
        });
        let grown = |(kind, n): (&&'static str, &u64)| (*kind, n - before.get(*kind).unwrap_or(&0));
        self.acknowledged.iter().map(grown).collect()
    }

    /// Everything that was acknowledged is there, and everything else is there whole or not at all.
    fn check(&mut self, root: &Client) {
        let mut records: BTreeMap<String, u64> = all_records(root)
            .into_iter()
            .map(|r| {
                let (id, rev) = (r["id"].as_str().unwrap().to_owned(), r["attributes"]["rev"].as_u64().unwrap());
                assert_eq!(r["text"], format!("what {id} says in revision {rev}"), "a record is of one revision");
                (id, rev)
            })
            .collect();
        for (n, batch) in self.batches.iter_mut().enumerate() {
            let revs: BTreeSet<u64> = batch_ids(n).iter().map(|id| records.remove(id).unwrap_or(0)).collect();
            assert_eq!(revs.len(), 1, "batch {n} is half there: {revs:?}");
            batch.settle(*revs.first().unwrap(), "a batch");
        }
        for upload in &mut self.uploads {
            let there: Vec<bool> = line_ids(upload.number).iter().map(|id| records.remove(id).is_some()).collect();
            let count = there.iter().take_while(|is| **is).count();
            assert!(there[count..].iter().all(|is| !is), "an upload has a hole");
            let whole = [0, COMMIT, LINES].contains(&count);
            assert!(whole, "half a commit of an upload is there: {count}");
            match upload {
                Upload { erased: true, .. } => assert_eq!(count, 0, "erased records are back"),
                Upload { erasing: true, lines, .. } => {
                    assert!(count == 0 || Some(count) == *lines, "half an erasure: {count} are left")
                }
                Upload { lines: Some(lines), .. } => assert_eq!(count, *lines, "acknowledged lines are gone"),
                Upload { lines: None, .. } => {}
            }
            *upload = Upload { number: upload.number, lines: Some(count), ..Upload::default() };
        }
        assert!(records.is_empty(), "records that nobody sent: {:?}", records.keys());
        self.uploads.retain(|upload| upload.lines != Some(0));

        let policies = root.get("/v1/policies").ok();
        let rev = policies["note"].as_str().unwrap().strip_prefix("revision ").unwrap().parse().unwrap();
        assert_eq!(policies["policies"], bundle(rev)["policies"]);
        self.policies.settle(rev, "the bundle");

        let readers = root.get("/v1/entities/Reader").ok();
        let revs: BTreeSet<u64> =
            readers["entities"].as_array().unwrap().iter().map(|e| e["attrs"]["rev"].as_u64().unwrap()).collect();
        assert!(revs.len() <= 1, "half the entities were written: {revs:?}");
        self.readers.settle(revs.first().copied().unwrap_or(0), "the entities");

        let listed = root.get("/v1/callers").ok();
        let listed: BTreeSet<_> =
            listed["callers"].as_array().unwrap().iter().map(|k| k["key_id"].as_str().unwrap()).collect();
        for key in &self.keys {
            let there = listed.contains(key.id.as_str());
            assert!(there || key.revoking, "an acknowledged key is gone");
            assert!(!there || !key.revoked, "a revoked key is back");
        }

        self.check_audit(root);
    }

    /// Each answered retrieval has its entry, and there are as many entries of each kind as there were answers.
    fn check_audit(&mut self, root: &Client) {
        let entries = all_entries(root, 0);
        let numbers = entries.iter().map(|e| e["sequence"].as_u64().unwrap());
        assert!(numbers.eq(1..=entries.len() as u64), "the numbers of entries have a hole");
        let told: BTreeSet<_> = entries.iter().filter_map(|e| e["retrieval"].as_str()).collect();
        for retrieval in &self.retrievals {
            assert!(told.contains(retrieval.as_str()), "retrieval {retrieval} was answered and has no entry");
        }
        let count = |kind| entries.iter().filter(|e| what(e) == kind && e["outcome"] == "allowed").count() as u64;
        for kind in ["ingest", "erase", "put_policies", "put_entities", "make_key", "revoke_key"] {
            let acknowledged = self.acknowledged.get(kind).copied().unwrap_or(0);
            assert!(
                count(kind) >= acknowledged,
                "{acknowledged} times {kind} was acknowledged, {} entries tell of it",
                count(kind)
            );
        }
        assert!(entries.len() as u64 >= self.audit_read, "entries that were read before are gone");
        self.audit_read = entries.len() as u64;
    }
}

/// The answer, or `None` if the server is gone.
fn send(client: &Client, method: &str, path: &str, body: &Json) -> Option<Answer> {
    client.try_send(method, path, "application/json", body.to_string().as_bytes()).ok()
}

fn batch_ids(batch: usize) -> Vec<String> {
    (0..BATCH).map(|i| format!("b{batch:06}-{i}")).collect()
}

/// A new batch, or an old one in its next revision.
fn ingest(root: &Client, batches: &mut Vec<Known>, dice: &mut Dice) -> Option<&'static str> {
    let n = if batches.is_empty() || dice.below(2) == 0 {
        batches.push(Known::default());
        batches.len() - 1
    } else {
        usize::try_from(dice.below(batches.len() as u64)).unwrap()
    };
    batches[n].advance(|rev| {
        let records: Vec<_> = batch_ids(n).iter().map(|id| record(id, &format!("batch-{n}"), rev)).collect();
        send(root, "PUT", "/v1/collections/notes/records", &json!({ "records": records }))
    })?;
    Some("ingest")
}

fn line_ids(upload: u64) -> Vec<String> {
    (0..LINES).map(|i| format!("u{upload:06}-{i:04}")).collect()
}

/// A new upload of lines, or an old one erased.
fn upload_or_erase(root: &Client, uploads: &mut Vec<Upload>, dice: &mut Dice) -> Option<&'static str> {
    let waiting = uploads.iter().position(|u| u.lines.is_some() && !u.erasing);
    if let Some(at) = waiting.filter(|_| dice.below(4) > 0) {
        let upload = &mut uploads[at];
        upload.erasing = true;
        let document = format!("upload-{}", upload.number);
        let erased = send(root, "POST", "/v1/collections/notes/erase", &json!({ "document": document }))?.ok();
        assert_eq!(erased["erased"], json!(upload.lines));
        upload.erased = true;
        return Some("erase");
    }
    let number = dice.next() % 1_000_000;
    uploads.push(Upload { number, ..Upload::default() });
    let document = format!("upload-{number}");
    let body: String = line_ids(number).iter().map(|id| format!("{}\n", record(id, &document, 1))).collect();
    let answer =
        root.try_send("PUT", "/v1/collections/notes/records", "application/x-ndjson", body.as_bytes()).ok()?.ok();
    assert_eq!((&answer["accepted"], &answer["rejected_count"]), (&json!(LINES), &json!(0)));
    uploads.last_mut().unwrap().lines = Some(LINES);
    Some("ingest")
}

fn people(rev: u64) -> Json {
    let reader = |n: usize| json!({"uid": {"type": "Reader", "id": format!("reader-{n}")}, "attrs": {"rev": rev}, "parents": []});
    (0..READERS).map(reader).collect()
}

/// A new key, or an old one revoked.
fn make_or_revoke(root: &Client, keys: &mut Vec<Key>, dice: &mut Dice) -> Option<&'static str> {
    if let Some(key) = keys.iter_mut().find(|k| !k.revoking).filter(|_| dice.below(2) == 0) {
        key.revoking = true;
        root.try_send("DELETE", &format!("/v1/callers/keys/{}", key.id), "", &[]).ok()?.ok();
        key.revoked = true;
        return Some("revoke_key");
    }
    let made = send(root, "POST", "/v1/callers", &json!({"type": "Administrator", "id": "root"}))?.ok();
    keys.push(Key { id: made["key_id"].as_str().unwrap().to_owned(), revoking: false, revoked: false });
    Some("make_key")
}
