//! The ring file, outside the storage engine. Header in clear (authenticated), secrets wrapped by a key provider, a plain checksum
//! that tells damage from a wrong passphrase.
//!
//! ```text
//! "WKRING\0" 2 | store id 16 | generation u64 | epoch u32 | provider u8 | n u16, its parameters | n u16, wrapped | checksum 16
//! "WKRING\0" 1 | store id 16 | generation u64 | argon2id parameters 28 | nonce 24, wrapped 80, tag 16 | checksum 16     (until 0.1)
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    KeyError,
    provider::{PARAMETERS_BYTES, ProviderKind},
};

const MAGIC: &[u8; 7] = b"WKRING\0";
const FIRST: u8 = 1;
const SECOND: u8 = 2;
/// Bytes of parameters and of wrapped secrets in the first form.
const FIRST_PARAMETERS: usize = 28;
const FIRST_WRAPPED: usize = 24 + 80 + 16;
const CHECKSUM: usize = 16;
/// Bytes of a ring file, most.
const LENGTH_MAX: usize = 16 << 10;

/// Which form a ring file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Ring key, then root; a passphrase is its only provider.
    First,
    /// Root, then one ring key, or two while it is being renewed.
    Second,
}

/// What stands in the clear; all of it is authenticated by the wrap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) form: Form,
    pub(super) store_id: [u8; 16],
    pub(super) generation: u64,
    pub(super) epoch: u32,
    pub(super) provider: ProviderKind,
    pub(super) parameters: Vec<u8>,
}

impl Header {
    /// The bytes that are authenticated.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.parameters.len());
        out.extend_from_slice(MAGIC);
        out.push(match self.form {
            Form::First => FIRST,
            Form::Second => SECOND,
        });
        out.extend_from_slice(&self.store_id);
        out.extend_from_slice(&self.generation.to_le_bytes());
        match self.form {
            Form::First => {}
            Form::Second => {
                out.extend_from_slice(&self.epoch.to_le_bytes());
                out.push(self.provider.byte());
                out.extend_from_slice(&length(&self.parameters));
            }
        }
        out.extend_from_slice(&self.parameters);
        out
    }
}

/// A ring file, parsed but not opened.
pub(super) struct RingFile {
    pub(super) header: Header,
    pub(super) wrapped: Vec<u8>,
}

impl RingFile {
    /// Reads and checks the form; opens nothing.
    pub(super) fn read(path: &Path) -> Result<Self, KeyError> {
        if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) {
            return Err(KeyError::Link);
        }
        let mut bytes = Vec::with_capacity(512);
        let file = File::open(path).map_err(|e| match e.kind() {
            ErrorKind::NotFound => KeyError::Missing,
            other => KeyError::Io(other),
        })?;
        file.take(LENGTH_MAX as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
        Self::parse(&bytes).ok_or(KeyError::Damaged)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM>()?;
        if bytes.len() > LENGTH_MAX || *checksum != digest(body) {
            return None;
        }
        let rest = body.strip_prefix(MAGIC)?;
        match rest.split_first()? {
            (&FIRST, rest) => parse_first(rest),
            (&SECOND, rest) => parse_second(rest),
            _ => None,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = self.header.bytes();
        match self.header.form {
            Form::First => {}
            Form::Second => out.extend_from_slice(&length(&self.wrapped)),
        }
        out.extend_from_slice(&self.wrapped);
        let checksum = digest(&out);
        out.extend_from_slice(&checksum);
        out
    }

    /// Writes a new file, never over an old one; durable when it returns.
    pub(super) fn create(&self, path: &Path) -> Result<(), KeyError> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| if e.kind() == ErrorKind::AlreadyExists { KeyError::Exists } else { io(e) })?;
        file.write_all(&self.bytes()).and_then(|()| file.sync_all()).map_err(io)?;
        sync_parent(path)
    }

    /// Puts it in place of the old file in one step, and overwrites what the old one held; durable when it returns.
    pub(super) fn replace(&self, path: &Path) -> Result<(), KeyError> {
        let fresh = discard_unfinished(path)?;
        self.create(&fresh)?;
        let old = OpenOptions::new().write(true).open(path).map_err(io)?;
        fs::rename(&fresh, path).map_err(io)?;
        sync_parent(path)?;
        overwrite(&old).map_err(io)
    }
}

/// Removes what a crash in `replace` left beside the file, which may hold a key that has been destroyed since; gives its name.
pub(super) fn discard_unfinished(path: &Path) -> Result<PathBuf, KeyError> {
    let fresh = path.with_extension("new");
    match OpenOptions::new().write(true).open(&fresh) {
        Ok(left) => {
            fs::remove_file(&fresh).map_err(io)?;
            overwrite(&left).map_err(io)?;
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(io(e)),
    }
    Ok(fresh)
}

fn parse_first(bytes: &[u8]) -> Option<RingFile> {
    let (store_id, rest) = bytes.split_first_chunk()?;
    let (generation, rest) = rest.split_first_chunk()?;
    let (parameters, wrapped) = rest.split_at_checked(FIRST_PARAMETERS)?;
    let header = Header {
        form: Form::First,
        store_id: *store_id,
        generation: u64::from_le_bytes(*generation),
        epoch: 0,
        provider: ProviderKind::Passphrase,
        parameters: parameters.to_vec(),
    };
    (wrapped.len() == FIRST_WRAPPED).then(|| RingFile { header, wrapped: wrapped.to_vec() })
}

fn parse_second(bytes: &[u8]) -> Option<RingFile> {
    let (store_id, rest) = bytes.split_first_chunk()?;
    let (generation, rest) = rest.split_first_chunk()?;
    let (epoch, rest) = rest.split_first_chunk()?;
    let (provider, rest) = rest.split_first()?;
    let (parameters, rest) = prefixed(rest)?;
    let (wrapped, rest) = prefixed(rest)?;
    let header = Header {
        form: Form::Second,
        store_id: *store_id,
        generation: u64::from_le_bytes(*generation),
        epoch: u32::from_le_bytes(*epoch),
        provider: ProviderKind::of(*provider)?,
        parameters: parameters.to_vec(),
    };
    let whole = rest.is_empty() && parameters.len() <= PARAMETERS_BYTES;
    whole.then(|| RingFile { header, wrapped: wrapped.to_vec() })
}

fn prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}

/// Longer than what is ever written; `parse` holds both to their bounds.
fn length(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes()
}

/// Zeros over a file whose name is gone. On a disk that writes in place nothing is left of it; another name of it is somebody's copy.
fn overwrite(old: &File) -> std::io::Result<()> {
    let metadata = old.metadata()?;
    if metadata.nlink() > 0 {
        tracing::warn!(
            "the old key file has another name, a hard link, and was not overwritten: remove that copy, it opens what was erased since"
        );
        return Ok(());
    }
    let zeros = vec![0; usize::try_from(metadata.len()).unwrap_or(LENGTH_MAX)];
    old.write_all_at(&zeros, 0)?;
    old.sync_data()
}

fn sync_parent(path: &Path) -> Result<(), KeyError> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(io)
}

fn digest(body: &[u8]) -> [u8; CHECKSUM] {
    super::derive::short(Sha256::digest(body).into())
}

fn io(error: std::io::Error) -> KeyError {
    KeyError::Io(error.kind())
}
