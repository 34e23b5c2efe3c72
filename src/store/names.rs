//! What rows are called: a byte for the kind, then keyed hashes. Nothing that names a person or a thing is readable.

use crate::{
    crypto::{KeyRing, KeyTag},
    model::{CollectionName, DocumentId, EntityUid, KeyId, RecordId},
};

/// The kinds of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A wrapped data key.
    DataKey,
    /// A collection's settings.
    Collection,
    /// A record.
    Record,
    /// An entity.
    Entity,
    /// A version of the bundle.
    Bundle,
    /// An API key's verifier.
    ApiKey,
    /// An audit frame that waits for the log.
    Outbox,
    /// The wrapped key of a bucket, which wraps data keys.
    KeyBucket,
    /// A legal hold on a patient.
    Hold,
}

/// The engine's account of itself; the one row that no kind counts.
pub(super) const META: &[u8] = b"M";

impl Kind {
    /// All of them, in the order of the account: a new one goes to the end.
    pub const ALL: [Self; 9] = [
        Self::DataKey,
        Self::Collection,
        Self::Record,
        Self::Entity,
        Self::Bundle,
        Self::ApiKey,
        Self::Outbox,
        Self::KeyBucket,
        Self::Hold,
    ];

    /// What a person calls it.
    pub fn label(self) -> &'static str {
        match self {
            Self::DataKey => "data key",
            Self::Collection => "collection",
            Self::Record => "record",
            Self::Entity => "entity",
            Self::Bundle => "policy bundle",
            Self::ApiKey => "API key",
            Self::Outbox => "audit frame",
            Self::KeyBucket => "bucket key",
            Self::Hold => "legal hold",
        }
    }

    pub(super) fn byte(self) -> u8 {
        match self {
            Self::DataKey => b'K',
            Self::Collection => b'C',
            Self::Record => b'R',
            Self::Entity => b'E',
            Self::Bundle => b'B',
            Self::ApiKey => b'P',
            Self::Outbox => b'O',
            Self::KeyBucket => b'W',
            Self::Hold => b'H',
        }
    }

    pub(super) fn prefix(self) -> [u8; 1] {
        [self.byte()]
    }

    /// The kind that a row's key says.
    pub(super) fn of(key: &[u8]) -> Option<Self> {
        let byte = key.first()?;
        Self::ALL.into_iter().find(|kind| kind.byte() == *byte)
    }

    fn key(self, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = vec![self.byte()];
        parts.iter().for_each(|part| key.extend_from_slice(part));
        key
    }
}

/// To whom a data key belongs: destroying it makes what is theirs noise.
pub(super) enum Owner<'a> {
    /// A patient's records in one collection.
    Patient(&'a CollectionName, &'a EntityUid),
    /// A document's records that have no patient.
    Document(&'a CollectionName, &'a DocumentId),
    /// One entity: a patient's own entity can be destroyed like their records.
    Entity(&'a EntityUid),
    /// One legal hold: once it is lifted nothing tells any more that it was.
    Hold(&'a EntityUid),
    /// Everything of one kind.
    Class(Kind),
}

/// Makes the names; only the ring can.
#[derive(Clone)]
pub(super) struct Names(pub(super) KeyRing);

impl Names {
    pub(super) fn scope(&self, owner: &Owner<'_>) -> [u8; 16] {
        let parts: [&[u8]; 4] = match owner {
            Owner::Patient(c, uid) => [b"patient", c.as_str().as_bytes(), uid.ty.as_bytes(), uid.id.as_bytes()],
            Owner::Document(c, document) => [b"document", c.as_str().as_bytes(), document.as_str().as_bytes(), b""],
            Owner::Entity(uid) => [b"entity", uid.ty.as_bytes(), uid.id.as_bytes(), b""],
            Owner::Hold(uid) => [b"hold", uid.ty.as_bytes(), uid.id.as_bytes(), b""],
            Owner::Class(kind) => [b"class", kind.label().as_bytes(), b"", b""],
        };
        self.0.name("owner", &parts)
    }

    pub(super) fn collection(&self, name: &CollectionName) -> Vec<u8> {
        Kind::Collection.key(&[&self.of_collection(name)])
    }

    /// What the keys of a collection's records start with.
    pub(super) fn records(&self, collection: &CollectionName) -> Vec<u8> {
        Kind::Record.key(&[&self.of_collection(collection)])
    }

    pub(super) fn record(&self, collection: &CollectionName, id: &RecordId) -> Vec<u8> {
        Kind::Record.key(&[&self.of_collection(collection), &self.of_record(collection, id)])
    }

    pub(super) fn of_record(&self, collection: &CollectionName, id: &RecordId) -> [u8; 16] {
        self.0.name("record", &[collection.as_str().as_bytes(), id.as_str().as_bytes()])
    }

    pub(super) fn entity(&self, uid: &EntityUid) -> Vec<u8> {
        Kind::Entity.key(&[&self.0.name("entity", &[uid.ty.as_bytes(), uid.id.as_bytes()])])
    }

    pub(super) fn hold(&self, patient: &EntityUid) -> Vec<u8> {
        Kind::Hold.key(&[&self.0.name("hold", &[patient.ty.as_bytes(), patient.id.as_bytes()])])
    }

    pub(super) fn api_key(&self, id: &KeyId) -> Vec<u8> {
        Kind::ApiKey.key(&[&self.0.name("api key", &[&id.0])])
    }

    pub(super) fn of_collection(&self, name: &CollectionName) -> [u8; 16] {
        self.0.name("collection", &[name.as_str().as_bytes()])
    }
}

pub(super) fn bundle(version: u64) -> Vec<u8> {
    Kind::Bundle.key(&[&version.to_be_bytes()])
}

pub(super) fn data_key(id: KeyTag) -> Vec<u8> {
    Kind::DataKey.key(&[&id])
}

pub(super) fn key_bucket(number: u8) -> Vec<u8> {
    Kind::KeyBucket.key(&[&[number]])
}

pub(super) fn outbox(sequence: u64) -> Vec<u8> {
    Kind::Outbox.key(&[&sequence.to_be_bytes()])
}

/// What the keys of the records start with whose collection's row is under `key`.
pub(super) fn records_of(key: &[u8]) -> Vec<u8> {
    Kind::Record.key(&[key.get(1..).unwrap_or_default()])
}

/// What the key of a record's row calls its collection and itself.
pub(super) fn of_record(key: &[u8]) -> Option<([u8; 16], [u8; 16])> {
    let (collection, name) = key.get(1..)?.split_first_chunk()?;
    Some((*collection, name.try_into().ok()?))
}

/// The part of a key that is not the kind, in hex: how damage is named.
pub(super) fn shown(key: &[u8]) -> String {
    hex::encode(key.get(1..).unwrap_or_default())
}
