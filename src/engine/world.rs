//! What is in force, in memory: bundle, entities, keys and the columns of every collection. Changed only after the change is durable.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use parking_lot::RwLock;
use roaring::RoaringBitmap;

use super::{Memory, journal::Effect, policies::Misfits};
use crate::{
    authn::Keys,
    crypto::Stamp,
    index::{Encoded, VectorIndex},
    model::{Collection, CollectionName, DocumentId, Entity, EntityUid, Hold, RecordId, Slot},
    policy::{Bundle, Columns, Directory},
};

/// The bundle in force.
pub(super) struct InForce {
    /// 1 for the first bundle of the store, then one more each.
    pub(super) version: u64,
    pub(super) bundle: Arc<Bundle>,
}

/// Everything a request looks at. Read under one lock, so that a request sees one moment.
pub(super) struct World {
    pub(super) policy: InForce,
    pub(super) directory: Directory,
    pub(super) keys: Arc<RwLock<Keys>>,
    pub(super) collections: BTreeMap<CollectionName, Holding>,
    /// What is held of vectors.
    pub(super) memory: Memory,
    /// Legal holds, by patient.
    pub(super) holds: BTreeMap<EntityUid, Hold>,
    /// How many changes were put in force since the store was opened.
    pub(super) changes: u64,
    /// Number of the last of the store's changes that is in force.
    pub(super) sequence: u64,
    /// How many records came or went since the store was opened.
    pub(super) turnover: u64,
    /// How many records refer to an entity: what must not be deleted without force.
    pub(super) referred: HashMap<EntityUid, u64>,
    /// Entities that do not fit the schema in force (`allow_invalid`), until one comes that they fit: stored, and seen by those who manage
    /// entities, but by no policy.
    set_aside: Directory,
    /// Entities that nobody wrote: stored because records are.
    implied: HashSet<EntityUid>,
    /// Documents and collections that were deleted while they had records: not stored until somebody writes them again.
    withdrawn: HashSet<EntityUid>,
}

/// One collection in memory: no text, and of attributes only the columns.
pub(super) struct Holding {
    pub(super) spec: Collection,
    pub(super) index: VectorIndex,
    pub(super) columns: Columns,
    /// Records that do not fit the schema in force (`allow_invalid`): denied, not served.
    pub(super) invalid: RoaringBitmap,
    slots: HashMap<RecordId, Slot>,
    rows: Vec<Option<Row>>,
    by_patient: HashMap<EntityUid, RoaringBitmap>,
    of_nobody: RoaringBitmap,
    by_document: HashMap<DocumentId, RoaringBitmap>,
}

/// What memory keeps of a record beside its columns.
pub(super) struct Row {
    pub(super) id: RecordId,
    pub(super) document: DocumentId,
    pub(super) patient: Option<EntityUid>,
    /// Which writing of it this is.
    pub(super) stamp: Stamp,
}

/// A record on its way into memory.
pub(super) struct Arrival {
    pub(super) id: RecordId,
    pub(super) document: DocumentId,
    pub(super) patient: Option<EntityUid>,
    /// Its vector, coded before the world's lock is taken.
    pub(super) row: Encoded,
    pub(super) entity: Entity,
    pub(super) stamp: Stamp,
    pub(super) valid: bool,
}

impl World {
    pub(super) fn new(policy: InForce, directory: Directory, keys: Keys, memory: Memory) -> Self {
        let mut world = Self {
            policy,
            directory,
            keys: Arc::new(RwLock::new(keys)),
            collections: BTreeMap::new(),
            memory,
            holds: BTreeMap::new(),
            changes: 0,
            sequence: 0,
            turnover: 0,
            referred: HashMap::new(),
            set_aside: Directory::new(),
            implied: HashSet::new(),
            withdrawn: HashSet::new(),
        };
        world.imply_all();
        world
    }

    /// Puts durable changes in force, and with them says so: `sequence` is the number of the last. Both under the lock that whoever holds a
    /// `&mut World` has.
    pub(super) fn put_in_force(&mut self, effects: Vec<Effect>, sequence: u64) {
        self.changes += effects.len() as u64;
        effects.into_iter().for_each(|effect| effect(self));
        self.sequence = sequence;
    }

    /// Documents and collections count as stored from their first record on, and the system always, where the schema asks no
    /// attributes of them. Which do changes with the bundle.
    pub(super) fn imply_all(&mut self) {
        for uid in std::mem::take(&mut self.implied) {
            self.directory.remove(&uid);
        }
        self.imply(EntityUid::system());
        let mut implied = Vec::new();
        for (name, holding) in self.collections.iter().filter(|(_, holding)| !holding.is_empty()) {
            implied.push(EntityUid::collection(name));
            implied.extend(holding.by_document.keys().map(|document| EntityUid::document(name, document)));
        }
        implied.into_iter().for_each(|uid| self.imply(uid));
    }

    /// The entities as they would be under a bundle of another schema: without those that do not fit it, and with those that it lets be
    /// implied. Also how many do not fit.
    pub(super) fn directory_under(&self, bundle: &Bundle) -> (Directory, u64) {
        let mut directory = Directory::new();
        let mut unfit = HashSet::new();
        let written = self.directory.iter().filter(|entity| !self.implied.contains(&entity.uid));
        for entity in written.chain(self.set_aside.iter()).map(AsRef::as_ref) {
            match bundle.check(entity) {
                Ok(()) => drop(directory.upsert(entity.clone())),
                Err(_) => drop(unfit.insert(&entity.uid)),
            }
        }
        let mut implied = vec![EntityUid::system()];
        for (name, holding) in self.collections.iter().filter(|(_, holding)| !holding.is_empty()) {
            implied.push(EntityUid::collection(name));
            implied.extend(holding.by_document.keys().map(|document| EntityUid::document(name, document)));
        }
        for uid in implied {
            let bare = bundle.declares_type(&uid.ty) && !bundle.requires_attributes(&uid.ty);
            if bare && !self.withdrawn.contains(&uid) && !unfit.contains(&uid) {
                directory.imply(uid);
            }
        }
        (directory, unfit.len() as u64)
    }

    fn imply(&mut self, uid: EntityUid) {
        let bare = self.policy.bundle.declares_type(&uid.ty) && !self.policy.bundle.requires_attributes(&uid.ty);
        if bare && !self.directory.contains(&uid) && !self.withdrawn.contains(&uid) {
            self.directory.imply(uid.clone());
            self.implied.insert(uid);
        }
    }

    fn unimply(&mut self, uid: &EntityUid) {
        if self.implied.remove(uid) {
            self.directory.remove(uid);
        }
    }

    /// Writes an entity; what was merely implied is written now.
    pub(super) fn put_entity(&mut self, entity: Entity) {
        self.implied.remove(&entity.uid);
        self.withdrawn.remove(&entity.uid);
        self.set_aside.remove(&entity.uid);
        self.directory.upsert(entity);
    }

    /// Takes in what the store holds under an entity's name.
    pub(super) fn load_entity(&mut self, entity: Entity) {
        if entity.is_withdrawn() {
            self.withdraw_entity(&entity.uid);
        } else {
            self.put_entity(entity);
        }
    }

    /// Puts in force what `allow_invalid` means: records that do not fit are denied, and entities that do not fit count as not stored, so
    /// that whatever looks at them denies.
    pub(super) fn deny(&mut self, misfits: Misfits) {
        for entity in std::mem::take(&mut self.set_aside).iter() {
            self.put_entity(entity.as_ref().clone());
        }
        for uid in misfits.entities {
            if let Some(entity) = self.directory.get(&uid).map(|e| e.as_ref().clone()) {
                self.directory.remove(&uid);
                self.withdrawn.insert(uid);
                self.set_aside.upsert(entity);
            }
        }
        for (name, slots) in misfits.records {
            if let Some(holding) = self.collections.get_mut(&name) {
                holding.invalid = slots;
            }
        }
    }

    /// Deletes a document or collection that has records: it is not stored any more, not even bare.
    pub(super) fn withdraw_entity(&mut self, uid: &EntityUid) {
        self.implied.remove(uid);
        self.directory.remove(uid);
        self.set_aside.remove(uid);
        self.withdrawn.insert(uid.clone());
    }

    pub(super) fn is_withdrawn(&self, uid: &EntityUid) -> bool {
        self.withdrawn.contains(uid)
    }

    /// Whether it is a collection, or the document of a record, that is there.
    pub(super) fn is_in_use(&self, uid: &EntityUid) -> bool {
        let holding = |name: &str| self.holding(&name.parse().ok()?);
        match (uid.ty.as_ref(), uid.id.split_once('/')) {
            // from its making on: a forbid may keep the first record out
            ("Collection", _) => holding(&uid.id).is_some(),
            ("Document", Some((name, id))) => {
                let document = id.parse::<DocumentId>().ok();
                holding(name).zip(document).is_some_and(|(h, document)| h.by_document.contains_key(&document))
            }
            _ => false,
        }
    }

    /// What somebody wrote, not what records merely imply; whether or not it fits the schema in force.
    pub(super) fn written(&self, uid: &EntityUid) -> Option<&Arc<Entity>> {
        let explicit = || self.directory.get(uid).filter(|_| !self.implied.contains(uid));
        self.set_aside.get(uid).or_else(explicit)
    }

    /// Of one type, by id, those after `after` that are `wanted`: at most `limit`.
    pub(super) fn written_of_type(
        &self,
        ty: &str,
        after: Option<&str>,
        limit: usize,
        wanted: impl Fn(&Entity) -> bool,
    ) -> Vec<Entity> {
        let later = |e: &&Arc<Entity>| after.is_none_or(|last| e.uid.id.as_ref() > last) && wanted(e);
        let explicit = self.directory.of_type(ty).filter(|e| !self.implied.contains(&e.uid));
        let mut found: Vec<_> = explicit.filter(later).take(limit).collect();
        found.extend(self.set_aside.of_type(ty).filter(later).take(limit));
        found.sort_by(|a, b| a.uid.id.cmp(&b.uid.id));
        found.into_iter().take(limit).map(|e| e.as_ref().clone()).collect()
    }

    /// An entity that would be its own ancestor if `upserts` were stored. What is set aside may come back under another schema, so it
    /// counts.
    pub(super) fn cycle(&self, upserts: &[Entity]) -> Option<EntityUid> {
        let replaced: HashSet<&EntityUid> = upserts.iter().map(|e| &e.uid).collect();
        let aside = self.set_aside.iter().filter(|e| !replaced.contains(&e.uid)).map(|e| e.as_ref().clone());
        let all: Vec<_> = upserts.iter().cloned().chain(aside).collect();
        self.directory.cycle(&all)
    }

    /// How many stored entities refer to this one.
    pub(super) fn referring_entities(&self, uid: &EntityUid) -> usize {
        self.directory.referrers(uid) + self.set_aside.referrers(uid)
    }

    /// Which do, by name; itself left out.
    pub(super) fn referring(&self, uid: &EntityUid) -> Vec<EntityUid> {
        if self.referring_entities(uid) == 0 {
            return Vec::new();
        }
        let all = self.directory.iter().chain(self.set_aside.iter());
        let referring = all.filter(|entity| entity.uid != *uid && entity.references().contains(&uid));
        let mut names: Vec<_> = referring.map(|entity| entity.uid.clone()).collect();
        names.sort();
        names
    }

    /// Deletes an entity; where records imply it, its bare form stays.
    pub(super) fn remove_entity(&mut self, uid: &EntityUid) {
        self.directory.remove(uid);
        if self.set_aside.remove(uid) {
            self.withdrawn.remove(uid);
        }
        if matches!(uid.ty.as_ref(), "System" | "Collection" | "Document") {
            self.imply_all();
        }
    }

    pub(super) fn holding(&self, name: &CollectionName) -> Option<&Holding> {
        self.collections.get(name)
    }

    /// Puts records into a collection; one with an id already there replaces it.
    pub(super) fn arrive(&mut self, name: &CollectionName, mut arrivals: Vec<Arrival>) {
        let Some(holding) = self.collections.get_mut(name) else { return };
        // What comes together lies together by patient and document, in whatever order it was sent: slots are given in turn, and a scope
        // of whole charts is read in runs. Of one id the last still counts: its patient and document are the same.
        arrivals.sort_by(|a, b| (&a.patient, &a.document).cmp(&(&b.patient, &b.document)));
        let mut implied = HashSet::from([EntityUid::collection(name)]);
        for arrival in arrivals {
            self.turnover += 1;
            if let Some((slot, _)) = holding.find(&arrival.id) {
                release(&mut self.referred, &holding.columns.references(slot));
                holding.forget(&arrival.id);
            }
            implied.insert(EntityUid::document(name, &arrival.document));
            for uid in arrival.entity.references() {
                *self.referred.entry(uid.clone()).or_default() += 1;
            }
            holding.place(arrival);
        }
        if !holding.is_empty() {
            implied.into_iter().for_each(|uid| self.imply(uid));
        }
    }

    /// Takes in a collection that was restored, with what its records refer to.
    pub(super) fn adopt<'s>(&mut self, holding: Holding, references: impl Iterator<Item = (&'s EntityUid, u64)>) {
        for (uid, count) in references {
            *self.referred.entry(uid.clone()).or_default() += count;
        }
        self.collections.insert(holding.spec.name.clone(), holding);
        self.imply_all();
    }

    /// Takes records out. What they implied (their document) goes with the last of them.
    pub(super) fn depart(&mut self, name: &CollectionName, ids: &[RecordId]) {
        let Some(holding) = self.collections.get_mut(name) else { return };
        let mut last = Vec::new();
        for id in ids {
            let Some((slot, _)) = holding.find(id) else { continue };
            release(&mut self.referred, &holding.columns.references(slot));
            let Some(row) = holding.forget(id) else { continue };
            self.turnover += 1;
            if !holding.by_document.contains_key(&row.document) {
                last.push(EntityUid::document(name, &row.document));
            }
        }
        if holding.is_empty() {
            last.push(EntityUid::collection(name));
        }
        last.iter().for_each(|uid| self.unimply(uid));
    }
}

fn release(referred: &mut HashMap<EntityUid, u64>, references: &[EntityUid]) {
    for uid in references {
        if let Some(count) = referred.get_mut(uid) {
            *count -= 1;
            if *count == 0 {
                referred.remove(uid);
            }
        }
    }
}

impl Holding {
    pub(super) fn new(spec: Collection, memory: Memory) -> Self {
        Self {
            index: match memory {
                Memory::Fast => VectorIndex::new(spec.dimension, spec.metric, spec.isolation),
                Memory::Lean => VectorIndex::lean(spec.dimension, spec.metric, spec.isolation),
            },
            columns: Columns::new(),
            invalid: RoaringBitmap::new(),
            slots: HashMap::new(),
            rows: Vec::new(),
            by_patient: HashMap::new(),
            of_nobody: RoaringBitmap::new(),
            by_document: HashMap::new(),
            spec,
        }
    }

    /// Makes room for so many rows at once: what grows by doubling is moved again and again, and has too much in the end.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.slots.reserve(rows);
        self.rows.reserve_exact(rows);
        self.columns.reserve(rows);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn find(&self, id: &RecordId) -> Option<(Slot, &Row)> {
        let slot = *self.slots.get(id)?;
        Some((slot, self.row(slot)?))
    }

    pub(super) fn row(&self, slot: Slot) -> Option<&Row> {
        self.rows.get(slot.0 as usize)?.as_ref()
    }

    pub(super) fn of_patient(&self, patient: &EntityUid) -> RoaringBitmap {
        self.by_patient.get(patient).cloned().unwrap_or_default()
    }

    /// The patients whose records are there.
    pub(super) fn patients(&self) -> impl Iterator<Item = &EntityUid> {
        self.by_patient.keys()
    }

    /// Records without a patient.
    pub(super) fn of_nobody(&self) -> &RoaringBitmap {
        &self.of_nobody
    }

    pub(super) fn of_document(&self, document: &DocumentId) -> RoaringBitmap {
        self.by_document.get(document).cloned().unwrap_or_default()
    }

    pub(super) fn ids(&self, slots: &RoaringBitmap) -> Vec<RecordId> {
        slots.iter().filter_map(|s| self.row(Slot(s))).map(|row| row.id.clone()).collect()
    }

    /// Order among equal scores: by record id.
    pub(super) fn by_id(&self, a: Slot, b: Slot) -> std::cmp::Ordering {
        let id = |slot| self.row(slot).map(|row| row.id.as_str());
        id(a).cmp(&id(b))
    }

    fn place(&mut self, arrival: Arrival) {
        let slot = self.index.push(&arrival.row);
        self.columns.insert(slot, &arrival.entity);
        if !arrival.valid {
            self.invalid.insert(slot.0);
        }
        let Arrival { id, document, patient, stamp, .. } = arrival;
        self.seat(slot, Row { id, document, patient, stamp });
    }

    /// Takes in a row whose codes and columns are restored apart from it.
    pub(super) fn restore(&mut self, slot: Slot, row: Row) {
        self.columns.restore(slot, &EntityUid::record(&self.spec.name, &row.id));
        self.seat(slot, row);
    }

    fn seat(&mut self, slot: Slot, row: Row) {
        match &row.patient {
            Some(patient) => self.by_patient.entry(patient.clone()).or_default().insert(slot.0),
            None => self.of_nobody.insert(slot.0),
        };
        self.by_document.entry(row.document.clone()).or_default().insert(slot.0);
        self.slots.insert(row.id.clone(), slot);
        let at = slot.0 as usize;
        if self.rows.len() <= at {
            self.rows.resize_with(at + 1, || None);
        }
        if let Some(place) = self.rows.get_mut(at) {
            *place = Some(row);
        }
    }

    fn forget(&mut self, id: &RecordId) -> Option<Row> {
        let slot = self.slots.remove(id)?;
        self.index.remove(slot);
        self.columns.remove(slot);
        self.invalid.remove(slot.0);
        let row = self.rows.get_mut(slot.0 as usize)?.take()?;
        match &row.patient {
            Some(patient) => drop_from(&mut self.by_patient, patient, slot),
            None => {
                self.of_nobody.remove(slot.0);
            }
        }
        drop_from(&mut self.by_document, &row.document, slot);
        Some(row)
    }
}

fn drop_from<K: std::hash::Hash + Eq>(sets: &mut HashMap<K, RoaringBitmap>, key: &K, slot: Slot) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(slot.0);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}
