//! A run's result for people and machines: terminal, one HTML file, JSON, JUnit. Knows what came out, and nothing of how.

mod html;
mod json;
mod junit;
mod terminal;

pub use html::html;
pub use json::json;
pub use junit::junit;
pub use terminal::terminal;

use super::{bench::Outcome, measure};

/// What a probe's result is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nothing leaked.
    Clean,
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
            (0, None, _) => Self::Clean,
        }
    }

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Leak => "LEAK",
            Self::Skipped => "skipped",
            Self::Broken => "broken",
        }
    }
}

/// The interval of a probe's rate, in words.
fn rate(outcome: &Outcome) -> String {
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
