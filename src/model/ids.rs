//! Names that cannot be mixed up: each kind of id is a type of its own, checked once where it enters.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::limits;

/// Why a name was refused. Never repeats the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Empty, longer than 256 bytes, or with a control character.
    #[error("must be 1 to 256 bytes of UTF-8 without control characters")]
    Text,
    /// Not of a collection's form.
    #[error("must match [a-z0-9][a-z0-9_-]{{0,63}}")]
    Collection,
}

/// Checks the form that every free id has: 1 to 256 bytes, no control characters.
pub fn check_id(text: &str) -> Result<(), IdError> {
    let fits = !text.is_empty() && text.len() <= limits::ID_BYTES;
    if fits && !text.chars().any(char::is_control) { Ok(()) } else { Err(IdError::Text) }
}

macro_rules! id {
    ($name:ident, $check:expr, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        /// Redacted: ids of patients' records do not belong in logs.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

id!(RecordId, check_id, "A record's id within its collection; compared bytewise.");
id!(DocumentId, check_id, "The id of the document a record was cut from, within its collection.");
id!(CollectionName, check_collection, "A collection's name: `[a-z0-9][a-z0-9_-]{0,63}`.");

fn check_collection(text: &str) -> Result<(), IdError> {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(word);
    if first && text.len() <= 64 && bytes.all(|b| word(b) || b == b'_' || b == b'-') {
        Ok(())
    } else {
        Err(IdError::Collection)
    }
}

/// An entity in Cedar's sense: a type and an id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntityUid {
    /// The type, with its namespace: `Patient`, `Clinic::Staff`.
    #[serde(rename = "type")]
    pub ty: Arc<str>,
    /// The id.
    pub id: Arc<str>,
}

impl EntityUid {
    /// Whether the id has the form that ids have. Records and documents are named behind their collection, which may add 65 bytes.
    pub fn check(&self) -> Result<(), IdError> {
        let within = match (self.ty.as_ref(), self.id.split_once('/')) {
            ("Record" | "Document", Some((collection, id))) if check_collection(collection).is_ok() => id,
            _ => self.id.as_ref(),
        };
        check_id(within)
    }

    /// A uid of any type; whether the type exists is the schema's business.
    pub fn new(ty: impl Into<Arc<str>>, id: impl Into<Arc<str>>) -> Self {
        Self { ty: ty.into(), id: id.into() }
    }

    /// `Record::"{collection}/{id}"`.
    pub fn record(collection: &CollectionName, id: &RecordId) -> Self {
        Self::new("Record", format!("{}/{}", collection.as_str(), id.as_str()))
    }

    /// `Document::"{collection}/{document}"`.
    pub fn document(collection: &CollectionName, id: &DocumentId) -> Self {
        Self::new("Document", format!("{}/{}", collection.as_str(), id.as_str()))
    }

    /// `Collection::"{collection}"`.
    pub fn collection(name: &CollectionName) -> Self {
        Self::new("Collection", name.as_str())
    }

    /// `System::"wardkeep"`, what administration is authorised on.
    pub fn system() -> Self {
        Self::new("System", "wardkeep")
    }
}

/// Redacted but for the type.
impl fmt::Debug for EntityUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::\"…\"", self.ty)
    }
}

/// What is asked of a resource: the actions of the contract, by their names in every schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// A search hit.
    Retrieve,
    /// A record by id.
    Read,
    /// A record's vector.
    ReadVector,
    /// May ask at all.
    Search,
    /// Write records.
    Ingest,
    /// Erase records.
    Erase,
    /// Take records out in bulk.
    Export,
    /// Override in an emergency.
    BreakGlass,
    /// Write bundles.
    ManagePolicies,
    /// Write entities.
    ManageEntities,
    /// Create and drop collections.
    ManageCollections,
    /// Rotate and inspect keys.
    ManageKeys,
    /// Make and revoke API keys.
    ManageCallers,
    /// Read the audit log.
    ReadAudit,
    /// Review emergency overrides.
    ReviewBreakGlass,
    /// Ask why.
    Explain,
}

impl Action {
    /// On a record.
    pub const ON_RECORD: [Self; 3] = [Self::Retrieve, Self::Read, Self::ReadVector];
    /// On a collection.
    pub const ON_COLLECTION: [Self; 5] = [Self::Search, Self::Ingest, Self::Erase, Self::Export, Self::BreakGlass];
    /// On `System::"wardkeep"`.
    pub const ON_SYSTEM: [Self; 8] = [
        Self::ManagePolicies,
        Self::ManageEntities,
        Self::ManageCollections,
        Self::ManageKeys,
        Self::ManageCallers,
        Self::ReadAudit,
        Self::ReviewBreakGlass,
        Self::Explain,
    ];

    /// The name in the schema: `Action::"Retrieve"`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Retrieve => "Retrieve",
            Self::Read => "Read",
            Self::ReadVector => "ReadVector",
            Self::Search => "Search",
            Self::Ingest => "Ingest",
            Self::Erase => "Erase",
            Self::Export => "Export",
            Self::BreakGlass => "BreakGlass",
            Self::ManagePolicies => "ManagePolicies",
            Self::ManageEntities => "ManageEntities",
            Self::ManageCollections => "ManageCollections",
            Self::ManageKeys => "ManageKeys",
            Self::ManageCallers => "ManageCallers",
            Self::ReadAudit => "ReadAudit",
            Self::ReviewBreakGlass => "ReviewBreakGlass",
            Self::Explain => "Explain",
        }
    }

    /// The entity type that the action's resource has.
    pub fn resource_type(self) -> &'static str {
        if Self::ON_RECORD.contains(&self) {
            "Record"
        } else if Self::ON_COLLECTION.contains(&self) {
            "Collection"
        } else {
            "System"
        }
    }

    /// Every action there is.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::ON_RECORD.into_iter().chain(Self::ON_COLLECTION).chain(Self::ON_SYSTEM)
    }
}

/// The public name of an API key: 8 random bytes in hex. Not secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for KeyId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut bytes = [0; 8];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError::Text)?;
        Ok(Self(bytes))
    }
}

/// One search or read: 128 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RetrievalId(pub [u8; 16]);

impl fmt::Display for RetrievalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A row of a collection in memory: stable while its record is there, never told to anyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_hold_1_to_256_bytes_without_control_characters() {
        assert!("x".repeat(256).parse::<RecordId>().is_ok());
        assert!("x".repeat(257).parse::<RecordId>().is_err());
        assert!("".parse::<RecordId>().is_err());
        assert!("a\u{7}b".parse::<DocumentId>().is_err());
        assert!("é".repeat(128).parse::<RecordId>().is_ok());
        assert!("é".repeat(129).parse::<RecordId>().is_err());
    }

    #[test]
    fn records_and_documents_may_have_the_name_of_their_collection_before_a_full_id() {
        let (ward, id) = ("x".repeat(64), "y".repeat(256));
        assert!(EntityUid::new("Record", format!("{ward}/{id}")).check().is_ok());
        assert!(EntityUid::new("Document", format!("{ward}/{id}y")).check().is_err());
        assert!(EntityUid::new("Document", format!("{ward}/")).check().is_err());
        assert!(EntityUid::new("Patient", format!("{ward}/{id}")).check().is_err());
    }

    #[test]
    fn collections_are_short_lower_case_words() {
        for good in ["a", "0", "ward-1_b", &"x".repeat(64)] {
            assert!(good.parse::<CollectionName>().is_ok());
        }
        for bad in ["", "A", "-a", "_a", "a/b", "a.b", &"x".repeat(65)] {
            assert!(bad.parse::<CollectionName>().is_err());
        }
    }

    #[test]
    fn an_id_does_not_show_itself_in_debug_output() {
        let id: RecordId = "patient-jane-doe".parse().unwrap();
        assert!(!format!("{id:?}").contains("jane"));
        assert!(!format!("{:?}", EntityUid::new("Patient", "jane")).contains("jane"));
    }
}
