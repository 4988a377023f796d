//! What is asked for: the command line over its environment over what the receipt remembers.

use crate::aws::Cluster;
use crate::aws::s3::{EventLogs, LogUri};
use crate::cli::{ComponentArgs, GatewayArgs};
use crate::error::Fault;
use crate::host::Host;
use crate::ids::is_id;
use crate::node;
use crate::paths::GATEWAY_PORT;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where links for the history server's class path go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LinkInto {
    /// A directory of ours that only the history server has on its class path
    #[default]
    Daemon,
    /// /usr/lib/spark/jars, as AWS publishes it; every job then uploads what is linked there
    SparkJars,
}

/// What an installation was asked to be. Kept in the receipt; unknown fields are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Where event logs go.
    pub event_logs: Option<EventLogs>,
    /// AWS region, where it is not the cluster's.
    pub region: Option<String>,
    /// S3 endpoint, where it is not AWS's own.
    pub endpoint_url: Option<String>,
    /// Leave `spark.eventLog.*` to the jobs.
    pub history_only: bool,
    /// Further keys of spark-defaults.conf.
    pub set: BTreeMap<String, String>,
    /// Jars to link whatever is found.
    pub jars: Vec<PathBuf>,
    /// Where links go.
    pub link_into: LinkInto,
    /// No log gateway.
    pub no_proxy: bool,
    /// The Serverless application whose logs links lead to; none for applications on YARN.
    pub serverless: Option<String>,
    /// How the log gateway is to be.
    pub gateway: GatewaySettings,
    /// What EMR said of this cluster when it was asked; it does not change.
    pub cluster: Option<Cluster>,
}

/// How the log gateway gives a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// By a presigned URL: the bytes go from S3 to the browser
    #[default]
    Redirect,
    /// Through the gateway: for buckets that browsers may not reach
    Stream,
}

/// How the log gateway is to be, as far as it was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GatewaySettings {
    /// Where the logs of clusters are archived.
    pub log_uris: Vec<LogUri>,
    /// Where it listens.
    pub listen: Option<SocketAddr>,
    /// Its address in log links, or `/` for links without one.
    pub public_url: Option<String>,
    /// Further names it goes by.
    pub host_names: Vec<String>,
    /// Redirect or stream.
    pub mode: Option<Mode>,
    /// Certificate chain, PEM.
    pub tls_cert: Option<PathBuf>,
    /// Its key, PEM.
    pub tls_key: Option<PathBuf>,
    /// TLS with a certificate made at each start.
    pub tls_self_signed: bool,
    /// Who may log in.
    pub htpasswd: Option<PathBuf>,
    /// Serve other peers without TLS and a login.
    pub insecure: bool,
}

impl GatewaySettings {
    /// The command line, completed by what an earlier run was asked for.
    pub fn merge(args: &GatewayArgs, earlier: &Self) -> Result<Self, Fault> {
        let file = |now: &Option<PathBuf>, then: &Option<PathBuf>| {
            now.clone().or_else(|| then.clone()).filter(|path| !path.as_os_str().is_empty())
        };
        let (own, made) =
            (args.tls_cert.as_ref().filter(|f| !f.as_os_str().is_empty()), args.tls_self_signed == Some(true));
        if own.is_some() && made {
            return Err(
                Fault::usage("--tls-cert and --tls-self-signed exclude each other").hint("leave one of them out")
            );
        }
        let mut merged = Self {
            log_uris: if args.log_uri.is_empty() {
                earlier.log_uris.clone()
            } else {
                args.log_uri.iter().filter(|uri| !uri.is_empty()).map(|uri| uri.parse()).collect::<Result<_, _>>()?
            },
            listen: args.listen.or(earlier.listen),
            public_url: match args.public_url.as_deref() {
                Some("") => None,
                Some(url) => Some(public_url(url)?),
                None => earlier.public_url.clone(),
            },
            host_names: if args.host_name.is_empty() {
                earlier.host_names.clone()
            } else {
                args.host_name.iter().filter(|name| !name.is_empty()).map(|n| host_name(n)).collect::<Result<_, _>>()?
            },
            mode: args.mode.or(earlier.mode),
            tls_cert: file(&args.tls_cert, &earlier.tls_cert),
            tls_key: file(&args.tls_key, &earlier.tls_key),
            tls_self_signed: args.tls_self_signed.unwrap_or(earlier.tls_self_signed),
            htpasswd: file(&args.htpasswd, &earlier.htpasswd),
            insecure: args.insecure.unwrap_or(earlier.insecure),
        };
        // What this run names takes the place of the other kind.
        merged.tls_self_signed &= own.is_none();
        if made {
            (merged.tls_cert, merged.tls_key) = (None, None);
        }
        if merged.tls_cert.is_some() != merged.tls_key.is_some() {
            return Err(Fault::usage("a certificate and its key go together")
                .hint("--tls-cert /path/chain.pem --tls-key /path/key.pem"));
        }
        for path in [&merged.tls_cert, &merged.tls_key, &merged.htpasswd].into_iter().flatten() {
            if !path.is_absolute() || path.to_str().is_none_or(|p| p.contains(['\n', '"', '\\'])) {
                return Err(Fault::usage(format!("{}: wanted an absolute path without quotes", path.display()))
                    .hint("the gateway is started by systemd, from no directory of yours"));
            }
        }
        Ok(merged)
    }

    /// Where it listens: on all addresses, of both families where the kernel has both, unless it
    /// was told otherwise.
    pub fn address(&self) -> SocketAddr {
        self.listen.unwrap_or((std::net::Ipv6Addr::UNSPECIFIED, GATEWAY_PORT).into())
    }

    /// Whether it serves TLS.
    pub fn has_tls(&self) -> bool {
        self.tls_cert.is_some() || self.tls_self_signed
    }

    /// What log links begin with, if they name the gateway's address.
    pub fn link_prefix(&self) -> Option<String> {
        let url = self.public_url.as_deref().filter(|url| *url != "/")?;
        Some(format!("{url}/logs/"))
    }
}

/// The application id of `serverless:<id>`.
fn serverless(layout: &str) -> Result<String, Fault> {
    match layout.strip_prefix("serverless:") {
        Some(id) if is_id(id) => Ok(id.into()),
        _ => Err(Fault::usage(format!("“{layout}” is no layout"))
            .detail("wanted emr, or serverless: and the id of an EMR Serverless application")
            .hint("--layout serverless:00f1r2fo0l4l4l09")),
    }
}

/// `http(s)://host[:port]`, or `/`.
fn public_url(url: &str) -> Result<String, Fault> {
    if url == "/" {
        return Ok(url.into());
    }
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match rest.map(|r| r.trim_end_matches('/')) {
        Some(host) if !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]_".contains(c)) => {
            Ok(url.trim_end_matches('/').into())
        }
        _ => Err(Fault::usage(format!("“{url}” is no address for links"))
            .detail("wanted http:// or https://, a host and perhaps a port; or / for links without an address")
            .hint("--public-url https://logs.example.com")),
    }
}

fn host_name(name: &str) -> Result<String, Fault> {
    if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)) {
        return Ok(name.into());
    }
    Err(Fault::usage(format!("“{name}” is no host name"))
        .detail("wanted a name without scheme and port")
        .hint("--host-name logs.example.com"))
}

/// Keys that have an option of their own.
const TAKEN: [(&str, &str); 3] = [
    ("spark.eventLog.enabled", "--history-only leaves it to the jobs"),
    ("spark.eventLog.dir", "--event-logs sets it"),
    ("spark.history.fs.logDirectory", "--event-logs sets it"),
];

impl Settings {
    /// The command line, completed by what an earlier run was asked for.
    pub fn merge(args: &ComponentArgs, earlier: &Settings) -> Result<Self, Fault> {
        let mut set = earlier.set.clone();
        for pair in &args.set {
            let (key, value) = key_value(pair)?;
            if value.is_empty() {
                set.remove(&key);
            } else {
                set.insert(key, value);
            }
        }
        let jars = if args.jar.is_empty() { &earlier.jars } else { &args.jar };
        jars.iter().try_for_each(|jar| named_jar(jar))?;
        for (i, jar) in jars.iter().enumerate() {
            if jars[..i].iter().any(|other| other.file_name() == jar.file_name()) {
                return Err(Fault::usage(format!("--jar {}: another one has that file name", jar.display()))
                    .hint("links are named like their jars; give one of them another name"));
            }
        }
        // An empty value takes back what an earlier run was told.
        let text = |now: &Option<String>, then: &Option<String>| {
            now.clone().or_else(|| then.clone()).filter(|t| !t.is_empty())
        };
        Ok(Self {
            event_logs: match args.event_logs.as_deref().filter(|uri| !uri.is_empty()) {
                Some(uri) => Some(uri.parse()?),
                None => earlier.event_logs.clone(),
            },
            region: text(&args.region, &earlier.region),
            endpoint_url: text(&args.endpoint_url, &earlier.endpoint_url).as_deref().map(endpoint).transpose()?,
            history_only: args.history_only.unwrap_or(earlier.history_only),
            set,
            jars: jars.clone(),
            link_into: args.link_into.unwrap_or(earlier.link_into),
            no_proxy: args.no_proxy.unwrap_or(earlier.no_proxy),
            serverless: match args.layout.as_deref() {
                None => earlier.serverless.clone(),
                Some("" | "emr") => None,
                Some(layout) => Some(serverless(layout)?),
            },
            gateway: GatewaySettings::merge(&args.gateway, &earlier.gateway)?,
            cluster: earlier.cluster.clone(),
        })
    }

    /// Refuses named jars that this node does not have.
    pub fn check_jars(&self, host: &Host) -> Result<(), Fault> {
        self.jars.iter().try_for_each(|jar| {
            let real = host.target(jar).map_err(Fault::of)?;
            node::jar::find(&real, &[]).map_err(|e| bad_jar(jar, &e.to_string()))?;
            Ok(())
        })
    }

    /// Where this cluster's logs are archived, as far as it is known.
    pub fn log_uri(&self) -> Option<LogUri> {
        let described = || self.cluster.as_ref()?.log_uri.as_ref()?.parse().ok();
        self.gateway.log_uris.first().cloned().or_else(described)
    }

    /// The event logs' place, which the first run must name.
    pub fn event_logs(&self, command: &str) -> Result<&EventLogs, Fault> {
        self.event_logs.as_ref().ok_or_else(|| {
            Fault::usage("where shall the event logs go?")
                .detail("nothing is installed here yet, so there is nothing to reuse")
                .hint(format!("emr-shs {command} --event-logs s3://my-bucket/spark-events/"))
        })
    }
}

fn key_value(pair: &str) -> Result<(String, String), Fault> {
    let bad =
        |why: String| Fault::usage(format!("--set {pair}: {why}")).hint("--set spark.history.retainedApplications=100");
    let (key, value) = pair.split_once('=').ok_or_else(|| bad("wanted KEY=VALUE".into()))?;
    if let Some((_, how)) = TAKEN.iter().find(|(taken, _)| *taken == key) {
        return Err(bad((*how).into()));
    }
    if !key.starts_with("spark.history.") && !key.starts_with("spark.eventLog.") {
        return Err(bad("wanted a key that begins with spark.history. or spark.eventLog.".into()));
    }
    if !key.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)) {
        return Err(bad("a key has letters, digits, dots, hyphens and underscores".into()));
    }
    if value.trim() != value || value.chars().any(char::is_control) {
        return Err(bad("wanted a value without blanks around it".into()));
    }
    Ok((key.into(), value.into()))
}

/// `http(s)://host[:port]`
pub fn endpoint(url: &str) -> Result<String, Fault> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match rest.map(|r| r.trim_end_matches('/')) {
        Some(host) if !host.is_empty() && !host.contains(['/', ' ', '?', '#', '@']) => {
            Ok(url.trim_end_matches('/').into())
        }
        _ => Err(Fault::usage(format!("“{url}” is no endpoint"))
            .detail("wanted a scheme and a host, and nothing after them")
            .hint("--endpoint-url https://bucket.vpce-0123.s3.eu-west-3.vpce.amazonaws.com")),
    }
}

fn bad_jar(jar: &Path, why: &str) -> Fault {
    Fault::usage(format!("--jar {}: {why}", jar.display())).hint("name a jar of this node by its absolute path")
}

fn named_jar(jar: &Path) -> Result<(), Fault> {
    if !jar.is_absolute() {
        return Err(bad_jar(jar, "wanted an absolute path"));
    }
    if jar.extension().is_none_or(|e| e != "jar") {
        return Err(bad_jar(jar, "wanted a file named *.jar; Java passes over others on a wildcard class path"));
    }
    Ok(())
}
