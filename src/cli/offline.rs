//! A store opened by its passphrase, for verbs that need no server.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failure, passphrase::PassphraseArgument, progress};
use crate::{
    crypto::Access,
    engine::{Environment, Settings, Wardkeep},
};

#[derive(Args)]
pub(super) struct Offline {
    /// The store's directory; no server may be running on it
    #[arg(long, value_name = "DIR")]
    pub(super) data: PathBuf,
    #[command(flatten)]
    pub(super) passphrase: PassphraseArgument,
}

/// Opens a store with progress on the terminal.
pub(super) fn open(data: &Path, passphrase: &PassphraseArgument, settings: Settings) -> Result<Wardkeep, Failure> {
    open_with(data, &passphrase.read()?, settings)
}

/// The same with what was read already.
pub(super) fn open_with(data: &Path, access: &Access, settings: Settings) -> Result<Wardkeep, Failure> {
    let bar = progress::counter("loading records", None);
    let engine = Wardkeep::open(data, access, settings, Environment::default(), &|n| bar.set_position(n))?;
    bar.finish_and_clear();
    Ok(engine)
}
