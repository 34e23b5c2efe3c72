//! Nearest neighbours among permitted slots. The only home of hnsw_rs and simsimd; knows a bitmap, never Cedar.
//!
//! The permitted set is the search space: a strict collection scans the permitted rows and touches no other, so that
//! answer and work are a function of the question and of what the caller may see.
//!
//! *One moment.* Whoever owns an index keeps it under one lock. A search borrows it from its first row to its last, so that permitted set,
//! live set and rows are of one moment; a write waits for it, and the next search sees the write. Nothing is handed over between threads
//! but a [`GraphJob`]: it is a copy, so that whoever has one reads one moment for as long as they like, and whoever writes has nothing to
//! copy first. No slot that a job names is used again while it is gathered, while the job lives, or the graph that becomes of it: a slot
//! means to a graph the row that it was built of, or a dead one. A graph comes back through [`VectorIndex::install`], which takes the index
//! for itself and first leaves out what was removed meanwhile. A [`Block`] of codes is a copy and does not come back. The borrow checker
//! holds all of this. What atomics there are count threads, holders of what a graph names, and what walks came to, which the planner goes
//! by: none orders anything. So there is no interleaving to model in here. (That codes and names of rows are of one writing when they are
//! kept on disk is the part of `engine::kept` and the store, and has a model.) Tests mix it all on several threads instead, and stop
//! searches in their midst.
//!
//! *Short writes.* What an index is handed is an [`Encoded`] row, and none is made from within it: codes, the long part of a write, are
//! made before the owner's lock is taken, and under it rows are copied. It waits for searches that began before it, and the lock lets
//! those that come after it wait behind it: none for longer than the longest of those and the copying take.
//!
//! *No segments.* Segments and their merge would be there to wipe erased rows, to keep rows of a patient together, and to
//! let nobody wait. Erased rows are overwritten where they lie, in every column, before the lock is let go; their slots are
//! used again; growing moves nothing. Slots are given in turn, so rows that come together lie together, and whoever brings
//! many brings them by patient. Rows that do not cost a scope of whole charts 1.2 to 1.7 times the time (`cargo bench --bench search --
//! --scattered`: 24 us instead of 20 for 900 rows, 115 instead of 90 for 9,500, 450 instead of 280 for 40,000). To lay them together later
//! would win that back, at most a tenth of what such a request takes in all, but move slots, which records, columns and all bitmaps of the
//! policies are named by; or put a table between slot and row, which every row of every search would pay for.

mod codec;
mod coded;
mod columns;
mod encoded;
mod free;
mod gathered;
mod graph;
mod kernel;
pub mod planner;
mod rows;
mod scan;
mod share;
mod top;

use std::{borrow::Cow, cmp::Ordering, sync::Arc};

use roaring::RoaringBitmap;

use crate::model::{Embedding, Isolation, Metric, Slot};
pub use codec::VERSION as CODEC_VERSION;
pub use coded::Block;
use columns::Columns;
pub use encoded::{Encoded, Encoder};
use free::Free;
pub use gathered::Gathering;
use graph::Walk;
pub use graph::{Graph, GraphJob, Shortfall};
pub use kernel::Level;
use kernel::{Kernel, Kernels};
pub use planner::Why;
use planner::{DEAD_SHARE_MAX, Effort, Facts, GRAPH_ROWS_MIN, Plan, TAIL_SHARE_MAX};
use scan::Scan;
pub use scan::Work;
pub use share::use_cores;
use top::Top;

/// Orders slots of equal score. It must be a total order.
pub type Tie<'a> = &'a (dyn Fn(Slot, Slot) -> Ordering + Sync);

/// Where the vector in a slot is opened, where memory does not hold it. `None`: it is no more.
pub type Source<'a> = &'a (dyn Fn(Slot) -> Option<Embedding> + Sync);

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
    /// Every permitted row was looked at, and no other.
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
    /// Rows that were looked at, in whatever form.
    pub scored: u64,
    /// How closely.
    pub work: Work,
}

/// The vectors of one collection and which of them are live.
pub struct VectorIndex {
    metric: Metric,
    isolation: Isolation,
    kernel: Kernel,
    kernels: Kernels,
    columns: Columns,
    live: RoaringBitmap,
    /// Wiped slots to be used again, so that rewriting records takes no more memory.
    free: Free,
    graph: Option<Graph>,
    /// Tells a graph of these rows from that of others.
    lineage: Arc<()>,
}

impl VectorIndex {
    /// An index without rows.
    pub fn new(dimension: usize, metric: Metric, isolation: Isolation) -> Self {
        Self::with(Kernels::best(), dimension, metric, isolation)
    }

    /// The same without the vectors, where rows are long enough to have codes: they are asked of a [`Source`] when they come close.
    pub fn lean(dimension: usize, metric: Metric, isolation: Isolation) -> Self {
        let mut index = Self::new(dimension, metric, isolation);
        index.columns.leave_vectors();
        index
    }

    /// Whether vectors are held in memory.
    pub fn holds_vectors(&self) -> bool {
        !self.columns.exact.are_elsewhere()
    }

    /// The same for a processor of a lower level than this one: to measure and to test. `None` if this one is not up to it.
    pub fn at_level(level: Level, dimension: usize, metric: Metric, isolation: Isolation) -> Option<Self> {
        Kernels::of(level).map(|kernels| Self::with(kernels, dimension, metric, isolation))
    }

    fn with(kernels: Kernels, dimension: usize, metric: Metric, isolation: Isolation) -> Self {
        Self {
            metric,
            isolation,
            kernel: Kernel::new(metric),
            kernels,
            columns: Columns::new(dimension, metric, kernels),
            live: RoaringBitmap::new(),
            free: Free::default(),
            graph: None,
            lineage: Arc::new(()),
        }
    }

    /// Takes a row in: into a slot that was wiped and that no graph names, else into the next one. A row that is not of this
    /// index, of another dimension or metric, takes a slot that is never live.
    pub fn push(&mut self, row: &Encoded) -> Slot {
        if !row.is_of(self.columns.exact.width(), self.metric) {
            return Slot(self.columns.push_gone());
        }
        let slot = match self.free.pop() {
            Some(slot) => {
                self.columns.replace(slot, row);
                slot
            }
            None => self.columns.push(row),
        };
        self.live.insert(slot);
        if let Some(graph) = &mut self.graph {
            graph.add(slot);
        }
        Slot(slot)
    }

    /// Takes a row out of every later answer and wipes its vector.
    pub fn remove(&mut self, slot: Slot) {
        if self.live.remove(slot.0) {
            self.columns.wipe(slot.0);
            self.free.push(slot.0);
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
        if self.live.contains(slot.0) { self.columns.exact.row(slot.0) } else { None }
    }

    /// The `k` nearest of the permitted rows. `tie` orders slots of equal score, at the last place too.
    pub fn search(&self, query: &Embedding, permitted: &RoaringBitmap, k: usize, tie: Tie<'_>) -> Found {
        self.search_from(None, query, permitted, k, tie)
    }

    /// The same, with where to open vectors that memory does not hold.
    pub fn search_from(
        &self,
        source: Option<Source<'_>>,
        query: &Embedding,
        permitted: &RoaringBitmap,
        k: usize,
        tie: Tie<'_>,
    ) -> Found {
        let Some(sought) = self.sought(query, permitted, k) else { return Found::nothing() };
        let sought = Sought { source, ..sought };
        match (self.plan(&sought), &self.graph) {
            (Plan::Scan(why), graph) => {
                graph.iter().filter(|_| why == Why::VainWalks).for_each(Graph::forget_vain);
                self.scan_rows(&sought, tie, Path::Scan(why))
            }
            (Plan::Walk { .. }, None) => self.scan_rows(&sought, tie, Path::Scan(Why::NoGraph)),
            (Plan::Walk { breadth, budget }, Some(graph)) => self.walk(&sought, tie, graph, breadth, budget),
        }
    }

    /// The same answer by scoring the vector of every permitted row: the oracle that any faster path is held against.
    pub fn scan(&self, query: &Embedding, permitted: &RoaringBitmap, k: usize, tie: Tie<'_>) -> Found {
        self.scan_from(None, query, permitted, k, tie)
    }

    /// The same, with where to open vectors that memory does not hold.
    pub fn scan_from(
        &self,
        source: Option<Source<'_>>,
        query: &Embedding,
        permitted: &RoaringBitmap,
        k: usize,
        tie: Tie<'_>,
    ) -> Found {
        let Some(sought) = self.sought(query, permitted, k) else { return Found::nothing() };
        let sought = Sought { source, ..sought };
        let mut work = Work::default();
        let top = self.scanning(&sought, tie).exact(sought.permitted.iter(), Top::new(k, tie), &mut work);
        Found { hits: top.into_hits(), path: Path::Scan(Why::Asked), scored: work.exact, work }
    }

    /// What a vector scores that lies elsewhere; `None` for one of another length than the collection's.
    pub fn score(&self, query: &Embedding, vector: &Embedding) -> Option<f32> {
        let (query, vector) = (query.components(), vector.components());
        let fit = query.len() == self.columns.exact.width() && vector.len() == query.len();
        fit.then(|| self.kernel.score(query, vector))
    }

    /// What a graph is built from, if one is wanted, copied all at once; [`VectorIndex::gathering`] does it some at a time.
    pub fn graph_job(&self) -> Option<GraphJob> {
        let mut gathering = self.gathering()?;
        while gathering.more(self) {}
        gathering.into_job(self)
    }

    /// Whether a graph is wanted: the collection is fast, its metric has neighbourhoods, it has rows enough, whose vectors are held in
    /// memory, and there is no graph or it has aged.
    fn wants_graph(&self) -> bool {
        let worth = self.holds_vectors()
            && planner::never(self.isolation, self.metric).is_none()
            && self.live.len() >= GRAPH_ROWS_MIN;
        let aged = self
            .graph
            .as_ref()
            .is_none_or(|graph| graph.later_share() > TAIL_SHARE_MAX || graph.dead_share() > DEAD_SHARE_MAX);
        worth && aged
    }

    /// Walks `graph` from now on. Rows pushed after its snapshot are scanned beside it, rows removed since are left out.
    /// A graph of another index is dropped.
    pub fn install(&mut self, mut graph: Graph) {
        if graph.is_of(&self.lineage) {
            graph.settle(&self.live);
            self.graph = Some(graph);
        }
    }

    /// The level of the processor whose instructions the scan uses.
    pub fn level(&self) -> Level {
        self.kernels.level
    }

    /// Bytes held in memory, to within allocator overhead.
    pub fn memory_bytes(&self) -> usize {
        let graph = self.graph.as_ref().map_or(0, Graph::memory_bytes);
        self.columns.memory_bytes() + self.live.serialized_size() + graph
    }

    /// The question and what it is put to, unless the answer is empty whatever the rows hold.
    fn sought<'a>(&self, query: &'a Embedding, permitted: &'a RoaringBitmap, k: usize) -> Option<Sought<'a>> {
        let query = query.components();
        let live = permitted.is_subset(&self.live);
        let permitted = if live { Cow::Borrowed(permitted) } else { Cow::Owned(permitted & &self.live) };
        let fits = k > 0 && !permitted.is_empty() && query.len() == self.columns.exact.width();
        fits.then_some(Sought { query, permitted, k, source: None })
    }

    fn plan(&self, sought: &Sought<'_>) -> Plan {
        let graph = self.graph.as_ref().filter(|graph| graph.nodes() > 0);
        planner::plan(Facts {
            isolation: self.isolation,
            metric: self.metric,
            dead_share: graph.map(Graph::dead_share),
            visits_per_candidate: graph.map_or(planner::VISITS_PER_CANDIDATE, Graph::visits_per_candidate),
            vain_share: graph.map_or(0.0, Graph::vain_share),
            permitted: sought.permitted.len(),
            permitted_later: graph.map_or(0, |graph| sought.permitted.intersection_len(graph.later())),
            live: self.live.len(),
            later: graph.map_or(0, |graph| graph.later().len()),
            coded: self.columns.codes.is_some(),
            wanted: sought.k,
        })
    }

    fn scanning<'a>(&'a self, sought: &Sought<'a>, tie: Tie<'a>) -> Scan<'a> {
        let Self { columns, kernels, kernel, .. } = self;
        Scan {
            columns,
            kernels: *kernels,
            kernel: *kernel,
            query: sought.query,
            k: sought.k,
            tie,
            bar: f32::NEG_INFINITY,
            source: sought.source,
        }
    }

    fn scan_rows(&self, sought: &Sought<'_>, tie: Tie<'_>, path: Path) -> Found {
        let (hits, work) = self.scanning(sought, tie).run(&sought.permitted, Effort::Usual);
        Found { hits, path, scored: work.first, work }
    }

    fn walk(&self, sought: &Sought<'_>, tie: Tie<'_>, graph: &Graph, breadth: usize, budget: u64) -> Found {
        let mut top = Top::new(sought.k, tie);
        let Sought { query, permitted, k, .. } = sought;
        let walk = Walk { rows: &self.columns.exact, kernel: self.kernel, query, searched: permitted, breadth, budget };
        let (visited, outcome) = walk.run(graph, &mut top);
        let mut work = Work { exact: visited, first: visited, ..Work::default() };
        let mut hits = top.into_hits();
        let mut outcome = outcome.and_then(|()| self.accept(graph, &hits));
        if outcome.is_ok() {
            let full = hits.len() == *k;
            let bar = hits.last().filter(|_| full).map_or(f32::NEG_INFINITY, |last| last.score);
            let scan = Scan { bar, ..self.scanning(sought, tie) };
            let (later, looked_at) = scan.run(&(&**permitted & graph.later()), Effort::Usual);
            work += looked_at;
            hits = joined(hits, &later, *k, tie);
            if (hits.len() as u64) < permitted.len().min(*k as u64) {
                outcome = Err(Shortfall::TooFew);
            }
        }
        match outcome {
            Ok(()) => {
                graph.relax();
                Found { hits, path: Path::Graph, scored: work.first, work }
            }
            Err(shortfall) => {
                graph.learn(shortfall);
                let mut found = self.scan_rows(sought, tie, Path::GraphThenScan(shortfall));
                found.work += work;
                found.scored = found.work.first;
                found
            }
        }
    }

    fn accept(&self, graph: &Graph, hits: &[Hit]) -> Result<(), Shortfall> {
        if graph.has_around(self.kernel, hits) { Ok(()) } else { Err(Shortfall::Far) }
    }
}

/// A question and the rows it is put to.
struct Sought<'a> {
    query: &'a [f32],
    /// Permitted and live; never empty.
    permitted: Cow<'a, RoaringBitmap>,
    k: usize,
    source: Option<Source<'a>>,
}

/// The best `k` of two answers from different rows.
fn joined(mut hits: Vec<Hit>, others: &[Hit], k: usize, tie: Tie<'_>) -> Vec<Hit> {
    if others.is_empty() {
        return hits;
    }
    let mut top = Top::new(k, tie);
    hits.drain(..).chain(others.iter().copied()).for_each(|hit| top.offer(hit.slot.0, hit.score));
    top.into_hits()
}

impl Found {
    fn nothing() -> Self {
        Self { hits: Vec::new(), path: Path::Empty, scored: 0, work: Work::default() }
    }
}

#[cfg(test)]
mod tests;
