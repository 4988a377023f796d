//! The commands and lifecycle rules of `docs/scale.md` work on a node.

use crate::helpers::node::{Node, Profile};
use crate::helpers::wait::wait;

const PAGE: &str = include_str!("../../docs/scale.md");

/// How many attempts of applications `Node::upload_event_logs` uploads.
const ATTEMPTS: usize = 10;

fn commands() -> Vec<&'static str> {
    PAGE.lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(char::is_alphanumeric))
        .collect()
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_commands_in_scale_md_work() {
    let node = Node::fresh(Profile::Emr712);
    let all = commands();
    assert_eq!(all.len(), 22, "{all:?}");
    let (of_index, commands) = all.split_at(6);
    let (of_troubles, commands) = commands.split_at(9);
    // cron passes a line to the shell without its time and user, and with \% as %.
    let run = |command: &str| {
        let command = command.replace("my-bucket", "acme-spark").replace("my-logs", "acme-logs").replace("sudo ", "");
        let command = command.replace("0 0 1 * * root /usr/bin/", "").replace("\\%", "%");
        node.sh(&format!("{command} 2>&1"))
    };
    let ran = |n: usize| run(commands[n]);
    let (cache, prefix) = ("file:///mnt/emr-shs/event-log-cache", "s3://acme-spark/spark-events/");
    for (command, reads) in of_index.iter().zip([cache, cache, cache, prefix, cache, cache]) {
        run(command);
        // With the port taken, its page is the gateway's.
        if !command.ends_with("--take-port") {
            assert_eq!(node.reads(), reads, "{command}");
        }
    }
    node.upload_event_logs("s3://acme-spark/spark-events/");
    node.emr_shs(&["install", "--index"]).expect(0);
    let lists = || {
        let list = node.sh("curl -sS localhost:9977/api/v1/applications || true");
        list.contains("application_1795352263709_0001").then_some(())
    };
    wait("the list", lists);
    let said: String = of_troubles.iter().map(|command| run(command)).collect();
    assert!(said.contains("attempts of applications") && said.contains("application_1795352263709_0001"), "{said}");
    assert!(said.contains("delete: s3://acme-spark/spark-events/.emr-shs/index-v1.zst"), "{said}");
    assert!(node.sh("grep CACHE_COUNT /etc/emr-shs/gateway.env").contains("300"));
    wait("the list again", lists);
    node.emr_shs(&["uninstall"]).expect(0);
    node.sh("aws s3 rm --recursive s3://acme-spark/spark-events/");

    node.emr_shs(&["install", "--event-logs", "s3://acme-spark/spark-events/"]).expect(0);
    node.upload_event_logs("s3://acme-spark/spark-events/");
    ran(0);
    assert!(node.sh("cat /etc/spark/conf/spark-defaults.conf").contains("spark.eventLog.rolling.enabled"));
    let listed = node.wait_for_attempts(ATTEMPTS).len();

    assert!(ran(1).contains("restart"));
    ran(2);
    assert_eq!(node.reads(), "s3://acme-spark/spark-events/2026-12/");
    assert_eq!(node.wait_for_applications(0).len(), 0, "what is in the old prefix leaves the list");
    // The server reads the old prefix although a directory lies in it.
    node.emr_shs(&["install", "--event-logs", "s3://acme-spark/spark-events/"]).expect(0);
    assert_eq!(node.wait_for_attempts(ATTEMPTS).len(), listed);
    let log = node.sh("cat /var/log/spark/spark-history-server.out");
    assert!(!log.contains("ERROR"), "{log}");
    ran(3);
    assert_eq!(node.reads(), "s3://acme-spark/spark-events/2026-11/");
    ran(4);
    assert!(node.reads().starts_with("s3://acme-spark/spark-events/20"));
    node.emr_shs(&["uninstall"]).expect(0);

    ran(5);
    let defaults = node.sh("cat /etc/spark/conf/spark-defaults.conf");
    let directory = defaults.lines().find(|line| line.starts_with("spark.eventLog.dir")).unwrap();
    assert!(directory.ends_with("hdfs:///var/log/spark/apps"), "a viewer's own jobs log where they did: {directory}");
    assert_eq!(node.reads(), "s3://acme-spark/spark-events/2026-11/");

    // The AWS CLI accepts the rules and sends them. The lab's S3 server does not know the request.
    let rules = PAGE.split("```json").nth(1).unwrap().split("```").next().unwrap();
    std::fs::write(node.path("/root/lifecycle.json"), rules).unwrap();
    let sent = node.run(&["bash", "-c", &commands[6].replace("my-bucket", "acme-spark")]);
    assert!(
        sent.code() == 0 || sent.err().contains("when calling the PutBucketLifecycleConfiguration"),
        "{}",
        sent.err()
    );
}
