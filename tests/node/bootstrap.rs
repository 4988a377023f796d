//! `packaging/bootstrap` as EMR's instance controller runs it, where provisioning fails or S3 refuses. `provisioning.rs` tests
//! the unit that it leaves behind, `step.rs` failures of the script.

use crate::helpers::emr_scripts::{EmrNode, ScriptKind};
use crate::helpers::node::{LOGS, Node, Profile};
use crate::helpers::wait::wait;
use serde_json::json;

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn a_bootstrap_action_reports_at_once_or_later_in_status() {
    let emr = EmrNode::new(Node::bootstrapping(Profile::Emr71), "bash");
    let node = &emr.node;
    let status = || node.sh("runuser -u hadoop -- sudo emr-shs status");
    let wait_for = |text: &str| wait(text, || status().contains(text).then_some(()));
    // An error that `install` finds at once ends the cluster, and the log contains its message.
    let refused = emr.runs_true(ScriptKind::BootstrapAction, "1", &["--event-logs", "hdfs:///spark-events/"]);
    assert!(refused.emr.contains("the instance would be terminated"), "{refused:?}");
    refused.failed(2, &["error: ", "bootstrap: failed with exit code 2"]);

    // Provisioning does not end in time.
    let install = ["--event-logs", LOGS, "--verify", "--set", "spark.history.fs.update.interval=2s"];
    let told =
        emr.runs_true(ScriptKind::BootstrapAction, "2", &[&install[..], &["--provisioning-timeout", "10"]].concat());
    assert_eq!(told.err, "", "{told:?}");
    told.expect(
        0,
        &["/usr/bin/emr-shs has the given sha256 already", "Not installed yet: EMR is still provisioning this node"],
    );
    wait_for("EMR has not provisioned this node within 10 seconds");
    assert!(status().contains("tried again at the next boot"), "{}", status());

    // Provisioning ends, and S3 refuses.
    let refuse = json!({ "refuse": [{ "method": "PUT", "match": "/acme-spark/events", "status": 403, "code": "AccessDenied" }] });
    node.sh(&format!("echo '{refuse}' >/etc/lab/s3-fault.json; /opt/lab/s3-fault on; /opt/lab/provision hadoop spark"));
    let told = emr.runs_true(ScriptKind::BootstrapAction, "3", &install);
    told.expect(0, &["Not installed yet: EMR is still provisioning this node"]);
    node.sh("/opt/lab/provision configuration unit start record");
    wait_for("is not allowed to write to s3://acme-spark/events/");
    assert_eq!(node.reads(), "hdfs:///var/log/spark/apps", "nothing was changed");

    node.sh("/opt/lab/s3-fault off");
    node.reboot();
    wait("the proof", || node.sh("journalctl -u emr-shs-install --no-pager").contains("proved in").then_some(()));
    wait_for("installed ");
    assert_eq!(node.reads(), LOGS);
    // After the installation, another run of the script has nothing to do.
    emr.runs_true(ScriptKind::Step, "s-AFTER", &install[..2]).expect(0, &["already: nothing to copy", "nothing to do"]);
}
