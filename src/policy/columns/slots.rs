//! The slots of one value. Most values of most columns have few, and what is written together lies together: such must not cost a
//! bitmap each.

use roaring::RoaringBitmap;

/// Slots kept in a list; beyond it they are a bitmap.
const FEW: usize = 32;

/// A set of slots, in as little memory as it asks for.
#[derive(Debug, Clone, Default)]
pub(in crate::policy) enum Slots {
    #[default]
    None,
    /// `count` slots from `first` on, at least one.
    Run {
        first: u32,
        count: u32,
    },
    /// Sorted.
    #[expect(clippy::box_collection, reason = "a thin pointer keeps the enum at 16 bytes, of which there are millions")]
    Few(Box<Vec<u32>>),
    Many(Box<RoaringBitmap>),
}

impl Slots {
    pub(in crate::policy) fn is_empty(&self) -> bool {
        match self {
            Self::None => true,
            Self::Run { .. } => false,
            Self::Few(slots) => slots.is_empty(),
            Self::Many(slots) => slots.is_empty(),
        }
    }

    /// In order.
    pub(in crate::policy) fn iter(&self) -> impl Iterator<Item = u32> {
        let (run, few, many) = match self {
            Self::None => (None, None, None),
            Self::Run { first, count } => (Some(*first..first.saturating_add(*count)), None, None),
            Self::Few(slots) => (None, Some(slots.iter().copied()), None),
            Self::Many(slots) => (None, None, Some(slots.iter())),
        };
        run.into_iter().flatten().chain(few.into_iter().flatten()).chain(many.into_iter().flatten())
    }

    /// Puts them all into `set`.
    pub(in crate::policy) fn add_to(&self, set: &mut RoaringBitmap) {
        match self {
            Self::None => {}
            Self::Run { first, count } => {
                set.insert_range(*first..first.saturating_add(*count));
            }
            Self::Few(slots) => set.extend(slots.iter().copied()),
            Self::Many(slots) => *set |= slots.as_ref(),
        }
    }

    /// Puts those of them that lie within `bounds` into `set`.
    pub(in crate::policy) fn add_within(&self, bounds: &RoaringBitmap, set: &mut RoaringBitmap) {
        match self {
            Self::Many(slots) => *set |= slots.as_ref() & bounds,
            Self::None | Self::Run { .. } | Self::Few(_) => {
                set.extend(self.iter().filter(|slot| bounds.contains(*slot)));
            }
        }
    }

    pub(super) fn insert(&mut self, slot: u32) {
        match self {
            Self::None => *self = Self::Run { first: slot, count: 1 },
            Self::Run { first, count } if first.checked_add(*count) == Some(slot) => *count += 1,
            Self::Run { first, count } if slot.checked_add(1) == Some(*first) => {
                *first = slot;
                *count += 1;
            }
            Self::Run { first, count } if (*first..first.saturating_add(*count)).contains(&slot) => {}
            Self::Run { .. } => {
                self.spread();
                self.insert(slot);
            }
            Self::Few(slots) => {
                if let Err(at) = slots.binary_search(&slot) {
                    slots.insert(at, slot);
                    if slots.len() > FEW {
                        *self = Self::Many(Box::new(slots.iter().copied().collect()));
                    }
                }
            }
            Self::Many(slots) => slots.extend([slot]),
        }
    }

    pub(super) fn remove(&mut self, slot: u32) {
        match self {
            Self::None => {}
            Self::Run { first, count } => {
                let end = first.saturating_add(*count);
                if !(*first..end).contains(&slot) {
                    return;
                }
                if *count == 1 {
                    *self = Self::None;
                } else if slot == *first {
                    *first += 1;
                    *count -= 1;
                } else if slot == end - 1 {
                    *count -= 1;
                } else {
                    self.spread();
                    self.remove(slot);
                }
                return;
            }
            Self::Few(slots) => {
                if let Ok(at) = slots.binary_search(&slot) {
                    slots.remove(at);
                }
            }
            Self::Many(slots) => {
                slots.remove(slot);
            }
        }
        if self.is_empty() {
            *self = Self::None;
        }
    }

    /// A run as what can have gaps.
    fn spread(&mut self) {
        if let Self::Run { first, count } = *self {
            let slots = first..first.saturating_add(count);
            *self = match count as usize {
                0..=FEW => Self::Few(Box::new(slots.collect())),
                _ => Self::Many(Box::new(slots.collect())),
            };
        }
    }

    /// Adds all of `more`.
    pub(super) fn extend(&mut self, more: &RoaringBitmap) {
        if more.len() as usize <= FEW {
            more.iter().for_each(|slot| self.insert(slot));
        } else {
            let mut all = more.clone();
            self.add_to(&mut all);
            *self = Self::Many(Box::new(all));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bitmap(slots: &Slots) -> RoaringBitmap {
        let mut set = RoaringBitmap::new();
        slots.add_to(&mut set);
        set
    }

    #[test]
    fn slots_agree_with_a_bitmap_whatever_their_form() {
        assert_eq!(size_of::<Slots>(), 16);
        let (mut slots, mut plain) = (Slots::default(), RoaringBitmap::new());
        let bounds: RoaringBitmap = (0..60).step_by(3).collect();
        let mut state = 7_u64;
        for round in 0..8_000_u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // scattered, then in runs
            let slot = if round < 4_000 { (state >> 40) as u32 % 60 } else { round % 60 };
            // grows, shrinks to nothing, grows again
            match (round / 500) % 2 == 0 {
                true => {
                    slots.insert(slot);
                    plain.insert(slot);
                }
                false => {
                    slots.remove(slot);
                    plain.remove(slot);
                }
            }
            assert_eq!(bitmap(&slots), plain);
            assert_eq!(slots.iter().collect::<RoaringBitmap>(), plain);
            assert!(slots.iter().is_sorted());
            assert_eq!(slots.is_empty(), plain.is_empty());
            let mut within = RoaringBitmap::new();
            slots.add_within(&bounds, &mut within);
            assert_eq!(within, &plain & &bounds);
        }
        for count in [1, FEW as u32, FEW as u32 + 1, 100] {
            let more: RoaringBitmap = (200..200 + count).collect();
            slots.extend(&more);
            plain |= more;
            assert_eq!(bitmap(&slots), plain);
        }
    }

    #[test]
    fn a_run_is_kept_as_one_from_either_end() {
        let mut slots = Slots::default();
        for slot in [50, 51, 52, 49, 48, 53] {
            slots.insert(slot);
        }
        slots.remove(48);
        slots.remove(53);
        slots.remove(7);
        assert!(matches!(slots, Slots::Run { first: 49, count: 4 }));
        slots.remove(50);
        assert!(matches!(&slots, Slots::Few(few) if **few == [49, 51, 52]));
        let mut last = Slots::default();
        last.insert(u32::MAX - 1);
        last.insert(u32::MAX - 2);
        assert_eq!(bitmap(&last), RoaringBitmap::from_iter([u32::MAX - 1, u32::MAX - 2]));
    }
}
