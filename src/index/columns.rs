//! All that is kept of each vector, slot by slot: the vector itself, its codes, and what they need.
//!
//! Slots are places in memory, so an erased row is overwritten where it lies, in every column, before the lock on it is
//! let go: there is nothing to merge, and no copy to wait for. Its slot is used again.

use super::{
    codec::{self, Codec, Scale, Workspace},
    kernel::{Kernels, Line},
    rows::Rows,
};
use crate::model::Metric;

/// The columns of one collection.
pub(super) struct Columns {
    /// The vectors, from which every score is made.
    pub(super) exact: Rows,
    /// Their codes; none for vectors too short to be worth it.
    pub(super) codes: Option<Codes>,
}

/// Columns of codes.
pub(super) struct Codes {
    pub(super) codec: Codec,
    /// A byte a component.
    pub(super) bytes: Rows<Line>,
    /// What the bytes need: see [`Scale`].
    pub(super) scales: Rows,
    /// A bit a component.
    pub(super) bits: Rows<Line>,
    /// A row as it is being written.
    draft: Draft,
}

#[derive(Default)]
struct Draft {
    bytes: Vec<Line>,
    bits: Vec<Line>,
    workspace: Workspace,
}

impl Columns {
    pub(super) fn new(dimension: usize, metric: Metric, kernels: Kernels) -> Self {
        let codes = (dimension >= codec::DIMENSION_MIN).then(|| Codes::new(Codec::new(dimension, metric, kernels)));
        Self { exact: Rows::new(dimension), codes }
    }

    /// Appends a row and tells its slot. One of another dimension is never near to anything.
    pub(super) fn push(&mut self, vector: &[f32]) -> u32 {
        let fits = vector.len() == self.exact.width();
        if let Some(codes) = &mut self.codes {
            let scale = codes.draft(fits.then_some(vector));
            codes.bytes.push(&codes.draft.bytes);
            codes.scales.push(&scale.floats());
            codes.bits.push(&codes.draft.bits);
        }
        self.exact.push(vector)
    }

    /// Puts another row in the place of one that was wiped.
    pub(super) fn replace(&mut self, slot: u32, vector: &[f32]) {
        self.exact.replace(slot, vector);
        if let Some(codes) = &mut self.codes {
            let scale = codes.draft(Some(vector));
            codes.put(slot, scale);
        }
    }

    /// Overwrites a row.
    pub(super) fn wipe(&mut self, slot: u32) {
        self.exact.wipe(slot);
        if let Some(codes) = &mut self.codes {
            let scale = codes.draft(None);
            codes.put(slot, scale);
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.exact.memory_bytes() + self.codes.as_ref().map_or(0, Codes::memory_bytes)
    }
}

impl Codes {
    fn new(codec: Codec) -> Self {
        let (bytes, bits) = (codec.byte_lines(), codec.bit_lines());
        let draft =
            Draft { bytes: vec![Line::default(); bytes], bits: vec![Line::default(); bits], ..Draft::default() };
        Self { codec, bytes: Rows::new(bytes), scales: Rows::new(Scale::FLOATS), bits: Rows::new(bits), draft }
    }

    pub(super) fn scale(&self, slot: u32) -> Scale {
        self.scales.row(slot).and_then(<[f32]>::as_array).map_or(Scale::GONE, |floats| Scale::of(*floats))
    }

    /// Codes a vector, or the want of one, into the draft.
    fn draft(&mut self, vector: Option<&[f32]>) -> Scale {
        let Draft { bytes, bits, workspace } = &mut self.draft;
        match vector {
            Some(vector) => {
                self.codec.write_bits(vector, bits, workspace);
                self.codec.write_bytes(vector, bytes)
            }
            None => {
                Codec::write_gone(bits);
                bytes.fill(Line::default());
                workspace.wipe();
                Scale::GONE
            }
        }
    }

    fn put(&mut self, slot: u32, scale: Scale) {
        self.bytes.replace(slot, &self.draft.bytes);
        self.scales.replace(slot, &scale.floats());
        self.bits.replace(slot, &self.draft.bits);
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
            codes.draft.bytes.fill(Line([0xFF; 64]));
            codes.draft.bits.fill(Line([0x7F; 64]));
            codes.put(slot, Scale { scale: poison, bias: poison, length: poison, lost: poison });
        }
    }
}

#[cfg(test)]
impl Codes {
    /// Nothing of a vector is left where rows are drafted.
    pub(super) fn draft_is_blank(&self) -> bool {
        let Draft { bytes, bits, workspace } = &self.draft;
        let blank = |lines: &[Line]| lines.iter().flat_map(|line| line.0).rev().skip(2).all(|byte| byte == 0);
        blank(bytes) && blank(bits) && workspace.is_blank()
    }
}
