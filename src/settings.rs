//! The settings of an installation. The receipt keeps them, so that a later run needs no arguments.

use crate::aws::emr::Cluster;
use crate::aws::proxies::Proxies;
use crate::aws::uri::{EventLogs, LogUri};
use crate::error::Fault;
use crate::paths::GATEWAY_PORT;
use crate::shown::{Hint, hint, shell_word};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Where the links for the history server's class path go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LinkInto {
    /// A directory that only the history server has on its class path
    #[default]
    Daemon,
    /// /usr/lib/spark/jars, as in AWS's instructions; every job then uploads the linked jars
    SparkJars,
}

/// What the user asked for. A reader ignores fields that it does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Where jobs write event logs; the first source of the index.
    pub event_logs: Option<EventLogs>,
    /// Further sources of the index, which are only read.
    pub further_event_logs: Vec<EventLogs>,
    /// The log gateway lists all applications, and fetches the event logs that somebody opens.
    pub index: bool,
    /// The log gateway listens on the history server's port, too, and the history server on another one.
    pub take_port: bool,
    /// The AWS region, where it is not the cluster's.
    pub region: Option<String>,
    /// The S3 endpoint, where it is not AWS's own.
    pub endpoint_url: Option<String>,
    /// Leave `spark.eventLog.*` to the jobs.
    pub history_only: bool,
    /// Further keys of spark-defaults.conf, named with `--set`.
    pub set: BTreeMap<String, String>,
    /// Jars to link, whatever discovery finds.
    pub jars: Vec<PathBuf>,
    pub link_into: LinkInto,
    /// Install no log gateway.
    pub no_proxy: bool,
    /// The Serverless application whose logs the links lead to; `None` for applications on YARN.
    pub serverless: Option<String>,
    pub gateway: GatewaySettings,
    /// The forward proxies that the shell's variables named.
    pub proxies: Proxies,
    /// What EMR said of this cluster when emr-shs asked. It does not change while the cluster lives.
    pub cluster: Option<Cluster>,
    /// The node's public name as the metadata service told it, where EMR did not.
    pub public_name: Option<String>,
}

impl Settings {
    /// The name by which the Internet reaches this node, as far as it is known.
    pub fn public_name(&self) -> Option<&str> {
        let described = self.cluster.as_ref().and_then(|cluster| cluster.public_dns.as_deref());
        described.or(self.public_name.as_deref())
    }

    /// Every place of event logs, that of the jobs first.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &EventLogs> {
        self.event_logs.iter().chain(&self.further_event_logs)
    }

    /// Whether jobs of this cluster can run under roles of their own, as far as it is known.
    pub(crate) fn runtime_roles(&self) -> Option<bool> {
        self.cluster.as_ref()?.runtime_roles
    }

    /// This cluster's log URI, as far as it is known.
    pub fn log_uri(&self) -> Option<LogUri> {
        let described = || self.cluster.as_ref()?.log_uri.as_ref()?.parse().ok();
        self.gateway.log_uris.first().cloned().or_else(described)
    }

    /// What to type so that the log gateway opens the logs of this cluster, which EMR writes below `own`; `None` if it does, and with
    /// --layout serverless:…, where log links lead to logs of EMR Serverless.
    pub(crate) fn add_log_uri(&self, own: &LogUri) -> Option<Hint> {
        let named = &self.gateway.log_uris;
        if self.serverless.is_some() || named.is_empty() || named.iter().any(|uri| uri.is_same_directory(own)) {
            return None;
        }
        let options: Vec<Hint> =
            [own].into_iter().chain(named).map(|uri| hint!("--log-uri {}", uri.to_string())).collect();
        Some(hint!("sudo emr-shs proxy install {}", options.as_slice()))
    }

    /// The place of the event logs. The first run of a command must name it.
    pub fn event_logs(&self, command: &str) -> Result<&EventLogs, Fault> {
        self.event_logs.as_ref().ok_or_else(|| {
            Fault::usage("the first run needs --event-logs")
                .detail("the receipt names no event logs: emr-shs is not installed here, or only its log gateway is")
                .hint(hint!("emr-shs {} --event-logs s3://my-bucket/spark-events/", command))
        })
    }
}

/// The word of `--allow-cluster` for this node's own cluster.
pub(crate) const THIS_CLUSTER: &str = "this";

/// How the log gateway delivers a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// By a presigned URL: the bytes go from S3 to the browser
    #[default]
    Redirect,
    /// Through the gateway: for buckets that browsers cannot reach
    Stream,
}

/// The settings of the log gateway. `None` and an empty list mean that the user did not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GatewaySettings {
    /// Where clusters archive their logs.
    pub log_uris: Vec<LogUri>,
    pub listen: Option<SocketAddr>,
    /// The gateway's address in log links; `/` makes the links relative.
    pub public_url: Option<String>,
    /// Further names by which browsers address the gateway.
    pub host_names: Vec<String>,
    pub mode: Option<Mode>,
    /// Certificate chain, PEM.
    pub tls_cert: Option<PathBuf>,
    /// Private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Serve a certificate that the gateway signs itself.
    pub tls_self_signed: bool,
    /// The password file.
    pub htpasswd: Option<PathBuf>,
    /// Serve other peers without TLS and a login.
    pub insecure: bool,
    /// Patterns of files that the gateway serves besides logs.
    pub allow_files: Vec<String>,
    /// Which clusters' logs the gateway serves besides this cluster's; all if empty. `this` stands for no other.
    pub allow_clusters: Vec<String>,
    /// Accounts whose programs a gateway without a login serves, besides root and those that people log in with.
    pub allow_accounts: Vec<String>,
    /// How many bytes the event-log cache may take.
    pub cache_size: Option<u64>,
    /// How many applications the event-log cache may have.
    pub cache_count: Option<u32>,
}

impl GatewaySettings {
    /// The address to listen on: by default all addresses, of IPv4 and of IPv6 where the kernel has both.
    pub fn address(&self) -> SocketAddr {
        self.listen.unwrap_or((Ipv6Addr::UNSPECIFIED, GATEWAY_PORT).into())
    }

    /// What a user types on another machine to reach the gateway on `node` as `localhost`.
    pub fn tunnel_command(&self, node: Option<&str>) -> String {
        let (at, node) = (self.address(), node.unwrap_or("PRIMARY-NODE"));
        let port = at.port();
        // A gateway that listens on one address does not listen on the node's loopback.
        let to = match at.ip() {
            ip if ip.is_unspecified() => "localhost".into(),
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        format!("ssh -L {port}:{to}:{port} hadoop@{}", shell_word(node.as_bytes()))
    }

    /// What the user limits or allows besides the defaults, for people; empty if nothing.
    pub(crate) fn allowed(&self) -> Vec<String> {
        let list = |what: &str, names: &[String]| (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")));
        let clusters = match self.allow_clusters.as_slice() {
            [] => None,
            [one] if one == THIS_CLUSTER => Some("only logs of this cluster".into()),
            some => {
                let others: Vec<String> = some.iter().filter(|id| *id != THIS_CLUSTER).cloned().collect();
                list("only logs of this cluster and of", &others)
            }
        };
        let accounts = list("also programs of", &self.allow_accounts);
        list("also the files", &self.allow_files).into_iter().chain(clusters).chain(accounts).collect()
    }

    pub fn has_tls(&self) -> bool {
        self.tls_cert.is_some() || self.tls_self_signed
    }

    /// The path under which a proxy before the gateway serves it: `/shs` of `https://tools.example/shs`; else empty.
    pub fn base_path(&self) -> &str {
        let url = self.public_url.as_deref().unwrap_or_default();
        let path = url.split_once("://").map_or(url, |(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
        path.trim_end_matches('/')
    }

    /// The beginning of log links that name the gateway's address; `None` for relative links.
    pub fn link_prefix(&self) -> Option<String> {
        let url = self.public_url.as_deref().filter(|url| !url.starts_with('/'))?;
        Some(format!("{url}/logs/"))
    }
}
