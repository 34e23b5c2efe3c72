//! How the planner will bind each policy, told from its text and the schema alone: by look-ups, by Cedar once per distinct value
//! of a column or a few, or record by record. A promise about cost, never about an answer; tests hold it against what `plan` does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Bundle, PolicyName,
    bind::{COLUMNS_COMBINED, reads_of},
    cover,
    fault::Place,
    review::Code,
    schema::{AttributeType, Facts},
    tree::{Binary, Kind, Node, Root, Step},
};
use crate::model::Action;

/// How a policy is decided, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Means {
    /// It concerns no records: Cedar decides it whole, once a request.
    Once,
    /// Look-ups in bitmaps.
    Indexed,
    /// Cedar is asked once for every distinct value of a column, or combination of a few columns' values.
    ByValue,
    /// Cedar is asked about every record that nothing else decides.
    Asked,
}

impl Means {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Indexed => "indexed",
            Self::ByValue => "by_value",
            Self::Asked => "asked",
        }
    }
}

/// One policy, or a template with all its links, as an administrator looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// Its `@id`.
    pub name: PolicyName,
    /// Whether it permits, and does not forbid. A template without links tells nothing more.
    pub permits: Option<bool>,
    /// How many links it has, if it is a template.
    pub links: Option<usize>,
    /// The dearest way in which one of its conditions is decided.
    pub means: Option<Means>,
    /// The condition, or part of one, that makes it so.
    pub clause: Option<String>,
    /// Most records and patients, where it has caps.
    pub caps: [Option<u64>; 2],
    /// What was found about its effect: that it never matches, or that others make it superfluous.
    pub remarks: Vec<Code>,
    /// Where it stands.
    pub place: Option<Place>,
}

/// Every policy and template, in the order of the texts.
pub(super) fn forecast(bundle: &Bundle) -> Vec<Forecast> {
    let mut all: BTreeMap<&PolicyName, Forecast> = BTreeMap::new();
    for name in bundle.annotations.keys() {
        let blank = Forecast {
            name: Arc::clone(name),
            permits: None,
            links: bundle.templates.contains(name).then_some(0),
            means: None,
            clause: None,
            caps: [None; 2],
            remarks: remarks(bundle, name),
            place: bundle.places.effect(name),
        };
        all.insert(name, blank);
    }
    for policy in &bundle.policies {
        let Some(forecast) = all.get_mut(&policy.name) else { continue };
        let (means, clause) = means(bundle, policy);
        forecast.permits = Some(policy.permits);
        forecast.caps = [policy.max_records, policy.max_patients];
        forecast.links = forecast.links.map(|links| links + 1);
        if forecast.means < Some(means) {
            (forecast.means, forecast.clause) = (Some(means), clause);
        }
    }
    let mut all: Vec<_> = all.into_values().collect();
    all.sort_by(|a, b| a.place.cmp(&b.place));
    all
}

/// What the validator and the review have to say about a policy's effect, accepted or not.
fn remarks(bundle: &Bundle, name: &PolicyName) -> Vec<Code> {
    let effect =
        [Code::NeverMatches, Code::Shadowed, Code::CapWithoutEffect, Code::UnaskedAction, Code::UnlinkedTemplate];
    let own = bundle.review().found.iter().filter(|w| w.policy.as_deref() == Some(name) && effect.contains(&w.code));
    own.map(|warning| warning.code).collect::<BTreeSet<_>>().into_iter().collect()
}

fn means(bundle: &Bundle, policy: &super::compile::Policy) -> (Means, Option<String>) {
    let on_records = [Action::Retrieve, Action::Read, Action::ReadVector];
    let reach = cover::reach(&bundle.facts, policy);
    if !reach.iter().any(|reach| on_records.contains(&reach.action)) {
        return (Means::Once, None);
    }
    match &policy.condition {
        None => (Means::Indexed, None),
        Some(condition) => {
            let (means, atom) = Reader { facts: &bundle.facts }.dearest(condition);
            (means, Some(atom).filter(|_| means > Means::Indexed).map(|atom| atom.text()))
        }
    }
}

/// Reads conditions as the binder does, without values.
struct Reader<'a> {
    facts: &'a Facts,
}

impl Reader<'_> {
    /// The dearest atom of a condition.
    fn dearest<'n>(&self, node: &'n Arc<Node>) -> (Means, &'n Arc<Node>) {
        if !node.on_resource {
            return (Means::Indexed, node);
        }
        let parts: Vec<&Arc<Node>> = match &node.kind {
            Kind::And(l, r) | Kind::Or(l, r) => vec![l, r],
            Kind::Not(e) => vec![e],
            Kind::If(c, t, e) => vec![c, t, e],
            Kind::Literal(_)
            | Kind::Var(_)
            | Kind::Attr(..)
            | Kind::Has(..)
            | Kind::GetTag(..)
            | Kind::HasTag(..)
            | Kind::In(..)
            | Kind::Is(..)
            | Kind::Binary(..)
            | Kind::Record(_)
            | Kind::Strict(_) => return (self.atom(node), node),
        };
        let first = (Means::Indexed, node);
        parts.into_iter().map(|part| self.dearest(part)).fold(
            first,
            |dearest, next| {
                if next.0 > dearest.0 { next } else { dearest }
            },
        )
    }

    fn atom(&self, node: &Node) -> Means {
        if self.is_looked_up(node) {
            return Means::Indexed;
        }
        let mut columns = BTreeSet::new();
        match reads_of(node, &mut columns) {
            Some(()) if (1..=COLUMNS_COMBINED).contains(&columns.len()) => Means::ByValue,
            Some(()) | None => Means::Asked,
        }
    }

    /// A common shape: a way from the record against something that is the same for all records.
    fn is_looked_up(&self, node: &Node) -> bool {
        match &node.kind {
            Kind::Attr(..) | Kind::GetTag(..) => path(node).is_some_and(|path| !path.is_empty()),
            Kind::Has(e, _) | Kind::Is(e, _) => path(e).is_some(),
            Kind::HasTag(e, key) => path(e).is_some() && !key.on_resource,
            Kind::In(l, r) => match (path(l), path(r)) {
                (Some(_), None) => !r.on_resource,
                (None, Some(path)) => !l.on_resource && !path.is_empty(),
                (Some(_), Some(_)) | (None, None) => false,
            },
            Kind::Binary(op, l, r) => self.is_compared(*op, l, r),
            Kind::Literal(_)
            | Kind::Var(_)
            | Kind::Not(_)
            | Kind::And(..)
            | Kind::Or(..)
            | Kind::If(..)
            | Kind::Record(_)
            | Kind::Strict(_) => false,
        }
    }

    fn is_compared(&self, op: Binary, l: &Node, r: &Node) -> bool {
        let (way, set_first) = match (path(l), path(r)) {
            (Some(way), None) if !r.on_resource => (way, true),
            (None, Some(way)) if !l.on_resource => (way, false),
            (Some(_) | None, Some(_) | None) => return false,
        };
        match op {
            Binary::Eq | Binary::NotEq => way.is_empty() || self.has_plain_values(&way),
            Binary::Contains if !set_first => way.is_empty() || self.has_plain_values(&way),
            Binary::ContainsAll if !set_first => false,
            Binary::Contains | Binary::ContainsAll | Binary::ContainsAny => {
                !way.is_empty() && self.has_plain_values(&way)
            }
            Binary::Less | Binary::LessEq | Binary::Greater | Binary::GreaterEq => {
                let ty = self.type_of(&way);
                !way.is_empty() && matches!(ty, Some(AttributeType::Long | AttributeType::Datetime))
            }
        }
    }

    /// Whether equal values are written alike: not so for decimals, times and addresses, which only Cedar can compare.
    fn has_plain_values(&self, way: &[Step]) -> bool {
        self.type_of(way).is_none_or(|ty| is_plain(&ty))
    }

    /// What lies at the end of a way from a record; `None` where types part.
    fn type_of(&self, way: &[Step]) -> Option<AttributeType> {
        let mut at = AttributeType::Entity("Record".into());
        for step in way {
            at = match (&at, step) {
                (AttributeType::Entity(ty), Step::Attr(name)) => {
                    self.facts.types.get(ty)?.attributes.get(name)?.ty.clone()
                }
                (AttributeType::Record(fields), Step::Attr(name)) => fields.get(name)?.ty.clone(),
                (AttributeType::Entity(ty), Step::Tag(_)) => self.facts.types.get(ty)?.tags.clone()?,
                _ => return None,
            };
        }
        Some(at)
    }
}

fn is_plain(ty: &AttributeType) -> bool {
    match ty {
        AttributeType::Bool | AttributeType::Long | AttributeType::Text | AttributeType::Entity(_) => true,
        AttributeType::Set(item) => is_plain(item),
        AttributeType::Record(fields) => fields.values().all(|field| is_plain(&field.ty)),
        AttributeType::Datetime | AttributeType::Extension(_) => false,
    }
}

/// The steps of an expression that is a way from `resource`.
fn path(node: &Node) -> Option<Vec<Step>> {
    match &node.kind {
        Kind::Var(Root::Resource) => Some(vec![]),
        Kind::Attr(e, name) => {
            let mut path = path(e)?;
            path.push(Step::Attr(Arc::clone(name)));
            Some(path)
        }
        Kind::GetTag(e, key) if !key.on_resource => {
            let mut path = path(e)?;
            path.push(Step::Tag(None));
            Some(path)
        }
        _ => None,
    }
}
