//! Collections: made with settings that never change, listed, dropped with all that is in them.

use serde::Serialize;

use super::{
    Refusal, Wardkeep,
    grant::{Erase, Grant, ManageCollections, ManageEntities},
    journal::Intent,
    trail::Trail,
    world::{Holding, World},
};
use crate::{
    audit::What,
    model::{Collection, CollectionName, RecordId, limits},
    policy::AttributeType,
};

/// A collection as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// Its settings.
    #[serde(flatten)]
    pub settings: Collection,
    /// Records in it.
    pub records: usize,
    /// Bytes of memory that its index takes.
    pub index_bytes: usize,
}

impl Wardkeep {
    /// Makes a collection; the same settings again change nothing, others are refused.
    pub fn put_collection(&self, grant: &Grant<ManageCollections>, settings: Collection) -> Result<(), Refusal> {
        let trail = grant.trail(self, What::PutCollection).collection(&settings.name);
        self.told(trail.clone(), self.make_collection(trail, settings))
    }

    fn make_collection(&self, trail: Trail, settings: Collection) -> Result<(), Refusal> {
        let writing = self.writing.lock();
        let world = self.world.read();
        if let Some(there) = world.holding(&settings.name) {
            if there.spec != settings {
                let detail = "the collection is there with other settings, and settings never change; drop it, or use another name";
                return Err(Refusal::conflict("collection_differs", detail));
            }
            return Ok(());
        }
        check(&world, &settings)?;
        drop(world);
        let change = self.store.put_collection(&settings, self.clock.now())?;
        let effect = Box::new(move |world: &mut World| {
            world.collections.insert(settings.name.clone(), Holding::new(settings, world.memory));
        });
        self.journal.change(Intent { changes: vec![change], effect }, trail)?;
        drop(writing);
        Ok(())
    }

    /// One collection.
    pub fn collection(&self, grant: &Grant<ManageCollections>, name: &CollectionName) -> Result<Shown, Refusal> {
        let shown = self.world.read().holding(name).map(shown);
        self.journal.note(grant.trail(self, What::ReadCollections).collection(name))?;
        shown.ok_or(Refusal::Absent)
    }

    /// Every collection, by name.
    pub fn collections(&self, grant: &Grant<ManageCollections>) -> Result<Vec<Shown>, Refusal> {
        let all: Vec<_> = self.world.read().collections.values().map(shown).collect();
        self.journal.note(grant.trail(self, What::ReadCollections).done(all.len()))?;
        Ok(all)
    }

    /// Drops a collection and erases all that is in it.
    pub fn drop_collection(&self, grant: &Grant<ManageCollections>, erase: &Grant<Erase>) -> Result<usize, Refusal> {
        let name = erase.collection()?.clone();
        let trail = grant.trail(self, What::DropCollection).collection(&name);
        let writing = self.writing.lock();
        let world = self.world.read();
        let there = world.holding(&name).ok_or(Refusal::Absent).and_then(|holding| {
            let told = self.covers_all::<ManageEntities>(&world, &grant.caller, &grant.origin);
            world.refuse_held(holding.patients()).map_err(|held| if told { held } else { held.without_counts() })?;
            Ok(holding.ids(holding.index.live()))
        });
        drop(world);
        let ids: Vec<RecordId> = self.told(trail.clone(), there)?;
        let trail = trail.done(ids.len());
        let change = self.store.drop_collection(&name, self.clock.now());
        let dropped = ids.len();
        let effect = Box::new(move |world: &mut World| {
            world.depart(&name, &ids);
            world.collections.remove(&name);
        });
        self.journal.change(Intent { changes: vec![change], effect }, trail)?;
        drop(writing);
        Ok(dropped)
    }
}

fn shown(holding: &Holding) -> Shown {
    Shown { settings: holding.spec.clone(), records: holding.len(), index_bytes: holding.index.memory_bytes() }
}

fn check(world: &World, settings: &Collection) -> Result<(), Refusal> {
    let (least, most) = (limits::DIMENSION_MIN, limits::DIMENSION_MAX);
    if !(least..=most).contains(&settings.dimension) {
        return Err(Refusal::invalid("dimension", format!("`dimension` must be {least} to {most}")));
    }
    if world.collections.len() >= limits::COLLECTIONS {
        return Err(Refusal::invalid("too_many_collections", "the store holds as many collections as it can"));
    }
    match world.policy.bundle.attribute_type("Record", &settings.subject_attribute) {
        Some(AttributeType::Entity(_)) => Ok(()),
        // The default needs no declaration: records without the attribute have no patient.
        None if settings.subject_attribute == "patient" => Ok(()),
        Some(_) | None => Err(Refusal::invalid(
            "subject_attribute",
            "`subject_attribute` must name an attribute that the schema gives `Record` as a reference to an entity",
        )),
    }
}
