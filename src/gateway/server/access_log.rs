//! The access log: one line a request on stdout, which systemd passes to the journal. Where there are more lines than
//! journald takes, a line in each second says how many are left out: otherwise journald would drop lines of its own choice.

use crate::gateway::limits::{
    LOG_BURST, LOG_LINES_PER_SECOND, MAX_LOGGED_METHOD, MAX_LOGGED_NAME, MAX_LOGGED_PATH, MAX_WAITING_LINES,
};
use crate::gateway::metrics::RequestOutcome;
use crate::shown::visible_line;
use hyper::Method;
use std::borrow::Cow;
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
    pub(super) begun: Instant,
    /// Who has logged in.
    pub(super) user: Option<&'a str>,
    /// Whether the client is not served at all.
    pub(super) is_stranger: bool,
}

/// How many lines were left out since the start.
#[derive(Clone, Default)]
pub(in crate::gateway) struct LeftOut(Arc<Counts>);

#[derive(Default)]
struct Counts {
    of_served: AtomicU64,
    /// Of clients that are not served at all.
    of_strangers: AtomicU64,
}

impl LeftOut {
    pub(in crate::gateway) fn lines(&self) -> u64 {
        self.0.of_served.load(Ordering::Relaxed) + self.0.of_strangers.load(Ordering::Relaxed)
    }
}

struct Lines {
    sender: SyncSender<String>,
    rate: Rate,
}

impl AccessLog {
    pub(super) fn start(quiet: bool, left_out: LeftOut) -> Self {
        if quiet {
            return Self(None);
        }
        let (sender, receiver) = sync_channel::<String>(MAX_WAITING_LINES);
        let lines = Arc::new(Lines { sender, rate: Rate::new(Instant::now(), left_out.clone()) });
        std::thread::spawn(move || {
            let mut out = BufWriter::new(std::io::stdout());
            let mut notes = Notes::new(Instant::now(), left_out);
            loop {
                let first = receiver.recv_timeout(Duration::from_secs(1));
                if matches!(first, Err(RecvTimeoutError::Disconnected)) {
                    return;
                }
                for line in first.into_iter().chain(receiver.try_iter().take(MAX_WAITING_LINES)) {
                    let _ = out.write_all(line.as_bytes());
                }
                if let Some(note) = notes.next(Instant::now()) {
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
        let Answered { client, method, path, status, outcome, begun, user, is_stranger } = *request;
        let now = Instant::now();
        // Under load most lines are left out, so none is made before this is known.
        if !lines.rate.allows(is_stranger, now) {
            return;
        }
        let (method, path) = (word(method.as_str(), MAX_LOGGED_METHOD), word(path, MAX_LOGGED_PATH));
        let tenths = now.duration_since(begun).as_micros() / 100;
        let (ms, tenth) = (tenths / 10, tenths % 10);
        let user = user.map(|name| format!(" user={}", word(name, MAX_LOGGED_NAME))).unwrap_or_default();
        let text = format!("{client} {method} {path} {status} {} {ms}.{tenth} ms{user}\n", outcome.name());
        if lines.sender.try_send(text).is_err() {
            lines.rate.leave_out(false);
        }
    }
}

/// What a client has sent, as one word of a line: blanks of any kind are spelled out, and so is what a terminal obeys. The word
/// contains at most so many bytes, and whole characters only.
fn word(sent: &str, bytes: usize) -> Cow<'_, str> {
    let sent = &sent[..sent.floor_char_boundary(bytes)];
    if sent.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Cow::Borrowed(sent);
    }
    let mut word = String::with_capacity(bytes);
    for c in sent.chars() {
        let code = u32::from(c);
        let shown = match c {
            c if c.is_whitespace() && !c.is_control() && code < 0x100 => format!("\\x{code:02x}"),
            c if c.is_whitespace() && !c.is_control() => format!("\\u{{{code:x}}}"),
            c => visible_line(c.encode_utf8(&mut [0; 4])).into_owned(),
        };
        if word.len() + shown.len() > bytes {
            break;
        }
        word.push_str(&shown);
    }
    Cow::Owned(word)
}

/// Which lines are written. All requests ask it, at the same time, so it takes no lock.
struct Rate {
    begun: Instant,
    /// When the next line would be due, if each had waited for its turn at [`LOG_LINES_PER_SECOND`]: in nanoseconds after
    /// `begun`. A burst runs ahead of the time.
    due: AtomicU64,
    /// The same for clients that are not served at all, which get one line in a second and no burst.
    due_of_strangers: AtomicU64,
    left_out: LeftOut,
}

impl Rate {
    const SECOND: u64 = 1_000_000_000;
    const TURN: u64 = Self::SECOND / LOG_LINES_PER_SECOND as u64;

    fn new(begun: Instant, left_out: LeftOut) -> Self {
        Self { begun, due: AtomicU64::new(0), due_of_strangers: AtomicU64::new(0), left_out }
    }

    /// Whether a line may be written; counts it if not.
    fn allows(&self, is_stranger: bool, now: Instant) -> bool {
        let now = u64::try_from(now.saturating_duration_since(self.begun).as_nanos()).unwrap_or(u64::MAX);
        let has_turn = !is_stranger || take_turn(&self.due_of_strangers, now, Self::SECOND, 1);
        if !has_turn {
            self.leave_out(true);
            return false;
        }
        let is_written = take_turn(&self.due, now, Self::TURN, LOG_BURST.into());
        if !is_written {
            self.leave_out(false);
        }
        is_written
    }

    fn leave_out(&self, is_stranger: bool) {
        let Counts { of_served, of_strangers } = &*self.left_out.0;
        (if is_stranger { of_strangers } else { of_served }).fetch_add(1, Ordering::Relaxed);
    }
}

/// Takes a turn, of which there is one in each `interval`, and `burst` at once after a pause. Says whether there was one.
fn take_turn(due: &AtomicU64, now: u64, interval: u64, burst: u64) -> bool {
    let next = |due: u64| {
        let due = due.max(now);
        (due - now <= (burst - 1) * interval).then(|| due.saturating_add(interval))
    };
    due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
}

/// Lines about the lines that were left out, at most one in a second.
struct Notes {
    left_out: LeftOut,
    noted: Instant,
    /// What the earlier ones have told.
    told: [u64; 2],
}

impl Notes {
    fn new(now: Instant, left_out: LeftOut) -> Self {
        Self { left_out, noted: now, told: [0; 2] }
    }

    fn next(&mut self, now: Instant) -> Option<String> {
        let Counts { of_served, of_strangers } = &*self.left_out.0;
        let counts = [of_served, of_strangers].map(|count| count.load(Ordering::Relaxed));
        if counts == self.told || now.duration_since(self.noted) < Duration::from_secs(1) {
            return None;
        }
        let [of_served, of_strangers] = [counts[0] - self.told[0], counts[1] - self.told[1]];
        (self.told, self.noted) = (counts, now);
        Some(format!(
            "left out: {of_served} lines about requests, {of_strangers} about clients that are not served; \
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
        let left_out = LeftOut::default();
        let (rate, mut notes) = (Rate::new(begun, left_out.clone()), Notes::new(begun, left_out.clone()));
        let (mut written, mut counted) = (0, 0);
        for second in 0..30 {
            let now = begun + Duration::from_secs(second);
            written += (0..5000).filter(|n| rate.allows(n % 2 == 0, now)).count();
            if let Some(note) = notes.next(now) {
                counted += note.matches("left out").count();
            }
        }
        assert!(written + counted < 1000 && counted >= 29, "{written} lines, {counted} notes");
        assert_eq!(left_out.lines(), 150_000 - written as u64);
    }

    #[test]
    fn after_a_pause_there_is_a_burst_again() {
        let begun = Instant::now();
        let rate = Rate::new(begun, LeftOut::default());
        let written =
            |seconds: u64| (0..1000).filter(|_| rate.allows(false, begun + Duration::from_secs(seconds))).count();
        assert_eq!([written(0), written(1), written(60)], [200, 25, 200]);
    }

    #[test]
    fn a_long_word_is_cut_between_characters() {
        assert_eq!(word("ééé", 3), "é");
        assert_eq!(word("GET", 16), "GET");
        assert_eq!(word(&"é".repeat(300), MAX_LOGGED_NAME).chars().count(), 32);
    }

    #[test]
    fn what_a_client_sends_stays_one_word_that_a_terminal_shows() {
        assert_eq!(word("a b\n\u{202e}c", MAX_LOGGED_NAME), "a\\x20b\\n\\u{202e}c");
        let path = "/logs/\u{a0}200\u{3000}page\u{9b}2J\u{2028}é";
        assert_eq!(word(path, MAX_LOGGED_PATH), "/logs/\\xa0200\\u{3000}page\\x9b2J\\u{2028}é");
        let codes = (0..0x3100).chain(0xfe00..=0xffff).chain(0xe_0000..=0xe_0080);
        for c in codes.filter_map(char::from_u32) {
            let shown = word(&c.to_string().repeat(150), MAX_LOGGED_PATH).into_owned();
            assert!(shown.len() <= MAX_LOGGED_PATH && !shown.is_empty(), "{shown:?}");
            assert_eq!(shown.split_whitespace().collect::<Vec<_>>(), [shown.as_str()]);
            assert_eq!(visible_line(&shown), shown);
        }
    }
}
