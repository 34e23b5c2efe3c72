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

/// Has `plain` wrapped, and sees that it comes back: before that, nothing that it replaces is let go.
pub(super) fn wrap(
    provider: &dyn KeyProvider,
    place: &[u8],
    plain: &[u8],
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, KeyError> {
    let wrapped = provider.wrap(place, plain, entropy)?;
    match provider.unwrap(place, &wrapped) {
        Ok(back) if *back == plain => Ok(wrapped),
        Ok(_) | Err(KeyError::WrongKey | KeyError::WrongPassphrase | KeyError::Damaged) => Err(UNRELIABLE),
        Err(error) => Err(error),
    }
}

/// Sees that a provider holds what it wraps to its place, as not all do that were asked to: a store must not begin to rely on it else.
pub(super) fn check(provider: &dyn KeyProvider, entropy: &dyn Entropy) -> Result<(), KeyError> {
    let wrapped = wrap(provider, b"one place", b"no secret", entropy)?;
    match provider.unwrap(b"another place", &wrapped) {
        Err(KeyError::WrongKey | KeyError::WrongPassphrase | KeyError::Damaged) => Ok(()),
        Ok(_) => Err(UNBOUND),
        Err(error) => Err(error),
    }
}

const UNRELIABLE: KeyError =
    KeyError::Provider("what the key provider wrapped does not come back from it as it was: nothing was changed");
const UNBOUND: KeyError = KeyError::Provider(
    "the key provider does not authenticate associated data, so that an old key file could pass for the present one: nothing was changed (Vault does from 1.13 on)",
);

/// Whoever can reach the provider that a ring file names.
pub trait Unlock {
    /// The provider, or why it cannot be had.
    fn unlock(&self, kind: ProviderKind, parameters: &[u8]) -> Result<Arc<dyn KeyProvider>, KeyError>;
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::crypto::OsEntropy;

    /// How a provider fails whoever relies on it.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(in crate::crypto) enum Fault {
        /// It does as it should.
        None,
        /// It hands out what it cannot open again, as where a token makes a nonce of its own.
        Lost,
        /// It opens to something else.
        Another,
        /// It takes no notice of the place.
        Unbound,
    }

    /// A provider that wraps nothing, and fails in one way.
    pub(in crate::crypto) struct Faulty(pub(in crate::crypto) Fault);

    impl KeyProvider for Faulty {
        fn kind(&self) -> ProviderKind {
            ProviderKind::Vault
        }

        fn parameters(&self) -> Vec<u8> {
            Vec::new()
        }

        fn wrap(&self, place: &[u8], plain: &[u8], _: &dyn Entropy) -> Result<Vec<u8>, KeyError> {
            Ok([place, b"|", plain].concat())
        }

        fn unwrap(&self, place: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
            let own = wrapped.strip_prefix(place).and_then(|rest| rest.strip_prefix(b"|"));
            match (self.0, own) {
                (Fault::Lost, _) | (Fault::None | Fault::Another, None) => Err(KeyError::WrongKey),
                (Fault::Another, Some(_)) => Ok(Zeroizing::new(b"another".to_vec())),
                (Fault::Unbound, None) => Ok(Zeroizing::new(b"no secret".to_vec())),
                (Fault::None | Fault::Unbound, Some(plain)) => Ok(Zeroizing::new(plain.to_vec())),
            }
        }
    }

    #[test]
    fn what_does_not_come_back_from_a_provider_as_it_was_is_not_relied_on() {
        let wrapped = |fault| wrap(&Faulty(fault), b"place", b"secret", &OsEntropy);
        assert_eq!(wrapped(Fault::None), Ok(b"place|secret".to_vec()));
        assert_eq!(wrapped(Fault::Lost), Err(UNRELIABLE));
        assert_eq!(wrapped(Fault::Another), Err(UNRELIABLE));
    }

    #[test]
    fn a_provider_that_takes_no_notice_of_the_place_is_refused() {
        assert_eq!(check(&Faulty(Fault::None), &OsEntropy), Ok(()));
        assert_eq!(check(&Faulty(Fault::Unbound), &OsEntropy), Err(UNBOUND));
    }
}
