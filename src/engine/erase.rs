//! Records out, for good: from results, index and columns at once, and their keys with them. Where others lie under the same key, those are
//! sealed anew under a fresh one in the same commit, so that the old key can be destroyed.
//!
//! Erasing is no way of reading. Whoever erases is told how much of what they named is gone; what else there is (holds, other records,
//! entities, policies, keys) only where another right of theirs shows it anyway.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::{
    Refusal, Wardkeep,
    certificate::{Certificate, Statement},
    grant::{Asked, Detail, Erase, Grant, ManageCallers, ManageEntities, ManageKeys, ManagePolicies, Operation},
    holds::LEGAL_HOLD,
    journal::{Intent, Receipt},
    trail::Trail,
    world::{Holding, Row, World},
};
use crate::{
    audit::{Outcome, What},
    model::{CollectionName, DocumentId, EntityUid, RecordId, Slot, limits},
    policy::{self, PolicyName},
    store::{Change, Whose},
};

/// What to erase.
#[derive(Debug, Clone)]
pub enum Erasure {
    /// These records.
    Records(Vec<RecordId>),
    /// Every record of a document.
    Document(DocumentId),
    /// Every record of a patient.
    Patient(String, Own),
}

/// What becomes of a patient's own entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// It stays: policies may still look at it.
    Kept,
    /// It goes in the same commit, with its key.
    Removed,
}

/// What was erased.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Erased {
    /// Records that are gone.
    pub erased: usize,
    /// Ids that were not there; and, where `holds` says so, those that a legal hold keeps.
    pub missing: usize,
    /// Whether holds are told of.
    #[serde(skip_serializing_if = "Holds::are_told")]
    pub holds: Holds,
    /// Records that lay under the same keys and were sealed anew under others; told to those who may manage keys.
    #[serde(skip_serializing_if = "none_or_untold")]
    pub resealed: Option<usize>,
    /// What still speaks of the patient, as far as whoever asks may know of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub still_named: Option<StillNamed>,
    /// The certificate, if it was wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
}

fn none_or_untold(n: &Option<usize>) -> bool {
    n.unwrap_or_default() == 0
}

/// Whether whoever erases is told of legal holds: those are who may list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// A hold refuses the erasure, and says so.
    Told,
    /// What is held looks as if it were not there, and stays.
    NotTold,
}

impl Holds {
    fn are_told(&self) -> bool {
        *self == Self::Told
    }
}

/// What of a store still speaks of a patient whose records are gone: ids alone, each part where the right to see it is there.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StillNamed {
    /// Entities, for those who may manage them.
    #[serde(flatten)]
    pub entities: Option<NamingEntities>,
    /// Policies whose text or link names the patient; for those who may manage policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<PolicyName>>,
    /// The same of versions that were in force before and are kept.
    #[serde(flatten)]
    pub earlier: Option<EarlierPolicies>,
    /// Whether an API key speaks for the patient; for those who may manage callers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_keys: Option<bool>,
    /// How many records of the patient there are in each other collection in which whoever asks may erase.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub elsewhere: BTreeMap<CollectionName, u64>,
}

/// Entities and records that still speak of a patient, of those that whoever asks may look at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamingEntities {
    /// Whether the patient's own entity is stored.
    pub own_entity: bool,
    /// Entities that refer to the patient, the first of them.
    pub entities: Vec<EntityUid>,
    /// How many do.
    pub entities_count: usize,
    /// How many records refer to the patient: their own in other collections, and others'.
    pub records: u64,
}

/// Earlier versions of the policies that name a patient.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EarlierPolicies {
    /// The newest of them.
    pub earlier_policies: Vec<NamingVersion>,
    /// How many do.
    pub earlier_versions: usize,
    /// Versions that could not be read: nobody knows whom they name.
    #[serde(skip_serializing_if = "is_zero")]
    pub unreadable_versions: usize,
}

/// A version of the policies that names a patient.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamingVersion {
    /// Its number.
    pub version: u64,
    /// Its policies and templates that do.
    pub policies: Vec<PolicyName>,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Erasure,
    /// The erasure, and a certificate of it.
    Certificate,
}

/// What an erasure comes to, before anything is done.
pub(super) struct Plan {
    ids: Vec<RecordId>,
    missing: usize,
    patients: Vec<EntityUid>,
    /// Records that were named, and stay because a hold keeps them that is not told of.
    held: usize,
    /// Records that lie under the same keys and stay.
    others: Vec<RecordId>,
    /// Those of whose records in this collection none is left.
    emptied: BTreeSet<Whose>,
    /// The patient that is erased whole.
    whole: Option<EntityUid>,
}

impl Plan {
    /// What the audit log says of it.
    pub(super) fn told_by(&self, trail: Trail) -> Trail {
        let trail = if self.held > 0 { trail.detail(LEGAL_HOLD) } else { trail };
        trail
            .asked(self.ids.len() + self.missing)
            .done(self.ids.len())
            .records(self.ids.iter())
            .patients(self.patients.iter().chain(&self.whole))
    }

    /// One that erases nothing, with others under its keys.
    #[cfg(test)]
    pub(super) fn with_others(others: Vec<RecordId>) -> Self {
        Self {
            ids: Vec::new(),
            missing: 0,
            patients: Vec::new(),
            held: 0,
            others,
            emptied: BTreeSet::new(),
            whole: None,
        }
    }

    /// Refuses where too many others lie under the same keys, and says how many if that may be told.
    pub(super) fn refuse_crowd(&self, told: Option<usize>) -> Result<(), Refusal> {
        if self.others.len() <= limits::RESEALED_RECORDS {
            return Ok(());
        }
        Err(Refusal::Conflict {
            code: "too_many_under_one_key",
            detail: format!(
                "more than {} other records lie under the same key and would have to be sealed anew; erase the whole document or patient",
                limits::RESEALED_RECORDS
            ),
            more: told.map_or(Json::Null, |others| json!({ "others": others })),
        })
    }

    /// How many records go.
    pub(super) fn erased(&self) -> usize {
        self.ids.len()
    }
}

impl Wardkeep {
    /// Erases what `erasure` names of the grant's collection.
    pub fn erase(&self, grant: &Grant<Erase>, erasure: &Erasure) -> Result<Erased, Refusal> {
        self.carried_out(grant, erasure, Wanted::Erasure).map(|(erased, _)| erased)
    }

    /// The same, with a signed certificate of it; where nothing is there to be erased it is refused, for there is nothing to certify.
    pub fn erase_certified(&self, grant: &Grant<Erase>, erasure: &Erasure) -> Result<Erased, Refusal> {
        let (erased, receipt) = self.carried_out(grant, erasure, Wanted::Certificate)?;
        let statement = Statement::of(self, grant.collection()?, erasure, &erased, receipt.sequence());
        Ok(Erased { certificate: Some(self.certify(statement)), ..erased })
    }

    fn carried_out(
        &self,
        grant: &Grant<Erase>,
        erasure: &Erasure,
        wanted: Wanted,
    ) -> Result<(Erased, Receipt), Refusal> {
        let name = grant.collection()?.clone();
        let trail = grant.trail(self, What::Erase);
        let holds = if self.hears::<ManageEntities>(grant) { Holds::Told } else { Holds::NotTold };
        let writing = self.writing.lock();
        let plan = self.told(trail.clone(), self.planned(&name, erasure, holds))?;
        let others = self.hears::<ManageKeys>(grant).then_some(plan.others.len());
        self.told(trail.clone(), plan.refuse_crowd(others))?;
        let removed = self.own_entity(grant, &name, &plan, erasure)?;
        if wanted == Wanted::Certificate && plan.ids.is_empty() && removed.is_none() {
            let detail = "nothing of what is named is there to be erased, so there is nothing to certify";
            let refusal = Refusal::conflict("nothing_to_certify", detail);
            if plan.held > 0 {
                // those who read the log see why
                self.journal.note(plan.told_by(trail).outcome(Outcome::Invalid))?;
                return Err(refusal);
            }
            return self.told(trail, Err(refusal));
        }
        let changes = self.told(trail.clone(), self.sealed_apart(&trail, &name, &plan))?;
        let trail = plan.told_by(trail);
        let receipt = self.carry_out(&name, &plan, changes, removed.as_ref(), trail)?;
        drop(writing);
        let erased = Erased {
            erased: plan.ids.len(),
            missing: plan.missing,
            holds,
            resealed: others,
            still_named: plan.whole.as_ref().and_then(|patient| self.still_named(grant, patient)),
            certificate: None,
        };
        Ok((erased, receipt))
    }

    pub(super) fn planned(&self, name: &CollectionName, erasure: &Erasure, holds: Holds) -> Result<Plan, Refusal> {
        let world = self.world.read();
        let holding = world.holding(name).ok_or(Refusal::Absent)?;
        plan(&world, holding, erasure, holds)
    }

    /// Whether whoever erases may do `A` too, and so be told what that shows.
    fn hears<A: Asked>(&self, grant: &Grant<Erase>) -> bool {
        self.covers_all::<A>(&self.world.read(), &grant.caller, &grant.origin)
    }

    fn still_named(&self, grant: &Grant<Erase>, patient: &EntityUid) -> Option<StillNamed> {
        let (entities, policies, callers) = (
            self.hears::<ManageEntities>(grant),
            self.hears::<ManagePolicies>(grant),
            self.hears::<ManageCallers>(grant),
        );
        let earlier = policies.then(|| self.earlier_policies(patient));
        let world = self.world.read();
        let named = StillNamed {
            entities: entities.then(|| self.naming_entities(grant, &world, patient)),
            policies: policies.then(|| world.policy.bundle.naming(patient)),
            earlier,
            api_keys: callers.then(|| world.keys.read().speak_for(patient)),
            elsewhere: self.elsewhere(grant, &world, patient),
        };
        (named != StillNamed::default()).then_some(named)
    }

    /// From the newest on, each read from the disk: nothing waits for this but the answer.
    fn earlier_policies(&self, patient: &EntityUid) -> EarlierPolicies {
        let (in_force, mut found) = (self.bundle_in_force().version, EarlierPolicies::default());
        for version in (1..in_force).rev() {
            let Ok(stored) = self.version_of(version) else {
                found.unreadable_versions += 1;
                continue;
            };
            let policies = policy::naming(&stored.source, patient);
            if !policies.is_empty() {
                found.earlier_versions += 1;
                found.earlier_policies.push(NamingVersion { version, policies });
                found.earlier_policies.truncate(limits::STILL_NAMED);
            }
        }
        found
    }

    fn elsewhere(&self, grant: &Grant<Erase>, world: &World, patient: &EntityUid) -> BTreeMap<CollectionName, u64> {
        let counts = world.collections.iter().map(|(name, holding)| (name, holding.of_patient(patient).len()));
        let there = counts.filter(|(name, count)| *count > 0 && grant.circumstances.collection.as_ref() != Some(name));
        let seen = |name: &&CollectionName| self.covers_in::<Erase>(world, &grant.caller, &grant.origin, name);
        there.filter(|(name, _)| seen(name)).map(|(name, count)| (name.clone(), count)).collect()
    }

    fn naming_entities(&self, grant: &Grant<Erase>, world: &World, patient: &EntityUid) -> NamingEntities {
        let seen = |uid: &EntityUid| {
            let looked_at = Detail::Entity { uid: uid.clone(), operation: Operation::Read };
            self.covers::<ManageEntities>(world, &grant.caller, &grant.origin, looked_at)
        };
        let mut entities = world.referring(patient);
        entities.retain(seen);
        let entities_count = entities.len();
        entities.truncate(limits::STILL_NAMED);
        NamingEntities {
            own_entity: world.written(patient).is_some() && seen(patient),
            entities,
            entities_count,
            records: world.referred.get(patient).copied().unwrap_or_default(),
        }
    }

    /// The patient's own entity, where it goes too: whoever asks must be allowed to delete it, and nothing may be left elsewhere that
    /// would then refer to nobody.
    fn own_entity(
        &self,
        grant: &Grant<Erase>,
        name: &CollectionName,
        plan: &Plan,
        erasure: &Erasure,
    ) -> Result<Option<EntityUid>, Refusal> {
        let (Erasure::Patient(_, Own::Removed), Some(patient)) = (erasure, &plan.whole) else { return Ok(None) };
        self.authorise_entity(&grant.caller, &grant.origin, patient.clone(), Operation::Delete)?;
        let world = self.world.read();
        let held = world.refuse_held(std::iter::once(patient));
        let elsewhere: u64 = world
            .collections
            .iter()
            .filter(|(other, _)| *other != name)
            .map(|(_, holding)| holding.of_patient(patient).len())
            .sum();
        let there = world.written(patient).is_some();
        drop(world);
        self.told(grant.trail(self, What::Erase).target(patient), held)?;
        if elsewhere > 0 {
            let refusal = Refusal::conflict(
                "referred_to",
                "records in other collections refer to the patient's entity; erase the patient there first",
            );
            return self.told(grant.trail(self, What::Erase).target(patient), Err(refusal));
        }
        Ok(there.then(|| patient.clone()))
    }

    /// Seals what stays under fresh keys. What does not fit one commit goes before in commits of its own, which change nothing that can
    /// be seen; the last part is handed back, for the commit that erases.
    pub(super) fn sealed_apart(
        &self,
        trail: &Trail,
        name: &CollectionName,
        plan: &Plan,
    ) -> Result<Vec<Change>, Refusal> {
        let mut rest = plan.others.as_slice();
        if rest.is_empty() {
            return Ok(Vec::new());
        }
        self.store.roll_keys(name, &plan.ids)?;
        loop {
            let resealed = self.store.reseal_records(name, rest, self.clock.now())?;
            rest = rest.get(resealed.taken..).unwrap_or_default();
            match (resealed.change, rest.is_empty()) {
                (last, true) => return Ok(last.into_iter().collect()),
                (Some(change), false) => {
                    let trail = trail.clone().what(What::RenewKeys).done(resealed.taken).detail("erasure");
                    self.journal.change(Intent { changes: vec![change], effect: Box::new(|_| ()) }, trail)?;
                }
                (None, false) => {}
            }
        }
    }

    pub(super) fn carry_out(
        &self,
        name: &CollectionName,
        plan: &Plan,
        mut changes: Vec<Change>,
        removed: Option<&EntityUid>,
        trail: Trail,
    ) -> Result<Receipt, Refusal> {
        let now = self.clock.now();
        if !plan.ids.is_empty() {
            changes.push(self.store.erase_records(name, &plan.ids, now));
            changes.extend(self.store.destroy_keys(name, &plan.emptied, now));
        }
        changes.extend(removed.map(|uid| self.store.remove_entities(std::slice::from_ref(uid), now)));
        if changes.is_empty() {
            return self.journal.note(trail);
        }
        let trail = removed.iter().fold(trail, |trail, uid| trail.target(uid));
        let (name, ids, removed) = (name.clone(), plan.ids.clone(), removed.cloned());
        let effect = Box::new(move |world: &mut World| {
            world.depart(&name, &ids);
            removed.iter().for_each(|uid| world.remove_entity(uid));
        });
        self.journal.change(Intent { changes, effect }, trail)
    }
}

fn plan(world: &World, holding: &Holding, erasure: &Erasure, holds: Holds) -> Result<Plan, Refusal> {
    let whole = match erasure {
        Erasure::Patient(id, _) => world.patient_uid(&holding.spec.subject_attribute, id),
        Erasure::Records(_) | Erasure::Document(_) => None,
    };
    let (mut slots, mut missing) = match erasure {
        Erasure::Records(ids) => of_ids(holding, ids),
        Erasure::Document(document) => (holding.of_document(document), 0),
        Erasure::Patient(..) => (whole.as_ref().map(|uid| holding.of_patient(uid)).unwrap_or_default(), 0),
    };
    let patients: Vec<_> = slots.iter().filter_map(|s| holding.row(Slot(s))?.patient.clone()).collect();
    let held = match holds {
        Holds::Told => {
            world.refuse_held(patients.iter().chain(&whole))?;
            RoaringBitmap::new()
        }
        Holds::NotTold => held(world, holding, &slots),
    };
    slots -= &held;
    let held = usize::try_from(held.len()).unwrap_or(usize::MAX);
    if let Erasure::Records(_) = erasure {
        missing = missing.saturating_add(held);
    }
    let others = under_the_same_keys(holding, &slots) - &slots;
    let emptied = &whose(holding, &slots) - &whose(holding, &others);
    Ok(Plan { ids: holding.ids(&slots), missing, patients, held, others: holding.ids(&others), emptied, whole })
}

/// The rows of patients that are under a legal hold.
fn held(world: &World, holding: &Holding, slots: &RoaringBitmap) -> RoaringBitmap {
    let is_held = |slot: &u32| {
        let patient = holding.row(Slot(*slot)).and_then(|row| row.patient.as_ref());
        patient.is_some_and(|patient| world.holds.contains_key(patient))
    };
    slots.iter().filter(is_held).collect()
}

fn of_ids(holding: &Holding, ids: &[RecordId]) -> (RoaringBitmap, usize) {
    let asked: BTreeSet<_> = ids.iter().collect();
    let slots: RoaringBitmap = asked.iter().filter_map(|id| Some(holding.find(id)?.0.0)).collect();
    let missing = asked.len().saturating_sub(usize::try_from(slots.len()).unwrap_or(usize::MAX));
    (slots, missing)
}

/// To whom the keys of these rows belong.
fn whose(holding: &Holding, slots: &RoaringBitmap) -> BTreeSet<Whose> {
    let of = |row: &Row| match &row.patient {
        Some(patient) => Whose::Patient(patient.clone()),
        None => Whose::Document(row.document.clone()),
    };
    slots.iter().filter_map(|slot| holding.row(Slot(slot)).map(of)).collect()
}

/// The rows whose keys these rows lie under: those of their patients, and of their documents where they have no patient.
fn under_the_same_keys(holding: &Holding, slots: &RoaringBitmap) -> RoaringBitmap {
    let rows = || slots.iter().filter_map(|s| holding.row(Slot(s)));
    let patients: BTreeSet<_> = rows().filter_map(|row| row.patient.as_ref()).collect();
    let documents: BTreeSet<_> = rows().filter(|row| row.patient.is_none()).map(|row| &row.document).collect();
    let mut under = RoaringBitmap::new();
    patients.iter().for_each(|patient| under |= holding.of_patient(patient));
    let nobodys = |slot: &u32| holding.row(Slot(*slot)).is_some_and(|row| row.patient.is_none());
    documents.iter().for_each(|document| under.extend(holding.of_document(document).iter().filter(nobodys)));
    under
}

impl Holding {
    /// The records that lie under the keys of these, themselves among them.
    pub(super) fn under_the_keys_of<'a>(&self, ids: impl IntoIterator<Item = &'a RecordId>) -> BTreeSet<RecordId> {
        let slots: RoaringBitmap = ids.into_iter().filter_map(|id| Some(self.find(id)?.0.0)).collect();
        self.ids(&(under_the_same_keys(self, &slots) | slots)).into_iter().collect()
    }
}
