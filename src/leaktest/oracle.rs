//! Who may see what, by Cedar's authorizer alone: the kit's own reading of bundle and entities, sharing no code with what it judges. Where an
//! entity that is not stored could lift a prohibition unseen (`has`, `in`), it says that it does not know.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    str::FromStr as _,
};

use cedar_policy::{
    Authorizer, Context, Decision, Effect, Entities, EntityId, EntityTypeName, EntityUid, PolicyId, PolicySet, Request,
    Schema, SchemaFragment, SlotId,
};
use parking_lot::Mutex;
use serde_json::{Map, Value as Json, json};

use super::{
    looks::Looks,
    target::{Caller, Trouble},
    world::{Record, Rules, World, reference},
};
use crate::clock::Clock;

/// What Cedar says of one caller and one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// May be served, by these permits.
    Permitted(Vec<String>),
    /// Must not be.
    Forbidden,
    /// Something that the answer might hang on is not stored.
    Unsettled,
}

/// A world's rules and people, ready to be asked.
pub struct Oracle {
    policies: PolicySet,
    entities: Entities,
    /// Names and caps by policy.
    notes: HashMap<PolicyId, Note>,
    context: BTreeMap<String, BTreeSet<String>>,
    collection: String,
    missing: HashSet<(String, String)>,
    now: String,
    source_ip: String,
    classes: Classes,
    record: EntityTypeName,
    /// By caller, action and purpose, and then by class.
    remembered: Remembered,
}

#[derive(Default, Clone)]
struct Note {
    name: String,
    max_records: Option<u64>,
    max_patients: Option<u64>,
}

/// What was decided, until the oracle is dropped.
type Remembered = Mutex<HashMap<String, HashMap<usize, Verdict>>>;

/// What of a record tells it from others, for these policies.
struct Lens<'l> {
    looks: &'l Looks,
    /// Documents are entities of their own: which one a record is of may count.
    documents: bool,
}

fn broken(what: &str, why: &dyn std::fmt::Display) -> Trouble {
    Trouble::Broken(format!("{what}: {why}"))
}

impl Oracle {
    /// Reads a world. `without` names entities that it is to do without.
    pub fn read(world: &World) -> Result<Self, Trouble> {
        let schema = Schema::from_cedarschema_str(&world.rules.schema).map_err(|e| broken("schema", &e))?.0;
        let shape = SchemaFragment::from_cedarschema_str(&world.rules.schema).map_err(|e| broken("schema", &e))?.0;
        let shape = Shape(shape.to_json_value().map_err(|e| broken("schema", &e))?);
        let (policies, notes) = policies(&world.rules)?;
        let now = crate::clock::SystemClock.now().rfc3339();
        let all = stored(world, &shape, &now);
        let looks = Looks::of(&world.rules);
        let missing = missing(&all, &shape, &looks);
        let entities =
            Entities::from_json_value(Json::Array(all), Some(&schema)).map_err(|e| broken("entities", &e))?;
        let context = ["Retrieve", "Read", "ReadVector"].map(|action| (action.to_owned(), shape.context(action)));
        Ok(Self {
            policies,
            entities,
            notes,
            context: context.into(),
            collection: world.collection.clone(),
            classes: Classes::of(world, &Lens::of(world, &looks), &missing),
            record: EntityTypeName::from_str("Record").map_err(|e| broken("a type's name", &e))?,
            missing,
            source_ip: world.source_ip.clone(),
            now,
            remembered: Remembered::default(),
        })
    }

    /// What Cedar says of a record, made stricter: whatever errs denies.
    pub fn verdict(&self, caller: &Caller, action: &str, purpose: &str, record: &Record) -> Result<Verdict, Trouble> {
        self.asker(caller, action, purpose)?.decide(record)
    }

    /// The same of the record at a place of the world that was read, remembered for all that are alike.
    pub fn verdict_at(
        &self,
        world: &World,
        caller: &Caller,
        action: &str,
        purpose: &str,
        at: usize,
    ) -> Result<Verdict, Trouble> {
        let class = self.classes.of.get(at).copied().unwrap_or(usize::MAX);
        let who = format!("{}\u{0}{}\u{0}{action}\u{0}{purpose}", caller.ty, caller.id);
        if let Some(known) = self.remembered.lock().get(&who).and_then(|of| of.get(&class)) {
            return Ok(known.clone());
        }
        let record = world.records.get(at).ok_or_else(|| broken("a record", &"not in the world"))?;
        let verdict = self.verdict(caller, action, purpose, record)?;
        self.remembered.lock().entry(who).or_default().insert(class, verdict.clone());
        Ok(verdict)
    }

    fn asker(&self, caller: &Caller, action: &str, purpose: &str) -> Result<Asker<'_>, Trouble> {
        let principal = uid(&caller.ty, &caller.id)?;
        let stored = self.entities.get(&principal).is_some();
        let missing = self.missing.contains(&(caller.ty.clone(), caller.id.clone()));
        let (action, context) = (uid("Action", action)?, self.context(action, purpose)?);
        Ok(Asker { oracle: self, principal, action, context, stored, missing, authorizer: Authorizer::new() })
    }

    fn context(&self, action: &str, purpose: &str) -> Result<Context, Trouble> {
        let all = [
            ("purpose", json!(purpose)),
            ("now", json!({"__extn": {"fn": "datetime", "arg": self.now}})),
            ("source_ip", json!({"__extn": {"fn": "ip", "arg": self.source_ip}})),
            ("break_glass", json!(false)),
            ("collection", json!(self.collection)),
        ];
        let declared = self.context.get(action);
        let told: Map<String, Json> = all
            .into_iter()
            .filter(|(name, _)| declared.is_some_and(|d| d.contains(*name)))
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        Context::from_json_value(Json::Object(told), None).map_err(|e| broken("context", &e))
    }

    /// All of a world, as one caller may see it for a purpose.
    pub fn view(&self, world: &World, caller: &Caller, action: &str, purpose: &str) -> Result<View, Trouble> {
        let mut view = View::default();
        let mut permits = BTreeSet::new();
        let by_class = self.verdicts(world, &self.asker(caller, action, purpose)?)?;
        for (at, class) in self.classes.of.iter().enumerate() {
            match by_class.get(*class).unwrap_or(&Verdict::Forbidden) {
                Verdict::Permitted(by) => {
                    permits.extend(by.iter().cloned());
                    view.permitted.push(at);
                }
                Verdict::Forbidden => view.forbidden.push(at),
                Verdict::Unsettled => view.unsettled.push(at),
            }
        }
        let noted = || self.notes.values().filter(|note| permits.contains(&note.name));
        // a template's cap counts once over its links
        let capped = |cap: fn(&Note) -> Option<u64>| {
            let by_name: BTreeMap<&str, Option<u64>> = noted().map(|n| (n.name.as_str(), cap(n))).collect();
            by_name
                .values()
                .try_fold(0_u64, |sum, cap| Some(sum.saturating_add((*cap)?)))
                .filter(|_| !by_name.is_empty())
        };
        view.max_records = capped(|n| n.max_records);
        view.max_patients = capped(|n| n.max_patients);
        Ok(view)
    }

    /// One verdict a class, worked out on all cores.
    fn verdicts(&self, world: &World, asker: &Asker<'_>) -> Result<Vec<Verdict>, Trouble> {
        let first: Vec<&Record> = self.classes.first.iter().filter_map(|at| world.records.get(*at)).collect();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let share = first.len().div_ceil(cores).max(1);
        std::thread::scope(|scope| {
            let parts: Vec<_> = first
                .chunks(share)
                .map(|part| scope.spawn(move || part.iter().map(|record| asker.decide(record)).collect::<Vec<_>>()))
                .collect();
            let done = parts.into_iter().flat_map(|part| part.join().unwrap_or_default());
            done.collect::<Result<Vec<Verdict>, Trouble>>()
        })
    }
}

/// One caller, for one action and purpose, before Cedar's authorizer.
struct Asker<'o> {
    oracle: &'o Oracle,
    principal: EntityUid,
    action: EntityUid,
    context: Context,
    stored: bool,
    missing: bool,
    authorizer: Authorizer,
}

impl Asker<'_> {
    fn decide(&self, record: &Record) -> Result<Verdict, Trouble> {
        if !self.stored {
            return Ok(Verdict::Forbidden);
        }
        let id = format!("{}/{}", self.oracle.collection, record.id);
        let resource = EntityUid::from_type_name_and_id(self.oracle.record.clone(), EntityId::new(&id));
        let request = Request::new(self.principal.clone(), self.action.clone(), resource, self.context.clone(), None);
        let request = request.map_err(|e| broken("request", &e))?;
        let response = self.authorizer.is_authorized(&request, &self.oracle.policies, &self.oracle.entities);
        let erred = response.diagnostics().errors().next().is_some();
        let leans = || self.missing || self.oracle.missing.contains(&("Record".to_owned(), id));
        Ok(match response.decision() {
            Decision::Deny => Verdict::Forbidden,
            Decision::Allow if erred => Verdict::Forbidden,
            Decision::Allow if leans() => Verdict::Unsettled,
            Decision::Allow => {
                let named = |id| Some(self.oracle.notes.get(id)?.name.clone());
                Verdict::Permitted(response.diagnostics().reason().filter_map(named).collect())
            }
        })
    }
}

/// Records that are alike in all that a decision may hang on.
struct Classes {
    /// By place in the world's list.
    of: Vec<usize>,
    /// By class: the place of one of them.
    first: Vec<usize>,
}

impl Classes {
    fn of(world: &World, lens: &Lens<'_>, missing: &HashSet<(String, String)>) -> Self {
        let mut known = HashMap::new();
        let mut classes = Self { of: Vec::with_capacity(world.records.len()), first: Vec::new() };
        for (at, record) in world.records.iter().enumerate() {
            let new = classes.first.len();
            let leans = missing.contains(&("Record".to_owned(), format!("{}/{}", world.collection, record.id)));
            let class = lens.seen(record).map_or(new, |seen| *known.entry((leans, seen)).or_insert(new));
            if class == new {
                classes.first.push(at);
            }
            classes.of.push(class);
        }
        classes
    }
}

/// What of a world one caller may see: places in its list of records.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// May be served.
    pub permitted: Vec<usize>,
    /// Must not.
    pub forbidden: Vec<usize>,
    /// Unknown.
    pub unsettled: Vec<usize>,
    /// Most records of one answer; none: no permit says.
    pub max_records: Option<u64>,
    /// Most patients of one answer.
    pub max_patients: Option<u64>,
}

fn uid(ty: &str, id: &str) -> Result<EntityUid, Trouble> {
    let ty = EntityTypeName::from_str(ty).map_err(|e| broken("a type's name", &e))?;
    Ok(EntityUid::from_type_name_and_id(ty, EntityId::new(id)))
}

fn policies(rules: &Rules) -> Result<(PolicySet, HashMap<PolicyId, Note>), Trouble> {
    let mut set = PolicySet::from_str(&rules.policies).map_err(|e| broken("policies", &e))?;
    let count = |text: Option<&str>| text.and_then(|t| t.parse().ok());
    let mut notes = HashMap::new();
    for policy in set.policies() {
        let note = Note {
            name: policy.annotation("id").unwrap_or_default().to_owned(),
            max_records: count(policy.annotation("max_records")),
            max_patients: count(policy.annotation("max_patients")),
        };
        if policy.effect() == Effect::Permit {
            notes.insert(policy.id().clone(), note);
        }
    }
    let templates: HashMap<String, (PolicyId, Note)> = set
        .templates()
        .map(|t| {
            let name = t.annotation("id").unwrap_or_default().to_owned();
            let note = Note {
                name: name.clone(),
                max_records: count(t.annotation("max_records")),
                max_patients: count(t.annotation("max_patients")),
            };
            (name, (t.id().clone(), note))
        })
        .collect();
    for (at, link) in rules.links.as_array().into_iter().flatten().enumerate() {
        let name = link.get("template").and_then(Json::as_str).unwrap_or_default();
        let (template, note) = templates.get(name).ok_or_else(|| broken("a link's template is not there", &name))?;
        let id = PolicyId::new(format!("link {at}"));
        set.link(template.clone(), id.clone(), slots(link)?).map_err(|e| broken("a link", &e))?;
        notes.insert(id, note.clone());
    }
    Ok((set, notes))
}

fn slots(link: &Json) -> Result<HashMap<SlotId, EntityUid>, Trouble> {
    let values = link.get("values").and_then(Json::as_object).into_iter().flatten();
    values
        .map(|(slot, value)| {
            let slot = match slot.trim_start_matches('?') {
                "principal" => SlotId::principal(),
                _ => SlotId::resource(),
            };
            let (ty, id) = reference(value).ok_or_else(|| broken("a link", &"its value is no entity"))?;
            Ok((slot, uid(ty, id)?))
        })
        .collect()
}

/// The schema's JSON form, for what Cedar's types do not say.
struct Shape(Json);

impl Shape {
    fn record(&self) -> Json {
        self.0.pointer("//entityTypes/Record").cloned().unwrap_or_default()
    }

    /// Whether a record may have a parent of this type.
    fn may_lie_in(&self, ty: &str) -> bool {
        let parents = self.record().get("memberOfTypes").cloned().unwrap_or_default();
        parents.as_array().is_some_and(|list| list.iter().any(|t| t.as_str() == Some(ty)))
    }

    /// Whether the schema lists all entities of a type, which are then never stored.
    fn is_enumerated(&self, ty: &str) -> bool {
        let (namespace, name) = ty.rsplit_once("::").unwrap_or(("", ty));
        let types = self.0.get(namespace).and_then(|n| n.get("entityTypes"));
        types.and_then(|all| all.get(name)?.get("enum")).is_some()
    }

    fn has_attribute(&self, name: &str) -> bool {
        self.record().pointer("/shape/attributes").and_then(|a| a.get(name)).is_some()
    }

    /// Names that the context of an action has.
    fn context(&self, action: &str) -> BTreeSet<String> {
        let mut ty = self.0.pointer(&format!("//actions/{action}/appliesTo/context")).cloned().unwrap_or_default();
        for _ in 0..8 {
            if let Some(attributes) = ty.get("attributes").and_then(Json::as_object) {
                return attributes.keys().cloned().collect();
            }
            let name = ty.get("name").or_else(|| ty.get("type")).and_then(Json::as_str).unwrap_or_default().to_owned();
            ty = self.0.pointer(&format!("//commonTypes/{name}")).cloned().unwrap_or_default();
        }
        BTreeSet::new()
    }
}

/// All entities of a world: people and things, records, and the documents and the collection that hold them.
fn stored(world: &World, shape: &Shape, now: &str) -> Vec<Json> {
    let mut all = world.entities.clone();
    let known: HashSet<(String, String)> = all.iter().filter_map(|e| owned(e.get("uid")?)).collect();
    let document = |record: &Record| format!("{}/{}", world.collection, record.document);
    let mut holders: BTreeSet<(&str, String)> = world.records.iter().map(|r| ("Document", document(r))).collect();
    holders.insert(("Collection", world.collection.clone()));
    for (ty, id) in holders {
        if !known.contains(&(ty.to_owned(), id.clone())) {
            all.push(json!({"uid": {"type": ty, "id": id}, "attrs": {}, "parents": []}));
        }
    }
    for record in &world.records {
        let mut parents = record.parents.as_array().cloned().unwrap_or_default();
        let holders = [("Document", document(record)), ("Collection", world.collection.clone())];
        let holders = holders.into_iter().filter(|(ty, _)| shape.may_lie_in(ty));
        parents.extend(holders.map(|(ty, id)| json!({"type": ty, "id": id})));
        let mut attrs = record.attributes.clone();
        if let Some(fields) = attrs.as_object_mut()
            && shape.has_attribute("ingested_at")
        {
            fields.insert("ingested_at".into(), json!({"__extn": {"fn": "datetime", "arg": now}}));
        }
        let id = format!("{}/{}", world.collection, record.id);
        let tags = if record.tags.is_object() { record.tags.clone() } else { json!({}) };
        let mut entity = json!({"uid": {"type": "Record", "id": id}, "attrs": attrs, "parents": parents});
        if tags != json!({})
            && let Some(fields) = entity.as_object_mut()
        {
            fields.insert("tags".into(), tags);
        }
        all.push(entity);
    }
    all
}

fn owned(json: &Json) -> Option<(String, String)> {
    reference(json).map(|(ty, id)| (ty.to_owned(), id.to_owned()))
}

/// Entities behind which policies may look at one that is not stored.
fn missing(all: &[Json], shape: &Shape, looks: &Looks) -> HashSet<(String, String)> {
    let edges: HashMap<(String, String), Vec<(String, String)>> =
        all.iter().filter_map(|entity| Some((owned(entity.get("uid")?)?, looks.behind(entity)))).collect();
    let mut touched: HashSet<(String, String)> = HashSet::new();
    loop {
        let more: Vec<_> = edges
            .iter()
            .filter(|(uid, to)| {
                !touched.contains(*uid)
                    && to.iter().any(|t| touched.contains(t) || !edges.contains_key(t) && !shape.is_enumerated(&t.0))
            })
            .map(|(uid, _)| uid.clone())
            .collect();
        if more.is_empty() {
            return touched;
        }
        touched.extend(more);
    }
}

impl<'l> Lens<'l> {
    fn of(world: &World, looks: &'l Looks) -> Self {
        let document = |e: &Json| e.get("uid").and_then(reference).is_some_and(|(ty, _)| ty == "Document");
        Self { looks, documents: world.entities.iter().any(document) }
    }

    /// What of a record policies can look at; records alike in it are decided alike.
    fn seen(&self, record: &Record) -> Option<String> {
        if self.looks.at_records_themselves() {
            return None;
        }
        let seen: BTreeMap<&String, &Json> =
            record.attributes.as_object()?.iter().filter(|(name, _)| self.looks.at(name)).collect();
        let document = if self.documents { record.document.as_str() } else { "" };
        serde_json::to_string(&(seen, &record.tags, &record.parents, document)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaktest::world::{hospital, ward};

    #[test]
    fn the_oracle_agrees_with_what_the_sample_ward_says_of_itself() {
        let ward = ward().unwrap();
        let oracle = Oracle::read(&ward).unwrap();
        let expected: BTreeMap<String, BTreeSet<String>> =
            serde_json::from_str(include_str!("../../examples/ward/allowed.json")).unwrap();
        for caller in &ward.callers {
            let view = oracle.view(&ward, caller, "Retrieve", &caller.purpose).unwrap();
            let ids: BTreeSet<_> = view.permitted.iter().map(|at| ward.records[*at].id.clone()).collect();
            assert_eq!(ids, expected[&caller.id], "{}", caller.id);
            assert!(view.unsettled.is_empty());
        }
    }

    #[test]
    fn what_is_remembered_is_what_would_be_decided_anew() {
        let world = hospital(300, 8, 5);
        let oracle = Oracle::read(&world).unwrap();
        for caller in &world.callers {
            for (at, record) in world.records.iter().enumerate() {
                let known = oracle.verdict_at(&world, caller, "Read", &caller.purpose, at).unwrap();
                assert_eq!(known, oracle.verdict(caller, "Read", &caller.purpose, record).unwrap());
            }
        }
    }

    #[test]
    fn records_that_are_alike_are_told_apart_where_a_link_names_one_of_them() {
        let mut world = hospital(300, 8, 5);
        let at = 40;
        let twin = Record { id: "rec-alike".into(), ..world.records[at].clone() };
        world.records.push(twin);
        world.rules.policies.push_str(
            "\n@id(\"single\") permit (principal == ?principal, action == Action::\"Retrieve\", resource == ?resource);",
        );
        let linked = json!({"type": "Record", "id": format!("ward/{}", world.records[at].id)});
        world.rules.links = json!([{"template": "single", "id": "one", "values": {
            "?principal": {"type": "Clinician", "id": "temp-0"}, "?resource": linked}}]);
        let temp = world.callers.iter().find(|c| c.id == "temp-0").unwrap().clone();
        let view = Oracle::read(&world).unwrap().view(&world, &temp, "Retrieve", "research").unwrap();
        let also = world.records.len() - 1;
        assert!(view.permitted.contains(&at) != view.permitted.contains(&also) || view.permitted.is_empty());
        assert!(!view.permitted.contains(&also));
    }

    #[test]
    fn records_that_are_alike_are_told_apart_where_somebody_holds_a_list_of_them() {
        let mut world = hospital(300, 8, 5);
        let at = 40;
        world.records.push(Record { id: "rec-alike".into(), ..world.records[at].clone() });
        let also = world.records.len() - 1;
        world.rules.schema =
            world.rules.schema.replacen("entity CareTeam = {", "entity CareTeam = { records?: Set<Record>,", 1);
        assert!(world.rules.schema.contains("records?: Set<Record>"), "{}", world.rules.schema);
        world.rules.policies = "@id(\"listed\") permit (principal is Clinician, action == Action::\"Retrieve\", resource) when \
            { principal has care_team && principal.care_team has records && principal.care_team.records.contains(resource) };"
            .into();
        let nurse = world.callers.iter().find(|c| c.role == "nurse").unwrap().clone();
        let listed = json!([{"type": "Record", "id": format!("ward/{}", world.records[at].id)}]);
        let team = world.entities.iter_mut().find(|e| reference(&e["uid"]) == Some(("CareTeam", nurse.id.as_str())));
        team.unwrap()["attrs"]["records"] = listed;
        let view = Oracle::read(&world).unwrap().view(&world, &nurse, "Retrieve", "treatment").unwrap();
        assert_eq!((view.permitted, view.forbidden.contains(&also)), (vec![at], true));
    }

    #[test]
    fn an_entity_that_the_schema_lists_is_never_missing() {
        let world = law_firm();
        let lawyer = Caller {
            ty: "Lawyer".into(),
            id: "adeyemi".into(),
            role: String::new(),
            purpose: "representation".into(),
            seat: 0,
        };
        let view = Oracle::read(&world).unwrap().view(&world, &lawyer, "Retrieve", "representation").unwrap();
        let allowed: Vec<Json> = serde_json::from_str(include_str!("../../examples/law-firm/allowed.json")).unwrap();
        let row = allowed.iter().find(|row| row["caller"]["id"] == "adeyemi" && row["purpose"] == "representation");
        let expected: Vec<&str> = row.unwrap()["allowed"].as_array().unwrap().iter().filter_map(Json::as_str).collect();
        let ids: Vec<&str> = view.permitted.iter().map(|at| world.records[*at].id.as_str()).collect();
        assert!(!ids.is_empty() && ids.iter().all(|id| expected.contains(id)));
        let known = |id: &&str| view.unsettled.iter().any(|at| world.records[*at].id == **id);
        assert!(expected.iter().all(|id| ids.contains(id) || known(id)));
        // most of what refers to a level of confidentiality is settled
        assert!(view.unsettled.len() < ids.len() / 2, "{} of {}", view.unsettled.len(), ids.len());
    }

    fn law_firm() -> World {
        let policies = ["administration", "grants", "prohibitions"]
            .map(|name| std::fs::read_to_string(format!("policies/law-firm/{name}.cedar")).unwrap());
        let given = crate::leaktest::world::Own {
            collection: "files".into(),
            rules: Some(Rules {
                schema: include_str!("../../policies/law-firm/wardkeep.cedarschema").into(),
                policies: policies.join("\n"),
                links: serde_json::from_str(include_str!("../../policies/law-firm/links.json")).unwrap(),
            }),
            entities: Some(include_str!("../../examples/law-firm/entities.json").into()),
            records: include_str!("../../examples/law-firm/records.ndjson").into(),
            callers: "[]".into(),
            subject: "client".into(),
            ..Default::default()
        };
        crate::leaktest::world::own(&given, |_| Ok(None)).unwrap().0
    }

    #[test]
    fn caps_are_those_of_the_permits_at_work_and_a_missing_patient_settles_nothing() {
        let mut world = hospital(300, 8, 5);
        let nurse = world.callers.iter().find(|c| c.role == "nurse").unwrap().clone();
        let view = Oracle::read(&world).unwrap().view(&world, &nurse, "Retrieve", "treatment").unwrap();
        assert_eq!((view.max_records, view.max_patients), (Some(20), None));
        let gone = world.records[view.permitted[0]].patient.clone().unwrap();
        world.entities.retain(|e| reference(&e["uid"]) != Some(("Patient", gone.as_str())));
        let after = Oracle::read(&world).unwrap().view(&world, &nurse, "Retrieve", "treatment").unwrap();
        assert!(!after.permitted.iter().any(|at| world.records[*at].patient.as_ref() == Some(&gone)));
        assert!(!after.unsettled.is_empty());
    }
}
