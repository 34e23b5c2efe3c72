//! Words and signs of Cedar's texts, and where its statements lie. Knows no grammar: it points at places, Cedar alone judges.

use std::ops::Range;

/// What a stretch of text is. White space is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    Text,
    Comment,
    Sign,
}

/// One stretch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Range<usize>,
}

impl Token {
    /// As it is written.
    pub(super) fn of<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.span.clone()).unwrap_or_default()
    }
}

/// All stretches of a text, in order.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = Token> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..)?;
        let start = at + (rest.len() - rest.trim_start().len());
        let (kind, length) = first(text.get(start..)?)?;
        at = start + length;
        Some(Token { kind, span: start..at })
    })
}

/// Kind and length of what a text begins with.
fn first(text: &str) -> Option<(Kind, usize)> {
    let mut characters = text.chars();
    Some(match characters.next()? {
        '/' if characters.next() == Some('/') => (Kind::Comment, text.find('\n').unwrap_or(text.len())),
        '"' => (Kind::Text, quoted(text)),
        c if is_word(c) => (Kind::Word, text.find(|c| !is_word(c)).unwrap_or(text.len())),
        c => (Kind::Sign, c.len_utf8()),
    })
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Up to the quote that is not escaped.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        if byte == b'"' && !escaped {
            return at + 1;
        }
        escaped = !escaped && byte == b'\\';
    }
    text.len()
}

/// One policy or template, as far as signs and words tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// From its first annotation to its semicolon.
    pub(super) span: Range<usize>,
    /// `permit` or `forbid`, and where it stands.
    pub(super) effect: Option<Range<usize>>,
    /// Whether it has a slot.
    pub(super) template: bool,
}

/// The statements of a text of policies, in the order in which Cedar counts them.
pub(super) fn statements(text: &str) -> Vec<Statement> {
    let (mut found, mut depth, mut open): (Vec<Statement>, usize, Option<Statement>) = (Vec::new(), 0, None);
    let mut before = "";
    for token in tokens(text).filter(|token| token.kind != Kind::Comment) {
        let own = token.of(text);
        let statement =
            open.get_or_insert_with(|| Statement { span: token.span.clone(), effect: None, template: false });
        statement.span.end = token.span.end;
        match (token.kind, own) {
            (Kind::Sign, "(" | "[" | "{") => depth += 1,
            (Kind::Sign, ")" | "]" | "}") => depth = depth.saturating_sub(1),
            (Kind::Sign, ";") if depth == 0 => found.extend(open.take()),
            (Kind::Word, "permit" | "forbid") if depth == 0 && before != "@" => {
                statement.effect.get_or_insert_with(|| token.span.clone());
            }
            (Kind::Word, "principal" | "resource") if before == "?" => statement.template = true,
            (Kind::Word | Kind::Text | Kind::Comment | Kind::Sign, _) => {}
        }
        before = own;
    }
    found
}

/// Where an annotation stands in a statement, with its value.
pub(super) fn annotation(text: &str, statement: &Statement, key: &str) -> Option<Range<usize>> {
    let (mut before, mut start) = ("", None);
    for token in within(text, &statement.span) {
        let own = token.of(text);
        match (start, own) {
            (Some(start), ")") => return Some(start..token.span.end),
            (Some(_), _) => {}
            (None, _) if before == "@" && own == key => start = Some(token.span.start.saturating_sub(1)),
            (None, "permit" | "forbid") if before != "@" => return None,
            (None, _) => {}
        }
        before = own;
    }
    None
}

/// Where these words and signs follow one another in a statement.
pub(super) fn sequence(text: &str, statement: &Statement, wanted: &[&str]) -> Option<Range<usize>> {
    let all: Vec<Token> = within(text, &statement.span).collect();
    let found = all.windows(wanted.len()).find(|window| window.iter().zip(wanted).all(|(t, w)| t.of(text) == *w))?;
    Some(found.first()?.span.start..found.last()?.span.end)
}

/// The stretches of a part of a text, without comments.
pub(super) fn within<'t>(text: &'t str, span: &Range<usize>) -> impl Iterator<Item = Token> + 't {
    let offset = span.start;
    let moved = move |token: Token| Token { span: token.span.start + offset..token.span.end + offset, ..token };
    let part = text.get(span.clone()).unwrap_or_default();
    tokens(part).filter(|token| token.kind != Kind::Comment).map(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "// permit;\n@id(\"a;\\\"b\") @forbid(\"x\")\npermit (principal in ?principal, action, resource)\nwhen { context has x };\nforbid(principal,action,resource);";

    #[test]
    fn statements_are_found_whatever_strings_and_comments_hold() {
        let all = statements(TEXT);
        let shown: Vec<_> = all.iter().map(|s| (s.template, &TEXT[s.effect.clone().unwrap()])).collect();
        assert_eq!(shown, [(true, "permit"), (false, "forbid")]);
        assert!(TEXT[all[0].span.clone()].starts_with("@id") && TEXT[all[0].span.clone()].ends_with("x };"));
        assert!(statements("// nothing\n").is_empty());
        assert!(statements("\"never ended").is_empty());
    }

    #[test]
    fn annotations_and_sequences_are_found_where_they_stand() {
        let all = statements(TEXT);
        assert_eq!(&TEXT[annotation(TEXT, &all[0], "id").unwrap()], "@id(\"a;\\\"b\")");
        assert_eq!(&TEXT[annotation(TEXT, &all[0], "forbid").unwrap()], "@forbid(\"x\")");
        assert_eq!(annotation(TEXT, &all[1], "id"), None);
        assert_eq!(&TEXT[sequence(TEXT, &all[0], &["context", "has", "x"]).unwrap()], "context has x");
        assert_eq!(sequence(TEXT, &all[1], &["has"]), None);
    }
}
