//! The log being written: stage, append, read. One group of entries is one write, one signed head and one disk sync.
//!
//! The order for a group of requests, by one thread: `stage` the entries of changes, commit the changes with their frames in
//! the storage engine (if that fails, `unstage`), `stage` the entries of retrievals, `append` both, record the new head in the
//! manifest. Between two appends nothing else may be staged: numbers of entries that failed are used again.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{
    cursor::Cursor,
    disk::{Disk, DiskFile},
    entry::Entry,
    fault::LogError,
    frame::{self, EntryRecord, Record},
    merkle::Hash,
    note::{Checkpoint, SignedNote},
    read::Page,
    walk::Segment,
};
use crate::model::{Sealer, Signer};

/// Bytes after which a new file is begun.
pub(super) const SEGMENT_BYTES: u64 = 64 << 20;

/// Sealed and chained entries with their sequence numbers, in order.
pub type Frames = Vec<(u64, Vec<u8>)>;

/// How far the log is, durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// How many entries; also the last one's sequence number.
    pub size: u64,
    /// The root of the Merkle tree over them.
    pub root: Hash,
    /// The number of the last group: what the manifest may lag behind by one.
    pub group: u64,
}

/// A head as something outside the log remembers it.
pub type Expected = Head;

/// What `Log::open` had to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Bytes of a group that was never finished, cut away.
    pub cut_bytes: u64,
    /// Entries of changes that were committed but not yet in the log, now appended.
    pub appended: u64,
    /// Entries of changes whose number had been used for another entry, now appended under a new one.
    pub renumbered: u64,
}

/// The log, open for writing. Whoever holds it is the only writer.
pub struct Log {
    pub(super) dir: PathBuf,
    pub(super) origin: Arc<str>,
    pub(super) sealer: Arc<dyn Sealer>,
    pub(super) signer: Arc<dyn Signer>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) segments: Vec<Segment>,
    /// The last segment's file.
    pub(super) file: Box<dyn DiskFile>,
    /// The file may hold bytes beyond the last durable group.
    pub(super) untidy: bool,
    pub(super) durable: Cursor,
    pub(super) next_group: u64,
    /// Entries that must be in the log and could not be written yet.
    pub(super) pending: Frames,
    pub(super) staged: Tip,
    pub(super) segment_bytes: u64,
    pub(super) recovery: Recovery,
}

/// The end of what is staged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tip {
    last: u64,
    link: Hash,
}

impl Tip {
    pub(super) fn of(cursor: &Cursor) -> Self {
        Self { last: cursor.size(), link: *cursor.link() }
    }

    /// After a frame with this number.
    pub(super) fn at(last: u64, frame: &[u8]) -> Self {
        Self { last, link: frame.last_chunk().copied().unwrap_or_default() }
    }

    /// Whether the entry was staged right after this.
    pub(super) fn precedes(&self, entry: &EntryRecord<'_>) -> bool {
        entry.sequence == self.last.saturating_add(1) && entry.link == frame::link_entry(&self.link, &entry.leaf())
    }
}

/// A group as it will lie on disk.
struct Group {
    bytes: Vec<u8>,
    /// Where each entry begins in `bytes`.
    entries: Vec<(u64, usize)>,
    /// The point after it.
    after: Cursor,
}

impl Log {
    /// How far the log is, durably: what the manifest has to record.
    pub fn head(&self) -> Head {
        self.durable.head()
    }

    /// The log's files up to its durable end, in order, with their lengths: what a copy of it takes. More may be appended to them.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        self.segments.iter().map(|segment| (segment.path.clone(), segment.bytes)).collect()
    }

    /// Entries below this number are in the log durably: the storage engine need not keep their frames.
    pub fn settled_below(&self) -> u64 {
        self.durable.due()
    }

    /// How many entries of changes wait for a disk that takes them. Better not commit further changes then.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// What opening had to mend.
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// Begins a new file after so many bytes.
    #[must_use]
    pub fn with_segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Numbers, seals and chains entries. Nothing is on disk yet.
    pub fn stage(&mut self, entries: &[Entry]) -> Result<Frames, LogError> {
        let mut tip = self.staged;
        let frames = entries.iter().map(|entry| self.seal(&mut tip, entry)).collect::<Result<_, _>>()?;
        self.staged = tip;
        Ok(frames)
    }

    /// Gives up everything staged and not appended.
    pub fn unstage(&mut self) {
        self.staged = match self.pending.last() {
            Some((last, frame)) => Tip::at(*last, frame),
            None => Tip::of(&self.durable),
        };
    }

    /// Makes a group durable: what earlier appends left pending, then `must`, then `may`. If that fails, `must` is kept for the
    /// next append under the same numbers, `may` is given up, and the log is as it was.
    pub fn append(&mut self, must: Frames, may: Frames) -> Result<Head, LogError> {
        let frames = self.pending.iter().chain(&must).chain(&may);
        let Some(group) = self.group(frames)? else { return Ok(self.head()) };
        match self.write(&group) {
            Ok(()) => {
                self.advance(group);
                Ok(self.head())
            }
            Err(error) => {
                self.pending.extend(must);
                self.unstage();
                Err(LogError::NotDurable(error))
            }
        }
    }

    /// The entries after number `after`, at most `limit`, in order.
    pub fn read(&self, after: u64, limit: usize) -> Result<Vec<(u64, Entry)>, LogError> {
        self.page(after, limit).entries()
    }

    /// Where those entries lie: to be read without holding the log.
    pub fn page(&self, after: u64, limit: usize) -> Page {
        let until = self.durable.size().min(after.saturating_add(u64::try_from(limit).unwrap_or(u64::MAX)));
        Page::new(&self.segments, after, until, &self.origin, &self.sealer)
    }

    /// The head, signed for the outside.
    pub fn checkpoint(&self) -> SignedNote {
        SignedNote::new(&self.origin, &self.head(), self.signer.as_ref())
    }

    /// The same, and what log it came in the place of.
    pub fn checkpoint_after(&self, former: &Checkpoint) -> SignedNote {
        let line = format!("restored in place of {} {}\n", former.size, STANDARD.encode(former.root));
        SignedNote::extended(&self.origin, &self.head(), &line, self.signer.as_ref())
    }

    fn seal(&self, tip: &mut Tip, entry: &Entry) -> Result<(u64, Vec<u8>), LogError> {
        let sequence = tip.last.saturating_add(1);
        let plain = Zeroizing::new(serde_json::to_vec(entry).map_err(|_| LogError::Seal)?);
        let sealed = self.sealer.seal(&frame::place(&self.origin, sequence), &plain).map_err(|_| LogError::Seal)?;
        if sealed.len() > frame::ENTRY_BYTES {
            return Err(LogError::TooLarge);
        }
        let (record, link) = frame::encode_entry(sequence, &sealed, &tip.link);
        *tip = Tip { last: sequence, link };
        Ok((sequence, record))
    }

    /// Checks that the frames continue the log, and puts a signed head after them.
    fn group<'a>(&self, frames: impl Iterator<Item = &'a (u64, Vec<u8>)>) -> Result<Option<Group>, LogError> {
        let mut group = Group { bytes: Vec::new(), entries: Vec::new(), after: self.durable.clone() };
        for (sequence, frame) in frames {
            match frame::body(frame).and_then(frame::decode) {
                Some(Record::Entry(entry)) if entry.sequence == *sequence => {
                    group.after.pass_entry(&entry).map_err(|_| LogError::OutOfOrder)?;
                }
                Some(Record::Entry(_) | Record::Head(_)) | None => return Err(LogError::OutOfOrder),
            }
            group.entries.push((*sequence, group.bytes.len()));
            group.bytes.extend_from_slice(frame);
        }
        if group.entries.is_empty() {
            return Ok(None);
        }
        let Head { size, root, .. } = group.after.head();
        let head = (self.next_group, size, root);
        let (record, link) = frame::encode_head(self.signer.as_ref(), &self.origin, head, group.after.link());
        group.bytes.extend(record);
        group.after.step(self.next_group, link);
        Ok(Some(group))
    }

    fn write(&mut self, group: &Group) -> io::Result<()> {
        self.tidy()?;
        let Some(last) = self.segments.last() else { return Err(io::ErrorKind::NotFound.into()) };
        if last.bytes >= self.segment_bytes && last.first != self.durable.due() {
            return self.begin_segment(group);
        }
        let written = self.file.write_at(last.bytes, &group.bytes).and_then(|()| self.file.sync());
        if written.is_err() {
            self.untidy = true;
            // If this fails too, the next append tries again before it writes. After a failed sync the kernel may have
            // dropped what it could not write; all bytes from here on are written anew, so that a later sync covers them.
            let _ = self.tidy();
        }
        written
    }

    /// Cuts away what a failed write may have left.
    fn tidy(&mut self) -> io::Result<()> {
        if let (true, Some(last)) = (self.untidy, self.segments.last()) {
            self.file.truncate(last.bytes)?;
            self.file.sync()?;
            self.untidy = false;
        }
        Ok(())
    }

    /// Writes the group as the first of a new file.
    fn begin_segment(&mut self, group: &Group) -> io::Result<()> {
        let mut segment = Segment::new(&self.dir, self.durable.due());
        let header = frame::header(segment.first, self.durable.link());
        match write_new(self.disk.as_ref(), &self.dir, &segment.path, &[&header[..], &group.bytes].concat()) {
            Ok(file) => {
                segment.bytes = frame::HEADER_BYTES;
                self.segments.push(segment);
                self.file = file;
                Ok(())
            }
            Err(error) => {
                // What stays is emptied by the next attempt, which has the same name, or removed when the log is opened.
                let _ = self.disk.remove(&segment.path);
                Err(error)
            }
        }
    }

    fn advance(&mut self, group: Group) {
        if let Some(last) = self.segments.last_mut() {
            let offset = |n: usize| u64::try_from(n).unwrap_or(u64::MAX).saturating_add(last.bytes);
            let (places, end): (Vec<_>, _) = (
                group.entries.iter().map(|(sequence, at)| (*sequence, offset(*at))).collect(),
                offset(group.bytes.len()),
            );
            places.into_iter().for_each(|(sequence, at)| last.mark(sequence, at));
            last.bytes = end;
        }
        self.durable = group.after;
        self.next_group = self.durable.group().saturating_add(1);
        self.pending.clear();
        self.unstage();
    }
}

/// A new durable file with these bytes.
pub(super) fn write_new(disk: &dyn Disk, dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<Box<dyn DiskFile>> {
    let mut file = disk.create(path)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    disk.sync_dir(dir)?;
    Ok(file)
}
