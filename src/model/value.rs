//! Attribute values in the shape of Cedar's JSON, without Cedar: what is stored, compared and shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::EntityUid;

/// One value of an attribute or tag. The order is total, so that sets and dictionaries have one form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A 64-bit integer.
    Long(i64),
    /// Text.
    Text(Arc<str>),
    /// A reference to an entity.
    Entity(EntityUid),
    /// A set.
    Set(BTreeSet<Value>),
    /// A record of named values.
    Record(BTreeMap<Arc<str>, Value>),
    /// A value of an extension type as the call that makes it: `decimal("0.5")`. Two calls may make equal values.
    Extension {
        /// `decimal`, `ip`, `datetime`, `duration`, `offset`.
        function: Arc<str>,
        /// What the function takes.
        arguments: Vec<Value>,
    },
}

impl Value {
    /// Text.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(text.into())
    }

    /// The entity that it refers to, if it is a reference.
    pub fn entity(&self) -> Option<&EntityUid> {
        match self {
            Self::Entity(uid) => Some(uid),
            Self::Bool(_) | Self::Long(_) | Self::Text(_) | Self::Set(_) | Self::Record(_) | Self::Extension { .. } => {
                None
            }
        }
    }

    /// Cedar's explicit JSON form: `{"__entity": …}`, `{"__extn": …}`.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Bool(b) => Json::Bool(*b),
            Self::Long(n) => Json::from(*n),
            Self::Text(t) => Json::String(t.as_ref().to_owned()),
            Self::Entity(uid) => json!({"__entity": uid}),
            Self::Set(items) => items.iter().map(Self::to_json).collect(),
            Self::Record(fields) => fields.iter().map(|(k, v)| (k.as_ref().to_owned(), v.to_json())).collect(),
            Self::Extension { function, arguments } => match arguments.as_slice() {
                [one] => json!({"__extn": {"fn": function, "arg": one.to_json()}}),
                many => json!({"__extn": {"fn": function, "args": many.iter().map(Self::to_json).collect::<Vec<_>>()}}),
            },
        }
    }

    /// Reads Cedar's explicit JSON form; `None` where it is not one (null, floats, malformed escapes).
    pub fn from_json(json: &Json) -> Option<Self> {
        match json {
            Json::Bool(b) => Some(Self::Bool(*b)),
            Json::Number(n) => n.as_i64().map(Self::Long),
            Json::String(t) => Some(Self::text(t.as_str())),
            Json::Array(items) => items.iter().map(Self::from_json).collect::<Option<_>>().map(Self::Set),
            Json::Object(fields) => Self::from_object(fields),
            Json::Null => None,
        }
    }

    fn from_object(fields: &Map<String, Json>) -> Option<Self> {
        if let Some(entity) = fields.get("__entity") {
            let part = |name| entity.get(name).and_then(Json::as_str);
            return Some(Self::Entity(EntityUid::new(part("type")?, part("id")?)));
        }
        if let Some(call) = fields.get("__extn") {
            let arguments = match (call.get("arg"), call.get("args").and_then(Json::as_array)) {
                (Some(one), _) => vec![Self::from_json(one)?],
                (None, Some(many)) => many.iter().map(Self::from_json).collect::<Option<_>>()?,
                (None, None) => return None,
            };
            return Some(Self::Extension { function: call.get("fn")?.as_str()?.into(), arguments });
        }
        let field = |(k, v): (&String, &Json)| Some((Arc::from(k.as_str()), Self::from_json(v)?));
        fields.iter().map(field).collect::<Option<_>>().map(Self::Record)
    }

    /// Every entity that the value refers to, at any depth.
    pub fn entities<'a>(&'a self, found: &mut Vec<&'a EntityUid>) {
        match self {
            Self::Bool(_) | Self::Long(_) | Self::Text(_) => {}
            Self::Entity(uid) => found.push(uid),
            Self::Set(items) => items.iter().for_each(|v| v.entities(found)),
            Self::Record(fields) => fields.values().for_each(|v| v.entities(found)),
            Self::Extension { arguments, .. } => arguments.iter().for_each(|v| v.entities(found)),
        }
    }
}

/// Redacted: values are content of records.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_its_json_form() {
        let json = json!({
            "a": [1, "x", true, {"__entity": {"type": "Patient", "id": "p1"}}],
            "b": {"c": {"__extn": {"fn": "decimal", "arg": "0.50"}}},
            "d": {"__extn": {"fn": "offset", "args": [{"__extn": {"fn": "datetime", "arg": "1970-01-01"}}, {"__extn": {"fn": "duration", "arg": "5ms"}}]}},
        });
        let value = Value::from_json(&json).unwrap();
        assert_eq!(Value::from_json(&value.to_json()), Some(value));
    }

    #[test]
    fn what_cedar_has_no_value_for_is_none() {
        for bad in [json!(null), json!(1.5), json!([null]), json!({"__entity": 3})] {
            assert_eq!(Value::from_json(&bad), None);
        }
    }
}
