//! NDJSON: commits of at most 1,000 lines, each whole or absent, what was rejected and why, broken connections, flat memory; and the
//! JSON body, which is all or nothing. `WARDKEEP_TESTS=full` uploads 100,000 records of 384 dimensions instead of 60,000 of 128.

use std::{
    collections::BTreeSet,
    io::Write,
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value as Json, json};
use wardkeep::model::limits;

use super::{
    bad_input::{Process, receive},
    harness::Answer,
};

const RECORDS: &str = "/v1/collections/c/records";

/// An upload under way, piece by piece.
struct Upload {
    stream: TcpStream,
    chunked: bool,
}

impl Upload {
    /// In chunks, or announced as `length` bytes.
    fn begin(process: &Process, key: &str, path: &str, length: Option<usize>) -> Self {
        let mut stream = TcpStream::connect(&process.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let framing = match length {
            Some(length) => format!("content-length: {length}"),
            None => "transfer-encoding: chunked".to_owned(),
        };
        write!(
            stream,
            "PUT {path} HTTP/1.1\r\nhost: wardkeep\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
             content-type: application/x-ndjson\r\n{framing}\r\n\r\n"
        )
        .unwrap();
        Self { stream, chunked: length.is_none() }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.chunked {
            write!(self.stream, "{:x}\r\n", bytes.len())?;
            self.stream.write_all(bytes)?;
            return self.stream.write_all(b"\r\n");
        }
        self.stream.write_all(bytes)
    }

    fn end(mut self) -> Answer {
        if self.chunked {
            let _ = self.stream.write_all(b"0\r\n\r\n");
        }
        receive(&mut self.stream).expect("an answer")
    }

    /// Ends in the middle of the body, and waits until the server has let go of the connection.
    fn break_off(mut self) -> Option<Answer> {
        self.stream.shutdown(Shutdown::Write).unwrap();
        receive(&mut self.stream)
    }
}

fn line(id: &str) -> String {
    json!({"id": id, "document": "d", "vector": [1, 0], "text": "a text", "attributes": {"kind": "note"}}).to_string()
}

fn lines(from: usize, to: usize) -> String {
    (from..to).map(|n| line(&format!("r{n:06}")) + "\n").collect()
}

fn count(process: &Process) -> u64 {
    process.client.get("/v1/collections/c").ok()["records"].as_u64().unwrap()
}

fn ids(process: &Process) -> Vec<String> {
    let listed = process.client.post("/v1/collections/c/records/list", &json!({"purpose": "x", "limit": 1_000}));
    listed.expect(200).ids()
}

/// Asks until it is so.
fn wait(mut so: impl FnMut() -> bool) {
    assert!((0..100_000).any(|_| so()), "it does not come about");
}

/// How many lines each commit so far had, from the audit log.
fn commits(process: &Process) -> Vec<u64> {
    let entries = process.client.get("/v1/audit?action=Ingest&limit=1000").ok();
    let written = entries["entries"].as_array().unwrap().iter().filter(|e| e["outcome"] == "allowed");
    written.map(|e| e["counts"]["returned"].as_u64().unwrap()).collect()
}

fn rejected(answer: &Json) -> Vec<(u64, String)> {
    let faults = answer["rejected"].as_array().unwrap().iter();
    faults.map(|f| (f["line"].as_u64().unwrap(), f["code"].as_str().unwrap().to_owned())).collect()
}

/// One body with everything that a line can be, and what must come of it.
fn mixed() -> (Vec<u8>, Vec<&'static str>, Vec<(u64, &'static str)>) {
    let mut body = Vec::new();
    let mut add = |bytes: &[u8]| body.extend_from_slice(bytes);
    add(line("one").as_bytes());
    add(b"\r\n\r\n   \t\n"); // 1 with CRLF, 2 and 3 blank
    add(b"{broken\n"); // 4
    add(line("two").as_bytes());
    add(b"\n{\"id\": \"\xff\xfe\"}\n"); // 5, and 6 that is not UTF-8
    add(line("three").replace("[1,0]", "[1,0,0]").as_bytes());
    add(b"\n"); // 7
    add(&vec![b'x'; limits::LINE_BYTES + 1]);
    add(b"\n"); // 8
    add(line("two").as_bytes());
    add(b"\n"); // 9: twice in one commit
    add(line("").as_bytes());
    add(b"\n\n"); // 10, and 11 blank
    add(line("four \u{1f600}").as_bytes()); // 12, without an end
    let faults = vec![
        (4, "malformed_json"),
        (6, "malformed_json"),
        (7, "vector"),
        (8, "line_too_long"),
        (9, "duplicate_id"),
        (10, "id"),
    ];
    (body, vec!["four \u{1f600}", "one", "two"], faults)
}

fn hold_mixed(process: &Process, answer: &Json) {
    let (_, accepted, faults) = mixed();
    let faults: Vec<_> = faults.into_iter().map(|(line, code)| (line, code.to_owned())).collect();
    assert_eq!(rejected(answer), faults, "{answer}");
    assert_eq!(answer["accepted"], 3);
    assert_eq!(answer["rejected_count"], 6);
    assert_eq!(answer["rejected"][2]["id"], "three");
    assert!(answer["rejected"][2]["detail"].as_str().unwrap().contains("takes 2"));
    assert_eq!(ids(process), accepted);
}

#[test]
fn what_is_rejected_is_named_by_its_line_and_the_rest_is_taken() {
    let process = Process::with_bundle();
    let (body, ..) = mixed();
    hold_mixed(&process, &process.client.send("PUT", RECORDS, "application/x-ndjson", &body).ok());
}

#[test]
fn a_line_may_come_in_any_pieces() {
    let process = Process::with_bundle();
    let (body, ..) = mixed();
    let mut upload = Upload::begin(&process, &process.client.key, RECORDS, None);
    // single bytes around everything but the very long line, which goes in large pieces
    let mut rest = &body[..];
    let mut size = 1;
    while !rest.is_empty() {
        let long = rest.len() > 1_000 && rest[..1_000].iter().all(|b| *b == b'x');
        let take = if long { 1_000 } else { size }.min(rest.len());
        upload.send(&rest[..take]);
        rest = &rest[take..];
        size = size % 7 + 1;
    }
    hold_mixed(&process, &upload.end().ok());
}

#[test]
fn commits_hold_at_most_a_thousand_lines_and_sending_again_is_harmless() {
    let process = Process::with_bundle();
    let body = lines(0, limits::COMMIT_LINES * 2 + 1);
    let answer = process.client.put_lines(RECORDS, &body).ok();
    assert_eq!((answer["accepted"].as_u64(), answer["rejected_count"].as_u64()), (Some(2_001), Some(0)));
    assert_eq!(commits(&process), [1_000, 1_000, 1]);
    let before = ids(&process);
    assert_eq!(process.client.put_lines(RECORDS, &body).ok()["accepted"], 2_001);
    assert_eq!((count(&process), ids(&process)), (2_001, before));
    let created = process.client.put_lines(&format!("{RECORDS}?mode=create"), &(body + &line("new"))).ok();
    assert_eq!(created["accepted"], 1);
    assert_eq!(created["rejected_count"], 2_001);
    // as many are named as the bound says, the first ones
    let named = rejected(&created);
    assert_eq!(named.len(), limits::REJECTED_NAMED);
    assert!(named.iter().enumerate().all(|(at, (line, code))| *line == at as u64 + 1 && code == "exists"));
    assert_eq!(count(&process), 2_002);
    // exactly a full commit leaves no empty one behind
    process.client.put_lines(RECORDS, &lines(0, limits::COMMIT_LINES)).ok();
    assert_eq!(commits(&process), [1_000, 1_000, 1, 1_000, 1_000, 1, 1, 1_000]);
}

#[test]
fn a_commit_ends_early_where_its_lines_are_long() {
    let process = Process::with_bundle();
    let long = |n: usize| line(&format!("r{n}")).replace("a text", &"x".repeat(limits::TEXT_BYTES)) + "\n";
    let body: String = (0..18).map(long).collect();
    assert_eq!(process.client.put_lines(RECORDS, &body).ok()["accepted"], 18);
    assert_eq!(limits::COMMIT_BYTES / limits::TEXT_BYTES, 16);
    assert_eq!(commits(&process), [16, 2]);
}

#[test]
fn a_line_at_the_bound_is_taken_and_one_without_an_end_costs_no_memory() {
    let process = Process::with_bundle();
    let fits = format!("{}{}", line("fits"), " ".repeat(limits::LINE_BYTES - line("fits").len()));
    assert_eq!(fits.len(), limits::LINE_BYTES);
    let answer = process.client.put_lines(RECORDS, &format!("{fits}\n{fits} \n{}", line("next"))).ok();
    assert_eq!((rejected(&answer), answer["accepted"].as_u64()), (vec![(2, "line_too_long".to_owned())], Some(2)));
    let before = process.memory_kib("VmHWM");
    let mut upload = Upload::begin(&process, &process.client.key, RECORDS, None);
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..200 {
        upload.send(&piece);
    }
    upload.send(format!("\n{}", line("after")).as_bytes());
    let answer = upload.end().ok();
    assert_eq!((rejected(&answer), answer["accepted"].as_u64()), (vec![(1, "line_too_long".to_owned())], Some(1)));
    let most = process.memory_kib("VmHWM");
    assert!(most < before + (16 << 10), "{before} KiB before a line of 200 MiB, {most} KiB at most");
}

#[test]
fn rejected_lines_with_huge_ids_and_names_are_not_kept() {
    let process = Process::with_bundle();
    let before = process.memory_kib("VmHWM");
    let mut upload = Upload::begin(&process, &process.client.key, RECORDS, None);
    let huge = "x".repeat(1 << 20);
    for n in 0..120 {
        match n % 2 {
            0 => upload.send(format!("{}\n", line(&huge)).as_bytes()),
            _ => upload.send(format!("{{\"{huge}\": 1}}\n").as_bytes()),
        }
    }
    let answer = upload.end();
    assert!(answer.bytes.len() < 64 << 10, "{} bytes of answer", answer.bytes.len());
    assert_eq!(answer.ok()["rejected_count"], 120);
    let most = process.memory_kib("VmHWM");
    // a commit of such lines is at most 16 MiB as sent, and some copies of it
    assert!(most < before + (120 << 10), "{before} KiB before, {most} KiB at most");
}

/// Sends `whole` full commits and a part of the next, breaks off, and says what the server then holds.
fn broken(length: Option<usize>) {
    let process = Process::with_bundle();
    let body = lines(0, 2_300) + r#"{"id": "half","#;
    let mut upload = Upload::begin(&process, &process.client.key, RECORDS, length);
    upload.send(body.as_bytes());
    // what a reader sees on the way is whole commits only
    let mut seen = BTreeSet::new();
    wait(|| {
        seen.insert(count(&process));
        seen.contains(&2_000)
    });
    if let Some(answer) = upload.break_off() {
        assert_eq!((answer.status, answer.code().as_str()), (400, "body_broken"));
        assert_eq!(answer.json()["accepted"], 2_000);
    }
    seen.insert(count(&process));
    assert!(seen.is_subset(&BTreeSet::from([0, 1_000, 2_000])), "{seen:?}");
    assert_eq!(commits(&process), [1_000, 1_000]);
    let again = process.client.put_lines(RECORDS, &lines(0, 2_300)).ok();
    assert_eq!(again["accepted"], 2_300);
    assert_eq!(count(&process), 2_300);
}

#[test]
fn a_broken_connection_keeps_what_was_committed_when_chunks_stop() {
    broken(None);
}

#[test]
fn a_broken_connection_keeps_what_was_committed_when_a_length_is_not_reached() {
    broken(Some(10_000_000));
}

#[test]
fn a_stream_whose_key_is_revoked_ends_at_its_next_commit() {
    let process = Process::with_bundle();
    let made = process.client.post("/v1/callers", &json!({"type": "Administrator", "id": "root"})).ok();
    let mut upload = Upload::begin(&process, made["api_key"].as_str().unwrap(), RECORDS, None);
    upload.send(lines(0, 1_000).as_bytes());
    wait(|| count(&process) == 1_000);
    process.client.delete(&format!("/v1/callers/keys/{}", made["key_id"].as_str().unwrap())).ok();
    let _ = upload.try_send(lines(1_000, 2_000).as_bytes());
    let answer = upload.end();
    assert_eq!((answer.status, answer.json()["accepted"].as_u64()), (401, Some(1_000)), "{}", answer.text());
    assert_eq!(count(&process), 1_000);
}

#[test]
fn a_json_body_is_all_or_nothing_and_names_every_fault() {
    let process = Process::with_bundle();
    let record = |text: String| serde_json::from_str::<Json>(&text).unwrap();
    let mut records: Vec<Json> = (0..20).map(|n| record(line(&format!("r{n}")))).collect();
    records[2]["vector"] = json!([1]);
    records[5]["attributes"] = json!({});
    records[7]["id"] = json!("");
    records[9]["txt"] = json!("x");
    records[11]["id"] = json!("r10");
    records[13] = json!(17);
    let answer = process.client.put(RECORDS, &json!({"records": records})).expect(422);
    let json = answer.json();
    let faults: Vec<_> = json["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| (f["line"].as_u64().unwrap(), f["code"].as_str().unwrap()))
        .collect();
    assert_eq!(
        faults,
        [
            (3, "vector"),
            (6, "missing_attribute"),
            (8, "id"),
            (10, "wrong_type"),
            (12, "duplicate_id"),
            (14, "wrong_type")
        ]
    );
    assert_eq!((json["code"].as_str(), count(&process)), (Some("invalid"), 0));
    assert!(json["detail"].as_str().unwrap().contains("nothing was changed"));
    let good: Vec<Json> = (0..20).map(|n| record(line(&format!("r{n}")))).collect();
    assert_eq!(process.client.put(RECORDS, &json!({"records": good})).ok()["accepted"], 20);
    // what is there counts too: one immutable document refuses the nineteen others
    let mut moved: Vec<Json> = (0..20).map(|n| record(line(&format!("r{n}")).replace("a text", "another"))).collect();
    moved[4]["document"] = json!("other");
    assert_eq!(process.client.put(RECORDS, &json!({"records": moved})).expect(422).code(), "immutable");
    let created =
        process.client.put(&format!("{RECORDS}?mode=create"), &json!({"records": [good[0], record(line("new"))]}));
    assert_eq!(created.expect(422).code(), "exists");
    assert_eq!(count(&process), 20);
    let texts =
        process.client.post("/v1/collections/c/records/list", &json!({"purpose": "x", "include": ["text"]})).ok();
    assert!(texts["records"].as_array().unwrap().iter().all(|r| r["text"] == "a text"));
}

#[test]
fn memory_stays_flat_during_a_long_upload() {
    let full = std::env::var("WARDKEEP_TESTS").is_ok_and(|v| v == "full");
    // with a small cache, so that to hold the whole upload in memory would show: it is as large as all the rest
    let (total, dimension, cache) = if full { (100_000, 384, 256) } else { (60_000, 128, 32) };
    let process = Process::with_cache(cache);
    process.client.put("/v1/collections/big", &json!({"dimension": dimension, "metric": "cosine"})).ok();
    let before = process.memory_kib("VmRSS");
    let mut upload = Upload::begin(&process, &process.client.key, "/v1/collections/big/records", None);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let text = "Seen on the ward in the morning; no new complaint, the plan is as before. ".repeat(7);
    let started = Instant::now();
    let (mut piece, mut sent) = (String::new(), 0);
    for n in 0..total {
        let vector: Vec<u8> = (0..dimension).flat_map(|_| next().to_le_bytes()).collect();
        let record = json!({"id": format!("r{n:07}"), "document": format!("d{}", n / 10), "vector_base64": STANDARD.encode(vector),
            "text": text, "attributes": {"kind": "note", "level": n % 4, "patient": {"type": "Patient", "id": format!("p{}", n / 100)}}});
        piece.push_str(&record.to_string());
        piece.push('\n');
        if piece.len() > 1 << 16 {
            sent += piece.len();
            upload.send(piece.as_bytes());
            piece.clear();
        }
    }
    upload.send(piece.as_bytes());
    let answer = upload.end().ok();
    let took = started.elapsed();
    assert_eq!(answer["accepted"], total);
    let (most, after) = (process.memory_kib("VmHWM"), process.memory_kib("VmRSS"));
    println!(
        "{total} records of {dimension} dimensions, {} MiB of lines: {:.0} records/s; resident {} MiB before, {} MiB at most, {} MiB after ({:.2}x)",
        sent >> 20,
        f64::from(total) / took.as_secs_f64(),
        before >> 10,
        most >> 10,
        after >> 10,
        most as f64 / after as f64
    );
    assert!(most * 10 <= after * 13, "{most} KiB at most, {after} KiB after");
}

/// An answer by line says whether an id is taken: whoever asks that way is in the log, though nothing was written.
#[test]
fn an_upload_of_which_nothing_is_taken_is_in_the_log() {
    let process = Process::with_bundle();
    let bad = line("r").replace("[1,0]", "[1]");
    let body = format!(r#"{{"records":[{bad},{bad}]}}"#);
    for (what, answer) in [
        ("lines", process.client.put_lines(RECORDS, &format!("{bad}\n{bad}\n")).expect(200)),
        ("json", process.client.send("PUT", RECORDS, "application/json", body.as_bytes()).expect(422)),
    ] {
        let log = process.client.get("/v1/audit?action=Ingest&limit=1000").ok();
        let told = |e: &&Json| e["trace"] == json!(answer.headers["x-request-id"]);
        let told: Vec<_> = log["entries"].as_array().unwrap().iter().filter(told).collect();
        let [entry] = told.as_slice() else { panic!("{what}: {told:?}") };
        assert_eq!((&entry["what"], &entry["outcome"]), (&json!("ingest"), &json!("invalid")), "{what}");
        assert_eq!((&entry["detail"], &entry["counts"]["asked"]), (&json!("vector"), &json!(2)), "{what}: {entry}");
    }
}
