//! `doctor` judges event logs of any name and server logs of any layout as the history server does, counts errors that
//! nobody has listed, and finds nothing wrong with healthy nodes of every kind.

use crate::helpers::doctor_cases::{DoctorCases, Report, until};
use crate::helpers::node::{LOGS, Node, Profile};
use crate::helpers::wait::wait;
use serde_json::Value;

const SERVER: &str = "spark-history-server";
const OUT: &str = "/var/log/spark/spark-history-server.out";
const EVENTS: &str = "/srv/s3/acme-spark/events";

/// Odd event logs in /srv/odd, made of the fixtures in /srv/eventlogs.
const ODD: &str = r#"
mkdir -p /srv/odd && cd /srv/odd
app=application_1795352263709 id=00f5trm1fv0d3p0b
renamed() { sed "s/${app}_0003/$1/g" /srv/eventlogs/${app}_0003; }
mkdir eventlog_v2_$id && renamed $id >eventlog_v2_$id/events_1_$id && : >eventlog_v2_$id/appstatus_$id
renamed jr_3c1d0f5e7a9b >jr_3c1d0f5e7a9b
renamed spark-0c5f7bd7b9f34a4b >spark-0c5f7bd7b9f34a4b
# Somebody has renamed this one: its name says nothing.
renamed ${app}_2402 >nightly
# What is no event log.
mkdir eventlog_v2_empty other && : >eventlog_v2_empty/appstatus_empty && echo x >other/x
echo 'These are event logs.' >README
echo x >_SUCCESS
echo x >.hidden
"#;

fn put(p: &DoctorCases, what: &str) {
    p.node.sh(&format!("cd /srv/odd; for f in {what}; do if [ -d $f ]; then /opt/lab/s3 put-tree $f s3://acme-spark/events/$f/; else /opt/lab/s3 put $f s3://acme-spark/events/$f; fi; done"));
}

fn restart(p: &DoctorCases) {
    p.node.sh(&format!("systemctl restart {SERVER}"));
    p.recovered_with_skips();
}

impl DoctorCases {
    /// Waits until the server answers and no check fails.
    fn recovered_with_skips(&self) -> Report {
        let mut last = String::new();
        for _ in 0..60 {
            let report = Report::of(&self.node);
            if report.code == 0 && self.node.answers() {
                return report;
            }
            last = report.text();
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        panic!("doctor is not content:\n{last}");
    }
}

fn found(report: &Report, check: &str) -> String {
    let is = |c: &&Value| c["name"] == check;
    report
        .checks()
        .iter()
        .find(is)
        .map(|c| format!("{}: {}", c["result"].as_str().unwrap(), c["found"].as_str().unwrap()))
        .unwrap()
}

/// Whoever may write event logs chooses their names, and so words that messages quote and that people paste.
fn names_of_others_do_nothing(node: &Node) {
    let name = "eventlog_v2_application_1795352263709_0901$(touch pwned)`touch pwned`;touch pwned #'\"\\";
    let escape = "application_1795352263709_0902\u{1b}]0;owned\u{7}\u{1b}[31m";
    let keys = format!(
        "s3://acme-spark/events/{name}/events_1_x\ns3://acme-spark/events/{name}/appstatus_x\ns3://acme-spark/events/{escape}\n"
    );
    std::fs::write(node.path("/root/keys"), keys).unwrap();
    node.sh("while IFS= read -r key; do /opt/lab/s3 put /srv/none \"$key\"; done </root/keys");
    let reads = |report: Report| report.checks().iter().find(|check| check["name"] == "reads").unwrap().clone();
    let fix = wait("doctor to name the event log", || {
        let fix = reads(Report::of(node))["fix"].as_str()?.to_string();
        fix.contains("_0901").then_some(fix)
    });
    for command in
        [&["doctor"][..], &["doctor", "-v"], &["doctor", "--json"], &["verify"], &["status", "-v"], &["plan"]]
    {
        let ran = node.emr_shs(command);
        let text = ran.out() + &ran.err();
        let obeyed = text.chars().find(|c| c.is_control() && *c != '\n');
        assert!(obeyed.is_none(), "{command:?} prints {obeyed:?}: {text:?}");
    }
    let typed = &fix[fix.find("grep ").unwrap()..fix.find("; where the server's log says nothing").unwrap()];
    std::fs::write(node.path("/root/typed"), typed).unwrap();
    let found = node.sh("cd /root; bash ./typed; ls pwned 2>&1 || true");
    assert!(found.contains("_0901$(touch pwned)") && found.contains("cannot access 'pwned'"), "{typed}\n{found}");
    node.sh("while IFS= read -r key; do /opt/lab/s3 rm \"$key\"; done </root/keys");
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn doctor_judges_what_the_server_lists_whatever_its_name_or_log_layout() {
    let node = Node::fresh(Profile::Emr712);
    node.upload_event_logs(LOGS);
    node.emr_shs(&["install", "--event-logs", LOGS, "--set", "spark.history.fs.update.interval=5s"]).expect(0);
    let mut p = DoctorCases { node, said: String::new(), env: &[] };
    p.node.sh(ODD);
    p.node.make_event_log_of_spark_2("/srv/odd/application_1795352263709_2401_1");

    // Every name that the server lists counts, and only those.
    put(
        &p,
        "application_1795352263709_2401_1 eventlog_v2_00f5trm1fv0d3p0b jr_3c1d0f5e7a9b spark-0c5f7bd7b9f34a4b nightly",
    );
    p.node.wait_for_attempts(15);
    put(&p, "eventlog_v2_empty other README _SUCCESS .hidden");
    let report = p.recovered_with_skips();
    assert_eq!(
        found(&report, "reads"),
        "pass: 15 of 15 event logs listed; no event log: README, and 1 more",
        "{}",
        report.text()
    );
    let pattern = found(&report, "log pattern");
    assert_eq!(
        pattern,
        "pass: executors have CONTAINER_ID; those of Spark 2.4.8-amzn-2 have none, and keep links to NodeManagers"
    );
    // doctor reads the beginnings of event logs itself: the server opens none of them for it.
    assert_eq!(p.node.sh("find /mnt -path '*/apps/*'"), "");

    // The server fails to read hundreds of event logs, with an exception that nobody has listed. Its log is longer than what
    // doctor reads of it.
    p.node.sh("mkdir /srv/many; head -c 5000 /dev/urandom >/srv/none
        for n in $(seq 1000 1299); do cp /srv/none /srv/many/application_1795352263709_$n.lz4; done
        /opt/lab/s3 put-tree /srv/many s3://acme-spark/events/");
    p.suffers(
        "hundreds of event logs with an unknown error",
        |node| drop(node.sh(&until(&format!("[ $(grep -c 'merging application listings' {OUT}) -ge 300 ]")))),
        &["server log", "reads"],
        &[
            "errors that emr-shs does not know, 300 times",
            "IOException",
            "15 of 315 event logs listed",
            "tail -100 /var/log/spark",
        ],
    );
    p.node.sh("/opt/lab/s3 rm 's3://acme-spark/events/application_1795352263709_1*'");
    names_of_others_do_nothing(&p.node);
    restart(&p);
    // Log4j writes ISO 8601 times, then lines of JSON. Neither hides the server's log, nor makes an old error a new one.
    let layouts = [
        (
            "PatternLayout",
            "pattern = %d{ISO8601} %p [%t] %c{1}: %m%n%ex",
            "2026-01-01T00:00:00,000 ERROR [x] Y: old\njava.lang.IllegalStateException: x",
        ),
        (
            "JsonLayout",
            "compact = true\nappender.console.layout.eventEol = true",
            r#"{"instant":{"epochSecond":1767225600,"nanoOfSecond":0},"level":"ERROR","message":"old"}"#,
        ),
    ];
    for (number, (layout, setting, old)) in (7001..).zip(layouts) {
        std::fs::write(
            p.node.path("/etc/spark/conf.dist/log4j2.properties"),
            format!(
                "rootLogger.level = info\nrootLogger.appenderRef.stdout.ref = console\nappender.console.type = Console\n\
                 appender.console.name = console\nappender.console.target = SYSTEM_ERR\nappender.console.layout.type = {layout}\n\
                 appender.console.layout.{setting}\n"
            ),
        )
        .unwrap();
        restart(&p);
        assert_eq!(found(&Report::of(&p.node), "server log"), "pass: no error", "{layout}");
        std::fs::write(p.node.path("/srv/old"), format!("{old}\n")).unwrap();
        // In the moment between, the server writes nothing: its scans are 5 s apart.
        p.node.sh(&format!("cat {OUT} >>/srv/old; cat /srv/old >{OUT}"));
        let said = found(&p.recovered_with_skips(), "server log");
        assert!(
            said.starts_with("pass: no error now; ") && said.ends_with("days ago: errors that emr-shs does not know"),
            "{said}"
        );
        // An error of now is one in this layout, too.
        // Another name each time: the local store may still remember the last one.
        let damaged = format!("s3://acme-spark/events/application_1795352263709_{number}.lz4");
        p.node.sh(&format!("/opt/lab/s3 put /srv/none {damaged}"));
        p.suffers(
            layout,
            |node| drop(node.sh(&until(&format!("grep -q 'merging application listings' {OUT}")))),
            &["server log", "reads"],
            &["IOException"],
        );
        p.node.sh(&format!("/opt/lab/s3 rm {damaged}"));
    }
    // A server that logs errors only is not silenced.
    p.node.sh("sed -i 's/^rootLogger.level.*/rootLogger.level = error/' /etc/spark/conf/log4j2.properties");
    restart(&p);
    p.node.sh(&format!(
        "echo 'SLF4J: Defaulting to no-operation (NOP) logger implementation' >>{OUT}; touch -d '5 hours ago' {OUT}"
    ));
    assert_eq!(found(&p.recovered_with_skips(), "server log"), "pass: no error");

    // The logger writes to a file of its own alone.
    const OWN: &str = "/var/log/spark/shs-own.log";
    p.node.sh("cp -p /etc/spark/conf/log4j2.properties /srv/");
    std::fs::write(
        p.node.path("/etc/spark/conf.dist/log4j2.properties"),
        "rootLogger.level = info\nrootLogger.appenderRef.file.ref = file\nproperty.own = /var/log/spark\n\
         appender.file.type = File\nappender.file.name = file\nappender.file.fileName = ${own}/shs-own.log\n\
         appender.file.layout.type = PatternLayout\nappender.file.layout.pattern = %d{ISO8601} %p %c{1}: %m%n%ex\n",
    )
    .unwrap();
    restart(&p);
    assert_eq!(found(&Report::of(&p.node), "server log"), "pass: no error");
    let damaged = "s3://acme-spark/events/application_1795352263709_7003.lz4";
    p.node.sh(&format!("/opt/lab/s3 put /srv/none {damaged}"));
    p.suffers(
        "a log of its own",
        |node| drop(node.sh(&until(&format!("grep -q 'merging application listings' {OWN}")))),
        &["server log", "reads"],
        &["IOException"],
    );
    p.node.sh(&format!("/opt/lab/s3 rm {damaged}; cp -p /srv/log4j2.properties /etc/spark/conf/; rm {OWN}"));

    // Only old event logs, then none at all.
    p.node.sh(&format!("cd {EVENTS}; mv application_1795352263709_2401_1 /srv/; rm -rf * .hidden; mv /srv/application_1795352263709_2401_1 ."));
    restart(&p);
    p.node.wait_for_attempts(1);
    let report = p.recovered_with_skips();
    assert_eq!(found(&report, "reads"), "pass: 1 of 1 event logs listed", "{}", report.text());
    assert!(
        found(&report, "log pattern").starts_with("skip: executors of Spark 2.4.8-amzn-2 have no attributes"),
        "{}",
        report.text()
    );
    p.node.sh("/opt/lab/s3 rm s3://acme-spark/events/application_1795352263709_2401_1; /opt/lab/s3 put /dev/null s3://acme-spark/events/");
    p.node.sh("emr-shs install --history-only --no-proxy");
    let report = p.recovered_with_skips();
    assert_eq!(found(&report, "reads"), "pass: 0 of 0 event logs listed", "{}", report.text());
}
