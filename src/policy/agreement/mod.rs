//! Generated schemas, bundles, wards and questions: `decide` and `plan` against the oracle, record by record. A failure prints its
//! seed; `WARDKEEP_POLICY_SEED` repeats it, `WARDKEEP_POLICY_CASES` says how many bundles are made.

mod corpus;
mod coverage;
mod design;
mod dice;
mod mutants;
mod rules;
mod values;
mod wards;
mod words;

use std::collections::BTreeSet;

use roaring::RoaringBitmap;
use serde_json::json;

use self::{coverage::Coverage, design::Design, dice::Dice, rules::Yield, wards::Ward};
pub(super) use self::{
    coverage::met,
    mutants::{Mutant, is_planted, planted},
};
use super::{
    oracle::{Judgement, Oracle},
    samples::*,
    *,
};
use crate::model::Slot;

/// Rounds of questions, with changes in between.
const ROUNDS: usize = 3;
/// Questions in a round.
const QUESTIONS: usize = 5;

/// Counts of a run.
struct Counts {
    coverage: Coverage,
    gained: Yield,
    bundles: u64,
    decided: u64,
    allowed: u64,
    asked: u64,
}

impl Counts {
    fn new() -> Self {
        let (coverage, gained) = (Coverage::new(), Yield::default());
        Self { coverage, gained, bundles: 0, decided: 0, allowed: 0, asked: 0 }
    }

    fn note(&mut self, judgement: &Judgement, verdict: &Verdict, asked: bool) {
        self.decided += 1;
        self.allowed += u64::from(judgement.allows());
        self.asked += u64::from(asked);
        judgement.differs.iter().for_each(|what| self.coverage.difference(what));
        self.coverage.outcome(match verdict {
            Verdict::Allow { .. } => "decided: allowed",
            Verdict::Deny(DenyReason::UnknownPrincipal) => "decided: unknown principal",
            Verdict::Deny(DenyReason::Unfit) => "decided: unfit",
            Verdict::Deny(DenyReason::MissingEntity(_)) => "decided: missing entity",
            Verdict::Deny(DenyReason::Erred(_)) => "decided: erred",
            Verdict::Deny(DenyReason::Forbidden(_)) => "decided: forbidden",
            Verdict::Deny(DenyReason::NoPermit) => "decided: no permit",
        });
    }

    fn print(&self) {
        self.coverage.print();
        println!(
            "{} bundles of {} policies written, {} valid; {} decisions, {} allowed, {} left to Cedar",
            self.bundles, self.gained.written, self.gained.valid, self.decided, self.allowed, self.asked
        );
    }
}

/// What is wrong, in words; everything else is in the seed.
type Disagreement = String;

/// A bundle, and who judges it.
struct Case {
    source: BundleSource,
    bundle: Bundle,
    oracle: Oracle,
}

impl Case {
    fn roll(dice: &mut Dice, design: &Design, counts: &mut Counts) -> Self {
        let source = rules::roll(dice, design, &mut counts.gained);
        let bundle = Bundle::compile(&source).unwrap_or_else(|faults| panic!("{faults:?}\n{}", source.policies));
        let oracle = Oracle::new(&bundle);
        counts.coverage.policies(&oracle.set);
        counts.bundles += 1;
        Self { source, bundle, oracle }
    }
}

/// One schema, one or two bundles, one ward: all its decisions.
fn agree(seed: u64, counts: &mut Counts) -> Result<(), Disagreement> {
    let mut dice = Dice(seed);
    let design = Design::roll(&mut dice);
    // what is remembered under one bundle must not be used wrongly under another of the same schema
    let cases: Vec<Case> = (0..dice.between(1, 2)).map(|_| Case::roll(&mut dice, &design, counts)).collect();
    let mut ward = Ward::roll(&mut dice, &design);
    if ward.fits() {
        for entity in ward.directory.iter().map(AsRef::as_ref).chain(ward.records.values()).take(40) {
            let fault = cases[0].bundle.check(entity).err();
            assert!(fault.is_none(), "seed {seed}: {fault:?} {}", entity.to_json());
        }
    }
    for round in 0..ROUNDS {
        let case = dice.pick(&cases);
        let questions = ward.questions(&mut dice, &case.bundle, QUESTIONS);
        let told =
            |e: String| format!("seed {seed} round {round} {e}\n{}\n{}", case.source.policies, case.source.templates);
        round_agrees(case, &ward, &questions, counts).map_err(told)?;
        ward.change(&mut dice);
    }
    Ok(())
}

/// Every question about every record, as all are now.
fn round_agrees(case: &Case, ward: &Ward<'_>, questions: &[Inquiry], counts: &mut Counts) -> Result<(), Disagreement> {
    let Case { bundle, oracle, .. } = case;
    let stored = oracle.stored(&ward.directory);
    let records: Vec<Entity> = ward.records.values().cloned().collect();
    let worlds: Vec<_> = records.iter().map(|record| oracle.world(record, &stored, &ward.directory)).collect();
    for inquiry in questions {
        let scope = bundle.plan(inquiry, &ward.columns, &ward.directory);
        let verdicts = bundle.decide_many(inquiry, &records, &ward.directory);
        let live: RoaringBitmap = ward.records.keys().copied().collect();
        let outside = (&scope.allowed | &scope.ask) - live;
        if !outside.is_empty() {
            return Err(format!("plan speaks of slots without a record: {outside:?}"));
        }
        for ((slot, world), (record, verdict)) in ward.records.keys().zip(&worlds).zip(records.iter().zip(&verdicts)) {
            let judgement = oracle.judge(inquiry, world);
            let told = |what: &str| {
                let (context, who) = (inquiry.context().to_json(), inquiry.principal());
                format!(
                    "{what}: {who:?} {:?} {context} {verdict:?} {judgement:?}\n{}\n{}",
                    inquiry.action(),
                    record.to_json(),
                    neighbours(ward, inquiry, record)
                )
            };
            counts.note(&judgement, verdict, scope.ask.contains(*slot));
            compare(&judgement, verdict, &scope, *slot).map_err(told)?;
            caps_are_told(bundle, verdict, &scope, *slot).map_err(told)?;
        }
    }
    Ok(())
}

/// The stored entities that a caller, a context and a record refer to, for whoever reads a disagreement.
fn neighbours(ward: &Ward<'_>, inquiry: &Inquiry, record: &Entity) -> String {
    let mut near = record.references();
    near.push(inquiry.principal());
    inquiry.context().entities(&mut near);
    let near: Vec<&Entity> = near.into_iter().filter_map(|uid| ward.directory.get(uid)).map(AsRef::as_ref).collect();
    let far = near.iter().flat_map(|entity| entity.references()).filter_map(|uid| ward.directory.get(uid));
    let all: BTreeSet<String> =
        near.iter().copied().chain(far.map(AsRef::as_ref)).map(|entity| entity.to_json().to_string()).collect();
    all.into_iter().collect::<Vec<_>>().join("\n")
}

fn compare(judgement: &Judgement, verdict: &Verdict, scope: &Scope, slot: u32) -> Result<(), &'static str> {
    let (allowed, asked) = (scope.allowed.contains(slot), scope.ask.contains(slot));
    match judgement.allows() {
        expected if verdict.is_allow() != expected => Err("decide is wrong"),
        false if allowed => Err("plan allows what is denied"),
        true if !allowed && !asked => Err("plan denies what is allowed"),
        _ if allowed && asked => Err("plan allows and asks"),
        _ => Ok(()),
    }
}

/// Every permit that grants a record is named in the plan, if it has a cap; else the plan says that not all have one.
fn caps_are_told(bundle: &Bundle, verdict: &Verdict, scope: &Scope, slot: u32) -> Result<(), &'static str> {
    let Verdict::Allow { permits } = verdict else { return Ok(()) };
    let capped = |name: &PolicyName| bundle.policies.iter().any(|p| p.name == *name && p.max_records.is_some());
    let told = |name: &PolicyName| scope.capped.iter().any(|(of, slots)| of == name && slots.contains(slot));
    let hidden = |name: &&PolicyName| if capped(name) { !told(name) } else { false };
    match scope.all_capped {
        true if !permits.iter().all(capped) => Err("plan overlooks a permit without a cap"),
        true if permits.iter().any(|name| hidden(&name)) => Err("plan overlooks a permit with a cap"),
        true | false => Ok(()),
    }
}

fn wish(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|n| n.parse().ok())
}

/// Decisions from which on a run counts as a full one.
const FULL: u64 = 1_000_000;

#[test]
fn decisions_and_plans_agree_with_the_oracle() {
    let full = std::env::var("WARDKEEP_TESTS").is_ok_and(|wish| wish == "full");
    let cases = wish("WARDKEEP_POLICY_CASES").unwrap_or(if full { 3_300 } else { 24 });
    let start = wish("WARDKEEP_POLICY_SEED").unwrap_or(1);
    let mut counts = Counts::new();
    let wrong: Vec<Disagreement> =
        (start..start + cases).filter_map(|seed| agree(seed, &mut counts).err()).take(20).collect();
    counts.print();
    println!("seeds {start} to {}, {} wrong", start + cases - 1, wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(counts.coverage.unlisted().is_empty(), "{:?}", counts.coverage.unlisted());
    if cases >= 20 {
        assert!(counts.gained.valid * 2 > counts.gained.written, "too few policies are valid: {}", counts.gained.valid);
        assert!(counts.allowed * 20 > counts.decided, "too few decisions are allowed: {}", counts.allowed);
        assert!(counts.asked * 4 < counts.decided, "the planner gives up too often: {}", counts.asked);
        assert!(counts.coverage.bound_percent() >= 50, "{}", counts.coverage.bound_percent());
    }
    if counts.decided >= FULL {
        assert!(counts.coverage.below(1_000).is_empty(), "met too seldom: {:?}", counts.coverage.below(1_000));
    }
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
