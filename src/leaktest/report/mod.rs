//! A run's result for people and machines: terminal, one HTML file, JSON, JUnit. Knows what came out, and nothing of how.

mod html;
mod json;
mod junit;
mod terminal;

pub use html::html;
pub use json::json;
pub use junit::junit;
pub use terminal::terminal;

use super::{Run, bench::Outcome, measure};

/// What a probe's result is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nothing leaked.
    Clean,
    /// Nothing leaked, and a part of it was left out.
    Part,
    /// Something did.
    Leak,
    /// Nothing could be asked.
    Skipped,
    /// It could not be finished.
    Broken,
}

impl Mark {
    /// Of one probe.
    pub fn of(outcome: &Outcome) -> Self {
        match (outcome.violations, &outcome.broken, outcome.trials) {
            (1.., _, _) => Self::Leak,
            (0, Some(_), _) => Self::Broken,
            (0, None, 0) => Self::Skipped,
            (0, None, _) if outcome.skipped.is_empty() => Self::Clean,
            (0, None, _) => Self::Part,
        }
    }

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Part => "clean in part",
            Self::Leak => "LEAK",
            Self::Skipped => "skipped",
            Self::Broken => "broken",
        }
    }
}

/// The whole in a sentence, and whether it is a clean result of everything.
fn verdict(run: &Run) -> (Mark, String) {
    let (leaks, asked) = (run.violations(), run.asked());
    let unfinished = run.broken().count();
    let (could, all) = run.coverage();
    let whole = could == all && run.outcomes.iter().all(|o| o.skipped.is_empty());
    let leaking: Vec<&str> = run.outcomes.iter().filter(|o| o.violations > 0).map(|o| o.title).collect();
    match (leaks, unfinished) {
        (1.., 0) => (Mark::Leak, format!("{leaks} attempts leaked, in: {}.", leaking.join("; "))),
        (1.., _) => (
            Mark::Leak,
            format!(
                "{leaks} attempts leaked, in: {}; and {unfinished} probes could not be finished.",
                leaking.join("; ")
            ),
        ),
        (0, 1..) => (
            Mark::Broken,
            format!("No leak was found, but {unfinished} probes could not be finished: this is no clean result."),
        ),
        (0, 0) if run.is_empty() => (Mark::Broken, "No probe could ask anything: nothing was shown.".to_owned()),
        (0, 0) if whole => (Mark::Clean, format!("No leak was found in {asked} requests, by all {all} probes.")),
        (0, 0) => (
            Mark::Part,
            format!(
                "No leak was found in {asked} requests, by the {could} of {all} probes that could ask; what was left out is named with each."
            ),
        ),
    }
}

/// The interval of a probe's rate, or what stands for it, in words.
fn rate(outcome: &Outcome) -> String {
    if let Some(measured) = &outcome.measured {
        return measured.clone();
    }
    if outcome.trials == 0 {
        return "-".to_owned();
    }
    let interval = measure::rate(outcome.violations, outcome.trials);
    format!("{} to {}", percent(interval.low), percent(interval.high))
}

fn percent(share: f64) -> String {
    let points = share * 100.0;
    match points {
        0.0 | 10.0.. => format!("{points:.0} %"),
        0.1..10.0 => format!("{points:.2} %"),
        _ => format!("{points:.4} %"),
    }
}
