//! `doctor --bundle` on a node: what helps is in the file, and nothing that tells whose node it is.

use crate::helpers::node::{CLUSTER, LOG_URI, LOGS, Node, PRIVATE_NAME, Profile};
use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const HASH: &str = "$2y$06$Qw3rTy1sHrTsSaLtXxYyZuXDyOiXvWRGdzGW/YapCliE6d.gp/z9u";
const LOG: &str = "/var/log/spark/spark-history-server.out";

/// Writes a bundle, and gives its files, the output, and the exit code.
fn bundle(node: &Node, path: &str) -> (BTreeMap<String, String>, String, i32) {
    let (ran, took) = node.timed(&["emr-shs", "doctor", "--bundle", path]);
    assert!(took < Duration::from_secs(20), "{took:?}");
    let file = node.path(path);
    assert_eq!(
        fs::metadata(&file).unwrap_or_else(|e| panic!("{e}: {}", ran.err())).permissions().mode() & 0o7777,
        0o600
    );
    let mut archive = tar::Archive::new(GzDecoder::new(fs::File::open(file).unwrap()));
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (entry.path().unwrap().display().to_string(), text)
    });
    (files.collect(), ran.out(), ran.code())
}

#[track_caller]
fn has(files: &BTreeMap<String, String>, name: &str, part: &str) {
    let text = files.get(name).unwrap_or_else(|| panic!("{name} is not in the bundle: {:?}", files.keys()));
    assert!(text.contains(part), "{part} is not in {name}:\n{text}");
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn a_bundle_of_a_node_helps_and_tells_no_secret_and_no_name() {
    let node = Node::fresh(Profile::Emr712);
    let plain = bundle(&node, "/srv/plain.tar.gz");
    assert!([0, 3].contains(&plain.2), "{}", plain.1);
    has(&plain.0, "answers.txt", "not answered: there is no drop-in of emr-shs on this node");
    has(&plain.0, "process.txt", "/usr/lib/spark/jars/*");
    has(&plain.0, "unit.txt", "ExecStart=/etc/init.d/spark-history-server start");
    assert!(plain.1.contains("settings/receipt.json") && plain.1.contains("emr-shs is not installed"), "{}", plain.1);

    node.sh(&format!(
        "useradd -m mallory; groupadd --system emr-shs; install -d /etc/emr-shs; echo 'trent:{HASH}' >/etc/emr-shs/users; \
         chgrp emr-shs /etc/emr-shs/users; chmod 640 /etc/emr-shs/users"
    ));
    let login = ["--tls-self-signed", "--htpasswd", "/etc/emr-shs/users"];
    node.emr_shs(&[&["install", "--event-logs", LOGS], &login[..]].concat()).expect(0);
    node.upload_container_logs(LOG_URI, true);
    // What a log of a real cluster has, and this one lacks.
    node.sh(&format!(
        "printf '%s\\n' 'ERROR S3AFileSystem: labrootsecret labroot for {CLUSTER} of mallory in acme-spark' \
         'WARN Token: Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE, Signature=5ca1ab1e' \
         'INFO from 172.31.59.96 and {PRIVATE_NAME}, 111122223333 arn:aws:iam::111122223333:role/whales' >>{LOG}"
    ));
    let (files, printed, code) = bundle(&node, "/srv/bundle.tar.gz");
    assert!([0, 3].contains(&code), "{printed}");
    has(&files, "checks.txt", "PASS  primary");
    has(&files, "checks.json", "\"result\": \"pass\"");
    has(&files, "versions.txt", "EMR release: emr-7.12.0");
    has(&files, "versions.txt", "systemd: systemd ");
    has(&files, "settings/spark-defaults.txt", "spark.eventLog.dir s3://bucket-1/events/");
    has(&files, "settings/core-site.txt", "fs.s3a.secret.key ***");
    has(&files, "settings/receipt.json", "\"event_logs\": \"s3://bucket-1/events/\"");
    has(&files, "settings/gateway-env.txt", "EMR_SHS_HOST_NAME host-");
    has(&files, "unit.txt", "zz-emr-shs.conf");
    has(&files, "unit.txt", "ExecStart=/usr/libexec/emr-shs/emr-shs proxy serve");
    has(&files, "unit-state.txt", "Type=forking");
    has(&files, "start-script.txt", "runuser -s /bin/bash");
    has(&files, "process.txt", "/usr/lib/emr-shs/jars/");
    has(&files, "jars.txt", "hadoop-aws");
    has(&files, "shapes.txt", "instance.json");
    has(&files, "logs/history-server.txt", "ERROR S3AFileSystem: *** *** for cluster-1 of user-");
    has(&files, "logs/journal.txt", "spark-history-server");
    let answers = "answers.txt";
    has(&files, answers, "yes: /etc/systemd/system/spark-history-server.service.d/zz-emr-shs.conf exists");
    has(
        &files,
        answers,
        "/etc/spark/conf/spark-defaults.conf is /etc/spark/conf.dist/spark-defaults.conf: 0644 root:root",
    );
    has(&files, answers, "yes; the log URI is s3n://bucket-");
    has(&files, answers, "of the last one have these files: ");
    has(&files, answers, "Content-Encoding “gzip”");
    has(&files, answers, "/mnt/s3: yes, by its mode");
    let mut secrets = vec!["trent", &HASH[7..], "Qw3rTy1s"];
    secrets.extend([
        "labrootsecret",
        "labroot",
        "acme-",
        CLUSTER,
        "ec2-203-0-113-7",
        "ip-172-31-59-96",
        "172.31.59.96",
    ]);
    secrets.extend(["mallory", "111122223333", "whales", "AKIAIOSFODNN7EXAMPLE", "5ca1ab1e"]);
    for (name, text) in files.iter().chain(&plain.0) {
        for secret in &secrets {
            let shown = text.to_lowercase();
            let found = shown.find(&secret.to_lowercase());
            let around = |at: usize| {
                let (before, after) = shown.split_at(at);
                format!("{}{}", before.lines().last().unwrap_or_default(), after.lines().next().unwrap_or_default())
            };
            assert!(found.is_none(), "{secret} in {name}: {:?}", found.map(around));
        }
        assert!(
            name == "checks.json" || printed.contains(&format!("  {name} ")) || plain.0.contains_key(name),
            "{name}"
        );
    }
    let again = node.emr_shs(&["doctor", "--bundle", "/srv/bundle.tar.gz"]).expect(2);
    assert!(again.err().contains("found a file with this name"), "{}", again.err());

    // systemd hangs, and another file stands in the place of the log.
    node.sh(&format!(
        "echo whales-of-root >/root/secret; rm {LOG}; ln /root/secret {LOG}; mv /usr/bin/systemctl /usr/bin/systemctl.away; \
         printf '#!/bin/sh\\nexec sleep 60\\n' >/usr/bin/systemctl; chmod 755 /usr/bin/systemctl"
    ));
    let (files, printed, _) = bundle(&node, "/srv/hangs.tar.gz");
    node.sh("mv /usr/bin/systemctl.away /usr/bin/systemctl");
    assert!(!files.values().any(|text| text.contains("whales-of-root")));
    has(&files, "settings/spark-defaults.txt", "spark.eventLog.dir s3://bucket-1/events/");
    assert!(printed.contains("Not in it:") && printed.contains("logs/history-server.txt"), "{printed}");
}
