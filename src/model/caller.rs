//! What the store keeps of an API key: never the key itself.

use serde::{Deserialize, Serialize};

use super::{EntityUid, KeyId};
use crate::clock::Instant;

/// An issued API key. `verifier` is a keyed hash of the secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its public name.
    pub key_id: KeyId,
    /// Whom it speaks for.
    pub caller: EntityUid,
    /// Keyed hash of the secret part.
    pub verifier: [u8; 32],
    /// When it was made.
    pub created_at: Instant,
    /// When it stops working.
    pub expires_at: Option<Instant>,
    /// Purposes it may be used for; any, if `None`.
    pub purposes: Option<Vec<String>>,
}
