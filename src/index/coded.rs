//! Codes on their way to where they outlive the process, and back. Knows neither where that is nor whose they are.
//!
//! What comes back is believed of a row only once its record was seen to be the one that was coded: that is the caller's part.

use std::ops::Range;

use super::{
    VectorIndex,
    codec::Scale,
    columns::Codes,
    kernel::{LINE_BYTES, Line},
    rows::Rows,
};

/// The codes of an index at one moment. Shares its memory: what is wiped there meanwhile is wiped here when this is dropped.
pub struct Coded {
    bytes: Rows<Line>,
    scales: Rows,
    bits: Rows<Line>,
}

/// Codes of some rows, end to end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Block {
    /// Codes of a byte a component.
    pub bytes: Vec<u8>,
    /// What they need beside: some numbers a row, little-endian.
    pub scales: Vec<u8>,
    /// Codes of a bit a component.
    pub bits: Vec<u8>,
}

impl Coded {
    pub(super) fn of(codes: &Codes) -> Self {
        Self { bytes: codes.bytes.clone(), scales: codes.scales.clone(), bits: codes.bits.clone() }
    }

    /// Those of some slots.
    pub fn block(&self, slots: Range<u32>) -> Block {
        let mut block = Block::default();
        let lines = |from: &[Line], to: &mut Vec<u8>| from.iter().for_each(|line| to.extend_from_slice(&line.0));
        self.bytes.stretches(slots.clone(), |_, cells| lines(cells, &mut block.bytes));
        self.bits.stretches(slots.clone(), |_, cells| lines(cells, &mut block.bits));
        self.scales.stretches(slots, |_, cells| {
            cells.iter().for_each(|number| block.scales.extend_from_slice(&number.to_le_bytes()));
        });
        block
    }
}

impl VectorIndex {
    /// The codes as they are now; none for vectors too short to have any.
    pub fn coded(&self) -> Option<Coded> {
        self.columns.codes.as_ref().map(Coded::of)
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

fn lines(bytes: &[u8]) -> Vec<Line> {
    bytes.as_chunks::<LINE_BYTES>().0.iter().map(|line| Line(*line)).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}
