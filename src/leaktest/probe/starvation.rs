//! Permitted records that are missing because hidden ones crowd them out.

use super::{Bench, Caller, LIMIT, Probe, Trouble, search};
use crate::leaktest::{
    measure,
    outcome::{Plot, Series},
    sight::Sight,
    target::Answer,
    world::Record,
};

pub(super) const PROBE: Probe = Probe {
    name: "starvation",
    title: "Starvation",
    about: "Questions where hidden records lie thickest. An answer that holds fewer records than the limit and the caller's rights allow was \
            crowded out; how often tells that hidden records are near. Recall is held against an exact scan of what is permitted.",
    takes_s: [3.0, 20.0],
    work,
};

fn work(bench: &mut Bench<'_>) -> Result<(), Trouble> {
    let (most, each) = (bench.scale(16, usize::MAX), bench.scale(20, 120));
    let callers = bench.callers(most);
    bench.expect(callers.len() * each);
    let mut rows = Vec::new();
    let mut all = Vec::new();
    for caller in callers {
        let sight = bench.sight(&caller)?;
        let expected = expected(&sight);
        if expected == 0 || sight.view.forbidden.is_empty() {
            continue;
        }
        let recalls = starved(bench, &caller, &sight, each, expected)?;
        if recalls.is_empty() {
            continue;
        }
        let mean = recalls.iter().sum::<f64>() / recalls.len() as f64;
        let label =
            format!("{} ({} of {} permitted)", caller.id, sight.view.permitted.len(), bench.world.records.len());
        rows.push(Series { label, value: mean, interval: Some((measure::quantile(&recalls, 0.0), 1.0)) });
        all.extend(recalls);
    }
    if !all.is_empty() {
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        bench.figure("recall of the nearest permitted, mean", format!("{mean:.4}"));
        bench.figure("the same, worst question", format!("{:.2}", measure::quantile(&all, 0.0)));
    }
    let title = "Recall against an exact scan of the permitted records, and the worst question, by caller".into();
    bench.plot(Plot { title, unit: "recall".into(), rows, mark: Some(1.0) });
    Ok(())
}

/// How many records an answer must hold.
fn expected(sight: &Sight) -> usize {
    let caps = [sight.view.max_records, sight.view.max_patients].into_iter().flatten();
    let least = caps.filter_map(|cap| usize::try_from(cap).ok()).min().unwrap_or(usize::MAX);
    sight.view.permitted.len().min(LIMIT).min(least)
}

/// Asks near `each` hidden records; recalls of the answers.
fn starved(
    bench: &mut Bench<'_>,
    caller: &Caller,
    sight: &Sight,
    each: usize,
    expected: usize,
) -> Result<Vec<f64>, Trouble> {
    let chosen: Vec<&Record> =
        bench.dice.some(&sight.view.forbidden, each).iter().filter_map(|at| bench.record(*at)).collect();
    let questions: Vec<Vec<f32>> = chosen.iter().map(|record| bench.dice.near(&record.vector, 0.02)).collect();
    let asked: Vec<_> = questions.iter().map(|q| (caller.clone(), search(caller, q.clone(), LIMIT))).collect();
    let mut recalls = Vec::new();
    bench.ask_all(&asked, |bench, at, answer| {
        let (Some(record), Some(question)) = (chosen.get(at), questions.get(at)) else { return Ok(()) };
        let got = answer.ids().len();
        let kinds: &[&str] = if answer.status == 200 && got < expected { &["count"] } else { &[] };
        bench.trial(caller, kinds, || format!("{got} records instead of {expected}, near {}", record.id));
        if answer.status == 200 {
            recalls.push(recall(bench, sight, question, answer, expected));
        }
        Ok(())
    })?;
    Ok(recalls)
}

/// The share of the answer that an exact scan would have found as near.
fn recall(bench: &Bench<'_>, sight: &Sight, question: &[f32], answer: &Answer, wanted: usize) -> f64 {
    let score = |vector: &[f32]| bench.world.metric.score(vector, question);
    let permitted = || sight.view.permitted.iter().filter_map(|at| bench.record(*at));
    let mut scores: Vec<f64> = permitted().map(|r| score(&r.vector)).collect();
    let Some(last) = wanted.checked_sub(1).filter(|last| *last < scores.len()) else { return 1.0 };
    let least = *scores.select_nth_unstable_by(last, |a, b| b.total_cmp(a)).1;
    let returned: Vec<usize> = answer.ids().iter().filter_map(|id| bench.register().place(id)).collect();
    let near = |at: &&usize| bench.record(**at).is_some_and(|r| score(&r.vector) >= least - 1e-6);
    let found = returned.iter().filter(near).filter(|at| sight.view.permitted.binary_search(at).is_ok()).count();
    (found as f64 / wanted as f64).min(1.0)
}
