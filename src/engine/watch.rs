//! What a store cannot tell from itself alone: whether all of it, log and manifest included, was put back to an older state, and
//! whether the clock was. The one is seen by a signed head of the log kept elsewhere (the anchor), the other by the last entry.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    audit::{Checkpoint, Log, LogError, NoteError, SignedNote},
    clock::{Clock, Instant},
    model::limits,
};

/// Entries after which the anchor is renewed, and milliseconds after which it is if there was any.
const RENEW_ENTRIES: u64 = 256;
const RENEW_MS: i64 = 10_000;

/// How far the clock may go back, in milliseconds: what setting it by a time server explains.
const SET_BACK_MS: i64 = 60_000;

/// What is done about a clock that is behind the last entry when the store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClockBehind {
    /// The store is not opened.
    #[default]
    Refuse,
    /// It is: somebody vouches that the clock had been ahead, and is right now.
    Accept,
}

/// Why a store that agrees with itself is not opened.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The clock was set back.
    #[error(
        "the clock is {} s behind the last entry of the audit log ({last}): set it right; if it had been ahead and is right now, start once with --accept-clock",
        behind_ms / 1_000
    )]
    ClockBehind {
        /// By how much, in milliseconds.
        behind_ms: i64,
        /// When the last entry was written.
        last: String,
    },
    /// The anchor is not there or cannot be read.
    #[error(
        "the anchor {} cannot be read ({why}): mount what it lies on; for a store that has none yet, make an empty file there",
        path.display()
    )]
    Unreadable {
        /// Where it should be.
        path: PathBuf,
        /// What the file system says.
        why: ErrorKind,
    },
    /// It cannot be written.
    #[error(
        "the anchor {} cannot be written ({why}): let wardkeep write to it and to the directory that it lies in",
        path.display()
    )]
    Unwritable {
        /// Where it is.
        path: PathBuf,
        /// What the file system says.
        why: ErrorKind,
    },
    /// It holds no head of this store's log.
    #[error("the anchor {} is not this store's ({why}): name the file that belongs to it", path.display())]
    Foreign {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with what it holds.
        why: NoteError,
    },
    /// The log is not where the anchor says that it was.
    #[error(
        "the whole data directory was put back to an older state: the anchor knows the audit log with {anchored} entries, and here it has {found} or others; restore the newest backup, with `--anchor` so that the restored store goes on under it; or, if the older state is meant, put an empty file in the anchor's place"
    )]
    RolledBack {
        /// Entries that the anchor knows.
        anchored: u64,
        /// Entries that the log has.
        found: u64,
    },
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// An anchor that knows the log of a store that was lost, and is to know the one that was restored in its place.
pub(super) struct Succession {
    path: PathBuf,
    former: Option<Checkpoint>,
}

impl Succession {
    /// Reads the anchor; it must be this store's, or empty.
    pub(super) fn begin(path: &Path, log: &Log) -> Result<Self, WatchError> {
        let path = path.to_owned();
        let text = read(&path).map_err(|e| WatchError::Unreadable { path: path.clone(), why: e.kind() })?;
        let former = match text.is_empty() {
            true => None,
            false => Some(
                log.own(&SignedNote::from_text(text)).map_err(|why| WatchError::Foreign { path: path.clone(), why })?,
            ),
        };
        Ok(Self { path, former })
    }

    /// What the log itself says of it.
    pub(super) fn told(&self) -> Option<String> {
        let former = self.former.as_ref()?;
        Some(format!(
            "in place of the log that the anchor knew with {} entries, root {}",
            former.size,
            hex::encode(former.root)
        ))
    }

    /// Puts the restored log's head in the anchor, with what it came in the place of.
    pub(super) fn end(self, log: &Log) -> Result<(), WatchError> {
        let note = match &self.former {
            Some(former) => log.checkpoint_after(former),
            None => log.checkpoint(),
        };
        replace(&self.path, note.as_str().as_bytes())
            .map_err(|e| WatchError::Unwritable { path: self.path.clone(), why: e.kind() })
    }
}

/// Looks at the clock before each group of entries and keeps the anchor up after it.
pub(super) struct Watch {
    clock: Arc<dyn Clock>,
    latest: Instant,
    anchor: Option<Anchor>,
}

impl Watch {
    /// Holds clock and log against what is known of them, and renews the anchor.
    pub(super) fn begin(
        log: &Log,
        clock: Arc<dyn Clock>,
        behind: ClockBehind,
        anchor: Option<&Path>,
    ) -> Result<Self, WatchError> {
        let now = clock.now();
        check_clock(log, now, behind)?;
        let anchor = anchor.map(|path| Anchor::hold(path, log, now)).transpose()?;
        Ok(Self { clock, latest: now, anchor })
    }

    /// Whether the clock goes on from where it was.
    pub(super) fn clock_goes_on(&mut self) -> bool {
        let now = self.clock.now();
        self.latest = self.latest.max(now);
        behind_ms(self.latest, now) <= SET_BACK_MS
    }

    /// Renews the anchor if that is due.
    pub(super) fn keep_up(&mut self, log: &Log) {
        let now = self.clock.now();
        if let Some(anchor) = &mut self.anchor
            && anchor.is_due(log, now)
        {
            anchor.renew_or_warn(log, now);
        }
    }

    /// Renews the anchor for the last time.
    pub(super) fn end(&mut self, log: &Log) {
        let now = self.clock.now();
        if let Some(anchor) = &mut self.anchor {
            anchor.renew_or_warn(log, now);
        }
    }
}

fn check_clock(log: &Log, now: Instant, behind: ClockBehind) -> Result<(), WatchError> {
    let last = log.page(log.head().size.saturating_sub(1), 1).entries()?;
    let Some(last) = last.last().map(|(_, entry)| entry.at) else { return Ok(()) };
    let behind_ms = behind_ms(last, now);
    match behind {
        ClockBehind::Refuse if behind_ms > SET_BACK_MS => {
            Err(WatchError::ClockBehind { behind_ms, last: last.rfc3339() })
        }
        ClockBehind::Refuse | ClockBehind::Accept => Ok(()),
    }
}

fn behind_ms(last: Instant, now: Instant) -> i64 {
    last.millis().saturating_sub(now.millis())
}

/// The file with the last head that was told to the outside.
struct Anchor {
    path: PathBuf,
    told: u64,
    at: Instant,
}

impl Anchor {
    /// Holds the log against the anchor, which an empty file begins, and renews it.
    fn hold(path: &Path, log: &Log, now: Instant) -> Result<Self, WatchError> {
        let text = read(path).map_err(|e| WatchError::Unreadable { path: path.to_owned(), why: e.kind() })?;
        if !text.is_empty() {
            let known = log
                .own(&SignedNote::from_text(text))
                .map_err(|why| WatchError::Foreign { path: path.to_owned(), why })?;
            if !log.passed(known.size, &known.root)? {
                return Err(WatchError::RolledBack { anchored: known.size, found: log.head().size });
            }
        }
        let mut anchor = Self { path: path.to_owned(), told: 0, at: now };
        anchor.renew(log, now).map_err(|e| WatchError::Unwritable { path: path.to_owned(), why: e.kind() })?;
        Ok(anchor)
    }

    fn is_due(&self, log: &Log, now: Instant) -> bool {
        let entries = log.head().size.saturating_sub(self.told);
        entries >= RENEW_ENTRIES || (entries > 0 && behind_ms(now, self.at) >= RENEW_MS)
    }

    fn renew(&mut self, log: &Log, now: Instant) -> io::Result<()> {
        replace(&self.path, log.checkpoint().as_str().as_bytes())?;
        (self.told, self.at) = (log.head().size, now);
        Ok(())
    }

    /// The anchor only lags behind if it cannot be written: service goes on, and the next group tries again.
    fn renew_or_warn(&mut self, log: &Log, now: Instant) {
        if let Err(error) = self.renew(log, now) {
            tracing::error!(%error, "the anchor cannot be written: a rollback to what was written since would not be seen");
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(limits::ANCHOR_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Puts a file in the place of another in one step; durable when it returns.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_added_extension("new");
    let _ = fs::remove_file(&fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    let room = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(room)?.sync_all()
}
