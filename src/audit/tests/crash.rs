//! What a crash leaves, and what of it `open` mends or refuses.

use std::{fs, path::Path, sync::Arc};

use tempfile::tempdir;

use crate::audit::{testing::*, *};

const FIRST: &str = "0000000000000001.log";

fn copy(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn a_group_torn_at_any_byte_is_cut_if_it_was_not_recorded_and_refused_if_it_was() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path());
    let recorded = append(&mut log, 1..=4);
    let path = dir.path().join(FIRST);
    let good = fs::read(&path).unwrap().len();
    let last = append(&mut log, 5..=7);
    drop(log);
    let bytes = fs::read(&path).unwrap();
    for length in good..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        let refused = open(dir.path(), last, Frames::new());
        assert!(matches!(refused, Err(LogError::CutBack { found: 4, expected: 7 })), "{length}");
        assert_eq!(fs::read(&path).unwrap().len(), length, "a refused log is left alone");
        let mut log = open(dir.path(), recorded, Frames::new()).unwrap();
        assert_eq!(log.recovery().cut_bytes, (length - good) as u64);
        assert_eq!(numbers(&log), [1, 2, 3, 4]);
        let head = append(&mut log, 8..=8);
        assert_eq!(numbers(&open(dir.path(), head, Frames::new()).unwrap()), [1, 2, 3, 4, 8]);
    }
}

#[test]
fn a_torn_group_of_zeros_or_noise_is_cut() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path());
    let recorded = append(&mut log, 1..=4);
    let path = dir.path().join(FIRST);
    let good = fs::read(&path).unwrap();
    append(&mut log, 5..=7);
    let whole = fs::read(&path).unwrap();
    let tail = whole.len() - good.len();
    let mut holed = whole.clone();
    holed[good.len() + 300..good.len() + 812].fill(0);
    for torn in [[&good[..], &vec![0; tail]].concat(), [&good[..], &vec![0xa7; tail]].concat(), holed] {
        fs::write(&path, torn).unwrap();
        let log = open(dir.path(), recorded, Frames::new()).unwrap();
        assert_eq!((numbers(&log), log.recovery().cut_bytes), (vec![1, 2, 3, 4], tail as u64));
        assert_eq!(fs::read(&path).unwrap(), good);
    }
}

#[test]
fn a_whole_group_that_the_manifest_missed_is_kept_and_two_are_refused() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path());
    let heads = [log.head(), append(&mut log, 1..=2), append(&mut log, 3..=4), append(&mut log, 5..=6)];
    drop(log);
    assert!(matches!(open(dir.path(), heads[0], Frames::new()), Err(LogError::Ahead)));
    assert!(matches!(open(dir.path(), heads[1], Frames::new()), Err(LogError::Ahead)));
    let log = open(dir.path(), heads[2], Frames::new()).unwrap();
    assert_eq!((log.head(), log.recovery()), (heads[3], Recovery::default()));
    let wrong_root = Head { root: [1; 32], ..heads[3] };
    let wrong_group = Head { group: 4, ..heads[3] };
    assert!(matches!(open(dir.path(), wrong_root, Frames::new()), Err(LogError::Damaged(_))));
    assert!(matches!(open(dir.path(), wrong_group, Frames::new()), Err(LogError::CutBack { .. })));
}

#[test]
fn crashing_again_and_again_before_the_manifest_is_written_never_locks_the_store() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path());
    let recorded = append(&mut log, 1..=2);
    append(&mut log, 3..=4);
    for n in 5..9 {
        let mut log = open(dir.path(), recorded, Frames::new()).unwrap();
        append(&mut log, n..=n);
    }
    let log = open(dir.path(), recorded, Frames::new()).unwrap();
    assert_eq!(numbers(&log), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(verify(dir.path(), ORIGIN, None, signer().public_key(), Some(recorded)).is_sound());
}

#[test]
fn changes_committed_but_not_logged_are_appended_with_the_same_bytes() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path());
    let recorded = append(&mut log, 1..=3);
    let outbox = log.stage(&entries(4..=5)).unwrap();
    drop(log);
    let log = open(dir.path(), recorded, outbox.clone()).unwrap();
    assert_eq!(log.recovery(), Recovery { appended: 2, ..Recovery::default() });
    assert_eq!((numbers(&log), log.settled_below()), (vec![1, 2, 3, 4, 5], 6));
    drop(log);
    // The manifest was not written either before the next crash: the same frames come again.
    let log = open(dir.path(), recorded, outbox).unwrap();
    assert_eq!((numbers(&log), log.recovery()), (vec![1, 2, 3, 4, 5], Recovery::default()));
}

#[test]
fn a_torn_group_loses_its_retrievals_and_gets_its_changes_back() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path());
    let recorded = append(&mut log, 1..=3);
    let path = dir.path().join(FIRST);
    let must = log.stage(&entries(4..=5)).unwrap();
    let may = log.stage(&entries(6..=6)).unwrap();
    log.append(must.clone(), may).unwrap();
    drop(log);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let log = open(dir.path(), recorded, must).unwrap();
    assert_eq!(numbers(&log), [1, 2, 3, 4, 5]);
}

#[test]
fn a_change_reported_as_failed_that_was_durable_after_all_is_logged_under_a_new_number() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path());
    append(&mut log, 1..=3);
    let outbox = log.stage(&entries(4..=5)).unwrap();
    log.unstage();
    let recorded = append(&mut log, 14..=14);
    drop(log);
    let log = open(dir.path(), recorded, outbox).unwrap();
    assert_eq!(log.recovery(), Recovery { renumbered: 2, ..Recovery::default() });
    assert_eq!(numbers(&log), [1, 2, 3, 14, 4, 5]);
}

#[test]
fn frames_of_another_log_or_changed_ones_are_refused_and_a_gap_shows_that_the_log_was_cut() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path());
    let recorded = append(&mut log, 1..=3);
    let staged = log.stage(&entries(4..=6)).unwrap();
    drop(log);
    let mut changed = staged.clone();
    changed[0].1[30] ^= 1;
    let renumbered: Frames = staged.iter().map(|(n, frame)| (n + 1, frame.clone())).collect();
    for bad in [changed, renumbered, vec![(4, Vec::new())], vec![(4, vec![0; 300])]] {
        assert!(matches!(open(dir.path(), recorded, bad), Err(LogError::Outbox)));
    }
    let gap = open(dir.path(), recorded, staged[1..].to_vec());
    assert!(matches!(gap, Err(LogError::CutBack { found: 3, expected: 4 })));
}

#[test]
fn a_new_file_torn_at_any_byte_is_removed() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path()).with_segment_bytes(1);
    let recorded = append(&mut log, 1..=2);
    append(&mut log, 3..=4);
    drop(log);
    let second = dir.path().join("0000000000000003.log");
    let bytes = fs::read(&second).unwrap();
    for length in (0..bytes.len()).step_by(7) {
        fs::write(&second, &bytes[..length]).unwrap();
        let mut log = open(dir.path(), recorded, Frames::new()).unwrap().with_segment_bytes(1);
        assert!(!second.exists() && log.recovery().cut_bytes == length as u64);
        let head = append(&mut log, 5..=6);
        assert!(second.exists());
        assert_eq!(numbers(&open(dir.path(), head, Frames::new()).unwrap()), [1, 2, 5, 6]);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_never_cut() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path()).with_segment_bytes(1);
    let recorded = append(&mut log, 1..=2);
    // A directory in the place of the next file: opens, and fails to read.
    fs::create_dir(dir.path().join("0000000000000003.log")).unwrap();
    let refused = open(dir.path(), recorded, Frames::new());
    assert!(matches!(refused, Err(LogError::Damaged(Break { fault: Fault::Unreadable(_), .. }))));
}

#[test]
fn a_store_opens_on_a_full_disk_and_logs_what_waits_when_there_is_space() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path());
    let recorded = append(&mut log, 1..=3);
    let outbox = log.stage(&entries(4..=5)).unwrap();
    drop(log);
    let disk = FailingDisk::new(Failure::Short(10));
    disk.fail(1, u64::MAX);
    let on = Arc::new(OnFailing(Arc::clone(&disk)));
    let mut log = Log::open(dir.path(), ORIGIN, sealer(), signer(), on, recorded, outbox).unwrap();
    assert_eq!((log.head(), log.pending()), (recorded, 2));
    disk.mend();
    append(&mut log, 6..=6);
    assert_eq!((numbers(&log), log.pending()), (vec![1, 2, 3, 4, 5, 6], 0));
}

#[test]
fn a_log_of_another_store_or_an_older_copy_is_refused() {
    let (one, other, old) = (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    let mut log = create(one.path());
    append(&mut log, 1..=3);
    copy(one.path(), old.path());
    let head = append(&mut log, 4..=5);
    let mut stranger = Log::create(other.path(), "another/audit", sealer(), signer(), Arc::new(RealDisk)).unwrap();
    append(&mut stranger, 1..=5);
    assert!(matches!(open(old.path(), head, Frames::new()), Err(LogError::CutBack { found: 3, expected: 5 })));
    assert!(matches!(open(other.path(), head, Frames::new()), Err(LogError::Damaged(_))));
    let empty = tempdir().unwrap();
    assert!(matches!(open(empty.path(), head, Frames::new()), Err(LogError::Damaged(_))));
}
