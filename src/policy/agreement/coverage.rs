//! What a run has met: node kinds and functions of policies, ways in which atoms were bound, cases in which we are stricter than
//! Cedar. Printed as a table.

use std::{cell::RefCell, collections::BTreeMap};

use cedar_policy::{PolicySet, pst};

use crate::policy::tree::Node;

/// Every kind of node in Cedar's public syntax tree but `Unknown` and residual errors: a new one must be added by hand, and met.
#[rustfmt::skip]
const KINDS: [&str; 69] = [
    "Literal Bool", "Literal Long", "Literal String", "Literal EntityUID",
    "Var Principal", "Var Action", "Var Resource", "Var Context",
    "Slot Principal", "Slot Resource",
    "UnaryOp Not", "UnaryOp Neg", "UnaryOp IsEmpty", "UnaryOp Datetime", "UnaryOp Decimal", "UnaryOp Duration", "UnaryOp Ip",
    "UnaryOp IsIPv4", "UnaryOp IsIPV6", "UnaryOp IsLoopback", "UnaryOp IsMulticast", "UnaryOp ToDate", "UnaryOp ToTime",
    "UnaryOp ToMilliseconds", "UnaryOp ToSeconds", "UnaryOp ToMinutes", "UnaryOp ToHours", "UnaryOp ToDays",
    "BinaryOp Eq", "BinaryOp NotEq", "BinaryOp Less", "BinaryOp LessEq", "BinaryOp Greater", "BinaryOp GreaterEq",
    "BinaryOp And", "BinaryOp Or", "BinaryOp Add", "BinaryOp Sub", "BinaryOp Mul", "BinaryOp In",
    "BinaryOp Contains", "BinaryOp ContainsAll", "BinaryOp ContainsAny", "BinaryOp GetTag", "BinaryOp HasTag",
    "BinaryOp IsInRange", "BinaryOp Offset", "BinaryOp DurationSince",
    "BinaryOp DecimalLessThan", "BinaryOp DecimalLessEq", "BinaryOp DecimalGreater", "BinaryOp DecimalGreaterEq",
    "GetAttr", "HasAttr", "HasAttr path", "Like", "Is", "Is in", "IfThenElse", "Set", "Record",
    "When", "Unless",
    "scope ==", "scope in", "scope is", "scope is in", "action ==", "action in",
];

/// How an atom that reads the record was bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Indexed,
    ByValue,
    Asked,
}

thread_local! {
    static ATOMS: RefCell<BTreeMap<(Way, &'static str), u64>> = RefCell::default();
}

/// Notes how an atom was bound, and how many columns it reads.
pub(in crate::policy) fn met(node: &Node, indexed: bool, bound: bool, columns: Option<usize>) {
    let (way, why) = match (indexed, bound, columns) {
        (true, _, _) => (Way::Indexed, ""),
        (false, true, _) => (Way::ByValue, ""),
        (false, false, None) => (Way::Asked, "the record itself, or a computed tag"),
        (false, false, Some(0..=1)) => (Way::Asked, "one column, of too many values or not to be represented"),
        (false, false, Some(2)) => (Way::Asked, "two columns"),
        (false, false, Some(_)) => (Way::Asked, "three columns or more"),
    };
    debug_assert!(node.on_resource);
    ATOMS.with_borrow_mut(|atoms| *atoms.entry((way, why)).or_default() += 1);
}

/// Counts of one run.
#[derive(Default)]
pub(super) struct Coverage {
    kinds: BTreeMap<String, u64>,
    differences: BTreeMap<&'static str, u64>,
    outcomes: BTreeMap<&'static str, u64>,
}

impl Coverage {
    /// Begins to count atoms.
    pub(super) fn new() -> Self {
        ATOMS.take();
        Self::default()
    }

    pub(super) fn difference(&mut self, what: &'static str) {
        *self.differences.entry(what).or_default() += 1;
    }

    pub(super) fn outcome(&mut self, what: &'static str) {
        *self.outcomes.entry(what).or_default() += 1;
    }

    fn kind(&mut self, name: impl Into<String>) {
        *self.kinds.entry(name.into()).or_default() += 1;
    }

    /// All nodes of a set, templates with their slots.
    pub(super) fn policies(&mut self, set: &PolicySet) {
        for policy in set.policies().filter(|policy| policy.is_static()) {
            if let pst::Policy::Static(fixed) = policy.to_pst().unwrap() {
                self.template(fixed.body());
            }
        }
        set.templates().for_each(|template| self.template(&template.to_pst().unwrap()));
    }

    fn template(&mut self, body: &pst::Template) {
        match &body.principal {
            pst::PrincipalConstraint::Any => {}
            pst::PrincipalConstraint::Eq(e) => self.scope("scope ==", Some(e)),
            pst::PrincipalConstraint::In(e) => self.scope("scope in", Some(e)),
            pst::PrincipalConstraint::Is(_) => self.scope("scope is", None),
            pst::PrincipalConstraint::IsIn(_, e) => self.scope("scope is in", Some(e)),
        }
        match &body.resource {
            pst::ResourceConstraint::Any => {}
            pst::ResourceConstraint::Eq(e) => self.scope("scope ==", Some(e)),
            pst::ResourceConstraint::In(e) => self.scope("scope in", Some(e)),
            pst::ResourceConstraint::Is(_) => self.scope("scope is", None),
            pst::ResourceConstraint::IsIn(_, e) => self.scope("scope is in", Some(e)),
        }
        match &body.action {
            pst::ActionConstraint::Any => {}
            pst::ActionConstraint::Eq(_) => self.kind("action =="),
            pst::ActionConstraint::In(_) => self.kind("action in"),
        }
        for clause in body.clauses() {
            let (name, e) = match clause {
                pst::Clause::When(e) => ("When", e),
                pst::Clause::Unless(e) => ("Unless", e),
            };
            self.kind(name);
            self.expr(e);
        }
    }

    fn scope(&mut self, name: &str, value: Option<&pst::EntityOrSlot>) {
        self.kind(name);
        if let Some(pst::EntityOrSlot::Slot(slot)) = value {
            self.kind(format!("Slot {slot:?}"));
        }
    }

    fn expr(&mut self, expr: &pst::Expr) {
        match expr {
            pst::Expr::Literal(literal) => self.kind(match literal {
                pst::Literal::Bool(_) => "Literal Bool",
                pst::Literal::Long(_) => "Literal Long",
                pst::Literal::String(_) => "Literal String",
                pst::Literal::EntityUID(_) => "Literal EntityUID",
                _ => "Literal of a new kind",
            }),
            pst::Expr::Var(var) => self.kind(format!("Var {var:?}")),
            pst::Expr::Slot(slot) => self.kind(format!("Slot {slot:?}")),
            pst::Expr::UnaryOp { op, expr } => {
                self.kind(format!("UnaryOp {op:?}"));
                self.expr(expr);
            }
            pst::Expr::BinaryOp { op, left, right } => {
                self.kind(format!("BinaryOp {op:?}"));
                [left, right].into_iter().for_each(|e| self.expr(e));
            }
            pst::Expr::GetAttr { expr, .. } => {
                self.kind("GetAttr");
                self.expr(expr);
            }
            pst::Expr::HasAttr { expr, attrs } => {
                self.kind(if attrs.len() > 1 { "HasAttr path" } else { "HasAttr" });
                self.expr(expr);
            }
            pst::Expr::Like { expr, .. } => {
                self.kind("Like");
                self.expr(expr);
            }
            pst::Expr::Is { expr, in_expr, .. } => {
                self.kind(if in_expr.is_some() { "Is in" } else { "Is" });
                [Some(expr), in_expr.as_ref()].into_iter().flatten().for_each(|e| self.expr(e));
            }
            pst::Expr::IfThenElse { cond, then_expr, else_expr } => {
                self.kind("IfThenElse");
                [cond, then_expr, else_expr].into_iter().for_each(|e| self.expr(e));
            }
            pst::Expr::Set(items) => {
                self.kind("Set");
                items.iter().for_each(|e| self.expr(e));
            }
            pst::Expr::Record(fields) => {
                self.kind("Record");
                fields.values().for_each(|e| self.expr(e));
            }
            other => panic!("a kind of node that the generator does not make: {other:?}"),
        }
    }

    /// Kinds that were met less often than this.
    pub(super) fn below(&self, least: u64) -> Vec<&'static str> {
        KINDS.into_iter().filter(|kind| self.kinds.get(*kind).is_none_or(|n| *n < least)).collect()
    }

    /// Kinds that are not on the list.
    pub(super) fn unlisted(&self) -> Vec<&String> {
        self.kinds.keys().filter(|kind| !KINDS.contains(&kind.as_str())).collect()
    }

    /// Of all atoms that read the record: the share that is looked up or evaluated by value, in percent.
    pub(super) fn bound_percent(&self) -> u64 {
        let atoms = ATOMS.with_borrow(Clone::clone);
        let all: u64 = atoms.values().sum();
        let asked: u64 = atoms.iter().filter(|((way, _), _)| *way == Way::Asked).map(|(_, n)| n).sum();
        100 - asked * 100 / all.max(1)
    }

    pub(super) fn print(&self) {
        let mut kinds = comfy_table::Table::new();
        kinds.load_style(comfy_table::presets::NOTHING);
        for row in KINDS.chunks(3) {
            let cells =
                row.iter().flat_map(|kind| [(*kind).to_owned(), self.kinds.get(*kind).unwrap_or(&0).to_string()]);
            kinds.add_row(cells.collect::<Vec<_>>());
        }
        println!("node kinds and functions met in policies:\n{kinds}");
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        let atoms = ATOMS.with_borrow(Clone::clone);
        let all: u64 = atoms.values().sum();
        for ((way, why), n) in &atoms {
            let share = format!("{:.1} %", *n as f64 * 100.0 / all as f64);
            table.add_row(vec![format!("atoms {way:?}"), n.to_string(), share, (*why).to_owned()]);
        }
        for (what, n) in &self.outcomes {
            table.add_row(vec![(*what).to_owned(), n.to_string(), String::new(), String::new()]);
        }
        println!("{table}\nplain Cedar allows and Wardkeep denies, because:");
        for (what, n) in &self.differences {
            println!("  {n:>8}  {what}");
        }
    }
}
