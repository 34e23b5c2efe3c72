//! Stores as earlier versions wrote them on each storage engine, kept in `tests/fixtures/`: they open, are sound, and hold what they held.
//! `WARDKEEP_FIXTURES=write` makes those of the present format anew, where there is none yet.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use wardkeep::store::EngineKind;

use super::{
    harness::{Client, root_dir},
    plain::{
        self, Process, all_entries, all_records, assert_sound, files, found_on, on_each_engine, put_records, record,
    },
};

/// The formats that there were, oldest first.
const FORMATS: [&str; 2] = ["format-2", "format-2-with-ledger"];

on_each_engine!(a_store_of_every_format_there_was_opens_and_holds_what_it_held);

fn fixture(format: &str, engine: EngineKind) -> PathBuf {
    root_dir().join("tests/fixtures").join(format!("{format}-{engine}"))
}

fn a_store_of_every_format_there_was_opens_and_holds_what_it_held(engine: EngineKind) {
    if std::env::var("WARDKEEP_FIXTURES").is_ok_and(|wish| wish == "write") {
        make(&fixture(FORMATS[FORMATS.len() - 1], engine), engine);
    }
    for format in FORMATS {
        let kept = fixture(format, engine);
        let expected: Json = serde_json::from_slice(&fs::read(kept.join("expected.json")).unwrap()).unwrap();
        let home = TempDir::new().unwrap();
        let dir = home.path().join("data");
        unpack(&kept, &dir);
        assert_sound(&dir);
        let process = Process::serve(&dir);
        let root = Client::new(&process.url, expected["root_key"].as_str().unwrap());
        assert_eq!(contents(&root), expected["contents"], "{format}");
        let entries = all_entries(&root, 0);
        let told = expected["entries"].as_array().unwrap();
        assert_eq!(entries[..told.len()], told[..], "{format}");
        // and it goes on
        put_records(&root, &[record("afterwards", "document-of-afterwards", 1)]).ok();
        drop(process);
        assert_sound(&dir);
    }
}

fn contents(root: &Client) -> Json {
    json!({
        "records": all_records(root),
        "policies": root.get("/v1/policies").ok(),
        "entities": root.get("/v1/entities/Reader").ok(),
        "collections": root.get("/v1/collections").ok()["collections"].as_array().unwrap().iter().map(|c| &c["name"]).collect::<Vec<_>>(),
    })
}

/// A store with a little of everything, some of it erased again.
fn make(kept: &Path, engine: EngineKind) {
    if kept.exists() {
        return;
    }
    let home = TempDir::new().unwrap();
    let dir = home.path().join("data");
    let key = found_on(engine, &dir);
    let process = Process::serve(&dir);
    let root = Client::new(&process.url, &key);
    plain::furnish(&root);
    let records: Vec<_> = (0..12).map(|n| record(&format!("r-{n:03}"), &format!("d-{}", n / 4), 1)).collect();
    put_records(&root, &records).ok();
    let mut long = record("r-long", "d-long", 2);
    long["text"] = "a long narrative ".repeat(2_000).into();
    put_records(&root, &[long]).ok();
    root.post("/v1/collections/notes/erase", &json!({"document": "d-1"})).ok();
    root.put(
        "/v1/entities",
        &json!([{"uid": {"type": "Reader", "id": "reader-1"}, "attrs": {"rev": 1}, "parents": []}]),
    )
    .ok();
    root.put("/v1/policies?allow_widening=true", &plain::bundle(2)).ok();
    let contents = contents(&root);
    let entries = all_entries(&root, 0);
    drop(process);
    pack(&dir, kept);
    let expected = json!({"root_key": key, "contents": contents, "entries": entries});
    fs::write(kept.join("expected.json"), serde_json::to_string_pretty(&expected).unwrap() + "\n").unwrap();
}

/// Keeps the files without the zeros that they end with, and their lengths.
fn pack(dir: &Path, kept: &Path) {
    let mut lengths = BTreeMap::new();
    for file in files(dir) {
        let name = file.strip_prefix(dir).unwrap();
        let mut bytes = fs::read(&file).unwrap();
        lengths.insert(name.to_str().unwrap().to_owned(), bytes.len());
        bytes.truncate(bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1));
        let target = kept.join("data").join(name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, bytes).unwrap();
    }
    fs::write(kept.join("lengths.json"), serde_json::to_string_pretty(&lengths).unwrap() + "\n").unwrap();
}

fn unpack(kept: &Path, dir: &Path) {
    let lengths: BTreeMap<String, u64> = serde_json::from_slice(&fs::read(kept.join("lengths.json")).unwrap()).unwrap();
    for (name, length) in lengths {
        let target = dir.join(&name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(kept.join("data").join(&name), &target).unwrap();
        fs::File::options().write(true).open(&target).unwrap().set_len(length).unwrap();
    }
}
