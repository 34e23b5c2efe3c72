//! Backups and escrows for those who manage keys; and a store made anew from them, which says so in its own log.

use std::{
    io::{self, ErrorKind, Write},
    path::Path,
};

use super::{
    Environment, OpenError, Refusal, Settings, Wardkeep,
    grant::{Grant, ManageKeys},
    recover::options,
    watch::Succession,
};
use crate::{
    audit::{Outcome, What},
    clock::Instant,
    store::{self, BackupError, Copying, LedgerState, LogCut, Plan, Restored, Rising, Taken},
};

/// Why no store could be made from a backup.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Backup or escrow.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// What was made does not open.
    #[error("the backup was read, but what was made from it does not open: {0}")]
    Open(#[from] OpenError),
}

impl Wardkeep {
    /// Writes the next file of the backup in `dir`, while requests and changes go on.
    pub fn back_up(&self, grant: &Grant<ManageKeys>, dir: &Path, progress: &dyn Fn(u64)) -> Result<Taken, Refusal> {
        let trail = grant.trail(self, What::Backup);
        let taken = self.told(trail.clone(), self.copy_to(dir, progress).map_err(Refusal::from))?;
        if let Some(file) = taken.broken {
            tracing::error!(
                file,
                "a file of the backup is damaged or missing: the backup begins anew with a whole one"
            );
        }
        let objects = usize::try_from(taken.objects).unwrap_or(usize::MAX);
        self.journal.note(trail.done(objects).detail(taken.number.to_string()))?;
        Ok(taken)
    }

    /// Writes a whole backup to `out`, while requests and changes go on. Its entry is durable before the first byte is written; a second
    /// one says how it ended.
    pub fn stream_backup(
        &self,
        grant: &Grant<ManageKeys>,
        out: &mut dyn Write,
        progress: &dyn Fn(u64),
    ) -> Result<Taken, Refusal> {
        let trail = grant.trail(self, What::Backup);
        let begun = self.told(trail.clone(), self.store.back_up_into(Box::new(out)).map_err(Refusal::from))?;
        self.journal.note(trail.clone().detail("stream_begun"))?;
        match self.copy(begun, progress).map_err(BackupError::of_stream) {
            Ok(taken) => {
                let objects = usize::try_from(taken.objects).unwrap_or(usize::MAX);
                self.journal.note(trail.done(objects).detail("stream"))?;
                Ok(taken)
            }
            Err(error) => {
                self.journal.note(trail.outcome(Outcome::Failed).detail(broken_off(&error)))?;
                Err(error.into())
            }
        }
    }

    /// What a streamed backup is written to, as long as whoever asked for it may have it: that is asked anew every few seconds.
    pub fn while_permitted<'a>(&'a self, grant: &'a Grant<ManageKeys>, out: &'a mut dyn Write) -> impl Write + 'a {
        Permitted { engine: self, grant, out, asked: self.clock.now() }
    }

    fn copy_to(&self, dir: &Path, progress: &dyn Fn(u64)) -> Result<Taken, BackupError> {
        self.copy(self.store.back_up_to(dir)?, progress)
    }

    fn copy(&self, mut copying: Copying<'_>, progress: &dyn Fn(u64)) -> Result<Taken, BackupError> {
        copying.rows(progress)?;
        copying.catch_up()?;
        // the writer holds the log while it commits: with it in hand, rows and log are of one moment
        let log = self.journal.log();
        let head = log.head();
        let cut = LogCut { size: head.size, root: head.root, group: head.group, files: log.files() };
        copying.settle(cut, self.clock.now())?;
        drop(log);
        copying.finish()
    }

    /// Keeps a copy of the ledger of erasures and revocations beside the backups in `dir`, from here on.
    pub fn keep_ledger_beside(&self, dir: &Path) {
        self.store.keep_ledger_beside(dir);
    }

    /// Where that ledger stands.
    pub fn ledger(&self) -> LedgerState {
        self.store.ledger_state()
    }

    /// What a restore needs of the keys. Its entry is durable before it is handed out: from then on an erasure is not whole until the
    /// escrow is gone too.
    pub fn escrow(&self, grant: &Grant<ManageKeys>) -> Result<Vec<u8>, Refusal> {
        let trail = grant.trail(self, What::Escrow);
        let escrow = self.told(trail.clone(), self.store.escrow(self.clock.now()).map_err(Refusal::from))?;
        self.journal.note(trail)?;
        Ok(escrow)
    }
}

/// Why a stream that was begun did not come to its end, as the log calls it.
fn broken_off(error: &BackupError) -> &'static str {
    match error {
        BackupError::Stream(ErrorKind::PermissionDenied) => "stream_withdrawn",
        BackupError::Stream(ErrorKind::TimedOut) => "stream_stalled",
        BackupError::Stream(ErrorKind::ConnectionAborted) => "stream_stopped",
        BackupError::Stream(_) => "stream_left",
        BackupError::Store(_)
        | BackupError::Io(_)
        | BackupError::Exposed
        | BackupError::Busy
        | BackupError::Missing
        | BackupError::Foreign
        | BackupError::Damaged(_)
        | BackupError::Unfinished(_)
        | BackupError::NotWhole(_)
        | BackupError::DamagedEscrow
        | BackupError::DoesNotAddUp
        | BackupError::OlderEscrow
        | BackupError::OldEscrow
        | BackupError::FutureEscrow(_)
        | BackupError::ForeignLedger
        | BackupError::NoLedger
        | BackupError::OlderPermissions(_) => "stream_failed",
    }
}

/// So long a stream goes on before it is asked again whether it may.
const RENEWAL_MS: i64 = 5_000;

struct Permitted<'a> {
    engine: &'a Wardkeep,
    grant: &'a Grant<ManageKeys>,
    out: &'a mut dyn Write,
    asked: Instant,
}

impl Write for Permitted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let now = self.engine.clock.now();
        if now.millis().saturating_sub(self.asked.millis()) >= RENEWAL_MS {
            self.engine.renew(self.grant, std::iter::empty()).map_err(|_| ErrorKind::PermissionDenied)?;
            self.asked = now;
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Makes the store that `plan` says, opens it once, enters in its log that it was restored, and only then puts it where it opens: a
/// kill or an error before leaves no store.
///
/// An anchor in the environment is that of the lost store: it goes over to the restored one, whose log then names the head that it knew.
///
/// # Errors
/// As [`store::restore`]; nothing is left in the directory then.
pub fn restore(
    plan: &Plan<'_>,
    settings: Settings,
    environment: Environment,
    progress: &dyn Fn(u64),
) -> Result<Restored, RestoreError> {
    let rising = Rising::begin(plan.to)?;
    let room = rising.room();
    let plan = Plan { to: &room, ..*plan };
    let restored = store::restore(&plan, &options(&settings, &environment), progress)?;
    enter(&plan, settings, environment, &restored)?;
    rising.end()?;
    Ok(restored)
}

/// Opens what was restored, and enters in its log that it was.
fn enter(
    plan: &Plan<'_>,
    settings: Settings,
    mut environment: Environment,
    restored: &Restored,
) -> Result<(), OpenError> {
    let anchor = environment.anchor.take();
    let settings = Settings { storage_engine: None, ..settings };
    let engine = Wardkeep::open(plan.to, plan.unlock, settings, environment, &|_| ())?;
    let entered = engine.succeed(anchor.as_deref(), restored);
    engine.close();
    entered
}

impl Wardkeep {
    fn succeed(&self, anchor: Option<&Path>, restored: &Restored) -> Result<(), OpenError> {
        let succession = anchor.map(|path| Succession::begin(path, &self.journal.log())).transpose()?;
        let former = succession.as_ref().and_then(Succession::told);
        let detail: Vec<_> = std::iter::once(told(restored)).chain(former).collect();
        let trail = self.own_trail(What::Restore).detail(detail.join("; "));
        let objects = usize::try_from(restored.objects).unwrap_or(usize::MAX);
        self.journal.note(trail.done(objects)).map_err(|_| OpenError::Unwritable)?;
        Ok(succession.map_or(Ok(()), |succession| succession.end(&self.journal.log()))?)
    }
}

/// What the entry of a restore says: of when the backup was, and what was made of the ledger.
fn told(restored: &Restored) -> String {
    let ledger = match restored.ledger.complete {
        true => "ledger replayed to entry",
        false => "without a whole ledger, known to entry",
    };
    format!("{}, {ledger} {}", restored.at.rfc3339(), restored.ledger.entries)
}

impl From<BackupError> for Refusal {
    fn from(error: BackupError) -> Self {
        let code = match error {
            BackupError::Store(error) => return error.into(),
            BackupError::Io(_) | BackupError::Exposed => "backup_unwritable",
            BackupError::Busy => "backup_running",
            BackupError::Foreign => "backup_foreign",
            BackupError::Missing => "backup_missing",
            BackupError::Damaged(_)
            | BackupError::Unfinished(_)
            | BackupError::NotWhole(_)
            | BackupError::DoesNotAddUp => "backup_damaged",
            BackupError::Stream(_) => "backup_stream",
            BackupError::ForeignLedger | BackupError::NoLedger => "ledger_unfit",
            BackupError::DamagedEscrow
            | BackupError::OlderEscrow
            | BackupError::OldEscrow
            | BackupError::FutureEscrow(_)
            | BackupError::OlderPermissions(_) => "escrow_unfit",
        };
        Self::conflict(code, error.to_string())
    }
}
