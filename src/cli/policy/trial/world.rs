//! Where cases take place: what is stored, and what is told with every request. `world.json`, or a folder that it names.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use serde_json::{Map, Value as Json};

use super::{name, text};
use crate::{
    cli::Failure,
    model::{Action, CollectionName, Entity, EntityUid, Value},
    policy::{AttributeType, Bundle, Directory, Inquiry, InquiryError},
};

/// The context attributes that a server can tell.
const TOLD: [&str; 15] = [
    "purpose",
    "now",
    "source_ip",
    "break_glass",
    "patient",
    "collection",
    "actor",
    "token",
    "document",
    "replaces",
    "entity_type",
    "entity_id",
    "operation",
    "caller_type",
    "caller_id",
];

/// In a record's attributes, the id of whoever asks.
const CALLER: &str = "$caller";

/// What is stored, and told.
pub(super) struct World {
    collection: CollectionName,
    context: Map<String, Json>,
    entities: Vec<Entity>,
    records: HashMap<String, Json>,
}

/// `world.json` as it is.
pub(super) fn file(path: &Path) -> Result<Json, Failure> {
    serde_json::from_str(&text(path)?).map_err(|error| Failure::Usage(format!("{}: {error}", name(path))))
}

impl World {
    /// The world of this name: the one that `path` holds under the name of its collection, or a folder that it names under `worlds`.
    pub(super) fn read(bundle: &Bundle, path: &Path, world: &str) -> Result<Self, Failure> {
        let json = file(path)?;
        let usage = |what: String| Failure::Usage(format!("{}: {what}", name(path)));
        let mut context = json.get("context").and_then(Json::as_object).cloned().unwrap_or_default();
        let collection = world.parse().map_err(|error| usage(format!("the name of a world {error}")))?;
        context.insert("collection".into(), world.into());
        let (entities, records) = if json.get("collection").and_then(Json::as_str) == Some(world) {
            let kinds = list(&json, "kinds").filter_map(|kind| kind.get("record")).cloned().collect();
            (list(&json, "entities").cloned().collect(), kinds)
        } else {
            let folder = json.pointer(&format!("/worlds/{world}")).and_then(Json::as_str);
            let folder = folder.ok_or_else(|| {
                usage(format!("there is no world `{world}`: it is neither its `collection` nor among its `worlds`"))
            })?;
            self::folder(&path.parent().unwrap_or(Path::new("")).join(folder))?
        };
        let read = |json: &Json| {
            bundle.entity(json).map_err(|fault| usage(format!("world `{world}`: {}: {fault}", shown(json))))
        };
        let entities = entities.iter().map(read).collect::<Result<_, _>>()?;
        let named = |record: Json| Some((record.get("id")?.as_str()?.to_owned(), record));
        Ok(Self { collection, context, entities, records: records.into_iter().filter_map(named).collect() })
    }

    /// What is stored: `more` instead of or besides the world's, and not what is `gone`.
    pub(super) fn directory(&self, bundle: &Bundle, more: &[Json], gone: &[EntityUid]) -> Result<Directory, String> {
        let gone: BTreeSet<&EntityUid> = gone.iter().collect();
        let mut directory = Directory::new();
        let read = |json: &Json| bundle.entity(json).map_err(|fault| format!("{}: {fault}", shown(json)));
        let more = more.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        for entity in self.entities.iter().cloned().chain(more).filter(|entity| !gone.contains(&entity.uid)) {
            directory.upsert(entity);
        }
        for uid in [EntityUid::system(), EntityUid::collection(&self.collection)] {
            if !gone.contains(&uid) && !bundle.requires_attributes(&uid.ty) {
                directory.imply(uid);
            }
        }
        Ok(directory)
    }

    /// A record, as it is stored, or what else the action is on.
    pub(super) fn resource(
        &self,
        bundle: &Bundle,
        action: Action,
        record: Option<&Json>,
        caller: &EntityUid,
    ) -> Result<Entity, String> {
        match (action.resource_type(), record) {
            ("Record", Some(Json::String(id))) => {
                let record = self.records.get(id).ok_or("there is no record of this id in its world")?;
                self.record(bundle, record, caller)
            }
            ("Record", Some(record)) => self.record(bundle, record, caller),
            ("Record", None) => Err(format!("`{}` needs a `record`", action.name())),
            (_, Some(_)) => Err(format!("`{}` is not on a record", action.name())),
            ("Collection", None) => Ok(Entity::bare(EntityUid::collection(&self.collection))),
            (_, None) => Ok(Entity::bare(EntityUid::system())),
        }
    }

    /// A record as the server stores it.
    fn record(&self, bundle: &Bundle, sent: &Json, caller: &EntityUid) -> Result<Entity, String> {
        let id =
            sent.get("id").and_then(Json::as_str).ok_or("a record is {id, document, attributes, tags?, parents?}")?;
        let id = id.parse().map_err(|error| format!("the record's id {error}"))?;
        let part =
            |name: &str| sent.get(name).map(|json| asking(json, caller)).unwrap_or_else(|| Json::Object(Map::new()));
        let mut parents: Vec<EntityUid> = match sent.get("parents") {
            Some(parents) => {
                serde_json::from_value(parents.clone()).map_err(|error| format!("the record's parents: {error}"))?
            }
            None => vec![],
        };
        if bundle.may_have_parent("Record", "Collection") {
            parents.push(EntityUid::collection(&self.collection));
        }
        let uid = EntityUid::record(&self.collection, &id);
        bundle.record(uid, &part("attributes"), &part("tags"), &parents).map_err(|fault| format!("the record: {fault}"))
    }

    /// The question, with the world's context and `more` on top of it, as far as the schema declares it. `None` where the schema does not
    /// let such a caller have the action.
    pub(super) fn inquiry(
        &self,
        bundle: &Bundle,
        caller: &EntityUid,
        action: Action,
        more: &Map<String, Json>,
    ) -> Result<Option<Inquiry>, String> {
        let mut offered = BTreeMap::new();
        for (name, json) in self.context.iter().chain(more) {
            let known = TOLD.into_iter().find(|told| told == name);
            let known = known
                .ok_or_else(|| format!("the server tells no `{name}` in a context; it may be {}", TOLD.join(", ")))?;
            let Some(ty) = bundle.context_declares(action, known) else { continue };
            let value = value(json, &ty).ok_or_else(|| format!("`{name}` in the context must be a {}", ty.name()))?;
            offered.insert(known, value);
        }
        match bundle.inquiry(caller.clone(), action, &offered) {
            Ok(inquiry) => Ok(Some(inquiry)),
            Err(InquiryError::Principal(_)) => Ok(None),
            Err(error @ (InquiryError::Missing(_) | InquiryError::Type(_))) => {
                Err(format!("{error}: `{}` cannot be asked with what the case tells", action.name()))
            }
        }
    }
}

/// Entities and records of a folder, in the forms that the server takes.
fn folder(folder: &Path) -> Result<(Vec<Json>, Vec<Json>), Failure> {
    let usage = |path: &Path, error: serde_json::Error| Failure::Usage(format!("{}: {error}", path.display()));
    let (entities, records) = (folder.join("entities.json"), folder.join("records.ndjson"));
    let lines = text(&records)?;
    let record = |line: &str| serde_json::from_str(line).map_err(|error| usage(&records, error));
    Ok((
        serde_json::from_str(&text(&entities)?).map_err(|error| usage(&entities, error))?,
        lines.lines().filter(|line| !line.trim().is_empty()).map(record).collect::<Result<_, _>>()?,
    ))
}

/// A context value in the JSON that people write for its type.
fn value(json: &Json, ty: &AttributeType) -> Option<Value> {
    let call = |function: &str| {
        json.as_str().map(|text| Value::Extension { function: function.into(), arguments: vec![Value::text(text)] })
    };
    match ty {
        AttributeType::Datetime => call("datetime"),
        AttributeType::Extension(name) if name.as_ref() == "ipaddr" => call("ip"),
        AttributeType::Extension(name) => call(name),
        AttributeType::Entity(ty) => match json.as_str() {
            Some(id) => Some(Value::Entity(EntityUid::new(ty.as_ref(), id))),
            None => serde_json::from_value(json.get("__entity").unwrap_or(json).clone()).ok().map(Value::Entity),
        },
        AttributeType::Bool
        | AttributeType::Long
        | AttributeType::Text
        | AttributeType::Set(_)
        | AttributeType::Record(_) => Value::from_json(json),
    }
}

/// With the caller's id where `$caller` stands for it.
fn asking(json: &Json, caller: &EntityUid) -> Json {
    match json {
        Json::Object(fields) => {
            let field = |(name, json): (&String, &Json)| match (name.as_str(), json.as_str()) {
                ("id", Some(CALLER)) => (name.clone(), caller.id.as_ref().into()),
                _ => (name.clone(), asking(json, caller)),
            };
            fields.iter().map(field).collect()
        }
        Json::Array(items) => items.iter().map(|json| asking(json, caller)).collect(),
        other => other.clone(),
    }
}

/// The name of an entity as it was sent.
fn shown(json: &Json) -> String {
    let part = |name: &str| json.pointer(&format!("/uid/{name}")).and_then(Json::as_str).unwrap_or("?");
    format!("entity {}::\"{}\"", part("type"), part("id"))
}

pub(super) fn list<'a>(json: &'a Json, name: &str) -> impl Iterator<Item = &'a Json> {
    json.get(name).and_then(Json::as_array).into_iter().flatten()
}
