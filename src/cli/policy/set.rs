//! `policy set`: a bundle into force, on a running server or offline.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::source;
use crate::{
    cli::{Failure, Outcome, client::Server, offline, passphrase::PassphraseArgument, print_json},
    engine::{Allow, Fault, Refusal, Settings},
    model::BundleSource,
};

#[derive(Args)]
pub(in crate::cli) struct Set {
    /// Directory with one `.cedarschema`, any number of `.cedar` files, and perhaps `links.json`
    #[arg(value_name = "DIR")]
    bundle: PathBuf,
    /// Offline: the store's directory (else a running server is asked)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgument,
    #[command(flatten)]
    server: Server,
    /// What this version is for
    #[arg(long, default_value = "")]
    note: String,
    /// Stored data may not fit the new schema; such records are then denied
    #[arg(long)]
    allow_invalid: bool,
    /// Forbids may go and caps may loosen
    #[arg(long)]
    allow_widening: bool,
    /// The uploader may lose the right to manage policies
    #[arg(long)]
    allow_lockout: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Set {
    pub(super) fn run(self) -> Outcome {
        let source = source::read(&self.bundle, &self.note)?;
        let activated = match &self.data {
            Some(data) => self.offline(data, source)?,
            None => {
                let path = format!(
                    "/v1/policies?allow_invalid={}&allow_widening={}&allow_lockout={}",
                    self.allow_invalid, self.allow_widening, self.allow_lockout
                );
                let body = json!({"schema": source.schema, "policies": source.policies, "links": source.links, "note": source.note});
                self.server.client()?.put(&path, &body)?
            }
        };
        if self.json {
            print_json(&activated);
        } else {
            println!("version {} is in force", activated.get("version").unwrap_or(&serde_json::Value::Null));
            for warning in activated.get("warnings").and_then(serde_json::Value::as_array).into_iter().flatten() {
                println!("warning: {}", warning.as_str().unwrap_or_default());
            }
        }
        Ok(())
    }

    /// The way back after a lockout: whoever holds the passphrase sets policies without being asked about by those in force.
    fn offline(&self, data: &Path, source: BundleSource) -> Result<serde_json::Value, Failure> {
        let engine = offline::open(data, &self.passphrase, Settings::default())?;
        let allow = Allow { invalid: self.allow_invalid, widening: self.allow_widening, lockout: self.allow_lockout };
        let activated = engine.put_policies(&engine.operator_grant(&engine.operator()), source, None, allow);
        engine.close();
        serde_json::to_value(activated.map_err(words)?).map_err(Failure::from)
    }
}

fn words(refusal: Refusal) -> Failure {
    let fault = |f: &Fault| format!("{}{}", f.line.map(|l| format!("line {l}: ")).unwrap_or_default(), f.detail);
    Failure::Failed(match refusal {
        Refusal::Invalid(faults) => faults.iter().map(fault).collect::<Vec<_>>().join("\n"),
        Refusal::Conflict { detail, more, .. } => format!("{detail}\n{more}"),
        Refusal::Unavailable(why) => why.to_owned(),
        Refusal::Forbidden => "not permitted".to_owned(),
        Refusal::Unauthenticated | Refusal::Absent | Refusal::Outdated { .. } | Refusal::Damaged => {
            "the store refused the policies".to_owned()
        }
    })
}
