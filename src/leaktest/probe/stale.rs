//! Permissions that were withdrawn: an answer that begins after the withdrawal was acknowledged must obey it.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use serde_json::{Value as Json, json};

use super::{Bench, Caller, LIMIT, Probe, Trouble, search};
use crate::leaktest::{
    oracle::Oracle,
    sight::Sight,
    target::{Answer, Request, Target},
    world::{Record, World, reference},
};

pub(super) const PROBE: Probe = Probe {
    name: "stale-permission",
    title: "Stale permission",
    about: "A caller searches in a tight loop, from two sides where the target allows it, while an assignment, a role, a consent, a policy or the \
            credential is withdrawn. The first answer that begins after the acknowledgement must obey.",
    takes_s: [10.0, 120.0],
    work,
};

/// Searches before a withdrawal, so that whatever is cached is warm.
const WARM: usize = 3;
/// Searches after it.
const AFTER: usize = 4;

/// What is withdrawn.
struct Withdrawal<'a> {
    what: &'static str,
    caller: &'a Caller,
    /// What the caller may see afterwards; none: nothing, by no answer at all.
    sight: Option<Sight>,
    questions: Vec<Request>,
}

fn work(bench: &mut Bench<'_>) -> Result<(), Trouble> {
    bench.may_change()?;
    let (most, rounds) = (bench.scale(4, 12), bench.scale(2, 6));
    bench.expect(rounds * most * 70);
    for _ in 0..rounds {
        for caller in bench.callers(most) {
            let sight = bench.sight(&caller)?;
            let Some(at) = bench.dice.pick(&sight.view.permitted).copied() else { continue };
            let Some(record) = bench.record(at) else { continue };
            bench.disturb();
            assignment(bench, &caller, record)?;
            role(bench, &caller, record)?;
            consent(bench, &caller, &sight)?;
            policy(bench, &caller, record)?;
            credential(bench, &caller, record)?;
            bench.restored();
        }
    }
    Ok(())
}

fn skipped(bench: &mut Bench<'_>, what: &str, done: Result<(), Trouble>) -> Result<(), Trouble> {
    match done {
        Err(Trouble::Unable(why)) => {
            bench.skip(&format!("{what}: {why}"));
            Ok(())
        }
        other => other,
    }
}

/// The patient goes from every set of what the caller's entity refers to.
fn assignment(bench: &mut Bench<'_>, caller: &Caller, record: &Record) -> Result<(), Trouble> {
    let Some(patient) = &record.patient else { return Ok(()) };
    let world = bench.world;
    let own = world.entity(&caller.ty, &caller.id).cloned().unwrap_or_default();
    let mut links = Vec::new();
    linked(own.get("attrs").unwrap_or(&Json::Null), &mut links);
    for (ty, id) in links {
        let Some(before) = world.entity(&ty, &id) else { continue };
        let mut after = before.clone();
        if after.get_mut("attrs").is_some_and(|attrs| strike(attrs, patient)) {
            changed(bench, "an assignment", caller, record, before, after)?;
        }
    }
    Ok(())
}

fn role(bench: &mut Bench<'_>, caller: &Caller, record: &Record) -> Result<(), Trouble> {
    let Some(before) = bench.world.entity(&caller.ty, &caller.id) else { return Ok(()) };
    let mut after = before.clone();
    if let Some(parents) = after.get_mut("parents") {
        *parents = json!([]);
    }
    changed(bench, "a role", caller, record, before, after)
}

/// A yes of a patient becomes a no, where that hides something.
fn consent(bench: &mut Bench<'_>, caller: &Caller, sight: &Sight) -> Result<(), Trouble> {
    for at in bench.dice.some(&sight.view.permitted, 12) {
        let Some(record) = bench.record(at) else { continue };
        let Some((ty, id)) = record.attributes.get("patient").and_then(reference) else { continue };
        let Some(before) = bench.world.entity(ty, id) else { continue };
        let mut after = before.clone();
        let yes = after.get_mut("attrs").and_then(Json::as_object_mut);
        let Some((_, value)) =
            yes.and_then(|a| a.iter_mut().find(|(n, v)| n.contains("consent") && **v == json!(true)))
        else {
            continue;
        };
        *value = json!(false);
        if record.attributes.get("doc_type") == Some(&json!("substance_use")) {
            return changed(bench, "a consent", caller, record, before, after);
        }
    }
    Ok(())
}

fn changed(
    bench: &mut Bench<'_>,
    what: &'static str,
    caller: &Caller,
    record: &Record,
    before: &Json,
    after: Json,
) -> Result<(), Trouble> {
    let mut world = near_to(bench.world, caller, record);
    world.entities.iter_mut().filter(|e| e.get("uid") == after.get("uid")).for_each(|e| *e = after.clone());
    let view = Oracle::read(&world)?.view(&world, caller, "Retrieve", &caller.purpose)?;
    if view.forbidden.is_empty() {
        return Ok(());
    }
    let sight = Some(Sight::of_some(bench.register(), &world, &view));
    let withdrawal = Withdrawal { what, caller, sight, questions: questions(caller, record) };
    let done = withdrawal.watch(bench, |target| target.put_entities(std::slice::from_ref(&after)));
    bench.target.put_entities(std::slice::from_ref(before)).or_else(ignored)?;
    skipped(bench, what, done)
}

/// The world with this patient's records alone, and those entities that decisions on them can reach: what the oracle is asked anew about.
fn near_to(world: &World, caller: &Caller, record: &Record) -> World {
    let same = |r: &&Record| if record.patient.is_some() { r.patient == record.patient } else { r.id == record.id };
    let records: Vec<Record> = world.records.iter().filter(same).cloned().collect();
    World {
        name: String::new(),
        collection: world.collection.clone(),
        rules: world.rules.clone(),
        entities: within_reach(world, caller, &records),
        dimension: world.dimension,
        metric: world.metric,
        source_ip: world.source_ip.clone(),
        records,
        callers: Vec::new(),
        named: Vec::new(),
        matrix: None,
    }
}

/// Entities that the caller, these records or the policies name, and whatever these lead to.
fn within_reach(world: &World, caller: &Caller, records: &[Record]) -> Vec<Json> {
    let known: HashMap<(String, String), &Json> = world
        .entities
        .iter()
        .filter_map(|e| e.get("uid").and_then(reference).map(|(ty, id)| ((ty.to_owned(), id.to_owned()), e)))
        .collect();
    let mut next: Vec<(String, String)> = vec![(caller.ty.clone(), caller.id.clone())];
    let documents = records.iter().map(|r| format!("{}/{}", world.collection, r.document));
    next.extend(documents.map(|id| ("Document".to_owned(), id)));
    next.push(("Collection".to_owned(), world.collection.clone()));
    for record in records {
        [&record.attributes, &record.tags, &record.parents].into_iter().for_each(|part| linked(part, &mut next));
    }
    let rules = format!("{} {}", world.rules.policies, world.rules.links);
    let words: HashSet<&str> = rules.split('"').collect();
    next.extend(known.keys().filter(|(_, id)| words.contains(id.as_str())).cloned());
    let mut reached = HashMap::new();
    while let Some(uid) = next.pop() {
        let Some(entity) = known.get(&uid) else { continue };
        if reached.insert(uid, *entity).is_none() {
            for part in ["attrs", "parents", "tags"] {
                linked(entity.get(part).unwrap_or(&Json::Null), &mut next);
            }
        }
    }
    reached.into_values().cloned().collect()
}

fn ignored(trouble: Trouble) -> Result<(), Trouble> {
    match trouble {
        Trouble::Unable(_) => Ok(()),
        Trouble::Broken(why) => Err(Trouble::Broken(why)),
    }
}

fn policy(bench: &mut Bench<'_>, caller: &Caller, record: &Record) -> Result<(), Trouble> {
    let mut rules = bench.world.rules.clone();
    let forbid = format!(
        "\n@id(\"leaktest-withdrawn\") forbid (principal == {}::\"{}\", action in [Action::\"Retrieve\", Action::\"Read\"], resource);\n",
        caller.ty, caller.id
    );
    rules.policies.push_str(&forbid);
    let withdrawal = Withdrawal { what: "a policy", caller, sight: None, questions: questions(caller, record) };
    let done = withdrawal.watch(bench, |target| target.govern(&rules));
    bench.target.govern(&bench.world.rules).or_else(ignored)?;
    skipped(bench, "a policy", done)
}

fn credential(bench: &mut Bench<'_>, caller: &Caller, record: &Record) -> Result<(), Trouble> {
    // one of their own for this, so that what others use lives on
    let seated = Caller { seat: 9, ..caller.clone() };
    let withdrawal =
        Withdrawal { what: "a credential", caller: &seated, sight: None, questions: questions(caller, record) };
    let done = withdrawal.watch(bench, |target| target.withdraw(&seated));
    bench.target.reinstate(&seated).or_else(ignored)?;
    skipped(bench, "a credential", done)
}

fn questions(caller: &Caller, record: &Record) -> Vec<Request> {
    vec![search(caller, record.vector.clone(), LIMIT), super::read(caller, &record.id)]
}

fn linked(json: &Json, found: &mut Vec<(String, String)>) {
    match reference(json) {
        Some((ty, id)) => found.push((ty.to_owned(), id.to_owned())),
        None => match json {
            Json::Array(list) => list.iter().for_each(|item| linked(item, found)),
            Json::Object(fields) => fields.values().for_each(|item| linked(item, found)),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
        },
    }
}

/// Takes every reference to `id` out of the lists in `json`; says whether there was one.
fn strike(json: &mut Json, id: &str) -> bool {
    match json {
        Json::Array(list) => {
            let before = list.len();
            list.retain(|item| reference(item).is_none_or(|(_, one)| one != id));
            before > list.len()
        }
        Json::Object(fields) => fields.values_mut().filter_map(|value| strike(value, id).then_some(())).count() > 0,
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => false,
    }
}

impl Withdrawal<'_> {
    /// Asks, withdraws, asks again; and from a second side all the while.
    fn watch(
        &self,
        bench: &mut Bench<'_>,
        withdraw: impl FnOnce(&mut dyn Target) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        for _ in 0..WARM {
            for question in &self.questions {
                bench.ask(self.caller, question)?;
            }
        }
        let beside = bench.target.beside();
        if let Err(Trouble::Unable(why)) = &beside {
            bench.skip(why);
        }
        let (acknowledged, meanwhile) = self.meanwhile(bench, beside.ok(), withdraw)?;
        for (began, question, answer) in meanwhile {
            bench.count();
            if began >= acknowledged {
                self.obeyed(bench, question, &answer, "from another side")?;
            }
        }
        for _ in 0..AFTER {
            for question in &self.questions {
                let answer = bench.ask(self.caller, question)?;
                self.obeyed(bench, question, &answer, "next")?;
            }
        }
        Ok(())
    }

    #[allow(clippy::type_complexity, reason = "a moment, and what was asked and answered since")]
    fn meanwhile<'q>(
        &'q self,
        bench: &mut Bench<'_>,
        beside: Option<Box<dyn Target>>,
        withdraw: impl FnOnce(&mut dyn Target) -> Result<(), Trouble>,
    ) -> Result<(Instant, Vec<(Instant, &'q Request, Answer)>), Trouble> {
        let (over, warm) = (AtomicBool::new(false), AtomicBool::new(beside.is_none()));
        std::thread::scope(|scope| {
            let asking = beside.map(|mut target| {
                scope.spawn(|| {
                    let mut answers = Vec::new();
                    let mut last = false;
                    while !last {
                        // one more round after the end, so that some begin after the acknowledgement
                        last = over.load(Ordering::SeqCst);
                        for question in &self.questions {
                            let began = Instant::now();
                            if let Ok(answer) = target.answer(self.caller, question) {
                                answers.push((began, question, answer));
                            }
                        }
                        warm.store(true, Ordering::SeqCst);
                    }
                    drop(target);
                    answers
                })
            });
            while !warm.load(Ordering::SeqCst) && !asking.as_ref().is_some_and(|thread| thread.is_finished()) {
                std::thread::yield_now();
            }
            let done = withdraw(bench.target.as_mut());
            let acknowledged = Instant::now();
            over.store(true, Ordering::SeqCst);
            let answers = asking.and_then(|thread| thread.join().ok()).unwrap_or_default();
            done.map(|()| (acknowledged, answers))
        })
    }

    fn obeyed(&self, bench: &mut Bench<'_>, question: &Request, answer: &Answer, which: &str) -> Result<(), Trouble> {
        let kinds = match &self.sight {
            Some(sight) => bench.told(self.caller, sight, answer, question)?,
            None if answer.ids().is_empty() => Vec::new(),
            None => vec!["id"],
        };
        bench.trial(self.caller, &kinds, || format!("{} was withdrawn, and an answer {which} did not obey", self.what));
        Ok(())
    }
}
