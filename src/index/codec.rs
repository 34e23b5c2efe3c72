//! Codes of vectors: a byte a component, and a bit a component of the rotated vector. Both err, and say by how much.
//!
//! Every constant ships with the binary. None is learned from the rows of a store: what is learned from rows that a
//! caller may not see would tell of them.
//!
//! *Bytes.* `x = scale * byte`, rounded to nearest, with a scale for each row. Each row keeps the length of what rounding
//! took from it, and the question knows its own. So what a product can err by is known (Cauchy-Schwarz), whatever the
//! vectors look like: a row never scores higher than its bytes allow. This is certain.
//!
//! *Bits.* A vector `v` is turned by a fixed random rotation and keeps the sign of each component. Of the query `q`, turned
//! alike, the sum with those signs tells the product: `v·q = |v|² / (s·v) * (s·q)`, without bias over rotations, where `s` are
//! the signs (RaBitQ, Gao and Long, SIGMOD 2024). The error is what of `s` lies across `v`, times what of `q` does; both
//! lengths are known, so its spread is too. `|v|² / (s·v)` is the row's factor. That an error stays within
//! [`BITS_DOUBT`] spreads is likely, not certain: it is a matter of the rotation, which no row and no question knows of, so
//! that vectors of whatever make (sparse, spiky, in clusters) err alike. Copies, and nearly so near copies, err together.
//!
//! *The rotation is public.* Whoever knows it can make a row and a question whose signs err as far as signs can, and that row is
//! then not found by that question. A secret rotation would be none: it would have to outlive the process, be the same in every
//! restored store, and answers would differ from store to store. What is won by it is little: who makes the row may as well not
//! send it, and who makes the question spoils an answer of their own. Rows of others are not hidden by crafted ones: these may
//! take all first candidates, but what may well score as high as the last of *their* true scores is looked at all the same.

use zeroize::Zeroize;

use super::kernel::{BitQuery, Kernels, LINE_BITS, LINE_BYTES, Line, Planes};
use crate::model::Metric;

/// Changes with anything here that changes a code: codes of another version are made anew.
pub const VERSION: u32 = 2;

/// Components below which there are no codes: rows are short enough as they are, and a code of so few components says little.
pub(super) const DIMENSION_MIN: usize = 64;

/// Rounds of random signs and Walsh-Hadamard transform that make a rotation.
const ROUNDS: u64 = 3;
/// Where the signs begin. Digits of pi.
const SEED: u64 = 0x243F_6A88_85A3_08D3;
/// Bits at the end of a row that hold its factor and bias.
const TAIL_BITS: usize = 32;
/// Largest code of one byte, either way.
const BYTE_MAX: f32 = 127.0;
/// What makes a signed byte unsigned, as the kernels take rows.
const BYTE_LIFT: u8 = 128;
/// Largest level of one component of a query to bits, either way.
const LEVEL_MAX: f32 = 3.0;
/// What one level is worth, of a component's usual size: what levels from -3 to 3 round least of components that are spread as
/// those of a turned vector are (normally). What lies beyond the largest level is cut off.
const LEVEL_SIZE: f64 = 0.65;
/// Spreads of a bit code's error that a row is believed to be better than it seems. Measured (`benches/search.rs`): with four no hit is
/// missed in any class; with three and a half one in 3,000, for a quarter fewer bytes where no record is near to the question, and no
/// time that could be seen elsewhere.
const BITS_DOUBT: f32 = 4.0;
/// What one operation on f32 may be wrong by, as a share of what comes out.
const ROUNDING: f32 = f32::EPSILON / 2.0;
/// Operations on f32 that a score and its bound take beyond one for each component, and some to spare.
const OPERATIONS: f32 = 32.0;

/// How vectors of one dimension are coded for one metric.
pub(super) struct Codec {
    metric: Metric,
    dimension: usize,
    /// Components after the rotation: a power of two, and a whole number of lines.
    rotated: usize,
    signs: Vec<Vec<u32>>,
    kernels: Kernels,
}

/// Buffers to rotate in.
#[derive(Default)]
pub(super) struct Workspace {
    vector: Vec<f32>,
    spare: Vec<f32>,
}

/// What a byte row needs beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    /// Of one unit of a byte.
    pub(super) scale: f32,
    /// What is added to a score: minus the squared length for euclidean, minus infinity for a row that is no more.
    pub(super) bias: f32,
    /// The row's length.
    pub(super) length: f32,
    /// The length of what rounding took from the row, or a little more.
    pub(super) lost: f32,
}

/// A question to byte codes.
#[derive(Debug, Clone, Default)]
pub(super) struct ByteQuery {
    pub(super) lines: Vec<Line>,
    /// What the lift of the rows added to each product.
    lift: i32,
    scale: f32,
    length: f32,
    /// As of a row.
    lost: f32,
    /// What a product counts in a score.
    weight: f32,
    /// What the squared lengths count in a score: nothing, or one, taken away.
    squares: f32,
    /// What the sums of f32 that make a score may be wrong by, as a share of the lengths.
    rounding: f32,
}

/// What may be wrong with the answers of bit codes, and by how much.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doubt {
    /// The offset of a question whose answers are as likely too high as too low.
    even: f32,
    /// The square of the spread that a row's signs across it make, for a row across the question; in units of a rotated component.
    across: f64,
    /// The square of the spread that the question's rounding makes.
    rounded: f64,
    /// The least factor that a row of length one has.
    factor_min: f32,
    metric: Metric,
    /// What a product counts in a score.
    weight: f32,
    /// What is still to be taken from every answer.
    squares: f32,
}

/// What the answers of bit codes are held against once the last of the best is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    /// By how much all answers were too high, at least.
    too_much: f32,
    bar: f32,
}

impl Reach {
    /// Whether a row may well be among the best, if its answer was `seemed` or less.
    #[inline]
    pub(super) fn admits(self, seemed: f32) -> bool {
        seemed - self.too_much >= self.bar
    }
}

impl Doubt {
    /// What an answer must be, while no bar is known, for its row to may well score `last` or more.
    pub(super) fn reach(&self, last: f32) -> Reach {
        let too_much = (self.offset(None) - self.offset(Some(last))) * self.factor_min;
        Reach { too_much, bar: self.bar(last) }
    }

    /// Makes the answers those of rows that may well score `last` or more; tells from which answer on they do.
    pub(super) fn sharpen(&self, asked: &mut BitQuery, last: f32) -> f32 {
        asked.offset = self.offset(Some(last));
        self.bar(last)
    }

    /// A score as an answer, less what f32 may have rounded away. A row that is no more is below the lowest.
    fn bar(&self, score: f32) -> f32 {
        let slack = ROUNDING * OPERATIONS * (score.abs() + self.squares);
        (score + self.squares - slack).max(f32::MIN)
    }

    fn offset(&self, last: Option<f32>) -> f32 {
        // of vectors of length one that score `last`, no more of the question lies across the row
        let across = match (self.metric, last) {
            (Metric::Cosine, Some(last)) => 1.0 - f64::from(last.clamp(0.0, 1.0)).powi(2),
            (Metric::Cosine | Metric::Dot | Metric::Euclidean, _) => 1.0,
        };
        let spread = (self.across * across + self.rounded).sqrt() as f32;
        self.even + self.weight * BITS_DOUBT * spread
    }
}

impl Scale {
    /// Numbers of a scale.
    pub(super) const FLOATS: usize = 4;

    /// Of a row that is no more, or never was: it scores below every bar.
    pub(super) const GONE: Self = Self { scale: 0.0, bias: f32::NEG_INFINITY, length: 0.0, lost: 0.0 };

    pub(super) fn floats(self) -> [f32; Self::FLOATS] {
        [self.scale, self.bias, self.length, self.lost]
    }

    pub(super) fn of([scale, bias, length, lost]: [f32; Self::FLOATS]) -> Self {
        Self { scale, bias, length, lost }
    }
}

impl ByteQuery {
    /// What no score of the row exceeds, by the product of its bytes.
    #[inline]
    pub(super) fn upper(&self, product: i32, row: Scale) -> f32 {
        let squares = self.squares * self.length * self.length;
        // in this order nothing is lost where both scales are tiny
        let product = product.wrapping_sub(self.lift) as f32;
        let near = self.weight * (self.scale * product) * row.scale + (row.bias - squares);
        // q·x = q'·x' + q·(x-x') + (q-q')·x', where ' is what rounding left
        let lost = self.length * row.lost + self.lost * (row.length + row.lost);
        let size = self.weight * self.length * row.length + squares + self.squares * row.length * row.length;
        near + (self.weight * lost + self.rounding * size + f32::MIN_POSITIVE)
    }
}

impl Codec {
    pub(super) fn new(dimension: usize, metric: Metric, kernels: Kernels) -> Self {
        let rotated = dimension.next_power_of_two().max(LINE_BITS);
        let mut dice = SEED;
        let signs = (0..ROUNDS).map(|_| (0..rotated).map(|_| sign(&mut dice)).collect()).collect();
        Self { metric, dimension, rotated, signs, kernels }
    }

    /// Lines of a row of bytes.
    pub(super) fn byte_lines(&self) -> usize {
        self.dimension.div_ceil(LINE_BYTES)
    }

    /// Lines of a row of bits.
    pub(super) fn bit_lines(&self) -> usize {
        self.rotated / LINE_BITS
    }

    /// Bits of a row that are code.
    fn bits(&self) -> usize {
        self.rotated - TAIL_BITS
    }

    /// What a product counts in a score.
    fn weight(&self) -> f32 {
        match self.metric {
            Metric::Cosine | Metric::Dot => 1.0,
            Metric::Euclidean => 2.0,
        }
    }

    /// What a squared length takes from a score.
    fn squares(&self) -> f32 {
        match self.metric {
            Metric::Cosine | Metric::Dot => 0.0,
            Metric::Euclidean => 1.0,
        }
    }

    fn bias(&self, length: f64) -> f32 {
        0.0 - self.squares() * (length * length) as f32
    }

    /// Writes a row's bytes.
    pub(super) fn write_bytes(&self, vector: &[f32], row: &mut [Line]) -> Scale {
        let length = length(vector);
        let (scale, lost) = write_bytes(vector, row, BYTE_LIFT);
        Scale { scale, bias: self.bias(length), length: length as f32, lost }
    }

    /// Writes a row's bits, factor and bias.
    pub(super) fn write_bits(&self, vector: &[f32], row: &mut [Line], workspace: &mut Workspace) {
        let turned = self.rotate(vector, workspace);
        let coded = turned.get(..self.bits()).unwrap_or_default();
        let along: f64 = coded.iter().map(|x| f64::from(x.abs())).sum();
        let length = length(vector);
        let factor = if along > 0.0 { length * length / along } else { 0.0 };
        for (line, components) in row.iter_mut().zip(turned.as_chunks::<LINE_BITS>().0) {
            for (byte, components) in line.0.iter_mut().zip(components.as_chunks::<8>().0) {
                *byte = (0..).zip(components).fold(0, |byte, (bit, x)| byte | (u8::from(*x >= 0.0) << bit));
            }
        }
        write_tail(row, factor as f32, self.bias(length));
    }

    /// Writes what no query takes for near.
    pub(super) fn write_gone(row: &mut [Line]) {
        row.fill(Line::default());
        write_tail(row, 0.0, f32::NEG_INFINITY);
    }

    /// Asks a question of rows of bytes.
    pub(super) fn ask_bytes(&self, query: &[f32], asked: &mut ByteQuery) {
        asked.lines.clear();
        asked.lines.resize(self.byte_lines(), Line::default());
        (asked.scale, asked.lost) = write_bytes(query, &mut asked.lines, 0);
        let bytes: i32 = asked.lines.iter().flat_map(|line| line.0).map(|byte| i32::from(byte as i8)).sum();
        asked.lift = i32::from(BYTE_LIFT) * bytes;
        asked.length = length(query) as f32;
        asked.weight = self.weight();
        asked.squares = self.squares();
        asked.rounding = ROUNDING * (self.dimension as f32 + OPERATIONS);
    }

    /// Asks a question of rows of bits. The answers are the highest scores that a row may well have, but for the square of
    /// the question's own length.
    pub(super) fn ask_bits(&self, query: &[f32], asked: &mut BitQuery, workspace: &mut Workspace) -> Doubt {
        let turned = self.rotate(query, workspace);
        let coded = turned.get_mut(..self.bits()).unwrap_or_default();
        let usual = self::length(coded) / (coded.len().max(1) as f64).sqrt();
        let per_step = inverse((usual * LEVEL_SIZE) as f32, 1.0);
        let step = step(coded, per_step);
        let rounded = sum(coded, |x| (f64::from(x) - step * f64::from(level(x, per_step))).powi(2));
        coded.iter_mut().for_each(|x| *x = level(*x, per_step));
        let levels = sum(coded, f64::from);
        turned.iter_mut().skip(self.bits()).for_each(|x| *x = 0.0);
        asked.planes.clear();
        asked.planes.extend(turned.as_chunks::<LINE_BITS>().0.iter().map(planes));

        // a set bit adds the component, a clear one takes it away: twice the set ones, less all
        let weight = f64::from(self.weight());
        asked.unit = (2.0 * weight * step) as f32;
        let doubt = self.doubt(length(query), rounded, (-weight * step * levels) as f32);
        asked.offset = doubt.offset(None);
        doubt
    }

    /// About the answers to a question of a length, of which rounding took the square of a length once it was turned.
    fn doubt(&self, length: f64, rounded: f64, even: f32) -> Doubt {
        let (bits, rotated) = (self.bits() as f64, self.rotated as f64);
        // the square of the cosine between signs and vector: two over pi, were all components coded
        let along = std::f64::consts::FRAC_2_PI * bits / rotated;
        // rounds of unscaled transforms have made all longer
        let grown = rotated.powf(ROUNDS as f64 / 2.0);
        let across = (1.0 - along) * bits / (rotated - 1.0) * (length * grown).powi(2);
        Doubt {
            even,
            across,
            rounded,
            factor_min: (1.0 / (bits.sqrt() * grown)) as f32,
            metric: self.metric,
            weight: self.weight(),
            squares: self.squares() * (length * length) as f32,
        }
    }

    fn rotate<'a>(&self, vector: &[f32], workspace: &'a mut Workspace) -> &'a mut [f32] {
        let Workspace { vector: turned, spare } = workspace;
        turned.clear();
        // all of it at once: what moves as it grows leaves the vector where it was
        turned.reserve(self.rotated);
        turned.extend_from_slice(vector);
        turned.resize(self.rotated, 0.0);
        spare.resize(self.rotated, 0.0);
        (self.kernels.rotate)(&self.signs, turned, spare);
        turned
    }
}

impl Workspace {
    /// Leaves nothing of the last vector.
    pub(super) fn wipe(&mut self) {
        self.vector.as_mut_slice().zeroize();
        self.spare.as_mut_slice().zeroize();
    }

    /// All that it holds.
    #[cfg(test)]
    pub(super) fn parts(&self) -> [&[f32]; 2] {
        [&self.vector, &self.spare]
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        self.wipe();
        #[cfg(test)]
        self.parts().into_iter().for_each(super::tests::let_go);
    }
}

fn length(vector: &[f32]) -> f64 {
    sum(vector, |x| f64::from(x) * f64::from(x)).sqrt()
}

/// What `each` makes of all components, added up in a fixed order: several sums at a time, none of which waits for another.
fn sum(components: &[f32], each: impl Fn(f32) -> f64) -> f64 {
    let mut sums = [0.0_f64; 8];
    let (whole, rest) = components.as_chunks::<8>();
    for part in whole {
        sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += each(*x));
    }
    sums.iter_mut().zip(rest).for_each(|(sum, x)| *sum += each(*x));
    sums.iter().sum()
}

/// The nearest whole number of a small one, ties to even: beyond two to the 23rd a float has no digits after the point.
/// Written so that the compiler needs no call for it.
fn nearest(x: f32) -> f32 {
    const POINTLESS: f32 = (1 << 23) as f32 * 1.5;
    (x + POINTLESS) - POINTLESS
}

/// What one level of rounded components is worth, so that they add up to what the components did: a row that is the question
/// itself, whose signs are those of the question, is then not mistaken by its rounding at all.
fn step(components: &[f32], per_step: f32) -> f64 {
    let levels = sum(components, |x| f64::from(level(x.abs(), per_step)));
    if levels > 0.0 { sum(components, |x| f64::from(x.abs())) / levels } else { 0.0 }
}

fn level(component: f32, per_step: f32) -> f32 {
    nearest((component * per_step).clamp(-LEVEL_MAX, LEVEL_MAX))
}

/// `top / largest`, or nothing where that is no number.
fn inverse(largest: f32, top: f32) -> f32 {
    let inverse = top / largest;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// Rounds a vector to bytes, lifted by `lift`; tells what one unit is worth, and the length of what was lost.
fn write_bytes(vector: &[f32], row: &mut [Line], lift: u8) -> (f32, f32) {
    let largest = vector.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    let per_unit = inverse(largest, BYTE_MAX);
    let (whole, rest) = vector.as_chunks::<LINE_BYTES>();
    let code = |x: f32| (nearest(x * per_unit) as i8 as u8).wrapping_add(lift);
    for (line, part) in row.iter_mut().zip(whole) {
        line.0 = part.map(code);
    }
    if let Some(line) = row.get_mut(whole.len()) {
        line.0 = [lift; LINE_BYTES];
        line.0.iter_mut().zip(rest).for_each(|(byte, x)| *byte = code(*x));
    }
    let unit = if per_unit > 0.0 { largest / BYTE_MAX } else { 0.0 };
    let kept = row.iter().flat_map(|line| line.0).map(|byte| byte.wrapping_sub(lift) as i8);
    (unit, lost(vector, kept, unit))
}

/// The length of the difference between a vector and whole multiples of a unit; never less than it is.
fn lost(vector: &[f32], kept: impl Iterator<Item = i8>, unit: f32) -> f32 {
    let unit = f64::from(unit);
    let parts = vector.iter().zip(kept).map(|(x, byte)| f64::from(*x) - unit * f64::from(byte));
    let length = parts.map(|x| x * x).sum::<f64>().sqrt();
    (length * (1.0 + f64::from(f32::EPSILON))) as f32 + f32::MIN_POSITIVE
}

/// The three bit planes of whole numbers from -4 to 3.
fn planes(components: &[f32; LINE_BITS]) -> Planes {
    let mut planes = [Line::default(); 3];
    let [p0, p1, p2] = &mut planes;
    let bytes = p0.0.iter_mut().zip(&mut p1.0).zip(&mut p2.0);
    for (((b0, b1), b2), components) in bytes.zip(components.as_chunks::<8>().0) {
        for (bit, x) in (0..).zip(components) {
            let level = *x as i8;
            *b0 |= (level as u8 & 1) << bit;
            *b1 |= ((level >> 1) as u8 & 1) << bit;
            *b2 |= ((level >> 2) as u8 & 1) << bit;
        }
    }
    planes
}

/// Puts factor and bias at the end of a row, each as the upper half of an f32.
fn write_tail(row: &mut [Line], factor: f32, bias: f32) {
    let (factor, bias) = (upper_half(factor), upper_half(bias));
    if let Some(tail) = row.last_mut().and_then(|line| line.0.last_chunk_mut()) {
        *tail = (u32::from(factor) | (u32::from(bias) << 16)).to_le_bytes();
    }
}

/// The upper half of an f32, rounded up: no row is made to seem further than it is.
fn upper_half(x: f32) -> u16 {
    let bits = x.to_bits();
    // what is cut off brings a negative number nearer to zero: up already
    let up = bits & 0xFFFF != 0 && x > 0.0;
    ((bits >> 16) + u32::from(up)) as u16
}

/// The next of an endless row of random signs, as the sign bit of an f32 (splitmix64).
fn sign(dice: &mut u64) -> u32 {
    *dice = dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *dice;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 63 << 31) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_never_less_than_the_whole() {
        for x in [0.0, 1.0, 1.000_001, 3.3e-30, 8e15, -0.0, -1.0, -1.000_001, -8e15, f32::NEG_INFINITY] {
            let half = f32::from_bits(u32::from(upper_half(x)) << 16);
            assert!(half >= x && (half == x || (half - x).abs() <= x.abs() / 64.0), "{x} became {half}");
        }
    }

    #[test]
    fn codes_stay_what_they_are_as_long_as_the_version_does() {
        let codec = Codec::new(100, Metric::Euclidean, Kernels::best());
        let vector: Vec<f32> = (0..100).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let (mut bytes, mut bits) = ([Line::default(); 2], [Line::default(); 1]);
        codec.write_bits(&vector, &mut bits, &mut Workspace::default());
        let scale = codec.write_bytes(&vector, &mut bytes);
        let sum = |lines: &[Line]| {
            let bytes = lines.iter().flat_map(|line| line.0);
            bytes.fold(0xCBF2_9CE4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
        };
        assert_eq!(
            (VERSION, sum(&bytes), sum(&bits), scale.scale),
            (2, 0x1333_DDA0_5754_EFB9, 0x58D8_3381_B34D_F78B, 1.0 / 127.0)
        );
    }
}
