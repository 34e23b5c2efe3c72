//! The store itself: opened whole and checked, one writer, many readers.

use std::{
    collections::{BTreeSet, HashSet},
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::{
    Change, Derived, Disk, Engine, EngineKind, Hand, Intake, Kind, LedgerState, Manifest, RealDisk, RingKey,
    StoreError,
    backup::{LedgerDoubt, Withdrawals},
    change::Demand,
    draft::Draft,
    keychain::{self, Carried, Keychain},
    layout::Layout,
    ledger::{Account, Ledger},
    manifest::Slots,
    names::{self, META, Names},
    redb_engine::RedbEngine,
    sled_engine::SledEngine,
    verify::{Depth, Survey},
};
use crate::crypto::{
    Entropy, KdfCost, KeyError, KeyProvider, KeyRing, KeyTag, OsEntropy, Passphrase, PassphraseKey, Unlock,
};

/// How a store is opened; the environment is handed in here.
#[derive(Clone)]
pub struct OpenOptions {
    /// The storage engine: for a new store, sled unless another is named; for one that is there, the one it was made with.
    pub engine: Option<EngineKind>,
    /// Memory for the storage engine's pages.
    pub cache_bytes: u64,
    /// How bytes become durable.
    pub disk: Arc<dyn Disk>,
    /// Where nonces and keys come from.
    pub entropy: Arc<dyn Entropy>,
    /// What is done about a ledger that is missing or older than the rest.
    pub ledger: LedgerDoubt,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            engine: None,
            cache_bytes: 128 << 20,
            disk: Arc::new(RealDisk),
            entropy: Arc::new(OsEntropy),
            ledger: LedgerDoubt::default(),
        }
    }
}

/// An open store. Reads run beside the one writer; commits wait for one another.
pub struct Store {
    pub(super) engine: Box<dyn Engine>,
    pub(super) keychain: Arc<Keychain>,
    pub(super) names: Names,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) ledger: Mutex<Ledger>,
    pub(super) slots: Mutex<Slots>,
    ring: KeyRing,
    layout: Layout,
    disk: Arc<dyn Disk>,
    derived: Derived,
    pub(super) withdrawals: Withdrawals,
    sequence: AtomicU64,
    /// Last, so that the directory stays locked until the engine is closed.
    _lock: File,
}

impl Store {
    /// Makes a store in `dir`, which must be new or empty, with a ring of its own.
    pub fn create(
        dir: &Path,
        passphrase: &Passphrase,
        cost: KdfCost,
        options: &OpenOptions,
    ) -> Result<Self, StoreError> {
        let provider = || -> Result<Arc<dyn KeyProvider>, KeyError> {
            Ok(Arc::new(PassphraseKey::make(passphrase, cost, &*options.entropy)?))
        };
        Self::create_with(dir, provider, options)
    }

    /// The same, with a ring that another provider keeps.
    pub fn create_with(
        dir: &Path,
        provider: impl FnOnce() -> Result<Arc<dyn KeyProvider>, KeyError>,
        options: &OpenOptions,
    ) -> Result<Self, StoreError> {
        Self::create_around(dir, |keyring| KeyRing::create(keyring, provider()?, &*options.entropy), options)
    }

    /// The same around a ring that `make` writes.
    pub(super) fn create_around(
        dir: &Path,
        make: impl FnOnce(&Path) -> Result<KeyRing, KeyError>,
        options: &OpenOptions,
    ) -> Result<Self, StoreError> {
        let layout = Layout::new(dir);
        layout.make()?;
        let lock = layout.take_lock()?;
        let ring = make(&layout.keyring())?;
        let engine = start_engine(options.engine.unwrap_or_default(), &layout.engine(), options)?;
        let account = Account::default();
        engine.commit(vec![(META.to_vec(), Some(account.seal(&ring)?))])?;
        layout.tighten()?;
        let first = Manifest { generation: ring.generation(), root: account.root(), ..Manifest::default() };
        let slots = Slots::create(&layout.manifests(), &ring, &*options.disk, first)?;
        layout.sync()?;
        let mut survey = Survey::new(&ring, options.entropy.clone());
        survey.account = Some(account);
        Self::assemble(layout, lock, ring, engine, slots, &survey, options)
    }

    /// Opens the store in `dir`: whole, undamaged and not rolled back, or not at all.
    pub fn open(dir: &Path, unlock: &dyn Unlock, options: &OpenOptions) -> Result<Self, StoreError> {
        Self::open_with(dir, |keyring| KeyRing::open(keyring, unlock), options)
    }

    pub(super) fn open_with(
        dir: &Path,
        unlock: impl FnOnce(&Path) -> Result<KeyRing, KeyError>,
        options: &OpenOptions,
    ) -> Result<Self, StoreError> {
        Self::open_unlocked(dir, unlock, options, |_| Ok::<_, StoreError>(None::<Nobody>)).map(|(store, _)| store)
    }

    /// The same, and hands the records to the intake that `begin` makes of the store, in the same walk that sees whether the store is whole.
    /// Until that is known, nothing that the intake took may be used.
    pub fn open_into<I: Intake, E: From<StoreError>>(
        dir: &Path,
        unlock: &dyn Unlock,
        options: &OpenOptions,
        begin: impl FnOnce(&Self) -> Result<I, E>,
    ) -> Result<(Self, I), E> {
        let unlock = |keyring: &Path| KeyRing::open(keyring, unlock);
        let (store, intake) = Self::open_unlocked(dir, unlock, options, |store| begin(store).map(Some))?;
        Ok((store, intake.ok_or(StoreError::Halted)?))
    }

    fn open_unlocked<I: Intake, E: From<StoreError>>(
        dir: &Path,
        unlock: impl FnOnce(&Path) -> Result<KeyRing, KeyError>,
        options: &OpenOptions,
        begin: impl FnOnce(&Self) -> Result<Option<I>, E>,
    ) -> Result<(Self, Option<I>), E> {
        let layout = Layout::new(dir);
        let lock = layout.lock()?;
        let (ring, engine) = unlock_beside(&layout, unlock, options);
        let ring = ring.map_err(StoreError::from)?;
        let slots = open_slots(&layout, &ring)?;
        let manifest = slots.current;
        check_generation(&ring, &manifest)?;
        let engine = engine?;
        let mut survey = Survey::keys(&*engine, &ring, options.entropy.clone())?;
        survey.check_age(&manifest)?;
        let mut store = Self::assemble(layout, lock, ring, engine, slots, &survey, options)?;
        let intake = begin(&store);
        let taking = intake.as_ref().ok().and_then(Option::as_ref).map(|intake| intake as &dyn Intake);
        survey.walk(&*store.engine, &store.ring, Depth::Sums, taking)?;
        // what is wrong with the store is said before what came of it
        survey.check(&manifest)?;
        survey.failure.take().map_or(Ok(()), Err)?;
        let intake = intake?;
        store.ring.settle(survey.ring_key, &*options.entropy).map_err(StoreError::from)?;
        store.layout.tighten()?;
        let ledger = store.ledger.get_mut();
        (ledger.live, ledger.outbox) = (survey.live, survey.outbox);
        if store.ring.generation() > manifest.generation {
            // from here on the older key file is refused
            store.write_manifest(manifest.audit_size, manifest.audit_root, manifest.audit_group)?;
        }
        Ok((store, intake))
    }

    fn assemble(
        layout: Layout,
        lock: File,
        ring: KeyRing,
        engine: Box<dyn Engine>,
        slots: Slots,
        survey: &Survey,
        options: &OpenOptions,
    ) -> Result<Self, StoreError> {
        let account = survey.account.unwrap_or_default();
        let ledger = Ledger { account, ..Ledger::default() };
        let (known, sequence) = (slots.current.ledger, account.sequence);
        let withdrawals =
            Withdrawals::open(&layout.ledger(), &ring, options.disk.clone(), sequence, known, options.ledger)?;
        Ok(Self {
            engine,
            keychain: survey.keychain.clone(),
            names: Names(ring.clone()),
            entropy: options.entropy.clone(),
            sequence: AtomicU64::new(account.sequence),
            derived: Derived::new(layout.derived(), ring.clone(), options),
            ledger: Mutex::new(ledger),
            slots: Mutex::new(slots),
            ring,
            layout,
            disk: options.disk.clone(),
            withdrawals,
            _lock: lock,
        })
    }

    /// Walks a store that may be damaged, and says what is: [`Evidence::examine`](super::Evidence::examine) in one step.
    pub fn examine(dir: &Path, unlock: &dyn Unlock, options: &OpenOptions) -> Result<super::Report, StoreError> {
        Ok(Self::evidence(dir, unlock)?.examine(options))
    }

    /// The keys.
    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// Where the audit log lies.
    pub fn audit_dir(&self) -> PathBuf {
        self.layout.audit()
    }

    /// The storage engine that it lies on.
    pub fn engine_kind(&self) -> Result<EngineKind, StoreError> {
        self.layout.engine_kind()
    }

    /// What can be made again from the records, as it lies on disk.
    pub fn derived(&self) -> &Derived {
        &self.derived
    }

    /// Keeps a copy of the ledger of erasures and revocations in `dir`, beside the backup, from here on.
    pub fn keep_ledger_beside(&self, dir: &Path) {
        self.withdrawals.keep_beside(dir);
    }

    /// Where the ledger of erasures and revocations stands.
    pub fn ledger_state(&self) -> LedgerState {
        self.withdrawals.state()
    }

    /// Number of the last durable change.
    pub fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    /// What the manifest says now; after `open`, what it said then.
    pub fn manifest(&self) -> Manifest {
        self.slots.lock().current
    }

    /// Writes `changes`, and the audit frames that tell of them, in one durable batch: all or nothing. Frames numbered
    /// below `outbox_settled_below` are in the log by now and go. After a failed write every further commit is refused.
    pub fn commit(
        &self,
        changes: &[Change],
        outbox: &[(u64, Vec<u8>)],
        outbox_settled_below: u64,
    ) -> Result<(), StoreError> {
        let mut ledger = self.ledger.lock();
        let settled: Vec<u64> = ledger.outbox.range(..outbox_settled_below).copied().collect();
        if changes.is_empty() && outbox.is_empty() && settled.is_empty() {
            return Ok(());
        }
        self.catch_up(&mut ledger)?;

        let mut draft = Draft::new(&*self.engine, &ledger.live, &ledger.destroyed);
        changes.iter().try_for_each(|change| change.apply(&mut draft))?;
        settled.iter().try_for_each(|n| draft.remove(&names::outbox(*n)))?;
        outbox.iter().try_for_each(|(n, frame)| draft.put_foreign(&names::outbox(*n), frame))?;
        let (now, gone) = keys_of(&draft)?;
        self.keychain.admit(&now)?;
        let demand = WrapDemand::of(changes, &gone, &self.keychain.behind());
        let renewal = match demand.ring {
            RingKey::Kept => None,
            RingKey::Renewed => Some(self.ring.begin(self.ring.epoch().saturating_add(demand.epochs), &*self.entropy)?),
        };
        if renewal.is_some() || replaces_records(&draft) {
            // gone before it is acknowledged, and before anything else is: if the commit then fails, it is made again from what is there;
            // and not before this commit is in force, for what is in memory until then may be what it takes away
            self.derived.supersede(ledger.account.sequence.saturating_add(1))?;
        }
        let rewrapped = self.keychain.rewrap(&mut draft, &now, &gone, &demand.buckets, renewal.as_ref())?;
        let account = ledger.account.after(&draft, changes.len() as u64, &self.ring);
        let sealed = account.seal(&self.ring)?;
        let (mut batch, counts) = draft.into_parts();
        batch.push((META.to_vec(), Some(sealed)));
        if let Some(watched) = &mut ledger.watched {
            watched.extend(batch.iter().map(|(key, _)| key.clone()));
        }
        // entered before it is done: what is acknowledged is in the ledger, whatever crashes
        let audit = outbox.first().map(|(number, _)| *number).unwrap_or_default();
        self.withdrawals.enter(changes, audit, account.sequence)?;
        self.engine.commit(batch).inspect_err(|_| ledger.halted = true)?;
        // from here on nothing hangs on the old ring key: a crash before it is forgotten is mended when the store opens
        renewal.map_or(Ok(()), |renewal| self.ring.finish(renewal)).inspect_err(|_| ledger.halted = true)?;

        ledger.adopt(account, counts, &gone);
        settled.iter().for_each(|n| {
            ledger.outbox.remove(n);
        });
        ledger.outbox.extend(outbox.iter().map(|(n, _)| *n));
        self.keychain.settle(rewrapped, &now, &gone)?;
        self.sequence.store(account.sequence, Ordering::Release);
        Ok(())
    }

    /// Whether a write failed: then nothing more is written until the store is opened anew.
    pub fn is_halted(&self) -> bool {
        self.ledger.lock().halted
    }

    /// Remembers outside the engine how far engine and audit log are. Durable when it returns.
    pub fn write_manifest(&self, audit_size: u64, audit_root: [u8; 32], audit_group: u64) -> Result<(), StoreError> {
        let mut ledger = self.ledger.lock();
        self.remember(&mut ledger, Manifest { audit_size, audit_root, audit_group, ..Manifest::default() })
    }

    /// Hash over everything that changes made: equal for stores that saw the same changes. What wraps a data key is no part of it.
    pub fn state_digest(&self) -> Result<[u8; 32], StoreError> {
        let ledger = self.ledger.lock();
        let mut hash = Sha256::new();
        hash.update(ledger.account.sequence.to_be_bytes());
        self.engine.scan(b"", &mut |key, value| {
            let value = match Kind::of(key) {
                None | Some(Kind::Outbox | Kind::KeyBucket) => return Ok(()),
                Some(Kind::DataKey) => &[],
                Some(Kind::Collection | Kind::Record | Kind::Entity | Kind::Bundle | Kind::ApiKey | Kind::Hold) => {
                    value
                }
            };
            for part in [key, value] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
            Ok(())
        })?;
        Ok(hash.finalize().into())
    }

    /// The manifest may be one commit behind, never two: otherwise a manifest rolled back could not be told from a crash.
    fn catch_up(&self, ledger: &mut Ledger) -> Result<(), StoreError> {
        let current = self.manifest();
        if ledger.halted {
            Err(StoreError::Halted)
        } else if ledger.account.commits > current.commits || self.has_entered_since(&current) {
            self.remember(ledger, current)
        } else {
            Ok(())
        }
    }

    /// Whether the ledger has an entry that the manifest does not know: one is what a crash may leave, of two it cannot be told.
    fn has_entered_since(&self, manifest: &Manifest) -> bool {
        manifest.ledger.is_some_and(|known| known != self.withdrawals.head())
    }

    fn remember(&self, ledger: &mut Ledger, audit: Manifest) -> Result<(), StoreError> {
        if ledger.halted {
            return Err(StoreError::Halted);
        }
        let next = Manifest {
            generation: self.ring.generation(),
            sequence: ledger.account.sequence,
            commits: ledger.account.commits,
            root: ledger.account.root(),
            ledger: Some(self.withdrawals.head()),
            ..audit
        };
        self.slots.lock().write(&self.ring, &*self.disk, next).inspect_err(|_| ledger.halted = true)
    }
}

/// The audit log is begun once both manifests are there: without one, a manifest that does not open was never finished; with
/// one, it was lost.
pub(super) fn open_slots(layout: &Layout, ring: &KeyRing) -> Result<Slots, StoreError> {
    Slots::open(&layout.manifests(), ring).map_err(|error| match error {
        StoreError::Missing if layout.has_audit_log() => StoreError::DamagedPart("the manifest"),
        StoreError::DamagedPart(_) if !layout.has_audit_log() => StoreError::Missing,
        other => other,
    })
}

/// A key file from before the last change of passphrase is refused.
pub(super) fn check_generation(ring: &KeyRing, manifest: &Manifest) -> Result<(), StoreError> {
    if ring.generation() < manifest.generation {
        return Err(StoreError::RolledBack("the key file is older than the rest"));
    }
    Ok(())
}

/// The engine that is there; another than the one asked for is refused.
pub(super) fn open_engine(layout: &Layout, options: &OpenOptions) -> Result<Box<dyn Engine>, StoreError> {
    let made_with = layout.engine_kind()?;
    match options.engine {
        Some(asked) if asked != made_with => Err(StoreError::OtherEngine { made_with, asked }),
        Some(_) | None => start_engine(made_with, &layout.engine(), options),
    }
}

/// Opens or makes an engine's files in `dir`.
pub(super) fn start_engine(kind: EngineKind, dir: &Path, options: &OpenOptions) -> Result<Box<dyn Engine>, StoreError> {
    Ok(match kind {
        EngineKind::Sled => Box::new(SledEngine::open(dir, options.cache_bytes, options.disk.clone())?),
        EngineKind::Redb => Box::new(RedbEngine::open(dir, options.cache_bytes, options.disk.clone())?),
    })
}

/// Whether a draft takes away what derived data may have been made of.
fn replaces_records(draft: &Draft<'_>) -> bool {
    draft.touched().any(|(key, row)| Kind::of(key) == Some(Kind::Record) && row.before.is_some())
}

/// Opens the key ring and, meanwhile, the engine, which needs no key: both take long.
fn unlock_beside(
    layout: &Layout,
    unlock: impl FnOnce(&Path) -> Result<KeyRing, KeyError>,
    options: &OpenOptions,
) -> (Result<KeyRing, KeyError>, Result<Box<dyn Engine>, StoreError>) {
    std::thread::scope(|scope| {
        let engine = scope.spawn(|| open_engine(layout, options));
        let ring = unlock(&layout.keyring());
        (ring, engine.join().unwrap_or(Err(StoreError::DamagedPart("the storage engine"))))
    })
}

/// An intake that there is none of.
enum Nobody {}

impl Intake for Nobody {
    fn hand(&self) -> Box<dyn Hand + '_> {
        match *self {}
    }
}

/// What a commit's changes ask of the wraps, together.
struct WrapDemand {
    buckets: BTreeSet<u8>,
    ring: RingKey,
    epochs: u32,
}

impl WrapDemand {
    /// `behind` are the buckets whose keys may still open data keys that were replaced.
    fn of(changes: &[Change], gone: &HashSet<KeyTag>, behind: &BTreeSet<u8>) -> Self {
        let mut all = Self { buckets: BTreeSet::new(), ring: RingKey::Kept, epochs: 0 };
        let lost: BTreeSet<u8> = gone.iter().map(keychain::number).collect();
        for change in changes {
            match change.demand() {
                Demand::WhereLost if !lost.is_empty() => all.renew(lost.union(behind)),
                Demand::Later if !lost.is_subset(behind) => all.renew(lost.difference(behind)),
                Demand::WhereLost | Demand::Later => {}
                Demand::NewEpoch => (all.ring, all.epochs) = (RingKey::Renewed, 1),
                Demand::Renew(buckets, RingKey::Renewed) => all.renew(buckets.iter()),
                Demand::Renew(buckets, RingKey::Kept) => all.buckets.extend(buckets),
            }
        }
        all
    }

    /// These buckets, and the ring key.
    fn renew<'a>(&mut self, buckets: impl Iterator<Item = &'a u8>) {
        self.buckets.extend(buckets);
        self.ring = RingKey::Renewed;
    }
}

/// The data keys that a draft adds and destroys.
fn keys_of(draft: &Draft<'_>) -> Result<(Carried, HashSet<KeyTag>), StoreError> {
    let (mut now, mut gone) = (Vec::new(), HashSet::new());
    for (key, row) in draft.touched().filter(|(key, _)| Kind::of(key) == Some(Kind::DataKey)) {
        let id = keychain::id_of_row(key)?;
        match &row.after {
            Some(wrapped) => now.push((id, wrapped.clone())),
            None => {
                gone.insert(id);
            }
        }
    }
    Ok((now, gone))
}
