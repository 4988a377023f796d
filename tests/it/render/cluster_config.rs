//! `render cluster-config`: EMR configurations that set the keys of a plan.

use super::*;

#[test]
fn cluster_config_on_a_node_sets_exactly_the_keys_of_its_plan() {
    let root = RootDir::new();
    let kept = "spark.history.fs.update.interval";
    root.write(DEFAULTS, format!("{}\n{kept} 5s\n", root.read(DEFAULTS)));
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

    // As after a reconfiguration, which writes the file anew.
    root.write(DEFAULTS, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/lab/emr/spark-defaults-7.1.0.conf")));
    let ran = root.run(&["render", "cluster-config"]);
    let mut drifted = properties(&json_of(&ran));
    assert_eq!(drifted.remove(kept).as_deref(), Some("60s"), "nobody else sets it any more");
    assert_eq!(drifted, planned);
}

#[test]
fn cluster_config_elsewhere_sets_the_keys_that_the_release_determines() {
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
    let region = "the region of the bucket, which S3A must know (or --region)";
    for said in ["local store", "log links", region, "Safe in a new cluster", "rolls a reconfiguration"] {
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
    let bucket = LOGS.trim_start_matches("s3://").split('/').next().unwrap();
    let of_bucket = |name: &str| format!("spark.hadoop.fs.s3a.bucket.{bucket}.{name}");
    let s3a = keys("--release emr-7.12.0 --endpoint-url http://s3.local:9000");
    assert_eq!(s3a[&of_bucket("endpoint")], "http://s3.local:9000");
    assert_eq!(s3a[&of_bucket("path.style.access")], "true");
    assert!(!s3a.contains_key("spark.hadoop.fs.s3a.endpoint"), "other buckets stay where they are");
    assert!(
        !keys("--release emr-7.9.0 --endpoint-url http://s3.local:9000").contains_key(&of_bucket("endpoint")),
        "EMRFS"
    );
    assert_eq!(keys("--release emr-7.12.0 --region eu-west-1")[&of_bucket("endpoint.region")], "eu-west-1");
    assert!(!keys("--release emr-7.9.0 --region eu-west-1").contains_key(&of_bucket("endpoint.region")), "EMRFS");
    assert!(!keys("--spark-version 3.5 --history-only").contains_key("spark.eventLog.dir"));
    assert_eq!(keys("--spark-version 3.5 --set spark.history.store.path=/mnt/x")["spark.history.store.path"], "/mnt/x");

    let memory = with("--release emr-7.12.0 --daemon-memory 4g");
    assert_eq!(
        memory[1]["Configurations"][0],
        json!({"Classification": "export", "Properties": {"SPARK_DAEMON_MEMORY": "4g"}})
    );
    valid_configurations(&memory);
}

/// The properties of the first classification, spark-defaults.
fn properties(configurations: &Value) -> BTreeMap<String, String> {
    assert_eq!(configurations[0]["Classification"], "spark-defaults");
    serde_json::from_value(configurations[0]["Properties"].clone()).unwrap()
}

/// RunJobFlow accepts the configurations.
#[track_caller]
fn valid_configurations(configurations: &Value) {
    let whole = json!({ "Name": "x", "Instances": {}, "Configurations": configurations });
    valid(&["shape", "emr", "RunJobFlow"], &whole.to_string());
}
