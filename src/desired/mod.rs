//! What an installation wants of a node, piece by piece: the S3 prefix, the class path, the keys.

pub mod deferred_install;
pub mod log_gateway;

use crate::aws::s3::{Bucket, EventLogs, by_path};
use crate::change::plan::LINK_DIR;
use crate::change::receipt::Receipt;
use crate::change::resource::{DEFERRED_INSTALL_UNIT, GATEWAY_UNIT, Resource, State};
use crate::error::Fault;
use crate::host::{Host, Owner};
use crate::node::Node;
use crate::node::hadoop::S3A;
use crate::node::history_server::UNIT;
use crate::node::jars::{Link, Scheme};
use crate::node::spark::SCAN_INTERVAL;
use crate::settings::{LinkInto, Settings};
use anyhow::{Context as _, Result};
use nix::sys::statvfs::{FsFlags, statvfs};
use std::path::{Path, PathBuf};

/// The last name among drop-ins, so that no other one takes the class path back.
const DROP_IN: &str = "zz-emr-shs.conf";

/// The local store's directory on its disk.
const STORE: &str = "spark-history";
/// Free bytes that the local store needs.
pub const STORE_ROOM: u64 = 1 << 30;

/// One thing that is wanted.
pub struct Desired {
    /// What.
    pub resource: Resource,
    /// How it shall be.
    pub wanted: DesiredState,
    /// Why, in words for a row of the plan.
    pub why: String,
}

/// How a thing shall be.
pub enum DesiredState {
    /// Exactly so.
    Is(State),
    /// A directory; one that is there already is good as it is.
    Directory {
        /// Permission bits of a new one.
        mode: u32,
        /// Owner of a new one.
        owner: Owner,
    },
    /// A key with this value.
    Value {
        /// The value.
        value: String,
        /// Whether a value that somebody else set wins.
        yields: bool,
    },
}

/// A piece of an installation; each can be had alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The S3 prefix.
    Prefix,
    /// The links and the drop-in that puts them on the class path.
    Link,
    /// The keys of spark-defaults.conf and the directory one of them names.
    Configure,
    /// The log gateway, and the key that makes links lead to it.
    Gateway,
    /// The unit that installs later; an installation that is done wants it gone.
    DeferredInstall,
}

impl Component {
    /// All of them: an installation.
    pub const ALL: &[Component] =
        &[Component::Prefix, Component::Configure, Component::Link, Component::Gateway, Component::DeferredInstall];

    /// Whose a resource is.
    pub fn of(resource: &Resource) -> Self {
        let of_gateway = |path: &Path| {
            let dirs = [log_gateway::PROGRAM_DIR, log_gateway::SETTINGS_DIR];
            dirs.iter().any(|dir| path.starts_with(dir)) || path.ends_with(GATEWAY_UNIT)
        };
        match resource {
            Resource::Unit { name } if name == DEFERRED_INSTALL_UNIT => Component::DeferredInstall,
            Resource::File { path } if deferred_install::is_file_of(path) => Component::DeferredInstall,
            Resource::Account { .. } | Resource::Program { .. } | Resource::Unit { .. } => Component::Gateway,
            Resource::Key { key, .. } if key == log_gateway::LINKS => Component::Gateway,
            Resource::Dir { path } | Resource::Link { path } | Resource::File { path } if of_gateway(path) => {
                Component::Gateway
            }
            Resource::Prefix { .. } => Component::Prefix,
            Resource::Dir { .. } | Resource::Link { .. } | Resource::File { .. } => Component::Link,
            Resource::Cache { .. } | Resource::Key { .. } => Component::Configure,
        }
    }
}

/// What is asked for, and all that is known.
pub struct Context<'a> {
    /// The machine.
    pub host: &'a Host,
    /// What is on it.
    pub node: &'a Node,
    /// What we did to it before.
    pub receipt: &'a Receipt,
    /// What is asked for.
    pub settings: &'a Settings,
    /// Where event logs go.
    pub event_logs: Option<&'a EventLogs>,
    /// What is known of the bucket.
    pub bucket: Option<&'a Bucket>,
    /// What the event logs' scheme needs; `None` where no links are asked for.
    pub scheme: Option<&'a Scheme>,
    /// The log gateway; `None` where there shall be none.
    pub gateway: Option<&'a log_gateway::Setup>,
    /// Go on where something is not ours.
    pub force: bool,
}

impl Context<'_> {
    /// The wants of some components, in the order in which they are to be made: what is likeliest to
    /// fail and cheapest to undo comes first.
    pub fn wants(&self, components: &[Component]) -> Result<Vec<Desired>> {
        let mut wants = Vec::new();
        let prefix = self.event_logs.filter(|_| components.contains(&Component::Prefix) && self.host.is_live());
        if let Some(uri) = prefix {
            wants.push(Desired {
                resource: Resource::Prefix { uri: uri.clone() },
                wanted: DesiredState::Is(State::Exists),
                why: "so that Spark finds a directory there".into(),
            });
        }
        let store = if components.contains(&Component::Configure) {
            store(self.host, self.node, self.receipt, self.settings).ok()
        } else {
            None
        };
        if let Some((path, owner)) = &store {
            wants.push(Desired {
                resource: Resource::Cache { path: path.clone() },
                wanted: DesiredState::Directory { mode: 0o750, owner: *owner },
                why: "for the history server's local store".into(),
            });
        }
        if components.contains(&Component::Link) {
            wants.extend(self.class_path()?);
        }
        if components.contains(&Component::Configure) {
            wants.extend(self.keys(store.map(|(path, _)| path).as_deref())?);
        }
        if let Some(setup) = self.gateway.filter(|_| components.contains(&Component::Gateway)) {
            wants.extend(self.gateway_links(setup)?);
            wants.extend(self.gateway_service(setup)?);
        }
        Ok(wants)
    }

    fn class_path(&self) -> Result<Vec<Desired>> {
        let Some(scheme) = self.scheme else { return Ok(Vec::new()) };
        let links = scheme.links(self.host, &self.settings.jars, self.force)?;
        if links.is_empty() {
            return Ok(Vec::new());
        }
        let mut wants = Vec::new();
        let owner = root_owner(self.host);
        let (dir, prefix) = match self.settings.link_into {
            LinkInto::Daemon => (PathBuf::from(LINK_DIR), ""),
            LinkInto::SparkJars => (self.node.spark.home.join("jars"), "emr-shs-"),
        };
        if self.settings.link_into == LinkInto::Daemon {
            let parent = dir.parent().unwrap_or(&dir).to_path_buf();
            wants.extend([
                directory(&parent, owner, "for what emr-shs adds"),
                directory(&dir, owner, "for links to jars"),
            ]);
        }
        wants.extend(links.into_iter().map(|Link { name, jar, why }| Desired {
            resource: Resource::Link { path: dir.join(format!("{prefix}{name}")) },
            wanted: DesiredState::Is(State::Link { target: jar }),
            why,
        }));
        if self.settings.link_into == LinkInto::Daemon {
            let drop_ins = PathBuf::from(format!("/etc/systemd/system/{UNIT}.d"));
            wants.push(directory(&drop_ins, owner, "for settings of the history server's unit"));
            wants.push(Desired {
                resource: Resource::File { path: drop_ins.join(DROP_IN) },
                wanted: DesiredState::Is(State::File { content: self.drop_in(), mode: 0o644, owner }),
                why: "class path of the history server alone; jobs are not affected".into(),
            });
        }
        Ok(wants)
    }

    /// Sets the class path in the unit's environment, behind what another setting has put there,
    /// and behind Spark's own jars: the bundle of the AWS SDK v2 brings an SLF4J and a Netty of its
    /// own. Before Spark's they leave the history server without a log, or dead.
    fn drop_in(&self) -> String {
        let ours = format!("{LINK_DIR}/*");
        let sparks = format!("{}/jars/*", self.node.spark.home.display());
        let server = self.node.server.as_ref();
        let there = server.and_then(|s| s.unit.environment.get("SPARK_DAEMON_CLASSPATH")).map_or("", String::as_str);
        let mut elements: Vec<&str> =
            there.split(':').filter(|e| !e.is_empty() && *e != ours && *e != sparks).collect();
        elements.extend([sparks.as_str(), ours.as_str()]);
        let value = elements.join(":").replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
        format!(
            "# Written by emr-shs; `emr-shs uninstall` removes it.\n\
             # The class path of the history server alone: jobs are not affected.\n\
             [Service]\n\
             Environment=\"SPARK_DAEMON_CLASSPATH={value}\"\n"
        )
    }

    fn keys(&self, store: Option<&Path>) -> Result<Vec<Desired>> {
        let event_logs = self.event_logs.context("where the event logs go is not known")?;
        let path = &self.node.spark.defaults_path;
        let uri = event_logs.to_string();
        let mut wants = Vec::new();
        let set = &self.settings.set;
        let mut want = |key: &str, value: String, yields: bool, why: &str| {
            // What --set names comes at the end, and once.
            if yields && set.contains_key(key) {
                return;
            }
            wants.push(Desired {
                resource: Resource::Key { path: path.clone(), key: key.into() },
                wanted: DesiredState::Value { value, yields },
                why: why.into(),
            });
        };
        if !self.settings.history_only {
            want("spark.eventLog.enabled", "true".into(), false, "jobs write event logs");
            want("spark.eventLog.dir", uri.clone(), false, "where jobs write them");
        }
        want("spark.history.fs.logDirectory", uri, false, "where the history server reads them");

        let file_system = self.node.hadoop.file_system(&event_logs.scheme);
        if file_system == Some(S3A) {
            if let Some(endpoint) = &self.settings.endpoint_url {
                want("spark.hadoop.fs.s3a.endpoint", endpoint.clone(), false, "named with --endpoint-url");
                if by_path(endpoint) {
                    want(
                        "spark.hadoop.fs.s3a.path.style.access",
                        "true".into(),
                        false,
                        "that store has no host name for each bucket",
                    );
                }
            }
            let near = self.node.identity.region.as_ref();
            let region = self.bucket.and_then(|bucket| bucket.region.clone());
            if let Some(region) = region.filter(|r| near != Some(r)) {
                let key = format!("spark.hadoop.fs.s3a.bucket.{}.endpoint.region", event_logs.bucket);
                let why = match near {
                    Some(_) => "the bucket lies in another region than the cluster",
                    None => "where the bucket lies; nothing on the node tells the cluster's region",
                };
                want(&key, region, false, why);
            }
        }

        let version = self.node.spark.version.as_ref();
        if let Some(store) = store {
            want("spark.history.store.path", store.display().to_string(), true, "restarts read only what is new");
            if version.is_some_and(|v| v.at_least(3, 1)) && self.node.spark.daemon_heap_mib() >= 4096 {
                want(
                    "spark.history.store.hybridStore.enabled",
                    "true".into(),
                    true,
                    "the heap of 4 GB or more allows it",
                );
            }
            if version.is_some_and(|v| v.at_least(3, 3)) {
                want("spark.history.store.hybridStore.diskBackend", "ROCKSDB".into(), true, "the faster local store");
            }
            if version.is_some_and(|v| v.at_least(3, 4)) {
                want("spark.history.store.serializer", "PROTOBUF".into(), true, "the faster local store");
            }
        }
        // Each rolling log takes two requests a scan (facts 2 §3.2).
        let interval = if self.node.spark.rolls_event_logs() { "300s" } else { "60s" };
        want(SCAN_INTERVAL, interval.into(), true, "every scan is S3 requests; the default is 10s");
        // Below another root the cores of this machine say nothing about the node's.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cores = if self.host.is_live() { cores } else { 1 };
        let threads = cores.max(8).to_string();
        want("spark.history.fs.numReplayThreads", threads, true, "reading from S3 is mostly waiting");
        for (key, value) in &self.settings.set {
            want(key, value.clone(), false, "named with --set");
        }
        Ok(wants)
    }
}

/// Refuses links and files that somebody else put where ours should go.
pub fn refuse_foreign(receipt: &Receipt, changes: &[crate::change::plan::Change]) -> Result<(), Fault> {
    for change in changes.iter().filter(|c| c.is_real()) {
        let foreign = match (&change.resource, &change.before) {
            (_, State::Absent) => false,
            (Resource::Link { .. } | Resource::File { .. }, before) => {
                receipt.entry(&change.resource).is_none_or(|e| !e.wrote(before))
            }
            _ => false,
        };
        if foreign {
            let path = change.resource.file().map(|p| p.display().to_string()).unwrap_or_default();
            return Err(Fault::preflight(format!("{path} is not ours to change"))
                .detail(format!("found {}, wanted {}", change.before, change.after))
                .unchanged()
                .hint(format!(
                    "move it away: mv {path} {path}.old; or add --force, and uninstall will bring it back"
                )));
        }
    }
    Ok(())
}

/// The local store: on the largest of EMR's local disks that has room, unless somebody chose
/// a place. A restart with it reads only what is new (facts §11). The error says why there is
/// none; the history server then keeps its listing in memory, as it does by default.
pub fn store(host: &Host, node: &Node, receipt: &Receipt, settings: &Settings) -> Result<(PathBuf, Owner), String> {
    const KEY: &str = "spark.history.store.path";
    let spark = &node.spark;
    if !spark.version.as_ref().is_some_and(|v| v.at_least(2, 3)) {
        return Err("this Spark has none (2.3 and newer do)".into());
    }
    let ours =
        receipt.entries.iter().find(|e| matches!(e.resource, Resource::Cache { .. })).and_then(|e| e.resource.file());
    let chosen = settings.set.get(KEY).map(String::as_str).or_else(|| spark.defaults.get(KEY));
    let disks = || (0..10).map(|n| PathBuf::from(if n == 0 { "/mnt".into() } else { format!("/mnt{n}") }));
    // One that a configuration names which `render cluster-config` made on another node, without its directory.
    let named =
        chosen.map(Path::new).filter(|path| !host.exists(path) && disks().any(|disk| disk.join(STORE) == *path));
    let ours = ours.or(named);
    if let Some(chosen) = chosen.filter(|chosen| ours.is_none_or(|path| path != Path::new(chosen))) {
        return Err(format!("{KEY} is set to {chosen} already"));
    }
    let owner = host.account("spark").ok_or("there is no user spark")?;
    if let Some(path) = ours {
        usable(host, path.parent().unwrap_or(path))?;
        return Ok((path.into(), owner));
    }
    let (usable, not): (Vec<_>, Vec<_>) =
        disks().map(|disk| usable(host, &disk).map(|size| (size, disk))).partition(Result::is_ok);
    // Of equals the first: /mnt itself before /mnt1.
    let best = usable.into_iter().flatten().reduce(|a, b| if b.0 > a.0 { b } else { a });
    let (_, disk) = best.ok_or_else(|| not.into_iter().find_map(Result::err).unwrap_or_default())?;
    let path = disk.join(STORE);
    if host.exists(&path) {
        return Err(format!("{} is there already and not ours", path.display()));
    }
    Ok((path, owner))
}

/// The size of a disk the local store can go to, or why it cannot.
fn usable(host: &Host, disk: &Path) -> Result<u64, String> {
    let name = disk.display();
    let real = host.target(disk).ok().filter(|p| p.is_dir()).ok_or_else(|| format!("there is no {name}"))?;
    let fs = statvfs(&real).map_err(|e| format!("{name}: {e}"))?;
    if fs.flags().contains(FsFlags::ST_RDONLY) {
        return Err(format!("{name} is mounted read-only"));
    }
    if fs.blocks_available() * fs.fragment_size() < STORE_ROOM {
        return Err(format!("{name} has less than 1 GiB free"));
    }
    Ok(fs.blocks() * fs.fragment_size())
}

fn directory(path: &Path, owner: Owner, why: &str) -> Desired {
    Desired {
        resource: Resource::Dir { path: path.into() },
        wanted: DesiredState::Directory { mode: 0o755, owner },
        why: why.into(),
    }
}

/// root on a node; whoever we are below another root.
fn root_owner(host: &Host) -> Owner {
    if host.is_live() { (0, 0) } else { (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()) }
}
