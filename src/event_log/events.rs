//! The events that tell about the application. The history server lists an application by the same four.

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, de};
use std::fmt;

/// How every event begins. A log without such a line is no event log.
const EVENT: &[u8] = br#"{"Event":""#;

/// The events of which the history server makes its list: `doMergeApplicationListing` looks for lines that begin so.
const KINDS: [(&[u8], Kind); 4] = [
    (br#"{"Event":"SparkListenerLogStart""#, Kind::LogStart),
    (br#"{"Event":"SparkListenerApplicationStart""#, Kind::ApplicationStart),
    (br#"{"Event":"SparkListenerEnvironmentUpdate""#, Kind::Environment),
    (br#"{"Event":"SparkListenerApplicationEnd""#, Kind::ApplicationEnd),
];
/// From so many bytes of a line its kind can be told.
const TELLING: usize = 42;

/// Of a longer line of these events nothing is read. An environment has the class path, which can take a megabyte.
const LONGEST_LINE: usize = 8 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    LogStart,
    ApplicationStart,
    Environment,
    ApplicationEnd,
}

impl Kind {
    fn of_line(line: &[u8]) -> Option<Self> {
        KINDS.iter().find(|(beginning, _)| line.starts_with(beginning)).map(|(_, kind)| *kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LogStart => "SparkListenerLogStart",
            Self::ApplicationStart => "SparkListenerApplicationStart",
            Self::Environment => "SparkListenerEnvironmentUpdate",
            Self::ApplicationEnd => "SparkListenerApplicationEnd",
        })
    }
}

/// What `SparkListenerApplicationStart` says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Start {
    #[serde(rename = "App Name", deserialize_with = "text")]
    pub name: String,
    /// The history server does not list a log without it.
    #[serde(rename = "App ID", default, deserialize_with = "optional_text")]
    pub id: Option<String>,
    /// Milliseconds since 1970.
    #[serde(rename = "Timestamp")]
    pub time: i64,
    #[serde(rename = "User", deserialize_with = "text")]
    pub user: String,
    /// Only YARN's cluster mode numbers attempts.
    #[serde(rename = "App Attempt ID", default, deserialize_with = "optional_text")]
    pub attempt: Option<String>,
}

#[derive(Deserialize)]
struct LogStart {
    #[serde(rename = "Spark Version", deserialize_with = "text")]
    version: String,
}

#[derive(Deserialize)]
struct Environment {
    #[serde(rename = "Spark Properties", default)]
    properties: Properties,
}

#[derive(Default, Deserialize)]
struct Properties {
    #[serde(rename = "spark.yarn.queue", default, deserialize_with = "optional_text")]
    queue: Option<String>,
}

#[derive(Deserialize)]
struct End {
    #[serde(rename = "Timestamp")]
    time: i64,
}

/// A line that begins as one of the four events, and that cannot be read as it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    kind: Kind,
    /// Whether it is JSON. The history server lists no completed log in which one of these lines is no JSON.
    pub is_json: bool,
    what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the event {} cannot be read: {}", self.kind, self.what)
    }
}

/// What the lines of a log have told so far. It takes the log in pieces.
#[derive(Default)]
pub(super) struct Events {
    pub(super) spark: Option<String>,
    /// The last one.
    pub(super) start: Option<Start>,
    pub(super) starts: u32,
    /// Of the first environment.
    pub(super) queue: Option<String>,
    has_environment: bool,
    /// When the application ended, in milliseconds since 1970; the last such event.
    pub(super) end: Option<i64>,
    /// The first.
    broken: Option<Broken>,
    /// The last line of the four kinds, if it is broken. The history server forgives it where the log is not complete.
    last_broken: Option<Broken>,
    /// Whether any line begins like an event.
    has_events: bool,
    has_content: bool,
    halts: bool,
    line: Line,
}

/// The line that the last piece has begun.
#[derive(Default)]
enum Line {
    #[default]
    Empty,
    /// Less than `TELLING`.
    Untold(Vec<u8>),
    Kept(Kind, Vec<u8>),
    PassedOver,
}

impl Events {
    /// Reads the lines until the beginning is known, as the history server does unless it looks for the end.
    pub(super) fn until_begun() -> Self {
        Self { halts: true, ..Self::default() }
    }

    /// Begins within a line, whose rest says nothing.
    pub(super) fn within_a_line() -> Self {
        Self { line: Line::PassedOver, ..Self::default() }
    }

    /// From here on all lines count.
    pub(super) fn never_halt(&mut self) {
        self.halts = false;
    }

    /// Whether nothing more can be learned from the beginning of a log.
    pub(super) fn has_beginning(&self) -> bool {
        self.start.is_some() && self.has_environment
    }

    pub(super) fn is_halted(&self) -> bool {
        self.halts && self.has_beginning()
    }

    /// Whether there are bytes, and no line of them begins like an event.
    pub(super) fn is_foreign(&self) -> bool {
        self.has_content && !self.has_events
    }

    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        self.has_content |= !bytes.is_empty();
        while !bytes.is_empty() && !self.is_halted() {
            match memchr::memchr(b'\n', bytes) {
                Some(end) => {
                    self.extend(&bytes[..end], true);
                    self.finish_line();
                    bytes = &bytes[end + 1..];
                }
                None => {
                    self.extend(bytes, false);
                    return;
                }
            }
        }
    }

    /// A file ends here: its last line need not have a line break.
    pub(super) fn finish_file(&mut self) {
        if !self.is_halted() {
            self.finish_line();
        }
    }

    /// The first broken line.
    pub(super) fn broken(self, is_complete: bool) -> Option<Broken> {
        self.broken.or(self.last_broken.filter(|_| is_complete))
    }

    fn extend(&mut self, piece: &[u8], ends_line: bool) {
        self.line = match std::mem::take(&mut self.line) {
            Line::PassedOver => Line::PassedOver,
            Line::Kept(kind, line) => self.keep(kind, line, piece),
            // Nearly every line is told here, without a copy.
            Line::Empty if piece.len() >= TELLING || ends_line => self.told(Vec::new(), piece),
            Line::Empty => Line::Untold(piece.to_vec()),
            Line::Untold(mut line) => {
                let (first, rest) = piece.split_at(piece.len().min(TELLING.saturating_sub(line.len())));
                line.extend_from_slice(first);
                if line.len() >= TELLING || ends_line { self.told(line, rest) } else { Line::Untold(line) }
            }
        };
    }

    /// `first` is empty, or enough of a line to tell its kind.
    fn told(&mut self, first: Vec<u8>, rest: &[u8]) -> Line {
        let line = if first.is_empty() { rest } else { &first };
        self.has_events |= line.starts_with(EVENT);
        match Kind::of_line(line) {
            Some(kind) => self.keep(kind, first, rest),
            None => Line::PassedOver,
        }
    }

    fn keep(&mut self, kind: Kind, mut line: Vec<u8>, piece: &[u8]) -> Line {
        if line.len() + piece.len() > LONGEST_LINE {
            let what = format!("it is longer than {LONGEST_LINE} bytes");
            self.break_line(Broken { kind, is_json: true, what });
            self.has_environment |= kind == Kind::Environment;
            return Line::PassedOver;
        }
        line.extend_from_slice(piece);
        Line::Kept(kind, line)
    }

    fn finish_line(&mut self) {
        if matches!(self.line, Line::Untold(_)) {
            self.extend(&[], true);
        }
        let Line::Kept(kind, line) = std::mem::take(&mut self.line) else { return };
        // Only now it is known that a broken line was not the last.
        self.broken = self.broken.take().or(self.last_broken.take());
        // What is not UTF-8 becomes a mark, as in the pages that show it.
        let text = String::from_utf8_lossy(&line);
        let read = match kind {
            Kind::LogStart => read::<LogStart>(&text).map(|start| self.spark = Some(start.version)),
            Kind::ApplicationStart => read(&text).map(|start| {
                self.start = Some(start);
                self.starts = self.starts.saturating_add(1);
            }),
            Kind::Environment if self.has_environment => Ok(()),
            Kind::Environment => read::<Environment>(&text).map(|environment| {
                self.queue = environment.properties.queue;
                self.has_environment = true;
            }),
            Kind::ApplicationEnd => read::<End>(&text).map(|end| self.end = Some(end.time)),
        };
        if let Err(error) = read {
            // Every line is one line: its number says nothing.
            let place = format!(" at line {} column {}", error.line(), error.column());
            let message = error.to_string();
            let what = message.strip_suffix(&place).unwrap_or(&message).to_string();
            self.break_line(Broken { kind, is_json: error.is_data(), what });
        }
    }

    fn break_line(&mut self, broken: Broken) {
        self.broken = self.broken.take().or(self.last_broken.replace(broken));
    }
}

fn read<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, serde_json::Error> {
    serde_json::from_str(line)
}

/// A text of JSON. One half of a character that UTF-16 writes in two halves is no text for Rust, but one for Java.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Text;
    impl Visitor<'_> for Text {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
            Ok(text.into())
        }
        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<String, E> {
            Ok(String::from_utf8_lossy(bytes).into_owned())
        }
    }
    deserializer.deserialize_bytes(Text)
}

fn optional_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Wrapped(String);
    impl<'de> de::Deserialize<'de> for Wrapped {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            text(deserializer).map(Self)
        }
    }
    Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|Wrapped(text)| text))
}
