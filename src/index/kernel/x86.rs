//! Kernels for x86-64 beyond its baseline: the only file that may hold `unsafe`, and only for two things.
//!
//! 1. *Calls of functions with `#[target_feature]`.* Each table is handed out by a function that asks the processor for
//!    every feature first, and the wrappers in it can be reached in no other way.
//! 2. *Loads and stores of vector registers*, through the helpers at the end, each from or to a reference of the size
//!    (and for `Line` the alignment) that the instruction needs.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{BitQuery, Kernels, LINE_BYTES, Level, Line, Planes, Stretch, portable, tail};

/// The kernels for AVX2, where the processor has it.
pub(super) fn avx2() -> Option<Kernels> {
    let there = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt");
    there.then_some(Kernels {
        level: Level::Avx2,
        // SAFETY: the processor has the features, it was asked just now.
        estimate: |query, stretch, rows, soon, out| unsafe { estimate_avx2(query, stretch, rows, soon, out) },
        // SAFETY: as above.
        multiply: |query, stretch, rows, soon, out| unsafe { multiply_avx2(query, stretch, rows, soon, out) },
        // SAFETY: as above.
        rotate: |signs, vector, spare| unsafe { rotate_avx2(signs, vector, spare) },
    })
}

/// The kernels for AVX-512, where the processor has all parts of it that they use.
pub(super) fn avx512() -> Option<Kernels> {
    let there = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512bitalg");
    there.then_some(Kernels {
        level: Level::Avx512,
        // SAFETY: the processor has the features, it was asked just now.
        estimate: |query, stretch, rows, soon, out| unsafe { estimate_avx512(query, stretch, rows, soon, out) },
        // SAFETY: as above.
        multiply: |query, stretch, rows, soon, out| unsafe { multiply_avx512(query, stretch, rows, soon, out) },
        // SAFETY: as above.
        rotate: |signs, vector, spare| unsafe { rotate_avx512(signs, vector, spare) },
    })
}

/// One loop for each width that a row can have: what is known beforehand stays in registers.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bitalg")]
fn estimate_avx512(query: &BitQuery, stretch: Stretch<'_>, rows: &[u32], soon: &[u32], out: &mut [f32]) {
    match query.planes.len() {
        1 => estimate_wide::<1>(query, stretch, rows, soon, out),
        2 => estimate_wide::<2>(query, stretch, rows, soon, out),
        4 => estimate_wide::<4>(query, stretch, rows, soon, out),
        8 => estimate_wide::<8>(query, stretch, rows, soon, out),
        16 => estimate_wide::<16>(query, stretch, rows, soon, out),
        _ => (portable::KERNELS.estimate)(query, stretch, rows, soon, out),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bitalg")]
fn estimate_wide<const LINES: usize>(
    query: &BitQuery,
    stretch: Stretch<'_>,
    rows: &[u32],
    soon: &[u32],
    out: &mut [f32],
) {
    let Some(planes) = query.planes.first_chunk::<LINES>() else { return };
    let (all, _) = stretch.lines.as_chunks();
    let mut soon = soon.chunks(8);
    for (rows, out) in rows.chunks(8).zip(out.chunks_mut(8)) {
        let soon = soon.next().unwrap_or_default();
        match run_of_eight(all, soon, stretch.first) {
            Some(eight) => eight.as_flattened().iter().for_each(prefetch),
            None => soon.iter().for_each(|row| stretch.prefetch(*row)),
        }
        let eight = match run_of_eight(all, rows, stretch.first) {
            Some(eight) => eight.each_ref(),
            None => scattered_eight(all, rows, stretch.first),
        };
        let scores = store_eight(estimate_eight(query, planes, eight));
        match out.first_chunk_mut() {
            Some(out) if rows.len() == 8 => *out = scores,
            _ => out.iter_mut().zip(scores).take(rows.len()).for_each(|(out, score)| *out = score),
        }
    }
}

/// Eight rows, if they follow one another.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn run_of_eight<'a, const LINES: usize>(
    all: &'a [[Line; LINES]],
    rows: &[u32],
    first: u32,
) -> Option<&'a [[Line; LINES]; 8]> {
    let eight = rows.first_chunk::<8>()?;
    let from = *eight.first()?;
    let steps = _mm256_sub_epi32(load_eight(eight), _mm256_set1_epi32(from as i32));
    let follow = _mm256_cmpeq_epi32_mask(steps, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) == u8::MAX;
    if follow { all.get(from.wrapping_sub(first) as usize..)?.first_chunk() } else { None }
}

/// Up to eight rows, and blank ones for those that are not there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn scattered_eight<'a, const LINES: usize>(
    all: &'a [[Line; LINES]],
    rows: &[u32],
    first: u32,
) -> [&'a [Line; LINES]; 8] {
    let mut eight = [const { &[Line([0; LINE_BYTES]); LINES] }; 8];
    for (place, row) in eight.iter_mut().zip(rows) {
        if let Some(row) = all.get(row.wrapping_sub(first) as usize) {
            *place = row;
        }
    }
    eight
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bitalg")]
fn estimate_eight<const LINES: usize>(query: &BitQuery, planes: &[Planes; LINES], rows: [&[Line; LINES]; 8]) -> __m256 {
    let weights = [1, 2, -4].map(|weight| _mm512_set1_epi8(weight));
    let sum = |row: &[Line; LINES]| {
        let mut sum = _mm512_setzero_si512();
        for (line, planes) in row.iter().zip(planes) {
            let line = load(line);
            for (plane, weight) in planes.iter().zip(weights) {
                sum = _mm512_dpbusd_epi32(sum, _mm512_popcnt_epi8(_mm512_and_si512(line, load(plane))), weight);
            }
        }
        sum
    };
    let [a, b, c, d, e, f, g, h] = rows;
    let sums = sum_eight([sum(a), sum(b), sum(c), sum(d), sum(e), sum(f), sum(g), sum(h)]);
    let tails = _mm256_setr_epi32(
        tail_of(a),
        tail_of(b),
        tail_of(c),
        tail_of(d),
        tail_of(e),
        tail_of(f),
        tail_of(g),
        tail_of(h),
    );
    let factor = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(tails));
    let bias = _mm256_castsi256_ps(_mm256_and_si256(tails, _mm256_set1_epi32(0xFFFF_0000_u32 as i32)));
    let products = _mm256_mul_ps(_mm256_set1_ps(query.unit), _mm256_cvtepi32_ps(sums));
    let near = _mm256_add_ps(products, _mm256_set1_ps(query.offset));
    _mm256_add_ps(_mm256_mul_ps(factor, near), bias)
}

fn tail_of<const LINES: usize>(row: &[Line; LINES]) -> i32 {
    (tail(row) >> 32) as i32
}

/// The sum of each of eight vectors of 32-bit numbers, which are so small that two of them add up within 16 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn sum_eight(sums: [__m512i; 8]) -> __m256i {
    let [a, b, c, d, e, f, g, h] = sums;
    let ones = _mm512_set1_epi16(1);
    let by_two = |x, y| _mm512_madd_epi16(_mm512_packs_epi32(x, y), ones);
    let abcd = by_two(by_two(a, b), by_two(c, d));
    let efgh = by_two(by_two(e, f), by_two(g, h));
    let even = _mm512_shuffle_i32x4::<0x88>(abcd, efgh);
    let odd = _mm512_shuffle_i32x4::<0xDD>(abcd, efgh);
    let half = _mm512_add_epi32(even, odd);
    let whole = _mm512_add_epi32(half, _mm512_shuffle_i32x4::<0xB1>(half, half));
    _mm512_castsi512_si256(_mm512_shuffle_i32x4::<0x08>(whole, whole))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bitalg")]
fn multiply_avx512(query: &[Line], stretch: Stretch<'_>, rows: &[u32], soon: &[u32], out: &mut [i32]) {
    let mut soon = soon.chunks(4);
    for (rows, out) in rows.chunks(4).zip(out.chunks_mut(4)) {
        soon.next().unwrap_or_default().iter().for_each(|row| stretch.prefetch(*row));
        let mut four = [u32::MAX; 4];
        four.iter_mut().zip(rows).for_each(|(place, row)| *place = *row);
        let products = multiply_four(query, stretch, &four);
        out.iter_mut().zip(products).take(rows.len()).for_each(|(out, product)| *out = product);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bitalg")]
fn multiply_four(query: &[Line], stretch: Stretch<'_>, rows: &[u32; 4]) -> [i32; 4] {
    let sum = |row: u32| {
        let lines = stretch.row(row).iter().zip(query);
        lines.fold(_mm512_setzero_si512(), |sum, (line, query)| _mm512_dpbusd_epi32(sum, load(line), load(query)))
    };
    let [a, b, c, d] = *rows;
    let (a, b, c, d) = (sum(a), sum(b), sum(c), sum(d));
    let by_two = |x, y| _mm512_add_epi32(_mm512_unpacklo_epi32(x, y), _mm512_unpackhi_epi32(x, y));
    let (ab, cd) = (by_two(a, b), by_two(c, d));
    let abcd = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let half = _mm256_add_epi32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64::<1>(abcd));
    store_four(_mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half)))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn rotate_avx512(signs: &[Vec<u32>], vector: &mut Vec<f32>, spare: &mut Vec<f32>) {
    portable::rotate(signs, vector, spare);
}

#[target_feature(enable = "avx2,popcnt")]
fn estimate_avx2(query: &BitQuery, stretch: Stretch<'_>, rows: &[u32], soon: &[u32], out: &mut [f32]) {
    let mut soon = soon.iter();
    for (row, out) in rows.iter().zip(out) {
        soon.next().into_iter().for_each(|row| stretch.prefetch(*row));
        let row = stretch.row(*row);
        let mut sum = _mm256_setzero_si256();
        for (line, [p0, p1, p2]) in row.iter().zip(&query.planes) {
            let (low, high) = halves(line);
            let (p0, p1, p2) = (halves(p0), halves(p1), halves(p2));
            sum = _mm256_add_epi64(sum, half_product(low, [p0.0, p1.0, p2.0]));
            sum = _mm256_add_epi64(sum, half_product(high, [p0.1, p1.1, p2.1]));
        }
        let pair = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
        let product = _mm_extract_epi64::<0>(pair) + _mm_extract_epi64::<1>(pair);
        let tail = tail(row) >> 32;
        let (factor, bias) = (f32::from_bits((tail as u32) << 16), f32::from_bits(tail as u32 & 0xFFFF_0000));
        *out = factor * (query.unit * product as f32 + query.offset) + bias;
    }
}

/// The product of half a line with its part of the planes, as four numbers to be added.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn half_product(line: __m256i, planes: [__m256i; 3]) -> __m256i {
    let [p0, p1, p2] = planes;
    let count = |plane| byte_counts(_mm256_and_si256(line, plane));
    let twice = |x| _mm256_add_epi8(x, x);
    // of each byte between -32 and 24: lifted by 32, so that the bytes can be added as unsigned
    let upper = _mm256_sub_epi8(count(p1), twice(count(p2)));
    let bytes = _mm256_add_epi8(count(p0), twice(upper));
    let lifted = _mm256_add_epi8(bytes, _mm256_set1_epi8(32));
    _mm256_sub_epi64(_mm256_sad_epu8(lifted, _mm256_setzero_si256()), _mm256_set1_epi64x(32 * 8))
}

/// How many bits each byte has, looked up for each of its halves.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn byte_counts(bytes: __m256i) -> __m256i {
    #[rustfmt::skip]
    let counts = _mm256_setr_epi8(
        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
    );
    let nibble = _mm256_set1_epi8(15);
    let low = _mm256_shuffle_epi8(counts, _mm256_and_si256(bytes, nibble));
    let high = _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), nibble));
    _mm256_add_epi8(low, high)
}

#[target_feature(enable = "avx2,popcnt")]
fn multiply_avx2(query: &[Line], stretch: Stretch<'_>, rows: &[u32], soon: &[u32], out: &mut [i32]) {
    let mut soon = soon.iter();
    for (row, out) in rows.iter().zip(out) {
        soon.next().into_iter().for_each(|row| stretch.prefetch(*row));
        let (mut even, mut odd) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for (line, query) in stretch.row(*row).iter().zip(query) {
            let ((x0, x1), (q0, q1)) = (halves(line), halves(query));
            even = _mm256_add_epi32(even, sixteenths(x0, q0));
            odd = _mm256_add_epi32(odd, sixteenths(x1, q1));
        }
        let sum = _mm256_add_epi32(even, odd);
        let four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
        *out = store_four(four).into_iter().sum();
    }
}

/// Products of unsigned with signed bytes, added four by four; in 16 bits, where they do not saturate.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn sixteenths(x: __m256i, q: __m256i) -> __m256i {
    let (x0, x1) = (_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
    let (q0, q1) = (_mm256_castsi256_si128(q), _mm256_extracti128_si256::<1>(q));
    let low = _mm256_madd_epi16(_mm256_cvtepu8_epi16(x0), _mm256_cvtepi8_epi16(q0));
    let high = _mm256_madd_epi16(_mm256_cvtepu8_epi16(x1), _mm256_cvtepi8_epi16(q1));
    _mm256_add_epi32(low, high)
}

#[target_feature(enable = "avx2,popcnt")]
fn rotate_avx2(signs: &[Vec<u32>], vector: &mut Vec<f32>, spare: &mut Vec<f32>) {
    portable::rotate(signs, vector, spare);
}

/// Asks for the cache line of what will be read soon. Every x86-64 can.
#[inline(always)]
pub(super) fn prefetch<T>(soon: &T) {
    // SAFETY: a hint; it reads nothing, and the reference is to memory of ours.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(soon).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(line: &Line) -> __m512i {
    // SAFETY: a line is 64 bytes on a boundary of 64, and initialised.
    unsafe { _mm512_load_si512(std::ptr::from_ref(line).cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn halves(line: &Line) -> (__m256i, __m256i) {
    let halves: *const __m256i = std::ptr::from_ref(line).cast();
    // SAFETY: a line is 64 bytes on a boundary of 64, and initialised: two vectors of 32 bytes, each on a boundary of 32.
    unsafe { (_mm256_load_si256(halves), _mm256_load_si256(halves.add(1))) }
}

#[inline]
#[target_feature(enable = "avx")]
fn load_eight(numbers: &[u32; 8]) -> __m256i {
    // SAFETY: the array has eight numbers of 32 bits; this load needs no alignment.
    unsafe { _mm256_loadu_si256(numbers.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx")]
fn store_eight(vector: __m256) -> [f32; 8] {
    let mut eight = [0.0; 8];
    // SAFETY: the array has room for eight floats; this store needs no alignment.
    unsafe { _mm256_storeu_ps(eight.as_mut_ptr(), vector) };
    eight
}

#[inline]
#[target_feature(enable = "sse2")]
fn store_four(vector: __m128i) -> [i32; 4] {
    let mut four = [0; 4];
    // SAFETY: the array has room for four numbers of 32 bits; this store needs no alignment.
    unsafe { _mm_storeu_si128(four.as_mut_ptr().cast(), vector) };
    four
}
