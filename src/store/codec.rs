//! How values become bytes: a version, then bincode 2.0.1. It is unmaintained (RUSTSEC-2025-0141), so it lives here alone,
//! reads only bytes whose seal opened, and has a limit.

use std::{collections::BTreeSet, fmt};

use bincode::config;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, IntoDeserializer, Visitor, value},
};
use zeroize::Zeroizing;

use super::StoreError;
use crate::{
    clock::Instant,
    model::{BundleSource, DocumentId, Embedding, EntityUid, Phi, Record, RecordId, entity::Attributes},
};

const VERSION: u8 = 1;
/// Bytes of one encoded value, most: a record's line of JSON is at most 4 MiB, a bundle 2 MiB a part.
pub(super) const VALUE_BYTES: usize = 64 << 20;

/// A record and which writing of it this is.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRecord {
    /// The record.
    pub record: Record,
    /// Counts its writings, by whatever rule the writer keeps.
    pub version: u64,
}

/// A bundle as it was activated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBundle {
    /// Its texts.
    pub source: BundleSource,
    /// Who sent it.
    pub author: EntityUid,
    /// When.
    pub at: Instant,
    /// The version whose texts these are again, if it was a rollback.
    pub restores: Option<u64>,
}

/// The same from before there were rollbacks.
#[derive(Serialize, Deserialize)]
struct PlainBundle {
    source: BundleSource,
    author: EntityUid,
    at: Instant,
}

/// Decodes a bundle in either form: the older one ends where the newer says what it restores.
pub(super) fn decode_bundle(bytes: &[u8]) -> Option<StoredBundle> {
    decode(bytes).or_else(|| {
        let PlainBundle { source, author, at } = decode(bytes)?;
        Some(StoredBundle { source, author, at, restores: None })
    })
}

/// Encodes; the buffer is wiped when dropped and made large enough at first where `size` is a good guess.
pub(super) fn encode<T: Serialize>(value: &T, size: usize) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let mut out = Zeroizing::new(Vec::with_capacity(size));
    out.push(VERSION);
    bincode::serde::encode_into_std_write(value, &mut *out, config::standard()).map_err(|_| StoreError::TooLarge)?;
    if out.len() <= VALUE_BYTES { Ok(out) } else { Err(StoreError::TooLarge) }
}

/// Decodes all of `bytes`; `None` if they are not of this version and form.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (version, body) = bytes.split_first()?;
    if *version != VERSION || body.len() > VALUE_BYTES {
        return None;
    }
    let bounded = config::standard().with_limit::<VALUE_BYTES>();
    let (value, used) = bincode::serde::decode_from_slice(body, bounded).ok()?;
    (used == body.len()).then_some(value)
}

/// Encodes a record; what it costs most, its vector and text, is copied whole.
pub(super) fn encode_record(stored: &StoredRecord) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let StoredRecord { record, version } = stored;
    let mut vector = Zeroizing::new(Vec::with_capacity(record.embedding.components().len() * 4));
    record.embedding.components().iter().for_each(|x| vector.extend_from_slice(&x.to_le_bytes()));
    let row = RecordRow {
        version: *version,
        id: record.id.as_str(),
        document: record.document.as_str(),
        vector: BytesRef(&vector),
        text: record.text.reveal(),
        attrs: &record.attrs,
        tags: &record.tags,
        parents: &record.parents,
    };
    encode(&row, vector.len() + record.text.reveal().len() + 1_024)
}

/// Decodes a record.
pub(super) fn decode_record(bytes: &[u8]) -> Option<StoredRecord> {
    let row: OwnedRecordRow = decode(bytes)?;
    let record = Record {
        id: row.id,
        document: row.document,
        embedding: embedding(&row.vector.0)?,
        text: row.text,
        attrs: row.attrs,
        tags: row.tags,
        parents: row.parents,
    };
    Some(StoredRecord { record, version: row.version })
}

/// The vector of a record alone: it lies before all that is long or of many parts.
pub(super) fn decode_vector(bytes: &[u8]) -> Option<Embedding> {
    embedding(vector_bytes(bytes)?)
}

/// The same put behind others, if it is of this dimension.
pub(super) fn append_vector(bytes: &[u8], dimension: usize, vectors: &mut Vec<f32>) -> Option<()> {
    let (components, rest) = vector_bytes(bytes)?.as_chunks::<4>();
    let fits = components.len() == dimension && rest.is_empty();
    fits.then(|| vectors.extend(components.iter().map(|four| f32::from_le_bytes(*four))))
}

fn vector_bytes(bytes: &[u8]) -> Option<&[u8]> {
    let (version, body) = bytes.split_first()?;
    if *version != VERSION || body.len() > VALUE_BYTES {
        return None;
    }
    let (head, _): (RecordHead<'_>, _) = bincode::serde::borrow_decode_from_slice(body, config::standard()).ok()?;
    Some(head.vector)
}

/// The vector as it was stored, bit for bit: it was checked and normalised when it was written.
fn embedding(bytes: &[u8]) -> Option<Embedding> {
    let (components, rest) = bytes.as_chunks::<4>();
    let components = components.iter().map(|four| f32::from_le_bytes(*four));
    let sequence = value::SeqDeserializer::<_, value::Error>::new(components);
    rest.is_empty().then(|| Embedding::deserialize(sequence.into_deserializer()).ok())?
}

#[derive(Serialize)]
struct RecordRow<'a> {
    version: u64,
    id: &'a str,
    document: &'a str,
    vector: BytesRef<'a>,
    text: &'a str,
    attrs: &'a Attributes,
    tags: &'a Attributes,
    parents: &'a BTreeSet<EntityUid>,
}

/// How a record's row begins.
#[derive(Deserialize)]
#[expect(dead_code, reason = "what lies before the vector must be read to reach it")]
struct RecordHead<'a> {
    version: u64,
    id: &'a str,
    document: &'a str,
    vector: &'a [u8],
}

#[derive(Deserialize)]
struct OwnedRecordRow {
    version: u64,
    id: RecordId,
    document: DocumentId,
    vector: Bytes,
    #[serde(deserialize_with = "content")]
    text: Phi<String>,
    attrs: Attributes,
    tags: Attributes,
    parents: BTreeSet<EntityUid>,
}

/// Wrapped as soon as it is read: what is decoded and then thrown away is wiped too.
fn content<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Phi<String>, D::Error> {
    String::deserialize(deserializer).map(Phi::new)
}

struct BytesRef<'a>(&'a [u8]);

impl Serialize for BytesRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Bytes that serde copies whole instead of one by one; wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Zeroizing<Vec<u8>>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;
        impl Visitor<'_> for Whole {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(Zeroizing::new(bytes.to_vec())))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(Zeroizing::new(bytes)))
            }
        }
        deserializer.deserialize_byte_buf(Whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Metric, Value};

    #[test]
    fn a_record_survives_its_storage_form_bit_for_bit() {
        let stored = StoredRecord {
            record: Record {
                id: "r1".parse().unwrap(),
                document: "d1".parse().unwrap(),
                embedding: Embedding::new(vec![0.1, -0.7, 1e-20], 3, Metric::Cosine).unwrap(),
                text: Phi::new("words".into()),
                attrs: [("n".into(), Value::Set([Value::Long(-3), Value::Bool(true)].into()))].into(),
                tags: [("t".into(), Value::Extension { function: "ip".into(), arguments: vec![Value::text("::1")] })]
                    .into(),
                parents: [EntityUid::new("Collection", "c")].into(),
            },
            version: 7,
        };
        let bytes = encode_record(&stored).unwrap();
        assert_eq!(decode_record(&bytes).unwrap(), stored);
        assert_eq!(decode_vector(&bytes).unwrap(), stored.record.embedding);
        assert!((0..bytes.len()).all(|cut| decode_record(&bytes[..cut]).is_none()));
        assert!(decode_record(&[&bytes[..], b"x"].concat()).is_none());
        assert!(decode_record(&[&[2], &bytes[1..]].concat()).is_none());
    }

    #[test]
    fn a_bundle_from_before_there_were_rollbacks_is_read_and_neither_form_is_taken_for_the_other() {
        let source =
            BundleSource { policies: "permit(principal, action, resource);".into(), ..BundleSource::default() };
        let (author, at) = (EntityUid::new("Administrator", "root"), Instant::from_millis(5));
        let plain = PlainBundle { source: source.clone(), author: author.clone(), at };
        let mut stored = StoredBundle { source, author, at, restores: None };
        assert_eq!(decode_bundle(&encode(&plain, 0).unwrap()).unwrap(), stored);
        for restores in [None, Some(0), Some(1), Some(250), Some(u64::MAX)] {
            stored.restores = restores;
            let bytes = encode(&stored, 0).unwrap();
            assert_eq!(decode_bundle(&bytes).unwrap(), stored);
            assert!(decode::<PlainBundle>(&bytes).is_none());
            assert!(
                (0..bytes.len()).all(|cut| decode_bundle(&bytes[..cut]).is_none_or(|read| read.restores.is_none()))
            );
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_memory_is_taken() {
        let claim = [&[VERSION, 253][..], &u64::MAX.to_le_bytes()].concat();
        assert!(decode::<Bytes>(&claim).is_none());
        assert!(decode::<Vec<u64>>(&claim).is_none());
    }
}
