//! From texts to a bundle: bounds, parse, names, strict validation, what the contract requires, caps.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use cedar_policy::{
    Effect, Policy as CedarPolicy, PolicyId, PolicySet, Schema, SlotId, Template, ValidationMode, Validator, ffi, pst,
};
use sha2::{Digest, Sha256};

use super::{
    Bundle, BundleFault, PolicyName,
    bounds::{self, Text},
    convert, required,
    schema::Facts,
    slices::Slices,
    tree::{Node, Site},
};
use crate::model::{Action, BundleSource, EntityUid, TemplateLink, limits};

/// What a scope says of principal or resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Constraint {
    Any,
    Eq(EntityUid),
    In(EntityUid),
    Is(Arc<str>),
    IsIn(Arc<str>, EntityUid),
}

/// One policy, or one link of a template.
#[derive(Debug)]
pub(super) struct Policy {
    /// Its `@id`; a link has its template's.
    pub(super) name: PolicyName,
    /// A static policy in Cedar's form, under its own id (a link's id for a link).
    pub(super) cedar: CedarPolicy,
    pub(super) permits: bool,
    pub(super) principal: Constraint,
    pub(super) resource: Constraint,
    pub(super) actions: BTreeSet<Action>,
    pub(super) condition: Option<Arc<Node>>,
    pub(super) sites: BTreeSet<Site>,
    pub(super) names: HashSet<Arc<str>>,
    pub(super) max_records: Option<u64>,
    pub(super) max_patients: Option<u64>,
    /// Effect, scope and conditions without names: what `widening` compares.
    pub(super) meaning: String,
}

type Faults = Vec<BundleFault>;

/// The whole way. Call it on a large stack.
pub(super) fn compile(source: &BundleSource) -> Result<Bundle, Faults> {
    check_bounds(source)?;
    let (schema, facts, mut warnings) = schema(&source.schema).map_err(|fault| vec![fault])?;
    let mut faults = required::check(&facts);
    let named = match named(source) {
        Ok(named) => named,
        Err(more) => {
            faults.extend(more);
            return Err(faults);
        }
    };
    faults.extend(validated(&schema, &named, &mut warnings));
    let actions = reach_of_actions(&schema);
    let mut policies = Vec::new();
    for policy in named.policies() {
        match policy_of(policy, &named, &actions) {
            Ok(policy) => policies.push(policy),
            Err(fault) => faults.push(fault),
        }
    }
    for template in named.templates() {
        faults.extend(caps(template.effect(), template.id().as_ref(), |key| template.annotation(key)).err());
        warnings.extend(near_misses(template.id().as_ref(), template.annotations()));
    }
    for policy in named.policies().filter(|p| p.is_static()) {
        warnings.extend(near_misses(policy.id().as_ref(), policy.annotations()));
    }
    if !faults.is_empty() {
        faults.dedup();
        return Err(faults);
    }
    policies.sort_by(|a, b| (&a.name, a.cedar.id()).cmp(&(&b.name, b.cedar.id())));
    let names = policies.iter().map(|p| (p.cedar.id().clone(), Arc::clone(&p.name))).collect();
    Ok(Bundle {
        source: source.clone(),
        digest: digest(source),
        ground: Sha256::digest(source.schema.as_bytes()).into(),
        slices: Slices::new(&schema, &policies),
        schema,
        facts,
        policies,
        names,
        warnings,
        #[cfg(test)]
        plain: false,
    })
}

fn check_bounds(source: &BundleSource) -> Result<(), Faults> {
    let texts =
        [(&source.schema, Text::Schema), (&source.policies, Text::Policies), (&source.templates, Text::Policies)];
    let faults: Faults = texts.into_iter().filter_map(|(text, kind)| bounds::check(text, kind).err()).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

pub(super) fn schema(text: &str) -> Result<(Schema, Facts, Vec<String>), BundleFault> {
    let located = |code, error: ffi::DetailedError| BundleFault::new(code, told(&error)).at(line_of(text, &error));
    let (schema, warnings) = match Schema::from_cedarschema_str(text) {
        Ok((schema, warnings)) => (schema, warnings.map(|w| w.to_string()).collect()),
        Err(error) => return Err(located("schema", (&error).into())),
    };
    let json = match cedar_policy::schema_str_to_json_with_resolved_types(text) {
        Ok((json, _)) => json,
        Err(error) => return Err(located("schema", (&error).into())),
    };
    let facts =
        Facts::read(&json).ok_or_else(|| BundleFault::new("schema", "the schema has a form that is not understood"))?;
    Ok((schema, facts, warnings))
}

/// Policies and templates under their `@id`s, links linked.
fn named(source: &BundleSource) -> Result<PolicySet, Faults> {
    let mut set = PolicySet::new();
    let mut faults = Vec::new();
    for text in [&source.policies, &source.templates] {
        match text.parse::<PolicySet>() {
            Ok(parsed) => add_named(&mut set, &parsed, text, &mut faults),
            Err(error) => {
                let error = ffi::DetailedError::from(&error);
                faults.push(BundleFault::new("syntax", told(&error)).at(line_of(text, &error)));
            }
        }
    }
    if faults.is_empty() {
        source.links.iter().for_each(|link| faults.extend(add_link(&mut set, link).err()));
    }
    if set.policies().count() + set.templates().count() > limits::BUNDLE_POLICIES {
        faults
            .push(BundleFault::new("too_many", format!("a bundle holds at most {} policies", limits::BUNDLE_POLICIES)));
    }
    if faults.is_empty() { Ok(set) } else { Err(faults) }
}

fn add_named(set: &mut PolicySet, parsed: &PolicySet, text: &str, faults: &mut Faults) {
    let mut name = |id: Option<&str>, own: Option<String>| {
        let line = own.and_then(|own| text.find(&own)).map(|at| line_at(text, at));
        match id {
            Some(id) if !id.is_empty() => Some((PolicyId::new(id), line)),
            _ => {
                let message = "every policy and template needs an @id(\"…\") of its own: it is its name everywhere";
                faults.push(BundleFault::new("missing_id", message).at(line));
                None
            }
        }
    };
    let policies: Vec<_> =
        parsed.policies().filter_map(|p| Some((p, name(p.annotation("id"), p.to_cedar())?))).collect();
    let templates: Vec<_> =
        parsed.templates().filter_map(|t| Some((t, name(t.annotation("id"), Some(t.to_cedar()))?))).collect();
    let duplicate = |id: &PolicyId, line| {
        BundleFault::new(
            "duplicate_id",
            format!("@id(\"{id}\") is used twice; give each policy and template a name of its own"),
        )
        .at(line)
    };
    for (policy, (id, line)) in policies {
        if set.add(policy.new_id(id.clone())).is_err() {
            faults.push(duplicate(&id, line));
        }
    }
    for (template, (id, line)) in templates {
        if set.add_template(template.new_id(id.clone())).is_err() {
            faults.push(duplicate(&id, line));
        }
    }
}

fn add_link(set: &mut PolicySet, link: &TemplateLink) -> Result<(), BundleFault> {
    let fault = |what: &str| BundleFault::new("bad_link", format!("link \"{}\": {what}", link.id));
    let mut values = HashMap::new();
    for (slot, value) in &link.values {
        let slot = match slot.trim_start_matches('?') {
            "principal" => SlotId::principal(),
            "resource" => SlotId::resource(),
            _ => return Err(fault("only ?principal and ?resource can be filled")),
        };
        let value =
            convert::uid(value).ok_or_else(|| fault("a slot is filled with something that is not an entity"))?;
        values.insert(slot, value);
    }
    if set.template(&PolicyId::new(&link.template)).is_none() {
        return Err(fault("there is no template with the @id that it names"));
    }
    if set.policy(&PolicyId::new(&link.id)).is_some() || set.template(&PolicyId::new(&link.id)).is_some() {
        return Err(BundleFault::new("duplicate_id", format!("the link id \"{}\" is used twice", link.id)));
    }
    let linked = set.link(PolicyId::new(&link.template), PolicyId::new(&link.id), values);
    linked.map_err(|_| fault("it must fill exactly the slots that its template has"))
}

fn validated(schema: &Schema, set: &PolicySet, warnings: &mut Vec<String>) -> Faults {
    let result = Validator::new(schema.clone()).validate(set, ValidationMode::Strict);
    warnings.extend(result.validation_warnings().map(ToString::to_string));
    let mut faults: Faults =
        result.validation_errors().map(|error| BundleFault::new("invalid_policy", brief(&error.to_string()))).collect();
    // the same fault is found once for every combination of types
    faults.sort_by(|a, b| a.message.cmp(&b.message));
    faults.dedup();
    faults
}

/// An action, and the groups that it is in.
#[derive(Debug)]
pub(super) struct Reach {
    own: EntityUid,
    groups: HashSet<EntityUid>,
}

impl Reach {
    pub(super) fn of(schema: &Schema, own: EntityUid) -> Self {
        let entities = schema.action_entities().ok();
        let uid = convert::uid(&own);
        let ancestors = entities.as_ref().zip(uid).and_then(|(entities, uid)| entities.ancestors(&uid));
        let groups = ancestors.map(|all| all.map(convert::from_uid).collect()).unwrap_or_default();
        Self { own, groups }
    }

    fn is_covered_by(&self, constraint: &pst::ActionConstraint) -> bool {
        match constraint {
            pst::ActionConstraint::Any => true,
            pst::ActionConstraint::Eq(uid) => convert::from_pst_uid(uid) == self.own,
            pst::ActionConstraint::In(uids) => {
                uids.iter().map(convert::from_pst_uid).any(|uid| uid == self.own || self.groups.contains(&uid))
            }
        }
    }
}

/// Every action of the contract.
fn reach_of_actions(schema: &Schema) -> BTreeMap<Action, Reach> {
    Action::all().map(|action| (action, Reach::of(schema, EntityUid::new("Action", action.name())))).collect()
}

pub(super) fn policy_of(
    policy: &CedarPolicy,
    set: &PolicySet,
    actions: &BTreeMap<Action, Reach>,
) -> Result<Policy, BundleFault> {
    let id = policy.id().to_string();
    let name: &str = policy.template_id().map_or(policy.id().as_ref(), AsRef::as_ref);
    let fault = |what: &str| BundleFault::new("invalid_policy", format!("policy \"{id}\" {what}"));
    let odd = || fault("has a form that is not understood");
    let fixed = match policy.to_pst().map_err(|_| odd())? {
        pst::Policy::Static(fixed) => fixed,
        pst::Policy::Linked(linked) => linked.into_static_policy().map_err(|_| odd())?,
    };
    let body = fixed.body().clone();
    let condition = Node::clauses(body.clauses()).map_err(|_| odd())?;
    let (mut sites, mut names) = (BTreeSet::new(), HashSet::new());
    if let Some(condition) = &condition {
        condition.sites(&mut sites);
        condition.names(&mut names);
    }
    // made from the tree, not from the text: such a policy carries no source positions, which Cedar would copy at every step
    let cedar = CedarPolicy::from_pst(pst::Policy::Static(fixed)).map_err(|_| odd())?.new_id(policy.id().clone());
    let template = policy.template_id().and_then(|id| set.template(id));
    let annotation = |key: &str| policy.annotation(key).or_else(|| template.and_then(|t: &Template| t.annotation(key)));
    let (max_records, max_patients) = caps(policy.effect(), name, annotation)?;
    let bare = body.clone().with_annotations(BTreeMap::new()).with_id(pst::PolicyID("policy".into()));
    Ok(Policy {
        name: name.into(),
        permits: policy.effect() == Effect::Permit,
        principal: principal(&body.principal).ok_or_else(odd)?,
        resource: resource(&body.resource).ok_or_else(odd)?,
        actions: actions
            .iter()
            .filter(|(_, reach)| reach.is_covered_by(&body.action))
            .map(|(action, _)| *action)
            .collect(),
        meaning: format!("{bare:?}"),
        cedar,
        condition,
        sites,
        names,
        max_records,
        max_patients,
    })
}

fn entity(value: &pst::EntityOrSlot) -> Option<EntityUid> {
    match value {
        pst::EntityOrSlot::Entity(uid) => Some(convert::from_pst_uid(uid)),
        pst::EntityOrSlot::Slot(_) => None,
    }
}

fn principal(constraint: &pst::PrincipalConstraint) -> Option<Constraint> {
    Some(match constraint {
        pst::PrincipalConstraint::Any => Constraint::Any,
        pst::PrincipalConstraint::Eq(e) => Constraint::Eq(entity(e)?),
        pst::PrincipalConstraint::In(e) => Constraint::In(entity(e)?),
        pst::PrincipalConstraint::Is(ty) => Constraint::Is(ty.to_string().into()),
        pst::PrincipalConstraint::IsIn(ty, e) => Constraint::IsIn(ty.to_string().into(), entity(e)?),
    })
}

fn resource(constraint: &pst::ResourceConstraint) -> Option<Constraint> {
    Some(match constraint {
        pst::ResourceConstraint::Any => Constraint::Any,
        pst::ResourceConstraint::Eq(e) => Constraint::Eq(entity(e)?),
        pst::ResourceConstraint::In(e) => Constraint::In(entity(e)?),
        pst::ResourceConstraint::Is(ty) => Constraint::Is(ty.to_string().into()),
        pst::ResourceConstraint::IsIn(ty, e) => Constraint::IsIn(ty.to_string().into(), entity(e)?),
    })
}

type CapPair = (Option<u64>, Option<u64>);

fn caps<'a>(effect: Effect, name: &str, annotation: impl Fn(&str) -> Option<&'a str>) -> Result<CapPair, BundleFault> {
    let cap = |key: &str| match (annotation(key), effect) {
        (None, _) => Ok(None),
        (Some(_), Effect::Forbid) => {
            Err(BundleFault::new("bad_cap", format!("policy \"{name}\": @{key} has a meaning on permits only")))
        }
        (Some(text), Effect::Permit) => match text.parse::<u64>() {
            Ok(cap) if cap > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(Some(cap)),
            _ => Err(BundleFault::new("bad_cap", format!("policy \"{name}\": @{key} takes a positive integer"))),
        },
    };
    Ok((cap("max_records")?, cap("max_patients")?))
}

/// An annotation that is nearly a known one was probably meant to be it.
fn near_misses<'a>(name: &str, annotations: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    const KNOWN: [&str; 3] = ["id", "max_records", "max_patients"];
    let near =
        |key: &str| KNOWN.into_iter().find(|known| *known != key && known.len() > 2 && distance(known, key) <= 2);
    let keys = annotations.map(|(key, _)| key).filter(|key| !KNOWN.contains(key));
    keys.filter_map(|key| {
        near(key).map(|known| format!("policy \"{name}\": @{key} has no meaning; was @{known} meant?"))
    })
    .collect()
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

fn told(error: &ffi::DetailedError) -> String {
    let mut message = error.message.clone();
    for part in error.source_locations.iter().filter_map(|label| label.label.as_ref()).chain(&error.help) {
        message = format!("{message}; {part}");
    }
    brief(&message)
}

/// Characters of Cedar's words that are passed on: they may repeat a token of any length.
const MESSAGE_CHARS: usize = 500;

/// Cedar's words without the texts that a token held, and not longer than a person reads.
fn brief(message: &str) -> String {
    let parts = message.split('`').enumerate().map(|(at, part)| match (at % 2, part.starts_with('"')) {
        (1, true) => "\"…\"",
        _ => part,
    });
    let told = parts.collect::<Vec<_>>().join("`");
    match told.char_indices().nth(MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", told.get(..end).unwrap_or_default()),
        None => told,
    }
}

fn line_of(text: &str, error: &ffi::DetailedError) -> Option<usize> {
    error.source_locations.first().map(|label| line_at(text, label.loc.start))
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}

/// SHA-256 over all parts, each with its length before it; the note is part of it.
fn digest(source: &BundleSource) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    [&source.schema, &source.policies, &source.templates].into_iter().for_each(|text| part(text));
    for link in &source.links {
        part(&link.template);
        part(&link.id);
        part(&link.values.len().to_string());
        for (slot, value) in &link.values {
            [slot.as_str(), &value.ty, &value.id].into_iter().for_each(&mut part);
        }
    }
    part(&source.note);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_brief_and_hold_no_text_of_a_policy() {
        assert_eq!(brief("unexpected token `\"jane doe\"`; expected `@`"), "unexpected token `\"…\"`; expected `@`");
        assert_eq!(brief(&"é".repeat(501)).chars().count(), 501);
        assert_eq!(brief("unexpected `)`"), "unexpected `)`");
    }

    #[test]
    fn words_that_are_nearly_a_known_annotation_are_warned_of() {
        assert_eq!(distance("max_records", "max_record"), 1);
        assert_eq!(distance("max_records", "maxRecords"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        let annotations = [("max_record", "5"), ("note", "x"), ("id", "p")];
        assert_eq!(near_misses("p", annotations.into_iter()).len(), 1);
    }
}
