//! A backup being made: every row while commits go on, then, commits held for a moment, what they touched meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{
    BackupError, Index, Item, digest,
    room::{Room, WHOLE},
    stream::{Header, Outlet},
    withdrawn::Point,
};
use crate::{
    clock::Instant,
    model::limits,
    store::{Kind, Store, StoreError, codec::Bytes, ledger::Account, names::META},
};

/// Rows in one item of the index.
const INDEXED: usize = 4_096;
/// Bytes of the audit log in one item.
const LOG_BYTES: usize = 256 << 10;
/// Rows between two tidings of progress.
const TIDINGS: u64 = 1_000;
/// So few rows that were touched meanwhile are left for the moment when commits are held; it is not waited for longer than so many rounds.
const FEW: usize = 1_000;
const ROUNDS: u32 = 8;

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
    /// Counting from 0.
    pub number: u32,
    /// Whether it stands alone: the first, and the next after one that is damaged.
    pub whole: bool,
    /// The file that is damaged or missing, if that is why it is whole: what follows that file cannot be restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<u32>,
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

/// A backup file in the making. Dropped before `finish`, it leaves nothing in a directory, and a stream that does not end as it should.
pub struct Copying<'a> {
    store: &'a Store,
    watch: Option<Watch<'a>>,
    out: Option<Outlet<Sink<'a>>>,
    /// Where it will have its name; a stream has none.
    room: Option<Room>,
    header: Header,
    broken: Option<u32>,
    before: Index,
    logs_before: BTreeMap<Box<str>, u64>,
    now: Index,
    cut: LogCut,
    /// Rows of the file before that went while this one was made.
    gone: BTreeSet<Vec<u8>>,
}

impl Store {
    /// Begins the next file of the backup in `dir`: a whole one where there is none yet, or where one that it would follow is damaged.
    pub fn back_up_to(&self, dir: &Path) -> Result<Copying<'_>, BackupError> {
        let watch = self.watch()?;
        let room = Room::enter(dir)?;
        let sealer = self.ring().sealer("backup");
        let mut before = Before::default();
        let next = room.next(self.ring().store_id(), &sealer, &mut |item| before.note(item))?;
        room.take_ledger(self)?;
        let header = match next.after {
            // a store that was restored has a past of its own from then on
            Some((header, link)) if self.withdrawals.continues(before.ledger)? => {
                Header { number: next.number, link, ..header }
            }
            Some(_) | None => {
                before = Before::default();
                self.whole(next.number)?
            }
        };
        let sink = Sink::File(BufWriter::with_capacity(1 << 20, room.begin(header.number)?));
        self.begin_copying(watch, sink, Some(room), header, next.broken, before)
    }

    /// Begins a whole backup that goes to `out` and into no directory. Nothing is written before `Copying::rows`.
    pub fn back_up_into<'a>(&'a self, out: Box<dyn Write + 'a>) -> Result<Copying<'a>, BackupError> {
        let watch = self.watch()?;
        let sink = Sink::Stream { out, held: Some(Vec::new()) };
        self.begin_copying(watch, sink, None, self.whole(0)?, None, Before::default())
    }

    /// The header of a whole file of a set of its own.
    fn whole(&self, number: u32) -> Result<Header, StoreError> {
        let mut set = [0; 16];
        self.entropy.fill(&mut set)?;
        Ok(Header { store_id: self.ring().store_id(), set, number, link: WHOLE })
    }

    fn begin_copying<'a>(
        &'a self,
        watch: Watch<'a>,
        sink: Sink<'a>,
        room: Option<Room>,
        header: Header,
        broken: Option<u32>,
        before: Before,
    ) -> Result<Copying<'a>, BackupError> {
        let mut copying = Copying {
            store: self,
            watch: Some(watch),
            out: Some(Outlet::begin(sink, self.ring().sealer("backup"), header)?),
            room,
            header,
            broken,
            before: before.rows,
            logs_before: before.logs,
            now: Index::new(),
            cut: LogCut::default(),
            gone: BTreeSet::new(),
        };
        // first, so that a restore knows it before it makes anything
        copying.add(Item::Engine(self.engine_kind()?.to_string().into()), 16)?;
        Ok(copying)
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
        // what the scan says then is only that it was broken off
        match failed {
            Some(error) => Err(error),
            None => Ok(scanned?),
        }
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
    /// The rows that were touched since this was last asked; each is as it was committed.
    fn touched(&self) -> BTreeSet<Vec<u8>> {
        self.0.ledger.lock().watched.as_mut().map(std::mem::take).unwrap_or_default()
    }

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
        self.release()?;
        let (store, mut seen) = (self.store, 0);
        store.each_row(&mut |key, value| {
            seen += 1;
            if seen % TIDINGS == 0 {
                progress(seen);
            }
            self.row(key, value)
        })
    }

    /// Copies what commits touched meanwhile, while they still go on: little is then left for the moment when they are held.
    pub fn catch_up(&mut self) -> Result<(), BackupError> {
        for _ in 0..ROUNDS {
            let touched = self.watch.as_ref().map(Watch::touched).unwrap_or_default();
            for key in touched.iter().filter(|key| is_copied(key)) {
                let value = self.store.engine.get(key).map_err(StoreError::from)?;
                self.row(key, value.as_deref())?;
            }
            if touched.len() < FEW {
                break;
            }
        }
        Ok(())
    }

    /// Fixes the moment that the backup is of. Whoever calls holds the audit log still, at `cut`.
    pub fn settle(&mut self, cut: LogCut, at: Instant) -> Result<(), BackupError> {
        self.out.as_mut().ok_or(BackupError::Busy)?.sink().hold();
        let store = self.store;
        let watch = self.watch.take().ok_or(BackupError::Busy)?;
        let (sealed, ledger) = watch.settle(&mut |key, value| self.row(key, value), |_| {
            let account = store.engine.get(META).map_err(StoreError::from)?;
            let account = account.ok_or(StoreError::DamagedPart("the store's account of its objects"))?;
            Ok((account, store.withdrawals.head()))
        })?;
        self.add(Item::Ledger(ledger), 48)?;
        self.add(Item::Account { sealed: Bytes(Zeroizing::new(sealed)), at }, 1_024)?;
        self.add(Item::Head { size: cut.size, root: cut.root, group: cut.group }, 64)?;
        self.cut = cut;
        Ok(())
    }

    /// Copies the audit log up to the moment of the backup, and gives the file its name. Durable when it returns.
    pub fn finish(mut self) -> Result<Taken, BackupError> {
        self.release()?;
        self.logs()?;
        self.index()?;
        let out = self.out.take().ok_or(BackupError::Busy)?;
        let (sink, _, bytes) = out.end()?;
        sink.end().map_err(BackupError::io)?;
        if let Some(room) = &self.room {
            room.keep(self.header.number)?;
            room.take_ledger(self.store)?;
        }
        let (objects, entries) = (self.now.len() as u64, self.cut.size);
        let (number, whole, broken) = (self.header.number, self.header.link == WHOLE, self.broken);
        // what came and went while it was copied counts for what became of it since the file before
        let changed = self.now.iter().filter(|(key, digest)| self.before.get(*key) != Some(*digest)).count() as u64;
        let gone = self.gone.iter().filter(|key| !self.now.contains_key(*key)).count() as u64;
        Ok(Taken { number, whole, broken, objects, changed, gone, entries, bytes })
    }

    fn release(&mut self) -> Result<(), BackupError> {
        self.out.as_mut().ok_or(BackupError::Busy)?.sink().release().map_err(BackupError::io)
    }

    fn row(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), BackupError> {
        let Some(value) = value else {
            if self.now.remove(key).is_none() {
                return Ok(());
            }
            // were it to come back as it was, it would be as new: this file says that it went
            if self.before.remove(key).is_some() {
                self.gone.insert(key.to_vec());
            }
            return self.add_gone(key.to_vec());
        };
        let (was, is) = (self.now.get(key).or(self.before.get(key)).copied(), digest(value));
        self.now.insert(key.to_vec(), is);
        if was == Some(is) {
            return Ok(());
        }
        let (size, key, value) = (key.len() + value.len(), bytes(key), bytes(value));
        self.add(Item::Put { key, value }, size)
    }

    fn logs(&mut self) -> Result<(), BackupError> {
        for (path, length) in std::mem::take(&mut self.cut.files) {
            let name: Box<str> = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().into();
            let from = self.logs_before.get(&name).copied().unwrap_or(0);
            let mut file = File::open(&path).map_err(StoreError::io)?;
            file.seek(SeekFrom::Start(from)).map_err(StoreError::io)?;
            let mut offset = from;
            while offset < length {
                let take = usize::try_from(length - offset).unwrap_or(LOG_BYTES).min(LOG_BYTES);
                let mut piece = vec![0; take];
                file.read_exact(&mut piece).map_err(StoreError::io)?;
                self.add(Item::Log { file: name.clone(), offset, bytes: Bytes(Zeroizing::new(piece)) }, take)?;
                offset += take as u64;
            }
            self.add(Item::LogEnd { file: name, length }, 64)?;
        }
        Ok(())
    }

    fn index(&mut self) -> Result<(), BackupError> {
        let gone: Vec<_> = self.before.keys().filter(|key| !self.now.contains_key(*key)).cloned().collect();
        self.gone.extend(gone.iter().cloned());
        gone.into_iter().try_for_each(|key| self.add_gone(key))?;
        let rows: Vec<_> = self.now.iter().map(|(key, digest)| (bytes(key), *digest)).collect();
        for part in rows.chunks(INDEXED) {
            self.add(Item::Index(part.to_vec()), part.len() * 52)?;
        }
        Ok(())
    }

    fn add_gone(&mut self, key: Vec<u8>) -> Result<(), BackupError> {
        self.add(Item::Gone { key: Bytes(Zeroizing::new(key)) }, 40)
    }

    fn add(&mut self, item: Item, size: usize) -> Result<(), BackupError> {
        self.out.as_mut().ok_or(BackupError::Busy)?.add(item, size)
    }
}

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        // after `finish` there is none
        if let Some(room) = &self.room {
            room.abandon(self.header.number);
        }
    }
}

/// What a backup is written to.
enum Sink<'a> {
    /// A file without a name yet.
    File(BufWriter<File>),
    /// Whoever reads it may be slow, or gone: while commits are held, or before anything may leave, what is written is kept.
    Stream { out: Box<dyn Write + 'a>, held: Option<Vec<u8>> },
}

impl Sink<'_> {
    fn hold(&mut self) {
        match self {
            Self::Stream { held, .. } => drop(held.get_or_insert_default()),
            Self::File(_) => {}
        }
    }

    fn release(&mut self) -> io::Result<()> {
        match self {
            Self::Stream { out, held } => held.take().map_or(Ok(()), |kept| out.write_all(&kept)),
            Self::File(_) => Ok(()),
        }
    }

    fn end(self) -> io::Result<()> {
        match self {
            Self::File(file) => file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all(),
            Self::Stream { .. } => Ok(()),
        }
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stream { held: Some(held), .. } if held.len() + bytes.len() > limits::BACKUP_HELD_BYTES => {
                Err(ErrorKind::TimedOut.into())
            }
            Self::Stream { held: Some(held), .. } => held.write(bytes),
            Self::Stream { out, held: None } => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stream { out, .. } => out.flush(),
        }
    }
}

fn bytes(bytes: &[u8]) -> Bytes {
    Bytes(Zeroizing::new(bytes.to_vec()))
}

/// What the file before holds of rows and logs.
#[derive(Default)]
struct Before {
    rows: Index,
    logs: BTreeMap<Box<str>, u64>,
    ledger: Option<Point>,
}

impl Before {
    fn note(&mut self, item: Item) {
        match item {
            Item::Index(rows) => self.rows.extend(rows.into_iter().map(|(key, digest)| (key.0.to_vec(), digest))),
            Item::LogEnd { file, length } => drop(self.logs.insert(file, length)),
            Item::Ledger(point) => self.ledger = Some(point),
            Item::Put { .. }
            | Item::Gone { .. }
            | Item::Log { .. }
            | Item::Head { .. }
            | Item::Account { .. }
            | Item::Engine(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_of_a_stream_goes_out_in_order_and_is_bounded() {
        let mut out = Vec::new();
        let mut sink = Sink::Stream { out: Box::new(&mut out), held: Some(Vec::new()) };
        sink.write_all(&vec![1; limits::BACKUP_HELD_BYTES]).unwrap();
        assert_eq!(sink.write_all(&[2]).unwrap_err().kind(), ErrorKind::TimedOut);
        sink.release().unwrap();
        sink.write_all(&[3]).unwrap();
        sink.hold();
        sink.write_all(&[4]).unwrap();
        sink.hold();
        sink.write_all(&[5]).unwrap();
        sink.release().unwrap();
        drop(sink);
        assert_eq!((out.len(), &out[limits::BACKUP_HELD_BYTES..]), (limits::BACKUP_HELD_BYTES + 3, &[3, 4, 5][..]));
    }
}
