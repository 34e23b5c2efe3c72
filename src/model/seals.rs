//! What `audit` and `store` need of keys, as traits, so that they and `crypto` stay strangers.

use zeroize::Zeroizing;

/// A seal that does not open: other key, other place, or changed bytes. Says no more on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value does not open: it was changed, moved, or sealed under another key")]
pub struct SealError;

/// Authenticated encryption under one key. `place` says what the bytes are and where they lie; it must be the same to open.
pub trait Sealer: Send + Sync {
    /// Seals `plain` with fresh randomness.
    fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError>;
    /// Opens what `seal` made for the same `place`.
    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError>;
}

/// Signs the heads of the audit log (Ed25519).
pub trait Signer: Send + Sync {
    /// A signature of `message`.
    fn sign(&self, message: &[u8]) -> [u8; 64];
    /// The key to verify it with.
    fn public_key(&self) -> [u8; 32];
}

/// Names that can be compared but not read.
pub trait Pseudonyms: Send + Sync {
    /// The keyed hash (truncated HMAC-SHA-256) of `id` within `domain`.
    fn pseudonym(&self, domain: &str, id: &[u8]) -> [u8; 16];
}
