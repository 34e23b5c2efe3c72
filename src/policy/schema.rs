//! What a schema declares, as plain facts: read once from Cedar's resolved JSON form, so that messages and look-ups need no parser.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use serde_json::Value as Json;

use crate::model::Value;

/// The type of an attribute, tag or context value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeType {
    /// `Bool`.
    Bool,
    /// `Long`.
    Long,
    /// `String`.
    Text,
    /// A reference to an entity of this type.
    Entity(Arc<str>),
    /// A set of one type.
    Set(Box<AttributeType>),
    /// Named values.
    Record(BTreeMap<Arc<str>, Attribute>),
    /// `datetime`.
    Datetime,
    /// Any other extension type, by name: `decimal`, `ipaddr`, `duration`.
    Extension(Arc<str>),
}

impl AttributeType {
    /// The type in the schema's words.
    pub fn name(&self) -> String {
        match self {
            Self::Bool => "Bool".into(),
            Self::Long => "Long".into(),
            Self::Text => "String".into(),
            Self::Entity(ty) => format!("reference to a `{ty}`"),
            Self::Set(item) => format!("Set<{}>", item.name()),
            Self::Record(_) => "record".into(),
            Self::Datetime => "datetime".into(),
            Self::Extension(name) => name.as_ref().to_owned(),
        }
    }

    /// Whether `value` has this type.
    pub(super) fn admits(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Bool, Value::Bool(_)) | (Self::Long, Value::Long(_)) | (Self::Text, Value::Text(_)) => true,
            (Self::Entity(ty), Value::Entity(uid)) => *ty == uid.ty,
            (Self::Set(item), Value::Set(items)) => items.iter().all(|v| item.admits(v)),
            (Self::Record(fields), Value::Record(values)) => {
                let known = values.iter().all(|(k, v)| fields.get(k).is_some_and(|a| a.ty.admits(v)));
                known && fields.iter().all(|(k, a)| !a.required || values.contains_key(k))
            }
            (Self::Datetime, Value::Extension { function, .. }) => matches!(function.as_ref(), "datetime" | "offset"),
            (Self::Extension(name), Value::Extension { function, .. }) => match name.as_ref() {
                "ipaddr" => function.as_ref() == "ip",
                other => function.as_ref() == other,
            },
            _ => false,
        }
    }
}

/// An attribute's type, and whether it must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its type.
    pub ty: AttributeType,
    /// Whether every entity must have it.
    pub required: bool,
}

pub(super) type Fields = BTreeMap<Arc<str>, Attribute>;

/// One entity type.
#[derive(Debug, Default)]
pub(super) struct EntityType {
    pub(super) attributes: Fields,
    pub(super) tags: Option<AttributeType>,
    /// The ids that an enumerated type lists.
    pub(super) choices: Option<HashSet<Arc<str>>>,
    pub(super) parents: HashSet<Arc<str>>,
}

/// One action: `Action::"Retrieve"` has the full name `Action::Retrieve`'s parts apart.
#[derive(Debug, Default)]
pub(super) struct ActionType {
    pub(super) principals: HashSet<Arc<str>>,
    pub(super) resources: HashSet<Arc<str>>,
    pub(super) context: Fields,
}

/// Everything the schema declares.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) types: HashMap<Arc<str>, EntityType>,
    /// Actions without a namespace, by id.
    pub(super) actions: HashMap<Arc<str>, ActionType>,
}

impl Facts {
    /// Reads the resolved JSON form that `schema_str_to_json_with_resolved_types` gives.
    pub(super) fn read(json: &Json) -> Option<Self> {
        let namespaces = json.as_object()?;
        let mut common = HashMap::new();
        for (namespace, body) in namespaces {
            for (name, ty) in members(body, "commonTypes") {
                common.insert(qualified(namespace, name), ty);
            }
        }
        let reader = Reader { common };
        let mut facts = Self::default();
        for (namespace, body) in namespaces {
            for (name, ty) in members(body, "entityTypes") {
                facts.types.insert(qualified(namespace, name).into(), reader.entity_type(ty)?);
            }
            if namespace.is_empty() {
                for (id, action) in members(body, "actions") {
                    facts.actions.insert(id.as_str().into(), reader.action(action)?);
                }
            }
        }
        Some(facts)
    }
}

fn members<'a>(body: &'a Json, part: &str) -> impl Iterator<Item = (&'a String, &'a Json)> {
    body.get(part).and_then(Json::as_object).into_iter().flatten()
}

fn qualified(namespace: &str, name: &str) -> String {
    if namespace.is_empty() || name.contains("::") { name.to_owned() } else { format!("{namespace}::{name}") }
}

/// Every name in the resolved form is whole: one without a namespace is in none, wherever it stands.
struct Reader<'a> {
    common: HashMap<String, &'a Json>,
}

impl Reader<'_> {
    fn entity_type(&self, json: &Json) -> Option<EntityType> {
        let attributes = match json.get("shape") {
            Some(shape) => match self.ty(shape, 0)? {
                AttributeType::Record(fields) => fields,
                _ => return None,
            },
            None => Fields::new(),
        };
        let tags = match json.get("tags") {
            Some(ty) => Some(self.ty(ty, 0)?),
            None => None,
        };
        let choices = json.get("enum").and_then(Json::as_array);
        Some(EntityType {
            attributes,
            tags,
            choices: choices.map(|ids| ids.iter().filter_map(Json::as_str).map(Arc::from).collect()),
            parents: names(json.get("memberOfTypes")),
        })
    }

    fn action(&self, json: &Json) -> Option<ActionType> {
        let Some(applies) = json.get("appliesTo").filter(|a| !a.is_null()) else { return Some(ActionType::default()) };
        let context = match applies.get("context") {
            Some(ty) => match self.ty(ty, 0)? {
                AttributeType::Record(fields) => fields,
                _ => return None,
            },
            None => Fields::new(),
        };
        Some(ActionType {
            principals: names(applies.get("principalTypes")),
            resources: names(applies.get("resourceTypes")),
            context,
        })
    }

    /// `depth` bounds what a cycle of common types could do; Cedar refuses cycles before.
    fn ty(&self, json: &Json, depth: usize) -> Option<AttributeType> {
        if depth > 512 {
            return None;
        }
        let name = || json.get("name").and_then(Json::as_str);
        Some(match json.get("type")?.as_str()? {
            "Boolean" | "Bool" => AttributeType::Bool,
            "Long" => AttributeType::Long,
            "String" => AttributeType::Text,
            "Set" => AttributeType::Set(Box::new(self.ty(json.get("element")?, depth + 1)?)),
            "Record" => AttributeType::Record(self.fields(json, depth)?),
            "Entity" => AttributeType::Entity(name()?.into()),
            "Extension" => match name()? {
                "datetime" => AttributeType::Datetime,
                other => AttributeType::Extension(other.into()),
            },
            "EntityOrCommon" => self.named(name()?, depth)?,
            other => self.named(other, depth)?,
        })
    }

    fn fields(&self, json: &Json, depth: usize) -> Option<Fields> {
        let mut fields = Fields::new();
        for (name, ty) in members(json, "attributes") {
            let required = ty.get("required").and_then(Json::as_bool).unwrap_or(true);
            fields.insert(name.as_str().into(), Attribute { ty: self.ty(ty, depth + 1)?, required });
        }
        Some(fields)
    }

    fn named(&self, name: &str, depth: usize) -> Option<AttributeType> {
        if let Some(ty) = self.common.get(name) {
            return self.ty(ty, depth + 1);
        }
        Some(match name.rsplit("::").next()? {
            "Bool" | "Boolean" => AttributeType::Bool,
            "Long" => AttributeType::Long,
            "String" => AttributeType::Text,
            "datetime" => AttributeType::Datetime,
            other @ ("decimal" | "ipaddr" | "duration") => AttributeType::Extension(other.into()),
            _ => AttributeType::Entity(name.into()),
        })
    }
}

fn names(json: Option<&Json>) -> HashSet<Arc<str>> {
    json.and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).map(Arc::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_may_refer_to_itself_to_others_and_to_none() {
        let text = "
            entity Team;
            namespace Ns {
                type Level = String;
                entity Badge;
                entity Ward in [Team, Badge] = { team: Team, badge: Badge, level: Level, far: Far::Ward, set: Set<Team> };
            }
            namespace Far { entity Ward in [Ns::Ward, Team] = { level: Ns::Level }; }";
        let (json, _) = cedar_policy::schema_str_to_json_with_resolved_types(text).unwrap();
        let facts = Facts::read(&json).unwrap();
        let attribute = |ty: &str, name: &str| facts.types[ty].attributes[name].ty.name();
        assert_eq!(facts.types["Ns::Ward"].parents, HashSet::from(["Team".into(), "Ns::Badge".into()]));
        assert_eq!(facts.types["Far::Ward"].parents, HashSet::from(["Ns::Ward".into(), "Team".into()]));
        let found = ["team", "badge", "level", "far", "set"].map(|name| attribute("Ns::Ward", name));
        let references = ["`Team`", "`Ns::Badge`", "`Far::Ward`"].map(|ty| format!("reference to a {ty}"));
        assert_eq!(
            found,
            [&*references[0], &references[1], "String", &references[2], &format!("Set<{}>", references[0])]
        );
        assert_eq!(attribute("Far::Ward", "level"), "String");
    }
}
