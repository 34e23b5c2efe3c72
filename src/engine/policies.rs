//! Bundles into force: compiled, held against everything that is stored, and only then active.

use std::{collections::BTreeMap, sync::Arc};

use roaring::RoaringBitmap;
use serde::Serialize;
use serde_json::json;

use super::{
    Fault, Refusal, Wardkeep,
    grant::{Grant, ManagePolicies},
    journal::Intent,
    world::{InForce, World},
};
use crate::{
    audit::What,
    authn::Caller,
    model::{Action, BundleSource, CollectionName, Entity, EntityUid},
    policy::{Bundle, BundleFault, Verdict, Warning},
    store::StoredBundle,
};

/// What the uploader says they know, or does not mind.
#[derive(Debug, Clone, Copy)]
pub struct Allow {
    /// Stored records and entities may not fit the new schema; those records are then denied.
    pub invalid: bool,
    /// Forbids may go and caps may loosen.
    pub widening: bool,
    /// The uploader may lose the right to manage policies.
    pub lockout: bool,
    /// Warnings may be given.
    pub warnings: bool,
}

/// A bundle on its way into force.
struct Proposal {
    source: BundleSource,
    /// The version that it is again.
    restores: Option<u64>,
}

impl Default for Allow {
    fn default() -> Self {
        Self { invalid: false, widening: false, lockout: false, warnings: true }
    }
}

/// A bundle in force.
#[derive(Debug, Clone, Serialize)]
pub struct Activated {
    /// Its number.
    pub version: u64,
    /// SHA-256 of its texts, in hex.
    pub digest: String,
    /// What is legal and probably not meant.
    pub warnings: Vec<Warning>,
}

/// What is stored and does not fit a schema.
#[derive(Default)]
pub(super) struct Misfits {
    /// How many, by entity type and attribute.
    pub(super) counts: BTreeMap<String, u64>,
    pub(super) entities: Vec<EntityUid>,
    pub(super) records: Vec<(CollectionName, RoaringBitmap)>,
}

impl Wardkeep {
    /// Whether a bundle compiles; changes nothing.
    pub fn validate_policies(
        &self,
        grant: &Grant<ManagePolicies>,
        source: &BundleSource,
        allow: Allow,
    ) -> Result<Activated, Refusal> {
        let trail = grant.trail(self, What::ReadPolicies).detail("validate");
        let bundle = self.told(trail, admitted(source, allow))?;
        self.journal.note(grant.trail(self, What::ReadPolicies).detail("validate"))?;
        let version = self.world.read().policy.version;
        Ok(Activated { version, digest: hex::encode(bundle.digest()), warnings: bundle.warnings().to_vec() })
    }

    /// Puts a bundle into force, if it fits what is stored and its uploader.
    pub fn put_policies(
        &self,
        grant: &Grant<ManagePolicies>,
        source: BundleSource,
        if_match: Option<u64>,
        allow: Allow,
    ) -> Result<Activated, Refusal> {
        let proposal = Proposal { source, restores: None };
        self.told(grant.trail(self, What::PutPolicies), self.activate(grant, proposal, if_match, allow))
    }

    /// Puts the texts of an earlier version into force again, as a new version, if they fit what is stored by now.
    pub fn rollback_policies(
        &self,
        grant: &Grant<ManagePolicies>,
        to: u64,
        note: String,
        if_match: Option<u64>,
        allow: Allow,
    ) -> Result<Activated, Refusal> {
        let note = if note.is_empty() { format!("rollback to version {to}") } else { note };
        let done = self.version_of(to).and_then(|earlier| {
            let proposal = Proposal { source: BundleSource { note, ..earlier.source }, restores: Some(to) };
            self.activate(grant, proposal, if_match, allow)
        });
        self.told(grant.trail(self, What::PutPolicies), done)
    }

    fn activate(
        &self,
        grant: &Grant<ManagePolicies>,
        Proposal { source, restores }: Proposal,
        if_match: Option<u64>,
        allow: Allow,
    ) -> Result<Activated, Refusal> {
        let source = BundleSource { tolerates_misfits: false, ..source };
        let mut bundle = Arc::new(admitted(&source, allow)?);
        let writing = self.writing.lock();
        let (current, old) = {
            let world = self.world.read();
            (world.policy.version, Arc::clone(&world.policy.bundle))
        };
        if if_match.is_some_and(|expected| expected != current) {
            return Err(Refusal::Outdated { current });
        }
        self.guard(&bundle, &old, grant.caller(), allow)?;
        // what is stored was held against the schema in force: under the same one it fits still, unless some of it was let in unfit
        let known_to_fit = source.schema == old.source().schema && !old.source().tolerates_misfits;
        let misfits = if known_to_fit { Misfits::default() } else { self.misfits(&bundle)? };
        if !misfits.counts.is_empty() && !allow.invalid {
            return Err(Refusal::Conflict {
                code: "stored_data_invalid",
                detail: "stored records or entities do not fit the new schema; mend them, or pass `allow_invalid=true` to deny those records".into(),
                more: json!({ "misfits": misfits.counts }),
            });
        }
        if misfits.entities.contains(grant.caller().uid()) && !allow.lockout {
            let detail = "your own entity does not fit the new schema, so you could no longer do anything; pass `allow_lockout=true` if that is meant";
            return Err(Refusal::conflict("lockout", detail));
        }
        let source = BundleSource { tolerates_misfits: !misfits.counts.is_empty(), ..source };
        if source.tolerates_misfits {
            bundle = Arc::new(compile(&source)?);
        }
        let version = current + 1;
        let digest = bundle.digest();
        let warnings = bundle.warnings().to_vec();
        let trail = grant.trail(self, What::PutPolicies).bundle(version, digest);
        let trail = match restores {
            Some(earlier) => trail.detail(format!("rollback_to_{earlier}")),
            None => trail,
        };
        let now = self.clock.now();
        let stored = StoredBundle { source, author: grant.caller().uid().clone(), at: now, restores };
        let change = self.store.put_bundle(version, &stored, now)?;
        let effect = Box::new(move |world: &mut World| {
            world.policy = InForce { version, bundle };
            if !known_to_fit {
                world.imply_all();
            }
            world.deny(misfits);
        });
        self.journal.change(Intent { changes: vec![change], effect }, trail)?;
        drop(writing);
        Ok(Activated { version, digest: hex::encode(digest), warnings })
    }

    fn guard(&self, bundle: &Bundle, old: &Bundle, uploader: &Caller, allow: Allow) -> Result<(), Refusal> {
        let widened = bundle.widening(old);
        if !widened.is_empty() && !allow.widening {
            return Err(Refusal::Conflict {
                code: "widening",
                detail: "the bundle drops or changes a forbid, or loosens a cap; pass `allow_widening=true` if that is meant".into(),
                more: json!({ "policies": widened }),
            });
        }
        let world = self.world.read();
        if !allow.lockout && !may_manage(&world, bundle, uploader, self, allow) {
            let detail =
                "under this bundle you could no longer manage policies; pass `allow_lockout=true` if that is meant";
            return Err(Refusal::conflict("lockout", detail));
        }
        Ok(())
    }

    /// Holds everything that is stored against a bundle's schema.
    pub(super) fn misfits(&self, bundle: &Bundle) -> Result<Misfits, Refusal> {
        let mut misfits = Misfits::default();
        for entity in self.store.entities()?.into_iter().filter(|entity| !entity.is_withdrawn()) {
            if !tally(&mut misfits.counts, bundle, &entity) {
                misfits.entities.push(entity.uid);
            }
        }
        let names: Vec<CollectionName> = self.world.read().collections.keys().cloned().collect();
        for name in names {
            let mut ids = Vec::new();
            self.store.records(&name, &mut |stored| {
                if !tally(&mut misfits.counts, bundle, &stored.record.entity(&name)) {
                    ids.push(stored.record.id.clone());
                }
                Ok(())
            })?;
            let world = self.world.read();
            let slots = match world.holding(&name) {
                Some(holding) => ids.iter().filter_map(|id| Some(holding.find(id)?.0.0)).collect(),
                None => RoaringBitmap::new(),
            };
            misfits.records.push((name, slots));
        }
        Ok(misfits)
    }
}

/// Counts an entity that does not fit, under its type and what is wrong; says whether it fits.
fn tally(misfits: &mut BTreeMap<String, u64>, bundle: &Bundle, entity: &Entity) -> bool {
    match bundle.check(entity) {
        Ok(()) => true,
        Err(fault) => {
            *misfits.entry(format!("{}: {}", entity.uid.ty, fault.message)).or_default() += 1;
            false
        }
    }
}

fn may_manage(world: &World, bundle: &Bundle, uploader: &Caller, engine: &Wardkeep, allow: Allow) -> bool {
    let origin = crate::authn::Origin { address: None, request: [0; 16] };
    let offered = super::Circumstances::default().offered(engine.clock.now(), &origin, world, Action::ManagePolicies);
    let next = World::asking(bundle, uploader.uid(), Action::ManagePolicies, offered);
    let Ok(inquiry) = next else { return false };
    let system = world
        .directory
        .get(&EntityUid::system())
        .map_or_else(|| Entity::bare(EntityUid::system()), |e| e.as_ref().clone());
    let decides = |directory: &_| matches!(bundle.decide(&inquiry, &system, directory), Verdict::Allow { .. });
    // What will not fit the new schema will count as not stored: a group on the uploader's way to the right, say.
    decides(&world.directory) && (!allow.invalid || decides(&world.directory_under(bundle).0))
}

pub(super) fn compile(source: &BundleSource) -> Result<Bundle, Refusal> {
    Bundle::compile(source).map_err(refused)
}

/// A bundle that may go into force: nothing in it must be mended first.
fn admitted(source: &BundleSource, allow: Allow) -> Result<Bundle, Refusal> {
    let bundle = compile(source)?;
    let mut faults = bundle.objections().to_vec();
    if !allow.warnings {
        faults.extend(bundle.warnings().iter().cloned().map(BundleFault::from));
    }
    if faults.is_empty() { Ok(bundle) } else { Err(refused(faults)) }
}

fn refused(faults: Vec<BundleFault>) -> Refusal {
    Refusal::Invalid(faults.into_iter().map(Fault::from).collect())
}
