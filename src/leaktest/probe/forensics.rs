//! Erased records: through every route, after a restart, and in the files that are left.

use super::{Bench, Caller, LIMIT, Probe, Trouble, canaries, listing, read, search};
use crate::leaktest::{
    outcome::{Plot, Series},
    target::{Ask, List},
    world::Record,
};

pub(super) const PROBE: Probe = Probe {
    name: "deletion-forensics",
    title: "Deletion forensics",
    about: "Records that a caller may see are planted, found and erased. Then they are asked for by every route, again after a restart, and \
            their words are searched for in logs, metrics, files of the data directory, and backups that were taken before and after.",
    takes_s: [6.0, 40.0],
    work,
};

fn work(bench: &mut Bench<'_>) -> Result<(), Trouble> {
    let (most, each) = (bench.scale(3, 10), bench.scale(6, 30));
    bench.disturb();
    let mut all: Vec<(Caller, Vec<Record>)> = Vec::new();
    for caller in bench.callers(usize::MAX) {
        let sight = bench.sight(&caller)?;
        let chosen = bench.dice.some(&sight.view.permitted, each);
        let patterns: Vec<&Record> = chosen.iter().filter_map(|at| bench.record(*at)).collect();
        if patterns.is_empty() || all.len() >= most {
            continue;
        }
        let planted: Vec<Record> = patterns.iter().map(|record| canaries::planted(record, &mut bench.dice)).collect();
        bench.target.plant(&planted)?;
        all.push((caller, planted));
    }
    bench.expect(all.iter().map(|(_, planted)| planted.len() * 13).sum());
    let done = hunt(bench, &all);
    let ids: Vec<String> = all.iter().flat_map(|(_, planted)| planted.iter().map(|r| r.id.clone())).collect();
    bench.target.uproot(&ids)?;
    if done.is_ok() {
        bench.restored();
    }
    done
}

fn hunt(bench: &mut Bench<'_>, all: &[(Caller, Vec<Record>)]) -> Result<(), Trouble> {
    let (mut seen, mut count) = (0, 0);
    let before = backed_up(bench)?;
    for (caller, planted) in all {
        for record in planted {
            let answer = bench.ask(caller, &search(caller, record.vector.clone(), LIMIT))?;
            count += 1;
            seen += usize::from(answer.ids().contains(&record.id));
        }
        let ids: Vec<String> = planted.iter().map(|r| r.id.clone()).collect();
        bench.target.erase(&ids)?;
        gone(bench, caller, planted, "after erasure")?;
    }
    bench.figure("planted records found before they were erased", format!("{seen} of {count}"));
    if seen == 0 && count > 0 {
        return Err(Trouble::Broken(
            "no planted record was found before it was erased: that none is found afterwards shows nothing".into(),
        ));
    }
    match bench.target.restart() {
        Err(Trouble::Unable(why)) => bench.skip(&why),
        other => {
            other?;
            for (caller, planted) in all {
                gone(bench, caller, planted, "after erasure and a restart")?;
            }
        }
    }
    if before {
        backed_up(bench)?;
    }
    let planted: Vec<Record> = all.iter().flat_map(|(_, planted)| planted.clone()).collect();
    let found = canaries::left(bench, &planted)?;
    let rows = found.into_iter().map(|(label, value)| Series { label, value: value as f64, interval: None }).collect();
    bench.plot(Plot {
        title: "Places outside answers that were searched for erased words, and how often one was found".into(),
        unit: "times found".into(),
        rows,
        mark: None,
    });
    Ok(())
}

/// A backup, which is searched with the other files; false where the target makes none.
fn backed_up(bench: &mut Bench<'_>) -> Result<bool, Trouble> {
    match bench.target.back_up() {
        Err(Trouble::Unable(why)) => {
            bench.skip(&why);
            Ok(false)
        }
        other => other.map(|()| true),
    }
}

fn gone(bench: &mut Bench<'_>, caller: &Caller, planted: &[Record], when: &str) -> Result<(), Trouble> {
    let (mut asked, mut about) = (Vec::new(), Vec::new());
    for record in planted {
        let list = List { ids: Some(vec![record.id.clone()]), ..List::default() };
        let mut narrowed = search(caller, record.vector.clone(), LIMIT);
        if let Ask::Search(search) = &mut narrowed.ask {
            search.patient.clone_from(&record.patient);
        }
        let plain = search(caller, record.vector.clone(), LIMIT);
        let of_patient = List { patient: record.patient.clone(), limit: Some(1_000), ..List::default() };
        for (route, request) in [
            ("list of all", listing(caller, List { limit: Some(1_000), ..List::default() })),
            ("list of the patient", listing(caller, of_patient)),
            ("search", plain),
            ("search for the patient", narrowed),
            ("read", read(caller, &record.id)),
            ("list", listing(caller, list)),
        ] {
            asked.push((caller.clone(), request));
            about.push((record, route));
        }
    }
    bench.ask_all(&asked, |bench, at, answer| {
        let Some((record, route)) = about.get(at) else { return Ok(()) };
        let there = answer.ids().contains(&record.id)
            || answer.status == 200 && String::from_utf8_lossy(&answer.body).contains(&record.text);
        let kinds: &[&str] = if there { &["erased record"] } else { &[] };
        bench.trial(caller, kinds, || format!("{} by {route} {when}", record.id));
        Ok(())
    })
}
