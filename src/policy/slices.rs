//! Which policies a decision must look at: by action and principal, kept ready in Cedar's form.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use cedar_policy::{Entity as CedarEntity, PolicySet, Schema};
use parking_lot::Mutex;

use super::{
    compile::{Constraint, Policy},
    convert,
    tree::{ContextReads, Path, Root, Site},
};
use crate::model::{Action, Entity, EntityUid};

/// Slices kept; beyond it all are forgotten: callers come in few kinds.
const KEPT: usize = 512;

/// Policies whose principal and action scope match one kind of caller.
#[derive(Debug)]
pub(super) struct Slice {
    /// Positions in the bundle's list.
    pub(super) policies: Vec<usize>,
    pub(super) set: PolicySet,
    pub(super) sites: Vec<Site>,
    /// Attribute names that some policy of it reads.
    pub(super) names: HashSet<Arc<str>>,
}

/// What a scope says of one entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    /// An ancestor is not stored, so that nobody can tell.
    Undecided,
}

impl Constraint {
    /// Whether `uid` with these ancestors matches; `whole` if all ancestors are stored.
    pub(super) fn matches(&self, uid: &EntityUid, ancestors: &HashSet<EntityUid>, whole: bool) -> Match {
        let within = |x: &EntityUid| match (uid == x || ancestors.contains(x), whole) {
            (true, _) => Match::Yes,
            (false, true) => Match::No,
            (false, false) => Match::Undecided,
        };
        let sure = |yes| if yes { Match::Yes } else { Match::No };
        match self {
            Self::Any => Match::Yes,
            Self::Eq(x) => sure(uid == x),
            Self::In(x) => within(x),
            Self::Is(ty) => sure(uid.ty == *ty),
            Self::IsIn(ty, x) => {
                if uid.ty == *ty {
                    within(x)
                } else {
                    Match::No
                }
            }
        }
    }

    pub(super) fn looks_at_ancestors(&self) -> bool {
        match self {
            Self::In(_) | Self::IsIn(..) => true,
            Self::Any | Self::Eq(_) | Self::Is(_) => false,
        }
    }
}

/// An action and the positions of the policies that matter.
type Key = (Action, Vec<usize>);

/// An index over a bundle's policies, and the slices in use.
#[derive(Debug)]
pub(super) struct Slices {
    /// By action: policies for any principal; those for one, under its name; those for a group, under the group's.
    open: HashMap<Action, Vec<usize>>,
    bound: HashMap<(Action, EntityUid), Vec<usize>>,
    grouped: HashMap<(Action, EntityUid), Vec<usize>>,
    /// What the policies for an action read of the context.
    reads: HashMap<Action, ContextReads>,
    /// The entity of every action that the schema declares, with all its groups as parents.
    actions: HashMap<EntityUid, CedarEntity>,
    kept: Mutex<HashMap<Key, Arc<Slice>>>,
}

/// Policies for one caller and action.
pub(super) struct Matched {
    pub(super) certain: Vec<usize>,
    /// Their principal scope cannot be decided.
    pub(super) undecided: Vec<usize>,
}

impl Slices {
    pub(super) fn new(schema: &Schema, policies: &[Policy]) -> Self {
        let mut open: HashMap<Action, Vec<usize>> = HashMap::new();
        let mut bound: HashMap<(Action, EntityUid), Vec<usize>> = HashMap::new();
        let mut grouped: HashMap<(Action, EntityUid), Vec<usize>> = HashMap::new();
        let mut reads: HashMap<Action, ContextReads> = HashMap::new();
        for (at, policy) in policies.iter().enumerate() {
            for action in &policy.actions {
                if let Some(condition) = &policy.condition {
                    reads.entry(*action).or_default().add(condition);
                }
                match &policy.principal {
                    Constraint::Eq(uid) => bound.entry((*action, uid.clone())).or_default().push(at),
                    Constraint::In(uid) | Constraint::IsIn(_, uid) => {
                        grouped.entry((*action, uid.clone())).or_default().push(at);
                    }
                    Constraint::Any | Constraint::Is(_) => open.entry(*action).or_default().push(at),
                }
            }
        }
        Self { open, bound, grouped, reads, actions: action_entities(schema), kept: Mutex::default() }
    }

    /// What policies for an action read of the context.
    pub(super) fn reads(&self, action: Action) -> ContextReads {
        self.reads.get(&action).cloned().unwrap_or_default()
    }

    /// The policies whose action and principal scope match, or may.
    pub(super) fn matched(
        &self,
        policies: &[Policy],
        action: Action,
        principal: &Entity,
        (ancestors, whole): (&HashSet<EntityUid>, bool),
    ) -> Matched {
        let mut matched = Matched { certain: Vec::new(), undecided: Vec::new() };
        let open = self.open.get(&action).into_iter().flatten();
        let bound = self.bound.get(&(action, principal.uid.clone())).into_iter().flatten();
        let grouped = self.grouped(action, principal, (ancestors, whole));
        for (at, policy) in open.chain(bound).chain(grouped).filter_map(|at| Some((*at, policies.get(*at)?))) {
            match policy.principal.matches(&principal.uid, ancestors, whole) {
                Match::Yes => matched.certain.push(at),
                Match::Undecided => matched.undecided.push(at),
                Match::No => {}
            }
        }
        matched.certain.sort_unstable();
        matched
    }

    /// Policies for groups that the principal is in; for all groups, where an ancestor is not stored and so nobody can tell.
    fn grouped(
        &self,
        action: Action,
        principal: &Entity,
        (ancestors, whole): (&HashSet<EntityUid>, bool),
    ) -> Vec<&usize> {
        let of = |group: &EntityUid| self.grouped.get(&(action, group.clone())).into_iter().flatten();
        if whole {
            return ancestors.iter().chain([&principal.uid]).flat_map(of).collect();
        }
        self.grouped.iter().filter(|((of, _), _)| *of == action).flat_map(|(_, policies)| policies).collect()
    }

    /// The slice of these policies, made or kept. `None` if Cedar refuses the set, which unique ids rule out.
    pub(super) fn slice(&self, policies: &[Policy], action: Action, certain: Vec<usize>) -> Option<Arc<Slice>> {
        let key = (action, certain);
        if let Some(slice) = self.kept.lock().get(&key) {
            return Some(Arc::clone(slice));
        }
        let slice = Arc::new(Slice::new(policies, &key.1)?);
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(key, Arc::clone(&slice));
        Some(slice)
    }

    /// An action's entity for Cedar.
    pub(super) fn action(&self, uid: &EntityUid) -> Option<&CedarEntity> {
        self.actions.get(uid)
    }
}

impl Slice {
    fn new(policies: &[Policy], chosen: &[usize]) -> Option<Self> {
        let mut set = PolicySet::new();
        let mut sites = BTreeSet::new();
        let mut names = HashSet::new();
        for policy in chosen.iter().filter_map(|at| policies.get(*at)) {
            set.add(policy.cedar.clone()).ok()?;
            sites.extend(policy.sites.iter().cloned());
            names.extend(policy.names.iter().cloned());
            let root = |root| Site { path: Path { root, steps: vec![] }, ancestors: true };
            if policy.principal.looks_at_ancestors() {
                sites.insert(root(Root::Principal));
            }
            if policy.resource.looks_at_ancestors() {
                sites.insert(root(Root::Resource));
            }
        }
        Some(Self { policies: chosen.to_vec(), set, sites: sites.into_iter().collect(), names })
    }
}

fn action_entities(schema: &Schema) -> HashMap<EntityUid, CedarEntity> {
    let Ok(entities) = schema.action_entities() else { return HashMap::new() };
    let entity = |action: &CedarEntity| {
        let groups = entities.ancestors(&action.uid())?.cloned().collect();
        Some((convert::from_uid(&action.uid()), CedarEntity::new_no_attrs(action.uid(), groups)))
    };
    entities.iter().filter_map(entity).collect()
}
