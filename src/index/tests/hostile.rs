//! Vectors that codes are bad at. What bytes decide is held to be exact; what bits decide, right within their doubt, which
//! for these seeds means exact as well.

use super::*;

const DIMENSION: usize = 128;

/// Vectors of one make.
type Make = fn(&mut Dice, &[f32]) -> Vec<f32>;

/// Each make, from a vector that all rows of a collection share.
const MAKES: [(&str, Make); 12] = [
    ("one component is large in all, and all of the difference is in the others", |dice, _| {
        let mut row: Vec<f32> = dice.vector(DIMENSION).into_iter().map(|x| x * 0.003).collect();
        row[5] = 1.0;
        row
    }),
    ("one component is large, another in each", |dice, _| {
        let mut row: Vec<f32> = dice.vector(DIMENSION).into_iter().map(|x| x * 0.003).collect();
        row[dice.below(DIMENSION)] = 1.0;
        row
    }),
    ("the others lie just below what rounds to something", |dice, _| {
        let mut row: Vec<f32> =
            (0..DIMENSION).map(|_| (0.499 / 127.0) * if dice.below(2) == 0 { 1.0 } else { -1.0 }).collect();
        row[5] = 1.0;
        row
    }),
    ("three components and no more", |dice, _| {
        let mut row = vec![0.0; DIMENSION];
        (0..3).for_each(|_| row[dice.below(DIMENSION)] = dice.float());
        row[0] += 1e-3;
        row
    }),
    ("one component and no more", |dice, _| {
        let mut row = vec![0.0; DIMENSION];
        row[dice.below(DIMENSION)] = if dice.below(2) == 0 { 1.0 } else { -1.0 };
        row
    }),
    ("all are equal", |_, shared| shared.to_vec()),
    ("all lie on one line", |dice, shared| {
        let by = dice.float() * 100.0 + 1e-3;
        shared.iter().map(|x| x * by).collect()
    }),
    ("all lie nearly on one line, near to one another", |dice, shared| dice.near(shared, 1e-4)),
    ("lengths from a millionth to a million", |dice, _| {
        let length = 10_f32.powi(dice.below(12) as i32 - 6);
        dice.vector(DIMENSION).into_iter().map(|x| x * length).collect()
    }),
    ("all tiny", |dice, _| dice.vector(DIMENSION).into_iter().map(|x| x * 1e-22).collect()),
    ("all of one sign", |dice, _| dice.vector(DIMENSION).into_iter().map(|x| 3.0 + x).collect()),
    ("only signs differ", |dice, _| (0..DIMENSION).map(|_| if dice.below(2) == 0 { 0.1 } else { -0.1 }).collect()),
];

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::Euclidean];

/// Asks after rows and after strangers of the same make, at each count of permitted rows.
fn holds(make: Make, name: &str, metric: Metric, counts: &[u32]) {
    let seed = 0xBAD;
    let mut dice = Dice(seed);
    let shared = dice.vector(DIMENSION);
    let mut index = VectorIndex::new(DIMENSION, metric, Isolation::Strict);
    let most = counts.iter().copied().max().unwrap();
    for _ in 0..most {
        let row = make(&mut dice, &shared);
        index.put(&embed(row, metric));
    }
    for count in counts {
        let permitted: RoaringBitmap = (0..*count).collect();
        for question in 0..20 {
            let mut query = match question % 2 {
                0 => index.vector(Slot(dice.below(*count as usize) as u32)).unwrap().to_vec(),
                _ => make(&mut dice, &shared),
            };
            if question % 4 > 1 {
                query = dice.near(&query, 0.01);
            }
            let query = embed(query, metric);
            let found = index.search(&query, &permitted, 10, &|a, b| b.cmp(&a));
            let truth = index.scan(&query, &permitted, 10, &|a, b| b.cmp(&a));
            assert_eq!(found.hits, truth.hits, "{name}: {metric:?}, {count} rows, question {question}, seed {seed}");
        }
    }
}

#[test]
fn few_rows_of_whatever_make_are_ranked_as_the_oracle_ranks_them() {
    for (name, make) in MAKES {
        for metric in METRICS {
            holds(make, name, metric, &[32, 33, 200, 1_500]);
        }
    }
}

#[test]
fn many_rows_of_whatever_make_are_ranked_as_the_oracle_ranks_them() {
    for (name, make) in MAKES {
        for metric in METRICS {
            holds(make, name, metric, &[1_501, 6_000]);
        }
    }
}

#[test]
fn no_row_scores_higher_than_its_bytes_allow() {
    let seed = 0xB0BD;
    let mut dice = Dice(seed);
    for dimension in [64, 100, 128, 769, 8_192] {
        for metric in METRICS {
            let codec = codec::Codec::new(dimension, metric, Kernels::best());
            let kernel = Kernel::new(metric);
            for round in 0..60 {
                // a mixture of makes in one vector: some large, some small, some nothing
                let mut draw = || -> Embedding {
                    let length = 10_f32.powi(dice.below(7) as i32 - 4);
                    let spike = 10_f32.powi(dice.below(4) as i32);
                    let mut vector: Vec<f32> = dice.vector(dimension).into_iter().map(|x| x * length).collect();
                    (0..dice.below(4)).for_each(|_| vector[dice.below(dimension)] = spike * length);
                    let from = dice.below(dimension);
                    if dice.below(3) == 0 {
                        vector.iter_mut().skip(from).for_each(|x| *x = 0.0);
                        vector[0] += length;
                    }
                    embed(vector, metric)
                };
                let (row, query) = (draw(), draw());
                let query = if round % 3 == 0 { row.clone() } else { query };
                let mut lines = vec![kernel::Line::default(); codec.byte_lines()];
                let scale = codec.write_bytes(row.components(), &mut lines);
                let mut asked = codec::ByteQuery::default();
                codec.ask_bytes(query.components(), &mut asked);
                let mut product = [0];
                let stretch = kernel::Stretch { first: 0, stride: lines.len(), lines: &lines };
                (Kernels::best().multiply)(&asked.lines, stretch, &[0], &[], &mut product);
                let (upper, score) =
                    (asked.upper(product[0], scale), kernel.score(query.components(), row.components()));
                let truth = reference(metric, query.components(), row.components());
                assert!(
                    upper >= score && f64::from(upper) >= truth,
                    "{metric:?} {dimension}: {score} ({truth}) beyond {upper}, round {round}, seed {seed}"
                );
            }
        }
    }
}

#[test]
fn a_row_that_is_the_question_is_above_its_own_bar() {
    let seed = 0xC0B2;
    let mut dice = Dice(seed);
    for (dimension, trials) in [(64, 3_000), (384, 2_000), (1_536, 500), (8_192, 100)] {
        for metric in METRICS {
            let codec = codec::Codec::new(dimension, metric, Kernels::best());
            let (mut workspace, mut asked) = (codec::Workspace::default(), kernel::BitQuery::default());
            let mut bits = vec![kernel::Line::default(); codec.bit_lines()];
            for trial in 0..trials / METRICS.len() {
                let row = embed((0..dimension).map(|_| (0..6).map(|_| dice.float()).sum()).collect(), metric);
                codec.write_bits(row.components(), &mut bits, &mut workspace);
                let doubt = codec.ask_bits(row.components(), &mut asked, &mut workspace);
                let stretch = kernel::Stretch { first: 0, stride: bits.len(), lines: &bits };
                let score = Kernel::new(metric).score(row.components(), row.components());
                let mut out = [0.0];
                (Kernels::best().estimate)(&asked, stretch, &[0], &[], &mut out);
                let reached = doubt.reach(score).admits(out[0]);
                let bar = doubt.sharpen(&mut asked, score);
                (Kernels::best().estimate)(&asked, stretch, &[0], &[], &mut out);
                assert!(
                    reached && out[0] >= bar,
                    "{metric:?} {dimension}: {out:?} of {bar}, trial {trial}, seed {seed}"
                );
            }
        }
    }
}

#[test]
fn a_template_that_many_charts_hold_is_found_by_its_own_words() {
    let seed = 0x7E3;
    for (dimension, rounds) in [(64, 40), (768, 20), (1_536, 10)] {
        let mut dice = Dice(seed);
        let mut index = VectorIndex::new(dimension, Metric::Cosine, Isolation::Strict);
        (0..1_300).for_each(|_| _ = index.put(&embed(dice.vector(dimension), Metric::Cosine)));
        for spread in [0.0, 0.002] {
            for round in 0..rounds {
                let template = dice.vector(dimension);
                let copies: Vec<Slot> =
                    (0..400).map(|_| index.put(&embed(dice.near(&template, spread), Metric::Cosine))).collect();
                let query = embed(template, Metric::Cosine);
                let found = index.search(&query, index.live(), 10, &by_slot);
                let truth = index.scan(&query, index.live(), 10, &by_slot);
                assert_eq!(found.hits, truth.hits, "{dimension}, spread {spread}, round {round}, seed {seed}");
                copies.into_iter().for_each(|slot| index.remove(slot));
            }
        }
    }
}

#[test]
fn questions_of_any_length_are_answered_alike() {
    let seed = 0x717;
    let mut dice = Dice(seed);
    let rows = chart(&mut dice, 3_000, 384, Metric::Dot);
    let mut index = VectorIndex::new(384, Metric::Dot, Isolation::Strict);
    rows.iter().for_each(|row| _ = index.put(row));
    for exponent in [0, 10, 20, 24, 26, 28, 30, 33] {
        let mut dice = Dice(seed);
        for _ in 0..10 {
            let query: Vec<f32> = dice.vector(384).into_iter().map(|x| x * 10_f32.powi(-exponent)).collect();
            let query = embed(query, Metric::Dot);
            let found = index.search(&query, index.live(), 10, &by_slot);
            assert_eq!(found.hits, index.scan(&query, index.live(), 10, &by_slot).hits, "1e-{exponent}, seed {seed}");
        }
    }
}

#[test]
fn rows_and_questions_so_small_that_products_vanish_are_ranked_as_the_oracle_ranks_them() {
    let seed = 0x512E;
    for (dimension, metric) in [(8_192, Metric::Dot), (8_192, Metric::Euclidean), (1_024, Metric::Dot)] {
        for exponent in 17..=23 {
            let mut dice = Dice(seed);
            let size = 10_f32.powi(-exponent);
            let centre: Vec<f32> = (0..dimension).map(|_| size * if dice.below(2) == 0 { 1.0 } else { -1.0 }).collect();
            let mut index = VectorIndex::new(dimension, metric, Isolation::Strict);
            for _ in 0..300 {
                let row = centre.iter().map(|x| x * (1.0 + 0.3 * dice.float())).collect();
                index.put(&embed(row, metric));
            }
            let query = embed(centre.iter().map(|x| x * 1.7).collect(), metric);
            let found = index.search(&query, index.live(), 10, &by_slot);
            let truth = index.scan(&query, index.live(), 10, &by_slot);
            assert_eq!(found.hits, truth.hits, "{metric:?} {dimension} 1e-{exponent}, seed {seed}");
        }
    }
}
