//! Legal holds: put on patients and lifted by those who manage entities, each an operation of its own, and stronger than any erasure. Held
//! records are not written over either. A hold on the system stops expiry: a restored store has one until its holds are confirmed.

use super::{
    Refusal, Wardkeep,
    grant::{Asked, Grant, ManageEntities},
    journal::Intent,
    world::World,
};
use crate::{
    audit::What,
    model::{EntityUid, Hold, limits},
    policy::AttributeType,
};

/// What a refusal for a hold's sake is called, in answers and in the log.
pub(super) const LEGAL_HOLD: &str = "legal_hold";

/// A hold, and what it comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The hold.
    pub hold: Hold,
    /// Records that are the patient's now.
    pub records: u64,
}

impl Wardkeep {
    /// Puts a hold on a patient. One that is there stays as it is.
    pub fn hold(
        &self,
        grant: &Grant<ManageEntities>,
        patient: EntityUid,
        reason: Option<String>,
    ) -> Result<Held, Refusal> {
        let trail = grant.trail(self, What::PutHold).target(&patient);
        let _writing = self.writing.lock();
        let world = self.world.read();
        if let Some(there) = world.holds.get(&patient).map(|hold| world.held(hold)) {
            drop(world);
            self.journal.note(trail.detail("held_already"))?;
            return Ok(there);
        }
        let (full, known) = (world.holds.len() >= limits::HOLDS, world.may_be_held(&patient));
        drop(world);
        if full {
            return self.told(
                trail,
                Err(Refusal::invalid("too_many_holds", format!("the store holds {} at most", limits::HOLDS))),
            );
        }
        if !known {
            let detail = "records belong to no entity of this type: a hold is put on a patient, or on the system";
            return self.told(trail, Err(Refusal::invalid("type", detail)));
        }
        let hold = Hold { patient, by: grant.caller().uid().clone(), since: self.clock.now(), reason };
        let change = self.store.put_hold(&hold, hold.since)?;
        let put = hold.clone();
        let effect = Box::new(move |world: &mut World| drop(world.holds.insert(put.patient.clone(), put)));
        self.journal.change(Intent { changes: vec![change], effect }, trail)?;
        Ok(self.world.read().held(&hold))
    }

    /// Lifts a hold.
    pub fn lift_hold(&self, grant: &Grant<ManageEntities>, patient: &EntityUid) -> Result<(), Refusal> {
        let trail = grant.trail(self, What::LiftHold).target(patient);
        let _writing = self.writing.lock();
        if !self.world.read().holds.contains_key(patient) {
            return self.told(trail, Err(Refusal::Absent));
        }
        let change = self.store.remove_hold(patient, self.clock.now());
        let lifted = patient.clone();
        let effect = Box::new(move |world: &mut World| drop(world.holds.remove(&lifted)));
        self.journal.change(Intent { changes: vec![change], effect }, trail).map(drop)
    }

    /// Every hold, by patient.
    pub fn holds(&self, grant: &Grant<ManageEntities>) -> Result<Vec<Held>, Refusal> {
        let world = self.world.read();
        let holds: Vec<Held> = world.holds.values().map(|hold| world.held(hold)).collect();
        drop(world);
        self.journal.note(grant.trail(self, What::ReadHolds).done(holds.len()))?;
        Ok(holds)
    }

    /// Whether whoever acts under a grant may know of legal holds: those are who may list them. `world` is what it is asked of.
    pub(super) fn hears_of_holds<A: Asked>(&self, world: &World, grant: &Grant<A>) -> bool {
        self.covers_all::<ManageEntities>(world, grant.caller(), grant.origin())
    }
}

impl World {
    /// Whether anything expires.
    pub(super) fn expires(&self) -> bool {
        !self.holds.contains_key(&EntityUid::system())
    }

    /// Whether records may belong to it, or it is the system.
    fn may_be_held(&self, uid: &EntityUid) -> bool {
        let belongs = |attribute: &str| match self.policy.bundle.attribute_type("Record", attribute) {
            Some(AttributeType::Entity(ty)) => ty == uid.ty,
            Some(_) | None => false,
        };
        let mut subjects = self.collections.values().map(|holding| holding.spec.subject_attribute.as_ref());
        *uid == EntityUid::system() || belongs("patient") || subjects.any(belongs)
    }

    fn held(&self, hold: &Hold) -> Held {
        let records = self.collections.values().map(|holding| holding.of_patient(&hold.patient).len()).sum();
        Held { hold: hold.clone(), records }
    }

    /// Refuses to erase what is held.
    pub(super) fn refuse_held<'a>(&self, patients: impl Iterator<Item = &'a EntityUid>) -> Result<(), Refusal> {
        let held: std::collections::BTreeSet<_> =
            patients.filter(|patient| self.holds.contains_key(*patient)).collect();
        if held.is_empty() {
            return Ok(());
        }
        Err(Refusal::Conflict {
            code: LEGAL_HOLD,
            detail: "a patient whose records these are is under a legal hold; nothing was erased; the hold must be lifted first".into(),
            more: serde_json::json!({ "patients_held": held.len() }),
        })
    }
}
