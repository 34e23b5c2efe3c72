//! The auditor's view: from bytes and a public key alone, names the first entry that is not what was written.

use std::path::Path;

use super::{
    cursor::Cursor,
    fault::{Break, Fault},
    frame::{EntryRecord, HeadRecord},
    log::{Expected, Head},
    merkle::Hash,
    note::is_signed,
    read,
    walk::{Visitor, Walk, file_name, walk},
};
use crate::model::Sealer;

/// What verifying found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The last signed head up to which everything is sound.
    pub head: Head,
    /// Whether the seals were opened too, or the structure alone was looked at.
    pub opened: bool,
    /// Bytes after the last head of a group that was never finished, and so never acknowledged: the trace of a crash.
    /// Told apart from damage only where an expected head is given and reached.
    pub unfinished_bytes: u64,
    /// What is wrong, if anything is.
    pub broken: Option<Break>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.broken.is_none()
    }
}

/// Verifies the log in `dir`. Without `opener` the seals stay shut and everything else is checked; without `expected` a log that was
/// cut back to an earlier head cannot be told from one that ends there.
pub fn verify(
    dir: &Path,
    origin: &str,
    opener: Option<&dyn Sealer>,
    public_key: [u8; 32],
    expected: Option<Expected>,
) -> Report {
    let mut auditor = Auditor { origin, opener, public_key, expected, every: false, met: false, last: None };
    let mut found = walk(dir, origin, &mut auditor);
    // The last signature covers every byte before it. Only if it fails do the others tell where the trouble begins.
    if !auditor.last_is_signed() {
        auditor = Auditor { every: true, met: false, last: None, ..auditor };
        found = walk(dir, origin, &mut auditor);
    }
    auditor.report(found)
}

struct Auditor<'a> {
    origin: &'a str,
    opener: Option<&'a dyn Sealer>,
    public_key: [u8; 32],
    expected: Option<Expected>,
    /// Check every signature, not the last alone.
    every: bool,
    met: bool,
    last: Option<(Vec<u8>, [u8; 64])>,
}

impl Visitor for Auditor<'_> {
    fn entry(&mut self, entry: &EntryRecord<'_>) -> Result<(), Fault> {
        match self.opener {
            Some(sealer) => read::open(sealer, self.origin, entry).map(drop),
            None => Ok(()),
        }
    }

    fn head(&mut self, head: &HeadRecord<'_>, before: &Cursor) -> Result<(), Fault> {
        let message = head.message(self.origin, before.link());
        if self.every && !is_signed(&self.public_key, &message, &head.signature) {
            return Err(Fault::Signature);
        }
        self.compare(head.size, &head.root)?;
        self.last = Some((message, head.signature));
        Ok(())
    }
}

impl Auditor<'_> {
    fn compare(&mut self, size: u64, root: &Hash) -> Result<(), Fault> {
        let Some(expected) = &self.expected else { return Ok(()) };
        if size == expected.size {
            self.met = *root == expected.root;
        }
        if size >= expected.size && !self.met { Err(Fault::OtherHead) } else { Ok(()) }
    }

    fn last_is_signed(&self) -> bool {
        match &self.last {
            Some((message, signature)) => is_signed(&self.public_key, message, signature),
            None => true,
        }
    }

    fn report(&self, found: Walk) -> Report {
        let head = found.good.head();
        let mut report = Report { head, opened: self.opener.is_some(), unfinished_bytes: 0, broken: found.broken };
        let unfinished = |broken: &Break| broken.fault == Fault::Unfinished && found.at_end;
        if self.met && report.broken.as_ref().is_some_and(unfinished) {
            report.broken = None;
            report.unfinished_bytes = found.excess;
        }
        if report.broken.is_none() {
            report.broken = self.expected.as_ref().and_then(|expected| self.shortfall(&head, expected));
        }
        report
    }

    /// What is wrong with where the log ends.
    fn shortfall(&self, head: &Head, expected: &Expected) -> Option<Break> {
        let fault = if !self.met || head.group < expected.group {
            Fault::CutBack
        } else if head.group > expected.group.saturating_add(1) {
            Fault::Ahead
        } else {
            return None;
        };
        let sequence = head.size.saturating_add(1);
        Some(Break { sequence, file: file_name(sequence), offset: 0, fault })
    }
}
