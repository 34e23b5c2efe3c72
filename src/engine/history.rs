//! Every version of the policies that was ever in force: what it said, who put it there, when and why.

use serde::{Serialize, Serializer};

use super::{
    Refusal, Wardkeep,
    grant::{Grant, ManagePolicies},
};
use crate::{
    audit::What,
    clock::Instant,
    model::{BundleSource, EntityUid, TemplateLink},
    policy::{self, Counts, Warning},
    store::StoredBundle,
};

/// One version, without its texts.
#[derive(Debug, Clone, Serialize)]
pub struct Version {
    /// Its number, from 1.
    pub version: u64,
    /// SHA-256 over its texts and note.
    #[serde(serialize_with = "in_hex")]
    pub digest: [u8; 32],
    /// Who put it into force.
    pub author: EntityUid,
    /// When.
    #[serde(serialize_with = "in_words")]
    pub at: Instant,
    /// What for.
    pub note: String,
    /// The earlier version that it is again.
    pub restores: Option<u64>,
    /// How much is in it.
    pub counts: Counts,
}

/// One version, whole.
#[derive(Debug, Clone, Serialize)]
pub struct Edition {
    /// What there is to know about it.
    #[serde(flatten)]
    pub version: Version,
    /// Its schema, as it was sent.
    pub schema: String,
    /// Its policies.
    pub policies: String,
    /// Its templates, as far as they were sent apart.
    pub templates: String,
    /// Its links.
    pub links: Vec<TemplateLink>,
    /// What is legal in it and probably not meant; told of the version in force alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnings: Option<Vec<Warning>>,
}

/// Versions from the newest on.
#[derive(Debug, Clone, Serialize)]
pub struct History {
    /// The version in force.
    pub in_force: u64,
    /// The versions, newest first.
    pub versions: Vec<Version>,
    /// What to ask for next: versions before this one.
    pub next: Option<u64>,
}

impl Wardkeep {
    /// One version as it was sent: the one in force, or any that was.
    pub fn policies(&self, grant: &Grant<ManagePolicies>, version: Option<u64>) -> Result<Edition, Refusal> {
        let in_force = self.bundle_in_force().version;
        let number = version.unwrap_or(in_force);
        let stored = self.told(grant.trail(self, What::ReadPolicies), self.version_of(number))?;
        let trail = grant.trail(self, What::ReadPolicies);
        self.journal.note(trail.detail(format!("version_{number}")))?;
        let world = self.world.read();
        let warnings = (world.policy.version == number).then(|| world.policy.bundle.warnings().to_vec());
        drop(world);
        let version = told(number, &stored);
        let BundleSource { schema, policies, templates, links, note: _, tolerates_misfits: _ } = stored.source;
        Ok(Edition { version, schema, policies, templates, links, warnings })
    }

    /// At most `limit` versions, those before `before`, newest first.
    pub fn policy_history(
        &self,
        grant: &Grant<ManagePolicies>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<History, Refusal> {
        let in_force = self.bundle_in_force().version;
        let newest = before.map_or(in_force, |before| before.saturating_sub(1).min(in_force));
        let read = || {
            let numbers = (1..=newest).rev().take(limit);
            numbers.map(|number| Ok(told(number, &self.version_of(number)?))).collect::<Result<Vec<_>, Refusal>>()
        };
        let versions = self.told(grant.trail(self, What::ReadPolicies).detail("history"), read())?;
        self.journal.note(grant.trail(self, What::ReadPolicies).detail("history").done(versions.len()))?;
        let next = versions.last().map(|v| v.version).filter(|last| *last > 1);
        Ok(History { in_force, versions, next })
    }

    /// What the store keeps of a version; `Absent` if there never was one of this number.
    pub(super) fn version_of(&self, number: u64) -> Result<StoredBundle, Refusal> {
        self.store.bundle_of(number)?.ok_or(Refusal::Absent)
    }
}

fn in_hex<S: Serializer>(digest: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(digest))
}

fn in_words<S: Serializer>(at: &Instant, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.rfc3339())
}

fn told(version: u64, stored: &StoredBundle) -> Version {
    Version {
        version,
        digest: policy::digest(&stored.source),
        author: stored.author.clone(),
        at: stored.at,
        note: stored.source.note.clone(),
        restores: stored.restores,
        counts: policy::count(&stored.source),
    }
}
