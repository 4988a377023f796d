//! The gateway's counters, in Prometheus' text format.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const PREFIX: &str = "emr_shs_gateway_";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestOutcome {
    /// A redirect to a presigned URL.
    Redirect,
    /// A log that passed through the gateway.
    Stream,
    /// A listing, or a page of the gateway itself.
    Page,
    /// A response of the history server.
    History,
    /// A log that does not exist, or a path that is not a log's.
    NotFound,
    /// A request that the gateway or S3 does not allow.
    Refused,
    /// S3, the history server or the credentials' source did not answer.
    Unavailable,
    /// There was no room for the request.
    Busy,
}

const NAMES: [(&str, RequestOutcome); 8] = [
    ("redirect", RequestOutcome::Redirect),
    ("stream", RequestOutcome::Stream),
    ("page", RequestOutcome::Page),
    ("history_server", RequestOutcome::History),
    ("not_found", RequestOutcome::NotFound),
    ("refused", RequestOutcome::Refused),
    ("unavailable", RequestOutcome::Unavailable),
    ("busy", RequestOutcome::Busy),
];

impl RequestOutcome {
    /// The name in the access log and in the metrics.
    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, outcome)| *outcome == self).map_or("", |(name, _)| name)
    }
}

#[derive(Default)]
pub(super) struct Metrics {
    requests: [AtomicU64; NAMES.len()],
}

/// What the gateway's parts count themselves.
pub(super) struct Gauges {
    /// `None` without credentials, and `Some(None)` if the credentials do not expire.
    pub(super) credentials_left: Option<Option<Duration>>,
    /// The role of the instance profile.
    pub(super) role: Option<String>,
    pub(super) connections: usize,
    /// Connections that were closed or not taken, by reason.
    pub(super) closed: [(&'static str, u64); 3],
    /// Logins, by result; `None` if no login is required.
    pub(super) logins: Option<[(&'static str, u64); 3]>,
    /// How many bytes of pages wait for their readers.
    pub(super) page_bytes: usize,
    /// Requests that had no room, by what they needed.
    pub(super) busy: [(&'static str, u64); 2],
}

impl Metrics {
    pub(super) fn count(&self, outcome: RequestOutcome) {
        self.requests[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The text of `/-/metrics`.
    pub(super) fn text(&self, gauges: &Gauges) -> String {
        let seconds_left = match gauges.credentials_left {
            Some(None) => "+Inf".to_string(),
            Some(Some(left)) => left.as_secs().to_string(),
            None => "0".into(),
        };
        let requests = NAMES.map(|(name, outcome)| (name, self.requests[outcome as usize].load(Ordering::Relaxed)));
        let mut text = Text::default();
        text.counter("requests_total", "Requests by outcome.", "outcome", &requests);
        text.counter("busy_total", "Requests that had no room, by what they needed.", "what", &gauges.busy);
        text.gauge("connections", "Open connections.", &gauges.connections.to_string());
        text.counter(
            "closed_connections_total",
            "Connections that were closed or not taken.",
            "reason",
            &gauges.closed,
        );
        if let Some(logins) = &gauges.logins {
            text.counter("logins_total", "Passwords that were checked, by result.", "result", logins);
        }
        text.gauge("page_bytes", "Bytes of pages that wait for their readers.", &gauges.page_bytes.to_string());
        text.gauge("credentials_left_seconds", "Time until the credentials expire.", &seconds_left);
        // A name that IAM would not allow could end the label.
        let is_name = |role: &&String| role.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c));
        if let Some(role) = gauges.role.as_ref().filter(is_name) {
            text.head(
                "credentials_info",
                "The role of the instance profile whose credentials the gateway has.",
                "gauge",
            );
            let _ = writeln!(text.0, "{PREFIX}credentials_info{{role=\"{role}\"}} 1");
        }
        text.0
    }
}

/// Text in Prometheus' format.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}");
    }

    fn counter(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.head(name, help, "counter");
        for (value, count) in values {
            let _ = writeln!(self.0, "{PREFIX}{name}{{{label}=\"{value}\"}} {count}");
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: &str) {
        self.head(name, help, "gauge");
        let _ = writeln!(self.0, "{PREFIX}{name} {value}");
    }
}
