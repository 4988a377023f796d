//! Job runs of EMR Serverless where they lie: the links to the logs of their executors lead to these logs, without any setting.

use crate::helpers::many_logs::ManyLogs;
use crate::helpers::ports::unused_port;
use crate::helpers::small_history_server::SmallHistoryServer;
use crate::helpers::wait::wait;
use emr_shs::testing::relinked_run;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use regex::bytes::Regex;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const APPLICATION: &str = "00abcdefghij0001";
const RUN: &str = "00f5trm1fv0d3p0b";
const RETRIED: &str = "00f5trm1fv0d3p0c";

struct Gateway {
    process: Child,
    port: u16,
}

impl Gateway {
    fn start(s3: &ManyLogs, history_server: &SmallHistoryServer, directory: &Path, options: &[&str]) -> Self {
        let port = unused_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_emr-shs"));
        command.args(["proxy", "serve", "--log-uri", "s3://acme/elasticmapreduce/", "--insecure", "--quiet"]);
        command.args(["--listen", &format!("127.0.0.1:{port}"), "--endpoint-url", &s3.url(), "--look-interval", "1"]);
        command.args(["--history-server", &format!("http://127.0.0.1:{}", history_server.port)]).args(options);
        command.env("EMR_SHS_EVENT_LOG_CACHE", directory.join("cache")).env("EMR_SHS_INDEX_DB", directory.join("db"));
        command.envs([
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SECRET_ACCESS_KEY", "b"),
            ("AWS_REGION", "us-east-1"),
        ]);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let gateway = Self { process, port };
        wait("the gateway", || (gateway.get("/-/healthz").0 == 200).then_some(()));
        gateway
    }

    /// The status and the text behind an address, wherever redirects lead.
    fn get(&self, path: &str) -> (u16, String) {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let mut curl = Command::new("curl");
        curl.args(["-sL", "--path-as-is", "--noproxy", "*", "--max-time", "60", "-w", "\n%{http_code}", &url]);
        let text = String::from_utf8(curl.output().unwrap().stdout).unwrap();
        let (text, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), text.to_string())
    }

    #[track_caller]
    fn executors(&self, application: &str) -> Vec<Value> {
        let (status, text) = self.get(&format!("/api/v1/applications/{application}/allexecutors"));
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    fn list(&self) -> Vec<Value> {
        serde_json::from_str(&self.get("/api/v1/applications").1).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Writes the rolling event log of an application into a directory.
fn put_event_log(s3: &ManyLogs, directory: &str, id: &str) {
    let text = format!(
        "{{\"Event\":\"SparkListenerLogStart\",\"Spark Version\":\"3.5.0\"}}\n{{\"Event\":\"SparkListenerApplicationStart\",\"App Name\":\"{id}\",\"App ID\":\"{id}\",\"Timestamp\":1795352263709,\"User\":\"hadoop\"}}\n{{\"Event\":\"SparkListenerApplicationEnd\",\"Timestamp\":1795352263809}}\n"
    );
    s3.put(&format!("{directory}eventlog_v2_{id}/appstatus_{id}"), b"");
    s3.put(&format!("{directory}eventlog_v2_{id}/events_1_{id}"), text.as_bytes());
}

#[test]
fn executor_logs_open_where_their_run_has_written_them() {
    let s3 = ManyLogs::start(&["-flat", "0"]);
    let run = format!("sls/team-a/applications/{APPLICATION}/jobs/{RUN}/");
    let attempt = format!("sls/applications/{APPLICATION}/jobs/{RETRIED}/attempts/2/");
    for (directory, id) in [(&run, RUN), (&attempt, RETRIED)] {
        put_event_log(&s3, &format!("{directory}sparklogs/"), id);
        for (worker, log) in
            [("SPARK_DRIVER", "stdout"), ("SPARK_EXECUTOR/2", "stdout"), ("SPARK_EXECUTOR/2", "stderr")]
        {
            s3.put(&format!("{directory}{worker}/{log}.gz"), format!("{log} of {worker} of {id}").as_bytes());
        }
    }
    s3.put(&format!("{run}SPARK_DRIVER/launch_container.sh.gz"), b"not for you");
    // Another application, whose executors say the same of themselves, and a run below no source.
    put_event_log(&s3, "spark-events/", "application_1795352263709_0001");
    s3.put(&format!("other/applications/{APPLICATION}/jobs/{RUN}/SPARK_DRIVER/stdout.gz"), b"not for you");
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("cache")).unwrap();
    let history_server = SmallHistoryServer::start(directory.path().join("cache"), "3.5.0");
    let sources = ["--event-logs", "s3://acme/spark-events/", "--event-logs", "s3://acme/sls/"];
    let gateway = Gateway::start(&s3, &history_server, directory.path(), &sources);
    wait("the list", || (gateway.list().len() == 3).then_some(()));

    for (id, directory) in [(RUN, &run), (RETRIED, &attempt)] {
        let link = |rest: &str| format!("/logs/s3/acme/{directory}{rest}");
        let executors = gateway.executors(id);
        let logs = |at: usize| &executors[at]["executorLogs"];
        // The event log has no links for the driver.
        assert_eq!(*logs(0), json!({"stdout": link("SPARK_DRIVER/stdout"), "stderr": link("SPARK_DRIVER/stderr")}));
        assert_eq!(
            *logs(1),
            json!({"stdout": link("SPARK_EXECUTOR/2/stdout"), "stderr": link("SPARK_EXECUTOR/2/stderr")})
        );
        assert_eq!(*logs(2), json!({"stdout": "/logs/container_1795352263709_0001_01_000002/stdout"}));
        assert_eq!(executors[1]["attributes"]["CONTAINER_ID"], "SPARK_EXECUTOR/2");
        for log in ["stdout", "stderr"] {
            let (status, text) = gateway.get(logs(1)[log].as_str().unwrap());
            assert_eq!((status, text), (200, format!("{log} of SPARK_EXECUTOR/2 of {id}")));
        }
        let page = gateway.get(&format!("/history/{id}/stages/")).1;
        assert!(page.contains(&format!("<a href=\"{}\">", link("SPARK_EXECUTOR/2/stdout"))), "{page}");
        assert!(page.contains("<a href=\"/history/x/\">"), "{page}");
        // The page of a log that is not there links to those that are.
        // A gateway that S3 does not answer at once leads to S3, which has a page of its own.
        wait("the gateway's page of a log that is not there", || {
            let (status, page) = gateway.get(&link("SPARK_EXECUTOR/2/gc.log"));
            assert_eq!(status, 404, "{page}");
            page.contains("<a href=\"stdout.gz\">stdout</a>").then_some(())
        });
        let (status, page) = gateway.get(&link("SPARK_EXECUTOR/2/"));
        assert_eq!(status, 200, "{page}");
        assert!(page.contains("<a href=\"stderr.gz\">stderr</a>"), "{page}");
    }
    // Nothing else of a source is served, and nothing beside it.
    let of_run = |directory: &str| format!("/logs/s3/acme/{directory}applications/{APPLICATION}/jobs/{RUN}/");
    for (path, wanted) in [
        (format!("{}SPARK_DRIVER/launch_container.sh", of_run("sls/team-a/")), 403),
        (format!("{}sparklogs/eventlog_v2_{RUN}/events_1_{RUN}", of_run("sls/team-a/")), 404),
        (format!("{}SPARK_DRIVER/stdout", of_run("other/")), 404),
        (format!("{}SPARK_DRIVER/stdout", of_run("sls/../other/")), 400),
        (format!("{}SPARK_DRIVER/stdout", of_run("sls/%2e%2e/other/")), 400),
    ] {
        let (status, text) = gateway.get(&path);
        assert_eq!(status, wanted, "{path}: {text}");
        assert!(!text.contains("not for you"), "{path}");
    }
    let executors = gateway.executors("application_1795352263709_0001");
    assert_eq!(executors[0]["executorLogs"], json!({}));
    assert_eq!(executors[1]["executorLogs"]["stderr"], "/logs/SPARK_EXECUTOR/2/stderr");
}

#[test]
fn clusters_that_the_owner_does_not_allow_include_serverless_applications() {
    let s3 = ManyLogs::start(&["-flat", "0"]);
    let log = format!("sls/applications/{APPLICATION}/jobs/{RUN}/SPARK_DRIVER/stdout");
    s3.put(&format!("{log}.gz"), b"text");
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("cache")).unwrap();
    let history_server = SmallHistoryServer::start(directory.path().join("cache"), "3.5.0");
    for (allowed, status) in [("this", 403), (APPLICATION, 200)] {
        let options = ["--event-logs", "s3://acme/sls/", "--allow-cluster", allowed];
        let gateway = Gateway::start(&s3, &history_server, directory.path(), &options);
        assert_eq!(gateway.get(&format!("/logs/s3/acme/{log}")).0, status, "{allowed}");
    }
}

/// What pages and answers consist of, and what looks like it.
const PIECES: &[&str] = &[
    "href=",
    "\"",
    "'",
    "<a href=\"/logs/SPARK_DRIVER/stdout\">",
    "href='/logs/SPARK_EXECUTOR/7/stderr?x'",
    "/SPARK_EXECUTOR/",
    "1/",
    "stdout",
    "..",
    "%2f",
    "\\",
    "\\\"",
    "{",
    "}",
    ":",
    ",",
    " ",
    "\n",
    "\"id\" : \"2\"",
    "\"executorId\":\"driver\"",
    "\"executorLogs\"",
    "\"executorLogs\" : { \"stdout\" : \"",
    "\"executorLogs\":{}",
    "\"id\" : \"../x\"",
    "javascript:alert(1)",
    "\u{e9}",
    "SPARK_DRIVER",
    "xxxx",
];

#[test]
fn any_page_in_any_pieces_gets_links_to_logs_of_the_run_alone() {
    const PATH: &str = "/logs/s3/acme/!!!/";
    let link = Regex::new(r"\A(SPARK_DRIVER|SPARK_EXECUTOR/[0-9]{1,10})/[A-Za-z0-9._-]+[\x22']").unwrap();
    let text = prop_oneof![
        20 => select(PIECES).prop_map(str::to_string),
        1 => (2030..2060_usize).prop_map(|length| "y".repeat(length)),
        1 => any::<String>(),
    ];
    let page = proptest::collection::vec(text, 0..40).prop_map(|texts| texts.concat());
    let cuts = proptest::collection::vec(1..60_usize, 0..60);
    let mut runner = TestRunner::new(Config { cases: 3_000, failure_persistence: None, ..Config::default() });
    let mut found = 0;
    let ran = runner.run(&(page, cuts, any::<bool>()), |(page, cuts, is_page)| {
        let (mut pieces, mut rest) = (Vec::new(), page.as_bytes());
        for cut in cuts {
            let (piece, after) = rest.split_at(rest.len().min(cut));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        let whole = relinked_run(&[page.as_bytes()], PATH, is_page);
        prop_assert_eq!(&relinked_run(&pieces, PATH, is_page), &whole);
        let mut rest = whole.as_slice();
        while let Some(at) = rest.windows(PATH.len()).position(|window| window == PATH.as_bytes()) {
            rest = &rest[at + PATH.len()..];
            prop_assert!(link.is_match(rest), "{}", rest.escape_ascii());
        }
        Ok(())
    });
    ran.unwrap_or_else(|e| panic!("{e}"));
    for page in PIECES {
        found += usize::from(relinked_run(&[page.as_bytes()], PATH, true) != page.as_bytes());
    }
    assert_eq!(found, 2);
}
