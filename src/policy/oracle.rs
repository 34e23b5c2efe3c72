//! The decision of contract section 2 by brute force, kept for ever as the judge of `decide` and `plan`: Cedar's authorizer over
//! all policies and all entities, and a naive walk over each policy's public syntax tree in which every value is Cedar's.

use std::{collections::HashSet, sync::Arc};

use cedar_policy::{Authorizer, Decision, Entities, EvalResult, PolicySet, Request, eval_expression, pst};

use super::{Bundle, Directory, Inquiry, convert};
use crate::model::{Entity, EntityUid};

/// Whether the record may be released.
pub(super) fn allows(bundle: &Bundle, inquiry: &Inquiry, resource: &Entity, directory: &Directory) -> bool {
    if !directory.contains(inquiry.principal()) {
        return false;
    }
    let mut all: Vec<_> =
        directory.iter().filter(|e| e.uid != resource.uid).map(|e| convert::entity(e).unwrap()).collect();
    all.push(convert::entity(resource).unwrap());
    all.extend(bundle.schema.action_entities().unwrap().iter().cloned());
    let entities = Entities::from_entities(all, None).unwrap();
    let request = inquiry.request(convert::uid(&resource.uid).unwrap()).unwrap();
    let set = PolicySet::from_policies(bundle.policies.iter().map(|p| p.cedar.clone())).unwrap();
    let response = Authorizer::new().is_authorized(&request, &set, &entities);
    let judge = Judge { inquiry, resource, directory, request, entities };
    response.decision() == Decision::Allow
        && response.diagnostics().errors().count() == 0
        && !bundle.policies.iter().any(|p| judge.meets_missing(&p.cedar))
}

struct Judge<'a> {
    inquiry: &'a Inquiry,
    resource: &'a Entity,
    directory: &'a Directory,
    request: Request,
    entities: Entities,
}

enum Stop {
    Missing,
    Erred,
}

type Walk = Result<(), Stop>;

impl Judge<'_> {
    fn meets_missing(&self, policy: &cedar_policy::Policy) -> bool {
        let pst = policy.to_pst().unwrap();
        let body = pst.body();
        let action = match &body.action {
            pst::ActionConstraint::Any => true,
            pst::ActionConstraint::Eq(uid) => self.eval(&in_or_eq(pst::BinaryOp::Eq, pst::Var::Action, uid)),
            pst::ActionConstraint::In(uids) => {
                uids.iter().any(|uid| self.eval(&in_or_eq(pst::BinaryOp::In, pst::Var::Action, uid)))
            }
        };
        let principal = match &body.principal {
            pst::PrincipalConstraint::Any => Some(true),
            pst::PrincipalConstraint::Eq(e) => Some(convert::from_pst_uid(uid(e)) == *self.inquiry.principal()),
            pst::PrincipalConstraint::Is(ty) => Some(ty.to_string() == *self.inquiry.principal().ty),
            pst::PrincipalConstraint::In(e) => self.within(pst::Var::Principal, self.inquiry.principal(), uid(e)),
            pst::PrincipalConstraint::IsIn(ty, _) if ty.to_string() != *self.inquiry.principal().ty => Some(false),
            pst::PrincipalConstraint::IsIn(_, e) => self.within(pst::Var::Principal, self.inquiry.principal(), uid(e)),
        };
        let resource = match &body.resource {
            pst::ResourceConstraint::Any => Some(true),
            pst::ResourceConstraint::Eq(e) => Some(convert::from_pst_uid(uid(e)) == self.resource.uid),
            pst::ResourceConstraint::Is(ty) => Some(ty.to_string() == *self.resource.uid.ty),
            pst::ResourceConstraint::In(e) => self.within(pst::Var::Resource, &self.resource.uid, uid(e)),
            pst::ResourceConstraint::IsIn(ty, _) if ty.to_string() != *self.resource.uid.ty => Some(false),
            pst::ResourceConstraint::IsIn(_, e) => self.within(pst::Var::Resource, &self.resource.uid, uid(e)),
        };
        match (action, principal, resource) {
            (false, _, _) | (_, Some(false), _) | (_, _, Some(false)) => false,
            (true, Some(true), Some(true)) => self.clauses_meet_missing(body),
            (true, _, _) => true,
        }
    }

    fn clauses_meet_missing(&self, body: &pst::Template) -> bool {
        for clause in body.clauses() {
            let (expr, wanted) = match clause {
                pst::Clause::When(e) => (e, true),
                pst::Clause::Unless(e) => (e, false),
            };
            match self.walk(expr) {
                Err(Stop::Missing) => return true,
                Err(Stop::Erred) => return false,
                Ok(()) if self.eval(expr) == wanted => {}
                Ok(()) => return false,
            }
        }
        false
    }

    fn within(&self, var: pst::Var, uid: &EntityUid, ancestor: &pst::EntityUID) -> Option<bool> {
        match self.eval(&in_or_eq(pst::BinaryOp::In, var, ancestor)) {
            true => Some(true),
            false if self.whole(uid) => Some(false),
            false => None,
        }
    }

    fn stored(&self, uid: &EntityUid) -> Option<&Entity> {
        if *uid == self.resource.uid { Some(self.resource) } else { self.directory.get(uid).map(Arc::as_ref) }
    }

    /// Every ancestor of a stored entity is stored.
    fn whole(&self, uid: &EntityUid) -> bool {
        let mut open = vec![uid.clone()];
        let mut seen = HashSet::new();
        while let Some(uid) = open.pop() {
            if uid.ty.as_ref() == "Action" || !seen.insert(uid.clone()) {
                continue;
            }
            match self.stored(&uid) {
                Some(entity) => open.extend(entity.parents.iter().cloned()),
                None => return false,
            }
        }
        true
    }

    fn value(&self, expr: &pst::Expr) -> Result<EvalResult, Stop> {
        eval_expression(&self.request, &self.entities, &expr.to_string().parse().unwrap()).map_err(|_| Stop::Erred)
    }

    fn eval(&self, expr: &pst::Expr) -> bool {
        matches!(self.value(expr), Ok(EvalResult::Bool(true)))
    }

    fn entity_stored(&self, expr: &pst::Expr) -> Walk {
        match self.value(expr)? {
            EvalResult::EntityUid(uid) => {
                let uid = convert::from_uid(&uid);
                if uid.ty.as_ref() == "Action" || self.stored(&uid).is_some() { Ok(()) } else { Err(Stop::Missing) }
            }
            _ => Ok(()),
        }
    }

    fn hierarchy(&self, whole: &pst::Expr, left: &pst::Expr) -> Walk {
        self.entity_stored(left)?;
        match self.value(left)? {
            EvalResult::EntityUid(uid) if !self.whole(&convert::from_uid(&uid)) && !self.eval(whole) => {
                Err(Stop::Missing)
            }
            _ => Ok(()),
        }
    }

    fn walk(&self, expr: &pst::Expr) -> Walk {
        match expr {
            pst::Expr::BinaryOp { op: pst::BinaryOp::And, left, right } => {
                self.walk(left)?;
                if self.eval(left) { self.walk(right) } else { Ok(()) }
            }
            pst::Expr::BinaryOp { op: pst::BinaryOp::Or, left, right } => {
                self.walk(left)?;
                self.value(left)?;
                if self.eval(left) { Ok(()) } else { self.walk(right) }
            }
            pst::Expr::IfThenElse { cond, then_expr, else_expr } => {
                self.walk(cond)?;
                self.value(cond)?;
                self.walk(if self.eval(cond) { then_expr } else { else_expr })
            }
            pst::Expr::BinaryOp { op, left, right } => {
                self.walk(left)?;
                self.value(left)?;
                self.walk(right)?;
                match op {
                    pst::BinaryOp::In => self.hierarchy(expr, left),
                    pst::BinaryOp::GetTag | pst::BinaryOp::HasTag => self.entity_stored(left),
                    _ => Ok(()),
                }
            }
            pst::Expr::UnaryOp { expr, .. } | pst::Expr::Like { expr, .. } => self.walk(expr),
            pst::Expr::GetAttr { expr, .. } => {
                self.walk(expr)?;
                self.entity_stored(expr)
            }
            pst::Expr::HasAttr { expr, attrs } => {
                self.walk(expr)?;
                let mut at = Arc::clone(expr);
                for attr in attrs {
                    self.entity_stored(&at)?;
                    let next = Arc::new(pst::Expr::GetAttr { expr: at, attr: attr.clone() });
                    if self.value(&next).is_err() {
                        break;
                    }
                    at = next;
                }
                Ok(())
            }
            pst::Expr::Is { expr: e, entity_type, in_expr } => {
                self.walk(e)?;
                let is = pst::Expr::Is { expr: Arc::clone(e), entity_type: entity_type.clone(), in_expr: None };
                match in_expr {
                    Some(ancestor) if self.eval(&is) => {
                        self.walk(ancestor)?;
                        self.hierarchy(expr, e)
                    }
                    _ => Ok(()),
                }
            }
            pst::Expr::Set(items) => items.iter().try_for_each(|e| self.walk(e)),
            pst::Expr::Record(fields) => fields.values().try_for_each(|e| self.walk(e)),
            _ => Ok(()),
        }
    }
}

fn uid(value: &pst::EntityOrSlot) -> &pst::EntityUID {
    match value {
        pst::EntityOrSlot::Entity(uid) => uid,
        pst::EntityOrSlot::Slot(_) => panic!("policies of a bundle are linked"),
    }
}

fn in_or_eq(op: pst::BinaryOp, var: pst::Var, uid: &pst::EntityUID) -> pst::Expr {
    let right = Arc::new(pst::Expr::Literal(pst::Literal::EntityUID(uid.clone())));
    pst::Expr::BinaryOp { op, left: Arc::new(pst::Expr::Var(var)), right }
}
