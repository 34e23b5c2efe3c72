//! Keeps on disk what the next start need not make again, in the background and at the end. Knows when, not what.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};

use super::{Wardkeep, kept, world::World};
use crate::store::{Published, Store, StoreError};

/// How long after one look the next one is taken, at least: erasures come in bursts, and each makes all that is kept out of date.
const REST_MIN: Duration = Duration::from_secs(30);
/// Times as long as a writing took is how long the next one waits.
const REST_SHARE: u32 = 20;
/// A share of the records that may have come since the last writing: to make those anew costs less than to write all again.
const STALE_SHARE: u64 = 50;

enum Message {
    /// Keep now, and say what came of it.
    Keep(SyncSender<Result<Published, StoreError>>),
    Stop,
}

/// The thread that keeps.
pub(super) struct Keeper {
    calls: SyncSender<Message>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

struct Work {
    store: Arc<Store>,
    world: Arc<RwLock<World>>,
    /// The world's turnover that what lies on disk covers.
    covered: u64,
}

impl Keeper {
    pub(super) fn start(store: Arc<Store>, world: Arc<RwLock<World>>) -> std::io::Result<Self> {
        let (calls, inbox) = sync_channel(1);
        let mut work = Work { store, world, covered: 0 };
        let worker = std::thread::Builder::new().name("keeper".into()).spawn(move || work.run(&inbox))?;
        Ok(Self { calls, worker: Mutex::new(Some(worker)) })
    }

    /// Writes once more if that is worth it, and ends the thread. Nothing may change meanwhile.
    pub(super) fn stop(&self) {
        let _ = self.calls.send(Message::Stop);
        if let Some(worker) = self.worker.lock().take() {
            let _ = worker.join();
        }
    }
}

impl Work {
    fn run(&mut self, inbox: &Receiver<Message>) {
        let mut rest = REST_MIN;
        loop {
            match inbox.recv_timeout(rest) {
                Ok(Message::Keep(done)) => drop(done.send(self.keep())),
                Ok(Message::Stop) => {
                    self.keep_if_worth_it();
                    return;
                }
                Err(RecvTimeoutError::Timeout) => rest = REST_MIN.max(self.keep_if_worth_it() * REST_SHARE),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Tells how long it took.
    fn keep_if_worth_it(&mut self) -> Duration {
        let began = Instant::now();
        if self.is_worth_it()
            && let Err(error) = self.keep()
        {
            tracing::warn!(%error, "nothing could be kept for a quick start: the next one takes longer");
        }
        began.elapsed()
    }

    fn is_worth_it(&self) -> bool {
        let world = self.world.read();
        let records: usize = world.collections.values().map(super::world::Holding::len).sum();
        let stale = world.turnover.saturating_sub(self.covered);
        let gone = self.store.derived().is_empty();
        !self.store.is_halted() && if gone { records > 0 } else { stale > records as u64 / STALE_SHARE }
    }

    fn keep(&mut self) -> Result<Published, StoreError> {
        let (published, turnover) = kept::write(&self.store, &self.world)?;
        match published {
            Published::Whole => self.covered = turnover,
            Published::Outdated => {}
        }
        Ok(published)
    }
}

impl Wardkeep {
    /// Writes what the next start need not make again, now. Told whether a record was replaced or erased meanwhile, so that nothing is kept.
    pub fn keep(&self) -> Result<Published, StoreError> {
        let (done, kept) = sync_channel(1);
        self.keeper.calls.send(Message::Keep(done)).map_err(|_| StoreError::Halted)?;
        kept.recv().unwrap_or(Err(StoreError::Halted))
    }

    /// Destroys what was kept: the next start makes it anew, unless it is kept again before.
    pub fn forget_kept(&self) -> Result<(), StoreError> {
        self.store.derived().discard()
    }
}
