//! The key ring: one secret per purpose, opened once by the passphrase.

use std::{fmt, path::Path, sync::Arc};

use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

use super::{
    DataKey, Entropy, KdfCost, KeyError, KeyTag, OsEntropy, Passphrase,
    derive::{self, Keyed},
    kdf::SALT_BYTES,
    ring_file::{Header, RingFile, WRAPPED},
    xaes,
};
use crate::model::{Pseudonyms, SealError, Sealer, Signer};

/// All keys of one store. Clones share them; they are wiped with the last one.
#[derive(Clone)]
pub struct KeyRing(Arc<Inner>);

struct Inner {
    store_id: [u8; 16],
    generation: u64,
    /// Wraps data keys; can be renewed, which makes every old copy of a wrapped key noise.
    ring: DataKey,
    /// Never changes: names on disk, pseudonyms and verifiers must stay comparable.
    root: Zeroizing<[u8; 32]>,
    names: Keyed,
    rows: Keyed,
    verifiers: Keyed,
    pseudonyms: Arc<KeyedPseudonyms>,
}

impl KeyRing {
    /// Makes a ring and writes its file (0600, durable). Never overwrites one.
    pub fn create(
        path: &Path,
        passphrase: &Passphrase,
        cost: KdfCost,
        entropy: &dyn Entropy,
    ) -> Result<Self, KeyError> {
        let mut store_id = [0; 16];
        entropy.fill(&mut store_id)?;
        let mut root = Zeroizing::new([0; 32]);
        entropy.fill(&mut *root)?;
        let ring = Self::assemble(store_id, 1, DataKey::generate(entropy)?, root);
        ring.wrapped(passphrase, cost, entropy)?.create(path)?;
        Ok(ring)
    }

    /// Opens the ring in `path`.
    pub fn open(path: &Path, passphrase: &Passphrase) -> Result<Self, KeyError> {
        let RingFile { header, nonce, wrapped } = RingFile::read(path)?;
        let kek = header.cost.derive(passphrase, &header.salt)?;
        let (body, tag) = wrapped.split_last_chunk().ok_or(KeyError::Damaged)?;
        let mut plain = Zeroizing::new(body.to_vec());
        xaes::decrypt(&kek, &nonce, &header.bytes(), &mut plain, tag).map_err(|_| KeyError::WrongPassphrase)?;
        let secrets = || {
            let (id, rest) = plain.split_first_chunk::<16>()?;
            let (ring, root) = rest.split_first_chunk::<32>()?;
            Some((DataKey::new(*id, Zeroizing::new(*ring)), Zeroizing::new(<[u8; 32]>::try_from(root).ok()?)))
        };
        let (ring, root) = secrets().ok_or(KeyError::Damaged)?;
        Ok(Self::assemble(header.store_id, header.generation, ring, root))
    }

    /// Wraps the same secrets under another passphrase, one generation on, and replaces the file. The old file opens no
    /// longer where the store has seen the new generation.
    pub fn rewrap(
        &self,
        path: &Path,
        passphrase: &Passphrase,
        cost: KdfCost,
        entropy: &dyn Entropy,
    ) -> Result<Self, KeyError> {
        let ring = DataKey::new(self.0.ring.id(), Zeroizing::new(*self.0.ring.secret()));
        let next = Self::assemble(self.0.store_id, self.0.generation.saturating_add(1), ring, self.0.root.clone());
        next.wrapped(passphrase, cost, entropy)?.replace(path)?;
        Ok(next)
    }

    /// The store's id: random, made with the ring.
    pub fn store_id(&self) -> [u8; 16] {
        self.0.store_id
    }

    /// How often the ring was wrapped anew; the store remembers the highest it saw.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// The seal for one class of things that live as long as the store (`audit`, `manifest`).
    pub fn sealer(&self, class: &str) -> Arc<dyn Sealer> {
        let key = self.derived(b"class", class);
        let id = derive::short(*self.derived(b"class id", class));
        Arc::new(ClassSealer { key: DataKey::new(id, key), store_id: self.0.store_id, class: class.into() })
    }

    /// The key that signs heads of the audit log.
    pub fn signer(&self) -> Arc<dyn Signer> {
        Arc::new(AuditSigner(SigningKey::from_bytes(&self.derived(b"signature", "audit"))))
    }

    /// Pseudonyms that this store alone can make.
    pub fn pseudonyms(&self) -> Arc<dyn Pseudonyms> {
        self.0.pseudonyms.clone()
    }

    /// The keyed hash of an API key's secret. Compare in constant time.
    pub fn verifier(&self, secret: &[u8]) -> [u8; 32] {
        derive::hash(&self.0.verifiers, &[secret])
    }

    /// What a thing is called on disk: 16 bytes that say nothing without the ring.
    pub fn name(&self, kind: &str, parts: &[&[u8]]) -> [u8; 16] {
        let mut all = Vec::with_capacity(parts.len() + 1);
        all.push(kind.as_bytes());
        all.extend_from_slice(parts);
        derive::short(derive::hash(&self.0.names, &all))
    }

    /// The term of one stored row in the store's root.
    pub fn row(&self, key: &[u8], value: &[u8]) -> [u8; 32] {
        derive::hash(&self.0.rows, &[key, value])
    }

    /// Wraps a data key for `scope`, the keyed name of its owner.
    pub fn wrap(&self, scope: &[u8; 16], key: &DataKey, entropy: &dyn Entropy) -> Result<Vec<u8>, KeyError> {
        let mut nonce = [0; xaes::NONCE_BYTES];
        entropy.fill(&mut nonce)?;
        let mut plain = Zeroizing::new(scope.to_vec());
        plain.extend_from_slice(key.secret());
        self.0.ring.seal(&nonce, &self.key_place(&key.id()), &plain).map_err(|SealError| KeyError::Damaged)
    }

    /// Unwraps the data key that is stored as `id`.
    pub fn unwrap(&self, id: KeyTag, wrapped: &[u8]) -> Result<WrappedKey, SealError> {
        let plain = self.0.ring.open(&self.key_place(&id), wrapped)?;
        let (scope, key) = plain.split_first_chunk().ok_or(SealError)?;
        let key = Zeroizing::new(<[u8; 32]>::try_from(key).map_err(|_| SealError)?);
        Ok(WrappedKey { scope: *scope, key: DataKey::new(id, key) })
    }

    fn key_place<'a>(&'a self, id: &'a KeyTag) -> [&'a [u8]; 3] {
        [b"data key", &self.0.store_id, id]
    }

    fn derived(&self, purpose: &[u8], class: &str) -> Zeroizing<[u8; 32]> {
        subkey(&self.0.root, &self.0.store_id, purpose, class)
    }

    fn assemble(store_id: [u8; 16], generation: u64, ring: DataKey, root: Zeroizing<[u8; 32]>) -> Self {
        let mac = |class| derive::keyed(&subkey(&root, &store_id, b"hash", class));
        let (names, rows, verifiers) = (mac("names"), mac("rows"), mac("verifiers"));
        let pseudonyms = Arc::new(KeyedPseudonyms(mac("pseudonyms")));
        Self(Arc::new(Inner { store_id, generation, ring, root, names, rows, verifiers, pseudonyms }))
    }

    fn wrapped(&self, passphrase: &Passphrase, cost: KdfCost, entropy: &dyn Entropy) -> Result<RingFile, KeyError> {
        let mut salt = [0; SALT_BYTES];
        entropy.fill(&mut salt)?;
        let mut nonce = [0; xaes::NONCE_BYTES];
        entropy.fill(&mut nonce)?;
        let header = Header { store_id: self.0.store_id, generation: self.0.generation, cost, salt };
        let kek = cost.derive(passphrase, &salt)?;
        let mut body = Zeroizing::new(Vec::with_capacity(WRAPPED));
        body.extend_from_slice(&self.0.ring.id());
        body.extend_from_slice(self.0.ring.secret());
        body.extend_from_slice(&*self.0.root);
        let tag = xaes::encrypt(&kek, &nonce, &header.bytes(), &mut body).map_err(|SealError| KeyError::Damaged)?;
        body.extend_from_slice(&tag);
        let wrapped = body.as_slice().try_into().map_err(|_| KeyError::Damaged)?;
        Ok(RingFile { header, nonce, wrapped })
    }
}

/// A data key as it comes out of its wrap, with the keyed name of whom it belongs to.
pub struct WrappedKey {
    /// The keyed name of its owner.
    pub scope: [u8; 16],
    /// The key.
    pub key: DataKey,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRing(…)")
    }
}

fn subkey(root: &[u8; 32], store_id: &[u8; 16], purpose: &[u8], class: &str) -> Zeroizing<[u8; 32]> {
    derive::subkey(root, &[b"wardkeep/derive/1", store_id, purpose, class.as_bytes()])
}

struct ClassSealer {
    key: DataKey,
    store_id: [u8; 16],
    class: Box<str>,
}

impl Sealer for ClassSealer {
    fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; xaes::NONCE_BYTES];
        OsEntropy.fill(&mut nonce).map_err(|_| SealError)?;
        self.key.seal(&nonce, &[&self.store_id, self.class.as_bytes(), place], plain)
    }

    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.key.open(&[&self.store_id, self.class.as_bytes(), place], sealed)
    }
}

struct AuditSigner(SigningKey);

impl Signer for AuditSigner {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }
}

struct KeyedPseudonyms(Keyed);

impl Pseudonyms for KeyedPseudonyms {
    fn pseudonym(&self, domain: &str, id: &[u8]) -> [u8; 16] {
        derive::short(derive::hash(&self.0, &[domain.as_bytes(), id]))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn phrase(text: &str) -> Passphrase {
        Passphrase::from_bytes(text.as_bytes().to_vec()).unwrap()
    }

    fn fresh() -> (tempfile::TempDir, std::path::PathBuf, KeyRing) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyring");
        let ring = KeyRing::create(&path, &phrase("correct horse"), KdfCost::FLOOR, &OsEntropy).unwrap();
        (dir, path, ring)
    }

    #[test]
    fn a_ring_opens_under_its_passphrase_with_the_same_keys() {
        let (_dir, path, made) = fresh();
        let opened = KeyRing::open(&path, &phrase("correct horse")).unwrap();
        assert_eq!(made.store_id(), opened.store_id());
        assert_eq!(made.verifier(b"s"), opened.verifier(b"s"));
        assert_eq!(made.signer().public_key(), opened.signer().public_key());
        assert_eq!(made.pseudonyms().pseudonym("p", b"1"), opened.pseudonyms().pseudonym("p", b"1"));
        let sealed = made.sealer("audit").seal(b"7", b"entry").unwrap();
        assert_eq!(&**opened.sealer("audit").open(b"7", &sealed).unwrap(), b"entry");
        assert!(opened.sealer("manifest").open(b"7", &sealed).is_err());
        assert!(opened.sealer("audit").open(b"8", &sealed).is_err());
        let key = DataKey::generate(&OsEntropy).unwrap();
        let wrapped = made.wrap(&[5; 16], &key, &OsEntropy).unwrap();
        let unwrapped = opened.unwrap(key.id(), &wrapped).unwrap();
        assert_eq!((unwrapped.scope, unwrapped.key.secret()), ([5; 16], key.secret()));
        assert!(opened.unwrap([0; 16], &wrapped).is_err());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_wrong_passphrase_is_told_from_a_damaged_file() {
        let (_dir, path, _ring) = fresh();
        assert_eq!(KeyRing::open(&path, &phrase("wrong horse")).err(), Some(KeyError::WrongPassphrase));
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            fs::write(&path, &bad).unwrap();
            assert_eq!(KeyRing::open(&path, &phrase("correct horse")).err(), Some(KeyError::Damaged), "byte {at}");
        }
        for cut in [&good[..0], &good[..good.len() - 1], &[good.as_slice(), b"x"].concat()] {
            fs::write(&path, cut).unwrap();
            assert_eq!(KeyRing::open(&path, &phrase("correct horse")).err(), Some(KeyError::Damaged));
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(KeyRing::open(&path, &phrase("correct horse")).err(), Some(KeyError::Missing));
    }

    #[test]
    fn a_changed_header_is_refused_even_with_a_repaired_checksum() {
        let (_dir, path, _ring) = fresh();
        let mut file = RingFile::read(&path).unwrap();
        file.header.generation += 1;
        file.replace(&path).unwrap();
        assert_eq!(KeyRing::open(&path, &phrase("correct horse")).err(), Some(KeyError::WrongPassphrase));
        file.header.generation -= 1;
        file.header.cost.passes = 1;
        file.replace(&path).unwrap();
        assert_eq!(KeyRing::open(&path, &phrase("correct horse")).err(), Some(KeyError::Cost));
    }

    #[test]
    fn a_ring_is_never_overwritten_and_changes_its_passphrase_one_generation_on() {
        let (_dir, path, ring) = fresh();
        let again = KeyRing::create(&path, &phrase("correct horse"), KdfCost::FLOOR, &OsEntropy);
        assert_eq!(again.err(), Some(KeyError::Exists));
        ring.rewrap(&path, &phrase("another horse"), KdfCost::FLOOR, &OsEntropy).unwrap();
        assert_eq!(KeyRing::open(&path, &phrase("correct horse")).err(), Some(KeyError::WrongPassphrase));
        let opened = KeyRing::open(&path, &phrase("another horse")).unwrap();
        assert_eq!((opened.generation(), opened.verifier(b"s")), (2, ring.verifier(b"s")));
    }

    #[test]
    fn a_signature_verifies_under_the_public_key() {
        let (_dir, _path, ring) = fresh();
        let signer = ring.signer();
        let key = ed25519_dalek::VerifyingKey::from_bytes(&signer.public_key()).unwrap();
        let signature = ed25519_dalek::Signature::from_bytes(&signer.sign(b"head"));
        assert!(key.verify_strict(b"head", &signature).is_ok());
        assert!(key.verify_strict(b"tail", &signature).is_err());
    }

    #[test]
    fn no_key_shows_itself_in_debug_output() {
        let (_dir, _path, ring) = fresh();
        assert_eq!(format!("{ring:?} {:?}", phrase("correct horse")), "KeyRing(…) Passphrase(…)");
    }
}
