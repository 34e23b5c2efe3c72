//! Records that only the full decision keeps from a caller: they are among those that a search has to ask about, and must not choose by
//! their number how it is answered. And three ways in which a guard or the log could have said less than it should.

use serde_json::{Value as Json, json};

use super::{
    harness::{Client, Server},
    refusals::entries,
};

const SCHEMA: &str = r#"
entity Administrator in [Group]; entity Group in [Group] = { level?: Long };
entity System; entity Collection; entity Document; entity Clinician;
entity Record in [Document, Collection] = { a: Long, b: Long, c: Long, d: Long, e: Long };
type Question = { purpose: String };
action Retrieve, Read, ReadVector appliesTo { principal: [Clinician], resource: [Record], context: Question };
action Search, BreakGlass appliesTo { principal: [Clinician], resource: [Collection], context: Question };
action Ingest, Erase, Export appliesTo { principal: [Administrator], resource: [Collection], context: {} };
action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass, Explain
appliesTo { principal: [Administrator], resource: [System], context: {} };
"#;

/// Five attributes in one comparison: more than the planner combines, so that every record is left to the full decision.
const POLICIES: &str = r#"
@id("administration") permit (principal is Administrator, action, resource);
@id("search") permit (principal is Clinician, action == Action::"Search", resource);
@id("sum") permit (principal is Clinician, action in [Action::"Retrieve", Action::"Read"], resource is Record)
when { resource.a + resource.b + resource.c + resource.d + resource.e > 0 };
"#;

fn governed() -> (Server, Client) {
    let server = Server::new();
    let root = server.root();
    root.put("/v1/policies", &json!({"schema": SCHEMA, "policies": POLICIES, "note": ""})).ok();
    root.put("/v1/entities", &json!([{"uid": {"type": "Clinician", "id": "nurse"}, "attrs": {}, "parents": []}])).ok();
    root.put("/v1/collections/ward", &json!({"dimension": 64, "metric": "cosine"})).ok();
    (server, root)
}

fn record(id: &str, a: i64, vector: &[f64]) -> Json {
    let attributes = json!({"a": a, "b": 0, "c": 0, "d": 0, "e": 0});
    json!({"id": id, "document": "d", "text": "t", "vector": vector, "attributes": attributes})
}

#[test]
fn hidden_records_that_have_to_be_asked_about_change_no_answer() {
    let (server, root) = governed();
    // One component outweighs all others, so that what a byte code leaves out of those is all on one side.
    let rare =
        |others: &dyn Fn(usize) -> f64| -> Vec<f64> { std::iter::once(127.0).chain((0..63).map(others)).collect() };
    let mut records = vec![record("near", 1, &rare(&|_| 0.49))];
    for n in 0..29 {
        let held = 10 + n % 18;
        records.push(record(&format!("y{n:02}"), 1, &rare(&|at| if (at * 7 + n) % 63 < held { 1.0 } else { 0.0 })));
    }
    root.put("/v1/collections/ward/records", &json!({"records": records})).ok();
    let nurse = server.key_for("Clinician", "nurse");
    let question: Vec<f64> = std::iter::once(0.0).chain([1.0; 63]).collect();
    let asked = || nurse.search("ward", &json!({"vector": question, "limit": 10, "purpose": "treatment"}));
    let alone = asked();
    assert_eq!(alone.ids()[0], "near");
    for hidden in [5, 2_000] {
        let hidden: Vec<Json> = (0..hidden).map(|n| record(&format!("h{n:04}"), -1, &[-1.0; 64])).collect();
        root.put("/v1/collections/ward/records", &json!({"records": hidden})).ok();
        assert_eq!(asked().json()["results"], alone.json()["results"]);
    }
}

#[test]
fn a_lockout_by_way_of_a_group_that_will_not_fit_has_to_be_allowed_by_name() {
    let (_server, root) = governed();
    let group = |id: &str, level: Json, parents: Json| json!({"uid": {"type": "Group", "id": id}, "attrs": level, "parents": parents});
    let of = |id: &str| json!([{"type": "Group", "id": id}]);
    let root_entity = json!({"uid": {"type": "Administrator", "id": "root"}, "attrs": {}, "parents": of("sub")});
    let entities =
        json!([group("ops", json!({"level": 1}), json!([])), group("sub", json!({}), of("ops")), root_entity]);
    root.put("/v1/entities", &entities).ok();
    let policies = POLICIES.replace("principal is Administrator", "principal in Group::\"ops\"");
    root.put("/v1/policies", &json!({"schema": SCHEMA, "policies": policies, "note": ""})).ok();
    let stricter = json!({"schema": SCHEMA.replace("level?: Long", "level: Long"), "policies": policies, "note": ""});
    let refused = root.put("/v1/policies?allow_invalid=true", &stricter).expect(409);
    assert_eq!(refused.code(), "lockout");
    root.get("/v1/policies").ok();
}

#[test]
fn an_explanation_under_a_bundle_that_was_sent_says_so_in_the_log() {
    let (_server, root) = governed();
    root.put("/v1/collections/ward/records", &json!({"records": [record("r", 1, &[1.0; 64])]})).ok();
    let question = json!({
        "caller": {"type": "Clinician", "id": "nurse"}, "collection": "ward", "record": "r", "action": "Read",
        "purpose": "treatment", "now": "2026-03-01T12:00:00Z", "bundle": {"schema": SCHEMA, "policies": POLICIES},
    });
    let digest = root.post("/v1/policies/explain", &question).ok()["digest"].as_str().unwrap().to_owned();
    let entry = entries(&root, 0).into_iter().rfind(|entry| entry["what"] == "explain").unwrap();
    let detail = entry["detail"].as_str().unwrap();
    assert!(detail.contains(&digest) && detail.contains("2026-03-01T12:00:00"), "{detail}");
}
