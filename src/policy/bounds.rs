//! Bounds on a text before any parser sees it: Cedar's parser needs stack for every nested bracket and operator, and an
//! exhausted stack ends the process.

use super::BundleFault;
use crate::model::limits;

/// Operators in one policy or declaration: each may nest the syntax tree one deeper.
const OPERATORS: usize = 2_000;

/// Operators that are words. `if … then … else if …` nests without a bracket.
const OPERATOR_WORDS: [&[u8]; 5] = [b"if", b"has", b"in", b"is", b"like"];

/// What kind of text is measured: in a schema `<` opens a bracket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    Schema,
    Policies,
}

/// Refuses a text that is too long, nests too deep, or chains too many operators in one statement.
pub(super) fn check(text: &str, kind: Text) -> Result<(), BundleFault> {
    if text.len() > limits::BUNDLE_BYTES {
        let message = format!("must not be longer than {} bytes", limits::BUNDLE_BYTES);
        return Err(BundleFault::new("too_long", message));
    }
    Meter { kind, depth: 0, operators: 0, line: 1 }.run(text.as_bytes())
}

struct Meter {
    kind: Text,
    depth: usize,
    operators: usize,
    line: usize,
}

impl Meter {
    fn run(mut self, mut rest: &[u8]) -> Result<(), BundleFault> {
        while let Some((&byte, tail)) = rest.split_first() {
            rest = match (byte, tail.first()) {
                (b'/', Some(b'/')) => after_comment(tail),
                (b'"', _) => self.after_string(tail),
                (b'a'..=b'z' | b'A'..=b'Z' | b'_', _) => {
                    let (word, tail) = word(rest);
                    self.operators += usize::from(OPERATOR_WORDS.contains(&word));
                    self.within()?;
                    tail
                }
                _ => {
                    self.step(byte)?;
                    tail
                }
            };
        }
        Ok(())
    }

    fn step(&mut self, byte: u8) -> Result<(), BundleFault> {
        match byte {
            b'\n' => self.line += 1,
            b'(' | b'[' | b'{' => self.depth += 1,
            b'<' if self.kind == Text::Schema => self.depth += 1,
            b')' | b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            b'>' if self.kind == Text::Schema => self.depth = self.depth.saturating_sub(1),
            b';' => self.operators = 0,
            b'.' | b'&' | b'|' | b'!' | b'-' | b'+' | b'*' | b'=' => self.operators += 1,
            _ => {}
        }
        self.within()
    }

    fn within(&self) -> Result<(), BundleFault> {
        let fault = |message: String| Err(BundleFault::new("too_deep", message).at(Some(self.line)));
        if self.depth > limits::BUNDLE_DEPTH {
            return fault(format!("brackets must not nest deeper than {}", limits::BUNDLE_DEPTH));
        }
        if self.operators > OPERATORS {
            return fault(format!("one statement must not have more than {OPERATORS} operators; split it"));
        }
        Ok(())
    }

    /// Strings may hold anything but are ended by the first quote that is not escaped.
    fn after_string<'a>(&mut self, text: &'a [u8]) -> &'a [u8] {
        let mut escaped = false;
        for (at, byte) in text.iter().enumerate() {
            match byte {
                b'\n' => self.line += 1,
                b'"' if !escaped => return text.get(at + 1..).unwrap_or_default(),
                _ => {}
            }
            escaped = !escaped && *byte == b'\\';
        }
        &[]
    }
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
        assert!(check(&nested(limits::BUNDLE_DEPTH), Text::Policies).is_ok());
        assert_eq!(check(&nested(limits::BUNDLE_DEPTH + 1), Text::Policies).unwrap_err().code, "too_deep");
        assert!(check(&"<".repeat(100), Text::Policies).is_ok());
        assert!(check(&"<".repeat(100), Text::Schema).is_err());
    }

    #[test]
    fn strings_and_comments_do_not_count_and_cannot_hide_brackets() {
        let brackets = "(".repeat(100);
        assert!(check(&format!("\"{brackets}\""), Text::Policies).is_ok());
        assert!(check(&format!("// {brackets}\n"), Text::Policies).is_ok());
        assert!(check(&format!("\"\\\"{brackets}\""), Text::Policies).is_ok());
        assert!(check(&format!("\"//\"{brackets}"), Text::Policies).is_err());
        assert!(check(&format!("// \"\n{brackets}"), Text::Policies).is_err());
        assert!(check(&format!("\"\\\\\"{brackets}"), Text::Policies).is_err());
    }

    #[test]
    fn long_chains_of_operators_are_refused_and_named_by_line() {
        let fault = check(&format!("\n\n{}", "true && ".repeat(3_000)), Text::Policies).unwrap_err();
        assert_eq!((fault.code, fault.line), ("too_deep", Some(3)));
        for hidden in ["if true then ", "if true then //;\n", "if \";\" then ", "if\ntrue then "] {
            assert!(check(&hidden.repeat(2_000), Text::Policies).is_ok());
            assert_eq!(check(&hidden.repeat(2_001), Text::Policies).unwrap_err().code, "too_deep");
        }
        assert!(check(&"iff is_in ".repeat(3_000), Text::Policies).is_ok());
        assert_eq!(check(&"a".repeat(limits::BUNDLE_BYTES + 1), Text::Policies).unwrap_err().code, "too_long");
    }
}
