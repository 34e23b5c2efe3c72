//! The main job, once through.

use serde_json::json;

use super::harness::{Server, lines};

#[test]
fn a_nurse_gets_her_patients_records_and_nothing_else() {
    let server = Server::ward();
    let nurse = server.key_for("Clinician", "m-nurse-000");
    let question = &lines("examples/ward/queries.ndjson")[0];
    let body = json!({"vector_base64": question["vector_base64"], "limit": 10, "purpose": "treatment"});
    let answer = nurse.search("ward", &body);
    let first = answer.clone().expect(200).json();
    assert_eq!(first["results"].as_array().unwrap().len(), 10);
    for result in first["results"].as_array().unwrap() {
        let patient = result["attributes"]["patient"]["__entity"]["id"].as_str().unwrap();
        assert!(["m-P000043", "m-P000096"].contains(&patient));
    }
    let server = server.restart();
    let nurse = server.client(&nurse.key);
    assert_eq!(nurse.search("ward", &body).ids(), answer.ids());
}
