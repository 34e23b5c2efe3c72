//! Keys that are destroyed: what is left on the disk opens nothing, whatever was copied before, and a crash on the way loses nothing
//! and brings nothing back.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use super::{Disk, Kind, OpenOptions, RealDisk, Store, StoredRecord, codec, fixture::*, load, names::Names};
use crate::{
    crypto::{self, DataKey, KEY_ID_BYTES, KdfCost, KeyRing, KeyTag, OVERHEAD_BYTES},
    model::{CollectionName, Entity, EntityUid, Phi, RecordId, Value},
};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/fixtures/sled-0.1");

/// A store as version 0.1 left it: data keys wrapped by the ring key itself, the account without a length, the first form of ring file.
fn store_of_0_1(dir: &Path) -> String {
    copy(FIXTURE.as_ref(), dir);
    for room in ["audit", "engine/blobs"] {
        fs::create_dir_all(dir.join(room)).unwrap();
    }
    // its zeros at the end are not kept in the repository
    fs::File::options().write(true).open(dir.join("engine/db")).unwrap().set_len((2 << 20) - 1).unwrap();
    let everything = fs::read_to_string(dir.join("everything")).unwrap();
    fs::remove_file(dir.join("everything")).unwrap();
    everything
}

#[test]
fn a_store_of_0_1_opens_reads_the_same_and_leaves_the_ring_key_with_its_first_erasure() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let expected = store_of_0_1(&path);
    let before = dir.path().join("before");
    copy(&path, &before);
    let store = open(&path);
    assert_eq!(everything(&store).unwrap(), expected);
    assert_eq!((store.ring().generation(), store.ring().epoch()), (1, 0));
    store.commit(&[store.put_records(&collection(), &[record(50, 1)], at()).unwrap()], &[], 0).unwrap();
    let gone = record(1, 1);
    erase(&store, &all_of(&gone));
    let sound = |store: &Store| {
        let report = store.verify().unwrap();
        assert!(report.is_sound(), "{report:?}");
        store.record(&collection().name, &record(2, 1).record.id).unwrap().unwrap()
    };
    assert_eq!(sound(&store), record(2, 1));
    let ring = store.ring().clone();
    drop(store);
    assert_eq!(sound(&open(&path)), record(2, 1));
    assert!(!Forensics::of(&ring, &[&before, &path]).reads(&gone));
    assert!(Forensics::of(&KeyRing::open(&before.join("keyring"), &phrase()).unwrap(), &[&before]).reads(&gone));
}

#[test]
fn what_was_erased_opens_from_no_old_copy_and_no_old_page_with_any_key_that_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let store = create(&path);
    fill(&store);
    let before = dir.path().join("before");
    copy(&path, &before);
    let old_ring = KeyRing::open(&before.join("keyring"), &phrase()).unwrap();
    // whoever has it open sees what became of its place on the disk
    let (old_file, old_bytes) =
        (fs::File::open(path.join("keyring")).unwrap(), fs::read(path.join("keyring")).unwrap());
    let gone = record(1, 1);
    assert!(Forensics::of(store.ring(), &[&before]).reads(&gone), "the control: until it is erased it is found");
    erase(&store, &all_of(&gone));
    store.commit(&[store.remove_entities(&[patient(1)], at())], &[], 0).unwrap();
    let left = KeyRing::open(&path.join("keyring"), &phrase()).unwrap();
    for ring in [store.ring(), &left] {
        let forensics = Forensics::of(ring, &[&before, &path]);
        assert!(!forensics.reads(&gone));
        assert!(!forensics.reads_entity(&patient(1)));
        assert!(forensics.reads(&record(2, 1)) && forensics.reads_entity(&patient(2)), "the others are still found");
    }
    // as it would be if the ring key were not renewed: what was erased is found again
    let unrenewed = Forensics::of(&old_ring, &[&before, &path]);
    assert!(unrenewed.reads(&gone) && unrenewed.reads_entity(&patient(1)));
    // the old ring file's name was given up, and so were its bytes: nothing on this disk holds the old ring key
    let rings = fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert_eq!(rings.filter(|name| name.starts_with("keyring")).collect::<Vec<_>>(), ["keyring"]);
    let mut now = vec![1; old_bytes.len()];
    old_file.read_exact_at(&mut now, 0).unwrap();
    assert!(now.iter().all(|byte| *byte == 0), "the old ring file lies on the disk as it was");
}

#[test]
fn after_a_rotation_nothing_lies_under_a_key_that_was_there_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = create(&dir.path().join("data"));
    fill(&store);
    let keys = || {
        let mut keys = BTreeSet::new();
        for part in store.parts().unwrap() {
            let mut each = |_: &[u8], row: &[u8]| {
                keys.insert(crypto::key_of(row).expect("a sealed row"));
                Ok(())
            };
            store.engine.scan(&part, &mut each).unwrap();
        }
        keys
    };
    let before = keys();
    assert!(before.len() > 3, "a few owners");
    store.commit(&[store.rotate(at())], &[], 0).unwrap();
    bring_up(&store, 50);
    assert!(keys().intersection(&before).count() > 0, "the control: it is not done yet");
    finish_rotation(&store);
    assert_eq!(keys().intersection(&before).count(), 0);
    assert_eq!(keys().len(), before.len());
}

#[test]
fn what_is_erased_while_keys_are_renewed_is_gone_from_old_copies_and_old_pages_at_once() {
    for share in [0, 50, 100] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let store = create(&path);
        fill(&store);
        let (before, gone) = (dir.path().join("before"), record(1, 1));
        copy(&path, &before);
        store.commit(&[store.rotate(at())], &[], 0).unwrap();
        bring_up(&store, share);
        assert_eq!(store.census().behind == 0, share == 100, "{:?}", store.census());
        erase(&store, &all_of(&gone));
        let left = KeyRing::open(&path.join("keyring"), &phrase()).unwrap();
        let forensics = Forensics::of(&left, &[&before, &path]);
        assert!(!forensics.reads(&gone), "found with {share} of a hundred keys renewed");
        assert!(forensics.reads(&record(2, 1)), "the others are still found");
        finish_rotation(&store);
        assert!(store.verify().unwrap().is_sound());
        assert!(!Forensics::of(store.ring(), &[&before]).reads(&record(2, 1)), "after a rotation old copies are noise");
        drop(store);
        assert_eq!(open(&path).record(&collection().name, &record(2, 1).record.id).unwrap(), Some(record(2, 1)));
    }
}

#[test]
fn what_is_written_over_while_keys_are_renewed_renews_nothing_by_itself_and_goes_with_the_next_erasure() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let store = create(&path);
    fill(&store);
    let (before, gone) = (dir.path().join("before"), record(1, 1));
    copy(&path, &before);
    store.commit(&[store.rotate(at())], &[], 0).unwrap();
    let (generation, keys) = (store.ring().generation(), store.census().data_keys);
    let mut later = all_of(&gone);
    later.iter_mut().for_each(|stored| stored.record.text = Phi::new("written over".to_owned()));
    store.commit(&[store.put_records(&collection(), &later, at()).unwrap()], &[], 0).unwrap();
    assert_eq!(store.census().data_keys, keys, "the patient's earlier key went, as nothing lies under it any more");
    assert_eq!(store.ring().generation(), generation, "no ring key was renewed for it, and no bucket's");
    assert!(Forensics::of(store.ring(), &[&before, &path]).reads(&gone), "nobody has asked for it to be gone");
    erase(&store, &later);
    assert!(!Forensics::of(store.ring(), &[&before, &path]).reads(&gone));
    finish_rotation(&store);
    assert!(!Forensics::of(store.ring(), &[&before]).reads(&record(2, 1)));
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn a_key_that_came_late_and_is_replaced_leaves_no_wrap_that_opens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let store = create(&path);
    fill(&store);
    // sealed under a key of before the rotation, and written once every bucket is renewed
    let mut late = record(1, 1);
    late.record.id = "record-that-came-late".parse().unwrap();
    late.record.attrs.insert("patient".into(), Value::Entity(EntityUid::new("Patient", "somebody-new")));
    let change = store.put_records(&collection(), std::slice::from_ref(&late), at()).unwrap();
    store.commit(&[store.rotate(at())], &[], 0).unwrap();
    finish_rotation(&store);
    store.commit(&[change], &[], 0).unwrap();
    let before = dir.path().join("before");
    copy(&path, &before);
    assert!(store.census().behind == 1 && Forensics::of(store.ring(), &[&before]).reads(&late));
    finish_rotation(&store);
    assert!(!Forensics::of(store.ring(), &[&before]).reads(&late), "its old form went with its old key");
    erase(&store, std::slice::from_ref(&late));
    assert!(!Forensics::of(store.ring(), &[&before, &path]).reads(&late));
    assert!(store.verify().unwrap().is_sound());
}

/// Seals about so many of a hundred rows anew as a rotation does.
fn bring_up(store: &Store, share: usize) {
    let rows: Vec<_> = store.parts().unwrap().iter().flat_map(|part| store.behind(part).unwrap()).collect();
    let mut rest = rows.get(..rows.len() * share / 100).unwrap();
    while !rest.is_empty() {
        let resealed = store.bring_up(rest, at()).unwrap();
        resealed.change.into_iter().for_each(|change| store.commit(&[change], &[], 0).unwrap());
        rest = rest.get(resealed.taken..).unwrap();
    }
}

fn finish_rotation(store: &Store) {
    bring_up(store, 100);
    // one commit for each bucket at the most
    for _ in 0..=u8::MAX {
        let Some(change) = store.renew_wraps(at(), 1) else { break };
        store.commit(&[change], &[], 0).unwrap();
    }
    assert!(store.census().is_done(), "{:?}", store.census());
}

#[test]
fn a_rotation_ends_though_keys_were_made_that_no_commit_ever_holds() {
    let dir = tempfile::tempdir().unwrap();
    let store = create(&dir.path().join("data"));
    fill(&store);
    // refused in the end, or still on their way: enough of them to lie in every bucket
    for n in 0..3_000 {
        let mut one = record(1, 1);
        one.record.id = format!("record-{n}").parse().unwrap();
        one.record.attrs.insert("patient".into(), Value::Entity(EntityUid::new("Patient", format!("nobody-{n}"))));
        drop(store.put_records(&collection(), std::slice::from_ref(&one), at()).unwrap());
    }
    store.commit(&[store.rotate(at())], &[], 0).unwrap();
    finish_rotation(&store);
}

#[test]
fn one_record_of_a_patient_goes_for_good_and_the_others_lie_under_a_fresh_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let store = create(&path);
    fill(&store);
    let before = dir.path().join("before");
    copy(&path, &before);
    let gone = record(1, 1);
    let others: Vec<_> = all_of(&gone).into_iter().filter(|r| *r != gone).collect();
    let stay: Vec<_> =
        others.iter().filter(|r| store.record(&collection().name, &r.record.id).unwrap().is_some()).collect();
    let ids: Vec<_> = stay.iter().map(|r| r.record.id.clone()).collect();
    store.roll_keys(&collection().name, std::slice::from_ref(&gone.record.id)).unwrap();
    let resealed = store.reseal_records(&collection().name, &ids, at()).unwrap();
    assert!(resealed.taken == ids.len() && ids.len() >= 2);
    let changes = [
        resealed.change.unwrap(),
        store.erase_records(&collection().name, std::slice::from_ref(&gone.record.id), at()),
    ];
    store.commit(&changes, &[], 0).unwrap();
    assert!(store.verify().unwrap().is_sound());
    let old = Forensics::of(store.ring(), &[&before]);
    assert!(!old.reads(&gone) && stay.iter().all(|r| !old.reads(r)), "their old forms went with the old key");
    let now = Forensics::of(store.ring(), &[&path]);
    assert!(!now.reads(&gone) && stay.iter().all(|r| now.reads(r)));
    assert!(store.reseal_records(&collection().name, &ids, at()).unwrap().change.is_none(), "nothing is left to seal");
}

#[test]
fn a_row_that_was_written_again_is_not_put_back_by_what_was_sealed_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = create(&dir.path().join("data"));
    fill(&store);
    let id = record(1, 1).record.id;
    store.roll_keys(&collection().name, std::slice::from_ref(&id)).unwrap();
    let late = store.reseal_records(&collection().name, std::slice::from_ref(&id), at()).unwrap().change.unwrap();
    store.commit(&[store.put_records(&collection(), &[record(1, 2)], at()).unwrap()], &[], 0).unwrap();
    assert_eq!(store.commit(&[late], &[], 0), Err(super::StoreError::Stale));
    assert_eq!(store.record(&collection().name, &id).unwrap(), Some(record(1, 2)));
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn a_crash_at_any_step_of_a_destruction_leaves_the_key_whole_or_gone_and_one_ring_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    drop(create(&path));
    let camera = Arc::new(Camera { of: path.clone(), into: dir.path().join("film"), frames: AtomicU64::new(0) });
    let store = Store::open(&path, &phrase(), &OpenOptions { disk: camera.clone(), ..options() }).unwrap();
    fill(&store);
    let before = dir.path().join("before");
    copy(&path, &before);
    let gone = record(1, 1);
    let first = camera.frames.load(SeqCst);
    erase(&store, &all_of(&gone));
    let mut frames: Vec<PathBuf> = (first..camera.frames.load(SeqCst)).map(|n| camera.frame(n)).collect();
    // the moment after the ring file and before the engine: both ring keys in the file, the old rows in the engine
    let between = dir.path().join("between");
    copy(&before, &between);
    fs::copy(frames[0].join("keyring"), between.join("keyring")).unwrap();
    frames.push(between.clone());
    frames.push(path.clone());
    drop(store);
    let mut seen = BTreeSet::new();
    for frame in frames {
        let store = open(&frame);
        assert!(store.verify().unwrap().is_sound());
        let there = store.record(&collection().name, &gone.record.id).unwrap().is_some();
        // the first is of when the erasure was entered in the ledger, before it was made
        assert_eq!(there, frame == between || frame == camera.frame(first));
        assert_eq!(store.record(&collection().name, &record(2, 1).record.id).unwrap(), Some(record(2, 1)));
        let forensics = Forensics::of(store.ring(), &[&before]);
        assert_eq!(forensics.reads(&gone), there, "what is acknowledged as gone is gone");
        assert_eq!(forensics.ring_keys, usize::from(there), "the other ring key is forgotten");
        // and it goes on from there
        erase(&store, &all_of(&record(2, 1)));
        drop(store);
        assert!(open(&frame).verify().unwrap().is_sound());
        seen.insert(there);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn an_older_ring_file_is_refused_even_where_no_manifest_was_written_since() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let store = create(&path);
    fill(&store);
    let old = fs::read(path.join("keyring")).unwrap();
    erase(&store, &all_of(&record(1, 1)));
    drop(store);
    fs::write(path.join("keyring"), old).unwrap();
    assert!(Store::open(&path, &phrase(), &options()).is_err());
    assert!(!Store::examine(&path, &phrase(), &options()).unwrap().is_sound());
}

#[test]
fn a_new_patient_costs_one_row_and_a_destruction_what_its_bucket_holds() {
    let full = std::env::var("WARDKEEP_TESTS").is_ok_and(|v| v == "full");
    let (owners, batch) = if full { (100_000, 10_000) } else { (600, 600) };
    let dir = tempfile::tempdir().unwrap();
    let roomy = OpenOptions::default();
    let store = Store::create(&dir.path().join("data"), &phrase(), KdfCost::FLOOR, &roomy).unwrap();
    let one = |n: usize| {
        let mut stored = record(1, 1);
        stored.record.id = format!("record-{n}").parse().unwrap();
        stored.record.attrs.insert("patient".into(), Value::Entity(EntityUid::new("Patient", format!("{n}"))));
        stored
    };
    for from in (0..owners).step_by(batch) {
        let rows: Vec<_> = (from..from + batch).map(one).collect();
        store.commit(&[store.put_records(&collection(), &rows, at()).unwrap()], &[], 0).unwrap();
    }
    let touched = |change| {
        let ledger = store.ledger.lock();
        let before = ledger.account;
        drop(ledger);
        let began = (Instant::now(), cpu());
        store.commit(&[change], &[], 0).unwrap();
        let took = format!("{:?}, {:?} of them CPU time", began.0.elapsed(), cpu() - began.1);
        let count = |account: &mut super::ledger::Account, kind| account.tally(kind).count;
        let (mut before, mut after) = (before, store.ledger.lock().account);
        let keys = [Kind::DataKey, Kind::KeyBucket].map(|k| (count(&mut before, k), count(&mut after, k)));
        (keys, took)
    };
    let ([(before, after), buckets], took) = touched(store.put_records(&collection(), &[one(owners)], at()).unwrap());
    assert!(after == before + 1 && buckets.1 <= buckets.0 + 1, "one key, and its bucket's if it is the first there");
    println!("{owners} data keys: a new owner in {took}");
    for n in 0..5 {
        let ([(before, after), _], took) = touched(store.erase_records(&collection().name, &[one(n).record.id], at()));
        assert_eq!(after + 1, before);
        println!("{owners} data keys: one destroyed in {took}");
    }
    touched(store.rotate(at()));
    let (_, took) = touched(store.erase_records(&collection().name, &[one(5).record.id], at()));
    println!("{owners} data keys: one destroyed while a rotation has all of them before it, in {took}");
    assert!(store.verify().unwrap().is_sound());
}

/// What this thread has used of a processor: what else the machine does is not in it.
fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
}

/// All that is left of one record's patient, or of its document if it has none.
fn all_of(one: &StoredRecord) -> Vec<StoredRecord> {
    let patient = |stored: &StoredRecord| stored.record.patient("patient").cloned();
    (0..60).map(|n| record(n, 1)).filter(|other| patient(other) == patient(one)).collect()
}

fn erase(store: &Store, records: &[StoredRecord]) {
    let ids: Vec<_> = records.iter().map(|stored| stored.record.id.clone()).collect();
    store.commit(&[store.erase_records(&collection().name, &ids, at())], &[], 0).unwrap();
}

impl Store {
    /// Changes a byte of a record as it lies in the engine, behind the store's back; once more, and it is mended.
    pub(crate) fn spoil(&self, collection: &CollectionName, id: &RecordId, at: usize) {
        let key = self.names.record(collection, id);
        let mut value = self.engine.get(&key).unwrap().unwrap();
        value[at] ^= 1;
        self.engine.commit(vec![(key, Some(value))]).unwrap();
    }
}

/// What somebody finds who has the key ring of today, a copy of the directory from any time, and every byte of the disk: keys that are
/// or ever were on it, and what they open.
pub(crate) struct Forensics {
    names: Names,
    keys: Vec<DataKey>,
    bytes: Vec<Vec<u8>>,
    ring_keys: usize,
}

impl Forensics {
    pub(crate) fn of(ring: &KeyRing, places: &[&Path]) -> Self {
        let bytes: Vec<Vec<u8>> = places.iter().flat_map(|dir| files(dir)).map(|f| fs::read(f).unwrap()).collect();
        let mut found = Self { names: Names(ring.clone()), keys: Vec::new(), bytes, ring_keys: 0 };
        found.dig(ring);
        found
    }

    fn dig(&mut self, ring: &KeyRing) {
        let mut ring_keys = BTreeSet::new();
        let (mut buckets, mut ids) = (Vec::new(), BTreeSet::new());
        for bytes in &self.bytes {
            for at in 0..bytes.len().saturating_sub(OVERHEAD_BYTES) {
                let sealed = |length: usize| bytes.get(at..at + OVERHEAD_BYTES + length);
                if bytes[at] != 1 {
                    continue;
                }
                ids.extend(bytes.get(at + 1..at + 1 + KEY_ID_BYTES).map(|id| KeyTag::try_from(id).unwrap()));
                if let Some(wrapped) = sealed(52).filter(|wrapped| ring.hangs_on(wrapped).is_some()) {
                    ring_keys.insert(ring.hangs_on(wrapped));
                    buckets.extend((0..=255).filter_map(|number| ring.unwrap_bucket(number, wrapped).ok()));
                }
            }
        }
        self.ring_keys = ring_keys.len();
        let opened: Vec<DataKey> = {
            let wraps = |length: usize| {
                self.bytes.iter().flat_map(move |bytes| {
                    let windows = bytes.windows(OVERHEAD_BYTES + length);
                    windows.filter(|window| window[0] == 1)
                })
            };
            let data_key = |wrapped: &[u8]| {
                let under = crypto::key_of(wrapped)?;
                let bucket = buckets.iter().map(|bucket| &*bucket.key).find(|bucket| bucket.id() == under);
                if bucket.is_none() && ring.hangs_on(wrapped).is_none() {
                    return None;
                }
                ids.iter()
                    .find_map(|id| ring.unwrap(bucket, *id, wrapped).ok())
                    .and_then(|data| Arc::into_inner(data.key))
            };
            wraps(48).chain(wraps(52)).filter_map(data_key).collect()
        };
        self.keys = opened;
    }

    fn reads(&self, stored: &StoredRecord) -> bool {
        self.reads_in(&collection().name, stored)
    }

    /// Whether a record of a collection can be read, as it is known to have been.
    pub(crate) fn reads_in(&self, collection: &CollectionName, stored: &StoredRecord) -> bool {
        let name = self.names.record(collection, &stored.record.id);
        let length = codec::encode_record(stored).unwrap().len();
        self.opens(Kind::Record, &name, length)
            .is_some_and(|plain| codec::decode_record(&plain).as_ref() == Some(stored))
    }

    fn reads_entity(&self, uid: &EntityUid) -> bool {
        let n = (0..5).find(|n| patient(*n) == *uid).unwrap();
        self.reads_entity_as(&entity(n))
    }

    pub(crate) fn reads_entity_as(&self, entity: &Entity) -> bool {
        let length = codec::encode(entity, 0).unwrap().len();
        self.opens(Kind::Entity, &self.names.entity(&entity.uid), length).is_some()
    }

    /// Tries every key at every offset: the length of the plain form is known to whoever looks for it.
    fn opens(&self, kind: Kind, name: &[u8], length: usize) -> Option<Vec<u8>> {
        let store_id = self.names.0.store_id();
        let place = load::place(&store_id, kind, name);
        let windows = self.bytes.iter().flat_map(|bytes| bytes.windows(length + OVERHEAD_BYTES));
        windows.filter(|window| window[0] == 1).find_map(|window| {
            let under = crypto::key_of(window)?;
            let mut keys = self.keys.iter().filter(|key| key.id() == under);
            keys.find_map(|key| key.open(&place, window).ok()).map(|plain| plain.to_vec())
        })
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A disk that takes a picture of the whole directory at each sync.
struct Camera {
    of: PathBuf,
    into: PathBuf,
    frames: AtomicU64,
}

impl Camera {
    fn frame(&self, n: u64) -> PathBuf {
        self.into.join(n.to_string())
    }
}

impl Disk for Camera {
    fn sync(&self, file: &fs::File) -> std::io::Result<()> {
        file.sync_data()?;
        copy(&self.of, &self.frame(self.frames.fetch_add(1, SeqCst)));
        Ok(())
    }

    fn write_at(&self, file: &fs::File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        RealDisk.write_at(file, bytes, offset)
    }
}
