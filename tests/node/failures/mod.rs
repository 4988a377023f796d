//! Installations that cannot succeed, and nodes that are unusual. After a failure the message says what to do, and the node
//! is as it was before.

use crate::helpers::command_output::{CommandOutput, assert_same_tree};
use crate::helpers::node::{LOGS, Node, Profile};
use crate::helpers::wait::wait;
use std::fs::File;
use std::io::{Read, Write};

mod hidden_pages;
mod other_servers;
mod preflight;
mod readiness;
mod rollback;
mod surroundings;

const HDFS: &str = "hdfs:///var/log/spark/apps";
const DEFAULTS: &str = "/etc/spark/conf.dist/spark-defaults.conf";

/// One failure.
struct Case<'a> {
    /// A line of shell that causes it.
    given: &'a str,
    /// A line of shell that runs emr-shs.
    run: &'a str,
    code: i32,
    /// Words of the message.
    says: &'a [&'a str],
    /// A line of shell that mends it.
    mend: &'a str,
}

/// Runs the cases one after the other. After each the node must be as before.
fn try_all(node: &Node, cases: &[Case<'_>]) {
    let before = node.tree();
    let pid = node.history_server_pid();
    for case in cases {
        node.sh(case.given);
        let ran = node.run(&["bash", "-c", case.run]);
        node.sh(case.mend);
        eprintln!("given {}\nrun {}", case.given, case.run);
        complains(&ran, case.code, case.says);
        assert_same_tree(&before, &node.tree());
        assert_eq!(node.history_server_pid(), pid, "the history server was touched: {}\n{}", case.run, ran.err());
    }
    assert_eq!(node.reads(), HDFS);
}

#[track_caller]
fn complains(ran: &CommandOutput, code: i32, says: &[&str]) {
    let text = ran.err();
    assert_eq!(ran.code(), code, "{text}");
    for said in says {
        assert!(text.contains(said), "wanted “{said}” in:\n{text}");
    }
    assert!(code == 0 || text.contains("error: ") && text.contains("hint: "), "{text}");
}

/// Writes a jar with these entries into the node.
fn jar(node: &Node, path: &str, entries: &[(&str, &[u8])]) {
    let real = node.path(path);
    std::fs::create_dir_all(real.parent().unwrap()).unwrap();
    let mut jar = zip::ZipWriter::new(File::create(real).unwrap());
    for (name, content) in entries {
        jar.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        jar.write_all(content).unwrap();
    }
    jar.finish().unwrap();
}

const INSTALL: &str = "emr-shs install --event-logs s3://acme-spark/events/";
const SDK_V1: &str = "com/amazonaws/services/s3/AmazonS3Client.class";
const SDK_V2: &str = "software/amazon/awssdk/services/s3/S3Client.class";
