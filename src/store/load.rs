//! Reading: every value is authenticated before it is decoded, and a failure names the object, never its content.

use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::{
    Kind, Store, StoreError, StoredBundle, StoredRecord, codec,
    keychain::Keychain,
    names::{self},
};
use crate::{
    crypto::{self, KeyRing, Stamp},
    model::{ApiKey, Collection, CollectionName, Embedding, Entity, Hold, RecordId},
};

#[cfg(test)]
thread_local! {
    /// How many single records this thread has asked for: tells a test what was not even looked at.
    pub(crate) static RECORDS_ASKED_FOR: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

impl Store {
    /// All collections.
    pub fn collections(&self) -> Result<Vec<Collection>, StoreError> {
        self.all(Kind::Collection)
    }

    /// All entities.
    pub fn entities(&self) -> Result<Vec<Entity>, StoreError> {
        self.all(Kind::Entity)
    }

    /// All API keys.
    pub fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.all(Kind::ApiKey)
    }

    /// All legal holds.
    pub fn holds(&self) -> Result<Vec<Hold>, StoreError> {
        self.all(Kind::Hold)
    }

    /// The active bundle: the one of the highest version.
    pub fn bundle(&self) -> Result<Option<(u64, StoredBundle)>, StoreError> {
        match self.bundle_versions()?.last() {
            Some(version) => Ok(self.bundle_of(*version)?.map(|bundle| (*version, bundle))),
            None => Ok(None),
        }
    }

    /// The versions that are kept, oldest first.
    pub fn bundle_versions(&self) -> Result<Vec<u64>, StoreError> {
        let mut versions = Vec::new();
        self.engine.scan(&Kind::Bundle.prefix(), &mut |key, _| {
            let damaged = || StoreError::Damaged { kind: Kind::Bundle, name: names::shown(key) };
            let version = key.get(1..).and_then(|n| <[u8; 8]>::try_from(n).ok()).ok_or_else(damaged)?;
            versions.push(u64::from_be_bytes(version));
            Ok(())
        })?;
        Ok(versions)
    }

    /// One version of the bundle.
    pub fn bundle_of(&self, version: u64) -> Result<Option<StoredBundle>, StoreError> {
        let key = names::bundle(version);
        match self.engine.get(&key)? {
            Some(value) => {
                let plain = open_row(&self.keychain, self.ring(), Kind::Bundle, &key, &value)?;
                codec::decode_bundle(&plain).map(Some).ok_or_else(|| damaged(Kind::Bundle, &key))
            }
            None => Ok(None),
        }
    }

    /// Hands every record of a collection to `each`, in an order that says nothing.
    pub fn records(
        &self,
        collection: &CollectionName,
        each: &mut dyn FnMut(StoredRecord) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.engine.scan(&self.names.records(collection), &mut |key, value| {
            self.current_record(key, value.to_vec())?.map_or(Ok(()), &mut *each)
        })
    }

    /// One record.
    pub fn record(&self, collection: &CollectionName, id: &RecordId) -> Result<Option<StoredRecord>, StoreError> {
        #[cfg(test)]
        RECORDS_ASKED_FOR.set(RECORDS_ASKED_FOR.get() + 1);
        let key = self.names.record(collection, id);
        match self.engine.get(&key)? {
            Some(value) => self.current_record(&key, value),
            None => Ok(None),
        }
    }

    /// The vector of a record.
    pub fn vector(&self, collection: &CollectionName, id: &RecordId) -> Result<Option<Embedding>, StoreError> {
        // most often the row is the one that was read; where its key went meanwhile, the longer way tells
        let key = self.names.record(collection, id);
        let Some(value) = self.engine.get(&key)? else { return Ok(None) };
        match SealedRecord::new(&key, &value, &self.keychain, self.ring()).vector() {
            Ok(vector) => Ok(Some(vector)),
            Err(_) => Ok(self.current_record(&key, value)?.map(|stored| stored.record.embedding)),
        }
    }

    /// What a collection is called on disk.
    pub fn name_of(&self, collection: &CollectionName) -> StoredName {
        self.names.of_collection(collection)
    }

    /// What a record is called on disk.
    pub fn name_of_record(&self, collection: &CollectionName, id: &RecordId) -> StoredName {
        self.names.of_record(collection, id)
    }

    /// The audit frames that wait for the log, by their sequence numbers.
    pub fn outbox(&self) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let mut frames = Vec::new();
        self.engine.scan(&Kind::Outbox.prefix(), &mut |key, value| {
            let damaged = || StoreError::Damaged { kind: Kind::Outbox, name: names::shown(key) };
            let number = key.get(1..).and_then(|n| <[u8; 8]>::try_from(n).ok()).ok_or_else(damaged)?;
            frames.push((u64::from_be_bytes(number), value.to_vec()));
            Ok(())
        })?;
        Ok(frames)
    }

    fn all<T: DeserializeOwned>(&self, kind: Kind) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        self.engine.scan(&kind.prefix(), &mut |key, value| {
            found.push(self.decoded(kind, key, value)?);
            Ok(())
        })?;
        Ok(found)
    }

    fn decoded<T: DeserializeOwned>(&self, kind: Kind, key: &[u8], value: &[u8]) -> Result<T, StoreError> {
        let plain = open_row(&self.keychain, self.ring(), kind, key, value)?;
        codec::decode(&plain).ok_or_else(|| damaged(kind, key))
    }

    /// Opens a record that was just read. A commit may destroy its key between reading and opening: then the row is another
    /// by now, or gone, and only what is there now counts.
    fn current_record(&self, key: &[u8], mut value: Vec<u8>) -> Result<Option<StoredRecord>, StoreError> {
        loop {
            let opened = self.opened_record(key, &value);
            if opened.is_ok() {
                return opened.map(Some);
            }
            match self.engine.get(key)? {
                None => return Ok(None),
                Some(now) if now == value => return opened.map(Some),
                Some(now) => value = now,
            }
        }
    }

    fn opened_record(&self, key: &[u8], value: &[u8]) -> Result<StoredRecord, StoreError> {
        let plain = open_row(&self.keychain, self.ring(), Kind::Record, key, value)?;
        codec::decode_record(&plain).ok_or_else(|| damaged(Kind::Record, key))
    }
}

/// What takes the records in while a store is being opened: on several threads, and before the store is known to be whole.
pub trait Intake: Sync {
    /// What one thread hands records on with.
    fn hand(&self) -> Box<dyn Hand + '_>;
}

/// One thread's part of an intake: it may keep what it was given for a while.
pub trait Hand: Send {
    /// Takes a record in.
    fn take(&mut self, record: &SealedRecord<'_>) -> Result<(), StoreError>;
    /// Hands on what it kept.
    fn finish(self: Box<Self>);
}

/// A record as it lies in the engine.
pub struct SealedRecord<'a> {
    key: &'a [u8],
    value: &'a [u8],
    keychain: &'a Keychain,
    ring: &'a KeyRing,
}

/// What a collection or a record is called on disk: 16 bytes that say nothing.
pub type StoredName = [u8; 16];

impl<'a> SealedRecord<'a> {
    pub(super) fn new(key: &'a [u8], value: &'a [u8], keychain: &'a Keychain, ring: &'a KeyRing) -> Self {
        Self { key, value, keychain, ring }
    }

    /// What its collection and itself are called.
    pub fn names(&self) -> Result<(StoredName, StoredName), StoreError> {
        names::of_record(self.key).ok_or_else(|| damaged(Kind::Record, self.key))
    }

    /// What tells this writing of it from every other.
    pub fn stamp(&self) -> Result<Stamp, StoreError> {
        crypto::stamp_of(self.value).ok_or_else(|| damaged(Kind::Record, self.key))
    }

    /// All of it.
    pub fn open(&self) -> Result<StoredRecord, StoreError> {
        codec::decode_record(&self.plain()?).ok_or_else(|| damaged(Kind::Record, self.key))
    }

    /// Its vector alone, which costs less.
    pub fn vector(&self) -> Result<Embedding, StoreError> {
        codec::decode_vector(&self.plain()?).ok_or_else(|| self.damaged())
    }

    /// The same put behind `vectors`, by way of memory that serves for one record after the other. Refused if it is not of `dimension`.
    pub fn append_vector(
        &self,
        dimension: usize,
        plain: &mut Zeroizing<Vec<u8>>,
        vectors: &mut Vec<f32>,
    ) -> Result<(), StoreError> {
        let Self { key, value, keychain, ring } = self;
        let data_key = crypto::key_of(value).and_then(|id| keychain.opening(id)).ok_or_else(|| self.damaged())?;
        data_key.open_into(&place(&ring.store_id(), Kind::Record, key), value, plain).map_err(|_| self.damaged())?;
        codec::append_vector(plain, dimension, vectors).ok_or_else(|| self.damaged())
    }

    fn damaged(&self) -> StoreError {
        damaged(Kind::Record, self.key)
    }

    fn plain(&self) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        open_row(self.keychain, self.ring, Kind::Record, self.key, self.value)
    }
}

/// Opens a sealed row under the data key that it names.
pub(super) fn open_row(
    keychain: &Keychain,
    ring: &KeyRing,
    kind: Kind,
    key: &[u8],
    value: &[u8],
) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let data_key = crypto::key_of(value).and_then(|id| keychain.opening(id)).ok_or_else(|| damaged(kind, key))?;
    data_key.open(&place(&ring.store_id(), kind, key), value).map_err(|_| damaged(kind, key))
}

/// What a row's seal is bound to: store, kind and keyed name, which holds collection and id.
pub(super) fn place<'a>(store_id: &'a [u8; 16], kind: Kind, key: &'a [u8]) -> [&'a [u8]; 4] {
    [b"row", store_id, kind.label().as_bytes(), key]
}

fn damaged(kind: Kind, key: &[u8]) -> StoreError {
    StoreError::Damaged { kind, name: names::shown(key) }
}
