//! `restore`: a store from a backup and an escrow.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::json;

use super::{Failure, Outcome, passphrase::PassphraseArgument, print_json, progress, store::Finding};
use crate::{
    clock::{Clock, SystemClock},
    engine::{Environment, Settings, restore},
    store::{Plan, Restored},
};

#[derive(Args)]
pub(super) struct Restore {
    /// Directory of the backup
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
    /// Then open every object and the audit log, and print times; exit 3 names what is damaged
    #[arg(long)]
    verify: bool,
    /// The escrow is old, and nothing was erased or revoked since
    #[arg(long)]
    accept_old_escrow: bool,
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
        let escrow = super::backup::read(&self.escrow)?;
        let plan = Plan {
            from: &self.from,
            until: self.until,
            escrow: &escrow,
            unlock: &passphrase,
            to: &self.data,
            now: SystemClock.now(),
            accept_old_escrow: self.accept_old_escrow,
            accept_older_permissions: self.accept_older_permissions,
        };
        let bar = progress::counter("restoring objects", None);
        let begun = Instant::now();
        let restored = restore(&plan, Settings::default(), Environment::default(), &|n| bar.set_position(n))?;
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
        let Restored { files, at, escrow_at, objects, gone_since, older, lost, entries } = restored;
        if self.json {
            print_json(&json!({
                "restored": {
                    "files": files, "at": at.rfc3339(), "escrow_at": escrow_at.rfc3339(), "objects": objects,
                    "gone_since": gone_since, "older": older, "lost": lost, "entries": entries,
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
        if let Some((finding, took)) = verified {
            finding.print();
            println!("verified in {:.1} s", took.as_secs_f64());
        }
        println!("what was erased or revoked after the escrow was taken is back: erase and revoke it again");
    }
}
