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
        index.push(&embed(row, metric));
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
                (Kernels::best().multiply)(&asked.lines, stretch, &[0], &mut product);
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
