//! Answers that leave on time: never before their departure, whatever they say, and never lost because the server ends meanwhile. That
//! they are not late is for the timing probe to measure.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Command, Output},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value as Json;
use tempfile::TempDir;
use wardkeep::{
    engine::{Environment, Settings},
    http::Timetable,
    model::limits,
};

use super::{
    harness::{Client, Server, bundle},
    plain,
};

const SPAN: Duration = Duration::from_millis(40);

/// A server whose answers leave every `span`.
fn serve(span: Duration) -> Server {
    let home = Arc::new(TempDir::new().unwrap());
    let dir = home.path().join("data");
    let key = plain::found(&dir);
    let timetable = Timetable::every(span).unwrap();
    let on_time = |running: wardkeep::http::Running| running.leaving_by(timetable);
    Server::open_with(home, &dir, &key, Settings::default(), Environment::default(), on_time)
}

/// A request, and how long its answer took at least until it was all there.
#[track_caller]
fn timed(client: &Client, status: u16, method: &str, path: &str, body: &str) {
    let kind = if body.is_empty() { "" } else { "application/json" };
    let began = Instant::now();
    client.send(method, path, kind, body.as_bytes()).expect(status);
    let took = began.elapsed();
    assert!(took >= SPAN, "{method} {path}: {status} after {took:?}");
}

#[test]
fn no_answer_to_a_credential_leaves_before_its_time_be_it_a_refusal_or_an_error() {
    let server = serve(SPAN);
    let root = server.root();
    root.put("/v1/policies", &bundle("policies/clinical")).ok();
    let (nobody, stranger) = (server.nobody(), server.client("wk_none"));
    timed(&root, 200, "PUT", "/v1/collections/ward", r#"{"dimension":2,"metric":"cosine"}"#);
    timed(&root, 200, "GET", "/v1/collections", "");
    timed(&root, 200, "GET", "/metrics", "");
    timed(&root, 403, "POST", "/v1/collections/ward/search", r#"{"vector":[1,0],"purpose":"treatment"}"#);
    timed(&root, 404, "GET", "/v1/collections/ward/records/none?purpose=treatment", "");
    timed(&root, 422, "GET", "/v1/collections/ward/records/none", "");
    timed(&root, 400, "PUT", "/v1/entities", "[");
    timed(&root, 405, "POST", "/v1/collections/ward/records/none", "");
    timed(&root, 404, "GET", "/v1/nowhere", "");
    for client in [&nobody, &stranger] {
        timed(client, 401, "POST", "/v1/collections/ward/search", r#"{"vector":[1,0],"purpose":"treatment"}"#);
        timed(client, 401, "GET", "/v1/collections/ward/records/none?purpose=treatment", "");
        timed(client, 401, "GET", "/v1/audit", "");
    }
    for open in ["/healthz", "/readyz", "/openapi.json"] {
        nobody.get(open).expect(200);
    }
}

#[test]
fn an_answer_that_waits_for_its_time_is_given_although_the_server_ends() {
    let span = Duration::from_millis(300);
    let mut server = serve(span);
    let mut stream = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    let body = r#"{"dimension":2,"metric":"cosine"}"#;
    let began = Instant::now();
    write!(
        stream,
        "PUT /v1/collections/ward HTTP/1.1\r\nhost: wardkeep\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
        server.root_key,
        body.len()
    )
    .unwrap();
    // it is under way once the server asks for its body
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut said = String::new();
    reader.read_line(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 100"), "{said}");
    stream.write_all(body.as_bytes()).unwrap();
    let ending = std::thread::spawn(move || {
        server.stop();
        server
    });
    let mut answer = String::new();
    reader.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("HTTP/1.1 200"), "{answer}");
    assert!(began.elapsed() >= span);
    // what it said is so
    let kept = ending.join().unwrap().restart();
    kept.root().get("/v1/collections/ward").expect(200);
}

fn wardkeep(arguments: &[&str], every_ms: Option<u64>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wardkeep"));
    command.args(arguments).env("WARDKEEP_PASSPHRASE", "correct horse battery staple").env_remove("WARDKEEP_CONFIG");
    command.envs(every_ms.map(|ms| ("WARDKEEP_ANSWERS_EVERY_MS", ms.to_string())));
    command.output().unwrap()
}

#[test]
fn a_server_is_not_started_on_a_span_beyond_the_bound_and_says_what_to_mend() {
    let home = TempDir::new().unwrap();
    let nowhere = home.path().join("nowhere");
    let serve = |ms| wardkeep(&["serve", "--data", nowhere.to_str().unwrap()], Some(ms));
    let most = limits::ANSWERS_EVERY_MS;
    let beyond = serve(most + 1);
    let told = String::from_utf8(beyond.stderr).unwrap();
    assert_eq!(beyond.status.code(), Some(2), "{told}");
    assert!(told.contains("`server.answers_every_ms`") && told.contains(&format!("at most {most}")), "{told}");
    // at the bound it goes on, to find that there is no store
    assert_eq!(serve(most).status.code(), Some(1));
    let beyond = wardkeep(&["leaktest", "--answers-every-ms", &(most + 1).to_string()], None);
    assert_eq!(beyond.status.code(), Some(2));
}

#[test]
fn the_leakage_test_hands_the_span_to_its_servers_and_says_so() {
    let home = TempDir::new().unwrap();
    let report = home.path().join("report.json");
    let run = |more: &[&str]| {
        let usual =
            ["leaktest", "--hospital", "60", "--only", "timing", "--restarts", "1", "--questions", "3", "--json"];
        let arguments: Vec<&str> =
            usual.into_iter().chain([report.to_str().unwrap()]).chain(more.iter().copied()).collect();
        // the environment's own setting is not that of throw-away servers
        let output = wardkeep(&arguments, Some(7));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let report: Json =
            serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap_or_else(|e| panic!("{e}: {told}"));
        (report["target"]["place"].as_str().unwrap().to_owned(), report["command"].as_str().unwrap().to_owned(), report)
    };
    let (place, command, _) = run(&[]);
    assert!(place.ends_with("answers leave as soon as they are ready"), "{place}");
    assert!(!command.contains("answers-every"), "{command}");
    let (place, command, report) = run(&["--answers-every-ms", "9"]);
    assert!(place.ends_with("answers leave every 9 ms"), "{place}");
    assert!(command.contains("--answers-every-ms 9 ") && command.contains("--questions 3 "), "{command}");
    let figures = report["probes"][0]["figures"].as_array().unwrap();
    let median = figures.iter().find(|f| f["name"].as_str().unwrap().ends_with("median of an answer")).unwrap();
    let micros: Vec<f64> = median["value"].as_str().unwrap().split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(micros.len() == 2 && micros.iter().all(|us| *us >= 9_000.0), "{median}");
}
