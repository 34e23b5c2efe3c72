//! Builds graphs of collections with `isolation: "fast"` in the background, while the scan serves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use parking_lot::{Mutex, RwLock};

use super::{Wardkeep, world::World};
use crate::{index, model::CollectionName};

enum Message {
    Tend,
    /// Tend, and say when it is done.
    Settle(SyncSender<()>),
    Stop,
}

/// The thread that builds graphs.
pub(super) struct Graphs {
    calls: SyncSender<Message>,
    worker: Mutex<Option<JoinHandle<()>>>,
    walks: AtomicU64,
}

impl Graphs {
    pub(super) fn start(world: Arc<RwLock<World>>) -> std::io::Result<Self> {
        let (calls, inbox) = sync_channel(1);
        let worker = std::thread::Builder::new().name("graphs".into()).spawn(move || run(&world, &inbox))?;
        Ok(Self { calls, worker: Mutex::new(Some(worker)), walks: AtomicU64::new(0) })
    }

    /// Says that a graph may be missing or stale. A call that is waiting already serves this one too.
    pub(super) fn tend(&self) {
        let _ = self.calls.try_send(Message::Tend);
    }

    /// Counts an answer that a graph was walked for.
    pub(super) fn count(&self, path: index::Path) {
        match path {
            index::Path::Graph | index::Path::GraphThenScan(_) => drop(self.walks.fetch_add(1, Ordering::Relaxed)),
            index::Path::Empty | index::Path::Scan(_) => {}
        }
    }

    /// Ends the thread after the graph that it is building.
    pub(super) fn stop(&self) {
        let _ = self.calls.send(Message::Stop);
        if let Some(worker) = self.worker.lock().take() {
            let _ = worker.join();
        }
    }
}

fn run(world: &RwLock<World>, inbox: &Receiver<Message>) {
    loop {
        match inbox.recv() {
            Ok(Message::Tend) => build(world),
            Ok(Message::Settle(done)) => {
                build(world);
                let _ = done.send(());
            }
            Ok(Message::Stop) | Err(_) => return,
        }
    }
}

/// Every graph that is missing or stale.
fn build(world: &RwLock<World>) {
    let names: Vec<CollectionName> = world.read().collections.keys().cloned().collect();
    for name in names {
        let job = world.read().holding(&name).and_then(|holding| holding.index.graph_job());
        let Some(job) = job else { continue };
        let graph = job.build();
        if let Some(holding) = world.write().collections.get_mut(&name) {
            holding.index.install(graph);
        }
    }
}

impl Wardkeep {
    /// Waits until the graphs of all fast collections are as fresh as what is stored now wants them.
    pub fn settle_graphs(&self) {
        let (done, settled) = sync_channel(1);
        if self.graphs.calls.send(Message::Settle(done)).is_ok() {
            let _ = settled.recv();
        }
    }

    /// How many rounds of searches were answered by walking a graph since the store was opened.
    pub fn graph_walks(&self) -> u64 {
        self.graphs.walks.load(Ordering::Relaxed)
    }
}
