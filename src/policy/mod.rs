//! Cedar decides here, and only here: bundle, plan, decide. Knows neither disks nor vectors.
//!
//! A `Bundle` is compiled once. Per request, `inquiry` fits the context to the schema, `plan` says for all records of a
//! collection which are certainly allowed and which Cedar must be asked about, and `decide` asks Cedar's authorizer about
//! one, with the rule that an error or a missing entity denies.

mod bind;
mod bits;
mod bounds;
mod caps;
mod columns;
mod compile;
mod convert;
mod count;
mod cover;
mod decide;
mod derived;
mod directory;
mod entities;
mod explain;
mod fault;
mod filter;
mod forecast;
mod format;
mod inquiry;
mod naming;
mod ordinal;
mod places;
mod plan;
mod required;
mod review;
mod schema;
mod scopes;
mod slices;
mod tokens;
mod trace;
mod tree;
mod widening;
mod world;

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod lifecycle_tests;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

use cedar_policy::{PolicyId, Schema};
use roaring::RoaringBitmap;
use serde_json::Value as Json;

pub use self::{
    columns::{Columns, Sheet, SheetName},
    count::Counts,
    directory::Directory,
    explain::{Account, Effect, Elsewhere, Explanation, Join, Met, Requirement, Standing, Stumble},
    fault::{BundleFault, EntityFault, InquiryError, Part, Place, Position, Warning},
    filter::{Filter, FilterFault, Matching, Rows, Work},
    forecast::{Forecast, Means},
    inquiry::Inquiry,
    review::Code,
    schema::{Attribute, AttributeType},
};
use self::{compile::Policy, places::Places, review::Review, schema::Facts, slices::Slices};
use crate::model::{Action, BundleSource, Entity, EntityUid, Value};

/// A policy's `@id`; a link goes by its template's.
pub type PolicyName = Arc<str>;

/// One version of schema and policies, compiled and valid.
#[derive(Debug)]
pub struct Bundle {
    places: Places,
    digest: [u8; 32],
    /// SHA-256 of the schema alone: what is made of columns and entities depends on no policy.
    ground: [u8; 32],
    schema: Schema,
    facts: Facts,
    policies: Vec<Policy>,
    templates: Vec<PolicyName>,
    /// Of every policy and template.
    annotations: BTreeMap<PolicyName, BTreeMap<String, String>>,
    names: HashMap<PolicyId, PolicyName>,
    slices: Slices,
    /// What Cedar's validator warned of.
    notes: Vec<Warning>,
    /// Links that can hold for no request.
    dead_links: Vec<BundleFault>,
    /// Made when first asked for: a server that starts does not need it.
    review: OnceLock<Review>,
    /// Whether it decides as Cedar alone would, for comparison with Cedar's own tests.
    #[cfg(test)]
    plain: bool,
}

/// The answer about one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed by each of these permits.
    Allow {
        /// Every permit that is satisfied, by name.
        permits: Vec<PolicyName>,
    },
    /// Not allowed.
    Deny(DenyReason),
}

impl Verdict {
    /// Whether it is a yes.
    pub fn is_allow(&self) -> bool {
        match self {
            Self::Allow { .. } => true,
            Self::Deny(_) => false,
        }
    }
}

/// Why not. Where several hold, the first in this order is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DenyReason {
    /// The caller's own entity is not stored.
    UnknownPrincipal,
    /// Something cannot be put to Cedar at all: a value that no longer makes sense, a cycle.
    Unfit,
    /// These policies look at an entity that is not stored.
    MissingEntity(Vec<PolicyName>),
    /// These policies erred.
    Erred(Vec<PolicyName>),
    /// These forbids hold.
    Forbidden(Vec<PolicyName>),
    /// No permit holds.
    NoPermit,
}

/// What a caller may see of a collection, by slot. All that is in neither set is denied.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scope {
    /// Certainly allowed.
    pub allowed: RoaringBitmap,
    /// To be decided one by one.
    pub ask: RoaringBitmap,
    /// What each permit that carries a cap may grant, by name: where all that a record has are used up, it need not be looked at.
    pub capped: Vec<(PolicyName, RoaringBitmap)>,
    /// Whether all that may be granted may be granted by capped permits alone; otherwise `capped` says nothing about the rest.
    pub all_capped: bool,
    /// How often Cedar's evaluator was asked for it: constants and distinct values, never records.
    pub evaluations: u64,
}

/// The caps that permits of a caller carry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caps {
    /// Every permit whose principal and action match, by name, once.
    pub permits: Vec<PermitCap>,
}

/// One permit's caps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermitCap {
    /// The permit, or the template of its links.
    pub name: PolicyName,
    /// Records that it may release.
    pub max_records: Option<u64>,
    /// Patients whose records it may release.
    pub max_patients: Option<u64>,
}

/// The bundle that a new store begins with: `Administrator::"root"` may set it up, nobody may retrieve.
pub fn starter() -> BundleSource {
    BundleSource {
        schema: include_str!("starter.cedarschema").into(),
        policies: include_str!("starter.cedar").into(),
        note: "starter bundle".into(),
        ..BundleSource::default()
    }
}

/// SHA-256 over all parts of a bundle.
pub fn digest(source: &BundleSource) -> [u8; 32] {
    compile::digest(source)
}

/// A text of a bundle in one style, its meaning, comments and annotations kept.
pub fn formatted(text: &str, part: Part) -> Result<String, BundleFault> {
    stacker::grow(COMPILE_STACK, || format::formatted(text, part))
}

/// How many policies a bundle has; it need not compile.
pub fn count(source: &BundleSource) -> Counts {
    count::count(source)
}

/// The policies and templates that name this entity in their text or by a link; the bundle need not compile.
pub fn naming(source: &BundleSource, uid: &EntityUid) -> Vec<PolicyName> {
    naming::naming(source, uid)
}

/// Stack for Cedar's parser and validator: nesting is bounded, but generously.
const COMPILE_STACK: usize = 256 << 20;
/// Stack for an evaluation, made only where less than `EVALUATE_ZONE` is left.
const EVALUATE_STACK: usize = 32 << 20;
const EVALUATE_ZONE: usize = 2 << 20;

fn on_large_stack<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(EVALUATE_ZONE, EVALUATE_STACK, work)
}

impl Bundle {
    /// Compiles and validates; every fault is told, not only the first.
    pub fn compile(source: &BundleSource) -> Result<Self, Vec<BundleFault>> {
        stacker::grow(COMPILE_STACK, || compile::compile(source))
    }

    /// As it was sent.
    pub fn source(&self) -> &BundleSource {
        self.places.source()
    }

    /// SHA-256 over all its parts.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// What must be mended before this is put into force. A bundle that is in force already is served all the same, so that a
    /// store opens whatever later versions object to.
    pub fn objections(&self) -> &[BundleFault] {
        &self.review().objections
    }

    /// What is legal and probably not meant, but for what its policies accept.
    pub fn warnings(&self) -> &[Warning] {
        &self.review().warnings
    }

    /// How each policy and template will be decided, and what is odd about its effect; in the order of the texts.
    pub fn forecast(&self) -> Vec<Forecast> {
        forecast::forecast(self)
    }

    fn review(&self) -> &Review {
        self.review.get_or_init(|| stacker::grow(COMPILE_STACK, || Review::of(self)))
    }

    /// What `old` forbids or caps and this does not: names of the policies.
    pub fn widening(&self, old: &Self) -> Vec<String> {
        widening::between(old, self)
    }

    /// The policies that name this entity in their text, by name; a link goes by its template's.
    pub fn naming(&self, uid: &EntityUid) -> Vec<PolicyName> {
        let named =
            |policy: &&Policy| policy.cedar.entity_literals().iter().any(|literal| convert::from_uid(literal) == *uid);
        let names: std::collections::BTreeSet<_> =
            self.policies.iter().filter(named).map(|policy| policy.name.clone()).collect();
        names.into_iter().collect()
    }

    /// An entity in Cedar's JSON form, implicit or explicit, checked against the schema.
    pub fn entity(&self, json: &Json) -> Result<Entity, EntityFault> {
        entities::read(self, json)
    }

    /// A record's entity from its parts in Cedar's JSON form, checked against the schema.
    pub fn record(
        &self,
        uid: EntityUid,
        attributes: &Json,
        tags: &Json,
        parents: &[EntityUid],
    ) -> Result<Entity, EntityFault> {
        entities::read_parts(self, &uid, attributes, tags, parents)
    }

    /// Whether a stored entity fits this schema.
    pub fn check(&self, entity: &Entity) -> Result<(), EntityFault> {
        entities::check(self, entity)
    }

    /// Whether the schema declares this entity type.
    pub fn declares_type(&self, ty: &str) -> bool {
        self.facts.types.contains_key(ty)
    }

    /// Whether some action takes this type as a principal.
    pub fn is_principal(&self, ty: &str) -> bool {
        self.facts.actions.values().any(|action| action.principals.contains(ty))
    }

    /// The types of principal that the schema lets do this.
    pub fn principals(&self, action: Action) -> impl Iterator<Item = &Arc<str>> {
        self.facts.actions.get(action.name()).into_iter().flat_map(|declared| &declared.principals)
    }

    /// Whether the schema lets `child` have `parent` as a direct parent.
    pub fn may_have_parent(&self, child: &str, parent: &str) -> bool {
        self.facts.types.get(child).is_some_and(|ty| ty.parents.contains(parent))
    }

    /// Whether an entity of this type cannot be bare.
    pub fn requires_attributes(&self, ty: &str) -> bool {
        self.facts.types.get(ty).is_some_and(|ty| ty.attributes.values().any(|a| a.required))
    }

    /// The type of an attribute, where the schema declares it.
    pub fn attribute_type(&self, ty: &str, attribute: &str) -> Option<AttributeType> {
        self.facts.types.get(ty)?.attributes.get(attribute).map(|a| a.ty.clone())
    }

    /// The type of a context attribute, where the schema declares it for the action.
    pub fn context_declares(&self, action: Action, name: &str) -> Option<AttributeType> {
        self.facts.actions.get(action.name())?.context.get(name).map(|a| a.ty.clone())
    }

    /// Puts a question: keeps of `offered` what the schema declares for the action.
    pub fn inquiry(
        &self,
        principal: EntityUid,
        action: Action,
        offered: &BTreeMap<&'static str, Value>,
    ) -> Result<Inquiry, InquiryError> {
        Inquiry::new(self, principal, action, offered)
    }

    /// For every live slot: certainly allowed, to be asked, or (in neither set) denied. Never allows what `decide` denies.
    pub fn plan(&self, inquiry: &Inquiry, columns: &Columns, directory: &Directory) -> Arc<Scope> {
        on_large_stack(|| plan::plan(self, inquiry, columns, directory))
    }

    /// The full decision about one resource, which counts as stored.
    pub fn decide(&self, inquiry: &Inquiry, resource: &Entity, directory: &Directory) -> Verdict {
        let verdicts = self.decide_many(inquiry, std::slice::from_ref(resource), directory);
        verdicts.into_iter().next().unwrap_or(Verdict::Deny(DenyReason::Unfit))
    }

    /// The full decision about each of several resources, as if each were asked alone.
    pub fn decide_many(&self, inquiry: &Inquiry, resources: &[Entity], directory: &Directory) -> Vec<Verdict> {
        on_large_stack(|| decide::decide_many(self, inquiry, resources, directory))
    }

    /// The full decision about one resource, with what every policy that concerns it says, in words that tell no value of an attribute.
    pub fn explain(&self, inquiry: &Inquiry, resource: &Entity, directory: &Directory) -> Explanation {
        on_large_stack(|| explain::explain(self, inquiry, resource, directory))
    }

    /// The permits whose principal and action match the caller, with their caps.
    pub fn caps(&self, inquiry: &Inquiry, directory: &Directory) -> Caps {
        caps::caps(self, inquiry, directory)
    }

    /// Errors skip a policy, and what is not stored has no attributes: never so but in tests.
    fn is_plain(&self) -> bool {
        #[cfg(test)]
        return self.plain;
        #[cfg(not(test))]
        return false;
    }
}
