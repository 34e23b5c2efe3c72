//! The best `k` of what is offered, in bounded memory, with ties as the caller orders them.

use std::cmp::Ordering;

use super::Hit;
use crate::model::Slot;

/// Collects hits. Most offers cost one comparison: what is below the bar is dropped, the rest is gathered and cut back to
/// `k` whenever twice as many are held.
pub(super) struct Top<'a> {
    k: usize,
    tie: &'a dyn Fn(Slot, Slot) -> Ordering,
    held: Vec<Hit>,
    /// What scores lower cannot be among the best `k`.
    bar: f32,
}

/// Held beyond `k` before a cut, at least.
const SLACK: usize = 32;

impl<'a> Top<'a> {
    pub(super) fn new(k: usize, tie: &'a dyn Fn(Slot, Slot) -> Ordering) -> Self {
        Self { k, tie, held: Vec::new(), bar: f32::NEG_INFINITY }
    }

    #[inline]
    pub(super) fn offer(&mut self, slot: u32, score: f32) {
        if score >= self.bar {
            self.keep(Hit { slot: Slot(slot), score });
        }
    }

    /// How many hits there are.
    pub(super) fn len(&self) -> usize {
        self.held.len().min(self.k)
    }

    /// The best `k`, nearest first.
    pub(super) fn into_hits(mut self) -> Vec<Hit> {
        self.held.sort_unstable_by(|a, b| nearer(a, b, self.tie));
        self.held.truncate(self.k);
        self.held
    }

    fn keep(&mut self, hit: Hit) {
        self.held.push(hit);
        if self.held.len() >= self.k.saturating_mul(2).max(self.k.saturating_add(SLACK)) {
            self.cut();
        }
    }

    #[cold]
    fn cut(&mut self) {
        let tie = self.tie;
        if self.k == 0 || self.k >= self.held.len() {
            return;
        }
        let (_, last, _) = self.held.select_nth_unstable_by(self.k - 1, |a, b| nearer(a, b, tie));
        self.bar = last.score;
        self.held.truncate(self.k);
    }
}

fn nearer(a: &Hit, b: &Hit, tie: &dyn Fn(Slot, Slot) -> Ordering) -> Ordering {
    b.score.total_cmp(&a.score).then_with(|| tie(a.slot, b.slot)).then(a.slot.cmp(&b.slot))
}
