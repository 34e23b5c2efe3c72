//! From rows to a graph. hnsw_rs finds the neighbours; what it keeps beside them is dropped.
//!
//! It is handed node numbers in place of vectors, and a distance that looks the rows up: so it makes no copy of any
//! vector, whose memory it would not wipe. Its dump, which is plain text on disk, is never used.

use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::AtomicU64,
};

use hnsw_rs::{anndists::dist::distances::Distance, hnsw::Hnsw};
use parking_lot::Mutex;
use roaring::RoaringBitmap;

use super::{Graph, GraphJob, NONE};
use crate::index::{Kernel, planner::VISITS_PER_CANDIDATE, rows::Rows};

/// Neighbours that hnsw_rs keeps on an upper layer; twice as many at the bottom. Above 256 it would end the process.
const DEGREE: usize = 16;
/// Candidates that hnsw_rs weighs for each row.
const EF_CONSTRUCTION: usize = 100;
/// Layers that hnsw_rs may use; only the bottom one is kept.
const LAYERS: usize = 16;
/// Neighbours of a node at most, after links were made mutual.
const LINKS_MAX: usize = 48;
/// Hubs, where there are nodes enough: they do the work of the upper layers.
const HUBS: usize = 256;
/// Nodes to a hub at least.
const NODES_PER_HUB: usize = 16;

/// The graph of a snapshot; one without nodes if hnsw_rs failed, none if `go_on` said to stop.
pub(super) fn build(job: GraphJob, go_on: &dyn Fn() -> bool) -> Option<Graph> {
    let (lead, slots) = distinct(&job.rows, &job.named);
    let order = shuffled(lead.len() as u32);
    let mut links = match neighbours(&job.rows, &lead, &order, go_on) {
        Ok(links) => links,
        Err(Unbuilt::Stopped) => return None,
        Err(Unbuilt::Failed) => return Some(Graph::unlinked(job.named, job.lineage)),
    };
    make_mutual(&mut links);
    let hubs = hubs(&order, &links);
    let spacing = spacing(&job.rows, &lead, &links);
    let mut node_of = vec![NONE; job.rows.len() as usize];
    for (node, slots) in (0..).zip(&slots) {
        for slot in slots {
            if let Some(n) = node_of.get_mut(*slot as usize) {
                *n = node;
            }
        }
    }
    Some(Graph {
        lineage: job.lineage,
        named: job.named,
        later: RoaringBitmap::new(),
        links: links.into_iter().collect(),
        slots: slots.into_iter().collect(),
        node_of,
        lead,
        dead: 0,
        hubs,
        spacing,
        vain: AtomicU64::new(0),
        visits_per_candidate: AtomicU64::new(VISITS_PER_CANDIDATE),
        spare: Mutex::default(),
    })
}

enum Unbuilt {
    Stopped,
    Failed,
}

/// One node for each distinct vector: a slot that holds it, and all that do.
fn distinct(rows: &Rows, live: &RoaringBitmap) -> (Vec<u32>, Vec<Vec<u32>>) {
    let mut lead = Vec::new();
    let mut slots: Vec<Vec<u32>> = Vec::new();
    let mut known: HashMap<Vector<'_>, usize> = HashMap::new();
    for slot in live {
        let Some(row) = rows.row(slot) else { continue };
        let node = *known.entry(Vector(row)).or_insert(lead.len());
        match slots.get_mut(node) {
            Some(copies) => copies.push(slot),
            None => {
                lead.push(slot);
                slots.push(vec![slot]);
            }
        }
    }
    (lead, slots)
}

/// A row that is equal to another if every bit is.
struct Vector<'a>(&'a [f32]);

impl std::hash::Hash for Vector<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|x| state.write_u32(x.to_bits()));
    }
}

impl PartialEq for Vector<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().map(|x| x.to_bits()).eq(other.0.iter().map(|x| x.to_bits()))
    }
}

impl Eq for Vector<'_> {}

/// Numbers below `count` in an order that only `count` decides. Rows come in by patient, and a graph grown patient by
/// patient would lack the long links that the first nodes make.
fn shuffled(count: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count).collect();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for i in (1..order.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(i, ((state >> 33) as usize) % (i + 1));
    }
    order
}

/// The bottom layer that hnsw_rs makes of the nodes. Its internals assert and unwrap (even on a clock set back while it
/// is dropped): a panic in there ends the graph, not the process, and the scan goes on serving.
fn neighbours(rows: &Rows, lead: &[u32], order: &[u32], go_on: &dyn Fn() -> bool) -> Result<Vec<Vec<u32>>, Unbuilt> {
    let mut links = vec![Vec::new(); lead.len()];
    let make = || {
        let distance = BetweenRows { rows: rows.clone(), lead: lead.to_vec() };
        let hnsw = Hnsw::<u32, BetweenRows>::new(DEGREE, lead.len(), LAYERS, EF_CONSTRUCTION, distance);
        for node in order {
            if !go_on() {
                return Err(Unbuilt::Stopped);
            }
            hnsw.insert_slice((&[*node], *node as usize));
        }
        if order.is_empty() {
            return Err(Unbuilt::Failed);
        }
        for point in hnsw.get_point_indexation() {
            let node = point.get_origin_id();
            let bottom = point.get_neighborhood_id().into_iter().next().unwrap_or_default();
            if let Some(links) = links.get_mut(node) {
                *links = bottom.iter().filter(|n| n.d_id != node).map(|n| n.d_id as u32).collect();
            }
        }
        Ok(())
    };
    catch_unwind(AssertUnwindSafe(make)).unwrap_or(Err(Unbuilt::Failed))?;
    Ok(links)
}

/// What hnsw_rs calls for the distance of two nodes. The squared distance serves cosine too: on unit vectors it orders
/// as `1 - product` does, but keeps its digits between near copies and does not fall below zero (the stock product
/// distance does, and aborts). Clamped all the same: NaN and -0.0 become 0.
struct BetweenRows {
    rows: Rows,
    lead: Vec<u32>,
}

impl BetweenRows {
    fn row(&self, node: &[u32]) -> &[f32] {
        let slot = node.first().and_then(|n| self.lead.get(*n as usize));
        slot.and_then(|s| self.rows.row(*s)).unwrap_or_default()
    }
}

impl Distance<u32> for BetweenRows {
    fn eval(&self, a: &[u32], b: &[u32]) -> f32 {
        Kernel::squared_distance(self.row(a), self.row(b)).max(0.0)
    }
}

/// Adds the way back to links, where there is room: hnsw_rs cuts reverse links by distance alone, which makes tight
/// groups hard to enter.
fn make_mutual(links: &mut [Vec<u32>]) {
    for node in 0..links.len() {
        let out = links.get(node).cloned().unwrap_or_default();
        for other in out {
            if let Some(back) = links.get_mut(other as usize)
                && back.len() < LINKS_MAX
                && !back.contains(&(node as u32))
            {
                back.push(node as u32);
            }
        }
    }
}

/// A random sample of the nodes, and one node of every part that the sample does not reach.
fn hubs(order: &[u32], links: &[Vec<u32>]) -> Vec<u32> {
    let sample = HUBS.min(order.len() / NODES_PER_HUB).max(1);
    let mut hubs: Vec<u32> = order.iter().copied().take(sample).collect();
    let mut reached = vec![false; links.len()];
    for hub in &hubs {
        reach(*hub, links, &mut reached);
    }
    for node in order {
        if reached.get(*node as usize) == Some(&false) {
            hubs.push(*node);
            reach(*node, links, &mut reached);
        }
    }
    hubs
}

/// Of each node, the squared distance to the neighbour in the middle of those it is linked with.
fn spacing(rows: &Rows, lead: &[u32], links: &[Vec<u32>]) -> Vec<f32> {
    let row = |node: u32| lead.get(node as usize).and_then(|slot| rows.row(*slot)).unwrap_or_default();
    let mut apart = Vec::new();
    let mut middle = |(node, links): (u32, &Vec<u32>)| {
        apart.clear();
        apart.extend(links.iter().map(|other| Kernel::squared_distance(row(node), row(*other))));
        let at = apart.len() / 2;
        // one that stands alone is as near as can be to whatever finds it
        if links.is_empty() { f32::INFINITY } else { *apart.select_nth_unstable_by(at, f32::total_cmp).1 }
    };
    (0..).zip(links).map(&mut middle).collect()
}

fn reach(from: u32, links: &[Vec<u32>], reached: &mut [bool]) {
    let mut next = VecDeque::from([from]);
    while let Some(node) = next.pop_front() {
        match reached.get_mut(node as usize) {
            Some(seen) if !*seen => *seen = true,
            _ => continue,
        }
        next.extend(links.get(node as usize).into_iter().flatten());
    }
}
