//! What memory holds: nothing of what was erased, nothing that two searches share, nothing new for a question like the last.

use std::{cell::Cell, sync::Barrier};

use super::*;

thread_local! {
    /// Blocks of memory that this thread let go, and how many of them held anything.
    static LET_GO: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// Takes note of memory that is about to be given back.
pub(in super::super) fn let_go<T: rows::Cell>(cells: &[T]) {
    let (blocks, holding) = LET_GO.get();
    let holds = cells.iter().any(|cell| *cell != T::default());
    LET_GO.set((blocks + 1, holding + usize::from(holds)));
}

/// Nothing of a row is left in any column.
pub(super) fn assert_erased(index: &VectorIndex, slot: Slot) {
    assert!(index.columns.exact.row(slot.0).unwrap().iter().all(|x| x.to_bits() == 0));
    let codes = index.columns.codes.as_ref().unwrap();
    assert!(codes.bytes.row(slot.0).unwrap().iter().all(|line| line.0 == [0; 64]));
    assert_eq!(codes.scale(slot.0), codec::Scale::GONE);
    let bits = codes.bits.row(slot.0).unwrap().iter().flat_map(|line| line.0);
    assert!(bits.rev().skip(2).all(|byte| byte == 0), "all but the bias");
}

/// All memory of all columns, as bytes: rows in use and others alike.
fn memory(index: &VectorIndex) -> Vec<Vec<u8>> {
    let floats = |rows: &rows::Rows| {
        let all = (0..rows.len()).filter_map(|slot| rows.chunk(slot)).map(|(_, cells)| cells);
        let mut bytes = Vec::new();
        let mut last = std::ptr::null();
        for cells in all.filter(|cells| std::mem::replace(&mut last, cells.as_ptr()) != cells.as_ptr()) {
            cells.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
        }
        bytes
    };
    let lines = |rows: &rows::Rows<kernel::Line>| {
        let rows = (0..rows.len()).filter_map(|slot| rows.row(slot));
        rows.flatten().flat_map(|line| line.0).collect::<Vec<u8>>()
    };
    let codes = index.columns.codes.as_ref().unwrap();
    vec![floats(&index.columns.exact), floats(&codes.scales), lines(&codes.bytes), lines(&codes.bits)]
}

fn contains(memory: &[u8], part: &[u8]) -> bool {
    memory.windows(part.len()).step_by(4).any(|window| window == part)
}

#[test]
fn an_erased_row_leaves_no_byte_in_any_column() {
    let seed = 0xE4A5;
    let mut dice = Dice(seed);
    for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
        let dimension = 100;
        let mut index = VectorIndex::new(dimension, metric, Isolation::Strict);
        let rows: Vec<Embedding> = (0..50).map(|_| embed(dice.vector(dimension), metric)).collect();
        let slots: Vec<Slot> = rows.iter().map(|row| index.put(row)).collect();
        for erased in [7, 49] {
            let slot = slots[erased];
            let codes = index.columns.codes.as_ref().unwrap();
            let scale = codes.scale(slot.0).floats();
            let of = |lines: &[kernel::Line], count: usize| lines[0].0[..count].to_vec();
            let traces = [
                rows[erased].components()[..2].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(),
                scale.iter().flat_map(|x| x.to_le_bytes()).collect(),
                of(codes.bytes.row(slot.0).unwrap(), 12),
                of(codes.bits.row(slot.0).unwrap(), 12),
            ];
            let traces: Vec<Vec<u8>> = traces.into_iter().map(|t| t[..t.len().min(12)].to_vec()).collect();
            let before = memory(&index);
            for (column, trace) in traces.iter().enumerate() {
                assert!(contains(&before[column], trace), "column {column} is looked at, seed {seed}");
            }
            index.remove(slot);
            assert_erased(&index, slot);
            let after = memory(&index);
            for (column, trace) in traces.iter().enumerate() {
                assert!(!contains(&after[column], trace), "column {column}, {metric:?}, seed {seed}");
            }
            // everyone else is as before
            let others: RoaringBitmap = index.live().clone();
            assert_eq!(others.len(), if erased == 7 { 49 } else { 48 });
            for slot in &others {
                assert_eq!(index.vector(Slot(slot)), Some(rows[slot as usize].components()));
            }
        }
    }
}

#[test]
fn memory_that_held_a_row_is_empty_when_it_is_given_back() {
    let mut dice = Dice(0x60E5);
    for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
        let mut index = VectorIndex::new(100, metric, Isolation::Fast);
        let vector = embed(dice.vector(100), metric);
        let encoder = index.encoder();
        let blocks_of = |work: &mut dyn FnMut()| {
            LET_GO.take();
            work();
            LET_GO.take()
        };
        let mut row = None;
        assert_eq!(blocks_of(&mut || row = Some(encoder.encode(vector.clone()))), (2, 0), "what it was turned in");
        let row = row.unwrap();
        let codes = row.codes().unwrap();
        assert!([&codes.bytes, &codes.bits].into_iter().all(|lines| lines.iter().any(|line| line.0 != [0; 64])));
        index.push(&row);
        assert_eq!(
            blocks_of(&mut || drop(std::mem::replace(&mut index, VectorIndex::new(100, metric, Isolation::Fast)))),
            (7, 0),
            "four columns and what stands for a row that is no more"
        );
        let mut row = Some(row);
        assert_eq!(blocks_of(&mut || row = None), (3, 0), "the row itself");
        // what a snapshot kept of it
        index.push(&encoder.encode(vector.clone()));
        let snapshot = index.columns.exact.clone();
        index.remove(Slot(0));
        assert_eq!(snapshot.row(0), Some(vector.components()));
        let mut snapshot = Some(snapshot);
        assert_eq!(blocks_of(&mut || snapshot = None), (1, 0), "a snapshot of it");
    }
}

#[test]
fn a_question_leaves_nothing_of_itself_where_its_thread_works() {
    let mut dice = Dice(0x9E57);
    let rows = chart(&mut dice, 4_000, 100, Metric::Euclidean);
    let mut index = VectorIndex::new(100, Metric::Euclidean, Isolation::Strict);
    rows.iter().for_each(|row| _ = index.put(row));
    for count in [10, 1_000, 4_000] {
        index.search(&embed(dice.near_one_of(&rows, 0.3), Metric::Euclidean), &(0..count).collect(), 10, &by_slot);
        assert!(!scan::holds_a_question(), "{count} rows");
    }
    assert!(scan::kept().iter().all(|(_, capacity)| *capacity > 0), "all of it was written on");
}

#[test]
fn a_row_that_is_not_there_gets_neither_codes_nor_vector_when_others_are_restored() {
    let mut dice = Dice(0xF111);
    let vectors: Vec<_> = (0..3).map(|_| embed(dice.vector(100), Metric::Cosine)).collect();
    let mut index = VectorIndex::new(100, Metric::Cosine, Isolation::Strict);
    vectors.iter().for_each(|vector| _ = index.put(vector));
    let mut again = VectorIndex::new(100, Metric::Cosine, Isolation::Strict);
    again.restore(&index.block(0..3), &[true, false, true]).unwrap();
    again.fill(&[0, 1, 2], &vectors.iter().flat_map(|vector| vector.components().to_vec()).collect::<Vec<_>>());
    assert_erased(&again, Slot(1));
    assert_eq!(again.live().iter().collect::<Vec<_>>(), [0, 2]);
    for slot in [0, 2] {
        assert_eq!(again.vector(Slot(slot)), Some(vectors[slot as usize].components()));
        assert_eq!(again.block(slot..slot + 1), index.block(slot..slot + 1));
    }
}

#[test]
fn a_copy_of_codes_is_never_moved_as_it_fills() {
    let mut dice = Dice(0xB10C);
    let mut index = VectorIndex::new(100, Metric::Cosine, Isolation::Strict);
    (0..70).for_each(|_| _ = index.put(&embed(dice.vector(100), Metric::Cosine)));
    let Block { bytes, scales, bits } = index.block(3..60);
    assert_eq!(bytes.len() + scales.len() + bits.len(), 57 * index.code_bytes());
    assert!([bytes, scales, bits].iter().all(|part| part.capacity() == part.len() && !part.is_empty()));
}

#[test]
fn a_row_is_coded_while_somebody_else_has_the_index_to_themselves() {
    /// Borrows nothing, and may go to any thread.
    fn is_free<T: Send + Sync + 'static>(_: &T) {}
    // what is taken in is a row with its codes, and nothing of the index makes one
    let push: fn(&mut VectorIndex, &Encoded) -> Slot = VectorIndex::push;
    let encode: fn(&Encoder, Embedding) -> Encoded = Encoder::encode;
    let mut dice = Dice(0xE2C0);
    let vector = embed(dice.vector(384), Metric::Cosine);
    let mut index = VectorIndex::new(384, Metric::Cosine, Isolation::Strict);
    let encoder = index.encoder();
    is_free(&encoder);
    let owner = &mut index;
    let row = {
        let vector = vector.clone();
        std::thread::spawn(move || encode(&encoder, vector)).join().unwrap()
    };
    is_free(&row);
    let slot = push(owner, &row);
    assert_eq!(owner.vector(slot), Some(vector.components()));
}

#[test]
fn a_row_coded_for_another_metric_or_dimension_is_never_found() {
    let mut dice = Dice(0x0F0);
    let vector = embed(dice.vector(96), Metric::Cosine);
    let mut index = VectorIndex::new(96, Metric::Cosine, Isolation::Strict);
    for (dimension, metric) in [(96, Metric::Euclidean), (128, Metric::Cosine)] {
        let other = VectorIndex::new(dimension, metric, Isolation::Strict);
        let row = other.encoder().encode(embed(dice.vector(dimension), metric));
        index.push(&row);
    }
    let good = index.put(&vector);
    let all: RoaringBitmap = (0..=good.0).collect();
    assert_eq!(index.live().iter().collect::<Vec<_>>(), [good.0]);
    assert_eq!(index.search(&vector, &all, 10, &by_slot).hits.len(), 1);
}

#[test]
fn a_question_like_the_last_needs_no_new_memory() {
    let seed = 0xA110C;
    let mut dice = Dice(seed);
    let rows = chart(&mut dice, 4_000, 384, Metric::Cosine);
    let mut index = VectorIndex::new(384, Metric::Cosine, Isolation::Strict);
    rows.iter().for_each(|row| _ = index.put(row));
    for count in [20, 1_000, 4_000] {
        let permitted: RoaringBitmap = (0..count).collect();
        let questions: Vec<_> = (0..50).map(|_| embed(dice.near_one_of(&rows, 0.3), Metric::Cosine)).collect();
        let ask = || questions.iter().for_each(|query| _ = index.search(query, &permitted, 10, &by_slot));
        ask();
        let before = scan::kept();
        ask();
        assert_eq!(scan::kept(), before, "{count} rows, seed {seed}");
    }
}

/// Rows that tie, so that a search asks the caller for their order in its midst.
fn ties(rows: u32) -> (VectorIndex, Embedding, RoaringBitmap) {
    let mut dice = Dice(0x71E);
    let row = embed(dice.vector(96), Metric::Cosine);
    let mut index = VectorIndex::new(96, Metric::Cosine, Isolation::Strict);
    (0..rows).for_each(|_| _ = index.put(&row));
    (index, row, (0..rows).collect())
}

#[test]
fn searches_at_the_same_moment_share_nothing() {
    for rows in [20, 900, 4_000] {
        let (index, query, all) = ties(rows);
        let truth = index.scan(&query, &all, 10, &by_slot).hits;
        let threads = 4;
        let midst = Barrier::new(threads);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    // each waits in its midst until all are in theirs
                    let met = std::sync::Once::new();
                    let tie = |a: Slot, b: Slot| {
                        met.call_once(|| _ = midst.wait());
                        a.cmp(&b)
                    };
                    assert_eq!(index.search(&query, &all, 10, &tie).hits, truth);
                });
            }
        });
    }
}

#[test]
fn a_search_within_a_search_changes_neither() {
    for rows in [20, 900, 4_000] {
        let (index, query, all) = ties(rows);
        let truth = index.scan(&query, &all, 10, &by_slot).hits;
        let within = std::sync::Once::new();
        let tie = |a: Slot, b: Slot| {
            within.call_once(|| assert_eq!(index.search(&query, &all, 10, &by_slot).hits, truth));
            a.cmp(&b)
        };
        assert_eq!(index.search(&query, &all, 10, &tie).hits, truth);
        assert!(within.is_completed());
    }
}
