//! How much is in a bundle, told from its texts alone: a version that no longer compiles is counted too.

use serde::Serialize;

use super::{fault::Part, tokens};
use crate::model::BundleSource;

/// Policies by effect, templates, and links of templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Static permits.
    pub permits: usize,
    /// Static forbids.
    pub forbids: usize,
    /// Templates of either effect.
    pub templates: usize,
    /// Links of templates.
    pub links: usize,
}

pub(super) fn count(source: &BundleSource) -> Counts {
    let mut counts = Counts { links: source.links.len(), ..Counts::default() };
    for part in [Part::Policies, Part::Templates] {
        let text = part.of(source);
        for statement in tokens::statements(text) {
            let effect = statement.effect.and_then(|span| text.get(span)).unwrap_or_default();
            match (statement.template, effect) {
                (true, _) => counts.templates += 1,
                (false, "permit") => counts.permits += 1,
                (false, _) => counts.forbids += 1,
            }
        }
    }
    counts
}
