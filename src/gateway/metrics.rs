//! The gateway's counters, in Prometheus' text format.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
}

const NAMES: [(&str, RequestOutcome); 7] = [
    ("redirect", RequestOutcome::Redirect),
    ("stream", RequestOutcome::Stream),
    ("page", RequestOutcome::Page),
    ("history_server", RequestOutcome::History),
    ("not_found", RequestOutcome::NotFound),
    ("refused", RequestOutcome::Refused),
    ("unavailable", RequestOutcome::Unavailable),
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
    /// The number of open connections.
    pub(super) connections: AtomicU64,
}

impl Metrics {
    pub(super) fn count(&self, outcome: RequestOutcome) {
        self.requests[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The text of `/-/metrics`. `credentials_left` is `None` without credentials, and `Some(None)`
    /// if the credentials do not expire. `role` is the role of the instance profile.
    pub(super) fn text(&self, credentials_left: Option<Option<Duration>>, role: Option<String>) -> String {
        let mut text = String::from(
            "# HELP emr_shs_gateway_requests_total Requests by outcome.\n\
             # TYPE emr_shs_gateway_requests_total counter\n",
        );
        for (name, outcome) in NAMES {
            let count = self.requests[outcome as usize].load(Ordering::Relaxed);
            let _ = writeln!(text, "emr_shs_gateway_requests_total{{outcome=\"{name}\"}} {count}");
        }
        let connections = self.connections.load(Ordering::Relaxed);
        let seconds_left = match credentials_left {
            Some(None) => "+Inf".to_string(),
            Some(Some(left)) => left.as_secs().to_string(),
            None => "0".into(),
        };
        let _ = write!(
            text,
            "# HELP emr_shs_gateway_connections Open connections.\n\
             # TYPE emr_shs_gateway_connections gauge\n\
             emr_shs_gateway_connections {connections}\n\
             # HELP emr_shs_gateway_credentials_left_seconds Time until the credentials expire.\n\
             # TYPE emr_shs_gateway_credentials_left_seconds gauge\n\
             emr_shs_gateway_credentials_left_seconds {seconds_left}\n"
        );
        // A name that IAM would not allow could end the label.
        let is_name = |role: &String| role.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c));
        if let Some(role) = role.filter(is_name) {
            let _ = write!(
                text,
                "# HELP emr_shs_gateway_credentials_info The role of the instance profile whose credentials the gateway has.\n\
                 # TYPE emr_shs_gateway_credentials_info gauge\n\
                 emr_shs_gateway_credentials_info{{role=\"{role}\"}} 1\n"
            );
        }
        text
    }
}
