//! A policy's condition as a tree of our own: which entities it may dereference, and which columns of a record it reads.
//! Truth values still come from Cedar: every node can be given to its evaluator.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, OnceLock},
};

use cedar_policy::{Expression, pst};

use super::convert;
use crate::model::{EntityUid, Value};

/// What an expression starts from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Root {
    Principal,
    Action,
    Resource,
    Context,
    Literal(EntityUid),
}

/// One step from a value to the next.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Step {
    Attr(Arc<str>),
    /// A tag; `None` where its key is computed.
    Tag(Option<Arc<str>>),
}

/// A way from a root to a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Path {
    pub(super) root: Root,
    pub(super) steps: Vec<Step>,
}

impl Path {
    fn with(&self, step: Step) -> Self {
        let mut steps = self.steps.clone();
        steps.push(step);
        Self { root: self.root.clone(), steps }
    }
}

/// A place where evaluation may dereference the entity at the end of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Site {
    pub(super) path: Path,
    /// Whether its ancestors are looked at too.
    pub(super) ancestors: bool,
}

/// Two operands, in the order in which Cedar evaluates them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Eq,
    NotEq,
    Contains,
    ContainsAll,
    ContainsAny,
    Less,
    LessEq,
    Greater,
    GreaterEq,
}

/// The shape of a node.
#[derive(Debug)]
pub(super) enum Kind {
    Literal(Value),
    Var(Root),
    Not(Arc<Node>),
    And(Arc<Node>, Arc<Node>),
    Or(Arc<Node>, Arc<Node>),
    If(Arc<Node>, Arc<Node>, Arc<Node>),
    Attr(Arc<Node>, Arc<str>),
    Has(Arc<Node>, Vec<Arc<str>>),
    GetTag(Arc<Node>, Arc<Node>),
    HasTag(Arc<Node>, Arc<Node>),
    In(Arc<Node>, Arc<Node>),
    Is(Arc<Node>, Arc<str>),
    Binary(Binary, Arc<Node>, Arc<Node>),
    Record(Vec<(Arc<str>, Arc<Node>)>),
    /// Every operand is evaluated, in order; nothing is dereferenced here.
    Strict(Vec<Arc<Node>>),
}

/// An expression.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Whether `resource` occurs in it.
    pub(super) on_resource: bool,
    /// Whether `principal`, `action` or `context` occurs in it.
    pub(super) on_request: bool,
    /// Unique in the process: what is remembered of a node is kept under it.
    pub(super) serial: u64,
    source: Arc<pst::Expr>,
    cedar: OnceLock<Option<Expression>>,
    millis: OnceLock<Option<Expression>>,
}

/// A construct that this version of the product does not know.
#[derive(Debug)]
pub(super) struct Unknown;

static SERIALS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);

impl Node {
    fn new(kind: Kind, source: Arc<pst::Expr>) -> Arc<Self> {
        let any = |test: fn(&Node) -> bool| kind.children().into_iter().any(|c| test(c));
        let on_resource = matches!(kind, Kind::Var(Root::Resource)) || any(|c| c.on_resource);
        let on_request =
            matches!(kind, Kind::Var(Root::Principal | Root::Action | Root::Context)) || any(|c| c.on_request);
        let serial = SERIALS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Arc::new(Self {
            kind,
            on_resource,
            on_request,
            serial,
            source,
            cedar: OnceLock::new(),
            millis: OnceLock::new(),
        })
    }

    /// The conjunction of a policy's clauses, in their order; `None` if it has none.
    pub(super) fn clauses(clauses: &[pst::Clause]) -> Result<Option<Arc<Self>>, Unknown> {
        let mut whole: Option<Arc<Self>> = None;
        for clause in clauses {
            let next = match clause {
                pst::Clause::When(e) => Self::compile(e)?,
                pst::Clause::Unless(e) => {
                    Self::compile(&Arc::new(pst::Expr::UnaryOp { op: pst::UnaryOp::Not, expr: e.clone() }))?
                }
            };
            whole = Some(match whole {
                None => next,
                Some(left) => {
                    let source = pst::Expr::BinaryOp {
                        op: pst::BinaryOp::And,
                        left: Arc::clone(&left.source),
                        right: Arc::clone(&next.source),
                    };
                    Self::new(Kind::And(left, next), Arc::new(source))
                }
            });
        }
        Ok(whole)
    }

    fn compile(expr: &Arc<pst::Expr>) -> Result<Arc<Self>, Unknown> {
        let kind = match expr.as_ref() {
            pst::Expr::Literal(literal) => Kind::Literal(match literal {
                pst::Literal::Bool(b) => Value::Bool(*b),
                pst::Literal::Long(n) => Value::Long(*n),
                pst::Literal::String(s) => Value::text(s.as_str()),
                pst::Literal::EntityUID(uid) => Value::Entity(convert::from_pst_uid(uid)),
                _ => return Err(Unknown),
            }),
            pst::Expr::Var(var) => Kind::Var(match var {
                pst::Var::Principal => Root::Principal,
                pst::Var::Action => Root::Action,
                pst::Var::Resource => Root::Resource,
                pst::Var::Context => Root::Context,
            }),
            pst::Expr::UnaryOp { op: pst::UnaryOp::Not, expr } => Kind::Not(Self::compile(expr)?),
            pst::Expr::UnaryOp { expr, .. } => Kind::Strict(vec![Self::compile(expr)?]),
            pst::Expr::BinaryOp { op, left, right } => binary(*op, Self::compile(left)?, Self::compile(right)?),
            pst::Expr::GetAttr { expr, attr } => Kind::Attr(Self::compile(expr)?, attr.as_str().into()),
            pst::Expr::HasAttr { expr, attrs } => {
                Kind::Has(Self::compile(expr)?, attrs.iter().map(|a| Arc::from(a.as_str())).collect())
            }
            pst::Expr::Like { expr, .. } => Kind::Strict(vec![Self::compile(expr)?]),
            pst::Expr::Is { expr, entity_type, in_expr } => return Self::is(expr, entity_type, in_expr.as_ref()),
            pst::Expr::IfThenElse { cond, then_expr, else_expr } => {
                Kind::If(Self::compile(cond)?, Self::compile(then_expr)?, Self::compile(else_expr)?)
            }
            pst::Expr::Set(items) => Kind::Strict(items.iter().map(Self::compile).collect::<Result<_, _>>()?),
            pst::Expr::Record(fields) => {
                let field = |(name, e): (&String, &Arc<pst::Expr>)| Ok((Arc::from(name.as_str()), Self::compile(e)?));
                Kind::Record(fields.iter().map(field).collect::<Result<_, _>>()?)
            }
            _ => return Err(Unknown),
        };
        Ok(Self::new(kind, Arc::clone(expr)))
    }

    /// `e is T in x` is `e is T && e in x`.
    fn is(
        expr: &Arc<pst::Expr>,
        ty: &pst::EntityType,
        ancestor: Option<&Arc<pst::Expr>>,
    ) -> Result<Arc<Self>, Unknown> {
        let operand = Self::compile(expr)?;
        let source = pst::Expr::Is { expr: Arc::clone(expr), entity_type: ty.clone(), in_expr: None };
        let is = Self::new(Kind::Is(Arc::clone(&operand), ty.to_string().into()), Arc::new(source));
        let Some(ancestor) = ancestor else { return Ok(is) };
        let source = pst::Expr::BinaryOp { op: pst::BinaryOp::In, left: Arc::clone(expr), right: Arc::clone(ancestor) };
        let within = Self::new(Kind::In(operand, Self::compile(ancestor)?), Arc::new(source));
        let source = pst::Expr::BinaryOp {
            op: pst::BinaryOp::And,
            left: Arc::clone(&is.source),
            right: Arc::clone(&within.source),
        };
        Ok(Self::new(Kind::And(is, within), Arc::new(source)))
    }

    /// In Cedar's words.
    pub(super) fn text(&self) -> String {
        self.source.to_string()
    }

    /// Whether a text is one of this very expression.
    pub(super) fn is_written(&self, text: &str) -> bool {
        let told = text.parse::<Expression>().map(|e| e.to_string());
        told.is_ok_and(|told| self.cedar().is_some_and(|own| own.to_string() == told))
    }

    /// The node for Cedar's evaluator: made from its text when first asked for. `None` if it does not survive that.
    pub(super) fn cedar(&self) -> Option<&Expression> {
        self.cedar.get_or_init(|| self.source.to_string().parse().ok()).as_ref()
    }

    /// For Cedar's evaluator: the milliseconds since 1970 of a node that comes to a moment.
    pub(super) fn millis(&self) -> Option<&Expression> {
        let text = || format!("({}).durationSince(datetime(\"1970-01-01\")).toMilliseconds()", self.source);
        self.millis.get_or_init(|| text().parse().ok()).as_ref()
    }

    /// Every entity that an evaluation may dereference, wherever short circuits would lead.
    pub(super) fn sites(&self, found: &mut BTreeSet<Site>) {
        let mut add =
            |paths: Vec<Path>, ancestors| found.extend(paths.into_iter().map(|path| Site { path, ancestors }));
        match &self.kind {
            Kind::Attr(e, _) | Kind::GetTag(e, _) | Kind::HasTag(e, _) => add(e.paths(), false),
            Kind::In(e, _) => add(e.paths(), true),
            Kind::Has(e, names) => {
                let mut at = e.forms();
                for name in names {
                    let next = at.iter().flat_map(|form| form.project(name)).collect();
                    add(std::mem::replace(&mut at, next).into_iter().filter_map(Form::path).collect(), false);
                }
            }
            Kind::Literal(_)
            | Kind::Var(_)
            | Kind::Not(_)
            | Kind::And(..)
            | Kind::Or(..)
            | Kind::If(..)
            | Kind::Is(..)
            | Kind::Binary(..)
            | Kind::Record(_)
            | Kind::Strict(_) => {}
        }
        self.kind.children().into_iter().for_each(|c| c.sites(found));
    }

    /// The ways to what this expression may be, as far as that can be an entity or hold one.
    pub(super) fn paths(&self) -> Vec<Path> {
        self.forms().into_iter().filter_map(Form::path).collect()
    }

    fn forms(&self) -> Vec<Form<'_>> {
        match &self.kind {
            Kind::Var(root) => vec![Form::Path(Path { root: root.clone(), steps: vec![] })],
            Kind::Literal(Value::Entity(uid)) => {
                vec![Form::Path(Path { root: Root::Literal(uid.clone()), steps: vec![] })]
            }
            Kind::Attr(e, name) => e.forms().iter().flat_map(|form| form.project(name)).collect(),
            Kind::GetTag(e, key) => {
                let key = match &key.kind {
                    Kind::Literal(Value::Text(key)) => Some(Arc::clone(key)),
                    _ => None,
                };
                e.paths().iter().map(|p| Form::Path(p.with(Step::Tag(key.clone())))).collect()
            }
            Kind::If(_, a, b) => a.forms().into_iter().chain(b.forms()).collect(),
            Kind::Record(fields) => vec![Form::Fields(fields)],
            Kind::Literal(_)
            | Kind::Not(_)
            | Kind::And(..)
            | Kind::Or(..)
            | Kind::Has(..)
            | Kind::HasTag(..)
            | Kind::In(..)
            | Kind::Is(..)
            | Kind::Binary(..)
            | Kind::Strict(_) => vec![],
        }
    }

    /// Every attribute name that is read anywhere in it, of whatever.
    pub(super) fn names(&self, found: &mut HashSet<Arc<str>>) {
        match &self.kind {
            Kind::Attr(_, name) => found.extend([Arc::clone(name)]),
            Kind::Has(_, names) => found.extend(names.iter().cloned()),
            _ => {}
        }
        self.kind.children().into_iter().for_each(|c| c.names(found));
    }
}

/// Which attributes of the context are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ContextReads {
    These(BTreeSet<Arc<str>>),
    /// The context is used as a whole.
    All,
}

impl Default for ContextReads {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl ContextReads {
    /// Adds what an expression reads.
    pub(super) fn add(&mut self, node: &Node) {
        let on_context = |e: &Node| matches!(e.kind, Kind::Var(Root::Context));
        let read = match &node.kind {
            Kind::Var(Root::Context) => None,
            Kind::Attr(e, name) if on_context(e) => Some(name),
            Kind::Has(e, names) if on_context(e) => names.first(),
            kind => return kind.children().into_iter().for_each(|child| self.add(child)),
        };
        match (self, read) {
            (Self::These(names), Some(name)) => names.extend([Arc::clone(name)]),
            (whole, None) => *whole = Self::All,
            (Self::All, Some(_)) => {}
        }
    }

    /// The part of a context that is read.
    pub(super) fn of(&self, context: &Value) -> Value {
        match (self, context) {
            (Self::These(names), Value::Record(fields)) => {
                let read = fields.iter().filter(|(name, _)| names.contains(*name));
                Value::Record(read.map(|(name, value)| (Arc::clone(name), value.clone())).collect())
            }
            (Self::These(_) | Self::All, whole) => whole.clone(),
        }
    }

    /// Whether an attribute is read.
    pub(super) fn holds(&self, name: &str) -> bool {
        match self {
            Self::These(names) => names.contains(name),
            Self::All => true,
        }
    }
}

/// What an expression may be: the value at the end of a path, or a record literal.
enum Form<'a> {
    Path(Path),
    Fields(&'a [(Arc<str>, Arc<Node>)]),
}

impl<'a> Form<'a> {
    fn path(self) -> Option<Path> {
        match self {
            Form::Path(path) => Some(path),
            Form::Fields(_) => None,
        }
    }

    fn project(&self, name: &Arc<str>) -> Vec<Form<'a>> {
        match self {
            Form::Path(path) => vec![Form::Path(path.with(Step::Attr(Arc::clone(name))))],
            Form::Fields(fields) => fields.iter().filter(|(k, _)| k == name).flat_map(|(_, e)| e.forms()).collect(),
        }
    }
}

fn binary(op: pst::BinaryOp, l: Arc<Node>, r: Arc<Node>) -> Kind {
    match op {
        pst::BinaryOp::And => Kind::And(l, r),
        pst::BinaryOp::Or => Kind::Or(l, r),
        pst::BinaryOp::In => Kind::In(l, r),
        pst::BinaryOp::GetTag => Kind::GetTag(l, r),
        pst::BinaryOp::HasTag => Kind::HasTag(l, r),
        pst::BinaryOp::Eq => Kind::Binary(Binary::Eq, l, r),
        pst::BinaryOp::NotEq => Kind::Binary(Binary::NotEq, l, r),
        pst::BinaryOp::Contains => Kind::Binary(Binary::Contains, l, r),
        pst::BinaryOp::ContainsAll => Kind::Binary(Binary::ContainsAll, l, r),
        pst::BinaryOp::ContainsAny => Kind::Binary(Binary::ContainsAny, l, r),
        pst::BinaryOp::Less => Kind::Binary(Binary::Less, l, r),
        pst::BinaryOp::LessEq => Kind::Binary(Binary::LessEq, l, r),
        pst::BinaryOp::Greater => Kind::Binary(Binary::Greater, l, r),
        pst::BinaryOp::GreaterEq => Kind::Binary(Binary::GreaterEq, l, r),
        // Cedar desugars `>` and `>=` with their operands in place; which one errs first makes no difference here
        _ => Kind::Strict(vec![l, r]),
    }
}

impl Kind {
    pub(super) fn children(&self) -> Vec<&Arc<Node>> {
        match self {
            Self::Literal(_) | Self::Var(_) => vec![],
            Self::Not(e) | Self::Attr(e, _) | Self::Has(e, _) | Self::Is(e, _) => vec![e],
            Self::And(l, r)
            | Self::Or(l, r)
            | Self::GetTag(l, r)
            | Self::HasTag(l, r)
            | Self::In(l, r)
            | Self::Binary(_, l, r) => vec![l, r],
            Self::If(c, t, e) => vec![c, t, e],
            Self::Record(fields) => fields.iter().map(|(_, e)| e).collect(),
            Self::Strict(items) => items.iter().collect(),
        }
    }
}
