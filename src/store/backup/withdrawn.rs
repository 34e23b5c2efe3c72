//! The ledger: what was erased, removed or revoked, and whose permissions changed, so that a restore from an older backup does not undo it.
//! Knows keyed names alone, and nothing of what they stand for.
//!
//! Every commit that takes rows away or changes permissions is entered *before* it is made: a crash between leaves an entry too many,
//! never one too few. The ledger lies in the data directory, where nothing that a commit can do without is away, and a copy of it lies
//! beside the backup, brought up in the same step (`beside`). Where the copy cannot be written, or not in time, service goes on, and log and
//! metrics say so; the next entry, backup or start tries again. The manifest knows how far the ledger was: one that is missing, older than
//! the rest, or ahead of it by more than the one commit that a crash may have kept from being made, is refused. An escrow holds how far the ledger was: a restore replays what follows, and so it knows when the
//! ledger is cut below that or missing. What was cut above it nobody can tell from the files alone: the certificate of an erasure has the
//! number of its entry for that.
//!
//! ```text
//! "WKLEDG\0" 1 | store id 16 | entries before the first one here u64 | their link 32
//! entry: length of sealed u32 | sequence u64 | check 4 | sealed
//! ```
//! Little-endian. An entry is sealed for its number, its sequence and the link before it; its link is the SHA-256 of the link before and of
//! all its bytes. The check is the start of the same over the first 12 bytes: it tells an end that a crash tore off from damage.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{BackupError, beside::Shared, room};
use crate::{
    clock::Instant,
    crypto::KeyRing,
    model::{Sealer, limits},
    store::{
        Change, Disk, StoreError,
        codec::{self, Bytes},
    },
};

/// What it is called, in a data directory and beside a backup.
pub(in crate::store) const LEDGER: &str = "ledger";

const MAGIC: &[u8; 8] = b"WKLEDG\0\x01";
const HEADER: usize = 8 + 16 + 8 + 32;
const ENTRY_HEAD: usize = 4 + 8 + 4;
/// How long entries are kept, in milliseconds: longer than an escrow should be.
const KEPT_MS: i64 = 4 * 86_400_000 * limits::ESCROW_DAYS as i64;

type Link = [u8; 32];

/// How far a ledger is: entries, and the link of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::store) struct Point {
    pub(in crate::store) entries: u64,
    link: Link,
}

/// What a commit does that an older backup must not undo.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) enum Deed {
    /// A row is gone.
    Gone { key: Bytes },
    /// All rows are gone whose names begin so.
    AllGone { prefix: Bytes },
    /// A row on which permissions hang was written.
    Changed { key: Bytes },
    /// An escrow was taken.
    Escrow,
    /// The store was made anew from a backup: what was backed up before is another store's past.
    Restored,
}

impl Deed {
    fn is_done_to_rows(&self) -> bool {
        match self {
            Self::Gone { .. } | Self::AllGone { .. } | Self::Changed { .. } => true,
            Self::Escrow | Self::Restored => false,
        }
    }
}

/// One entry, opened.
#[derive(Serialize, Deserialize)]
struct Entry {
    at: Instant,
    /// The first entry of the audit log that tells of it.
    audit: u64,
    deeds: Vec<Deed>,
}

/// Where the copy beside the backup stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LedgerCopy {
    /// None was asked for.
    None,
    /// It has every entry.
    Current,
    /// It could not be written.
    Behind,
}

/// What is done about a ledger that is missing or older than the rest of the store. One that is newer says that the rest was put back: it is
/// refused whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LedgerDoubt {
    /// The store is not opened.
    #[default]
    Refuse,
    /// It is opened: somebody vouches for it.
    Accept,
}

/// Where a ledger stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LedgerState {
    /// Its entries.
    pub entries: u64,
    /// The copy beside the backup.
    pub copy: LedgerCopy,
    /// When the last escrow was taken, as far as it knows.
    pub last_escrow: Option<Instant>,
}

/// The ledger of an open store.
pub(in crate::store) struct Withdrawals(Arc<Shared>);

/// The ledger alone.
pub(super) struct State {
    path: PathBuf,
    file: File,
    disk: Arc<dyn Disk>,
    seal: Seal,
    head: Point,
    bytes: u64,
    /// A failed write may have left something behind the end.
    untidy: bool,
    last_escrow: Option<Instant>,
    /// Entries up to the one that says that the store was restored.
    restored: u64,
}

impl Withdrawals {
    /// Opens the ledger of a store whose last change has this sequence, and whose manifest knew it so far; begins one where there is none.
    pub(in crate::store) fn open(
        path: &Path,
        ring: &KeyRing,
        disk: Arc<dyn Disk>,
        sequence: u64,
        known: Option<Point>,
        doubt: LedgerDoubt,
    ) -> Result<Self, StoreError> {
        match (Self::examine(path, ring, sequence, known), doubt) {
            (Err(StoreError::LedgerBehind), LedgerDoubt::Accept) => {}
            (examined, LedgerDoubt::Refuse | LedgerDoubt::Accept) => examined?,
        }
        State::begin(path, Seal::of(ring), disk, sequence).map(|state| Self(Shared::new(state)))
    }

    /// Looks at a ledger that may be damaged or of another moment, and changes nothing.
    pub(in crate::store) fn examine(
        path: &Path,
        ring: &KeyRing,
        sequence: u64,
        known: Option<Point>,
    ) -> Result<(), StoreError> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return if known.is_none_or(|known| known.entries == 0) {
                    Ok(())
                } else {
                    Err(StoreError::LedgerBehind)
                };
            }
            bytes => bytes.map_err(StoreError::io)?,
        };
        let seal = Seal::of(ring);
        let frames = Frames::parse(&bytes, &seal.store_id).ok_or(StoreError::DamagedLedger)?;
        let (mut number, mut unknown) = (frames.first.entries, 0);
        let opened = frames.open(&seal, 0, &mut |entry| {
            number += 1;
            let is_unknown = known.is_some_and(|known| number > known.entries);
            unknown += usize::from(is_unknown && entry.deeds.iter().any(Deed::is_done_to_rows));
        });
        if !frames.ends_well(sequence) || opened.is_none() {
            return Err(StoreError::DamagedLedger);
        }
        match known {
            Some(known) if frames.lacks(known) => Err(StoreError::LedgerBehind),
            // the manifest is at most one commit behind
            Some(_) if unknown > 1 => {
                Err(StoreError::RolledBack("the ledger of erasures and revocations is newer than the rest"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Enters what `changes` will do, if an older backup must not undo it. Durable when it returns.
    pub(in crate::store) fn enter(&self, changes: &[Change], audit: u64, sequence: u64) -> Result<(), StoreError> {
        let deeds: Vec<_> = changes.iter().flat_map(Change::lasting).collect();
        match changes.first() {
            Some(first) if !deeds.is_empty() => {
                let mut both = self.0.lock();
                both.ledger.enter(sequence, &Entry { at: first.at(), audit, deeds })?;
                self.0.follow(&mut both);
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Enters that an escrow was taken; it knows all up to the point that is given back.
    pub(in crate::store) fn enter_escrow(&self, at: Instant, sequence: u64) -> Result<Point, StoreError> {
        let mut both = self.0.lock();
        let known = both.ledger.head;
        // no commit has this number yet: an end that is torn off here is known for one
        both.ledger.enter(sequence.saturating_add(1), &Entry { at, audit: 0, deeds: vec![Deed::Escrow] })?;
        both.ledger.last_escrow = Some(at);
        self.0.follow(&mut both);
        Ok(known)
    }

    /// From here on a copy is kept in `dir`, the directory of a backup.
    pub(in crate::store) fn keep_beside(&self, dir: &Path) {
        self.0.keep(dir.join(LEDGER));
    }

    /// Puts a copy into `dir`, the directory of a backup.
    pub(super) fn copy_to(&self, dir: &Path) -> Result<(), BackupError> {
        self.0.copy_to(&dir.join(LEDGER))
    }

    /// Where it stands.
    pub(in crate::store) fn state(&self) -> LedgerState {
        let both = self.0.lock();
        LedgerState { entries: both.ledger.head.entries, copy: both.copy(), last_escrow: both.ledger.last_escrow }
    }

    /// How far it is.
    pub(in crate::store) fn head(&self) -> Point {
        self.0.lock().ledger.head
    }

    /// Whether a backup that was taken when the ledger was at `point` is of this store's own past.
    pub(super) fn continues(&self, point: Option<Point>) -> Result<bool, StoreError> {
        let both = self.0.lock();
        let state = &both.ledger;
        let bytes = fs::read(&state.path).map_err(StoreError::io)?;
        let frames = Frames::parse(&bytes, &state.seal.store_id).ok_or(StoreError::DamagedLedger)?;
        Ok(point.is_some_and(|point| point.entries >= state.restored && frames.passed(point)))
    }

    /// Takes over the ledger of the store that was lost, if it is known, and enters that this one was restored.
    pub(super) fn take_over(&self, replay: &Replay, at: Instant, sequence: u64) -> Result<(), StoreError> {
        let mut both = self.0.lock();
        if replay.is_complete {
            let State { path, disk, seal, .. } = &both.ledger;
            put(path, &replay.bytes).map_err(StoreError::io)?;
            let taken = State::begin(path, seal.clone(), disk.clone(), u64::MAX)?;
            both.replace(taken);
        }
        let state = &mut both.ledger;
        state.enter(sequence, &Entry { at, audit: 0, deeds: vec![Deed::Restored] })?;
        state.restored = state.head.entries;
        self.0.follow(&mut both);
        Ok(())
    }
}

impl Drop for Withdrawals {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// What a ledger and a copy of it are to one another.
pub(super) enum Met {
    /// The same, so long.
    Same(u64),
    /// The copy lacks something; these are the ledger's bytes.
    Behind(Vec<u8>),
}

impl State {
    fn begin(path: &Path, seal: Seal, disk: Arc<dyn Disk>, sequence: u64) -> Result<Self, StoreError> {
        if !path.try_exists().map_err(StoreError::io)? {
            put(path, &seal.header(Point::default())).map_err(StoreError::io)?;
        }
        let bytes = fs::read(path).map_err(StoreError::io)?;
        let frames = Frames::parse(&bytes, &seal.store_id).ok_or(StoreError::DamagedLedger)?;
        let (mut last_escrow, mut restored, mut number) = (None, 0, frames.first.entries);
        let opened = frames.open(&seal, 0, &mut |entry| {
            number += 1;
            for deed in &entry.deeds {
                match deed {
                    Deed::Escrow => last_escrow = Some(entry.at),
                    Deed::Restored => restored = number,
                    Deed::Gone { .. } | Deed::AllGone { .. } | Deed::Changed { .. } => {}
                }
            }
        });
        if !frames.ends_well(sequence) || opened.is_none() {
            return Err(StoreError::DamagedLedger);
        }
        if frames.bytes() as u64 > limits::LEDGER_KEPT_BYTES
            && let Some(pruned) = frames.pruned(&seal)
        {
            put(path, &pruned).map_err(StoreError::io)?;
            return Self::begin(path, seal, disk, u64::MAX);
        }
        let file = OpenOptions::new().write(true).open(path).map_err(StoreError::io)?;
        let (head, end) = (frames.head(), frames.bytes() as u64);
        let untidy = end < bytes.len() as u64;
        let path = path.to_owned();
        Ok(Self { path, file, disk, seal, head, bytes: end, untidy, last_escrow, restored })
    }

    fn enter(&mut self, sequence: u64, entry: &Entry) -> Result<(), StoreError> {
        let frame = self.seal.frame(self.head, sequence, entry)?;
        let head = self.seal.after(self.head, &frame);
        self.append(&frame).inspect_err(|_| self.untidy = true).map_err(StoreError::io)?;
        (self.head, self.bytes) = (head, self.bytes + frame.len() as u64);
        Ok(())
    }

    fn append(&mut self, frame: &[u8]) -> io::Result<()> {
        if self.untidy {
            self.disk.set_len(&self.file, self.bytes)?;
            self.untidy = false;
        }
        self.disk.write_at(&self.file, frame, self.bytes)?;
        self.disk.sync(&self.file)
    }

    /// How long it is.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its bytes from here to its end.
    pub(super) fn bytes_from(&self, from: u64) -> io::Result<Vec<u8>> {
        let length = self.bytes.checked_sub(from).and_then(|length| usize::try_from(length).ok());
        let mut bytes = vec![0; length.ok_or(ErrorKind::InvalidInput)?];
        File::open(&self.path)?.read_exact_at(&mut bytes, from)?;
        Ok(bytes)
    }

    /// Holds a copy against it, if there is one. One that knows more gives what it knows; one that knows something else is refused.
    pub(super) fn meet(&mut self, copy: Option<&[u8]>) -> Result<Met, BackupError> {
        let ours = self.bytes_from(0).map_err(StoreError::io)?;
        let Some(theirs) = copy else { return Ok(Met::Behind(ours)) };
        if ours == theirs {
            return Ok(Met::Same(self.bytes));
        }
        let there = Frames::parse(theirs, &self.seal.store_id).ok_or(BackupError::ForeignLedger)?;
        let here = Frames::parse(&ours, &self.seal.store_id).ok_or(StoreError::DamagedLedger)?;
        if here.passed(there.head()) {
            return Ok(Met::Behind(ours));
        }
        if !there.passed(self.head) || there.open(&self.seal, self.head.entries, &mut |_| ()).is_none() {
            return Err(BackupError::ForeignLedger);
        }
        // this ledger was put back to an older state, or begun anew
        self.append(&there.tail(self.head.entries)).inspect_err(|_| self.untidy = true).map_err(StoreError::io)?;
        *self = Self::begin(&self.path, self.seal.clone(), self.disk.clone(), u64::MAX)?;
        tracing::error!("the store's ledger was behind its copy beside the backup, and has been brought up from it");
        Ok(Met::Same(self.bytes))
    }
}

/// What a restore takes from a ledger.
#[derive(Default)]
pub(super) struct Replay {
    /// Whether it reaches from what the escrow knows to a sound end.
    pub(super) is_complete: bool,
    /// Entries that there are in all.
    pub(super) entries: u64,
    /// Those after the escrow.
    pub(super) later: u64,
    /// When the last of them was entered.
    pub(super) until: Option<Instant>,
    pub(super) deeds: Vec<Deed>,
    bytes: Vec<u8>,
}

impl Replay {
    /// What was entered after `since`, the point that the escrow knows.
    pub(super) fn read(path: &Path, ring: &KeyRing, since: Option<Point>) -> Result<Self, BackupError> {
        let bytes = match read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            bytes => bytes.map_err(BackupError::io)?,
        };
        let (seal, known) = (Seal::of(ring), since.unwrap_or_default());
        let Some(frames) = Frames::parse(&bytes, &seal.store_id) else { return Ok(Self::default()) };
        let mut replay = Self { entries: frames.head().entries, ..Self::default() };
        let opened = frames.open(&seal, known.entries, &mut |entry| {
            if entry.deeds.iter().any(Deed::is_done_to_rows) {
                replay.later += 1;
                replay.until = Some(entry.at);
                replay.deeds.extend(entry.deeds);
            }
        });
        let reaches = since.is_some_and(|since| frames.passed(since));
        replay.is_complete = reaches && opened.is_some() && frames.end != End::Damaged;
        let end = frames.bytes();
        replay.bytes = bytes;
        replay.bytes.truncate(end);
        Ok(replay)
    }
}

/// What seals entries, and for which store.
#[derive(Clone)]
struct Seal {
    sealer: Arc<dyn Sealer>,
    store_id: [u8; 16],
}

impl Seal {
    fn of(ring: &KeyRing) -> Self {
        Self { sealer: ring.sealer("ledger"), store_id: ring.store_id() }
    }

    fn header(&self, before: Point) -> Vec<u8> {
        [&MAGIC[..], &self.store_id, &before.entries.to_le_bytes(), &before.link].concat()
    }

    fn place(&self, before: Point, sequence: u64) -> Vec<u8> {
        [&self.store_id[..], &before.entries.to_le_bytes(), &before.link, &sequence.to_le_bytes()].concat()
    }

    fn frame(&self, before: Point, sequence: u64, entry: &Entry) -> Result<Vec<u8>, StoreError> {
        let plain = codec::encode(entry, entry.deeds.len() * 40 + 32)?;
        let sealed = self.sealer.seal(&self.place(before, sequence), &plain)?;
        let length = u32::try_from(sealed.len()).map_err(|_| StoreError::TooLarge)?;
        let mut frame = [&length.to_le_bytes()[..], &sequence.to_le_bytes()].concat();
        frame.extend(check(&before.link, &frame));
        frame.extend(sealed);
        Ok(frame)
    }

    fn after(&self, before: Point, frame: &[u8]) -> Point {
        Point { entries: before.entries + 1, link: link(&before.link, frame) }
    }
}

/// The frames of a ledger, their links held against one another.
struct Frames<'a> {
    first: Point,
    frames: Vec<Frame<'a>>,
    end: End,
}

struct Frame<'a> {
    sequence: u64,
    bytes: &'a [u8],
    after: Point,
}

/// How a ledger ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// In the middle of an entry; its sequence, if that much is there.
    Torn {
        sequence: Option<u64>,
    },
    Damaged,
}

impl<'a> Frames<'a> {
    /// `None` where the header is not this store's.
    fn parse(bytes: &'a [u8], store_id: &[u8; 16]) -> Option<Self> {
        let (header, mut rest) = bytes.split_first_chunk::<HEADER>()?;
        let (magic, header) = header.split_first_chunk::<8>()?;
        let (of, header) = header.split_first_chunk::<16>()?;
        let (entries, link) = header.split_first_chunk::<8>()?;
        let first = Point { entries: u64::from_le_bytes(*entries), link: link.try_into().ok()? };
        let mut all = Self { first, frames: Vec::new(), end: End::Whole };
        if magic != MAGIC || of != store_id {
            return None;
        }
        while !rest.is_empty() {
            match Frame::parse(rest, all.head()) {
                Ok((frame, after)) => {
                    all.frames.push(frame);
                    rest = after;
                }
                Err(end) => {
                    all.end = end;
                    break;
                }
            }
        }
        Some(all)
    }

    fn head(&self) -> Point {
        self.frames.last().map_or(self.first, |frame| frame.after)
    }

    /// Bytes up to the end of the last whole entry.
    fn bytes(&self) -> usize {
        HEADER + self.frames.iter().map(|frame| frame.bytes.len()).sum::<usize>()
    }

    /// Whether nothing is missing at the end, in a store whose last change has this sequence.
    fn ends_well(&self, sequence: u64) -> bool {
        match self.end {
            End::Whole => true,
            // entered for a commit that was then never made
            End::Torn { sequence: torn } => torn.is_none_or(|torn| torn > sequence),
            End::Damaged => false,
        }
    }

    /// Whether the ledger was at this point once.
    fn passed(&self, point: Point) -> bool {
        self.first == point || self.frames.iter().any(|frame| frame.after == point)
    }

    /// Whether it is not the ledger that was once at this point: it ends before, or went another way.
    fn lacks(&self, point: Point) -> bool {
        let is_left_out = point.entries < self.first.entries;
        !is_left_out && !self.passed(point)
    }

    /// The bytes of what comes after so many entries.
    fn tail(&self, entries: u64) -> Vec<u8> {
        let later = self.frames.iter().filter(|frame| frame.after.entries > entries);
        later.flat_map(|frame| frame.bytes).copied().collect()
    }

    /// The same ledger without entries that are older than any escrow should be; nothing where there are none.
    fn pruned(&self, seal: &Seal) -> Option<Vec<u8>> {
        let mut times = Vec::new();
        self.open(seal, 0, &mut |entry| times.push(entry.at.millis()))?;
        let oldest = times.last()?.saturating_sub(KEPT_MS);
        let old = self.frames.iter().zip(times).take_while(|(_, at)| *at < oldest).last();
        let before = old.map_or(self.first, |(frame, _)| frame.after);
        let header = (before != self.first).then(|| seal.header(before))?;
        Some([header, self.tail(before.entries)].concat())
    }

    /// Opens every entry, and hands on those after so many; `None` if one does not open.
    fn open(&self, seal: &Seal, after: u64, each: &mut dyn FnMut(Entry)) -> Option<()> {
        let mut before = self.first;
        for frame in &self.frames {
            let sealed = frame.bytes.get(ENTRY_HEAD..)?;
            let plain = seal.sealer.open(&seal.place(before, frame.sequence), sealed).ok()?;
            let entry = codec::decode(&plain)?;
            if frame.after.entries > after {
                each(entry);
            }
            before = frame.after;
        }
        Some(())
    }
}

impl<'a> Frame<'a> {
    fn parse(rest: &'a [u8], before: Point) -> Result<(Self, &'a [u8]), End> {
        if rest.iter().all(|byte| *byte == 0) {
            return Err(End::Torn { sequence: None });
        }
        let Some((head, _)) = rest.split_first_chunk::<ENTRY_HEAD>() else {
            return Err(End::Torn { sequence: None });
        };
        let [a, b, c, d, sequence @ .., _, _, _, _] = *head;
        let (length, sequence) = (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(sequence));
        let (known, told) = head.split_at_checked(12).ok_or(End::Damaged)?;
        if check(&before.link, known) != told {
            return Err(End::Damaged);
        }
        let length = usize::try_from(length).ok().and_then(|n| n.checked_add(ENTRY_HEAD)).ok_or(End::Damaged)?;
        let (bytes, rest) = rest.split_at_checked(length).ok_or(End::Torn { sequence: Some(sequence) })?;
        let after = Point { entries: before.entries.saturating_add(1), link: link(&before.link, bytes) };
        Ok((Self { sequence, bytes, after }, rest))
    }
}

fn link(before: &Link, bytes: &[u8]) -> Link {
    Sha256::new().chain_update(before).chain_update(bytes).finalize().into()
}

fn check(before: &Link, bytes: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = link(before, bytes);
    [a, b, c, d]
}

/// Reads a ledger, which is no link to one. One that is too long is not cut: its end is what a restore must not miss.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(room::NO_FOLLOW).open(path)?;
    let length = file.metadata()?.len();
    if length > limits::LEDGER_BYTES {
        return Err(ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Puts a whole ledger in its place in one step. Durable when it returns.
pub(super) fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_added_extension("new");
    room::put_in_place(&fresh, path, bytes)
}

/// Adds an entry to a copy that is exactly so long. Durable when it returns.
pub(super) fn append_at(path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).custom_flags(room::NO_FOLLOW).open(path)?;
    if file.metadata()?.len() != at {
        return Err(ErrorKind::InvalidData.into());
    }
    file.write_all_at(bytes, at)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, fixture};

    const DAY_MS: i64 = 86_400_000;

    #[test]
    fn entries_that_are_older_than_any_escrow_are_left_out_and_an_escrow_from_before_is_told_that_they_are_missing() {
        let room = tempfile::tempdir().unwrap();
        let (data, path) = (room.path().join("data"), room.path().join("ledger"));
        let store: Store = fixture::create(&data);
        let ring = store.ring();
        let disk = || Arc::new(crate::store::RealDisk);
        let open = || Withdrawals::open(&path, ring, disk(), u64::MAX, None, LedgerDoubt::Refuse).unwrap();
        let (ledger, begin) = (open(), fixture::at().millis());
        let kept_days = KEPT_MS / DAY_MS;
        let points: Vec<_> = (0..=kept_days + 2)
            .map(|day| ledger.enter_escrow(Instant::from_millis(begin + day * DAY_MS), 1).unwrap())
            .collect();
        let bytes = fs::read(&path).unwrap();
        let seal = Seal::of(ring);
        let frames = Frames::parse(&bytes, &seal.store_id).unwrap();
        put(&path, &frames.pruned(&seal).unwrap()).unwrap();
        // two days are beyond what is kept; what follows has its numbers and links as before
        let complete = |point: Point| Replay::read(&path, ring, Some(point)).unwrap().is_complete;
        let known: Vec<_> = points.iter().map(|point| complete(*point)).collect();
        assert_eq!(known.iter().filter(|known| !**known).count(), 2);
        assert!(!known[0] && !known[1] && known[2]);
        let again = open();
        assert_eq!(again.state().entries, points.len() as u64);
        again.enter_escrow(fixture::at(), 1).unwrap();
        assert!(complete(points[2]));
        let short = fs::read(&path).unwrap();
        assert!(Frames::parse(&short, &seal.store_id).unwrap().pruned(&seal).is_none(), "the clock was set back");
    }
}
