//! `policy set`: a bundle into force, on a running server or offline.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{
    consent::{Consent, Target},
    source::Folder,
};
use crate::{
    cli::{Failure, Outcome, print_json},
    policy::{Bundle, BundleFault},
};

#[derive(Args)]
pub(in crate::cli) struct Set {
    /// Directory with one `.cedarschema`, any number of `.cedar` files, and perhaps `links.json`
    #[arg(value_name = "DIR")]
    bundle: PathBuf,
    #[command(flatten)]
    target: Target,
    /// What this version is for
    #[arg(long, default_value = "")]
    note: String,
    #[command(flatten)]
    consent: Consent,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Set {
    pub(super) fn run(self) -> Outcome {
        let folder = Folder::open(&self.bundle, &self.note)?;
        let bundle = self.checked(&folder)?;
        let source = folder.source.clone();
        let activated = match &self.target.data {
            Some(data) => self.target.offline(data, |engine| {
                let grant = engine.operator_grant(&engine.operator());
                engine.put_policies(&grant, source, None, self.consent.allow())
            })?,
            None => {
                let path = format!("/v1/policies?{}", self.consent.query());
                let body = json!({"schema": source.schema, "policies": source.policies, "links": source.links, "note": source.note});
                self.target.server.client()?.put(&path, &body)?
            }
        };
        if self.json {
            print_json(&activated);
        } else {
            println!("version {} is in force", activated.get("version").unwrap_or(&serde_json::Value::Null));
            bundle.warnings().iter().for_each(|warning| print!("{}", folder.warning(warning)));
        }
        Ok(())
    }

    /// What is at fault is shown in its file, which the server does not know, before anything is sent.
    fn checked(&self, folder: &Folder) -> Result<Bundle, Failure> {
        let bundle = Bundle::compile(&folder.source).map_err(|faults| refused(folder, &faults))?;
        let mut faults = bundle.objections().to_vec();
        if self.consent.strict {
            faults.extend(bundle.warnings().iter().cloned().map(BundleFault::from));
        }
        if faults.is_empty() { Ok(bundle) } else { Err(refused(folder, &faults)) }
    }
}

fn refused(folder: &Folder, faults: &[BundleFault]) -> Failure {
    faults.iter().for_each(|fault| eprint!("{}", folder.fault(fault)));
    Failure::Failed(format!("{} to mend; nothing was changed", faults.len()))
}
