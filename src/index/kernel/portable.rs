//! Kernels that run everywhere, and that all others are held against.

use super::{BitQuery, Kernels, Level, Line, Stretch, tail};

pub(super) const KERNELS: Kernels = Kernels { level: Level::Portable, estimate, multiply, rotate };

fn estimate(query: &BitQuery, stretch: Stretch<'_>, rows: &[u32], soon: &[u32], out: &mut [f32]) {
    let mut soon = soon.iter();
    for (row, out) in rows.iter().zip(out) {
        soon.next().into_iter().for_each(|row| stretch.prefetch(*row));
        let row = stretch.row(*row);
        let mut product = 0;
        for (line, planes) in row.iter().zip(&query.planes) {
            let [p0, p1, p2] = planes.each_ref().map(|plane| shared_bits(line, plane));
            product += p0 + 2 * p1 - 4 * p2;
        }
        let tail = tail(row) >> 32;
        let (factor, bias) = (f32::from_bits((tail as u32) << 16), f32::from_bits(tail as u32 & 0xFFFF_0000));
        *out = factor * (query.unit * product as f32 + query.offset) + bias;
    }
}

fn shared_bits(a: &Line, b: &Line) -> i32 {
    let words = a.0.as_chunks().0.iter().zip(b.0.as_chunks().0);
    let shared = words.map(|(a, b)| (u64::from_le_bytes(*a) & u64::from_le_bytes(*b)).count_ones());
    shared.sum::<u32>() as i32
}

fn multiply(query: &[Line], stretch: Stretch<'_>, rows: &[u32], soon: &[u32], out: &mut [i32]) {
    let mut soon = soon.iter();
    for (row, out) in rows.iter().zip(out) {
        soon.next().into_iter().for_each(|row| stretch.prefetch(*row));
        let lines = stretch.row(*row).iter().zip(query);
        *out = lines.fold(0, |sum, (line, query)| sum + line_product(line, query));
    }
}

fn line_product(line: &Line, query: &Line) -> i32 {
    let bytes = line.0.iter().zip(&query.0);
    bytes.fold(0_i32, |sum, (x, q)| sum.wrapping_add(i32::from(*x) * i32::from(*q as i8)))
}

/// Compiled into each level anew, with that level's instructions: it is loops over slices, which the compiler makes
/// vectors of.
#[inline(always)]
pub(super) fn rotate(signs: &[Vec<u32>], vector: &mut Vec<f32>, spare: &mut Vec<f32>) {
    for round in signs {
        for (x, sign) in vector.iter_mut().zip(round) {
            *x = f32::from_bits(x.to_bits() ^ sign);
        }
        for _ in 0..vector.len().ilog2() {
            let (low, high) = vector.split_at(vector.len() / 2);
            for (pair, (a, b)) in spare.as_chunks_mut().0.iter_mut().zip(low.iter().zip(high)) {
                *pair = [a + b, a - b];
            }
            std::mem::swap(vector, spare);
        }
    }
}
