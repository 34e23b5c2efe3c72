//! Vectors on their way to a graph, copied some at a time. Knows neither graphs nor locks.
//!
//! A graph reads vectors for as long as it is built, which takes minutes. Were their memory shared so long, every write would have to copy a
//! chunk of it first; were all copied at once, every write would wait for that. Rows that are copied at different moments are rows of one:
//! while this is on its way a slot that it names is wiped at most, and not used again.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::{GraphJob, VectorIndex, rows::Rows};

/// Bytes that are copied at a time, about.
const STEP_BYTES: usize = 1 << 20;

/// Vectors as they were when it was begun, but for those that were removed since.
pub struct Gathering {
    rows: Rows,
    /// The slots that were live, which are not used again meanwhile.
    named: Arc<RoaringBitmap>,
    covered: u32,
    lineage: Arc<()>,
}

impl VectorIndex {
    /// Begins to gather the vectors for a graph, if one is wanted: see [`VectorIndex::graph_job`].
    pub fn gathering(&self) -> Option<Gathering> {
        self.wants_graph().then(|| Gathering {
            rows: self.columns.exact.alike(),
            named: self.free.name(self.live.clone()),
            covered: self.slots(),
            lineage: Arc::clone(&self.lineage),
        })
    }
}

impl Gathering {
    /// Copies some more of the index that it was begun of; tells whether there is more to come. Of another index nothing is copied.
    pub fn more(&mut self, index: &VectorIndex) -> bool {
        let rows = STEP_BYTES / size_of::<f32>() / self.rows.width().max(1);
        let from = self.rows.len();
        let to = from.saturating_add(rows.max(1) as u32).min(self.covered);
        if self.is_of(index) {
            index.columns.exact.stretches(from..to, |_, cells| self.rows.append(cells));
        }
        (from..self.covered).contains(&self.rows.len()) && self.rows.len() > from
    }

    /// What a graph is built of, once all was copied: without what `index` has removed meanwhile.
    pub fn into_job(self, index: &VectorIndex) -> Option<GraphJob> {
        let whole = self.is_of(index) && self.rows.len() == self.covered;
        whole.then(|| GraphJob::new(self.rows, index.free.name(&*self.named & &index.live), self.lineage))
    }

    fn is_of(&self, index: &VectorIndex) -> bool {
        Arc::ptr_eq(&self.lineage, &index.lineage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        index::planner::GRAPH_ROWS_MIN,
        model::{Embedding, Isolation, Metric, Slot},
    };

    const DIMENSION: usize = 96;

    fn push(index: &mut VectorIndex, n: u32) -> Slot {
        let components = (0..DIMENSION).map(|i| (i as u32 * 7 % (n + 2)) as f32 + 1.0).collect();
        let vector = Embedding::new(components, DIMENSION, Metric::Euclidean).unwrap();
        index.push(&index.encoder().encode(vector))
    }

    #[test]
    fn what_is_gathered_while_rows_come_and_go_is_what_was_there_and_stayed() {
        let mut index = VectorIndex::new(DIMENSION, Metric::Euclidean, Isolation::Fast);
        let count = GRAPH_ROWS_MIN as u32 + 500;
        (0..count).for_each(|n| _ = push(&mut index, n));
        let expected: Vec<Vec<f32>> = (0..count).map(|n| index.vector(Slot(n)).unwrap().to_vec()).collect();
        index.remove(Slot(1));
        let mut gathering = index.gathering().unwrap();
        let mut removed = vec![Slot(1)];
        let mut steps = 0;
        while gathering.more(&index) {
            assert!(!index.shares_memory());
            steps += 1;
            // one that was copied already, and one that was not
            for slot in [Slot(steps * 3), Slot(count - steps * 5)] {
                index.remove(slot);
                removed.push(slot);
            }
            let slot = push(&mut index, steps).0;
            assert!(slot >= count || slot == 1 && steps == 1, "of those that it names none is used again: {slot}");
        }
        assert!(steps > 2);
        let (rows, live) = (gathering.rows.clone(), &*gathering.named & &index.live);
        assert_eq!(gathering.into_job(&index).unwrap().rows(), live.len());
        assert_eq!(rows.len(), count);
        assert!((0..count).all(|slot| live.contains(slot) != removed.contains(&Slot(slot))));
        assert!(live.iter().all(|slot| rows.row(slot) == Some(expected[slot as usize].as_slice())));
    }

    #[test]
    fn of_another_index_nothing_is_gathered() {
        let mut index = VectorIndex::new(DIMENSION, Metric::Euclidean, Isolation::Fast);
        (0..GRAPH_ROWS_MIN as u32).for_each(|n| _ = push(&mut index, n));
        let mut gathering = index.gathering().unwrap();
        let other = VectorIndex::new(DIMENSION, Metric::Euclidean, Isolation::Fast);
        assert!(!gathering.more(&other));
        assert!(gathering.into_job(&other).is_none());
    }
}
