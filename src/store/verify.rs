//! A walk over everything stored: at every start to see that nothing is missing, and on demand to name what is damaged.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Engine, Kind, Manifest, Store, StoreError, codec,
    draft::Live,
    keychain::{self, Keychain},
    ledger::Account,
    load,
    manifest::Slots,
    names::{self, META},
};
use crate::{
    crypto::{self, Entropy, KeyRing, KeyTag},
    model::{ApiKey, Collection, Entity, Hold},
};

/// One object that is not as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What it is.
    pub kind: Kind,
    /// Its keyed name in hex.
    pub name: String,
}

/// A kind whose objects are not all there, or not those that were stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// Which kind.
    pub kind: Kind,
    /// How many there should be.
    pub expected: u64,
    /// How many there are.
    pub found: u64,
}

/// What `verify` found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Number of the last change.
    pub sequence: u64,
    /// Objects found, by kind.
    pub counts: Vec<(Kind, u64)>,
    /// Objects that do not open.
    pub damaged: Vec<Damage>,
    /// Kinds that do not add up.
    pub shortfalls: Vec<Shortfall>,
    /// Parts that are damaged or older than the rest, in words.
    pub parts: Vec<String>,
}

impl Report {
    /// Whether everything is as it was stored.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.shortfalls.is_empty() && self.parts.is_empty()
    }
}

impl Store {
    /// Opens every object and makes the sums again. Commits wait until it is done.
    pub fn verify(&self) -> Result<Report, StoreError> {
        let ledger = self.ledger.lock();
        let slots = self.slots.lock();
        let survey = Survey::gather(&*self.engine, self.ring(), self.entropy.clone(), Depth::Everything)?;
        let mut report = survey.report(Some(&slots.current));
        if survey.account.is_some_and(|account| account != ledger.account) {
            report.parts.push("the store's account of its objects is not the one last written".into());
        }
        report.parts.extend(slots.damaged.iter().map(|name| format!("{name} does not open")));
        Ok(report)
    }
}

/// What can be said of a store whose parts may not open.
pub(super) fn examine(
    ring: &KeyRing,
    slots: &Result<Slots, StoreError>,
    engine: Result<impl Engine, StoreError>,
    entropy: Arc<dyn Entropy>,
) -> Report {
    let manifest = slots.as_ref().ok().map(|slots| slots.current);
    let surveyed = engine.and_then(|engine| Survey::gather(&engine, ring, entropy, Depth::Everything));
    let mut report = match &surveyed {
        Ok(survey) => survey.report(manifest.as_ref()),
        Err(error) => Report { parts: vec![error.to_string()], ..Report::default() },
    };
    match slots {
        Ok(slots) => {
            report.parts.extend(slots.damaged.iter().map(|name| format!("{name} does not open")));
            if ring.generation() < slots.current.generation {
                report.parts.push(StoreError::RolledBack("the key file is older than the rest").to_string());
            }
        }
        Err(error) => report.parts.push(error.to_string()),
    }
    report
}

/// How closely to look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Sums only; loading opens the objects anyway.
    Sums,
    /// Every seal.
    Everything,
}

/// One walk over the engine.
pub(super) struct Survey {
    /// What the engine says of itself; `None` if that does not open.
    pub(super) account: Option<Account>,
    found: Account,
    pub(super) live: Live,
    pub(super) outbox: BTreeSet<u64>,
    pub(super) keychain: Keychain,
    /// The ring key that the buckets hang on.
    pub(super) ring_key: Option<KeyTag>,
    damaged: Vec<Damage>,
}

impl Survey {
    pub(super) fn new(ring: &KeyRing, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            account: None,
            found: Account::default(),
            live: Live::new(),
            outbox: BTreeSet::new(),
            keychain: Keychain::new(ring.clone(), entropy),
            ring_key: None,
            damaged: Vec::new(),
        }
    }

    /// Walks all rows and makes the sums.
    pub(super) fn take(engine: &dyn Engine, ring: &KeyRing, entropy: Arc<dyn Entropy>) -> Result<Self, StoreError> {
        Self::gather(engine, ring, entropy, Depth::Sums)
    }

    fn gather(
        engine: &dyn Engine,
        ring: &KeyRing,
        entropy: Arc<dyn Entropy>,
        depth: Depth,
    ) -> Result<Self, StoreError> {
        let mut survey = Self::new(ring, entropy);
        survey.account = engine.get(META)?.and_then(|sealed| Account::open(ring, &sealed).ok());
        // keys first: other rows open under them
        engine.scan(&Kind::KeyBucket.prefix(), &mut |key, value| {
            let loaded = keychain::number_of_row(key).and_then(|n| survey.keychain.load_bucket(n, value));
            if loaded.is_err() {
                survey.damaged.push(Damage { kind: Kind::KeyBucket, name: names::shown(key) });
            }
            survey.ring_key = survey.ring_key.or_else(|| ring.hangs_on(value));
            Ok(())
        })?;
        engine.scan(&Kind::DataKey.prefix(), &mut |key, value| {
            let loaded = keychain::id_of_row(key).and_then(|id| survey.keychain.load(id, value));
            if loaded.is_err() {
                survey.damaged.push(Damage { kind: Kind::DataKey, name: names::shown(key) });
            }
            Ok(())
        })?;
        engine.scan(b"", &mut |key, value| {
            if key != META {
                survey.row(ring, key, value, depth);
            }
            Ok(())
        })?;
        Ok(survey)
    }

    fn row(&mut self, ring: &KeyRing, key: &[u8], value: &[u8], depth: Depth) {
        // a row of no kind was never written by us; the engine's own sums cannot hold it, so it counts as damage
        let Some(kind) = Kind::of(key) else {
            self.damaged.push(Damage { kind: Kind::DataKey, name: names::shown(key) });
            return;
        };
        self.found.tally(kind).add(ring.row(key, value));
        let sound = match kind {
            Kind::DataKey | Kind::KeyBucket => true,
            Kind::Outbox => match key.get(1..).and_then(|n| <[u8; 8]>::try_from(n).ok()) {
                Some(n) => self.outbox.insert(u64::from_be_bytes(n)),
                None => false,
            },
            Kind::Collection | Kind::Record | Kind::Entity | Kind::Bundle | Kind::ApiKey | Kind::Hold => {
                let under = crypto::key_of(value);
                under.iter().for_each(|id| *self.live.entry(*id).or_insert(0) += 1);
                under.is_some() && (depth == Depth::Sums || self.opens(ring, kind, key, value))
            }
        };
        if !sound {
            self.damaged.push(Damage { kind, name: names::shown(key) });
        }
    }

    fn opens(&self, ring: &KeyRing, kind: Kind, key: &[u8], value: &[u8]) -> bool {
        let Ok(plain) = load::open_row(&self.keychain, ring, kind, key, value) else { return false };
        match kind {
            Kind::Collection => codec::decode::<Collection>(&plain).is_some(),
            Kind::Record => codec::decode_record(&plain).is_some(),
            Kind::Entity => codec::decode::<Entity>(&plain).is_some(),
            Kind::Bundle => codec::decode_bundle(&plain).is_some(),
            Kind::ApiKey => codec::decode::<ApiKey>(&plain).is_some(),
            Kind::Hold => codec::decode::<Hold>(&plain).is_some(),
            Kind::DataKey | Kind::KeyBucket | Kind::Outbox => true,
        }
    }

    /// Refuses what is damaged, incomplete or older than the manifest.
    pub(super) fn check(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let account = self.account.ok_or(StoreError::DamagedPart("the store's account of its objects"))?;
        against(&account, manifest)?;
        if let Some(Damage { kind, name }) = self.damaged.first() {
            return Err(StoreError::Damaged { kind: *kind, name: name.clone() });
        }
        match account.differences(&self.found).first() {
            Some((kind, _, _)) => Err(StoreError::Lost(*kind)),
            None => Ok(()),
        }
    }

    fn report(&self, manifest: Option<&Manifest>) -> Report {
        let mut report = Report { counts: self.found.counts(), damaged: self.damaged.clone(), ..Report::default() };
        match &self.account {
            Some(account) => {
                report.sequence = account.sequence;
                let shortfall = |(kind, expected, found)| Shortfall { kind, expected, found };
                report.shortfalls = account.differences(&self.found).into_iter().map(shortfall).collect();
                let old = manifest.and_then(|manifest| against(account, manifest).err());
                report.parts.extend(old.map(|error| error.to_string()));
            }
            None => report.parts.push(StoreError::DamagedPart("the store's account of its objects").to_string()),
        }
        report
    }
}

/// A crash leaves the manifest one commit behind the engine at most, and never ahead of it.
fn against(account: &Account, manifest: &Manifest) -> Result<(), StoreError> {
    if account.commits < manifest.commits {
        Err(StoreError::RolledBack("the storage engine is older than the manifest"))
    } else if account.commits > manifest.commits.saturating_add(1) {
        Err(StoreError::RolledBack("the manifest is older than the storage engine"))
    } else if account.commits == manifest.commits && account.root() != manifest.root {
        Err(StoreError::DamagedPart("the agreement of manifest and storage engine"))
    } else {
        Ok(())
    }
}
