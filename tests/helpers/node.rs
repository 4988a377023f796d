//! An EMR-like primary node that `lab/node` runs on this machine: how it starts and ends, and how a test acts on it.

use super::command_output::CommandOutput;
use super::kept_nodes::{self, Kept, Kind};
use super::wait::wait_within;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The directory of event logs in most tests. The bucket exists, the prefix does not.
pub const LOGS: &str = "s3://acme-spark/events/";
/// The cluster's log URI, as DescribeCluster returns it.
pub const LOG_URI: &str = "s3n://acme-logs/elasticmapreduce/";
pub const CLUSTER: &str = "j-3H6EATEWWRWS";
/// The node's private name. The node and a laptop in its VPN can resolve it.
pub const PRIVATE_NAME: &str = "ip-172-31-59-96.ec2.internal";
pub const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/node");

/// The binary that is copied into nodes: `scripts/test` names a release's static one, otherwise it is cargo's debug build.
pub fn binary() -> String {
    std::env::var("EMR_SHS_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_emr-shs").into())
}

/// The EMR releases that nodes resemble.
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
    /// Like 7.12 with EMRFS, on a node that a company has hardened and that other people use, too.
    Hardened,
}

/// A running node. When it is dropped, it is kept for another test if nothing was changed on it, else it is powered off.
pub struct Node {
    pub(super) name: String,
    /// The node's root directory on this machine.
    pub(super) root: PathBuf,
    /// The kind that it is kept as, and its fingerprint as the test got it.
    keep: Option<(Kind, String)>,
}

impl Node {
    /// A node whose history server answers and reads HDFS.
    pub fn fresh(profile: Profile) -> Self {
        Self::up(profile, "fresh")
    }

    /// A node whose configuration names event logs on S3, and whose history server has died of it.
    pub fn broken(profile: Profile) -> Self {
        Self::up(profile, "broken")
    }

    /// A node as a bootstrap action finds it: neither Spark nor Hadoop, until `/opt/lab/provision` runs.
    pub fn bootstrapping(profile: Profile) -> Self {
        Self::up(profile, "bootstrapping")
    }

    fn up(profile: Profile, state: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let profile = match profile {
            Profile::Emr533 => "5.33",
            Profile::Emr64 => "6.4",
            Profile::Emr71 => "7.1",
            Profile::Emr712 => "7.12",
            Profile::Emr81 => "8.1",
            Profile::Hardened => "hardened",
        };
        let prefix = format!("test-{}-", std::process::id());
        kept_nodes::take_down_at_the_end(SCRIPT, &prefix);
        let name = format!("{prefix}{}-{}", COUNT.fetch_add(1, Ordering::Relaxed), profile.replace('.', "-"));
        assert_ok(&script(&["up", &name, "--profile", profile, "--state", state]));
        assert_ok(&script(&["cp", &name, &binary(), "/usr/local/bin/emr-shs"]));
        let root = assert_ok(&script(&["root", &name])).trim().into();
        Self { name, root, keep: None }
    }

    /// A node that another test has given back.
    pub(super) fn kept(kept: Kept) -> Self {
        let root = assert_ok(&script(&["root", &kept.name])).trim().into();
        Self { name: kept.name, root, keep: Some((kept.kind, kept.fingerprint)) }
    }

    /// Keeps the node, as it is now, for further tests.
    pub(super) fn keep_as(&mut self, kind: Kind) {
        self.keep = Some((kind, kept_nodes::fingerprint(&self.name)));
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs emr-shs as root.
    pub fn emr_shs(&self, args: &[&str]) -> CommandOutput {
        self.run(&[&["emr-shs"], args].concat())
    }

    /// Runs `doctor` until Hadoop's own client has answered it: on a busy machine Java can take longer than doctor waits. What the
    /// earlier runs left in S3, because doctor ended Java, is removed.
    pub fn doctor_with_hadoop(&self, options: &[&str]) -> CommandOutput {
        wait_within(Duration::from_secs(300), "Hadoop's own client to answer doctor in time", || {
            self.sh(&format!("/opt/lab/s3 rm '{LOGS}.emr-shs-probe*'"));
            let ran = self.emr_shs(&[&["doctor"], options].concat());
            let said = ran.out().split_whitespace().collect::<Vec<_>>().join(" ");
            let has_answered = ["did not answer in time", "it was not asked", "did not ask that client"]
                .iter()
                .all(|late| !said.contains(late));
            has_answered.then_some(ran)
        })
    }

    /// Runs a command as root.
    pub fn run(&self, command: &[&str]) -> CommandOutput {
        CommandOutput(script(&[&["exec", &self.name, "--"], command].concat()))
    }

    /// Runs a command as root, and tells how long it took by the node's own clock: to begin a program there takes time, too. The time
    /// is also the last line of its standard error.
    pub fn timed(&self, command: &[&str]) -> (CommandOutput, Duration) {
        let line = r#"begun=$(date +%s%3N); "$@"; code=$?; echo $(($(date +%s%3N) - begun)) >&2; exit $code"#;
        let ran = self.run(&[&["bash", "-c", line, "timed"], command].concat());
        let took = ran.err().lines().last().and_then(|line| line.parse().ok()).map(Duration::from_millis);
        (ran, took.unwrap())
    }

    /// Runs a command as root in the background.
    pub fn spawn(&self, command: &[&str]) -> Child {
        Command::new(SCRIPT)
            .args(["exec", &self.name, "--"])
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Restarts the node. Returns when its history server answers, if that starts at boot.
    pub fn reboot(&self) {
        assert_ok(&script(&["reboot", &self.name]));
    }

    /// Runs a line of shell as root, which must succeed. Returns what it prints.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        self.run(&["bash", "-c", line]).expect(0).out()
    }

    /// The path on this machine of a file in the node. It does not work for /tmp and /run, which are mounts in the node.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Copies a file of this machine into the node.
    pub fn copy(&self, file: &str, path: &str) {
        assert_ok(&script(&["cp", &self.name, file, path]));
    }

    /// Changes a member of the answers of the metadata service and the EMR API; `lab/root/opt/lab/aws-standin.py` lists them.
    pub fn stand_in(&self, member: &str, value: Value) {
        let path = self.path("/etc/lab/standin.json");
        let mut settings: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        settings[member] = value;
        // By rename: the stand-in reads the file at each request.
        fs::write(path.with_extension("new"), settings.to_string()).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    /// Lets S3 refuse what these rules of `/opt/lab/s3-fault` say. The proxy must be on.
    pub fn s3_refuses(&self, rules: &Value) {
        self.s3_fault(&serde_json::json!({ "refuse": rules }));
    }

    /// From now on an object opens only with the customer's key with which it was written.
    pub fn s3_knows_customer_keys(&self) {
        self.s3_fault(&serde_json::json!({ "customer_keys": true }));
    }

    fn s3_fault(&self, settings: &Value) {
        let path = self.path("/etc/lab/s3-fault.json");
        fs::write(path.with_extension("new"), settings.to_string()).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    pub fn s3_requests(&self) -> usize {
        self.sh("cat /var/log/lab-s3.log").lines().count()
    }

    pub fn s3_has(&self, uri: &str) -> bool {
        !self.sh(&format!("/opt/lab/s3 ls {uri}")).trim().is_empty()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.run(&["bash", "-c", "tail -n 40 /var/log/spark/spark-history-server.out; emr-shs status"]);
            eprintln!("--- {}: the history server's log and status\n{}{}", self.name, log.out(), log.err());
        }
        match self.keep.take().filter(|_| !std::thread::panicking()) {
            Some((kind, fingerprint)) => kept_nodes::give_back(Kept { kind, name: self.name.clone(), fingerprint }),
            None => drop(script(&["down", "--kill", &self.name])),
        }
    }
}

pub fn script(args: &[&str]) -> Output {
    Command::new(SCRIPT).args(args).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn assert_ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}
