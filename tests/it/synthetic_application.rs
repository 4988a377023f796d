//! The application that `verify` writes has the shape of a real one.

use crate::helpers::node::CLUSTER;
use crate::helpers::root_dir::RootDir;
use emr_shs::testing::Host;
use emr_shs::testing::Settings;
use emr_shs::testing::SyntheticApplication;
use emr_shs::testing::{LogDirectory, LogRequest, Route, container_directory, route, stored_name};
use serde_json::Value;

#[test]
fn the_synthetic_application_has_the_shape_of_a_real_one() {
    let root = RootDir::new();
    let node = emr_shs::testing::Node::read(&Host::new(root.path())).unwrap();
    for serverless in [None, Some("00f1r2fo0l4l4l09".to_string())] {
        let settings = Settings { serverless: serverless.clone(), ..Settings::default() };
        let synthetic = SyntheticApplication::new(&node, &settings);
        let pattern = match &serverless {
            None => "http://node:9977/logs/{{CONTAINER_ID}}/{{FILE_NAME}}".to_string(),
            Some(id) => format!(
                "http://node:9977/logs/applications/{id}/jobs/{{{{APP_ID}}}}/{{{{CONTAINER_ID}}}}/{{{{FILE_NAME}}}}"
            ),
        };
        let link = synthetic.link(&pattern);
        let path = link.strip_prefix("http://node:9977").unwrap();
        let Some(Ok(Route { request: LogRequest::Log(place, name), .. })) = route(path, None, &[]) else {
            panic!("{link} is no log's")
        };
        let directory = match place {
            LogDirectory::Container(container) => {
                assert!(container.application.is_synthetic(), "{link}");
                container_directory(CLUSTER, &container)
            }
            LogDirectory::Directory(directory) => directory,
        };
        assert_eq!(synthetic.log_key(Some(CLUSTER)).unwrap(), directory + &stored_name(&name));
        // Spark recognizes an event by the beginning of its line.
        let (_, parts) = synthetic.event_log();
        let text = String::from_utf8(parts[0].1.clone()).unwrap();
        let begins = ["LogStart", "ApplicationStart", "ExecutorAdded", "ApplicationEnd"];
        for (line, name) in text.lines().zip(begins) {
            assert!(line.starts_with(&format!("{{\"Event\":\"SparkListener{name}\"")), "{line}");
            serde_json::from_str::<Value>(line).unwrap();
        }
        assert_eq!(text.lines().count(), begins.len());
    }
}
