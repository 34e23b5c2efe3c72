//! Cedar's public integration tests against `plan` and `decide`: every entity of a test becomes a record, and every request is asked
//! of all of them, as Cedar alone would decide and as we do. The tests lie in a directory that `WARDKEEP_CEDAR_CORPUS` names.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use cedar_policy::{Context, Entities, Entity as CedarEntity, PolicySet, Schema, ValidationMode, Validator};
use serde::Deserialize;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::{
    model::{Action, BundleSource, Entity, EntityUid, Slot, Value},
    policy::{
        Bundle, Columns, Directory, Inquiry, Part, bounds, compile, convert,
        oracle::{Judgement, Oracle, World},
        places::Places,
        slices::Slices,
    },
};

#[derive(Deserialize)]
struct Test {
    schema: PathBuf,
    policies: PathBuf,
    entities: PathBuf,
    requests: Vec<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    principal: EntityUid,
    action: EntityUid,
    resource: EntityUid,
    context: Json,
    decision: String,
}

/// What a run found, under one kind of semantics.
#[derive(Default)]
struct Found {
    pairs: u64,
    allowed: u64,
    left_to_cedar: u64,
    wrong: Vec<String>,
}

#[derive(Default)]
struct Report {
    tests: u64,
    /// Of the tests: those whose policies strict validation would refuse.
    invalid: u64,
    requests: u64,
    /// Requests about an entity of the test, whose recorded decision is compared too.
    recorded: u64,
    plain: Found,
    ours: Found,
    /// Why, with the first test of each kind.
    skipped: BTreeMap<&'static str, (u64, String)>,
}

#[test]
fn cedar_corpus() {
    let Some(root) = std::env::var_os("WARDKEEP_CEDAR_CORPUS").map(PathBuf::from) else {
        println!(
            "skipped: WARDKEEP_CEDAR_CORPUS names no directory with the tests of cedar-policy/cedar-integration-tests"
        );
        return;
    };
    let mut report = Report::default();
    for path in tests_in(&root) {
        if let Err(why) = stacker::grow(256 << 20, || run(&root, &path, &mut report)) {
            report.skip(why, &path);
        }
    }
    report.print();
    assert!(report.tests > 0, "no tests in {}", root.display());
    assert!(report.plain.wrong.is_empty() && report.ours.wrong.is_empty());
}

/// `corpus-tests/*.json` and all of `tests/`, in order.
fn tests_in(root: &Path) -> Vec<PathBuf> {
    let mut open = vec![root.join("corpus-tests"), root.join("tests")];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                open.push(path);
            } else if name.ends_with(".json") && !name.ends_with(".entities.json") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// One test, all its requests.
fn run(root: &Path, path: &Path, report: &mut Report) -> Result<(), &'static str> {
    let read = |path: &Path| fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let test: Test = serde_json::from_str(&read(path)).map_err(|_| "the test is not understood")?;
    let (schema_text, policies) = (read(&test.schema), read(&test.policies));
    bounds::check(&policies, Part::Policies).map_err(|_| "the policies are beyond the product's bounds")?;
    bounds::check(&schema_text, Part::Schema).map_err(|_| "the schema is beyond the product's bounds")?;
    let source = BundleSource { schema: schema_text, policies, ..BundleSource::default() };
    let (schema, ..) = compile::schema(&Places::new(&source)).map_err(|_| "the schema is not understood")?;
    let set: PolicySet = source.policies.parse().map_err(|_| "Cedar does not read the policies")?;
    let entities = entities(&read(&test.entities), &schema)?;
    let mut directory = Directory::new();
    entities.iter().for_each(|entity| drop(directory.upsert(entity.clone())));
    let mut columns = Columns::new();
    entities.iter().enumerate().for_each(|(slot, entity)| columns.insert(Slot(slot as u32), entity));
    let valid = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict).validation_passed();
    report.tests += 1;
    report.invalid += u64::from(!valid);
    let ward = Ward { name: path.display().to_string(), entities, directory, columns };
    let mut oracle: Option<(Oracle, HashMap<EntityUid, CedarEntity>)> = None;
    let mut bundles: HashMap<EntityUid, [Bundle; 2]> = HashMap::new();
    for asked in &test.requests {
        if !bundles.contains_key(&asked.action) {
            let of = |plain| bundle(&source, &set, &asked.action, plain, &ward.name);
            let both = of(true).and_then(|plain| Ok([plain, of(false)?]));
            let refused = |why| if valid { why } else { "strict validation refuses the policies, and so do we" };
            bundles.insert(asked.action.clone(), both.map_err(refused)?);
        }
        let [plain, ours] = &bundles[&asked.action];
        let (oracle, stored) = oracle.get_or_insert_with(|| {
            let oracle = Oracle::of(set.clone(), ours);
            let stored = oracle.stored(&ward.directory);
            (oracle, stored)
        });
        let Some(inquiry) = inquiry(asked, &schema) else {
            report.skip("requests: the context is not understood", path);
            continue;
        };
        let worlds: Vec<World<'_>> =
            ward.entities.iter().map(|entity| oracle.world(entity, stored, &ward.directory)).collect();
        let judged: Vec<Judgement> = worlds.iter().map(|world| oracle.judge(&inquiry, world)).collect();
        report.requests += 1;
        let own = ward.entities.iter().position(|entity| entity.uid == asked.resource);
        if let Some(own) = own {
            report.recorded += 1;
            if judged[own].plain != (asked.decision == "allow") {
                report.plain.wrong.push(format!("{}: the oracle is not Cedar", ward.name));
            }
        }
        report.plain.compare(plain, &inquiry, &ward, judged.iter().map(|judgement| judgement.plain));
        report.ours.compare(ours, &inquiry, &ward, judged.iter().map(Judgement::allows));
    }
    Ok(())
}

/// A test's entities, each a record and stored.
struct Ward {
    name: String,
    entities: Vec<Entity>,
    directory: Directory,
    columns: Columns,
}

impl Found {
    fn compare(&mut self, bundle: &Bundle, inquiry: &Inquiry, ward: &Ward, expected: impl Iterator<Item = bool>) {
        let scope = bundle.plan(inquiry, &ward.columns, &ward.directory);
        let verdicts = bundle.decide_many(inquiry, &ward.entities, &ward.directory);
        for ((slot, verdict), expected) in verdicts.iter().enumerate().zip(expected) {
            let (allowed, asked) = (scope.allowed.contains(slot as u32), scope.ask.contains(slot as u32));
            self.pairs += 1;
            self.allowed += u64::from(expected);
            self.left_to_cedar += u64::from(asked);
            let planned = if asked { expected } else { allowed };
            if verdict.is_allow() != expected || planned != expected {
                let uid = &ward.entities[slot].uid;
                self.wrong.push(format!(
                    "{}: {:?} {:?} {uid:?}: expected {expected}, planned {allowed} (asked {asked}), decided {verdict:?}",
                    ward.name,
                    inquiry.principal(),
                    inquiry.action_uid()
                ));
            }
        }
    }
}

fn entities(text: &str, schema: &Schema) -> Result<Vec<Entity>, &'static str> {
    let all = Entities::from_json_str(text, Some(schema)).map_err(|_| "Cedar does not read the entities")?;
    let is_action = |uid: &EntityUid| uid.ty.as_ref() == "Action" || uid.ty.ends_with("::Action");
    let entities: Option<Vec<Entity>> = all.iter().map(entity).collect();
    Ok(entities.ok_or("an entity is not understood")?.into_iter().filter(|e| !is_action(&e.uid)).collect())
}

fn entity(cedar: &CedarEntity) -> Option<Entity> {
    let json = cedar.to_json_value().ok()?;
    let fields = |part: &str| match json.get(part).map(Value::from_json) {
        None => Some(Default::default()),
        Some(Some(Value::Record(fields))) => Some(fields),
        Some(_) => None,
    };
    let parents = json.get("parents").cloned().map(serde_json::from_value::<Vec<EntityUid>>);
    Some(Entity {
        uid: convert::from_uid(&cedar.uid()),
        attrs: fields("attrs")?,
        tags: fields("tags")?,
        parents: parents?.ok()?.into_iter().collect(),
    })
}

fn inquiry(asked: &Asked, schema: &Schema) -> Option<Inquiry> {
    let action = convert::uid(&asked.action)?;
    let context = Context::from_json_value(asked.context.clone(), Some((schema, &action))).ok()?;
    // a context has no JSON form of its own: an entity's attributes have
    let holder = CedarEntity::new(action, context.into_iter().collect(), HashSet::new()).ok()?;
    let context = Value::Record(entity(&holder)?.attrs);
    Inquiry::foreign(asked.principal.clone(), asked.action.clone(), context)
}

/// The test's policies and schema, though it is not one that the product would take: the action stands for `Retrieve`.
fn bundle(
    source: &BundleSource,
    set: &PolicySet,
    action: &EntityUid,
    plain: bool,
    name: &str,
) -> Result<Bundle, &'static str> {
    let places = Places::new(source);
    let (schema, facts, _) = compile::schema(&places).map_err(|_| "the schema is not understood")?;
    let actions = BTreeMap::from([(Action::Retrieve, compile::Reach::of(&schema, action.clone()))]);
    let policies = set.policies().map(|policy| compile::policy_of(policy, set, &actions, &places));
    let policies: Vec<_> =
        policies.collect::<Result<_, _>>().map_err(|_| "a policy has a form that is not understood")?;
    let digest: [u8; 32] = Sha256::digest(format!("{name} {action:?} {} {plain}", action.id)).into();
    Ok(Bundle {
        digest,
        ground: digest,
        slices: Slices::new(&schema, &policies),
        templates: vec![],
        annotations: BTreeMap::new(),
        places,
        names: policies.iter().map(|policy| (policy.cedar.id().clone(), policy.name.clone())).collect(),
        schema,
        facts,
        policies,
        notes: vec![],
        dead_links: vec![],
        review: OnceLock::new(),
        plain,
    })
}

impl Report {
    fn skip(&mut self, why: &'static str, path: &Path) {
        self.skipped.entry(why).or_insert_with(|| (0, path.display().to_string())).0 += 1;
    }

    fn print(&self) {
        let mut table = comfy_table::Table::new();
        table.set_header(["", "as Cedar alone", "as Wardkeep"]);
        let row = |of: fn(&Found) -> u64| [of(&self.plain).to_string(), of(&self.ours).to_string()];
        for (name, [plain, ours]) in [
            ("pairs of request and record", row(|found| found.pairs)),
            ("allowed", row(|found| found.allowed)),
            ("left to Cedar", row(|found| found.left_to_cedar)),
            ("wrong", row(|found| found.wrong.len() as u64)),
        ] {
            table.add_row([name.to_owned(), plain, ours]);
        }
        println!(
            "{} tests ({} of them not valid in strict mode), {} requests ({} with a recorded decision about a stored entity)",
            self.tests, self.invalid, self.requests, self.recorded
        );
        println!("{table}");
        for (why, (n, first)) in &self.skipped {
            println!("skipped: {n} {why}, first {first}");
        }
        self.plain.wrong.iter().chain(&self.ours.wrong).take(20).for_each(|wrong| println!("wrong: {wrong}"));
    }
}
