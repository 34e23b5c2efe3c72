//! What one bundle permits more than another, as far as that shows without evaluating: forbids gone, caps loosened.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Bundle, PolicyName};

/// Names of forbids that `old` has and `new` lacks or words differently, and of permits with a looser cap.
pub(super) fn between(old: &Bundle, new: &Bundle) -> Vec<String> {
    let forbids = |bundle: &'_ Bundle| -> Vec<(PolicyName, String)> {
        let forbids = bundle.policies.iter().filter(|p| !p.permits);
        forbids.map(|p| (p.name.clone(), p.meaning.clone())).collect()
    };
    let kept: HashSet<String> = forbids(new).into_iter().map(|(_, meaning)| meaning).collect();
    let gone = forbids(old).into_iter().filter(|(_, meaning)| !kept.contains(meaning)).map(|(name, _)| name);
    let caps = |bundle: &'_ Bundle| -> BTreeMap<PolicyName, [Option<u64>; 2]> {
        let permits = bundle.policies.iter().filter(|p| p.permits);
        permits.map(|p| (p.name.clone(), [p.max_records, p.max_patients])).collect()
    };
    let (before, after) = (caps(old), caps(new));
    let looser = |name: &PolicyName| {
        let pairs = before.get(name).into_iter().flatten().zip(after.get(name).into_iter().flatten());
        pairs.into_iter().any(|(was, is)| match (was, is) {
            (Some(was), Some(is)) => is > was,
            (Some(_), None) => true,
            (None, _) => false,
        })
    };
    let loosened = before.keys().filter(|name| looser(name)).cloned();
    let names: BTreeSet<String> = gone.chain(loosened).map(|name| name.as_ref().to_owned()).collect();
    names.into_iter().collect()
}
