//! Filters against Cedar itself, record by record. A failure prints its seed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cedar_policy::{Entities, EvalResult, Expression, eval_expression};
use roaring::RoaringBitmap;
use serde_json::{Value as Json, json};

use super::*;
use crate::{
    model::{EntityUid, Slot, Value, limits},
    policy::{Columns, samples},
};

/// Whether a filter matches a record, by its text, Cedar's evaluator, all of the record, and its ancestors as stored: nothing else.
fn oracle(text: &str, inquiry: &Inquiry, record: &Entity, directory: &Directory) -> Result<bool, ()> {
    let above = directory.ancestors(record).0;
    let above = above.iter().filter_map(|uid| directory.get(uid)).map(|entity| convert::entity(entity).unwrap());
    let entities = Entities::from_entities([convert::entity(record).unwrap()].into_iter().chain(above), None).unwrap();
    let request = inquiry.request(convert::uid(&record.uid).unwrap()).unwrap();
    match eval_expression(&request, &entities, &text.parse::<Expression>().unwrap()) {
        Ok(EvalResult::Bool(truth)) => Ok(truth),
        Ok(_) => panic!("{text} is no truth value"),
        Err(_) => Err(()),
    }
}

fn bundle() -> Bundle {
    samples::bundle(samples::POLICIES)
}

struct Dice(u64);

impl Dice {
    /// splitmix64.
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len() as u64) as usize]
    }
}

/// Each valid on its own.
const ATOMS: &[&str] = &[
    "true",
    "false",
    "true || 9223372036854775807 + 1 == 0",
    "9223372036854775807 + 1 == 0",
    r#"context.purpose == "treatment""#,
    r#"context has patient && context.patient == "p1""#,
    "context.break_glass",
    r#"context.now > datetime("2026-01-01")"#,
    r#"context has patient"#,
    "resource has patient",
    "resource has patient && resource.patient == Patient::\"p1\"",
    "resource has patient && Patient::\"p1\" != resource.patient",
    "resource has patient && [Patient::\"p1\", Patient::\"p2\"].contains(resource.patient)",
    "resource has patient && resource.patient is Patient",
    "resource has patient && !(resource.patient is Patient)",
    "resource has author && {who: resource.author}.who == Clinician::\"c1\"",
    "resource has author && {who: resource.author} == {who: Clinician::\"c1\"}",
    "resource has author && [resource.author] == [Clinician::\"c1\"]",
    "resource has author && (if resource.sensitivity > 1 then resource.author else Clinician::\"c0\") == Clinician::\"c0\"",
    r#"resource.kind == "progress_note""#,
    r#""progress_note" != resource.kind"#,
    r#"resource.kind like "p*""#,
    r#"resource.kind like "*_*e""#,
    r#"["a", "progress_note"].contains(resource.kind)"#,
    r#"[resource.kind, "x"].contains(resource.department)"#,
    r#"[resource.kind, resource.department].containsAll(["x"])"#,
    "resource.kind == resource.department",
    "resource.kind == context.purpose",
    "resource.sensitivity >= 2",
    "resource.sensitivity * 4611686018427387904 > 0",
    "resource.sensitivity + 9223372036854775806 > 0",
    "-resource.sensitivity < -1",
    "[1, 2].contains(resource.sensitivity - 1)",
    r#"resource has score && resource.score == decimal("0.5")"#,
    r#"resource has score && resource.score.lessThan(decimal("0.7"))"#,
    r#"resource has score && [decimal("0.5"), decimal("2.0")].contains(resource.score)"#,
    r#"resource has score && {a: resource.score} == {a: decimal("0.50")}"#,
    r#"resource has score && resource has made && (if resource.score.lessThan(decimal("0.7")) then resource.made else context.now) == context.now"#,
    "resource has made && resource.made < context.now",
    "resource has made && context.now >= resource.made",
    r#"resource has made && resource.made == datetime("2026-03-01T13:00:00+0100")"#,
    r#"resource has made && resource.made > context.now.offset(duration("-30d"))"#,
    r#"resource has made && resource.made.offset(duration("1h")) <= context.now"#,
    r#"resource has made && context.now.durationSince(resource.made) > duration("1d")"#,
    r#"resource has made && context.now.durationSince(resource.made).toDays() > 1"#,
    r#"resource has made && resource.made.toDate() == datetime("2026-03-01")"#,
    r#"resource has made && [datetime("2026-03-01")].contains(resource.made)"#,
    r#"resource has labels && resource.labels.contains("x")"#,
    r#"resource has labels && resource.labels.contains(resource.kind)"#,
    r#"resource has labels && resource.labels.containsAny(["x", "nurse"])"#,
    r#"resource has labels && ["x", "nurse"].containsAny(resource.labels)"#,
    r#"resource has labels && resource.labels.containsAll(["x"])"#,
    r#"resource has labels && ["x", "y"].containsAll(resource.labels)"#,
    "resource has labels && resource.labels.isEmpty()",
    r#"resource has labels && resource.labels == ["y", "x"]"#,
    "resource has sealed && resource.sealed",
    "resource has sealed && !resource.sealed",
    "resource has sealed && (resource.sealed == true || resource.kind == \"x\")",
    "resource has info && resource.info.note like \"*a*\"",
    "resource has info.note && resource.info.note == \"a\"",
    "resource has info.who",
    "resource has info && resource.info has who && resource.info.who == Clinician::\"c2\"",
    r#"resource.hasTag("unit")"#,
    r#"resource.hasTag("nowhere")"#,
    r#"resource.hasTag("unit") && resource.getTag("unit") == "north""#,
    r#"resource.hasTag("unit") && resource.getTag("unit") like "n*""#,
    r#"resource.hasTag(context.purpose) && resource.getTag(context.purpose) == "north""#,
    r#"resource.hasTag(resource.kind)"#,
    r#"resource.hasTag(resource.kind) && resource.getTag(resource.kind) == "north""#,
    r#"resource has score && resource.hasTag(if resource.score.lessThan(decimal("0.7")) then "unit" else "x")"#,
    r#"resource has score && (if resource.hasTag(resource.kind) then resource.score else decimal("0.5")) == decimal("0.5")"#,
    r#"resource in Team::"t0""#,
    r#"!(resource in Team::"t4")"#,
    r#"resource in [Team::"t2", Team::"t4"]"#,
    r#"resource in Collection::"ward""#,
    r#"resource in Document::"ward/d1""#,
    r#"resource in [Record::"ward/3", Record::"ward/4"]"#,
    r#"resource in Record::"ward/3""#,
    r#"resource == Record::"ward/3""#,
    r#"Record::"ward/3" != resource"#,
    r#"resource is Record in Team::"t1""#,
    "resource is Record",
    "resource is Document",
    r#"[Record::"ward/1", Record::"ward/2"].contains(resource)"#,
    r#"{me: resource} == {me: Record::"ward/1"}"#,
    r#"if resource.sensitivity > 1 then resource.kind == "x" else resource.department == "cardiology""#,
    r#"if resource in Team::"t1" then resource has score else resource has made"#,
    r#"resource has score && (resource in Team::"t1") == resource.score.lessThan(decimal("0.7"))"#,
    r#"resource has score && (resource == Record::"ward/3") == resource.score.lessThan(decimal("0.7"))"#,
];

fn long(dice: &mut Dice, depth: u64) -> String {
    if depth == 0 || dice.one_in(3) {
        let n = dice.below(4).to_string();
        return dice.pick(&["resource.sensitivity", "9223372036854775807", n.as_str()]).to_owned();
    }
    let (a, b) = (long(dice, depth - 1), long(dice, depth - 1));
    match dice.below(5) {
        0 => format!("({a} + {b})"),
        1 => format!("({a} - {b})"),
        2 => format!("({a} * {b})"),
        3 => format!("(if {} then {a} else {b})", condition(dice, depth - 1)),
        _ => format!("(-{a})"),
    }
}

fn text(dice: &mut Dice, depth: u64) -> String {
    if depth == 0 || dice.one_in(2) {
        let texts =
            ["resource.kind", "resource.department", "context.purpose", "\"progress_note\"", "\"x\"", "\"cardiology\""];
        return dice.pick(&texts).to_owned();
    }
    let (a, b) = (text(dice, depth - 1), text(dice, depth - 1));
    format!("(if {} then {a} else {b})", condition(dice, depth - 1))
}

fn condition(dice: &mut Dice, depth: u64) -> String {
    if depth == 0 || dice.one_in(4) {
        return format!("({})", dice.pick(ATOMS));
    }
    let (a, b) = (condition(dice, depth - 1), condition(dice, depth - 1));
    match dice.below(12) {
        0..=2 => format!("({a} && {b})"),
        3..=5 => format!("({a} || {b})"),
        6 => format!("!{a}"),
        7 => format!("(if {a} then {b} else {})", condition(dice, depth - 1)),
        8 => format!("({a} == {b})"),
        9 => {
            let op = *dice.pick(&[&"<", &"<=", &">", &">=", &"==", &"!="]);
            format!("({} {op} {})", long(dice, depth - 1), long(dice, depth - 1))
        }
        10 => format!("([{}, {}].contains({}))", text(dice, 1), text(dice, 1), text(dice, depth - 1)),
        _ => format!("({} == {})", text(dice, depth - 1), text(dice, depth - 1)),
    }
}

/// Teams in teams, one in six not stored; records of all shapes.
fn ward(bundle: &Bundle, dice: &mut Dice, count: u64) -> (Directory, Vec<Entity>) {
    let mut directory = Directory::new();
    for i in 0..6 {
        let parents: Vec<Json> =
            (i + 1..6).filter(|_| dice.one_in(3)).map(|p| json!({"type": "Team", "id": format!("t{p}")})).collect();
        let team = json!({"uid": {"type": "Team", "id": format!("t{i}")}, "attrs": {}, "parents": parents});
        if !dice.one_in(6) {
            directory.upsert(bundle.entity(&team).unwrap());
        }
    }
    let document =
        json!({"uid": {"type": "Document", "id": "ward/d1"}, "parents": [{"type": "Collection", "id": "ward"}]});
    directory.upsert(bundle.entity(&document).unwrap());
    directory.imply(EntityUid::new("Collection", "ward"));
    (directory, (0..count).map(|i| record(bundle, dice, i)).collect())
}

fn record(bundle: &Bundle, dice: &mut Dice, i: u64) -> Entity {
    let mut attrs = json!({
        "kind": dice.pick(&["progress_note", "unit", "x", "psychotherapy"]), "department": dice.pick(&["cardiology", "x"]),
        "sensitivity": dice.below(4),
    });
    let maybe = [
        ("patient", json!({"type": "Patient", "id": format!("p{}", dice.below(4))})),
        ("author", json!({"type": "Clinician", "id": format!("c{}", dice.below(4))})),
        ("score", json!({"__extn": {"fn": "decimal", "arg": dice.pick(&["0.5", "0.50", "0.71", "2.0"])}})),
        (
            "made",
            json!({"__extn": {"fn": "datetime", "arg": dice.pick(&["2026-03-01", "2026-03-01T12:00:00Z", "2026-02-20T08:30:00+0200", "1969-12-31"])}}),
        ),
        ("labels", json!((0..dice.below(3)).map(|_| dice.pick(&["x", "y", "nurse"])).collect::<Vec<_>>())),
        ("sealed", json!(dice.one_in(2))),
        (
            "info",
            match dice.one_in(2) {
                true => json!({"note": dice.pick(&["a", "bab", "c"])}),
                false => json!({"note": "a", "who": {"type": "Clinician", "id": format!("c{}", dice.below(4))}}),
            },
        ),
    ];
    for (name, value) in maybe {
        if !dice.one_in(4) {
            attrs[name] = value;
        }
    }
    let mut tags = json!({});
    for key in ["unit", "x", "treatment"] {
        if dice.one_in(2) {
            tags[key] = json!(dice.pick(&["north", "south"]));
        }
    }
    let mut parents = vec![EntityUid::new("Collection", "ward")];
    parents.push(EntityUid::new("Document", format!("ward/d{}", dice.below(3))));
    parents.extend((0..dice.below(2)).map(|_| EntityUid::new("Team", format!("t{}", dice.below(6)))));
    bundle.record(EntityUid::new("Record", format!("ward/{i}")), &attrs, &tags, &parents).unwrap()
}

/// Records in columns, found by slot again.
struct Ward {
    columns: Columns,
    directory: Directory,
    names: HashMap<u32, EntityUid>,
}

impl Ward {
    fn new(directory: Directory) -> Self {
        Self { columns: Columns::new(), directory, names: HashMap::new() }
    }

    fn put(&mut self, slot: u32, record: &Entity) {
        self.columns.insert(Slot(slot), record);
        self.names.insert(slot, record.uid.clone());
    }

    fn bind(&self, filter: &Filter, inquiry: &Inquiry, permitted: &RoaringBitmap) -> Matching {
        let name = |slot: Slot| self.names.get(&slot.0).cloned();
        let rows = Rows { columns: &self.columns, directory: &self.directory, name: &name };
        filter.bind(inquiry, &rows, permitted)
    }
}

fn inquiry(bundle: &Bundle, dice: &mut Dice) -> Inquiry {
    let mut offered = samples::offered(dice.pick(&["treatment", "x"]));
    offered.insert("break_glass", Value::Bool(dice.one_in(2)));
    bundle.inquiry(EntityUid::new("Clinician", "c1"), Action::Retrieve, &offered).unwrap()
}

#[derive(Default)]
struct Counts {
    refused: u64,
    filters: u64,
    records: u64,
    matched: u64,
    erred: u64,
    judged: u64,
    asked: u64,
}

fn agree(bundle: &Bundle, seed: u64, counts: &mut Counts) {
    let mut dice = Dice(seed);
    let (directory, records) = ward(bundle, &mut dice, 24);
    let mut ward = Ward::new(directory);
    for (slot, record) in (0..).zip(&records) {
        ward.put(slot, record);
    }
    for _ in 0..8 {
        let text = condition(&mut dice, 3);
        let inquiry = inquiry(bundle, &mut dice);
        let Ok(filter) = bundle.filter(&text, Action::Retrieve) else {
            counts.refused += 1;
            continue;
        };
        let permitted: RoaringBitmap = (0..24).filter(|_| !dice.one_in(4)).collect();
        let matching = ward.bind(&filter, &inquiry, &permitted);
        let verified = filter.matches_each(&inquiry, &records, &ward.directory);
        for (slot, (record, verified)) in (0..).zip(records.iter().zip(verified)) {
            let expected = oracle(&text, &inquiry, record, &ward.directory);
            let told = || format!("seed {seed} slot {slot} {expected:?}\n{text}\n{}", record.to_json());
            assert_eq!(verified, expected == Ok(true), "matches_each: {}", told());
            let bound = matching.slots.contains(slot);
            assert_eq!(bound, permitted.contains(slot) && expected == Ok(true), "bind: {}", told());
            counts.records += 1;
            counts.matched += u64::from(verified);
            counts.erred += u64::from(expected.is_err());
        }
        counts.filters += 1;
        counts.judged += matching.work.judged;
        counts.asked += matching.work.asked;
    }
}

#[test]
fn filters_match_what_cedar_says_of_each_record_alone() {
    let bundle = bundle();
    let cases = std::env::var("WARDKEEP_FILTER_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let start = std::env::var("WARDKEEP_FILTER_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut counts = Counts::default();
    (start..start + cases).for_each(|seed| agree(&bundle, seed, &mut counts));
    let Counts { refused, filters, records, matched, erred, judged, asked } = counts;
    println!(
        "{filters} filters ({refused} refused), {records} records, {matched} matched, {erred} erred; {judged} judged, {asked} by Cedar"
    );
    assert!(refused * 4 < filters, "too few generated filters are valid: {filters}");
    assert!(matched * 5 > records && matched * 5 < 4 * records, "the filters say little: {matched}");
    assert!(erred > 0 && asked > 0 && asked * 4 < judged);
}

#[test]
fn every_atom_is_accepted_and_matches_what_cedar_says() {
    let bundle = bundle();
    let mut dice = Dice(7);
    let (directory, records) = ward(&bundle, &mut dice, 40);
    let mut ward = Ward::new(directory);
    for (slot, record) in (0..).zip(&records) {
        ward.put(slot, record);
    }
    let inquiry = bundle.inquiry(EntityUid::new("Clinician", "c1"), Action::Retrieve, &samples::offered("x")).unwrap();
    let all = ward.columns.live().clone();
    for text in ATOMS {
        let filter = bundle.filter(text, Action::Retrieve).unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
        let expected: RoaringBitmap = (0..)
            .zip(&records)
            .filter(|(_, record)| oracle(text, &inquiry, record, &ward.directory) == Ok(true))
            .map(|(slot, _)| slot)
            .collect();
        assert_eq!(ward.bind(&filter, &inquiry, &all).slots, expected, "{text}");
    }
}

#[test]
fn what_is_not_permitted_changes_neither_answer_nor_work() {
    let bundle = bundle();
    let mut dice = Dice(11);
    let (directory, records) = ward(&bundle, &mut dice, 400);
    let (mut alone, mut among) = (Ward::new(directory), Ward::new(ward(&bundle, &mut Dice(11), 0).0));
    let permitted: RoaringBitmap = (0..40).map(|i| i * 10).collect();
    for (slot, record) in (0..).zip(&records) {
        if permitted.contains(slot) {
            alone.put(slot, record);
            among.put(slot, record);
        } else {
            let mut hidden = record.clone();
            hidden.attrs.insert("kind".into(), Value::text(format!("hidden-{slot}")));
            hidden.attrs.insert("sensitivity".into(), Value::Long(i64::from(slot)));
            hidden.tags.insert(format!("hidden-{slot}").into(), Value::text("north"));
            hidden.parents.insert(EntityUid::new("Team", format!("hidden-{slot}")));
            among.put(slot, &hidden);
        }
    }
    let inquiry = bundle.inquiry(EntityUid::new("Clinician", "c1"), Action::Retrieve, &samples::offered("x")).unwrap();
    for text in ATOMS {
        let filter = bundle.filter(text, Action::Retrieve).unwrap();
        let (one, other) = (alone.bind(&filter, &inquiry, &permitted), among.bind(&filter, &inquiry, &permitted));
        assert_eq!(one, other, "{text}");
        assert!(one.work.judged <= one.work.looked_up, "{text}");
    }
    let filter = bundle.filter(r#"resource.kind == "x""#, Action::Retrieve).unwrap();
    let Matching { work, .. } = among.bind(&filter, &inquiry, &permitted);
    assert_eq!((work.looked_up, work.judged, work.asked), (40, 4, 0));
    let nothing = among.bind(&filter, &inquiry, &RoaringBitmap::new());
    assert_eq!((nothing.slots.len(), nothing.work), (0, Work::default()));
}

#[test]
fn names_are_asked_of_permitted_records_alone() {
    let bundle = bundle();
    let mut dice = Dice(3);
    let (directory, records) = ward(&bundle, &mut dice, 50);
    let mut ward = Ward::new(directory);
    for (slot, record) in (0..).zip(&records) {
        ward.put(slot, record);
    }
    let permitted: RoaringBitmap = (10..20).collect();
    let seen = std::cell::RefCell::new(BTreeSet::new());
    let name = |slot: Slot| {
        seen.borrow_mut().insert(slot.0);
        ward.names.get(&slot.0).cloned()
    };
    let rows = Rows { columns: &ward.columns, directory: &ward.directory, name: &name };
    let inquiry = samples::ask(&bundle, "c1");
    for text in ATOMS {
        bundle.filter(text, Action::Retrieve).unwrap().bind(&inquiry, &rows, &permitted);
    }
    assert_eq!(seen.into_inner(), permitted.iter().collect::<BTreeSet<_>>());
}

#[test]
fn a_question_is_put_once_to_each_value_and_not_at_all_where_a_short_circuit_decides() {
    let bundle = bundle();
    let mut ward = Ward::new(Directory::new());
    for slot in 0..100 {
        let kind = ["a", "b"][slot as usize % 2];
        let record = samples::record(&bundle, &slot.to_string(), "", kind, &[("sensitivity", json!(slot / 10))]);
        ward.put(slot, &record);
    }
    let all = ward.columns.live().clone();
    let work = |text: &str| {
        let filter = bundle.filter(text, Action::Retrieve).unwrap();
        let Work { looked_up, judged, asked } = ward.bind(&filter, &samples::ask(&bundle, "c1"), &all).work;
        (looked_up, judged, asked)
    };
    assert_eq!(work(r#"resource.kind == "a""#), (100, 2, 0));
    assert_eq!(work(r#"resource.kind == "a" && resource.sensitivity > 4"#), (150, 12, 0));
    assert_eq!(work(r#"resource.kind == "z" && resource.sensitivity > 4"#), (100, 2, 0));
    assert_eq!(work(r#"resource.kind == "a" || resource.kind == "b" || resource.sensitivity > 4"#), (150, 3, 0));
    assert_eq!(work(r#"[resource.kind, "x"].contains(resource.department) "#), (100, 2, 0));
    assert_eq!(work(r#"decimal("0.5") == decimal("0.50")"#), (100, 1, 1));
}

fn refused(text: &str) -> Vec<(&'static str, Option<(usize, usize)>)> {
    match bundle().filter(text, Action::Retrieve) {
        Ok(_) => vec![],
        Err(faults) => faults.iter().map(|fault| (fault.code, fault.place.map(|at| (at.line, at.column)))).collect(),
    }
}

#[test]
fn a_filter_is_refused_by_code_and_place() {
    let cases: BTreeMap<&str, (&str, usize, usize)> = BTreeMap::from([
        ("", ("filter_syntax", 1, 1)),
        ("resource.kind = \"x\"", ("filter_syntax", 1, 1)),
        ("resource.kind == \"x\" &&", ("filter_syntax", 1, 24)),
        ("principal == resource.author", ("filter_variable", 1, 1)),
        ("resource.sensitivity > 1 && action == Action::\"Read\"", ("filter_variable", 1, 29)),
        ("resource has patient &&\n  resource.patient.vip", ("filter_dereference", 2, 3)),
        ("resource has patient && resource.patient has vip", ("filter_dereference", 1, 25)),
        ("resource has patient.vip", ("filter_dereference", 1, 1)),
        ("resource has patient && resource.patient.hasTag(\"x\")", ("filter_dereference", 1, 25)),
        ("resource has patient && resource.patient in Team::\"t0\"", ("filter_dereference", 1, 25)),
        ("resource has patient && resource.patient is Patient in Team::\"t0\"", ("filter_dereference", 1, 25)),
        ("Patient::\"p1\".vip", ("filter_dereference", 1, 1)),
        ("Patient::\"p1\" in Team::\"t0\"", ("filter_dereference", 1, 1)),
        ("resource has author && {a: resource.author}.a.level > 1", ("filter_dereference", 1, 24)),
        ("(if true then resource else Record::\"ward/1\").sensitivity > 1", ("filter_dereference", 1, 1)),
        ("(if true then resource else resource) in Team::\"t0\"", ("filter_dereference", 1, 1)),
        ("resource.nonsense == 1", ("filter_attribute", 1, 1)),
        ("resource has nonsense", ("filter_attribute", 1, 1)),
        ("context.nonsense == 1", ("filter_attribute", 1, 1)),
        ("resource.sealed", ("filter_optional", 1, 1)),
        ("resource.getTag(\"unit\") == \"x\"", ("filter_optional", 1, 1)),
        ("resource.kind", ("filter_type", 1, 1)),
        ("resource.kind == 1", ("filter_type", 1, 1)),
        ("1", ("filter_type", 1, 1)),
        ("resource.kind > 1", ("filter_type", 1, 1)),
        ("resource.kind == resource.sensitivity", ("filter_type", 1, 1)),
        ("resource == Nothing::\"x\"", ("filter_entity", 1, 13)),
        ("resource has made && resource.made < datetime(\"tomorrow\")", ("filter_function", 1, 38)),
        ("resource has made && resource.made < datetime(resource.kind)", ("filter_function", 1, 38)),
        ("resource.kind.isSmall()", ("filter_syntax", 1, 1)),
        ("unknown(\"x\")", ("filter_syntax", 1, 1)),
        ("resource == ?resource", ("filter_syntax", 1, 13)),
    ]);
    let mut wrong = Vec::new();
    for (text, (code, line, column)) in cases {
        let found = refused(text);
        if found.first() != Some(&(code, Some((line, column)))) {
            wrong.push(format!("{text}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nesting_is_bounded_in_the_tree_too_and_chains_are_not_nests() {
    let depth = limits::FILTER_DEPTH;
    let sum = |n: usize| format!("0 < resource.sensitivity{}", " + 1".repeat(n));
    assert_eq!(refused(&sum(depth - 2)), []);
    assert_eq!(refused(&sum(depth - 1))[0].0, "filter_too_deep");
    assert_eq!(refused(&format!("0 < resource.sensitivity{}", "+1".repeat(4_000)))[0].0, "filter_too_deep");
    for chain in ["true&&", "true||"] {
        assert_eq!(refused(&format!("{}true", chain.repeat(1_364))), []);
    }
    let kinds: Vec<String> = (0..260).map(|i| format!("resource.kind==\"kind-{i}\"")).collect();
    assert_eq!(refused(&kinds.join(" || ")), []);
}

#[test]
fn a_filter_of_every_length_up_to_the_bound_is_compiled_and_bound() {
    let bundle = bundle();
    let mut ward = Ward::new(Directory::new());
    ward.put(0, &samples::record(&bundle, "0", "", "x", &[]));
    let long = format!("{}resource.kind == \"x\"", "false||".repeat((limits::FILTER_BYTES - 20) / 7));
    let long = format!("{long}{}", " ".repeat(limits::FILTER_BYTES - long.len()));
    let filter = bundle.filter(&long, Action::Retrieve).unwrap();
    let inquiry = samples::ask(&bundle, "c1");
    assert_eq!(ward.bind(&filter, &inquiry, ward.columns.live()).slots.len(), 1);
    assert_eq!(bundle.filter(&format!("{long} "), Action::Retrieve).unwrap_err()[0].code, "filter_too_long");
}

#[test]
fn no_message_repeats_the_text() {
    for text in [
        "resource has patient && resource.patient.janedoe",
        "resource.janedoe",
        "resource[\"janedoe\"] == 1",
        "janedoe",
        "janedoe == \"janedoe",
        "resource == janedoe::\"janedoe\"",
        "resource.kind == {janedoe: 1}",
        "datetime(\"janedoe\") == context.now",
        "janedoe(\"x\")",
        "resource.janedoe()",
        "principal.janedoe",
        "{janedoe: 1, janedoe: 2} == 1",
        "?janedoe == resource",
        "@janedoe",
    ] {
        let faults = bundle().filter(text, Action::Retrieve).unwrap_err();
        assert!(!format!("{faults:?}").contains("janedoe"), "{text}: {faults:?}");
    }
}

#[test]
fn what_cedar_has_to_be_asked_value_by_value_is_bounded_from_the_expression_alone() {
    let bundle = bundle();
    let calls = |count: usize| vec![r#"resource.score.lessThan(decimal("0.5"))"#; count].join(" || ");
    let guarded = |count: usize| format!("resource has score && ({})", calls(count));
    assert!(bundle.filter(&guarded(limits::FILTER_CALLS), Action::Retrieve).is_ok());
    let faults = bundle.filter(&guarded(limits::FILTER_CALLS + 1), Action::Retrieve).unwrap_err();
    assert_eq!(faults[0].code, "filter_costly");
}
