//! `render iam-policy`: policies that IAM accepts, with the permissions that each side needs.

use super::*;

fn statements(policy: &Value) -> BTreeMap<String, &Value> {
    policy["Statement"].as_array().unwrap().iter().map(|s| (s["Sid"].as_str().unwrap().to_string(), s)).collect()
}

#[test]
fn policies_are_valid_for_every_side_and_partition() {
    let key = |partition: &str, region: &str| {
        format!("--kms-key arn:{partition}:kms:{region}:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab")
    };
    let places = "--event-logs s3a://acme-spark/events --event-logs s3://acme-more/sls --log-uri s3n://acme-logs/elasticmapreduce/ --log-uri s3://acme-logs/other --log-uri s3://acme-more/ --binaries s3://acme-tools/emr-shs";
    let mut template = serde_json::Map::new();
    for (partition, region, suffix) in [
        ("aws", "eu-west-3", "com"),
        ("aws-cn", "cn-north-1", "com.cn"),
        ("aws-us-gov", "us-gov-west-1", "com"),
        ("aws-eusc", "eusc-de-east-1", "eu"),
    ] {
        for sides in ["", "--for history-server", "--for jobs", "--for verify", "--for history-server,verify"] {
            let ran = elsewhere(&format!(
                "iam-policy {places} --region {region} --account 123456789012 {} {sides}",
                key(partition, region)
            ));
            let policy = json_of(&ran);
            let text = policy.to_string();
            assert!(!text.replace(&format!("arn:{partition}:"), "").contains("arn:"), "{text}");
            assert!(text.contains(&format!("\"s3.{region}.amazonaws.{suffix}\"")), "{text}");
            // The linters do not know the youngest partition and its region yet.
            let known: Value = serde_json::from_str(
                &text.replace("arn:aws-eusc:", "arn:aws:").replace(":eusc-de-east-1:", ":eu-west-3:"),
            )
            .unwrap();
            valid(&["policy"], &known.to_string());
            let resource = json!({"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": known}});
            template.insert(format!("Policy{}", template.len()), resource);
            assert!(!text.contains("s3:*") && !text.contains("s3:Put*"));
            for (sid, statement) in statements(&policy) {
                let wide = statement["Resource"] == json!(["*"]);
                assert_eq!(wide, sid == "DescribeSecurityConfiguration", "{statement}");
            }
        }
    }
    // The linter of CloudFormation checks the policies, too.
    valid(&["cloudformation"], &json!({ "Resources": template }).to_string());
}

#[test]
fn a_region_of_an_unknown_partition_is_named() {
    let policy = |region: &str| elsewhere(&format!("iam-policy --event-logs {LOGS} --region {region}"));
    let guessed = policy("xx-next-1").expect(0);
    assert!(guessed.out().contains("arn:aws:s3:::acme-spark"), "{}", guessed.out());
    let says = guessed.err().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(says.contains("does not know the region xx-next-1, so the ARNs are in the partition aws"), "{says}");
    for known in ["eu-west-3", "mx-central-1", "us-gov-west-1", "eusc-de-east-1"] {
        assert!(!policy(known).err().contains("does not know"), "{known}");
    }
}

#[test]
fn a_policy_for_one_side_grants_only_what_that_side_needs() {
    let places = format!("iam-policy --event-logs {LOGS} --log-uri s3://acme-logs/emr/ --region eu-west-3");
    let reader = json_of(&elsewhere(&format!("{places} --for history-server")));
    let reader = statements(&reader);
    let resources = |statement: &Value| statement["Resource"].to_string();
    let writes = ["s3:PutObject", "s3:DeleteObject"];
    for (sid, statement) in &reader {
        if writes.iter().any(|action| statement["Action"].to_string().contains(action)) {
            let whole = resources(statement).contains("/events/*") || resources(statement).contains("acme-logs");
            assert!(!whole, "{sid} lets the history server write logs: {statement}");
        }
    }
    assert!(
        resources(reader["ReadEventLogs"]).contains("\"arn:aws:s3:::acme-spark/events\""),
        "S3A asks for that, too"
    );
    let snapshot = "[\"arn:aws:s3:::acme-spark/events/.emr-shs/index-v1.zst\"]";
    assert_eq!(resources(reader["ShareIndex"]), snapshot);
    assert_eq!(reader["FindContainerLogs"]["Condition"], json!({"StringLike": {"s3:prefix": ["emr/*"]}}));
    assert!(reader.get("FindEventLogs").unwrap().get("Condition").is_none(), "or else a 404 becomes a 403");

    let jobs = json_of(&elsewhere(&format!("{places} --for jobs")));
    assert!(!jobs.to_string().contains("acme-logs") && !jobs.to_string().contains("elasticmapreduce:"), "{jobs}");
    let both = json_of(&elsewhere("iam-policy --event-logs s3://acme/events/ --log-uri s3://acme/logs/"));
    assert_eq!(both.to_string().matches("s3:ListBucket").count(), 1, "one bucket, one statement: {both}");
    let root = json_of(&elsewhere("iam-policy --event-logs s3://acme --for jobs"));
    assert_eq!(statements(&root)["ReadEventLogs"]["Resource"], json!(["arn:aws:s3:::acme/*"]));
}

#[test]
fn further_prefixes_are_only_listed_and_read() {
    let places = "iam-policy --event-logs s3://acme-spark/events/ --event-logs s3://acme-sls/logs/ --event-logs s3a://acme-spark/old \
                  --event-logs s3://acme-whole --log-uri s3://acme-sls/elasticmapreduce/ --region eu-west-3";
    let ran = elsewhere(places);
    let policy = json_of(&ran);
    valid(&["policy"], &policy.to_string());
    let of = statements(&policy);
    let arns = |places: &[&str]| json!(places.iter().map(|place| format!("arn:aws:s3:::{place}")).collect::<Vec<_>>());
    assert_eq!(of["FindEventLogs"]["Resource"], arns(&["acme-spark", "acme-sls", "acme-whole"]));
    assert!(!of.contains_key("FindContainerLogs"), "one bucket, one statement: {policy}");
    let read = [
        "acme-spark/events",
        "acme-spark/events/*",
        "acme-sls/logs",
        "acme-sls/logs/*",
        "acme-spark/old",
        "acme-spark/old/*",
    ];
    assert_eq!(of["ReadEventLogs"]["Resource"], arns(&[&read[..], &["acme-whole/*"]].concat()));
    let mut written = 0;
    for (sid, statement) in &of {
        if statement["Action"].to_string().contains("Put") || statement["Action"].to_string().contains("Delete") {
            let resources = statement["Resource"].as_array().unwrap().iter().map(|arn| arn.as_str().unwrap());
            let is_of_first = |arn: &str| arn.starts_with("arn:aws:s3:::acme-spark/events/");
            assert!(sid == "ProveContainerLogs" || resources.into_iter().all(is_of_first), "{sid}: {statement}");
            written += 1;
        }
    }
    assert!(written > 1, "{policy}");
    let reader = json_of(&elsewhere(&format!("{places} --for history-server")));
    assert_eq!(statements(&reader)["ShareIndex"]["Resource"], arns(&["acme-spark/events/.emr-shs/index-v1.zst"]));
    assert_eq!(statements(&reader)["ReadEventLogs"]["Resource"], of["ReadEventLogs"]["Resource"]);
    let says = ran.err().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(says.contains("acme-spark and acme-sls and acme-whole"), "{says}");
    assert!(says.contains("Only s3://acme-spark/events/ may be written"), "{says}");

    // Neither the jobs nor verify look at what others have written.
    for side in ["jobs", "verify"] {
        let policy = json_of(&elsewhere(&format!("{places} --for {side}")));
        let of = statements(&policy);
        assert_eq!(of["FindEventLogs"]["Resource"], arns(&["acme-spark"]), "{side}");
        assert_eq!(of["ReadEventLogs"]["Resource"], arns(&["acme-spark/events", "acme-spark/events/*"]), "{side}");
    }
}

#[test]
fn the_policy_of_an_installed_index_has_all_its_prefixes() {
    let root = RootDir::new();
    let words =
        ["install", "--index", "--event-logs", "s3://acme-spark/events/", "--event-logs", "s3://acme-sls/logs/"];
    let installed = root.run(&words);
    assert_eq!(installed.code(), 0, "{}", installed.err());
    let policy = json_of(&root.run(&["render", "iam-policy"]));
    assert!(policy.to_string().contains("arn:aws:s3:::acme-sls/logs/*"), "{policy}");
}
