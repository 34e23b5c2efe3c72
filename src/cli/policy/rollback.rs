//! `policy rollback`: an earlier version into force again, as a new one.

use clap::Args;
use serde_json::{Value as Json, json};

use super::consent::{Consent, Target};
use crate::cli::{Outcome, print_json};

#[derive(Args)]
pub(in crate::cli) struct Rollback {
    /// The version whose texts are to be in force again
    #[arg(value_name = "VERSION")]
    to: u64,
    #[command(flatten)]
    target: Target,
    /// Why; says which version it was where it is left out
    #[arg(long, default_value = "")]
    note: String,
    #[command(flatten)]
    consent: Consent,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Rollback {
    pub(super) fn run(self) -> Outcome {
        let activated = match &self.target.data {
            Some(data) => self.target.offline(data, |engine| {
                let grant = engine.operator_grant(&engine.operator());
                engine.rollback_policies(&grant, self.to, self.note.clone(), None, self.consent.allow())
            })?,
            None => {
                let path = format!("/v1/policies/rollback?{}", self.consent.query());
                self.target.server.client()?.post(&path, &json!({"version": self.to, "note": self.note}))?
            }
        };
        if self.json {
            print_json(&activated);
        } else {
            let version = activated.get("version").unwrap_or(&Json::Null);
            println!("version {version} is in force, with the texts of version {}", self.to);
        }
        Ok(())
    }
}
