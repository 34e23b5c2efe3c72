//! The leakage test kit: asks a store what it must not tell, and measures what comes back. It knows a store by `Target` alone and the rules by
//! its own `Oracle`; of how this house searches, plans and decides it knows nothing.

mod bench;
mod dice;
mod lanes;
pub mod limits;
pub mod measure;
mod oracle;
mod probe;
mod register;
pub mod report;
mod sight;
pub mod target;
pub mod world;

#[cfg(test)]
mod control;

pub use bench::{Bench, Effort, Figure, Finding, Outcome, Plan, Plot, Series};
pub use dice::Dice;
pub use oracle::{Oracle, Verdict, View};
pub use probe::{PROBES, Probe};
pub use sight::Sight;

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
    /// What whoever reads the result must know of it.
    pub notes: Vec<String>,
    /// Why what was planted, or a key that was made, could not be taken away.
    pub left: Option<String>,
}

impl Run {
    /// Attempts that leaked, over all probes.
    pub fn violations(&self) -> u64 {
        self.outcomes.iter().map(|o| o.violations).sum()
    }

    /// Requests sent, over all probes.
    pub fn asked(&self) -> u64 {
        self.outcomes.iter().map(|o| o.asked).sum()
    }

    /// Probes that attempted something, and all that there are.
    pub fn coverage(&self) -> (usize, usize) {
        (self.outcomes.iter().filter(|o| o.trials > 0).count(), PROBES.len())
    }

    /// Whether nothing at all could be attempted.
    pub fn is_empty(&self) -> bool {
        self.outcomes.iter().all(|o| o.trials == 0)
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

/// Runs the probes that the plan names, one after the other.
pub fn run(plan: &Plan, world: &World, open: Open<'_>, tell: Tell<'_>) -> Result<Run, Trouble> {
    use crate::clock::Clock as _;
    let (began, clock) = (crate::clock::SystemClock.now().rfc3339(), std::time::Instant::now());
    let mut bench = Bench::set_up(plan, world, open, tell)?;
    let about = bench.about();
    bench.fits()?;
    let mut outcomes = Vec::new();
    for probe in PROBES.iter().filter(|probe| plan.wants(probe.name)) {
        outcomes.push(bench.hold(probe));
        if bench.over() {
            break;
        }
    }
    // a store that is gone takes nothing back, and no result with it
    let left = bench.leave().err().map(|why| why.to_string());
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
        notes: bench.notes(),
        left,
    })
}
