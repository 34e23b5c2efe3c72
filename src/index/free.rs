//! Wiped slots, and from when on they may be used again: not while a graph names them, be it walked, being built, or on its way. Knows
//! no row and no graph.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use roaring::RoaringBitmap;

/// The wiped slots of one index.
#[derive(Default)]
pub(super) struct Free {
    /// To be used again.
    ready: Vec<u32>,
    /// Named by someone when they were wiped.
    held_back: RoaringBitmap,
    /// What was named, as long as somebody holds it.
    named: Mutex<Vec<Weak<RoaringBitmap>>>,
}

impl Free {
    /// Names slots: none of them is used again as long as anyone holds what this returns.
    pub(super) fn name(&self, slots: RoaringBitmap) -> Arc<RoaringBitmap> {
        let named = Arc::new(slots);
        self.named.lock().push(Arc::downgrade(&named));
        named
    }

    /// Takes in a slot that was wiped.
    pub(super) fn push(&mut self, slot: u32) {
        if held(self.named.get_mut()).any(|named| named.contains(slot)) {
            self.held_back.insert(slot);
        } else {
            self.ready.push(slot);
        }
    }

    /// Gives out a slot that nobody names.
    pub(super) fn pop(&mut self) -> Option<u32> {
        if self.ready.is_empty() {
            self.release();
        }
        self.ready.pop()
    }

    /// Makes ready what is named no more, if anyone has let go of names.
    fn release(&mut self) {
        let named = self.named.get_mut();
        let before = named.len();
        named.retain(|named| named.strong_count() > 0);
        if named.len() < before {
            let still = held(named).fold(RoaringBitmap::new(), |all, named| all | &*named);
            self.ready.extend(&self.held_back - &still);
            self.held_back &= still;
        }
    }
}

fn held(named: &[Weak<RoaringBitmap>]) -> impl Iterator<Item = Arc<RoaringBitmap>> {
    named.iter().filter_map(Weak::upgrade)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_given_out_once_nobody_names_it_any_more() {
        let mut free = Free::default();
        free.push(1);
        let (old, new) = (free.name((2..5).collect()), free.name((4..9).collect()));
        [2, 4, 6, 9].into_iter().for_each(|slot| free.push(slot));
        assert_eq!([free.pop(), free.pop(), free.pop()], [Some(9), Some(1), None]);
        drop(old);
        assert_eq!([free.pop(), free.pop()], [Some(2), None]);
        free.push(3);
        drop(new);
        let mut rest = [free.pop(), free.pop(), free.pop()];
        rest.sort_unstable();
        assert_eq!((rest, free.pop()), ([Some(3), Some(4), Some(6)], None));
    }
}
