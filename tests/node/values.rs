//! Values of configuration files are read as the node's own classes of Spark and Hadoop read them.

use crate::helpers::node::{Node, Profile};
use crate::helpers::root_dir::{DEFAULTS, RootDir};
use emr_shs::testing::{Hadoop, HadoopValue, Host, Node as NodeFacts, SparkConf, SparkDefaults, SparkValue, TimeUnit};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The variables and the options of the JVM to which values refer.
const ENVIRONMENT: [(&str, &str); 2] =
    [("LAB_BUCKET", "of-the-environment"), ("LAB_REFERENCE", "${spark.c}/${env:LAB_BUCKET}")];
const JVM_OPTIONS: [&str; 2] = ["-Dlab.bucket=of-the-jvm", "-Dspark.d=of-the-jvm-${spark.b}"];

/// A reader of `tests/fixtures/ReadValues.java`, its arguments, and what emr-shs makes of them.
struct Row {
    reader: &'static str,
    arguments: Vec<String>,
    ours: String,
}

fn row(reader: &'static str, arguments: &[&str], ours: Option<impl Display>) -> Row {
    let ours = ours.map_or("refused".into(), |value| value.to_string());
    Row { reader, arguments: arguments.iter().map(ToString::to_string).collect(), ours }
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// Words in every spelling that people use, and some that nobody should.
fn words() -> Vec<String> {
    let numbers = ["0", "5", "060", "1500", "1.5", "-1", "+3", "", "99999999999999999999", "86400123"];
    let units = [
        "", "s", "S", "m", "M", "min", "MIN", "h", "d", "D", "ms", "us", "ns", "b", "k", "K", "kb", "MB", "g", "GB",
        "t", "Tb", "p", "e", "sec", " s", " k", "x", "%",
    ];
    let booleans = ["true", "TRUE", "True", "false", "False", "FALSE", "yes", "no", "on", "1", "t", "truely", "tru e"];
    let numbers = numbers.iter().flat_map(|number| units.iter().map(move |unit| format!("{number}{unit}")));
    let words: Vec<String> = numbers.chain(booleans.map(str::to_string)).collect();
    let blanks = [("", ""), (" ", "  "), ("\t", "\n"), ("", "\u{a0}")];
    words.iter().flat_map(|word| blanks.iter().map(move |(before, after)| format!("{before}{word}{after}"))).collect()
}

fn rows_of_words() -> Vec<Row> {
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
    let rows = words().into_iter().flat_map(|word| {
        let (spark, hadoop) = (SparkValue::new(&*word), HadoopValue::new(&*word));
        let of = [&*word];
        [
            row("spark-boolean", &of, spark.boolean()),
            row("spark-number", &of, spark.number::<i32>()),
            row("spark-seconds", &of, seconds(spark.time(TimeUnit::Seconds))),
            row("spark-size", &of, spark.size(1)),
            row("hadoop-boolean", &of, hadoop.boolean()),
            row("hadoop-seconds", &of, seconds(hadoop.time(TimeUnit::Seconds))),
            row("hadoop-size", &of, hadoop.size()),
        ]
    });
    rows.collect()
}

fn site(properties: &[(&str, &str)]) -> String {
    let property =
        |(name, value): &(&str, &str)| format!("<property><name>{name}</name><value>{value}</value></property>");
    format!("<configuration>{}</configuration>", properties.iter().map(property).collect::<String>())
}

/// Files with references from one value to another.
fn rows_of_references() -> Vec<Row> {
    const DIRECTORY: &str = "spark.history.fs.logDirectory";
    let spark = [
        "s3://b/x/",
        "s3://${spark.b}/x/",
        "s3://${spark.b}/${spark.c}",
        "${spark.c}",
        "s3://${spark.none}/",
        "s3://${hadoop.b}/${spark.b",
        "s3://$spark.b/{spark.b}/",
        "s3://${ spark.b }/",
        "s3://${}/${spark.b}",
        "  s3://b/x/  ",
        // Variables, and options of the JVM, which win over the file.
        "s3://${env:LAB_BUCKET}/x/",
        "s3://${env:LAB_NONE}/${env:}/${ENV:LAB_BUCKET}/${env:LAB_BUCKET }/",
        "s3://${system:lab.bucket}/${system:lab.none}/${sys:lab.bucket}/",
        "s3://${spark.d}/${system:spark.d}/",
        "s3://${system:spark.b}/${system:spark.c}/${system:spark.none}/",
        "s3://${env:LAB_REFERENCE}/${spark.e}/",
        // Only YARN's part of Spark knows these, and nobody the last one.
        "s3://${hadoopconf-fs.defaultFS}/${hadoopconf:lab.bucket}/${hadoop.b}/",
        // The default of a key, and a key of Hadoop.
        "s3://${spark.history.ui.port}/${spark.eventLog.dir}/",
        "s3://${spark.hadoop.fs.s3a.endpoint}/${spark.hadoop.lab}/",
        "${spark.history.fs.update.interval}",
    ];
    let lines = "spark.b   one \nspark.c two-${spark.b}\nspark.d of-the-file\nspark.e five-${system:lab.bucket}\n\
                 spark.hadoop.lab ${b}-${spark.b}\nspark.history.fs.update.interval 5s\n";
    let env: BTreeMap<String, String> =
        ENVIRONMENT.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let env = || env.clone().into_iter().chain([("SPARK_HISTORY_OPTS".to_string(), JVM_OPTIONS.join(" "))]).collect();
    let spark = spark.map(|value| {
        let file = format!("{DIRECTORY} {value}\n{lines}");
        let conf = SparkConf::new(&SparkDefaults::parse(file.as_bytes()).unwrap(), &env());
        row("spark-text", &[&file], conf.text(DIRECTORY))
    });
    // Spark hands the keys of Hadoop on as they are written, and Hadoop replaces what it knows.
    let of_spark = [
        "one",
        " one ",
        "${b}",
        "${b}${lab}",
        "${spark.b}",
        "${env:LAB_BUCKET}",
        "${env.LAB_BUCKET}",
        "${env.LAB_NONE-x}",
        "${system:lab.bucket}",
        "${lab.bucket}",
        "${spark.d}",
        "${none}",
        "$${b}",
        "${key}",
    ]
    .map(|value| {
        let defaults = format!("spark.hadoop.key {value}\nspark.hadoop.lab ${{b}}-${{spark.b}}\nspark.b one\n");
        let core = site(&[("key", "of-the-file"), ("b", "two")]);
        let root = RootDir::new();
        root.write(DEFAULTS, &defaults);
        root.write("etc/hadoop/conf/core-site.xml", &core);
        let exports: String = ENVIRONMENT.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
        let options = format!("{exports}export SPARK_HISTORY_OPTS='{}'\n", JVM_OPTIONS.join(" "));
        root.write("etc/spark/conf.dist/spark-env.sh", options);
        let read: Hadoop = NodeFacts::read(&Host::new(root.path())).unwrap().hadoop;
        row("spark-hadoop-text", &[&defaults, &core, "key"], read.text("key"))
    });
    let hadoop = ["a", " a ", "${b}", "x${b}y${c}", "${none}", "${b", "$b", "${ b }", "${}", "$${b}"].map(|value| {
        let file = site(&[("key", value), ("b", "one"), ("c", "two-${b}")]);
        let root = RootDir::new();
        root.write("etc/hadoop/conf/core-site.xml", &file);
        let read: Hadoop = NodeFacts::read(&Host::new(root.path())).unwrap().hadoop;
        row("hadoop-text", &[&file, "key"], read.text("key"))
    });
    spark.into_iter().chain(of_spark).chain(hadoop).collect()
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn values_are_read_as_the_nodes_own_classes_read_them() {
    let node = Node::fresh(Profile::Emr712);
    let rows: Vec<Row> = rows_of_words().into_iter().chain(rows_of_references()).collect();
    let line = |row: &Row| {
        let arguments: String = row.arguments.iter().map(|text| format!(" {}", percent_encoded(text))).collect();
        format!("{}{arguments}\n", row.reader)
    };
    let input: String = rows.iter().map(line).collect();
    let jars = ["/usr/lib/spark/jars/*", "/usr/lib/hadoop/*"].map(|dir| node.path(dir).display().to_string());
    let mut java = Command::new("java")
        .args(JVM_OPTIONS)
        .envs(ENVIRONMENT)
        .args(["-cp", &jars.join(":"), concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/ReadValues.java")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("java");
    let mut stdin = java.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let ended = java.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let printed = String::from_utf8(ended.stdout).unwrap();
    let printed: Vec<&str> = printed.lines().collect();
    assert_eq!(printed.len(), rows.len());
    let theirs = |row: &Row, printed: &str| match row.reader {
        // emr-shs treats a negative time or size as one that the program refuses.
        "spark-seconds" | "spark-size" | "hadoop-seconds" | "hadoop-size" if row.arguments[0].contains('-') => {
            "refused".to_string()
        }
        _ => printed.to_string(),
    };
    let differing: Vec<String> = rows
        .iter()
        .zip(&printed)
        .filter(|(row, printed)| row.ours != theirs(row, printed))
        .map(|(row, printed)| format!("{} {:?}: emr-shs {}, the class {printed}", row.reader, row.arguments, row.ours))
        .collect();
    assert!(differing.is_empty(), "{} of {}:\n{}", differing.len(), rows.len(), differing.join("\n"));
    // Each reader takes some words and refuses others, or nothing would be compared.
    for reader in [
        "spark-boolean",
        "spark-number",
        "spark-seconds",
        "spark-size",
        "hadoop-boolean",
        "hadoop-seconds",
        "hadoop-size",
    ] {
        let of = || rows.iter().filter(|row| row.reader == reader);
        assert!(of().any(|row| row.ours == "refused") && of().any(|row| row.ours != "refused"), "{reader}");
    }
}
