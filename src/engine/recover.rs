//! From a directory to a running store: opened, held against its manifest and log, loaded into memory.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use zeroize::Zeroizing;

use super::{
    Memory, Refusal, Settings, Wardkeep,
    graphs::Graphs,
    journal::{Intent, Journal},
    keeper::Keeper,
    loading::Loading,
    retention::Retaining,
    rotation::Rotation,
    sign_in::Failures,
    trail::Trail,
    watch::{ClockBehind, Watch, WatchError},
    world::{InForce, World},
};
use crate::{
    audit::{self, Expected, Log, LogError, RealDisk, What},
    authn::{self, Keys},
    clock::Clock,
    crypto::{Entropy, EntropyError, KdfCost, KeyError, KeyProvider, KeyRing, Passphrase, PassphraseKey, Unlock},
    model::{Entity, KeyId},
    policy::{self, Bundle, Directory},
    store::{EngineKind, LedgerDoubt, OpenOptions, Store, StoreError, StoredBundle},
};

/// Why a store could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The clock, or the anchor.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The operating system.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The stored bundle does not compile: it was written by another version.
    #[error(
        "the stored policies do not compile with this version of wardkeep: open the store with the version that wrote them"
    )]
    Bundle,
    /// No bundle is stored.
    #[error("the store has no policies: its creation was interrupted; remove the directory and run `init` again")]
    Unfinished,
    /// The first entries could not be written.
    #[error("the store cannot write its audit log: free the disk or mend it")]
    Unwritable,
}

/// What a store hands out when it is made, once.
pub struct Founding {
    /// The first administrator's key.
    pub api_key: Zeroizing<String>,
    /// Its public name.
    pub key_id: KeyId,
    /// To verify the audit log with, kept elsewhere.
    pub audit_public_key: [u8; 32],
}

/// Told how far loading has come: records loaded so far.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

/// What the environment hands in.
pub struct Environment {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// What the audit log writes to.
    pub disk: Arc<dyn audit::Disk>,
    /// How the store's files become durable.
    pub store_disk: Arc<dyn crate::store::Disk>,
    /// The file elsewhere that knows how far the audit log was.
    pub anchor: Option<PathBuf>,
    /// What is done about a clock that is behind the last entry.
    pub clock_behind: ClockBehind,
    /// What is done about a ledger of erasures that is missing or older than the rest.
    pub ledger: LedgerDoubt,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            clock: Arc::new(crate::clock::SystemClock),
            entropy: Arc::new(crate::crypto::OsEntropy),
            disk: Arc::new(RealDisk),
            store_disk: Arc::new(crate::store::RealDisk),
            anchor: None,
            clock_behind: ClockBehind::default(),
            ledger: LedgerDoubt::default(),
        }
    }
}

impl Wardkeep {
    /// Makes a store in an empty directory: key ring, starter bundle, first administrator.
    pub fn create(
        dir: &Path,
        passphrase: &Passphrase,
        cost: KdfCost,
        environment: Environment,
    ) -> Result<Founding, OpenError> {
        Self::create_on(dir, passphrase, cost, Settings::default(), environment)
    }

    /// The same, on the storage engine that `settings` name.
    pub fn create_on(
        dir: &Path,
        passphrase: &Passphrase,
        cost: KdfCost,
        settings: Settings,
        environment: Environment,
    ) -> Result<Founding, OpenError> {
        let entropy = Arc::clone(&environment.entropy);
        let provider = || Ok(Arc::new(PassphraseKey::make(passphrase, cost, &*entropy)?) as Arc<dyn KeyProvider>);
        Self::create_with(dir, provider, settings, environment)
    }

    /// The same, with a key file that another provider keeps.
    pub fn create_with(
        dir: &Path,
        provider: impl FnOnce() -> Result<Arc<dyn KeyProvider>, KeyError>,
        settings: Settings,
        environment: Environment,
    ) -> Result<Founding, OpenError> {
        let store = Arc::new(Store::create_with(dir, provider, &options(&settings, &environment))?);
        let log = Log::create(
            &store.audit_dir(),
            &origin_line(&store),
            store.ring().sealer("audit"),
            store.ring().signer(),
            Arc::clone(&environment.disk),
        )?;
        // So that a log whose first entries are lost to a crash is still the one that the manifest knows.
        let head = log.head();
        store.write_manifest(head.size, head.root, head.group)?;
        let source = policy::starter();
        let bundle = Bundle::compile(&source).map_err(|_| OpenError::Bundle)?;
        let world = World::new(
            InForce { version: 1, bundle: Arc::new(bundle) },
            Directory::new(),
            Keys::default(),
            Memory::Fast,
        );
        let engine = Self::assemble(store, log, world, settings, environment)?;
        let founding = engine.found(source);
        engine.close();
        founding
    }

    fn found(&self, source: crate::model::BundleSource) -> Result<Founding, OpenError> {
        let now = self.clock.now();
        let root = Entity::bare(authn::root());
        let (key, api_key) = authn::issue(authn::root(), now, None, None, self.store.ring(), self.entropy.as_ref())?;
        let key_id = key.key_id;
        let stored = StoredBundle { source, author: authn::root(), at: now, restores: None };
        let changes = vec![
            self.store.put_bundle(1, &stored, now)?,
            self.store.put_entities(std::slice::from_ref(&root), now)?,
            self.store.put_api_key(&key, now)?,
        ];
        let effect = Box::new(move |world: &mut World| {
            world.directory.upsert(root);
            world.keys.write().insert(key);
        });
        let trail = self.own_trail(What::MakeKey).target(&authn::root()).detail(key_id.to_string());
        self.journal.change(Intent { changes, effect }, trail).map_err(|_| OpenError::Unwritable)?;
        Ok(Founding { api_key, key_id, audit_public_key: self.store.ring().signer().public_key() })
    }

    /// Opens a store and loads what a request looks at.
    pub fn open(
        dir: &Path,
        unlock: &dyn Unlock,
        settings: Settings,
        environment: Environment,
        progress: Progress<'_>,
    ) -> Result<Self, OpenError> {
        let begin = |store: &Store| Loading::begin(store, settings.memory, progress);
        let (store, loading) = Store::open_into(dir, unlock, &options(&settings, &environment), begin)?;
        let (store, world) = (Arc::new(store), loading.finish());
        let log = open_log(&store, Arc::clone(&environment.disk))?;
        // The log may be one group ahead of the manifest and no more: a group that a crash left behind is entered before the next.
        let head = log.head();
        store.write_manifest(head.size, head.root, head.group)?;
        let ledger = environment.ledger;
        let engine = Self::assemble(store, log, world, settings, environment)?;
        match engine.begin(ledger) {
            Ok(()) => Ok(engine),
            Err(error) => {
                engine.close();
                Err(error)
            }
        }
    }

    fn begin(&self, ledger: LedgerDoubt) -> Result<(), OpenError> {
        self.deny_misfits()?;
        let start = self.own_trail(What::Start);
        let start = match ledger {
            LedgerDoubt::Refuse => start,
            LedgerDoubt::Accept => start.detail("accept_missing_ledger"),
        };
        self.journal.note(start).map_err(|_| OpenError::Unwritable)?;
        self.graphs.tend();
        self.tend_keys();
        Ok(())
    }

    fn assemble(
        store: Arc<Store>,
        log: Log,
        mut world: World,
        settings: Settings,
        environment: Environment,
    ) -> Result<Self, OpenError> {
        let keys = Arc::clone(&world.keys);
        world.sequence = store.sequence();
        let world = Arc::new(RwLock::new(world));
        let anchor = environment.anchor.as_deref();
        let watch = Watch::begin(&log, Arc::clone(&environment.clock), environment.clock_behind, anchor)?;
        let journal = Arc::new(Journal::start(Arc::clone(&store), log, Arc::clone(&world), watch)?);
        let (writing, clock) = (Arc::new(Mutex::new(())), environment.clock);
        let rotation =
            Rotation::start(Arc::clone(&store), Arc::clone(&journal), Arc::clone(&writing), Arc::clone(&clock))?;
        Ok(Self {
            graphs: Graphs::start(Arc::clone(&world))?,
            keeper: Keeper::start(Arc::clone(&store), Arc::clone(&world))?,
            journal,
            keys,
            world,
            rotation,
            retaining: Retaining::default(),
            writing,
            failures: Failures::default(),
            limits: settings.limits,
            clock,
            entropy: environment.entropy,
            store,
        })
    }

    /// After `allow_invalid` some records do not fit the schema in force: they are denied after a restart too.
    fn deny_misfits(&self) -> Result<(), OpenError> {
        let bundle = Arc::clone(&self.world.read().policy.bundle);
        if bundle.source().tolerates_misfits {
            let misfits = self.misfits(&bundle).map_err(|_| OpenError::Bundle)?;
            self.world.write().deny(misfits);
        }
        Ok(())
    }

    /// An entry of the store's own doing.
    pub(super) fn own_trail(&self, what: What) -> Trail {
        let operator = self.operator();
        Trail::new(self, what, Some(operator.caller()), &operator.origin())
    }

    /// Enters in the log that the operator is about to carry the rows into a new engine of kind `to`, or of the same kind; gives the kind.
    pub fn announce_rebuild(&self, to: Option<EngineKind>) -> Result<EngineKind, Refusal> {
        let from = self.store.engine_kind()?;
        let to = to.unwrap_or(from);
        self.journal.note(self.own_trail(What::Rebuild).detail(format!("{from} to {to}")))?;
        Ok(to)
    }

    /// Writes what is waiting and lets go of the directory. Answers that were promised have left before.
    pub fn close(&self) {
        self.write_failures(true);
        if let Err(refusal) = self.journal.note(self.own_trail(What::Stop)) {
            tracing::warn!(?refusal, "the end of this run could not be written to the audit log");
        }
        self.graphs.stop();
        self.rotation.stop();
        self.journal.stop();
        self.keeper.stop();
    }
}

/// The name under which the log signs its heads.
pub(super) fn origin_line(store: &Store) -> String {
    origin_of(store.ring())
}

/// The same from the key ring alone, for verification offline.
pub fn origin_of(ring: &KeyRing) -> String {
    format!("wardkeep/{}", hex::encode(ring.store_id()))
}

pub(super) fn options(settings: &Settings, environment: &Environment) -> OpenOptions {
    OpenOptions {
        engine: settings.storage_engine,
        cache_bytes: settings.cache_bytes,
        disk: Arc::clone(&environment.store_disk),
        entropy: Arc::clone(&environment.entropy),
        ledger: environment.ledger,
    }
}

fn open_log(store: &Store, disk: Arc<dyn audit::Disk>) -> Result<Log, OpenError> {
    let manifest = store.manifest();
    let expected = Expected { size: manifest.audit_size, root: manifest.audit_root, group: manifest.audit_group };
    let (ring, outbox) = (store.ring(), store.outbox()?);
    Ok(Log::open(&store.audit_dir(), &origin_line(store), ring.sealer("audit"), ring.signer(), disk, expected, outbox)?)
}

/// The bundle in force.
pub(super) fn in_force(store: &Store) -> Result<InForce, OpenError> {
    let (version, stored) = store.bundle()?.ok_or(OpenError::Unfinished)?;
    let bundle = Bundle::compile(&stored.source).map_err(|_| OpenError::Bundle)?;
    Ok(InForce { version, bundle: Arc::new(bundle) })
}
