//! Keyed hashing: HMAC-SHA-256 over length-prefixed parts, so that no two lists of parts feed it the same bytes.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// A keyed hash, ready to be cloned for each message.
pub(super) type Keyed = Hmac<Sha256>;

/// HMAC under a 32-byte key. It is padded here to a whole block, as HMAC itself does, because that form cannot fail.
pub(super) fn keyed(key: &[u8; 32]) -> Keyed {
    let mut block = Zeroizing::new([0_u8; 64]);
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    Keyed::new((&*block).into())
}

/// The hash of `parts`.
pub(super) fn hash(keyed: &Keyed, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed.clone();
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// A key for one use, from a secret that has many.
pub(super) fn subkey(secret: &[u8; 32], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(hash(&keyed(secret), parts))
}

/// The first 16 bytes.
pub(crate) fn short(hash: [u8; 32]) -> [u8; 16] {
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().zip(hash) {
        *to = from;
    }
    out
}

/// `parts`, each behind its length: the form of associated data.
pub(super) fn joined(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|p| p.len() + 8).sum());
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keyed_hash_is_hmac_sha_256() {
        // RFC 4231, case 2, has a 4-byte key: zero padding makes it a 32-byte one without changing the result
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let mut mac = keyed(&key);
        mac.update(b"what do ya want for nothing?");
        let out: [u8; 32] = mac.finalize().into_bytes().into();
        assert_eq!(hex::encode(out), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn where_one_part_ends_matters() {
        let key = keyed(&[7; 32]);
        assert_ne!(hash(&key, &[b"ab", b"c"]), hash(&key, &[b"a", b"bc"]));
        assert_ne!(hash(&key, &[b"ab"]), hash(&key, &[b"ab", b""]));
        assert_ne!(joined(&[b"ab", b"c"]), joined(&[b"a", b"bc"]));
    }
}
