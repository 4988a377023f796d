//! The gateway's own pages, below `/-/`: what monitoring asks for, and the style sheet.

use super::archive::Readiness;
use super::handler::Gateway;
use super::http::{Body, full, set_own_headers};
use super::logins::Logins;
use super::metrics::{Gauges, RequestOutcome};
use super::pages::{self, Message};
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use std::time::{Duration, Instant, SystemTime};

impl Gateway {
    /// `/-/…`: health, readiness and metrics for monitoring, and the style sheet of the pages.
    pub(super) fn own_page(&self, path: &str) -> (Response<Body>, RequestOutcome) {
        let credentials_left = self.credentials.current().map(|session| session.time_left(SystemTime::now()));
        let (status, content_type, text) = match path {
            "/-/style.css" => (StatusCode::OK, "text/css; charset=utf-8", pages::STYLE.into()),
            "/-/healthz" => (StatusCode::OK, "text/plain", "ok\n".into()),
            "/-/readyz" => {
                let (status, text) = self.readiness(credentials_left.is_some());
                (status, "text/plain", text)
            }
            "/-/log-uris" => {
                let troubles = serde_json::to_string(&self.archive.readiness().troubles);
                (StatusCode::OK, "application/json", troubles.unwrap_or_default())
            }
            "/-/index" if let Some(applications) = &self.applications => {
                (StatusCode::OK, "application/json", applications.status().json())
            }
            "/-/metrics" => {
                let own = self.metrics_text(credentials_left);
                let s3 = self.archive.budget.metrics(Instant::now());
                let cache = self.event_log_cache.as_ref().map(|cache| cache.metrics()).unwrap_or_default();
                let list = self.applications.as_ref().map(|applications| applications.status().metrics());
                (StatusCode::OK, "text/plain; version=0.0.4", own + &s3 + &cache + &list.unwrap_or_default())
            }
            _ => {
                return (Message::new(StatusCode::NOT_FOUND, "Page not found").response(), RequestOutcome::NotFound);
            }
        };
        let mut response = Response::new(full(text));
        *response.status_mut() = status;
        set_own_headers(response.headers_mut());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        (response, RequestOutcome::Page)
    }

    /// One log URI that fails hides none of the others: the gateway is ready if it opens logs at all.
    fn readiness(&self, has_credentials: bool) -> (StatusCode, String) {
        let Readiness { opens_logs, troubles } = self.archive.readiness();
        let mut told: Vec<String> =
            troubles.iter().map(|trouble| format!("{}: {}", trouble.uri, trouble.why)).collect();
        if let Some(applications) = &self.applications {
            let failing = applications.status().state().failing;
            told.extend(failing.into_iter().map(|(uri, why)| format!("event logs below {uri}: {why}")));
        }
        let told = told.join("; ");
        match (has_credentials, opens_logs) {
            (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "no credentials\n".into()),
            (true, false) => (StatusCode::SERVICE_UNAVAILABLE, format!("{told}\n")),
            (true, true) if told.is_empty() => (StatusCode::OK, "ready\n".into()),
            (true, true) => (StatusCode::OK, format!("ready, except {told}\n")),
        }
    }

    fn metrics_text(&self, credentials_left: Option<Option<Duration>>) -> String {
        let readiness = self.archive.readiness();
        self.metrics.text(&Gauges {
            is_ready: credentials_left.is_some() && readiness.opens_logs,
            failing_log_uris: readiness.troubles.len(),
            answer_age: self.archive.answer_age(Instant::now()),
            credentials_left,
            role: self.credentials.role(),
            connections: self.connections.count(),
            kept: [
                ("connections", self.connections.kept()),
                ("requests", self.waiting.kept()),
                ("history_server", self.history_requests.kept() + self.openings.kept()),
                ("streams", self.streams.kept()),
            ],
            closed: self.connections.closed(),
            logins: self.logins.as_ref().map(Logins::counts),
            delayed_handshakes: self.tls.as_ref().map(|tls| tls.handshakes.delayed()),
            fingerprint: self.tls.as_ref().and_then(|tls| tls.own_fingerprint()),
            page_bytes: self.page_memory.used(),
            waiting: self.waiting.used() + self.history_requests.used(),
            streams: self.streams.used(),
            busy: [
                ("requests", self.waiting.refused()),
                ("s3", self.archive.budget.refused_questions()),
                ("history_server", self.history_requests.refused() + self.openings.refused()),
                ("streams", self.streams.refused()),
                ("pages", self.page_memory.refused()),
            ]
            .into_iter()
            .chain(self.applications.iter().flat_map(|applications| applications.refused()))
            .collect(),
            left_out_lines: self.left_out.lines(),
        })
    }
}
