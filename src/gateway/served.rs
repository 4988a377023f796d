//! What the gateway serves of that which lies below its log URIs and sources: which files, and of which clusters.
//!
//! The directory of a container holds more than logs: `launch_container.sh` contains the container's environment, with
//! tokens. So files are served by their names, and only those that are logs, unless the owner allows others.

use super::route::{LogDirectory, LogRequest};
use crate::ids::JobRun;
use crate::settings::{GatewaySettings, THIS_CLUSTER};
use crate::shown::shell_word;

/// The files that are served in any case. A pattern also stands for the compressed and the rotated files.
pub(crate) const LOG_FILES: [&str; 7] =
    ["stdout*", "stderr*", "syslog*", "container-localizer-syslog*", "prelaunch.*", "gc*", "*.log"];
/// What compression adds to the name of a file.
const COMPRESSED: [&str; 7] = [".gz", ".bz2", ".xz", ".zst", ".lz4", ".snappy", ".zip"];

pub(crate) struct Served {
    /// What `--allow-file` adds to [`LOG_FILES`].
    files: Vec<String>,
    /// What `--allow-cluster` allows besides this node's own cluster; empty if all clusters are allowed.
    clusters: Vec<String>,
    /// This node's own cluster.
    own: Option<String>,
}

/// What the gateway does not serve.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    File(String),
    /// A cluster, a Serverless application, or a virtual cluster.
    Cluster(String),
}

impl Served {
    pub(crate) fn new(settings: &GatewaySettings, own: Option<&str>) -> Self {
        let (files, clusters) = (settings.allow_files.clone(), settings.allow_clusters.clone());
        Self { files, clusters, own: own.map(Into::into) }
    }

    pub(super) fn has_file(&self, name: &str) -> bool {
        let names = [name, uncompressed(name), unrotated(uncompressed(name))];
        let mut patterns = LOG_FILES.iter().copied().chain(self.files.iter().map(String::as_str));
        patterns.any(|pattern| names.iter().any(|name| matches(pattern.as_bytes(), name.as_bytes())))
    }

    pub(super) fn has_cluster(&self, id: &str) -> bool {
        self.clusters.is_empty() || self.own.as_deref() == Some(id) || self.clusters.iter().any(|allowed| allowed == id)
    }

    /// Whether only some clusters are allowed.
    fn has_some_clusters(&self) -> bool {
        !self.clusters.is_empty()
    }

    /// What of a request is refused, as far as its path tells: only the archive finds the cluster of a container.
    pub(super) fn refuses(&self, request: &LogRequest) -> Option<Refused> {
        match request {
            LogRequest::Log(directory, file) => self.refuses_directory(directory).or_else(|| self.refuses_file(file)),
            LogRequest::Files(directory) => self.refuses_directory(directory),
            LogRequest::Containers(_, cluster) | LogRequest::Applications(cluster) => {
                self.refuses_cluster(cluster.as_deref()?)
            }
        }
    }

    /// Why no file of a directory is served.
    fn refuses_directory(&self, directory: &LogDirectory) -> Option<Refused> {
        let LogDirectory::Directory(path) = directory else { return None };
        let names: Vec<&str> = path.split('/').collect();
        let id = JobRun::of_path(&names).map_or(names[0], |run| run.application);
        self.refuses_cluster(id)
    }

    fn refuses_cluster(&self, id: &str) -> Option<Refused> {
        (!self.has_cluster(id)).then(|| Refused::Cluster(id.into()))
    }

    fn refuses_file(&self, name: &str) -> Option<Refused> {
        (!self.has_file(name)).then(|| Refused::File(name.into()))
    }

    /// What the owner types so that the gateway serves what it refuses now. The command names everything that is allowed
    /// already, because the options replace what earlier runs named.
    pub(super) fn how_to_allow(&self, refused: &Refused) -> String {
        let (option, earlier, new) = match refused {
            Refused::File(name) => ("--allow-file", &self.files, pattern_of(name)),
            Refused::Cluster(id) => ("--allow-cluster", &self.clusters, id.clone()),
        };
        let values = earlier.iter().filter(|value| *value != THIS_CLUSTER).chain([&new]);
        values.fold("sudo emr-shs proxy install".to_string(), |command, value| {
            format!("{command} {option} {}", shell_word(value.as_bytes()))
        })
    }

    /// The files that are served, for people.
    pub(crate) fn files_in_words(&self) -> String {
        LOG_FILES.iter().copied().chain(self.files.iter().map(String::as_str)).collect::<Vec<_>>().join(", ")
    }

    /// The clusters that are served, for people; `None` if all are.
    pub(crate) fn clusters_in_words(&self) -> Option<String> {
        let others = self.clusters.iter().filter(|id| *id != THIS_CLUSTER && Some(*id) != self.own.as_ref());
        let all: Vec<&str> = self.own.iter().chain(others).map(String::as_str).collect();
        self.has_some_clusters().then(|| if all.is_empty() { "none".into() } else { all.join(", ") })
    }
}

/// A pattern that stands for a name: in a list on the command line, a comma separates, and a hyphen begins an option.
fn pattern_of(name: &str) -> String {
    let name = uncompressed(name).replace([',', '\\'], "?");
    match name.strip_prefix('-') {
        Some(rest) => format!("?{rest}"),
        None => name,
    }
}

/// Whether `--allow-file` takes a pattern.
pub(crate) fn is_pattern(text: &str) -> bool {
    let is_odd = |c: char| c.is_control() || matches!(c, '/' | '\\');
    !text.is_empty() && text.len() <= 255 && !text.contains(is_odd) && text.trim() == text
}

fn uncompressed(name: &str) -> &str {
    COMPRESSED.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

/// The name without what a rotation adds: `spark.log.1`, `spark.log-20261122`, `spark.log.2026-11-22_13.1.current`.
fn unrotated(name: &str) -> &str {
    let counted = name.strip_suffix(".current").unwrap_or(name);
    let kept = counted.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '_'));
    let added = &counted[kept.len()..];
    let is_rotation = added.starts_with(['.', '-', '_']) && added.ends_with(|c: char| c.is_ascii_digit());
    if is_rotation { kept } else { name }
}

/// Whether a name has the form of a pattern, in which `*` stands for any text and `?` for one character. Takes no longer
/// than the product of both lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where the last `*` stands, and how much of the name comes before what follows it.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let is_letter = |at: usize| at == 0 || name[at] & 0xc0 != 0x80;
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(b'?') => {
                // One character, which can be several bytes.
                n += 1;
                while n < name.len() && !is_letter(n) {
                    n += 1;
                }
                p += 1;
            }
            Some(byte) if *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, before)) = star else { return false };
                star = Some((at, before + 1));
                p = at + 1;
                n = before + 1;
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(files: &[&str], clusters: &[&str]) -> Served {
        let all = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let settings =
            GatewaySettings { allow_files: all(files), allow_clusters: all(clusters), ..GatewaySettings::default() };
        Served::new(&settings, Some("j-OWN00"))
    }

    #[test]
    fn logs_are_served_and_other_files_only_if_the_owner_says_so() {
        let usual = served(&[], &[]);
        for log in [
            "stdout",
            "stderr",
            "stderr.gz",
            "stdout.1.gz",
            "stderr-2026-11-22-13.gz",
            "syslog",
            "syslog_dag_1.gz",
            "container-localizer-syslog.gz",
            "prelaunch.out",
            "prelaunch.err.gz",
            "gc.log.0.current.gz",
            "gc-executor.txt",
            "spark.log",
            "app.log.1",
            "app.log.2026-11-22-15.gz",
            "app.log-20261122",
            "app.log.2.zip",
            "hs_err_pid4711.log",
            "ünï.log",
        ] {
            assert!(usual.has_file(log), "{log}");
        }
        let others = [
            "launch_container.sh",
            "launch_container.sh.gz",
            "launch_container.sh.1",
            "directory.info.gz",
            "core.4711",
            "heap.hprof.gz",
            "container_tokens",
            ".gz",
            "log",
            "app.log.sh",
            "app.log.1.jks",
            "xstdout",
            "a.json",
            "STDOUT",
            "keytab",
            "prelaunch",
            "größe~(1)'&=",
        ];
        for other in others {
            assert!(!usual.has_file(other), "{other}");
            assert!(served(&["*"], &[]).has_file(other), "{other}");
        }
        let more = served(&["*.json", "gr??e*", "directory.info"], &[]);
        for allowed in ["a.json", "a.json.gz", "a.json.2", "größe~(1)'&=", "directory.info.gz"] {
            assert!(more.has_file(allowed), "{allowed}");
        }
        assert!(!more.has_file("a.jsonl") && !more.has_file("launch_container.sh") && !more.has_file("gröe"));
        let long = "a".repeat(255);
        assert!(!served(&[&"*a".repeat(120)], &[]).has_file(&(long.clone() + "b")) && !usual.has_file(&long));
    }

    #[test]
    fn a_cluster_is_served_if_it_is_this_one_or_named() {
        let directory = |path: &str| LogDirectory::Directory(path.into());
        let paths = [
            ("j-OTHER/containers/application_1795352263709_0001/x/", "j-OTHER"),
            ("applications/00f1r2fo0l4l4l09/jobs/00f1r2fo0l4l4l0a/SPARK_DRIVER/", "00f1r2fo0l4l4l09"),
            ("x/j-OWN00/applications/00f1r2fo0l4l4l09/jobs/00f1r2fo0l4l4l0a/SPARK_DRIVER/", "00f1r2fo0l4l4l09"),
            ("abcdefghij0123456789klmno/jobs/x/containers/y/", "abcdefghij0123456789klmno"),
        ];
        for (path, id) in paths {
            assert_eq!(served(&[], &[]).refuses_directory(&directory(path)), None);
            assert_eq!(served(&[], &[id]).refuses_directory(&directory(path)), None);
            for others in [&["this"][..], &["j-THIRD", "this"]] {
                let refused = served(&[], others).refuses_directory(&directory(path));
                assert_eq!(refused, Some(Refused::Cluster(id.into())), "{path}");
            }
        }
        assert!(served(&[], &["j-THIRD"]).has_cluster("j-OWN00"));
        assert_eq!(served(&[], &["this", "j-THIRD"]).clusters_in_words().as_deref(), Some("j-OWN00, j-THIRD"));
    }

    #[test]
    fn the_command_that_allows_a_file_keeps_what_is_allowed_and_quotes() {
        let how = |files: &[&str], name: &str| served(files, &[]).how_to_allow(&Refused::File(name.into()));
        assert_eq!(how(&[], "a.json.gz"), "sudo emr-shs proxy install --allow-file a.json");
        let words = shlex::split(&how(&["*.txt"], "-a,b'$(reboot)")).unwrap_or_default();
        assert_eq!(words[4..], ["--allow-file", "*.txt", "--allow-file", "?a?b'$(reboot)"]);
        let how = served(&[], &["this", "j-THIRD"]).how_to_allow(&Refused::Cluster("j-OTHER".into()));
        assert_eq!(how, "sudo emr-shs proxy install --allow-cluster j-THIRD --allow-cluster j-OTHER");
    }
}
