//! `restore`: a store from a backup and an escrow.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::json;

use super::{Failure, Outcome, passphrase::PassphraseArgument, print_json, progress, store::Finding};
use crate::{
    clock::{Clock, SystemClock},
    engine::{Environment, Settings, restore},
    store::{EngineKind, HoldsOf, Plan, Replayed, Restored},
};

#[derive(Args)]
pub(super) struct Restore {
    /// Directory of the backup, a file that is whole, or `-`: a stream on standard input
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The escrow, taken after the backup; it opens under the passphrase or key provider that the store had then
    #[arg(long, value_name = "FILE")]
    escrow: PathBuf,
    /// Directory to create the store in; must be empty or not exist
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Go back to this file of the backup, by its number
    #[arg(long, value_name = "NUMBER")]
    until: Option<u32>,
    /// The ledger of what was erased and revoked; else the copy beside the backup, which a stream has none of. The one in the lost data directory will do, if it can be had
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// The storage engine of the new store; else that of the one that was backed up
    #[arg(long, value_name = "ENGINE")]
    engine: Option<EngineKind>,
    /// The anchor (`audit.anchor`) of the lost store: the restored one goes on under it, and its log names the head that the anchor knew
    #[arg(long, value_name = "FILE")]
    anchor: Option<PathBuf>,
    /// Then open every object and the audit log, and print times; exit 3 names what is damaged
    #[arg(long)]
    verify: bool,
    /// The escrow is old, and nothing was erased or revoked since
    #[arg(long)]
    accept_old_escrow: bool,
    /// There is no ledger, or it ends too early, and nothing was erased or revoked after the escrow
    #[arg(long)]
    accept_missing_ledger: bool,
    /// Permissions come back as they were at the time of the backup, and are set right before anybody asks
    #[arg(long)]
    accept_older_permissions: bool,
    #[command(flatten)]
    passphrase: PassphraseArgument,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Restore {
    pub(super) fn run(self) -> Outcome {
        let passphrase = self.passphrase.read()?;
        let arrived = (self.from == Path::new("-")).then(|| Arrived::beside(&self.data)).transpose()?;
        let from = arrived.as_ref().map_or(self.from.as_path(), |arrived| &arrived.0);
        let escrow = super::backup::read(&self.escrow)?;
        let plan = Plan {
            from,
            until: self.until,
            escrow: &escrow,
            ledger: self.ledger.as_deref(),
            unlock: &passphrase,
            to: &self.data,
            now: SystemClock.now(),
            accept_old_escrow: self.accept_old_escrow,
            accept_missing_ledger: self.accept_missing_ledger,
            accept_older_permissions: self.accept_older_permissions,
        };
        let bar = progress::counter("restoring objects", None);
        let begun = Instant::now();
        let settings = Settings { storage_engine: self.engine, ..Settings::default() };
        let environment = Environment { anchor: self.anchor.clone(), ..Environment::default() };
        let restored = restore(&plan, settings, environment, &|n| bar.set_position(n))?;
        bar.finish_and_clear();
        let took = begun.elapsed();
        let begun = Instant::now();
        let finding = self.verify.then(|| Finding::at(&self.data, &passphrase)).transpose()?;
        let verified = begun.elapsed();
        self.tell(&restored, took, finding.as_ref().map(|finding| (finding, verified)));
        match finding {
            Some(finding) if !finding.is_sound() => Err(Failure::Found),
            Some(_) | None => Ok(()),
        }
    }

    fn tell(&self, restored: &Restored, took: Duration, verified: Option<(&Finding, Duration)>) {
        let Restored { files, at, escrow_at, objects, gone_since, older, lost, entries, ledger, holds } = restored;
        if self.json {
            print_json(&json!({
                "restored": {
                    "files": files, "at": at.rfc3339(), "escrow_at": escrow_at.rfc3339(), "objects": objects,
                    "gone_since": gone_since, "older": older, "lost": lost, "entries": entries, "holds_of": holds,
                    "ledger": {
                        "complete": ledger.complete, "entries": ledger.entries, "after_escrow": ledger.after_escrow,
                        "until": ledger.until.map(|at| at.rfc3339()), "withdrawn": ledger.withdrawn, "permissions": ledger.permissions,
                    },
                },
                "seconds": took.as_secs_f64(),
                "verified": verified.map(|(finding, took)| json!({"found": finding.json(), "seconds": took.as_secs_f64()})),
            }));
            return;
        }
        println!(
            "restored   {objects} objects of {}, from {files} files, in {:.1} s",
            at.rfc3339(),
            took.as_secs_f64()
        );
        println!("audit log  {entries} entries");
        println!("escrow     of {}", escrow_at.rfc3339());
        println!(
            "  {gone_since:>8} objects of the backup were erased, removed or revoked since: they did not come back"
        );
        println!("  {older:>8} came back as they were before they were last changed");
        println!("  {lost:>8} are lost: they came after the backup, or were sealed under a new key since");
        tell_ledger(ledger);
        if *holds == HoldsOf::Backup {
            println!(
                "holds      the escrow is of an older build, which put no legal holds in: they are those of the backup. Place what was placed since, lift what was lifted"
            );
        }
        println!(
            "holds      nothing expires until they are confirmed: wardkeep holds lift --type System --id wardkeep"
        );
        if let Some((finding, took)) = verified {
            finding.print();
            println!("verified in {:.1} s", took.as_secs_f64());
        }
    }
}

/// What came on standard input, as a file beside the new store: it is read twice. Gone when it is dropped.
struct Arrived(PathBuf);

impl Arrived {
    fn beside(data: &Path) -> Result<Self, Failure> {
        let room = data.with_added_extension("incoming");
        let told = |error: io::Error| Failure::Failed(format!("cannot write {}: {error}", room.display()));
        DirBuilder::new().mode(0o700).create(&room).map_err(told)?;
        let arrived = Self(room.join("stream.wkb"));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&arrived.0).map_err(told)?;
        io::copy(&mut io::stdin().lock(), &mut file).map_err(told)?;
        Ok(arrived)
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
        // a room of its own, so that no ledger that happens to lie about is taken for the one beside it
        let _ = fs::remove_file(&self.0);
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

fn tell_ledger(ledger: &Replayed) {
    let Replayed { complete, entries, after_escrow, until, withdrawn, permissions } = ledger;
    println!("ledger     {entries} entries, {after_escrow} of them after the escrow");
    if let Some(until) = until {
        println!("           the last is of {}", until.rfc3339());
    }
    println!("  {withdrawn:>8} objects were erased or revoked after the escrow: they did not come back");
    println!("  {permissions:>8} permissions were changed after the escrow");
    if !complete {
        println!(
            "the ledger is missing or ends too early: what was erased or revoked after the escrow may be back: erase and revoke it again"
        );
    }
}
