//! A filter over all permitted records at once. Each question in it is put once to every distinct combination of the values that it
//! reads, as they are met within the permitted set. What lies outside that set is neither read nor counted.

use std::{
    cell::Cell,
    collections::{BTreeSet, HashMap, HashSet},
    hash::Hash,
    sync::Arc,
};

use cedar_policy::{Authorizer, Decision, Entities, PolicySet, Request, pst, pst::BinaryOp};
use roaring::RoaringBitmap;

use super::{
    permit,
    term::{Looked, Odd, Reads, Term},
};
use crate::{
    model::{Entity, EntityUid, Slot, Value},
    policy::{Columns, Directory, Inquiry, columns::Column, convert},
};

/// Records that Cedar is told of at a time.
const BATCH: usize = 256;

/// Records, as far as a filter looks at them.
pub struct Rows<'a> {
    /// Their attributes, tags and parents.
    pub columns: &'a Columns,
    /// What their parents are in.
    pub directory: &'a Directory,
    /// Their names.
    pub name: &'a dyn Fn(Slot) -> Option<EntityUid>,
}

/// What a filter leaves of the permitted records.
#[derive(Debug, PartialEq)]
pub struct Matching {
    /// The records that match.
    pub slots: RoaringBitmap,
    /// What it took.
    pub work: Work,
}

/// What a filter took: a function of the filter, the context and the permitted records alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Slots that some question was put to, once for each.
    pub looked_up: u64,
    /// Distinct combinations of values that were judged.
    pub judged: u64,
    /// Those of them that Cedar was asked about.
    pub asked: u64,
}

/// Of some slots those for which an expression is true, and those for which it is false; for the rest it errs.
#[derive(Default)]
struct Split {
    t: RoaringBitmap,
    f: RoaringBitmap,
}

/// The slots for which `condition` is true.
pub(super) fn bind(condition: &pst::Expr, inquiry: &Inquiry, rows: &Rows<'_>, permitted: &RoaringBitmap) -> Matching {
    let binder = Binder { inquiry, rows, work: Cell::default() };
    let slots = binder.split(condition, permitted).t;
    Matching { slots, work: binder.work.get() }
}

/// What a policy set of one permit comes to.
pub(super) fn answer(permit: &PolicySet, request: &Request, entities: &Entities) -> Result<bool, Odd> {
    let response = Authorizer::new().is_authorized(request, permit, entities);
    match response.decision() {
        Decision::Allow => Ok(true),
        Decision::Deny if response.diagnostics().errors().next().is_some() => Err(Odd::Erred),
        Decision::Deny => Ok(false),
    }
}

struct Binder<'a> {
    inquiry: &'a Inquiry,
    rows: &'a Rows<'a>,
    work: Cell<Work>,
}

impl Binder<'_> {
    /// Follows Cedar's short circuits for all slots together.
    fn split(&self, expr: &pst::Expr, slots: &RoaringBitmap) -> Split {
        if slots.is_empty() {
            return Split::default();
        }
        match expr {
            pst::Expr::BinaryOp { op: BinaryOp::And, left, right } => {
                let left = self.split(left, slots);
                let right = self.split(right, &left.t);
                Split { t: right.t, f: left.f | right.f }
            }
            pst::Expr::BinaryOp { op: BinaryOp::Or, left, right } => {
                let left = self.split(left, slots);
                let right = self.split(right, &left.f);
                Split { t: left.t | right.t, f: right.f }
            }
            pst::Expr::UnaryOp { op: pst::UnaryOp::Not, expr } => {
                let Split { t, f } = self.split(expr, slots);
                Split { t: f, f: t }
            }
            pst::Expr::IfThenElse { cond, then_expr, else_expr } => {
                let cond = self.split(cond, slots);
                let (then, otherwise) = (self.split(then_expr, &cond.t), self.split(else_expr, &cond.f));
                Split { t: then.t | otherwise.t, f: then.f | otherwise.f }
            }
            question => self.put(question, slots),
        }
    }

    /// Puts a question to the records of `slots`.
    fn put(&self, question: &pst::Expr, slots: &RoaringBitmap) -> Split {
        let term = Term::new(question, self.inquiry.context());
        let mut reads = Reads::default();
        term.reads(&mut reads);
        let classes = Classes::new(self.rows.columns, &reads, slots);
        let mut outcomes: Vec<_> = classes.first.iter().map(|slot| term.truth(&self.record(*slot))).collect();
        let unsure = |(class, outcome): (usize, &Result<bool, Odd>)| (*outcome == Err(Odd::Unsure)).then_some(class);
        let asked: Vec<usize> = outcomes.iter().enumerate().filter_map(unsure).collect();
        let answers = self.asked(question, &reads, asked.iter().filter_map(|class| classes.first.get(*class)));
        for (class, answer) in asked.iter().zip(answers) {
            outcomes.get_mut(*class).into_iter().for_each(|outcome| *outcome = answer);
        }
        let work = self.work.get();
        self.work.set(Work {
            looked_up: work.looked_up + slots.len(),
            judged: work.judged + outcomes.len() as u64,
            asked: work.asked + asked.len() as u64,
        });
        classes.split(slots, &outcomes)
    }

    fn record(&self, slot: u32) -> Record<'_> {
        Record { rows: self.rows, slot }
    }

    /// Cedar's own answers, for records that have nothing but what the question reads.
    fn asked<'s>(
        &self,
        question: &pst::Expr,
        reads: &Reads<'_>,
        slots: impl Iterator<Item = &'s u32>,
    ) -> Vec<Result<bool, Odd>> {
        let slots: Vec<u32> = slots.copied().collect();
        let erred = || vec![Err(Odd::Erred); slots.len()];
        if slots.is_empty() {
            return vec![];
        }
        let Some(permit) = permit(&Arc::new(question.clone()), None) else { return erred() };
        // records that know their ancestors would see each other's
        let batch = if reads.ancestors { 1 } else { BATCH };
        slots.chunks(batch).flat_map(|slots| self.asked_together(&permit, reads, slots)).collect()
    }

    fn asked_together(&self, permit: &PolicySet, reads: &Reads<'_>, slots: &[u32]) -> Vec<Result<bool, Odd>> {
        let records: Vec<Entity> = slots.iter().map(|slot| self.record(*slot).stand_in(reads)).collect();
        let Some(entities) = self.entities(&records) else {
            // one of them cannot be put to Cedar: it alone shall err
            return match slots {
                [] => vec![],
                [_] => vec![Err(Odd::Erred)],
                many => many.chunks(1).flat_map(|slot| self.asked_together(permit, reads, slot)).collect(),
            };
        };
        let answer = |record: &Entity| {
            let request = convert::uid(&record.uid).and_then(|uid| self.inquiry.request(uid));
            answer(permit, &request.ok_or(Odd::Erred)?, &entities)
        };
        records.iter().map(answer).collect()
    }

    fn entities(&self, records: &[Entity]) -> Option<Entities> {
        let mut above = HashSet::new();
        let mut entities = Vec::with_capacity(records.len());
        for record in records {
            entities.push(convert::entity(record)?);
            above.extend(self.rows.directory.ancestors(record).0);
        }
        entities.extend(above.iter().filter_map(|uid| self.rows.directory.cedar(uid).cloned()));
        Entities::from_entities(entities, None).ok()
    }
}

/// The record of a slot.
struct Record<'a> {
    rows: &'a Rows<'a>,
    slot: u32,
}

impl Record<'_> {
    fn in_column(&self, column: Option<&Column>) -> Option<Value> {
        column.and_then(|column| column.value(column.code(self.slot)?))
    }

    fn parents(&self) -> BTreeSet<EntityUid> {
        match self.in_column(Some(self.rows.columns.parents())) {
            Some(Value::Set(parents)) => parents.iter().filter_map(Value::entity).cloned().collect(),
            Some(_) | None => BTreeSet::new(),
        }
    }

    /// An entity that has what a question reads, and no more.
    fn stand_in(&self, reads: &Reads<'_>) -> Entity {
        let name = self.name().filter(|_| reads.name);
        let mut entity = Entity::bare(name.unwrap_or_else(|| EntityUid::new("Record", format!("\u{0}{}", self.slot))));
        let mut tags = reads.tags.clone();
        reads.keys.iter().for_each(|key| key.keys(self, &mut tags));
        entity.attrs =
            reads.attributes.iter().filter_map(|name| Some((Arc::clone(name), self.attribute(name)?))).collect();
        entity.tags = tags.into_iter().filter_map(|key| Some((Arc::clone(&key), self.tag(&key)?))).collect();
        if reads.ancestors {
            entity.parents = self.parents();
        }
        entity
    }
}

impl Looked for Record<'_> {
    fn attribute(&self, name: &str) -> Option<Value> {
        self.in_column(self.rows.columns.attribute(name))
    }

    fn has(&self, name: &str) -> bool {
        self.rows.columns.attribute(name).and_then(|column| column.code(self.slot)).is_some()
    }

    fn tag(&self, key: &str) -> Option<Value> {
        self.in_column(self.rows.columns.tag(key))
    }

    fn name(&self) -> Option<EntityUid> {
        (self.rows.name)(Slot(self.slot))
    }

    fn ancestors(&self) -> HashSet<EntityUid> {
        let bare = Entity { parents: self.parents(), ..Entity::bare(EntityUid::new("Record", "")) };
        self.rows.directory.ancestors(&bare).0
    }
}

/// Slots by the values that a question reads: of each class one slot speaks for all.
struct Classes {
    /// By position among the slots.
    of: Vec<u32>,
    /// By class.
    first: Vec<u32>,
}

impl Classes {
    fn new(columns: &Columns, reads: &Reads<'_>, slots: &RoaringBitmap) -> Self {
        if reads.name || !reads.keys.is_empty() {
            return Self { of: (0..slots.len() as u32).collect(), first: slots.iter().collect() };
        }
        let attributes = reads.attributes.iter().map(|name| columns.attribute(name));
        let tags = reads.tags.iter().map(|key| columns.tag(key));
        let parents = reads.ancestors.then(|| Some(columns.parents()));
        let one = Self { of: vec![0; slots.len() as usize], first: slots.min().into_iter().collect() };
        attributes.chain(tags).chain(parents).flatten().fold(one, |classes, column| classes.refined(column, slots))
    }

    /// Tells apart what a column tells apart.
    fn refined(self, column: &Column, slots: &RoaringBitmap) -> Self {
        let mut numbers = Numbers::default();
        let mut first = Vec::new();
        let of = self.of.into_iter().zip(slots).map(|(class, slot)| {
            let number = numbers.of((class, column.code(slot)));
            if number as usize == first.len() {
                first.push(slot);
            }
            number
        });
        Self { of: of.collect(), first }
    }

    fn split(&self, slots: &RoaringBitmap, outcomes: &[Result<bool, Odd>]) -> Split {
        let with = |truth: bool| {
            let fits = |class: &u32| outcomes.get(*class as usize) == Some(&Ok(truth));
            let chosen = self.of.iter().zip(slots).filter(|(class, _)| fits(class)).map(|(_, slot)| slot);
            RoaringBitmap::from_sorted_iter(chosen).unwrap_or_default()
        };
        Split { t: with(true), f: with(false) }
    }
}

/// Numbers things in the order in which they are met.
struct Numbers<K>(HashMap<K, u32>);

impl<K> Default for Numbers<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq> Numbers<K> {
    fn of(&mut self, key: K) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(key).or_insert(next)
    }
}
