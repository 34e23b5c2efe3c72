//! Bounds on a text before any parser sees it: Cedar's parser needs stack for every nested bracket and operator, and an
//! exhausted stack ends the process.

use super::{
    BundleFault,
    fault::{Part, Place},
};
use crate::model::limits;

/// Operators in one policy or declaration: each may nest the syntax tree one deeper.
const OPERATORS: usize = 2_000;

/// Operators that are words. `if … then … else if …` nests without a bracket.
const OPERATOR_WORDS: [&[u8]; 5] = [b"if", b"has", b"in", b"is", b"like"];

/// Refuses a text that is too long, nests too deep, or chains too many operators in one statement. In a schema `<` opens a
/// bracket.
pub(super) fn check(text: &str, kind: Part) -> Result<(), BundleFault> {
    if text.len() > limits::BUNDLE_BYTES {
        let message = format!("must not be longer than {} bytes", limits::BUNDLE_BYTES);
        return Err(BundleFault::new("too_long", message).at(Some(Place::new(kind, text, 0..0))));
    }
    let mut meter = Meter { kind, depth: 0, operators: 0 };
    meter.run(text.as_bytes()).map_err(|(rest, message)| {
        let at = text.len() - rest;
        BundleFault::new("too_deep", message).at(Some(Place::new(kind, text, at..at + 1)))
    })
}

struct Meter {
    kind: Part,
    depth: usize,
    operators: usize,
}

/// How much of the text was left, and what is wrong there.
type Excess = (usize, String);

impl Meter {
    fn run(&mut self, mut rest: &[u8]) -> Result<(), Excess> {
        while let Some((&byte, tail)) = rest.split_first() {
            rest = match (byte, tail.first()) {
                (b'/', Some(b'/')) => after_comment(tail),
                (b'"', _) => after_string(tail),
                (b'a'..=b'z' | b'A'..=b'Z' | b'_', _) => {
                    let (word, tail) = word(rest);
                    self.operators += usize::from(OPERATOR_WORDS.contains(&word));
                    self.within(rest.len())?;
                    tail
                }
                _ => {
                    self.step(byte, rest.len())?;
                    tail
                }
            };
        }
        Ok(())
    }

    fn step(&mut self, byte: u8, left: usize) -> Result<(), Excess> {
        match byte {
            b'(' | b'[' | b'{' => self.depth += 1,
            b'<' if self.kind == Part::Schema => self.depth += 1,
            b')' | b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            b'>' if self.kind == Part::Schema => self.depth = self.depth.saturating_sub(1),
            b';' => self.operators = 0,
            b'.' | b'&' | b'|' | b'!' | b'-' | b'+' | b'*' | b'=' => self.operators += 1,
            _ => {}
        }
        self.within(left)
    }

    fn within(&self, left: usize) -> Result<(), Excess> {
        let fault = |message: String| Err((left, message));
        if self.depth > limits::BUNDLE_DEPTH {
            return fault(format!("brackets must not nest deeper than {}", limits::BUNDLE_DEPTH));
        }
        if self.operators > OPERATORS {
            return fault(format!("one statement must not have more than {OPERATORS} operators; split it"));
        }
        Ok(())
    }
}

/// Strings may hold anything but are ended by the first quote that is not escaped.
fn after_string(text: &[u8]) -> &[u8] {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate() {
        if *byte == b'"' && !escaped {
            return text.get(at + 1..).unwrap_or_default();
        }
        escaped = !escaped && *byte == b'\\';
    }
    &[]
}

pub(super) fn after_comment(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|b| *b == b'\n').unwrap_or(text.len());
    text.get(end..).unwrap_or_default()
}

/// The word that a text begins with, and what follows it.
pub(super) fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'_').unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_bounded_at_the_limit_and_one_past_it() {
        let nested = |n: usize| format!("{}{}", "(".repeat(n), ")".repeat(n));
        assert!(check(&nested(limits::BUNDLE_DEPTH), Part::Policies).is_ok());
        assert_eq!(check(&nested(limits::BUNDLE_DEPTH + 1), Part::Policies).unwrap_err().code, "too_deep");
        assert!(check(&"<".repeat(100), Part::Policies).is_ok());
        assert!(check(&"<".repeat(100), Part::Schema).is_err());
    }

    #[test]
    fn strings_and_comments_do_not_count_and_cannot_hide_brackets() {
        let brackets = "(".repeat(100);
        assert!(check(&format!("\"{brackets}\""), Part::Policies).is_ok());
        assert!(check(&format!("// {brackets}\n"), Part::Policies).is_ok());
        assert!(check(&format!("\"\\\"{brackets}\""), Part::Policies).is_ok());
        assert!(check(&format!("\"//\"{brackets}"), Part::Policies).is_err());
        assert!(check(&format!("// \"\n{brackets}"), Part::Policies).is_err());
        assert!(check(&format!("\"\\\\\"{brackets}"), Part::Policies).is_err());
    }

    #[test]
    fn long_chains_of_operators_are_refused_and_named_by_line() {
        let fault = check(&format!("\n\n{}", "true && ".repeat(3_000)), Part::Policies).unwrap_err();
        assert_eq!((fault.code, fault.place.map(|p| p.line)), ("too_deep", Some(3)));
        for hidden in ["if true then ", "if true then //;\n", "if \";\" then ", "if\ntrue then "] {
            assert!(check(&hidden.repeat(2_000), Part::Policies).is_ok());
            assert_eq!(check(&hidden.repeat(2_001), Part::Policies).unwrap_err().code, "too_deep");
        }
        assert!(check(&"iff is_in ".repeat(3_000), Part::Policies).is_ok());
        assert_eq!(check(&"a".repeat(limits::BUNDLE_BYTES + 1), Part::Policies).unwrap_err().code, "too_long");
    }
}
