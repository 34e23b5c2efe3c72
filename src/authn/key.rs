//! The text form of API keys: `wk_{key id}_{secret}`. The secret is shown once and never kept.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::{
    clock::Instant,
    crypto::{Entropy, EntropyError, KeyRing},
    model::{ApiKey, EntityUid, KeyId},
};

const PREFIX: &str = "wk_";
const SECRET_BYTES: usize = 32;

/// What a client presents: not yet checked against anything.
pub struct Credential {
    key_id: KeyId,
    secret: Zeroizing<Vec<u8>>,
}

/// Not of the form of an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an API key of the form wk_…")]
pub struct CredentialError;

impl Credential {
    /// The public name of the key.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    pub(super) fn secret(&self) -> &[u8] {
        &self.secret
    }
}

impl FromStr for Credential {
    type Err = CredentialError;

    fn from_str(text: &str) -> Result<Self, CredentialError> {
        let (id, secret) = text.strip_prefix(PREFIX).and_then(|t| t.split_once('_')).ok_or(CredentialError)?;
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.decode(secret).map_err(|_| CredentialError)?);
        if secret.len() != SECRET_BYTES {
            return Err(CredentialError);
        }
        Ok(Self { key_id: id.parse().map_err(|_| CredentialError)?, secret })
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.key_id)
    }
}

/// A new key for `caller`: what is stored, and the text that is shown once.
pub fn issue(
    caller: EntityUid,
    created_at: Instant,
    expires_at: Option<Instant>,
    purposes: Option<Vec<String>>,
    ring: &KeyRing,
    entropy: &dyn Entropy,
) -> Result<(ApiKey, Zeroizing<String>), EntropyError> {
    let mut id = [0; 8];
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    entropy.fill(&mut id)?;
    entropy.fill(secret.as_mut())?;
    let key_id = KeyId(id);
    let text = Zeroizing::new(format!("{PREFIX}{key_id}_{}", URL_SAFE_NO_PAD.encode(secret.as_ref())));
    let verifier = ring.verifier(secret.as_ref());
    Ok((ApiKey { key_id, caller, verifier, created_at, expires_at, purposes }, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_key_is_refused() {
        for bad in ["", "wk_", "wk_00_aa", "Bearer x", "wk_0011223344556677_", "wk_0011223344556677_AAAA"] {
            assert!(bad.parse::<Credential>().is_err());
        }
    }
}
