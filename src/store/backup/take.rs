//! A backup being made: every row while commits go on, then, commits held for a moment, what they touched meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{
    BackupError, Index, Item, digest, file_name,
    stream::{Header, Inlet, Outlet},
};
use crate::{
    clock::Instant,
    store::{Kind, Store, StoreError, codec::Bytes, ledger::Account, names::META},
};

/// Rows in one item of the index.
const INDEXED: usize = 4_096;
/// Bytes of the audit log in one item.
const LOG_BYTES: usize = 256 << 10;
/// Rows between two tidings of progress.
const TIDINGS: u64 = 1_000;

/// How far the audit log is, and its files, in order, up to there.
#[derive(Debug, Clone, Default)]
pub struct LogCut {
    /// Entries.
    pub size: u64,
    /// Their Merkle root.
    pub root: [u8; 32],
    /// The last group.
    pub group: u64,
    /// Files and their durable lengths.
    pub files: Vec<(PathBuf, u64)>,
}

/// A backup file that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Taken {
    /// 0 for a whole one, then counting.
    pub number: u32,
    /// Objects in the store.
    pub objects: u64,
    /// Those that are new or changed since the file before.
    pub changed: u64,
    /// Those that are gone since.
    pub gone: u64,
    /// Entries of the audit log.
    pub entries: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// A backup file in the making. Dropped before `finish`, it leaves nothing.
pub struct Copying<'a> {
    store: &'a Store,
    watch: Option<Watch<'a>>,
    out: Option<Outlet<BufWriter<File>>>,
    dir: PathBuf,
    number: u32,
    before: Index,
    logs_before: BTreeMap<Box<str>, u64>,
    now: Index,
    cut: LogCut,
    changed: u64,
    gone: u64,
}

impl Store {
    /// Begins the next file of the backup in `dir`: a whole one where there is none yet.
    pub fn back_up_to(&self, dir: &Path) -> Result<Copying<'_>, BackupError> {
        let watch = self.watch()?;
        make_dir(dir)?;
        let sealer = self.ring().sealer("backup");
        let store_id = self.ring().store_id();
        let (mut before, mut logs_before) = (Index::new(), BTreeMap::new());
        let header = match files(dir)?.last() {
            None => {
                let mut set = [0; 16];
                self.entropy.fill(&mut set).map_err(StoreError::from)?;
                Header { store_id, set, number: 0, link: [0; 32] }
            }
            Some((number, path)) => {
                let inlet =
                    Inlet::begin(BufReader::new(File::open(path).map_err(BackupError::io)?), sealer.clone(), *number)?;
                let header = inlet.header;
                if header.store_id != store_id {
                    return Err(BackupError::Foreign);
                }
                let link = inlet.read(&mut |item| {
                    match item {
                        Item::Index(rows) => {
                            before.extend(rows.into_iter().map(|(key, digest)| (key.0.to_vec(), digest)))
                        }
                        Item::LogEnd { file, length } => drop(logs_before.insert(file, length)),
                        Item::Put { .. }
                        | Item::Gone { .. }
                        | Item::Log { .. }
                        | Item::Head { .. }
                        | Item::Account { .. } => {}
                    }
                    Ok(())
                })?;
                Header { number: number.checked_add(1).ok_or(StoreError::TooLarge)?, link, ..header }
            }
        };
        let part = part(dir, header.number);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)
            .map_err(BackupError::io)?;
        let out = Outlet::begin(BufWriter::with_capacity(1 << 20, file), sealer, header)?;
        Ok(Copying {
            store: self,
            watch: Some(watch),
            out: Some(out),
            dir: dir.to_owned(),
            number: header.number,
            before,
            logs_before,
            now: Index::new(),
            cut: LogCut::default(),
            changed: 0,
            gone: 0,
        })
    }

    /// Remembers from here on which rows commits touch.
    pub(super) fn watch(&self) -> Result<Watch<'_>, BackupError> {
        let mut ledger = self.ledger.lock();
        if ledger.watched.is_some() {
            return Err(BackupError::Busy);
        }
        if ledger.halted {
            return Err(StoreError::Halted.into());
        }
        ledger.watched = Some(BTreeSet::new());
        Ok(Watch(self))
    }

    /// Every row but the wraps of keys, while commits go on.
    pub(super) fn each_row(&self, each: &mut EachRow<'_>) -> Result<(), BackupError> {
        let mut failed = None;
        let scanned = self.engine.scan(b"", &mut |key, value| match is_copied(key) {
            true => each(key, Some(value)).map_err(|error| {
                failed = Some(error);
                StoreError::Halted
            }),
            false => Ok(()),
        });
        failed.map_or(Ok(scanned?), Err)
    }
}

/// What a copy does with a row: its value, or that it is gone.
pub(super) type EachRow<'a> = dyn FnMut(&[u8], Option<&[u8]>) -> Result<(), BackupError> + 'a;

/// Wraps of keys are in no backup.
fn is_copied(key: &[u8]) -> bool {
    match Kind::of(key) {
        Some(Kind::DataKey | Kind::KeyBucket) | None => false,
        Some(
            Kind::Collection | Kind::Record | Kind::Entity | Kind::Bundle | Kind::ApiKey | Kind::Hold | Kind::Outbox,
        ) => true,
    }
}

/// As long as it lives, commits note the rows that they touch.
pub(super) struct Watch<'a>(&'a Store);

impl Watch<'_> {
    /// Holds commits, hands on what they touched as it is now, and lets `at_that_moment` look.
    pub(super) fn settle<T>(
        self,
        each: &mut EachRow<'_>,
        at_that_moment: impl FnOnce(&Account) -> Result<T, BackupError>,
    ) -> Result<T, BackupError> {
        let mut ledger = self.0.ledger.lock();
        if ledger.halted {
            return Err(StoreError::Halted.into());
        }
        for key in ledger.watched.take().into_iter().flatten().filter(|key| is_copied(key)) {
            let value = self.0.engine.get(&key).map_err(StoreError::from)?;
            each(&key, value.as_deref())?;
        }
        at_that_moment(&ledger.account)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.ledger.lock().watched = None;
    }
}

impl Copying<'_> {
    /// Copies every row, telling now and then how many were looked at.
    pub fn rows(&mut self, progress: &dyn Fn(u64)) -> Result<(), BackupError> {
        let (store, mut seen) = (self.store, 0);
        store.each_row(&mut |key, value| {
            seen += 1;
            if seen % TIDINGS == 0 {
                progress(seen);
            }
            self.row(key, value)
        })
    }

    /// Fixes the moment that the backup is of. Whoever calls holds the audit log still, at `cut`.
    pub fn settle(&mut self, cut: LogCut, at: Instant) -> Result<(), BackupError> {
        let store = self.store;
        let watch = self.watch.take().ok_or(BackupError::Busy)?;
        let sealed = watch.settle(&mut |key, value| self.row(key, value), |_| {
            Ok(store
                .engine
                .get(META)
                .map_err(StoreError::from)?
                .ok_or(StoreError::DamagedPart("the store's account of its objects"))?)
        })?;
        self.add(Item::Account { sealed: Bytes(Zeroizing::new(sealed)), at }, 1_024)?;
        self.add(Item::Head { size: cut.size, root: cut.root, group: cut.group }, 64)?;
        self.cut = cut;
        Ok(())
    }

    /// Copies the audit log up to the moment of the backup, and gives the file its name. Durable when it returns.
    pub fn finish(mut self) -> Result<Taken, BackupError> {
        self.logs()?;
        self.index()?;
        let out = self.out.take().ok_or(BackupError::Busy)?;
        let (file, _, bytes) = out.end()?;
        let file = file.into_inner().map_err(|error| BackupError::io(error.into_error()))?;
        file.sync_all().map_err(BackupError::io)?;
        fs::rename(part(&self.dir, self.number), self.dir.join(file_name(self.number))).map_err(BackupError::io)?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(BackupError::io)?;
        let (objects, entries) = (self.now.len() as u64, self.cut.size);
        Ok(Taken { number: self.number, objects, changed: self.changed, gone: self.gone, entries, bytes })
    }

    fn row(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), BackupError> {
        let Some(value) = value else {
            return if self.now.remove(key).is_some() { self.add_gone(key.to_vec()) } else { Ok(()) };
        };
        let (was, is) = (self.now.get(key).or(self.before.get(key)).copied(), digest(value));
        self.now.insert(key.to_vec(), is);
        if was == Some(is) {
            return Ok(());
        }
        self.changed += 1;
        let (size, key, value) = (key.len() + value.len(), bytes(key), bytes(value));
        self.add(Item::Put { key, value }, size)
    }

    fn logs(&mut self) -> Result<(), BackupError> {
        for (path, length) in std::mem::take(&mut self.cut.files) {
            let name: Box<str> = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().into();
            let from = self.logs_before.get(&name).copied().unwrap_or(0);
            let mut file = File::open(&path).map_err(BackupError::io)?;
            file.seek(SeekFrom::Start(from)).map_err(BackupError::io)?;
            let mut offset = from;
            while offset < length {
                let take = usize::try_from(length - offset).unwrap_or(LOG_BYTES).min(LOG_BYTES);
                let mut piece = vec![0; take];
                file.read_exact(&mut piece).map_err(BackupError::io)?;
                self.add(Item::Log { file: name.clone(), offset, bytes: Bytes(Zeroizing::new(piece)) }, take)?;
                offset += take as u64;
            }
            self.add(Item::LogEnd { file: name, length }, 64)?;
        }
        Ok(())
    }

    fn index(&mut self) -> Result<(), BackupError> {
        let gone: Vec<_> = self.before.keys().filter(|key| !self.now.contains_key(*key)).cloned().collect();
        gone.into_iter().try_for_each(|key| self.add_gone(key))?;
        let rows: Vec<_> = self.now.iter().map(|(key, digest)| (bytes(key), *digest)).collect();
        for part in rows.chunks(INDEXED) {
            self.add(Item::Index(part.to_vec()), part.len() * 52)?;
        }
        Ok(())
    }

    fn add_gone(&mut self, key: Vec<u8>) -> Result<(), BackupError> {
        self.gone += 1;
        self.add(Item::Gone { key: Bytes(Zeroizing::new(key)) }, 40)
    }

    fn add(&mut self, item: Item, size: usize) -> Result<(), BackupError> {
        self.out.as_mut().ok_or(BackupError::Busy)?.add(item, size)
    }
}

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        // after `finish` there is none
        let _ = fs::remove_file(part(&self.dir, self.number));
    }
}

fn bytes(bytes: &[u8]) -> Bytes {
    Bytes(Zeroizing::new(bytes.to_vec()))
}

fn part(dir: &Path, number: u32) -> PathBuf {
    dir.join(file_name(number)).with_extension("part")
}

fn make_dir(dir: &Path) -> Result<(), BackupError> {
    match DirBuilder::new().recursive(true).mode(0o700).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(BackupError::io(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The files of the set in `dir`, in order.
pub(super) fn files(dir: &Path) -> Result<Vec<(u32, PathBuf)>, BackupError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(BackupError::io)? {
        let path = entry.map_err(BackupError::io)?.path();
        let number =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".wkb")?.parse().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort_unstable();
    match found.iter().zip(0..).find(|((number, _), expected)| number != expected) {
        Some((_, expected)) => Err(BackupError::Damaged(expected)),
        None => Ok(found),
    }
}
