//! What changed lately, so that whatever was made of it can follow instead of being made anew.

use std::collections::VecDeque;

/// Changes remembered. Whoever is further behind starts anew: at that point it is cheaper too.
const REMEMBERED: usize = 1 << 16;

/// A list of changes that forgets its beginning.
#[derive(Debug)]
pub(in crate::policy) struct Changes<T> {
    lately: VecDeque<T>,
    /// How many there ever were.
    count: u64,
}

impl<T> Default for Changes<T> {
    fn default() -> Self {
        Self { lately: VecDeque::new(), count: 0 }
    }
}

impl<T> Changes<T> {
    pub(in crate::policy) fn note(&mut self, changed: T) {
        if self.lately.len() == REMEMBERED {
            self.lately.pop_front();
        }
        self.lately.push_back(changed);
        self.count += 1;
    }

    /// How many changes there ever were: a mark for `since`.
    pub(in crate::policy) fn mark(&self) -> u64 {
        self.count
    }

    /// What changed after a mark; `None` where that is forgotten.
    pub(in crate::policy) fn since(&self, mark: u64) -> Option<impl Iterator<Item = &T>> {
        let behind = usize::try_from(self.count.checked_sub(mark)?).ok()?;
        let from = self.lately.len().checked_sub(behind)?;
        Some(self.lately.range(from..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_from_a_mark_on_until_they_are_forgotten() {
        let mut changes = Changes::default();
        let start = changes.mark();
        assert_eq!(changes.since(start).unwrap().count(), 0);
        (0..10_u32).for_each(|n| changes.note(n));
        assert_eq!(changes.since(8).unwrap().copied().collect::<Vec<_>>(), [8, 9]);
        (10..10 + REMEMBERED as u32).for_each(|n| changes.note(n));
        assert!(changes.since(start).is_none());
        assert!(changes.since(9).is_none());
        assert_eq!(changes.since(10).unwrap().count(), REMEMBERED);
        assert!(changes.since(changes.mark() + 1).is_none());
    }
}
