//! What past answers held, decided again: as both bundles see it on what is stored now, at the time and from the address of then.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
};

use roaring::RoaringBitmap;
use serde::Serialize;

use super::{
    Comparison,
    figures::Figures,
    present::role,
    side::{Opened, Question, Side, View},
};
use crate::{
    audit::{Entry, Outcome, What},
    clock::Instant,
    engine::{
        Circumstances, Refusal, Wardkeep,
        grant::{Grant, ReadAudit},
        world::World,
    },
    model::{Action, CollectionName, EntityUid, RecordId, limits},
};

/// Entries read at a time.
const STRIDE: usize = 4_096;
const DAY_SECONDS: i64 = 86_400;

/// Past answers under another bundle. What is counted in pairs is a record in an answer.
#[derive(Debug, Clone, Serialize)]
pub struct Past {
    /// How many days back.
    pub days: u32,
    /// Answers decided again.
    pub retrievals: u64,
    /// Older entries of those days that were not looked at.
    pub entries_omitted: u64,
    /// Records that they held (pairs).
    pub returned: u64,
    /// Of those: no longer stored, or not named in the log.
    pub gone: u64,
    /// Of those: returned under both.
    pub still: u64,
    /// Of those: returned under the old bundle and not under the new one.
    pub no_longer: u64,
    /// Of those: under neither, because something else has changed since.
    pub already_not: u64,
    /// Of those: under the new bundle alone.
    pub again: u64,
    /// Answers that would hold less.
    pub retrievals_cut: u64,
    /// Searches that would be refused as a whole.
    pub refused: u64,
    /// Searches that were refused then, are refused by the old bundle, and would be answered.
    pub answered: u64,
    /// Whose answers would hold less.
    pub callers: Vec<PastRow>,
    /// How many more there are.
    pub callers_omitted: u64,
    /// What cannot be said.
    pub unsaid: &'static str,
}

const UNSAID: &str = "what else a past search would return: the log keeps a keyed hash of each question, not the question; caps are not applied anew";

/// One caller's past answers that would hold less.
#[derive(Debug, Clone, Serialize)]
pub struct PastRow {
    /// Who.
    pub caller: EntityUid,
    /// Of which role now.
    pub role: Option<String>,
    /// How many answers.
    pub retrievals: u64,
    /// Records no longer in them (pairs).
    pub pairs: u64,
    /// Revision records.
    pub no_longer: Figures,
}

/// One past answer, or a search that was refused.
pub(super) struct Retrieval {
    caller: EntityUid,
    /// `Retrieve` or `Read`; `None` for a search that was refused.
    action: Option<Action>,
    /// Whether `Search` was asked first.
    searched: bool,
    collection: CollectionName,
    pub(super) purpose: Option<String>,
    patient: Option<EntityUid>,
    source: Option<IpAddr>,
    at: Instant,
    records: Vec<RecordId>,
    returned: u64,
}

impl Retrieval {
    fn of(entry: Entry) -> Option<Self> {
        let (action, searched) = match (entry.what, entry.outcome) {
            (What::Search, Outcome::Allowed) => (Some(Action::Retrieve), true),
            (What::List, Outcome::Allowed) => (Some(Action::Read), true),
            (What::Read, Outcome::Allowed) => (Some(Action::Read), false),
            (What::Refused, Outcome::Denied) if entry.action == Some(Action::Search) => (None, true),
            _ => return None,
        };
        Some(Self {
            caller: entry.caller?,
            action,
            searched,
            collection: entry.collection?,
            purpose: entry.purpose,
            patient: entry.patient,
            source: entry.source,
            at: entry.at,
            returned: entry.counts.returned.unwrap_or(0).max(entry.records.len() as u64),
            records: entry.records,
        })
    }
}

impl Wardkeep {
    /// The answers of the last days, and how many older entries of those days are beyond the bound. That the log is read is an entry.
    pub(super) fn retrievals(
        &self,
        grant: &Grant<ReadAudit>,
        now: Instant,
        days: u32,
    ) -> Result<(Vec<Retrieval>, u64), Refusal> {
        self.journal.note(grant.trail(self, What::ReadAudit).detail(format!("diff over {days} days")))?;
        let since = Instant::from_millis(now.millis().saturating_sub(i64::from(days) * DAY_SECONDS * 1_000));
        let size = self.journal.log().head().size;
        let first = self.first_since(since, size)?;
        let start = first.max(size.saturating_sub(limits::DIFF_ENTRIES as u64));
        let (mut at, mut found) = (start, Vec::new());
        while at < size {
            let read = self.entries(at, STRIDE)?;
            let Some((last, _)) = read.last() else { break };
            at = *last;
            found.extend(read.into_iter().filter_map(|(_, entry)| Retrieval::of(entry)));
        }
        Ok((found, start - first))
    }

    /// How many entries are before `since`: entries are in order of time.
    fn first_since(&self, since: Instant, size: u64) -> Result<u64, Refusal> {
        let (mut low, mut high) = (0, size);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entries(middle, 1)?.first() {
                Some((_, entry)) if entry.at < since => low = middle + 1,
                Some(_) | None => high = middle,
            }
        }
        Ok(low)
    }

    fn entries(&self, after: u64, limit: usize) -> Result<Vec<(u64, Entry)>, Refusal> {
        let lying = self.journal.log().page(after, limit);
        lying.entries().map_err(|error| {
            tracing::error!(%error, "the audit log cannot be read");
            Refusal::Damaged
        })
    }
}

/// What one caller loses.
#[derive(Default)]
struct Loss {
    retrievals: u64,
    pairs: u64,
    records: BTreeSet<(CollectionName, RecordId)>,
    patients: HashSet<EntityUid>,
}

/// Decides past answers again under both bundles.
pub(super) fn again(
    engine: &Wardkeep,
    sides: (&Side, &Side),
    retrievals: Vec<Retrieval>,
    entries_omitted: u64,
    comparison: &Comparison,
    step: &dyn Fn(u64),
) -> Result<Past, Refusal> {
    let mut past = Past {
        days: comparison.days.unwrap_or(0),
        retrievals: 0,
        entries_omitted,
        returned: 0,
        gone: 0,
        still: 0,
        no_longer: 0,
        already_not: 0,
        again: 0,
        retrievals_cut: 0,
        refused: 0,
        answered: 0,
        callers: Vec::new(),
        callers_omitted: 0,
        unsaid: UNSAID,
    };
    let mut losses: BTreeMap<EntityUid, Loss> = BTreeMap::new();
    let mut opened = Opened::default();
    let wanted = |r: &Retrieval| {
        comparison.callers.as_ref().is_none_or(|named| named.contains(&r.caller))
            && comparison.collections.as_ref().is_none_or(|named| named.contains(&r.collection))
    };
    for (done, retrieval) in retrievals.iter().enumerate() {
        if wanted(retrieval) {
            let world = engine.world.read();
            past.decide(engine, &world, sides, retrieval, &mut losses, &mut opened)?;
        }
        step(done as u64 + 1);
    }
    let world = engine.world.read();
    past.callers_omitted = (losses.len() as u64).saturating_sub(limits::DIFF_ROWS as u64);
    for (caller, loss) in losses.into_iter().take(limits::DIFF_ROWS) {
        let role = world.directory.get(&caller).map(|entity| role(entity));
        past.callers.push(loss.row(caller, role, comparison.samples));
    }
    Ok(past)
}

impl Loss {
    fn row(self, caller: EntityUid, role: Option<String>, samples: usize) -> PastRow {
        let no_longer = Figures {
            records: self.records.len() as u64,
            patients: self.patients.len() as u64,
            sample: self.records.into_iter().take(samples).map(|(_, id)| id).collect(),
        };
        PastRow { caller, role, retrievals: self.retrievals, pairs: self.pairs, no_longer }
    }
}

impl Past {
    fn decide(
        &mut self,
        engine: &Wardkeep,
        world: &World,
        (old, new): (&Side, &Side),
        retrieval: &Retrieval,
        losses: &mut BTreeMap<EntityUid, Loss>,
        opened: &mut Opened,
    ) -> Result<(), Refusal> {
        let name = &retrieval.collection;
        let patient = retrieval.patient.as_ref().map(|uid| uid.id.as_ref().to_owned());
        let circumstances = Circumstances::of(name.clone()).purpose(retrieval.purpose.clone()).patient(patient);
        let question = Question {
            caller: &retrieval.caller,
            circumstances: &circumstances,
            now: retrieval.at,
            address: retrieval.source,
        };
        let may = |side: &Side| match retrieval.searched {
            true => side.may_ask(world, name, &question),
            false => Ok(true),
        };
        let (may_old, may_new) = (may(old)?, may(new)?);
        let Some(action) = retrieval.action else {
            self.answered += u64::from(!may_old && may_new);
            return Ok(());
        };
        self.retrievals += 1;
        self.returned += retrieval.returned;
        self.refused += u64::from(may_old && !may_new);
        let Some(holding) = world.holding(name) else {
            self.gone += retrieval.returned;
            return Ok(());
        };
        let slots: RoaringBitmap =
            retrieval.records.iter().filter_map(|id| holding.find(id)).map(|(slot, _)| slot.0).collect();
        let view = View { engine, world, holding };
        let mut see = |side: &Side, may: bool| match may {
            true => side.visible(view, &question, action, Some(&slots), opened),
            false => Ok(RoaringBitmap::new()),
        };
        let (before, after) = (see(old, may_old)?, see(new, may_new)?);
        let lost = &before - &after;
        self.gone += retrieval.returned - slots.len();
        self.still += before.intersection_len(&after);
        self.no_longer += lost.len();
        self.again += (&after - &before).len();
        self.already_not += slots.len() - before.union_len(&after);
        if !lost.is_empty() {
            self.retrievals_cut += 1;
            let loss = losses.entry(retrieval.caller.clone()).or_default();
            loss.retrievals += 1;
            loss.pairs += lost.len();
            for row in lost.iter().filter_map(|slot| holding.row(crate::model::Slot(slot))) {
                loss.records.insert((name.clone(), row.id.clone()));
                loss.patients.extend(row.patient.clone());
            }
        }
        Ok(())
    }
}
