//! `backup`: the next file of a backup, and an escrow of the keys; of a running server, or offline.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, IsTerminal, Write, stdout},
    os::unix::fs::{FileExt, OpenOptionsExt},
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
    /// Offline: directory of the backup; a whole one is begun where there is none, else what changed since is added. `-` writes a whole
    /// one to standard output, offline or from a running server; only one that ended with exit code 0 can be restored
    #[arg(long, value_name = "DIR")]
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
    /// Directory of the backup, or a file that is whole
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
        self.check_words()?;
        let (taken, escrow) = match &self.data {
            Some(data) => self.offline(data)?,
            None => self.online()?,
        };
        if let (Some(path), Some(bytes)) = (&self.escrow, escrow) {
            write(path, &bytes)?;
        }
        if self.json {
            print_json(&json!({"backup": taken, "escrow": self.escrow}));
        } else if self.is_streamed() {
            let bytes = taken.iter().filter_map(|taken| taken.get("bytes")?.as_u64()).sum::<u64>();
            eprintln!("backup     a whole one, {bytes} bytes");
            self.escrow.iter().for_each(|path| eprintln!("escrow     {}", path.display()));
        } else {
            taken.iter().for_each(print);
            self.escrow.iter().for_each(|path| println!("escrow     {}", path.display()));
        }
        Ok(())
    }

    /// What the parser of arguments cannot tell.
    fn check_words(&self) -> Outcome {
        let usage = |told: &str| Err(Failure::Usage(told.into()));
        match (self.is_streamed(), &self.data, &self.to) {
            (false, None, Some(_)) => {
                usage("a running server puts backups where its configuration says: `--to DIR` goes with `--data`")
            }
            (true, _, _) if self.json => usage("`--json` and a backup cannot both be on standard output"),
            (true, _, _) if std::io::stdout().is_terminal() => usage("a backup is nothing for a terminal: redirect it"),
            (true | false, _, _) => Ok(()),
        }
    }

    fn is_streamed(&self) -> bool {
        self.to.as_deref() == Some(Path::new("-"))
    }

    fn online(&self) -> Result<(Option<Json>, Option<Vec<u8>>), Failure> {
        let client = self.server.client()?;
        let taken = match (self.only_escrow, self.is_streamed()) {
            (true, _) => None,
            (false, true) => Some(json!({"bytes": client.post_for_stream("/v1/backup/stream", &mut stdout())?})),
            (false, false) => Some(client.post("/v1/backup", &json!({}))?),
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
        let progress = |n| bar.set_position(n);
        let taken = match &self.to {
            Some(_) if self.is_streamed() => engine.stream_backup(&grant, &mut stdout(), &progress).map(Some),
            Some(to) => engine.back_up(&grant, to, &progress).map(Some),
            None => Ok(None),
        };
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

/// Beside the file first: an escrow that was good stays until the new one is whole. Then its bytes are overwritten: it opens what was
/// erased since.
fn write(path: &Path, bytes: &[u8]) -> Outcome {
    let told = |error: std::io::Error| Failure::Failed(format!("cannot write {}: {error}", path.display()));
    let former = former(path).map_err(told)?;
    let fresh = path.with_added_extension("part");
    put(&fresh, path, bytes).inspect_err(|_| drop(fs::remove_file(&fresh))).map_err(told)?;
    former.map_or(Ok(()), |former| overwrite(&former)).map_err(|error| {
        Failure::Failed(format!(
            "the new escrow is in place, but the old one could not be overwritten ({error}): its bytes may still be on the disk"
        ))
    })
}

/// The escrow that is there, to be overwritten once it has no name any more. A link is not followed.
fn former(path: &Path) -> std::io::Result<Option<File>> {
    match OpenOptions::new().write(true).custom_flags(NO_FOLLOW).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn put(fresh: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let _ = fs::remove_file(fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(fresh, path)?;
    let room = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(room)?.sync_all()
}

fn overwrite(file: &File) -> std::io::Result<()> {
    let (zeros, length) = ([0; 64 << 10], file.metadata()?.len());
    let mut at = 0;
    while at < length {
        let piece = zeros.len().min(usize::try_from(length - at).unwrap_or(zeros.len()));
        file.write_all_at(zeros.get(..piece).unwrap_or_default(), at)?;
        at += piece as u64;
    }
    file.sync_all()
}

const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
