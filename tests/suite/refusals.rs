//! Every route is refused to whoever may not take it, and the refusal is in the audit log. The table below is held against `ROUTES`, and
//! `ROUTES` against the router, so that a new route without a case fails here.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use serde_json::{Value as Json, json};
use wardkeep::{
    clock::{Clock, Instant},
    engine::{Environment, Settings},
    http::ROUTES,
};

use super::harness::{Answer, Client, Server, bundle, file, lines};

/// How a route refuses.
#[derive(Clone, Copy, PartialEq)]
enum Refuses {
    /// Nobody.
    Nobody,
    /// 403.
    Forbidden,
    /// 404, since it is decided on the record.
    Absent,
}

/// One way to take a route. Whoever `may` succeeds with the very request that is refused to `may_not`.
struct Case {
    method: &'static str,
    route: &'static str,
    path: String,
    kind: &'static str,
    body: String,
    refuses: Refuses,
    may: &'static str,
    may_not: &'static [&'static str],
}

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
/// Whoever may do nothing with records or their server: a program without a role, and whoever may read the log alone.
const IDLE: &[&str] = &["idle", "auditor"];
const STAFF: &[&str] = &["idle", "auditor", "nurse", "temp", "privacy officer", "record feed"];
const NO_READER_OF_THE_LOG: &[&str] = &["idle", "nurse", "temp", "record feed"];
const NO_FEED: &[&str] = &["idle", "auditor", "nurse", "temp", "privacy officer"];

/// The sample ward with some of its records, and people of every kind.
struct Ward {
    server: Server,
    people: BTreeMap<&'static str, Client>,
    /// A key that may be revoked.
    spare_key: String,
}

impl Ward {
    fn new() -> Self {
        Self::on(Server::clinical())
    }

    fn on(server: Server) -> Self {
        let root = server.root();
        let records: Vec<String> = file("examples/ward/records.ndjson").lines().take(80).map(str::to_owned).collect();
        root.put_lines("/v1/collections/ward/records", &records.join("\n")).ok();
        root.put("/v1/entities", &json!([{"uid": {"type": "Service", "id": "idle"}, "attrs": {}, "parents": []}])).ok();
        let spare = root.post("/v1/callers", &json!({"type": "Service", "id": "retention"})).ok();
        let people = BTreeMap::from([
            ("root", server.root()),
            ("idle", server.key_for("Service", "idle")),
            ("record feed", server.key_for("Service", "record-feed")),
            ("care team feed", server.key_for("Service", "care-team-feed")),
            ("auditor", server.key_for("Auditor", "auditor")),
            ("nurse", server.key_for("Clinician", "m-nurse-000")),
            ("temp", server.key_for("Clinician", "m-temp-000")),
            ("privacy officer", server.key_for("Clinician", "m-privacy_officer-000")),
        ]);
        Self { server, people, spare_key: spare["key_id"].as_str().unwrap().to_owned() }
    }

    /// Every route at least once. What would take something away comes last, so that all of them can be carried out in order.
    fn cases(&self) -> Vec<Case> {
        let case = |method, route: &'static str, refuses, may, may_not| Case {
            method,
            route,
            path: route.to_owned(),
            kind: "",
            body: String::new(),
            refuses,
            may,
            may_not,
        };
        let at = |case: Case, path: &str| Case { path: path.to_owned(), ..case };
        let with = |case: Case, body: &Json| Case { kind: JSON, body: body.to_string(), ..case };
        let admin = |method, route| case(method, route, Refuses::Forbidden, "root", STAFF);
        let log = |method, route| case(method, route, Refuses::Forbidden, "auditor", NO_READER_OF_THE_LOG);
        let question = lines("examples/ward/queries.ndjson").remove(0);
        let search = json!({"vector_base64": question["vector_base64"], "purpose": "treatment"});
        let mut record: Json =
            serde_json::from_str(file("examples/ward/records.ndjson").lines().next().unwrap()).unwrap();
        record["id"] = json!("new-1");
        let records = json!({"records": [record.clone()]});
        record["id"] = json!("new-2");
        let team = json!([{"uid": {"type": "CareTeam", "id": "new"}, "attrs": {"patients": []}, "parents": []}]);
        let policies = bundle("policies/clinical");
        let key = format!("/v1/callers/keys/{}", self.spare_key);
        vec![
            case("GET", "/healthz", Refuses::Nobody, "idle", &[]),
            case("GET", "/readyz", Refuses::Nobody, "idle", &[]),
            case("GET", "/openapi.json", Refuses::Nobody, "idle", &[]),
            log("GET", "/metrics"),
            log("GET", "/v1/audit"),
            log("GET", "/v1/audit/checkpoint"),
            admin("GET", "/v1/collections"),
            at(admin("GET", "/v1/collections/{c}"), "/v1/collections/ward"),
            with(
                at(admin("PUT", "/v1/collections/{c}"), "/v1/collections/annex"),
                &json!({"dimension": 4, "metric": "dot"}),
            ),
            with(
                at(
                    case("PUT", "/v1/collections/{c}/records", Refuses::Forbidden, "record feed", NO_FEED),
                    "/v1/collections/ward/records",
                ),
                &records,
            ),
            Case {
                kind: LINES,
                body: record.to_string(),
                ..at(
                    case("PUT", "/v1/collections/{c}/records", Refuses::Forbidden, "record feed", NO_FEED),
                    "/v1/collections/ward/records",
                )
            },
            with(
                at(
                    case("POST", "/v1/collections/{c}/search", Refuses::Forbidden, "nurse", IDLE),
                    "/v1/collections/ward/search",
                ),
                &search,
            ),
            with(
                at(
                    case("POST", "/v1/collections/{c}/records/list", Refuses::Forbidden, "nurse", IDLE),
                    "/v1/collections/ward/records/list",
                ),
                &json!({"purpose": "treatment"}),
            ),
            at(
                case(
                    "GET",
                    "/v1/collections/{c}/records/{id}",
                    Refuses::Absent,
                    "nurse",
                    &["idle", "auditor", "temp", "root", "record feed"],
                ),
                "/v1/collections/ward/records/rec-000061?purpose=treatment",
            ),
            with(admin("PUT", "/v1/entities"), &team),
            at(admin("GET", "/v1/entities/{type}"), "/v1/entities/Patient"),
            at(admin("GET", "/v1/entities/{type}/{id}"), "/v1/entities/Patient/m-P000043"),
            admin("GET", "/v1/holds"),
            with(at(admin("PUT", "/v1/holds/{type}/{id}"), "/v1/holds/Patient/m-P000043"), &json!({})),
            at(admin("DELETE", "/v1/holds/{type}/{id}"), "/v1/holds/Patient/m-P000043"),
            admin("GET", "/v1/policies"),
            with(admin("POST", "/v1/policies/validate"), &policies),
            with(admin("PUT", "/v1/policies"), &policies),
            admin("GET", "/v1/policies/history"),
            with(admin("POST", "/v1/policies/rollback"), &json!({"version": 2})),
            with(
                case(
                    "POST",
                    "/v1/policies/explain",
                    Refuses::Forbidden,
                    "auditor",
                    &["idle", "nurse", "temp", "record feed"],
                ),
                &json!({
                    "caller": {"type": "Clinician", "id": "m-nurse-000"}, "collection": "ward", "record": "rec-000061",
                    "action": "Retrieve", "purpose": "treatment",
                }),
            ),
            with(
                admin("POST", "/v1/policies/diff"),
                &json!({"new": {"bundle": policies}, "purposes": ["treatment"], "days": 1}),
            ),
            admin("GET", "/v1/keys"),
            admin("POST", "/v1/keys/rotate"),
            admin("POST", "/v1/backup"),
            admin("POST", "/v1/backup/stream"),
            admin("POST", "/v1/escrow"),
            admin("GET", "/v1/callers"),
            with(admin("POST", "/v1/callers"), &json!({"type": "Service", "id": "record-feed"})),
            at(admin("DELETE", "/v1/callers/keys/{key_id}"), &key),
            at(admin("DELETE", "/v1/entities/{type}/{id}"), "/v1/entities/CareTeam/new"),
            with(
                at(admin("POST", "/v1/collections/{c}/erase"), "/v1/collections/ward/erase"),
                &json!({"ids": ["rec-000000"]}),
            ),
            at(admin("DELETE", "/v1/collections/{c}"), "/v1/collections/ward"),
        ]
    }

    /// All that the store holds, as far as its administrators and the privacy officer are shown it.
    fn state(&self) -> Json {
        let root = self.server.root();
        let types = [
            "Role",
            "Clinician",
            "CareTeam",
            "ServiceRole",
            "Service",
            "Administrator",
            "Auditor",
            "Patient",
            "Department",
        ];
        let others = ["System", "Collection", "Document"];
        let entities: Vec<Json> = types
            .iter()
            .chain(&others)
            .map(|ty| root.get(&format!("/v1/entities/{ty}")).ok()["entities"].take())
            .collect();
        let asked = json!({"purpose": "operations", "limit": 1000});
        let mut records = self.people["privacy officer"].post("/v1/collections/ward/records/list", &asked).ok();
        records.as_object_mut().unwrap().remove("retrieval_id");
        json!({
            "collections": root.get("/v1/collections").ok(),
            "entities": entities,
            "policies": root.get("/v1/policies").ok(),
            "callers": root.get("/v1/callers").ok(),
            "holds": root.get("/v1/holds").ok(),
            "rotation": root.get("/v1/keys").ok()["rotation"],
            "records": records,
        })
    }
}

/// Every entry of the log after number `after`.
pub(super) fn entries(root: &Client, after: u64) -> Vec<Json> {
    let (mut all, mut after) = (Vec::new(), Some(after));
    while let Some(at) = after {
        let mut page = root.get(&format!("/v1/audit?limit=1000&after={at}")).ok();
        all.append(page["entries"].as_array_mut().unwrap());
        after = page["next"].as_u64();
    }
    all
}

fn last_entry(root: &Client) -> u64 {
    entries(root, 0).last().unwrap()["sequence"].as_u64().unwrap()
}

/// What the log says of a request.
fn entries_of(all: &[Json], answer: &Answer) -> Vec<Json> {
    all.iter().filter(|e| e["trace"] == json!(answer.headers["x-request-id"])).cloned().collect()
}

const CHANGES: [&str; 9] = [
    "ingest",
    "erase",
    "put_entities",
    "remove_entity",
    "put_policies",
    "put_collection",
    "drop_collection",
    "make_key",
    "revoke_key",
];

/// Routes and methods as they stand in the router's source.
fn router() -> BTreeSet<(String, String)> {
    let source = file("src/http/mod.rs");
    for other in [".nest(", ".merge(", "route_service", "fallback", ".nest_service(", "any(", "on("] {
        assert!(!source.contains(other), "a route by `{other}` would not be seen here");
    }
    let mut rooms = vec![super::harness::root_dir().join("src/http")];
    while let Some(room) = rooms.pop() {
        for entry in std::fs::read_dir(&room).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                rooms.push(path);
            } else if !path.ends_with("http/mod.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let own = text.contains(".route(") || text.contains("Router::new");
                assert!(!own, "{} has a router of its own", path.display());
            }
        }
    }
    let mut found = BTreeSet::new();
    for line in source.lines().map(str::trim).filter(|line| line.contains(".route(")) {
        let (path, methods) = line.strip_prefix(".route(\"").and_then(|l| l.split_once("\", ")).expect(line);
        let before = found.len();
        for method in ["get", "put", "post", "delete", "patch", "head", "options", "trace", "connect"] {
            if methods.starts_with(&format!("{method}(")) || methods.contains(&format!(").{method}(")) {
                assert!(found.insert((method.to_uppercase(), path.to_owned())), "{line}");
            }
        }
        assert_eq!(found.len() - before, methods.matches("::").count(), "a handler that is not understood: {line}");
    }
    found
}

#[test]
fn every_route_of_the_router_has_an_action_and_a_refusal() {
    let routes: BTreeSet<(String, String)> =
        ROUTES.iter().map(|(m, p, _)| ((*m).to_owned(), (*p).to_owned())).collect();
    assert_eq!(routes.len(), ROUTES.len(), "a route stands twice in ROUTES");
    assert_eq!(router(), routes, "the router and ROUTES differ");
    let ward = Ward::new();
    let cases = ward.cases();
    let covered: BTreeSet<_> = cases.iter().map(|c| (c.method.to_owned(), c.route.to_owned())).collect();
    assert_eq!(covered, routes, "the cases of this module and ROUTES differ: a new route needs a case here");
    for case in &cases {
        let action = ROUTES.iter().find(|r| (r.0, r.1) == (case.method, case.route)).unwrap().2;
        assert_eq!(action == "none", case.refuses == Refuses::Nobody, "{} {}", case.method, case.route);
        assert_eq!(
            case.may_not.is_empty(),
            case.refuses == Refuses::Nobody,
            "{} {}: refused to nobody",
            case.method,
            case.route
        );
    }
}

#[test]
fn whoever_lacks_the_action_is_refused_before_the_body_is_looked_at_and_it_is_in_the_log_and_nothing_is_changed() {
    let ward = Ward::new();
    let root = ward.server.root();
    let before = ward.state();
    let start = last_entry(&root);
    let mut refused = Vec::new();
    let cases = ward.cases();
    for case in &cases {
        let expected = match case.refuses {
            Refuses::Nobody => continue,
            Refuses::Forbidden => 403,
            Refuses::Absent => 404,
        };
        // A search says in its body what it is for, and Cedar cannot be asked without: there a broken body is told first.
        let bodies: &[&str] = match case.route {
            _ if case.body.is_empty() => &[],
            "/v1/collections/{c}/search" | "/v1/collections/{c}/records/list" => {
                &[r#"{"purpose":"treatment","nonsense":1}"#]
            }
            _ => &["{{{ no JSON", "[1, 2, 3]", "\u{0}", "{\"id\":"],
        };
        for name in case.may_not {
            let client = &ward.people[name];
            for body in std::iter::once(case.body.as_str()).chain(bodies.iter().copied()) {
                let answer = client.send(case.method, &case.path, case.kind, body.as_bytes());
                let said = format!("{} {} by {name} with {:.40}: {}", case.method, case.path, body, answer.text());
                assert_eq!(answer.status, expected, "{said}");
                assert_eq!(answer.headers["content-type"], "application/problem+json", "{said}");
                assert_eq!(answer.code(), if expected == 403 { "forbidden" } else { "not_found" }, "{said}");
                refused.push((case, *name, answer));
            }
        }
    }
    // The right caller with the wrong purpose is a caller without the action.
    for case in cases.iter().filter(|c| c.route.ends_with("/search") || c.route.ends_with("/list")) {
        let body = case.body.replace("treatment", "marketing");
        let answer = ward.people["nurse"].send(case.method, &case.path, case.kind, body.as_bytes()).expect(403);
        refused.push((case, "nurse", answer));
    }
    assert!(refused.len() > 150, "{}", refused.len());

    let log = entries(&root, start);
    for (case, name, answer) in &refused {
        let told = entries_of(&log, answer);
        let said = format!("{} {} by {name}: {told:?}", case.method, case.path);
        assert_eq!(told.len(), 1, "{said}");
        assert_eq!(told[0]["outcome"], "denied", "{said}");
        assert!(told[0]["caller"]["id"].is_string() && told[0]["authentication"]["api_key"].is_string(), "{said}");
        assert!(told[0]["detail"].is_string() && told[0]["source"] == "127.0.0.1", "{said}");
        let action = told[0]["action"].as_str().expect(&said);
        let declared = ROUTES.iter().find(|r| (r.0, r.1) == (case.method, case.route)).unwrap().2;
        assert!(declared.split(", ").any(|a| a == action), "{declared}; {said}");
    }
    let changed: Vec<_> = log.iter().filter(|e| CHANGES.contains(&e["what"].as_str().unwrap_or_default())).collect();
    assert!(changed.is_empty(), "{changed:?}");
    assert_eq!(ward.state(), before, "a refused request changed something");

    // The same requests succeed for those who may: none was refused for anything but its caller.
    for case in &cases {
        let answer = ward.people[case.may].send(case.method, &case.path, case.kind, case.body.as_bytes());
        assert!(
            (200..300).contains(&answer.status),
            "{} {} by {}: {}",
            case.method,
            case.path,
            case.may,
            answer.text()
        );
        if case.kind == LINES || case.route.ends_with("/records") {
            assert_eq!(answer.json()["accepted"], 1, "{}", answer.text());
        }
    }
}

/// A clock that a test sets.
#[derive(Clone, Default)]
pub(super) struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub(super) fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        Instant::from_millis(1_800_000_000_000 + self.0.load(Ordering::SeqCst))
    }
}

/// One request as it stands on the wire.
pub(super) fn raw(url: &str, head: &str, body: &[u8]) -> Answer {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("{head}\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    answer(&mut stream)
}

/// What comes back until the connection ends.
pub(super) fn answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("an answer has a head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut head = head.split("\r\n");
    let status = head.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers =
        head.map(|line| line.split_once(": ").unwrap()).map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect();
    Answer { status, headers, bytes: bytes[end + 4..].to_vec() }
}

#[test]
fn without_a_good_credential_every_route_answers_the_same_401_whatever_else_is_wrong() {
    let clock = TestClock::default();
    let server =
        Server::with(Settings::default(), || Environment { clock: Arc::new(clock.clone()), ..Environment::default() });
    let root = server.root();
    root.put("/v1/policies", &bundle("policies/clinical")).ok();
    root.put("/v1/entities", &serde_json::from_str(&file("examples/ward/entities.json")).unwrap()).ok();
    root.put("/v1/collections/ward", &json!({"dimension": 384, "metric": "cosine"})).ok();
    let ward = Ward::on(server);
    let made = root.post("/v1/callers", &json!({"type": "Administrator", "id": "root", "expires_in": 60})).ok();
    let expired = made["api_key"].as_str().unwrap().to_owned();
    ward.server.client(&expired).get("/v1/collections").expect(200);
    clock.forward(61);
    let made = root.post("/v1/callers", &json!({"type": "Administrator", "id": "root"})).ok();
    let revoked = made["api_key"].as_str().unwrap().to_owned();
    root.delete(&format!("/v1/callers/keys/{}", made["key_id"].as_str().unwrap())).ok();
    let good = ward.server.root_key.clone();
    let last = if good.ends_with('A') { 'B' } else { 'A' };
    let (id, _) = good.strip_prefix("wk_").unwrap().split_once('_').unwrap();
    let (_, secret) = revoked.strip_prefix("wk_").unwrap().split_once('_').unwrap();
    let credentials = [
        String::new(),
        "authorization: ".to_owned(),
        "authorization: Bearer".to_owned(),
        "authorization: Bearer wk_".to_owned(),
        format!("authorization: {good}"),
        format!("authorization: Basic {good}"),
        format!("authorization: Bearer {}", &good[..good.len() - 1]),
        format!("authorization: Bearer {}{last}{last}{last}", &good[..good.len() - 3]),
        format!("authorization: Bearer wk_{id}_{secret}"),
        format!("authorization: Bearer wk_0000000000000000_{secret}"),
        format!("authorization: Bearer {revoked}"),
        format!("authorization: Bearer {expired}"),
        format!("authorization: Bearer {good}\r\nauthorization: Bearer {good}"),
        format!("authorization: Bearer {good}\r\nauthorization: Bearer {revoked}"),
        format!("authorization: Bearer {good}, Bearer {good}"),
        format!("x-api-key: {good}\r\ncookie: authorization={good}"),
    ];
    let before = ward.state();
    let start = last_entry(&root);
    ward.server.engine.write_failures(true);
    let (mut said, mut count) = (None, 0);
    let mut same = |head: String, body: &[u8]| {
        let answer = raw(&ward.server.url, &head, body).expect(401);
        count += 1;
        let comparable = answer.comparable();
        assert_eq!(said.get_or_insert_with(|| comparable.clone()), &comparable, "{head}");
    };
    let cases = ward.cases();
    for case in cases.iter().filter(|c| c.refuses != Refuses::Nobody) {
        for credential in &credentials {
            let kind = if case.kind.is_empty() { String::new() } else { format!("\r\ncontent-type: {}", case.kind) };
            let credential = if credential.is_empty() { String::new() } else { format!("\r\n{credential}") };
            same(format!("{} {} HTTP/1.1{kind}{credential}", case.method, case.path), case.body.as_bytes());
        }
        // What else is wrong with a request is not told to a stranger.
        let (path, asks) = case.path.split_once('?').unwrap_or((&case.path, ""));
        let with_key = format!("{path}?{asks}&api_key={good}&access_token={good}");
        for path in
            [with_key, format!("{path}?limit=many&nonsense=1&force=perhaps"), path.replace("ward", "No%20Such%FF")]
        {
            same(format!("{} {path} HTTP/1.1", case.method), b"{{{");
        }
    }
    let (status, text, headers) = said.unwrap();
    assert_eq!((status, headers["www-authenticate"].as_str()), (401, "Bearer realm=\"wardkeep\""));
    assert_eq!(serde_json::from_str::<Json>(&text).unwrap()["code"], "unauthenticated");
    assert_eq!(ward.state(), before);

    // They are summed, not listed.
    ward.server.engine.write_failures(true);
    let summed: u64 =
        entries(&root, start).iter().filter_map(|e| e["what"]["sign_in_failures"]["count"].as_u64()).sum();
    assert_eq!(summed, count);
    raw(&ward.server.url, &format!("GET /v1/collections HTTP/1.1\r\nAuthorization: bearer {good}"), b"").expect(200);
}

#[test]
fn a_head_request_is_authorised_like_the_get_that_it_stands_for() {
    let ward = Ward::new();
    let cases = ward.cases();
    for case in cases.iter().filter(|c| c.method == "GET" && c.refuses != Refuses::Nobody) {
        assert_eq!(ward.server.nobody().send("HEAD", &case.path, "", &[]).status, 401, "{}", case.path);
        let answer = ward.people["idle"].send("HEAD", &case.path, "", &[]);
        assert_eq!(answer.status, if case.refuses == Refuses::Absent { 404 } else { 403 }, "{}", case.path);
        assert!(answer.bytes.is_empty());
    }
}

#[test]
fn what_is_permitted_and_comes_to_nothing_is_in_the_log_before_its_counts_are_told() {
    let ward = Ward::new();
    let root = ward.server.root();
    let start = last_entry(&root);
    let narrow = file("policies/clinical/wardkeep.cedarschema").replace("  source: String,\n", "");
    let mut policies = bundle("policies/clinical");
    policies["schema"] = json!(narrow);
    let search = json!({"vector": [1.0, 2.0], "purpose": "treatment"});
    let answers = [
        (root.put("/v1/policies", &policies).expect(409), "put_policies", "stored_data_invalid"),
        (
            root.send("PUT", "/v1/policies", JSON, br#"{"schema":"entity","policies":""}"#).expect(422),
            "put_policies",
            "missing_type",
        ),
        (root.delete("/v1/entities/Role/nurse").expect(409), "remove_entity", "referred_to"),
        (root.delete("/v1/entities/Role/none").expect(404), "remove_entity", "not_found"),
        (
            root.put("/v1/entities", &json!([{"uid": {"type": "Nobody", "id": "x"}}])).expect(422),
            "put_entities",
            "unknown_type",
        ),
        (
            root.put("/v1/collections/ward", &json!({"dimension": 4, "metric": "dot"})).expect(409),
            "put_collection",
            "collection_differs",
        ),
        (root.delete("/v1/collections/none").expect(404), "drop_collection", "not_found"),
        (root.post("/v1/collections/none/erase", &json!({"ids": ["x"]})).expect(404), "erase", "not_found"),
        (root.delete("/v1/callers/keys/0011223344556677").expect(404), "revoke_key", "not_found"),
        (root.post("/v1/callers", &json!({"type": "Role", "id": "nurse"})).expect(422), "make_key", "type"),
        (root.put("/v1/collections/none/records", &json!({"records": []})).expect(404), "ingest", "not_found"),
        (
            root.put("/v1/collections/ward/records", &json!({"records": [{"id": 1}]})).expect(422),
            "ingest",
            "wrong_type",
        ),
        (ward.people["nurse"].search("ward", &search).expect(422), "search", "vector"),
        (ward.people["nurse"].search("none", &search).expect(404), "search", "not_found"),
    ];
    root.get("/metrics").ok_text();
    let log = entries(&root, start);
    for (answer, what, detail) in &answers {
        let told = entries_of(&log, answer);
        assert_eq!(told.len(), 1, "{what} {detail}: {}", answer.text());
        assert_eq!(told[0]["what"], *what, "{told:?}");
        assert_eq!(told[0]["outcome"], "invalid", "{told:?}");
        assert!(*detail == "missing_type" || told[0]["detail"] == *detail, "{told:?}");
    }
    assert!(log.iter().any(|e| e["detail"] == "metrics" && e["what"] == "read_audit"));
}

impl Answer {
    /// A success, whatever its body.
    #[track_caller]
    fn ok_text(self) -> String {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.text());
        self.text()
    }
}
