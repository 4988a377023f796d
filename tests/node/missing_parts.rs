//! What a user wanted and what is not there: `install`, `plan --check`, `status`, `doctor` and `verify` all say so.

use crate::helpers::node::{LOGS, Node, PRIVATE_NAME, Profile};
use serde_json::{Value, json};

const INSTALL: [&str; 5] = ["install", "--event-logs", LOGS, "--set", "spark.history.fs.update.interval=3s"];
const UNIT: &str = "emr-shs-gateway";
/// A directory and files of emr-shs alone, and the file that others write, too.
const OURS: &str = "/etc/emr-shs/ /etc/emr-shs/gateway.env /etc/systemd/system/emr-shs-gateway.service";
const DEFAULTS: &str = "/etc/spark/conf.dist/spark-defaults.conf";
const LOG_URI: &str = "s3://acme-logs/elasticmapreduce/";

fn names(missing: &Value) -> Vec<&str> {
    missing.as_array().unwrap().iter().map(|shortfall| shortfall["name"].as_str().unwrap()).collect()
}

/// Fails unless the commands that only look report that this is missing, and say this about it.
#[track_caller]
fn is_red(node: &Node, name: &str, says: &str) {
    let plan = node.emr_shs(&["plan", "--check"]).expect(4);
    assert!(plan.out().contains(name), "{}", plan.out());
    let status = node.emr_shs(&["status", "--json"]).expect(0).json();
    assert!(names(&status["missing"]).contains(&name), "{}", status["missing"]);
    assert!(status["missing"].to_string().contains(says), "wanted “{says}” in {}", status["missing"]);
    assert!(node.emr_shs(&["status"]).expect(0).out().contains(says));
    let doctor = node.emr_shs(&["doctor"]).expect(3).out();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&doctor).contains(&words(says)), "wanted “{says}” in {doctor}");
}

#[track_caller]
fn is_green(node: &Node) {
    let plan = node.emr_shs(&["plan", "--check"]);
    assert_eq!(plan.code(), 0, "{}{}", plan.out(), plan.err());
    let status = node.emr_shs(&["status", "--json"]).expect(0).json();
    assert_eq!(names(&status["missing"]), [""; 0], "{}", status["missing"]);
    let doctor = node.emr_shs(&["doctor"]);
    assert_eq!(doctor.code(), 0, "{}", doctor.out());
}

fn throttle(node: &Node, seconds: u64) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    node.stand_in("throttled_until", json!(now + seconds));
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn a_gateway_that_is_wanted_and_missing_is_red_everywhere() {
    let node = Node::fresh(Profile::Emr712);
    node.upload_event_logs(LOGS);
    let denied = json!({"__type": "AccessDeniedException", "Message": "not authorized to perform: elasticmapreduce:DescribeCluster"});
    node.stand_in("describe_error", denied);
    let ran = node.emr_shs(&INSTALL).expect(5);
    for says in ["missing log gateway", "AccessDeniedException", "--log-uri s3://", "ended incomplete"] {
        assert!(ran.err().contains(says), "wanted “{says}” in {}", ran.err());
    }
    // The rest is there.
    assert_eq!(node.reads(), LOGS);
    is_red(&node, "log gateway", "AccessDeniedException");
    let again = node.emr_shs(&["install", "--json"]).expect(5).json();
    assert_eq!((&again["result"], names(&again["missing"])), (&json!("incomplete"), vec!["log gateway"]));
    let verify = node.emr_shs(&["verify"]).expect(3);
    assert!(verify.out().contains("FAIL  complete"), "{}", verify.out());
    assert!(verify.err().contains("log gateway") && verify.err().contains("--log-uri"), "{}", verify.err());
    // Without the wish nothing is missing.
    node.emr_shs(&["install", "--no-proxy"]).expect(0);
    is_green(&node);

    // With a log URI the gateway needs no answer of EMR, and gets its public name from elsewhere.
    node.stand_in("public_hostname", json!("ec2-203-0-113-9.eu-west-3.compute.amazonaws.com"));
    node.emr_shs(&["install", "--no-proxy=false", "--log-uri", LOG_URI]).expect(0);
    let status = node.emr_shs(&["status"]).expect(0).out();
    assert!(status.contains("hadoop@ec2-203-0-113-9.eu-west-3.compute.amazonaws.com"), "{status}");
    let code = "curl -s -o /dev/null -w '%{http_code}' -H 'Host: ec2-203-0-113-9.eu-west-3.compute.amazonaws.com:9977' localhost:9977/-/healthz";
    assert_eq!(node.sh(code), "200");
    node.emr_shs(&["uninstall"]).expect(0);

    // EMR is asked for its name also where the log URI is known, and again while EMR is busy.
    node.stand_in("describe_error", json!(null));
    throttle(&node, 6);
    let ran = node.emr_shs(&[&INSTALL[..], &["--log-uri", LOG_URI]].concat()).expect(0);
    assert!(ran.err().contains("hadoop@ec2-203-0-113-7.eu-west-3.compute.amazonaws.com"), "{}", ran.err());
    is_green(&node);
    let verify = node.emr_shs(&["verify"]).expect(0).out();
    for way in ["localhost:9977", &format!("{PRIVATE_NAME}:9977"), "ec2-203-0-113-7", "everything that was wanted"] {
        let words: String = verify.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(way), "wanted “{way}” in {verify}");
    }
    // YARN links to a history server on another machine: the kernel's name of this node is the one that leads here.
    node.sh("cp -p /etc/spark/conf.dist/spark-defaults.conf /etc/hosts /srv/; echo '198.51.100.7 other.example' >>/etc/hosts
        sed -i '/^spark.yarn.historyServer.address/d' /etc/spark/conf.dist/spark-defaults.conf
        echo 'spark.yarn.historyServer.address other.example:18080' >>/etc/spark/conf.dist/spark-defaults.conf");
    let plan = node.emr_shs(&["plan", "--json"]).expect(0).out();
    let own = PRIVATE_NAME.split('.').next().unwrap();
    assert!(plan.contains(&format!("http://{own}:9977/logs/")) && !plan.contains("http://other.example"), "{plan}");
    node.sh("cp -p /srv/spark-defaults.conf /etc/spark/conf.dist/; cat /srv/hosts >/etc/hosts");
    is_green(&node);

    // Parts of the gateway that somebody removed or changed.
    for (breaks, name, says) in [
        ("systemctl stop emr-shs-gateway.socket emr-shs-gateway", "log gateway", "inactive"),
        ("systemctl stop emr-shs-gateway.socket", "emr-shs-gateway.socket", "does not run"),
        ("systemctl disable -q emr-shs-gateway", "emr-shs-gateway.service", "does not start at boot"),
        ("kill -STOP $(systemctl show -p MainPID --value emr-shs-gateway)", "log gateway", "answer"),
        ("rm -r /usr/libexec/emr-shs", "/usr/libexec/emr-shs/emr-shs", "absent"),
        ("chmod 666 /etc/emr-shs/gateway.env", "/etc/emr-shs/gateway.env", "mode 0666, wanted 0644"),
    ] {
        node.sh(breaks);
        is_red(&node, name, says);
        if breaks.starts_with("kill") {
            // No file differs, so only a restart helps.
            node.emr_shs(&["install"]).expect(5);
            node.sh(&format!("systemctl kill -s KILL {UNIT}; systemctl restart {UNIT}"));
        }
        node.emr_shs(&["install"]).expect(0);
        is_green(&node);
    }
    node.sh("cp /usr/local/bin/emr-shs /srv/newer && printf x >> /srv/newer && cp -a /usr/libexec/emr-shs/ /srv/older");
    node.run(&["/srv/newer", "proxy", "install"]).expect(0);
    node.sh(&format!("cp -a /srv/older/* /usr/libexec/emr-shs/; systemctl restart {UNIT}"));
    let plan = node.run(&["/srv/newer", "plan", "--check"]).expect(4);
    assert!(plan.out().contains("/usr/libexec/emr-shs/emr-shs"), "{}", plan.out());
    node.run(&["/srv/newer", "proxy", "install"]).expect(0);
    node.emr_shs(&["install"]).expect(0);
    // A group that gains nothing is no difference, and the file is still emr-shs's own.
    node.sh("chgrp hadoop /etc/emr-shs/gateway.env /etc/emr-shs");
    is_green(&node);
    // A group that gains rights is one. `install` takes the rights back, but for those in a file that others write, too.
    node.sh(&format!("chgrp hadoop {OURS} {DEFAULTS}; chmod g+w {OURS} {DEFAULTS}"));
    is_red(&node, "/etc/emr-shs/", "group hadoop, wanted root; mode 0775, wanted 0755");
    let status = node.emr_shs(&["status", "--json"]).expect(0).json();
    assert!(OURS.split(' ').all(|name| names(&status["missing"]).contains(&name)), "{}", status["missing"]);
    node.emr_shs(&["install"]).expect(0);
    is_green(&node);
    assert_eq!(node.sh(&format!("stat -c '%U %G %a' {OURS}")), "root root 755\nroot root 644\nroot root 644\n");

    // A name that does not lead here is found before a browser finds it.
    node.sh(&format!("cp /etc/hosts /srv/; grep -v {PRIVATE_NAME} /srv/hosts >/etc/hosts || true"));
    is_red(&node, "log gateway", "does not answer on this node");
    let verify = node.emr_shs(&["verify"]).expect(3);
    assert!(verify.out().contains("FAIL  gateway"), "{}", verify.out());
    assert!(verify.err().contains(&format!("http://{PRIVATE_NAME}:9977")), "{}", verify.err());
    node.sh("cat /srv/hosts >/etc/hosts");
    is_green(&node);

    // A value of somebody else that wins over the one that the user asked for.
    node.emr_shs(&["install", "--set", "spark.history.ui.maxApplications=123"]).expect(0);
    assert_eq!(node.sh(&format!("stat -c '%G %a' {DEFAULTS}")), "hadoop 664\n");
    node.sh("cp -p /etc/spark/conf/spark-env.sh /srv/; echo 'export SPARK_HISTORY_OPTS=\"$SPARK_HISTORY_OPTS -Dspark.history.ui.maxApplications=7\"' >>/etc/spark/conf/spark-env.sh");
    node.emr_shs(&["restart"]).expect(0);
    is_red(&node, "spark.history.ui.maxApplications", "-Dspark.history.ui.maxApplications=7");
    node.sh("cp -p /srv/spark-env.sh /etc/spark/conf/");
    node.emr_shs(&["restart"]).expect(0);
    // A value of emr-shs that somebody else changed is red, until somebody decides.
    node.emr_shs(&["install", "--set", "spark.history.fs.update.interval="]).expect(0);
    node.sh("sed -i 's/^spark.history.fs.update.interval .*/spark.history.fs.update.interval 17s/' /etc/spark/conf.dist/spark-defaults.conf");
    is_red(&node, "spark.history.fs.update.interval", "17s");
    node.emr_shs(&["install", "--set", "spark.history.fs.update.interval=17s"]).expect(0);
    is_green(&node);
    // Whoever may write a file of emr-shs's since, what emr-shs wrote there goes.
    node.sh(&format!("chgrp hadoop {OURS}; chmod g+w {OURS}"));
    let ran = node.emr_shs(&["uninstall"]).expect(0);
    assert!(!ran.err().contains("left alone"), "{}", ran.err());
    assert_eq!(node.sh(&format!("stat -c '%G %a' {DEFAULTS}")), "hadoop 664\n");
    assert_eq!(node.sh("test ! -e /etc/emr-shs -a ! -e /var/lib/emr-shs && echo gone").trim(), "gone");
}

/// A store that is too busy for every request.
const BUSY: &str = "
import http.server
class Busy(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def answer(self):
        self.rfile.read(int(self.headers.get('Content-Length') or 0))
        body = b'<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'
        self.send_response(503)
        self.send_header('Content-Type', 'application/xml')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)
    do_GET = do_HEAD = do_PUT = do_DELETE = answer
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(('127.0.0.1', 7999), Busy).serve_forever()
";

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn where_s3_and_emr_stay_busy_commands_end_and_change_nothing() {
    let node = Node::fresh(Profile::Emr712);
    node.sh(&format!(
        "systemd-run -q --unit busy python3 -c \"{BUSY}\"; until (: </dev/tcp/127.0.0.1/7999) 2>/dev/null; do sleep 0.05; done"
    ));
    throttle(&node, 600);
    let before = node.sh(&format!("sha256sum {DEFAULTS}; ls -A /etc /var/lib"));
    let begun = std::time::Instant::now();
    let busy = ["--endpoint-url", "http://127.0.0.1:7999"];
    let ran = node.emr_shs(&[&INSTALL[..], &busy].concat()).expect(3);
    let took = begun.elapsed().as_secs();
    assert!(ran.err().contains("S3 is busy"), "{}", ran.err());
    // Hadoop's client alone would go on for two minutes.
    assert!(took < 100, "{took} s");
    assert_eq!(node.sh(&format!("sha256sum {DEFAULTS}; ls -A /etc /var/lib")), before);

    // A proof, too. It says that the store is busy, not that somebody has no rights.
    throttle(&node, 0);
    node.emr_shs(&INSTALL).expect(0);
    node.sh("sed -i s/127.0.0.1:7070/127.0.0.1:7999/ /etc/hadoop/conf/core-site.xml");
    let ran = node.emr_shs(&["verify"]).expect(3);
    assert!(ran.err().contains("S3 is busy"), "{}", ran.err());
}

/// The history server can get its port from a line that emr-shs does not understand, and has it only after the restart.
#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn a_history_server_where_the_gateway_does_not_look_for_it_is_red_until_the_next_install() {
    let node = Node::fresh(Profile::Emr712);
    node.upload_event_logs(LOGS);
    node.sh("echo 'export A=1 SPARK_HISTORY_OPTS=-Dspark.history.ui.port=18090' >>/etc/spark/conf/spark-env.sh");
    let ran = node.emr_shs(&INSTALL).expect(5);
    for says in ["on port 18090; ", "looks for it on port 18080", "ended incomplete"] {
        assert!(ran.err().contains(says), "wanted “{says}” in {}", ran.err());
    }
    is_red(&node, "history server", "looks for it on port 18080, and it answers on port 18090");
    node.emr_shs(&["install"]).expect(0);
    is_green(&node);
    node.sh("curl -sSf -o /dev/null http://127.0.0.1:9977/");
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn what_would_keep_the_next_server_or_the_jobs_from_starting_is_found_before_the_first_change() {
    let node = Node::fresh(Profile::Emr712);
    node.upload_event_logs(LOGS);
    let refused = |says: &[&str]| {
        let ran = node.emr_shs(&INSTALL).expect(3);
        for says in says {
            assert!(ran.err().contains(says), "wanted “{says}” in {}", ran.err());
        }
        node.sh("test ! -e /var/lib/emr-shs/receipt.json && curl -sSf -o /dev/null http://127.0.0.1:18080/");
    };
    // The server that runs has read it before.
    for (mode, file, account) in [
        ("600 root:root", DEFAULTS, "hadoop, the account of jobs"),
        ("600 hadoop:hadoop", "/etc/spark/conf.dist/spark-env.sh", "spark, the account of the history server"),
        ("640 root:spark", "/etc/hadoop/conf/core-site.xml", "hadoop, the account of jobs"),
    ] {
        let file = node.sh(&format!("realpath {file}"));
        let file = file.trim();
        node.sh(&format!("cp -p {file} /srv/kept; set -- {mode}; chmod $1 {file}; chown $2 {file}"));
        refused(&[account, "cannot read", "sudo chmod a+r", "then type this command again"]);
        let doctor = node.emr_shs(&["doctor"]).expect(3);
        assert!(doctor.out().contains("cannot read"), "{}", doctor.out());
        node.sh(&format!("chmod a+r {file}"));
        let doctor = node.emr_shs(&["doctor"]);
        assert!(!doctor.out().contains("cannot read"), "{}", doctor.out());
        node.sh(&format!("cp -p /srv/kept {file}"));
    }
    node.sh("echo 'export SPARK_HISTORY_OPTS=-Dspark.history.fs.logDirectory=hdfs:///var/log/spark/apps' >>/etc/spark/conf/spark-env.sh");
    node.sh("systemctl restart spark-history-server; until curl -sf -o /dev/null http://127.0.0.1:18080/; do sleep 0.2; done");
    refused(&["spark-env.sh", "then type this command again"]);
    // Another directory of settings.
    let dir = "/etc/systemd/system/spark-history-server.service.d";
    node.sh(&format!(
        "sed -i '$d' /etc/spark/conf/spark-env.sh; cp -aL /etc/spark/conf /etc/spark/conf.shs; mkdir -p {dir}"
    ));
    node.sh(&format!("printf '[Service]\\nEnvironment=SPARK_CONF_DIR=/etc/spark/conf.shs\\n' >{dir}/10-acme.conf"));
    let restart = "systemctl daemon-reload; systemctl restart spark-history-server; until curl -sf -o /dev/null http://127.0.0.1:18080/; do sleep 0.2; done";
    node.sh(restart);
    refused(&[
        "SPARK_CONF_DIR=/etc/spark/conf.shs",
        "systemctl cat spark-history-server",
        "then type this command again",
    ]);
    let doctor = node.emr_shs(&["doctor"]).expect(3);
    assert!(doctor.out().contains("SPARK_CONF_DIR=/etc/spark/conf.shs"), "{}", doctor.out());
    node.sh(&format!("rm {dir}/10-acme.conf; echo 'export SPARK_HISTORY_OPTS=-Dspark.history.fs.logDirectory=hdfs:///var/log/spark/apps' >>/etc/spark/conf/spark-env.sh"));
    node.sh(restart);
    // The server that runs still has the option, and the next one does not get it.
    node.sh("sed -i '$d' /etc/spark/conf/spark-env.sh");
    node.emr_shs(&INSTALL).expect(0);
    is_green(&node);
    // A line that no shell comes to sets nothing.
    node.emr_shs(&["uninstall"]).expect(0);
    node.sh("printf 'if [ -d /nonexistent ]; then\\nexport SPARK_HISTORY_OPTS=-Dspark.history.fs.logDirectory=hdfs:///x\\nfi\\n' >>/etc/spark/conf/spark-env.sh");
    node.sh("sleep 4; systemctl restart spark-history-server; until curl -sf -o /dev/null http://127.0.0.1:18080/; do sleep 0.2; done");
    node.emr_shs(&INSTALL).expect(0);
    is_green(&node);
}
