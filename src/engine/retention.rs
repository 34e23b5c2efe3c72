//! Records that have outlived their time: erased like any others, but for those of patients under a legal hold.

use parking_lot::Mutex;

use super::{
    Refusal, Wardkeep,
    erase::{Erasure, Holds},
};
use crate::{
    audit::What,
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
        let (mut expired, mut failure, mut unfit) = (0, None, 0);
        for rule in &rules {
            unfit += u64::from(self.unfit(rule).is_some());
            self.warn_unfit(rule);
            let (count, failed) = self.expire_by(rule);
            expired += count;
            if let Some(refusal) = failed {
                tracing::error!(
                    ?refusal,
                    collection = rule.collection.as_str(),
                    "not all that has outlived its time could be erased"
                );
                self.retaining.1.lock().failed += 1;
                failure.get_or_insert(refusal);
            }
        }
        let mut told = self.retaining.1.lock();
        (told.expired, told.unfit) = (told.expired.saturating_add(expired as u64), unfit);
        if failure.is_none() {
            told.last_whole = self.clock.now().millis() / 1_000;
        }
        failure.map_or(Ok(expired), Err)
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

    /// All that a rule says; the first refusal, if any part of it was refused.
    fn expire_by(&self, rule: &Retention) -> (usize, Option<Refusal>) {
        let (mut expired, mut failure) = (0, None);
        for some in self.over(rule).chunks(limits::COMMIT_LINES) {
            match self.erase_expired(rule, some) {
                Ok(count) => expired += count,
                Err(refusal) => drop(failure.get_or_insert(refusal)),
            }
        }
        (expired, failure)
    }

    fn over(&self, rule: &Retention) -> Vec<RecordId> {
        let (now, world) = (self.clock.now(), self.world.read());
        let Some(holding) = world.holding(&rule.collection) else { return Vec::new() };
        let slots = holding.columns.slots_where(&rule.attribute, |from| rule.is_past(from, now));
        holding.ids(&slots)
    }

    /// Looked at once more where nothing else can change: a record may have been written anew, or a hold put on its patient.
    fn erase_expired(&self, rule: &Retention, ids: &[RecordId]) -> Result<usize, Refusal> {
        let (name, now) = (&rule.collection, self.clock.now());
        let _writing = self.writing.lock();
        let mut over = Vec::new();
        for id in ids {
            let stored = self.store.record(name, id)?;
            if stored.is_some_and(|stored| rule.is_over(&stored.record, now)) && !self.is_held(name, id) {
                over.push(id.clone());
            }
        }
        if over.is_empty() {
            return Ok(0);
        }
        let plan = self.planned(name, &Erasure::Records(over), Holds::Told)?;
        // however many lie under the same keys: nobody waits for an answer, and what is due must not stay for ever
        let trail = self.own_trail(What::Expire).collection(name).detail(format!("{} days", rule.days));
        let changes = self.sealed_apart(&trail, name, &plan)?;
        let trail = plan.told_by(trail);
        self.carry_out(name, &plan, changes, None, trail)?;
        Ok(plan.erased())
    }

    fn is_held(&self, name: &CollectionName, id: &RecordId) -> bool {
        let world = self.world.read();
        let patient = world.holding(name).and_then(|holding| holding.find(id)?.1.patient.as_ref());
        patient.is_some_and(|patient| world.holds.contains_key(patient))
    }
}
