//! Two storage engines, one store: which it was made with, how it moves to the other, what it takes, and that a move which is cut short
//! harms nothing.

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::Value as Json;
use tempfile::TempDir;
use wardkeep::store::EngineKind;

use super::{
    harness::Client,
    plain::{
        self, Dice, Process, all_records, assert_sound, command, found_on, full, on_each_engine, put_records, record,
        run, said,
    },
};

on_each_engine!(
    a_store_is_served_by_the_engine_it_was_made_with_and_a_contradiction_is_refused,
    a_store_moves_there_and_back_and_says_what_it_takes,
    a_move_that_is_killed_leaves_the_store_whole,
    compaction_gives_back_what_erased_records_took,
);

fn other(engine: EngineKind) -> EngineKind {
    match engine {
        EngineKind::Sled => EngineKind::Redb,
        EngineKind::Redb => EngineKind::Sled,
    }
}

fn stat(dir: &Path) -> Json {
    let (code, out, err) = run(&["store", "stat", "--json"], dir);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

/// A store with some records, and everything in it.
fn furnished(engine: EngineKind, dir: &Path, records: usize) -> (String, Vec<Json>) {
    let key = found_on(engine, dir);
    let process = Process::serve(dir);
    let root = Client::new(&process.url, &key);
    plain::furnish(&root);
    let all: Vec<_> = (0..records).map(|n| record(&format!("r-{n:06}"), &format!("d-{}", n / 5), 1)).collect();
    all.chunks(1_000).for_each(|some| drop(put_records(&root, some).ok()));
    let records = all_records(&root);
    (key, records)
}

fn read(dir: &Path, key: &str) -> Vec<Json> {
    let process = Process::serve(dir);
    all_records(&Client::new(&process.url, key))
}

fn a_store_is_served_by_the_engine_it_was_made_with_and_a_contradiction_is_refused(engine: EngineKind) {
    let home = TempDir::new().unwrap();
    let [by_flag, by_file, file] = ["by-flag", "by-file", "wardkeep.toml"].map(|name| home.path().join(name));
    std::fs::write(&file, format!("[storage]\nengine = \"{engine}\"\n")).unwrap();
    let (code, _, err) = run(&["init", "--engine", engine.label()], &by_flag);
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = said(command(&["init", "--config"]).arg(&file).arg("--data").arg(&by_file).output().unwrap());
    assert_eq!(code, 0, "{err}");
    for dir in [&by_flag, &by_file] {
        assert_eq!(stat(dir)["engine"], engine.label());
        drop(Process::serve(dir));
        let mut agreeing = command(&["serve", "--config"]);
        agreeing.arg(&file);
        drop(Process::start(agreeing, dir).unwrap());
        let mut contradicting = command(&["serve"]);
        contradicting.env("WARDKEEP_ENGINE", other(engine).label());
        let refused = Process::start(contradicting, dir).err().expect("a contradiction");
        assert!(refused.contains(&format!("made with {engine}")) && refused.contains("store migrate"), "{refused}");
    }
    let (code, _, err) = run(&["init", "--engine", "rocksdb"], &home.path().join("none"));
    assert_eq!((code, err.contains("`sled` or `redb`")), (2, true), "{err}");
}

fn a_store_moves_there_and_back_and_says_what_it_takes(engine: EngineKind) {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("data");
    let (key, records) = furnished(engine, &dir, 60);
    let before = stat(&dir);
    assert_eq!((&before["engine"], &before["objects"]["record"]["count"]), (&engine.label().into(), &60.into()));
    assert!(before["live_bytes"].as_u64().unwrap() < before["used_bytes"].as_u64().unwrap(), "{before}");
    for to in [other(engine), other(engine), engine] {
        let (code, out, err) = run(&["store", "migrate", "--json", "--to", to.label()], &dir);
        assert_eq!(code, 0, "{err}");
        let told: Json = serde_json::from_str(&out).unwrap();
        assert_eq!(told["to"], to.label());
        let after = stat(&dir);
        assert_eq!((&after["engine"], &after["objects"]), (&to.label().into(), &before["objects"]));
        assert_sound(&dir);
        assert_eq!(read(&dir, &key), records);
    }
    let process = Process::serve(&dir);
    let log = plain::all_entries(&Client::new(&process.url, &key), 0);
    let moves: Vec<_> =
        log.iter().filter(|entry| plain::what(entry) == "rebuild").map(|e| e["detail"].clone()).collect();
    let to = other(engine);
    assert_eq!(moves, [format!("{engine} to {to}"), format!("{to} to {to}"), format!("{to} to {engine}")]);
    for verb in [&["store", "stat"][..], &["store", "compact"], &["store", "migrate", "--to", "redb"]] {
        let (code, _, err) = run(verb, &dir);
        assert_eq!((code, err.contains("in use by another process")), (1, true), "{verb:?}: {err}");
    }
    drop(process);
}

fn a_move_that_is_killed_leaves_the_store_whole(engine: EngineKind) {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("data");
    let (key, records) = furnished(engine, &dir, 600);
    let mut dice = Dice::new("moves");
    let mut ends = [0, 0];
    for _ in 0..if full() { 200 } else { 12 } {
        let from = stat(&dir)["engine"].as_str().unwrap().parse::<EngineKind>().unwrap();
        let mut moving = command(&["store", "migrate", "--to", other(from).label(), "--data"]);
        let mut moving = moving.arg(&dir).stdout(Stdio::null()).spawn().unwrap();
        // Not a wait for anything: the moment itself is what is random.
        std::thread::sleep(Duration::from_micros(dice.below(800_000)));
        let _ = moving.kill();
        moving.wait().unwrap();
        assert_sound(&dir);
        ends[usize::from(stat(&dir)["engine"] == from.label())] += 1;
    }
    println!("{engine}: moved {}, stayed {}", ends[0], ends[1]);
    assert_eq!(read(&dir, &key), records);
}

fn compaction_gives_back_what_erased_records_took(engine: EngineKind) {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("data");
    let key = found_on(engine, &dir);
    let process = Process::serve(&dir);
    let root = Client::new(&process.url, &key);
    plain::furnish(&root);
    let large = |n: usize| {
        let mut record = record(&format!("r-{n:06}"), &format!("d-{}", n / 10), 1);
        record["text"] = "a long narrative ".repeat(6_000).into();
        record
    };
    for turn in 0..8 {
        put_records(&root, &(turn * 20..turn * 20 + 20).map(large).collect::<Vec<_>>()).ok();
    }
    (1..16).for_each(|n| {
        root.post("/v1/collections/notes/erase", &serde_json::json!({"document": format!("d-{n}")})).ok();
    });
    let left = all_records(&root);
    drop(process);
    let (code, out, err) = run(&["store", "compact", "--json"], &dir);
    assert_eq!(code, 0, "{err}");
    let told: Json = serde_json::from_str(&out).unwrap();
    let (before, after) = (told["bytes_before"].as_u64().unwrap(), told["bytes_after"].as_u64().unwrap());
    println!("{engine}: {told}");
    let stat = stat(&dir);
    assert_eq!(stat["engine"], engine.label());
    assert!(after < before && after < stat["live_bytes"].as_u64().unwrap() + (4 << 20), "{told} {stat}");
    assert_sound(&dir);
    assert_eq!(left.len(), 10);
    assert_eq!(read(&dir, &key), left);
}
