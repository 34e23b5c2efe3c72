//! One question of a filter, fitted to a request: constants are worked out, and what remains is asked of a record's own values. Agrees with
//! Cedar's evaluator wherever it answers; where it does not, it says so.

use std::{
    borrow::Cow,
    cmp::Ordering,
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use cedar_policy::pst::{self, BinaryOp, PatternElem, UnaryOp};

use super::instant::Instant;
use crate::{
    model::{EntityUid, Value},
    policy::convert,
};

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Odd {
    /// Cedar errs too.
    Erred,
    /// Cedar must be asked.
    Unsure,
}

type Found<'a> = Result<Cow<'a, Value>, Odd>;

/// One record, as far as a filter may look at it.
pub(super) trait Looked {
    fn attribute(&self, name: &str) -> Option<Value>;
    fn has(&self, name: &str) -> bool;
    fn tag(&self, key: &str) -> Option<Value>;
    fn name(&self) -> Option<EntityUid>;
    /// Parents and all that is above them.
    fn ancestors(&self) -> HashSet<EntityUid>;
}

/// An expression whose constant parts are values.
#[derive(Debug)]
pub(super) enum Term {
    /// A value, or an error.
    Constant(Option<Value>),
    /// `resource`.
    Own,
    Attr(Box<Term>, Arc<str>),
    Has(Box<Term>, Arc<str>),
    /// Of the record.
    Tag(Box<Term>),
    HasTag(Box<Term>),
    /// The record is this, or below it.
    Within(Box<Term>),
    Is(Box<Term>, Arc<str>),
    Not(Box<Term>),
    And(Box<Term>, Box<Term>),
    Or(Box<Term>, Box<Term>),
    If(Box<Term>, Box<Term>, Box<Term>),
    Binary(BinaryOp, Box<Term>, Box<Term>),
    Unary(UnaryOp, Box<Term>),
    Like(Box<Term>, Vec<PatternElem>),
    Set(Vec<Term>),
    Record(Vec<(Arc<str>, Term)>),
    /// What this version does not know.
    Opaque,
}

/// What of a record an expression reads.
#[derive(Debug, Default)]
pub(super) struct Reads<'t> {
    pub(super) attributes: BTreeSet<Arc<str>>,
    pub(super) tags: BTreeSet<Arc<str>>,
    /// Keys of tags that depend on the record.
    pub(super) keys: Vec<&'t Term>,
    pub(super) ancestors: bool,
    /// The record's name: no two are alike.
    pub(super) name: bool,
}

/// Stands for a record where there is none.
struct Nobody;

impl Looked for Nobody {
    fn attribute(&self, _: &str) -> Option<Value> {
        None
    }
    fn has(&self, _: &str) -> bool {
        false
    }
    fn tag(&self, _: &str) -> Option<Value> {
        None
    }
    fn name(&self) -> Option<EntityUid> {
        None
    }
    fn ancestors(&self) -> HashSet<EntityUid> {
        HashSet::new()
    }
}

impl Term {
    /// Fits an expression to a request's context.
    pub(super) fn new(expr: &pst::Expr, context: &Value) -> Self {
        let new = |e: &pst::Expr| Box::new(Self::new(e, context));
        let term = match expr {
            pst::Expr::Literal(literal) => return Self::literal(literal),
            pst::Expr::Var(pst::Var::Context) => return Self::Constant(Some(context.clone())),
            pst::Expr::Var(pst::Var::Resource) => return Self::Own,
            pst::Expr::GetAttr { expr, attr } => Self::Attr(new(expr), attr.as_str().into()),
            pst::Expr::HasAttr { expr, attrs } => Self::has_each(expr, attrs, context),
            pst::Expr::Like { expr, pattern } => Self::Like(new(expr), pattern.clone()),
            pst::Expr::Is { expr, entity_type, in_expr } => {
                let is = Self::Is(new(expr), entity_type.to_string().into());
                match in_expr {
                    None => is,
                    Some(ancestor) => Self::And(Box::new(is), Box::new(Self::Within(new(ancestor)))),
                }
            }
            pst::Expr::IfThenElse { cond, then_expr, else_expr } => Self::If(new(cond), new(then_expr), new(else_expr)),
            pst::Expr::UnaryOp { op: UnaryOp::Not, expr } => Self::Not(new(expr)),
            pst::Expr::UnaryOp { op, expr } => Self::Unary(*op, new(expr)),
            pst::Expr::BinaryOp { op, left, right } => match op {
                BinaryOp::And => Self::And(new(left), new(right)),
                BinaryOp::Or => Self::Or(new(left), new(right)),
                // these have nothing but `resource` on their left: `check` sees to it
                BinaryOp::In => Self::Within(new(right)),
                BinaryOp::GetTag => Self::Tag(new(right)),
                BinaryOp::HasTag => Self::HasTag(new(right)),
                op => Self::Binary(*op, new(left), new(right)),
            },
            pst::Expr::Set(items) => Self::Set(items.iter().map(|e| Self::new(e, context)).collect()),
            pst::Expr::Record(fields) => {
                Self::Record(fields.iter().map(|(k, e)| (Arc::from(k.as_str()), Self::new(e, context))).collect())
            }
            _ => return Self::Opaque,
        };
        term.folded()
    }

    fn literal(literal: &pst::Literal) -> Self {
        Self::Constant(Some(match literal {
            pst::Literal::Bool(b) => Value::Bool(*b),
            pst::Literal::Long(n) => Value::Long(*n),
            pst::Literal::String(text) => Value::text(text.as_str()),
            pst::Literal::EntityUID(uid) => Value::Entity(convert::from_pst_uid(uid)),
            _ => return Self::Opaque,
        }))
    }

    /// `e has a.b` is `e has a && e.a has b`.
    fn has_each(expr: &pst::Expr, attrs: &pst::NonEmpty<pst::SmolStr>, context: &Value) -> Self {
        let at = |depth: usize| {
            let start = Self::new(expr, context);
            attrs.iter().take(depth).fold(start, |at, name| Self::Attr(Box::new(at), name.as_str().into()).folded())
        };
        let first = Self::Has(Box::new(at(0)), attrs.head.as_str().into()).folded();
        attrs.tail.iter().enumerate().fold(first, |whole, (depth, name)| {
            let next = Self::Has(Box::new(at(depth + 1)), name.as_str().into()).folded();
            Self::And(Box::new(whole), Box::new(next)).folded()
        })
    }

    /// Its value in its place, if it depends on no record and Cedar need not be asked.
    fn folded(self) -> Self {
        if !self.children().into_iter().all(|child| matches!(child, Self::Constant(_))) {
            return self;
        }
        if matches!(self, Self::Tag(_) | Self::HasTag(_) | Self::Within(_)) {
            return self;
        }
        match self.value(&Nobody).map(Cow::into_owned) {
            Ok(value) => Self::Constant(Some(value)),
            Err(Odd::Erred) => Self::Constant(None),
            Err(Odd::Unsure) => self,
        }
    }

    fn children(&self) -> Vec<&Self> {
        match self {
            Self::Constant(_) | Self::Own | Self::Opaque => vec![],
            Self::Attr(e, _)
            | Self::Has(e, _)
            | Self::Tag(e)
            | Self::HasTag(e)
            | Self::Within(e)
            | Self::Is(e, _)
            | Self::Not(e)
            | Self::Unary(_, e)
            | Self::Like(e, _) => vec![e],
            Self::And(l, r) | Self::Or(l, r) | Self::Binary(_, l, r) => vec![l, r],
            Self::If(c, t, e) => vec![c, t, e],
            Self::Set(items) => items.iter().collect(),
            Self::Record(fields) => fields.iter().map(|(_, e)| e).collect(),
        }
    }

    /// Everything of a record that its value may depend on.
    pub(super) fn reads<'t>(&'t self, reads: &mut Reads<'t>) {
        match self {
            Self::Own => reads.name = true,
            Self::Attr(e, name) | Self::Has(e, name) if matches!(**e, Self::Own) => {
                reads.attributes.insert(Arc::clone(name));
                return;
            }
            Self::Is(e, _) if matches!(**e, Self::Own) => return,
            Self::Tag(key) | Self::HasTag(key) => match &**key {
                Self::Constant(Some(Value::Text(key))) => drop(reads.tags.insert(Arc::clone(key))),
                key => reads.keys.push(key),
            },
            Self::Within(ancestors) => {
                reads.ancestors = true;
                reads.name |= ancestors.may_be_a_record();
            }
            _ => {}
        }
        self.children().into_iter().for_each(|child| child.reads(reads));
    }

    /// Whether it may be, or hold, an entity of a record's type.
    fn may_be_a_record(&self) -> bool {
        match self {
            Self::Constant(Some(Value::Entity(uid))) => is_record(uid),
            Self::Constant(Some(Value::Set(items))) => items.iter().filter_map(Value::entity).any(is_record),
            Self::Set(items) => items.iter().any(Self::may_be_a_record),
            _ => true,
        }
    }

    /// The keys that an expression for one may come to.
    pub(super) fn keys(&self, at: &dyn Looked, found: &mut BTreeSet<Arc<str>>) {
        match (self, self.value(at).as_deref()) {
            (_, Ok(Value::Text(key))) => drop(found.insert(Arc::clone(key))),
            (Self::If(_, a, b), _) => [a, b].into_iter().for_each(|e| e.keys(at, found)),
            (_, Ok(_) | Err(_)) => {}
        }
    }

    /// What it comes to for a record.
    pub(super) fn truth(&self, at: &dyn Looked) -> Result<bool, Odd> {
        match &*self.value(at)? {
            Value::Bool(b) => Ok(*b),
            _ => Err(Odd::Erred),
        }
    }

    fn value<'t>(&'t self, at: &dyn Looked) -> Found<'t> {
        match self {
            Self::Constant(value) => value.as_ref().map(Cow::Borrowed).ok_or(Odd::Erred),
            Self::Own => at.name().map(Value::Entity).map(Cow::Owned).ok_or(Odd::Unsure),
            Self::Attr(e, name) if matches!(**e, Self::Own) => owned(at.attribute(name)),
            Self::Attr(e, name) => owned(fields(&*e.value(at)?)?.get(name).cloned()),
            Self::Has(e, name) if matches!(**e, Self::Own) => told(at.has(name)),
            Self::Has(e, name) => told(fields(&*e.value(at)?)?.contains_key(name)),
            Self::Tag(key) => owned(at.tag(text(&*key.value(at)?)?)),
            Self::HasTag(key) => told(at.tag(text(&*key.value(at)?)?).is_some()),
            Self::Within(ancestors) => told(within(at, &*ancestors.value(at)?)?),
            Self::Is(e, ty) if matches!(**e, Self::Own) => told(ty.as_ref() == RECORD),
            Self::Is(e, ty) => told(e.value(at)?.entity().ok_or(Odd::Erred)?.ty == *ty),
            Self::Not(e) => told(!e.truth(at)?),
            Self::And(l, r) => told(l.truth(at)? && r.truth(at)?),
            Self::Or(l, r) => told(l.truth(at)? || r.truth(at)?),
            Self::If(c, t, e) => {
                if c.truth(at)? {
                    t.value(at)
                } else {
                    e.value(at)
                }
            }
            Self::Binary(op, l, r) => binary(*op, &*l.value(at)?, &*r.value(at)?).map(Cow::Owned),
            Self::Unary(op, e) => unary(*op, &*e.value(at)?).map(Cow::Owned),
            Self::Like(e, pattern) => told(like(text(&*e.value(at)?)?, pattern)),
            Self::Set(items) => {
                let items = items.iter().map(|e| e.value(at).map(Cow::into_owned)).collect::<Result<_, _>>()?;
                Ok(Cow::Owned(Value::Set(items)))
            }
            Self::Record(fields) => {
                let field = |(k, e): &'t (Arc<str>, Self)| Ok((Arc::clone(k), e.value(at)?.into_owned()));
                Ok(Cow::Owned(Value::Record(fields.iter().map(field).collect::<Result<_, _>>()?)))
            }
            Self::Opaque => Err(Odd::Unsure),
        }
    }
}

/// The type of every record's entity.
const RECORD: &str = "Record";

fn is_record(uid: &EntityUid) -> bool {
    uid.ty.as_ref() == RECORD
}

fn owned<'a>(value: Option<Value>) -> Found<'a> {
    value.map(Cow::Owned).ok_or(Odd::Erred)
}

fn told<'a>(truth: bool) -> Found<'a> {
    Ok(Cow::Owned(Value::Bool(truth)))
}

fn text(value: &Value) -> Result<&str, Odd> {
    match value {
        Value::Text(text) => Ok(text),
        _ => Err(Odd::Erred),
    }
}

fn fields(value: &Value) -> Result<&crate::model::entity::Attributes, Odd> {
    match value {
        Value::Record(fields) => Ok(fields),
        _ => Err(Odd::Erred),
    }
}

fn set(value: &Value) -> Result<&BTreeSet<Value>, Odd> {
    match value {
        Value::Set(items) => Ok(items),
        _ => Err(Odd::Erred),
    }
}

fn within(at: &dyn Looked, right: &Value) -> Result<bool, Odd> {
    let uids: Vec<&EntityUid> = match right {
        Value::Entity(uid) => vec![uid],
        Value::Set(items) => items.iter().map(Value::entity).collect::<Option<_>>().ok_or(Odd::Erred)?,
        _ => return Err(Odd::Erred),
    };
    if uids.iter().any(|uid| is_record(uid)) && uids.contains(&&at.name().ok_or(Odd::Unsure)?) {
        return Ok(true);
    }
    let above = at.ancestors();
    Ok(uids.into_iter().any(|uid| above.contains(uid)))
}

/// Two extension values may be equal and written otherwise.
fn plain(value: &Value) -> Result<&Value, Odd> {
    if convert::has_extension(value) { Err(Odd::Unsure) } else { Ok(value) }
}

fn equal(l: &Value, r: &Value) -> Result<bool, Odd> {
    match (Instant::of(l), Instant::of(r)) {
        (Some(l), Some(r)) => Ok(l == r),
        _ => Ok(plain(l)? == plain(r)?),
    }
}

fn order(l: &Value, r: &Value) -> Result<Ordering, Odd> {
    match (l, r) {
        (Value::Long(l), Value::Long(r)) => Ok(l.cmp(r)),
        (Value::Extension { .. }, Value::Extension { .. }) => match (Instant::of(l), Instant::of(r)) {
            (Some(l), Some(r)) => l.order(r).ok_or(Odd::Erred),
            _ => Err(Odd::Unsure),
        },
        _ => Err(Odd::Erred),
    }
}

fn reckoned(l: &Value, r: &Value, by: fn(i64, i64) -> Option<i64>) -> Result<Value, Odd> {
    match (l, r) {
        (Value::Long(l), Value::Long(r)) => by(*l, *r).map(Value::Long).ok_or(Odd::Erred),
        _ => Err(Odd::Erred),
    }
}

fn binary(op: BinaryOp, l: &Value, r: &Value) -> Result<Value, Odd> {
    let truth = match op {
        BinaryOp::Eq => equal(l, r)?,
        BinaryOp::NotEq => !equal(l, r)?,
        BinaryOp::Less => order(l, r)?.is_lt(),
        BinaryOp::LessEq => order(l, r)?.is_le(),
        BinaryOp::Greater => order(l, r)?.is_gt(),
        BinaryOp::GreaterEq => order(l, r)?.is_ge(),
        // what has no extension value in it equals nothing that has
        BinaryOp::Contains => set(l)?.contains(plain(r)?),
        BinaryOp::ContainsAll => {
            let held = set(l)?;
            set(plain(r)?)?.iter().all(|item| held.contains(item))
        }
        BinaryOp::ContainsAny => {
            let held = set(l)?;
            set(plain(r)?)?.iter().any(|item| held.contains(item))
        }
        BinaryOp::Add => return reckoned(l, r, i64::checked_add),
        BinaryOp::Sub => return reckoned(l, r, i64::checked_sub),
        BinaryOp::Mul => return reckoned(l, r, i64::checked_mul),
        BinaryOp::Offset => return offset(l, r),
        _ => return Err(Odd::Unsure),
    };
    Ok(Value::Bool(truth))
}

/// A moment moved by a span, if it stays one.
fn offset(from: &Value, by: &Value) -> Result<Value, Odd> {
    let moved = Value::Extension { function: "offset".into(), arguments: vec![from.clone(), by.clone()] };
    Instant::of(&moved).map(|_| moved).ok_or(Odd::Unsure)
}

fn unary(op: UnaryOp, e: &Value) -> Result<Value, Odd> {
    match (op, e) {
        (UnaryOp::Neg, Value::Long(n)) => n.checked_neg().map(Value::Long).ok_or(Odd::Erred),
        (UnaryOp::IsEmpty, value) => Ok(Value::Bool(set(value)?.is_empty())),
        (UnaryOp::Datetime, value @ Value::Text(_)) => instant("datetime", value),
        (UnaryOp::Duration, value @ Value::Text(_)) => instant("duration", value),
        (_, _) => Err(Odd::Unsure),
    }
}

fn instant(function: &str, text: &Value) -> Result<Value, Odd> {
    let made = Value::Extension { function: function.into(), arguments: vec![text.clone()] };
    Instant::of(&made).map(|_| made).ok_or(Odd::Unsure)
}

/// Whether a pattern fits all of a text: after a mismatch the last wildcard takes one character more.
fn like(text: &str, pattern: &[PatternElem]) -> bool {
    let (mut rest, mut at) = (text.chars(), 0);
    let mut resume: Option<(std::str::Chars<'_>, usize)> = None;
    loop {
        let mut ahead = rest.clone();
        match (pattern.get(at), ahead.next()) {
            (Some(PatternElem::Wildcard), _) => {
                at += 1;
                resume = Some((rest.clone(), at));
            }
            (Some(PatternElem::Char(wanted)), Some(found)) if *wanted == found => {
                rest = ahead;
                at += 1;
            }
            (None, None) => return true,
            (Some(PatternElem::Char(_)) | None, _) => {
                let Some((mut from, after)) = resume.take() else { return false };
                if from.next().is_none() {
                    return false;
                }
                (rest, at) = (from.clone(), after);
                resume = Some((from, after));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_cedar_says() {
        for (text, pattern) in [
            ("", ""),
            ("", "*"),
            ("a", ""),
            ("abc", "abc"),
            ("abc", "a*"),
            ("abc", "*c"),
            ("abc", "*b"),
            ("abc", "*b*"),
            ("aXbXc", "a*X*c"),
            ("aab", "*ab"),
            ("aaab", "a*ab"),
            ("mississippi", "*iss*ppi"),
            ("mississippi", "*issip*x"),
            ("a*b", r"a\*b"),
            ("axb", r"a\*b"),
            ("é€𝄞", "*€*"),
            ("é€𝄞", "é*𝄞"),
            ("***", r"\**\*"),
            ("ab", "ab*"),
            ("ab", "**ab**"),
        ] {
            let literal = text.escape_default().to_string();
            let expected = cedar(&format!(r#""{literal}" like "{pattern}""#));
            let parsed: cedar_policy::Policy =
                format!(r#"permit(principal, action, resource) when {{ context.x like "{pattern}" }};"#)
                    .parse()
                    .unwrap();
            let pst = parsed.to_pst().unwrap();
            let pst::Clause::When(expr) = &pst.body().clauses()[0] else { panic!() };
            let pst::Expr::Like { pattern: elements, .. } = expr.as_ref() else { panic!() };
            assert_eq!(like(text, elements), expected, "{text} like {pattern}");
        }
    }

    fn cedar(expression: &str) -> bool {
        use cedar_policy::{Context, Entities, EvalResult, Request, eval_expression};
        let uid = || r#"A::"a""#.parse().unwrap();
        let request = Request::new(uid(), uid(), uid(), Context::empty(), None).unwrap();
        match eval_expression(&request, &Entities::empty(), &expression.parse().unwrap()).unwrap() {
            EvalResult::Bool(b) => b,
            _ => panic!("not a truth value"),
        }
    }
}
