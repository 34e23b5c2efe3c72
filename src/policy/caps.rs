//! Which permits apply to a caller whatever the record, and what they cap.

use std::collections::BTreeMap;

use super::{Bundle, Caps, Directory, Inquiry, PermitCap, PolicyName, world::World};

/// By name, each once: a template's cap counts once over its links.
pub(super) fn caps(bundle: &Bundle, inquiry: &Inquiry, directory: &Directory) -> Caps {
    let Some(principal) = directory.get(inquiry.principal()) else { return Caps::default() };
    let (ancestors, whole) = World { bundle, inquiry, directory, resource: principal }.lineage(principal);
    let matched = bundle.slices.matched(&bundle.policies, inquiry.action(), principal, (&ancestors, whole));
    let permits = matched.certain.iter().filter_map(|at| bundle.policies.get(*at)).filter(|p| p.permits);
    let by_name: BTreeMap<PolicyName, PermitCap> = permits
        .map(|p| {
            let cap = PermitCap { name: p.name.clone(), max_records: p.max_records, max_patients: p.max_patients };
            (p.name.clone(), cap)
        })
        .collect();
    Caps { permits: by_name.into_values().collect() }
}
