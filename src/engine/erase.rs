//! Records out, for good: from results, index and columns at once, and their keys where nothing else lies under them.

use std::collections::BTreeSet;

use roaring::RoaringBitmap;

use super::{
    Refusal, Wardkeep,
    grant::{Erase, Grant},
    journal::Intent,
    world::{Holding, World},
};
use crate::{
    audit::What,
    model::{DocumentId, RecordId, Slot},
};

/// What to erase.
#[derive(Debug, Clone)]
pub enum Erasure {
    /// These records.
    Records(Vec<RecordId>),
    /// Every record of a document.
    Document(DocumentId),
    /// Every record of a patient.
    Patient(String),
}

/// What was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Erased {
    /// Records that are gone.
    pub erased: usize,
    /// Ids that were not there.
    pub missing: usize,
}

impl Wardkeep {
    /// Erases what `erasure` names of the grant's collection.
    pub fn erase(&self, grant: &Grant<Erase>, erasure: &Erasure) -> Result<Erased, Refusal> {
        let name = grant.collection()?.clone();
        let trail = grant.trail(self, What::Erase);
        let writing = self.writing.lock();
        let world = self.world.read();
        let there = world.holding(&name).map(|holding| {
            let (ids, missing) = named(&world, holding, erasure);
            let patients: Vec<_> = ids.iter().filter_map(|id| holding.find(id)?.1.patient.clone()).collect();
            (ids, missing, patients)
        });
        drop(world);
        let (ids, missing, patients) = self.told(trail.clone(), there.ok_or(Refusal::Absent))?;
        let trail = trail.asked(ids.len() + missing).done(ids.len()).records(ids.iter()).patients(patients.iter());
        if ids.is_empty() {
            self.journal.note(trail)?;
            return Ok(Erased { erased: 0, missing });
        }
        let change = self.store.erase_records(&name, &ids, self.clock.now());
        let erased = ids.len();
        let effect = Box::new(move |world: &mut World| world.depart(&name, &ids));
        self.journal.change(Intent { changes: vec![change], effect }, trail)?;
        drop(writing);
        Ok(Erased { erased, missing })
    }
}

fn named(world: &World, holding: &Holding, erasure: &Erasure) -> (Vec<RecordId>, usize) {
    let all = |slots: RoaringBitmap| (slots.iter().filter_map(|s| Some(holding.row(Slot(s))?.id.clone())).collect(), 0);
    match erasure {
        Erasure::Records(ids) => {
            let asked: BTreeSet<_> = ids.iter().collect();
            let there: Vec<_> = asked.iter().filter(|id| holding.find(id).is_some()).map(|id| (*id).clone()).collect();
            let missing = asked.len() - there.len();
            (there, missing)
        }
        Erasure::Document(document) => all(holding.of_document(document)),
        Erasure::Patient(id) => match world.patient_uid(&holding.spec.subject_attribute, id) {
            Some(uid) => all(holding.of_patient(&uid)),
            None => (Vec::new(), 0),
        },
    }
}
