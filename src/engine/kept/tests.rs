//! What a keeping keeps others from: nothing but the copying of one piece.

use std::sync::Arc;

use super::{
    model::{GRAIN, arrival, bundle, notes, spec},
    *,
};
use crate::{authn::Keys, engine::world::InForce, policy::Directory};

/// Writes to the world whenever a piece comes.
struct Busy<'a>(&'a RwLock<World>);

struct Brought<'a> {
    world: &'a RwLock<World>,
    pieces: u8,
}

impl Room for Busy<'_> {
    type Writing<'a>
        = Brought<'a>
    where
        Self: 'a;

    fn begin(&self, _: u64) -> Result<Option<Brought<'_>>, StoreError> {
        Ok(Some(Brought { world: self.0, pieces: 0 }))
    }
}

impl Sink for Brought<'_> {
    fn put<T: Serialize>(&mut self, _: &T) -> Result<(), StoreError> {
        let mut world = self.world.try_write().expect("it is sealed without the lock");
        assert!(!world.holding(&notes()).unwrap().index.shares_memory(), "piece {}", self.pieces);
        self.pieces += 1;
        put(&mut world, self.pieces);
        Ok(())
    }

    fn is_outdated(&self) -> bool {
        false
    }

    fn publish(self) -> Result<Published, StoreError> {
        assert!(self.pieces > 10, "{} pieces", self.pieces);
        Ok(Published::Whole)
    }
}

/// A new record at every second number, one in the place of another at the others.
fn put(world: &mut World, number: u8) {
    let encoder = world.holding(&notes()).unwrap().index.encoder();
    let id = format!("r{}", number / 2).parse().unwrap();
    world.arrive(&notes(), vec![arrival(&encoder, id, number % 8)]);
}

#[test]
fn a_write_finds_no_memory_that_a_keeping_shares_and_it_must_copy_first() {
    let policy = InForce { version: 1, bundle: Arc::clone(bundle()) };
    let mut world = World::new(policy, Directory::new(), Keys::default(), Memory::Fast);
    world.collections.insert(notes(), Holding::new(spec(), Memory::Fast));
    (0..40).for_each(|number| put(&mut world, number));
    let world = RwLock::new(world);
    let named = |_: &CollectionName, _: &RecordId| StoredName::default();
    let written = Keeping { room: &Busy(&world), world: &world, named, grain: GRAIN }.write().unwrap();
    assert_eq!(written.0, Published::Whole);
}

#[test]
fn a_piece_holds_fewer_rows_where_codes_are_long() {
    let rows = |dimension: usize| {
        let holding = Holding::new(Collection { dimension, ..spec() }, Memory::Fast);
        (Moment::of(&holding, Grain::USUAL).rows, holding.index.code_bytes())
    };
    assert_eq!(rows(384), (ROWS, 384 + 16 + 64));
    for dimension in [1_024, 3_072, 8_192] {
        let (rows, bytes) = rows(dimension);
        assert!(rows > 0 && (CODES_BYTES / 2..=CODES_BYTES).contains(&(rows as usize * bytes)), "{rows} of {bytes}");
    }
    assert_eq!(rows(2), (ROWS, 0));
}
