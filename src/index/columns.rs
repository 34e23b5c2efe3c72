//! All that is kept of each vector, slot by slot: the vector itself, its codes, and what they need.
//!
//! Slots are places in memory, so an erased row is overwritten where it lies, in every column, before the lock on it is
//! let go: there is nothing to merge, and no copy to wait for. Its slot is used again.

use std::sync::Arc;

use super::{
    codec::{self, Codec, Scale},
    encoded::{Encoded, RowCodes},
    kernel::{Kernels, Line},
    rows::Rows,
};
use crate::model::Metric;

/// Bytes of a chunk of vectors, about. Between chunks some of the system's huge pages are lost: with chunks of a tenth that was a tenth of
/// all memory.
const VECTORS_BYTES: usize = 32 << 20;
/// Bytes of a chunk of codes.
const CODES_BYTES: usize = 16 << 20;

/// The columns of one collection.
pub(super) struct Columns {
    /// The vectors, from which every score is made.
    pub(super) exact: Rows,
    /// Their codes; none for vectors too short to be worth it.
    pub(super) codes: Option<Codes>,
}

/// Columns of codes.
pub(super) struct Codes {
    pub(super) codec: Arc<Codec>,
    /// A byte a component.
    pub(super) bytes: Rows<Line>,
    /// What the bytes need: see [`Scale`].
    pub(super) scales: Rows,
    /// A bit a component.
    pub(super) bits: Rows<Line>,
    /// What stands in place of a row that is no more.
    gone: RowCodes,
}

impl Columns {
    pub(super) fn new(dimension: usize, metric: Metric, kernels: Kernels) -> Self {
        let codes = (dimension >= codec::DIMENSION_MIN).then(|| Codes::new(Codec::new(dimension, metric, kernels)));
        Self { exact: Rows::in_chunks(dimension, VECTORS_BYTES), codes }
    }

    /// Keeps no vector from here on, where there are codes to find the near ones by.
    pub(super) fn leave_vectors(&mut self) {
        if self.codes.is_some() {
            self.exact = Rows::elsewhere(self.exact.width());
        }
    }

    /// Appends a row and tells its slot.
    pub(super) fn push(&mut self, row: &Encoded) -> u32 {
        if let Some(codes) = &mut self.codes {
            codes.push(row.codes());
        }
        self.exact.push(row.components())
    }

    /// Appends what is never near to anything.
    pub(super) fn push_gone(&mut self) -> u32 {
        if let Some(codes) = &mut self.codes {
            codes.push(None);
        }
        self.exact.push(&[])
    }

    /// Appends `count` rows by their codes, their vectors to follow; tells the first slot.
    pub(super) fn restore(&mut self, count: usize, bytes: &[Line], scales: &[f32], bits: &[Line]) -> u32 {
        if let Some(codes) = &mut self.codes {
            codes.bytes.append(bytes);
            codes.scales.append(scales);
            codes.bits.append(bits);
        }
        self.exact.append_blank(count)
    }

    /// Puts another row in the place of one that was wiped.
    pub(super) fn replace(&mut self, slot: u32, row: &Encoded) {
        self.exact.replace(slot, row.components());
        if let Some(codes) = &mut self.codes {
            codes.put(slot, row.codes());
        }
    }

    /// Overwrites a row.
    pub(super) fn wipe(&mut self, slot: u32) {
        self.exact.wipe(slot);
        if let Some(codes) = &mut self.codes {
            codes.put(slot, None);
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.exact.memory_bytes() + self.codes.as_ref().map_or(0, Codes::memory_bytes)
    }
}

impl Codes {
    fn new(codec: Codec) -> Self {
        Self {
            bytes: Rows::in_chunks(codec.byte_lines(), CODES_BYTES),
            scales: Rows::in_chunks(Scale::FLOATS, CODES_BYTES),
            bits: Rows::in_chunks(codec.bit_lines(), CODES_BYTES),
            gone: RowCodes::gone(&codec),
            codec: Arc::new(codec),
        }
    }

    pub(super) fn scale(&self, slot: u32) -> Scale {
        self.scales.row(slot).and_then(<[f32]>::as_array).map_or(Scale::GONE, |floats| Scale::of(*floats))
    }

    /// Appends the codes of a row, or the want of them.
    fn push(&mut self, codes: Option<&RowCodes>) {
        let RowCodes { bytes, scale, bits } = codes.unwrap_or(&self.gone);
        self.bytes.push(bytes);
        self.scales.push(&scale.floats());
        self.bits.push(bits);
    }

    /// Puts the codes of a row, or the want of them, in the place of others.
    fn put(&mut self, slot: u32, codes: Option<&RowCodes>) {
        let RowCodes { bytes, scale, bits } = codes.unwrap_or(&self.gone);
        self.bytes.replace(slot, bytes);
        self.scales.replace(slot, &scale.floats());
        self.bits.replace(slot, bits);
    }

    fn memory_bytes(&self) -> usize {
        self.bytes.memory_bytes() + self.scales.memory_bytes() + self.bits.memory_bytes()
    }
}

/// For tests that show which rows are read.
#[cfg(test)]
impl Columns {
    /// Fills a row with what would spoil any answer that it came into.
    pub(super) fn poison(&mut self, slot: u32, poison: f32) {
        self.exact.replace(slot, &vec![poison; self.exact.width()]);
        if let Some(codes) = &mut self.codes {
            let scale = Scale { scale: poison, bias: poison, length: poison, lost: poison };
            codes.bytes.replace(slot, &vec![Line([0xFF; 64]); codes.bytes.width()]);
            codes.scales.replace(slot, &scale.floats());
            codes.bits.replace(slot, &vec![Line([0x7F; 64]); codes.bits.width()]);
        }
    }
}
