//! When answers leave: as soon as they are ready, or at whole multiples of a span of time after their requests came, so that an answer's time
//! tells how many spans it took (the simplest form of Askarov, Zhang and Myers, "Predictive black-box mitigation of timing channels", 2010),
//! and by chance a little later, which blurs what sending it off still tells. Knows nothing of what is asked and answered but whether it
//! takes a credential.

use std::{
    collections::BTreeMap,
    io,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::ROUTES;
use crate::crypto::{Entropy as _, OsEntropy};

/// Lets answers leave at whole multiples of a span after their requests came, or up to half a span later. A thread of its own calls them:
/// tokio's timer sleeps in whole milliseconds from when the last work ended, so that what a request took would still be told by when within
/// a millisecond its answer leaves.
pub struct Timetable {
    span: Duration,
    platform: Arc<Platform>,
    caller: Option<JoinHandle<()>>,
}

impl Timetable {
    /// One departure every `span`; errs where there is no thread to be had.
    pub fn every(span: Duration) -> io::Result<Self> {
        let platform = Arc::new(Platform::default());
        let theirs = Arc::clone(&platform);
        let caller = std::thread::Builder::new().name("timetable".into()).spawn(move || theirs.call_each())?;
        Ok(Self { span, platform, caller: Some(caller) })
    }

    /// Waits for the next departure of a request that came at `arrival`, with nothing in hand.
    async fn departure(&self, arrival: Instant) {
        let mut chance = [0; 8];
        // without chance nobody is late, and nothing was answered either: a request without an id of its own is refused
        let _ = OsEntropy.fill(&mut chance);
        let late = delay(u64::from_le_bytes(chance), self.span);
        let due = departure(arrival, Instant::now(), self.span);
        self.platform.enter(due.checked_add(late).unwrap_or(due)).called().await;
    }
}

impl Drop for Timetable {
    fn drop(&mut self) {
        self.platform.close();
        if let Some(caller) = self.caller.take() {
            let _ = caller.join();
        }
    }
}

/// Around every request, outside of all else: has its answer leave on time, errors and refusals too. Its body, its audit entry and its shape
/// are done with by then.
pub(super) async fn keep(State(timetable): State<Arc<Timetable>>, request: Request, next: Next) -> Response {
    let arrival = Instant::now();
    let at_once = takes_no_credential(request.uri().path());
    let answer = next.run(request).await;
    if !at_once {
        timetable.departure(arrival).await;
    }
    answer
}

/// Whether what is asked under this path is told to everybody; a path that no route has is not.
fn takes_no_credential(path: &str) -> bool {
    ROUTES.iter().any(|(_, open, action)| *action == "none" && *open == path)
}

/// The first whole multiple of `span` after `arrival` that is not over at `now`, and never `arrival` itself.
fn departure(arrival: Instant, now: Instant, span: Duration) -> Instant {
    let span = span.as_nanos().max(1);
    let spans = now.saturating_duration_since(arrival).as_nanos().div_ceil(span).max(1);
    let after = Duration::from_nanos(u64::try_from(spans.saturating_mul(span)).unwrap_or(u64::MAX));
    arrival.checked_add(after).unwrap_or(now)
}

/// How much later than due: less than half a span, the mean of four throws of dice. What is done after the departure itself (caches are as
/// the work before left them) differs by microseconds, which are lost in it. A single throw would not do: its least values would lie
/// close to a sharp edge, and a few hundred answers would show where that is.
fn delay(chance: u64, span: Duration) -> Duration {
    const THROW: u64 = u16::MAX as u64;
    let thrown: u64 = (0..4).map(|throw| chance >> (16 * throw) & THROW).sum();
    (span / 2).mul_f64(thrown as f64 / (4 * (THROW + 1)) as f64)
}

/// When somebody leaves, and a number that no other has.
type Seat = (Instant, u64);

/// Those who wait, the next to leave first.
#[derive(Default)]
struct Platform {
    line: Mutex<Line>,
    changed: Condvar,
}

#[derive(Default)]
struct Line {
    waiting: BTreeMap<Seat, oneshot::Sender<()>>,
    /// How many have come so far.
    entered: u64,
    closed: bool,
}

impl Platform {
    fn enter(&self, due: Instant) -> Waiting<'_> {
        let (call, called) = oneshot::channel();
        let mut line = self.line.lock();
        line.entered += 1;
        let seat = (due, line.entered);
        line.waiting.insert(seat, call);
        let is_next = line.waiting.first_key_value().is_some_and(|(first, _)| *first == seat);
        drop(line);
        if is_next {
            self.changed.notify_one();
        }
        Waiting { platform: self, seat, called }
    }

    /// Calls each when it is due, until the line is closed.
    fn call_each(&self) {
        let mut line = self.line.lock();
        while !line.closed {
            match line.waiting.first_key_value().map(|((due, _), _)| *due) {
                None => self.changed.wait(&mut line),
                Some(due) if due <= Instant::now() => {
                    if let Some((_, call)) = line.waiting.pop_first() {
                        // whoever waited may have gone
                        let _ = call.send(());
                    }
                }
                Some(due) => drop(self.changed.wait_until(&mut line, due)),
            }
        }
        line.waiting.clear();
    }

    fn close(&self) {
        self.line.lock().closed = true;
        self.changed.notify_one();
    }
}

/// Somebody in the line, who leaves it when this is dropped.
struct Waiting<'p> {
    platform: &'p Platform,
    seat: Seat,
    called: oneshot::Receiver<()>,
}

impl Waiting<'_> {
    async fn called(mut self) {
        // an error says that the line was closed: then nobody waits any longer
        let _ = (&mut self.called).await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.platform.line.lock().waiting.remove(&self.seat);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_millis(5);

    #[test]
    fn a_departure_is_the_next_whole_multiple_of_the_span() {
        let arrival = Instant::now();
        let after = |nanos: u64| departure(arrival, arrival + Duration::from_nanos(nanos), SPAN) - arrival;
        let span = 5_000_000;
        for (now, due) in [
            (0, span),
            (1, span),
            (span - 1, span),
            (span, span),
            (span + 1, 2 * span),
            (2 * span, 2 * span),
            (1_000 * span + 1, 1_001 * span),
        ] {
            assert_eq!(after(now), Duration::from_nanos(due), "after {now} ns");
        }
        // a clock that stands behind is as one that stands still
        assert_eq!(departure(arrival + SPAN, arrival, SPAN), arrival + 2 * SPAN);
    }

    #[test]
    fn two_answers_that_took_other_times_within_one_span_depart_alike() {
        let arrival = Instant::now();
        let due = |micros: u64| departure(arrival, arrival + Duration::from_micros(micros), SPAN);
        for (micros, spans) in [(1_400, 1), (4_999, 1), (5_001, 2), (9_999, 2)] {
            assert_eq!(due(micros), arrival + SPAN * spans, "{micros} us");
        }
    }

    #[test]
    fn nobody_is_later_than_due_by_half_a_span_and_most_are_by_about_a_quarter() {
        assert_eq!(delay(0, SPAN), Duration::ZERO);
        let latest = delay(u64::MAX, SPAN);
        assert!(latest < SPAN / 2 && latest > SPAN * 499 / 1_000, "{latest:?}");
        // each throw counts for as much as any other
        for throw in 0..4 {
            assert_eq!(delay(0x8000 << (16 * throw), SPAN), SPAN / 16);
        }
        let mut chance = 0_u64;
        let late = (0..10_000).filter(|_| {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let late = delay(chance, SPAN);
            late > SPAN / 8 && late < SPAN * 3 / 8
        });
        assert!(late.count() > 8_000);
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap()
    }

    #[test]
    fn nobody_leaves_before_their_departure_and_all_leave() {
        let timetable = Arc::new(Timetable::every(SPAN).unwrap());
        let runtime = runtime();
        let leaving: Vec<_> = (0..64)
            .map(|_| {
                let timetable = Arc::clone(&timetable);
                runtime.spawn(async move {
                    let arrival = Instant::now();
                    timetable.departure(arrival).await;
                    arrival.elapsed()
                })
            })
            .collect();
        for took in leaving {
            let took = runtime.block_on(took).unwrap();
            assert!(took >= SPAN, "{took:?}");
        }
        assert!(timetable.platform.line.lock().waiting.is_empty());
    }

    #[test]
    fn who_goes_before_their_departure_leaves_no_seat_behind() {
        let timetable = Timetable::every(Duration::from_secs(1_000)).unwrap();
        let waiting = || timetable.platform.line.lock().waiting.len();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let mut departures: Vec<_> = (0..3).map(|_| Box::pin(timetable.departure(Instant::now()))).collect();
        for departure in &mut departures {
            assert!(departure.as_mut().poll(&mut cx).is_pending());
        }
        assert_eq!(waiting(), 3);
        drop(departures);
        assert_eq!(waiting(), 0);
    }

    #[test]
    fn a_timetable_that_ends_keeps_nobody_waiting() {
        let timetable = Timetable::every(Duration::from_secs(1_000)).unwrap();
        let platform = Arc::clone(&timetable.platform);
        let waiting = platform.enter(Instant::now() + Duration::from_secs(1_000));
        drop(timetable);
        runtime().block_on(waiting.called());
    }

    #[test]
    fn only_what_takes_no_credential_leaves_at_once() {
        let at_once: Vec<_> =
            ROUTES.iter().map(|(_, path, _)| *path).filter(|path| takes_no_credential(path)).collect();
        assert_eq!(at_once, ["/healthz", "/readyz", "/openapi.json"]);
        for path in ["/metrics", "/v1/collections/c/search", "/healthz/", "/nowhere", "", "*"] {
            assert!(!takes_no_credential(path), "{path}");
        }
    }
}
