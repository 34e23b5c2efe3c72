//! Planted records with words that are nowhere else: looked for in the answers to those who may not see them, and in all that the store leaves
//! outside its answers.

use std::collections::HashSet;

use super::{Bench, Caller, Dice, LIMIT, Probe, Trouble, listing, read, search};
use crate::leaktest::{
    target::{Ask, List, Request},
    world::Record,
};

pub(super) const PROBE: Probe = Probe {
    name: "canaries",
    title: "Canaries",
    about: "Records with words that are nowhere else are planted where callers may not see them. Searches, reads, lists and faulty requests circle \
            them; their words and ids are then looked for in answers, errors, logs, metrics and files.",
    takes_s: [4.0, 40.0],
    work,
};

/// A copy of `pattern` under an id and with words of its own.
pub(super) fn planted(pattern: &Record, dice: &mut Dice) -> Record {
    let word = format!("{:016x}", dice.roll());
    Record {
        id: format!("canary-{word}"),
        document: pattern.document.clone(),
        text: format!("canary word {word} sings in {word}"),
        vector: dice.near(&pattern.vector, 0.05),
        ..pattern.clone()
    }
}

fn word(record: &Record) -> &str {
    record.id.trim_start_matches("canary-")
}

fn work(bench: &mut Bench<'_>) -> Result<(), Trouble> {
    let (most, each) = (bench.scale(8, usize::MAX), bench.scale(4, 12));
    let callers = bench.callers(most);
    bench.disturb();
    let mut all: Vec<(Record, Vec<Caller>)> = Vec::new();
    for at in bench.dice.some(&(0..bench.world.records.len()).collect::<Vec<_>>(), 60) {
        let Some(pattern) = bench.record(at) else { continue };
        let mut strangers = Vec::new();
        for caller in &callers {
            if bench.hidden(caller, "Retrieve", &caller.purpose, at)?
                && bench.hidden(caller, "Read", &caller.purpose, at)?
            {
                strangers.push(caller.clone());
            }
        }
        if strangers.len() * 2 >= callers.len() && all.len() < each {
            all.push((planted(pattern, &mut bench.dice), strangers));
        }
    }
    let records: Vec<Record> = all.iter().map(|(record, _)| record.clone()).collect();
    let ids: Vec<String> = records.iter().map(|r| r.id.clone()).collect();
    bench.target.plant(&records)?;
    let circled = circle(bench, &all).and_then(|()| left(bench, &records).map(drop));
    bench.target.uproot(&ids)?;
    bench.restored();
    circled
}

fn circle(bench: &mut Bench<'_>, all: &[(Record, Vec<Caller>)]) -> Result<(), Trouble> {
    bench.expect(all.iter().map(|(_, strangers)| strangers.len() * WAYS_AROUND).sum());
    for (record, strangers) in all {
        let requests = |caller: &Caller| {
            let asked = around(caller, record).into_iter().map(|request| (caller.clone(), request));
            asked.collect::<Vec<_>>()
        };
        let asked: Vec<_> = strangers.iter().flat_map(requests).collect();
        bench.ask_all(&asked, |bench, at, answer| {
            let Some((caller, request)) = asked.get(at) else { return Ok(()) };
            let said = request.body().to_string().contains(word(record));
            let bytes = String::from_utf8_lossy(&answer.body);
            // where the request named it, an answer with a record of it is the leak, not an echo
            let heard = if said { answer.ids().contains(&record.id) } else { bytes.contains(word(record)) };
            let kinds: &[&str] = if heard { &["canary"] } else { &[] };
            bench.trial(caller, kinds, || format!("a word of {} in an answer", record.id));
            Ok(())
        })?;
    }
    Ok(())
}

/// Requests of `around`.
const WAYS_AROUND: usize = 9;

fn around(caller: &Caller, record: &Record) -> Vec<Request> {
    let plain = || search(caller, record.vector.clone(), LIMIT);
    let with = |change: &dyn Fn(&mut crate::leaktest::target::Search)| {
        let mut request = plain();
        if let Ask::Search(search) = &mut request.ask {
            change(search);
        }
        request
    };
    vec![
        plain(),
        with(&|s| s.limit = 10_000),
        with(&|s| s.patient.clone_from(&record.patient)),
        with(&|s| s.vector.push(0.5)),
        with(&|s| s.filter = Some("resource.id ==".to_owned())),
        with(&|s| s.filter = Some("resource.sensitivity + 9223372036854775807 > 0".to_owned())),
        read(caller, &record.id),
        listing(caller, List::default()),
        listing(caller, List { ids: Some(vec![record.id.clone()]), ..List::default() }),
    ]
}

/// Looks for planted words and ids outside answers; one trial a place and record. Answers how often each place had one.
pub(super) fn left(bench: &mut Bench<'_>, planted: &[Record]) -> Result<Vec<(String, u64)>, Trouble> {
    let traces = match bench.target.traces() {
        Err(Trouble::Unable(why)) => {
            bench.skip(&why);
            return Ok(Vec::new());
        }
        other => other?,
    };
    let bytes: usize = traces.iter().map(|(_, bytes)| bytes.len()).sum();
    bench.figure(
        "searched outside answers",
        format!("{} places, {bytes} bytes, for {} planted words", traces.len(), planted.len()),
    );
    let nobody = Caller {
        ty: String::new(),
        id: "whoever reads logs or files".into(),
        role: String::new(),
        purpose: String::new(),
        seat: 0,
    };
    let words: HashSet<&[u8]> = planted.iter().map(|record| word(record).as_bytes()).collect();
    let mut found = Vec::new();
    for (name, bytes) in &traces {
        let heard = heard(bytes, &words);
        for record in planted {
            let kinds: &[&str] = if heard.contains(word(record).as_bytes()) { &["canary"] } else { &[] };
            bench.trial(&nobody, kinds, || format!("a word of {} in {name}", record.id));
        }
        found.push((name.clone(), heard.len() as u64));
    }
    Ok(found)
}

/// Which of the words stand in `bytes`, in one pass: only where as many digits follow one another is anything looked up.
fn heard<'w>(bytes: &[u8], words: &HashSet<&'w [u8]>) -> HashSet<&'w [u8]> {
    let digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    let runs = bytes.split(|byte| !digit(byte)).filter(|run| run.len() >= WORD_BYTES);
    runs.flat_map(|run| run.windows(WORD_BYTES)).filter_map(|window| words.get(window).copied()).collect()
}

/// A planted word: a number in hexadecimal digits.
const WORD_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_wherever_they_stand_and_only_they() {
        let words = HashSet::from([b"0123456789abcdef".as_slice(), b"ffffffffffffffff"]);
        let found = |text: &[u8]| heard(text, &words).len();
        assert_eq!(found(b"0123456789abcdef"), 1);
        assert_eq!(found(b"\x00ab0123456789abcdefab\xff ffffffffffffffffff"), 2);
        assert_eq!(found(b"0123456789abcde f 0123456789ABCDEF"), 0);
        assert_eq!(found(b""), 0);
    }
}
