//! Keys over HTTP and at the command line: rotated under load and through kill -9, put under another passphrase, and what an erasure
//! certifies.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Instant,
};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::{
    harness::Client,
    plain::{
        self, Dice, Finally, Process, all_records, assert_sound, bare_command, command, furnish, put_records, question,
        run, said,
    },
};

const NEW_PHRASE: &str = "another sentence of this year";

/// A store on disk with `count` records, ten a patient, and its root's key.
fn filled(count: usize) -> (Arc<TempDir>, std::path::PathBuf, String) {
    let home = Arc::new(TempDir::new().unwrap());
    let dir = home.path().join("data");
    let key = plain::found(&dir);
    let server = plain::serve(&home, &dir, &key, wardkeep::engine::Environment::default());
    furnish(&server.root());
    let records: Vec<Json> =
        (0..count).map(|n| plain::record(&format!("r{n:06}"), &format!("d{}", n / 10), 1)).collect();
    for some in records.chunks(5_000) {
        put_records(&server.root(), some).ok();
    }
    let (_, dir) = plain::closed(server);
    (home, dir, key)
}

fn status(root: &Client) -> Json {
    root.get("/v1/keys").ok()
}

/// Small in the usual run; a hundred thousand records and ten kills with `WARDKEEP_TESTS=full`.
#[test]
fn a_rotation_under_load_goes_on_through_kill_9_fails_no_request_and_changes_no_record() {
    let (count, kills) = if plain::full() { (100_000, 10) } else { (1_000, 2) };
    let (_home, dir, key) = filled(count);
    let mut dice = Dice::new("rotation");
    let mut process = Process::serve(&dir);
    let root = Client::new(&process.url, &key);
    let before = all_records(&root);
    assert_eq!(before.len(), count);
    let calm =
        load(&root, || std::thread::sleep(std::time::Duration::from_millis(if plain::full() { 10_000 } else { 300 })));
    let begun = root.post("/v1/keys/rotate", &json!({})).ok();
    assert_eq!(begun["state"], "renewing");
    let again = root.post("/v1/keys/rotate", &json!({})).expect(409);
    assert_eq!(again.code(), "rotation_under_way");
    let mut loads = Vec::new();
    for kill in 1..=kills {
        let root = Client::new(&process.url, &key);
        let total = status(&root)["data_keys"].as_u64().unwrap();
        let target = total * kill / (kills + 1) + dice.below(total / (kills + 1) / 2 + 1);
        loads.push(load(&root, || {
            let reached = |now: &Json| now["renewed"].as_u64().unwrap() >= target || now["state"] == "current";
            while !reached(&status(&root)) {}
        }));
        process.kill();
        process = Process::serve(&dir);
    }
    let root = Client::new(&process.url, &key);
    let wait = || while status(&root)["state"] != "current" {};
    loads.push(load(&root, wait));
    let done = status(&root);
    assert_eq!(done["renewed"], done["data_keys"]);
    assert_eq!(done["rotation"], 2);
    assert!(all_records(&root) == before, "no record is another");
    let worst = loads.iter().map(|l| l.p99).max().unwrap();
    println!("searches p99: {:?} before, {worst:?} while keys are renewed; {:?}", calm.p99, loads);
    process.kill();
    assert_sound(&dir);
    let entries = run(&["keys", "status", "--json"], &dir);
    assert_eq!(entries.0, 0, "{entries:?}");
}

#[derive(Debug)]
#[allow(dead_code, reason = "printed")]
struct Load {
    searches: usize,
    p50: std::time::Duration,
    p99: std::time::Duration,
}

/// Searches and writes while `work` is done; each must succeed.
fn load(root: &Client, work: impl FnOnce()) -> Load {
    let (done, number) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut took = std::thread::scope(|scope| {
        let search = || {
            let mut took = Vec::new();
            while !done.load(SeqCst) || took.is_empty() {
                let began = Instant::now();
                let n = number.fetch_add(1, SeqCst) % 1_000;
                let found = root.search("notes", &question(&format!("r{n:06}"), 5)).expect(200);
                took.push(began.elapsed());
                assert_eq!(found.ids().len(), 5);
            }
            took
        };
        let end = Finally(|| done.store(true, SeqCst));
        let searchers = [scope.spawn(search), scope.spawn(search)];
        scope.spawn(|| {
            // the same content again: what is compared at the end does not change
            while !done.load(SeqCst) {
                let n = number.fetch_add(1, SeqCst) % 1_000;
                put_records(root, &[plain::record(&format!("r{n:06}"), &format!("d{}", n / 10), 1)]).ok();
            }
        });
        work();
        drop(end);
        searchers.into_iter().flat_map(|s| s.join().unwrap()).collect::<Vec<_>>()
    });
    took.sort();
    let at = |share: usize| took[(took.len() - 1) * share / 100];
    Load { searches: took.len(), p50: at(50), p99: at(99) }
}

#[test]
fn keys_are_rotated_and_told_of_at_the_command_line_with_and_without_a_server() {
    let (_home, dir, key) = filled(50);
    let (code, out, err) = run(&["keys", "rotate", "--json"], &dir);
    assert_eq!(code, 0, "{out}{err}");
    let told: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&told["state"], &told["rotation"], &told["provider"]),
        (&json!("current"), &json!(2), &json!("passphrase"))
    );
    let process = Process::serve(&dir);
    let verb = |words: &[&str]| {
        let mut command = bare_command(words);
        said(command.args(["--url", &process.url]).env("WARDKEEP_API_KEY", &key).output().unwrap())
    };
    let (code, out, err) = verb(&["keys", "rotate", "--wait"]);
    assert!(code == 0 && out.contains("rotation 3") && out.contains("current"), "{out}{err}");
    let (code, out, _) = verb(&["keys", "status", "--json"]);
    let told: Json = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["renewed"]), (0, &told["data_keys"]));
    let entries = plain::all_entries(&Client::new(&process.url, &key), 0);
    for what in ["rotate_keys", "renew_keys", "key_status"] {
        assert!(entries.iter().any(|e| plain::what(e) == what), "{what} is in the audit log");
    }
}

#[test]
fn a_new_passphrase_opens_the_store_alone_and_an_old_key_file_is_refused() {
    let (_home, dir, key) = filled(20);
    let old = fs::read(dir.join("keyring")).unwrap();
    let change = |from: &str| {
        let mut command = bare_command(&["keys", "passphrase", "--data"]);
        let command = command.arg(&dir).env("WARDKEEP_PASSPHRASE", from).env("WARDKEEP_NEW_PASSPHRASE", NEW_PHRASE);
        said(command.output().unwrap())
    };
    let (code, _, err) = change("a sentence that is not it");
    assert!(code == 1 && err.contains("passphrase is wrong"), "{err}");
    let (code, out, err) = change(plain::PHRASE);
    assert_eq!(code, 0, "{out}{err}");
    assert!(![&out, &err].iter().any(|text| text.contains(NEW_PHRASE)), "no passphrase is shown");
    let verify = |phrase: &str| {
        let mut command = bare_command(&["store", "verify", "--data"]);
        said(command.arg(&dir).env("WARDKEEP_PASSPHRASE", phrase).output().unwrap())
    };
    assert_eq!(verify(NEW_PHRASE).0, 0);
    assert!(verify(plain::PHRASE).2.contains("passphrase is wrong"));
    let mut serve = bare_command(&["keys", "status", "--data"]);
    assert_eq!(said(serve.arg(&dir).env("WARDKEEP_PASSPHRASE", NEW_PHRASE).output().unwrap()).0, 0);
    fs::write(dir.join("keyring"), old).unwrap();
    let (code, _, err) = said(command(&["keys", "status", "--data"]).arg(&dir).output().unwrap());
    assert!(code == 1 && err.contains("the key file is older than the rest"), "{err}");
    assert!(key.starts_with("wk_"));
}

#[test]
fn a_certificate_of_erasure_is_verified_offline_with_the_public_key_alone() {
    let home = Arc::new(TempDir::new().unwrap());
    let dir = home.path().join("data");
    let founding: Json = {
        let (code, out, err) = run(&["init", "--json"], &dir);
        assert_eq!(code, 0, "{err}");
        serde_json::from_str(&out).unwrap()
    };
    let public_key = founding["audit_public_key"].as_str().unwrap().to_owned();
    let process = Process::serve(&dir);
    let root = Client::new(&process.url, founding["api_key"].as_str().unwrap());
    furnish(&root);
    put_records(&root, &[plain::record("a", "d", 1), plain::record("b", "d", 1), plain::record("c", "e", 1)]).ok();
    root.put("/v1/entities", &json!([{"uid": {"type": "Patient", "id": "patient-of-d"}, "attrs": {}, "parents": []}]))
        .ok();
    let erase = |body: Json| root.post("/v1/collections/notes/erase", &body);
    assert_eq!(erase(json!({"ids": ["a"], "entity": true})).expect(422).code(), "erase");
    let body = json!({"patient": "patient-of-d", "entity": true, "certificate": true});
    let answer = erase(body).ok();
    assert_eq!((&answer["erased"], &answer["still_named"]["own_entity"]), (&json!(2), &json!(false)));
    root.get("/v1/entities/Patient/patient-of-d").expect(404);

    let file = home.path().join("certificate.json");
    let verify = |text: &str, key: &str| {
        fs::write(&file, text).unwrap();
        said(bare_command(&["keys", "certificate", "--public-key", key]).arg(&file).output().unwrap())
    };
    let whole = answer.to_string();
    let (code, out, err) = verify(&whole, &public_key);
    assert!(code == 0 && out.contains("patient-of-d"), "{out}{err}");
    assert_eq!(verify(&answer["certificate"].to_string(), &public_key).0, 0);
    assert_eq!(verify(&whole.replace("\"records_erased\":2", "\"records_erased\":1"), &public_key).0, 3);
    assert_eq!(verify(&whole, &"ab".repeat(32)).0, 3);
    assert_eq!(verify("{}", &public_key).0, 3);
    assert_eq!(verify(&whole, "no key").0, 2);
    let entries = plain::all_entries(&root, 0);
    let number = answer["certificate"]["statement"]["audit_entry"].clone();
    let entry = entries.iter().find(|e| e["sequence"] == number).unwrap();
    assert_eq!(plain::what(entry), "erase", "the certificate names its entry");
}

/// What stays of a patient who is erased, looked for where it would be: in the log as those read it who may, in the files, and in what the
/// certificate says of both.
#[test]
fn a_certificate_says_what_stays_in_the_log_and_the_log_keeps_that_and_no_more() {
    let home = Arc::new(TempDir::new().unwrap());
    let dir = home.path().join("data");
    let (code, out, err) = run(&["init", "--json"], &dir);
    assert_eq!(code, 0, "{err}");
    let founding: Json = serde_json::from_str(&out).unwrap();
    let mut process = Process::serve(&dir);
    let root = Client::new(&process.url, founding["api_key"].as_str().unwrap());
    furnish(&root);
    root.put("/v1/entities", &json!([{"uid": {"type": "Reader", "id": "reader"}, "attrs": {"rev": 1}, "parents": []}]))
        .ok();
    let made = root.post("/v1/callers", &json!({"type": "Reader", "id": "reader"})).ok();
    let [gone, stays] = ["rec-gone-0001", "rec-stays-0001"];
    let [document, patient] = ["doc-gone-0001", "patient-of-doc-gone-0001"];
    let mut record = plain::record(gone, document, 1);
    record["attributes"]["kind"] = "kind-gone-0001".into();
    record["vector"][0] = json!(0.123_437_5);
    put_records(&root, &[record, plain::record(stays, "doc-stays-0001", 1)]).ok();
    let content = ["kind-gone-0001", "0.1234375", &format!("what {gone} says"), document];
    let shown = root.get(&format!("/v1/collections/notes/records/{gone}?purpose=treatment")).ok().to_string();
    assert!(shown.contains(content[0]) && shown.contains(content[2]), "the control: {shown}");
    root.search("notes", &question(gone, 2)).ok();
    let narrowed = json!({"purpose": "treatment", "patient": patient, "filter": "resource.kind == \"kind-gone-0001\""});
    assert_eq!(root.post("/v1/collections/notes/records/list", &narrowed).ids(), [gone]);

    let answer = root.post("/v1/collections/notes/erase", &json!({"patient": patient, "certificate": true})).ok();
    let statement = &answer["certificate"]["statement"];
    let kept = statement["kept"].as_str().unwrap();
    for words in [
        "audit log keeps",
        "name the records and the patient by id",
        "sealed",
        "no text, no vector and no attribute",
        "ledger",
    ] {
        assert!(kept.contains(words), "{words}: {kept}");
    }
    // what it says stays is there, for those who may read the audit, and nothing else of the patient is
    let entries = plain::all_entries(&root, 0);
    let naming = |id: &str| {
        entries
            .iter()
            .filter(|entry| entry.to_string().contains(&format!("\"{id}\"")))
            .map(plain::what)
            .collect::<Vec<_>>()
    };
    assert_eq!(naming(gone), ["ingest", "read", "search", "list", "erase"]);
    assert!(naming(patient).contains(&"erase") && naming(patient).contains(&"list"));
    let log = json!(entries).to_string();
    content.iter().for_each(|content| assert!(!log.replace(patient, "").contains(content), "{content} is in the log"));
    let reader = Client::new(&process.url, made["api_key"].as_str().unwrap());
    reader.get("/v1/audit").expect(403);
    process.signal(rustix::process::Signal::TERM);
    assert!(process.wait().success());
    // in the files nobody reads even that
    for file in plain::files(&dir) {
        let bytes = fs::read(&file).unwrap();
        for id in content.iter().chain(&[gone, stays, patient]) {
            assert!(!bytes.windows(id.len()).any(|window| window == id.as_bytes()), "{id} in {}", file.display());
        }
    }
    // and the command says it once more, to whoever holds the certificate and the public key alone
    let file = home.path().join("certificate.json");
    fs::write(&file, answer.to_string()).unwrap();
    let key = founding["audit_public_key"].as_str().unwrap();
    let verify = |more: &[&str]| {
        said(bare_command(&["keys", "certificate", "--public-key", key]).args(more).arg(&file).output().unwrap())
    };
    let (code, out, err) = verify(&[]);
    assert!(code == 0 && out.contains(kept), "{out}{err}");
    let told: Json = serde_json::from_str(&verify(&["--json"]).1).unwrap();
    assert_eq!((&told["valid"], &told["statement"]), (&json!(true), statement));
    assert_sound(&dir);
}

#[test]
fn after_a_patient_is_erased_every_answer_is_as_if_they_had_never_been() {
    let servers = [plain::server(), plain::server()];
    let record = |n: usize| plain::record(&format!("r{n:03}"), &format!("d{}", n % 7), 1);
    let all: Vec<Json> = (0..70).map(record).collect();
    let others: Vec<Json> = all.iter().filter(|record| record["document"] != "d3").cloned().collect();
    for (server, records) in servers.iter().zip([&all, &others]) {
        put_records(&server.root(), records).ok();
    }
    let roots = servers.each_ref().map(|server| server.root());
    let answers = |root: &Client| -> Vec<Json> {
        let asked = (0..70).step_by(4).flat_map(|n| [3, 100].map(|limit| question(&format!("r{n:03}"), limit)));
        let narrowed = asked.clone().map(|mut body| {
            body["filter"] = json!("resource.kind == \"a-kind-of-note\"");
            body
        });
        let search = |body: Json| {
            let mut answer = root.search("notes", &body).ok();
            answer["retrieval_id"] = Json::Null;
            answer
        };
        asked.chain(narrowed).map(search).collect()
    };
    assert!(answers(&roots[0]) != answers(&roots[1]), "the control: until they are erased they are found");
    let erased = roots[0].post("/v1/collections/notes/erase", &json!({"patient": "patient-of-d3"})).ok();
    assert_eq!(erased["erased"], 10);
    assert!(answers(&roots[0]) == answers(&roots[1]));
    assert!(all_records(&roots[0]) == all_records(&roots[1]));
}

#[test]
fn a_patients_entity_goes_only_with_the_right_to_delete_it_and_with_no_records_elsewhere() {
    let server = plain::server();
    let root = server.root();
    root.put("/v1/collections/other", &json!({"dimension": plain::DIMENSION, "metric": "cosine"})).ok();
    put_records(&root, &[plain::record("a", "d", 1)]).ok();
    root.put("/v1/collections/other/records", &json!({"records": [plain::record("b", "d", 1)]})).ok();
    let erase = |collection: &str| {
        let body = json!({"patient": "patient-of-d", "entity": true});
        root.post(&format!("/v1/collections/{collection}/erase"), &body)
    };
    assert_eq!(erase("notes").expect(409).code(), "referred_to");
    assert_eq!(all_records(&root).len(), 1, "nothing was erased");
    root.post("/v1/collections/other/erase", &json!({"patient": "patient-of-d"})).ok();
    assert_eq!(erase("notes").ok()["erased"], 1);
}
