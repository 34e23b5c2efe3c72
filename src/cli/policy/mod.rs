//! `policy`: everything an administrator does with a bundle; one file a verb.

mod check;
mod consent;
mod format;
mod history;
mod rollback;
mod set;
mod show;
pub(super) mod source;

use clap::Subcommand;

use super::Outcome;

#[derive(Subcommand)]
pub(super) enum Policy {
    /// Say whether a bundle compiles, how each policy will be decided, and what is probably not meant
    Check(check::Check),
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
}

impl Policy {
    pub(super) fn run(self) -> Outcome {
        match self {
            Self::Check(verb) => verb.run(),
            Self::Format(verb) => verb.run(),
            Self::History(verb) => verb.run(),
            Self::Rollback(verb) => verb.run(),
            Self::Set(verb) => verb.run(),
            Self::Show(verb) => verb.run(),
        }
    }
}
