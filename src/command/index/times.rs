//! Times as people write and read them.

use crate::error::Fault;
use crate::shown::hint;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

/// Which side of a range a time bounds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Since,
    Until,
}

impl Bound {
    fn option(self) -> &'static str {
        match self {
            Self::Since => "--since",
            Self::Until => "--until",
        }
    }
}

/// Reads a time: so long before now, or a date with or without a time of day, in the caller's time zone unless it names
/// another one. Returns milliseconds since 1970.
pub(super) fn read(text: &str, bound: Bound, now: &ZonedDateTime) -> Result<i64, Fault> {
    moment(text, bound, now).ok_or_else(|| {
        Fault::usage(format!("{} “{text}” is no time", bound.option()))
            .detail("wanted a span before now, such as 30m, 12h, 7d or 4w, a day, such as today, yesterday or 2026-11-01, or a day with a time, such as 2026-11-01T10:00 or 2026-11-01T10:00Z")
            .hint(hint!("{} 7d", bound.option()))
    })
}

fn moment(text: &str, bound: Bound, now: &ZonedDateTime) -> Option<i64> {
    let text = text.trim();
    if let Some(back) = seconds_back(text) {
        return now.timestamp().as_millisecond().checked_sub(back.checked_mul(1000)?);
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp.as_millisecond());
    }
    let zone = now.time_zone();
    let at = |at: DateTime| Some(zone.to_timestamp(at).ok()?.as_millisecond());
    let named = match text {
        "today" => Some(now.date()),
        "yesterday" => now.date().yesterday().ok(),
        _ => None,
    };
    if let Some(date) = named.or_else(|| text.parse::<Date>().ok()) {
        let is_day = named.is_some() || !text.contains(['T', 't', ' ', ':']);
        return match (is_day, bound) {
            (true, Bound::Since) => at(date.at(0, 0, 0, 0)),
            // The whole day.
            (true, Bound::Until) => Some(at(date.tomorrow().ok()?.at(0, 0, 0, 0))? - 1),
            (false, _) => at(text.parse().ok()?),
        };
    }
    at(text.parse().ok()?)
}

/// `90s`, `30m`, `12h`, `7d`, `4w`
fn seconds_back(text: &str) -> Option<i64> {
    let unit = text.chars().next_back()?;
    let number: i64 = text.strip_suffix(unit)?.trim().parse().ok().filter(|number| *number >= 0)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return None,
    };
    number.checked_mul(seconds)
}

/// The time of day and the date in a time zone, to the minute.
pub(super) fn short(milliseconds: i64, zone: &TimeZone) -> String {
    match Timestamp::from_millisecond(milliseconds) {
        Ok(timestamp) => timestamp.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string(),
        Err(_) => "?".into(),
    }
}

/// The name that a time zone has at all of these times: `UTC`, `CET`, `+05`; `None` if summer time or a new law changes the
/// name or the offset between them.
pub(super) fn zone_name(times: impl Iterator<Item = i64>, zone: &TimeZone) -> Option<String> {
    let at = |time| Some(Timestamp::from_millisecond(time).ok()?.to_zoned_datetime(zone.clone()));
    let mut names = times.filter_map(at).map(|time| (time.strftime("%Z").to_string(), time.offset()));
    let first = names.next()?;
    names.all(|other| other == first).then_some(first.0)
}

/// As [`short`], with the offset from UTC at that time: `2026-07-01 10:00+02:00`.
pub(super) fn short_with_offset(milliseconds: i64, zone: &TimeZone) -> String {
    match Timestamp::from_millisecond(milliseconds) {
        Ok(timestamp) => timestamp.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M%:z").to_string(),
        Err(_) => "?".into(),
    }
}

/// In UTC, for programs; `None` for a time that no calendar has.
pub(super) fn iso(milliseconds: i64) -> Option<String> {
    Some(Timestamp::from_millisecond(milliseconds).ok()?.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::{Bound, iso, read};
    use jiff::tz::{TimeZone, offset};
    use jiff::{Timestamp, ZonedDateTime};

    fn now() -> ZonedDateTime {
        let zone = TimeZone::fixed(offset(2));
        "2026-11-27T02:00:00Z".parse::<Timestamp>().unwrap().to_zoned_datetime(zone)
    }

    #[test]
    fn times_are_spans_or_dates_in_the_callers_zone() {
        for (text, since, until) in [
            ("7d", "2026-11-20T02:00:00.000Z", "2026-11-20T02:00:00.000Z"),
            ("90m", "2026-11-27T00:30:00.000Z", "2026-11-27T00:30:00.000Z"),
            ("yesterday", "2026-11-25T22:00:00.000Z", "2026-11-26T21:59:59.999Z"),
            ("2026-11-01", "2026-10-31T22:00:00.000Z", "2026-11-01T21:59:59.999Z"),
            ("2026-11-01T10:00", "2026-11-01T08:00:00.000Z", "2026-11-01T08:00:00.000Z"),
            ("2026-11-01 10:00:30", "2026-11-01T08:00:30.000Z", "2026-11-01T08:00:30.000Z"),
            ("2026-11-01T10:00Z", "2026-11-01T10:00:00.000Z", "2026-11-01T10:00:00.000Z"),
            ("2026-11-01T10:00+05:30", "2026-11-01T04:30:00.000Z", "2026-11-01T04:30:00.000Z"),
        ] {
            let read = |bound| iso(read(text, bound, &now()).unwrap()).unwrap();
            assert_eq!((read(Bound::Since).as_str(), read(Bound::Until).as_str()), (since, until), "{text}");
        }
        for wrong in ["", "tomorrows", "7", "-7d", "7y", "2026-13-01", "2026-11-31", "99999999999999999d", "T10:00"] {
            assert!(read(wrong, Bound::Since, &now()).is_err(), "{wrong}");
        }
    }
}
