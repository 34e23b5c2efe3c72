//! `backup`: the next file of a backup, and an escrow of the keys; of a running server, or offline.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value as Json, json};

use super::{Failure, Outcome, client::Server, offline, passphrase::PassphraseArgument, print_json, progress};
use crate::{
    crypto::{Escrow, OsEntropy},
    engine::{Refusal, Settings, Wardkeep},
    store::{Inspected, Taken, inspect},
};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(group(ArgGroup::new("somewhere").args(["to", "escrow"]).multiple(true)))]
pub(super) struct Backup {
    #[command(subcommand)]
    verb: Option<Verb>,
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

#[derive(Subcommand)]
enum Verb {
    /// Read every byte of a backup and open every seal, without a store; exit 3 names the files that cannot be restored
    Verify(Verify),
}

#[derive(Args)]
struct Verify {
    /// Directory of the backup
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// An escrow of the store, of any time; it opens under the passphrase or key provider that the store had then
    #[arg(long, value_name = "FILE")]
    escrow: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgument,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Verify {
    fn run(self) -> Outcome {
        let escrow = Escrow::open(&read(&self.escrow)?, &self.passphrase.read()?)?;
        let files = inspect(&self.from, &escrow.keys(&OsEntropy)?)?;
        let sound = files.iter().all(|file| file.sound);
        if self.json {
            let last = files.last().is_some_and(|file| file.sound);
            print_json(&json!({"sound": sound, "last_is_sound": last, "files": files}));
        } else {
            files.iter().for_each(tell);
        }
        if sound { Ok(()) } else { Err(Failure::Found) }
    }
}

fn tell(file: &Inspected) {
    let Inspected { number, sound, whole, at, objects, entries } = file;
    match (sound, at) {
        (true, Some(at)) => println!(
            "{number:08}.wkb  sound, {} of {}: {objects} objects, {entries} entries of the audit log",
            if *whole { "whole" } else { "what changed" },
            at.rfc3339()
        ),
        (true | false, _) => {
            println!("{number:08}.wkb  CANNOT BE RESTORED: it, or one that it follows, is damaged or missing")
        }
    }
}

/// An escrow's bytes.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::Failed(format!("cannot read {}: {error}", path.display())))
}

impl Backup {
    pub(super) fn run(self) -> Outcome {
        match self.verb {
            Some(Verb::Verify(verify)) => verify.run(),
            None => self.make(),
        }
    }

    fn make(self) -> Outcome {
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
