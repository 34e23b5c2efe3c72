//! Where the passphrase comes from: a file, a systemd credential, or the environment; never an argument.

use std::{env, fs, path::PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use super::{Failure, config::KeySettings};
use crate::crypto::{Access, Passphrase};

/// The name of the systemd credential.
const CREDENTIAL: &str = "wardkeep-passphrase";
const VARIABLE: &str = "WARDKEEP_PASSPHRASE";

const NEW_VARIABLE: &str = "WARDKEEP_NEW_PASSPHRASE";
/// Said where a store is put under a passphrase that can be guessed.
pub(super) const WEAK: &str =
    "warning: the passphrase is short; whoever steals the key file can guess it. A sentence is better.";

#[derive(Args)]
pub(super) struct PassphraseArgument {
    /// File that holds the passphrase (else a systemd credential `wardkeep-passphrase`, else WARDKEEP_PASSPHRASE)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl PassphraseArgument {
    /// What key files may be opened with here: the passphrase, and what the environment configures besides.
    pub(super) fn read(&self) -> Result<Access, Failure> {
        self.read_with(&KeySettings::from_environment()?)
    }

    /// The same with a configuration that was read already. Which provider is needed, the key file says.
    pub(super) fn read_with(&self, settings: &KeySettings) -> Result<Access, Failure> {
        let (passphrase, token, vault) = (self.passphrase()?, settings.token()?, settings.vault()?);
        if passphrase.is_none() && token.is_none() && vault.is_none() {
            return Err(Failure::Usage(format!(
                "no passphrase: give --passphrase-file FILE, or set {VARIABLE} (never pass it as an argument)"
            )));
        }
        Ok(Access { passphrase, token, vault })
    }

    fn passphrase(&self) -> Result<Option<Passphrase>, Failure> {
        let mut bytes = match (&self.passphrase_file, credential(), env::var(VARIABLE)) {
            (Some(path), _, _) => file(path)?,
            (None, Some(path), _) => file(&path)?,
            (None, None, Ok(text)) => Zeroizing::new(text.into_bytes()),
            (None, None, Err(_)) => return Ok(None),
        };
        Passphrase::from_bytes(std::mem::take(&mut *bytes)).map(Some).map_err(|e| Failure::Usage(e.to_string()))
    }
}

/// The passphrase that a store is to have from now on.
pub(super) fn new(path: Option<&std::path::Path>) -> Result<Passphrase, Failure> {
    let mut bytes = match (path, env::var(NEW_VARIABLE)) {
        (Some(path), _) => file(path)?,
        (None, Ok(text)) => Zeroizing::new(text.into_bytes()),
        (None, Err(_)) => {
            return Err(Failure::Usage(format!(
                "no new passphrase: give --new-passphrase-file FILE, or set {NEW_VARIABLE} (never pass it as an argument)"
            )));
        }
    };
    Passphrase::from_bytes(std::mem::take(&mut *bytes)).map_err(|e| Failure::Usage(e.to_string()))
}

fn credential() -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL);
    path.exists().then_some(path)
}

fn file(path: &std::path::Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    fs::read(path)
        .map(Zeroizing::new)
        .map_err(|error| Failure::Failed(format!("cannot read the passphrase from {}: {error}", path.display())))
}
