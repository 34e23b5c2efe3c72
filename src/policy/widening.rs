//! What one bundle permits more than another, as far as that shows without evaluating: forbids gone or blinded, caps loosened.
//! A permit that is new and covers none of the old ones is no widening: to grant is what a bundle is for.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Bundle, PolicyName,
    compile::Policy,
    cover::Cover,
    schema::{AttributeType, Facts, Fields},
};

/// Names of forbids that `old` has and `new` lacks, narrows or words otherwise, and of permits whose cap binds less.
pub(super) fn between(old: &Bundle, new: &Bundle) -> Vec<String> {
    let (before, after) = (Cover::of(old), Cover::of(new));
    let loosened = looser_by_name(old, new);
    let wider = |policy: &&Policy| {
        if policy.permits {
            let (was, is) = (bound(&before, policy), bound(&after, policy));
            loosened.contains(&policy.name) || is.iter().zip(was).any(|(is, was)| *is > was)
        } else {
            after.covering(policy, false).is_empty() || blinded(policy, &old.facts, &new.facts)
        }
    };
    let names: BTreeSet<String> = old.policies.iter().filter(wider).map(|p| p.name.as_ref().to_owned()).collect();
    names.into_iter().collect()
}

/// Permits that kept their name and have a looser cap, whatever else was changed in them.
fn looser_by_name(old: &Bundle, new: &Bundle) -> BTreeSet<PolicyName> {
    let caps = |bundle: &Bundle| -> BTreeMap<PolicyName, [Cap; 2]> {
        let permits = bundle.policies.iter().filter(|p| p.permits);
        permits.map(|p| (p.name.clone(), [Cap::of(p.max_records), Cap::of(p.max_patients)])).collect()
    };
    let after = caps(new);
    let looser = |(name, was): (PolicyName, [Cap; 2])| {
        let is = after.get(&name)?;
        is.iter().zip(was).any(|(is, was)| *is > was).then_some(name)
    };
    caps(old).into_iter().filter_map(looser).collect()
}

/// What one permit, or several together, release at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cap {
    At(u64),
    Unbounded,
}

impl Cap {
    fn of(cap: Option<u64>) -> Self {
        cap.map_or(Self::Unbounded, Self::At)
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::At(a), Self::At(b)) => Self::At(a.saturating_add(b)),
            (Self::Unbounded, _) | (_, Self::Unbounded) => Self::Unbounded,
        }
    }
}

/// What a bundle's permits release of what `policy` permits, as far as they provably permit all of it: records, and patients. A
/// permit under another name, or a second one beside it, loosens a cap too.
fn bound(cover: &Cover<'_>, policy: &Policy) -> [Cap; 2] {
    let by_name: BTreeMap<&PolicyName, &Policy> =
        cover.covering(policy, true).into_iter().map(|wide| (&wide.name, wide)).collect();
    let sum =
        |cap: fn(&Policy) -> Option<u64>| by_name.values().map(|wide| Cap::of(cap(wide))).fold(Cap::At(0), Cap::and);
    [sum(|p| p.max_records), sum(|p| p.max_patients)]
}

/// Whether the new schema no longer declares, or no longer requires, something that a forbid reads, or gives it another type: its words
/// are the same and say less, since `has` is then false.
fn blinded(policy: &Policy, old: &Facts, new: &Facts) -> bool {
    let of_entities =
        old.types.iter().any(|(ty, was)| lost(policy, &was.attributes, new.types.get(ty).map(|is| &is.attributes)));
    let of_context = policy.actions.iter().any(|action| {
        let context = |facts: &'_ Facts| facts.actions.get(action.name()).map(|a| a.context.clone());
        context(old).is_some_and(|was| lost(policy, &was, context(new).as_ref()))
    });
    of_entities || of_context
}

fn lost(policy: &Policy, was: &Fields, is: Option<&Fields>) -> bool {
    let read = policy.names.iter().filter_map(|name| Some((was.get(name)?, is.and_then(|is| is.get(name)))));
    read.into_iter().any(|(was, is)| match is {
        None => true,
        Some(is) => (was.required && !is.required) || changed(policy, &was.ty, &is.ty),
    })
}

fn changed(policy: &Policy, was: &AttributeType, is: &AttributeType) -> bool {
    match (was, is) {
        (AttributeType::Record(was), AttributeType::Record(is)) => lost(policy, was, Some(is)),
        (was, is) => was != is,
    }
}
