//! The sample ward: 2,000 records of real text, 100 synthetic patients, 38 people.

use serde_json::Value as Json;

use super::{Caller, LOOPBACK, Metric, Record, Trouble, World, clinical, vector};

const ENTITIES: &str = include_str!("../../../examples/ward/entities.json");
const RECORDS: &str = include_str!("../../../examples/ward/records.ndjson");
const QUERIES: &str = include_str!("../../../examples/ward/queries.ndjson");
const USERS: &str = include_str!("../../../examples/ward/users.json");

/// The sample ward of the repository.
pub fn ward() -> Result<World, Trouble> {
    Ok(World {
        name: "sample ward".to_owned(),
        collection: "ward".to_owned(),
        rules: clinical(),
        entities: read(ENTITIES)?,
        dimension: 384,
        metric: Metric::Cosine,
        source_ip: LOOPBACK.to_owned(),
        records: RECORDS.lines().map(|line| Record::read(line, "patient")).collect::<Result<_, _>>()?,
        callers: read::<Vec<Json>>(USERS)?.iter().filter_map(caller).collect(),
        named: QUERIES.lines().filter_map(named).collect(),
        matrix: None,
    })
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Trouble> {
    serde_json::from_str(text).map_err(|e| Trouble::Broken(format!("the sample ward does not read: {e}")))
}

/// `{caller: {type, id}, role, purpose}`, as `users.json` has it.
pub(super) fn caller(json: &Json) -> Option<Caller> {
    let word = |at: &str| json.pointer(at).and_then(Json::as_str).map(str::to_owned);
    Some(Caller {
        ty: word("/caller/type")?,
        id: word("/caller/id")?,
        role: word("/role").unwrap_or_default(),
        purpose: word("/purpose").or_else(|| word("/purposes/0"))?,
        seat: 0,
    })
}

fn named(line: &str) -> Option<(String, Vec<f32>)> {
    let json: Json = serde_json::from_str(line).ok()?;
    let patient = json.get("target_patient")?.as_str()?.to_owned();
    Some((patient, vector(&json)?))
}
