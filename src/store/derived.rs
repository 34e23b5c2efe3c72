//! Derived data on disk: what could be made again from the records, kept so that a restart need not. Knows pieces in an order, not what they
//! mean.
//!
//! It mixes patients, so it lies in a room of its own under a key of its own. The key is wrapped by the ring key in a small file beside the
//! data, outside the engine, whose old pages would keep copies; overwriting and removing that file, or renewing the ring key, makes the
//! data noise. A commit that replaces or erases a record does so before anything else.
//!
//! It is never part of a backup, by design: a copy elsewhere could not be destroyed with it, and whoever restores makes it again. What is
//! damaged, torn, of another store or of another time is nothing: whoever reads it is told that there is none, and nothing it holds is
//! believed of a record before it is held against that record.

use std::{
    fs::{self, DirBuilder, File, OpenOptions as FileOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::{
    Disk, OpenOptions, StoreError, codec,
    handover::{Begun, Handover, Pieces, Published, Room, Sink, Turns},
};
use crate::crypto::{DataKey, Entropy, KEY_ID_BYTES, KeyRing, OVERHEAD_BYTES};

/// Bytes under one seal; only the last ones may be fewer.
const CHUNK_BYTES: usize = 1 << 20;
/// Bytes of a key file, most.
const KEY_FILE_BYTES: u64 = 1_024;

/// The room of derived data.
pub struct Derived {
    dir: PathBuf,
    ring: KeyRing,
    entropy: Arc<dyn Entropy>,
    disk: Arc<dyn Disk>,
    handover: Handover<Mutex<Turns>>,
}

impl Derived {
    pub(super) fn new(dir: PathBuf, ring: KeyRing, options: &OpenOptions) -> Self {
        // a draft alone is nothing: its key went with the server that was writing it, and the next writing begins another
        let present = ["key", "data"].iter().any(|name| dir.join(name).exists());
        let handover = Handover::new(Mutex::new(Turns::new(present)));
        Self { dir, ring, entropy: options.entropy.clone(), disk: options.disk.clone(), handover }
    }

    /// Destroys what is there, and makes sure that what is being written never will be. Durable when it returns.
    pub fn discard(&self) -> Result<(), StoreError> {
        self.supersede(0)
    }

    /// The same, and from here on nothing is made of a state in which change number `by` is not in force.
    pub(super) fn supersede(&self, by: u64) -> Result<(), StoreError> {
        self.handover.supersede(by, || self.empty()).map_err(StoreError::io)
    }

    /// What is there, if it is whole as far as can be told before it is read.
    pub fn read(&self) -> Option<Reading> {
        let key = self.key()?;
        let file = File::open(self.data()).ok()?;
        let left = file.metadata().ok()?.len();
        let store_id = self.ring.store_id();
        Some(Reading {
            key,
            store_id,
            file,
            left,
            number: 0,
            sealed: Vec::new(),
            plain: Zeroizing::default(),
            at: 0,
            piece: Zeroizing::default(),
        })
    }

    /// Whether anything lies here.
    pub fn is_empty(&self) -> bool {
        self.handover.is_empty()
    }

    fn key(&self) -> Option<DataKey> {
        let mut bytes = Vec::new();
        File::open(self.key_file()).ok()?.take(KEY_FILE_BYTES).read_to_end(&mut bytes).ok()?;
        let (id, wrapped) = bytes.split_first_chunk::<KEY_ID_BYTES>()?;
        self.ring.unwrap_derived(*id, wrapped).ok()
    }

    fn key_file(&self) -> PathBuf {
        self.dir.join("key")
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn draft(&self) -> PathBuf {
        self.dir.join("draft")
    }

    /// The key first: without it the rest is noise.
    fn empty(&self) -> io::Result<()> {
        match FileOptions::new().write(true).open(self.key_file()) {
            Ok(file) => {
                let length = usize::try_from(file.metadata()?.len().min(KEY_FILE_BYTES)).unwrap_or_default();
                file.write_all_at(&vec![0; length], 0)?;
                self.disk.sync(&file)?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        [self.key_file(), self.data()].iter().try_for_each(|path| remove(path))?;
        sync_dir(&self.dir)
    }

    /// Puts the draft in the place of what was there; its key becomes durable last.
    fn install(&self, key: &DataKey) -> Result<(), StoreError> {
        let mut wrapped = key.id().to_vec();
        wrapped.extend(self.ring.wrap_derived(key, &*self.entropy)?);
        let install = || {
            self.empty()?;
            fs::rename(self.draft(), self.data())?;
            sync_dir(&self.dir)?;
            let mut file = FileOptions::new().write(true).create_new(true).mode(0o600).open(self.key_file())?;
            file.write_all(&wrapped)?;
            self.disk.sync(&file)?;
            sync_dir(&self.dir)
        };
        install().map_err(StoreError::io)
    }
}

impl Room for Derived {
    type Writing<'a> = Writing<'a>;

    fn begin(&self, in_force: u64) -> Result<Option<Writing<'_>>, StoreError> {
        let Some(begun) = self.handover.begin(in_force) else { return Ok(None) };
        let key = DataKey::generate(&*self.entropy)?;
        let made = DirBuilder::new().mode(0o700).recursive(true).create(&self.dir);
        made.and_then(|()| remove(&self.draft())).map_err(StoreError::io)?;
        let file =
            FileOptions::new().write(true).create_new(true).mode(0o600).open(self.draft()).map_err(StoreError::io)?;
        Ok(Some(Writing { derived: self, begun, key, file, buffer: Zeroizing::new(Vec::new()), number: 0 }))
    }
}

/// Derived data on its way to disk: its key is in memory alone until it is published.
pub struct Writing<'a> {
    derived: &'a Derived,
    begun: Begun,
    key: DataKey,
    file: File,
    buffer: Zeroizing<Vec<u8>>,
    number: u64,
}

/// Whether a chunk ends the data: bound into its seal, so that none can be cut off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chunk {
    Inner,
    Last,
}

impl Sink for Writing<'_> {
    fn put<T: Serialize>(&mut self, piece: &T) -> Result<(), StoreError> {
        let bytes = codec::encode(piece, 0)?;
        let length = u32::try_from(bytes.len()).map_err(|_| StoreError::TooLarge)?;
        self.buffer.extend_from_slice(&length.to_le_bytes());
        self.buffer.extend_from_slice(&bytes);
        while self.buffer.len() > CHUNK_BYTES {
            let rest = Zeroizing::new(self.buffer.split_off(CHUNK_BYTES));
            self.seal(Chunk::Inner)?;
            self.buffer = rest;
        }
        Ok(())
    }

    fn is_outdated(&self) -> bool {
        self.derived.handover.is_outdated(self.begun)
    }

    fn publish(mut self) -> Result<Published, StoreError> {
        self.seal(Chunk::Last)?;
        self.derived.disk.sync(&self.file).map_err(StoreError::io)?;
        let published = self.derived.handover.publish(self.begun, || self.derived.install(&self.key))?;
        if published == Published::Outdated {
            remove(&self.derived.draft()).map_err(StoreError::io)?;
        }
        Ok(published)
    }
}

impl Writing<'_> {
    fn seal(&mut self, chunk: Chunk) -> Result<(), StoreError> {
        let mut nonce = [0; 24];
        self.derived.entropy.fill(&mut nonce)?;
        let store_id = self.derived.ring.store_id();
        let sealed = self.key.seal(&nonce, &place(&store_id, &self.number.to_be_bytes(), chunk), &self.buffer)?;
        self.number += 1;
        self.file.write_all(&sealed).map_err(StoreError::io)
    }
}

/// Derived data as it is read: pieces in the order in which they were put.
pub struct Reading {
    key: DataKey,
    store_id: [u8; 16],
    file: File,
    /// Sealed bytes that are still to be read.
    left: u64,
    number: u64,
    sealed: Vec<u8>,
    plain: Zeroizing<Vec<u8>>,
    at: usize,
    /// The piece that was read last.
    piece: Zeroizing<Vec<u8>>,
}

impl Pieces for Reading {
    fn piece<T: DeserializeOwned>(&mut self) -> Option<T> {
        let mut length = [0; 4];
        self.fill(&mut length)?;
        let length = usize::try_from(u32::from_le_bytes(length)).ok().filter(|length| *length <= codec::VALUE_BYTES)?;
        let mut piece = std::mem::take(&mut self.piece);
        if piece.capacity() < length {
            // of twice the length, so that pieces that grow find room
            piece = Zeroizing::new(Vec::with_capacity(length.saturating_mul(2)));
        }
        piece.resize(length, 0);
        self.fill(&mut piece)?;
        let decoded = codec::decode(&piece);
        self.piece = piece;
        decoded
    }

    fn is_at_end(&self) -> bool {
        self.number > 0 && self.left == 0 && self.at == self.plain.len()
    }
}

impl Reading {
    fn fill(&mut self, mut out: &mut [u8]) -> Option<()> {
        while !out.is_empty() {
            if self.at == self.plain.len() {
                self.open()?;
            }
            let ready = self.plain.get(self.at..)?;
            let count = ready.len().min(out.len());
            let (now, later) = out.split_at_mut(count);
            now.copy_from_slice(ready.get(..count)?);
            self.at += count;
            out = later;
        }
        Some(())
    }

    fn open(&mut self) -> Option<()> {
        let whole = (CHUNK_BYTES + OVERHEAD_BYTES) as u64;
        let (chunk, length) = if self.left > whole { (Chunk::Inner, whole) } else { (Chunk::Last, self.left) };
        if length == 0 {
            return None;
        }
        self.sealed.resize(usize::try_from(length).ok()?, 0);
        self.file.read_exact(&mut self.sealed).ok()?;
        let number = self.number.to_be_bytes();
        self.key.open_into(&place(&self.store_id, &number, chunk), &self.sealed, &mut self.plain).ok()?;
        (self.left, self.number, self.at) = (self.left - length, self.number + 1, 0);
        Some(())
    }
}

fn place<'a>(store_id: &'a [u8; 16], number: &'a [u8; 8], chunk: Chunk) -> [&'a [u8]; 4] {
    let end: &[u8] = match chunk {
        Chunk::Inner => b"inner",
        Chunk::Last => b"last",
    };
    [b"derived", store_id, number, end]
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    match File::open(dir) {
        Ok(dir) => dir.sync_all(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Store,
        fixture::{at, create, fill, open, options, phrase, records},
    };

    fn begun(store: &Store) -> Writing<'_> {
        store.derived().begin(store.sequence()).unwrap().unwrap()
    }

    fn write(store: &Store, pieces: &[Vec<u64>]) -> Published {
        let mut writing = begun(store);
        pieces.iter().for_each(|piece| writing.put(piece).unwrap());
        writing.publish().unwrap()
    }

    fn pieces() -> Vec<Vec<u64>> {
        (0..40_u64).map(|n| (0..10_000).map(|i| (i * 7 + n) << 40).collect()).collect()
    }

    /// All of it, or nothing.
    fn found(store: &Store) -> Option<Vec<Vec<u64>>> {
        let mut reading = store.derived().read()?;
        let mut found = Vec::new();
        while !reading.is_at_end() {
            found.push(reading.piece()?);
        }
        Some(found)
    }

    #[test]
    fn what_was_published_is_there_after_a_restart_and_no_draft_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = create(&path);
        assert!(found(&store).is_none());
        assert_eq!(write(&store, &pieces()), Published::Whole);
        drop(store);
        assert_eq!(found(&open(&path)), Some(pieces()));
        let store = open(&path);
        let mut writing = begun(&store);
        writing.put(&vec![1_u64]).unwrap();
        drop(writing);
        drop(store);
        assert_eq!(found(&open(&path)), Some(pieces()));
    }

    #[test]
    fn a_changed_cut_or_moved_byte_is_never_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = create(&path);
        write(&store, &pieces());
        let (data, key) = (path.join("derived/data"), path.join("derived/key"));
        let (whole, whole_key) = (fs::read(&data).unwrap(), fs::read(&key).unwrap());
        let chunk = CHUNK_BYTES + OVERHEAD_BYTES;
        assert!(whole.len() > 2 * chunk, "several chunks");
        let refused = |bytes: &[u8], what: &str| {
            fs::write(&data, bytes).unwrap();
            assert!(found(&store).is_none(), "{what}");
        };
        for at in [0, 16, 30, 41, chunk - 1, chunk, chunk + 50, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            refused(&changed, &format!("byte {at}"));
        }
        for end in [0, 1, 40, chunk - 1, chunk, 2 * chunk, whole.len() - 1] {
            refused(&whole[..end], &format!("cut at {end}"));
        }
        refused(&[&whole[chunk..2 * chunk], &whole[..chunk], &whole[2 * chunk..]].concat(), "swapped");
        refused(&[&whole[..chunk], &whole[2 * chunk..]].concat(), "one left out");
        refused(&[&whole[..], &whole[chunk..]].concat(), "more behind");
        fs::write(&data, &whole).unwrap();
        for at in 0..whole_key.len() {
            let mut changed = whole_key.clone();
            changed[at] ^= 1;
            fs::write(&key, changed).unwrap();
            assert!(found(&store).is_none(), "byte {at} of the key");
        }
        fs::write(&key, &whole_key).unwrap();
        assert_eq!(found(&store), Some(pieces()));
    }

    #[test]
    fn data_of_another_store_or_under_another_key_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
        let (store, other) = (create(&ours), create(&theirs));
        write(&store, &pieces());
        write(&other, &pieces());
        let copy = |name: &str| fs::copy(theirs.join("derived").join(name), ours.join("derived").join(name)).unwrap();
        copy("data");
        assert!(found(&store).is_none());
        copy("key");
        assert!(found(&store).is_none());
    }

    #[test]
    fn a_record_replaced_or_erased_takes_the_key_with_it_and_a_new_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = create(&path);
        fill(&store);
        write(&store, &pieces());
        let key = fs::read(path.join("derived/key")).unwrap();
        let spec = super::super::fixture::collection();
        let put = |range| store.put_records(&spec, &records(range), at()).unwrap();
        store.commit(&[put(100..103)], &[], 0).unwrap();
        assert_eq!(found(&store), Some(pieces()));
        store.commit(&[put(100..101)], &[], 0).unwrap();
        assert!(store.derived().is_empty() && found(&store).is_none());
        write(&store, &pieces());
        let erase = store.erase_records(&spec.name, &["record-identifier-000101".parse().unwrap()], at());
        store.commit(&[erase], &[], 0).unwrap();
        assert!(found(&store).is_none());
        assert_eq!(fs::read_dir(path.join("derived")).unwrap().count(), 0);
        // whoever kept the first key file cannot open it any more either: the ring key was renewed
        write(&store, &pieces());
        fs::write(path.join("derived/key"), key).unwrap();
        assert!(found(&store).is_none());
    }

    #[test]
    fn what_was_begun_before_an_erasure_is_thrown_away() {
        let dir = tempfile::tempdir().unwrap();
        let store = create(&dir.path().join("store"));
        let mut writing = begun(&store);
        writing.put(&vec![1_u64]).unwrap();
        store.derived().discard().unwrap();
        assert!(writing.is_outdated());
        assert_eq!(writing.publish().unwrap(), Published::Outdated);
        assert!(found(&store).is_none());
    }

    /// Begins to write whenever something is synced.
    struct Hasty(Mutex<Option<Arc<Store>>>, Mutex<Vec<bool>>);

    impl Disk for Hasty {
        fn sync(&self, file: &File) -> io::Result<()> {
            if let Some(store) = self.0.lock().as_ref() {
                let writing = store.derived().begin(store.sequence()).unwrap();
                self.1.lock().push(writing.is_some());
            }
            file.sync_data()
        }

        fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
            file.write_all_at(bytes, offset)
        }
    }

    #[test]
    fn nothing_is_begun_while_a_commit_that_takes_something_away_is_not_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        drop(create(&path));
        let disk = Arc::new(Hasty(Mutex::new(None), Mutex::new(Vec::new())));
        let options = OpenOptions { disk: disk.clone(), ..options() };
        let store = Arc::new(Store::open(&path, &phrase(), &options).unwrap());
        fill(&store);
        store.write_manifest(3, [3; 32], 3).unwrap();
        let in_force = store.sequence();
        let commit = |change| {
            *disk.0.lock() = Some(Arc::clone(&store));
            store.commit(&[change], &[], 0).unwrap();
            *disk.0.lock() = None;
            std::mem::take(&mut *disk.1.lock())
        };
        let spec = super::super::fixture::collection();
        let erase = store.erase_records(&spec.name, &["record-identifier-000001".parse().unwrap()], at());
        let begun = commit(erase);
        assert!(!begun.is_empty() && !begun.contains(&true), "{begun:?}");
        assert!(store.derived().begin(in_force).unwrap().is_none(), "what is in memory is as it was before");
        assert_eq!(write(&store, &pieces()), Published::Whole, "once the change is in force");
        store.write_manifest(3, [3; 32], 3).unwrap();
        let begun = commit(store.put_records(&spec, &records(100..101), at()).unwrap());
        assert!(!begun.is_empty() && !begun.contains(&false), "a new record takes nothing away: {begun:?}");
    }

    #[test]
    fn a_kill_between_the_steps_of_publishing_leaves_nothing_that_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = create(&path);
        write(&store, &pieces());
        let room = path.join("derived");
        // the data is there and its key is not
        fs::rename(room.join("key"), room.join("kept")).unwrap();
        assert!(found(&store).is_none());
        // the key is there and its data is not
        fs::rename(room.join("kept"), room.join("key")).unwrap();
        fs::rename(room.join("data"), room.join("draft")).unwrap();
        assert!(found(&store).is_none());
        // the key is torn
        fs::rename(room.join("draft"), room.join("data")).unwrap();
        fs::write(room.join("key"), &fs::read(room.join("key")).unwrap()[..20]).unwrap();
        assert!(found(&store).is_none());
        drop(store);
        let store = open(&path);
        assert!(found(&store).is_none());
        assert_eq!(write(&store, &pieces()), Published::Whole);
        assert_eq!(found(&store), Some(pieces()));
    }
}
