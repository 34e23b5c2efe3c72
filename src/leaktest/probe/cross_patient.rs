//! Questions that are hidden records' own vectors, near-duplicates of these, and text that names the patient.

use super::{Bench, Caller, LIMIT, Probe, Trouble, search};
use crate::leaktest::{
    bench::{Plot, Series},
    measure,
    sight::Sight,
    target::{Ask, Request},
};

pub(super) const PROBE: Probe = Probe {
    name: "cross-patient",
    title: "Cross-patient retrieval",
    about: "Each caller asks with the very vectors of records that they may not see, with near-duplicates at graded distances, and with text \
            that names the patient. Any hidden id, text or patient in an answer is a leak.",
    work,
};

/// How far a question lies from the hidden record's vector.
const DISTANCES: [f64; 6] = [0.0, 0.01, 0.05, 0.1, 0.3, 1.0];

fn work(bench: &mut Bench<'_>) -> Result<(), Trouble> {
    let (most, each) = (bench.scale(16, usize::MAX), bench.scale(12, 300));
    let mut leaked = [(0_u64, 0_u64); DISTANCES.len()];
    for caller in bench.callers(most) {
        let sight = bench.sight(&caller)?;
        for at in bench.dice.some(&sight.view.forbidden, each) {
            for (distance, tally) in DISTANCES.iter().zip(&mut leaked) {
                let told = near(bench, &caller, &sight, at, *distance)?;
                tally.0 += 1;
                tally.1 += u64::from(told);
            }
        }
        by_name(bench, &caller, &sight)?;
    }
    let rows = DISTANCES.iter().zip(leaked).map(|(distance, (asked, told))| {
        let interval = measure::rate(told, asked);
        let label = format!("distance {distance} ({asked} asked)");
        Series { label, value: told as f64 / asked.max(1) as f64, interval: Some((interval.low, interval.high)) }
    });
    let rows = rows.collect();
    let title = "Share of questions whose answer held something hidden, by distance from a hidden record".into();
    bench.plot(Plot { title, unit: "share of answers".into(), rows, mark: None });
    Ok(())
}

fn near(bench: &mut Bench<'_>, caller: &Caller, sight: &Sight, at: usize, distance: f64) -> Result<bool, Trouble> {
    let Some(record) = bench.record(at) else { return Ok(false) };
    let vector = bench.dice.near(&record.vector, distance);
    let mut request = search(caller, vector, LIMIT);
    // one in three is narrowed to the hidden record's own patient
    if bench.dice.one_in(3)
        && let Ask::Search(search) = &mut request.ask
    {
        search.patient.clone_from(&record.patient);
    }
    let detail = || format!("search at distance {distance} from {}", record.id);
    told(bench, caller, sight, &request, detail)
}

fn by_name(bench: &mut Bench<'_>, caller: &Caller, sight: &Sight) -> Result<(), Trouble> {
    for (patient, vector) in bench.world.named.iter().filter(|(p, _)| sight.hides_patient(p)) {
        let request = search(caller, vector.clone(), LIMIT);
        told(bench, caller, sight, &request, || format!("a question that names {patient}"))?;
    }
    Ok(())
}

fn told(
    bench: &mut Bench<'_>,
    caller: &Caller,
    sight: &Sight,
    request: &Request,
    detail: impl FnOnce() -> String,
) -> Result<bool, Trouble> {
    let answer = bench.ask(caller, request)?;
    let kinds = sight.told(&answer, request);
    bench.trial(caller, &kinds, detail);
    Ok(!kinds.is_empty())
}
