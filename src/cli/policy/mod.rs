//! `policy`: everything an administrator does with a bundle; one file a verb.

mod check;
mod consent;
mod diff;
mod explain;
mod format;
mod history;
mod refused;
mod rollback;
mod set;
mod show;
pub(super) mod source;
mod trial;

use clap::Subcommand;

use super::Outcome;

#[derive(Subcommand)]
pub(super) enum Policy {
    /// Say whether a bundle compiles, how each policy will be decided, and what is probably not meant
    Check(check::Check),
    /// Say what another bundle would change: who would see more, who less
    Diff(diff::Diff),
    /// Say why somebody may or may not see a record, and what would change it
    Explain(explain::Explain),
    /// Bring a bundle's files into one style
    Format(format::Format),
    /// List the versions that were ever in force
    History(history::History),
    /// Put an earlier version into force again, as a new one
    Rollback(rollback::Rollback),
    /// Put a bundle into force
    Set(set::Set),
    /// Print the version in force, or an earlier one
    Show(show::Show),
    /// Hold a bundle against cases kept as data; exit 3 names those that are decided otherwise
    Test(trial::Test),
}

impl Policy {
    pub(super) fn run(self) -> Outcome {
        match self {
            Self::Check(verb) => verb.run(),
            Self::Diff(verb) => verb.run(),
            Self::Explain(verb) => verb.run(),
            Self::Format(verb) => verb.run(),
            Self::History(verb) => verb.run(),
            Self::Rollback(verb) => verb.run(),
            Self::Set(verb) => verb.run(),
            Self::Show(verb) => verb.run(),
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
