//! A collection: what all its records share.

use serde::{Deserialize, Serialize};

use super::{CollectionName, Metric};

/// Whether a search may depend on records that the caller may not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Answer and work are a function of the permitted records alone.
    #[default]
    Strict,
    /// A graph over all records may be walked, where vectors are held in memory; what it gives away is measured and published.
    Fast,
}

/// Settings of a collection; fixed when it is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// Its name.
    pub name: CollectionName,
    /// Components of every vector.
    pub dimension: usize,
    /// How nearness is measured.
    pub metric: Metric,
    /// The attribute that names a record's patient.
    pub subject_attribute: String,
    /// Whether the graph may be used.
    pub isolation: Isolation,
    /// What made the vectors, if told; a search that names another is refused.
    pub embedding_model: Option<String>,
}
