//! The minimum necessary: whether limits, pages, several credentials or many small questions get past a caller's cap, and how far they reach.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::{Bench, Caller, Probe, Trouble, listing, search};
use crate::leaktest::{
    bench::{Plot, Series},
    sight::Sight,
    target::{Answer, List},
    world::reference,
};

pub(super) const PROBE: Probe = Probe {
    name: "cap-evasion",
    title: "Cap evasion and exposure",
    about: "Answers with more records or patients than the caller's permits allow in one answer are a leak. How many records and patients many \
            questions reach together is reported as exposure; one answer is what a cap bounds.",
    work,
};

fn work(bench: &mut Bench<'_>) -> Result<(), Trouble> {
    let (most, each) = (bench.scale(10, usize::MAX), bench.scale(10, 100));
    let mut rows = Vec::new();
    for caller in bench.callers(most) {
        let (sight, listed) = (bench.sight(&caller)?, bench.sight_for(&caller, "Read", &caller.purpose)?);
        if sight.view.permitted.is_empty() {
            continue;
        }
        let mut reached = Reached::default();
        let began = std::time::Instant::now();
        for n in 0..each {
            let vector = bench.dice.direction(bench.world.dimension);
            let limit = bench.dice.pick(&[10, 100, 1_000, 10_000]).copied().unwrap_or(10);
            let who = Caller { seat: n % 2, ..caller.clone() };
            let answer = match bench.ask(&who, &search(&who, vector, limit)) {
                // a second credential cannot always be had
                Err(Trouble::Unable(why)) if who.seat > 0 => {
                    bench.skip(&why);
                    continue;
                }
                other => other?,
            };
            reached.add(&answer, bench);
            within(bench, &caller, &sight, &answer, "search");
        }
        let per_hour = each as f64 / began.elapsed().as_secs_f64().max(1e-9) * 3_600.0;
        pages(bench, &caller, &listed)?;
        let (records, patients) = (reached.records.len(), reached.patients.len());
        bench.figure(
            format!("{} reached by {each} questions", caller.id),
            format!("{records} of {} permitted records, {patients} patients; {per_hour:.0} such questions an hour from one client", sight.view.permitted.len()),
        );
        rows.push(Series { label: caller.id.clone(), value: records as f64, interval: None });
    }
    bench.plot(Plot {
        title: format!("Records reached by {each} questions, by caller"),
        unit: "records".into(),
        rows,
        mark: None,
    });
    Ok(())
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
        let id = record.get("id").and_then(Json::as_str);
        link.or_else(|| bench.world.records.iter().find(|r| Some(r.id.as_str()) == id)?.patient.clone())
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
