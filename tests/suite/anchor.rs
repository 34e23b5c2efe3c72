//! What a store cannot see in itself: the whole directory put back to an older state, and the clock set back.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
};

use tempfile::TempDir;
use wardkeep::{
    clock::{Clock, Instant},
    engine::{ClockBehind, Environment, Settings, Wardkeep},
    store::EngineKind,
};

use super::{
    harness::{Client, passphrase},
    plain::{self, Process, command, copy, found, found_on, on_each_engine, put_records, record},
};

on_each_engine!(a_directory_put_back_as_a_whole_is_refused_by_the_anchor);

/// A server that keeps an anchor, or why it did not start.
fn serve(dir: &Path, anchor: &Path) -> Result<Process, String> {
    let mut serve = command(&["serve"]);
    serve.env("WARDKEEP_ANCHOR", anchor);
    Process::start(serve, dir)
}

fn write(process: &Process, key: &str, ids: std::ops::Range<usize>) {
    let root = Client::new(&process.url, key);
    ids.for_each(|n| drop(put_records(&root, &[record(&format!("r-{n}"), "d", 1)]).ok()));
}

#[track_caller]
fn refused(outcome: Result<Process, String>, words: &str) {
    let Err(told) = outcome else { panic!("the server started") };
    assert!(told.contains(words), "{told}");
}

fn a_directory_put_back_as_a_whole_is_refused_by_the_anchor(engine: EngineKind) {
    let home = TempDir::new().unwrap();
    let [dir, old, anchor] = ["data", "old", "anchor"].map(|name| home.path().join(name));
    let key = found_on(engine, &dir);
    refused(serve(&dir, &anchor), "make an empty file there");
    fs::write(&anchor, "").unwrap();
    let mut process = serve(&dir, &anchor).unwrap();
    plain::furnish(&Client::new(&process.url, &key));
    process.kill();
    copy(&dir, &old);

    // killed or not, the anchor is renewed while the log grows, and the store that it was made of opens
    let mut process = serve(&dir, &anchor).unwrap();
    let begun = fs::read_to_string(&anchor).unwrap();
    write(&process, &key, 0..300);
    process.kill();
    assert_ne!(fs::read_to_string(&anchor).unwrap(), begun, "renewed while the log grew");
    drop(serve(&dir, &anchor).unwrap());
    let known = fs::read_to_string(&anchor).unwrap();

    // the older copy agrees with itself, and opens without an anchor
    let forged = home.path().join("forged");
    copy(&old, &forged);
    refused(serve(&forged, &anchor), "put back to an older state");
    assert_eq!(fs::read_to_string(&anchor).unwrap(), known, "a refusal leaves the anchor as it is");
    let mut process = Process::serve(&forged);
    // nor does it help to let the older copy grow beyond the anchor
    write(&process, &key, 0..320);
    process.kill();
    refused(serve(&forged, &anchor), "put back to an older state");
    drop(serve(&dir, &anchor).unwrap());

    // whoever means it begins a new anchor
    fs::write(&anchor, "").unwrap();
    drop(serve(&forged, &anchor).unwrap());
    refused(serve(&dir, &anchor), "put back to an older state");
}

#[test]
fn an_anchor_that_is_changed_foreign_or_out_of_reach_is_refused() {
    let home = TempDir::new().unwrap();
    let [dir, other, anchor, foreign] = ["data", "other", "anchor", "foreign"].map(|name| home.path().join(name));
    for (dir, anchor) in [(&dir, &anchor), (&other, &foreign)] {
        found(dir);
        fs::write(anchor, "").unwrap();
        drop(serve(dir, anchor).unwrap());
    }
    refused(serve(&dir, &foreign), "is not this store's");
    let text = fs::read_to_string(&anchor).unwrap();
    for changed in
        [text.replacen('\n', "\n1", 1), text.replace("wardkeep/", "wardkeep/0"), "no note".into(), "x".repeat(70_000)]
    {
        fs::write(&anchor, &changed).unwrap();
        refused(serve(&dir, &anchor), "is not this store's");
        assert_eq!(fs::read_to_string(&anchor).unwrap(), changed);
    }
    fs::write(&anchor, text).unwrap();
    drop(serve(&dir, &anchor).unwrap());
    refused(serve(&dir, &home.path().join("nowhere/anchor")), "cannot be read");
}

struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Instant {
        Instant::from_millis(self.0.load(SeqCst))
    }
}

const NOON: i64 = 1_770_000_000_000;

fn open(dir: &Path, clock: &Arc<SetClock>, clock_behind: ClockBehind) -> Result<Wardkeep, String> {
    let environment =
        Environment { clock: Arc::clone(clock) as Arc<dyn Clock>, clock_behind, ..Environment::default() };
    Wardkeep::open(dir, &passphrase(), Settings::default(), environment, &|_| {}).map_err(|error| error.to_string())
}

fn store_at_noon(home: &TempDir) -> (PathBuf, Arc<SetClock>) {
    let (dir, clock) = (home.path().join("data"), Arc::new(SetClock(AtomicI64::new(NOON))));
    let environment = Environment { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Environment::default() };
    Wardkeep::create(&dir, &passphrase(), wardkeep::crypto::KdfCost::FLOOR, environment).unwrap();
    (dir, clock)
}

#[test]
fn a_clock_more_than_a_minute_behind_the_last_entry_is_refused_at_the_start() {
    let home = TempDir::new().unwrap();
    let (dir, clock) = store_at_noon(&home);
    for (behind_ms, opens) in [(0, true), (60_000, true), (60_001, false), (86_400_000, false)] {
        clock.0.store(NOON - behind_ms, SeqCst);
        match open(&dir, &clock, ClockBehind::Refuse) {
            Ok(engine) => {
                assert!(opens, "{behind_ms} ms");
                // the last entry is of noon again, so that the next is measured against that
                clock.0.store(NOON, SeqCst);
                engine.close();
            }
            Err(words) => {
                assert!(
                    !opens && words.contains("the clock is") && words.contains("set it right"),
                    "{behind_ms} ms: {words}"
                );
            }
        }
    }
    // it had been ahead: whoever knows says so
    clock.0.store(NOON - 86_400_000, SeqCst);
    open(&dir, &clock, ClockBehind::Accept).unwrap().close();
    open(&dir, &clock, ClockBehind::Refuse).unwrap().close();
}

#[test]
fn while_the_clock_of_a_running_server_is_set_back_nothing_is_answered() {
    let home = Arc::new(TempDir::new().unwrap());
    let (dir, clock) = (home.path().join("data"), Arc::new(SetClock(AtomicI64::new(NOON))));
    let environment = || Environment { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Environment::default() };
    let founding = Wardkeep::create(&dir, &passphrase(), wardkeep::crypto::KdfCost::FLOOR, environment()).unwrap();
    let server = plain::serve(&home, &dir, founding.api_key.as_str(), environment());
    let root = server.root();
    plain::furnish(&root);
    put_records(&root, &[record("r-1", "d", 1)]).ok();
    clock.0.store(NOON - 60_001, SeqCst);
    let answer = put_records(&root, &[record("r-2", "d", 1)]).expect(503);
    assert!(answer.text().contains("clock was set back"), "{}", answer.text());
    root.search("notes", &plain::question("r-1", 3)).expect(503);
    clock.0.store(NOON - 60_000, SeqCst);
    put_records(&root, &[record("r-3", "d", 1)]).ok();
    let ids: Vec<_> = plain::all_records(&root).iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, ["r-1", "r-3"]);
}
