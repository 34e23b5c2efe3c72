//! What the server tells Cedar about a request: nothing that a client sends can set it otherwise.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use super::world::World;
use crate::{
    authn::Origin,
    clock::Instant,
    model::{Action, CollectionName, EntityUid, Value},
    policy::{AttributeType, Bundle, Inquiry, InquiryError},
};

/// The address of whoever asks from no network.
pub(super) const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What a request says of itself, checked for form and not yet for right.
#[derive(Debug, Clone, Default)]
pub struct Circumstances {
    /// The collection in the path.
    pub collection: Option<CollectionName>,
    /// Purpose of use.
    pub purpose: Option<String>,
    /// The patient it is about.
    pub patient: Option<String>,
}

impl Circumstances {
    /// About a collection.
    pub fn of(collection: CollectionName) -> Self {
        Self { collection: Some(collection), ..Self::default() }
    }

    /// For a purpose.
    pub fn purpose(mut self, purpose: Option<String>) -> Self {
        self.purpose = purpose;
        self
    }

    /// About one patient.
    pub fn patient(mut self, patient: Option<String>) -> Self {
        self.patient = patient;
        self
    }

    /// The context attributes that the server can supply; the bundle keeps those that its schema declares.
    pub(super) fn offered(
        &self,
        now: Instant,
        origin: &Origin,
        world: &World,
        action: Action,
    ) -> BTreeMap<&'static str, Value> {
        self.offered_to(&world.policy.bundle, now, origin.address, action)
    }

    /// The same to a bundle that may not be in force.
    pub(super) fn offered_to(
        &self,
        bundle: &Bundle,
        now: Instant,
        address: Option<IpAddr>,
        action: Action,
    ) -> BTreeMap<&'static str, Value> {
        let mut offered = BTreeMap::from([
            ("now", extension("datetime", &now.rfc3339())),
            ("source_ip", extension("ip", &address.unwrap_or(NOWHERE).to_string())),
            ("break_glass", Value::Bool(false)),
        ]);
        if let Some(purpose) = &self.purpose {
            offered.insert("purpose", Value::text(purpose.as_str()));
        }
        if let Some(name) = &self.collection {
            offered.insert("collection", Value::text(name.as_str()));
        }
        if let Some(patient) = &self.patient {
            let entity = match bundle.context_declares(action, "patient") {
                Some(AttributeType::Entity(ty)) => Value::Entity(EntityUid::new(ty, patient.as_str())),
                Some(_) | None => Value::text(patient.as_str()),
            };
            offered.insert("patient", entity);
        }
        offered
    }
}

fn extension(function: &str, argument: &str) -> Value {
    Value::Extension { function: function.into(), arguments: vec![Value::text(argument)] }
}

/// A schema may require these of every action; where a request has none of its own they are this.
fn unstated(name: &str) -> Option<(&'static str, Value)> {
    match name {
        "purpose" => Some(("purpose", Value::text(""))),
        "collection" => Some(("collection", Value::text(""))),
        "entity_type" => Some(("entity_type", Value::text(""))),
        "entity_id" => Some(("entity_id", Value::text(""))),
        "operation" => Some(("operation", Value::text("read"))),
        "caller_type" => Some(("caller_type", Value::text(""))),
        "caller_id" => Some(("caller_id", Value::text(""))),
        _ => None,
    }
}

impl World {
    /// A question to the bundle in force.
    pub(super) fn inquiry(
        &self,
        principal: &EntityUid,
        action: Action,
        offered: BTreeMap<&'static str, Value>,
    ) -> Result<Inquiry, InquiryError> {
        Self::asking(&self.policy.bundle, principal, action, offered)
    }

    /// A question to a bundle that may not be in force yet.
    pub(super) fn asking(
        bundle: &Bundle,
        principal: &EntityUid,
        action: Action,
        mut offered: BTreeMap<&'static str, Value>,
    ) -> Result<Inquiry, InquiryError> {
        loop {
            match bundle.inquiry(principal.clone(), action, &offered) {
                Err(InquiryError::Missing(name)) => match unstated(&name) {
                    Some((name, value)) if !offered.contains_key(name) => drop(offered.insert(name, value)),
                    Some(_) | None => return Err(InquiryError::Missing(name)),
                },
                made => return made,
            }
        }
    }

    /// Whether the schema declares a context attribute as an entity.
    pub(super) fn context_is_entity(&self, action: Action, name: &str) -> bool {
        matches!(self.policy.bundle.context_declares(action, name), Some(AttributeType::Entity(_)))
    }

    /// The entity that the request is narrowed to, if it names a patient and the schema has a type for one.
    pub(super) fn named_patient(&self, circumstances: &Circumstances) -> Option<EntityUid> {
        let holding = circumstances.collection.as_ref().and_then(|name| self.holding(name))?;
        self.patient_uid(&holding.spec.subject_attribute, circumstances.patient.as_deref()?)
    }

    /// The entity that a patient's id names in a collection: of the type that the schema gives the subject attribute.
    pub(super) fn patient_uid(&self, subject_attribute: &str, id: &str) -> Option<EntityUid> {
        match self.policy.bundle.attribute_type("Record", subject_attribute) {
            Some(AttributeType::Entity(ty)) => Some(EntityUid::new(ty, id)),
            Some(_) | None => None,
        }
    }
}
