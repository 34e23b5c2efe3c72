//! The ledger's copy beside a backup. It is written by a thread of its own, for its directory may be far away and not answer: a commit waits
//! for it, but no longer than a bound. Knows nothing of what is in a ledger but that it has bytes.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{
    BackupError, LedgerCopy, room,
    withdrawn::{Met, State, append_at, put, read},
};
use crate::model::limits;

const WAIT: Duration = Duration::from_millis(limits::LEDGER_COPY_WAIT_MS);

/// A ledger and its copy.
pub(super) struct Shared {
    both: Mutex<Both>,
    /// Wakes the thread that writes the copy, and who waits for it.
    told: Condvar,
    /// Held while a copy is looked at and written, by no commit ever.
    writing: Mutex<()>,
}

pub(super) struct Both {
    pub(super) ledger: State,
    copy: Copy,
}

/// The copy: where it is, how far, and what its thread is at.
#[derive(Default)]
struct Copy {
    path: Option<PathBuf>,
    /// Bytes of it, where they are known to be the first of the ledger's.
    bytes: Option<u64>,
    /// The last attempt failed, or takes too long.
    behind: bool,
    has_thread: bool,
    /// The thread's one order: what it then writes is all that there is by then.
    wanted: bool,
    under_way: bool,
    /// Somebody has waited for it as long as they may: nobody waits any more until it has come to an end.
    overdue: bool,
    ended: bool,
}

impl Copy {
    fn is_at_work(&self) -> bool {
        self.wanted || self.under_way
    }
}

impl Both {
    /// Where the copy stands.
    pub(super) fn copy(&self) -> LedgerCopy {
        match (&self.copy.path, self.copy.behind) {
            (None, _) => LedgerCopy::None,
            (Some(_), false) => LedgerCopy::Current,
            (Some(_), true) => LedgerCopy::Behind,
        }
    }

    /// The ledger is another one from here on: the copy has to be looked at whole.
    pub(super) fn replace(&mut self, ledger: State) {
        (self.ledger, self.copy.bytes) = (ledger, None);
    }

    fn note(&mut self, done: &Result<u64, BackupError>) {
        self.copy.bytes = done.as_ref().ok().copied();
        match done {
            Ok(bytes) => self.copy.behind &= *bytes != self.ledger.bytes(),
            Err(error) => {
                self.copy.behind = true;
                tracing::error!(
                    %error,
                    "the ledger beside the backup cannot be written: if the data directory is lost now, a restore brings back what was erased or revoked since"
                );
            }
        }
    }
}

impl Shared {
    pub(super) fn new(ledger: State) -> Arc<Self> {
        let both = Mutex::new(Both { ledger, copy: Copy::default() });
        Arc::new(Self { both, told: Condvar::new(), writing: Mutex::new(()) })
    }

    /// The ledger, in hand: nobody writes or reads a copy meanwhile that commits would wait for.
    pub(super) fn lock(&self) -> MutexGuard<'_, Both> {
        self.both.lock()
    }

    /// Keeps the copy at `path` from here on.
    pub(super) fn keep(self: &Arc<Self>, path: PathBuf) {
        let mut both = self.both.lock();
        (both.copy.path, both.copy.bytes, both.copy.behind) = (Some(path), None, true);
        if !both.copy.has_thread {
            let shared = Arc::clone(self);
            let thread = std::thread::Builder::new().name("ledger copy".into()).spawn(move || shared.tend());
            // without one nothing is ever written, and the copy is behind
            both.copy.has_thread = thread.is_ok();
        }
        self.follow(&mut both);
    }

    /// Has the copy follow the ledger, and waits for it as long as a commit may.
    pub(super) fn follow(&self, both: &mut MutexGuard<'_, Both>) {
        if both.copy.path.is_none() {
            return;
        }
        both.copy.wanted = true;
        self.told.notify_all();
        let until = Instant::now() + WAIT;
        while both.copy.is_at_work() && !both.copy.overdue {
            let waited = self.told.wait_until(both, until);
            if waited.timed_out() && both.copy.is_at_work() {
                (both.copy.overdue, both.copy.behind) = (true, true);
                tracing::error!(
                    after = ?WAIT,
                    "the ledger beside the backup is not written in time, and nothing waits for it any more: if the data directory is lost now, a restore brings back what was erased or revoked since"
                );
            }
        }
    }

    /// Brings any copy up, whoever else waits for it; refused where one is being written that takes too long.
    pub(super) fn copy_to(&self, path: &Path) -> Result<(), BackupError> {
        let _alone = self.writing.try_lock_for(WAIT).ok_or(BackupError::Io(ErrorKind::TimedOut))?;
        let done = self.bring_up_whole(path);
        let mut both = self.both.lock();
        if both.copy.path.as_deref() == Some(path) {
            both.note(&done);
        }
        done.map(drop)
    }

    /// Ends the thread. One that hangs in a directory which does not answer is left behind.
    pub(super) fn end(&self) {
        let mut both = self.both.lock();
        both.copy.ended = true;
        self.told.notify_all();
        let until = Instant::now() + WAIT;
        while both.copy.under_way && !both.copy.overdue {
            if self.told.wait_until(&mut both, until).timed_out() {
                return;
            }
        }
    }

    /// What the thread does.
    fn tend(&self) {
        let mut both = self.both.lock();
        loop {
            while !both.copy.wanted && !both.copy.ended {
                self.told.wait(&mut both);
            }
            if both.copy.ended {
                return;
            }
            (both.copy.wanted, both.copy.under_way) = (false, true);
            let done = MutexGuard::unlocked(&mut both, || self.bring_up());
            (both.copy.under_way, both.copy.overdue) = (false, false);
            both.note(&done);
            self.told.notify_all();
        }
    }

    /// Adds to the copy what it lacks, where it is what it was left as; else brings it up whole.
    fn bring_up(&self) -> Result<u64, BackupError> {
        let _alone = self.writing.lock();
        let both = self.both.lock();
        let Some(path) = both.copy.path.clone() else { return Ok(0) };
        let lacking = both.copy.bytes.and_then(|from| Some((from, both.ledger.bytes_from(from).ok()?)));
        drop(both);
        match lacking {
            Some((from, bytes)) if append_at(&path, from, &bytes).is_ok() => Ok(from + bytes.len() as u64),
            Some(_) | None => self.bring_up_whole(&path),
        }
    }

    /// Brings a copy to the ledger's bytes. One that knows more than the ledger gives what it knows; one that knows something else stays.
    fn bring_up_whole(&self, path: &Path) -> Result<u64, BackupError> {
        if let Some(dir) = path.parent() {
            room::make(dir)?;
        }
        let there = match read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            there => Some(there.map_err(BackupError::io)?),
        };
        let met = self.both.lock().ledger.meet(there.as_deref())?;
        match met {
            Met::Same(bytes) => Ok(bytes),
            Met::Behind(ours) => {
                put(path, &ours).map_err(BackupError::io)?;
                Ok(ours.len() as u64)
            }
        }
    }
}
