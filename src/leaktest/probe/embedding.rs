//! What of embeddings a caller can obtain: vectors without the right to them, and scores that move with a hidden neighbour.

use serde_json::Value as Json;

use super::{Bench, Caller, LIMIT, Probe, Trouble, listing, read, search};
use crate::leaktest::{
    measure,
    outcome::{Plot, Series},
    target::{Answer, Ask, List, Request},
    world::Record,
};

pub(super) const PROBE: Probe = Probe {
    name: "embedding",
    title: "Embedding exposure",
    about: "Vectors are asked for with every search: one that comes without the right to it can be inverted to text. And an attacker guesses \
            from the scores of an answer whether a hidden record lies near the question: the area under the curve of the best guess, 0.5 is none.",
    takes_s: [6.0, 60.0],
    work,
};

fn work(bench: &mut Bench<'_>) -> Result<(), Trouble> {
    let (most, each) = (bench.scale(10, usize::MAX), bench.scale(10, 60));
    let callers = bench.callers(most);
    let (twins, near) = (bench.scale(3, 8), bench.scale(60, 300));
    bench.expect(callers.len() * each * 4 + twins * near * 2);
    for caller in callers {
        exposed(bench, &caller, each)?;
    }
    located(bench, twins, near)
}

fn exposed(bench: &mut Bench<'_>, caller: &Caller, each: usize) -> Result<(), Trouble> {
    let sight = bench.sight(caller)?;
    let chosen: Vec<_> =
        bench.dice.some(&sight.view.permitted, each).iter().filter_map(|at| bench.record(*at)).collect();
    let asked: Vec<_> = chosen.iter().flat_map(|record| ways(caller, record)).map(|r| (caller.clone(), r)).collect();
    bench.ask_all(&asked, |bench, at, answer| {
        let Some((_, request)) = asked.get(at) else { return Ok(()) };
        let dimension = bench.world.dimension;
        let shown: Vec<Json> = answer.records().into_iter().filter(|r| holds_vector(r, dimension)).collect();
        let mut unearned = 0;
        for id in shown.iter().filter_map(|r| r.get("id").and_then(Json::as_str)) {
            if let Some(at) = bench.register().place(id) {
                unearned += usize::from(bench.hidden(caller, "ReadVector", &caller.purpose, at)?);
            }
        }
        let kinds: &[&str] = if unearned > 0 { &["vector"] } else { &[] };
        let how = match &request.ask {
            Ask::Search(_) => "a search",
            Ask::Read(_) => "a read",
            Ask::List(_) => "a list",
            Ask::Put(_) | Ask::Erase(_) => "a write",
        };
        bench.trial(caller, kinds, || format!("{unearned} vectors without the right to them, by {how}"));
        Ok(())
    })
}

/// Requests that show a record, and may show its vector.
fn ways(caller: &Caller, record: &Record) -> Vec<Request> {
    let with = |include: &[&'static str]| {
        let mut request = search(caller, record.vector.clone(), LIMIT);
        if let Ask::Search(search) = &mut request.ask {
            search.include = include.to_vec();
        }
        request
    };
    let list = List { ids: Some(vec![record.id.clone()]), ..List::default() };
    vec![with(&["text", "vector"]), with(&[]), read(caller, &record.id), listing(caller, list)]
}

/// Whether there is something of a vector's length, under whatever name.
fn holds_vector(json: &Json, dimension: usize) -> bool {
    use base64::Engine as _;
    match json {
        Json::Array(list) if list.len() == dimension && list.iter().all(Json::is_number) => true,
        Json::Array(list) => list.iter().any(|item| holds_vector(item, dimension)),
        Json::Object(fields) => fields.values().any(|item| holds_vector(item, dimension)),
        Json::String(text) => {
            text.len() >= dimension * 4
                && base64::engine::general_purpose::STANDARD.decode(text).is_ok_and(|b| b.len() == dimension * 4)
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => false,
    }
}

/// Guesses by scores, in twin worlds, whether a hidden record lies near.
fn located(bench: &mut Bench<'_>, most: usize, each: usize) -> Result<(), Trouble> {
    let mut rows = Vec::new();
    for caller in bench.callers(most) {
        let sight = bench.sight(&caller)?;
        if sight.view.permitted.is_empty() || sight.view.forbidden.is_empty() {
            continue;
        }
        let mut twin = match bench.twin(&sight) {
            Err(Trouble::Unable(why)) => {
                bench.skip(&why);
                return Ok(());
            }
            other => other?,
        };
        let chosen: Vec<_> =
            bench.dice.some(&sight.view.forbidden, each).iter().filter_map(|at| bench.record(*at)).collect();
        let asked: Vec<_> =
            chosen.iter().map(|record| (caller.clone(), search(&caller, record.vector.clone(), LIMIT))).collect();
        let (mut near, mut far) = (Vec::new(), Vec::new());
        bench.ask_both(twin.1.as_mut(), &asked, |bench, at, whole, bare| {
            let kinds: &[&str] = if scores(whole) == scores(bare) { &[] } else { &["score"] };
            let detail = || format!("scores move with {}", chosen.get(at).map_or("a record", |r| &r.id));
            bench.trial(&caller, kinds, detail);
            near.push(scores(whole));
            far.push(scores(bare));
            Ok(())
        })?;
        bench.keep(twin);
        let (value, guess) = best_guess(&near, &far);
        rows.push(Series { label: format!("{} (by {guess})", caller.id), value, interval: None });
    }
    let title = "Best guess from scores alone whether a hidden record lies near, by caller".into();
    bench.plot(Plot { title, unit: "area under the curve".into(), rows, mark: Some(0.5) });
    Ok(())
}

fn scores(answer: &Answer) -> Vec<f64> {
    answer.records().iter().filter_map(|r| r.get("score")?.as_f64()).collect()
}

type Statistic = fn(&Vec<f64>) -> f64;

/// The strongest of some simple statistics.
fn best_guess(near: &[Vec<f64>], far: &[Vec<f64>]) -> (f64, &'static str) {
    let statistics: [(&str, Statistic); 4] = [
        ("best score", |s| s.first().copied().unwrap_or(0.0)),
        ("last score", |s| s.last().copied().unwrap_or(0.0)),
        ("sum", |s| s.iter().sum()),
        ("count", |s| s.len() as f64),
    ];
    let areas = statistics.map(|(name, of)| {
        let area = measure::auc(&near.iter().map(of).collect::<Vec<_>>(), &far.iter().map(of).collect::<Vec<_>>());
        (area.max(1.0 - area), name)
    });
    areas.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.5, "nothing"))
}
