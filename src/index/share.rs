//! Splits a long scan over cores that have nothing to do. Knows rows by their places among all, and nothing of what is said of them.

use std::{
    num::NonZero,
    ops::Range,
    panic::resume_unwind,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use parking_lot::Mutex;
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
    /// One that collects alike, of so many rows: with that part of the memory of this one, from its beginning.
    fn part(&mut self, rows: usize) -> Self;
}

/// Calls `work` on pieces of so many rows, by their places among all, each with a collector of its own, and joins these into `into`.
/// The calling thread takes the last piece, and the only one where no core is free.
pub(super) fn among_cores<C: Collect>(
    rows: usize,
    mut into: C,
    work: impl Fn(Range<usize>, &mut C) + Sync,
    mut join: impl FnMut(&mut C, C),
) -> C {
    let helpers = Helpers::engage(rows as u64);
    if helpers.0 == 0 {
        work(0..rows, &mut into);
        return into;
    }
    let (theirs, rest) = pieces(rows, helpers.0);
    let shares: Vec<Share<C>> = theirs.map(|piece| Share::of(&mut into, piece)).collect();
    thread::scope(|scope| {
        let work = &work;
        let mut helping = Vec::with_capacity(shares.len());
        for share in &shares {
            let help = move || work(share.piece.clone(), &mut share.into.lock());
            match thread::Builder::new().name("scan".into()).spawn_scoped(scope, help) {
                Ok(helper) => helping.push(helper),
                Err(_) => help(),
            }
        }
        work(rest, &mut into);
        for helper in helping {
            helper.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    shares.into_iter().for_each(|share| join(&mut into, share.into.into_inner()));
    into
}

/// What one helper does, or whoever engaged it where it does not come.
struct Share<C> {
    piece: Range<usize>,
    into: Mutex<C>,
}

impl<C: Collect> Share<C> {
    fn of(whole: &mut C, piece: Range<usize>) -> Self {
        let into = Mutex::new(whole.part(piece.len()));
        Self { piece, into }
    }
}

/// The pieces of so many helpers, all alike, and the rest, which is a little more than one of them.
fn pieces(rows: usize, helpers: usize) -> (impl Iterator<Item = Range<usize>>, Range<usize>) {
    let each = rows / (helpers + 1);
    ((0..helpers).map(move |n| each * n..each * (n + 1)), each * helpers..rows)
}

/// Those of `slots` that are at such places among all.
pub(super) fn at_places(slots: &RoaringBitmap, places: Range<usize>) -> Iter<'_> {
    let slot = |place: usize| if place == 0 { Some(0) } else { slots.select(place as u32) };
    match (slot(places.start), slot(places.end)) {
        (Some(from), Some(to)) => slots.range(from..to),
        (Some(from), None) => slots.range(from..),
        (None, _) => slots.range(0..0),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows as they were handed out, in memory that was there before.
    struct Listed<'m>(&'m mut [u32]);

    impl Collect for Listed<'_> {
        fn part(&mut self, rows: usize) -> Self {
            let (now, later) = std::mem::take(&mut self.0).split_at_mut(rows);
            self.0 = later;
            Self(now)
        }
    }

    #[test]
    fn pieces_are_all_of_the_rows_in_order_and_each_fills_its_part_of_the_memory() {
        for step in [1, 3] {
            let slots: RoaringBitmap =
                (7..7 + step * (4 * SHARE_ROWS_MIN as u32 + 11)).step_by(step as usize).collect();
            let mut memory = vec![0; slots.len() as usize];
            let fill = |places: Range<usize>, into: &mut Listed<'_>| {
                assert_eq!(places.len(), into.0.len());
                into.0.iter_mut().zip(at_places(&slots, places)).for_each(|(place, slot)| *place = slot);
            };
            among_cores(slots.len() as usize, Listed(&mut memory), fill, |_, _| ());
            assert!(slots.iter().eq(memory));
            let count = slots.len() as usize;
            for helpers in [1, 2, 3, 7, 64] {
                let (theirs, rest) = pieces(count, helpers);
                let all: Vec<_> = theirs.chain([rest]).collect();
                assert_eq!(all.len(), helpers + 1);
                assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start && pair[0].len() <= pair[1].len()));
                assert_eq!((all[0].start, all[helpers].end), (0, count));
                assert!(
                    slots.iter().eq(all.into_iter().flat_map(|piece| at_places(&slots, piece))),
                    "{helpers} helpers"
                );
            }
            for (from, to) in [(0, 0), (0, count), (0, 1), (5, 70_000), (70_000, count), (count, count)] {
                let expected = slots.iter().skip(from).take(to - from);
                assert!(at_places(&slots, from..to).eq(expected), "{from} to {to} of every {step}");
            }
        }
    }
}
