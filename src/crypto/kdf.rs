//! From a passphrase to a key: argon2id with a floor on its cost.

use std::{fmt, sync::Arc};

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::{
    Entropy, KeyError,
    provider::{KeyProvider, ProviderKind, Unlock},
    xaes::{self, NONCE_BYTES},
};

/// Bytes of a salt.
const SALT_BYTES: usize = 16;

const PASSPHRASE_MIN: usize = 1;
/// Below so many bytes a passphrase can be guessed from a stolen key file, whatever a guess costs.
const PASSPHRASE_WEAK: usize = 12;
const PASSPHRASE_MAX: usize = 4_096;

/// What a person or a service manager gives to open the store. Wiped when dropped.
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// From the bytes of a file or variable; one newline at the end is not part of it.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new(bytes);
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        match bytes.len() {
            ..PASSPHRASE_MIN => Err(KeyError::ShortPassphrase),
            PASSPHRASE_MIN..=PASSPHRASE_MAX => Ok(Self(bytes)),
            _ => Err(KeyError::LongPassphrase),
        }
    }
}

impl Passphrase {
    /// Whether whoever makes a store with it should be warned.
    pub fn is_weak(&self) -> bool {
        self.0.len() < PASSPHRASE_WEAK
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

impl Unlock for Passphrase {
    fn unlock(&self, kind: ProviderKind, parameters: &[u8]) -> Result<Arc<dyn KeyProvider>, KeyError> {
        match kind {
            ProviderKind::Passphrase => Ok(Arc::new(PassphraseKey::again(self, parameters)?)),
            ProviderKind::Pkcs11 | ProviderKind::Vault => Err(KeyError::Unconfigured(kind)),
        }
    }
}

/// The key-encryption key that a passphrase gives: derived once, wiped when dropped, and never anywhere but here.
pub struct PassphraseKey {
    cost: KdfCost,
    salt: [u8; SALT_BYTES],
    key: Zeroizing<[u8; 32]>,
}

impl PassphraseKey {
    /// With a salt of its own.
    pub fn make(passphrase: &Passphrase, cost: KdfCost, entropy: &dyn Entropy) -> Result<Self, KeyError> {
        let mut salt = [0; SALT_BYTES];
        entropy.fill(&mut salt)?;
        Ok(Self { cost, salt, key: cost.derive(passphrase, &salt)? })
    }

    fn again(passphrase: &Passphrase, parameters: &[u8]) -> Result<Self, KeyError> {
        let (cost, salt) = parse(parameters).ok_or(KeyError::Damaged)?;
        Ok(Self { cost, salt, key: cost.derive(passphrase, &salt)? })
    }
}

impl KeyProvider for PassphraseKey {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Passphrase
    }

    /// Memory, passes, lanes, salt.
    fn parameters(&self) -> Vec<u8> {
        let KdfCost { memory_kib, passes, lanes } = self.cost;
        let cost = [memory_kib, passes, lanes].into_iter().flat_map(u32::to_le_bytes);
        cost.chain(self.salt).collect()
    }

    fn wrap(&self, place: &[u8], plain: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>, KeyError> {
        let mut nonce = [0; NONCE_BYTES];
        entropy.fill(&mut nonce)?;
        let mut body = Zeroizing::new(plain.to_vec());
        let tag = xaes::encrypt(&self.key, &nonce, place, &mut body).map_err(|_| KeyError::Damaged)?;
        Ok([&nonce[..], &body, &tag].concat())
    }

    fn unwrap(&self, place: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let (nonce, rest) = wrapped.split_first_chunk().ok_or(KeyError::Damaged)?;
        let (body, tag) = rest.split_last_chunk().ok_or(KeyError::Damaged)?;
        let mut plain = Zeroizing::new(body.to_vec());
        xaes::decrypt(&self.key, nonce, place, &mut plain, tag).map_err(|_| KeyError::WrongPassphrase)?;
        Ok(plain)
    }
}

fn parse(parameters: &[u8]) -> Option<(KdfCost, [u8; SALT_BYTES])> {
    let (memory, rest) = parameters.split_first_chunk()?;
    let (passes, rest) = rest.split_first_chunk()?;
    let (lanes, salt) = rest.split_first_chunk()?;
    let [memory_kib, passes, lanes] = [memory, passes, lanes].map(|n| u32::from_le_bytes(*n));
    Some((KdfCost { memory_kib, passes, lanes }, salt.try_into().ok()?))
}

/// What one guess at the passphrase costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for KdfCost {
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 }
    }
}

impl KdfCost {
    /// The least that a ring may be made or opened with (OWASP's minimum for argon2id).
    pub const FLOOR: Self = Self { memory_kib: 19 * 1024, passes: 2, lanes: 1 };
    /// The most: a changed file must not make `open` eat the machine before its seal can be checked.
    pub const CEILING: Self = Self { memory_kib: 4 * 1024 * 1024, passes: 64, lanes: 16 };

    fn check(self) -> Result<(), KeyError> {
        let within = |x: u32, low: u32, high: u32| (low..=high).contains(&x);
        let fits = within(self.memory_kib, Self::FLOOR.memory_kib, Self::CEILING.memory_kib)
            && within(self.passes, Self::FLOOR.passes, Self::CEILING.passes)
            && within(self.lanes, Self::FLOOR.lanes, Self::CEILING.lanes);
        if fits { Ok(()) } else { Err(KeyError::Cost) }
    }

    /// The key-encryption key.
    fn derive(self, passphrase: &Passphrase, salt: &[u8; SALT_BYTES]) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        self.check()?;
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).map_err(|_| KeyError::Cost)?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(&passphrase.0, salt, &mut *key)
            .map_err(|_| KeyError::Memory)?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_has_1_to_4096_bytes_and_loses_one_newline() {
        let make = |bytes: &[u8]| Passphrase::from_bytes(bytes.to_vec());
        assert_eq!(make(b"").err(), Some(KeyError::ShortPassphrase));
        assert_eq!(make(b"\n").err(), Some(KeyError::ShortPassphrase));
        assert!(make(b"1").is_ok_and(|phrase| phrase.is_weak()), "a short one is warned of");
        assert_eq!(*make(b"12345678\n").unwrap().0, b"12345678");
        assert_eq!(*make(b"12345678\r\n").unwrap().0, b"12345678");
        assert_eq!(*make(b"12345678\n\n").unwrap().0, b"12345678\n");
        assert!(make(&[b'x'; 4_096]).is_ok());
        assert_eq!(make(&[b'x'; 4_097]).err(), Some(KeyError::LongPassphrase));
    }

    #[test]
    fn costs_below_the_floor_or_above_the_ceiling_are_refused() {
        let floor = KdfCost::FLOOR;
        assert!(floor.check().is_ok() && KdfCost::CEILING.check().is_ok() && KdfCost::default().check().is_ok());
        for bad in [
            KdfCost { memory_kib: floor.memory_kib - 1, ..floor },
            KdfCost { passes: floor.passes - 1, ..floor },
            KdfCost { lanes: 0, ..floor },
            KdfCost { memory_kib: KdfCost::CEILING.memory_kib + 1, ..floor },
            KdfCost { passes: 65, ..floor },
            KdfCost { lanes: 17, ..floor },
        ] {
            assert_eq!(bad.check(), Err(KeyError::Cost));
        }
    }
}
