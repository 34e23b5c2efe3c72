//! Entities: who and what the policies speak of. Written whole, validated, never in a cycle, not deleted while something refers to them.

use std::collections::{BTreeSet, HashSet};

use serde::Serialize;
use serde_json::Value as Json;

use super::{
    Fault, Refusal, Wardkeep,
    grant::{Detail, Grant, ManageEntities, Operation},
    journal::Intent,
    world::World,
};
use crate::{
    audit::What,
    authn::{Caller, Origin},
    model::{Entity, EntityUid},
};

/// What became of one entity.
#[derive(Debug, Clone, Serialize)]
pub struct Written {
    /// Which.
    pub uid: EntityUid,
    /// Whether it is new.
    pub created: bool,
    /// Attributes and tags that it had and has no more.
    pub removed_attributes: Vec<String>,
    /// Parents that it had and has no more.
    pub removed_parents: Vec<EntityUid>,
}

impl Wardkeep {
    /// What Cedar is asked about a body of entities, one by one.
    pub fn entity_details(&self, uids: &[EntityUid]) -> Vec<Detail> {
        let world = self.world.read();
        let operation = |uid| if world.directory.contains(uid) { Operation::Replace } else { Operation::Create };
        uids.iter().map(|uid| Detail::Entity { uid: uid.clone(), operation: operation(uid) }).collect()
    }

    /// Writes entities, all or none.
    pub fn put_entities(&self, grant: &Grant<ManageEntities>, sent: &[Json]) -> Result<Vec<Written>, Refusal> {
        let writing = self.writing.lock();
        let world = self.world.read();
        let entities = checked(&world, sent)?;
        let written = entities
            .iter()
            .map(|entity| difference(world.directory.get(&entity.uid).map(AsRef::as_ref), entity))
            .collect();
        drop(world);
        let mut trail = grant.trail(self, What::PutEntities).asked(entities.len()).done(entities.len());
        if let [one] = entities.as_slice() {
            trail = trail.target(&one.uid);
        }
        let change = self.store.put_entities(&entities, self.clock.now())?;
        let effect = Box::new(move |world: &mut World| {
            for entity in entities {
                world.put_entity(entity);
            }
        });
        self.journal.change(Intent { changes: vec![change], effect }, trail)?;
        drop(writing);
        Ok(written)
    }

    /// Deletes one entity; with `force` even if something refers to it (what does is then denied where policies look at it).
    pub fn remove_entity(&self, grant: &Grant<ManageEntities>, uid: &EntityUid, force: bool) -> Result<(), Refusal> {
        let writing = self.writing.lock();
        let world = self.world.read();
        if !world.is_explicit(uid) {
            return Err(Refusal::Absent);
        }
        let referrers = world.referrers(uid);
        if referrers > 0 && !force {
            return Err(Refusal::Conflict {
                code: "referred_to",
                detail:
                    "records, entities, links or keys refer to this entity; remove them first, or pass `force=true`"
                        .into(),
                more: serde_json::json!({ "referrers": referrers }),
            });
        }
        drop(world);
        let trail = grant.trail(self, What::RemoveEntity).target(uid);
        let change = self.store.remove_entities(std::slice::from_ref(uid), self.clock.now());
        let gone = uid.clone();
        let effect = Box::new(move |world: &mut World| world.remove_entity(&gone));
        self.journal.change(Intent { changes: vec![change], effect }, trail)?;
        drop(writing);
        Ok(())
    }

    /// One stored entity.
    pub fn entity(&self, grant: &Grant<ManageEntities>, uid: &EntityUid) -> Result<Entity, Refusal> {
        let world = self.world.read();
        let found = world.is_explicit(uid).then(|| world.directory.get(uid)).flatten().map(|e| e.as_ref().clone());
        drop(world);
        self.journal.note(grant.trail(self, What::ReadEntities).target(uid).done(usize::from(found.is_some())))?;
        found.ok_or(Refusal::Absent)
    }

    /// Entities of a type by id, from after `after`.
    pub fn entities(
        &self,
        grant: &Grant<ManageEntities>,
        ty: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entity>, Refusal> {
        let world = self.world.read();
        let later = |e: &&std::sync::Arc<Entity>| {
            world.is_explicit(&e.uid) && after.is_none_or(|last| e.uid.id.as_ref() > last)
        };
        let found: Vec<_> = world.directory.of_type(ty).filter(later).take(limit).map(|e| e.as_ref().clone()).collect();
        drop(world);
        self.journal.note(grant.trail(self, What::ReadEntities).done(found.len()))?;
        Ok(found)
    }

    /// Asks Cedar whether `caller` may look at or delete one entity.
    pub fn authorise_entity(
        &self,
        caller: &Caller,
        origin: &Origin,
        uid: EntityUid,
        operation: Operation,
    ) -> Result<Grant<ManageEntities>, Refusal> {
        let detail = Detail::Entity { uid, operation };
        self.authorise_each(caller, origin, super::Circumstances::default(), std::iter::once(detail))
    }
}

fn checked(world: &World, sent: &[Json]) -> Result<Vec<Entity>, Refusal> {
    let (mut entities, mut faults, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for (position, json) in sent.iter().enumerate() {
        let parsed =
            world.policy.bundle.entity(json).map_err(|f| Fault::new(f.code, f.message)).and_then(|entity| match entity
                .uid
                .ty
                .as_ref()
            {
                "Record" => {
                    Err(Fault::new("reserved_type", "records are written to their collection, not as entities"))
                }
                _ if !seen.insert(entity.uid.clone()) => {
                    Err(Fault::new("duplicate_id", "the entity occurs twice in one request; send it once"))
                }
                _ => Ok(entity),
            });
        match parsed {
            Ok(entity) => entities.push(entity),
            Err(fault) => faults.push(fault.at(position + 1, None)),
        }
    }
    if !faults.is_empty() {
        return Err(Refusal::Invalid(faults));
    }
    if world.directory.cycle(&entities).is_some() {
        return Err(Refusal::invalid("cycle", "the parents would form a cycle; an entity cannot be its own ancestor"));
    }
    Ok(entities)
}

fn difference(old: Option<&Entity>, new: &Entity) -> Written {
    let names =
        |e: &Entity| e.attrs.keys().chain(e.tags.keys()).map(|k| k.as_ref().to_owned()).collect::<BTreeSet<String>>();
    let (removed_attributes, removed_parents) = match old {
        Some(old) => (
            names(old).difference(&names(new)).cloned().collect(),
            old.parents.difference(&new.parents).cloned().collect(),
        ),
        None => (Vec::new(), Vec::new()),
    };
    Written { uid: new.uid.clone(), created: old.is_none(), removed_attributes, removed_parents }
}

impl World {
    /// How many records, entities, links and keys refer to an entity.
    fn referrers(&self, uid: &EntityUid) -> u64 {
        let records = self.referred.get(uid).copied().unwrap_or(0);
        let entities = self.directory.referrers(uid) as u64;
        let links =
            self.policy.bundle.source().links.iter().filter(|link| link.values.values().any(|v| v == uid)).count()
                as u64;
        let keys = u64::from(self.keys.speak_for(uid));
        records + entities + links + keys
    }
}
