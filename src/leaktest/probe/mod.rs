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
    bench::Bench,
    dice::Dice,
    sight::Sight,
    target::{Ask, Caller, List, Request, Search, Target, Trouble},
    world::{Record, World},
};

/// One probe.
pub struct Probe {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// What it asks, for people.
    pub about: &'static str,
    /// The work.
    pub(super) work: fn(&mut Bench<'_>) -> Result<(), Trouble>,
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
const LIMIT: usize = 10;

/// A search with a caller's own purpose.
fn search(caller: &Caller, vector: Vec<f32>, limit: usize) -> Request {
    Request::new(Ask::Search(Search { vector, limit, ..Search::default() }), &caller.purpose)
}

fn read(caller: &Caller, id: &str) -> Request {
    Request::new(Ask::Read(id.to_owned()), &caller.purpose)
}

fn listing(caller: &Caller, list: List) -> Request {
    Request::new(Ask::List(list), &caller.purpose)
}

/// An id as long as `id` that no record has.
fn absent_id(world: &World, id: &str, dice: &mut Dice) -> String {
    let letters: Vec<char> = "abcdefghijkmnpqrstuvwxyz23456789".chars().collect();
    loop {
        let kept: String = id.chars().take(id.chars().count().saturating_sub(4)).collect();
        let missing = id.chars().count() - kept.chars().count();
        let tail: String = (0..missing).filter_map(|_| dice.pick(&letters)).collect();
        let made = format!("{kept}{tail}");
        if !world.records.iter().any(|r| r.id == made || r.patient.as_ref() == Some(&made)) {
            return made;
        }
    }
}

/// A store that holds only what one caller may see, beside the one that holds all.
fn twin_of(bench: &mut Bench<'_>, sight: &Sight) -> Result<Box<dyn Target>, Trouble> {
    let visible = visible(bench, sight);
    bench.another(&visible)
}

fn visible(bench: &Bench<'_>, sight: &Sight) -> Vec<Record> {
    let mut kept: Vec<usize> = sight.view.permitted.iter().chain(&sight.view.unsettled).copied().collect();
    kept.sort_unstable();
    kept.into_iter().filter_map(|at| bench.record(at).cloned()).collect()
}
