//! Wrong arguments, `--json`, `--quiet`, and the commands of `docs/render.md` and `docs/serverless.md`.

use super::*;

#[test]
fn wrong_arguments_get_an_error_with_a_hint() {
    let step = format!("step --region eu-west-3 --script s3://b/emr-shs/step --sha256-x86_64 {SUM}");
    let serverless = "serverless --account 123456789012 --region eu-west-3 --log-uri s3://my-bucket/l/";
    for (line, says) in [
        ("cluster-config".to_string(), "cluster-config needs --event-logs"),
        (format!("cluster-config --event-logs {LOGS}"), "--release emr-7.12.0"),
        (
            format!("cluster-config --event-logs {LOGS} --release emr-9.0.0"),
            "does not know which version of Spark emr-9.0.0 contains",
        ),
        (format!("cluster-config --event-logs {LOGS} --spark-version new"), "is not a version of Spark"),
        (format!("cluster-config --event-logs {LOGS} --spark-version 3.5 --daemon-memory lots"), "is not a heap size"),
        ("cluster-config --event-logs hdfs:///x --spark-version 3.5".into(), "is not a directory in S3"),
        (step.replace("--region eu-west-3", ""), "--region is missing"),
        (step.replace("eu-west-3", "paris"), "“paris” is not the name of an AWS region"),
        (step.replace("s3://b/emr-shs/step", "s3://b/"), "is not the URI of an object in S3"),
        (step.replace(SUM, "abc"), "is not the SHA-256 of emr-shs-x86_64"),
        ("step --region eu-west-3 --script s3://b/step".into(), "checksums of the binaries are missing"),
        ("step --region eu-west-3 --script s3://b/step --sha256sums /nowhere".into(), "/nowhere"),
        (format!("{step} -- --event-log {LOGS}"), "unexpected argument '--event-log'"),
        (format!("{step} -- --event-logs {LOGS},x"), "“x” is not a directory in S3"),
        ("iam-policy".into(), "--event-logs and --log-uri are missing"),
        (
            format!("iam-policy --event-logs {LOGS} --kms-key arn:aws:kms:eu-west-3:111122223333:alias/x"),
            "does not follow an alias",
        ),
        (format!("iam-policy --event-logs {LOGS} --kms-key 9f3c"), "is not the ARN of a KMS key"),
        (format!("iam-policy --event-logs {LOGS} --account acme"), "is not the id of an AWS account"),
        (format!("iam-policy --event-logs {LOGS} --log-uri acme"), "is not a log URI"),
        (
            format!("{serverless} --event-logs {LOGS} --application App"),
            "is not the id of an EMR Serverless application",
        ),
        (
            format!("{serverless} --event-logs {LOGS} --application {APPLICATION} --release emr-6.8.0"),
            "from emr-6.9.0 on",
        ),
        (
            format!("{serverless} --event-logs {LOGS} --application {APPLICATION} --release x\"y"),
            "is not an EMR release",
        ),
        (
            format!("{serverless} --event-logs {LOGS} --application {APPLICATION} --repository A/b"),
            "is not the name of an ECR repository",
        ),
        (
            format!("{serverless} --event-logs {LOGS} --application {APPLICATION} --job-role me"),
            "is not the ARN of a role",
        ),
        (format!("{serverless} --event-logs {LOGS}"), "--application is missing"),
        (
            serverless.replace("--account 123456789012", &format!("--event-logs {LOGS} --application {APPLICATION}")),
            "--account is missing",
        ),
        (format!("{serverless} --application {APPLICATION}"), "--event-logs is missing"),
        (format!("{serverless} --part dockerfile"), "--event-logs is missing"),
        (
            serverless.replace("s3://my-bucket/l/", "s3://my-bucket/a,b/"),
            "--log-uri: “s3://my-bucket/a,b/” is not a directory in S3",
        ),
        (serverless.replace("123456789012", "acme"), "is not the id of an AWS account"),
    ] {
        let ran = elsewhere(&line).expect(2);
        let text = ran.err().replace('\n', " ");
        assert!(text.contains("error: ") && text.contains("hint: ") || text.contains("/nowhere"), "{line}: {text}");
        assert!(text.contains(says), "{line}: wanted {says}: {text}");
        assert_eq!(ran.out(), "", "{line}");
    }
}

#[test]
fn json_prints_one_object_and_quiet_prints_no_notes() {
    let ran = elsewhere(&format!("iam-policy --json --event-logs {LOGS}"));
    let whole = json_of(&ran);
    assert_eq!((&whole["schema"], &whole["command"]), (&json!(1), &json!("render iam-policy")));
    assert_eq!(whole["document"]["Version"], "2012-10-17");
    let line = format!("step --json --region eu-west-3 --script s3://b/step --sha256-x86_64 {SUM} --format terraform");
    assert!(json_of(&elsewhere(&line))["document"].as_str().unwrap().starts_with("step {"));
    assert_eq!(elsewhere(&format!("iam-policy -q --event-logs {LOGS}")).expect(0).err(), "");
}

/// The indented blocks of a page.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in page.lines() {
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
fn the_documents_render_commands_work_as_written() {
    for (page, targets) in [
        (include_str!("../../../docs/render.md"), &["AddJobFlowSteps", "RunJobFlow"][..]),
        (include_str!("../../../docs/serverless.md"), &["SetRepositoryPolicy", "/jobruns"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("SHA256SUMS"), format!("{SUM}  emr-shs-x86_64\n{OTHER_SUM}  emr-shs-aarch64\n"))
            .unwrap();
        let blocks = blocks(page);
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
