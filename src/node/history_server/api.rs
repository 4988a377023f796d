//! Requests to the history server: its pages and its REST API.

use super::HistoryServer;
use crate::http::local_client;
use crate::node::event_logs::Attempt;
use crate::node::spark::Version;
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

/// A starting server may accept a connection and not answer. After this time the request fails, and emr-shs
/// sends another one. The tests run beside others on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 30 } else { 2 });
const API_TIMEOUT: Duration = Duration::from_secs(4);
/// The list of thousands of applications is megabytes long.
const LARGEST_ANSWER: u64 = 256 << 20;
const LARGEST_PAGE: u64 = 4 << 20;

/// What a history server says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Spark's version.
    pub version: String,
    /// The event log directory that its front page names.
    pub reads: Option<String>,
}

/// What stands between a living server and whoever wants to see its pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Barrier {
    /// A redirect to another place, as to a login page.
    Redirect { status: u16, to: String },
    /// 401 or 403. The scheme is that of the wanted login: `Negotiate` is Kerberos.
    Login { status: u16, scheme: Option<String> },
    /// A page that is not Spark's, as a login page that comes with status 200.
    OtherPage,
    /// Another status.
    Error { status: u16 },
    /// The port accepts connections, and speaks neither HTTP nor TLS as this program does.
    NoHttp,
}

impl Barrier {
    /// Whether somebody put the barrier there: a servlet filter asks who comes.
    pub(crate) fn is_login(&self) -> bool {
        matches!(self, Self::Redirect { .. } | Self::Login { .. } | Self::OtherPage)
    }
}

/// As text it continues the sentence "port 18080 …".
impl fmt::Display for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redirect { status, to } => write!(f, "redirects ({status}) to {to}"),
            Self::Login { status, scheme: Some(scheme) } if scheme.eq_ignore_ascii_case("negotiate") => {
                write!(f, "requires a login: it answers {status} and wants Negotiate (Kerberos)")
            }
            Self::Login { status, scheme: Some(scheme) } => {
                write!(f, "requires a login: it answers {status} and wants {scheme}")
            }
            Self::Login { status, scheme: None } => write!(f, "requires a login: it answers {status}"),
            Self::OtherPage => f.write_str("answers with a page that is not Spark's, such as a login page"),
            Self::Error { status } => write!(f, "answers with the error {status}"),
            Self::NoHttp => f.write_str(
                "accepts connections, but neither HTTP nor TLS succeeds on it (a server that demands client \
                 certificates behaves so)",
            ),
        }
    }
}

pub(super) enum Reply {
    Answer(Answer),
    Barred(Barrier),
    Nothing,
}

impl HistoryServer {
    /// The attempts that the server lists; `None` if it does not answer in time.
    pub fn list(&self) -> Option<Vec<Attempt>> {
        self.answer.as_ref()?;
        let list = self.api("applications", API_TIMEOUT)?;
        Some(list.as_array()?.iter().filter_map(attempts).flatten().collect())
    }

    /// An answer of the REST API; `None` if it does not come in time or is not JSON.
    pub fn api(&self, path: &str, timeout: Duration) -> Option<Value> {
        let url = format!("{}/api/v1/{path}", base_url(self.address(self.port)?, self.https));
        let mut answer = local_client(timeout).get(&url).call().ok().filter(|answer| answer.status() == 200)?;
        let text = answer.body_mut().with_config().limit(LARGEST_ANSWER).read_to_string().ok()?;
        serde_json::from_str(&text).ok()
    }
}

fn attempts(application: &Value) -> Option<impl Iterator<Item = Attempt>> {
    let id = application.get("id")?.as_str()?.to_string();
    let attempts = application.get("attempts")?.as_array()?.clone();
    Some(attempts.into_iter().map(move |a| {
        let text = |name: &str| Some(a.get(name)?.as_str()?.to_string());
        Attempt {
            application: id.clone(),
            attempt: text("attemptId"),
            updated: a.get("lastUpdatedEpoch").and_then(Value::as_i64).map(|milliseconds| milliseconds / 1000),
            spark: text("appSparkVersion").and_then(|version| Version::parse(&version)),
        }
    }))
}

pub(super) fn base_url(at: SocketAddr, https: bool) -> String {
    format!("{}://{at}", if https { "https" } else { "http" })
}

/// Asks who answers at an address, first with the expected protocol. Also returns whether the protocol that was spoken
/// is HTTPS.
pub(super) fn ask(at: SocketAddr, https: bool) -> (Reply, bool) {
    match ask_in(at, https) {
        Reply::Barred(Barrier::NoHttp) => match ask_in(at, !https) {
            Reply::Nothing | Reply::Barred(Barrier::NoHttp) => (Reply::Barred(Barrier::NoHttp), https),
            spoken => (spoken, !https),
        },
        reply => (reply, https),
    }
}

/// Asks in one protocol.
fn ask_in(at: SocketAddr, https: bool) -> Reply {
    let version = match get(at, https, "/api/v1/version") {
        Ok(Page { status: 200, text, .. }) => match version(&text) {
            Some(version) => version,
            // A server that starts shows its front page at every path until its REST API is in place.
            None if directory_on_page(&text).is_some() => return Reply::Nothing,
            None => return Reply::Barred(Barrier::OtherPage),
        },
        Ok(page) => return Reply::Barred(page.barrier()),
        Err(silence) => return silence,
    };
    match get(at, https, "/") {
        Ok(Page { status: 200, text, .. }) => Reply::Answer(Answer { version, reads: directory_on_page(&text) }),
        // Some filters leave the REST API open and guard the pages.
        Ok(page) => Reply::Barred(page.barrier()),
        Err(_) => Reply::Answer(Answer { version, reads: None }),
    }
}

struct Page {
    status: u16,
    location: Option<String>,
    scheme: Option<String>,
    text: String,
}

impl Page {
    fn barrier(self) -> Barrier {
        match (self.status, self.location) {
            (status @ 300..=399, Some(to)) => Barrier::Redirect { status, to },
            (status @ (401 | 403), _) => Barrier::Login { status, scheme: self.scheme },
            (status, _) => Barrier::Error { status },
        }
    }
}

/// The error is what silence means.
fn get(at: SocketAddr, https: bool, path: &str) -> Result<Page, Reply> {
    let mut answer =
        local_client(TIMEOUT).get(format!("{}{path}", base_url(at, https))).call().map_err(|error| match error {
            // Whoever accepts a connection and never answers hangs, or is busy with its start.
            ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed => Reply::Nothing,
            ureq::Error::Io(e) if e.kind() == ErrorKind::ConnectionRefused => Reply::Nothing,
            _ => Reply::Barred(Barrier::NoHttp),
        })?;
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    // The query of a redirect to a login can contain secrets.
    let location = header("location").map(|to| to.split(['?', '#']).next().unwrap_or_default());
    // Filters repeat the path that was asked for.
    let location = location.map(|to| to.strip_suffix(path.trim_start_matches('/')).unwrap_or(to).to_string());
    let scheme = header("www-authenticate").and_then(|v| v.split([' ', ',']).next()).map(str::to_string);
    let text = match answer.body_mut().with_config().limit(LARGEST_PAGE).lossy_utf8(true).read_to_string() {
        // Half of a page does not show whose page it is.
        Err(ureq::Error::Timeout(_)) if answer.status() == 200 => return Err(Reply::Nothing),
        text => text.unwrap_or_default(),
    };
    Ok(Page { status: answer.status().as_u16(), location, scheme, text })
}

fn version(json: &str) -> Option<String> {
    Some(serde_json::from_str::<Value>(json).ok()?.get("spark")?.as_str()?.to_string())
}

/// `<strong>Event log directory:</strong> s3://…` on the front page.
fn directory_on_page(html: &str) -> Option<String> {
    let after = html.split_once("Event log directory:")?.1;
    let text = after.trim_start().strip_prefix("</strong>").unwrap_or(after);
    let text = text.split('<').next()?.trim();
    Some(text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{Barrier, Reply, ask};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Asks a server that gives these answers to `/api/v1/version` and to `/`.
    fn asked(version: &'static str, front_page: &'static str) -> Reply {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = server.local_addr().unwrap();
        std::thread::spawn(move || {
            for connection in server.incoming() {
                let mut connection = connection.unwrap();
                let mut request = [0; 4096];
                let length = connection.read(&mut request).unwrap_or_default();
                let is_version = String::from_utf8_lossy(&request[..length]).starts_with("GET /api/v1/version ");
                let _ = connection.write_all(if is_version { version } else { front_page }.as_bytes());
            }
        });
        ask(at, false).0
    }

    const VERSION: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 17\r\n\r\n{\"spark\":\"3.5.8\"}";
    const PAGE: &str =
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<strong>Event log directory:</strong> s3://b/&amp;/</li>";

    #[track_caller]
    fn is_barred(reply: &Reply, wanted: &Barrier, text: &str) {
        assert!(matches!(reply, Reply::Barred(found) if found == wanted));
        assert_eq!(wanted.to_string(), text);
    }

    #[test]
    fn a_server_that_shows_its_pages_names_its_directory() {
        let Reply::Answer(answer) = asked(VERSION, PAGE) else { panic!("no answer") };
        assert_eq!((answer.version.as_str(), answer.reads.as_deref()), ("3.5.8", Some("s3://b/&/")));
    }

    #[test]
    fn a_server_that_answers_otherwise_is_alive_and_says_what_bars_the_way() {
        const LOGIN: &str = "HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\nLocation: https://login.acme.example/authorize?state=secret\r\n\r\n";
        let redirect = Barrier::Redirect { status: 302, to: "https://login.acme.example/authorize".into() };
        let text = "redirects (302) to https://login.acme.example/authorize";
        is_barred(&asked(LOGIN, LOGIN), &redirect, text);
        // The filter leaves the REST API open, or the front page.
        is_barred(&asked(VERSION, LOGIN), &redirect, text);
        is_barred(&asked(LOGIN, PAGE), &redirect, text);

        let kerberos = "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\nWWW-Authenticate: Negotiate\r\n\r\n";
        let login = Barrier::Login { status: 401, scheme: Some("Negotiate".into()) };
        is_barred(
            &asked(kerberos, kerberos),
            &login,
            "requires a login: it answers 401 and wants Negotiate (Kerberos)",
        );
        let forbidden = "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let login = Barrier::Login { status: 403, scheme: None };
        is_barred(&asked(forbidden, forbidden), &login, "requires a login: it answers 403");
        let broken = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        is_barred(&asked(broken, broken), &Barrier::Error { status: 503 }, "answers with the error 503");
        const LOGIN_PAGE: &str =
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/html\r\n\r\n<form>Event log</form>";
        assert!(matches!(asked(LOGIN_PAGE, LOGIN_PAGE), Reply::Barred(Barrier::OtherPage)));
        assert!(matches!(asked(LOGIN_PAGE, PAGE), Reply::Barred(Barrier::OtherPage)));
        // The server's own front page at every path: it is about to get its REST API.
        assert!(matches!(asked(PAGE, PAGE), Reply::Nothing));
        let tls_alert = "\u{15}\u{3}\u{3}\0\u{2}\u{2}\u{a}";
        assert!(matches!(asked(tls_alert, tls_alert), Reply::Barred(Barrier::NoHttp)));
        assert!(matches!(asked("", ""), Reply::Barred(Barrier::NoHttp)));
    }

    #[test]
    fn a_port_on_which_nobody_listens_answers_nothing() {
        let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(ask(at, false).0, Reply::Nothing));
    }
}
