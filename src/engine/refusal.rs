//! Why a request was not served: what the caller could do differently, never content of a record.

use crate::{
    audit::Outcome,
    model::ids::check_id,
    policy::{BundleFault, FilterFault, Part, Position},
};

/// One thing that is wrong with what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line of an NDJSON body, of a filter, of a bundle's text, or position in a list, from 1.
    pub line: Option<usize>,
    /// The text of a bundle that it is in.
    pub part: Option<Part>,
    /// Character of the line of a filter or a bundle's text, from 1.
    pub column: Option<usize>,
    /// The id that the client gave the record, if it could be read; a policy's `@id`.
    pub id: Option<String>,
    /// Stable code.
    pub code: &'static str,
    /// What to mend.
    pub detail: String,
}

impl Fault {
    /// A fault of the whole request.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { line: None, part: None, column: None, id: None, code, detail: detail.into() }
    }

    /// The same at a line, of a record. What cannot be an id is not repeated: it may be as long as a body, and faults are kept.
    pub fn at(mut self, line: usize, id: Option<&str>) -> Self {
        self.line = Some(line);
        self.id = id.filter(|id| check_id(id).is_ok()).map(str::to_owned);
        self
    }
}

impl From<FilterFault> for Fault {
    fn from(fault: FilterFault) -> Self {
        let FilterFault { code, message, place } = fault;
        match place {
            None => Self::new(code, message),
            Some(Position { line, column }) => Self {
                line: Some(line),
                column: Some(column),
                ..Self::new(code, format!("{message} (line {line}, column {column} of `filter`)"))
            },
        }
    }
}

impl From<BundleFault> for Fault {
    fn from(fault: BundleFault) -> Self {
        let BundleFault { code, message, policy, place } = fault;
        let (line, column) = (place.as_ref().map(|p| p.line), place.as_ref().map(|p| p.column));
        Self { line, part: place.map(|p| p.part), column, id: policy, code, detail: message }
    }
}

/// Why a use case ended without doing what was asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// No or bad credential.
    Unauthenticated,
    /// The action is not permitted.
    Forbidden,
    /// Does not exist, or is not yours: the two are one.
    Absent,
    /// What was sent does not fit; nothing was changed.
    Invalid(Vec<Fault>),
    /// What was sent does not fit what is stored; nothing was changed.
    Conflict {
        /// Stable code.
        code: &'static str,
        /// What to mend.
        detail: String,
        /// Counts that help to mend it.
        more: serde_json::Value,
    },
    /// `If-Match` names another version than the one in force.
    Outdated {
        /// The version in force.
        current: u64,
    },
    /// The store cannot write; nothing was answered that is not in the audit log.
    Unavailable(&'static str),
    /// Stored data does not open or does not agree with itself. The log says where.
    Damaged,
}

impl Refusal {
    /// One fault of the whole request.
    pub fn invalid(code: &'static str, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![Fault::new(code, detail)])
    }

    /// How the audit log tells of it where the action was permitted; what was not permitted is told where that is decided.
    pub(super) fn in_the_log(&self) -> Option<(Outcome, &'static str)> {
        match self {
            Self::Unauthenticated | Self::Forbidden | Self::Unavailable(_) => None,
            Self::Absent => Some((Outcome::Invalid, "not_found")),
            Self::Invalid(faults) => Some((Outcome::Invalid, faults.first().map_or("invalid", |f| f.code))),
            Self::Conflict { code, .. } => Some((Outcome::Invalid, code)),
            Self::Outdated { .. } => Some((Outcome::Invalid, "version_mismatch")),
            Self::Damaged => Some((Outcome::Failed, "damaged")),
        }
    }

    /// The same for those who may not know how many.
    pub(super) fn without_counts(self) -> Self {
        match self {
            Self::Conflict { code, detail, .. } => Self::conflict(code, detail),
            Self::Unauthenticated
            | Self::Forbidden
            | Self::Absent
            | Self::Invalid(_)
            | Self::Outdated { .. }
            | Self::Unavailable(_)
            | Self::Damaged => self,
        }
    }

    /// A conflict without counts.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::Conflict { code, detail: detail.into(), more: serde_json::Value::Null }
    }
}

impl From<crate::store::StoreError> for Refusal {
    fn from(error: crate::store::StoreError) -> Self {
        use crate::store::StoreError;
        tracing::error!(%error, "the store failed");
        match error {
            StoreError::Halted | StoreError::Engine(_) | StoreError::Io(_) | StoreError::Seal => {
                Self::Unavailable("the store cannot read or write at the moment")
            }
            StoreError::Key(_) => Self::Unavailable(
                "the key file cannot be written: its provider does not answer, or the disk; the operator's log says which",
            ),
            StoreError::TooLarge => Self::invalid("too_large", "a value is too large to store"),
            StoreError::Locked
            | StoreError::Missing
            | StoreError::Occupied
            | StoreError::OtherEngine { .. }
            | StoreError::RolledBack(_)
            | StoreError::Damaged { .. }
            | StoreError::Lost(_)
            | StoreError::DamagedPart(_)
            | StoreError::DamagedLedger
            | StoreError::LedgerBehind
            | StoreError::Stale => Self::Damaged,
        }
    }
}
