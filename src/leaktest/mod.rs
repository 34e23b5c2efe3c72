//! The leakage test kit: asks a store what it must not tell, and measures what comes back. It knows a store by `Target` alone and the rules by
//! its own `Oracle`; of how this house searches, plans and decides it knows nothing.

mod bench;
mod dice;
pub mod measure;
mod oracle;
mod probe;
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

    /// Probes that broke.
    pub fn broken(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|o| o.broken.is_some())
    }
}

/// Makes a target, empty and apart from all others.
pub type Open<'a> = &'a dyn Fn() -> Result<Box<dyn Target>, Trouble>;

/// Runs the probes that the plan names, one after the other. `tell` hears each probe's name and the requests it has sent.
pub fn run(
    plan: &Plan,
    world: &World,
    open: Open<'_>,
    tell: &mut dyn FnMut(&'static str, u64),
) -> Result<Run, Trouble> {
    use crate::clock::Clock as _;
    let (began, clock) = (crate::clock::SystemClock.now().rfc3339(), std::time::Instant::now());
    let mut bench = Bench::set_up(plan, world, open, tell)?;
    let about = bench.about();
    let mut outcomes = Vec::new();
    for probe in PROBES.iter().filter(|probe| plan.wants(probe.name)) {
        outcomes.push(bench.hold(probe));
    }
    bench.leave()?;
    Ok(Run {
        about,
        world: world.name.clone(),
        size: (world.records.len(), world.callers.len()),
        seed: plan.seed,
        effort: plan.effort,
        command: plan.command.clone(),
        began,
        took_s: clock.elapsed().as_secs_f64(),
        outcomes,
    })
}
