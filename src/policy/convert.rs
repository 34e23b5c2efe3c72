//! Between our nouns and Cedar's. Names of types are parsed once in the life of the process: Cedar's parser is slow.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, LazyLock},
};

use cedar_policy::{
    Entity as CedarEntity, EntityId, EntityTypeName, EntityUid as CedarUid, EvalResult, RestrictedExpression, pst,
};
use parking_lot::RwLock;

use crate::model::{Entity, EntityUid, Value, entity::Attributes};

/// Entity types come from schemas, so that there are few of them.
static TYPES: LazyLock<RwLock<HashMap<Arc<str>, EntityTypeName>>> = LazyLock::new(RwLock::default);

/// A type's name in Cedar's form; `None` where it is not a name.
fn type_name(ty: &Arc<str>) -> Option<EntityTypeName> {
    if let Some(known) = TYPES.read().get(ty) {
        return Some(known.clone());
    }
    let parsed: EntityTypeName = ty.parse().ok()?;
    TYPES.write().insert(Arc::clone(ty), parsed.clone());
    Some(parsed)
}

/// Our uid in Cedar's form.
pub(super) fn uid(uid: &EntityUid) -> Option<CedarUid> {
    Some(CedarUid::from_type_name_and_id(type_name(&uid.ty)?, EntityId::new(&uid.id)))
}

/// Cedar's uid in our form.
pub(super) fn from_uid(uid: &CedarUid) -> EntityUid {
    EntityUid::new(uid.type_name().to_string(), uid.id().unescaped())
}

/// A uid of the public syntax tree in our form.
pub(super) fn from_pst_uid(uid: &pst::EntityUID) -> EntityUid {
    EntityUid::new(uid.ty.to_string(), uid.eid.as_str())
}

/// A value as the expression that makes it.
pub(super) fn expression(value: &Value) -> Option<RestrictedExpression> {
    Some(match value {
        Value::Bool(b) => RestrictedExpression::new_bool(*b),
        Value::Long(n) => RestrictedExpression::new_long(*n),
        Value::Text(t) => RestrictedExpression::new_string(t.as_ref().to_owned()),
        Value::Entity(e) => RestrictedExpression::new_entity_uid(uid(e)?),
        Value::Set(items) => RestrictedExpression::new_set(items.iter().map(expression).collect::<Option<Vec<_>>>()?),
        Value::Record(fields) => RestrictedExpression::new_record(pairs(fields)?).ok()?,
        Value::Extension { function, arguments } => extension(function, arguments)?,
    })
}

fn extension(function: &str, arguments: &[Value]) -> Option<RestrictedExpression> {
    match (function, arguments) {
        ("decimal", [Value::Text(t)]) => Some(RestrictedExpression::new_decimal(t)),
        ("ip", [Value::Text(t)]) => Some(RestrictedExpression::new_ip(t)),
        ("datetime", [Value::Text(t)]) => Some(RestrictedExpression::new_datetime(t)),
        ("duration", [Value::Text(t)]) => Some(RestrictedExpression::new_duration(t)),
        ("offset", [Value::Extension { .. }, Value::Extension { .. }]) => call(function, arguments)?.parse().ok(),
        _ => None,
    }
}

/// `offset` has no constructor of its own: it goes through its text. Arguments are quoted by Rust's rules for strings that
/// only hold what extension constructors accept.
fn call(function: &str, arguments: &[Value]) -> Option<String> {
    let argument = |v: &Value| match v {
        Value::Text(t) if t.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\\') => Some(format!("\"{t}\"")),
        Value::Extension { function, arguments } => call(function, arguments),
        Value::Text(_) | Value::Bool(_) | Value::Long(_) | Value::Entity(_) | Value::Set(_) | Value::Record(_) => None,
    };
    if !function.chars().all(|c| c.is_ascii_alphabetic()) {
        return None;
    }
    let arguments: Vec<String> = arguments.iter().map(argument).collect::<Option<_>>()?;
    match (function, arguments.as_slice()) {
        ("offset", [start, by]) => Some(format!("{start}.offset({by})")),
        _ => Some(format!("{function}({})", arguments.join(", "))),
    }
}

/// Named values as Cedar takes them.
pub(super) fn pairs(fields: &Attributes) -> Option<Vec<(String, RestrictedExpression)>> {
    fields.iter().map(|(k, v)| Some((k.as_ref().to_owned(), expression(v)?))).collect()
}

/// An entity in Cedar's form. `None` if a value cannot be made (a malformed extension call): then it counts as not stored.
pub(super) fn entity(entity: &Entity) -> Option<CedarEntity> {
    build(entity, pairs(&entity.attrs)?, pairs(&entity.tags)?, entity.parents.iter())
}

/// As `entity`, with only those attributes that some policy reads, and without parents where none looks `upward`: the rest
/// cannot be observed.
pub(super) fn entity_reading(entity: &Entity, read: &HashSet<Arc<str>>, upward: bool) -> Option<CedarEntity> {
    let mut attrs = Vec::with_capacity(entity.attrs.len());
    for (name, value) in entity.attrs.iter().filter(|(name, _)| read.contains(*name)) {
        attrs.push((name.as_ref().to_owned(), expression(value)?));
    }
    let parents = entity.parents.iter().filter(|_| upward);
    build(entity, attrs, pairs(&entity.tags)?, parents)
}

type Pairs = Vec<(String, RestrictedExpression)>;

fn build<'a>(
    entity: &Entity,
    attrs: Pairs,
    tags: Pairs,
    parents: impl Iterator<Item = &'a EntityUid>,
) -> Option<CedarEntity> {
    let parents: Vec<CedarUid> = parents.map(uid).collect::<Option<_>>()?;
    CedarEntity::new_with_tags(uid(&entity.uid)?, attrs, parents, tags).ok()
}

/// What an evaluation gave, in our form; `None` where it holds an extension value, whose written form is not its identity.
pub(super) fn from_result(result: &EvalResult) -> Option<Value> {
    Some(match result {
        EvalResult::Bool(b) => Value::Bool(*b),
        EvalResult::Long(n) => Value::Long(*n),
        EvalResult::String(t) => Value::text(t.as_str()),
        EvalResult::EntityUid(u) => Value::Entity(from_uid(u)),
        EvalResult::Set(items) => Value::Set(items.iter().map(from_result).collect::<Option<_>>()?),
        EvalResult::Record(fields) => {
            let field = |(k, v): (&String, &EvalResult)| Some((Arc::from(k.as_str()), from_result(v)?));
            Value::Record(fields.iter().map(field).collect::<Option<_>>()?)
        }
        EvalResult::ExtensionValue(_) => return None,
    })
}

/// Whether a value holds an extension value at any depth.
pub(super) fn has_extension(value: &Value) -> bool {
    match value {
        Value::Bool(_) | Value::Long(_) | Value::Text(_) | Value::Entity(_) => false,
        Value::Set(items) => items.iter().any(has_extension),
        Value::Record(fields) => fields.values().any(has_extension),
        Value::Extension { .. } => true,
    }
}
