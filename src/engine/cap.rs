//! The minimum necessary: which records of a ranking may be released together under the caps of the permits that grant them.
//!
//! A record is released if it and all released before it can be assigned to permits that grant them, each permit within its
//! `@max_records` and `@max_patients`. Without caps on patients this is a matching with capacities, decided exactly and fast;
//! with them it is a search, bounded by a budget beyond which the record is withheld: never more than the caps allow.

use std::collections::{BTreeMap, BTreeSet, HashMap};

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
    patients: HashMap<EntityUid, usize>,
}

#[derive(Clone, Copy)]
struct Limit {
    records: Option<u64>,
    patients: Option<u64>,
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

impl Allotment {
    pub(super) fn new(caps: &Caps) -> Self {
        let caps = caps
            .permits
            .iter()
            .map(|p| (p.name.clone(), Limit { records: p.max_records, patients: p.max_patients }))
            .collect();
        Self { caps, released: Vec::new(), patients: HashMap::new() }
    }

    /// Whether the next record of the ranking, granted by `permits`, may be released.
    pub(super) fn admit(&mut self, permits: &[PolicyName], patient: Option<&EntityUid>) -> bool {
        let unbounded =
            |name: &PolicyName| self.caps.get(name).is_some_and(|l| l.records.is_none() && l.patients.is_none());
        if permits.iter().any(unbounded) {
            return true;
        }
        let known = permits.iter().filter(|name| self.caps.contains_key(*name));
        let permits: Vec<PolicyName> = known.cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let patient = patient.map(|uid| {
            let next = self.patients.len();
            *self.patients.entry(uid.clone()).or_insert(next)
        });
        let mut claims = self.released.clone();
        let mut budget = SEARCH_BUDGET;
        let mut loads = loads(&claims);
        let admitted = self.place(&mut claims, &mut loads, &permits, patient, &mut BTreeSet::new(), &mut budget)
            || self.search(&mut claims, &permits, patient, &mut budget);
        if admitted {
            self.released = claims;
        }
        admitted
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
