//! The key ring: one secret per purpose, opened once by a key provider.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use parking_lot::RwLock;
use zeroize::Zeroizing;

use super::{
    DataKey, Entropy, KeyError, KeyProvider, KeyTag, OsEntropy, Unlock,
    derive::{self, Keyed},
    envelope, provider, ring_file,
    ring_file::{Form, Header, RingFile},
    xaes,
};
use crate::model::{Pseudonyms, SealError, Sealer, Signer};

/// All keys of one store. Clones share them; they are wiped with the last one.
#[derive(Clone)]
pub struct KeyRing(Arc<Inner>);

struct Inner {
    store_id: [u8; 16],
    /// Never changes: names on disk, pseudonyms and verifiers must stay comparable.
    root: Zeroizing<[u8; 32]>,
    names: Keyed,
    rows: Keyed,
    verifiers: Keyed,
    pseudonyms: Arc<KeyedPseudonyms>,
    transit: DataKey,
    path: PathBuf,
    held: RwLock<Held>,
}

/// What of the ring can be renewed, as the ring file has it.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) generation: u64,
    pub(super) epoch: u32,
    /// Wraps the bucket keys; renewed at every destruction of a data key, which makes every old copy of a wrapped key noise.
    pub(super) key: Arc<DataKey>,
    /// The other one, where a renewal was cut short: which of the two counts, the store knows.
    pub(super) other: Option<Arc<DataKey>>,
    pub(super) provider: Arc<dyn KeyProvider>,
}

/// A ring key on its way: the ring file holds it beside the one in use, until `finish`.
pub struct Renewal {
    next: Arc<DataKey>,
    alone: RingFile,
}

impl KeyRing {
    /// Makes a ring and writes its file (0600, durable). Never overwrites one.
    pub fn create(path: &Path, provider: Arc<dyn KeyProvider>, entropy: &dyn Entropy) -> Result<Self, KeyError> {
        provider::check(&*provider, entropy)?;
        let mut store_id = [0; 16];
        entropy.fill(&mut store_id)?;
        let mut root = Zeroizing::new([0; 32]);
        entropy.fill(&mut *root)?;
        let key = Arc::new(DataKey::generate(entropy)?);
        Self::write_new(store_id, root, path, Held { generation: 1, epoch: 1, key, other: None, provider }, entropy)
    }

    /// A ring of these secrets in a file that is not there yet.
    pub(super) fn write_new(
        store_id: [u8; 16],
        root: Zeroizing<[u8; 32]>,
        path: &Path,
        held: Held,
        entropy: &dyn Entropy,
    ) -> Result<Self, KeyError> {
        let ring = Self::assemble(store_id, root, path, held);
        ring.file(&ring.held(), entropy)?.create(path)?;
        Ok(ring)
    }

    pub(super) fn root(&self) -> &[u8; 32] {
        &self.0.root
    }

    /// Opens the ring in `path`.
    pub fn open(path: &Path, unlock: &dyn Unlock) -> Result<Self, KeyError> {
        let RingFile { header, wrapped } = RingFile::read(path)?;
        let provider = unlock.unlock(header.provider, &header.parameters)?;
        let plain = provider.unwrap(&header.bytes(), &wrapped)?;
        let Secrets { root, key, other } = match header.form {
            Form::First => first_secrets(&plain),
            Form::Second => secrets(&plain),
        }
        .ok_or(KeyError::Damaged)?;
        let Header { store_id, generation, epoch, .. } = header;
        Ok(Self::assemble(store_id, root, path, Held { generation, epoch, key, other, provider }))
    }

    /// Wraps the same secrets by another provider, one generation on, and replaces the file. The old file opens no longer where the
    /// store has seen the new generation.
    pub fn rewrap(&self, provider: Arc<dyn KeyProvider>, entropy: &dyn Entropy) -> Result<(), KeyError> {
        provider::check(&*provider, entropy)?;
        let held = self.held();
        self.adopt(Held { provider, generation: held.generation.saturating_add(1), ..held }, entropy)
    }

    /// Begins to renew the ring key: from here on the file holds the new one too. Nothing hangs on it yet.
    pub fn begin(&self, epoch: u32, entropy: &dyn Entropy) -> Result<Renewal, KeyError> {
        let held = self.held();
        let next = Arc::new(DataKey::generate(entropy)?);
        let both = Held { generation: held.generation.saturating_add(1), other: Some(next.clone()), ..held.clone() };
        let generation = both.generation.saturating_add(1);
        // sealed now, so that nothing but the disk can fail between the commit and the end of the old key
        let alone = self.file(&Held { generation, epoch, key: next.clone(), other: None, ..held }, entropy)?;
        self.file(&both, entropy)?.replace(&self.0.path)?;
        self.0.held.write().generation = both.generation;
        Ok(Renewal { next, alone })
    }

    /// Ends a renewal: everything hangs on the new ring key, and the old one is gone from the file.
    pub fn finish(&self, renewal: Renewal) -> Result<(), KeyError> {
        let Renewal { next, alone } = renewal;
        alone.replace(&self.0.path)?;
        let mut held = self.0.held.write();
        (held.generation, held.epoch) = (alone.header.generation, alone.header.epoch);
        (held.key, held.other) = (next, None);
        Ok(())
    }

    /// Ends a renewal that a crash cut short: of two ring keys, the one that nothing hangs on is forgotten.
    pub fn settle(&self, in_use: Option<KeyTag>, entropy: &dyn Entropy) -> Result<(), KeyError> {
        ring_file::discard_unfinished(&self.0.path)?;
        let held = self.held();
        let Some(other) = held.other else { return Ok(()) };
        let key = if in_use == Some(other.id()) { other } else { held.key };
        self.adopt(Held { key, other: None, generation: held.generation.saturating_add(1), ..held }, entropy)
    }

    /// The store's id: random, made with the ring.
    pub fn store_id(&self) -> [u8; 16] {
        self.0.store_id
    }

    /// How often the ring file was written anew; the store remembers the highest it saw.
    pub fn generation(&self) -> u64 {
        self.0.held.read().generation
    }

    /// Counts rotations: data keys of an earlier epoch are to be renewed.
    pub fn epoch(&self) -> u32 {
        self.0.held.read().epoch
    }

    /// What keeps the key-encryption key.
    pub fn provider(&self) -> Arc<dyn KeyProvider> {
        self.0.held.read().provider.clone()
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

    /// Wraps a bucket's key by the ring key, or by the one that a renewal brings.
    pub fn wrap_bucket(
        &self,
        number: u8,
        bucket: &BucketKey,
        renewal: Option<&Renewal>,
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, KeyError> {
        let key = renewal.map_or_else(|| self.0.held.read().key.clone(), |renewal| renewal.next.clone());
        let mut plain = Zeroizing::new(bucket.key.id().to_vec());
        plain.extend_from_slice(bucket.key.secret());
        plain.extend_from_slice(&bucket.epoch.to_le_bytes());
        seal(&key, &self.bucket_place(&[number]), &plain, entropy)
    }

    /// Unwraps the key of bucket `number`.
    pub fn unwrap_bucket(&self, number: u8, wrapped: &[u8]) -> Result<BucketKey, SealError> {
        let plain = self.ring_key_of(wrapped).ok_or(SealError)?.open(&self.bucket_place(&[number]), wrapped)?;
        let (key, epoch) = ring_key(&plain).ok_or(SealError)?;
        Ok(BucketKey { key, epoch: u32::from_le_bytes(epoch.try_into().map_err(|_| SealError)?) })
    }

    /// The epoch that holds once a renewal is finished.
    pub fn epoch_after(&self, renewal: Option<&Renewal>) -> u32 {
        renewal.map_or_else(|| self.epoch(), |renewal| renewal.alone.header.epoch)
    }

    /// Wraps a data key of `scope`, the keyed name of its owner, by the key of its bucket.
    pub fn wrap(&self, bucket: &DataKey, data: &WrappedKey, entropy: &dyn Entropy) -> Result<Vec<u8>, KeyError> {
        let mut plain = Zeroizing::new(data.scope.to_vec());
        plain.extend_from_slice(data.key.secret());
        plain.extend_from_slice(&data.epoch.to_le_bytes());
        seal(bucket, &self.key_place(&data.key.id()), &plain, entropy)
    }

    /// Unwraps the data key that is stored as `id`: by its bucket's key, or, as it was until 0.1, by the ring key itself.
    pub fn unwrap(&self, bucket: Option<&DataKey>, id: KeyTag, wrapped: &[u8]) -> Result<WrappedKey, SealError> {
        let place = self.key_place(&id);
        let plain = match (self.ring_key_of(wrapped), bucket) {
            (Some(ring_key), _) => ring_key.open(&place, wrapped)?,
            (None, Some(bucket)) => bucket.open(&place, wrapped)?,
            (None, None) => return Err(SealError),
        };
        data_key(id, &plain)
    }

    /// A data key in the form in which a change carries it into a commit. Nothing that is stored hangs on it: a log that kept changes
    /// would have to be cut before what it carries counts as erased.
    pub fn carry(&self, data: &WrappedKey, entropy: &dyn Entropy) -> Result<Vec<u8>, KeyError> {
        let mut plain = Zeroizing::new(data.scope.to_vec());
        plain.extend_from_slice(data.key.secret());
        plain.extend_from_slice(&data.epoch.to_le_bytes());
        seal(&self.0.transit, &self.key_place(&data.key.id()), &plain, entropy)
    }

    /// Reads what `carry` made.
    pub fn receive(&self, id: KeyTag, carried: &[u8]) -> Result<WrappedKey, SealError> {
        data_key(id, &self.0.transit.open(&self.key_place(&id), carried)?)
    }

    /// Wraps the key of derived data, as no data key is wrapped, by the ring key itself: a renewal makes it noise.
    pub fn wrap_derived(&self, key: &DataKey, entropy: &dyn Entropy) -> Result<Vec<u8>, KeyError> {
        seal(&self.held().key, &self.derived_place(&key.id()), key.secret(), entropy)
    }

    /// Unwraps what `wrap_derived` made.
    pub fn unwrap_derived(&self, id: KeyTag, wrapped: &[u8]) -> Result<DataKey, SealError> {
        let plain = self.ring_key_of(wrapped).ok_or(SealError)?.open(&self.derived_place(&id), wrapped)?;
        Ok(DataKey::new(id, Zeroizing::new(plain.as_slice().try_into().map_err(|_| SealError)?)))
    }

    /// Whether `wrapped` hangs on a ring key that the file holds; and on which.
    pub fn hangs_on(&self, wrapped: &[u8]) -> Option<KeyTag> {
        self.ring_key_of(wrapped).map(|key| key.id())
    }

    fn ring_key_of(&self, wrapped: &[u8]) -> Option<Arc<DataKey>> {
        let id = envelope::key_of(wrapped)?;
        let held = self.0.held.read();
        std::iter::once(&held.key).chain(&held.other).find(|key| key.id() == id).cloned()
    }

    fn key_place<'a>(&'a self, id: &'a KeyTag) -> [&'a [u8]; 3] {
        [b"data key", &self.0.store_id, id]
    }

    fn derived_place<'a>(&'a self, id: &'a KeyTag) -> [&'a [u8]; 3] {
        [b"derived key", &self.0.store_id, id]
    }

    fn bucket_place<'a>(&'a self, number: &'a [u8; 1]) -> [&'a [u8]; 3] {
        [b"bucket key", &self.0.store_id, number]
    }

    fn derived(&self, purpose: &[u8], class: &str) -> Zeroizing<[u8; 32]> {
        subkey(&self.0.root, &self.0.store_id, purpose, class)
    }

    pub(super) fn assemble(store_id: [u8; 16], root: Zeroizing<[u8; 32]>, path: &Path, held: Held) -> Self {
        let mac = |class| derive::keyed(&subkey(&root, &store_id, b"hash", class));
        let (names, rows, verifiers) = (mac("names"), mac("rows"), mac("verifiers"));
        let pseudonyms = Arc::new(KeyedPseudonyms(mac("pseudonyms")));
        let derived = |purpose| subkey(&root, &store_id, purpose, "change");
        let transit = DataKey::new(derive::short(*derived(b"transit id")), derived(b"transit"));
        let (path, held) = (path.to_owned(), RwLock::new(held));
        Self(Arc::new(Inner { store_id, root, names, rows, verifiers, pseudonyms, transit, path, held }))
    }

    fn held(&self) -> Held {
        self.0.held.read().clone()
    }

    /// Into the file, then in force.
    fn adopt(&self, held: Held, entropy: &dyn Entropy) -> Result<(), KeyError> {
        self.file(&held, entropy)?.replace(&self.0.path)?;
        *self.0.held.write() = held;
        Ok(())
    }

    /// The file as it is when `held` is in force.
    fn file(&self, held: &Held, entropy: &dyn Entropy) -> Result<RingFile, KeyError> {
        let header = Header {
            form: Form::Second,
            store_id: self.0.store_id,
            generation: held.generation,
            epoch: held.epoch,
            provider: held.provider.kind(),
            parameters: held.provider.parameters(),
        };
        let mut plain = Zeroizing::new(Vec::with_capacity(SECRETS_MAX));
        plain.extend_from_slice(&*self.0.root);
        for key in std::iter::once(&held.key).chain(&held.other) {
            plain.extend_from_slice(&key.id());
            plain.extend_from_slice(key.secret());
        }
        let wrapped = provider::wrap(&*held.provider, &header.bytes(), &plain, entropy)?;
        Ok(RingFile { header, wrapped })
    }
}

/// Scope, key, and the epoch, which was not there until 0.1.
fn data_key(id: KeyTag, plain: &[u8]) -> Result<WrappedKey, SealError> {
    let parts = || {
        let (scope, rest) = plain.split_first_chunk()?;
        let (key, rest) = rest.split_first_chunk::<32>()?;
        let epoch = if rest.is_empty() { 0 } else { u32::from_le_bytes(rest.try_into().ok()?) };
        Some(WrappedKey { scope: *scope, epoch, key: Arc::new(DataKey::new(id, Zeroizing::new(*key))) })
    };
    parts().ok_or(SealError)
}

const SECRETS_MAX: usize = 32 + 2 * 48;

struct Secrets {
    root: Zeroizing<[u8; 32]>,
    key: Arc<DataKey>,
    other: Option<Arc<DataKey>>,
}

fn first_secrets(plain: &[u8]) -> Option<Secrets> {
    let (key, root) = ring_key(plain)?;
    Some(Secrets { root: Zeroizing::new(root.try_into().ok()?), key, other: None })
}

fn secrets(plain: &[u8]) -> Option<Secrets> {
    let (root, rest) = plain.split_first_chunk()?;
    let (key, rest) = ring_key(rest)?;
    let (other, rest) = if rest.is_empty() { (None, rest) } else { ring_key(rest).map(|(k, r)| (Some(k), r))? };
    rest.is_empty().then(|| Secrets { root: Zeroizing::new(*root), key, other })
}

fn ring_key(bytes: &[u8]) -> Option<(Arc<DataKey>, &[u8])> {
    let (id, rest) = bytes.split_first_chunk()?;
    let (key, rest) = rest.split_first_chunk::<32>()?;
    Some((Arc::new(DataKey::new(*id, Zeroizing::new(*key))), rest))
}

fn seal(key: &DataKey, place: &[&[u8]], plain: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>, KeyError> {
    let mut nonce = [0; xaes::NONCE_BYTES];
    entropy.fill(&mut nonce)?;
    key.seal(&nonce, place, plain).map_err(|SealError| KeyError::Damaged)
}

/// What wraps the data keys of one bucket.
#[derive(Clone)]
pub struct BucketKey {
    /// The key.
    pub key: Arc<DataKey>,
    /// The epoch up to which no data key that lay in the bucket can be unwrapped from an old copy.
    pub epoch: u32,
}

/// A data key as it comes out of its wrap, with the keyed name of whom it belongs to.
#[derive(Clone)]
pub struct WrappedKey {
    /// The keyed name of its owner.
    pub scope: [u8; 16],
    /// The epoch that it was made in; 0 until 0.1.
    pub epoch: u32,
    /// The key.
    pub key: Arc<DataKey>,
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

/// Whether `signature` (Ed25519) of `message` holds under a public key.
pub fn verifies(public_key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    let (key, signature) = (VerifyingKey::from_bytes(public_key), Signature::from_slice(signature));
    matches!((key, signature), (Ok(key), Ok(signature)) if key.verify_strict(message, &signature).is_ok())
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
    use crate::crypto::{
        KdfCost, Passphrase, PassphraseKey,
        provider::tests::{Fault, Faulty},
    };

    fn phrase(text: &str) -> Passphrase {
        Passphrase::from_bytes(text.as_bytes().to_vec()).unwrap()
    }

    fn fresh() -> (tempfile::TempDir, std::path::PathBuf, KeyRing) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyring");
        let ring = KeyRing::create(&path, provider("correct horse"), &OsEntropy).unwrap();
        (dir, path, ring)
    }

    fn provider(text: &str) -> Arc<dyn KeyProvider> {
        Arc::new(PassphraseKey::make(&phrase(text), KdfCost::FLOOR, &OsEntropy).unwrap())
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
        let (bucket, key) = (bucket_key(), data_key());
        let wrapped = made.wrap_bucket(7, &bucket, None, &OsEntropy).unwrap();
        assert!(opened.unwrap_bucket(8, &wrapped).is_err());
        let again = opened.unwrap_bucket(7, &wrapped).unwrap();
        assert_eq!((again.key.id(), again.key.secret(), again.epoch), (bucket.key.id(), bucket.key.secret(), 4));
        let data = WrappedKey { scope: [5; 16], epoch: 3, key: Arc::new(key) };
        let wrapped = made.wrap(&bucket.key, &data, &OsEntropy).unwrap();
        let unwrapped = opened.unwrap(Some(&again.key), data.key.id(), &wrapped).unwrap();
        assert_eq!((unwrapped.scope, unwrapped.epoch, unwrapped.key.secret()), ([5; 16], 3, data.key.secret()));
        assert!(opened.unwrap(Some(&again.key), [0; 16], &wrapped).is_err());
        assert!(opened.unwrap(None, data.key.id(), &wrapped).is_err());
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
        file.header.parameters[4] = 1;
        file.replace(&path).unwrap();
        assert_eq!(KeyRing::open(&path, &phrase("correct horse")).err(), Some(KeyError::Cost));
    }

    #[test]
    fn a_ring_is_never_overwritten_and_changes_its_passphrase_one_generation_on() {
        let (_dir, path, ring) = fresh();
        let again = KeyRing::create(&path, provider("correct horse"), &OsEntropy);
        assert_eq!(again.err(), Some(KeyError::Exists));
        ring.rewrap(provider("another horse"), &OsEntropy).unwrap();
        assert_eq!(KeyRing::open(&path, &phrase("correct horse")).err(), Some(KeyError::WrongPassphrase));
        let opened = KeyRing::open(&path, &phrase("another horse")).unwrap();
        assert_eq!((opened.generation(), opened.verifier(b"s")), (2, ring.verifier(b"s")));
    }

    #[test]
    fn a_provider_that_loses_what_it_wraps_never_gets_the_key_file() {
        let (dir, path, ring) = fresh();
        let before = fs::read(&path).unwrap();
        for fault in [Fault::Lost, Fault::Another, Fault::Unbound] {
            let faulty = || Arc::new(Faulty(fault));
            assert!(matches!(ring.rewrap(faulty(), &OsEntropy), Err(KeyError::Provider(_))));
            let new = dir.path().join("new");
            assert!(matches!(KeyRing::create(&new, faulty(), &OsEntropy), Err(KeyError::Provider(_))));
            assert!(!new.exists() && fs::read(&path).unwrap() == before && ring.generation() == 1);
        }
        assert!(KeyRing::open(&path, &phrase("correct horse")).is_ok());
    }

    #[test]
    fn a_key_file_that_is_a_symbolic_link_is_refused() {
        let (dir, path, _ring) = fresh();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(KeyRing::open(&link, &phrase("correct horse")).err(), Some(KeyError::Link));
    }

    fn bucket_key() -> BucketKey {
        BucketKey { key: Arc::new(data_key()), epoch: 4 }
    }

    fn data_key() -> DataKey {
        DataKey::generate(&OsEntropy).unwrap()
    }

    #[test]
    fn a_renewed_ring_key_opens_nothing_old_and_the_file_holds_both_only_until_it_is_finished() {
        let (_dir, path, ring) = fresh();
        let open = || KeyRing::open(&path, &phrase("correct horse")).unwrap();
        let bucket = bucket_key();
        let old = ring.wrap_bucket(1, &bucket, None, &OsEntropy).unwrap();
        let renewal = ring.begin(1, &OsEntropy).unwrap();
        let new = ring.wrap_bucket(1, &bucket, Some(&renewal), &OsEntropy).unwrap();
        assert!(ring.unwrap_bucket(1, &old).is_ok(), "until it is finished the old one counts");
        let between = open();
        assert!(between.unwrap_bucket(1, &old).is_ok() && between.unwrap_bucket(1, &new).is_ok());
        ring.finish(renewal).unwrap();
        for ring in [&ring, &open()] {
            assert!(ring.unwrap_bucket(1, &old).is_err() && ring.unwrap_bucket(1, &new).is_ok());
            assert_eq!(ring.generation(), 3);
        }
    }

    #[test]
    fn a_renewal_cut_short_is_ended_by_what_hangs_on_which_key() {
        for finished in [false, true] {
            let (_dir, path, ring) = fresh();
            let open = || KeyRing::open(&path, &phrase("correct horse")).unwrap();
            let bucket = bucket_key();
            let old = ring.wrap_bucket(1, &bucket, None, &OsEntropy).unwrap();
            let renewal = ring.begin(1, &OsEntropy).unwrap();
            let new = ring.wrap_bucket(1, &bucket, Some(&renewal), &OsEntropy).unwrap();
            fs::write(path.with_extension("new"), b"left by a crash").unwrap();
            let (keeps, forgets) = if finished { (&new, &old) } else { (&old, &new) };
            let cut_short = open();
            cut_short.settle(cut_short.hangs_on(keeps), &OsEntropy).unwrap();
            for ring in [&cut_short, &open()] {
                assert!(ring.unwrap_bucket(1, keeps).is_ok() && ring.unwrap_bucket(1, forgets).is_err());
                assert_eq!(ring.generation(), 3);
            }
            assert!(!path.with_extension("new").exists());
        }
    }

    #[test]
    fn a_signature_verifies_under_the_public_key() {
        let (_dir, _path, ring) = fresh();
        let signer = ring.signer();
        let (key, signature) = (signer.public_key(), signer.sign(b"head"));
        assert!(verifies(&key, b"head", &signature));
        assert!(!verifies(&key, b"tail", &signature) && !verifies(&key, b"head", &signature[1..]));
    }

    #[test]
    fn no_key_shows_itself_in_debug_output() {
        let (_dir, _path, ring) = fresh();
        assert_eq!(format!("{ring:?} {:?}", phrase("correct horse")), "KeyRing(…) Passphrase(…)");
    }
}
