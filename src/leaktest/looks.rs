//! What a bundle's policies look at, read from Cedar's own JSON form of them: which attributes, behind which references, and whether at a record's
//! identity. Knows nothing of what they decide.

use std::{collections::HashSet, str::FromStr as _};

use cedar_policy::PolicySet;
use serde_json::{Map, Value as Json};

use super::world::{Rules, reference};

/// What policies look at.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Attributes, of whatever.
    names: HashSet<String>,
    /// Attributes whose values are entities that are looked at in their turn.
    followed: HashSet<String>,
    /// The same of tags.
    follows_tags: bool,
    /// What is followed cannot be told from the form.
    follows_all: bool,
    /// Records may be told apart by which they are, alike or not.
    itself: bool,
}

impl Looks {
    pub(super) fn of(rules: &Rules) -> Self {
        let mut looks = Self::default();
        let form = PolicySet::from_str(&rules.policies).ok().and_then(|set| set.to_json().ok());
        match form {
            Some(form) => looks.bundle(&form),
            // what cannot be read may look at anything
            None => (looks.itself, looks.follows_all) = (true, true),
        }
        looks.itself |= names_a_record(&rules.links);
        looks
    }

    /// Whether records may be told apart by which they are.
    pub(super) fn at_records_themselves(&self) -> bool {
        self.itself
    }

    /// Whether an attribute is looked at, of whatever entity.
    pub(super) fn at(&self, attribute: &str) -> bool {
        self.names.contains(attribute)
    }

    /// Entities that may be looked at because this stored one refers to them. Nobody can look behind the members of a set.
    pub(super) fn behind(&self, entity: &Json) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let part = |name: &str| entity.get(name).cloned().unwrap_or_default();
        let parents = part("parents");
        found.extend(parents.as_array().into_iter().flatten().filter_map(reference).map(owned));
        self.fields(&part("attrs"), &mut found);
        if self.follows_tags || self.follows_all {
            let tags = part("tags");
            found.extend(tags.as_object().into_iter().flatten().filter_map(|(_, v)| reference(v)).map(owned));
        }
        found
    }

    fn fields(&self, record: &Json, found: &mut Vec<(String, String)>) {
        for (name, value) in record.as_object().into_iter().flatten() {
            match reference(value) {
                Some(to) if self.follows_all || self.followed.contains(name) => found.push(owned(to)),
                Some(_) => {}
                None => self.fields(value, found),
            }
        }
    }

    fn bundle(&mut self, form: &Json) {
        for kind in ["staticPolicies", "templates"] {
            for policy in form.get(kind).and_then(Json::as_object).into_iter().flat_map(Map::values) {
                self.scope(policy.get("resource").unwrap_or(&Json::Null));
                for condition in policy.get("conditions").and_then(Json::as_array).into_iter().flatten() {
                    self.expression(condition.get("body").unwrap_or(&Json::Null));
                }
            }
        }
    }

    /// A slot is looked at by its links.
    fn scope(&mut self, resource: &Json) {
        self.itself |= names_a_record(resource);
    }

    fn expression(&mut self, json: &Json) {
        match json {
            Json::Array(list) => list.iter().for_each(|one| self.expression(one)),
            Json::Object(fields) => fields.iter().for_each(|(operator, operand)| self.operation(operator, operand)),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
        }
    }

    fn operation(&mut self, operator: &str, operand: &Json) {
        let part = |name: &str| operand.get(name).unwrap_or(&Json::Null);
        match operator {
            "Value" | "Slot" => {}
            "Var" => self.itself |= operand.as_str() == Some("resource"),
            "." | "has" => {
                self.names.extend(part("attr").as_str().map(str::to_owned));
                self.look_behind(part("left"));
            }
            "getTag" | "hasTag" => {
                self.look_behind(part("left"));
                self.expression(part("right"));
            }
            "in" => {
                self.within(part("left"), part("right"));
                self.expression(part("right"));
            }
            "is" if operand.get("in").is_some() => {
                self.within(part("left"), part("in"));
                self.expression(part("in"));
            }
            "is" => self.aside(part("left")),
            _ => self.expression(operand),
        }
    }

    /// `left in right`. What a record lies in is seen of it; anything else that it may be in is said by whoever looks.
    fn within(&mut self, left: &Json, right: &Json) {
        if is_resource(left) {
            self.itself |= !is_constant(right) || names_a_record(right);
        } else {
            self.look_behind(left);
        }
    }

    /// What is looked at as an entity: its attributes, tags or ancestors.
    fn look_behind(&mut self, left: &Json) {
        let of = |operator: &str| left.get(operator);
        if let Some(access) = of(".") {
            let name = access.get("attr").and_then(Json::as_str).unwrap_or_default().to_owned();
            self.followed.insert(name);
            self.expression(left);
        } else if of("getTag").is_some() {
            self.follows_tags = true;
            self.expression(left);
        } else if of("Var").is_none() && of("Value").is_none() && of("Slot").is_none() {
            self.follows_all |= of("Record").is_none();
            self.expression(left);
        }
    }

    /// What is looked at without a look at the entity.
    fn aside(&mut self, left: &Json) {
        if !is_resource(left) {
            self.expression(left);
        }
    }
}

fn is_resource(json: &Json) -> bool {
    json.get("Var").and_then(Json::as_str) == Some("resource")
}

fn is_constant(json: &Json) -> bool {
    let members = || json.get("Set").and_then(Json::as_array);
    json.get("Value").is_some() || members().is_some_and(|all| all.iter().all(is_constant))
}

/// Whether a record or document is named anywhere in it.
fn names_a_record(json: &Json) -> bool {
    if reference(json).is_some_and(|(ty, _)| ty == "Record" || ty == "Document") {
        return true;
    }
    match json {
        Json::Array(list) => list.iter().any(names_a_record),
        Json::Object(fields) => fields.values().any(names_a_record),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => false,
    }
}

fn owned((ty, id): (&str, &str)) -> (String, String) {
    (ty.to_owned(), id.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn looks(condition: &str, links: Json) -> Looks {
        let policies = format!("@id(\"x\") permit (principal, action, resource) when {{ {condition} }};");
        Looks::of(&Rules { schema: String::new(), policies, links })
    }

    #[test]
    fn a_record_is_looked_at_itself_wherever_it_is_more_than_the_owner_of_attributes() {
        for condition in [
            "resource in principal.documents",
            "principal.records.contains(resource)",
            "resource == principal.own",
            "resource == Record::\"ward/a\"",
            "resource in Document::\"ward/d\"",
            "[Record::\"ward/a\"].contains(resource)",
            "resource is Record in principal.folder",
            "if principal.x then true else context.which == resource",
        ] {
            assert!(looks(condition, json!([])).at_records_themselves(), "{condition}");
        }
        for condition in [
            "resource.patient == principal.patient",
            "resource in Collection::\"ward\"",
            "resource in [Firm::Matter::\"a\"]",
            "resource is Record && resource has client && resource.client.conflicted.contains(principal)",
            "resource.hasTag(\"status\") && [\"draft\"].contains(resource.getTag(\"status\"))",
            "resource[\"an odd name\"] like \"a*\"",
        ] {
            assert!(!looks(condition, json!([])).at_records_themselves(), "{condition}");
        }
        assert!(looks("resource[\"an odd name\"] like \"a*\"", json!([])).at("an odd name"));
        let link = |ty: &str| json!([{"template": "t", "values": {"?resource": {"type": ty, "id": "ward/a"}}}]);
        assert!(looks("true", link("Record")).at_records_themselves());
        assert!(!looks("true", link("Matter")).at_records_themselves());
    }

    #[test]
    fn nothing_is_behind_a_reference_that_is_compared_alone_or_lies_in_a_set() {
        let uid = |id: &str| json!({"type": "T", "id": id});
        let entity = json!({"attrs": {
            "patient": uid("p"), "author": uid("a"), "team": [uid("t")], "details": {"ward": uid("w")}}, "parents": [uid("g")]});
        let behind = |condition: &str| {
            let mut ids: Vec<String> =
                looks(condition, json!([])).behind(&entity).into_iter().map(|(_, id)| id).collect();
            ids.sort();
            ids
        };
        assert_eq!(behind("resource.author == principal && resource.team.contains(principal)"), ["g"]);
        assert_eq!(behind("resource.patient.vip || resource.details.ward has beds"), ["g", "p", "w"]);
        assert_eq!(behind("resource.author in Group::\"x\" && principal in resource.patient"), ["a", "g"]);
        assert_eq!(behind("(if principal.x then resource.author else resource.patient).vip"), ["a", "g", "p", "w"]);
    }
}
