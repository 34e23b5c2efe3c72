//! Whether the time of an answer tells the world with hidden records from the world without.

use std::{rc::Rc, time::Duration};

use super::{Bench, Caller, LIMIT, Probe, Trouble, read, search};
use crate::leaktest::{
    measure::{self, Mean},
    outcome::{Plot, Series},
    sight::Sight,
    target::Target,
};

pub(super) const PROBE: Probe = Probe {
    name: "timing",
    title: "Timing",
    about: "The same questions to both worlds, interleaved in an order of chance, over many starts of both servers, since where memory comes to lie \
            moves a server's times by itself; and reads of hidden ids against reads of ids that no record has. The verdict is the mean over starts of the \
            attacker's advantage, the area under the curve (0.5 is none): a leak is a mean 0.02 or more from 0.5 that chance gives once in a thousand runs at most.",
    takes_s: [60.0, 400.0],
    work,
};

/// An advantage that counts as a leak, if chance seldom gives it: some 4,200 questions to each world tell them apart by it.
const TELLING: f64 = 0.02;
/// The effect that the measurement should be able to see, nine times in ten.
const SOUGHT: f64 = 0.05;
/// Power below which nothing found means nothing.
const POWER: f64 = 0.9;

fn work(bench: &mut Bench<'_>) -> Result<(), Trouble> {
    bench.be_alone();
    let restarts = bench.plan.restarts.unwrap_or(bench.scale(6, 20));
    let (each, most) = (bench.plan.questions.unwrap_or(bench.scale(150, 300)), bench.scale(1, 3));
    let askers = askers(bench, most)?;
    if askers.is_empty() {
        return Err(Trouble::Unable("no caller sees something, and has more hidden than that".into()));
    }
    bench.expect(restarts * askers.len() * ((each + each / WARM) * Store::OF_ONE + each * 2));
    let (measured, ended) = Worlds::build(bench, askers)?.measure(bench, restarts, each);
    let rows: Vec<Series> = measured.iter().flat_map(|measured| told(bench, measured)).collect();
    let farthest = rows.iter().filter(|row| !row.label.ends_with(CONTROL)).map(|row| (row.value - 0.5).abs());
    bench.measured(format!("area at most {:.3}", 0.5 + farthest.fold(0.0, f64::max)));
    let title = "Area under the curve of the attacker's guess by time, mean over starts, with its interval; and of the control, the same world twice";
    bench.plot(Plot { title: title.into(), unit: "area under the curve".into(), rows, mark: Some(0.5) });
    // what was measured before it broke off is told all the same
    ended
}

/// One in so many questions goes before those that count.
const WARM: usize = 5;

/// Those from whom the most is hidden, and who see something.
fn askers(bench: &mut Bench<'_>, most: usize) -> Result<Vec<(Caller, Rc<Sight>)>, Trouble> {
    let mut chosen = Vec::new();
    for caller in bench.callers(usize::MAX) {
        let sight = bench.sight(&caller)?;
        if !sight.view.permitted.is_empty()
            && sight.view.forbidden.len() > sight.view.permitted.len()
            && chosen.len() < most
        {
            chosen.push((caller, sight));
        }
    }
    Ok(chosen)
}

/// One running store of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Store {
    /// All records.
    Whole,
    /// All records again, in a store of its own: what starts and places in memory do by themselves.
    Again,
    /// What the asker may see.
    Bare(usize),
}

impl Store {
    /// Stores that one asker asks.
    const OF_ONE: usize = 3;
}

struct Worlds {
    askers: Vec<(Caller, Rc<Sight>)>,
    stores: Vec<(Store, Box<dyn Target>)>,
}

/// What one asker came to: an area a start, of whole against bare and of whole against whole, and all times in seconds.
struct Measured {
    caller: Caller,
    areas: Vec<f64>,
    controls: Vec<f64>,
    reads: Vec<f64>,
    times: [Vec<f64>; Store::OF_ONE],
}

impl Worlds {
    fn build(bench: &mut Bench<'_>, askers: Vec<(Caller, Rc<Sight>)>) -> Result<Self, Trouble> {
        let mut stores = Vec::new();
        for which in [Store::Whole, Store::Again] {
            stores.push((which, bench.another(&bench.world.records)?));
        }
        for (at, (_, sight)) in askers.iter().enumerate() {
            stores.push((Store::Bare(at), bench.twin(sight)?.1));
        }
        Ok(Self { askers, stores })
    }

    fn measure(mut self, bench: &mut Bench<'_>, restarts: usize, each: usize) -> (Vec<Measured>, Result<(), Trouble>) {
        let nothing = |(caller, _): &(Caller, _)| Measured {
            caller: caller.clone(),
            areas: Vec::new(),
            controls: Vec::new(),
            reads: Vec::new(),
            times: std::array::from_fn(|_| Vec::new()),
        };
        let mut all: Vec<Measured> = self.askers.iter().map(nothing).collect();
        let ended = (0..restarts).try_for_each(|_| {
            self.restart(bench)?;
            for (at, measured) in all.iter_mut().enumerate() {
                let times = self.round(bench, at, each)?;
                let [whole, again, bare] = &times;
                measured.areas.push(measure::auc(whole, bare));
                measured.controls.push(measure::auc(whole, again));
                measured.reads.extend(self.reads(bench, at, each)?);
                measured.times.iter_mut().zip(times).for_each(|(all, new)| all.extend(new));
            }
            Ok(())
        });
        (all, ended)
    }

    /// All anew, in an order of chance.
    fn restart(&mut self, bench: &mut Bench<'_>) -> Result<(), Trouble> {
        bench.dice.shuffle(&mut self.stores);
        for (which, store) in &mut self.stores {
            match store.restart() {
                Err(Trouble::Unable(_)) => *store = rebuilt(bench, *which, &self.askers)?,
                other => other?,
            }
        }
        Ok(())
    }

    /// Times of one asker's three stores, interleaved, after some that do not count.
    fn round(
        &mut self,
        bench: &mut Bench<'_>,
        asker: usize,
        each: usize,
    ) -> Result<[Vec<f64>; Store::OF_ONE], Trouble> {
        let mut times = std::array::from_fn(|_| Vec::new());
        let Some((caller, sight)) = self.askers.get(asker).cloned() else { return Ok(times) };
        let warm = each / WARM;
        for n in 0..each + warm {
            let at = bench.dice.pick(&sight.view.forbidden).copied();
            let vector = at.and_then(|at| bench.record(at)).map(|r| bench.dice.near(&r.vector, 0.05));
            let request = search(&caller, vector.unwrap_or_default(), LIMIT);
            let mut order = [(Store::Whole, 0), (Store::Again, 1), (Store::Bare(asker), 2)];
            bench.dice.shuffle(&mut order);
            for (which, place) in order {
                let Some((_, store)) = self.stores.iter_mut().find(|(one, _)| *one == which) else { continue };
                let took: Duration = bench.ask_at(store.as_mut(), &caller, &request)?.took;
                if let Some(times) = times.get_mut(place).filter(|_| n >= warm) {
                    times.push(took.as_secs_f64());
                }
            }
        }
        Ok(times)
    }

    /// How well the time of a read tells a hidden record from none; none where the target cannot read.
    fn reads(&mut self, bench: &mut Bench<'_>, asker: usize, each: usize) -> Result<Option<f64>, Trouble> {
        let Some((caller, _)) = self.askers.get(asker).cloned() else { return Ok(None) };
        let Some((_, store)) = self.stores.iter_mut().find(|(one, _)| *one == Store::Whole) else { return Ok(None) };
        let hidden = bench.some_hidden(&caller, "Read", each)?;
        let (mut of_hidden, mut of_none) = (Vec::new(), Vec::new());
        for at in hidden {
            let Some(record) = bench.record(at) else { continue };
            let absent = bench.absent_id(&record.id);
            let mut order = [(record.id.clone(), &mut of_hidden), (absent, &mut of_none)];
            bench.dice.shuffle(&mut order);
            for (id, times) in order {
                match bench.ask_at(store.as_mut(), &caller, &read(&caller, &id)) {
                    Err(Trouble::Unable(why)) => {
                        bench.skip(&why);
                        return Ok(None);
                    }
                    answer => times.push(answer?.took.as_secs_f64()),
                }
            }
        }
        Ok((!of_hidden.is_empty()).then(|| measure::auc(&of_hidden, &of_none)))
    }
}

/// A store that cannot be started again, made anew.
fn rebuilt(bench: &mut Bench<'_>, which: Store, askers: &[(Caller, Rc<Sight>)]) -> Result<Box<dyn Target>, Trouble> {
    match which {
        Store::Whole | Store::Again => bench.another(&bench.world.records),
        Store::Bare(at) => match askers.get(at) {
            Some((_, sight)) => Ok(bench.twin(sight)?.1),
            None => Err(Trouble::Broken("nobody asks this store".into())),
        },
    }
}

const CONTROL: &str = "same world twice";

/// Says what one asker came to, in figures and rows.
fn told(bench: &mut Bench<'_>, measured: &Measured) -> Vec<Series> {
    let caller = &measured.caller;
    let [whole, _, bare] = measured.times.each_ref().map(|times| measure::quantile(times, 0.5) * 1e6);
    bench.figure(
        format!("{}: median of an answer", caller.id),
        format!("{whole:.0} us with hidden records, {bare:.0} us without"),
    );
    let [slow_whole, _, slow_bare] = measured.times.each_ref().map(|times| measure::quantile(times, 0.99) * 1e6);
    bench.figure(
        format!("{}: one answer in a hundred takes more than", caller.id),
        format!("{slow_whole:.0} us with hidden records, {slow_bare:.0} us without"),
    );
    let control = measure::mean(&measured.controls);
    bench.figure(format!("{}: control, the {CONTROL}", caller.id), area(&control, measured.controls.len()));
    let mut rows = vec![judged(bench, caller, "searches in both worlds", &measured.areas)];
    if !measured.reads.is_empty() {
        rows.push(judged(bench, caller, "reads of hidden ids", &measured.reads));
    }
    rows.push(row(format!("{}, {CONTROL}", caller.id), &control));
    rows
}

/// The verdict on one kind of request.
fn judged(bench: &mut Bench<'_>, caller: &Caller, what: &str, areas: &[f64]) -> Series {
    let (mean, starts) = (measure::mean(areas), areas.len());
    let (leaks, power) = (mean.tells(0.5, TELLING), mean.power(SOUGHT, TELLING));
    if leaks || power >= POWER {
        let kinds: &[&str] = if leaks { &["time"] } else { &[] };
        bench.trial(caller, kinds, || format!("{what}: area {:.3} over {starts} starts", mean.value));
    } else {
        bench.skip(&format!(
            "{}, {what}: not settled, since an area of {:.2} would be seen with a chance of {power:.2} alone ({POWER} is wanted; more --restarts give more)",
            caller.id,
            0.5 + SOUGHT
        ));
    }
    bench.figure(format!("{}: advantage by time, {what}", caller.id), area(&mean, starts));
    bench.figure(format!("{}: power to see an area of {:.2}, {what}", caller.id, 0.5 + SOUGHT), format!("{power:.2}"));
    let needed = measure::requests_to_tell(mean.value).map_or_else(|| "no number of".to_owned(), |n| n.to_string());
    bench.figure(
        format!("{}: requests to tell them apart, {what}", caller.id),
        if mean.interval.low > 0.5 || mean.interval.high < 0.5 {
            format!("about {needed} to each, if the mean is the truth")
        } else {
            "the interval holds 0.5: not told apart".into()
        },
    );
    row(format!("{}, {what}", caller.id), &mean)
}

fn row(label: String, mean: &Mean) -> Series {
    Series { label, value: mean.value, interval: Some((mean.interval.low, mean.interval.high)) }
}

fn area(mean: &Mean, starts: usize) -> String {
    format!("area {:.3} [{:.3}, {:.3}] over {starts} starts", mean.value, mean.interval.low, mean.interval.high)
}
