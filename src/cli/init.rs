//! `init`: a new store.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Outcome, config::Config, passphrase::PassphraseArgument, print_json};
use crate::{
    crypto::KdfCost,
    engine::{Environment, Settings, Wardkeep},
    store::EngineKind,
};

#[derive(Args)]
pub(super) struct Init {
    /// Directory to create the store in; must be empty or not exist
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Storage engine to make it with: sled or redb [default: what the configuration says, or sled]
    #[arg(long, value_name = "ENGINE")]
    engine: Option<EngineKind>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgument,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Init {
    pub(super) fn run(self) -> Outcome {
        let configured = Config::load(self.config.as_deref())?.settings();
        let settings = Settings { storage_engine: self.engine.or(configured.storage_engine), ..configured };
        let passphrase = self.passphrase.read()?;
        if passphrase.is_weak() {
            eprintln!(
                "warning: the passphrase is short; whoever steals the key file can guess it. A sentence is better."
            );
        }
        let founding =
            Wardkeep::create_with(&self.data, &passphrase, KdfCost::default(), settings, Environment::default())?;
        let public_key = hex::encode(founding.audit_public_key);
        if self.json {
            print_json(&json!({
                "api_key": founding.api_key.as_str(),
                "key_id": founding.key_id.to_string(),
                "audit_public_key": public_key,
            }));
            return Ok(());
        }
        println!("store created in {}", self.data.display());
        println!();
        println!("  api key of Administrator::\"root\"   {}", founding.api_key.as_str());
        println!("  audit public key                   {public_key}");
        println!();
        println!("The key is shown this once. Keep the public key elsewhere: it verifies the audit log.");
        println!("Next: wardkeep serve --data {}", self.data.display());
        Ok(())
    }
}
