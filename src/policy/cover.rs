//! Which policies say at least what another says, as far as scopes and equal conditions prove it. Evaluates nothing: what it
//! does not find may still be so.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{
    Bundle,
    compile::{Constraint, Policy},
    schema::Facts,
};
use crate::model::{Action, EntityUid};

/// The policies of one bundle, by what a wider one must share.
pub(super) struct Cover<'a> {
    bundle: &'a Bundle,
    policies: HashMap<(bool, &'a Constraint, &'a Constraint, &'a str), Vec<&'a Policy>>,
}

impl<'a> Cover<'a> {
    pub(super) fn of(bundle: &'a Bundle) -> Self {
        let mut policies: HashMap<_, Vec<&Policy>> = HashMap::new();
        for policy in &bundle.policies {
            let key = (policy.permits, &policy.principal, &policy.resource, policy.clauses.as_str());
            policies.entry(key).or_default().push(policy);
        }
        Self { bundle, policies }
    }

    /// The permits, or the forbids, that hold wherever `policy` does: the same or a wider scope, the same conditions or none.
    /// `policy` itself is one of them if it is of this bundle.
    pub(super) fn covering(&self, policy: &Policy, permits: bool) -> Vec<&'a Policy> {
        let reach = reach(&self.bundle.facts, policy);
        let principals = wider(&policy.principal, only(reach.iter().map(|reach| &reach.principals)));
        let resources = wider(&policy.resource, only(reach.iter().map(|reach| &reach.resources)));
        let mut clauses = vec![policy.clauses.as_str()];
        if !policy.clauses.is_empty() {
            clauses.push("");
        }
        let mut found: Vec<&'a Policy> = Vec::new();
        for principal in &principals {
            for resource in &resources {
                for clauses in &clauses {
                    found.extend(self.policies.get(&(permits, principal, resource, *clauses)).into_iter().flatten());
                }
            }
        }
        found.retain(|wide| reach.iter().all(|reach| wide.actions.contains(&reach.action)));
        found
    }
}

/// Every constraint that holds wherever this one does. `only`: the one type that there can be.
fn wider(constraint: &Constraint, only: Option<Arc<str>>) -> Vec<Constraint> {
    let within = |uid: &EntityUid| vec![Constraint::In(uid.clone()), Constraint::Any];
    let mut all = match constraint {
        Constraint::Any => vec![],
        Constraint::In(_) | Constraint::Is(_) => vec![Constraint::Any],
        Constraint::IsIn(ty, uid) => [vec![Constraint::Is(Arc::clone(ty))], within(uid)].concat(),
        Constraint::Eq(uid) => {
            let ty = || Arc::clone(&uid.ty);
            [vec![Constraint::IsIn(ty(), uid.clone()), Constraint::Is(ty())], within(uid)].concat()
        }
    };
    all.push(constraint.clone());
    if let Some(ty) = only {
        let narrowed = all.iter().filter_map(|wide| match wide {
            Constraint::Any => Some(Constraint::Is(Arc::clone(&ty))),
            Constraint::In(uid) => Some(Constraint::IsIn(Arc::clone(&ty), uid.clone())),
            Constraint::Eq(_) | Constraint::Is(_) | Constraint::IsIn(..) => None,
        });
        let narrowed: Vec<_> = narrowed.filter(|narrow| !all.contains(narrow)).collect();
        all.extend(narrowed);
    }
    all
}

/// The one type, if there is but one.
fn only<'t>(types: impl Iterator<Item = &'t BTreeSet<Arc<str>>>) -> Option<Arc<str>> {
    let all: BTreeSet<Arc<str>> = types.flatten().cloned().collect();
    if all.len() == 1 { all.into_iter().next() } else { None }
}

/// One action under which a policy's scope can match, with the types that principal and resource can have there.
pub(super) struct Reach {
    pub(super) action: Action,
    pub(super) principals: BTreeSet<Arc<str>>,
    pub(super) resources: BTreeSet<Arc<str>>,
}

/// Everything that a policy's scope can match.
pub(super) fn reach(facts: &Facts, policy: &Policy) -> Vec<Reach> {
    let side = |types: &HashSet<Arc<str>>, constraint: &Constraint| -> BTreeSet<Arc<str>> {
        types.iter().filter(|ty| admits(facts, constraint, ty)).cloned().collect()
    };
    let of_action = |action: &Action| {
        let declared = facts.actions.get(action.name())?;
        let principals = side(&declared.principals, &policy.principal);
        let resources = side(&declared.resources, &policy.resource);
        let some = !principals.is_empty() && !resources.is_empty();
        some.then_some(Reach { action: *action, principals, resources })
    };
    policy.actions.iter().filter_map(of_action).collect()
}

/// Whether an entity of this type can match.
fn admits(facts: &Facts, constraint: &Constraint, ty: &Arc<str>) -> bool {
    match constraint {
        Constraint::Any => true,
        Constraint::Eq(uid) => uid.ty == *ty,
        Constraint::Is(only) => only == ty,
        Constraint::In(uid) => lies_within(facts, ty, &uid.ty),
        Constraint::IsIn(only, uid) => only == ty && lies_within(facts, ty, &uid.ty),
    }
}

/// Whether the schema lets an entity of type `child` be one of type `ancestor`, or below one.
fn lies_within(facts: &Facts, child: &Arc<str>, ancestor: &Arc<str>) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), vec![child]);
    while let Some(ty) = next.pop() {
        if ty == ancestor {
            return true;
        }
        if seen.insert(ty) {
            next.extend(facts.types.get(ty).into_iter().flat_map(|ty| &ty.parents));
        }
    }
    false
}
