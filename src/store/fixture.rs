//! What the tests of the store share: a small store with a little of everything.

use std::{path::Path, sync::Arc};

use super::{EngineKind, OpenOptions, Store, StoredBundle, StoredRecord};
use crate::{
    clock::Instant,
    crypto::{KdfCost, Passphrase},
    model::{
        ApiKey, BundleSource, Collection, Embedding, Entity, EntityUid, Isolation, KeyId, Metric, Phi, Record, Value,
    },
};

pub(super) const AT: i64 = 1_770_000_000_000;

pub(super) fn at() -> Instant {
    Instant::from_millis(AT)
}

pub(super) fn phrase() -> Passphrase {
    Passphrase::from_bytes(b"a sentence to open it\n".to_vec()).unwrap()
}

pub(super) fn options() -> OpenOptions {
    OpenOptions { cache_bytes: 8 << 20, ..OpenOptions::default() }
}

pub(super) fn options_on(kind: EngineKind) -> OpenOptions {
    OpenOptions { engine: Some(kind), ..options() }
}

pub(super) fn create(dir: &Path) -> Store {
    create_on(EngineKind::default(), dir)
}

pub(super) fn create_on(kind: EngineKind, dir: &Path) -> Store {
    Store::create(dir, &phrase(), KdfCost::FLOOR, &options_on(kind)).unwrap()
}

/// Makes a test of each function, once for each storage engine.
macro_rules! on_each_engine {
    ($($test:ident),* $(,)?) => {
        mod on_sled { $(#[test] fn $test() { super::$test(crate::store::EngineKind::Sled) })* }
        mod on_redb { $(#[test] fn $test() { super::$test(crate::store::EngineKind::Redb) })* }
    };
}
pub(super) use on_each_engine;

pub(super) fn open(dir: &Path) -> Store {
    Store::open(dir, &phrase(), &options()).unwrap()
}

pub(super) fn collection() -> Collection {
    Collection {
        name: "chart-notes".parse().unwrap(),
        dimension: 8,
        metric: Metric::Cosine,
        subject_attribute: "patient".into(),
        isolation: Isolation::Strict,
        embedding_model: Some("model-of-embeddings".into()),
    }
}

pub(super) fn patient(n: usize) -> EntityUid {
    EntityUid::new("Patient", format!("patient-identifier-{n:04}"))
}

/// Record `n`: three of four have a patient, ten of whom take turns.
pub(super) fn record(n: usize, version: u64) -> StoredRecord {
    let components = (0..8).map(|i| ((n * 31 + i * 17) % 101) as f32 - 50.5).collect();
    let mut attrs: crate::model::entity::Attributes =
        [("department".into(), Value::text("department-of-cardiology"))].into();
    if !n.is_multiple_of(4) {
        attrs.insert("patient".into(), Value::Entity(patient(n % 10)));
    }
    let record = Record {
        id: format!("record-identifier-{n:06}").parse().unwrap(),
        document: format!("document-identifier-{:05}", n / 3).parse().unwrap(),
        embedding: Embedding::new(components, 8, Metric::Cosine).unwrap(),
        text: Phi::new(format!("clinical narrative number {n}, writing {version}")),
        attrs,
        tags: [("sensitivity".into(), Value::text("psychotherapy-note"))].into(),
        parents: [EntityUid::new("Collection", "chart-notes")].into(),
    };
    StoredRecord { record, version }
}

pub(super) fn records(range: std::ops::Range<usize>) -> Vec<StoredRecord> {
    range.map(|n| record(n, 1)).collect()
}

pub(super) fn entity(n: usize) -> Entity {
    let mut entity = Entity::bare(patient(n));
    entity.attrs.insert("name".into(), Value::text(format!("family name of person {n}")));
    entity
}

pub(super) fn bundle(note: &str) -> StoredBundle {
    let source = BundleSource {
        schema: "entity Record; // the whole schema".into(),
        policies: "@id(\"nurse-care-team-policy\") permit(principal, action, resource);".into(),
        note: note.into(),
        ..BundleSource::default()
    };
    StoredBundle { source, author: EntityUid::new("Administrator", "administrator-in-chief"), at: at(), restores: None }
}

pub(super) fn api_key(n: u8) -> ApiKey {
    ApiKey {
        key_id: KeyId([n; 8]),
        caller: EntityUid::new("Clinician", "clinician-identifier-77"),
        verifier: [n; 32],
        created_at: at(),
        expires_at: None,
        purposes: Some(vec!["treatment-purpose".into()]),
    }
}

/// Forty records, five entities, two bundles, an API key, in several commits with the manifest kept up.
pub(super) fn fill(store: &Store) {
    store.commit(&[store.put_collection(&collection(), at()).unwrap()], &[(0, b"sealed frame 0".to_vec())], 0).unwrap();
    store.write_manifest(1, [1; 32], 1).unwrap();
    let entities: Vec<_> = (0..5).map(entity).collect();
    let people = [
        store.put_entities(&entities, at()).unwrap(),
        store.put_bundle(1, &bundle("first"), at()).unwrap(),
        store.put_bundle(2, &bundle("second"), at()).unwrap(),
        store.put_api_key(&api_key(7), at()).unwrap(),
    ];
    store.commit(&people, &[(1, b"sealed frame 1".to_vec())], 1).unwrap();
    store.write_manifest(2, [2; 32], 2).unwrap();
    store.commit(&[store.put_records(&collection(), &records(0..40), at()).unwrap()], &[], 0).unwrap();
    store.write_manifest(3, [3; 32], 3).unwrap();
}

/// Everything that can be read, as text that tests compare.
pub(super) fn everything(store: &Store) -> Result<String, super::StoreError> {
    let mut lines = vec![format!("{:?}", store.collections()?), format!("{:?}", store.bundle()?)];
    let mut entities = store.entities()?;
    entities.sort_by(|a, b| a.uid.cmp(&b.uid));
    lines.extend(entities.iter().map(|e| e.to_json().to_string()));
    lines.extend(store.api_keys()?.iter().map(|k| format!("{:?} {:?}", k.key_id, k.verifier)));
    let mut texts = Vec::new();
    store.records(&collection().name, &mut |stored| {
        let record = &stored.record;
        texts.push(format!(
            "{} {} {} {:?} {}",
            record.id.as_str(),
            stored.version,
            record.text.reveal(),
            record.embedding.components(),
            record.entity(&collection().name).to_json()
        ));
        Ok(())
    })?;
    texts.sort();
    lines.extend(texts);
    lines.extend(store.outbox()?.iter().map(|f| format!("{f:?}")));
    Ok(lines.join("\n"))
}

/// Copies a directory.
pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A disk that fails when told to, and counts.
#[derive(Default)]
pub(super) struct FailingDisk {
    pub(super) syncs: std::sync::atomic::AtomicU64,
    /// Syncs and writes fail with this raw error when it is not zero.
    pub(super) fault: std::sync::atomic::AtomicI32,
}

impl FailingDisk {
    fn outcome(&self) -> std::io::Result<()> {
        match self.fault.load(std::sync::atomic::Ordering::SeqCst) {
            0 => Ok(()),
            raw => Err(std::io::Error::from_raw_os_error(raw)),
        }
    }
}

impl super::Disk for FailingDisk {
    fn sync(&self, file: &std::fs::File) -> std::io::Result<()> {
        self.syncs.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.outcome()?;
        file.sync_data()
    }

    fn write_at(&self, file: &std::fs::File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        self.outcome()?;
        super::RealDisk.write_at(file, bytes, offset)
    }

    fn set_len(&self, file: &std::fs::File, bytes: u64) -> std::io::Result<()> {
        self.outcome()?;
        super::RealDisk.set_len(file, bytes)
    }
}

pub(super) fn failing(kind: EngineKind) -> (Arc<FailingDisk>, OpenOptions) {
    let disk = Arc::new(FailingDisk::default());
    (disk.clone(), OpenOptions { disk, ..options_on(kind) })
}
