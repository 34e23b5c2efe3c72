//! Words that name records (ids, documents, patients, values of attributes), found wherever they stand in a text. How telling a word is hangs on how
//! likely it stands there by chance. Knows nothing of who may see what.

use std::collections::{BTreeSet, HashMap};

/// What a word names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A record.
    Id,
    /// What it was cut from.
    Document,
    /// Whose it is.
    Patient,
    /// What one of its attributes says.
    Attribute,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Document => "document",
            Self::Patient => "patient",
            Self::Attribute => "attribute",
        }
    }
}

/// How much it says that a word stands somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling {
    /// Nobody writes it by chance.
    Sure,
    /// Letters alone, or nearly: a message may use it as a word.
    Ordinary,
    /// A number, a date, or a few characters: sizes, times and versions look like it.
    Chance,
}

/// A word that names records.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) kind: Kind,
    /// Of all that are called so.
    pub(super) places: Vec<usize>,
}

/// All names of a world.
#[derive(Debug, Default)]
pub(super) struct Names {
    of: HashMap<String, Name>,
    lengths: BTreeSet<usize>,
}

/// Bits of chance above which a word counts as nobody's accident.
const SURE_BITS: f64 = 20.0;
const BITS_A_DIGIT: f64 = 3.32;
/// Letters follow one another by habit.
const BITS_A_LETTER: f64 = 2.0;

impl Names {
    pub(super) fn add(&mut self, word: &str, kind: Kind, at: usize) {
        if word.is_empty() {
            return;
        }
        self.lengths.insert(word.len());
        let name = self.of.entry(word.to_owned()).or_insert_with(|| Name { kind, places: Vec::new() });
        name.kind = name.kind.min(kind);
        if name.places.last() != Some(&at) {
            name.places.push(at);
        }
    }

    pub(super) fn of(&self, word: &str) -> Option<&Name> {
        self.of.get(word)
    }

    /// Every name that stands in `text` as a word of its own.
    pub(super) fn within<'n, 't>(&'n self, text: &'t str) -> Vec<(&'t str, &'n Name)> {
        let ends: Vec<bool> = (0..=text.len()).map(|at| parts(text, at)).collect();
        let parted = |at: usize| ends.get(at).copied().unwrap_or(false);
        let mut found = Vec::new();
        for from in (0..text.len()).filter(|at| parted(*at)) {
            for to in self.lengths.iter().map(|length| from + length).filter(|to| parted(*to)) {
                if let Some(word) = text.get(from..to)
                    && let Some(name) = self.of.get(word)
                {
                    found.push((word, name));
                }
            }
        }
        found
    }

    /// How much it says that this word stands somewhere.
    pub(super) fn telling(&self, word: &str) -> Telling {
        let count = |is: fn(&char) -> bool| word.chars().filter(is).count();
        let (digits, letters) = (count(char::is_ascii_digit), count(|c| c.is_alphabetic()));
        if digits == 0 {
            return if letters > 3 { Telling::Ordinary } else { Telling::Chance };
        }
        let chance = if letters == 0 { (self.of.len().max(1) as f64).log2() } else { 0.0 };
        let bits = digits as f64 * BITS_A_DIGIT + letters as f64 * BITS_A_LETTER - chance;
        if bits >= SURE_BITS && !midnight(word) { Telling::Sure } else { Telling::Chance }
    }

    /// Names of one kind: how many there are, and how many of them are not surely told from other words.
    pub(super) fn doubtful(&self, kind: Kind) -> (usize, usize) {
        let all = || self.of.iter().filter(|(_, name)| name.kind == kind);
        (all().count(), all().filter(|(word, _)| self.telling(word) != Telling::Sure).count())
    }
}

/// Whether a word may begin or end here.
fn parts(text: &str, at: usize) -> bool {
    let (Some(before), Some(after)) = (text.get(..at), text.get(at..)) else { return false };
    let inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    !(inside(before.chars().next_back()) && inside(after.chars().next()))
}

/// A day that is written as a moment: there are few of them.
fn midnight(word: &str) -> bool {
    word.contains("T00:00:00")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Names {
        let mut names = Names::default();
        words.iter().enumerate().for_each(|(at, word)| names.add(word, Kind::Id, at));
        names
    }

    #[test]
    fn a_name_is_found_as_a_word_of_its_own_wherever_it_stands() {
        let names = names(&["rec-000017", "a b", "7", "Mü-1234567"]);
        let found = |text: &str| names.within(text).into_iter().map(|(word, _)| word.to_owned()).collect::<Vec<_>>();
        assert_eq!(found("left out: rec-000017 (note)"), ["rec-000017"]);
        assert_eq!(found("/records/rec-000017?x=7"), ["rec-000017", "7"]);
        assert_eq!(found("rec-0000171 xrec-000017 77"), Vec::<String>::new());
        assert_eq!(found("(a b)Mü-1234567"), ["a b", "Mü-1234567"]);
    }

    #[test]
    fn words_numbers_and_dates_are_not_taken_for_names() {
        let names = names(&["x"]);
        for word in ["rec-000017", "pat-00012", "m-nurse-000", "8f3a1c9e", "4821934470118"] {
            assert_eq!(names.telling(word), Telling::Sure, "{word}");
        }
        for word in ["unknown", "representation", "whitaker-estate"] {
            assert_eq!(names.telling(word), Telling::Ordinary, "{word}");
        }
        for word in ["1", "25", "2026", "p1", "abc", "utf-8", "2026-11-25T00:00:00Z", "104857"] {
            assert_eq!(names.telling(word), Telling::Chance, "{word}");
        }
    }
}
