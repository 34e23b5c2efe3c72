//! The walk: every node may lead on, permitted ones alone are admitted.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

use roaring::RoaringBitmap;

use super::Graph;
use crate::index::{Kernel, rows::Rows, top::Top};

/// Why a walk did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortfall {
    /// It had visited as many nodes as it may.
    Budget,
    /// It ended with fewer permitted rows than were asked for.
    TooFew,
    /// What it found lies further from the question than its rows do from one another: the question is near to nothing that is permitted,
    /// and such walks often end far from the nearest.
    Far,
}

/// One question to a graph.
pub(in crate::index) struct Walk<'a> {
    pub(in crate::index) rows: &'a Rows,
    pub(in crate::index) kernel: Kernel,
    pub(in crate::index) query: &'a [f32],
    /// What may be admitted: permitted and live.
    pub(in crate::index) searched: &'a RoaringBitmap,
    /// Admitted nodes that are kept while walking.
    pub(in crate::index) breadth: usize,
    /// Nodes that may be visited.
    pub(in crate::index) budget: u64,
}

impl Walk<'_> {
    /// Offers the permitted slots of the nearest nodes to `top`; tells how many rows were read, and what was wrong.
    pub(in crate::index) fn run(&self, graph: &Graph, top: &mut Top<'_>) -> (u64, Result<(), Shortfall>) {
        let mut scratch = graph.spare.lock().pop().unwrap_or_default();
        scratch.begin(graph.nodes());
        let (visits, outcome) = self.spread(graph, &mut scratch);
        if outcome.is_ok() {
            for Reverse(near) in &scratch.admitted {
                let permitted = graph.slots.of(near.node).iter().filter(|s| self.searched.contains(**s));
                permitted.for_each(|slot| top.offer(*slot, near.score));
            }
        }
        graph.spare.lock().push(scratch);
        (visits, outcome)
    }

    fn spread(&self, graph: &Graph, scratch: &mut Scratch) -> (u64, Result<(), Shortfall>) {
        let mut visits = 0;
        for hub in &graph.hubs {
            visits += self.visit(graph, *hub, scratch);
        }
        while let Some(near) = scratch.frontier.pop() {
            if near.score < scratch.bar(self.breadth) {
                break;
            }
            if visits > self.budget {
                return (visits, Err(Shortfall::Budget));
            }
            for neighbour in graph.links.of(near.node) {
                visits += self.visit(graph, *neighbour, scratch);
            }
        }
        (visits, Ok(()))
    }

    /// Scores a node that was not seen yet. A dead one has no vector any more: its living neighbours are scored in its
    /// place. Not the dead ones' in turn, for where a fifth is dead that would lead through most of the graph.
    fn visit(&self, graph: &Graph, node: u32, scratch: &mut Scratch) -> u64 {
        if !scratch.mark(node) {
            return 0;
        }
        let Some(slot) = graph.leading(node) else {
            let around = graph.links.of(node).iter();
            return around.map(|next| self.visit_living(graph, *next, scratch)).sum();
        };
        self.score(graph, node, slot, scratch)
    }

    fn visit_living(&self, graph: &Graph, node: u32, scratch: &mut Scratch) -> u64 {
        match graph.leading(node) {
            Some(slot) if scratch.mark(node) => self.score(graph, node, slot, scratch),
            Some(_) | None => 0,
        }
    }

    fn score(&self, graph: &Graph, node: u32, slot: u32, scratch: &mut Scratch) -> u64 {
        let Some(row) = self.rows.row(slot) else { return 0 };
        self.keep(graph, Near { score: self.kernel.score(self.query, row), node }, scratch);
        1
    }

    fn keep(&self, graph: &Graph, near: Near, scratch: &mut Scratch) {
        if near.score < scratch.bar(self.breadth) {
            return;
        }
        scratch.frontier.push(near);
        if graph.slots.of(near.node).iter().any(|slot| self.searched.contains(*slot)) {
            scratch.admitted.push(Reverse(near));
            if scratch.admitted.len() > self.breadth {
                scratch.admitted.pop();
            }
        }
    }
}

/// A node and its score; the greatest is the nearest.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Near {
    score: f32,
    node: u32,
}

impl Eq for Near {}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.node.cmp(&self.node))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What a walk writes on; used again by the next one.
#[derive(Default)]
pub(super) struct Scratch {
    /// The walk that saw each node last.
    seen: Vec<u16>,
    walk: u16,
    /// Scored and not yet expanded.
    frontier: BinaryHeap<Near>,
    /// The nearest permitted, worst on top.
    admitted: BinaryHeap<Reverse<Near>>,
}

impl Scratch {
    fn begin(&mut self, nodes: usize) {
        self.frontier.clear();
        self.admitted.clear();
        self.walk = self.walk.wrapping_add(1);
        if self.walk == 0 {
            self.seen.clear();
            self.walk = 1;
        }
        self.seen.resize(nodes, 0);
    }

    /// True the first time.
    fn mark(&mut self, node: u32) -> bool {
        match self.seen.get_mut(node as usize) {
            Some(seen) if *seen != self.walk => {
                *seen = self.walk;
                true
            }
            _ => false,
        }
    }

    /// What scores lower is of no use to a walk of this breadth.
    fn bar(&self, breadth: usize) -> f32 {
        match self.admitted.peek() {
            Some(Reverse(worst)) if self.admitted.len() >= breadth => worst.score,
            _ => f32::NEG_INFINITY,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.seen.capacity() * size_of::<u16>()
            + (self.frontier.capacity() + self.admitted.capacity()) * size_of::<Near>()
    }
}
