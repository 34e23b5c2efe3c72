//! Keys and seals: passphrase to key ring, envelope, signatures. The only home of aes-gcm and argon2; knows nothing of what is sealed.
//!
//! ```text
//! passphrase --argon2id--> key-encryption key --wraps--> { ring key, root secret }      the ring file
//! (or another provider)                                    |          '--derives--> names, pseudonyms, verifiers,
//!                                                          |                        audit and manifest keys, signing key
//!                                                          '--wraps--> 256 bucket keys --wrap--> data keys, which the store keeps
//! ```
//! What hangs on the ring key can be destroyed by renewing it; what hangs on the root secret lives as long as the store.
//!
//! A data key is destroyed by renewing its bucket's key and the ring key: the keys of one bucket and 256 buckets are wrapped anew, which
//! takes milliseconds at a hundred thousand data keys, so that it is done before the erasure is acknowledged. To wrap all data keys anew
//! in the background would let several erasures share one renewal, but an erasure would be acknowledged, or its certificate signed,
//! seconds or minutes before the key is gone.

mod access;
mod derive;
mod entropy;
mod envelope;
mod escrow;
mod kdf;
mod provider;
mod ring;
mod ring_file;
mod token;
mod vault_transit;
mod xaes;

pub use access::{Access, Keeper};
pub(crate) use derive::short;
pub use entropy::{Entropy, EntropyError, OsEntropy};
pub use envelope::{DataKey, KEY_ID_BYTES, KeyTag, OVERHEAD_BYTES, Stamp, head_of, key_of, stamp_of};
pub use escrow::Escrow;
pub use kdf::{KdfCost, Passphrase, PassphraseKey};
pub use provider::{KeyProvider, ProviderKind, Unlock};
pub use ring::{BucketKey, KeyRing, Renewal, WrappedKey, verifies};

pub use token::{TokenAccess, TokenKey};
pub use vault_transit::{VaultAccess, VaultKey};

/// Why keys could not be made or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Empty.
    #[error("the passphrase is empty: use a sentence")]
    ShortPassphrase,
    /// Longer than 4096 bytes.
    #[error("the passphrase is longer than 4096 bytes: is this the right file?")]
    LongPassphrase,
    /// The ring does not open under it.
    #[error("the passphrase is wrong or the key file was changed")]
    WrongPassphrase,
    /// Another file would keep what a renewal is to destroy.
    #[error("the key file is a symbolic link: put the file itself in its place, so that old keys can be overwritten")]
    Link,
    /// The file is not a whole ring file.
    #[error(
        "the key file is damaged: no backup holds it; make the store anew with `wardkeep restore`, from a backup and an escrow, or put a copy of the key file back that was made since it last changed"
    )]
    Damaged,
    /// Key derivation cheaper than the floor, or dearer than any machine should pay.
    #[error("the key derivation cost is out of bounds: 19456 to 4194304 KiB, 2 to 64 passes, 1 to 16 lanes")]
    Cost,
    /// There is none.
    #[error(
        "there is no key file here: run `wardkeep init` for a new store, or `wardkeep restore` with a backup and an escrow; no backup holds the key file itself"
    )]
    Missing,
    /// Making one would overwrite another.
    #[error("there is a key file here already; it is not overwritten")]
    Exists,
    /// The key file needs a provider that nobody said how to reach.
    #[error(
        "the key file is kept by the provider `{0}`, which is not configured here: see `[keys]` in the configuration, or set WARDKEEP_PASSPHRASE, WARDKEEP_PKCS11_MODULE and WARDKEEP_PKCS11_PIN, or WARDKEEP_VAULT_ADDRESS and WARDKEEP_VAULT_TOKEN"
    )]
    Unconfigured(ProviderKind),
    /// A provider cannot be used; says what to mend, and no secret.
    #[error("{0}")]
    Provider(&'static str),
    /// The provider's key is not the one that wrapped the file.
    #[error("the provider's key is not the one that wrapped the key file, or the key file was changed")]
    WrongKey,
    /// The disk said no.
    #[error("the key file cannot be read or written: {0}")]
    Io(std::io::ErrorKind),
    /// The machine gives no random bytes.
    #[error("the operating system gives no random bytes")]
    Entropy,
    /// Key derivation did not get its memory.
    #[error("not enough memory to derive the key from the passphrase")]
    Memory,
}

impl From<EntropyError> for KeyError {
    fn from(_: EntropyError) -> Self {
        Self::Entropy
    }
}
