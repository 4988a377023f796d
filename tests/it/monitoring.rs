//! The alerts and the dashboard for the gateway, as far as they need no gateway. `tests/node/gateway/monitoring.rs` runs them.

use crate::helpers::prometheus::program;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

#[track_caller]
fn promtool(arguments: &[&str]) {
    let ran = Command::new(program("promtool")).args(arguments).current_dir(REPOSITORY).output().unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    assert!(ran.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn the_alerts_fire_for_what_they_name_and_for_nothing_else() {
    promtool(&["check", "rules", "assets/monitoring/alerts.yml"]);
    promtool(&["test", "rules", "tests/fixtures/alerts.yml"]);
}

#[test]
fn the_dashboard_is_one_that_grafana_imports() {
    let text = std::fs::read(Path::new(REPOSITORY).join("assets/monitoring/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_slice(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    for panel in panels {
        // The owner's data source has another name than ours.
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{panel}");
        assert!(panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()), "{panel}");
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter().map(|variable| &variable["name"]);
    assert_eq!(variables.collect::<Vec<_>>(), ["datasource", "instance"]);
}
