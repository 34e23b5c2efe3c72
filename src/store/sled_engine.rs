//! sled 0.34 behind the engine trait, with what it lacks: real durability, values of any size, errors instead of panics.

use std::{
    fs::{self, File},
    io::ErrorKind,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{
    Disk, EngineError, StoreError,
    engine::{Batch, EachRow, Engine, EngineKind},
    layout,
    quiet::quietly,
};

/// sled moves a page beyond a quarter of a segment to a file of its own, written without any sync. A leaf holds at most 26
/// rows before it splits, so rows of at most 16 KiB stay well inside a quarter of 2 MiB.
const SEGMENT_BYTES: usize = 2 << 20;
const PIECE_BYTES: usize = 16 << 10;
const PIECE_PREFIX: u8 = b'~';
const WHOLE: u8 = 0;
const PIECES: u8 = 1;

/// One sled tree in a directory of its own.
pub(super) struct SledEngine {
    db: sled::Db,
    /// sled's `flush` ends in `sync_file_range`, which does not reach the disk: its file is opened once more to be synced.
    file: File,
    blobs: PathBuf,
    disk: Arc<dyn Disk>,
    writer: Writer,
}

impl SledEngine {
    /// Opens or makes the engine in `dir`.
    pub(super) fn open(dir: &Path, cache_bytes: u64, disk: Arc<dyn Disk>) -> Result<Self, EngineError> {
        remove_unfinished_snapshots(dir)?;
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(cache_bytes)
            .segment_size(SEGMENT_BYTES)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(None);
        // sled locks its file too, and says `Other` where it is locked; our own lock is held, so that it can only be somebody just ending
        let db = layout::patiently(
            || quietly(|| config.open()),
            |error| matches!(error, EngineError::Io(ErrorKind::Other)),
        )?;
        let file = File::open(dir.join(EngineKind::Sled.file()))?;
        let writer = Writer::start(db.clone())?;
        let engine = Self { db, file, blobs: dir.join("blobs"), disk, writer };
        engine.sync(dir)?;
        Ok(engine)
    }

    fn sync(&self, dir: &Path) -> Result<(), EngineError> {
        self.writer.write(sled::Batch::default())?;
        self.disk.sync(&self.file)?;
        Ok(File::open(dir)?.sync_all()?)
    }

    /// There should be none; if a leaf outgrows its bound after all, its blob must be as durable as the rest.
    fn sync_blobs(&self) -> Result<(), EngineError> {
        let mut any = false;
        for entry in fs::read_dir(&self.blobs)? {
            let path = entry?.path();
            match File::open(&path) {
                Ok(blob) => self.disk.sync(&blob)?,
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e.into()),
            }
            any = true;
        }
        if any { Ok(File::open(&self.blobs)?.sync_all()?) } else { Ok(()) }
    }

    fn pieces_of(&self, key: &[u8]) -> Result<u16, EngineError> {
        match quietly(|| self.db.get(key))? {
            Some(stored) => Ok(first_piece(&stored)?.1),
            None => Ok(0),
        }
    }

    /// The value that `stored` begins. Pieces are read after it, so a commit may come between: if what begins the value is
    /// another by now (its nonce tells), it is read again. `None` if it went.
    fn whole(&self, key: &[u8], mut stored: sled::IVec) -> Result<Option<Vec<u8>>, EngineError> {
        loop {
            let value = self.joined(key, &stored)?;
            if value.is_some() && first_piece(&stored)?.1 == 0 {
                return Ok(value);
            }
            match quietly(|| self.db.get(key))? {
                None => return Ok(None),
                Some(now) if now == stored => return value.ok_or(EngineError::Corrupt).map(Some),
                Some(now) => stored = now,
            }
        }
    }

    /// First piece and the others; `None` if one is missing.
    fn joined(&self, key: &[u8], stored: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let (first, more) = first_piece(stored)?;
        let mut value = Vec::with_capacity(first.len() + usize::from(more) * PIECE_BYTES);
        value.extend_from_slice(first);
        for number in 0..more {
            match quietly(|| self.db.get(piece_key(key, number)))? {
                Some(piece) => value.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }
}

/// How long a commit may take. Where a write fails in one of sled's own threads and that thread ends by a panic, nobody tells whoever waits
/// for it, and they would wait for ever, every later change behind them.
const PATIENCE: Duration = Duration::from_secs(30);

/// The thread that writes, so that it can be given up.
struct Writer {
    db: sled::Db,
    calls: Option<SyncSender<Call>>,
    worker: Option<JoinHandle<()>>,
    given_up: AtomicBool,
    patience: Duration,
}

struct Call {
    writes: sled::Batch,
    done: SyncSender<Result<(), EngineError>>,
}

impl Writer {
    fn start(db: sled::Db) -> Result<Self, EngineError> {
        let writing = db.clone();
        let write =
            move |writes| quietly(|| writing.apply_batch(writes)).and_then(|()| quietly(|| writing.flush())).map(drop);
        Self::start_with(db, PATIENCE, write)
    }

    fn start_with(
        db: sled::Db,
        patience: Duration,
        write: impl Fn(sled::Batch) -> Result<(), EngineError> + Send + 'static,
    ) -> Result<Self, EngineError> {
        let (calls, inbox): (_, Receiver<Call>) = sync_channel(1);
        let work = move || {
            for Call { writes, done } in inbox {
                let _ = done.send(write(writes));
            }
        };
        let worker = std::thread::Builder::new().name("sled-writer".into()).spawn(work)?;
        Ok(Self { db, calls: Some(calls), worker: Some(worker), given_up: AtomicBool::new(false), patience })
    }

    /// Hands `writes` to sled's file; our own sync follows.
    fn write(&self, writes: sled::Batch) -> Result<(), EngineError> {
        let lost = || EngineError::Io(ErrorKind::TimedOut);
        let calls = self.calls.as_ref().filter(|_| !self.given_up.load(Ordering::Acquire)).ok_or_else(lost)?;
        let (done, written) = sync_channel(1);
        calls.send(Call { writes, done }).map_err(|_| lost())?;
        written.recv_timeout(self.patience).unwrap_or_else(|_| {
            self.given_up.store(true, Ordering::Release);
            Err(lost())
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.calls = None;
        if self.given_up.load(Ordering::Acquire) {
            // sled flushes when its last handle goes, and would wait for ever once more
            std::mem::forget(self.db.clone());
        } else if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

impl Engine for SledEngine {
    fn commit(&self, batch: Batch) -> Result<(), EngineError> {
        let mut writes = sled::Batch::default();
        for (key, value) in batch {
            let before = self.pieces_of(&key)?;
            let after = match value {
                Some(value) => insert(&mut writes, &key, &value)?,
                None => {
                    writes.remove(key.as_slice());
                    0
                }
            };
            for number in after..before {
                writes.remove(piece_key(&key, number));
            }
        }
        self.writer.write(writes)?;
        self.disk.sync(&self.file)?;
        self.sync_blobs()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        match quietly(|| self.db.get(key))? {
            Some(stored) => self.whole(key, stored),
            None => Ok(None),
        }
    }

    fn scan_between(&self, from: &[u8], to: Option<&[u8]>, each: &mut EachRow<'_>) -> Result<(), StoreError> {
        let between = (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded));
        let mut rows = self.db.range::<&[u8], _>(between);
        while let Some((key, stored)) = quietly(|| rows.next().transpose())? {
            if key.first() == Some(&PIECE_PREFIX) {
                continue;
            }
            match first_piece(&stored)? {
                // most are: no need to copy one
                (whole, 0) => each(&key, whole)?,
                (_, _) => self.whole(&key, stored)?.map_or(Ok(()), |value| each(&key, &value))?,
            }
        }
        Ok(())
    }

    /// sled reuses space and never gives any back: only a new engine is smaller.
    fn compact(&mut self) -> Result<(), EngineError> {
        Ok(())
    }
}

/// At a start sled writes a snapshot of its page table under another name, and renames it when it is whole. What a crash or a full
/// disk leaves of it sled takes for the newest snapshot at the next start, and calls itself corrupt.
fn remove_unfinished_snapshots(dir: &Path) -> Result<(), EngineError> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Adds the rows of one value; gives the number of pieces beyond the first.
fn insert(writes: &mut sled::Batch, key: &[u8], value: &[u8]) -> Result<u16, EngineError> {
    let too_large = |_| EngineError::Io(ErrorKind::FileTooLarge);
    let (first, rest) = value.split_at_checked(PIECE_BYTES).unwrap_or((value, &[]));
    let more = u16::try_from(rest.len().div_ceil(PIECE_BYTES)).map_err(too_large)?;
    let mut stored = Vec::with_capacity(first.len() + 3);
    if more == 0 {
        stored.push(WHOLE);
    } else {
        stored.push(PIECES);
        stored.extend_from_slice(&more.to_be_bytes());
    }
    stored.extend_from_slice(first);
    writes.insert(key, stored);
    for (number, piece) in (0..more).zip(rest.chunks(PIECE_BYTES)) {
        writes.insert(piece_key(key, number), piece);
    }
    Ok(more)
}

fn first_piece(stored: &[u8]) -> Result<(&[u8], u16), EngineError> {
    match stored {
        [WHOLE, value @ ..] => Ok((value, 0)),
        [PIECES, high, low, value @ ..] => Ok((value, u16::from_be_bytes([*high, *low]))),
        _ => Err(EngineError::Corrupt),
    }
}

fn piece_key(key: &[u8], number: u16) -> Vec<u8> {
    let mut name = Vec::with_capacity(key.len() + 3);
    name.push(PIECE_PREFIX);
    name.extend_from_slice(key);
    name.extend_from_slice(&number.to_be_bytes());
    name
}

impl From<sled::Error> for EngineError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(e) => e.into(),
            _ => Self::Corrupt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RealDisk;

    fn open(dir: &Path) -> SledEngine {
        SledEngine::open(dir, 8 << 20, Arc::new(RealDisk)).unwrap()
    }

    #[test]
    fn values_of_any_size_come_back_and_leave_no_piece_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine");
        let value = |n: usize| (0..n).map(|i| (i % 251) as u8).collect::<Vec<_>>();
        let engine = open(&path);
        for size in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES, 1 << 20, 3, 40_000] {
            engine.commit(vec![(b"Ra".to_vec(), Some(value(size))), (b"Rb".to_vec(), Some(value(2)))]).unwrap();
            assert_eq!(engine.get(b"Ra").unwrap(), Some(value(size)));
        }
        drop(engine);
        let engine = open(&path);
        assert_eq!(engine.get(b"Ra").unwrap(), Some(value(40_000)));
        engine.commit(vec![(b"Ra".to_vec(), None)]).unwrap();
        let mut seen = Vec::new();
        engine
            .scan(b"", &mut |k, v| {
                seen.push((k.to_vec(), v.len()));
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, [(b"Rb".to_vec(), 2)]);
        assert_eq!(engine.db.len(), 1);
        assert_eq!(fs::read_dir(path.join("blobs")).unwrap().count(), 0);
    }

    /// As where one of sled's own threads ended by a failed write: whoever waits for it waits for ever.
    #[test]
    fn a_commit_that_sled_never_ends_is_given_up_and_so_is_every_later_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine");
        let mut engine = open(&path);
        engine.commit(vec![(b"Ra".to_vec(), Some(b"before".to_vec()))]).unwrap();
        let (reached, waits) = std::sync::mpsc::channel();
        let never = move |_| {
            let _ = reached.send(());
            loop {
                std::thread::park();
            }
        };
        engine.writer = Writer::start_with(engine.db.clone(), Duration::from_millis(20), never).unwrap();
        let put = || engine.commit(vec![(b"Ra".to_vec(), Some(b"after".to_vec()))]);
        let given_up = Err(EngineError::Io(ErrorKind::TimedOut));
        assert_eq!(put(), given_up);
        waits.recv().unwrap();
        assert_eq!(put(), given_up, "without a try");
        assert!(waits.try_recv().is_err());
        assert_eq!(engine.get(b"Ra").unwrap(), Some(b"before".to_vec()), "what is durable is still read");
        // closing does not wait for it either
        drop(engine);
    }

    #[test]
    fn a_snapshot_that_was_cut_short_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine");
        open(&path).commit(vec![(b"Ra".to_vec(), Some(b"value".to_vec()))]).unwrap();
        for written in [&b""[..], b"half of a snapshot"] {
            fs::write(path.join("snap.FFFFFFFFFFFFFFFF.generating"), written).unwrap();
            assert_eq!(open(&path).get(b"Ra").unwrap(), Some(b"value".to_vec()));
        }
    }

    #[test]
    fn a_leaf_full_of_large_values_needs_no_blob() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine");
        let engine = open(&path);
        for round in 0..4_u8 {
            for i in 0..40_u8 {
                engine.commit(vec![(vec![b'R', i], Some(vec![round; 60_000]))]).unwrap();
            }
        }
        assert_eq!(fs::read_dir(path.join("blobs")).unwrap().count(), 0);
        assert_eq!(engine.get(b"R\x27").unwrap(), Some(vec![3; 60_000]));
    }
}
