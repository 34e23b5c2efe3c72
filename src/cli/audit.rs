//! `audit verify`: offline, against the key ring or a public key kept elsewhere.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Failure, Outcome, offline::Offline, print_json};
use crate::{
    audit,
    engine::origin_of,
    store::{Manifest, Store},
};

#[derive(Subcommand)]
pub(super) enum Audit {
    /// Verify every entry of a store's audit log; exit 3 names the first broken one
    Verify(Verify),
}

#[derive(Args)]
pub(super) struct Verify {
    #[command(flatten)]
    store: Offline,
    /// Public key that `init` printed, kept elsewhere; without it the key ring's own is used
    #[arg(long, value_name = "HEX")]
    public_key: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub(super) fn run(self) -> Outcome {
        match self {
            Self::Verify(verb) => verb.run(),
        }
    }
}

impl Verify {
    fn run(self) -> Outcome {
        let evidence = Store::evidence(&self.store.data, &self.store.passphrase.read()?)?;
        let ring = evidence.ring();
        let public_key = match &self.public_key {
            Some(text) => <[u8; 32]>::try_from(hex::decode(text).unwrap_or_default())
                .map_err(|_| Failure::Usage("--public-key must be 64 hex digits".into()))?,
            None => ring.signer().public_key(),
        };
        let report = audit::verify(
            &evidence.audit_dir(),
            &origin_of(ring),
            Some(ring.sealer("audit").as_ref()),
            public_key,
            Some(expected(evidence.manifest()?)),
        );
        let sound = report.is_sound();
        if self.json {
            print_json(
                &json!({"sound": sound, "entries": report.head.size, "root": hex::encode(report.head.root), "broken": report.broken.as_ref().map(ToString::to_string)}),
            );
        } else {
            println!("{}", in_words(&report));
        }
        if sound { Ok(()) } else { Err(Failure::Found) }
    }
}

/// The verdict in one line.
pub(super) fn in_words(report: &audit::Report) -> String {
    match &report.broken {
        None => format!("sound: {} entries, each sealed, chained and signed for", report.head.size),
        Some(broken) => format!("BROKEN at {broken}"),
    }
}

/// The head that the manifest remembers.
pub(super) fn expected(manifest: &Manifest) -> audit::Expected {
    audit::Expected { size: manifest.audit_size, root: manifest.audit_root, group: manifest.audit_group }
}
