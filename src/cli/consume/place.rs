//! A place in a topic, as a user writes it: `start`, `end`, an offset, or a time.
//!
//! Owns the notation. Must not know what lies at the place.

use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use plimsoll::client::From;

const MS_PER_SECOND: u64 = 1000;
const MS_PER_DAY: u64 = 24 * 3600 * MS_PER_SECOND;

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Fixed(From),
    /// So many milliseconds before now.
    Ago(u64),
}

impl Place {
    /// The place, as of now.
    pub(super) fn now(self) -> From {
        match self {
            Self::Fixed(place) => place,
            Self::Ago(ago_ms) => {
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
                From::Time(now_ms.saturating_sub(ago_ms))
            }
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let place = match text {
            "start" => Some(Self::Fixed(From::Start)),
            "end" => Some(Self::Fixed(From::End)),
            _ => None,
        };
        place
            .or_else(|| number(text).map(|offset| Self::Fixed(From::Offset(offset))))
            .or_else(|| since_1970(text).map(|ms| Self::Fixed(From::Time(ms))))
            .or_else(|| text.strip_prefix('-').and_then(span_ms).map(Self::Ago))
            .or_else(|| rfc3339_ms(text).map(|ms| Self::Fixed(From::Time(ms))))
            .ok_or_else(|| {
                "it is start, end, an offset such as 120, a time such as 2026-11-21T08:00:00Z or 1795248000000ms, or a \
                 time ago such as -90s, -5m, -2h, -1d"
                    .to_owned()
            })
    }
}

/// Digits alone: no sign, no blank.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn since_1970(text: &str) -> Option<u64> {
    number(text.strip_suffix("ms")?)
}

/// `90s`, `5m`, `2h`, `1d`.
fn span_ms(text: &str) -> Option<u64> {
    let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit_ms = match unit {
        "s" => MS_PER_SECOND,
        "m" => 60 * MS_PER_SECOND,
        "h" => 3600 * MS_PER_SECOND,
        "d" => MS_PER_DAY,
        _ => return None,
    };
    number(count)?.checked_mul(unit_ms)
}

/// Milliseconds since 1970 of `2026-11-21T08:00:00[.fraction](Z|+hh:mm|-hh:mm)`; finer fractions are cut off, times before
/// 1970 are no times of a record.
fn rfc3339_ms(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = fields(date, '-', [4, 2, 2])?;
    let (clock, offset_minutes) = zone(time)?;
    let (clock, fraction) = clock
        .split_once('.')
        .map_or((clock, None), |(c, f)| (c, Some(f)));
    let [hour, minute, second] = fields(clock, ':', [2, 2, 2])?;
    // A leap second counts as the one after it.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let fraction_ms = match fraction {
        Some(digits) => {
            number(digits)?;
            number(&format!("{digits:0<3}")[..3])?
        }
        None => 0,
    };
    let seconds = days_since_1970(year, month, day)? * 86_400
        + i64::try_from(hour * 3600 + minute * 60 + second).ok()?
        - offset_minutes * 60;
    u64::try_from(seconds)
        .ok()
        .map(|seconds| seconds * MS_PER_SECOND + fraction_ms)
}

/// Splits the zone off a time: what is before it, and its offset from UTC in minutes.
fn zone(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let at = time.rfind(['+', '-'])?;
    let (clock, zone) = time.split_at(at);
    let [hours, minutes] = fields(&zone[1..], ':', [2, 2])?;
    if hours > 23 || minutes > 59 {
        return None;
    }
    let offset = i64::try_from(hours * 60 + minutes).ok()?;
    Some((
        clock,
        if zone.starts_with('-') {
            -offset
        } else {
            offset
        },
    ))
}

/// Numbers of exactly so many digits, between separators.
fn fields<const N: usize>(text: &str, separator: char, widths: [usize; N]) -> Option<[u64; N]> {
    let mut parts = text.split(separator);
    let mut values = [0; N];
    for (value, width) in values.iter_mut().zip(widths) {
        let part = parts.next().filter(|part| part.len() == width)?;
        *value = number(part)?;
    }
    parts.next().is_none().then_some(values)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; `None` for a day that does not exist. Counts years from March, so
/// that the leap day is the last of its year.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<i64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if day == 0 || day > days_in_month {
        return None;
    }
    let (year, month) = (i64::try_from(year).ok()?, i64::try_from(month).ok()?);
    let (year, month_from_march) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::try_from(day).ok()? - 1;
    // 719,468 days from the first of March of the year 0 to 1970.
    Some(year * 365 + leap_days + day_of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        text.parse().unwrap()
    }

    #[test]
    fn words_and_offsets_are_places() {
        assert_eq!(place("start"), Place::Fixed(From::Start));
        assert_eq!(place("end"), Place::Fixed(From::End));
        assert_eq!(place("0"), Place::Fixed(From::Offset(0)));
        assert_eq!(
            place("18446744073709551615"),
            Place::Fixed(From::Offset(u64::MAX))
        );
    }

    #[test]
    fn times_are_since_1970_in_milliseconds() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1700000000123ms", 1_700_000_000_123),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14t22:13:20.5z", 1_700_000_000_500),
            ("2023-11-14 22:13:20.123456Z", 1_700_000_000_123),
            ("2023-11-15T00:13:20+02:00", 1_700_000_000_000),
            ("2023-11-14T16:43:20-05:30", 1_700_000_000_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2100-03-01T00:00:00Z", 4_107_542_400_000),
        ] {
            assert_eq!(place(text), Place::Fixed(From::Time(ms)), "{text}");
        }
    }

    #[test]
    fn spans_reach_back_from_now() {
        assert_eq!(place("-90s"), Place::Ago(90_000));
        assert_eq!(place("-5m"), Place::Ago(300_000));
        assert_eq!(place("-2h"), Place::Ago(7_200_000));
        assert_eq!(place("-1d"), Place::Ago(86_400_000));
        assert_eq!(Place::Ago(u64::MAX).now(), From::Time(0));
    }

    #[test]
    fn anything_else_is_refused_with_the_notation() {
        for wrong in [
            "",
            "-",
            "--",
            "-5",
            "-5x",
            "5m",
            "+5",
            "1.5",
            "begin",
            "-é",
            "ms",
            "-ms",
            "18446744073709551616",
            "2023-02-29T00:00:00Z",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-13-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2023-11-14T24:00:00Z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20+2:00",
            "23-11-14T22:13:20Z",
            "-18446744073709551615d",
        ] {
            let said = wrong.parse::<Place>().unwrap_err();
            assert!(said.contains("-5m"), "{wrong:?}: {said}");
        }
    }
}
