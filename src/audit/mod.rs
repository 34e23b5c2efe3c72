//! The tamper-evident log: entries sealed, chained and Merkle-hashed, each group of them under one signed head and one
//! disk sync. Knows neither keys nor policies, nor who waits for an entry: it seals and signs through traits of `model`.
//!
//! `Log` writes and recovers, `verify` trusts nothing that `Log` says of itself: it works from bytes and a public key.

mod cursor;
mod disk;
mod entry;
mod fault;
mod frame;
mod landmark;
mod log;
mod merkle;
mod note;
mod read;
mod recover;
mod verify;
mod walk;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use disk::{Disk, DiskFile, RealDisk};
pub use entry::{Authentication, BundleRef, Counts, Entry, Outcome, What, Withheld};
pub use fault::{Break, Fault, LogError};
pub use frame::ENTRY_BYTES;
pub use log::{Expected, Frames, Head, Log, Recovery};
pub use merkle::Hash;
pub use note::{Checkpoint, NoteError, SignedNote, verifier_key};
pub use read::Page;
pub use verify::{Report, verify};
