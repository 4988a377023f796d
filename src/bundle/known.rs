//! The names and the secrets of this node, so that they can be removed wherever they occur.

use super::read;
use crate::change::receipt::Receipt;
use crate::host::Host;
use crate::node::Node;
use crate::node::identity::INFO;
use crate::paths::{GATEWAY_TOKEN, RECEIPT, SETTINGS_DIR, SPARK_CONF};
use crate::redact::{Kind, Redactor, is_secret_key};
use crate::settings::Settings;
use std::path::{Path, PathBuf};

/// Files with secrets or names that Spark, Hadoop or emr-shs read.
const CONFIGURATION: [&str; 5] = [
    "/etc/hadoop/conf/core-site.xml",
    "/etc/hadoop/conf/hdfs-site.xml",
    "/etc/hadoop/conf/ssl-server.xml",
    "/usr/share/aws/emr/emrfs/conf/emrfs-site.xml",
    "/etc/hadoop/conf/ssl-client.xml",
];
/// Variables of this process that name a person.
const PEOPLE: [&str; 4] = ["SUDO_USER", "LOGNAME", "USER", "USERNAME"];

/// What must not leave this node.
#[derive(Default)]
pub(super) struct Known {
    pub secrets: Vec<String>,
    pub names: Vec<(Kind, String)>,
    pub domains: Vec<String>,
    /// Files that could not be read, and why. Their secrets are recognized by their shape alone.
    pub unread: Vec<(PathBuf, String)>,
}

impl Known {
    /// Reads the files of the node that contain secrets and names.
    pub(super) fn gather(host: &Host) -> Self {
        let mut known = Self::default();
        known.add_configuration(host);
        known.add_settings(host);
        known.add_machine(host);
        known.add_identity(host);
        known.add_process();
        known.unread.sort();
        known.unread.dedup_by(|a, b| a.0 == b.0);
        known
    }

    pub(super) fn teach(&self, redactor: &mut Redactor) {
        self.domains.iter().for_each(|domain| redactor.know_domain(domain));
        // Secrets first: one that is also a name stays a secret.
        self.secrets.iter().for_each(|secret| redactor.know_secret(secret));
        self.names.iter().for_each(|(kind, name)| redactor.know_name(*kind, name));
    }

    /// The text of a file; empty if there is none.
    fn file(&mut self, host: &Host, path: &Path) -> String {
        match host.read(path) {
            Ok(text) => text.unwrap_or_default(),
            Err(why) => {
                self.unread.push((path.into(), format!("{why:#}")));
                String::new()
            }
        }
    }

    fn secret(&mut self, key: &str, value: &str) {
        let value = value.trim();
        let is_harmless = matches!(value, "true" | "false" | "none" | "simple" | "kerberos" | "null")
            || value.len() < 3
            || value.starts_with("org.apache.")
            || value.starts_with("com.amazon")
            || value.starts_with("software.amazon.");
        if is_harmless || value.starts_with("${") {
            return;
        }
        self.secrets.push(value.into());
        // `NAME:PASSWORD`
        if (key.to_ascii_lowercase().contains("login") || key.to_ascii_lowercase().contains("auth"))
            && let Some((name, password)) = value.split_once(':')
        {
            self.names.push((Kind::User, name.into()));
            self.secret("", password);
        }
    }

    /// A setting: its value is a secret, or can contain a name.
    fn setting(&mut self, key: &str, value: &str) {
        if is_secret_key(key) {
            self.secret(key, value);
        }
        self.text(value);
        if let Some(bucket) = key.split("fs.s3a.bucket.").nth(1).and_then(|rest| rest.split('.').next()) {
            self.names.push((Kind::Bucket, bucket.into()));
        }
        if let Some(user) = key.split("proxyuser.").nth(1).and_then(|rest| rest.split('.').next()) {
            self.names.push((Kind::User, user.into()));
        }
        let is_of_people = [".acls", "acls.groups", "principal", ".user", ".username"]
            .iter()
            .any(|end| key.to_ascii_lowercase().ends_with(end));
        if is_of_people {
            for name in value.split([',', ' ', '@', '/']) {
                self.names.push((Kind::User, name.into()));
            }
        }
        // `-Dname=value` in options of Java.
        for option in value.split_whitespace() {
            if let Some((key, value)) =
                option.trim_matches(['"', '\'']).strip_prefix("-D").and_then(|o| o.split_once('='))
            {
                self.setting(key, value);
            }
        }
    }

    /// The buckets and the hosts of URIs in a text.
    fn text(&mut self, text: &str) {
        for part in text.split(|c: char| c.is_whitespace() || ",\"'<>|".contains(c)) {
            let Some((scheme, rest)) = part.split_once("://") else { continue };
            let scheme = scheme.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default().to_lowercase();
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            if let Some((login, _)) = rest.rsplit_once('@') {
                self.secrets.extend(login.split_once(':').map(|(_, password)| password.to_string()));
            }
            let host = authority.rsplit('@').next().unwrap_or_default();
            let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
            match scheme.as_str() {
                "s3" | "s3a" | "s3n" => self.names.push((Kind::Bucket, host.into())),
                _ if host.parse::<std::net::IpAddr>().is_err() && !is_of_aws(host) => {
                    self.names.push((Kind::Host, host.into()))
                }
                _ => {}
            }
        }
    }

    fn add_configuration(&mut self, host: &Host) {
        let (node, _) = Node::read_leniently(host);
        let spark: Vec<(String, String)> = node
            .spark
            .defaults
            .keys()
            .map(|key| (key.to_string(), node.spark.defaults.written(key).unwrap_or_default().to_string()))
            .collect();
        let hadoop = node.hadoop.names().filter_map(|name| Some((name.to_string(), node.hadoop.text(name)?)));
        let hadoop: Vec<(String, String)> = hadoop.collect();
        let env = node.spark.env.iter().map(|(key, value)| (key.clone(), value.clone()));
        for (key, value) in spark.into_iter().chain(hadoop).chain(env) {
            self.setting(&key, &value);
        }
        // As they are written: a file that emr-shs cannot read has secrets, too.
        let own = node.spark.hadoop_conf().join("core-site.xml");
        for file in CONFIGURATION.map(PathBuf::from).into_iter().chain([own]) {
            let text = self.file(host, &file);
            for property in text.split("<property>").skip(1) {
                let element = |name: &str| {
                    let (_, rest) = property.split_once(&format!("<{name}>"))?;
                    Some(rest.split('<').next().unwrap_or(rest).trim().to_string())
                };
                let (key, value) = (element("name").unwrap_or_default(), element("value").unwrap_or_default());
                self.setting(&key, &value);
                self.setting(&key, &value.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"));
            }
        }
        let defaults = self.file(host, &Path::new(SPARK_CONF).join("spark-defaults.conf"));
        for line in defaults.lines() {
            let line = line.trim_start_matches(['#', '!', ' ', '\t']);
            let key = line.split([' ', '\t', '=', ':']).next().unwrap_or_default();
            self.setting(key, line[key.len()..].trim_start_matches([' ', '\t', '=', ':']));
        }
        for script in [Path::new(SPARK_CONF).join("spark-env.sh"), "/etc/default/spark-history-server".into()] {
            let text = self.file(host, &script);
            self.add_assignments(&text);
        }
    }

    /// `NAME=VALUE` lines of a script, of a file of variables or of a unit.
    fn add_assignments(&mut self, text: &str) {
        for line in text.lines() {
            let line = line.trim().trim_start_matches('#').trim();
            let line = line.strip_prefix("export ").or(line.strip_prefix("Environment=")).unwrap_or(line);
            if let Some((key, value)) = line.trim_matches('"').split_once('=') {
                let value = value.trim().trim_matches(['"', '\'']);
                self.setting(key, value);
                self.setting(key, &value.replace("\\\"", "\"").replace("\\\\", "\\"));
            }
        }
    }

    /// What emr-shs itself keeps: its settings, its files of variables, the file of passwords, the token.
    fn add_settings(&mut self, host: &Host) {
        let receipt = Receipt::load(host).ok();
        if let Some(receipt) = &receipt {
            self.of_settings(&receipt.settings);
        }
        // Also a receipt that this version cannot read.
        let text = self.file(host, Path::new(RECEIPT));
        self.text(&text);
        let mut files: Vec<PathBuf> = receipt.iter().filter_map(|r| r.settings.gateway.htpasswd.clone()).collect();
        for name in read::names(host, Path::new(SETTINGS_DIR)).unwrap_or_default() {
            let path = Path::new(SETTINGS_DIR).join(&name);
            if name.ends_with(".env") {
                let text = self.file(host, &path);
                self.add_assignments(&text);
            } else {
                files.push(path);
            }
        }
        for file in files {
            let text = self.file(host, &file);
            self.add_passwords(&text);
        }
        let token = self.file(host, Path::new(GATEWAY_TOKEN));
        self.secret("", &token);
        let units = ["/etc/systemd/system/spark-history-server.service.d"];
        for unit in units.map(Path::new) {
            for name in read::names(host, unit).unwrap_or_default() {
                let text = self.file(host, &unit.join(name));
                self.add_assignments(&text);
            }
        }
    }

    fn of_settings(&mut self, settings: &Settings) {
        let gateway = &settings.gateway;
        self.names.extend(settings.sources().map(|uri| (Kind::Bucket, uri.bucket.clone())));
        self.names.extend(gateway.log_uris.iter().map(|uri| (Kind::Bucket, uri.bucket.clone())));
        self.names.extend(settings.public_name().map(|name| (Kind::Host, name.to_string())));
        self.names.extend(gateway.host_names.iter().map(|name| (Kind::Host, name.clone())));
        self.text(gateway.public_url.as_deref().unwrap_or_default());
        self.text(settings.endpoint_url.as_deref().unwrap_or_default());
        if let Some(cluster) = &settings.cluster {
            self.text(cluster.log_uri.as_deref().unwrap_or_default());
        }
        for (key, value) in &settings.set {
            self.setting(key, value);
        }
    }

    /// The lines of a password file.
    fn add_passwords(&mut self, text: &str) {
        for (name, hash) in text.lines().filter_map(|line| line.trim().split_once(':')) {
            if name.len() <= 64 && !name.contains(char::is_whitespace) {
                self.names.push((Kind::User, name.into()));
            }
            if hash.len() >= 6 {
                self.secrets.push(hash.into());
            }
        }
    }

    /// The names of this machine, of its neighbours and of its people.
    fn add_machine(&mut self, host: &Host) {
        let read = |path: &str| host.read(Path::new(path)).ok().flatten().unwrap_or_default();
        let name = host.name();
        self.names.extend(name.iter().map(|name| (Kind::Host, name.clone())));
        self.names.extend(name.iter().filter_map(|name| Some((Kind::Host, name.split_once('.')?.0.to_string()))));
        for line in [read("/etc/hosts"), read("/etc/hostname")].concat().lines() {
            let line = line.split('#').next().unwrap_or_default();
            let names = line.split_whitespace().filter(|word| word.parse::<std::net::IpAddr>().is_err());
            self.names.extend(names.map(|name| (Kind::Host, name.to_string())));
        }
        for line in read("/etc/resolv.conf").lines() {
            if let Some(domains) = line.strip_prefix("search ").or(line.strip_prefix("domain ")) {
                self.domains.extend(domains.split_whitespace().map(str::to_string));
            }
        }
        for line in read("/etc/passwd").lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, _, full, ..] = fields.as_slice() else { continue };
            if uid.parse::<u32>().is_ok_and(|uid| (1000..60_000).contains(&uid)) {
                self.names.push((Kind::User, name.to_string()));
                let full = full.split(',').next().unwrap_or_default();
                if full.contains(' ') {
                    self.names.push((Kind::User, full.into()));
                }
            }
        }
        let homes = read::names(host, Path::new("/home")).unwrap_or_default();
        self.names.extend(homes.into_iter().map(|name| (Kind::User, name)));
    }

    /// What EMR's files say of the cluster: every id, host and bucket in them.
    fn add_identity(&mut self, host: &Host) {
        for dir in INFO.map(Path::new) {
            for name in read::names(host, dir).unwrap_or_default() {
                let text = read::whole(host, &dir.join(&name)).ok().flatten().unwrap_or_default();
                self.text(&text);
                for line in text.lines() {
                    let Some((key, value)) = line.split_once(':') else { continue };
                    let key = key.trim().trim_matches('"');
                    let value = value.trim().trim_end_matches(',').trim_matches('"');
                    match key {
                        "jobFlowId" => self.names.push((Kind::Cluster, value.into())),
                        "accountId" => self.names.push((Kind::Account, value.into())),
                        _ if key.ends_with("DnsName") || key.ends_with("Host") => {
                            self.names.push((Kind::Host, value.into()));
                        }
                        _ if is_secret_key(key) && value.len() > 5 && value.parse::<f64>().is_err() => {
                            self.secret(key, value);
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// The variables of this process: a shell can export keys of AWS and passwords.
    fn add_process(&mut self) {
        for (key, value) in std::env::vars_os() {
            let (key, value) = (key.to_string_lossy(), value.to_string_lossy());
            if PEOPLE.contains(&key.as_ref()) {
                self.names.push((Kind::User, value.into_owned()));
            } else if is_secret_key(&key) && value.len() > 3 && !value.starts_with('/') {
                self.secret(&key, &value);
            }
        }
        // The file that AWS's programs read.
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let text = Host::this().read(&home.join(".aws/credentials")).ok().flatten();
        self.add_assignments(&text.unwrap_or_default());
    }
}

fn is_of_aws(host: &str) -> bool {
    host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
}
