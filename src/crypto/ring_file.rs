//! The ring file: 196 bytes outside the storage engine. Header in clear (authenticated), secrets wrapped, a plain checksum
//! that tells damage from a wrong passphrase.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use sha2::{Digest, Sha256};

use super::{KdfCost, KeyError, kdf::SALT_BYTES};

const MAGIC: &[u8; 8] = b"WKRING\0\x01";
const HEADER: usize = 8 + 16 + 8 + 12 + SALT_BYTES;
const NONCE: usize = 24;
/// Bytes of the wrapped secrets with their tag.
pub(super) const WRAPPED: usize = 16 + 32 + 32 + 16;
const CHECKSUM: usize = 16;
const LENGTH: usize = HEADER + NONCE + WRAPPED + CHECKSUM;

/// What stands in the clear; all of it is associated data of the wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) store_id: [u8; 16],
    pub(super) generation: u64,
    pub(super) cost: KdfCost,
    pub(super) salt: [u8; SALT_BYTES],
}

impl Header {
    /// The bytes that are authenticated.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LENGTH);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.store_id);
        out.extend_from_slice(&self.generation.to_le_bytes());
        for n in [self.cost.memory_kib, self.cost.passes, self.cost.lanes] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.extend_from_slice(&self.salt);
        out
    }
}

/// A ring file, parsed but not opened.
pub(super) struct RingFile {
    pub(super) header: Header,
    pub(super) nonce: [u8; NONCE],
    pub(super) wrapped: [u8; WRAPPED],
}

impl RingFile {
    /// Reads and checks the form; opens nothing.
    pub(super) fn read(path: &Path) -> Result<Self, KeyError> {
        let mut bytes = Vec::with_capacity(LENGTH + 1);
        let file = File::open(path).map_err(|e| match e.kind() {
            ErrorKind::NotFound => KeyError::Missing,
            other => KeyError::Io(other),
        })?;
        file.take(LENGTH as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
        Self::parse(&bytes).ok_or(KeyError::Damaged)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM>()?;
        if bytes.len() != LENGTH || *checksum != digest(body) {
            return None;
        }
        let (magic, rest) = body.split_first_chunk::<8>()?;
        let (store_id, rest) = rest.split_first_chunk()?;
        let (generation, rest) = rest.split_first_chunk()?;
        let (memory, rest) = rest.split_first_chunk()?;
        let (passes, rest) = rest.split_first_chunk()?;
        let (lanes, rest) = rest.split_first_chunk()?;
        let (salt, rest) = rest.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let cost = KdfCost {
            memory_kib: u32::from_le_bytes(*memory),
            passes: u32::from_le_bytes(*passes),
            lanes: u32::from_le_bytes(*lanes),
        };
        let header = Header { store_id: *store_id, generation: u64::from_le_bytes(*generation), cost, salt: *salt };
        (magic == MAGIC).then_some(Self { header, nonce: *nonce, wrapped: rest.try_into().ok()? })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = self.header.bytes();
        out.extend_from_slice(&self.nonce);
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

    /// Puts it in place of the old file in one step; durable when it returns.
    pub(super) fn replace(&self, path: &Path) -> Result<(), KeyError> {
        let fresh = path.with_extension("new");
        match fs::remove_file(&fresh) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(io(e)),
            Ok(()) | Err(_) => {}
        }
        self.create(&fresh)?;
        fs::rename(&fresh, path).map_err(io)?;
        sync_parent(path)
    }
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
