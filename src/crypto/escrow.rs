//! What a restored store needs of the keys of the one that was lost: the root secret and a body of the caller's, sealed under a key
//! that the key provider wraps. Knows nothing of what the body holds.
//!
//! ```text
//! "WKESCR\0" 1 | store id 16 | generation u64 | epoch u32 | provider u8 | n u16, its parameters | n u16, wrapped key | sealed: root 32, body
//! ```
//! Whoever has such a file *and* the provider's key can read what was in the store when it was made: it is short-lived by design.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{
    DataKey, Entropy, KeyError, KeyProvider, Unlock,
    envelope::KEY_ID_BYTES,
    provider::{self, PARAMETERS_BYTES, ProviderKind},
    ring::{Held, KeyRing},
    xaes,
};

const MAGIC: &[u8; 8] = b"WKESCR\0\x01";
/// The content key is under no other name.
const CONTENT: [u8; KEY_ID_BYTES] = *b"wardkeep escrow\0";
/// Bytes of a wrapped content key, most.
const WRAPPED_BYTES: usize = 4 << 10;

/// An escrow, opened.
pub struct Escrow {
    /// The lost store's id; the restored one has it too, or nothing of it would open.
    pub store_id: [u8; 16],
    /// What its ring file was at.
    pub generation: u64,
    /// Its epoch.
    pub epoch: u32,
    /// What the caller put in.
    pub body: Zeroizing<Vec<u8>>,
    root: Zeroizing<[u8; 32]>,
    provider: Arc<dyn KeyProvider>,
}

impl KeyRing {
    /// The root secret and `body`, for a restore. Only the key provider's holder can open it.
    pub fn escrow(&self, body: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>, KeyError> {
        let provider = self.provider();
        let mut secret = Zeroizing::new([0; 32]);
        entropy.fill(&mut *secret)?;
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.store_id());
        out.extend_from_slice(&self.generation().to_le_bytes());
        out.extend_from_slice(&self.epoch().to_le_bytes());
        out.push(provider.kind().byte());
        part(&mut out, &provider.parameters())?;
        let wrapped = provider::wrap(&*provider, &out, &*secret, entropy)?;
        let content = DataKey::new(CONTENT, secret);
        let mut plain = Zeroizing::new(Vec::with_capacity(32 + body.len()));
        plain.extend_from_slice(self.root());
        plain.extend_from_slice(body);
        let mut nonce = [0; xaes::NONCE_BYTES];
        entropy.fill(&mut nonce)?;
        let sealed = content.seal(&nonce, &[b"escrow", &out], &plain).map_err(|_| KeyError::Damaged)?;
        part(&mut out, &wrapped)?;
        out.extend_from_slice(&sealed);
        Ok(out)
    }
}

impl Escrow {
    /// Opens what `KeyRing::escrow` made.
    pub fn open(bytes: &[u8], unlock: &dyn Unlock) -> Result<Self, KeyError> {
        let Parsed { store_id, generation, epoch, provider, parameters, header, wrapped, sealed } =
            parse(bytes).ok_or(KeyError::Damaged)?;
        let provider = unlock.unlock(provider, parameters)?;
        let secret = provider.unwrap(header, wrapped)?;
        let secret = <[u8; 32]>::try_from(secret.as_slice()).map_err(|_| KeyError::Damaged)?;
        let content = DataKey::new(CONTENT, Zeroizing::new(secret));
        let plain = content.open(&[b"escrow", header], sealed).map_err(|_| KeyError::Damaged)?;
        let (root, body) = plain.split_first_chunk::<32>().ok_or(KeyError::Damaged)?;
        let (root, body) = (Zeroizing::new(*root), Zeroizing::new(body.to_vec()));
        Ok(Self { store_id, generation, epoch, body, root, provider })
    }

    /// The lost store's keys, for reading its backups: a ring that no file holds and nothing is wrapped by.
    pub fn keys(&self, entropy: &dyn Entropy) -> Result<KeyRing, KeyError> {
        Ok(KeyRing::assemble(self.store_id, self.root.clone(), std::path::Path::new(""), self.held(entropy)?))
    }

    /// A ring for the restored store: the same root, so that what was sealed and named opens again; a ring key of its own, one
    /// generation and one epoch on, so that nothing of the lost store's ring fits it.
    pub fn revive(&self, path: &std::path::Path, entropy: &dyn Entropy) -> Result<KeyRing, KeyError> {
        KeyRing::write_new(self.store_id, self.root.clone(), path, self.held(entropy)?, entropy)
    }

    fn held(&self, entropy: &dyn Entropy) -> Result<Held, KeyError> {
        Ok(Held {
            generation: self.generation.saturating_add(1),
            epoch: self.epoch.saturating_add(1),
            key: Arc::new(DataKey::generate(entropy)?),
            other: None,
            provider: self.provider.clone(),
        })
    }
}

struct Parsed<'a> {
    store_id: [u8; 16],
    generation: u64,
    epoch: u32,
    provider: ProviderKind,
    parameters: &'a [u8],
    /// All before the wrapped key; what both seals are bound to.
    header: &'a [u8],
    wrapped: &'a [u8],
    sealed: &'a [u8],
}

fn parse(bytes: &[u8]) -> Option<Parsed<'_>> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (store_id, rest) = rest.split_first_chunk::<16>()?;
    let (generation, rest) = rest.split_first_chunk()?;
    let (epoch, rest) = rest.split_first_chunk()?;
    let (provider, rest) = rest.split_first()?;
    let (parameters, rest) = take_part(rest, PARAMETERS_BYTES)?;
    let header = bytes.get(..bytes.len() - rest.len())?;
    let (wrapped, sealed) = take_part(rest, WRAPPED_BYTES)?;
    (magic == MAGIC).then_some(Parsed {
        store_id: *store_id,
        generation: u64::from_le_bytes(*generation),
        epoch: u32::from_le_bytes(*epoch),
        provider: ProviderKind::of(*provider)?,
        parameters,
        header,
        wrapped,
        sealed,
    })
}

fn part(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), KeyError> {
    let length = u16::try_from(bytes.len()).map_err(|_| KeyError::Damaged)?;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

fn take_part(bytes: &[u8], most: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::from(u16::from_le_bytes(*length));
    if length <= most { rest.split_at_checked(length) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{KdfCost, OsEntropy, Passphrase, PassphraseKey};

    fn phrase(text: &str) -> Passphrase {
        Passphrase::from_bytes(text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_ring_is_revived_from_its_escrow_one_generation_on_and_a_changed_byte_opens_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let provider = PassphraseKey::make(&phrase("correct horse"), KdfCost::FLOOR, &OsEntropy).unwrap();
        let ring = KeyRing::create(&dir.path().join("keyring"), Arc::new(provider), &OsEntropy).unwrap();
        let escrow = ring.escrow(b"data keys", &OsEntropy).unwrap();
        assert_eq!(Escrow::open(&escrow, &phrase("wrong horse")).err(), Some(KeyError::WrongPassphrase));
        let opened = Escrow::open(&escrow, &phrase("correct horse")).unwrap();
        assert_eq!(opened.body.as_slice(), b"data keys");
        let revived = opened.revive(&dir.path().join("other"), &OsEntropy).unwrap();
        assert_eq!((revived.store_id(), revived.verifier(b"s")), (ring.store_id(), ring.verifier(b"s")));
        assert_eq!((revived.generation(), revived.epoch()), (2, 2));
        assert!(KeyRing::open(&dir.path().join("other"), &phrase("correct horse")).is_ok());
        for at in (0..escrow.len()).step_by(3) {
            let mut bad = escrow.clone();
            bad[at] ^= 1;
            assert!(Escrow::open(&bad, &phrase("correct horse")).is_err(), "byte {at}");
        }
        for end in 0..escrow.len() {
            assert!(Escrow::open(&escrow[..end], &phrase("correct horse")).is_err());
        }
    }
}
