//! Runs `packaging/step` and `packaging/bootstrap` on a node as EMR runs them, from S3.

use crate::helpers::command_output::CommandOutput;
use crate::helpers::laptop::Laptop;
use crate::helpers::node::{CLUSTER, Node};
use std::path::Path;

/// The prefix that contains the scripts and the binaries.
pub const BINARIES: &str = "s3://acme-spark/emr-shs/";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ScriptKind {
    /// EMR runs it through `script-runner.jar`.
    Step,
    /// EMR's instance controller runs it.
    BootstrapAction,
}

/// A script's exit code, and its output as EMR uploads it to S3.
#[derive(Debug)]
pub struct ScriptOutcome {
    pub code: i32,
    pub out: String,
    pub err: String,
    /// The message of the instance controller.
    pub emr: String,
}

impl ScriptOutcome {
    /// Fails unless the script exited with this code and its stdout contains all these words.
    #[track_caller]
    pub fn expect(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        for said in words {
            assert!(self.out.contains(said), "wanted “{said}” in {self:#?}");
        }
        self
    }

    /// Fails unless the script exited with this code, and its stdout and stderr contain all these words.
    #[track_caller]
    pub fn failed(self, code: i32, words: &[&str]) -> Self {
        for said in words {
            assert!(self.err.contains(said), "wanted “{said}” in the stderr of {self:#?}");
        }
        self.expect(code, words)
    }
}

/// A node without emr-shs, whose S3 contains the scripts and the binary that a user uploads.
pub struct EmrNode {
    pub node: Node,
    pub sha256: String,
}

impl EmrNode {
    /// Prepares a node: sudo searches the few directories that Amazon Linux's sudo searches, and `/bin/sh` is `shell`.
    pub fn new(node: Node, shell: &str) -> Self {
        node.sh("printf 'Defaults secure_path=\"/sbin:/bin:/usr/sbin:/usr/bin\"\\n' >/etc/sudoers.d/zz-amazon-linux
            chmod 440 /etc/sudoers.d/zz-amazon-linux
            mkdir /srv/release && mv /usr/local/bin/emr-shs /srv/release/emr-shs-x86_64");
        node.sh(&format!("ln -sf {shell} /bin/sh"));
        for script in ["step", "bootstrap"] {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(script);
            node.copy(file.to_str().unwrap(), &format!("/srv/release/{script}"));
        }
        node.sh(&format!("/opt/lab/s3 put-tree /srv/release {BINARIES}"));
        let sha256 = node.sh("sha256sum </srv/release/emr-shs-x86_64")[..64].to_string();
        Self { node, sha256 }
    }

    /// Runs the script with these arguments. Returns its exit code and its output from S3.
    pub fn runs(&self, how: ScriptKind, id: &str, args: &[&str]) -> ScriptOutcome {
        let (runner, script, archive) = match how {
            ScriptKind::Step => ("script-runner", "step", format!("steps/{id}")),
            ScriptKind::BootstrapAction => {
                ("bootstrap-action", "bootstrap", format!("node/i-0a1b2c3d4e5f60718/bootstrap-actions/{id}"))
            }
        };
        let runner = format!("/opt/lab/{runner}");
        let script = format!("{BINARIES}{script}");
        let ran = self.node.run(&[&[&runner, id, &script], args].concat());
        let log = |kind: &str| {
            let uri = format!("s3://acme-logs/elasticmapreduce/{CLUSTER}/{archive}/{kind}.gz");
            self.node.sh(&format!("/opt/lab/s3 cat {uri} | gunzip"))
        };
        ScriptOutcome { code: ran.code(), out: log("stdout"), err: log("stderr"), emr: ran.err() }
    }

    /// Runs the script with the binary's location and checksum before these arguments.
    pub fn runs_true(&self, how: ScriptKind, id: &str, args: &[&str]) -> ScriptOutcome {
        let own = ["--binaries", BINARIES, "--sha256-x86_64", &self.sha256];
        self.runs(how, id, &[&own, args].concat())
    }

    /// Runs a line of shell by ssh as user hadoop.
    pub fn ssh(&self, line: &str) -> CommandOutput {
        let output = self.node.laptop(Laptop::Ssh, &["ssh", "-o", "LogLevel=ERROR", "primary", line]).output().unwrap();
        CommandOutput(output)
    }

    /// Files and processes that a run could leave behind.
    pub fn leftovers(&self) -> String {
        self.node.sh("ls -d /tmp/emr-shs* /var/tmp/emr-shs* /mnt/tmp/emr-shs* /mnt/var/lib/hadoop/steps/*/emr-shs* \
               /emr/instance-controller/lib/bootstrap-actions/*/emr-shs* /usr/bin/emr-shs* 2>/dev/null
             pgrep -af 'aws s3|bin/emr-shs install' | grep -v bash || true")
    }
}
