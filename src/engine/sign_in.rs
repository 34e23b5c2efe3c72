//! Who is it? Failures are summed per source and minute, so that a million bad credentials cannot fill the log.

use std::{cmp::Reverse, collections::HashMap, net::IpAddr};

use parking_lot::Mutex;

use super::{Refusal, Wardkeep, journal::Pending, trail::Trail};
use crate::{
    audit::{Outcome, What},
    authn::{Caller, Credential, Origin},
    clock::Instant,
};

/// Sources counted apart; those beyond are counted as one.
const SOURCES: usize = 1_024;
/// Sources that a window's entries name, the busiest first; the others are one entry. At some 350 bytes an entry an hour of attack
/// by any number of sources adds less than 1 MB.
const NAMED: usize = 32;
/// How long failures are summed before they are written, in milliseconds.
const WINDOW_MS: i64 = 60_000;

/// Failures not yet written.
#[derive(Default)]
pub(super) struct Failures {
    by_source: Mutex<HashMap<Option<IpAddr>, Tally>>,
}

#[derive(Clone, Copy)]
struct Tally {
    count: u64,
    since: Instant,
}

impl Failures {
    fn note(&self, source: Option<IpAddr>, now: Instant) {
        let mut by_source = self.by_source.lock();
        let known = by_source.contains_key(&source) || by_source.len() < SOURCES;
        add(&mut by_source, if known { source } else { None }, Tally { count: 1, since: now });
    }

    /// Takes back what could not be written.
    fn resume(&self, source: Option<IpAddr>, tally: Tally) {
        add(&mut self.by_source.lock(), source, tally);
    }

    /// Takes out everything once the oldest has been summed long enough, or at once.
    fn due(&self, now: Instant, at_once: bool) -> Vec<(Option<IpAddr>, Tally)> {
        let mut by_source = self.by_source.lock();
        let opened = by_source.values().map(|tally| tally.since).min();
        if !at_once && opened.is_none_or(|since| now.millis() - since.millis() < WINDOW_MS) {
            return Vec::new();
        }
        let mut all: Vec<_> = by_source.drain().collect();
        drop(by_source);
        all.sort_unstable_by_key(|(source, tally)| (Reverse(tally.count), *source));
        let mut named: HashMap<_, _> = all.drain(..all.len().min(NAMED)).collect();
        all.into_iter().for_each(|(_, tally)| add(&mut named, None, tally));
        named.into_iter().collect()
    }
}

fn add(by_source: &mut HashMap<Option<IpAddr>, Tally>, source: Option<IpAddr>, more: Tally) {
    let tally = by_source.entry(source).or_insert(Tally { count: 0, ..more });
    tally.count += more.count;
    tally.since = tally.since.min(more.since);
}

impl Wardkeep {
    /// The caller whom a credential speaks for.
    pub fn sign_in(&self, credential: Option<&Credential>, origin: &Origin) -> Result<Caller, Refusal> {
        let now = self.clock.now();
        let accepted = credential.and_then(|c| self.keys.read().authenticate(c, now, self.store.ring()).ok());
        accepted.ok_or_else(|| {
            self.failures.note(origin.address, now);
            Refusal::Unauthenticated
        })
    }

    /// Writes what is due of the summed failures in one group; `all` at shutdown. What cannot be written is summed on.
    pub fn write_failures(&self, all: bool) {
        let send = |(source, tally): (Option<IpAddr>, Tally)| {
            let origin = Origin { address: source, request: [0; 16] };
            let what = What::SignInFailures { count: tally.count, since: tally.since };
            let trail = Trail::new(self, what, None, &origin).outcome(Outcome::Denied);
            (source, tally, self.journal.submit(trail))
        };
        let sent: Vec<_> = self.failures.due(self.clock.now(), all).into_iter().map(send).collect();
        for (source, tally, pending) in sent {
            if pending.and_then(Pending::wait).is_err() {
                self.failures.resume(source, tally);
            }
        }
    }
}
