//! Whether the time of an answer tells the world with hidden records from the world without.

use std::time::Duration;

use super::{Bench, Caller, LIMIT, Probe, Trouble, search, visible};
use crate::leaktest::{
    bench::{Plot, Series},
    measure,
    sight::Sight,
    target::Target,
    world::Record,
};

pub(super) const PROBE: Probe = Probe {
    name: "timing",
    title: "Timing",
    about: "The same questions to both worlds, interleaved in an order of chance, over many starts of both servers, since where memory comes to lie \
            moves a server's times by itself. The verdict is the mean over starts of the attacker's advantage: the area under the curve, 0.5 is none.",
    work,
};

/// An advantage that counts as a leak: the area differs from a half by this, and its interval holds no half.
const TELLING: f64 = 0.05;
/// The effect that the measurement should be able to see, nine times in ten.
const SOUGHT: f64 = 0.05;

fn work(bench: &mut Bench<'_>) -> Result<(), Trouble> {
    let restarts = bench.plan.restarts.unwrap_or(bench.scale(6, 20));
    let (each, most) = (bench.scale(150, 400), bench.scale(1, 3));
    let mut rows = Vec::new();
    for caller in askers(bench, most)? {
        let sight = bench.sight(&caller)?;
        let measured = Worlds::build(bench, &sight)?.measure(bench, &caller, &sight, restarts, each)?;
        rows.push(told(bench, &caller, &measured, restarts));
    }
    let title = "Area under the curve of the attacker's guess by time, mean over starts, with its interval".into();
    bench.plot(Plot { title, unit: "area under the curve".into(), rows, mark: Some(0.5) });
    Ok(())
}

/// Those from whom the most is hidden, and who see something.
fn askers(bench: &mut Bench<'_>, most: usize) -> Result<Vec<Caller>, Trouble> {
    let mut chosen = Vec::new();
    for caller in bench.callers(usize::MAX) {
        let sight = bench.sight(&caller)?;
        if !sight.view.permitted.is_empty()
            && sight.view.forbidden.len() > sight.view.permitted.len()
            && chosen.len() < most
        {
            chosen.push(caller);
        }
    }
    Ok(chosen)
}

/// Both worlds, each in a store of its own.
struct Worlds {
    stores: [Box<dyn Target>; 2],
    records: [Vec<Record>; 2],
}

struct Measured {
    areas: Vec<f64>,
    medians: [f64; 2],
}

impl Worlds {
    fn build(bench: &mut Bench<'_>, sight: &Sight) -> Result<Self, Trouble> {
        let records = [bench.world.records.clone(), visible(bench, sight)];
        let [whole, bare] = &records;
        let stores = [bench.another(whole)?, bench.another(bare)?];
        Ok(Self { stores, records })
    }

    fn measure(
        mut self,
        bench: &mut Bench<'_>,
        caller: &Caller,
        sight: &Sight,
        restarts: usize,
        each: usize,
    ) -> Result<Measured, Trouble> {
        let mut areas = Vec::new();
        let mut all = [Vec::new(), Vec::new()];
        for _ in 0..restarts {
            self.restart(bench)?;
            let [whole, bare] = self.round(bench, caller, sight, each)?;
            areas.push(measure::auc(&whole, &bare));
            let [a, b] = &mut all;
            a.extend(whole);
            b.extend(bare);
        }
        let medians = all.map(|times| measure::quantile(&times, 0.5));
        Ok(Measured { areas, medians })
    }

    /// Both anew, in an order of chance.
    fn restart(&mut self, bench: &mut Bench<'_>) -> Result<(), Trouble> {
        let mut order = [0, 1];
        bench.dice.shuffle(&mut order);
        for at in order {
            let (Some(store), Some(records)) = (self.stores.get_mut(at), self.records.get(at)) else { continue };
            match store.restart() {
                Err(Trouble::Unable(_)) => *store = bench.another(records)?,
                other => other?,
            }
        }
        Ok(())
    }

    /// Times of each world, after some that do not count.
    fn round(
        &mut self,
        bench: &mut Bench<'_>,
        caller: &Caller,
        sight: &Sight,
        each: usize,
    ) -> Result<[Vec<f64>; 2], Trouble> {
        let mut times = [Vec::new(), Vec::new()];
        let warm = each / 5;
        for n in 0..each + warm {
            let at = bench.dice.pick(&sight.view.forbidden).copied();
            let vector = at.and_then(|at| bench.record(at)).map(|r| bench.dice.near(&r.vector, 0.05));
            let request = search(caller, vector.unwrap_or_default(), LIMIT);
            let mut order = [0, 1];
            bench.dice.shuffle(&mut order);
            for at in order {
                let Some(store) = self.stores.get_mut(at) else { continue };
                let took: Duration = bench.ask_at(store.as_mut(), caller, &request)?.took;
                if let Some(times) = times.get_mut(at).filter(|_| n >= warm) {
                    times.push(took.as_secs_f64());
                }
            }
        }
        Ok(times)
    }
}

fn told(bench: &mut Bench<'_>, caller: &Caller, measured: &Measured, restarts: usize) -> Series {
    let mean = measure::mean(&measured.areas);
    let sure = mean.interval.low > 0.5 || mean.interval.high < 0.5;
    let kinds: &[&str] = if sure && (mean.value - 0.5).abs() >= TELLING { &["time"] } else { &[] };
    bench.trial(caller, kinds, || format!("area {:.3} over {restarts} starts", mean.value));
    let [whole, bare] = measured.medians.map(|s| s * 1e6);
    bench.figure(
        format!("{}: advantage by time", caller.id),
        format!("area {:.3} [{:.3}, {:.3}] over {restarts} starts", mean.value, mean.interval.low, mean.interval.high),
    );
    bench.figure(
        format!("{}: median of an answer", caller.id),
        format!("{whole:.0} us with hidden records, {bare:.0} us without"),
    );
    bench.figure(
        format!("{}: power to see an area of {:.2}", caller.id, 0.5 + SOUGHT),
        format!("{:.2} (0.9 is wanted; more starts give more)", mean.power(SOUGHT)),
    );
    let needed = measure::requests_to_tell(mean.value).map_or_else(|| "no number of".to_owned(), |n| n.to_string());
    bench.figure(
        format!("{}: requests to tell the worlds apart", caller.id),
        if sure {
            format!("about {needed} to each, if the mean is the truth")
        } else {
            "the interval holds 0.5: not told apart".into()
        },
    );
    Series {
        label: format!("{} ({restarts} starts)", caller.id),
        value: mean.value,
        interval: Some((mean.interval.low, mean.interval.high)),
    }
}
