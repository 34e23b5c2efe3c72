//! Bounds on a filter's text before any parser sees it: an exhausted stack ends the process.

use super::FilterFault;
use crate::policy::Position;
use crate::{
    model::limits::{FILTER_BYTES, FILTER_DEPTH},
    policy::bounds::{after_comment, word},
};

/// Refuses a text that is too long, or nests brackets, `if`s or names deeper than the bound.
pub(super) fn check(text: &str) -> Result<(), FilterFault> {
    if text.len() > FILTER_BYTES {
        let detail = format!("`filter` must not be longer than {FILTER_BYTES} bytes");
        return Err(FilterFault::new("filter_too_long", detail));
    }
    match deep(text.as_bytes()) {
        None => Ok(()),
        Some(offset) => Err(too_deep().at(Position::of(text, offset))),
    }
}

pub(super) fn too_deep() -> FilterFault {
    FilterFault::new("filter_too_deep", format!("`filter` must not nest deeper than {FILTER_DEPTH}"))
}

/// Where a text first nests too deep.
fn deep(text: &[u8]) -> Option<usize> {
    let mut nest = Nest { ifs: vec![0], names: 0 };
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let at = text.len() - rest.len();
        rest = match (byte, tail.first()) {
            (b'/', Some(b'/')) => after_comment(tail),
            (b'"', _) => {
                nest.names = 0;
                after_string(tail)
            }
            (b'a'..=b'z' | b'A'..=b'Z' | b'_', _) => {
                let (word, tail) = word(rest);
                nest.word(word);
                tail
            }
            _ => {
                nest.sign(byte);
                tail
            }
        };
        if nest.depth() > FILTER_DEPTH {
            return Some(at);
        }
    }
    None
}

struct Nest {
    /// `if`s that are open, by open bracket: they nest without one.
    ifs: Vec<usize>,
    /// Names that hang together by dots: `a.b.c`, which Cedar writes out for `has`.
    names: usize,
}

impl Nest {
    fn word(&mut self, word: &[u8]) {
        if let (b"if", Some(open)) = (word, self.ifs.last_mut()) {
            *open += 1;
        }
    }

    fn sign(&mut self, byte: u8) {
        match byte {
            b'(' | b'[' | b'{' => self.ifs.push(0),
            b')' | b']' | b'}' if self.ifs.len() > 1 => drop(self.ifs.pop()),
            b',' => self.ifs.last_mut().into_iter().for_each(|open| *open = 0),
            _ => {}
        }
        self.names = match byte {
            b'.' => self.names + 1,
            b' ' | b'\t' | b'\r' | b'\n' => self.names,
            _ => 0,
        };
    }

    fn depth(&self) -> usize {
        let brackets = self.ifs.len() - 1;
        (brackets + self.ifs.iter().sum::<usize>()).max(self.names)
    }
}

/// What follows a string, ended by the first quote that is not escaped.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(n: usize) -> String {
        format!("{}true{}", "(".repeat(n), ")".repeat(n))
    }

    #[test]
    fn length_and_nesting_are_bounded_at_the_limit_and_one_past_it() {
        let code = |text: &str| check(text).err().map(|fault| fault.code);
        assert_eq!(code(&" ".repeat(FILTER_BYTES)), None);
        assert_eq!(code(&" ".repeat(FILTER_BYTES + 1)), Some("filter_too_long"));
        let ifs = |n: usize| format!("{}false{}", "if true then ".repeat(n), " else true".repeat(n));
        let names = |n: usize| format!("resource has a{}", ".a".repeat(n));
        for deep in [nested, ifs, names] {
            assert_eq!(code(&deep(FILTER_DEPTH)), None);
            assert_eq!(code(&deep(FILTER_DEPTH + 1)), Some("filter_too_deep"));
        }
        assert_eq!(code(&nested(1_000)), Some("filter_too_deep"));
        assert_eq!(code(&"(".repeat(FILTER_BYTES)), Some("filter_too_deep"));
    }

    #[test]
    fn what_lies_side_by_side_does_not_nest() {
        let many = |text: &str| format!("[{}]", vec![text; 200].join(", "));
        for text in ["(true)", "if a then b else c", "a.b.c", "[1]", "\"((((\""] {
            assert!(check(&many(text)).is_ok(), "{text}");
        }
        assert!(check(&format!("\"{}\"", "(".repeat(1_000))).is_ok());
        assert!(check(&format!("// {}\n true", "(".repeat(1_000))).is_ok());
        assert!(check(&format!("\"\\\"\" == x // \"\n{}", "(".repeat(33))).is_err());
        assert!(check(&format!("resource has a{}", "// x\n .a \n".repeat(33))).is_err());
    }
}
