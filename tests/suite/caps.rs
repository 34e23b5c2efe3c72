//! The minimum necessary over HTTP: the example that administrators read, and what the audit entry says of what was cut.

use serde_json::{Value as Json, json};

use super::{
    harness::{Answer, Client, Server},
    refusals::entries,
};

const SCHEMA: &str = r#"
entity Administrator; entity System; entity Collection; entity Document; entity Patient;
entity Record in [Document, Collection] = { patient?: Patient, kind: Set<String> };
action Retrieve, Read, ReadVector appliesTo { principal: [Administrator], resource: [Record], context: { purpose: String } };
action Search, Ingest, Erase, Export, BreakGlass appliesTo { principal: [Administrator], resource: [Collection], context: {} };
action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass, Explain
appliesTo { principal: [Administrator], resource: [System], context: {} };
"#;

/// Permits that each grant the records of their own kind, with these caps.
fn policies(permits: &[(&str, &str)]) -> Json {
    let grants = permits.iter().map(|(name, cap)| {
        format!(
            "@id(\"{name}\") {cap} permit (principal is Administrator, action in [Action::\"Retrieve\", Action::\"Read\"], resource) \
             when {{ resource.kind.contains(\"{name}\") }};"
        )
    });
    let upkeep = ["Collection", "System"]
        .map(|ty| format!("@id(\"{ty}\") permit (principal is Administrator, action, resource is {ty});"));
    json!({"schema": SCHEMA, "policies": upkeep.into_iter().chain(grants).collect::<Vec<_>>().join("\n")})
}

/// A store whose records lie in this order before the question: patient, and the permits that grant it.
fn server(permits: &[(&str, &str)], ranking: &[(&str, &[&str])]) -> Server {
    let server = Server::new();
    let root = server.root();
    root.put("/v1/policies?allow_widening=true", &policies(permits)).ok();
    root.put("/v1/collections/notes", &json!({"dimension": 2, "metric": "dot"})).ok();
    let record = |(number, (patient, kind)): (usize, &(&str, &[&str]))| {
        json!({
            "id": format!("r{:03}", number + 1), "document": "d", "vector": [1_000 - number, 1], "text": "a text",
            "attributes": {"patient": {"__entity": {"type": "Patient", "id": patient}}, "kind": kind},
        })
    };
    let records: Vec<Json> = ranking.iter().enumerate().map(record).collect();
    root.put("/v1/collections/notes/records", &json!({ "records": records })).ok();
    server
}

fn ask(root: &Client, limit: usize) -> Answer {
    root.search("notes", &json!({"vector": [1, 0], "limit": limit, "purpose": "treatment"})).expect(200)
}

fn entry_of(root: &Client, answer: &Answer) -> Json {
    let trace = json!(answer.headers["x-request-id"]);
    entries(root, 0).into_iter().find(|e| e["trace"] == trace).unwrap()
}

/// The table of `policies/README.md`, line by line.
#[test]
fn the_example_in_the_readme_is_what_comes_out_and_the_log_says_what_was_cut_and_why() {
    let both: &[&str] = &["care", "oversight"];
    let care: &[&str] = &["care"];
    let server = server(
        &[("care", r#"@max_patients("2")"#), ("oversight", r#"@max_records("2")"#)],
        &[("Ann", both), ("Ben", care), ("Cem", care), ("Ann", both), ("Ben", care), ("Dee", both), ("Cem", care)],
    );
    let root = server.root();
    let answer = ask(&root, 10);
    assert_eq!(answer.ids(), ["r001", "r002", "r003", "r004", "r005", "r007"]);
    let entry = entry_of(&root, &answer);
    assert_eq!(entry["withheld"], json!({"records": 1, "by": ["care", "oversight"]}), "{entry}");
    assert_eq!((&entry["detail"], &entry["counts"]["returned"]), (&json!("cut_by_cap"), &json!(6)));
    assert!(!answer.text().contains("withheld"), "what was found and cut is for the log, not for the caller");

    let answer = ask(&root, 3);
    assert_eq!(answer.ids(), ["r001", "r002", "r003"]);
    let entry = entry_of(&root, &answer);
    assert!(
        entry.get("withheld").is_none() && entry.get("detail").is_none(),
        "the limit is no cap of a permit: {entry}"
    );
}

#[test]
fn a_permit_that_is_used_up_is_named_and_others_are_not() {
    let server = server(
        &[("few", r#"@max_records("2")"#), ("many", r#"@max_records("50")"#)],
        &[("a", &["few"]), ("b", &["many"]), ("c", &["few"]), ("d", &["few"]), ("e", &["few"]), ("f", &["many"])],
    );
    let answer = ask(&server.root(), 10);
    assert_eq!(answer.ids(), ["r001", "r002", "r003", "r006"]);
    let entry = entry_of(&server.root(), &answer);
    assert_eq!(entry["withheld"], json!({"records": 2, "by": ["few"]}), "{entry}");
}

/// Three permits of at most five patients and fourteen records each, a crowd of patients that two of them grant: filled to the last
/// place, where moving one record at a time finds no way any more.
#[test]
fn overlapping_caps_on_patients_are_filled_to_the_last_place() {
    let names = ["a", "b", "c"];
    let cap = r#"@max_patients("5") @max_records("14")"#;
    let pairs: [&[&str]; 3] = [&["a", "b"], &["b", "c"], &["c", "a"]];
    // Fifteen patients of two or three records, fourteen for each permit: each patient by one of two permits.
    let patients: Vec<String> = (0..15).map(|n| format!("p{n:02}")).collect();
    let mut ranking: Vec<(&str, &[&str])> = Vec::new();
    for round in 0..3 {
        for (n, patient) in patients.iter().enumerate() {
            // p12, p13 and p14 have two records, the others three.
            if round < 2 || n < 12 {
                ranking.push((patient, pairs[n % 3]));
            }
        }
    }
    assert_eq!(ranking.len(), 42);
    let stranger: (&str, &[&str]) = ("one more", &["a", "b", "c"]);
    ranking.push(stranger);
    let server = server(&names.map(|name| (name, cap)), &ranking);
    let answer = ask(&server.root(), 50);
    assert_eq!(answer.ids().len(), 42);
    let entry = entry_of(&server.root(), &answer);
    assert_eq!(entry["withheld"], json!({"records": 1, "by": ["a", "b", "c"]}), "{entry}");
}
