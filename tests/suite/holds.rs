//! Legal holds and records that outlive their time.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    thread::{self, ThreadId},
};

use serde_json::{Value as Json, json};
use wardkeep::{
    clock::{Clock, Instant},
    crypto::{Entropy, EntropyError, OsEntropy},
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
    assert_eq!((&put["by"], &put["records"]), (&json!({"type": "Administrator", "id": "root"}), &json!(1)));
    assert_eq!(root.put(HOLD, &json!({"reason": "another"})).ok(), put, "one that is there stays as it is");
    for nobody in ["Nobody/x", "Administrator/root", "System/another"] {
        assert_eq!(root.put(&format!("/v1/holds/{nobody}"), &json!({})).expect(422).code(), "type");
    }

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

#[test]
fn what_is_held_is_not_written_over_or_stripped_and_only_those_who_may_know_are_told_why() {
    let server = Server::with(Settings::default(), Environment::default);
    let root = server.root();
    let schema = SCHEMA
        .replace("entity Patient;", "entity Patient = { name?: String, vip?: Bool }; entity Feeder;")
        .replace(
            "action Search, Ingest, Erase, Export, BreakGlass appliesTo { principal: [Administrator]",
            "action Search, Ingest, Erase, Export, BreakGlass appliesTo { principal: [Administrator, Feeder]",
        )
        .replace(
            "ReviewBreakGlass, Explain\n    appliesTo { principal: [Administrator], resource: [System], context: {} }",
            "ReviewBreakGlass, Explain\n    appliesTo { principal: [Administrator, Feeder], resource: [System], context: { operation?: String } }",
        );
    let policies = r#"
        @id("all") permit(principal is Administrator, action, resource);
        @id("feed") permit(principal is Feeder, action == Action::"Ingest", resource);
        @id("register") permit(principal is Feeder, action == Action::"ManageEntities", resource)
        when { context has operation && context.operation == "replace" };
    "#;
    root.put("/v1/policies?allow_widening=true", &json!({"schema": schema, "policies": policies})).ok();
    root.put("/v1/collections/notes", &json!({"dimension": 2, "metric": "dot"})).ok();
    let patient = |id: &str, attrs: Json| json!({"uid": {"type": "Patient", "id": id}, "attrs": attrs, "parents": []});
    let feeder = json!({"uid": {"type": "Feeder", "id": "f"}, "attrs": {}, "parents": []});
    root.put(
        "/v1/entities",
        &json!([patient("h", json!({"name": "one", "vip": true})), patient("p", json!({})), feeder]),
    )
    .ok();
    let record = |id: &str, patient: &str, text: &str| {
        let attributes = json!({"patient": {"type": "Patient", "id": patient}});
        json!({"id": id, "document": format!("of-{patient}"), "vector": [1, 2], "text": text, "attributes": attributes})
    };
    let path = "/v1/collections/notes/records";
    root.put(path, &json!({"records": [record("a", "h", "evidence"), record("b", "p", "text")]})).ok();
    let key = root.post("/v1/callers", &json!({"type": "Feeder", "id": "f"})).ok();
    let feed = server.client(key["api_key"].as_str().unwrap());
    root.put("/v1/holds/Patient/h", &json!({})).ok();

    let over = json!({"records": [record("a", "h", ""), record("b", "p", "newer")]});
    for (client, code) in [(&root, "legal_hold"), (&feed, "immutable")] {
        assert_eq!(client.put(path, &over).expect(422).json()["errors"][0]["code"], code);
        let stripped =
            client.put("/v1/entities", &json!([patient("h", json!({"name": "one"})), patient("p", json!({}))]));
        let stripped = stripped.expect(409);
        assert_eq!(stripped.code(), code);
        assert_eq!(stripped.text().contains("hold"), code == "legal_hold", "{}", stripped.text());
    }
    feed.delete("/v1/holds/Patient/h").expect(403);
    feed.get("/v1/holds").expect(403);
    let told = |id: &str| root.get(&format!("{path}/{id}?purpose=operations")).ok()["text"].clone();
    assert_eq!((told("a"), told("b")), (json!("evidence"), json!("text")), "all or nothing");
    // more of the patient may come, and what the entity says may change
    feed.put(path, &json!({"records": [record("c", "h", "later"), record("b", "p", "newer")]})).ok();
    feed.put("/v1/entities", &json!([patient("h", json!({"name": "another", "vip": false}))])).ok();
    root.delete("/v1/holds/Patient/h").ok();
    feed.put(path, &over).ok();
    root.put("/v1/entities", &json!([patient("h", json!({}))])).ok();
}

#[test]
fn holds_are_placed_listed_and_lifted_at_the_command_line() {
    let home = tempfile::TempDir::new().unwrap();
    let dir = home.path().join("data");
    let key = plain::found(&dir);
    let process = plain::Process::serve(&dir);
    plain::furnish(&Client::new(&process.url, &key));
    put_records(&Client::new(&process.url, &key), &[plain::record("a", "d", 1)]).ok();
    let verb = |words: &[&str]| {
        let mut command = plain::bare_command(&[&["holds"], words].concat());
        plain::said(command.args(["--url", &process.url]).env("WARDKEEP_API_KEY", &key).output().unwrap())
    };
    let on = |id| ["--type", "Patient", "--id", id];
    let (code, out, err) = verb(&[&["place"][..], &on("patient-of-d"), &["--reason", "case 12"]].concat());
    assert!(code == 0 && out.contains("Patient::\"patient-of-d\" with 1 records") && err.is_empty(), "{out}{err}");
    let (code, _, err) = verb(&[&["place"][..], &on("patient-of-e")].concat());
    assert!(code == 0 && err.contains("no record is theirs"), "{err}");
    let (code, out, _) = verb(&["list", "--json"]);
    let told: Json = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["holds"][0]["reason"], &told["holds"][1]["records"]), (0, &json!("case 12"), &json!(0)));
    assert!(verb(&["list"]).1.contains("case 12"));
    assert_eq!(verb(&[&["lift"][..], &on("patient-of-d")].concat()).1, "lifted\n");
    let (code, _, err) = verb(&[&["lift"][..], &on("patient-of-d")].concat());
    assert!(code == 1 && !err.is_empty(), "{err}");
    assert_eq!(verb(&["place", "--type", "Nobody", "--id", "x"]).0, 1);
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

/// One record, long past any time it may be kept for.
fn with_an_old_note(server: &Server) -> Client {
    let root = server.root();
    let bundle = json!({"schema": SCHEMA, "policies": "@id(\"all\") permit(principal, action, resource);"});
    root.put("/v1/policies?allow_widening=true", &bundle).ok();
    root.put("/v1/collections/notes", &json!({"dimension": 2, "metric": "dot"})).ok();
    let old = json!({"__extn": {"fn": "datetime", "arg": "2020-01-01"}});
    let record = json!({"id": "old", "document": "d", "vector": [1, 2], "text": "old", "attributes": {"written": old}});
    root.put("/v1/collections/notes/records", &json!({"records": [record]})).ok();
    root
}

#[test]
fn one_rule_that_fits_nothing_ends_no_other_and_a_hold_on_the_system_ends_all() {
    let server = Server::with(Settings::default(), Environment::default);
    let root = with_an_old_note(&server);
    let rule = |collection: &str, attribute: &str| Retention {
        collection: collection.parse().unwrap(),
        attribute: attribute.into(),
        days: 30,
    };
    server.engine.retain(vec![rule("mistyped", "written"), rule("notes", "mistyped"), rule("notes", "written")]);
    root.put("/v1/holds/System/wardkeep", &json!({"reason": "restored"})).ok();
    assert_eq!(server.engine.expire().unwrap(), 0, "nothing expires while the whole store is held");
    root.delete("/v1/holds/System/wardkeep").ok();
    assert_eq!(server.engine.expire().unwrap(), 1);
    let expiry = server.engine.expiry();
    assert_eq!((expiry.expired, expiry.unfit, expiry.failed), (1, 2, 0));
    let metrics = root.get("/metrics").expect(200).text().to_owned();
    for line in
        ["wardkeep_expired_records_total 1", "wardkeep_expiry_unfit_rules 2", "wardkeep_expiry_failures_total 0"]
    {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[test]
fn records_of_the_same_patient_elsewhere_are_counted_and_nothing_is_certified_where_nothing_is_there() {
    let (server, eraser) = with_an_eraser(&[]);
    let root = server.root();
    root.put("/v1/collections/other", &json!({"dimension": 2, "metric": "dot"})).ok();
    let attributes = json!({"patient": {"type": "Patient", "id": "p"}});
    let record = json!({"id": "x", "document": "d", "vector": [1, 2], "text": "x", "attributes": attributes});
    root.put("/v1/collections/other/records", &json!({"records": [record]})).ok();
    let body = |patient: &str| json!({"patient": patient, "certificate": true});
    let erase = |client: &Client, patient| client.post("/v1/collections/notes/erase", &body(patient));
    for nobody in ["ghost", "s"] {
        for client in [&root, &eraser] {
            assert_eq!(erase(client, nobody).expect(409).code(), "nothing_to_certify");
        }
    }
    let told = erase(&eraser, "p").ok();
    assert_eq!((&told["erased"], &told["still_named"]), (&json!(2), &json!({"elsewhere": {"other": 1}})));
    assert_eq!(told["certificate"]["statement"]["records_elsewhere"], json!({"other": 1}));
    let told = erase(&root, "q").ok();
    assert_eq!(told["still_named"]["elsewhere"], Json::Null, "none of theirs is there");
    let named = root.post("/v1/collections/notes/erase", &json!({"patient": "p"})).ok()["still_named"].clone();
    assert_eq!((&named["elsewhere"], &named["records"]), (&json!({"other": 1}), &json!(1)));
    assert_eq!(erase(&root, "p").expect(409).code(), "nothing_to_certify");
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
    let certify = |patient| {
        let body = json!({"patient": patient, "certificate": true});
        let refused = eraser.post("/v1/collections/notes/erase", &body).expect(409);
        assert_eq!(refused.code(), "nothing_to_certify");
        refused.comparable()
    };
    assert_eq!(certify("p"), certify("nobody"));
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

/// Random bytes that the thread of a test is refused, so many times.
struct Refusing {
    thread: std::thread::ThreadId,
    times: AtomicI64,
}

impl Entropy for Refusing {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
        if std::thread::current().id() == self.thread && self.times.fetch_sub(1, SeqCst) > 0 {
            return Err(EntropyError);
        }
        OsEntropy.fill(out)
    }
}

/// What is logged on this thread while `work` is done.
fn logged(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Heard(Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Heard {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let heard = Heard::default();
    let writer = heard.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    String::from_utf8(heard.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn a_rule_that_fails_is_counted_and_logged_without_content_ends_no_other_and_is_carried_out_the_next_time() {
    let refusing = Arc::new(Refusing { thread: std::thread::current().id(), times: AtomicI64::new(0) });
    let shared = Arc::clone(&refusing);
    let server =
        Server::with(Settings::default(), move || Environment { entropy: shared.clone(), ..Environment::default() });
    let root = server.root();
    let bundle = json!({"schema": SCHEMA, "policies": "@id(\"all\") permit(principal, action, resource);"});
    root.put("/v1/policies?allow_widening=true", &bundle).ok();
    let record = |id: &str, day: &str| {
        let written = json!({"__extn": {"fn": "datetime", "arg": day}});
        let patient = json!({"type": "Patient", "id": "canary-patient"});
        json!({"id": format!("canary-{id}"), "document": "canary-document", "vector": [1, 2], "text": "canary-text",
            "attributes": {"written": written, "patient": patient}})
    };
    let names = ["first", "second"];
    for name in names {
        root.put(&format!("/v1/collections/{name}"), &json!({"dimension": 2, "metric": "dot"})).ok();
        // what stays of the patient is sealed anew, for which random bytes are needed
        let records = [record("old", "2020-01-01"), record("new", "9999-01-01")];
        root.put(&format!("/v1/collections/{name}/records"), &json!({ "records": records })).ok();
    }
    let left = |name: &str| {
        let listed = root.post(&format!("/v1/collections/{name}/records/list"), &json!({"purpose": "operations"}));
        listed.expect(200).ids().len()
    };
    let rule = |name: &str| Retention { collection: name.parse().unwrap(), attribute: "written".into(), days: 30 };
    server.engine.retain(names.map(rule).into());
    refusing.times.store(1, SeqCst);
    let log = logged(|| drop(server.engine.expire().unwrap_err()));
    assert_eq!(names.map(left), [2, 1], "the second rule was carried out");
    let lines: Vec<_> = log.lines().filter(|line| line.contains("has outlived its time")).collect();
    assert!(lines.len() == 1 && lines[0].contains("ERROR") && lines[0].contains("first"), "{log}");
    assert!(!log.contains("canary"), "{log}");
    let metrics = || root.get("/metrics").expect(200).text();
    for line in [
        "wardkeep_expired_records_total 1",
        "wardkeep_expiry_failures_total 1",
        "wardkeep_expiry_last_success_seconds 0",
    ] {
        assert!(metrics().contains(&format!("{line}\n")), "{line} in {}", metrics());
    }
    assert_eq!(logged(|| assert_eq!(server.engine.expire(), Ok(1))), "");
    assert_eq!(names.map(left), [1, 1]);
    for line in ["wardkeep_expired_records_total 2", "wardkeep_expiry_failures_total 1"] {
        assert!(metrics().contains(&format!("{line}\n")), "{line} in {}", metrics());
    }
    assert!(!metrics().contains("wardkeep_expiry_last_success_seconds 0\n"), "{}", metrics());
    let log = plain::all_entries(&root, 0);
    let expired = log.iter().filter(|entry| plain::what(entry) == "expire" && entry["outcome"] == "allowed");
    assert_eq!(expired.count(), 2);
}

/// A clock at which something happens when this thread looks at it next.
struct Then(ThreadId, Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Clock for Then {
    fn now(&self) -> Instant {
        let then = if thread::current().id() == self.0 { self.1.lock().unwrap().take() } else { None };
        then.into_iter().for_each(|then| then());
        Instant::from_millis(1_770_000_000_000)
    }
}

#[test]
fn a_hold_on_the_system_stops_a_run_of_expiry_that_began_before_it() {
    let clock = Arc::new(Then(thread::current().id(), Mutex::new(None)));
    let shared = Arc::clone(&clock);
    let server =
        Server::with(Settings::default(), move || Environment { clock: shared.clone(), ..Environment::default() });
    let root = with_an_old_note(&server);
    let rule = Retention { collection: "notes".parse().unwrap(), attribute: "written".into(), days: 30 };
    server.engine.retain(vec![rule]);
    // the first look at the clock is for what is due: holds were looked at before it
    let (held, placed) = (server.root(), Arc::new(AtomicI64::new(0)));
    let counted = Arc::clone(&placed);
    *clock.1.lock().unwrap() = Some(Box::new(move || {
        held.put("/v1/holds/System/wardkeep", &json!({"reason": "a rule that was mistaken"})).ok();
        counted.fetch_add(1, SeqCst);
    }));
    assert_eq!((server.engine.expire().unwrap(), placed.load(SeqCst)), (0, 1));
    assert_eq!(server.engine.expiry().last_whole, 0, "a run that was stopped is none that went through");
    root.delete("/v1/holds/System/wardkeep").ok();
    assert_eq!(server.engine.expire().unwrap(), 1);
}
