//! A condition as the requirements that a policy makes, each in the words of its author and with what it comes to for one record.
//! Negations are pushed down to the parts (`unless { a || b }` requires that neither holds); the order stays Cedar's.

use std::sync::Arc;

use serde::Serialize;

use super::wording::{self, Operator, Piece};
use crate::policy::{
    Position,
    trace::{Halt, Trace},
    tree::{Kind, Node},
};

/// What a requirement comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Met {
    /// It is met.
    Yes,
    /// It is not.
    No,
    /// Its evaluation errs.
    Erred,
    /// It looks at an entity that is not stored.
    MissingEntity,
    /// An earlier one decides, and this one has no value by itself.
    NotReached,
}

/// How the parts of a requirement make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// Every part is required.
    All,
    /// One part is enough.
    Any,
}

/// One requirement of a policy. Says whether it is met, never by what values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Requirement {
    /// As the policy's author wrote it, in one line; in Cedar's own style where that cannot be found.
    pub text: String,
    /// Whether the opposite of the text is required.
    pub negated: bool,
    /// Where it is written, if that is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Position>,
    /// What it comes to.
    pub met: Met,
    /// How its parts make it, where it has parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
    /// Its parts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Requirement>,
}

/// Characters of one requirement's text that are told.
const TEXT_CHARS: usize = 400;
/// Parts that a sentence names before it says that there are more.
const NAMED: usize = 6;

impl Requirement {
    /// In the words of a sentence: `x`, or not `x`.
    pub(super) fn words(&self) -> String {
        if self.negated { format!("not `{}`", self.text) } else { format!("`{}`", self.text) }
    }

    fn opposite(&self) -> String {
        Self { negated: !self.negated, ..self.clone() }.words()
    }
}

/// What would have to come true for all of these to be met.
pub(super) fn remedy(requirements: &[Requirement]) -> String {
    joined(requirements.iter().filter(|r| r.met != Met::Yes).map(mend), " and ")
}

fn mend(requirement: &Requirement) -> String {
    match requirement.join {
        Some(Join::All) => remedy(&requirement.parts),
        Some(Join::Any) => joined(requirement.parts.iter().map(mend), " or "),
        None => requirement.words(),
    }
}

/// What would have to come true for one of these not to be met.
pub(super) fn undoing(requirements: &[Requirement]) -> String {
    joined(requirements.iter().map(undo), " or ")
}

fn undo(requirement: &Requirement) -> String {
    match requirement.join {
        Some(Join::All) => undoing(&requirement.parts),
        Some(Join::Any) => joined(requirement.parts.iter().filter(|r| r.met == Met::Yes).map(undo), " and "),
        None => requirement.opposite(),
    }
}

fn joined(words: impl Iterator<Item = String>, with: &str) -> String {
    let words: Vec<String> = words.collect();
    let named: Vec<&str> = words.iter().take(NAMED).map(String::as_str).collect();
    let more = words.len() - named.len();
    let rest = if more > 0 { format!("{with}{more} more") } else { String::new() };
    format!("{}{rest}", named.join(with))
}

/// The requirements that a condition makes, in order.
pub(super) fn of(
    trace: &Trace<'_>,
    condition: &Arc<Node>,
    clauses: Option<Vec<wording::Clause<'_>>>,
) -> Vec<Requirement> {
    let reader = Reader { trace };
    let mut found = Vec::new();
    for (node, unless, body) in apart(condition, clauses) {
        found.extend(reader.all(node, unless, body));
    }
    reader.evaluate(&mut found, Join::All, true);
    found.into_iter().map(|part| part.told).collect()
}

type Apart<'n, 't> = Vec<(&'n Arc<Node>, bool, Option<Piece<'t>>)>;

/// Condition and text clause by clause: a condition is the conjunction of its clauses. One whole where text and tree differ.
fn apart<'n, 't>(condition: &'n Arc<Node>, clauses: Option<Vec<wording::Clause<'t>>>) -> Apart<'n, 't> {
    let mut clauses = clauses.unwrap_or_default();
    let mut found = Vec::new();
    let mut rest = condition;
    while let Some(clause) = clauses.pop() {
        let node = match (&rest.kind, clauses.is_empty()) {
            (_, true) => rest,
            (Kind::And(left, last), false) => {
                rest = left;
                last
            }
            (_, false) => return vec![(condition, false, None)],
        };
        match (&node.kind, clause.unless) {
            (_, false) => found.push((node, false, Some(clause.body))),
            (Kind::Not(inner), true) => found.push((inner, true, Some(clause.body))),
            (_, true) => return vec![(condition, false, None)],
        }
    }
    found.reverse();
    if found.is_empty() { vec![(condition, false, None)] } else { found }
}

/// A requirement with the node that it was made of.
struct Part<'n> {
    node: &'n Arc<Node>,
    parts: Vec<Part<'n>>,
    told: Requirement,
}

struct Reader<'a, 'w> {
    trace: &'a Trace<'w>,
}

impl Reader<'_, '_> {
    /// The parts of a conjunction.
    fn all<'n>(&self, node: &'n Arc<Node>, negated: bool, piece: Option<Piece<'_>>) -> Vec<Part<'n>> {
        let piece = piece.map(Piece::bare);
        match (&node.kind, negated) {
            (Kind::And(l, r), false) => match halves(piece.as_ref(), Operator::And) {
                Halves::Fit(left, right) => self.both(l, r, negated, left, right),
                Halves::Differ => vec![self.atom(node, negated, piece)],
            },
            (Kind::Or(l, r), true) => match halves(piece.as_ref(), Operator::Or) {
                Halves::Fit(left, right) => self.both(l, r, negated, left, right),
                Halves::Differ => vec![self.atom(node, negated, piece)],
            },
            (Kind::Not(inner), _) => match piece.as_ref().map(Piece::negated) {
                None => self.all(inner, !negated, None),
                Some(Some(rest)) => self.all(inner, !negated, Some(rest)),
                Some(None) => vec![self.atom(node, negated, piece)],
            },
            (Kind::Or(..), false) | (Kind::And(..), true) => vec![self.any(node, negated, piece)],
            _ => vec![self.atom(node, negated, piece)],
        }
    }

    fn both<'n>(
        &self,
        l: &'n Arc<Node>,
        r: &'n Arc<Node>,
        negated: bool,
        left: Option<Piece<'_>>,
        right: Option<Piece<'_>>,
    ) -> Vec<Part<'n>> {
        let mut parts = self.all(l, negated, left);
        parts.extend(self.all(r, negated, right));
        parts
    }

    /// A disjunction with its parts, or a part that is none.
    fn any<'n>(&self, node: &'n Arc<Node>, negated: bool, piece: Option<Piece<'_>>) -> Part<'n> {
        let mut whole = self.atom(node, negated, piece.clone());
        let mut parts = Vec::new();
        self.alternatives(node, negated, piece, &mut parts);
        if parts.len() > 1 {
            whole.told.join = Some(Join::Any);
            whole.parts = parts;
        }
        whole
    }

    fn alternatives<'n>(
        &self,
        node: &'n Arc<Node>,
        negated: bool,
        piece: Option<Piece<'_>>,
        found: &mut Vec<Part<'n>>,
    ) {
        let piece = piece.map(Piece::bare);
        let (l, r, operator) = match (&node.kind, negated) {
            (Kind::Or(l, r), false) => (l, r, Operator::Or),
            (Kind::And(l, r), true) => (l, r, Operator::And),
            _ => return found.push(self.one(node, negated, piece)),
        };
        match halves(piece.as_ref(), operator) {
            Halves::Fit(left, right) => {
                self.alternatives(l, negated, left, found);
                self.alternatives(r, negated, right, found);
            }
            Halves::Differ => found.push(self.atom(node, negated, piece)),
        }
    }

    /// One alternative: a conjunction keeps its parts together.
    fn one<'n>(&self, node: &'n Arc<Node>, negated: bool, piece: Option<Piece<'_>>) -> Part<'n> {
        let mut parts = self.all(node, negated, piece.clone());
        match parts.len() {
            1 => parts.remove(0),
            _ => {
                let mut whole = self.atom(node, negated, piece);
                whole.told.join = Some(Join::All);
                whole.parts = parts;
                whole
            }
        }
    }

    fn atom<'n>(&self, node: &'n Arc<Node>, negated: bool, piece: Option<Piece<'_>>) -> Part<'n> {
        let piece = piece.filter(|piece| node.is_written(&piece.words()));
        let text = shortened(piece.as_ref().map_or_else(|| node.text(), Piece::words));
        let place = piece.map(|piece| piece.place()).map(|(line, column)| Position { line, column });
        let told = Requirement { text, negated, place, met: Met::NotReached, join: None, parts: vec![] };
        Part { node, parts: vec![], told }
    }

    /// Fills in what each comes to, in Cedar's order: after the part that decides, only what has a value by itself. Gives what the whole
    /// comes to.
    fn evaluate(&self, parts: &mut [Part<'_>], join: Join, reached: bool) -> Met {
        let (decides, otherwise) = match join {
            Join::All => (Met::No, Met::Yes),
            Join::Any => (Met::Yes, Met::No),
        };
        let mut whole = otherwise;
        for part in parts {
            let open = reached && whole == otherwise;
            let met =
                if matches!(whole, Met::Erred | Met::MissingEntity) { Met::NotReached } else { self.met(part, open) };
            part.told.met = met;
            if whole == otherwise && (met == decides || !matches!(met, Met::Yes | Met::No)) {
                whole = met;
            }
        }
        whole
    }

    fn met(&self, part: &mut Part<'_>, reached: bool) -> Met {
        let met = match part.told.join {
            Some(join) => self.evaluate(&mut part.parts, join, reached),
            None => match self.trace.truth(part.node) {
                Ok(truth) if truth != part.told.negated => Met::Yes,
                Ok(_) => Met::No,
                Err(_) if !reached => Met::NotReached,
                Err(Halt::Erred) => Met::Erred,
                Err(Halt::Missing) => Met::MissingEntity,
            },
        };
        part.told.parts = part.parts.iter().map(|part| part.told.clone()).collect();
        met
    }
}

enum Halves<'t> {
    Fit(Option<Piece<'t>>, Option<Piece<'t>>),
    Differ,
}

/// The text of a left-associative operator's operands. Without text, the tree alone counts.
fn halves<'t>(piece: Option<&Piece<'t>>, operator: Operator) -> Halves<'t> {
    let Some(piece) = piece else { return Halves::Fit(None, None) };
    match piece.halve(operator) {
        Some((left, right)) => Halves::Fit(Some(left), Some(right)),
        None => Halves::Differ,
    }
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(TEXT_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
