//! Splits a long scan over cores that have nothing to do. Knows neither rows nor scores.

use std::{
    num::NonZero,
    panic::resume_unwind,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use roaring::{RoaringBitmap, bitmap::Iter};

/// Rows of one share, at least: about a millisecond of work, twenty times what a thread costs to start.
pub(super) const SHARE_ROWS_MIN: u64 = 200_000;

/// Helpers at work, of all scans together.
static HELPERS: AtomicUsize = AtomicUsize::new(0);
/// Cores that scans may use: all that there are, unless somebody said less.
static CORES_MAX: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Lets scans that begin from now on use no more cores than so many, all together.
pub fn use_cores(most: NonZero<usize>) {
    CORES_MAX.store(most.get(), Ordering::Relaxed);
}

/// What one that collects needs to be, so that it can be shared out.
pub(super) trait Collect: Send + Sized {
    /// An empty one that collects alike.
    fn twin(&self) -> Self;
}

/// Calls `part` on pieces of `slots`, each with a collector of its own, and joins these into `into`. The calling thread takes the
/// last piece, and the only one where no core is free.
pub(super) fn among_cores<C: Collect>(
    slots: &RoaringBitmap,
    mut into: C,
    part: impl Fn(Iter<'_>, &mut C) + Sync,
    join: impl Fn(&mut C, C),
) -> C {
    let helpers = Helpers::engage(slots.len());
    if helpers.0 == 0 {
        part(slots.iter(), &mut into);
        return into;
    }
    thread::scope(|scope| {
        let (mut from, mut helping) = (0, Vec::new());
        for bound in bounds(slots, helpers.0 as u64 + 1) {
            let (piece, twin, part) = (from..bound, into.twin(), &part);
            let work = move || collect(twin, |into| part(slots.range(piece), into));
            match thread::Builder::new().name("scan".into()).spawn_scoped(scope, work) {
                Ok(helper) => helping.push(helper),
                Err(_) => part(slots.range(from..bound), &mut into),
            }
            from = bound;
        }
        part(slots.range(from..), &mut into);
        for helper in helping {
            join(&mut into, helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
    });
    into
}

fn collect<C>(mut into: C, part: impl FnOnce(&mut C)) -> C {
    part(&mut into);
    into
}

/// Where all pieces but the first of `count` like ones begin.
fn bounds(slots: &RoaringBitmap, count: u64) -> impl Iterator<Item = u32> {
    (1..count).filter_map(move |i| slots.select((slots.len() / count * i) as u32))
}

/// Helpers that one scan has taken of those that may be at work; given back when dropped.
struct Helpers(usize);

impl Helpers {
    fn engage(rows: u64) -> Self {
        let wanted = (rows / SHARE_ROWS_MIN).saturating_sub(1) as usize;
        if wanted == 0 {
            return Self(0);
        }
        let most = cores() - 1;
        let engaged = HELPERS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |busy| {
            let more = wanted.min(most.saturating_sub(busy));
            (more > 0).then_some(busy + more)
        });
        Self(engaged.map_or(0, |busy| wanted.min(most.saturating_sub(busy))))
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        if self.0 > 0 {
            HELPERS.fetch_sub(self.0, Ordering::Relaxed);
        }
    }
}

fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    let there = *CORES.get_or_init(|| thread::available_parallelism().map_or(1, NonZero::get));
    there.min(CORES_MAX.load(Ordering::Relaxed))
}

/// Runs `search` as if no core were free.
#[cfg(test)]
pub(super) fn alone<T>(search: impl FnOnce() -> T) -> T {
    HELPERS.fetch_add(1 << 20, Ordering::Relaxed);
    let found = search();
    HELPERS.fetch_sub(1 << 20, Ordering::Relaxed);
    found
}
