//! Renews data keys in the background once a rotation began, a little at a time, so that searches and changes go on. It ends where nothing
//! is left to renew, and goes on by itself after an error and after a restart; where it was is written on the keys themselves.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    Refusal, Wardkeep,
    journal::{Intent, Journal},
    trail::Trail,
};
use crate::{
    audit::What,
    clock::Clock,
    model::limits,
    store::{Change, RowKey, Store},
};

/// While others are served, a step is followed by so many times as long a pause: of a hundred requests not one meets a step, nor waits
/// behind the entries that did.
const PAUSES: u32 = 150;
/// But no longer than this, however long a disk took once.
const PAUSE_MOST: Duration = Duration::from_secs(30);
/// A step takes as many rows, or wraps as many keys, as are written in so many times what others' entries take alone (its own group, one
/// more sync, and what it waits for): so much longer, whoever meets one waits for their own entry. Few long steps disturb fewer than many
/// short ones.
const STEP_SHARE: u32 = 6;
/// Rows or keys of a step, fewest, and those of the first: what the syncs of a commit cost does not grow with them.
const STEP_MIN: usize = 64;
/// So long after somebody was served they count as there.
const OTHERS: Duration = Duration::from_secs(2);
/// How long after an error it is tried again: twice as long each time, but no longer than the last.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
const AGAIN_AFTER_MOST: Duration = Duration::from_secs(60);

enum Message {
    /// Renew what is behind; what is done is told by this trail.
    Tend(Box<Trail>),
    /// The same without pauses, and say when it is done.
    Settle(Box<Trail>, SyncSender<()>),
    Stop,
}

/// The thread that renews keys.
pub(super) struct Rotation {
    calls: SyncSender<Message>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Rotation {
    pub(super) fn start(
        store: Arc<Store>,
        journal: Arc<Journal>,
        writing: Arc<Mutex<()>>,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Self> {
        let (calls, inbox) = sync_channel(8);
        let mut worker = Worker {
            store,
            journal,
            writing,
            clock,
            inbox,
            awaiting: Vec::new(),
            step: STEP_MIN,
            unread: 0,
            seen: 0,
            others: None,
        };
        let worker = std::thread::Builder::new().name("rotation".into()).spawn(move || worker.run())?;
        Ok(Self { calls, worker: Mutex::new(Some(worker)) })
    }

    /// Ends the thread after the step that it is at.
    pub(super) fn stop(&self) {
        let _ = self.calls.send(Message::Stop);
        if let Some(worker) = self.worker.lock().take() {
            let _ = worker.join();
        }
    }
}

impl Wardkeep {
    /// Says that keys may be behind. A call that is waiting already serves this one too.
    pub(super) fn tend_keys(&self) {
        if !self.store.census().is_done() {
            let _ = self.rotation.calls.try_send(Message::Tend(Box::new(self.renewal_trail())));
        }
    }

    /// Renews what is behind without pauses, and waits until nothing is.
    pub fn settle_rotation(&self) {
        let (done, settled) = sync_channel(1);
        if self.rotation.calls.send(Message::Settle(Box::new(self.renewal_trail()), done)).is_ok() {
            let _ = settled.recv();
        }
    }

    fn renewal_trail(&self) -> Trail {
        self.own_trail(What::RenewKeys).detail("rotation")
    }
}

struct Worker {
    store: Arc<Store>,
    journal: Arc<Journal>,
    writing: Arc<Mutex<()>>,
    clock: Arc<dyn Clock>,
    inbox: Receiver<Message>,
    /// Those who wait until it is done.
    awaiting: Vec<SyncSender<()>>,
    /// Rows or keys that the next step takes.
    step: usize,
    /// Rows of this round that cannot be read.
    unread: usize,
    /// Entries that were sent on their way when this was last looked at, and when others were last seen among them.
    seen: u64,
    others: Option<Instant>,
}

/// Whether the thread goes on, or is to end.
type Flow = ControlFlow<()>;

impl Worker {
    fn run(&mut self) {
        let (mut due, mut patience) = (None, AGAIN_AFTER);
        while let ControlFlow::Continue(trail) = self.next(due.take()) {
            match self.renew(&trail) {
                Ok(Flow::Continue(())) => patience = AGAIN_AFTER,
                Ok(Flow::Break(())) => return,
                Err(error) if self.store.is_halted() => {
                    tracing::error!(?error, "data keys could not be renewed; that goes on after a restart");
                }
                Err(error) => {
                    tracing::error!(?error, again_in = ?patience, "data keys could not be renewed; it is tried again");
                    due = Some((trail, patience));
                    patience = AGAIN_AFTER_MOST.min(patience.saturating_mul(2));
                }
            }
            self.awaiting.clear();
        }
    }

    /// The trail of what is to be renewed next: on a call, or when what is due has waited its time.
    fn next(&mut self, due: Option<(Box<Trail>, Duration)>) -> ControlFlow<(), Box<Trail>> {
        let message = match due {
            None => self.inbox.recv().unwrap_or(Message::Stop),
            Some((trail, wait)) => match self.inbox.recv_timeout(wait) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => return ControlFlow::Continue(trail),
                Err(RecvTimeoutError::Disconnected) => Message::Stop,
            },
        };
        match message {
            Message::Tend(trail) => ControlFlow::Continue(trail),
            Message::Settle(trail, done) => {
                self.awaiting.push(done);
                ControlFlow::Continue(trail)
            }
            Message::Stop => ControlFlow::Break(()),
        }
    }

    /// Everything that is behind. What comes under an old key meanwhile (it was sealed before the rotation began) makes another round. What
    /// cannot be read holds back nothing but the end.
    fn renew(&mut self, trail: &Trail) -> Result<Flow, Refusal> {
        let mut moved = usize::MAX;
        while self.store.census().behind > 0 && moved > 0 {
            (moved, self.unread) = (0, 0);
            let mut rows = Vec::new();
            for part in self.store.parts()? {
                rows.extend(self.store.behind(&part)?);
                if rows.len() < limits::ROTATION_ROWS {
                    continue;
                }
                moved += rows.len();
                if self.bring_up(&std::mem::take(&mut rows), trail)?.is_break() {
                    return Ok(Flow::Break(()));
                }
            }
            moved += rows.len();
            if self.bring_up(&rows, trail)?.is_break() {
                return Ok(Flow::Break(()));
            }
            moved = moved.saturating_sub(self.unread);
        }
        if self.store.census().behind > 0 {
            return Err(Refusal::Damaged);
        }
        self.renew_wraps(trail)
    }

    fn bring_up(&mut self, mut rows: &[RowKey], trail: &Trail) -> Result<Flow, Refusal> {
        while !rows.is_empty() {
            let writing = self.writing.lock();
            let began = Instant::now();
            let some = rows.get(..self.step).unwrap_or(rows);
            let resealed = self.store.bring_up(some, self.clock.now())?;
            rows = rows.get(resealed.taken..).unwrap_or_default();
            self.unread += resealed.unread;
            let wrote = resealed.change.map(|change| self.commit(change, trail, resealed.taken)).transpose()?;
            drop(writing);
            if self.pause(began.elapsed(), wrote).is_break() {
                return Ok(Flow::Break(()));
            }
        }
        Ok(Flow::Continue(()))
    }

    fn renew_wraps(&mut self, trail: &Trail) -> Result<Flow, Refusal> {
        loop {
            let writing = self.writing.lock();
            let began = Instant::now();
            let Some(change) = self.store.renew_wraps(self.clock.now(), self.step) else {
                return Ok(Flow::Continue(()));
            };
            let wrote = self.commit(change, trail, 0)?;
            drop(writing);
            if self.pause(began.elapsed(), Some(wrote)).is_break() {
                return Ok(Flow::Break(()));
            }
        }
    }

    /// Tells how long it took.
    fn commit(&self, change: Change, trail: &Trail, rows: usize) -> Result<Duration, Refusal> {
        let intent = Intent { changes: vec![change], effect: Box::new(|_| ()) };
        let began = Instant::now();
        self.journal.change(intent, trail.clone().at(self.clock.now()).done(rows))?;
        Ok(began.elapsed())
    }

    /// Lets others go first, if there are any, and sets how many rows the next step takes.
    fn pause(&mut self, took: Duration, wrote: Option<Duration>) -> Flow {
        let pause = if !self.awaiting.is_empty() {
            self.step = limits::ROTATION_ROWS;
            Duration::ZERO
        } else if self.others_are_there() {
            self.step = wrote.map_or(self.step, |wrote| next_step(self.step, wrote, self.journal.pace()));
            took.saturating_mul(PAUSES).min(PAUSE_MOST)
        } else {
            Duration::ZERO
        };
        match self.inbox.recv_timeout(pause) {
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => Flow::Break(()),
            Ok(Message::Settle(_, done)) => {
                self.awaiting.push(done);
                Flow::Continue(())
            }
            Ok(Message::Tend(_)) | Err(RecvTimeoutError::Timeout) => Flow::Continue(()),
        }
    }

    /// Whether others are served: of the entries since the last step one is its own.
    fn others_are_there(&mut self) -> bool {
        let before = std::mem::replace(&mut self.seen, self.journal.served());
        if self.seen.saturating_sub(before) > 1 {
            self.others = Some(Instant::now());
        }
        self.others.is_some_and(|at| at.elapsed() < OTHERS)
    }
}

/// Rows or keys of the step after one of `rows` that took so long, where others' entries take `pace` alone.
fn next_step(rows: usize, took: Duration, pace: Duration) -> usize {
    let next = if took <= pace.saturating_mul(STEP_SHARE) { rows.saturating_mul(2) } else { rows / 2 };
    next.clamp(STEP_MIN, limits::ROTATION_ROWS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_grows_while_it_is_quick_beside_what_others_write_and_shrinks_when_it_is_not() {
        let (pace, slow) = (Duration::from_millis(10), Duration::from_millis(61));
        let after = |steps: usize, from, took| (0..steps).fold(from, |rows, _| next_step(rows, took, pace));
        assert_eq!(after(1, 128, Duration::from_millis(60)), 256);
        assert_eq!(after(1, 256, slow), 128);
        assert_eq!(after(20, STEP_MIN, pace), limits::ROTATION_ROWS);
        assert_eq!(after(20, limits::ROTATION_ROWS, slow), STEP_MIN);
    }
}
