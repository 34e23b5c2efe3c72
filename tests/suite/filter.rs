//! A filter narrows what a caller may see, before the search: held against the sample ward in plain words, over HTTP, for callers of every
//! kind. It looks at the record itself and at nothing else, is refused by code and place, and leaves no trace in clear.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};
use wardkeep::{
    engine::{Environment, Limits, Settings},
    model::limits,
};

use super::{
    harness::{Answer, Client, Server, bundle, file, lines},
    refusals::entries,
    ward::side_by_side,
};

type Holds = fn(&Json, &str) -> bool;

/// A filter, and the same in plain words about a record as it was sent and the purpose of the one who asks.
const ACCEPTED: &[(&str, Holds)] = &[
    ("true", |_, _| true),
    ("false", |_, _| false),
    ("!false && (true || false)", |_, _| true),
    (r#"resource.doc_type == "lab_report""#, |r, _| is(r, "doc_type", "lab_report")),
    (r#""lab_report" == resource.doc_type"#, |r, _| is(r, "doc_type", "lab_report")),
    (r#"resource.doc_type != "lab_report""#, |r, _| !is(r, "doc_type", "lab_report")),
    (r#"!(resource.doc_type == "lab_report")"#, |r, _| !is(r, "doc_type", "lab_report")),
    (r#"["radiology", "medication"].contains(resource.doc_type)"#, |r, _| {
        is(r, "doc_type", "radiology") || is(r, "doc_type", "medication")
    }),
    (r#"resource.doc_type == "radiology" || resource.doc_type == "medication""#, |r, _| {
        is(r, "doc_type", "radiology") || is(r, "doc_type", "medication")
    }),
    (r#"resource.doc_type like "*_note""#, |r, _| text(r, "doc_type").ends_with("_note")),
    (r#"resource.source like "MedQuAD/*""#, |r, _| text(r, "source").starts_with("MedQuAD/")),
    (r#"resource.source like "*D/N*""#, |r, _| text(r, "source").contains("D/N")),
    (r#"!(resource.source like "*/*") && resource.source != "Synthea""#, |r, _| {
        !text(r, "source").contains('/') && !is(r, "source", "Synthea")
    }),
    ("resource.sensitivity == 2", |r, _| sensitivity(r) == 2),
    ("resource.sensitivity >= 2", |r, _| sensitivity(r) >= 2),
    ("resource.sensitivity < 1", |r, _| sensitivity(r) < 1),
    ("resource.sensitivity * 2 + 1 == 3", |r, _| sensitivity(r) == 1),
    ("0 - resource.sensitivity <= -2", |r, _| sensitivity(r) >= 2),
    ("[1, 3].contains(resource.sensitivity)", |r, _| [1, 3].contains(&sensitivity(r))),
    (r#"resource.department == Department::"oncology""#, |r, _| refers(r, "department", "oncology")),
    (r#"resource.department != Department::"oncology""#, |r, _| !refers(r, "department", "oncology")),
    (r#"[Department::"oncology", Department::"cardiology"].contains(resource.department)"#, |r, _| {
        refers(r, "department", "oncology") || refers(r, "department", "cardiology")
    }),
    ("resource has patient", |r, _| r["attributes"].get("patient").is_some()),
    ("!(resource has patient)", |r, _| r["attributes"].get("patient").is_none()),
    (r#"resource has patient && resource.patient == Patient::"m-P000028""#, |r, _| refers(r, "patient", "m-P000028")),
    (r#"resource has patient && resource.patient is Patient && resource.sensitivity == 1"#, |r, _| {
        r["attributes"].get("patient").is_some() && sensitivity(r) == 1
    }),
    (r#"resource has topic && resource.topic == "Prediabetes""#, |r, _| is(r, "topic", "Prediabetes")),
    (r#"if resource has topic then resource.topic like "*diab*" else resource.sensitivity == 0"#, |r, _| {
        match r["attributes"].get("topic") {
            Some(topic) => topic.as_str().unwrap().contains("diab"),
            None => sensitivity(r) == 0,
        }
    }),
    (r#"resource.author == Clinician::"m-attending-001""#, |r, _| refers(r, "author", "m-attending-001")),
    (r#"resource.created_at >= datetime("2020-01-01")"#, |r, _| text(r, "created_at") >= "2020-01-01"),
    (r#"resource.created_at < datetime("2017-06-13T20:28:46Z")"#, |r, _| {
        text(r, "created_at") < "2017-06-13T20:28:46Z"
    }),
    (r#"resource.created_at == datetime("2020-03-10T15:05:59+0100")"#, |r, _| {
        is(r, "created_at", "2020-03-10T14:05:59Z")
    }),
    (r#"datetime("2018-01-01") <= resource.created_at && resource.created_at < datetime("2019-01-01")"#, |r, _| {
        text(r, "created_at").starts_with("2018")
    }),
    (r#"resource.created_at.toTime() < duration("1h")"#, |r, _| text(r, "created_at")[11..13] == *"00"),
    (r#"resource.created_at < context.now.offset(duration("-1d"))"#, |_, _| true),
    (r#"resource.created_at > context.now"#, |_, _| false),
    (r#"context.collection == "ward""#, |_, _| true),
    (r#"context.purpose == "treatment" || resource.sensitivity == 0"#, |r, purpose| {
        purpose == "treatment" || sensitivity(r) == 0
    }),
    ("context has patient", |_, _| false),
    ("context.break_glass", |_, _| false),
    (r#"context.source_ip.isInRange(ip("127.0.0.0/8"))"#, |_, _| true),
    (r#"resource in Collection::"ward""#, |_, _| true),
    (r#"resource in Collection::"elsewhere""#, |_, _| false),
    (r#"resource is Record in Collection::"ward" && resource.sensitivity == 0"#, |r, _| sensitivity(r) == 0),
    // nothing that the schema lets a record be in
    (r#"resource in Department::"oncology""#, |_, _| false),
    // a document is a parent of a record that was sent as one
    (r#"resource in Document::"ward/m-P000028-lab_report""#, |_, _| false),
    (r#"resource == Record::"ward/rec-001500""#, |r, _| r["id"] == "rec-001500"),
    (r#"[Record::"ward/rec-001500", Record::"ward/rec-000000", Record::"x/rec-000001"].contains(resource)"#, |r, _| {
        r["id"] == "rec-001500" || r["id"] == "rec-000000"
    }),
    ("resource is Record", |_, _| true),
    ("resource is Document", |_, _| false),
    (r#"{a: resource.facility, b: resource.sensitivity} == {a: "lakeview_clinic", b: 1}"#, |r, _| {
        is(r, "facility", "lakeview_clinic") && sensitivity(r) == 1
    }),
    (r#"(resource.facility == "lakeview_clinic") == (resource.sensitivity == 1)"#, |r, _| {
        is(r, "facility", "lakeview_clinic") == (sensitivity(r) == 1)
    }),
    // an error is no match, and neither is its contrary
    ("resource.sensitivity * 9223372036854775807 > 0", |r, _| sensitivity(r) == 1),
    ("!(resource.sensitivity * 9223372036854775807 > 0)", |r, _| sensitivity(r) == 0),
    ("resource.sensitivity >= 2 || resource.sensitivity + 9223372036854775807 > 0", |r, _| sensitivity(r) != 1),
    ("// a comment\nresource.sensitivity == 1 // }; and another", |r, _| sensitivity(r) == 1),
];

fn text<'a>(record: &'a Json, name: &str) -> &'a str {
    record["attributes"][name].as_str().unwrap_or_default()
}

fn is(record: &Json, name: &str, value: &str) -> bool {
    text(record, name) == value
}

fn refers(record: &Json, name: &str, id: &str) -> bool {
    record["attributes"][name]["id"] == id
}

fn sensitivity(record: &Json) -> i64 {
    record["attributes"]["sensitivity"].as_i64().unwrap()
}

/// Callers of every kind.
const CALLERS: [&str; 7] = [
    "m-nurse-000",
    "m-physician-000",
    "m-attending-001",
    "m-department_head-000",
    "m-researcher-000",
    "m-privacy_officer-000",
    "m-temp-000",
];

/// Who asks, for what, and what they may see.
struct Asker {
    id: &'static str,
    purpose: String,
    client: Client,
    allowed: BTreeSet<String>,
}

fn askers(server: &Server) -> Vec<Asker> {
    let users: Vec<Json> = serde_json::from_str(&file("examples/ward/users.json")).unwrap();
    let allowed: BTreeMap<String, BTreeSet<String>> =
        serde_json::from_str(&file("examples/ward/allowed.json")).unwrap();
    let asker = |id: &'static str| {
        let user = users.iter().find(|u| u["caller"]["id"] == id).unwrap();
        let client = server.key_for("Clinician", id);
        Asker { id, purpose: user["purpose"].as_str().unwrap().into(), client, allowed: allowed[id].clone() }
    };
    CALLERS.map(asker).into()
}

/// The ward without caps, so that an answer may be all that somebody may see.
fn uncut() -> Server {
    let settings = Settings { limits: Limits { max_records: 10_000 }, ..Settings::default() };
    let server = Server::with(settings, Environment::default);
    let root = server.root();
    let mut policies = bundle("policies/clinical");
    let text = policies["policies"].as_str().unwrap();
    policies["policies"] = text.lines().filter(|l| !l.starts_with("@max_")).collect::<Vec<_>>().join("\n").into();
    root.put("/v1/policies", &policies).ok();
    root.put("/v1/entities", &serde_json::from_str(&file("examples/ward/entities.json")).unwrap()).ok();
    root.put("/v1/collections/ward", &json!({"dimension": 384, "metric": "cosine"})).ok();
    let answer = root.put_lines("/v1/collections/ward/records", &file("examples/ward/records.ndjson")).ok();
    assert_eq!(answer["accepted"], 2_000, "{answer}");
    server
}

fn vector(question: usize) -> Json {
    lines("examples/ward/queries.ndjson")[question]["vector_base64"].clone()
}

impl Asker {
    fn search(&self, vector: &Json, filter: &str, limit: usize) -> Answer {
        let body = json!({
            "vector_base64": vector, "limit": limit, "purpose": self.purpose, "include": [], "filter": filter,
        });
        self.client.search("ward", &body)
    }

    fn list(&self, filter: &str, after: Option<&str>) -> Answer {
        let mut body = json!({"purpose": self.purpose, "include": [], "filter": filter, "limit": limits::LIST_PAGE});
        after.into_iter().for_each(|id| body["after"] = id.into());
        self.client.post("/v1/collections/ward/records/list", &body)
    }

    /// Every page of a list, and the count that each of them tells.
    fn listed(&self, filter: &str) -> (Vec<String>, BTreeSet<u64>) {
        let (mut ids, mut counts) = (Vec::new(), BTreeSet::new());
        loop {
            let page = self.list(filter, ids.last().map(String::as_str)).ok();
            counts.insert(page["count"].as_u64().unwrap());
            let records = page["records"].as_array().unwrap();
            ids.extend(records.iter().map(|r| r["id"].as_str().unwrap().to_owned()));
            if records.len() < limits::LIST_PAGE {
                return (ids, counts);
            }
        }
    }
}

#[test]
fn a_filter_leaves_of_what_each_caller_may_see_exactly_what_it_says() {
    let records = lines("examples/ward/records.ndjson");
    let server = uncut();
    let askers = askers(&server);
    let vector = vector(3);
    let pairs: Vec<_> = askers.iter().flat_map(|asker| ACCEPTED.iter().map(move |case| (asker, case))).collect();
    let matched = std::sync::atomic::AtomicUsize::new(0);
    side_by_side(&pairs, |(asker, (filter, holds))| {
        let told = format!("{}: {filter}", asker.id);
        let wanted: BTreeSet<String> = records
            .iter()
            .filter(|r| holds(r, &asker.purpose))
            .map(|r| r["id"].as_str().unwrap().to_owned())
            .filter(|id| asker.allowed.contains(id))
            .collect();
        let all = asker.search(&vector, filter, 10_000).expect(200).ids();
        assert_eq!(all.iter().cloned().collect::<BTreeSet<_>>(), wanted, "{told}");
        assert_eq!(all.len(), wanted.len(), "{told}: none twice");
        // however far away they are, as many come as are wanted: the nearest of those that match
        let few = asker.search(&vector, filter, 5).expect(200).ids();
        assert_eq!(few, all[..all.len().min(5)], "{told}: no starvation");
        let (listed, counts) = asker.listed(filter);
        assert_eq!(listed, wanted.iter().cloned().collect::<Vec<_>>(), "{told}: by id");
        assert_eq!(counts, BTreeSet::from([wanted.len() as u64]), "{told}: the count of what matches");
        matched.fetch_add(wanted.len(), std::sync::atomic::Ordering::Relaxed);
    });
    assert!(ACCEPTED.len() >= 40);
    println!("{} filters, {} callers, {} records matched", ACCEPTED.len(), askers.len(), matched.into_inner());
}

#[test]
fn a_filter_goes_with_a_patient_with_ids_and_with_caps_and_does_not_move_the_limit() {
    let server = Server::ward();
    let askers = askers(&server);
    let vector = vector(7);
    let lab = r#"resource.doc_type == "lab_report""#;
    for asker in &askers {
        let plain =
            asker.client.search("ward", &json!({"vector_base64": vector, "limit": 50, "purpose": asker.purpose}));
        for filter in ["true", "false", lab] {
            let answer = asker.search(&vector, filter, 50).ok();
            assert_eq!(answer["limit"], plain.json()["limit"], "{}: {filter}", asker.id);
            for result in answer["results"].as_array().unwrap() {
                assert!(asker.allowed.contains(result["id"].as_str().unwrap()), "{}: {result}", asker.id);
            }
        }
        assert_eq!(asker.search(&vector, "true", 50).ids(), plain.ids(), "{}", asker.id);
    }
    let officer = askers.iter().find(|a| a.id == "m-privacy_officer-000").unwrap();
    let of_patient = |filter: &str| {
        let body = json!({
            "vector_base64": vector, "limit": 50, "purpose": "operations", "patient": "m-P000028", "filter": filter,
        });
        officer.client.search("ward", &body).expect(200).ids()
    };
    let all = of_patient("context has patient && resource has patient && resource.patient == context.patient");
    assert_eq!(all, of_patient("true"));
    assert_eq!(of_patient(r#"resource has patient && resource.patient == Patient::"m-P000013""#), Vec::<String>::new());
    let labs = of_patient(lab);
    assert!(!labs.is_empty() && labs.len() < all.len() && labs.iter().all(|id| all.contains(id)));
    let ids = json!({"purpose": "operations", "ids": all, "filter": lab});
    let listed = officer.client.post("/v1/collections/ward/records/list", &ids).ok();
    let listed: BTreeSet<_> = listed["records"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap()).collect();
    assert_eq!(listed, labs.iter().map(String::as_str).collect());
}

/// What is refused, by code, and where: line and column.
const REFUSED: &[(&str, &str, Option<(u64, u64)>)] = &[
    ("", "filter_syntax", None),
    ("   ", "filter_syntax", None),
    ("resource.doc_type ==", "filter_syntax", Some((1, 21))),
    ("resource.doc_type = \"x\"", "filter_syntax", Some((1, 1))),
    ("resource.doc_type == 'x'", "filter_syntax", Some((1, 22))),
    ("resource.doc_type == \"x", "filter_syntax", Some((1, 22))),
    ("resource doc_type", "filter_syntax", Some((1, 10))),
    ("doc_type == \"x\"", "filter_syntax", Some((1, 1))),
    ("true and false", "filter_syntax", Some((1, 6))),
    ("resource.sensitivity / 2 == 1", "filter_syntax", Some((1, 1))),
    ("resource.sensitivity == 1.5", "filter_syntax", Some((1, 27))),
    ("resource.sensitivity == 9223372036854775808", "filter_syntax", Some((1, 25))),
    ("resource.doc_type in", "filter_syntax", Some((1, 21))),
    ("a < b < c", "filter_syntax", Some((1, 5))),
    ("resource == ?resource", "filter_syntax", Some((1, 13))),
    ("unknown(\"x\")", "filter_syntax", Some((1, 1))),
    ("resource.doc_type.lower() == \"x\"", "filter_syntax", Some((1, 1))),
    ("datetime() < context.now", "filter_function", Some((1, 1))),
    ("{a: 1, a: 2} == {a: 1}", "filter_syntax", Some((1, 1))),
    ("principal == Clinician::\"m-nurse-000\"", "filter_variable", Some((1, 1))),
    ("true ||\n  principal in Role::\"nurse\"", "filter_variable", Some((2, 3))),
    ("action == Action::\"Read\"", "filter_variable", Some((1, 1))),
    ("resource.author == principal", "filter_variable", Some((1, 20))),
    ("resource has patient && resource.patient.vip", "filter_dereference", Some((1, 25))),
    ("resource has patient.vip", "filter_dereference", Some((1, 1))),
    ("resource has patient && resource.patient has vip", "filter_dereference", Some((1, 25))),
    ("resource.author has facility && resource.author.facility == \"x\"", "filter_dereference", Some((1, 1))),
    ("Patient::\"m-P000028\".vip", "filter_dereference", Some((1, 1))),
    ("false && Patient::\"m-P000028\".vip", "filter_dereference", Some((1, 10))),
    ("context has patient && context.patient.vip", "filter_dereference", Some((1, 24))),
    ("resource.author in Role::\"attending\"", "filter_dereference", Some((1, 1))),
    ("resource.author is Clinician in Role::\"attending\"", "filter_dereference", Some((1, 1))),
    ("Clinician::\"m-nurse-000\" in Role::\"nurse\"", "filter_dereference", Some((1, 1))),
    ("{a: resource.author}.a in Role::\"nurse\"", "filter_dereference", Some((1, 1))),
    ("(if true then resource else resource).sensitivity == 1", "filter_dereference", Some((1, 1))),
    ("Record::\"ward/rec-000001\".sensitivity == 1", "filter_dereference", Some((1, 1))),
    ("resource.nonsense == 1", "filter_attribute", Some((1, 1))),
    ("resource has nonsense", "filter_attribute", Some((1, 1))),
    ("true || context.nonsense", "filter_attribute", Some((1, 9))),
    ("resource.hasTag(\"x\")", "filter_attribute", Some((1, 1))),
    ("resource.topic == \"x\"", "filter_optional", Some((1, 1))),
    ("resource has topic || resource.topic == \"x\"", "filter_optional", Some((1, 23))),
    ("context.patient == resource.patient", "filter_optional", Some((1, 1))),
    ("resource.sensitivity", "filter_type", Some((1, 1))),
    ("\"true\"", "filter_type", Some((1, 1))),
    ("resource.sensitivity == \"1\"", "filter_type", Some((1, 1))),
    ("resource.sensitivity > \"1\"", "filter_type", Some((1, 24))),
    ("resource.doc_type && true", "filter_type", Some((1, 1))),
    ("resource.sensitivity like \"1*\"", "filter_type", Some((1, 1))),
    ("resource.doc_type.contains(\"x\")", "filter_type", Some((1, 1))),
    ("[1, \"x\"].contains(1)", "filter_type", Some((1, 1))),
    ("[].isEmpty()", "filter_type", Some((1, 1))),
    ("resource.created_at > \"2020-01-01\"", "filter_type", Some((1, 23))),
    ("resource.department == Nothing::\"x\"", "filter_entity", Some((1, 24))),
    ("resource.created_at > datetime(\"soon\")", "filter_function", Some((1, 23))),
    ("resource.created_at > datetime(resource.doc_type)", "filter_function", Some((1, 23))),
];

#[test]
fn a_filter_that_says_what_it_must_not_is_refused_with_its_place_whoever_asks_and_whatever_is_stored() {
    let server = Server::clinical();
    let vector = vector(0);
    let askers = askers(&server);
    let nurse = askers.iter().find(|a| a.id == "m-nurse-000").unwrap();
    let mut wrong = Vec::new();
    let comparable = |answer: Answer| {
        let mut json = answer.json();
        json.as_object_mut().unwrap().remove("request_id");
        json
    };
    let mut before = Vec::new();
    for (filter, code, place) in REFUSED {
        let answer = nurse.search(&vector, filter, 10);
        if answer.status != 422 {
            wrong.push(format!("{filter:?}: {}", answer.status));
            continue;
        }
        let json = answer.json();
        let fault = json["errors"][0].clone();
        let found = fault["line"].as_u64().zip(fault["column"].as_u64());
        if fault["code"] != *code || (place.is_some() && found != *place) || found.is_none() {
            wrong.push(format!("{filter:?} {code} {place:?}: {fault}"));
        }
        assert_eq!(
            comparable(nurse.list(filter, None).expect(422)),
            comparable(answer),
            "{filter}: a list says the same"
        );
        before.push(json["errors"].clone());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(REFUSED.len() >= 40);
    server.root().put_lines("/v1/collections/ward/records", &file("examples/ward/records.ndjson")).ok();
    for ((filter, ..), before) in REFUSED.iter().zip(before) {
        for asker in &askers {
            let after = asker.search(&vector, filter, 10).expect(422).json()["errors"].clone();
            assert_eq!(after, before, "{}: {filter}", asker.id);
        }
    }
}

#[test]
fn whoever_may_not_search_is_refused_before_a_filter_is_looked_at() {
    let server = Server::clinical();
    let auditor = server.root();
    let asker = Asker { id: "root", purpose: "treatment".into(), client: auditor, allowed: BTreeSet::new() };
    for filter in ["true", "(((", "principal", "resource.patient.vip"] {
        assert_eq!(asker.search(&vector(0), filter, 10).expect(403).code(), "forbidden");
        assert_eq!(asker.list(filter, None).expect(403).code(), "forbidden");
    }
}

#[test]
fn no_text_breaks_out_of_its_filter() {
    let server = Server::ward();
    let askers = askers(&server);
    let nurse = askers.iter().find(|a| a.id == "m-nurse-000").unwrap();
    let vector = vector(11);
    for attempt in [
        "true) || (true",
        "true } || { true",
        "true }; permit(principal, action, resource) when { true",
        "true };\npermit(principal, action, resource);//",
        "true; permit(principal, action, resource);",
        "permit(principal, action, resource);",
        "permit(principal, action, resource) when { true };",
        "true } unless { false",
        "false } when { true",
        "@id(\"x\") true",
        "@max_records(\"1000000\") permit(principal, action, resource);",
        "when { true }",
        "true // \n } ; permit(principal, action, resource);",
        "false */ true /*",
        "false || true;",
        "true,",
        "true, true",
        "(true",
        "true)",
        "\"",
        "\\",
        "true\u{0}",
        "\u{feff}true",
        "true\u{2028}|| true)",
        "true\u{200b}",
        "\u{202e}eurt",
        "true\u{ff09} || \u{ff08}true",
        "r\u{435}source.sensitivity == 1",
        "\u{ff52}esource.sensitivity == 1",
        "resource.sensitivity \u{ff1d}\u{ff1d} 1",
        "{{ 7 * 7 }}",
        "${true}",
        "%s%n",
    ] {
        let answer = nurse.search(&vector, attempt, 10).expect(422);
        assert!(answer.code().starts_with("filter_"), "{attempt}: {}", answer.code());
    }
    // what a comment or a text holds is not read
    let all = nurse.search(&vector, "true", 10).ids();
    for harmless in [
        "true // }; permit(principal, action, resource);",
        "// }; permit(principal, action, resource);\ntrue",
        "true //",
        "true\r\n",
        "resource.doc_type != \"\\\"} ; permit(principal, action, resource); //\"",
        "resource.doc_type != \"\u{202e}\u{2066}\"",
    ] {
        assert_eq!(nurse.search(&vector, harmless, 10).ids(), all, "{harmless}");
    }
    assert_eq!(nurse.search(&vector, "false // \n || false", 10).ids(), Vec::<String>::new());
    for other in [json!(true), json!(1), json!(["true"]), json!({"a": 1})] {
        let body = json!({"vector_base64": vector, "purpose": "treatment", "filter": other});
        assert_eq!(nurse.client.search("ward", &body).expect(422).code(), "wrong_type", "{other}");
    }
    let body = json!({"vector_base64": vector, "limit": 10, "purpose": "treatment", "filter": null});
    assert_eq!(nurse.client.search("ward", &body).expect(200).ids(), all, "null is no filter");
}

#[test]
fn length_and_nesting_are_bounded_at_the_limit_and_one_past_it() {
    let server = Server::ward();
    let askers = askers(&server);
    let nurse = askers.iter().find(|a| a.id == "m-nurse-000").unwrap();
    let vector = vector(0);
    let code = |filter: &str| {
        let answer = nurse.search(&vector, filter, 10);
        if answer.status == 200 { "taken".to_owned() } else { answer.expect(422).code() }
    };
    let padded = |length: usize| format!("true{}", " ".repeat(length - 4));
    assert_eq!(code(&padded(limits::FILTER_BYTES)), "taken");
    assert_eq!(code(&padded(limits::FILTER_BYTES + 1)), "filter_too_long");
    let chain = format!("{}true", "true&&".repeat((limits::FILTER_BYTES - 4) / 6));
    assert_eq!(code(&chain), "taken");
    let depth = limits::FILTER_DEPTH;
    let nested = |n: usize| format!("{}true{}", "(".repeat(n), ")".repeat(n));
    assert_eq!(code(&nested(depth)), "taken");
    assert_eq!(code(&nested(depth + 1)), "filter_too_deep");
    assert_eq!(code(&nested(1_000)), "filter_too_deep");
    let sum = |n: usize| format!("0 < resource.sensitivity{}", " + 0".repeat(n));
    assert_eq!(code(&sum(depth - 2)), "taken");
    assert_eq!(code(&sum(depth - 1)), "filter_too_deep");
    for endless in ["(", "[", "{", "!", "-", "if true then ", "resource.", "{a:", "true||(", "resource has a."] {
        let answer = nurse.search(&vector, &endless.repeat(limits::FILTER_BYTES / endless.len()), 10);
        assert!(answer.expect(422).code().starts_with("filter_"), "{endless}");
    }
    assert_eq!(code("true"), "taken", "the server is there");
}

/// A ward of two patients; whoever asks sees the records of one.
const SCHEMA: &str = r#"
entity Administrator; entity System; entity Collection; entity Document in [Collection];
entity Patient; entity Team in [Team]; entity Clinician = { patient: Patient };
entity Record in [Document, Collection, Team] = { patient: Patient, kind: String, level: Long, score: decimal } tags String;
type Question = { purpose: String, collection: String, patient?: Patient };
action Retrieve, Read, ReadVector appliesTo { principal: [Clinician], resource: [Record], context: Question };
action Search, BreakGlass appliesTo { principal: [Clinician], resource: [Collection], context: Question };
action Ingest, Erase, Export appliesTo { principal: [Administrator], resource: [Collection], context: {} };
action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass, Explain
appliesTo { principal: [Administrator], resource: [System], context: {} };
"#;

const POLICIES: &str = r#"
@id("administration") permit (principal is Administrator, action, resource);
@id("search") permit (principal is Clinician, action == Action::"Search", resource);
@id("own") permit (principal is Clinician, action in [Action::"Retrieve", Action::"Read"], resource)
when { resource.patient == principal.patient };
"#;

fn patient(id: &str) -> Json {
    json!({"__entity": {"type": "Patient", "id": id}})
}

fn small(id: String, of: &str, kind: &str, level: i64, tag: &str) -> Json {
    json!({
        "id": id, "document": format!("d-{kind}"), "vector": [1.0, level as f64], "text": "a secret",
        "attributes": {"patient": patient(of), "kind": kind, "level": level, "score": format!("0.{}", 1 + level % 9)},
        "tags": {tag: "x"},
        "parents": [{"type": "Document", "id": format!("ward/d-{kind}")}, {"type": "Team", "id": format!("t-{kind}")}],
    })
}

/// Eight records that the clinician sees, and `hidden` that they do not.
fn twin(hidden: usize) -> (Server, Client) {
    let server = Server::new();
    let root = server.root();
    root.put("/v1/policies", &json!({"schema": SCHEMA, "policies": POLICIES})).ok();
    let mut entities = vec![json!({"uid": {"type": "Clinician", "id": "c"}, "attrs": {"patient": patient("mine")}})];
    let uid = |ty: &str, id: String, parents: Json| json!({"uid": {"type": ty, "id": id}, "parents": parents});
    let patients = ["mine", "other"].map(|id| uid("Patient", id.into(), json!([])));
    let teams = (0..4).map(|i| uid("Team", format!("t-k{i}"), json!([{"type": "Team", "id": "all"}])));
    let hiding = (0..hidden).map(|i| uid("Team", format!("t-hidden-{i}"), json!([{"type": "Team", "id": "all"}])));
    entities.extend(patients.into_iter().chain(teams).chain(hiding).chain([uid("Team", "all".into(), json!([]))]));
    root.put("/v1/entities", &json!(entities)).ok();
    root.put("/v1/collections/ward", &json!({"dimension": 2, "metric": "dot"})).ok();
    let others =
        (0..hidden).map(|i| small(format!("h-{i}"), "other", &format!("hidden-{i}"), 100 + i as i64, &format!("h{i}")));
    let mine =
        (0..8).map(|i| small(format!("r-{i}"), "mine", &format!("k{}", i % 4), i % 3, ["a", "b"][i as usize % 2]));
    let records: Vec<Json> = others.chain(mine).collect();
    root.put("/v1/collections/ward/records", &json!({"records": records})).ok();
    let client = server.key_for("Clinician", "c");
    (server, client)
}

#[test]
fn what_a_caller_may_not_see_changes_nothing_in_a_filtered_answer() {
    let twins = [0, 1, 300].map(twin);
    let answers = |client: &Client, filter: &str| {
        let body = json!({"vector": [1.0, 1.0], "purpose": "treatment", "limit": 5, "filter": filter});
        let list = json!({"purpose": "treatment", "filter": filter});
        [client.search("ward", &body), client.post("/v1/collections/ward/records/list", &list)].map(|answer| {
            let mut json = answer.expect(200).json();
            json.as_object_mut().unwrap().remove("retrieval_id");
            json
        })
    };
    let mut matched = 0;
    for filter in [
        "true",
        r#"resource.kind == "k1""#,
        r#"resource.kind == "hidden-0""#,
        r#"resource.kind like "*hidden*" || resource.level > 1"#,
        "resource.level >= 1",
        "resource.level > 50",
        r#"resource.score.lessThan(decimal("0.3"))"#,
        r#"resource.hasTag("a") && resource.getTag("a") == "x""#,
        r#"resource.hasTag("h0")"#,
        r#"resource.hasTag(resource.kind)"#,
        r#"resource in Team::"all""#,
        r#"resource in Team::"t-k1""#,
        r#"resource in Team::"t-hidden-0""#,
        r#"resource in Document::"ward/d-k2""#,
        r#"resource == Record::"ward/h-0""#,
        r#"[Record::"ward/h-0", Record::"ward/r-3"].contains(resource)"#,
        r#"resource.patient == Patient::"other""#,
        r#"resource.level * 9223372036854775807 > 0"#,
    ] {
        let [one, other, many] = twins.each_ref().map(|(_, client)| answers(client, filter));
        assert_eq!(one, other, "{filter}");
        assert_eq!(one, many, "{filter}");
        matched += one[1]["count"].as_u64().unwrap();
    }
    assert!(matched > 40);
}

#[test]
fn a_filter_is_in_the_audit_as_a_keyed_hash_and_nowhere_in_clear() {
    const NAME: &str = "jane-doe-4711";
    let server = Server::ward();
    let askers = askers(&server);
    let nurse = askers.iter().find(|a| a.id == "m-nurse-000").unwrap();
    let vector = vector(0);
    let filter = format!(r#"resource has patient && resource.patient == Patient::"{NAME}""#);
    let told = |answer: Answer| {
        assert!(!answer.text().contains(NAME));
        let trace = answer.headers["x-request-id"].clone();
        let all = entries(&server.root(), 0);
        assert!(!json!(all).to_string().contains(NAME));
        let entry = all.into_iter().rfind(|e| e["trace"] == json!(trace)).unwrap();
        (entry["outcome"].as_str().unwrap().to_owned(), entry["filter"].as_str().unwrap_or_default().to_owned())
    };
    let (outcome, hash) = told(nurse.search(&vector, &filter, 10).expect(200));
    assert_eq!((outcome.as_str(), hash.len()), ("allowed", 32));
    assert_eq!(told(nurse.list(&filter, None).expect(200)), (outcome.clone(), hash.clone()));
    assert_ne!(told(nurse.search(&vector, "true", 10).expect(200)).1, hash);
    let bad = format!("{filter} && resource.patient.vip");
    let (outcome, refused) = told(nurse.search(&vector, &bad, 10).expect(422));
    assert_eq!((outcome.as_str(), refused.len()), ("invalid", 32));
    let none = json!({"vector_base64": vector, "purpose": "treatment"});
    assert_eq!(told(nurse.client.search("ward", &none).expect(200)).1, "");
    let dir = server.dir.clone();
    let mut open = vec![dir];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else if let Ok(bytes) = std::fs::read(entry.path()) {
                let found = bytes.windows(NAME.len()).any(|w| w == NAME.as_bytes());
                assert!(!found, "{}", entry.path().display());
            }
        }
    }
}
