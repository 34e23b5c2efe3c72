//! What keeps the key-encryption key: it wraps the ring file's secrets and unwraps them, and the key itself never leaves it.
//! Knows nothing of what it wraps.

use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

use super::{Entropy, KeyError};

/// Bytes of a provider's parameters in the ring file, most.
pub(super) const PARAMETERS_BYTES: usize = 1_024;

/// The kinds of providers; the ring file says which one it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
    /// A passphrase, through argon2id.
    Passphrase,
    /// A key on a PKCS#11 token.
    Pkcs11,
    /// A key in HashiCorp Vault's transit engine.
    Vault,
}

impl ProviderKind {
    const ALL: [Self; 3] = [Self::Passphrase, Self::Pkcs11, Self::Vault];

    /// What the configuration calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passphrase => "passphrase",
            Self::Pkcs11 => "pkcs11",
            Self::Vault => "vault",
        }
    }

    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Passphrase => 1,
            Self::Pkcs11 => 2,
            Self::Vault => 3,
        }
    }

    pub(super) fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.byte() == byte)
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key-encryption key, where it lives.
pub trait KeyProvider: Send + Sync {
    /// Which kind it is.
    fn kind(&self) -> ProviderKind;
    /// How the key is found again. Stands in the ring file in the clear, and holds no secret.
    fn parameters(&self) -> Vec<u8>;
    /// Encrypts `plain`, authenticated together with `place`.
    fn wrap(&self, place: &[u8], plain: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>, KeyError>;
    /// Opens what `wrap` made for the same `place`.
    fn unwrap(&self, place: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError>;
}

/// Whoever can reach the provider that a ring file names.
pub trait Unlock {
    /// The provider, or why it cannot be had.
    fn unlock(&self, kind: ProviderKind, parameters: &[u8]) -> Result<Arc<dyn KeyProvider>, KeyError>;
}
