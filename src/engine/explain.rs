//! Why may they, or may they not: the decision about one record, for whoever may `Explain`. Tells policies, their words and truths about
//! them, and no value of any attribute.

use std::{net::IpAddr, sync::Arc};

use serde::Serialize;

use super::{
    Circumstances, Refusal, Wardkeep,
    context::NOWHERE,
    grant::{Explain, Grant, ManagePolicies},
    policies::compile,
    world::World,
};
use crate::{
    audit::What,
    clock::Instant,
    model::{Action, BundleSource, CollectionName, Entity, EntityUid, RecordId, limits},
    policy::{
        Account, Bundle, DenyReason, Effect, Elsewhere, Explanation, InquiryError, PolicyName, Requirement, Standing,
        Verdict,
    },
};

/// Whose request, about what.
#[derive(Debug, Clone)]
pub struct Why {
    /// Who would ask.
    pub caller: EntityUid,
    /// For what: an action on records.
    pub action: Action,
    /// Of which collection.
    pub collection: CollectionName,
    /// Which record.
    pub record: RecordId,
    /// For which purpose.
    pub purpose: Option<String>,
    /// Narrowed to which patient.
    pub patient: Option<String>,
    /// When; now, if it is not said.
    pub now: Option<Instant>,
    /// From where; this machine, if it is not said.
    pub source_ip: Option<IpAddr>,
}

/// A bundle to ask instead of the one in force, by somebody who could put it there.
pub struct Tried {
    /// The right to.
    pub grant: Grant<ManagePolicies>,
    /// The bundle.
    pub source: BundleSource,
}

/// The answer, which is in the audit log already.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// `allowed`, `forbidden`, `not_permitted`, `erred`, `missing_entity`, `unknown_caller`, `unfit`, `never`.
    pub verdict: &'static str,
    /// The same in a sentence.
    pub summary: String,
    /// The policies that decide.
    pub deciding: Vec<PolicyName>,
    /// What would change it, a sentence each.
    pub would_change: Vec<String>,
    /// Every policy that concerns the caller and the record, those that decide first.
    pub policies: Vec<Account>,
    /// How many more there are.
    pub policies_omitted: usize,
    /// Permits for the action that are for others.
    pub elsewhere: Vec<Elsewhere>,
    /// How many more there are.
    pub elsewhere_omitted: usize,
    /// The version that was asked; none where a bundle was sent.
    pub policy_version: Option<u64>,
    /// SHA-256 of the bundle that was asked, in hex.
    pub digest: String,
    /// What was told to the policies besides caller and record.
    pub assumed: Assumed,
}

/// What a question that nobody asked yet was put with.
#[derive(Debug, Clone, Serialize)]
pub struct Assumed {
    /// When.
    pub now: String,
    /// From where.
    pub source_ip: IpAddr,
    /// Whether the glass is broken.
    pub break_glass: bool,
}

impl Wardkeep {
    /// Explains a decision. What is absent is told to be absent, but only to whoever may explain.
    pub fn explain(&self, grant: &Grant<Explain>, why: &Why, tried: Option<Tried>) -> Result<Explained, Refusal> {
        let circumstances = Circumstances::of(why.collection.clone()).purpose(why.purpose.clone());
        let trail = grant.trail(self, What::Explain).circumstances(&circumstances).target(&why.caller);
        let trail = trail.records(std::iter::once(&why.record));
        let sent = tried.is_some();
        let (told, patient) = self.told(trail.clone(), self.account(why, tried))?;
        let mut detail = format!("{} {}", why.action.name(), told.verdict);
        if sent {
            detail.push_str(&format!("; under a bundle that was sent, {}", told.digest));
        }
        if why.now.is_some() {
            detail.push_str(&format!("; as of {}", told.assumed.now));
        }
        let trail = trail.patients(patient.iter()).done(1).detail(detail);
        self.journal.note(trail)?;
        Ok(told)
    }

    fn account(&self, why: &Why, tried: Option<Tried>) -> Result<(Explained, Option<EntityUid>), Refusal> {
        let tried = tried.map(|tried| compile(&tried.source)).transpose()?.map(Arc::new);
        let world = self.world.read();
        let holding = world.holding(&why.collection).ok_or(Refusal::Absent)?;
        let (slot, row) = holding.find(&why.record).ok_or(Refusal::Absent)?;
        let stored = self.store.record(&why.collection, &row.id)?.ok_or(Refusal::Absent)?;
        let entity = stored.record.entity(&why.collection);
        let bundle = tried.as_ref().unwrap_or(&world.policy.bundle);
        let fits = match &tried {
            Some(bundle) => bundle.check(&entity).is_ok(),
            None => !holding.invalid.contains(slot.0),
        };
        let now = why.now.unwrap_or_else(|| self.clock.now());
        let reasons = reasons(&world, bundle, why, now, fits.then_some(&entity))?;
        let version = tried.is_none().then_some(world.policy.version);
        Ok((explained(reasons, why, now, bundle, version), row.patient.clone()))
    }
}

/// What there is to say, before it is put into words.
enum Reasons {
    /// The schema does not let such a caller do this.
    Never,
    /// The record does not fit the schema.
    Unfit,
    Told(Explanation),
}

fn reasons(
    world: &World,
    bundle: &Arc<Bundle>,
    why: &Why,
    now: Instant,
    entity: Option<&Entity>,
) -> Result<Reasons, Refusal> {
    let circumstances =
        Circumstances::of(why.collection.clone()).purpose(why.purpose.clone()).patient(why.patient.clone());
    let offered = circumstances.offered_to(bundle, now, why.source_ip, why.action);
    let inquiry = match World::asking(bundle, &why.caller, why.action, offered) {
        Ok(inquiry) => inquiry,
        Err(InquiryError::Principal(_)) => return Ok(Reasons::Never),
        Err(error @ (InquiryError::Missing(_) | InquiryError::Type(_))) => {
            return Err(Refusal::invalid("context", error.to_string()));
        }
    };
    let Some(entity) = entity else { return Ok(Reasons::Unfit) };
    let told = if bundle.source().schema == world.policy.bundle.source().schema {
        bundle.explain(&inquiry, entity, &world.directory)
    } else {
        bundle.explain(&inquiry, entity, &world.directory_under(bundle).0)
    };
    Ok(Reasons::Told(told))
}

fn explained(reasons: Reasons, why: &Why, now: Instant, bundle: &Bundle, policy_version: Option<u64>) -> Explained {
    let (verdict, summary) = words(&reasons, why);
    let (deciding, would_change) = match &reasons {
        Reasons::Never | Reasons::Unfit => (vec![], vec![]),
        Reasons::Told(told) => (deciding(&told.verdict), changes(told, why)),
    };
    let Explanation { accounts, elsewhere, .. } = match reasons {
        Reasons::Told(told) => told,
        Reasons::Never | Reasons::Unfit => {
            Explanation { verdict: Verdict::Deny(DenyReason::Unfit), accounts: vec![], elsewhere: vec![] }
        }
    };
    let (all, others) = (accounts.len(), elsewhere.len());
    let policies = bounded(accounts);
    let elsewhere: Vec<_> = elsewhere.into_iter().take(limits::EXPLAIN_POLICIES).collect();
    Explained {
        verdict,
        summary,
        deciding,
        would_change,
        policies_omitted: all - policies.len(),
        policies,
        elsewhere_omitted: others - elsewhere.len(),
        elsewhere,
        policy_version,
        digest: hex::encode(bundle.digest()),
        assumed: Assumed { now: now.rfc3339(), source_ip: why.source_ip.unwrap_or(NOWHERE), break_glass: false },
    }
}

/// As many as an answer holds, in policies and in what they require together.
fn bounded(accounts: Vec<Account>) -> Vec<Account> {
    let mut parts = 0;
    let fits = |account: &Account| {
        parts += account.requires.iter().map(size).sum::<usize>();
        parts <= limits::EXPLAIN_PARTS
    };
    accounts.into_iter().take(limits::EXPLAIN_POLICIES).take_while(fits).collect()
}

fn size(requirement: &Requirement) -> usize {
    1 + requirement.parts.iter().map(size).sum::<usize>()
}

fn words(reasons: &Reasons, why: &Why) -> (&'static str, String) {
    let action = why.action.name();
    let told = match reasons {
        Reasons::Never => {
            let ty = &why.caller.ty;
            return ("never", format!("the schema does not let a `{ty}` do `{action}`: no policy can permit it"));
        }
        Reasons::Unfit => return ("unfit", "the record does not fit the schema, which denies".to_owned()),
        Reasons::Told(told) => told,
    };
    let names = deciding(&told.verdict).join(", ");
    match &told.verdict {
        Verdict::Allow { .. } => ("allowed", format!("allowed, by {names}")),
        Verdict::Deny(DenyReason::Forbidden(_)) => ("forbidden", format!("forbidden, by {names}")),
        Verdict::Deny(DenyReason::NoPermit) => {
            ("not_permitted", "not permitted: no permit holds, and no forbid".to_owned())
        }
        Verdict::Deny(DenyReason::Erred(_)) => ("erred", format!("denied because of an error in {names}")),
        Verdict::Deny(DenyReason::MissingEntity(_)) => {
            ("missing_entity", format!("denied because {names} looks at an entity that is not stored"))
        }
        Verdict::Deny(DenyReason::UnknownPrincipal) => {
            ("unknown_caller", "denied: the caller's own entity is not stored".to_owned())
        }
        Verdict::Deny(DenyReason::Unfit) => {
            ("unfit", "denied: something stored no longer makes sense to Cedar".to_owned())
        }
    }
}

fn deciding(verdict: &Verdict) -> Vec<PolicyName> {
    match verdict {
        Verdict::Allow { permits: names }
        | Verdict::Deny(DenyReason::Forbidden(names) | DenyReason::Erred(names) | DenyReason::MissingEntity(names)) => {
            names.clone()
        }
        Verdict::Deny(DenyReason::NoPermit | DenyReason::UnknownPrincipal | DenyReason::Unfit) => vec![],
    }
}

/// Each sentence names one policy; all that denies has to go, and one permit has to hold.
fn changes(told: &Explanation, why: &Why) -> Vec<String> {
    if told.verdict.is_allow() {
        return vec![];
    }
    let holds = |effect| told.accounts.iter().any(|a| a.effect == effect && a.standing == Standing::Holds);
    let permitted = holds(Effect::Permit);
    let concerns = |account: &&Account| match (account.standing, account.effect) {
        (Standing::MissingEntity | Standing::Erred, _) | (Standing::Holds, Effect::Forbid) => true,
        (Standing::Fails, Effect::Permit) => !permitted,
        (Standing::Holds, Effect::Permit) | (Standing::Fails, Effect::Forbid) => false,
    };
    let sentence = |a: &Account| Some(format!("{} {}: {}", a.effect.name(), a.policy, a.change.as_ref()?));
    let mut all: Vec<String> =
        told.accounts.iter().filter(concerns).filter_map(sentence).take(limits::EXPLAIN_POLICIES).collect();
    let is_permit = |a: &Account| a.effect == Effect::Permit;
    if matches!(told.verdict, Verdict::Deny(DenyReason::NoPermit | DenyReason::Forbidden(_)))
        && !told.accounts.iter().any(is_permit)
    {
        all.push(format!("no permit for `{}` is for this caller and this record; see `elsewhere`", why.action.name()));
    }
    all
}
