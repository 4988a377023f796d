//! An application that never ran: its event log, in the format of the node's Spark, and the log of its only
//! executor. Its ids cannot collide with those of real applications.

use crate::ids::Application;
use crate::node::Node;
use crate::settings::Settings;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The application's duration. Spark expects one above zero.
const LASTED: Duration = Duration::from_secs(1);

pub struct SyntheticApplication {
    ended: Duration,
    application: Application,
    /// The id of an EMR Serverless application; `None` for an application on YARN.
    serverless: Option<String>,
    /// Spark's version.
    spark: String,
    /// Whether the event log consists of parts in a directory.
    rolls: bool,
}

impl SyntheticApplication {
    /// An application as the jobs of this node would be.
    pub fn new(node: &Node, settings: &Settings) -> Self {
        let ended = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let milliseconds = u64::try_from(ended.as_millis()).unwrap_or(u64::MAX);
        let salt = ended.subsec_nanos() ^ std::process::id().rotate_left(8);
        Self {
            ended,
            application: Application::synthetic(milliseconds, salt),
            serverless: settings.serverless.clone(),
            spark: node.spark.version.as_ref().map_or("3.5.0".into(), ToString::to_string),
            rolls: node.spark.rolls_event_logs(&settings.set),
        }
    }

    /// The id in the history server's list.
    pub fn id(&self) -> String {
        match &self.serverless {
            Some(_) => {
                format!("00{}", self.application.to_string().replace("application_", "verify").replace('_', "x"))
            }
            None => self.application.to_string(),
        }
    }

    /// The id of the executor's container, or the part of the path that EMR Serverless uses instead.
    pub fn container(&self) -> String {
        match &self.serverless {
            Some(_) => "SPARK_EXECUTOR/1".into(),
            None => self.application.container(2),
        }
    }

    /// The link to the executor's stderr: the pattern, filled in as Spark does (`docs/emr.md §5.5`).
    pub fn link(&self, pattern: &str) -> String {
        let filled = pattern.replace("{{CONTAINER_ID}}", &self.container()).replace("{{APP_ID}}", &self.id());
        filled.replace("{{FILE_NAME}}", "stderr")
    }

    /// A time shortly before the application ended, in the format of the history server's REST API.
    pub fn before_its_end(&self) -> String {
        let before = self.ended.saturating_sub(Duration::from_secs(60)).as_secs().cast_signed();
        let day_and_time = DateTime::from_secs(before).fmt(DateTimeFormat::DateTime).unwrap_or_default();
        format!("{}.000GMT", day_and_time.trim_end_matches('Z'))
    }

    /// The name of the event log, and the objects of which it consists.
    pub fn event_log(&self) -> (String, Vec<(String, Vec<u8>)>) {
        let id = self.id();
        let events: String = self.events().into_iter().map(|(name, fields)| line(name, &fields)).collect();
        if !self.rolls {
            return (id.clone(), vec![(id, events.into_bytes())]);
        }
        let directory = format!("eventlog_v2_{id}/");
        let parts = vec![
            (format!("{directory}events_1_{id}"), events.into_bytes()),
            (format!("{directory}appstatus_{id}"), Vec::new()),
        ];
        (directory, parts)
    }

    fn events(&self) -> Vec<(&'static str, Value)> {
        let at = |moment: Duration| u64::try_from(moment.as_millis()).unwrap_or(u64::MAX);
        let began = at(self.ended.saturating_sub(LASTED));
        let container = self.container();
        let live = format!("http://verify.invalid:8042/node/containerlogs/{container}/hadoop");
        let mut attributes = json!({
            "NM_HOST": "verify.invalid", "NM_PORT": "8041", "NM_HTTP_PORT": "8042",
            "NM_HTTP_ADDRESS": "verify.invalid:8042", "HTTP_SCHEME": "http://", "CLUSTER_ID": "",
            "USER": "hadoop", "LOG_FILES": "stderr,stdout", "CONTAINER_ID": container,
        });
        if self.serverless.is_some() {
            attributes["APP_ID"] = self.id().into();
        }
        let start = json!({ "App Name": "emr-shs verify", "App ID": self.id(), "Timestamp": began, "User": "emr-shs" });
        let executor = json!({
            "Host": "verify.invalid", "Total Cores": 1,
            "Log Urls": { "stdout": format!("{live}/stdout?start=-4096"), "stderr": format!("{live}/stderr?start=-4096") },
            "Attributes": attributes, "Resources": {}, "Resource Profile Id": 0, "Registration Time": began,
        });
        vec![
            ("LogStart", json!({ "Spark Version": self.spark })),
            ("ApplicationStart", start),
            ("ExecutorAdded", json!({ "Timestamp": began, "Executor ID": "1", "Executor Info": executor })),
            ("ApplicationEnd", json!({ "Timestamp": at(self.ended) })),
        ]
    }

    /// The key of the executor's stderr below the log URI; `None` if the cluster is not known.
    pub fn log_key(&self, cluster: Option<&str>) -> Option<String> {
        Some(match &self.serverless {
            Some(id) => format!("applications/{id}/jobs/{}/{}/stderr.gz", self.id(), self.container()),
            None => format!("{}/containers/{}/{}/stderr.gz", cluster?, self.id(), self.container()),
        })
    }

    /// The text of the executor's stderr.
    pub fn log(&self) -> Vec<u8> {
        format!("written by emr-shs verify for {} of {}; safe to delete\n", self.container(), self.id()).into_bytes()
    }

    /// That text as EMR archives it.
    pub fn log_gz(&self) -> Vec<u8> {
        let mut gz = GzEncoder::new(Vec::new(), Compression::default());
        // Writing to memory does not fail.
        let _ = gz.write_all(&self.log());
        gz.finish().unwrap_or_default()
    }
}

/// One line of an event log. Spark recognises an event by the beginning of its line.
fn line(name: &str, fields: &Value) -> String {
    let fields = fields.to_string();
    format!("{{\"Event\":\"SparkListener{name}\",{}\n", fields.trim_start_matches('{'))
}
