//! Backups and escrows for those who manage keys; and a store made anew from them, which says so in its own log.

use std::path::Path;

use super::{
    Environment, OpenError, Refusal, Settings, Wardkeep,
    grant::{Grant, ManageKeys},
    recover::options,
};
use crate::{
    audit::What,
    store::{self, BackupError, LogCut, Plan, Restored, Taken},
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

    fn copy_to(&self, dir: &Path, progress: &dyn Fn(u64)) -> Result<Taken, BackupError> {
        let mut copying = self.store.back_up_to(dir)?;
        copying.rows(progress)?;
        // the writer holds the log while it commits: with it in hand, rows and log are of one moment
        let log = self.journal.log();
        let head = log.head();
        let cut = LogCut { size: head.size, root: head.root, group: head.group, files: log.files() };
        copying.settle(cut, self.clock.now())?;
        drop(log);
        copying.finish()
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

/// Makes the store that `plan` says, opens it once, and enters in its log that it was restored.
///
/// # Errors
/// As [`store::restore`]; nothing is left in the directory then.
pub fn restore(
    plan: &Plan<'_>,
    settings: Settings,
    environment: Environment,
    progress: &dyn Fn(u64),
) -> Result<Restored, RestoreError> {
    let restored = store::restore(plan, &options(&settings, &environment), progress)?;
    let engine = Wardkeep::open(plan.to, plan.unlock, settings, environment, &|_| ())?;
    let trail = engine.own_trail(What::Restore).detail(restored.at.rfc3339());
    let noted = engine.journal.note(trail.done(usize::try_from(restored.objects).unwrap_or(usize::MAX)));
    engine.close();
    noted.map_err(|_| OpenError::Unwritable)?;
    Ok(restored)
}

impl From<BackupError> for Refusal {
    fn from(error: BackupError) -> Self {
        let code = match error {
            BackupError::Store(error) => return error.into(),
            BackupError::Io(_) | BackupError::Exposed => "backup_unwritable",
            BackupError::Busy => "backup_running",
            BackupError::Foreign => "backup_foreign",
            BackupError::Missing
            | BackupError::Damaged(_)
            | BackupError::DoesNotAddUp
            | BackupError::OlderEscrow
            | BackupError::OldEscrow
            | BackupError::OlderPermissions(_) => "backup_damaged",
        };
        Self::conflict(code, error.to_string())
    }
}
