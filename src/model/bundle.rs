//! A bundle as it was sent: texts, not yet parsed. `policy` makes sense of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::EntityUid;

/// Schema, policies, templates and their links, as text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BundleSource {
    /// The schema in Cedar's own syntax (`.cedarschema`).
    pub schema: String,
    /// Policies and templates in Cedar's own syntax.
    pub policies: String,
    /// More templates, for those who keep them apart.
    pub templates: String,
    /// What fills the templates' slots.
    pub links: Vec<TemplateLink>,
    /// What the author said of it.
    pub note: String,
    /// Whether it was put in force although stored data does not fit its schema: those records are then denied.
    #[serde(default)]
    pub tolerates_misfits: bool,
}

/// One use of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateLink {
    /// The template's `@id`.
    pub template: String,
    /// The link's own name, unique in the bundle.
    pub id: String,
    /// `?principal` and `?resource`, as the template needs them.
    pub values: BTreeMap<String, EntityUid>,
}
