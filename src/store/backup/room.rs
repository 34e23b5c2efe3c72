//! The directory of a backup: who may write it, the lock that keeps a second backup out, its files, and whether each follows the one
//! before it. Knows nothing of what is in them.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, BufReader, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};

use super::{
    BackupError, Item, LEDGER, file_name,
    stream::{Header, Inlet},
};
use crate::{model::Sealer, store::Store};

/// Links of a whole file: it follows none.
pub(super) const WHOLE: [u8; 32] = [0; 32];
/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;
/// Write by group or by others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The directory while a backup is added to it: nobody else adds to it meanwhile, in this process or another.
pub(super) struct Room {
    dir: PathBuf,
    _lock: File,
}

/// What the next file of a backup follows.
pub(super) struct Next {
    /// Its number.
    pub(super) number: u32,
    /// The last file, if what it stands on is whole.
    pub(super) after: Option<(Header, [u8; 32])>,
    /// The first file that is damaged or missing: then the next one is whole.
    pub(super) broken: Option<u32>,
}

impl Room {
    /// Makes the directory where there is none, and takes its lock.
    pub(super) fn enter(dir: &Path) -> Result<Self, BackupError> {
        make(dir)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(NO_FOLLOW);
        let lock = options.open(dir.join("LOCK")).map_err(BackupError::io)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(BackupError::Busy),
            Err(TryLockError::Error(error)) => Err(BackupError::io(error)),
        }
    }

    /// The files that there are, held against one another: every byte of them is read. What the last one holds is handed on.
    pub(super) fn next(
        &self,
        store_id: [u8; 16],
        sealer: &Arc<dyn Sealer>,
        each: &mut dyn FnMut(Item),
    ) -> Result<Next, BackupError> {
        let Some((last, _)) = files(&self.dir)?.pop() else {
            return Ok(Next { number: 0, after: None, broken: None });
        };
        let number = last.checked_add(1).ok_or(BackupError::Missing)?;
        match self.last(last, store_id, sealer, each) {
            Ok(after) => Ok(Next { number, after: Some(after), broken: None }),
            Err(BackupError::Damaged(broken) | BackupError::Unfinished(broken)) => {
                Ok(Next { number, after: None, broken: Some(broken) })
            }
            Err(other) => Err(other),
        }
    }

    fn last(
        &self,
        last: u32,
        store_id: [u8; 16],
        sealer: &Arc<dyn Sealer>,
        each: &mut dyn FnMut(Item),
    ) -> Result<(Header, [u8; 32]), BackupError> {
        let set = set(&self.dir, Some(last))?;
        let (mut link, mut of, mut former) = (WHOLE, None, None);
        for (number, path) in &set {
            let inlet = open(*number, path, sealer)?;
            let header = inlet.header;
            let follows = header.follows(store_id, link, of.replace(header));
            // which of the two is not what it was, the seals of the former tell
            match (follows, former.replace((*number, path))) {
                (Err(error), Some((number, path))) => {
                    open(number, path, sealer)?.read(&mut |_| Ok(()))?;
                    return Err(error);
                }
                (follows, _) => follows?,
            }
            let read = match *number == last {
                true => inlet.read(&mut |item| {
                    each(item);
                    Ok(())
                }),
                false => hash(path),
            };
            // what cannot be read any more is no better than what was changed
            link = read.map_err(|error| match error {
                BackupError::Io(_) => BackupError::Damaged(*number),
                other => other,
            })?;
        }
        Ok((of.ok_or(BackupError::Missing)?, link))
    }

    /// A new file under its provisional name. What an attempt that was cut short left there goes; a link there leads nowhere.
    pub(super) fn begin(&self, number: u32) -> Result<File, BackupError> {
        let part = self.part(number);
        self.abandon(number);
        write_new(&part).map_err(BackupError::io)
    }

    /// Gives the file its name. Durable when it returns.
    pub(super) fn keep(&self, number: u32) -> Result<(), BackupError> {
        fs::rename(self.part(number), self.dir.join(file_name(number))).map_err(BackupError::io)?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(BackupError::io)
    }

    /// Puts a copy of the store's ledger beside the backup.
    pub(super) fn take_ledger(&self, store: &Store) -> Result<(), BackupError> {
        store.withdrawals.copy_to(&self.dir)
    }

    /// Takes away what has no name yet.
    pub(super) fn abandon(&self, number: u32) {
        let _ = fs::remove_file(self.part(number));
    }

    fn part(&self, number: u32) -> PathBuf {
        self.dir.join(file_name(number)).with_extension("part")
    }
}

impl Header {
    /// Whether a file with this header comes after one with the link and header before.
    pub(super) fn follows(&self, store_id: [u8; 16], link: [u8; 32], before: Option<Self>) -> Result<(), BackupError> {
        if self.store_id != store_id {
            return Err(BackupError::Foreign);
        }
        match self.link == link && before.is_none_or(|before| before.set == self.set) {
            true => Ok(()),
            false => Err(BackupError::Damaged(self.number)),
        }
    }
}

/// A file that there was none of, for its owner alone.
fn write_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

pub(super) const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

/// Makes the directory of a backup where there is none; one that others may write is refused.
pub(super) fn make(dir: &Path) -> Result<(), BackupError> {
    match DirBuilder::new().recursive(true).mode(0o700).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(BackupError::io(error)),
        Ok(()) | Err(_) => {}
    }
    refuse_exposed(dir)
}

/// Puts `bytes` in the place of `path` by way of `fresh` beside it. Durable when it returns; nothing is left of it where it fails.
pub(super) fn put_in_place(fresh: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let _ = fs::remove_file(fresh);
    let written = write_new(fresh).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(fresh, path)
    });
    written.inspect_err(|_| drop(fs::remove_file(fresh)))?;
    let room = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(room)?.sync_all()
}

/// Whoever can write the directory can put a link or a file of theirs in a backup's place.
fn refuse_exposed(dir: &Path) -> Result<(), BackupError> {
    let found = fs::metadata(dir).map_err(BackupError::io)?;
    let owner = found.uid();
    let ours = owner == 0 || owner == rustix::process::geteuid().as_raw();
    match ours && found.mode() & WRITABLE_BY_OTHERS == 0 {
        true => Ok(()),
        false => Err(BackupError::Exposed),
    }
}

/// A file of the backup, its header read.
pub(super) fn open(number: u32, path: &Path, sealer: &Arc<dyn Sealer>) -> Result<Inlet<BufReader<File>>, BackupError> {
    let file = File::open(path).map_err(BackupError::io)?;
    Inlet::begin(BufReader::with_capacity(READ_BYTES, file), sealer.clone(), number)
}

/// The ledger's copy beside a backup, which is a directory, or a file that stands alone.
pub(super) fn ledger_beside(from: &Path) -> PathBuf {
    if from.is_dir() { from.join(LEDGER) } else { from.with_file_name(LEDGER) }
}

/// The files up to `until` (or all of them), from the last whole one on, in order; or the one file that `dir` is, if it is whole.
pub(super) fn set(dir: &Path, until: Option<u32>) -> Result<Vec<(u32, PathBuf)>, BackupError> {
    if dir.is_file() {
        let header = Header::read_any(&mut File::open(dir).map_err(BackupError::io)?)?;
        return match header.link == WHOLE {
            _ if until.is_some_and(|until| until != header.number) => Err(BackupError::Missing),
            true => Ok(vec![(header.number, dir.to_owned())]),
            false => Err(BackupError::NotWhole(header.number)),
        };
    }
    let mut files = files(dir)?;
    files.retain(|(number, _)| until.is_none_or(|until| *number <= until));
    let last = files.last().map(|(number, _)| *number).ok_or(BackupError::Missing)?;
    if until.is_some_and(|until| until != last) {
        return Err(BackupError::Missing);
    }
    let mut set = Vec::new();
    for expected in (0..=last).rev() {
        let (number, path) = files.pop().ok_or(BackupError::Damaged(expected))?;
        if number != expected {
            return Err(BackupError::Damaged(expected));
        }
        let header = Header::read(&mut File::open(&path).map_err(BackupError::io)?, number)?;
        set.push((number, path));
        if header.link == WHOLE {
            set.reverse();
            return Ok(set);
        }
    }
    Err(BackupError::Damaged(0))
}

/// Every file in `dir`, in order.
pub(super) fn files(dir: &Path) -> Result<Vec<(u32, PathBuf)>, BackupError> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        entries => entries.map_err(BackupError::io)?,
    };
    for entry in entries {
        let path = entry.map_err(BackupError::io)?.path();
        found.extend(number_of(&path).map(|number| (number, path)));
    }
    found.sort_unstable();
    Ok(found)
}

fn number_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(".wkb")?.parse().ok().filter(|number| file_name(*number) == name)
}

fn hash(path: &Path) -> Result<[u8; 32], BackupError> {
    let (mut file, mut hash) = (File::open(path).map_err(BackupError::io)?, Sha256::new());
    let mut piece = vec![0; READ_BYTES];
    loop {
        let read = file.read(&mut piece).map_err(BackupError::io)?;
        match piece.get(..read) {
            Some([]) | None => return Ok(hash.finalize().into()),
            Some(piece) => hash.update(piece),
        }
    }
}
