//! The result for programs.

use serde_json::{Value as Json, json};

use super::{Mark, unseen, verdict, word};
use crate::leaktest::{
    Effort, PROBES, Run, measure,
    outcome::{Outcome, Seeing},
};

/// The whole run.
pub fn json(run: &Run) -> Json {
    json!({
        "target": {"name": run.about.name, "version": run.about.version, "place": run.about.place},
        "world": {"name": run.world, "records": run.size.0, "callers": run.size.1},
        "seed": run.seed,
        "effort": match run.effort { Effort::Quick => "quick", Effort::Full => "full" },
        "command": run.command,
        "kit": env!("CARGO_PKG_VERSION"),
        "began": run.began,
        "took_s": run.took_s,
        "requests": run.asked(),
        "leaks": run.violations(),
        "verdict": word(run.conclusion()),
        "summary": verdict(run),
        "notes": unseen(run),
        "unsettled": run.unsettled,
        "fields_not_understood": run.unread,
        "left_behind": run.left,
        "not_run": PROBES.iter().filter(|p| run.outcomes.iter().all(|o| o.probe != p.name)).map(|p| p.name).collect::<Vec<_>>(),
        "probes": run.outcomes.iter().map(probe).collect::<Vec<_>>(),
    })
}

fn probe(outcome: &Outcome) -> Json {
    let interval = measure::rate(outcome.violations, outcome.trials);
    json!({
        "name": outcome.probe,
        "verdict": Mark::of(outcome).word().to_lowercase(),
        "requests": outcome.asked,
        "attempts": outcome.trials,
        "leaked": outcome.violations,
        "saw_records": outcome.seeing == Seeing::Something,
        "rate_interval_95": [interval.low, interval.high],
        "measured": outcome.measured,
        "findings": outcome.findings.iter().map(|f| json!({
            "kind": f.kind, "caller": f.caller, "detail": f.detail, "reproduction": f.reproduction,
        })).collect::<Vec<_>>(),
        "figures": outcome.figures.iter().map(|f| json!({"name": f.name, "value": f.value})).collect::<Vec<_>>(),
        "skipped": outcome.skipped,
        "broken": outcome.broken,
        "took_s": outcome.took_s,
    })
}
