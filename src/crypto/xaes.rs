//! XAES-256-GCM as C2SP specifies it: AES-256-GCM under a key derived from the first half of a 24-byte nonce,
//! so that random nonces never run out under one key.

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::AeadInOut,
    aes::{Aes256, Block, cipher::BlockCipherEncrypt},
};
use zeroize::{Zeroize, Zeroizing};

use crate::model::SealError;

/// Bytes of a nonce.
pub(super) const NONCE_BYTES: usize = 24;
/// Bytes of a tag.
pub(super) const TAG_BYTES: usize = 16;

/// Encrypts `buffer` in place and gives the tag.
pub(super) fn encrypt(
    key: &[u8; 32],
    nonce: &[u8; NONCE_BYTES],
    associated: &[u8],
    buffer: &mut [u8],
) -> Result<[u8; TAG_BYTES], SealError> {
    let (cipher, rest) = derived(key, nonce);
    let tag = cipher.encrypt_inout_detached((&rest).into(), associated, buffer.into()).map_err(|_| SealError)?;
    Ok(tag.into())
}

/// Decrypts `buffer` in place if the tag is right; else leaves it as it is.
pub(super) fn decrypt(
    key: &[u8; 32],
    nonce: &[u8; NONCE_BYTES],
    associated: &[u8],
    buffer: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), SealError> {
    let (cipher, rest) = derived(key, nonce);
    cipher.decrypt_inout_detached((&rest).into(), associated, buffer.into(), tag.into()).map_err(|_| SealError)
}

/// The cipher for one nonce: NIST SP 800-108r1 counter mode with CMAC, two blocks of it; and the 12 bytes left for GCM.
fn derived(key: &[u8; 32], nonce: &[u8; NONCE_BYTES]) -> (Aes256Gcm, [u8; 12]) {
    let aes = Aes256::new(key.into());
    let mask = cmac_mask(&aes);
    let (head, rest) = halves(nonce);
    let mut derived = Zeroizing::new([0_u8; 32]);
    for (counter, out) in (1_u8..).zip(derived.chunks_exact_mut(16)) {
        let message = [0, counter, b'X', 0].into_iter().chain(head);
        let mut block = Block::default();
        for ((to, byte), mask) in block.iter_mut().zip(message).zip(mask) {
            *to = byte ^ mask;
        }
        aes.encrypt_block(&mut block);
        out.copy_from_slice(&block);
        block.zeroize();
    }
    (Aes256Gcm::new((&*derived).into()), rest)
}

/// CMAC's first subkey: the encryption of zeros, doubled in GF(2^128).
fn cmac_mask(aes: &Aes256) -> [u8; 16] {
    let mut block = Block::default();
    aes.encrypt_block(&mut block);
    let l = u128::from_be_bytes(block.into());
    ((l << 1) ^ if l >> 127 == 1 { 0x87 } else { 0 }).to_be_bytes()
}

fn halves(nonce: &[u8; NONCE_BYTES]) -> ([u8; 12], [u8; 12]) {
    let (mut head, mut rest) = ([0; 12], [0; 12]);
    for (to, from) in head.iter_mut().chain(&mut rest).zip(nonce) {
        *to = *from;
    }
    (head, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both vectors of the C2SP specification: the top bit of L clear, and set.
    #[test]
    fn the_public_vectors_of_xaes_256_gcm_come_out() {
        let nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX";
        let cases: [(u8, &[u8], &str); 2] = [
            (1, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
            (3, b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
        ];
        for (byte, associated, expected) in cases {
            let key = [byte; 32];
            let mut buffer = b"XAES-256-GCM".to_vec();
            let tag = encrypt(&key, nonce, associated, &mut buffer).unwrap();
            assert_eq!(hex::encode(&buffer) + &hex::encode(tag), expected);
            decrypt(&key, nonce, associated, &mut buffer, &tag).unwrap();
            assert_eq!(buffer, b"XAES-256-GCM");
        }
    }
}
