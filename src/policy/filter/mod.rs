//! A client's `filter`: one Cedar expression that narrows what is permitted. It looks at the record itself and at the context, at
//! nothing else, and grants nothing: whoever binds it says which records are permitted.

mod bind;
mod check;
mod instant;
mod nesting;
mod term;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use cedar_policy::{
    Entities, Expression, Policy as CedarPolicy, PolicySet, ValidationError, ValidationMode, Validator, ffi, pst,
};

pub use self::bind::{Matching, Rows, Work};
use self::check::{Checker, Flaw};
use super::{Bundle, COMPILE_STACK, Directory, Inquiry, Position, convert, on_large_stack};
use crate::model::{Action, Entity, limits::FILTER_CALLS};

/// An expression that says of a record whether it is wanted. Good for the bundle and the action that it was compiled for.
#[derive(Debug)]
pub struct Filter {
    condition: Arc<pst::Expr>,
    /// A permit of its own, never together with those of the bundle.
    permit: PolicySet,
    names: HashSet<Arc<str>>,
    upward: bool,
}

/// Why a filter was refused: from its text and the schema alone. Repeats nothing of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterFault {
    /// `filter_too_long`, `filter_too_deep`, `filter_costly`, `filter_syntax`, `filter_variable`, `filter_dereference`, `filter_attribute`,
    /// `filter_optional`, `filter_type`, `filter_entity`, `filter_function`.
    pub code: &'static str,
    /// What to mend.
    pub message: String,
    /// Where, if that is known.
    pub place: Option<Position>,
}

impl FilterFault {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), place: None }
    }

    fn at(self, place: Position) -> Self {
        Self { place: Some(place), ..self }
    }
}

type Faults = Vec<FilterFault>;

impl Bundle {
    /// Compiles a filter for records that `action` is asked about; every fault is told, up to a bound. It takes a tenth of a
    /// millisecond and is not remembered: that would tell by its time whether somebody else asked the same.
    pub fn filter(&self, text: &str, action: Action) -> Result<Filter, Vec<FilterFault>> {
        nesting::check(text).map_err(|fault| vec![fault])?;
        stacker::grow(COMPILE_STACK, || compile(self, text, action))
    }
}

impl Filter {
    /// Of the `permitted` slots those that it matches. Neither the answer nor the work depends on any other slot.
    pub fn bind(&self, inquiry: &Inquiry, rows: &Rows<'_>, permitted: &roaring::RoaringBitmap) -> Matching {
        on_large_stack(|| bind::bind(&self.condition, inquiry, rows, permitted))
    }

    /// Whether it matches each of these records, by Cedar's authorizer alone. An error is no match.
    pub fn matches_each(&self, inquiry: &Inquiry, records: &[Entity], directory: &Directory) -> Vec<bool> {
        on_large_stack(|| records.iter().map(|record| self.matches(inquiry, record, directory).is_some()).collect())
    }

    fn matches(&self, inquiry: &Inquiry, record: &Entity, directory: &Directory) -> Option<()> {
        let own = convert::entity_reading(record, &self.names, self.upward)?;
        let above = if self.upward { directory.ancestors(record).0 } else { HashSet::new() };
        let above = above.iter().filter_map(|uid| directory.cedar(uid).cloned());
        let entities = Entities::from_entities(std::iter::once(own).chain(above), None).ok()?;
        let request = inquiry.request(convert::uid(&record.uid)?)?;
        bind::answer(&self.permit, &request, &entities).ok()?.then_some(())
    }
}

/// The whole way. Call it on a large stack: nothing but the text's length bounds how deep a chain of operators nests.
fn compile(bundle: &Bundle, text: &str, action: Action) -> Result<Filter, Faults> {
    let parsed: Expression = text.parse().map_err(|error| vec![unreadable(text, &error)])?;
    let tree = pst::Expr::try_from(parsed.as_ref().clone()).map_err(|_| vec![check::no_tree(text, &parsed)])?;
    if check::too_deep(&tree) {
        return Err(vec![nesting::too_deep()]);
    }
    if check::calls(&tree) > FILTER_CALLS {
        let detail = format!("`filter` must not have more than {FILTER_CALLS} calls of extension functions on values");
        return Err(vec![FilterFault::new("filter_costly", detail)]);
    }
    let checker = Checker::new(bundle, action);
    let flaws = checker.flaws(&tree);
    let certain: BTreeSet<Flaw> = flaws.iter().copied().filter(|flaw| *flaw != Flaw::Doubtful).collect();
    if !certain.is_empty() {
        return Err(checker.located(&certain, text, &parsed));
    }
    let condition = check::balanced(&Arc::new(tree));
    let permit = permit(&condition, Some(action)).ok_or_else(|| vec![Flaw::Unknown.told()])?;
    validate(bundle, &permit, text, action)?;
    if !flaws.is_empty() {
        return Err(checker.located(&flaws, text, &parsed));
    }
    let (names, upward) = looked_at(&condition);
    Ok(Filter { condition, permit, names, upward })
}

fn unreadable(text: &str, error: &cedar_policy::ParseErrors) -> FilterFault {
    let fault = FilterFault::new("filter_syntax", "`filter` must be one Cedar expression; this cannot be read as one");
    match ffi::DetailedError::from(error).source_locations.first() {
        Some(label) => fault.at(Position::of(text, label.loc.start)),
        None => fault,
    }
}

/// A permit whose only condition is this expression, put together as a tree.
fn permit(condition: &Arc<pst::Expr>, action: Option<Action>) -> Option<PolicySet> {
    let uid = |action: Action| Some(pst::EntityUID { ty: entity_type("Action")?, eid: action.name().into() });
    let action = match action {
        Some(action) => pst::ActionConstraint::Eq(uid(action)?),
        None => pst::ActionConstraint::Any,
    };
    let resource = pst::ResourceConstraint::Is(entity_type("Record")?);
    let template = pst::Template::new("filter", pst::Effect::Permit, pst::PrincipalConstraint::Any, action, resource)
        .try_with_clauses([pst::Clause::When(Arc::clone(condition))])
        .ok()?;
    let policy = pst::Policy::Static(pst::StaticPolicy::try_from(template).ok()?);
    PolicySet::from_policies([CedarPolicy::from_pst(policy).ok()?]).ok()
}

fn entity_type(name: &str) -> Option<pst::EntityType> {
    Some(pst::EntityType::from_name(pst::Name::unqualified(name).ok()?))
}

/// Strictly, for every type of principal that may have the action.
fn validate(bundle: &Bundle, permit: &PolicySet, text: &str, action: Action) -> Result<(), Faults> {
    let validator = Validator::new(bundle.schema.clone());
    let result = validator.validate(permit, ValidationMode::Strict);
    if result.validation_passed() {
        return Ok(());
    }
    let mut faults = located(&validator, text, action);
    if faults.is_empty() {
        faults.extend(result.validation_errors().map(told));
    }
    faults.sort_by_key(|fault| (fault.place.map(|at| (at.line, at.column)), fault.code));
    faults.dedup();
    faults.truncate(check::TOLD);
    Err(faults)
}

/// Faults with their places, which a tree does not have. What is refused is decided already, and the text is known to be one whole
/// expression: this gives nothing but places.
fn located(validator: &Validator, text: &str, action: Action) -> Faults {
    let head = format!("permit(principal, action == Action::\"{}\", resource is Record) when {{\n", action.name());
    let Ok(policies) = format!("{head}{text}\n}};").parse::<PolicySet>() else { return vec![] };
    let result = validator.validate(&policies, ValidationMode::Strict);
    let place = |error: &ValidationError| {
        let start = ffi::DetailedError::from(error).source_locations.first()?.loc.start;
        Some(Position::of(text, start.checked_sub(head.len())?))
    };
    result.validation_errors().map(|error| FilterFault { place: place(error), ..told(error) }).collect()
}

/// Our words for the validator's: its own repeat parts of the text.
fn told(error: &ValidationError) -> FilterFault {
    let (code, message) = match error {
        ValidationError::UnsafeAttributeAccess(_) => {
            ("filter_attribute", "the schema declares no attribute of this name here")
        }
        ValidationError::UnsafeOptionalAttributeAccess(_) => {
            ("filter_optional", "a record may lack this attribute: ask `… has …` first, and join the two with `&&`")
        }
        ValidationError::UnsafeTagAccess(_) => {
            ("filter_optional", "a record may lack this tag: ask `….hasTag(…)` first, and join the two with `&&`")
        }
        ValidationError::NoTagsAllowed(_) => ("filter_attribute", "the schema gives records no tags"),
        ValidationError::UnrecognizedEntityType(_) => ("filter_entity", "the schema declares no such entity type"),
        ValidationError::InvalidEnumEntity(_) => {
            ("filter_entity", "the schema lists the ids of this entity type; this is none of them")
        }
        ValidationError::UnrecognizedActionId(_) => ("filter_entity", "the schema declares no such action"),
        ValidationError::HierarchyNotRespected(_) => {
            ("filter_type", "the schema lets nothing of the one type be in anything of the other")
        }
        ValidationError::IncompatibleTypes(_) => {
            ("filter_type", "these are of different types, as the schema declares them, and can never be equal")
        }
        ValidationError::EmptySetForbidden(_) => ("filter_type", "an empty set has no type; ask `.isEmpty()`"),
        ValidationError::UndefinedFunction(_) | ValidationError::WrongNumberArguments(_) => {
            ("filter_function", "there is no such function, or it takes other arguments")
        }
        ValidationError::FunctionArgumentValidation(_) => {
            ("filter_function", "this is not a text that the function understands")
        }
        ValidationError::NonLitExtConstructor(_) => ("filter_function", "this function takes a literal text"),
        _ => ("filter_type", "this has another type than is needed here; a filter as a whole is true or false"),
    };
    FilterFault::new(code, message)
}

/// Attributes that an expression names, of whatever, and whether it looks at ancestors.
fn looked_at(condition: &pst::Expr) -> (HashSet<Arc<str>>, bool) {
    let (mut names, mut upward) = (HashSet::new(), false);
    let mut open = vec![condition];
    while let Some(expr) = open.pop() {
        match expr {
            pst::Expr::GetAttr { attr, .. } => drop(names.insert(attr.as_str().into())),
            pst::Expr::HasAttr { attrs, .. } => names.extend(attrs.iter().map(|name| Arc::from(name.as_str()))),
            pst::Expr::BinaryOp { op: pst::BinaryOp::In, .. } | pst::Expr::Is { in_expr: Some(_), .. } => upward = true,
            _ => {}
        }
        open.extend(check::children(expr).into_iter().map(AsRef::as_ref));
    }
    (names, upward)
}
