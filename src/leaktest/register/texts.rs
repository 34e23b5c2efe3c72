//! Texts by fragments: any run of a text that is long enough shares a fingerprint with it (winnowing, Schleimer, Wilkerson and Aiken, 2003),
//! whatever its case, spaces and marks. Knows nothing of who may see what.

use std::collections::{HashMap, HashSet};

/// Letters and digits, and one space between words, that a fingerprint is of.
const GRAM: usize = 24;
/// Among so many fingerprints in a row the least is kept.
const WINDOW: usize = 9;
/// A run of so many characters is recognised.
pub(super) const RECOGNISED: usize = GRAM + WINDOW - 1;

/// Fragments of all texts, and the records that each is of.
#[derive(Debug, Default)]
pub(super) struct Texts {
    of: HashMap<u64, Vec<usize>>,
}

impl Texts {
    /// Takes in a text; says whether it is long enough to be recognised.
    pub(super) fn add(&mut self, text: &str, at: usize) -> bool {
        let prints = prints(text);
        for print in &prints {
            let places = self.of.entry(*print).or_default();
            if places.last() != Some(&at) {
                places.push(at);
            }
        }
        !prints.is_empty()
    }

    /// Fragments in `text` that are of some record, and of which.
    pub(super) fn within(&self, text: &str) -> Vec<(u64, &[usize])> {
        let known = |print: u64| Some((print, self.of.get(&print)?.as_slice()));
        prints(text).into_iter().filter_map(known).collect()
    }
}

/// Fingerprints of a text.
pub(super) fn prints(text: &str) -> HashSet<u64> {
    let plain = plain(text);
    let grams = grams(&plain);
    if grams.is_empty() {
        return HashSet::new();
    }
    let window = WINDOW.min(grams.len());
    grams.windows(window).filter_map(|these| these.iter().min().copied()).collect()
}

/// Lower case, marks and spaces as one space, tags of a highlighter left out.
fn plain(text: &str) -> Vec<u8> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(tag(rest).unwrap_or(c.len_utf8())..).unwrap_or_default();
        if c.is_alphanumeric() {
            plain.extend(c.to_lowercase());
        } else if c != '<' && !plain.ends_with(' ') {
            plain.push(' ');
        }
    }
    plain.trim().as_bytes().to_vec()
}

/// Bytes of a tag that `text` begins with.
fn tag(text: &str) -> Option<usize> {
    const LONGEST: usize = 24;
    let inside = text.strip_prefix('<')?;
    let name = inside.strip_prefix('/').unwrap_or(inside);
    let end = inside.find('>').filter(|end| *end <= LONGEST)?;
    name.starts_with(|c: char| c.is_ascii_alphabetic()).then_some(end + 2)
}

const BASE: u64 = 0x0000_0100_0000_01b3;

/// One number a run of `GRAM` bytes.
fn grams(plain: &[u8]) -> Vec<u64> {
    let leaving = (0..GRAM).fold(1_u64, |power, _| power.wrapping_mul(BASE));
    let mut sum = 0_u64;
    let mut all = Vec::with_capacity(plain.len().saturating_sub(GRAM - 1));
    for (at, byte) in plain.iter().enumerate() {
        sum = sum.wrapping_mul(BASE).wrapping_add(u64::from(*byte) + 1);
        if let Some(gone) = at.checked_sub(GRAM).and_then(|gone| plain.get(gone)) {
            sum = sum.wrapping_sub((u64::from(*gone) + 1).wrapping_mul(leaving));
        }
        if at + 1 >= GRAM {
            all.push(mixed(sum));
        }
    }
    all
}

/// So that which is the least does not hang on how a run begins.
fn mixed(sum: u64) -> u64 {
    let z = (sum ^ (sum >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaktest::dice::Dice;

    fn some_text(dice: &mut Dice) -> String {
        (0..80).map(|_| format!("{:x} ", dice.below(100_000))).collect()
    }

    #[test]
    fn any_run_that_is_long_enough_is_recognised_and_none_of_another_text() {
        let mut dice = Dice::of(1, "texts");
        let mut texts = Texts::default();
        let all: Vec<String> = (0..50).map(|_| some_text(&mut dice)).collect();
        all.iter().enumerate().for_each(|(at, text)| assert!(texts.add(text, at)));
        for _ in 0..500 {
            let at = dice.below(all.len());
            let from = dice.below(all[at].trim().len() - RECOGNISED - 1);
            let run = &all[at][from..from + RECOGNISED + 2];
            let shown = format!("… {} …", run.to_uppercase());
            assert!(texts.within(&shown).iter().any(|(_, places)| *places == [at]), "{run:?}");
            assert!(texts.within(&some_text(&mut dice)).is_empty());
        }
    }

    #[test]
    fn a_highlighter_hides_nothing_and_what_is_short_is_not_recognised() {
        let mut texts = Texts::default();
        assert!(!texts.add("discharged home", 0));
        assert!(texts.add("Referred for suspected pulmonary embolism after a long flight", 1));
        let shown = "referred for <em>suspected</em> pulmonary <mark class=\"x\">embolism</mark> after a";
        assert_eq!(texts.within(shown).first().map(|(_, places)| *places), Some(&[1][..]));
        assert!(texts.within("a < b and c > d, referred for").is_empty());
    }
}
