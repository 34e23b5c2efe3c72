//! Where a value stands among its like: numbers and moments are compared by the million, so that Cedar is not asked about each.
//! Knows the forms of a moment that Cedar writes most; whatever else is left to Cedar.

use crate::model::Value;

/// A value that `<` can compare with others of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ordinal {
    Long(i64),
    /// Milliseconds since 1970.
    Moment(i64),
}

impl Ordinal {
    /// How two compare; `None` if they are of different kinds, which `<` takes for an error.
    pub(super) fn compare(self, other: Self) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Self::Long(a), Self::Long(b)) | (Self::Moment(a), Self::Moment(b)) => Some(a.cmp(&b)),
            (Self::Long(_), Self::Moment(_)) | (Self::Moment(_), Self::Long(_)) => None,
        }
    }
}

/// What a value is to `<`.
pub(super) enum Order {
    Of(Ordinal),
    /// `<` does not take it.
    Never,
    /// Cedar must say.
    Unknown,
}

/// The places of a value.
pub(super) fn order(value: &Value) -> Order {
    match value {
        Value::Long(n) => Order::Of(Ordinal::Long(*n)),
        Value::Bool(_) | Value::Text(_) | Value::Entity(_) | Value::Set(_) | Value::Record(_) => Order::Never,
        Value::Extension { function, arguments } => match (function.as_ref(), arguments.as_slice()) {
            ("datetime", [Value::Text(text)]) => {
                moment(text).map_or(Order::Unknown, |ms| Order::Of(Ordinal::Moment(ms)))
            }
            _ => Order::Unknown,
        },
    }
}

/// A moment as most are written: with milliseconds where it has any.
pub(super) fn written(millis: i64) -> Option<String> {
    let (day, of_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let (year, month, date) = civil(day);
    let (second, millis) = (of_day / 1_000, of_day % 1_000);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let part = if millis == 0 { String::new() } else { format!(".{millis:03}") };
    let text = format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}{part}Z");
    (0..=9_999).contains(&year).then_some(text)
}

/// Year, month and day of a day since 1970 (Hinnant, as `days`).
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let date = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, date)
}

/// `2026-03-01`, `2026-03-01T12:00:00Z`, `2026-03-01T12:00:00.250Z` in milliseconds since 1970.
pub(super) fn moment(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| {
        let digits = bytes.get(from..to)?;
        digits.iter().try_fold(0_i64, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
    };
    let is = |at: usize, what: u8| bytes.get(at) == Some(&what);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    if !(is(4, b'-') && is(7, b'-') && (1..=12).contains(&month) && (1..=31).contains(&day)) {
        return None;
    }
    let midnight = days(year, month, day) * 86_400_000;
    if bytes.len() == 10 {
        return Some(midnight);
    }
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(is(10, b'T') && is(13, b':') && is(16, b':') && hour < 24 && minute < 60 && second < 60) {
        return None;
    }
    let millis = match bytes.len() {
        20 if is(19, b'Z') => 0,
        24 if is(19, b'.') && is(23, b'Z') => number(20, 23)?,
        _ => return None,
    };
    Some(midnight + ((hour * 60 + minute) * 60 + second) * 1_000 + millis)
}

/// Days since 1970 in the Gregorian calendar, years 0 to 9999 (Hinnant, "chrono-compatible low-level date algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use cedar_policy::{Context, Entities, EvalResult, Request, eval_expression};

    use super::*;

    fn by_cedar(text: &str) -> Option<i64> {
        let uid = || "A::\"a\"".parse().unwrap();
        let request = Request::new(uid(), uid(), uid(), Context::empty(), None).unwrap();
        let expression =
            format!("datetime(\"{text}\").durationSince(datetime(\"1970-01-01\")).toMilliseconds()").parse().unwrap();
        match eval_expression(&request, &Entities::empty(), &expression) {
            Ok(EvalResult::Long(ms)) => Some(ms),
            _ => None,
        }
    }

    #[test]
    fn moments_are_what_cedar_says_or_left_to_it() {
        for year in (0..10_000).step_by(73).chain([1900, 1970, 2000, 2024, 2026, 2100]) {
            for (month, day) in [(1, 1), (2, 28), (3, 1), (12, 31), (2, 29), (4, 30)] {
                for time in ["", "T00:00:00Z", "T23:59:59.999Z", "T12:34:56Z"] {
                    let text = format!("{year:04}-{month:02}-{day:02}{time}");
                    if let Some(ms) = by_cedar(&text) {
                        assert_eq!(moment(&text), Some(ms), "{text}");
                        assert_eq!(moment(&written(ms).unwrap()), Some(ms), "{text}");
                    }
                }
            }
        }
        for odd in [
            "2026-03-01T12:00:00+0100",
            "2026-03-01T12:00:00.25Z",
            "2026-3-1",
            "2026-03-01T24:00:00Z",
            "é",
            "2026-03-01 12:00:00Z",
        ] {
            assert_eq!(moment(odd), None, "{odd}");
        }
    }

    #[test]
    fn only_like_is_compared_with_like() {
        assert_eq!(Ordinal::Long(1).compare(Ordinal::Moment(1)), None);
        assert_eq!(Ordinal::Moment(1).compare(Ordinal::Moment(2)), Some(std::cmp::Ordering::Less));
    }
}
