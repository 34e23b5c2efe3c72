//! `policy check`: whether a bundle compiles, without a store.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::source;
use crate::{
    cli::{Failure, Outcome, print_json},
    policy::Bundle,
};

#[derive(Args)]
pub(in crate::cli) struct Check {
    /// Directory with one `.cedarschema`, any number of `.cedar` files, and perhaps `links.json`
    #[arg(value_name = "DIR")]
    bundle: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self) -> Outcome {
        match Bundle::compile(&source::read(&self.bundle, "")?) {
            Ok(bundle) => {
                if self.json {
                    print_json(
                        &json!({"valid": true, "digest": hex::encode(bundle.digest()), "warnings": bundle.warnings()}),
                    );
                } else {
                    println!("valid; digest {}", hex::encode(bundle.digest()));
                    bundle.warnings().iter().for_each(|w| println!("warning: {w}"));
                }
                Ok(())
            }
            Err(faults) => {
                if self.json {
                    let faults: Vec<_> =
                        faults.iter().map(|f| json!({"code": f.code, "line": f.line, "detail": f.message})).collect();
                    print_json(&json!({"valid": false, "errors": faults}));
                } else {
                    for fault in &faults {
                        let line = fault.line.map(|l| format!(" (line {l})")).unwrap_or_default();
                        println!("{}{line}: {}", fault.code, fault.message);
                    }
                }
                Err(Failure::Found)
            }
        }
    }
}
