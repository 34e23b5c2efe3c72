//! Pieces of JSON Schema, so that a description reads as a list of names and meanings. Knows no route.

use serde_json::{Value as Json, json};

use crate::model::limits;

/// `schema` and more words of its own.
fn with(mut schema: Json, more: Json) -> Json {
    if let (Some(fields), Json::Object(more)) = (schema.as_object_mut(), more) {
        fields.extend(more);
    }
    schema
}

pub(super) fn text(about: &str) -> Json {
    json!({"type": "string", "description": about})
}

/// What every id, purpose and name is: short, and without control characters.
pub(super) fn id(about: &str) -> Json {
    let bound = format!("{about} At most {} bytes of UTF-8, no control characters.", limits::ID_BYTES);
    json!({"type": "string", "minLength": 1, "maxLength": limits::ID_BYTES, "description": bound})
}

/// Bytes in hex.
pub(super) fn hex(bytes: usize, about: &str) -> Json {
    json!({"type": "string", "pattern": format!("^[0-9a-f]{{{}}}$", 2 * bytes), "description": about})
}

pub(super) fn time(about: &str) -> Json {
    json!({"type": "string", "format": "date-time", "description": about})
}

pub(super) fn flag(about: &str) -> Json {
    json!({"type": "boolean", "description": about})
}

pub(super) fn count(about: &str) -> Json {
    json!({"type": "integer", "minimum": 0, "description": about})
}

/// A count with a bound on either side.
pub(super) fn within(least: usize, most: usize, about: &str) -> Json {
    json!({"type": "integer", "minimum": least, "maximum": most, "description": about})
}

pub(super) fn word(words: &[&str], about: &str) -> Json {
    json!({"type": "string", "enum": words, "description": about})
}

pub(super) fn list(items: Json, about: &str) -> Json {
    json!({"type": "array", "items": items, "description": about})
}

/// A list with a bound on either side.
pub(super) fn list_within(least: usize, most: usize, items: Json, about: &str) -> Json {
    with(list(items, about), json!({"minItems": least, "maxItems": most}))
}

/// Any names, each with a value of one kind.
pub(super) fn map(values: Json, about: &str) -> Json {
    json!({"type": "object", "additionalProperties": values, "description": about})
}

/// The same with what stands where it is left out.
pub(super) fn default(schema: Json, value: Json) -> Json {
    with(schema, json!({"default": value}))
}

/// One of the shapes in `components`.
pub(super) fn named(name: &str) -> Json {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// One of them with words for this place.
pub(super) fn named_as(name: &str, about: &str) -> Json {
    with(named(name), json!({"description": about}))
}

/// A value, or `null`, which in a request is the same as leaving it out.
pub(super) fn or_null(mut schema: Json) -> Json {
    let Some(fields) = schema.as_object_mut() else { return schema };
    match fields.get("type").cloned() {
        Some(Json::String(ty)) => {
            fields.insert("type".into(), json!([ty, "null"]));
            if let Some(words) = fields.get_mut("enum").and_then(Json::as_array_mut) {
                words.push(Json::Null);
            }
            schema
        }
        _ => json!({"anyOf": [schema, {"type": "null"}]}),
    }
}

/// An object of an answer: more names may come with later versions.
pub(super) fn object(required: &[&str], properties: Json) -> Json {
    json!({"type": "object", "required": required, "properties": properties})
}

/// An object of a request: a name that is not known is refused, so that a misspelt one is never silently ignored.
pub(super) fn closed(required: &[&str], properties: Json) -> Json {
    with(object(required, properties), json!({"additionalProperties": false}))
}

/// The same, described.
pub(super) fn about(schema: Json, words: &str) -> Json {
    with(schema, json!({"description": words}))
}

/// An object with the names of others beside its own, all of them in one place.
pub(super) fn joined(parts: &[Json]) -> Json {
    let (mut required, mut properties) = (Vec::new(), serde_json::Map::new());
    for part in parts {
        required.extend(part.get("required").and_then(Json::as_array).into_iter().flatten().cloned());
        properties.extend(part.get("properties").and_then(Json::as_object).cloned().unwrap_or_default());
    }
    json!({"type": "object", "required": required, "properties": properties})
}
