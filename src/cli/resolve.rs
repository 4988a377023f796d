//! Settings from arguments: the command line over its environment over what the receipt remembers.
//!
//! An argument that the user leaves out keeps the remembered value. An empty value of a text option takes the remembered
//! value back, except for `--event-logs`.

use super::{ComponentArgs, DoctorArgs, GatewayArgs, ListArgs, ServeArgs};
use crate::aws::proxies::Proxies;
use crate::aws::uri::{EventLogs, named_log_uri};
use crate::error::Fault;
use crate::gateway::callers::ANY_ACCOUNT;
use crate::gateway::served::is_pattern;
use crate::ids::{is_cluster, is_host_name, is_id};
use crate::paths::HISTORY_PORT_KEY;
use crate::redact::{REMOVED, is_secret_key};
use crate::settings::{GatewaySettings, Settings, THIS_CLUSTER};
use crate::shown::hint;
use crate::values::SparkValue;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

/// Keys that have an option of their own.
const KEYS_WITH_OPTIONS: [(&str, &str); 3] = [
    ("spark.eventLog.enabled", "--history-only leaves it to the jobs"),
    ("spark.eventLog.dir", "--event-logs sets it"),
    ("spark.history.fs.logDirectory", "--event-logs sets it"),
];

impl ComponentArgs {
    /// The settings of this run, given those of the last one.
    pub fn resolve(&self, earlier: &Settings) -> Result<Settings, Fault> {
        let mut set = earlier.set.clone();
        let index = self.spark.index.unwrap_or(earlier.index);
        let no_proxy = self.spark.no_proxy.unwrap_or(earlier.no_proxy);
        let take_port = take_port(self.spark.take_port, index, no_proxy, earlier.take_port)?;
        if earlier.take_port && !take_port {
            // The history server gets the port back that it had before emr-shs, also where --set of an earlier run has moved it.
            set.remove(HISTORY_PORT_KEY);
        }
        for pair in &self.spark.set {
            let (key, value) = key_value(pair)?;
            if value.is_empty() {
                set.remove(&key);
            } else {
                set.insert(key, value);
            }
        }
        let jars = if self.jar.is_empty() { &earlier.jars } else { &self.jar };
        check_jar_names(jars)?;
        // EMR itself can name such a directory, and `proxy serve` must accept it from the gateway's settings.
        for uri in self.gateway.log_uris.log_uri.iter().filter(|uri| !uri.is_empty()) {
            named_log_uri(uri)?;
        }
        let (event_logs, further_event_logs) = sources(self.spark.event_logs.parse()?, index, earlier)?;
        Ok(Settings {
            event_logs,
            further_event_logs,
            index,
            take_port,
            region: newer(self.spark.s3.region.region.as_ref(), earlier.region.as_ref()),
            endpoint_url: match self.spark.s3.endpoint_url.as_deref() {
                None => earlier.endpoint_url.clone(),
                Some(_) => self.spark.s3.endpoint()?,
            },
            history_only: self.spark.history_only.unwrap_or(earlier.history_only),
            set,
            jars: jars.clone(),
            link_into: self.link_into.unwrap_or(earlier.link_into),
            no_proxy,
            serverless: match self.spark.layout.as_deref() {
                None => earlier.serverless.clone(),
                Some("" | "emr") => None,
                Some(layout) => Some(serverless_application(layout)?),
            },
            gateway: self.gateway.resolve(&earlier.gateway)?,
            proxies: Proxies::resolve(&earlier.proxies),
            cluster: earlier.cluster.clone(),
            public_name: earlier.public_name.clone(),
        })
    }
}

/// The place of event logs, and the further ones, which only the index reads.
fn sources(
    named: Vec<EventLogs>,
    index: bool,
    earlier: &Settings,
) -> Result<(Option<EventLogs>, Vec<EventLogs>), Fault> {
    let mut named = named.into_iter();
    let Some(first) = named.next() else {
        // Without the index, the history server goes back to the first.
        let further = if index { earlier.further_event_logs.clone() } else { Vec::new() };
        return Ok((earlier.event_logs.clone(), further));
    };
    let further: Vec<EventLogs> = named.collect();
    if further.is_empty() || index {
        return Ok((Some(first), further));
    }
    Err(Fault::usage("several --event-logs need --index")
        .detail("a history server reads one directory; the index lists the applications of several")
        .hint(hint!("add --index; or name one prefix: --event-logs {}", first.to_string())))
}

/// Whether the log gateway takes the history server's port. Without the index, or without the gateway, an earlier run's wish
/// ends.
fn take_port(asked: Option<bool>, index: bool, no_proxy: bool, earlier: bool) -> Result<bool, Fault> {
    match asked {
        Some(true) if no_proxy => Err(Fault::usage("--take-port excludes --no-proxy")
            .detail("the log gateway takes the port of the history server, and --no-proxy leaves the log gateway out")
            .hint("add --no-proxy=false; or leave --take-port out")),
        Some(true) if !index => Err(Fault::usage("--take-port needs --index")
            .detail("without the index, the history server itself opens every application on its own port")
            .hint("add --index; or leave --take-port out")),
        Some(asked) => Ok(asked),
        None => Ok(earlier && index && !no_proxy),
    }
}

impl DoctorArgs {
    /// The settings to check: the installed ones, except where an option replaces one.
    pub(crate) fn resolve(&self, installed: &Settings) -> Result<Settings, Fault> {
        let mut settings = installed.clone();
        settings.event_logs = self.event_logs.parse()?.or(settings.event_logs);
        settings.region = self.s3.region.given().map(Into::into).or(settings.region);
        settings.endpoint_url = self.s3.endpoint()?.or(settings.endpoint_url);
        Ok(settings)
    }
}

impl GatewayArgs {
    /// The gateway's settings of this run, given those of the last one.
    pub fn resolve(&self, earlier: &GatewaySettings) -> Result<GatewaySettings, Fault> {
        let mut settings = GatewaySettings {
            log_uris: newer_list(&self.log_uris.log_uri, &earlier.log_uris, |uri| uri.parse())?,
            listen: self.listen.or(earlier.listen),
            public_url: match self.public_url.public_url.as_deref() {
                Some("") => None,
                Some(url) => Some(public_url(url)?),
                None => earlier.public_url.clone(),
            },
            host_names: newer_list(&self.host_name, &earlier.host_names, host_name)?,
            mode: self.mode.or(earlier.mode),
            tls_cert: newer_file(self.tls_cert.as_ref(), earlier.tls_cert.as_ref()),
            tls_key: newer_file(self.tls_key.as_ref(), earlier.tls_key.as_ref()),
            tls_self_signed: self.tls_self_signed.unwrap_or(earlier.tls_self_signed),
            htpasswd: newer_file(self.htpasswd.as_ref(), earlier.htpasswd.as_ref()),
            insecure: self.insecure.unwrap_or(earlier.insecure),
            allow_files: newer_list(&self.allow_file, &earlier.allow_files, file_pattern)?,
            allow_clusters: newer_list(&self.allow_cluster, &earlier.allow_clusters, allowed_cluster)?,
            allow_accounts: newer_list(&self.allow_account, &earlier.allow_accounts, account)?,
            cache_size: newer_number(self.cache_size.as_deref(), earlier.cache_size, cache_size)?,
            cache_count: newer_number(self.cache_count.as_deref(), earlier.cache_count, cache_count)?,
        };
        self.choose_certificate(&mut settings)?;
        for path in [&settings.tls_cert, &settings.tls_key, &settings.htpasswd].into_iter().flatten() {
            if !path.is_absolute() || path.to_str().is_none_or(|p| p.contains(['\n', '"', '\\'])) {
                return Err(Fault::usage(format!("{}: wanted an absolute path without quotes", path.display()))
                    .hint("systemd starts the gateway in another directory than yours: name the file from / on"));
            }
        }
        Ok(settings)
    }

    /// A certificate that this run names replaces the remembered one, of whichever kind.
    fn choose_certificate(&self, settings: &mut GatewaySettings) -> Result<(), Fault> {
        let names_file = self.tls_cert.as_ref().is_some_and(|file| !file.as_os_str().is_empty());
        // A key without a certificate has no use, so an empty value for one of them takes both back.
        match (&self.tls_cert, &self.tls_key) {
            (Some(cert), None) if cert.as_os_str().is_empty() => settings.tls_key = None,
            (None, Some(key)) if key.as_os_str().is_empty() => settings.tls_cert = None,
            _ => {}
        }
        let asks_for_self_signed = self.tls_self_signed == Some(true);
        if names_file && asks_for_self_signed {
            return Err(
                Fault::usage("--tls-cert and --tls-self-signed exclude each other").hint("leave one of them out")
            );
        }
        settings.tls_self_signed &= !names_file;
        if asks_for_self_signed {
            (settings.tls_cert, settings.tls_key) = (None, None);
        }
        if settings.tls_cert.is_some() != settings.tls_key.is_some() {
            return Err(Fault::usage("--tls-cert and --tls-key need each other")
                .hint("--tls-cert /path/chain.pem --tls-key /path/key.pem"));
        }
        Ok(())
    }
}

fn newer(now: Option<&String>, earlier: Option<&String>) -> Option<String> {
    now.or(earlier).filter(|text| !text.is_empty()).cloned()
}

/// An empty value takes the remembered number back.
fn newer_number<T>(
    now: Option<&str>,
    earlier: Option<T>,
    parse: impl Fn(&str) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    match now {
        None => Ok(earlier),
        Some("") => Ok(None),
        Some(text) => parse(text).map(Some),
    }
}

/// A size in bytes, as Spark writes sizes.
fn cache_size(text: &str) -> Result<u64, Fault> {
    let size = SparkValue::new(text).size(1).filter(|size| *size >= 1 << 20);
    size.ok_or_else(|| {
        Fault::usage(format!("--cache-size {text} is no size of the event-log cache"))
            .detail("wanted a number with a unit, such as 20g or 500m; at least 1m")
            .hint("--cache-size 20g")
    })
}

fn cache_count(text: &str) -> Result<u32, Fault> {
    let count = text.parse().ok().filter(|count| (1..=100_000).contains(count));
    count.ok_or_else(|| {
        Fault::usage(format!("--cache-count {text} is no number of applications"))
            .detail("wanted a number from 1 to 100000")
            .hint("--cache-count 200")
    })
}

fn newer_file(now: Option<&PathBuf>, earlier: Option<&PathBuf>) -> Option<PathBuf> {
    now.or(earlier).filter(|path| !path.as_os_str().is_empty()).cloned()
}

fn newer_list<T: Clone>(
    now: &[String],
    earlier: &[T],
    parse: impl Fn(&str) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    if now.is_empty() {
        return Ok(earlier.to_vec());
    }
    now.iter().filter(|text| !text.is_empty()).map(|text| parse(text)).collect()
}

/// The application id of `serverless:<id>`.
fn serverless_application(layout: &str) -> Result<String, Fault> {
    match layout.strip_prefix("serverless:") {
        Some(id) if is_id(id) => Ok(id.into()),
        _ => Err(Fault::usage(format!("--layout {layout} is not a layout that emr-shs knows"))
            .detail("wanted emr, or serverless: and the id of an EMR Serverless application")
            .hint("--layout serverless:00f1r2fo0l4l4l09")),
    }
}

/// `http(s)://host[:port][/path]`, or a path alone, for relative links.
fn public_url(url: &str) -> Result<String, Fault> {
    if url == "/" {
        return Ok(url.into());
    }
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    let (place, path) = url.split_at(url[after_scheme..].find('/').map_or(url.len(), |at| after_scheme + at));
    let path = path.trim_end_matches('/');
    if !(is_base_url(place) || place.is_empty() && !path.is_empty()) {
        return Err(Fault::usage(format!("--public-url {url} is not a URL with which log links can begin"))
            .detail("wanted http:// or https://, a host, and perhaps a port and a path; or / for relative links")
            .hint("--public-url https://logs.example.com"));
    }
    let parts = || path.split('/').skip(1);
    let is_plain = |part: &str| {
        !["", ".", ".."].contains(&part) && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
    };
    let fault = |why: String| {
        Fault::usage(format!("--public-url {url}: {why}")).hint("--public-url https://tools.example.com/shs")
    };
    if !parts().all(is_plain) {
        return Err(fault("wanted a path of letters, digits, and -._~ between slashes".into()));
    }
    // Scripts of Spark's pages look for these two anywhere in the address.
    let taken = parts().find(|part| ["proxy", "history"].contains(part));
    let first = parts().next().filter(|first| ["-", "api", "home", "logPage", "logs", "static"].contains(first));
    match taken.or(first) {
        Some(part) => Err(fault(format!("the history server or the log gateway has a meaning of its own for /{part}"))),
        None => Ok(format!("{place}{path}")),
    }
}

impl ListArgs {
    pub(crate) fn event_logs(&self) -> Result<Vec<EventLogs>, Fault> {
        self.event_logs.iter().filter(|text| !text.is_empty()).map(|text| text.parse()).collect()
    }
}

impl ServeArgs {
    /// The endpoint of each bucket that `--bucket-endpoint` names.
    pub(crate) fn bucket_endpoints(&self) -> Result<BTreeMap<String, String>, Fault> {
        let option = BucketOption {
            name: "--bucket-endpoint",
            value: "URL",
            example: "my-bucket=https://bucket.vpce-0123.s3.eu-west-3.vpce.amazonaws.com",
        };
        option.read(&self.bucket_endpoint, |url| is_base_url(url).then(|| url.trim_end_matches('/').to_string()))
    }

    /// The region of each bucket that `--bucket-region` names.
    pub(crate) fn bucket_regions(&self) -> Result<BTreeMap<String, String>, Fault> {
        let option = BucketOption { name: "--bucket-region", value: "REGION", example: "my-bucket=eu-west-3" };
        option.read(&self.bucket_region, |region| (!region.is_empty()).then(|| region.to_string()))
    }

    /// What `--bucket-path-style` says of each bucket that it names.
    pub(crate) fn bucket_path_styles(&self) -> Result<BTreeMap<String, bool>, Fault> {
        let option = BucketOption { name: "--bucket-path-style", value: "BOOL", example: "my-bucket=false" };
        option.read(&self.bucket_path_style, |on| on.parse().ok())
    }
}

/// An option with a value for one bucket.
struct BucketOption {
    name: &'static str,
    value: &'static str,
    example: &'static str,
}

impl BucketOption {
    /// The value of each bucket. `parse` gives `None` for a value that is none.
    fn read<T>(&self, given: &[String], parse: impl Fn(&str) -> Option<T>) -> Result<BTreeMap<String, T>, Fault> {
        let Self { name, value, example } = self;
        let one = |text: &String| {
            let (bucket, of_bucket) = text.split_once('=').filter(|(bucket, _)| !bucket.is_empty())?;
            Some((bucket.to_string(), parse(of_bucket)?))
        };
        let read = |text: &String| {
            one(text).ok_or_else(|| {
                Fault::usage(format!("{name} {text} is not BUCKET={value}")).hint(hint!("{} {}", name, example))
            })
        };
        given.iter().filter(|text| !text.is_empty()).map(read).collect()
    }
}

/// Whether a URL is `http(s)://host[:port]`, with slashes at its end.
pub(super) fn is_base_url(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(place) = rest.map(|rest| rest.trim_end_matches('/')) else { return false };
    let is_host = |host: &str| match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => is_host_name(host),
    };
    is_host(place) || place.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && is_port(port))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn host_name(name: &str) -> Result<String, Fault> {
    if is_host_name(name) {
        return Ok(name.into());
    }
    Err(Fault::usage(format!("--host-name {name} is not a host name"))
        .detail("wanted a name without scheme and port")
        .hint("--host-name logs.example.com"))
}

fn file_pattern(text: &str) -> Result<String, Fault> {
    if is_pattern(text) {
        return Ok(text.into());
    }
    Err(Fault::usage(format!("--allow-file {text} is no pattern of file names"))
        .detail("wanted the name of a file, without slashes, in which * stands for any text and ? for one character")
        .hint("--allow-file '*.json'"))
}

fn account(name: &str) -> Result<String, Fault> {
    let is_name = name.bytes().all(|b| b.is_ascii_graphic() && !b":/\"'\\*".contains(&b));
    if name == ANY_ACCOUNT || is_name && !name.starts_with('-') && name.len() <= 256 {
        return Ok(name.into());
    }
    Err(Fault::usage(format!("--allow-account {name} is no name of an account"))
        .detail("wanted the name or the id of an account of this node, or '*' for all accounts")
        .hint("--allow-account nginx"))
}

fn allowed_cluster(id: &str) -> Result<String, Fault> {
    if id == THIS_CLUSTER || is_cluster(id) || is_id(id) {
        return Ok(id.into());
    }
    Err(Fault::usage(format!("--allow-cluster {id} is no id of a cluster"))
        .detail(
            "wanted the id of a cluster, of an EMR Serverless application or of a virtual cluster, or the word this",
        )
        .hint("--allow-cluster j-3H6EATEWWRWS"))
}

fn key_value(pair: &str) -> Result<(String, String), Fault> {
    // A step's log and a bootstrap action's log get this message, and many people read them.
    let shown = match pair.split_once('=') {
        Some((key, _)) if is_secret_key(key) => format!("{key}={REMOVED}"),
        _ => pair.to_string(),
    };
    let bad = |why: String| {
        Fault::usage(format!("--set {shown}: {why}")).hint("--set spark.history.retainedApplications=100")
    };
    let (key, value) = pair.split_once('=').ok_or_else(|| bad("wanted KEY=VALUE".into()))?;
    if let Some((_, option)) = KEYS_WITH_OPTIONS.iter().find(|(with_option, _)| *with_option == key) {
        return Err(bad((*option).into()));
    }
    if !key.starts_with("spark.history.") && !key.starts_with("spark.eventLog.") {
        return Err(bad("wanted a key that begins with spark.history. or spark.eventLog.".into()));
    }
    if !key.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)) {
        return Err(bad("a key consists of letters, digits, dots, hyphens and underscores".into()));
    }
    if value.trim() != value || value.chars().any(char::is_control) {
        return Err(bad("wanted a value without blanks around it and without control characters".into()));
    }
    Ok((key.into(), value.into()))
}

/// Refuses jars by their names. `install` looks for the files later.
fn check_jar_names(jars: &[PathBuf]) -> Result<(), Fault> {
    for (i, jar) in jars.iter().enumerate() {
        if !jar.is_absolute() {
            return Err(bad_jar(jar, "wanted an absolute path"));
        }
        if jar.extension().is_none_or(|e| e != "jar") {
            return Err(bad_jar(jar, "wanted a file named *.jar; Java ignores other files on a wildcard class path"));
        }
        if jars[..i].iter().any(|other| other.file_name() == jar.file_name()) {
            return Err(Fault::usage(format!("--jar {}: another --jar has that file name", jar.display()))
                .hint("each link is named like its jar; give one of the jars another name"));
        }
    }
    Ok(())
}

fn bad_jar(jar: &Path, why: &str) -> Fault {
    Fault::usage(format!("--jar {}: {why}", jar.display())).hint("name a jar of this node by its absolute path")
}
