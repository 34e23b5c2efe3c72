//! Follows one evaluation as Cedar would run it and stops where it dereferences an entity that is not stored.
//! Every truth value comes from Cedar's own evaluator; only the way between them is ours.

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use cedar_policy::{Entities, EvalResult, Request, eval_expression};

#[cfg(test)]
use super::agreement::{Mutant, is_planted};
use super::{
    tree::{Kind, Node, Root},
    world::{Stored, World},
};
use crate::model::{EntityUid, Value};

/// Why an evaluation came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halt {
    /// It looked at an entity that is not stored.
    Missing,
    /// It erred.
    Erred,
}

/// One request against one world.
pub(super) struct Trace<'a> {
    pub(super) world: World<'a>,
    pub(super) request: &'a Request,
    pub(super) entities: &'a Entities,
    /// How often Cedar was asked.
    pub(super) evaluations: &'a Cell<u64>,
}

impl Trace<'_> {
    /// What a condition comes to.
    pub(super) fn truth(&self, node: &Node) -> Result<bool, Halt> {
        match &node.kind {
            Kind::And(l, r) => Ok(self.truth(l)? && self.truth(r)?),
            Kind::Or(l, r) => Ok(self.truth(l)? || self.truth(r)?),
            Kind::Not(e) => Ok(!self.truth(e)?),
            Kind::If(c, t, e) => {
                if self.truth(c)? {
                    self.truth(t)
                } else {
                    self.truth(e)
                }
            }
            _ => {
                self.follow(node)?;
                self.ask(node)
            }
        }
    }

    fn ask(&self, node: &Node) -> Result<bool, Halt> {
        match self.result(node)? {
            EvalResult::Bool(b) => Ok(b),
            _ => Err(Halt::Erred),
        }
    }

    /// Cedar's value of a node. Only after `follow` has found nothing missing on the way.
    pub(super) fn result(&self, node: &Node) -> Result<EvalResult, Halt> {
        self.evaluations.set(self.evaluations.get() + 1);
        let expression = node.cedar().ok_or(Halt::Erred)?;
        eval_expression(self.request, self.entities, expression).map_err(|_| Halt::Erred)
    }

    /// Milliseconds since 1970 of a node that comes to a moment. Only after `follow`, as `result`.
    pub(super) fn millis(&self, node: &Node) -> Option<i64> {
        self.evaluations.set(self.evaluations.get() + 1);
        match eval_expression(self.request, self.entities, node.millis()?) {
            Ok(EvalResult::Long(ms)) => Some(ms),
            _ => None,
        }
    }

    /// Walks what Cedar would evaluate. Gives the value where it can be an entity or a record, and a truth value where it is one.
    pub(super) fn follow(&self, node: &Node) -> Result<Option<Value>, Halt> {
        match &node.kind {
            Kind::Literal(value) => Ok(Some(value.clone())),
            Kind::Var(root) => Ok(Some(self.start(root))),
            Kind::And(..) | Kind::Or(..) | Kind::Not(_) => self.truth(node).map(|b| Some(Value::Bool(b))),
            Kind::If(c, t, e) => {
                if self.truth(c)? {
                    self.follow(t)
                } else {
                    self.follow(e)
                }
            }
            Kind::Attr(e, name) => {
                let from = self.follow(e)?.ok_or(Halt::Erred)?;
                self.attribute(&from, name)?.ok_or(Halt::Erred).map(Some)
            }
            Kind::Has(e, names) => self.has(e, names),
            Kind::GetTag(e, key) => {
                let (uid, key) = self.tag(e, key)?;
                match self.world.stored(&uid) {
                    Stored::Yes(entity) => entity.tags.get(key.as_str()).cloned().ok_or(Halt::Erred).map(Some),
                    Stored::BySchema => Err(Halt::Erred),
                    Stored::No => Err(Halt::Missing),
                }
            }
            Kind::HasTag(e, key) => {
                let (uid, _) = self.tag(e, key)?;
                self.stored(&uid).map(|()| None)
            }
            Kind::In(l, r) => self.within(node, l, r),
            Kind::Is(e, _) => self.follow(e).map(|_| None),
            Kind::Binary(_, l, r) => {
                self.follow(l)?;
                self.follow(r).map(|_| None)
            }
            Kind::Record(fields) => {
                let mut values = BTreeMap::new();
                for (name, e) in fields {
                    // what is neither entity nor record can be projected but not dereferenced: any value stands for it
                    values.insert(Arc::clone(name), self.follow(e)?.unwrap_or(Value::Bool(false)));
                }
                Ok(Some(Value::Record(values)))
            }
            Kind::Strict(items) => {
                for item in items {
                    self.follow(item)?;
                }
                Ok(None)
            }
        }
    }

    fn start(&self, root: &Root) -> Value {
        match root {
            Root::Principal => Value::Entity(self.world.inquiry.principal().clone()),
            Root::Action => Value::Entity(self.world.inquiry.action_uid().clone()),
            Root::Resource => Value::Entity(self.world.resource.uid.clone()),
            Root::Context => self.world.inquiry.context().clone(),
            Root::Literal(uid) => Value::Entity(uid.clone()),
        }
    }

    fn stored(&self, uid: &EntityUid) -> Result<(), Halt> {
        match self.world.stored(uid) {
            Stored::Yes(_) | Stored::BySchema => Ok(()),
            #[cfg(test)]
            Stored::No if is_planted(Mutant::MissingHasNoTags) => Ok(()),
            Stored::No => Err(Halt::Missing),
        }
    }

    /// An attribute of an entity, or a field of a record.
    pub(super) fn attribute(&self, from: &Value, name: &Arc<str>) -> Result<Option<Value>, Halt> {
        match from {
            Value::Record(fields) => Ok(fields.get(name).cloned()),
            Value::Entity(uid) => match self.world.stored(uid) {
                Stored::Yes(entity) => Ok(entity.attrs.get(name).cloned()),
                Stored::BySchema => Ok(None),
                Stored::No => Err(Halt::Missing),
            },
            Value::Bool(_) | Value::Long(_) | Value::Text(_) | Value::Set(_) | Value::Extension { .. } => {
                Err(Halt::Erred)
            }
        }
    }

    fn has(&self, e: &Node, names: &[Arc<str>]) -> Result<Option<Value>, Halt> {
        let mut at = self.follow(e)?.ok_or(Halt::Erred)?;
        for name in names {
            match self.attribute(&at, name)? {
                Some(next) => at = next,
                None => break,
            }
        }
        Ok(None)
    }

    fn tag(&self, e: &Node, key: &Node) -> Result<(EntityUid, String), Halt> {
        let Some(Value::Entity(uid)) = self.follow(e)? else { return Err(Halt::Erred) };
        self.follow(key)?;
        match &key.kind {
            Kind::Literal(Value::Text(key)) => Ok((uid, key.as_ref().to_owned())),
            _ => match self.result(key)? {
                EvalResult::String(key) => Ok((uid, key)),
                _ => Err(Halt::Erred),
            },
        }
    }

    /// `l in r` looks at `l` and, unless the answer is yes without them, at all its ancestors.
    fn within(&self, node: &Node, l: &Node, r: &Node) -> Result<Option<Value>, Halt> {
        let Some(Value::Entity(uid)) = self.follow(l)? else { return Err(Halt::Erred) };
        self.follow(r)?;
        let whole = match self.world.stored(&uid) {
            Stored::Yes(entity) => self.world.ancestors(entity, &mut |_| {}),
            Stored::BySchema => true,
            Stored::No => return Err(Halt::Missing),
        };
        if whole || self.ask(node)? { Ok(None) } else { Err(Halt::Missing) }
    }
}
