//! A sealed file of chunks: written in one go, read in one go. Knows nothing of what is in a chunk.

use std::{
    io::{ErrorKind, Read, Write},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{BackupError, Item};
use crate::{
    model::Sealer,
    store::{StoreError, codec},
};

const MAGIC: &[u8; 8] = b"WKBACK\0\x01";
const HEADER: usize = 8 + 16 + 16 + 4 + 32;
/// Bytes of items after which a chunk is sealed.
const CHUNK_BYTES: usize = 1 << 20;
/// Bytes of a sealed chunk, most: one item more than a full one.
const SEALED_BYTES: usize = 32 << 20;

/// What stands in the clear at the head of a file; all of it is bound to every chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) store_id: [u8; 16],
    pub(super) set: [u8; 16],
    pub(super) number: u32,
    pub(super) link: [u8; 32],
}

impl Header {
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.store_id);
        out.extend_from_slice(&self.set);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.link);
        out
    }

    /// Reads what stands at the head of a file whose name does not tell its number.
    pub(super) fn read_any(input: &mut impl Read) -> Result<Self, BackupError> {
        let mut bytes = [0; HEADER];
        input.read_exact(&mut bytes).map_err(|error| told(error, 0))?;
        Self::parse(&bytes).ok_or(BackupError::Damaged(0))
    }

    /// Reads what stands at the head of file `number`.
    pub(super) fn read(input: &mut impl Read, number: u32) -> Result<Self, BackupError> {
        let mut bytes = [0; HEADER];
        input.read_exact(&mut bytes).map_err(|error| told(error, number))?;
        Self::parse(&bytes).filter(|header| header.number == number).ok_or(BackupError::Damaged(number))
    }

    fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (store_id, rest) = rest.split_first_chunk()?;
        let (set, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let number = u32::from_le_bytes(*number);
        (magic == MAGIC).then_some(Self { store_id: *store_id, set: *set, number, link: rest.try_into().ok()? })
    }

    /// What chunk `at` is bound to.
    fn place(&self, at: u64, last: bool) -> Vec<u8> {
        let mut place = self.bytes();
        place.extend_from_slice(&at.to_le_bytes());
        place.push(u8::from(last));
        place
    }
}

/// A file being written.
pub(super) struct Outlet<W> {
    out: W,
    hash: Sha256,
    sealer: Arc<dyn Sealer>,
    header: Header,
    items: Vec<Item>,
    size: usize,
    chunks: u64,
    /// Bytes written so far.
    pub(super) bytes: u64,
}

impl<W: Write> Outlet<W> {
    pub(super) fn begin(out: W, sealer: Arc<dyn Sealer>, header: Header) -> Result<Self, BackupError> {
        let mut outlet =
            Self { out, hash: Sha256::new(), sealer, header, items: Vec::new(), size: 0, chunks: 0, bytes: 0 };
        outlet.write(&header.bytes())?;
        Ok(outlet)
    }

    /// What it is written to.
    pub(super) fn sink(&mut self) -> &mut W {
        &mut self.out
    }

    /// Adds an item of about `size` bytes.
    pub(super) fn add(&mut self, item: Item, size: usize) -> Result<(), BackupError> {
        self.items.push(item);
        self.size += size;
        if self.size >= CHUNK_BYTES { self.seal(false) } else { Ok(()) }
    }

    /// Seals what is left as the last chunk; gives back what was written to, and the link that the next file begins with.
    pub(super) fn end(mut self) -> Result<(W, [u8; 32], u64), BackupError> {
        self.seal(true)?;
        self.out.flush().map_err(BackupError::io)?;
        Ok((self.out, self.hash.finalize().into(), self.bytes))
    }

    fn seal(&mut self, last: bool) -> Result<(), BackupError> {
        let plain = codec::encode(&std::mem::take(&mut self.items), self.size + 1_024)?;
        let sealed = self.sealer.seal(&self.header.place(self.chunks, last), &plain).map_err(StoreError::from)?;
        let length = u32::try_from(sealed.len()).map_err(|_| StoreError::TooLarge)?;
        self.write(&length.to_le_bytes())?;
        self.write(&sealed)?;
        self.chunks += 1;
        self.size = 0;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(BackupError::io)
    }
}

/// A file being read.
pub(super) struct Inlet<R> {
    input: R,
    hash: Sha256,
    sealer: Arc<dyn Sealer>,
    pub(super) header: Header,
    chunks: u64,
}

impl<R: Read> Inlet<R> {
    /// `number` is what the file must be, by its name.
    pub(super) fn begin(mut input: R, sealer: Arc<dyn Sealer>, number: u32) -> Result<Self, BackupError> {
        let header = Header::read(&mut input, number)?;
        Ok(Self { input, hash: Sha256::new().chain_update(header.bytes()), sealer, header, chunks: 0 })
    }

    /// Hands every item on, to the last chunk and no further; the link that the next file must begin with.
    pub(super) fn read(
        mut self,
        each: &mut dyn FnMut(Item) -> Result<(), BackupError>,
    ) -> Result<[u8; 32], BackupError> {
        loop {
            let (items, last) = self.chunk()?;
            items.into_iter().try_for_each(&mut *each)?;
            if last {
                break;
            }
        }
        match self.input.read(&mut [0]).map_err(BackupError::io)? {
            0 => Ok(self.hash.finalize().into()),
            _ => Err(BackupError::Damaged(self.header.number)),
        }
    }

    /// What the first chunk holds.
    pub(super) fn first(mut self) -> Result<Vec<Item>, BackupError> {
        self.chunk().map(|(items, _)| items)
    }

    fn chunk(&mut self) -> Result<(Vec<Item>, bool), BackupError> {
        let number = self.header.number;
        let damaged = || BackupError::Damaged(number);
        let mut length = [0; 4];
        self.fill(&mut length, number)?;
        let length =
            usize::try_from(u32::from_le_bytes(length)).ok().filter(|n| *n <= SEALED_BYTES).ok_or_else(damaged)?;
        let mut sealed = vec![0; length];
        self.fill(&mut sealed, number)?;
        let at = self.chunks;
        self.chunks += 1;
        let open = |last| self.sealer.open(&self.header.place(at, last), &sealed).map(|plain| (plain, last));
        let (plain, last): (Zeroizing<Vec<u8>>, bool) = open(false).or_else(|_| open(true)).map_err(|_| damaged())?;
        Ok((codec::decode(&plain).ok_or_else(damaged)?, last))
    }

    fn fill(&mut self, bytes: &mut [u8], number: u32) -> Result<(), BackupError> {
        self.input.read_exact(bytes).map_err(|error| told(error, number))?;
        self.hash.update(&*bytes);
        Ok(())
    }
}

fn told(error: std::io::Error, number: u32) -> BackupError {
    match error.kind() {
        ErrorKind::UnexpectedEof => BackupError::Unfinished(number),
        _ => BackupError::io(error),
    }
}
