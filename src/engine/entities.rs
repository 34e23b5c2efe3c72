//! Entities: who and what the policies speak of. Written whole, validated, never in a cycle, not deleted while something refers to them.

use std::collections::{BTreeSet, HashSet};

use serde::Serialize;
use serde_json::Value as Json;

use super::{
    Fault, Refusal, Wardkeep,
    grant::{Detail, Grant, ManageEntities, Operation},
    holds::LEGAL_HOLD,
    journal::Intent,
    trail::Trail,
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
    /// Writes entities, all or none, if `caller` may write each of them.
    pub fn put_entities(&self, caller: &Caller, origin: &Origin, sent: &[Json]) -> Result<Vec<Written>, Refusal> {
        // Asked under the lock: what would create an entity for one who may only create must not replace one that came meanwhile.
        let writing = self.writing.lock();
        let details = self.writes(sent).into_iter();
        let grant = self.authorise_each(caller, origin, super::Circumstances::default(), details)?;
        let written = self.write_entities(&grant, sent);
        drop(writing);
        self.told(grant.trail(self, What::PutEntities).asked(sent.len()), written)
    }

    /// What Cedar is asked about a body of entities, one by one. What has no readable name is asked about by an empty one, and named as
    /// a fault afterwards.
    fn writes(&self, sent: &[Json]) -> Vec<Detail> {
        let world = self.world.read();
        let write = |entity| {
            let uid = named(entity).unwrap_or_else(|| EntityUid::new("", ""));
            let there = world.directory.contains(&uid) || world.written(&uid).is_some();
            let operation = if there { Operation::Replace } else { Operation::Create };
            Detail::Entity { uid, operation }
        };
        sent.iter().map(write).collect()
    }

    fn write_entities(&self, grant: &Grant<ManageEntities>, sent: &[Json]) -> Result<Vec<Written>, Refusal> {
        let world = self.world.read();
        let entities = checked(&world, sent)?;
        let replaced = |entity: &Entity| world.written(&entity.uid).or_else(|| world.directory.get(&entity.uid));
        let written: Vec<_> =
            entities.iter().map(|entity| difference(replaced(entity).map(AsRef::as_ref), entity)).collect();
        self.refuse_stripping(&world, grant, &written)?;
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
        Ok(written)
    }

    /// A held patient's entity keeps every attribute and tag that it has; what they say may change, and so may its parents: care goes on,
    /// and permissions are taken away at once.
    fn refuse_stripping(
        &self,
        world: &World,
        grant: &Grant<ManageEntities>,
        written: &[Written],
    ) -> Result<(), Refusal> {
        let stripped = |one: &&Written| !one.removed_attributes.is_empty() && world.holds.contains_key(&one.uid);
        match (written.iter().filter(stripped).count(), self.hears_of_holds(world, grant)) {
            (0, _) => Ok(()),
            (held, true) => Err(Refusal::Conflict {
                code: LEGAL_HOLD,
                detail:
                    "an entity that would lose attributes or tags is under a legal hold; send it with all that it has"
                        .into(),
                more: serde_json::json!({ "patients_held": held }),
            }),
            (_, false) => Err(Refusal::conflict(
                "immutable",
                "an entity keeps the attributes and tags that it has at present; send it with all of them, or ask an administrator",
            )),
        }
    }

    /// Deletes one entity; with `force` even if something refers to it (what does is then denied where policies look at it).
    pub fn remove_entity(&self, grant: &Grant<ManageEntities>, uid: &EntityUid, force: bool) -> Result<(), Refusal> {
        let trail = grant.trail(self, What::RemoveEntity).target(uid);
        self.told(trail.clone(), self.delete_entity(trail, uid, force))
    }

    fn delete_entity(&self, trail: Trail, uid: &EntityUid, force: bool) -> Result<(), Refusal> {
        let writing = self.writing.lock();
        let world = self.world.read();
        if world.written(uid).is_none() {
            return Err(Refusal::Absent);
        }
        world.refuse_held(std::iter::once(uid))?;
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
        let withdrawn = world.is_in_use(uid);
        drop(world);
        let (gone, now) = (uid.clone(), self.clock.now());
        // Its records would imply it anew, bare: a forbid that rested on what it was would be lifted by removing it.
        let change = match withdrawn {
            true => self.store.put_entities(&[Entity::withdrawn(gone.clone())], now)?,
            false => self.store.remove_entities(std::slice::from_ref(uid), now),
        };
        let effect = Box::new(move |world: &mut World| match withdrawn {
            true => world.withdraw_entity(&gone),
            false => world.remove_entity(&gone),
        });
        self.journal.change(Intent { changes: vec![change], effect }, trail)?;
        drop(writing);
        Ok(())
    }

    /// One stored entity.
    pub fn entity(&self, grant: &Grant<ManageEntities>, uid: &EntityUid) -> Result<Entity, Refusal> {
        let world = self.world.read();
        let found = world.written(uid).map(|e| e.as_ref().clone());
        drop(world);
        self.journal.note(grant.trail(self, What::ReadEntities).target(uid).done(usize::from(found.is_some())))?;
        found.ok_or(Refusal::Absent)
    }

    /// Entities of a type by id, from after `after`: those that the caller may look at one by one.
    pub fn entities(
        &self,
        grant: &Grant<ManageEntities>,
        ty: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entity>, Refusal> {
        let world = self.world.read();
        let found = world.written_of_type(ty, after, limit, |entity| {
            let looked_at = Detail::Entity { uid: entity.uid.clone(), operation: Operation::Read };
            self.covers::<ManageEntities>(&world, &grant.caller, &grant.origin, looked_at)
        });
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

/// An entity's name in Cedar's JSON: `{type, id}`, also under `__entity`.
fn named(entity: &Json) -> Option<EntityUid> {
    let uid = entity.get("uid")?;
    let uid = uid.get("__entity").unwrap_or(uid);
    Some(EntityUid::new(uid.get("type")?.as_str()?, uid.get("id")?.as_str()?))
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
    if world.cycle(&entities).is_some() {
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
        let entities = self.referring_entities(uid) as u64;
        let links =
            self.policy.bundle.source().links.iter().filter(|link| link.values.values().any(|v| v == uid)).count()
                as u64;
        let keys = u64::from(self.keys.read().speak_for(uid));
        records + entities + links + keys
    }
}
