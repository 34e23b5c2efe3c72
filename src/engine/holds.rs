//! Legal holds: put on patients and lifted by those who manage entities, and stronger than any erasure.

use super::{
    Refusal, Wardkeep,
    grant::{Grant, ManageEntities},
    journal::Intent,
    world::World,
};
use crate::{
    audit::What,
    model::{EntityUid, Hold, limits},
};

/// What a refusal for a hold's sake is called, in answers and in the log.
pub(super) const LEGAL_HOLD: &str = "legal_hold";

impl Wardkeep {
    /// Puts a hold on a patient. One that is there stays as it is.
    pub fn hold(
        &self,
        grant: &Grant<ManageEntities>,
        patient: EntityUid,
        reason: Option<String>,
    ) -> Result<Hold, Refusal> {
        let trail = grant.trail(self, What::PutHold).target(&patient);
        let _writing = self.writing.lock();
        let world = self.world.read();
        if let Some(there) = world.holds.get(&patient).cloned() {
            drop(world);
            self.journal.note(trail.detail("held_already"))?;
            return Ok(there);
        }
        let (full, known) = (world.holds.len() >= limits::HOLDS, world.policy.bundle.declares_type(&patient.ty));
        drop(world);
        if full {
            return self.told(
                trail,
                Err(Refusal::invalid("too_many_holds", format!("the store holds {} at most", limits::HOLDS))),
            );
        }
        if !known {
            return self.told(trail, Err(Refusal::invalid("type", "the schema has no such entity type")));
        }
        let hold = Hold { patient, by: grant.caller().uid().clone(), since: self.clock.now(), reason };
        let change = self.store.put_hold(&hold, hold.since)?;
        let put = hold.clone();
        let effect = Box::new(move |world: &mut World| drop(world.holds.insert(put.patient.clone(), put)));
        self.journal.change(Intent { changes: vec![change], effect }, trail)?;
        Ok(hold)
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
    pub fn holds(&self, grant: &Grant<ManageEntities>) -> Result<Vec<Hold>, Refusal> {
        let holds: Vec<Hold> = self.world.read().holds.values().cloned().collect();
        self.journal.note(grant.trail(self, What::ReadHolds).done(holds.len()))?;
        Ok(holds)
    }
}

impl World {
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
