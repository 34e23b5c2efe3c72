//! Whether what exists but is hidden can be told from what does not exist.

use super::{Bench, Caller, LIMIT, Probe, Trouble, listing, read, search};
use crate::leaktest::{
    target::{Ask, List, Request},
    world::Record,
};

pub(super) const PROBE: Probe = Probe {
    name: "existence",
    title: "Existence",
    about: "The same request about a record, or patient, that exists but is hidden and about one that does not exist: reads, lists, searches \
            narrowed to a patient, and (but on a store in use) writes and erasures that the caller has no right to. Both answers must be the same to the byte but for the id asked about.",
    takes_s: [4.0, 40.0],
    work,
};

/// Two requests that must be answered alike, and the ids that they are about.
struct Pair {
    what: &'static str,
    ids: [String; 2],
    requests: [Request; 2],
}

fn work(bench: &mut Bench<'_>) -> Result<(), Trouble> {
    let (most, each) = (bench.scale(12, usize::MAX), bench.scale(10, 60));
    let callers = bench.callers(most);
    bench.expect(callers.len() * each * 18);
    for caller in callers {
        let mut pairs = Vec::new();
        let own = own(bench, &caller)?;
        for at in bench.some_hidden(&caller, "Read", each)? {
            let Some(record) = bench.record(at) else { continue };
            about_record(bench, &caller, own.as_deref(), record, &mut pairs);
            about_patient(bench, &caller, record, &mut pairs)?;
            otherwise(bench, &caller, &record.id)?;
        }
        compare(bench, &caller, &pairs)?;
    }
    Ok(())
}

/// Some record that the caller may read.
fn own(bench: &Bench<'_>, caller: &Caller) -> Result<Option<String>, Trouble> {
    for (at, record) in bench.world.records.iter().enumerate() {
        if !bench.hidden(caller, "Read", &caller.purpose, at)? {
            return Ok(Some(record.id.clone()));
        }
    }
    Ok(None)
}

/// Reads of a hidden id in other writings, which nobody may take for it.
fn otherwise(bench: &mut Bench<'_>, caller: &Caller, id: &str) -> Result<(), Trouble> {
    let written = [id.to_uppercase(), id.to_lowercase(), format!("{id} "), format!(" {id}"), format!("./{id}")];
    let asked: Vec<_> =
        written.iter().filter(|other| *other != id).map(|other| (caller.clone(), read(caller, other))).collect();
    bench.ask_all(&asked, |bench, at, answer| {
        let Some((_, request)) = asked.get(at) else { return Ok(()) };
        let kinds = bench.told_of(caller, "Read", &caller.purpose, answer, request)?;
        bench.trial(caller, &kinds, || format!("read of {id} in another writing"));
        Ok(())
    })
}

type About<'a> = &'a dyn Fn(&str) -> Request;

fn pair(what: &'static str, hidden: &str, absent: &str, request: About<'_>) -> Pair {
    let ids = [hidden.to_owned(), absent.to_owned()];
    Pair { what, requests: [request(hidden), request(absent)], ids }
}

fn about_record(bench: &mut Bench<'_>, caller: &Caller, own: Option<&str>, record: &Record, pairs: &mut Vec<Pair>) {
    let absent = bench.absent_id(&record.id);
    let ids = |id: &str| own.into_iter().chain([id]).map(str::to_owned).collect::<Vec<_>>();
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
    if bench.plan.live {
        bench.skip("writes and erasures: one that were taken would change a store in use");
    }
    pairs.extend(requests.into_iter().take(harmless).map(|(what, request)| pair(what, &record.id, &absent, request)));
}

fn about_patient(
    bench: &mut Bench<'_>,
    caller: &Caller,
    record: &Record,
    pairs: &mut Vec<Pair>,
) -> Result<(), Trouble> {
    let Some(patient) = &record.patient else { return Ok(()) };
    if !bench.hides_patient(caller, "Retrieve", patient)? || !bench.hides_patient(caller, "Read", patient)? {
        return Ok(());
    }
    let absent = bench.absent_id(patient);
    let narrowed = |id: &str| {
        let mut request = search(caller, record.vector.clone(), LIMIT);
        if let Ask::Search(search) = &mut request.ask {
            search.patient = Some(id.to_owned());
        }
        request
    };
    let listed = |id: &str| listing(caller, List { patient: Some(id.to_owned()), ..List::default() });
    pairs.push(pair("search for the patient", patient, &absent, &narrowed));
    pairs.push(pair("list of the patient", patient, &absent, &listed));
    Ok(())
}

fn compare(bench: &mut Bench<'_>, caller: &Caller, pairs: &[Pair]) -> Result<(), Trouble> {
    let asked: Vec<_> =
        pairs.iter().flat_map(|pair| pair.requests.iter().map(|request| (caller.clone(), request.clone()))).collect();
    let mut of_hidden = None;
    bench.ask_all(&asked, |bench, at, answer| {
        let Some(pair) = pairs.get(at / 2) else { return Ok(()) };
        let [hidden, absent] = &pair.ids;
        if at.is_multiple_of(2) {
            of_hidden = Some((at, answer.bare().without(hidden)));
            return Ok(());
        }
        // where one of the two could not be asked, there is nothing to compare
        let Some((_, of_hidden)) = of_hidden.take().filter(|(before, _)| before + 1 == at) else { return Ok(()) };
        let kinds: Vec<&str> = of_hidden.differs(&answer.bare().without(absent)).into_iter().collect();
        if !kinds.is_empty() {
            // a write that was taken has changed the store
            bench.disturb();
        }
        bench.trial(caller, &kinds, || format!("{}: {hidden} can be told from an id that no record has", pair.what));
        Ok(())
    })
}
