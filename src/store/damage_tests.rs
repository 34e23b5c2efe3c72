//! Bytes changed behind the store's back, and bytes that must not be readable there.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Engine, EngineKind, OpenOptions, Report, Store, StoreError, codec, fixture::*, vault::start_engine};
use crate::crypto::{Entropy, KeyRing, OsEntropy};

type Row = (Vec<u8>, Vec<u8>);

on_each_engine!(
    changed_bytes_in_any_file_are_refused_or_named_or_harmless,
    rows_that_are_changed_swapped_put_back_or_lost_inside_the_engine_are_named,
    nothing_planted_is_readable_in_any_file,
);

/// Positions tried in each file, beyond every truncation.
const POSITIONS: u64 = 30;

fn changed_bytes_in_any_file_are_refused_or_named_or_harmless(engine: EngineKind) {
    let mut seed = [0; 8];
    OsEntropy.fill(&mut seed).unwrap();
    println!("seed {}", u64::from_le_bytes(seed));
    let mut dice = Dice(u64::from_le_bytes(seed) | 1);

    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("data");
    let store = create_on(engine, &good);
    fill(&store);
    let expected = everything(&store).unwrap();
    let ring = store.ring().clone();
    drop(store);

    let (mut refused, mut harmless) = (0, 0);
    for file in files(&good) {
        let name = file.strip_prefix(&good).unwrap().to_owned();
        let bytes = fs::read(&file).unwrap();
        // most of the engine's file is room for what is to come: look where something is
        let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last as u64 + 1);
        let mut attempts: Vec<Damaged> = Vec::new();
        if used > 0 {
            let spread = (0..POSITIONS).map(|i| i * used / POSITIONS);
            let random: Vec<u64> = (0..POSITIONS).map(|_| dice.below(used)).collect();
            attempts.extend(spread.chain(random).map(|at| Damaged::Flipped(at as usize, 1 << dice.below(8))));
            attempts.extend([0, 1, used / 2, used - 1].map(|length| Damaged::Cut(length as usize)));
            attempts.push(Damaged::Zeroed((used / 3) as usize));
        }
        attempts.push(Damaged::Gone);
        for attempt in attempts {
            let forged = dir.path().join("forged");
            copy(&good, &forged);
            attempt.inflict(&forged.join(&name), &bytes);
            let unlock = |keyring: &Path| match name.to_str() {
                Some("keyring") => KeyRing::open(keyring, &phrase()),
                _ => Ok(ring.clone()),
            };
            match Store::open_with(&forged, unlock, &options()).and_then(|store| everything(&store)) {
                Err(_) => refused += 1,
                Ok(all) if all == expected => harmless += 1,
                Ok(_) => panic!("{name:?} {attempt:?}: something else was served"),
            }
            fs::remove_dir_all(&forged).unwrap();
        }
    }
    println!("{refused} refused, {harmless} harmless");
    assert!(refused > 50, "the walk must have hit live bytes: {refused}");
}

fn rows_that_are_changed_swapped_put_back_or_lost_inside_the_engine_are_named(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("data");
    let store = create_on(engine, &good);
    fill(&store);
    let name = store.names.record(&collection().name, &record(3, 1).record.id);
    let earlier = store.engine.get(&name).unwrap().unwrap();
    store.commit(&[store.put_records(&collection(), &[record(3, 2)], at()).unwrap()], &[], 0).unwrap();
    store.write_manifest(4, [4; 32], 4).unwrap();
    assert_ne!(store.engine.get(&name).unwrap(), Some(earlier.clone()));
    drop(store);
    let forge = |change: &dyn Fn(&dyn Engine, &[Row])| -> (Option<StoreError>, Report) {
        let forged = dir.path().join("forged");
        copy(&good, &forged);
        let db = start_engine(engine, &forged.join("engine"), &options()).unwrap();
        let mut rows: Vec<Row> = Vec::new();
        let mut keep = |key: &[u8], value: &[u8]| {
            rows.push((key.to_vec(), value.to_vec()));
            Ok(())
        };
        db.scan(b"R", &mut keep).unwrap();
        change(&*db, &rows);
        drop(db);
        let outcome = Store::open(&forged, &phrase(), &options()).err();
        let report = Store::examine(&forged, &phrase(), &options()).unwrap();
        fs::remove_dir_all(&forged).unwrap();
        (outcome, report)
    };
    let (outcome, report) = forge(&|_, _| {});
    assert_eq!((outcome, report.is_sound()), (None, true));

    let (outcome, report) = forge(&|db, rows| {
        let mut value = rows[3].1.clone();
        value[100] ^= 1;
        db.commit(vec![(rows[3].0.clone(), Some(value))]).unwrap();
    });
    assert!(outcome.is_some());
    assert_eq!(report.damaged.len(), 1);

    let (outcome, report) = forge(&|db, rows| {
        let swapped = [(3, 4), (4, 3)].map(|(key, value)| (rows[key].0.clone(), Some(rows[value].1.clone())));
        db.commit(swapped.into()).unwrap();
    });
    assert!(outcome.is_some());
    assert_eq!(report.damaged.len(), 2);

    // an earlier writing of a record, whose seal is good in its place
    let (outcome, report) = forge(&|db, _| db.commit(vec![(name.clone(), Some(earlier.clone()))]).unwrap());
    assert_eq!(outcome, Some(StoreError::Lost(super::Kind::Record)));
    assert!(!report.is_sound() && report.damaged.is_empty());

    let (outcome, report) = forge(&|db, rows| db.commit(vec![(rows[3].0.clone(), None)]).unwrap());
    assert_eq!(outcome, Some(StoreError::Lost(super::Kind::Record)));
    assert_eq!((report.shortfalls[0].expected, report.shortfalls[0].found), (40, 39));

    let (outcome, report) =
        forge(&|db, rows| db.commit(vec![(b"Zsomething".to_vec(), Some(rows[0].1.clone()))]).unwrap());
    assert!(outcome.is_some() && !report.is_sound());

    let (outcome, report) = forge(&|db, _| db.commit(vec![(b"M".to_vec(), None)]).unwrap());
    assert!(outcome.is_some() && !report.is_sound());
}

fn nothing_planted_is_readable_in_any_file(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let store = create_on(engine, &path);
    fill(&store);
    let needles = planted();
    let running = found(&path, &needles);
    store.commit(&[store.erase_records(&collection().name, &[record(3, 1).record.id], at())], &[], 0).unwrap();
    drop(store);
    assert_eq!((running, found(&path, &needles)), (0, 0));

    // the control: the scan finds every planted value in a plain form of the same records
    let plain = dir.path().join("plain");
    fs::create_dir(&plain).unwrap();
    let rows: Vec<u8> = records(0..40).iter().flat_map(|r| codec::encode_record(r).unwrap().to_vec()).collect();
    for (name, form) in
        [("raw", rows.clone()), ("hex", hex::encode(&rows).into()), ("base64", STANDARD.encode(&rows).into())]
    {
        fs::create_dir(plain.join(name)).unwrap();
        fs::write(plain.join(name).join("rows"), form).unwrap();
        assert!(found(&plain.join(name), &needles) > 150, "{name}");
    }
}

#[derive(Debug)]
enum Damaged {
    Flipped(usize, u8),
    Cut(usize),
    Zeroed(usize),
    Gone,
}

impl Damaged {
    fn inflict(&self, file: &Path, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        match *self {
            Self::Flipped(at, mask) => bytes[at] ^= mask,
            Self::Cut(length) => bytes.truncate(length),
            Self::Zeroed(at) => bytes.iter_mut().skip(at).take(64).for_each(|b| *b = 0),
            Self::Gone => return fs::remove_file(file).unwrap(),
        }
        fs::write(file, bytes).unwrap();
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for path in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

/// Every planted value in every form, by its first twelve bytes.
type Needles = HashMap<[u8; 12], Vec<Vec<u8>>>;

fn planted() -> Needles {
    let mut needles = Needles::new();
    let mut plant = |form: Vec<u8>| needles.entry(form[..12].try_into().unwrap()).or_default().push(form);
    let mut values: Vec<Vec<u8>> = [
        "department-of-cardiology",
        "psychotherapy-note",
        "nurse-care-team-policy",
        "administrator-in-chief",
        "clinician-identifier-77",
        "treatment-purpose",
        "model-of-embeddings",
        "family name of person 1",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    for stored in records(0..40) {
        let record = &stored.record;
        values.push(record.id.as_str().into());
        values.push(record.document.as_str().into());
        values.push(record.text.reveal().as_bytes().into());
        let vector: Vec<u8> = record.embedding.components().iter().flat_map(|x| x.to_le_bytes()).collect();
        values.extend(vector.windows(16).step_by(4).map(<[u8]>::to_vec));
    }
    values.extend((0..10).map(|n| patient(n).id.as_bytes().to_vec()));
    for value in values {
        for offset in 0..3 {
            let shifted = STANDARD.encode([vec![0; offset], value.clone()].concat());
            plant(shifted[(offset * 8).div_ceil(6)..(offset + value.len()) * 8 / 6].into());
        }
        plant(hex::encode(&value).into());
        plant(hex::encode_upper(&value).into());
        plant(value);
    }
    needles
}

fn found(dir: &Path, needles: &Needles) -> usize {
    let hits = |bytes: &[u8]| -> usize {
        let at = |i: usize| {
            needles.get(&bytes[i..i + 12]).into_iter().flatten().filter(|n| bytes[i..].starts_with(n)).count()
        };
        (0..bytes.len().saturating_sub(11)).map(at).sum()
    };
    files(dir).iter().map(|file| hits(&fs::read(file).unwrap())).sum()
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Two stores made alike share nothing on disk: names and seals are the ring's own.
#[test]
fn the_same_content_has_other_names_in_another_store() {
    let dir = tempfile::tempdir().unwrap();
    let name = |path: &str| {
        let store = create(&dir.path().join(path));
        store.names.record(&collection().name, &record(1, 1).record.id)
    };
    assert_ne!(name("one"), name("two"));
}

/// Randomness that fails is an error, not a weak seal.
#[test]
fn without_randomness_nothing_is_sealed() {
    struct Dry;
    impl Entropy for Dry {
        fn fill(&self, _: &mut [u8]) -> Result<(), crate::crypto::EntropyError> {
            Err(crate::crypto::EntropyError)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    drop(create(&path));
    let store = Store::open(&path, &phrase(), &OpenOptions { entropy: Arc::new(Dry), ..options() }).unwrap();
    assert_eq!(store.put_records(&collection(), &records(0..1), at()).err(), Some(StoreError::Seal));
}
