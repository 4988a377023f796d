//! The access log: one line a request on stdout, which systemd passes to the journal.

use crate::gateway::access::canonical_ip;
use crate::gateway::metrics::RequestOutcome;
use hyper::Method;
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

/// How many bytes of a path the log contains.
const MAX_PATH: usize = 512;
/// How many lines can wait for a slow reader of stdout; further ones are dropped.
const MAX_WAITING: usize = 8192;
/// How long the writing thread collects lines before it writes them. Without a pause, each request
/// would wake that thread.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// Sends lines to a thread that writes them, so that no response waits for the journal.
#[derive(Clone)]
pub(super) struct AccessLog(Option<SyncSender<String>>);

impl AccessLog {
    pub(super) fn start(quiet: bool) -> Self {
        if quiet {
            return Self(None);
        }
        let (sender, lines) = sync_channel::<String>(MAX_WAITING);
        std::thread::spawn(move || {
            let mut out = BufWriter::new(std::io::stdout());
            while let Ok(first) = lines.recv() {
                for line in std::iter::once(first).chain(lines.try_iter().take(MAX_WAITING)) {
                    let _ = out.write_all(line.as_bytes());
                }
                let _ = out.flush();
                std::thread::sleep(PAUSE);
            }
        });
        Self(Some(sender))
    }

    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Writes the path only: a query or a presigned URL would let readers of the log read S3.
    pub(super) fn write(
        &self,
        peer: IpAddr,
        method: &Method,
        path: &str,
        status: u16,
        outcome: RequestOutcome,
        took: Duration,
    ) {
        // hyper refuses a path that is not ASCII, so every index is a character boundary.
        let path = path.get(..MAX_PATH).unwrap_or(path);
        let tenths = took.as_micros() / 100;
        let (ms, tenth) = (tenths / 10, tenths % 10);
        let line = format!("{} {method} {path} {status} {} {ms}.{tenth} ms\n", canonical_ip(peer), outcome.name());
        if let Some(sender) = &self.0 {
            let _ = sender.try_send(line);
        }
    }
}
