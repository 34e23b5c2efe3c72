//! A data directory in the making: nothing in it opens as a store until it is whole and in its place. Knows nothing of what is made.

use std::{
    fs::{self, DirBuilder, File},
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::BackupError;
use crate::store::StoreError;

/// Where it is made, inside the directory itself: no other may be on the same disk, or be ours to write.
const ROOM: &str = "restoring";
/// Without it no directory is a store: it goes to its place last.
const KEYRING: &str = "keyring";

/// A directory that becomes a store in one step. Dropped before `end`, it is as it was.
pub struct Rising {
    dir: PathBuf,
    /// The directory itself was made for this.
    made: bool,
    ended: bool,
}

impl Rising {
    /// Takes `dir`, which must be new or empty.
    pub fn begin(dir: &Path) -> Result<Self, BackupError> {
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.map_or(Ok(()), fs::create_dir_all).map_err(StoreError::io)?;
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        let made = match builder.create(dir) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(StoreError::io(error).into()),
        };
        if fs::read_dir(dir).map_err(StoreError::io)?.next().is_some() {
            return Err(StoreError::Occupied.into());
        }
        Ok(Self { dir: dir.to_owned(), made, ended: false })
    }

    /// Where the store is made: there is nothing there yet.
    pub fn room(&self) -> PathBuf {
        self.dir.join(ROOM)
    }

    /// Puts the store, whole and closed, in its place. Durable when it returns.
    pub fn end(mut self) -> Result<(), BackupError> {
        self.move_up().map_err(StoreError::io)?;
        self.ended = true;
        Ok(())
    }

    fn move_up(&self) -> std::io::Result<()> {
        let room = self.room();
        File::open(&room)?.sync_all()?;
        let mut names = Vec::new();
        for entry in fs::read_dir(&room)? {
            names.push(entry?.file_name());
        }
        names.sort_by_key(|name| name == KEYRING);
        for name in names {
            if name == KEYRING {
                File::open(&self.dir)?.sync_all()?;
            }
            fs::rename(room.join(&name), self.dir.join(&name))?;
        }
        fs::remove_dir(&room)?;
        fs::set_permissions(&self.dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        File::open(&self.dir)?.sync_all()
    }
}

impl Drop for Rising {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
        if self.made {
            let _ = fs::remove_dir(&self.dir);
        }
    }
}
