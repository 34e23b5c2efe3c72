//! Entities as clients send them: Cedar reads and checks them; the messages are ours, since Cedar's repeat values.

use cedar_policy::Entity as CedarEntity;
use serde_json::{Map, Value as Json, json};

use super::{
    Bundle, EntityFault, convert,
    schema::{AttributeType, EntityType},
};
use crate::model::{Entity, EntityUid, Value, limits};

/// An entity in Cedar's JSON form.
pub(super) fn read(bundle: &Bundle, json: &Json) -> Result<Entity, EntityFault> {
    let malformed = || EntityFault::new("malformed", "an entity is {uid: {type, id}, attrs, parents, tags?}");
    let fields = json.as_object().ok_or_else(malformed)?;
    if fields.keys().any(|key| !matches!(key.as_str(), "uid" | "attrs" | "parents" | "tags")) {
        return Err(malformed());
    }
    let uid = uid(fields.get("uid").ok_or_else(malformed)?).ok_or_else(malformed)?;
    let parents = match fields.get("parents") {
        None => vec![],
        Some(Json::Array(parents)) => {
            parents.iter().map(self::uid).collect::<Option<Vec<_>>>().ok_or_else(malformed)?
        }
        Some(_) => return Err(malformed()),
    };
    let empty = json!({});
    let part = |name| fields.get(name).unwrap_or(&empty);
    read_parts(bundle, &uid, part("attrs"), part("tags"), &parents)
}

/// `{type, id}`, in an `__entity` escape or bare.
fn uid(json: &Json) -> Option<EntityUid> {
    let json = json.get("__entity").unwrap_or(json);
    let part = |name| json.get(name).and_then(Json::as_str);
    Some(EntityUid::new(part("type")?, part("id")?))
}

/// An entity from its parts. `null` stands for none.
pub(super) fn read_parts(
    bundle: &Bundle,
    uid: &EntityUid,
    attributes: &Json,
    tags: &Json,
    parents: &[EntityUid],
) -> Result<Entity, EntityFault> {
    let ty = declared(bundle, uid)?;
    let attributes = object(attributes, "attributes")?;
    let tags = object(tags, "tags")?;
    bounded(attributes.len(), limits::ATTRIBUTES, "attributes")?;
    bounded(tags.len(), limits::ATTRIBUTES, "tags")?;
    bounded(parents.len(), limits::PARENTS, "parents")?;
    for parent in parents {
        may_have(ty, uid, parent)?;
    }
    let mut json = json!({"uid": uid, "attrs": attributes, "parents": parents});
    if let (Some(fields), false) = (json.as_object_mut(), tags.is_empty()) {
        fields.insert("tags".into(), Json::Object(tags.clone()));
    }
    match CedarEntity::from_json_value(json, Some(&bundle.schema)) {
        Ok(cedar) => model(uid, &cedar),
        Err(_) => Err(diagnose(ty, &attributes, &tags)),
    }
}

fn model(uid: &EntityUid, cedar: &CedarEntity) -> Result<Entity, EntityFault> {
    let invalid = || EntityFault::new("invalid", "the entity has a value that cannot be stored");
    let json = cedar.to_json_value().map_err(|_| invalid())?;
    let values = |part: &str| match json.get(part) {
        None => Ok(Default::default()),
        Some(json) => match Value::from_json(json) {
            Some(Value::Record(fields)) => Ok(fields),
            _ => Err(invalid()),
        },
    };
    let parents = json.get("parents").and_then(Json::as_array).into_iter().flatten();
    let parents = parents.map(self::uid).collect::<Option<_>>().ok_or_else(invalid)?;
    let entity = Entity { uid: uid.clone(), attrs: values("attrs")?, tags: values("tags")?, parents };
    // Cedar takes any text for an id; ours have a form wherever they stand
    match entity.references().into_iter().all(|uid| uid.check().is_ok()) {
        true => Ok(entity),
        false => Err(EntityFault::new(
            "bad_id",
            "an id that an attribute refers to must be 1 to 256 bytes of UTF-8 without control characters",
        )),
    }
}

/// A stored entity against the schema.
pub(super) fn check(bundle: &Bundle, entity: &Entity) -> Result<(), EntityFault> {
    let ty = declared(bundle, &entity.uid)?;
    for (name, value) in &entity.attrs {
        match ty.attributes.get(name) {
            None => return Err(unknown(name)),
            Some(attribute) if !attribute.ty.admits(value) => return Err(wrong(name, &attribute.ty)),
            Some(_) => {}
        }
    }
    if let Some((name, attribute)) = ty.attributes.iter().find(|(k, a)| a.required && !entity.attrs.contains_key(*k)) {
        return Err(absent(name, &attribute.ty));
    }
    for value in entity.tags.values() {
        match &ty.tags {
            None => return Err(EntityFault::new("wrong_tag", format!("entity type `{}` has no tags", entity.uid.ty))),
            Some(tag) if !tag.admits(value) => return Err(wrong_tag(tag)),
            Some(_) => {}
        }
    }
    for parent in &entity.parents {
        may_have(ty, &entity.uid, parent)?;
        declared(bundle, parent)?;
    }
    // an extension value may be of the right function and yet not parse; enumerated references may name no choice
    let cedar = convert::entity(entity).ok_or_else(invalid)?;
    let json = cedar.to_json_value().map_err(|_| invalid())?;
    CedarEntity::from_json_value(json, Some(&bundle.schema)).map(drop).map_err(|_| invalid())
}

fn invalid() -> EntityFault {
    EntityFault::new("invalid", "the entity does not fit the schema")
}

fn declared<'a>(bundle: &'a Bundle, uid: &EntityUid) -> Result<&'a EntityType, EntityFault> {
    if uid.check().is_err() {
        return Err(EntityFault::new(
            "bad_id",
            "an entity's id must be 1 to 256 bytes of UTF-8 without control characters",
        ));
    }
    let unknown = || EntityFault::new("unknown_type", "the schema declares no such entity type");
    let ty = bundle.facts.types.get(&uid.ty).ok_or_else(unknown)?;
    match &ty.choices {
        Some(ids) if !ids.contains(&uid.id) => Err(EntityFault::new(
            "bad_id",
            format!("entity type `{}` lists its ids in the schema; this is none of them", uid.ty),
        )),
        Some(_) | None => Ok(ty),
    }
}

fn may_have(ty: &EntityType, uid: &EntityUid, parent: &EntityUid) -> Result<(), EntityFault> {
    if parent.check().is_err() {
        return Err(EntityFault::new(
            "bad_id",
            "a parent's id must be 1 to 256 bytes of UTF-8 without control characters",
        ));
    }
    if ty.parents.contains(&parent.ty) {
        return Ok(());
    }
    let mut allowed: Vec<&str> = ty.parents.iter().map(AsRef::as_ref).collect();
    allowed.sort_unstable();
    let allowed = if allowed.is_empty() { "nothing".into() } else { allowed.join(", ") };
    Err(EntityFault::new("wrong_parent", format!("the schema lets `{}` have as parent: {allowed}", uid.ty)))
}

fn object(json: &Json, what: &str) -> Result<Map<String, Json>, EntityFault> {
    match json {
        Json::Null => Ok(Map::new()),
        Json::Object(fields) => Ok(fields.clone()),
        _ => Err(EntityFault::new("malformed", format!("{what} must be a JSON object"))),
    }
}

fn bounded(count: usize, most: usize, what: &str) -> Result<(), EntityFault> {
    if count <= most {
        Ok(())
    } else {
        Err(EntityFault::new("too_many", format!("an entity has at most {most} {what}")))
    }
}

/// The first thing wrong, from the schema's side; Cedar has refused it, so something is.
fn diagnose(ty: &EntityType, attributes: &Map<String, Json>, tags: &Map<String, Json>) -> EntityFault {
    for (name, value) in attributes {
        match ty.attributes.get(name.as_str()) {
            None => return unknown(name),
            Some(attribute) => {
                if let Some(fault) = misfit(name, value, &attribute.ty) {
                    return fault;
                }
            }
        }
    }
    if let Some((name, attribute)) =
        ty.attributes.iter().find(|(name, a)| a.required && !attributes.contains_key(name.as_ref()))
    {
        return absent(name, &attribute.ty);
    }
    match &ty.tags {
        None if !tags.is_empty() => EntityFault::new("wrong_tag", "the schema declares no tags for this entity type"),
        Some(tag) if tags.values().any(|value| misfit("tag", value, tag).is_some()) => wrong_tag(tag),
        Some(_) | None => invalid(),
    }
}

/// What is wrong with a JSON value for a type, if it shows without Cedar.
fn misfit(path: &str, json: &Json, ty: &AttributeType) -> Option<EntityFault> {
    let fits = match (ty, json) {
        (AttributeType::Bool, Json::Bool(_)) | (AttributeType::Text, Json::String(_)) => true,
        (AttributeType::Long, Json::Number(n)) => n.is_i64(),
        (AttributeType::Entity(ty), json) => uid(json).is_some_and(|uid| uid.ty == *ty && uid.check().is_ok()),
        (AttributeType::Set(item), Json::Array(items)) => {
            return items.iter().find_map(|json| misfit(path, json, item));
        }
        (AttributeType::Record(fields), Json::Object(values)) => {
            for (name, value) in values {
                let path = format!("{path}.{name}");
                match fields.get(name.as_str()) {
                    None => return Some(unknown(&path)),
                    Some(field) => {
                        if let Some(fault) = misfit(&path, value, &field.ty) {
                            return Some(fault);
                        }
                    }
                }
            }
            let lacking = fields.iter().find(|(name, f)| f.required && !values.contains_key(name.as_ref()));
            return lacking.map(|(name, field)| absent(&format!("{path}.{name}"), &field.ty));
        }
        (AttributeType::Datetime | AttributeType::Extension(_), json) => extension_fits(json, ty),
        _ => false,
    };
    if fits { None } else { Some(wrong(path, ty)) }
}

fn extension_fits(json: &Json, ty: &AttributeType) -> bool {
    let function = match ty {
        AttributeType::Datetime => "datetime",
        AttributeType::Extension(name) if name.as_ref() == "ipaddr" => "ip",
        AttributeType::Extension(name) => name,
        _ => return false,
    };
    let value = match json {
        Json::String(text) => {
            Some(Value::Extension { function: function.into(), arguments: vec![Value::text(text.as_str())] })
        }
        other => Value::from_json(other),
    };
    value.is_some_and(|value| ty.admits(&value) && parses(&value))
}

fn parses(value: &Value) -> bool {
    let mut probe = Entity::bare(EntityUid::new("Record", "probe"));
    probe.attrs.insert("value".into(), value.clone());
    convert::entity(&probe).is_some()
}

fn unknown(name: &str) -> EntityFault {
    EntityFault::new("unknown_attribute", format!("the schema declares no attribute `{}` here", shown(name)))
}

fn absent(name: &str, ty: &AttributeType) -> EntityFault {
    EntityFault::new("missing_attribute", format!("attribute `{name}` ({}) is required", ty.name()))
}

fn wrong(name: &str, ty: &AttributeType) -> EntityFault {
    EntityFault::new("wrong_type", format!("attribute `{name}` must be a valid {}", ty.name()))
}

fn wrong_tag(ty: &AttributeType) -> EntityFault {
    EntityFault::new("wrong_tag", format!("every tag must be a valid {}", ty.name()))
}

/// A name that the client made up is repeated only if it looks like a name.
fn shown(name: &str) -> &str {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.len() <= 64 && name.chars().all(word) { name } else { "…" }
}
