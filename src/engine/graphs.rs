//! Builds graphs of collections with `isolation: "fast"` in the background, while the scan serves.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use parking_lot::{Mutex, RwLock};

use super::world::World;
use crate::model::CollectionName;

enum Message {
    Tend,
    Stop,
}

/// The thread that builds graphs.
pub(super) struct Graphs {
    calls: SyncSender<Message>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Graphs {
    pub(super) fn start(world: Arc<RwLock<World>>) -> std::io::Result<Self> {
        let (calls, inbox) = sync_channel(1);
        let worker = std::thread::Builder::new().name("graphs".into()).spawn(move || run(&world, &inbox))?;
        Ok(Self { calls, worker: Mutex::new(Some(worker)) })
    }

    /// Says that a graph may be missing or stale. A call that is waiting already serves this one too.
    pub(super) fn tend(&self) {
        let _ = self.calls.try_send(Message::Tend);
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
    while let Ok(Message::Tend) = inbox.recv() {
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
}
