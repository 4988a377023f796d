//! The README's commands for a step, a bootstrap action and ssh work as written.

use crate::helpers::command_output::CommandOutput;
use crate::helpers::emr_scripts::{EmrNode, ScriptKind};
use crate::helpers::laptop::Laptop;
use crate::helpers::node::{LOGS, Node, Profile, binary};
use crate::helpers::wait::{wait, wait_within};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

struct Snippets {
    upload: String,
    step: String,
    bootstrap: String,
    ssh: String,
}

impl Snippets {
    /// Reads them, with the lab's names, and with a short scan interval so that `verify` does not wait a minute.
    fn of_readme() -> Self {
        let readme = include_str!("../../README.md");
        let (_, section) = readme.split_once("\n## Three ways to install\n").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let mut snippets = vec![String::new()];
        for line in section.lines() {
            match (line.strip_prefix("    "), snippets.last_mut().unwrap()) {
                (Some(line), last) => *last += &format!("{line}\n"),
                (None, last) if last.is_empty() => {}
                _ => snippets.push(String::new()),
            }
        }
        snippets.retain(|snippet| !snippet.is_empty());
        let snippets: [String; 4] = snippets.try_into().expect("a snippet that no test runs is not wanted");
        let [upload, step, bootstrap, ssh] = snippets.map(|snippet| {
            snippet
                .replace("s3://my-bucket/emr-shs/", crate::helpers::emr_scripts::BINARIES)
                .replace("s3://my-bucket/spark-events/", LOGS)
                .replace("--verify", "--verify --set spark.history.fs.update.interval=2s")
                .replace("NODE=ec2-203-0-113-7.eu-west-3.compute.amazonaws.com", "NODE=primary")
        });
        Self { upload, step, bootstrap, ssh }
    }
}

/// Runs a snippet in the release's directory with credentials. It runs in the node, because only that has the AWS CLI.
fn types(emr: &EmrNode, snippet: &str) -> CommandOutput {
    let credentials = "set -eu; . /etc/lab/s3.env; export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_REGION
        export AWS_DEFAULT_REGION=$AWS_REGION; cd /srv/release";
    emr.node.run(&["bash", "-c", &format!("{credentials}\n{snippet}")]).expect(0)
}

/// Makes a release's directory in the node and empties the bucket. Any file can stand for the binary of the other CPU.
fn released(node: Node) -> EmrNode {
    let emr = EmrNode::new(node, "dash");
    emr.node.sh("/opt/lab/s3 rm 's3://acme-spark/emr-shs/*'
         cd /srv/release && cp step emr-shs-aarch64 && sha256sum -- * >/srv/SHA256SUMS && mv /srv/SHA256SUMS .");
    emr
}

/// The last request to the EMR API.
fn asked(emr: &EmrNode, call: &str) -> Value {
    let log = emr.node.sh("cat /var/log/lab-emr.log");
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(last["call"], call);
    last["request"].clone()
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_readmes_step_and_ssh_commands_install() {
    let snippets = Snippets::of_readme();
    let emr = released(Node::fresh(Profile::Emr712));
    types(&emr, &snippets.upload);
    types(&emr, &snippets.step);
    let request = asked(&emr, "AddJobFlowSteps");
    assert_eq!(request["JobFlowId"], crate::helpers::node::CLUSTER);
    let jar = &request["Steps"][0]["HadoopJarStep"];
    assert_eq!(jar["Jar"], "s3://eu-west-3.elasticmapreduce/libs/script-runner/script-runner.jar");
    let args = words(&jar["Args"]);
    assert_eq!(args[0], format!("{}step", crate::helpers::emr_scripts::BINARIES));
    emr.runs(ScriptKind::Step, "s-2KDSNMHQ3X7TL", &args[1..])
        .expect(0, &["installed /usr/bin/emr-shs", "PASS  log ", "proved in"]);

    emr.node.sh("emr-shs uninstall && rm /usr/bin/emr-shs");
    let here = tempfile::tempdir().unwrap();
    std::fs::copy(binary(), here.path().join("emr-shs-x86_64")).unwrap();
    let mut laptop: Command = emr.node.laptop(Laptop::Ssh, &["bash", "-euc", &snippets.ssh]);
    let by_hand = CommandOutput(laptop.current_dir(here.path()).output().unwrap()).expect(0);
    let said = by_hand.out() + &by_hand.err();
    assert!(said.contains("PASS  log ") && said.contains("proved in"), "{said}");
    assert_eq!(emr.node.reads(), LOGS);
    assert_eq!(emr.ssh("ls; which emr-shs").expect(0).out(), "/usr/bin/emr-shs\n");
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_readmes_bootstrap_action_installs() {
    let snippets = Snippets::of_readme();
    let emr = released(Node::bootstrapping(Profile::Emr712));
    types(&emr, &snippets.upload);
    types(&emr, &snippets.bootstrap);
    let request = asked(&emr, "RunJobFlow");
    let action = &request["BootstrapActions"][0]["ScriptBootstrapAction"];
    assert_eq!(action["Path"], format!("{}bootstrap", crate::helpers::emr_scripts::BINARIES));
    let told = emr.runs(ScriptKind::BootstrapAction, "1", &words(&action["Args"]));
    assert_eq!(told.err, "", "{told:?}");
    told.expect(
        0,
        &[
            "installed /usr/bin/emr-shs",
            "Not installed yet: EMR is still provisioning this node",
            "bootstrap: done after ",
        ],
    );
    assert_eq!(emr.leftovers(), "/usr/bin/emr-shs\n");
    let status = || emr.node.sh("runuser -u hadoop -- sudo emr-shs status");
    // The unit says so when its process runs.
    wait("the deferred installation to wait", || status().contains("waiting for Spark, since ").then_some(()));

    emr.node.sh("/opt/lab/provision");
    wait_within(Duration::from_secs(300), "the proof", || {
        emr.node.sh("journalctl -u emr-shs-install --no-pager").contains("proved in").then_some(())
    });
    wait("the status", || status().contains("installed ").then_some(()));
    assert_eq!(emr.node.reads(), LOGS);
}
