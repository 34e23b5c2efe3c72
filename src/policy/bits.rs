//! Sets of slots where "none" and "all" cost nothing, and the three outcomes of an expression over them.

use roaring::RoaringBitmap;

#[cfg(test)]
use super::agreement::{Mutant, planted};

/// A set of live slots.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Bits {
    #[default]
    None,
    All,
    /// These.
    Some(RoaringBitmap),
    /// All live slots but these.
    But(RoaringBitmap),
}

impl Bits {
    pub(super) fn some(slots: RoaringBitmap) -> Self {
        if slots.is_empty() { Self::None } else { Self::Some(slots) }
    }

    pub(super) fn but(slots: RoaringBitmap) -> Self {
        if slots.is_empty() { Self::All } else { Self::But(slots) }
    }

    pub(super) fn is_none(&self) -> bool {
        match self {
            Self::None => true,
            Self::All | Self::But(_) => false,
            Self::Some(slots) => slots.is_empty(),
        }
    }

    pub(super) fn and(self, other: &Self) -> Self {
        match (self, other) {
            (Self::None, _) | (_, Self::None) => Self::None,
            (Self::All, x) => x.clone(),
            (x, Self::All) => x,
            (Self::Some(a), Self::Some(b)) => Self::some(a & b),
            (Self::Some(a), Self::But(b)) => Self::some(a - b),
            (Self::But(a), Self::Some(b)) => Self::some(b - a),
            (Self::But(a), Self::But(b)) => Self::but(a | b),
        }
    }

    pub(super) fn or(self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::None, x) => x.clone(),
            (x, Self::None) => x,
            (Self::Some(a), Self::Some(b)) => Self::some(a | b),
            (Self::Some(a), Self::But(b)) => Self::but(b - a),
            (Self::But(a), Self::Some(b)) => Self::but(a - b),
            (Self::But(a), Self::But(b)) => Self::but(a & b),
        }
    }

    pub(super) fn not(self) -> Self {
        match self {
            Self::None => Self::All,
            Self::All => Self::None,
            Self::Some(slots) => Self::but(slots),
            Self::But(slots) => Self::some(slots),
        }
    }

    pub(super) fn minus(self, other: &Self) -> Self {
        match (&self, other) {
            (Self::None, _) | (_, Self::None) => self,
            (_, other) => self.and(&other.clone().not()),
        }
    }

    /// As slots.
    pub(super) fn over(self, live: &RoaringBitmap) -> RoaringBitmap {
        match self {
            Self::None => RoaringBitmap::new(),
            Self::All => live.clone(),
            Self::Some(slots) => slots & live,
            Self::But(slots) => live - slots,
        }
    }
}

/// For which slots an expression may be true, may be false, may err or look at something missing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tri {
    pub(super) t: Bits,
    pub(super) f: Bits,
    pub(super) b: Bits,
}

impl Tri {
    pub(super) fn yes() -> Self {
        Self { t: Bits::All, f: Bits::None, b: Bits::None }
    }

    pub(super) fn no() -> Self {
        Self { t: Bits::None, f: Bits::All, b: Bits::None }
    }

    pub(super) fn bad() -> Self {
        Self { t: Bits::None, f: Bits::None, b: Bits::All }
    }

    /// Nothing is known.
    pub(super) fn unknown() -> Self {
        Self { t: Bits::All, f: Bits::All, b: Bits::All }
    }

    /// True on `t`, bad on `b` where not true, false on all else.
    pub(super) fn true_bad(t: Bits, b: Bits) -> Self {
        let b = b.minus(&t);
        Self { f: t.clone().or(&b).not(), t, b }
    }

    /// True on `t`, false on `f` where not true, bad on all else.
    pub(super) fn true_false(t: Bits, f: Bits) -> Self {
        let f = f.minus(&t);
        Self { b: t.clone().or(&f).not(), t, f }
    }

    /// Nothing is known of these slots.
    pub(super) fn unsure_of(self, slots: &RoaringBitmap) -> Self {
        let unsure = Bits::some(slots.clone());
        Self { t: self.t.or(&unsure), f: self.f.or(&unsure), b: self.b.or(&unsure) }
    }

    /// An error counts as false.
    pub(super) fn skipping_errors(self) -> Self {
        Self { t: self.t, f: self.f.or(&self.b), b: Bits::None }
    }

    pub(super) fn not(self) -> Self {
        Self { t: self.f, f: self.t, b: self.b }
    }

    pub(super) fn and(self, other: impl FnOnce() -> Self) -> Self {
        if self.t.is_none() {
            return self;
        }
        let other = other();
        #[cfg(test)]
        let other = planted(Mutant::ErrorOnTheRight, other, Self::skipping_errors);
        Self {
            f: self.f.or(&self.t.clone().and(&other.f)),
            b: self.b.or(&self.t.clone().and(&other.b)),
            t: self.t.and(&other.t),
        }
    }

    pub(super) fn or(self, other: impl FnOnce() -> Self) -> Self {
        self.not().and(|| other().not()).not()
    }

    pub(super) fn choose(self, then: impl FnOnce() -> Self, other: impl FnOnce() -> Self) -> Self {
        let Self { t, f, b } = self;
        let then = if t.is_none() { Self::no() } else { then() };
        let other = if f.is_none() { Self::no() } else { other() };
        let either = |a: &Bits, c: &Bits| t.clone().and(a).or(&f.clone().and(c));
        Self { t: either(&then.t, &other.t), f: either(&then.f, &other.f), b: b.or(&either(&then.b, &other.b)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_algebra_agrees_with_sets_of_four_slots() {
        let live: RoaringBitmap = (0..4).collect();
        let pick = |mask: u32| (0..4).filter(|i| mask & (1 << i) != 0).collect::<RoaringBitmap>();
        let all: Vec<Bits> = (0..16)
            .flat_map(|mask| {
                [Bits::some(pick(mask)), Bits::but(pick(mask)), Bits::Some(pick(mask)), Bits::But(pick(mask))]
            })
            .collect();
        for a in &all {
            let x = a.clone().over(&live);
            assert_eq!(a.clone().not().over(&live), &live - &x);
            for b in &all {
                let y = b.clone().over(&live);
                assert_eq!(a.clone().and(b).over(&live), &x & &y);
                assert_eq!(a.clone().or(b).over(&live), &x | &y);
                assert_eq!(a.clone().minus(b).over(&live), &x - &y);
            }
        }
    }

    #[test]
    fn short_circuits_shield_what_comes_after() {
        assert_eq!(Tri::no().and(Tri::bad), Tri::no());
        assert_eq!(Tri::yes().or(Tri::bad), Tri::yes());
        assert_eq!(Tri::yes().and(Tri::bad), Tri::bad());
        assert_eq!(Tri::no().or(Tri::bad), Tri::bad());
        assert_eq!(Tri::yes().choose(Tri::no, Tri::bad), Tri::no());
        assert_eq!(Tri::bad().choose(Tri::no, Tri::no), Tri::bad());
    }
}
