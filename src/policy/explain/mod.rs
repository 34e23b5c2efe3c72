//! Why a decision is what it is: for each policy that concerns the caller and the resource, what it requires and which of that is met.
//! Tells the policies' own words and truths about them; knows no way to tell a value of an attribute.

mod parts;
mod stumble;
mod wording;

use std::{
    cell::Cell,
    collections::{BTreeSet, HashSet},
};

use serde::Serialize;

pub use self::{
    parts::{Join, Met, Requirement},
    stumble::Stumble,
};
use super::{
    Bundle, Directory, Inquiry, PolicyName, Verdict,
    compile::{Constraint, Policy},
    convert,
    decide::Session,
    slices::{Match, Matched},
    trace::{Halt, Trace},
};
use crate::model::{Entity, EntityUid};

/// A decision with its reasons.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The full decision.
    pub verdict: Verdict,
    /// Every policy whose scope matches caller, action and resource, or may: those that decide first.
    pub accounts: Vec<Account>,
    /// Permits for the action that are for other callers or resources: whom they are for.
    pub elsewhere: Vec<Elsewhere>,
}

/// What one policy says to one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Its name.
    pub policy: PolicyName,
    /// The link, where the policy is a template's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// `permit` or `forbid`.
    pub effect: Effect,
    /// What it comes to.
    pub standing: Standing,
    /// Where its evaluation came to nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stumble: Option<Stumble>,
    /// What it requires, in order.
    pub requires: Vec<Requirement>,
    /// Which of those turned it: the first that is not met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turned_by: Option<usize>,
    /// What would change that, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

/// What a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It forbids.
    Forbid,
    /// It permits.
    Permit,
}

impl Effect {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forbid => "forbid",
            Self::Permit => "permit",
        }
    }
}

/// What a policy comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It looks at an entity that is not stored, which denies.
    MissingEntity,
    /// It errs, which denies.
    Erred,
    /// All that it requires is met.
    Holds,
    /// Something that it requires is not met.
    Fails,
}

/// A permit for others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Elsewhere {
    /// Its name.
    pub policy: PolicyName,
    /// Its scope.
    pub scope: String,
}

/// Explains the decision about one resource, which counts as stored.
pub(super) fn explain(bundle: &Bundle, inquiry: &Inquiry, resource: &Entity, directory: &Directory) -> Explanation {
    let verdict = bundle.decide(inquiry, resource, directory);
    let (accounts, elsewhere) = accounts(bundle, inquiry, resource, directory).unwrap_or_default();
    Explanation { verdict, accounts, elsewhere }
}

/// `None` where nothing can be put to Cedar: the caller is not stored, or a value no longer makes sense.
fn accounts(
    bundle: &Bundle,
    inquiry: &Inquiry,
    resource: &Entity,
    directory: &Directory,
) -> Option<(Vec<Account>, Vec<Elsewhere>)> {
    let principal = directory.get(inquiry.principal())?;
    let (ancestors, whole) = directory.ancestors(principal);
    let Matched { certain, undecided } =
        bundle.slices.matched(&bundle.policies, inquiry.action(), principal, (&ancestors, whole));
    let slice = bundle.slices.slice(&bundle.policies, inquiry.action(), certain.clone())?;
    let session = Session { bundle, inquiry, directory, slice: slice.clone(), undecided: vec![] };
    let mut needed = HashSet::new();
    session.survey(&slice.sites, resource, &mut needed);
    let entities = session.entities(std::slice::from_ref(resource), &needed, &slice.names, true)?;
    let request = inquiry.request(convert::uid(&resource.uid)?)?;
    let world = session.world(resource);
    let mut above = HashSet::new();
    let complete = world.ancestors(resource, &mut |uid| above.extend([uid.clone()]));
    let evaluations = Cell::new(0);
    let trace = Trace { world, request: &request, entities: &entities, evaluations: &evaluations };
    let teller = Teller { bundle, trace, resource, above, complete };
    let told = |at: &usize, caller| teller.account(bundle.policies.get(*at)?, caller);
    let mut accounts: Vec<Account> = certain.iter().filter_map(|at| told(at, Match::Yes)).collect();
    accounts.extend(undecided.iter().filter_map(|at| told(at, Match::Undecided)));
    accounts.sort_by(|a, b| rank(a).cmp(&rank(b)));
    let concerned: BTreeSet<&str> = accounts.iter().map(|account| account.policy.as_ref()).collect();
    let elsewhere = elsewhere(bundle, inquiry, &concerned);
    Some((accounts, elsewhere))
}

/// What decides first: what denies by itself, then forbids that hold, permits that hold, permits that fail, and last what says nothing.
fn rank(account: &Account) -> (u8, &PolicyName, &Option<String>) {
    let order = match (account.standing, account.effect) {
        (Standing::MissingEntity, _) => 0,
        (Standing::Erred, _) => 1,
        (Standing::Holds, Effect::Forbid) => 2,
        (Standing::Holds, Effect::Permit) => 3,
        (Standing::Fails, Effect::Permit) => 4,
        (Standing::Fails, Effect::Forbid) => 5,
    };
    (order, &account.policy, &account.link)
}

fn elsewhere(bundle: &Bundle, inquiry: &Inquiry, concerned: &BTreeSet<&str>) -> Vec<Elsewhere> {
    let others = bundle.policies.iter().filter(|p| p.permits && p.actions.contains(&inquiry.action()));
    let others = others.filter(|p| !concerned.contains(p.name.as_ref()));
    let told = |p: &Policy| Elsewhere { policy: p.name.clone(), scope: scope(p) };
    others.map(told).collect()
}

fn scope(policy: &Policy) -> String {
    format!("{}, {}", constraint("principal", &policy.principal), constraint("resource", &policy.resource))
}

fn constraint(variable: &str, constraint: &Constraint) -> String {
    let uid = |uid: &EntityUid| format!("{}::{:?}", uid.ty, uid.id);
    match constraint {
        Constraint::Any => variable.to_owned(),
        Constraint::Eq(x) => format!("{variable} == {}", uid(x)),
        Constraint::In(x) => format!("{variable} in {}", uid(x)),
        Constraint::Is(ty) => format!("{variable} is {ty}"),
        Constraint::IsIn(ty, x) => format!("{variable} is {ty} in {}", uid(x)),
    }
}

struct Teller<'a> {
    bundle: &'a Bundle,
    trace: Trace<'a>,
    resource: &'a Entity,
    /// The resource's ancestors, and whether all of them are stored.
    above: HashSet<EntityUid>,
    complete: bool,
}

impl Teller<'_> {
    /// `None` where its scope leaves the resource out.
    fn account(&self, policy: &Policy, caller: Match) -> Option<Account> {
        let about = match (caller, policy.resource.matches(&self.resource.uid, &self.above, self.complete)) {
            (_, Match::No) => return None,
            (Match::Undecided | Match::No, _) => Some("principal"),
            (Match::Yes, Match::Undecided) => Some("resource"),
            (Match::Yes, Match::Yes) => None,
        };
        Some(match about {
            Some(variable) => self.unclear(policy, variable),
            None => self.clear(policy),
        })
    }

    /// Its scope asks for an ancestor of something whose ancestors are not all stored.
    fn unclear(&self, policy: &Policy, variable: &str) -> Account {
        let stumble = Stumble::of_scope(variable);
        let change = Some(format!("{}; what is missing denies", stumble.words()));
        let (standing, stumble) = (Standing::MissingEntity, Some(stumble));
        Account { standing, stumble, change, ..self.blank(policy) }
    }

    fn clear(&self, policy: &Policy) -> Account {
        let blank = self.blank(policy);
        let Some(condition) = &policy.condition else { return Account { change: always(policy), ..blank } };
        let source = self.bundle.source();
        let written = |text| wording::clauses(text, &policy.name);
        let clauses = written(source.policies.as_str()).or_else(|| written(source.templates.as_str()));
        let requires = parts::of(&self.trace, condition, clauses);
        let standing = match self.trace.truth(condition) {
            Ok(true) => Standing::Holds,
            Ok(false) => Standing::Fails,
            Err(Halt::Erred) => Standing::Erred,
            Err(Halt::Missing) => Standing::MissingEntity,
        };
        let stumble = match standing {
            Standing::MissingEntity | Standing::Erred => Some(Stumble::of(&self.trace, condition)),
            Standing::Holds | Standing::Fails => None,
        };
        let turned_by = match standing {
            Standing::Fails => requires.iter().position(|requirement| requirement.met == Met::No),
            Standing::MissingEntity | Standing::Erred | Standing::Holds => None,
        };
        let change = change(blank.effect, standing, stumble.as_ref(), &requires);
        Account { standing, stumble, requires, turned_by, change, ..blank }
    }

    fn blank(&self, policy: &Policy) -> Account {
        let id: &str = policy.cedar.id().as_ref();
        Account {
            policy: policy.name.clone(),
            link: (id != policy.name.as_ref()).then(|| id.to_owned()),
            effect: if policy.permits { Effect::Permit } else { Effect::Forbid },
            standing: Standing::Holds,
            stumble: None,
            requires: vec![],
            turned_by: None,
            change: None,
        }
    }
}

fn always(policy: &Policy) -> Option<String> {
    (!policy.permits).then(|| "holds for all in its scope".to_owned())
}

fn change(effect: Effect, standing: Standing, stumble: Option<&Stumble>, requires: &[Requirement]) -> Option<String> {
    match (standing, effect) {
        (Standing::MissingEntity, _) => stumble.map(|s| format!("{}; what is missing denies", s.words())),
        (Standing::Erred, _) => stumble.map(|s| format!("{}; an error denies", s.words())),
        (Standing::Fails, Effect::Permit) => Some(format!("would hold if {}", parts::remedy(requires))),
        (Standing::Holds, Effect::Forbid) => Some(format!("would not hold if {}", parts::undoing(requires))),
        (Standing::Holds, Effect::Permit) | (Standing::Fails, Effect::Forbid) => None,
    }
}

#[cfg(test)]
mod tests;
