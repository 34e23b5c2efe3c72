//! Works on all rows on every core, each core a stretch of them at a time. Knows neither what they are nor what is done with them.

use std::{
    num::NonZero,
    panic::resume_unwind,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::{Engine, StoreError};

/// Calls `work` with every row, in no order; gives what each thread has gathered. At the keys `cuts` the rows are cut into stretches:
/// wherever these are, each row is worked on once.
pub(super) fn each_row<W: Send>(
    engine: &dyn Engine,
    mut cuts: Vec<Vec<u8>>,
    fresh: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, &[u8], &[u8]) + Sync,
) -> Result<Vec<W>, StoreError> {
    cuts.sort_unstable();
    cuts.dedup();
    let stretches = Stretches { cuts, taken: AtomicUsize::new(0) };
    let walk = || {
        let mut gathered = fresh();
        while let Some((from, to)) = stretches.next() {
            let mut each = |key: &[u8], value: &[u8]| {
                work(&mut gathered, key, value);
                Ok(())
            };
            engine.scan_between(from, to, &mut each).inspect_err(|_| stretches.give_up())?;
        }
        Ok(gathered)
    };
    let helpers = thread::available_parallelism().map_or(1, NonZero::get).saturating_sub(1);
    thread::scope(|scope| {
        // where a thread cannot be had, there is one fewer
        let helping: Vec<_> = (0..helpers)
            .filter_map(|_| thread::Builder::new().name("rows".into()).spawn_scoped(scope, walk).ok())
            .collect();
        let own = walk();
        let joined = helping.into_iter().map(|helper| helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        joined.chain([own]).collect()
    })
}

/// All keys there may be, from cut to cut; whoever is free takes the next ones.
struct Stretches {
    cuts: Vec<Vec<u8>>,
    taken: AtomicUsize,
}

impl Stretches {
    /// Where one begins, and where it ends; the last one has no end.
    fn next(&self) -> Option<(&[u8], Option<&[u8]>)> {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let cut = |number: usize| self.cuts.get(number).map(Vec::as_slice);
        let from = number.checked_sub(1).map_or(Some(&[][..]), cut)?;
        Some((from, cut(number)))
    }

    /// Leaves what nobody has taken.
    fn give_up(&self) {
        self.taken.store(self.cuts.len() + 1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{EngineKind, OpenOptions, vault::start_engine};

    #[test]
    fn every_row_is_worked_on_once_wherever_the_cuts_are() {
        for kind in EngineKind::ALL {
            let dir = tempfile::tempdir().unwrap();
            let engine = start_engine(kind, dir.path(), &OpenOptions::default()).unwrap();
            let mut expected: Vec<(Vec<u8>, Vec<u8>)> = (0..=255_u8)
                .flat_map(|a| [0, 1, 127, 255].map(|b| (vec![a, b], vec![b; usize::from(a) * 200])))
                // sled keeps what begins so for itself
                .filter(|(key, _)| key[0] != b'~')
                .collect();
            expected.push((vec![b'R'], vec![1]));
            expected.sort();
            engine.commit(expected.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect()).unwrap();
            let hundreds: Vec<Vec<u8>> = (0..=255).rev().map(|a| vec![a, 7]).collect();
            for cuts in [vec![], vec![vec![]], vec![vec![b'R']], vec![vec![255, 255, 255], vec![0]], hundreds] {
                let work = |found: &mut Vec<_>, key: &[u8], value: &[u8]| found.push((key.to_vec(), value.to_vec()));
                let mut found = each_row(&*engine, cuts, Vec::new, work).unwrap().concat();
                found.sort();
                assert!(found == expected, "{kind}");
            }
        }
    }
}
