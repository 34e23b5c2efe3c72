//! The ledger of erasures and revocations: what a restore does with it and without it, and its copy beside the backups.

use super::*;

/// Everything of patient 1 and an API key go, a bundle comes.
fn withdraw(scene: &Scene) {
    let of_patient: Vec<_> = (0..40).filter(|n| n % 10 == 1).map(|n| record(n, 1).record.id).collect();
    scene.commit(Ok(scene.store.erase_records(&collection().name, &of_patient, at())));
    scene.commit(Ok(scene.store.remove_entities(&[patient(1)], at())));
    scene.commit(Ok(scene.store.remove_api_key(&api_key(7).key_id, at())));
}

#[test]
fn what_was_erased_and_revoked_after_the_escrow_does_not_come_back_either() {
    let scene = Scene::new();
    scene.back_up();
    let escrow = scene.escrow();
    withdraw(&scene);
    let restored = scene.restore(&escrow, "restored").unwrap();
    assert_eq!((restored.gone_since, restored.ledger.withdrawn), (0, 4 + 2));
    assert!(restored.ledger.complete && restored.ledger.after_escrow == 3, "{restored:?}");
    let again = fixture::open(&scene.path("restored"));
    assert_eq!(everything(&again).unwrap(), everything(&scene.store).unwrap());
    // nor does it from a restore of the restored store, with the escrow and the backup of before
    fs::write(again.audit_dir().join("00000001.log"), b"the first four entries").unwrap();
    again.keep_ledger_beside(&scene.path("backup"));
    assert_eq!(again.ledger_state().copy, LedgerCopy::Current);
    let twice = scene.restore(&escrow, "twice").unwrap();
    assert_eq!(twice.ledger.withdrawn, 6);
}

#[test]
fn a_dropped_collection_stays_dropped_and_permissions_that_were_changed_after_the_escrow_must_be_accepted() {
    let scene = Scene::new();
    scene.back_up();
    let escrow = scene.escrow();
    scene.commit(Ok(scene.store.drop_collection(&collection().name, at())));
    scene.back_up();
    let until_0 = |plan| Plan { until: Some(0), ..plan };
    let restored = scene.restore_with(&escrow, "dropped", until_0).unwrap();
    assert!(restored.ledger.withdrawn > 40, "{restored:?}");
    assert_eq!(everything(&fixture::open(&scene.path("dropped"))).unwrap(), everything(&scene.store).unwrap());
    let mut changed = entity(1);
    changed.attrs.clear();
    scene.commit(scene.store.put_entities(&[changed, entity(77)], at()));
    scene.commit(scene.store.put_bundle(3, &bundle("third"), at()));
    scene.back_up();
    // the entity that came is missing, and that denies; the bundle that came may forbid
    assert!(matches!(scene.restore_with(&escrow, "b", until_0), Err(BackupError::OlderPermissions(2))));
    let accepted = |plan| Plan { until: Some(0), accept_older_permissions: true, ..plan };
    assert_eq!(scene.restore_with(&escrow, "b", accepted).unwrap().ledger.permissions, 2);
}

#[test]
fn without_its_ledger_with_another_or_with_one_that_ends_before_the_escrow_nothing_is_restored_unless_that_is_accepted()
{
    let scene = Scene::new();
    scene.store.keep_ledger_beside(&scene.path("backup"));
    let ledger = scene.path("backup").join("ledger");
    let lengths = || fs::read(&ledger).unwrap();
    scene.back_up();
    let before = lengths();
    withdraw(&scene);
    let escrow = scene.escrow();
    scene.commit(Ok(scene.store.remove_entities(&[patient(2)], at())));
    let whole = lengths();
    let mut middle = whole.clone();
    middle[before.len() + 30] ^= 1;
    let mut head = whole.clone();
    head[before.len() + 2] ^= 1;
    let other = Scene::new();
    other.back_up();
    let foreign = fs::read(other.path("backup").join("ledger")).unwrap();
    let bad: [(&str, Option<Vec<u8>>); 7] = [
        ("missing", None),
        ("before the escrow", Some(before.clone())),
        ("begun anew", Some(whole[..64].to_vec())),
        ("another store's", Some(foreign)),
        ("a byte of an entry", Some(middle)),
        ("a byte of a length", Some(head)),
        ("nothing", Some(Vec::new())),
    ];
    for (what, bytes) in bad {
        match &bytes {
            Some(bytes) => fs::write(&ledger, bytes).unwrap(),
            None => fs::remove_file(&ledger).unwrap(),
        }
        assert!(matches!(scene.restore(&escrow, "restored"), Err(BackupError::NoLedger)), "{what}");
        assert!(!scene.path("restored").exists(), "{what}");
        let accepted = |plan| Plan { accept_missing_ledger: true, ..plan };
        let restored = scene.restore_with(&escrow, &format!("despite {what}"), accepted).unwrap();
        assert!(!restored.ledger.complete);
    }
    // what a crash tore off was entered for a commit that was never made
    fs::write(&ledger, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(scene.restore(&escrow, "torn").unwrap().ledger.after_escrow, 0);
    // one from the lost directory will do
    let own = scene.path("data").join("ledger");
    assert_eq!(fs::read(&own).unwrap(), whole);
    let restored = scene.restore_with(&escrow, "own", |plan| Plan { ledger: Some(leak(&own)), ..plan }).unwrap();
    assert_eq!((restored.ledger.after_escrow, restored.ledger.withdrawn), (1, 1));
}

#[test]
fn a_ledger_whose_copy_cannot_be_written_says_so_and_brings_it_up_as_soon_as_it_can() {
    let scene = Scene::new();
    let backup = scene.path("elsewhere");
    fs::write(&backup, b"no directory").unwrap();
    scene.store.keep_ledger_beside(&backup);
    withdraw(&scene);
    assert_eq!((scene.store.ledger_state().copy, scene.store.is_halted()), (LedgerCopy::Behind, false));
    fs::remove_file(&backup).unwrap();
    scene.commit(Ok(scene.store.remove_entities(&[patient(2)], at())));
    assert_eq!(scene.store.ledger_state().copy, LedgerCopy::Current);
    let own = || fs::read(scene.path("data").join("ledger")).unwrap();
    assert_eq!(fs::read(backup.join("ledger")).unwrap(), own());
    // a copy that somebody cut is made whole, one that knows more tells the store, one of another past stays as it is
    let whole = own();
    fs::write(backup.join("ledger"), &whole[..whole.len() - 9]).unwrap();
    scene.commit(Ok(scene.store.remove_entities(&[patient(3)], at())));
    assert_eq!(fs::read(backup.join("ledger")).unwrap(), own());
    let (longer, data) = (own(), scene.path("data"));
    drop(scene.store);
    fs::write(data.join("ledger"), &whole).unwrap();
    let store = fixture::open(&data);
    store.keep_ledger_beside(&backup);
    assert_eq!((store.ledger_state().copy, fs::read(data.join("ledger")).unwrap()), (LedgerCopy::Current, longer));
    store.commit(&[store.remove_entities(&[patient(4)], at())], &[], 0).unwrap();
    assert_eq!(fs::read(backup.join("ledger")).unwrap(), fs::read(data.join("ledger")).unwrap());
    let other = Scene::new();
    let foreign = fs::read(other.path("data").join("ledger")).unwrap();
    fs::write(backup.join("ledger"), &foreign).unwrap();
    store.commit(&[store.remove_entities(&[patient(5)], at())], &[], 0).unwrap();
    assert_eq!(store.ledger_state().copy, LedgerCopy::Behind);
    assert_eq!(fs::read(backup.join("ledger")).unwrap(), foreign);
    assert!(matches!(store.back_up_to(&backup), Err(BackupError::ForeignLedger)));
}

#[test]
fn a_directory_that_does_not_answer_holds_up_no_commit_and_its_copy_is_brought_up_when_it_does() {
    let scene = Scene::new();
    let far = scene.path("far");
    fs::create_dir(&far).unwrap();
    // whoever opens it waits until somebody opens its other end
    let silent = far.join("ledger");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &silent,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    scene.store.keep_ledger_beside(&far);
    let before = scene.store.ledger_state().entries;
    withdraw(&scene);
    let state = scene.store.ledger_state();
    assert_eq!((state.copy, state.entries, scene.store.is_halted()), (LedgerCopy::Behind, before + 3, false));
    scene.escrow();
    assert!(matches!(scene.store.back_up_to(&far), Err(BackupError::Io(std::io::ErrorKind::TimedOut))));
    // it answers again, with what is no ledger; and by then there is none
    let aside = far.join("aside");
    fs::rename(&silent, &aside).unwrap();
    drop(fs::OpenOptions::new().write(true).open(&aside).unwrap());
    let began = std::time::Instant::now();
    while scene.store.ledger_state().copy != LedgerCopy::Current {
        assert!(began.elapsed().as_secs() < 60, "the copy is never brought up");
        std::thread::yield_now();
    }
    assert_eq!(fs::read(&silent).unwrap(), fs::read(scene.path("data").join("ledger")).unwrap());
    scene.commit(Ok(scene.store.remove_entities(&[patient(2)], at())));
    assert_eq!(scene.store.ledger_state().copy, LedgerCopy::Current);
    assert_eq!(fs::read(&silent).unwrap(), fs::read(scene.path("data").join("ledger")).unwrap());
}

#[test]
fn a_store_is_closed_while_the_directory_of_its_ledgers_copy_does_not_answer() {
    let scene = Scene::new();
    let far = scene.path("far");
    fs::create_dir(&far).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, far.join("ledger"), fifo, rustix::fs::Mode::from_raw_mode(0o600), 0).unwrap();
    scene.store.keep_ledger_beside(&far);
    withdraw(&scene);
    let (data, entries) = (scene.path("data"), scene.store.ledger_state().entries);
    drop(scene.store);
    assert_eq!(fixture::open(&data).ledger_state().entries, entries);
}

#[test]
fn a_ledger_that_a_crash_tore_opens_and_one_that_was_changed_or_cut_in_what_was_committed_does_not() {
    let scene = Scene::new();
    withdraw(&scene);
    let path = scene.path("data");
    let ledger = path.join("ledger");
    drop(scene.store);
    let good = fs::read(&ledger).unwrap();
    let opens = || Store::open(&path, &phrase(), &options());
    for at in (0..good.len()).step_by(29) {
        let mut bad = good.clone();
        bad[at] ^= 4;
        fs::write(&ledger, bad).unwrap();
        assert!(matches!(opens(), Err(StoreError::DamagedLedger)), "byte {at}");
        assert!(!Store::examine(&path, &phrase(), &options()).unwrap().is_sound(), "byte {at}");
    }
    fs::write(&ledger, &good[..good.len() - 1]).unwrap();
    assert!(matches!(opens(), Err(StoreError::DamagedLedger)), "the commit was made");
    // an entry for a commit that never was: torn off, zeroed, or a head of it alone
    fs::write(&ledger, &good).unwrap();
    let store = fixture::open(&path);
    store.withdrawals.enter_escrow(at(), store.sequence()).unwrap();
    drop(store);
    let longer = fs::read(&ledger).unwrap();
    for end in [good.len() + 1, good.len() + 15, good.len() + 16, longer.len() - 1] {
        fs::write(&ledger, &longer[..end]).unwrap();
        drop(opens().unwrap_or_else(|error| panic!("cut to {end}: {error}")));
    }
    fs::write(&ledger, [good.as_slice(), &[0; 200]].concat()).unwrap();
    let store = opens().unwrap();
    store.commit(&[store.remove_entities(&[patient(4)], at())], &[], 0).unwrap();
    drop(store);
    drop(opens().unwrap());
    // where there is none, one is begun if somebody says so
    fs::remove_file(&ledger).unwrap();
    assert!(matches!(opens(), Err(StoreError::LedgerBehind)));
    let accept = OpenOptions { ledger: LedgerDoubt::Accept, ..options() };
    let store = Store::open(&path, &phrase(), &accept).unwrap();
    assert_eq!(store.ledger_state().entries, 0);
    store.write_manifest(3, [3; 32], 3).unwrap();
    drop(store);
    assert_eq!(opens().unwrap().ledger_state().entries, 0);
}

#[test]
fn a_ledger_of_another_moment_than_the_rest_is_refused_and_named_by_the_offline_check() {
    let scene = Scene::new();
    let path = scene.path("data");
    let remove = |n: usize| scene.store.commit(&[scene.store.remove_entities(&[patient(n)], at())], &[], 0).unwrap();
    let end = || scene.store.write_manifest(3, [3; 32], 3).unwrap();
    (0..2).for_each(remove);
    end();
    let earlier = scene.path("earlier");
    copy(&path, &earlier);
    (2..4).for_each(remove);
    end();
    let later = scene.path("later");
    copy(&path, &later);
    // a crash may leave one entry for a commit that was not made, and as many escrows as were taken
    (0..3).for_each(|_| drop(scene.store.escrow(at()).unwrap()));
    remove(4);
    let ahead = fs::read(path.join("ledger")).unwrap();
    drop(scene.store);
    let opened = |rest: &Path, ledger: &[u8]| {
        let dir = tempfile::tempdir().unwrap();
        let forged = dir.path().join("data");
        copy(rest, &forged);
        fs::write(forged.join("ledger"), ledger).unwrap();
        let outcome = Store::open(&forged, &phrase(), &options()).map(drop);
        assert_eq!(outcome.is_ok(), Store::examine(&forged, &phrase(), &options()).unwrap().is_sound(), "{outcome:?}");
        outcome
    };
    let accepted = |rest: &Path, ledger: &[u8]| {
        let dir = tempfile::tempdir().unwrap();
        let forged = dir.path().join("data");
        copy(rest, &forged);
        fs::write(forged.join("ledger"), ledger).unwrap();
        Store::open(&forged, &phrase(), &OpenOptions { ledger: LedgerDoubt::Accept, ..options() }).map(drop)
    };
    let [of_earlier, of_later] = [&earlier, &later].map(|dir| fs::read(dir.join("ledger")).unwrap());
    assert_eq!(opened(&later, &of_later), Ok(()));
    assert_eq!(opened(&later, &ahead), Ok(()));
    assert_eq!(opened(&later, &of_earlier), Err(StoreError::LedgerBehind));
    assert!(matches!(opened(&earlier, &of_later), Err(StoreError::RolledBack(_))));
    assert!(matches!(opened(&earlier, &ahead), Err(StoreError::RolledBack(_))));
    // to vouch for a ledger that is older is not to vouch for a store that was put back, nor for a ledger that is damaged
    assert_eq!(accepted(&later, &of_earlier), Ok(()));
    assert!(matches!(accepted(&earlier, &of_later), Err(StoreError::RolledBack(_))));
    assert_eq!(
        accepted(&later, &[of_later.as_slice(), &[7; 200]].concat()),
        opened(&later, &[of_later.as_slice(), &[7; 200]].concat())
    );
    assert_eq!(accepted(&later, &[7; 500]), Err(StoreError::DamagedLedger));
}
