//! `search`: one question to a running server.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde_json::{Map, Value as Json};

use super::{
    Failure, Outcome,
    client::{Server, segment},
    print_json,
};

#[derive(Args)]
pub(super) struct Search {
    /// Collection to ask
    #[arg(long)]
    collection: String,
    /// What for: treatment, research, operations …
    #[arg(long)]
    purpose: String,
    /// File that holds the question's vector as a JSON array
    #[arg(long, value_name = "FILE")]
    vector_file: PathBuf,
    /// Records wanted
    #[arg(long, default_value_t = 10)]
    limit: usize,
    /// Only this patient's
    #[arg(long)]
    patient: Option<String>,
    /// Only records that satisfy this Cedar expression over `resource` and `context`
    #[arg(long, value_name = "EXPR")]
    filter: Option<String>,
    #[command(flatten)]
    server: Server,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Search {
    pub(super) fn run(self) -> Outcome {
        let text = std::fs::read_to_string(&self.vector_file)
            .map_err(|e| Failure::Failed(format!("cannot read {}: {e}", self.vector_file.display())))?;
        let vector: Json =
            serde_json::from_str(&text).map_err(|_| Failure::Usage("the vector file is not JSON".into()))?;
        let mut body = Map::new();
        body.insert("vector".into(), vector);
        body.insert("limit".into(), self.limit.into());
        body.insert("purpose".into(), self.purpose.into());
        if let Some(patient) = self.patient {
            body.insert("patient".into(), patient.into());
        }
        if let Some(filter) = self.filter {
            body.insert("filter".into(), filter.into());
        }
        let path = format!("/v1/collections/{}/search", segment(&self.collection));
        let answer = self.server.client()?.post(&path, &Json::Object(body))?;
        if self.json {
            print_json(&answer);
        } else {
            print_table(&answer);
        }
        Ok(())
    }
}

fn print_table(answer: &Json) {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["score", "id", "document", "permitted by", "text"]);
    for result in answer.get("results").and_then(Json::as_array).into_iter().flatten() {
        let word = |name| result.get(name).and_then(Json::as_str).unwrap_or_default();
        let score = result.get("score").and_then(Json::as_f64).unwrap_or(0.0);
        let permits: Vec<_> = result
            .get("permitted_by")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect();
        let text: String = word("text").chars().take(80).collect();
        table.add_row([format!("{score:.4}"), word("id").into(), word("document").into(), permits.join(", "), text]);
    }
    println!("{table}");
    if let Some(limit) = answer.get("limit") {
        println!("limit {limit}");
    }
}
