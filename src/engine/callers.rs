//! API keys: made, listed, revoked. A key is shown once; keys for administrators are made by root alone (`grant`).

use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    Refusal, Wardkeep,
    grant::{Grant, ManageCallers},
    journal::Intent,
    world::World,
};
use crate::{
    audit::What,
    authn,
    clock::Instant,
    model::{ApiKey, EntityUid, KeyId},
};

/// A new key, in the only moment in which it can be read.
pub struct Issued {
    /// The key.
    pub api_key: Zeroizing<String>,
    /// Its public name.
    pub key_id: KeyId,
    /// When it stops working.
    pub expires_at: Option<Instant>,
}

/// A key as it is listed.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// Its public name, in hex.
    pub key_id: String,
    /// Whom it speaks for.
    #[serde(flatten)]
    pub caller: EntityUid,
    /// When it was made.
    pub created_at: String,
    /// When it stops working.
    pub expires_at: Option<String>,
    /// What it may be used for; anything, if null.
    pub purposes: Option<Vec<String>>,
}

impl Wardkeep {
    /// Makes a key that speaks for `caller`.
    pub fn make_key(
        &self,
        grant: &Grant<ManageCallers>,
        caller: EntityUid,
        expires_in_seconds: Option<u64>,
        purposes: Option<Vec<String>>,
    ) -> Result<Issued, Refusal> {
        let writing = self.writing.lock();
        if !self.world.read().policy.bundle.is_principal(&caller.ty) {
            return Err(Refusal::invalid("type", "the schema has no such type among its principals"));
        }
        let now = self.clock.now();
        let expires_at = expires_in_seconds.map(|s| now.plus_seconds(s));
        let trail = grant.trail(self, What::MakeKey).target(&caller);
        let (key, text) = authn::issue(caller, now, expires_at, purposes, self.store.ring(), self.entropy.as_ref())?;
        let change = self.store.put_api_key(&key, now)?;
        let key_id = key.key_id;
        let effect = Box::new(move |world: &mut World| world.keys.insert(key));
        self.journal.change(Intent { changes: vec![change], effect }, trail.detail(key_id.to_string()))?;
        drop(writing);
        Ok(Issued { api_key: text, key_id, expires_at })
    }

    /// Every key, without its secret.
    pub fn keys(&self, grant: &Grant<ManageCallers>) -> Result<Vec<Listed>, Refusal> {
        let listed: Vec<_> = self.world.read().keys.list().into_iter().map(listed).collect();
        self.journal.note(grant.trail(self, What::ReadKeys).done(listed.len()))?;
        Ok(listed)
    }

    /// Whom a key speaks for, so that Cedar can be asked about its revocation.
    pub fn key_holder(&self, id: KeyId) -> Option<EntityUid> {
        self.world.read().keys.find(id).map(|key| key.caller.clone())
    }

    /// Takes a key out of force: the next request with it is refused.
    pub fn revoke_key(&self, grant: &Grant<ManageCallers>, id: KeyId) -> Result<(), Refusal> {
        let writing = self.writing.lock();
        let holder = self.key_holder(id).ok_or(Refusal::Absent)?;
        let trail = grant.trail(self, What::RevokeKey).target(&holder).detail(id.to_string());
        let change = self.store.remove_api_key(&id, self.clock.now());
        let effect = Box::new(move |world: &mut World| drop(world.keys.remove(id)));
        self.journal.change(Intent { changes: vec![change], effect }, trail)?;
        drop(writing);
        Ok(())
    }
}

fn listed(key: &ApiKey) -> Listed {
    Listed {
        key_id: key.key_id.to_string(),
        caller: key.caller.clone(),
        created_at: key.created_at.rfc3339(),
        expires_at: key.expires_at.map(Instant::rfc3339),
        purposes: key.purposes.clone(),
    }
}
