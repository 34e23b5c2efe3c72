//! The manifest outside the engine: how far engine, audit and key file were. Two files of one sector each, written in
//! turn and in place, so that a torn write leaves the other.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Disk, StoreError, backup::Point, codec};
use crate::crypto::KeyRing;

const SLOT_BYTES: usize = 512;
const PLACE: &[u8] = b"slot";

/// What the manifest remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Manifest {
    /// Counts its own writings.
    pub serial: u64,
    /// The key file's generation.
    pub generation: u64,
    /// Number of the last change.
    pub sequence: u64,
    /// Number of the last commit.
    pub commits: u64,
    /// The engine's root after it.
    pub root: [u8; 32],
    /// Entries in the audit log.
    pub audit_size: u64,
    /// Their Merkle root.
    pub audit_root: [u8; 32],
    /// Number of the audit's last group.
    pub audit_group: u64,
    /// How far the ledger of erasures and revocations was; nothing where the manifest is of an earlier form.
    pub(super) ledger: Option<Point>,
}

/// The form that there was before the ledger was in it. Neither reads as the other: this one ends too early for the other.
#[derive(Deserialize)]
struct WithoutLedger {
    serial: u64,
    generation: u64,
    sequence: u64,
    commits: u64,
    root: [u8; 32],
    audit_size: u64,
    audit_root: [u8; 32],
    audit_group: u64,
}

/// Both files, and which of them is the newer.
pub(super) struct Slots {
    files: [File; 2],
    pub(super) current: Manifest,
    newest: usize,
    /// Names of the slots that do not open.
    pub(super) damaged: Vec<&'static str>,
}

const NAMES: [&str; 2] = ["manifest.a", "manifest.b"];

impl Slots {
    /// Makes both files, holding `first`.
    pub(super) fn create(
        paths: &[PathBuf; 2],
        ring: &KeyRing,
        disk: &dyn Disk,
        first: Manifest,
    ) -> Result<Self, StoreError> {
        let make = |path: &Path| {
            let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(&[0; SLOT_BYTES])?;
            file.sync_all()?;
            Ok(file)
        };
        let [a, b] = paths;
        let files = [make(a).map_err(StoreError::io)?, make(b).map_err(StoreError::io)?];
        let mut slots = Self { files, current: Manifest { serial: 0, ..first }, newest: 1, damaged: Vec::new() };
        slots.write(ring, disk, first)?;
        slots.write(ring, disk, first)?;
        Ok(slots)
    }

    /// Opens both. One that does not open may be a torn write; two are damage.
    pub(super) fn open(paths: &[PathBuf; 2], ring: &KeyRing) -> Result<Self, StoreError> {
        let [a, b] = paths;
        let (file_a, slot_a) = read(a, ring)?;
        let (file_b, slot_b) = read(b, ring)?;
        let damaged =
            NAMES.into_iter().zip([slot_a, slot_b]).filter(|(_, slot)| slot.is_none()).map(|(name, _)| name).collect();
        let (newest, current) = match (slot_a, slot_b) {
            (Some(a), Some(b)) if a.serial >= b.serial => (0, a),
            (Some(_), Some(b)) | (None, Some(b)) => (1, b),
            (Some(a), None) => (0, a),
            (None, None) => return Err(StoreError::DamagedPart("the manifest")),
        };
        Ok(Self { files: [file_a, file_b], current, newest, damaged })
    }

    /// Writes `next` over the older slot, durable when it returns.
    pub(super) fn write(&mut self, ring: &KeyRing, disk: &dyn Disk, next: Manifest) -> Result<(), StoreError> {
        let next = Manifest { serial: self.current.serial.saturating_add(1), ..next };
        let sealed = ring.sealer("manifest").seal(PLACE, &codec::encode(&next, 256)?)?;
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        slot.extend_from_slice(&u16::try_from(sealed.len()).map_err(|_| StoreError::TooLarge)?.to_le_bytes());
        slot.extend_from_slice(&sealed);
        slot.resize(SLOT_BYTES, 0);
        let [a, b] = &self.files;
        let (file, other) = if self.newest == 0 { (b, 1) } else { (a, 0) };
        disk.write_at(file, &slot, 0).and_then(|()| disk.sync(file)).map_err(StoreError::io)?;
        (self.current, self.newest) = (next, other);
        Ok(())
    }
}

fn read(path: &Path, ring: &KeyRing) -> Result<(File, Option<Manifest>), StoreError> {
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => StoreError::Missing,
        other => StoreError::Io(other),
    })?;
    let mut bytes = Vec::with_capacity(SLOT_BYTES);
    (&mut file).take(SLOT_BYTES as u64).read_to_end(&mut bytes).map_err(StoreError::io)?;
    Ok((file, parse(&bytes, ring)))
}

fn parse(bytes: &[u8], ring: &KeyRing) -> Option<Manifest> {
    let (length, rest) = bytes.split_first_chunk()?;
    let sealed = rest.get(..usize::from(u16::from_le_bytes(*length)))?;
    let plain = ring.sealer("manifest").open(PLACE, sealed).ok()?;
    codec::decode(&plain).or_else(|| decode_without_ledger(&plain))
}

fn decode_without_ledger(plain: &[u8]) -> Option<Manifest> {
    let WithoutLedger { serial, generation, sequence, commits, root, audit_size, audit_root, audit_group } =
        codec::decode(plain)?;
    Some(Manifest { serial, generation, sequence, commits, root, audit_size, audit_root, audit_group, ledger: None })
}
