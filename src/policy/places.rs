//! Where each policy and template stands in a bundle's texts, so that a message can point at it. Judges nothing.

use std::{collections::HashMap, ops::Range};

use super::{
    PolicyName,
    fault::{Part, Place},
    tokens::{self, Statement},
};
use crate::model::BundleSource;

/// A bundle's texts and the places of all policies and templates in them, by name.
#[derive(Debug)]
pub(super) struct Places {
    source: BundleSource,
    /// Where the lines of each text start.
    lines: [Vec<usize>; 3],
    statements: HashMap<PolicyName, (Part, Statement)>,
}

impl Places {
    pub(super) fn new(source: &BundleSource) -> Self {
        let starts = |part: Part| {
            let ends = part.of(source).match_indices('\n');
            std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect()
        };
        let lines = [Part::Schema, Part::Policies, Part::Templates].map(starts);
        Self { source: source.clone(), lines, statements: HashMap::new() }
    }

    pub(super) fn source(&self) -> &BundleSource {
        &self.source
    }

    /// The statements of a text, in Cedar's order.
    pub(super) fn statements(&self, part: Part) -> Vec<Statement> {
        tokens::statements(part.of(&self.source))
    }

    /// Where a statement's `@id` stands.
    pub(super) fn span_of_id(&self, part: Part, statement: &Statement) -> Option<Range<usize>> {
        tokens::annotation(part.of(&self.source), statement, "id")
    }

    /// Remembers whose a statement is; the first keeps a name that is used twice.
    pub(super) fn note(&mut self, name: &str, part: Part, statement: &Statement) {
        self.statements.entry(name.into()).or_insert_with(|| (part, statement.clone()));
    }

    /// A stretch of a text.
    pub(super) fn place(&self, part: Part, span: Range<usize>) -> Place {
        let [schema, policies, templates] = &self.lines;
        let starts = match part {
            Part::Schema => schema,
            Part::Policies => policies,
            Part::Templates => templates,
        };
        let line = starts.partition_point(|start| *start <= span.start);
        let start = line.checked_sub(1).and_then(|at| starts.get(at)).copied().unwrap_or(0);
        let before = part.of(&self.source).get(start..span.start);
        let column = 1 + before.map_or(0, |before| before.chars().count());
        Place { part, line, column, start: span.start, end: span.end }
    }

    /// The text that a policy stands in.
    pub(super) fn part(&self, name: &str) -> Option<Part> {
        self.statements.get(name).map(|(part, _)| *part)
    }

    /// `permit` or `forbid` of a policy.
    pub(super) fn effect(&self, name: &str) -> Option<Place> {
        self.find(name, |_, _| None)
    }

    /// An annotation of a policy, or its effect where it has none.
    pub(super) fn annotation(&self, name: &str, key: &str) -> Option<Place> {
        self.find(name, |text, statement| tokens::annotation(text, statement, key))
    }

    /// Where these words follow one another in a policy, or its effect where they do not.
    pub(super) fn words(&self, name: &str, words: &[&str]) -> Option<Place> {
        self.find(name, |text, statement| tokens::sequence(text, statement, words))
    }

    fn find(&self, name: &str, span: impl Fn(&str, &Statement) -> Option<Range<usize>>) -> Option<Place> {
        let (part, statement) = self.statements.get(name)?;
        let effect = || statement.effect.clone().unwrap_or_else(|| statement.span.clone());
        let span = span(part.of(&self.source), statement).unwrap_or_else(effect);
        Some(self.place(*part, span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_columns_in_characters() {
        let source = BundleSource { policies: "// ü\né permit\n".into(), ..BundleSource::default() };
        let places = Places::new(&source);
        let at = source.policies.find("permit").unwrap();
        let place = places.place(Part::Policies, at..at + 6);
        assert_eq!((place.line, place.column), (2, 3));
        assert_eq!(Place::new(Part::Policies, &source.policies, at..at + 6), place);
        let start = places.place(Part::Schema, 0..0);
        assert_eq!((start.line, start.column), (1, 1));
    }
}
