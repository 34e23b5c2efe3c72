//! The walk held against a matcher that tries every assignment and shares no code with it, and against rankings made from an assignment
//! that is known to fit. Every failure names its seed.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::policy::PermitCap;

/// A record as the reference sees it: whose it is and which permits grant it.
type Row = (Option<usize>, Vec<usize>);
/// Caps of one permit on records and on patients.
type CapPair = (Option<u64>, Option<u64>);

struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

fn name(at: usize) -> PolicyName {
    format!("permit-{at:03}").into()
}

fn caps(pairs: &[CapPair]) -> Caps {
    let cap =
        |(at, &(max_records, max_patients)): (usize, &CapPair)| PermitCap { name: name(at), max_records, max_patients };
    Caps { permits: pairs.iter().enumerate().map(cap).collect() }
}

fn patient(at: usize) -> EntityUid {
    EntityUid::new("Patient", format!("p{at}"))
}

fn walk(pairs: &[CapPair], ranking: &[Row]) -> (Vec<bool>, Cut) {
    let mut allotment = Allotment::new(&caps(pairs));
    let admitted = ranking.iter().map(|(whose, permits)| admit(&mut allotment, *whose, permits)).collect();
    (admitted, allotment.into_cut())
}

fn admit(allotment: &mut Allotment, whose: Option<usize>, permits: &[usize]) -> bool {
    let names: Vec<PolicyName> = permits.iter().map(|at| name(*at)).collect();
    allotment.admit(&names, whose.map(patient).as_ref())
}

/// Whether all rows can be assigned together: every assignment is tried.
fn assignable(pairs: &[CapPair], rows: &[&Row]) -> bool {
    fn go(pairs: &[CapPair], rows: &[&Row], chosen: &mut Vec<usize>) -> bool {
        let fits = |at: usize| {
            let mine = || rows.iter().zip(&*chosen).filter(|(_, choice)| **choice == at);
            let patients: BTreeSet<usize> = mine().filter_map(|((whose, _), _)| *whose).collect();
            pairs[at].0.is_none_or(|most| mine().count() as u64 <= most)
                && pairs[at].1.is_none_or(|most| patients.len() as u64 <= most)
        };
        if !(0..pairs.len()).all(fits) {
            return false;
        }
        let Some((_, permits)) = rows.get(chosen.len()) else { return true };
        permits.iter().any(|at| {
            chosen.push(*at);
            let found = go(pairs, rows, chosen);
            chosen.pop();
            found
        })
    }
    go(pairs, rows, &mut Vec::new())
}

/// The contract, word for word: released if it and all released before it can be assigned together.
fn reference(pairs: &[CapPair], ranking: &[Row]) -> Vec<bool> {
    let mut released: Vec<&Row> = Vec::new();
    let mut admitted = Vec::new();
    for row in ranking {
        released.push(row);
        let fits = assignable(pairs, &released);
        if !fits {
            released.pop();
        }
        admitted.push(fits);
    }
    admitted
}

#[track_caller]
fn agree(pairs: &[CapPair], ranking: &[Row], what: &str) {
    let (admitted, cut) = walk(pairs, ranking);
    assert_eq!(admitted, reference(pairs, ranking), "{what}: {pairs:?} {ranking:?}");
    assert_eq!(cut.records, admitted.iter().filter(|a| !**a).count() as u64, "{what}");
    assert_eq!(cut.undecided, 0, "{what}: {pairs:?} {ranking:?}");
}

#[test]
fn every_ranking_of_three_records_under_two_permits_is_cut_as_the_reference_cuts_it() {
    let values = [None, Some(1), Some(2)];
    let pairs: Vec<CapPair> = values.iter().flat_map(|r| values.iter().map(move |p| (*r, *p))).collect();
    let whose = [None, Some(0), Some(1), Some(2)];
    let permits = [vec![0], vec![1], vec![0, 1]];
    let rows: Vec<Row> = whose.iter().flat_map(|w| permits.iter().map(move |p| (*w, p.clone()))).collect();
    for a in &pairs {
        for b in &pairs {
            for x in &rows {
                for y in &rows {
                    for z in &rows {
                        agree(&[*a, *b], &[x.clone(), y.clone(), z.clone()], "exhaustive");
                    }
                }
            }
        }
    }
}

fn random_row(dice: &mut Dice, permits: u64, patients: u64) -> Row {
    let whose = (dice.below(6) > 0).then(|| dice.below(patients) as usize);
    let mut set: Vec<usize> = (0..permits as usize).filter(|_| dice.below(2) == 0).collect();
    if set.is_empty() {
        set.push(dice.below(permits) as usize);
    }
    (whose, set)
}

#[test]
fn random_rankings_are_cut_as_the_reference_cuts_them() {
    for seed in 0..6_000 {
        let mut dice = Dice(seed);
        let permits = 2 + dice.below(3);
        let cap = |dice: &mut Dice, most| (dice.below(4) > 0).then(|| 1 + dice.below(most));
        let pairs: Vec<CapPair> = (0..permits).map(|_| (cap(&mut dice, 4), cap(&mut dice, 2))).collect();
        let patients = 2 + dice.below(3);
        let records = 5 + dice.below(4);
        let ranking: Vec<Row> = (0..records).map(|_| random_row(&mut dice, permits, patients)).collect();
        agree(&pairs, &ranking, &format!("seed {seed}"));
    }
}

/// A second exact method, for sizes that trying everything does not reach: patient by patient, every way to spread its records, the
/// remaining caps of all permits as the state; no bound.
fn assignable_by_patient(pairs: &[CapPair], rows: &[&Row]) -> bool {
    let mut by_patient: BTreeMap<Option<usize>, BTreeMap<&[usize], u64>> = BTreeMap::new();
    for (whose, permits) in rows {
        *by_patient.entry(*whose).or_default().entry(permits).or_default() += 1;
    }
    let full = |cap: Option<u64>| cap.unwrap_or(1_000);
    let mut states = BTreeSet::from([pairs.iter().map(|(r, p)| (full(*r), full(*p))).collect::<Vec<_>>()]);
    for (whose, groups) in by_patient {
        let mut next: BTreeSet<(Vec<(u64, u64)>, BTreeSet<usize>)> =
            states.into_iter().map(|left| (left, BTreeSet::new())).collect();
        for (permits, records) in groups {
            for _ in 0..records {
                let mut after = BTreeSet::new();
                for (left, open) in &next {
                    for at in permits {
                        let (mut left, mut open) = (left.clone(), open.clone());
                        let slot = u64::from(whose.is_some() && open.insert(*at));
                        if left[*at].0 >= 1 && left[*at].1 >= slot {
                            left[*at] = (left[*at].0 - 1, left[*at].1 - slot);
                            after.insert((left, open));
                        }
                    }
                }
                next = after;
            }
        }
        states = next.into_iter().map(|(left, _)| left).collect();
    }
    !states.is_empty()
}

#[test]
fn rankings_of_dozens_of_records_are_cut_as_a_second_exact_method_cuts_them() {
    for seed in 0..150 {
        let mut dice = Dice(1_000_000 + seed);
        let pairs: Vec<CapPair> =
            (0..3).map(|_| ((dice.below(3) > 0).then(|| 3 + dice.below(6)), Some(2 + dice.below(3)))).collect();
        let ranking: Vec<Row> = (0..30).map(|_| random_row(&mut dice, 3, 10)).collect();
        let (admitted, cut) = walk(&pairs, &ranking);
        let mut released: Vec<&Row> = Vec::new();
        for (row, admitted) in ranking.iter().zip(admitted) {
            released.push(row);
            assert_eq!(admitted, assignable_by_patient(&pairs, &released), "seed {seed}: {pairs:?} {ranking:?}");
            if !admitted {
                released.pop();
            }
        }
        assert_eq!(cut.undecided, 0, "seed {seed}");
    }
}

/// A ranking made from an assignment that fills every cap to the last place, each record granted by other permits too, in any order.
fn planted(dice: &mut Dice, permits: u64, patients_each: u64, records_each: u64) -> (Vec<CapPair>, Vec<Row>) {
    let pool = (permits * patients_each) as usize;
    let mut rows = Vec::new();
    for at in 0..permits as usize {
        let mut own: Vec<usize> = Vec::new();
        while own.len() < patients_each as usize {
            let one = dice.below(pool as u64) as usize;
            if !own.contains(&one) {
                own.push(one);
            }
        }
        for record in 0..records_each as usize {
            let whose = if record < own.len() { own[record] } else { own[dice.below(patients_each) as usize] };
            let mut set: BTreeSet<usize> = BTreeSet::from([at]);
            set.extend((0..dice.below(3)).map(|_| dice.below(permits) as usize));
            rows.push((Some(whose), set.into_iter().collect()));
        }
    }
    dice.shuffle(&mut rows);
    (vec![(Some(records_each), Some(patients_each)); permits as usize], rows)
}

#[test]
fn whatever_was_made_from_an_assignment_that_fits_is_released_whole() {
    for seed in 0..200 {
        let mut dice = Dice(2_000_000 + seed);
        let (permits, patients) = (2 + dice.below(5), 2 + dice.below(5));
        let records = patients * (1 + dice.below(3)) + dice.below(3);
        let (pairs, ranking) = planted(&mut dice, permits, patients, records);
        let (admitted, _) = walk(&pairs, &ranking);
        let withheld = admitted.iter().filter(|a| !**a).count();
        assert_eq!(withheld, 0, "seed {seed}: {permits} permits of {records} records of {patients} patients");
    }
}

/// Whatever is given up on is withheld: what is released fits all the same.
#[test]
fn where_the_work_ends_a_record_is_withheld_and_counted_and_none_is_released_that_does_not_fit() {
    let mut undecided = 0;
    for seed in 0..60 {
        let mut dice = Dice(4_000_000 + seed);
        let pairs: Vec<CapPair> = (0..3).map(|_| (Some(3 + dice.below(6)), Some(2 + dice.below(3)))).collect();
        let ranking: Vec<Row> = (0..30).map(|_| random_row(&mut dice, 3, 10)).collect();
        let mut allotment = Allotment::new(&caps(&pairs));
        allotment.work = Work::of(seed * 20);
        let mut released: Vec<&Row> = Vec::new();
        for row in &ranking {
            if admit(&mut allotment, row.0, &row.1) {
                released.push(row);
            }
        }
        assert!(assignable_by_patient(&pairs, &released), "seed {seed}");
        let cut = allotment.into_cut();
        assert_eq!(cut.records as usize, ranking.len() - released.len(), "seed {seed}");
        undecided += cut.undecided;
    }
    assert!(undecided > 0);
}

/// Without caps on patients the answer is exact however little work may be done.
#[test]
fn caps_on_records_alone_need_no_search() {
    for seed in 0..300 {
        let mut dice = Dice(5_000_000 + seed);
        let pairs: Vec<CapPair> = (0..4).map(|_| (Some(1 + dice.below(3)), None)).collect();
        let ranking: Vec<Row> = (0..8).map(|_| random_row(&mut dice, 4, 8)).collect();
        let mut allotment = Allotment::new(&caps(&pairs));
        allotment.work = Work::of(0);
        let admitted: Vec<bool> =
            ranking.iter().map(|(whose, permits)| admit(&mut allotment, *whose, permits)).collect();
        assert_eq!(admitted, reference(&pairs, &ranking), "seed {seed}");
        assert_eq!(allotment.into_cut().undecided, 0);
    }
}

/// The largest answer that may be asked for, under as many permits as a large bundle has: most of the room is used.
#[test]
fn ten_thousand_records_under_two_hundred_permits_are_walked() {
    let mut dice = Dice(6_000_000);
    let pairs = vec![(Some(30), Some(10)); 200];
    let mut allotment = Allotment::new(&caps(&pairs));
    let mut released = 0_u64;
    for _ in 0..10_000 {
        let set: BTreeSet<usize> = (0..3).map(|_| dice.below(200) as usize).collect();
        let set: Vec<usize> = set.into_iter().collect();
        released += u64::from(admit(&mut allotment, Some(dice.below(1_500) as usize), &set));
    }
    let cut = allotment.into_cut();
    println!("released {released}, withheld {}, of these undecided {}", cut.records, cut.undecided);
    assert_eq!(released + cut.records, 10_000);
    assert!((1_900..=6_000).contains(&released), "two thousand places for patients: {released}");
}
