//! `backup`: the next file of a backup, and an escrow of the keys; of a running server, or offline.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::{ArgGroup, Args};
use serde_json::{Value as Json, json};

use super::{Failure, Outcome, client::Server, offline, passphrase::PassphraseArgument, print_json, progress};
use crate::{
    engine::{Refusal, Settings, Wardkeep},
    store::Taken,
};

#[derive(Args)]
#[command(group(ArgGroup::new("somewhere").args(["to", "escrow"]).multiple(true)))]
pub(super) struct Backup {
    /// Offline: the store's directory (else a running server is asked, which puts backups where its configuration says)
    #[arg(long, value_name = "DIR", requires = "somewhere")]
    data: Option<PathBuf>,
    /// Offline: directory of the backup; a whole one is begun where there is none, else what changed since is added
    #[arg(long, value_name = "DIR", requires = "data")]
    to: Option<PathBuf>,
    /// Also write what a restore needs of the keys to this file, under the store's passphrase or key provider. Keep it apart from the
    /// backup, take a new one after erasures, and destroy the old one: it opens what was stored when it was taken
    #[arg(long, value_name = "FILE")]
    escrow: Option<PathBuf>,
    /// Make an escrow only
    #[arg(long, requires = "escrow", conflicts_with = "to")]
    only_escrow: bool,
    #[command(flatten)]
    passphrase: PassphraseArgument,
    #[command(flatten)]
    server: Server,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Backup {
    pub(super) fn run(self) -> Outcome {
        let (taken, escrow) = match &self.data {
            Some(data) => self.offline(data)?,
            None => self.online()?,
        };
        if let (Some(path), Some(bytes)) = (&self.escrow, escrow) {
            write(path, &bytes)?;
        }
        if self.json {
            print_json(&json!({"backup": taken, "escrow": self.escrow}));
        } else {
            taken.iter().for_each(print);
            self.escrow.iter().for_each(|path| println!("escrow     {}", path.display()));
        }
        Ok(())
    }

    fn online(&self) -> Result<(Option<Json>, Option<Vec<u8>>), Failure> {
        let client = self.server.client()?;
        let taken = match self.only_escrow {
            true => None,
            false => Some(client.post("/v1/backup", &json!({}))?),
        };
        // after the backup, so that it has the keys of all that is in it
        let escrow = self.escrow.as_ref().map(|_| client.post_for_bytes("/v1/escrow")).transpose()?;
        Ok((taken, escrow))
    }

    fn offline(&self, data: &Path) -> Result<(Option<Json>, Option<Vec<u8>>), Failure> {
        let engine = offline::open(data, &self.passphrase, Settings::default())?;
        let done = self.of(&engine);
        engine.close();
        let told = |refusal| match refusal {
            Refusal::Conflict { detail, .. } => Failure::Failed(detail),
            other => Failure::Failed(format!("the backup could not be made: {other:?}")),
        };
        let (taken, escrow) = done.map_err(told)?;
        Ok((taken.map(|taken| json!(taken)), escrow))
    }

    fn of(&self, engine: &Wardkeep) -> Result<(Option<Taken>, Option<Vec<u8>>), Refusal> {
        let grant = engine.operator_grant(&engine.operator());
        let bar = progress::counter("copying objects", None);
        let taken = self.to.as_ref().map(|to| engine.back_up(&grant, to, &|n| bar.set_position(n))).transpose();
        bar.finish_and_clear();
        let escrow = self.escrow.as_ref().map(|_| engine.escrow(&grant)).transpose()?;
        Ok((taken?, escrow))
    }
}

fn print(taken: &Json) {
    let count = |name| taken.get(name).and_then(Json::as_u64).unwrap_or_default();
    let whole = taken.get("whole").and_then(Json::as_bool).unwrap_or_default();
    let kind = if whole { "whole" } else { "what changed since the one before" };
    println!("backup     file {:08}.wkb ({kind}), {} bytes", count("number"), count("bytes"));
    println!(
        "objects    {}, of which {} are new or changed; {} are gone",
        count("objects"),
        count("changed"),
        count("gone")
    );
    println!("audit log  {} entries", count("entries"));
    if let Some(broken) = taken.get("broken").and_then(Json::as_u64) {
        eprintln!(
            "warning: file {broken:08}.wkb of this backup is damaged or missing, so this one is whole; what follows that file cannot be restored"
        );
    }
}

/// Beside the file first: an escrow that was good stays until the new one is whole.
fn write(path: &Path, bytes: &[u8]) -> Outcome {
    let fresh = path.with_extension("part");
    let told = |error: std::io::Error| Failure::Failed(format!("cannot write {}: {error}", path.display()));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(told)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(told)?;
    fs::rename(&fresh, path).map_err(told)
}
