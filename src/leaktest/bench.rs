//! Where a probe works: a target in a world, the oracle's view of each caller, and a tally of what was asked and found.

mod judging;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    Open, Progress, Tell,
    dice::Dice,
    lanes::{self, Asked},
    limits,
    oracle::{Oracle, Verdict},
    outcome::{Figure, Finding, Outcome, Plot, Seeing},
    probe::{PROBES, Probe},
    register::Register,
    sight::Sight,
    target::{About, Answer, Caller, Request, Target, Trouble},
    world::{Record, World},
};

/// How much is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Some two minutes.
    Quick,
    /// As long as it takes for small rates to show.
    Full,
}

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// From which all choices follow.
    pub seed: u64,
    /// How much is asked.
    pub effort: Effort,
    /// Names of probes; none: all.
    pub only: Vec<String>,
    /// Starts of each server for the timing probe; none: as the effort says.
    pub restarts: Option<usize>,
    /// Questions that count, to each server at each start of the timing probe; none: as the effort says.
    pub questions: Option<usize>,
    /// The store is somebody's own: nothing is reset, and what is planted is taken away again.
    pub live: bool,
    /// The command that repeats the run but for `--only`.
    pub command: String,
    /// Connections over which is asked at once.
    pub connections: usize,
    /// Patients that one caller may reach in an hour, where the store is set to bound it.
    pub breadth: Option<u64>,
    /// Somebody wants it to end.
    pub stop: Arc<AtomicBool>,
}

impl Plan {
    /// The command that repeats the run.
    pub(super) fn whole_command(&self) -> String {
        match self.only.is_empty() {
            true => self.command.clone(),
            false => format!("{} --only {}", self.command, self.only.join(",")),
        }
    }

    pub(super) fn wants(&self, probe: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == probe)
    }
}

/// Findings that are named one by one.
const NAMED: usize = 12;
/// Progress is told every so many requests.
const TOLD_EVERY: u64 = 25;

/// Where a probe works.
pub struct Bench<'a> {
    /// The world as it was put in.
    pub world: &'a World,
    /// What to run.
    pub plan: &'a Plan,
    /// The store under attack.
    pub target: Box<dyn Target>,
    /// This probe's chance.
    pub dice: Dice,
    open: Open<'a>,
    oracle: Option<Oracle>,
    register: Arc<Register>,
    sights: HashMap<(Caller, String, String), Rc<Sight>>,
    /// Stores with these records alone, places in the world's list.
    twins: Vec<Twin>,
    outcome: Outcome,
    /// Answers by status.
    statuses: BTreeMap<u16, u64>,
    /// Fields of answers that the kit does not know.
    unread: BTreeSet<String>,
    /// The target holds something else than the world.
    dirty: bool,
    pace: Pace,
    tell: Tell<'a>,
}

impl<'a> Bench<'a> {
    pub(super) fn set_up(plan: &'a Plan, world: &'a World, open: Open<'a>, tell: Tell<'a>) -> Result<Self, Trouble> {
        let oracle = if world.matrix.is_some() { None } else { Some(Oracle::read(world)?) };
        let target = open()?;
        Ok(Self {
            world,
            plan,
            target,
            dice: Dice::of(plan.seed, ""),
            open,
            oracle,
            register: Arc::new(Register::of(world)),
            sights: HashMap::new(),
            twins: Vec::new(),
            outcome: Outcome::default(),
            statuses: BTreeMap::new(),
            unread: BTreeSet::new(),
            dirty: !plan.live,
            pace: Pace::of(plan),
            tell,
        })
    }

    pub(super) fn about(&self) -> About {
        self.target.about()
    }

    /// Lets a probe work, and says what it came to.
    pub(super) fn hold(&mut self, probe: &'static Probe) -> Outcome {
        let began = std::time::Instant::now();
        self.dice = Dice::of(self.plan.seed, probe.name);
        self.outcome = Outcome { probe: probe.name, title: probe.title, about: probe.about, ..Outcome::default() };
        self.pace.expected = 0;
        self.statuses.clear();
        self.progress();
        match self.fill().and_then(|()| (probe.work)(self)) {
            Ok(()) => {}
            Err(Trouble::Unable(why)) => self.skip(&why),
            Err(Trouble::Broken(why)) => {
                self.outcome.broken = Some(why);
                self.dirty = true;
            }
        }
        self.excuse();
        self.pace.before += probe.share(self.plan.effort);
        let statuses: Vec<String> =
            std::mem::take(&mut self.statuses).iter().map(|(status, n)| format!("{status}: {n}")).collect();
        if !statuses.is_empty() {
            self.figure("answers by status", statuses.join(", "));
        }
        self.outcome.took_s = began.elapsed().as_secs_f64();
        std::mem::take(&mut self.outcome)
    }

    /// Whether nothing more is to be asked: somebody wants it to end, or the store is gone.
    pub(super) fn over(&mut self) -> bool {
        self.plan.stop.load(Ordering::SeqCst) || self.target.alive().is_err()
    }

    /// A probe that had nothing to ask says why.
    fn excuse(&mut self) {
        let outcome = &self.outcome;
        if outcome.trials > 0 || !outcome.skipped.is_empty() || outcome.broken.is_some() {
            return;
        }
        let unsettled: usize = self.unsettled().values().sum();
        let why = if unsettled > 0 {
            "nothing to ask: no caller is known to see what it needs; records refer to entities that are not stored, so that it is not settled who may \
             see them"
        } else {
            "nothing to ask: there is no caller for whom records are both permitted and hidden as it needs them"
        };
        self.skip(why);
    }

    /// By caller: records of which it is not settled whether they may see them.
    pub(super) fn unsettled(&self) -> BTreeMap<String, usize> {
        let mut all: BTreeMap<String, usize> = BTreeMap::new();
        for ((caller, _, _), sight) in &self.sights {
            let most = all.entry(caller.id.clone()).or_default();
            *most = (*most).max(sight.view.unsettled.len());
        }
        all.retain(|_, count| *count > 0);
        all
    }

    /// What of the world and of answers the kit could not make out.
    pub(super) fn indistinct(&self) -> (Vec<String>, BTreeSet<String>) {
        (self.register.indistinct(), self.unread.clone())
    }

    /// Tells how far it has come.
    fn progress(&mut self) {
        let outcome = &self.outcome;
        let share = PROBES.iter().find(|p| p.name == outcome.probe).map_or(0.0, |p| p.share(self.plan.effort));
        let done =
            (self.pace.before + share * self.pace.within(outcome.asked)) / self.pace.whole.max(f64::MIN_POSITIVE);
        (self.tell)(Progress { probe: outcome.probe, asked: outcome.asked, done });
    }

    /// This probe means to send so many requests.
    pub fn expect(&mut self, requests: usize) {
        self.pace.expected = requests as u64;
    }

    pub(super) fn fill(&mut self) -> Result<(), Trouble> {
        if self.dirty && !self.plan.live {
            self.target.reset(self.world)?;
            self.target.put(&self.world.records)?;
        }
        self.dirty = false;
        Ok(())
    }

    /// The probe makes the target other than it was.
    pub fn disturb(&mut self) {
        self.dirty = true;
    }

    /// The probe has put back whatever it changed.
    pub fn restored(&mut self) {
        self.dirty = false;
    }

    pub(super) fn leave(&mut self) -> Result<(), Trouble> {
        match self.target.leave() {
            Err(Trouble::Unable(_)) | Ok(()) => Ok(()),
            Err(broken) => Err(broken),
        }
    }

    /// Whether the target's rules and people may be changed.
    pub fn may_change(&self) -> Result<(), Trouble> {
        if self.plan.live {
            return Err(Trouble::Unable("changes rules and people; a store in use is left as it is".into()));
        }
        Ok(())
    }

    /// One number, by effort.
    pub fn scale(&self, quick: usize, full: usize) -> usize {
        match self.plan.effort {
            Effort::Quick => quick,
            Effort::Full => full,
        }
    }

    /// At most `most` callers: one of each role first, then more of each.
    pub fn callers(&mut self, most: usize) -> Vec<Caller> {
        let mut roles: BTreeMap<String, Vec<Caller>> = BTreeMap::new();
        for caller in self.dice.some(&self.world.callers, self.world.callers.len()) {
            roles.entry(caller.role.clone()).or_default().push(caller);
        }
        let longest = roles.values().map(Vec::len).max().unwrap_or(0);
        let mut chosen: Vec<Caller> =
            (0..longest).flat_map(|at| roles.values().filter_map(move |r| r.get(at).cloned())).collect();
        chosen.truncate(most);
        chosen
    }

    /// What a caller may see in a search, for their own purpose.
    pub fn sight(&mut self, caller: &Caller) -> Result<Rc<Sight>, Trouble> {
        self.sight_for(caller, "Retrieve", &caller.purpose.clone())
    }

    /// What a caller may see by an action for a purpose.
    pub fn sight_for(&mut self, caller: &Caller, action: &str, purpose: &str) -> Result<Rc<Sight>, Trouble> {
        let key = (Caller { seat: 0, ..caller.clone() }, action.to_owned(), purpose.to_owned());
        if let Some(known) = self.sights.get(&key) {
            return Ok(Rc::clone(known));
        }
        let view = match (&self.oracle, &self.world.matrix) {
            (Some(oracle), _) => oracle.view(self.world, &key.0, action, purpose)?,
            (None, Some(matrix)) if purpose == caller.purpose => matrix_view(self.world, matrix, &key.0),
            (None, _) => return Err(Trouble::Unable(MATRIX.into())),
        };
        let sight = Rc::new(Sight::of(&self.register, view));
        self.sights.insert(key, Rc::clone(&sight));
        Ok(sight)
    }

    /// Whether the record at this place is hidden from a caller by an action for a purpose.
    pub fn hidden(&self, caller: &Caller, action: &str, purpose: &str, at: usize) -> Result<bool, Trouble> {
        match &self.oracle {
            Some(oracle) => Ok(oracle.verdict_at(self.world, caller, action, purpose, at)? == Verdict::Forbidden),
            None if purpose == caller.purpose => {
                let key = Caller { seat: 0, ..caller.clone() };
                let row = self.world.matrix.iter().flatten().find(|(who, _)| *who == key);
                Ok(!self.record(at).is_some_and(|r| row.is_some_and(|(_, ids)| ids.contains(&r.id))))
            }
            None => Err(Trouble::Unable(MATRIX.into())),
        }
    }

    /// At most `most` records that a caller may see by an action for their own purpose, in an order of chance.
    pub fn some_permitted(&mut self, caller: &Caller, action: &str, most: usize) -> Result<Vec<usize>, Trouble> {
        self.some(most, |bench, at| bench.permitted(caller, action, at))
    }

    fn permitted(&self, caller: &Caller, action: &str, at: usize) -> Result<bool, Trouble> {
        match &self.oracle {
            Some(oracle) => {
                let verdict = oracle.verdict_at(self.world, caller, action, &caller.purpose, at)?;
                Ok(matches!(verdict, Verdict::Permitted(_)))
            }
            None => self.hidden(caller, action, &caller.purpose, at).map(|hidden| !hidden),
        }
    }

    /// At most `most` records that are hidden from a caller by an action for their own purpose, in an order of chance.
    pub fn some_hidden(&mut self, caller: &Caller, action: &str, most: usize) -> Result<Vec<usize>, Trouble> {
        self.some(most, |bench, at| bench.hidden(caller, action, &caller.purpose, at))
    }

    fn some(
        &mut self,
        most: usize,
        wanted: impl Fn(&Self, usize) -> Result<bool, Trouble>,
    ) -> Result<Vec<usize>, Trouble> {
        let mut places: Vec<usize> = (0..self.world.records.len()).collect();
        self.dice.shuffle(&mut places);
        let mut chosen = Vec::new();
        for at in places {
            if chosen.len() >= most {
                break;
            }
            if wanted(self, at)? {
                chosen.push(at);
            }
        }
        Ok(chosen)
    }

    /// Whether there is such a patient, and all of their records are hidden from a caller by an action.
    pub fn hides_patient(&self, caller: &Caller, action: &str, patient: &str) -> Result<bool, Trouble> {
        let places = self.register.of_patient(patient);
        for at in places {
            if !self.hidden(caller, action, &caller.purpose, *at)? {
                return Ok(false);
            }
        }
        Ok(!places.is_empty())
    }

    /// An id as long as `id` that no record and no patient has.
    pub fn absent_id(&mut self, id: &str) -> String {
        let letters: Vec<char> = "abcdefghijkmnpqrstuvwxyz23456789".chars().collect();
        let kept: String = id.chars().take(id.chars().count().saturating_sub(4)).collect();
        let missing = id.chars().count() - kept.chars().count();
        for _ in 0..1_000 {
            let tail: String = (0..missing).filter_map(|_| self.dice.pick(&letters)).collect();
            let made = format!("{kept}{tail}");
            if !self.register.knows(&made) {
                return made;
            }
        }
        // all ids of this length may be taken
        format!("{kept}{:016x}", self.dice.roll())
    }

    /// Records by what names them.
    pub fn register(&self) -> &Arc<Register> {
        &self.register
    }

    /// One request, counted.
    pub fn ask(&mut self, caller: &Caller, request: &Request) -> Result<Answer, Trouble> {
        self.go_on()?;
        let answer = self.target.answer(caller, request)?;
        self.counted(&answer);
        Ok(answer)
    }

    /// One request to some other target, counted.
    pub fn ask_at(&mut self, target: &mut dyn Target, caller: &Caller, request: &Request) -> Result<Answer, Trouble> {
        self.go_on()?;
        let answer = target.answer(caller, request)?;
        self.counted(&answer);
        Ok(answer)
    }

    /// Many requests, over several connections at once, counted; `judge` hears each answer, in order. What cannot be asked is left out.
    pub fn ask_all(
        &mut self,
        asked: &[Asked],
        mut judge: impl FnMut(&mut Self, usize, &Answer) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        for (n, part) in asked.chunks(limits::HELD_ANSWERS).enumerate() {
            self.go_on()?;
            let answers = lanes::ask(self.target.as_mut(), part, self.plan.connections);
            for (at, answer) in answers.into_iter().enumerate() {
                if let Some(answer) = self.heard(answer)? {
                    judge(self, n * limits::HELD_ANSWERS + at, &answer)?;
                }
            }
        }
        Ok(())
    }

    /// The same to both worlds: `judge` hears the answer of the whole one and that of its twin.
    pub fn ask_both(
        &mut self,
        twin: &mut dyn Target,
        asked: &[Asked],
        mut judge: impl FnMut(&mut Self, usize, &Answer, &Answer) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        for (n, part) in asked.chunks(limits::HELD_ANSWERS).enumerate() {
            self.go_on()?;
            let whole = lanes::ask(self.target.as_mut(), part, self.plan.connections);
            let bare = lanes::ask(twin, part, self.plan.connections);
            for (at, (whole, bare)) in whole.into_iter().zip(bare).enumerate() {
                if let (Some(whole), Some(bare)) = (self.heard(whole)?, self.heard(bare)?) {
                    judge(self, n * limits::HELD_ANSWERS + at, &whole, &bare)?;
                }
            }
        }
        Ok(())
    }

    fn heard(&mut self, answer: Result<Answer, Trouble>) -> Result<Option<Answer>, Trouble> {
        match answer {
            Ok(answer) => {
                self.counted(&answer);
                Ok(Some(answer))
            }
            Err(Trouble::Unable(why)) => {
                self.skip(&why);
                Ok(None)
            }
            Err(broken) => Err(broken),
        }
    }

    fn counted(&mut self, answer: &Answer) {
        *self.statuses.entry(answer.status).or_default() += 1;
        if self.outcome.seeing == Seeing::Nothing && !answer.ids().is_empty() {
            self.outcome.seeing = Seeing::Something;
        }
        self.count();
    }

    /// A request that somebody else sent for this probe.
    pub fn count(&mut self) {
        self.outcome.asked += 1;
        if self.outcome.asked.is_multiple_of(TOLD_EVERY) {
            self.progress();
        }
    }

    fn go_on(&self) -> Result<(), Trouble> {
        if self.plan.stop.load(Ordering::SeqCst) { Err(Trouble::Broken("interrupted".into())) } else { Ok(()) }
    }

    /// One more store of the same make, with these records in it.
    pub fn another(&mut self, records: &[Record]) -> Result<Box<dyn Target>, Trouble> {
        if self.plan.live {
            return Err(Trouble::Unable("needs a second store; somebody's own store has no twin".into()));
        }
        self.go_on()?;
        let mut target = (self.open)()?;
        target.reset(self.world)?;
        target.put(records)?;
        Ok(target)
    }

    /// A store that holds only what one caller may see, beside the one that holds all; hand it back with `keep`.
    pub fn twin(&mut self, sight: &Sight) -> Result<Twin, Trouble> {
        let mut places: Vec<usize> = sight.view.permitted.iter().chain(&sight.view.unsettled).copied().collect();
        places.sort_unstable();
        if let Some(at) = self.twins.iter().position(|(held, _)| *held == places) {
            return Ok(self.twins.swap_remove(at));
        }
        let records: Vec<Record> = places.iter().filter_map(|at| self.record(*at).cloned()).collect();
        let store = self.another(&records)?;
        Ok((places, store))
    }

    /// Keeps a twin, as it was, for the next who needs it.
    pub fn keep(&mut self, twin: Twin) {
        if self.twins.len() >= limits::TWINS {
            self.twins.remove(0);
        }
        self.twins.push(twin);
    }

    /// Ends the twins that were kept: nothing else is to run on this machine.
    pub fn be_alone(&mut self) {
        self.twins.clear();
    }

    /// An attempt that came to nothing, or leaked in these ways.
    pub fn trial(&mut self, caller: &Caller, leaked: &[&str], detail: impl FnOnce() -> String) {
        self.outcome.trials += 1;
        if leaked.is_empty() {
            return;
        }
        self.outcome.violations += 1;
        let kind = leaked.join(", ");
        let known = |f: &&Finding| f.kind == kind && f.caller == caller.id;
        if self.outcome.findings.len() < NAMED && self.outcome.findings.iter().filter(known).count() < 2 {
            let reproduction = format!("{} --only {}", self.plan.command, self.outcome.probe);
            self.outcome.findings.push(Finding { kind, caller: caller.id.clone(), detail: detail(), reproduction });
        }
    }

    /// Something measured.
    pub fn figure(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.outcome.figures.push(Figure { name: name.into(), value: value.into() });
    }

    /// A picture.
    pub fn plot(&mut self, plot: Plot) {
        self.outcome.plots.push(plot);
    }

    /// What stands in the place of a rate.
    pub fn measured(&mut self, what: String) {
        self.outcome.measured = Some(what);
    }

    /// A part that was left out.
    pub fn skip(&mut self, why: &str) {
        if !self.outcome.skipped.iter().any(|known| known == why) {
            self.outcome.skipped.push(why.to_owned());
        }
    }

    /// A record by its place.
    pub fn record(&self, at: usize) -> Option<&'a Record> {
        self.world.records.get(at)
    }
}

/// A store with some of the world's records, and their places.
pub(super) type Twin = (Vec<usize>, Box<dyn Target>);

const MATRIX: &str = "a matrix says nothing of other purposes";

/// How far a run has come, in shares of what its probes take as a rule.
struct Pace {
    whole: f64,
    before: f64,
    /// Requests that the probe at work means to send; 0: it has not said.
    expected: u64,
}

impl Pace {
    fn of(plan: &Plan) -> Self {
        let whole = PROBES.iter().filter(|p| plan.wants(p.name)).map(|p| p.share(plan.effort)).sum();
        Self { whole, before: 0.0, expected: 0 }
    }

    fn within(&self, asked: u64) -> f64 {
        if self.expected == 0 { 0.0 } else { (asked as f64 / self.expected as f64).min(1.0) }
    }
}

/// A probe that the run did not come to.
pub(super) fn unreached(probe: &'static Probe) -> Outcome {
    let skipped = vec!["the run ended before it".to_owned()];
    Outcome { probe: probe.name, title: probe.title, about: probe.about, skipped, ..Outcome::default() }
}

fn matrix_view(
    world: &World,
    matrix: &[(Caller, std::collections::BTreeSet<String>)],
    caller: &Caller,
) -> super::oracle::View {
    let row = matrix.iter().find(|(who, _)| who == caller).map(|(_, ids)| ids);
    let (permitted, forbidden) = (0..world.records.len())
        .partition(|at| world.records.get(*at).is_some_and(|r| row.is_some_and(|ids| ids.contains(&r.id))));
    super::oracle::View { permitted, forbidden, ..super::oracle::View::default() }
}
