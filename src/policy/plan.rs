//! For every record of a collection at once: certainly allowed, to be asked, or denied. Each policy is bound as an algebra of
//! three outcomes (true, false, bad: it errs or looks at something missing) over bitmaps of slots; what a bitmap cannot say is
//! in all three, and so ends in `ask`.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use roaring::RoaringBitmap;

#[cfg(test)]
use super::agreement::{Mutant, planted};
use super::{
    Bundle, Columns, Directory, Inquiry, PolicyName, Scope,
    bind::Binder,
    bits::{Bits, Tri},
    compile::{Constraint, Policy},
    decide::Session,
    derived::Ground,
    scopes::Key,
    slices::Matched,
    world::World,
};
use crate::model::{Entity, EntityUid};

/// The plan of one request, or the one that was made of the same before. What depends on the time is never the same.
pub(super) fn plan(bundle: &Bundle, inquiry: &Inquiry, columns: &Columns, directory: &Directory) -> Arc<Scope> {
    let reads = bundle.slices.reads(inquiry.action());
    if reads.holds("now") {
        return Arc::new(bind(bundle, inquiry, columns, directory));
    }
    let now = Ground { bundle, columns, directory }.moment();
    let key = Key::new(bundle.digest, inquiry, reads.of(inquiry.context()));
    if let Some(scope) = columns.scopes.lock().find(now, &key) {
        return scope;
    }
    let scope = Arc::new(bind(bundle, inquiry, columns, directory));
    columns.scopes.lock().keep(now, key, &scope);
    scope
}

/// A caller whose entity is not stored sees nothing.
fn bind(bundle: &Bundle, inquiry: &Inquiry, columns: &Columns, directory: &Directory) -> Scope {
    let plain = bundle.is_plain().then(|| Entity::bare(inquiry.principal().clone()));
    let Some(principal) = directory.get(inquiry.principal()).map(AsRef::as_ref).or(plain.as_ref()) else {
        return Scope::default();
    };
    let (ancestors, whole) = World { bundle, inquiry, directory, resource: principal }.lineage(principal);
    let Matched { certain, undecided } =
        bundle.slices.matched(&bundle.policies, inquiry.action(), principal, (&ancestors, whole));
    let Some(slice) = bundle.slices.slice(&bundle.policies, inquiry.action(), certain) else { return Scope::default() };
    let ground = Ground { bundle, columns, directory };
    let session = Session { bundle, inquiry, directory, slice: slice.clone(), undecided: vec![] };
    // stands for the resource where there is none; no record has this name
    let blank = Entity::bare(EntityUid::new("Record", "\u{0}"));
    let mut needed = HashSet::new();
    session.survey(&slice.sites, &blank, &mut needed);
    let looked_at = session.looked_at(&slice.sites, &blank);
    let entities = session.entities(std::slice::from_ref(&blank), &needed, &slice.names, true);
    let request = super::convert::uid(&blank.uid).and_then(|uid| inquiry.request(uid));
    let (Some(entities), Some(request)) = (entities, request) else {
        return Scope { ask: columns.live().clone(), ..Scope::default() };
    };
    let evaluations = Cell::new(0);
    let binder = Binder {
        ground,
        session: &session,
        blank: &blank,
        request: &request,
        entities: &entities,
        evaluations: &evaluations,
        bounds: None,
    };
    let policy = |at: &usize| bundle.policies.get(*at);
    let (permits, forbids): (Vec<&Policy>, Vec<&Policy>) =
        slice.policies.iter().filter_map(policy).partition(|p| p.permits);
    let mut tally = Tally::default();
    permits.into_iter().for_each(|policy| tally.add(policy, bound(&binder, policy)));
    // what no permit may grant is denied whatever the forbids say: they are asked about the rest alone
    let possible = std::mem::take(&mut tally.may_permit).over(columns.live());
    tally.may_permit = Bits::some(possible.clone());
    let binder = Binder { bounds: Some(&possible), ..binder };
    for policy in undecided.iter().filter_map(policy) {
        let scope = resource_scope(&binder, &policy.resource);
        let b = scope.t.clone().or(&scope.b);
        tally.add(policy, Tri { t: Bits::None, f: scope.f, b });
    }
    forbids.into_iter().for_each(|policy| tally.add(policy, bound(&binder, policy)));
    // a record counts as stored for itself alone: where the caller's side leads to one, that one is decided in full
    let entwined = looked_at.iter().filter(|uid| !directory.contains(uid)).filter_map(|uid| ground.own(uid)).collect();
    let scope = tally.scope(&possible, evaluations.get());
    scope.asking(entwined)
}

/// The three outcomes of a policy.
fn bound(binder: &Binder<'_>, policy: &Policy) -> Tri {
    let scope = resource_scope(binder, &policy.resource);
    let bound = match &policy.condition {
        Some(_) if scope.t.is_none() => scope,
        Some(condition) => {
            let matters = scope.t.clone();
            scope.and(|| binder.bind_within(&matters, condition))
        }
        None => scope,
    };
    if binder.ground.bundle.is_plain() { bound.skipping_errors() } else { bound }
}

/// Possible and certain effects over all policies.
#[derive(Default)]
struct Tally {
    permitted: Bits,
    may_permit: Bits,
    forbidden: Bits,
    may_forbid: Bits,
    bad: Bits,
    may_bad: Bits,
    /// Of permits with caps: what each may grant.
    capped: BTreeMap<PolicyName, Bits>,
    /// A permit without caps may grant something.
    uncapped: bool,
}

impl Tally {
    fn add(&mut self, policy: &Policy, bound: Tri) {
        let Tri { t, f, b } = bound;
        let certain = t.clone().minus(&f).minus(&b);
        let surely_bad = b.clone().minus(&t).minus(&f);
        let (sure, may) = match policy.permits {
            true => (&mut self.permitted, &mut self.may_permit),
            false => (&mut self.forbidden, &mut self.may_forbid),
        };
        if policy.permits && !t.is_none() {
            if policy.max_records.is_some() || policy.max_patients.is_some() {
                let of_name = self.capped.entry(policy.name.clone()).or_default();
                *of_name = std::mem::take(of_name).or(&t);
            } else {
                self.uncapped = true;
            }
        }
        *sure = std::mem::take(sure).or(&certain);
        *may = std::mem::take(may).or(&t);
        self.bad = std::mem::take(&mut self.bad).or(&surely_bad);
        self.may_bad = std::mem::take(&mut self.may_bad).or(&b);
    }

    /// Of the slots that some permit may grant.
    fn scope(self, within: &RoaringBitmap, evaluations: u64) -> Scope {
        let doubtful = (&self.may_forbid, &self.may_bad);
        #[cfg(test)]
        let doubtful = planted(Mutant::DoubtForgotten, doubtful, |_| (&self.forbidden, &self.bad));
        let allowed = self.permitted.minus(doubtful.0).minus(doubtful.1);
        let possible = self.may_permit.minus(&self.forbidden).minus(&self.bad);
        let (allowed, possible) = (allowed.over(within), possible.over(within));
        let capped = self.capped.into_iter().map(|(name, may)| (name, may.over(within))).collect();
        Scope { ask: possible - &allowed, allowed, capped, all_capped: !self.uncapped, evaluations }
    }
}

impl Scope {
    /// The same, but that these slots are asked about.
    fn asking(self, slots: RoaringBitmap) -> Self {
        let all_capped = self.all_capped && slots.is_empty();
        Self { allowed: self.allowed - &slots, ask: self.ask | slots, all_capped, ..self }
    }
}

fn resource_scope(binder: &Binder<'_>, constraint: &Constraint) -> Tri {
    match constraint {
        Constraint::Any => Tri::yes(),
        Constraint::Eq(uid) => binder.is_one_of([uid]),
        Constraint::In(uid) => binder.within_record([uid]),
        Constraint::Is(ty) => binder.record_is(ty),
        Constraint::IsIn(ty, uid) => binder.record_is(ty).and(|| binder.within_record([uid])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{BundleSource, Slot, Value},
        policy::{
            Verdict,
            samples::{ask, bundle, directory, patient, record, schema},
        },
    };

    #[test]
    fn a_record_that_a_policy_names_and_looks_into_is_decided_in_full() {
        let text = r#"@id("p") permit (principal is Clinician, action, resource is Record) when { Record::"ward/3" has kind };"#;
        let (bundle, mut columns) = (bundle(text), Columns::new());
        let directory = directory(&bundle);
        let records: Vec<Entity> = (0..5).map(|at| record(&bundle, &at.to_string(), "p1", "x", &[])).collect();
        (0..5).zip(&records).for_each(|(slot, record)| columns.insert(Slot(slot), record));
        let inquiry = ask(&bundle, "nurse");
        let scope = bundle.plan(&inquiry, &columns, &directory);
        assert!(scope.allowed.is_empty());
        assert_eq!(scope.ask, RoaringBitmap::from_iter([3]));
        let verdicts = bundle.decide_many(&inquiry, &records, &directory);
        assert_eq!(verdicts.iter().map(Verdict::is_allow).collect::<Vec<_>>(), [false, false, false, true, false]);
    }

    #[test]
    fn a_record_that_its_own_references_lead_back_to_is_decided_in_full() {
        let schema = schema("")
            .replace("vip: Bool,", "vip: Bool, chart?: Record,")
            .replace("Patient in [Team]", "Patient in [Team, Record]");
        for (condition, back) in [
            ("resource has patient && resource.patient has chart && resource.patient.chart.kind like \"*\"", true),
            (
                "resource has patient && resource.patient has chart && resource.patient.chart.kind == resource.kind",
                true,
            ),
            ("resource has patient && resource.patient in Collection::\"ward\"", false),
        ] {
            let policies = format!(
                "@id(\"p\") permit (principal is Clinician, action, resource is Record) when {{ {condition} }};"
            );
            let source = BundleSource { schema: schema.clone(), policies, ..Default::default() };
            let bundle = Bundle::compile(&source).unwrap();
            let (mut directory, mut columns) = (directory(&bundle), Columns::new());
            let own = EntityUid::new("Record", "ward/0");
            let mut patient = patient(&bundle, "p1", false);
            match back {
                true => drop(patient.attrs.insert("chart".into(), Value::Entity(own))),
                false => drop(patient.parents.insert(own)),
            }
            directory.upsert(patient);
            let records: Vec<Entity> = (0..2).map(|at| record(&bundle, &at.to_string(), "p1", "x", &[])).collect();
            (0..2).zip(&records).for_each(|(slot, record)| columns.insert(Slot(slot), record));
            let scope = bundle.plan(&ask(&bundle, "nurse"), &columns, &directory);
            let verdicts = bundle.decide_many(&ask(&bundle, "nurse"), &records, &directory);
            assert_eq!(verdicts.iter().map(Verdict::is_allow).collect::<Vec<_>>(), [true, false], "{condition}");
            assert_eq!((scope.allowed.len(), scope.ask.clone()), (0, RoaringBitmap::from_iter([0])), "{condition}");
        }
    }
}
