mod held;
mod hostile;
mod mixture;

use std::cell::RefCell;

use proptest::prelude::*;

use super::planner::*;
use super::*;

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
    let slots: Vec<Slot> = (0..10).map(|i| index.push(&at(i as f32))).collect();
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
    let slots: Vec<Slot> = (0..1_000).map(|i| index.push(&embed(vec![1.0, i as f32, 3.0], Metric::Cosine))).collect();
    let bytes = index.memory_bytes();
    for round in 0..50 {
        for slot in &slots {
            index.remove(*slot);
            assert_eq!(index.push(&embed(vec![round as f32, 1.0, 3.0], Metric::Cosine)), *slot);
        }
    }
    assert_eq!((index.memory_bytes(), index.live().len()), (bytes, 1_000));
}

#[test]
fn a_removed_row_is_wiped_and_a_graph_never_sees_its_slot_used_again() {
    let mut index = VectorIndex::new(3, Metric::Cosine, Isolation::Fast);
    let row = embed(vec![1.0, 2.0, 3.0], Metric::Cosine);
    let slots: Vec<Slot> = (0..GRAPH_ROWS_MIN).map(|_| index.push(&row)).collect();
    let next = |index: &mut VectorIndex| {
        index.remove(slots[0]);
        index.remove(slots[0]);
        index.remove(Slot(99_999));
        assert_eq!(index.columns.exact.row(0).unwrap(), [0.0; 3]);
        index.push(&row)
    };
    // no graph was ever begun
    assert_eq!(next(&mut index), slots[0]);
    // one is being built, or lies there still to be installed
    let job = index.graph_job().unwrap();
    assert_eq!(next(&mut index), Slot(GRAPH_ROWS_MIN as u32));
    let graph = job.build();
    index.remove(slots[1]);
    assert_eq!(index.push(&row), Slot(GRAPH_ROWS_MIN as u32 + 1));
    // it was given up
    drop(graph);
    assert!([slots[0], slots[1]].contains(&index.push(&row)));
    // it is there
    index.install(index.graph_job().unwrap().build());
    index.remove(slots[2]);
    assert_eq!(index.push(&row), Slot(GRAPH_ROWS_MIN as u32 + 2));
    assert_eq!(index.search(&row, index.live(), 10, &by_slot).hits, index.scan(&row, index.live(), 10, &by_slot).hits);
}

#[test]
fn a_vector_of_another_length_is_never_found() {
    let mut index = VectorIndex::new(3, Metric::Dot, Isolation::Strict);
    let stray = index.push(&embed(vec![1.0, 1.0], Metric::Dot));
    let good = index.push(&embed(vec![1.0, 1.0, 1.0], Metric::Dot));
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
        rows.iter().for_each(|row| _ = index.push(row));
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
            assert!(before.iter().all(|found| found.scored == permitted.len()));
            for slot in 0..8_000 {
                index.columns.replace(slot, rows[slot as usize].components());
            }
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
                other.push(&embed(dice.near(row.components(), 0.05), metric));
            }
            in_one.push(one.push(row));
            in_other.push(other.push(row));
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
        rows.iter().for_each(|row| _ = there.push(row));
        rows.iter().rev().for_each(|row| _ = back.push(row));
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
        index.push(&embed(vec![x, 0.0, 0.0, 0.0], Metric::Cosine));
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
        index.push(&embed(vec![x, x], Metric::Dot));
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
            let slot = index.push(&row);
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

/// Rows in clusters, a third of them copies or near copies as in charts; 24 dims keep the build short.
fn ward(rows: usize, metric: Metric, isolation: Isolation, seed: u64) -> (VectorIndex, Vec<Vec<f32>>, Dice) {
    let mut dice = Dice(seed);
    let dimension = 24;
    let centres: Vec<Vec<f32>> = (0..200).map(|_| dice.vector(dimension)).collect();
    let mut index = VectorIndex::new(dimension, metric, isolation);
    let mut last = centres[0].clone();
    for i in 0..rows {
        let vector = match dice.below(12) {
            0 => last.clone(),
            1..4 => dice.near(&last, 0.01),
            _ => dice.near(&centres[i * 200 / rows], 0.4),
        };
        last.clone_from(&vector);
        index.push(&embed(vector, metric));
    }
    (index, centres, dice)
}

/// Mean recall of 10 by score, over questions near the data; also that nothing but the permitted came back, in order.
fn recall(index: &VectorIndex, centres: &[Vec<f32>], permitted: &RoaringBitmap, dice: &mut Dice, path: Path) -> f64 {
    let questions = 100;
    let (mut hits, mut scored, mut fell_back) = (0, 0, 0);
    for _ in 0..questions {
        let centre = &centres[dice.below(centres.len())];
        let query = embed(dice.near(centre, 0.4), index.metric);
        let found = index.search(&query, permitted, 10, &by_slot);
        let truth = index.scan(&query, permitted, 10, &by_slot);
        fell_back += u32::from(matches!(found.path, Path::GraphThenScan(_)));
        assert!(found.path == path || (path == Path::Graph && fell_back <= 5), "{:?} for {path:?}", found.path);
        scored += found.scored;
        assert_eq!(found.hits.len(), truth.hits.len());
        assert!(found.hits.iter().all(|h| permitted.contains(h.slot.0) && index.live().contains(h.slot.0)));
        assert!(found.hits.is_sorted_by(|a, b| a.score > b.score || (a.score == b.score && a.slot < b.slot)));
        let last = truth.hits.last().unwrap().score;
        hits += found.hits.iter().filter(|h| h.score >= last).count();
    }
    let recall = hits as f64 / (questions * 10) as f64;
    println!(
        "{path:?}: {} permitted, recall {recall}, {} scored, {fell_back} fell back",
        permitted.len(),
        scored / 100
    );
    recall
}

#[test]
fn every_branch_of_the_planner_answers_from_permitted_rows_with_recall_above_99_percent() {
    let seed = 0x5EED;
    println!("seed {seed}");
    let (mut index, centres, mut dice) = ward(20_000, Metric::Cosine, Isolation::Fast, seed);
    let all: RoaringBitmap = (0..20_000).collect();
    let patients = |dice: &mut Dice, percent: usize| -> RoaringBitmap {
        (0..1_000).filter(|_| dice.below(100) < percent).flat_map(|p| p * 20..(p + 1) * 20).collect()
    };

    assert_eq!(recall(&index, &centres, &all, &mut dice, Path::Scan(Why::NoGraph)), 1.0);
    let job = index.graph_job().unwrap();
    assert_eq!(job.rows(), 20_000);
    // what happens while the graph is built: rows come and go
    for slot in (0..20_000).step_by(37) {
        index.remove(Slot(slot));
    }
    index.push(&embed(centres[3].clone(), Metric::Cosine));
    index.install(job.build());
    assert!(index.graph_job().is_none());
    let tail = index.search(&embed(centres[3].clone(), Metric::Cosine), &(0..20_001).collect(), 1, &by_slot);
    assert_eq!((tail.path, tail.hits[0].slot), (Path::Graph, Slot(20_000)));

    for percent in [100, 90, 70, 50] {
        let permitted = patients(&mut dice, percent);
        let recall = recall(&index, &centres, &permitted, &mut dice, Path::Graph);
        assert!(recall >= 0.99, "{percent} % permitted: recall {recall}, seed {seed}");
    }
    let some = patients(&mut dice, 30);
    assert_eq!(recall(&index, &centres, &some, &mut dice, Path::Scan(Why::SmallShare)), 1.0);
    let few = patients(&mut dice, 5);
    assert_eq!(recall(&index, &centres, &few, &mut dice, Path::Scan(Why::FewPermitted)), 1.0);

    // a permitted set far from the question: the walk gives up in time and the scan answers
    let query = embed(centres[0].clone(), Metric::Cosine);
    let mut far: Vec<Hit> = index.scan(&query, &all, 20_000, &by_slot).hits;
    let far: RoaringBitmap = far.split_off(far.len() - 12_000).iter().map(|h| h.slot.0).collect();
    let found = index.search(&query, &far, 10, &by_slot);
    assert_eq!(found.path, Path::GraphThenScan(Shortfall::Budget));
    assert_eq!(found.hits, index.scan(&query, &far, 10, &by_slot).hits);
    assert!(found.scored <= far.len() * 2);

    let many = index.search(&query, &all, WALK_WANTED_MAX + 1, &by_slot);
    assert_eq!(many.path, Path::Scan(Why::ManyWanted));

    // worn: what is left is still found, by way of what was removed, until the planner prefers the scan
    for slot in (0..20_000).filter(|s| s % 5 == 0) {
        index.remove(Slot(slot));
    }
    assert!(index.graph_job().is_some());
    let left = recall(&index, &centres, &all, &mut dice, Path::Graph);
    assert!(left >= 0.99, "recall {left} with a fifth removed, seed {seed}");
    for slot in (0..20_000).filter(|s| s % 5 == 1) {
        index.remove(Slot(slot));
    }
    assert_eq!(recall(&index, &centres, &all, &mut dice, Path::Scan(Why::Worn)), 1.0);
}

#[test]
fn a_euclidean_graph_keeps_recall_and_rows_that_come_later() {
    let seed = 0xBEEF;
    let (mut index, centres, mut dice) = ward(10_000, Metric::Euclidean, Isolation::Fast, seed);
    let job = index.graph_job().unwrap();
    index.install(job.build());
    for i in 0..500 {
        let vector = dice.near(&centres[i % 200], 0.3);
        index.push(&embed(vector, Metric::Euclidean));
    }
    let permitted: RoaringBitmap = (0..10_500).filter(|_| dice.below(10) < 9).collect();
    let recall = recall(&index, &centres, &permitted, &mut dice, Path::Graph);
    assert!(recall >= 0.99, "recall {recall}, seed {seed}");
}

#[test]
fn nothing_but_copies_still_makes_a_graph() {
    let mut index = VectorIndex::new(3, Metric::Cosine, Isolation::Fast);
    let kinds = [vec![1.0, 0.0, 0.0], vec![0.0, 1.0, 0.0], vec![-1.0, 0.0, 0.0]];
    for i in 0..12_000 {
        index.push(&embed(kinds[i % 3].clone(), Metric::Cosine));
    }
    let job = index.graph_job().unwrap();
    index.install(job.build());
    let all: RoaringBitmap = (0..12_000).collect();
    let query = embed(vec![1.0, 0.1, 0.0], Metric::Cosine);
    for k in [1, 10, 100] {
        let found = index.search(&query, &all, k, &|a, b| b.cmp(&a));
        assert_eq!(found.path, Path::Graph);
        assert_eq!(found.hits, index.scan(&query, &all, k, &|a, b| b.cmp(&a)).hits);
    }
    for slot in (0..12_000).step_by(3) {
        index.remove(Slot(slot));
    }
    let found = index.search(&query, &all, 10, &by_slot);
    assert_eq!(found.hits, index.scan(&query, &all, 10, &by_slot).hits);
    assert!(found.hits.iter().all(|h| h.slot.0 % 3 == 1));
}

#[test]
fn collections_that_must_not_have_a_graph_are_offered_none() {
    let fill = |metric, isolation, rows: usize| {
        let mut index = VectorIndex::new(2, metric, isolation);
        for i in 0..rows {
            index.push(&embed(vec![1.0, i as f32], metric));
        }
        index
    };
    let enough = GRAPH_ROWS_MIN as usize;
    assert!(fill(Metric::Cosine, Isolation::Strict, enough).graph_job().is_none());
    assert!(fill(Metric::Dot, Isolation::Fast, enough).graph_job().is_none());
    assert!(fill(Metric::Cosine, Isolation::Fast, enough - 1).graph_job().is_none());
    assert!(fill(Metric::Cosine, Isolation::Fast, enough).graph_job().is_some());
}

#[test]
fn a_build_that_is_stopped_or_belongs_elsewhere_changes_nothing() {
    let (mut index, ..) = ward(10_000, Metric::Cosine, Isolation::Fast, 7);
    let left = RefCell::new(100);
    let go_on = || {
        *left.borrow_mut() -= 1;
        *left.borrow() > 0
    };
    assert!(index.graph_job().unwrap().build_while(&go_on).is_none());

    let mut other = VectorIndex::new(2, Metric::Cosine, Isolation::Fast);
    for i in 0..GRAPH_ROWS_MIN {
        other.push(&embed(vec![1.0, (i % 50) as f32], Metric::Cosine));
    }
    index.install(other.graph_job().unwrap().build());
    assert!(index.graph.is_none());
    assert!(index.graph_job().is_some());
}

#[test]
fn where_walks_keep_failing_the_planner_turns_to_the_scan() {
    let seed = 11;
    let mut dice = Dice(seed);
    let noise = |dice: &mut Dice| embed(dice.near(&[0.0; 64], 1.0), Metric::Cosine);
    let mut index = VectorIndex::new(64, Metric::Cosine, Isolation::Fast);
    for _ in 0..GRAPH_ROWS_MIN {
        index.push(&noise(&mut dice));
    }
    index.install(index.graph_job().unwrap().build());
    let all: RoaringBitmap = (0..GRAPH_ROWS_MIN as u32).collect();
    let mut failed = 0;
    for _ in 0..50 {
        let query = noise(&mut dice);
        let found = index.search(&query, &all, 10, &by_slot);
        failed += u32::from(matches!(found.path, Path::GraphThenScan(_)));
    }
    assert!(failed <= 10, "{failed} of 50 walks were in vain, seed {seed}");
}

/// Every pass that a scan can begin with, leaving nothing out.
const FULL: [Effort; 3] = [Effort::Full(Pass::Exact), Effort::Full(Pass::Bytes), Effort::Full(Pass::Bits)];

#[test]
fn every_pass_at_full_effort_agrees_with_the_oracle_bit_by_bit() {
    let seed = 0xF0CC;
    let mut dice = Dice(seed);
    for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
        for dimension in [64, 100, 384, 769] {
            let mut index = VectorIndex::new(dimension, metric, Isolation::Strict);
            let mut last = dice.vector(dimension);
            for _ in 0..700 {
                last = if dice.below(3) == 0 { last } else { dice.vector(dimension) };
                index.push(&embed(last.clone(), metric));
            }
            let permitted: RoaringBitmap = (0..700).filter(|_| dice.below(3) > 0).collect();
            let query = embed(dice.vector(dimension), metric);
            let truth = index.scan(&query, &permitted, 10, &|a, b| b.cmp(&a)).hits;
            for effort in FULL {
                let sought = index.sought(&query, &permitted, 10).unwrap();
                let (hits, work) = index.scanning(&sought, &|a, b| b.cmp(&a)).run(&permitted, effort);
                assert_eq!(hits, truth, "{effort:?} {metric:?} {dimension}, seed {seed}");
                assert_eq!(work.exact, permitted.len(), "{effort:?}");
            }
        }
    }
}

#[test]
fn every_level_of_processor_gives_the_same_answers_by_the_same_work() {
    let seed = 0x1E7E1;
    let mut dice = Dice(seed);
    for (metric, dimension) in [(Metric::Cosine, 384), (Metric::Euclidean, 100), (Metric::Dot, 1_100)] {
        let rows = chart(&mut dice, 3_000, dimension, metric);
        let levels = [Level::Portable, Level::Avx2, Level::Avx512];
        let mut indexes: Vec<VectorIndex> = levels
            .into_iter()
            .filter_map(|level| VectorIndex::at_level(level, dimension, metric, Isolation::Strict))
            .collect();
        indexes.iter_mut().for_each(|index| rows.iter().for_each(|row| _ = index.push(row)));
        for count in [500, 3_000] {
            let permitted: RoaringBitmap = (0..count).collect();
            for _ in 0..20 {
                let query = embed(dice.near_one_of(&rows, 0.3), metric);
                let found: Vec<Found> = indexes.iter().map(|i| i.search(&query, &permitted, 10, &by_slot)).collect();
                assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{metric:?} {dimension}, seed {seed}");
            }
        }
    }
}

#[test]
fn usual_effort_finds_the_nearest_of_every_dimension_and_metric() {
    let seed = 0xD1;
    let mut dice = Dice(seed);
    for dimension in [2, 3, 6, 7, 100, 384, 768, 1_536, 3_072] {
        for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
            let count = if dimension > 1_000 { 2_000 } else { 4_000 };
            let rows = chart(&mut dice, count, dimension, metric);
            let mut index = VectorIndex::new(dimension, metric, Isolation::Strict);
            rows.iter().for_each(|row| _ = index.push(row));
            let (mut right, mut asked, mut poor) = (0, 0, 0);
            for permitted in [count / 20, count / 4, count] {
                let permitted: RoaringBitmap = (0..permitted as u32).collect();
                for _ in 0..10 {
                    let query = embed(dice.near_one_of(&rows, 0.3), metric);
                    let found = index.search(&query, &permitted, 10, &by_slot);
                    let mut best: Vec<f64> = permitted
                        .iter()
                        .map(|slot| reference(metric, query.components(), rows[slot as usize].components()))
                        .collect();
                    best.sort_by(|a, b| b.total_cmp(a));
                    let last = best[9] - slack(query.components(), rows[0].components());
                    let exact =
                        |hit: &Hit| reference(metric, query.components(), rows[hit.slot.0 as usize].components());
                    let hits = found.hits.iter().filter(|hit| exact(hit) >= last).count();
                    (right, asked, poor) = (right + hits, asked + 10, poor + usize::from(hits < 8));
                }
            }
            let recall = f64::from(right as u32) / f64::from(asked);
            println!("{dimension} {metric:?}: recall {recall}");
            assert!(recall >= 0.99 && poor == 0, "{dimension} {metric:?}: recall {recall}, {poor} poor, seed {seed}");
        }
    }
}

#[test]
fn vectors_that_codes_say_nothing_of_are_found_all_the_same() {
    // all lie together, far from the origin: every code is the same, and all of the difference is lost in it
    let seed = 0xFA4;
    let mut dice = Dice(seed);
    let far: Vec<f32> = dice.vector(128).into_iter().map(|x| x * 1e3).collect();
    let mut index = VectorIndex::new(128, Metric::Euclidean, Isolation::Strict);
    for _ in 0..3_000 {
        let row = dice.near(&far, 0.01);
        index.push(&embed(row, Metric::Euclidean));
    }
    for count in [1_000, 3_000] {
        let permitted: RoaringBitmap = (0..count).collect();
        for _ in 0..20 {
            let query = embed(dice.near(&far, 0.01), Metric::Euclidean);
            let found = index.search(&query, &permitted, 10, &by_slot);
            assert_eq!(found.hits, index.scan(&query, &permitted, 10, &by_slot).hits, "seed {seed}");
        }
    }
}

#[test]
fn copies_beyond_all_candidates_are_ordered_by_the_caller() {
    let seed = 0xC0B1;
    let mut dice = Dice(seed);
    let copied = embed(dice.vector(96), Metric::Cosine);
    let mut index = VectorIndex::new(96, Metric::Cosine, Isolation::Strict);
    for i in 0..9_000 {
        if i % 3 > 0 {
            index.push(&copied);
        } else {
            index.push(&embed(dice.vector(96), Metric::Cosine));
        }
    }
    for count in [900, 9_000] {
        let permitted: RoaringBitmap = (0..count).collect();
        let found = index.search(&copied, &permitted, 10, &|a, b| b.cmp(&a));
        assert_eq!(found.hits, index.scan(&copied, &permitted, 10, &|a, b| b.cmp(&a)).hits);
        assert_eq!(found.hits[0].slot, Slot(count - 1));
    }
}

#[test]
fn a_scan_that_is_shared_out_gives_the_same_answer_by_the_same_work() {
    let seed = 0x5A4E;
    let mut dice = Dice(seed);
    let mut index = VectorIndex::new(64, Metric::Cosine, Isolation::Strict);
    let rows = chart(&mut dice, 500, 64, Metric::Cosine);
    for _ in 0..2 * share::SHARE_ROWS_MIN + 10 {
        index.push(&rows[dice.below(500)]);
    }
    let all: RoaringBitmap = index.live().clone();
    for _ in 0..5 {
        let query = embed(dice.near_one_of(&rows, 0.3), Metric::Cosine);
        let shared = index.search(&query, &all, 10, &by_slot);
        let alone = share::alone(|| index.search(&query, &all, 10, &by_slot));
        assert_eq!(shared, alone, "seed {seed}");
        assert_eq!(alone.hits, index.scan(&query, &all, 10, &by_slot).hits, "seed {seed}");
    }
}
