//! The store from the outside: what is written is read, what is changed behind its back is refused.

use std::{
    fs,
    sync::{Arc, atomic::Ordering::SeqCst},
};

use super::{Change, EngineKind, Kind, Store, StoreError, Whose, fixture::*};
use crate::{
    crypto::{KdfCost, KeyError, OsEntropy, Passphrase, PassphraseKey},
    model::{Collection, Value},
};

on_each_engine!(
    what_is_written_is_read_after_opening_anew,
    a_second_process_a_wrong_passphrase_and_an_empty_directory_are_refused,
    data_keys_live_as_long_as_something_is_sealed_under_them,
    two_changes_sealed_side_by_side_share_their_new_key,
    replaying_all_changes_of_every_kind_into_an_empty_store_gives_the_same_state,
    an_older_copy_of_any_part_is_refused,
    the_manifest_never_falls_two_commits_behind_by_itself,
    a_failed_sync_refuses_further_commits_until_the_store_is_opened_anew,
    a_large_record_is_stored_whole,
    files_are_readable_by_their_owner_alone,
    a_reader_beside_the_writer_sees_one_writing_or_none_and_never_damage,
);

fn what_is_written_is_read_after_opening_anew(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let store = create_on(engine, &path);
    fill(&store);
    let before = everything(&store).unwrap();
    let (sequence, digest) = (store.sequence(), store.state_digest().unwrap());
    drop(store);
    let store = open(&path);
    assert_eq!(everything(&store).unwrap(), before);
    assert_eq!((store.sequence(), store.state_digest().unwrap()), (sequence, digest));
    assert_eq!(store.bundle().unwrap().unwrap().0, 2);
    assert_eq!(store.bundle_of(1).unwrap().unwrap().source.note, "first");
    assert_eq!(store.outbox().unwrap(), [(1, b"sealed frame 1".to_vec())]);
    let found = store.record(&collection().name, &record(7, 1).record.id).unwrap().unwrap();
    assert_eq!(found, record(7, 1));
    assert_eq!(store.record(&"other".parse().unwrap(), &record(7, 1).record.id).unwrap(), None);
    let manifest = store.manifest();
    assert_eq!((manifest.audit_size, manifest.audit_root, manifest.audit_group), (3, [3; 32], 3));
    assert!(store.verify().unwrap().is_sound());
    assert_eq!(store.verify().unwrap().counts[2], (Kind::Record, 40));
}

fn a_second_process_a_wrong_passphrase_and_an_empty_directory_are_refused(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    assert_eq!(Store::open(&path, &phrase(), &options()).err(), Some(StoreError::Missing));
    let store = create_on(engine, &path);
    assert_eq!(Store::open(&path, &phrase(), &options()).err(), Some(StoreError::Locked));
    assert_eq!(Store::create(&path, &phrase(), KdfCost::FLOOR, &options()).err(), Some(StoreError::Occupied));
    drop(store);
    let wrong = Passphrase::from_bytes(b"another sentence".to_vec()).unwrap();
    assert_eq!(Store::open(&path, &wrong, &options()).err(), Some(StoreError::Key(KeyError::WrongPassphrase)));
    assert!(Store::open(&path, &phrase(), &options()).is_ok());
}

fn data_keys_live_as_long_as_something_is_sealed_under_them(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let store = create_on(engine, &path);
    let c = collection();
    store.commit(&[store.put_collection(&c, at()).unwrap()], &[], 0).unwrap();
    let keys = |store: &Store| store.verify().unwrap().counts[0].1;
    // records 1, 11 and 21 are patient 1's; 4 has none and is alone in its document
    let some: Vec<_> = [1, 11, 21, 4].map(|n| record(n, 1)).into();
    store.commit(&[store.put_records(&c, &some, at()).unwrap()], &[], 0).unwrap();
    assert_eq!(keys(&store), 3, "a class, a patient, a document");
    let ids: Vec<_> = some.iter().map(|s| s.record.id.clone()).collect();
    store.commit(&[store.erase_records(&c.name, &ids[..2], at())], &[], 0).unwrap();
    assert_eq!(keys(&store), 3);
    let late = store.put_records(&c, &[record(31, 1)], at()).unwrap();
    store.commit(&[store.erase_records(&c.name, &ids, at())], &[], 0).unwrap();
    assert_eq!(keys(&store), 1);
    // sealed under the destroyed key: refused, leaves no trace, and succeeds when sealed anew
    assert_eq!(store.commit(&[late], &[], 0), Err(StoreError::Stale));
    let again = store.put_records(&c, &[record(31, 1)], at()).unwrap();
    store.commit(&[again], &[], 0).unwrap();
    assert_eq!(keys(&store), 2);
    store.commit(&[store.drop_collection(&c.name, at())], &[], 0).unwrap();
    assert_eq!(keys(&store), 0);
    drop(store);
    assert!(open(&path).verify().unwrap().is_sound());
}

fn two_changes_sealed_side_by_side_share_their_new_key(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let store = create_on(engine, &path);
    let c = collection();
    let (a, b) = (store.put_records(&c, &[record(1, 1)], at()), store.put_records(&c, &[record(11, 1)], at()));
    store.commit(&[b.unwrap()], &[], 0).unwrap();
    store.commit(&[a.unwrap()], &[], 0).unwrap();
    drop(store);
    let store = open(&path);
    let mut n = 0;
    store
        .records(&c.name, &mut |_| {
            n += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(n, 2);
}

/// Which kind a change is. A new kind does not compile until the replay below has one of it.
fn kind(change: &Change) -> usize {
    match change {
        Change::PutCollection { .. } => 0,
        Change::DropCollection { .. } => 1,
        Change::PutRecords { .. } => 2,
        Change::EraseRecords { .. } => 3,
        Change::PutEntities { .. } => 4,
        Change::RemoveEntities { .. } => 5,
        Change::PutBundle { .. } => 6,
        Change::PutApiKey { .. } => 7,
        Change::RemoveApiKey { .. } => 8,
        Change::Reseal { .. } => 9,
        Change::Rotate { .. } => 10,
        Change::RenewWraps { .. } => 11,
        Change::Restore { .. } => 12,
        Change::PutHold { .. } => 13,
        Change::RemoveHold { .. } => 14,
        Change::DestroyKeys { .. } => 15,
    }
}
const KINDS: usize = 16;

fn replaying_all_changes_of_every_kind_into_an_empty_store_gives_the_same_state(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let store = create_on(engine, &one);
    drop(store);
    copy(&one, &two);
    let store = open(&one);
    let c = collection();
    let mut log: Vec<Vec<u8>> = Vec::new();
    let mut act = |change: Change| {
        log.push(change.to_bytes().unwrap());
        store.commit(&[change], &[(log.len() as u64, vec![1])], log.len() as u64).unwrap();
    };
    act(store.put_collection(&c, at()).unwrap());
    act(store.put_records(&c, &records(0..30), at()).unwrap());
    act(store.put_entities(&[entity(1), entity(2)], at()).unwrap());
    act(store.put_bundle(1, &bundle("a"), at()).unwrap());
    act(store.put_api_key(&api_key(1), at()).unwrap());
    act(store.put_records(&c, &[record(3, 2), record(4, 2)], at()).unwrap());
    let erased: Vec<_> = (0..30).step_by(2).map(|n| record(n, 1).record.id).collect();
    act(store.erase_records(&c.name, &erased, at()));
    act(store.put_records(&c, &[record(2, 3)], at()).unwrap());
    // record 11 goes, and those that lay under its patient's key are sealed anew before
    let others: Vec<_> = [1, 21].map(|n| record(n, 1).record.id).into();
    store.roll_keys(&c.name, &others).unwrap();
    act(store.reseal_records(&c.name, &others, at()).unwrap().change.unwrap());
    act(store.erase_records(&c.name, &[record(11, 1).record.id], at()));
    // all of a patient's, and whatever would be left of their keys
    let of_a_patient: Vec<_> = [5, 15, 25].map(|n| record(n, 1).record.id).into();
    let emptied = [Whose::Patient(patient(5))].into();
    let destroyed = store.destroy_keys(&c.name, &emptied, at()).unwrap();
    act(store.erase_records(&c.name, &of_a_patient, at()));
    assert!(store.destroy_keys(&c.name, &emptied, at()).is_none());
    act(destroyed);
    let hold = |n| crate::model::Hold { patient: patient(n), by: patient(9), since: at(), reason: None };
    act(store.put_hold(&hold(1), at()).unwrap());
    act(store.put_hold(&hold(2), at()).unwrap());
    act(store.remove_hold(&patient(1), at()));
    act(store.rotate(at()));
    act(store.renew_ring_key(at()));
    act(store.remove_entities(&[patient(1)], at()));
    act(store.put_entities(&[entity(1)], at()).unwrap());
    act(store.remove_api_key(&api_key(1).key_id, at()));
    act(store.put_collection(&collection(), at()).unwrap());
    act(store.put_bundle(2, &bundle("b"), at()).unwrap());
    let Change::PutRecords { at: when, keys, rows } = store.put_records(&c, &records(50..60), at()).unwrap() else {
        panic!()
    };
    act(Change::Restore { at: when, keys, rows });
    act(store.put_api_key(&api_key(2), at()).unwrap());
    // a second collection with records of the same ids and patients, gone again, and one that came back under its name
    let short_lived = Collection { name: "short-lived".parse().unwrap(), ..collection() };
    act(store.put_collection(&short_lived, at()).unwrap());
    act(store.put_records(&short_lived, &records(0..12), at()).unwrap());
    let full = store.state_digest().unwrap();
    act(store.drop_collection(&short_lived.name, at()));
    let dropped = store.state_digest().unwrap();
    assert_ne!(dropped, full, "the digest is of what is stored");
    act(store.put_collection(&short_lived, at()).unwrap());
    act(store.put_records(&short_lived, &records(2..5), at()).unwrap());
    let other = Collection { name: "other".parse().unwrap(), ..collection() };
    act(store.put_collection(&other, at()).unwrap());
    act(store.drop_collection(&other.name, at()));

    let replica = open(&two);
    assert_eq!(replica.ring().store_id(), store.ring().store_id());
    let changes: Vec<_> = log.iter().map(|bytes| Change::from_bytes(bytes).unwrap()).collect();
    let kinds: std::collections::BTreeSet<_> = changes.iter().map(kind).collect();
    assert_eq!(kinds.len(), KINDS, "one of every kind is replayed");
    assert_ne!(replica.state_digest().unwrap(), store.state_digest().unwrap(), "the replica begins empty");
    assert!(changes.iter().all(|change| change.at() == at()));
    // other commits than the first time: the state is a function of the changes alone
    for some in changes.chunks(5) {
        replica.commit(some, &[], 0).unwrap();
    }
    assert_eq!(replica.sequence(), store.sequence());
    assert_eq!(replica.state_digest().unwrap(), store.state_digest().unwrap());
    assert!(replica.verify().unwrap().is_sound());
    let readable = |store: &Store| {
        let mut told =
            vec![format!("{:?}", store.bundle_of(1).unwrap().unwrap().source.note), everything(store).unwrap()];
        for name in [&short_lived.name, &other.name] {
            let mut tell = |stored: super::StoredRecord| {
                told.push(stored.record.text.reveal().clone());
                Ok(())
            };
            store.records(name, &mut tell).unwrap();
        }
        // frames of the audit log wait beside the state and are no part of it
        told.iter()
            .flat_map(|text| text.lines())
            .filter(|line| !line.starts_with("("))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(readable(&replica), readable(&store), "and reads the same");
    let own = replica.put_records(&c, &[record(5, 9)], at()).unwrap();
    replica.commit(&[own], &[], 0).unwrap();
    assert_ne!(replica.state_digest().unwrap(), store.state_digest().unwrap());
}

fn an_older_copy_of_any_part_is_refused(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let store = create_on(engine, &path);
    fill(&store);
    let ring = store.ring().clone();
    drop(store);
    let old = dir.path().join("old");
    copy(&path, &old);
    let store = open(&path);
    for n in 0..3 {
        store.commit(&[store.put_records(&collection(), &[record(50 + n, 1)], at()).unwrap()], &[], 0).unwrap();
        store.write_manifest(4, [4; 32], 4).unwrap();
    }
    drop(store);
    let next = Passphrase::from_bytes(b"a sentence of this year".to_vec()).unwrap();
    let provider = PassphraseKey::make(&next, KdfCost::FLOOR, &OsEntropy).unwrap();
    ring.rewrap(Arc::new(provider), &OsEntropy).unwrap();
    drop(Store::open(&path, &next, &options()).unwrap());

    let attempt = |part: &[&str], with: &Passphrase| {
        let forged = dir.path().join("forged");
        copy(&path, &forged);
        for part in part {
            let target = forged.join(part);
            if target.is_dir() {
                fs::remove_dir_all(&target).unwrap();
                copy(&old.join(part), &target);
            } else {
                fs::copy(old.join(part), &target).unwrap();
            }
        }
        let outcome = Store::open(&forged, with, &options()).err();
        let report = Store::examine(&forged, with, &options()).unwrap();
        fs::remove_dir_all(&forged).unwrap();
        (outcome, report.is_sound())
    };
    let refused = |outcome: (Option<StoreError>, bool), part: &str| {
        assert!(matches!(outcome, (Some(StoreError::RolledBack(_)), false)), "{part}: {outcome:?}");
    };
    refused(attempt(&["engine"], &next), "engine");
    refused(attempt(&["manifest.a", "manifest.b"], &next), "manifests");
    refused(attempt(&["keyring"], &phrase()), "key file");
    refused(attempt(&["keyring", "engine"], &phrase()), "key file and engine");
    assert_eq!(attempt(&[], &next), (None, true));
}

fn the_manifest_never_falls_two_commits_behind_by_itself(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let store = create_on(engine, &path);
    for n in 0..5 {
        store.commit(&[store.put_records(&collection(), &[record(n, 1)], at()).unwrap()], &[], 0).unwrap();
    }
    drop(store);
    let store = open(&path);
    assert_eq!((store.sequence(), store.manifest().sequence), (5, 4));
    store.write_manifest(0, [0; 32], 0).unwrap();
    assert_eq!(store.manifest().sequence, 5);
}

fn a_failed_sync_refuses_further_commits_until_the_store_is_opened_anew(engine: EngineKind) {
    const ENOSPC: i32 = 28;
    const EIO: i32 = 5;
    for (fault, kind) in
        [(ENOSPC, std::io::ErrorKind::StorageFull), (EIO, std::io::Error::from_raw_os_error(EIO).kind())]
    {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let (disk, options) = failing(engine);
        let store = Store::create(&path, &phrase(), KdfCost::FLOOR, &options).unwrap();
        let put = |n| store.put_records(&collection(), &[record(n, 1)], at()).unwrap();
        let syncs = disk.syncs.load(SeqCst);
        store.commit(&[put(1)], &[], 0).unwrap();
        assert_eq!(disk.syncs.load(SeqCst), syncs + 1, "one sync a commit");
        store.write_manifest(1, [1; 32], 1).unwrap();
        assert_eq!(disk.syncs.load(SeqCst), syncs + 2, "one for the manifest");
        disk.fault.store(fault, SeqCst);
        let failed = store.commit(&[put(2)], &[], 0);
        assert_eq!(failed, Err(StoreError::Engine(super::EngineError::Io(kind))));
        disk.fault.store(0, SeqCst);
        assert_eq!(store.commit(&[put(3)], &[], 0), Err(StoreError::Halted));
        assert_eq!(store.write_manifest(2, [2; 32], 2), Err(StoreError::Halted));
        assert!(store.record(&collection().name, &record(1, 1).record.id).unwrap().is_some());
        drop(store);
        let store = Store::open(&path, &phrase(), &options).unwrap();
        assert!(store.verify().unwrap().is_sound());
        let put = |n| store.put_records(&collection(), &[record(n, 1)], at()).unwrap();
        store.commit(&[put(4)], &[], 0).unwrap();
        disk.fault.store(fault, SeqCst);
        assert_eq!(store.write_manifest(2, [2; 32], 2), Err(StoreError::Io(kind)));
        disk.fault.store(0, SeqCst);
        assert_eq!(store.commit(&[put(5)], &[], 0), Err(StoreError::Halted));
        drop(store);
        assert!(Store::open(&path, &phrase(), &options).is_ok());
    }
}

fn a_large_record_is_stored_whole(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let store = create_on(engine, &path);
    let mut large = record(1, 1);
    large.record.text = crate::model::Phi::new("x".repeat(1 << 20));
    large.record.attrs.insert("long".into(), Value::text("y".repeat(100_000)));
    store.commit(&[store.put_records(&collection(), std::slice::from_ref(&large), at()).unwrap()], &[], 0).unwrap();
    drop(store);
    let store = open(&path);
    assert_eq!(store.record(&collection().name, &large.record.id).unwrap().unwrap(), large);
}

fn files_are_readable_by_their_owner_alone(engine: EngineKind) {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    fill(&create_on(engine, &path));
    let mode = |p: &std::path::Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
    let mut seen = 0;
    let mut rooms = vec![path];
    while let Some(room) = rooms.pop() {
        assert_eq!(mode(&room), 0o700);
        for entry in fs::read_dir(&room).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                rooms.push(entry);
            } else {
                assert_eq!(mode(&entry), 0o600, "{entry:?}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 5);
}

fn a_reader_beside_the_writer_sees_one_writing_or_none_and_never_damage(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let store = create_on(engine, &dir.path().join("data"));
    let c = collection();
    let writing = |version: u64| {
        let mut large = record(1, version);
        large.record.text = crate::model::Phi::new(version.to_string().repeat(40_000));
        large
    };
    let id = writing(1).record.id.clone();
    /// Lets the readers end even if the writer fails.
    struct Done<'a>(&'a std::sync::atomic::AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _done = Done(&done);
        let reader = || {
            let mut last = 0;
            while !done.load(SeqCst) {
                if let Some(found) = store.record(&c.name, &id).unwrap() {
                    assert!(found.version >= last && found == writing(found.version));
                    last = found.version;
                }
            }
        };
        scope.spawn(reader);
        scope.spawn(reader);
        for version in 1..60 {
            // the erasure destroys the patient's key, the next writing makes another
            store.commit(&[store.put_records(&c, &[writing(version)], at()).unwrap()], &[], 0).unwrap();
            if version % 2 == 0 {
                store.commit(&[store.erase_records(&c.name, std::slice::from_ref(&id), at())], &[], 0).unwrap();
            }
        }
    });
}
