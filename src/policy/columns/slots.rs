//! The slots of one value. Most values of most columns have few: those must not cost a bitmap each.

use roaring::RoaringBitmap;

/// Slots kept in a list; beyond it they are a bitmap.
const FEW: usize = 32;

/// A set of slots, in as little memory as its size asks for.
#[derive(Debug, Clone, Default)]
pub(in crate::policy) enum Slots {
    #[default]
    None,
    One(u32),
    /// Sorted.
    #[expect(clippy::box_collection, reason = "a thin pointer keeps the enum at 16 bytes, of which there are millions")]
    Few(Box<Vec<u32>>),
    Many(Box<RoaringBitmap>),
}

impl Slots {
    pub(in crate::policy) fn is_empty(&self) -> bool {
        match self {
            Self::None => true,
            Self::One(_) => false,
            Self::Few(slots) => slots.is_empty(),
            Self::Many(slots) => slots.is_empty(),
        }
    }

    /// Puts them all into `set`.
    pub(in crate::policy) fn add_to(&self, set: &mut RoaringBitmap) {
        match self {
            Self::None => {}
            Self::One(one) => set.extend([*one]),
            Self::Few(slots) => set.extend(slots.iter().copied()),
            Self::Many(slots) => *set |= slots.as_ref(),
        }
    }

    /// Puts those of them that lie within `bounds` into `set`.
    pub(in crate::policy) fn add_within(&self, bounds: &RoaringBitmap, set: &mut RoaringBitmap) {
        match self {
            Self::None => {}
            Self::One(one) => set.extend(Some(*one).filter(|slot| bounds.contains(*slot))),
            Self::Few(slots) => set.extend(slots.iter().copied().filter(|slot| bounds.contains(*slot))),
            Self::Many(slots) => *set |= slots.as_ref() & bounds,
        }
    }

    pub(in crate::policy) fn iter(&self) -> impl Iterator<Item = u32> {
        let (one, few, many) = match self {
            Self::None => (None, None, None),
            Self::One(one) => (Some(*one), None, None),
            Self::Few(slots) => (None, Some(slots.iter().copied()), None),
            Self::Many(slots) => (None, None, Some(slots.iter())),
        };
        one.into_iter().chain(few.into_iter().flatten()).chain(many.into_iter().flatten())
    }

    #[cfg(test)]
    pub(in crate::policy) fn to_bitmap(&self) -> RoaringBitmap {
        match self {
            Self::Many(slots) => slots.as_ref().clone(),
            Self::None | Self::One(_) | Self::Few(_) => {
                let mut set = RoaringBitmap::new();
                self.add_to(&mut set);
                set
            }
        }
    }

    pub(super) fn insert(&mut self, slot: u32) {
        match self {
            Self::None => *self = Self::One(slot),
            Self::One(one) if *one == slot => {}
            Self::One(one) => {
                let (low, high) = if *one < slot { (*one, slot) } else { (slot, *one) };
                *self = Self::Few(Box::new(vec![low, high]));
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
            Self::One(one) if *one == slot => *self = Self::None,
            Self::One(_) => {}
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

    #[test]
    fn slots_agree_with_a_bitmap_whatever_their_form() {
        assert_eq!(size_of::<Slots>(), 16);
        let (mut slots, mut plain) = (Slots::default(), RoaringBitmap::new());
        let mut state = 7_u64;
        for round in 0..4_000_u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let slot = (state >> 40) as u32 % 60;
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
            assert_eq!(slots.to_bitmap(), plain);
            assert_eq!(slots.is_empty(), plain.is_empty());
        }
        for count in [1, FEW as u32, FEW as u32 + 1, 100] {
            let more: RoaringBitmap = (200..200 + count).collect();
            slots.extend(&more);
            plain |= more;
            assert_eq!(slots.to_bitmap(), plain);
        }
    }
}
