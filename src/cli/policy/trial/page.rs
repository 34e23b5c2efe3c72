//! A file of cases: `{about, world, cases}`, or `{about, world, requested, caps}` for the minimum necessary.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value as Json};

use super::{Held, name, world::World};
use crate::{
    model::{Action, EntityUid},
    policy::{Bundle, DenyReason, Verdict},
};

/// A page of cases, read and not yet held against anything.
pub(super) struct Page {
    pub(super) path: PathBuf,
    pub(super) world: String,
    cases: Vec<Case>,
    requested: u64,
    caps: Vec<Cap>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageForm {
    #[serde(rename = "about")]
    _about: Option<String>,
    world: Option<String>,
    cases: Option<Vec<Json>>,
    requested: Option<u64>,
    caps: Option<Vec<Json>>,
}

/// One case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    caller: EntityUid,
    action: String,
    purpose: Option<String>,
    record: Option<Json>,
    #[serde(default)]
    context: Map<String, Json>,
    #[serde(default)]
    entities: Vec<Json>,
    #[serde(default)]
    without: Vec<EntityUid>,
    expect: Expect,
    by: Option<BTreeSet<String>>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Expect {
    Allow,
    Deny,
    Never,
}

impl Expect {
    fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Never => "never",
        }
    }
}

/// What bounds an answer to one caller.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cap {
    caller: EntityUid,
    purpose: Option<String>,
    applied: u64,
    bound_by: BTreeSet<String>,
    max_patients: Option<u64>,
}

/// What is wrong with a page or with cases on it: file, case, and what to mend.
type Faults = Vec<String>;

impl Page {
    /// Reads a file; every fault in it is told, not only the first.
    pub(super) fn read(path: &Path) -> Result<Self, Faults> {
        let page = name(path);
        let text = std::fs::read_to_string(path).map_err(|e| vec![format!("{page}: cannot be read: {e}")])?;
        let form: PageForm = serde_json::from_str(&text).map_err(|e| vec![format!("{page}: {e}")])?;
        if form.cases.is_none() && form.caps.is_none() {
            return Err(vec![format!("{page}: neither `cases` nor `caps` is in it")]);
        }
        let (cases, mut faults) = each::<Case>(&page, "case", form.cases.unwrap_or_default());
        let (caps, more) = each::<Cap>(&page, "cap", form.caps.unwrap_or_default());
        faults.extend(more);
        let mut names = BTreeSet::new();
        for case in &cases {
            if !names.insert(&case.name) {
                faults.push(format!("{page}: case \"{}\": the name is used twice", case.name));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let world = form.world.unwrap_or_else(|| "cases".to_owned());
        Ok(Self { path: path.to_owned(), world, cases, requested: form.requested.unwrap_or(u64::MAX), caps })
    }

    /// Every case against the bundle.
    pub(super) fn hold(&self, bundle: &Bundle, world: &World) -> Result<Vec<Held>, Faults> {
        let page = name(&self.path);
        let (mut held, mut faults) = (Vec::new(), Vec::new());
        for case in &self.cases {
            match case.hold(&page, bundle, world) {
                Ok(one) => held.push(one),
                Err(fault) => faults.push(format!("{page}: case \"{}\": {fault}", case.name)),
            }
        }
        for cap in &self.caps {
            match cap.hold(&page, self.requested, bundle, world) {
                Ok(one) => held.push(one),
                Err(fault) => faults.push(format!("{page}: cap of {}: {fault}", cap.name())),
            }
        }
        if faults.is_empty() { Ok(held) } else { Err(faults) }
    }
}

fn each<T: DeserializeOwned>(page: &str, what: &str, items: Vec<Json>) -> (Vec<T>, Faults) {
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    for (at, item) in items.into_iter().enumerate() {
        let named = item.get("name").and_then(Json::as_str).map(|name| format!(" \"{name}\"")).unwrap_or_default();
        match serde_json::from_value(item) {
            Ok(one) => found.push(one),
            Err(error) => faults.push(format!("{page}: {what} {}{named}: {error}", at + 1)),
        }
    }
    (found, faults)
}

impl Case {
    fn hold(&self, page: &str, bundle: &Bundle, world: &World) -> Result<Held, String> {
        let action = action(&self.action)?;
        let mut context = self.context.clone();
        if let Some(purpose) = &self.purpose {
            context.insert("purpose".into(), purpose.as_str().into());
        }
        let directory = world.directory(bundle, &self.entities, &self.without)?;
        let resource = world.resource(bundle, action, self.record.as_ref(), &self.caller)?;
        let inquiry = world.inquiry(bundle, &self.caller, action, &context)?;
        let verdict = inquiry.map(|inquiry| bundle.decide(&inquiry, &resource, &directory));
        Ok(self.told(page, verdict.as_ref()))
    }

    fn told(&self, page: &str, verdict: Option<&Verdict>) -> Held {
        let (got, clear, deciding) = outcome(verdict);
        let names: BTreeSet<String> = deciding.iter().cloned().collect();
        // where something is missing or errs, no set of policies can be stated
        let by = self.by.as_ref().is_none_or(|by| clear && *by == names);
        let shown = |by: &BTreeSet<String>| match by.is_empty() {
            true => "by none".to_owned(),
            false => format!("by {}", by.iter().cloned().collect::<Vec<_>>().join(", ")),
        };
        let expected = match &self.by {
            Some(by) => format!("{} {}", self.expect.name(), shown(by)),
            None => self.expect.name().to_owned(),
        };
        Held {
            page: page.to_owned(),
            name: self.name.clone(),
            expected,
            got: words(verdict).to_owned(),
            deciding,
            passed: got == self.expect && by,
        }
    }
}

fn action(name: &str) -> Result<Action, String> {
    Action::all().find(|action| action.name() == name).ok_or_else(|| format!("`{name}` is none of the actions"))
}

/// What it comes to, whether the deciding policies say all of it, and which they are.
fn outcome(verdict: Option<&Verdict>) -> (Expect, bool, Vec<String>) {
    let names = |names: &[crate::policy::PolicyName]| names.iter().map(|name| name.as_ref().to_owned()).collect();
    match verdict {
        None => (Expect::Never, true, vec![]),
        Some(Verdict::Allow { permits }) => (Expect::Allow, true, names(permits)),
        Some(Verdict::Deny(reason)) => match reason {
            DenyReason::Forbidden(forbids) => (Expect::Deny, true, names(forbids)),
            DenyReason::NoPermit => (Expect::Deny, true, vec![]),
            DenyReason::MissingEntity(policies) | DenyReason::Erred(policies) => (Expect::Deny, false, names(policies)),
            DenyReason::UnknownPrincipal | DenyReason::Unfit => (Expect::Deny, false, vec![]),
        },
    }
}

fn words(verdict: Option<&Verdict>) -> &'static str {
    match verdict {
        None => "never",
        Some(Verdict::Allow { .. }) => "allow",
        Some(Verdict::Deny(reason)) => match reason {
            DenyReason::Forbidden(_) => "deny: forbidden",
            DenyReason::NoPermit => "deny: no permit holds",
            DenyReason::MissingEntity(_) => "deny: something is not stored",
            DenyReason::Erred(_) => "deny: an error",
            DenyReason::UnknownPrincipal => "deny: the caller is not stored",
            DenyReason::Unfit => "deny: a value makes no sense",
        },
    }
}

impl Cap {
    fn name(&self) -> String {
        format!("{}::\"{}\"", self.caller.ty, self.caller.id)
    }

    fn hold(&self, page: &str, requested: u64, bundle: &Bundle, world: &World) -> Result<Held, String> {
        let mut context = Map::new();
        if let Some(purpose) = &self.purpose {
            context.insert("purpose".into(), purpose.as_str().into());
        }
        let inquiry = world.inquiry(bundle, &self.caller, Action::Retrieve, &context)?;
        let directory = world.directory(bundle, &[], &[])?;
        let caps = inquiry.map(|inquiry| bundle.caps(&inquiry, &directory)).unwrap_or_default();
        let sum = caps.permits.iter().try_fold(0_u64, |sum, permit| Some(sum.saturating_add(permit.max_records?)));
        let (applied, bound_by) = match sum {
            Some(sum) if sum < requested => (sum, caps.permits.iter().map(|p| p.name.as_ref().to_owned()).collect()),
            _ => (requested, BTreeSet::from(["requested".to_owned()])),
        };
        let patients = caps.permits.iter().filter_map(|permit| permit.max_patients).reduce(u64::saturating_add);
        Ok(Held {
            page: page.to_owned(),
            name: format!("the limit of an answer to {}", self.name()),
            expected: limit(self.applied, &self.bound_by, self.max_patients),
            got: limit(applied, &bound_by, patients),
            deciding: caps.permits.iter().map(|permit| permit.name.as_ref().to_owned()).collect(),
            passed: (applied, &bound_by, patients) == (self.applied, &self.bound_by, self.max_patients),
        })
    }
}

fn limit(applied: u64, bound_by: &BTreeSet<String>, patients: Option<u64>) -> String {
    let by = bound_by.iter().cloned().collect::<Vec<_>>().join(", ");
    let patients = patients.map(|most| format!(", {most} patients")).unwrap_or_default();
    format!("{applied} records{patients}, by {by}")
}
