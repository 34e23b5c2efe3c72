//! Searches of 100,000 rows of 384 dimensions, by how many of them are permitted: `cargo bench --bench search -- --quick`.

use std::{env, hint::black_box};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use roaring::RoaringBitmap;
use wardkeep::{
    index::VectorIndex,
    model::{Embedding, Isolation, Metric, Slot},
};

const ROWS: u32 = 100_000;
const DIMENSION: usize = 384;
/// Rows of one patient; they lie together.
const PATIENT: u32 = 20;
/// A nurse, a physician, an attending, a privacy officer.
const PERMITTED: [u32; 4] = [130, 900, 9_500, 98_000];

struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    fn vector(&mut self, centre: &[f32]) -> Embedding {
        let components = centre.iter().map(|x| x + (self.roll() as f32 / (1_u32 << 30) as f32 - 1.0)).collect();
        Embedding::new(components, DIMENSION, Metric::Cosine).unwrap()
    }
}

fn filled(isolation: Isolation) -> (VectorIndex, Vec<Embedding>) {
    let mut dice = Dice(7);
    let centres: Vec<Vec<f32>> =
        (0..500).map(|_| dice.vector(&[0.0; DIMENSION]).components().iter().map(|x| x * 12.0).collect()).collect();
    let mut index = VectorIndex::new(DIMENSION, Metric::Cosine, isolation);
    for i in 0..ROWS {
        let vector = dice.vector(&centres[(i / 200) as usize]);
        index.push(&vector);
    }
    let questions = (0..64).map(|i| dice.vector(&centres[i * 7])).collect();
    (index, questions)
}

/// Whole patients at random until there are `count` rows.
fn scope(count: u32) -> RoaringBitmap {
    let mut dice = Dice(u64::from(count));
    let mut scope = RoaringBitmap::new();
    while scope.len() < u64::from(count) {
        let patient = dice.roll() % (ROWS / PATIENT);
        let room = PATIENT.min(count - scope.len() as u32);
        scope.insert_range(patient * PATIENT..patient * PATIENT + room);
    }
    scope
}

fn run(bench: &mut Criterion, kind: &str, index: &VectorIndex, questions: &[Embedding]) {
    let mut group = bench.benchmark_group(kind);
    for count in PERMITTED {
        let scope = scope(count);
        let mut next = questions.iter().cycle();
        group.bench_function(format!("{count} of {ROWS}"), |b| {
            b.iter_batched(
                || next.next().unwrap(),
                |q| index.search(black_box(q), &scope, 10, &|a: Slot, b: Slot| a.cmp(&b)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn search(bench: &mut Criterion) {
    let (index, questions) = filled(Isolation::Strict);
    run(bench, "strict", &index, &questions);
    // the build takes minutes on one core: only when asked for
    if env::var_os("WARDKEEP_BENCH_GRAPH").is_some() {
        let (mut index, questions) = filled(Isolation::Fast);
        if let Some(job) = index.graph_job() {
            index.install(job.build());
        }
        run(bench, "fast", &index, &questions);
    }
}

criterion_group!(benches, search);
criterion_main!(benches);
