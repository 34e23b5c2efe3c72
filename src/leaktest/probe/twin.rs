//! The same store with and without the hidden records: answers must be the same to the byte.

use super::{Bench, Caller, Dice, Probe, Trouble, listing, read, search};
use crate::leaktest::{
    sight::Sight,
    target::{Ask, List, Request},
};

pub(super) const PROBE: Probe = Probe {
    name: "twin-worlds",
    title: "Twin worlds",
    about: "Two stores, one with all records and one with only those that the caller may see, are asked the same. Status, headers, size and every \
            byte of the body must be the same, but for the answer's own id and the times at which records came in.",
    takes_s: [10.0, 120.0],
    work,
};

fn work(bench: &mut Bench<'_>) -> Result<(), Trouble> {
    let (most, each) = (bench.scale(5, 16), bench.scale(120, 1_000));
    let callers = bench.callers(most);
    bench.expect(callers.len() * each * 2);
    for caller in callers {
        let sight = bench.sight(&caller)?;
        let mut twin = bench.twin(&sight)?;
        let made: Vec<_> = (0..each).map(|_| anything(bench, &caller, &sight)).collect();
        let (asked, told): (Vec<_>, Vec<_>) =
            made.into_iter().map(|(request, told)| ((caller.clone(), request), told)).unzip();
        bench.ask_both(twin.1.as_mut(), &asked, |bench, at, whole, bare| {
            let kinds: Vec<&str> = whole.bare().differs(&bare.bare()).into_iter().collect();
            bench.trial(&caller, &kinds, || {
                format!("{} tells the worlds apart", told.get(at).map_or("a request", String::as_str))
            });
            Ok(())
        })?;
        bench.keep(twin);
    }
    Ok(())
}

/// Some request, and what it is in words.
fn anything(bench: &mut Bench<'_>, caller: &Caller, sight: &Sight) -> (Request, String) {
    let mut dice = bench.dice.clone();
    let made = match dice.below(10) {
        0..=5 => question(bench, &mut dice, caller, sight),
        6 => one(bench, &mut dice, caller, sight),
        7 | 8 => some(bench, &mut dice, caller, sight),
        _ => misshapen(bench, &mut dice, caller),
    };
    bench.dice = dice;
    made
}

fn place<'a>(bench: &Bench<'a>, dice: &mut Dice, sight: &Sight) -> Option<&'a crate::leaktest::world::Record> {
    let from = if dice.one_in(3) { &sight.view.permitted } else { &sight.view.forbidden };
    let at = dice.pick(from)?;
    bench.record(*at)
}

fn question(bench: &Bench<'_>, dice: &mut Dice, caller: &Caller, sight: &Sight) -> (Request, String) {
    let record = place(bench, dice, sight);
    let vector = match record {
        Some(record) => dice.near(&record.vector, 0.3),
        None => dice.direction(bench.world.dimension),
    };
    let limits = [1, 5, 10, 10, 50, 1_000, 10_000];
    let mut request = search(caller, vector, dice.pick(&limits).copied().unwrap_or(10));
    let includes: [&[&str]; 5] =
        [&[], &["text"], &["attributes"], &["text", "vector"], &["text", "attributes", "provenance"]];
    if let Ask::Search(search) = &mut request.ask {
        search.include = dice.pick(&includes).map(|i| i.to_vec()).unwrap_or_default();
        if dice.one_in(4) {
            search.patient = record.and_then(|r| r.patient.clone());
        }
    }
    (request, format!("a search near {}", record.map_or("nothing", |r| &r.id)))
}

fn one(bench: &Bench<'_>, dice: &mut Dice, caller: &Caller, sight: &Sight) -> (Request, String) {
    let id = place(bench, dice, sight).map_or("none", |r| &r.id);
    (read(caller, id), format!("a read of {id}"))
}

fn some(bench: &Bench<'_>, dice: &mut Dice, caller: &Caller, sight: &Sight) -> (Request, String) {
    let record = place(bench, dice, sight);
    let mut list =
        List { limit: dice.pick(&[None, Some(1), Some(7), Some(1_000)]).copied().flatten(), ..List::default() };
    match dice.below(4) {
        0 => list.after = record.map(|r| r.id.clone()),
        1 => list.patient = record.and_then(|r| r.patient.clone()),
        2 => list.ids = Some((0..4).filter_map(|_| place(bench, dice, sight)).map(|r| r.id.clone()).collect()),
        _ => {}
    }
    if list.ids.as_ref().is_some_and(|ids| !ids.is_empty()) {
        list.limit = None;
    }
    (listing(caller, list), format!("a list at {}", record.map_or("nothing", |r| &r.id)))
}

/// A request with a fault: error texts are answers too.
fn misshapen(bench: &Bench<'_>, dice: &mut Dice, caller: &Caller) -> (Request, String) {
    let dimension = bench.world.dimension;
    let mut request = search(caller, dice.direction(dimension), 10);
    let fault = dice.below(5);
    if let Ask::Search(search) = &mut request.ask {
        match fault {
            0 => search.limit = 0,
            1 => search.limit = 10_001,
            2 => search.vector.push(0.5),
            3 => search.vector.fill(0.0),
            _ => search.include = vec!["everything"],
        }
    }
    (request, format!("a search with fault {fault}"))
}
