//! Searches of generated hospitals, by class of caller: `cargo bench --bench search -- [SWITCHES]`.
//!
//! | switch | |
//! |---|---|
//! | `--rows N,N` | records of each hospital (100,000) |
//! | `--dimension N` | components of a vector (384) |
//! | `--questions N` | questions of each class and kind (150) |
//! | `--class NAME` | only this class |
//! | `--best` | only the best level of processor, not every one that this processor has |
//! | `--fast` | a collection with a graph too; it takes minutes to build |
//! | `--scattered` | records arrive in no order, not patient by patient |
//! | `--cores N` | most cores of one search (all); where it matters, one core is shown beside them |
//! | `--residue` | nothing but the test of two worlds: how many answers, and how much work, show what is hidden (minutes: it builds graphs) |
//! | `--peers` | the same questions to other libraries too, which it installs under `target/peers` (Python, network) |
//!
//! Times are CPU time of the thread that searches, but for those that say wall: a search on several cores shows in these alone. Each
//! question is asked five times, in five rounds; `best` is the lowest of the rounds' medians, `median` the middle one. A hit counts for
//! recall by its score, since copies tie. That answers are whole is asserted; times are only printed. Where a search uses several cores,
//! `searches/s a core` and `of bandwidth` count what all of them read in the time of one: go by the line of one core.

use std::{
    collections::BTreeSet, env, fs, hint::black_box, num::NonZero, path::Path, process::Command, thread, time::Instant,
};

use roaring::RoaringBitmap;
use rustix::time::{ClockId, clock_gettime};
use wardkeep::{
    index::{Found, Level, Path as How, VectorIndex, Work, use_cores},
    model::{Embedding, Isolation, Metric, Slot},
};

/// Hits asked for.
const K: usize = 10;
/// Rounds of all questions.
const ROUNDS: usize = 5;
/// Permitted rows from which a search uses several cores.
const SHARED_ROWS_MIN: u64 = 400_000;

struct Switches {
    rows: Vec<u32>,
    dimension: usize,
    questions: usize,
    class: Option<String>,
    best: bool,
    fast: bool,
    scattered: bool,
    residue: bool,
    peers: bool,
    cores: NonZero<usize>,
}

impl Switches {
    fn read() -> Self {
        let args: Vec<String> = env::args().skip(1).collect();
        let of = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)).cloned();
        let on = |name: &str| args.iter().any(|a| a == name);
        // `cargo bench` says so; anything else only wants to see that it runs
        let small = !on("--bench");
        let rows = of("--rows").unwrap_or(if small { "3000".into() } else { "100000".into() });
        Self {
            rows: rows.split(',').map(|n| n.parse().expect("a number of rows")).collect(),
            dimension: of("--dimension").map_or(384, |n| n.parse().expect("a dimension")),
            questions: of("--questions").map_or(if small { 5 } else { 150 }, |n| n.parse().expect("how many")),
            class: of("--class"),
            best: on("--best"),
            fast: on("--fast"),
            scattered: on("--scattered"),
            residue: on("--residue"),
            peers: on("--peers"),
            cores: of("--cores").map_or_else(cores, |n| n.parse().expect("how many cores")),
        }
    }
}

fn cores() -> NonZero<usize> {
    thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

/// A generator of its own: the same hospital every time.
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

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A direction, about of unit length.
    fn direction(&mut self, dimension: usize) -> Vec<f32> {
        let size = (3.0 / dimension as f32).sqrt();
        (0..dimension).map(|_| ((self.roll() >> 40) as f32 / (1 << 23) as f32 - 1.0) * size).collect()
    }
}

/// What one hospital holds: vectors in clusters by topic and patient, templates that many charts share, exact copies.
struct Hospital {
    dimension: usize,
    /// Slots of each patient.
    patients: Vec<RoaringBitmap>,
    dice: Dice,
}

impl Hospital {
    /// Fills `index`; patients have from one record to some two hundred, twenty on average.
    fn fill(index: &mut VectorIndex, rows: u32, dimension: usize, scattered: bool) -> Self {
        let mut dice = Dice(0x9E37_79B9);
        let mut owners: Vec<u32> = Vec::new();
        let mut patient = 0;
        while owners.len() < rows as usize {
            let records = (20.0 * -(1.0 - dice.share()).ln()).ceil().clamp(1.0, 200.0) as usize;
            owners.extend(std::iter::repeat_n(patient, records.min(rows as usize - owners.len())));
            patient += 1;
        }
        if scattered {
            for i in (1..owners.len()).rev() {
                owners.swap(i, dice.below(i + 1));
            }
        }
        let topics: Vec<_> = (0..400).map(|_| dice.direction(dimension)).collect();
        let templates: Vec<_> = (0..300).map(|_| dice.direction(dimension)).collect();
        let charts: Vec<_> = (0..patient).map(|_| dice.direction(dimension)).collect();
        let mut patients = vec![RoaringBitmap::new(); patient as usize];
        let mut last: Option<Embedding> = None;
        for owner in owners {
            let topic = &topics[(400.0 * dice.share().powi(2)) as usize];
            let vector = match dice.below(50) {
                0 if let Some(copy) = &last => copy.clone(),
                0..6 => {
                    let template = &templates[(300.0 * dice.share().powi(2)) as usize];
                    mix(&mut dice, &[(template, 1.0)], 0.1)
                }
                _ => mix(&mut dice, &[(topic, 0.6), (&charts[owner as usize], 0.35)], 0.5),
            };
            patients[owner as usize].insert(put(index, &vector).0);
            last = Some(vector);
        }
        Self { dimension, patients, dice }
    }

    /// A question near a record that `slots` holds.
    fn question(&mut self, index: &VectorIndex, slots: &RoaringBitmap) -> Embedding {
        let slot = slots.select(self.dice.below(slots.len() as usize) as u32).expect("a slot");
        let vector = index.vector(Slot(slot)).expect("a live row").to_vec();
        debug_assert_eq!(vector.len(), self.dimension);
        mix(&mut self.dice, &[(&vector, 1.0)], 0.5)
    }

    /// A question that no record is near to: whatever is nearest is so by chance, and codes tell least of such.
    fn lost_question(&mut self) -> Embedding {
        let direction = self.dice.direction(self.dimension);
        mix(&mut self.dice, &[(&direction, 1.0)], 0.5)
    }

    /// Whole patients at random until there are `count` rows.
    fn of_patients(&mut self, count: u64) -> RoaringBitmap {
        let mut scope = RoaringBitmap::new();
        while scope.len() < count {
            let patient = self.dice.below(self.patients.len());
            scope |= &self.patients[patient];
        }
        let beyond: Vec<u32> = scope.iter().skip(count as usize).collect();
        scope - beyond.into_iter().collect::<RoaringBitmap>()
    }

    /// Records at random.
    fn of_records(&mut self, count: u64, rows: u32) -> RoaringBitmap {
        let mut scope = RoaringBitmap::new();
        while scope.len() < count {
            scope.insert(self.dice.below(rows as usize) as u32);
        }
        scope
    }
}

fn mix(dice: &mut Dice, parts: &[(&Vec<f32>, f32)], noise: f32) -> Embedding {
    let mut vector = dice.direction(parts[0].0.len());
    vector.iter_mut().for_each(|x| *x *= noise);
    for (part, weight) in parts {
        vector.iter_mut().zip(*part).for_each(|(x, p)| *x += p * weight);
    }
    let dimension = vector.len();
    Embedding::new(vector, dimension, Metric::Cosine).expect("a vector")
}

/// What each class of caller may see.
fn classes(hospital: &mut Hospital, rows: u32) -> Vec<(&'static str, RoaringBitmap)> {
    let all = u64::from(rows);
    let of = |share: f64, most: u64| ((all as f64 * share) as u64).clamp(1, most);
    let mut classes = vec![
        ("nurse", hospital.of_patients(130.min(all))),
        ("psychotherapist", hospital.of_records(480.min(all / 2), rows)),
        ("physician", hospital.of_patients(900.min(all))),
        ("researcher", hospital.of_records(of(0.057, 57_000), rows)),
        ("attending", hospital.of_patients(of(0.095, 10_000))),
        ("department head", hospital.of_patients(of(0.4, u64::MAX))),
        ("privacy officer", hospital.of_patients(of(0.98, u64::MAX))),
    ];
    if rows >= 1_000_000 {
        classes.push(("everything", (0..rows).collect()));
    }
    classes
}

/// One class and kind of question.
#[derive(Default)]
struct Line {
    medians: Vec<f64>,
    means: Vec<f64>,
    wall_us: Vec<f64>,
    recalls: Vec<f64>,
    short: usize,
    forbidden: usize,
    work: Work,
    asked: usize,
}

fn ask(index: &VectorIndex, scope: &RoaringBitmap, questions: &[Embedding]) -> Line {
    let tie = |a: Slot, b: Slot| a.cmp(&b);
    let mut line = Line::default();
    for round in 0..ROUNDS {
        let mut cpu_us = Vec::new();
        for question in questions {
            let (start, wall) = (thread_us(), Instant::now());
            let found = black_box(index.search(black_box(question), scope, K, &tie));
            cpu_us.push(thread_us() - start);
            line.wall_us.push(wall.elapsed().as_secs_f64() * 1e6);
            if round > 0 {
                continue;
            }
            let truth = index.scan(question, scope, K, &tie);
            let last = truth.hits.last().map_or(f32::INFINITY, |hit| hit.score);
            let right = found.hits.iter().filter(|hit| hit.score >= last).count();
            line.recalls.push(right as f64 / truth.hits.len().max(1) as f64);
            line.short += usize::from(found.hits.len() < truth.hits.len());
            line.forbidden += found.hits.iter().filter(|hit| !scope.contains(hit.slot.0)).count();
            line.work.bits += found.work.bits;
            line.work.bytes += found.work.bytes;
            line.work.exact += found.work.exact;
            line.asked += 1;
        }
        line.means.push(cpu_us.iter().sum::<f64>() / cpu_us.len() as f64);
        line.medians.push(quantile(&mut cpu_us, 0.5));
    }
    line
}

impl Line {
    fn recall(&self) -> f64 {
        self.recalls.iter().sum::<f64>() / self.asked.max(1) as f64
    }

    /// Searches a second on one core.
    fn per_second(&self) -> f64 {
        1e6 / self.means.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// What is wrong with the answers, if anything: hits that are not permitted, too few, or not the nearest.
    fn fault(&self, isolation: Isolation) -> Option<String> {
        let recall_min = if isolation == Isolation::Strict { 0.995 } else { 0.99 };
        let poor = self.recalls.iter().filter(|recall| **recall < 0.8).count();
        let wrong = self.forbidden > 0 || self.short > 0 || self.recall() < recall_min || poor * 1_000 > self.asked;
        let Self { forbidden, short, .. } = self;
        wrong.then(|| format!("{forbidden} forbidden, {short} short, {poor} poor, recall {:.4}", self.recall()))
    }

    fn print(mut self, class: &str, scope: &RoaringBitmap, dimension: usize, bandwidth: f64) {
        let best = self.medians.iter().copied().fold(f64::INFINITY, f64::min);
        let median = quantile(&mut self.medians, 0.5);
        let (p50, p99) = (quantile(&mut self.wall_us, 0.5), quantile(&mut self.wall_us, 0.99));
        let mean = |sum: u64| sum as f64 / self.asked.max(1) as f64;
        let (bits, bytes, exact) = (mean(self.work.bits), mean(self.work.bytes), mean(self.work.exact));
        let bit_bytes = dimension.next_power_of_two().max(512) as f64 / 8.0;
        let byte_bytes = (dimension.div_ceil(64) * 64 + 16) as f64;
        let read = bits * bit_bytes + bytes * byte_bytes + exact * dimension as f64 * 4.0;
        let (recall, per_second) = (self.recall(), self.per_second());
        let worst = self.recalls.iter().copied().fold(1.0, f64::min);
        let poor = self.recalls.iter().filter(|r| **r < 0.8).count();
        println!(
            "| {class} | {} | {best:.1} | {median:.1} | {p50:.0} / {p99:.0} | {:.0} | {recall:.4} / {worst:.1} / {poor} | {} / {} | {bits:.0} / {bytes:.0} / {exact:.0} | {:.0} KB | {:.0} % |",
            scope.len(),
            per_second,
            self.short,
            self.forbidden,
            read / 1e3,
            read / best / bandwidth / 10.0,
        );
    }
}

fn head() {
    println!(
        "| class | permitted | best us | median us | wall p50 / p99 us | searches/s a core | recall mean / worst / below 0.8 | short / forbidden | rows read: bits / bytes / vectors | read | of bandwidth |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
}

fn table(
    switches: &Switches,
    index: &VectorIndex,
    isolation: Isolation,
    hospital: &mut Hospital,
    rows: u32,
    bandwidth: f64,
) {
    head();
    let (dimension, mut faults) = (hospital.dimension, Vec::new());
    let questions = switches.questions;
    let everything: RoaringBitmap = (0..rows).collect();
    for (class, scope) in classes(hospital, rows) {
        if switches.class.as_deref().is_some_and(|only| only != class) {
            continue;
        }
        let normal: Vec<_> = (0..questions).map(|_| hospital.question(index, &scope)).collect();
        let mut show = |what: String, questions: &[Embedding]| {
            let line = ask(index, &scope, questions);
            let fault = line.fault(isolation);
            line.print(&what, &scope, dimension, bandwidth);
            faults.extend(fault.map(|fault| format!("{what}: {fault}")));
        };
        if scope.len() >= SHARED_ROWS_MIN && switches.cores > NonZero::<usize>::MIN {
            use_cores(NonZero::<usize>::MIN);
            show(format!("{class}, one core"), &normal);
        }
        use_cores(switches.cores);
        show(class.to_owned(), &normal);
        let lost: Vec<_> = (0..questions).map(|_| hospital.lost_question()).collect();
        show(format!("{class}, near nothing"), &lost);
        let hidden = &everything - &scope;
        if hidden.is_empty() {
            continue;
        }
        let cross: Vec<_> = (0..questions).map(|_| hospital.question(index, &hidden)).collect();
        show(format!("{class}, cross-patient"), &cross);
    }
    assert!(faults.is_empty(), "{}", faults.join("; "));
}

fn main() {
    let switches = Switches::read();
    if switches.residue {
        return switches.rows.iter().for_each(|rows| residue(*rows, switches.dimension));
    }
    let (bandwidth, of_two) = (bandwidth(1), bandwidth(2));
    println!("One core reads {bandwidth:.1} GB/s from memory, two at once {of_two:.1}.");
    for rows in &switches.rows {
        let levels = [Level::Avx512, Level::Avx2, Level::Portable];
        let mut levels =
            levels.into_iter().filter_map(|l| VectorIndex::at_level(l, 2, Metric::Cosine, Isolation::Strict));
        let best = levels.next().expect("one level at least").level();
        let levels: Vec<Level> =
            if switches.best { vec![best] } else { std::iter::once(best).chain(levels.map(|i| i.level())).collect() };
        for level in levels {
            measure(&switches, *rows, level, Isolation::Strict, bandwidth);
        }
        if switches.fast {
            measure(&switches, *rows, best, Isolation::Fast, bandwidth);
        }
        if switches.peers {
            peers(&switches, *rows);
        }
    }
}

fn measure(switches: &Switches, rows: u32, level: Level, isolation: Isolation, bandwidth: f64) {
    let dimension = switches.dimension;
    let mut index = VectorIndex::at_level(level, dimension, Metric::Cosine, isolation).expect("a level");
    let mut hospital = Hospital::fill(&mut index, rows, dimension, switches.scattered);
    if let Some(job) = index.graph_job() {
        let start = Instant::now();
        index.install(job.build());
        println!("\nThe graph took {:.0} s.", start.elapsed().as_secs_f64());
    }
    println!("\n### {rows} records of {dimension} dimensions, {isolation:?}, {level:?}\n");
    table(switches, &index, isolation, &mut hospital, rows, bandwidth);
    tail(switches, &mut index, &mut hospital, rows);
    rewrite(&mut index, &mut hospital);
    println!("{:.0} bytes a record in memory.", index.memory_bytes() as f64 / index.live().len() as f64);
}

/// The same questions of callers who may see none of some clusters, where these are stored and where they are not: prints how many
/// answers differ, and how much work. Strict collections promise none; what a fast one gives away is what this counts.
fn residue(rows: u32, dimension: usize) {
    const PROBES: usize = 1_000;
    const CLUSTERS: usize = 10;
    let mut dice = Dice(0x2_0051D);
    let topics: Vec<_> = (0..200).map(|_| dice.direction(dimension)).collect();
    let hearts: Vec<_> = (0..CLUSTERS).map(|_| dice.direction(dimension)).collect();
    let near = |dice: &mut Dice, of: &[Vec<f32>], noise| {
        let heart = dice.below(of.len());
        mix(dice, &[(&of[heart], 1.0)], noise)
    };
    let seen: Vec<_> = (0..rows).map(|_| near(&mut dice, &topics, 0.8)).collect();
    let hidden: Vec<_> = (0..rows / 13).map(|_| near(&mut dice, &hearts, 0.3)).collect();
    let probes: Vec<_> = (0..PROBES).map(|_| near(&mut dice, &hearts, 0.5)).collect();
    println!("{rows} records that are seen, {} that are hidden, {PROBES} probes near these.\n", hidden.len());
    println!(
        "| isolation | permitted | walked | answers differ | work differs | by, on average |\n|---|---|---|---|---|---|"
    );
    for isolation in [Isolation::Strict, Isolation::Fast] {
        let mut worlds = [seen.iter().chain(&[]), seen.iter().chain(&hidden)].map(|records| {
            let mut index = VectorIndex::new(dimension, Metric::Cosine, isolation);
            records.for_each(|record| _ = put(&mut index, record));
            index
        });
        for world in &mut worlds {
            if let Some(job) = world.graph_job() {
                world.install(job.build());
            }
        }
        for permitted in [rows, rows / 10 * 7, rows / 20, rows / 100] {
            let permitted: RoaringBitmap = (0..permitted).collect();
            told_apart(&worlds, &permitted, &probes, isolation);
        }
    }
}

fn told_apart(worlds: &[VectorIndex; 2], permitted: &RoaringBitmap, probes: &[Embedding], isolation: Isolation) {
    let (mut walked, mut answers, mut work, mut by) = (0, 0, 0, 0);
    for probe in probes {
        let [a, b] = worlds.each_ref().map(|world| world.search(probe, permitted, K, &|a, b| a.cmp(&b)));
        walked += usize::from(!matches!((a.path, b.path), (How::Scan(_), How::Scan(_))));
        answers += usize::from(a.hits != b.hits);
        let effort = |found: &Found| (found.path, found.scored, found.work);
        work += usize::from(effort(&a) != effort(&b));
        by += a.scored.abs_diff(b.scored);
    }
    let by = by as f64 / probes.len() as f64;
    println!("| {isolation:?} | {} | {walked} | {answers} | {work} | {by:.1} rows |", permitted.len());
}

/// Writes one hospital and its questions for `benches/peers/search.py`, and runs it.
fn peers(switches: &Switches, rows: u32) {
    use_cores(NonZero::<usize>::MIN);
    let dimension = switches.dimension;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    let data = folder.join(rows.to_string());
    fs::create_dir_all(&data).expect("a folder");
    let mut index = VectorIndex::new(dimension, Metric::Cosine, Isolation::Strict);
    let mut hospital = Hospital::fill(&mut index, rows, dimension, switches.scattered);
    let all = (0..rows).filter_map(|slot| index.vector(Slot(slot))).flatten();
    write(&data.join("vectors.f32"), all.flat_map(|x| x.to_le_bytes()));
    let mut about = Vec::new();
    for (class, scope) in classes(&mut hospital, rows) {
        let questions: Vec<_> = (0..switches.questions).map(|_| hospital.question(&index, &scope)).collect();
        let file = class.replace(' ', "-");
        write(&data.join(format!("{file}.ids")), scope.iter().flat_map(u32::to_le_bytes));
        let components = questions.iter().flat_map(|question| question.components());
        write(&data.join(format!("{file}.f32")), components.flat_map(|x| x.to_le_bytes()));
        let line = ask(&index, &scope, &questions);
        let ours = format!("{:.0} (recall {:.3})", line.per_second(), line.recall());
        about.push(format!(r#"{{"name": "{class}", "file": "{file}", "ours": "{ours}"}}"#));
    }
    let about = format!(r#"{{"dimension": {dimension}, "classes": [{}]}}"#, about.join(", "));
    fs::write(data.join("about.json"), about).expect("a file");
    let venv = folder.join("venv");
    let run = |command: &mut Command| assert!(command.status().is_ok_and(|s| s.success()), "{command:?}");
    if !venv.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "-r"]).arg(script.join("requirements.txt")));
    }
    println!("\n### {rows} records, other libraries: searches a second at a recall of {:.2} (wall p99, ms)\n", 0.99);
    run(Command::new(venv.join("bin/python")).arg(script.join("search.py")).arg(&data).env("OMP_NUM_THREADS", "1"));
}

fn write(path: &Path, bytes: impl Iterator<Item = u8>) {
    fs::write(path, bytes.collect::<Vec<u8>>()).expect("a file");
}

fn put(index: &mut VectorIndex, vector: &Embedding) -> Slot {
    index.push(&index.encoder().encode(vector.clone()))
}

/// What a thousand rows that came last, no graph knows of, and all are permitted cost a search of everything.
fn tail(switches: &Switches, index: &mut VectorIndex, hospital: &mut Hospital, rows: u32) {
    use_cores(NonZero::<usize>::MIN);
    let mut scope: RoaringBitmap = (0..rows).collect();
    let questions: Vec<_> = (0..switches.questions).map(|_| hospital.question(index, &scope)).collect();
    let once = |index: &VectorIndex, scope: &RoaringBitmap, question: &Embedding| {
        let start = thread_us();
        let found = black_box(index.search(black_box(question), scope, K, &|a, b| a.cmp(&b)));
        (thread_us() - start, matches!(found.path, How::Graph))
    };
    // the least of the rounds, question by question: the difference is small beside what either takes
    let all = |index: &VectorIndex, scope: &RoaringBitmap| -> Vec<(f64, bool)> {
        let least = |question| {
            let rounds = (0..ROUNDS).map(|_| once(index, scope, question));
            rounds.fold((f64::INFINITY, false), |(us, _), (next, walked)| (us.min(next), walked))
        };
        questions.iter().map(least).collect()
    };
    let before = all(index, &scope);
    for _ in 0..1_000 {
        let row = hospital.question(index, &scope);
        scope.insert(put(index, &row).0);
    }
    let after = all(index, &scope);
    let (mut costs, mut of): (Vec<f64>, Vec<f64>) =
        before.iter().zip(&after).map(|(before, after)| (after.0 - before.0, before.0)).unzip();
    let walked = after.iter().filter(|(_, walked)| *walked).count();
    let (cost, of) = (quantile(&mut costs, 0.5), quantile(&mut of, 0.5));
    println!(
        "\n1,000 rows that came last cost a search of all {cost:.1} us more than {of:.0}; {walked} of {} walked a graph.",
        costs.len()
    );
}

/// What it costs to put a row in and to take one out.
fn rewrite(index: &mut VectorIndex, hospital: &mut Hospital) {
    let slots: BTreeSet<u32> = (0..1_000).map(|_| hospital.dice.below(index.live().len() as usize) as u32).collect();
    let vectors: Vec<_> = slots
        .iter()
        .map(|s| mix(&mut hospital.dice, &[(&index.vector(Slot(*s)).expect("live").to_vec(), 1.0)], 0.1))
        .collect();
    let start = thread_us();
    slots.iter().for_each(|slot| index.remove(Slot(*slot)));
    let removed = thread_us();
    let encoder = index.encoder();
    let rows: Vec<_> = vectors.iter().map(|vector| encoder.encode(vector.clone())).collect();
    let coded = thread_us();
    rows.iter().for_each(|row| _ = index.push(row));
    let pushed = thread_us();
    let each = |from: f64, to: f64| (to - from) / slots.len() as f64;
    let (out, made, in_all) = (each(start, removed), each(removed, coded), each(removed, pushed));
    println!("\nA row in: {in_all:.1} us, of which its codes, before any lock: {made:.1} us. Out: {out:.1} us.");
}

/// GB/s that so many cores read at once, by adding up more than any cache holds; by the clock, for they may wait for each other.
fn bandwidth(cores: usize) -> f64 {
    let words = vec![1_u64; 32 << 20];
    let read = |words: &[u64]| {
        let mut sums = [0_u64; 32];
        for part in words.as_chunks::<32>().0 {
            sums.iter_mut().zip(part).for_each(|(sum, x)| *sum ^= *x);
        }
        black_box(sums);
    };
    let once = |_| {
        let start = Instant::now();
        std::thread::scope(|threads| {
            for part in words.chunks(words.len() / cores) {
                threads.spawn(move || read(part));
            }
        });
        (words.len() * 8) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..9).map(once).fold(0.0, f64::max)
}

fn thread_us() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len() as f64 - 1.0) * q).round() as usize).copied().unwrap_or(f64::NAN)
}
