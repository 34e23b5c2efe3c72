//! The reviewer's own store: policies from a folder, callers and their keys, records and entities from files or as the store itself lists them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::{Caller, LOOPBACK, Metric, Record, Rules, Trouble, World, ward::caller};
use crate::leaktest::limits;

/// What the reviewer hands over, as text.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// The collection.
    pub collection: String,
    /// The bundle.
    pub rules: Option<Rules>,
    /// A JSON list of entities.
    pub entities: Option<String>,
    /// Records as they were sent, one a line.
    pub records: String,
    /// A JSON list of `{caller: {type, id}, role, purpose, key | key_env}`.
    pub callers: String,
    /// JSON: caller's id -> ids that they may see.
    pub matrix: Option<String>,
    /// The attribute that says whose a record is.
    pub subject: String,
    /// The collection's.
    pub metric: Metric,
    /// The address from which the server sees the kit ask; none: loopback.
    pub source_ip: Option<String>,
}

/// The world that these make, and each caller's key.
pub fn own(
    own: &Own,
    key: impl Fn(&Json) -> Result<Option<String>, Trouble>,
) -> Result<(World, Vec<(Caller, String)>), Trouble> {
    let listed: Vec<Json> = parsed("callers", &own.callers)?;
    limits::within("callers", listed.len(), limits::CALLERS)?;
    let mut keys = Vec::new();
    let mut callers = Vec::new();
    for entry in &listed {
        let caller =
            caller(entry).ok_or_else(|| Trouble::Broken("a caller needs `caller: {type, id}` and `purpose`".into()))?;
        if let Some(key) = key(entry)? {
            keys.push((caller.clone(), key));
        }
        callers.push(caller);
    }
    let lines = own.records.lines().filter(|l| !l.trim().is_empty());
    let records: Vec<Record> = lines.map(|line| Record::read(line, &own.subject)).collect::<Result<_, _>>()?;
    limits::within("records", records.len(), limits::RECORDS)?;
    let dimension = records.first().map_or(0, |r| r.vector.len());
    let matrix = own.matrix.as_deref().map(|text| matrix(text, &callers)).transpose()?;
    let world = World {
        name: format!("collection {}", own.collection),
        collection: own.collection.clone(),
        rules: own.rules.clone().unwrap_or(Rules { schema: String::new(), policies: String::new(), links: Json::Null }),
        entities: own.entities.as_deref().map(|text| parsed("entities", text)).transpose()?.unwrap_or_default(),
        dimension,
        metric: own.metric,
        source_ip: own.source_ip.clone().unwrap_or_else(|| LOOPBACK.to_owned()),
        records,
        callers,
        named: Vec::new(),
        matrix,
    };
    Ok((world, keys))
}

fn parsed<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T, Trouble> {
    serde_json::from_str(text).map_err(|e| Trouble::Broken(format!("{what}: {e}")))
}

fn matrix(text: &str, callers: &[Caller]) -> Result<Vec<(Caller, BTreeSet<String>)>, Trouble> {
    let mut rows: BTreeMap<String, BTreeSet<String>> = parsed("matrix", text)?;
    Ok(callers.iter().map(|c| (c.clone(), rows.remove(&c.id).unwrap_or_default())).collect())
}

#[cfg(test)]
mod tests {
    use super::{super::vector, *};

    #[test]
    fn a_world_of_ones_own_reads_callers_with_and_without_keys() {
        let given = Own {
            collection: "notes".into(),
            subject: "patient".into(),
            callers: r#"[{"caller":{"type":"Staff","id":"a"},"purpose":"care","key":"k"},{"caller":{"type":"Staff","id":"b"},"purpose":"care"}]"#.into(),
            records: r#"{"id":"r","document":"d","text":"t","vector":[1,0],"attributes":{"patient":{"type":"P","id":"x"}}}"#.into(),
            matrix: Some(r#"{"a":["r"]}"#.into()),
            ..Own::default()
        };
        let (world, keys) =
            own(&given, |entry| Ok(entry.get("key").and_then(Json::as_str).map(str::to_owned))).unwrap();
        assert_eq!((world.callers.len(), keys.len(), world.dimension), (2, 1, 2));
        assert_eq!(world.records[0].patient.as_deref(), Some("x"));
        let matrix = world.matrix.unwrap();
        assert_eq!((matrix[0].1.len(), matrix[1].1.len()), (1, 0));
        assert_eq!(vector(&serde_json::json!({"vector_base64": "AACAPw=="})), Some(vec![1.0]));
    }
}
