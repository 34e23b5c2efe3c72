//! Every order in which the steps of commits, of the keeper and of whoever forgets what was kept may meet, tried one by one, with a kill after
//! any of them. Knows a disk as a handful of facts.
//!
//! What is tried is the product's own: `store::Handover` decides, `Keeping` reads a real `World`, `World::put_in_force` puts real arrivals and
//! departures in force, and `read` reads back. Of this page are the locks, which loom hands to every thread in turn; the disk; and the order
//! supersede, durable, in force, which is that of `Store::commit` (held there by a test of `store::derived`) and `Journal`.
//!
//! A kill needs no thread: whatever a step leaves on disk is read back at once, as the next start would. A start is no more than how a model
//! begins: records and what was kept of them, no change in progress. So what holds of every kill holds of every run after it.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use loom::{sync::Mutex, thread};
use serde::de::DeserializeOwned;

use super::*;
use crate::{
    authn::Keys,
    engine::{
        journal::Effect,
        world::{Arrival, InForce},
    },
    index::{Encoder, VectorIndex},
    model::{Embedding, Entity, Isolation, Metric, Value},
    policy::{Bundle, Directory, starter},
    store::{Begun, Handover, Turns, pieces},
};

/// Two slots to a piece, so that a few records make several.
pub(super) const GRAIN: Grain = Grain { rows: 2, sheet_slots: 2 };
/// Long enough for codes.
const DIMENSION: usize = 64;
/// Of a model's threads: those of a coroutine are small, and a world is not.
const STACK_BYTES: usize = 512 << 10;

/// Which writing of a record: its stamp, vector and attribute follow from it.
pub(super) type Number = u8;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Writes a record, a new one or in the place of one that is there.
    Put(&'static str, Number),
    Erase(&'static str),
}

/// What goes on at the same time.
#[derive(Debug, Clone, Copy)]
struct Scene {
    /// Changes, each a commit, in turn.
    steps: &'static [Step],
    keepings: usize,
    forgettings: usize,
    /// How often, at most, a thread is stopped in one order where it need not wait; `None`: every order that there is. In the usual run, and
    /// with `WARDKEEP_TESTS=full`. All faults planted here are found with two.
    stops: [Option<usize>; 2],
}

/// A and B are there and kept when it begins.
const FIRST: [Step; 2] = [Step::Put("a", 1), Step::Put("b", 2)];

const SCENES: [Scene; 6] = [
    Scene { steps: &[Step::Put("a", 3)], keepings: 1, forgettings: 0, stops: [None, None] },
    Scene { steps: &[Step::Erase("a")], keepings: 1, forgettings: 0, stops: [None, None] },
    // the new one takes the slot of the one that went
    Scene { steps: &[Step::Erase("b"), Step::Put("c", 3)], keepings: 1, forgettings: 0, stops: [None, None] },
    Scene { steps: &[Step::Put("c", 3), Step::Put("c", 4)], keepings: 1, forgettings: 0, stops: [Some(4), None] },
    Scene { steps: &[], keepings: 1, forgettings: 1, stops: [None, None] },
    Scene { steps: &[Step::Put("b", 3)], keepings: 2, forgettings: 1, stops: [Some(2), Some(3)] },
];

/// What was wrong once, or might be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A commit counts as soon as it is durable.
    BegunByWhatIsDurable,
    /// Nobody asks what is in force.
    BegunWhateverIsInForce,
    /// A commit makes what was begun out of date, and does not say which change it is.
    SupersededWithoutNumber,
    SupersededOnceDurable,
    SupersededOnceInForce,
    /// A change is said to be in force, and then put in force.
    SaidBeforeItIs,
    PublishedUnasked,
    /// Whether it is out of date is asked, and then it is put in its place.
    AskedBeforePublished,
}

/// What a start must not find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// What was erased or replaced.
    Remains,
    /// Codes or columns of another writing than the row's, and the row is believed.
    Mixed,
}

const BOTH: [Wrong; 2] = [Wrong::Remains, Wrong::Mixed];

struct Lock<T>(Mutex<T>);

impl<T> Guarded<T> for Lock<T> {
    fn look<R>(&self, at: impl FnOnce(&T) -> R) -> R {
        at(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<R>(&self, by: impl FnOnce(&mut T) -> R) -> R {
        by(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a kill would leave.
#[derive(Default)]
struct Disk {
    stored: BTreeMap<StoredName, Stamp>,
    sequence: u64,
    /// Keys are numbered; a draft's is in memory alone.
    key: Option<u64>,
    data: Option<(u64, Vec<Vec<u8>>)>,
}

struct House {
    world: Lock<World>,
    handover: Handover<Lock<Turns>>,
    disk: Lock<Disk>,
    keys: AtomicU64,
    fault: Option<Fault>,
    looked_for: &'static [Wrong],
}

struct Written<'a> {
    house: &'a House,
    begun: Begun,
    pieces: Vec<Vec<u8>>,
}

/// Pieces, and how many were read.
struct Back<'a>(&'a [Vec<u8>], usize);

impl House {
    fn new(fault: Option<Fault>, looked_for: &'static [Wrong]) -> Self {
        let bundle = InForce { version: 1, bundle: Arc::clone(bundle()) };
        let mut world = World::new(bundle, Directory::new(), Keys::default(), Memory::Fast);
        world.collections.insert(notes(), Holding::new(spec(), Memory::Fast));
        Self {
            world: Lock(Mutex::new(world)),
            handover: Handover::new(Lock(Mutex::new(Turns::new(false)))),
            disk: Lock(Mutex::new(Disk::default())),
            keys: AtomicU64::new(0),
            fault,
            looked_for,
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// As `Store::commit` and then the journal do.
    fn commit(&self, step: Step, number: u64) {
        let takes_away = match step {
            Step::Put(id, _) => self.disk.look(|disk| disk.stored.contains_key(&name_of(id))),
            Step::Erase(_) => true,
        };
        let supersede = |when: Option<Fault>| {
            let late = [Fault::SupersededOnceDurable, Fault::SupersededOnceInForce].into_iter().find(|f| self.has(*f));
            if takes_away && when == late {
                let by = if self.has(Fault::SupersededWithoutNumber) { 0 } else { number };
                self.handover.supersede(by, || self.destroy()).unwrap();
            }
        };
        supersede(None);
        self.step(|disk| {
            match step {
                Step::Put(id, number) => _ = disk.stored.insert(name_of(id), [number; 16]),
                Step::Erase(id) => _ = disk.stored.remove(&name_of(id)),
            }
            disk.sequence = number;
        });
        supersede(Some(Fault::SupersededOnceDurable));
        if self.has(Fault::SaidBeforeItIs) {
            self.world.change(|world| world.sequence = number);
        }
        self.world.change(|world| world.put_in_force(vec![effect(step)], number));
        supersede(Some(Fault::SupersededOnceInForce));
    }

    fn keep(&self) -> Published {
        let named = |_: &CollectionName, id: &RecordId| name_of(id.as_str());
        Keeping { room: self, world: &self.world, named, grain: GRAIN }.write().unwrap().0
    }

    fn forget(&self) {
        self.handover.supersede(0, || self.destroy()).unwrap();
    }

    fn destroy(&self) -> Result<(), StoreError> {
        self.step(|disk| disk.key = None);
        self.step(|disk| disk.data = None);
        Ok(())
    }

    fn install(&self, pieces: Vec<Vec<u8>>) -> Result<(), StoreError> {
        self.destroy()?;
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        self.step(|disk| disk.data = Some((key, pieces)));
        self.step(|disk| disk.key = Some(key));
        Ok(())
    }

    /// One step of the disk, after which the machine may stop.
    fn step(&self, change: impl FnOnce(&mut Disk)) {
        self.disk.change(|disk| {
            change(disk);
            self.start(disk);
        });
    }

    /// What the next start would find, and take: how many rows.
    fn start(&self, disk: &Disk) -> usize {
        let pieces = match (&disk.key, &disk.data) {
            (Some(key), Some((sealed_under, pieces))) if key == sealed_under => pieces,
            _ => return 0,
        };
        let restored = read(&mut Back(pieces, 0), Memory::Fast).expect("what is kept is whole");
        let restored = &restored[&notes()];
        for (name, (slot, stamp)) in &restored.rows {
            match disk.stored.get(name) {
                Some(stored) if stored == stamp => self.refuse_mixed(&restored.holding, *slot, stamp[0]),
                Some(_) | None => self.refuse(Wrong::Remains, stamp[0]),
            }
        }
        restored.rows.len()
    }

    fn refuse_mixed(&self, holding: &Holding, slot: u32, number: Number) {
        let codes = holding.index.block(slot..slot + 1);
        if codes != codes_of()[number as usize] || !holding.columns.references(Slot(slot)).contains(&mark(number)) {
            self.refuse(Wrong::Mixed, number);
        }
    }

    fn refuse(&self, wrong: Wrong, number: Number) {
        assert!(!self.looked_for.contains(&wrong), "{wrong:?}: writing {number}");
    }
}

impl Room for House {
    type Writing<'a> = Written<'a>;

    fn begin(&self, in_force: u64) -> Result<Option<Written<'_>>, StoreError> {
        let in_force = match self.fault {
            Some(Fault::BegunWhateverIsInForce) => u64::MAX,
            Some(Fault::BegunByWhatIsDurable) => self.disk.look(|disk| disk.sequence),
            Some(_) | None => in_force,
        };
        Ok(self.handover.begin(in_force).map(|begun| Written { house: self, begun, pieces: Vec::new() }))
    }
}

impl Sink for Written<'_> {
    fn put<T: Serialize>(&mut self, piece: &T) -> Result<(), StoreError> {
        self.pieces.push(pieces::encode(piece));
        Ok(())
    }

    fn is_outdated(&self) -> bool {
        !self.house.has(Fault::PublishedUnasked) && self.house.handover.is_outdated(self.begun)
    }

    fn publish(self) -> Result<Published, StoreError> {
        let Self { house, begun, pieces } = self;
        if house.has(Fault::PublishedUnasked) {
            let now = house.handover.begin(u64::MAX).unwrap();
            return house.handover.publish(now, || house.install(pieces));
        }
        if house.has(Fault::AskedBeforePublished) {
            if house.handover.is_outdated(begun) {
                return Ok(Published::Outdated);
            }
            house.install(pieces)?;
            let now = house.handover.begin(u64::MAX).unwrap();
            return house.handover.publish(now, || Ok(()));
        }
        house.handover.publish(begun, || house.install(pieces))
    }
}

impl Pieces for Back<'_> {
    fn piece<T: DeserializeOwned>(&mut self) -> Option<T> {
        self.1 += 1;
        pieces::decode(self.0.get(self.1 - 1)?)
    }

    fn is_at_end(&self) -> bool {
        self.1 == self.0.len()
    }
}

pub(super) fn notes() -> CollectionName {
    "notes".parse().unwrap()
}

pub(super) fn spec() -> Collection {
    Collection {
        name: notes(),
        dimension: DIMENSION,
        metric: Metric::Dot,
        subject_attribute: "patient".into(),
        isolation: Isolation::Strict,
        embedding_model: None,
    }
}

pub(super) fn bundle() -> &'static Arc<Bundle> {
    static BUNDLE: OnceLock<Arc<Bundle>> = OnceLock::new();
    BUNDLE.get_or_init(|| Arc::new(Bundle::compile(&starter()).unwrap()))
}

fn name_of(id: &str) -> StoredName {
    [id.as_bytes()[0]; 16]
}

/// What only this writing refers to.
fn mark(number: Number) -> EntityUid {
    EntityUid::new("Writing", number.to_string())
}

fn vector(number: Number) -> Embedding {
    let component = |i: usize| ((i * 7 + 3) * (number as usize + 11) % 13) as f32 - 6.0;
    Embedding::new((0..DIMENSION).map(component).collect(), DIMENSION, Metric::Dot).unwrap()
}

/// The codes of each writing.
fn codes_of() -> &'static [Block] {
    static CODES: OnceLock<Vec<Block>> = OnceLock::new();
    CODES.get_or_init(|| {
        let mut index = VectorIndex::new(DIMENSION, Metric::Dot, Isolation::Strict);
        let encoder = index.encoder();
        (0..8).for_each(|number| _ = index.push(&encoder.encode(vector(number))));
        (0..8).map(|slot| index.block(slot..slot + 1)).collect()
    })
}

fn effect(step: Step) -> Effect {
    Box::new(move |world| match step {
        Step::Put(id, number) => {
            let encoder = world.holding(&notes()).unwrap().index.encoder();
            world.arrive(&notes(), vec![arrival(&encoder, id.parse().unwrap(), number)]);
        }
        Step::Erase(id) => world.depart(&notes(), &[id.parse().unwrap()]),
    })
}

pub(super) fn arrival(encoder: &Encoder, id: RecordId, number: Number) -> Arrival {
    let mut entity = Entity::bare(EntityUid::record(&notes(), &id));
    entity.attrs.insert("writing".into(), Value::Entity(mark(number)));
    let (document, row) = ("d".parse().unwrap(), encoder.encode(vector(number)));
    Arrival { id, document, patient: None, row, entity, stamp: [number; 16], valid: true }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    thread::Builder::new().stack_size(STACK_BYTES / size_of::<usize>()).spawn(work).unwrap()
}

/// One run in one order.
fn run(house: House, scene: Scene) {
    let house = Arc::new(house);
    (1..).zip(FIRST).for_each(|(number, step)| house.commit(step, number));
    assert_eq!(house.keep(), Published::Whole);
    let with = |work: fn(&House), times: usize| {
        let house = Arc::clone(&house);
        spawn(move || (0..times).for_each(|_| work(&house)))
    };
    let keeper = (scene.keepings > 0).then(|| with(|house| _ = house.keep(), scene.keepings));
    let forgetter = (scene.forgettings > 0).then(|| with(House::forget, scene.forgettings));
    (3..).zip(scene.steps).for_each(|(number, step)| house.commit(*step, number));
    [keeper, forgetter].into_iter().flatten().for_each(|thread| thread.join().unwrap());
    // nothing changes any more: a keeping ends, and the next start takes every row from it
    assert_eq!(house.keep(), Published::Whole);
    assert_eq!(house.disk.look(|disk| house.start(disk)), house.disk.look(|disk| disk.stored.len()));
}

/// Tries every order of a scene, or every one with no more stops than `most`; tells how many there were.
fn every_order(scene: Scene, fault: Option<Fault>, looked_for: &'static [Wrong], most: Option<usize>) -> u64 {
    // made before, so that each order begins alike
    bundle();
    codes_of();
    let tried = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&tried);
    let mut model = loom::model::Builder::new();
    model.preemption_bound = most;
    model.max_branches = 10_000;
    model.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        spawn(move || run(House::new(fault, looked_for), scene)).join().unwrap();
    });
    tried.load(Ordering::Relaxed)
}

/// How a model with `fault` fails; `None` where it holds.
fn found(fault: Fault, looked_for: &'static [Wrong]) -> Option<String> {
    SCENES.into_iter().find_map(|scene| {
        let tried = catch_unwind(AssertUnwindSafe(|| every_order(scene, Some(fault), looked_for, Some(2))));
        let why = tried.err()?;
        Some(why.downcast_ref::<String>().cloned().unwrap_or_else(|| "another panic".into()))
    })
}

#[test]
fn whatever_the_order_a_start_finds_nothing_that_was_taken_away_and_no_row_of_two_writings() {
    let full = std::env::var("WARDKEEP_TESTS").is_ok_and(|wish| wish == "full");
    for scene in SCENES {
        let [usual, most] = scene.stops;
        let tried = every_order(scene, None, &BOTH, if full { most } else { usual });
        println!("{scene:?}: {tried} orders");
    }
}

#[test]
fn a_model_with_any_fault_planted_is_found_out() {
    use Fault::*;
    for fault in [
        BegunByWhatIsDurable,
        BegunWhateverIsInForce,
        SupersededWithoutNumber,
        SupersededOnceDurable,
        SupersededOnceInForce,
        SaidBeforeItIs,
        PublishedUnasked,
        AskedBeforePublished,
    ] {
        let why = found(fault, &BOTH).unwrap_or_else(|| panic!("{fault:?} is not found"));
        println!("{fault:?}: {why}");
        assert!(why.contains("Remains") || why.contains("Mixed"), "{fault:?}: {why}");
    }
}

#[test]
fn codes_are_those_of_the_writing_that_their_row_names_even_where_the_hand_over_is_at_fault() {
    use Fault::*;
    for fault in [BegunByWhatIsDurable, BegunWhateverIsInForce, SupersededWithoutNumber, SaidBeforeItIs] {
        assert_eq!(found(fault, &[Wrong::Mixed]), None, "{fault:?}");
    }
}
