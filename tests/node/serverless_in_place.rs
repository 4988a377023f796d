//! Job runs of EMR Serverless, listed and opened where they have logged. Their event logs are those of the fixtures, under the names
//! and with the attributes that EMR Serverless is documented to write.

use crate::helpers::chromium::{Browser, Setup};
use crate::helpers::laptop::Laptop;
use crate::helpers::node::{LOGS, Node, Profile};
use crate::helpers::wait::wait;
use crate::iam::obey;
use serde_json::Value;

on_profiles! {
    [emr_7_12: Emr712, emr_8_1: Emr81]
    [runs_of_serverless_open_with_their_executor_logs]
}

const SOURCE: &str = "s3://acme-logs/serverless/";
const APPLICATION: &str = "00abcdefghij0001";
const RUN: &str = "00f5trm1fv0d3p0b";
const RETRIED: &str = "00f5trm1fv0d3p0c";

/// Where the runs lie below the source.
fn directory(run: &str) -> String {
    match run {
        RUN => format!("team-a/applications/{APPLICATION}/jobs/{RUN}"),
        retried => format!("applications/{APPLICATION}/jobs/{retried}/attempts/2"),
    }
}

/// Writes the logs of two runs below the source. The executors of one have the attributes from which Spark makes links; those of
/// the other have neither attributes nor links.
fn upload_runs(node: &Node) {
    let fixture = "application_1795352263709_0005";
    let attributes = format!("s#container_1795352263709_0005_01_0*([0-9]+)#SPARK_EXECUTOR/\\1#g; s#{fixture}#{RUN}#g");
    let without = format!(
        "s#\"Log Urls\":\\{{[^}}]*\\}}#\"Log Urls\":{{}}#; s#\"Attributes\":\\{{[^}}]*\\}}#\"Attributes\":{{}}#; s#{fixture}#{RETRIED}#g"
    );
    for (run, script) in [(RUN, attributes), (RETRIED, without)] {
        let at = format!("/srv/serverless/{}", directory(run));
        node.sh(&format!(
            r#"log={at}/sparklogs/eventlog_v2_{run}
            mkdir -p $log && : >$log/appstatus_{run}
            sed -E '{script}' /srv/eventlogs/eventlog_v2_{fixture}/events_1_{fixture} >$log/events_1_{run}
            for worker in SPARK_DRIVER SPARK_EXECUTOR/1 SPARK_EXECUTOR/2 SPARK_EXECUTOR/3; do
              mkdir -p {at}/$worker
              for log in stdout stderr; do echo "$log of $worker of {run}" | gzip >{at}/$worker/$log.gz; done
            done"#
        ));
    }
    node.sh(&format!("/opt/lab/s3 put-tree /srv/serverless {SOURCE}"));
}

fn json(node: &Node, path: &str) -> Value {
    let text = node.sh(&format!("curl -sS -m 60 --fail-with-body 'localhost:9977{path}'"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}: {text}"))
}

fn runs_of_serverless_open_with_their_executor_logs(profile: Profile) {
    let node = Node::fresh(profile);
    node.upload_event_logs(LOGS);
    upload_runs(&node);
    assert!(node.laptop(Laptop::Ssh, &["true"]).status().unwrap().success());
    // The account of the node may do what the rendered policy says, and no more.
    let both = ["--event-logs", LOGS, "--event-logs", SOURCE];
    let policy = node.emr_shs(&[&["render", "iam-policy"], &both[..]].concat()).expect(0);
    node.sh("/opt/lab/s3 user limited limitedsecret user");
    obey(&node, &serde_json::from_str(&policy.out()).unwrap(), None);
    node.sh("echo limited >/etc/lab/session-user
             sed -i 's/>labroot</>limited</; s/>labrootsecret</>limitedsecret</' /etc/hadoop/conf/core-site.xml");
    node.emr_shs(&[&["install", "--index"], &both[..]].concat()).expect(0);
    let state =
        |run: &str| json(&node, "/api/v1/applications").to_string().contains(&format!("\"{run}\"")).then_some(());
    wait("the runs in the list", || state(RUN).and(state(RETRIED)));

    for run in [RUN, RETRIED] {
        let link = |rest: &str| format!("/logs/s3/acme-logs/serverless/{}/{rest}", directory(run));
        let executors = json(&node, &format!("/api/v1/applications/{run}/allexecutors"));
        let executors = executors.as_array().unwrap();
        assert!(executors.len() > 1, "{executors:?}");
        for executor in executors {
            let worker = match executor["id"].as_str().unwrap() {
                "driver" => "SPARK_DRIVER".to_string(),
                id => format!("SPARK_EXECUTOR/{id}"),
            };
            for log in ["stdout", "stderr"] {
                // The executors of the fixture are containers 2 and 3.
                let worker = match run == RUN && worker != "SPARK_DRIVER" {
                    true => executor["attributes"]["CONTAINER_ID"].as_str().unwrap(),
                    false => &worker,
                };
                let found = executor["executorLogs"][log].as_str().unwrap();
                assert_eq!(found, link(&format!("{worker}/{log}")), "{executor}");
                let text = node.sh(&format!("curl -sSfL --compressed 'localhost:9977{found}'"));
                assert_eq!(text, format!("{log} of {worker} of {run}\n"));
            }
        }
        // The links of tasks, from which the page of a stage is made.
        let tasks = json(&node, &format!("/api/v1/applications/{run}/stages/0/0/taskList")).to_string();
        assert!(tasks.contains(&link("SPARK_EXECUTOR/")), "{tasks}");
    }
    // Applications of the cluster itself keep their links.
    let own = json(&node, "/api/v1/applications/application_1795352263709_0005/allexecutors").to_string();
    assert!(own.contains("/logs/container_1795352263709_0005_01_000002/stdout"), "{own}");

    let _tunnel = node.tunnel(&["-L", "19977:localhost:9977", "-L", "7070:localhost:7070"]);
    let browser = Browser::start(&node, Setup::default());
    browser.open(&format!("http://localhost:19977/history/{RETRIED}/executors/"));
    let link = "#active-executors a[href$='/SPARK_EXECUTOR/1/stderr']";
    browser.wait_for(link);
    browser.script(&format!("document.querySelector(\"{link}\").click()"));
    browser.wait_for_text(&format!("stderr of SPARK_EXECUTOR/1 of {RETRIED}"));

    // A node for nothing but these runs, as `render serverless` has it.
    node.emr_shs(&["uninstall"]).expect(0);
    let rendered =
        node.emr_shs(&["render", "serverless", "--log-uri", SOURCE, "--part", "node-policy"]).expect(0).out();
    obey(&node, &serde_json::from_str(&rendered).unwrap(), None);
    let line = node.emr_shs(&["render", "serverless", "--log-uri", SOURCE, "--part", "install"]).expect(0).out();
    let words: Vec<&str> = line.split_whitespace().skip(2).collect();
    node.emr_shs(&words).expect(0);
    wait("the runs in the list", || state(RUN).and(state(RETRIED)));
    let found = format!("/logs/s3/acme-logs/serverless/{}/SPARK_DRIVER/stdout", directory(RUN));
    assert!(json(&node, &format!("/api/v1/applications/{RUN}/allexecutors")).to_string().contains(&found));
    assert_eq!(
        node.sh(&format!("curl -sSfL --compressed 'localhost:9977{found}'")),
        format!("stdout of SPARK_DRIVER of {RUN}\n")
    );
}
