//! The log gateway's resources: a program, an account, settings, a unit, and the key that makes log links lead
//! to the gateway.

use super::event_log_cache::EventLogCache;
use super::gateway_unit::{self, Socket};
use super::private_name::private_name;
use super::taken_port::TakenPort;
use super::{Context, directory, exactly, file_owner};
use crate::aws::emr::{Cluster, EmrError};
use crate::aws::endpoint::{StoreAddress, is_dotted_with_tls};
use crate::aws::proxies::Proxies;
use crate::aws::uri::{EventLogs, LogUri};
use crate::change::desired::{Desired, DesiredState};
use crate::change::resource::{Program, Resource, State, short_digest};
use crate::error::Fault;
use crate::gateway::access::Users;
use crate::gateway::callers;
use crate::gateway::tls::Tls;
use crate::host::Host;
use crate::ids::is_host_name;
use crate::node::s3a::BucketSettings;
use crate::node::{Node, hadoop_client, process};
use crate::paths::{
    GATEWAY_ACCOUNT, GATEWAY_ENVIRONMENT, GATEWAY_PORT, GATEWAY_SOCKET, GATEWAY_STATE_DIR, GATEWAY_UNIT, LOG_LINK_KEY,
    PROGRAM_DIR, SETTINGS_DIR, STARTED_AS_VARIABLE, UNIT_DIR,
};
use crate::settings::{GatewaySettings, Settings};
use crate::shown::{Hint, hint};
use crate::systemd::{self, SYSTEMD, quote_value};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The history server's address where nothing tells another one.
const DEFAULT_HISTORY_SERVER: &str = "http://127.0.0.1:18080";

/// The path that Spark puts before the links of its pages.
const PROXY_BASE: &str = "spark.ui.proxyBase";

/// The log gateway as the installation will set it up.
pub(crate) struct GatewaySetup {
    settings: GatewaySettings,
    cluster_id: Option<String>,
    region: Option<String>,
    endpoint_url: Option<String>,
    buckets: BucketOptions,
    proxies: Proxies,
    history_server: String,
    /// `None` if this node does not know the account.
    history_server_user: Option<String>,
    /// What the history server puts before its links.
    proxy_base: Option<String>,
    /// The Serverless application whose logs links lead to.
    serverless: Option<String>,
    /// The sources of the index; empty without one.
    event_logs: Vec<EventLogs>,
    /// The event-log cache.
    cache: Option<PathBuf>,
    program: Program,
    /// The text of the unit.
    unit: String,
    /// The unit that listens; `None` if the gateway has to listen by itself.
    socket: Option<Socket>,
}

/// What the gateway must know of single buckets.
#[derive(Default)]
struct BucketOptions {
    /// The endpoints of the buckets of the log URIs, where these differ.
    endpoints: BTreeMap<String, String>,
    /// The regions of buckets in other stores than AWS's, where these are not the gateway's own.
    regions: BTreeMap<String, String>,
    /// Whether the path names the bucket, where the endpoint does not decide it.
    path_styles: BTreeMap<String, bool>,
}

/// Why an installation has no log gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoGateway {
    /// The cluster archives no logs, so a gateway would have nothing to open.
    NothingArchived,
    /// EMR did not say where the cluster archives logs.
    LogUriUnknown(EmrError),
    /// EMR's log URI is none that emr-shs can use.
    LogUriUnusable(String),
    /// Jobs run under roles of their own, and the gateway would show every log to each of them.
    NeedsLogin,
}

impl NoGateway {
    /// What to type instead of this `command`.
    pub(crate) fn hint(&self, command: &'static str) -> Hint {
        let command = Hint::from(command);
        match self {
            Self::NothingArchived => hint!(
                "create clusters with a log URI; to open logs of other clusters: sudo emr-shs {} --log-uri s3://my-bucket/elasticmapreduce/",
                command
            ),
            Self::LogUriUnknown(EmrError::Busy(_) | EmrError::NoAnswer(_)) => hint!(
                "again later: sudo emr-shs {}; or name the log URI: sudo emr-shs {} --log-uri s3://my-bucket/elasticmapreduce/; to do without the gateway: sudo emr-shs install --no-proxy",
                command,
                command
            ),
            Self::LogUriUnknown(_) | Self::LogUriUnusable(_) => hint!(
                "name the log URI: sudo emr-shs {} --log-uri s3://my-bucket/elasticmapreduce/; to do without the gateway: sudo emr-shs install --no-proxy",
                command
            ),
            Self::NeedsLogin => hint!(
                "make a login: {}; then: sudo emr-shs {} --tls-self-signed --htpasswd {}/users; to do without the gateway: sudo emr-shs install --no-proxy",
                how_to_make_users(),
                command,
                SETTINGS_DIR
            ),
        }
    }
}

impl fmt::Display for NoGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingArchived => f.write_str("this cluster has no log URI, so EMR archives no logs of it"),
            Self::LogUriUnknown(why) => write!(f, "the cluster's log URI is not known ({why})"),
            Self::LogUriUnusable(why) => f.write_str(why),
            Self::NeedsLogin => f.write_str(
                "jobs of this cluster have roles of their own (runtime roles, or role mappings of EMRFS), and without a login every job could \
                 read every executor log with the rights of the instance profile",
            ),
        }
    }
}

/// What to type for a file with users that the log gateway can read, before or after its installation.
pub(crate) fn how_to_make_users() -> Hint {
    hint!(
        "getent group {} || sudo groupadd --system {}; sudo install -d {}; sudo emr-shs proxy passwd {}/users NAME",
        GATEWAY_ACCOUNT,
        GATEWAY_ACCOUNT,
        SETTINGS_DIR,
        SETTINGS_DIR
    )
}

/// Decides how to set the gateway up. `described` is EMR's description of the cluster; `None` if EMR was not asked.
/// `event_logs` is the bucket of event logs, with the region that its store tells.
pub(crate) fn setup(
    host: &Host,
    node: &Node,
    settings: &Settings,
    event_logs: Option<(&str, &str)>,
    described: Result<Option<&Cluster>, &EmrError>,
    program: Program,
    cache: Option<&EventLogCache>,
) -> Result<GatewaySetup, NoGateway> {
    let mut gateway = settings.gateway.clone();
    if (settings.runtime_roles() == Some(true) || node.role_mapping().is_some()) && gateway.htpasswd.is_none() {
        return Err(NoGateway::NeedsLogin);
    }
    if gateway.log_uris.is_empty() {
        gateway.log_uris.push(log_uri_of(described)?);
    }
    let private = private_name(host, node);
    let public = settings.public_name().filter(|name| is_host_name(name)).map(str::to_string);
    if gateway.public_url.is_none() {
        let scheme = if gateway.has_tls() { "https" } else { "http" };
        gateway.public_url = Some(format!("{scheme}://{private}:{}", gateway.address().port()));
    }
    for name in [Some(private), public].into_iter().flatten() {
        if !gateway.host_names.contains(&name) {
            gateway.host_names.push(name);
        }
    }
    if let Some(application) = &settings.serverless {
        // Log links lead to its logs.
        if !gateway.allow_clusters.is_empty() && !gateway.allow_clusters.contains(application) {
            gateway.allow_clusters.push(application.clone());
        }
    }
    let socket = Socket::on(gateway.address());
    let server = node.server.as_ref();
    let store: Option<EventLogs> = gateway.log_uris.first().map(|uri| uri.clone().into());
    let region = node.region(settings.region.as_deref());
    let sources: Vec<EventLogs> = settings.sources().filter(|_| cache.is_some()).cloned().collect();
    let (endpoint_url, mut buckets) = match &settings.endpoint_url {
        Some(url) => (Some(url.clone()), BucketOptions::default()),
        None => {
            let logs = gateway.log_uris.iter().cloned().map(EventLogs::from);
            bucket_options(node, logs.chain(sources.iter().cloned()), event_logs)
        }
    };
    // An option of the user is for all buckets.
    let is_own = |_: &String, other: &mut String| settings.region.is_none() && Some(&*other) != region.as_ref();
    buckets.regions.retain(is_own);
    Ok(GatewaySetup {
        settings: gateway,
        cluster_id: node.identity.cluster_id.clone(),
        region,
        endpoint_url,
        buckets,
        proxies: store.map(|uri| node.proxies(&uri)).unwrap_or_default(),
        history_server: server
            .map_or(DEFAULT_HISTORY_SERVER.into(), |server| server.local_url(&node.spark, &settings.set)),
        history_server_user: Some(hadoop_client::server_account(host, node))
            .filter(|name| host.account(name).is_some()),
        proxy_base: settings
            .set
            .get(PROXY_BASE)
            .cloned()
            .or_else(|| node.spark.defaults.text(PROXY_BASE).map(Into::into)),
        serverless: settings.serverless.clone(),
        event_logs: sources,
        cache: cache.map(|cache| cache.directory.clone()),
        program,
        unit: gateway_unit::text(crate::systemd::version(), cache),
        socket,
    })
}

/// The endpoint that the buckets of all places have in common, and what is to be said of single buckets.
fn bucket_options(
    node: &Node,
    places: impl Iterator<Item = EventLogs>,
    event_logs: Option<(&str, &str)>,
) -> (Option<String>, BucketOptions) {
    let of = |place: EventLogs| (place.bucket.clone(), node.bucket_settings(&place));
    let all: BTreeMap<String, BucketSettings> = places.map(of).collect();
    let first = all.values().next().and_then(|settings| settings.endpoint.clone());
    let is_common = all.values().all(|settings| settings.endpoint == first);
    let mut options = BucketOptions::default();
    for (bucket, found) in all {
        // The region that the store tells is also the one that `keys.rs` writes, so that the next run finds the same.
        let told = event_logs.filter(|(name, _)| *name == bucket).map(|(_, region)| region.to_string());
        if let (Some(_), Some(region)) = (&found.endpoint, told.or_else(|| found.region.clone())) {
            options.regions.insert(bucket.clone(), region);
        }
        // AWS's SDK itself puts a name with dots into the path, where TLS is used.
        let endpoint = found.endpoint.as_deref();
        let is_by_path = StoreAddress::at(endpoint).is_by_path();
        let decides = |wanted: &bool| *wanted != is_by_path && !is_dotted_with_tls(&bucket, endpoint);
        let wanted = found.path_style.filter(decides);
        if let Some(wanted) = wanted {
            options.path_styles.insert(bucket.clone(), wanted);
        }
        if let Some(endpoint) = found.endpoint.filter(|_| !is_common) {
            options.endpoints.insert(bucket, endpoint);
        }
    }
    (first.filter(|_| is_common), options)
}

/// The cluster's log URI, by EMR's description of the cluster.
fn log_uri_of(described: Result<Option<&Cluster>, &EmrError>) -> Result<LogUri, NoGateway> {
    match described {
        Ok(Some(Cluster { log_uri: Some(uri), .. })) => {
            let why = |fault: Fault| fault.details.into_iter().next().unwrap_or(fault.message);
            uri.parse().map_err(|fault| {
                NoGateway::LogUriUnusable(format!("emr-shs cannot read the cluster's log URI {uri}: {}", why(fault)))
            })
        }
        Ok(_) => Err(NoGateway::NothingArchived),
        Err(e) => Err(NoGateway::LogUriUnknown(e.clone())),
    }
}

/// The pattern of log links, with or without the gateway's address. The pattern names only attributes that
/// executors have: executors on YARN have no APP_ID. Executors of EMR Serverless should have one, because AWS's
/// own image links by it; nobody has proved that (`docs/emr.md §5.3`, `§11`).
pub(crate) fn log_links(public_url: Option<&str>, serverless: Option<&str>) -> String {
    let base = public_url.unwrap_or("/").trim_end_matches('/');
    match serverless {
        Some(id) => format!("{base}/logs/applications/{id}/jobs/{{{{APP_ID}}}}/{{{{CONTAINER_ID}}}}/{{{{FILE_NAME}}}}"),
        None => format!("{base}/logs/{{{{CONTAINER_ID}}}}/{{{{FILE_NAME}}}}"),
    }
}

impl GatewaySetup {
    fn port(&self) -> u16 {
        self.settings.address().port()
    }

    /// Refuses addresses of the gateway with which it cannot have a second port.
    pub(crate) fn can_take(&self, taken: TakenPort) -> Result<(), Fault> {
        let own = self.settings.address();
        if self.socket.is_none() {
            return Err(Fault::preflight(format!(
                "--take-port needs an address on which systemd can listen; {own} is none"
            ))
            .unchanged()
            .hint("listen on all addresses: --listen '[::]:9977'; or leave the history server its port: sudo emr-shs install --take-port=false"));
        }
        if own.ip().is_loopback() {
            return Err(Fault::preflight(format!(
                "--take-port needs an address to which links can lead; only programs on this node reach {own}"
            ))
            .unchanged()
            .hint("listen on all addresses: --listen '[::]:9977'; or leave the history server its port: sudo emr-shs install --take-port=false"));
        }
        if ![taken.of_gateway, taken.of_server].contains(&own.port()) {
            return Ok(());
        }
        let whose = if own.port() == taken.of_server { "to which the history server moves" } else { "that it takes" };
        Err(Fault::usage(format!("--take-port: the log gateway's own port is {}, the port {whose}", own.port()))
            .hint("choose another port for the log gateway: --listen '[::]:9977'"))
    }

    /// Refuses TLS files and a password file that the gateway's account could not read or use.
    pub(crate) fn check_files(&self, host: &Host) -> Result<()> {
        let GatewaySettings { tls_cert, tls_key, htpasswd, .. } = &self.settings;
        for path in [tls_cert, tls_key, htpasswd].into_iter().flatten() {
            check_readable(host, path)?;
        }
        let allowed = self.settings.allow_accounts.iter().filter(|_| host.is_live());
        if let Some(unknown) = allowed.into_iter().find(|name| !callers::is_known(name)) {
            return Err(Fault::preflight(format!("this node has no account {unknown}, which --allow-account names"))
                .unchanged()
                .hint("name another account, or take all names back: --allow-account=")
                .into());
        }
        let unusable = |e: anyhow::Error| {
            Fault::preflight("the log gateway cannot use one of its files")
                .detail(format!("{e:#}"))
                .unchanged()
                .hint("correct the file, or leave out --tls-cert, --tls-key, --htpasswd")
        };
        if let Some(path) = htpasswd {
            Users::read(path).map_err(unusable)?;
        }
        if let (Some(chain), Some(key)) = (tls_cert, tls_key) {
            Tls::from_files(chain.clone(), key.clone()).map_err(unusable)?;
        }
        Ok(())
    }

    /// Refuses a path before the gateway that is not the one before the history server's own links.
    pub(crate) fn has_one_path(&self) -> Result<(), Fault> {
        let own = self.settings.base_path();
        let of_server = self.proxy_base.as_deref().unwrap_or_default().trim_end_matches('/');
        if own.is_empty() || of_server.is_empty() || own == of_server {
            return Ok(());
        }
        Err(Fault::preflight(format!(
            "the history server's links begin with {of_server}, and --public-url says that users find it below {own}"
        ))
        .detail(format!("{PROXY_BASE} is {of_server}, and wins over what the log gateway tells the history server"))
        .unchanged()
        .hint(hint!("remove {} from spark-defaults.conf; or end --public-url with {}", PROXY_BASE, of_server)))
    }

    /// Refuses a port on which another process listens, and an address that is not this node's.
    pub(crate) fn port_is_free(&self) -> Result<()> {
        let mut any_port = self.settings.address();
        any_port.set_port(0);
        if let Err(e) = TcpListener::bind(any_port)
            && !any_port.ip().is_unspecified()
        {
            return Err(Fault::preflight(format!("the log gateway cannot listen on {}", self.settings.address()))
                .detail(format!("binding a socket to {}: {e}", any_port.ip()))
                .unchanged()
                .hint("name one of this node's addresses: ip -brief address; or listen on all: --listen '[::]:9977'")
                .into());
        }
        let Some(other) = process::listener(self.port()) else { return Ok(()) };
        let main = systemd::show(GATEWAY_UNIT).context("reading the gateway's unit")?.main_pid;
        let is_own_socket = other.pid.is_none_or(|pid| pid == SYSTEMD)
            && systemd::show(GATEWAY_SOCKET)?.listens_on().is_some_and(|address| address.port() == self.port());
        if is_own_socket || other.pid.is_some() && other.pid == main {
            return Ok(());
        }
        Err(Fault::preflight(format!("another process listens on port {}, the log gateway's port", self.port()))
            .detail(format!("found {}", other.description()))
            .unchanged()
            .hint("end that process (the Python proxy that AWS publishes uses this port too), and type this command again; or choose another port: sudo emr-shs proxy install --listen '[::]:9978'; to install without the gateway, add --no-proxy")
            .into())
    }

    fn log_links(&self) -> String {
        log_links(self.settings.public_url.as_deref(), self.serverless.as_deref())
    }

    /// The contents of `/etc/emr-shs/gateway.env`, from which `proxy serve` takes its options.
    fn environment(&self) -> String {
        let GatewaySetup { settings, .. } = self;
        let uris: Vec<String> = settings.log_uris.iter().map(ToString::to_string).collect();
        let sources: Vec<String> = self.event_logs.iter().map(ToString::to_string).collect();
        let BucketOptions { endpoints, regions, path_styles } = &self.buckets;
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        let list = |words: &[String]| Some(words.join(",")).filter(|all| !all.is_empty());
        let yes = |on: bool| on.then(|| "true".to_string());
        let mode = settings.mode.and_then(|m| clap::ValueEnum::to_possible_value(&m)).map(|v| v.get_name().to_string());
        let lines = [
            ("LOG_URI", Some(uris.join(","))),
            ("CLUSTER_ID", self.cluster_id.clone()),
            ("LISTEN", settings.listen.map(|at| at.to_string())),
            ("PUBLIC_URL", settings.public_url.clone()),
            ("HOST_NAME", Some(settings.host_names.join(","))),
            ("MODE", mode),
            ("TLS_CERT", path(&settings.tls_cert)),
            ("TLS_KEY", path(&settings.tls_key)),
            ("TLS_SELF_SIGNED", yes(settings.tls_self_signed)),
            ("HTPASSWD", path(&settings.htpasswd)),
            ("INSECURE", yes(settings.insecure)),
            ("ALLOW_FILE", list(&settings.allow_files)),
            ("ALLOW_CLUSTER", list(&settings.allow_clusters)),
            ("ALLOW_ACCOUNT", list(&settings.allow_accounts)),
            ("HISTORY_SERVER", Some(self.history_server.clone())),
            ("HISTORY_SERVER_USER", self.history_server_user.clone()),
            ("PROXY_BASE", self.proxy_base.clone()),
            ("EVENT_LOGS", list(&sources)),
            ("CACHE_SIZE", settings.cache_size.map(|bytes| format!("{bytes}b"))),
            ("CACHE_COUNT", settings.cache_count.map(|count| count.to_string())),
            ("EVENT_LOG_CACHE", self.cache.as_ref().map(|path| path.display().to_string())),
            ("REGION", self.region.clone()),
            ("ENDPOINT_URL", self.endpoint_url.clone()),
            ("BUCKET_ENDPOINT", of_buckets(endpoints)),
            ("BUCKET_REGION", of_buckets(regions)),
            ("BUCKET_PATH_STYLE", of_buckets(path_styles)),
        ];
        let mut text = String::from("# Written by emr-shs; to change it: emr-shs proxy install\n");
        for (name, value) in lines {
            if let Some(value) = value {
                let _ = writeln!(text, "EMR_SHS_{name}={}", quote_value(&value));
            }
        }
        for (name, value) in self.proxies.variables() {
            let _ = writeln!(text, "{name}={}", quote_value(value));
        }
        text
    }
}

/// The values of an option that names buckets.
fn of_buckets(values: &BTreeMap<String, impl fmt::Display>) -> Option<String> {
    let all: Vec<String> = values.iter().map(|(bucket, value)| format!("{bucket}={value}")).collect();
    (!all.is_empty()).then(|| all.join(","))
}

/// Refuses a file that the gateway's account cannot read.
fn check_readable(host: &Host, path: &Path) -> Result<(), Fault> {
    let refuse = |found: String, hint: Hint| {
        Fault::preflight(format!("the log gateway cannot read {}", path.display())).detail(found).unchanged().hint(hint)
    };
    let hidden = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];
    if let Some(dir) = hidden.iter().find(|dir| path.starts_with(dir)) {
        return Err(refuse(
            format!("systemd hides {dir} from the gateway's unit"),
            hint!("move the file to {}", SETTINGS_DIR),
        ));
    }
    let meta = fs_err::metadata(path).map_err(|e| refuse(e.to_string(), "check the path".into()))?;
    let group = host.account(GATEWAY_ACCOUNT).map(|(_, group)| group).or_else(|| host.group(GATEWAY_ACCOUNT));
    if meta.mode() & 0o004 != 0 || meta.mode() & 0o040 != 0 && Some(meta.gid()) == group {
        return Ok(());
    }
    let found = format!("found mode {:o}; the gateway runs as user {GATEWAY_ACCOUNT}", meta.mode() & 0o777);
    Err(refuse(
        found,
        match group {
            Some(_) => hint!("sudo chgrp {} {} && sudo chmod g+r {}", GATEWAY_ACCOUNT, path, path),
            None => hint!(
                "sudo groupadd --system {} && sudo chgrp {} {} && sudo chmod g+r {}",
                GATEWAY_ACCOUNT,
                GATEWAY_ACCOUNT,
                path,
                path
            ),
        },
    ))
}

impl Context<'_> {
    /// Every resource of the gateway but the key.
    pub(super) fn gateway_service(&self, setup: &GatewaySetup) -> Vec<Desired> {
        let owner = file_owner(self.host);
        let file = |path: PathBuf, content: String, mode: u32, why: &str| {
            exactly(Resource::File { path }, State::File { content, mode, owner }, why)
        };
        let link = Path::new(PROGRAM_DIR).join("emr-shs");
        let through = match setup.proxies.is_empty() {
            true => String::new(),
            false => format!("; it asks S3 {}", setup.proxies),
        };
        let allowed: String = setup.settings.allowed().iter().map(|what| format!("; it serves {what}")).collect();
        // systemd reads the file as root.
        let environment_mode = if setup.proxies.have_login() { 0o600 } else { 0o644 };
        let environment = setup.environment();
        let socket = setup.socket.as_ref().map_or("", |socket| &socket.text);
        let started_as = short_digest([setup.program.name(), &environment, &setup.unit, socket]);
        // A running unit contains this value in its environment, so `observe` tells with what the unit started.
        let environment = format!("{environment}{STARTED_AS_VARIABLE}=\"{started_as}\"\n");
        let mut wanted = vec![
            exactly(
                Resource::Account { name: GATEWAY_ACCOUNT.into() },
                State::Exists,
                "system account of the log gateway",
            ),
            exactly(
                Resource::AccountDir { path: GATEWAY_STATE_DIR.into(), account: GATEWAY_ACCOUNT.into(), reader: None },
                State::Exists,
                "remembers which clusters have which applications, so that a restart costs no requests to S3",
            ),
            directory(Path::new(PROGRAM_DIR), owner, "holds the log gateway's program"),
            exactly(
                Resource::Program { path: setup.program.path() },
                State::Exists,
                "this program, for the log gateway",
            ),
            exactly(
                Resource::Link { path: link },
                State::Link { target: setup.program.name().into() },
                "the log gateway's program",
            ),
            directory(Path::new(SETTINGS_DIR), owner, "holds settings"),
            file(
                Path::new(SETTINGS_DIR).join(GATEWAY_ENVIRONMENT),
                environment,
                environment_mode,
                &format!("settings of the log gateway{through}{allowed}"),
            ),
            file(Path::new(UNIT_DIR).join(GATEWAY_UNIT), setup.unit.clone(), 0o644, "the log gateway as a service"),
        ];
        wanted.extend(self.cache.iter().flat_map(|cache| cache.desired(self)));
        if let Some(Socket { text, listens }) = &setup.socket {
            let path = Path::new(UNIT_DIR).join(GATEWAY_SOCKET);
            wanted.push(file(path, text.clone(), 0o644, "the log gateway's port as a socket of systemd"));
            wanted.push(exactly(
                Resource::Unit { name: GATEWAY_SOCKET.into() },
                State::Unit { enabled: true, runs: Some(listens.clone()) },
                "keeps the port, and those who connect, while the log gateway restarts",
            ));
        }
        wanted.extend(self.taken_port_socket(setup.settings.address()));
        wanted.push(exactly(
            Resource::Unit { name: GATEWAY_UNIT.into() },
            State::Unit { enabled: true, runs: Some(started_as) },
            &format!("serves executor logs on port {}", setup.port()),
        ));
        wanted
    }

    /// The pattern of log links. `None` where this Spark does not know the key, and where `--set` names a value.
    pub(super) fn log_link_key(&self, setup: &GatewaySetup) -> Result<Option<Desired>> {
        let knows_key = self.node.spark.version.as_ref().is_some_and(|v| v.at_least(3, 0));
        if !knows_key || self.settings.set.contains_key(LOG_LINK_KEY) {
            return Ok(None);
        }
        let path = self.node.spark.defaults_path.clone();
        let resource = Resource::Key { path: path.clone(), key: LOG_LINK_KEY.into() };
        let value = setup.log_links();
        let mut why = "log links lead there".to_string();
        if let Some(found) = self.node.spark.defaults.text(LOG_LINK_KEY).filter(|found| *found != value) {
            let state = resource.observe(self.host)?;
            let is_ours = self.receipt.entry(&resource).is_some_and(|entry| entry.wrote(&state));
            let is_published = found.contains("{{APP_ID}}") && found.contains(&format!(":{GATEWAY_PORT}/"));
            let leads_here =
                || found.ends_with(&format!(":{}{}", setup.port(), log_links(None, setup.serverless.as_deref())));
            if is_published && setup.serverless.is_none() {
                why = "executors on YARN have no APP_ID, so the old value has no effect".into();
            } else if !is_ours && !leads_here() && !self.force {
                return Err(Fault::preflight("somebody else already made log links lead elsewhere")
                    .detail(format!("{}: {LOG_LINK_KEY} is {found}", path.display()))
                    .detail(format!("wanted {value}"))
                    .unchanged()
                    .hint("keep that value: add --no-proxy; or replace it until uninstall: add --force")
                    .into());
            }
        }
        Ok(Some(Desired { resource, state: DesiredState::Value { value, yields: false }, why }))
    }
}
