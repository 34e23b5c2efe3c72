//! kill -9 at any moment, and a power cut at every single step of a disk: what was acknowledged is there, and no batch is half there.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use parking_lot::Mutex;

use super::{Disk, EngineKind, Kind, OpenOptions, RealDisk, Store, fixture::*};
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

/// Commits of the workload that power cuts are tried on.
const COMMITS: usize = 6;
/// What a disk writes whole.
const SECTOR: usize = 512;

/// Only redb takes its bytes through the disk that is handed in; sled's own are cut by a library preloaded into the binary
/// (`tests/suite/powercut`).
#[test]
fn a_power_cut_at_any_step_of_the_disk_loses_nothing_acknowledged_and_leaves_no_half_batch() {
    let home = tempfile::tempdir().unwrap();
    let whole = home.path().join("whole");
    drop(create_on(EngineKind::Redb, &whole));
    let steps = work(&whole, &Arc::new(Volatile::new(u64::MAX, Sync::Kept)), home.path()).1;
    let stride = if std::env::var("WARDKEEP_TESTS").is_ok_and(|wish| wish == "full") { 1 } else { 5 };
    let lost_at = |sync| (1..=steps).step_by(stride).filter(|step| loses(&whole, *step, sync, home.path())).count();
    assert!(steps > 30, "{steps}");
    assert_eq!(lost_at(Sync::Kept), 0);
    assert!(lost_at(Sync::Forgotten) > 0, "a disk that forgets what it synced must be seen");
}

/// Whether a cut at `step` lost something that was acknowledged. What is left must be whole in any case, or be refused.
fn loses(whole: &Path, step: u64, sync: Sync, home: &Path) -> bool {
    let disk = Arc::new(Volatile::new(step, sync));
    let (acknowledged, _) = work(whole, &disk, home);
    disk.cut();
    let outcome = Store::open(&home.join("data"), &phrase(), &options());
    let Ok(store) = outcome else {
        assert_eq!(sync, Sync::Forgotten, "step {step}: {:?}", outcome.err());
        return true;
    };
    let report = store.verify().unwrap();
    assert!(report.is_sound(), "step {step}: {report:?}");
    let (_, count) = report.counts[2];
    assert!(count.is_multiple_of(BATCH as u64), "step {step}: half a batch is there");
    count < (acknowledged * BATCH) as u64
}

/// Commits batch after batch on a copy of a store until the power goes: how many were acknowledged, and how many steps the disk took.
fn work(whole: &Path, disk: &Arc<Volatile>, home: &Path) -> (usize, u64) {
    let path = home.join("data");
    let _ = std::fs::remove_dir_all(&path);
    copy(whole, &path);
    let options = OpenOptions { disk: disk.clone(), ..options() };
    let mut acknowledged = 0;
    if let Ok(store) = Store::open(&path, &phrase(), &options) {
        for batch in 0..COMMITS {
            let rows = records(batch * BATCH..(batch + 1) * BATCH);
            let put = store.put_records(&collection(), &rows, at()).unwrap();
            if store.commit(&[put], &[], 0).is_err() {
                break;
            }
            acknowledged += 1;
            let _ = store.write_manifest(batch as u64, [0; 32], batch as u64);
        }
    }
    (acknowledged, disk.steps.load(SeqCst))
}

/// What the disk makes of a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    Kept,
    Forgotten,
}

/// A disk that loses its power at one step: nothing works from there on, and of what was not synced any sector may be gone.
struct Volatile {
    steps: AtomicU64,
    off_at: u64,
    sync: Sync,
    unsynced: Mutex<Vec<Unsynced>>,
}

/// A write, or a change of length, that no sync has followed yet.
struct Unsynced {
    file: File,
    length_before: u64,
    at: u64,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Volatile {
    fn new(off_at: u64, sync: Sync) -> Self {
        Self { steps: AtomicU64::new(0), off_at, sync, unsynced: Mutex::default() }
    }

    fn step(&self) -> io::Result<()> {
        if self.steps.fetch_add(1, SeqCst) + 1 < self.off_at { Ok(()) } else { Err(io::ErrorKind::Other.into()) }
    }

    fn note(&self, file: &File, at: u64, new: &[u8], covers: u64) -> io::Result<()> {
        let length_before = file.metadata()?.len();
        let mut old = vec![0; usize::try_from(covers.min(length_before.saturating_sub(at))).unwrap()];
        file.read_exact_at(&mut old, at)?;
        self.unsynced.lock().push(Unsynced { file: file.try_clone()?, length_before, at, old, new: new.to_vec() });
        Ok(())
    }

    /// At an even step all is lost that was not synced; at an odd one every other sector of it had reached the disk.
    fn cut(&self) {
        let unsynced = std::mem::take(&mut *self.unsynced.lock());
        for one in unsynced.iter().rev() {
            one.file.set_len(one.length_before).unwrap();
            one.file.write_all_at(&one.old, one.at).unwrap();
        }
        for one in unsynced.iter().filter(|_| self.off_at % 2 == 1) {
            for (n, sector) in one.new.chunks(SECTOR).enumerate().skip(usize::from(self.off_at % 4 == 1)).step_by(2) {
                one.file.write_all_at(sector, one.at + (n * SECTOR) as u64).unwrap();
            }
        }
    }
}

impl Disk for Volatile {
    fn sync(&self, file: &File) -> io::Result<()> {
        self.step()?;
        let inode = file.metadata()?.ino();
        if self.sync == Sync::Kept {
            self.unsynced.lock().retain(|one| one.file.metadata().is_ok_and(|found| found.ino() != inode));
        }
        Ok(())
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.step()?;
        self.note(file, offset, bytes, bytes.len() as u64)?;
        RealDisk.write_at(file, bytes, offset)
    }

    fn set_len(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.step()?;
        self.note(file, bytes, &[], u64::MAX)?;
        file.set_len(bytes)
    }
}
