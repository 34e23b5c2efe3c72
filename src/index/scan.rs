//! The scan: permitted rows, and no other. Codes first where there are many, and every score from the vectors themselves.
//!
//! A row's code tells the highest score that the row may well have. A pass over codes keeps the best by that; the next
//! pass asks those more exactly; and where the answer does not lie clearly above all that was left out, what may lie
//! above it is gone through as well. Which rows are looked at how closely is a function of the question and the
//! permitted rows: neither their order nor any other row has a part in it.

use std::cell::Cell;

use roaring::{RoaringBitmap, bitmap::Iter};

use super::{
    Hit, Tie,
    codec::{ByteQuery, Workspace},
    columns::{Codes, Columns},
    kernel::{BitQuery, Kernel, Kernels, Line, Stretch},
    planner::{Effort, Pass},
    rows::Rows,
    share,
    top::{Top, nearest_first, reaching},
};
use crate::model::Slot;

/// Rows that are handed to a kernel at a time.
const BLOCK: usize = 64;
/// Finalists that are scored before the bar is looked at again.
const AT_A_TIME: usize = 8;
/// Hits that a thread keeps memory for between searches.
const KEPT_HITS: usize = 1 << 16;

/// How many permitted rows were looked at, and how closely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Codes of a bit a component.
    pub bits: u64,
    /// Codes of a byte a component.
    pub bytes: u64,
    /// Vectors.
    pub exact: u64,
}

/// A question to permitted rows.
#[derive(Clone, Copy)]
pub(super) struct Scan<'a> {
    pub(super) columns: &'a Columns,
    pub(super) kernels: Kernels,
    pub(super) kernel: Kernel,
    pub(super) query: &'a [f32],
    pub(super) k: usize,
    pub(super) tie: Tie<'a>,
}

/// What a search writes on; each thread keeps its own for the next one.
#[derive(Default)]
struct Scratch {
    bits: BitQuery,
    bytes: ByteQuery,
    workspace: Workspace,
    candidates: Vec<Hit>,
    near: Vec<Hit>,
    slots: Vec<u32>,
    hits: Vec<Hit>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

impl<'a> Scan<'a> {
    /// The best of the permitted rows, nearest first.
    pub(super) fn run(&self, permitted: &RoaringBitmap, effort: Effort) -> (Vec<Hit>, Work) {
        let mut work = Work::default();
        let mut scratch = SCRATCH.take();
        let top = match (effort.pass(permitted.len(), self.k), &self.columns.codes) {
            (Pass::Exact, _) | (_, None) => {
                let top = self.gather(&mut scratch.hits);
                self.exact(permitted.iter(), top, &mut work)
            }
            (Pass::Bytes, Some(codes)) => self.bytes(codes, permitted, effort, &mut scratch, &mut work),
            (Pass::Bits, Some(codes)) => self.bits(codes, permitted, effort, &mut scratch, &mut work),
        };
        let (hits, memory) = top.into_answer();
        scratch.hits = memory;
        scratch.hits.shrink_to(KEPT_HITS);
        scratch.candidates.shrink_to(KEPT_HITS);
        scratch.near.shrink_to(KEPT_HITS);
        scratch.slots.shrink_to(KEPT_HITS);
        SCRATCH.set(scratch);
        (hits, work)
    }

    /// An answer that is yet to be found, in memory that is kept.
    fn gather(&self, memory: &mut Vec<Hit>) -> Top<'a> {
        Top::above(f32::NEG_INFINITY, self.k, self.tie, std::mem::take(memory))
    }

    /// Scores the vectors of live slots into `top`.
    pub(super) fn exact(&self, mut slots: Iter<'_>, mut top: Top<'a>, work: &mut Work) -> Top<'a> {
        let rows = &self.columns.exact;
        while let Some(run) = slots.next_range() {
            let (from, to) = run.into_inner();
            rows.stretches(from..to.saturating_add(1), |first, floats| {
                for (slot, row) in (first..).zip(floats.chunks_exact(rows.width())) {
                    top.offer(slot, self.kernel.score(self.query, row));
                    work.exact += 1;
                }
            });
        }
        top
    }

    /// All by their bytes, then the best by their vectors.
    fn bytes(
        &self,
        codes: &Codes,
        permitted: &RoaringBitmap,
        effort: Effort,
        scratch: &mut Scratch,
        work: &mut Work,
    ) -> Top<'a> {
        let Scratch { bytes: asked, near, hits, .. } = scratch;
        codes.codec.ask_bytes(self.query, asked);
        near.clear();
        let mut slots = permitted.iter();
        self.upper_by_bytes(codes, asked, |block| slots.next_many(block).len(), near);
        work.bytes += near.len() as u64;
        let top = self.gather(hits);
        self.refine(near, top, effort, work)
    }

    /// All by their bits, then the best by their bytes, then the best of those by their vectors.
    fn bits(
        &self,
        codes: &Codes,
        permitted: &RoaringBitmap,
        effort: Effort,
        scratch: &mut Scratch,
        work: &mut Work,
    ) -> Top<'a> {
        let doubt = codes.codec.ask_bits(self.query, &mut scratch.bits, &mut scratch.workspace);
        codes.codec.ask_bytes(self.query, &mut scratch.bytes);
        let above = |bar, k, memory| Top::above(bar, k, self.tie, memory);

        let wide = above(f32::MIN, effort.candidates(permitted.len(), self.k), std::mem::take(&mut scratch.candidates));
        let (mut wide, read) = self.sweep(codes, &scratch.bits, permitted, wide);
        work.bits += read;
        let left_out = wide.left_out();
        scratch.candidates = wide.into_unordered();
        let mut top = self.among_candidates(codes, effort, scratch, work);

        let last = top.last().unwrap_or(f32::MIN);
        if left_out.is_some_and(|left_out| doubt.may_reach(left_out, last)) {
            let bar = doubt.sharpen(&mut scratch.bits, last);
            let all = above(bar, usize::MAX, std::mem::take(&mut scratch.candidates));
            let (all, read) = self.sweep(codes, &scratch.bits, permitted, all);
            work.bits += read;
            scratch.candidates = all.into_unordered();
            scratch.hits = top.into_unordered();
            top = self.among_candidates(codes, effort, scratch, work);
        }
        top
    }

    /// The best of the candidates in `scratch`, by their bytes, then by their vectors.
    fn among_candidates(&self, codes: &Codes, effort: Effort, scratch: &mut Scratch, work: &mut Work) -> Top<'a> {
        let Scratch { bytes: asked, candidates, near, slots, hits, .. } = scratch;
        slots.clear();
        slots.extend(candidates.iter().map(|hit| hit.slot.0));
        slots.sort_unstable();
        near.clear();
        let mut rest = slots.as_slice();
        let next = |block: &mut [u32]| {
            let (first, beyond) = rest.split_at(block.len().min(rest.len()));
            block.iter_mut().zip(first).for_each(|(place, slot)| *place = *slot);
            rest = beyond;
            first.len()
        };
        self.upper_by_bytes(codes, asked, next, near);
        work.bytes += near.len() as u64;
        let top = self.gather(hits);
        self.refine(near, top, effort, work)
    }

    /// Scores the vectors of the best of `near`, then of others from the best on, until none may be as near as the last of
    /// the answer.
    fn refine(&self, near: &mut [Hit], mut top: Top<'a>, effort: Effort, work: &mut Work) -> Top<'a> {
        let first = nearest_first(near, effort.finalists(self.k), self.tie).len();
        let (first, rest) = near.split_at_mut(first);
        first.iter().for_each(|hit| self.score(hit.slot, &mut top, work));
        let mut last = top.last().unwrap_or(f32::NEG_INFINITY);
        for part in reaching(rest, last, self.tie).chunks(AT_A_TIME) {
            if part.first().is_some_and(|best| best.score < last) {
                break;
            }
            part.iter().for_each(|hit| self.score(hit.slot, &mut top, work));
            last = top.last().unwrap_or(f32::NEG_INFINITY);
        }
        top
    }

    fn score(&self, slot: Slot, top: &mut Top<'_>, work: &mut Work) {
        if let Some(row) = self.columns.exact.row(slot.0) {
            top.offer(slot.0, self.kernel.score(self.query, row));
            work.exact += 1;
        }
    }

    /// Appends the live ones of ascending slots, each with the highest score that it may well have by its bytes.
    fn upper_by_bytes(
        &self,
        codes: &Codes,
        asked: &ByteQuery,
        next: impl FnMut(&mut [u32]) -> usize,
        near: &mut Vec<Hit>,
    ) {
        let mut products = [0; BLOCK];
        each_block(&codes.bytes, next, |stretch, slots| {
            (self.kernels.multiply)(&asked.lines, stretch, slots, &mut products);
            for (slot, product) in slots.iter().zip(products) {
                let score = asked.upper(product, codes.scale(*slot));
                if score > f32::NEG_INFINITY {
                    near.push(Hit { slot: Slot(*slot), score });
                }
            }
        });
    }

    /// Offers permitted rows with the highest scores that they may well have by their bits; tells how many were read.
    /// On several cores, if there are enough rows and cores with nothing to do.
    fn sweep(&self, codes: &Codes, asked: &BitQuery, permitted: &RoaringBitmap, top: Top<'a>) -> (Top<'a>, u64) {
        let part = |slots: Iter<'_>, top: &mut Top<'a>| self.sweep_part(codes, asked, slots, top);
        share::among_cores(permitted, top, part, Top::absorb)
    }

    fn sweep_part(&self, codes: &Codes, asked: &BitQuery, mut slots: Iter<'_>, top: &mut Top<'_>) -> u64 {
        let mut scores = [f32::NEG_INFINITY; BLOCK];
        let mut read = 0;
        each_block(
            &codes.bits,
            |block| slots.next_many(block).len(),
            |stretch, slots| {
                (self.kernels.estimate)(asked, stretch, slots, &mut scores);
                read += slots.len() as u64;
                // mostly none is worth a closer look: asked of all at once, without a branch for each
                let bar = top.bar();
                if scores.iter().fold(false, |any, score| any | (*score >= bar)) {
                    slots.iter().zip(scores).for_each(|(slot, score)| top.offer(*slot, score));
                }
            },
        );
        read
    }
}

/// Takes ascending slots from `next`, which fills a block and tells how far, and calls `each` with them and the piece of
/// memory that they lie in. A block of scattered slots is asked of memory while the one before it is worked on; memory
/// foresees a run by itself.
#[inline(always)]
fn each_block(rows: &Rows<Line>, mut next: impl FnMut(&mut [u32]) -> usize, mut each: impl FnMut(Stretch<'_>, &[u32])) {
    let (mut block, mut ahead) = ([0; BLOCK], [0; BLOCK]);
    let mut filled = next(&mut block);
    while let Some(now) = block.get(..filled).filter(|now| !now.is_empty()) {
        let more = next(&mut ahead);
        let soon = ahead.get(..more).unwrap_or_default();
        if !is_run(soon) {
            each_stretch(rows, soon, |stretch, slots| stretch.prefetch(slots));
        }
        each_stretch(rows, now, &mut each);
        std::mem::swap(&mut block, &mut ahead);
        filled = more;
    }
}

fn is_run(slots: &[u32]) -> bool {
    matches!((slots.first(), slots.last()), (Some(first), Some(last)) if (last - first) as usize == slots.len() - 1)
}

/// Calls `each` with ascending slots, as many at a time as lie in one piece of memory, and that piece. Slots without a
/// row are left out.
#[inline(always)]
fn each_stretch(rows: &Rows<Line>, mut slots: &[u32], mut each: impl FnMut(Stretch<'_>, &[u32])) {
    while let Some(first) = slots.first() {
        let Some((range, lines)) = rows.chunk(*first) else { return };
        let ends_here = slots.last().is_some_and(|last| *last < range.end);
        let count = if ends_here { slots.len() } else { slots.partition_point(|slot| *slot < range.end) };
        let (here, beyond) = slots.split_at(count);
        if here.is_empty() {
            return;
        }
        each(Stretch { first: range.start, stride: rows.width(), lines }, here);
        slots = beyond;
    }
}

/// Where this thread's memory for searches is, and how much of it: for a test that it is used again.
#[cfg(test)]
pub(super) fn kept() -> [(usize, usize); 5] {
    let scratch = SCRATCH.take();
    let of = |hits: &Vec<Hit>| (hits.as_ptr() as usize, hits.capacity());
    let lines = (scratch.bytes.lines.as_ptr() as usize, scratch.bytes.lines.capacity());
    let planes = (scratch.bits.planes.as_ptr() as usize, scratch.bits.planes.capacity());
    let kept = [of(&scratch.candidates), of(&scratch.near), of(&scratch.hits), lines, planes];
    SCRATCH.set(scratch);
    kept
}
