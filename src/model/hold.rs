//! A legal hold: what is a patient's is not erased as long as it lasts, whoever asks.

use serde::{Deserialize, Serialize};

use super::EntityUid;
use crate::clock::Instant;

/// A hold on one patient's records, in every collection, and on their own entity; or on the system: then nothing expires.
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

impl Hold {
    /// What a restored store has until somebody has looked its holds through: a hold on the system, so that nothing expires.
    pub fn until_confirmed(since: Instant) -> Self {
        let reason = "restored from a backup: holds put after its escrow was taken are not here; put them anew, then lift this one,                       and records expire again";
        Self { patient: EntityUid::system(), by: EntityUid::system(), since, reason: Some(reason.into()) }
    }
}
