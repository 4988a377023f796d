//! The log gateway's part of an installation: a program, an account, settings, a unit, and the
//! key that makes log links lead to it.

use super::{Context, Desired, DesiredState, directory, root_owner};
use crate::aws::Cluster;
use crate::aws::s3::LogUri;
use crate::change::resource::{GATEWAY_UNIT, Program, Resource, State};
use crate::error::Fault;
use crate::gateway::access::Users;
use crate::gateway::tls::Tls;
use crate::host::Host;
use crate::node::Node;
use crate::node::process;
use crate::settings::{GatewaySettings, PORT, Settings};
use crate::systemd::quote_value;
use anyhow::{Context as _, Result};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The key that makes the history server's log links lead elsewhere; new in Spark 3.0 (facts §5.4).
pub const LINKS: &str = "spark.history.custom.executor.log.url";
/// Where the gateway's program lies, whichever version of it.
pub const PROGRAM_DIR: &str = "/usr/libexec/emr-shs";
/// Where its settings lie.
pub const SETTINGS_DIR: &str = "/etc/emr-shs";
/// The account it runs as.
const ACCOUNT: &str = "emr-shs";
const UNIT_TEXT: &str = include_str!("../../assets/emr-shs-gateway.service");

/// The gateway as it will be set up: every question answered.
pub struct Setup {
    settings: GatewaySettings,
    cluster_id: Option<String>,
    region: Option<String>,
    endpoint_url: Option<String>,
    history_server: String,
    serverless: Option<String>,
    program: Program,
}

/// What to set up; or, said in a sentence, why there will be no gateway.
pub fn setup(
    host: &Host,
    node: &Node,
    settings: &Settings,
    described: Result<Option<&Cluster>, &str>,
    program: Program,
) -> Result<Setup, String> {
    let mut gateway = settings.gateway.clone();
    if gateway.log_uris.is_empty() {
        let why = match described {
            Ok(Some(Cluster { log_uri: Some(uri), .. })) => match uri.parse::<LogUri>() {
                Ok(uri) => {
                    gateway.log_uris.push(uri);
                    None
                }
                Err(e) => Some(e.details.first().cloned().unwrap_or(e.message)),
            },
            Ok(_) => Some("this cluster has no log URI, so EMR archives no logs of it".into()),
            Err(e) => Some(format!("the cluster's log URI is not known ({e})")),
        };
        if let Some(why) = why {
            return Err(why);
        }
    }
    let port = gateway.address().port();
    let private = private_name(host, node);
    let public = described.ok().flatten().and_then(|cluster| cluster.public_dns.clone());
    if gateway.public_url.is_none() {
        let scheme = if gateway.has_tls() { "https" } else { "http" };
        gateway.public_url = Some(format!("{scheme}://{private}:{port}"));
    }
    for name in [Some(private), public].into_iter().flatten() {
        if !gateway.host_names.contains(&name) {
            gateway.host_names.push(name);
        }
    }
    let server = node.server.as_ref();
    let region = node.region(settings);
    Ok(Setup {
        settings: gateway,
        cluster_id: node.identity.cluster_id.clone(),
        region,
        endpoint_url: settings.endpoint_url.clone().or_else(|| node.hadoop.endpoint()),
        history_server: server.map_or("http://127.0.0.1:18080".into(), |s| s.local_url(&node.spark, &settings.set)),
        serverless: settings.serverless.clone(),
        program,
    })
}

/// The node's private name, as YARN's own pages link to the history server by it.
fn private_name(host: &Host, node: &Node) -> String {
    let linked = node.spark.defaults.get("spark.yarn.historyServer.address").and_then(|a| a.split(':').next());
    let named = host.read(Path::new("/proc/sys/kernel/hostname")).ok().flatten();
    let name = linked.map(str::to_string).or(named).unwrap_or_default();
    if name.trim().is_empty() { "localhost".into() } else { name.trim().into() }
}

/// What log links become that begin with the gateway's address, or with none of it. They name only
/// attributes that executors have (facts §5.2, §5.4): those on YARN have no APP_ID; those of
/// Serverless, whose image AWS itself links so, should have.
pub fn links(public_url: Option<&str>, serverless: Option<&str>) -> String {
    let base = public_url.unwrap_or("/").trim_end_matches('/');
    match serverless {
        Some(id) => format!("{base}/logs/applications/{id}/jobs/{{{{APP_ID}}}}/{{{{CONTAINER_ID}}}}/{{{{FILE_NAME}}}}"),
        None => format!("{base}/logs/{{{{CONTAINER_ID}}}}/{{{{FILE_NAME}}}}"),
    }
}

impl Setup {
    fn port(&self) -> u16 {
        self.settings.address().port()
    }

    /// Whether the gateway will be able to use the files it is told of.
    pub fn check_files(&self, host: &Host) -> Result<()> {
        let GatewaySettings { tls_cert, tls_key, htpasswd, .. } = &self.settings;
        for path in [tls_cert, tls_key, htpasswd].into_iter().flatten() {
            let bad = |found: String, hint: String| {
                Fault::preflight(format!("the log gateway cannot read {}", path.display()))
                    .detail(found)
                    .unchanged()
                    .hint(hint)
            };
            let hidden = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];
            if let Some(dir) = hidden.iter().find(|dir| path.starts_with(dir)) {
                return Err(
                    bad(format!("its unit sees nothing below {dir}"), format!("put it into {SETTINGS_DIR}")).into()
                );
            }
            let meta = std::fs::metadata(path).map_err(|e| bad(e.to_string(), "check the path".into()))?;
            let group = host.account(ACCOUNT).map(|(_, group)| group);
            let may = meta.mode() & 0o004 != 0 || meta.mode() & 0o040 != 0 && Some(meta.gid()) == group;
            if !may {
                let how = match group {
                    Some(_) => format!("chgrp {ACCOUNT} {0} && chmod g+r {0}", path.display()),
                    None => format!(
                        "set the gateway up without it; then there is the group {ACCOUNT}, which may be let read it"
                    ),
                };
                return Err(
                    bad(format!("found mode {:o}, and it runs as user {ACCOUNT}", meta.mode() & 0o777), how).into()
                );
            }
        }
        let unusable = |e: anyhow::Error| {
            Fault::preflight("the log gateway cannot use a file it is told of")
                .detail(format!("{e:#}"))
                .unchanged()
                .hint("mend or leave out --tls-cert, --tls-key, --htpasswd")
        };
        if let Some(path) = htpasswd {
            Users::read(path).map_err(unusable)?;
        }
        if let (Some(chain), Some(key)) = (tls_cert, tls_key) {
            Tls::from_files(chain.clone(), key.clone()).map_err(unusable)?;
        }
        Ok(())
    }

    /// Whether nobody else has the gateway's port.
    pub fn port_is_free(&self) -> Result<()> {
        let Some(other) = process::listener(self.port()) else { return Ok(()) };
        let main = crate::systemd::show(GATEWAY_UNIT).context("asking for the gateway's unit")?.main_pid;
        if other.pid.is_some() && other.pid == main {
            return Ok(());
        }
        Err(Fault::preflight(format!("port {} of the log gateway is taken", self.port()))
            .detail(format!("found {}", other.who()))
            .unchanged()
            .hint("end that process (the published Python proxy uses this port, too), choose another port: --listen '[::]:9978', or do without: --no-proxy")
            .into())
    }

    /// What log links become.
    fn links(&self) -> String {
        links(self.settings.public_url.as_deref(), self.serverless.as_deref())
    }

    fn links_path(&self) -> String {
        links(None, self.serverless.as_deref())
    }

    /// `/etc/emr-shs/gateway.env`: what `proxy serve` reads from its environment.
    fn environment(&self) -> String {
        let Setup { settings, .. } = self;
        let uris: Vec<String> = settings.log_uris.iter().map(ToString::to_string).collect();
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
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
            ("HISTORY_SERVER", Some(self.history_server.clone())),
            ("REGION", self.region.clone()),
            ("ENDPOINT_URL", self.endpoint_url.clone()),
        ];
        let mut text = String::from("# Written by emr-shs; to change it: emr-shs proxy install\n");
        for (name, value) in lines {
            if let Some(value) = value {
                let _ = writeln!(text, "EMR_SHS_{name}={}", quote_value(&value));
            }
        }
        text
    }
}

impl Context<'_> {
    /// Everything but the key.
    pub fn gateway_service(&self, setup: &Setup) -> Result<Vec<Desired>> {
        let owner = root_owner(self.host);
        let want = |resource, state, why: &str| Desired { resource, wanted: DesiredState::Is(state), why: why.into() };
        let file = |path: PathBuf, content: String, why: &str| {
            want(Resource::File { path }, State::File { content, mode: 0o644, owner }, why)
        };
        let link = Path::new(PROGRAM_DIR).join("emr-shs");
        let settings = Path::new(SETTINGS_DIR).join("gateway.env");
        let content = setup.environment();
        let mut hash = Sha256::new();
        for part in [setup.program.name(), &content, UNIT_TEXT] {
            hash.update(part);
        }
        // What the running service has in its environment tells what it was started with.
        let started_as: String = hash.finalize().iter().take(6).map(|b| format!("{b:02x}")).collect();
        let content = format!("{content}{}=\"{started_as}\"\n", crate::change::resource::STARTED_AS);
        let unit = Path::new("/etc/systemd/system").join(GATEWAY_UNIT);
        Ok(vec![
            want(Resource::Account { name: ACCOUNT.into() }, State::Exists, "system account of the log gateway"),
            directory(Path::new(PROGRAM_DIR), owner, "for the log gateway's program"),
            want(Resource::Program { path: setup.program.path() }, State::Exists, "this program, for the log gateway"),
            want(
                Resource::Link { path: link },
                State::Link { target: setup.program.name().into() },
                "the log gateway's program",
            ),
            directory(Path::new(SETTINGS_DIR), owner, "for settings"),
            file(settings, content, "settings of the log gateway"),
            file(unit, UNIT_TEXT.into(), "the log gateway as a service"),
            want(
                Resource::Unit { name: GATEWAY_UNIT.into() },
                State::Unit { enabled: true, runs: Some(started_as) },
                &format!("serves executor logs on port {}", setup.port()),
            ),
        ])
    }

    /// The key; none where this Spark does not know it, or somebody names another value.
    pub fn gateway_links(&self, setup: &Setup) -> Result<Option<Desired>> {
        let knows = self.node.spark.version.as_ref().is_some_and(|v| v.at_least(3, 0));
        if !knows || self.settings.set.contains_key(LINKS) {
            return Ok(None);
        }
        let path = self.node.spark.defaults_path.clone();
        let resource = Resource::Key { path: path.clone(), key: LINKS.into() };
        let value = setup.links();
        let mut why = "where log links lead".to_string();
        if let Some(found) = self.node.spark.defaults.get(LINKS).filter(|found| *found != value) {
            let state = resource.observe(self.host)?;
            let ours = self.receipt.entry(&resource).is_some_and(|entry| entry.wrote(&state));
            let published = found.contains("{{APP_ID}}") && found.contains(&format!(":{PORT}/"));
            if published && setup.serverless.is_none() {
                why = "executors on YARN have no APP_ID, so the old one has no effect".into();
            } else if !ours && !found.ends_with(&format!(":{}{}", setup.port(), setup.links_path())) && !self.force {
                return Err(Fault::preflight("log links lead elsewhere already, and not by emr-shs")
                    .detail(format!("{}: {LINKS} is {found}", path.display()))
                    .detail(format!("wanted {value}"))
                    .unchanged()
                    .hint("keep it: add --no-proxy; or replace it, until uninstall: add --force")
                    .into());
            }
        }
        Ok(Some(Desired { resource, wanted: DesiredState::Value { value, yields: false }, why }))
    }
}
