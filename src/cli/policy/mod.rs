//! `policy`: everything an administrator does with a bundle; one file a verb.

mod check;
mod set;
pub(super) mod source;

use clap::Subcommand;

use super::Outcome;

#[derive(Subcommand)]
pub(super) enum Policy {
    /// Say whether a bundle compiles, and what is probably not meant in it
    Check(check::Check),
    /// Put a bundle into force
    Set(set::Set),
}

impl Policy {
    pub(super) fn run(self) -> Outcome {
        match self {
            Self::Check(verb) => verb.run(),
            Self::Set(verb) => verb.run(),
        }
    }
}
