//! Any mixture of everything, on several threads, held against the oracle.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::RwLock;

use super::{rows::Rows, *};

const DIMENSION: usize = 80;
const VECTORS: usize = 400;
const THREADS: u64 = 4;
/// Rows that are never exceeded: as many as are ranked by their bytes.
const MOST: usize = BYTES_PERMITTED_MAX as usize;

/// How often the long tests go round: all of it where `WARDKEEP_TESTS=full` says so.
fn rounds(few: usize, all: usize) -> usize {
    if std::env::var("WARDKEEP_TESTS").is_ok_and(|v| v == "full") { all } else { few }
}

/// The index, and which of the vectors each slot in use holds.
struct Shelf {
    index: VectorIndex,
    holds: Vec<(Slot, usize)>,
}

impl Shelf {
    fn put(&mut self, vectors: &[Embedding], which: usize) {
        let slot = self.index.put(&vectors[which]);
        assert!(!self.holds.iter().any(|(held, _)| *held == slot), "a slot was given twice");
        self.holds.push((slot, which));
    }

    fn take(&mut self, at: usize) {
        let (slot, _) = self.holds.swap_remove(at);
        self.index.remove(slot);
        held::assert_erased(&self.index, slot);
    }
}

/// What was in memory at one moment: it must still read so whatever is written since.
struct Moment {
    rows: Rows,
    holds: Vec<(Slot, usize)>,
}

impl Moment {
    fn of(shelf: &Shelf) -> Self {
        Self { rows: shelf.index.columns.exact.clone(), holds: shelf.holds.clone() }
    }

    fn assert_unchanged(&self, vectors: &[Embedding]) {
        for (slot, which) in &self.holds {
            assert_eq!(self.rows.row(slot.0), Some(vectors[*which].components()));
        }
    }
}

#[test]
fn any_mixture_of_writes_erasures_snapshots_and_searches_agrees_with_the_oracle() {
    let seed = 0x41C;
    let each = rounds(1_500, 25_000);
    let vectors = chart(&mut Dice(seed), VECTORS, DIMENSION, Metric::Cosine);
    let index = VectorIndex::new(DIMENSION, Metric::Cosine, Isolation::Strict);
    let shelf = RwLock::new(Shelf { index, holds: Vec::new() });
    let (reading, together) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (shelf, vectors, reading, together) = (&shelf, &vectors, &reading, &together);
            scope.spawn(move || {
                let mut dice = Dice(seed + thread);
                let mut moment: Option<Moment> = None;
                for operation in 0..each {
                    match dice.below(20) {
                        0..7 => {
                            let mut shelf = shelf.write();
                            if shelf.holds.len() < MOST {
                                shelf.put(vectors, dice.below(VECTORS));
                            }
                        }
                        7..11 => {
                            let mut shelf = shelf.write();
                            let count = shelf.holds.len();
                            if count > 0 {
                                shelf.take(dice.below(count));
                            }
                        }
                        11..13 => {
                            // an overwrite is an erasure and a write under one lock
                            let mut shelf = shelf.write();
                            if let Some(last) = shelf.holds.len().checked_sub(1) {
                                shelf.take(last);
                                shelf.put(vectors, dice.below(VECTORS));
                            }
                        }
                        13 => {
                            if let Some(before) = moment.replace(Moment::of(&shelf.read())) {
                                before.assert_unchanged(vectors);
                            }
                        }
                        _ => {
                            let shelf = shelf.read();
                            let others = reading.fetch_add(1, Relaxed);
                            together.fetch_max(others + 1, Relaxed);
                            let share = dice.below(100);
                            let query = embed(dice.near_one_of(vectors, 0.3), Metric::Cosine);
                            let permitted = shelf.holds.iter().filter(|_| dice.below(100) < share);
                            let permitted: RoaringBitmap = permitted.map(|(slot, _)| slot.0).collect();
                            agree(&shelf.index, &query, &permitted, &format!("operation {operation}, seed {seed}"));
                            reading.fetch_sub(1, Relaxed);
                        }
                    }
                }
            });
        }
    });
    println!("{} operations, {} searches at the same time at most", each * 4, together.into_inner());
}

/// Every way of searching gives what the oracle gives, by what the oracle may look at.
fn agree(index: &VectorIndex, query: &Embedding, permitted: &RoaringBitmap, when: &str) {
    let Some(sought) = index.sought(query, permitted, 7) else { return };
    let truth = index.scan(query, permitted, 7, &by_slot).hits;
    for effort in FULL {
        let (hits, _) = index.scanning(&sought, &by_slot).run(permitted, effort);
        assert_eq!(hits, truth, "{effort:?}, {when}");
    }
    // never so many that bits choose, and bytes are certain
    let usual = index.search(query, permitted, 7, &by_slot);
    assert_eq!((usual.hits, usual.scored), (truth, permitted.len()), "{when}");
}
