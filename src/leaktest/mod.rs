//! The leakage test kit: asks a store what it must not tell, and measures what comes back. It knows a store by `Target` alone and the rules by
//! its own `Oracle`; of how this house searches, plans and decides it knows nothing.

mod bench;
mod dice;
mod lanes;
pub mod limits;
mod looks;
pub mod measure;
mod oracle;
mod outcome;
mod preflight;
mod probe;
mod register;
pub mod report;
mod sight;
pub mod target;
pub mod world;

#[cfg(test)]
mod control;

pub use bench::{Bench, Effort, Plan};
pub use dice::Dice;
pub use oracle::{Oracle, Verdict, View};
pub use outcome::{Figure, Finding, Outcome, Plot, Seeing, Series};
pub use probe::{PROBES, Probe};
pub use sight::Sight;

use report::Mark;
use std::collections::{BTreeMap, BTreeSet};
use target::{About, Target, Trouble};
use world::World;

/// What a whole run came to.
#[derive(Debug, Clone)]
pub struct Run {
    /// The target.
    pub about: About,
    /// The world.
    pub world: String,
    /// Records in it, and callers.
    pub size: (usize, usize),
    /// What it was seeded with.
    pub seed: u64,
    /// How long it was let run.
    pub effort: Effort,
    /// The command that repeats it.
    pub command: String,
    /// When it began, RFC 3339.
    pub began: String,
    /// Seconds it took.
    pub took_s: f64,
    /// One a probe.
    pub outcomes: Vec<Outcome>,
    /// What of the world cannot be told from other words, in a sentence each.
    pub indistinct: Vec<String>,
    /// Fields of answers that the kit does not know; what stood in them was looked at all the same.
    pub unread: BTreeSet<String>,
    /// By caller: records of which it is not settled whether they may see them; nothing was asked about these.
    pub unsettled: BTreeMap<String, usize>,
    /// Why what was planted, or a key that was made, could not be taken away.
    pub left: Option<String>,
}

/// What a whole run comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conclusion {
    /// Every probe that was asked for ran, and nothing leaked.
    Clean,
    /// Something leaked.
    Leak,
    /// Nothing leaked, but a probe could not be finished.
    Broken,
    /// Every probe that was asked for ran, and nothing leaked; parts of some were left out.
    Part,
    /// Nothing leaked, but some probe that was asked for did not run, or saw nothing.
    Gaps,
    /// No probe ran.
    NotTested,
}

impl Run {
    /// What it comes to.
    pub fn conclusion(&self) -> Conclusion {
        let count = |mark| self.outcomes.iter().filter(|o| Mark::of(o) == mark).count();
        let [leaks, broken, clean, part] = [Mark::Leak, Mark::Broken, Mark::Clean, Mark::Part].map(count);
        match (leaks, broken, clean + part) {
            (1.., _, _) => Conclusion::Leak,
            (0, 1.., _) => Conclusion::Broken,
            (0, 0, 0) => Conclusion::NotTested,
            (0, 0, ran) if ran < self.outcomes.len() => Conclusion::Gaps,
            (0, 0, _) if part > 0 => Conclusion::Part,
            (0, 0, _) => Conclusion::Clean,
        }
    }

    /// Probes that were asked for and show nothing.
    pub fn untested(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|o| matches!(Mark::of(o), Mark::Skipped | Mark::NotTested))
    }

    /// Attempts that leaked, over all probes.
    pub fn violations(&self) -> u64 {
        self.outcomes.iter().map(|o| o.violations).sum()
    }

    /// Requests sent, over all probes.
    pub fn asked(&self) -> u64 {
        self.outcomes.iter().map(|o| o.asked).sum()
    }

    /// Probes that broke.
    pub fn broken(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|o| o.broken.is_some())
    }
}

/// Makes a target, empty and apart from all others.
pub type Open<'a> = &'a dyn Fn() -> Result<Box<dyn Target>, Trouble>;

/// How far a run has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The probe at work.
    pub probe: &'static str,
    /// Requests that it has sent.
    pub asked: u64,
    /// The part of the whole run that is done, by how long each probe takes as a rule.
    pub done: f64,
}

/// Hears how far a run has come.
pub type Tell<'a> = &'a mut dyn FnMut(Progress);

/// Runs the probes that the plan names, one after the other; none where the target does not answer its callers as the store it should be.
pub fn run(plan: &Plan, world: &World, open: Open<'_>, tell: Tell<'_>) -> Result<Run, Trouble> {
    use crate::clock::Clock as _;
    let (began, clock) = (crate::clock::SystemClock.now().rfc3339(), std::time::Instant::now());
    let mut bench = Bench::set_up(plan, world, open, tell)?;
    let about = bench.about();
    if let Err(why) = preflight::enter(&mut bench) {
        // keys may have been made
        let left = bench.leave().err().map(|left| format!("; and what was made could not be taken away: {left}"));
        return Err(Trouble::Broken(format!("{why}{}", left.unwrap_or_default())));
    }
    let mut outcomes = Vec::new();
    let mut over = false;
    for probe in PROBES.iter().filter(|probe| plan.wants(probe.name)) {
        outcomes.push(if over { bench::unreached(probe) } else { bench.hold(probe) });
        over = over || bench.over();
    }
    // a store that is gone takes nothing back, and no result with it
    let left = bench.leave().err().map(|why| why.to_string());
    let (indistinct, unread) = bench.indistinct();
    Ok(Run {
        about,
        world: world.name.clone(),
        size: (world.records.len(), world.callers.len()),
        seed: plan.seed,
        effort: plan.effort,
        command: plan.whole_command(),
        began,
        took_s: clock.elapsed().as_secs_f64(),
        outcomes,
        indistinct,
        unread,
        unsettled: bench.unsettled(),
        left,
    })
}
