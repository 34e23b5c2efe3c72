//! The next request sees it: an assignment, a consent, a policy, an erasure or a key that was taken away is in force for every request that
//! starts after the answer, also while eight readers are at it; and an upload under way ends.

use std::{
    io::Write,
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use serde_json::{Value as Json, json};
use wardkeep::{
    authn::{Credential, Origin},
    engine::{Circumstances, Ingest, Refusal},
};

use super::{
    harness::{Answer, Client, Server},
    refusals::{answer, entries},
};

const READERS: usize = 8;
/// Requests that each reader makes before the change, and that it starts after the change was acknowledged.
const EACH: usize = 6;

const SCHEMA: &str = r#"
entity Administrator; entity System; entity Collection; entity Document in [Collection];
entity Patient = { consents: Bool };
entity Team = { patients: Set<Patient> };
entity Role;
entity Clinician in [Role] = { team: Team };
entity Feed in [Role];
entity Record in [Document, Collection] = { patient: Patient };
type Question = { purpose: String, collection: String, patient?: Patient };
action Retrieve, Read, ReadVector appliesTo { principal: [Clinician], resource: [Record], context: Question };
action Search, BreakGlass appliesTo { principal: [Clinician], resource: [Collection], context: Question };
action Ingest appliesTo { principal: [Feed, Administrator], resource: [Collection], context: { document?: String, replaces?: Bool } };
action Erase, Export appliesTo { principal: [Administrator], resource: [Collection], context: {} };
action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass, Explain
appliesTo { principal: [Administrator], resource: [System], context: {} };
"#;

const POLICIES: &str = r#"
@id("administration") permit (principal is Administrator, action, resource);
@id("feed") permit (principal in Role::"feed", action == Action::"Ingest", resource);
@id("search") permit (principal is Clinician, action == Action::"Search", resource);
@id("team") permit (principal is Clinician, action in [Action::"Retrieve", Action::"Read"], resource)
when { principal.team.patients.contains(resource.patient) };
@id("consent") forbid (principal, action in [Action::"Retrieve", Action::"Read"], resource) unless { resource.patient.consents };
"#;

fn reference(ty: &str, id: &str) -> Json {
    json!({"__entity": {"type": ty, "id": id}})
}

fn patient(consents: bool) -> Json {
    json!([{"uid": {"type": "Patient", "id": "p"}, "attrs": {"consents": consents}}])
}

fn team(patients: &[&str]) -> Json {
    let patients: Vec<Json> = patients.iter().map(|p| reference("Patient", p)).collect();
    json!([{"uid": {"type": "Team", "id": "t"}, "attrs": {"patients": patients}}])
}

fn clinician(team: &str) -> Json {
    json!([{"uid": {"type": "Clinician", "id": "c"}, "attrs": {"team": reference("Team", team)}}])
}

fn feed(parents: &[&str]) -> Json {
    let parents: Vec<Json> = parents.iter().map(|id| json!({"type": "Role", "id": id})).collect();
    json!([{"uid": {"type": "Feed", "id": "f"}, "parents": parents}])
}

fn record(id: &str) -> Json {
    json!({"id": id, "document": "d", "vector": [1.0, 0.5], "text": "a secret", "attributes": {"patient": reference("Patient", "p")}})
}

fn policies(more: &str) -> Json {
    json!({"schema": SCHEMA, "policies": format!("{POLICIES}\n{more}")})
}

fn server() -> Server {
    let server = Server::new();
    let root = server.root();
    root.put("/v1/policies", &policies("")).ok();
    let role = json!([{"uid": {"type": "Role", "id": "feed"}}]);
    let other = json!([{"uid": {"type": "Team", "id": "none"}, "attrs": {"patients": []}}]);
    for entities in [role, other, patient(true), team(&["p"]), clinician("t"), feed(&["feed"])] {
        root.put("/v1/entities", &entities).ok();
    }
    root.put("/v1/collections/notes", &json!({"dimension": 2, "metric": "cosine"})).ok();
    root.put("/v1/collections/notes/records", &json!({"records": [record("r"), record("s")]})).ok();
    server
}

/// One of the ways to the record `r`.
fn ask(client: &Client, way: usize) -> Answer {
    match way % 5 {
        0 => client.search("notes", &json!({"vector": [1.0, 0.5], "purpose": "treatment"})),
        1 => client.get("/v1/collections/notes/records/r?purpose=treatment"),
        2 => client.post("/v1/collections/notes/records/list", &json!({"purpose": "treatment"})),
        3 => client.post("/v1/collections/notes/records/list", &json!({"purpose": "treatment", "ids": ["r"]})),
        _ => client.search("notes", &json!({"vector": [1.0, 0.5], "purpose": "treatment", "patient": "p"})),
    }
}

/// Whether the record `r`, or anything that says of it, is in an answer.
fn shows(answer: &Answer) -> bool {
    let json = answer.json();
    match answer.status {
        200 if json.get("results").is_some() || json.get("records").is_some() => {
            answer.ids().iter().any(|id| id == "r")
        }
        200 => true,
        401 | 403 | 404 => false,
        other => panic!("{other}: {}", answer.text()),
    }
}

/// Eight readers ask without a pause. Until the change they see the record; whichever request starts after it was acknowledged must not.
fn while_readers_hammer(clients: &[Client], change: impl FnOnce()) {
    let acknowledged = AtomicBool::new(false);
    let before: Vec<AtomicUsize> = (0..READERS).map(|_| AtomicUsize::new(0)).collect();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let (client, acknowledged, before) = (&clients[reader % clients.len()], &acknowledged, &before[reader]);
                scope.spawn(move || {
                    let (mut turn, mut after) = (reader, 0);
                    while after < EACH {
                        let late = acknowledged.load(Ordering::SeqCst);
                        let answer = ask(client, turn);
                        if late {
                            assert!(
                                !shows(&answer),
                                "a request that started after the change shows the state before it: {}",
                                answer.text()
                            );
                            after += 1;
                        } else if shows(&answer) {
                            before.fetch_add(1, Ordering::SeqCst);
                        }
                        turn += 1;
                        assert!(turn < 5_000, "the change never came");
                    }
                })
            })
            .collect();
        while before.iter().any(|seen| seen.load(Ordering::SeqCst) < EACH) && !readers.iter().any(|r| r.is_finished()) {
            std::thread::yield_now();
        }
        change();
        acknowledged.store(true, Ordering::SeqCst);
    });
    assert!(before.iter().all(|seen| seen.load(Ordering::SeqCst) >= EACH), "every reader saw the record before");
}

fn taken_away(change: impl FnOnce(&Client)) {
    let server = server();
    let root = server.root();
    while_readers_hammer(&[server.key_for("Clinician", "c")], || change(&root));
}

#[test]
fn a_patient_who_is_taken_off_the_team_is_gone_from_the_next_request() {
    taken_away(|root| drop(root.put("/v1/entities", &team(&["q"])).ok()));
}

#[test]
fn a_clinician_who_changes_teams_sees_nothing_of_the_old_one_on_the_next_request() {
    taken_away(|root| drop(root.put("/v1/entities", &clinician("none")).ok()));
}

#[test]
fn a_team_that_is_deleted_shows_nothing_on_the_next_request() {
    taken_away(|root| drop(root.delete("/v1/entities/Team/t?force=true").ok()));
}

#[test]
fn a_clinician_who_is_deleted_sees_nothing_on_the_next_request() {
    taken_away(|root| drop(root.delete("/v1/entities/Clinician/c?force=true").ok()));
}

#[test]
fn a_consent_that_is_withdrawn_holds_for_the_next_request() {
    taken_away(|root| drop(root.put("/v1/entities", &patient(false)).ok()));
}

#[test]
fn a_policy_that_is_activated_holds_for_the_next_request() {
    taken_away(|root| {
        let closed = r#"@id("closed") forbid (principal, action in [Action::"Retrieve", Action::"Read"], resource);"#;
        root.put("/v1/policies", &policies(closed)).ok();
    });
}

#[test]
fn a_policy_that_says_who_may_ask_at_all_holds_for_the_next_request() {
    taken_away(|root| {
        let closed = r#"@id("closed") forbid (principal is Clinician, action, resource);"#;
        root.put("/v1/policies", &policies(closed)).ok();
    });
}

#[test]
fn a_record_that_is_erased_is_gone_from_the_next_request() {
    taken_away(|root| {
        let erased = root.post("/v1/collections/notes/erase", &json!({"ids": ["r"]})).ok();
        assert_eq!(erased["erased"], 1);
    });
}

#[test]
fn a_collection_that_is_dropped_is_gone_from_the_next_request() {
    taken_away(|root| drop(root.delete("/v1/collections/notes").ok()));
}

#[test]
fn a_key_that_is_revoked_is_no_key_on_the_next_request_and_others_of_the_same_caller_stay() {
    let server = server();
    let root = server.root();
    let clients: Vec<Client> = (0..2).map(|_| server.key_for("Clinician", "c")).collect();
    let other = server.key_for("Clinician", "c");
    while_readers_hammer(&clients, || {
        for client in &clients {
            let id = client.key.split('_').nth(1).unwrap();
            root.delete(&format!("/v1/callers/keys/{id}")).ok();
        }
    });
    for way in 0..5 {
        assert_eq!(ask(&clients[0], way).status, 401);
        assert!(shows(&ask(&other, way)));
    }
}

#[test]
fn what_is_given_is_there_on_the_next_request_too() {
    let server = server();
    let (root, reader) = (server.root(), server.key_for("Clinician", "c"));
    let all = |seen: bool| (0..5).for_each(|way| assert_eq!(shows(&ask(&reader, way)), seen, "{way}"));
    for _ in 0..3 {
        root.put("/v1/entities", &team(&[])).ok();
        all(false);
        root.put("/v1/entities", &team(&["p"])).ok();
        all(true);
        root.put("/v1/entities", &patient(false)).ok();
        all(false);
        root.put("/v1/entities", &patient(true)).ok();
        all(true);
        root.post("/v1/collections/notes/erase", &json!({"patient": "p"})).ok();
        all(false);
        root.put("/v1/collections/notes/records", &json!({"records": [record("r")]})).ok();
        all(true);
    }
}

/// An upload of lines that is still going on.
struct Upload(TcpStream);

impl Upload {
    fn begin(server: &Server, key: &str) -> Self {
        let address = server.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!(
            "PUT /v1/collections/notes/records HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n\
             content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        Self(stream)
    }

    fn lines(&mut self, from: usize, to: usize) {
        let text: String = (from..to).map(|n| format!("{}\n", record(&format!("line-{n:05}")))).collect();
        self.0.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).unwrap();
    }

    fn end(mut self) -> Answer {
        self.0.write_all(b"0\r\n\r\n").unwrap();
        answer(&mut self.0)
    }
}

fn stored(root: &Client) -> u64 {
    root.get("/v1/collections/notes").ok()["records"].as_u64().unwrap()
}

#[test]
fn an_upload_whose_caller_loses_the_right_or_the_key_stops_at_the_next_commit_and_keeps_what_was_committed() {
    let loses: [(&str, u16, fn(&Client, &str)); 4] = [
        ("the key", 401, |root, key| {
            root.delete(&format!("/v1/callers/keys/{}", key.split('_').nth(1).unwrap())).ok();
        }),
        ("the role", 403, |root, _| drop(root.put("/v1/entities", &feed(&[])).ok())),
        ("its own entity", 403, |root, _| drop(root.delete("/v1/entities/Feed/f?force=true").ok())),
        ("what the policies permitted", 403, |root, _| {
            let closed = r#"@id("closed") forbid (principal is Feed, action, resource);"#;
            root.put("/v1/policies", &policies(closed)).ok();
        }),
    ];
    for (what, status, lose) in loses {
        let server = server();
        let root = server.root();
        let key = server.key_for("Feed", "f").key;
        let mut upload = Upload::begin(&server, &key);
        upload.lines(0, 1_000);
        // One commit is 1,000 lines: it is there while the rest is still to come.
        let mut asked = 0;
        while stored(&root) < 1_002 {
            asked += 1;
            assert!(asked < 20_000, "{what}: the first commit never came");
            std::thread::yield_now();
        }
        lose(&root, &key);
        upload.lines(1_000, 3_500);
        let answer = upload.end();
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert!(answer.text().contains(r#""accepted":1000"#), "{what}: {}", answer.text());
        assert_eq!(stored(&root), 1_002, "{what}: lines were taken after it was lost");
        let log = entries(&root, 0);
        let told: Vec<_> = log.iter().filter(|e| e["trace"] == json!(answer.headers["x-request-id"])).collect();
        let outcomes: Vec<_> = told.iter().map(|e| e["outcome"].as_str().unwrap()).collect();
        assert_eq!(outcomes, ["allowed", "denied"], "{what}: {told:?}");
    }
}

#[test]
fn an_upload_that_pauses_is_asked_about_anew_too() {
    let server = server();
    let root = server.root();
    let key = server.key_for("Feed", "f").key;
    let origin = Origin { address: None, request: [7; 16] };
    let credential: Credential = key.parse().unwrap();
    let caller = server.engine.sign_in(Some(&credential), &origin).unwrap();
    let about = || Circumstances::of("notes".parse().unwrap());
    let grant = server.engine.authorise::<Ingest>(&caller, &origin, about()).unwrap();
    assert_eq!(server.engine.may_go_on(&grant), Ok(()));
    root.put("/v1/entities", &feed(&[])).ok();
    assert_eq!(server.engine.may_go_on(&grant), Err(Refusal::Forbidden));
    root.put("/v1/entities", &feed(&["feed"])).ok();
    assert_eq!(server.engine.may_go_on(&grant), Ok(()));
    root.delete(&format!("/v1/callers/keys/{}", key.split('_').nth(1).unwrap())).ok();
    assert_eq!(server.engine.may_go_on(&grant), Err(Refusal::Unauthenticated));
}
