//! Rows in big chunks that are never moved: growing copies nothing, and a run of slots is a run of memory.

use std::{ops::Range, sync::Arc};

use zeroize::{DefaultIsZeroes, Zeroize};

use super::kernel::prefetch;

/// Bytes of a cache line: a chunk's first row begins on one.
const LINE_BYTES: usize = 64;

/// What rows are made of.
pub(super) trait Cell: DefaultIsZeroes + PartialEq {}

impl<T: DefaultIsZeroes + PartialEq> Cell for T {}

/// Rows of equal width. A clone shares the chunks: it is a snapshot, and whoever writes next copies the one chunk it
/// writes to.
#[derive(Clone)]
pub(super) struct Rows<T: Cell = f32> {
    width: usize,
    /// Rows in a chunk are two to this power, so that finding a row is a shift and a mask.
    shift: u32,
    len: u32,
    chunks: Vec<Arc<Chunk<T>>>,
    kept: Kept,
}

/// Whether rows are kept, or only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Here,
    Elsewhere,
}

impl<T: Cell> Rows<T> {
    /// No rows yet, of `width` cells each, in chunks of about so many bytes. A chunk's memory is reserved at once, but taken from the system
    /// only page by page as rows come.
    pub(super) fn in_chunks(width: usize, bytes: usize) -> Self {
        let fit = bytes / (width * size_of::<T>()).max(1);
        Self { width, shift: fit.max(1).ilog2(), len: 0, chunks: Vec::new(), kept: Kept::Here }
    }

    /// Counts rows, and keeps none of them.
    pub(super) fn elsewhere(width: usize) -> Self {
        Self { kept: Kept::Elsewhere, ..Self::in_chunks(width, 0) }
    }

    /// No rows yet, of the same make.
    pub(super) fn alike(&self) -> Self {
        Self { width: self.width, shift: self.shift, len: 0, chunks: Vec::new(), kept: self.kept }
    }

    /// Whether rows are only counted.
    pub(super) fn are_elsewhere(&self) -> bool {
        self.kept == Kept::Elsewhere
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    fn per_chunk(&self) -> usize {
        1 << self.shift
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Appends a row and tells its number. A row of another width is kept as zeros, so that numbers stay dense.
    pub(super) fn push(&mut self, row: &[T]) -> u32 {
        let number = self.len;
        if self.kept == Kept::Elsewhere {
            self.len = self.len.saturating_add(1);
            return number;
        }
        self.open_chunk();
        if let Some(last) = self.chunks.last_mut() {
            Arc::make_mut(last).push(row, self.width);
        }
        self.len = self.len.saturating_add(1);
        number
    }

    /// Makes room for a row where the last chunk is full.
    fn open_chunk(&mut self) {
        if self.len as usize == self.chunks.len() * self.per_chunk() {
            self.chunks.push(Arc::new(Chunk::new(self.per_chunk() * self.width)));
        }
    }

    #[inline]
    pub(super) fn row(&self, number: u32) -> Option<&[T]> {
        let (chunk, at) = self.place(number);
        self.chunks.get(chunk)?.cells().get(at..at + self.width)
    }

    /// Asks memory for the beginning of a row that will be read soon.
    #[inline]
    pub(super) fn prefetch(&self, number: u32) {
        self.row(number).and_then(<[T]>::first).into_iter().for_each(prefetch);
    }

    /// Calls `each` with the pieces of contiguous memory that hold `range`, and the number of each one's first row.
    pub(super) fn stretches(&self, range: Range<u32>, mut each: impl FnMut(u32, &[T])) {
        let mut from = range.start;
        while from < range.end {
            let (chunk, at) = self.place(from);
            let room = self.per_chunk() - (from as usize & (self.per_chunk() - 1));
            let count = room.min((range.end - from) as usize);
            let cells = self.chunks.get(chunk).and_then(|c| c.cells().get(at..at + count * self.width));
            let Some(cells) = cells else { return };
            each(from, cells);
            from += count as u32;
        }
    }

    /// Appends rows that lie end to end.
    pub(super) fn append(&mut self, mut cells: &[T]) {
        let width = self.width.max(1);
        while cells.len() >= width {
            let rows = self.room().min(cells.len() / width);
            let Some((now, later)) = cells.split_at_checked(rows * width) else { return };
            self.open_chunk();
            if let Some(last) = self.chunks.last_mut() {
                Arc::make_mut(last).cells.extend_from_slice(now);
            }
            self.len = self.len.saturating_add(rows as u32);
            cells = later;
        }
    }

    /// Appends rows of zeros and tells the number of the first. Most of their memory is taken from the system only once it is written to.
    pub(super) fn append_blank(&mut self, count: usize) -> u32 {
        let (first, mut left) = (self.len, count);
        while left > 0 {
            let (room, all) = (self.room(), self.per_chunk());
            let rows = room.min(left);
            match (self.kept, self.chunks.last_mut()) {
                (Kept::Elsewhere, _) => {}
                (Kept::Here, Some(last)) if room < all => Arc::make_mut(last).lengthen(rows * self.width),
                (Kept::Here, _) => {
                    self.chunks.push(Arc::new(Chunk::blank(all * self.width, rows * self.width)));
                }
            }
            self.len = self.len.saturating_add(rows as u32);
            left -= rows;
        }
        first
    }

    /// Rows that the last chunk, or the next one where it is full, has room for.
    fn room(&self) -> usize {
        self.per_chunk() - (self.len as usize & (self.per_chunk() - 1))
    }

    /// All rows of the chunk that holds `number`, and the numbers of the first of them and of the first beyond them.
    #[inline]
    pub(super) fn chunk(&self, number: u32) -> Option<(Range<u32>, &[T])> {
        let first = number >> self.shift << self.shift;
        let cells = self.chunks.get((number >> self.shift) as usize)?.cells();
        let end = first.saturating_add(self.per_chunk() as u32).min(self.len);
        Some((first..end, cells))
    }

    /// Puts another row in the place of one that was wiped.
    pub(super) fn replace(&mut self, number: u32, row: &[T]) {
        if let Some(place) = self.row_mut(number)
            && place.len() == row.len()
        {
            place.copy_from_slice(row);
        }
    }

    /// Overwrites a row. A snapshot taken before keeps its own copy of the chunk, wiped when the snapshot goes.
    pub(super) fn wipe(&mut self, number: u32) {
        if let Some(row) = self.row_mut(number) {
            row.zeroize();
        }
    }

    fn row_mut(&mut self, number: u32) -> Option<&mut [T]> {
        let (chunk, at) = self.place(number);
        let width = self.width;
        Arc::make_mut(self.chunks.get_mut(chunk)?).cells_mut().get_mut(at..at + width)
    }

    /// Whether whoever writes may have to copy a chunk first.
    #[cfg(test)]
    pub(super) fn are_shared(&self) -> bool {
        self.chunks.iter().any(|chunk| Arc::strong_count(chunk) > 1)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.chunks.iter().map(|c| size_of_val(c.cells.as_slice())).sum()
    }

    /// The chunk of a row and the cell that it begins at.
    fn place(&self, number: u32) -> (usize, usize) {
        let number = number as usize;
        (number >> self.shift, (number & (self.per_chunk() - 1)) * self.width)
    }
}

/// Memory for rows, of fixed capacity, wiped when dropped.
struct Chunk<T: Cell> {
    /// Begins with `skip` unused cells, so that the rows begin on a cache line.
    cells: Vec<T>,
    skip: usize,
    capacity: usize,
}

impl<T: Cell> Chunk<T> {
    fn new(capacity: usize) -> Self {
        let mut chunk = Self::taking(capacity, Vec::with_capacity);
        chunk.cells.resize(chunk.skip, T::default());
        chunk
    }

    /// The same with some zeros in it, in memory that is known to be zeros, so that they need not be written.
    fn blank(capacity: usize, zeros: usize) -> Self {
        let mut chunk = Self::taking(capacity, |cells| vec![T::default(); cells]);
        chunk.cells.truncate(chunk.skip + zeros);
        chunk
    }

    fn taking(capacity: usize, take: impl Fn(usize) -> Vec<T>) -> Self {
        let line = LINE_BYTES / size_of::<T>().clamp(1, LINE_BYTES);
        let cells = take(capacity + line);
        let skip = cells.as_ptr().align_offset(LINE_BYTES).min(line);
        Self { cells, skip, capacity }
    }

    fn push(&mut self, row: &[T], width: usize) {
        if row.len() == width {
            self.cells.extend_from_slice(row);
        } else {
            self.lengthen(width);
        }
    }

    /// By zeros.
    fn lengthen(&mut self, zeros: usize) {
        self.cells.resize(self.cells.len() + zeros, T::default());
    }

    #[inline]
    fn cells(&self) -> &[T] {
        self.cells.get(self.skip..).unwrap_or_default()
    }

    fn cells_mut(&mut self) -> &mut [T] {
        self.cells.get_mut(self.skip..).unwrap_or_default()
    }
}

/// Keeps the spare capacity: a copied chunk must not move when it grows either.
impl<T: Cell> Clone for Chunk<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.capacity);
        copy.cells.extend_from_slice(self.cells());
        copy
    }
}

impl<T: Cell> Drop for Chunk<T> {
    fn drop(&mut self) {
        self.cells.as_mut_slice().zeroize();
        #[cfg(test)]
        super::tests::let_go(&self.cells);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK_BYTES: usize = 4 << 20;

    #[test]
    fn rows_stay_where_they_are_while_others_come() {
        let mut rows = Rows::<f32>::in_chunks(1000, CHUNK_BYTES);
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
    fn rows_appended_together_are_those_appended_one_by_one() {
        for width in [1, 3, 1000] {
            let row = |n: usize| vec![n as f32 + 0.5; width];
            let all = Rows::<f32>::in_chunks(width, CHUNK_BYTES).per_chunk() + 10;
            for apart in [0, 1, 7, all - 3] {
                let (mut together, mut alone) =
                    (Rows::<f32>::in_chunks(width, CHUNK_BYTES), Rows::<f32>::in_chunks(width, CHUNK_BYTES));
                (0..apart).for_each(|n| _ = together.push(&row(n)));
                together.append(&(apart..all).flat_map(row).collect::<Vec<_>>());
                assert_eq!(together.append_blank(all), all as u32);
                (0..all).for_each(|n| _ = alone.push(&row(n)));
                (0..all).for_each(|_| _ = alone.push(&[]));
                assert_eq!((together.len(), together.chunks.len()), (alone.len(), alone.chunks.len()));
                assert!((0..=2 * all as u32).all(|n| together.row(n) == alone.row(n)));
                let after = together.push(&row(1));
                assert_eq!(together.row(after).unwrap(), row(1));
                assert_eq!(together.row(0).unwrap().as_ptr().align_offset(LINE_BYTES), 0);
            }
        }
    }

    #[test]
    fn a_snapshot_keeps_its_rows_while_the_original_is_wiped_and_grows() {
        let mut rows = Rows::<f32>::in_chunks(2, CHUNK_BYTES);
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
            let mut rows = Rows::<f32>::in_chunks(dimension, CHUNK_BYTES);
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
