//! Where scope meets index. A `Scope` says what a caller may see; a `Release` is what was decided again, record by record, on what is
//! stored now. Neither can be made anywhere else, and nothing else reads a record's content.

use std::collections::HashSet;

use parking_lot::Mutex;
use roaring::RoaringBitmap;

use super::{
    Refusal, Wardkeep,
    cap::{self, Allotment, Bound, Cut, Room},
    grant::{Asked, Grant, deny_code},
    world::{Holding, World},
};
use crate::{
    model::{Action, CollectionName, Embedding, Entity, EntityUid, Record, RecordId, Slot},
    policy::{Caps, Filter, Inquiry, InquiryError, PolicyName, Rows, Verdict},
    store::StoreError,
};

/// First round of candidates beyond the limit; each later round asks for four times as many.
const ROUND_GROWTH: usize = 4;

/// Candidates of one round, most.
const ROUND_MAX: usize = 4_096;

/// What one caller may see of one collection, under one bundle, for one request.
pub struct Scope {
    /// `None` where the schema never lets this type of caller do this: the sets are empty then.
    inquiry: Option<Inquiry>,
    caps: Caps,
    /// Certainly allowed, and live.
    allowed: RoaringBitmap,
    /// To be asked of Cedar when reached.
    ask: RoaringBitmap,
    /// What each permit may grant, if all of them carry caps: what is used up need not be searched any more.
    capped: Option<Vec<(PolicyName, RoaringBitmap)>>,
    /// What the client wants of it: asked again of every record that is about to be released.
    filter: Option<Filter>,
}

/// One record on its way out.
pub struct Released {
    pub(super) record: Record,
    pub(super) score: Option<f32>,
    pub(super) permits: Vec<PolicyName>,
    pub(super) patient: Option<EntityUid>,
    pub(super) vector: bool,
}

/// Records that Cedar allowed one by one, within the caps. Not yet audited, so not yet disclosed.
pub struct Release {
    pub(super) records: Vec<Released>,
    pub(super) bound: Bound,
    /// How many the scope held (certain ones, and ones to ask).
    pub(super) permitted: u64,
    /// How many were decided one by one.
    pub(super) decided: u64,
    /// What was allowed but withheld by caps.
    pub(super) cut: Cut,
    /// How many the plan allowed and the full decision refused: an alarm.
    pub(super) disagreements: u64,
}

impl Scope {
    /// Plans what `grant`'s caller may do `action` on, narrowed to a patient where the request names one.
    pub(super) fn plan<A: Asked>(
        engine: &Wardkeep,
        world: &World,
        holding: &Holding,
        grant: &Grant<A>,
        action: Action,
    ) -> Result<Self, Refusal> {
        let Some(inquiry) = inquiry(engine, world, grant, action)? else { return Ok(Self::nothing()) };
        let bundle = &world.policy.bundle;
        let planned = bundle.plan(&inquiry, &holding.columns, &world.directory);
        let caps = bundle.caps(&inquiry, &world.directory);
        let (mut allowed, mut ask) = (planned.allowed.clone(), planned.ask.clone());
        let capped = planned.all_capped.then(|| planned.capped.clone());
        for set in [&mut allowed, &mut ask] {
            *set &= holding.index.live();
            *set -= &holding.invalid;
        }
        if grant.circumstances.patient.is_some() {
            // Asked of the world as it is now; a type that the schema does not have has no records.
            let named = world.named_patient(&grant.circumstances);
            let rows = named.map(|uid| holding.of_patient(&uid)).unwrap_or_default();
            allowed &= &rows;
            ask &= &rows;
        }
        Ok(Self { inquiry: Some(inquiry), caps, allowed, ask, capped, filter: None })
    }

    fn nothing() -> Self {
        let (allowed, ask) = (RoaringBitmap::new(), RoaringBitmap::new());
        Self { inquiry: None, caps: Caps::default(), allowed, ask, capped: None, filter: None }
    }

    /// Leaves only `rows`.
    pub(super) fn narrow(&mut self, rows: &RoaringBitmap) {
        self.allowed &= rows;
        self.ask &= rows;
    }

    /// Leaves what a filter matches. It is put to nothing but what is there.
    pub(super) fn keep_matching(&mut self, filter: Option<Filter>, world: &World, holding: &Holding) {
        if let (Some(filter), Some(inquiry)) = (&filter, &self.inquiry) {
            let name = |slot| holding.row(slot).map(|row| EntityUid::record(&holding.spec.name, &row.id));
            let rows = Rows { columns: &holding.columns, directory: &world.directory, name: &name };
            let matching = filter.bind(inquiry, &rows, &self.searchable());
            self.narrow(&matching.slots);
        }
        self.filter = filter;
    }

    pub(super) fn searchable(&self) -> RoaringBitmap {
        &self.allowed | &self.ask
    }
}

/// What Cedar will be asked for `grant`'s caller, whatever is stored: `None` where the schema never lets this type of caller do this,
/// a fault where it needs more than the request says.
pub(super) fn inquiry<A: Asked>(
    engine: &Wardkeep,
    world: &World,
    grant: &Grant<A>,
    action: Action,
) -> Result<Option<Inquiry>, Refusal> {
    let offered = grant.circumstances.offered(engine.clock.now(), &grant.origin, world, action);
    match world.inquiry(grant.caller.uid(), action, offered) {
        Ok(inquiry) => Ok(Some(inquiry)),
        Err(InquiryError::Principal(_)) => Ok(None),
        Err(error @ (InquiryError::Missing(_) | InquiryError::Type(_))) => {
            Err(Refusal::invalid("context", error.to_string()))
        }
    }
}

/// The nearest records that `scope` holds, decided one by one, walked from the nearest until the limit or the end.
pub(super) fn nearest(
    engine: &Wardkeep,
    world: &World,
    holding: &Holding,
    scope: &Scope,
    query: &Embedding,
    requested: usize,
) -> Result<Release, Refusal> {
    let mut walk = Walk { query: Some(query), ..Walk::new(engine, world, holding, scope, requested) };
    let mut searchable = scope.searchable();
    let tie = |a, b| holding.by_id(a, b);
    let mut wanted = walk.release.bound.applied;
    while !walk.full() {
        // Among records that are yet to be decided are some that the caller may not see: they must not choose by their number which codes
        // are read, or how many candidates are kept. The scan of every vector has no such choice.
        let opened = Opened::default();
        let source = |slot| opened.vector(|| stored_vector(engine, holding, slot));
        let found = if scope.ask.is_empty() {
            holding.index.search_from(Some(&source), query, &searchable, wanted, &tie)
        } else {
            holding.index.scan_from(Some(&source), query, &searchable, wanted, &tie)
        };
        opened.failure.into_inner().map_or(Ok(()), Err)?;
        engine.graphs.count(found.path);
        let more: Vec<_> = found.hits.iter().map(|hit| (hit.slot, Some(hit.score))).collect();
        walk.offer(&more)?;
        if found.hits.len() < wanted || walk.full() {
            break;
        }
        // What was looked at is done with, and so is what only used-up permits may grant.
        searchable -= found.hits.iter().map(|hit| hit.slot.0).collect::<RoaringBitmap>();
        walk.narrow(&mut searchable);
        wanted = wanted.saturating_mul(ROUND_GROWTH).min(ROUND_MAX);
    }
    let mut release = walk.into_release();
    // a record that is being replaced may have been ranked as it was, and opened as it is
    release.records.sort_by(nearer);
    Ok(release)
}

fn nearer(a: &Released, b: &Released) -> std::cmp::Ordering {
    let score = |released: &Released| released.score.unwrap_or(f32::NEG_INFINITY);
    score(b).total_cmp(&score(a)).then_with(|| a.record.id.cmp(&b.record.id))
}

/// Vectors that memory does not hold, opened as they are stored now.
#[derive(Default)]
struct Opened {
    /// Why one could not be opened: then there is no answer at all, rather than one without it.
    failure: Mutex<Option<StoreError>>,
}

impl Opened {
    /// Nothing more once one could not be opened: without it every row seems near enough to be asked for.
    fn vector(&self, open: impl FnOnce() -> Result<Option<Embedding>, StoreError>) -> Option<Embedding> {
        if self.failure.lock().is_some() {
            return None;
        }
        open().unwrap_or_else(|error| {
            self.failure.lock().get_or_insert(error);
            None
        })
    }
}

fn stored_vector(engine: &Wardkeep, holding: &Holding, slot: Slot) -> Result<Option<Embedding>, StoreError> {
    holding.row(slot).map_or(Ok(None), |row| engine.store.vector(&holding.spec.name, &row.id))
}

/// What follows a record that the caps withhold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Withheld {
    /// What the caps still leave room for.
    Skipped,
    /// Nothing: whoever goes on from the last record of a page must find this one there. The first record of a page fits any cap.
    EndsThePage,
}

/// The records of `slots` in that order, decided one by one, until the limit or the end.
pub(super) fn in_order(
    engine: &Wardkeep,
    world: &World,
    holding: &Holding,
    scope: &Scope,
    slots: impl Iterator<Item = Slot>,
    requested: usize,
    withheld: Withheld,
) -> Result<Release, Refusal> {
    let mut walk = Walk { withheld, ..Walk::new(engine, world, holding, scope, requested) };
    let mut slots =
        slots.filter(|s| scope.allowed.contains(s.0) || scope.ask.contains(s.0)).map(|s| (s, None)).peekable();
    while !walk.full() && slots.peek().is_some() {
        let round: Vec<_> = slots.by_ref().take(walk.room()).collect();
        walk.offer(&round)?;
    }
    Ok(walk.into_release())
}

/// How many records of `scope` the caller may see: the certain ones, and of the others those that Cedar allows.
pub(super) fn count(engine: &Wardkeep, world: &World, holding: &Holding, scope: &Scope) -> Result<u64, Refusal> {
    let mut count = scope.allowed.len();
    let Some(inquiry) = &scope.inquiry else { return Ok(0) };
    let name = &holding.spec.name;
    for slot in &scope.ask {
        let Some(row) = holding.row(Slot(slot)) else { continue };
        let Some(stored) = engine.store.record(name, &row.id)? else { continue };
        let verdict = world.policy.bundle.decide(inquiry, &stored.record.entity(name), &world.directory);
        count += u64::from(matches!(verdict, Verdict::Allow { .. }));
    }
    Ok(count)
}

struct Walk<'a> {
    engine: &'a Wardkeep,
    world: &'a World,
    holding: &'a Holding,
    scope: &'a Scope,
    /// What records are scored against.
    query: Option<&'a Embedding>,
    allotment: Allotment,
    seen: HashSet<Slot>,
    withheld: Withheld,
    release: Release,
}

impl<'a> Walk<'a> {
    fn new(engine: &'a Wardkeep, world: &'a World, holding: &'a Holding, scope: &'a Scope, requested: usize) -> Self {
        let bound = cap::bound(requested, engine.limits.max_records, &scope.caps);
        let release = Release {
            records: Vec::new(),
            bound,
            permitted: scope.allowed.len() + scope.ask.len(),
            decided: 0,
            cut: Cut::default(),
            disagreements: 0,
        };
        let (allotment, withheld) = (Allotment::new(&scope.caps), Withheld::Skipped);
        Self { engine, world, holding, scope, query: None, allotment, seen: HashSet::new(), withheld, release }
    }

    fn into_release(self) -> Release {
        let cut = self.allotment.into_cut();
        if cut.undecided > 0 {
            tracing::warn!(records = cut.undecided, "withheld: the search for a place within the caps ended undecided");
        }
        Release { cut, ..self.release }
    }

    fn room(&self) -> usize {
        self.release.bound.applied.saturating_sub(self.release.records.len())
    }

    fn full(&self) -> bool {
        self.room() == 0 || (self.withheld == Withheld::EndsThePage && self.allotment.withheld() > 0)
    }

    /// Takes candidates in order: opens them, decides them in full, releases what the caps leave room for.
    fn offer(&mut self, candidates: &[(Slot, Option<f32>)]) -> Result<(), Refusal> {
        let fresh: Vec<_> = candidates.iter().copied().filter(|(slot, _)| self.seen.insert(*slot)).collect();
        let Some(inquiry) = &self.scope.inquiry else { return Ok(()) };
        let mut rest = fresh.as_slice();
        while !self.full() && !rest.is_empty() {
            let (round, later) = rest.split_at(self.room().min(rest.len()));
            rest = later;
            let opened = self.open(round)?;
            let entities: Vec<_> = opened.iter().map(|(_, _, record)| record.entity(self.name())).collect();
            let verdicts = self.world.policy.bundle.decide_many(inquiry, &entities, &self.world.directory);
            let wanted = self.wanted(inquiry, &entities);
            for (((slot, score, record), verdict), wanted) in opened.into_iter().zip(verdicts).zip(wanted) {
                if wanted {
                    self.take(slot, score, record, verdict);
                }
            }
        }
        Ok(())
    }

    /// Whether each record, as it is stored now, is one that the filter matches: it may have been written since the plan.
    fn wanted(&self, inquiry: &Inquiry, records: &[Entity]) -> Vec<bool> {
        match &self.scope.filter {
            None => vec![true; records.len()],
            Some(filter) => filter.matches_each(inquiry, records, &self.world.directory),
        }
    }

    /// Reads what is stored now; what was erased since the plan is not there any more. What was replaced is, before memory knows of it: so a
    /// record's score is that of the vector that came with its text, and what it was ranked by only brought it here.
    fn open(&self, round: &[(Slot, Option<f32>)]) -> Result<Vec<(Slot, Option<f32>, Record)>, Refusal> {
        let mut opened = Vec::with_capacity(round.len());
        for (slot, score) in round {
            let Some(row) = self.holding.row(*slot) else { continue };
            if let Some(stored) = self.engine.store.record(self.name(), &row.id)? {
                let score =
                    self.query.map_or(*score, |query| self.holding.index.score(query, &stored.record.embedding));
                opened.push((*slot, score, stored.record));
            }
        }
        Ok(opened)
    }

    fn take(&mut self, slot: Slot, score: Option<f32>, record: Record, verdict: Verdict) {
        self.release.decided += 1;
        let permits = match verdict {
            Verdict::Allow { permits } => permits,
            Verdict::Deny(reason) => {
                if self.scope.allowed.contains(slot.0) {
                    self.release.disagreements += 1;
                    tracing::error!(
                        reason = deny_code(&reason),
                        "the plan allowed a record that the full decision refuses"
                    );
                }
                return;
            }
        };
        let patient = record.patient(&self.holding.spec.subject_attribute).cloned();
        if self.full() || !self.allotment.admit(&permits, patient.as_ref()) {
            return;
        }
        self.release.records.push(Released { record, score, permits, patient, vector: false });
    }

    /// Leaves of what is to be searched what some permit still has room for.
    fn narrow(&mut self, searchable: &mut RoaringBitmap) {
        let Some(capped) = &self.scope.capped else { return };
        let mut open = RoaringBitmap::new();
        for (name, may_grant) in capped {
            match self.allotment.room(name) {
                Room::None => {}
                Room::Any => open |= may_grant,
                Room::KnownPatients => self.add_known_or_nobodys(may_grant, &mut open),
            }
        }
        *searchable &= open;
    }

    /// Each set is cut down to what may be granted before it is taken: no set of rows that may not is copied.
    fn add_known_or_nobodys(&self, may_grant: &RoaringBitmap, open: &mut RoaringBitmap) {
        *open |= may_grant & self.holding.of_nobody();
        self.allotment.known_patients().for_each(|patient| *open |= may_grant & &self.holding.of_patient(patient));
    }

    fn name(&self) -> &CollectionName {
        &self.holding.spec.name
    }
}

impl Release {
    /// Ids of what is released, in order.
    pub(super) fn ids(&self) -> Vec<RecordId> {
        self.records.iter().map(|r| r.record.id.clone()).collect()
    }

    /// Marks the records whose vectors the caller may have too (`ReadVector`), decided one by one.
    pub(super) fn with_vectors<A: Asked>(
        &mut self,
        engine: &Wardkeep,
        world: &World,
        collection: &CollectionName,
        grant: &Grant<A>,
    ) {
        let Ok(Some(inquiry)) = inquiry(engine, world, grant, Action::ReadVector) else { return };
        let entities: Vec<_> = self.records.iter().map(|r| r.record.entity(collection)).collect();
        let verdicts = world.policy.bundle.decide_many(&inquiry, &entities, &world.directory);
        for (released, verdict) in self.records.iter_mut().zip(verdicts) {
            released.vector = matches!(verdict, Verdict::Allow { .. });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::{
        index::VectorIndex,
        model::{Isolation, Metric},
    };

    #[test]
    fn of_a_store_that_fails_one_vector_is_opened_and_no_more() {
        let vector = |n: usize| {
            let components = (0..64).map(|i| ((i * 7 + 3) * (n + 11) % 13) as f32 - 6.0).collect();
            Embedding::new(components, 64, Metric::Dot).unwrap()
        };
        let mut index = VectorIndex::lean(64, Metric::Dot, Isolation::Strict);
        let encoder = index.encoder();
        (0..4_000).for_each(|n| _ = index.push(&encoder.encode(vector(n))));
        let all = index.live().clone();
        let tie = |a: Slot, b: Slot| a.cmp(&b);
        for search in [VectorIndex::search_from, VectorIndex::scan_from] {
            let (opened, asked) = (Opened::default(), AtomicU64::new(0));
            let open = || {
                asked.fetch_add(1, Ordering::Relaxed);
                Err(StoreError::Halted)
            };
            let source = |_: Slot| opened.vector(open);
            let found = search(&index, Some(&source), &vector(5), &all, 10, &tie);
            assert_eq!((found.hits.len(), asked.into_inner()), (0, 1));
            assert!(opened.failure.into_inner().is_some());
        }
    }
}
