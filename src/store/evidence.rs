//! What looking at a store offline needs: the keys, and the manifest if it opens; the engine only when it is asked about.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use super::{
    Manifest, OpenOptions, Report, Store, StoreError,
    backup::Withdrawals,
    layout::Layout,
    manifest::Slots,
    vault::{open_engine, open_slots},
    verify,
};
use crate::crypto::{KeyRing, Unlock};

/// Keys and manifest of a store that no server runs on, and that may be damaged. None can start while this is held.
pub struct Evidence {
    ring: KeyRing,
    slots: Result<Slots, StoreError>,
    pub(super) layout: Layout,
    _lock: File,
}

impl Store {
    /// Opens the key ring in `dir`, looks at the manifest, and opens nothing else.
    pub fn evidence(dir: &Path, unlock: &dyn Unlock) -> Result<Evidence, StoreError> {
        let layout = Layout::new(dir);
        let lock = layout.lock()?;
        let ring = KeyRing::open(&layout.keyring(), unlock)?;
        let slots = open_slots(&layout, &ring);
        Ok(Evidence { ring, slots, layout, _lock: lock })
    }
}

impl Evidence {
    /// The keys.
    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// What the manifest says, if it opens.
    pub fn manifest(&self) -> Result<&Manifest, StoreError> {
        self.slots.as_ref().map(|slots| &slots.current).map_err(Clone::clone)
    }

    /// Where the audit log lies.
    pub fn audit_dir(&self) -> PathBuf {
        self.layout.audit()
    }

    /// Walks a store that may be damaged, and says what is. Changes nothing, but what the engine mends by itself when it is opened.
    pub fn examine(&self, options: &OpenOptions) -> Report {
        let engine = open_engine(&self.layout, options);
        let mut report = verify::examine(&self.ring, &self.slots, engine, options.entropy.clone());
        let known = self.manifest().ok().and_then(|manifest| manifest.ledger);
        let ledger = Withdrawals::examine(&self.layout.ledger(), &self.ring, report.sequence, known);
        report.parts.extend(ledger.err().map(|error| error.to_string()));
        report
    }
}
