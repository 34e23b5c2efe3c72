//! Fast isolation over HTTP: a collection whose graph is walked answers several roles, and nothing forbidden is among the answers, none is
//! short, and the broad role's recall is held against an exact reference.

use std::{cmp::Ordering, collections::HashMap};

use serde_json::{Value as Json, json};

use super::{
    harness::{Client, Server},
    plain::Dice,
};

/// Enough for a graph (10,000), and for the planner to walk it where nearly all are permitted.
const RECORDS: usize = 12_000;
const DIMENSION: usize = 16;
const QUESTIONS: usize = 60;
const WANTED: usize = 10;

const SCHEMA: &str = r#"
entity Administrator; entity System; entity Collection; entity Document;
entity Clinician = { wards: Set<String> };
entity Record in [Document, Collection] = { ward: String, secret: Bool };
type Question = { purpose: String };
action Retrieve, Read, ReadVector appliesTo { principal: [Clinician], resource: [Record], context: Question };
action Search, BreakGlass appliesTo { principal: [Clinician], resource: [Collection], context: Question };
action Ingest, Erase, Export appliesTo { principal: [Administrator], resource: [Collection], context: {} };
action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass, Explain
appliesTo { principal: [Administrator], resource: [System], context: {} };
"#;

const POLICIES: &str = r#"
@id("administration") permit (principal is Administrator, action, resource);
@id("search") permit (principal is Clinician, action == Action::"Search", resource);
@id("wards") permit (principal is Clinician, action == Action::"Retrieve", resource)
when { principal.wards.contains(resource.ward) };
@id("secret") forbid (principal, action == Action::"Retrieve", resource) when { resource.secret };
"#;

struct Row {
    id: String,
    ward: &'static str,
    secret: bool,
    vector: Vec<f64>,
}

fn wards(role: &str) -> &'static [&'static str] {
    match role {
        "broad" => &["north", "south", "west"],
        "half" => &["north"],
        "narrow" => &["west"],
        "none" => &[],
        other => panic!("{other}"),
    }
}

fn direction(dice: &mut Dice) -> Vec<f64> {
    (0..DIMENSION).map(|_| dice.below(2_001) as f64 / 1_000.0 - 1.0).collect()
}

/// Something near to one of the centres, as texts on one matter are.
fn near(dice: &mut Dice, centres: &[Vec<f64>]) -> Vec<f64> {
    let centre = &centres[dice.below(centres.len() as u64) as usize];
    let vector: Vec<f64> = centre.iter().zip(direction(dice)).map(|(c, d)| c + 0.35 * d).collect();
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    vector.iter().map(|x| x / length).collect()
}

fn rows(dice: &mut Dice, centres: &[Vec<f64>]) -> Vec<Row> {
    let ward = |n: usize| match n % 100 {
        0..50 => "north",
        50..97 => "south",
        _ => "west",
    };
    let row =
        |n: usize| Row { id: format!("r{n:05}"), ward: ward(n), secret: n % 11 == 0, vector: near(dice, centres) };
    (0..RECORDS).map(row).collect()
}

fn line(row: &Row) -> String {
    let attributes = json!({"ward": row.ward, "secret": row.secret});
    let record = json!({"id": row.id, "document": "d", "vector": row.vector, "text": "", "attributes": attributes});
    format!("{record}\n")
}

fn server(rows: &[Row]) -> Server {
    let server = Server::new();
    let root = server.root();
    root.put("/v1/policies?allow_widening=true", &json!({"schema": SCHEMA, "policies": POLICIES})).ok();
    let clinician = |role: &&str| json!({"uid": {"type": "Clinician", "id": role}, "attrs": {"wards": wards(role)}});
    let roles: Vec<Json> = ["broad", "half", "narrow", "none"].iter().map(clinician).collect();
    root.put("/v1/entities", &json!(roles)).ok();
    root.put("/v1/collections/notes", &json!({"dimension": DIMENSION, "metric": "cosine", "isolation": "fast"})).ok();
    let lines: String = rows.iter().map(line).collect();
    assert_eq!(root.put_lines("/v1/collections/notes/records", &lines).ok()["accepted"], RECORDS);
    server
}

fn permitted<'a>(rows: &'a [Row], role: &str) -> Vec<&'a Row> {
    rows.iter().filter(|row| wards(role).contains(&row.ward) && !row.secret).collect()
}

fn score(row: &Row, question: &[f64]) -> f64 {
    row.vector.iter().zip(question).map(|(a, b)| a * b).sum()
}

/// The score of the last of the nearest that the role may see: whatever scores as much is one of them.
fn bar(rows: &[&Row], question: &[f64]) -> f64 {
    let mut scores: Vec<f64> = rows.iter().map(|row| score(row, question)).collect();
    scores.sort_by(|a, b| b.partial_cmp(a).unwrap_or(Ordering::Equal));
    scores[WANTED.min(scores.len()) - 1]
}

/// Asks as a role and returns the recall on average; every single answer is whole and holds nothing that is not the role's.
fn recall(client: &Client, rows: &[Row], role: &str, questions: &[Vec<f64>]) -> f64 {
    let mine = permitted(rows, role);
    let by_id: HashMap<&str, &Row> = mine.iter().map(|row| (row.id.as_str(), *row)).collect();
    let mut found = 0;
    for question in questions {
        let asked = json!({"vector": question, "limit": WANTED, "purpose": "treatment", "include": []});
        let ids = client.search("notes", &asked).expect(200).ids();
        assert_eq!(ids.len(), WANTED.min(mine.len()), "{role}");
        let hits: Vec<&Row> =
            ids.iter().map(|id| *by_id.get(id.as_str()).unwrap_or_else(|| panic!("{role}: {id}"))).collect();
        if !mine.is_empty() {
            let bar = bar(&mine, question) - 1e-5;
            found += hits.iter().filter(|row| score(row, question) >= bar).count();
        }
    }
    found as f64 / (questions.len() * WANTED.min(mine.len().max(1))) as f64
}

#[test]
fn a_graph_under_policies_shows_nothing_forbidden_and_finds_what_an_exact_scan_finds() {
    let mut dice = Dice::new("fast isolation");
    let centres: Vec<Vec<f64>> = (0..40).map(|_| direction(&mut dice)).collect();
    let mut rows = rows(&mut dice, &centres);
    let questions: Vec<Vec<f64>> = (0..QUESTIONS).map(|_| near(&mut dice, &centres)).collect();
    let server = server(&rows);
    let client = |role| server.key_for("Clinician", role);
    let broad = client("broad");
    server.engine.settle_graphs();

    let before = server.engine.graph_walks();
    let of_broad = recall(&broad, &rows, "broad", &questions);
    let walks = server.engine.graph_walks() - before;
    assert!(walks as usize >= QUESTIONS / 2, "the graph was walked for {walks} of {QUESTIONS} questions");
    assert!(of_broad >= 0.99, "recall of the broad role: {of_broad}");
    let shown = server.root().get("/metrics");
    assert!(shown.text().contains(&format!("wardkeep_graph_walks_total {}", server.engine.graph_walks())));
    for role in ["half", "narrow"] {
        let of_role = recall(&client(role), &rows, role, &questions);
        assert!(of_role >= 0.99, "recall of {role}: {of_role}");
    }
    let nobody = client("none");
    for question in &questions {
        let asked = json!({"vector": question, "limit": WANTED, "purpose": "treatment"});
        assert_eq!(nobody.search("notes", &asked).expect(200).ids(), Vec::<String>::new());
    }

    // What is erased is gone from the graph's answers too, and others take its place.
    let nearest = json!({"vector": questions[0], "limit": 5, "purpose": "treatment", "include": []});
    let gone = broad.search("notes", &nearest).ids();
    server.root().post("/v1/collections/notes/erase", &json!({"ids": gone})).ok();
    rows.retain(|row| !gone.contains(&row.id));
    let after = recall(&broad, &rows, "broad", &questions);
    assert!(after >= 0.99, "recall after an erasure: {after}");
    println!("recall@{WANTED}: broad {of_broad} over {walks} walks, after an erasure {after}");
}
