//! Nothing that a server writes to its terminal, whatever it is asked and at whatever level of its log, holds content or an identifier. What
//! all other tests make servers say is looked through by `tests/heard` when they have run; that it finds what is there is shown here.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::{
    harness::{Client, lines, root_dir},
    plain::{self, Process, bare_command, furnish, put_records},
    providers::{TOKEN, init, vault::StandIn},
};

/// Planted wherever a client may put something.
const CANARY: &str = "canary-4711";

fn planted(name: &str) -> String {
    format!("{CANARY}-{name}")
}

fn record(id: &str) -> Json {
    let mut record = plain::record(&planted(id), &planted("document"), 1);
    record["text"] = json!(planted("text"));
    record["attributes"]["kind"] = json!(planted("attribute"));
    record["attributes"]["patient"]["id"] = json!(planted("patient"));
    record
}

#[test]
fn a_server_under_a_mixed_load_says_nothing_of_what_it_is_asked_or_holds() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("data");
    let vault = StandIn::new();
    let key = init(&vault.reach(), "vault", &dir);
    let log = home.path().join("log");
    let out = fs::File::create(&log).unwrap();
    let mut command = bare_command(&["serve", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(&dir).envs(vault.reach()).env("WARDKEEP_LOG", "trace");
    let mut process = Process::of(command.stdout(Stdio::piped()).stderr(out));
    let root = Client::new(&process.url, &key);
    furnish(&root);
    let mixed = |root: &Client| {
        put_records(root, &[record("a"), record("b")]);
        put_records(
            root,
            &[json!({"id": planted("broken"), "document": CANARY, "text": planted("text"), "vector": [1]})],
        );
        root.put_lines(
            "/v1/collections/notes/records",
            &format!("{}\n{{\"id\": \"{CANARY}\", not json\n", record("c")),
        );
        root.put(
            "/v1/entities",
            &json!([{"uid": {"type": "Patient", "id": planted("patient")}, "attrs": {}, "parents": []}]),
        );
        root.put(
            "/v1/entities",
            &json!([{"uid": {"type": "Patient", "id": planted("x")}, "attrs": {"unknown": CANARY}, "parents": []}]),
        );
        let mut question = plain::question(CANARY, 5);
        root.search("notes", &question);
        question["purpose"] = json!(planted("purpose"));
        question["filter"] = json!(format!("resource.kind == \"{}\"", planted("filter")));
        root.search("notes", &question);
        question["filter"] = json!(format!("resource.{CANARY}"));
        root.search("notes", &question);
        root.get(&format!("/v1/collections/notes/records/{}?purpose=treatment", planted("a")));
        root.get(&format!("/v1/collections/{CANARY}?{CANARY}={CANARY}"));
        root.put(
            &format!("/v1/policies?note={CANARY}"),
            &json!({"schema": planted("schema"), "policies": planted("policies"), "note": CANARY}),
        );
        root.post("/v1/callers", &json!({"type": "Reader", "id": planted("caller")}));
        root.put(&format!("/v1/holds/Patient/{}", planted("held")), &json!({"reason": planted("reason")}));
        root.post("/v1/keys/rotate", &json!({}));
        root.post("/v1/collections/notes/erase", &json!({"ids": [planted("b")], "certificate": true}));
        root.post("/v1/collections/notes/erase", &json!({"patient": planted("patient"), "entity": true}));
        root.get(&format!("/v1/audit?patient={}", planted("patient")));
    };
    mixed(&root);
    mixed(&Client::new(&process.url, &planted("key")));
    mixed(&Client::new(&process.url, ""));
    // something that must be logged
    put_records(&root, &[record("d")]).ok();
    vault.set_down(true);
    root.post("/v1/collections/notes/erase", &json!({"ids": [planted("d")]})).expect(503);
    process.kill();
    let said = fs::read(&log).unwrap();
    let text = String::from_utf8_lossy(&said);
    assert!(text.contains("a change could not be written"), "what must be logged is: otherwise nothing is tested");
    for secret in [CANARY, key.as_str(), TOKEN] {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
}

/// What `tests/heard` makes of a directory: exit code, and what it says.
fn heard(room: &Path) -> (i32, String) {
    let done = Command::new(root_dir().join("tests/heard")).arg(room).output().unwrap();
    let text = [done.stdout, done.stderr].concat();
    (done.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[test]
fn a_line_with_anything_that_tests_plant_is_found_and_told_by_file_and_line_alone() {
    let room = TempDir::new().unwrap();
    for name in ["heard", "planted"] {
        fs::create_dir(room.path().join(name)).unwrap();
    }
    let say = |name: &str, text: &str| fs::write(room.path().join("heard").join(name), text).unwrap();
    assert_eq!(heard(room.path()).0, 1, "where nothing was heard nothing is shown");
    say("output", "running 1 test\n");
    assert_eq!(heard(room.path()).0, 1, "the tests alone are not enough");
    let innocent = "INFO listening\nERROR a change could not be written error=\"the disk is full\"\n";
    say("server-1-0.log", innocent);
    let (code, text) = heard(room.path());
    assert_eq!(code, 0, "{text}");

    fs::write(room.path().join("planted/ids-1"), "r000017\n").unwrap();
    let ours = plain::record("r000017", "d9", 3);
    let ward = &lines("examples/ward/records.ndjson")[1_234];
    let firm = &lines("examples/law-firm/records.ndjson")[17];
    let part = |text: &Json| text.as_str().unwrap().lines().find(|line| line.len() >= 30).unwrap().to_owned();
    let planted = [
        ours["id"].to_string(),
        ours["text"].to_string(),
        ours["attributes"]["kind"].to_string(),
        ours["attributes"]["patient"]["id"].to_string(),
        ward["id"].to_string(),
        ward["document"].to_string(),
        part(&ward["text"]),
        firm["id"].to_string(),
        part(&firm["text"]),
        planted("anything"),
        format!("wk_{}_{}", "0f".repeat(8), "Ab-_3".repeat(9).split_at(43).0),
        plain::PHRASE.to_owned(),
        "patient-identifier-0001".to_owned(),
    ];
    let lines: Vec<_> = planted.iter().map(|secret| format!("TRACE looked up id={secret} in 3 us")).collect();
    let first = innocent.lines().count() + 1;
    for (name, innocent) in [("server-1-0.log", innocent), ("output", "running 1 test\nrunning 0 tests\n")] {
        say(name, &format!("{innocent}{}\n", lines.join("\n")));
        let (code, text) = heard(room.path());
        let mut told: Vec<_> = text.lines().map(str::to_owned).collect();
        told.sort();
        let mut expected: Vec<_> =
            (first..).zip(&planted).map(|(n, _)| format!("what must not be said stands in {name}:{n}")).collect();
        expected.sort();
        assert_eq!((code, told), (3, expected));
        say(name, innocent);
    }
    assert_eq!(heard(room.path()).0, 0);
}
