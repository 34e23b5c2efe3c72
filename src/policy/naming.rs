//! Which policies of a bundle speak of an entity, told from its texts alone: a version that no longer compiles is looked at too. A name in a
//! comment or an annotation is none.

use std::collections::BTreeSet;

use cedar_policy::Policy as CedarPolicy;

use super::{
    PolicyName, convert,
    fault::Part,
    tokens::{self, Kind, Statement, Token},
};
use crate::model::{BundleSource, EntityUid};

/// Names of policies and templates; a link goes by its template's.
pub(super) fn naming(source: &BundleSource, uid: &EntityUid) -> Vec<PolicyName> {
    let mut names = BTreeSet::new();
    for part in [Part::Policies, Part::Templates] {
        let text = part.of(source);
        // an id that is not there as it is may be there with an escape
        if text.contains(&*uid.id) || text.contains('\\') {
            let statements = tokens::statements(text).into_iter().enumerate();
            let naming = statements.filter(|(_, statement)| names_in(text, statement, uid));
            names.extend(naming.map(|(number, statement)| name_of(text, &statement, number)));
        }
    }
    let linked = source.links.iter().filter(|link| link.values.values().any(|value| value == uid));
    names.extend(linked.map(|link| PolicyName::from(link.template.as_str())));
    names.into_iter().collect()
}

fn names_in(text: &str, statement: &Statement, uid: &EntityUid) -> bool {
    let tokens: Vec<Token> = tokens::within(text, &statement.span).collect();
    (0..tokens.len()).any(|at| literal(text, &tokens, at).is_some_and(|found| found == *uid))
}

/// The entity whose id is the text at `at`, if a path of names leads to it.
fn literal(text: &str, tokens: &[Token], at: usize) -> Option<EntityUid> {
    let id = tokens.get(at).filter(|token| token.kind == Kind::Text)?;
    let mut path = tokens.get(..at)?;
    while let [before @ .., name, first, second] = path
        && name.kind == Kind::Word
        && (first.of(text), second.of(text)) == (":", ":")
    {
        path = before;
    }
    let names: String = tokens.get(path.len()..at)?.iter().map(|token| token.of(text)).collect();
    parsed(&format!("{names}{}", id.of(text)))
}

/// By way of a policy: alone Cedar reads a literal only without escapes that are not needed.
fn parsed(literal: &str) -> Option<EntityUid> {
    let policy = CedarPolicy::parse(None, format!("permit(principal == {literal}, action, resource);")).ok()?;
    policy.entity_literals().first().map(convert::from_uid)
}

/// What its `@id` says; where a text has none, its place.
fn name_of(text: &str, statement: &Statement, number: usize) -> PolicyName {
    let annotation = tokens::annotation(text, statement, "id").and_then(|span| text.get(span));
    let quoted = annotation.and_then(|text| text.get(text.find('"')?..=text.rfind('"')?));
    match quoted.and_then(|quoted| parsed(&format!("Policy::{quoted}"))) {
        Some(named) => named.id,
        None => format!("policy{number}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TemplateLink;

    #[test]
    fn a_policy_names_what_a_path_leads_to_in_its_scope_or_its_conditions_and_nothing_else() {
        let names = |policies: &str| {
            let source = BundleSource { policies: policies.into(), ..BundleSource::default() };
            naming(&source, &EntityUid::new("Ward::Patient", "p1")).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let policies = r#"
            // about Ward::Patient::"p1"
            @id("of \"one\"") permit (principal, action, resource in Ward::Patient::"p1");
            @id("condition") forbid (principal, action, resource) when { [Ward :: Patient::"\u{70}1"].contains(resource.patient) };
            @id("Ward::Patient::\"p1\"") permit (principal, action, resource == Ward::Patient::"p11");
            @id("other-type") permit (principal == Patient::"p1", action, resource == Ward::Patient::Old::"p1");
            @id("text") permit (principal, action, resource) when { resource.name == "p1" };
            permit (principal == Ward::Patient::"p1", action, resource);
        "#;
        assert_eq!(names(policies), ["condition", "of \"one\"", "policy5"]);
        assert_eq!(names("permit (principal == Ward::Patient::\"p1\", nonsense);"), ["policy0"], "it need not compile");
        assert_eq!(names("never \"ended"), [""; 0]);
    }

    #[test]
    fn a_link_names_what_it_puts_in() {
        let values = [("?principal".into(), EntityUid::new("Patient", "p1"))].into();
        let link = TemplateLink { template: "own".into(), id: "own-1".into(), values };
        let source = BundleSource { links: vec![link], ..BundleSource::default() };
        assert_eq!(naming(&source, &EntityUid::new("Patient", "p1")).len(), 1);
        assert!(naming(&source, &EntityUid::new("Patient", "p2")).is_empty());
    }
}
