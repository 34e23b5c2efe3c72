//! One of two bundles with what is stored as it would count under it, and what a caller sees then.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use roaring::RoaringBitmap;

use super::{Chosen, Compared};
use crate::{
    clock::Instant,
    engine::{
        Circumstances, Refusal, Wardkeep,
        policies::{Misfits, compile},
        world::{Holding, World},
    },
    model::{Action, CollectionName, Entity, EntityUid, Slot},
    policy::{Bundle, Directory, Inquiry, InquiryError},
};

/// Records decided in one go.
const ROUND: usize = 256;

/// Records kept open, most; beyond it all are closed.
const OPENED: usize = 50_000;

/// A bundle, and what fits its schema.
pub(super) struct Side {
    pub(super) bundle: Arc<Bundle>,
    version: Option<u64>,
    /// Where the schema is another than the one in force.
    own: Option<Own>,
}

struct Own {
    directory: Directory,
    misfits: Misfits,
}

/// Records as Cedar sees them, read once for many callers.
#[derive(Default)]
pub(super) struct Opened {
    at: Option<(CollectionName, u64)>,
    entities: HashMap<u32, Option<Entity>>,
}

impl Side {
    pub(super) fn of(engine: &Wardkeep, which: &Chosen) -> Result<Self, Refusal> {
        let (version, bundle) = match which {
            Chosen::InForce => engine.in_force(),
            Chosen::Version(version) => (Some(*version), Arc::new(engine.bundle_of(*version)?)),
            Chosen::Sent(source) => (None, Arc::new(compile(source)?)),
        };
        let (_, in_force) = engine.in_force();
        let own = match bundle.source().schema == in_force.source().schema {
            true => None,
            false => Some(Own {
                misfits: engine.misfits(&bundle)?,
                directory: engine.world.read().directory_under(&bundle).0,
            }),
        };
        Ok(Self { bundle, version, own })
    }

    pub(super) fn told(&self) -> Compared {
        let misfits = self.own.as_ref().map(|own| own.misfits.counts.clone()).unwrap_or_default();
        Compared { version: self.version, digest: hex::encode(self.bundle.digest()), misfits }
    }

    pub(super) fn directory<'a>(&'a self, world: &'a World) -> &'a Directory {
        self.own.as_ref().map_or(&world.directory, |own| &own.directory)
    }

    /// Records that do not fit.
    fn unfit<'a>(&'a self, holding: &'a Holding) -> Option<&'a RoaringBitmap> {
        match &self.own {
            None => Some(&holding.invalid),
            Some(own) => {
                own.misfits.records.iter().find(|(name, _)| *name == holding.spec.name).map(|(_, slots)| slots)
            }
        }
    }

    /// `None` where the schema never lets such a caller do this.
    fn inquiry(&self, question: &Question<'_>, action: Action) -> Result<Option<Inquiry>, Refusal> {
        let Question { caller, circumstances, now, address } = question;
        let offered = circumstances.offered_to(&self.bundle, *now, *address, action);
        match World::asking(&self.bundle, caller, action, offered) {
            Ok(inquiry) => Ok(Some(inquiry)),
            Err(InquiryError::Principal(_)) => Ok(None),
            Err(error @ (InquiryError::Missing(_) | InquiryError::Type(_))) => {
                Err(Refusal::invalid("context", error.to_string()))
            }
        }
    }

    /// Whether the caller may search the collection at all.
    pub(super) fn may_ask(
        &self,
        world: &World,
        collection: &CollectionName,
        question: &Question<'_>,
    ) -> Result<bool, Refusal> {
        let Some(inquiry) = self.inquiry(question, Action::Search)? else { return Ok(false) };
        let directory = self.directory(world);
        let uid = EntityUid::collection(collection);
        let place = match directory.get(&uid) {
            Some(stored) => stored.as_ref().clone(),
            None if world.is_withdrawn(&uid) => return Ok(false),
            None => Entity::bare(uid),
        };
        Ok(self.bundle.decide(&inquiry, &place, directory).is_allow())
    }

    /// What the caller sees of `within`, or of everything: what is certain by plan, and of the rest what the full decision allows.
    pub(super) fn visible(
        &self,
        view: View<'_>,
        question: &Question<'_>,
        action: Action,
        within: Option<&RoaringBitmap>,
        opened: &mut Opened,
    ) -> Result<RoaringBitmap, Refusal> {
        let View { engine, world, holding } = view;
        let Some(inquiry) = self.inquiry(question, action)? else { return Ok(RoaringBitmap::new()) };
        let directory = self.directory(world);
        let scope = self.bundle.plan(&inquiry, &holding.columns, directory);
        let narrowed = |slots: &RoaringBitmap| {
            let mut slots = slots & within.unwrap_or(holding.index.live());
            slots &= holding.index.live();
            if let Some(unfit) = self.unfit(holding) {
                slots -= unfit;
            }
            slots
        };
        let mut seen = narrowed(&scope.allowed);
        let ask: Vec<u32> = narrowed(&scope.ask).iter().collect();
        for round in ask.chunks(ROUND) {
            let (slots, entities) = opened.entities(engine, world, holding, round)?;
            let verdicts = self.bundle.decide_many(&inquiry, &entities, directory);
            seen.extend(
                slots.into_iter().zip(verdicts).filter(|(_, verdict)| verdict.is_allow()).map(|(slot, _)| slot),
            );
        }
        Ok(seen)
    }
}

/// Who asks, and all that is told of it.
pub(super) struct Question<'a> {
    pub(super) caller: &'a EntityUid,
    pub(super) circumstances: &'a Circumstances,
    pub(super) now: Instant,
    pub(super) address: Option<IpAddr>,
}

/// What is looked at.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) engine: &'a Wardkeep,
    pub(super) world: &'a World,
    pub(super) holding: &'a Holding,
}

impl Opened {
    /// Those of `slots` that are there, with their entities.
    fn entities(
        &mut self,
        engine: &Wardkeep,
        world: &World,
        holding: &Holding,
        slots: &[u32],
    ) -> Result<(Vec<u32>, Vec<Entity>), Refusal> {
        let name = &holding.spec.name;
        let at = (name.clone(), world.changes);
        if self.at.as_ref() != Some(&at) || self.entities.len() > OPENED {
            // a slot may have another record now
            *self = Self { at: Some(at), entities: HashMap::new() };
        }
        let (mut found, mut entities) = (Vec::with_capacity(slots.len()), Vec::with_capacity(slots.len()));
        for slot in slots {
            if !self.entities.contains_key(slot) {
                let stored = match holding.row(Slot(*slot)) {
                    Some(row) => engine.store.record(name, &row.id)?,
                    None => None,
                };
                self.entities.insert(*slot, stored.map(|stored| stored.record.entity(name)));
            }
            if let Some(Some(entity)) = self.entities.get(slot) {
                found.push(*slot);
                entities.push(entity.clone());
            }
        }
        Ok((found, entities))
    }
}

impl Wardkeep {
    fn in_force(&self) -> (Option<u64>, Arc<Bundle>) {
        let world = self.world.read();
        (Some(world.policy.version), Arc::clone(&world.policy.bundle))
    }

    /// A version that was in force, compiled anew.
    fn bundle_of(&self, version: u64) -> Result<Bundle, Refusal> {
        let absent = || Refusal::invalid("version", "there is no such version of the policies");
        compile(&self.store.bundle_of(version)?.ok_or_else(absent)?.source)
    }
}
