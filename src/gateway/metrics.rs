//! The gateway's counters, in Prometheus' text format.

use fs_err as fs;
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
    /// A page that says that an event log is being fetched, or why it cannot be.
    EventLog,
}

const NAMES: [(&str, RequestOutcome); 9] = [
    ("redirect", RequestOutcome::Redirect),
    ("stream", RequestOutcome::Stream),
    ("page", RequestOutcome::Page),
    ("history_server", RequestOutcome::History),
    ("not_found", RequestOutcome::NotFound),
    ("refused", RequestOutcome::Refused),
    ("unavailable", RequestOutcome::Unavailable),
    ("busy", RequestOutcome::Busy),
    ("event_log", RequestOutcome::EventLog),
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
    /// Whether `/-/readyz` answers 200.
    pub(super) is_ready: bool,
    pub(super) failing_log_uris: usize,
    /// How long ago S3 gave a good answer; `None` if it never did.
    pub(super) answer_age: Option<Duration>,
    /// `None` without credentials, and `Some(None)` if the credentials do not expire.
    pub(super) credentials_left: Option<Option<Duration>>,
    /// The role of the instance profile.
    pub(super) role: Option<String>,
    pub(super) connections: usize,
    /// Places taken that are kept for root's programs, by what for.
    pub(super) kept: [(&'static str, usize); 4],
    /// Connections that were closed or not taken, by reason.
    pub(super) closed: [(&'static str, u64); 6],
    /// Logins, by result; `None` if no login is required.
    pub(super) logins: Option<[(&'static str, u64); 3]>,
    /// TLS handshakes that waited; `None` without TLS.
    pub(super) delayed_handshakes: Option<u64>,
    /// The fingerprint of the certificate that the gateway has signed itself.
    pub(super) fingerprint: Option<String>,
    /// How many bytes of pages wait for their readers.
    pub(super) page_bytes: usize,
    /// Requests that wait for S3, or that the history server answers.
    pub(super) waiting: usize,
    /// Logs that pass through the gateway.
    pub(super) streams: usize,
    /// Requests that had no room, by what they needed.
    pub(super) busy: Vec<(&'static str, u64)>,
    /// Lines that the access log does not contain.
    pub(super) left_out_lines: u64,
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
        let answer_age = gauges.answer_age.map_or("+Inf".into(), |age| age.as_secs().to_string());
        let requests = NAMES.map(|(name, outcome)| (name, self.requests[outcome as usize].load(Ordering::Relaxed)));
        let mut text = Text::default();
        text.head("build_info", "The version of emr-shs.", "gauge");
        let _ = writeln!(text.0, "{PREFIX}build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        text.gauge("ready", "1 if /-/readyz answers 200, otherwise 0.", &u8::from(gauges.is_ready).to_string());
        text.gauge(
            "failing_log_uris",
            "Log URIs that do not give all their logs.",
            &gauges.failing_log_uris.to_string(),
        );
        text.gauge("s3_answer_age_seconds", "Time since S3 last gave a list or an object.", &answer_age);
        text.counter("requests_total", "Requests by outcome.", "outcome", &requests);
        text.counter("busy_total", "Requests that had no room, by what they needed.", "what", &gauges.busy);
        text.gauge(
            "waiting_requests",
            "Requests that wait for S3, or that the history server answers.",
            &gauges.waiting.to_string(),
        );
        text.gauge("streams", "Logs that pass through the gateway.", &gauges.streams.to_string());
        text.gauge("connections", "Open connections.", &gauges.connections.to_string());
        text.head("root_places", "Places taken that are kept for programs of the node's root.", "gauge");
        for (what, taken) in gauges.kept {
            let _ = writeln!(text.0, "{PREFIX}root_places{{what=\"{what}\"}} {taken}");
        }
        text.counter(
            "closed_connections_total",
            "Connections that were closed or not taken.",
            "reason",
            &gauges.closed,
        );
        if let Some(logins) = &gauges.logins {
            text.counter("logins_total", "Passwords that were checked, by result.", "result", logins);
        }
        if let Some(delayed) = gauges.delayed_handshakes {
            text.total(
                "delayed_handshakes_total",
                "TLS handshakes that waited because their client began more than its limit.",
                &delayed.to_string(),
            );
        }
        text.gauge("page_bytes", "Bytes of pages that wait for their readers.", &gauges.page_bytes.to_string());
        text.gauge("resident_memory_bytes", "Memory of the gateway's process.", &resident_memory().to_string());
        text.head("log_lines_left_out_total", "Requests without a line in the access log.", "counter");
        let _ = writeln!(text.0, "{PREFIX}log_lines_left_out_total {}", gauges.left_out_lines);
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
        if let Some(fingerprint) = &gauges.fingerprint {
            text.head("self_signed_certificate_info", "The certificate that the gateway has signed itself.", "gauge");
            let _ = writeln!(text.0, "{PREFIX}self_signed_certificate_info{{sha256=\"{fingerprint}\"}} 1");
        }
        text.0
    }
}

/// In bytes; 0 where the kernel does not tell.
fn resident_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Text in Prometheus' format.
#[derive(Default)]
pub(super) struct Text(pub(super) String);

impl Text {
    pub(super) fn into_string(self) -> String {
        self.0
    }

    /// A counter without labels.
    pub(super) fn total(&mut self, name: &str, help: &str, value: &str) {
        self.head(name, help, "counter");
        let _ = writeln!(self.0, "{PREFIX}{name} {value}");
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}");
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.head(name, help, "counter");
        for (value, count) in values {
            let _ = writeln!(self.0, "{PREFIX}{name}{{{label}=\"{value}\"}} {count}");
        }
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: &str) {
        self.head(name, help, "gauge");
        let _ = writeln!(self.0, "{PREFIX}{name} {value}");
    }
}
