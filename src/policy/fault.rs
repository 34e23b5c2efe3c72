//! What is wrong with a bundle or an entity, in words that say what to mend and never repeat a value.

/// Why a bundle was refused. `code` is stable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleFault {
    /// `too_long`, `too_deep`, `syntax`, `schema`, `missing_id`, `duplicate_id`, `bad_link`, `invalid_policy`, `missing_type`,
    /// `missing_action`, `context_unavailable`, `bad_cap`, `too_many`.
    pub code: &'static str,
    /// What to mend.
    pub message: String,
    /// The line it was found on, from 1, where one is known.
    pub line: Option<usize>,
}

impl BundleFault {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), line: None }
    }

    pub(super) fn at(self, line: Option<usize>) -> Self {
        Self { line, ..self }
    }
}

/// Why an entity or a record was refused. `code` is stable; the message names attributes and types, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EntityFault {
    /// `malformed`, `bad_id`, `unknown_type`, `unknown_attribute`, `missing_attribute`, `wrong_type`, `wrong_parent`, `wrong_tag`,
    /// `too_many`, `invalid`.
    pub code: &'static str,
    /// What to mend.
    pub message: String,
}

impl EntityFault {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Why a question cannot be put to this bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InquiryError {
    /// The schema does not let this type of principal do this.
    #[error("the schema does not let a `{0}` be the principal of this action")]
    Principal(String),
    /// The schema requires a context attribute that this request does not have.
    #[error("the schema requires `{0}` in the context of this action")]
    Missing(String),
    /// A context attribute of another type than the schema declares.
    #[error("`{0}` has another type than the schema declares for the context of this action")]
    Type(String),
}
