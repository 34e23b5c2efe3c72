//! `init`: a new store.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{
    Outcome,
    config::{Config, ProviderName},
    passphrase::{PassphraseArgument, WEAK},
    print_json,
};
use crate::{
    crypto::{Keeper, OsEntropy, Passphrase},
    engine::{Environment, Wardkeep},
};

#[derive(Args)]
pub(super) struct Init {
    /// Directory to create the store in; must be empty or not exist
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgument,
    /// What keeps the key that wraps the key file [default: the configuration's, else passphrase]
    #[arg(long, value_name = "PROVIDER")]
    key_provider: Option<ProviderName>,
    /// Configuration file (TOML), of which `[keys]` counts here
    #[arg(long, value_name = "FILE", env = "WARDKEEP_CONFIG")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Init {
    pub(super) fn run(self) -> Outcome {
        let settings = Config::load(self.config.as_deref())?;
        let (access, keeper) = (self.passphrase.read_with(settings.keys())?, settings.keys().keeper(self.key_provider));
        if matches!(keeper, Keeper::Passphrase(_)) && access.passphrase.as_ref().is_some_and(Passphrase::is_weak) {
            eprintln!("{WEAK}");
        }
        let provider = || access.establish(keeper, &OsEntropy);
        let founding = Wardkeep::create_with(&self.data, provider, Environment::default())?;
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
