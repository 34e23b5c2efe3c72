use super::*;

/// A generator of its own, so that a seed in a message is enough to see a failure again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn line(&mut self) -> Line {
        // now and then the extremes, where sums would saturate
        let fill = [0x00, 0x7F, 0x80, 0xFF].get((self.roll() >> 32) as usize % 12).copied();
        let mut line = Line::default();
        line.0.iter_mut().for_each(|byte| *byte = fill.unwrap_or((self.roll() >> 40) as u8));
        line
    }
}

fn levels() -> Vec<Kernels> {
    [Level::Portable, Level::Avx2, Level::Avx512].into_iter().filter_map(Kernels::of).collect()
}

/// Some of the rows of a stretch, in order; every length of a block is tried.
fn chosen(dice: &mut Dice, rows: u32, count: usize) -> Vec<u32> {
    let mut chosen: Vec<u32> = (0..count).map(|_| 1_000 + (dice.roll() >> 33) as u32 % rows).collect();
    chosen.sort_unstable();
    chosen
}

#[test]
fn every_level_multiplies_bytes_as_plain_integers_do() {
    let seed = 0xB17E;
    let mut dice = Dice(seed);
    for stride in [1, 2, 3, 6, 7, 128] {
        let lines: Vec<Line> = (0..40 * stride).map(|_| dice.line()).collect();
        let query: Vec<Line> = (0..stride).map(|_| dice.line()).collect();
        let stretch = Stretch { first: 1_000, stride, lines: &lines };
        for count in 0..20 {
            let rows = chosen(&mut dice, 40, count);
            let truth: Vec<i32> = rows.iter().map(|row| product(&query, stretch.row(*row))).collect();
            for kernels in levels() {
                let mut out = vec![7; count + 9];
                (kernels.multiply)(&query, stretch, &rows, &rows, &mut out);
                assert_eq!(out.split_off(count), [7; 9]);
                assert_eq!(out, truth, "{:?}, {stride} lines, seed {seed}", kernels.level);
            }
        }
    }
}

fn product(query: &[Line], row: &[Line]) -> i32 {
    let bytes = query.iter().flat_map(|line| line.0).zip(row.iter().flat_map(|line| line.0));
    bytes.map(|(q, x)| i32::from(q as i8) * i32::from(x)).sum()
}

#[test]
fn every_level_estimates_bits_as_counting_them_one_by_one_does() {
    let seed = 0xB175;
    let mut dice = Dice(seed);
    for stride in [1, 2, 4, 8, 16] {
        let mut lines: Vec<Line> = (0..40 * stride).map(|_| dice.line()).collect();
        for row in lines.chunks_mut(stride) {
            let factor = 0x3C00 + (dice.roll() >> 50) as u32 % 0x200;
            let bias = if dice.roll() >> 63 == 0 { 0 } else { 0xBF80 };
            *row.last_mut().unwrap().0.last_chunk_mut().unwrap() = (factor | bias << 16).to_le_bytes();
        }
        let mut planes: Vec<Planes> = (0..stride).map(|_| [(); 3].map(|()| dice.line())).collect();
        for plane in planes.last_mut().unwrap() {
            *plane.0.last_chunk_mut().unwrap() = [0; 4];
        }
        let query = BitQuery { planes, unit: 0.37, offset: -1.25 };
        let stretch = Stretch { first: 1_000, stride, lines: &lines };
        for count in 0..20 {
            let rows = chosen(&mut dice, 40, count);
            let truth: Vec<f32> = rows.iter().map(|row| estimate(&query, stretch.row(*row))).collect();
            for kernels in levels() {
                let mut out = vec![7.0; count + 9];
                (kernels.estimate)(&query, stretch, &rows, &rows, &mut out);
                assert_eq!(out.split_off(count), [7.0; 9]);
                assert_eq!(out, truth, "{:?}, {stride} lines, seed {seed}", kernels.level);
            }
        }
    }
}

fn estimate(query: &BitQuery, row: &[Line]) -> f32 {
    let mut product = 0;
    for (line, planes) in row.iter().zip(&query.planes) {
        for bit in 0..LINE_BITS {
            let value = |line: &Line| i32::from(line.0[bit / 8] >> (bit % 8) & 1);
            let level = value(&planes[0]) + 2 * value(&planes[1]) - 4 * value(&planes[2]);
            product += value(line) * level;
        }
    }
    let tail = row.last().unwrap().0;
    let float = |low: u8, high: u8| f32::from_bits(u32::from_le_bytes([0, 0, low, high]));
    float(tail[60], tail[61]) * (query.unit * product as f32 + query.offset) + float(tail[62], tail[63])
}

#[test]
fn a_row_that_is_not_there_costs_nothing_and_scores_nothing() {
    let lines = [Line::default(); 4];
    let stretch = Stretch { first: 10, stride: 2, lines: &lines };
    let query = BitQuery { planes: vec![[Line([0xFF; 64]); 3]; 2], unit: 1.0, offset: 1.0 };
    for kernels in levels() {
        let (mut scores, mut products) = ([1.0; 4], [1; 4]);
        (kernels.estimate)(&query, stretch, &[0, 9, 12, u32::MAX], &[9, 10], &mut scores);
        (kernels.multiply)(&[Line([1; 64]); 2], stretch, &[0, 9, 12, u32::MAX], &[9, 10], &mut products);
        assert_eq!((scores, products), ([0.0; 4], [0; 4]), "{:?}", kernels.level);
    }
}

#[test]
fn every_level_rotates_to_the_same_bits_and_keeps_lengths() {
    let seed = 0x5EED;
    let mut dice = Dice(seed);
    for rotated in [512_usize, 1_024, 8_192] {
        let signs: Vec<Vec<u32>> =
            (0..3).map(|_| (0..rotated).map(|_| (dice.roll() as u32) & 0x8000_0000).collect()).collect();
        let vector: Vec<f32> = (0..rotated).map(|_| (dice.roll() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect();
        let length = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let mut first: Option<Vec<u32>> = None;
        for kernels in levels() {
            let (mut turned, mut spare) = (vector.clone(), vec![0.0; rotated]);
            (kernels.rotate)(&signs, &mut turned, &mut spare);
            let grown = length(&turned) / length(&vector) / (rotated as f64).powf(1.5);
            assert!((grown - 1.0).abs() < 1e-5, "{grown}");
            let bits: Vec<u32> = turned.iter().map(|x| x.to_bits()).collect();
            assert_eq!(first.get_or_insert_with(|| bits.clone()), &bits, "{:?}, seed {seed}", kernels.level);
        }
    }
}

#[test]
fn the_best_level_is_one_that_the_processor_has() {
    let best = Kernels::best().level;
    assert!(levels().iter().any(|kernels| kernels.level == best));
    println!("{best:?}");
}
