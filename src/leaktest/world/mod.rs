//! A world to test in: rules, people and records, as data. Knows nothing of who may see what; that is the oracle's.

mod hospital;
mod own;
mod ward;

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::target::{Caller, Trouble};

pub use hospital::hospital;
pub use own::{Own, own};
pub use ward::ward;

/// What a bundle is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// The Cedar schema.
    pub schema: String,
    /// Policies and templates.
    pub policies: String,
    /// Links of templates: `[{template, id, values}]`.
    pub links: Json,
}

/// One record, as the kit puts it in.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its id.
    pub id: String,
    /// What it was cut from.
    pub document: String,
    /// Whose it is.
    pub patient: Option<String>,
    /// What it says.
    pub text: String,
    /// In Cedar's JSON form.
    pub attributes: Json,
    /// Tags, in the same form.
    pub tags: Json,
    /// Parents: `[{type, id}]`.
    pub parents: Json,
    /// Of length one.
    pub vector: Vec<f32>,
}

impl Record {
    /// The record as it is sent.
    pub fn line(&self) -> Json {
        let mut line = json!({
            "id": self.id, "document": self.document, "text": self.text,
            "attributes": self.attributes, "vector": self.vector,
        });
        if let Some(fields) = line.as_object_mut() {
            for (name, value, empty) in [("tags", &self.tags, json!({})), ("parents", &self.parents, json!([]))] {
                if *value != empty && !value.is_null() {
                    fields.insert(name.into(), value.clone());
                }
            }
        }
        line
    }

    /// Reads a record as it is sent; `subject` names the attribute that says whose it is.
    pub fn read(line: &str, subject: &str) -> Result<Self, Trouble> {
        let unfit = |what: &str| Trouble::Broken(format!("a record of the world {what}"));
        let json: Json = serde_json::from_str(line).map_err(|_| unfit("is not JSON"))?;
        let word = |name| json.get(name).and_then(Json::as_str).map(str::to_owned);
        let attributes = json.get("attributes").cloned().unwrap_or_else(|| json!({}));
        Ok(Self {
            id: word("id").ok_or_else(|| unfit("has no id"))?,
            document: word("document").unwrap_or_default(),
            patient: attributes.get(subject).and_then(reference).map(|(_, id)| id.to_owned()),
            text: word("text").unwrap_or_default(),
            attributes,
            tags: json.get("tags").cloned().unwrap_or_else(|| json!({})),
            parents: json.get("parents").cloned().unwrap_or_else(|| json!([])),
            vector: vector(&json).unwrap_or_default(),
        })
    }
}

/// The vector of a record or question, in either of its forms.
pub(super) fn vector(json: &Json) -> Option<Vec<f32>> {
    use base64::Engine as _;
    if let Some(list) = json.get("vector").and_then(Json::as_array) {
        return list.iter().map(|x| x.as_f64().map(|x| x as f32)).collect();
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(json.get("vector_base64")?.as_str()?).ok()?;
    Some(bytes.as_chunks::<4>().0.iter().map(|c| f32::from_le_bytes(*c)).collect())
}

/// Type and id of a reference to an entity, in either of the forms that Cedar's JSON has.
pub(super) fn reference(json: &Json) -> Option<(&str, &str)> {
    let inner = json.get("__entity").unwrap_or(json);
    Some((inner.get("type")?.as_str()?, inner.get("id")?.as_str()?))
}

/// How near two vectors are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Metric {
    /// The cosine of their angle.
    #[default]
    Cosine,
    /// Their inner product.
    Dot,
    /// Minus the square of their distance.
    Euclidean,
}

impl Metric {
    /// Greater is nearer.
    pub fn score(self, left: &[f32], right: &[f32]) -> f64 {
        let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
            left.iter().zip(right).map(|(l, r)| of(f64::from(*l), f64::from(*r))).sum()
        };
        let product = || sum(&|l, r| l * r);
        match self {
            Self::Cosine => product() / (sum(&|l, _| l * l) * sum(&|_, r| r * r)).sqrt().max(f64::MIN_POSITIVE),
            Self::Dot => product(),
            Self::Euclidean => -sum(&|l, r| (l - r) * (l - r)),
        }
    }

    /// Its name, as the target's API has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Dot => "dot",
            Self::Euclidean => "euclidean",
        }
    }
}

/// Where a target that runs on this machine sees the kit ask from.
pub(super) const LOOPBACK: &str = "127.0.0.1";

/// A world.
#[derive(Debug, Clone)]
pub struct World {
    /// What to call it.
    pub name: String,
    /// Where the records lie.
    pub collection: String,
    /// Policies and schema.
    pub rules: Rules,
    /// People and things, in Cedar's JSON form.
    pub entities: Vec<Json>,
    /// Components of a vector.
    pub dimension: usize,
    /// How near two vectors are.
    pub metric: Metric,
    /// The address from which the target sees the kit ask, for policies that look at it.
    pub source_ip: String,
    /// All records.
    pub records: Vec<Record>,
    /// Who asks.
    pub callers: Vec<Caller>,
    /// Questions that name a patient: whom, and the question's vector.
    pub named: Vec<(String, Vec<f32>)>,
    /// An explicit matrix instead of the oracle's reading: who may see which ids.
    pub matrix: Option<Vec<(Caller, BTreeSet<String>)>>,
}

impl World {
    /// The same without the records for which `gone` holds.
    pub fn without(&self, gone: impl Fn(&Record) -> bool) -> Vec<Record> {
        self.records.iter().filter(|record| !gone(record)).cloned().collect()
    }

    /// The stored form of an entity.
    pub fn entity(&self, ty: &str, id: &str) -> Option<&Json> {
        self.entities.iter().find(|e| e.get("uid").and_then(reference) == Some((ty, id)))
    }
}

/// The clinical bundle of the repository.
pub(super) fn clinical() -> Rules {
    const POLICIES: [&str; 10] = [
        include_str!("../../../policies/clinical/administration.cedar"),
        include_str!("../../../policies/clinical/care-team.cedar"),
        include_str!("../../../policies/clinical/department-head.cedar"),
        include_str!("../../../policies/clinical/feeds.cedar"),
        include_str!("../../../policies/clinical/part2.cedar"),
        include_str!("../../../policies/clinical/privacy-officer.cedar"),
        include_str!("../../../policies/clinical/psychotherapy.cedar"),
        include_str!("../../../policies/clinical/researcher.cedar"),
        include_str!("../../../policies/clinical/search.cedar"),
        include_str!("../../../policies/clinical/vip.cedar"),
    ];
    Rules {
        schema: include_str!("../../../policies/clinical/wardkeep.cedarschema").to_owned(),
        policies: POLICIES.join("\n"),
        links: json!([]),
    }
}
