//! Generated policies, templates and links. Each is validated on its own, so that one refused policy does not cost a bundle.

use std::collections::BTreeMap;

use cedar_policy::{PolicySet, Schema, ValidationMode, Validator};

use super::{design::Design, dice::Dice, values::ids, words::Writer};
use crate::model::{BundleSource, EntityUid, TemplateLink};

/// What was written, and what the validator let pass.
#[derive(Default)]
pub(super) struct Yield {
    pub(super) written: u64,
    pub(super) valid: u64,
}

/// A bundle that validates.
pub(super) fn roll(dice: &mut Dice, design: &Design, gained: &mut Yield) -> BundleSource {
    let (schema, _) = Schema::from_cedarschema_str(&design.text).unwrap_or_else(|e| panic!("{e:?}\n{}", design.text));
    let validator = Validator::new(schema);
    let mut source = BundleSource { schema: design.text.clone(), ..BundleSource::default() };
    let wanted = dice.between(3, 12);
    for at in 0..wanted * 3 {
        if at > 0 && source.policies.matches("@id").count() + source.links.len() >= wanted {
            break;
        }
        let principal = dice.pick(&design.principals).clone();
        let permits = source.policies.is_empty() || !dice.one_in(3);
        let template = dice.one_in(5);
        let rule = Rule { id: format!("p{at}"), permits, principal, template };
        let (text, slots) = rule.write(dice, design);
        gained.written += 1;
        if !passes(&validator, &text) {
            continue;
        }
        gained.valid += 1;
        if template {
            source.templates += &text;
            for link in 0..dice.between(1, 2) {
                let values = slots.iter().map(|(slot, ty)| ((*slot).to_owned(), any(dice, design, ty))).collect();
                let link = TemplateLink { template: rule.id.clone(), id: format!("{}-{link}", rule.id), values };
                source.links.push(link);
            }
        } else {
            source.policies += &text;
        }
    }
    if source.policies.is_empty() {
        source.policies = "@id(\"all\") permit (principal, action, resource is Record);\n".into();
    }
    source
}

fn any(dice: &mut Dice, design: &Design, ty: &str) -> EntityUid {
    EntityUid::new(ty, dice.pick(&ids(design, ty)).as_str())
}

fn passes(validator: &Validator, text: &str) -> bool {
    let set: PolicySet = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
    validator.validate(&set, ValidationMode::Strict).validation_passed()
}

struct Rule {
    id: String,
    permits: bool,
    principal: String,
    template: bool,
}

type Slots = BTreeMap<&'static str, String>;

impl Rule {
    /// The text, and the types of what fills its slots.
    fn write(&self, dice: &mut Dice, design: &Design) -> (String, Slots) {
        let ty = &self.principal;
        let mut slots = Slots::new();
        let filled = if self.template { dice.between(1, 3) } else { 0 };
        let depth = *dice.pick(&[0, 0, 0, 1, 1, 1, 2, 2, 3]);
        let second = dice.one_in(3);
        let mut guards = Vec::new();
        let mut parents = design.shape(ty).parents.clone();
        parents.push("Team".into());
        let above = dice.pick(&parents).clone();
        let within = format!("is {ty} in");
        let principal = match filled {
            1 | 3 => {
                let op = *dice.pick(&["==", "in", within.as_str()]);
                slots.insert("?principal", if op == "==" { ty.clone() } else { above.clone() });
                format!("principal {op} ?principal")
            }
            _ => match dice.below(10) {
                0..=2 => "principal".into(),
                3..=6 => format!("principal is {ty}"),
                7 => format!("principal == {}", literal(&any(dice, design, ty))),
                8 => format!("principal in {}", literal(&any(dice, design, &above))),
                _ => format!("principal is {ty} in {}", literal(&any(dice, design, &above))),
            },
        };
        let parents = &design.shape("Record").parents;
        let above = dice.pick(parents).clone();
        let resource = match filled {
            2..=3 => {
                let op = *dice.pick(&["==", "in", "in", "is Record in"]);
                slots.insert("?resource", if op == "==" { "Record".into() } else { above.clone() });
                format!("resource {op} ?resource")
            }
            _ => match dice.below(12) {
                0..=1 => "resource".into(),
                2..=8 => "resource is Record".into(),
                9 => format!("resource == {}", literal(&any(dice, design, "Record"))),
                10 => format!("resource in {}", literal(&any(dice, design, &above))),
                _ => format!("resource is Record in {}", literal(&any(dice, design, &above))),
            },
        };
        if !resource.contains("is Record") {
            guards.push("resource is Record".to_owned());
        }
        if !principal.contains(" is ") {
            guards.push(format!("principal is {ty}"));
        }
        let action = action(dice, design);
        let cap = if self.permits && dice.one_in(4) { "@max_records(\"3\") " } else { "" };
        let effect = if self.permits { "permit" } else { "forbid" };
        let head = format!("@id({:?}) {cap}{effect} ({principal}, {action}, {resource})", self.id);
        if dice.one_in(20) {
            return (format!("{head};\n"), slots);
        }
        let mut writer = Writer::new(dice, design, ty);
        guards.push(writer.condition(depth));
        let mut conditions = format!("when {{ {} }}", guards.join(" && "));
        if second {
            conditions += &format!(" unless {{ {} }}", writer.condition(1));
        }
        (format!("{head} {conditions};\n"), slots)
    }
}

fn action(dice: &mut Dice, design: &Design) -> String {
    let group = design.groups.first();
    match (dice.below(6), group) {
        (0, _) => "action == Action::\"Retrieve\"".into(),
        (1, _) => "action in [Action::\"Read\", Action::\"Retrieve\"]".into(),
        (2, Some(group)) => format!("action in Action::\"{group}\""),
        (3, Some(group)) => format!("action in [Action::\"{group}\", Action::\"ReadVector\"]"),
        _ => "action".into(),
    }
}

fn literal(uid: &EntityUid) -> String {
    super::values::entity_literal(uid)
}
