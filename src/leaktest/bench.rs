//! Where a probe works: a target in a world, the oracle's view of each caller, and a tally of what was asked and found.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use super::{
    Open,
    dice::Dice,
    oracle::Oracle,
    probe::Probe,
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
    /// The store is somebody's own: nothing is reset, and what is planted is taken away again.
    pub live: bool,
    /// The command that repeats the run but for `--only`.
    pub command: String,
}

impl Plan {
    pub(super) fn wants(&self, probe: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == probe)
    }
}

/// One leak, in ids and kinds alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What leaked: `id`, `text`, `status` ….
    pub kind: String,
    /// To whom.
    pub caller: String,
    /// Where and how, without content.
    pub detail: String,
    /// What shows it again.
    pub reproduction: String,
}

/// A measured value with its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The value in words.
    pub value: String,
}

/// A picture of a probe's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// What it shows, in a sentence.
    pub title: String,
    /// Name and unit of the value.
    pub unit: String,
    /// Rows, in order.
    pub rows: Vec<Series>,
    /// A value to hold the rows against.
    pub mark: Option<f64>,
}

/// One row: a value, and the interval it may lie in.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its label.
    pub label: String,
    /// The value.
    pub value: f64,
    /// Its interval.
    pub interval: Option<(f64, f64)>,
}

/// What a probe came to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The probe.
    pub probe: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// What it asks, for people.
    pub about: &'static str,
    /// Requests sent.
    pub asked: u64,
    /// Attempts to make it leak.
    pub trials: u64,
    /// Attempts that did.
    pub violations: u64,
    /// The first of these, by kind and caller.
    pub findings: Vec<Finding>,
    /// What was measured besides.
    pub figures: Vec<Figure>,
    /// Pictures.
    pub plots: Vec<Plot>,
    /// Parts left out, and why.
    pub skipped: Vec<String>,
    /// Why it could not be finished.
    pub broken: Option<String>,
    /// Seconds.
    pub took_s: f64,
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
    sights: HashMap<(Caller, String, String), Rc<Sight>>,
    outcome: Outcome,
    /// Answers by status.
    statuses: BTreeMap<u16, u64>,
    /// The target holds something else than the world.
    dirty: bool,
    tell: &'a mut dyn FnMut(&'static str, u64),
}

impl<'a> Bench<'a> {
    pub(super) fn set_up(
        plan: &'a Plan,
        world: &'a World,
        open: Open<'a>,
        tell: &'a mut dyn FnMut(&'static str, u64),
    ) -> Result<Self, Trouble> {
        let oracle = if world.matrix.is_some() { None } else { Some(Oracle::read(world)?) };
        let target = open()?;
        Ok(Self {
            world,
            plan,
            target,
            dice: Dice::of(plan.seed, ""),
            open,
            oracle,
            sights: HashMap::new(),
            outcome: Outcome::default(),
            statuses: BTreeMap::new(),
            dirty: !plan.live,
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
        (self.tell)(probe.name, 0);
        match self.fill().and_then(|()| (probe.work)(self)) {
            Ok(()) => {}
            Err(Trouble::Unable(why)) => self.skip(&why),
            Err(Trouble::Broken(why)) => {
                self.outcome.broken = Some(why);
                self.dirty = true;
            }
        }
        (self.tell)(probe.name, self.outcome.asked);
        let statuses: Vec<String> =
            std::mem::take(&mut self.statuses).iter().map(|(status, n)| format!("{status}: {n}")).collect();
        if !statuses.is_empty() {
            self.figure("answers by status", statuses.join(", "));
        }
        self.outcome.took_s = began.elapsed().as_secs_f64();
        std::mem::take(&mut self.outcome)
    }

    fn fill(&mut self) -> Result<(), Trouble> {
        if self.dirty && !self.plan.live {
            self.target.reset(self.world)?;
            self.target.put(&self.world.records)?;
        }
        self.dirty = false;
        Ok(())
    }

    /// The probe leaves the target other than it was.
    pub fn disturb(&mut self) {
        self.dirty = true;
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
            (None, _) => return Err(Trouble::Unable("a matrix says nothing of other purposes".into())),
        };
        let sight = Rc::new(Sight::of(self.world, view));
        self.sights.insert(key, Rc::clone(&sight));
        Ok(sight)
    }

    /// One request, counted.
    pub fn ask(&mut self, caller: &Caller, request: &Request) -> Result<Answer, Trouble> {
        let answer = self.target.answer(caller, request)?;
        *self.statuses.entry(answer.status).or_default() += 1;
        self.count();
        Ok(answer)
    }

    /// One request to some other target, counted.
    pub fn ask_at(&mut self, target: &mut dyn Target, caller: &Caller, request: &Request) -> Result<Answer, Trouble> {
        let answer = target.answer(caller, request)?;
        *self.statuses.entry(answer.status).or_default() += 1;
        self.count();
        Ok(answer)
    }

    /// A request that somebody else sent for this probe.
    pub fn count(&mut self) {
        self.outcome.asked += 1;
        if self.outcome.asked.is_multiple_of(TOLD_EVERY) {
            (self.tell)(self.outcome.probe, self.outcome.asked);
        }
    }

    /// One more store of the same make, with these records in it.
    pub fn another(&mut self, records: &[Record]) -> Result<Box<dyn Target>, Trouble> {
        if self.plan.live {
            return Err(Trouble::Unable("needs a second store; somebody's own store has no twin".into()));
        }
        let mut target = (self.open)()?;
        target.reset(self.world)?;
        target.put(records)?;
        Ok(target)
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
