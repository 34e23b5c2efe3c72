//! Why: every explanation is held against the ward's rules in plain words, tells no value of a record, and is for whoever may `Explain`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Mutex,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value as Json, json};
use wardkeep::model::limits;

use super::{
    harness::{Answer, Client, Server, bundle, file, lines},
    plain,
    refusals::entries,
    ward::side_by_side,
};

/// The rules of the sample ward in plain words: what is granted, and what is prohibited whatever is granted. Knows no Cedar.
struct Rules {
    people: HashMap<String, Person>,
    /// Patients who consented in writing to the use of substance use records.
    consents: HashSet<String>,
    records: HashMap<String, Json>,
}

struct Person {
    role: String,
    purpose: String,
    patients: HashSet<String>,
    departments: HashSet<String>,
}

/// What the rules say: a verdict, and the rules that decide it.
type Said = (&'static str, BTreeSet<&'static str>);

fn id(json: &Json) -> String {
    json.get("__entity").unwrap_or(json)["id"].as_str().unwrap().to_owned()
}

impl Rules {
    fn read() -> Self {
        let entities: Vec<Json> = serde_json::from_str(&file("examples/ward/entities.json")).unwrap();
        let of = |ty: &str| entities.iter().filter(|e| e["uid"]["type"] == ty).collect::<Vec<_>>();
        let teams: HashMap<String, HashSet<String>> = of("CareTeam")
            .into_iter()
            .map(|team| (id(&team["uid"]), team["attrs"]["patients"].as_array().unwrap().iter().map(id).collect()))
            .collect();
        let clinicians: HashMap<String, &Json> = of("Clinician").into_iter().map(|c| (id(&c["uid"]), c)).collect();
        let users: Vec<Json> = serde_json::from_str(&file("examples/ward/users.json")).unwrap();
        let person = |user: &Json| {
            let name = id(&user["caller"]);
            let attrs = &clinicians[&name]["attrs"];
            let patients = attrs.get("care_team").map(|team| teams[&id(team)].clone()).unwrap_or_default();
            let word = |field: &str| user[field].as_str().unwrap().to_owned();
            let departments = attrs["departments"].as_array().unwrap().iter().map(id).collect();
            (name, Person { role: word("role"), purpose: word("purpose"), patients, departments })
        };
        let consented = of("Patient").into_iter().filter(|p| p["attrs"]["part2_consent"] == true);
        Self {
            people: users.iter().map(person).collect(),
            consents: consented.map(|p| id(&p["uid"])).collect(),
            records: lines("examples/ward/records.ndjson")
                .into_iter()
                .map(|record| (record["id"].as_str().unwrap().to_owned(), record))
                .collect(),
        }
    }

    fn say(&self, caller: &str, record: &str) -> Said {
        let (who, seen) = (&self.people[caller], &self.records[record]["attributes"]);
        let role = who.role.as_str();
        let patient = seen.get("patient").map(id);
        let kind = seen["doc_type"].as_str().unwrap();
        let cares = patient.as_ref().is_some_and(|p| who.patients.contains(p));
        let treats =
            ["nurse", "physician", "attending", "psychotherapist"].contains(&role) && who.purpose == "treatment";
        let mut against = BTreeSet::new();
        if kind == "psychotherapy_note" && id(&seen["author"]) != caller {
            against.insert("psychotherapy-author-only");
        }
        let consented = patient.as_ref().is_some_and(|p| self.consents.contains(p));
        if kind == "substance_use" && role != "privacy_officer" && !(treats && cares && consented) {
            against.insert("part2-consent");
        }
        if seen["sensitivity"].as_i64().unwrap() >= 3
            && !["attending", "department_head", "privacy_officer"].contains(&role)
        {
            against.insert("vip-need-to-know");
        }
        if !against.is_empty() {
            return ("forbidden", against);
        }
        let grant = match role {
            "nurse" if treats && cares => Some("nurse-care-team"),
            "physician" if treats && cares => Some("physician-care-team"),
            "attending" if treats && cares => Some("attending-care-team"),
            "psychotherapist" if treats && cares => Some("psychotherapist-care-team"),
            "department_head" if who.departments.contains(&id(&seen["department"])) => Some("department-head"),
            "researcher" if kind == "research_deidentified" && patient.is_none() => Some("researcher"),
            "privacy_officer" => Some("privacy-officer"),
            _ => None,
        };
        match grant {
            Some(grant) => ("allowed", BTreeSet::from([grant])),
            None => ("not_permitted", BTreeSet::new()),
        }
    }
}

fn vector(json: &Json) -> Vec<f32> {
    let bytes = STANDARD.decode(json["vector_base64"].as_str().unwrap()).unwrap();
    bytes.as_chunks::<4>().0.iter().map(|c| f32::from_le_bytes(*c)).collect()
}

/// Every (caller, record) of the 976 pairs: the record that the question is about, the nearest that the caller may see, and the three
/// nearest that they may not.
fn targets(rules: &Rules) -> BTreeSet<(String, String)> {
    let allowed: HashMap<String, HashSet<String>> = serde_json::from_str(&file("examples/ward/allowed.json")).unwrap();
    let vectors: Vec<(&String, Vec<f32>)> = rules.records.iter().map(|(id, record)| (id, vector(record))).collect();
    let rankings: HashMap<String, (Option<String>, Vec<&String>)> = lines("examples/ward/queries.ndjson")
        .iter()
        .map(|question| {
            let asked = vector(question);
            let score = |v: &[f32]| asked.iter().zip(v).map(|(x, y)| x * y).sum::<f32>();
            let mut ranked: Vec<(f32, &String)> = vectors.iter().map(|(id, v)| (score(v), *id)).collect();
            ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
            let target = question["target"].as_str().map(str::to_owned);
            (question["id"].as_str().unwrap().to_owned(), (target, ranked.into_iter().map(|(_, id)| id).collect()))
        })
        .collect();
    let pairs = lines("examples/ward/answers.jsonl");
    assert_eq!(pairs.len(), 976);
    let mut found = BTreeSet::new();
    for pair in &pairs {
        let (user, question) = (pair["user"].as_str().unwrap(), pair["query"].as_str().unwrap());
        let (target, ranking) = &rankings[question];
        let misses = ranking.iter().filter(|id| !allowed[user].contains(**id)).take(3).map(|id| (*id).clone());
        let hit = pair["ids"][0].as_str().map(str::to_owned);
        found.extend(target.iter().cloned().chain(hit).chain(misses).map(|record| (user.to_owned(), record)));
    }
    found
}

fn question(rules: &Rules, caller: &str, record: &str) -> Json {
    json!({
        "caller": {"type": "Clinician", "id": caller}, "collection": "ward", "record": record, "action": "Retrieve",
        "purpose": rules.people[caller].purpose,
    })
}

fn explain(client: &Client, body: &Json) -> Answer {
    client.post("/v1/policies/explain", body)
}

fn names(json: &Json) -> BTreeSet<String> {
    json.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_targets_and_near_misses_of_all_976_pairs_are_explained_as_the_rules_in_plain_words_say() {
    let rules = Rules::read();
    let targets: Vec<_> = targets(&rules).into_iter().collect();
    let server = Server::ward();
    let auditor = server.key_for("Auditor", "auditor");
    let counts: Mutex<BTreeMap<String, usize>> = Mutex::default();
    side_by_side(&targets, |(caller, record)| {
        let answer = explain(&auditor, &question(&rules, caller, record)).ok();
        let (verdict, deciding) = rules.say(caller, record);
        let said = format!("{caller}, {record}: {answer}");
        assert_eq!(answer["verdict"], verdict, "{said}");
        assert_eq!(names(&answer["deciding"]), deciding.iter().map(|d| (*d).to_owned()).collect(), "{said}");
        let accounts = answer["policies"].as_array().unwrap();
        for account in accounts {
            let met: Vec<bool> = account["requires"].as_array().unwrap().iter().map(|r| r["met"] == "yes").collect();
            let holds = account["standing"] == "holds";
            assert_eq!(met.iter().all(|met| *met), holds, "{said}");
            assert_eq!(account["turned_by"].as_u64(), met.iter().position(|met| !met).map(|at| at as u64), "{said}");
            // forbids hold exactly where the plain rules say so
            let prohibited = verdict == "forbidden" && deciding.contains(account["policy"].as_str().unwrap());
            if account["effect"] == "forbid" {
                assert_eq!(holds, prohibited, "{said}");
            }
        }
        assert_eq!(answer["would_change"].as_array().unwrap().is_empty(), verdict == "allowed", "{said}");
        *counts.lock().unwrap().entry(verdict.to_owned()).or_default() += 1;
    });
    let counts = counts.into_inner().unwrap();
    println!("{} pairs of caller and record: {counts:?}", targets.len());
    assert!(["allowed", "forbidden", "not_permitted"].iter().all(|verdict| counts[*verdict] > 100), "{counts:?}");
}

#[test]
fn an_explanation_names_the_clause_where_it_is_written_and_what_would_change_it() {
    let rules = Rules::read();
    let server = Server::ward();
    let root = server.root();
    let policies = bundle("policies/clinical")["policies"].as_str().unwrap().to_owned();
    let answer = explain(&root, &question(&rules, "m-nurse-000", "rec-000000")).ok();
    let account = answer["policies"].as_array().unwrap().iter().find(|a| a["policy"] == "nurse-care-team").unwrap();
    let turned = &account["requires"][account["turned_by"].as_u64().unwrap() as usize];
    assert_eq!(turned["text"], "principal.care_team.patients.contains(resource.patient)", "{answer}");
    let (line, column) = (turned["place"]["line"].as_u64().unwrap(), turned["place"]["column"].as_u64().unwrap());
    let written = policies.lines().nth(line as usize - 1).unwrap();
    assert_eq!(&written[column as usize - 1..], turned["text"].as_str().unwrap());
    let change = "permit nurse-care-team: would hold if `principal.care_team.patients.contains(resource.patient)`";
    assert_eq!(names(&answer["would_change"]), BTreeSet::from([change.to_owned()]));
    // whom no permit is for is told whom they are for
    let temp = explain(&root, &question(&rules, "m-temp-000", "rec-000000")).ok();
    assert_eq!(temp["verdict"], "not_permitted");
    let others: Vec<&str> =
        temp["elsewhere"].as_array().unwrap().iter().map(|e| e["policy"].as_str().unwrap()).collect();
    assert_eq!(others.len(), 7, "{others:?}");
}

#[test]
fn what_is_missing_never_possible_or_errs_is_told_apart() {
    let rules = Rules::read();
    let server = Server::ward();
    let root = server.root();
    let ask = question(&rules, "m-nurse-000", "rec-000001");
    let asked = |change: &dyn Fn(&mut Json)| {
        let mut body = ask.clone();
        change(&mut body);
        explain(&root, &body).ok()
    };
    assert_eq!(asked(&|b| b["caller"] = json!({"type": "Clinician", "id": "nobody"}))["verdict"], "unknown_caller");
    let never = asked(&|b| b["caller"] = json!({"type": "Administrator", "id": "root"}));
    assert_eq!((&never["verdict"], &never["policies"]), (&json!("never"), &json!([])));
    let mut erring = bundle("policies/clinical");
    let policies = erring["policies"]
        .as_str()
        .unwrap()
        .replace("resource.sensitivity >= 3", "resource.sensitivity * 9223372036854775807 >= 3");
    erring["policies"] = policies.into();
    let erred = asked(&|b| b["bundle"] = erring.clone());
    assert_eq!((&erred["verdict"], &erred["deciding"]), (&json!("erred"), &json!(["vip-need-to-know"])), "{erred}");
    assert_eq!(erred["policies"][0]["stumble"]["expression"], "resource.sensitivity * 9223372036854775807", "{erred}");
    let nurse = root.get("/v1/entities/Clinician/m-nurse-000").ok();
    root.delete(&format!("/v1/entities/CareTeam/{}?force=true", id(&nurse["attrs"]["care_team"]))).ok();
    let missing = asked(&|_| {});
    assert_eq!(missing["verdict"], "missing_entity");
    let stumble = &missing["policies"][0]["stumble"]["missing"];
    assert_eq!(*stumble, json!({"at": "principal.care_team", "type": "CareTeam", "ancestor": false}), "{missing}");
    root.put("/v1/entities", &json!([{"uid": {"type": "Role", "id": "x"}, "attrs": {}, "parents": []}])).ok();
    let mut orphan = nurse.clone();
    orphan["uid"]["id"] = "orphan".into();
    orphan["parents"] = json!([{"type": "Role", "id": "x"}]);
    root.put("/v1/entities", &json!([orphan])).ok();
    root.delete("/v1/entities/Role/x?force=true").ok();
    let unclear = asked(&|b| b["caller"]["id"] = "orphan".into());
    assert_eq!(unclear["verdict"], "missing_entity", "{unclear}");
    assert_eq!(unclear["policies"][0]["stumble"]["missing"], json!({"at": "principal", "ancestor": true}));
}

#[test]
fn an_explanation_holds_no_value_of_the_record_that_the_policies_do_not_write_themselves() {
    let rules = Rules::read();
    let server = Server::ward();
    let auditor = server.key_for("Auditor", "auditor");
    let schema_and_policies = bundle("policies/clinical").to_string();
    let mut ids: Vec<&String> = rules.records.keys().collect();
    ids.sort();
    let mut looked = 0;
    for record in ids.into_iter().step_by(20) {
        for caller in ["m-nurse-000", "m-privacy_officer-000", "m-temp-000"] {
            let text = explain(&auditor, &question(&rules, caller, record)).ok().to_string();
            let sent = &rules.records[record];
            let attributes = sent["attributes"].as_object().unwrap();
            let values = attributes.values().map(|value| match value.as_str() {
                Some(text) => text.to_owned(),
                None if value.is_object() => id(value),
                None => String::new(),
            });
            let secret = values
                .chain([sent["text"].as_str().unwrap().to_owned(), sent["document"].as_str().unwrap().to_owned()]);
            for value in secret.filter(|value| value.len() > 3 && !schema_and_policies.contains(value.as_str())) {
                assert!(!text.contains(&value), "{record} for {caller}: {value}");
                looked += 1;
            }
        }
    }
    assert!(looked > 1_000, "{looked}");
}

#[test]
fn whoever_may_not_explain_gets_the_same_bytes_whatever_they_ask_about() {
    let rules = Rules::read();
    let server = Server::ward();
    let there = question(&rules, "m-nurse-000", "rec-000001");
    let mut asked: Vec<Vec<u8>> = vec![there.to_string().into_bytes(), b"{{{".to_vec(), b"".to_vec(), b"[1]".to_vec()];
    for (field, value) in [
        ("record", json!("there-is-none")),
        ("collection", json!("nowhere")),
        ("caller", json!({"type": "Nothing", "id": "x"})),
        ("action", json!("Dance")),
        ("bundle", bundle("policies/clinical")),
        ("unknown", json!(1)),
    ] {
        let mut body = there.clone();
        body[field] = value;
        asked.push(body.to_string().into_bytes());
    }
    for caller in ["m-nurse-000", "m-temp-000", "m-attending-000"] {
        let client = server.key_for("Clinician", caller);
        let answers: Vec<Answer> =
            asked.iter().map(|body| client.send("POST", "/v1/policies/explain", "application/json", body)).collect();
        for answer in &answers {
            assert_eq!(answer.status, 403);
            assert_eq!(answer.comparable(), answers[0].comparable());
        }
    }
}

#[test]
fn an_absent_record_is_told_to_be_absent_to_whoever_may_explain_and_both_are_in_the_log() {
    let rules = Rules::read();
    let server = Server::ward();
    let (root, auditor) = (server.root(), server.key_for("Auditor", "auditor"));
    let found = explain(&auditor, &question(&rules, "m-nurse-000", "rec-000001")).expect(200);
    let mut absent = question(&rules, "m-nurse-000", "there-is-none");
    let gone = explain(&auditor, &absent).expect(404);
    absent["collection"] = "nowhere".into();
    assert_eq!(explain(&auditor, &absent).expect(404).comparable(), gone.comparable());
    let log = entries(&root, 0);
    let of = |answer: &Answer| {
        let all: Vec<_> = log.iter().filter(|e| e["trace"] == json!(answer.headers["x-request-id"])).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    };
    let (found, gone) = (of(&found), of(&gone));
    assert_eq!(
        (&found["what"], &found["outcome"], &found["action"]),
        (&json!("explain"), &json!("allowed"), &json!("Explain"))
    );
    assert_eq!(found["detail"], "Retrieve forbidden");
    assert_eq!(found["target"], json!({"type": "Clinician", "id": "m-nurse-000"}));
    assert_eq!((&found["records"], &found["collection"]), (&json!(["rec-000001"]), &json!("ward")));
    assert_eq!(
        found["patients"][0],
        json!({"type": "Patient", "id": id(&rules.records["rec-000001"]["attributes"]["patient"])})
    );
    assert_eq!(
        (&gone["what"], &gone["outcome"], &gone["detail"]),
        (&json!("explain"), &json!("invalid"), &json!("not_found"))
    );
}

#[test]
fn a_bundle_that_is_not_in_force_is_asked_only_by_whoever_could_put_it_there() {
    let rules = Rules::read();
    let server = Server::ward();
    let (root, auditor) = (server.root(), server.key_for("Auditor", "auditor"));
    let mut body = question(&rules, "m-nurse-000", "rec-000001");
    assert_eq!(explain(&root, &body).ok()["verdict"], "forbidden");
    let mut tried = bundle("policies/clinical");
    tried["policies"] =
        tried["policies"].as_str().unwrap().replace("resource.sensitivity >= 3", "resource.sensitivity >= 4").into();
    body["bundle"] = tried;
    let answer = explain(&root, &body).ok();
    assert_eq!((&answer["verdict"], &answer["policy_version"]), (&json!("allowed"), &Json::Null));
    explain(&auditor, &body).expect(403);
    body["bundle"] = json!({"schema": "no schema", "policies": "no policies"});
    explain(&auditor, &body).expect(403);
    explain(&root, &body).expect(422);
    // nothing was put in force by it
    body.as_object_mut().unwrap().remove("bundle");
    assert_eq!(explain(&root, &body).ok()["verdict"], "forbidden");
    for (field, bad) in [("now", "yesterday"), ("action", "Search"), ("purpose", ""), ("source_ip", "nowhere")] {
        let mut body = body.clone();
        body[field] = bad.into();
        explain(&root, &body).expect(422);
    }
}

#[test]
fn an_explanation_tells_of_as_many_policies_as_the_bound_and_counts_one_past_it() {
    let rules = Rules::read();
    let server = Server::clinical();
    let root = server.root();
    let record = &lines("examples/ward/records.ndjson")[1];
    root.put("/v1/collections/ward/records", &json!({"records": [record]})).ok();
    let mut body = question(&rules, "m-nurse-000", record["id"].as_str().unwrap());
    for more in [0, 1] {
        let mut tried = bundle("policies/clinical");
        let policy = |n: usize| {
            format!("@id(\"more-{n:03}\") forbid (principal, action == Action::\"Retrieve\", resource is Record);\n")
        };
        // nurse-care-team and the three forbids of the ward concern this caller too
        let policies: String = (0..limits::EXPLAIN_POLICIES - 4 + more).map(policy).collect();
        tried["policies"] = format!("{}\n{policies}", tried["policies"].as_str().unwrap()).into();
        body["bundle"] = tried;
        let answer = explain(&root, &body).ok();
        assert_eq!(answer["policies"].as_array().unwrap().len(), limits::EXPLAIN_POLICIES);
        assert_eq!(answer["policies_omitted"], more);
    }
    // and of as many requirements
    let mut tried = bundle("policies/clinical");
    let clause = vec!["resource.sensitivity >= 0"; 300].join(" && ");
    let policy = |n: usize| {
        format!(
            "@id(\"long-{n}\") forbid (principal, action == Action::\"Retrieve\", resource is Record) when {{ {clause} }};\n"
        )
    };
    tried["policies"] =
        format!("{}\n{}", tried["policies"].as_str().unwrap(), (0..20).map(policy).collect::<String>()).into();
    body["bundle"] = tried;
    let answer = explain(&root, &body).ok();
    let parts: usize =
        answer["policies"].as_array().unwrap().iter().map(|p| p["requires"].as_array().unwrap().len()).sum();
    assert!(parts <= limits::EXPLAIN_PARTS && parts > limits::EXPLAIN_PARTS - 300, "{parts}");
    assert!(answer["policies_omitted"].as_u64().unwrap() >= 2, "{}", answer["policies_omitted"]);
}

#[test]
fn the_command_line_explains_from_a_server_and_offline_alike() {
    let server = Server::ward();
    let arguments = [
        "policy",
        "explain",
        "--caller",
        "Clinician::\"m-nurse-000\"",
        "--record",
        "ward/rec-000000",
        "--purpose",
        "treatment",
        "--now",
        "2026-01-15T12:00:00Z",
    ];
    let online = |more: &[&str]| {
        let mut command = plain::bare_command(&arguments);
        command.args(more).env("WARDKEEP_API_KEY", &server.root_key).env("WARDKEEP_URL", &server.url);
        plain::said(command.output().unwrap())
    };
    let (code, told, err) = online(&[]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(told.starts_with("not permitted"), "{told}");
    assert!(told.contains("NO  principal.care_team.patients.contains(resource.patient)   (line "), "{told}");
    let (code, json, _) = online(&["--json"]);
    assert_eq!(code, 0);
    let (home, dir) = (std::sync::Arc::clone(&server.home), server.dir.clone());
    drop(server);
    let (code, offline, err) = plain::run(&[&arguments[..], &["--json"]].concat(), &dir);
    assert_eq!(code, 0, "{err}");
    let read = |text: &str| serde_json::from_str::<Json>(text).unwrap();
    assert_eq!(read(&offline), read(&json));
    drop(home);
}
