//! The keys that seal what is stored: how they are, and renewed.

use std::sync::Arc;

use serde::Serialize;

use super::{
    Circumstances, Refusal, Wardkeep,
    grant::{Grant, ManageKeys},
    journal::Intent,
};
use crate::{
    audit::What,
    crypto::{KeyError, KeyProvider},
};

/// How the keys are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyStatus {
    /// What keeps the key that wraps the key file.
    pub provider: &'static str,
    /// How often the key file was written anew.
    pub key_file_generation: u64,
    /// Counts rotations.
    pub rotation: u32,
    /// Whether one is under way.
    pub state: RotationState,
    /// Data keys that there are.
    pub data_keys: usize,
    /// Of these, the ones made since the last rotation began.
    pub renewed: usize,
}

/// Whether a rotation is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RotationState {
    /// None is.
    Current,
    /// Data keys are being renewed.
    Renewing,
}

impl Wardkeep {
    /// How the keys are.
    pub fn key_status(&self, grant: &Grant<ManageKeys>) -> Result<KeyStatus, Refusal> {
        self.journal.note(grant.trail(self, What::KeyStatus))?;
        Ok(self.status_of_keys())
    }

    /// Renews the ring key at once, and every data key from now on in the background.
    pub fn rotate_keys(&self, grant: &Grant<ManageKeys>) -> Result<KeyStatus, Refusal> {
        let trail = grant.trail(self, What::RotateKeys);
        let writing = self.writing.lock();
        if !self.store.census().is_done() {
            let detail =
                "the data keys are still being renewed since the last rotation; `GET /v1/keys` tells how far that is";
            return self.told(trail, Err(Refusal::conflict("rotation_under_way", detail)));
        }
        let change = self.store.rotate(self.clock.now());
        self.journal.change(Intent { changes: vec![change], effect: Box::new(|_| ()) }, trail)?;
        drop(writing);
        let status = self.status_of_keys();
        self.tend_keys();
        Ok(status)
    }

    /// Has the key file wrapped by another provider, or under another passphrase, and renews the ring key, so that an old copy of the
    /// key file opens nothing that is stored from now on.
    pub fn change_provider(&self, grant: &Grant<ManageKeys>, provider: Arc<dyn KeyProvider>) -> Result<(), Refusal> {
        let _writing = self.writing.lock();
        let trail = grant.trail(self, What::ChangeProvider).detail(provider.kind().name());
        let rewrapped = self.store.ring().rewrap(provider, self.entropy.as_ref());
        let refused = |error: KeyError| Refusal::conflict("key_provider", error.to_string());
        self.told(trail.clone(), rewrapped.map_err(refused))?;
        let change = self.store.renew_ring_key(self.clock.now());
        self.journal.change(Intent { changes: vec![change], effect: Box::new(|_| ()) }, trail).map(drop)
    }

    /// Asks Cedar whether `caller` may look after the keys.
    pub fn authorise_keys(
        &self,
        caller: &crate::authn::Caller,
        origin: &crate::authn::Origin,
    ) -> Result<Grant<ManageKeys>, Refusal> {
        self.authorise(caller, origin, Circumstances::default())
    }

    fn status_of_keys(&self) -> KeyStatus {
        let (census, ring) = (self.store.census(), self.store.ring());
        KeyStatus {
            provider: ring.provider().kind().name(),
            key_file_generation: ring.generation(),
            rotation: census.epoch,
            state: if census.is_done() { RotationState::Current } else { RotationState::Renewing },
            data_keys: census.data_keys,
            renewed: census.data_keys.saturating_sub(census.behind),
        }
    }
}
