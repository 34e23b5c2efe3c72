//! A store made anew from a backup and an escrow: what was erased or removed before the escrow was taken stays so.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    BackupError, Item,
    deposit::Deposit,
    digest,
    room::{self, WHOLE},
    withdrawn::{Deed, Replay},
};
use crate::{
    clock::Instant,
    crypto::{self, Escrow, KeyError, KeyTag, Unlock},
    model::{Hold, Sealer, limits},
    store::{
        Change, EngineKind, Kind, OpenOptions as StoreOptions, Row, Store, StoreError, keychain::Carried,
        ledger::Account,
    },
};

/// Bytes of rows in one commit.
const COMMIT_BYTES: usize = 16 << 20;
/// How far two machines' clocks may differ, in milliseconds.
const CLOCKS_DIFFER_MS: i64 = 60_000;

/// What is restored, from what, and what its operator knows.
pub struct Plan<'a> {
    /// The directory of the backup, or one whole file.
    pub from: &'a Path,
    /// The number of the last file to use; all of them without it.
    pub until: Option<u32>,
    /// An escrow that was taken after the backup.
    pub escrow: &'a [u8],
    /// The ledger of what was erased and revoked; the copy beside the backup without it.
    pub ledger: Option<&'a Path>,
    /// Whoever can open it.
    pub unlock: &'a dyn Unlock,
    /// The data directory to make; new or empty.
    pub to: &'a Path,
    /// When it is.
    pub now: Instant,
    /// Nothing was erased or revoked since the escrow was taken.
    pub accept_old_escrow: bool,
    /// Nothing was erased or revoked after the escrow but what a ledger that is missing or cut short still says.
    pub accept_missing_ledger: bool,
    /// Permissions of an earlier time are set right before anybody asks.
    pub accept_older_permissions: bool,
}

/// What came back, and what did not.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Restored {
    /// Files of the backup that were read.
    pub files: u32,
    /// The moment that the backup is of, in milliseconds since 1970.
    pub at: Instant,
    /// When the escrow was taken.
    pub escrow_at: Instant,
    /// Objects that came back.
    pub objects: u64,
    /// Those that were erased, removed or revoked between backup and escrow: they did not come back.
    pub gone_since: u64,
    /// Those that came back as they were before they were last changed.
    pub older: u64,
    /// Those that are lost: they came after the backup, or were sealed under a new key since (a neighbour was erased, keys were rotated).
    pub lost: u64,
    /// Entries of the audit log.
    pub entries: u64,
    /// What was done after the escrow, as the ledger says.
    pub ledger: Replayed,
    /// Where legal holds were taken from.
    pub holds: HoldsOf,
}

/// Where a restore takes legal holds from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldsOf {
    /// The escrow: those of its moment, and none that was lifted before.
    Escrow,
    /// The backup, for the escrow is of a build that put no holds in. One that was placed after the backup is not among them, and makes the
    /// restore refuse unless older permissions are accepted.
    Backup,
}

/// What a restore took from the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Replayed {
    /// Whether it reaches from what the escrow knows to a sound end.
    pub complete: bool,
    /// Its entries.
    pub entries: u64,
    /// Those after the escrow.
    pub after_escrow: u64,
    /// When the last of these was entered.
    pub until: Option<Instant>,
    /// Objects of the backup that were erased or revoked after the escrow: they did not come back.
    pub withdrawn: u64,
    /// Permissions that were changed after the escrow.
    pub permissions: u64,
}

/// Makes a store in `plan.to`. If it cannot be made whole, nothing is left there.
///
/// # Errors
/// The backup, the escrow or the ledger is damaged, of another store, or older than what permissions and erasures need.
pub fn restore(plan: &Plan<'_>, options: &StoreOptions, progress: &dyn Fn(u64)) -> Result<Restored, BackupError> {
    let escrow = Escrow::open(plan.escrow, plan.unlock).map_err(|error| match error {
        KeyError::Damaged => BackupError::DamagedEscrow,
        other => StoreError::from(other).into(),
    })?;
    let deposit = Deposit::read(&escrow.body).ok_or(BackupError::DamagedEscrow)?;
    let escrow_at = deposit.at.unwrap_or(plan.now);
    check_age(plan, escrow_at)?;
    let files = room::set(plan.from, plan.until)?;
    let keys = escrow.keys(&*options.entropy).map_err(StoreError::from)?;
    let sealer = keys.sealer("backup");
    let engine = options.engine.or(made_with(&files, &escrow, &sealer)?);
    let beside = room::ledger_beside(plan.from);
    let replay = Replay::read(plan.ledger.unwrap_or(&beside), &keys, deposit.ledger)?;
    if !replay.is_complete && !plan.accept_missing_ledger {
        return Err(BackupError::NoLedger);
    }
    let options = StoreOptions { engine, ..options.clone() };
    let store = Store::create_around(plan.to, |keyring| escrow.revive(keyring, &*options.entropy), &options)?;
    let withdrawn = Withdrawn::of(&replay.deeds);
    let restoring = Restoring { plan, store: &store, sealer, deposit, files, replay, withdrawn };
    let restored = restoring.run(escrow.store_id, escrow_at, progress);
    if restored.is_err() {
        drop(restoring);
        drop(store);
        empty(plan.to);
    }
    restored
}

/// The engine of the store that was backed up, where the last file says it.
fn made_with(
    files: &[(u32, PathBuf)],
    escrow: &Escrow,
    sealer: &Arc<dyn Sealer>,
) -> Result<Option<EngineKind>, BackupError> {
    let (number, path) = files.last().ok_or(BackupError::Missing)?;
    let last = room::open(*number, path, sealer)?;
    if last.header.store_id != escrow.store_id {
        return Err(BackupError::Foreign);
    }
    let items = last.first()?;
    Ok(items.iter().find_map(|item| match item {
        Item::Engine(name) => name.parse().ok(),
        Item::Put { .. }
        | Item::Gone { .. }
        | Item::Log { .. }
        | Item::LogEnd { .. }
        | Item::Head { .. }
        | Item::Account { .. }
        | Item::Index(_)
        | Item::Ledger(_) => None,
    }))
}

/// The escrow's age is as good as the clock; one from the future tells that this is wrong.
fn check_age(plan: &Plan<'_>, escrow_at: Instant) -> Result<(), BackupError> {
    let age_ms = plan.now.millis().saturating_sub(escrow_at.millis());
    if age_ms < -CLOCKS_DIFFER_MS {
        return Err(BackupError::FutureEscrow(age_ms.saturating_neg() / 1_000));
    }
    if age_ms > i64::try_from(limits::ESCROW_DAYS * 86_400_000).unwrap_or(i64::MAX) && !plan.accept_old_escrow {
        return Err(BackupError::OldEscrow);
    }
    Ok(())
}

/// What the ledger says of rows.
#[derive(Default)]
struct Withdrawn {
    gone: HashSet<Vec<u8>>,
    /// Beginnings of names of which all are gone.
    all_gone: Vec<Vec<u8>>,
    /// Those written, and not gone since.
    changed: HashSet<Vec<u8>>,
}

impl Withdrawn {
    fn of(deeds: &[Deed]) -> Self {
        let mut all = Self::default();
        for deed in deeds {
            match deed {
                Deed::Gone { key } => {
                    all.changed.remove(&*key.0);
                    all.gone.insert(key.0.to_vec());
                }
                Deed::AllGone { prefix } => all.all_gone.push(prefix.0.to_vec()),
                Deed::Changed { key } => drop(all.changed.insert(key.0.to_vec())),
                Deed::Escrow | Deed::Restored => {}
            }
        }
        all
    }

    fn took(&self, key: &[u8]) -> bool {
        self.gone.contains(key) || self.all_gone.iter().any(|prefix| key.starts_with(prefix))
    }
}

struct Restoring<'a> {
    plan: &'a Plan<'a>,
    store: &'a Store,
    sealer: Arc<dyn Sealer>,
    deposit: Deposit,
    files: Vec<(u32, PathBuf)>,
    replay: Replay,
    withdrawn: Withdrawn,
}

/// What a first reading of the files says of all of them.
#[derive(Default)]
struct Overview {
    /// Where the last word on each row stands: file, and place in it.
    last: HashMap<Vec<u8>, (u32, u64)>,
    account: Option<(Vec<u8>, Instant)>,
    head: Option<(u64, [u8; 32], u64)>,
}

impl Restoring<'_> {
    fn run(&self, store_id: [u8; 16], escrow_at: Instant, progress: &dyn Fn(u64)) -> Result<Restored, BackupError> {
        let overview = self.overview(store_id)?;
        let (sealed, at) = overview.account.as_ref().ok_or(BackupError::DoesNotAddUp)?;
        let account = Account::open(self.store.ring(), sealed)?;
        if self.deposit.sequence < account.sequence {
            return Err(BackupError::OlderEscrow);
        }
        let (size, root, group) = overview.head.ok_or(BackupError::DoesNotAddUp)?;
        // counts on from the lost store, so that no escrow or backup of before is taken for a later one
        self.store.ledger.lock().account.sequence = self.deposit.sequence;
        let mut filling = Filling::new(self, progress);
        self.each(|number, place, item| match item {
            Item::Put { key, value } if overview.last.get(&*key.0) == Some(&(number, place)) => {
                filling.row(&key.0, &value.0)
            }
            _ => Ok(()),
        })?;
        filling.holds()?;
        let missing = self.missing(&overview);
        let changed_since = self.permissions_since(&overview);
        let older_permissions = filling.older_permissions + missing.permissions + changed_since;
        if older_permissions > 0 && !self.plan.accept_older_permissions {
            return Err(BackupError::OlderPermissions(older_permissions));
        }
        filling.end(&account)?;
        // a hold that was put after the escrow was taken is not known: nothing expires until somebody has said that all are there
        self.store.commit(&[self.store.put_hold(&Hold::until_confirmed(self.plan.now), self.plan.now)?], &[], 0)?;
        self.store.withdrawals.take_over(&self.replay, self.plan.now, self.store.sequence())?;
        self.store.write_manifest(size, root, group)?;
        Ok(Restored {
            files: u32::try_from(self.files.len()).unwrap_or(u32::MAX),
            at: *at,
            escrow_at,
            objects: filling.objects,
            gone_since: filling.gone_since,
            older: filling.older,
            lost: missing.all + filling.unreadable,
            entries: size,
            ledger: Replayed {
                complete: self.replay.is_complete,
                entries: self.replay.entries,
                after_escrow: self.replay.later,
                until: self.replay.until,
                withdrawn: filling.withdrawn,
                permissions: changed_since,
            },
            holds: self.deposit.holds.as_ref().map_or(HoldsOf::Backup, |_| HoldsOf::Escrow),
        })
    }

    /// Permissions that were written after the escrow. An entity that is missing denies; a bundle or a hold that is missing may have
    /// forbidden what comes back.
    fn permissions_since(&self, overview: &Overview) -> u64 {
        let known = |key: &[u8]| overview.last.contains_key(key) && !self.withdrawn.took(key);
        let counts = |key: &&Vec<u8>| match Kind::of(key) {
            Some(Kind::Bundle | Kind::Hold) => true,
            Some(
                Kind::Collection
                | Kind::Record
                | Kind::Entity
                | Kind::ApiKey
                | Kind::DataKey
                | Kind::KeyBucket
                | Kind::Outbox,
            )
            | None => known(key),
        };
        self.withdrawn.changed.iter().filter(counts).count() as u64
    }

    /// Reads every file once: whether they follow one another, where the last word on each row stands; and puts the log in its place.
    fn overview(&self, store_id: [u8; 16]) -> Result<Overview, BackupError> {
        let mut overview = Overview::default();
        let (mut link, mut before) = (WHOLE, None);
        for (number, path) in &self.files {
            let inlet = room::open(*number, path, &self.sealer)?;
            inlet.header.follows(store_id, link, before.replace(inlet.header))?;
            let mut place = 0;
            link = inlet.read(&mut |item| {
                place += 1;
                overview.note(*number, place, item, &self.store.audit_dir())
            })?;
        }
        Ok(overview)
    }

    /// Hands on every item of every file, with its place.
    fn each(&self, mut each: impl FnMut(u32, u64, Item) -> Result<(), BackupError>) -> Result<(), BackupError> {
        for (number, path) in &self.files {
            let mut place = 0;
            room::open(*number, path, &self.sealer)?.read(&mut |item| {
                place += 1;
                each(*number, place, item)
            })?;
        }
        Ok(())
    }

    /// What the escrow knows of and the backup does not. An entity that is missing denies; a bundle that is missing may have forbidden
    /// what the restored one permits, and a hold kept what would be erased.
    fn missing(&self, overview: &Overview) -> Missing {
        let known: HashSet<_> = overview.last.keys().map(|key| digest(key)).collect();
        let rows = self.deposit.rows.iter().filter(|(row, _)| !known.contains(*row));
        let mut missing = Missing { all: 0, permissions: 0 };
        for kind in rows.filter_map(|(_, row)| Kind::of(&[row.kind])).filter(|kind| *kind != Kind::Outbox) {
            if kind == Kind::Hold && self.deposit.holds.is_some() {
                continue;
            }
            missing.all += 1;
            missing.permissions += u64::from(matches!(kind, Kind::Bundle | Kind::Hold));
        }
        missing
    }
}

struct Missing {
    all: u64,
    permissions: u64,
}

impl Overview {
    fn note(&mut self, number: u32, place: u64, item: Item, audit: &Path) -> Result<(), BackupError> {
        match item {
            Item::Put { key, .. } => drop(self.last.insert(key.0.to_vec(), (number, place))),
            Item::Gone { key } => drop(self.last.remove(&*key.0)),
            Item::Log { file, offset, bytes } => write_log(audit, &file, offset, &bytes.0)?,
            Item::Head { size, root, group } => self.head = Some((size, root, group)),
            Item::Account { sealed, at } => self.account = Some((sealed.0.to_vec(), at)),
            Item::LogEnd { .. } | Item::Index(_) | Item::Engine(_) | Item::Ledger(_) => {}
        }
        Ok(())
    }
}

/// The restored store being filled.
struct Filling<'a> {
    restoring: &'a Restoring<'a>,
    progress: &'a dyn Fn(u64),
    /// What was counted of the backup, to be held against its account.
    found: Account,
    rows: Vec<Row>,
    keys: HashMap<KeyTag, Vec<u8>>,
    bytes: usize,
    outbox: Vec<(u64, Vec<u8>)>,
    objects: u64,
    gone_since: u64,
    /// Erased or revoked after the escrow.
    withdrawn: u64,
    /// Sealed anew since, because a neighbour under the same key was erased or keys were rotated: the key of this copy is destroyed.
    unreadable: u64,
    older: u64,
    older_permissions: u64,
}

impl<'a> Filling<'a> {
    fn new(restoring: &'a Restoring<'a>, progress: &'a dyn Fn(u64)) -> Self {
        Self {
            restoring,
            progress,
            found: Account::default(),
            rows: Vec::new(),
            keys: HashMap::new(),
            bytes: 0,
            outbox: Vec::new(),
            objects: 0,
            gone_since: 0,
            withdrawn: 0,
            unreadable: 0,
            older: 0,
            older_permissions: 0,
        }
    }

    fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
        let kind = Kind::of(key).ok_or(BackupError::DoesNotAddUp)?;
        self.found.tally(kind).add(self.restoring.store.ring().row(key, value));
        if kind == Kind::Outbox {
            let number = key.get(1..).and_then(|n| <[u8; 8]>::try_from(n).ok()).ok_or(BackupError::DoesNotAddUp)?;
            self.outbox.push((u64::from_be_bytes(number), value.to_vec()));
            return Ok(());
        }
        let deposit = &self.restoring.deposit;
        if self.restoring.withdrawn.took(key) {
            self.withdrawn += 1;
            return Ok(());
        }
        if kind == Kind::Hold && deposit.holds.is_some() {
            self.gone_since += u64::from(!deposit.rows.contains_key(&digest(key)));
            return Ok(());
        }
        let under = crypto::key_of(value).ok_or(BackupError::DoesNotAddUp)?;
        let Some(is) = deposit.rows.get(&digest(key)) else {
            self.gone_since += 1;
            return Ok(());
        };
        let Some(carried) = deposit.keys.get(&under) else {
            self.unreadable += 1;
            return Ok(());
        };
        if is.value != digest(value) {
            self.older += 1;
            let counted_already = self.restoring.withdrawn.changed.contains(key);
            self.older_permissions += u64::from(is_permission(kind) && !counted_already);
        }
        self.put(key, value, under, carried)
    }

    /// Legal holds as the escrow has them: also those that were put after the backup.
    fn holds(&mut self) -> Result<(), BackupError> {
        let deposit = &self.restoring.deposit;
        for (key, value) in deposit.holds.iter().flatten() {
            if self.restoring.withdrawn.took(key) {
                self.withdrawn += 1;
                continue;
            }
            let under = crypto::key_of(value).ok_or(BackupError::DoesNotAddUp)?;
            let carried = deposit.keys.get(&under).ok_or(BackupError::DoesNotAddUp)?;
            self.put(key, value, under, carried)?;
        }
        Ok(())
    }

    fn put(&mut self, key: &[u8], value: &[u8], under: KeyTag, carried: &[u8]) -> Result<(), BackupError> {
        self.objects += 1;
        self.keys.entry(under).or_insert_with(|| carried.to_vec());
        self.bytes += key.len() + value.len();
        self.rows.push(Row::new(key.to_vec(), value.to_vec()));
        if self.rows.len() >= limits::COMMIT_LINES || self.bytes >= COMMIT_BYTES { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), BackupError> {
        let keys: Carried = std::mem::take(&mut self.keys).into_iter().collect();
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let change = Change::Restore { at: self.restoring.plan.now, keys, rows };
        self.restoring.store.commit(&[change], &[], 0)?;
        (self.progress)(self.objects);
        Ok(())
    }

    /// Commits the rest, and holds what was found against what the store counted when it was backed up.
    fn end(&mut self, account: &Account) -> Result<(), BackupError> {
        account.matches_but_keys(&self.found)?;
        self.commit()?;
        Ok(self.restoring.store.commit(&[], &std::mem::take(&mut self.outbox), 0)?)
    }
}

/// Whether who may see what, or what must stay, hangs on rows of this kind.
fn is_permission(kind: Kind) -> bool {
    match kind {
        Kind::Entity | Kind::Bundle | Kind::ApiKey | Kind::Hold => true,
        Kind::Collection | Kind::Record | Kind::DataKey | Kind::KeyBucket | Kind::Outbox => false,
    }
}

fn write_log(dir: &Path, name: &str, offset: u64, bytes: &[u8]) -> Result<(), BackupError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.starts_with('.') || name.is_empty() || !name.chars().all(plain) {
        return Err(BackupError::DoesNotAddUp);
    }
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(dir.join(name));
    let file = file.map_err(BackupError::io)?;
    file.write_all_at(bytes, offset).and_then(|()| file.sync_data()).map_err(BackupError::io)
}

/// Takes away what an attempt left.
fn empty(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
}
