//! The log gateway on a node, asked with curl.

use crate::helpers::command_output::assert_same_tree;
use crate::helpers::node::{CLUSTER, LOG_URI, LOGS, Laptop, Node, PRIVATE_NAME, Profile, wait};
use serde_json::json;
use std::path::Path;

mod access;
mod errors;
mod logs;
mod service;

/// A log of the fixtures, as a link in the history server names it.
const LOG: &str = "/logs/container_1795352263709_0001_01_000002/stderr";
const SAYS: &str = "FIXTURE task stderr app=yarn-cluster-single executor=1";
const UNIT: &str = "emr-shs-gateway";

/// A node with the gateway on, and the fixtures' logs below its log URI.
fn node(name: &str) -> Node {
    let node = Node::fresh(Profile::Emr712, name);
    node.upload_container_logs(LOG_URI, false);
    node.emr_shs(&["proxy", "install"]).expect(0);
    node
}

/// What a request on the node gives: status, headers, body.
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

fn get_ok(node: &Node) -> bool {
    node.run(&["curl", "-sf", "-o", "/dev/null", "http://localhost:9977/-/healthz"]).code() == 0
}
