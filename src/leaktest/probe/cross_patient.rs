//! Questions that are hidden records' own vectors, near-duplicates of these, and text that names the patient.

use super::{Bench, Caller, LIMIT, Probe, Trouble, search};
use crate::leaktest::{
    measure,
    outcome::{Plot, Series},
    sight::Sight,
    target::{Ask, Request},
    world::Record,
};

pub(super) const PROBE: Probe = Probe {
    name: "cross-patient",
    title: "Cross-patient retrieval",
    about: "Each caller asks with the very vectors of records that they may not see, with near-duplicates at graded distances, and with text \
            that names the patient. Any hidden id, text (or part of one), document, patient, attribute, vector, score or count in an answer is a leak.",
    takes_s: [5.0, 60.0],
    work,
};

/// How far a question lies from the hidden record's vector.
const DISTANCES: [f64; 6] = [0.0, 0.01, 0.05, 0.1, 0.3, 1.0];

fn work(bench: &mut Bench<'_>) -> Result<(), Trouble> {
    let (most, each) = (bench.scale(16, usize::MAX), bench.scale(12, 300));
    let callers = bench.callers(most);
    bench.expect(callers.len() * (each * DISTANCES.len() + bench.world.named.len()));
    let mut leaked = [(0_u64, 0_u64); DISTANCES.len()];
    for caller in callers {
        let sight = bench.sight(&caller)?;
        let mut asked = Vec::new();
        let mut about = Vec::new();
        for at in bench.dice.some(&sight.view.forbidden, each) {
            for (step, distance) in DISTANCES.iter().enumerate() {
                let Some(record) = bench.record(at) else { continue };
                asked.push((caller.clone(), near(bench, &caller, record, *distance)));
                about.push((step, format!("search at distance {distance} from {}", record.id)));
            }
        }
        bench.ask_all(&asked, |bench, at, answer| {
            let (Some((_, request)), Some((step, detail))) = (asked.get(at), about.get(at)) else { return Ok(()) };
            let kinds = bench.told(&caller, &sight, answer, request)?;
            if let Some(tally) = leaked.get_mut(*step) {
                *tally = (tally.0 + 1, tally.1 + u64::from(!kinds.is_empty()));
            }
            bench.trial(&caller, &kinds, || detail.clone());
            Ok(())
        })?;
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

fn near(bench: &mut Bench<'_>, caller: &Caller, record: &Record, distance: f64) -> Request {
    let vector = bench.dice.near(&record.vector, distance);
    let mut request = search(caller, vector, LIMIT);
    // one in three is narrowed to the hidden record's own patient
    if bench.dice.one_in(3)
        && let Ask::Search(search) = &mut request.ask
    {
        search.patient.clone_from(&record.patient);
    }
    request
}

fn by_name(bench: &mut Bench<'_>, caller: &Caller, sight: &Sight) -> Result<(), Trouble> {
    let named: Vec<_> = bench.world.named.iter().filter(|(patient, _)| sight.hides_patient(patient)).collect();
    let asked: Vec<_> =
        named.iter().map(|(_, vector)| (caller.clone(), search(caller, vector.clone(), LIMIT))).collect();
    bench.ask_all(&asked, |bench, at, answer| {
        let (Some((_, request)), Some((patient, _))) = (asked.get(at), named.get(at)) else { return Ok(()) };
        let kinds = bench.told(caller, sight, answer, request)?;
        bench.trial(caller, &kinds, || format!("a question that names {patient}"));
        Ok(())
    })
}
