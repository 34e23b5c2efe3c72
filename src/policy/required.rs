//! What the contract requires of a schema: types, actions, and context that the server can supply.

use super::{
    BundleFault,
    schema::{ActionType, AttributeType, Facts},
};
use crate::model::Action;

const TYPES: [&str; 5] = ["Record", "Document", "Collection", "System", "Administrator"];

/// Everything that is missing or cannot be supplied, each by its name.
pub(super) fn check(facts: &Facts) -> Vec<BundleFault> {
    let absent = |ty: &&str| !facts.types.contains_key(*ty);
    let types = TYPES.iter().copied().filter(absent);
    let mut faults: Vec<BundleFault> =
        types.map(|ty| BundleFault::new("missing_type", format!("the schema must declare `entity {ty}`"))).collect();
    for action in Action::all() {
        match facts.actions.get(action.name()) {
            Some(declared) => faults.extend(action_faults(action, declared)),
            None => faults.push(BundleFault::new(
                "missing_action",
                format!(
                    "the schema must declare `action {}` with resource `{}`",
                    action.name(),
                    action.resource_type()
                ),
            )),
        }
    }
    faults
}

fn action_faults(action: Action, declared: &ActionType) -> Vec<BundleFault> {
    let mut faults = Vec::new();
    let (name, resource) = (action.name(), action.resource_type());
    if !declared.resources.contains(resource) {
        faults
            .push(BundleFault::new("missing_action", format!("action `{name}` must list `{resource}` under resource")));
    }
    for (key, attribute) in &declared.context {
        match supplied(action, key) {
            Some(kind) if kind.is(&attribute.ty) => {}
            Some(kind) => faults.push(BundleFault::new(
                "context_unavailable",
                format!("context attribute `{key}` of action `{name}` must be declared as {}", kind.told()),
            )),
            None if attribute.required => faults.push(BundleFault::new(
                "context_unavailable",
                format!("the server does not supply `{key}` in the context of action `{name}`; leave it out or make it optional"),
            )),
            None => {}
        }
    }
    faults
}

/// What the server can put in a context.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Bool,
    Datetime,
    Ip,
    TextOrEntity,
    Claims,
}

impl Kind {
    fn is(self, ty: &AttributeType) -> bool {
        match self {
            Self::Text => *ty == AttributeType::Text,
            Self::Bool => *ty == AttributeType::Bool,
            Self::Datetime => *ty == AttributeType::Datetime,
            Self::Ip => *ty == AttributeType::Extension("ipaddr".into()),
            Self::TextOrEntity => matches!(ty, AttributeType::Text | AttributeType::Entity(_)),
            Self::Claims => matches!(ty, AttributeType::Record(_)),
        }
    }

    fn told(self) -> &'static str {
        match self {
            Self::Text => "String",
            Self::Bool => "Bool",
            Self::Datetime => "datetime",
            Self::Ip => "ipaddr",
            Self::TextOrEntity => "String or an entity type",
            Self::Claims => "a record",
        }
    }
}

fn supplied(action: Action, key: &str) -> Option<Kind> {
    match (key, action) {
        ("purpose" | "collection", _) => Some(Kind::Text),
        ("now", _) => Some(Kind::Datetime),
        ("source_ip", _) => Some(Kind::Ip),
        ("break_glass", _) | ("replaces", Action::Ingest) => Some(Kind::Bool),
        ("patient" | "actor", _) | ("document", Action::Ingest) => Some(Kind::TextOrEntity),
        ("token", _) => Some(Kind::Claims),
        ("entity_type" | "entity_id" | "operation", Action::ManageEntities) => Some(Kind::Text),
        ("caller_type" | "caller_id", Action::ManageCallers) => Some(Kind::Text),
        _ => None,
    }
}
