//! Where the clauses of a policy, and the parts that `&&`, `||` and `!` join, stand in the text that people wrote. It points at text;
//! what a text means is Cedar's business alone.

use std::ops::Range;

/// What a stretch of text is. White space is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Text,
    Comment,
    Sign,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    kind: Kind,
    span: Range<usize>,
}

/// The stretches of `within`, comments left out, in order.
fn tokens(text: &str, within: Range<usize>) -> impl Iterator<Item = Token> + '_ {
    let mut at = within.start;
    let all = std::iter::from_fn(move || {
        let rest = text.get(at..within.end)?;
        let start = at + (rest.len() - rest.trim_start().len());
        let (kind, length) = first(text.get(start..within.end)?)?;
        at = start + length;
        Some(Token { kind, span: start..at })
    });
    all.filter(|token| token.kind != Kind::Comment)
}

/// Kind and length of what a text begins with.
fn first(text: &str) -> Option<(Kind, usize)> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut characters = text.chars();
    Some(match characters.next()? {
        '/' if characters.next() == Some('/') => (Kind::Comment, text.find('\n').unwrap_or(text.len())),
        '"' => (Kind::Text, quoted(text)),
        c if word(c) => (Kind::Word, text.find(|c| !word(c)).unwrap_or(text.len())),
        c => (Kind::Sign, c.len_utf8()),
    })
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

/// What joins two parts of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    And,
    Or,
}

impl Operator {
    fn sign(self) -> &'static str {
        match self {
            Self::And => "&",
            Self::Or => "|",
        }
    }
}

/// A stretch of a text of policies.
#[derive(Debug, Clone)]
pub(super) struct Piece<'t> {
    text: &'t str,
    span: Range<usize>,
}

impl<'t> Piece<'t> {
    fn tokens(&self) -> impl Iterator<Item = Token> + 't {
        tokens(self.text, self.span.clone())
    }

    fn of(&self, token: &Token) -> &'t str {
        self.text.get(token.span.clone()).unwrap_or_default()
    }

    /// Without the white space, comments and brackets around it.
    pub(super) fn bare(self) -> Self {
        let all: Vec<Token> = self.tokens().collect();
        let (Some(first), Some(last)) = (all.first(), all.last()) else { return self };
        let whole = Self { text: self.text, span: first.span.start..last.span.end };
        match whole.closes(&all) == Some(all.len() - 1) {
            true => Self { text: self.text, span: first.span.end..last.span.start }.bare(),
            false => whole,
        }
    }

    /// Where the bracket closes that the tokens begin with.
    fn closes(&self, all: &[Token]) -> Option<usize> {
        let mut depth = 0_usize;
        for (at, token) in all.iter().enumerate() {
            match self.of(token) {
                "(" => depth += 1,
                ")" => depth = depth.checked_sub(1)?,
                _ if at == 0 => return None,
                _ => {}
            }
            if depth == 0 {
                return Some(at);
            }
        }
        None
    }

    /// What the last `operator` outside all brackets joins: operators of Cedar bind to the left. `None` where there is none, or one that
    /// binds less tightly.
    pub(super) fn halve(&self, operator: Operator) -> Option<(Self, Self)> {
        let all: Vec<Token> = self.tokens().collect();
        // `if` reaches to the end of its expression
        if all.first().is_some_and(|token| self.of(token) == "if") {
            return None;
        }
        let (mut last, mut depth) = (None, 0_usize);
        for pair in all.windows(2) {
            let [one, two] = pair else { continue };
            match self.of(one) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                "|" if depth == 0 && self.of(two) == "|" && operator == Operator::And => return None,
                sign if depth == 0 && sign == operator.sign() && self.of(two) == sign => {
                    last = Some((one.span.start, two.span.end));
                }
                _ => {}
            }
        }
        let (end, start) = last?;
        let part = |span| Self { text: self.text, span };
        Some((part(self.span.start..end), part(start..self.span.end)))
    }

    /// What follows a `!` that it begins with.
    pub(super) fn negated(&self) -> Option<Self> {
        let first = self.tokens().next().filter(|token| self.of(token) == "!")?;
        Some(Self { text: self.text, span: first.span.end..self.span.end })
    }

    /// As it is written, in one line and without comments.
    pub(super) fn words(&self) -> String {
        let mut words = String::new();
        let mut end = None;
        for token in self.tokens() {
            if end.is_some_and(|end| end < token.span.start) {
                words.push(' ');
            }
            words.push_str(self.of(&token));
            end = Some(token.span.end);
        }
        words
    }

    /// Line and column of its beginning, from 1; columns count characters.
    pub(super) fn place(&self) -> (usize, usize) {
        let start = self.tokens().next().map_or(self.span.start, |token| token.span.start);
        let before = self.text.get(..start).unwrap_or_default();
        let line = before.rfind('\n').map_or(0, |at| at + 1);
        (1 + before.matches('\n').count(), 1 + before.get(line..).unwrap_or_default().chars().count())
    }
}

/// One `when { … }` or `unless { … }`.
#[derive(Debug, Clone)]
pub(super) struct Clause<'t> {
    pub(super) unless: bool,
    pub(super) body: Piece<'t>,
}

/// The clauses of the policy or template with this `@id`. `None` where there is none, or its name is written with escapes.
pub(super) fn clauses<'t>(text: &'t str, id: &str) -> Option<Vec<Clause<'t>>> {
    let whole = Piece { text, span: 0..text.len() };
    let mut statement: Vec<Token> = Vec::new();
    let mut depth = 0_usize;
    for token in whole.tokens() {
        match whole.of(&token) {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            ";" if depth == 0 => {
                if is_named(&whole, &statement, id) {
                    return Some(clauses_of(&whole, &statement));
                }
                statement.clear();
                continue;
            }
            _ => {}
        }
        statement.push(token);
    }
    None
}

fn is_named(whole: &Piece<'_>, statement: &[Token], id: &str) -> bool {
    let quoted = format!("\"{id}\"");
    let wanted = ["@", "id", "(", &quoted, ")"];
    statement.windows(wanted.len()).any(|window| window.iter().zip(wanted).all(|(token, word)| whole.of(token) == word))
}

fn clauses_of<'t>(whole: &Piece<'t>, statement: &[Token]) -> Vec<Clause<'t>> {
    let (mut found, mut depth, mut open) = (Vec::new(), 0_usize, None);
    for pair in statement.windows(2) {
        let [before, token] = pair else { continue };
        match (whole.of(before), whole.of(token), depth) {
            (word @ ("when" | "unless"), "{", 0) => {
                open = Some((word == "unless", token.span.end));
                depth += 1;
            }
            (_, "(" | "[" | "{", _) => depth += 1,
            (_, ")" | "]" | "}", _) => {
                depth = depth.saturating_sub(1);
                if let Some((unless, start)) = open.take_if(|_| depth == 0) {
                    found.push(Clause { unless, body: Piece { text: whole.text, span: start..token.span.start } });
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"// permit; when { nothing }
@id("one") permit (principal, action, resource)
when { a == "&& || }" && // both
       (b || !c) } unless { if a then b else c && d }
when { ((x)) };
@id("two") @note("@id(\"one\")") forbid (principal in [A, B], action, resource);
"#;

    #[test]
    fn clauses_are_found_by_the_name_of_their_policy_whatever_strings_and_comments_hold() {
        let one = clauses(TEXT, "one").unwrap();
        let shown: Vec<_> = one.iter().map(|c| (c.unless, c.body.words())).collect();
        let expected = [(false, r#"a == "&& || }" && (b || !c)"#), (true, "if a then b else c && d"), (false, "((x))")];
        assert_eq!(shown, expected.map(|(unless, words)| (unless, words.to_owned())));
        assert!(clauses(TEXT, "two").unwrap().is_empty());
        assert!(clauses(TEXT, "three").is_none());
        assert!(clauses("@id(\"x\") permit (", "x").is_none());
    }

    #[test]
    fn parts_are_split_outside_brackets_alone_and_know_their_place() {
        let one = clauses(TEXT, "one").unwrap();
        let (left, right) = one[0].body.halve(Operator::And).unwrap();
        assert_eq!((left.words().as_str(), right.words().as_str()), (r#"a == "&& || }""#, "(b || !c)"));
        assert_eq!((left.place(), right.place()), ((3, 8), (4, 8)));
        let (b, c) = right.bare().halve(Operator::Or).unwrap();
        assert_eq!((b.bare().words(), c.negated().unwrap().bare().words()), ("b".to_owned(), "c".to_owned()));
        assert!(one[1].body.halve(Operator::And).is_none());
        assert_eq!(one[2].body.clone().bare().words(), "x");
        let piece = |text: &'static str| Piece { text, span: 0..text.len() };
        assert_eq!(piece("(a) && (b)").bare().words(), "(a) && (b)");
        let (left, right) = piece("a && b && c").halve(Operator::And).unwrap();
        assert_eq!((left.words().as_str(), right.words().as_str()), ("a && b", "c"));
        assert!(piece("a || b && c").halve(Operator::And).is_none());
        assert_eq!(piece("a || b && c").halve(Operator::Or).unwrap().1.bare().words(), "b && c");
        assert!(piece("a").negated().is_none());
    }
}
