//! API keys: made, listed, revoked. A key is shown once; keys for administrators are made by root alone (`grant`).

use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    Refusal, Wardkeep,
    grant::{Detail, Grant, ManageCallers},
    journal::Intent,
    world::World,
};
use crate::{
    audit::What,
    authn::{self, Caller, Operator, Origin},
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
    /// Makes a key that speaks for `holder`, if `caller` may.
    pub fn make_key(
        &self,
        caller: &Caller,
        origin: &Origin,
        holder: EntityUid,
        expires_in_seconds: Option<u64>,
        purposes: Option<Vec<String>>,
    ) -> Result<Issued, Refusal> {
        let _writing = self.writing.lock();
        let grant = self.authorise_key(caller, origin, &holder)?;
        self.issue_key(&grant, holder, expires_in_seconds, purposes)
    }

    /// The same for whoever holds the passphrase, at the machine itself: the way back when no administrator's key is left.
    pub fn make_key_offline(
        &self,
        operator: &Operator,
        holder: EntityUid,
        expires_in_seconds: Option<u64>,
        purposes: Option<Vec<String>>,
    ) -> Result<Issued, Refusal> {
        let _writing = self.writing.lock();
        self.issue_key(&self.operator_grant(operator), holder, expires_in_seconds, purposes)
    }

    fn issue_key(
        &self,
        grant: &Grant<ManageCallers>,
        holder: EntityUid,
        expires_in_seconds: Option<u64>,
        purposes: Option<Vec<String>>,
    ) -> Result<Issued, Refusal> {
        let trail = grant.trail(self, What::MakeKey).target(&holder);
        if !self.world.read().policy.bundle.is_principal(&holder.ty) {
            let unfit = Refusal::invalid("type", "the schema has no such type among its principals");
            return self.told(trail, Err(unfit));
        }
        let now = self.clock.now();
        let expires_at = expires_in_seconds.map(|s| now.plus_seconds(s));
        let (key, text) = authn::issue(holder, now, expires_at, purposes, self.store.ring(), self.entropy.as_ref())?;
        let change = self.store.put_api_key(&key, now)?;
        let key_id = key.key_id;
        let effect = Box::new(move |world: &mut World| world.keys.write().insert(key));
        self.journal.change(Intent { changes: vec![change], effect }, trail.detail(key_id.to_string()))?;
        Ok(Issued { api_key: text, key_id, expires_at })
    }

    /// Every key, without its secret.
    pub fn keys(&self, grant: &Grant<ManageCallers>) -> Result<Vec<Listed>, Refusal> {
        let listed: Vec<_> = self.keys.read().list().into_iter().map(listed).collect();
        self.journal.note(grant.trail(self, What::ReadKeys).done(listed.len()))?;
        Ok(listed)
    }

    /// Takes a key out of force, if `caller` may: the next request with it is refused. `None` is an id that no key can have.
    pub fn revoke_key(&self, caller: &Caller, origin: &Origin, id: Option<KeyId>) -> Result<(), Refusal> {
        let writing = self.writing.lock();
        let (grant, id, holder) = self.may_revoke(caller, origin, id)?;
        let trail = grant.trail(self, What::RevokeKey).target(&holder).detail(id.to_string());
        let change = self.store.remove_api_key(&id, self.clock.now());
        let effect = Box::new(move |world: &mut World| drop(world.keys.write().remove(id)));
        self.journal.change(Intent { changes: vec![change], effect }, trail)?;
        drop(writing);
        Ok(())
    }

    /// A key that is not there is asked about by a nameless holder, and one that is not the caller's to revoke answers as if it were
    /// not there: otherwise the two could be told apart.
    fn may_revoke(
        &self,
        caller: &Caller,
        origin: &Origin,
        id: Option<KeyId>,
    ) -> Result<(Grant<ManageCallers>, KeyId, EntityUid), Refusal> {
        let nobody = EntityUid::new("", "");
        let held = id.and_then(|id| Some((id, self.keys.read().find(id)?.caller.clone())));
        let Some((id, holder)) = held else {
            let grant = self.authorise_key(caller, origin, &nobody)?;
            return self.told(grant.trail(self, What::RevokeKey), Err(Refusal::Absent));
        };
        let as_absent =
            self.covers::<ManageCallers>(&self.world.read(), caller, origin, Detail::Key { caller: nobody });
        match self.authorise_key(caller, origin, &holder) {
            Ok(grant) => Ok((grant, id, holder)),
            Err(Refusal::Forbidden) if as_absent => Err(Refusal::Absent),
            Err(refusal) => Err(refusal),
        }
    }

    fn authorise_key(
        &self,
        caller: &Caller,
        origin: &Origin,
        holder: &EntityUid,
    ) -> Result<Grant<ManageCallers>, Refusal> {
        let detail = Detail::Key { caller: holder.clone() };
        self.authorise_each(caller, origin, super::Circumstances::default(), std::iter::once(detail))
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
