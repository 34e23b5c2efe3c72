//! What a person compares, as tables.

use std::collections::BTreeSet;

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde_json::Value as Json;

use super::Answer;

/// At most `most` characters, in one line.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= most {
        return line;
    }
    line.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// One row a person: how much, of whom, by which policy, and what bound it.
pub(super) fn answers<'a>(answers: impl Iterator<Item = &'a Answer>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "who",
        "purpose",
        "records",
        "patients",
        "best score",
        "permitted by",
        "bound by",
    ]);
    for answer in answers {
        let results: Vec<&Json> = answer.body.get("results").and_then(Json::as_array).into_iter().flatten().collect();
        let patients: BTreeSet<String> =
            results.iter().filter_map(|r| r.pointer("/attributes/patient")).map(Json::to_string).collect();
        let permits: BTreeSet<&str> = results
            .iter()
            .filter_map(|r| r.get("permitted_by")?.as_array())
            .flatten()
            .filter_map(Json::as_str)
            .collect();
        let best = results.first().and_then(|r| r.get("score")).and_then(Json::as_f64);
        table.add_row([
            answer.who.role.to_owned(),
            answer.who.purpose.to_owned(),
            results.len().to_string(),
            patients.len().to_string(),
            best.map_or_else(|| "-".to_owned(), |score| format!("{score:.3}")),
            joined(permits.into_iter()),
            bound(&answer.body),
        ]);
    }
    table
}

fn bound(body: &Json) -> String {
    let applied = body.pointer("/limit/applied").and_then(Json::as_u64).unwrap_or(0);
    let by = body.pointer("/limit/bound_by").and_then(Json::as_array);
    format!("{applied}: {}", joined(by.into_iter().flatten().filter_map(Json::as_str)))
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

/// The first `most` results.
pub(super) fn hits(body: &Json, most: usize) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["score", "record", "document", "text"]);
    for result in body.get("results").and_then(Json::as_array).into_iter().flatten().take(most) {
        let word = |name| result.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
        let score = result.get("score").and_then(Json::as_f64).unwrap_or(0.0);
        table.add_row([format!("{score:.3}"), word("id"), word("document"), shortened(&word("text"), 70)]);
    }
    table
}
