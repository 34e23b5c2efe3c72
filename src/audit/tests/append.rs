//! Groups, numbers, files and reading back, on a disk that works.

use std::{fs, path::Path};

use tempfile::tempdir;

use crate::audit::{testing::*, *};
use crate::model::Signer as _;

#[test]
fn entries_come_back_in_order_across_groups_files_and_a_restart() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path()).with_segment_bytes(20_000);
    for group in 0..30 {
        let head = append(&mut log, group * 10 + 1..=group * 10 + 10);
        assert_eq!((head.size, head.group), (group * 10 + 10, group + 1));
    }
    assert!(fs::read_dir(dir.path()).unwrap().count() > 3);
    let all: Vec<u64> = (1..=300).collect();
    assert_eq!(numbers(&log), all);
    let head = log.head();
    drop(log);
    let log = open(dir.path(), head, Frames::new()).unwrap();
    assert_eq!((log.head(), log.recovery()), (head, Recovery::default()));
    assert_eq!(numbers(&log), all);
    assert!(log.read(17, 1).unwrap()[0].1 == entry(18));
}

#[test]
fn a_page_begins_after_any_number_and_holds_at_most_its_limit() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path()).with_segment_bytes(30_000);
    for group in 0..20 {
        append(&mut log, group * 13 + 1..=group * 13 + 13);
    }
    for after in (0..262).chain([u64::MAX - 1, u64::MAX]) {
        for limit in [0, 1, 2, 64, 65, 300] {
            let page = log.read(after, limit).unwrap();
            let expected = (1..=260_u64).filter(|n| *n > after).take(limit);
            assert!(page.iter().map(|(sequence, _)| *sequence).eq(expected), "after {after}, limit {limit}");
            assert!(page.iter().all(|(sequence, found)| *found == entry(*sequence)));
        }
    }
}

#[test]
fn a_page_found_before_the_log_grew_still_reads() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path()).with_segment_bytes(2_000);
    append(&mut log, 1..=5);
    let page = log.page(2, 10);
    append(&mut log, 6..=9);
    assert_eq!(page.entries().unwrap().len(), 3);
}

#[test]
fn changes_come_before_retrievals_and_nothing_is_a_group_of_its_own() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path());
    let empty = log.head();
    assert_eq!(log.append(Frames::new(), Frames::new()).unwrap(), empty);
    let must = log.stage(&entries(1..=2)).unwrap();
    let may = log.stage(&entries(3..=3)).unwrap();
    assert_eq!(may[0].0, 3);
    assert_eq!(log.settled_below(), 1);
    log.append(must, may).unwrap();
    assert_eq!((numbers(&log), log.settled_below()), (vec![1, 2, 3], 4));
}

#[test]
fn what_is_unstaged_leaves_no_trace() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path());
    append(&mut log, 1..=3);
    let given_up = log.stage(&entries(4..=5)).unwrap();
    log.unstage();
    append(&mut log, 14..=14);
    assert_eq!(numbers(&log), [1, 2, 3, 14]);
    assert!(matches!(log.append(given_up, Frames::new()), Err(LogError::OutOfOrder)));
    log.unstage();
    append(&mut log, 15..=15);
    assert_eq!(numbers(&log), [1, 2, 3, 14, 15]);
}

#[test]
fn frames_out_of_order_or_changed_are_not_appended() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path());
    let staged = log.stage(&entries(1..=3)).unwrap();
    let mut swapped = staged.clone();
    swapped.swap(0, 1);
    let mut changed = staged.clone();
    changed[1].1[20] ^= 1;
    let renumbered = staged.iter().map(|(n, frame)| (n + 1, frame.clone())).collect();
    for bad in [swapped, changed, renumbered, staged[1..].to_vec()] {
        assert!(matches!(log.append(bad, Frames::new()), Err(LogError::OutOfOrder)));
    }
    assert_eq!(log.append(Frames::new(), staged).unwrap().size, 3);
}

#[test]
fn an_entry_at_the_bound_is_written_and_one_past_it_refused() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path());
    let of = |bytes: usize| Entry { detail: Some("x".repeat(bytes)), ..entry(1) };
    let overhead = log.stage(&[of(0)]).unwrap()[0].1.len() - (4 + 1 + 8 + 32);
    log.unstage();
    assert!(matches!(log.stage(&[of(ENTRY_BYTES - overhead + 1)]), Err(LogError::TooLarge)));
    let staged = log.stage(&[of(ENTRY_BYTES - overhead)]).unwrap();
    let head = log.append(Frames::new(), staged).unwrap();
    assert_eq!(open(dir.path(), head, Frames::new()).unwrap().read(0, 1).unwrap().len(), 1);
}

#[test]
fn a_log_is_made_once_and_named_by_what_can_stand_in_a_note() {
    let dir = tempdir().unwrap();
    drop(create(dir.path()));
    let again = Log::create(dir.path(), ORIGIN, sealer(), signer(), std::sync::Arc::new(RealDisk));
    assert!(matches!(again, Err(LogError::Exists)));
    let spaced = Log::create(dir.path(), "a b", sealer(), signer(), std::sync::Arc::new(RealDisk));
    assert!(matches!(spaced, Err(LogError::Origin)));
}

#[test]
fn the_checkpoint_states_the_head() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path());
    let head = append(&mut log, 1..=5);
    let said = log.checkpoint().open(ORIGIN, &TestSigner::new(1).public_key()).unwrap();
    assert_eq!((said.size, said.root), (5, head.root));
}

#[test]
fn nothing_of_an_entry_is_readable_on_disk() {
    let dir = tempdir().unwrap();
    let mut log = create(dir.path());
    append(&mut log, 1..=20);
    let bytes = whole(dir.path());
    let control = serde_json::to_vec(&entries(1..=20)).unwrap();
    for planted in ["nurse-joy", "patient-0042", "rec-000017", "nurse-care-team", "forbidden", "minilm", "team-9"] {
        let holds = |bytes: &[u8]| bytes.windows(planted.len()).any(|window| window == planted.as_bytes());
        assert!(holds(&control) && !holds(&bytes), "{planted}");
    }
}

#[test]
fn files_and_the_directory_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempdir().unwrap();
    let dir = root.path().join("audit");
    drop(create(&dir));
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("0000000000000001.log")), 0o600);
}

fn whole(dir: &Path) -> Vec<u8> {
    fs::read_dir(dir).unwrap().flat_map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}
