//! The node's private name, as browsers in its network write it.

use crate::gateway::access::interface_addresses;
use crate::host::Host;
use crate::ids::is_host_name;
use crate::node::Node;
use crate::node::hadoop::Hadoop;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

/// How long the resolver may take to say whose name that is.
const RESOLVER: Duration = Duration::from_secs(2);

/// The name under which YARN's own pages link to the history server, if it is a name of this node; else the kernel's
/// name.
pub(super) fn private_name(host: &Host, node: &Node) -> String {
    let own = host.name().filter(|name| is_host_name(name));
    let linked = linked_name(host, node).filter(|name| is_of_this_node(host, name, own.as_deref()));
    linked.or(own).unwrap_or("localhost".into())
}

/// The name in `spark.yarn.historyServer.address`. Spark replaces `${hadoopconf-…}` in it by properties of YARN.
fn linked_name(host: &Host, node: &Node) -> Option<String> {
    let mut address = node.spark.defaults.text("spark.yarn.historyServer.address")?.to_string();
    const BEGIN: &str = "${hadoopconf-";
    if address.contains(BEGIN) {
        let dir = node.spark.hadoop_conf();
        let files = ["core-site.xml", "yarn-site.xml"].map(|name| dir.join(name));
        let yarn = Hadoop::read(host, &files, &node.spark.env).ok()?;
        while let Some((before, (name, after))) =
            address.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
        {
            address = format!("{before}{}{after}", yarn.text(name)?);
        }
    }
    let address = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://")).unwrap_or(&address);
    let name = address.split(['/', ':']).next()?.trim_end_matches('.');
    is_host_name(name).then(|| name.to_string())
}

/// Whether a name leads to this node. Below another root nothing can be asked, so the file is believed.
fn is_of_this_node(host: &Host, name: &str, own: Option<&str>) -> bool {
    let first_label = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let is_short = |name: &str| !name.contains('.');
    if !host.is_live() || own.is_some_and(|own| own.eq_ignore_ascii_case(name)) {
        return true;
    }
    if own.is_some_and(|own| (is_short(own) || is_short(name)) && first_label(own) == first_label(name)) {
        return true;
    }
    let (sender, receiver) = mpsc::channel();
    let asked = name.to_string();
    std::thread::spawn(move || {
        let found: Vec<IpAddr> =
            (asked.as_str(), 0).to_socket_addrs().into_iter().flatten().map(|at| at.ip()).collect();
        let _ = sender.send(found);
    });
    let own = interface_addresses();
    let found = receiver.recv_timeout(RESOLVER).unwrap_or_default();
    found.iter().any(|ip| !ip.is_loopback() && !ip.is_unspecified() && own.contains(ip))
}
