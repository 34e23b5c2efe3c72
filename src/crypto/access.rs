//! What this process may open key files with, by provider. The key file says which of them it needs.

use std::sync::Arc;

use super::{
    Entropy, KdfCost, KeyError, Passphrase, PassphraseKey,
    provider::{KeyProvider, ProviderKind, Unlock},
    token::{Absent, TokenAccess, TokenKey, TokenProvider},
    vault_transit::{VaultAccess, VaultKey, VaultTransit},
};

/// Each provider that is configured here.
#[derive(Default)]
pub struct Access {
    /// The passphrase.
    pub passphrase: Option<Passphrase>,
    /// A PKCS#11 token.
    pub token: Option<TokenAccess>,
    /// Vault.
    pub vault: Option<VaultAccess>,
}

/// What a new key file is to be kept by.
pub enum Keeper {
    /// The passphrase.
    Passphrase(KdfCost),
    /// A key on the token, which is made there if it is not there yet.
    Token(TokenKey),
    /// A key in Vault, which must be there.
    Vault(VaultKey),
}

impl Access {
    /// The provider for a new key file.
    pub fn establish(&self, keeper: Keeper, entropy: &dyn Entropy) -> Result<Arc<dyn KeyProvider>, KeyError> {
        match keeper {
            Keeper::Passphrase(cost) => {
                let passphrase = needed(self.passphrase.as_ref(), ProviderKind::Passphrase)?;
                Ok(Arc::new(PassphraseKey::make(passphrase, cost, entropy)?))
            }
            Keeper::Token(key) => {
                TokenProvider::reach(needed(self.token.as_ref(), ProviderKind::Pkcs11)?.clone(), key, Absent::Make)
            }
            Keeper::Vault(key) => VaultTransit::reach(needed(self.vault.as_ref(), ProviderKind::Vault)?.clone(), key),
        }
    }
}

impl Unlock for Access {
    fn unlock(&self, kind: ProviderKind, parameters: &[u8]) -> Result<Arc<dyn KeyProvider>, KeyError> {
        match kind {
            ProviderKind::Passphrase => needed(self.passphrase.as_ref(), kind)?.unlock(kind, parameters),
            ProviderKind::Pkcs11 => {
                let key = serde_json::from_slice(parameters).map_err(|_| KeyError::Damaged)?;
                TokenProvider::reach(needed(self.token.as_ref(), kind)?.clone(), key, Absent::Refuse)
            }
            ProviderKind::Vault => {
                let key = serde_json::from_slice(parameters).map_err(|_| KeyError::Damaged)?;
                VaultTransit::reach(needed(self.vault.as_ref(), kind)?.clone(), key)
            }
        }
    }
}

fn needed<T>(there: Option<&T>, kind: ProviderKind) -> Result<&T, KeyError> {
    there.ok_or(KeyError::Unconfigured(kind))
}
