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

/// What is to expire, and when that is looked at next.
#[derive(Default)]
pub(super) struct Retaining(Mutex<(Vec<Retention>, Option<Instant>)>);

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
    /// From here on records of these collections expire.
    pub fn retain(&self, rules: Vec<Retention>) {
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
        if let Err(refusal) = self.expire() {
            tracing::error!(?refusal, "records that have outlived their time could not be erased");
        }
    }

    /// Erases what has outlived its time; how many records that were.
    pub fn expire(&self) -> Result<usize, Refusal> {
        let rules = self.retaining.0.lock().0.clone();
        let mut expired = 0;
        for rule in &rules {
            for some in self.over(rule).chunks(limits::COMMIT_LINES) {
                expired += self.erase_expired(rule, some)?;
            }
        }
        Ok(expired)
    }

    /// What has outlived its time, as memory has it: no record is opened for it.
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
        plan.refuse_crowd(None)?;
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
