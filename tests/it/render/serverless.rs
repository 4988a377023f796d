//! `render serverless`: how the index lists the jobs of EMR Serverless in place; and an image, policies and a job for those who keep
//! no index.

use super::*;

fn serverless(more: &str) -> CommandOutput {
    elsewhere(&format!(
        "serverless --application {APPLICATION} --account 123456789012 --region eu-west-3 --event-logs s3://acme-spark/serverless/ \
         --log-uri s3://acme-logs/serverless/ {more}"
    ))
}

const IN_PLACE: &str = "serverless --log-uri s3://acme-logs/serverless/";

/// Runs `plan` on a node with the arguments of a line that installs.
fn plan_of(line: &str) -> Value {
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..3], ["sudo", "emr-shs", "install"]);
    json_of(&RootDir::new().run(&[&["--json", "plan"], &words[3..]].concat()))
}

#[test]
fn without_an_image_the_log_uri_is_a_source_of_the_index() {
    let guide = elsewhere(IN_PLACE).expect(0).out();
    for part in ["install", "node-policy"] {
        let part = elsewhere(&format!("{IN_PLACE} --part {part}")).expect(0).out();
        assert!(guide.contains(part.lines().next().unwrap()), "{guide}");
    }
    for told in ["no image, no ECR policy, no Spark setting", "s3MonitoringConfiguration", "Not proved yet"] {
        assert!(guide.contains(told), "{told}: {guide}");
    }
    assert!(!guide.contains("docker") && !guide.contains("--layout"), "{guide}");

    // Every command that the guide prints: that of a node for nothing else, and that of a node whose own jobs are listed, too.
    let installs: Vec<&str> =
        guide.lines().map(str::trim).filter(|line| line.starts_with("sudo emr-shs install")).collect();
    let [alone, beside] = installs[..] else { panic!("{installs:?}") };
    let alone = keys_of_plan(&plan_of(alone));
    let beside = keys_of_plan(&plan_of(beside));
    for keys in [&alone, &beside] {
        assert!(keys["spark.history.fs.logDirectory"].starts_with("file:///"), "{keys:?}");
    }
    assert!(!alone.contains_key("spark.eventLog.dir"), "{alone:?}");
    assert_eq!(beside["spark.eventLog.dir"], "s3://my-bucket/spark-events/");

    // The policy is that of `render iam-policy` for the same prefix, and IAM accepts it.
    let policy = |line: &str| json_of(&elsewhere(line));
    let of_guide = policy(&format!("{IN_PLACE} --part node-policy --region eu-west-3 --account 123456789012"));
    valid(&["policy"], &of_guide.to_string());
    let same = "iam-policy --for history-server --event-logs s3://acme-logs/serverless/ --region eu-west-3 --account 123456789012";
    assert_eq!(of_guide, policy(same));
    assert!(of_guide.to_string().contains("arn:aws:s3:::acme-logs/serverless/*"));

    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("in-place");
    elsewhere(&format!("{IN_PLACE} --into {}", into.display())).expect(0);
    assert_eq!(std::fs::read_to_string(into.join("README.txt")).unwrap().trim_end(), guide.trim_end());
    let commands: String =
        guide.lines().map(str::trim).filter(|line| line.starts_with("aws ")).map(|line| format!("{line}\n")).collect();
    let requests = requests_of(&into, &commands);
    assert!(requests[0]["body"].as_str().unwrap().contains("Action=PutRolePolicy"), "{requests:#?}");
    assert_eq!((requests.len(), std::fs::read_dir(&into).unwrap().count()), (1, 2));
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
    // The linter knows policies of roles only, so make it one, with the repository as its resource.
    let mut of_role = ecr.clone();
    of_role["Statement"][0].as_object_mut().unwrap().remove("Principal");
    of_role["Statement"][0]["Resource"] = "arn:aws:ecr:eu-west-3:123456789012:repository/x".into();
    valid(&["policy"], &of_role.to_string());
    valid(&["policy"], &part("job-policy"));
    valid(&["policy"], &part("node-policy"));
    valid(&["shape", "emr-serverless", "StartJobRun"], &part("start-job-run"));

    // `plan` on a node understands the arguments of the printed `install` command.
    let line = part("install");
    let plan = plan_of(&line);
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

/// Runs the Dockerfile's RUN command with a directory in place of `/`. Returns the settings that Spark then reads.
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
fn the_files_say_that_the_partition_of_a_region_is_a_guess() {
    let dir = tempfile::tempdir().unwrap();
    let rendered = |region: &str, more: &str| {
        elsewhere(&format!(
            "serverless --application {APPLICATION} --account 123456789012 --region {region} --event-logs s3://a-b/e --log-uri s3://a-b/l {more}"
        ))
        .expect(0)
    };
    let into = format!("--into {}", dir.path().join("files").display());
    for more in ["", "--part job-policy", &into] {
        assert!(rendered("xx-next-1", more).err().contains("does not know the region xx-next-1"), "{more}");
    }
    assert!(!rendered("eu-west-3", "").err().contains("does not know the region"));
}
