//! `GET /openapi.json` is what the server does. Every answer that any module of this suite gets through `Client` is held against it (and
//! every body that was accepted); what is shown as an example is sent; and no refusal has a code that is not told of.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Arc, LazyLock, Mutex},
};

use jsonschema::Validator;
use serde_json::{Map, Value as Json, json};
use wardkeep::http::{ROUTES, description};

use super::harness::{Answer, Client, Server, file, root_dir};

static DESCRIPTION: LazyLock<Json> = LazyLock::new(description);

/// The same with every object of an answer closed, so that a name that is not described is found.
static COMPONENTS: LazyLock<Json> = LazyLock::new(|| {
    let mut components = json!({"schemas": DESCRIPTION["components"]["schemas"]});
    close(&mut components);
    components
});

fn close(json: &mut Json) {
    match json {
        Json::Array(items) => items.iter_mut().for_each(close),
        Json::Object(fields) => {
            if fields.contains_key("properties") && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".into(), json!(false));
            }
            fields.values_mut().for_each(close);
        }
        _ => {}
    }
}

/// What validates against a schema of the description.
fn validator(schema: &Json) -> Arc<Validator> {
    static MADE: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);
    let made = |name: &String| MADE.lock().unwrap().get(name).cloned();
    let name = schema.to_string();
    made(&name).unwrap_or_else(|| {
        let mut whole = schema.clone();
        whole["components"] = COMPONENTS.clone();
        let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).should_validate_formats(true);
        let validator = Arc::new(options.build(&whole).unwrap_or_else(|e| panic!("{e}: {name}")));
        MADE.lock().unwrap().insert(name, Arc::clone(&validator));
        validator
    })
}

#[track_caller]
fn validate(schema: &Json, json: &Json, what: &str) {
    let faults: Vec<_> =
        validator(schema).iter_errors(json).map(|e| format!("{} at {}", e, e.instance_path())).take(5).collect();
    assert!(faults.is_empty(), "{what} is not as it is described: {faults:#?}\n{:.3000}", json.to_string());
}

/// The route that answers a request: of those that fit, the one with the fewest names in its path.
fn route(method: &str, path: &str) -> Option<&'static str> {
    let method = if method == "HEAD" { "GET" } else { method };
    let sent: Vec<&str> = path.split(['?', '#']).next().unwrap().split('/').collect();
    let fits = |route: &&str| {
        let parts: Vec<&str> = route.split('/').collect();
        parts.len() == sent.len()
            && parts.iter().zip(&sent).all(|(part, sent)| part == sent || part.starts_with('{') && !sent.is_empty())
    };
    let mut found: Vec<_> =
        ROUTES.iter().filter(|(m, ..)| *m == method).map(|(_, path, _)| *path).filter(fits).collect();
    found.sort_by_key(|route| route.matches('{').count());
    found.first().copied()
}

/// Holds one request and its answer against the description.
#[track_caller]
pub fn hold(method: &str, path: &str, kind: &str, body: &[u8], answer: &Answer) {
    if !answer.headers.contains_key("x-request-id") {
        return; // another server's
    }
    let what = format!("{method} {path:.200}: {}", answer.status);
    let kind_of_answer = answer.headers.get("content-type").map(String::as_str).unwrap_or_default();
    let Some(route) = route(method, path) else {
        let codes = ["not_found", "method_not_allowed", "malformed_request"];
        assert!(method == "HEAD" || codes.contains(&answer.code().as_str()), "{what}: {}", answer.text());
        return;
    };
    let operation = &DESCRIPTION["paths"][route][method.replace("HEAD", "GET").to_lowercase()];
    let told = &operation["responses"][answer.status.to_string()];
    assert!(told.is_object(), "{what} is not described: {:.500}", answer.text());
    let content = &told["content"][kind_of_answer];
    assert!(content.is_object(), "{what}: its type `{kind_of_answer}` is not described");
    if method != "HEAD" && kind_of_answer.contains("json") && route != "/openapi.json" {
        validate(&content["schema"], &answer.json(), &what);
    }
    if answer.status == 200 {
        accepted(operation, path, kind, body, &answer.bytes, &what);
    }
}

/// What was accepted must be described as acceptable.
#[track_caller]
fn accepted(operation: &Json, path: &str, kind: &str, body: &[u8], answer: &[u8], what: &str) {
    let parameters = operation["parameters"].as_array().unwrap();
    for name in path.split_once('?').map(|(_, query)| query.split('&')).into_iter().flatten() {
        let name = name.split('=').next().unwrap();
        assert!(
            name.is_empty() || parameters.iter().any(|p| p["in"] == "query" && p["name"] == name),
            "{what}: `{name}` is not described"
        );
    }
    let takes = &operation["requestBody"]["content"];
    if takes.is_object() && (kind.is_empty() || kind.starts_with("application/json")) {
        validate(
            &takes["application/json"]["schema"],
            &serde_json::from_slice(body).unwrap(),
            &format!("the body of {what}"),
        );
    }
    let all_taken = || serde_json::from_slice::<Json>(answer).unwrap()["rejected_count"] == 0;
    if takes["application/x-ndjson"].is_object() && kind.starts_with("application/x-ndjson") && all_taken() {
        for line in body.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty()).take(20) {
            let record = json!({"$ref": "#/components/schemas/NewRecord"});
            validate(&record, &serde_json::from_slice(line).unwrap(), &format!("a line of {what}"));
        }
    }
}

/// Every operation of the description with its method and path.
fn operations() -> Vec<(String, String, &'static Json)> {
    let paths = DESCRIPTION["paths"].as_object().unwrap();
    let of = |(path, methods): (&String, &'static Json)| {
        methods
            .as_object()
            .unwrap()
            .iter()
            .map(|(method, told)| (method.to_uppercase(), path.clone(), told))
            .collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

#[test]
fn every_route_is_described_with_its_actions_and_no_other() {
    let told: BTreeSet<_> = operations()
        .into_iter()
        .map(|(method, path, told)| {
            let actions: Vec<&str> =
                told["x-wardkeep-actions"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
            assert_eq!(told["security"] == json!([]), actions.is_empty(), "{method} {path}");
            (method, path, if actions.is_empty() { "none".to_owned() } else { actions.join(", ") })
        })
        .collect();
    let routes: BTreeSet<_> =
        ROUTES.iter().map(|(m, p, a)| ((*m).to_owned(), (*p).to_owned(), (*a).to_owned())).collect();
    assert_eq!(told, routes);
    let names: BTreeSet<_> = operations().iter().map(|(_, _, told)| told["operationId"].to_string()).collect();
    assert_eq!(names.len(), ROUTES.len(), "an operationId stands twice");
}

#[test]
fn everybody_gets_the_same_bytes_always() {
    let server = Server::new();
    let answers = [
        server.nobody().get("/openapi.json"),
        server.root().get("/openapi.json"),
        server.client("wk_x").get("/openapi.json"),
    ];
    for answer in &answers {
        assert_eq!((answer.status, answer.headers["content-type"].as_str()), (200, "application/json"));
        assert_eq!(answer.bytes, answers[0].bytes);
    }
    let other = Server::new();
    assert_eq!(other.nobody().get("/openapi.json").bytes, answers[0].bytes);
    assert_eq!(answers[0].json(), *DESCRIPTION);
}

#[test]
fn it_is_openapi() {
    let meta: Json = serde_json::from_str(&file("tests/fixtures/openapi-3.1.json")).unwrap();
    let meta = jsonschema::options().build(&meta).unwrap();
    let faults: Vec<_> = meta.iter_errors(&DESCRIPTION).map(|e| format!("{e} at {}", e.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    for (name, schema) in DESCRIPTION["components"]["schemas"].as_object().unwrap() {
        assert!(jsonschema::draft202012::meta::is_valid(schema), "{name} is no schema");
        validator(&json!({"$ref": format!("#/components/schemas/{name}")}));
    }
}

#[test]
fn every_shape_is_used_and_every_reference_leads_somewhere() {
    fn references(json: &Json, found: &mut BTreeSet<String>) {
        match json {
            Json::Array(items) => items.iter().for_each(|item| references(item, found)),
            Json::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Json::as_str).map(str::to_owned));
                fields.values().for_each(|value| references(value, found));
            }
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    references(&DESCRIPTION, &mut found);
    for reference in &found {
        assert!(DESCRIPTION.pointer(&reference[1..]).is_some(), "{reference}");
    }
    for name in DESCRIPTION["components"]["schemas"].as_object().unwrap().keys() {
        let used = found.contains(&format!("#/components/schemas/{name}"));
        assert!(used || name == "NewRecord", "{name} is used nowhere");
    }
}

/// Where refusals of routes are made.
const ROOMS: [&str; 5] = ["http", "engine", "policy", "store", "authn"];
/// What stands before a code.
const BEFORE: [&str; 10] = [
    "Fault::new(",
    "invalid(",
    "conflict(",
    "Problem::new(",
    "Self::new(",
    "bounded(",
    "label(",
    "time(",
    "code: ",
    "LEGAL_HOLD: &str = ",
];
/// Verbs that need no server refuse with these; no route does.
const OFFLINE: [&str; 3] = ["key_provider", "ledger_unfit", "escrow_unfit"];

/// Codes as they stand in the source.
fn codes(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            codes(&path, found);
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.ends_with(".rs") || name.contains("tests") || path.to_str().unwrap().contains("http/openapi") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for before in BEFORE {
            for (at, _) in text.match_indices(before) {
                let mut rest = text[at + before.len()..].trim_start();
                if rest.starts_with("StatusCode::") || rest.starts_with("status, ") {
                    rest = rest.split_once(',').unwrap().1.trim_start();
                }
                found.extend(literal(rest));
            }
        }
        for prefix in ["\"filter_", "\"backup_", "\"ledger_unfit", "\"escrow_unfit"] {
            found.extend(text.match_indices(prefix).filter_map(|(at, _)| literal(&text[at..])));
        }
    }
}

/// A code at the beginning of a text.
fn literal(text: &str) -> Option<String> {
    let word = text.strip_prefix('"')?.split('"').next()?;
    (!word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')).then(|| word.to_owned())
}

#[test]
fn every_code_in_the_source_is_described_and_no_other() {
    let mut found = BTreeSet::new();
    ROOMS.iter().for_each(|room| codes(&root_dir().join("src").join(room), &mut found));
    found.extend(wardkeep::policy::Code::ALL.iter().map(|code| code.name().to_owned()));
    for offline in OFFLINE {
        assert!(found.remove(offline), "{offline} is gone");
    }
    let told = &DESCRIPTION["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
    let told: BTreeSet<String> = told.as_array().unwrap().iter().map(|c| c.as_str().unwrap().to_owned()).collect();
    assert_eq!(told, found);
}

#[test]
fn examples_of_answers_are_as_they_are_described() {
    let mut count = 0;
    for (method, path, told) in operations() {
        for (status, response) in told["responses"].as_object().unwrap() {
            for content in response["content"].as_object().into_iter().flat_map(Map::values) {
                if let Some(example) = content.get("example") {
                    validate(&content["schema"], example, &format!("the example of {method} {path}: {status}"));
                    count += 1;
                }
            }
        }
    }
    assert!(count > 5, "{count}");
}

/// A path with the examples of its parameters.
fn filled(path: &str, told: &Json) -> String {
    let parameters = told["parameters"].as_array().unwrap().iter().filter(|p| p["in"] == "path");
    parameters.fold(path.to_owned(), |path, parameter| {
        path.replace(&format!("{{{}}}", parameter["name"].as_str().unwrap()), parameter["example"].as_str().unwrap())
    })
}

/// Sends every example of a body of one operation; whoever may send it first does.
fn send_examples(people: &[Client], method: &str, path: &str, told: &Json) -> usize {
    let mut bodies = Vec::new();
    for (kind, content) in told["requestBody"]["content"].as_object().into_iter().flatten() {
        let examples = content["examples"].as_object().into_iter().flat_map(Map::values);
        bodies.extend(examples.map(|example| (kind, example["value"].to_string())));
        bodies.extend(content["example"].as_str().map(|example| (kind, example.to_owned())));
    }
    for (kind, body) in &bodies {
        let send = |client: &Client| client.send(method, &filled(path, told), kind, body.as_bytes());
        let answer = people.iter().map(send).find(|answer| answer.status != 403).unwrap();
        let answer = answer.expect(200);
        assert!(!path.ends_with("/records") || answer.json()["accepted"] == 2, "{}", answer.text());
    }
    bodies.len()
}

#[test]
fn what_is_shown_as_a_request_is_accepted() {
    let (ward, fresh) = (Server::clinical(), Server::new());
    let staff = [
        ward.root(),
        ward.key_for("Service", "record-feed"),
        ward.key_for("Clinician", "m-nurse-000"),
        ward.key_for("Auditor", "auditor"),
    ];
    let (root, mut sent) = ([fresh.root()], BTreeMap::new());
    let on_fresh = |path: &str| path == "/v1/policies" || path.ends_with("/rollback");
    let erases = |path: &str| path.ends_with("/erase");
    for (method, path, told) in operations().iter().filter(|(_, path, _)| !erases(path)) {
        let people = if on_fresh(path) { &root[..] } else { &staff[..] };
        sent.insert((method.clone(), path.clone()), send_examples(people, method, path, told));
    }
    ward.root().delete("/v1/holds/Patient/m-P000043").ok();
    for (method, path, told) in operations().iter().filter(|(_, path, _)| erases(path)) {
        sent.insert((method.clone(), path.clone()), send_examples(&staff, method, path, told));
    }
    for (method, path, told) in operations() {
        let count = sent[&(method.clone(), path.clone())];
        assert_eq!(count > 0, told.get("requestBody").is_some(), "{method} {path} has a body without an example");
    }
}
