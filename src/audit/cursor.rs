//! A point in the log: everything that the next record must fit. Writer, reader and verifier all walk with it.

use super::{
    fault::Fault,
    frame::{self, EntryRecord, HeadRecord},
    log::Head,
    merkle::{Edge, Hash},
};

/// How far the log is.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    edge: Edge,
    link: Hash,
    group: u64,
}

impl Cursor {
    /// Before the first record of a log.
    pub(super) fn start(origin: &str) -> Self {
        Self { edge: Edge::default(), link: frame::link_start(origin), group: 0 }
    }

    /// How many entries there are; the last one's sequence number.
    pub(super) fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The number of the entry that is due.
    pub(super) fn due(&self) -> u64 {
        self.size().saturating_add(1)
    }

    /// The group of the last head.
    pub(super) fn group(&self) -> u64 {
        self.group
    }

    /// The last link.
    pub(super) fn link(&self) -> &Hash {
        &self.link
    }

    /// Size, root and group.
    pub(super) fn head(&self) -> Head {
        Head { size: self.size(), root: self.edge.root(), group: self.group }
    }

    /// Goes past an entry that fits.
    pub(super) fn pass_entry(&mut self, entry: &EntryRecord<'_>) -> Result<(), Fault> {
        let leaf = entry.leaf();
        let link = frame::link_entry(&self.link, &leaf);
        if link != entry.link {
            return Err(Fault::Chain);
        }
        // After the link, so that a flipped number reads as a change and a moved entry as a move.
        if entry.sequence != self.due() {
            return Err(Fault::Sequence);
        }
        self.edge.push(leaf);
        self.link = link;
        Ok(())
    }

    /// Goes past a head that fits. Its signature is the caller's to check.
    pub(super) fn pass_head(&mut self, head: &HeadRecord<'_>) -> Result<(), Fault> {
        if head.size > self.size() {
            return Err(Fault::Dropped);
        }
        let link = head.link_after(&self.link);
        let next = head.group == self.group || head.group == self.group.saturating_add(1);
        if link != head.link || head.size != self.size() || !next {
            return Err(Fault::Head);
        }
        if head.root != self.edge.root() {
            return Err(Fault::Root);
        }
        self.step(head.group, link);
        Ok(())
    }

    /// Goes past a head that was just made here.
    pub(super) fn step(&mut self, group: u64, link: Hash) {
        self.group = group;
        self.link = link;
    }
}
