//! Sealing: values become a [`Change`], on any thread, before the commit. Nothing is written here.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use zeroize::Zeroizing;

use super::{
    Change, Kind, Moved, Row, RowKey, Store, StoreError, StoredBundle, StoredRecord, Wraps, codec,
    keychain::Sealing,
    load,
    names::{self, Owner},
};
use crate::{
    clock::Instant,
    crypto::{self, KeyTag},
    model::{ApiKey, Collection, CollectionName, DocumentId, Entity, EntityUid, Hold, KeyId, RecordId, limits},
};

/// A value to be sealed: to whom its key belongs, its row's name, its bytes.
type Plain = ([u8; 16], Vec<u8>, Zeroizing<Vec<u8>>);
type Keys = Vec<(KeyTag, Vec<u8>)>;

/// To whom the key of a record belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// Its patient.
    Patient(EntityUid),
    /// Its document, where it has no patient.
    Document(DocumentId),
}

/// Rows sealed anew, as far as one commit may go.
pub struct Resealed {
    /// What to commit; `None` where all of them lie under their owners' present keys.
    pub change: Option<Change>,
    /// How many of the rows asked for were looked at.
    pub taken: usize,
    /// How many of those cannot be read, and stay as they are.
    pub unread: usize,
}

impl Store {
    /// Creates a collection or writes its settings again.
    pub fn put_collection(&self, collection: &Collection, at: Instant) -> Result<Change, StoreError> {
        let key = self.names.collection(&collection.name);
        let (keys, row) = self.seal_one(Kind::Collection, key, codec::encode(collection, 256)?)?;
        Ok(Change::PutCollection { at, keys, row })
    }

    /// Drops a collection with all its records.
    pub fn drop_collection(&self, name: &CollectionName, at: Instant) -> Change {
        Change::DropCollection { at, row: self.names.collection(name), records: self.names.records(name) }
    }

    /// Writes records, each whole, under the keys of their patients or documents.
    pub fn put_records(
        &self,
        collection: &Collection,
        records: &[StoredRecord],
        at: Instant,
    ) -> Result<Change, StoreError> {
        let name = &collection.name;
        let plain = |stored: &StoredRecord| {
            let owner = match stored.record.patient(&collection.subject_attribute) {
                Some(patient) => Owner::Patient(name, patient),
                None => Owner::Document(name, &stored.record.document),
            };
            let key = self.names.record(name, &stored.record.id);
            Ok((self.names.scope(&owner), key, codec::encode_record(stored)?))
        };
        let (keys, rows) = self.seal(Kind::Record, records.len(), records.iter().map(plain))?;
        Ok(Change::PutRecords { at, keys, rows })
    }

    /// Erases records; ids that are not there do no harm. With its last record a patient's or document's data key goes.
    pub fn erase_records(&self, collection: &CollectionName, ids: &[RecordId], at: Instant) -> Change {
        Change::EraseRecords { at, rows: ids.iter().map(|id| self.names.record(collection, id)).collect() }
    }

    /// Destroys the keys of those of whose records none is left; `None` where they have none. Their last record takes its key with it anyway;
    /// but one that is damaged need not say truly which that is.
    pub fn destroy_keys(&self, collection: &CollectionName, of: &BTreeSet<Whose>, at: Instant) -> Option<Change> {
        let owner = |whose: &Whose| match whose {
            Whose::Patient(patient) => self.names.scope(&Owner::Patient(collection, patient)),
            Whose::Document(document) => self.names.scope(&Owner::Document(collection, document)),
        };
        let owners: HashSet<_> = of.iter().map(owner).collect();
        let keys = self.keychain.of_owners(&owners);
        (!keys.is_empty()).then_some(Change::DestroyKeys { at, keys })
    }

    /// Whatever is sealed from here on for the owners of these records goes under fresh keys.
    pub fn roll_keys(&self, collection: &CollectionName, ids: &[RecordId]) -> Result<(), StoreError> {
        let mut owners = BTreeMap::new();
        for id in ids {
            let value = self.engine.get(&self.names.record(collection, id))?;
            if let Some(key) = value.as_deref().and_then(crypto::key_of) {
                owners.insert(self.keychain.owner(key).ok_or(StoreError::Stale)?, key);
            }
        }
        owners.into_values().try_for_each(|key| self.keychain.roll(key))
    }

    /// Seals records anew that do not lie under the present keys of their owners: the first of `ids`, as many as fit one commit.
    pub fn reseal_records(
        &self,
        collection: &CollectionName,
        ids: &[RecordId],
        at: Instant,
    ) -> Result<Resealed, StoreError> {
        self.reseal(ids.iter().map(|id| self.names.record(collection, id)), Wraps::Now, limits::COMMIT_LINES, at)
    }

    /// Seals rows anew, as many as fit one commit. Those that went, or lie under the right key, are passed over; and so are those that
    /// cannot be read, where their key is not about to go.
    pub(super) fn reseal(
        &self,
        rows: impl Iterator<Item = RowKey>,
        wraps: Wraps,
        most: usize,
        at: Instant,
    ) -> Result<Resealed, StoreError> {
        let (mut keys, mut moved, mut taken, mut unread, mut bytes) = (BTreeMap::new(), Vec::new(), 0, 0, 0);
        for name in rows {
            taken += 1;
            let Some(value) = self.engine.get(&name)? else { continue };
            match (self.resealed(name, &value), wraps) {
                (Ok(Some((sealing, row))), _) => {
                    bytes += value.len();
                    keys.extend(sealing.pending.map(|carried| (sealing.key.id(), carried)));
                    moved.push(row);
                }
                (Ok(None), _) => {}
                (Err(StoreError::Damaged { .. }), Wraps::Later) => unread += 1,
                (Err(error), Wraps::Now | Wraps::Later) => return Err(error),
            }
            if moved.len() >= most || bytes >= limits::COMMIT_BYTES {
                break;
            }
        }
        let keys = keys.into_iter().collect();
        let change = (!moved.is_empty()).then_some(Change::Reseal { at, wraps, keys, rows: moved });
        Ok(Resealed { change, taken, unread })
    }

    fn resealed(&self, name: RowKey, value: &[u8]) -> Result<Option<(Sealing, Moved)>, StoreError> {
        let kind = Kind::of(&name).ok_or(StoreError::DamagedPart("the name of a row"))?;
        let damaged = || StoreError::Damaged { kind, name: names::shown(&name) };
        let (under, was) = crypto::key_of(value).zip(crypto::head_of(value)).ok_or_else(damaged)?;
        let sealing = self.keychain.sealing(self.keychain.owner(under).ok_or_else(damaged)?)?;
        if sealing.key.id() == under {
            return Ok(None);
        }
        let plain = load::open_row(&self.keychain, self.ring(), kind, &name, value)?;
        let mut nonce = [0; 24];
        self.entropy.fill(&mut nonce)?;
        let sealed = sealing.key.seal(&nonce, &load::place(&self.ring().store_id(), kind, &name), &plain)?;
        Ok(Some((sealing, Moved::new(was, Row::new(name, sealed)))))
    }

    /// Writes entities, each whole, each under a key of its own.
    pub fn put_entities(&self, entities: &[Entity], at: Instant) -> Result<Change, StoreError> {
        let plain = |entity: &Entity| {
            let owner = self.names.scope(&Owner::Entity(&entity.uid));
            Ok((owner, self.names.entity(&entity.uid), codec::encode(entity, 512)?))
        };
        let (keys, rows) = self.seal(Kind::Entity, entities.len(), entities.iter().map(plain))?;
        Ok(Change::PutEntities { at, keys, rows })
    }

    /// Removes entities and their keys.
    pub fn remove_entities(&self, uids: &[EntityUid], at: Instant) -> Change {
        Change::RemoveEntities { at, rows: uids.iter().map(|uid| self.names.entity(uid)).collect() }
    }

    /// Keeps a bundle as `version`; the highest version is the active one.
    pub fn put_bundle(&self, version: u64, bundle: &StoredBundle, at: Instant) -> Result<Change, StoreError> {
        let size = bundle.source.schema.len() + bundle.source.policies.len() + bundle.source.templates.len() + 1_024;
        let plain = codec::encode(bundle, size)?;
        let (keys, row) = self.seal_one(Kind::Bundle, names::bundle(version), plain)?;
        Ok(Change::PutBundle { at, keys, row })
    }

    /// Keeps an API key's verifier.
    pub fn put_api_key(&self, api_key: &ApiKey, at: Instant) -> Result<Change, StoreError> {
        let name = self.names.api_key(&api_key.key_id);
        let (keys, row) = self.seal_one(Kind::ApiKey, name, codec::encode(api_key, 256)?)?;
        Ok(Change::PutApiKey { at, keys, row })
    }

    /// Keeps a legal hold, under a key of its own.
    pub fn put_hold(&self, hold: &Hold, at: Instant) -> Result<Change, StoreError> {
        let (owner, name) = (Owner::Hold(&hold.patient), self.names.hold(&hold.patient));
        let (keys, row) = self.seal_for(&owner, Kind::Hold, name, codec::encode(hold, 256)?)?;
        Ok(Change::PutHold { at, keys, row })
    }

    /// Lifts a legal hold, and destroys its key.
    pub fn remove_hold(&self, patient: &EntityUid, at: Instant) -> Change {
        Change::RemoveHold { at, row: self.names.hold(patient) }
    }

    /// Forgets an API key.
    pub fn remove_api_key(&self, key_id: &KeyId, at: Instant) -> Change {
        Change::RemoveApiKey { at, row: self.names.api_key(key_id) }
    }

    fn seal_one(&self, kind: Kind, key: Vec<u8>, plain: Zeroizing<Vec<u8>>) -> Result<(Keys, Row), StoreError> {
        self.seal_for(&Owner::Class(kind), kind, key, plain)
    }

    fn seal_for(
        &self,
        owner: &Owner<'_>,
        kind: Kind,
        key: Vec<u8>,
        plain: Zeroizing<Vec<u8>>,
    ) -> Result<(Keys, Row), StoreError> {
        let owner = self.names.scope(owner);
        let (keys, rows) = self.seal(kind, 1, std::iter::once(Ok((owner, key, plain))))?;
        Ok((keys, rows.into_iter().next().ok_or(StoreError::Seal)?))
    }

    /// Seals `count` values with nonces drawn at once; gives the rows and the data keys that may not be stored yet.
    fn seal(
        &self,
        kind: Kind,
        count: usize,
        values: impl Iterator<Item = Result<Plain, StoreError>>,
    ) -> Result<(Keys, Vec<Row>), StoreError> {
        let mut nonces = vec![[0_u8; 24]; count];
        self.entropy.fill(nonces.as_flattened_mut())?;
        let store_id = self.ring().store_id();
        let (mut keys, mut rows) = (BTreeMap::new(), Vec::with_capacity(count));
        for (nonce, value) in nonces.iter().zip(values) {
            let (owner, name, plain) = value?;
            let sealing = self.keychain.sealing(owner)?;
            let sealed = sealing.key.seal(nonce, &load::place(&store_id, kind, &name), &plain)?;
            if let Some(wrapped) = sealing.pending {
                keys.insert(sealing.key.id(), wrapped);
            }
            rows.push(Row::new(name, sealed));
        }
        Ok((keys.into_iter().collect(), rows))
    }
}
