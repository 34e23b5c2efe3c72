//! A disk that fails at some point, under the real binary: nothing is corrupted, nothing is acknowledged that is not kept, the words are
//! clear, and on a sound disk everything goes on. A few points by default; `WARDKEEP_TESTS=full` tries a thousand on each engine.

use std::path::PathBuf;

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use wardkeep::store::EngineKind;

use super::{
    harness::Client,
    plain::{
        self, Dice, Process, all_entries, all_records, assert_sound, copy, found_on, full, on_each_engine, record, what,
    },
    powercut::Shim,
};

/// Changes that are tried on a disk; each writes and syncs several times. Every fourth is an erasure, which renews the key file twice.
const CHANGES: usize = 60;
const ERASE_EVERY: usize = 4;
const FAULTS: [&str; 4] = ["enospc", "short", "write", "sync"];

on_each_engine!(whichever_write_or_sync_fails_nothing_acknowledged_is_lost_and_the_store_opens_again);

fn whichever_write_or_sync_fails_nothing_acknowledged_is_lost_and_the_store_opens_again(engine: EngineKind) {
    let home = TempDir::new().unwrap();
    let whole = home.path().join("whole");
    let key = found_on(engine, &whole);
    let process = Process::serve(&whole);
    plain::furnish(&Client::new(&process.url, &key));
    drop(process);

    let mut dice = Dice::new("points");
    let (mut shown, mut tried) = (0, 0);
    for fault in FAULTS {
        let points: Vec<u64> = if full() { (1..=250).collect() } else { (0..4).map(|_| 1 + dice.below(60)).collect() };
        for point in points {
            let room = TempDir::new_in(home.path()).unwrap();
            let dir = room.path().canonicalize().unwrap().join("data");
            copy(&whole, &dir);
            let case = format!("{engine} {fault}:{point}");
            let outcome =
                Trial { dir: dir.clone(), key: key.clone(), case }.run(&Shim::failing(fault, point), &mut dice);
            shown += usize::from(outcome == Fault::Shown);
            tried += 1;
        }
    }
    println!("{engine}: the fault showed in {shown} of {tried}");
    assert!(shown > tried / 2);
}

#[derive(PartialEq)]
enum Fault {
    Shown,
    NotReached,
}

/// Ids of records that were written, and of those that were erased.
#[derive(Default)]
struct Acknowledged {
    there: Vec<String>,
    gone: Vec<String>,
}

struct Trial {
    dir: PathBuf,
    key: String,
    case: String,
}

impl Trial {
    fn run(&self, shim: &Shim, dice: &mut Dice) -> Fault {
        let (acknowledged, fault) = match shim.serve(&self.dir) {
            Ok(mut process) => {
                let done = self.change_until_refused(&Client::new(&process.url, &self.key));
                process.kill();
                done
            }
            Err(words) => {
                assert_explained(&words, &self.case);
                (Acknowledged::default(), Fault::Shown)
            }
        };
        let cut = (dice.below(2) == 0).then(|| shim.cut(&self.dir, dice));
        let Acknowledged { there, gone } = &acknowledged;
        println!("{}: {} acknowledged, {} erased, {cut:?}", self.case, there.len(), gone.len());
        assert_sound(&self.dir);
        self.check(&acknowledged);
        fault
    }

    /// Writes one record after the other, and erases one now and then; what was acknowledged, until two were refused.
    fn change_until_refused(&self, root: &Client) -> (Acknowledged, Fault) {
        let (mut acknowledged, mut refused) = (Acknowledged::default(), 0);
        for n in 0..CHANGES {
            let erased = (n % ERASE_EVERY == ERASE_EVERY - 1).then(|| acknowledged.there.pop()).flatten();
            let id = format!("change-{n}");
            let answer = match &erased {
                // the others of its document are sealed anew
                Some(id) => root.post("/v1/collections/notes/erase", &json!({"ids": [id]})),
                None => plain::put_records(root, &[record(&id, &format!("document-{}", n / 7), 1)]),
            };
            match (answer.status, erased) {
                (200, Some(id)) => acknowledged.gone.push(id),
                (200, None) => acknowledged.there.push(id),
                // whether what was refused is there is not known
                (503, _) => {
                    assert_explained(answer.json()["detail"].as_str().unwrap(), &self.case);
                    refused += 1;
                }
                (other, _) => panic!("{}: {other} {}", self.case, answer.text()),
            }
            if refused == 2 {
                break;
            }
        }
        (acknowledged, if refused > 0 { Fault::Shown } else { Fault::NotReached })
    }

    /// On a sound disk: all that was acknowledged is there or gone, each change has its entry, and the next one is taken.
    fn check(&self, acknowledged: &Acknowledged) {
        let Acknowledged { there, gone } = acknowledged;
        let process = Process::serve(&self.dir);
        let root = Client::new(&process.url, &self.key);
        let id = |json: &Json| json["id"].as_str().unwrap().to_owned();
        let ids: Vec<String> = all_records(&root).iter().map(id).collect();
        assert!(there.iter().all(|id| ids.contains(id)), "{}: {there:?} of {ids:?}", self.case);
        assert!(!gone.iter().any(|id| ids.contains(id)), "{}: {gone:?} in {ids:?}", self.case);
        let entries = all_entries(&root, 0);
        for id in &ids {
            let told = entries.iter().filter(|e| what(e) == "ingest" && e["records"][0] == id.as_str()).count();
            assert_eq!(told, 1, "{}: {id} is there, so its entry is, once", self.case);
        }
        plain::put_records(&root, &[record("afterwards", "document-of-afterwards", 1)]).ok();
    }
}

/// Words that say what to do, and nothing of a record.
fn assert_explained(words: &str, case: &str) {
    let helps =
        ["see to the disk", "free", "mend", "restart", "cannot be written", "cannot write", "cannot read or write"];
    assert!(helps.iter().any(|help| words.contains(help)), "{case}: {words}");
    assert!(!words.contains("panicked") && !words.contains("change-"), "{case}: {words}");
}
