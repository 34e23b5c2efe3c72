//! How much can pass through a network of bounded arcs. Knows nothing of permits, records or patients.

use std::collections::VecDeque;

use super::work::{Spent, Work};

/// More than ever passes.
pub(super) const UNBOUNDED: u64 = u64::MAX / 4;

/// A point of the network.
pub(super) type Node = usize;

/// Nodes and the arcs between them; an arc's opposite, over which flow is taken back, is the number beside it.
pub(super) struct Network {
    arcs: Vec<Arc>,
    leaving: Vec<Vec<usize>>,
}

struct Arc {
    to: Node,
    room: u64,
}

impl Network {
    pub(super) fn new(nodes: usize) -> Self {
        Self { arcs: Vec::new(), leaving: vec![Vec::new(); nodes] }
    }

    /// Joins two nodes by an arc that lets `room` through; returns its number.
    pub(super) fn join(&mut self, from: Node, to: Node, room: u64) -> usize {
        let number = self.arcs.len();
        for (node, arc, at) in [(from, Arc { to, room }, number), (to, Arc { to: from, room: 0 }, number + 1)] {
            self.arcs.push(arc);
            if let Some(leaving) = self.leaving.get_mut(node) {
                leaving.push(at);
            }
        }
        number
    }

    /// What passes over an arc now.
    pub(super) fn passing(&self, arc: usize) -> u64 {
        self.room(arc ^ 1)
    }

    /// Sends `amount` more from one node to another, turning aside what passes already; says whether all of it came through.
    pub(super) fn send(&mut self, from: Node, to: Node, amount: u64, work: &mut Work) -> Result<bool, Spent> {
        let mut left = amount;
        while left > 0 {
            let Some(way) = self.way(from, to, work)? else { return Ok(false) };
            let passes = way.iter().map(|arc| self.room(*arc)).fold(left, u64::min);
            way.into_iter().for_each(|arc| self.pass(arc, passes));
            left -= passes;
        }
        Ok(true)
    }

    /// The arcs of a shortest way with room, last first.
    fn way(&self, from: Node, to: Node, work: &mut Work) -> Result<Option<Vec<usize>>, Spent> {
        let mut came_by: Vec<Option<usize>> = vec![None; self.leaving.len()];
        let mut next = VecDeque::from([from]);
        while let Some(node) = next.pop_front() {
            let leaving = self.leaving.get(node).map(Vec::as_slice).unwrap_or_default();
            work.spend(leaving.len())?;
            for arc in leaving {
                let Some(Arc { to: end, room }) = self.arcs.get(*arc) else { continue };
                let unseen = *end != from && came_by.get(*end).is_some_and(Option::is_none);
                if *room == 0 || !unseen {
                    continue;
                }
                if let Some(came) = came_by.get_mut(*end) {
                    *came = Some(*arc);
                }
                if *end == to {
                    return Ok(Some(self.back(&came_by, from, to)));
                }
                next.push_back(*end);
            }
        }
        Ok(None)
    }

    fn back(&self, came_by: &[Option<usize>], from: Node, to: Node) -> Vec<usize> {
        let (mut way, mut node) = (Vec::new(), to);
        while node != from
            && let Some(Some(arc)) = came_by.get(node)
        {
            way.push(*arc);
            node = self.arcs.get(arc ^ 1).map_or(from, |opposite| opposite.to);
        }
        way
    }

    fn pass(&mut self, arc: usize, amount: u64) {
        if let Some(there) = self.arcs.get_mut(arc) {
            there.room -= amount;
        }
        if let Some(back) = self.arcs.get_mut(arc ^ 1) {
            back.room += amount;
        }
    }

    fn room(&self, arc: usize) -> u64 {
        self.arcs.get(arc).map_or(0, |arc| arc.room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_already_is_turned_aside() {
        // 0 and 1 want to go to 4; 0 over 2 or 3, 1 over 2 alone.
        let mut network = Network::new(5);
        let (over_two, over_three) = (network.join(0, 2, 5), network.join(0, 3, 5));
        network.join(1, 2, 5);
        network.join(2, 4, 3);
        network.join(3, 4, 2);
        let mut work = Work::of(1_000);
        assert_eq!(network.send(0, 4, 3, &mut work), Ok(true));
        assert_eq!(network.send(1, 4, 2, &mut work), Ok(true));
        assert_eq!((network.passing(over_two), network.passing(over_three)), (1, 2));
        assert_eq!(network.send(1, 4, 1, &mut work), Ok(false), "five in all come through");
    }

    #[test]
    fn a_search_for_a_way_ends_with_the_work_it_may_do() {
        let mut network = Network::new(2);
        network.join(0, 1, 1);
        assert_eq!(network.send(0, 1, 1, &mut Work::of(0)), Err(Spent));
    }
}
