//! `status`: how a running server is.

use clap::Args;
use serde_json::{Value as Json, json};

use super::{Outcome, client::Server, print_json};

#[derive(Args)]
pub(super) struct Status {
    #[command(flatten)]
    server: Server,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self) -> Outcome {
        let client = self.server.client()?;
        let ready = client.get("/readyz")?;
        let policies = client.get("/v1/policies")?;
        let collections = client.get("/v1/collections")?;
        if self.json {
            print_json(&json!({
                "status": ready.get("status"),
                "policy_version": policies.get("version"),
                "policy_digest": policies.get("digest"),
                "collections": collections.get("collections"),
            }));
            return Ok(());
        }
        let text = |json: &Json, name: &str| match json.get(name) {
            Some(Json::String(word)) => word.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        println!("status    {}", text(&ready, "status"));
        println!("policies  version {} ({})", text(&policies, "version"), text(&policies, "digest"));
        let mut table = comfy_table::Table::new();
        table.set_header(["collection", "records", "dimension", "metric", "isolation", "index bytes"]);
        for one in collections.get("collections").and_then(Json::as_array).into_iter().flatten() {
            table.add_row(["name", "records", "dimension", "metric", "isolation", "index_bytes"].map(|n| text(one, n)));
        }
        println!("{table}");
        Ok(())
    }
}
