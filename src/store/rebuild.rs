//! The engine's rows carried into a new engine, of the same kind (compaction) or another (migration), and the new one put in
//! place of the old. At every moment of it one of the two is there whole. Opens no row: what is sealed stays sealed.

use std::{fs, path::Path};

use super::{
    Engine, EngineKind, Evidence, Kind, OpenOptions, StoreError,
    engine::Batch,
    layout::allocated_bytes,
    vault::{check_generation, open_engine, start_engine},
    verify::{Depth, Survey},
};

/// Rows and bytes that are carried over in one commit, most.
const BATCH_ROWS: usize = 1_000;
const BATCH_BYTES: usize = 8 << 20;

/// Told how many rows have been carried over.
pub type RowsCopied<'a> = &'a dyn Fn(u64);

/// What a rebuilding did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebuilt {
    /// The engine before.
    pub from: EngineKind,
    /// The engine now.
    pub to: EngineKind,
    /// Rows carried over.
    pub rows: u64,
    /// Bytes that the old engine's files took on disk.
    pub bytes_before: u64,
    /// Bytes that the new one's take.
    pub bytes_after: u64,
}

/// What a store holds, and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Its storage engine.
    pub engine: EngineKind,
    /// Rows of each kind, and the bytes of their names and values.
    pub kinds: Vec<(Kind, u64, u64)>,
    /// Bytes of all rows.
    pub live_bytes: u64,
    /// Bytes that the engine's files take on disk.
    pub used_bytes: u64,
    /// Bytes that the audit log takes.
    pub audit_bytes: u64,
}

impl Evidence {
    /// The storage engine that the store lies on.
    pub fn engine_kind(&self) -> Result<EngineKind, StoreError> {
        self.layout.engine_kind()
    }

    /// How many rows there are: what [`Evidence::rebuild`] has before it.
    pub fn rows(&self, options: &OpenOptions) -> Result<u64, StoreError> {
        Ok(self.stat(options)?.kinds.iter().map(|(_, rows, _)| rows).sum())
    }

    /// Counts rows and bytes.
    pub fn stat(&self, options: &OpenOptions) -> Result<Stat, StoreError> {
        let mut kinds: Vec<(Kind, u64, u64)> = Kind::ALL.into_iter().map(|kind| (kind, 0, 0)).collect();
        let mut live_bytes = 0;
        let bytes_of = |key: &[u8], value: &[u8]| u64::try_from(key.len() + value.len()).unwrap_or(u64::MAX);
        open_engine(&self.layout, options)?.scan(b"", &mut |key, value| {
            let bytes = bytes_of(key, value);
            live_bytes += bytes;
            if let Some(row) = kinds.iter_mut().find(|(kind, _, _)| Kind::of(key) == Some(*kind)) {
                row.1 += 1;
                row.2 += bytes;
            }
            Ok(())
        })?;
        Ok(Stat {
            engine: self.layout.engine_kind()?,
            kinds,
            live_bytes,
            used_bytes: allocated_bytes(&self.layout.engine())?,
            audit_bytes: allocated_bytes(&self.layout.audit())?,
        })
    }

    /// Carries a sound store's rows into a new engine of kind `to` and puts it in place. Needs room for both.
    pub fn rebuild(
        &self,
        to: EngineKind,
        options: &OpenOptions,
        copied: RowsCopied<'_>,
    ) -> Result<Rebuilt, StoreError> {
        let from = self.layout.engine_kind()?;
        let bytes_before = allocated_bytes(&self.layout.engine())?;
        let fresh = self.layout.make_fresh_engine()?;
        let done = self.fill(to, &fresh, options, copied).and_then(|rows| self.layout.put_in_place().map(|()| rows));
        if done.is_err() {
            // what stays of it goes when the store is opened next
            let _ = fs::remove_dir_all(&fresh);
        }
        let rows = done?;
        let bytes_after = allocated_bytes(&self.layout.engine())?;
        Ok(Rebuilt { from, to, rows, bytes_before, bytes_after })
    }

    /// Copies the rows into `fresh` and holds them there against the account that came with them.
    fn fill(
        &self,
        to: EngineKind,
        fresh: &Path,
        options: &OpenOptions,
        copied: RowsCopied<'_>,
    ) -> Result<u64, StoreError> {
        let manifest = self.manifest()?;
        check_generation(self.ring(), manifest)?;
        let old = open_engine(&self.layout, &OpenOptions { engine: None, ..options.clone() })?;
        Survey::gather(&*old, self.ring(), options.entropy.clone(), Depth::Sums)?.check(manifest)?;
        let mut new = start_engine(to, fresh, options)?;
        let rows = copy(&*old, &*new, copied)?;
        drop(old);
        new.compact()?;
        drop(new);
        self.layout.tighten_below(fresh)?;
        let reopened = start_engine(to, fresh, options)?;
        Survey::gather(&*reopened, self.ring(), options.entropy.clone(), Depth::Sums)?.check(manifest)?;
        Ok(rows)
    }
}

fn copy(old: &dyn Engine, new: &dyn Engine, copied: RowsCopied<'_>) -> Result<u64, StoreError> {
    let (mut batch, mut bytes, mut rows) = (Batch::new(), 0, 0);
    old.scan(b"", &mut |key, value| {
        batch.push((key.to_vec(), Some(value.to_vec())));
        bytes += key.len() + value.len();
        rows += 1;
        if batch.len() == BATCH_ROWS || bytes >= BATCH_BYTES {
            new.commit(std::mem::take(&mut batch))?;
            bytes = 0;
            copied(rows);
        }
        Ok(())
    })?;
    new.commit(batch)?;
    copied(rows);
    Ok(rows)
}
