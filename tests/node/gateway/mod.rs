//! The log gateway on a node, asked with curl.

use crate::helpers::command_output::{CommandOutput, assert_same_tree};
use crate::helpers::laptop::Laptop;
use crate::helpers::node::{CLUSTER, LOG_URI, LOGS, Node, PRIVATE_NAME, Profile};
use crate::helpers::wait::wait;
use serde_json::json;
use std::path::Path;

mod access;
mod behind_a_path;
mod budgets;
mod cost;
mod errors;
mod history_server;
mod log_uris;
mod logs;
pub mod monitoring;
mod service;

/// A log of the fixtures, by the path of its link in the history server.
const LOG: &str = "/logs/container_1795352263709_0001_01_000002/stderr";
const SAYS: &str = "FIXTURE task stderr app=yarn-cluster-single executor=1";
const UNIT: &str = "emr-shs-gateway";

/// A node with the gateway, and the fixtures' logs below its log URI. A test that changes nothing hands it to the next.
fn node() -> Node {
    Node::prepared(Profile::Emr712, "gateway", |node| {
        node.upload_container_logs(LOG_URI, false);
        node.emr_shs(&["proxy", "install"]).expect(0);
    })
}

/// The answer to a request on the node.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    #[track_caller]
    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.head)).trim_end()
    }
}

#[track_caller]
fn get(node: &Node, path: &str, options: &[&str]) -> Answer {
    let url = format!("http://localhost:9977{path}");
    ask(node, &[options, &[&url]].concat())
}

#[track_caller]
fn ask(node: &Node, options: &[&str]) -> Answer {
    let ran = node.run(&[&["curl", "-si", "--max-time", "20", "--path-as-is"], options].concat());
    let text = String::from_utf8_lossy(&ran.0.stdout).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {options:?}: {}", ran.err()));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.into(), body: body.into() }
}

/// The answer once S3 has given its own: where S3 is late, the gateway leads to a log that S3 has not confirmed.
#[track_caller]
fn confirmed(node: &Node, path: &str) -> Answer {
    wait("S3's answer", || Some(get(node, path, &[])).filter(|answer| answer.status != 302))
}

/// Runs a part of attacks.py on the node, which asserts what a client that behaves well sees meanwhile.
#[track_caller]
fn attack(node: &Node, arguments: &[&str]) -> CommandOutput {
    node.copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/attacks.py"), "/srv/attacks.py");
    let ran = node.run(&[&["python3", "/srv/attacks.py"], arguments].concat()).expect(0);
    assert!(ran.out().ends_with("fine\n"), "{}", ran.out());
    ran
}

fn get_ok(node: &Node) -> bool {
    node.run(&["curl", "-sf", "-o", "/dev/null", "http://localhost:9977/-/healthz"]).code() == 0
}
