//! Records on their way into memory while the store is being opened, from several threads at once. What was kept of a record is used where
//! the record is still the writing that it was made of; everything else is made anew.

use std::{
    collections::{BTreeMap, HashMap},
    panic::resume_unwind,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use parking_lot::{Mutex, MutexGuard};
use roaring::RoaringBitmap;
use zeroize::Zeroizing;

use super::{
    Memory, OpenError,
    kept::{self, Restored},
    recover::{Progress, in_force},
    world::{Arrival, Holding, World},
};
use crate::{
    authn::Keys,
    crypto::Stamp,
    index::Encoder,
    model::{Collection, CollectionName, RecordId},
    policy::Directory,
    store::{Hand, Intake, SealedRecord, Store, StoreError, StoredName, StoredRecord},
};

/// Records put into memory at a time.
const BATCH: usize = 1_000;
/// Records that may wait to be put there before a thread waits for its turn.
const WAITING: usize = 8_000;
/// The same of records that were kept, which a thread keeps until it has so many.
const KEPT_BATCH: usize = 256;
const KEPT_WAITING: usize = 1_024;

/// Takes every record of a store in.
pub(super) struct Loading<'a> {
    world: Mutex<World>,
    collections: HashMap<StoredName, Taking>,
    pending: Mutex<Vec<(CollectionName, Arrival)>>,
    loaded: AtomicU64,
    progress: Progress<'a>,
}

/// One collection and what was kept of it.
struct Taking {
    spec: Collection,
    encoder: Encoder,
    kept: HashMap<StoredName, (u32, Stamp)>,
    /// Whether memory holds vectors, which are not kept: they are opened anyway with their records.
    holds_vectors: bool,
    /// Slots whose rows are those of records that are stored.
    vouched: Mutex<RoaringBitmap>,
}

impl Taking {
    fn arrival(&self, stored: StoredRecord, stamp: Stamp) -> Arrival {
        let record = stored.record;
        Arrival {
            patient: record.patient(&self.spec.subject_attribute).cloned(),
            entity: record.entity(&self.spec.name),
            id: record.id,
            document: record.document,
            row: self.encoder.encode(record.embedding),
            stamp,
            valid: true,
        }
    }
}

/// One thread's part: the vectors of rows that were kept, until there are enough of them to be worth the world's lock.
struct Filling<'a> {
    loading: &'a Loading<'a>,
    /// Whose they are.
    taking: Option<&'a Taking>,
    slots: Vec<u32>,
    vectors: Zeroizing<Vec<f32>>,
    /// What one record after the other is opened into.
    plain: Zeroizing<Vec<u8>>,
}

impl<'a> Loading<'a> {
    /// Reads all but the records, and what was kept of them.
    pub(super) fn begin(store: &Store, memory: Memory, progress: Progress<'a>) -> Result<Self, OpenError> {
        let (mut world, mut restored) = thread::scope(|scope| {
            let restored =
                thread::Builder::new().name("kept".into()).spawn_scoped(scope, || restored(store, memory))?;
            let world = all_but_records(store, memory);
            Ok::<_, OpenError>((world?, restored.join().unwrap_or_else(|panic| resume_unwind(panic))))
        })?;
        let mut collections = HashMap::new();
        for spec in store.collections()? {
            let kept = restored.remove(&spec.name).filter(|kept| kept.holding.spec == spec);
            let kept = match kept {
                Some(Restored { holding, rows, references }) => {
                    world.adopt(holding, references.iter().map(|(uid, count)| (uid, *count)));
                    rows
                }
                None => {
                    world.collections.insert(spec.name.clone(), Holding::new(spec.clone(), memory));
                    HashMap::new()
                }
            };
            let vouched = Mutex::new(RoaringBitmap::new());
            let Some(index) = world.holding(&spec.name).map(|holding| &holding.index) else { continue };
            let (encoder, holds_vectors) = (index.encoder(), index.holds_vectors());
            collections.insert(store.name_of(&spec.name), Taking { spec, encoder, kept, holds_vectors, vouched });
        }
        Ok(Self {
            world: Mutex::new(world),
            collections,
            pending: Mutex::new(Vec::new()),
            loaded: AtomicU64::new(0),
            progress,
        })
    }

    /// The world, once every record was taken in. What was kept of records that are no more, or are others by now, goes.
    pub(super) fn finish(self) -> World {
        let mut world = self.world.into_inner();
        place(&mut world, &self.collections, self.pending.into_inner());
        for taking in self.collections.into_values().filter(|taking| !taking.kept.is_empty()) {
            let vouched = taking.vouched.into_inner();
            let stale = taking.kept.values().map(|(slot, _)| *slot).filter(|slot| !vouched.contains(*slot));
            let ids: Vec<RecordId> = match world.holding(&taking.spec.name) {
                Some(holding) => holding.ids(&stale.collect()),
                None => Vec::new(),
            };
            world.depart(&taking.spec.name, &ids);
        }
        (self.progress)(self.loaded.into_inner());
        world
    }

    fn pend(&self, collection: CollectionName, arrival: Arrival) {
        let mut pending = self.pending.lock();
        pending.push((collection, arrival));
        if pending.len() < BATCH {
            return;
        }
        // most often another thread is at it, and this one has something better to do
        let world = if pending.len() < WAITING { self.world.try_lock() } else { Some(self.world.lock()) };
        if let Some(mut world) = world {
            let batch = std::mem::take(&mut *pending);
            drop(pending);
            place(&mut world, &self.collections, batch);
            (self.progress)(self.loaded.load(Ordering::Relaxed));
        }
    }
}

impl Intake for Loading<'_> {
    fn hand(&self) -> Box<dyn Hand + '_> {
        Box::new(Filling {
            loading: self,
            taking: None,
            slots: Vec::new(),
            vectors: Zeroizing::default(),
            plain: Zeroizing::default(),
        })
    }
}

impl Hand for Filling<'_> {
    fn take(&mut self, record: &SealedRecord<'_>) -> Result<(), StoreError> {
        let (collection, name) = record.names()?;
        let Some(taking) = self.loading.collections.get(&collection) else { return Ok(()) };
        self.loading.loaded.fetch_add(1, Ordering::Relaxed);
        let stamp = record.stamp()?;
        match taking.kept.get(&name) {
            Some((slot, kept)) if *kept == stamp => self.keep(taking, *slot, record),
            Some(_) | None => {
                self.loading.pend(taking.spec.name.clone(), taking.arrival(record.open()?, stamp));
                Ok(())
            }
        }
    }

    fn finish(mut self: Box<Self>) {
        let world = self.loading.world.lock();
        self.put(world);
    }
}

impl<'a> Filling<'a> {
    /// The row that was kept is right; where memory holds vectors, which are not kept, its own is put there in its turn.
    fn keep(&mut self, taking: &'a Taking, slot: u32, record: &SealedRecord<'_>) -> Result<(), StoreError> {
        if self.taking.is_none_or(|before| !std::ptr::eq(before, taking)) {
            self.turn_to(taking);
        }
        if taking.holds_vectors {
            record.append_vector(taking.spec.dimension, &mut self.plain, &mut self.vectors)?;
        }
        self.slots.push(slot);
        if self.slots.len() >= KEPT_BATCH {
            let world = &self.loading.world;
            // most often another thread is at it, and this one has something better to do
            let world = if self.slots.len() < KEPT_WAITING { world.try_lock() } else { Some(world.lock()) };
            world.into_iter().for_each(|world| self.put(world));
        }
        Ok(())
    }

    fn turn_to(&mut self, taking: &'a Taking) {
        let world = self.loading.world.lock();
        self.put(world);
        self.taking = Some(taking);
        // at once, for what grew would leave copies behind
        let room = if taking.holds_vectors { KEPT_WAITING * taking.spec.dimension } else { 0 };
        self.vectors = Zeroizing::new(Vec::with_capacity(room));
    }

    fn put(&mut self, mut world: MutexGuard<'_, World>) {
        let Some(taking) = self.taking else { return };
        if let Some(holding) = world.collections.get_mut(&taking.spec.name) {
            holding.index.fill(&self.slots, &self.vectors);
        }
        drop(world);
        taking.vouched.lock().extend(self.slots.drain(..));
        self.vectors.clear();
    }
}

fn place(world: &mut World, collections: &HashMap<StoredName, Taking>, batch: Vec<(CollectionName, Arrival)>) {
    let mut arrivals: BTreeMap<CollectionName, Vec<Arrival>> = BTreeMap::new();
    for (name, arrival) in batch {
        arrivals.entry(name).or_default().push(arrival);
    }
    for (name, arrivals) in arrivals {
        let ids: Vec<RecordId> = arrivals.iter().map(|arrival| arrival.id.clone()).collect();
        world.arrive(&name, arrivals);
        let Some(holding) = world.holding(&name) else { continue };
        let Some(taking) = collections.values().find(|taking| taking.spec.name == name) else { continue };
        taking.vouched.lock().extend(ids.iter().filter_map(|id| Some(holding.find(id)?.0.0)));
    }
}

/// The world without its records.
fn all_but_records(store: &Store, memory: Memory) -> Result<World, OpenError> {
    let mut world = World::new(in_force(store)?, Directory::new(), Keys::new(store.api_keys()?), memory);
    store.entities()?.into_iter().for_each(|entity| world.load_entity(entity));
    world.holds = store.holds()?.into_iter().map(|hold| (hold.patient.clone(), hold)).collect();
    Ok(world)
}

/// What was kept, if it can be read; what cannot is destroyed, and everything made anew.
fn restored(store: &Store, memory: Memory) -> BTreeMap<CollectionName, Restored> {
    if store.derived().is_empty() {
        return BTreeMap::new();
    }
    if let Some(kept) = store.derived().read().and_then(|mut reading| kept::read(&mut reading, memory)) {
        return kept;
    }
    tracing::warn!(
        "what was kept for a quick start cannot be used (damaged, cut short, or of another store, key or version): it is made anew"
    );
    if let Err(error) = store.derived().discard() {
        tracing::warn!(%error, "and it cannot be removed either");
    }
    BTreeMap::new()
}
