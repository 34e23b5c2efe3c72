//! The leakage test against a server that is in use: it asks with the callers' own keys, takes away what it planted, and changes nothing else.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value as Json, json};

use super::harness::{Client, Server, bundle, file, lines};
use wardkeep::leaktest::{
    Effort, Plan, Run, run,
    target::{Caller, OverHttp, Target},
    world::{Own, Rules, World, own},
};

const RECORDS: usize = 300;

/// A server with a part of the sample ward, and callers with keys of their own.
fn in_use() -> (Server, World, Vec<(Caller, String)>) {
    let server = Server::clinical();
    let records: Vec<String> = file("examples/ward/records.ndjson").lines().take(RECORDS).map(str::to_owned).collect();
    server.root().put_lines("/v1/collections/ward/records", &records.join("\n")).ok();
    let callers = ["m-nurse-000", "m-physician-000", "m-privacy_officer-000"].map(|id| {
        let users: Json = serde_json::from_str(&file("examples/ward/users.json")).unwrap();
        let mut user = users.as_array().unwrap().iter().find(|u| u["caller"]["id"] == id).unwrap().clone();
        user["key"] = json!(server.key_for("Clinician", id).key);
        user
    });
    let bundle = bundle("policies/clinical");
    let text = |name: &str| bundle[name].as_str().unwrap().to_owned();
    let given = Own {
        collection: "ward".into(),
        rules: Some(Rules { schema: text("schema"), policies: text("policies"), links: json!([]) }),
        entities: Some(file("examples/ward/entities.json")),
        records: records.join("\n"),
        callers: json!(callers).to_string(),
        matrix: None,
        subject: "patient".into(),
    };
    let (world, keys) = own(&given, |entry| Ok(entry["key"].as_str().map(str::to_owned))).unwrap();
    (server, world, keys)
}

fn attack(server: &Server, world: &World, keys: &[(Caller, String)], admin: Option<&str>, only: &[&str]) -> Run {
    let plan = Plan {
        seed: 1,
        effort: Effort::Quick,
        only: only.iter().map(|p| (*p).to_owned()).collect(),
        restarts: None,
        live: true,
        command: String::new(),
        connections: 4,
        breadth: None,
        stop: Arc::default(),
    };
    let open = || {
        let target = OverHttp::at(&server.url, "ward", admin);
        let target = keys.iter().fold(target, |target, (caller, key)| target.with_key(caller, key));
        Ok(Box::new(target) as Box<dyn Target>)
    };
    run(&plan, world, &open, &mut |_| {}).unwrap()
}

/// What an administrator sees of the store: collections, keys that are in force, and the version of the policies.
fn state(root: &Client) -> [Json; 3] {
    let keys = root.get("/v1/callers").ok();
    let held: BTreeSet<String> = keys["callers"].as_array().unwrap().iter().map(|k| k["key_id"].to_string()).collect();
    let mut collections = root.get("/v1/collections").ok();
    // memory that once held a record is kept for the next
    collections["collections"][0].as_object_mut().unwrap().remove("index_bytes");
    [collections, json!(held), root.get("/v1/policies").ok()["version"].clone()]
}

#[test]
fn with_keys_that_can_only_read_what_needs_to_write_is_skipped_and_the_rest_comes_out_clean() {
    let (server, world, keys) = in_use();
    let before = state(&server.root());
    let only = ["cross-patient", "existence", "twin-worlds", "stale-permission", "canaries", "deletion-forensics"];
    let run = attack(&server, &world, &keys, None, &only);
    for outcome in &run.outcomes {
        assert_eq!((outcome.violations, &outcome.broken), (0, &None), "{outcome:?}");
        let asks = ["cross-patient", "existence"].contains(&outcome.probe);
        assert_eq!(outcome.trials > 0, asks, "{outcome:?}");
        assert!(asks || !outcome.skipped.is_empty(), "{outcome:?}");
    }
    assert_eq!(state(&server.root()), before);
}

#[test]
fn what_was_planted_and_the_keys_that_were_made_are_taken_away_again() {
    let (server, world, keys) = in_use();
    let before = state(&server.root());
    // one key is missing: the kit makes it
    let run =
        attack(&server, &world, &keys[..2], Some(&server.root_key), &["canaries", "deletion-forensics", "identity"]);
    for outcome in &run.outcomes {
        assert_eq!((outcome.violations, &outcome.broken), (0, &None), "{outcome:?}");
        assert!(outcome.trials > 0, "{outcome:?}");
    }
    assert_eq!(state(&server.root()), before);
    let officer = Client::new(&server.url, &keys[2].1);
    let held = officer.post("/v1/collections/ward/records/list", &json!({"purpose": "operations", "limit": 1000})).ok();
    let stored: BTreeSet<String> =
        lines("examples/ward/records.ndjson")[..RECORDS].iter().map(|r| r["id"].to_string()).collect();
    assert!(held["records"].as_array().unwrap().iter().all(|r| stored.contains(&r["id"].to_string())));
}
