//! Values of configuration files are read as Spark and Hadoop read them. What is expected here is what
//! `tests/fixtures/ReadValues.java` prints with the classes of Spark 3.5.8 and Hadoop 3.4.1; `tests/node/values.rs` runs it.

use crate::helpers::root_dir::RootDir;
use emr_shs::testing::{
    BucketEncryption, BucketSettings, Hadoop, HadoopValue, Host, Node, SparkConf, SparkDefaults, SparkValue, TimeUnit,
};
use std::collections::BTreeMap;
use std::time::Duration;

#[test]
fn spark_takes_any_case_and_blanks_around_true_and_false() {
    for (text, wanted) in
        [("true", Some(true)), (" TRUE\t", Some(true)), ("False", Some(false)), ("yes", None), ("1", None)]
    {
        assert_eq!(SparkValue::new(text).boolean(), wanted, "{text:?}");
    }
}

#[test]
fn spark_takes_units_behind_times_and_sizes() {
    let time = |text: &str| SparkValue::new(text).time(TimeUnit::Seconds);
    let seconds = [("60", 60), ("60S", 60), (" 5m ", 300), ("2min", 120), ("1h", 3600), ("1d", 86_400), ("1500ms", 1)];
    for (text, wanted) in seconds {
        assert_eq!(time(text), Some(Duration::from_secs(wanted)), "{text:?}");
    }
    assert_eq!(SparkValue::new("500").time(TimeUnit::Milliseconds), Some(Duration::from_millis(500)));
    for text in ["", "x", "1 s", "1.5s", "-1", "1fortnight", "99999999999999999999"] {
        assert_eq!(time(text), None, "{text:?}");
    }
    let size = |text: &str| SparkValue::new(text).size(1);
    assert_eq!([size("10"), size("2K"), size(" 10GB "), size("5b")], [Some(10), Some(2048), Some(10 << 30), Some(5)]);
    assert_eq!([size("1.5g"), size("10 GB"), size("99999999999g")], [None, None, None]);
    assert!(HadoopValue::new("10 k").size().is_none(), "Hadoop takes no blank before the unit");
}

#[test]
fn spark_replaces_references_to_its_keys_and_to_variables() {
    let file = b"spark.history.fs.logDirectory s3://${spark.bucket}/${env:STAGE}/${system:x}/\nspark.bucket b\nspark.loop x${spark.loop}\n";
    let env = BTreeMap::from([("STAGE".to_string(), "prod".to_string())]);
    let conf = SparkConf::new(&SparkDefaults::parse(file).unwrap(), &env);
    assert_eq!(conf.text("spark.history.fs.logDirectory"), Some("s3://b/prod/${system:x}/"));
    assert!(conf.text("spark.loop").unwrap().contains("${spark.loop}"));
}

/// The configuration of a node with this core-site.xml.
fn hadoop(core_site: impl AsRef<[u8]>) -> Hadoop {
    let root = RootDir::new();
    root.write("etc/hadoop/conf/core-site.xml", core_site);
    root.write("etc/hadoop/conf/more.xml", site(&[("fs.more", "more"), ("fs.s3a.endpoint", "http://more")]));
    Node::read(&Host::new(root.path())).unwrap().hadoop
}

fn site(properties: &[(&str, &str)]) -> String {
    let property =
        |(name, value): &(&str, &str)| format!("<property><name>{name}</name><value>{value}</value></property>");
    format!("<configuration>{}</configuration>", properties.iter().map(property).collect::<String>())
}

#[test]
fn a_byte_of_latin_1_in_core_site_xml_hides_no_property() {
    for head in ["", "<?xml version='1.0' encoding='ISO-8859-1'?>"] {
        let file = [head.as_bytes(), b"<!-- Andr\xe9 -->", site(&[("fs.x", "y")]).as_bytes()].concat();
        assert_eq!(hadoop(file).text("fs.x").as_deref(), Some("y"), "{head}");
    }
    let latin = b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><configuration><property><name>a</name><value>h\xe9</value></property></configuration>";
    assert_eq!(hadoop(latin).text("a").as_deref(), Some("hé"));
}

#[test]
fn included_files_count_and_those_that_cannot_be_read_are_named() {
    let include = |href: &str, inside: &str| {
        format!(
            "<configuration xmlns:xi='http://www.w3.org/2001/XInclude'><xi:include href='{href}'>{inside}</xi:include><property><name>a</name><value>b</value></property></configuration>"
        )
    };
    let found = hadoop(include("more.xml", ""));
    assert_eq!([found.text("fs.more").as_deref(), found.text("a").as_deref()], [Some("more"), Some("b")]);
    assert!(found.not_included.is_empty());
    let missing = hadoop(include("http://config.example/x.xml", ""));
    assert_eq!(missing.not_included.len(), 1);
    assert_eq!(missing.text("a").as_deref(), Some("b"));
    let property = "<xi:fallback><property><name>f</name><value>g</value></property></xi:fallback>";
    let fallback = hadoop(include("nothing.xml", property));
    assert_eq!((fallback.text("f").as_deref(), fallback.not_included.len()), (Some("g"), 0));
    assert_eq!(hadoop(include("more.xml", property)).text("f"), None);
}

#[test]
fn a_setting_of_one_bucket_wins_over_the_setting_of_all() {
    let found = hadoop(site(&[
        ("fs.s3.impl", "org.apache.hadoop.fs.s3a.S3AFileSystem"),
        ("fs.s3a.endpoint", "http://127.0.0.1:9"),
        ("fs.s3a.bucket.acme-spark.endpoint", "store.example:7070"),
        ("fs.s3a.bucket.acme-spark.connection.ssl.enabled", "FALSE"),
        ("fs.s3a.bucket.acme-spark.path.style.access", " True "),
        ("fs.s3a.bucket.acme-spark.endpoint.region", "eu-west-1"),
        ("fs.s3a.encryption.algorithm", "AES256"),
        ("fs.s3a.bucket.acme-spark.server-side-encryption-algorithm", "DSSE-KMS"),
        ("fs.s3a.bucket.acme-spark.encryption.key", "arn:aws:kms:x"),
        ("fs.s3a.acl.default", "BucketOwnerFullControl"),
        ("fs.s3a.bucket.acme-spark.requester.pays.enabled", "true"),
        ("fs.s3a.bucket.acme-spark.proxy.host", "proxy.example"),
        ("fs.s3a.proxy.port", "3128"),
        ("fs.s3a.proxy.password", "hidden"),
        ("fs.s3a.bucket.acme-spark.access.key", "AK"),
    ]));
    let one = BucketSettings::read(&found, "s3", "acme-spark");
    assert_eq!(one.endpoint.as_deref(), Some("http://store.example:7070"));
    assert_eq!((one.path_style, one.region.as_deref(), one.requester_pays), (Some(true), Some("eu-west-1"), true));
    let BucketEncryption::Server(encryption) = &one.encryption else { panic!("{:?}", one.encryption) };
    assert_eq!(format!("{encryption:?}"), "Encryption { algorithm: \"aws:kms:dsse\", key: Some(\"arn:aws:kms:x\") }");
    assert_eq!(one.acl.as_deref(), Some("bucket-owner-full-control"));
    let proxy = one.proxy.clone().unwrap();
    assert_eq!((proxy.host.as_str(), proxy.port, proxy.has_password), ("proxy.example", Some(3128), true));
    assert!(one.has_access_key);
    assert!(!format!("{one:?}").contains("hidden"));

    let other = BucketSettings::read(&found, "s3", "acme-logs");
    assert_eq!(other.endpoint.as_deref(), Some("http://127.0.0.1:9"));
    assert!(other.path_style.is_none() && !other.has_access_key && other.proxy.is_none() && other.region.is_none());
}

#[test]
fn the_longer_name_of_a_secret_of_one_bucket_wins() {
    let found = hadoop(site(&[
        ("fs.s3.impl", "org.apache.hadoop.fs.s3a.S3AFileSystem"),
        ("fs.s3a.encryption.algorithm", "AES256"),
        ("fs.s3a.bucket.b.fs.s3a.encryption.algorithm", "SSE-KMS"),
        ("fs.s3a.bucket.b.encryption.key", "shorter"),
        ("fs.s3a.bucket.b.fs.s3a.encryption.key", "longer"),
        ("fs.s3a.bucket.b.fs.s3a.access.key", "AK"),
        // Not a secret, so S3A does not know it by the longer name.
        ("fs.s3a.bucket.b.fs.s3a.endpoint", "http://127.0.0.1:9"),
    ]));
    let b = BucketSettings::read(&found, "s3", "b");
    let BucketEncryption::Server(encryption) = &b.encryption else { panic!("{:?}", b.encryption) };
    assert_eq!(format!("{encryption:?}"), "Encryption { algorithm: \"aws:kms\", key: Some(\"longer\") }");
    assert_eq!((b.has_access_key, b.endpoint), (true, None));
    assert!(!BucketSettings::read(&found, "s3", "other").has_access_key);
}

#[test]
fn what_s3a_does_not_know_is_named() {
    let found = hadoop(site(&[
        ("fs.s3.impl", "org.apache.hadoop.fs.s3a.S3AFileSystem"),
        ("fs.s3a.acl.default", "bucket-owner-full-control"),
        ("fs.s3a.bucket.b.encryption.algorithm", "aws:kms"),
        ("fs.s3a.bucket.c.encryption.algorithm", "cse-kms"),
    ]));
    let b = BucketSettings::read(&found, "s3", "b");
    assert_eq!((b.acl, b.unknown_acl.as_deref()), (None, Some("bucket-owner-full-control")));
    assert_eq!(b.encryption, BucketEncryption::Unknown("aws:kms".into()));
    assert_eq!(BucketSettings::read(&found, "s3", "c").encryption, BucketEncryption::Client("CSE-KMS".into()));
}

#[test]
fn emrfs_has_keys_of_its_own() {
    let found = hadoop(site(&[
        ("fs.s3.impl", "com.amazon.ws.emr.hadoop.fs.EmrFileSystem"),
        ("fs.s3.enableServerSideEncryption", "True"),
        ("fs.s3.canned.acl", "BucketOwnerRead"),
        ("fs.s3.useRequesterPaysHeader", "true"),
        ("fs.s3a.encryption.algorithm", "SSE-KMS"),
    ]));
    let s3 = BucketSettings::read(&found, "s3", "b");
    let BucketEncryption::Server(encryption) = &s3.encryption else { panic!("{:?}", s3.encryption) };
    assert!(format!("{encryption:?}").contains("AES256"));
    assert_eq!((s3.is_s3a, s3.acl.as_deref(), s3.requester_pays), (false, Some("bucket-owner-read"), true));
}
