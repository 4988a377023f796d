//! `doctor --bundle`: what is in the file, what is not, and where it is written.

use crate::helpers::root_dir::RootDir;
use emr_shs::testing::open_questions;
use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// The files of a bundle.
fn unpacked(path: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(GzDecoder::new(fs::File::open(path).unwrap()));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mode().unwrap(), 0o600);
        assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (0, 0));
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (name, text)
    });
    entries.collect()
}

/// A node with as many secrets and names as a node can have.
fn node_with_secrets() -> (RootDir, Vec<&'static str>) {
    let root = RootDir::new();
    root.write("proc/sys/kernel/hostname", "blue-node-7.corp.acme.example\n");
    root.write("etc/hosts", "127.0.0.1 localhost\n10.66.77.88 blue-node-7.corp.acme.example bluenode\n");
    root.write("etc/resolv.conf", "search corp.acme.example\n");
    root.write("home/mallory/x", "");
    root.core_site(&[
        ("fs.s3.impl", "org.apache.hadoop.fs.s3a.S3AFileSystem"),
        ("fs.defaultFS", "hdfs://blue-node-7.corp.acme.example:8020"),
        ("fs.s3a.secret.key", "swordfish/secret"),
        ("fs.s3a.access.key", "AKIAIOSFODNN7EXAMPLE"),
        ("fs.s3a.bucket.acme-spark.secret.key", "p&amp;ercent%secret"),
        ("fs.s3a.bucket.acme-spark.endpoint", "https://vpce-0a1b2c3d.acme.example"),
        ("fs.s3a.proxy.password", "opensesame"),
        ("hadoop.proxyuser.mallory.hosts", "*"),
    ]);
    let defaults = root.read("etc/spark/conf.dist/spark-defaults.conf");
    root.write(
        "etc/spark/conf.dist/spark-defaults.conf",
        defaults
            + "spark.eventLog.dir s3://acme-spark/whales/events/\nspark.history.ui.admin.acls mallory,trent\n\
               spark.executorEnv.DB_PASSWORD tiger-tiger\nspark.x.option free words of acme\n",
    );
    root.write(
        "etc/spark/conf.dist/spark-env.sh",
        "export SPARK_LOG_DIR=/var/log/spark\nexport VAULT_TOKEN='vault-token-7'\nexport TEAM=whales\n\
         export SPARK_HISTORY_OPTS=\"-Xmx1g -Dvault.secret=history-secret\"\n",
    );
    root.write(
        "etc/systemd/system/spark-history-server.service",
        "[Service]\nType=forking\nPIDFile=/run/spark/spark-history-server.pid\nEnvironment=\"UNIT_SECRET=unit secret\"\n\
         ExecStart=/etc/init.d/spark-history-server start\n",
    );
    root.write(
        "etc/init.d/spark-history-server",
        "#!/bin/bash\n# written by mallory on 10.66.77.88\nexport KEYTAB_PASSWORD=script-secret\nexec spark-class\n",
    );
    root.write("etc/emr-shs/users", "trent:$2y$05$abcdefghijklmnopqrstuuEXAMPLEabcdefghijklmnopqrstuv\n");
    root.write("etc/emr-shs/gateway.env", "EMR_SHS_LISTEN=\"[::]:9977\"\nEMR_SHS_HTPASSWD=\"/etc/emr-shs/users\"\n");
    root.write("etc/emr-shs/install.env", "EMR_SHS_LOGIN=\"trent:install-secret\"\n");
    let secrets = vec![
        "swordfish",
        "AKIAIOSFODNN7EXAMPLE",
        "ercent%",
        "opensesame",
        "tiger-tiger",
        "vault-token-7",
        "history-secret",
        "unit secret",
        "script-secret",
        "$2y$05",
        "install-secret",
        "acme",
        "whales",
        "mallory",
        "trent",
        "blue-node-7",
        "bluenode",
        "10.66.77.88",
        "j-1PJ03JVIDQH3T",
        "111122223333",
        "ig-3IO8Y3HB7E9EE",
        "ip-172-31-59-96",
    ];
    (root, secrets)
}

#[test]
fn a_bundle_helps_and_has_neither_secrets_nor_names() {
    let (root, secrets) = node_with_secrets();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("b.tar.gz");
    let ran =
        root.run(&["doctor", "--event-logs", "s3://acme-spark/whales/events/", "--bundle", file.to_str().unwrap()]);
    assert!([0, 3].contains(&ran.code()), "{}", ran.err());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let files = unpacked(&file);
    for (name, text) in &files {
        for secret in &secrets {
            assert!(!text.to_lowercase().contains(&secret.to_lowercase()), "{secret} in {name}:\n{text}");
        }
    }
    let has = |name: &str, part: &str| assert!(files[name].contains(part), "{part} not in {name}:\n{}", files[name]);
    has("checks.txt", "PASS  primary");
    has("checks.json", "\"name\": \"primary\"");
    has("versions.txt", "Spark: 3.5.6-amzn-0");
    has("settings/spark-defaults.txt", "spark.eventLog.dir s3://bucket-1/name-1/events/");
    has("settings/spark-defaults.txt", "spark.executorEnv.DB_PASSWORD ***");
    has("settings/spark-defaults.txt", "spark.shuffle.service.enabled true");
    has("settings/core-site.txt", "fs.s3a.secret.key ***");
    has("settings/core-site.txt", "fs.s3a.bucket.bucket-1.endpoint https://host-");
    has("settings/spark-env.txt", "SPARK_LOG_DIR /var/log/spark");
    has("settings/spark-env.txt", "VAULT_TOKEN ***");
    has("settings/gateway-env.txt", "EMR_SHS_LISTEN [::]:9977");
    has("unit.txt", "ExecStart=/etc/init.d/spark-history-server start");
    has("unit.txt", "UNIT_SECRET=***");
    has("start-script.txt", "KEYTAB_PASSWORD=***");
    has("jars.txt", "hadoop-aws-3.4.1-amzn-3.jar");
    has("shapes.txt", "\"isMaster\": \"true or false\"");
    has("shapes.txt", "\"emrLogAnalyticsEnabled\"");
    has("answers.txt", "Q1  What is the text of EMR's unit");
    has("answers.txt", "hadoop-aws.jar -> hadoop-aws-3.4.1-amzn-3.jar");
    has("README.txt", "logs/journal.txt");
    // The list on the terminal is that of the file.
    for name in files.keys() {
        assert!(ran.out().contains(&format!("  {name} ")), "{name}: {}", ran.out());
    }
    assert!(ran.out().contains("Not in it:") && ran.out().contains("logs/journal.txt"), "{}", ran.out());
    assert!(ran.out().contains(&format!("sudo tar -xzOf {} answers.txt", file.display())), "{}", ran.out());
}

#[test]
fn json_lists_the_same() {
    let root = RootDir::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("b.tar.gz");
    let ran = root.run(&["--json", "doctor", "--bundle", file.to_str().unwrap()]);
    let json = ran.json();
    assert_eq!(json["command"], "doctor");
    assert!(json["checks"].as_array().unwrap().len() > 20);
    let listed: Vec<&str> =
        json["bundle"]["files"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    let files = unpacked(&file);
    assert_eq!(files.len(), listed.len());
    for entry in json["bundle"]["files"].as_array().unwrap() {
        assert_eq!(files[entry["name"].as_str().unwrap()].len() as u64, entry["size"].as_u64().unwrap());
        assert!(!entry["purpose"].as_str().unwrap().is_empty());
    }
    assert!(
        json["bundle"]["left_out"].as_array().unwrap().iter().all(|left| !left["why"].as_str().unwrap().is_empty())
    );
    assert_eq!(json["bundle"]["file"], file.to_str().unwrap());
    assert_eq!(json["bundle"]["size"], fs::metadata(&file).unwrap().len());
}

#[test]
fn a_bundle_replaces_nothing_and_follows_no_link() {
    let root = RootDir::new();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "theirs").unwrap();
    symlink(at("nowhere"), at("link")).unwrap();
    for name in ["file", "link", ".", "missing/b.tar.gz", "new/"] {
        let ran = root.run(&["doctor", "--bundle", at(name).to_str().unwrap()]);
        assert_eq!(ran.code(), 2, "{name}: {}", ran.err());
        assert!(ran.err().contains("the bundle cannot be written to") && ran.out().is_empty(), "{name}: {}", ran.err());
    }
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "theirs");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no half-written file");
    assert!(!at("nowhere").exists());
}

/// `docs/emr.md §11` is where people read the questions.
#[test]
fn the_questions_are_those_of_the_page() {
    let page = include_str!("../../docs/emr.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| Q"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let asked = open_questions();
    assert_eq!(rows.len(), asked.len());
    for (row, (number, text, how)) in rows.iter().zip(asked) {
        assert_eq!((row[0], row[1], row[4]), (format!("Q{number}").as_str(), text, how));
    }
}
