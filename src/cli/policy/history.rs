//! `policy history`: the versions that were ever in force.

use clap::Args;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde_json::Value as Json;

use super::consent::Target;
use crate::cli::{Outcome, print_json};

#[derive(Args)]
pub(in crate::cli) struct History {
    /// Only versions before this one
    #[arg(long, value_name = "N")]
    before: Option<u64>,
    /// How many, at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100))]
    limit: u64,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl History {
    pub(super) fn run(self) -> Outcome {
        let history = match &self.target.data {
            Some(data) => self.target.offline(data, |engine| {
                let grant = engine.operator_grant(&engine.operator());
                engine.policy_history(&grant, self.before, usize::try_from(self.limit).unwrap_or(1))
            })?,
            None => {
                let before = self.before.map(|n| format!("&before={n}")).unwrap_or_default();
                self.target.server.client()?.get(&format!("/v1/policies/history?limit={}{before}", self.limit))?
            }
        };
        if self.json {
            print_json(&history);
        } else {
            println!("{}", table(&history));
            if let Some(next) = history.get("next").and_then(Json::as_u64) {
                println!("older versions: --before {next}");
            }
        }
        Ok(())
    }
}

fn table(history: &Json) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "version",
        "since",
        "by",
        "permits",
        "forbids",
        "templates",
        "links",
        "digest",
        "note",
    ]);
    for version in history.get("versions").and_then(Json::as_array).into_iter().flatten() {
        let text = |name: &str| version.get(name).and_then(Json::as_str).unwrap_or_default();
        let count = |name: &str| version.pointer(&format!("/counts/{name}")).map(Json::to_string).unwrap_or_default();
        let mut number = version.get("version").map(Json::to_string).unwrap_or_default();
        if version.get("version") == history.get("in_force") {
            number.push_str(" (in force)");
        }
        table.add_row([
            number,
            text("at").to_owned(),
            author(version),
            count("permits"),
            count("forbids"),
            count("templates"),
            count("links"),
            text("digest").chars().take(12).collect(),
            plain(text("note")),
        ]);
    }
    table
}

/// Who put a version into force, in Cedar's words.
pub(super) fn author(version: &Json) -> String {
    let part = |name: &str| version.pointer(&format!("/author/{name}")).and_then(Json::as_str).unwrap_or_default();
    plain(&format!("{}::\"{}\"", part("type"), part("id")))
}

/// What others typed, in one line that does nothing to a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(100).collect()
}
