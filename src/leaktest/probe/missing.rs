//! Entities that are taken away or were never stored: nothing may come to light by it.

use std::collections::BTreeSet;

use super::{Bench, Caller, LIMIT, Probe, Trouble, search};
use crate::leaktest::{
    sight::Sight,
    world::{Record, reference},
};

pub(super) const PROBE: Probe = Probe {
    name: "missing-entity",
    title: "Missing entities",
    about: "Patients, authors, teams and groups that prohibitions look at are deleted, and put back. A record that was hidden before and shows \
            while something is missing was protected only by what could be forgotten.",
    takes_s: [6.0, 60.0],
    work,
};

fn work(bench: &mut Bench<'_>) -> Result<(), Trouble> {
    bench.may_change()?;
    let (most, each) = (bench.scale(6, usize::MAX), bench.scale(4, 16));
    let callers = bench.callers(most);
    bench.expect(callers.len() * (each * 2 + 1) * 16);
    for caller in callers {
        let sight = bench.sight(&caller)?;
        for (ty, id) in candidates(bench, &caller, &sight, each) {
            let Some(entity) = bench.world.entity(&ty, &id).cloned() else { continue };
            bench.target.remove_entity(&ty, &id)?;
            bench.disturb();
            let asked = look(bench, &caller, &sight, &ty, &id);
            bench.target.put_entities(&[entity])?;
            asked?;
            bench.restored();
        }
    }
    Ok(())
}

/// What to take away: first patients of whom the caller sees something but not all, then other things that hidden records and the caller refer to.
fn candidates(bench: &mut Bench<'_>, caller: &Caller, sight: &Sight, most: usize) -> Vec<(String, String)> {
    let world = bench.world;
    let hidden: Vec<&Record> = sight.view.forbidden.iter().filter_map(|at| world.records.get(*at)).collect();
    let links = |r: &Record| -> Vec<(String, String)> {
        let fields = r.attributes.as_object().into_iter().flatten();
        fields.filter_map(|(_, v)| reference(v)).map(|(ty, id)| (ty.to_owned(), id.to_owned())).collect()
    };
    let shared = |r: &&&Record| r.patient.as_ref().is_some_and(|p| !sight.hides_patient(p));
    let own = world.entity(&caller.ty, &caller.id).and_then(|e| e.get("parents")?.as_array());
    let first: BTreeSet<_> = hidden.iter().filter(shared).flat_map(|r| links(r)).collect();
    let then: BTreeSet<_> = hidden.iter().take(200).flat_map(|r| links(r)).collect();
    let groups: Vec<_> =
        own.into_iter().flatten().filter_map(reference).map(|(ty, id)| (ty.to_owned(), id.to_owned())).collect();
    let mine = |(ty, id): &(String, String)| *ty == caller.ty && *id == caller.id;
    let first: Vec<_> = first.into_iter().filter(|one| !mine(one)).collect();
    let (patients, others): (Vec<_>, Vec<_>) = first.into_iter().partition(|(ty, _)| ty == "Patient");
    let then: Vec<_> = then.into_iter().filter(|one| !mine(one)).collect();
    let mut chosen = bench.dice.some(&patients, most);
    chosen.extend(bench.dice.some(&others, most / 2));
    chosen.extend(groups);
    chosen.extend(bench.dice.some(&then, most / 2));
    chosen
}

fn look(bench: &mut Bench<'_>, caller: &Caller, sight: &Sight, ty: &str, id: &str) -> Result<(), Trouble> {
    let refers =
        |r: &&Record| r.attributes.as_object().into_iter().flatten().any(|(_, v)| reference(v) == Some((ty, id)));
    let hidden = || sight.view.forbidden.iter().filter_map(|at| bench.world.records.get(*at));
    let mut near: Vec<&Record> = hidden().filter(refers).collect();
    if near.is_empty() {
        near = hidden().collect();
    }
    let chosen = bench.dice.some(&near, 8);
    let questions = |record: &&Record| {
        [search(caller, record.vector.clone(), LIMIT), super::read(caller, &record.id)]
            .map(|request| (caller.clone(), request))
    };
    let asked: Vec<_> = chosen.iter().flat_map(questions).collect();
    bench.ask_all(&asked, |bench, at, answer| {
        let (Some((_, request)), Some(record)) = (asked.get(at), chosen.get(at / 2)) else { return Ok(()) };
        let kinds = bench.told(caller, sight, answer, request)?;
        bench.trial(caller, &kinds, || format!("{} shows while {ty}::\"{id}\" is not stored", record.id));
        Ok(())
    })
}
