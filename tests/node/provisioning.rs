//! `install` in a bootstrap action, before EMR has installed Spark: a unit finishes it when the node is provisioned.

use crate::helpers::node::{LOGS, Node, Profile};
use crate::helpers::wait::{wait, wait_within};
use serde_json::{Value, json};
use std::time::Duration;

const INSTALL: [&str; 4] = ["install", "--if-primary", "--event-logs", LOGS];
const UNIT: &str = "emr-shs-install.service";
/// Finds files that the account nobody can read, with a secret of these tests.
const READABLE_BY_OTHERS: &str = "cd /; runuser -u nobody -- find / -xdev -type f -size -1000k -readable -exec grep -l 'sesame [4]711' {} + 2>/dev/null || true";
const SERVER: [&str; 5] = ["hadoop", "spark", "configuration", "unit", "start"];

fn provision(node: &Node, stages: &[&str]) {
    node.run(&[&["/opt/lab/provision"], stages].concat()).expect(0);
}

fn status(node: &Node) -> String {
    node.emr_shs(&["status"]).expect(0).out()
}

fn wait_for_status(node: &Node, text: &str) {
    wait(&format!("the status to say “{text}”"), || status(node).contains(text).then_some(()));
}

/// Waits until the deferred installation is done: `status` reports it, and nothing of the unit is left.
fn wait_until_installed(node: &Node) {
    // The unit's process removes the unit's file, then writes the receipt, then ends.
    // The unit starts a killed process again after ten seconds, asks EMR every five, and then there are a restart and a proof.
    wait_within(Duration::from_secs(300), "the unit's file to be gone and its process to have ended", || {
        let state = node.sh(&format!("systemctl show -P LoadState -P ActiveState {UNIT}"));
        (state.split_whitespace().eq(["not-found", "inactive"])).then_some(())
    });
    assert!(status(node).contains("installed "), "{}", status(node));
    assert_eq!(node.reads(), LOGS);
    let left =
        node.sh("find / -xdev -name 'emr-shs-install*' -o -xdev -name install.env; systemctl --failed --plain -q");
    assert_eq!(left, "");
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn a_bootstrap_action_leaves_the_install_to_a_unit() {
    let node = Node::bootstrapping(Profile::Emr712);
    cluster_is(&node, "BOOTSTRAPPING");
    // Characters that unit files and environment files treat specially.
    let title = "It's $HOME %n \\ \"100%\" ; * é";
    let secret = format!("EMR_SHS_SET=spark.history.acme.password=open sesame 4711\nspark.history.ui.title={title}");
    let left = node.run(&[&["env", "EMR_SHS_VERIFY=true", &secret, "emr-shs"], &INSTALL[..]].concat()).expect(0);
    assert!(left.err().contains("waits until the node is provisioned"), "{}", left.err());
    assert_eq!(node.sh(&format!("systemd-analyze verify /etc/systemd/system/{UNIT} 2>&1")), "");
    wait_for_status(&node, "waiting for Spark, since ");
    let line = doctor(&node, "provisioning");
    assert_eq!(line["result"], "skip");
    assert!(line["found"].as_str().unwrap().contains("waiting for Spark"), "{line}");
    // What others can read names no secret: neither the unit, nor its arguments and variables.
    let seen = node.sh(&format!("ps -eo args; systemctl show {UNIT}; {READABLE_BY_OTHERS}"));
    assert!(!seen.contains("sesame 4711"), "{seen}");
    // Commands for single components cannot wait, and say so.
    let link = node.emr_shs(&["link"]).expect(3);
    assert!(link.err().contains("installs Spark after bootstrap actions"), "{}", link.err());
    // A second `install` replaces the first.
    let json: Value =
        serde_json::from_str(&node.emr_shs(&[&INSTALL[..], &["--json"]].concat()).expect(0).out()).unwrap();
    assert_eq!((&json["result"], &json["unit"]), (&json!("waiting"), &json!(UNIT)));
    assert!(json["changes"].as_array().unwrap().iter().any(|c| c["name"] == UNIT), "{json}");

    provision(&node, &SERVER[..4]);
    wait_for_status(&node, "waiting for the history server's first start");
    provision(&node, &["start"]);
    wait_for_status(&node, "waiting for job-flow-state.txt to say that provisioning has finished");
    // It continues after a reboot.
    node.reboot();
    wait_for_status(&node, "waiting for job-flow-state.txt to say that provisioning has finished");
    assert!(!node.sh("cat /etc/spark/conf/spark-defaults.conf").contains(LOGS), "EMR is not done with the node");
    provision(&node, &["record"]);
    wait_until_installed(&node);

    let listed = node.emr_shs(&["status", "-v"]).expect(0).out();
    assert!(listed.contains(title), "every character: {listed}");
    // The secret has arrived, in the file where Spark reads it, which has the mode that it had.
    let seen = node.sh(&format!("{READABLE_BY_OTHERS}; journalctl | grep [s]esame || true"));
    assert_eq!(seen, "/etc/spark/conf.dist/spark-defaults.conf\n");
    let defaults = node.sh("cat /etc/spark/conf/spark-defaults.conf");
    let set = defaults.lines().find_map(|line| line.strip_prefix("spark.history.acme.password")).unwrap_or_default();
    assert_eq!(set.trim(), "open sesame 4711");
    node.emr_shs(&["verify"]).expect(0);
    assert_eq!(doctor(&node, "provisioning")["found"], "finished");
    assert!(node.emr_shs(&["install"]).expect(0).err().contains("nothing to do"));
    node.emr_shs(&["uninstall"]).expect(0);
    assert!(node.answers(), "as it was before");
    assert_eq!(node.sh("find / -xdev -name '*emr-shs*' -not -path '/usr/local/bin/*' -not -path '/var/tmp/*'"), "");
}

/// Sets the state that DescribeCluster returns.
fn cluster_is(node: &Node, state: &str) {
    let settings: Value = serde_json::from_str(&node.sh("cat /etc/lab/standin.json")).unwrap();
    let mut cluster = settings["cluster"].clone();
    cluster["Status"] = json!({ "State": state });
    node.stand_in("cluster", cluster);
}

fn doctor(node: &Node, name: &str) -> Value {
    let report: Value = serde_json::from_str(&node.emr_shs(&["doctor", "--json"]).out()).unwrap();
    report["checks"].as_array().unwrap().iter().find(|line| line["name"] == name).unwrap().clone()
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn a_deferred_install_reports_its_failure_and_retries_at_boot() {
    let node = Node::bootstrapping(Profile::Emr712);
    // Errors that can be found at once are reported at once.
    node.emr_shs(&["install", "--event-logs", "hdfs:///spark-events/"]).expect(2);
    node.emr_shs(&["install"]).expect(2);
    assert_eq!(node.sh("ls -A /var/lib/emr-shs /etc/emr-shs 2>/dev/null || true"), "");

    // Provisioning does not end in time.
    node.emr_shs(&[&INSTALL[..], &["--provisioning-timeout", "10"]].concat()).expect(0);
    wait_for_status(&node, "Spark is still missing, so nothing is installed");
    assert!(status(&node).contains("EMR has not provisioned this node within 10 seconds"), "{}", status(&node));
    let line = doctor(&node, "provisioning");
    assert_eq!(line["result"], "fail", "{line}");
    assert!(line["found"].as_str().unwrap().contains("has not provisioned this node within 10 seconds"), "{line}");
    // `uninstall` leaves nothing behind.
    node.emr_shs(&["uninstall"]).expect(0);
    assert_eq!(
        node.sh("find / -xdev -name '*emr-shs*' -not -path '/usr/local/bin/*'; systemctl --failed --plain -q"),
        ""
    );

    // The history server starts, and S3 refuses.
    node.emr_shs(&INSTALL).expect(0);
    let refuse =
        json!({ "refuse": [{ "method": "PUT", "match": "/acme-spark/", "status": 403, "code": "AccessDenied" }] });
    node.sh(&format!("echo '{refuse}' >/etc/lab/s3-fault.json; /opt/lab/s3-fault on"));
    provision(&node, &[]);
    wait_for_status(&node, "is not allowed to write to s3://acme-spark/events/");
    let said = status(&node);
    assert!(said.contains("failed ") && said.contains("hint: ") && said.contains("sudo emr-shs install"), "{said}");
    wait("the history server", || node.answers().then_some(()));
    assert_eq!(node.reads(), "hdfs:///var/log/spark/apps", "nothing was changed");
    node.sh("/opt/lab/s3-fault off");
    node.reboot();
    wait_until_installed(&node);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn without_job_flow_state_the_emr_api_says_when_to_install() {
    let node = Node::bootstrapping(Profile::Emr81);
    node.sh("rm /mnt/var/lib/info/job-flow-state.txt");
    cluster_is(&node, "BOOTSTRAPPING");
    node.emr_shs(&INSTALL).expect(0);
    provision(&node, &SERVER);
    wait_for_status(&node, "waiting for EMR to say that the cluster runs");
    // When it is killed during its work, systemd starts it again, also at the next boot.
    cluster_is(&node, "RUNNING");
    let process = || node.sh(&format!("systemctl show -P MainPID {UNIT}")).trim().to_string();
    for again in [false, true] {
        wait_for_status(&node, "installing, since ");
        let killed = process();
        node.sh(&format!("systemctl kill -s KILL {UNIT}"));
        if again {
            node.reboot();
        } else {
            wait_for_status(&node, "waiting for systemd to start it again, because its process was killed");
            wait("another process of the unit", || {
                (![killed.as_str(), "0"].contains(&process().as_str())).then_some(())
            });
        }
    }
    wait_until_installed(&node);
    node.emr_shs(&["uninstall"]).expect(0);

    // A user installs by hand while the unit waits.
    node.sh("rm -r /usr/lib/spark/jars.away 2>/dev/null; mv /usr/lib/spark/jars /usr/lib/spark/jars.away");
    node.emr_shs(&INSTALL).expect(0);
    cluster_is(&node, "STARTING");
    node.sh("mv /usr/lib/spark/jars.away /usr/lib/spark/jars");
    wait_for_status(&node, "waiting for EMR to say that the cluster runs");
    node.emr_shs(&["install"]).expect(0);
    wait_until_installed(&node);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn a_deferred_install_keeps_a_password_secret() {
    let node = Node::bootstrapping(Profile::Emr81);
    node.sh(
        "rm -r /mnt/var/lib/info /emr/instance-controller/lib/info 2>/dev/null; ! ls /mnt/var/lib/info 2>/dev/null",
    );
    // By hand, `install` refuses a machine without EMR's files. With --if-primary it must not end the cluster.
    let refused = node.emr_shs(&["install", "--event-logs", LOGS]).expect(3);
    assert!(refused.err().contains("no file says that this is an EMR node"), "{}", refused.err());
    let keys = "spark.history.ui.maxApplications=7\nspark.history.retainedApplications=3";
    let environment = [
        format!("EMR_SHS_SET={keys}"),
        "HTTPS_PROXY=http://alice:sesame@proxy.example:3128".into(),
        "no_proxy=169.254.169.254".into(),
        "JAVA_TOOL_OPTIONS=-Dlost".into(),
        "AWS_SECRET_ACCESS_KEY=sesame".into(),
    ];
    let command = [&["env"], &environment.each_ref().map(String::as_str)[..], &["emr-shs"], &INSTALL[..]].concat();
    let ran = node.run(&[&command[..], &["--login", "alice:open sesame", "--json"]].concat()).expect(0);
    assert!(!ran.out().contains("sesame") && !ran.err().contains("sesame"), "{}{}", ran.out(), ran.err());
    // Of the variables, the unit's run gets the proxies and emr-shs's own.
    let names = node.sh("sed -n 's/=.*//p' /etc/emr-shs/install.env");
    assert_eq!(
        names.split_whitespace().collect::<Vec<_>>(),
        ["EMR_SHS_IN_UNIT", "HTTPS_PROXY", "no_proxy", "EMR_SHS_STARTED_AS"],
        "{names}"
    );
    // Between fork and exec, the process has systemd's own variables.
    let of_run = wait("the unit's program to begin", || {
        let variables =
            node.sh(&format!("tr '\\0' '\\n' </proc/$(systemctl show -p MainPID --value {UNIT})/environ || true"));
        variables.contains("EMR_SHS_IN_UNIT").then_some(variables)
    });
    assert!(of_run.contains("HTTPS_PROXY=http://alice:sesame@proxy.example:3128\nno_proxy="), "{of_run}");
    assert!(!of_run.contains("JAVA_TOOL") && !of_run.contains("SECRET_ACCESS"), "{of_run}");
    let seen = node.sh(&format!("cat /etc/systemd/system/{UNIT}; ps -eo args; systemctl show {UNIT}"));
    assert!(!seen.contains("sesame"), "{seen}");
    // Only the receipt, which the unit's run reads, has what `--set` named.
    assert!(!seen.contains("retainedApplications"), "{seen}");
    assert!(node.sh("cat /var/lib/emr-shs/receipt.json").contains(r#""spark.history.retainedApplications": "3""#));
    // As root, `install --verify` needs no login, so the password lies nowhere.
    assert!(!node.sh("grep -rl 'open sesame' /etc /var/lib/emr-shs || true").contains('/'));
    assert_eq!(node.sh("stat -c %a /etc/emr-shs/install.env").trim(), "600");
    node.emr_shs(&["uninstall"]).expect(0);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn a_worker_node_is_left_alone() {
    let node = Node::bootstrapping(Profile::Emr71);
    node.sh(r#"echo '{"instanceGroupId":"ig-1","isMaster":false}' >/mnt/var/lib/info/instance.json"#);
    let passed = node.emr_shs(&INSTALL).expect(0);
    assert_eq!(passed.err(), "not the primary node: nothing to do here\n");
    let refused = node.emr_shs(&["install", "--event-logs", LOGS]).expect(3);
    assert!(refused.err().contains("not the cluster's primary node"), "{}", refused.err());
    assert_eq!(node.sh("find / -xdev -name '*emr-shs*' -not -path '/usr/local/bin/*'"), "");
}
