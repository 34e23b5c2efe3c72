//! A disk that fails at every step there is, in every way there is. Nothing acknowledged may be lost, no change may be
//! missing, and the log goes on when the disk does.

use std::{fs, io::ErrorKind, path::Path, sync::Arc};

use tempfile::tempdir;

use crate::audit::{testing::*, *};

const WAYS: [Failure; 5] = [
    Failure::Refuse(ErrorKind::StorageFull),
    Failure::Refuse(ErrorKind::Other),
    Failure::Short(1),
    Failure::Short(700),
    Failure::Lie,
];

/// A log on a failing disk, and what its user was told.
struct Run {
    log: Log,
    recorded: Head,
    /// Numbers of entries whose append was acknowledged, or that belong to a change that was committed.
    required: Vec<u64>,
    /// Frames of changes that the engine would still keep.
    outbox: Frames,
    failures: usize,
}

impl Run {
    fn new(dir: &Path, disk: &Arc<FailingDisk>, segment_bytes: u64) -> Self {
        let on = Arc::new(OnFailing(Arc::clone(disk)));
        let log = Log::create(dir, ORIGIN, sealer(), signer(), on).unwrap().with_segment_bytes(segment_bytes);
        Self { recorded: log.head(), log, required: Vec::new(), outbox: Frames::new(), failures: 0 }
    }

    /// One group: two changes, and three retrievals.
    fn group(&mut self, n: u64) {
        let changes = [n * 10 + 1, n * 10 + 2];
        let retrievals = [n * 10 + 3, n * 10 + 4, n * 10 + 5];
        let must = self.log.stage(&changes.map(entry)).unwrap();
        self.outbox.extend(must.clone());
        self.required.extend(changes);
        let may = self.log.stage(&retrievals.map(entry)).unwrap();
        match self.log.append(must, may) {
            Ok(head) => {
                self.required.extend(retrievals);
                self.recorded = head;
                self.outbox.retain(|(sequence, _)| *sequence >= self.log.settled_below());
                assert!(self.outbox.is_empty());
            }
            Err(LogError::NotDurable(_)) => self.failures += 1,
            Err(other) => panic!("{other}"),
        }
    }
}

/// What must be there is there, once and in order; what was refused is not, as far as the log can know.
fn check(found: &[u64], required: &[u64]) {
    let kept: Vec<u64> = found.iter().copied().filter(|n| required.contains(n)).collect();
    assert_eq!(kept, required);
    let mut unique = found.to_vec();
    unique.dedup();
    assert_eq!(unique, found);
}

#[test]
fn wherever_the_disk_fails_the_log_goes_on_and_holds_all_that_it_must() {
    for way in WAYS {
        for segment_bytes in [1, 4_000, 1 << 20] {
            for (after, count) in (0..24).flat_map(|after| [1, 2, 3, 7].map(|count| (after, count))) {
                let dir = tempdir().unwrap();
                let disk = FailingDisk::new(way);
                let mut run = Run::new(dir.path(), &disk, segment_bytes);
                disk.fail(after, count);
                (1..=6).for_each(|n| run.group(n));
                disk.mend();
                run.group(7);
                let what = format!("{way:?} after {after}, {count} times, files of {segment_bytes}");
                assert!(run.failures > 0 || after > 10, "{what}");
                // On a mended disk, what was refused and not required is not there at all.
                assert_eq!(numbers(&run.log), run.required, "{what}");
                assert_eq!(run.log.pending(), 0);
                let head = run.log.head();
                drop(run.log);
                let again = open(dir.path(), head, Frames::new()).unwrap();
                assert_eq!(numbers(&again), run.required, "{what}");
                let report = verify(dir.path(), ORIGIN, Some(sealer().as_ref()), signer().public_key(), Some(head));
                assert_eq!((report.broken, report.unfinished_bytes), (None, 0), "{what}");
            }
        }
    }
}

#[test]
fn wherever_the_disk_fails_for_good_and_the_machine_stops_the_log_opens_with_all_that_it_must_hold() {
    for way in WAYS {
        for segment_bytes in [1, 4_000, 1 << 20] {
            for after in 0..24 {
                let dir = tempdir().unwrap();
                let disk = FailingDisk::new(way);
                let mut run = Run::new(dir.path(), &disk, segment_bytes);
                disk.fail(after, u64::MAX);
                (1..=6).for_each(|n| run.group(n));
                let Run { log, recorded, required, outbox, .. } = run;
                drop(log);
                let what = format!("{way:?} after {after}, files of {segment_bytes}");
                let log = open(dir.path(), recorded, outbox).unwrap_or_else(|error| panic!("{what}: {error}"));
                check(&numbers(&log), &required);
                let head = log.head();
                drop(log);
                let report = verify(dir.path(), ORIGIN, Some(sealer().as_ref()), signer().public_key(), Some(head));
                assert_eq!((report.broken, report.unfinished_bytes), (None, 0), "{what}");
            }
        }
    }
}

#[test]
fn a_full_disk_leaves_the_file_as_it_was() {
    let dir = tempdir().unwrap();
    let disk = FailingDisk::new(Failure::Short(500));
    let mut run = Run::new(dir.path(), &disk, 1 << 20);
    run.group(1);
    let path = dir.path().join("0000000000000001.log");
    let before = fs::read(&path).unwrap();
    disk.fail(0, 1);
    run.group(2);
    assert_eq!((run.failures, run.log.pending()), (1, 2));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(run.log.head(), run.recorded);
}

#[test]
fn pending_changes_keep_numbers_and_bytes_and_come_first() {
    let dir = tempdir().unwrap();
    let disk = FailingDisk::new(Failure::Refuse(ErrorKind::StorageFull));
    let mut run = Run::new(dir.path(), &disk, 1 << 20);
    disk.fail(0, u64::MAX);
    run.group(1);
    run.group(2);
    let kept = run.outbox.clone();
    assert_eq!(kept.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [1, 2, 3, 4]);
    disk.mend();
    let may = run.log.stage(&[entry(99)]).unwrap();
    assert_eq!(may[0].0, 5);
    run.log.append(Frames::new(), may).unwrap();
    assert_eq!(numbers(&run.log), [11, 12, 21, 22, 99]);
    let bytes = fs::read(dir.path().join("0000000000000001.log")).unwrap();
    for (_, frame) in kept {
        assert!(bytes.windows(frame.len()).any(|window| window == frame));
    }
}

#[test]
fn one_group_is_one_write_and_one_sync() {
    let dir = tempdir().unwrap();
    let disk = FailingDisk::new(Failure::Lie);
    let mut run = Run::new(dir.path(), &disk, 1 << 20);
    let before = disk.steps();
    run.group(1);
    assert_eq!(disk.steps() - before, 2);
}
