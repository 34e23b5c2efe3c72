//! Making a log, and opening one after whatever happened to it: a crash is mended, anything else is refused.

use std::{path::Path, sync::Arc};

use super::{
    cursor::Cursor,
    disk::Disk,
    fault::{Break, Fault, LogError},
    frame::{self, EntryRecord, HeadRecord, Record},
    log::{Expected, Frames, Head, Log, Recovery, Tip, write_new},
    note::{is_name, is_signed},
    read,
    walk::{Segment, Visitor, Walk, walk},
};
use crate::model::{Sealer, Signer};

impl Log {
    /// Makes an empty log in `dir`, which is made if it is not there. `origin` names the log in checkpoints and seals.
    pub fn create(
        dir: &Path,
        origin: &str,
        sealer: Arc<dyn Sealer>,
        signer: Arc<dyn Signer>,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, LogError> {
        check_origin(origin)?;
        disk.make_dir(dir).map_err(LogError::NotDurable)?;
        let mut segment = Segment::new(dir, 1);
        if segment.path.exists() {
            return Err(LogError::Exists);
        }
        let mut cursor = Cursor::start(origin);
        let mut bytes = frame::header(1, cursor.link());
        let Head { size, root, group } = cursor.head();
        let (record, link) = frame::encode_head(signer.as_ref(), origin, (group, size, root), cursor.link());
        bytes.extend(record);
        cursor.step(group, link);
        let file = write_new(disk.as_ref(), dir, &segment.path, &bytes).map_err(LogError::NotDurable)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // The directory itself may be new.
            disk.sync_dir(parent).map_err(LogError::NotDurable)?;
        }
        segment.bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(Self {
            dir: dir.to_owned(),
            origin: origin.into(),
            sealer,
            signer,
            disk,
            segments: vec![segment],
            file,
            untidy: false,
            staged: Tip::of(&cursor),
            durable: cursor,
            next_group: 1,
            pending: Frames::new(),
            segment_bytes: super::log::SEGMENT_BYTES,
            recovery: Recovery::default(),
        })
    }

    /// Opens the log in `dir`, every record of it checked. `expected` is the head that the manifest recorded last: all up to it must
    /// be there unchanged; beyond it lies at most one group, cut away if it was never finished. `outbox` holds the frames
    /// of changes that the storage engine has kept: those that the log lacks are appended. Record the head in the manifest next.
    pub fn open(
        dir: &Path,
        origin: &str,
        sealer: Arc<dyn Sealer>,
        signer: Arc<dyn Signer>,
        disk: Arc<dyn Disk>,
        expected: Expected,
        outbox: Frames,
    ) -> Result<Self, LogError> {
        check_origin(origin)?;
        let mut gate = Gate { origin, public_key: signer.public_key(), expected, met: false };
        let found = walk(dir, origin, &mut gate);
        check(&found, &expected, gate.met)?;
        let cut_bytes = cut(disk.as_ref(), dir, &found).map_err(LogError::NotDurable)?;
        let Some(last) = found.segments.last() else { return Err(damaged(&found)) };
        let mut log = Self {
            dir: dir.to_owned(),
            origin: origin.into(),
            sealer,
            signer,
            file: disk.open(&last.path).map_err(LogError::Unreadable)?,
            disk,
            untidy: false,
            staged: Tip::of(&found.good),
            // A group that the manifest does not know yet and the next one share a number, so that a crash before the
            // manifest is written never leaves the log two groups ahead of it.
            next_group: expected.group.saturating_add(1),
            durable: found.good,
            segments: found.segments,
            pending: Frames::new(),
            segment_bytes: super::log::SEGMENT_BYTES,
            recovery: Recovery { cut_bytes, ..Recovery::default() },
        };
        log.settle(outbox)?;
        Ok(log)
    }

    /// Appends what the storage engine kept and the log lacks.
    fn settle(&mut self, mut outbox: Frames) -> Result<(), LogError> {
        outbox.sort_unstable_by_key(|(sequence, _)| *sequence);
        let size = self.durable.size();
        let mut continues = Frames::new();
        let mut collides = Vec::new();
        for (sequence, bytes) in outbox {
            let Some(Record::Entry(record)) = frame::body(&bytes).and_then(frame::decode) else {
                return Err(LogError::Outbox);
            };
            let entry = read::open(self.sealer.as_ref(), &self.origin, &record).map_err(|_| LogError::Outbox)?;
            if record.sequence != sequence {
                return Err(LogError::Outbox);
            }
            if sequence <= size {
                // The usual case after a crash: appended already. Otherwise the number went to another entry, because the
                // engine had reported the change as failed that was durable after all.
                if !self.holds(sequence, &bytes)? {
                    collides.push(entry);
                }
            } else if self.continues(continues.last(), &record) {
                continues.push((sequence, bytes));
            } else if continues.is_empty() && collides.is_empty() {
                return Err(LogError::CutBack { found: size, expected: sequence.saturating_sub(1) });
            } else {
                collides.push(entry);
            }
        }
        // Counts, whether they reach the disk now or with the next append.
        self.recovery.appended = u64::try_from(continues.len()).unwrap_or(u64::MAX);
        self.recovery.renumbered = u64::try_from(collides.len()).unwrap_or(u64::MAX);
        if let Some((last, frame)) = continues.last() {
            self.staged = Tip::at(*last, frame);
        }
        continues.extend(self.stage(&collides)?);
        match self.append(continues, Frames::new()) {
            // They are pending now: the store opens on a full disk, and answers nothing until there is space.
            Ok(_) | Err(LogError::NotDurable(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether the frame follows what was found before it: those kept already, or the log's end.
    fn continues(&self, kept: Option<&(u64, Vec<u8>)>, record: &EntryRecord<'_>) -> bool {
        let tip = kept.map_or_else(|| Tip::of(&self.durable), |(last, frame)| Tip::at(*last, frame));
        tip.precedes(record)
    }

    /// Whether the log holds just this frame under this number.
    fn holds(&self, sequence: u64, frame: &[u8]) -> Result<bool, LogError> {
        let mut same = false;
        self.page(sequence.saturating_sub(1), 1).each(|_, body| {
            same = frame::body(frame) == Some(body);
            Ok(())
        })?;
        Ok(same)
    }
}

/// Compares the log with the head that is expected, while it is walked.
struct Gate<'a> {
    origin: &'a str,
    public_key: [u8; 32],
    expected: Expected,
    met: bool,
}

impl Visitor for Gate<'_> {
    fn entry(&mut self, _: &EntryRecord<'_>) -> Result<(), Fault> {
        Ok(())
    }

    fn head(&mut self, head: &HeadRecord<'_>, before: &Cursor) -> Result<(), Fault> {
        if head.size == self.expected.size {
            self.met = head.root == self.expected.root;
        }
        if head.size >= self.expected.size && !self.met {
            return Err(Fault::OtherHead);
        }
        // Up to the expected head the root vouches for everything; beyond it only the signature does.
        let vouched = head.size <= self.expected.size
            || is_signed(&self.public_key, &head.message(self.origin, before.link()), &head.signature);
        if vouched { Ok(()) } else { Err(Fault::Signature) }
    }
}

fn check_origin(origin: &str) -> Result<(), LogError> {
    if is_name(origin) { Ok(()) } else { Err(LogError::Origin) }
}

/// Refuses whatever a crash cannot explain.
fn check(found: &Walk, expected: &Expected, met: bool) -> Result<(), LogError> {
    let cut_back = LogError::CutBack { found: found.good.size(), expected: expected.size };
    match &found.broken {
        Some(broken) if broken.fault == Fault::Unfinished && found.at_end && !met => return Err(cut_back),
        Some(_) if !met || !found.at_end || found.segments.is_empty() => return Err(damaged(found)),
        Some(broken) if !is_crash(broken.fault) => return Err(damaged(found)),
        None if !met => return Err(cut_back),
        Some(_) | None => {}
    }
    if found.good.group() < expected.group {
        return Err(cut_back);
    }
    if found.good.group() > expected.group.saturating_add(1) { Err(LogError::Ahead) } else { Ok(()) }
}

/// Whether a write that was cut off by a crash can look like this.
fn is_crash(fault: Fault) -> bool {
    match fault {
        Fault::Header
        | Fault::Unfinished
        | Fault::Form
        | Fault::Sequence
        | Fault::Chain
        | Fault::Dropped
        | Fault::Head
        | Fault::Root
        | Fault::Signature => true,
        Fault::Unreadable(_)
        | Fault::Missing
        | Fault::Stranger
        | Fault::Seal
        | Fault::Content
        | Fault::CutBack
        | Fault::OtherHead
        | Fault::Ahead => false,
    }
}

/// Cuts away a group that was never finished; answers how many bytes it had.
fn cut(disk: &dyn Disk, dir: &Path, found: &Walk) -> std::io::Result<u64> {
    match (&found.broken, &found.beyond, found.segments.last()) {
        (None, _, _) | (Some(_), None, None) => return Ok(0),
        (Some(_), Some(beyond), _) => {
            disk.remove(&beyond.path)?;
            disk.sync_dir(dir)?;
        }
        (Some(_), None, Some(last)) => {
            let mut file = disk.open(&last.path)?;
            file.truncate(last.bytes)?;
            file.sync()?;
        }
    }
    Ok(found.excess)
}

fn damaged(found: &Walk) -> LogError {
    let nowhere = || Break { sequence: 1, file: String::from("."), offset: 0, fault: Fault::Missing };
    LogError::Damaged(found.broken.clone().unwrap_or_else(nowhere))
}
