//! A frozen graph of nearest neighbours: flat arrays of numbers, no vectors, no locks, no pointers.
//!
//! A node stands for one distinct vector and lists the slots that hold it: copies are common in charts, and a graph
//! whose nodes are copies of one another links them in cliques that nothing else can enter.

mod build;
mod walk;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use roaring::RoaringBitmap;

use super::{
    Hit,
    kernel::Kernel,
    planner::{FAR, VISITS_PER_CANDIDATE, VISITS_PER_CANDIDATE_MAX, WALKS_REMEMBERED},
    rows::Rows,
};
pub use walk::Shortfall;
pub(super) use walk::Walk;

/// No slot, or no node.
const NONE: u32 = u32::MAX;
/// All walks, as shares of them are counted.
const ALL_WALKS: u64 = 1 << 20;

/// A snapshot of an index's rows, to be made into a graph on another thread. While it lives, so do the vectors as
/// they were when it was taken: erasing a row meanwhile is complete once the job has ended.
pub struct GraphJob {
    rows: Rows,
    named: Arc<RoaringBitmap>,
    lineage: Arc<()>,
}

impl GraphJob {
    pub(super) fn new(rows: Rows, named: Arc<RoaringBitmap>, lineage: Arc<()>) -> Self {
        Self { rows, named, lineage }
    }

    /// How many rows the graph will cover.
    pub fn rows(&self) -> u64 {
        self.named.len()
    }

    /// Builds on the calling thread, on one core: minutes for 100,000 rows.
    pub fn build(self) -> Graph {
        let (named, lineage) = (Arc::clone(&self.named), Arc::clone(&self.lineage));
        build::build(self, &|| true).unwrap_or_else(|| Graph::unlinked(named, lineage))
    }

    /// Builds as long as `go_on` says so, asked before every row.
    pub fn build_while(self, go_on: &dyn Fn() -> bool) -> Option<Graph> {
        build::build(self, go_on)
    }
}

/// A graph over the slots that were live in a snapshot, ready for [`super::VectorIndex::install`].
pub struct Graph {
    lineage: Arc<()>,
    /// The slots that were live; as long as this is held they are not used again.
    named: Arc<RoaringBitmap>,
    /// Live slots that it does not name: they are scanned.
    later: RoaringBitmap,
    /// Neighbours of each node.
    links: Lists,
    /// Slots that hold each node's vector.
    slots: Lists,
    /// The node of each slot, as far as it is named.
    node_of: Vec<u32>,
    /// A live slot of each node, to read its vector from; none: the node is dead and only leads on.
    lead: Vec<u32>,
    dead: u32,
    /// Where walks begin. Every node can be reached from one of them.
    hubs: Vec<u32>,
    /// Of each node, the squared distance to one of its neighbours, of middling distance.
    spacing: Vec<f32>,
    visits_per_candidate: AtomicU64,
    /// How many of [`ALL_WALKS`] are in vain, by those of late.
    vain: AtomicU64,
    spare: Mutex<Vec<walk::Scratch>>,
}

impl Graph {
    /// Nodes that a walk is expected to visit for each candidate that it keeps.
    pub(super) fn visits_per_candidate(&self) -> u64 {
        self.visits_per_candidate.load(Ordering::Relaxed)
    }

    /// The share of walks that were in vain of late.
    pub(super) fn vain_share(&self) -> f64 {
        self.vain.load(Ordering::Relaxed) as f64 / ALL_WALKS as f64
    }

    /// A walk was in vain. If it ran out of its budget, the next is planned for twice as many visits, or not at all.
    pub(super) fn learn(&self, shortfall: Shortfall) {
        let vain = self.vain.load(Ordering::Relaxed);
        self.vain.store(vain + (ALL_WALKS - vain) / WALKS_REMEMBERED, Ordering::Relaxed);
        match shortfall {
            Shortfall::Budget => {
                let more = self.visits_per_candidate().saturating_mul(2).min(VISITS_PER_CANDIDATE_MAX);
                self.visits_per_candidate.store(more, Ordering::Relaxed);
            }
            Shortfall::TooFew | Shortfall::Far => {}
        }
    }

    /// No walk was planned, as so many were in vain: once in a while one is tried again.
    pub(super) fn forget_vain(&self) {
        let vain = self.vain.load(Ordering::Relaxed);
        self.vain.store(vain - vain / (WALKS_REMEMBERED * WALKS_REMEMBERED), Ordering::Relaxed);
    }

    /// Whether what a walk found lies about as near to the question as its rows lie to one another.
    pub(super) fn has_around(&self, kernel: Kernel, hits: &[Hit]) -> bool {
        let far: f32 = hits.iter().map(|hit| kernel.squared_distance_of(hit.score).sqrt()).sum();
        let usual: f32 = hits.iter().map(|hit| self.spacing_at(hit.slot.0).sqrt()).sum();
        far <= FAR * usual
    }

    fn spacing_at(&self, slot: u32) -> f32 {
        let node = self.node_of.get(slot as usize).copied().unwrap_or(NONE);
        self.spacing.get(node as usize).copied().unwrap_or_default()
    }

    /// A walk was not in vain: what one hard question taught is slowly forgotten.
    pub(super) fn relax(&self) {
        let vain = self.vain.load(Ordering::Relaxed);
        self.vain.store(vain - vain / WALKS_REMEMBERED, Ordering::Relaxed);
        let learned = self.visits_per_candidate();
        let less = learned - learned.saturating_sub(VISITS_PER_CANDIDATE).div_ceil(64);
        self.visits_per_candidate.store(less, Ordering::Relaxed);
    }

    /// Stands for a graph that could not be built, so that it is not tried again at once. Never walked.
    fn unlinked(named: Arc<RoaringBitmap>, lineage: Arc<()>) -> Self {
        Self {
            lineage,
            named,
            later: RoaringBitmap::new(),
            links: Lists::default(),
            slots: Lists::default(),
            node_of: Vec::new(),
            lead: Vec::new(),
            dead: 0,
            hubs: Vec::new(),
            spacing: Vec::new(),
            vain: AtomicU64::new(0),
            visits_per_candidate: AtomicU64::new(VISITS_PER_CANDIDATE),
            spare: Mutex::default(),
        }
    }

    /// Live slots that walks do not come by.
    pub(super) fn later(&self) -> &RoaringBitmap {
        &self.later
    }

    /// How many rows came later, as a share of those that it was built of.
    pub(super) fn later_share(&self) -> f64 {
        self.later.len() as f64 / self.named.len().max(1) as f64
    }

    pub(super) fn is_of(&self, lineage: &Arc<()>) -> bool {
        Arc::ptr_eq(&self.lineage, lineage)
    }

    /// Distinct vectors when it was built; none if it could not be.
    pub fn nodes(&self) -> usize {
        self.lead.len()
    }

    /// A live slot with the node's vector, unless the node is dead.
    fn leading(&self, node: u32) -> Option<u32> {
        self.lead.get(node as usize).copied().filter(|slot| *slot != NONE)
    }

    /// The share of nodes all of whose slots were removed.
    pub(super) fn dead_share(&self) -> f64 {
        f64::from(self.dead) / self.lead.len().max(1) as f64
    }

    /// Takes note of a row that came later.
    pub(super) fn add(&mut self, slot: u32) {
        self.later.insert(slot);
    }

    /// Takes note that `slot` is no longer live. Its neighbours stay linked through it.
    pub(super) fn remove(&mut self, slot: u32, live: &RoaringBitmap) {
        self.later.remove(slot);
        let node = self.node_of.get(slot as usize).copied().unwrap_or(NONE);
        let Some(lead) = self.lead.get_mut(node as usize) else { return };
        if *lead == slot {
            *lead = self.slots.of(node).iter().copied().find(|s| live.contains(*s)).unwrap_or(NONE);
            self.dead += u32::from(*lead == NONE);
        }
    }

    /// Catches up with what came and what was removed since the snapshot.
    pub(super) fn settle(&mut self, live: &RoaringBitmap) {
        self.later = live - &*self.named;
        for slot in &*self.named - live {
            self.remove(slot, live);
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let words = self.node_of.len() + self.lead.len() + self.hubs.len() + self.spacing.len();
        let scratch: usize = self.spare.lock().iter().map(walk::Scratch::memory_bytes).sum();
        let sets = self.named.serialized_size() + self.later.serialized_size();
        self.links.memory_bytes() + self.slots.memory_bytes() + words * size_of::<u32>() + sets + scratch
    }
}

/// Many short lists of numbers, end to end.
#[derive(Default)]
struct Lists {
    /// Where each list begins, and at last where all end.
    starts: Vec<u32>,
    items: Vec<u32>,
}

impl Lists {
    fn of(&self, at: u32) -> &[u32] {
        let at = at as usize;
        match (self.starts.get(at), self.starts.get(at + 1)) {
            (Some(&from), Some(&to)) => self.items.get(from as usize..to as usize).unwrap_or_default(),
            _ => &[],
        }
    }

    fn memory_bytes(&self) -> usize {
        (self.starts.len() + self.items.len()) * size_of::<u32>()
    }
}

impl<L: AsRef<[u32]>> FromIterator<L> for Lists {
    fn from_iter<I: IntoIterator<Item = L>>(lists: I) -> Self {
        let mut flat = Self { starts: vec![0], items: Vec::new() };
        for list in lists {
            flat.items.extend_from_slice(list.as_ref());
            flat.starts.push(flat.items.len() as u32);
        }
        flat.items.shrink_to_fit();
        flat
    }
}

#[cfg(test)]
impl Graph {
    /// Takes walks for what they were taken for before the first.
    pub(super) fn forget_all(&self) {
        self.vain.store(0, Ordering::Relaxed);
        self.visits_per_candidate.store(VISITS_PER_CANDIDATE, Ordering::Relaxed);
    }
}
