//! `store`: a data directory looked after while no server runs on it. `verify` opens every object and the audit log and names whatever
//! is damaged; `stat` says what is there and what it takes; `compact` and `migrate` carry it into a new storage engine.

use std::path::Path;

use clap::{Args, Subcommand};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use indicatif::HumanBytes;
use serde_json::{Map, Value as Json, json};

use super::{
    Failure, Outcome,
    audit::{expected, in_words},
    offline::{self, Offline},
    print_json, progress,
};
use crate::{
    audit,
    crypto::{KeyError, Unlock},
    engine::{Settings, origin_of},
    store::{Damage, EngineKind, Evidence, OpenOptions, Rebuilt, Report, Shortfall, Stat, StoreError},
};

#[derive(Subcommand)]
pub(super) enum Store {
    /// Open every object and the audit log; exit 3 names what is damaged
    Verify(Verify),
    /// Say what is stored, by kind, and how much of the space that it takes is live
    Stat(StatArguments),
    /// Give unused space back: copies what is live into a new file and puts it in place of the old one
    Compact(Compact),
    /// Move to the other storage engine; a crash at any moment leaves the old store or the new one, whole
    Migrate(Migrate),
}

#[derive(Args)]
pub(super) struct Verify {
    #[command(flatten)]
    store: Offline,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Store {
    pub(super) fn run(self) -> Outcome {
        match self {
            Self::Verify(verb) => verb.run(),
            Self::Stat(verb) => verb.run(),
            Self::Compact(Compact { rebuild }) => rebuild.run(None),
            Self::Migrate(Migrate { rebuild, to }) => rebuild.run(Some(to)),
        }
    }
}

#[derive(Args)]
pub(super) struct StatArguments {
    #[command(flatten)]
    store: Offline,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl StatArguments {
    fn run(self) -> Outcome {
        let stat = self.store.evidence()?.stat(&OpenOptions::default())?;
        if self.json {
            print_stat_json(&stat);
        } else {
            print_stat(&stat);
        }
        Ok(())
    }
}

fn print_stat(stat: &Stat) {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["objects", "count", "bytes"]);
    for (kind, rows, bytes) in &stat.kinds {
        table.add_row([kind.label().to_owned(), rows.to_string(), HumanBytes(*bytes).to_string()]);
    }
    println!("{table}");
    println!("engine     {}", stat.engine);
    println!("live       {}", HumanBytes(stat.live_bytes));
    println!("used       {}", HumanBytes(stat.used_bytes));
    println!("audit log  {}", HumanBytes(stat.audit_bytes));
}

fn print_stat_json(stat: &Stat) {
    let kind = |(kind, rows, bytes): &(crate::store::Kind, u64, u64)| {
        (kind.label().to_owned(), json!({"count": rows, "bytes": bytes}))
    };
    let objects: Map<_, _> = stat.kinds.iter().map(kind).collect();
    print_json(&json!({
        "engine": stat.engine.label(),
        "objects": objects,
        "live_bytes": stat.live_bytes,
        "used_bytes": stat.used_bytes,
        "audit_bytes": stat.audit_bytes,
    }));
}

#[derive(Args)]
pub(super) struct Compact {
    #[command(flatten)]
    rebuild: Rebuild,
}

#[derive(Args)]
pub(super) struct Migrate {
    #[command(flatten)]
    rebuild: Rebuild,
    /// The storage engine to move to: sled or redb
    #[arg(long, value_name = "ENGINE")]
    to: EngineKind,
}

/// What compaction and migration share; both need room for the old and the new one.
#[derive(Args)]
struct Rebuild {
    #[command(flatten)]
    store: Offline,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Rebuild {
    fn run(self, to: Option<EngineKind>) -> Outcome {
        let options = OpenOptions::default();
        let to = self.announce(to)?;
        let evidence = self.store.evidence()?;
        let bar = progress::counter("copying objects", Some(evidence.rows(&options)?));
        let done = evidence.rebuild(to, &options, &|rows| bar.set_position(rows))?;
        bar.finish_and_clear();
        if self.json {
            print_json(&json!({
                "from": done.from.label(),
                "to": done.to.label(),
                "objects": done.rows,
                "bytes_before": done.bytes_before,
                "bytes_after": done.bytes_after,
            }));
        } else {
            let Rebuilt { from, to, rows, bytes_before, bytes_after } = done;
            println!("{from} -> {to}: {rows} objects, {} -> {}", HumanBytes(bytes_before), HumanBytes(bytes_after));
        }
        Ok(())
    }
}

impl Rebuild {
    /// In the log before anything is moved. The log's own next entries wait in the engine, so it is closed again first.
    fn announce(&self, to: Option<EngineKind>) -> Result<EngineKind, Failure> {
        let engine = offline::open(&self.store.data, &self.store.passphrase, Settings::default())?;
        let announced = engine.announce_rebuild(to);
        engine.close();
        announced.map_err(|refusal| Failure::Failed(format!("the audit log cannot be written: {refusal:?}")))
    }
}

impl Verify {
    fn run(self) -> Outcome {
        let finding = Finding::at(&self.store.data, &self.store.passphrase.read()?)?;
        if self.json {
            print_json(&finding.json())
        } else {
            finding.print()
        }
        if finding.is_sound() { Ok(()) } else { Err(Failure::Found) }
    }
}

/// What there is to say of a data directory.
pub(super) struct Finding {
    objects: Report,
    audit: Option<audit::Report>,
}

impl Finding {
    /// Opens every object and the audit log of a store that no server runs on.
    pub(super) fn at(data: &Path, unlock: &dyn Unlock) -> Result<Self, Failure> {
        match crate::store::Store::evidence(data, unlock) {
            Ok(evidence) => Ok(Self::of(&evidence)),
            // Without its keys nothing else of a store can be looked at.
            Err(error @ StoreError::Key(KeyError::Damaged)) => Ok(Self::of_keys(&error)),
            Err(error) => Err(error.into()),
        }
    }

    fn of(evidence: &Evidence) -> Self {
        let objects = evidence.examine(&OpenOptions::default());
        let ring = evidence.ring();
        let audit = audit::verify(
            &evidence.audit_dir(),
            &origin_of(ring),
            Some(ring.sealer("audit").as_ref()),
            ring.signer().public_key(),
            evidence.manifest().ok().map(expected),
        );
        Self { objects, audit: Some(audit) }
    }

    fn of_keys(error: &StoreError) -> Self {
        Self { objects: Report { parts: vec![error.to_string()], ..Report::default() }, audit: None }
    }

    pub(super) fn is_sound(&self) -> bool {
        self.objects.is_sound() && self.audit.as_ref().is_some_and(audit::Report::is_sound)
    }

    pub(super) fn print(&self) {
        let Report { sequence, counts, damaged, shortfalls, parts } = &self.objects;
        if !counts.is_empty() {
            let mut table = Table::new();
            table.load_style(UTF8_FULL_CONDENSED).set_header(["objects", "found", "damaged"]);
            for (kind, found) in counts {
                let bad = damaged.iter().filter(|damage| damage.kind == *kind).count();
                table.add_row([kind.label().to_owned(), found.to_string(), bad.to_string()]);
            }
            println!("{table}");
            println!("changes    {sequence}");
        }
        if let Some(audit) = &self.audit {
            println!("audit log  {}", in_words(audit));
        }
        for Damage { kind, name } in damaged {
            println!("DAMAGED    {} {name}", kind.label());
        }
        for Shortfall { kind, expected, found } in shortfalls {
            println!(
                "DAMAGED    {}s: {expected} were stored, {found} are there, or some are not those stored",
                kind.label()
            );
        }
        parts.iter().for_each(|part| println!("DAMAGED    {part}"));
        println!(
            "{}",
            if self.is_sound() {
                "sound"
            } else {
                "not sound: restore a backup, and keep this directory for the search for the cause"
            }
        );
    }

    pub(super) fn json(&self) -> Json {
        let Report { sequence, counts, damaged, shortfalls, parts } = &self.objects;
        let objects: Map<_, _> =
            counts.iter().map(|(kind, found)| (kind.label().to_owned(), (*found).into())).collect();
        let damaged: Vec<_> = damaged.iter().map(|d| json!({"kind": d.kind.label(), "name": d.name})).collect();
        let shortfalls: Vec<_> = shortfalls
            .iter()
            .map(|s| json!({"kind": s.kind.label(), "expected": s.expected, "found": s.found}))
            .collect();
        let audit = self.audit.as_ref().map(|report| {
            json!({
                "sound": report.is_sound(),
                "entries": report.head.size,
                "broken": report.broken.as_ref().map(ToString::to_string),
            })
        });
        json!({
            "sound": self.is_sound(),
            "changes": sequence,
            "objects": objects,
            "damaged": damaged,
            "shortfalls": shortfalls,
            "parts": parts,
            "audit": audit,
        })
    }
}
