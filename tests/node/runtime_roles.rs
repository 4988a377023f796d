//! A cluster whose jobs run under roles of their own: `install` knows before its first change.

use crate::helpers::command_output::assert_same_tree;
use crate::helpers::node::{CLUSTER, LOGS, Node, Profile};
use serde_json::json;

const USERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/htpasswd");

#[track_caller]
fn says(text: &str, wanted: &[&str]) {
    for said in wanted {
        assert!(text.contains(said), "wanted “{said}” in {text}");
    }
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn install_opens_no_logs_to_jobs_that_have_roles_of_their_own() {
    let node = Node::fresh(Profile::Emr712);
    // Role mappings of EMRFS count alike.
    let mappings =
        json!([{"Role": "arn:aws:iam::123456789012:role/a", "IdentifierType": "User", "Identifiers": ["a"]}]);
    let mappings = json!({"AuthorizationConfiguration": {"EmrFsConfiguration": {"RoleMappings": mappings}}});
    let roles = json!({"AuthorizationConfiguration": {"IAMConfiguration": {"EnableApplicationScopedIAMRole": true}}});
    node.stand_in("security_configuration", mappings);
    node.stand_in(
        "cluster",
        json!({ "Id": CLUSTER, "LogUri": "s3n://acme-logs/elasticmapreduce/", "SecurityConfiguration": "roles", "Status": { "State": "WAITING" } }),
    );
    let ran = node.emr_shs(&["plan", "--event-logs", LOGS]).expect(3);
    says(&ran.err(), &["roles of their own", "role mappings of EMRFS", "nothing was changed", "--history-only"]);
    node.stand_in("security_configuration", roles);
    let before = node.tree();
    for command in ["plan", "install", "configure"] {
        let ran = node.emr_shs(&[command, "--event-logs", LOGS]).expect(3);
        says(&ran.err(), &["roles of their own", "nothing was changed", "--history-only", "--force", "--for jobs"]);
    }
    let ran = node.emr_shs(&["proxy", "install"]).expect(3);
    says(&ran.err(), &["without a login", "--htpasswd", "nothing was changed"]);
    assert_same_tree(&before, &node.tree());

    // The rest can be installed. The gateway is missing, and that is said.
    let plan = node.emr_shs(&["plan", "--history-only", "--event-logs", LOGS, "--check"]).expect(4).out();
    says(&plan, &["missing log gateway", "without a login"]);
    assert!(!plan.contains("spark.eventLog.dir"), "{plan}");
    let ran = node.emr_shs(&["install", "--history-only", "--event-logs", LOGS]).expect(5);
    says(&ran.err(), &["missing log gateway", "without a login", "groupadd --system emr-shs", "--no-proxy"]);
    assert_ne!(node.run(&["curl", "-s", "localhost:9977/-/healthz"]).code(), 0);
    assert!(node.sh("cat /etc/spark/conf/spark-defaults.conf").contains("spark.eventLog.dir               hdfs://"));
    node.emr_shs(&["doctor"]).expect(3);

    // As the hint says, with a login.
    node.sh("groupadd --system emr-shs; install -d /etc/emr-shs");
    node.copy(USERS, "/srv/users");
    node.sh("install -m 640 -g emr-shs /srv/users /etc/emr-shs/");
    node.emr_shs(&["proxy", "install", "--tls-self-signed", "--htpasswd", "/etc/emr-shs/users"]).expect(0);
    let log = "https://localhost:9977/logs/container_1795352263709_0001_01_000002/stderr";
    assert_eq!(node.sh(&format!("curl -sk -o /dev/null -w '%{{http_code}}' {log}")), "401");
    node.emr_shs(&["restart"]).expect(0);
    node.emr_shs(&["plan", "--check"]).expect(0);

    // The user may say that every role can write there.
    node.emr_shs(&["install", "--history-only=false", "--force"]).expect(0);
    assert!(node.sh("cat /etc/spark/conf/spark-defaults.conf").contains("spark.eventLog.dir               s3://"));
    node.emr_shs(&["install"]).expect(0);

    // Without the login the gateway goes.
    node.emr_shs(&["install", "--htpasswd", ""]).expect(5);
    assert_ne!(node.run(&["curl", "-sk", "https://localhost:9977/-/healthz"]).code(), 0);
    node.emr_shs(&["uninstall"]).expect(0);

    // Where EMR does not tell, the plan says what that means.
    let denied = json!({"__type": "AccessDeniedException", "Message": "not authorized to perform: elasticmapreduce:DescribeSecurityConfiguration"});
    node.stand_in("security_configuration_error", denied);
    let words = node.emr_shs(&["plan", "--event-logs", LOGS]).expect(0).out();
    says(&words.split_whitespace().collect::<Vec<_>>().join(" "), &["did not tell whether jobs", "needs a login"]);
}
