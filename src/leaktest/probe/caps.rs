//! The minimum necessary: whether limits, pages, several credentials or many small questions get past a caller's cap, and how far they reach.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::{Bench, Caller, Probe, Trouble, listing, search};
use crate::leaktest::{
    outcome::{Plot, Series},
    sight::Sight,
    target::{Answer, List, Request},
    world::reference,
};

pub(super) const PROBE: Probe = Probe {
    name: "cap-evasion",
    title: "Cap evasion and exposure",
    about: "Answers with more records or patients than the caller's permits allow in one answer are a leak. How many records and patients many \
            questions reach together is reported as exposure, and is a leak where it passes a bound on patients an hour that the store is said to have.",
    takes_s: [3.0, 20.0],
    work,
};

const HOUR_S: f64 = 3_600.0;

fn work(bench: &mut Bench<'_>) -> Result<(), Trouble> {
    let (most, each) = (bench.scale(10, usize::MAX), bench.scale(10, 100));
    let callers = bench.callers(most);
    bench.expect(callers.len() * (each + 3));
    let mut rows = Vec::new();
    for caller in callers {
        let (sight, listed) = (bench.sight(&caller)?, bench.sight_for(&caller, "Read", &caller.purpose)?);
        if sight.view.permitted.is_empty() {
            continue;
        }
        let asked: Vec<_> = (0..each).map(|n| small_question(bench, &caller, n)).collect();
        let mut reached = Reached::default();
        let began = std::time::Instant::now();
        bench.ask_all(&asked, |bench, _, answer| {
            reached.add(answer, bench);
            within(bench, &caller, &sight, answer, "search");
            Ok(())
        })?;
        let took_s = began.elapsed().as_secs_f64().max(1e-9);
        pages(bench, &caller, &listed)?;
        let (records, patients) = (reached.records.len(), reached.patients.len());
        bench.figure(
            format!("{} reached by {each} questions", caller.id),
            format!(
                "{records} of {} permitted records, {patients} patients; {:.0} such questions an hour from one client",
                sight.view.permitted.len(),
                each as f64 / took_s * HOUR_S
            ),
        );
        breadth(bench, &caller, patients as u64, took_s);
        rows.push(Series { label: caller.id.clone(), value: records as f64, interval: None });
    }
    if bench.plan.breadth.is_none() {
        bench.figure("bound on patients an hour", "none was named (--breadth)");
    }
    bench.plot(Plot {
        title: format!("Records reached by {each} questions, by caller"),
        unit: "records".into(),
        rows,
        mark: None,
    });
    Ok(())
}

/// One question, with one or the other of the caller's credentials.
fn small_question(bench: &mut Bench<'_>, caller: &Caller, n: usize) -> (Caller, Request) {
    let vector = bench.dice.direction(bench.world.dimension);
    let limit = bench.dice.pick(&[10, 100, 1_000, 10_000]).copied().unwrap_or(10);
    let who = Caller { seat: n % 2, ..caller.clone() };
    let request = search(&who, vector, limit);
    (who, request)
}

/// Holds what all questions together reached against the bound that the store is said to have.
fn breadth(bench: &mut Bench<'_>, caller: &Caller, patients: u64, took_s: f64) {
    let Some(most) = bench.plan.breadth else { return };
    // the bound of one hour; what was asked in longer is held against as many hours as it took
    let allowed = most.saturating_mul((took_s / HOUR_S).ceil().max(1.0) as u64);
    let kinds: &[&str] = if patients > allowed { &["breadth"] } else { &[] };
    bench.trial(caller, kinds, || {
        format!("{patients} patients reached by small questions, where {allowed} are allowed")
    });
}

#[derive(Default)]
struct Reached {
    records: BTreeSet<String>,
    patients: BTreeSet<String>,
}

impl Reached {
    fn add(&mut self, answer: &Answer, bench: &Bench<'_>) {
        self.patients.extend(patients(answer, bench));
        self.records.extend(answer.ids());
    }
}

/// Patients in an answer: as it names them, or as the world does.
fn patients(answer: &Answer, bench: &Bench<'_>) -> BTreeSet<String> {
    let named = |record: &Json| {
        let link = record.pointer("/attributes/patient").and_then(reference).map(|(_, id)| id.to_owned());
        let place = || bench.register().place(record.get("id")?.as_str()?);
        link.or_else(|| bench.record(place()?)?.patient.clone())
    };
    answer.records().iter().filter_map(named).collect()
}

fn within(bench: &mut Bench<'_>, caller: &Caller, sight: &Sight, answer: &Answer, what: &str) {
    let (records, patients) = (answer.ids().len() as u64, patients(answer, bench).len() as u64);
    let mut kinds = Vec::new();
    if sight.view.max_records.is_some_and(|most| records > most) {
        kinds.push("records past the cap");
    }
    if sight.view.max_patients.is_some_and(|most| patients > most) {
        kinds.push("patients past the cap");
    }
    bench.trial(caller, &kinds, || format!("{what}: {records} records of {patients} patients in one answer"));
}

fn pages(bench: &mut Bench<'_>, caller: &Caller, sight: &Sight) -> Result<(), Trouble> {
    let mut after = None;
    for _ in 0..3 {
        let list = List { after: after.clone(), limit: Some(1_000), ..List::default() };
        let answer = match bench.ask(caller, &listing(caller, list)) {
            Err(Trouble::Unable(why)) => {
                bench.skip(&why);
                return Ok(());
            }
            other => other?,
        };
        within(bench, caller, sight, &answer, "page of a list");
        after = answer.ids().pop();
        if after.is_none() {
            return Ok(());
        }
    }
    Ok(())
}
