//! Whether records can be assigned together within all caps, decided from nothing but numbers.
//!
//! With caps on patients the question is NP-hard: permits of at most `B` records and three patients each, and three times as many
//! patients of some records each, are 3-PARTITION. What makes it easy in practice is done first: caps that cannot bind are dropped, and
//! with them the records that a permit without binding caps grants; patients fall apart into parts that share no permit; parts that
//! are alike are one class with a count. Then a complete search: class by class, how many of it open which permits. Two flows that must
//! be possible whatever follows cut it off early (records to permits, parts to places for patients), and states that failed are
//! remembered. A yes and a no are exact; work beyond a bound is neither.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashSet},
};

use super::{
    Limit,
    flow::{Network, UNBOUNDED},
    set::{Set, WIDTH},
    work::{Spent, Work},
};

/// Ways to open permits that are tried for one part, most.
const OPTIONS: usize = 4_096;

/// Records of one patient, or of nobody, that the same permits grant.
#[derive(Debug, Clone)]
pub(super) struct Demand<'a> {
    pub(super) patient: Option<usize>,
    pub(super) permits: &'a [usize],
    pub(super) records: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// They can: where the records of each demand may go.
    Yes(Vec<Vec<usize>>),
    /// They cannot.
    No,
    /// Not found out within the work allowed.
    Undecided,
}

/// Whether all of `demands` can be met together.
pub(super) fn arrange(demands: &[Demand<'_>], limits: &[Limit], work: &mut Work) -> Answer {
    let Some(names) = names(demands) else { return Answer::Undecided };
    let mut reduced = Reduced::new(demands, limits, &names);
    loop {
        // Each step looks at every demand for every permit.
        if work.spend(names.len() * demands.len() / 8) == Err(Spent) {
            return Answer::Undecided;
        }
        if !reduced.step() {
            break;
        }
    }
    let puzzle = Puzzle::new(&reduced);
    match puzzle.solve(work) {
        Ok(Some(open)) => Answer::Yes(reduced.ways(&open, &names)),
        Ok(None) if puzzle.complete => Answer::No,
        Ok(None) | Err(Spent) => Answer::Undecided,
    }
}

/// The permits that occur, so that the place of each is its number here; `None` if they are more than can be told apart.
fn names(demands: &[Demand<'_>]) -> Option<Vec<usize>> {
    let names: BTreeSet<usize> = demands.iter().flat_map(|demand| demand.permits).copied().collect();
    (names.len() <= WIDTH).then(|| names.into_iter().collect())
}

/// The question without what decides itself.
struct Reduced {
    /// Caps that may bind; `UNBOUNDED` for others.
    records: Vec<u64>,
    patients: Vec<u64>,
    groups: Vec<Group>,
}

struct Group {
    patient: Option<usize>,
    permits: Set,
    records: u64,
    /// The permit without binding caps that answers for all of it.
    settled: Option<usize>,
}

impl Reduced {
    fn new(demands: &[Demand<'_>], limits: &[Limit], names: &[usize]) -> Self {
        let cap = |of: fn(&Limit) -> Option<u64>| {
            names.iter().map(|at| limits.get(*at).and_then(of).unwrap_or(UNBOUNDED)).collect::<Vec<u64>>()
        };
        let here = |permits: &[usize]| Set::of(permits.iter().filter_map(|at| names.binary_search(at).ok()));
        let group = |demand: &Demand<'_>| Group {
            patient: demand.patient,
            permits: here(demand.permits),
            records: demand.records,
            settled: None,
        };
        Self { records: cap(|l| l.records), patients: cap(|l| l.patients), groups: demands.iter().map(group).collect() }
    }

    /// Lifts caps that cannot bind any more, and settles what they kept; says whether anything changed.
    fn step(&mut self) -> bool {
        let mut changed = false;
        for at in 0..self.records.len() {
            let wanting = || self.groups.iter().filter(|g| g.settled.is_none() && g.permits.contains(at));
            let records: u64 = wanting().map(|g| g.records).sum();
            let patients = wanting().filter_map(|g| g.patient).collect::<BTreeSet<_>>().len() as u64;
            changed |= lift(&mut self.records, at, records);
            changed |= lift(&mut self.patients, at, patients);
        }
        let free = |g: &Group| {
            g.permits
                .iter()
                .find(|at| unbounded(&self.records, *at) && (g.patient.is_none() || unbounded(&self.patients, *at)))
        };
        for group in self.groups.iter_mut().filter(|g| g.settled.is_none()) {
            group.settled = free(group);
            changed |= group.settled.is_some();
        }
        changed
    }

    /// Permits that a patient may use without a place for it.
    fn always(&self) -> Set {
        Set::of((0..self.patients.len()).filter(|at| unbounded(&self.patients, *at)))
    }

    /// Where each demand may go once it is known which permits are open to which part.
    fn ways(&self, open: &BTreeMap<(usize, usize), Set>, names: &[usize]) -> Vec<Vec<usize>> {
        let always = self.always();
        let way = |(number, group): (usize, &Group)| {
            let permits = match (group.settled, group.patient) {
                (Some(at), _) => Set::of([at]),
                (None, None) => group.permits,
                (None, Some(patient)) => {
                    let opened = open.get(&(patient, number)).copied().unwrap_or_default();
                    group.permits.and(always.or(opened))
                }
            };
            permits.iter().filter_map(|at| names.get(at).copied()).collect()
        };
        self.groups.iter().enumerate().map(way).collect()
    }
}

/// Lifts a cap that what wants to come cannot reach.
fn lift(caps: &mut [u64], at: usize, wanting: u64) -> bool {
    let Some(cap) = caps.get_mut(at).filter(|cap| **cap != UNBOUNDED && wanting <= **cap) else { return false };
    *cap = UNBOUNDED;
    true
}

fn unbounded(caps: &[u64], at: usize) -> bool {
    caps.get(at).is_some_and(|cap| *cap == UNBOUNDED)
}

/// Records by the permits that may answer for them.
type Sets = BTreeMap<Set, u64>;

/// What is left to be searched.
struct Puzzle {
    records: Vec<u64>,
    patients: Vec<u64>,
    always: Set,
    loose: Sets,
    classes: Vec<Class>,
    /// Of each permit, what the classes would bring there: records of one part, most first.
    wanting: Vec<Vec<(u64, usize)>>,
    /// Whether every way to open permits is among the options.
    complete: bool,
}

/// Parts of patients that are alike.
struct Class {
    /// Patient and the numbers of the groups of each part.
    parts: Vec<(usize, Vec<usize>)>,
    groups: Vec<(Set, u64)>,
    /// Sets of permits that, opened together, let all its groups in somewhere; those that open least first.
    options: Vec<Set>,
}

/// A state of the search: from which option on how many parts of which class are to be placed, after all classes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    class: usize,
    option: usize,
    left: u64,
}

/// What is taken up so far.
struct State {
    patients: Vec<u64>,
    loose: Sets,
}

/// A choice that may yet be made otherwise.
struct Frame {
    place: Place,
    taken: Option<u64>,
    least: u64,
    next: Option<u64>,
}

impl Puzzle {
    fn new(reduced: &Reduced) -> Self {
        let always = reduced.always();
        let roomy = Set::of((0..reduced.records.len()).filter(|at| unbounded(&reduced.records, *at)));
        let mut loose = Sets::new();
        for group in reduced.groups.iter().filter(|g| g.settled.is_none() && g.patient.is_none()) {
            *loose.entry(group.permits).or_default() += group.records;
        }
        let mut alike: BTreeMap<Vec<(Set, u64)>, Vec<(usize, Vec<usize>)>> = BTreeMap::new();
        for (patient, numbers, groups) in parts(reduced) {
            alike.entry(simplified(groups, roomy)).or_default().push((patient, numbers));
        }
        let mut complete = true;
        let mut classes = Vec::new();
        for (groups, parts) in alike {
            let (options, all) = options(&groups, always, roomy);
            complete &= all;
            classes.push(Class { parts, groups, options });
        }
        // Those with the fewest ways out first, and of these the largest: fewer dead ends.
        classes.sort_by_key(|class| (class.options.len(), Reverse(class.groups.iter().map(|(_, n)| *n).max())));
        let (records, patients) = (reduced.records.clone(), reduced.patients.clone());
        let mut puzzle = Self { records, patients, always, loose, classes, wanting: Vec::new(), complete };
        puzzle.wanting = (0..puzzle.records.len()).map(|at| puzzle.wanting(at)).collect();
        puzzle
    }

    fn wanting(&self, at: usize) -> Vec<(u64, usize)> {
        let load = |class: &Class| class.groups.iter().filter(|(set, _)| set.contains(at)).map(|(_, n)| n).sum::<u64>();
        let loads = self.classes.iter().enumerate().map(|(number, class)| (load(class), number));
        let mut loads: Vec<_> = loads.filter(|(load, _)| *load > 0).collect();
        loads.sort_unstable_by_key(|(load, _)| Reverse(*load));
        loads
    }

    /// Which permits to open to which part's groups, if there is a way.
    fn solve(&self, work: &mut Work) -> Result<Option<BTreeMap<(usize, usize), Set>>, Spent> {
        let mut state = State { patients: self.patients.clone(), loose: self.loose.clone() };
        let mut failed: HashSet<Vec<u64>> = HashSet::new();
        let mut frames: Vec<Frame> = Vec::new();
        let mut entering = Some(self.from(0));
        loop {
            match entering.take() {
                Some(place) => {
                    let hopeful = !failed.contains(&key(place, &state)) && self.is_hopeful(place, &state, work)?;
                    if hopeful && place.class == self.classes.len() {
                        return Ok(Some(self.opened(&frames)));
                    }
                    if hopeful {
                        frames.push(self.frame(place, &state));
                    }
                }
                None => {
                    let Some(frame) = frames.last_mut() else { return Ok(None) };
                    if let Some(taken) = frame.taken.take() {
                        self.put_back(frame.place, taken, &mut state);
                    }
                    let Some(taken) = frame.next else {
                        failed.insert(key(frame.place, &state));
                        frames.pop();
                        continue;
                    };
                    frame.next = taken.checked_sub(1).filter(|next| *next >= frame.least);
                    frame.taken = Some(taken);
                    let place = frame.place;
                    self.take(place, taken, &mut state);
                    entering = Some(self.after(place, taken));
                }
            }
        }
    }

    fn from(&self, class: usize) -> Place {
        Place { class, option: 0, left: self.classes.get(class).map_or(0, |c| c.parts.len() as u64) }
    }

    fn after(&self, place: Place, taken: u64) -> Place {
        match place.left - taken {
            0 => self.from(place.class + 1),
            left => Place { option: place.option + 1, left, ..place },
        }
    }

    /// How many parts may take an option: as many as it has places for, first; none is left over after the last option.
    fn frame(&self, place: Place, state: &State) -> Frame {
        let places = self.option(place).iter().filter_map(|at| state.patients.get(at)).min().copied();
        let most = places.unwrap_or(UNBOUNDED).min(place.left);
        let is_last = self.classes.get(place.class).is_none_or(|c| place.option + 1 >= c.options.len());
        let least = if is_last { place.left } else { 0 };
        Frame { place, taken: None, least, next: (most >= least).then_some(most) }
    }

    fn option(&self, place: Place) -> Set {
        self.classes.get(place.class).and_then(|c| c.options.get(place.option)).copied().unwrap_or_default()
    }

    fn take(&self, place: Place, taken: u64, state: &mut State) {
        self.book(place, state, |places| places - taken, |records, each| records + each * taken);
    }

    fn put_back(&self, place: Place, taken: u64, state: &mut State) {
        self.book(place, state, |places| places + taken, |records, each| records - each * taken);
    }

    fn book(&self, place: Place, state: &mut State, places: impl Fn(u64) -> u64, records: impl Fn(u64, u64) -> u64) {
        let option = self.option(place);
        for at in option.iter() {
            if let Some(left) = state.patients.get_mut(at) {
                *left = places(*left);
            }
        }
        for (set, each) in self.classes.get(place.class).into_iter().flat_map(|class| &class.groups) {
            let open = set.and(self.always.or(option));
            if open.iter().any(|at| unbounded(&self.records, at)) {
                continue;
            }
            let there = state.loose.entry(open).or_default();
            *there = records(*there, *each);
            if *there == 0 {
                state.loose.remove(&open);
            }
        }
    }

    /// Whether what is left could fit by two measures that any solution passes. With nothing left to place, whether all fits.
    fn is_hopeful(&self, place: Place, state: &State, work: &mut Work) -> Result<bool, Spent> {
        let mut undecided = Vec::new();
        for (number, class) in self.classes.iter().enumerate().skip(place.class) {
            let (from, left) =
                if number == place.class { (place.option, place.left) } else { (0, class.parts.len() as u64) };
            let viable = || class.options.iter().skip(from).filter(|option| has_places(**option, state));
            work.spend(class.options.len())?;
            let Some(least) = viable().map(|option| option.len()).min() else { return Ok(false) };
            let union = viable().fold(Set::default(), |union, option| union.or(*option));
            undecided.push(Undecided { number, left, least: least as u64, union });
        }
        Ok(self.places_suffice(&undecided, state, work)? && self.records_fit(&undecided, state, work)?)
    }

    /// Each part opens at least as many permits as its shortest option.
    fn places_suffice(&self, undecided: &[Undecided], state: &State, work: &mut Work) -> Result<bool, Spent> {
        let (sink, first) = (state.patients.len(), state.patients.len() + 1);
        let mut network = Network::new(first + undecided.len());
        for (at, places) in state.patients.iter().enumerate() {
            network.join(at, sink, *places);
        }
        for (number, class) in undecided.iter().enumerate().filter(|(_, class)| class.least > 0) {
            for at in class.union.iter() {
                network.join(first + number, at, class.left);
            }
            if !network.send(first + number, sink, class.left * class.least, work)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All records find a permit with room, where a permit takes in no more of undecided parts than its places would bring at most.
    fn records_fit(&self, undecided: &[Undecided], state: &State, work: &mut Work) -> Result<bool, Spent> {
        let permits = self.records.len();
        let (sink, door, first) = (permits, permits + 1, 2 * permits + 1);
        let mut wanted: BTreeMap<(bool, Set), u64> = BTreeMap::new();
        for (set, records) in &state.loose {
            *wanted.entry((false, *set)).or_default() += records;
        }
        for Undecided { number, left, union, .. } in undecided {
            for (set, each) in self.classes.get(*number).into_iter().flat_map(|class| &class.groups) {
                *wanted.entry((true, set.and(self.always.or(*union)))).or_default() += each * left;
            }
        }
        let mut network = Network::new(first + wanted.len());
        for (at, room) in self.records.iter().enumerate() {
            network.join(at, sink, *room);
            network.join(door + at, at, self.brought(at, undecided, state));
        }
        for (number, ((through_door, set), records)) in wanted.into_iter().enumerate() {
            for at in set.iter() {
                network.join(first + number, if through_door { door + at } else { at }, UNBOUNDED);
            }
            if !network.send(first + number, sink, records, work)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The most that undecided parts can bring to a permit: those with most records take its places.
    fn brought(&self, at: usize, undecided: &[Undecided], state: &State) -> u64 {
        let mut places = state.patients.get(at).copied().unwrap_or(0);
        if places == UNBOUNDED {
            return UNBOUNDED;
        }
        let decided = undecided.first().map_or(self.classes.len(), |first| first.number);
        let mut brought = 0;
        for (load, class) in self.wanting.get(at).into_iter().flatten().filter(|(_, class)| *class >= decided) {
            let parts = undecided.get(class - decided).map_or(0, |class| class.left).min(places);
            brought += load * parts;
            places -= parts;
        }
        brought
    }

    /// The permits that each part's groups may use, from the choices made.
    fn opened(&self, frames: &[Frame]) -> BTreeMap<(usize, usize), Set> {
        let mut opened = BTreeMap::new();
        let mut given: BTreeMap<usize, usize> = BTreeMap::new();
        for Frame { place, taken, .. } in frames {
            let (Some(class), Some(taken)) = (self.classes.get(place.class), taken) else { continue };
            let from = given.entry(place.class).or_default();
            for (patient, numbers) in class.parts.iter().skip(*from).take(*taken as usize) {
                opened.extend(numbers.iter().map(|number| ((*patient, *number), self.option(*place))));
            }
            *from += *taken as usize;
        }
        opened
    }
}

/// A class of which some parts are still to be placed.
struct Undecided {
    number: usize,
    left: u64,
    /// The permits that each opens, at least.
    least: u64,
    /// The permits that any may open.
    union: Set,
}

fn has_places(option: Set, state: &State) -> bool {
    option.iter().all(|at| state.patients.get(at).is_some_and(|left| *left > 0))
}

/// A state as numbers: equal states have equal futures.
fn key(place: Place, state: &State) -> Vec<u64> {
    let loose = state.loose.iter().flat_map(|(set, records)| set.words().into_iter().chain([*records]));
    [place.class as u64, place.option as u64, place.left]
        .into_iter()
        .chain(state.patients.iter().copied())
        .chain(loose)
        .collect()
}

/// The groups of each patient that are still to be placed, apart where they share no permit with a cap on patients or on records.
fn parts(reduced: &Reduced) -> Vec<(usize, Vec<usize>, Vec<(Set, u64)>)> {
    let mut of_patient: BTreeMap<usize, Vec<(Set, Vec<usize>)>> = BTreeMap::new();
    for (number, group) in reduced.groups.iter().enumerate().filter(|(_, g)| g.settled.is_none()) {
        let Some(patient) = group.patient else { continue };
        let parts = of_patient.entry(patient).or_default();
        let (touched, apart): (Vec<_>, Vec<_>) =
            std::mem::take(parts).into_iter().partition(|(set, _)| set.meets(group.permits));
        let mut joined = (group.permits, vec![number]);
        for (set, numbers) in touched {
            joined.0 = joined.0.or(set);
            joined.1.extend(numbers);
        }
        *parts = apart;
        parts.push(joined);
    }
    let of = |numbers: &[usize]| {
        numbers.iter().filter_map(|n| reduced.groups.get(*n)).map(|g| (g.permits, g.records)).collect::<Vec<_>>()
    };
    of_patient
        .into_iter()
        .flat_map(|(patient, parts)| parts.into_iter().map(move |(_, numbers)| (patient, numbers)))
        .map(|(patient, numbers)| (patient, numbers.clone(), of(&numbers)))
        .collect()
}

/// A part's groups as far as they matter: where all permits have room for any number of records the number is nothing, and what is
/// let in wherever another such group is let in is nothing too.
fn simplified(groups: Vec<(Set, u64)>, roomy: Set) -> Vec<(Set, u64)> {
    let mut sets = Sets::new();
    for (set, records) in groups {
        let one = sets.entry(set).or_default();
        *one = if set.is_within(roomy) { 1 } else { *one + records };
    }
    let follows = |set: Set| sets.keys().any(|other| *other != set && other.is_within(set) && other.is_within(roomy));
    sets.iter().filter(|(set, _)| !follows(**set)).map(|(set, records)| (*set, *records)).collect()
}

/// The sets of permits worth opening for a part, smallest first, and whether these are all.
fn options(groups: &[(Set, u64)], always: Set, roomy: Set) -> (Vec<Set>, bool) {
    let limited = |set: Set| set.iter().filter(|at| !always.contains(*at)).collect::<Vec<_>>();
    let union = groups.iter().fold(Set::default(), |union, (set, _)| union.or(*set));
    // A permit that is opened answers for at least one record.
    let most = groups.iter().map(|(_, records)| records).sum::<u64>();
    let worth = |option: Set| {
        let hits = |option: Set| groups.iter().all(|(set, _)| set.meets(option.or(always)));
        let at_ease = |option: Set, set: Set| set.meets(option.and(roomy));
        let idle = |at: usize| {
            let rest = option.without(at);
            hits(rest) && groups.iter().all(|(set, _)| !set.contains(at) || at_ease(rest, *set))
        };
        hits(option) && !option.iter().any(idle)
    };
    let (mut options, mut layer, mut tried) = (Vec::new(), vec![(Set::default(), 0)], 0);
    for size in 0..=most {
        options.extend(layer.iter().map(|(option, _)| *option).filter(|option| worth(*option)));
        tried += layer.len();
        if size == most || layer.is_empty() {
            break;
        }
        let permits = limited(union);
        let grown = |(option, from): &(Set, usize)| {
            let option = *option;
            let more = permits.iter().enumerate().skip(*from);
            more.map(move |(next, at)| (option.or(Set::of([*at])), next + 1)).collect::<Vec<_>>()
        };
        let next: Vec<_> = layer.iter().flat_map(grown).take(OPTIONS + 1).collect();
        if tried + next.len() > OPTIONS {
            return (options, false);
        }
        layer = next;
    }
    (options, true)
}
