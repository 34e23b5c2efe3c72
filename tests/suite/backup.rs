//! A backup taken while the store is written to, restored by the command line, serves what was acknowledged before it; what was erased
//! since does not come back; and every step is in the log.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::{
    harness::{Client, Server},
    plain::{self, Finally, Process, all_entries, all_records, closed, put_records, record, said, what},
};

/// Backs a running server up, with an escrow.
fn back_up(server: &Server, escrow: &Path) -> Json {
    let mut command = plain::bare_command(&["backup", "--json", "--url", &server.url, "--escrow"]);
    command.arg(escrow).env("WARDKEEP_API_KEY", &server.root_key);
    let (code, out, err) = said(command.output().unwrap());
    assert_eq!(code, 0, "{out}{err}");
    serde_json::from_str(&out).unwrap()
}

/// Restores into `to`; what was said.
fn restore(home: &Path, escrow: &Path, to: &Path, more: &[&str]) -> (i32, String, String) {
    let mut command = plain::command(&["restore", "--json", "--from"]);
    command.arg(home.join("backups")).arg("--escrow").arg(escrow).arg("--data").arg(to).args(more);
    said(command.output().unwrap())
}

fn restored(home: &Path, escrow: &Path, to: &Path) -> Json {
    let (code, out, err) = restore(home, escrow, to, &["--verify"]);
    assert_eq!(code, 0, "{out}{err}");
    let report: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(report["verified"]["found"]["sound"], true, "{report}");
    assert!(report["seconds"].is_f64() && report["verified"]["seconds"].is_f64(), "{report}");
    report["restored"].clone()
}

/// A server on a restored directory. The key of the first one's root opens it too.
fn serve(home: &Arc<TempDir>, dir: &Path, key: &str) -> Server {
    plain::serve(home, dir, key, Default::default())
}

fn revisions(records: &[Json]) -> Vec<(String, u64)> {
    let of = |r: &Json| (r["id"].as_str().unwrap().to_owned(), r["attributes"]["rev"].as_u64().unwrap());
    records.iter().map(of).collect()
}

#[test]
fn a_backup_made_while_records_come_in_holds_all_that_was_acknowledged_before_it() {
    let server = plain::server();
    let (done, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let escrow = server.home.path().join("escrow");
    let write = |rev: u64| {
        let records: Vec<_> = (0..60).map(|n| record(&format!("r{n:03}"), &format!("d{}", n / 5), rev)).collect();
        put_records(&server.root(), &records).ok();
        acknowledged.store(rev, Ordering::SeqCst);
    };
    write(1);
    let (before, after) = std::thread::scope(|scope| {
        let _end = Finally(|| done.store(true, Ordering::SeqCst));
        scope.spawn(|| (2..).take_while(|_| !done.load(Ordering::SeqCst)).for_each(write));
        while acknowledged.load(Ordering::SeqCst) < 3 {
            std::thread::yield_now();
        }
        let before = acknowledged.load(Ordering::SeqCst);
        let made = back_up(&server, &escrow);
        assert_eq!((made["backup"]["number"].as_u64(), made["backup"]["gone"].as_u64()), (Some(0), Some(0)), "{made}");
        (before, acknowledged.load(Ordering::SeqCst) + 1)
    });
    let log = all_entries(&server.root(), 0);
    assert_eq!(log.iter().filter(|e| matches!(what(e), "backup" | "escrow")).count(), 2);
    let root_key = server.root_key.clone();
    let (home, _) = closed(server);
    let dir = home.path().join("restored");
    restored(home.path(), &escrow, &dir);
    plain::assert_sound(&dir);
    let again = serve(&home, &dir, &root_key);
    let records = revisions(&all_records(&again.root()));
    assert_eq!(records.len(), 60);
    // a body of records is whole or absent: all are of one revision, one of those around the backup
    let (_, revision) = records[0];
    assert!(records.iter().all(|(_, rev)| *rev == revision), "{records:?}");
    assert!((before..=after).contains(&revision), "{before} {revision} {after}");
    let restored: Vec<_> = all_entries(&again.root(), 0).into_iter().filter(|e| what(e) == "restore").collect();
    assert_eq!(restored.len(), 1);
    put_records(&again.root(), &[record("new", "d", 1)]).ok();
}

#[test]
fn a_patient_who_was_erased_after_the_backup_and_a_key_that_was_revoked_do_not_come_back() {
    let server = plain::server();
    let records: Vec<_> = (0..30).map(|n| record(&format!("r{n:03}"), &format!("d{}", n / 10), 1)).collect();
    put_records(&server.root(), &records).ok();
    let made = server.root().post("/v1/callers", &json!({"type": "Administrator", "id": "root"})).ok();
    let escrow = server.home.path().join("escrow");
    back_up(&server, &escrow);
    server.root().post("/v1/collections/notes/erase", &json!({"patient": "patient-of-d1"})).ok();
    server.root().delete(&format!("/v1/callers/keys/{}", made["key_id"].as_str().unwrap())).ok();
    // the escrow from before would bring them back: it is replaced, as the operator is told to
    let later = plain::bare_command(&["backup", "--only-escrow", "--url", &server.url, "--escrow"])
        .arg(&escrow)
        .env("WARDKEEP_API_KEY", &server.root_key)
        .output()
        .unwrap();
    assert!(later.status.success(), "{later:?}");
    let root_key = server.root_key.clone();
    let (home, _) = closed(server);
    let dir = home.path().join("restored");
    let report = restored(home.path(), &escrow, &dir);
    assert_eq!(report["gone_since"], 11, "{report}");
    let again = serve(&home, &dir, &root_key);
    let ids: Vec<_> = revisions(&all_records(&again.root())).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 20);
    assert!(ids.iter().all(|id| !("r010".."r020").contains(&id.as_str())), "{ids:?}");
    again.client(made["api_key"].as_str().unwrap()).get("/v1/collections").expect(401);
}

#[test]
fn a_store_is_backed_up_offline_added_to_and_gone_back_in() {
    let home = Arc::new(TempDir::new().unwrap());
    let dir = home.path().join("data");
    let key = plain::found(&dir);
    let (backups, escrow) = (home.path().join("backups"), home.path().join("escrow"));
    for rev in 1..=3 {
        let server = serve(&home, &dir, &key);
        if rev == 1 {
            plain::furnish(&server.root());
        }
        put_records(&server.root(), &[record("a", "d", rev), record(&format!("only-{rev}"), "e", rev)]).ok();
        closed(server);
        let mut command = plain::command(&["backup", "--json", "--to"]);
        command.arg(&backups).arg("--escrow").arg(&escrow).arg("--data").arg(&dir);
        let (code, out, err) = said(command.output().unwrap());
        assert_eq!(code, 0, "{out}{err}");
        let made: Json = serde_json::from_str(&out).unwrap();
        assert_eq!(made["backup"]["number"], rev - 1);
    }
    let back = home.path().join("back");
    let (code, out, err) = restore(home.path(), &escrow, &back, &["--until", "1"]);
    assert_eq!(code, 0, "{out}{err}");
    let server = serve(&home, &back, &key);
    assert_eq!(revisions(&all_records(&server.root())), [("a".into(), 2), ("only-1".into(), 1), ("only-2".into(), 2)]);
}

#[test]
fn whoever_asks_wrongly_is_told_what_to_mend_and_nothing_is_made() {
    let server = plain::server();
    put_records(&server.root(), &[record("a", "d", 1)]).ok();
    let escrow = server.home.path().join("escrow");
    back_up(&server, &escrow);
    let root_key = server.root_key.clone();
    let (home, data) = closed(server);
    let dir = home.path().join("restored");
    let nothing_there = |dir: &Path| !dir.exists() || fs::read_dir(dir).unwrap().next().is_none();
    // the wrong passphrase
    let mut command = plain::bare_command(&["restore", "--from"]);
    command.arg(home.path().join("backups")).arg("--escrow").arg(&escrow).arg("--data").arg(&dir);
    let (code, _, err) = said(command.env("WARDKEEP_PASSPHRASE", "another one").output().unwrap());
    assert_eq!((code, err.contains("passphrase is wrong")), (1, true), "{err}");
    assert!(nothing_there(&dir));
    // an escrow that is none
    fs::write(home.path().join("noise"), b"noise").unwrap();
    let (code, _, err) = restore(home.path(), &home.path().join("noise"), &dir, &[]);
    assert_eq!((code, err.contains("damaged")), (1, true), "{err}");
    // a directory that is in use, or holds something
    let (code, _, err) = restore(home.path(), &escrow, &data, &[]);
    assert_eq!((code, err.contains("not empty")), (1, true), "{err}");
    plain::assert_sound(&data);
    // a byte of the backup
    let file = home.path().join("backups/00000000.wkb");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let (code, _, err) = restore(home.path(), &escrow, &dir, &[]);
    assert_eq!((code, err.contains("file 0 of the backup is damaged")), (1, true), "{err}");
    assert!(nothing_there(&dir));
    // words that do not go together
    for words in [&["backup", "--to", "x"][..], &["backup", "--only-escrow"], &["restore", "--from", "x"]] {
        assert_eq!(said(plain::command(words).output().unwrap()).0, 2, "{words:?}");
    }
    // a server that was given no directory
    let process = Process::serve(&data);
    let (code, _, err) = said(
        plain::bare_command(&["backup", "--url", &process.url]).env("WARDKEEP_API_KEY", &root_key).output().unwrap(),
    );
    assert_eq!((code, err.contains("backup.directory")), (1, true), "{err}");
}

#[test]
fn of_backups_asked_for_at_once_some_are_made_and_all_that_are_can_be_restored() {
    let server = plain::server();
    let records: Vec<_> = (0..400).map(|n| record(&format!("r{n:03}"), &format!("d{}", n / 10), 1)).collect();
    put_records(&server.root(), &records).ok();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| server.root().post("/v1/backup", &json!({})))).collect();
        asked.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    let mut numbers = Vec::new();
    for answer in answers {
        match answer.status {
            200 => numbers.push(answer.ok()["number"].as_u64().unwrap()),
            _ => assert!(answer.expect(409).text().contains("backup_running")),
        }
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "each has a number of its own");
    let escrow = server.home.path().join("escrow");
    let last = back_up(&server, &escrow)["backup"].clone();
    assert_eq!((last["number"].as_u64(), last.get("broken")), (Some(numbers.len() as u64), None), "{last}");
    let (home, _) = closed(server);
    assert_eq!(restored(home.path(), &escrow, &home.path().join("restored"))["lost"], 0);
}

/// Every file of a backup is looked at: exit code, and what is sound.
fn verify(home: &Path, escrow: &Path) -> (i32, Vec<bool>) {
    let mut command = plain::command(&["backup", "verify", "--json", "--from"]);
    let (code, out, err) = said(command.arg(home.join("backups")).arg("--escrow").arg(escrow).output().unwrap());
    let report: Json = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{err}"));
    (code, report["files"].as_array().unwrap().iter().map(|file| file["sound"] == true).collect())
}

#[test]
fn a_byte_changed_in_any_file_of_a_backup_is_found_without_a_store_and_by_the_next_backup() {
    let server = plain::server();
    let escrow = server.home.path().join("escrow");
    for rev in 1..=3 {
        put_records(&server.root(), &[record("a", "d", rev)]).ok();
        back_up(&server, &escrow);
    }
    let home = Arc::clone(&server.home);
    assert_eq!(verify(home.path(), &escrow), (0, vec![true; 3]));
    let file = home.path().join("backups/00000001.wkb");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    assert_eq!(verify(home.path(), &escrow), (3, vec![true, false, false]));
    let made = back_up(&server, &escrow)["backup"].clone();
    assert_eq!((&made["number"], &made["whole"], &made["broken"]), (&json!(3), &json!(true), &json!(1)), "{made}");
    assert_eq!(verify(home.path(), &escrow), (3, vec![true, false, false, true]));
    closed(server);
    let report = restored(home.path(), &escrow, &home.path().join("restored"));
    assert_eq!((&report["files"], &report["lost"]), (&json!(1), &json!(0)));
}

#[test]
fn what_was_erased_and_revoked_after_the_escrow_stays_so_by_the_ledger_beside_the_backup() {
    let server = plain::server();
    let records: Vec<_> = (0..30).map(|n| record(&format!("r{n:03}"), &format!("d{}", n / 10), 1)).collect();
    put_records(&server.root(), &records).ok();
    let made = server.root().post("/v1/callers", &json!({"type": "Administrator", "id": "root"})).ok();
    let escrow = server.home.path().join("escrow");
    back_up(&server, &escrow);
    let erasure = json!({"patient": "patient-of-d1", "certificate": true});
    let erased = server.root().post("/v1/collections/notes/erase", &erasure).ok();
    let statement = erased["certificate"]["statement"].clone();
    assert_eq!((statement["ledger_copy"].as_str(), statement["last_escrow_at"].is_string()), (Some("current"), true));
    server.root().delete(&format!("/v1/callers/keys/{}", made["key_id"].as_str().unwrap())).ok();
    let metrics = server.root().get("/metrics").text();
    assert!(metrics.contains("wardkeep_ledger_copy_behind 0\n"), "{metrics}");
    let root_key = server.root_key.clone();
    let (home, data) = closed(server);
    let dir = home.path().join("restored");
    let report = restored(home.path(), &escrow, &dir);
    assert_eq!((&report["gone_since"], &report["ledger"]["withdrawn"]), (&json!(0), &json!(11)), "{report}");
    assert!(report["ledger"]["entries"].as_u64() >= statement["ledger_entries"].as_u64(), "{report} {statement}");
    let again = serve(&home, &dir, &root_key);
    let ids: Vec<_> = revisions(&all_records(&again.root())).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 20);
    assert!(ids.iter().all(|id| !("r010".."r020").contains(&id.as_str())), "{ids:?}");
    again.client(made["api_key"].as_str().unwrap()).get("/v1/collections").expect(401);
    closed(again);
    // without the ledger nothing is made, unless somebody vouches; the one in the lost directory will do
    fs::remove_file(home.path().join("backups/ledger")).unwrap();
    let other = home.path().join("other");
    let (code, _, err) = restore(home.path(), &escrow, &other, &[]);
    assert_eq!((code, err.contains("--accept-missing-ledger"), other.exists()), (1, true, false), "{err}");
    let (code, out, err) = restore(home.path(), &escrow, &other, &["--accept-missing-ledger"]);
    assert_eq!((code, out.contains("\"complete\": false")), (0, true), "{out}{err}");
    let own = data.join("ledger");
    let (code, out, err) =
        restore(home.path(), &escrow, &home.path().join("own"), &["--ledger", own.to_str().unwrap()]);
    assert_eq!((code, out.contains("\"withdrawn\": 11")), (0, true), "{out}{err}");
}

#[test]
fn a_restore_that_is_killed_leaves_no_store_and_one_that_ends_says_so_in_its_log() {
    let server = plain::server();
    for part in 0..4 {
        let records: Vec<_> =
            (0..500).map(|n| record(&format!("r{part}-{n:03}"), &format!("d{}", n / 10), 1)).collect();
        put_records(&server.root(), &records).ok();
    }
    let escrow = server.home.path().join("escrow");
    back_up(&server, &escrow);
    let root_key = server.root_key.clone();
    let (home, _) = closed(server);
    let command = |dir: &Path| {
        let mut command = plain::command(&["restore", "--from"]);
        command.arg(home.path().join("backups")).arg("--escrow").arg(&escrow).arg("--data").arg(dir);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command
    };
    let begun = std::time::Instant::now();
    assert!(command(&home.path().join("whole")).status().unwrap().success());
    let took_us = u64::try_from(begun.elapsed().as_micros()).unwrap();
    let mut dice = plain::Dice::new("moments of a kill");
    let moments = if plain::full() { 100 } else { 10 };
    let mut cut_short = 0;
    for n in 0..moments {
        let dir = home.path().join(format!("killed-{n}"));
        let mut child = command(&dir).spawn().unwrap();
        // spread over all of it, and somewhat beyond
        let moment = std::time::Duration::from_micros(took_us * (n * 11 + dice.below(11)) / (moments * 10));
        std::thread::sleep(moment);
        let ended = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        child.wait().unwrap();
        let (code, out, err) = plain::run(&["audit", "verify"], &dir);
        match code {
            0 => {
                plain::assert_sound(&dir);
                let again = serve(&home, &dir, &root_key);
                let entries = all_entries(&again.root(), 0);
                assert_eq!(entries.iter().filter(|e| what(e) == "restore").count(), 1, "{moment:?}");
            }
            _ => {
                cut_short += 1;
                assert!(!ended && err.contains("no whole store"), "{moment:?}: {code} {out}{err}");
                let (code, _, err) = plain::run(&["store", "verify"], &dir);
                assert!(code != 0 && err.contains("no whole store"), "{moment:?}: {err}");
            }
        }
    }
    println!("{cut_short} of {moments} were cut short");
    assert!(cut_short > 0);
}

#[test]
fn a_restore_whose_store_would_not_open_leaves_nothing() {
    use wardkeep::{clock, engine, store};
    struct Yesterday;
    impl clock::Clock for Yesterday {
        fn now(&self) -> clock::Instant {
            clock::Instant::from_millis(clock::SystemClock.now().millis() - 86_400_000)
        }
    }
    use clock::Clock as _;
    let server = plain::server();
    let escrow = server.home.path().join("escrow");
    back_up(&server, &escrow);
    let (home, _) = closed(server);
    let (from, to, phrase) = (home.path().join("backups"), home.path().join("restored"), super::harness::passphrase());
    let plan = store::Plan {
        from: &from,
        until: None,
        escrow: &fs::read(&escrow).unwrap(),
        ledger: None,
        unlock: &phrase,
        to: &to,
        now: clock::SystemClock.now(),
        accept_old_escrow: false,
        accept_missing_ledger: false,
        accept_older_permissions: false,
    };
    let environment = engine::Environment { clock: Arc::new(Yesterday), ..engine::Environment::default() };
    let refused = engine::restore(&plan, engine::Settings::default(), environment, &|_| ()).unwrap_err();
    assert!(refused.to_string().contains("the clock is"), "{refused}");
    assert!(!to.exists());
}

#[test]
fn an_escrow_is_a_new_file_that_is_its_owners_alone_and_the_old_one_is_overwritten() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    let server = plain::server();
    let home = Arc::clone(&server.home);
    let [escrow, part, victim] = ["escrow", "escrow.part", "victim"].map(|name| home.path().join(name));
    let take = || {
        plain::bare_command(&["backup", "--only-escrow", "--url", &server.url, "--escrow"])
            .arg(&escrow)
            .env("WARDKEEP_API_KEY", &server.root_key)
            .output()
            .unwrap()
    };
    fs::write(&victim, b"somebody's").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o666)).unwrap();
    symlink(&victim, &part).unwrap();
    assert!(take().status.success());
    let found = fs::symlink_metadata(&escrow).unwrap();
    assert_eq!(
        (found.is_file(), found.mode() & 0o777, fs::read(&victim).unwrap()),
        (true, 0o600, b"somebody's".into())
    );
    // who still holds the old one, under another name, holds zeros
    let kept = home.path().join("kept");
    fs::hard_link(&escrow, &kept).unwrap();
    assert!(take().status.success());
    assert!(fs::read(&kept).unwrap().iter().all(|byte| *byte == 0));
    assert!(fs::read(&escrow).unwrap().starts_with(b"WKESCR"));
    assert!(!part.exists());
    // a link in the escrow's place is refused, and nothing is left beside it
    fs::remove_file(&escrow).unwrap();
    symlink(&victim, &escrow).unwrap();
    assert!(!take().status.success());
    assert_eq!((part.exists(), fs::read(&victim).unwrap()), (false, b"somebody's".into()));
}

#[test]
fn a_restore_that_is_shown_the_anchor_goes_on_under_it_and_the_lost_store_is_refused_by_it() {
    let home = TempDir::new().unwrap();
    let [dir, anchor, escrow] = ["data", "anchor", "escrow"].map(|name| home.path().join(name));
    let key = plain::found(&dir);
    fs::write(&anchor, "").unwrap();
    let start = |dir: &Path| {
        let mut serve = plain::command(&["serve"]);
        serve.env("WARDKEEP_ANCHOR", &anchor).env("WARDKEEP_BACKUP_DIRECTORY", home.path().join("backups"));
        Process::start(serve, dir)
    };
    let process = start(&dir).unwrap();
    let root = super::harness::Client::new(&process.url, &key);
    plain::furnish(&root);
    put_records(&root, &[record("a", "d", 1)]).ok();
    let mut command = plain::bare_command(&["backup", "--url", &process.url, "--escrow"]);
    assert!(command.arg(&escrow).env("WARDKEEP_API_KEY", &key).status().unwrap().success());
    (0..300).for_each(|n| drop(put_records(&root, &[record(&format!("lost-{n}"), "d", 1)]).ok()));
    drop(process);
    let refused = |outcome: Result<Process, String>| {
        let Err(told) = outcome else { panic!("the server started") };
        assert!(told.contains("put back to an older state") && told.contains("--anchor"), "{told}");
    };
    let without = home.path().join("without");
    let (code, out, err) = restore(home.path(), &escrow, &without, &[]);
    assert_eq!(code, 0, "{out}{err}");
    refused(start(&without));
    let with = home.path().join("with");
    let (code, out, err) = restore(home.path(), &escrow, &with, &["--anchor", anchor.to_str().unwrap()]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(fs::read_to_string(&anchor).unwrap().contains("\nrestored in place of "));
    refused(start(&dir));
    refused(start(&without));
    let process = start(&with).unwrap();
    let root = super::harness::Client::new(&process.url, &key);
    assert_eq!(revisions(&all_records(&root)), [("a".into(), 1)]);
    let entries: Vec<_> = all_entries(&root, 0).into_iter().filter(|e| what(e) == "restore").collect();
    assert!(
        entries.len() == 1 && entries[0].to_string().contains("in place of the log that the anchor knew"),
        "{entries:?}"
    );
    // another store's anchor is not taken over
    let [other, foreign] = ["other", "foreign"].map(|name| home.path().join(name));
    plain::found(&other);
    fs::write(&foreign, "").unwrap();
    let mut serve = plain::command(&["serve"]);
    serve.env("WARDKEEP_ANCHOR", &foreign);
    drop(Process::start(serve, &other).unwrap());
    let before = fs::read(&foreign).unwrap();
    let to = home.path().join("to");
    let (code, _, err) = restore(home.path(), &escrow, &to, &["--anchor", foreign.to_str().unwrap()]);
    assert_eq!((code, err.contains("is not this store's"), to.exists()), (1, true, false), "{err}");
    assert_eq!(fs::read(&foreign).unwrap(), before);
}

#[test]
fn a_backup_is_streamed_from_a_running_server_and_offline_and_restored_from_the_stream_or_the_file() {
    use std::process::Stdio;
    let server = plain::server();
    let records: Vec<_> = (0..300).map(|n| record(&format!("r{n:03}"), &format!("d{}", n / 10), 1)).collect();
    put_records(&server.root(), &records).ok();
    let (escrow, file) = (server.home.path().join("escrow"), server.home.path().join("streamed.wkb"));
    let streamed = |command: &mut std::process::Command| {
        let done = command.stdout(fs::File::create(&file).unwrap()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        fs::read(&file).unwrap()
    };
    let mut online = plain::bare_command(&["backup", "--to", "-", "--url", &server.url, "--escrow"]);
    let bytes = streamed(online.arg(&escrow).env("WARDKEEP_API_KEY", &server.root_key));
    assert!(bytes.starts_with(b"WKBACK"));
    let entries = all_entries(&server.root(), 0);
    let told: Vec<_> = entries.iter().filter(|e| what(e) == "backup").map(|e| e["detail"].clone()).collect();
    assert_eq!(told, ["stream_begun", "stream"]);
    let root_key = server.root_key.clone();
    let (home, data) = closed(server);
    let restore_from = |from: &str, input: &[u8], to: &str, more: &[&str]| {
        fs::write(home.path().join("input"), input).unwrap();
        let mut command = plain::command(&["restore", "--json", "--verify", "--from", from, "--escrow"]);
        command.arg(&escrow).arg("--data").arg(home.path().join(to)).args(more);
        said(command.stdin(Stdio::from(fs::File::open(home.path().join("input")).unwrap())).output().unwrap())
    };
    let ledger = data.join("ledger");
    let with_ledger = ["--ledger", ledger.to_str().unwrap()];
    let left = || {
        let names = fs::read_dir(home.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains("incoming")).count()
    };
    for (from, to) in [("-", "by-stream"), (file.to_str().unwrap(), "by-file")] {
        let (code, out, err) = restore_from(from, &bytes, to, &with_ledger);
        assert_eq!((code, out.contains("\"sound\": true")), (0, true), "{out}{err}");
        let again = serve(&home, &home.path().join(to), &root_key);
        assert_eq!(all_records(&again.root()).len(), 300);
        closed(again);
    }
    // what nobody can vouch for, what was cut off, what is none
    let (code, _, err) = restore_from("-", &bytes, "alone", &[]);
    assert_eq!((code, err.contains("--accept-missing-ledger")), (1, true), "{err}");
    for (input, words) in [
        (&bytes[..bytes.len() - 1], "ends before its end"),
        (&[][..], "ends before its end"),
        (&[7; 500][..], "damaged"),
    ] {
        let (code, _, err) = restore_from("-", input, "nothing", &with_ledger);
        assert_eq!((code, err.contains(words)), (1, true), "{err}");
        assert!(!home.path().join("nothing").exists() && left() == 0);
    }
    let offline = streamed(plain::command(&["backup", "--to", "-", "--data"]).arg(&data));
    assert!(offline.starts_with(b"WKBACK") && offline != bytes);
    let mut verify = plain::command(&["backup", "verify", "--json", "--from"]);
    let (code, out, err) = said(verify.arg(&file).arg("--escrow").arg(&escrow).output().unwrap());
    assert_eq!((code, out.contains("\"sound\": true")), (0, true), "{out}{err}");
    let words = said(plain::command(&["backup", "--to", "-", "--json", "--data"]).arg(&data).output().unwrap());
    assert_eq!(words.0, 2, "{words:?}");
}

/// More than a connection and the server hold of a stream that nobody reads.
const LARGE: usize = 24;

#[test]
fn a_server_that_is_told_to_stop_finishes_a_stream_that_is_read_and_of_one_that_is_killed_nothing_can_be_restored() {
    use std::{
        io::{Read, Write},
        process::Stdio,
    };
    let home = Arc::new(TempDir::new().unwrap());
    let [dir, escrow, file] = ["data", "escrow", "streamed.wkb"].map(|name| home.path().join(name));
    let key = plain::found(&dir);
    let mut process = Process::serve(&dir);
    let root = super::harness::Client::new(&process.url, &key);
    plain::furnish(&root);
    for n in 0..LARGE {
        let mut large = record(&format!("r{n:02}"), &format!("d{n:02}"), 1);
        large["text"] = "x".repeat(1_000_000).into();
        put_records(&root, &[large]).ok();
    }
    // reads a little, so that the stream is under way and held up
    let stream = |url: &str| {
        let mut command = plain::bare_command(&["backup", "--to", "-", "--url", url]);
        let mut child =
            command.env("WARDKEEP_API_KEY", &key).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut some = vec![0; 100_000];
        child.stdout.as_mut().unwrap().read_exact(&mut some).unwrap();
        (child, some)
    };
    let rest = |(mut child, mut some): (std::process::Child, Vec<u8>)| {
        child.stdout.as_mut().unwrap().read_to_end(&mut some).unwrap();
        fs::File::create(&file).unwrap().write_all(&some).unwrap();
        child.wait().unwrap().success()
    };
    let verify = || {
        let mut verify = plain::command(&["backup", "verify", "--from"]);
        said(verify.arg(&file).arg("--escrow").arg(&escrow).output().unwrap()).0
    };
    let told = |root: &super::harness::Client| -> Vec<Json> {
        all_entries(root, 0).into_iter().filter(|e| what(e) == "backup").map(|e| e["detail"].clone()).collect()
    };
    let read = stream(&process.url);
    process.signal(rustix::process::Signal::TERM);
    assert!(rest(read), "what was under way came to its end");
    assert!(process.wait().success());

    let mut process = Process::serve(&dir);
    let mut command = plain::bare_command(&["backup", "--only-escrow", "--url", &process.url, "--escrow"]);
    assert!(command.arg(&escrow).env("WARDKEEP_API_KEY", &key).status().unwrap().success());
    assert_eq!(verify(), 0);
    assert_eq!(told(&super::harness::Client::new(&process.url, &key)), ["stream_begun", "stream"]);
    let read = stream(&process.url);
    process.kill();
    assert!(!rest(read), "the command says that it has no backup");
    assert_ne!(verify(), 0);
    let process = Process::serve(&dir);
    let root = super::harness::Client::new(&process.url, &key);
    assert_eq!(told(&root), ["stream_begun", "stream", "stream_begun"], "nobody was left to say how it ended");
    let (child, whole) = (stream(&process.url), true);
    assert_eq!((rest(child), verify()), (whole, 0), "and nothing bars the next one");
}

#[test]
fn without_its_ledger_a_store_is_served_only_where_somebody_vouches_for_that_and_the_log_says_so() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("data");
    let key = plain::found(&dir);
    let mut process = Process::serve(&dir);
    let root = Client::new(&process.url, &key);
    plain::furnish(&root);
    put_records(&root, &[record("r1", "d1", 0)]).ok();
    root.post("/v1/collections/notes/erase", &json!({"ids": ["r1"]})).ok();
    process.signal(rustix::process::Signal::TERM);
    assert!(process.wait().success());
    std::fs::remove_file(dir.join("ledger")).unwrap();
    let told = Process::start(plain::command(&["serve"]), &dir).map(drop).unwrap_err();
    assert!(told.contains("serve --accept-missing-ledger"), "{told}");
    let process = Process::start(plain::command(&["serve", "--accept-missing-ledger"]), &dir).unwrap();
    let entries = all_entries(&Client::new(&process.url, &key), 0);
    let starts: Vec<_> = entries.iter().filter(|e| what(e) == "start").map(|e| &e["detail"]).collect();
    assert_eq!(starts, [&Json::Null, &json!("accept_missing_ledger")]);
}
