//! `caller`: API keys on a running server.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Map, Value as Json, json};

use super::{
    Failure, Outcome,
    client::{Server, segment},
    offline,
    passphrase::PassphraseArgument,
    print_json,
};
use crate::{engine::Settings, model::EntityUid};

#[derive(Subcommand)]
pub(super) enum Caller {
    /// Make an API key; it is shown once
    Add(Add),
    /// List keys, without their secrets
    List(List),
    /// Take a key out of force at once
    Revoke(Revoke),
}

#[derive(Args)]
pub(super) struct Add {
    /// Entity type of the caller, such as Clinician
    #[arg(long = "type", value_name = "TYPE")]
    ty: String,
    /// Entity id of the caller
    #[arg(long)]
    id: String,
    /// Seconds until the key expires
    #[arg(long, value_name = "SECONDS")]
    expires_in: Option<u64>,
    /// Purposes that the key may be used for; any, if none is named
    #[arg(long = "purpose", value_name = "PURPOSE")]
    purposes: Vec<String>,
    /// Offline: the store's directory, for when no administrator's key is left (else a running server is asked)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgument,
    #[command(flatten)]
    server: Server,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    server: Server,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Revoke {
    /// Public name of the key
    #[arg(value_name = "KEY_ID")]
    key_id: String,
    #[command(flatten)]
    server: Server,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Caller {
    pub(super) fn run(self) -> Outcome {
        match self {
            Self::Add(verb) => verb.run(),
            Self::List(verb) => verb.run(),
            Self::Revoke(verb) => verb.run(),
        }
    }
}

impl Add {
    fn run(self) -> Outcome {
        let mut body = Map::new();
        body.insert("type".into(), self.ty.as_str().into());
        body.insert("id".into(), self.id.as_str().into());
        if let Some(seconds) = self.expires_in {
            body.insert("expires_in".into(), seconds.into());
        }
        if !self.purposes.is_empty() {
            body.insert("purposes".into(), self.purposes.clone().into());
        }
        let made = match &self.data {
            Some(data) => self.offline(data)?,
            None => self.server.client()?.post("/v1/callers", &Json::Object(body))?,
        };
        if self.json {
            print_json(&made);
        } else {
            let word = |name| made.get(name).and_then(Json::as_str).unwrap_or_default();
            println!("{}", word("api_key"));
            eprintln!("key id {}; the key is shown this once", word("key_id"));
        }
        Ok(())
    }
}

impl Add {
    /// Whoever holds the passphrase may make a key without one.
    fn offline(&self, data: &Path) -> Result<Json, Failure> {
        let engine = offline::open(data, &self.passphrase, Settings::default())?;
        let purposes = (!self.purposes.is_empty()).then(|| self.purposes.clone());
        let caller = EntityUid::new(self.ty.as_str(), self.id.as_str());
        let made = engine.make_key_offline(&engine.operator(), caller, self.expires_in, purposes);
        engine.close();
        let issued = made.map_err(|refusal| Failure::Failed(format!("the key could not be made: {refusal:?}")))?;
        Ok(json!({"api_key": issued.api_key.as_str(), "key_id": issued.key_id.to_string()}))
    }
}

impl List {
    fn run(self) -> Outcome {
        let all = self.server.client()?.get("/v1/callers")?;
        if self.json {
            print_json(&all);
            return Ok(());
        }
        let mut table = comfy_table::Table::new();
        table.set_header(["key id", "caller", "created", "expires", "purposes"]);
        for key in all.get("callers").and_then(Json::as_array).into_iter().flatten() {
            let word = |name| key.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
            let purposes = key.get("purposes").filter(|p| !p.is_null()).map(Json::to_string).unwrap_or_default();
            let caller = format!("{}::\"{}\"", word("type"), word("id"));
            table.add_row([word("key_id"), caller, word("created_at"), word("expires_at"), purposes]);
        }
        println!("{table}");
        Ok(())
    }
}

impl Revoke {
    fn run(self) -> Outcome {
        let answer = self.server.client()?.delete(&format!("/v1/callers/keys/{}", segment(&self.key_id)))?;
        if self.json {
            print_json(&answer);
        } else {
            println!("revoked");
        }
        Ok(())
    }
}
