//! The history server on a node: what it answers, what it lists, and the logs that it reads.

use super::command_output::CommandOutput;
use super::node::{CLUSTER, Node, script};
use super::wait::wait;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

impl Node {
    /// The history server's answer to a GET request, if it answers.
    pub fn get(&self, path: &str) -> Option<String> {
        let ran = self.run(&["curl", "-sf", &format!("http://127.0.0.1:18080{path}")]);
        (ran.code() == 0).then(|| ran.out())
    }

    pub fn answers(&self) -> bool {
        self.get("/api/v1/version").is_some()
    }

    /// The event log directory that the front page shows.
    #[track_caller]
    pub fn reads(&self) -> String {
        let page = self.get("/").expect("the history server answers");
        let after = page.split("Event log directory:</strong>").nth(1).expect("the page names a directory");
        after.split('<').next().unwrap().trim().to_string()
    }

    pub fn history_server_pid(&self) -> String {
        self.sh("pgrep -f org.apache.spark.deploy.history.HistoryServer -u spark").trim().to_string()
    }

    pub fn wait_until_dead(&self) {
        wait("the history server to die", || {
            (self.sh("systemctl is-active spark-history-server || true").trim() == "failed").then_some(())
        });
    }

    /// Writes the event log of application_1795352263709_2401 as Spark 2.4 writes it: its executors have no attributes, and
    /// its links lead to NodeManagers. `upload_event_logs` must have run before.
    pub fn make_event_log_of_spark_2(&self, path: &str) {
        self.sh(&format!(
            r#"app=application_1795352263709
            sed -E -e 's/,"Driver Attributes":\{{[^}}]*\}}//' -e 's/"Spark Version":"[^"]*"/"Spark Version":"2.4.8-amzn-2"/' \
              -e 's/,"Attributes":\{{[^}}]*\}},"Resources":\{{\}},"Resource Profile Id":0(,"Registration Time":[0-9]+)?//g' \
              -e '/ResourceProfileAdded/d' -e "s/${{app}}_0001/${{app}}_2401/g" /srv/eventlogs/${{app}}_0001_1 >{path}"#
        ));
    }

    pub fn upload_event_logs(&self, uri: &str) {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/yarn/eventlogs");
        let copied = Command::new("cp").arg("-r").arg(fixtures).arg(self.root.join("srv/eventlogs")).status().unwrap();
        assert!(copied.success());
        self.sh(&format!("/opt/lab/s3 put-tree /srv/eventlogs {}", uri.replace("s3a://", "s3://")));
    }

    /// Uploads the fixtures' container logs to where EMR puts them below that log URI, with or without the header
    /// `Content-Encoding: gzip`.
    pub fn upload_container_logs(&self, uri: &str, encoded: bool) {
        let top = self.root.join("srv/container-logs");
        if !top.exists() {
            let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/yarn/container-logs");
            assert!(Command::new("cp").arg("-r").arg(fixtures).arg(&top).status().unwrap().success());
            self.sh("gzip -nr /srv/container-logs");
        }
        let (_, below) = uri.split_once("://").unwrap();
        let header = if encoded { "-H 'Content-Encoding: gzip'" } else { "" };
        let to = format!("s3://{}/{CLUSTER}/containers/", below.trim_end_matches('/'));
        self.sh(&format!("/opt/lab/s3 put-tree {header} /srv/container-logs {to}"));
    }

    /// Runs a small Spark application as user hadoop. Returns its id.
    pub fn spark_submit(&self, name: &str) -> String {
        let ran = CommandOutput(script(&[
            "exec",
            &self.name,
            "--user",
            "hadoop",
            "--",
            "/usr/lib/spark/bin/spark-submit",
            "--master",
            "local[1]",
            "--name",
            name,
            "--class",
            "TinyApp",
            "/opt/lab/tiny-app.jar",
            name,
        ]))
        .expect(0);
        let text = ran.out() + &ran.err();
        let at = text.find("local-").unwrap_or_else(|| panic!("no application id in {text}"));
        text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
    }

    /// Waits until so many applications are listed. Returns them.
    pub fn wait_for_applications(&self, count: usize) -> Vec<Value> {
        wait(&format!("{count} applications"), || {
            let listed: Vec<Value> = serde_json::from_str(&self.get("/api/v1/applications")?).ok()?;
            (listed.len() >= count).then_some(listed)
        })
    }

    /// Waits until so many attempts of applications are listed. Returns the applications. The history server adds one event log after
    /// the other, so an application of two attempts is listed some time before its second attempt is.
    pub fn wait_for_attempts(&self, count: usize) -> Vec<Value> {
        wait(&format!("{count} attempts of applications"), || {
            let listed: Vec<Value> = serde_json::from_str(&self.get("/api/v1/applications")?).ok()?;
            let attempts: usize = listed.iter().map(|one| one["attempts"].as_array().unwrap().len()).sum();
            (attempts >= count).then_some(listed)
        })
    }
}
