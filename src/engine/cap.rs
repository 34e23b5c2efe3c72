//! The minimum necessary: which records of a ranking may be released together under the caps of the permits that grant them.
//!
//! A record is released if it and all released before it can be assigned to permits that grant them, each permit within its
//! `@max_records` and `@max_patients`. Without caps on patients this is a matching with capacities, decided exactly and fast;
//! with them it is a search, bounded by a budget beyond which the record is withheld: never more than the caps allow.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::{
    model::EntityUid,
    policy::{Caps, PolicyName},
};

/// Assignments tried for one record before it is withheld.
const SEARCH_BUDGET: usize = 20_000;

/// Walks a ranking and says of each record whether it may be released with those before it.
pub(super) struct Allotment {
    caps: BTreeMap<PolicyName, Limit>,
    released: Vec<Claim>,
    loads: BTreeMap<PolicyName, Load>,
    patients: HashMap<EntityUid, usize>,
    /// What was refused once: more is released all the time, so it is refused for good.
    refused: HashSet<(Vec<PolicyName>, Whose)>,
}

#[derive(Clone, Copy)]
struct Limit {
    records: Option<u64>,
    patients: Option<u64>,
}

/// Whose record it is, as far as caps on patients can tell.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Whose {
    Nobodys,
    /// A patient of whom something was released.
    Known(usize),
    /// Any other: they are all alike.
    New,
}

/// A released record that some capped permit must answer for.
#[derive(Clone)]
struct Claim {
    permits: Vec<PolicyName>,
    patient: Option<usize>,
    assigned: PolicyName,
}

/// What one permit answers for so far.
#[derive(Default, Clone)]
struct Load {
    records: u64,
    patients: BTreeMap<usize, u64>,
}

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

impl Allotment {
    pub(super) fn new(caps: &Caps) -> Self {
        let caps = caps
            .permits
            .iter()
            .map(|p| (p.name.clone(), Limit { records: p.max_records, patients: p.max_patients }))
            .collect();
        Self { caps, released: Vec::new(), loads: BTreeMap::new(), patients: HashMap::new(), refused: HashSet::new() }
    }

    /// Whether the next record of the ranking, granted by `permits`, may be released.
    pub(super) fn admit(&mut self, permits: &[PolicyName], patient: Option<&EntityUid>) -> bool {
        if permits.iter().any(|name| self.caps.get(name).is_some_and(|l| l.records.is_none() && l.patients.is_none())) {
            return true;
        }
        let known = permits.iter().filter(|name| self.caps.contains_key(*name));
        let permits: Vec<PolicyName> = known.cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let whose = match patient {
            None => Whose::Nobodys,
            Some(uid) => self.patients.get(uid).map_or(Whose::New, |at| Whose::Known(*at)),
        };
        let admitted = self.make_room(&permits, whose);
        if let (true, Whose::New, Some(uid)) = (admitted, whose, patient) {
            self.patients.insert(uid.clone(), self.patients.len());
        }
        admitted
    }

    /// What a permit alone could still grant, now and so ever after.
    pub(super) fn room(&self, name: &PolicyName) -> Room {
        let alone = std::slice::from_ref(name);
        if self.rearranged(alone, None).is_none() {
            Room::None
        } else if self.rearranged(alone, Some(self.patients.len())).is_none() {
            Room::KnownPatients
        } else {
            Room::Any
        }
    }

    /// The patients of whom something was released.
    pub(super) fn known_patients(&self) -> impl Iterator<Item = &EntityUid> {
        self.patients.keys()
    }

    fn make_room(&mut self, permits: &[PolicyName], whose: Whose) -> bool {
        let patient = match whose {
            Whose::Nobodys => None,
            Whose::Known(at) => Some(at),
            Whose::New => Some(self.patients.len()),
        };
        if let Some(name) = permits.iter().find(|name| self.fits(name, self.loads.get(*name), patient)) {
            add(&mut self.loads, name, patient);
            self.released.push(Claim { permits: permits.to_vec(), patient, assigned: name.clone() });
            return true;
        }
        let counts_patients = self.caps.values().any(|limit| limit.patients.is_some());
        let key = (permits.to_vec(), if counts_patients { whose } else { Whose::Nobodys });
        if self.refused.contains(&key) {
            return false;
        }
        match self.rearranged(permits, patient) {
            Some(claims) => {
                self.loads = loads(&claims);
                self.released = claims;
                true
            }
            None => {
                self.refused.insert(key);
                false
            }
        }
    }

    /// Everything released and one claim more, assigned together; `None` if that cannot be, or is not found within the budget.
    fn rearranged(&self, permits: &[PolicyName], patient: Option<usize>) -> Option<Vec<Claim>> {
        let (mut claims, mut loads, mut budget) = (self.released.clone(), self.loads.clone(), SEARCH_BUDGET);
        let placed = self.place(&mut claims, &mut loads, permits, patient, &mut BTreeSet::new(), &mut budget)
            || self.search(&mut claims, permits, patient, &mut budget);
        placed.then_some(claims)
    }

    /// Places one claim, moving earlier ones out of its way along an augmenting path.
    fn place(
        &self,
        claims: &mut Vec<Claim>,
        loads: &mut BTreeMap<PolicyName, Load>,
        permits: &[PolicyName],
        patient: Option<usize>,
        visited: &mut BTreeSet<PolicyName>,
        budget: &mut usize,
    ) -> bool {
        for name in permits {
            if self.fits(name, loads.get(name), patient) {
                add(loads, name, patient);
                claims.push(Claim { permits: permits.to_vec(), patient, assigned: name.clone() });
                return true;
            }
        }
        for name in permits {
            if !visited.insert(name.clone()) {
                continue;
            }
            for at in 0..claims.len() {
                if *budget == 0 {
                    return false;
                }
                *budget -= 1;
                let Some(other) = claims.get(at).filter(|c| c.assigned == *name).cloned() else { continue };
                let mut trial_claims = claims.clone();
                let mut trial_loads = loads.clone();
                trial_claims.remove(at);
                remove(&mut trial_loads, name, other.patient);
                if !self.fits(name, trial_loads.get(name), patient) {
                    continue;
                }
                add(&mut trial_loads, name, patient);
                trial_claims.push(Claim { permits: permits.to_vec(), patient, assigned: name.clone() });
                if self.place(&mut trial_claims, &mut trial_loads, &other.permits, other.patient, visited, budget) {
                    *claims = trial_claims;
                    *loads = trial_loads;
                    return true;
                }
            }
        }
        false
    }

    /// Where patients are capped an augmenting path is not enough: several records of one patient may have to move together.
    fn search(
        &self,
        claims: &mut Vec<Claim>,
        permits: &[PolicyName],
        patient: Option<usize>,
        budget: &mut usize,
    ) -> bool {
        let patients_capped = |name: &PolicyName| self.caps.get(name).is_some_and(|l| l.patients.is_some());
        let any_capped =
            permits.iter().any(patients_capped) || claims.iter().any(|c| c.permits.iter().any(patients_capped));
        let Some(first) = permits.first().filter(|_| any_capped) else { return false };
        let mut all = claims.clone();
        all.push(Claim { permits: permits.to_vec(), patient, assigned: first.clone() });
        // The least movable first: fewer dead ends.
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by_key(|&i| all.get(i).map_or(0, |c| c.permits.len()));
        if self.assign(&mut all, &order, &mut BTreeMap::new(), budget) {
            *claims = all;
            return true;
        }
        false
    }

    fn assign(
        &self,
        all: &mut [Claim],
        order: &[usize],
        loads: &mut BTreeMap<PolicyName, Load>,
        budget: &mut usize,
    ) -> bool {
        let Some((&at, rest)) = order.split_first() else { return true };
        let Some(claim) = all.get(at).cloned() else { return false };
        for name in &claim.permits {
            if *budget == 0 {
                return false;
            }
            *budget -= 1;
            if !self.fits(name, loads.get(name), claim.patient) {
                continue;
            }
            add(loads, name, claim.patient);
            if let Some(place) = all.get_mut(at) {
                place.assigned = name.clone();
            }
            if self.assign(all, rest, loads, budget) {
                return true;
            }
            remove(loads, name, claim.patient);
        }
        false
    }

    fn fits(&self, name: &PolicyName, load: Option<&Load>, patient: Option<usize>) -> bool {
        let Some(limit) = self.caps.get(name) else { return false };
        let empty = Load::default();
        let load = load.unwrap_or(&empty);
        let more_records = limit.records.is_none_or(|most| load.records < most);
        let more_patients = match patient {
            None => true,
            Some(p) => {
                load.patients.contains_key(&p) || limit.patients.is_none_or(|most| (load.patients.len() as u64) < most)
            }
        };
        more_records && more_patients
    }
}

fn loads(claims: &[Claim]) -> BTreeMap<PolicyName, Load> {
    let mut loads = BTreeMap::new();
    claims.iter().for_each(|claim| add(&mut loads, &claim.assigned, claim.patient));
    loads
}

fn add(loads: &mut BTreeMap<PolicyName, Load>, name: &PolicyName, patient: Option<usize>) {
    let load = loads.entry(name.clone()).or_default();
    load.records += 1;
    if let Some(p) = patient {
        *load.patients.entry(p).or_default() += 1;
    }
}

fn remove(loads: &mut BTreeMap<PolicyName, Load>, name: &PolicyName, patient: Option<usize>) {
    let Some(load) = loads.get_mut(name) else { return };
    load.records = load.records.saturating_sub(1);
    if let Some(count) = patient.and_then(|p| load.patients.get_mut(&p)) {
        *count -= 1;
    }
    load.patients.retain(|_, count| *count > 0);
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
