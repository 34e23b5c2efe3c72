//! What a filter may say: nothing of `principal` or `action`, and nothing that looks at another entity than the record itself. Read from the
//! expression and the schema alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cedar_policy::{
    Expression,
    pst::{self, BinaryOp, UnaryOp},
};

use super::FilterFault;
use crate::policy::Position;
use crate::{
    model::{Action, limits::FILTER_DEPTH},
    policy::{
        Bundle,
        schema::{AttributeType, EntityType, Fields},
    },
};

/// Faults of one filter that are told.
pub(super) const TOLD: usize = 16;

/// Bytes of expressions that are taken apart once more to find the place of a fault.
const SEARCHED_BYTES: usize = 256 << 10;

/// A thing that a filter must not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flaw {
    /// It speaks of `principal` or `action`.
    Variable,
    /// It has a slot of a template, or a construct that this version does not know.
    Unknown,
    /// It asks for tags, and records have none.
    Tags,
    /// It names an attribute that the schema does not declare.
    Attribute,
    /// It looks at another entity.
    Dereference,
    /// It looks at something that is not seen to be the record's own.
    Doubtful,
}

impl Flaw {
    pub(super) fn told(self) -> FilterFault {
        match self {
            Self::Variable => {
                FilterFault::new("filter_variable", "a filter speaks of `resource` and `context`, of nothing else")
            }
            Self::Unknown => FilterFault::new("filter_syntax", "this does not belong in a filter"),
            Self::Tags => FilterFault::new("filter_attribute", "the schema gives records no tags"),
            Self::Attribute => {
                FilterFault::new("filter_attribute", "the schema declares no attribute of this name here")
            }
            Self::Dereference | Self::Doubtful => FilterFault::new(
                "filter_dereference",
                "a filter looks at the record's own attributes, tags and ancestors; of another entity it can only ask which one it is",
            ),
        }
    }
}

/// The types that the parts of an expression have.
pub(super) struct Checker<'a> {
    bundle: &'a Bundle,
    context: Option<&'a Fields>,
}

/// What an attribute, a tag or an ancestor is asked of.
enum Base<'a> {
    /// The record itself.
    Own,
    /// Named values.
    Fields(&'a Fields),
    /// Named values that the filter itself writes.
    Written(&'a BTreeMap<String, Arc<pst::Expr>>),
    /// An entity.
    Entity,
    /// Neither.
    Plain,
    /// Not known: the validator has not spoken yet.
    Unknown,
}

impl<'a> Checker<'a> {
    pub(super) fn new(bundle: &'a Bundle, action: Action) -> Self {
        Self { bundle, context: bundle.facts.actions.get(action.name()).map(|action| &action.context) }
    }

    /// Everything that a filter must not do.
    pub(super) fn flaws(&self, expr: &pst::Expr) -> BTreeSet<Flaw> {
        let mut found = BTreeSet::new();
        let mut open = vec![expr];
        while let Some(expr) = open.pop() {
            found.extend(self.flaw(expr));
            open.extend(children(expr).into_iter().map(AsRef::as_ref));
        }
        found
    }

    fn flaw(&self, expr: &pst::Expr) -> Option<Flaw> {
        match expr {
            pst::Expr::Literal(_) | pst::Expr::Var(pst::Var::Resource | pst::Var::Context) => None,
            pst::Expr::Var(pst::Var::Principal | pst::Var::Action) => Some(Flaw::Variable),
            pst::Expr::GetAttr { expr, attr } => self.member_of(&self.base(expr), attr),
            // `e has a.b.c` looks at `e.a` and `e.a.b` too
            pst::Expr::HasAttr { expr, attrs } => {
                let mut base = self.base(expr);
                attrs.iter().find_map(|name| {
                    let flaw = self.member_of(&base, name);
                    base = self.member(std::mem::replace(&mut base, Base::Unknown), name);
                    flaw
                })
            }
            pst::Expr::BinaryOp { op: BinaryOp::GetTag | BinaryOp::HasTag, left, .. } => match self.base(left) {
                Base::Own if self.record().is_some_and(|ty| ty.tags.is_some()) => None,
                Base::Own => Some(Flaw::Tags),
                base => Self::not_own(&base),
            },
            pst::Expr::BinaryOp { op: BinaryOp::In, left, .. } | pst::Expr::Is { expr: left, in_expr: Some(_), .. } => {
                Self::not_own(&self.base(left))
            }
            pst::Expr::BinaryOp { .. }
            | pst::Expr::UnaryOp { .. }
            | pst::Expr::Like { .. }
            | pst::Expr::Is { in_expr: None, .. }
            | pst::Expr::IfThenElse { .. }
            | pst::Expr::Set(_)
            | pst::Expr::Record(_) => None,
            _ => Some(Flaw::Unknown),
        }
    }

    fn not_own(base: &Base<'_>) -> Option<Flaw> {
        match base {
            Base::Own => None,
            Base::Entity => Some(Flaw::Dereference),
            Base::Fields(_) | Base::Written(_) | Base::Plain | Base::Unknown => Some(Flaw::Doubtful),
        }
    }

    fn member_of(&self, base: &Base<'_>, name: &str) -> Option<Flaw> {
        let declared = match base {
            Base::Own => self.record().is_some_and(|ty| ty.attributes.contains_key(name)),
            Base::Fields(fields) => fields.contains_key(name),
            Base::Written(_) => true,
            Base::Entity => return Some(Flaw::Dereference),
            Base::Plain | Base::Unknown => return Some(Flaw::Doubtful),
        };
        (!declared).then_some(Flaw::Attribute)
    }

    fn base<'e>(&self, expr: &'e pst::Expr) -> Base<'e>
    where
        'a: 'e,
    {
        match expr {
            pst::Expr::Var(pst::Var::Resource) => Base::Own,
            pst::Expr::Var(pst::Var::Context) => self.context.map_or(Base::Unknown, Base::Fields),
            pst::Expr::Var(pst::Var::Principal | pst::Var::Action) => Base::Entity,
            pst::Expr::Literal(pst::Literal::EntityUID(_)) => Base::Entity,
            pst::Expr::Literal(_) => Base::Plain,
            pst::Expr::GetAttr { expr, attr } => self.member(self.base(expr), attr),
            pst::Expr::BinaryOp { op: BinaryOp::GetTag, left, .. } => match self.base(left) {
                Base::Own => self.record().and_then(|ty| ty.tags.as_ref()).map_or(Base::Unknown, Base::of),
                _ => Base::Unknown,
            },
            pst::Expr::Record(fields) => Base::Written(fields),
            // both branches are of one type; which entity it is, is not known
            pst::Expr::IfThenElse { then_expr, .. } => match self.base(then_expr) {
                Base::Own => Base::Entity,
                Base::Written(_) => Base::Unknown,
                base => base,
            },
            _ => Base::Plain,
        }
    }

    fn member<'e>(&self, base: Base<'e>, name: &str) -> Base<'e>
    where
        'a: 'e,
    {
        let fields = match base {
            Base::Own => match self.record() {
                Some(ty) => &ty.attributes,
                None => return Base::Unknown,
            },
            Base::Fields(fields) => fields,
            Base::Written(fields) => return fields.get(name).map_or(Base::Unknown, |e| self.base(e)),
            Base::Entity | Base::Plain | Base::Unknown => return Base::Unknown,
        };
        fields.get(name).map_or(Base::Unknown, |attribute| Base::of(&attribute.ty))
    }

    fn record(&self) -> Option<&'a EntityType> {
        self.bundle.facts.types.get("Record")
    }

    /// Each of these flaws with its place.
    pub(super) fn located(&self, flaws: &BTreeSet<Flaw>, text: &str, parsed: &Expression) -> Vec<FilterFault> {
        let mut found: Vec<(usize, Flaw)> =
            self.places(parsed).into_iter().filter(|(_, f)| flaws.contains(f)).collect();
        found.sort_unstable();
        found.dedup();
        let lost = flaws.iter().filter(|flaw| !found.iter().any(|(_, f)| f == *flaw));
        let lost: Vec<_> = lost.map(|flaw| flaw.told()).collect();
        found.into_iter().map(|(at, flaw)| flaw.told().at(Position::of(text, at))).chain(lost).take(TOLD).collect()
    }

    fn places(&self, parsed: &Expression) -> Vec<(usize, Flaw)> {
        let flaw = |(start, part): (usize, Option<pst::Expr>)| Some((start, self.flaw(&part?)?));
        parts(parsed).filter_map(flaw).collect()
    }
}

/// Every part of an expression with the offset at which it was written, the shortest first; `None` for one that is no tree.
fn parts(parsed: &Expression) -> impl Iterator<Item = (usize, Option<pst::Expr>)> {
    let located = parsed.as_ref().subexpressions().filter_map(|part| Some((part.source_loc()?, part)));
    let mut parts: Vec<_> = located.map(|(at, part)| (at.end() - at.start(), at.start(), part)).collect();
    parts.sort_by_key(|(length, start, _)| (*length, *start));
    let mut left = SEARCHED_BYTES;
    let within = move |(length, start, part)| {
        left = left.checked_sub(length)?;
        Some((start, part))
    };
    parts.into_iter().map_while(within).map(|(start, part)| (start, pst::Expr::try_from(part.clone()).ok()))
}

/// What is a fault in an expression that is no tree: a call with other arguments than the function takes.
pub(super) fn no_tree(text: &str, parsed: &Expression) -> FilterFault {
    let fault = FilterFault::new("filter_function", "there is no such function, or it takes other arguments");
    match parts(parsed).find(|(_, part)| part.is_none()) {
        Some((start, _)) => fault.at(Position::of(text, start)),
        None => fault,
    }
}

impl<'a> Base<'a> {
    fn of(ty: &'a AttributeType) -> Self {
        match ty {
            AttributeType::Entity(_) => Self::Entity,
            AttributeType::Record(fields) => Self::Fields(fields),
            AttributeType::Bool
            | AttributeType::Long
            | AttributeType::Text
            | AttributeType::Set(_)
            | AttributeType::Datetime
            | AttributeType::Extension(_) => Self::Plain,
        }
    }
}

/// Whether an expression nests deeper than the bound. A chain of one and the same `&&` or `||` counts once.
pub(super) fn too_deep(expr: &pst::Expr) -> bool {
    let mut open = vec![(expr, 0)];
    while let Some((expr, depth)) = open.pop() {
        if depth > FILTER_DEPTH {
            return true;
        }
        let chain = chain_of(expr);
        let below =
            |child: &Arc<pst::Expr>| if chain.is_some() && chain_of(child) == chain { depth } else { depth + 1 };
        open.extend(children(expr).into_iter().map(|child| (child.as_ref(), below(child))));
    }
    false
}

/// How many calls there are whose outcome only Cedar knows: what compares or takes apart decimals, addresses, moments and durations.
pub(super) fn calls(expr: &pst::Expr) -> usize {
    let (mut calls, mut open) = (0, vec![expr]);
    while let Some(expr) = open.pop() {
        calls += usize::from(match expr {
            pst::Expr::UnaryOp { op, .. } => !matches!(
                op,
                UnaryOp::Not
                    | UnaryOp::Neg
                    | UnaryOp::IsEmpty
                    | UnaryOp::Datetime
                    | UnaryOp::Decimal
                    | UnaryOp::Duration
                    | UnaryOp::Ip
            ),
            pst::Expr::BinaryOp { op, .. } => matches!(
                op,
                BinaryOp::IsInRange
                    | BinaryOp::DurationSince
                    | BinaryOp::DecimalLessThan
                    | BinaryOp::DecimalLessEq
                    | BinaryOp::DecimalGreater
                    | BinaryOp::DecimalGreaterEq
            ),
            _ => false,
        });
        open.extend(children(expr).into_iter().map(AsRef::as_ref));
    }
    calls
}

/// The operator of a chain.
pub(super) fn chain_of(expr: &pst::Expr) -> Option<BinaryOp> {
    match expr {
        pst::Expr::BinaryOp { op: op @ (BinaryOp::And | BinaryOp::Or), .. } => Some(*op),
        _ => None,
    }
}

pub(super) fn children(expr: &pst::Expr) -> Vec<&Arc<pst::Expr>> {
    match expr {
        pst::Expr::UnaryOp { expr, .. }
        | pst::Expr::GetAttr { expr, .. }
        | pst::Expr::HasAttr { expr, .. }
        | pst::Expr::Like { expr, .. } => vec![expr],
        pst::Expr::BinaryOp { left, right, .. } => vec![left, right],
        pst::Expr::Is { expr, in_expr, .. } => std::iter::once(expr).chain(in_expr).collect(),
        pst::Expr::IfThenElse { cond, then_expr, else_expr } => vec![cond, then_expr, else_expr],
        pst::Expr::Set(items) => items.iter().collect(),
        pst::Expr::Record(fields) => fields.values().collect(),
        _ => vec![],
    }
}

/// The same expression, its chains of `&&` and `||` written as trees that are not deep: nobody needs stack for them any more.
/// Both are associative, in what they evaluate too.
pub(super) fn balanced(expr: &Arc<pst::Expr>) -> Arc<pst::Expr> {
    match expr.as_ref() {
        pst::Expr::BinaryOp { op: op @ (BinaryOp::And | BinaryOp::Or), .. } => {
            let links: Vec<_> = links(expr, *op).into_iter().map(balanced).collect();
            joined(*op, &links).unwrap_or_else(|| Arc::clone(expr))
        }
        pst::Expr::UnaryOp { op: UnaryOp::Not, expr } => {
            Arc::new(pst::Expr::UnaryOp { op: UnaryOp::Not, expr: balanced(expr) })
        }
        pst::Expr::IfThenElse { cond, then_expr, else_expr } => Arc::new(pst::Expr::IfThenElse {
            cond: balanced(cond),
            then_expr: balanced(then_expr),
            else_expr: balanced(else_expr),
        }),
        _ => Arc::clone(expr),
    }
}

/// The operands of a chain, in order.
fn links(expr: &Arc<pst::Expr>, chain: BinaryOp) -> Vec<&Arc<pst::Expr>> {
    let mut found = Vec::new();
    let mut open = vec![expr];
    while let Some(expr) = open.pop() {
        match expr.as_ref() {
            pst::Expr::BinaryOp { op, left, right } if *op == chain => open.extend([right, left]),
            _ => found.push(expr),
        }
    }
    found
}

fn joined(op: BinaryOp, links: &[Arc<pst::Expr>]) -> Option<Arc<pst::Expr>> {
    match links {
        [] => None,
        [one] => Some(Arc::clone(one)),
        many => {
            let (left, right) = many.split_at(many.len() / 2);
            Some(Arc::new(pst::Expr::BinaryOp { op, left: joined(op, left)?, right: joined(op, right)? }))
        }
    }
}
