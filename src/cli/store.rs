//! `store verify`: every object of a data directory opened, the audit log too, and whatever is damaged named.

use std::path::Path;

use clap::{Args, Subcommand};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde_json::{Map, Value as Json, json};

use super::{
    Failure, Outcome,
    audit::{expected, in_words},
    offline::Offline,
    print_json,
};
use crate::{
    audit,
    crypto::{KeyError, Unlock},
    engine::origin_of,
    store::{Damage, Evidence, OpenOptions, Report, Shortfall, StoreError},
};

#[derive(Subcommand)]
pub(super) enum Store {
    /// Open every object and the audit log; exit 3 names what is damaged
    Verify(Verify),
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
        }
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
