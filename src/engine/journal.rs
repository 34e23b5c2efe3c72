//! Group commit: one thread writes changes and audit entries, so that one disk sync serves every request that waits.
//!
//! A group goes: stage all entries (those of changes first); commit the changes with their entries in one engine batch; put the changes
//! in force; append the entries to the log; write the manifest; tell everyone. A `Receipt` exists only after all of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};

use super::{Refusal, trail::Trail, watch::Watch, world::World};
use crate::{
    audit::{Entry, Frames, Log},
    store::{Change, Store},
};

/// Requests that one group may serve.
const GROUP: usize = 512;
/// Requests that may wait for the next group before new ones are turned away by waiting themselves.
const QUEUE: usize = 4_096;

/// Proof that an audit entry is durable.
#[derive(Debug)]
pub struct Receipt {
    sequence: u64,
}

impl Receipt {
    /// Number of the entry.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// What is put in force in memory once the change is durable.
pub(super) type Effect = Box<dyn FnOnce(&mut World) + Send>;

/// A change on its way to disk and into force.
pub(super) struct Intent {
    pub(super) changes: Vec<Change>,
    pub(super) effect: Effect,
}

struct Job {
    intent: Option<Intent>,
    entry: Entry,
    reply: SyncSender<Result<Receipt, Refusal>>,
}

enum Message {
    Job(Box<Job>),
    Stop,
}

/// An entry on its way to disk.
pub(super) struct Pending(Receiver<Result<Receipt, Refusal>>);

impl Pending {
    /// Waits until it is durable.
    pub(super) fn wait(self) -> Result<Receipt, Refusal> {
        self.0.recv().unwrap_or(Err(Refusal::Unavailable("the store is shutting down")))
    }
}

/// The one writer.
pub(super) struct Journal {
    queue: SyncSender<Message>,
    worker: Mutex<Option<JoinHandle<()>>>,
    log: Arc<Mutex<Log>>,
    served: AtomicU64,
    pace: Arc<Pace>,
}

/// How long a group of entries takes, of late.
#[derive(Default)]
struct Pace(AtomicU64);

impl Pace {
    /// The latest counts for an eighth.
    fn learn(&self, took: Duration) {
        let (before, now) = (self.0.load(Ordering::Relaxed), u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        let smooth = if before == 0 { now } else { before - before / 8 + now / 8 };
        self.0.store(smooth, Ordering::Relaxed);
    }
}

impl Journal {
    /// Starts the writer's thread.
    pub(super) fn start(store: Arc<Store>, log: Log, world: Arc<RwLock<World>>, watch: Watch) -> std::io::Result<Self> {
        let log = Arc::new(Mutex::new(log));
        let (queue, jobs) = sync_channel(QUEUE);
        let pace = Arc::new(Pace::default());
        let mut writer = Writer { store, log: Arc::clone(&log), world, watch, pace: Arc::clone(&pace) };
        let worker = std::thread::Builder::new().name("journal".into()).spawn(move || writer.run(&jobs))?;
        Ok(Self { queue, worker: Mutex::new(Some(worker)), log, served: AtomicU64::new(0), pace })
    }

    /// Sends an entry on its way.
    pub(super) fn submit(&self, trail: Trail) -> Result<Pending, Refusal> {
        self.send(None, trail)
    }

    /// Makes an entry durable.
    pub(super) fn note(&self, trail: Trail) -> Result<Receipt, Refusal> {
        self.submit(trail)?.wait()
    }

    /// Makes changes and their entry durable and puts the changes in force.
    pub(super) fn change(&self, intent: Intent, trail: Trail) -> Result<Receipt, Refusal> {
        self.send(Some(intent), trail)?.wait()
    }

    fn send(&self, intent: Option<Intent>, trail: Trail) -> Result<Pending, Refusal> {
        self.served.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = sync_channel(1);
        let job = Job { intent, entry: trail.entry(), reply };
        self.queue.send(Message::Job(Box::new(job))).map_err(|_| Refusal::Unavailable("the store is shutting down"))?;
        Ok(Pending(answer))
    }

    /// How many entries were sent on their way: whether others are at work.
    pub(super) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// How long a group of entries takes of late that no change is in; zero before the first.
    pub(super) fn pace(&self) -> Duration {
        Duration::from_nanos(self.pace.0.load(Ordering::Relaxed))
    }

    /// The log, for reading; the writer waits meanwhile.
    pub(super) fn log(&self) -> parking_lot::MutexGuard<'_, Log> {
        self.log.lock()
    }

    /// Writes what was submitted before, then ends the thread.
    pub(super) fn stop(&self) {
        let _ = self.queue.send(Message::Stop);
        if let Some(worker) = self.worker.lock().take() {
            let _ = worker.join();
        }
    }
}

struct Writer {
    store: Arc<Store>,
    log: Arc<Mutex<Log>>,
    world: Arc<RwLock<World>>,
    watch: Watch,
    pace: Arc<Pace>,
}

impl Writer {
    fn run(&mut self, jobs: &Receiver<Message>) {
        let mut open = true;
        while open && let Ok(first) = jobs.recv() {
            let mut group = Vec::new();
            for message in std::iter::once(first).chain(jobs.try_iter().take(GROUP - 1)) {
                match message {
                    Message::Job(job) => group.push(*job),
                    Message::Stop => open = false,
                }
            }
            if !group.is_empty() {
                self.write(group);
                self.watch.keep_up(&self.log.lock());
            }
        }
        self.watch.end(&self.log.lock());
    }

    fn write(&mut self, group: Vec<Job>) {
        if !self.watch.clock_goes_on() {
            tracing::error!("the clock was set back: nothing is answered until it is right");
            return refuse(group, SET_BACK);
        }
        let mut log = self.log.lock();
        if let Err(why) = self.begin(&mut log) {
            return refuse(group, why);
        }
        let (changing, noting): (Vec<_>, Vec<_>) = group.into_iter().partition(|job| job.intent.is_some());
        let (began, notes_alone) = (Instant::now(), changing.is_empty());
        let changing = self.commit(&mut log, changing);
        if self.store.is_halted() {
            return refuse(noting, HALTED);
        }
        self.append(&mut log, changing, noting);
        if notes_alone {
            self.pace.learn(began.elapsed());
        }
    }

    /// Whether a group may begin. Once the store has halted the log must not go on either: it would run further ahead of the
    /// manifest than a crash can explain, and not open again. While entries of earlier changes wait for a disk that takes
    /// them, no further change is made.
    fn begin(&self, log: &mut Log) -> Result<(), &'static str> {
        if self.store.is_halted() {
            return Err(HALTED);
        }
        if log.pending() > 0 {
            self.keep(log, Frames::new(), Frames::new())
                .inspect_err(|error| tracing::error!(error, "the audit log is still unwritable"))
                .map_err(|_| UNWRITABLE)?;
        }
        Ok(())
    }

    /// The changes and their entries, in one durable batch; then in force.
    fn commit(&self, log: &mut Log, mut changing: Vec<Job>) -> Vec<(Job, u64, Vec<u8>)> {
        if changing.is_empty() {
            return Vec::new();
        }
        let entries: Vec<Entry> = changing.iter().map(|job| job.entry.clone()).collect();
        let intents: Vec<Intent> = changing.iter_mut().filter_map(|job| job.intent.take()).collect();
        let changes: Vec<Change> = intents.iter().flat_map(|i| i.changes.iter().cloned()).collect();
        let settled = log.settled_below();
        let durable = log.stage(&entries).map_err(|e| e.to_string()).and_then(|frames| {
            self.store.commit(&changes, &frames, settled).map(|()| frames).map_err(|e| e.to_string())
        });
        match durable {
            Ok(frames) => {
                let effects = intents.into_iter().map(|intent| intent.effect).collect();
                self.world.write().put_in_force(effects, self.store.sequence());
                changing.into_iter().zip(frames).map(|(job, (seq, bytes))| (job, seq, bytes)).collect()
            }
            Err(error) => {
                tracing::error!(error, "a change could not be written");
                log.unstage();
                refuse(
                    changing,
                    if self.store.is_halted() { UNKNOWN } else { "the store cannot write; nothing was changed" },
                );
                Vec::new()
            }
        }
    }

    /// All entries of the group, then the manifest, then the answers.
    fn append(&self, log: &mut Log, changing: Vec<(Job, u64, Vec<u8>)>, noting: Vec<Job>) {
        let entries: Vec<Entry> = noting.iter().map(|job| job.entry.clone()).collect();
        let (changed, must): (Vec<Job>, Frames) =
            changing.into_iter().map(|(job, seq, bytes)| (job, (seq, bytes))).unzip();
        // What cannot be staged must not take with it the entries of changes that are in force already.
        let (noting, may) = match log.stage(&entries) {
            Ok(may) => (noting, may),
            Err(error) => {
                tracing::error!(%error, "audit entries could not be sealed; no answer leaves");
                refuse(noting, UNWRITABLE);
                (Vec::new(), Frames::new())
            }
        };
        let numbers: Vec<u64> = must.iter().chain(&may).map(|(seq, _)| *seq).collect();
        match self.keep(log, must, may) {
            Ok(()) => {
                for (job, sequence) in changed.into_iter().chain(noting).zip(numbers) {
                    let _ = job.reply.send(Ok(Receipt { sequence }));
                }
            }
            Err(error) => {
                tracing::error!(error, "the audit log cannot be written; no answer leaves");
                let halted = self.store.is_halted();
                refuse(changed, if halted { UNKNOWN } else { MADE });
                refuse(noting, if halted { HALTED } else { UNWRITABLE });
            }
        }
    }

    /// Entries into the log, its head into the manifest.
    fn keep(&self, log: &mut Log, must: Frames, may: Frames) -> Result<(), String> {
        let head = log.append(must, may).map_err(|e| e.to_string())?;
        self.store.write_manifest(head.size, head.root, head.group).map_err(|e| e.to_string())
    }
}

const SET_BACK: &str = "the server's clock was set back by more than a minute: set it right";
const UNWRITABLE: &str = "the audit log cannot be written";
const MADE: &str =
    "the audit log cannot be written; the change is made, and will be in the log as soon as that can be written";
const UNKNOWN: &str = "the store cannot write; free the disk or mend it and restart the server: only then is it known whether the change was kept";
const HALTED: &str = "an earlier write failed; free the disk or mend it, then restart the server";

fn refuse(jobs: impl IntoIterator<Item = Job>, why: &'static str) {
    for job in jobs {
        let _ = job.reply.send(Err(Refusal::Unavailable(why)));
    }
}
