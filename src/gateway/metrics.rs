//! What the gateway counts, as Prometheus reads it.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To a presigned URL.
    Redirect,
    /// A log through the gateway.
    Stream,
    /// A listing, or the gateway's own answer.
    Page,
    /// The history server's answer.
    History,
    /// Not there, or not a log.
    NotFound,
    /// Not allowed here, or not by S3.
    Refused,
    /// Something that should have answered did not.
    Unavailable,
}

const NAMES: [(&str, Outcome); 7] = [
    ("redirect", Outcome::Redirect),
    ("stream", Outcome::Stream),
    ("page", Outcome::Page),
    ("history_server", Outcome::History),
    ("not_found", Outcome::NotFound),
    ("refused", Outcome::Refused),
    ("unavailable", Outcome::Unavailable),
];

impl Outcome {
    /// Its name in the access log and the metrics.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, outcome)| *outcome == self).map_or("", |(name, _)| name)
    }
}

/// The counters.
#[derive(Default)]
pub struct Metrics {
    requests: [AtomicU64; NAMES.len()],
    /// Connections that are open.
    pub connections: AtomicU64,
}

impl Metrics {
    /// Counts a request.
    pub fn count(&self, outcome: Outcome) {
        self.requests[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The text of `/-/metrics`. `left` is how long the credentials are good for, if they end.
    pub fn text(&self, left: Option<Option<Duration>>) -> String {
        let mut text = String::from(
            "# HELP emr_shs_gateway_requests_total Requests by what became of them.\n\
             # TYPE emr_shs_gateway_requests_total counter\n",
        );
        for (name, outcome) in NAMES {
            let count = self.requests[outcome as usize].load(Ordering::Relaxed);
            let _ = writeln!(text, "emr_shs_gateway_requests_total{{outcome=\"{name}\"}} {count}");
        }
        let connections = self.connections.load(Ordering::Relaxed);
        let _ = write!(
            text,
            "# HELP emr_shs_gateway_connections Open connections.\n\
             # TYPE emr_shs_gateway_connections gauge\n\
             emr_shs_gateway_connections {connections}\n\
             # HELP emr_shs_gateway_credentials_left_seconds How long the credentials are still good for.\n\
             # TYPE emr_shs_gateway_credentials_left_seconds gauge\n"
        );
        let left = match left {
            Some(None) => "+Inf".to_string(),
            Some(Some(left)) => left.as_secs().to_string(),
            None => "0".into(),
        };
        let _ = writeln!(text, "emr_shs_gateway_credentials_left_seconds {left}");
        text
    }
}
