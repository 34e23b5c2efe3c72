//! What a storage engine must do for us. It sees keyed names and sealed values only.

use std::{fmt, str::FromStr};

use serde::Deserialize;

use super::StoreError;

/// The storage engines there are. A store is made with one and stays with it until it is migrated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// sled 0.34.
    #[default]
    Sled,
    /// redb 4.
    Redb,
}

impl EngineKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Sled, Self::Redb];

    /// What configuration and command line call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Redb => "redb",
        }
    }

    /// The file in the engine's directory that holds its rows, by which it is known.
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Sled => "db",
            Self::Redb => "rows.redb",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl FromStr for EngineKind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.label() == text).ok_or("must be `sled` or `redb`")
    }
}

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
    #[error(
        "the storage engine cannot read or write ({0}): see to the disk's space, permissions and health, then start again"
    )]
    Io(std::io::ErrorKind),
}

impl From<std::io::Error> for EngineError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.kind())
    }
}

/// An ordered map of bytes with atomic, durable batches.
pub trait Engine: Send + Sync {
    /// Applies `batch`, durable when it returns. After an error nobody knows until the engine is opened anew.
    fn commit(&self, batch: Batch) -> Result<(), EngineError>;
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;
    /// Every row whose key is `from` or later and, if there is an end, before `to`, in order of keys.
    fn scan_between(&self, from: &[u8], to: Option<&[u8]>, each: &mut EachRow<'_>) -> Result<(), StoreError>;
    /// Every row whose key starts with `prefix`, in order of keys.
    fn scan(&self, prefix: &[u8], each: &mut EachRow<'_>) -> Result<(), StoreError> {
        self.scan_between(prefix, beyond(prefix).as_deref(), each)
    }
    /// Gives back to the file system what space it can, while nothing else uses the engine.
    fn compact(&mut self) -> Result<(), EngineError>;
}

/// The first key that comes after all that start with `prefix`; none where nothing does.
fn beyond(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut beyond = prefix.get(..=kept)?.to_vec();
    beyond.last_mut().into_iter().for_each(|byte| *byte += 1);
    Some(beyond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_a_prefix_is_the_first_key_that_does_not_start_with_it() {
        let cases: [(&[u8], Option<&[u8]>); 6] = [
            (b"", None),
            (b"R", Some(b"S")),
            (b"Ra\xff", Some(b"Rb")),
            (b"\xff", None),
            (b"\xff\xff", None),
            (b"\x00\xff\xff", Some(b"\x01")),
        ];
        for (prefix, expected) in cases {
            assert_eq!(beyond(prefix).as_deref(), expected);
        }
    }
}
