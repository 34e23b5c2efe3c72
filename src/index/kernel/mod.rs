//! Arithmetic on rows and codes: the only code that knows which processor it runs on.
//!
//! Every level gives the same bits: codes are integers, and the few f32 operations are done in one order and never
//! fused. So an answer does not depend on the machine.

mod exact;
mod portable;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

use zeroize::DefaultIsZeroes;

pub(super) use exact::Kernel;

/// A cache line of codes: what rows of codes are made of, so that each begins on one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u8; LINE_BYTES]);

/// Bytes of a line.
pub(super) const LINE_BYTES: usize = 64;
/// Lines of a row that memory is asked for beforehand, at most.
const PREFETCHED_LINES: usize = 8;
/// Bits of a line.
pub(super) const LINE_BITS: usize = LINE_BYTES * 8;

impl Default for Line {
    fn default() -> Self {
        Self([0; LINE_BYTES])
    }
}

impl DefaultIsZeroes for Line {}

/// Rows of codes that lie together in memory.
#[derive(Clone, Copy)]
pub(super) struct Stretch<'a> {
    /// The number of the first row.
    pub(super) first: u32,
    /// Lines of a row.
    pub(super) stride: usize,
    /// All rows, end to end.
    pub(super) lines: &'a [Line],
}

impl<'a> Stretch<'a> {
    /// A row by its number; none that this stretch does not hold.
    #[inline(always)]
    fn row(&self, number: u32) -> &'a [Line] {
        let at = (number.wrapping_sub(self.first) as usize).wrapping_mul(self.stride);
        self.lines.get(at..at.wrapping_add(self.stride)).unwrap_or_default()
    }
}

impl Stretch<'_> {
    /// Asks memory for the first lines of a row that will be read soon: further ones it foresees.
    #[inline(always)]
    fn prefetch(&self, row: u32) {
        self.row(row).iter().take(PREFETCHED_LINES).for_each(prefetch);
    }
}

/// Asks memory for what will be read soon.
#[inline(always)]
pub(super) fn prefetch<T>(soon: &T) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch(soon);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = soon;
}

/// The three bit planes of a part of a query, as many bits as a line has: the values of its components are
/// `p0 + 2 p1 - 4 p2`. Three and not four: to count bits is what a pass over bits takes its time for, and the fourth plane takes a
/// thirtieth to a fifteenth off the spread of what it errs by.
pub(super) type Planes = [Line; 3];

/// A question to 1-bit codes.
#[derive(Debug, Clone, Default)]
pub(super) struct BitQuery {
    /// Planes for each line of a row. Zero where a row keeps its factor and bias.
    pub(super) planes: Vec<Planes>,
    /// What one unit of the planes' product is worth, for a row of factor 1.
    pub(super) unit: f32,
    /// What is added to the product, for a row of factor 1.
    pub(super) offset: f32,
}

/// `factor * (unit * product + offset) + bias` of each of the rows: what [`super::codec`] makes of a 1-bit code. A row
/// that the stretch does not hold has no factor and no bias. There may be more room for answers than rows. The second rows
/// are asked of memory while the first are worked on, one for one.
type Estimate = fn(&BitQuery, Stretch<'_>, &[u32], &[u32], &mut [f32]);

/// The product of a query (signed bytes) with each of the rows (unsigned bytes), exact. The second rows as above.
type Multiply = fn(&[Line], Stretch<'_>, &[u32], &[u32], &mut [i32]);

/// Signs, then a Walsh-Hadamard transform without scaling, as many times as there are rounds of signs. The second
/// buffer is of the same length, a power of two; the answer is in the first.
type Rotate = fn(&[Vec<u32>], &mut Vec<f32>, &mut Vec<f32>);

/// What a processor can do beyond what every one of its kind can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Nothing is taken for granted. On ARM the compiler makes NEON of it.
    Portable,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX-512, its byte products (VNNI) and its bit counts (BITALG).
    Avx512,
}

/// The kernels of one level.
#[derive(Clone, Copy)]
pub(super) struct Kernels {
    pub(super) level: Level,
    pub(super) estimate: Estimate,
    pub(super) multiply: Multiply,
    pub(super) rotate: Rotate,
}

impl Kernels {
    /// The best that this processor has, found out once.
    pub(super) fn best() -> Self {
        static BEST: OnceLock<Kernels> = OnceLock::new();
        let levels = [Level::Avx512, Level::Avx2];
        *BEST.get_or_init(|| levels.into_iter().find_map(Self::of).unwrap_or(portable::KERNELS))
    }

    /// Those of a level, if this processor has it.
    pub(super) fn of(level: Level) -> Option<Self> {
        match level {
            Level::Portable => Some(portable::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => x86::avx2(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => x86::avx512(),
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx2 | Level::Avx512 => None,
        }
    }
}

/// The last eight bytes of a row: 32 bits of code, then factor and bias, each the upper half of an f32.
#[inline(always)]
fn tail(row: &[Line]) -> u64 {
    row.last().and_then(|line| line.0.last_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
