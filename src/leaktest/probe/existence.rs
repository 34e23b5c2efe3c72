//! Whether what exists but is hidden can be told from what does not exist.

use super::{Bench, Caller, LIMIT, Probe, Trouble, absent_id, listing, read, search};
use crate::leaktest::{
    sight::Sight,
    target::{Ask, List, Request},
    world::Record,
};

pub(super) const PROBE: Probe = Probe {
    name: "existence",
    title: "Existence",
    about: "The same request about a record, or patient, that exists but is hidden and about one that does not exist: reads, lists, searches \
            narrowed to a patient, and writes and erasures that the caller has no right to. Both answers must be the same to the byte but for the id asked about.",
    work,
};

fn work(bench: &mut Bench<'_>) -> Result<(), Trouble> {
    let (most, each) = (bench.scale(12, usize::MAX), bench.scale(10, 60));
    for caller in bench.callers(most) {
        let sight = bench.sight_for(&caller, "Read", &caller.purpose)?;
        for at in bench.dice.some(&sight.view.forbidden, each) {
            let Some(record) = bench.record(at) else { continue };
            about_record(bench, &caller, &sight, record)?;
            about_patient(bench, &caller, record)?;
        }
    }
    Ok(())
}

type About<'a> = &'a dyn Fn(&str) -> Request;

fn about_record(bench: &mut Bench<'_>, caller: &Caller, sight: &Sight, record: &Record) -> Result<(), Trouble> {
    let absent = absent_id(bench.world, &record.id, &mut bench.dice);
    let own = sight.view.permitted.first().and_then(|at| bench.record(*at)).map(|r| r.id.clone());
    let ids = |id: &str| own.iter().cloned().chain([id.to_owned()]).collect::<Vec<_>>();
    let written = |id: &str| {
        let mut line = record.line();
        if let Some(fields) = line.as_object_mut() {
            fields.insert("id".into(), id.into());
        }
        line
    };
    let requests: [(&str, About<'_>); 5] = [
        ("read", &|id| read(caller, id)),
        ("list of it", &|id| listing(caller, List { ids: Some(vec![id.to_owned()]), ..List::default() })),
        ("list of it and of one's own", &|id| listing(caller, List { ids: Some(ids(id)), ..List::default() })),
        ("erasure", &|id| Request::new(Ask::Erase(vec![id.to_owned()]), &caller.purpose)),
        ("write", &|id| Request::new(Ask::Put(vec![written(id)]), &caller.purpose)),
    ];
    // a write that were taken would change somebody's own store
    let harmless = if bench.plan.live { 3 } else { requests.len() };
    for (what, request) in requests.into_iter().take(harmless) {
        compare(bench, caller, what, [(&record.id, request(&record.id)), (&absent, request(&absent))])?;
    }
    Ok(())
}

fn about_patient(bench: &mut Bench<'_>, caller: &Caller, record: &Record) -> Result<(), Trouble> {
    let Some(patient) = &record.patient else { return Ok(()) };
    if !bench.sight(caller)?.hides_patient(patient)
        || !bench.sight_for(caller, "Read", &caller.purpose)?.hides_patient(patient)
    {
        return Ok(());
    }
    let absent = absent_id(bench.world, patient, &mut bench.dice);
    let narrowed = |id: &str| {
        let mut request = search(caller, record.vector.clone(), LIMIT);
        if let Ask::Search(search) = &mut request.ask {
            search.patient = Some(id.to_owned());
        }
        request
    };
    let listed = |id: &str| listing(caller, List { patient: Some(id.to_owned()), ..List::default() });
    compare(bench, caller, "search for the patient", [(patient, narrowed(patient)), (&absent, narrowed(&absent))])?;
    compare(bench, caller, "list of the patient", [(patient, listed(patient)), (&absent, listed(&absent))])
}

fn compare(bench: &mut Bench<'_>, caller: &Caller, what: &str, pair: [(&str, Request); 2]) -> Result<(), Trouble> {
    let [(hidden, of_hidden), (absent, of_absent)] = pair;
    let mut both = Vec::new();
    for (id, request) in [(hidden, of_hidden), (absent, of_absent)] {
        match bench.ask(caller, &request) {
            Ok(answer) => both.push(answer.bare().without(id)),
            Err(Trouble::Unable(why)) => {
                bench.skip(&format!("{what}: {why}"));
                return Ok(());
            }
            Err(broken) => return Err(broken),
        }
    }
    let differs = both.first().zip(both.last()).and_then(|(a, b)| a.differs(b));
    let kinds: Vec<&str> = differs.into_iter().collect();
    if !kinds.is_empty() {
        // a write that was taken has changed the store
        bench.disturb();
    }
    bench.trial(caller, &kinds, || format!("{what}: {hidden} can be told from an id that no record has"));
    Ok(())
}
