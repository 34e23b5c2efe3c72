//! The scan: permitted rows, and no other. Codes first where there are many, and every score from the vectors themselves.
//!
//! A row's code tells the highest score that the row may well have. A pass over codes keeps the best by that; the next
//! pass asks those more exactly; and where the answer does not lie clearly above all that was left out, what may lie
//! above it is gone through as well. Which rows are looked at how closely is a function of the question and the
//! permitted rows: neither their order nor any other row has a part in it.

use std::{
    cell::Cell,
    ops::{AddAssign, Range},
};

use roaring::{RoaringBitmap, bitmap::Iter};
use zeroize::Zeroize;

use super::{
    Hit, Source, Tie,
    codec::{ByteQuery, Workspace},
    columns::{Codes, Columns},
    kernel::{BitQuery, Kernel, Kernels, Line, Stretch},
    planner::{Effort, Pass},
    rows::Rows,
    share::{self, Collect},
    top::{Top, nearest_first, reaching},
};
use crate::model::Slot;

/// Rows that are handed to a kernel at a time.
const BLOCK: usize = 1_024;
/// Answers that are looked through without a branch for each, as mostly none is worth a closer look.
const GLANCE: usize = 64;
/// Rows of bits that memory is asked for before they are worked on, and rows of bytes, which are longer.
const AHEAD: (usize, usize) = (32, 8);
/// Slots of a run that is worth asking for its end.
const RUN: usize = 32;
/// Finalists that are scored before the bar is looked at again.
const AT_A_TIME: usize = 8;
/// Hits that a thread keeps memory for between searches.
const KEPT_HITS: usize = 1 << 16;
/// Rows that a thread keeps memory for what their bits said.
const KEPT_ROWS: usize = 1 << 20;

/// How many rows were looked at, and how closely: counted where they are handed to a kernel, a block at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Codes of a bit a component.
    pub bits: u64,
    /// Codes of a byte a component.
    pub bytes: u64,
    /// Vectors.
    pub exact: u64,
    /// Of these, what the first pass looked at, in whatever form: every permitted row once. Where a graph was walked, and what the walk
    /// read.
    pub first: u64,
}

impl AddAssign for Work {
    fn add_assign(&mut self, more: Self) {
        let Self { bits, bytes, exact, first } = more;
        self.bits += bits;
        self.bytes += bytes;
        self.exact += exact;
        self.first += first;
    }
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
    /// What scores lower is not looked for.
    pub(super) bar: f32,
    /// Where vectors are that the columns do not hold.
    pub(super) source: Option<Source<'a>>,
}

/// What a search writes on; each thread keeps its own for the next one.
#[derive(Default)]
struct Scratch {
    bits: BitQuery,
    bytes: ByteQuery,
    workspace: Workspace,
    seen: Seen,
    candidates: Vec<Hit>,
    slots: Vec<u32>,
    scores: Vec<f32>,
    near: Vec<Hit>,
    hits: Vec<Hit>,
}

impl Scratch {
    /// Leaves nothing of the question's components. What was said of rows stays until it is written over.
    fn forget_question(&mut self) {
        self.bits.planes.as_flattened_mut().zeroize();
        self.bytes.lines.as_mut_slice().zeroize();
    }

    /// Gives back memory beyond what a thread keeps between searches.
    fn shrink(&mut self) {
        for hits in [&mut self.hits, &mut self.candidates, &mut self.near] {
            hits.clear();
            hits.shrink_to(KEPT_HITS);
        }
        self.slots.clear();
        self.slots.shrink_to(KEPT_HITS);
        self.scores.clear();
        self.scores.shrink_to(KEPT_HITS);
        self.seen.shrink_to(KEPT_ROWS);
    }
}

/// Where a search ends in its midst too.
impl Drop for Scratch {
    fn drop(&mut self) {
        self.forget_question();
    }
}

/// What bits said of rows, in ascending order, so that they need not be read again for a lower bar.
#[derive(Default)]
struct Seen {
    /// Of this search. There is room for more where an earlier one had more.
    rows: usize,
    slots: Vec<u32>,
    scores: Vec<f32>,
}

/// Rows in ascending order and what was said of each: all of a search, or a part of them, in that part of the memory.
struct Said<'m> {
    slots: &'m mut [u32],
    scores: &'m mut [f32],
}

impl<'m> Said<'m> {
    /// Splits off the first so many.
    fn first(&mut self, rows: usize) -> Self {
        Self { slots: take_first(&mut self.slots, rows), scores: take_first(&mut self.scores, rows) }
    }

    /// Keeps those with such a score that are `wanted` too.
    fn keep(&mut self, scores_enough: impl Fn(f32) -> bool, wanted: impl Fn(u32) -> bool) {
        let slots = Cell::from_mut(&mut *self.slots).as_slice_of_cells();
        let scores = Cell::from_mut(&mut *self.scores).as_slice_of_cells();
        let mut places = slots.iter().zip(scores);
        for (slots, scores) in slots.chunks(GLANCE).zip(scores.chunks(GLANCE)) {
            if any(scores.iter().map(Cell::get), &scores_enough) {
                let said = slots.iter().map(Cell::get).zip(scores.iter().map(Cell::get));
                for (slot, score) in said.filter(|(slot, score)| scores_enough(*score) && wanted(*slot)) {
                    if let Some(place) = places.next() {
                        place.0.set(slot);
                        place.1.set(score);
                    }
                }
            }
        }
        let kept = slots.len() - places.len();
        *self = self.first(kept);
    }

    fn hits(&self) -> impl Iterator<Item = Hit> {
        self.slots.iter().zip(&*self.scores).map(|(slot, score)| Hit { slot: Slot(*slot), score: *score })
    }
}

/// What a first pass over bits collects.
struct Swept<'a, 'm> {
    best: Top<'a>,
    said: Said<'m>,
    looked_at: u64,
}

impl Swept<'_, '_> {
    /// Takes in what another has collected of other rows. What was said of them lies where it belongs.
    fn absorb(&mut self, other: Self) {
        self.best.absorb(other.best);
        self.looked_at += other.looked_at;
    }
}

impl Collect for Swept<'_, '_> {
    fn part(&mut self, rows: usize) -> Self {
        Self { best: self.best.twin(), said: self.said.first(rows), looked_at: 0 }
    }
}

/// What rows are asked that may be as near as the answer so far.
#[derive(Clone, Copy)]
struct Asked<'q> {
    codes: &'q Codes,
    bits: &'q BitQuery,
    bytes: &'q ByteQuery,
    /// What bits must say of a row that may well score `last`.
    above: f32,
    /// The score of the last of the answer.
    last: f32,
}

/// Rows that may well be as near as the answer so far, with what a closer look says of them.
struct Doubtful<'m> {
    said: Said<'m>,
    work: Work,
}

impl Collect for Doubtful<'_> {
    fn part(&mut self, rows: usize) -> Self {
        Self { said: self.said.first(rows), work: Work::default() }
    }
}

impl Seen {
    /// Room for what is said of so many rows.
    fn room(&mut self, rows: usize) -> Said<'_> {
        self.rows = rows;
        if self.slots.len() < rows {
            self.slots.resize(rows, 0);
            self.scores.resize(rows, f32::NEG_INFINITY);
        }
        self.said()
    }

    /// What was said of all rows.
    fn said(&mut self) -> Said<'_> {
        Said { slots: first_mut(&mut self.slots, self.rows), scores: first_mut(&mut self.scores, self.rows) }
    }

    fn shrink_to(&mut self, rows: usize) {
        self.slots.truncate(rows);
        self.scores.truncate(rows);
        self.slots.shrink_to(rows);
        self.scores.shrink_to(rows);
    }
}

fn first_mut<T>(all: &mut [T], count: usize) -> &mut [T] {
    all.get_mut(..count).unwrap_or_default()
}

/// Splits off so many from the beginning, or as many as there are.
fn take_first<'m, T>(from: &mut &'m mut [T], count: usize) -> &'m mut [T] {
    let all = std::mem::take(from);
    let (first, rest) = all.split_at_mut(count.min(all.len()));
    *from = rest;
    first
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

impl<'a> Scan<'a> {
    /// The best of the permitted rows, nearest first.
    pub(super) fn run(&self, permitted: &RoaringBitmap, effort: Effort) -> (Vec<Hit>, Work) {
        let mut work = Work::default();
        let mut scratch = SCRATCH.take();
        let top = match (effort.pass(permitted.len(), self.k, self.bar_is_known()), &self.columns.codes) {
            (Pass::Exact, _) | (_, None) => {
                let top = self.gather(&mut scratch.hits);
                let top = self.exact(permitted.iter(), top, &mut work);
                work.first = work.exact;
                top
            }
            (Pass::Bytes, Some(codes)) => self.bytes(codes, permitted, effort, &mut scratch, &mut work),
            (Pass::BitsAbove, Some(codes)) => self.bits_above(codes, permitted, &mut scratch, &mut work),
            (Pass::Bits, Some(codes)) => self.bits(codes, permitted, effort, &mut scratch, &mut work),
        };
        let (hits, memory) = top.into_answer();
        scratch.forget_question();
        scratch.hits = memory;
        scratch.shrink();
        SCRATCH.set(scratch);
        (hits, work)
    }

    fn bar_is_known(&self) -> bool {
        self.bar > f32::NEG_INFINITY
    }

    /// An answer that is yet to be found, in memory that is kept.
    fn gather(&self, memory: &mut Vec<Hit>) -> Top<'a> {
        Top::above(self.bar, self.k, self.tie, std::mem::take(memory))
    }

    /// Scores the vectors of live slots into `top`.
    pub(super) fn exact(&self, mut slots: Iter<'_>, mut top: Top<'a>, work: &mut Work) -> Top<'a> {
        let rows = &self.columns.exact;
        if rows.are_elsewhere() {
            slots.for_each(|slot| self.score(Slot(slot), &mut top, work));
            return top;
        }
        while let Some(run) = slots.next_range() {
            let (from, to) = run.into_inner();
            rows.stretches(from..to.saturating_add(1), |first, floats| {
                let block = floats.chunks_exact(rows.width());
                work.exact += block.len() as u64;
                (first..).zip(block).for_each(|(slot, row)| top.offer(slot, self.kernel.score(self.query, row)));
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
        let Scratch { bytes: asked, slots, scores, near, hits, .. } = scratch;
        codes.codec.ask_bytes(self.query, asked);
        slots.resize(permitted.len() as usize, 0);
        list(permitted.iter(), slots);
        self.list_by_bytes(codes, asked, slots, scores, near, work);
        work.first = work.bytes;
        let mut top = self.gather(hits);
        if self.bar_is_known() {
            self.refine_down_to(self.bar, near, &mut top, work);
        } else {
            self.refine(near, &mut top, effort, work);
        }
        top
    }

    /// All by their bits, then the best by their bytes, then the best of those by their vectors. Then what was left out and
    /// may well be as near as the last of the answer, in the same way.
    fn bits(
        &self,
        codes: &Codes,
        permitted: &RoaringBitmap,
        effort: Effort,
        scratch: &mut Scratch,
        work: &mut Work,
    ) -> Top<'a> {
        let Scratch { bits, bytes, workspace, seen, candidates, slots, scores, near, hits } = scratch;
        let doubt = codes.codec.ask_bits(self.query, bits, workspace);
        workspace.wipe();
        codes.codec.ask_bytes(self.query, bytes);
        let best = Top::above(f32::MIN, effort.candidates(self.k), self.tie, std::mem::take(candidates));
        let said = seen.room(permitted.len() as usize);
        let mut swept = self.sweep(codes, bits, permitted, Swept { best, said, looked_at: 0 });
        work.bits += swept.looked_at;
        work.first = work.bits;
        let left_out = swept.best.left_out();
        *candidates = swept.best.into_unordered();

        slots.clear();
        slots.extend(candidates.iter().map(|hit| hit.slot.0));
        slots.sort_unstable();
        self.list_by_bytes(codes, bytes, slots, scores, near, work);
        let mut top = self.gather(hits);
        self.refine(near, &mut top, effort, work);
        let last = top.last().unwrap_or(self.bar.max(f32::MIN));
        let reach = doubt.reach(last);
        if left_out.is_some_and(|left_out| reach.admits(left_out)) {
            // of all rows whose bits were seen, those that may well be as near; but for the candidates, of which the answer was made
            let above = doubt.sharpen(bits, last);
            let asked = Asked { codes, bits, bytes, above, last };
            let may_be = |_: Range<usize>, said: &mut Said<'_>| said.keep(|score| reach.admits(score), |_| true);
            let is_new = |slot: u32| slots.binary_search(&slot).is_err();
            self.look_closer(asked, seen.said(), may_be, is_new, near, work);
            self.refine_down_to(last, near, &mut top, work);
        }
        top
    }

    /// All by their bits; what may well reach the bar by its bytes, and what may by them by its vector, from the best on.
    fn bits_above(&self, codes: &Codes, permitted: &RoaringBitmap, scratch: &mut Scratch, work: &mut Work) -> Top<'a> {
        let Scratch { bits, bytes, workspace, seen, near, hits, .. } = scratch;
        let doubt = codes.codec.ask_bits(self.query, bits, workspace);
        workspace.wipe();
        codes.codec.ask_bytes(self.query, bytes);
        let above = doubt.sharpen(bits, self.bar);
        let asked = Asked { codes, bits, bytes, above, last: self.bar };
        let all = |places: Range<usize>, said: &mut Said<'_>| list(share::at_places(permitted, places), said.slots);
        self.look_closer(asked, seen.room(permitted.len() as usize), all, |_| true, near, work);
        work.first = work.bits;
        let mut top = self.gather(hits);
        self.refine_down_to(self.bar, near, &mut top, work);
        top
    }

    /// Lists those rows that may well be near enough by their bits, and may by their bytes, with the highest score that they may have. On
    /// several cores as a sweep is: each begins with what `narrow` leaves of the places in `said` that fall to it.
    fn look_closer(
        &self,
        asked: Asked<'_>,
        said: Said<'_>,
        narrow: impl Fn(Range<usize>, &mut Said<'_>) + Sync,
        is_new: impl Fn(u32) -> bool + Sync,
        near: &mut Vec<Hit>,
        work: &mut Work,
    ) {
        let Asked { codes, bits, bytes, above, last } = asked;
        let look = |places: Range<usize>, into: &mut Doubtful<'_>| {
            let Doubtful { said, work } = into;
            narrow(places, said);
            work.bits += self.estimate(codes, bits, said.slots, said.scores, |_, _| ());
            said.keep(|score| score >= above, &is_new);
            work.bytes += self.upper(codes, bytes, said.slots, said.scores);
            said.keep(|score| score >= last, |_| true);
        };
        near.clear();
        let all = Doubtful { said, work: Work::default() };
        let mut take = |part: Doubtful<'_>| {
            *work += part.work;
            near.extend(part.said.hits());
        };
        let rest = share::among_cores(all.said.slots.len(), all, look, |_, part| take(part));
        take(rest);
    }

    /// Scores the vectors of the best of `near`, then of others from the best on, until none may be as near as the last of
    /// the answer.
    fn refine(&self, near: &mut [Hit], top: &mut Top<'a>, effort: Effort, work: &mut Work) {
        let first = nearest_first(near, effort.finalists(self.k), self.tie).len();
        let (first, rest) = near.split_at_mut(first);
        first.iter().for_each(|hit| self.score(hit.slot, top, work));
        let last = top.last().unwrap_or(self.bar);
        self.refine_down_to(last, rest, top, work);
    }

    /// Scores the vectors of those of `near` that may be as near as `last`, which is the last of the answer so far, from the best on.
    fn refine_down_to(&self, mut last: f32, near: &mut [Hit], top: &mut Top<'a>, work: &mut Work) {
        for part in reaching(near, last, self.tie).chunks(AT_A_TIME) {
            if part.first().is_some_and(|best| best.score < last) {
                break;
            }
            part.iter().for_each(|hit| self.score(hit.slot, top, work));
            last = top.last().unwrap_or(self.bar);
        }
    }

    fn score(&self, slot: Slot, top: &mut Top<'_>, work: &mut Work) {
        let here = self.columns.exact.row(slot.0).map(|row| self.kernel.score(self.query, row));
        let score = here.or_else(|| {
            let vector = self.source?(slot)?;
            Some(self.kernel.score(self.query, vector.components()))
        });
        if let Some(score) = score {
            top.offer(slot.0, score);
            work.exact += 1;
        }
    }

    /// Lists the live ones of ascending slots, each with the highest score that it may have by its bytes.
    fn list_by_bytes(
        &self,
        codes: &Codes,
        asked: &ByteQuery,
        slots: &[u32],
        scores: &mut Vec<f32>,
        near: &mut Vec<Hit>,
        work: &mut Work,
    ) {
        scores.resize(slots.len(), f32::NEG_INFINITY);
        work.bytes += self.upper(codes, asked, slots, scores);
        near.clear();
        let hits = slots.iter().zip(scores).map(|(slot, score)| Hit { slot: Slot(*slot), score: *score });
        near.extend(hits.filter(|hit| hit.score > f32::NEG_INFINITY));
    }

    /// The highest score that each of ascending slots may have by its bytes, whatever was in the place of it. Tells how many were looked at.
    fn upper(&self, codes: &Codes, asked: &ByteQuery, slots: &[u32], scores: &mut [f32]) -> u64 {
        let (mut looked_at, mut products) = (0, [0; GLANCE]);
        let mut ahead = slots.get(AHEAD.1..).unwrap_or_default();
        for (now, scores) in slots.chunks(GLANCE).zip(scores.chunks_mut(GLANCE)) {
            now.iter().for_each(|slot| codes.scales.prefetch(*slot));
            scores.fill(f32::NEG_INFINITY);
            let mut rest = &mut *scores;
            each_stretch(&codes.bytes, now, |stretch, slots| {
                let (now, later) = std::mem::take(&mut rest).split_at_mut(slots.len());
                let (soon, beyond) = ahead.split_at(slots.len().min(ahead.len()));
                looked_at += slots.len() as u64;
                (self.kernels.multiply)(&asked.lines, stretch, slots, soon, &mut products);
                for ((score, slot), product) in now.iter_mut().zip(slots).zip(products) {
                    *score = asked.upper(product, codes.scale(*slot));
                }
                (rest, ahead) = (later, beyond);
            });
        }
        looked_at
    }

    /// Looks at the bits of all permitted rows. On several cores, if there are enough rows and cores with nothing to do.
    fn sweep<'m>(
        &self,
        codes: &Codes,
        asked: &BitQuery,
        permitted: &RoaringBitmap,
        into: Swept<'a, 'm>,
    ) -> Swept<'a, 'm> {
        let sweep = |places: Range<usize>, into: &mut Swept<'a, 'm>| {
            let Swept { best, said: Said { slots, scores }, looked_at } = into;
            list(share::at_places(permitted, places), slots);
            *looked_at += self.estimate(codes, asked, slots, scores, |slots, scores| {
                let bar = best.bar();
                if any(scores.iter().copied(), |score| score >= bar) {
                    slots.iter().zip(scores).for_each(|(slot, score)| best.offer(*slot, *score));
                }
            });
        };
        share::among_cores(permitted.len() as usize, into, sweep, Swept::absorb)
    }

    /// The highest score that each of ascending slots may well have by its bits, whatever was in the place of it; shows them a few at a time,
    /// while they are at hand. Tells how many were looked at.
    fn estimate(
        &self,
        codes: &Codes,
        asked: &BitQuery,
        slots: &[u32],
        scores: &mut [f32],
        mut show: impl FnMut(&[u32], &[f32]),
    ) -> u64 {
        let mut looked_at = 0;
        let mut ahead = slots.get(AHEAD.0..).unwrap_or_default();
        for (slots, scores) in slots.chunks(BLOCK).zip(scores.chunks_mut(BLOCK)) {
            scores.fill(f32::NEG_INFINITY);
            let mut rest = &mut *scores;
            each_stretch(&codes.bits, slots, |stretch, slots| {
                let (now, later) = std::mem::take(&mut rest).split_at_mut(slots.len());
                let (soon, beyond) = ahead.split_at(slots.len().min(ahead.len()));
                looked_at += slots.len() as u64;
                (self.kernels.estimate)(asked, stretch, slots, soon, now);
                (rest, ahead) = (later, beyond);
            });
            slots.chunks(GLANCE).zip(scores.chunks(GLANCE)).for_each(|(slots, scores)| show(slots, scores));
        }
        looked_at
    }
}

/// Whether any score is `wanted`: asked of all at once, without a branch for each.
#[inline(always)]
fn any(scores: impl Iterator<Item = f32>, wanted: impl Fn(f32) -> bool) -> bool {
    scores.fold(0, |any, score| any | u32::from(wanted(score))) > 0
}

/// Lists all that are to come, as far as there is room. Long runs are told by their ends.
fn list(mut slots: Iter<'_>, mut into: &mut [u32]) {
    while let Some(run) = slots.next_range() {
        let (first, long) = (*run.start(), run.end() - run.start());
        let places = take_first(&mut into, long as usize + 1);
        // of a shape that is done many at a time; places are no more than slots, which are u32
        places.iter_mut().enumerate().for_each(|(n, place)| *place = first.wrapping_add(n as u32));
        if long < RUN as u32 {
            let room = into.len().min(RUN);
            let few = into.get_mut(..room).map_or(0, |few| slots.next_many(few).len());
            take_first(&mut into, few);
        }
    }
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
pub(super) fn kept() -> [(usize, usize); 7] {
    let scratch = SCRATCH.take();
    let of = |hits: &Vec<Hit>| (hits.as_ptr() as usize, hits.capacity());
    let lines = (scratch.bytes.lines.as_ptr() as usize, scratch.bytes.lines.capacity());
    let planes = (scratch.bits.planes.as_ptr() as usize, scratch.bits.planes.capacity());
    let seen = (scratch.seen.slots.as_ptr() as usize, scratch.seen.slots.capacity());
    let slots = (scratch.slots.as_ptr() as usize, scratch.slots.capacity());
    let kept = [of(&scratch.candidates), of(&scratch.near), of(&scratch.hits), lines, planes, seen, slots];
    SCRATCH.set(scratch);
    kept
}

/// Where this thread's memory for what bits said of rows is, and how much of it.
#[cfg(test)]
pub(super) fn seen() -> [(usize, usize); 2] {
    let scratch = SCRATCH.take();
    let Seen { slots, scores, .. } = &scratch.seen;
    let seen = [(slots.as_ptr() as usize, slots.capacity()), (scores.as_ptr() as usize, scores.capacity())];
    SCRATCH.set(scratch);
    seen
}

/// Whether this thread's memory for searches holds anything of a question, or of a part of one.
#[cfg(test)]
pub(super) fn holds_a_question() -> bool {
    let scratch = SCRATCH.take();
    let lines = scratch.bytes.lines.iter().chain(scratch.bits.planes.as_flattened());
    let held = lines.flat_map(|line| line.0).any(|byte| byte != 0)
        || scratch.workspace.parts().concat().iter().any(|x| *x != 0.0);
    SCRATCH.set(scratch);
    held
}
