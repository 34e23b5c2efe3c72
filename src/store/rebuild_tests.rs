//! Migration and compaction: everything is there afterwards, whatever moment they were cut short at.

use std::{cell::Cell, fs, path::Path};

use super::{EngineKind, Kind, OpenOptions, Store, StoreError, fixture::*};

on_each_engine!(
    a_store_moves_to_either_engine_and_reads_the_same,
    a_rebuilding_that_is_cut_short_leaves_one_engine_whole,
    a_damaged_store_is_not_rebuilt,
    a_store_is_found_by_its_engine_and_another_is_refused,
);

/// A name, which engine's files lie where, and which of the two is found afterwards.
type Moment<'a> = (&'a str, &'a [(&'a Path, &'a str)], EngineKind);

fn rebuild(dir: &Path, to: EngineKind) -> Result<super::Rebuilt, StoreError> {
    Store::evidence(dir, &phrase())?.rebuild(to, &options(), &|_| {})
}

fn a_store_moves_to_either_engine_and_reads_the_same(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let store = create_on(engine, &path);
    fill(&store);
    let mut large = record(77, 1);
    large.record.text = crate::model::Phi::new("x".repeat(1 << 20));
    store.commit(&[store.put_records(&collection(), &[large], at()).unwrap()], &[], 0).unwrap();
    let (before, digest) = (everything(&store).unwrap(), store.state_digest().unwrap());
    drop(store);
    for to in [EngineKind::ALL, EngineKind::ALL].concat() {
        let told = Cell::new(0);
        let evidence = Store::evidence(&path, &phrase()).unwrap();
        let stat = evidence.stat(&options()).unwrap();
        let done = evidence.rebuild(to, &options(), &|rows| told.set(rows)).unwrap();
        assert_eq!((done.to, done.rows), (to, told.get()));
        assert_eq!(done.rows, evidence.rows(&options()).unwrap() + 1, "the account is a row too");
        let after = evidence.stat(&options()).unwrap();
        assert_eq!((after.engine, &after.kinds, after.live_bytes), (to, &stat.kinds, stat.live_bytes));
        drop(evidence);
        let store = open(&path);
        assert_eq!(everything(&store).unwrap(), before);
        assert_eq!(store.state_digest().unwrap(), digest);
        assert!(store.verify().unwrap().is_sound());
        drop(store);
        let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["LOCK", "audit", "engine", "keyring", "ledger", "manifest.a", "manifest.b"]);
    }
    // and it goes on
    let store = open(&path);
    store.commit(&[store.put_records(&collection(), &records(80..90), at()).unwrap()], &[], 0).unwrap();
    drop(store);
    assert!(open(&path).verify().unwrap().is_sound());
}

fn a_rebuilding_that_is_cut_short_leaves_one_engine_whole(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    let store = create_on(engine, &old);
    fill(&store);
    let before = everything(&store).unwrap();
    drop(store);
    for to in EngineKind::ALL {
        let _ = fs::remove_dir_all(&new);
        copy(&old, &new);
        rebuild(&new, to).unwrap();
        let moments: [Moment<'_>; 5] = [
            ("while it is copied", &[(&old, "engine")], engine),
            ("before the first renaming", &[(&old, "engine"), (&new, "engine.new")], engine),
            ("between the renamings", &[(&old, "engine.old"), (&new, "engine.new")], engine),
            ("before the old one is removed", &[(&old, "engine.old"), (&new, "engine")], to),
            ("after it", &[(&new, "engine")], to),
        ];
        for (moment, parts, survivor) in moments {
            let path = dir.path().join("cut short");
            copy(&old, &path);
            fs::remove_dir_all(path.join("engine")).unwrap();
            parts.iter().for_each(|(from, name)| copy(&from.join("engine"), &path.join(name)));
            if moment == "while it is copied" {
                fs::create_dir(path.join("engine.new")).unwrap();
                fs::write(path.join("engine.new").join(to.file()), b"half of it").unwrap();
            }
            let store = open(&path);
            assert_eq!(everything(&store).unwrap(), before, "{moment}");
            assert!(store.verify().unwrap().is_sound(), "{moment}");
            assert_eq!(store.engine_kind().unwrap(), survivor, "{moment}");
            assert!(!path.join("engine.new").exists() && !path.join("engine.old").exists(), "{moment}");
            drop(store);
            fs::remove_dir_all(&path).unwrap();
        }
    }
}

fn a_damaged_store_is_not_rebuilt(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    fill(&create_on(engine, &path));
    let db = super::vault::start_engine(engine, &path.join("engine"), &options()).unwrap();
    let mut victim = Vec::new();
    let mut choose = |key: &[u8], _: &[u8]| {
        victim = key.to_vec();
        Ok(())
    };
    db.scan(&Kind::Record.prefix(), &mut choose).unwrap();
    db.commit(vec![(victim, None)]).unwrap();
    drop(db);
    for to in EngineKind::ALL {
        assert_eq!(rebuild(&path, to), Err(StoreError::Lost(Kind::Record)));
        assert!(!path.join("engine.new").exists());
    }
    assert!(path.join("engine").join(engine.file()).exists());
}

fn a_store_is_found_by_its_engine_and_another_is_refused(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    fill(&create_on(engine, &path));
    for asked in EngineKind::ALL {
        let outcome = Store::open(&path, &phrase(), &OpenOptions { engine: Some(asked), ..options() });
        if asked == engine {
            assert_eq!(outcome.unwrap().engine_kind().unwrap(), engine);
        } else {
            let refused = outcome.err().unwrap();
            assert_eq!(refused, StoreError::OtherEngine { made_with: engine, asked });
            assert!(refused.to_string().contains(&format!("made with {engine}")));
        }
    }
    assert_eq!(open(&path).engine_kind().unwrap(), engine);
}
