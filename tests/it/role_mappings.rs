//! Role mappings in Hadoop's own configuration give jobs roles of their own, as runtime roles do.

use crate::helpers::root_dir::{DEFAULTS, EMRFS, RootDir, SDK_V1};

const LOGS: [&str; 2] = ["--event-logs", "s3://acme-spark/events/"];
const SITE: &str = "usr/share/aws/emr/emrfs/conf/emrfs-site.xml";
const OF_EMRFS: &str = "fs.s3.authorization.roleMapping";
const OF_S3A: &str = "fs.s3a.authorization.roleMapping";
const S3A_CLASS: (&str, &str) = ("fs.s3.impl", "org.apache.hadoop.fs.s3a.S3AFileSystem");

fn site(key: &str) -> String {
    let mapping = "[{\"roleArn\":\"arn:aws:iam::123456789012:role/a\",\"identifiers\":[\"alice\"]}]";
    format!("<configuration><property><name>{key}</name><value>{mapping}</value></property></configuration>\n")
}

/// A node on which EMRFS serves `s3://`.
fn with_emrfs() -> RootDir {
    let root = RootDir::new();
    root.core_site(&[("fs.s3.impl", "com.amazon.ws.emr.hadoop.fs.EmrFileSystem")]);
    root.jar("usr/share/aws/emr/emrfs/lib/emrfs-hadoop-assembly-2.62.0.jar", &[(EMRFS, "com/amazonaws/A")]);
    root.jar("usr/lib/hadoop/aws-sdk-v1.jar", &[(SDK_V1, "")]);
    root
}

#[test]
fn a_role_mapping_stops_an_installation_before_its_first_change() {
    let (emrfs, s3a) = (with_emrfs(), RootDir::new());
    // S3A of newer releases takes over the keys of EMRFS.
    for (root, key) in [(&emrfs, OF_EMRFS), (&s3a, OF_EMRFS), (&s3a, OF_S3A)] {
        root.write(SITE, site(key));
        let before = root.tree();
        for command in ["plan", "install", "configure"] {
            let refused = root.run(&[&[command], &LOGS[..]].concat()).expect(3);
            let says = refused.err().split_whitespace().collect::<Vec<_>>().join(" ");
            for wanted in ["jobs of this cluster have roles of their own", &format!("found {key}"), "--history-only"] {
                assert!(says.contains(wanted), "{key}: wanted “{wanted}” in {says}");
            }
        }
        assert_eq!(before, root.tree());
        root.run(&[&["plan"], &LOGS[..], &["--history-only"]].concat()).expect(0);
        root.run(&[&["plan"], &LOGS[..], &["--force"]].concat()).expect(0);
    }
}

#[test]
fn a_role_mapping_that_no_file_system_reads_does_not_count() {
    let plans = |root: &RootDir| drop(root.run(&[&["plan"], &LOGS[..]].concat()).expect(0));
    let root = RootDir::new();
    root.write(SITE, site(OF_EMRFS));
    root.core_site(&[S3A_CLASS, ("fs.s3a.emrfs.compatibility.enable", "False")]);
    plans(&root);
    // The key in spark-defaults.conf counts as well.
    root.write(DEFAULTS, format!("{}spark.hadoop.{OF_S3A} [x]\n", root.read(DEFAULTS)));
    root.run(&[&["plan"], &LOGS[..]].concat()).expect(3);
    let root = with_emrfs();
    root.write(SITE, site(OF_S3A));
    plans(&root);
}
