//! The bytes on disk. A file is a header, then records; a record is its length and a body that ends with a link of the chain.
//!
//! ```text
//! header  "WKAUDIT1" | first sequence u64 | link before it 32
//! entry   length u32 | 1 | sequence u64 | sealed … | link 32
//! head    length u32 | 2 | group u64 | size u64 | root 32 | signature 64 | link 32
//! ```
//! Numbers are big-endian. A leaf of the tree is an entry's sequence and sealed bytes; a link hashes the link before it
//! and the record, so that the first changed byte can be told; the signature covers a head and the link before it, and
//! so every byte before it. A group is whole if its head is there: entries after the last head were never acknowledged.

use super::merkle::{Hash, leaf, tagged};
use crate::model::Signer;

/// The largest sealed entry: 10,000 records and patients with the longest ids fit.
pub const ENTRY_BYTES: usize = 16 << 20;
/// Bytes of a file's header.
pub(super) const HEADER_BYTES: u64 = 48;
/// The longest body of a record.
pub(super) const BODY_BYTES: usize = ENTRY_BYTES + 1_024;

const MAGIC: [u8; 8] = *b"WKAUDIT1";
const ENTRY: u8 = 1;
const HEAD: u8 = 2;
const LINK_ENTRY: u8 = 2;
const LINK_HEAD: u8 = 3;
const LINK_START: u8 = 4;

/// One record, as it lies in the file.
pub(super) enum Record<'a> {
    Entry(EntryRecord<'a>),
    Head(HeadRecord<'a>),
}

/// An entry, sealed.
pub(super) struct EntryRecord<'a> {
    pub(super) sequence: u64,
    pub(super) sealed: &'a [u8],
    pub(super) link: Hash,
}

/// The signed end of a group.
pub(super) struct HeadRecord<'a> {
    pub(super) group: u64,
    pub(super) size: u64,
    pub(super) root: Hash,
    pub(super) signature: [u8; 64],
    /// Everything but the link.
    content: &'a [u8],
    pub(super) link: Hash,
}

impl EntryRecord<'_> {
    /// Its leaf's hash.
    pub(super) fn leaf(&self) -> Hash {
        leaf(&[&self.sequence.to_be_bytes(), self.sealed])
    }
}

impl HeadRecord<'_> {
    /// The link that this head makes after `before`.
    pub(super) fn link_after(&self, before: &Hash) -> Hash {
        tagged(LINK_HEAD, &[before, self.content])
    }

    /// What its signature is of.
    pub(super) fn message(&self, origin: &str, before: &Hash) -> Vec<u8> {
        head_message(origin, self.group, self.size, &self.root, before)
    }
}

/// The link that an entry makes after `before`.
pub(super) fn link_entry(before: &Hash, leaf: &Hash) -> Hash {
    tagged(LINK_ENTRY, &[before, leaf])
}

/// The link that every log of this origin begins with.
pub(super) fn link_start(origin: &str) -> Hash {
    tagged(LINK_START, &[b"wardkeep audit log v1\n", origin.as_bytes()])
}

/// What an entry is sealed to: this log, this number.
pub(super) fn place(origin: &str, sequence: u64) -> Vec<u8> {
    let mut place = b"wardkeep audit entry v1\n".to_vec();
    put_sized(&mut place, origin.as_bytes());
    place.extend(sequence.to_be_bytes());
    place
}

/// The first bytes of a file.
pub(super) fn header(first: u64, link: &Hash) -> Vec<u8> {
    [&MAGIC[..], &first.to_be_bytes(), link].concat()
}

/// An entry's record, and the link that it ends with.
pub(super) fn encode_entry(sequence: u64, sealed: &[u8], before: &Hash) -> (Vec<u8>, Hash) {
    let link = link_entry(before, &leaf(&[&sequence.to_be_bytes(), sealed]));
    (record(&[&[ENTRY], &sequence.to_be_bytes(), sealed, &link]), link)
}

/// A signed head's record, and the link that it ends with.
pub(super) fn encode_head(
    signer: &dyn Signer,
    origin: &str,
    (group, size, root): (u64, u64, Hash),
    before: &Hash,
) -> (Vec<u8>, Hash) {
    let signature = signer.sign(&head_message(origin, group, size, &root, before));
    let content = [&[HEAD][..], &group.to_be_bytes(), &size.to_be_bytes(), &root, &signature].concat();
    let link = tagged(LINK_HEAD, &[before, &content]);
    (record(&[&content, &link]), link)
}

/// The body of a record that was written by `encode_entry`, without its length; `None` if the length is not right.
pub(super) fn body(record: &[u8]) -> Option<&[u8]> {
    let (length, body) = record.split_first_chunk::<4>()?;
    (usize::try_from(u32::from_be_bytes(*length)).ok()? == body.len()).then_some(body)
}

/// Reads a body; `None` where it has no form that a record can have.
pub(super) fn decode(body: &[u8]) -> Option<Record<'_>> {
    let (content, link) = body.split_last_chunk::<32>()?;
    let (kind, rest) = content.split_first()?;
    match *kind {
        ENTRY => {
            let (sequence, sealed) = take_u64(rest)?;
            Some(Record::Entry(EntryRecord { sequence, sealed, link: *link }))
        }
        HEAD => {
            let (group, rest) = take_u64(rest)?;
            let (size, rest) = take_u64(rest)?;
            let (root, rest) = rest.split_first_chunk::<32>()?;
            let signature = *rest.as_array::<64>()?;
            Some(Record::Head(HeadRecord { group, size, root: *root, signature, content, link: *link }))
        }
        0 | 3.. => None,
    }
}

fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    bytes.split_first_chunk::<8>().map(|(number, rest)| (u64::from_be_bytes(*number), rest))
}

fn record(parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut record = Vec::with_capacity(length.saturating_add(4));
    // A sealed entry is bounded by ENTRY_BYTES before it comes here.
    record.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    parts.iter().for_each(|part| record.extend_from_slice(part));
    record
}

fn head_message(origin: &str, group: u64, size: u64, root: &Hash, before: &Hash) -> Vec<u8> {
    // Its first line has spaces, so that it can be no C2SP checkpoint, whose first line is an origin.
    let mut message = b"wardkeep audit head v1\n".to_vec();
    put_sized(&mut message, origin.as_bytes());
    message.extend(group.to_be_bytes());
    message.extend(size.to_be_bytes());
    message.extend(root);
    message.extend(before);
    message
}

fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}
