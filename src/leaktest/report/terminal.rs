//! The result as a table on the terminal.

use std::fmt::Write as _;

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};

use super::{Mark, SAW_NOTHING, rate, unseen, verdict};
use crate::leaktest::Run;

/// The whole run.
pub fn terminal(run: &Run) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "probe",
        "requests",
        "attempts",
        "leaked",
        "rate, 95 % interval",
        "verdict",
    ]);
    for outcome in &run.outcomes {
        table.add_row([
            outcome.probe.to_owned(),
            outcome.asked.to_string(),
            outcome.trials.to_string(),
            outcome.violations.to_string(),
            rate(outcome),
            Mark::of(outcome).word().to_owned(),
        ]);
    }
    let mut told = format!(
        "{} {}: {}, {} records, {} callers, seed {}\n{table}\n",
        run.about.name, run.about.version, run.world, run.size.0, run.size.1, run.seed
    );
    for outcome in &run.outcomes {
        for finding in &outcome.findings {
            let _ = writeln!(
                told,
                "LEAK {} ({}) to {}: {}\n     {}",
                outcome.probe, finding.kind, finding.caller, finding.detail, finding.reproduction
            );
        }
        for why in &outcome.skipped {
            let _ = writeln!(told, "left out of {}: {why}", outcome.probe);
        }
        if Mark::of(outcome) == Mark::NotTested {
            let _ = writeln!(told, "NOT TESTED {}: {SAW_NOTHING}", outcome.probe);
        }
        if let Some(why) = &outcome.broken {
            let _ = writeln!(told, "BROKEN {}: {why}", outcome.probe);
        }
    }
    for line in unseen(run) {
        let _ = writeln!(told, "note: {line}");
    }
    if let Some(left) = &run.left {
        let _ = writeln!(told, "note: not all that was planted could be taken away: {left}");
    }
    let _ = writeln!(told, "{} leaks in {} requests, {:.0} s", run.violations(), run.asked(), run.took_s);
    let _ = writeln!(told, "{}", verdict(run));
    told
}
