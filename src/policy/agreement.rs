//! Generated bundles and wards: `decide` and `plan` against the oracle, record by record. A failure prints its seed.

use serde_json::{Value as Json, json};

use super::{samples::*, *};
use crate::model::Slot;

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

/// Conditions over the clinical schema, each valid on its own.
const ATOMS: &[&str] = &[
    "true",
    "false",
    r#"principal.role == "nurse""#,
    r#"principal.level > 1"#,
    r#"principal in Team::"t0""#,
    r#"principal has shift"#,
    r#"principal has shift && principal.shift in Team::"t1""#,
    r#"context.purpose == "treatment""#,
    r#"context has patient && context.patient == "p1""#,
    r#"context.now > datetime("2026-01-01")"#,
    r#"resource has patient"#,
    r#"resource has patient && resource.patient in principal.assigned"#,
    r#"resource has patient && principal.assigned.contains(resource.patient)"#,
    r#"resource has patient && resource.patient == Patient::"p1""#,
    r#"resource has patient && resource.patient != Patient::"p1""#,
    r#"resource has patient && resource.patient.vip"#,
    r#"resource has patient && !resource.patient.vip"#,
    r#"resource has patient && resource.patient has consent && resource.patient.consent"#,
    r#"resource has patient && resource.patient has consent"#,
    r#"resource has patient.consent"#,
    r#"resource has patient.author.shift"#,
    r#"resource has patient.author && resource.patient.author.role == principal.role"#,
    r#"resource has patient && resource.patient in Team::"t2""#,
    r#"resource has patient && resource.patient in [Team::"t0", Team::"t3"]"#,
    r#"resource has patient && resource.patient.team.contains(principal)"#,
    r#"resource has patient && principal in resource.patient.team"#,
    r#"resource has patient && resource.patient.team.isEmpty()"#,
    r#"resource has patient && resource.patient.hasTag("unit")"#,
    r#"resource has patient && resource.patient.hasTag("unit") && resource.patient.getTag("unit") == "north""#,
    r#"resource has patient && resource.patient.hasTag(principal.facility) && resource.patient.getTag(principal.facility) like "n*""#,
    r#"resource has author && resource.author == principal"#,
    r#"resource has author && principal == resource.author"#,
    r#"resource has author && resource.author.level > principal.level"#,
    r#"resource has author && resource.author in Team::"t1""#,
    r#"resource has author && resource.author is Clinician"#,
    r#"resource has author && resource.author is Clinician in Team::"t3""#,
    r#"resource has author && principal in [resource.author]"#,
    r#"resource has author && (if principal.level > 1 then resource.author else principal).role == "head""#,
    r#"resource has author && {who: resource.author, x: {y: principal}}.x.y.level > 1"#,
    r#"resource has author && {who: resource.author}.who.level > 1"#,
    r#"resource has info.who && resource.info.who.role == "nurse""#,
    r#"resource has info && resource.info has who && resource.info.who in Team::"t0""#,
    r#"resource has info && resource.info.note like "*a*""#,
    r#"resource.kind == "progress_note""#,
    r#""progress_note" == resource.kind"#,
    r#"resource.kind like "psy*""#,
    r#"["a", "progress_note"].contains(resource.kind)"#,
    r#"principal.departments.contains(resource.department)"#,
    r#"resource.kind == resource.department"#,
    r#"resource.sensitivity >= 2"#,
    r#"resource.sensitivity == principal.level"#,
    r#"resource.sensitivity + principal.level > 3"#,
    r#"resource.sensitivity * 4611686018427387904 > 0"#,
    r#"principal.level * 4611686018427387904 > 0"#,
    r#"resource has score && resource.score == decimal("0.5")"#,
    r#"resource has score && resource.score.lessThan(decimal("0.7"))"#,
    r#"resource has score && [decimal("0.5"), decimal("2.0")].contains(resource.score)"#,
    r#"resource has made && resource.made < context.now"#,
    r#"resource has labels && resource.labels.contains("x")"#,
    r#"resource has labels && resource.labels.contains(principal.role)"#,
    r#"resource has labels && resource.labels.containsAny(principal.departments)"#,
    r#"resource has labels && principal.departments.containsAny(resource.labels)"#,
    r#"resource has labels && resource.labels.containsAll(["x"])"#,
    r#"resource has labels && resource.labels.containsAll(principal.departments)"#,
    r#"resource has labels && principal.departments.containsAll(resource.labels)"#,
    r#"resource has labels && resource.labels.isEmpty()"#,
    r#"resource has labels && resource.labels == ["x", "y"]"#,
    r#"resource has sealed && resource.sealed"#,
    r#"resource has sealed && !resource.sealed && !context.break_glass"#,
    r#"resource.hasTag("unit")"#,
    r#"resource.hasTag("unit") && resource.getTag("unit") == "north""#,
    r#"resource.hasTag(principal.facility)"#,
    r#"resource.hasTag(principal.facility) && resource.getTag(principal.facility) == principal.role"#,
    r#"resource.hasTag("unit") && resource.getTag("unit") like "n*""#,
    r#"resource in Team::"t0""#,
    r#"resource in [Team::"t2", Team::"t4"]"#,
    r#"resource in Collection::"ward""#,
    r#"resource in Document::"ward/d1""#,
    r#"resource == Record::"ward/3""#,
    r#"resource is Record in Team::"t1""#,
    r#"resource is Record"#,
    r#"[Record::"ward/1", Record::"ward/2"].contains(resource)"#,
    r#"Clinician::"c9".role == "nurse""#,
    r#"Clinician::"c1" in Team::"t0""#,
    r#"Team::"t9" in Team::"t0""#,
    r#"if resource.sensitivity > 1 then principal.level > 1 else resource.kind == "progress_note""#,
    r#"action == Action::"Read""#,
    r#"action in Action::"Anything""#,
];

fn condition(dice: &mut Dice, depth: u64) -> String {
    if depth == 0 || dice.one_in(3) {
        return format!("({})", dice.pick(ATOMS));
    }
    let (a, b) = (condition(dice, depth - 1), condition(dice, depth - 1));
    match dice.below(8) {
        0..=2 => format!("({a} && {b})"),
        3..=5 => format!("({a} || {b})"),
        6 => format!("!{a}"),
        _ => format!("(if {a} then {b} else {})", condition(dice, depth - 1)),
    }
}

fn policies(dice: &mut Dice) -> String {
    let mut text = String::new();
    for i in 0..1 + dice.below(6) {
        let effect = if i == 0 || !dice.one_in(3) { "permit" } else { "forbid" };
        let principal = *dice.pick(&[
            "principal",
            "principal is Clinician",
            r#"principal == Clinician::"c1""#,
            r#"principal in Team::"t0""#,
            r#"principal is Clinician in Team::"t3""#,
            "principal",
        ]);
        let action = *dice.pick(&[
            "action",
            r#"action == Action::"Retrieve""#,
            r#"action in [Action::"Read", Action::"Retrieve"]"#,
            r#"action in Action::"Anything""#,
        ]);
        let resource = *dice.pick(&[
            "resource is Record",
            "resource is Record",
            r#"resource is Record in Team::"t1""#,
            r#"resource in Team::"t4""#,
            r#"resource == Record::"ward/2""#,
            r#"resource in Document::"ward/d1""#,
        ]);
        let when = format!("when {{ principal is Clinician && {} }}", condition(dice, 3));
        let unless = if dice.one_in(3) { format!("unless {{ {} }}", condition(dice, 1)) } else { String::new() };
        text += &format!("@id(\"p{i}\") {effect} ({principal}, {action}, {resource}) {when} {unless};\n");
    }
    text
}

fn reference(ty: &str, dice: &mut Dice, of: u64) -> Json {
    json!({"type": ty, "id": format!("{}{}", &ty[..1].to_lowercase(), dice.below(of))})
}

fn ward(bundle: &Bundle, dice: &mut Dice) -> (Directory, Vec<Entity>) {
    let mut directory = Directory::new();
    // one in eight of everything is not stored
    let mut put = |dice: &mut Dice, json: Json| {
        let entity = bundle.entity(&json).unwrap();
        if !dice.one_in(8) {
            directory.upsert(entity);
        }
    };
    for i in 0..6 {
        let parents: Vec<Json> =
            (i + 1..6).filter(|_| dice.one_in(3)).map(|p| json!({"type": "Team", "id": format!("t{p}")})).collect();
        put(dice, json!({"uid": {"type": "Team", "id": format!("t{i}")}, "attrs": {}, "parents": parents}));
    }
    for i in 0..4 {
        let assigned: Vec<Json> = (0..dice.below(4)).map(|_| reference("Patient", dice, 6)).collect();
        let mut attrs = json!({"role": dice.pick(&["nurse", "head", "x"]), "facility": dice.pick(&["unit", "north"]), "level": dice.below(3), "assigned": assigned, "departments": [dice.pick(&["x", "cardiology"]), "y"]});
        if dice.one_in(2) {
            attrs["shift"] = reference("Team", dice, 6);
        }
        let parents: Vec<Json> = (0..dice.below(3)).map(|_| reference("Team", dice, 6)).collect();
        put(dice, json!({"uid": {"type": "Clinician", "id": format!("c{i}")}, "attrs": attrs, "parents": parents}));
    }
    for i in 0..6 {
        let team: Vec<Json> = (0..dice.below(3)).map(|_| reference("Clinician", dice, 4)).collect();
        let mut attrs = json!({"vip": dice.one_in(3), "team": team});
        if dice.one_in(2) {
            attrs["consent"] = json!(dice.one_in(2));
        }
        if dice.one_in(2) {
            attrs["author"] = reference("Clinician", dice, 5);
        }
        let parents: Vec<Json> = (0..dice.below(2)).map(|_| reference("Team", dice, 6)).collect();
        let tags = if dice.one_in(2) {
            json!({*dice.pick(&["unit", "north"]): dice.pick(&["north", "south"])})
        } else {
            json!({})
        };
        put(
            dice,
            json!({"uid": {"type": "Patient", "id": format!("p{i}")}, "attrs": attrs, "parents": parents, "tags": tags}),
        );
    }
    for i in 0..3 {
        put(dice, json!({"uid": {"type": "Document", "id": format!("ward/d{i}")}, "attrs": {}, "parents": []}));
    }
    directory.imply(EntityUid::new("Collection", "ward"));
    let records = (0..24).map(|i| generated_record(bundle, dice, i)).collect();
    (directory, records)
}

fn generated_record(bundle: &Bundle, dice: &mut Dice, i: u64) -> Entity {
    let mut attrs = json!({"kind": dice.pick(&["progress_note", "psych", "x"]), "department": dice.pick(&["cardiology", "x"]), "sensitivity": dice.below(4)});
    let mut maybe = |dice: &mut Dice, name: &str, value: Json| {
        if !dice.one_in(3) {
            attrs[name] = value;
        }
    };
    let value = reference("Patient", dice, 7);
    maybe(dice, "patient", value);
    let value = reference("Clinician", dice, 5);
    maybe(dice, "author", value);
    let value = json!(dice.pick(&["0.5", "0.50", "0.500", "2.0", "0.6"]));
    maybe(dice, "score", value);
    let value = json!(dice.pick(&["2025-01-01", "2026-03-01T12:00:00Z", "2027-01-01"]));
    maybe(dice, "made", value);
    let value = json!((0..dice.below(3)).map(|_| *dice.pick(&["x", "y", "nurse"])).collect::<Vec<_>>());
    maybe(dice, "labels", value);
    let value = json!(dice.one_in(2));
    maybe(dice, "sealed", value);
    let mut value = json!({"note": dice.pick(&["a", "bab", "c"])});
    if dice.one_in(2) {
        value["who"] = reference("Clinician", dice, 5);
    }
    maybe(dice, "info", value);
    let tags = if dice.one_in(2) {
        json!({*dice.pick(&["unit", "north"]): dice.pick(&["north", "nurse"])})
    } else {
        json!({})
    };
    let mut parents =
        vec![EntityUid::new("Document", format!("ward/d{}", dice.below(3))), EntityUid::new("Collection", "ward")];
    parents.extend((0..dice.below(2)).map(|_| EntityUid::new("Team", format!("t{}", dice.below(6)))));
    bundle.record(EntityUid::new("Record", format!("ward/{i}")), &attrs, &tags, &parents).unwrap()
}

#[derive(Default)]
struct Counts {
    decided: u64,
    allowed: u64,
    asked: u64,
    bundles: u64,
}

fn agree(seed: u64, counts: &mut Counts) {
    let mut dice = Dice(seed);
    let text = policies(&mut dice);
    let source = BundleSource { schema: schema(""), policies: text.clone(), ..Default::default() };
    // now and then a scope and a condition contradict each other in the validator's eyes
    let Ok(bundle) = Bundle::compile(&source) else { return };
    counts.bundles += 1;
    let (mut directory, records) = ward(&bundle, &mut dice);
    let mut columns = Columns::new();
    for (slot, record) in records.iter().enumerate() {
        columns.insert(Slot(slot as u32), record);
    }
    for round in 0..2 {
        for who in 0..3 {
            let action = *dice.pick(&[Action::Retrieve, Action::Read]);
            let principal = EntityUid::new("Clinician", format!("c{who}"));
            let inquiry = bundle.inquiry(principal, action, &offered("treatment")).unwrap();
            let scope = bundle.plan(&inquiry, &columns, &directory);
            let verdicts = bundle.decide_many(&inquiry, &records, &directory);
            for (slot, (record, verdict)) in records.iter().zip(&verdicts).enumerate() {
                let slot = slot as u32;
                let expected = oracle::allows(&bundle, &inquiry, record, &directory);
                let told = || {
                    format!(
                        "seed {seed} round {round} c{who} {action:?} slot {slot} {verdict:?}\n{text}\n{}",
                        record.to_json()
                    )
                };
                assert_eq!(verdict.is_allow(), expected, "decide: {}", told());
                if columns.live().contains(slot) {
                    assert!(!scope.allowed.contains(slot) || expected, "plan allows what is denied: {}", told());
                    assert!(
                        !expected || scope.allowed.contains(slot) || scope.ask.contains(slot),
                        "plan denies what is allowed: {}",
                        told()
                    );
                } else {
                    assert!(!scope.allowed.contains(slot) && !scope.ask.contains(slot), "{}", told());
                }
                counts.decided += 1;
                counts.allowed += u64::from(expected);
                counts.asked += u64::from(scope.ask.contains(slot));
            }
        }
        // the second round sees entities and records gone: what was remembered must not be used
        for _ in 0..3 {
            let ty = *dice.pick(&["Patient", "Team", "Clinician"]);
            directory.remove(&EntityUid::new(ty, format!("{}{}", &ty[..1].to_lowercase(), dice.below(5))));
            columns.remove(Slot(dice.below(24) as u32));
        }
        let again = dice.below(24) as u32;
        columns.insert(Slot(again), &records[again as usize]);
    }
}

#[test]
fn decisions_and_plans_agree_with_the_oracle() {
    let mut counts = Counts::default();
    let cases = std::env::var("WARDKEEP_POLICY_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let start = std::env::var("WARDKEEP_POLICY_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    (start..start + cases).for_each(|seed| agree(seed, &mut counts));
    println!(
        "{} bundles, {} decisions, {} allowed, {} asked",
        counts.bundles, counts.decided, counts.allowed, counts.asked
    );
    assert!(counts.bundles * 10 > cases * 7, "too few generated bundles are valid: {}", counts.bundles);
    assert!(counts.allowed * 20 > counts.decided, "too few decisions are allowed: {}", counts.allowed);
    assert!(counts.asked * 4 < counts.decided, "the planner gives up too often: {}", counts.asked);
}

#[test]
fn the_clinical_sample_asks_cedar_about_no_record() {
    let bundle = bundle(POLICIES);
    let directory = directory(&bundle);
    let mut columns = Columns::new();
    let kinds = ["progress_note", "psychotherapy", "substance_use", "research"];
    for slot in 0..400_u32 {
        let patient = ["p1", "p2", "p3", ""][(slot % 4) as usize];
        let record = record(
            &bundle,
            &slot.to_string(),
            patient,
            kinds[(slot / 4 % 4) as usize],
            &[("sensitivity", json!(slot % 5))],
        );
        columns.insert(Slot(slot), &record);
    }
    for who in ["nurse", "privacy", "temp"] {
        let scope = bundle.plan(&ask(&bundle, who), &columns, &directory);
        assert!(scope.ask.is_empty());
        assert!(scope.evaluations < 60, "{}", scope.evaluations);
    }
    assert!(!bundle.plan(&ask(&bundle, "nurse"), &columns, &directory).allowed.is_empty());
}
