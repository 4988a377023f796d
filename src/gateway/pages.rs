//! What a person sees: plain pages that work without scripts. Every name that comes from
//! elsewhere is escaped.

use super::archive::{Archive, Location, LogError, Object, PAGE};
use super::history_server::api::ApplicationInfo;
use super::presign::encode_value;
use super::route::{LogDirectory, LogRequest};
use super::{Body, full, own_headers};
use crate::ids::Container;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

const SKELETON: &str = include_str!("../../assets/page.html");
/// The style sheet of all pages.
pub const STYLE: &str = include_str!("../../assets/style.css");
/// Nothing but our own style sheet; no scripts, no frames, no forms.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// How many rows a page has at most.
const ROWS: usize = 1000;

/// A page before it is sent.
pub struct Page {
    status: StatusCode,
    title: String,
    nav: String,
    body: String,
    /// Seconds until the browser asks again by itself.
    again: Option<u32>,
}

impl Page {
    /// A page with a title and nothing else.
    pub fn new(status: StatusCode, title: impl Into<String>) -> Self {
        let nav = "<a href=\"/\">History server</a> · <a href=\"/logs/\">Executor logs</a>".into();
        Self { status, title: title.into(), nav, body: String::new(), again: None }
    }

    /// Adds a paragraph of plain text.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        let _ = writeln!(self.body, "<p>{}</p>", escape(text));
        self
    }

    /// Adds something to type or to copy.
    #[must_use]
    pub fn code(mut self, text: &str) -> Self {
        let _ = writeln!(self.body, "<pre>{}</pre>", escape(text));
        self
    }

    fn small(mut self, text: &str) -> Self {
        let _ = writeln!(self.body, "<p class=\"small\">{}</p>", escape(text));
        self
    }

    fn html(mut self, html: &str) -> Self {
        self.body.push_str(html);
        self
    }

    fn below(mut self, name: &str, href: &str) -> Self {
        let _ = write!(self.nav, " · <a href=\"{}\">{}</a>", escape(href), escape(name));
        self
    }

    /// As an answer.
    pub fn answer(self) -> Response<Body> {
        let head = self.again.map(|s| format!("<meta http-equiv=\"refresh\" content=\"{s}\">\n")).unwrap_or_default();
        let mut text = String::with_capacity(SKELETON.len() + self.body.len() + 512);
        let mut rest = SKELETON;
        while let Some((before, name, after)) = rest
            .split_once('{')
            .and_then(|(before, after)| after.split_once('}').map(|(name, after)| (before, name, after)))
        {
            text.push_str(before);
            match name {
                "title" => text.push_str(&escape(&self.title)),
                "head" => text.push_str(&head),
                "nav" => text.push_str(&self.nav),
                _ => text.push_str(&self.body),
            }
            rest = after;
        }
        text.push_str(rest);
        let mut answer = Response::new(full(text));
        *answer.status_mut() = self.status;
        let headers = answer.headers_mut();
        own_headers(headers);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        answer
    }
}

/// Text as it stands in HTML, in content and in quoted attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// The applications of a cluster. `names` are from the history server.
pub fn applications(
    cluster: &str,
    own: bool,
    mut ids: Vec<String>,
    names: &BTreeMap<String, String>,
    others: &[String],
) -> Page {
    ids.sort_unstable_by_key(|id| std::cmp::Reverse(numbers(id)));
    let mut page = Page::new(StatusCode::OK, format!("Executor logs of {cluster}"));
    let count = ids.len();
    if count == 0 {
        page = page.text("No container logs of this cluster are in S3 yet. EMR uploads them every five minutes, and only if the cluster has a log URI.");
    } else {
        let mut rows = String::new();
        for id in ids.iter().take(ROWS) {
            let href = if own { format!("/logs/{id}/") } else { format!("/logs/{cluster}/containers/{id}/") };
            let name = names.get(id).map_or("", String::as_str);
            let _ = writeln!(
                rows,
                "<tr><td><a href=\"{}\">{}</a></td><td>{}</td></tr>",
                escape(&href),
                escape(id),
                escape(name)
            );
        }
        page = page.html(&table(&["Application", "Name"], &rows));
        if count > ROWS {
            page =
                page.small(&format!("The newest {ROWS} of {count}. Any other opens by its id: /logs/application_…/"));
        }
    }
    let others: Vec<&String> = others.iter().filter(|other| *other != cluster).collect();
    if others.is_empty() {
        return page;
    }
    let mut list = String::from("<h2>Other clusters below this log URI</h2>\n<ul>\n");
    for other in others.iter().take(ROWS) {
        let _ = writeln!(list, "<li><a href=\"/logs/{0}/\">{0}</a></li>", escape(other));
    }
    list.push_str("</ul>\n");
    if others.len() > ROWS {
        let _ = writeln!(list, "<p class=\"small\">The first {ROWS} of {}.</p>", others.len());
    }
    page.html(&list)
}

/// The containers of an application, with their logs.
pub fn containers(application: &str, cluster: &str, files: &[Object], whole: bool, run: &ApplicationInfo) -> Page {
    let mut by_container: BTreeMap<&str, Vec<(&str, &Object)>> = BTreeMap::new();
    for file in files {
        if let Some((container, name)) = file.name.split_once('/').filter(|(c, _)| Container::parse(c).is_some()) {
            by_container.entry(container).or_default().push((name, file));
        }
    }
    let title = match &run.name {
        Some(name) => format!("{application}: {name}"),
        None => application.to_string(),
    };
    let status = if by_container.is_empty() { StatusCode::NOT_FOUND } else { StatusCode::OK };
    let mut page = Page::new(status, title).below(cluster, &format!("/logs/{cluster}/"));
    if by_container.is_empty() {
        return why_missing(page.text("No logs of this application are in S3."), run)
            .small(&format!("Looked for below {cluster}/containers/{application}/"));
    }
    let mut rows = String::new();
    for (container, files) in &by_container {
        let mut links = String::new();
        for (name, file) in files {
            let label = name.strip_suffix(".gz").unwrap_or(name);
            let href = log_path(container, name);
            let _ = write!(
                links,
                "<a href=\"{}\">{}</a> <small>{}</small> ",
                escape(&href),
                escape(label),
                size(file.size)
            );
        }
        let role = run.roles.get(*container).map_or("", String::as_str);
        let _ = writeln!(
            rows,
            "<tr><td><a href=\"/logs/{0}/\">{0}</a></td><td>{1}</td><td>{links}</td></tr>",
            escape(container),
            escape(role)
        );
    }
    page = page.html(&table(&["Container", "Is", "Logs"], &rows));
    if !whole {
        page = page.small("There are more containers than fit on this page; each opens by its id: /logs/container_…/");
    }
    page
}

/// The logs in a directory.
pub fn files(place: &LogDirectory, location: &str, files: &[Object], run: &ApplicationInfo) -> Page {
    let title = match place {
        LogDirectory::Container(container) => format!("Logs of {}", container.id),
        LogDirectory::Directory(directory) => format!("Logs in {directory}"),
    };
    let mut page = Page::new(if files.is_empty() { StatusCode::NOT_FOUND } else { StatusCode::OK }, title);
    if let LogDirectory::Container(container) = place {
        let application = container.application.to_string();
        page = page.below(&application, &format!("/logs/{application}/"));
    }
    if files.is_empty() {
        page = why_missing(page.text("There are none in S3."), run);
    } else {
        page = page.html(&file_table(place, files));
    }
    page.small(&format!("In {location}"))
}

fn file_table(place: &LogDirectory, files: &[Object]) -> String {
    let mut rows = String::new();
    for file in files {
        let href = match place {
            LogDirectory::Container(container) => log_path(&container.id, &file.name),
            LogDirectory::Directory(directory) => format!("/logs/{directory}{}", encode_value(&file.name)),
        };
        let label = file.name.strip_suffix(".gz").unwrap_or(&file.name);
        let _ = writeln!(
            rows,
            "<tr><td><a href=\"{0}\">{1}</a></td><td class=\"number\">{2}</td><td class=\"time\">{3}</td>\
             <td class=\"later\"><a href=\"{0}?download=1\" aria-label=\"Download {4}\">download</a></td></tr>",
            escape(&href),
            escape(label),
            size(file.size),
            time(file.modified.as_ref()),
            escape(&file.name),
        );
    }
    let head = "<th scope=\"col\">Log</th><th scope=\"col\" class=\"number\">Size in S3</th>\
                <th scope=\"col\">Uploaded (UTC)</th><th scope=\"col\" class=\"later\">As stored</th>";
    format!("<div class=\"wide\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n")
}

fn table(heads: &[&str], rows: &str) -> String {
    let head: String = heads.iter().map(|h| format!("<th scope=\"col\">{h}</th>")).collect();
    format!("<div class=\"wide\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n")
}

fn log_path(container: &str, name: &str) -> String {
    format!("/logs/{container}/{}", encode_value(name.strip_suffix(".gz").filter(|n| !n.is_empty()).unwrap_or(name)))
}

/// Why something is not there (yet), as far as that can be known.
fn why_missing(page: Page, run: &ApplicationInfo) -> Page {
    const UPLOAD: &str = "EMR uploads logs every five minutes";
    let page = match (run.incomplete, run.ended) {
        (true, _) => page.text(&format!("{UPLOAD}; as far as its event log tells, this application is still running.")),
        (false, Some(ended)) => {
            let ago = SystemTime::now().duration_since(ended).unwrap_or_default();
            let ended = words(ago);
            if ago < Duration::from_secs(900) {
                page.text(&format!("{UPLOAD}; this application ended {ended} ago."))
            } else {
                page.text(&format!(
                    "This application ended {ended} ago, so it should be there by now. EMR may not upload application logs \
                     for this cluster (LogTypeUploadPolicy), a lifecycle rule may have deleted it, and releases 7.9 to \
                     7.12 lose container logs of applications that run for more than three hours."
                ))
            }
        }
        (false, None) => {
            page.text(&format!("{UPLOAD}. The history server does not tell (yet) whether this application still runs."))
        }
    };
    match run.live.as_ref().filter(|_| run.incomplete) {
        Some(live) => page.html(&format!(
            "<p>While the container lives, its NodeManager shows it: <a href=\"{0}\">{0}</a></p>\n",
            escape(live)
        )),
        None => page,
    }
}

/// Why a log, or a listing, cannot be given.
pub fn trouble(trouble: &LogError, ask: &LogRequest, archive: &Archive, run: &ApplicationInfo) -> Page {
    let what = match ask {
        LogRequest::Log(LogDirectory::Container(container), file) => format!("{file} of {}", container.id),
        LogRequest::Log(LogDirectory::Directory(directory), file) => format!("{file} in {directory}"),
        LogRequest::Files(LogDirectory::Container(container)) => container.id.clone(),
        LogRequest::Files(LogDirectory::Directory(directory)) => directory.clone(),
        LogRequest::Containers(application, _) => application.to_string(),
        LogRequest::Applications(_) => "the list of applications".into(),
    };
    let place = |at: &Location| format!("s3://{}/{}", archive.stores[at.store].uri.bucket, at.key);
    let above = |page: Page| match ask {
        LogRequest::Log(LogDirectory::Container(container), _)
        | LogRequest::Files(LogDirectory::Container(container)) => {
            let application = container.application.to_string();
            page.below(&application, &format!("/logs/{application}/"))
        }
        _ => page,
    };
    match trouble {
        LogError::Missing { at, others } => {
            let mut page = above(Page::new(StatusCode::NOT_FOUND, format!("{what} is not in S3 yet")));
            let old = run.ended.is_some_and(|e| e.elapsed().is_ok_and(|ago| ago > Duration::from_secs(900)));
            if old {
                page.title = format!("{what} is not in S3");
            }
            page = why_missing(page, run);
            if let LogRequest::Log(place, _) = ask {
                match others {
                    Some(others) if !others.is_empty() => {
                        page = page.html("<h2>What is there</h2>\n").html(&file_table(place, others));
                    }
                    Some(_) => page = page.text("Nothing of this container is in S3."),
                    None => {}
                }
            }
            page.small(&format!("Looked for {}", place(at)))
        }
        LogError::Denied { at, permission, said } => {
            let page = above(Page::new(StatusCode::FORBIDDEN, format!("S3 refuses {what}")))
                .text(&format!("The gateway's role needs {permission} here. It is the cluster's instance profile, unless other credentials were configured."));
            let page = if permission.contains("ListBucket") {
                page.text("Without s3:ListBucket, S3 also answers so when an object is not there (yet).")
            } else {
                page
            };
            page.small(&format!("{}: S3 said {said}", place(at)))
        }
        LogError::Archived { at, class } => above(Page::new(StatusCode::CONFLICT, format!("{what} is archived")))
            .text(&format!("Its storage class is {class}, so it must be restored before it can be read. That takes minutes to hours."))
            .code(&format!(
                "aws s3api restore-object --bucket {} --key '{}' --restore-request {}",
                archive.stores[at.store].uri.bucket,
                at.key.replace('\'', "'\\''"),
                // Tiered objects go back to where they were; others get a copy for some days.
                if class.starts_with("INTELLIGENT") { "'{}'" } else { "Days=7" }
            )),
        LogError::Searching => {
            let mut page = above(Page::new(StatusCode::SERVICE_UNAVAILABLE, format!("Looking for {what}")))
                .text("It may be of another cluster, and the clusters below the log URI are still being looked through. This page asks again by itself; what was found is remembered.");
            page.again = Some(5);
            page
        }
        LogError::NoCredentials(why) => above(Page::new(StatusCode::SERVICE_UNAVAILABLE, "The gateway has no credentials"))
            .text("The node's metadata service, or wherever its credentials come from, gives none that have not ended. The gateway asks again every few seconds.")
            .small(why),
        LogError::Unreachable(why) => above(Page::new(StatusCode::BAD_GATEWAY, format!("S3 cannot be asked about {what}")))
            .text(&format!("The gateway waits {} s for it. Try again; if it stays so, see whether this node reaches S3: aws s3 ls", PAGE.as_secs()))
            .small(why),
    }
}

/// `application_<timestamp>_<number>` as numbers, so that newer ones sort behind older ones.
fn numbers(id: &str) -> (u64, u64) {
    let mut parts = id.split('_').skip(1).map(|n| n.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// `1.4 MB`
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 10.0 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// `2026-11-22 18:00:03`
fn time(at: Option<&DateTime>) -> String {
    let text = at.and_then(|t| DateTime::from_secs(t.secs()).fmt(DateTimeFormat::DateTime).ok()).unwrap_or_default();
    text.replace('T', " ").trim_end_matches('Z').to_string()
}

/// `two minutes` would be nicer; `2 minutes` is enough.
fn words(span: Duration) -> String {
    let (count, unit) = match span.as_secs() {
        s @ 0..60 => (s, "second"),
        s @ 60..3600 => (s / 60, "minute"),
        s @ 3600..172_800 => (s / 3600, "hour"),
        s => (s / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
