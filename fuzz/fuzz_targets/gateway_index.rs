//! Asks a gateway with an index for any path and query. Whatever stands in event logs and in addresses: each answer is complete, its
//! pages have no markup but the templates', each link and redirect leads to a path of the gateway, and no search is an error. The
//! gateway reads nothing in S3 outside its prefixes, and its cache has nothing but event logs under their own names.

#![no_main]

#[allow(dead_code, reason = "another target uses the rest")]
mod gateway;

use emr_shs::testing::InMemoryGateway;
use gateway::{LOG_URI, answers, assert_path, assert_protected, credentials, serve};
use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode_str;
use regex::bytes::Regex;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

/// The ids and the names of applications, as people who write event logs choose them.
const APPLICATIONS: [(&str, &str); 9] = [
    ("application_1795352263709_0001", "nightly sales"),
    ("application_1795352263709_0002", "<script>alert(1)</script>\" onload='x' \u{202e}\u{1}\u{9b}\n"),
    ("..", "100%_done; DROP TABLE attempt"),
    (".", "\"*\" NEAR(a b) OR -x AND {name}:y^z"),
    ("a/../b", "c:\\d \u{0} e"),
    ("local-1;jsessionid=2", "\u{130}\u{df}\u{1e9e} \u{301}"),
    ("//evil.example/\\", "javascript:alert(1)"),
    ("%2e%2e%2f", "%3Cb%3E"),
    ("\u{202e}1000_noitacilppa", ""),
];

struct Site {
    gateway: InMemoryGateway,
    directory: PathBuf,
}

static SITE: LazyLock<Site> = LazyLock::new(|| {
    credentials();
    let directory = std::env::temp_dir().join(format!("emr-shs-fuzz-index-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("cache")).unwrap();
    let cache = directory.join("cache");
    let (s3, history_server) = (serve(s3), serve(move |head| history_server(head, &cache)));
    let gateway =
        InMemoryGateway::with_index(&s3, LOG_URI, &history_server, "s3://acme-logs/events/", &directory).unwrap();
    let is_read = || {
        let sent = gateway.answers([127, 0, 0, 1].into(), b"GET /-/index HTTP/1.1\r\nHost: localhost\r\n\r\n");
        String::from_utf8(sent).unwrap().contains(&format!("\"attempts\":{}", APPLICATIONS.len()))
    };
    for _ in 0..200 {
        if is_read() {
            return Site { gateway, directory };
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the gateway has not read the event logs");
});

/// The name of an event log.
fn name(at: usize) -> String {
    format!("application_1_{at:04}")
}

fn log(at: usize) -> String {
    let (id, name) = APPLICATIONS[at];
    let text = |text: &str| {
        let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
        format!("\"{}\"", units.collect::<String>())
    };
    let (id, name) = (text(id), text(name));
    // Times as no clock tells them, too.
    let (started, ended) = [(1_795_352_263_709, 1_795_352_323_709), (i64::MIN, i64::MAX), (i64::MAX, i64::MIN)][at % 3];
    format!(
        "{{\"Event\":\"SparkListenerLogStart\",\"Spark Version\":\"3.5.8\"}}\n\
         {{\"Event\":\"SparkListenerApplicationStart\",\"App Name\":{name},\"App ID\":{id},\"Timestamp\":{started},\"User\":{name}}}\n\
         {{\"Event\":\"SparkListenerApplicationEnd\",\"Timestamp\":{ended}}}\n"
    )
}

/// A bucket with these event logs and nothing else. It fails at a request for anything outside the prefixes.
fn s3(head: &str) -> Vec<u8> {
    let path = head.split(' ').nth(1).unwrap_or_default();
    let answer = |status: &str, headers: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}")
            .into_bytes()
    };
    if head.starts_with("HEAD") {
        return answer("200 OK", "x-amz-bucket-region: eu-west-3\r\n", "");
    }
    if head.starts_with("PUT") {
        assert!(path.starts_with("/acme-logs/events/.emr-shs/"), "{path}");
        return answer("403 Forbidden", "", "<Error><Code>AccessDenied</Code></Error>");
    }
    if path.contains("list-type=2") {
        let prefix = path.split(['?', '&']).find_map(|pair| pair.strip_prefix("prefix=")).unwrap_or_default();
        let prefix = percent_decode_str(prefix).decode_utf8().unwrap();
        let is_within = ["events/", "elasticmapreduce/"].iter().any(|within| prefix.starts_with(within));
        assert!(is_within && !prefix.contains("../"), "{path}");
        let after = path.split(['?', '&']).find_map(|pair| pair.strip_prefix("start-after=")).unwrap_or_default();
        let after = percent_decode_str(after).decode_utf8().unwrap();
        let keys = (0..APPLICATIONS.len()).map(|at| format!("events/{}", name(at)));
        let listed: String = keys
            .enumerate()
            .filter(|(_, key)| key.starts_with(&*prefix) && key.as_str() > &*after)
            .map(|(at, key)| {
                let size = log(at).len();
                format!("<Contents><Key>{key}</Key><Size>{size}</Size><ETag>\"{at}\"</ETag><LastModified>2026-11-22T18:00:00.000Z</LastModified></Contents>")
            })
            .collect();
        let body = format!("<ListBucketResult><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>");
        return answer("200 OK", "Content-Type: application/xml\r\n", &body);
    }
    let key =
        path.strip_prefix("/acme-logs/").and_then(|key| key.split('?').next()).unwrap_or_else(|| panic!("{path}"));
    if key.starts_with("elasticmapreduce/") || key == "events/.emr-shs/index-v1.zst" {
        return answer("404 Not Found", "", "<Error><Code>NoSuchKey</Code></Error>");
    }
    let at = key.strip_prefix("events/application_1_").and_then(|at| at.parse::<usize>().ok());
    let body = log(at.unwrap_or_else(|| panic!("{path}")));
    let range =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_string));
    let (begin, end) = range.as_deref().and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
    let size = body.len();
    let (begin, end) = match begin.parse::<usize>() {
        Ok(begin) => (begin, end.parse().unwrap_or(size - 1).min(size - 1)),
        Err(_) => (size.saturating_sub(end.parse().unwrap()), size - 1),
    };
    let headers = format!("ETag: \"{}\"\r\nContent-Range: bytes {begin}-{end}/{size}\r\n", at.unwrap());
    answer("206 Partial Content", &headers, &body[begin..=end])
}

/// A history server that lists what lies in its directory. It fails at a path that means something else for it than for the gateway.
fn history_server(head: &str, directory: &Path) -> Vec<u8> {
    let path = head.split(' ').nth(1).unwrap_or("/");
    let decoded = percent_decode_str(path.split('?').next().unwrap()).collect::<Vec<u8>>();
    // The gateway itself asks.
    if head.to_ascii_lowercase().contains("host: localhost\r\n") {
        let id = path.strip_prefix("/api/v1/applications/").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let id = percent_decode_str(id).decode_utf8().unwrap();
        let at = APPLICATIONS.iter().position(|(known, _)| *known == id);
        let is_listed = at.is_some_and(|at| directory.join(name(at)).exists());
        let (status, body) = match is_listed {
            true => ("200 OK", r#"{"attempts":[{"completed":true}]}"#),
            false => ("404 Not Found", ""),
        };
        let length = body.len();
        return format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
            .into_bytes();
    }
    let mut names = decoded.split(|byte| b"/;".contains(byte));
    assert!(!decoded.starts_with(b"//") && !names.any(|name| matches!(name, b"." | b"..")), "{path}");
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<a href=\"/jobs/\">x</a>".to_vec()
}

/// The elements that the templates write.
const ELEMENTS: [&str; 30] = [
    "!doctype", "html", "head", "meta", "title", "link", "body", "nav", "main", "h1", "h2", "p", "small", "form",
    "label", "input", "select", "option", "button", "a", "div", "table", "thead", "tbody", "tr", "th", "td", "pre",
    "ul", "li",
];
static TAG: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?s-u)<(/?[A-Za-z!][^\s>]*)([^>]*)>?").unwrap());
static ATTRIBUTE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"(?s-u)([^\s=]+)="([^"]*)""#).unwrap());

/// What a person types, in its field.
static FIELD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#" value="[^"]*""#).unwrap());

fn assert_page(page: &[u8]) {
    let shown = FIELD.replace_all(page, &b""[..]);
    let shown = str::from_utf8(&shown).unwrap();
    let hidden =
        |c: char| c.is_control() && c != '\n' || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}');
    assert!(!shown.contains(hidden), "{shown:?}");
    for tag in TAG.captures_iter(page) {
        let name = String::from_utf8_lossy(&tag[1]).to_ascii_lowercase();
        let name = name.trim_start_matches('/');
        assert!(ELEMENTS.contains(&name), "{name}");
        for attribute in ATTRIBUTE.captures_iter(&tag[2]) {
            let (name, value) = (String::from_utf8_lossy(&attribute[1]), String::from_utf8_lossy(&attribute[2]));
            assert!(!name.to_ascii_lowercase().starts_with("on"), "{name}");
            if !matches!(&*name, "href" | "action" | "src") || value.starts_with("data:") {
                continue;
            }
            assert!(value.starts_with('/') && !value.starts_with("//"), "{value}");
            let path = value.split('?').next().unwrap();
            assert!(!path.split('/').any(|part| matches!(part, "." | "..")), "{value}");
            let is_plain = value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
            assert!(is_plain, "{value}");
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let site = &*SITE;
    // What no client can send in an address goes encoded.
    let mut target = String::from("/");
    for byte in data {
        match byte {
            b'!'..=b'~' if *byte != b'#' => target.push(char::from(*byte)),
            byte => target.push_str(&format!("%{byte:02X}")),
        }
    }
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost:9977\r\n\r\n");
    let sent = site.gateway.answers([127, 0, 0, 1].into(), request.as_bytes());
    for answer in answers(&sent) {
        if std::env::var_os("SHOW_ANSWERS").is_some() {
            eprintln!("{target}: {} {} bytes", answer.status, answer.body.len());
        }
        assert!(!answer.is_cut, "{target}");
        // hyper itself answers what is no request.
        if matches!(answer.status, 400 | 414) && answer.all("x-content-type-options").next().is_none() {
            continue;
        }
        assert_protected(&answer);
        // S3 and the search for a log can take longer than a request waits.
        let may_wait = target.starts_with("/logs/") || target.starts_with("/-/");
        let is_usual = matches!(answer.status, 200 | 302 | 400 | 404) || may_wait && matches!(answer.status, 502 | 503);
        assert!(is_usual, "{} for {target}", answer.status);
        let is_page = answer.all("content-security-policy").next().is_some();
        if is_page {
            assert_page(&answer.body);
        }
        let is_list = target == "/" || target.starts_with("/?");
        assert!(!is_list || is_page && answer.status == 200, "{} for {target}", answer.status);
        if let Some(location) = answer.one("location").filter(|to| !to.starts_with(b"http://127.0.0.1:")) {
            assert!(location.starts_with(b"/"), "{}", location.escape_ascii());
            assert_path(location);
        }
    }
    for entry in std::fs::read_dir(site.directory.join("cache")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with(".emr-shs-") || name.starts_with("application_1_"), "{name}");
    }
});
