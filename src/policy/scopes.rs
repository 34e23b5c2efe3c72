//! Plans remembered while nothing changed that they were made of: the same caller usually asks again.

use std::{collections::HashMap, sync::Arc};

#[cfg(test)]
use super::agreement::{Mutant, planted};
use super::{Inquiry, Scope, derived::Moment};
use crate::model::{Action, EntityUid, Value};

/// Bytes of plans remembered for one collection; beyond it all are forgotten.
const BYTES: u64 = 64 << 20;

/// What a plan depends on besides records and entities.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    bundle: [u8; 32],
    principal: EntityUid,
    action: Action,
    /// The part of the context that some policy for the action reads.
    context: Value,
}

impl Key {
    pub(super) fn new(bundle: [u8; 32], inquiry: &Inquiry, context: Value) -> Self {
        #[cfg(test)]
        let context = planted(Mutant::ContextForgotten, context, |_| Value::Bool(false));
        Self { bundle, principal: inquiry.principal().clone(), action: inquiry.action(), context }
    }
}

/// Plans of one moment.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    at: Option<Moment>,
    kept: HashMap<Key, Arc<Scope>>,
    bytes: u64,
}

impl Scopes {
    /// A plan that was made of what is there now.
    pub(super) fn find(&self, now: Moment, key: &Key) -> Option<Arc<Scope>> {
        if self.at == Some(now) { self.kept.get(key).cloned() } else { None }
    }

    pub(super) fn keep(&mut self, now: Moment, key: Key, scope: &Arc<Scope>) {
        let bytes = scope.bytes();
        if self.at != Some(now) || self.bytes + bytes > BYTES {
            *self = Self { at: Some(now), ..Self::default() };
        }
        if bytes <= BYTES {
            self.bytes += bytes;
            self.kept.insert(key, Arc::clone(scope));
        }
    }
}

impl Scope {
    /// Roughly what it takes in memory.
    fn bytes(&self) -> u64 {
        let sets = [&self.allowed, &self.ask].into_iter().chain(self.capped.iter().map(|(_, slots)| slots));
        sets.map(|slots| slots.serialized_size() as u64 + 256).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::policy::{
        Bundle, Columns, Directory,
        samples::{POLICIES, ask, bundle, directory, record},
    };

    fn hospital(text: &str) -> (Bundle, Directory, Columns) {
        let bundle = bundle(text);
        let directory = directory(&bundle);
        let mut columns = Columns::new();
        for slot in 0..20 {
            let record = record(&bundle, &slot.to_string(), "p1", "progress_note", &[]);
            columns.insert(crate::model::Slot(slot), &record);
        }
        (bundle, directory, columns)
    }

    #[test]
    fn a_plan_is_made_once_and_anew_after_any_change() {
        let (bundle, mut directory, mut columns) = hospital(POLICIES);
        let inquiry = ask(&bundle, "nurse");
        let first = bundle.plan(&inquiry, &columns, &directory);
        assert!(Arc::ptr_eq(&first, &bundle.plan(&inquiry, &columns, &directory)));
        assert!(!first.allowed.is_empty());
        columns.remove(crate::model::Slot(3));
        let second = bundle.plan(&inquiry, &columns, &directory);
        assert_eq!(second.allowed.len() + 1, first.allowed.len());
        let nurse = directory.get(inquiry.principal()).unwrap().as_ref().clone();
        directory.remove(&nurse.uid);
        assert!(bundle.plan(&inquiry, &columns, &directory).allowed.is_empty());
        directory.upsert(nurse);
        assert_eq!(bundle.plan(&inquiry, &columns, &directory).allowed, second.allowed);
    }

    #[test]
    fn plans_of_callers_actions_contexts_and_bundles_are_kept_apart() {
        let (bundle, directory, columns) = hospital(POLICIES);
        let plan = |who: &str, purpose: &str, action| {
            let principal = EntityUid::new("Clinician", who);
            let offered = crate::policy::samples::offered(purpose);
            let inquiry = bundle.inquiry(principal, action, &offered).unwrap();
            bundle.plan(&inquiry, &columns, &directory)
        };
        let nurse = plan("nurse", "treatment", Action::Retrieve);
        assert!(!Arc::ptr_eq(&nurse, &plan("temp", "treatment", Action::Retrieve)));
        assert!(!Arc::ptr_eq(&nurse, &plan("nurse", "research", Action::Retrieve)));
        assert!(!Arc::ptr_eq(&nurse, &plan("nurse", "treatment", Action::Read)));
        assert!(Arc::ptr_eq(&nurse, &plan("nurse", "treatment", Action::Retrieve)));
        let other = self::bundle(&format!("{POLICIES} @id(\"none\") forbid (principal, action, resource is Record);"));
        assert!(other.plan(&ask(&other, "nurse"), &columns, &directory).allowed.is_empty());
    }

    #[test]
    fn a_plan_that_reads_the_time_is_right_at_every_moment() {
        let text = r#"@id("hours") permit (principal, action == Action::"Retrieve", resource is Record)
            when { principal is Clinician && context.now < datetime("2026-03-01T12:00:00Z") };"#;
        let (bundle, directory, columns) = hospital(text);
        let allowed = |now: &str| {
            let now = Value::Extension { function: "datetime".into(), arguments: vec![Value::text(now)] };
            let mut offered: BTreeMap<_, _> = crate::policy::samples::offered("treatment");
            offered.insert("now", now);
            let principal = EntityUid::new("Clinician", "nurse");
            let inquiry = bundle.inquiry(principal, Action::Retrieve, &offered).unwrap();
            bundle.plan(&inquiry, &columns, &directory).allowed.len()
        };
        assert_eq!(allowed("2026-03-01T11:59:59.999Z"), 20);
        assert_eq!(allowed("2026-03-01T12:00:00Z"), 0);
        assert_eq!(allowed("2026-03-01T11:59:59.999Z"), 20);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let now = {
            let (bundle, directory, columns) = hospital(POLICIES);
            crate::policy::derived::Ground { bundle: &bundle, columns: &columns, directory: &directory }.moment()
        };
        let (bundle, ..) = hospital(POLICIES);
        let inquiry = ask(&bundle, "nurse");
        let mut scopes = Scopes::default();
        let scope = Arc::new(Scope { allowed: (0..40_000_000).step_by(40).collect(), ..Scope::default() });
        for n in 0..100 {
            scopes.keep(now, Key::new([0; 32], &inquiry, Value::Long(n)), &scope);
            assert!(scopes.bytes <= BYTES);
            assert_eq!(scopes.bytes, scopes.kept.len() as u64 * scope.bytes());
        }
    }
}
