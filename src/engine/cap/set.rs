//! Small sets of numbered permits, copied and compared at once.

const WORDS: usize = 4;

/// Permits that one set can tell apart.
pub(super) const WIDTH: usize = WORDS * 64;

/// Numbers below `WIDTH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Set([u64; WORDS]);

impl Set {
    pub(super) fn of(numbers: impl IntoIterator<Item = usize>) -> Self {
        let mut set = Self::default();
        numbers.into_iter().for_each(|n| set.insert(n));
        set
    }

    pub(super) fn insert(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
    }

    pub(super) fn without(mut self, number: usize) -> Self {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word &= !(1 << (number % 64));
        }
        self
    }

    pub(super) fn contains(self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    pub(super) fn and(self, other: Self) -> Self {
        self.with(other, |a, b| a & b)
    }

    pub(super) fn or(self, other: Self) -> Self {
        self.with(other, |a, b| a | b)
    }

    pub(super) fn meets(self, other: Self) -> bool {
        !self.and(other).is_empty()
    }

    pub(super) fn is_within(self, other: Self) -> bool {
        self.and(other) == self
    }

    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }

    pub(super) fn len(self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(at, word)| {
            std::iter::successors(Some(word), |rest| Some(rest & rest.wrapping_sub(1)))
                .take_while(|rest| *rest != 0)
                .map(move |rest| at * 64 + rest.trailing_zeros() as usize)
        })
    }

    /// The set as numbers, for keys.
    pub(super) fn words(self) -> [u64; WORDS] {
        self.0
    }

    fn with(self, other: Self, join: impl Fn(u64, u64) -> u64) -> Self {
        let mut words = self.0;
        words.iter_mut().zip(other.0).for_each(|(word, beside)| *word = join(*word, beside));
        Self(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_up_to_its_width() {
        let numbers = [0, 1, 63, 64, 130, WIDTH - 1];
        let set = Set::of(numbers);
        assert!(set.iter().eq(numbers));
        assert_eq!(set.len(), 6);
        assert!(set.contains(64) && !set.contains(65) && !set.without(64).contains(64));
        assert!(Set::of([WIDTH]).is_empty(), "what does not fit is not in it");
    }

    #[test]
    fn sets_are_joined_cut_and_compared() {
        let (a, b) = (Set::of([1, 70]), Set::of([70, 200]));
        assert_eq!((a.and(b), a.or(b)), (Set::of([70]), Set::of([1, 70, 200])));
        assert!(a.meets(b) && !a.is_within(b) && a.and(b).is_within(a));
    }
}
