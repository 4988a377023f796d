//! Each document that `render` prints passes a validator of AWS, CloudFormation, Terraform or Docker, and says what an
//! installation does.

use crate::helpers::command_output::{CommandOutput, assert_same_tree};
use crate::helpers::python_packages::{python_package, python_packages};
use crate::helpers::root_dir::{DEFAULTS, RootDir};
use emr_shs::testing::SparkDefaults;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

mod cluster_config;
mod iam_policy;
mod serverless;
mod step;
mod usage;

const LOGS: &str = "s3://acme-spark/events/";
const SUM: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER_SUM: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
const APPLICATION: &str = "00f1r2fo0l4l4l09";

/// Runs `render` on a machine that is no EMR node.
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
    let digest = Sha256::digest(include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/validators.txt")));
    let name: String = digest.iter().take(6).map(|b| format!("{b:02x}")).collect();
    python_packages(&format!("validators-{name}"), "tests/fixtures/validators.txt")
}

/// The findings of tests/fixtures/validate.py, and what it prints to stderr.
fn findings_in(dir: &Path, what: &[&str], text: &str) -> (String, String) {
    let packages = std::env::join_paths([validators(), python_package("botocore")]).unwrap();
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

/// Runs a script in a directory. Returns the requests of its `aws` commands, and its `docker` commands.
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

/// The keys that a plan sets, with their values.
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

fn hadolint(dockerfile: &str) -> String {
    let mut child = Command::new(validators().join("bin/hadolint"))
        // This rule is about names of users, which AWS prescribes.
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
