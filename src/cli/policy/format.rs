//! `policy format`: the files of a bundle in one style.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::source;
use crate::{
    cli::{Failure, Outcome, print_json},
    policy::{self, Part},
};

#[derive(Args)]
pub(in crate::cli) struct Format {
    /// Directory with `.cedarschema` and `.cedar` files
    #[arg(value_name = "DIR")]
    bundle: PathBuf,
    /// Change nothing; exit 3 if something would be changed
    #[arg(long)]
    check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Format {
    pub(super) fn run(self) -> Outcome {
        let files = source::texts(&self.bundle)?;
        if files.is_empty() {
            return Err(Failure::Usage(format!("{} holds no .cedar and no .cedarschema file", self.bundle.display())));
        }
        // all of them before any is written, so that a fault in one leaves the bundle as it was
        let changed: Vec<(PathBuf, String)> =
            files.into_iter().map(changed).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        if !self.check {
            for (path, text) in &changed {
                std::fs::write(path, text)
                    .map_err(|e| Failure::Failed(format!("cannot write {}: {e}", path.display())))?;
            }
        }
        let names: Vec<String> = changed.iter().map(|(path, _)| path.display().to_string()).collect();
        if self.json {
            print_json(&json!({"changed": names, "written": !self.check}));
        } else {
            names.iter().for_each(|name| println!("{}{name}", if self.check { "would change " } else { "" }));
        }
        if self.check && !changed.is_empty() { Err(Failure::Found) } else { Ok(()) }
    }
}

/// A file that is not in the style yet, and what it should say.
fn changed((part, path): (Part, PathBuf)) -> Result<Option<(PathBuf, String)>, Failure> {
    let text = source::text(&path)?;
    let formatted = policy::formatted(&text, part).map_err(|fault| {
        let at = fault.place.as_ref().map(|p| format!(":{}:{}", p.line, p.column)).unwrap_or_default();
        Failure::Failed(format!("{}{at}: {}", path.display(), fault.message))
    })?;
    Ok((formatted != text).then_some((path, formatted)))
}
