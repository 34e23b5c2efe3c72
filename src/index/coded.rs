//! Codes on their way to where they outlive the process, and back. Knows neither where that is nor whose they are.
//!
//! What comes back is believed of a row only once its record was seen to be the one that was coded: that is the caller's part.

use std::ops::Range;

use zeroize::Zeroizing;

use super::{
    VectorIndex,
    codec::Scale,
    columns::Codes,
    kernel::{LINE_BYTES, Line},
    rows::{Cell, Rows},
};

/// A copy of the codes of some rows, end to end. Wiped when dropped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Block {
    /// Codes of a byte a component.
    pub bytes: Zeroizing<Vec<u8>>,
    /// What they need beside: some numbers a row, little-endian.
    pub scales: Zeroizing<Vec<u8>>,
    /// Codes of a bit a component.
    pub bits: Zeroizing<Vec<u8>>,
}

impl VectorIndex {
    /// The codes of some slots as they are now, of whatever lies there; none for vectors too short to have any. Copied, not shared: whoever
    /// writes next has nothing to copy.
    pub fn block(&self, slots: Range<u32>) -> Block {
        let Some(codes) = &self.columns.codes else { return Block::default() };
        Block {
            bytes: copy(&codes.bytes, slots.clone(), |line| line.0),
            scales: copy(&codes.scales, slots.clone(), |number| number.to_le_bytes()),
            bits: copy(&codes.bits, slots, |line| line.0),
        }
    }

    /// Bytes of the codes of one row.
    pub fn code_bytes(&self) -> usize {
        let lines = |codes: &Codes| (codes.bytes.width() + codes.bits.width()) * LINE_BYTES;
        self.columns.codes.as_ref().map_or(0, |codes| lines(codes) + SCALE_BYTES)
    }

    /// Slots that were ever used.
    pub fn slots(&self) -> u32 {
        self.columns.exact.len()
    }

    /// Appends rows by their codes: for each, whether it is there. The vectors follow by `fill`. `None`, and nothing more is to be made of
    /// this index, where the block is not of such rows.
    pub fn restore(&mut self, block: &Block, there: &[bool]) -> Option<()> {
        let (width, bits_width) = match &self.columns.codes {
            Some(codes) => (codes.bytes.width(), codes.bits.width()),
            None => (0, 0),
        };
        let coded = width > 0;
        let fits = |bytes: &[u8], row: usize| bytes.len() == if coded { row * there.len() } else { 0 };
        if !(fits(&block.bytes, width * LINE_BYTES)
            && fits(&block.bits, bits_width * LINE_BYTES)
            && fits(&block.scales, SCALE_BYTES))
        {
            return None;
        }
        let first =
            self.columns.restore(there.len(), &lines(&block.bytes), &floats(&block.scales), &lines(&block.bits));
        for (slot, there) in (first..).zip(there) {
            if *there {
                self.live.insert(slot);
            } else {
                self.columns.wipe(slot);
                self.free.push(slot);
            }
        }
        Some(())
    }

    /// Gives restored rows their vectors, which lie end to end.
    pub fn fill(&mut self, slots: &[u32], vectors: &[f32]) {
        let rows = vectors.chunks_exact(self.columns.exact.width().max(1));
        for (slot, row) in slots.iter().zip(rows).filter(|(slot, _)| self.live.contains(**slot)) {
            self.columns.exact.replace(*slot, row);
        }
    }
}

const SCALE_BYTES: usize = Scale::FLOATS * size_of::<f32>();

/// In memory that does not move as it fills: nobody would wipe what it leaves.
fn copy<T: Cell, const BYTES: usize>(
    rows: &Rows<T>,
    slots: Range<u32>,
    bytes: impl Fn(&T) -> [u8; BYTES],
) -> Zeroizing<Vec<u8>> {
    let mut copy = Zeroizing::new(Vec::with_capacity(slots.len() * rows.width() * BYTES));
    rows.stretches(slots, |_, cells| cells.iter().for_each(|cell| copy.extend_from_slice(&bytes(cell))));
    copy
}

fn lines(bytes: &[u8]) -> Zeroizing<Vec<Line>> {
    Zeroizing::new(bytes.as_chunks::<LINE_BYTES>().0.iter().map(|line| Line(*line)).collect())
}

fn floats(bytes: &[u8]) -> Zeroizing<Vec<f32>> {
    Zeroizing::new(bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect())
}

/// For tests that show what a write must copy.
#[cfg(test)]
impl VectorIndex {
    /// Whether somebody else has a hold on the memory of any column.
    pub(crate) fn shares_memory(&self) -> bool {
        let coded = |codes: &Codes| codes.bytes.are_shared() || codes.scales.are_shared() || codes.bits.are_shared();
        self.columns.exact.are_shared() || self.columns.codes.as_ref().is_some_and(coded)
    }
}
