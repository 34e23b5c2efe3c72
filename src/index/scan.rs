//! The exact scan: every permitted row, and no other.

use roaring::bitmap::Iter;

use super::{kernel::Kernel, rows::Rows, top::Top};

/// Scores every row of `searched` into `top` and tells how many. Runs of slots are read as runs of memory.
///
/// A first pass over smaller codes belongs here: it would offer to a wider `Top`, whose hits are then scored in f32.
pub(super) fn scan(rows: &Rows, kernel: Kernel, query: &[f32], mut searched: Iter<'_>, top: &mut Top<'_>) -> u64 {
    let mut scored = 0;
    while let Some(run) = searched.next_range() {
        let (from, to) = run.into_inner();
        rows.stretches(from..to.saturating_add(1), |first, floats| {
            for (slot, row) in (first..).zip(floats.chunks_exact(rows.dimension())) {
                top.offer(slot, kernel.score(query, row));
                scored += 1;
            }
        });
    }
    scored
}
