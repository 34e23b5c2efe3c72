//! What does not exist and what is not the caller's answer the same bytes but for the request's id, on every route with an id: under the
//! clinical bundle, and under one that permits each thing on one collection or one type only.

use serde_json::{Value as Json, json};

use super::{
    harness::{Answer, Client, Server, file, lines},
    plain,
};

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

/// One request about a thing.
struct Asked {
    method: &'static str,
    path: String,
    kind: &'static str,
    body: String,
}

fn asked(method: &'static str, path: impl Into<String>) -> Asked {
    Asked { method, path: path.into(), kind: "", body: String::new() }
}

fn with(method: &'static str, path: impl Into<String>, body: Json) -> Asked {
    Asked { method, path: path.into(), kind: JSON, body: body.to_string() }
}

impl Asked {
    fn of(&self, client: &Client) -> Answer {
        client.send(self.method, &self.path, self.kind, self.body.as_bytes())
    }
}

/// Answers without their own ids: of the request, and of the retrieval.
fn bare(answer: &Answer) -> (u16, String, String) {
    let (status, text, headers) = answer.comparable();
    let text = match serde_json::from_str::<Json>(&text) {
        Ok(mut json) if json.get("retrieval_id").is_some() => {
            json["retrieval_id"] = json!("<retrieval id>");
            json.to_string()
        }
        _ => text,
    };
    (status, text, format!("{headers:?}"))
}

/// All of `things` answer `client` alike, and with `status`.
#[track_caller]
fn alike(who: &str, client: &Client, status: u16, things: &[Asked]) {
    let first = things[0].of(client);
    assert_eq!(first.status, status, "{who}: {} {}: {}", things[0].method, things[0].path, first.text());
    for thing in &things[1..] {
        let answer = thing.of(client);
        assert_eq!(
            bare(&answer),
            bare(&first),
            "{who}: {} {} {} can be told from {} {} {}",
            thing.method,
            thing.path,
            thing.body,
            things[0].method,
            things[0].path,
            things[0].body
        );
    }
}

/// Every request about a collection, but those that read records.
fn about_collection(name: &str, record: &Json) -> Vec<Asked> {
    let at = |rest: &str| format!("/v1/collections/{name}{rest}");
    let line = |id: &str, body: String| Asked { method: "PUT", path: at(&format!("/records{id}")), kind: LINES, body };
    let records = json!({"records": [record]});
    let invalid = json!({"records": [{"id": "r1"}]});
    let vector = record["vector"].clone();
    vec![
        asked("GET", at("")),
        asked("DELETE", at("")),
        with("PUT", at(""), json!({"dimension": vector.as_array().unwrap().len(), "metric": "cosine"})),
        with("PUT", at(""), json!({"dimension": 3, "metric": "dot"})),
        with("PUT", at("/records"), records.clone()),
        with("PUT", at("/records?mode=create"), records),
        with("PUT", at("/records"), json!({"records": []})),
        with("PUT", at("/records"), invalid),
        line("", record.to_string()),
        line("?mode=create", record.to_string()),
        line("", "{}".to_owned()),
        line("", String::new()),
        with("POST", at("/erase"), json!({"ids": ["r1"]})),
        with("POST", at("/erase"), json!({"ids": ["none"]})),
        with("POST", at("/erase"), json!({"document": "d"})),
        with("POST", at("/erase"), json!({"patient": "mine"})),
        with("POST", at("/search"), json!({"vector": vector, "purpose": "treatment"})),
        with("POST", at("/search"), json!({"vector": [1.0], "purpose": "treatment"})),
        with(
            "POST",
            at("/search"),
            json!({"vector": vector, "purpose": "treatment", "patient": "mine", "limit": 10000}),
        ),
        with("POST", at("/search"), json!({"vector": vector, "purpose": "treatment", "filter": "true"})),
        with("POST", at("/search"), json!({"vector": vector, "purpose": "treatment", "model": "other"})),
        with("POST", at("/records/list"), json!({"purpose": "treatment"})),
        with("POST", at("/records/list"), json!({"purpose": "treatment", "ids": ["r1", "none"]})),
        with("POST", at("/records/list"), json!({"purpose": "treatment", "patient": "mine"})),
    ]
}

fn read(collection: &str, id: &str) -> Asked {
    asked("GET", format!("/v1/collections/{collection}/records/{id}?purpose=treatment"))
}

/// Each right on one collection, or one type, by one caller each.
const SCHEMA: &str = r#"
entity Administrator; entity System; entity Collection; entity Document in [Collection];
entity Patient; entity Staff; entity Feed; entity Team = { size: Long };
entity Record in [Document, Collection] = { patient?: Patient };
type Question = { purpose: String, collection: String, patient?: Patient };
type Upkeep = { collection: String };
action Retrieve, Read, ReadVector appliesTo { principal: [Staff], resource: [Record], context: Question };
action Search, BreakGlass appliesTo { principal: [Staff, Feed, Administrator], resource: [Collection], context: Question };
action Ingest appliesTo {
  principal: [Staff, Feed, Administrator], resource: [Collection],
  context: { collection: String, document?: String, replaces?: Bool }
};
action Erase, Export appliesTo { principal: [Staff, Feed, Administrator], resource: [Collection], context: Upkeep };
action ManageCollections appliesTo { principal: [Staff, Feed, Administrator], resource: [System], context: Upkeep };
action ManageEntities appliesTo {
  principal: [Staff, Feed, Administrator], resource: [System],
  context: { entity_type: String, entity_id: String, operation: String }
};
action ManageCallers appliesTo {
  principal: [Staff, Feed, Administrator], resource: [System],
  context: { caller_type: String, caller_id: String }
};
action ManagePolicies, ManageKeys, ReadAudit, ReviewBreakGlass, Explain appliesTo {
  principal: [Staff, Feed, Administrator], resource: [System], context: {}
};
"#;

const POLICIES: &str = r#"
@id("administration") permit (principal is Administrator, action, resource);
@id("reader-asks-one-collection") permit (principal == Staff::"reader", action == Action::"Search", resource == Collection::"open");
@id("reader-sees-one-patient")
permit (principal == Staff::"reader", action in [Action::"Retrieve", Action::"Read"], resource in Collection::"open")
when { resource has patient && resource.patient == Patient::"mine" };
@id("feed-fills-one-collection")
permit (principal == Feed::"feed", action in [Action::"Ingest", Action::"Erase"], resource == Collection::"open");
@id("archive-adds-to-one-collection") permit (principal == Feed::"archive", action == Action::"Ingest", resource)
when { context.collection == "open" && context has replaces && !context.replaces };
@id("keeper-keeps-one-collection")
permit (principal == Staff::"keeper", action in [Action::"ManageCollections", Action::"Erase"], resource)
when { context.collection == "open" };
@id("manager-keeps-teams") permit (principal == Staff::"manager", action == Action::"ManageEntities", resource)
when { context.entity_type == "Team" && context.entity_id != "hidden" };
@id("manager-keeps-feeds") permit (principal == Staff::"manager", action == Action::"ManageCallers", resource)
when { context.caller_type == "Feed" };
@id("warden-keeps-all-but-staff") permit (principal == Staff::"warden", action == Action::"ManageCallers", resource)
when { context.caller_type != "Staff" };
"#;

const STAFF: [(&str, &str); 8] = [
    ("Staff", "reader"),
    ("Staff", "stranger"),
    ("Staff", "keeper"),
    ("Staff", "manager"),
    ("Staff", "warden"),
    ("Feed", "feed"),
    ("Feed", "archive"),
    ("Feed", "idle"),
];

/// Collections `open` and `closed`, each with a record of `mine` and one of `theirs`.
fn narrow() -> (Server, Vec<(&'static str, Client)>) {
    let server = Server::new();
    let root = server.root();
    root.put("/v1/policies", &json!({"schema": SCHEMA, "policies": POLICIES})).ok();
    let mut entities: Vec<Json> = STAFF.iter().map(|(ty, id)| json!({"uid": {"type": ty, "id": id}})).collect();
    entities.extend(["mine", "theirs"].map(|id| json!({"uid": {"type": "Patient", "id": id}})));
    entities.extend(["a", "b", "hidden"].map(|id| json!({"uid": {"type": "Team", "id": id}, "attrs": {"size": 3}})));
    root.put("/v1/entities", &json!(entities)).ok();
    for name in ["open", "closed"] {
        root.put(
            &format!("/v1/collections/{name}"),
            &json!({"dimension": 2, "metric": "cosine", "embedding_model": "m"}),
        )
        .ok();
        let records = json!({"records": [record("r1", "mine"), record("r2", "theirs")]});
        root.put(&format!("/v1/collections/{name}/records"), &records).ok();
    }
    let people = STAFF.iter().map(|(ty, id)| (*id, server.key_for(ty, id))).collect();
    (server, people)
}

fn record(id: &str, patient: &str) -> Json {
    json!({"id": id, "document": "d", "vector": [1.0, 0.5], "text": format!("text of {id}"),
           "attributes": {"patient": {"__entity": {"type": "Patient", "id": patient}}}})
}

#[test]
fn a_collection_that_is_not_the_callers_answers_as_one_that_is_not_there() {
    let (server, people) = narrow();
    let (closed, absent) =
        (about_collection("closed", &record("r1", "mine")), about_collection("absent", &record("r1", "mine")));
    for (name, client) in &people {
        for (theirs, nobodys) in closed.iter().zip(&absent) {
            let (theirs, nobodys) = (theirs.of(client), nobodys.of(client));
            assert_eq!(theirs.status, 403, "{name}: {}", theirs.text());
            assert_eq!(bare(&theirs), bare(&nobodys), "{name} can tell a closed collection from an absent one");
        }
        // What is no collection's name at all says nothing of those that are.
        assert!([403, 404, 422].contains(&client.get("/v1/collections/Not%20A%20Name").status));
    }
    let open = server.root().get("/v1/collections").ok();
    assert_eq!(open["collections"].as_array().unwrap().len(), 2, "nothing was made or dropped");
    assert_eq!(open["collections"][0]["records"], 2, "{open}");
    // Those with the right are served on the one that is theirs: the refusals above were about the collection.
    let person = |name: &str| &people.iter().find(|(n, _)| *n == name).unwrap().1;
    let search = json!({"vector": [1.0, 0.5], "purpose": "treatment"});
    assert_eq!(person("reader").search("open", &search).ids(), ["r1"]);
    person("keeper").get("/v1/collections/open").ok();
    person("feed").put("/v1/collections/open/records", &json!({"records": [record("r1", "mine")]})).ok();
    person("archive").put("/v1/collections/open/records", &json!({"records": [record("r3", "mine")]})).ok();
    person("archive").put("/v1/collections/open/records", &json!({"records": [record("r1", "mine")]})).expect(403);
    person("feed").post("/v1/collections/open/erase", &json!({"ids": ["r3"]})).ok();
}

#[test]
fn a_record_that_is_not_the_callers_answers_as_one_that_is_not_there() {
    let (server, mut people) = narrow();
    people.push(("root", server.root()));
    for (name, client) in &people {
        let mut things = vec![
            read("absent", "r1"),
            read("closed", "r1"),
            read("closed", "none"),
            read("open", "none"),
            read("open", "r2"),
        ];
        if *name != "reader" {
            things.push(read("open", "r1"));
        }
        alike(name, client, 404, &things);
        // The same where the request lacks what the policies need.
        let bare_read = |c: &str, id: &str| asked("GET", format!("/v1/collections/{c}/records/{id}"));
        alike(name, client, 422, &[bare_read("absent", "r1"), bare_read("open", "r2"), bare_read("open", "r1")]);
    }
    let (_, reader) = people.iter().find(|(name, _)| *name == "reader").unwrap();
    assert_eq!(read("open", "r1").of(reader).expect(200).json()["text"], "text of r1");
    let list = |body: Json| with("POST", "/v1/collections/open/records/list", body);
    let ids = |ids: &[&str]| list(json!({"purpose": "treatment", "ids": ids}));
    alike("reader", reader, 200, &[ids(&["none"]), ids(&["r2"])]);
    alike("reader", reader, 200, &[ids(&["r1", "none"]), ids(&["r1", "r2"]), ids(&["none", "r1"]), ids(&["r2", "r1"])]);
    let of = |patient: &str| list(json!({"purpose": "treatment", "patient": patient}));
    alike("reader", reader, 200, &[of("nobody"), of("theirs")]);
    let after = |id: &str| list(json!({"purpose": "treatment", "after": id}));
    alike("reader", reader, 200, &[after("r2"), after("zz"), after("r1")]);
    let near = |patient: &str| {
        with(
            "POST",
            "/v1/collections/open/search",
            json!({"vector": [1.0, 0.5], "purpose": "treatment", "patient": patient}),
        )
    };
    alike("reader", reader, 200, &[near("nobody"), near("theirs")]);
    assert_eq!(near("mine").of(reader).ids(), ["r1"]);
}

#[test]
fn an_entity_that_is_not_the_callers_answers_as_one_that_is_not_there() {
    let (server, people) = narrow();
    for (name, client) in &people {
        for method in ["GET", "DELETE"] {
            let one = |ty: &str, id: &str| asked(method, format!("/v1/entities/{ty}/{id}"));
            alike(
                name,
                client,
                403,
                &[one("Patient", "none"), one("Patient", "mine"), one("Nothing", "mine"), one("Team", "hidden")],
            );
            let forced = |ty: &str, id: &str| asked(method, format!("/v1/entities/{ty}/{id}?force=true"));
            if method == "DELETE" {
                alike(
                    name,
                    client,
                    403,
                    &[forced("Patient", "none"), forced("Patient", "mine"), forced("Document", "open%2Fd")],
                );
            }
        }
        let write = |ty: &str, id: &str| with("PUT", "/v1/entities", json!([{"uid": {"type": ty, "id": id}}]));
        alike(name, client, 403, &[write("Patient", "none"), write("Patient", "mine"), write("Nothing", "mine")]);
        let list = |ty: &str| asked("GET", format!("/v1/entities/{ty}"));
        alike(name, client, 403, &[list("Patient"), list("Nothing"), list("Feed")]);
    }
    let (_, manager) = people.iter().find(|(name, _)| *name == "manager").unwrap();
    // A list holds what the caller may look at one by one, and its pages do not tell of the rest.
    let shown = manager.get("/v1/entities/Team").ok();
    assert_eq!(
        shown["entities"].as_array().unwrap().iter().map(|e| e["uid"]["id"].as_str().unwrap()).collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(manager.get("/v1/entities/Team?limit=2&after=a").ok()["next"], Json::Null);
    assert_eq!(server.root().get("/v1/entities/Team").ok()["entities"].as_array().unwrap().len(), 3);
    alike(
        "manager",
        manager,
        404,
        &[asked("GET", "/v1/entities/Team/none"), asked("DELETE", "/v1/entities/Team/none")],
    );
    manager.get("/v1/entities/Team/a").ok();
}

#[test]
fn a_key_that_is_not_the_callers_to_revoke_answers_as_one_that_is_not_there() {
    let (server, people) = narrow();
    let root = server.root();
    let listed = root.get("/v1/callers").ok();
    let key_of = |ty: &str, id: &str| {
        let all = listed["callers"].as_array().unwrap();
        let key = all.iter().find(|k| k["type"] == ty && k["id"] == id).unwrap();
        asked("DELETE", format!("/v1/callers/keys/{}", key["key_id"].as_str().unwrap()))
    };
    let none = || asked("DELETE", "/v1/callers/keys/0011223344556677");
    let garbage = || asked("DELETE", "/v1/callers/keys/no-key");
    for (name, client) in &people {
        // The warden may revoke any key but those of staff and, like everyone but root, of administrators.
        let status = if *name == "warden" { 404 } else { 403 };
        alike(name, client, status, &[none(), garbage(), key_of("Staff", "reader"), key_of("Administrator", "root")]);
    }
    let still = root.get("/v1/callers").ok();
    assert_eq!(still, listed, "no key went");
    let person = |name: &str| &people.iter().find(|(n, _)| *n == name).unwrap().1;
    assert_eq!(key_of("Feed", "idle").of(person("manager")).status, 200);
    alike("manager", person("manager"), 403, &[none(), key_of("Staff", "reader")]);
    assert_eq!(key_of("Feed", "archive").of(person("warden")).status, 200);
}

#[test]
fn whoever_may_ask_but_never_be_shown_a_record_gets_an_empty_answer_and_the_log_an_entry() {
    let (server, _) = narrow();
    let root = server.root();
    let search = root.search("open", &json!({"vector": [1.0, 0.5], "purpose": "treatment"})).expect(200).json();
    assert_eq!(search["results"], json!([]));
    assert_eq!(
        search["limit"],
        json!({"requested": 10, "applied": 0, "bound_by": []}),
        "no permit, so no cap to sum up"
    );
    let list = root.post("/v1/collections/open/records/list", &json!({"purpose": "treatment"})).expect(200).json();
    assert_eq!((&list["records"], &list["count"]), (&json!([]), &json!(0)));
    let refused = read("open", "r1").of(&root).expect(404);
    let log = super::refusals::entries(&root, 0);
    let told = log.iter().find(|e| e["trace"] == json!(refused.headers["x-request-id"])).unwrap();
    assert_eq!((&told["what"], &told["outcome"], &told["action"]), (&json!("read"), &json!("denied"), &json!("Read")));
}

#[test]
fn under_the_clinical_bundle_absent_and_not_yours_are_the_same_bytes() {
    let server = Server::clinical();
    let root = server.root();
    let records: Vec<String> = file("examples/ward/records.ndjson").lines().take(80).map(str::to_owned).collect();
    root.put_lines("/v1/collections/ward/records", &records.join("\n")).ok();
    let added = json!([{"uid": {"type": "Administrator", "id": "second"}}, {"uid": {"type": "Service", "id": "idle"}}]);
    root.put("/v1/entities", &added).ok();
    let who = [
        ("Service", "idle"),
        ("Service", "care-team-feed"),
        ("Service", "retention"),
        ("Service", "record-feed"),
        ("Auditor", "auditor"),
        ("Clinician", "m-nurse-000"),
        ("Clinician", "m-temp-000"),
        ("Clinician", "unknown-to-the-ward"),
        ("Administrator", "second"),
    ];
    let mut first: Json = serde_json::from_str(&records[0]).unwrap();
    first["vector"] = json!(vec![0.5; 384]);
    first.as_object_mut().unwrap().remove("vector_base64");
    let (ward, absent) = (about_collection("ward", &first), about_collection("absent", &first));
    let key = |ty: &str, id: &str| {
        let made = root.post("/v1/callers", &json!({"type": ty, "id": id})).ok();
        asked("DELETE", format!("/v1/callers/keys/{}", made["key_id"].as_str().unwrap()))
    };
    let none = || asked("DELETE", "/v1/callers/keys/0011223344556677");
    for (ty, id) in who {
        let client = server.key_for(ty, id);
        // Only what is refused for the ward that exists: what is permitted there may say that another does not.
        let mut refused = 0;
        for (theirs, nobodys) in ward.iter().zip(&absent) {
            let changes = theirs.method == "DELETE" || theirs.path.contains("erase") || theirs.method == "PUT";
            if changes && (ty == "Administrator" || matches!(id, "record-feed" | "retention")) {
                continue;
            }
            let answer = theirs.of(&client);
            if answer.status == 403 {
                refused += 1;
                assert_eq!(bare(&answer), bare(&nobodys.of(&client)), "{id}: {} {}", theirs.method, theirs.path);
            }
        }
        assert!(refused >= 7, "{id}: {refused}");
        let held: &[&str] = if id == "m-nurse-000" { &[] } else { &["rec-000061"] };
        let mut things = vec![
            read("ward", "none"),
            read("absent", "rec-000061"),
            read("ward", "rec-000000"),
            read("ward", "rec-000001"),
        ];
        things.extend(held.iter().map(|id| read("ward", id)));
        alike(id, &client, 404, &things);
        if ty != "Administrator" {
            let one = |ty: &str, id: &str| asked("GET", format!("/v1/entities/{ty}/{id}"));
            alike(
                id,
                &client,
                403,
                &[one("Patient", "none"), one("Patient", "m-P000043"), one("Clinician", "m-nurse-000")],
            );
            alike(id, &client, 403, &[none(), key("Clinician", "m-nurse-001"), key("Administrator", "root")]);
        } else {
            alike(id, &client, 404, &[none(), key("Administrator", "root"), key("Administrator", "second")]);
        }
    }
    // A nurse's own patients, and others: narrowing to them tells nothing but what is hers.
    let nurse = server.key_for("Clinician", "m-nurse-000");
    assert_eq!(read("ward", "rec-000061").of(&nurse).status, 200);
    let question = lines("examples/ward/queries.ndjson").remove(0);
    let near = |patient: &str| {
        let body = json!({"vector_base64": question["vector_base64"], "purpose": "treatment", "patient": patient});
        with("POST", "/v1/collections/ward/search", body)
    };
    alike("nurse", &nurse, 200, &[near("nobody"), near("m-P000013"), near("m-P000088")]);
    let list = |body: Json| with("POST", "/v1/collections/ward/records/list", body);
    let of = |patient: &str| list(json!({"purpose": "treatment", "patient": patient}));
    alike("nurse", &nurse, 200, &[of("nobody"), of("m-P000013")]);
    let ids = |ids: &[&str]| list(json!({"purpose": "treatment", "ids": ids}));
    alike("nurse", &nurse, 200, &[ids(&["none"]), ids(&["rec-000000"]), ids(&["rec-000001"])]);
    alike("nurse", &nurse, 200, &[ids(&["rec-000061", "none"]), ids(&["rec-000061", "rec-000000"])]);
}

/// Told together, one broken line would make a whole body a question that writes nothing.
#[test]
fn beside_a_fault_of_form_nothing_is_said_about_what_is_there() {
    let server = plain::server();
    let root = server.root();
    plain::put_records(&root, &[plain::record("there", "document", 1)]).ok();
    let mut broken = plain::record("broken", "document", 1);
    broken["vector"] = json!([1]);
    // `there` would be told as taken (`mode=create`), or as another document's (`immutable`).
    for path in ["/v1/collections/notes/records", "/v1/collections/notes/records?mode=create"] {
        let asked = |id: &str| {
            let answer = root.put(path, &json!({"records": [plain::record(id, "another", 1), broken]})).expect(422);
            let errors = answer.json()["errors"].clone();
            let lines: Vec<_> = errors.as_array().unwrap().iter().map(|e| e["line"].as_u64().unwrap()).collect();
            assert_eq!(lines, [2], "{errors}");
            answer.comparable()
        };
        assert_eq!(asked("there"), asked("not-there"), "{path}");
    }
    assert_eq!(plain::all_records(&root).len(), 1);
}
