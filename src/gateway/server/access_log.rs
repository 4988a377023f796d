//! The access log: one line a request on stdout, which systemd passes to the journal. Where there are more lines than
//! journald takes, a line in each second says how many are left out: otherwise journald would drop lines of its own choice.

use crate::gateway::limits::{
    LOG_BURST, LOG_LINES_PER_SECOND, MAX_LOGGED_METHOD, MAX_LOGGED_NAME, MAX_LOGGED_PATH, MAX_WAITING_LINES,
};
use crate::gateway::metrics::RequestOutcome;
use crate::shown::visible_line;
use hyper::Method;
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How long the writing thread collects lines before it writes them. Without a pause, each request
/// would wake that thread.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// Sends lines to a thread that writes them, so that no response waits for the journal.
#[derive(Clone)]
pub(super) struct AccessLog(Option<Arc<Lines>>);

/// A request that has been answered.
#[derive(Clone, Copy)]
pub(super) struct Answered<'a> {
    pub(super) client: IpAddr,
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) status: u16,
    pub(super) outcome: RequestOutcome,
    pub(super) took: Duration,
    /// Who has logged in.
    pub(super) user: Option<&'a str>,
    /// Whether the client is not served at all.
    pub(super) is_stranger: bool,
}

/// How many lines were left out since the start.
#[derive(Clone, Default)]
pub(in crate::gateway) struct LeftOut(Arc<AtomicU64>);

impl LeftOut {
    pub(in crate::gateway) fn lines(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Lines {
    sender: SyncSender<Line>,
    /// Lines that had no room in the channel.
    lost: AtomicU64,
}

struct Line {
    text: String,
    /// Whether the client is not served at all. Such lines have a smaller share.
    is_stranger: bool,
}

impl AccessLog {
    pub(super) fn start(quiet: bool, left_out: LeftOut) -> Self {
        if quiet {
            return Self(None);
        }
        let (sender, receiver) = sync_channel::<Line>(MAX_WAITING_LINES);
        let lines = Arc::new(Lines { sender, lost: AtomicU64::new(0) });
        let counts = lines.clone();
        std::thread::spawn(move || {
            let mut out = BufWriter::new(std::io::stdout());
            let mut rate = Rate::new(Instant::now());
            loop {
                let first = receiver.recv_timeout(Duration::from_secs(1));
                if matches!(first, Err(RecvTimeoutError::Disconnected)) {
                    return;
                }
                let lost = counts.lost.swap(0, Ordering::Relaxed);
                left_out.0.fetch_add(lost, Ordering::Relaxed);
                for line in first.into_iter().chain(receiver.try_iter().take(MAX_WAITING_LINES)) {
                    if rate.allows(&line, Instant::now()) {
                        let _ = out.write_all(line.text.as_bytes());
                    } else {
                        left_out.0.fetch_add(1, Ordering::Relaxed);
                    }
                }
                if let Some(note) = rate.note(lost, Instant::now()) {
                    let _ = out.write_all(note.as_bytes());
                }
                let _ = out.flush();
                std::thread::sleep(PAUSE);
            }
        });
        Self(Some(lines))
    }

    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Writes the path only: a query or a presigned URL would let readers of the log read S3.
    pub(super) fn write(&self, request: &Answered<'_>) {
        let Some(lines) = &self.0 else { return };
        let Answered { client, method, path, status, outcome, took, user, is_stranger } = *request;
        let (method, path) = (cut(method.as_str(), MAX_LOGGED_METHOD), cut(path, MAX_LOGGED_PATH));
        let tenths = took.as_micros() / 100;
        let (ms, tenth) = (tenths / 10, tenths % 10);
        let user = user.map(|name| format!(" {}", shown_name(name))).unwrap_or_default();
        let text = format!("{client} {method} {path} {status} {} {ms}.{tenth} ms{user}\n", outcome.name());
        if lines.sender.try_send(Line { text, is_stranger }).is_err() {
            lines.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The name of a user as one word of a line: a name can contain blanks.
fn shown_name(name: &str) -> String {
    format!("user={}", visible_line(cut(name, MAX_LOGGED_NAME)).replace(' ', "\\x20"))
}

/// At most so many bytes of a text, whole characters only.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// How many lines may still be written.
struct Rate {
    lines: f64,
    refilled: Instant,
    /// When the last line about a client was written that is not served.
    stranger: Option<Instant>,
    left_out: u64,
    of_strangers: u64,
    noted: Instant,
}

impl Rate {
    fn new(now: Instant) -> Self {
        Self { lines: f64::from(LOG_BURST), refilled: now, stranger: None, left_out: 0, of_strangers: 0, noted: now }
    }

    fn allows(&mut self, line: &Line, now: Instant) -> bool {
        if line.is_stranger {
            if self.stranger.is_some_and(|last| now.duration_since(last) < Duration::from_secs(1)) {
                self.of_strangers += 1;
                return false;
            }
            self.stranger = Some(now);
        }
        let gained = now.duration_since(self.refilled).as_secs_f64() * f64::from(LOG_LINES_PER_SECOND);
        (self.lines, self.refilled) = ((self.lines + gained).min(f64::from(LOG_BURST)), now);
        if self.lines < 1.0 {
            self.left_out += 1;
            return false;
        }
        self.lines -= 1.0;
        true
    }

    /// A line about the lines that were left out, at most once in a second.
    fn note(&mut self, lost: u64, now: Instant) -> Option<String> {
        self.left_out += lost;
        let is_due = now.duration_since(self.noted) >= Duration::from_secs(1);
        if !is_due || self.left_out + self.of_strangers == 0 {
            return None;
        }
        self.noted = now;
        let (left_out, of_strangers) = (std::mem::take(&mut self.left_out), std::mem::take(&mut self.of_strangers));
        Some(format!(
            "left out: {left_out} lines about requests, {of_strangers} about clients that are not served; \
             /-/metrics counts every request\n"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_requests_leaves_few_lines_and_a_count() {
        let begun = Instant::now();
        let mut rate = Rate::new(begun);
        let (mut written, mut counted) = (0, 0);
        for second in 0..30 {
            let now = begun + Duration::from_secs(second);
            let line = |is_stranger| Line { text: String::new(), is_stranger };
            written += (0..5000).filter(|n| rate.allows(&line(n % 2 == 0), now)).count();
            if let Some(note) = rate.note(1, now) {
                written += 1;
                counted += note.matches("left out").count();
            }
        }
        assert!(written < 1000 && counted >= 29, "{written} lines, {counted} notes");
    }

    #[test]
    fn a_long_word_is_cut_between_characters() {
        assert_eq!(cut("ééé", 3), "é");
        assert_eq!(cut("GET", 16), "GET");
        assert_eq!(shown_name("a b\n\u{202e}c"), "user=a\\x20b\\n\\u{202e}c");
        assert_eq!(shown_name(&"é".repeat(300)).chars().count(), 5 + 32);
    }
}
