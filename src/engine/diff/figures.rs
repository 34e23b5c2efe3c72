//! How much was gained or lost, and some of it by name.

use std::collections::{BTreeMap, HashSet};

use roaring::RoaringBitmap;
use serde::Serialize;

use crate::{
    engine::world::Holding,
    model::{Action, RecordId, Slot},
};

/// Records of one collection, counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Figures {
    /// How many records.
    pub records: u64,
    /// Of how many patients.
    pub patients: u64,
    /// The first of them by id.
    pub sample: Vec<RecordId>,
}

/// All callers together.
#[derive(Debug, Clone, Serialize)]
pub struct Total {
    /// In which collection.
    pub collection: String,
    /// By which actions; both where they agree.
    pub actions: Vec<Action>,
    /// For how many callers something changes.
    pub callers: u64,
    /// Records that somebody would see and did not.
    pub gained: Figures,
    /// Pairs of caller and record (and purpose) gained.
    pub gained_pairs: u64,
    /// Records that somebody saw and would not.
    pub lost: Figures,
    /// Pairs lost.
    pub lost_pairs: u64,
}

/// Slots gained and lost.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Change {
    pub(super) gained: RoaringBitmap,
    pub(super) lost: RoaringBitmap,
}

impl Change {
    pub(super) fn between(old: &RoaringBitmap, new: &RoaringBitmap) -> Self {
        Self { gained: new - old, lost: old - new }
    }

    pub(super) fn is_none(&self) -> bool {
        self.gained.is_empty() && self.lost.is_empty()
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.gained |= &other.gained;
        self.lost |= &other.lost;
    }
}

/// What is the same for both actions, told once.
pub(super) fn by_action<T: PartialEq + Clone>(retrieve: &T, read: &T) -> Vec<(Vec<Action>, T)> {
    match retrieve == read {
        true => vec![(vec![Action::Retrieve, Action::Read], retrieve.clone())],
        false => vec![(vec![Action::Retrieve], retrieve.clone()), (vec![Action::Read], read.clone())],
    }
}

impl Figures {
    pub(super) fn of(holding: &Holding, slots: &RoaringBitmap, samples: usize) -> Self {
        let rows = || slots.iter().filter_map(|slot| holding.row(Slot(slot)));
        let patients: HashSet<_> = rows().filter_map(|row| row.patient.as_ref()).collect();
        let mut ids: Vec<&RecordId> = rows().map(|row| &row.id).collect();
        Self { records: slots.len(), patients: patients.len() as u64, sample: first(&mut ids, samples) }
    }
}

/// The first ids in their order, whatever slots they happen to be in.
fn first(ids: &mut [&RecordId], most: usize) -> Vec<RecordId> {
    let (few, _) = match ids.len() > most {
        true => ids.select_nth_unstable(most).0.split_at_mut(most),
        false => ids.split_at_mut(ids.len()),
    };
    few.sort_unstable();
    few.iter().map(|id| (*id).clone()).collect()
}

/// First come first, up to a bound; the rest is counted.
pub(super) struct Rows<T> {
    pub(super) kept: Vec<T>,
    pub(super) omitted: u64,
}

impl<T> Rows<T> {
    pub(super) fn new() -> Self {
        Self { kept: Vec::new(), omitted: 0 }
    }

    pub(super) fn push(&mut self, row: T, most: usize) {
        if self.kept.len() < most {
            self.kept.push(row);
        } else {
            self.omitted += 1;
        }
    }
}

/// The ids of entities as people read them: `Type::"id"`.
pub(super) fn shown(uid: &crate::model::EntityUid) -> String {
    format!("{}::\"{}\"", uid.ty, uid.id)
}

/// Counts by key.
pub(super) type Counts<K> = BTreeMap<K, u64>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_kept_up_to_the_bound_and_counted_beyond_it() {
        let mut rows = Rows::new();
        (0..3).for_each(|row| rows.push(row, 2));
        assert_eq!((rows.kept, rows.omitted), (vec![0, 1], 1));
    }

    #[test]
    fn a_sample_holds_the_first_ids_whatever_order_they_come_in() {
        let ids: Vec<RecordId> = ["c", "a", "d", "b"].iter().filter_map(|id| id.parse().ok()).collect();
        for (most, expected) in
            [(0, "".to_owned()), (2, "ab".to_owned()), (4, "abcd".to_owned()), (9, "abcd".to_owned())]
        {
            let sample = first(&mut ids.iter().collect::<Vec<_>>(), most);
            assert_eq!(sample.iter().map(RecordId::as_str).collect::<String>(), expected);
        }
    }

    #[test]
    fn what_both_actions_have_in_common_is_told_once() {
        assert_eq!(by_action(&1, &1), [(vec![Action::Retrieve, Action::Read], 1)]);
        assert_eq!(by_action(&1, &2), [(vec![Action::Retrieve], 1), (vec![Action::Read], 2)]);
    }
}
