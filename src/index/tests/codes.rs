//! Passes over codes against the exact scan: at every effort, level of processor, dimension and metric.

use super::*;

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
                index.put(&embed(last.clone(), metric));
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
    for (metric, dimension) in [(Metric::Cosine, 384), (Metric::Euclidean, 100), (Metric::Dot, 3_072)] {
        let rows = chart(&mut dice, 3_000, dimension, metric);
        let levels = [Level::Portable, Level::Avx2, Level::Avx512];
        let mut indexes: Vec<VectorIndex> = levels
            .into_iter()
            .filter_map(|level| VectorIndex::at_level(level, dimension, metric, Isolation::Strict))
            .collect();
        indexes.iter_mut().for_each(|index| rows.iter().for_each(|row| _ = index.put(row)));
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
fn every_dimension_and_metric_ranks_as_a_plain_reference_does() {
    let seed = 0xD1;
    let mut dice = Dice(seed);
    for dimension in [2, 3, 6, 7, 100, 384, 768, 1_536, 3_072] {
        for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
            let count = if dimension > 1_000 { 2_000 } else { 4_000 };
            let rows = chart(&mut dice, count, dimension, metric);
            let mut index = VectorIndex::new(dimension, metric, Isolation::Strict);
            rows.iter().for_each(|row| _ = index.put(row));
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
                    // rows that lie no further apart than that tie
                    let slack = slack(query.components(), rows[0].components());
                    assert_eq!(found.hits.len(), 10, "{dimension} {metric:?}, seed {seed}");
                    assert_eq!(found.hits.iter().map(|hit| hit.slot.0).collect::<RoaringBitmap>().len(), 10);
                    for (place, (hit, best)) in found.hits.iter().zip(best).enumerate() {
                        let score = reference(metric, query.components(), rows[hit.slot.0 as usize].components());
                        let at = format!("{dimension} {metric:?}, place {place} of {}, seed {seed}", permitted.len());
                        assert!((score - best).abs() <= slack, "{at}: {score}, not {best}");
                        assert!((score - f64::from(hit.score)).abs() <= slack, "{at}: said to be {}", hit.score);
                    }
                }
            }
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
        index.put(&embed(row, Metric::Euclidean));
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
            index.put(&copied);
        } else {
            index.put(&embed(dice.vector(96), Metric::Cosine));
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
fn a_scan_that_is_shared_out_gives_the_same_answer_by_the_same_work_in_the_same_memory() {
    let seed = 0x5A4E;
    let mut dice = Dice(seed);
    let mut index = VectorIndex::new(64, Metric::Cosine, Isolation::Strict);
    let rows = chart(&mut dice, 500, 64, Metric::Cosine);
    for _ in 0..2 * share::SHARE_ROWS_MIN + 10 {
        index.put(&rows[dice.below(500)]);
    }
    let all: RoaringBitmap = index.live().clone();
    let mut kept = None;
    for _ in 0..5 {
        let query = embed(dice.near_one_of(&rows, 0.3), Metric::Cosine);
        let shared = index.search(&query, &all, 10, &by_slot);
        let seen = scan::seen();
        assert_eq!(*kept.get_or_insert(seen), seen, "seed {seed}");
        let alone = share::alone(|| index.search(&query, &all, 10, &by_slot));
        assert_eq!(shared, alone, "seed {seed}");
        assert_eq!(alone.hits, index.scan(&query, &all, 10, &by_slot).hits, "seed {seed}");
    }
}

#[test]
fn what_reaches_a_known_score_is_found_and_nothing_else() {
    let seed = 0xBA2;
    let mut dice = Dice(seed);
    for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
        for dimension in [64, 384, 1_100] {
            let mut rows = chart(&mut dice, 1_500, dimension, metric);
            // several tie, wherever they come
            (0..40).for_each(|copy| rows[31 * copy] = rows[7].clone());
            let mut index = VectorIndex::new(dimension, metric, Isolation::Strict);
            rows.iter().for_each(|row| _ = index.put(row));
            for count in [BYTES_BESIDE_MAX as u32 + 1, 1_500] {
                let permitted: RoaringBitmap = (0..count).collect();
                for n in 0..10 {
                    let query = if n == 0 { rows[7].clone() } else { embed(dice.near_one_of(&rows, 0.3), metric) };
                    let all = index.scan(&query, &permitted, count as usize, &by_slot).hits;
                    let bars =
                        [all[9].score, all[0].score, all[0].score + 1.0, all[300].score, all[count as usize - 1].score];
                    for bar in bars {
                        let sought = index.sought(&query, &permitted, 10).unwrap();
                        let scan = Scan { bar, ..index.scanning(&sought, &by_slot) };
                        let (hits, work) = scan.run(&permitted, Effort::Usual);
                        let expected: Vec<Hit> = all.iter().take(10).copied().filter(|hit| hit.score >= bar).collect();
                        let at = format!("{metric:?} {dimension}, {count} rows, bar {bar}, seed {seed}");
                        assert_eq!(hits, expected, "{at}");
                        assert_eq!((work.first, work.bits), (u64::from(count), u64::from(count)), "{at}");
                        assert_eq!(share::alone(|| scan.run(&permitted, Effort::Usual)), (hits, work), "{at}");
                    }
                }
            }
        }
    }
}
