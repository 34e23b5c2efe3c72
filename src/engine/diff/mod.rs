//! What another bundle would change: who would see more, who less, and which past answers would be others. Counts and ids alone; the
//! figures are those that a decision about each record for each caller would give.

mod figures;
mod past;
mod present;
mod side;

use std::collections::BTreeSet;

use serde::Serialize;

pub use self::{
    figures::{Figures, Total},
    past::{Past, PastRow},
    present::{Asking, CallerRow, RoleRow},
};
use self::{present::Present, side::Side};
use super::{
    Refusal, Wardkeep,
    context::NOWHERE,
    explain::Assumed,
    grant::{Explain, Grant, ManagePolicies, ReadAudit},
};
use crate::{
    audit::What,
    model::{Action, BundleSource, CollectionName, EntityUid, RecordId, limits},
};

/// One of the bundles.
#[derive(Debug, Clone)]
pub enum Chosen {
    /// The one in force.
    InForce,
    /// One that was in force, or is.
    Version(u64),
    /// One that was sent.
    Sent(Box<BundleSource>),
}

/// What is compared.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The bundle before.
    pub old: Chosen,
    /// The bundle after.
    pub new: Chosen,
    /// Which collections; all, if it is not said.
    pub collections: Option<Vec<CollectionName>>,
    /// Which callers; every one that could be shown a record, if it is not said.
    pub callers: Option<Vec<EntityUid>>,
    /// Purposes to compare under, besides those that the audit log shows.
    pub purposes: Vec<String>,
    /// How many past days' answers are decided again.
    pub days: Option<u32>,
    /// Ids in a sample.
    pub samples: usize,
}

/// The rights that a comparison needs: it carries a bundle, tells whom policies let see what, and may look into the log.
pub struct Right {
    /// To try a bundle.
    pub policies: Grant<ManagePolicies>,
    /// To ask who may see what.
    pub explain: Grant<Explain>,
    /// To look at past answers.
    pub audit: Option<Grant<ReadAudit>>,
}

/// The answer, which is in the audit log already.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// The bundle before.
    pub old: Compared,
    /// The bundle after.
    pub new: Compared,
    /// What was compared.
    pub over: Over,
    /// Whether the store changed while it was compared, so that figures may be of more than one moment.
    pub changed_meanwhile: bool,
    /// All callers together, an action each; both in one where they agree.
    pub totals: Vec<Total>,
    /// By role: callers of one type with the same parents.
    pub roles: Vec<RoleRow>,
    /// How many more rows there are.
    pub roles_omitted: u64,
    /// By caller: those for whom something changes.
    pub callers: Vec<CallerRow>,
    /// How many more rows there are.
    pub callers_omitted: u64,
    /// Who could search at all before and not after, or the other way round.
    pub asking: Vec<Asking>,
    /// Past answers decided again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub past: Option<Past>,
}

/// A bundle that was compared.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// Its version; none where it was sent.
    pub version: Option<u64>,
    /// SHA-256, in hex.
    pub digest: String,
    /// What is stored and does not fit its schema, by type and attribute: such records are denied, such entities count as not stored.
    pub misfits: std::collections::BTreeMap<String, u64>,
}

/// What was compared.
#[derive(Debug, Clone, Serialize)]
pub struct Over {
    /// How many callers.
    pub callers: usize,
    /// Which collections.
    pub collections: Vec<CollectionName>,
    /// How many records are in them.
    pub records: u64,
    /// Purposes that the request named.
    pub purposes_asked: Vec<String>,
    /// Purposes that the audit log showed besides.
    pub purposes_from_audit: Vec<String>,
    /// What was told to the policies besides caller, record and purpose.
    pub assumed: Assumed,
}

/// Is told how far it has come: of how many steps.
pub type Steps<'a> = &'a dyn Fn(u64, u64);

impl Wardkeep {
    /// Compares two bundles on everything that is stored.
    pub fn diff(&self, right: &Right, comparison: &Comparison, steps: Steps<'_>) -> Result<Difference, Refusal> {
        let trail = right.policies.trail(self, What::Diff);
        let difference = self.told(trail.clone(), self.compare(right, comparison, steps))?;
        let named: Vec<&RecordId> = difference.named().collect();
        let trail = trail.asked(difference.over.callers).done(difference.callers.len()).records(named.into_iter());
        self.journal.note(trail.detail(format!("{} to {}", difference.old.name(), difference.new.name())))?;
        Ok(difference)
    }

    fn compare(&self, right: &Right, comparison: &Comparison, steps: Steps<'_>) -> Result<Difference, Refusal> {
        let (old, new) = (Side::of(self, &comparison.old)?, Side::of(self, &comparison.new)?);
        let now = self.clock.now();
        let past = match (&right.audit, comparison.days) {
            (Some(grant), Some(days)) => Some(self.retrievals(grant, now, days)?),
            _ => None,
        };
        let audited: BTreeSet<String> =
            past.iter().flat_map(|(retrievals, _)| retrievals).filter_map(|r| r.purpose.clone()).collect();
        let asked: BTreeSet<String> = comparison.purposes.iter().cloned().collect();
        let audited: Vec<String> = audited.difference(&asked).take(limits::DIFF_PURPOSES).cloned().collect();
        let purposes = purposes(&old, &new, asked.iter().chain(&audited))?;
        let changes = self.world.read().changes;
        let present = Present { engine: self, old: &old, new: &new, comparison, purposes, now };
        let (callers, collections) = (present.callers()?, present.collections()?);
        let ahead = (callers.len() * collections.len()) as u64;
        let all = ahead + past.as_ref().map_or(0, |(retrievals, _)| retrievals.len() as u64);
        let found = present.compare(&callers, &collections, &|step| steps(step, all))?;
        let past = past
            .map(|(retrievals, omitted)| {
                past::again(self, (&old, &new), retrievals, omitted, comparison, &|step| steps(ahead + step, all))
            })
            .transpose()?;
        let world = self.world.read();
        let assumed = Assumed { now: now.rfc3339(), source_ip: NOWHERE, break_glass: false };
        Ok(Difference {
            old: old.told(),
            new: new.told(),
            over: Over {
                callers: callers.len(),
                records: collections.iter().filter_map(|c| world.holding(c)).map(|h| h.len() as u64).sum(),
                collections,
                purposes_asked: asked.into_iter().collect(),
                purposes_from_audit: audited,
                assumed,
            },
            changed_meanwhile: world.changes != changes,
            totals: found.totals,
            roles: found.roles,
            roles_omitted: found.roles_omitted,
            callers: found.callers,
            callers_omitted: found.callers_omitted,
            asking: found.asking,
            past,
        })
    }
}

impl Difference {
    /// Every record that is named in it.
    fn named(&self) -> impl Iterator<Item = &RecordId> {
        let roles = self.roles.iter().flat_map(|row| [&row.gained, &row.lost]);
        let callers = self.callers.iter().flat_map(|row| [&row.gained, &row.lost]);
        let past = self.past.iter().flat_map(|past| past.callers.iter().map(|row| &row.no_longer));
        let samples = roles.chain(callers).chain(past).flat_map(|figures| &figures.sample);
        samples.collect::<BTreeSet<_>>().into_iter()
    }
}

impl Compared {
    fn name(&self) -> String {
        match self.version {
            Some(version) => format!("version_{version}"),
            None => self.digest.get(..12).unwrap_or_default().to_owned(),
        }
    }
}

/// Where no purpose is known, and none is needed, the one comparison is without.
fn purposes<'p>(
    old: &Side,
    new: &Side,
    known: impl Iterator<Item = &'p String>,
) -> Result<Vec<Option<String>>, Refusal> {
    let known: Vec<Option<String>> = known.cloned().map(Some).collect();
    let needed = |side: &Side| {
        [Action::Retrieve, Action::Read].iter().any(|a| side.bundle.context_declares(*a, "purpose").is_some())
    };
    match known.is_empty() {
        false => Ok(known),
        true if needed(old) || needed(new) => {
            let detail =
                "name the `purposes` to compare under; with `days`, those that the audit log shows are taken too";
            Err(Refusal::invalid("purposes", detail))
        }
        true => Ok(vec![None]),
    }
}
