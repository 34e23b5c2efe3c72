//! Nearest neighbours among permitted slots. The only home of hnsw_rs and simsimd; knows a bitmap, never Cedar.
//!
//! The permitted set is the search space: a strict collection scans the permitted rows and touches no other, so that
//! answer and work are a function of the question and of what the caller may see.

mod kernel;
mod rows;
mod scan;
mod top;

use std::cmp::Ordering;

use roaring::RoaringBitmap;

use crate::model::{Embedding, Isolation, Metric, Slot};
use kernel::Kernel;
use rows::Rows;
use top::Top;

/// One record that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Its row.
    pub slot: Slot,
    /// Higher is nearer: the inner product, or minus the squared distance.
    pub score: f32,
}

/// The way an answer was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Nothing was permitted, or nothing asked for: no row was read.
    Empty,
    /// Every permitted row was scored, and no other.
    Scan,
}

/// An answer: at most `k` hits, nearest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Nearest first; ties in the order that the caller gave.
    pub hits: Vec<Hit>,
    /// The way it was reached.
    pub path: Path,
    /// Rows whose vector was read.
    pub scored: u64,
}

/// The vectors of one collection and which of them are live.
pub struct VectorIndex {
    kernel: Kernel,
    rows: Rows,
    live: RoaringBitmap,
}

impl VectorIndex {
    /// An index without rows.
    pub fn new(dimension: usize, metric: Metric, _isolation: Isolation) -> Self {
        Self { kernel: Kernel::new(metric), rows: Rows::new(dimension), live: RoaringBitmap::new() }
    }

    /// Appends a row: slots are dense, ascending and never used again. A vector of another length than the
    /// collection's takes a slot that is never live.
    pub fn push(&mut self, embedding: &Embedding) -> Slot {
        let slot = self.rows.push(embedding.components());
        if embedding.components().len() == self.rows.dimension() {
            self.live.insert(slot);
        }
        Slot(slot)
    }

    /// Takes a row out of every later answer and wipes its vector.
    pub fn remove(&mut self, slot: Slot) {
        if self.live.remove(slot.0) {
            self.rows.wipe(slot.0);
        }
    }

    /// The slots that hold a record.
    pub fn live(&self) -> &RoaringBitmap {
        &self.live
    }

    /// The vector in a live slot.
    pub fn vector(&self, slot: Slot) -> Option<&[f32]> {
        if self.live.contains(slot.0) { self.rows.row(slot.0) } else { None }
    }

    /// The `k` nearest of the permitted rows. `tie` orders slots of equal score, at the last place too; it must be a
    /// total order.
    pub fn search(
        &self,
        query: &Embedding,
        permitted: &RoaringBitmap,
        k: usize,
        tie: &dyn Fn(Slot, Slot) -> Ordering,
    ) -> Found {
        self.scan(query, permitted, k, tie)
    }

    /// The same answer by scoring every permitted row: the oracle that any faster path is held against.
    pub fn scan(
        &self,
        query: &Embedding,
        permitted: &RoaringBitmap,
        k: usize,
        tie: &dyn Fn(Slot, Slot) -> Ordering,
    ) -> Found {
        let query = query.components();
        let searched = permitted & &self.live;
        if k == 0 || searched.is_empty() || query.len() != self.rows.dimension() {
            return Found { hits: Vec::new(), path: Path::Empty, scored: 0 };
        }
        let mut top = Top::new(k, tie);
        let scored = scan::scan(&self.rows, self.kernel, query, &searched, &mut top);
        Found { hits: top.into_hits(), path: Path::Scan, scored }
    }

    /// Bytes held in memory, to within allocator overhead.
    pub fn memory_bytes(&self) -> usize {
        self.rows.memory_bytes() + self.live.serialized_size()
    }
}

#[cfg(test)]
mod tests;
