//! What is wrong with a bundle or an entity, in words that say what to mend and never repeat a value.

use std::ops::Range;

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::Code;
use crate::model::BundleSource;

/// Which text of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `schema`.
    Schema,
    /// `policies`.
    Policies,
    /// `templates`.
    Templates,
}

impl Part {
    /// This text of a bundle.
    pub fn of(self, source: &BundleSource) -> &str {
        match self {
            Self::Schema => &source.schema,
            Self::Policies => &source.policies,
            Self::Templates => &source.templates,
        }
    }

    /// Its name in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::Policies => "policies",
            Self::Templates => "templates",
        }
    }
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl Position {
    /// Of the character that begins at a byte.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(line_start..).map_or(0, |line| line.chars().count());
        Self { line: 1 + before.matches('\n').count(), column: 1 + column }
    }
}

/// A stretch of one of a bundle's texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The text.
    pub part: Part,
    /// Line of its start, from 1.
    pub line: usize,
    /// Column of its start, in characters from 1.
    pub column: usize,
    /// Bytes of the text before it.
    pub start: usize,
    /// Bytes of the text before its end.
    pub end: usize,
}

impl Place {
    /// The stretch `span` of `text`.
    pub(super) fn new(part: Part, text: &str, span: Range<usize>) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let line = 1 + before.matches('\n').count();
        let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
        Self { part, line, column, start: span.start, end: span.end }
    }
}

/// Why a bundle was refused. `code` is stable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleFault {
    /// `too_long`, `too_deep`, `syntax`, `schema`, `missing_id`, `duplicate_id`, `bad_link`, `invalid_policy`, `missing_type`,
    /// `missing_action`, `context_unavailable`, `bad_cap`, `too_many`, `unknown_annotation`, `bad_accept`, `look_alike_id`,
    /// `hidden_characters`; with `strict`, the code of a warning.
    pub code: &'static str,
    /// What to mend.
    pub message: String,
    /// The policy or template, where it is one's.
    pub policy: Option<String>,
    /// Where it was found, where that is known.
    pub place: Option<Place>,
}

impl BundleFault {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), policy: None, place: None }
    }

    pub(super) fn at(self, place: Option<Place>) -> Self {
        Self { place, ..self }
    }

    pub(super) fn of(self, policy: &str) -> Self {
        Self { policy: Some(policy.to_owned()), ..self }
    }
}

/// What is legal and probably not meant. As JSON: `{code, policy, part, line, column, detail}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Stable.
    pub code: Code,
    /// The policy or template, where it is one's.
    pub policy: Option<String>,
    /// Where it was found, where that is known.
    pub place: Option<Place>,
    /// What to do.
    pub message: String,
}

impl Serialize for Warning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", self.code.name())?;
        map.serialize_entry("policy", &self.policy)?;
        map.serialize_entry("part", &self.place.as_ref().map(|p| p.part.name()))?;
        map.serialize_entry("line", &self.place.as_ref().map(|p| p.line))?;
        map.serialize_entry("column", &self.place.as_ref().map(|p| p.column))?;
        map.serialize_entry("detail", &self.message)?;
        map.end()
    }
}

/// Under `strict` a warning is a fault.
impl From<Warning> for BundleFault {
    fn from(warning: Warning) -> Self {
        let Warning { code, policy, place, message } = warning;
        Self { code: code.name(), message, policy, place }
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
