//! The gateway answers the list of applications with the bytes of stock history servers.

use crate::helpers::index_gateway::IndexGateway;
use crate::helpers::many_logs::ManyLogs;
use crate::helpers::ports::unused_port;
use crate::helpers::python_packages::cache;
use crate::helpers::wait::wait;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A stock history server of one of the lab's Sparks, on a directory of this machine.
struct StockServer {
    process: Child,
    port: u16,
}

impl StockServer {
    fn start(version: &str, logs: &Path, store: &Path) -> Self {
        let layers = cache().join("layers");
        let begin = format!("spark-{version}-");
        let mut found = std::fs::read_dir(layers).unwrap().map(|entry| entry.unwrap().path());
        let layer = found.find(|path| path.file_name().unwrap().to_string_lossy().starts_with(&begin)).unwrap();
        let port = unused_port();
        let mut java = Command::new("java");
        for package in ["lang", "lang.invoke", "lang.reflect", "io", "net", "nio", "util", "util.concurrent"] {
            java.arg(format!("--add-opens=java.base/java.{package}=ALL-UNNAMED"));
        }
        java.args(["--add-exports=java.base/sun.nio.ch=ALL-UNNAMED", "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED"]);
        java.arg(format!("-Dspark.history.fs.logDirectory=file://{}", logs.display()));
        java.arg(format!("-Dspark.history.store.path={}", store.display()));
        java.args(["-Dspark.history.fs.update.interval=1s", &format!("-Dspark.history.ui.port={port}")]);
        java.arg("-cp").arg(format!("{0}/usr/lib/spark/jars/*:{0}/opt/lab/hadoop-client/*", layer.display()));
        java.arg("org.apache.spark.deploy.history.HistoryServer").stdout(Stdio::null()).stderr(Stdio::null());
        Self { process: java.spawn().unwrap(), port }
    }
}

impl Drop for StockServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The status, the type and the text of an answer of the REST API. When a history server last read the log of an application that
/// has not ended is left out: the gateway tells when the log was written.
fn comparable(port: u16, path: &str) -> String {
    let url = format!("http://127.0.0.1:{port}/api/v1/{path}");
    let mut curl = Command::new("curl");
    curl.args(["-s", "--noproxy", "*", "--max-time", "60", "-w", "\n%{http_code} %{content_type}", &url]);
    let text = String::from_utf8(curl.output().unwrap().stdout).unwrap();
    let attempt = |attempt: &str| {
        let is_over = attempt.contains("\"completed\" : true");
        let kept = attempt.lines().filter(|line| is_over || !line.contains("\"lastUpdated"));
        kept.collect::<Vec<_>>().join("\n")
    };
    text.split_inclusive('}').map(attempt).collect()
}

/// The fixtures in a directory, and with the same times below `logs/` in S3.
fn copy_fixtures(s3: &ManyLogs, to: &Path) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/yarn");
    std::fs::create_dir(to).unwrap();
    for from in ["eventlogs", "eventlogs-codecs"] {
        let entries = std::fs::read_dir(fixtures.join(from)).unwrap().map(|entry| entry.unwrap().path());
        for entry in entries.filter(|path| !path.extension().is_some_and(|end| end == "md" || end == "json")) {
            assert!(Command::new("cp").arg("-r").arg(entry).arg(to).status().unwrap().success());
        }
    }
    let files = Command::new("find").arg(to).args(["-type", "f"]).output().unwrap().stdout;
    for file in String::from_utf8(files).unwrap().lines() {
        let key = Path::new(file).strip_prefix(to).unwrap().display().to_string();
        s3.put(&format!("logs/{key}"), &std::fs::read(file).unwrap());
        let head =
            Command::new("curl").args(["-sI", &format!("{}/acme/logs/{key}", s3.url())]).output().unwrap().stdout;
        let head = String::from_utf8(head).unwrap();
        let time = head.lines().find_map(|line| line.strip_prefix("Last-Modified: ")).unwrap();
        assert!(Command::new("touch").args(["-d", time, file]).status().unwrap().success());
    }
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_answers_have_the_bytes_of_stock_history_servers() {
    let s3 = ManyLogs::start(&["-flat", "0"]);
    let directory = tempfile::tempdir().unwrap();
    let logs = directory.path().join("logs");
    copy_fixtures(&s3, &logs);
    let gateway = IndexGateway::start(&s3, &["--event-logs", "s3://acme/logs/"]);
    wait("the list", || (gateway.ids("").len() == 26).then_some(()));
    let mut queries: Vec<String> = [
        "?status=running",
        "?status=COMPLETED",
        "?status=",
        "?status=running&status=completed",
        "?limit=0",
        "?limit=3",
        "?limit=-1",
        "?limit=",
        "?limit=%2B3",
        "?minDate=soon",
        "?minDate=%C3%A9%3Cb",
        "/",
        "/nope",
        "/nope/1",
        "/no%20p%22%3c",
        "?minDate=2026-11-22T13:00:00.000GMT&maxDate=2026-11-23&limit=2&status=completed",
    ]
    .map(str::to_string)
    .to_vec();
    queries.push(String::new());
    for parameter in ["minDate", "maxDate", "minEndDate", "maxEndDate"] {
        for date in [
            "2026-11-22",
            "2026-11-22T13:00:00.000GMT",
            "2026-11-27T02:51:00.000EST",
            "2026-11-27T03:00:00.000GMT%2b1:00",
            "2027-01-01",
            "2026-13-45",
            "2026-11-27T02:46",
            "2026-11-27T02:46:00.000Z",
            "20261127",
            "",
        ] {
            queries.push(format!("?{parameter}={date}"));
        }
    }
    for id in gateway.ids("") {
        queries.extend(["", "/", "/1", "/2", "/2/"].map(|end| format!("/{id}{end}")));
    }
    for version in ["3.1.2", "3.5.8", "4.1.1"] {
        let server = StockServer::start(version, &logs, &directory.path().join(version));
        // The history server adds one event log after the other.
        let attempts = |port: u16| comparable(port, "applications").matches("\"completed\"").count();
        wait("the history server's list", || (attempts(server.port) == attempts(gateway.port)).then_some(()));
        for query in &queries {
            let path = format!("applications{query}");
            assert_eq!(comparable(gateway.port, &path), comparable(server.port, &path), "Spark {version}: {path}");
        }
    }
}
