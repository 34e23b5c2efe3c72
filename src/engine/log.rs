//! The audit log, for those who may read it: entries in order, filtered, and the signed head.

use super::{
    Refusal, Wardkeep,
    grant::{Grant, ReadAudit},
};
use crate::{
    audit::{Entry, What},
    clock::Instant,
    model::{Action, EntityUid, RecordId, limits},
};

/// Entries read at a time while looking for those that fit a filter.
const STRIDE: usize = 4_096;

/// Which entries.
#[derive(Debug, Clone, Default)]
pub struct Sieve {
    /// By this caller: an id, or `Type::"id"`.
    pub caller: Option<String>,
    /// That returned, wrote or asked about this patient.
    pub patient: Option<String>,
    /// That returned or wrote this record.
    pub record: Option<RecordId>,
    /// Of this action.
    pub action: Option<Action>,
    /// From this time on.
    pub since: Option<Instant>,
    /// Before this time.
    pub until: Option<Instant>,
}

/// A page of the log.
pub struct Page {
    /// Number and entry.
    pub entries: Vec<(u64, Entry)>,
    /// Where the next page begins, if there is more.
    pub next: Option<u64>,
}

impl Sieve {
    fn passes(&self, entry: &Entry) -> bool {
        let names =
            |uid: &EntityUid, text: &str| uid.id.as_ref() == text || format!("{}::\"{}\"", uid.ty, uid.id) == text;
        let caller = self.caller.as_ref().is_none_or(|id| entry.caller.as_ref().is_some_and(|c| names(c, id)));
        let patient =
            self.patient.as_ref().is_none_or(|id| entry.patients.iter().chain(&entry.patient).any(|p| names(p, id)));
        let record = self.record.as_ref().is_none_or(|id| entry.records.contains(id));
        let action = self.action.is_none_or(|a| entry.action == Some(a));
        let since = self.since.is_none_or(|t| entry.at >= t);
        let until = self.until.is_none_or(|t| entry.at < t);
        caller && patient && record && action && since && until
    }
}

impl Wardkeep {
    /// Entries after number `after` that pass `sieve`, oldest first. The reading is itself an entry.
    pub fn audit(&self, grant: &Grant<ReadAudit>, after: u64, limit: usize, sieve: &Sieve) -> Result<Page, Refusal> {
        let limit = limit.min(limits::AUDIT_PAGE);
        self.journal.note(grant.trail(self, What::ReadAudit))?;
        let mut page = Page { entries: Vec::new(), next: None };
        let mut at = after;
        loop {
            let lying = self.journal.log().page(at, STRIDE);
            let read = lying.entries().map_err(|error| {
                tracing::error!(%error, "the audit log cannot be read");
                Refusal::Damaged
            })?;
            let end = read.len() < STRIDE;
            for (sequence, entry) in read {
                if page.entries.len() == limit {
                    page.next = page.entries.last().map(|(last, _)| *last);
                    return Ok(page);
                }
                at = sequence;
                if sieve.passes(&entry) {
                    page.entries.push((sequence, entry));
                }
            }
            if end {
                return Ok(page);
            }
        }
    }

    /// Writes down that the counts of requests are read.
    pub fn note_metrics(&self, grant: &Grant<ReadAudit>) -> Result<(), Refusal> {
        self.journal.note(grant.trail(self, What::ReadAudit).detail("metrics")).map(drop)
    }

    /// The signed head of the log.
    pub fn checkpoint(&self, grant: &Grant<ReadAudit>) -> Result<String, Refusal> {
        self.journal.note(grant.trail(self, What::ReadAudit).detail("checkpoint"))?;
        Ok(self.journal.log().checkpoint().as_str().to_owned())
    }
}
