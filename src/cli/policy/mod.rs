//! `policy`: everything an administrator does with a bundle; one file a verb.

mod check;
mod diff;
mod explain;
mod refused;
mod set;
pub(super) mod source;
mod trial;

use clap::Subcommand;

use super::Outcome;

#[derive(Subcommand)]
pub(super) enum Policy {
    /// Say whether a bundle compiles, and what is probably not meant in it
    Check(check::Check),
    /// Say what another bundle would change: who would see more, who less
    Diff(diff::Diff),
    /// Say why somebody may or may not see a record, and what would change it
    Explain(explain::Explain),
    /// Put a bundle into force
    Set(set::Set),
    /// Hold a bundle against cases kept as data; exit 3 names those that are decided otherwise
    Test(trial::Test),
}

impl Policy {
    pub(super) fn run(self) -> Outcome {
        match self {
            Self::Check(verb) => verb.run(),
            Self::Diff(verb) => verb.run(),
            Self::Explain(verb) => verb.run(),
            Self::Set(verb) => verb.run(),
            Self::Test(verb) => verb.run(),
        }
    }
}

/// A bundle as the server takes it.
fn sent(source: &crate::model::BundleSource) -> serde_json::Value {
    serde_json::json!({
        "schema": source.schema,
        "policies": source.policies,
        "templates": source.templates,
        "links": source.links,
        "note": source.note,
    })
}
