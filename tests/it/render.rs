//! What `render` prints is what AWS, CloudFormation, Terraform and Docker take: each document goes
//! through the validator of whoever reads it, and says what an installation does.

use crate::helpers::command_output::{CommandOutput, assert_same_tree};
use crate::helpers::python_packages::python_packages;
use crate::helpers::root_dir::{DEFAULTS, RootDir};
use emr_shs::properties::SparkDefaults;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const LOGS: &str = "s3://acme-spark/events/";
const SUM: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER_SUM: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
const APPLICATION: &str = "00f1r2fo0l4l4l09";

/// Runs it on a machine that is no EMR node, with the words of a line.
fn elsewhere(line: &str) -> CommandOutput {
    elsewhere_with(&line.split_whitespace().collect::<Vec<_>>())
}

fn elsewhere_with(args: &[&str]) -> CommandOutput {
    let root = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_emr-shs"));
    command.args(["--root", root.path().to_str().unwrap(), "render"]).args(args);
    CommandOutput(command.output().unwrap())
}

fn json_of(ran: &CommandOutput) -> Value {
    assert_eq!(ran.code(), 0, "{}", ran.err());
    serde_json::from_str(&ran.out()).unwrap_or_else(|e| panic!("{e}: {}", ran.out()))
}

fn validators() -> PathBuf {
    let digest = Sha256::digest(include_bytes!("../fixtures/validators.txt"));
    let name: String = digest.iter().take(6).map(|b| format!("{b:02x}")).collect();
    python_packages(&format!("validators-{name}"), "tests/fixtures/validators.txt")
}

fn botocore() -> PathBuf {
    let pins = include_str!("../fixtures/botocore.txt");
    let version = pins.split_once("botocore==").unwrap().1.split_whitespace().next().unwrap();
    python_packages(&format!("botocore-{version}"), "tests/fixtures/botocore.txt")
}

/// What tests/fixtures/validate.py finds, and what it prints besides.
fn findings_in(dir: &Path, what: &[&str], text: &str) -> (String, String) {
    let packages = std::env::join_paths([validators(), botocore()]).unwrap();
    let mut child = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/validate.py"))
        .args(what)
        .current_dir(dir)
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("VALIDATORS", validators())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let (found, besides) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert!(out.status.success(), "{what:?}: {besides}");
    (found, besides)
}

fn findings(what: &[&str], text: &str) -> String {
    findings_in(Path::new("/"), what, text).0
}

#[track_caller]
fn valid(what: &[&str], text: &str) {
    let found = findings(what, text);
    assert!(found.is_empty(), "{what:?}:\n{found}\n{text}");
}

/// The requests that a script's `aws` commands make, and its `docker` commands, in a directory.
#[track_caller]
fn requests_of(dir: &Path, script: &str) -> Vec<Value> {
    let (found, requests) = findings_in(dir, &["aws-commands"], script);
    assert!(found.is_empty(), "{found}\n{script}");
    requests.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[track_caller]
fn request<'a>(requests: &'a [Value], target: &str) -> &'a str {
    let found = requests.iter().find(|r| r["target"] == target || r["path"].as_str().unwrap().contains(target));
    found.unwrap_or_else(|| panic!("no {target} in {requests:#?}"))["body"].as_str().unwrap()
}

/// The spark-defaults of EMR configurations, which is the first classification.
fn properties(configurations: &Value) -> BTreeMap<String, String> {
    assert_eq!(configurations[0]["Classification"], "spark-defaults");
    serde_json::from_value(configurations[0]["Properties"].clone()).unwrap()
}

/// As RunJobFlow takes them.
#[track_caller]
fn valid_configurations(configurations: &Value) {
    let whole = json!({ "Name": "x", "Instances": {}, "Configurations": configurations });
    valid(&["shape", "emr", "RunJobFlow"], &whole.to_string());
}

/// What a plan sets, by its own JSON.
fn keys_of_plan(plan: &Value) -> BTreeMap<String, String> {
    let rows = plan["changes"].as_array().unwrap().iter();
    let keys =
        rows.filter(|row| row["resource"]["kind"] == "key" && !row["why"].as_str().unwrap().contains("set already"));
    keys.map(|row| {
        let line = SparkDefaults::parse(row["after"]["raw"].as_str().unwrap().as_bytes()).unwrap();
        let (key, value) = line.iter().next().unwrap();
        (key.to_string(), value.to_string())
    })
    .collect()
}

#[test]
fn a_nodes_configuration_has_exactly_the_keys_of_its_plan() {
    let root = RootDir::new();
    let kept = "spark.history.fs.update.interval";
    root.write(DEFAULTS, &format!("{}\n{kept} 5s\n", root.read(DEFAULTS)));
    let args =
        ["--event-logs", LOGS, "--set", "spark.history.ui.title=Ours", "--set", "spark.history.retainedApplications=7"];
    let plan = json_of(&root.run(&[&["--json", "plan"], &args[..]].concat()));
    let planned = keys_of_plan(&plan);
    assert!(planned.len() > 7 && !planned.contains_key(kept), "{planned:?}");
    let before = root.tree();
    let ran = root.run(&[&["render", "cluster-config"], &args[..]].concat());
    assert_eq!(properties(&json_of(&ran)), planned);
    assert!(
        ran.err().contains("Not for this cluster yet") && ran.err().contains(&format!("install --event-logs {LOGS}")),
        "{}",
        ran.err()
    );
    assert_same_tree(&before, &root.tree());
    valid_configurations(&json_of(&ran));

    root.run(&[&["install"], &args[..]].concat()).expect(0);
    let ran = root.run(&["render", "cluster-config"]);
    assert_eq!(properties(&json_of(&ran)), planned, "once installed, without arguments");
    assert!(ran.err().contains("Safe on this cluster now"), "{}", ran.err());

    // A reconfiguration has written the file anew.
    root.write(DEFAULTS, include_str!("../../lab/emr/spark-defaults-7.1.0.conf"));
    let ran = root.run(&["render", "cluster-config"]);
    let mut drifted = properties(&json_of(&ran));
    assert_eq!(drifted.remove(kept).as_deref(), Some("60s"), "nobody else sets it any more");
    assert_eq!(drifted, planned);
}

#[test]
fn elsewhere_it_has_what_the_release_tells_and_leaves_the_rest_to_install() {
    let root = RootDir::new();
    root.run(&["install", "--event-logs", LOGS]).expect(0);
    let mut on_node = properties(&json_of(&root.run(&["render", "cluster-config"])));
    let stored = on_node.keys().filter(|key| key.starts_with("spark.history.store.")).count();
    assert_eq!(stored, 3);
    on_node.retain(|key, _| !key.starts_with("spark.history.store."));
    let new = root.run(&["render", "cluster-config", "--new-cluster"]);
    assert_eq!(properties(&json_of(&new)), on_node);
    assert!(new.err().contains("spark.history.store.path"), "{}", new.err());

    let laptop = elsewhere(&format!("cluster-config --event-logs {LOGS} --release emr-7.12.0"));
    assert_eq!(properties(&json_of(&laptop)), on_node);
    for said in ["local store", "log links", "Safe in a new cluster", "rolls a reconfiguration"] {
        assert!(laptop.err().replace('\n', " ").contains(said), "{said}: {}", laptop.err());
    }
    valid_configurations(&json_of(&laptop));

    let with = |more: &str| json_of(&elsewhere(&format!("cluster-config --event-logs {LOGS} {more}")));
    let keys = |more: &str| properties(&with(more));
    let links = "spark.history.custom.executor.log.url";
    let url = "https://logs.example.com";
    assert_eq!(
        keys(&format!("--spark-version 3.5 --public-url {url}"))[links],
        format!("{url}/logs/{{{{CONTAINER_ID}}}}/{{{{FILE_NAME}}}}")
    );
    assert!(!keys(&format!("--release emr-5.33.0 --public-url {url}")).contains_key(links), "Spark 2.4 has none");
    assert!(!keys(&format!("--release emr-6.0.0 --public-url {url}")).contains_key(links), "nor this one");
    assert!(keys(&format!("--release emr-6.1.0 --public-url {url}")).contains_key(links));
    assert_eq!(keys("--release emr-spark-8.1.0")["spark.history.fs.update.interval"], "300s", "event logs roll there");
    assert_eq!(
        keys("--release emr-7.12.0 --endpoint-url http://s3.local:9000")["spark.hadoop.fs.s3a.endpoint"],
        "http://s3.local:9000"
    );
    assert!(
        !keys("--release emr-7.9.0 --endpoint-url http://s3.local:9000").contains_key("spark.hadoop.fs.s3a.endpoint"),
        "EMRFS"
    );
    assert!(!keys("--spark-version 3.5 --history-only").contains_key("spark.eventLog.dir"));
    assert_eq!(keys("--spark-version 3.5 --set spark.history.store.path=/mnt/x")["spark.history.store.path"], "/mnt/x");

    let memory = with("--release emr-7.12.0 --daemon-memory 4g");
    assert_eq!(
        memory[1]["Configurations"][0],
        json!({"Classification": "export", "Properties": {"SPARK_DAEMON_MEMORY": "4g"}})
    );
    valid_configurations(&memory);
}

#[test]
fn what_makes_no_sense_is_a_clear_error() {
    let step = format!("step --region eu-west-3 --script s3://b/emr-shs/step --sha256-x86_64 {SUM}");
    let serverless = "serverless --account 123456789012 --region eu-west-3 --log-uri s3://b/l/";
    for (line, says) in [
        ("cluster-config".to_string(), "where shall the event logs go"),
        (format!("cluster-config --event-logs {LOGS}"), "--release emr-7.12.0"),
        (format!("cluster-config --event-logs {LOGS} --release emr-9.0.0"), "which Spark is in emr-9.0.0"),
        (format!("cluster-config --event-logs {LOGS} --spark-version new"), "no version of Spark"),
        (format!("cluster-config --event-logs {LOGS} --spark-version 3.5 --daemon-memory lots"), "no heap size"),
        ("cluster-config --event-logs hdfs:///x --spark-version 3.5".into(), "no place for event logs"),
        (step.replace("--region eu-west-3", ""), "which region"),
        (step.replace("eu-west-3", "paris"), "“paris” is no region"),
        (step.replace("s3://b/emr-shs/step", "s3://b/"), "is no object in S3"),
        (step.replace(SUM, "abc"), "no SHA-256 of emr-shs-x86_64"),
        ("step --region eu-west-3 --script s3://b/step".into(), "what are the binaries' sums"),
        ("step --region eu-west-3 --script s3://b/step --sha256sums /nowhere".into(), "/nowhere"),
        (format!("{step} -- --event-log {LOGS}"), "unexpected argument '--event-log'"),
        (format!("{step} -- --event-logs {LOGS},x"), "a comma"),
        ("iam-policy".into(), "a policy for which event logs"),
        (
            format!("iam-policy --event-logs {LOGS} --kms-key arn:aws:kms:eu-west-3:111122223333:alias/x"),
            "does not follow an alias",
        ),
        (format!("iam-policy --event-logs {LOGS} --kms-key 9f3c"), "is no KMS key"),
        (format!("iam-policy --event-logs {LOGS} --account acme"), "no account id"),
        (format!("iam-policy --event-logs {LOGS} --log-uri acme"), "is no log URI"),
        (format!("{serverless} --event-logs {LOGS} --application App"), "no application of EMR Serverless"),
        (
            format!("{serverless} --event-logs {LOGS} --application {APPLICATION} --release emr-6.8.0"),
            "from emr-6.9.0 on",
        ),
        (format!("{serverless} --event-logs {LOGS} --application {APPLICATION} --release x\"y"), "no release"),
        (format!("{serverless} --event-logs {LOGS} --application {APPLICATION} --repository A/b"), "no repository"),
        (format!("{serverless} --event-logs {LOGS} --application {APPLICATION} --job-role me"), "no role"),
    ] {
        let ran = elsewhere(&line).expect(2);
        let text = ran.err().replace('\n', " ");
        assert!(text.contains("error: ") && text.contains("hint: ") || text.contains("/nowhere"), "{line}: {text}");
        assert!(text.contains(says), "{line}: wanted {says}: {text}");
        assert_eq!(ran.out(), "", "{line}");
    }
}

/// What is awkward in JSON, YAML, HCL or a shell.
const AWKWARD: [&str; 6] = [
    "--event-logs",
    LOGS,
    "--set",
    "spark.history.ui.title=It's \"our\" ${HOME} %{if x} `id` \\ #1: ünï",
    "--host-name",
    "logs.example.com",
];

fn step(kind: &str, format: &str) -> CommandOutput {
    let script = format!("s3://acme-tools/emr-shs/{kind}");
    let what = if kind == "step" { "step" } else { "bootstrap-action" };
    let first = [what, "--script", &script, "--region", "eu-west-3", "--format", format];
    let sums = ["--sha256-x86_64", SUM, "--sha256-aarch64", OTHER_SUM, "--"];
    elsewhere_with(&[&first[..], &sums, &AWKWARD].concat())
}

/// The arguments that the wrapper scripts are made for.
fn arguments() -> Vec<String> {
    let own = ["--binaries", "s3://acme-tools/emr-shs/", "--sha256-x86_64", SUM, "--sha256-aarch64", OTHER_SUM, "--"];
    own.iter().chain(&AWKWARD).map(ToString::to_string).collect()
}

/// The items of a YAML or HCL list, each on its line.
fn items(text: &str, of_terraform: bool) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    let items = lines.filter_map(|line| match of_terraform {
        true => line.strip_suffix(',').filter(|item| item.starts_with('"')),
        false => line.strip_prefix("- ").filter(|item| item.starts_with('"')),
    });
    items
        .map(|item| {
            let text: String = serde_json::from_str(item).unwrap();
            if of_terraform { text.replace("$${", "${").replace("%%{", "%{") } else { text }
        })
        .collect()
}

#[test]
fn a_step_is_the_same_in_every_format_and_each_is_valid() {
    let all: Vec<String> = [vec!["s3://acme-tools/emr-shs/step".to_string()], arguments()].concat();
    let jar = "s3://eu-west-3.elasticmapreduce/libs/script-runner/script-runner.jar";
    let api = json_of(&step("step", "api"));
    assert_eq!(
        api,
        json!([{"Name": "emr-shs", "ActionOnFailure": "CONTINUE", "HadoopJarStep": {"Jar": jar, "Args": all}}])
    );
    valid(&["shape", "emr", "AddJobFlowSteps"], &json!({"JobFlowId": "j-1", "Steps": api}).to_string());

    // The AWS CLI itself makes the API's shape of its own one.
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("step.json"), step("step", "json").expect(0).out()).unwrap();
    let requests = requests_of(dir.path(), "aws emr add-steps --cluster-id j-3H6EATEWWRWS --steps file://step.json");
    let sent: Value = serde_json::from_str(request(&requests, "AddJobFlowSteps")).unwrap();
    assert_eq!(sent, json!({"JobFlowId": "j-3H6EATEWWRWS", "Steps": api}));

    let resource = step("step", "cloudformation").expect(0).out();
    assert_eq!(items(&resource, false), all);
    valid(&["cloudformation"], &format!("Parameters:\n  ClusterId:\n    Type: String\n{resource}"));
    let property = step("step", "cloudformation-cluster").expect(0).out();
    assert_eq!(items(&property, false), all);
    valid(&["cloudformation"], &cluster(&property));

    let block = step("step", "terraform").expect(0).out();
    assert_eq!(items(&block, true), all);
    valid(&["terraform", "step"], &block);
}

/// A template of a cluster with this property.
fn cluster(property: &str) -> String {
    let property: String = property.lines().map(|line| format!("      {line}\n")).collect();
    format!(
        "Resources:\n  Cluster:\n    Type: AWS::EMR::Cluster\n    Properties:\n      Name: x\n      \
         JobFlowRole: EMR_EC2_DefaultRole\n      ServiceRole: EMR_DefaultRole\n      ReleaseLabel: emr-7.12.0\n      \
         Instances:\n        MasterInstanceGroup:\n          InstanceCount: 1\n          InstanceType: m5.xlarge\n{property}"
    )
}

#[test]
fn a_bootstrap_action_is_the_same_in_every_format_and_each_is_valid() {
    let path = "s3://acme-tools/emr-shs/bootstrap";
    let api = json_of(&step("bootstrap", "api"));
    assert_eq!(api, json!([{"Name": "emr-shs", "ScriptBootstrapAction": {"Path": path, "Args": arguments()}}]));
    valid(&["shape", "emr", "RunJobFlow"], &json!({"Name": "x", "Instances": {}, "BootstrapActions": api}).to_string());
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bootstrap.json"), step("bootstrap", "json").expect(0).out()).unwrap();
    let requests = requests_of(
        dir.path(),
        "aws emr create-cluster --release-label emr-7.12.0 --instance-type m5.xlarge --use-default-roles \
         --bootstrap-actions file://bootstrap.json",
    );
    let sent: Value = serde_json::from_str(request(&requests, "RunJobFlow")).unwrap();
    assert_eq!(sent["BootstrapActions"], api);
    let property = step("bootstrap", "cloudformation").expect(0).out();
    assert_eq!(items(&property, false), arguments());
    valid(&["cloudformation"], &cluster(&property));
    let block = step("bootstrap", "terraform").expect(0).out();
    assert_eq!(items(&block, true), arguments());
    valid(&["terraform", "bootstrap_action"], &block);
    // The script wants this one first.
    let lenient = ["bootstrap-action", "--script", path, "--sha256-x86_64", SUM, "--continue-on-failure", "--", "-v"];
    let args = &json_of(&elsewhere_with(&lenient))[0]["Args"];
    assert_eq!(args[0], "--continue-on-failure", "{args}");
    assert_eq!((&args[1], &args[6]), (&json!("--binaries"), &json!("-v")), "{args}");
}

#[test]
fn sums_come_from_the_releases_own_file() {
    let dir = tempfile::tempdir().unwrap();
    let sums = dir.path().join("SHA256SUMS");
    std::fs::write(&sums, format!("{OTHER_SUM}  emr-shs-aarch64\n{}  step\n{SUM} *emr-shs-x86_64\n", "a".repeat(64)))
        .unwrap();
    let line = format!("step --region us-gov-west-1 --script s3://b/step --sha256sums {}", sums.display());
    let ran = elsewhere(&format!("{line} -- --event-logs {LOGS}"));
    let args = &json_of(&ran)[0]["Args"];
    assert_eq!(
        *args,
        json!([
            "s3://b/step",
            "--binaries",
            "s3://b/",
            "--sha256-x86_64",
            SUM,
            "--sha256-aarch64",
            OTHER_SUM,
            "--",
            "--event-logs",
            LOGS
        ])
    );
    assert!(!ran.err().contains("it fails"), "{}", ran.err());
    assert!(elsewhere(&line).err().contains("No --event-logs"), "said where a first run would be refused");
    std::fs::write(&sums, format!("{SUM}  emr-shs-x86_64\n")).unwrap();
    assert!(elsewhere(&line).err().contains("On a node with aarch64 it fails"));
    std::fs::write(&sums, "nothing\n").unwrap();
    elsewhere(&line).expect(2);
}

fn statements(policy: &Value) -> BTreeMap<String, &Value> {
    policy["Statement"].as_array().unwrap().iter().map(|s| (s["Sid"].as_str().unwrap().to_string(), s)).collect()
}

#[test]
fn policies_are_valid_for_every_side_and_partition() {
    let key = |partition: &str, region: &str| {
        format!("--kms-key arn:{partition}:kms:{region}:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab")
    };
    let places = "--event-logs s3a://acme-spark/events --log-uri s3n://acme-logs/elasticmapreduce/ --log-uri s3://acme-logs/other --log-uri s3://acme-more/ --binaries s3://acme-tools/emr-shs";
    let mut template = serde_json::Map::new();
    for (partition, region, suffix) in
        [("aws", "eu-west-3", "com"), ("aws-cn", "cn-north-1", "com.cn"), ("aws-us-gov", "us-gov-west-1", "com")]
    {
        for sides in ["", "--for history-server", "--for jobs", "--for verify", "--for history-server,verify"] {
            let ran = elsewhere(&format!(
                "iam-policy {places} --region {region} --account 123456789012 {} {sides}",
                key(partition, region)
            ));
            let policy = json_of(&ran);
            let text = policy.to_string();
            assert!(!text.replace(&format!("arn:{partition}:"), "").contains("arn:"), "{text}");
            assert!(text.contains(&format!("\"s3.{region}.amazonaws.{suffix}\"")), "{text}");
            valid(&["policy"], &text);
            let resource = json!({"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": policy}});
            template.insert(format!("Policy{}", template.len()), resource);
            assert!(!text.contains("s3:*") && !text.contains("s3:Put*"));
            for (sid, statement) in statements(&policy) {
                let wide = statement["Resource"] == json!(["*"]);
                assert_eq!(wide, sid == "DescribeSecurityConfiguration", "{statement}");
            }
        }
    }
    // A second opinion.
    valid(&["cloudformation"], &json!({ "Resources": template }).to_string());
}

#[test]
fn each_side_gets_what_it_needs_and_no_more() {
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
    assert_eq!(reader["FindContainerLogs"]["Condition"], json!({"StringLike": {"s3:prefix": ["emr/*"]}}));
    assert!(reader.get("FindEventLogs").unwrap().get("Condition").is_none(), "or else a 404 becomes a 403");

    let jobs = json_of(&elsewhere(&format!("{places} --for jobs")));
    assert!(!jobs.to_string().contains("acme-logs") && !jobs.to_string().contains("elasticmapreduce:"), "{jobs}");
    let both = json_of(&elsewhere("iam-policy --event-logs s3://acme/events/ --log-uri s3://acme/logs/"));
    assert_eq!(both.to_string().matches("s3:ListBucket").count(), 1, "one bucket, one statement: {both}");
    let root = json_of(&elsewhere("iam-policy --event-logs s3://acme --for jobs"));
    assert_eq!(statements(&root)["ReadEventLogs"]["Resource"], json!(["arn:aws:s3:::acme/*"]));
}

fn serverless(more: &str) -> CommandOutput {
    elsewhere(&format!(
        "serverless --application {APPLICATION} --account 123456789012 --region eu-west-3 --event-logs s3://acme-spark/serverless/ \
         --log-uri s3://acme-logs/serverless/ {more}"
    ))
}

#[test]
fn every_part_of_the_serverless_flow_is_valid() {
    let part = |part: &str| serverless(&format!("--part {part}")).expect(0).out();
    let dockerfile = part("dockerfile");
    assert_eq!(hadolint(&dockerfile), "");
    assert!(dockerfile.contains("FROM public.ecr.aws/emr-serverless/spark/emr-7.12.0:latest\n"));
    assert!(dockerfile.trim_end().ends_with("USER hadoop:hadoop"));
    let ours = part("spark-defaults");
    assert_eq!(
        settings_after(&dockerfile, &ours, "spark.a b\nspark.eventLog.dir hdfs:///x"),
        [
            ("spark.a".to_string(), "b".to_string()),
            ("spark.eventLog.dir".into(), "s3://acme-spark/serverless/".into()),
            ("spark.eventLog.enabled".into(), "true".into()),
        ]
    );

    let ecr: Value = serde_json::from_str(&part("ecr-policy")).unwrap();
    let statement = &ecr["Statement"][0];
    assert_eq!(statement["Principal"], json!({"Service": "emr-serverless.amazonaws.com"}));
    assert_eq!(
        statement["Condition"],
        json!({"ArnEquals": {"aws:SourceArn": [format!("arn:aws:emr-serverless:eu-west-3:123456789012:/applications/{APPLICATION}")]}})
    );
    let repository = json!({"Resources": {"Repository": {"Type": "AWS::ECR::Repository", "Properties": {"RepositoryPolicyText": ecr}}}});
    valid(&["cloudformation"], &repository.to_string());
    // The linter knows policies of roles: as one of these, with the repository it is of.
    let mut of_role = ecr.clone();
    of_role["Statement"][0].as_object_mut().unwrap().remove("Principal");
    of_role["Statement"][0]["Resource"] = "arn:aws:ecr:eu-west-3:123456789012:repository/x".into();
    valid(&["policy"], &of_role.to_string());
    valid(&["policy"], &part("job-policy"));
    valid(&["shape", "emr-serverless", "StartJobRun"], &part("start-job-run"));

    // The command for the node is one that install understands, for that application.
    let line = part("install");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..3], ["sudo", "emr-shs", "install"]);
    let root = RootDir::new();
    let plan = json_of(&root.run(&[&["--json", "plan"], &words[3..]].concat()));
    assert_eq!(
        keys_of_plan(&plan).get("spark.history.fs.logDirectory").map(String::as_str),
        Some("s3://acme-spark/serverless/")
    );
    assert!(!keys_of_plan(&plan).contains_key("spark.eventLog.dir"), "a node that only shows");
    let china = elsewhere(&format!(
        "serverless --application {APPLICATION} --account 123456789012 --region cn-north-1 --event-logs s3://a-b/e --log-uri s3://a-b/l"
    ))
    .expect(0);
    assert!(china.out().contains("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/emr-serverless-spark:emr-7.12.0"));
    assert!(china.out().contains("arn:aws-cn:emr-serverless:cn-north-1:"));
}

fn hadolint(dockerfile: &str) -> String {
    let mut child = Command::new(validators().join("bin/hadolint"))
        // The names of the users are AWS's own.
        .args(["--no-color", "--ignore", "DL3066", "-"])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(dockerfile.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    String::from_utf8(out.stdout).unwrap() + &String::from_utf8(out.stderr).unwrap()
}

/// What Spark reads in the image: the Dockerfile's own command, run on a directory for `/`.
fn settings_after(dockerfile: &str, ours: &str, theirs: &str) -> Vec<(String, String)> {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    for (path, text) in [("etc/spark/conf/spark-defaults.conf", theirs), ("tmp/emr-shs-spark-defaults.conf", ours)] {
        std::fs::create_dir_all(at(path).parent().unwrap()).unwrap();
        std::fs::write(at(path), text).unwrap();
    }
    let run = dockerfile.split_once("RUN ").unwrap().1.split_once("\n\n").unwrap().0;
    let run = run.replace("/etc/spark", at("etc/spark").to_str().unwrap());
    let run = run.replace("/tmp/emr-shs", at("tmp/emr-shs").to_str().unwrap());
    let sh = || Command::new("sh").args(["-c", &run]).output().unwrap();
    assert!(sh().status.success(), "{run}");
    assert!(!sh().status.success(), "without its file the build fails");
    let text = std::fs::read(at("etc/spark/conf/spark-defaults.conf")).unwrap();
    let read = SparkDefaults::parse(&text).unwrap();
    let last: BTreeMap<String, String> = read.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    last.into_iter().collect()
}

#[test]
fn the_serverless_guides_commands_work_on_the_files_it_writes() {
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("flow");
    serverless(&format!("--into {}", into.display())).expect(0);
    let guide = std::fs::read_to_string(into.join("README.txt")).unwrap();
    assert_eq!(guide.trim_end(), serverless("").expect(0).out().trim_end());
    let commands: String = guide
        .lines()
        .map(str::trim)
        .filter(|l| l.starts_with("aws ") || l.starts_with("docker "))
        .map(|l| format!("{l}\n"))
        .collect();
    assert_eq!(commands.lines().count(), 9, "{commands}");
    for name in ["Dockerfile", "spark-defaults.conf", "ecr-policy.json", "job-policy.json", "start-job-run.json"] {
        let text = std::fs::read_to_string(into.join(name)).unwrap();
        let first = text.lines().find(|l| l.len() > 20).unwrap();
        assert!(guide.contains(name) && guide.contains(first), "{name}");
    }
    let requests = requests_of(&into, &commands);
    for target in ["CreateRepository", "GetAuthorizationToken", "SetRepositoryPolicy", "/stop", "/jobruns"] {
        request(&requests, target);
    }
    let puts = |r: &Value| {
        ["Action=PutRolePolicy", "RoleName=EMRServerlessJobRole"]
            .iter()
            .all(|w| r["body"].as_str().unwrap().contains(w))
    };
    assert!(requests.iter().any(puts), "{requests:#?}");
    let image = "123456789012.dkr.ecr.eu-west-3.amazonaws.com/emr-serverless-spark:emr-7.12.0";
    let asked = |text: &str| requests.iter().any(|r| r["body"].as_str().unwrap().contains(text));
    assert!(
        asked(&format!("build --platform linux/amd64 -t {image} .")) && asked(&format!("push {image}")),
        "{requests:#?}"
    );
    assert!(asked(&format!("{{\"imageUri\": \"{image}\"}}")), "{requests:#?}");
}

#[test]
fn with_json_it_is_one_object_and_quiet_is_quiet() {
    let ran = elsewhere(&format!("iam-policy --json --event-logs {LOGS}"));
    let whole = json_of(&ran);
    assert_eq!((&whole["schema"], &whole["command"]), (&json!(1), &json!("render iam-policy")));
    assert_eq!(whole["document"]["Version"], "2012-10-17");
    let line = format!("step --json --region eu-west-3 --script s3://b/step --sha256-x86_64 {SUM} --format terraform");
    assert!(json_of(&elsewhere(&line))["document"].as_str().unwrap().starts_with("step {"));
    assert_eq!(elsewhere(&format!("iam-policy -q --event-logs {LOGS}")).expect(0).err(), "");
}

#[test]
fn the_validators_find_faults() {
    for (what, bad, says) in [
        (
            &["policy"][..],
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObjects","Resource":"arn:aws:s3:::b/*"}]}"#,
            "UNKNOWN_ACTION",
        ),
        (
            &["policy"],
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::b"}]}"#,
            "RESOURCE_MISMATCH",
        ),
        (
            &["policy"],
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*","Condition":{"StringLike":{"s3:prefix":"a"}}}]}"#,
            "UNKNOWN_CONDITION",
        ),
        (
            &["cloudformation"],
            "Resources:\n  S:\n    Type: AWS::EMR::Step\n    Properties:\n      Name: x\n",
            "required",
        ),
        (&["terraform", "step"], "step {\n  name = \"x\"\n  on_failure = \"CONTINUE\"\n}", "on_failure is no argument"),
        (
            &["shape", "emr", "AddJobFlowSteps"],
            r#"{"JobFlowId":"j","Steps":[{"Name":"x","ActionOnFailure":"STOP","HadoopJarStep":{"Jar":"x","Arguments":[]}}]}"#,
            "Unknown parameter",
        ),
        (
            &["shape", "emr", "AddJobFlowSteps"],
            r#"{"JobFlowId":"j","Steps":[{"Name":"x","ActionOnFailure":"STOP","HadoopJarStep":{"Jar":"x"}}]}"#,
            "none of",
        ),
        (
            &["shape", "emr-serverless", "StartJobRun"],
            r#"{"applicationId":"UP","executionRoleArn":"arn:aws:iam::1:role/x"}"#,
            "is not of the pattern",
        ),
        (&["aws-commands"], "aws emr add-steps --cluster-id j --step file://nowhere", "exit"),
    ] {
        let found = findings(what, bad);
        assert!(found.contains(says), "{what:?}: wanted {says}, found {found:?}");
    }
    assert!(hadolint("FROM debian\nRUN cd /x\n").contains("DL3006"));
}

/// The indented blocks of a section of README.
fn blocks(section: &str) -> Vec<String> {
    let readme = include_str!("../../README.md");
    let text = readme.split_once(&format!("\n{section}\n")).unwrap_or_else(|| panic!("README has no {section}")).1;
    let text = text.split("\n## ").next().unwrap();
    let mut blocks = vec![String::new()];
    for line in text.lines() {
        match line.strip_prefix("    ") {
            Some(line) => blocks.last_mut().unwrap().push_str(&format!("{line}\n")),
            None if blocks.last().unwrap().is_empty() => {}
            None => blocks.push(String::new()),
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

#[test]
fn what_the_readme_says_works_as_it_stands() {
    for (section, targets) in [
        ("## Templates", &["AddJobFlowSteps", "RunJobFlow"][..]),
        ("## EMR Serverless", &["SetRepositoryPolicy", "/jobruns"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("SHA256SUMS"), format!("{SUM}  emr-shs-x86_64\n{OTHER_SUM}  emr-shs-aarch64\n"))
            .unwrap();
        let blocks = blocks(section);
        assert!(!blocks.is_empty(), "{section}");
        let program = root.path().join("emr-shs");
        let line =
            format!("#!/bin/sh\nexec {} --root {} \"$@\"\n", env!("CARGO_BIN_EXE_emr-shs"), root.path().display());
        std::fs::write(&program, line).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let run = format!("PATH={}:$PATH\n{}", root.path().display(), blocks.concat());
        let requests = requests_of(dir.path(), &run);
        for target in targets {
            request(&requests, target);
        }
    }
}
