//! What can be wrong with a log, and where. Says places and kinds, never what an entry says.

use std::{fmt, io};

/// The first thing that is wrong with a log, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// The first entry that is broken or missing; for a broken head, the entry that it follows (0: the head of the empty log).
    pub sequence: u64,
    /// The file.
    pub file: String,
    /// Where in the file the broken part begins, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {}: {} (file {}, byte {})", self.sequence, self.fault, self.file, self.offset)
    }
}

/// What is wrong with a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A file could not be read; says nothing about its content.
    #[error("the file cannot be read ({0})")]
    Unreadable(io::ErrorKind),
    /// The file that should begin with this entry is not there.
    #[error("the file that begins with it is missing")]
    Missing,
    /// A file that is no part of the log.
    #[error("there is a file that does not belong to the log")]
    Stranger,
    /// The first bytes of a file are not those that the entries before it call for.
    #[error("the beginning of its file was changed, or another file was put in its place")]
    Header,
    /// The file ends within a record, or within a group that has no signed head.
    #[error("its file ends within a group of entries that was never finished, or it was cut short")]
    Unfinished,
    /// A record that has no form.
    #[error("it has no form that an entry can have")]
    Form,
    /// Another entry than the one that is due.
    #[error("another entry lies in its place")]
    Sequence,
    /// The link to what lies before does not fit.
    #[error("it was changed, or what lies before it was")]
    Chain,
    /// An entry that the next head counts is not there.
    #[error("it is missing: the signed head that follows counts it")]
    Dropped,
    /// A head that is not the one that was written here.
    #[error("the signed head after it was changed")]
    Head,
    /// A root that is not that of the entries.
    #[error("the entries from here to the next head are not those that were signed")]
    Root,
    /// A signature that is not by the key.
    #[error("the entries from here to the next head are not signed by the key given")]
    Signature,
    /// The seal does not open.
    #[error("its seal does not open")]
    Seal,
    /// The seal opens, and what is inside is no entry.
    #[error("what is sealed in it is no entry")]
    Content,
    /// The log ends before the head that is known from elsewhere.
    #[error("it is missing, as are all after it: the log was cut back or an older copy was put in its place")]
    CutBack,
    /// The log has another head than the one known from elsewhere.
    #[error(
        "the log has another head here than the one known from elsewhere: it was changed, or belongs to another store"
    )]
    OtherHead,
    /// The log is further than it can be.
    #[error("the log is further than the manifest allows: an older manifest was put in place")]
    Ahead,
}

/// Why the log cannot be made, opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The origin is no name for a signing key.
    #[error("the log's origin must be 1 to 256 bytes without spaces, control characters or '+'")]
    Origin,
    /// There is a log already.
    #[error("there is an audit log here already")]
    Exists,
    /// A file or directory cannot be read.
    #[error("the audit log cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// The entries did not reach the disk. Those that had to are kept and written first, next time.
    #[error("the audit log cannot be written: {0}; free space or mend the disk")]
    NotDurable(#[source] io::Error),
    /// The log is not what it was.
    #[error("the audit log is damaged: {0}; restore it from a backup")]
    Damaged(Break),
    /// The log ends before the last head that was recorded.
    #[error(
        "the audit log ends at entry {found} where {expected} are recorded: it was cut back, or an older copy was put in place"
    )]
    CutBack {
        /// The last whole entry.
        found: u64,
        /// The last that was recorded.
        expected: u64,
    },
    /// The log is further than what was recorded of it can be.
    #[error("the audit log is further than the manifest allows: an older manifest was put in place")]
    Ahead,
    /// A frame kept in the storage engine is no frame of this log.
    #[error("an audit entry kept with the data does not open: it was changed, or belongs to another store")]
    Outbox,
    /// An entry larger than may be written.
    #[error("an audit entry is larger than {} bytes: ask for fewer records at a time", super::ENTRY_BYTES)]
    TooLarge,
    /// An entry could not be sealed.
    #[error("an audit entry could not be sealed")]
    Seal,
    /// Frames that do not continue the log: staged before a group that failed, or in another order.
    #[error("staged audit entries do not continue the log")]
    OutOfOrder,
}
