//! Records that have outlived their time: erased like any others, but for those of patients under a legal hold, and those that cannot be read.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use super::{
    Refusal, Wardkeep,
    erase::{Erasure, Holds},
};
use crate::{
    audit::{Outcome, What},
    clock::Instant,
    model::{CollectionName, Record, RecordId, Value, limits},
    policy::AttributeType,
};

/// How long a collection's records live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// The collection.
    pub collection: CollectionName,
    /// The attribute, a `datetime`, from which a record's time counts. Records without it do not expire.
    pub attribute: String,
    /// Days from then on.
    pub days: u32,
}

/// What is to expire, when that is looked at next, and what came of it.
#[derive(Default)]
pub(super) struct Retaining(Mutex<(Vec<Retention>, Option<Instant>)>, Mutex<Expiry>);

/// What came of expiry since the server started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expiry {
    /// Records that were erased.
    pub expired: u64,
    /// Times that a rule could not be carried out, or not whole.
    pub failed: u64,
    /// Rules that fit no collection or no attribute at the last look: by them nothing ever expires.
    pub unfit: u64,
    /// Records that were due at the last look and stayed, because they, or others under the same key, cannot be read.
    pub unreadable: u64,
    /// When everything was last carried out, in seconds since 1970; 0 where it never was.
    pub last_whole: i64,
}

/// Why a rule lets nothing expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// There is no such collection.
    #[error("there is no collection of this name")]
    Collection,
    /// Records have no such moment.
    #[error("the schema gives records no attribute of this name that is a datetime")]
    Attribute,
}

/// What a rule came to.
#[derive(Default)]
struct Came {
    expired: usize,
    /// Records that stay though they are due.
    unreadable: usize,
    /// The first refusal.
    failure: Option<Refusal>,
}

impl Came {
    fn add(&mut self, more: Self) {
        self.expired += more.expired;
        self.unreadable += more.unreadable;
        self.failure = self.failure.take().or(more.failure);
    }
}

/// How a record stands that seemed to be due.
enum Standing {
    Due,
    /// It is gone, or was written anew, or is under a hold.
    Stays,
    /// Nobody can see whether it is what it was.
    Unread,
}

impl Retention {
    fn is_over(&self, record: &Record, now: Instant) -> bool {
        record.attrs.get(self.attribute.as_str()).is_some_and(|from| self.is_past(from, now))
    }

    /// Whether the time is over that began at `from`.
    fn is_past(&self, from: &Value, now: Instant) -> bool {
        let Value::Extension { function, arguments } = from else { return false };
        let from = match (function.as_ref(), arguments.as_slice()) {
            ("datetime", [Value::Text(text)]) => moment(text),
            _ => None,
        };
        from.is_some_and(|from| from.plus_seconds(u64::from(self.days).saturating_mul(86_400)) <= now)
    }
}

/// A moment as Cedar writes it: a day alone begins at midnight in UTC.
fn moment(text: &str) -> Option<Instant> {
    Instant::parse(text).or_else(|| Instant::parse(&format!("{text}T00:00:00Z")))
}

impl Wardkeep {
    /// From here on records of these collections expire. A rule that can do nothing as the store is now is told of at once.
    pub fn retain(&self, rules: Vec<Retention>) {
        rules.iter().for_each(|rule| self.warn_unfit(rule));
        *self.retaining.0.lock() = (rules, None);
    }

    /// Erases what has outlived its time, if that was not done within the hour.
    pub fn expire_due(&self) {
        let now = self.clock.now();
        {
            let mut retaining = self.retaining.0.lock();
            let (rules, next) = &mut *retaining;
            if rules.is_empty() || next.is_some_and(|next| now < next) {
                return;
            }
            *next = Some(now.plus_seconds(limits::EXPIRY_SECONDS));
        }
        // what failed has been told, rule by rule
        let _ = self.expire();
    }

    /// Erases what has outlived its time; how many records that were. What one rule meets is told, and the others are carried out; the first
    /// refusal is handed back.
    pub fn expire(&self) -> Result<usize, Refusal> {
        let rules = self.retaining.0.lock().0.clone();
        if !rules.is_empty() && !self.world.read().expires() {
            tracing::warn!(
                "nothing expires: there is a legal hold on the system, as after a restore until its holds are confirmed"
            );
            return Ok(0);
        }
        let (mut came, mut unfit) = (Came::default(), 0);
        for rule in &rules {
            unfit += u64::from(self.unfit(rule).is_some());
            self.warn_unfit(rule);
            let by_rule = self.expire_by(rule);
            if let Some(refusal) = &by_rule.failure {
                tracing::error!(
                    ?refusal,
                    collection = rule.collection.as_str(),
                    unreadable = by_rule.unreadable,
                    "not all that has outlived its time could be erased"
                );
                self.retaining.1.lock().failed += 1;
            }
            came.add(by_rule);
        }
        // it is not where a hold on the system came in its midst; asked first, for nobody waits for the world with this lock in hand
        let whole = came.failure.is_none() && self.world.read().expires();
        let mut told = self.retaining.1.lock();
        (told.unfit, told.unreadable) = (unfit, came.unreadable as u64);
        told.expired = told.expired.saturating_add(came.expired as u64);
        if whole {
            told.last_whole = self.clock.now().millis() / 1_000;
        }
        came.failure.map_or(Ok(came.expired), Err)
    }

    /// What came of expiry so far.
    pub fn expiry(&self) -> Expiry {
        *self.retaining.1.lock()
    }

    /// Why a rule can do nothing.
    fn unfit(&self, rule: &Retention) -> Option<Unfit> {
        let world = self.world.read();
        if world.holding(&rule.collection).is_none() {
            return Some(Unfit::Collection);
        }
        match world.policy.bundle.attribute_type("Record", &rule.attribute) {
            Some(AttributeType::Datetime) => None,
            Some(_) | None => Some(Unfit::Attribute),
        }
    }

    fn warn_unfit(&self, rule: &Retention) {
        if let Some(why) = self.unfit(rule) {
            tracing::warn!(collection = rule.collection.as_str(), attribute = rule.attribute, %why, "by this rule of retention nothing expires");
        }
    }

    /// All that a rule says, a part at a time: what is refused ends no other.
    fn expire_by(&self, rule: &Retention) -> Came {
        let mut came = Came::default();
        for some in self.over(rule).chunks(limits::COMMIT_LINES) {
            came.add(self.erase_expired(rule, some));
        }
        came
    }

    fn over(&self, rule: &Retention) -> Vec<RecordId> {
        let (now, world) = (self.clock.now(), self.world.read());
        let Some(holding) = world.holding(&rule.collection) else { return Vec::new() };
        let slots = holding.columns.slots_where(&rule.attribute, |from| rule.is_past(from, now));
        holding.ids(&slots)
    }

    /// Looked at once more where nothing else can change. What cannot be read stays, and with it what is due under the same key: to destroy
    /// that would take away what may yet be mended. All else goes.
    fn erase_expired(&self, rule: &Retention, ids: &[RecordId]) -> Came {
        let _writing = self.writing.lock();
        // a hold on the system may have been placed since the run began
        if !self.world.read().expires() {
            return Came::default();
        }
        let (due, unread) = self.looked_at(rule, ids);
        let mut apart = self.apart_from(&rule.collection, &due, &unread);
        let mut erased = self.erase_due(rule, &apart);
        if erased.is_err() {
            let fewer = self.apart_from(&rule.collection, &apart, &self.unread_beside(&rule.collection, &apart));
            if fewer.len() < apart.len() {
                erased = self.erase_due(rule, &fewer);
                apart = fewer;
            }
        }
        let stay = &(&due - &apart) | &unread;
        let told = self.tell_unreadable(rule, &stay);
        let (expired, failure) = erased.map_or_else(|refusal| (0, Some(refusal)), |count| (count, told.err()));
        Came { expired, unreadable: stay.len(), failure }
    }

    /// What of `ids` is due, and what cannot be read.
    fn looked_at(&self, rule: &Retention, ids: &[RecordId]) -> (Ids, Ids) {
        let (now, mut due, mut unread) = (self.clock.now(), Ids::new(), Ids::new());
        for id in ids {
            match self.standing(rule, id, now) {
                Standing::Due => drop(due.insert(id.clone())),
                Standing::Stays => {}
                Standing::Unread => drop(unread.insert(id.clone())),
            }
        }
        (due, unread)
    }

    fn standing(&self, rule: &Retention, id: &RecordId, now: Instant) -> Standing {
        if !self.may_go(&rule.collection, id) {
            return Standing::Stays;
        }
        match self.store.record(&rule.collection, id) {
            Ok(Some(stored)) if rule.is_over(&stored.record, now) => Standing::Due,
            Ok(Some(_)) => Standing::Stays,
            // it is in force, so that it should be there
            Ok(None) | Err(_) => Standing::Unread,
        }
    }

    /// Those of `due` that share no key with any of `unread`.
    fn apart_from(&self, name: &CollectionName, due: &Ids, unread: &Ids) -> Ids {
        due - &self.under_the_keys_of(name, unread)
    }

    /// What lies under the keys of `due` and cannot be read.
    fn unread_beside(&self, name: &CollectionName, due: &Ids) -> Ids {
        let unread = |id: &RecordId| !matches!(self.store.record(name, id), Ok(Some(_)));
        self.under_the_keys_of(name, due).into_iter().filter(unread).collect()
    }

    fn under_the_keys_of(&self, name: &CollectionName, ids: &Ids) -> Ids {
        self.world.read().holding(name).map(|holding| holding.under_the_keys_of(ids)).unwrap_or_default()
    }

    fn erase_due(&self, rule: &Retention, due: &Ids) -> Result<usize, Refusal> {
        if due.is_empty() {
            return Ok(0);
        }
        let name = &rule.collection;
        let plan = self.planned(name, &Erasure::Records(due.iter().cloned().collect()), Holds::Told)?;
        // however many lie under the same keys: nobody waits for an answer, and what is due must not stay for ever
        let trail = self.own_trail(What::Expire).collection(name).detail(format!("{} days", rule.days));
        let changes = self.sealed_apart(&trail, name, &plan)?;
        let trail = plan.told_by(trail);
        self.carry_out(name, &plan, changes, None, trail)?;
        Ok(plan.erased())
    }

    /// Enters in the log, by their ids, what stays because it cannot be read; refused where anything does.
    fn tell_unreadable(&self, rule: &Retention, stay: &Ids) -> Result<(), Refusal> {
        if stay.is_empty() {
            return Ok(());
        }
        let trail = self.own_trail(What::Expire).collection(&rule.collection).outcome(Outcome::Failed);
        self.journal.note(trail.detail(UNREADABLE).asked(stay.len()).done(0).records(stay.iter()))?;
        Err(Refusal::Damaged)
    }

    /// Whether a record is in force, and under no hold.
    fn may_go(&self, name: &CollectionName, id: &RecordId) -> bool {
        let world = self.world.read();
        let Some((_, row)) = world.holding(name).and_then(|holding| holding.find(id)) else { return false };
        row.patient.as_ref().is_none_or(|patient| !world.holds.contains_key(patient))
    }
}

type Ids = BTreeSet<RecordId>;

/// What the log calls it where records stay because they cannot be read.
const UNREADABLE: &str = "unreadable";
