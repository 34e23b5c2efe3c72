//! Reading entries back by number: from the nearest remembered place, never from the beginning.

use std::{path::PathBuf, sync::Arc};

use super::{
    entry::Entry,
    fault::{Break, Fault, LogError},
    frame::{self, EntryRecord, Record},
    walk::{MARK_EVERY, Records, Segment, file_name},
};
use crate::model::Sealer;

/// Some entries in a row, found but not yet read. Durable bytes never change, so it stays good while the log grows.
pub struct Page {
    spans: Vec<Span>,
    origin: Arc<str>,
    sealer: Arc<dyn Sealer>,
}

/// Is shown an entry's record and its whole body.
type Visit<'a> = dyn FnMut(&EntryRecord<'_>, &[u8]) -> Result<(), Fault> + 'a;

/// A part of one file.
struct Span {
    path: PathBuf,
    file_first: u64,
    /// Where to begin, at or before the first entry wanted.
    offset: u64,
    first: u64,
    last: u64,
}

impl Page {
    /// Entries `after + 1` to `until`.
    pub(super) fn new(
        segments: &[Segment],
        after: u64,
        until: u64,
        origin: &Arc<str>,
        sealer: &Arc<dyn Sealer>,
    ) -> Self {
        let ends = segments.iter().skip(1).map(|next| next.first.saturating_sub(1)).chain([u64::MAX]);
        let spans = segments.iter().zip(ends).filter_map(|(segment, end)| {
            let first = after.saturating_add(1).max(segment.first);
            let last = until.min(end);
            let mark = usize::try_from(first.saturating_sub(segment.first) / MARK_EVERY).ok()?;
            let offset = (first <= last).then(|| segment.marks.get(mark)).flatten()?;
            Some(Span { path: segment.path.clone(), file_first: segment.first, offset: *offset, first, last })
        });
        Self { spans: spans.collect(), origin: Arc::clone(origin), sealer: Arc::clone(sealer) }
    }

    /// Reads and opens them.
    pub fn entries(self) -> Result<Vec<(u64, Entry)>, LogError> {
        let mut entries = Vec::new();
        self.each(|entry, _| {
            entries.push((entry.sequence, open(self.sealer.as_ref(), &self.origin, entry)?));
            Ok(())
        })?;
        Ok(entries)
    }

    /// Shows each entry's record, and its whole body.
    pub(super) fn each(
        &self,
        mut visit: impl FnMut(&EntryRecord<'_>, &[u8]) -> Result<(), Fault>,
    ) -> Result<(), LogError> {
        self.spans.iter().try_for_each(|span| span.each(&mut visit))
    }
}

impl Span {
    fn each(&self, visit: &mut Visit<'_>) -> Result<(), LogError> {
        let mut due = self.first;
        let mut offset = self.offset;
        self.walk(visit, &mut due, &mut offset).map_err(|fault| {
            LogError::Damaged(Break { sequence: due, file: file_name(self.file_first), offset, fault })
        })
    }

    fn walk(&self, visit: &mut Visit<'_>, due: &mut u64, offset: &mut u64) -> Result<(), Fault> {
        let mut records = Records::open(&self.path)?;
        records.seek(self.offset)?;
        while *due <= self.last {
            *offset = records.offset;
            let body = records.next()?.ok_or(Fault::Unfinished)?;
            match frame::decode(body).ok_or(Fault::Form)? {
                Record::Entry(entry) if entry.sequence < self.first => {}
                Record::Entry(entry) if entry.sequence == *due => {
                    visit(&entry, body)?;
                    *due = due.saturating_add(1);
                }
                Record::Entry(_) => return Err(Fault::Sequence),
                Record::Head(_) => {}
            }
        }
        Ok(())
    }
}

/// Opens an entry's seal. The place it is sealed to holds its number and its log, so that none can stand in for another.
pub(super) fn open(sealer: &dyn Sealer, origin: &str, entry: &EntryRecord<'_>) -> Result<Entry, Fault> {
    let plain = sealer.open(&frame::place(origin, entry.sequence), entry.sealed).map_err(|_| Fault::Seal)?;
    serde_json::from_slice(&plain).map_err(|_| Fault::Content)
}
