//! What whoever changes the policies in force says they know; and where that change is made.

use std::path::PathBuf;

use clap::Args;

use crate::{
    cli::{Failure, client::Server, offline, passphrase::PassphraseArgument},
    engine::{Allow, Fault, Refusal, Settings, Wardkeep},
};

/// A running server, or a store that is opened for the purpose.
#[derive(Args)]
pub(super) struct Target {
    /// Offline: the store's directory (else a running server is asked)
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgument,
    #[command(flatten)]
    pub(super) server: Server,
}

impl Target {
    /// Whoever holds the passphrase acts without being asked about by the policies in force: the way back after a lockout.
    pub(super) fn offline<T: serde::Serialize>(
        &self,
        data: &std::path::Path,
        work: impl FnOnce(&Wardkeep) -> Result<T, Refusal>,
    ) -> Result<serde_json::Value, Failure> {
        let engine = offline::open(data, &self.passphrase, Settings::default())?;
        let done = work(&engine);
        engine.close();
        serde_json::to_value(done.map_err(words)?).map_err(Failure::from)
    }
}

#[derive(Args)]
pub(super) struct Consent {
    /// Stored data may not fit the new schema; such records are then denied
    #[arg(long)]
    allow_invalid: bool,
    /// Forbids may go and caps may loosen
    #[arg(long)]
    allow_widening: bool,
    /// The uploader may lose the right to manage policies
    #[arg(long)]
    allow_lockout: bool,
    /// Refuse a bundle with warnings
    #[arg(long)]
    pub(super) strict: bool,
}

impl Consent {
    pub(super) fn allow(&self) -> Allow {
        Allow {
            invalid: self.allow_invalid,
            widening: self.allow_widening,
            lockout: self.allow_lockout,
            warnings: !self.strict,
        }
    }

    /// The same as a query.
    pub(super) fn query(&self) -> String {
        let Self { allow_invalid, allow_widening, allow_lockout, strict } = self;
        format!(
            "allow_invalid={allow_invalid}&allow_widening={allow_widening}&allow_lockout={allow_lockout}&strict={strict}"
        )
    }
}

fn words(refusal: Refusal) -> Failure {
    let fault = |f: &Fault| format!("{}{}", f.line.map(|l| format!("line {l}: ")).unwrap_or_default(), f.detail);
    Failure::Failed(match refusal {
        Refusal::Invalid(faults) => faults.iter().map(fault).collect::<Vec<_>>().join("\n"),
        Refusal::Conflict { detail, more, .. } => format!("{detail}\n{more}"),
        Refusal::Unavailable(why) => why.to_owned(),
        Refusal::Forbidden => "not permitted".to_owned(),
        Refusal::Absent => "there is no such version".to_owned(),
        Refusal::Unauthenticated | Refusal::Outdated { .. } | Refusal::Damaged => {
            "the store refused the policies".to_owned()
        }
    })
}
