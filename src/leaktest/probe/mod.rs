//! The probes, one file each: what each asks, and what would be a leak.

mod canaries;
mod caps;
mod cross_patient;
mod embedding;
mod existence;
mod filter;
mod forensics;
mod identity;
mod missing;
mod stale;
mod starvation;
mod timing;
mod twin;

use super::{
    bench::{Bench, Effort},
    dice::Dice,
    target::{Ask, Caller, List, Request, Search, Trouble},
};

/// One probe.
pub struct Probe {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// What it asks, for people.
    pub about: &'static str,
    /// Seconds that it takes as a rule, quick and full: what is told of time left hangs on these.
    pub(super) takes_s: [f64; 2],
    /// The work.
    pub(super) work: fn(&mut Bench<'_>) -> Result<(), Trouble>,
}

impl Probe {
    /// How long it takes as a rule, against the others.
    pub(super) fn share(&self, effort: Effort) -> f64 {
        let [quick, full] = self.takes_s;
        match effort {
            Effort::Quick => quick,
            Effort::Full => full,
        }
    }
}

/// All probes, in the order in which they run.
pub const PROBES: &[Probe] = &[
    cross_patient::PROBE,
    starvation::PROBE,
    twin::PROBE,
    existence::PROBE,
    filter::PROBE,
    caps::PROBE,
    identity::PROBE,
    embedding::PROBE,
    stale::PROBE,
    missing::PROBE,
    forensics::PROBE,
    canaries::PROBE,
    timing::PROBE,
];

/// Records that a search wants, where nothing else is said.
pub(super) const LIMIT: usize = 10;

/// A search with a caller's own purpose.
pub(super) fn search(caller: &Caller, vector: Vec<f32>, limit: usize) -> Request {
    Request::new(Ask::Search(Search { vector, limit, ..Search::default() }), &caller.purpose)
}

fn read(caller: &Caller, id: &str) -> Request {
    Request::new(Ask::Read(id.to_owned()), &caller.purpose)
}

fn listing(caller: &Caller, list: List) -> Request {
    Request::new(Ask::List(list), &caller.purpose)
}
