//! What another bundle would change, held against brute force: every record decided for every caller under both bundles.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Mutex,
};

use serde_json::{Value as Json, json};
use wardkeep::{
    model::{Action, BundleSource, Entity, EntityUid, limits},
    policy::{Bundle, Directory},
};

use super::{
    cases::Study,
    harness::{Answer, Client, Server, bundle, file, lines},
    plain,
    refusals::entries,
    ward::side_by_side,
};

const ACTIONS: [Action; 2] = [Action::Retrieve, Action::Read];

/// The clinical bundle with some of its text replaced, and perhaps more after it.
fn changed(replaced: &[(&str, &str)], more: &str) -> Json {
    let mut sent = bundle("policies/clinical");
    let mut policies = sent["policies"].as_str().unwrap().to_owned();
    for (from, to) in replaced {
        assert!(policies.contains(from), "{from}");
        policies = policies.replace(from, to);
    }
    sent["policies"] = format!("{policies}\n{more}").into();
    sent
}

/// Three changes that people might make: one opens, one closes, one does both.
fn changes() -> Vec<(&'static str, Json, Vec<&'static str>)> {
    let open = changed(&[("resource.sensitivity >= 3", "resource.sensitivity >= 4")], "");
    let close = changed(
        &[],
        "@id(\"own-facility\") forbid (principal in Role::\"nurse\", action, resource is Record)
         unless { principal has facility && resource.facility == principal.facility };",
    );
    let both = changed(
        &[
            (
                "context.purpose == \"operations\" &&\n  principal.departments",
                "context.purpose == \"treatment\" &&\n  principal.departments",
            ),
            (
                "action in [Action::\"Retrieve\", Action::\"Read\"],\n  resource is Record\n)\nwhen { context.purpose == \"operations\" }",
                "action == Action::\"Read\",\n  resource is Record\n)\nwhen { context.purpose == \"operations\" }",
            ),
        ],
        "",
    );
    vec![
        ("opens", open, vec!["treatment"]),
        ("closes", close, vec!["treatment"]),
        ("both", both, vec!["operations", "treatment"]),
    ]
}

fn compiled(sent: &Json) -> Bundle {
    let text = |name: &str| sent[name].as_str().unwrap().to_owned();
    let source = BundleSource { schema: text("schema"), policies: text("policies"), ..BundleSource::default() };
    Bundle::compile(&source).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// Records by id, gained or lost.
type Set = BTreeSet<String>;

/// What changes for one caller, purpose and action.
#[derive(Debug, Clone, Default, PartialEq)]
struct Change {
    before: usize,
    after: usize,
    gained: Set,
    lost: Set,
}

/// Brute force over the sample ward.
struct Truth {
    study: Study,
    directory: Directory,
    records: Vec<(String, Entity)>,
    patients: HashMap<String, String>,
    callers: Vec<(String, String)>,
}

impl Truth {
    fn read() -> Self {
        let study = Study::ward();
        let directory = study.directory(&json!({}));
        let sent = lines("examples/ward/records.ndjson");
        let id = |json: &Json| json["id"].as_str().unwrap().to_owned();
        let entities: Vec<Json> = serde_json::from_str(&file("examples/ward/entities.json")).unwrap();
        let clinicians = entities.iter().filter(|e| e["uid"]["type"] == "Clinician");
        Self {
            records: sent.iter().map(|record| (id(record), study.record(record))).collect(),
            patients: sent
                .iter()
                .filter(|r| r["attributes"].get("patient").is_some())
                .map(|r| (id(r), id(&r["attributes"]["patient"])))
                .collect(),
            callers: clinicians
                .map(|c| {
                    (
                        id(&c["uid"]),
                        c["parents"]
                            .as_array()
                            .unwrap()
                            .iter()
                            .map(|p| format!("{}::\"{}\"", p["type"].as_str().unwrap(), id(p)))
                            .collect::<Vec<_>>()
                            .join(", "),
                    )
                })
                .collect(),
            directory,
            study,
        }
    }

    fn sees(&self, bundle: &Bundle, caller: &str, action: Action, purpose: &str) -> Set {
        let entities: Vec<Entity> = self.records.iter().map(|(_, entity)| entity.clone()).collect();
        // the study's context, put to another bundle
        let study = &self.study;
        let inquiry = study.inquiry(EntityUid::new("Clinician", caller), action, &json!({"purpose": purpose})).unwrap();
        let verdicts = bundle.decide_many(&inquiry, &entities, &self.directory);
        let ids = self.records.iter().map(|(id, _)| id.clone());
        ids.zip(verdicts).filter(|(_, verdict)| verdict.is_allow()).map(|(id, _)| id).collect()
    }

    /// By caller, purpose and action.
    fn changes(&self, new: &Bundle, purposes: &[&str]) -> BTreeMap<(String, String, Action), Change> {
        let found = Mutex::new(BTreeMap::new());
        side_by_side(&self.callers, |(caller, _)| {
            for purpose in purposes {
                for action in ACTIONS {
                    let (old, new) = (
                        self.sees(&self.study.bundle, caller, action, purpose),
                        self.sees(new, caller, action, purpose),
                    );
                    let change = Change {
                        before: old.len(),
                        after: new.len(),
                        gained: new.difference(&old).cloned().collect(),
                        lost: old.difference(&new).cloned().collect(),
                    };
                    found.lock().unwrap().insert((caller.clone(), (*purpose).to_owned(), action), change);
                }
            }
        });
        found.into_inner().unwrap()
    }

    fn patients_of(&self, records: &Set) -> usize {
        records.iter().filter_map(|id| self.patients.get(id)).collect::<BTreeSet<_>>().len()
    }

    #[track_caller]
    fn holds(&self, figures: &Json, set: &Set, said: &str) {
        assert_eq!(figures["records"], set.len(), "{said}");
        assert_eq!(figures["patients"], self.patients_of(set), "{said}");
        let sample: Set =
            figures["sample"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
        assert!(sample.is_subset(set) && sample.len() == set.len().min(limits::DIFF_SAMPLES), "{said}");
    }
}

fn diff(client: &Client, body: &Json) -> Answer {
    client.post("/v1/policies/diff", body)
}

fn actions(row: &Json) -> Vec<Action> {
    row["actions"].as_array().unwrap().iter().map(|name| Action::all().find(|a| *name == a.name()).unwrap()).collect()
}

#[test]
fn three_changes_gain_and_lose_exactly_what_brute_force_says() {
    let truth = Truth::read();
    let server = Server::ward();
    let root = server.root();
    for (name, sent, purposes) in changes() {
        let answer =
            diff(&root, &json!({"new": {"bundle": sent}, "purposes": purposes, "samples": limits::DIFF_SAMPLES})).ok();
        let expected = truth.changes(&compiled(&sent), &purposes);
        assert_eq!(
            (&answer["over"]["callers"], &answer["over"]["records"]),
            (&json!(truth.callers.len()), &json!(2_000))
        );
        assert_eq!((&answer["changed_meanwhile"], &answer["callers_omitted"]), (&json!(false), &json!(0)));
        assert_eq!(answer["asking"], json!([]), "{name}");
        // by caller
        let mut told = BTreeSet::new();
        for row in answer["callers"].as_array().unwrap() {
            let (caller, purpose) = (row["caller"]["id"].as_str().unwrap(), row["purpose"].as_str().unwrap());
            for action in actions(row) {
                let change = &expected[&(caller.to_owned(), purpose.to_owned(), action)];
                let said = format!("{name}: {row}");
                assert_eq!((&row["before"], &row["after"]), (&json!(change.before), &json!(change.after)), "{said}");
                truth.holds(&row["gained"], &change.gained, &said);
                truth.holds(&row["lost"], &change.lost, &said);
                assert!(told.insert((caller.to_owned(), purpose.to_owned(), action)), "{said}: twice");
            }
        }
        let something = |change: &&Change| !change.gained.is_empty() || !change.lost.is_empty();
        let all: BTreeSet<_> =
            expected.iter().filter(|(_, change)| something(change)).map(|(key, _)| key.clone()).collect();
        assert_eq!(told, all, "{name}");
        // by role
        let roles: HashMap<&str, &str> = truth.callers.iter().map(|(id, role)| (id.as_str(), role.as_str())).collect();
        let mut by_role: BTreeMap<(String, String, Action), (usize, Change)> = BTreeMap::new();
        let mut in_all: BTreeMap<Action, (Set, Set, usize, usize, Set)> = BTreeMap::new();
        for ((caller, purpose, action), change) in &expected {
            let (changed, of_role) = by_role
                .entry((format!("Clinician in {}", roles[caller.as_str()]), purpose.clone(), *action))
                .or_default();
            *changed += usize::from(something(&change));
            of_role.gained.extend(change.gained.clone());
            of_role.lost.extend(change.lost.clone());
            let total = in_all.entry(*action).or_default();
            total.0.extend(change.gained.clone());
            total.1.extend(change.lost.clone());
            total.2 += change.gained.len();
            total.3 += change.lost.len();
            if something(&change) {
                total.4.insert(caller.clone());
            }
        }
        let mut told = BTreeSet::new();
        for row in answer["roles"].as_array().unwrap() {
            for action in actions(row) {
                let key =
                    (row["role"].as_str().unwrap().to_owned(), row["purpose"].as_str().unwrap().to_owned(), action);
                let (changed, change) = &by_role[&key];
                assert_eq!(row["changed"], *changed, "{name}: {row}");
                truth.holds(&row["gained"], &change.gained, &row.to_string());
                truth.holds(&row["lost"], &change.lost, &row.to_string());
                told.insert(key);
            }
        }
        let all: BTreeSet<_> =
            by_role.iter().filter(|(_, (changed, _))| *changed > 0).map(|(key, _)| key.clone()).collect();
        assert_eq!(told, all, "{name}");
        for row in answer["totals"].as_array().unwrap() {
            for action in actions(row) {
                let (gained, lost, gained_pairs, lost_pairs, callers) = &in_all[&action];
                truth.holds(&row["gained"], gained, &row.to_string());
                truth.holds(&row["lost"], lost, &row.to_string());
                assert_eq!((&row["gained_pairs"], &row["lost_pairs"]), (&json!(gained_pairs), &json!(lost_pairs)));
                assert_eq!(row["callers"], callers.len());
                println!("{name}, {action:?}: {} gained, {} lost, {} callers", gained.len(), lost.len(), callers.len());
                assert!(!(gained.is_empty() && lost.is_empty()), "{name} changes nothing");
            }
        }
    }
}

#[test]
fn a_bundle_against_itself_changes_nothing_and_a_version_is_compared_by_its_number() {
    let server = Server::ward();
    let root = server.root();
    let body = |old: Json, new: Json| json!({"old": old, "new": new, "purposes": ["treatment"]});
    let same = diff(&root, &body(Json::Null, json!({"version": 2}))).ok();
    assert_eq!((&same["roles"], &same["callers"], &same["totals"][0]["callers"]), (&json!([]), &json!([]), &json!(0)));
    assert_eq!((&same["old"], &same["new"]["version"]), (&same["new"], &json!(2)));
    let open = changed(&[("resource.sensitivity >= 3", "resource.sensitivity >= 4")], "");
    root.put("/v1/policies?allow_widening=true", &open).ok();
    let forward = diff(&root, &body(json!({"version": 2}), json!({"version": 3}))).ok();
    let back = diff(&root, &body(Json::Null, json!({"version": 2}))).ok();
    assert_eq!(forward["roles"][0]["gained"], back["roles"][0]["lost"]);
    assert_ne!(forward["roles"][0]["gained"]["records"], 0);
    let one = diff(&root, &json!({"old": {"version": 2}, "new": {"version": 3}, "purposes": ["treatment"], "callers": [{"type": "Clinician", "id": "m-nurse-000"}]})).ok();
    assert_eq!(one["over"]["callers"], 1);
    // the starter bundle has another schema: nobody could be shown anything, and nothing fits
    let starter = diff(&root, &body(json!({"version": 1}), json!({"version": 2}))).ok();
    assert!(starter["old"]["misfits"].as_object().unwrap().values().any(|n| n == 2_000), "{}", starter["old"]);
    assert_eq!(diff(&root, &body(Json::Null, json!({"version": 99}))).expect(422).code(), "version");
}

#[test]
fn who_may_search_at_all_is_told_and_records_that_do_not_fit_a_new_schema_are_lost_and_counted_apart() {
    let server = Server::ward();
    let root = server.root();
    let silent = changed(
        &[(
            "[\"treatment\", \"operations\", \"research\"].contains(context.purpose)",
            "context.purpose == \"operations\"",
        )],
        "",
    );
    let answer = diff(&root, &json!({"new": {"bundle": silent}, "purposes": ["treatment"]})).ok();
    assert_eq!(answer["roles"], json!([]));
    let nurses =
        answer["asking"].as_array().unwrap().iter().find(|row| row["role"] == "Clinician in Role::\"nurse\"").unwrap();
    assert_eq!(nurses["gained"], 0);
    assert!(nurses["lost"].as_u64().unwrap() > 0, "{nurses}");
    let mut narrow = bundle("policies/clinical");
    narrow["schema"] = narrow["schema"].as_str().unwrap().replace("  topic?: String,", "  topic: String,").into();
    let truth = Truth::read();
    let lacking: Set = lines("examples/ward/records.ndjson")
        .iter()
        .filter(|r| r["attributes"].get("topic").is_none())
        .map(|r| r["id"].as_str().unwrap().to_owned())
        .collect();
    assert!(!lacking.is_empty());
    let answer = diff(&root, &json!({"new": {"bundle": narrow}, "purposes": ["operations"], "samples": 100})).ok();
    let misfits = answer["new"]["misfits"].as_object().unwrap();
    assert_eq!(misfits.values().map(|n| n.as_u64().unwrap()).sum::<u64>(), lacking.len() as u64, "{misfits:?}");
    let officer = answer["callers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["caller"]["id"] == "m-privacy_officer-000")
        .unwrap();
    let seen = truth.sees(&truth.study.bundle, "m-privacy_officer-000", Action::Retrieve, "operations");
    truth.holds(&officer["lost"], &lacking.intersection(&seen).cloned().collect(), "what does not fit is lost");
    assert_eq!(officer["gained"]["records"], 0);
}

#[test]
fn past_answers_are_decided_again_and_counted_by_what_became_of_them() {
    let truth = Truth::read();
    let server = Server::ward();
    let root = server.root();
    let close = changed(
        &[(
            "[\"treatment\", \"operations\", \"research\"].contains(context.purpose)",
            "[\"treatment\", \"operations\", \"research\", \"marketing\"].contains(context.purpose)",
        )],
        "@id(\"closed\") forbid (principal in Role::\"attending\", action, resource is Record) when { resource.sensitivity >= 2 };",
    );
    let new = compiled(&close);
    let questions = lines("examples/ward/queries.ndjson");
    let mut returned: Vec<(String, Vec<String>)> = Vec::new();
    for caller in ["m-attending-000", "m-attending-001", "m-nurse-000"] {
        let client = server.key_for("Clinician", caller);
        for question in questions.iter().take(12) {
            let body =
                json!({"vector_base64": question["vector_base64"], "limit": 20, "purpose": "treatment", "include": []});
            returned.push((caller.to_owned(), client.search("ward", &body).expect(200).ids()));
        }
        let listed = client
            .post("/v1/collections/ward/records/list", &json!({"purpose": "treatment", "limit": 10}))
            .expect(200)
            .ids();
        client.get(&format!("/v1/collections/ward/records/{}?purpose=treatment", listed[0])).expect(200);
        returned.push((caller.to_owned(), vec![listed[0].clone()]));
        returned.push((caller.to_owned(), listed));
    }
    let nurse = server.key_for("Clinician", "m-nurse-000");
    let body = json!({"vector_base64": questions[0]["vector_base64"], "purpose": "marketing"});
    nurse.search("ward", &body).expect(403);
    let erased = returned[0].1[0].clone();
    root.post("/v1/collections/ward/erase", &json!({"ids": [erased]})).ok();

    let answer = diff(&root, &json!({"new": {"bundle": close}, "days": 1, "samples": 100})).ok();
    assert_eq!(answer["over"]["purposes_from_audit"], json!(["marketing", "treatment"]));
    let past = &answer["past"];
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    let mut losses: BTreeMap<String, (usize, usize, Set)> = BTreeMap::new();
    for (caller, ids) in &returned {
        let (old, new) = (
            truth.sees(&truth.study.bundle, caller, Action::Read, "treatment"),
            truth.sees(&new, caller, Action::Read, "treatment"),
        );
        let lost: Set =
            ids.iter().filter(|id| **id != erased && old.contains(*id) && !new.contains(*id)).cloned().collect();
        *expected.entry("returned").or_default() += ids.len() as u64;
        *expected.entry("gone").or_default() += ids.iter().filter(|id| **id == erased).count() as u64;
        *expected.entry("no_longer").or_default() += lost.len() as u64;
        if !lost.is_empty() {
            let loss = losses.entry(caller.clone()).or_default();
            loss.0 += 1;
            loss.1 += lost.len();
            loss.2.extend(lost);
        }
    }
    for (name, count) in &expected {
        assert_eq!(past[*name], *count, "{name}: {past}");
    }
    assert!(expected["no_longer"] > 0 && expected["gone"] > 0);
    assert_eq!(past["retrievals"], returned.len());
    assert_eq!(past["still"], expected["returned"] - expected["gone"] - expected["no_longer"]);
    assert_eq!(
        (&past["answered"], &past["refused"], &past["again"], &past["already_not"]),
        (&json!(1), &json!(0), &json!(0), &json!(0))
    );
    let rows = past["callers"].as_array().unwrap();
    assert_eq!(rows.len(), losses.len());
    for row in rows {
        let (answers, pairs, records) = &losses[row["caller"]["id"].as_str().unwrap()];
        assert_eq!((&row["retrievals"], &row["pairs"]), (&json!(answers), &json!(pairs)), "{row}");
        truth.holds(&row["no_longer"], records, "what is no longer returned");
    }
    // what else has changed since is not laid at the new bundle's door
    let nurse = root.get("/v1/entities/Clinician/m-attending-000").ok();
    let mut moved = nurse.clone();
    moved["attrs"].as_object_mut().unwrap().remove("care_team");
    root.put("/v1/entities", &json!([moved])).ok();
    let later = diff(&root, &json!({"new": {"bundle": close}, "days": 1})).ok();
    assert!(
        later["past"]["already_not"].as_u64().unwrap() > 0
            && later["past"]["no_longer"].as_u64() < past["no_longer"].as_u64()
    );
}

#[test]
fn a_comparison_needs_its_rights_and_keeps_its_bounds_and_is_in_the_log() {
    let server = Server::ward();
    let root = server.root();
    let new = json!({"bundle": bundle("policies/clinical")});
    let asked = |more: Json| {
        let mut body = json!({"new": new, "purposes": ["treatment"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    server.key_for("Auditor", "auditor").post("/v1/policies/diff", &asked(json!({}))).expect(403);
    let done = diff(&root, &asked(json!({"days": 1}))).expect(200);
    let log = entries(&root, 0);
    let of: Vec<_> = log.iter().filter(|e| e["trace"] == json!(done.headers["x-request-id"])).collect();
    let what: Vec<_> = of.iter().map(|e| e["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["read_audit", "diff"], "{of:?}");
    assert_eq!((&of[1]["outcome"], &of[1]["action"]), (&json!("allowed"), &json!("ManagePolicies")));

    let many = |n: usize| json!((0..n).map(|n| format!("p{n}")).collect::<Vec<_>>());
    let callers = |n: usize| json!(vec![json!({"type": "Clinician", "id": "m-nurse-000"}); n]);
    for (good, bad, code) in [
        (
            json!({"purposes": many(limits::DIFF_PURPOSES)}),
            json!({"purposes": many(limits::DIFF_PURPOSES + 1)}),
            "purposes",
        ),
        (json!({"samples": limits::DIFF_SAMPLES}), json!({"samples": limits::DIFF_SAMPLES + 1}), "samples"),
        (json!({"days": limits::DIFF_DAYS}), json!({"days": limits::DIFF_DAYS + 1}), "days"),
        (json!({"days": 1}), json!({"days": 0}), "days"),
        (
            json!({"callers": callers(limits::IDS_PER_REQUEST)}),
            json!({"callers": callers(limits::IDS_PER_REQUEST + 1)}),
            "callers",
        ),
        (json!({}), json!({"purposes": []}), "purposes"),
        (json!({}), json!({"callers": [{"type": "Clinician", "id": "nobody"}]}), "callers"),
        (json!({}), json!({"new": {}}), "bundle"),
        (json!({}), json!({"new": {"version": 1, "bundle": bundle("policies/clinical")}}), "bundle"),
    ] {
        diff(&root, &asked(good)).expect(200);
        assert_eq!(diff(&root, &asked(bad)).expect(422).code(), code);
    }
    diff(&root, &asked(json!({"collections": ["nowhere"]}))).expect(404);
    // past answers are for whoever may read the log
    let blind = changed(&[("    Action::\"ReadAudit\",\n", "")], "");
    let log_reader = server.key_for("Auditor", "auditor");
    root.put("/v1/policies", &blind).ok();
    diff(&root, &asked(json!({}))).expect(200);
    let refused = diff(&root, &asked(json!({"days": 1}))).expect(403);
    let log = entries(&log_reader, 0);
    let told: Vec<_> = log.iter().filter(|e| e["trace"] == json!(refused.headers["x-request-id"])).collect();
    assert_eq!((told.len(), &told[0]["outcome"], &told[0]["action"]), (1, &json!("denied"), &json!("ReadAudit")));
}

#[test]
fn the_command_line_shows_a_table_that_is_read_in_seconds_from_a_server_and_offline() {
    let server = Server::ward();
    let dir = server.home.path().join("opened");
    std::fs::create_dir(&dir).unwrap();
    let sent = changed(&[("resource.sensitivity >= 3", "resource.sensitivity >= 4")], "");
    std::fs::write(dir.join("w.cedarschema"), sent["schema"].as_str().unwrap()).unwrap();
    std::fs::write(dir.join("w.cedar"), sent["policies"].as_str().unwrap()).unwrap();
    let dir = dir.to_str().unwrap();
    let arguments = ["policy", "diff", dir, "--purpose", "treatment"];
    let online = |more: &[&str]| {
        let mut command = plain::bare_command(&[&arguments[..], more].concat());
        command.env("WARDKEEP_API_KEY", &server.root_key).env("WARDKEEP_URL", &server.url);
        plain::said(command.output().unwrap())
    };
    let (code, table, err) = online(&[]);
    assert_eq!(code, 0, "{err}");
    println!("{table}");
    assert!(
        table.lines().count() <= 16 && table.contains("Clinician in Role::\"nurse\"") && table.contains("all together"),
        "{table}"
    );
    let (code, told, _) = online(&["--by-caller", "--days", "1", "--version", "2"]);
    assert!(code == 0 && told.contains("+rec-") && told.contains("Not to be said"), "{told}");
    let (_, json, _) = online(&["--json"]);
    let (home, data) = (std::sync::Arc::clone(&server.home), server.dir.clone());
    let dir = dir.to_owned();
    drop(server);
    let (code, offline, err) = plain::run(&["policy", "diff", &dir, "--purpose", "treatment", "--json"], &data);
    assert_eq!(code, 0, "{err}");
    let read = |text: &str| {
        let mut json: Json = serde_json::from_str(text).unwrap();
        json["over"]["assumed"]["now"].take();
        json
    };
    assert_eq!(read(&offline), read(&json));
    drop(home);
}

/// `cargo test --release --test suite diff::a_hundred_thousand -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes to fill the store"]
fn a_hundred_thousand_records_are_compared_and_the_time_is_printed() {
    const COPIES: usize = 50;
    let server = Server::new();
    let root = server.root();
    root.put("/v1/policies", &bundle("policies/clinical")).ok();
    let entities: Vec<Json> = serde_json::from_str(&file("examples/ward/entities.json")).unwrap();
    let renamed = |json: &Json, copy: usize| -> Json {
        let text = json.to_string().replace("m-P", &format!("m{copy}-P"));
        serde_json::from_str(&text).unwrap()
    };
    let patients = entities.iter().filter(|e| e["uid"]["type"] == "Patient");
    let copies: Vec<Json> =
        patients.flat_map(|p| (0..COPIES).map(|copy| renamed(p, copy)).collect::<Vec<_>>()).collect();
    root.put("/v1/entities", &entities.clone().into()).ok();
    root.put("/v1/entities", &copies.into()).ok();
    // care teams look after the copies too
    let teams = entities.iter().filter(|e| e["uid"]["type"] == "CareTeam").map(|team| {
        let mut team = team.clone();
        let patients = team["attrs"]["patients"].as_array().unwrap().clone();
        team["attrs"]["patients"] =
            patients.iter().flat_map(|p| (0..COPIES).map(|copy| renamed(p, copy)).collect::<Vec<_>>()).collect();
        team
    });
    root.put("/v1/entities", &teams.collect::<Json>()).ok();
    root.put("/v1/collections/ward", &json!({"dimension": 2, "metric": "dot"})).ok();
    let sent = lines("examples/ward/records.ndjson");
    for copy in 0..COPIES {
        let body: Vec<String> = sent
            .iter()
            .map(|record| {
                let mut record = renamed(record, copy);
                record["id"] = format!("{}-{copy}", record["id"].as_str().unwrap()).into();
                record.as_object_mut().unwrap().remove("vector_base64");
                record["vector"] = json!([1.0, copy]);
                record.to_string()
            })
            .collect();
        assert_eq!(root.put_lines("/v1/collections/ward/records", &body.join("\n")).ok()["accepted"], 2_000);
    }
    for (name, bundle, purposes) in changes() {
        let begun = std::time::Instant::now();
        let answer = diff(&root, &json!({"new": {"bundle": bundle}, "purposes": purposes})).ok();
        println!(
            "{name}: {} records, {} callers, {} purposes in {:.2} s: {}",
            answer["over"]["records"],
            answer["over"]["callers"],
            purposes.len(),
            begun.elapsed().as_secs_f32(),
            answer["totals"]
        );
    }
}
