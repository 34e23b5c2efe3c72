//! A store opened by its passphrase, for verbs that need no server.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failure, passphrase::PassphraseArgument, progress};
use crate::{
    crypto::Access,
    engine::{Environment, Settings, Wardkeep},
    store::{Evidence, Store},
};

#[derive(Args)]
pub(super) struct Offline {
    /// The store's directory; no server may be running on it
    #[arg(long, value_name = "DIR")]
    pub(super) data: PathBuf,
    #[command(flatten)]
    pub(super) passphrase: PassphraseArgument,
}

impl Offline {
    /// Keys and manifest, and nothing else yet; no server can start meanwhile.
    pub(super) fn evidence(&self) -> Result<Evidence, Failure> {
        Ok(Store::evidence(&self.data, &self.passphrase.read()?)?)
    }
}

/// Opens a store with progress on the terminal.
pub(super) fn open(data: &Path, passphrase: &PassphraseArgument, settings: Settings) -> Result<Wardkeep, Failure> {
    open_with(Environment::default(), data, &passphrase.read()?, settings)
}

/// The same in an environment of the caller's, with what was read already.
pub(super) fn open_with(
    environment: Environment,
    data: &Path,
    access: &Access,
    settings: Settings,
) -> Result<Wardkeep, Failure> {
    let bar = progress::counter("loading records", None);
    let engine = Wardkeep::open(data, access, settings, environment, &|n| bar.set_position(n))?;
    bar.finish_and_clear();
    Ok(engine)
}
