//! `install` reports success only when the history server reads the new directory.

use super::*;

on_profiles! {
    [emr_7_1: Emr71, emr_7_12: Emr712]
    [install_succeeds_only_when_the_server_reads_the_new_directory, servers_with_other_ports_tls_and_slow_starts_are_supported]
}

fn install_succeeds_only_when_the_server_reads_the_new_directory(profile: Profile) {
    let node = Node::fresh(profile);
    let before = node.tree();

    // The server reads another directory.
    node.sh(&format!(
        "echo 'export SPARK_HISTORY_OPTS=-Dspark.history.fs.logDirectory={HDFS}' >/etc/default/spark-history-server"
    ));
    complains(
        &node.emr_shs(&["install", "--event-logs", LOGS]),
        1,
        &["it reads hdfs:///var/log/spark/apps, not s3://acme-spark/events/"],
    );
    assert_eq!(node.reads(), HDFS);
    complains(
        &node.emr_shs(&["install", "--event-logs", LOGS]),
        3,
        &["overrides spark-defaults.conf", "SPARK_HISTORY_OPTS"],
    );
    node.sh("rm /etc/default/spark-history-server; systemctl restart spark-history-server");
    wait("the history server", || node.answers().then_some(()));
    assert_same_tree(&before, &node.tree());

    // The old process keeps answering: its script does not stop it, and systemd must not.
    node.sh(
        "cp -p /etc/init.d/spark-history-server /root/; sed -i 's/^stop() {/stop() { return 0/' /etc/init.d/spark-history-server
         mkdir /etc/systemd/system/spark-history-server.service.d
         printf '[Service]\\nKillMode=none\\nSendSIGKILL=no\\n' >/etc/systemd/system/spark-history-server.service.d/kill.conf; systemctl daemon-reload",
    );
    let pid = node.history_server_pid();
    complains(
        &node.emr_shs(&["install", "--event-logs", LOGS]),
        1,
        &["another process uses 18080", "was never stopped, and still runs"],
    );
    assert_eq!(node.history_server_pid(), pid, "and what was started beside it is gone");
    assert_eq!(node.reads(), HDFS);
    node.sh(&format!("kill {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.1; done"));
    node.sh("mv /root/spark-history-server /etc/init.d/; rm -r /etc/systemd/system/spark-history-server.service.d; systemctl daemon-reload; systemctl restart spark-history-server");
    wait("the history server", || node.answers().then_some(()));
    assert_same_tree(&before, &node.tree());

    // Another program has its port, so a started server would take the next one.
    node.sh("systemctl stop spark-history-server");
    let mut other = node.spawn(&["python3", "-m", "http.server", "18080", "--directory", "/opt/lab"]);
    wait("the other server", || node.get("/").map(drop));
    complains(
        &node.emr_shs(&["install", "--event-logs", LOGS]),
        3,
        &["another process uses port 18080", "http.server", "--set spark.history.ui.port=18081"],
    );
    assert_same_tree(&before, &node.tree());
    other.kill().unwrap();
    other.wait().unwrap();
    wait("the port to be free", || node.get("/").is_none().then_some(()));
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    assert_eq!(node.reads(), LOGS);
}

fn servers_with_other_ports_tls_and_slow_starts_are_supported(profile: Profile) {
    let node = Node::fresh(profile);
    let before = node.tree();

    // Another port, and a port that changes in the same run.
    node.sh(&format!("cp -p {DEFAULTS} /root/; sed -i 's/^spark.history.ui.port .*/spark.history.ui.port 18099/' {DEFAULTS}; systemctl restart spark-history-server"));
    let ran = node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    assert!(ran.err().contains("on port 18099"), "{}", ran.err());
    let shown = || node.sh("curl -s localhost:9977").contains(LOGS);
    assert!(node.sh("curl -s localhost:18099").contains(LOGS) && shown());
    node.emr_shs(&["install", "--set", "spark.history.ui.port=18100", "--set", "spark.history.fs.update.interval=5m"])
        .expect(0);
    assert!(node.sh("curl -s localhost:18100").contains(LOGS) && shown());
    let again = node.emr_shs(&["install"]).expect(0);
    assert!(again.err().contains("nothing to do"), "{}", again.err());
    node.emr_shs(&["uninstall"]).expect(0);
    node.sh(&format!("cp -p /root/spark-defaults.conf {DEFAULTS}; systemctl restart spark-history-server"));
    assert_same_tree(&before, &node.tree());

    // TLS with a self-signed certificate.
    node.sh(
        "keytool -genkeypair -keystore /opt/lab/keys.p12 -storetype PKCS12 -storepass secret -alias shs -keyalg RSA -dname CN=localhost 2>/dev/null
         chown spark /opt/lab/keys.p12",
    );
    node.sh(&format!(
        "cp -p {DEFAULTS} /root/; printf '%s\\n' 'spark.ssl.historyServer.enabled true' 'spark.ssl.historyServer.keyStore /opt/lab/keys.p12' \
         'spark.ssl.historyServer.keyStorePassword secret' 'spark.ssl.historyServer.keyPassword secret' 'spark.ssl.historyServer.protocol TLSv1.2' >>{DEFAULTS}
         systemctl restart spark-history-server"
    ));
    let ran = node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    assert!(ran.err().contains("on port 18480"), "{}", ran.err());
    assert!(node.sh("curl -sk https://localhost:18480/").contains(LOGS) && shown());
    assert!(
        !node.sh("cat /var/lib/emr-shs/receipt.json").contains("secret"),
        "other people's secrets are not ours to keep"
    );
    node.emr_shs(&["uninstall"]).expect(0);
    assert!(node.sh("curl -sk https://localhost:18480/").contains(HDFS));
    node.sh(&format!(
        "cp -p /root/spark-defaults.conf {DEFAULTS}; rm /opt/lab/keys.p12; systemctl restart spark-history-server"
    ));

    // A slow machine: the start script returns before the server answers.
    node.sh("echo START_DELAY=4 >/etc/default/spark-history-server");
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    assert_eq!(node.reads(), LOGS);
    assert!(
        !node.sh("ls /usr/lib/spark/jars").contains("emr-shs-"),
        "the launcher's own class path is not the server's"
    );
    node.emr_shs(&["uninstall"]).expect(0);

    // A start script that drops the environment.
    node.sh("echo 'unset SPARK_DAEMON_CLASSPATH' >/etc/default/spark-history-server");
    let ran = node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    assert!(ran.err().contains("linking into /usr/lib/spark/jars instead"), "{}", ran.err());
    assert_eq!(node.reads(), LOGS);
    assert!(node.sh("ls /usr/lib/spark/jars").contains("emr-shs-"));
    let again = node.emr_shs(&["install"]).expect(0);
    assert!(again.err().contains("nothing to do"), "{}", again.err());
    node.emr_shs(&["uninstall"]).expect(0);
    node.sh("rm /etc/default/spark-history-server; systemctl restart spark-history-server");
    assert_same_tree(&before, &node.tree());
    wait("the history server", || node.answers().then_some(()));
    assert_eq!(node.reads(), HDFS);
}
