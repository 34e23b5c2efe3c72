//! Legal holds and records that outlive their time.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::SeqCst},
};

use serde_json::{Value as Json, json};
use wardkeep::{
    clock::{Clock, Instant},
    engine::{Environment, Retention, Settings},
};

use super::{
    harness::{Client, Server},
    plain::{self, all_records, put_records},
};

const HOLD: &str = "/v1/holds/Patient/patient-of-d";

#[test]
fn a_hold_beats_every_erasure_until_it_is_lifted_also_after_a_restart() {
    let server = plain::server();
    let root = server.root();
    put_records(&root, &[plain::record("a", "d", 1), plain::record("b", "e", 1)]).ok();
    root.put("/v1/entities", &json!([{"uid": {"type": "Patient", "id": "patient-of-d"}, "attrs": {}, "parents": []}]))
        .ok();
    let put = root.put(HOLD, &json!({"reason": "case 12 of 2026"})).ok();
    assert_eq!(put["by"], json!({"type": "Administrator", "id": "root"}));
    assert_eq!(root.put(HOLD, &json!({"reason": "another"})).ok(), put, "one that is there stays as it is");
    root.put("/v1/holds/Nobody/x", &json!({})).expect(422);

    let server = server.restart();
    let root = server.root();
    assert_eq!(root.get("/v1/holds").ok(), json!({"holds": [put]}));
    let erase = |body| root.post("/v1/collections/notes/erase", &body);
    for body in [
        json!({"ids": ["a"]}),
        json!({"ids": ["a", "b"]}),
        json!({"document": "d"}),
        json!({"patient": "patient-of-d", "entity": true}),
    ] {
        assert_eq!(erase(body).expect(409).code(), "legal_hold");
    }
    assert_eq!(root.delete("/v1/collections/notes").expect(409).code(), "legal_hold");
    assert_eq!(root.delete("/v1/entities/Patient/patient-of-d?force=true").expect(409).code(), "legal_hold");
    assert_eq!(all_records(&root).len(), 2, "nothing was erased");
    erase(json!({"ids": ["b"]})).ok();

    root.delete(HOLD).ok();
    root.delete(HOLD).expect(404);
    assert_eq!(erase(json!({"patient": "patient-of-d"})).ok()["erased"], 1);
    let log = plain::all_entries(&root, 0);
    for what in ["put_hold", "lift_hold", "read_holds"] {
        assert!(log.iter().any(|entry| plain::what(entry) == what), "{what}");
    }
    let refused = log.iter().filter(|entry| entry["detail"] == "legal_hold").count();
    assert_eq!(refused, 6, "each refusal is in the log");
}

/// A clock that is set.
struct Set(AtomicI64);

impl Clock for Set {
    fn now(&self) -> Instant {
        Instant::from_millis(self.0.load(SeqCst))
    }
}

const SCHEMA: &str = r#"
    entity Administrator; entity System; entity Collection; entity Document; entity Patient;
    entity Record in [Document, Collection] = { patient?: Patient, ingested_at?: datetime, written?: datetime };
    action Retrieve, Read, ReadVector appliesTo { principal: [Administrator], resource: [Record], context: { purpose: String } };
    action Search, Ingest, Erase, Export, BreakGlass appliesTo { principal: [Administrator], resource: [Collection], context: {} };
    action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass, Explain
    appliesTo { principal: [Administrator], resource: [System], context: {} };
"#;

#[test]
fn records_expire_on_their_day_but_for_those_under_a_hold_and_those_without_a_date() {
    let clock = Arc::new(Set(AtomicI64::new(1_770_000_000_000)));
    let shared = Arc::clone(&clock);
    let server =
        Server::with(Settings::default(), move || Environment { clock: shared.clone(), ..Environment::default() });
    let root = server.root();
    let bundle = json!({"schema": SCHEMA, "policies": "@id(\"all\") permit(principal, action, resource);"});
    root.put("/v1/policies?allow_widening=true", &bundle).ok();
    for name in ["notes", "kept"] {
        root.put(&format!("/v1/collections/{name}"), &json!({"dimension": 2, "metric": "dot"})).ok();
    }
    let record = |id: &str, patient: &str, written: Option<&str>| {
        let mut attributes = json!({"patient": {"type": "Patient", "id": patient}});
        if let Some(day) = written {
            attributes["written"] = json!({"__extn": {"fn": "datetime", "arg": day}});
        }
        json!({"id": id, "document": "d", "vector": [1, 2], "text": id, "attributes": attributes})
    };
    let records = json!({"records": [
        record("old", "p", Some("2020-01-01")), record("older", "q", Some("2019-01-01T00:00:00.000Z")),
        record("held", "h", Some("2019-01-01")), record("new", "p", Some("2026-01-31")), record("dateless", "p", None),
    ]});
    root.put("/v1/collections/notes/records", &records).ok();
    root.put("/v1/collections/kept/records", &records).ok();
    root.put("/v1/holds/Patient/h", &json!({})).ok();
    let rule =
        |attribute: &str, days| Retention { collection: "notes".parse().unwrap(), attribute: attribute.into(), days };
    let left = |name: &str| {
        let listed = root.post(&format!("/v1/collections/{name}/records/list"), &json!({"purpose": "operations"}));
        listed.expect(200).ids()
    };

    server.engine.expire_due();
    assert_eq!(left("notes").len(), 5, "without a rule nothing expires");
    server.engine.retain(vec![rule("written", 365)]);
    server.engine.expire_due();
    assert_eq!(left("notes"), ["dateless", "held", "new"]);
    assert_eq!(left("kept").len(), 5, "a collection without a rule keeps its records");
    root.delete("/v1/holds/Patient/h").ok();
    server.engine.expire_due();
    assert_eq!(left("notes").len(), 3, "within the hour it is not looked at again");
    clock.0.fetch_add(3_600_000, SeqCst);
    server.engine.expire_due();
    assert_eq!(left("notes"), ["dateless", "new"]);

    // the server's own stamp: at the last millisecond of its time a record is there, then it is not
    server.engine.retain(vec![rule("ingested_at", 30)]);
    clock.0.store(1_770_000_000_000 + 30 * 86_400_000 - 1, SeqCst);
    assert_eq!(server.engine.expire().unwrap(), 0);
    clock.0.fetch_add(1, SeqCst);
    assert_eq!(server.engine.expire().unwrap(), 2);
    let log = plain::all_entries(&root, 0);
    let expired: Vec<_> = log.iter().filter(|entry| plain::what(entry) == "expire").collect();
    assert_eq!(expired.len(), 3);
    assert_eq!((&expired[0]["detail"], &expired[0]["counts"]["returned"]), (&json!("365 days"), &json!(2)));
}

const ERASERS: &str = r#"
    @id("all") permit(principal is Administrator, action, resource);
    @id("erasers") permit(principal is Eraser, action == Action::"Erase", resource);
"#;

/// A server where `Eraser::"e"` may erase and nothing else, with two records of `p`, of whom a team speaks, and one of `q`.
fn with_an_eraser(held: &[&str]) -> (Server, Client) {
    let server = Server::with(Settings::default(), Environment::default);
    let root = server.root();
    let schema =
        SCHEMA.replace("entity Patient;", "entity Patient; entity Eraser; entity Team = { of: Patient };").replace(
            "action Search, Ingest, Erase, Export, BreakGlass appliesTo { principal: [Administrator]",
            "action Search, Ingest, Erase, Export, BreakGlass appliesTo { principal: [Administrator, Eraser]",
        );
    root.put("/v1/policies?allow_widening=true", &json!({"schema": schema, "policies": ERASERS})).ok();
    root.put("/v1/collections/notes", &json!({"dimension": 2, "metric": "dot"})).ok();
    let bare = |ty: &str, id: &str, attrs: Json| json!({"uid": {"type": ty, "id": id}, "attrs": attrs, "parents": []});
    let entities = [bare("Eraser", "e", json!({})), bare("Patient", "p", json!({})), bare("Patient", "q", json!({}))];
    root.put("/v1/entities", &json!(entities)).ok();
    root.put("/v1/entities", &json!([bare("Team", "t", json!({"of": {"type": "Patient", "id": "p"}}))])).ok();
    let record = |id: &str, patient: &str| {
        let attributes = json!({"patient": {"type": "Patient", "id": patient}});
        json!({"id": id, "document": format!("of-{patient}"), "vector": [1, 2], "text": id, "attributes": attributes})
    };
    let records = [record("a", "p"), record("b", "p"), record("c", "q")];
    root.put("/v1/collections/notes/records", &json!({ "records": records })).ok();
    held.iter().for_each(|patient| drop(root.put(&format!("/v1/holds/Patient/{patient}"), &json!({})).ok()));
    let key =
        root.post("/v1/callers", &json!({"type": "Eraser", "id": "e"})).ok()["api_key"].as_str().unwrap().to_owned();
    let eraser = server.client(&key);
    (server, eraser)
}

#[test]
fn whoever_may_only_erase_cannot_tell_what_a_hold_keeps_from_what_is_not_there() {
    let (server, eraser) = with_an_eraser(&["p"]);
    let erase = |body: Json| eraser.post("/v1/collections/notes/erase", &body).expect(200).json();
    let pairs = [
        (json!({"ids": ["a"]}), json!({"ids": ["no-such-record"]})),
        (json!({"patient": "p"}), json!({"patient": "nobody"})),
        (json!({"document": "of-p"}), json!({"document": "no-such-document"})),
    ];
    for (held, absent) in pairs {
        assert_eq!(erase(held.clone()), erase(absent), "{held}");
    }
    let mixed = erase(json!({"ids": ["a", "c", "x"]}));
    assert_eq!(mixed, json!({"erased": 1, "missing": 2, "holds": "not_told"}), "what is not held goes");
    let listed = server.root().post("/v1/collections/notes/records/list", &json!({"purpose": "operations"}));
    assert_eq!(listed.expect(200).ids(), ["a", "b"], "and what is held stays");
    let certified = erase(json!({"patient": "p", "certificate": true}));
    let statement = &certified["certificate"]["statement"];
    assert_eq!((&statement["records_erased"], &statement["holds"]), (&json!(0), &json!("not_told")));
    let log = plain::all_entries(&server.root(), 0);
    assert_eq!(log.iter().filter(|entry| entry["detail"] == "legal_hold").count(), 5, "those who read the log see it");
}

#[test]
fn whoever_may_only_erase_is_told_of_no_other_record_entity_policy_or_key() {
    let (server, eraser) = with_an_eraser(&[]);
    let answer = eraser.post("/v1/collections/notes/erase", &json!({"ids": ["a"]})).ok();
    assert_eq!(answer, json!({"erased": 1, "missing": 0, "holds": "not_told"}), "another record was sealed anew");
    let answer = eraser.post("/v1/collections/notes/erase", &json!({"patient": "p"})).ok();
    assert_eq!(answer, json!({"erased": 1, "missing": 0, "holds": "not_told"}));
    let answer = server.root().post("/v1/collections/notes/erase", &json!({"patient": "p"})).ok();
    let team = json!([{"type": "Team", "id": "t"}]);
    assert_eq!((&answer["still_named"]["entities"], &answer["still_named"]["own_entity"]), (&team, &json!(true)));
    assert_eq!((&answer["still_named"]["policies"], &answer["still_named"]["api_keys"]), (&json!([]), &json!(false)));
}
