//! Filters as an oracle: in twin worlds, none may answer otherwise because of a hidden record.

use serde_json::Value as Json;

use super::{Bench, Caller, Dice, LIMIT, Probe, Trouble, listing, search};
use crate::leaktest::{
    sight::Sight,
    target::{Ask, List, Request},
    world::{Record, reference},
};

pub(super) const PROBE: Probe = Probe {
    name: "filter-oracle",
    title: "Filter oracle",
    about: "Filters that would fail, match or reach further only because of hidden values (errors, `like`, overflow, steps to other entities, \
            injection) are put to twin worlds: same status, same bytes, and nothing hidden in either.",
    takes_s: [6.0, 60.0],
    work,
};

fn work(bench: &mut Bench<'_>) -> Result<(), Trouble> {
    let (most, each) = (bench.scale(2, 8), bench.scale(100, 200));
    let callers = bench.callers(most);
    bench.expect(callers.len() * each * 4);
    for caller in callers {
        let sight = bench.sight(&caller)?;
        let mut twin = bench.twin(&sight)?;
        let (mut asked, mut about) = (Vec::new(), Vec::new());
        for n in 0..each {
            let Some(record) = hidden(bench, &sight) else { continue };
            let filter = filter(n, record, &mut bench.dice);
            for (request, action) in
                [(searched(&caller, record, &filter), "Retrieve"), (list(&caller, &filter), "Read")]
            {
                asked.push((caller.clone(), request));
                about.push((action, format!("filter {} about {}", n % KINDS, record.id)));
            }
        }
        bench.ask_both(twin.1.as_mut(), &asked, |bench, at, whole, bare| {
            let (Some((_, request)), Some((action, detail))) = (asked.get(at), about.get(at)) else { return Ok(()) };
            let mut kinds = bench.told_of(&caller, action, &caller.purpose, whole, request)?;
            kinds.extend(whole.bare().differs(&bare.bare()));
            bench.trial(&caller, &kinds, || detail.clone());
            Ok(())
        })?;
        bench.keep(twin);
    }
    Ok(())
}

fn hidden<'a>(bench: &mut Bench<'a>, sight: &Sight) -> Option<&'a Record> {
    let at = *bench.dice.pick(&sight.view.forbidden)?;
    bench.record(at)
}

fn searched(caller: &Caller, record: &Record, filter: &str) -> Request {
    let mut request = search(caller, record.vector.clone(), LIMIT);
    if let Ask::Search(search) = &mut request.ask {
        search.filter = Some(filter.to_owned());
    }
    request
}

fn list(caller: &Caller, filter: &str) -> Request {
    listing(caller, List { filter: Some(filter.to_owned()), ..List::default() })
}

const KINDS: usize = 14;

/// A filter that is about one hidden record's values.
fn filter(n: usize, record: &Record, dice: &mut Dice) -> String {
    let words = of_kind(record, |v| v.as_str().filter(|w| w.len() < 60).map(|w| format!("{w:?}")));
    let counts = of_kind(record, |v| v.as_i64().map(|n| n.to_string()));
    let links = of_kind(record, |v| reference(v).map(|(ty, id)| format!("{ty}::{id:?}")));
    let one = |of: &[(String, String)], dice: &mut Dice| dice.pick(of).cloned().unwrap_or(("none".into(), "0".into()));
    let ((word, is), (count, number), (link, to)) = (one(&words, dice), one(&counts, dice), one(&links, dice));
    let part: String = is.trim_matches('"').chars().take(1 + dice.below(6)).filter(|c| c.is_alphanumeric()).collect();
    match n % KINDS {
        0 => format!("resource.{word} == {is}"),
        1 => format!("resource.{word} like \"{part}*\""),
        2 => format!("resource.{count} == {number}"),
        // overflows for the hidden value alone
        3 => format!("resource.{count} != {number} || resource.{count} + 9223372036854775807 > 0"),
        4 => format!("if resource.{count} == {number} then 9223372036854775807 + resource.{count} > 0 else true"),
        5 => format!("resource.{link} == {to}"),
        6 => format!("resource.{link}.vip"),
        7 => format!("resource.{link} in {to}"),
        8 => format!("resource has {word} && resource has nothing"),
        9 => format!("resource.{word} > {number}"),
        10 => format!("true) || (resource.{count} >= 0"),
        11 => format!("resource == Record::\"ward/{}\"", record.id),
        12 => "true }; permit (principal, action, resource) when { true".to_owned(),
        _ => format!("principal.care_team.patients.contains({to})"),
    }
}

fn of_kind(record: &Record, read: impl Fn(&Json) -> Option<String>) -> Vec<(String, String)> {
    let fields = record.attributes.as_object().into_iter().flatten();
    fields.filter_map(|(name, value)| Some((name.clone(), read(value)?))).collect()
}
