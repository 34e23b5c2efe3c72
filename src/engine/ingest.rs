//! Records in: checked against schema, collection and what is there, sealed, made durable, then searchable. A batch is whole or absent.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use serde_json::{Value as Json, json};

use super::{
    Fault, Refusal, Wardkeep,
    erase::Holds,
    grant::{Detail, Grant, Ingest},
    holds::LEGAL_HOLD,
    journal::Intent,
    world::{Arrival, Holding, World},
};
use crate::{
    audit::{Outcome, What},
    clock::Instant,
    crypto::Stamp,
    index::{Encoded, Encoder},
    model::{Collection, CollectionName, DocumentId, Embedding, Entity, EntityUid, Phi, Record, RecordId, limits},
    policy::{AttributeType, Bundle},
    store::StoredRecord,
};

/// Attempts to build a batch beside other writers before it is built under their lock.
const ATTEMPTS_APART: u32 = 2;

/// A record as a client sends it: parsed, not yet believed.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Its id.
    pub id: String,
    /// The document it was cut from.
    pub document: String,
    /// Components as sent.
    pub vector: Vec<f32>,
    /// What it says.
    pub text: Phi<String>,
    /// Attributes in Cedar's JSON form.
    pub attributes: Json,
    /// Tags in Cedar's JSON form.
    pub tags: Json,
    /// Direct parents.
    pub parents: Vec<EntityUid>,
}

/// A draft, or why its line could not be read, and where it stood.
pub struct Line {
    /// Position in the body, from 1.
    pub number: usize,
    /// What stood there.
    pub draft: Result<Draft, Fault>,
}

/// What a request does with ids that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Replaces them whole.
    Upsert,
    /// Refuses them.
    Create,
}

/// What came of a batch.
#[derive(Debug, Clone, Default)]
pub struct Ingested {
    /// Records that are durable and searchable.
    pub accepted: usize,
    /// What was not taken, and why; of a long stream the first ones.
    pub rejected: Vec<Fault>,
    /// How many were not taken.
    pub rejected_count: usize,
}

/// A record that fits schema and collection.
struct Built {
    number: usize,
    record: Record,
    patient: Option<EntityUid>,
    row: Encoded,
}

/// The moment and the rules that a batch was checked under.
struct Rules {
    bundle: Arc<Bundle>,
    version: u64,
    spec: Collection,
    encoder: Encoder,
    now: Instant,
}

impl Wardkeep {
    /// All of `lines`, or none: one fault refuses the batch.
    pub fn ingest_whole(&self, grant: &Grant<Ingest>, lines: &[Line], mode: Mode) -> Result<Ingested, Refusal> {
        self.ingest(grant, lines, mode, true)
    }

    /// Those of `lines` that fit, in one commit; the others are named.
    pub fn ingest_lines(&self, grant: &Grant<Ingest>, lines: &[Line], mode: Mode) -> Result<Ingested, Refusal> {
        self.ingest(grant, lines, mode, false)
    }

    /// Whether a long stream may go on: asked where no commit was due for a while.
    pub fn may_go_on(&self, grant: &Grant<Ingest>) -> Result<(), Refusal> {
        self.renew(grant, std::iter::empty())
    }

    fn ingest(&self, grant: &Grant<Ingest>, lines: &[Line], mode: Mode, whole: bool) -> Result<Ingested, Refusal> {
        let taken = self.take_in(grant, lines, mode, whole);
        self.told(grant.trail(self, What::Ingest).asked(lines.len()), taken)
    }

    fn take_in(&self, grant: &Grant<Ingest>, lines: &[Line], mode: Mode, whole: bool) -> Result<Ingested, Refusal> {
        for attempt in 0.. {
            // Where bundles change faster than a batch is built, it is built while nothing else may change.
            let early = (attempt >= ATTEMPTS_APART).then(|| self.writing.lock());
            let Some(rules) = self.rules(grant)? else {
                // Asked like one that is there, so that whoever may not write to it learns nothing.
                self.renew(grant, as_sent(grant.collection()?, lines).into_iter())?;
                return Err(Refusal::Absent);
            };
            let (built, mut rejected) = build_all(&rules, grant, lines);
            let writing = early.unwrap_or_else(|| self.writing.lock());
            // Built without the lock: another bundle or collection meanwhile means to build again.
            if !self.still_holds(&rules) {
                continue;
            }
            // Asked before anything is said about what is there.
            self.renew(grant, self.details(&rules, &built).into_iter())?;
            if whole && !rejected.is_empty() {
                // Faults of form alone: together with them, what is there could be asked after without writing anything.
                return Err(Refusal::Invalid(rejected));
            }
            let (fitting, misplaced) = self.place_all(grant, &rules, built, mode)?;
            rejected.extend(misplaced);
            rejected.sort_by_key(|fault| fault.line);
            if whole && !rejected.is_empty() {
                return Err(Refusal::Invalid(rejected));
            }
            let accepted = self.write(grant, &rules, fitting, &rejected)?;
            drop(writing);
            return Ok(Ingested { accepted, rejected_count: rejected.len(), rejected });
        }
        Ok(Ingested::default())
    }

    /// `None` where the collection is not there.
    fn rules(&self, grant: &Grant<Ingest>) -> Result<Option<Rules>, Refusal> {
        let world = self.world.read();
        Ok(world.holding(grant.collection()?).map(|holding| Rules {
            bundle: Arc::clone(&world.policy.bundle),
            version: world.policy.version,
            spec: holding.spec.clone(),
            encoder: holding.index.encoder(),
            now: self.clock.now(),
        }))
    }

    fn still_holds(&self, rules: &Rules) -> bool {
        let world = self.world.read();
        let spec = world.holding(&rules.spec.name).map(|holding| &holding.spec);
        world.policy.version == rules.version && spec.is_none_or(|spec| *spec == rules.spec)
    }

    /// What Cedar is asked of each record. Where none could be read, of a nameless new one: an empty batch is refused like a full one.
    fn details(&self, rules: &Rules, built: &[Built]) -> Vec<Detail> {
        let world = self.world.read();
        let name = &rules.spec.name;
        let there = |id: &RecordId| world.holding(name).is_some_and(|h| h.find(id).is_some());
        if built.is_empty() {
            return vec![detail(name, "", false)];
        }
        // Chunks of one document are asked about once.
        let distinct: BTreeSet<_> = built.iter().map(|b| (b.record.document.as_str(), there(&b.record.id))).collect();
        distinct.into_iter().map(|(document, replaces)| detail(name, document, replaces)).collect()
    }

    fn place_all(
        &self,
        grant: &Grant<Ingest>,
        rules: &Rules,
        built: Vec<Built>,
        mode: Mode,
    ) -> Result<(Vec<Built>, Vec<Fault>), Refusal> {
        let world = self.world.read();
        let holds = if self.hears_of_holds(&world, grant) { Holds::Told } else { Holds::NotTold };
        let holding = world.holding(&rules.spec.name).ok_or(Refusal::Absent)?;
        let (mut fitting, mut faults) = (Vec::with_capacity(built.len()), Vec::new());
        for one in built {
            match place(&world, holding, &one.record, one.patient.as_ref(), mode, holds) {
                Ok(()) => fitting.push(one),
                Err(fault) => faults.push(fault.at(one.number, Some(one.record.id.as_str()))),
            }
        }
        Ok((fitting, faults))
    }

    fn write(
        &self,
        grant: &Grant<Ingest>,
        rules: &Rules,
        fitting: Vec<Built>,
        rejected: &[Fault],
    ) -> Result<usize, Refusal> {
        let accepted = fitting.len();
        let trail = grant.trail(self, What::Ingest).asked(accepted + rejected.len()).done(accepted);
        if let (0, Some(first)) = (accepted, rejected.first()) {
            // What was refused line by line may have told that an id is taken.
            self.journal.note(trail.outcome(Outcome::Invalid).detail(first.code))?;
            return Ok(0);
        }
        if accepted == 0 {
            return Ok(0);
        }
        let trail = trail
            .records(fitting.iter().map(|c| &c.record.id))
            .patients(fitting.iter().filter_map(|c| c.patient.as_ref()));
        let name = rules.spec.name.clone();
        let (mut arrivals, records): (Vec<Arrival>, Vec<StoredRecord>) =
            fitting.into_iter().map(|checked| checked.arrive(rules)).unzip();
        let change = self.store.put_records(&rules.spec, &records, rules.now)?;
        arrivals.iter_mut().zip(change.stamps()).for_each(|(arrival, stamp)| arrival.stamp = stamp);
        let effect = Box::new(move |world: &mut World| world.arrive(&name, arrivals));
        self.journal.change(Intent { changes: vec![change], effect }, trail)?;
        self.graphs.tend();
        Ok(accepted)
    }
}

fn detail(name: &CollectionName, document: &str, replaces: bool) -> Detail {
    let uid = EntityUid::new("Document", format!("{}/{document}", name.as_str()));
    Detail::Record { document: uid, document_id: document.to_owned(), replaces }
}

/// What Cedar is asked about lines that nothing can be compared with.
fn as_sent(name: &CollectionName, lines: &[Line]) -> Vec<Detail> {
    let drafts = lines.iter().filter_map(|line| line.draft.as_ref().ok());
    let details: Vec<_> = drafts.map(|draft| detail(name, &draft.document, false)).collect();
    if details.is_empty() { vec![detail(name, "", false)] } else { details }
}

/// Every draft that fits schema and collection; each id once.
fn build_all(rules: &Rules, grant: &Grant<Ingest>, lines: &[Line]) -> (Vec<Built>, Vec<Fault>) {
    let (mut built, mut faults, mut ids) = (Vec::with_capacity(lines.len()), Vec::new(), HashSet::new());
    for line in lines {
        let draft = match &line.draft {
            Ok(draft) => draft,
            Err(fault) => {
                faults.push(fault.clone());
                continue;
            }
        };
        match build(rules, grant, draft) {
            Ok(record) if ids.insert(record.id.clone()) => {
                let patient = record.patient(&rules.spec.subject_attribute).cloned();
                let row = rules.encoder.encode(record.embedding.clone());
                built.push(Built { number: line.number, record, patient, row });
            }
            Ok(_) => {
                let twice = Fault::new("duplicate_id", "the id occurs twice in one batch; send each record once");
                faults.push(twice.at(line.number, Some(&draft.id)));
            }
            Err(fault) => faults.push(fault.at(line.number, Some(&draft.id))),
        }
    }
    (built, faults)
}

impl Built {
    /// What memory takes in, and what the store does.
    fn arrive(self, rules: &Rules) -> (Arrival, StoredRecord) {
        let Self { record, patient, row, .. } = self;
        let arrival = Arrival {
            id: record.id.clone(),
            document: record.document.clone(),
            patient,
            row,
            entity: record.entity(&rules.spec.name),
            // known once it is sealed
            stamp: Stamp::default(),
            valid: true,
        };
        (arrival, StoredRecord { record, version: rules.version })
    }
}

/// A record from a draft: everything that needs neither the world nor the other records.
fn build(rules: &Rules, grant: &Grant<Ingest>, draft: &Draft) -> Result<Record, Fault> {
    let id: RecordId = draft.id.parse().map_err(|e| Fault::new("id", format!("`id` {e}")))?;
    let document: DocumentId = draft.document.parse().map_err(|e| Fault::new("document", format!("`document` {e}")))?;
    if draft.text.reveal().len() > limits::TEXT_BYTES {
        return Err(Fault::new("text", format!("`text` is longer than {} bytes", limits::TEXT_BYTES)));
    }
    let embedding = Embedding::new(draft.vector.clone(), rules.spec.dimension, rules.spec.metric)
        .map_err(|e| Fault::new("vector", e.to_string()))?;
    let uid = EntityUid::record(&rules.spec.name, &id);
    let attributes = with_reserved(rules, grant.caller().uid(), &draft.attributes)?;
    let mut parents = draft.parents.clone();
    if rules.bundle.may_have_parent("Record", "Collection") {
        parents.push(EntityUid::collection(&rules.spec.name));
    }
    if parents.len() > limits::PARENTS {
        return Err(Fault::new("parents", format!("more than {} parents, the collection among them", limits::PARENTS)));
    }
    let entity = rules
        .bundle
        .record(uid, &attributes, &draft.tags, &parents)
        .map_err(|fault| Fault::new(fault.code, fault.message))?;
    let Entity { attrs, tags, parents, .. } = entity;
    Ok(Record { id, document, embedding, text: draft.text.clone(), attrs, tags, parents })
}

/// Attributes with those that only the server sets.
fn with_reserved(rules: &Rules, caller: &EntityUid, attributes: &Json) -> Result<Json, Fault> {
    let mut attributes = match attributes {
        Json::Null => serde_json::Map::new(),
        Json::Object(fields) => fields.clone(),
        _ => return Err(Fault::new("attributes", "`attributes` must be an object")),
    };
    for name in ["ingested_by", "ingested_at"] {
        let Some(declared) = rules.bundle.attribute_type("Record", name) else { continue };
        if attributes.contains_key(name) {
            return Err(Fault::new("reserved_attribute", format!("`{name}` is set by the server; leave it out")));
        }
        let value = match declared {
            AttributeType::Entity(ty) if name == "ingested_by" && ty == caller.ty => json!({"__entity": caller}),
            AttributeType::Datetime if name == "ingested_at" => {
                json!({"__extn": {"fn": "datetime", "arg": rules.now.rfc3339()}})
            }
            _ => continue,
        };
        attributes.insert(name.to_owned(), value);
    }
    Ok(Json::Object(attributes))
}

/// Whether a record fits what is there.
fn place(
    world: &World,
    holding: &Holding,
    record: &Record,
    patient: Option<&EntityUid>,
    mode: Mode,
    holds: Holds,
) -> Result<(), Fault> {
    own_parents(world, holding, record, patient)?;
    let Some((_, there)) = holding.find(&record.id) else { return Ok(()) };
    if mode == Mode::Create {
        return Err(Fault::new("exists", "a record with this id is there; leave out `mode=create` to replace it"));
    }
    if there.document != record.document || there.patient.as_ref() != patient {
        let detail = "`patient` and `document` of a record never change; erase it, or use another id";
        return Err(Fault::new("immutable", detail));
    }
    match (patient.is_some_and(|patient| world.holds.contains_key(patient)), holds) {
        (false, _) => Ok(()),
        (true, Holds::Told) => {
            let detail = "the record's patient is under a legal hold: it stays as it is until that is lifted";
            Err(Fault::new(LEGAL_HOLD, detail))
        }
        (true, Holds::NotTold) => {
            let detail = "this record stays as it is at present; an administrator can say why";
            Err(Fault::new("immutable", detail))
        }
    }
}

/// A record cannot be relabelled by its parents: not into another collection, document or patient, nor below one.
fn own_parents(world: &World, holding: &Holding, record: &Record, patient: Option<&EntityUid>) -> Result<(), Fault> {
    let spec = &holding.spec;
    let subject = match world.policy.bundle.attribute_type("Record", &spec.subject_attribute) {
        Some(AttributeType::Entity(ty)) => Some(ty),
        Some(_) | None => None,
    };
    let own_document = EntityUid::document(&spec.name, &record.document);
    let own_collection = EntityUid::collection(&spec.name);
    let own = |uid: &EntityUid| match uid.ty.as_ref() {
        "Record" => false,
        "Document" => *uid == own_document,
        "Collection" => *uid == own_collection,
        ty if Some(ty) == subject.as_deref() => Some(uid) == patient,
        _ => true,
    };
    let above = |uid: &EntityUid| match world.directory.get(uid) {
        Some(entity) => world.directory.ancestors(entity).0.iter().all(own),
        None => true,
    };
    if record.parents.iter().all(|uid| own(uid) && above(uid)) {
        Ok(())
    } else {
        let detail =
            "a parent is, or lies below, another patient, document, collection or record than the record's own";
        Err(Fault::new("parent", detail))
    }
}
