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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test says what it expects by unwrapping it")]

    use super::*;
    use std::fs;

    fn linked(address: &str) -> Option<String> {
        let root = std::env::temp_dir().join(format!("emr-shs-private-name-{}", std::process::id()));
        for (path, text) in [
            ("etc/spark/conf/spark-defaults.conf", format!("spark.yarn.historyServer.address {address}\n")),
            (
                "etc/hadoop/conf/yarn-site.xml",
                "<configuration><property><name>yarn.resourcemanager.hostname</name><value>${own}.corp</value></property>\
                 <property><name>own</name><value>rm</value></property></configuration>"
                    .into(),
            ),
        ] {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), text).unwrap();
        }
        let host = Host::new(&root);
        let name = linked_name(&host, &Node::read_leniently(&host).0);
        fs::remove_dir_all(root).unwrap();
        name
    }

    #[test]
    fn the_name_in_yarns_links_is_read_as_spark_reads_it() {
        let table = [
            ("ip-10-0-0-1.ec2.internal:18080", Some("ip-10-0-0-1.ec2.internal")),
            ("${hadoopconf-yarn.resourcemanager.hostname}:18080", Some("rm.corp")),
            ("http://${hadoopconf-yarn.resourcemanager.hostname}:18080/", Some("rm.corp")),
            ("${hadoopconf-own}.${hadoopconf-own}:1", Some("rm.rm")),
            ("https://shs.corp.example./history/", Some("shs.corp.example")),
            ("http://shs", Some("shs")),
            ("${hadoopconf-no.such.property}:18080", None),
            ("${hadoopconf-yarn.resourcemanager.hostname:18080", None),
            ("user@shs:18080", None),
            ("[::1]:18080", None),
        ];
        for (address, wanted) in table {
            assert_eq!(linked(address).as_deref(), wanted, "{address}");
        }
    }

    #[test]
    fn another_machines_name_is_not_this_nodes() {
        let is_ours = |name: &str, own: &str| is_of_this_node(&Host::this(), name, Some(own));
        assert!(is_ours("IP-10-0-0-1.ec2.internal", "ip-10-0-0-1.ec2.internal"));
        assert!(is_ours("ip-10-0-0-1", "ip-10-0-0-1.ec2.internal") && is_ours("shs.corp", "shs"));
        // Addresses need no resolver.
        for name in ["192.0.2.1", "127.0.0.1", "0.0.0.0"] {
            assert!(!is_ours(name, "ip-10-0-0-1.ec2.internal"), "{name}");
        }
    }
}
