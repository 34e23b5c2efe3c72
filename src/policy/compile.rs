//! From texts to a bundle: bounds, parse, names, strict validation, what the contract requires, caps.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use cedar_policy::{
    Effect, Policy as CedarPolicy, PolicyId, PolicySet, Schema, SlotId, Template, ValidationError, ValidationMode,
    ValidationWarning, Validator, ffi, pst,
};
use sha2::{Digest, Sha256};

use super::{
    Bundle, BundleFault, Code, PolicyName, Warning, bounds, convert,
    fault::{Part, Place},
    places::Places,
    required,
    schema::Facts,
    slices::Slices,
    tree::{Node, Site},
};
use crate::model::{Action, BundleSource, EntityUid, TemplateLink, limits};

/// What a scope says of principal or resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    /// Its scope says nothing of the action.
    pub(super) every_action: bool,
    /// Its conditions in Cedar's words: equal texts mean the same. Empty: none.
    pub(super) clauses: String,
}

type Faults = Vec<BundleFault>;

/// The whole way. Call it on a large stack.
pub(super) fn compile(source: &BundleSource) -> Result<Bundle, Faults> {
    check_bounds(source)?;
    let mut places = Places::new(source);
    let (schema, facts, mut notes) = schema(&places).map_err(|fault| vec![fault])?;
    let mut faults = required::check(&facts);
    let named = match named(&mut places) {
        Ok(named) => named,
        Err(more) => {
            faults.extend(more);
            return Err(told_at_most(faults));
        }
    };
    let mut dead_links = Vec::new();
    faults.extend(validated(&schema, &named, &places, &mut notes, &mut dead_links));
    let actions = reach_of_actions(&schema);
    let mut policies = Vec::new();
    for policy in named.policies() {
        match policy_of(policy, &named, &actions, &places) {
            Ok(policy) => policies.push(policy),
            Err(fault) => faults.push(fault),
        }
    }
    for template in named.templates() {
        let annotation = |key: &str| template.annotation(key);
        faults.extend(caps(template.effect(), template.id().as_ref(), annotation, &places).err());
    }
    if !faults.is_empty() {
        return Err(told_at_most(faults));
    }
    policies.sort_by(|a, b| (&a.name, a.cedar.id()).cmp(&(&b.name, b.cedar.id())));
    let names = policies.iter().map(|p| (p.cedar.id().clone(), Arc::clone(&p.name))).collect();
    Ok(Bundle {
        digest: digest(source),
        ground: Sha256::digest(source.schema.as_bytes()).into(),
        slices: Slices::new(&schema, &policies),
        templates: named.templates().map(|t| AsRef::<str>::as_ref(t.id()).into()).collect(),
        annotations: annotations(&named),
        places,
        schema,
        facts,
        policies,
        names,
        notes,
        dead_links,
        review: OnceLock::new(),
        #[cfg(test)]
        plain: false,
    })
}

/// In the order of their places, each once, and not more than a person mends at a time.
fn told_at_most(mut faults: Faults) -> Faults {
    // the validator tells the same fault once for every combination of types
    let told = |fault: &BundleFault| fault.place.clone().map(|place| (place, fault.message.clone()));
    faults.sort_by_cached_key(told);
    faults.dedup();
    faults.truncate(limits::BUNDLE_FINDINGS);
    faults
}

fn check_bounds(source: &BundleSource) -> Result<(), Faults> {
    let parts = [Part::Schema, Part::Policies, Part::Templates];
    let faults: Faults = parts.into_iter().filter_map(|part| bounds::check(part.of(source), part).err()).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

pub(super) fn schema(places: &Places) -> Result<(Schema, Facts, Vec<Warning>), BundleFault> {
    let text = &places.source().schema;
    let fault =
        |error: ffi::DetailedError| BundleFault::new("schema", told(&error)).at(place_of(places, Part::Schema, &error));
    let (schema, warnings) = Schema::from_cedarschema_str(text).map_err(|error| fault((&error).into()))?;
    let shadow = |warning| {
        let error = ffi::DetailedError::from(&warning);
        let place = place_of(places, Part::Schema, &error);
        Warning { code: Code::ShadowedName, policy: None, place, message: told(&error) }
    };
    let notes = warnings.map(shadow).collect();
    let (json, _) = cedar_policy::schema_str_to_json_with_resolved_types(text).map_err(|e| fault((&e).into()))?;
    let facts =
        Facts::read(&json).ok_or_else(|| BundleFault::new("schema", "the schema has a form that is not understood"))?;
    Ok((schema, facts, notes))
}

/// Policies and templates under their `@id`s, links linked.
fn named(places: &mut Places) -> Result<PolicySet, Faults> {
    let mut set = PolicySet::new();
    let mut faults = Vec::new();
    for part in [Part::Policies, Part::Templates] {
        match part.of(places.source()).parse::<PolicySet>() {
            Ok(parsed) => add_named(&mut set, &parsed, part, places, &mut faults),
            Err(error) => faults.extend(syntax(places, part, &ffi::DetailedError::from(&error))),
        }
    }
    if faults.is_empty() {
        places.source().links.iter().for_each(|link| faults.extend(add_link(&mut set, link).err()));
    }
    if set.policies().count() + set.templates().count() > limits::BUNDLE_POLICIES {
        faults
            .push(BundleFault::new("too_many", format!("a bundle holds at most {} policies", limits::BUNDLE_POLICIES)));
    }
    if faults.is_empty() { Ok(set) } else { Err(faults) }
}

/// Cedar finds several syntax errors at once.
fn syntax<'a>(places: &'a Places, part: Part, error: &'a ffi::DetailedError) -> impl Iterator<Item = BundleFault> + 'a {
    std::iter::once(error)
        .chain(&error.related)
        .map(move |error| BundleFault::new("syntax", told(error)).at(place_of(places, part, error)))
}

fn add_named(set: &mut PolicySet, parsed: &PolicySet, part: Part, places: &mut Places, faults: &mut Faults) {
    let statements = places.statements(part);
    let mut name = |own: &PolicyId, id: Option<&str>| {
        let number = plain(own).strip_prefix("policy").and_then(|n| n.parse::<usize>().ok());
        let statement = number.and_then(|n| statements.get(n));
        match id.filter(|id| !id.is_empty()) {
            Some(id) => {
                let place = statement.and_then(|s| Some(places.place(part, places.span_of_id(part, s)?)));
                statement.iter().for_each(|statement| places.note(id, part, statement));
                Some((PolicyId::new(id), place))
            }
            None => {
                let message = "every policy and template needs an @id(\"…\") of its own: it is its name everywhere";
                let span = statement.map(|s| s.effect.clone().unwrap_or_else(|| s.span.clone()));
                let place = span.map(|span| places.place(part, span));
                faults.push(BundleFault::new("missing_id", message).at(place));
                None
            }
        }
    };
    let mut policies: Vec<_> = parsed.policies().filter_map(|p| Some((p, name(p.id(), p.annotation("id"))?))).collect();
    let mut templates: Vec<_> =
        parsed.templates().filter_map(|t| Some((t, name(t.id(), t.annotation("id"))?))).collect();
    // of two with one name the second is told
    policies.sort_by(|(_, (_, a)), (_, (_, b))| a.cmp(b));
    templates.sort_by(|(_, (_, a)), (_, (_, b))| a.cmp(b));
    let duplicate = |id: &PolicyId, place| {
        BundleFault::new(
            "duplicate_id",
            format!("@id(\"{id}\") is used twice; give each policy and template a name of its own"),
        )
        .of(id.as_ref())
        .at(place)
    };
    for (policy, (id, place)) in policies {
        if set.add(policy.new_id(id.clone())).is_err() {
            faults.push(duplicate(&id, place));
        }
    }
    for (template, (id, place)) in templates {
        if set.add_template(template.new_id(id.clone())).is_err() {
            faults.push(duplicate(&id, place));
        }
    }
}

/// An id as it is written; its `Display` escapes.
fn plain(id: &PolicyId) -> String {
    AsRef::<str>::as_ref(id).to_owned()
}

/// The annotations of every policy and template, by name.
fn annotations(set: &PolicySet) -> BTreeMap<PolicyName, BTreeMap<String, String>> {
    let own =
        |pairs: &mut dyn Iterator<Item = (&str, &str)>| pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let policies = set.policies().filter(|p| p.is_static()).map(|p| (plain(p.id()), own(&mut p.annotations())));
    let templates = set.templates().map(|t| (plain(t.id()), own(&mut t.annotations())));
    policies.chain(templates).map(|(name, annotations)| (name.into(), annotations)).collect()
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

/// Strict mode. What Cedar only warns of is noted, and links that it finds dead are told apart.
fn validated(
    schema: &Schema,
    set: &PolicySet,
    places: &Places,
    notes: &mut Vec<Warning>,
    dead_links: &mut Faults,
) -> Faults {
    let result = Validator::new(schema.clone()).validate(set, ValidationMode::Strict);
    let template = |id: &PolicyId| set.policy(id).and_then(CedarPolicy::template_id).map(plain);
    let place = |name: &str, error: &ffi::DetailedError| {
        let place = places.part(name).and_then(|part| place_of(places, part, error));
        place.or_else(|| places.effect(name))
    };
    for warning in result.validation_warnings() {
        let (error, id) = (ffi::DetailedError::from(warning), warning.policy_id());
        let (code, message) = note(warning);
        match template(id) {
            Some(name) if code == Code::NeverMatches => {
                let message = format!("link \"{id}\": {message}");
                dead_links.push(BundleFault::new("bad_link", message).of(&name).at(places.effect(&name)));
            }
            name => {
                let name = name.unwrap_or_else(|| plain(id));
                let place = place(&name, &error);
                notes.push(Warning { code, policy: Some(name), place, message: message.into() });
            }
        }
    }
    let fault = |error: &ValidationError| {
        let told_of = ffi::DetailedError::from(error);
        let name = template(error.policy_id()).unwrap_or_else(|| plain(error.policy_id()));
        BundleFault::new("invalid_policy", told(&told_of)).at(place(&name, &told_of)).of(&name)
    };
    result.validation_errors().map(fault).collect()
}

/// Cedar's warning in our words.
fn note(warning: &ValidationWarning) -> (Code, &'static str) {
    match warning {
        ValidationWarning::ImpossiblePolicy(_) => {
            (Code::NeverMatches, "its conditions cannot hold for any request: mend or remove it")
        }
        ValidationWarning::InvalidActionApplication(_) => (
            Code::NeverMatches,
            "no action takes this principal together with this resource: mend its scope or remove it",
        ),
        _ => (
            Code::ConfusableText,
            "a string or name holds characters that can be taken for others, or that change how a line is shown: write it in one script",
        ),
    }
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
    places: &Places,
) -> Result<Policy, BundleFault> {
    let id = policy.id().to_string();
    let name: &str = policy.template_id().map_or(policy.id().as_ref(), AsRef::as_ref);
    let fault = |what: &str| {
        BundleFault::new("invalid_policy", format!("policy \"{id}\" {what}")).of(name).at(places.effect(name))
    };
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
    let (max_records, max_patients) = caps(policy.effect(), name, annotation, places)?;
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
        every_action: matches!(body.action, pst::ActionConstraint::Any),
        clauses: body.clauses().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
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

fn caps<'a>(
    effect: Effect,
    name: &str,
    annotation: impl Fn(&str) -> Option<&'a str>,
    places: &Places,
) -> Result<CapPair, BundleFault> {
    let cap = |key: &str| {
        let fault = |what| {
            let message = format!("policy \"{name}\": @{key} {what}");
            Err(BundleFault::new("bad_cap", message).of(name).at(places.annotation(name, key)))
        };
        match (annotation(key), effect) {
            (None, _) => Ok(None),
            (Some(_), Effect::Forbid) => fault("has a meaning on permits only"),
            (Some(text), Effect::Permit) => match text.parse::<u64>() {
                Ok(cap) if cap > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(Some(cap)),
                _ => fault("takes a positive integer"),
            },
        }
    };
    Ok((cap("max_records")?, cap("max_patients")?))
}

pub(super) fn told(error: &ffi::DetailedError) -> String {
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

fn place_of(places: &Places, part: Part, error: &ffi::DetailedError) -> Option<Place> {
    error.source_locations.first().map(|label| places.place(part, label.loc.start..label.loc.end))
}

/// SHA-256 over all parts, each with its length before it; the note is part of it.
pub(super) fn digest(source: &BundleSource) -> [u8; 32] {
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
}
