//! A question as the bundle takes it: who, what, and the context that the schema declares for it.

use std::{collections::BTreeMap, sync::Arc};

use cedar_policy::{Context, EntityUid as CedarUid, Request};

use super::{Bundle, InquiryError, convert, schema::AttributeType};
use crate::model::{Action, EntityUid, Value, entity::Attributes};

/// One question about any number of resources. Made by `Bundle::inquiry` alone and good for that bundle alone.
#[derive(Debug, Clone)]
pub struct Inquiry {
    principal: EntityUid,
    action: Action,
    action_uid: EntityUid,
    context: Value,
    cedar_principal: CedarUid,
    cedar_action: CedarUid,
    cedar_context: Context,
}

impl Inquiry {
    /// Who asks.
    pub fn principal(&self) -> &EntityUid {
        &self.principal
    }

    /// What is asked.
    pub fn action(&self) -> Action {
        self.action
    }

    /// What is known of the circumstances, as far as the schema declares it.
    pub fn context(&self) -> &Value {
        &self.context
    }

    /// The action's name in Cedar.
    pub(super) fn action_uid(&self) -> &EntityUid {
        &self.action_uid
    }

    /// Cedar's form of the question about one resource.
    pub(super) fn request(&self, resource: CedarUid) -> Option<Request> {
        let (principal, action) = (self.cedar_principal.clone(), self.cedar_action.clone());
        Request::new(principal, action, resource, self.cedar_context.clone(), None).ok()
    }

    /// A question under a schema that is none of ours; the action stands for any of ours.
    #[cfg(test)]
    pub(super) fn foreign(principal: EntityUid, action_uid: EntityUid, context: Value) -> Option<Self> {
        let Value::Record(fields) = &context else { return None };
        Some(Self {
            cedar_context: Context::from_pairs(convert::pairs(fields)?).ok()?,
            cedar_principal: convert::uid(&principal)?,
            cedar_action: convert::uid(&action_uid)?,
            action: Action::Retrieve,
            principal,
            action_uid,
            context,
        })
    }

    pub(super) fn new(
        bundle: &Bundle,
        principal: EntityUid,
        action: Action,
        offered: &BTreeMap<&'static str, Value>,
    ) -> Result<Self, InquiryError> {
        let refused = || InquiryError::Principal(principal.ty.as_ref().to_owned());
        let declared = bundle.facts.actions.get(action.name()).ok_or_else(refused)?;
        if !declared.principals.contains(&principal.ty) {
            return Err(refused());
        }
        let mut context = Attributes::new();
        for (name, attribute) in &declared.context {
            match offered.get(name.as_ref()) {
                Some(value) => drop(context.insert(Arc::clone(name), fitted(name, value, &attribute.ty)?)),
                None if attribute.required => return Err(InquiryError::Missing(name.as_ref().to_owned())),
                None => {}
            }
        }
        let action_uid = EntityUid::new("Action", action.name());
        let pairs = convert::pairs(&context).and_then(|pairs| Context::from_pairs(pairs).ok());
        Ok(Self {
            cedar_context: pairs.ok_or_else(|| InquiryError::Type("context".into()))?,
            cedar_principal: convert::uid(&principal).ok_or_else(refused)?,
            cedar_action: convert::uid(&action_uid).ok_or_else(refused)?,
            context: Value::Record(context),
            principal,
            action,
            action_uid,
        })
    }
}

/// A reference is given as text where the schema wants text: `patient` may be declared either way.
fn fitted(name: &str, value: &Value, ty: &AttributeType) -> Result<Value, InquiryError> {
    match (value, ty) {
        (Value::Entity(uid), AttributeType::Text) => Ok(Value::Text(Arc::clone(&uid.id))),
        (value, ty) if ty.admits(value) => Ok(value.clone()),
        _ => Err(InquiryError::Type(name.to_owned())),
    }
}
