//! The entries of a log: what one call of the logger wrote, with its time and level, whatever the layout.
//!
//! The layout is the cluster's own choice (log4j2.properties). So this looks for a time and a level at the beginning of a
//! line, and reads lines of JSON. A line without both belongs to the entry before it, such as a stack trace.

use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// INFO and below.
    Info,
    Warn,
    Error,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// When it was written, in seconds since an arbitrary day; `None` if the log does not tell.
    pub time: Option<u64>,
    pub level: Option<Level>,
    /// Whether the logger of the server wrote it, and not the JVM or the start script.
    pub is_logged: bool,
    /// The line itself, or the message of a line of JSON. Then the exceptions, without the lines of stack traces that
    /// name methods.
    pub lines: Vec<String>,
}

/// Where a JVM that dies begins to say so.
const DEATHS: [&str; 8] = [
    "Exception in thread ",
    "Terminating due to ",
    "Aborting due to ",
    "Error occurred during initialization of VM",
    "Error: ",
    "# A fatal error has been detected",
    "Unrecognized VM option",
    "Unrecognized option: ",
];

impl Entry {
    /// Whether the JVM or one of its threads says that it dies.
    pub(super) fn is_death(&self) -> bool {
        self.lines.first().is_some_and(|line| DEATHS.iter().any(|death| line.starts_with(death)))
    }

    pub(super) fn is_error(&self) -> bool {
        self.level == Some(Level::Error) || self.is_death() || self.level.is_none() && self.has_exception_first()
    }

    fn has_exception_first(&self) -> bool {
        self.lines.first().is_some_and(|line| is_exception(line))
    }

    /// The lines that can tell a cause. What is only information is none, but the exception below it can be one.
    pub(super) fn telling(&self) -> &[String] {
        match self.level {
            Some(Level::Info) => self.lines.get(1..).unwrap_or_default(),
            _ => &self.lines,
        }
    }

    /// The exception, else the message.
    pub(super) fn gist(&self) -> Option<&str> {
        let exception = self.lines.iter().skip(1).find(|line| is_exception(line));
        exception.or(self.lines.first()).map(|line| line.trim())
    }
}

/// The entries of a log, in its order.
pub(super) fn entries(log: &str) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    // The time of a log without dates begins anew each day.
    let (mut now, mut day) = (None, 0);
    for line in log.lines().filter(|line| !line.trim().is_empty()) {
        let head = Head::of_json(line).or_else(|| Head::of_text(line));
        if let Some(Head { time, level, lines, is_logged }) = head {
            now = match time {
                Some(Time::OfDay(seconds)) => {
                    day += u64::from(now.is_some_and(|now| now % DAY > seconds + DAY / 2)) * DAY;
                    Some(day + seconds)
                }
                Some(Time::Dated(seconds)) => Some(seconds),
                None => now,
            };
            let lines = lines.unwrap_or_else(|| vec![line.into()]);
            found.push(Entry { time: now, level, is_logged, lines });
            continue;
        }
        let is_death = DEATHS.iter().any(|death| line.starts_with(death));
        match found.last_mut() {
            Some(_) if is_frame(line) => {}
            Some(last) if !is_death && (is_continuation(line) || last.level > Some(Level::Info)) => {
                last.lines.push(line.into());
            }
            _ => found.push(Entry { time: now, lines: vec![line.into()], ..Entry::default() }),
        }
    }
    found
}

fn is_frame(line: &str) -> bool {
    let text = line.trim_start();
    text.len() < line.len() && (text.starts_with("at ") || text.starts_with("... "))
}

fn is_continuation(line: &str) -> bool {
    line.starts_with(['\t', ' ']) || line.starts_with("Caused by: ") || is_exception(line)
}

/// Whether a line begins like `java.io.IOException: …`.
fn is_exception(line: &str) -> bool {
    let line = line.trim_start();
    let line = line.strip_prefix("Caused by: ").unwrap_or(line);
    let class = line.split([':', ' ']).next().unwrap_or_default();
    let is_name = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$');
    class.contains('.')
        && class.split('.').all(is_name)
        && class.rsplit('.').next().is_some_and(|name| name.starts_with(|c: char| c.is_uppercase()))
}

const DAY: u64 = 86_400;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Time {
    /// Seconds since an arbitrary day.
    Dated(u64),
    /// Seconds since midnight.
    OfDay(u64),
}

/// What the first line of an entry says.
struct Head {
    time: Option<Time>,
    level: Option<Level>,
    is_logged: bool,
    /// The text of a line of JSON.
    lines: Option<Vec<String>>,
}

impl Head {
    /// How many words at the beginning of a line can be its time, level, thread and logger.
    const WORDS: usize = 8;
    /// Without a time, the level is one of so many words.
    const FIRST: usize = 3;

    fn of_text(line: &str) -> Option<Self> {
        // `%5p` writes one blank before INFO.
        if line.starts_with(['\t']) || line.starts_with("  ") || line.starts_with("Caused by: ") || is_exception(line) {
            return None;
        }
        let starts = line.char_indices().filter(|(at, c)| {
            let before = line[..*at].chars().next_back();
            c.is_alphanumeric() && before.is_none_or(|before| " [(|<\"=,".contains(before))
        });
        let mut head = Self { time: None, level: None, is_logged: true, lines: None };
        let mut last = 2 * Self::WORDS;
        for (nth, (at, _)) in starts.enumerate() {
            let rest = &line[at..];
            if nth > last {
                break;
            }
            if head.time.is_none() && nth < Self::WORDS {
                head.time = time(rest);
            }
            let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
            let is_early = head.time.is_some() || nth < Self::FIRST;
            if head.level.is_none()
                && is_early
                && let Some(level) = level(&rest[..end])
            {
                head.level = Some(level);
                // The JVM warns so: `WARNING: Using incubator modules`.
                head.is_logged = head.time.is_some() || !rest[end..].starts_with(':');
                // The time can follow the level.
                last = nth + Self::FIRST;
            }
        }
        (head.time.is_some() || head.level.is_some()).then_some(head)
    }

    fn of_json(line: &str) -> Option<Self> {
        let object = serde_json::from_str::<Value>(line.trim()).ok().filter(Value::is_object)?;
        let first = |names: &[&str]| names.iter().find_map(|name| object.get(name).or_else(|| object.pointer(name)));
        let stamp = first(&["ts", "@timestamp", "timestamp", "/instant/epochSecond", "timeMillis", "time", "date"]);
        let level = first(&["level", "log.level", "/log/level", "severity", "level_name", "levelname"]);
        let message = first(&["msg", "message", "short_message"]).and_then(Value::as_str).unwrap_or_default();
        let word = level.and_then(Value::as_str).map(|level| format!("{} ", level.to_uppercase()));
        let mut lines = vec![format!("{}{message}", word.unwrap_or_default())];
        for name in [
            "exception",
            "thrown",
            "error",
            "throwable",
            "stack_trace",
            "stackTrace",
            "error.stack_trace",
            "full_message",
        ] {
            exceptions(object.get(name), &mut lines);
        }
        if let (Some(class), Some(message)) = (object.get("error.type"), object.get("error.message")) {
            lines.push(format!("{}: {}", class.as_str().unwrap_or_default(), message.as_str().unwrap_or_default()));
        }
        let time = match stamp {
            Some(Value::String(text)) => time(text),
            // Seconds, or milliseconds.
            Some(number) => number.as_f64().map(|n| if n > 1e11 { n / 1000.0 } else { n }).and_then(epoch),
            None => None,
        };
        let level = match level {
            Some(Value::String(word)) => self::level(&word.to_uppercase()),
            // As in syslog; greater numbers are those of Log4j and Bunyan.
            Some(number) => number.as_u64().map(|n| match n {
                0..=3 | 50.. => Level::Error,
                4 | 40..50 => Level::Warn,
                _ => Level::Info,
            }),
            None => None,
        };
        Some(Self { time, level, is_logged: true, lines: Some(lines) })
    }
}

/// Adds the exceptions in a member of a line of JSON: a text with lines, or objects with a class and a message.
fn exceptions(value: Option<&Value>, lines: &mut Vec<String>) {
    match value {
        Some(Value::String(text)) => {
            lines.extend(text.lines().filter(|line| !line.trim().is_empty() && !is_frame(line)).map(str::to_string));
        }
        Some(Value::Object(members)) => {
            let text = |names: &[&str]| names.iter().find_map(|name| members.get(*name)?.as_str());
            match (text(&["class", "name", "type", "exception_class"]), text(&["msg", "message", "exception_message"]))
            {
                (Some(class), Some(message)) => lines.push(format!("{class}: {message}")),
                (Some(text), None) | (None, Some(text)) => lines.push(text.into()),
                (None, None) => {}
            }
            for name in ["stack_trace", "extendedStackTrace", "cause"] {
                exceptions(members.get(name), lines);
            }
        }
        _ => {}
    }
}

fn level(word: &str) -> Option<Level> {
    match word {
        "ERROR" | "FATAL" | "SEVERE" | "CRITICAL" => Some(Level::Error),
        "WARN" | "WARNING" => Some(Level::Warn),
        "INFO" | "DEBUG" | "TRACE" | "FINE" | "FINER" | "FINEST" | "CONFIG" | "NOTICE" => Some(Level::Info),
        _ => None,
    }
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// The time with which a text begins.
fn time(text: &str) -> Option<Time> {
    let mut rest = text;
    let first = part(&mut rest)?;
    let number = |part: &str, digits: usize| part.parse::<u64>().ok().filter(|_| part.len() == digits);
    if first.len() > 4 && first.bytes().all(|b| b.is_ascii_digit()) {
        return match first.len() {
            // Milliseconds since 1970.
            13 => number(first, 13).map(|n| Time::Dated(civil(1970, 1, 1) + n / 1000)),
            // 20261122T203655 and 20261122203655123
            8 => {
                rest = rest.strip_prefix(['T', ' ', '-', '_'])?;
                packed(first, part(&mut rest)?)
            }
            14 | 17 => packed(&first[..8], &first[8..]),
            _ => None,
        };
    }
    if rest.starts_with(':') {
        return clock(&mut { text }).map(Time::OfDay);
    }
    let separator = rest.chars().next().filter(|c| matches!(c, '/' | '-' | '.' | ' '))?;
    rest = rest.strip_prefix(separator)?;
    let second = part(&mut rest)?;
    // `Nov 22, 2026 8:36:55 PM`
    rest = rest.strip_prefix(separator).or_else(|| rest.strip_prefix(", "))?;
    let third = part(&mut rest)?;
    let month = |name: &str| {
        let name = name.get(..3)?.to_ascii_lowercase();
        MONTHS.iter().position(|month| *month == name).and_then(|at| u64::try_from(at + 1).ok())
    };
    let small = |part: &str| part.parse::<u64>().ok().filter(|n| part.len() <= 2 && (1..=31).contains(n));
    let year = |part: &str| number(part, 4).or_else(|| number(part, 2).map(|year| 2000 + year));
    let (year, month, day) = match (first.len(), third.len()) {
        _ if month(second).is_some() => (year(third)?, month(second)?, small(first)?),
        _ if month(first).is_some() => (year(third)?, month(first)?, small(second)?),
        (4, _) => (number(first, 4)?, small(second)?, small(third)?),
        // `22.11.2026`, `22-11-2026` and `11/22/2026`: which is the month shows only a number above 12.
        (_, 4) if separator == '/' && small(first)? <= 12 => (number(third, 4)?, small(first)?, small(second)?),
        (_, 4) => (number(third, 4)?, small(second)?, small(first)?),
        (2, 2) => (year(first)?, small(second)?, small(third)?),
        _ => return None,
    };
    rest = rest.trim_start_matches([',', ' ']).trim_start_matches(['T', ':', '_']);
    Some(Time::Dated(civil(year, month, day) + clock(&mut rest)?))
}

/// The letters or digits with which a text begins.
fn part<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let is_digit = rest.starts_with(|c: char| c.is_ascii_digit());
    let end = rest.find(|c: char| c.is_ascii_digit() != is_digit || !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    let (part, after) = rest.split_at(end);
    *rest = after;
    (!part.is_empty()).then_some(part)
}

/// `20:36:55`, and what follows it.
fn clock(rest: &mut &str) -> Option<u64> {
    let hour = number(rest, 24)?;
    *rest = rest.strip_prefix(':')?;
    let minute = number(rest, 59)?;
    *rest = rest.strip_prefix(':')?;
    let second = number(rest, 60)?;
    let after = rest.trim_start();
    let hour = match hour {
        12 if after.starts_with("AM") => 0,
        1..12 if after.starts_with("PM") => hour + 12,
        hour => hour,
    };
    Some(hour * 3600 + minute * 60 + second)
}

fn number(rest: &mut &str, most: u64) -> Option<u64> {
    part(rest)?.parse::<u64>().ok().filter(|n| *n <= most)
}

fn packed(date: &str, clock: &str) -> Option<Time> {
    let number = |text: &str, from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(date, 0, 4)?, number(date, 4, 6)?, number(date, 6, 8)?);
    let (hour, minute, second) = (number(clock, 0, 2)?, number(clock, 2, 4)?, number(clock, 4, 6)?);
    let fits = (1990..2100).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    fits.then(|| Time::Dated(civil(year, month, day) + hour * 3600 + minute * 60 + second))
}

fn epoch(seconds: f64) -> Option<Time> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
    (1e8..1e11).contains(&seconds).then(|| Time::Dated(civil(1970, 1, 1) + seconds as u64))
}

/// The seconds until the beginning of a day.
fn civil(year: u64, month: u64, day: u64) -> u64 {
    // March is the first month, so that a leap day is the last day of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    (year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1) * DAY
}
