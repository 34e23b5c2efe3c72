//! One condition over all records: common shapes by look-up, anything else that reads one column by Cedar's evaluator, once
//! per distinct value; the rest is unknown.

use std::{
    cell::Cell,
    cmp::Ordering,
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use cedar_policy::{Entities, Request};
use roaring::RoaringBitmap;

#[cfg(test)]
use super::agreement::{Mutant, is_planted, planted};
use super::{
    bits::{Bits, Tri},
    columns::{Code, Column},
    convert,
    decide::Session,
    derived::{Ground, Group, Judged, Outcome, groups, groups_of},
    ordinal::{Order, Ordinal, order},
    trace::{Halt, Trace},
    tree::{Binary, Kind, Node, Root, Step},
    world::Stored,
};
use crate::model::{Entity, EntityUid, Value};

/// Representatives that Cedar is told of at a time.
const BATCH: usize = 512;
/// Distinct values that Cedar is asked about for one request: some 10 ms.
const VALUES_ASKED: usize = 4_096;
/// Columns that one atom may read.
pub(super) const COLUMNS_COMBINED: usize = 4;
/// Distinct values that Cedar is asked about once, to be remembered.
const VALUES_REMEMBERED: usize = 1 << 17;

/// One request over one collection.
pub(super) struct Binder<'a> {
    pub(super) ground: Ground<'a>,
    pub(super) session: &'a Session<'a>,
    pub(super) blank: &'a Entity,
    pub(super) request: &'a Request,
    pub(super) entities: &'a Entities,
    pub(super) evaluations: &'a Cell<u64>,
    /// The only slots that matter: what is said of others is not used. `None`: all live ones.
    pub(super) bounds: Option<&'a RoaringBitmap>,
}

/// What an expression without `resource` comes to.
enum Constant {
    Value(Value),
    /// It holds an extension value, whose written form says nothing about equality.
    Opaque,
    Bad,
}

impl Binder<'_> {
    /// The three outcomes of a condition.
    pub(super) fn bind(&self, node: &Arc<Node>) -> Tri {
        if !node.on_resource {
            return match self.trace().truth(node) {
                Ok(true) => Tri::yes(),
                Ok(false) => Tri::no(),
                Err(_) => Tri::bad(),
            };
        }
        match &node.kind {
            Kind::And(l, r) => {
                let left = self.bind(l);
                let matters = left.t.clone();
                left.and(|| self.bind_within(&matters, r))
            }
            Kind::Or(l, r) => {
                let left = self.bind(l);
                let matters = left.f.clone();
                left.or(|| self.bind_within(&matters, r))
            }
            Kind::Not(e) => self.bind(e).not(),
            Kind::If(c, t, e) => {
                let condition = self.bind(c);
                let (yes, no) = (condition.t.clone(), condition.f.clone());
                condition.choose(|| self.bind_within(&yes, t), || self.bind_within(&no, e))
            }
            _ => self.atom(node),
        }
    }

    fn atom(&self, node: &Arc<Node>) -> Tri {
        let looked_up = self.shape(node);
        #[cfg(test)]
        let indexed = looked_up.is_some();
        let bound = looked_up.or_else(|| self.by_value(node)).or_else(|| self.by_values(node));
        #[cfg(test)]
        super::agreement::met(node, indexed, bound.is_some(), columns_of(node));
        bound.unwrap_or_else(Tri::unknown)
    }

    /// Where only few slots matter, looks at no others.
    pub(super) fn bind_within(&self, matters: &Bits, node: &Arc<Node>) -> Tri {
        match matters {
            Bits::Some(slots) if slots.len() * 2 < self.size() => Binder { bounds: Some(slots), ..*self }.bind(node),
            Bits::None | Bits::All | Bits::Some(_) | Bits::But(_) => self.bind(node),
        }
    }

    /// How many slots matter.
    fn size(&self) -> u64 {
        self.bounds.unwrap_or(self.ground.columns.live()).len()
    }

    /// Slots of a column as a set.
    fn bits(&self, slots: &RoaringBitmap) -> Bits {
        // what columns hold is live
        if slots.len() == self.ground.columns.live().len() {
            return if slots.is_empty() { Bits::None } else { Bits::All };
        }
        match self.bounds {
            None => Bits::some(slots.clone()),
            Some(bounds) => self.bounded(slots & bounds),
        }
    }

    /// Slots that lie within the bounds already.
    fn bounded(&self, slots: RoaringBitmap) -> Bits {
        let all = self.bounds.unwrap_or(self.ground.columns.live()).len();
        if slots.is_empty() {
            Bits::None
        } else if slots.len() == all {
            Bits::All
        } else {
            Bits::Some(slots)
        }
    }

    /// Slots with one of these values.
    fn having<'v>(&self, column: &Column, values: impl IntoIterator<Item = &'v Value>) -> Bits {
        self.bounded(column.having(values, self.bounds))
    }

    /// Slots with a set that holds one of these.
    fn holding<'v>(&self, column: &Column, elements: impl IntoIterator<Item = &'v Value>) -> Bits {
        self.bounded(column.holding(elements, self.bounds))
    }

    fn trace(&self) -> Trace<'_> {
        Trace {
            world: self.session.world(self.blank),
            request: self.request,
            entities: self.entities,
            evaluations: self.evaluations,
        }
    }

    fn constant(&self, node: &Node) -> Constant {
        if let Kind::Literal(value) = &node.kind {
            return Constant::Value(value.clone());
        }
        let trace = self.trace();
        match trace.follow(node) {
            Err(_) => Constant::Bad,
            Ok(Some(value @ (Value::Entity(_) | Value::Set(_)))) if !convert::has_extension(&value) => {
                Constant::Value(value)
            }
            Ok(_) => match trace.result(node) {
                Err(_) => Constant::Bad,
                Ok(result) => convert::from_result(&result).map_or(Constant::Opaque, Constant::Value),
            },
        }
    }

    /// The path of an expression that is a way from `resource`.
    fn path(&self, node: &Node) -> Option<Vec<Step>> {
        match &node.kind {
            Kind::Var(Root::Resource) => Some(vec![]),
            Kind::Attr(e, name) => {
                let mut path = self.path(e)?;
                path.push(Step::Attr(Arc::clone(name)));
                Some(path)
            }
            Kind::GetTag(e, key) => {
                let mut path = self.path(e)?;
                path.push(Step::Tag(Some(self.key(key)?)));
                Some(path)
            }
            _ => None,
        }
    }

    fn key(&self, key: &Node) -> Option<Arc<str>> {
        if key.on_resource {
            return None;
        }
        match self.constant(key) {
            Constant::Value(Value::Text(key)) => Some(key),
            Constant::Value(_) | Constant::Opaque | Constant::Bad => None,
        }
    }

    /// By look-up; `None` if the shape is not a common one.
    fn shape(&self, node: &Node) -> Option<Tri> {
        match &node.kind {
            Kind::Attr(..) | Kind::GetTag(..) => self.flag(&self.path(node)?),
            Kind::Has(e, names) => self.has(&self.path(e)?, names),
            Kind::HasTag(e, key) => {
                let (path, key) = (self.path(e)?, self.key(key)?);
                self.has_step(&path, vec![Step::Tag(Some(key))])
            }
            Kind::Is(e, ty) => Some(match self.path(e)?.as_slice() {
                [] => self.record_is(ty),
                path => self.ground.column(path, |column| {
                    let of_type = column.types.get(ty).map_or(Bits::None, |slots| self.bits(slots));
                    Tri::true_false(of_type, self.bits(&column.entities)).unsure_of(&column.unsure)
                }),
            }),
            Kind::In(l, r) => match (self.path(l), self.path(r)) {
                (Some(path), None) if !r.on_resource => self.within(&path, r),
                (None, Some(path)) if !l.on_resource => self.within_column(l, &path),
                _ => None,
            },
            Kind::Binary(op, l, r) => self.binary(*op, l, r),
            _ => None,
        }
    }

    fn binary(&self, op: Binary, l: &Node, r: &Node) -> Option<Tri> {
        let left = if l.on_resource { self.path(l) } else { None };
        let right = if r.on_resource { self.path(r) } else { None };
        match (op, left, right) {
            (Binary::Eq | Binary::NotEq, Some(path), None) if !r.on_resource => self.equals(&path, r, op),
            (Binary::Eq | Binary::NotEq, None, Some(path)) if !l.on_resource => self.equals(&path, l, op),
            (Binary::Contains, None, Some(path)) if !l.on_resource => self.one_of(l, &path),
            (Binary::Contains, Some(path), None) if !r.on_resource => self.holds(&path, r),
            (Binary::ContainsAny, Some(path), None) if !r.on_resource => self.holds_any(&path, r),
            (Binary::ContainsAny, None, Some(path)) if !l.on_resource => self.holds_any(&path, l),
            (Binary::ContainsAll, Some(path), None) if !r.on_resource => self.holds_all(&path, r),
            (_, Some(path), None) if !r.on_resource => self.ordered(&path, comparison(op)?, r),
            (_, None, Some(path)) if !l.on_resource => self.ordered(&path, comparison(op)?.reversed(), l),
            _ => None,
        }
    }

    /// `resource.sealed` on its own.
    fn flag(&self, path: &[Step]) -> Option<Tri> {
        if path.is_empty() {
            return None;
        }
        Some(self.ground.column(path, |column| {
            let slots = |b| self.having(column, [&Value::Bool(b)]);
            Tri::true_false(slots(true), slots(false)).unsure_of(&column.unsure)
        }))
    }

    fn has(&self, path: &[Step], names: &[Arc<str>]) -> Option<Tri> {
        self.has_step(path, names.iter().map(|name| Step::Attr(Arc::clone(name))).collect())
    }

    /// Bad where the way to what is asked is, false where it ends early.
    fn has_step(&self, path: &[Step], steps: Vec<Step>) -> Option<Tri> {
        let here = match path {
            [] => Bits::All,
            path => self.ground.column(path, |column| self.bits(&column.present)),
        };
        let whole: Vec<Step> = path.iter().cloned().chain(steps).collect();
        Some(self.ground.column(&whole, |column| {
            let f = here.minus(&self.bits(&column.broken));
            Tri::true_false(self.bits(&column.present), f).unsure_of(&column.unsure)
        }))
    }

    fn equals(&self, path: &[Step], other: &Node, op: Binary) -> Option<Tri> {
        let value = match self.constant(other) {
            Constant::Value(value) => value,
            Constant::Opaque => return None,
            Constant::Bad => return Some(Tri::bad()),
        };
        let equal = match (path, &value) {
            ([], Value::Entity(uid)) => self.is_one_of([uid]),
            ([], _) => Tri::no(),
            (path, value) => self.ground.column(path, |column| {
                let t = self.having(column, [value]);
                Tri::true_false(t, self.bits(&column.present)).unsure_of(&column.unsure)
            }),
        };
        Some(if op == Binary::NotEq { equal.not() } else { equal })
    }

    fn set(&self, node: &Node) -> Result<BTreeSet<Value>, Option<Tri>> {
        match self.constant(node) {
            Constant::Value(Value::Set(items)) => Ok(items),
            Constant::Opaque => Err(None),
            Constant::Value(_) | Constant::Bad => Err(Some(Tri::bad())),
        }
    }

    /// `principal.departments.contains(resource.department)`.
    fn one_of(&self, set: &Node, path: &[Step]) -> Option<Tri> {
        let items = match self.set(set) {
            Ok(items) => items,
            Err(tri) => return tri,
        };
        if path.is_empty() {
            return Some(self.is_one_of(items.iter().filter_map(Value::entity)));
        }
        Some(self.ground.column(path, |column| {
            let t = self.having(column, &items);
            Tri::true_false(t, self.bits(&column.present)).unsure_of(&column.unsure)
        }))
    }

    /// `resource.labels.contains(x)`.
    fn holds(&self, path: &[Step], item: &Node) -> Option<Tri> {
        let item = match self.constant(item) {
            Constant::Value(item) => item,
            Constant::Opaque => return None,
            Constant::Bad => return Some(Tri::bad()),
        };
        self.sets(path, |column| self.holding(column, [&item]))
    }

    fn holds_any(&self, path: &[Step], set: &Node) -> Option<Tri> {
        match self.set(set) {
            Ok(items) => self.sets(path, |column| self.holding(column, &items)),
            Err(tri) => tri,
        }
    }

    fn holds_all(&self, path: &[Step], set: &Node) -> Option<Tri> {
        match self.set(set) {
            Ok(items) => self.sets(path, |column| {
                let all = self.bits(&column.sets);
                items.iter().fold(all, |all, item| all.and(&self.holding(column, [item])))
            }),
            Err(tri) => tri,
        }
    }

    fn sets(&self, path: &[Step], t: impl FnOnce(&Column) -> Bits) -> Option<Tri> {
        if path.is_empty() {
            return None;
        }
        Some(
            self.ground
                .column(path, |column| Tri::true_false(t(column), self.bits(&column.sets)).unsure_of(&column.unsure)),
        )
    }

    /// The record is one of these.
    pub(super) fn is_one_of<'u>(&self, uids: impl IntoIterator<Item = &'u EntityUid>) -> Tri {
        let slots: RoaringBitmap = uids.into_iter().filter_map(|uid| self.ground.own(uid)).collect();
        Tri::true_bad(self.bits(&slots), Bits::None)
    }

    /// The record is of this type.
    pub(super) fn record_is(&self, ty: &str) -> Tri {
        match self.ground.columns.of_type(ty) {
            Some(slots) => Tri::true_bad(self.bits(slots), Bits::None),
            None => Tri::no(),
        }
    }

    /// The record is one of these or below one.
    pub(super) fn within_record<'u>(&self, uids: impl IntoIterator<Item = &'u EntityUid>) -> Tri {
        let uids: Vec<Value> = uids.into_iter().cloned().map(Value::Entity).collect();
        let above = self.ground.above(&[]);
        let own: RoaringBitmap = uids.iter().filter_map(Value::entity).filter_map(|uid| self.ground.own(uid)).collect();
        let parents = self.holding(self.ground.columns.parents(), &uids);
        let t = parents.or(&self.holding(&above, &uids)).or(&self.bits(&own));
        // a record whose ancestor is another record of the collection is left to the full decision
        Tri::true_bad(t, self.bits(&above.broken))
    }

    /// `resource.patient in principal.assigned`, `resource in X`.
    fn within(&self, path: &[Step], ancestors: &Node) -> Option<Tri> {
        let items = match self.constant(ancestors) {
            Constant::Value(Value::Set(items)) => items,
            Constant::Value(one @ Value::Entity(_)) => BTreeSet::from([one]),
            Constant::Opaque => return None,
            Constant::Value(_) | Constant::Bad => return Some(Tri::bad()),
        };
        if !items.iter().all(|item| matches!(item, Value::Entity(_))) {
            return Some(Tri::bad());
        }
        if path.is_empty() {
            return Some(self.within_record(items.iter().filter_map(Value::entity)));
        }
        let above = self.ground.above(path);
        let present = self.bits(&above.present);
        let t = self.ground.column(path, |column| self.having(column, &items));
        let t = t.or(&self.holding(&above, &items)).and(&present);
        let f = present.clone().minus(&self.bits(&above.broken));
        #[cfg(test)]
        let f = planted(Mutant::AncestorNotStored, f, |_| present);
        Some(Tri::true_false(t, f).unsure_of(&above.unsure))
    }

    /// `principal in resource.teams`.
    fn within_column(&self, descendant: &Node, path: &[Step]) -> Option<Tri> {
        if path.is_empty() {
            return None;
        }
        let uid = match self.constant(descendant) {
            Constant::Value(Value::Entity(uid)) => uid,
            Constant::Value(_) | Constant::Opaque | Constant::Bad => return Some(Tri::bad()),
        };
        if self.ground.own(&uid).is_some() {
            return None;
        }
        let (above, whole) = match self.session.world(self.blank).stored(&uid) {
            Stored::Yes(entity) => self.session.world(self.blank).lineage(entity),
            Stored::BySchema if uid.ty.ends_with("Action") => return None,
            Stored::BySchema => (HashSet::new(), true),
            Stored::No => return Some(Tri::bad()),
        };
        Some(self.ground.column(path, |column| {
            let uids: Vec<Value> = above.into_iter().chain([uid]).map(Value::Entity).collect();
            let fit = self.bits(&column.entities).or(&self.bits(&column.entity_sets));
            let t = self.having(column, &uids).or(&self.holding(column, &uids)).and(&fit);
            let f = if whole { fit } else { Bits::None };
            Tri::true_false(t, f).unsure_of(&column.unsure)
        }))
    }

    /// `resource.created_at < context.now`, without asking Cedar about each value.
    fn ordered(&self, path: &[Step], wanted: Comparison, other: &Node) -> Option<Tri> {
        if path.is_empty() {
            return None;
        }
        let than = match self.constant(other) {
            Constant::Value(value) => match order(&value) {
                Order::Of(ordinal) => ordinal,
                Order::Never => return Some(Tri::bad()),
                Order::Unknown => return None,
            },
            Constant::Opaque => Ordinal::Moment(self.trace().millis(other)?),
            Constant::Bad => return Some(Tri::bad()),
        };
        let holds = |value: &Value| match order(value) {
            Order::Of(ordinal) => Ok(ordinal.compare(than).map(|ordering| wanted.holds(ordering))),
            Order::Never => Ok(None),
            Order::Unknown => Err(()),
        };
        self.ground.column(path, |column| {
            let mut sorted = Sorted::default();
            if let Some(bounds) = self.bounds.filter(|bounds| few_of(bounds, column)) {
                for group in groups_of(column, bounds) {
                    sorted.of(holds(&group.value).ok()?).extend(group.slots);
                }
            } else {
                for (_, value, slots) in column.values() {
                    let set = sorted.of(holds(&value).ok()?);
                    match self.bounds {
                        Some(bounds) => slots.add_within(bounds, set),
                        None => slots.add_to(set),
                    }
                }
            }
            let Sorted { t, f, .. } = sorted;
            Some(Tri::true_false(self.bounded(t), self.bounded(f)).unsure_of(&column.unsure))
        })
    }

    /// The values of a column that matter, with those of their slots that do.
    fn groups(&self, column: &Column) -> Vec<Group> {
        match self.bounds {
            Some(bounds) => groups_of(column, bounds),
            None => groups(column).collect(),
        }
    }

    /// By Cedar, once per distinct value of the one column that the atom reads. `None` if it reads more, or the record itself, or has
    /// so many values that asking about the records that are found in the end is cheaper.
    fn by_value(&self, node: &Arc<Node>) -> Option<Tri> {
        let mut reads = BTreeSet::new();
        reads_of(node, &mut reads)?;
        let mut reads = reads.into_iter();
        let (Some(step), None) = (reads.next(), reads.next()) else { return None };
        let path = [step.clone()];
        let mut judge = |values: &[Option<Value>]| {
            let having = |value: &Option<Value>| value.iter().map(|value| (&step, value.clone())).collect();
            self.represented(node, values.iter().map(having).collect())
        };
        let distinct = self.ground.column(&path, Column::distinct);
        let few = self.size() < distinct as u64 && self.size() <= VALUES_ASKED as u64;
        let (column, absent) = if few || (node.on_request && distinct <= VALUES_ASKED) {
            self.ground.column(&path, |from| self.ground.truth_of(self.groups(from), &mut judge))?
        } else if !node.on_request && distinct <= VALUES_REMEMBERED {
            self.ground.truth(node.serial, &path, &mut judge)?
        } else {
            return None;
        };
        let slots = |b| self.having(&column, [&Value::Bool(b)]);
        let judged = Tri { t: slots(true), f: slots(false), b: self.bits(&column.broken) };
        let rest = self.ground.column(&path, |from| self.bits(&from.present)).not();
        let judged = match absent {
            Outcome::True => Tri { t: judged.t.or(&rest), ..judged },
            Outcome::False => Tri { f: judged.f.or(&rest), ..judged },
            Outcome::Bad => Tri { b: judged.b.or(&rest), ..judged },
        };
        Some(judged.unsure_of(&column.unsure))
    }

    /// By Cedar, once for all slots that have the same values of the several columns that the atom reads. `None` if there are too many
    /// such combinations.
    fn by_values(&self, node: &Arc<Node>) -> Option<Tri> {
        let mut reads = BTreeSet::new();
        reads_of(node, &mut reads)?;
        if !(2..=COLUMNS_COMBINED).contains(&reads.len()) {
            return None;
        }
        let columns: Vec<(&Step, &Column)> = reads.iter().map(|step| (step, self.ground.of_record(step))).collect();
        let mut alike: HashMap<[Option<Code>; COLUMNS_COMBINED], Vec<u32>> = HashMap::new();
        for slot in self.bounds.unwrap_or(self.ground.columns.live()) {
            let mut codes = [None; COLUMNS_COMBINED];
            codes.iter_mut().zip(&columns).for_each(|(code, (_, column))| *code = column.code(slot));
            alike.entry(codes).or_default().push(slot);
            if alike.len() > VALUES_ASKED {
                return None;
            }
        }
        let values = |codes: &[Option<Code>; COLUMNS_COMBINED]| {
            let value = |(code, (step, column)): (&Option<Code>, &(_, &Column))| Some((*step, column.value((*code)?)?));
            codes.iter().zip(&columns).filter_map(value).collect::<Vec<(&Step, Value)>>()
        };
        let (combinations, slots): (Vec<_>, Vec<_>) = alike.iter().map(|(codes, slots)| (values(codes), slots)).unzip();
        let mut unsure = RoaringBitmap::new();
        for (combination, slots) in combinations.iter().zip(&slots) {
            let mut uids = Vec::new();
            combination.iter().for_each(|(_, value)| value.entities(&mut uids));
            unsure.extend(
                uids.into_iter().filter_map(|uid| self.ground.own(uid)).filter(|own| slots.binary_search(own).is_ok()),
            );
        }
        let mut sorted = Sorted::default();
        for (judged, slots) in self.represented(node, combinations)?.into_iter().zip(slots) {
            let own = judged.looked_at.iter().filter_map(|uid| self.ground.own(uid));
            unsure.extend(own.filter(|own| slots.binary_search(own).is_ok()));
            let set = match judged.outcome {
                Outcome::True => sorted.of(Some(true)),
                Outcome::False => sorted.of(Some(false)),
                Outcome::Bad => sorted.of(None),
            };
            set.extend(slots);
        }
        Some(Tri::true_false(self.bounded(sorted.t), self.bounded(sorted.f)).unsure_of(&unsure))
    }

    /// Cedar's answers for records that have nothing but these values, batch by batch.
    fn represented(&self, node: &Node, values: Vec<Vec<(&Step, Value)>>) -> Option<Vec<Judged>> {
        let mut answers = Vec::with_capacity(values.len());
        for batch in values.chunks(BATCH) {
            answers.extend(self.represented_at_once(node, batch)?);
        }
        Some(answers)
    }

    fn represented_at_once(&self, node: &Node, values: &[Vec<(&Step, Value)>]) -> Option<Vec<Judged>> {
        let stand_in = |(at, values): (usize, &Vec<(&Step, Value)>)| {
            let mut entity = Entity::bare(EntityUid::new("Record", format!("\u{0}{at}")));
            for (step, value) in values {
                match step {
                    Step::Tag(None) => {}
                    Step::Attr(name) => drop(entity.attrs.insert(Arc::clone(name), value.clone())),
                    Step::Tag(Some(key)) => drop(entity.tags.insert(Arc::clone(key), value.clone())),
                }
            }
            entity
        };
        let stand_ins: Vec<Entity> = values.iter().enumerate().map(stand_in).collect();
        let (mut sites, mut names) = (BTreeSet::new(), HashSet::new());
        node.sites(&mut sites);
        node.names(&mut names);
        let sites: Vec<_> = sites.into_iter().collect();
        let mut needed = HashSet::new();
        for entity in &stand_ins {
            self.session.survey(&sites, entity, &mut needed);
        }
        let entities = self.session.entities(&stand_ins, &needed, &names, true)?;
        let outcome = |entity: &Entity| {
            let request = self.session.inquiry.request(convert::uid(&entity.uid)?)?;
            let world = self.session.world(entity);
            let trace = Trace { world, request: &request, entities: &entities, evaluations: self.evaluations };
            let outcome = match trace.truth(node) {
                Ok(true) => Outcome::True,
                Ok(false) => Outcome::False,
                Err(Halt::Missing | Halt::Erred) => Outcome::Bad,
            };
            Some(Judged { outcome, looked_at: self.session.looked_at(&sites, entity) })
        };
        stand_ins.iter().map(outcome).collect()
    }
}

/// Whether it is cheaper to look at these slots one by one than at all values of a column.
fn few_of(slots: &RoaringBitmap, column: &Column) -> bool {
    slots.len() < 64.max(column.present.len() / 16)
}

/// Slots by what a comparison comes to.
#[derive(Default)]
struct Sorted {
    t: RoaringBitmap,
    f: RoaringBitmap,
    bad: RoaringBitmap,
}

impl Sorted {
    fn of(&mut self, holds: Option<bool>) -> &mut RoaringBitmap {
        match holds {
            Some(true) => &mut self.t,
            Some(false) => &mut self.f,
            None => &mut self.bad,
        }
    }
}

/// What is asked of an order.
#[derive(Clone, Copy)]
enum Comparison {
    Less,
    LessEq,
    Greater,
    GreaterEq,
}

fn comparison(op: Binary) -> Option<Comparison> {
    match op {
        Binary::Less => Some(Comparison::Less),
        Binary::LessEq => Some(Comparison::LessEq),
        Binary::Greater => Some(Comparison::Greater),
        Binary::GreaterEq => Some(Comparison::GreaterEq),
        Binary::Eq | Binary::NotEq | Binary::Contains | Binary::ContainsAll | Binary::ContainsAny => None,
    }
}

impl Comparison {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Less => ordering.is_lt(),
            Self::LessEq => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterEq => ordering.is_ge(),
        }
    }

    /// The same with the operands exchanged.
    fn reversed(self) -> Self {
        #[cfg(test)]
        if is_planted(Mutant::OperandsNotExchanged) {
            return self;
        }
        match self {
            Self::Less => Self::Greater,
            Self::LessEq => Self::GreaterEq,
            Self::Greater => Self::Less,
            Self::GreaterEq => Self::LessEq,
        }
    }
}

/// The columns that an expression reads; `None` if it looks at the record in another way.
pub(super) fn reads_of(node: &Node, found: &mut BTreeSet<Step>) -> Option<()> {
    let on_record = |e: &Node| matches!(e.kind, Kind::Var(Root::Resource));
    match &node.kind {
        Kind::Var(Root::Resource) => None,
        Kind::Attr(e, name) if on_record(e) => {
            found.insert(Step::Attr(Arc::clone(name)));
            Some(())
        }
        Kind::Has(e, names) if on_record(e) => {
            found.insert(Step::Attr(Arc::clone(names.first()?)));
            Some(())
        }
        Kind::GetTag(e, key) | Kind::HasTag(e, key) if on_record(e) => match &key.kind {
            Kind::Literal(Value::Text(key)) => {
                found.insert(Step::Tag(Some(Arc::clone(key))));
                Some(())
            }
            _ => None,
        },
        kind => kind.children().into_iter().try_for_each(|child| reads_of(child, found)),
    }
}

/// How many columns an expression reads; `None` if it looks at the record in another way.
#[cfg(test)]
fn columns_of(node: &Node) -> Option<usize> {
    let mut reads = BTreeSet::new();
    reads_of(node, &mut reads).map(|()| reads.len())
}
