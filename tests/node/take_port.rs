//! `install --index --take-port`: links to the history server's old port open every application.

use crate::helpers::command_output::assert_same_tree;
use crate::helpers::node::{LOGS, Node, PRIVATE_NAME, Profile};
use crate::helpers::wait::wait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

const CACHE: &str = "/mnt/emr-shs/event-log-cache";
const APPLICATION: &str = "application_1795352263709_0001";

/// The status and the text of an answer to a browser on the node.
fn browse(node: &Node, url: &str) -> (String, String) {
    let text = node.sh(&format!("curl -s -m 60 -L -H 'Accept: text/html' -w '\\n%{{http_code}}' '{url}'"));
    let (page, status) = text.rsplit_once('\n').unwrap();
    (status.into(), page.into())
}

/// Which program listens on a port, as `ss` names it; empty if none does.
fn listens(node: &Node, port: u16) -> String {
    node.sh(&format!("ss -Hltnp 'sport = :{port}'"))
}

fn is_green(node: &Node) {
    for command in [&["plan", "--check"][..], &["doctor"], &["verify"]] {
        let ran = node.emr_shs(command);
        assert_eq!(ran.code(), 0, "{command:?}: {}{}", ran.out(), ran.err());
    }
    let again = node.emr_shs(&["install"]).expect(0);
    assert!(again.err().contains("nothing to do"), "{}", again.err());
}

/// The history server has its port, and the gateway has not.
fn has_its_port(node: &Node) {
    wait("the history server on 18080", || node.answers().then_some(()));
    assert!(listens(node, 18080).contains("java"), "{}", listens(node, 18080));
    assert_eq!(listens(node, 18081), "");
    assert_eq!(node.sh("systemctl is-enabled emr-shs-taken-port.socket 2>/dev/null || true").trim(), "");
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_gateway_takes_the_port_and_gives_it_back() {
    let node = Node::fresh(Profile::Emr712);
    node.upload_event_logs(LOGS);
    let before = node.tree();
    let address = node.sh("grep spark.yarn.historyServer.address /etc/spark/conf/spark-defaults.conf");

    // The port to which the history server would move is another program's.
    let mut other = node.spawn(&["python3", "-m", "http.server", "18081", "--directory", "/opt/lab"]);
    wait("the other program", || (!listens(&node, 18081).is_empty()).then_some(()));
    let install = ["install", "--event-logs", LOGS, "--index", "--take-port"];
    let refused = node.emr_shs(&install).expect(3);
    assert!(refused.err().contains("another process uses port 18081"), "{}", refused.err());
    assert!(refused.err().contains("--set spark.history.ui.port=18082"), "{}", refused.err());
    node.sh("pkill -f 'http.server 1808[1]'");
    let _ = other.wait();

    // No link leads to the loopback address.
    let refused = node.emr_shs(&[&install[..], &["--listen", "127.0.0.1:9977"]].concat()).expect(3);
    assert!(refused.err().contains("an address to which links can lead"), "{}", refused.err());

    let installed = node.emr_shs(&install).expect(0);
    let said = installed.err().replace('\n', " ");
    assert!(said.contains("takes port 18080") && said.contains("on port 18081;"), "{said}");
    assert!(listens(&node, 18081).contains("java"), "{}", listens(&node, 18081));
    assert!(listens(&node, 18080).contains("emr-shs"), "{}", listens(&node, 18080));
    assert!(listens(&node, 9977).contains("emr-shs"), "{}", listens(&node, 9977));
    assert_eq!(node.sh("grep spark.yarn.historyServer.address /etc/spark/conf/spark-defaults.conf"), address);
    let own_page = node.sh("curl -s localhost:18081/");
    assert!(own_page.contains(&format!("file://{CACHE}")), "{own_page}");

    // A link of YARN opens an application that nobody has opened.
    assert_eq!(node.sh(&format!("ls {CACHE}")), "");
    wait("the index", || node.get("/api/v1/applications").is_some_and(|list| list.contains(APPLICATION)).then_some(()));
    let url = format!("http://{PRIVATE_NAME}:18080/history/{APPLICATION}/1/jobs/");
    wait("the application's page", || {
        let (status, page) = browse(&node, &url);
        // Until then there is a page that asks again by itself.
        assert!(status == "200" || status == "503" && page.contains("http-equiv=\"refresh\""), "{status}: {page}");
        (status == "200" && page.contains("Completed Jobs")).then_some(())
    });
    assert!(node.sh(&format!("ls {CACHE}")).contains(APPLICATION));
    is_green(&node);
    let status = node.emr_shs(&["status"]).expect(0).out();
    assert!(status.contains("ports 9977 and 18080") && status.contains("answers on port 18081"), "{status}");

    // After a boot, systemd has both ports before the history server starts.
    node.sh("systemctl restart spark-history-server");
    node.sh("until curl -sf localhost:18081/api/v1/version >/dev/null; do sleep 0.2; done");
    node.emr_shs(&["doctor"]).expect(0);

    // Somebody sets the old port again, as a reconfiguration does.
    node.sh("sed -i 's/^\\(spark.history.ui.port *\\).*/\\118080/' /etc/spark/conf/spark-defaults.conf");
    node.emr_shs(&["restart"]).expect(3).err().find("the log gateway has port 18080").unwrap();
    node.emr_shs(&["install"]).expect(0);
    is_green(&node);

    node.sh("systemctl stop emr-shs-taken-port.socket");
    let doctor = node.emr_shs(&["doctor"]).expect(3);
    assert!(doctor.out().contains("emr-shs-taken-port.socket"), "{}", doctor.out());
    let restarted = node.emr_shs(&["restart"]).expect(0);
    assert!(
        restarted.err().contains("does not listen on the port that the history server has left"),
        "{}",
        restarted.err()
    );
    node.emr_shs(&["install"]).expect(0);
    is_green(&node);

    // With TLS, a link with http:// leads to https:// on the same port.
    node.emr_shs(&["install", "--tls-self-signed"]).expect(0);
    let head = node.sh(&format!("curl -si http://localhost:18080/history/{APPLICATION}/"));
    let to = format!("https://localhost:18080/history/{APPLICATION}/");
    assert!(head.to_lowercase().contains(&format!("location: {to}")), "{head}");
    node.emr_shs(&["install", "--tls-self-signed=false"]).expect(0);

    // The gateway keeps the socket that systemd has closed.
    node.sh("systemctl stop emr-shs-taken-port.socket");
    let back = node.emr_shs(&["install", "--take-port=false"]).expect(0);
    assert!(back.err().contains("gets its port back"), "{}", back.err());
    has_its_port(&node);
    assert_eq!(node.reads(), format!("file://{CACHE}"));
    let list: Value = serde_json::from_str(&node.sh("curl -s localhost:9977/api/v1/applications")).unwrap();
    assert!(list.as_array().unwrap().len() > 1, "{list}");
    is_green(&node);
    // The gateway follows a history server whose port somebody has set, and no longer sets.
    node.emr_shs(&["install", "--set", "spark.history.ui.port=18099"]).expect(0);
    for command in [&["configure"][..], &["proxy", "install"]] {
        let refused = node.emr_shs(&[command, &["--set", "spark.history.ui.port="]].concat()).expect(2);
        assert!(refused.err().contains("sudo emr-shs install --set spark.history.ui.port="), "{}", refused.err());
    }
    node.emr_shs(&["install", "--set", "spark.history.ui.port="]).expect(0);
    has_its_port(&node);
    is_green(&node);

    node.emr_shs(&["install", "--take-port"]).expect(0);
    assert!(listens(&node, 18080).contains("emr-shs"), "{}", listens(&node, 18080));
    node.emr_shs(&["install", "--index=false"]).expect(0);
    has_its_port(&node);
    assert_eq!(node.reads(), LOGS);
    node.emr_shs(&["install", "--index", "--take-port"]).expect(0);
    node.emr_shs(&["uninstall"]).expect(0);
    has_its_port(&node);
    assert_eq!(node.reads(), "hdfs:///var/log/spark/apps");
    assert_same_tree(&before, &node.tree());
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn a_run_that_cannot_take_the_port_gives_it_back() {
    let node = Node::fresh(Profile::Emr712);
    let before = node.tree();
    node.emr_shs(&["install", "--event-logs", LOGS, "--index"]).expect(0);
    let installed = node.tree();
    let drop_in = "/etc/systemd/system/emr-shs-taken-port.socket.d";
    node.sh(&format!(
        "mkdir {drop_in}; printf '[Socket]\\nExecStartPre=/bin/false\\n' >{drop_in}/fails.conf; systemctl daemon-reload"
    ));
    let ran = node.emr_shs(&["install", "--take-port"]).expect(1);
    let said = ran.err().replace('\n', " ");
    assert!(said.contains("emr-shs-taken-port.socket does not start"), "{said}");
    assert!(said.contains("put back") && said.contains(&format!("answers again from file://{CACHE}")), "{said}");
    node.sh(&format!("rm -r {drop_in}; systemctl daemon-reload"));
    has_its_port(&node);
    assert_same_tree(&lasting(installed), &lasting(node.tree()));
    is_green(&node);

    // The port is taken, and the history server does not start without it: everything stays taken.
    node.emr_shs(&["install", "--take-port"]).expect(0);
    let ran = node.emr_shs(&["install", "--take-port=false", "--set", "spark.history.ui.port=99999"]).expect(1);
    assert!(ran.err().replace('\n', " ").contains(&format!("answers again from file://{CACHE}")), "{}", ran.err());
    assert!(listens(&node, 18081).contains("java"), "{}", listens(&node, 18081));
    assert!(listens(&node, 18080).contains("emr-shs"), "{}", listens(&node, 18080));
    is_green(&node);
    node.emr_shs(&["uninstall"]).expect(0);
    has_its_port(&node);
    assert_same_tree(&before, &node.tree());
}

/// The files without those that change as the gateway works.
fn lasting(mut tree: BTreeMap<PathBuf, String>) -> BTreeMap<PathBuf, String> {
    tree.retain(|path, _| !path.starts_with("var/lib/emr-shs-gateway") && !path.starts_with("mnt"));
    tree
}
