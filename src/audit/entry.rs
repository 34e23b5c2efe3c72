//! What one entry of the log says. Ids are in it, content of records is not; all of it is sealed before it reaches a disk.

use std::{fmt, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    clock::Instant,
    model::{Action, CollectionName, EntityUid, KeyId, RecordId, RetrievalId},
};

/// One thing that was done, or refused. Fields that do not apply stay empty: `Entry { purpose, ..Entry::new(at, what) }`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// What was asked for.
    pub what: What,
    /// How it ended.
    pub outcome: Outcome,
    /// The stable code of a refusal or failure, as the client saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Who asked, if that was established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<EntityUid>,
    /// The service that acted for the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<EntityUid>,
    /// How the caller was established.
    pub authentication: Authentication,
    /// The network address that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The action that was authorised, or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// The purpose of use that was stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// The patient that the request was narrowed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<EntityUid>,
    /// The collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<CollectionName>,
    /// The entity, key or document that was acted on, where it is none of the above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<EntityUid>,
    /// Keyed hash of the question, so that equal questions can be seen to be equal.
    #[serde(default, with = "in_hex::optional", skip_serializing_if = "Option::is_none")]
    pub question: Option<[u8; 16]>,
    /// Keyed hash of the question's filter: it may hold what nobody should read here.
    #[serde(default, with = "in_hex::optional", skip_serializing_if = "Option::is_none")]
    pub filter: Option<[u8; 16]>,
    /// The bundle that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BundleRef>,
    /// The policies that decided, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Arc<str>>,
    /// How many.
    #[serde(default, skip_serializing_if = "Counts::is_empty")]
    pub counts: Counts,
    /// The records that left, came in, or were erased.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<RecordId>,
    /// The patients whose records those are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patients: Vec<EntityUid>,
    /// The cap that was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<u64>,
    /// What bound the cap, in the words of the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bound_by: Vec<Arc<str>>,
    /// What the caps of permits withheld of what was permitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<Withheld>,
    /// The embedding or language model, if the client told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The retrieval's id.
    #[serde(default, with = "in_hex::optional_retrieval", skip_serializing_if = "Option::is_none")]
    pub retrieval: Option<RetrievalId>,
    /// The id under which the client traces the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The store's sequence number after the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<u64>,
}

impl Entry {
    /// An entry that says what was done and when: allowed, by nobody in particular.
    pub fn new(at: Instant, what: What) -> Self {
        Self {
            at,
            what,
            outcome: Outcome::Allowed,
            detail: None,
            caller: None,
            actor: None,
            authentication: Authentication::None,
            source: None,
            action: None,
            purpose: None,
            patient: None,
            collection: None,
            target: None,
            question: None,
            filter: None,
            bundle: None,
            policies: Vec::new(),
            counts: Counts::default(),
            records: Vec::new(),
            patients: Vec::new(),
            cap: None,
            bound_by: Vec::new(),
            withheld: None,
            model: None,
            retrieval: None,
            trace: None,
            change: None,
        }
    }
}

/// Redacted but for the kind: an entry says who looked at whom.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({:?}, {:?}, …)", self.what, self.outcome)
    }
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A search.
    Search,
    /// One or several records by id.
    Read,
    /// A list of records.
    List,
    /// Records written.
    Ingest,
    /// Records erased.
    Erase,
    /// Records or other objects sealed anew under other keys, or the keys' own wraps renewed; `detail` says why.
    RenewKeys,
    /// Entities written.
    PutEntities,
    /// An entity deleted.
    RemoveEntity,
    /// Entities read.
    ReadEntities,
    /// A bundle activated.
    PutPolicies,
    /// A bundle read, or tried without activating it.
    ReadPolicies,
    /// A decision explained: `target` is whose, `records` on what, `detail` the action and the verdict.
    Explain,
    /// Two bundles compared on what is stored, and perhaps on what this log says of the past.
    Diff,
    /// A collection made or changed.
    PutCollection,
    /// A collection and all in it dropped.
    DropCollection,
    /// Collections read.
    ReadCollections,
    /// An API key made.
    MakeKey,
    /// An API key revoked.
    RevokeKey,
    /// API keys listed.
    ReadKeys,
    /// Records that have outlived their time erased; `detail` says after how many days.
    Expire,
    /// A legal hold put on a patient, who is `target`.
    PutHold,
    /// A legal hold lifted.
    LiftHold,
    /// Legal holds listed.
    ReadHolds,
    /// How the keys that seal what is stored are.
    KeyStatus,
    /// A rotation of those keys begun.
    RotateKeys,
    /// The key file put under another passphrase or provider, which `detail` names.
    ChangeProvider,
    /// This log, its checkpoint or the metrics read.
    ReadAudit,
    /// Failed sign-ins of one source, summed up.
    SignInFailures {
        /// How many.
        count: u64,
        /// Since when.
        since: Instant,
    },
    /// The store was opened.
    Start,
    /// The store was closed.
    Stop,
    /// The store or the log was verified.
    Verify,
    /// A backup made; `detail` is its file's number.
    Backup,
    /// The keys put in escrow: whoever holds it and the key provider opens what was stored then.
    Escrow,
    /// This store was made anew from a backup; `detail` says of when.
    Restore,
    /// A request that was refused before it was known what it would do.
    Refused,
    /// The rows are about to be carried into a new storage engine; `detail` says from which to which.
    Rebuild,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was permitted and done.
    Allowed,
    /// It was not permitted.
    Denied,
    /// The request was at fault.
    Invalid,
    /// It was permitted, and went wrong.
    Failed,
}

/// How a caller was established.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authentication {
    /// Not at all.
    None,
    /// By an API key.
    ApiKey(#[serde(with = "in_hex::key")] KeyId),
    /// By a signed token.
    Token,
    /// By whoever holds the passphrase, on the machine itself.
    Offline,
}

/// One version of the policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleRef {
    /// Its number.
    pub version: u64,
    /// Its hash.
    #[serde(with = "in_hex::hash")]
    pub digest: [u8; 32],
}

/// Records that were permitted, reached in the ranking, and had no place within the caps beside those that were released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    /// How many.
    pub records: u64,
    /// Of these, the ones of which it was not found out within the work allowed whether there was a place.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub undecided: u64,
    /// The permits that grant them and whose caps were used up, by name.
    pub by: Vec<Arc<str>>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// How many records; what does not apply stays empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Permitted to the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permitted: Option<u64>,
    /// Asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<u64>,
    /// Returned, written or erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<u64>,
}

impl Counts {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Bytes as hex text.
mod in_hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    fn read<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error> {
        let mut bytes = [0; N];
        hex::decode_to_slice(String::deserialize(deserializer)?, &mut bytes).map_err(D::Error::custom)?;
        Ok(bytes)
    }

    fn read_optional<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<Option<[u8; N]>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let mut bytes = [0; N];
        hex::decode_to_slice(text, &mut bytes).map_err(D::Error::custom)?;
        Ok(Some(bytes))
    }

    fn write_optional<S: Serializer>(bytes: Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => serializer.serialize_some(&hex::encode(bytes)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) mod hash {
        use super::*;

        pub(crate) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(&hex::encode(bytes))
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
            read(deserializer)
        }
    }

    pub(super) mod key {
        use super::*;
        use crate::model::KeyId;

        pub(crate) fn serialize<S: Serializer>(key: &KeyId, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(&hex::encode(key.0))
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KeyId, D::Error> {
            read(deserializer).map(KeyId)
        }
    }

    pub(super) mod optional {
        use super::*;

        pub(crate) fn serialize<S: Serializer>(bytes: &Option<[u8; 16]>, serializer: S) -> Result<S::Ok, S::Error> {
            write_optional(bytes.as_ref().map(<[u8; 16]>::as_slice), serializer)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u8; 16]>, D::Error> {
            read_optional(deserializer)
        }
    }

    pub(super) mod optional_retrieval {
        use super::*;
        use crate::model::RetrievalId;

        pub(crate) fn serialize<S: Serializer>(id: &Option<RetrievalId>, serializer: S) -> Result<S::Ok, S::Error> {
            write_optional(id.as_ref().map(|id| id.0.as_slice()), serializer)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RetrievalId>, D::Error> {
            Ok(read_optional(deserializer)?.map(RetrievalId))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::testing;

    #[test]
    fn an_entry_survives_its_json_form_full_and_empty() {
        let full = testing::full_entry();
        let empty = Entry::new(Instant::from_millis(1), What::Stop);
        for entry in [full, empty] {
            let json = serde_json::to_string(&entry).unwrap();
            assert!(serde_json::from_str::<Entry>(&json).unwrap() == entry);
        }
    }

    #[test]
    fn an_entry_written_before_a_field_was_added_still_reads() {
        let mut json = serde_json::to_value(testing::full_entry()).unwrap();
        json.as_object_mut().unwrap().remove("withheld").unwrap();
        let read: Entry = serde_json::from_value(json).unwrap();
        assert!(read == Entry { withheld: None, ..testing::full_entry() });
    }

    #[test]
    fn an_entry_does_not_show_itself_in_debug_output() {
        let shown = format!("{:?}", testing::full_entry());
        assert_eq!(shown, "Entry(Search, Denied, …)");
    }
}
