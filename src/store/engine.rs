//! What a storage engine must do for us. It sees keyed names and sealed values only.

use super::StoreError;

/// Writes that become durable together or not at all. `None` removes.
pub type Batch = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// What `scan` hands each row to: key, value.
pub type EachRow<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError> + 'a;

/// Why an engine failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Its files are not what it wrote.
    #[error("the storage engine's files are damaged: restore a backup")]
    Corrupt,
    /// The file system failed.
    #[error("the storage engine cannot read or write: {0}")]
    Io(std::io::ErrorKind),
}

/// An ordered map of bytes with atomic, durable batches.
pub trait Engine: Send + Sync {
    /// Applies `batch`, durable when it returns. After an error nobody knows until the engine is opened anew.
    fn commit(&self, batch: Batch) -> Result<(), EngineError>;
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;
    /// Every row whose key starts with `prefix`, in order of keys.
    fn scan(&self, prefix: &[u8], each: &mut EachRow<'_>) -> Result<(), StoreError>;
}
