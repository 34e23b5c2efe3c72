//! A key-encryption key on a PKCS#11 token (an HSM): made there, used there, and never handed out.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    mechanism::{Mechanism, aead::GcmParams},
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    types::AuthPin,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    Entropy, KeyError,
    provider::{KeyProvider, ProviderKind},
};

const NONCE_BYTES: usize = 12;
const TAG_BITS: u64 = 128;

/// How the token is reached.
#[derive(Clone)]
pub struct TokenAccess {
    /// The vendor's library.
    pub module: PathBuf,
    /// The user's PIN.
    pub pin: Zeroizing<String>,
}

/// Which key it is; stands in the ring file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenKey {
    /// The token's label.
    pub token: String,
    /// The key's label.
    pub key: String,
}

/// The key, and the way to it.
pub(super) struct TokenProvider {
    access: TokenAccess,
    key: TokenKey,
    /// Logged in; made anew where the token was away.
    session: Mutex<Option<(Session, ObjectHandle)>>,
}

/// What to do where the token has no key of the label.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// It is made.
    Make,
    /// It is missing.
    Refuse,
}

impl TokenProvider {
    /// The way to a key that cannot be extracted.
    pub(super) fn reach(access: TokenAccess, key: TokenKey, absent: Absent) -> Result<Arc<dyn KeyProvider>, KeyError> {
        let session = connect(&access, &key, absent)?;
        Ok(Arc::new(Self { access, key, session: Mutex::new(Some(session)) }))
    }

    /// Does it in the session that is open, and once more in a new one if that has ended.
    fn with<T>(&self, work: impl Fn(&Session, ObjectHandle) -> Result<T, Error>) -> Result<T, Failed> {
        let mut held = self.session.lock();
        if let Some((session, key)) = held.as_ref()
            && let Ok(done) = work(session, *key)
        {
            return Ok(done);
        }
        *held = None;
        let (session, key) = connect(&self.access, &self.key, Absent::Refuse).map_err(Failed::Reaching)?;
        let done = work(&session, key).map_err(|_| Failed::Working);
        *held = Some((session, key));
        done
    }
}

enum Failed {
    Reaching(KeyError),
    Working,
}

impl Failed {
    fn or(self, working: KeyError) -> KeyError {
        match self {
            Self::Reaching(error) => error,
            Self::Working => working,
        }
    }
}

impl KeyProvider for TokenProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Pkcs11
    }

    fn parameters(&self) -> Vec<u8> {
        serde_json::to_vec(&self.key).unwrap_or_default()
    }

    fn wrap(&self, place: &[u8], plain: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>, KeyError> {
        let mut nonce = [0; NONCE_BYTES];
        entropy.fill(&mut nonce)?;
        let encrypt = |session: &Session, key| {
            let mut iv = nonce;
            let mechanism = Mechanism::AesGcm(GcmParams::new(&mut iv, place, TAG_BITS.into())?);
            let body = session.encrypt(&mechanism, key, plain)?;
            // some tokens put a nonce of their own in the place of the one that they are given
            Ok((iv, body))
        };
        let (nonce, body) = self
            .with(encrypt)
            .map_err(|failed| failed.or(KeyError::Provider("the PKCS#11 token does not encrypt (CKM_AES_GCM)")))?;
        Ok([&nonce[..], &body].concat())
    }

    fn unwrap(&self, place: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let (nonce, body) = wrapped.split_first_chunk::<NONCE_BYTES>().ok_or(KeyError::Damaged)?;
        let decrypt = |session: &Session, key| {
            let mut iv = *nonce;
            session.decrypt(&Mechanism::AesGcm(GcmParams::new(&mut iv, place, TAG_BITS.into())?), key, body)
        };
        self.with(decrypt).map(Zeroizing::new).map_err(|failed| failed.or(KeyError::WrongKey))
    }
}

/// A module may be initialised once in a process.
static MODULES: LazyLock<Mutex<HashMap<PathBuf, Pkcs11>>> = LazyLock::new(Mutex::default);

fn module(path: &Path) -> Result<Pkcs11, KeyError> {
    let mut modules = MODULES.lock();
    if let Some(there) = modules.get(path) {
        return Ok(there.clone());
    }
    let unloadable = |_| {
        KeyError::Provider(
            "the PKCS#11 module cannot be loaded: is `keys.pkcs11.module` the library of the token's maker?",
        )
    };
    let fresh = Pkcs11::new(path).map_err(unloadable)?;
    match fresh.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(_) => {
            return Err(KeyError::Provider("the PKCS#11 module does not start: its own configuration may be missing"));
        }
    }
    modules.insert(path.to_owned(), fresh.clone());
    Ok(fresh)
}

fn connect(access: &TokenAccess, key: &TokenKey, absent: Absent) -> Result<(Session, ObjectHandle), KeyError> {
    let module = module(&access.module)?;
    let unreachable = |_| KeyError::Provider("the PKCS#11 token cannot be reached");
    let slots = module.get_slots_with_token().map_err(unreachable)?;
    let labelled =
        |slot: &cryptoki::slot::Slot| module.get_token_info(*slot).is_ok_and(|info| info.label() == key.token);
    let mut found = slots.into_iter().filter(labelled);
    let (slot, none) = (found.next(), found.next().is_none());
    let slot = slot.ok_or(KeyError::Provider("there is no PKCS#11 token of this label (`keys.pkcs11.token`)"))?;
    if !none {
        return Err(KeyError::Provider("more than one PKCS#11 token has this label; give each its own"));
    }
    let session = match absent {
        Absent::Make => module.open_rw_session(slot),
        Absent::Refuse => module.open_ro_session(slot),
    }
    .map_err(unreachable)?;
    log_in(&session, access)?;
    let handle = find(&session, key, absent)?;
    Ok((session, handle))
}

fn log_in(session: &Session, access: &TokenAccess) -> Result<(), KeyError> {
    match session.login(UserType::User, Some(&AuthPin::from(access.pin.as_str()))) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(Error::Pkcs11(RvError::PinLocked, _)) => {
            Err(KeyError::Provider("the PKCS#11 token has locked the PIN after wrong ones: unlock it there"))
        }
        Err(Error::Pkcs11(
            RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange | RvError::ArgumentsBad,
            _,
        )) => Err(KeyError::Provider("the PIN of the PKCS#11 token is wrong")),
        Err(_) => Err(KeyError::Provider("the PKCS#11 token does not let us log in")),
    }
}

fn find(session: &Session, key: &TokenKey, absent: Absent) -> Result<ObjectHandle, KeyError> {
    let refused = |_| KeyError::Provider("the PKCS#11 token cannot be searched for the key");
    let named = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Label(key.key.as_bytes().to_vec())];
    match session.find_objects(&named).map_err(refused)?.as_slice() {
        [] if absent == Absent::Make => make(session, key),
        [] => Err(KeyError::Provider(
            "the PKCS#11 token has no key of this label: it was deleted, or this is another token",
        )),
        [one] => check(session, *one).map(|()| *one),
        [..] => Err(KeyError::Provider(
            "more than one key on the PKCS#11 token has this label; choose another for the store",
        )),
    }
}

fn make(session: &Session, key: &TokenKey) -> Result<ObjectHandle, KeyError> {
    let form = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::ValueLen(32.into()),
        Attribute::Label(key.key.as_bytes().to_vec()),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
    ];
    let refused = |_| KeyError::Provider("the PKCS#11 token does not make an AES-256 key");
    session.generate_key(&Mechanism::AesKeyGen, &form).map_err(refused)
}

/// A key that could leave the token is none to rely on.
fn check(session: &Session, key: ObjectHandle) -> Result<(), KeyError> {
    let asked = [AttributeType::Sensitive, AttributeType::Extractable, AttributeType::NeverExtractable];
    let told = session.get_attributes(key, &asked).unwrap_or_default();
    let kept = [Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::NeverExtractable(true)];
    if kept.iter().all(|attribute| told.contains(attribute)) {
        Ok(())
    } else {
        Err(KeyError::Provider(
            "the key on the PKCS#11 token can be extracted, or could once; the store needs one that never could",
        ))
    }
}
