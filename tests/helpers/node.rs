//! A node of `lab/node`, and what a person would do and see on it.

use crate::helpers::command_output::CommandOutput;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Where event logs go in most tests; the bucket is there, the prefix is not.
pub const LOGS: &str = "s3://acme-spark/events/";
/// The cluster's log URI, as DescribeCluster has it.
pub const LOG_URI: &str = "s3n://acme-logs/elasticmapreduce/";
/// The cluster's id.
pub const CLUSTER: &str = "j-3H6EATEWWRWS";
/// The node's private name, known on it and on a laptop in its VPN.
pub const PRIVATE_NAME: &str = "ip-172-31-59-96.ec2.internal";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/node");

/// What nodes get: the release's static binary in `scripts/test`, otherwise what was built for the tests.
pub fn binary() -> String {
    std::env::var("EMR_SHS_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_emr-shs").into())
}

/// The kinds of node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Spark 2.4; `s3://` is EMRFS, which is on the class path already, SDK v1 in its parts.
    Emr533,
    /// Spark 3.1; `s3://` is EMRFS, SDK v1.
    Emr64,
    /// `s3://` is EMRFS, SDK v1.
    Emr71,
    /// `s3://` is S3A, SDK v2.
    Emr712,
    /// The same, Spark 4.1, and neither EMRFS nor SDK v1 anywhere.
    Emr81,
}

/// Where a command of this machine runs that reaches a node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Laptop {
    /// Knows nothing of the node but its ssh.
    Ssh,
    /// Knows the node's private name.
    Vpn,
}

/// A running node; powered off when dropped.
pub struct Node {
    name: String,
    root: PathBuf,
}

impl Node {
    /// Its history server healthy on HDFS.
    pub fn fresh(profile: Profile, name: &str) -> Self {
        Self::up(profile, name, "fresh")
    }

    /// As the seed's configuration leaves it: on S3, and dead.
    pub fn seed(profile: Profile, name: &str) -> Self {
        Self::up(profile, name, "seed")
    }

    /// As a bootstrap action finds it: neither Spark nor Hadoop, until `/opt/lab/provision` is run.
    pub fn bootstrapping(profile: Profile, name: &str) -> Self {
        Self::up(profile, name, "bootstrapping")
    }

    fn up(profile: Profile, name: &str, state: &str) -> Self {
        let profile = match profile {
            Profile::Emr533 => "5.33",
            Profile::Emr64 => "6.4",
            Profile::Emr71 => "7.1",
            Profile::Emr712 => "7.12",
            Profile::Emr81 => "8.1",
        };
        let name = format!("{name}-{}", profile.replace('.', "-"));
        script(&["down", "--kill", &name]);
        assert_ok(&script(&["up", &name, "--profile", profile, "--state", state]));
        assert_ok(&script(&["cp", &name, &binary(), "/usr/local/bin/emr-shs"]));
        let root = assert_ok(&script(&["root", &name]));
        Self { name, root: root.trim().into() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs emr-shs as root.
    pub fn emr_shs(&self, args: &[&str]) -> CommandOutput {
        self.run(&[&["emr-shs"], args].concat())
    }

    /// Runs a command as root.
    pub fn run(&self, command: &[&str]) -> CommandOutput {
        CommandOutput(script(&[&["exec", &self.name, "--"], command].concat()))
    }

    /// Runs a command as root in the background.
    pub fn spawn(&self, command: &[&str]) -> std::process::Child {
        Command::new(SCRIPT)
            .args(["exec", &self.name, "--"])
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// A command of this machine that is to run on the node's laptop; its process is the command's own.
    pub fn laptop(&self, kind: Laptop, command: &[&str]) -> Command {
        let mut laptop = Command::new(SCRIPT);
        laptop.args(["laptop", &self.name]);
        if kind == Laptop::Vpn {
            laptop.arg("--vpn");
        }
        laptop.arg("--").args(command).stdin(Stdio::null());
        laptop
    }

    /// `ssh -N` from the laptop with options such as `-L 18080:localhost:18080` or `-D 1080`; returns
    /// when the laptop's ports are open.
    #[track_caller]
    pub fn tunnel(&self, options: &[&str]) -> Tunnel {
        // ssh runs its local command when it listens. A forwarded connection that fails is the browser's to report.
        let said =
            ["ssh", "-N", "-o", "LogLevel=ERROR", "-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo open"];
        let mut ssh =
            self.laptop(Laptop::Ssh, &[&said, options, &["primary"]].concat()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(ssh.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let tunnel = Tunnel(ssh);
        assert_eq!(line, "open\n", "ssh -N {} opens its ports", options.join(" "));
        tunnel
    }

    /// Restarts the node; returns when its history server answers, if it has one that starts with it.
    pub fn reboot(&self) {
        assert_ok(&script(&["reboot", &self.name]));
    }

    /// What a shell line prints; fails unless it succeeds.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        self.run(&["bash", "-c", line]).expect(0).out()
    }

    /// Where a path of the node lies for us; not /tmp and /run, which are mounts in there.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Copies a file of ours into the node.
    pub fn copy(&self, file: &str, path: &str) {
        assert_ok(&script(&["cp", &self.name, file, path]));
    }

    /// The history server's answer to a path.
    pub fn get(&self, path: &str) -> Option<String> {
        let ran = self.run(&["curl", "-sf", &format!("http://127.0.0.1:18080{path}")]);
        (ran.code() == 0).then(|| ran.out())
    }

    pub fn answers(&self) -> bool {
        self.get("/api/v1/version").is_some()
    }

    /// The directory its front page names, as a person reads it.
    #[track_caller]
    pub fn reads(&self) -> String {
        let page = self.get("/").expect("the history server answers");
        let after = page.split("Event log directory:</strong>").nth(1).expect("the page names a directory");
        after.split('<').next().unwrap().trim().to_string()
    }

    pub fn history_server_pid(&self) -> String {
        self.sh("pgrep -f org.apache.spark.deploy.history.HistoryServer -u spark").trim().to_string()
    }

    pub fn wait_until_dead(&self) {
        wait("the history server to die", || {
            (self.sh("systemctl is-active spark-history-server || true").trim() == "failed").then_some(())
        });
    }

    pub fn upload_event_logs(&self, uri: &str) {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/yarn/eventlogs");
        let copied = Command::new("cp").arg("-r").arg(fixtures).arg(self.root.join("srv/eventlogs")).status().unwrap();
        assert!(copied.success());
        self.sh(&format!("/opt/lab/s3 put-tree /srv/eventlogs {}", uri.replace("s3a://", "s3://")));
    }

    /// Every log of the fixtures' containers, where the cluster's nodes put them below that log URI.
    pub fn upload_container_logs(&self, uri: &str, encoded: bool) {
        let top = self.root.join("srv/container-logs");
        if !top.exists() {
            let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/yarn/container-logs");
            assert!(Command::new("cp").arg("-r").arg(fixtures).arg(&top).status().unwrap().success());
            self.sh("gzip -nr /srv/container-logs");
        }
        let (_, below) = uri.split_once("://").unwrap();
        let header = if encoded { "-H 'Content-Encoding: gzip'" } else { "" };
        let to = format!("s3://{}/{CLUSTER}/containers/", below.trim_end_matches('/'));
        self.sh(&format!("/opt/lab/s3 put-tree {header} /srv/container-logs {to}"));
    }

    /// Changes a member of what the metadata stand-in answers; see `/opt/lab/aws-standin.py`.
    pub fn stand_in(&self, member: &str, value: Value) {
        let path = self.path("/etc/lab/standin.json");
        let mut settings: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        settings[member] = value;
        // It may be read at any moment.
        fs::write(path.with_extension("new"), settings.to_string()).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    /// How many requests S3 has answered so far.
    pub fn s3_requests(&self) -> usize {
        self.sh("cat /var/log/lab-s3.log").lines().count()
    }

    /// Runs a small real application as user hadoop; gives its id.
    pub fn spark_submit(&self, name: &str) -> String {
        let ran = CommandOutput(script(&[
            "exec",
            &self.name,
            "--user",
            "hadoop",
            "--",
            "/usr/lib/spark/bin/spark-submit",
            "--master",
            "local[1]",
            "--name",
            name,
            "--class",
            "TinyApp",
            "/opt/lab/tiny-app.jar",
            name,
        ]))
        .expect(0);
        let text = ran.out() + &ran.err();
        let at = text.find("local-").unwrap_or_else(|| panic!("no application id in {text}"));
        text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
    }

    /// Waits until so many applications are listed; gives them.
    pub fn wait_for_applications(&self, count: usize) -> Vec<Value> {
        wait(&format!("{count} applications"), || {
            let listed: Vec<Value> = serde_json::from_str(&self.get("/api/v1/applications")?).ok()?;
            (listed.len() >= count).then_some(listed)
        })
    }

    pub fn s3_has(&self, uri: &str) -> bool {
        !self.sh(&format!("/opt/lab/s3 ls {uri}")).trim().is_empty()
    }

    /// Everything an uninstall must leave as it was: what it is, its mode and owner, its content.
    /// Left out: logs, and what systemd writes while it runs. A jar of more than 4 MB counts as
    /// the same while its size, inode and time are.
    pub fn tree(&self) -> BTreeMap<PathBuf, String> {
        let mut tree = BTreeMap::new();
        for dir in ["usr/lib", "usr/libexec", "etc", "var/lib", "mnt", "usr/share/aws", "usr/local"] {
            self.walk(&self.root.join(dir), &mut tree);
        }
        tree
    }

    fn walk(&self, path: &Path, tree: &mut BTreeMap<PathBuf, String>) {
        let name = path.strip_prefix(&self.root).unwrap();
        // Logs; what systemd keeps; what the tools for accounts keep of their files' last version.
        let kept = ["mnt/var/log", "var/lib/systemd", "etc/passwd-", "etc/shadow-", "etc/group-", "etc/gshadow-"];
        if kept.map(Path::new).contains(&name) {
            return;
        }
        let meta = fs::symlink_metadata(path).unwrap();
        let mut what = format!("{:o} {}:{}", meta.permissions().mode(), meta.uid(), meta.gid());
        if meta.is_symlink() {
            what += &format!(" → {}", fs::read_link(path).unwrap().display());
        } else if meta.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.walk(&entry.unwrap().path(), tree);
            }
        } else if meta.len() > 4 << 20 {
            what += &format!(" {} bytes, inode {}, {}.{}", meta.len(), meta.ino(), meta.mtime(), meta.mtime_nsec());
        } else {
            let bytes = fs::read(path).unwrap();
            let mut hash = std::hash::DefaultHasher::new();
            std::hash::Hash::hash(&bytes, &mut hash);
            what += &format!(" {} bytes, {:x}", bytes.len(), std::hash::Hasher::finish(&hash));
        }
        tree.insert(name.into(), what);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.run(&["bash", "-c", "tail -n 40 /var/log/spark/spark-history-server.out; emr-shs status"]);
            eprintln!("--- {}: the history server's log and status\n{}{}", self.name, log.out(), log.err());
        }
        script(&["down", "--kill", &self.name]);
    }
}

/// A running `ssh -N`; ended when dropped.
pub struct Tunnel(Child);

impl Drop for Tunnel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn script(args: &[&str]) -> Output {
    Command::new(SCRIPT).args(args).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn assert_ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Waits for a condition, for two minutes at most.
#[track_caller]
pub fn wait<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited two minutes for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
