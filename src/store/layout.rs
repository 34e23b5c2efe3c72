//! Where things lie in a data directory, who may read them, and the lock that keeps a second process out.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{EngineKind, StoreError};

/// How long a process that is just ending may keep the lock: a restart overlaps it, and so does a child that was forked while the lock was
/// held and has not begun its own program yet.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Tries until it works, fails otherwise than by being locked, or `LOCK_PATIENCE` is over.
pub(super) fn patiently<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    is_locked: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let asked = Instant::now();
    loop {
        match attempt() {
            Err(error) if is_locked(&error) && asked.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_PAUSE),
            done => return done,
        }
    }
}

/// The paths of one data directory.
#[derive(Debug, Clone)]
pub(super) struct Layout(PathBuf);

impl Layout {
    pub(super) fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    pub(super) fn keyring(&self) -> PathBuf {
        self.0.join("keyring")
    }

    pub(super) fn engine(&self) -> PathBuf {
        self.0.join("engine")
    }

    /// The engine that the store was made with. One whose file is gone would be made anew, empty: that is damage, not a start.
    pub(super) fn engine_kind(&self) -> Result<EngineKind, StoreError> {
        let mut made_with = Vec::new();
        for kind in EngineKind::ALL {
            if self.engine().join(kind.file()).try_exists().map_err(StoreError::io)? {
                made_with.push(kind);
            }
        }
        match made_with.as_slice() {
            [kind] => Ok(*kind),
            _ => Err(StoreError::DamagedPart("the storage engine")),
        }
    }

    /// Where a new engine is built while the old one is in place.
    fn fresh_engine(&self) -> PathBuf {
        self.0.join("engine.new")
    }

    /// Where the old engine waits to be removed while the new one is put in place.
    fn former_engine(&self) -> PathBuf {
        self.0.join("engine.old")
    }

    /// Makes the room for a new engine, empty.
    pub(super) fn make_fresh_engine(&self) -> Result<PathBuf, StoreError> {
        let fresh = self.fresh_engine();
        remove_all(&fresh)?;
        DirBuilder::new().mode(0o700).create(&fresh).map_err(StoreError::io)?;
        Ok(fresh)
    }

    /// Puts the new engine, whole and durable, in the place of the old one, which goes.
    pub(super) fn put_in_place(&self) -> Result<(), StoreError> {
        sync_dir(&self.fresh_engine())?;
        fs::rename(self.engine(), self.former_engine()).map_err(StoreError::io)?;
        sync_dir(&self.0)?;
        fs::rename(self.fresh_engine(), self.engine()).map_err(StoreError::io)?;
        sync_dir(&self.0)?;
        self.settle_engines()
    }

    /// After a rebuilding that was cut short: where no engine is in place the old one comes back; the other goes.
    fn settle_engines(&self) -> Result<(), StoreError> {
        let there = |path: &Path| path.try_exists().map_err(StoreError::io);
        if !there(&self.engine())? && there(&self.former_engine())? {
            fs::rename(self.former_engine(), self.engine()).map_err(StoreError::io)?;
            sync_dir(&self.0)?;
        }
        remove_all(&self.fresh_engine())?;
        remove_all(&self.former_engine())
    }

    pub(super) fn audit(&self) -> PathBuf {
        self.0.join("audit")
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.0.join(super::backup::LEDGER)
    }

    pub(super) fn derived(&self) -> PathBuf {
        self.0.join("derived")
    }

    pub(super) fn manifests(&self) -> [PathBuf; 2] {
        [self.0.join("manifest.a"), self.0.join("manifest.b")]
    }

    /// Whether anything was ever audited here.
    pub(super) fn has_audit_log(&self) -> bool {
        fs::read_dir(self.audit()).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Makes the directory, which must be new or empty, and its rooms (0700).
    pub(super) fn make(&self) -> Result<(), StoreError> {
        if let Some(parent) = self.0.parent() {
            fs::create_dir_all(parent).map_err(StoreError::io)?;
        }
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        match builder.create(&self.0) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                if fs::read_dir(&self.0).map_err(StoreError::io)?.next().is_some() {
                    return Err(StoreError::Occupied);
                }
                fs::set_permissions(&self.0, Permissions::from_mode(0o700)).map_err(StoreError::io)?;
            }
            made => made.map_err(StoreError::io)?,
        }
        builder.create(self.engine()).and_then(|()| builder.create(self.audit())).map_err(StoreError::io)
    }

    /// Takes the lock of a store; `Missing` if there is none here, or one whose making was cut short.
    pub(super) fn lock(&self) -> Result<File, StoreError> {
        let keyring = self.keyring().try_exists().map_err(StoreError::io)?;
        let begun = self.has_audit_log() || self.manifests().iter().any(|path| path.exists());
        if !keyring || !begun {
            return Err(StoreError::Missing);
        }
        let lock = self.take_lock()?;
        self.settle_engines()?;
        Ok(lock)
    }

    /// Takes the lock, making its file if need be. It lasts as long as the file is open.
    pub(super) fn take_lock(&self) -> Result<File, StoreError> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.0.join("LOCK")).map_err(StoreError::io)?;
        let taken = patiently(|| file.try_lock(), |error| matches!(error, TryLockError::WouldBlock));
        match taken {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked),
            Err(TryLockError::Error(e)) => Err(StoreError::io(e)),
        }
    }

    /// Whatever made its files as the umask says, or copied them here: directories are 0700 after this, files 0600.
    pub(super) fn tighten(&self) -> Result<(), StoreError> {
        self.tighten_below(&self.0)
    }

    /// The same for an engine that is not in place yet.
    pub(super) fn tighten_below(&self, engine: &Path) -> Result<(), StoreError> {
        tighten(engine).map_err(StoreError::io)
    }

    /// Makes the names in the directory durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        sync_dir(&self.engine())?;
        sync_dir(&self.0)?;
        sync_dir(self.0.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))
    }
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io)
}

/// Removes a directory with all in it, if it is there.
fn remove_all(dir: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(StoreError::io(e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Bytes on disk of all files below `dir`: less than their lengths where a file has holes.
pub(super) fn allocated_bytes(dir: &Path) -> Result<u64, StoreError> {
    let mut bytes = 0_u64;
    for entry in fs::read_dir(dir).map_err(StoreError::io)? {
        let entry = entry.map_err(StoreError::io)?;
        let found = entry.metadata().map_err(StoreError::io)?;
        bytes += if found.is_dir() { allocated_bytes(&entry.path())? } else { found.blocks() * BLOCK_BYTES };
    }
    Ok(bytes)
}

/// What `st_blocks` counts in, whatever the file system's own blocks are.
const BLOCK_BYTES: u64 = 512;

fn tighten(dir: &Path) -> std::io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            tighten(&entry.path())?;
        } else {
            match fs::set_permissions(entry.path(), Permissions::from_mode(0o600)) {
                // an engine's own thread took it away meanwhile
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                tightened => tightened?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_others_may_look_into_is_theirs_no_more_when_the_store_is_opened() {
        use crate::store::fixture;
        let room = tempfile::tempdir().unwrap();
        let dir = room.path().join("data");
        let store = fixture::create(&dir);
        fs::write(store.audit_dir().join("a log"), b"").unwrap();
        drop(store);
        let parts =
            ["", "audit", "audit/a log", "keyring", "ledger", "manifest.a", "engine"].map(|part| dir.join(part));
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        for part in &parts {
            fs::set_permissions(part, Permissions::from_mode(0o777)).unwrap();
        }
        drop(fixture::open(&dir));
        for part in &parts {
            assert_eq!(mode(part), if part.is_dir() { 0o700 } else { 0o600 }, "{}", part.display());
        }
    }
}
