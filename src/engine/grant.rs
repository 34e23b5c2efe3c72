//! May they ask at all? A `Grant` is the proof that Cedar allowed one action on one resource; every use case takes the grant of its own action.

use std::{collections::BTreeMap, marker::PhantomData};

use super::{Refusal, Wardkeep, context::Circumstances, trail::Trail, world::World};
use crate::{
    audit::What,
    authn::{Caller, Operator, Origin, root},
    model::{Action, CollectionName, Entity, EntityUid, Value},
    policy::{DenyReason, PolicyName, Verdict},
};

/// An action as a type, so that a grant for one is not a grant for another.
pub trait Asked {
    /// The action that Cedar is asked about.
    const ACTION: Action;
}

macro_rules! asked {
    ($($name:ident),*) => {$(
        #[doc = concat!("The action `", stringify!($name), "`.")]
        #[derive(Debug, Clone, Copy)]
        pub struct $name;
        impl Asked for $name {
            const ACTION: Action = Action::$name;
        }
    )*};
}

/// What the operator may do at the machine itself, whatever the policies in force say.
pub trait Offline: Asked {}
impl Offline for ManagePolicies {}
impl Offline for ManageCallers {}
impl Offline for ManageKeys {}
impl Offline for Explain {}
impl Offline for ReadAudit {}

asked!(
    Search,
    Read,
    Ingest,
    Erase,
    ManagePolicies,
    ManageEntities,
    ManageCollections,
    ManageCallers,
    ManageKeys,
    ReadAudit,
    Explain
);

/// Proof that the caller may do `A` under the circumstances it was asked for.
#[derive(Debug, Clone)]
pub struct Grant<A> {
    pub(super) caller: Caller,
    pub(super) origin: Origin,
    pub(super) circumstances: Circumstances,
    /// The entity that `circumstances.patient` names.
    pub(super) patient: Option<EntityUid>,
    pub(super) policies: Vec<PolicyName>,
    action: PhantomData<A>,
}

impl Wardkeep {
    /// The way back after a lockout: whoever holds the passphrase may set policies, whatever those in force say. `None` of them
    /// decided, and the entry says so.
    pub fn operator_grant<A: Offline>(&self, operator: &Operator) -> Grant<A> {
        Grant {
            caller: operator.caller().clone(),
            origin: operator.origin(),
            circumstances: Circumstances::default(),
            patient: None,
            policies: Vec::new(),
            action: PhantomData,
        }
    }
}

impl Grant<Read> {
    /// A read is decided on the record itself; nothing is asked beforehand.
    pub(super) fn on_the_record(caller: &Caller, origin: &Origin, circumstances: Circumstances) -> Self {
        Self {
            caller: caller.clone(),
            origin: *origin,
            circumstances,
            patient: None,
            policies: Vec::new(),
            action: PhantomData,
        }
    }
}

impl<A: Asked> Grant<A> {
    /// Who was granted it.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Where it is asked from.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The collection that it is for.
    pub fn collection(&self) -> Result<&CollectionName, Refusal> {
        self.circumstances.collection.as_ref().ok_or(Refusal::Absent)
    }

    /// The start of the entry for what is done under this grant.
    pub(super) fn trail(&self, engine: &Wardkeep, what: What) -> Trail {
        Trail::new(engine, what, Some(&self.caller), &self.origin)
            .action(A::ACTION)
            .circumstances(&self.circumstances)
            .patient(self.patient.as_ref())
            .deciding(&self.policies)
    }
}

impl Wardkeep {
    /// Asks Cedar whether `caller` may do `A`. A refusal is in the audit log before it is told.
    pub fn authorise<A: Asked>(
        &self,
        caller: &Caller,
        origin: &Origin,
        circumstances: Circumstances,
    ) -> Result<Grant<A>, Refusal> {
        self.authorise_each(caller, origin, circumstances, std::iter::empty())
    }

    /// The same, asked once under `circumstances` with each of `details` put in; one refusal refuses all.
    /// Details that the schema does not declare for the action change nothing and are not asked.
    pub fn authorise_each<A: Asked>(
        &self,
        caller: &Caller,
        origin: &Origin,
        circumstances: Circumstances,
        details: impl Iterator<Item = Detail>,
    ) -> Result<Grant<A>, Refusal> {
        let world = self.world.read();
        let verdict = self.allowed::<A>(&world, caller, origin, &circumstances, details);
        let patient = world.named_patient(&circumstances);
        drop(world);
        match verdict {
            Ok(policies) => Ok(Grant {
                caller: caller.clone(),
                origin: *origin,
                circumstances,
                patient,
                policies,
                action: PhantomData,
            }),
            Err(reason) => Err(self.refuse::<A>(caller, origin, &circumstances, reason)),
        }
    }

    /// Asked before a body is read whose items Cedar is asked about one by one: whoever no permit could ever let do `A` is refused at
    /// once. It is no grant: the use case asks about each item.
    pub fn may_begin<A: Asked>(&self, caller: &Caller, origin: &Origin) -> Result<(), Refusal> {
        let circumstances = Circumstances::default();
        let world = self.world.read();
        let verdict = if asked_per_item(&world, A::ACTION) {
            conceivable(&world, caller, A::ACTION, circumstances.offered(self.clock.now(), origin, &world, A::ACTION))
        } else {
            self.allowed::<A>(&world, caller, origin, &circumstances, std::iter::empty())
        };
        drop(world);
        verdict.map(drop).map_err(|reason| self.refuse::<A>(caller, origin, &circumstances, reason))
    }

    /// Not permitted, which is in the audit log before it is told.
    fn refuse<A: Asked>(
        &self,
        caller: &Caller,
        origin: &Origin,
        circumstances: &Circumstances,
        reason: &'static str,
    ) -> Refusal {
        let patient = self.world.read().named_patient(circumstances);
        let trail = Trail::new(self, What::Refused, Some(caller), origin)
            .action(A::ACTION)
            .circumstances(circumstances)
            .patient(patient.as_ref());
        match self.journal.note(trail.denied(reason)) {
            Ok(_) => Refusal::Forbidden,
            Err(unavailable) => unavailable,
        }
    }

    /// What was permitted and came to nothing is in the audit log too before it is told: it may say a count, or that something is
    /// not there. What `refuse` wrote is not written twice, and where the log cannot be written there is nothing to write to.
    pub(super) fn told<T>(&self, trail: Trail, done: Result<T, Refusal>) -> Result<T, Refusal> {
        if let Err(refusal) = &done
            && let Some((outcome, code)) = refusal.in_the_log()
        {
            self.journal.note(trail.outcome(outcome).detail(code))?;
        }
        done
    }

    /// Whether a grant would still be given now: asked at each commit of a long stream.
    pub(super) fn renew<A: Asked>(
        &self,
        grant: &Grant<A>,
        details: impl Iterator<Item = Detail>,
    ) -> Result<(), Refusal> {
        let accepted = self.keys.read().still_accepts(&grant.caller, self.clock.now());
        if !accepted {
            let trail = Trail::new(self, What::Refused, Some(&grant.caller), &grant.origin);
            let trail = trail.action(A::ACTION).circumstances(&grant.circumstances);
            self.journal.note(trail.denied("credential_no_longer_accepted"))?;
            return Err(Refusal::Unauthenticated);
        }
        self.authorise_each::<A>(&grant.caller, &grant.origin, grant.circumstances.clone(), details).map(drop)
    }

    /// Whether `caller` may do `A` to one item. Not written down: for what is not told, or told otherwise.
    pub(super) fn covers<A: Asked>(&self, world: &World, caller: &Caller, origin: &Origin, detail: Detail) -> bool {
        self.allowed::<A>(world, caller, origin, &Circumstances::default(), std::iter::once(detail)).is_ok()
    }

    /// The same in a collection.
    pub(super) fn covers_in<A: Asked>(
        &self,
        world: &World,
        caller: &Caller,
        origin: &Origin,
        name: &CollectionName,
    ) -> bool {
        let circumstances = Circumstances::of(name.clone());
        self.allowed::<A>(world, caller, origin, &circumstances, std::iter::empty()).is_ok()
    }

    /// Whether `caller` may do `A` whatever the item, as for a list of all. Not written down either.
    pub(super) fn covers_all<A: Asked>(&self, world: &World, caller: &Caller, origin: &Origin) -> bool {
        self.allowed::<A>(world, caller, origin, &Circumstances::default(), std::iter::empty()).is_ok()
    }

    fn allowed<A: Asked>(
        &self,
        world: &World,
        caller: &Caller,
        origin: &Origin,
        circumstances: &Circumstances,
        details: impl Iterator<Item = Detail>,
    ) -> Result<Vec<PolicyName>, &'static str> {
        if circumstances.purpose.as_ref().is_some_and(|p| !caller.may_claim(p)) {
            return Err("purpose_not_on_key");
        }
        let resource = world.resource(A::ACTION, circumstances).ok_or("missing_entity")?;
        let offered = circumstances.offered(self.clock.now(), origin, world, A::ACTION);
        let declared = asked_per_item(world, A::ACTION);
        let mut details = details.peekable();
        if !declared || details.peek().is_none() {
            // What is asked per record needs the records; the engine asks before it says anything about them.
            if declared && A::ACTION == Action::Ingest {
                return conceivable(world, caller, A::ACTION, offered);
            }
            if details.any(|detail| detail.concerns_an_administrator()) && *caller.uid() != root() {
                return Err("only_root_makes_administrators");
            }
            return ask(world, caller, A::ACTION, &resource, offered);
        }
        let mut policies = Vec::new();
        for detail in details {
            if detail.concerns_an_administrator() && *caller.uid() != root() {
                return Err("only_root_makes_administrators");
            }
            let mut offered = offered.clone();
            offered.extend(detail.offered(world, A::ACTION));
            policies = ask(world, caller, A::ACTION, &resource, offered)?;
        }
        Ok(policies)
    }
}

/// Context attributes that differ from item to item of one request.
const DETAILS: [&str; 7] =
    ["document", "replaces", "entity_type", "entity_id", "operation", "caller_type", "caller_id"];

fn asked_per_item(world: &World, action: Action) -> bool {
    DETAILS.iter().any(|name| world.policy.bundle.context_declares(action, name).is_some())
}

/// Whether any permit names this caller and this action at all. What the policies say of the items is asked when those are known.
fn conceivable(
    world: &World,
    caller: &Caller,
    action: Action,
    mut offered: BTreeMap<&'static str, Value>,
) -> Result<Vec<PolicyName>, &'static str> {
    if action == Action::Ingest {
        let nameless =
            Detail::Record { document: EntityUid::new("Document", ""), document_id: String::new(), replaces: false };
        offered.extend(nameless.offered(world, action));
    }
    let inquiry = world.inquiry(caller.uid(), action, offered).map_err(|_| UNFIT_REQUEST)?;
    if !world.directory.contains(caller.uid()) {
        return Err(deny_code(&DenyReason::UnknownPrincipal));
    }
    match world.policy.bundle.caps(&inquiry, &world.directory).permits.as_slice() {
        [] => Err(deny_code(&DenyReason::NoPermit)),
        [..] => Ok(Vec::new()),
    }
}

/// The schema does not let this caller ask this, or needs a context that the request does not give.
const UNFIT_REQUEST: &str = "the request does not fit the schema";

/// What an action is asked about once per item of its body.
#[derive(Debug, Clone)]
pub enum Detail {
    /// A record to be written.
    Record {
        /// `Document::"…"` of the record.
        document: EntityUid,
        /// The document's own id.
        document_id: String,
        /// Whether a record of this id is there.
        replaces: bool,
    },
    /// An entity to be written, removed or read.
    Entity {
        /// Which.
        uid: EntityUid,
        /// What happens to it.
        operation: Operation,
    },
    /// A key to be made, listed or revoked.
    Key {
        /// Whom it speaks for.
        caller: EntityUid,
    },
}

/// What happens to an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It is new.
    Create,
    /// It is replaced whole.
    Replace,
    /// It goes.
    Delete,
    /// It is looked at.
    Read,
    /// A legal hold is put on it.
    Hold,
    /// Its legal hold is lifted.
    Lift,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Read => "read",
            Self::Hold => "hold",
            Self::Lift => "lift",
        }
    }
}

impl Detail {
    fn concerns_an_administrator(&self) -> bool {
        match self {
            Self::Key { caller } => caller.ty.as_ref() == "Administrator",
            Self::Record { .. } | Self::Entity { .. } => false,
        }
    }

    /// The context attributes of this item.
    fn offered(&self, world: &World, action: Action) -> Vec<(&'static str, Value)> {
        match self {
            Self::Record { document, document_id, replaces } => {
                let as_entity = world.context_is_entity(action, "document");
                let document =
                    if as_entity { Value::Entity(document.clone()) } else { Value::text(document_id.as_str()) };
                vec![("document", document), ("replaces", Value::Bool(*replaces))]
            }
            Self::Entity { uid, operation } => vec![
                ("entity_type", Value::Text(uid.ty.clone())),
                ("entity_id", Value::Text(uid.id.clone())),
                ("operation", Value::text(operation.name())),
            ],
            Self::Key { caller } => {
                vec![("caller_type", Value::Text(caller.ty.clone())), ("caller_id", Value::Text(caller.id.clone()))]
            }
        }
    }
}

fn ask(
    world: &World,
    caller: &Caller,
    action: Action,
    resource: &Entity,
    offered: BTreeMap<&'static str, Value>,
) -> Result<Vec<PolicyName>, &'static str> {
    let inquiry = world.inquiry(caller.uid(), action, offered).map_err(|_| UNFIT_REQUEST)?;
    match world.policy.bundle.decide(&inquiry, resource, &world.directory) {
        Verdict::Allow { permits } => Ok(permits),
        Verdict::Deny(reason) => Err(deny_code(&reason)),
    }
}

impl World {
    /// The resource of an action. A collection that does not exist is asked about by its bare name, so that whoever may not ask learns
    /// nothing. `None` where its entity was withdrawn.
    fn resource(&self, action: Action, circumstances: &Circumstances) -> Option<Entity> {
        let uid = match (action.resource_type(), &circumstances.collection) {
            ("Collection", Some(name)) => EntityUid::collection(name),
            _ => EntityUid::system(),
        };
        match self.directory.get(&uid) {
            Some(stored) => Some(stored.as_ref().clone()),
            None => (!self.is_withdrawn(&uid)).then(|| Entity::bare(uid)),
        }
    }
}

/// The stable name of a reason, for the audit log.
pub(super) fn deny_code(reason: &DenyReason) -> &'static str {
    match reason {
        DenyReason::UnknownPrincipal => "unknown_principal",
        DenyReason::Unfit => "unfit",
        DenyReason::MissingEntity(_) => "missing_entity",
        DenyReason::Erred(_) => "erred",
        DenyReason::Forbidden(_) => "forbidden",
        DenyReason::NoPermit => "no_permit",
    }
}
