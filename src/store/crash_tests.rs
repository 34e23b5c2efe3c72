//! kill -9 at any moment: what was acknowledged is there, and no batch is half there.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use super::{EngineKind, Kind, fixture::*};
use crate::crypto::{Entropy, OsEntropy};

const DIRECTORY: &str = "WARDKEEP_TEST_CRASH_DIRECTORY";
const BATCH: usize = 10;
const ROUNDS: usize = 6;

/// Not a test by itself: the process that is killed. It writes batch after batch and says which are durable.
#[test]
fn the_writer_that_is_killed() {
    let Some(path) = std::env::var_os(DIRECTORY) else { return };
    let store = open(path.as_ref());
    let written = usize::try_from(store.verify().unwrap().counts[2].1).unwrap();
    for batch in written / BATCH.. {
        let rows = records(batch * BATCH..(batch + 1) * BATCH);
        store.commit(&[store.put_records(&collection(), &rows, at()).unwrap()], &[], 0).unwrap();
        println!("\nacknowledged {}", batch + 1);
        store.write_manifest(batch as u64, [0; 32], batch as u64).unwrap();
    }
}

on_each_engine!(nothing_acknowledged_is_lost_and_no_batch_is_half_there_after_kill_9);

fn nothing_acknowledged_is_lost_and_no_batch_is_half_there_after_kill_9(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    drop(create_on(engine, &path));
    let mut dice = [0; ROUNDS];
    OsEntropy.fill(&mut dice).unwrap();
    println!("seed {dice:?}");
    for lines in dice.map(|byte| usize::from(byte % 40) + 1) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::crash_tests::the_writer_that_is_killed", "--nocapture"])
            .env(DIRECTORY, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let told = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let said = told.filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<u64>().ok());
        let acknowledged = said.take(lines).last().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();

        let store = open(&path);
        let report = store.verify().unwrap();
        let (rows, count) = report.counts[2];
        assert!(report.is_sound() && rows == Kind::Record, "{report:?}");
        assert!(count >= acknowledged * BATCH as u64 && count.is_multiple_of(BATCH as u64), "{count} {acknowledged}");
    }
}
