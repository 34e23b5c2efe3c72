//! Rows of f32 in big chunks that are never moved: growing copies nothing, and a run of slots is a run of memory.

use std::{ops::Range, sync::Arc};

use zeroize::Zeroize;

/// Bytes of a chunk, about. Its memory is reserved at once, but taken from the system only page by page as rows come.
const CHUNK_BYTES: usize = 4 << 20;
/// Floats in a cache line: a chunk's first row begins on one.
const LINE: usize = 16;

/// Append-only rows. A clone shares the chunks: it is a snapshot, and whoever writes next copies the one chunk it
/// writes to.
#[derive(Clone)]
pub(super) struct Rows {
    dimension: usize,
    /// Rows in a chunk are two to this power, so that finding a row is a shift and a mask.
    shift: u32,
    len: u32,
    chunks: Vec<Arc<Chunk>>,
}

impl Rows {
    pub(super) fn new(dimension: usize) -> Self {
        let fit = CHUNK_BYTES / (dimension.max(1) * size_of::<f32>());
        Self { dimension, shift: fit.max(1).ilog2(), len: 0, chunks: Vec::new() }
    }

    pub(super) fn dimension(&self) -> usize {
        self.dimension
    }

    fn per_chunk(&self) -> usize {
        1 << self.shift
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Appends a row and tells its number. A row of another length is kept as zeros, so that numbers stay dense.
    pub(super) fn push(&mut self, row: &[f32]) -> u32 {
        let number = self.len;
        if self.len as usize == self.chunks.len() * self.per_chunk() {
            self.chunks.push(Arc::new(Chunk::new(self.per_chunk() * self.dimension)));
        }
        if let Some(last) = self.chunks.last_mut() {
            Arc::make_mut(last).push(row, self.dimension);
        }
        self.len = self.len.saturating_add(1);
        number
    }

    pub(super) fn row(&self, number: u32) -> Option<&[f32]> {
        let (chunk, at) = self.place(number);
        self.chunks.get(chunk)?.rows().get(at..at + self.dimension)
    }

    /// Calls `each` with the pieces of contiguous memory that hold `range`, and the number of each one's first row.
    pub(super) fn stretches(&self, range: Range<u32>, mut each: impl FnMut(u32, &[f32])) {
        let mut from = range.start;
        while from < range.end {
            let (chunk, at) = self.place(from);
            let room = self.per_chunk() - (from as usize & (self.per_chunk() - 1));
            let count = room.min((range.end - from) as usize);
            let floats = self.chunks.get(chunk).and_then(|c| c.rows().get(at..at + count * self.dimension));
            let Some(floats) = floats else { return };
            each(from, floats);
            from += count as u32;
        }
    }

    /// Puts another row in the place of one that was wiped.
    pub(super) fn replace(&mut self, number: u32, row: &[f32]) {
        let (chunk, at) = self.place(number);
        let dimension = self.dimension;
        if row.len() == dimension
            && let Some(chunk) = self.chunks.get_mut(chunk)
            && let Some(place) = Arc::make_mut(chunk).rows_mut().get_mut(at..at + dimension)
        {
            place.copy_from_slice(row);
        }
    }

    /// Overwrites a row. A snapshot taken before keeps its own copy of the chunk, wiped when the snapshot goes.
    pub(super) fn wipe(&mut self, number: u32) {
        self.fill(number, 0.0);
    }

    pub(super) fn fill(&mut self, number: u32, value: f32) {
        let (chunk, at) = self.place(number);
        let dimension = self.dimension;
        if let Some(chunk) = self.chunks.get_mut(chunk)
            && let Some(row) = Arc::make_mut(chunk).rows_mut().get_mut(at..at + dimension)
        {
            row.zeroize();
            row.fill(value);
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.chunks.iter().map(|c| size_of_val(c.floats.as_slice())).sum()
    }

    /// The chunk of a row and the float that it begins at.
    fn place(&self, number: u32) -> (usize, usize) {
        let number = number as usize;
        (number >> self.shift, (number & (self.per_chunk() - 1)) * self.dimension)
    }
}

/// Memory for rows, of fixed capacity, wiped when dropped.
struct Chunk {
    /// Begins with `skip` unused floats, so that the rows begin on a cache line.
    floats: Vec<f32>,
    skip: usize,
    capacity: usize,
}

impl Chunk {
    fn new(capacity: usize) -> Self {
        let mut floats: Vec<f32> = Vec::with_capacity(capacity + LINE);
        let skip = floats.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        floats.resize(skip, 0.0);
        Self { floats, skip, capacity }
    }

    fn push(&mut self, row: &[f32], dimension: usize) {
        if row.len() == dimension {
            self.floats.extend_from_slice(row);
        } else {
            self.floats.resize(self.floats.len() + dimension, 0.0);
        }
    }

    fn rows(&self) -> &[f32] {
        self.floats.get(self.skip..).unwrap_or_default()
    }

    fn rows_mut(&mut self) -> &mut [f32] {
        self.floats.get_mut(self.skip..).unwrap_or_default()
    }
}

/// Keeps the spare capacity: a copied chunk must not move when it grows either.
impl Clone for Chunk {
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.capacity);
        copy.floats.extend_from_slice(self.rows());
        copy
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.floats.as_mut_slice().zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stay_where_they_are_while_others_come() {
        let mut rows = Rows::new(1000);
        rows.push(&[1.0; 1000]);
        let before = rows.row(0).unwrap().as_ptr();
        for i in 0..3000 {
            rows.push(&[i as f32; 1000]);
        }
        assert_eq!(rows.row(0).unwrap().as_ptr(), before);
        assert_eq!(before.align_offset(64), 0);
        assert_eq!(rows.row(3000).unwrap(), [2999.0; 1000]);
        assert_eq!(rows.row(3001), None);
    }

    #[test]
    fn a_snapshot_keeps_its_rows_while_the_original_is_wiped_and_grows() {
        let mut rows = Rows::new(2);
        rows.push(&[1.0, 2.0]);
        let snapshot = rows.clone();
        rows.wipe(0);
        rows.push(&[3.0, 4.0]);
        assert_eq!(snapshot.row(0).unwrap(), [1.0, 2.0]);
        assert_eq!((rows.row(0).unwrap(), rows.row(1).unwrap()), (&[0.0, 0.0][..], &[3.0, 4.0][..]));
        assert_eq!(snapshot.row(1), None);
    }

    #[test]
    fn stretches_cover_a_range_in_order_and_once() {
        for dimension in [2, 3, 384, 8192] {
            let mut rows = Rows::new(dimension);
            let count = (rows.per_chunk() * 2 + 3).min(20_000) as u32;
            for i in 0..count {
                rows.push(&vec![i as f32; dimension]);
            }
            let mut seen = Vec::new();
            rows.stretches(1..count - 1, |from, floats| {
                for (i, row) in floats.chunks_exact(dimension).enumerate() {
                    assert_eq!(row[0], (from as usize + i) as f32);
                    seen.push(from + i as u32);
                }
            });
            assert_eq!(seen, (1..count - 1).collect::<Vec<_>>());
        }
    }
}
