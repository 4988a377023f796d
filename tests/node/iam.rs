//! A role with exactly the policy of `render iam-policy` can run `install`, `verify` and `doctor`. Without any one of its
//! actions, a message names that action. The lab's S3 server enforces the policies. Nothing enforces those of EMR and KMS.

use crate::helpers::node::{LOGS, Node, Profile};
use serde_json::{Value, json};

/// Makes the rendered policy that of each bucket for the account `limited`, without the action `less.1` of the statement with Sid `less.0`.
pub(crate) fn obey(node: &Node, policy: &Value, less: Option<(&str, &str)>) {
    for bucket in ["acme-spark", "acme-logs"] {
        let mut statements = Vec::new();
        for statement in policy["Statement"].as_array().unwrap() {
            let mut own = statement.clone();
            let of_bucket = |arn: &&Value| {
                let arn = arn.as_str().unwrap();
                arn == format!("arn:aws:s3:::{bucket}") || arn.starts_with(&format!("arn:aws:s3:::{bucket}/"))
            };
            own["Resource"] = statement["Resource"].as_array().unwrap().iter().filter(of_bucket).cloned().collect();
            // On AWS `events/*` matches the marker `events/`, on the lab's S3 server it does not.
            let resources = own["Resource"].as_array_mut().unwrap();
            let marker =
                resources.iter().find_map(|arn| arn.as_str().unwrap().strip_suffix("/events/*").map(str::to_string));
            resources.extend(
                marker.iter().flat_map(|arn| [json!(format!("{arn}/events")), json!(format!("{arn}/events/"))]),
            );
            own["Action"].as_array_mut().unwrap().retain(|action| {
                action.as_str().unwrap().starts_with("s3:")
                    && less.is_none_or(|(sid, other)| statement["Sid"] != sid || action != other)
            });
            own["Principal"] = json!({ "AWS": ["limited"] });
            let empty = |member: &str| own[member].as_array().unwrap().is_empty();
            if !empty("Resource") && !empty("Action") {
                statements.push(own);
            }
        }
        if statements.is_empty() {
            continue;
        }
        let text = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
        std::fs::write(node.path("/srv/policy"), text).unwrap();
        node.sh(&format!("/opt/lab/s3 policy s3://{bucket} /srv/policy"));
    }
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_rendered_policy_suffices_and_each_of_its_actions_is_needed() {
    let node = Node::fresh(Profile::Emr712);
    let policy = node.emr_shs(&["render", "iam-policy", "--event-logs", LOGS]).expect(0);
    assert!(policy.err().contains("--role-name EMR_EC2_DefaultRole"), "{}", policy.err());
    let policy: Value = serde_json::from_str(&policy.out()).unwrap();
    assert!(policy.to_string().contains("acme-logs/elasticmapreduce"), "the cluster's own log URI: {policy}");
    node.sh("/opt/lab/s3 user limited limitedsecret user");
    obey(&node, &policy, None);
    // The node's role and the history server use the limited account.
    node.sh("echo limited >/etc/lab/session-user
             sed -i 's/>labroot</>limited</; s/>labrootsecret</>limitedsecret</' /etc/hadoop/conf/core-site.xml");
    let often = "spark.history.fs.update.interval=2s";
    node.emr_shs(&["install", "--event-logs", LOGS, "--set", often, "--verify"]).expect(0);
    node.spark_submit("rights");
    node.wait_for_applications(1);
    let doctor = node.emr_shs(&["doctor"]).expect(0).out();
    assert!(!doctor.contains("FAIL "), "{doctor}");

    for (sid, action) in [
        ("FindEventLogs", "s3:ListBucket"),
        ("ReadEventLogs", "s3:GetObject"),
        ("WriteEventLogs", "s3:PutObject"),
        ("WriteEventLogs", "s3:DeleteObject"),
        ("FindContainerLogs", "s3:ListBucket"),
        ("ReadContainerLogs", "s3:GetObject"),
        ("ProveContainerLogs", "s3:PutObject"),
        ("ProveContainerLogs", "s3:DeleteObject"),
    ] {
        obey(&node, &policy, Some((sid, action)));
        // The gateway caches what it has found, so restart it.
        node.sh("systemctl reset-failed emr-shs-gateway; systemctl restart emr-shs-gateway");
        let doctor = node.emr_shs(&["doctor"]);
        let mut said = doctor.out();
        if doctor.code() == 0 {
            // A container log that verify must not write is no failure: EMR writes such logs in its own way.
            let code = if action == "s3:PutObject" { 0 } else { 3 };
            let seconds = if code == 0 { "120" } else { "30" };
            let verify = node.emr_shs(&["verify", "--timeout", seconds]).expect(code);
            said += &(verify.out() + &verify.err());
        }
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(action), "without {action} of {sid} nothing names it: {said}");
    }
    obey(&node, &policy, None);
    node.emr_shs(&["verify"]).expect(0);

    // A region that no table of emr-shs has: the metadata service of a node there names its partition.
    let next =
        json!({ "placement/region": "xx-next-1", "services/partition": "aws-next", "services/domain": "next.example" });
    node.stand_in("metadata", next);
    let key = "arn:aws-next:kms:xx-next-1:111122223333:key/0a1b2c3d-0000-4000-8000-000000000000";
    let policy = |region: &str| {
        node.emr_shs(&["render", "iam-policy", "--event-logs", LOGS, "--region", region, "--kms-key", key]).expect(0)
    };
    let told = policy("xx-next-1");
    assert!(!told.out().contains("arn:aws:") && told.out().contains("arn:aws-next:s3:::acme-spark"), "{}", told.out());
    assert!(told.out().contains("\"s3.xx-next-1.next.example\""), "{}", told.out());
    assert!(!told.err().contains("does not know"), "{}", told.err());
    let other = policy("yy-next-1");
    assert!(other.out().contains("arn:aws:s3:::acme-spark"), "{}", other.out());
    assert!(other.err().contains("does not know the region yy-next-1"), "{}", other.err());
}
