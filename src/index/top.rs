//! The best `k` of what is offered, in bounded memory, with ties as the caller orders them.

use std::{cell::Cell, cmp::Ordering};

use super::{Hit, Tie};
use crate::model::Slot;

/// Collects hits. Most offers cost one comparison: what is below the bar is dropped, the rest is gathered and cut back to
/// `k` whenever twice as many are held. What is kept does not depend on the order of offers.
pub(super) struct Top<'a> {
    k: usize,
    tie: Tie<'a>,
    held: Vec<Hit>,
    /// What scores lower cannot be among the best `k`.
    bar: f32,
    /// Something was left out.
    cut: bool,
}

/// Held beyond `k` before a cut, at least.
const SLACK: usize = 32;
/// Scores that a thread keeps memory for.
const KEPT_SCORES: usize = 1 << 16;

impl<'a> Top<'a> {
    pub(super) fn new(k: usize, tie: Tie<'a>) -> Self {
        Self::above(f32::NEG_INFINITY, k, tie, Vec::new())
    }

    /// Takes nothing that scores less than `bar`; gathers in `memory`, whatever it held before.
    pub(super) fn above(bar: f32, k: usize, tie: Tie<'a>, mut memory: Vec<Hit>) -> Self {
        memory.clear();
        Self { k, tie, held: memory, bar, cut: false }
    }

    /// An empty one that collects alike.
    pub(super) fn twin(&self) -> Self {
        Self::above(self.bar, self.k, self.tie, Vec::new())
    }

    #[inline]
    pub(super) fn offer(&mut self, slot: u32, score: f32) {
        if score >= self.bar {
            self.keep(Hit { slot: Slot(slot), score });
        }
    }

    /// What scores lower is of no use. It only ever rises.
    #[inline]
    pub(super) fn bar(&self) -> f32 {
        self.bar
    }

    /// The score of the last of the best `k`, once there are as many.
    pub(super) fn last(&mut self) -> Option<f32> {
        self.trim();
        (self.held.len() == self.k).then(|| self.held.iter().map(|hit| hit.score).fold(f32::INFINITY, f32::min))
    }

    /// The score that nothing which was left out exceeds, if anything was.
    pub(super) fn left_out(&mut self) -> Option<f32> {
        self.trim();
        self.cut.then_some(self.bar)
    }

    /// Takes in what another has collected.
    pub(super) fn absorb(&mut self, mut other: Self) {
        other.trim();
        self.cut |= other.cut;
        if other.cut {
            self.bar = self.bar.max(other.bar);
        }
        other.held.iter().for_each(|hit| self.offer(hit.slot.0, hit.score));
    }

    /// The best `k`, nearest first.
    pub(super) fn into_hits(self) -> Vec<Hit> {
        let (tie, k) = (self.tie, self.k);
        let mut held = self.held;
        held.sort_unstable_by(|a, b| nearer(a, b, tie));
        held.truncate(k);
        held
    }

    /// The best `k`, nearest first, in memory of their own; and the memory that they were gathered in.
    pub(super) fn into_answer(self) -> (Vec<Hit>, Vec<Hit>) {
        let gathered = self.into_hits();
        (gathered.clone(), gathered)
    }

    /// The best `k` in no order.
    pub(super) fn into_unordered(mut self) -> Vec<Hit> {
        self.trim();
        self.held
    }

    fn keep(&mut self, hit: Hit) {
        self.held.push(hit);
        if self.held.len() >= self.k.saturating_mul(2).max(self.k.saturating_add(SLACK)) {
            self.trim();
        }
    }

    #[cold]
    fn trim(&mut self) {
        if self.k >= self.held.len() {
            return;
        }
        let first = nearest_first(&mut self.held, self.k, self.tie);
        self.bar = first.iter().map(|hit| hit.score).fold(f32::INFINITY, f32::min);
        self.held.truncate(self.k);
        self.cut = true;
    }
}

thread_local! {
    /// Scores alone, to find the last of the best by: kept for the next time.
    static SCORES: Cell<Vec<f32>> = Cell::default();
}

/// Moves the best `k` hits to the front, in no order, and returns them.
pub(super) fn nearest_first<'h>(hits: &'h mut [Hit], k: usize, tie: Tie<'_>) -> &'h [Hit] {
    if (1..hits.len()).contains(&k) {
        let mut scores = SCORES.take();
        scores.clear();
        scores.extend(hits.iter().map(|hit| hit.score));
        let (_, last, _) = scores.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
        let kept = gather(hits, *last);
        // more than were wanted: there are ties at the last place, and only they need the caller's order
        if let Some(kept) = hits.get_mut(..kept).filter(|kept| kept.len() > k) {
            kept.select_nth_unstable_by(k - 1, |a, b| nearer(a, b, tie));
        }
        scores.clear();
        scores.shrink_to(KEPT_SCORES);
        SCORES.set(scores);
    }
    hits.get(..k).unwrap_or(hits)
}

/// Moves the hits that score `bar` or more to the front, nearest first, and returns them.
pub(super) fn reaching<'h>(hits: &'h mut [Hit], bar: f32, tie: Tie<'_>) -> &'h [Hit] {
    let kept = gather(hits, bar);
    let (reaching, _) = hits.split_at_mut(kept);
    reaching.sort_unstable_by(|a, b| nearer(a, b, tie));
    reaching
}

/// Moves what scores `bar` or more to the front and tells how many that are.
fn gather(hits: &mut [Hit], bar: f32) -> usize {
    let mut kept = 0;
    for at in 0..hits.len() {
        let keep = hits.get(at).is_some_and(|hit| hit.score >= bar);
        hits.swap(kept, at);
        kept += usize::from(keep);
    }
    kept
}

fn nearer(a: &Hit, b: &Hit, tie: Tie<'_>) -> Ordering {
    b.score.total_cmp(&a.score).then_with(|| tie(a.slot, b.slot)).then(a.slot.cmp(&b.slot))
}
