//! What verifying the audit log offline needs of a store: the keys and the manifest, without opening the engine.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use super::{Manifest, Store, StoreError, layout::Layout, manifest::Slots};
use crate::crypto::{KeyRing, Passphrase};

/// Keys and manifest of a store that no server runs on.
pub struct Evidence {
    ring: KeyRing,
    manifest: Manifest,
    layout: Layout,
    _lock: File,
}

impl Store {
    /// Opens the key ring and the manifest in `dir`, and nothing else.
    pub fn evidence(dir: &Path, passphrase: &Passphrase) -> Result<Evidence, StoreError> {
        let layout = Layout::new(dir);
        let lock = layout.lock()?;
        let ring = KeyRing::open(&layout.keyring(), passphrase)?;
        let manifest = Slots::open(&layout.manifests(), &ring)?.current;
        Ok(Evidence { ring, manifest, layout, _lock: lock })
    }
}

impl Evidence {
    /// The keys.
    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// What the manifest says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where the audit log lies.
    pub fn audit_dir(&self) -> PathBuf {
        self.layout.audit()
    }
}
