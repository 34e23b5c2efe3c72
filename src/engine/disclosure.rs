//! What may leave: a release with the receipt of its audit entry. The only type of an answer with content that can be written as JSON.

use serde::{Serialize, ser::SerializeMap as _};
use serde_json::{Map, Value as Json, json};

use super::{
    gate::{Release, Released},
    journal::Receipt,
    world::Holding,
};
use crate::model::{CollectionName, RetrievalId, entity};

/// What to show of each record besides its ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Include {
    /// What it says.
    pub text: bool,
    /// What policies decide on.
    pub attributes: bool,
    /// Its vector, where `ReadVector` permits too.
    pub vector: bool,
    /// Who wrote it, when, and what made its vector.
    pub provenance: bool,
}

impl Default for Include {
    fn default() -> Self {
        Self { text: true, attributes: true, vector: false, provenance: false }
    }
}

/// What an answer says besides its records.
pub(super) struct Frame {
    policy_version: u64,
    collection: CollectionName,
    embedding_model: Option<String>,
    include: Include,
    pub(super) count: Option<u64>,
}

impl Frame {
    pub(super) fn new(policy_version: u64, holding: &Holding, include: Include, count: Option<u64>) -> Self {
        Self {
            policy_version,
            collection: holding.spec.name.clone(),
            embedding_model: holding.spec.embedding_model.clone(),
            include,
            count,
        }
    }
}

/// An answer that is in the audit log already.
pub struct Disclosure {
    retrieval: RetrievalId,
    release: Release,
    frame: Frame,
    receipt: Receipt,
}

impl Disclosure {
    pub(super) fn new(receipt: Receipt, retrieval: RetrievalId, release: Release, frame: Frame) -> Self {
        Self { retrieval, release, frame, receipt }
    }

    /// Number of the entry that tells of this answer.
    pub fn audit_sequence(&self) -> u64 {
        self.receipt.sequence()
    }

    /// The answer of a read: the one record.
    pub fn one(&self) -> Json {
        let mut record = self.release.records.first().map(|r| self.show(r)).unwrap_or_default();
        record.insert("retrieval_id".into(), self.retrieval.to_string().into());
        record.insert("policy_version".into(), self.frame.policy_version.into());
        Json::Object(record)
    }

    fn show(&self, released: &Released) -> Map<String, Json> {
        let record = &released.record;
        let mut shown = Map::new();
        shown.insert("id".into(), record.id.as_str().into());
        shown.insert("document".into(), record.document.as_str().into());
        if let Some(score) = released.score {
            shown.insert("score".into(), f64::from(score).into());
        }
        if self.frame.include.text {
            shown.insert("text".into(), record.text.reveal().as_str().into());
        }
        if self.frame.include.attributes {
            shown.insert("attributes".into(), entity::to_json(&record.attrs));
            if !record.tags.is_empty() {
                shown.insert("tags".into(), entity::to_json(&record.tags));
            }
        }
        if self.frame.include.vector && released.vector {
            shown.insert("vector".into(), json!(record.embedding.components()));
        }
        if self.frame.include.provenance {
            shown.insert(
                "provenance".into(),
                json!({
                    "collection": self.frame.collection,
                    "embedding_model": self.frame.embedding_model,
                    "ingested_by": record.attrs.get("ingested_by").map(crate::model::Value::to_json),
                    "ingested_at": record.attrs.get("ingested_at").map(crate::model::Value::to_json),
                }),
            );
        }
        shown.insert("permitted_by".into(), json!(released.permits));
        shown
    }
}

impl Serialize for Disclosure {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let release = &self.release;
        let bound = &release.bound;
        let records: Vec<Map<String, Json>> = release.records.iter().map(|r| self.show(r)).collect();
        let mut answer = serializer.serialize_map(None)?;
        answer.serialize_entry("retrieval_id", &self.retrieval.to_string())?;
        answer.serialize_entry("policy_version", &self.frame.policy_version)?;
        match self.frame.count {
            None => answer.serialize_entry("results", &records)?,
            Some(count) => {
                answer.serialize_entry("records", &records)?;
                answer.serialize_entry("next", &release.records.last().map(|r| r.record.id.as_str()))?;
                answer.serialize_entry("count", &count)?;
            }
        }
        let limit = json!({"requested": bound.requested, "applied": bound.applied, "bound_by": bound.bound_by});
        answer.serialize_entry("limit", &limit)?;
        answer.end()
    }
}
