//! Which permit answers for which released record, kept so that every cap holds; one record more is taken in by moving others along a
//! single line. Knows numbers alone; where a line is not enough, `arrange` begins afresh.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::{
    Limit,
    arrange::{self, Answer, Demand},
    flow::{Network, UNBOUNDED},
    mend::mend,
    work::{Spent, Work},
};

/// Steps of the searches between which the quick way is tried, each time more often: one may find soon what the other does not.
const SEARCHES: [u64; 3] = [5_000, 50_000, 200_000];

/// Released records, by whose they are and which permits grant them, and how they are assigned.
pub(super) struct Ledger {
    limits: Vec<Limit>,
    groups: Vec<Group>,
    numbers: HashMap<(Option<usize>, Vec<usize>), usize>,
    of_patient: HashMap<usize, Vec<usize>>,
    loads: Vec<Load>,
}

/// Released records that are alike: of one patient (or of nobody), granted by the same permits.
struct Group {
    patient: Option<usize>,
    permits: Vec<usize>,
    records: u64,
}

/// What one permit answers for.
#[derive(Default, Clone)]
pub(super) struct Load {
    records: u64,
    patients: HashMap<usize, u64>,
    groups: BTreeMap<usize, u64>,
}

/// Records on their way from one permit to another: group, from, to, how many.
#[derive(Clone)]
pub(super) struct Move(Vec<(usize, usize, usize, u64)>);

/// How a permit was reached: by moving a record of a group from another permit here, or as the first.
type Step = Option<(usize, usize)>;

impl Ledger {
    pub(super) fn new(limits: Vec<Limit>) -> Self {
        let loads = vec![Load::default(); limits.len()];
        Self { limits, groups: Vec::new(), numbers: HashMap::new(), of_patient: HashMap::new(), loads }
    }

    /// The group of records of `patient` that `permits` grant.
    pub(super) fn group(&mut self, patient: Option<usize>, permits: &[usize]) -> usize {
        let next = self.groups.len();
        let number = *self.numbers.entry((patient, permits.to_vec())).or_insert(next);
        if number == next {
            self.groups.push(Group { patient, permits: permits.to_vec(), records: 0 });
            if let Some(patient) = patient {
                self.of_patient.entry(patient).or_default().push(number);
            }
        }
        number
    }

    /// What was released of a patient: how many records that which permits grant.
    pub(super) fn profile(&self, patient: usize) -> BTreeMap<&[usize], u64> {
        let groups = self.of_patient.get(&patient).map(Vec::as_slice).unwrap_or_default();
        let groups = groups.iter().filter_map(|number| self.groups.get(*number)).filter(|group| group.records > 0);
        groups.map(|group| (group.permits.as_slice(), group.records)).collect()
    }

    /// Takes in one record more of a group, if a permit of `first` has room for it as things are.
    pub(super) fn place(&mut self, group: usize, first: &[usize]) -> bool {
        let patient = self.groups.get(group).and_then(|g| g.patient);
        let Some(at) = first.iter().find(|at| self.would_place(patient, **at)).copied() else {
            return false;
        };
        self.count_in(group);
        self.add(group, at);
        true
    }

    /// Whether a permit has room for one record more as things are.
    pub(super) fn would_place(&self, patient: Option<usize>, at: usize) -> bool {
        self.has_room(at) && self.lets_in(at, patient)
    }

    /// Lets one record more of a group in at one of `first` along a line of moves, each of one record from a permit to another, if there
    /// is one that keeps all caps.
    pub(super) fn shift(&mut self, group: usize, first: &[usize], work: &mut Work) -> bool {
        let patient = self.groups.get(group).and_then(|g| g.patient);
        let first: Vec<usize> = first.iter().copied().filter(|at| self.lets_in(*at, patient)).collect();
        match self.line(&first, |ledger, at, patient| ledger.lets_in(at, patient), work) {
            Ok((came_by, end)) => {
                self.count_in(group);
                self.move_along(&came_by, end, group);
                true
            }
            Err(_) => false,
        }
    }

    /// The permits that are full and whose records can go nowhere but to one another, if `first` are among them: what only they grant
    /// has no place, whatever the caps on patients say, and never will.
    pub(super) fn full(&self, first: &[usize], work: &mut Work) -> Option<BTreeSet<usize>> {
        self.line(first, |_, _, _| true, work).err()
    }

    /// A shortest line of moves from one of `first` to a permit with room, and its end; else all permits that were reached.
    fn line(
        &self,
        first: &[usize],
        lets_in: impl Fn(&Self, usize, Option<usize>) -> bool,
        work: &mut Work,
    ) -> Result<(BTreeMap<usize, Step>, usize), BTreeSet<usize>> {
        let mut came_by: BTreeMap<usize, Step> = first.iter().map(|at| (*at, None)).collect();
        let mut next: VecDeque<usize> = first.iter().copied().collect();
        while let Some(at) = next.pop_front() {
            if self.has_room(at) {
                return Ok((came_by, at));
            }
            let held = self.loads.get(at).map(|load| &load.groups).into_iter().flatten();
            // Counted, and always brought to an end: what it proves is for good.
            let _ = work.spend(held.size_hint().0);
            for (number, other) in held.filter_map(|(number, _)| Some((*number, self.groups.get(*number)?))) {
                for to in &other.permits {
                    if !came_by.contains_key(to) && lets_in(self, *to, other.patient) {
                        came_by.insert(*to, Some((number, at)));
                        next.push_back(*to);
                    }
                }
            }
        }
        Err(came_by.into_keys().collect())
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// How things stand, to be put back by `take_out`.
    pub(super) fn loads(&self) -> Vec<Load> {
        self.loads.clone()
    }

    /// Takes in one record more of a group, over the caps if need be.
    pub(super) fn let_in(&mut self, group: usize, at: usize) {
        self.count_in(group);
        self.add(group, at);
    }

    /// Takes back what `let_in` took in and everything that was moved since.
    pub(super) fn take_out(&mut self, group: usize, before: Vec<Load>) {
        self.loads = before;
        if let Some(group) = self.groups.get_mut(group) {
            group.records -= 1;
        }
    }

    /// The permits that are over a cap.
    pub(super) fn over(&self) -> Vec<usize> {
        let pairs = self.loads.iter().zip(&self.limits).enumerate();
        pairs.filter(|(_, (load, limit))| limit.excess(load) > 0).map(|(at, _)| at).collect()
    }

    /// How much is over all caps together.
    pub(super) fn excess(&self) -> u64 {
        self.loads.iter().zip(&self.limits).map(|(load, limit)| limit.excess(load)).sum()
    }

    /// What could move away from a permit: one record, or all of one patient's.
    pub(super) fn moves_from(&self, at: usize) -> Vec<Move> {
        let Some(load) = self.loads.get(at) else { return Vec::new() };
        let mut moves = Vec::new();
        let mut of_patient: BTreeMap<usize, Vec<(usize, u64)>> = BTreeMap::new();
        for (number, records) in &load.groups {
            let Some(group) = self.groups.get(*number) else { continue };
            let others = group.permits.iter().filter(|to| **to != at);
            moves.extend(others.map(|to| Move(vec![(*number, at, *to, 1)])));
            if let Some(patient) = group.patient {
                of_patient.entry(patient).or_default().push((*number, *records));
            }
        }
        for (patient, held) in of_patient.into_iter().filter(|(_, held)| held.iter().map(|(_, n)| n).sum::<u64>() > 1) {
            let ends: BTreeSet<usize> =
                held.iter().filter_map(|(n, _)| self.groups.get(*n)).flat_map(|g| &g.permits).copied().collect();
            moves.extend(ends.into_iter().filter(|to| *to != at).filter_map(|to| self.all_to(&held, patient, at, to)));
        }
        moves
    }

    /// All records that a permit answers for of a patient: to `to` where that grants them, else to where the patient is already, else anywhere.
    fn all_to(&self, held: &[(usize, u64)], patient: usize, at: usize, to: usize) -> Option<Move> {
        let end = |number: &usize| {
            let permits = &self.groups.get(*number)?.permits;
            let there = |end: &&usize| self.loads.get(**end).is_some_and(|load| load.patients.contains_key(&patient));
            let others = || permits.iter().filter(|end| **end != at);
            others().find(|end| **end == to).or_else(|| others().find(there)).or_else(|| others().next()).copied()
        };
        held.iter()
            .map(|(number, records)| Some((*number, at, end(number)?, *records)))
            .collect::<Option<_>>()
            .map(Move)
    }

    pub(super) fn make(&mut self, one: &Move) {
        for (group, from, to, records) in &one.0 {
            self.take_many(*group, *from, *records);
            self.add_many(*group, *to, *records);
        }
    }

    pub(super) fn unmake(&mut self, one: &Move) {
        for (group, from, to, records) in &one.0 {
            self.take_many(*group, *to, *records);
            self.add_many(*group, *from, *records);
        }
    }

    /// Whether one record more of a group can come in at all, however many others have to move; if so it is in.
    pub(super) fn rearrange(&mut self, group: usize, first: &[usize], work: &mut Work) -> Answer {
        for (attempt, steps) in SEARCHES.into_iter().enumerate() {
            let given = work.share(steps);
            let mut left = given;
            let found = self.begin_afresh(group, &mut left);
            work.settle(given, left);
            if found != Answer::Undecided {
                return found;
            }
            for turn in 0..=2 * attempt as u64 {
                match mend(self, group, first, turn + 8 * attempt as u64, work) {
                    Ok(true) => return Answer::Yes(Vec::new()),
                    Ok(false) => {}
                    Err(Spent) => return Answer::Undecided,
                }
            }
        }
        self.begin_afresh(group, work)
    }

    fn begin_afresh(&mut self, group: usize, work: &mut Work) -> Answer {
        if work.spend(self.groups.len()) == Err(Spent) {
            return Answer::Undecided;
        }
        let members = self.connected(group);
        let demands: Vec<Demand<'_>> = members
            .iter()
            .filter_map(|number| Some((number, self.groups.get(*number)?)))
            .map(|(number, g)| Demand {
                patient: g.patient,
                permits: &g.permits,
                records: g.records + u64::from(*number == group),
            })
            .collect();
        match arrange::arrange(&demands, &self.limits, work) {
            Answer::Yes(ways) => {
                let assigned: Vec<_> = members.into_iter().zip(ways).collect();
                self.count_in(group);
                if self.assign(&assigned) { Answer::Yes(Vec::new()) } else { Answer::Undecided }
            }
            no @ (Answer::No | Answer::Undecided) => no,
        }
    }

    /// Whether `rearrange` would succeed; changes nothing.
    pub(super) fn could_rearrange(&self, patient: Option<usize>, permits: &[usize], work: &mut Work) -> Answer {
        let one = [Demand { patient, permits, records: 1 }];
        let there = self.groups.iter().filter(|g| g.records > 0);
        let all = there.map(|g| Demand { patient: g.patient, permits: &g.permits, records: g.records });
        arrange::arrange(&all.chain(one).collect::<Vec<_>>(), &self.limits, work)
    }

    /// The groups that share permits with a group, over any number of others.
    fn connected(&self, group: usize) -> Vec<usize> {
        let mut permits: BTreeSet<usize> =
            self.groups.get(group).map(|g| g.permits.iter().copied().collect()).unwrap_or_default();
        let mut members = BTreeSet::from([group]);
        loop {
            let before = members.len();
            for (number, other) in self.groups.iter().enumerate().filter(|(_, g)| g.records > 0) {
                if !members.contains(&number) && other.permits.iter().any(|at| permits.contains(at)) {
                    members.insert(number);
                    permits.extend(&other.permits);
                }
            }
            if members.len() == before {
                return members.into_iter().collect();
            }
        }
    }

    /// Assigns groups anew, each to the permits that it may go to; as it was before if that breaks a cap.
    fn assign(&mut self, ways: &[(usize, Vec<usize>)]) -> bool {
        let before = self.loads.clone();
        for (number, _) in ways {
            self.clear(*number);
        }
        let spread = spread(ways, |number| self.groups.get(number).map_or(0, |g| g.records), &self.limits);
        for (group, at, records) in spread.unwrap_or_default() {
            self.add_many(group, at, records);
        }
        let whole = ways.iter().all(|(number, _)| self.is_placed(*number));
        let within = self.loads.iter().zip(&self.limits).all(|(load, limit)| limit.allows(load));
        if whole && within {
            return true;
        }
        self.loads = before;
        false
    }

    fn is_placed(&self, group: usize) -> bool {
        let placed: u64 = self.loads.iter().filter_map(|load| load.groups.get(&group)).sum();
        self.groups.get(group).is_some_and(|g| g.records == placed)
    }

    fn has_room(&self, at: usize) -> bool {
        let (Some(load), Some(limit)) = (self.loads.get(at), self.limits.get(at)) else { return false };
        limit.records.is_none_or(|most| load.records < most)
    }

    /// Whether a permit may answer for a patient, as far as its cap on patients goes.
    fn lets_in(&self, at: usize, patient: Option<usize>) -> bool {
        let (Some(load), Some(limit)) = (self.loads.get(at), self.limits.get(at)) else { return false };
        let known = patient.is_none_or(|p| load.patients.contains_key(&p));
        known || limit.patients.is_none_or(|most| (load.patients.len() as u64) < most)
    }

    /// Everything on the way to `end` moves one step on, and the new record comes in at its beginning.
    fn move_along(&mut self, came_by: &BTreeMap<usize, Step>, end: usize, group: usize) {
        let mut at = end;
        while let Some(Some((other, from))) = came_by.get(&at) {
            self.remove(*other, *from);
            self.add(*other, at);
            at = *from;
        }
        self.add(group, at);
    }

    fn count_in(&mut self, group: usize) {
        if let Some(group) = self.groups.get_mut(group) {
            group.records += 1;
        }
    }

    fn add(&mut self, group: usize, at: usize) {
        self.add_many(group, at, 1);
    }

    fn add_many(&mut self, group: usize, at: usize, records: u64) {
        let patient = self.groups.get(group).and_then(|g| g.patient);
        let Some(load) = self.loads.get_mut(at).filter(|_| records > 0) else { return };
        load.records += records;
        *load.groups.entry(group).or_default() += records;
        if let Some(patient) = patient {
            *load.patients.entry(patient).or_default() += records;
        }
    }

    fn remove(&mut self, group: usize, at: usize) {
        self.take_many(group, at, 1);
    }

    fn take_many(&mut self, group: usize, at: usize, records: u64) {
        let Some(load) = self.loads.get_mut(at) else { return };
        let patient = self.groups.get(group).and_then(|g| g.patient);
        load.take(group, patient, records);
    }

    fn clear(&mut self, group: usize) {
        let patient = self.groups.get(group).and_then(|g| g.patient);
        for load in &mut self.loads {
            let there = load.groups.get(&group).copied().unwrap_or(0);
            load.take(group, patient, there);
        }
    }
}

impl Load {
    fn take(&mut self, group: usize, patient: Option<usize>, records: u64) {
        let Some(there) = self.groups.get_mut(&group) else { return };
        *there -= records;
        self.records -= records;
        if *there == 0 {
            self.groups.remove(&group);
        }
        let Some((patient, of_patient)) = patient.and_then(|p| Some((p, self.patients.get_mut(&p)?))) else { return };
        *of_patient -= records;
        if *of_patient == 0 {
            self.patients.remove(&patient);
        }
    }
}

impl Limit {
    fn allows(&self, load: &Load) -> bool {
        self.excess(load) == 0
    }

    fn excess(&self, load: &Load) -> u64 {
        let over = |cap: Option<u64>, is: u64| cap.map_or(0, |most| is.saturating_sub(most));
        over(self.records, load.records) + 2 * over(self.patients, load.patients.len() as u64)
    }
}

/// How many records of each group go to each permit; `None` if the caps on records do not let all of them.
fn spread(
    ways: &[(usize, Vec<usize>)],
    records: impl Fn(usize) -> u64,
    limits: &[Limit],
) -> Option<Vec<(usize, usize, u64)>> {
    // Groups that may go to the same permits are one.
    let mut alike: BTreeMap<&[usize], Vec<(usize, u64)>> = BTreeMap::new();
    for (group, permits) in ways {
        alike.entry(permits).or_default().push((*group, records(*group)));
    }
    let (sink, first) = (limits.len(), limits.len() + 1);
    let mut network = Network::new(first + alike.len());
    for (at, limit) in limits.iter().enumerate() {
        network.join(at, sink, limit.records.unwrap_or(UNBOUNDED));
    }
    let mut placed = Vec::new();
    let mut arcs = Vec::new();
    for (number, (permits, members)) in alike.iter().enumerate() {
        let all = members.iter().map(|(_, records)| records).sum();
        let of_these: Vec<_> = permits.iter().map(|at| (*at, network.join(first + number, *at, UNBOUNDED))).collect();
        // As much as was found possible before: not counted again.
        match network.send(first + number, sink, all, &mut Work::of(u64::MAX)) {
            Ok(true) => arcs.push((of_these, members)),
            Ok(false) | Err(Spent) => return None,
        }
    }
    for (of_these, members) in arcs {
        let mut members = members.iter().copied();
        let mut current = members.next();
        for (at, arc) in of_these {
            let mut passing = network.passing(arc);
            while passing > 0
                && let Some((group, left)) = current
            {
                let here = left.min(passing);
                placed.push((group, at, here));
                passing -= here;
                current = if here == left { members.next() } else { Some((group, left - here)) };
            }
        }
    }
    Some(placed)
}
