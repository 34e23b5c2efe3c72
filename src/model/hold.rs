//! A legal hold: what is a patient's is not erased as long as it lasts, whoever asks.

use serde::{Deserialize, Serialize};

use super::EntityUid;
use crate::clock::Instant;

/// A hold on one patient's records, in every collection, and on their own entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Whose.
    pub patient: EntityUid,
    /// Who put it there.
    pub by: EntityUid,
    /// Since when.
    pub since: Instant,
    /// Why, in words such as the number of a case.
    pub reason: Option<String>,
}
