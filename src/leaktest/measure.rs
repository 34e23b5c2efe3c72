//! How sure a count or a comparison of times is. Pure arithmetic; knows nothing of probes.

/// An interval that holds the truth in 95 of 100 such measurements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Least.
    pub low: f64,
    /// Most.
    pub high: f64,
}

const ALPHA: f64 = 0.05;
/// How often a verdict may fall where there is nothing: seldom, since a run gives several.
const VERDICT: f64 = 0.001;

/// The rate behind `found` in `asked` independent trials (Clopper and Pearson 1934); with none found, near the rule of three: 3.7 in `asked`.
pub fn rate(found: u64, asked: u64) -> Interval {
    if asked == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let (k, n) = (found.min(asked) as f64, asked as f64);
    let low = if k == 0.0 { 0.0 } else { beta_quantile(ALPHA / 2.0, k, n - k + 1.0) };
    let high = if k == n { 1.0 } else { beta_quantile(1.0 - ALPHA / 2.0, k + 1.0, n - k) };
    Interval { low, high }
}

/// How often a value of `left` is the greater of a pair (ties count half): the Mann-Whitney statistic as an area under the curve.
pub fn auc(left: &[f64], right: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = left.iter().map(|v| (*v, true)).chain(right.iter().map(|v| (*v, false))).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut won) = (0.0, 0.0);
    for tied in all.chunk_by(|a, b| a.0 == b.0) {
        let ours = tied.iter().filter(|(_, is_left)| *is_left).count() as f64;
        let theirs = tied.len() as f64 - ours;
        won += ours * (below + theirs / 2.0);
        below += theirs;
    }
    let pairs = left.len() as f64 * right.len() as f64;
    if pairs == 0.0 { 0.5 } else { won / pairs }
}

/// A mean over independent repetitions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// Student's interval of it.
    pub interval: Interval,
    /// Standard error of it.
    pub error: f64,
    /// Repetitions less one.
    pub freedom: f64,
}

/// The mean of `values`, each from a repetition of its own.
pub fn mean(values: &[f64]) -> Mean {
    let n = values.len() as f64;
    let value = if n == 0.0 { 0.5 } else { values.iter().sum::<f64>() / n };
    let freedom = n - 1.0;
    if freedom < 1.0 {
        return Mean { value, interval: Interval { low: 0.0, high: 1.0 }, error: f64::INFINITY, freedom: 0.0 };
    }
    let variance = values.iter().map(|v| (v - value) * (v - value)).sum::<f64>() / freedom;
    let error = (variance / n).sqrt();
    let half = student_quantile(1.0 - ALPHA / 2.0, freedom) * error;
    Mean { value, interval: Interval { low: value - half, high: value + half }, error, freedom }
}

impl Mean {
    /// Whether this mean differs from `none` by at least `least`, and surely so.
    pub fn tells(&self, none: f64, least: f64) -> bool {
        if self.freedom < 1.0 {
            return false;
        }
        let bar = student_quantile(1.0 - VERDICT / 2.0, self.freedom) * self.error;
        (self.value - none).abs() > bar && (self.value - none).abs() >= least
    }

    /// The chance that `tells` would have held if the true effect were `effect`, as this measurement scatters.
    pub fn power(&self, effect: f64, least: f64) -> f64 {
        if self.freedom < 1.0 {
            return 0.0;
        }
        if self.error == 0.0 {
            return if effect >= least { 1.0 } else { 0.0 };
        }
        let bar = student_quantile(1.0 - VERDICT / 2.0, self.freedom).max(least / self.error);
        1.0 - student_below(bar - effect / self.error, self.freedom)
    }
}

/// Requests to each of two worlds until an attacker who averages tells them apart, nine times in ten; none where there is nothing to tell.
pub fn requests_to_tell(auc: f64) -> Option<u64> {
    if (auc - 0.5).abs() < 1e-4 {
        return None;
    }
    let apart = std::f64::consts::SQRT_2 * normal_quantile(auc.clamp(1e-9, 1.0 - 1e-9)).abs();
    let needed = 2.0 * (1.959_964 + 1.281_552_f64).powi(2) / (apart * apart);
    (needed.is_finite() && needed < 1e15).then(|| needed.ceil().max(1.0) as u64)
}

/// The value below which a share of `values` lies.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}

fn normal_quantile(p: f64) -> f64 {
    bisect(-40.0, 40.0, |x| student_below(x, 1e7) < p)
}

fn student_quantile(p: f64, freedom: f64) -> f64 {
    bisect(-1e3, 1e3, |x| student_below(x, freedom) < p)
}

/// Share of Student's distribution below `t`.
fn student_below(t: f64, freedom: f64) -> f64 {
    let tail = 0.5 * beta_below(freedom / (freedom + t * t), freedom / 2.0, 0.5);
    if t > 0.0 { 1.0 - tail } else { tail }
}

fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    bisect(0.0, 1.0, |x| beta_below(x, a, b) < p)
}

/// Where `short` ceases to hold.
fn bisect(mut low: f64, mut high: f64, short: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if short(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// The regularised incomplete beta function, by its continued fraction (Lentz).
fn beta_below(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_below_near_zero(1.0 - x, b, a);
    }
    beta_below_near_zero(x, a, b)
}

fn beta_below_near_zero(x: f64, a: f64, b: f64) -> f64 {
    let front = (log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp() / a;
    let kept = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let mut c = 1.0;
    let mut d = 1.0 / kept(1.0 - (a + b) * x / (a + 1.0));
    let mut sum = d;
    for step in 1..500 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / kept(1.0 + even * d);
        c = kept(1.0 + even / c);
        sum *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / kept(1.0 + odd * d);
        c = kept(1.0 + odd / c);
        let change = d * c;
        sum *= change;
        if (change - 1.0).abs() < 1e-14 {
            break;
        }
    }
    front * sum
}

/// Logarithm of the gamma function (Lanczos, g = 7).
fn log_gamma(x: f64) -> f64 {
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let series =
        TERMS.iter().zip(1_u32..).fold(0.999_999_999_999_809_9, |sum, (term, at)| sum + term / (x + f64::from(at)));
    let t = x + 7.5;
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + series.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(found: f64, expected: f64, within: f64) {
        assert!((found - expected).abs() < within, "{found} is not {expected}");
    }

    #[test]
    fn the_interval_of_a_rate_is_the_textbooks() {
        // Clopper and Pearson's: 0 of 100, 10 of 100, 100 of 100; and the two-sided rule of three for a large count
        close(rate(0, 100).high, 0.036_217, 1e-5);
        close(rate(10, 100).low, 0.049_005, 1e-5);
        close(rate(10, 100).high, 0.176_223, 1e-5);
        close(rate(100, 100).low, 0.963_783, 1e-5);
        close(rate(0, 100_000).high * 1e5, 3.688_8, 1e-3);
        assert_eq!(rate(0, 0), Interval { low: 0.0, high: 1.0 });
    }

    #[test]
    fn students_mean_is_the_textbooks() {
        let mean = mean(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        close(mean.value, 3.0, 1e-12);
        close(mean.interval.high, 3.0 + 2.776_445 * 0.5_f64.sqrt(), 1e-4);
        close(student_quantile(0.975, 19.0), 2.093_024, 1e-5);
    }

    #[test]
    fn the_curve_of_equal_samples_is_a_half_and_ties_count_half() {
        close(auc(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]), 0.5, 1e-12);
        close(auc(&[4.0, 5.0], &[1.0, 2.0]), 1.0, 1e-12);
        close(auc(&[1.0, 1.0], &[1.0, 2.0]), 0.25, 1e-12);
        close(auc(&[], &[1.0]), 0.5, 1e-12);
    }

    #[test]
    fn the_curve_is_what_counting_pairs_gives() {
        let mut dice = super::super::dice::Dice::of(9, "auc");
        for _ in 0..50 {
            let mut draw = |n: usize| (0..n).map(|_| dice.below(12) as f64).collect::<Vec<_>>();
            let (left, right) = (draw(17), draw(23));
            let won: f64 = left
                .iter()
                .flat_map(|l| {
                    right.iter().map(move |r| {
                        if l > r {
                            1.0
                        } else if l == r {
                            0.5
                        } else {
                            0.0
                        }
                    })
                })
                .sum();
            close(auc(&left, &right), won / (17.0 * 23.0), 1e-12);
        }
    }

    #[test]
    fn fewer_requests_tell_worlds_apart_that_differ_more() {
        assert_eq!(requests_to_tell(0.5), None);
        let (little, much) = (requests_to_tell(0.55).unwrap(), requests_to_tell(0.9).unwrap());
        assert!(little > 300 && little < 1000 && much < 10, "{little} {much}");
    }

    #[test]
    fn power_grows_with_the_effect() {
        let tight = mean(&[0.50, 0.51, 0.49, 0.50, 0.505, 0.495]);
        assert!(tight.power(0.05, 0.02) > 0.99 && tight.power(0.0, 0.0) < 0.05);
    }

    #[test]
    fn the_power_that_is_told_is_how_often_the_verdict_falls() {
        let mut dice = super::super::dice::Dice::of(4, "power");
        let (truth, spread, starts, least) = (0.55, 0.04, 20, 0.02);
        let mut fell = 0.0;
        let mut told = 0.0;
        for _ in 0..2_000 {
            let areas: Vec<f64> = (0..starts).map(|_| truth + spread * dice.normal()).collect();
            let mean = mean(&areas);
            fell += f64::from(u8::from(mean.tells(0.5, least))) / 2_000.0;
            told += mean.power(truth - 0.5, least) / 2_000.0;
        }
        close(told, fell, 0.06);
        // a verdict that waits for the very effect sees it in half of all runs
        let narrow = Mean { value: 0.55, interval: Interval { low: 0.54, high: 0.56 }, error: 0.004, freedom: 19.0 };
        close(narrow.power(0.05, 0.05), 0.5, 0.01);
    }
}
