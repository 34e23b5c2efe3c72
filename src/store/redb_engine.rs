//! redb 4 behind the engine trait. Its bytes go through the disk that is handed in, and its pages are held against their
//! checksums at every start, because it trusts them afterwards.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, ErrorKind},
    ops::Bound,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use redb::{Database, ReadableDatabase, StorageBackend, TableDefinition, TableError};

use super::{
    Disk, EngineError, StoreError,
    engine::{Batch, EachRow, Engine, EngineKind},
    quiet::quietly,
};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

/// One redb table in a file of its own.
pub(super) struct RedbEngine {
    db: Database,
}

impl RedbEngine {
    /// Opens or makes the engine in `dir`.
    pub(super) fn open(dir: &Path, cache_bytes: u64, disk: Arc<dyn Disk>) -> Result<Self, EngineError> {
        let path = dir.join(EngineKind::Redb.file());
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut builder = Database::builder();
        builder.set_cache_size(usize::try_from(cache_bytes).unwrap_or(usize::MAX)).set_check_integrity_on_open(true);
        let db = quietly(|| builder.create_with_backend(Rows { file, disk }).map_err(redb::Error::from))?;
        File::open(dir).and_then(|dir| dir.sync_all())?;
        Ok(Self { db })
    }
}

impl Engine for RedbEngine {
    fn commit(&self, batch: Batch) -> Result<(), EngineError> {
        quietly(|| {
            let write = self.db.begin_write()?;
            let mut rows = write.open_table(ROWS)?;
            for (key, value) in &batch {
                match value {
                    Some(value) => rows.insert(key.as_slice(), value.as_slice())?,
                    None => rows.remove(key.as_slice())?,
                };
            }
            drop(rows);
            write.commit().map_err(redb::Error::from)
        })
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        quietly(|| match self.db.begin_read()?.open_table(ROWS) {
            Ok(rows) => Ok(rows.get(key)?.map(|value| value.value().to_vec())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(redb::Error::from(error)),
        })
    }

    fn scan_between(&self, from: &[u8], to: Option<&[u8]>, each: &mut EachRow<'_>) -> Result<(), StoreError> {
        let between = (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded));
        let rows = quietly(|| match self.db.begin_read()?.open_table(ROWS) {
            Ok(rows) => Ok(Some(rows.range::<&[u8]>(between)?)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(redb::Error::from(error)),
        })?;
        let Some(mut rows) = rows else { return Ok(()) };
        while let Some((key, value)) = quietly(|| rows.next().transpose().map_err(redb::Error::from))? {
            each(key.value(), value.value())?;
        }
        Ok(())
    }

    fn compact(&mut self) -> Result<(), EngineError> {
        while quietly(|| self.db.compact().map_err(redb::Error::from))? {}
        Ok(())
    }
}

/// The file, as redb asks for it. No lock of its own: the data directory's is held.
struct Rows {
    file: File,
    disk: Arc<dyn Disk>,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rows")
    }
}

impl StorageBackend for Rows {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(&self.file, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.sync(&self.file)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write_at(&self.file, data, offset)
    }
}

impl From<redb::Error> for EngineError {
    fn from(error: redb::Error) -> Self {
        match error {
            // what is no redb file, or ends before it should
            redb::Error::Io(e) if matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                Self::Corrupt
            }
            redb::Error::Io(e) => Self::Io(e.kind()),
            redb::Error::PreviousIo => Self::Io(ErrorKind::Other),
            redb::Error::ValueTooLarge(_) => Self::Io(ErrorKind::FileTooLarge),
            _ => Self::Corrupt,
        }
    }
}
