//! Where an evaluation came to nothing: the innermost expression that errs or looks at an entity that is not stored, by its words and
//! by the type of what is missing, never by its id.

use std::sync::Arc;

use serde::Serialize;

use crate::{
    model::{EntityUid, Value},
    policy::{
        trace::{Halt, Trace},
        tree::{Kind, Node},
        world::Stored,
    },
};

/// A place where an evaluation came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stumble {
    /// The expression, in Cedar's own style.
    pub expression: String,
    /// The type of the entity that is not stored; `None` for an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
}

/// What is not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The expression that leads to it.
    pub at: String,
    /// Its type, as far as one expression leads there; an ancestor may be of any.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub ty: Option<String>,
    /// Whether it is not the entity itself but an ancestor of it.
    pub ancestor: bool,
}

impl Stumble {
    /// A scope that asks for an ancestor.
    pub(super) fn of_scope(variable: &str) -> Self {
        let missing = Missing { at: variable.to_owned(), ty: None, ancestor: true };
        Self { expression: variable.to_owned(), missing: Some(missing) }
    }

    pub(super) fn of(trace: &Trace<'_>, condition: &Arc<Node>) -> Self {
        let node = innermost(trace, condition);
        let missing = match evaluated(trace, node) {
            Err(Halt::Missing) => missing(trace, node),
            Err(Halt::Erred) | Ok(()) => None,
        };
        Self { expression: node.text(), missing }
    }

    /// In the words of a sentence.
    pub(super) fn words(&self) -> String {
        match &self.missing {
            None => format!("`{}` errs", self.expression),
            Some(Missing { at, ty: Some(ty), ancestor: false }) => {
                format!("`{at}` leads to an entity of type `{ty}` that is not stored")
            }
            Some(Missing { at, ty: None, ancestor: false }) => format!("`{at}` leads to an entity that is not stored"),
            Some(Missing { at, ty: Some(ty), ancestor: true }) => {
                format!("an ancestor, of type `{ty}`, of `{at}` is not stored")
            }
            Some(Missing { at, ty: None, ancestor: true }) => format!("an ancestor of `{at}` is not stored"),
        }
    }
}

/// Follows the evaluation to where it ends.
fn innermost<'n>(trace: &Trace<'_>, node: &'n Arc<Node>) -> &'n Arc<Node> {
    let next = match &node.kind {
        Kind::And(l, r) => match trace.truth(l) {
            Err(_) => Some(l),
            Ok(true) => Some(r),
            Ok(false) => None,
        },
        Kind::Or(l, r) => match trace.truth(l) {
            Err(_) => Some(l),
            Ok(false) => Some(r),
            Ok(true) => None,
        },
        Kind::If(c, t, e) => Some(match trace.truth(c) {
            Err(_) => c,
            Ok(true) => t,
            Ok(false) => e,
        }),
        kind => kind.children().into_iter().find(|child| evaluated(trace, child).is_err()),
    };
    // an operand that has a value is not where it ends
    match next.filter(|next| evaluated(trace, next).is_err()) {
        Some(next) => innermost(trace, next),
        None => node,
    }
}

fn evaluated(trace: &Trace<'_>, node: &Node) -> Result<(), Halt> {
    trace.follow(node)?;
    trace.result(node).map(drop)
}

/// What an expression that dereferences looks at and does not find.
fn missing(trace: &Trace<'_>, node: &Node) -> Option<Missing> {
    let gone = |at: String, uid: &EntityUid| Missing { at, ty: Some(uid.ty.as_ref().to_owned()), ancestor: false };
    match &node.kind {
        Kind::Attr(e, _) | Kind::GetTag(e, _) | Kind::HasTag(e, _) => entity(trace, e).map(|uid| gone(e.text(), &uid)),
        Kind::Has(e, names) => {
            let (mut at, mut words) = (trace.follow(e).ok()??, e.text());
            for name in names {
                match &at {
                    Value::Entity(uid) if is_gone(trace, uid) => return Some(gone(words, uid)),
                    _ => at = trace.attribute(&at, name).ok()??,
                }
                words = format!("{words}.{name}");
            }
            None
        }
        Kind::In(l, _) => {
            let uid = entity(trace, l)?;
            if is_gone(trace, &uid) {
                return Some(gone(l.text(), &uid));
            }
            Some(Missing { at: l.text(), ty: missing_ancestor(trace, &uid), ancestor: true })
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
        | Kind::Strict(_) => None,
    }
}

fn entity(trace: &Trace<'_>, node: &Node) -> Option<EntityUid> {
    match trace.follow(node).ok()?? {
        Value::Entity(uid) => Some(uid),
        _ => None,
    }
}

fn is_gone(trace: &Trace<'_>, uid: &EntityUid) -> bool {
    match trace.world.stored(uid) {
        Stored::No => true,
        Stored::Yes(_) | Stored::BySchema => false,
    }
}

/// The type of the missing ancestors, where they are all of one.
fn missing_ancestor(trace: &Trace<'_>, uid: &EntityUid) -> Option<String> {
    let Stored::Yes(entity) = trace.world.stored(uid) else { return None };
    let mut types = std::collections::BTreeSet::new();
    trace.world.ancestors(entity, &mut |uid| {
        if is_gone(trace, uid) {
            types.insert(uid.ty.as_ref().to_owned());
        }
    });
    let first = types.pop_first();
    first.filter(|_| types.is_empty())
}
