//! `store verify`: every object of a data directory opened, and whatever is damaged named.

use clap::{Args, Subcommand};

use super::{Failure, Outcome, offline::Offline};

#[derive(Subcommand)]
pub(super) enum Store {
    /// Open every object; exit 3 names what is damaged
    Verify(Verify),
}

#[derive(Args)]
pub(super) struct Verify {
    #[command(flatten)]
    store: Offline,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Store {
    pub(super) fn run(self) -> Outcome {
        match self {
            Self::Verify(verb) => verb.run(),
        }
    }
}

impl Verify {
    fn run(self) -> Outcome {
        let _ = (&self.store, self.json);
        Err(Failure::Failed("not yet".into()))
    }
}
