//! What counts as stored while one resource is decided, and ways through it.

use std::collections::HashSet;

use super::{
    Bundle, Directory, Inquiry,
    tree::{Path, Root, Step},
};
use crate::model::{Entity, EntityUid, Value};

/// The stored entities, and the resource under decision among them.
#[derive(Clone, Copy)]
pub(super) struct World<'a> {
    pub(super) bundle: &'a Bundle,
    pub(super) inquiry: &'a Inquiry,
    pub(super) directory: &'a Directory,
    pub(super) resource: &'a Entity,
}

/// What a path leads to.
#[derive(Clone, Copy)]
pub(super) enum Reached<'a> {
    Entity(&'a EntityUid),
    Value(&'a Value),
}

impl<'a> Reached<'a> {
    pub(super) fn entity(self) -> Option<&'a EntityUid> {
        match self {
            Reached::Entity(uid) | Reached::Value(Value::Entity(uid)) => Some(uid),
            Reached::Value(_) => None,
        }
    }
}

/// How an entity stands.
pub(super) enum Stored<'a> {
    Yes(&'a Entity),
    /// Declared by the schema itself: an action, or an id that an enumerated type lists. It has neither attributes nor parents
    /// of its own but an action's groups, which are declared with it.
    BySchema,
    No,
}

impl<'a> World<'a> {
    pub(super) fn stored(&self, uid: &EntityUid) -> Stored<'a> {
        if *uid == self.resource.uid {
            return Stored::Yes(self.resource);
        }
        match self.directory.get(uid) {
            Some(entity) => Stored::Yes(entity),
            None if declared_by_schema(self.bundle, uid) => Stored::BySchema,
            None => Stored::No,
        }
    }

    /// Every ancestor that stored entities lead to is given to `each`; whether all are stored.
    pub(super) fn ancestors(&self, entity: &'a Entity, each: &mut dyn FnMut(&'a EntityUid)) -> bool {
        let mut whole = true;
        let mut open: Vec<&'a EntityUid> = entity.parents.iter().collect();
        let mut seen: HashSet<&'a EntityUid> = HashSet::new();
        while let Some(uid) = open.pop() {
            if !seen.insert(uid) {
                continue;
            }
            match self.stored(uid) {
                Stored::Yes(parent) => open.extend(&parent.parents),
                Stored::BySchema => {}
                Stored::No => whole = false,
            }
            each(uid);
        }
        whole
    }

    /// All ancestors that stored entities lead to, and whether all of them are stored.
    pub(super) fn lineage(&self, entity: &'a Entity) -> (HashSet<EntityUid>, bool) {
        let mut found = HashSet::new();
        let whole = self.ancestors(entity, &mut |uid| {
            found.insert(uid.clone());
        });
        (found, whole)
    }

    /// Everything that `path` may lead to: more than one thing only where a tag's key is computed.
    pub(super) fn reach(&self, path: &'a Path) -> Vec<Reached<'a>> {
        let start = match &path.root {
            Root::Principal => Reached::Entity(self.inquiry.principal()),
            Root::Action => Reached::Entity(self.inquiry.action_uid()),
            Root::Resource => Reached::Entity(&self.resource.uid),
            Root::Context => Reached::Value(self.inquiry.context()),
            Root::Literal(uid) => Reached::Entity(uid),
        };
        let mut at = vec![start];
        for step in &path.steps {
            at = at.into_iter().flat_map(|from| self.step(from, step)).collect();
        }
        at
    }

    fn step(&self, from: Reached<'a>, step: &'a Step) -> Vec<Reached<'a>> {
        let entity = match (from, from.entity()) {
            (_, Some(uid)) => match self.stored(uid) {
                Stored::Yes(entity) => entity,
                Stored::BySchema | Stored::No => return vec![],
            },
            (Reached::Value(Value::Record(fields)), None) => {
                return match step {
                    Step::Attr(name) => fields.get(name).map(Reached::Value).into_iter().collect(),
                    Step::Tag(_) => vec![],
                };
            }
            (_, None) => return vec![],
        };
        match step {
            Step::Attr(name) => entity.attrs.get(name).map(Reached::Value).into_iter().collect(),
            Step::Tag(Some(key)) => entity.tags.get(key).map(Reached::Value).into_iter().collect(),
            Step::Tag(None) => entity.tags.values().map(Reached::Value).collect(),
        }
    }
}

/// Actions, and the ids that enumerated types list, exist by being declared.
pub(super) fn declared_by_schema(bundle: &Bundle, uid: &EntityUid) -> bool {
    if bundle.is_plain() || uid.ty.as_ref() == "Action" || uid.ty.ends_with("::Action") {
        return true;
    }
    let choices = bundle.facts.types.get(&uid.ty).and_then(|ty| ty.choices.as_ref());
    choices.is_some_and(|ids| ids.contains(&uid.id))
}
