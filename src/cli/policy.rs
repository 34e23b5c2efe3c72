//! `policy`: check a bundle without a store, or put it into force, on a server or offline.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Failure, Outcome, client::Server, offline, passphrase::PassphraseArgument, print_json};
use crate::{
    engine::{Allow, Fault, Refusal, Settings},
    model::{BundleSource, TemplateLink},
    policy::Bundle,
};

#[derive(Subcommand)]
pub(super) enum Policy {
    /// Say whether a bundle compiles, and what is probably not meant in it
    Check(Check),
    /// Put a bundle into force
    Set(Set),
}

#[derive(Args)]
pub(super) struct Check {
    /// Directory with one `.cedarschema`, any number of `.cedar` files, and perhaps `links.json`
    #[arg(value_name = "DIR")]
    bundle: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Set {
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

impl Policy {
    pub(super) fn run(self) -> Outcome {
        match self {
            Self::Check(verb) => verb.run(),
            Self::Set(verb) => verb.run(),
        }
    }
}

impl Check {
    fn run(self) -> Outcome {
        match Bundle::compile(&read(&self.bundle, "")?) {
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

impl Set {
    fn run(self) -> Outcome {
        let source = read(&self.bundle, &self.note)?;
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

/// A bundle from a directory: files in order of their names.
pub(super) fn read(dir: &Path, note: &str) -> Result<BundleSource, Failure> {
    let failed = |path: &Path, e: std::io::Error| Failure::Failed(format!("cannot read {}: {e}", path.display()));
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect())
        .map_err(|e| failed(dir, e))?;
    files.sort();
    let mut source = BundleSource { note: note.to_owned(), ..BundleSource::default() };
    let mut schemas = 0;
    for path in &files {
        let text = || std::fs::read_to_string(path).map_err(|e| failed(path, e));
        match path.extension().and_then(|e| e.to_str()) {
            Some("cedarschema") => {
                schemas += 1;
                source.schema = text()?;
            }
            Some("cedar") => {
                source.policies.push_str(&text()?);
                source.policies.push('\n');
            }
            Some("json") if path.file_name().is_some_and(|n| n == "links.json") => source.links = links(&text()?)?,
            Some(_) | None => {}
        }
    }
    if schemas != 1 {
        return Err(Failure::Usage(format!("{} must hold exactly one .cedarschema file", dir.display())));
    }
    Ok(source)
}

fn links(text: &str) -> Result<Vec<TemplateLink>, Failure> {
    serde_json::from_str(text).map_err(|e| Failure::Usage(format!("links.json: {e}")))
}
