//! A run's result for people and machines: terminal, one HTML file, JSON, JUnit. Knows what came out, and nothing of how.

mod html;
mod json;
mod junit;
mod terminal;

pub use html::html;
pub use json::json;
pub use junit::junit;
pub use terminal::terminal;

use super::{
    Conclusion, PROBES, Run, measure,
    outcome::{Outcome, Seeing},
};

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
    /// Nothing that is permitted ever came back, so that nothing hidden could be missed.
    NotTested,
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
            (0, None, _) => match outcome.seeing {
                Seeing::Nothing => Self::NotTested,
                Seeing::Something if outcome.skipped.is_empty() => Self::Clean,
                Seeing::Something => Self::Part,
            },
        }
    }

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Part => "clean in part",
            Self::Leak => "LEAK",
            Self::Skipped => "skipped",
            Self::NotTested => "not tested",
            Self::Broken => "broken",
        }
    }
}

/// What the run comes to, in a sentence.
fn verdict(run: &Run) -> String {
    let asked = run.asked();
    let names = |of: &mut dyn Iterator<Item = &Outcome>| of.map(|o| o.probe).collect::<Vec<_>>().join(", ");
    let asked_for = || match (run.outcomes.len(), PROBES.len()) {
        (some, all) if some < all => format!("the {some} of {all} probes that were asked for"),
        (_, all) => format!("all {all} probes"),
    };
    let untested = || names(&mut run.untested());
    match run.conclusion() {
        Conclusion::Clean => format!("No leak was found in {asked} requests, by {}.", asked_for()),
        Conclusion::Part => format!(
            "No leak was found in {asked} requests, by {}; parts of {} were left out, and are named with each.",
            asked_for(),
            names(&mut run.outcomes.iter().filter(|o| Mark::of(o) == Mark::Part))
        ),
        Conclusion::Leak => {
            let leaking = names(&mut run.outcomes.iter().filter(|o| o.violations > 0));
            format!("{} attempts leaked, in: {leaking}.", run.violations())
        }
        Conclusion::Broken => format!(
            "No leak was found, but {} could not be finished: this is no clean result.",
            names(&mut run.broken())
        ),
        Conclusion::Gaps => format!(
            "No leak was found in {asked} requests, but {} of {} probes did not run or saw nothing: {}. This is no clean result of the whole.",
            run.untested().count(),
            run.outcomes.len(),
            untested()
        ),
        Conclusion::NotTested => format!("Nothing was tested: {} did not run or saw nothing.", untested()),
    }
}

/// The same in a word, for programs.
fn word(conclusion: Conclusion) -> &'static str {
    match conclusion {
        Conclusion::Clean => "clean",
        Conclusion::Leak => "leak",
        Conclusion::Broken => "broken",
        Conclusion::Part => "clean in part",
        Conclusion::Gaps => "incomplete",
        Conclusion::NotTested => "not tested",
    }
}

/// What this run could not see, in a sentence each.
fn unseen(run: &Run) -> Vec<String> {
    let mut all = run.indistinct.clone();
    if !run.unsettled.is_empty() {
        let most = run.unsettled.values().max().copied().unwrap_or(0);
        all.push(format!(
            "For {} callers it is not settled whether they may see some records ({most} of {} for one of them): what these refer to is not stored. Nothing was \
             asked about them.",
            run.unsettled.len(),
            run.size.0
        ));
    }
    if !run.unread.is_empty() {
        let fields: Vec<&str> = run.unread.iter().map(String::as_str).collect();
        all.push(format!(
            "Answers have fields that the kit does not understand: {}. What stood in them was searched for hidden ids, texts, attributes, vectors and \
             scores, and for nothing else.",
            fields.join(", ")
        ));
    }
    all
}

const SAW_NOTHING: &str = "no record came back in any answer, not even one that is permitted";

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
