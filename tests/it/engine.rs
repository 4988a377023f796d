//! `plan`, `install`, `status` and `uninstall` on the files below `--root`.

use crate::helpers::command_output::{CommandOutput, assert_same_tree};
use crate::helpers::root_dir::{DEFAULTS, EMRFS, RootDir, S3A, SDK_V1, SDK_V2};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

const LOGS: [&str; 2] = ["--event-logs", "s3://acme-spark/events/"];
const JARS: &str = "usr/lib/emr-shs/jars";

fn install(root: &RootDir, more: &[&str]) -> CommandOutput {
    root.run(&[&["install"], &LOGS[..], more].concat())
}

fn value(root: &RootDir, key: &str) -> Option<String> {
    let file = emr_shs::testing::SparkDefaults::parse(root.read(DEFAULTS).as_bytes()).unwrap();
    file.trimmed(key).map(str::to_string)
}

#[test]
fn install_then_uninstall_leaves_no_trace() {
    let root = RootDir::new();
    let before = root.tree();
    install(&root, &[]).expect(0);
    assert_eq!(value(&root, "spark.eventLog.dir").unwrap(), "s3://acme-spark/events/");
    assert_eq!(value(&root, "spark.history.fs.logDirectory").unwrap(), "s3://acme-spark/events/");
    assert_eq!(
        fs::read_link(root.at(&format!("{JARS}/hadoop-aws.jar"))).unwrap().to_str(),
        Some("/usr/lib/hadoop/hadoop-aws.jar"),
        "the unversioned path, where there is one"
    );
    assert_eq!(
        fs::read_link(root.at(&format!("{JARS}/aws-sdk-v2.jar"))).unwrap().to_str(),
        Some("/usr/share/aws/aws-java-sdk-v2/aws-sdk-java-bundle-2.35.5.jar")
    );
    assert!(!root.at(&format!("{JARS}/aws-sdk-v1.jar")).exists(), "SDK v1 is not what this hadoop-aws was built for");
    assert!(
        root.read("etc/systemd/system/spark-history-server.service.d/zz-emr-shs.conf")
            .contains("/usr/lib/emr-shs/jars/*")
    );
    assert_eq!(fs::read_dir(root.at("usr/lib/spark/jars")).unwrap().count(), 1);
    root.run(&["uninstall"]).expect(0);
    assert_same_tree(&before, &root.tree());
}

#[test]
fn a_second_install_has_nothing_to_do_and_records_nothing() {
    let root = RootDir::new();
    let before = root.tree();
    let plan = root.run(&["plan", "--check", LOGS[0], LOGS[1]]);
    plan.expect(4);
    install(&root, &[]).expect(0);
    let installed = root.tree();
    let again = root.run(&["install"]).expect(0);
    assert!(again.err().contains("nothing to do"), "{}", again.err());
    assert_same_tree(&installed, &root.tree());
    root.run(&["plan", "--check"]).expect(0);
    root.run(&["uninstall"]).expect(0);
    assert_same_tree(&before, &root.tree());
}

#[test]
fn plan_and_dry_run_change_nothing() {
    let root = RootDir::new();
    let before = root.tree();
    let plan = root.run(&["plan", LOGS[0], LOGS[1]]).expect(0);
    assert!(plan.out().contains("hdfs:///var/log/spark/apps → s3://acme-spark/events/"), "{}", plan.out());
    let dry = install(&root, &["--dry-run"]).expect(0);
    assert_eq!(plan.out(), dry.out());
    let json = root.run(&["plan", "--json", LOGS[0], LOGS[1]]).expect(0).json();
    assert_eq!(json["schema"], 1);
    let rows = json["changes"].as_array().unwrap();
    let row = rows.iter().find(|r| r["name"] == "spark.history.fs.logDirectory").unwrap();
    assert_eq!(row["action"], "change");
    assert_same_tree(&before, &root.tree());
    install(&root, &[]).expect(0);
    let installed = root.tree();
    root.run(&["uninstall", "--dry-run"]).expect(0);
    assert_same_tree(&installed, &root.tree());
}

#[test]
fn edits_by_others_survive_uninstall_and_are_reported() {
    let root = RootDir::new();
    install(&root, &[]).expect(0);
    let text = root.read(DEFAULTS);
    let text =
        text.lines()
            .map(|l| {
                if l.starts_with("spark.history.fs.update.interval") {
                    "spark.history.fs.update.interval 5m"
                } else {
                    l
                }
            })
            .collect::<Vec<_>>()
            .join("\n");
    root.write(DEFAULTS, format!("{text}\nspark.acme.team data\n"));
    fs::remove_file(root.at(&format!("{JARS}/aws-sdk-v2.jar"))).unwrap();
    symlink("/opt/other.jar", root.at(&format!("{JARS}/aws-sdk-v2.jar"))).unwrap();
    root.write(&format!("{JARS}/notes.txt"), "somebody's own");

    let status = root.run(&["status", "--json"]).expect(0).json();
    let changed: Vec<&str> = status["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| r["condition"] == "changed")
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    assert_eq!(changed, ["/usr/lib/emr-shs/jars/aws-sdk-v2.jar", "spark.history.fs.update.interval"]);

    let ran = root.run(&["uninstall"]).expect(0);
    for left in ["spark.history.fs.update.interval", "aws-sdk-v2.jar", "/usr/lib/emr-shs/jars/"] {
        assert!(ran.err().lines().any(|l| l.contains(left) && l.contains("left")), "{left}: {}", ran.err());
    }
    assert_eq!(value(&root, "spark.history.fs.update.interval").unwrap(), "5m");
    assert_eq!(value(&root, "spark.acme.team").unwrap(), "data");
    assert_eq!(value(&root, "spark.eventLog.dir").unwrap(), "hdfs:///var/log/spark/apps");
    assert_eq!(fs::read_link(root.at(&format!("{JARS}/aws-sdk-v2.jar"))).unwrap().to_str(), Some("/opt/other.jar"));
    assert_eq!(root.read(&format!("{JARS}/notes.txt")), "somebody's own");
}

#[test]
fn settings_that_a_reconfiguration_removed_are_reported_and_restored() {
    let root = RootDir::new();
    let before = root.tree();
    let original = root.read(DEFAULTS);
    install(&root, &[]).expect(0);
    let installed = root.read(DEFAULTS);
    let healthy = root.run(&["status"]).expect(0).out();
    assert!(healthy.contains("as installed; -v lists them") && healthy.lines().count() < 24, "{healthy}");
    let verbose = root.run(&["status", "-v"]).expect(0).out();
    assert!(verbose.lines().any(|l| l.starts_with("ok") && l.contains("spark.eventLog.dir")), "{verbose}");
    root.write(DEFAULTS, &original);
    let status = root.run(&["status"]).expect(0);
    assert!(
        status.out().lines().any(|l| l.starts_with("lost") && l.contains("spark.eventLog.dir")),
        "{}",
        status.out()
    );
    root.run(&["plan", "--check"]).expect(4);
    root.run(&["install"]).expect(0);
    assert_eq!(root.read(DEFAULTS), installed);
    root.run(&["uninstall"]).expect(0);
    assert_same_tree(&before, &root.tree());
}

#[test]
fn uninstall_restores_the_state_before_the_first_install() {
    let root = RootDir::new();
    let before = root.tree();
    install(&root, &[]).expect(0);
    root.run(&["install", "--event-logs", "s3://acme-spark/elsewhere"]).expect(0);
    assert_eq!(value(&root, "spark.eventLog.dir").unwrap(), "s3://acme-spark/elsewhere/");
    root.run(&["install", "--link-into", "spark-jars"]).expect(0);
    assert!(root.at("usr/lib/spark/jars/emr-shs-hadoop-aws.jar").symlink_metadata().is_ok());
    assert!(!root.at("usr/lib/emr-shs").exists(), "what is no longer wanted is taken back");
    root.run(&["install", "--link-into", "daemon", "--history-only"]).expect(0);
    assert_eq!(value(&root, "spark.eventLog.dir").unwrap(), "hdfs:///var/log/spark/apps");
    root.run(&["uninstall"]).expect(0);
    assert_same_tree(&before, &root.tree());
}

#[test]
fn an_install_that_crashed_anywhere_can_be_undone_and_finished() {
    // A run writes its changes to the receipt before it makes them. Try the receipt of every beginning of an
    // installation, with none of the changes made; the tests on a node kill a run between two changes.
    let whole = RootDir::new();
    install(&whole, &[]).expect(0);
    let receipt: serde_json::Value = serde_json::from_str(&whole.read("var/lib/emr-shs/receipt.json")).unwrap();
    let entries = receipt["entries"].as_array().unwrap().clone();
    for made in 0..entries.len() {
        let root = RootDir::new();
        let before = root.tree();
        let mut partial = receipt.clone();
        partial["entries"] = entries[..=made].to_vec().into();
        partial["owes_restart"] = true.into();
        root.write("var/lib/emr-shs/receipt.json", partial.to_string());
        root.write("usr/lib/hadoop/.unrelated", "stays");
        let with_unrelated = {
            let mut t = before.clone();
            t.insert(
                "usr/lib/hadoop/.unrelated".into(),
                root.tree()[std::path::Path::new("usr/lib/hadoop/.unrelated")].clone(),
            );
            t
        };
        root.run(&["uninstall"]).expect(0);
        assert_same_tree(&with_unrelated, &root.tree());
        root.write("var/lib/emr-shs/receipt.json", partial.to_string());
        root.run(&["install"]).expect(0);
        root.run(&["plan", "--check"]).expect(0);
        root.run(&["uninstall"]).expect(0);
        assert_same_tree(&with_unrelated, &root.tree());
    }
}

#[test]
fn uninstall_keeps_settings_that_were_the_same_before() {
    let root = RootDir::new();
    root.write(DEFAULTS, "spark.eventLog.enabled true\nspark.history.fs.update.interval=60s\n");
    install(&root, &[]).expect(0);
    root.run(&["uninstall"]).expect(0);
    assert_eq!(root.read(DEFAULTS), "spark.eventLog.enabled true\nspark.history.fs.update.interval=60s\n");
}

#[test]
fn a_tuning_value_that_the_user_chose_is_kept_and_shown() {
    let root = RootDir::new();
    root.write(DEFAULTS, "spark.history.fs.update.interval 5m\nspark.history.store.path /data/store\n");
    let plan = root.run(&["plan", LOGS[0], LOGS[1]]).expect(0).out();
    let row = plan.lines().find(|l| l.contains("spark.history.fs.update.interval")).unwrap();
    assert!(row.starts_with("keep") && row.contains("5m") && row.contains("60s"), "{row}");
    install(&root, &[]).expect(0);
    assert_eq!(value(&root, "spark.history.store.path").unwrap(), "/data/store");
    assert!(!root.at("mnt/emr-shs").exists());
}

/// The value of spark.history.store.path as a path below the root.
fn store(root: &RootDir) -> PathBuf {
    root.at(value(root, "spark.history.store.path").unwrap().trim_start_matches('/'))
}

#[test]
fn each_directory_of_event_logs_has_its_own_store_and_two_stay() {
    let root = RootDir::new();
    let before = root.tree();
    let install_at = |uri: &str| {
        root.run(&["install", "--event-logs", uri]).expect(0);
        let store = store(&root);
        fs::create_dir_all(store.join("listing.rdb")).unwrap();
        store
    };
    let first = install_at("s3://bucket/a/");
    let second = install_at("s3://bucket/a/b/");
    assert!(first != second && first.is_dir() && second.is_dir());
    // Spark compares the whole text, so another scheme is another directory.
    let third = install_at("s3a://bucket/a/b/");
    assert!(third != second && second.is_dir() && !first.exists());
    // Back to the second: its store is still there, and the third stays.
    assert_eq!(install_at("s3://bucket/a/b/"), second);
    assert!(third.is_dir());
    root.run(&["plan", "--check"]).expect(0);
    root.run(&["uninstall"]).expect(0);
    assert_same_tree(&before, &root.tree());
}

#[test]
fn there_is_no_store_where_event_logs_roll_unless_somebody_names_one() {
    let root = RootDir::new();
    root.write(DEFAULTS, "spark.eventLog.rolling.enabled True\n");
    let ran = install(&root, &[]).expect(0);
    assert!(ran.err().contains("No local store for the history server: event logs roll"), "{}", ran.err());
    assert!(!root.at("mnt/emr-shs").exists());
    // Also where the installation itself has them roll, or not.
    install(&root, &["--set", "spark.eventLog.rolling.enabled=false"]).expect(0);
    assert!(root.at("mnt/emr-shs").exists());
    let ran = install(&root, &["--set", "spark.eventLog.rolling.enabled=true"]).expect(0);
    assert!(ran.err().contains("No local store for the history server: event logs roll"), "{}", ran.err());
    assert_eq!(value(&root, "spark.history.fs.update.interval").as_deref(), Some("300s"));
    root.run(&["plan", "--check"]).expect(0);
    install(&root, &["--set", "spark.history.store.path=/data/store"]).expect(0);
    assert_eq!(value(&root, "spark.history.store.path").unwrap(), "/data/store");
}

#[test]
fn event_logs_that_the_server_would_rewrite_stop_the_installation() {
    const LIMIT: &str = "spark.history.fs.eventLog.rolling.maxFilesToRetain";
    let root = RootDir::new();
    let before = root.tree();
    let refused = install(&root, &["--set", &format!("{LIMIT}=3")]).expect(3);
    assert!(
        refused.err().contains("would rewrite the rolling event logs in s3://acme-spark/events/"),
        "{}",
        refused.err()
    );
    assert_same_tree(&before, &root.tree());
    root.write("etc/spark/conf.dist/spark-env.sh", format!("export SPARK_HISTORY_OPTS=\"-D{LIMIT}=3\"\n"));
    let refused = install(&root, &["--set", &format!("{LIMIT}={}", i32::MAX)]).expect(3);
    let says = refused.err().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(says.contains(&format!("take -D{LIMIT} out of line 1 of /etc/spark/conf/spark-env.sh")), "{says}");
    install(&root, &["--force"]).expect(0);
}

#[test]
fn an_option_with_which_the_server_would_delete_event_logs_stops_the_installation_however_it_is_written() {
    const CLEANER: &str = "-Dspark.history.fs.cleaner.enabled";
    const LIMIT: &str = "-Dspark.history.fs.eventLog.rolling.maxFilesToRetain";
    const ENV: &str = "etc/spark/conf.dist/spark-env.sh";
    let says = |ran: &CommandOutput| ran.err().split_whitespace().collect::<Vec<_>>().join(" ");
    for (option, value, harmless) in [(CLEANER, "true", "false"), (LIMIT, "3", "2147483647")] {
        let root = RootDir::new();
        let texts = |value: &str| {
            [
                format!("export SPARK_DAEMON_JAVA_OPTS=\"$SPARK_DAEMON_JAVA_OPTS {option}={value}\"\n"),
                format!("export SPARK_HISTORY_OPTS\nSPARK_HISTORY_OPTS+=\" {option}={value}\"\n"),
                format!("SPARK_HISTORY_OPTS=\"-Xmx1g \\\n  {option}={value} \\\n  -Xss1m\"\n"),
                format!("SPARK_HISTORY_OPTS=\"-Xmx1g\n{option}={value}\n-Xss1m\"\n"),
                format!("MINE='{option}={value}'; export SPARK_HISTORY_OPTS=\"$MINE\"\n"),
                format!("if true; then export SPARK_HISTORY_OPTS={option}={value}; fi\n"),
            ]
        };
        for text in texts(value).into_iter().chain(texts("$(cat /etc/x)")) {
            root.write(ENV, &text);
            let refused = install(&root, &[]).expect(3);
            let found = says(&refused);
            assert!(
                found.contains(&format!("take {option} out of line "))
                    && found.contains("of /etc/spark/conf/spark-env.sh"),
                "{text}{found}"
            );
        }
        for text in texts(harmless).into_iter().chain([format!("# export SPARK_HISTORY_OPTS={option}={value}\n")]) {
            root.write(ENV, &text);
            root.run(&["plan", LOGS[0], LOGS[1]]).expect(0);
        }
        fs::remove_file(root.at(ENV)).unwrap();
        root.write("etc/default/spark-history-server", format!("export SPARK_HISTORY_OPTS={option}={value}\n"));
        let refused = install(&root, &[]).expect(3);
        assert!(says(&refused).contains("out of line 1 of /etc/default/spark-history-server"), "{}", says(&refused));
        fs::remove_file(root.at("etc/default/spark-history-server")).unwrap();
        root.run(&["plan", LOGS[0], LOGS[1]]).expect(0);
    }
    // The options win over the file, and the last one wins.
    let root = RootDir::new();
    root.write(DEFAULTS, "spark.history.fs.cleaner.enabled true\n");
    install(&root, &[]).expect(3);
    root.write(ENV, format!("export SPARK_HISTORY_OPTS={CLEANER}=false\n"));
    install(&root, &[]).expect(0);
}

#[test]
fn spark_defaults_keeps_its_access_control_list() {
    const ACL: &str = "system.posix_acl_access";
    let root = RootDir::new();
    root.write(DEFAULTS, "spark.acme.team data\n");
    // As `setfacl -m u:12345:rw` makes it: of the owner, that user, the group, the mask, and others.
    let entries = [(1u16, 6u16, u32::MAX), (2, 6, 12345), (4, 4, u32::MAX), (16, 6, u32::MAX), (32, 0, u32::MAX)];
    let entry = |(tag, rights, id): (u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let list: Vec<u8> = 2u32.to_le_bytes().into_iter().chain(entries.into_iter().flat_map(entry)).collect();
    rustix::fs::setxattr(root.at(DEFAULTS), ACL, &list, rustix::fs::XattrFlags::empty()).unwrap();
    let found = || {
        let mut list = vec![0; 1024];
        let length = rustix::fs::getxattr(root.at(DEFAULTS), ACL, list.as_mut_slice()).unwrap();
        list.truncate(length);
        list
    };
    install(&root, &[]).expect(0);
    assert!(value(&root, "spark.history.fs.logDirectory").is_some());
    assert_eq!(found(), list);
    root.run(&["uninstall"]).expect(0);
    assert_eq!(found(), list);
}

#[test]
fn threads_that_read_event_logs_have_room_in_the_heap() {
    let threads = |heap: &str| {
        let root = RootDir::new();
        root.write("etc/spark/conf.dist/spark-env.sh", format!("export SPARK_DAEMON_MEMORY={heap}\n"));
        install(&root, &[]).expect(0);
        value(&root, "spark.history.fs.numReplayThreads")
    };
    assert_eq!(threads("1g"), None);
    assert_eq!(threads("2g").as_deref(), Some("2"));
    assert_eq!(threads("32g").as_deref(), Some("8"));
}

#[test]
fn the_options_history_only_set_and_jar_take_effect() {
    let root = RootDir::new();
    install(&root, &["--history-only", "--set", "spark.history.retainedApplications=7"]).expect(0);
    assert_eq!(value(&root, "spark.eventLog.dir").unwrap(), "hdfs:///var/log/spark/apps");
    assert_eq!(value(&root, "spark.history.fs.logDirectory").unwrap(), "s3://acme-spark/events/");
    assert_eq!(value(&root, "spark.history.retainedApplications").unwrap(), "7");

    let root = RootDir::new();
    root.jar("opt/mine/my-sdk.jar", &[(SDK_V2, "")]);
    install(&root, &["--jar", "/opt/mine/my-sdk.jar"]).expect(0);
    assert!(root.at(&format!("{JARS}/my-sdk.jar")).symlink_metadata().is_ok());
    assert!(!root.at(&format!("{JARS}/aws-sdk-v2.jar")).exists(), "the named jar is used in place of the found one");
}

#[test]
fn jars_are_chosen_by_their_contents() {
    // EMRFS contains its own SDK.
    let root = RootDir::new();
    root.core_site(&[("fs.s3.impl", "com.amazon.ws.emr.hadoop.fs.EmrFileSystem")]);
    root.jar("usr/share/aws/emr/emrfs/lib/emrfs-hadoop-assembly-2.9.0.jar", &[(EMRFS, "")]);
    root.jar("usr/share/aws/emr/emrfs/lib/emrfs-hadoop-assembly-2.62.0.jar", &[(EMRFS, "")]);
    fs::create_dir_all(root.at("usr/share/aws/emr/emrfs/lib/directory.jar")).unwrap();
    install(&root, &[]).expect(0);
    assert_eq!(
        fs::read_link(root.at(&format!("{JARS}/emrfs.jar"))).unwrap().file_name().unwrap().to_str(),
        Some("emrfs-hadoop-assembly-2.62.0.jar"),
        "the highest version, by number"
    );
    assert_eq!(fs::read_dir(root.at(JARS)).unwrap().count(), 1);

    // hadoop-aws is built for SDK v1, and the SDK lies in separate modules.
    let root = RootDir::new();
    root.jar("usr/lib/hadoop/hadoop-aws-3.4.1-amzn-3.jar", &[(S3A, "com/amazonaws/A")]);
    fs::remove_file(root.at("usr/share/aws/aws-java-sdk/aws-java-sdk-bundle-1.12.792.jar")).unwrap();
    root.jar("usr/share/aws/aws-java-sdk/aws-java-sdk-s3-1.11.700.jar", &[(SDK_V1, "")]);
    for jar in
        ["aws-java-sdk-core-1.11.700", "aws-java-sdk-s3control-1.11.700", "jmespath-java-1.11.700", "ion-java-1.0.2"]
    {
        root.jar(&format!("usr/share/aws/aws-java-sdk/{jar}.jar"), &[("com/amazonaws/A.class", "")]);
    }
    install(&root, &[]).expect(0);
    let mut names: Vec<_> =
        fs::read_dir(root.at(JARS)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let parts = ["aws-java-sdk-core-1.11.700.jar", "aws-java-sdk-s3-1.11.700.jar"];
    let others = ["hadoop-aws.jar", "ion-java-1.0.2.jar", "jmespath-java-1.11.700.jar"];
    assert_eq!(names, [&parts[..], &others].concat(), "not a link for every service of AWS");

    // Jars that are on the class path already get no link.
    let root = RootDir::new();
    root.jar("usr/lib/spark/jars/hadoop-aws-3.4.1.jar", &[(S3A, "software/amazon/awssdk/A")]);
    root.jar("usr/lib/spark/jars/bundle-2.24.6.jar", &[(SDK_V2, "")]);
    install(&root, &[]).expect(0);
    assert!(!root.at("usr/lib/emr-shs").exists());
    assert!(!root.at("etc/systemd/system/spark-history-server.service.d/zz-emr-shs.conf").exists());
}

#[test]
fn a_refusal_says_what_to_do_and_changes_nothing() {
    // Words of the message, what is wrong with the node, further arguments, exit code.
    type Case<'a> = (&'a str, &'a dyn Fn(&RootDir), &'a [&'a str], i32);
    let cases: &[Case<'_>] = &[
        (
            "no jar on this node contains org.apache.hadoop.fs.s3a.S3AFileSystem",
            &|r| fs::remove_file(r.at("usr/lib/hadoop/hadoop-aws-3.4.1-amzn-3.jar")).unwrap(),
            &[],
            3,
        ),
        (
            "2 jars of AWS SDK v2",
            &|r| {
                r.jar("usr/lib/spark/jars/hadoop-aws-3.4.1.jar", &[(S3A, "software/amazon/awssdk/A")]);
                r.jar("usr/lib/spark/jars/bundle-2.24.6.jar", &[(SDK_V2, "")]);
                r.jar("usr/lib/spark/jars/bundle-2.25.0.jar", &[(SDK_V2, "")]);
            },
            &[],
            3,
        ),
        ("line 2: \\u12 is no", &|r| r.write(DEFAULTS, "a b\nspark.x \\u12\n"), &[], 3),
        ("would delete event logs", &|r| r.write(DEFAULTS, "spark.history.fs.cleaner.enabled true\n"), &[], 3),
        (
            "emr-shs did not make /usr/lib/emr-shs/jars/hadoop-aws.jar",
            &|r| r.write("usr/lib/emr-shs/jars/hadoop-aws.jar", "a file of somebody's"),
            &[],
            3,
        ),
        ("core-site.xml does not set fs.s3.impl", &|r| r.core_site(&[]), &[], 3),
        (
            "not the cluster's primary node",
            &|r| r.write("mnt/var/lib/info/instance.json", r#"{"isMaster": false}"#),
            &[],
            3,
        ),
        ("does not look like an EMR node", &|r| fs::remove_dir_all(r.at("mnt/var")).unwrap(), &[], 3),
        ("no Spark at /usr/lib/spark", &|r| fs::remove_dir_all(r.at("usr/lib/spark")).unwrap(), &[], 3),
        ("wanted a key that begins with", &|_| {}, &["--set", "spark.master=local"], 2),
        ("--event-logs sets it", &|_| {}, &["--set", "spark.eventLog.dir=s3://a/b"], 2),
        ("absolute path", &|_| {}, &["--jar", "a.jar"], 2),
    ];
    for (message, prepare, more, code) in cases {
        let root = RootDir::new();
        prepare(&root);
        let before = root.tree();
        let ran = install(&root, more).expect(*code);
        assert!(ran.err().contains(message), "wanted “{message}” in:\n{}", ran.err());
        assert!(ran.err().contains("hint:"), "{}", ran.err());
        assert_same_tree(&before, &root.tree());
    }
}

#[test]
fn uninstall_restores_a_file_that_force_replaced() {
    let root = RootDir::new();
    root.write("usr/lib/emr-shs/jars/hadoop-aws.jar", "a file of somebody's");
    let before = root.tree();
    install(&root, &["--force"]).expect(0);
    assert!(root.at(&format!("{JARS}/hadoop-aws.jar")).symlink_metadata().unwrap().is_symlink());
    root.run(&["uninstall"]).expect(0);
    assert_same_tree(&before, &root.tree());
}

#[test]
fn event_log_uris_that_cannot_work_are_refused() {
    for bad in [
        "/tmp/x",
        "hdfs:///x",
        "s3://",
        "s3://B/x",
        "s3://b//x",
        "s3://bucket/a//b",
        "s3://bucket/a,s3://c/d",
        "s3://bucket/a b",
        "s3://bucket--use1-az4--x-s3/a",
        "s3://bucket/../x",
    ] {
        let root = RootDir::new();
        let ran = root.run(&["plan", "--event-logs", bad]);
        assert_eq!(ran.code(), 2, "{bad}: {}", ran.out());
    }
    let root = RootDir::new();
    assert!(root.run(&["plan"]).expect(2).err().contains("--event-logs"));
    for (given, used) in
        [("s3n://bucket/x", "s3://bucket/x/"), ("s3://bucket/x///", "s3://bucket/x/"), ("s3://bucket", "s3://bucket/")]
    {
        let plan = RootDir::new().run(&["plan", "--event-logs", given]).expect(0).out();
        assert!(plan.contains(&format!("→ {used}\n")), "{given}: {plan}");
    }
}

#[test]
fn the_directory_of_a_cluster_is_refused_as_log_uri() {
    let root = RootDir::new();
    let before = root.tree();
    for bad in ["s3://acme-logs/emr/j-3H6EATEWWRWS/", "s3n://acme-logs/emr/j-3H6EATEWWRWS/containers"] {
        for command in ["plan", "install"] {
            let ran = root.run(&[command, LOGS[0], LOGS[1], "--log-uri", bad]).expect(2);
            for says in ["is no log URI", "the cluster j-3H6EATEWWRWS", "hint: --log-uri s3://acme-logs/emr/\n"] {
                assert!(ran.err().contains(says), "{command} {bad}: wanted “{says}” in:\n{}", ran.err());
            }
        }
        let among = format!("s3://other-logs/emr/,{bad}");
        root.run(&["plan", LOGS[0], LOGS[1], "--log-uri", &among]).expect(2);
        root.run(&["proxy", "install", "--log-uri", bad]).expect(2);
    }
    assert_same_tree(&before, &root.tree());
    for good in ["s3://acme-logs/emr/", "s3://acme-logs/applications/00f1r2fo0l4l4l09/", "s3://acme-logs/containers/"] {
        root.run(&["plan", LOGS[0], LOGS[1], "--log-uri", good]).expect(0);
    }
}

#[test]
fn store_keys_depend_on_the_version_of_spark() {
    let keys = |version: &str| {
        let root = RootDir::new();
        fs::remove_file(root.at("usr/lib/spark/jars/spark-core_2.12-3.5.6-amzn-0.jar")).unwrap();
        root.jar(&format!("usr/lib/spark/jars/spark-core_2.12-{version}.jar"), &[("a", "")]);
        root.write("etc/spark/conf.dist/spark-env.sh", "export SPARK_DAEMON_MEMORY=8g\n");
        install(&root, &[]).expect(0);
        ["store.path", "store.hybridStore.enabled", "store.hybridStore.diskBackend", "store.serializer"]
            .map(|k| value(&root, &format!("spark.history.{k}")).is_some())
    };
    assert_eq!(keys("2.2.1"), [false, false, false, false]);
    assert_eq!(keys("2.4.4"), [true, false, false, false]);
    assert_eq!(keys("3.1.2-amzn-0"), [true, true, false, false]);
    assert_eq!(keys("3.3.0-amzn-1"), [true, true, true, false]);
    assert_eq!(keys("3.5.6-amzn-0"), [true, true, true, true]);
    // Event logs roll.
    assert_eq!(keys("4.1.1-amzn-0"), [false, false, false, false]);
}

#[test]
fn a_second_run_at_the_same_time_is_refused() {
    let root = RootDir::new();
    let lock = fs::File::create(root.at("run/emr-shs.lock")).unwrap();
    fs::write(root.at("run/emr-shs.lock"), "install, process 4711").unwrap();
    lock.lock().unwrap();
    let ran = install(&root, &[]).expect(3);
    // The holder is the one that the kernel names, whatever the file says.
    let holder = format!("held by: process {} (", std::process::id());
    assert!(ran.err().contains(&holder), "{}", ran.err());
}

#[test]
fn uninstall_reads_newer_receipts_and_refuses_unknown_schemas() {
    let root = RootDir::new();
    let before = root.tree();
    install(&root, &[]).expect(0);
    // A field that a later version wrote is ignored.
    let text = root.read("var/lib/emr-shs/receipt.json");
    root.write("var/lib/emr-shs/receipt.json", text.replacen('{', r#"{"of_a_later_version": {"a": 1},"#, 1));
    root.run(&["uninstall"]).expect(0);
    assert_same_tree(&before, &root.tree());

    root.write("var/lib/emr-shs/receipt.json", r#"{"schema": 99, "entries": []}"#);
    assert!(root.run(&["uninstall"]).expect(3).err().contains("newer emr-shs"));
    root.write("var/lib/emr-shs/receipt.json", "{");
    assert!(root.run(&["uninstall"]).expect(3).err().contains("receipt.json"));
}

#[test]
fn keys_that_an_older_version_set_for_all_buckets_become_keys_of_one() {
    const ALL: &str = "spark.hadoop.fs.s3a.";
    const ONE: &str = "spark.hadoop.fs.s3a.bucket.acme-spark.";
    let root = RootDir::new();
    let before = root.tree();
    install(&root, &["--endpoint-url", "http://s3.local:9000"]).expect(0);
    for path in [DEFAULTS, "var/lib/emr-shs/receipt.json"] {
        root.write(path, root.read(path).replace(ONE, ALL));
    }
    assert_eq!(value(&root, &format!("{ALL}endpoint")).as_deref(), Some("http://s3.local:9000"));
    root.run(&["plan", "--check"]).expect(4);
    root.run(&["install"]).expect(0);
    for (name, wanted) in [("endpoint", "http://s3.local:9000"), ("path.style.access", "true")] {
        assert_eq!(value(&root, &format!("{ONE}{name}")).as_deref(), Some(wanted));
        assert_eq!(value(&root, &format!("{ALL}{name}")), None, "the key for all buckets is put back");
    }
    root.run(&["plan", "--check"]).expect(0);
    root.run(&["uninstall"]).expect(0);
    assert_same_tree(&before, &root.tree());
}

#[test]
fn a_bucket_name_with_dots_gets_path_style_and_one_without_a_host_for_java_is_refused() {
    let root = RootDir::new();
    let plan = |uri: &str| root.run(&["plan", "--event-logs", uri]);
    let dotted = plan("s3://acme.spark/events/").expect(0);
    assert!(dotted.out().contains("spark.hadoop.fs.s3a.bucket.acme.spark.path.style.access"), "{}", dotted.out());
    assert!(!plan("s3://acme-spark/events/").expect(0).out().contains("path.style"));
    for uri in ["s3://acme-spark-v1.1/events/", "s3://acme_spark/events/"] {
        let refused = plan(uri).expect(3);
        assert!(refused.err().contains("Hadoop finds no bucket"), "{}", refused.err());
    }
}

#[test]
fn bytes_that_are_not_utf_8_end_no_command_and_stay_as_they_are() {
    let root = RootDir::new();
    let append = |path: &str, bytes: &[u8]| {
        let old = fs::read(root.at(path)).unwrap();
        root.write(path, [&old, bytes].concat());
    };
    append("etc/spark/conf.dist/spark-env.sh", b"\n# Andr\xe9\n");
    append("etc/hadoop/conf/core-site.xml", b"<!-- Andr\xe9 -->\n");
    append("etc/passwd", b"andr\xe9:x:7:7::/:/bin/sh\n");
    append("mnt/var/lib/info/instance.json", b"\n");
    append(DEFAULTS, b"# Andr\xe9\nspark.eventLog.dir hdfs:///andr\xe9\n");
    let before = root.tree();
    for command in [&["discover"][..], &["plan", LOGS[0], LOGS[1]]] {
        root.run(command).expect(0);
    }
    install(&root, &[]).expect(0);
    assert_eq!(value_of_bytes(&root, "spark.eventLog.dir").as_deref(), Some("s3://acme-spark/events/"));
    root.run(&["status"]).expect(0);
    root.run(&["uninstall"]).expect(0);
    assert_same_tree(&before, &root.tree());
}

fn value_of_bytes(root: &RootDir, key: &str) -> Option<String> {
    let file = fs::read(root.at(DEFAULTS)).unwrap();
    emr_shs::testing::SparkDefaults::parse(&file).unwrap().trimmed(key).map(str::to_string)
}

#[test]
fn a_value_that_the_user_names_is_wanted_also_where_somebody_else_wrote_it() {
    const KEY: &str = "spark.history.fs.update.interval";
    let root = RootDir::new();
    install(&root, &[]).expect(0);
    let changed = root.read(DEFAULTS).replace(&format!("{KEY} 60s"), &format!("{KEY} 17s"));
    root.write(DEFAULTS, &changed);
    install(&root, &[]).expect(5);
    install(&root, &["--set", &format!("{KEY}=17s")]).expect(0);
    let removed = root.run(&["uninstall"]).expect(0);
    assert!(!removed.err().contains("left alone"), "{}", removed.err());
    assert_eq!(value(&root, KEY), None);
}
