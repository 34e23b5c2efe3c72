//! What is looked at before a bundle is put into force: what must be mended, and what is legal but probably not meant. Says
//! nothing of bundles that are in force already, and evaluates nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cedar_policy::pst;

use super::{
    Bundle, BundleFault, PolicyName, Warning,
    compile::Policy,
    cover::{self, Cover},
    schema::{Attribute, AttributeType, Fields},
};
use crate::model::{Action, limits};

/// Why a warning is given. Its name is stable, and is what `@accept("…")` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// A permit whose scope says `action` alone grants every action, and those that are added later.
    UnscopedAction,
    /// A permit for `Retrieve` without a cap.
    UncappedRetrieve,
    /// A forbid whose evaluation can err, and so denies more than it says.
    ForbidMayErr,
    /// A forbid that says nothing where an optional attribute is absent.
    OptionalAttribute,
    /// A policy that can hold for no request.
    NeverMatches,
    /// A policy that another makes superfluous.
    Shadowed,
    /// A cap that another permit lets everybody around.
    CapWithoutEffect,
    /// A policy for actions that the server never asks about.
    UnaskedAction,
    /// A template without links.
    UnlinkedTemplate,
    /// Text that can be taken for other text.
    ConfusableText,
    /// A name in the schema that hides another.
    ShadowedName,
    /// `@accept` of a warning that is not given.
    NeedlessAccept,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::UnscopedAction,
        Self::UncappedRetrieve,
        Self::ForbidMayErr,
        Self::OptionalAttribute,
        Self::NeverMatches,
        Self::Shadowed,
        Self::CapWithoutEffect,
        Self::UnaskedAction,
        Self::UnlinkedTemplate,
        Self::ConfusableText,
        Self::ShadowedName,
        Self::NeedlessAccept,
    ];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnscopedAction => "unscoped_action",
            Self::UncappedRetrieve => "uncapped_retrieve",
            Self::ForbidMayErr => "forbid_may_err",
            Self::OptionalAttribute => "optional_attribute",
            Self::NeverMatches => "never_matches",
            Self::Shadowed => "shadowed",
            Self::CapWithoutEffect => "cap_without_effect",
            Self::UnaskedAction => "unasked_action",
            Self::UnlinkedTemplate => "unlinked_template",
            Self::ConfusableText => "confusable_text",
            Self::ShadowedName => "shadowed_name",
            Self::NeedlessAccept => "needless_accept",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name && *code != Self::NeedlessAccept)
    }
}

/// Annotations that mean something here.
const KNOWN: [&str; 4] = ["id", "max_records", "max_patients", "accept"];

/// What was found.
#[derive(Debug)]
pub(super) struct Review {
    /// Must be mended before it is put into force.
    pub(super) objections: Vec<BundleFault>,
    /// Is served, but for what its policies accept.
    pub(super) warnings: Vec<Warning>,
    /// All that was found, accepted or not.
    pub(super) found: Vec<Warning>,
}

impl Review {
    pub(super) fn of(bundle: &Bundle) -> Self {
        let mut objections = bundle.dead_links.clone();
        let mut accepted = Accepted::default();
        for (name, annotations) in &bundle.annotations {
            objections.extend(near_misses(bundle, name, annotations));
            objections.extend(hidden(bundle, name));
            if let Some(codes) = annotations.get("accept") {
                objections.extend(accepted.add(bundle, name, codes).err());
            }
        }
        objections.extend(look_alikes(bundle));
        let found = warnings(bundle);
        let mut warnings = accepted.sift(bundle, found.clone());
        warnings.sort_by(|a, b| (&a.place, &a.policy, a.code).cmp(&(&b.place, &b.policy, b.code)));
        warnings.dedup();
        warnings.truncate(limits::BUNDLE_FINDINGS);
        objections.sort_by(|a, b| (&a.place, &a.message).cmp(&(&b.place, &b.message)));
        objections.truncate(limits::BUNDLE_FINDINGS);
        Self { objections, warnings, found }
    }
}

/// What policies say they know, and whether it was so.
#[derive(Default)]
struct Accepted(BTreeMap<(PolicyName, Code), bool>);

impl Accepted {
    fn add(&mut self, bundle: &Bundle, name: &PolicyName, codes: &str) -> Result<(), BundleFault> {
        for word in codes.split(',').map(str::trim) {
            let code = Code::of(word).ok_or_else(|| {
                let known: Vec<_> =
                    Code::ALL.into_iter().filter(|c| Code::of(c.name()).is_some()).map(Code::name).collect();
                let message = format!(
                    "policy \"{name}\": @accept takes codes of warnings, divided by commas: {}",
                    known.join(", ")
                );
                BundleFault::new("bad_accept", message).of(name).at(bundle.places.annotation(name, "accept"))
            })?;
            self.0.insert((Arc::clone(name), code), false);
        }
        Ok(())
    }

    /// Takes out what is accepted, and warns of what is accepted for nothing: it would hide what comes later.
    fn sift(mut self, bundle: &Bundle, mut warnings: Vec<Warning>) -> Vec<Warning> {
        warnings.retain(|warning| {
            let key = warning.policy.as_deref().map(|name| (PolicyName::from(name), warning.code));
            match key.and_then(|key| self.0.get_mut(&key)) {
                Some(met) => {
                    *met = true;
                    false
                }
                None => true,
            }
        });
        warnings.extend(self.0.into_iter().filter(|(_, met)| !met).map(|((name, code), _)| Warning {
            code: Code::NeedlessAccept,
            place: bundle.places.annotation(&name, "accept"),
            message: format!(
                "`{}` is accepted but not warned of: take it out, it would hide a later mistake",
                code.name()
            ),
            policy: Some(name.as_ref().to_owned()),
        }));
        warnings
    }
}

/// An annotation that is nearly a known one was meant to be it, and would silently do nothing.
fn near_misses(bundle: &Bundle, name: &PolicyName, annotations: &BTreeMap<String, String>) -> Vec<BundleFault> {
    let fault = |(key, known): (&String, &str)| {
        let message = format!("policy \"{name}\": @{key} has no meaning; write @{known}, or another word");
        BundleFault::new("unknown_annotation", message).of(name).at(bundle.places.annotation(name, key))
    };
    annotations.keys().filter_map(|key| Some((key, nearly(key)?))).map(fault).collect()
}

/// The known annotation that `key` is nearly.
fn nearly(key: &str) -> Option<&'static str> {
    let near = |known: &&str| match known.len() {
        0..3 => known.eq_ignore_ascii_case(key),
        3..8 => distance(known, key) <= 1,
        _ => distance(known, key) <= 3,
    };
    if KNOWN.contains(&key) { None } else { KNOWN.into_iter().find(near) }
}

/// Edits between two words (Levenshtein), case apart.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, above) in b.bytes().zip(row.iter().skip(1)) {
            let swap = diagonal + usize::from(!x.eq_ignore_ascii_case(&y));
            left = swap.min(above + 1).min(left + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// A name that cannot be read as it is written.
fn hidden(bundle: &Bundle, name: &PolicyName) -> Option<BundleFault> {
    if name.trim() == name.as_ref() && !name.chars().any(is_invisible) {
        return None;
    }
    let message = "an @id begins or ends with a space, or holds characters that cannot be seen: write it plainly";
    Some(BundleFault::new("hidden_characters", message).of(name).at(bundle.places.annotation(name, "id")))
}

/// Controls, and what Unicode calls format characters, blanks that are no space, and fillers.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Two names that a reader of an audit entry would take for one.
fn look_alikes(bundle: &Bundle) -> Vec<BundleFault> {
    let plain = |name: &str| -> String {
        name.trim().chars().filter(|c| !is_invisible(*c)).flat_map(char::to_lowercase).collect()
    };
    let mut seen: BTreeMap<String, &PolicyName> = BTreeMap::new();
    let mut faults = Vec::new();
    for name in bundle.annotations.keys() {
        if let Some(other) = seen.insert(plain(name), name) {
            let message = format!(
                "@id(\"{name}\") differs from @id(\"{other}\") only by case or by characters that cannot be seen"
            );
            faults.push(BundleFault::new("look_alike_id", message).of(name).at(bundle.places.annotation(name, "id")));
        }
    }
    faults
}

fn warnings(bundle: &Bundle) -> Vec<Warning> {
    let mut found = bundle.notes.clone();
    let mut links: BTreeMap<&PolicyName, Vec<&Policy>> = BTreeMap::new();
    bundle.policies.iter().for_each(|policy| links.entry(&policy.name).or_default().push(policy));
    let cover = Cover::of(bundle);
    for links in links.values() {
        if let Some(policy) = links.first() {
            found.extend(Look { bundle, policy }.warnings());
        }
        found.extend(shadow(bundle, &cover, links));
    }
    for template in bundle.templates.iter().filter(|name| !links.contains_key(name)) {
        found.push(Warning {
            code: Code::UnlinkedTemplate,
            policy: Some(template.as_ref().to_owned()),
            place: bundle.places.effect(template),
            message: "a template without links has no effect: link it, or take it out".into(),
        });
    }
    found
}

/// Whether others make a policy, all links of it, superfluous.
fn shadow(bundle: &Bundle, cover: &Cover<'_>, links: &[&Policy]) -> Option<Warning> {
    let by: Vec<Shade<'_>> = links.iter().filter_map(|policy| shade(cover, policy)).collect();
    let policy = links.first()?;
    let loose = by.iter().find(|shade| shade.code == Code::CapWithoutEffect);
    let shade = if by.len() == links.len() { loose.or(by.first()) } else { loose }?;
    Some(Warning {
        code: shade.code,
        policy: Some(policy.name.as_ref().to_owned()),
        place: match shade.code {
            Code::CapWithoutEffect if policy.max_records.is_some() => {
                bundle.places.annotation(&policy.name, "max_records")
            }
            Code::CapWithoutEffect => bundle.places.annotation(&policy.name, "max_patients"),
            _ => bundle.places.effect(&policy.name),
        },
        message: shade.message(),
    })
}

/// What makes a policy superfluous.
struct Shade<'a> {
    code: Code,
    by: &'a Policy,
}

impl Shade<'_> {
    fn message(&self) -> String {
        let by = &self.by.name;
        match (self.code, self.by.permits) {
            (Code::CapWithoutEffect, _) => {
                format!("\"{by}\" permits all of this without a cap: cap that too, or narrow it")
            }
            (_, true) => format!("\"{by}\" permits all of this already: remove one of the two"),
            (_, false) => format!("\"{by}\" forbids all of this: remove one of the two"),
        }
    }
}

fn shade<'a>(cover: &Cover<'a>, policy: &Policy) -> Option<Shade<'a>> {
    let others = |permits| {
        cover.covering(policy, permits).into_iter().filter(|wide| wide.name != policy.name).collect::<Vec<_>>()
    };
    // of two that say the same, the later one is superfluous
    let equal = |wide: &Policy| {
        (&wide.principal, &wide.resource, &wide.actions, &wide.clauses)
            == (&policy.principal, &policy.resource, &policy.actions, &policy.clauses)
    };
    let over = |wide: &&Policy| !equal(wide) || wide.name < policy.name;
    if let Some(by) = others(false).into_iter().find(|wide| policy.permits || over(wide)) {
        return Some(Shade { code: Code::Shadowed, by });
    }
    if !policy.permits {
        return None;
    }
    let uncapped = |wide: &&Policy| wide.max_records.is_none() && wide.max_patients.is_none();
    let capped = policy.max_records.is_some() || policy.max_patients.is_some();
    let code = if capped { Code::CapWithoutEffect } else { Code::Shadowed };
    others(true).into_iter().filter(uncapped).find(|wide| capped || over(wide)).map(|by| Shade { code, by })
}

/// One policy, or one link for all of its template.
struct Look<'a> {
    bundle: &'a Bundle,
    policy: &'a Policy,
}

impl Look<'_> {
    fn warning(&self, code: Code, words: &[&str], message: impl Into<String>) -> Warning {
        let name = &self.policy.name;
        let place = self.bundle.places.words(name, words);
        Warning { code, policy: Some(name.as_ref().to_owned()), place, message: message.into() }
    }

    fn warnings(&self) -> Vec<Warning> {
        let policy = self.policy;
        let reach = cover::reach(&self.bundle.facts, policy);
        let mut found = Vec::new();
        if policy.actions.is_empty() {
            let message = "the server asks about none of these actions, so this decides nothing";
            found.push(self.warning(Code::UnaskedAction, &["action"], message));
        }
        if policy.permits && policy.every_action {
            let message =
                "`action` alone permits every action, and those that later versions add: list those that are meant";
            found.push(self.warning(Code::UnscopedAction, &["action"], message));
        }
        let retrieves = reach.iter().any(|reach| reach.action == Action::Retrieve);
        if policy.permits && retrieves && policy.max_records.is_none() && policy.max_patients.is_none() {
            let message = "permits `Retrieve` without a cap: add @max_records(\"n\") or @max_patients(\"n\")";
            found.push(self.warning(Code::UncappedRetrieve, &["permit"], message));
        }
        if !policy.permits {
            self.clauses().iter().for_each(|(clause, sign)| {
                self.errors(clause, &mut found);
                self.reliance(clause, *sign, &mut found);
            });
        }
        found
    }

    /// The conditions, and whether the policy holds where they do.
    fn clauses(&self) -> Vec<(Arc<pst::Expr>, bool)> {
        let fixed = match self.policy.cedar.to_pst() {
            Ok(pst::Policy::Static(fixed)) => fixed,
            Ok(pst::Policy::Linked(_)) | Err(_) => return vec![],
        };
        let clause = |clause: &pst::Clause| match clause {
            pst::Clause::When(e) => (Arc::clone(e), true),
            pst::Clause::Unless(e) => (Arc::clone(e), false),
        };
        fixed.body().clauses().iter().map(clause).collect()
    }

    /// Operations that err where numbers or times are too large.
    fn errors(&self, expr: &pst::Expr, found: &mut Vec<Warning>) {
        let words = match expr {
            pst::Expr::BinaryOp { op: pst::BinaryOp::Add, .. } => Some("+"),
            pst::Expr::BinaryOp { op: pst::BinaryOp::Sub, .. } => Some("-"),
            pst::Expr::BinaryOp { op: pst::BinaryOp::Mul, .. } => Some("*"),
            pst::Expr::BinaryOp { op: pst::BinaryOp::Offset, .. } => Some("offset"),
            pst::Expr::BinaryOp { op: pst::BinaryOp::DurationSince, .. } => Some("durationSince"),
            pst::Expr::UnaryOp { op: pst::UnaryOp::Neg, expr } if !matches!(**expr, pst::Expr::Literal(_)) => Some("-"),
            pst::Expr::UnaryOp { op: pst::UnaryOp::ToDate, expr } if !is_now(expr) => Some("toDate"),
            _ => None,
        };
        if let Some(word) = words {
            let message = format!(
                "`{word}` errs where a value is too large, and then everything in this forbid's scope is denied: compare without it, or bound the values first"
            );
            found.push(self.warning(Code::ForbidMayErr, &[word], message));
        }
        children(expr).into_iter().for_each(|child| self.errors(child, found));
    }

    /// `has` whose no lets a record go unforbidden. `sign`: whether the policy rather holds where `expr` does.
    fn reliance(&self, expr: &pst::Expr, sign: bool, found: &mut Vec<Warning>) {
        match expr {
            pst::Expr::UnaryOp { op: pst::UnaryOp::Not, expr } => self.reliance(expr, !sign, found),
            pst::Expr::BinaryOp { op: pst::BinaryOp::And | pst::BinaryOp::Or, left, right } => {
                self.reliance(left, sign, found);
                self.reliance(right, sign, found);
            }
            pst::Expr::HasAttr { expr, attrs } if sign && !self.always_has(expr, attrs.iter()) => {
                let path = attrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(".");
                let first = attrs.first().as_str();
                let message = format!(
                    "where `{path}` is absent nothing is forbidden: require it in the schema, or forbid what lacks it too"
                );
                found.push(self.warning(Code::OptionalAttribute, &["has", first], message));
            }
            pst::Expr::BinaryOp { op: pst::BinaryOp::HasTag, .. } if sign => {
                let message = "where the tag is absent nothing is forbidden: use a required attribute, or forbid what lacks it too";
                found.push(self.warning(Code::OptionalAttribute, &["hasTag"], message));
            }
            // what a comparison, a choice or anything else makes of it is its author's business
            _ => {}
        }
    }

    /// Whether the schema requires the attributes, one below the other, of whatever `expr` can be.
    fn always_has<'n>(&self, expr: &pst::Expr, names: impl Iterator<Item = impl AsRef<str> + 'n>) -> bool {
        let mut at = self.types(expr);
        for name in names {
            let fields: Vec<Option<Attribute>> = at.iter().map(|ty| self.field(ty, name.as_ref()).cloned()).collect();
            if fields.is_empty() || !fields.iter().all(|field| field.as_ref().is_some_and(|f| f.required)) {
                return false;
            }
            at = fields.into_iter().flatten().map(|field| field.ty).collect();
        }
        true
    }

    fn field<'t>(&'t self, ty: &'t AttributeType, name: &str) -> Option<&'t Attribute> {
        let fields: &Fields = match ty {
            AttributeType::Entity(ty) => &self.bundle.facts.types.get(ty)?.attributes,
            AttributeType::Record(fields) => fields,
            _ => return None,
        };
        fields.get(name)
    }

    /// What an expression can be, as far as it is a way from a variable. Empty: not known.
    fn types(&self, expr: &pst::Expr) -> Vec<AttributeType> {
        let reach = || cover::reach(&self.bundle.facts, self.policy);
        let entities = |types: BTreeSet<Arc<str>>| types.into_iter().map(AttributeType::Entity).collect();
        match expr {
            pst::Expr::Var(pst::Var::Principal) => {
                entities(reach().into_iter().flat_map(|reach| reach.principals).collect())
            }
            pst::Expr::Var(pst::Var::Resource) => {
                entities(reach().into_iter().flat_map(|reach| reach.resources).collect())
            }
            pst::Expr::Var(pst::Var::Context) => {
                let context = |action: Action| self.bundle.facts.actions.get(action.name()).map(|a| a.context.clone());
                reach().into_iter().filter_map(|reach| context(reach.action)).map(AttributeType::Record).collect()
            }
            pst::Expr::GetAttr { expr, attr } => {
                self.types(expr).iter().filter_map(|ty| self.field(ty, attr)).map(|field| field.ty.clone()).collect()
            }
            _ => vec![],
        }
    }
}

/// `context.now`: the server's own time, which is never extreme.
fn is_now(expr: &pst::Expr) -> bool {
    match expr {
        pst::Expr::GetAttr { expr, attr } => attr == "now" && matches!(**expr, pst::Expr::Var(pst::Var::Context)),
        _ => false,
    }
}

fn children(expr: &pst::Expr) -> Vec<&pst::Expr> {
    match expr {
        pst::Expr::UnaryOp { expr, .. }
        | pst::Expr::GetAttr { expr, .. }
        | pst::Expr::HasAttr { expr, .. }
        | pst::Expr::Like { expr, .. } => vec![expr],
        pst::Expr::Is { expr, in_expr, .. } => std::iter::once(expr).chain(in_expr).map(AsRef::as_ref).collect(),
        pst::Expr::BinaryOp { left, right, .. } => vec![left, right],
        pst::Expr::IfThenElse { cond, then_expr, else_expr } => vec![cond, then_expr, else_expr],
        pst::Expr::Set(items) => items.iter().map(AsRef::as_ref).collect(),
        pst::Expr::Record(fields) => fields.values().map(AsRef::as_ref).collect(),
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_near_a_known_annotation_are_told_from_others() {
        assert_eq!(distance("max_records", "max_record"), 1);
        assert_eq!(distance("max_records", "maxRecords"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        for (key, known) in [
            ("max_record", Some("max_records")),
            ("maxRecords", Some("max_records")),
            ("max_pations", Some("max_patients")),
            ("accepts", Some("accept")),
            ("ID", Some("id")),
            ("id", None),
            ("note", None),
            ("except", None),
            ("max_age", None),
            ("is", None),
        ] {
            assert_eq!(nearly(key), known, "{key}");
        }
    }
}
