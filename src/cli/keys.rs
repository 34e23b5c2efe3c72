//! `keys`: how the keys are, and renewing them; certificates of erasure.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use super::{
    Failure, Outcome,
    client::{Client, Server},
    config::{KeySettings, ProviderName},
    offline,
    passphrase::{self, PassphraseArgument},
    print_json, progress,
};
use crate::{
    crypto::{KdfCost, OsEntropy, PassphraseKey},
    engine::{Certificate, Grant, KeyStatus, ManageKeys, Refusal, Settings, Wardkeep},
};

/// What a change of passphrase or provider does not reach.
const LEFT_BEHIND: &str = "note: copies of the old key file, and escrows taken before, still open under what kept them: destroy them, and take a new escrow. \
                           The store's root secret (names on disk, the log's seals and signature, backups' outer seal) stays as it was: whoever had it has it; \
                           against that only a new store helps, filled anew.";

/// How often a rotation under way is asked after: at first, and at last, for it takes whoever asks for one who wants to be served.
const INTERVAL: Duration = Duration::from_millis(500);
const INTERVAL_MOST: Duration = Duration::from_secs(5);

#[derive(Subcommand)]
pub(super) enum Keys {
    /// Say which keys there are, and how far a rotation is
    Status(Status),
    /// Renew the ring key at once, and every data key in the background
    Rotate(Rotate),
    /// Offline: put the key file under another passphrase
    Passphrase(Passphrase),
    /// Offline: have the key file kept by another provider
    Provider(Provider),
    /// Verify a certificate of erasure; exit 3 if it does not hold
    Certificate(CertificateFile),
}

#[derive(Args)]
pub(super) struct Where {
    /// Offline: the store's directory (else a running server is asked)
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
pub(super) struct Status {
    #[command(flatten)]
    place: Where,
}

#[derive(Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    place: Where,
    /// Wait until every data key is renewed (offline it always is)
    #[arg(long)]
    wait: bool,
}

#[derive(Args)]
pub(super) struct Passphrase {
    /// The store's directory; no server may be running on it
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgument,
    /// File that holds the new passphrase (else WARDKEEP_NEW_PASSPHRASE)
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Provider {
    /// Which: it is reached as `[keys]` of the configuration says, or the environment
    #[arg(value_name = "PROVIDER")]
    provider: ProviderName,
    /// The store's directory; no server may be running on it
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgument,
}

#[derive(Args)]
pub(super) struct CertificateFile {
    /// The certificate, or the answer of the erasure that holds it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Public key of the audit log that `init` printed, kept elsewhere
    #[arg(long, value_name = "HEX")]
    public_key: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Keys {
    pub(super) fn run(self) -> Outcome {
        match self {
            Self::Status(verb) => verb.run(),
            Self::Rotate(verb) => verb.run(),
            Self::Passphrase(verb) => verb.run(),
            Self::Provider(verb) => verb.run(),
            Self::Certificate(verb) => verb.run(),
        }
    }
}

impl Status {
    fn run(self) -> Outcome {
        let status = match &self.place.data {
            Some(data) => with_store(data, &self.place.passphrase, |engine, grant| engine.key_status(grant))?,
            None => self.place.server.client()?.get("/v1/keys")?,
        };
        self.place.print(&status);
        Ok(())
    }
}

impl Rotate {
    fn run(self) -> Outcome {
        let status = match &self.place.data {
            Some(data) => with_store(data, &self.place.passphrase, |engine, grant| {
                engine.rotate_keys(grant)?;
                engine.settle_rotation();
                engine.key_status(grant)
            })?,
            None => {
                let client = self.place.server.client()?;
                let begun = client.post("/v1/keys/rotate", &json!({}))?;
                if self.wait { settled(&client, begun)? } else { begun }
            }
        };
        self.place.print(&status);
        Ok(())
    }
}

/// Asks until nothing is left to renew.
fn settled(client: &Client, mut status: Json) -> Result<Json, Failure> {
    let mut interval = INTERVAL;
    let bar = progress::counter("renewing data keys", status.get("data_keys").and_then(Json::as_u64));
    while status.get("state").and_then(Json::as_str) == Some("renewing") {
        bar.set_position(status.get("renewed").and_then(Json::as_u64).unwrap_or_default());
        thread::sleep(interval);
        interval = INTERVAL_MOST.min(interval * 2);
        status = client.get("/v1/keys")?;
    }
    bar.finish_and_clear();
    Ok(status)
}

impl Passphrase {
    fn run(self) -> Outcome {
        let next = passphrase::new(self.new_passphrase_file.as_deref())?;
        if next.is_weak() {
            eprintln!("{}", passphrase::WEAK);
        }
        let provider = Arc::new(PassphraseKey::make(&next, KdfCost::default(), &OsEntropy)?);
        with_engine(&self.data, &self.passphrase, |engine, grant| engine.change_provider(grant, provider))?;
        println!("the key file opens with the new passphrase alone");
        eprintln!("{LEFT_BEHIND}");
        Ok(())
    }
}

impl Provider {
    fn run(self) -> Outcome {
        let settings = KeySettings::from_environment()?;
        let access = self.passphrase.read_with(&settings)?;
        let provider = access.establish(settings.keeper(Some(self.provider)), &OsEntropy)?;
        let name = provider.kind();
        with_engine(&self.data, &self.passphrase, |engine, grant| engine.change_provider(grant, provider))?;
        println!("the key file is kept by {name} from now on");
        eprintln!("{LEFT_BEHIND}");
        Ok(())
    }
}

impl CertificateFile {
    fn run(self) -> Outcome {
        let key = <[u8; 32]>::try_from(hex::decode(&self.public_key).unwrap_or_default())
            .map_err(|_| Failure::Usage("--public-key must be 64 hex digits".into()))?;
        let text = fs::read(&self.file)
            .map_err(|error| Failure::Failed(format!("cannot read {}: {error}", self.file.display())))?;
        let verdict = match read(&text) {
            Some(certificate) => certificate.verify(&key).map(|()| certificate).map_err(|why| why.to_string()),
            None => Err("this is not a certificate of erasure".to_owned()),
        };
        match (&verdict, self.json) {
            (Ok(held), true) => print_json(&json!({"valid": true, "statement": held.statement})),
            (Ok(held), false) => println!("valid: {:#}", held.statement),
            (Err(why), true) => print_json(&json!({"valid": false, "why": why})),
            (Err(why), false) => println!("NOT VALID: {why}"),
        }
        verdict.map(drop).map_err(|_| Failure::Found)
    }
}

/// Alone, or as `certificate` of an answer.
fn read(text: &[u8]) -> Option<Certificate> {
    let json: Json = serde_json::from_slice(text).ok()?;
    let inner = json.get("certificate").cloned();
    serde_json::from_value(inner.unwrap_or(json)).ok()
}

impl Where {
    fn print(&self, status: &Json) {
        if self.json {
            return print_json(status);
        }
        let word = |name: &str| match status.get(name) {
            Some(Json::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        println!("provider    {}{}", word("provider"), own_key(&word("provider")));
        println!("key file    generation {}", word("key_file_generation"));
        println!("data keys   {}, {} of them of rotation {}", word("data_keys"), word("renewed"), word("rotation"));
        println!("state       {}", word("state"));
    }
}

/// A rotation renews what the provider's key wraps, never that key.
fn own_key(provider: &str) -> &'static str {
    match provider {
        "pkcs11" => " (its key stays: `keys provider pkcs11` with another `keys.pkcs11.key` moves to a new one)",
        "vault" => " (its key is renewed there; `keys rotate` then wraps the key file by the newest version)",
        _ => " (it stays: `keys passphrase` changes it)",
    }
}

fn with_store(
    data: &Path,
    passphrase: &PassphraseArgument,
    work: impl FnOnce(&Wardkeep, &Grant<ManageKeys>) -> Result<KeyStatus, Refusal>,
) -> Result<Json, Failure> {
    Ok(serde_json::to_value(with_engine(data, passphrase, work)?)?)
}

fn with_engine<T>(
    data: &Path,
    passphrase: &PassphraseArgument,
    work: impl FnOnce(&Wardkeep, &Grant<ManageKeys>) -> Result<T, Refusal>,
) -> Result<T, Failure> {
    let engine = offline::open(data, passphrase, Settings::default())?;
    let done = work(&engine, &engine.operator_grant(&engine.operator()));
    engine.close();
    done.map_err(|refusal| match refusal {
        Refusal::Conflict { detail, .. } => Failure::Failed(detail),
        Refusal::Unavailable(why) => Failure::Failed(why.to_owned()),
        other => Failure::Failed(format!("it could not be done: {other:?}")),
    })
}
