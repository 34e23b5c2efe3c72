//! Search, read and list: from a grant to a disclosure. Each reads top to bottom as the way of a record to its reader.

use roaring::RoaringBitmap;

use super::{
    Refusal, Wardkeep,
    disclosure::{Disclosure, Frame, Include},
    gate::{self, Release, Scope, Withheld},
    grant::{Asked, Grant, Read, Search},
    trail::Trail,
    world::{Holding, World},
};
use crate::{
    audit::What,
    model::{Action, CollectionName, Embedding, Phi, RecordId, RetrievalId, Slot},
    policy::{Filter, FilterFault},
};

/// A question: a vector and how much is wanted of what is near it. Bounds are checked here and by the types it is made of.
#[derive(Debug, Clone)]
pub struct Question {
    /// Components as sent.
    pub vector: Vec<f32>,
    /// Records wanted, 1 to 10,000.
    pub limit: usize,
    /// A Cedar expression that the records must satisfy.
    pub filter: Option<Phi<String>>,
    /// What to show of each.
    pub include: Include,
    /// What made the vector, if told.
    pub model: Option<String>,
}

/// A list: which records, and what of them.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Which records.
    pub of: Which,
    /// A Cedar expression that they must satisfy.
    pub filter: Option<Phi<String>>,
    /// What to show of each.
    pub include: Include,
}

/// Which records to list.
#[derive(Debug, Clone)]
pub enum Which {
    /// By id, from after `after`.
    Page {
        /// The last id of the page before.
        after: Option<RecordId>,
        /// Rows wanted.
        limit: usize,
    },
    /// These; missing ones are skipped.
    Ids(Vec<RecordId>),
}

impl Wardkeep {
    /// The nearest records that the caller may retrieve.
    pub fn search(&self, grant: &Grant<Search>, question: &Question) -> Result<Disclosure, Refusal> {
        let trail = grant.trail(self, What::Search).filter(question.filter.as_ref());
        self.told(trail.clone(), self.find(grant, question, trail))
    }

    fn find(&self, grant: &Grant<Search>, question: &Question, trail: Trail) -> Result<Disclosure, Refusal> {
        let world = self.world.read();
        let holding = world.holding(grant.collection()?).ok_or(Refusal::Absent)?;
        let query = embedding(holding, question)?;
        let filter = filter(&world, question.filter.as_ref(), Action::Retrieve)?;
        let mut scope = Scope::plan(self, &world, holding, grant, Action::Retrieve)?;
        scope.keep_matching(filter, &world, holding);
        let mut release = gate::nearest(self, &world, holding, &scope, &query, question.limit)?;
        self.add_vectors(&mut release, &world, holding, grant, question.include);
        let frame = Frame::new(world.policy.version, holding, question.include, None);
        drop(world);
        self.disclose(trail.question(&query).model(question.model.as_deref()), release, frame)
    }

    /// One record by id. What is absent and what the caller may not read are one.
    pub fn read(&self, grant: &Reading, id: &RecordId) -> Result<Disclosure, Refusal> {
        let trail = grant.0.trail(self, What::Read).asked(1);
        match self.told(trail.clone(), self.permitted(&grant.0, id))? {
            Some((release, frame)) => self.disclose(trail, release, frame),
            None => {
                self.journal.note(trail.denied("absent_or_not_permitted"))?;
                Err(Refusal::Absent)
            }
        }
    }

    /// The record, if it is there and may be read. It is planned for before it is looked for: what the plan denies is not opened, so that it
    /// takes no longer than what is not there.
    fn permitted(&self, grant: &Grant<Read>, id: &RecordId) -> Result<Option<(Release, Frame)>, Refusal> {
        let world = self.world.read();
        let Some(holding) = world.holding(grant.collection()?) else {
            return gate::inquiry(self, &world, grant, Action::Read).map(|_| None);
        };
        let scope = Scope::plan(self, &world, holding, grant, Action::Read)?;
        let slot = holding.find(id).map(|(slot, _)| slot);
        let release = gate::in_order(self, &world, holding, &scope, slot.into_iter(), 1, Withheld::Skipped)?;
        let frame = Frame::new(world.policy.version, holding, Include::default(), None);
        Ok((!release.records.is_empty()).then_some((release, frame)))
    }

    /// What the caller may read of a collection, by id, and how much it is.
    pub fn list(&self, grant: &Grant<Search>, listing: &Listing) -> Result<Disclosure, Refusal> {
        let trail = grant.trail(self, What::List).filter(listing.filter.as_ref());
        self.told(trail.clone(), self.enumerate(grant, listing, trail))
    }

    fn enumerate(&self, grant: &Grant<Search>, listing: &Listing, trail: Trail) -> Result<Disclosure, Refusal> {
        let world = self.world.read();
        let holding = world.holding(grant.collection()?).ok_or(Refusal::Absent)?;
        let filter = filter(&world, listing.filter.as_ref(), Action::Read)?;
        let mut scope = Scope::plan(self, &world, holding, grant, Action::Read)?;
        let (slots, limit, withheld) = match &listing.of {
            Which::Ids(ids) => {
                let slots: Vec<Slot> = ids.iter().filter_map(|id| holding.find(id)).map(|(slot, _)| slot).collect();
                scope.narrow(&slots.iter().map(|s| s.0).collect());
                scope.keep_matching(filter, &world, holding);
                (slots, ids.len(), Withheld::Skipped)
            }
            Which::Page { after, limit } => {
                scope.keep_matching(filter, &world, holding);
                (page(holding, &scope.searchable(), after.as_ref()), *limit, Withheld::EndsThePage)
            }
        };
        let count = gate::count(self, &world, holding, &scope)?;
        let mut release = gate::in_order(self, &world, holding, &scope, slots.into_iter(), limit, withheld)?;
        self.add_vectors(&mut release, &world, holding, grant, listing.include);
        let frame = Frame::new(world.policy.version, holding, listing.include, Some(count));
        drop(world);
        self.disclose(trail, release, frame)
    }

    fn add_vectors<A: Asked>(
        &self,
        release: &mut Release,
        world: &World,
        holding: &Holding,
        grant: &Grant<A>,
        include: Include,
    ) {
        if include.vector {
            release.with_vectors(self, world, &holding.spec.name, grant);
        }
    }

    /// The entry first, durable; then the answer. Called without the world's lock: the writer needs it.
    fn disclose(&self, trail: Trail, release: Release, frame: Frame) -> Result<Disclosure, Refusal> {
        let mut id = [0; 16];
        self.entropy.fill(&mut id)?;
        let retrieval = RetrievalId(id);
        let receipt = self.journal.note(trail.released(retrieval, &release, frame.count))?;
        Ok(Disclosure::new(receipt, retrieval, release, frame))
    }
}

/// A read by id needs no permission but the one on the record itself, so its grant is not asked of Cedar beforehand.
#[derive(Debug, Clone)]
pub struct Reading(Grant<Read>);

impl Wardkeep {
    /// The start of a read: whether the record may be read is decided on the record.
    pub fn reading(
        &self,
        caller: &crate::authn::Caller,
        origin: &crate::authn::Origin,
        collection: CollectionName,
        purpose: Option<String>,
    ) -> Result<Reading, Refusal> {
        let circumstances = super::Circumstances::of(collection).purpose(purpose);
        if circumstances.purpose.as_ref().is_some_and(|p| !caller.may_claim(p)) {
            let trail = Trail::new(self, What::Refused, Some(caller), origin)
                .action(Action::Read)
                .circumstances(&circumstances)
                .denied("purpose_not_on_key");
            self.journal.note(trail)?;
            return Err(Refusal::Forbidden);
        }
        Ok(Reading(Grant::on_the_record(caller, origin, circumstances)))
    }
}

/// Refused before anything that is stored is looked at.
fn filter(world: &World, text: Option<&Phi<String>>, action: Action) -> Result<Option<Filter>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    let told = |faults: Vec<FilterFault>| Refusal::Invalid(faults.into_iter().map(Into::into).collect());
    world.policy.bundle.filter(text.reveal(), action).map(Some).map_err(told)
}

fn embedding(holding: &Holding, question: &Question) -> Result<Embedding, Refusal> {
    if let (Some(asked), Some(stored)) = (&question.model, &holding.spec.embedding_model)
        && asked != stored
    {
        return Err(Refusal::invalid(
            "model_mismatch",
            "the collection's vectors were made by another embedding model",
        ));
    }
    Embedding::new(question.vector.clone(), holding.spec.dimension, holding.spec.metric)
        .map_err(|error| Refusal::invalid("vector", error.to_string()))
}

/// Slots in order of their ids, from after `after`.
fn page(holding: &Holding, slots: &RoaringBitmap, after: Option<&RecordId>) -> Vec<Slot> {
    let mut rows: Vec<_> = slots
        .iter()
        .filter_map(|slot| Some((holding.row(Slot(slot))?.id.as_str(), Slot(slot))))
        .filter(|(id, _)| after.is_none_or(|last| *id > last.as_str()))
        .collect();
    rows.sort_unstable();
    rows.into_iter().map(|(_, slot)| slot).collect()
}
