//! A record: one embedded chunk of a document, with what the policies look at.

use std::collections::BTreeSet;

use super::{CollectionName, DocumentId, Embedding, Entity, EntityUid, Phi, RecordId, Value, entity::Attributes};

/// One row of a collection, valid against the schema in force when it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its id in the collection.
    pub id: RecordId,
    /// The document it was cut from.
    pub document: DocumentId,
    /// Its vector, normalised where the metric wants it.
    pub embedding: Embedding,
    /// What it says.
    pub text: Phi<String>,
    /// What policies decide on, reserved attributes included.
    pub attrs: Attributes,
    /// Tags.
    pub tags: Attributes,
    /// Direct parents, those that the server adds included.
    pub parents: BTreeSet<EntityUid>,
}

impl Record {
    /// The record as Cedar sees it.
    pub fn entity(&self, collection: &CollectionName) -> Entity {
        Entity {
            uid: EntityUid::record(collection, &self.id),
            attrs: self.attrs.clone(),
            tags: self.tags.clone(),
            parents: self.parents.clone(),
        }
    }

    /// Whose record it is: the entity that the attribute `subject` names.
    pub fn patient(&self, subject: &str) -> Option<&EntityUid> {
        match self.attrs.get(subject) {
            Some(Value::Entity(uid)) => Some(uid),
            Some(_) | None => None,
        }
    }
}
