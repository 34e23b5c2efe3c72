//! The decision of contract section 2 by brute force, kept for ever as the judge of `decide` and `plan`: Cedar's authorizer over
//! all policies and all entities, and a naive walk over each policy's public syntax tree in which every value is Cedar's. It
//! reads the policies' texts and the entities' JSON itself, and shares no step with what it judges but the request.

use std::collections::{BTreeSet, HashMap, HashSet};

use cedar_policy::{
    Authorizer, Decision, Effect, Entities, Entity as CedarEntity, EvalResult, Expression, PolicyId, PolicySet,
    Request, SlotId, eval_expression, pst,
};

use super::{Bundle, Directory, Inquiry, convert};
use crate::model::{BundleSource, Entity, EntityUid};

/// What Cedar says of one record, and why we may say no all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) plain: bool,
    /// Where plain Cedar says yes: everything that makes it a no.
    pub(super) differs: BTreeSet<&'static str>,
}

impl Judgement {
    pub(super) fn allows(&self) -> bool {
        self.plain && self.differs.is_empty()
    }
}

/// The policies of one bundle.
pub(super) struct Oracle {
    pub(super) set: PolicySet,
    rules: Vec<Rule>,
    actions: Vec<CedarEntity>,
    /// The ids that enumerated types list.
    choices: HashSet<EntityUid>,
}

/// The entities while one record is decided: it counts as stored, other records do not.
pub(super) struct World<'a> {
    resource: &'a Entity,
    directory: &'a Directory,
    entities: Entities,
}

impl Oracle {
    /// Reads the bundle's texts anew.
    pub(super) fn new(bundle: &Bundle) -> Self {
        Self::of(parsed(bundle.source()), bundle)
    }

    /// Of these policies, under a bundle's schema.
    pub(super) fn of(set: PolicySet, bundle: &Bundle) -> Self {
        let mut choices = HashSet::new();
        for (ty, facts) in &bundle.facts.types {
            choices.extend(facts.choices.iter().flatten().map(|id| EntityUid::new(ty.as_ref(), id.as_ref())));
        }
        let rules = set.policies().map(Rule::of).collect();
        let actions = bundle.schema.action_entities().unwrap().iter().cloned().collect();
        Self { set, rules, actions, choices }
    }

    /// All entities in Cedar's form, by name.
    pub(super) fn stored(&self, directory: &Directory) -> HashMap<EntityUid, CedarEntity> {
        directory.iter().map(|entity| (entity.uid.clone(), cedar(entity))).collect()
    }

    /// Everything there is, for one record. `stored` is of the same directory.
    pub(super) fn world<'a>(
        &self,
        resource: &'a Entity,
        stored: &HashMap<EntityUid, CedarEntity>,
        directory: &'a Directory,
    ) -> World<'a> {
        let others = stored.iter().filter(|(uid, _)| **uid != resource.uid).map(|(_, entity)| entity.clone());
        let all = others.chain([cedar(resource)]).chain(self.actions.iter().cloned());
        World { resource, directory, entities: Entities::from_entities(all, None).unwrap() }
    }

    /// Cedar's own decision, and whether it is ours.
    pub(super) fn judge(&self, inquiry: &Inquiry, world: &World<'_>) -> Judgement {
        let request = inquiry.request(convert::uid(&world.resource.uid).unwrap()).unwrap();
        let response = Authorizer::new().is_authorized(&request, &self.set, &world.entities);
        let mut differs = BTreeSet::new();
        if response.decision() == Decision::Deny {
            return Judgement { plain: false, differs };
        }
        let judge = Judge { choices: &self.choices, inquiry, world, request };
        if !world.directory.contains(inquiry.principal()) {
            differs.insert("the caller is not stored");
        }
        for cedar_policy::AuthorizationError::PolicyEvaluationError(error) in response.diagnostics().errors() {
            differs.insert(match self.set.policy(error.policy_id()).unwrap().effect() {
                Effect::Permit => "a permit errs beside one that holds",
                Effect::Forbid => "a forbid errs",
            });
        }
        differs.extend(self.rules.iter().filter_map(|rule| judge.meets_missing(rule)));
        Judgement { plain: true, differs }
    }
}

/// Policies, templates and links as a bundle holds them.
fn parsed(source: &BundleSource) -> PolicySet {
    let mut set = PolicySet::new();
    for text in [&source.policies, &source.templates] {
        let part: PolicySet = text.parse().unwrap();
        for policy in part.policies() {
            set.add(policy.new_id(PolicyId::new(policy.annotation("id").unwrap()))).unwrap();
        }
        for template in part.templates() {
            set.add_template(template.new_id(PolicyId::new(template.annotation("id").unwrap()))).unwrap();
        }
    }
    for link in &source.links {
        let slot = |name: &str| if name == "?principal" { SlotId::principal() } else { SlotId::resource() };
        let values = link.values.iter().map(|(name, uid)| (slot(name), convert::uid(uid).unwrap())).collect();
        set.link(PolicyId::new(&link.template), PolicyId::new(&link.id), values).unwrap();
    }
    set
}

fn cedar(entity: &Entity) -> CedarEntity {
    CedarEntity::from_json_value(entity.to_json(), None).unwrap()
}

/// A policy as its syntax tree has it, with an expression of Cedar's for everything that may be asked.
struct Rule {
    action: Expression,
    principal: Scope,
    resource: Scope,
    /// What must be true, and what false.
    clauses: Vec<(Asked, bool)>,
}

enum Scope {
    Any,
    Eq(EntityUid),
    Is(String),
    In(Expression),
    IsIn(String, Expression),
}

impl Rule {
    fn of(policy: &cedar_policy::Policy) -> Self {
        let fixed = match policy.to_pst().unwrap() {
            pst::Policy::Static(fixed) => fixed,
            pst::Policy::Linked(linked) => linked.into_static_policy().unwrap(),
        };
        let body = fixed.body();
        let clause = |clause: &pst::Clause| match clause {
            pst::Clause::When(e) => (Asked::of(e), true),
            pst::Clause::Unless(e) => (Asked::of(e), false),
        };
        Self {
            action: match &body.action {
                pst::ActionConstraint::Any => "true".parse().unwrap(),
                pst::ActionConstraint::Eq(uid) => expression(&format!("action == {uid}")),
                pst::ActionConstraint::In(uids) => {
                    let uids: Vec<String> = uids.iter().map(ToString::to_string).collect();
                    expression(&format!("action in [{}]", uids.join(", ")))
                }
            },
            principal: match &body.principal {
                pst::PrincipalConstraint::Any => Scope::Any,
                pst::PrincipalConstraint::Eq(e) => Scope::Eq(convert::from_pst_uid(uid(e))),
                pst::PrincipalConstraint::Is(ty) => Scope::Is(ty.to_string()),
                pst::PrincipalConstraint::In(e) => Scope::In(expression(&format!("principal in {}", uid(e)))),
                pst::PrincipalConstraint::IsIn(ty, e) => {
                    Scope::IsIn(ty.to_string(), expression(&format!("principal in {}", uid(e))))
                }
            },
            resource: match &body.resource {
                pst::ResourceConstraint::Any => Scope::Any,
                pst::ResourceConstraint::Eq(e) => Scope::Eq(convert::from_pst_uid(uid(e))),
                pst::ResourceConstraint::Is(ty) => Scope::Is(ty.to_string()),
                pst::ResourceConstraint::In(e) => Scope::In(expression(&format!("resource in {}", uid(e)))),
                pst::ResourceConstraint::IsIn(ty, e) => {
                    Scope::IsIn(ty.to_string(), expression(&format!("resource in {}", uid(e))))
                }
            },
            clauses: body.clauses().iter().map(clause).collect(),
        }
    }
}

fn uid(value: &pst::EntityOrSlot) -> &pst::EntityUID {
    match value {
        pst::EntityOrSlot::Entity(uid) => uid,
        pst::EntityOrSlot::Slot(_) => panic!("links are filled"),
    }
}

fn expression(text: &str) -> Expression {
    text.parse().unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// An expression and its parts, each so that Cedar can be asked for its value.
struct Asked {
    cedar: Expression,
    parts: Parts,
}

enum Parts {
    None,
    And(Box<Asked>, Box<Asked>),
    Or(Box<Asked>, Box<Asked>),
    If(Box<Asked>, Box<Asked>, Box<Asked>),
    In(Box<Asked>, Box<Asked>),
    Tag(&'static str, Box<Asked>, Box<Asked>),
    Attr(Box<Asked>),
    /// With what each step of the way is asked of: the operand, then what it leads to.
    Has(Box<Asked>, Vec<Expression>),
    IsIn(Box<Asked>, Expression, Box<Asked>),
    /// All are evaluated, in order.
    All(Vec<Asked>),
}

impl Asked {
    fn of(expr: &pst::Expr) -> Self {
        Self { cedar: expression(&expr.to_string()), parts: Parts::of(expr) }
    }

    fn boxed(expr: &pst::Expr) -> Box<Self> {
        Box::new(Self::of(expr))
    }
}

impl Parts {
    fn of(expr: &pst::Expr) -> Self {
        let boxed = Asked::boxed;
        match expr {
            pst::Expr::BinaryOp { op, left, right } => match op {
                pst::BinaryOp::And => Self::And(boxed(left), boxed(right)),
                pst::BinaryOp::Or => Self::Or(boxed(left), boxed(right)),
                pst::BinaryOp::In => Self::In(boxed(left), boxed(right)),
                pst::BinaryOp::GetTag => Self::Tag("`getTag`", boxed(left), boxed(right)),
                pst::BinaryOp::HasTag => {
                    Self::Tag("`hasTag` on an entity that is not stored", boxed(left), boxed(right))
                }
                _ => Self::All(vec![Asked::of(left), Asked::of(right)]),
            },
            pst::Expr::IfThenElse { cond, then_expr, else_expr } => {
                Self::If(boxed(cond), boxed(then_expr), boxed(else_expr))
            }
            pst::Expr::UnaryOp { expr, .. } | pst::Expr::Like { expr, .. } => Self::All(vec![Asked::of(expr)]),
            pst::Expr::GetAttr { expr, .. } => Self::Attr(boxed(expr)),
            pst::Expr::HasAttr { expr, attrs } => {
                let (mut at, mut asked) = (format!("({expr})"), Vec::new());
                for attr in attrs {
                    asked.push(expression(&at));
                    at = format!("{at}[\"{}\"]", attr.escape_debug());
                }
                Self::Has(boxed(expr), asked)
            }
            pst::Expr::Is { expr, entity_type, in_expr: Some(ancestor) } => {
                let is = pst::Expr::Is { expr: expr.clone(), entity_type: entity_type.clone(), in_expr: None };
                Self::IsIn(boxed(expr), expression(&is.to_string()), boxed(ancestor))
            }
            pst::Expr::Is { expr, in_expr: None, .. } => Self::All(vec![Asked::of(expr)]),
            pst::Expr::Set(items) => Self::All(items.iter().map(|e| Asked::of(e)).collect()),
            pst::Expr::Record(fields) => Self::All(fields.values().map(|e| Asked::of(e)).collect()),
            _ => Self::None,
        }
    }
}

struct Judge<'a> {
    choices: &'a HashSet<EntityUid>,
    inquiry: &'a Inquiry,
    world: &'a World<'a>,
    request: Request,
}

enum Stop {
    Missing(&'static str),
    Erred,
}

type Walk = Result<(), Stop>;

/// How an entity stands.
enum Standing<'a> {
    Stored(&'a Entity),
    /// An action, or an id that the schema lists: it exists by being declared.
    Declared,
}

const ANCESTORS: &str = "`in` where an ancestor, or the entity itself, is not stored";
const SCOPE: &str = "a scope whose ancestors are not all stored";

impl Judge<'_> {
    /// What a policy whose scope matches, or may match, looks at though it is not stored.
    fn meets_missing(&self, rule: &Rule) -> Option<&'static str> {
        let principal = self.inquiry.principal();
        let scopes = [
            Some(self.is_true(&rule.action)),
            self.within(&rule.principal, principal),
            self.within(&rule.resource, &self.world.resource.uid),
        ];
        if scopes.contains(&Some(false)) {
            None
        } else if scopes.contains(&None) {
            Some(SCOPE)
        } else {
            self.clauses_meet_missing(rule)
        }
    }

    fn clauses_meet_missing(&self, rule: &Rule) -> Option<&'static str> {
        for (asked, wanted) in &rule.clauses {
            match self.walk(asked) {
                Err(Stop::Missing(what)) => return Some(what),
                Err(Stop::Erred) => return None,
                Ok(()) if self.is_true(&asked.cedar) == *wanted => {}
                Ok(()) => return None,
            }
        }
        None
    }

    fn within(&self, scope: &Scope, uid: &EntityUid) -> Option<bool> {
        let below = |expression| match self.is_true(expression) {
            true => Some(true),
            false if self.whole(uid) => Some(false),
            false => None,
        };
        match scope {
            Scope::Any => Some(true),
            Scope::Eq(other) => Some(other == uid),
            Scope::Is(ty) => Some(*ty == *uid.ty),
            Scope::In(expression) => below(expression),
            Scope::IsIn(ty, _) if *ty != *uid.ty => Some(false),
            Scope::IsIn(_, expression) => below(expression),
        }
    }

    fn stored(&self, uid: &EntityUid) -> Option<Standing<'_>> {
        if *uid == self.world.resource.uid {
            return Some(Standing::Stored(self.world.resource));
        }
        if let Some(entity) = self.world.directory.get(uid) {
            return Some(Standing::Stored(entity));
        }
        let action = uid.ty.rsplit("::").next() == Some("Action");
        (action || self.choices.contains(uid)).then_some(Standing::Declared)
    }

    /// Every ancestor of a stored entity is stored.
    fn whole(&self, uid: &EntityUid) -> bool {
        let mut open = vec![uid.clone()];
        let mut seen = HashSet::new();
        while let Some(uid) = open.pop() {
            if !seen.insert(uid.clone()) {
                continue;
            }
            match self.stored(&uid) {
                Some(Standing::Stored(entity)) => open.extend(entity.parents.iter().cloned()),
                Some(Standing::Declared) => {}
                None => return false,
            }
        }
        true
    }

    fn value(&self, expression: &Expression) -> Result<EvalResult, Stop> {
        eval_expression(&self.request, &self.world.entities, expression).map_err(|_| Stop::Erred)
    }

    fn is_true(&self, expression: &Expression) -> bool {
        matches!(self.value(expression), Ok(EvalResult::Bool(true)))
    }

    fn entity_stored(&self, expression: &Expression, what: &'static str) -> Walk {
        match self.value(expression)? {
            EvalResult::EntityUid(uid) => match self.stored(&convert::from_uid(&uid)) {
                Some(_) => Ok(()),
                None => Err(Stop::Missing(what)),
            },
            _ => Ok(()),
        }
    }

    fn hierarchy(&self, whole: &Expression, left: &Expression) -> Walk {
        self.entity_stored(left, ANCESTORS)?;
        match self.value(left)? {
            EvalResult::EntityUid(uid) if !self.whole(&convert::from_uid(&uid)) && !self.is_true(whole) => {
                Err(Stop::Missing(ANCESTORS))
            }
            _ => Ok(()),
        }
    }

    fn walk(&self, asked: &Asked) -> Walk {
        match &asked.parts {
            Parts::None => Ok(()),
            Parts::And(left, right) => {
                self.walk(left)?;
                if self.is_true(&left.cedar) { self.walk(right) } else { Ok(()) }
            }
            Parts::Or(left, right) => {
                self.walk(left)?;
                self.value(&left.cedar)?;
                if self.is_true(&left.cedar) { Ok(()) } else { self.walk(right) }
            }
            Parts::If(cond, then, other) => {
                self.walk(cond)?;
                self.value(&cond.cedar)?;
                self.walk(if self.is_true(&cond.cedar) { then } else { other })
            }
            Parts::In(left, right) => {
                self.walk(left)?;
                self.value(&left.cedar)?;
                self.walk(right)?;
                self.hierarchy(&asked.cedar, &left.cedar)
            }
            Parts::Tag(what, left, right) => {
                self.walk(left)?;
                self.value(&left.cedar)?;
                self.walk(right)?;
                self.entity_stored(&left.cedar, what)
            }
            Parts::Attr(e) => {
                self.walk(e)?;
                self.entity_stored(&e.cedar, "an attribute of an entity that is not stored")
            }
            Parts::Has(e, steps) => {
                self.walk(e)?;
                for (at, step) in steps.iter().enumerate() {
                    if at > 0 && self.value(step).is_err() {
                        break;
                    }
                    self.entity_stored(step, "`has` on an entity that is not stored")?;
                }
                Ok(())
            }
            Parts::IsIn(e, is, ancestor) => {
                self.walk(e)?;
                if !self.is_true(is) {
                    return Ok(());
                }
                self.walk(ancestor)?;
                self.hierarchy(&asked.cedar, &e.cedar)
            }
            Parts::All(items) => {
                for item in items {
                    self.walk(item)?;
                    self.value(&item.cedar)?;
                }
                Ok(())
            }
        }
    }
}
