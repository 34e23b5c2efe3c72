//! Builds graphs of collections with `isolation: "fast"` in the background, while the scan serves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use parking_lot::{Mutex, RwLock};

use super::{Wardkeep, world::World};
use crate::{
    index::{self, GraphJob},
    model::CollectionName,
};

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
    /// No more work is begun, and what is being built is given up.
    stopping: Arc<AtomicBool>,
    walks: AtomicU64,
}

impl Graphs {
    pub(super) fn start(world: Arc<RwLock<World>>) -> std::io::Result<Self> {
        let (calls, inbox) = sync_channel(1);
        let stopping = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stopping);
        let go_on = move || !stops.load(Ordering::Acquire);
        let worker = std::thread::Builder::new().name("graphs".into()).spawn(move || run(&world, &inbox, &go_on))?;
        Ok(Self { calls, worker: Mutex::new(Some(worker)), stopping, walks: AtomicU64::new(0) })
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

    /// Ends the thread. It gives up the graph that it is building, which can take minutes: the next start builds it anew in any case.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let _ = self.calls.send(Message::Stop);
        if let Some(worker) = self.worker.lock().take() {
            let _ = worker.join();
        }
    }
}

fn run(world: &RwLock<World>, inbox: &Receiver<Message>, go_on: &dyn Fn() -> bool) {
    loop {
        match inbox.recv() {
            Ok(Message::Tend) => build(world, go_on),
            Ok(Message::Settle(done)) => {
                build(world, go_on);
                let _ = done.send(());
            }
            Ok(Message::Stop) | Err(_) => return,
        }
    }
}

/// Every graph that is missing or stale, as long as it may go on.
fn build(world: &RwLock<World>, go_on: &dyn Fn() -> bool) {
    let names: Vec<CollectionName> = world.read().collections.keys().cloned().collect();
    for name in names.into_iter().take_while(|_| go_on()) {
        let Some(job) = gather(world, &name, go_on) else { continue };
        let Some(graph) = job.build_while(go_on) else { return };
        if let Some(holding) = world.write().collections.get_mut(&name) {
            holding.index.install(graph);
        }
    }
}

/// What a graph of a collection is built from, if one is wanted: copied some at a time, so that no write waits for all of it.
fn gather(world: &RwLock<World>, name: &CollectionName, go_on: &dyn Fn() -> bool) -> Option<GraphJob> {
    let mut gathering = world.read().holding(name)?.index.gathering()?;
    while go_on() && gathering.more(&world.read().holding(name)?.index) {}
    gathering.into_job(&world.read().holding(name)?.index)
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::{
        authn::Keys,
        engine::{
            Memory,
            world::{Holding, InForce},
        },
        index::planner::GRAPH_ROWS_MIN,
        model::{Collection, Embedding, Isolation, Metric, Slot},
        policy::{Bundle, Directory, starter},
    };

    /// One fast collection that wants a graph.
    fn world() -> Arc<RwLock<World>> {
        let policy = InForce { version: 1, bundle: Arc::new(Bundle::compile(&starter()).unwrap()) };
        let mut world = World::new(policy, Directory::new(), Keys::default(), Memory::Fast);
        let spec = Collection {
            name: name(),
            dimension: 2,
            metric: Metric::Cosine,
            subject_attribute: "patient".into(),
            isolation: Isolation::Fast,
            embedding_model: None,
        };
        let mut holding = Holding::new(spec, Memory::Fast);
        let encoder = holding.index.encoder();
        for n in 0..GRAPH_ROWS_MIN {
            // copies are one node: a graph of few is built soon
            let vector = Embedding::new(vec![1.0, (n % 200) as f32], 2, Metric::Cosine).unwrap();
            holding.index.push(&encoder.encode(vector));
        }
        world.collections.insert(name(), holding);
        Arc::new(RwLock::new(world))
    }

    fn name() -> CollectionName {
        "notes".parse().unwrap()
    }

    fn wants_a_graph(world: &RwLock<World>) -> bool {
        world.read().holding(&name()).unwrap().index.graph_job().is_some()
    }

    #[test]
    fn a_graph_that_is_being_built_is_given_up_when_told_so() {
        let (world, asked) = (world(), Cell::new(0));
        let a_hundred_times = || asked.replace(asked.get() + 1) < 100;
        build(&world, &a_hundred_times);
        assert_eq!(asked.get(), 101, "in its midst, and never again");
        assert!(wants_a_graph(&world));
        build(&world, &|| true);
        assert!(!wants_a_graph(&world));
    }

    #[test]
    fn a_write_finds_no_memory_that_a_graph_on_its_way_shares_and_it_must_copy_first() {
        let (world, asked) = (world(), Cell::new(0));
        let writes = || {
            let mut world = world.try_write().expect("it is asked whether to go on without the lock");
            let index = &mut world.collections.get_mut(&name()).unwrap().index;
            assert!(!index.shares_memory());
            if asked.replace(asked.get() + 1) % 100 == 0 {
                index.remove(Slot(asked.get()));
                let vector = Embedding::new(vec![1.0, 2.0], 2, Metric::Cosine).unwrap();
                index.push(&index.encoder().encode(vector));
            }
            true
        };
        build(&world, &writes);
        assert!(asked.get() > 200 && !wants_a_graph(&world), "asked {} times", asked.get());
    }

    #[test]
    fn a_stop_gives_up_what_is_being_built() {
        let world = world();
        let graphs = Graphs::start(Arc::clone(&world)).unwrap();
        // as long as this is held the thread cannot begin
        let held = world.write();
        graphs.tend();
        std::thread::scope(|scope| {
            let stop = scope.spawn(|| graphs.stop());
            while !graphs.stopping.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            drop(held);
            stop.join().unwrap();
        });
        assert!(wants_a_graph(&world));
    }
}
