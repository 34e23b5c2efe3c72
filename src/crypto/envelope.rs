//! The sealed form of everything: version, key id, nonce, ciphertext, tag. What it is and where it lies is authenticated.

use std::fmt;

use zeroize::Zeroizing;

use super::{
    Entropy, EntropyError, derive,
    xaes::{self, NONCE_BYTES, TAG_BYTES},
};
use crate::model::SealError;

/// Bytes of a key id.
pub const KEY_ID_BYTES: usize = 16;
/// What sealing adds to the length.
pub const OVERHEAD_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_BYTES + TAG_BYTES;

const VERSION: u8 = 1;
const FORMAT: &[u8] = b"wardkeep/sealed/1";

/// The name of a data key: random, not secret.
pub type KeyTag = [u8; KEY_ID_BYTES];

/// What tells one sealing from another: random, not secret.
pub type Stamp = [u8; 16];

/// A 256-bit key for one owner, wiped when dropped.
pub struct DataKey {
    id: KeyTag,
    key: Zeroizing<[u8; 32]>,
}

impl DataKey {
    /// A fresh one.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let mut made = Self { id: [0; KEY_ID_BYTES], key: Zeroizing::new([0; 32]) };
        entropy.fill(&mut made.id)?;
        entropy.fill(&mut *made.key)?;
        Ok(made)
    }

    pub(super) fn new(id: KeyTag, key: Zeroizing<[u8; 32]>) -> Self {
        Self { id, key }
    }

    pub(super) fn secret(&self) -> &[u8; 32] {
        &self.key
    }

    /// Its name.
    pub fn id(&self) -> KeyTag {
        self.id
    }

    /// Seals `plain` for `place` (length-prefixed parts that say what it is and where it lies) with a nonce never used before.
    pub fn seal(&self, nonce: &[u8; NONCE_BYTES], place: &[&[u8]], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut sealed = Vec::with_capacity(plain.len() + OVERHEAD_BYTES);
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.id);
        sealed.extend_from_slice(nonce);
        let head = sealed.len();
        sealed.extend_from_slice(plain);
        let body = sealed.get_mut(head..).ok_or(SealError)?;
        let tag = xaes::encrypt(&self.key, nonce, &self.associated(place), body)?;
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Opens what `seal` made for the same `place`.
    pub fn open(&self, place: &[&[u8]], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let mut plain = Zeroizing::new(Vec::new());
        self.open_into(place, sealed, &mut plain)?;
        Ok(plain)
    }

    /// The same into memory that serves again and again: what it held before is overwritten or, if it is too small, wiped.
    pub fn open_into(&self, place: &[&[u8]], sealed: &[u8], plain: &mut Zeroizing<Vec<u8>>) -> Result<(), SealError> {
        plain.clear();
        let Parts { key, nonce, body, tag } = parts(sealed).ok_or(SealError)?;
        if *key != self.id {
            return Err(SealError);
        }
        if plain.capacity() < body.len() {
            *plain = Zeroizing::new(Vec::with_capacity(body.len()));
        }
        plain.extend_from_slice(body);
        let opened = xaes::decrypt(&self.key, nonce, &self.associated(place), plain, tag);
        opened.inspect_err(|_| plain.clear())
    }

    fn associated(&self, place: &[&[u8]]) -> Vec<u8> {
        let mut parts = Vec::with_capacity(place.len() + 3);
        parts.extend([FORMAT, &[VERSION], &self.id]);
        parts.extend_from_slice(place);
        derive::joined(&parts)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(…)")
    }
}

/// The id of the key that `sealed` says it is under; `None` if it is not of the sealed form.
pub fn key_of(sealed: &[u8]) -> Option<KeyTag> {
    parts(sealed).map(|p| *p.key)
}

/// Version, key and nonce of `sealed`: no two sealings share them.
pub fn head_of(sealed: &[u8]) -> Option<&[u8]> {
    parts(sealed).and_then(|_| sealed.get(..1 + KEY_ID_BYTES + NONCE_BYTES))
}

/// Tells one sealing from every other: the first bytes of its nonce, which are random. `None` if it is not of the sealed form.
pub fn stamp_of(sealed: &[u8]) -> Option<Stamp> {
    parts(sealed)?.nonce.first_chunk().copied()
}

struct Parts<'a> {
    key: &'a KeyTag,
    nonce: &'a [u8; NONCE_BYTES],
    body: &'a [u8],
    tag: &'a [u8; TAG_BYTES],
}

fn parts(sealed: &[u8]) -> Option<Parts<'_>> {
    let ([VERSION], rest) = sealed.split_first_chunk()? else { return None };
    let (key, rest) = rest.split_first_chunk()?;
    let (nonce, rest) = rest.split_first_chunk()?;
    let (body, tag) = rest.split_last_chunk()?;
    Some(Parts { key, nonce, body, tag })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::OsEntropy;

    fn key() -> DataKey {
        DataKey::generate(&OsEntropy).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_and_nowhere_else() {
        let key = key();
        let sealed = key.seal(&[9; 24], &[b"record", b"a"], b"words").unwrap();
        assert_eq!(sealed.len(), 5 + OVERHEAD_BYTES);
        assert_eq!(key_of(&sealed), Some(key.id()));
        assert_eq!(&**key.open(&[b"record", b"a"], &sealed).unwrap(), b"words");
        assert!(key.open(&[b"record", b"b"], &sealed).is_err());
        assert!(key.open(&[b"recorda"], &sealed).is_err());
        assert!(DataKey::new(key.id(), Zeroizing::new([1; 32])).open(&[b"record", b"a"], &sealed).is_err());
    }

    #[test]
    fn what_is_opened_into_memory_that_was_used_before_is_there_alone() {
        let key = key();
        let mut plain = Zeroizing::new(Vec::new());
        for words in [&b"a few words"[..], b"one", b"", b"many more words than there were before"] {
            let sealed = key.seal(&[5; 24], &[b"place"], words).unwrap();
            key.open_into(&[b"place"], &sealed, &mut plain).unwrap();
            assert_eq!(**plain, *words);
            assert!(key.open_into(&[b"elsewhere"], &sealed, &mut plain).is_err());
            assert!(plain.is_empty());
        }
    }

    #[test]
    fn no_changed_byte_and_no_shorter_form_opens() {
        let key = key();
        let sealed = key.seal(&[3; 24], &[b"place"], b"content of a record").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key.open(&[b"place"], &changed).is_err(), "byte {at}");
            assert!(key.open(&[b"place"], &sealed[..at]).is_err(), "cut at {at}");
        }
    }
}
