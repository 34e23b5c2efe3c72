//! An entity as it is stored: attributes, tags and parents, already validated against a schema by `policy`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::{EntityUid, Value};

/// Attributes or tags by name.
pub type Attributes = BTreeMap<Arc<str>, Value>;

/// One entity in Cedar's sense. `parents` are direct ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    /// Who it is.
    pub uid: EntityUid,
    /// Its attributes.
    pub attrs: Attributes,
    /// Its tags.
    pub tags: Attributes,
    /// Its direct parents.
    pub parents: BTreeSet<EntityUid>,
}

impl Entity {
    /// An entity that has nothing but its name.
    pub fn bare(uid: EntityUid) -> Self {
        Self { uid, attrs: Attributes::new(), tags: Attributes::new(), parents: BTreeSet::new() }
    }

    /// What is stored in place of an entity that was deleted and must not come back by itself: its own parent, which no hierarchy
    /// that clients may write ever holds.
    pub fn withdrawn(uid: EntityUid) -> Self {
        Self { parents: BTreeSet::from([uid.clone()]), ..Self::bare(uid) }
    }

    /// Whether it stands for an entity that was deleted.
    pub fn is_withdrawn(&self) -> bool {
        self.parents.contains(&self.uid)
    }

    /// Cedar's JSON form of an entity.
    pub fn to_json(&self) -> Json {
        let mut json = json!({
            "uid": self.uid,
            "attrs": to_json(&self.attrs),
            "parents": self.parents,
        });
        if let (Some(fields), false) = (json.as_object_mut(), self.tags.is_empty()) {
            fields.insert("tags".into(), to_json(&self.tags));
        }
        json
    }

    /// Every entity that this one refers to by attribute, tag or parent.
    pub fn references(&self) -> Vec<&EntityUid> {
        let mut found: Vec<&EntityUid> = self.parents.iter().collect();
        self.attrs.values().chain(self.tags.values()).for_each(|v| v.entities(&mut found));
        found
    }
}

/// Attributes in Cedar's explicit JSON form.
pub fn to_json(attributes: &Attributes) -> Json {
    Json::Object(attributes.iter().map(|(k, v)| (k.as_ref().to_owned(), v.to_json())).collect::<Map<_, _>>())
}
