use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
};

use super::*;
use crate::model::Hold;
use crate::store::{
    Change, OpenOptions, Store, StoredRecord,
    fixture::{
        self, api_key, at, bundle, collection, copy, entity, everything, fill, options, patient, phrase, record,
        records,
    },
    key_tests::Forensics,
};

mod ledger;

const LATER: u64 = 3_600;

/// A store with something of everything, a place for backups, and a place to restore to.
struct Scene {
    room: tempfile::TempDir,
    store: Store,
}

impl Scene {
    fn new() -> Self {
        let room = tempfile::tempdir().unwrap();
        let store = fixture::create(&room.path().join("data"));
        fill(&store);
        fs::write(store.audit_dir().join("00000001.log"), b"the first four entries").unwrap();
        store.keep_ledger_beside(&room.path().join("backup"));
        Self { room, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    fn commit(&self, change: Result<Change, StoreError>) {
        self.store.commit(&[change.unwrap()], &[], 0).unwrap();
    }

    fn back_up(&self) -> Taken {
        self.back_up_meanwhile(|| ())
    }

    fn back_up_meanwhile(&self, meanwhile: impl FnOnce()) -> Taken {
        self.complete(self.store.back_up_to(&self.path("backup")).unwrap(), || (), meanwhile)
    }

    /// A backup as a stream; `at_each_write` is done whenever something goes out.
    fn stream(&self, at_each_write: impl FnMut(), early: impl FnOnce(), late: impl FnOnce()) -> (Taken, Vec<u8>) {
        let mut bytes = Vec::new();
        let out = Box::new(Looked { out: &mut bytes, at_each_write });
        let taken = self.complete(self.store.back_up_into(out).unwrap(), early, late);
        (taken, bytes)
    }

    /// With something done while commits go on, before and after what they touched was looked at.
    fn complete(&self, mut copying: Copying<'_>, early: impl FnOnce(), late: impl FnOnce()) -> Taken {
        copying.rows(&|_| ()).unwrap();
        early();
        copying.catch_up().unwrap();
        late();
        let log = self.store.audit_dir().join("00000001.log");
        let length = fs::metadata(&log).unwrap().len();
        copying.settle(LogCut { size: 4, root: [4; 32], group: 2, files: vec![(log, length)] }, at()).unwrap();
        copying.finish().unwrap()
    }

    fn escrow(&self) -> Vec<u8> {
        self.store.escrow(at()).unwrap()
    }

    fn restore(&self, escrow: &[u8], to: &str) -> Result<Restored, BackupError> {
        self.restore_with(escrow, to, |plan| plan)
    }

    fn restore_with<'a>(
        &self,
        escrow: &'a [u8],
        to: &str,
        with: impl FnOnce(Plan<'a>) -> Plan<'a>,
    ) -> Result<Restored, BackupError> {
        let plan = Plan { now: at().plus_seconds(LATER), ..plan_of(self, escrow, to) };
        restore(&with(plan), &options(), &|_| ())
    }
}

struct Looked<'a, F> {
    out: &'a mut Vec<u8>,
    at_each_write: F,
}

impl<F: FnMut()> std::io::Write for Looked<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        (self.at_each_write)();
        self.out.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// For as long as the test's process: a plan borrows its paths.
fn leak(path: &Path) -> &'static Path {
    Box::leak(path.to_owned().into_boxed_path())
}

fn said(error: &BackupError) -> String {
    format!("{error:?}")
}

#[test]
fn a_restored_store_holds_what_the_first_one_held_and_opens_under_the_same_passphrase() {
    let scene = Scene::new();
    let taken = scene.back_up();
    let restored = scene.restore(&scene.escrow(), "restored").unwrap();
    assert_eq!((taken.number, restored.files), (0, 1));
    assert_eq!((restored.gone_since, restored.older, restored.lost, restored.entries), (0, 0, 0, 4));
    let again = fixture::open(&scene.path("restored"));
    assert_eq!(everything(&again).unwrap(), everything(&scene.store).unwrap());
    assert_eq!(again.ring().store_id(), scene.store.ring().store_id());
    assert_eq!(again.ring().epoch(), scene.store.ring().epoch() + 1);
    assert!(again.verify().unwrap().is_sound());
    assert_eq!(fs::read(again.audit_dir().join("00000001.log")).unwrap(), b"the first four entries");
    assert_eq!((again.manifest().audit_size, again.manifest().audit_root), (4, [4; 32]));
    // and goes on
    again.commit(&[again.put_records(&collection(), &records(40..50), at()).unwrap()], &[], 0).unwrap();
}

#[test]
fn what_is_committed_while_rows_are_copied_is_in_the_backup_as_it_is_at_its_moment() {
    let scene = Scene::new();
    scene.back_up_meanwhile(|| {
        scene.commit(scene.store.put_records(&collection(), &[record(3, 2), record(90, 1)], at()));
        scene.commit(Ok(scene.store.erase_records(&collection().name, &[record(4, 1).record.id], at())));
        scene.commit(scene.store.put_entities(&[entity(9)], at()));
        scene.commit(Ok(scene.store.remove_entities(&[patient(2)], at())));
    });
    scene.restore(&scene.escrow(), "restored").unwrap();
    assert_eq!(everything(&fixture::open(&scene.path("restored"))).unwrap(), everything(&scene.store).unwrap());
}

#[test]
fn what_comes_and_goes_while_rows_are_copied_counts_for_what_became_of_it() {
    let scene = Scene::new();
    let put = |n| scene.commit(scene.store.put_records(&collection(), &[record(n, 1)], at()));
    let erase = |n| scene.commit(Ok(scene.store.erase_records(&collection().name, &[record(n, 1).record.id], at())));
    let taken = scene.back_up_meanwhile(|| erase(4));
    assert_eq!((taken.changed, taken.gone), (taken.objects, 0), "before the first file nothing was there");
    let copying = scene.store.back_up_to(&scene.path("backup")).unwrap();
    let early = || {
        put(91);
        erase(5);
        erase(6);
    };
    let late = || {
        erase(91);
        put(6);
    };
    let taken = scene.complete(copying, early, late);
    assert_eq!(taken.gone, 1, "what came and went was never there, and what went and came back is another");
    scene.restore(&scene.escrow(), "restored").unwrap();
    assert_eq!(everything(&fixture::open(&scene.path("restored"))).unwrap(), everything(&scene.store).unwrap());
}

#[test]
fn a_later_file_holds_what_changed_and_any_of_them_can_be_gone_back_to() {
    let scene = Scene::new();
    let whole = scene.back_up();
    let first = everything(&scene.store).unwrap();
    let nothing = scene.back_up();
    assert_eq!((nothing.number, nothing.changed, nothing.gone), (1, 0, 0));
    scene.commit(scene.store.put_records(&collection(), &[record(3, 2)], at()));
    scene.commit(Ok(scene.store.erase_records(&collection().name, &[record(4, 1).record.id], at())));
    fs::write(scene.store.audit_dir().join("00000001.log"), b"the first four entries and two more").unwrap();
    let some = scene.back_up();
    assert_eq!((some.number, some.gone), (2, 1));
    assert!(some.changed < 5 && some.bytes < whole.bytes / 2, "{some:?} {whole:?}");
    let escrow = scene.escrow();
    scene.restore(&escrow, "last").unwrap();
    let last = fixture::open(&scene.path("last"));
    assert_eq!(everything(&last).unwrap(), everything(&scene.store).unwrap());
    assert_eq!(fs::read(last.audit_dir().join("00000001.log")).unwrap(), b"the first four entries and two more");
    let earlier = scene.restore_with(&escrow, "earlier", |plan| Plan { until: Some(1), ..plan }).unwrap();
    assert_eq!((earlier.files, earlier.gone_since, earlier.older), (2, 1, 1));
    let earlier = everything(&fixture::open(&scene.path("earlier"))).unwrap();
    let without_erased: Vec<_> = first.lines().filter(|line| earlier.contains(*line)).collect();
    assert_eq!(without_erased.len(), first.lines().count() - 1, "all but the record that was erased since");
}

#[test]
fn what_was_erased_and_revoked_after_the_backup_does_not_come_back() {
    let scene = Scene::new();
    scene.back_up();
    let of_patient: Vec<_> = (0..40).filter(|n| n % 10 == 1).map(|n| record(n, 1).record.id).collect();
    scene.commit(Ok(scene.store.erase_records(&collection().name, &of_patient, at())));
    scene.commit(Ok(scene.store.remove_entities(&[patient(1)], at())));
    scene.commit(Ok(scene.store.remove_api_key(&api_key(7).key_id, at())));
    let restored = scene.restore(&scene.escrow(), "restored").unwrap();
    assert_eq!(restored.gone_since, of_patient.len() as u64 + 2);
    assert_eq!(everything(&fixture::open(&scene.path("restored"))).unwrap(), everything(&scene.store).unwrap());
}

#[test]
fn a_copy_whose_key_was_destroyed_with_a_neighbour_is_lost_until_the_next_file() {
    let scene = Scene::new();
    scene.back_up();
    // all but one record of a patient are sealed anew, and the one goes: the patient's key is rolled
    let name = collection().name;
    let others: Vec<_> = [11, 21, 31].map(|n| record(n, 1).record.id).into();
    scene.store.roll_keys(&name, &others).unwrap();
    scene.commit(Ok(scene.store.reseal_records(&name, &others, at()).unwrap().change.unwrap()));
    scene.commit(Ok(scene.store.erase_records(&name, &[record(1, 1).record.id], at())));
    let escrow = scene.escrow();
    let early = scene.restore(&escrow, "early").unwrap();
    assert_eq!((early.gone_since, early.lost), (1, 3), "{early:?}");
    scene.back_up();
    let restored = scene.restore(&scene.escrow(), "restored").unwrap();
    assert_eq!((restored.gone_since, restored.lost), (0, 0), "{restored:?}");
    assert_eq!(everything(&fixture::open(&scene.path("restored"))).unwrap(), everything(&scene.store).unwrap());
}

#[test]
fn the_key_of_an_erased_patient_is_in_no_backup_and_no_later_escrow() {
    let scene = Scene::new();
    scene.back_up();
    let of_patient: Vec<_> = (0..40).filter(|n| n % 10 == 1).map(|n| record(n, 1).record.id).collect();
    let before = scene.escrow();
    scene.commit(Ok(scene.store.erase_records(&collection().name, &of_patient, at())));
    let opened = |escrow: &[u8]| {
        let escrow = crate::crypto::Escrow::open(escrow, &phrase()).unwrap();
        deposit::Deposit::read(&escrow.body).unwrap()
    };
    let (before, after) = (opened(&before), opened(&scene.escrow()));
    assert_eq!(before.keys.len(), after.keys.len() + 1, "one key went, that of the patient");
    assert!(after.keys.keys().all(|id| before.keys.contains_key(id)));
}

#[test]
fn what_was_erased_opens_from_no_backup_taken_before_with_any_key_that_is_left() {
    let scene = Scene::new();
    scene.back_up();
    // all rows of the backup, without the seal around them: whoever has the store's ring can take that off
    let rows = scene.path("rows");
    fs::create_dir(&rows).unwrap();
    let files = fs::read_dir(scene.path("backup")).unwrap().map(|entry| entry.unwrap().path());
    let file = files.filter(|path| path.extension().is_some_and(|kind| kind == "wkb")).collect::<Vec<_>>();
    let [file] = &file[..] else { panic!("one file: {file:?}") };
    let mut unsealed = Vec::new();
    let mut each = |item| {
        if let Item::Put { value, .. } = item {
            unsealed.extend_from_slice(&value.0);
        }
        Ok(())
    };
    let sealer = scene.store.ring().sealer("backup");
    let number = stream::Header::read_any(&mut fs::File::open(file).unwrap()).unwrap().number;
    stream::Inlet::begin(fs::File::open(file).unwrap(), sealer, number).unwrap().read(&mut each).unwrap();
    fs::write(rows.join("rows"), &unsealed).unwrap();
    let places = [rows, scene.path("data")];
    let reads = |stored: &StoredRecord| {
        let forensics = Forensics::of(scene.store.ring(), &places.each_ref().map(PathBuf::as_path));
        forensics.reads_in(&collection().name, stored)
    };
    let gone = record(1, 1);
    let row = scene.store.engine.get(&scene.store.names.record(&collection().name, &gone.record.id)).unwrap().unwrap();
    assert!(reads(&gone) && unsealed.windows(row.len()).any(|window| window == row), "the control: until it is erased");
    let of_patient: Vec<_> = (0..40).filter(|n| n % 10 == 1).map(|n| record(n, 1).record.id).collect();
    scene.commit(Ok(scene.store.erase_records(&collection().name, &of_patient, at())));
    assert!(!reads(&gone) && reads(&record(2, 1)));
}

#[test]
fn permissions_of_an_earlier_time_come_back_only_if_they_are_accepted() {
    for newer in ["entity", "bundle"] {
        let scene = Scene::new();
        scene.back_up();
        match newer {
            "entity" => {
                let mut changed = entity(1);
                changed.attrs.clear();
                scene.commit(scene.store.put_entities(&[changed], at()));
            }
            _ => scene.commit(scene.store.put_bundle(3, &bundle("third"), at())),
        }
        let escrow = scene.escrow();
        let refused = scene.restore(&escrow, "restored").unwrap_err();
        assert!(matches!(refused, BackupError::OlderPermissions(1)), "{newer}: {refused:?}");
        assert_eq!(fs::read_dir(scene.path("restored")).unwrap().count(), 0, "nothing is left of it");
        scene.restore_with(&escrow, "restored", |plan| Plan { accept_older_permissions: true, ..plan }).unwrap();
    }
}

#[test]
fn an_escrow_that_is_older_than_the_backup_or_than_a_week_or_of_another_store_or_damaged_is_refused() {
    let scene = Scene::new();
    let early = scene.escrow();
    scene.commit(scene.store.put_records(&collection(), &[record(77, 1)], at()));
    scene.back_up();
    assert!(matches!(scene.restore(&early, "a"), Err(BackupError::OlderEscrow)));
    let escrow = scene.escrow();
    let week = limits::ESCROW_DAYS * 86_400;
    let at_age = |age| Plan { now: at().plus_seconds(age), ..plan_of(&scene, &escrow, "b") };
    assert!(matches!(restore(&at_age(week + 1), &options(), &|_| ()), Err(BackupError::OldEscrow)));
    restore(&at_age(week), &options(), &|_| ()).unwrap();
    scene
        .restore_with(&escrow, "c", |plan| Plan { now: at().plus_seconds(week + 1), accept_old_escrow: true, ..plan })
        .unwrap();
    let other = Scene::new();
    assert!(matches!(scene.restore(&other.escrow(), "d"), Err(BackupError::Damaged(0) | BackupError::Foreign)));
    let mut damaged = escrow.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(scene.restore(&damaged, "e"), Err(BackupError::DamagedEscrow)));
    let nowhere = scene.path("nowhere");
    let missing = [
        Plan { from: &nowhere, ..plan_of(&scene, &escrow, "g") },
        Plan { until: Some(7), ..plan_of(&scene, &escrow, "g") },
    ];
    assert!(missing.iter().all(|plan| matches!(restore(plan, &options(), &|_| ()), Err(BackupError::Missing))));
    let occupied = scene.path("f");
    fs::create_dir(&occupied).unwrap();
    fs::write(occupied.join("mine"), b"x").unwrap();
    assert!(matches!(scene.restore(&escrow, "f"), Err(BackupError::Store(StoreError::Occupied))));
    assert!(occupied.join("mine").exists());
}

fn plan_of<'a>(scene: &Scene, escrow: &'a [u8], to: &str) -> Plan<'a> {
    Plan {
        from: leak(&scene.path("backup")),
        until: None,
        escrow,
        ledger: None,
        accept_missing_ledger: false,
        unlock: Box::leak(Box::new(phrase())),
        to: leak(&scene.path(to)),
        now: at(),
        accept_old_escrow: false,
        accept_older_permissions: false,
    }
}

#[test]
fn a_changed_cut_swapped_or_missing_file_is_refused_by_its_number_and_leaves_nothing() {
    let scene = Scene::new();
    scene.back_up();
    scene.commit(scene.store.put_records(&collection(), &[record(3, 2)], at()));
    scene.back_up();
    scene.back_up();
    let escrow = scene.escrow();
    let file = |n: u32| scene.path("backup").join(file_name(n));
    let good: Vec<_> = (0..3).map(|n| fs::read(file(n)).unwrap()).collect();
    let refused = |what: &str, number: u32| {
        let error = scene.restore(&escrow, "restored").err().unwrap_or_else(|| panic!("{what}: was taken"));
        assert!(
            matches!(error, BackupError::Damaged(n) | BackupError::Unfinished(n) if n == number)
                || matches!(error, BackupError::Foreign),
            "{what}: {}",
            said(&error)
        );
        assert_eq!(fs::read_dir(scene.path("restored")).map_or(0, Iterator::count), 0, "{what}");
    };
    for n in 0..3_u32 {
        let bytes = &good[n as usize];
        for at in [0, 9, 30, 42, 50, 77, 80, bytes.len() / 2, bytes.len() - 1] {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            fs::write(file(n), &bad).unwrap();
            refused(&format!("byte {at} of file {n}"), n);
        }
        for end in [0, 60, 79, bytes.len() / 2, bytes.len() - 1] {
            fs::write(file(n), &bytes[..end]).unwrap();
            refused(&format!("file {n} cut at {end}"), n);
        }
        fs::write(file(n), [bytes.as_slice(), b"x"].concat()).unwrap();
        refused(&format!("file {n} with a byte more"), n);
        fs::write(file(n), bytes).unwrap();
    }
    fs::write(file(1), &good[2]).unwrap();
    refused("a file in another's place", 1);
    fs::remove_file(file(1)).unwrap();
    refused("a file missing", 1);
    fs::write(file(1), &good[1]).unwrap();
    fs::remove_file(file(0)).unwrap();
    refused("the first missing", 0);
    fs::write(file(0), &good[0]).unwrap();
    scene.restore(&escrow, "restored").unwrap();
}

#[test]
fn a_stream_is_a_whole_file_that_is_restored_alone_and_one_that_was_cut_off_is_told_from_it() {
    let scene = Scene::new();
    scene.back_up();
    let (taken, bytes) = scene.stream(|| (), || (), || ());
    assert_eq!((taken.number, taken.whole, taken.bytes), (0, true, bytes.len() as u64));
    assert!(names(&scene.path("backup")).iter().all(|name| name != "00000001.wkb"), "it lies in no directory");
    let (escrow, file) = (scene.escrow(), scene.path("streamed"));
    let ledger = scene.path("data").join("ledger");
    let restore = |to: &str| {
        let from = leak(&file);
        scene.restore_with(&escrow, to, |plan| Plan { from, ledger: Some(leak(&ledger)), ..plan })
    };
    fs::write(&file, &bytes).unwrap();
    let keys = crate::crypto::Escrow::open(&escrow, &phrase()).unwrap().keys(&crate::crypto::OsEntropy).unwrap();
    let found = inspect(&file, &keys).unwrap();
    assert!(found.len() == 1 && found[0].sound && found[0].whole, "{found:?}");
    assert_eq!(restore("restored").unwrap().files, 1);
    assert_eq!(everything(&fixture::open(&scene.path("restored"))).unwrap(), everything(&scene.store).unwrap());
    assert!(matches!(
        scene.restore_with(&escrow, "alone", |plan| Plan { from: leak(&file), ..plan }),
        Err(BackupError::NoLedger)
    ));

    let nothing_there = |to: &str| fs::read_dir(scene.path(to)).map_or(0, Iterator::count) == 0;
    for end in (0..bytes.len()).step_by(bytes.len() / 40).chain([bytes.len() - 1]) {
        fs::write(&file, &bytes[..end]).unwrap();
        let refused = restore("cut").unwrap_err();
        assert!(matches!(refused, BackupError::Unfinished(0)), "cut at {end}: {}", said(&refused));
        assert!(refused.to_string().contains("ends before its end") && nothing_there("cut"));
    }
    for at in [0, 30, 42, 77, bytes.len() / 2, bytes.len() - 1] {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        fs::write(&file, &bad).unwrap();
        assert!(restore("changed").is_err() && nothing_there("changed"), "byte {at}");
    }
    // what holds only changes is nothing alone
    scene.back_up();
    fs::copy(scene.path("backup").join(file_name(1)), &file).unwrap();
    let refused = restore("changes").unwrap_err();
    assert!(matches!(refused, BackupError::NotWhole(1)), "{}", said(&refused));
    assert!(nothing_there("changes"));
}

#[test]
fn whoever_reads_a_stream_holds_up_no_commit_and_what_is_committed_meanwhile_is_in_it() {
    let scene = Scene::new();
    let write = |from: usize, version| {
        let long = |n| {
            let mut stored = record(n, version);
            stored.record.text = crate::model::Phi::new("a long narrative ".repeat(1_000));
            stored
        };
        let records: Vec<_> = (from..from + 200).map(long).collect();
        scene.commit(scene.store.put_records(&collection(), &records, at()));
    };
    let (mut writes, mut held_up) = (0, 0);
    let looked = || {
        writes += 1;
        held_up += u32::from(scene.store.ledger.try_lock().is_none());
    };
    let early = || {
        write(100, 1);
        scene.commit(Ok(scene.store.erase_records(&collection().name, &[record(4, 1).record.id], at())));
    };
    // several chunks, made while commits are held
    let (_, bytes) = scene.stream(looked, early, || write(200, 2));
    assert!(writes > 3 && held_up == 0, "{held_up} of {writes}");
    let file = scene.path("backup").join("streamed");
    fs::write(&file, &bytes).unwrap();
    let escrow = scene.escrow();
    scene.restore_with(&escrow, "restored", |plan| Plan { from: leak(&file), ..plan }).unwrap();
    assert_eq!(everything(&fixture::open(&scene.path("restored"))).unwrap(), everything(&scene.store).unwrap());
}

#[test]
fn nothing_can_be_read_in_a_backup_or_an_escrow_and_no_wrapped_key_is_in_a_backup() {
    let scene = Scene::new();
    scene.back_up();
    let backup = fs::read(scene.path("backup").join(file_name(0))).unwrap();
    let escrow = scene.escrow();
    let planted =
        ["identifier", "narrative", "cardiology", "psychotherapy", "family name", "treatment", "the whole schema"];
    for bytes in [&backup, &escrow] {
        for word in planted {
            assert!(!bytes.windows(word.len()).any(|w| w == word.as_bytes()), "{word}");
        }
    }
    let wraps = Cell::new(0);
    let inlet = stream::Inlet::begin(backup.as_slice(), scene.store.ring().sealer("backup"), 0).unwrap();
    inlet
        .read(&mut |item| {
            if let Item::Put { key, .. } = item {
                wraps.set(wraps.get() + u32::from(matches!(key.0.first(), Some(b'K' | b'W'))));
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(wraps.get(), 0);
}

#[test]
fn one_backup_at_a_time_and_one_that_is_broken_off_leaves_nothing_and_bars_no_other() {
    let scene = Scene::new();
    let mut first = scene.store.back_up_to(&scene.path("backup")).unwrap();
    first.rows(&|_| ()).unwrap();
    assert!(matches!(scene.store.back_up_to(&scene.path("elsewhere")), Err(BackupError::Busy)));
    assert!(matches!(scene.store.escrow(at()), Err(BackupError::Busy)));
    drop(first);
    assert_eq!(names(&scene.path("backup")), ["LOCK", "ledger"]);
    scene.back_up();
    let other = Scene::new();
    assert!(matches!(
        other.store.back_up_to(&scene.path("backup")),
        Err(BackupError::Foreign | BackupError::Damaged(0))
    ));
}

/// What lies in a directory.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn until_a_backup_has_its_name_no_other_is_begun_in_its_directory() {
    let scene = Scene::new();
    let mut first = scene.store.back_up_to(&scene.path("backup")).unwrap();
    first.rows(&|_| ()).unwrap();
    first.settle(LogCut::default(), at()).unwrap();
    assert!(matches!(scene.store.back_up_to(&scene.path("backup")), Err(BackupError::Busy)));
    assert_eq!(first.finish().unwrap().number, 0);
    assert_eq!(scene.back_up().number, 1);
    scene.restore(&scene.escrow(), "restored").unwrap();
}

#[test]
fn after_a_file_that_is_changed_cut_or_missing_the_next_one_is_whole_says_why_and_is_restored_alone() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm, u32); 5] = [
        ("changed in the middle", |dir| flip(&dir.join(file_name(1)), 300), 1),
        ("changed in its header", |dir| flip(&dir.join(file_name(2)), 50), 2),
        ("the last one changed", |dir| flip(&dir.join(file_name(2)), 200), 2),
        ("cut", |dir| fs::write(dir.join(file_name(0)), b"WKBACK").unwrap(), 0),
        ("missing", |dir| fs::remove_file(dir.join(file_name(1))).unwrap(), 1),
    ];
    for (what, harm, number) in harms {
        let scene = Scene::new();
        for version in 2..5 {
            scene.back_up();
            scene.commit(scene.store.put_records(&collection(), &[record(3, version)], at()));
        }
        harm(&scene.path("backup"));
        let taken = scene.back_up();
        assert_eq!((taken.number, taken.whole), (3, true), "{what}");
        assert_eq!(taken.broken, Some(number), "{what}");
        let added = scene.back_up();
        assert_eq!((added.number, added.whole, added.broken), (4, false, None), "{what}");
        let restored = scene.restore(&scene.escrow(), "restored").unwrap();
        assert_eq!(restored.files, 2, "{what}");
        assert_eq!(everything(&fixture::open(&scene.path("restored"))).unwrap(), everything(&scene.store).unwrap());
        // what comes before the harm can still be gone back to, what comes after cannot
        let escrow = scene.escrow();
        let earlier = |until| {
            scene.restore_with(&escrow, &format!("{until}"), |plan| Plan {
                until: Some(until),
                accept_older_permissions: true,
                ..plan
            })
        };
        assert!(matches!(earlier(2), Err(BackupError::Damaged(_) | BackupError::Unfinished(_))), "{what}");
        assert_eq!(earlier(0).is_ok(), number != 0, "{what}");
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_backup_goes_into_no_directory_that_others_may_write_and_through_no_link() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    let scene = Scene::new();
    let backup = scene.path("backup");
    for (mode, taken) in [(0o777, false), (0o770, false), (0o720, false), (0o755, true)] {
        fs::set_permissions(&backup, fs::Permissions::from_mode(mode)).unwrap();
        match scene.store.back_up_to(&backup) {
            Ok(_) => assert!(taken, "{mode:o}"),
            Err(error) => assert!(!taken && matches!(error, BackupError::Exposed), "{mode:o}: {error:?}"),
        }
    }
    let victim = scene.path("victim");
    fs::write(&victim, b"somebody's").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o666)).unwrap();
    symlink(&victim, backup.join("00000000.part")).unwrap();
    scene.back_up();
    assert_eq!(fs::read(&victim).unwrap(), b"somebody's");
    let file = fs::symlink_metadata(backup.join(file_name(0))).unwrap();
    assert_eq!((file.is_file(), file.mode() & 0o777), (true, 0o600));
    fs::remove_file(backup.join("LOCK")).unwrap();
    symlink(&victim, backup.join("LOCK")).unwrap();
    assert!(matches!(scene.store.back_up_to(&backup), Err(BackupError::Io(_))));
}

#[test]
fn a_full_disk_under_a_backup_is_named_as_such_and_the_store_is_well() {
    let scene = Scene::new();
    let full = || BackupError::Io(io::ErrorKind::StorageFull);
    let told = scene.store.each_row(&mut |_, _| Err(full())).unwrap_err();
    assert!(matches!(told, BackupError::Io(io::ErrorKind::StorageFull)), "{told:?}");
    assert!(told.to_string().contains("the store itself is well"), "{told}");
    assert!(!scene.store.is_halted());
    scene.commit(scene.store.put_records(&collection(), &[record(3, 2)], at()));
}

#[test]
fn legal_holds_come_back_as_the_escrow_has_them_and_nothing_expires_until_they_are_confirmed() {
    let scene = Scene::new();
    let hold = |n| Hold { patient: patient(n), by: patient(9), since: at(), reason: Some("a case".into()) };
    scene.commit(scene.store.put_hold(&hold(1), at()));
    scene.back_up();
    scene.commit(Ok(scene.store.remove_hold(&patient(1), at())));
    scene.commit(scene.store.put_hold(&hold(2), at()));
    let restored = scene.restore(&scene.escrow(), "restored").unwrap();
    assert_eq!((restored.gone_since, restored.lost), (1, 0), "the one that was lifted");
    let again = fixture::open(&scene.path("restored"));
    let mut holds = again.holds().unwrap();
    holds.sort_by(|a, b| a.patient.cmp(&b.patient));
    assert_eq!(holds, [hold(2), Hold::until_confirmed(at().plus_seconds(LATER))]);
    assert!(again.verify().unwrap().is_sound());
}

/// The same escrow as an older build would have taken it.
fn of_an_older_build(scene: &Scene, escrow: &[u8], knows_the_ledger: bool) -> Vec<u8> {
    let opened = crate::crypto::Escrow::open(escrow, &phrase()).unwrap();
    let body = deposit::of_an_older_build(&opened.body, knows_the_ledger);
    scene.store.ring().escrow(&body, &crate::crypto::OsEntropy).unwrap()
}

#[test]
fn with_an_escrow_of_an_older_build_holds_are_those_of_the_backup_and_one_placed_since_refuses_or_is_told_as_lost() {
    let hold = |n| Hold { patient: patient(n), by: patient(9), since: at(), reason: Some("a case".into()) };
    let until_confirmed = Hold::until_confirmed(at().plus_seconds(LATER));
    let holds_in = |dir: PathBuf| {
        let mut holds = fixture::open(&dir).holds().unwrap();
        holds.sort_by(|a, b| a.patient.cmp(&b.patient));
        holds
    };
    let scene = Scene::new();
    scene.commit(scene.store.put_hold(&hold(1), at()));
    scene.commit(scene.store.put_hold(&hold(2), at()));
    scene.back_up();
    scene.commit(Ok(scene.store.remove_hold(&patient(2), at())));
    let lifted = of_an_older_build(&scene, &scene.escrow(), true);
    let restored = scene.restore(&lifted, "lifted").unwrap();
    assert_eq!((restored.holds, restored.gone_since, restored.lost), (HoldsOf::Backup, 1, 0));
    assert_eq!(holds_in(scene.path("lifted")), [hold(1), until_confirmed.clone()]);

    scene.commit(scene.store.put_hold(&hold(3), at()));
    let escrow = scene.escrow();
    let older = of_an_older_build(&scene, &escrow, true);
    let refused = scene.restore(&older, "placed").unwrap_err();
    assert!(matches!(refused, BackupError::OlderPermissions(1)), "{}", said(&refused));
    assert!(refused.to_string().contains("legal holds"), "{refused}");
    let accepting = |plan| Plan { accept_older_permissions: true, ..plan };
    let restored = scene.restore_with(&older, "placed", accepting).unwrap();
    assert_eq!((restored.holds, restored.lost), (HoldsOf::Backup, 1));
    assert_eq!(
        holds_in(scene.path("placed")),
        [hold(1), until_confirmed.clone()],
        "and nothing expires until somebody looked"
    );
    // the same moment with an escrow of this build
    assert_eq!(scene.restore(&escrow, "now").unwrap().holds, HoldsOf::Escrow);
    assert_eq!(holds_in(scene.path("now")), [hold(1), hold(3), until_confirmed]);

    // one from before the ledger does not know where that was
    let oldest = of_an_older_build(&scene, &escrow, false);
    assert!(matches!(scene.restore_with(&oldest, "oldest", accepting), Err(BackupError::NoLedger)));
}

#[test]
fn an_escrow_from_the_future_is_refused() {
    let scene = Scene::new();
    scene.back_up();
    let escrow = scene.escrow();
    let at_age = |seconds: i64, to| {
        let now = crate::clock::Instant::from_millis(at().millis() + seconds * 1_000);
        let plan = Plan { now, accept_old_escrow: true, ..plan_of(&scene, &escrow, to) };
        restore(&plan, &options(), &|_| ())
    };
    assert!(matches!(at_age(-61, "a"), Err(BackupError::FutureEscrow(61))));
    at_age(-60, "b").unwrap();
}

#[test]
fn a_restored_store_begins_its_own_backup_and_the_escrow_of_the_lost_one_does_not_fit_it() {
    for later in ["a later file of the lost store", "none"] {
        let scene = Scene::new();
        scene.back_up();
        let escrow = scene.escrow();
        if later != "none" {
            scene.commit(scene.store.put_records(&collection(), &[record(3, 2)], at()));
            scene.back_up();
        }
        let until = Some(0);
        scene.restore_with(&escrow, "restored", |plan| Plan { until, ..plan }).unwrap();
        let again = fixture::open(&scene.path("restored"));
        let scene = Scene { store: again, ..scene };
        scene.commit(scene.store.put_records(&collection(), &[record(77, 1)], at()));
        let taken = scene.back_up();
        assert_eq!((taken.whole, taken.broken), (true, None), "{later}");
        assert!(!scene.back_up().whole, "{later}");
        assert!(matches!(scene.restore(&escrow, "a"), Err(BackupError::OlderEscrow)), "{later}");
        scene.restore(&scene.escrow(), "b").unwrap();
    }
}

#[test]
fn a_store_is_restored_onto_the_engine_it_was_on_or_onto_the_one_that_is_asked_for() {
    use crate::store::{EngineKind, OpenOptions};
    let room = tempfile::tempdir().unwrap();
    let redb = OpenOptions { engine: Some(EngineKind::Redb), ..options() };
    let store = Store::create(&room.path().join("data"), &phrase(), crate::crypto::KdfCost::FLOOR, &redb).unwrap();
    fill(&store);
    let scene = Scene { store, room };
    let mut copying = scene.store.back_up_to(&scene.path("backup")).unwrap();
    copying.rows(&|_| ()).unwrap();
    copying.settle(LogCut::default(), at()).unwrap();
    copying.finish().unwrap();
    let escrow = scene.escrow();
    let asked = [
        (None, EngineKind::Redb),
        (Some(EngineKind::Sled), EngineKind::Sled),
        (Some(EngineKind::Redb), EngineKind::Redb),
    ];
    for (n, (engine, made)) in asked.into_iter().enumerate() {
        let to = format!("restored {n}");
        restore(&plan_of(&scene, &escrow, &to), &OpenOptions { engine, ..options() }, &|_| ()).unwrap();
        let again = Store::open(&scene.path(&to), &phrase(), &options()).unwrap();
        assert_eq!(again.engine_kind().unwrap(), made);
        assert_eq!(everything(&again).unwrap(), everything(&scene.store).unwrap());
    }
}
