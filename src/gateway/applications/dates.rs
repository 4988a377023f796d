//! Dates as the history server's REST API reads them. Java's parser, which it uses, is lenient: numbers may have fewer digits or
//! be out of range, and what follows is passed over.

use jiff::Span;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Milliseconds since 1970; `None` if the text is no date for the history server.
pub(super) fn read(text: &str) -> Option<i64> {
    let mut rest = text;
    let year = number(&mut rest)?;
    let mut field = |mark: char| {
        rest = rest.strip_prefix(mark)?;
        number(&mut rest)
    };
    let (month, day) = (field('-')?, field('-')?);
    let midnight = midnight(year, month, day)?;
    // Without a whole time and a zone, the day alone counts.
    Some(time(rest).and_then(|time| midnight.checked_add(time)).unwrap_or(midnight))
}

fn number(rest: &mut &str) -> Option<i64> {
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, after) = rest.split_at(digits);
    *rest = after;
    number.parse().ok().filter(|number| *number <= 1_000_000)
}

fn midnight(year: i64, month: i64, day: i64) -> Option<i64> {
    let begin = Date::new(i16::try_from(year).ok()?, 1, 1).ok()?;
    let span = Span::new().try_months(month - 1).ok()?;
    let date = begin.checked_add(span).ok()?.checked_add(Span::new().try_days(day - 1).ok()?).ok()?;
    Some(TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()?.as_millisecond())
}

/// `T10:11:12.000GMT` as milliseconds since midnight of that day in GMT.
fn time(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut field = |mark: char| {
        rest = rest.strip_prefix(mark)?;
        number(&mut rest)
    };
    let (hours, minutes, seconds, milliseconds) = (field('T')?, field(':')?, field(':')?, field('.')?);
    let offset = zone(rest)?;
    Some(((hours * 60 + minutes - offset) * 60 + seconds) * 1000 + milliseconds)
}

/// How many minutes a zone is before GMT.
fn zone(text: &str) -> Option<i64> {
    const NAMES: [(&str, i64); 11] = [
        ("GMT", 0),
        ("UTC", 0),
        ("UT", 0),
        ("EST", -300),
        ("EDT", -240),
        ("CST", -360),
        ("CDT", -300),
        ("MST", -420),
        ("MDT", -360),
        ("PST", -480),
        ("PDT", -420),
    ];
    let is_name = |name: &str| text.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name));
    let (name, minutes) = match text.starts_with(['+', '-']) {
        true => ("", 0),
        false => *NAMES.iter().find(|(name, _)| is_name(name))?,
    };
    let offset = &text[name.len()..];
    let Some(sign) = offset.chars().next().filter(|sign| "+-".contains(*sign) && ["GMT", ""].contains(&name)) else {
        return Some(minutes);
    };
    let digits = &offset[1..];
    let hours = digits.bytes().take_while(u8::is_ascii_digit).count();
    let (hours, after) = digits.split_at(hours);
    let minutes = after.strip_prefix(':').and_then(|minutes| minutes.get(..2));
    let (hours, minutes): (i64, i64) = match (hours.len(), minutes) {
        (1 | 2, Some(minutes)) => (hours.parse().ok()?, minutes.parse().ok()?),
        (1 | 2, None) if name == "GMT" => (hours.parse().ok()?, 0),
        (4, None) => (hours[..2].parse().ok()?, hours[2..].parse().ok()?),
        _ => return (name == "GMT").then_some(0),
    };
    let ahead = hours * 60 + minutes;
    Some(if sign == '-' { -ahead } else { ahead })
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn dates_mean_what_they_mean_to_the_history_server() {
        const DAY: i64 = 1_795_305_600_000; // 2026-11-22
        let hour = 3_600_000;
        for (text, wanted) in [
            ("2026-11-22", Some(DAY)),
            ("2026-11-22x", Some(DAY)),
            ("2026-10-53", Some(DAY)),
            ("2026-11-22T10:00:00.000GMT", Some(DAY + 10 * hour)),
            ("2026-11-22T10:00:00.000GMT+1:00", Some(DAY + 9 * hour)),
            ("2026-11-22T10:00:00.000+0100", Some(DAY + 9 * hour)),
            ("2026-11-22T10:00:00.5EST", Some(DAY + 15 * hour + 5)),
            ("2026-11-22T10:00:00.000Z", Some(DAY)),
            ("2026-11-22T10:00", Some(DAY)),
            ("3000-01-01", Some(32_503_680_000_000)),
            ("soon", None),
            ("2026", None),
            ("2026-11-", None),
            ("99999999999999999999-1-1", None),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }
}
