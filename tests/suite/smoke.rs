//! The main job, once through; and the way back in when no key is left.

use serde_json::json;

use super::{
    harness::{Server, lines},
    plain::{self, all_entries, closed, run, what},
};
use wardkeep::engine::Environment;

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

#[test]
fn whoever_holds_the_passphrase_makes_a_key_without_a_server() {
    let server = plain::server();
    let root = server.root();
    let add = ["caller", "add", "--type", "Administrator", "--id", "root", "--purpose", "treatment", "--json"];
    let (code, out, _) = run(&add, &server.dir);
    assert_eq!((code, out.as_str()), (1, ""), "not beside a server that runs");
    let lost = root.key.split('_').nth(1).unwrap();
    root.delete(&format!("/v1/callers/keys/{lost}")).ok();
    root.get("/v1/callers").expect(401);
    let (home, dir) = closed(server);
    let (code, out, err) = run(&add, &dir);
    assert_eq!(code, 0, "{out}{err}");
    let made: serde_json::Value = serde_json::from_str(&out).unwrap();
    let server = plain::serve(&home, &dir, made["api_key"].as_str().unwrap(), Environment::default());
    let keys = server.root().get("/v1/callers").ok();
    let [key] = keys["callers"].as_array().unwrap().as_slice() else { panic!("{keys}") };
    assert_eq!((&key["key_id"], &key["id"]), (&made["key_id"], &json!("root")));
    assert_eq!(key["purposes"], json!(["treatment"]));
    let log = all_entries(&server.root(), 0);
    let entry = log.iter().rfind(|e| what(e) == "make_key").unwrap();
    assert_eq!((&entry["authentication"], &entry["caller"]["id"]), (&json!("offline"), &json!("root")), "{entry}");
}
