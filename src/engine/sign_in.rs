//! Who is it? Failures are summed per source and minute, so that a million bad credentials cannot fill the log.

use std::{collections::HashMap, net::IpAddr};

use parking_lot::Mutex;

use super::{Refusal, Wardkeep, journal::Pending, trail::Trail};
use crate::{
    audit::{Outcome, What},
    authn::{Caller, Credential, Origin},
    clock::Instant,
};

/// Sources counted apart; those beyond are counted as one.
const SOURCES: usize = 1_024;
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
        let key = if known { source } else { None };
        by_source.entry(key).or_insert(Tally { count: 0, since: now }).count += 1;
    }

    /// Takes out what has been summed long enough, or everything.
    fn due(&self, now: Instant, all: bool) -> Vec<(Option<IpAddr>, Tally)> {
        let mut by_source = self.by_source.lock();
        let due: Vec<_> = by_source
            .iter()
            .filter(|(_, tally)| all || now.millis() - tally.since.millis() >= WINDOW_MS)
            .map(|(source, tally)| (*source, *tally))
            .collect();
        for (source, _) in &due {
            by_source.remove(source);
        }
        due
    }
}

impl Wardkeep {
    /// The caller whom a credential speaks for.
    pub fn sign_in(&self, credential: Option<&Credential>, origin: &Origin) -> Result<Caller, Refusal> {
        let now = self.clock.now();
        let accepted = credential.and_then(|c| self.world.read().keys.authenticate(c, now, self.store.ring()).ok());
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
                let mut by_source = self.failures.by_source.lock();
                by_source.entry(source).or_insert(Tally { count: 0, since: tally.since }).count += tally.count;
            }
        }
    }
}
