//! The minimum necessary: which records of a ranking may be released together under the caps of the permits that grant them.
//!
//! A record is released if it and all released before it can be assigned to permits that grant them, each permit within its
//! `@max_records` and `@max_patients`. Without caps on patients this is a matching with capacities; with them it is NP-hard in general
//! (see `arrange`), and still decided exactly: first as things are (`ledger`), then along a line of moves, then by mending what is over
//! (`mend`), and by a complete search (`arrange`), which alone says no. Work is bounded, beyond what any sensible bundle needs; a record
//! that is undecided by then is withheld and counted as such.

mod arrange;
mod flow;
mod ledger;
mod mend;
mod set;
#[cfg(test)]
mod tests;
mod work;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    model::EntityUid,
    policy::{Caps, PolicyName},
};
use arrange::Answer;
use ledger::Ledger;
use work::Work;

/// Steps of searching for one answer, some hundredths of a microsecond each: a few tenths of a second.
const WORK: u64 = 8_000_000;
/// Steps for one record of it.
const WORK_PER_RECORD: u64 = 400_000;

/// Walks a ranking and says of each record whether it may be released with those before it.
pub(super) struct Allotment {
    names: Vec<PolicyName>,
    limits: Vec<Limit>,
    numbers: HashMap<PolicyName, usize>,
    patients: HashMap<EntityUid, usize>,
    ledger: Ledger,
    refused: Refused,
    work: Work,
    cut: Cut,
}

#[derive(Debug, Clone, Copy)]
struct Limit {
    records: Option<u64>,
    patients: Option<u64>,
}

/// Whose record it is, as far as caps on patients can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Nobodys,
    /// A patient of whom something was released.
    Known(usize),
    /// Any other: they are all alike.
    New,
}

/// Permits that were found to have no room. More is released all the time, so they never have any again. A record may be released if any
/// of its permits has room for it, so each is remembered by itself.
#[derive(Default)]
struct Refused {
    /// For anything.
    to_all: BTreeSet<usize>,
    /// For patients of whom nothing was released.
    to_new: BTreeSet<usize>,
    /// For patients of whom this was released: any other of whom the same was is in the same place.
    to_known: HashMap<usize, BTreeSet<Profile>>,
    /// Those of which it was not found out.
    undecided: BTreeSet<usize>,
}

/// What was released of one patient: how many records that which permits grant.
type Profile = Vec<(Vec<usize>, u64)>;

/// What a permit still has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// Nothing.
    None,
    /// Records of patients that it answers for already, and records of nobody.
    KnownPatients,
    /// Anything.
    Any,
}

/// What the caps of the permits withheld.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cut {
    /// Records that were permitted, and had no place beside those released before.
    pub(super) records: u64,
    /// Of these, the ones of which that was not proved within the work allowed.
    pub(super) undecided: u64,
    /// The permits that grant them, and were used up.
    pub(super) by: BTreeSet<PolicyName>,
}

impl Allotment {
    pub(super) fn new(caps: &Caps) -> Self {
        let names: Vec<PolicyName> = caps.permits.iter().map(|p| Arc::clone(&p.name)).collect();
        let limits: Vec<Limit> =
            caps.permits.iter().map(|p| Limit { records: p.max_records, patients: p.max_patients }).collect();
        Self {
            numbers: names.iter().cloned().enumerate().map(|(at, name)| (name, at)).collect(),
            ledger: Ledger::new(limits.clone()),
            names,
            limits,
            patients: HashMap::new(),
            refused: Refused::default(),
            work: Work::of(WORK),
            cut: Cut::default(),
        }
    }

    /// Whether the next record of the ranking, granted by `permits`, may be released.
    pub(super) fn admit(&mut self, permits: &[PolicyName], patient: Option<&EntityUid>) -> bool {
        let mut permits: Vec<usize> = permits.iter().filter_map(|name| self.numbers.get(name)).copied().collect();
        permits.sort_unstable();
        permits.dedup();
        if self.any(&permits, |limit| limit.records.is_none() && limit.patients.is_none()) {
            return true;
        }
        let patient = patient.filter(|_| self.any(&permits, |limit| limit.patients.is_some()));
        let whose = match patient {
            None => Whose::Nobodys,
            Some(uid) => self.patients.get(uid).map_or(Whose::New, |at| Whose::Known(*at)),
        };
        let admitted = self.make_room(&permits, whose);
        match patient {
            Some(uid) if admitted && whose == Whose::New => {
                self.patients.insert(uid.clone(), self.patients.len());
            }
            Some(_) | None => {}
        }
        if !admitted {
            self.withhold(&permits);
        }
        admitted
    }

    /// What a permit alone could still grant, now and so ever after.
    pub(super) fn room(&mut self, name: &PolicyName) -> Room {
        let Some(at) = self.numbers.get(name).copied() else { return Room::None };
        if !self.could_grant(at, Whose::Nobodys) {
            Room::None
        } else if !self.could_grant(at, Whose::New) {
            Room::KnownPatients
        } else {
            Room::Any
        }
    }

    /// The patients of whom something was released.
    pub(super) fn known_patients(&self) -> impl Iterator<Item = &EntityUid> {
        self.patients.keys()
    }

    /// How many records were withheld so far.
    pub(super) fn withheld(&self) -> u64 {
        self.cut.records
    }

    /// What was withheld.
    pub(super) fn into_cut(self) -> Cut {
        self.cut
    }

    fn any(&self, permits: &[usize], is: impl Fn(&Limit) -> bool) -> bool {
        permits.iter().filter_map(|at| self.limits.get(*at)).any(is)
    }

    fn withhold(&mut self, permits: &[usize]) {
        self.cut.records += 1;
        let doubtful = permits.iter().any(|at| self.refused.undecided.contains(at));
        self.cut.undecided += u64::from(doubtful && (self.work.is_spent() || !self.are_full(permits)));
        self.cut.by.extend(permits.iter().filter_map(|at| self.names.get(*at)).cloned());
    }

    /// Whether the caps on records alone leave these permits no room; so it stays, and is no matter of doubt any more.
    fn are_full(&mut self, permits: &[usize]) -> bool {
        let Some(full) = self.ledger.full(permits, &mut self.work) else { return false };
        self.refused.undecided.retain(|at| !full.contains(at));
        self.refused.to_all.extend(full);
        true
    }

    fn patient(&self, whose: Whose) -> Option<usize> {
        match whose {
            Whose::Nobodys => None,
            Whose::Known(at) => Some(at),
            Whose::New => Some(self.patients.len()),
        }
    }

    /// As things are, else along a line of moves, else by beginning afresh.
    fn make_room(&mut self, permits: &[usize], whose: Whose) -> bool {
        let mut open: Vec<usize> = permits.iter().copied().filter(|at| !self.refused.has(*at, whose)).collect();
        if open.is_empty() {
            return false;
        }
        let group = self.ledger.group(self.patient(whose), permits);
        if self.ledger.place(group, &open) {
            return true;
        }
        let profile = self.profile(whose);
        open.retain(|at| !self.refused.has_alike(*at, profile.as_ref()));
        if open.is_empty() {
            return false;
        }
        let counts_patients = self.limits.iter().any(|limit| limit.patients.is_some());
        if counts_patients && self.work.is_spent() {
            self.remember(&open, whose, profile, &Answer::Undecided);
            return false;
        }
        if self.ledger.shift(group, &open, &mut self.work) {
            return true;
        }
        if self.are_full(&open) {
            return false;
        }
        let answer = self.within_share(|ledger, work| ledger.rearrange(group, &open, work));
        self.remember(&open, whose, profile, &answer);
        matches!(answer, Answer::Yes(_))
    }

    /// Whether one record more of a patient or of nobody could be released under this permit alone.
    fn could_grant(&mut self, at: usize, whose: Whose) -> bool {
        if self.refused.has(at, whose) {
            return false;
        }
        let patient = self.patient(whose);
        if self.ledger.would_place(patient, at) {
            return true;
        }
        let answer = self.within_share(|ledger, work| ledger.could_rearrange(patient, &[at], work));
        self.remember(&[at], whose, None, &answer);
        matches!(answer, Answer::Yes(_))
    }

    fn within_share(&mut self, ask: impl FnOnce(&mut Ledger, &mut Work) -> Answer) -> Answer {
        let share = self.work.share(WORK_PER_RECORD);
        let mut left = share;
        let answer = ask(&mut self.ledger, &mut left);
        self.work.settle(share, left);
        answer
    }

    fn profile(&self, whose: Whose) -> Option<Profile> {
        match whose {
            Whose::Nobodys | Whose::New => None,
            Whose::Known(at) => Some(
                self.ledger.profile(at).into_iter().map(|(permits, records)| (permits.to_vec(), records)).collect(),
            ),
        }
    }

    fn remember(&mut self, open: &[usize], whose: Whose, profile: Option<Profile>, answer: &Answer) {
        match answer {
            Answer::Yes(_) => return,
            Answer::No => {}
            Answer::Undecided => self.refused.undecided.extend(open),
        }
        open.iter().for_each(|at| self.refused.note(*at, whose, profile.as_ref()));
    }
}

impl Refused {
    /// What has no room for nobody's records has none for a known patient's, and what has none for those has none for a new one's.
    fn has(&self, at: usize, whose: Whose) -> bool {
        self.to_all.contains(&at) || (whose == Whose::New && self.to_new.contains(&at))
    }

    fn has_alike(&self, at: usize, profile: Option<&Profile>) -> bool {
        profile.is_some_and(|profile| self.to_known.get(&at).is_some_and(|those| those.contains(profile)))
    }

    fn note(&mut self, at: usize, whose: Whose, profile: Option<&Profile>) {
        match whose {
            Whose::Nobodys => {
                self.to_all.insert(at);
            }
            Whose::New => {
                self.to_new.insert(at);
            }
            Whose::Known(_) => {
                self.to_known.entry(at).or_default().extend(profile.cloned());
            }
        }
    }
}

/// What bounds an answer before anything was found: a function of caller, policies and request alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// What was asked for.
    pub requested: usize,
    /// The most that may be released.
    pub applied: usize,
    /// What bounds it: `requested`, `limits.max_records`, or the ids of the permits whose caps sum up.
    pub bound_by: Vec<String>,
}

/// The least of requested, configured, and the sum of the caps of the permits that match the caller.
pub(super) fn bound(requested: usize, configured: usize, caps: &Caps) -> Bound {
    let sum = caps.permits.iter().try_fold(0_u64, |sum, p| p.max_records.map(|most| sum.saturating_add(most)));
    let sum = sum.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let applied = requested.min(configured).min(sum);
    let bound_by = if applied == requested {
        vec!["requested".to_owned()]
    } else if applied == configured {
        vec!["limits.max_records".to_owned()]
    } else {
        caps.permits.iter().map(|p| p.name.as_ref().to_owned()).collect()
    };
    Bound { requested, applied, bound_by }
}
