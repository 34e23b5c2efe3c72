//! Rows made ready to be put in. What takes time of that, their codes, needs no index: so whoever owns one has it to themselves for
//! no longer than copying takes. Knows no slot.

use std::sync::Arc;

use zeroize::Zeroize;

use super::{
    VectorIndex,
    codec::{Codec, Scale, Workspace},
    kernel::Line,
};
use crate::model::{Embedding, Metric};

/// Makes rows ready for the index that it is of. Holds nothing of that index but how it codes.
#[derive(Clone)]
pub struct Encoder {
    metric: Metric,
    dimension: usize,
    /// None for vectors too short to be worth it.
    codec: Option<Arc<Codec>>,
}

/// A vector with its codes, as [`VectorIndex::push`] takes it. Wiped when dropped.
pub struct Encoded {
    metric: Metric,
    vector: Embedding,
    codes: Option<RowCodes>,
}

/// The codes of one row.
pub(super) struct RowCodes {
    pub(super) bytes: Vec<Line>,
    pub(super) scale: Scale,
    pub(super) bits: Vec<Line>,
}

impl VectorIndex {
    /// What makes rows ready for this index; it may be used while somebody else has the index to themselves.
    pub fn encoder(&self) -> Encoder {
        Encoder {
            metric: self.metric,
            dimension: self.columns.exact.width(),
            codec: self.columns.codes.as_ref().map(|codes| Arc::clone(&codes.codec)),
        }
    }
}

impl Encoder {
    /// Makes one vector ready. One of another length is never near to anything.
    pub fn encode(&self, vector: Embedding) -> Encoded {
        let codec = self.codec.as_ref().filter(|_| vector.components().len() == self.dimension);
        let codes = codec.map(|codec| RowCodes::of(codec, vector.components()));
        Encoded { metric: self.metric, vector, codes }
    }
}

impl Encoded {
    /// Whether it is a row of an index of this dimension and metric.
    pub(super) fn is_of(&self, dimension: usize, metric: Metric) -> bool {
        self.metric == metric && self.vector.components().len() == dimension
    }

    pub(super) fn components(&self) -> &[f32] {
        self.vector.components()
    }

    pub(super) fn codes(&self) -> Option<&RowCodes> {
        self.codes.as_ref()
    }
}

impl RowCodes {
    fn of(codec: &Codec, vector: &[f32]) -> Self {
        let mut bytes = vec![Line::default(); codec.byte_lines()];
        let mut bits = vec![Line::default(); codec.bit_lines()];
        // made anew for each row, and wiped with it: nothing of a row that is erased later is left where it was coded
        codec.write_bits(vector, &mut bits, &mut Workspace::default());
        let scale = codec.write_bytes(vector, &mut bytes);
        Self { bytes, scale, bits }
    }

    /// Of a row that no question takes for near.
    pub(super) fn gone(codec: &Codec) -> Self {
        let bytes = vec![Line::default(); codec.byte_lines()];
        let mut bits = vec![Line::default(); codec.bit_lines()];
        Codec::write_gone(&mut bits);
        Self { bytes, scale: Scale::GONE, bits }
    }
}

impl Drop for RowCodes {
    fn drop(&mut self) {
        self.bytes.as_mut_slice().zeroize();
        self.bits.as_mut_slice().zeroize();
        let Scale { scale, bias, length, lost } = &mut self.scale;
        [scale, bias, length, lost].into_iter().for_each(Zeroize::zeroize);
        #[cfg(test)]
        self.show();
    }
}

#[cfg(test)]
impl RowCodes {
    fn show(&self) {
        super::tests::let_go(&self.bytes);
        super::tests::let_go(&self.bits);
        super::tests::let_go(&self.scale.floats());
    }
}
