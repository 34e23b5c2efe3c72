//! `policy show`: the version in force, or an earlier one, as text or as a directory to work on.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value as Json;

use super::consent::Target;
use crate::cli::{Failure, Outcome, print_json};

#[derive(Args)]
// `--version` is the bundle's here, not the program's
#[command(disable_version_flag = true)]
pub(in crate::cli) struct Show {
    /// The version; the one in force where it is left out
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    /// Write it as files into this directory, which must be new or empty
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) fn run(self) -> Outcome {
        let shown = match &self.target.data {
            Some(data) => self
                .target
                .offline(data, |engine| engine.policies(&engine.operator_grant(&engine.operator()), self.version))?,
            None => {
                let query = self.version.map(|n| format!("?version={n}")).unwrap_or_default();
                self.target.server.client()?.get(&format!("/v1/policies{query}"))?
            }
        };
        if let Some(dir) = &self.into {
            write(dir, &shown)?;
        }
        if self.json {
            print_json(&shown);
        } else if self.into.is_none() {
            print(&shown);
        }
        Ok(())
    }
}

fn text<'j>(shown: &'j Json, name: &str) -> &'j str {
    shown.get(name).and_then(Json::as_str).unwrap_or_default()
}

fn print(shown: &Json) {
    let version = shown.get("version").unwrap_or(&Json::Null);
    println!("// version {version}, {}, by {}", text(shown, "at"), super::history::author(shown));
    println!("// digest {}", text(shown, "digest"));
    text(shown, "note").lines().for_each(|line| println!("// note: {line}"));
    for part in ["schema", "policies", "templates"].into_iter().filter(|part| !text(shown, part).is_empty()) {
        println!("\n// ---- {part} ----\n\n{}", text(shown, part).trim_end());
    }
    if let Some(links) = links(shown) {
        println!("\n// ---- links ----\n\n{links}");
    }
}

fn links(shown: &Json) -> Option<String> {
    let links = shown.get("links").filter(|links| links.as_array().is_some_and(|links| !links.is_empty()))?;
    serde_json::to_string_pretty(links).ok()
}

fn write(dir: &Path, shown: &Json) -> Outcome {
    let failed = |e: std::io::Error| Failure::Failed(format!("cannot write into {}: {e}", dir.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    if std::fs::read_dir(dir).map_err(failed)?.next().is_some() {
        return Err(Failure::Usage(format!("{} is not empty", dir.display())));
    }
    let files = [("wardkeep.cedarschema", "schema"), ("policies.cedar", "policies"), ("templates.cedar", "templates")];
    for (file, part) in files.into_iter().filter(|(_, part)| !text(shown, part).is_empty()) {
        std::fs::write(dir.join(file), text(shown, part)).map_err(failed)?;
    }
    links(shown).map_or(Ok(()), |links| std::fs::write(dir.join("links.json"), links + "\n")).map_err(failed)
}
