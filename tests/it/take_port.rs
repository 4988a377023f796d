//! `--take-port`: which arguments it goes with, and which keys it plans and renders.

use crate::helpers::root_dir::{DEFAULTS, RootDir};

const INSTALL: [&str; 5] = ["install", "--event-logs", "s3://acme-spark/events/", "--index", "--take-port"];
const PORT: &str = "spark.history.ui.port";

fn port(root: &RootDir) -> Option<String> {
    let file = emr_shs::testing::SparkDefaults::parse(root.read(DEFAULTS).as_bytes()).unwrap();
    file.trimmed(PORT).map(str::to_string)
}

/// Refuses these arguments, with a message that says all of these words, and changes nothing.
fn refuses(root: &RootDir, arguments: &[&str], code: i32, words: &[&str]) {
    let before = root.read(DEFAULTS);
    let ran = root.run(arguments);
    let said = ran.err().replace('\n', " ");
    assert_eq!(ran.code(), code, "{arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?}: wanted “{word}” in {said}");
    }
    assert_eq!(root.read(DEFAULTS), before);
}

#[test]
fn it_needs_the_index_and_the_gateway() {
    let root = RootDir::new();
    let logs = ["--event-logs", "s3://acme-spark/events/"];
    for command in ["install", "plan"] {
        let without = [&[command], &logs[..], &["--take-port"]].concat();
        refuses(&root, &without, 2, &["--take-port needs --index", "add --index"]);
        let off = [&[command], &logs[..], &["--index=false", "--take-port"]].concat();
        refuses(&root, &off, 2, &["--take-port needs --index"]);
        let no_gateway = [&[command], &logs[..], &["--index", "--no-proxy", "--take-port"]].concat();
        refuses(&root, &no_gateway, 2, &["--take-port excludes --no-proxy", "--no-proxy=false"]);
    }
    let configure = [&["configure"], &INSTALL[1..]].concat();
    refuses(&root, &configure, 2, &["--take-port is for install alone", "sudo emr-shs install --index --take-port"]);
    let step = ["render", "step", "--script", "s3://b/step", "--sha256-x86_64", &"0".repeat(64), "--", "--take-port"];
    refuses(&root, &step, 2, &["--take-port needs --index"]);
    // The port that the gateway takes.
    let same = [&INSTALL[..], &["--set", "spark.history.ui.port=18080"]].concat();
    refuses(&root, &same, 2, &["spark.history.ui.port=18080 is no port", "takes port 18080"]);
}

#[test]
fn the_history_server_moves_to_the_next_port_and_back() {
    let root = RootDir::new();
    assert_eq!(port(&root).as_deref(), Some("18080"));
    root.run(&INSTALL).expect(0);
    assert_eq!(port(&root).as_deref(), Some("18081"));
    // Remembered, and 18081 is not the port to take now.
    root.run(&["plan", "--check"]).expect(0);
    let again = root.run(&["install"]).expect(0);
    assert!(again.err().contains("nothing to do"), "{}", again.err());
    assert_eq!(port(&root).as_deref(), Some("18081"));
    refuses(&root, &["configure", "--index=false"], 2, &["only install gives it back", "--take-port=false"]);

    root.run(&["install", "--set", "spark.history.ui.port=18099"]).expect(0);
    assert_eq!(port(&root).as_deref(), Some("18099"));
    root.run(&["install", "--set", "spark.history.ui.port="]).expect(0);
    assert_eq!(port(&root).as_deref(), Some("18081"));

    // It gets its own port back, wherever an earlier run has moved it.
    root.run(&["install", "--set", "spark.history.ui.port=18099"]).expect(0);
    root.run(&["install", "--take-port=false"]).expect(0);
    assert_eq!(port(&root).as_deref(), Some("18080"));
    root.run(&["install"]).expect(0);
    assert_eq!(port(&root).as_deref(), Some("18080"));
    // Without the index, nobody opens applications on the taken port.
    root.run(&["install", "--take-port"]).expect(0);
    assert_eq!(port(&root).as_deref(), Some("18081"));
    root.run(&["install", "--index=false"]).expect(0);
    assert_eq!(port(&root).as_deref(), Some("18080"));
    root.run(&["install", "--index"]).expect(0);
    assert_eq!(port(&root).as_deref(), Some("18080"));
}

#[test]
fn the_port_that_was_set_before_is_the_one_to_take() {
    let root = RootDir::new();
    let before = root.read(DEFAULTS).replace("18080", "18200");
    root.write(DEFAULTS, &before);
    root.run(&INSTALL).expect(0);
    assert_eq!(port(&root).as_deref(), Some("18201"));
    root.run(&["uninstall"]).expect(0);
    assert_eq!(root.read(DEFAULTS), before);

    root.write(DEFAULTS, before.replace("spark.history.ui.port            18200", "spark.history.ui.port 0"));
    refuses(&root, &INSTALL, 3, &["it has no fixed one", "found spark.history.ui.port 0", "--take-port=false"]);
}

#[test]
fn a_history_server_that_the_key_does_not_move_keeps_its_port() {
    let root = RootDir::new();
    let (env, defaults) = ("etc/spark/conf.dist/spark-env.sh", root.read(DEFAULTS));
    let script = root.read(env);
    let option = "export SPARK_HISTORY_OPTS=\"$SPARK_HISTORY_OPTS -Dspark.history.ui.port=18082\"\n";
    root.write(env, format!("{script}{option}"));
    let words =
        ["an option of its JVM decides the port", "-Dspark.history.ui.port in", "spark-env.sh", "--take-port=false"];
    refuses(&root, &INSTALL, 3, &words);
    root.write(env, script);
    root.write(DEFAULTS, format!("{defaults}spark.ssl.enabled true\n"));
    refuses(&root, &INSTALL, 3, &["a history server with TLS", "port 18080, the one that redirects"]);
}

#[test]
fn a_new_cluster_gets_no_key_for_the_port() {
    let root = RootDir::new();
    root.run(&INSTALL).expect(0);
    let here = root.run(&["render", "cluster-config"]).expect(0);
    assert!(!here.out().contains(PORT) && here.err().contains(PORT), "{}{}", here.out(), here.err());
    let new = root.run(&["render", "cluster-config", "--new-cluster"]).expect(0);
    assert!(!new.out().contains(PORT) && new.err().contains(PORT), "{}{}", new.out(), new.err());
    let arguments = [&["render", "cluster-config", "--release", "emr-7.12.0"], &INSTALL[1..]].concat();
    let anywhere = root.run(&arguments).expect(0);
    assert!(!anywhere.out().contains(PORT), "{}", anywhere.out());
    let said = anywhere.err().replace('\n', " ");
    assert!(said.contains("the history server's new port, because --take-port takes the one"), "{said}");
}
