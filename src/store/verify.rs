//! A walk over everything stored: at every start to see that nothing is missing, and on demand to name what is damaged.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Engine, Hand, Intake, Kind, Manifest, SealedRecord, Store, StoreError, codec, crew,
    draft::Live,
    keychain::{self, Keychain},
    ledger::Account,
    load,
    manifest::Slots,
    names::{self, META},
    vault::check_generation,
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
    engine: Result<Box<dyn Engine>, StoreError>,
    entropy: Arc<dyn Entropy>,
) -> Report {
    let manifest = slots.as_ref().ok().map(|slots| slots.current);
    let surveyed = engine.and_then(|engine| Survey::gather(&*engine, ring, entropy, Depth::Everything));
    let mut report = match &surveyed {
        Ok(survey) => survey.report(manifest.as_ref()),
        Err(error) => Report { parts: vec![error.to_string()], ..Report::default() },
    };
    match slots {
        Ok(slots) => {
            report.parts.extend(slots.damaged.iter().map(|name| format!("{name} does not open")));
            report.parts.extend(check_generation(ring, &slots.current).err().map(|error| error.to_string()));
        }
        Err(error) => report.parts.push(error.to_string()),
    }
    report
}

/// Stretches that a walk is cut into, about.
const STRETCHES: usize = 192;

/// How closely to look.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
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
    pub(super) keychain: Arc<Keychain>,
    /// The ring key that the buckets hang on.
    pub(super) ring_key: Option<KeyTag>,
    damaged: Vec<Damage>,
    /// Why the intake could not take a record.
    pub(super) failure: Option<StoreError>,
}

impl Survey {
    pub(super) fn new(ring: &KeyRing, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            account: None,
            found: Account::default(),
            live: Live::new(),
            outbox: BTreeSet::new(),
            keychain: Arc::new(Keychain::new(ring.clone(), entropy)),
            ring_key: None,
            damaged: Vec::new(),
            failure: None,
        }
    }

    /// Walks all rows, as closely as `depth` says.
    pub(super) fn gather(
        engine: &dyn Engine,
        ring: &KeyRing,
        entropy: Arc<dyn Entropy>,
        depth: Depth,
    ) -> Result<Self, StoreError> {
        let mut survey = Self::keys(engine, ring, entropy)?;
        survey.walk(engine, ring, depth, None)?;
        Ok(survey)
    }

    /// Reads the account and the keys, which everything else opens under.
    pub(super) fn keys(engine: &dyn Engine, ring: &KeyRing, entropy: Arc<dyn Entropy>) -> Result<Self, StoreError> {
        let mut survey = Self::new(ring, entropy);
        survey.account = engine.get(META)?.and_then(|sealed| Account::open(ring, &sealed).ok());
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
        Ok(survey)
    }

    /// Walks all rows on all cores and makes the sums; hands the records to `intake`, whose first failure it remembers.
    pub(super) fn walk(
        &mut self,
        engine: &dyn Engine,
        ring: &KeyRing,
        depth: Depth,
        intake: Option<&dyn Intake>,
    ) -> Result<(), StoreError> {
        let step = Step { ring, keychain: &self.keychain, depth };
        let fresh = || Found { hand: intake.map(Intake::hand), ..Found::default() };
        for found in crew::each_row(engine, cuts(engine)?, fresh, |found, key, value| step.row(found, key, value))? {
            found.hand.into_iter().for_each(Hand::finish);
            self.found.absorb(&found.sums);
            found.live.into_iter().for_each(|(id, n)| *self.live.entry(id).or_insert(0) += n);
            self.outbox.extend(found.outbox);
            self.damaged.extend(found.damaged);
            self.failure = self.failure.take().or(found.failure);
        }
        // the first one is named: the same whichever thread met it
        self.damaged.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        Ok(())
    }

    /// Refuses what is older than the manifest.
    pub(super) fn check_age(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let account = self.account.ok_or(StoreError::DamagedPart("the store's account of its objects"))?;
        against(&account, manifest)
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

/// Where the rows are cut into stretches, for every core one at a time. Names are keyed hashes, so that stretches of them hold about as
/// many rows each; a row of no collection that there is lies between two cuts as well.
fn cuts(engine: &dyn Engine) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut heads: Vec<Vec<u8>> = [Kind::DataKey, Kind::Entity].map(|kind| kind.prefix().to_vec()).into();
    engine.scan(&Kind::Collection.prefix(), &mut |key, _| {
        heads.push(names::records_of(key));
        Ok(())
    })?;
    let step = heads.len().saturating_mul(256).div_ceil(STRETCHES).clamp(4, 256);
    let cut = |head: &Vec<u8>, byte: u8| head.iter().copied().chain([byte]).collect();
    Ok(heads.iter().flat_map(|head| (0..=u8::MAX).step_by(step).map(move |byte| cut(head, byte))).collect())
}

/// What one thread found.
#[derive(Default)]
struct Found<'a> {
    sums: Account,
    live: Live,
    outbox: Vec<u64>,
    damaged: Vec<Damage>,
    /// What hands the records on.
    hand: Option<Box<dyn Hand + 'a>>,
    /// The first failure of the intake.
    failure: Option<StoreError>,
}

/// What is done with each row.
struct Step<'a> {
    ring: &'a KeyRing,
    keychain: &'a Keychain,
    depth: Depth,
}

impl Step<'_> {
    fn row(&self, found: &mut Found<'_>, key: &[u8], value: &[u8]) {
        if key == META {
            return;
        }
        // a row of no kind was never written by us; the engine's own sums cannot hold it, so it counts as damage
        let Some(kind) = Kind::of(key) else {
            found.damaged.push(Damage { kind: Kind::DataKey, name: names::shown(key) });
            return;
        };
        found.sums.tally(kind).add(self.ring.row(key, value));
        let sound = match kind {
            Kind::DataKey | Kind::KeyBucket => true,
            Kind::Outbox => match key.get(1..).and_then(|n| <[u8; 8]>::try_from(n).ok()) {
                Some(n) => {
                    found.outbox.push(u64::from_be_bytes(n));
                    true
                }
                None => false,
            },
            Kind::Collection | Kind::Record | Kind::Entity | Kind::Bundle | Kind::ApiKey | Kind::Hold => {
                let under = crypto::key_of(value);
                under.iter().for_each(|id| *found.live.entry(*id).or_insert(0) += 1);
                under.is_some() && (self.depth == Depth::Sums || self.opens(kind, key, value))
            }
        };
        if !sound {
            found.damaged.push(Damage { kind, name: names::shown(key) });
        } else if let (Kind::Record, Some(hand), None) = (kind, &mut found.hand, &found.failure) {
            found.failure = hand.take(&SealedRecord::new(key, value, self.keychain, self.ring)).err();
        }
    }

    fn opens(&self, kind: Kind, key: &[u8], value: &[u8]) -> bool {
        let Ok(plain) = load::open_row(self.keychain, self.ring, kind, key, value) else { return false };
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
