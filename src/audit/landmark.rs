//! A head known from elsewhere, held against the log: was the log once there? Knows nothing of where it was kept.

use super::{
    cursor::Cursor,
    fault::{Fault, LogError},
    frame::{EntryRecord, HeadRecord},
    log::Log,
    merkle::Hash,
    note::{Checkpoint, NoteError, SignedNote},
    walk::{Visitor, walk},
};

impl Log {
    /// What a note says, if it is a checkpoint that this log's key signed.
    pub fn own(&self, note: &SignedNote) -> Result<Checkpoint, NoteError> {
        note.open(&self.origin, &self.signer.public_key())
    }

    /// Whether the log had this root when it had `size` entries, as one of its signed heads says.
    pub fn passed(&self, size: u64, root: &Hash) -> Result<bool, LogError> {
        let head = self.head();
        if size >= head.size {
            return Ok(size == head.size && *root == head.root);
        }
        let mut landmark = Landmark { size, root, seen: false };
        match walk(&self.dir, &self.origin, &mut landmark).broken {
            None => Ok(landmark.seen),
            Some(broken) => Err(LogError::Damaged(broken)),
        }
    }
}

struct Landmark<'a> {
    size: u64,
    root: &'a Hash,
    seen: bool,
}

impl Visitor for Landmark<'_> {
    fn entry(&mut self, _: &EntryRecord<'_>) -> Result<(), Fault> {
        Ok(())
    }

    fn head(&mut self, head: &HeadRecord<'_>, _: &Cursor) -> Result<(), Fault> {
        self.seen |= head.size == self.size && head.root == *self.root;
        Ok(())
    }
}
