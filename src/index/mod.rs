//! Nearest neighbours among permitted slots. The only home of hnsw_rs and simsimd; knows a bitmap, never Cedar.
//!
//! The permitted set is the search space: a strict collection scans the permitted rows and touches no other, so that
//! answer and work are a function of the question and of what the caller may see.

mod graph;
mod kernel;
pub mod planner;
mod rows;
mod scan;
mod top;

use std::{cmp::Ordering, sync::Arc};

use roaring::RoaringBitmap;

use crate::model::{Embedding, Isolation, Metric, Slot};
use graph::Walk;
pub use graph::{Graph, GraphJob, Shortfall};
use kernel::Kernel;
pub use planner::Why;
use planner::{DEAD_SHARE_MAX, Facts, GRAPH_ROWS_MIN, Plan, TAIL_SHARE_MAX};
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
    Scan(Why),
    /// The graph was walked, and permitted rows that came after it were scanned.
    Graph,
    /// The graph was walked in vain, then every permitted row was scored.
    GraphThenScan(Shortfall),
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
    metric: Metric,
    isolation: Isolation,
    kernel: Kernel,
    rows: Rows,
    live: RoaringBitmap,
    /// Wiped slots to be used again, so that rewriting records takes no more memory. Only where no graph will ever name a slot.
    free: Vec<u32>,
    graph: Option<Graph>,
    /// Tells a graph of these rows from that of others.
    lineage: Arc<()>,
}

impl VectorIndex {
    /// An index without rows.
    pub fn new(dimension: usize, metric: Metric, isolation: Isolation) -> Self {
        Self {
            metric,
            isolation,
            kernel: Kernel::new(metric),
            rows: Rows::new(dimension),
            live: RoaringBitmap::new(),
            free: Vec::new(),
            graph: None,
            lineage: Arc::new(()),
        }
    }

    /// Takes a row in: into a slot that was wiped, where the collection never has a graph, else into the next one. A vector of another
    /// length than the collection's takes a slot that is never live.
    pub fn push(&mut self, embedding: &Embedding) -> Slot {
        if embedding.components().len() == self.rows.dimension()
            && let Some(slot) = self.free.pop()
        {
            self.rows.replace(slot, embedding.components());
            self.live.insert(slot);
            return Slot(slot);
        }
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
            if planner::never(self.isolation, self.metric).is_some() {
                self.free.push(slot.0);
            }
            if let Some(graph) = &mut self.graph {
                graph.remove(slot.0, &self.live);
            }
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
        let Some(sought) = self.sought(query, permitted, k) else { return Found::nothing() };
        match (self.plan(sought.searched.len(), k), &self.graph) {
            (Plan::Scan(why), _) => self.scan_rows(&sought, tie, Path::Scan(why)),
            (Plan::Walk { .. }, None) => self.scan_rows(&sought, tie, Path::Scan(Why::NoGraph)),
            (Plan::Walk { breadth, budget }, Some(graph)) => self.walk(&sought, tie, graph, breadth, budget),
        }
    }

    /// The same answer by scoring every permitted row: the oracle that any faster path is held against.
    pub fn scan(
        &self,
        query: &Embedding,
        permitted: &RoaringBitmap,
        k: usize,
        tie: &dyn Fn(Slot, Slot) -> Ordering,
    ) -> Found {
        let Some(sought) = self.sought(query, permitted, k) else { return Found::nothing() };
        self.scan_rows(&sought, tie, Path::Scan(Why::Asked))
    }

    /// A snapshot to build a graph from, if one is wanted: the collection is fast, its metric has neighbourhoods, it has
    /// rows enough, and there is no graph or it has aged.
    pub fn graph_job(&self) -> Option<GraphJob> {
        let worth = planner::never(self.isolation, self.metric).is_none() && self.live.len() >= GRAPH_ROWS_MIN;
        let aged = self.graph.as_ref().is_none_or(|graph| {
            let tail = self.rows.len().saturating_sub(graph.covered());
            f64::from(tail) > TAIL_SHARE_MAX * f64::from(graph.covered()) || graph.dead_share() > DEAD_SHARE_MAX
        });
        let job = || GraphJob::new(self.rows.clone(), self.live.clone(), Arc::clone(&self.lineage));
        (worth && aged).then(job)
    }

    /// Walks `graph` from now on. Rows pushed after its snapshot are scanned beside it, rows removed since are left out.
    /// A graph of another index is dropped.
    pub fn install(&mut self, mut graph: Graph) {
        if graph.is_of(&self.lineage) {
            graph.settle(&self.live);
            self.graph = Some(graph);
        }
    }

    /// Bytes held in memory, to within allocator overhead.
    pub fn memory_bytes(&self) -> usize {
        let graph = self.graph.as_ref().map_or(0, Graph::memory_bytes);
        self.rows.memory_bytes() + self.live.serialized_size() + graph
    }

    /// The question and what it is put to, unless the answer is empty whatever the rows hold.
    fn sought<'a>(&self, query: &'a Embedding, permitted: &RoaringBitmap, k: usize) -> Option<Sought<'a>> {
        let query = query.components();
        let searched = permitted & &self.live;
        let fits = k > 0 && !searched.is_empty() && query.len() == self.rows.dimension();
        fits.then_some(Sought { query, searched, k })
    }

    fn plan(&self, permitted: u64, wanted: usize) -> Plan {
        planner::plan(Facts {
            isolation: self.isolation,
            metric: self.metric,
            dead_share: self.graph.as_ref().filter(|g| g.nodes() > 0).map(Graph::dead_share),
            visits_per_candidate: self
                .graph
                .as_ref()
                .map_or(planner::VISITS_PER_CANDIDATE, Graph::visits_per_candidate),
            permitted,
            live: self.live.len(),
            wanted,
        })
    }

    fn scan_rows(&self, sought: &Sought<'_>, tie: &dyn Fn(Slot, Slot) -> Ordering, path: Path) -> Found {
        let mut top = Top::new(sought.k, tie);
        let scored = scan::scan(&self.rows, self.kernel, sought.query, sought.searched.iter(), &mut top);
        Found { hits: top.into_hits(), path, scored }
    }

    fn walk(
        &self,
        sought: &Sought<'_>,
        tie: &dyn Fn(Slot, Slot) -> Ordering,
        graph: &Graph,
        breadth: usize,
        budget: u64,
    ) -> Found {
        let mut top = Top::new(sought.k, tie);
        let Sought { query, searched, k } = sought;
        let walk = Walk { rows: &self.rows, kernel: self.kernel, query, searched, breadth, budget };
        let (visited, outcome) = walk.run(graph, &mut top);
        let shortfall = match outcome {
            Ok(()) => {
                graph.relax();
                let tail = searched.range(graph.covered()..);
                let scored = visited + scan::scan(&self.rows, self.kernel, query, tail, &mut top);
                if top.len() as u64 >= searched.len().min(*k as u64) {
                    return Found { hits: top.into_hits(), path: Path::Graph, scored };
                }
                Shortfall::TooFew
            }
            Err(shortfall) => {
                graph.expect_more();
                shortfall
            }
        };
        let mut found = self.scan_rows(sought, tie, Path::GraphThenScan(shortfall));
        found.scored += visited;
        found
    }
}

/// A question and the rows it is put to.
struct Sought<'a> {
    query: &'a [f32],
    /// Permitted and live; never empty.
    searched: RoaringBitmap,
    k: usize,
}

impl Found {
    fn nothing() -> Self {
        Self { hits: Vec::new(), path: Path::Empty, scored: 0 }
    }
}

#[cfg(test)]
mod tests;
