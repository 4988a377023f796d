//! `render step` and `render bootstrap-action`, in every format.

use super::*;

/// Arguments that need quoting in JSON, YAML, HCL or a shell.
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

/// The arguments that the rendered step must pass to the script.
fn arguments() -> Vec<String> {
    let own = ["--binaries", "s3://acme-tools/emr-shs/", "--sha256-x86_64", SUM, "--sha256-aarch64", OTHER_SUM, "--"];
    own.iter().chain(&AWKWARD).map(ToString::to_string).collect()
}

/// The items of a YAML or HCL list.
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
fn a_step_is_the_same_and_valid_in_every_format() {
    let all: Vec<String> = [vec!["s3://acme-tools/emr-shs/step".to_string()], arguments()].concat();
    let jar = "s3://eu-west-3.elasticmapreduce/libs/script-runner/script-runner.jar";
    let api = json_of(&step("step", "api"));
    assert_eq!(
        api,
        json!([{"Name": "emr-shs", "ActionOnFailure": "CONTINUE", "HadoopJarStep": {"Jar": jar, "Args": all}}])
    );
    valid(&["shape", "emr", "AddJobFlowSteps"], &json!({"JobFlowId": "j-1", "Steps": api}).to_string());

    // The AWS CLI turns its own JSON into that of the API.
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

/// A CloudFormation template of a cluster with this property.
fn cluster(property: &str) -> String {
    let property: String = property.lines().map(|line| format!("      {line}\n")).collect();
    format!(
        "Resources:\n  Cluster:\n    Type: AWS::EMR::Cluster\n    Properties:\n      Name: x\n      \
         JobFlowRole: EMR_EC2_DefaultRole\n      ServiceRole: EMR_DefaultRole\n      ReleaseLabel: emr-7.12.0\n      \
         Instances:\n        MasterInstanceGroup:\n          InstanceCount: 1\n          InstanceType: m5.xlarge\n{property}"
    )
}

#[test]
fn a_bootstrap_action_is_the_same_and_valid_in_every_format() {
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
    // The script reads --continue-on-failure only as its first argument.
    let lenient = ["bootstrap-action", "--script", path, "--sha256-x86_64", SUM, "--continue-on-failure", "--", "-v"];
    let args = &json_of(&elsewhere_with(&lenient))[0]["Args"];
    assert_eq!(args[0], "--continue-on-failure", "{args}");
    assert_eq!((&args[1], &args[6]), (&json!("--binaries"), &json!("-v")), "{args}");
}

#[test]
fn checksums_are_read_from_sha256sums() {
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
    assert!(!ran.err().contains("fails on a node"), "{}", ran.err());
    assert!(elsewhere(&line).err().contains("contain no --event-logs"), "said where a first run would be refused");
    std::fs::write(&sums, format!("{SUM}  emr-shs-x86_64\n")).unwrap();
    assert!(elsewhere(&line).err().contains("fails on a node with aarch64"));
    std::fs::write(&sums, "nothing\n").unwrap();
    elsewhere(&line).expect(2);
}
