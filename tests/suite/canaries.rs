//! Nothing that a server writes to its terminal, whatever it is asked and at whatever level of its log, holds content or an identifier.

use std::process::Stdio;

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::{
    harness::Client,
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
    let out = std::fs::File::create(&log).unwrap();
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
    let said = std::fs::read(&log).unwrap();
    let text = String::from_utf8_lossy(&said);
    assert!(text.contains("a change could not be written"), "what must be logged is: otherwise nothing is tested");
    for secret in [CANARY, key.as_str(), TOKEN] {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
}
