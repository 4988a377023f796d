//! Debian's Prometheus, which `scripts/test` unpacks into the cache.

use super::laptop::Laptop;
use super::node::Node;
use super::python_packages::cache;
use super::wait::wait;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Child;

/// The path of `prometheus` or of `promtool`.
pub fn program(name: &str) -> PathBuf {
    let found = cache().join("prometheus/usr/bin").join(name);
    assert!(
        found.is_file(),
        "{} is not there; scripts/test makes it, or: apt-get download prometheus && dpkg -x prometheus_*.deb {}",
        found.display(),
        cache().join("prometheus").display()
    );
    found
}

/// A Prometheus that runs on the laptop of a node, in its VPN. It ends when dropped.
pub struct Prometheus<'a> {
    node: &'a Node,
    process: Child,
}

impl<'a> Prometheus<'a> {
    /// `dir` contains `prometheus.yml`, and gets the data.
    pub fn start(node: &'a Node, dir: &Path) -> Self {
        let (config, data) = (dir.join("prometheus.yml"), dir.join("data"));
        let arguments = [
            program("prometheus").display().to_string(),
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", data.display()),
            "--web.listen-address=127.0.0.1:9090".into(),
            "--log.level=warn".into(),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let process = node.laptop(Laptop::Vpn, &arguments).spawn().unwrap();
        let prometheus = Self { node, process };
        wait("Prometheus", || prometheus.api("query", &["query=vector(1)"]).map(drop));
        prometheus
    }

    /// The data that a path of the API answers; `None` if Prometheus does not answer. An error of Prometheus ends the test.
    #[track_caller]
    pub fn api(&self, path: &str, fields: &[&str]) -> Option<Value> {
        let url = format!("http://127.0.0.1:9090/api/v1/{path}");
        let fields = fields.iter().flat_map(|field| ["--data-urlencode", field]);
        let command: Vec<&str> =
            ["curl", "-s", "--get", "--max-time", "20"].into_iter().chain(fields).chain([&*url]).collect();
        let ran = self.node.laptop(Laptop::Vpn, &command).output().unwrap();
        let answer: Value = serde_json::from_slice(&ran.stdout).ok()?;
        assert_eq!(answer["status"], "success", "{command:?}: {answer}");
        Some(answer["data"].clone())
    }

    /// The series of a query, empty ones too.
    #[track_caller]
    pub fn query(&self, query: &str) -> Vec<Value> {
        let data = self.api("query", &[&format!("query={query}")]).expect("Prometheus answers");
        data["result"].as_array().unwrap().clone()
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
