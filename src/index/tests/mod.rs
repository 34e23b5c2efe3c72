//! The index against a plain reference: what is found, what is looked at, what is left when a row goes.

mod codes;
mod held;
mod hostile;
mod mixture;
mod walks;

use std::cell::RefCell;

pub(super) use held::let_go;

use proptest::prelude::*;

use super::planner::*;
use super::*;

/// Every pass that a scan can begin with, leaving nothing out.
const FULL: [Effort; 3] = [Effort::Full(Pass::Exact), Effort::Full(Pass::Bytes), Effort::Full(Pass::Bits)];

impl VectorIndex {
    /// Codes a row and takes it in.
    fn put(&mut self, row: &Embedding) -> Slot {
        self.push(&self.encoder().encode(row.clone()))
    }
}

fn by_slot(a: Slot, b: Slot) -> Ordering {
    a.cmp(&b)
}

/// A generator of its own, so that a seed in a message is enough to see a failure again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.roll() >> 33) as usize % n
    }

    /// From -1 to 1.
    fn float(&mut self) -> f32 {
        (self.roll() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn vector(&mut self, dimension: usize) -> Vec<f32> {
        (0..dimension).map(|_| self.float()).collect()
    }

    fn near(&mut self, centre: &[f32], spread: f32) -> Vec<f32> {
        centre.iter().map(|x| x + self.float() * spread).collect()
    }

    fn near_one_of(&mut self, rows: &[Embedding], spread: f32) -> Vec<f32> {
        let row = &rows[self.below(rows.len())];
        self.near(row.components(), spread)
    }
}

fn embed(vector: Vec<f32>, metric: Metric) -> Embedding {
    let dimension = vector.len();
    Embedding::new(vector, dimension, metric).unwrap()
}

fn reference(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let pairs = a.iter().zip(b).map(|(x, y)| (f64::from(*x), f64::from(*y)));
    match metric {
        Metric::Cosine | Metric::Dot => pairs.map(|(x, y)| x * y).sum(),
        Metric::Euclidean => -pairs.map(|(x, y)| (x - y).powi(2)).sum::<f64>(),
    }
}

/// What rounding may move a score by.
fn slack(a: &[f32], b: &[f32]) -> f64 {
    let size = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    1e-5 * (size(a) + size(b)) + 1e-12
}

#[test]
fn the_nearest_permitted_live_rows_are_found_in_order() {
    let mut index = VectorIndex::new(2, Metric::Euclidean, Isolation::Strict);
    let at = |x: f32| Embedding::new(vec![x, 0.0], 2, Metric::Euclidean).unwrap();
    let slots: Vec<Slot> = (0..10).map(|i| index.put(&at(i as f32))).collect();
    assert_eq!(slots, (0..10).map(Slot).collect::<Vec<_>>());
    index.remove(Slot(4));
    let permitted: RoaringBitmap = [1, 3, 4, 5, 9, 77].into_iter().collect();
    let found = index.search(&at(4.0), &permitted, 3, &|a, b| b.cmp(&a));
    let hits: Vec<_> = found.hits.iter().map(|h| (h.slot.0, h.score)).collect();
    assert_eq!(hits, [(5, -1.0), (3, -1.0), (1, -9.0)]);
    assert_eq!((found.path, found.scored), (Path::Scan(Why::Strict), 4));
    assert_eq!(index.vector(Slot(4)), None);
    assert_eq!(index.search(&at(4.0), &RoaringBitmap::new(), 3, &by_slot).path, Path::Empty);
}

#[test]
fn rewriting_rows_takes_no_more_memory_where_there_is_no_graph() {
    let mut index = VectorIndex::new(3, Metric::Cosine, Isolation::Strict);
    let slots: Vec<Slot> = (0..1_000).map(|i| index.put(&embed(vec![1.0, i as f32, 3.0], Metric::Cosine))).collect();
    let bytes = index.memory_bytes();
    for round in 0..50 {
        for slot in &slots {
            index.remove(*slot);
            assert_eq!(index.put(&embed(vec![round as f32, 1.0, 3.0], Metric::Cosine)), *slot);
        }
    }
    assert_eq!((index.memory_bytes(), index.live().len()), (bytes, 1_000));
}

#[test]
fn a_removed_row_is_wiped_and_a_graph_never_sees_its_slot_used_again() {
    let mut index = VectorIndex::new(3, Metric::Cosine, Isolation::Fast);
    let row = embed(vec![1.0, 2.0, 3.0], Metric::Cosine);
    let slots: Vec<Slot> = (0..GRAPH_ROWS_MIN).map(|_| index.put(&row)).collect();
    let next = |index: &mut VectorIndex| {
        index.remove(slots[0]);
        index.remove(slots[0]);
        index.remove(Slot(99_999));
        assert_eq!(index.columns.exact.row(0).unwrap(), [0.0; 3]);
        index.put(&row)
    };
    // no graph was ever begun
    assert_eq!(next(&mut index), slots[0]);
    // one is being built, or lies there still to be installed
    let job = index.graph_job().unwrap();
    assert_eq!(next(&mut index), Slot(GRAPH_ROWS_MIN as u32));
    let graph = job.build();
    index.remove(slots[1]);
    assert_eq!(index.put(&row), Slot(GRAPH_ROWS_MIN as u32 + 1));
    // it was given up
    drop(graph);
    assert!([slots[0], slots[1]].contains(&index.put(&row)));
    // it is there: what it does not name is used again
    index.install(index.graph_job().unwrap().build());
    index.remove(slots[2]);
    assert!([slots[0], slots[1]].contains(&index.put(&row)));
    assert_eq!(index.put(&row), Slot(GRAPH_ROWS_MIN as u32 + 2));
    assert_eq!(index.search(&row, index.live(), 10, &by_slot).hits, index.scan(&row, index.live(), 10, &by_slot).hits);
}

#[test]
fn a_vector_of_another_length_is_never_found() {
    let mut index = VectorIndex::new(3, Metric::Dot, Isolation::Strict);
    let stray = index.put(&embed(vec![1.0, 1.0], Metric::Dot));
    let good = index.put(&embed(vec![1.0, 1.0, 1.0], Metric::Dot));
    let all: RoaringBitmap = (0..2).collect();
    let found = index.search(&embed(vec![1.0; 3], Metric::Dot), &all, 9, &by_slot);
    assert_eq!(found.hits, [Hit { slot: good, score: 3.0 }]);
    assert_eq!(index.vector(stray), None);
    assert_eq!(index.search(&embed(vec![1.0; 4], Metric::Dot), &all, 9, &by_slot).path, Path::Empty);
}

/// Rows of many dimensions in clusters, near copies and exact copies among them, so that scans of codes have doubts.
fn chart(dice: &mut Dice, rows: usize, dimension: usize, metric: Metric) -> Vec<Embedding> {
    let centres: Vec<Vec<f32>> = (0..20).map(|_| dice.vector(dimension)).collect();
    let mut charts: Vec<Embedding> = Vec::new();
    for _ in 0..rows {
        let row = match (dice.below(10), charts.last()) {
            (0, Some(last)) => last.clone(),
            (1..4, Some(last)) => embed(dice.near(last.components(), 0.01), metric),
            _ => {
                let centre = &centres[dice.below(20)];
                embed(dice.near(centre, 0.5), metric)
            }
        };
        charts.push(row);
    }
    charts
}

#[test]
fn forbidden_rows_are_never_read() {
    let seed = 0xDECAF;
    let mut dice = Dice(seed);
    for (metric, dimension) in [
        (Metric::Cosine, 24),
        (Metric::Dot, 24),
        (Metric::Euclidean, 24),
        (Metric::Cosine, 64),
        (Metric::Dot, 100),
        (Metric::Euclidean, 600),
    ] {
        let mut index = VectorIndex::new(dimension, metric, Isolation::Strict);
        let rows = chart(&mut dice, 8_000, dimension, metric);
        rows.iter().for_each(|row| _ = index.put(row));
        // vectors, bytes and bits, each as a first pass
        for count in [10, 1_000, 4_000] {
            let permitted: RoaringBitmap = (0..8_000).filter(|_| dice.below(8_000) < count).collect();
            let questions: Vec<_> = (0..20).map(|_| rows[dice.below(8_000)].clone()).collect();
            let ask = |index: &VectorIndex| -> Vec<Found> {
                questions.iter().map(|q| index.search(q, &permitted, 10, &by_slot)).collect()
            };
            let before = ask(&index);
            for (poison, slot) in [f32::NAN, f32::INFINITY, 1e30].into_iter().cycle().zip(0..8_000) {
                if !permitted.contains(slot) {
                    index.columns.poison(slot, poison);
                }
            }
            assert_eq!(ask(&index), before, "{metric:?} {dimension}, seed {seed}");
            assert!(before.iter().all(|found| (found.scored, found.work.first) == (permitted.len(), permitted.len())));
            for slot in 0..8_000 {
                let row = index.encoder().encode(rows[slot as usize].clone());
                index.columns.replace(slot, &row);
            }
        }
    }
}

#[test]
fn rows_are_counted_where_they_are_handed_to_a_kernel() {
    let seed = 0xC0DE;
    let mut dice = Dice(seed);
    let mut index = VectorIndex::new(64, Metric::Dot, Isolation::Strict);
    let rows = chart(&mut dice, 4_000, 64, Metric::Dot);
    rows.iter().for_each(|row| _ = index.put(row));
    // vectors, bytes and bits, each as a first pass; slots without a row are not handed to any
    for count in [10, 1_000, 4_000] {
        let permitted: RoaringBitmap = (0..count).chain(4_010..4_500).collect();
        let query = rows[7].components();
        let sought = Sought { query, permitted: Cow::Borrowed(&permitted), k: 10, source: None };
        for effort in FULL.into_iter().chain([Effort::Usual]) {
            let (_, work) = index.scanning(&sought, &by_slot).run(&permitted, effort);
            assert_eq!(work.first, u64::from(count), "{effort:?}, seed {seed}");
        }
    }
}

#[test]
fn what_is_hidden_changes_neither_answers_nor_work() {
    let seed = 0x2_0051D;
    let (mut dice, mut probes) = (Dice(seed), 0);
    for (metric, dimension) in
        [(Metric::Cosine, 384), (Metric::Dot, 64), (Metric::Euclidean, 100), (Metric::Cosine, 12)]
    {
        // two worlds with the same permitted records; in the other, hidden ones lie between them, near to the questions
        let seen = chart(&mut dice, 4_000, dimension, metric);
        let (mut one, mut other) = [(); 2].map(|()| VectorIndex::new(dimension, metric, Isolation::Strict)).into();
        let (mut in_one, mut in_other) = (Vec::new(), Vec::new());
        for row in &seen {
            for _ in 0..dice.below(3) {
                other.put(&embed(dice.near(row.components(), 0.05), metric));
            }
            in_one.push(one.put(row));
            in_other.push(other.put(row));
        }
        for (count, asked) in [(40, 80), (1_200, 85), (4_000, 85)] {
            let set = |slots: &[Slot]| slots.iter().take(count).map(|slot| slot.0).collect::<RoaringBitmap>();
            let (permitted_one, permitted_other) = (set(&in_one), set(&in_other));
            for _ in 0..asked {
                let query = embed(dice.near_one_of(&seen, 0.3), metric);
                let a = one.search(&query, &permitted_one, 10, &by_slot);
                let b = other.search(&query, &permitted_other, 10, &by_slot);
                let named = |found: &Found, slots: &[Slot]| -> Vec<(usize, u32)> {
                    let name = |slot: Slot| slots.binary_search(&slot).unwrap();
                    found.hits.iter().map(|hit| (name(hit.slot), hit.score.to_bits())).collect()
                };
                assert_eq!(named(&a, &in_one), named(&b, &in_other), "{metric:?} {dimension} {count}, seed {seed}");
                assert_eq!(
                    (a.path, a.scored, a.work),
                    (b.path, b.scored, b.work),
                    "{metric:?} {dimension} {count}, seed {seed}"
                );
                probes += 1;
            }
        }
    }
    assert_eq!(probes, 1_000);
}

#[test]
fn the_order_of_slots_changes_neither_answers_nor_work() {
    let seed = 0x0DDE;
    let mut dice = Dice(seed);
    for (metric, dimension) in [(Metric::Cosine, 384), (Metric::Euclidean, 64)] {
        let rows = chart(&mut dice, 4_000, dimension, metric);
        let (mut there, mut back) = [(); 2].map(|()| VectorIndex::new(dimension, metric, Isolation::Strict)).into();
        rows.iter().for_each(|row| _ = there.put(row));
        rows.iter().rev().for_each(|row| _ = back.put(row));
        let mirrored = |slot: Slot| Slot(3_999 - slot.0);
        for count in [1_000, 4_000] {
            let permitted: RoaringBitmap = (0..count).collect();
            let permitted_back: RoaringBitmap = (4_000 - count..4_000).collect();
            for _ in 0..100 {
                let query = embed(dice.near_one_of(&rows, 0.3), metric);
                let a = there.search(&query, &permitted, 10, &by_slot);
                let mut b = back.search(&query, &permitted_back, 10, &|a, b| mirrored(a).cmp(&mirrored(b)));
                b.hits.iter_mut().for_each(|hit| hit.slot = mirrored(hit.slot));
                assert_eq!(a, b, "{metric:?} {dimension}, seed {seed}");
            }
        }
    }
}

#[test]
fn equal_scores_are_ordered_by_the_caller_at_the_last_place_too() {
    let mut index = VectorIndex::new(4, Metric::Cosine, Isolation::Strict);
    for i in 0..1_000 {
        let x = if i % 100 == 7 { 1.0 } else { -1.0 };
        index.put(&embed(vec![x, 0.0, 0.0, 0.0], Metric::Cosine));
    }
    let all: RoaringBitmap = (0..1_000).collect();
    let query = embed(vec![1.0, 0.0, 0.0, 0.0], Metric::Cosine);
    let found = index.search(&query, &all, 13, &|a, b| b.cmp(&a));
    let slots: Vec<u32> = found.hits.iter().map(|h| h.slot.0).collect();
    assert_eq!(slots, [907, 807, 707, 607, 507, 407, 307, 207, 107, 7, 999, 998, 997]);
    let found = index.search(&query, &all, 5_000, &by_slot);
    assert_eq!(found.hits.len(), 1_000);
}

#[test]
fn zeros_of_either_sign_are_equal_scores() {
    let mut index = VectorIndex::new(2, Metric::Dot, Isolation::Strict);
    for x in [0.0, -0.0, 0.0, -0.0] {
        index.put(&embed(vec![x, x], Metric::Dot));
    }
    let found = index.search(&embed(vec![1.0, 1.0], Metric::Dot), &(0..4).collect(), 4, &|a, b| b.cmp(&a));
    assert_eq!(found.hits.iter().map(|h| h.slot.0).collect::<Vec<_>>(), [3, 2, 1, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_scan_agrees_with_a_naive_reference(
        seed in 1_u64..,
        dimension in prop_oneof![2_usize..40, Just(384), Just(769), Just(8191), Just(8192)],
        metric in prop_oneof![Just(Metric::Cosine), Just(Metric::Dot), Just(Metric::Euclidean)],
        rows in 1_usize..300,
        k in 1_usize..40,
        share in 1_usize..100,
        scale in prop_oneof![Just(1.0_f32), Just(1e6), Just(1e-6)],
    ) {
        let rows = if dimension > 4_000 { rows.min(20) } else { rows };
        let mut dice = Dice(seed);
        let mut index = VectorIndex::new(dimension, metric, Isolation::Strict);
        let mut kept: Vec<Option<Embedding>> = Vec::new();
        for i in 0..rows {
            let copy = if i > 0 && dice.below(4) == 0 { kept[dice.below(i)].clone() } else { None };
            let fresh = dice.vector(dimension).into_iter().map(|x| x * scale).collect();
            let row = copy.unwrap_or_else(|| embed(fresh, metric));
            let slot = index.put(&row);
            prop_assert_eq!(index.vector(slot), Some(row.components()));
            kept.push(Some(row));
        }
        for _ in 0..rows / 8 {
            let gone = dice.below(rows);
            index.remove(Slot(gone as u32));
            kept[gone] = None;
        }
        let permitted: RoaringBitmap = (0..rows as u32 + 5).filter(|_| dice.below(100) < share).collect();
        let query = embed(dice.vector(dimension).into_iter().map(|x| x * scale).collect(), metric);
        // any fixed order will do for ties
        let rank = |s: Slot| (s.0.wrapping_mul(0x9E37_79B9), s.0);
        let found = index.search(&query, &permitted, k, &|a, b| rank(a).cmp(&rank(b)));

        let mut truth: Vec<(u32, f64)> = Vec::new();
        for slot in &permitted {
            if let Some(Some(row)) = kept.get(slot as usize) {
                truth.push((slot, reference(metric, query.components(), row.components())));
            }
        }
        prop_assert_eq!(found.scored, truth.len() as u64);
        prop_assert_eq!(found.hits.len(), k.min(truth.len()));
        let exact = |slot: Slot| truth.iter().find(|t| t.0 == slot.0).map(|t| t.1);
        let largest = kept.iter().flatten().map(|r| slack(query.components(), r.components())).fold(0.0, f64::max);
        for hit in &found.hits {
            let score = exact(hit.slot);
            prop_assert!(score.is_some(), "a slot that was not permitted");
            prop_assert!((score.unwrap() - f64::from(hit.score)).abs() <= largest);
        }
        for pair in found.hits.windows(2) {
            prop_assert!(pair[0].score > pair[1].score
                || (pair[0].score == pair[1].score && rank(pair[0].slot) < rank(pair[1].slot)));
        }
        let mut best: Vec<f64> = truth.iter().map(|t| t.1).collect();
        best.sort_by(|a, b| b.total_cmp(a));
        for (hit, best) in found.hits.iter().zip(best) {
            prop_assert!((f64::from(hit.score) - best).abs() <= largest);
        }
        // no permitted row outside the answer beats one inside, and equal ones stand behind in the caller's order
        if let Some(last) = found.hits.last() {
            let inside: Vec<Slot> = found.hits.iter().map(|h| h.slot).collect();
            for (slot, _) in truth.iter().filter(|t| !inside.contains(&Slot(t.0))) {
                let score = index.kernel.score(query.components(), index.vector(Slot(*slot)).unwrap());
                prop_assert!(score < last.score || (score == last.score && rank(Slot(*slot)) > rank(last.slot)));
            }
        }
    }
}
