//! The disk's promises, handed in, so that tests can break them and count them.

use std::{fs::File, io, os::unix::fs::FileExt};

/// How bytes become durable.
pub trait Disk: Send + Sync {
    /// Makes what was written to `file` durable (fdatasync).
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes `file` longer (with zeros) or shorter.
    fn set_len(&self, file: &File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }
}

/// The machine's own disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }
}
