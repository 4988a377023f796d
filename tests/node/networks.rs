//! Networks as companies have them: forward proxies, buckets with rules of their own, and accounts that get no credentials.

use crate::helpers::command_output::assert_same_tree;
use crate::helpers::node::{LOG_URI, LOGS, Node, Profile};
use crate::helpers::wait::wait;
use serde_json::{Value, json};

const FORWARD_PROXY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/stand-ins/forward-proxy.py");

/// Serves TLS on two ports: with a server's certificate, and with that of the authority.
const TLS: &str = "import socket, ssl, threading, time
def serve(port, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain('/root/' + name + '.pem', '/root/' + name + '.key')
    s = socket.create_server(('127.0.0.1', port))
    while True:
        try: context.wrap_socket(s.accept()[0], server_side=True).close()
        except OSError: pass
threading.Thread(target=serve, args=(9443, 'tls')).start()
serve(9444, 'ca')";

/// Starts a forward proxy. Its log is the journal of the unit `lab-proxy-PORT`.
fn start_proxy(node: &Node, port: u16, login: &str) {
    node.copy(FORWARD_PROXY, "/opt/lab/forward-proxy.py");
    node.sh(&format!(
        "systemd-run -q --unit lab-proxy-{port} python3 /opt/lab/forward-proxy.py {port} 7070 {login}
        until (: </dev/tcp/127.0.0.1/{port}) 2>/dev/null; do sleep 0.05; done"
    ));
}

fn proxied(node: &Node, port: u16) -> String {
    node.sh(&format!("journalctl -q --no-pager -o cat -u lab-proxy-{port}"))
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn s3_is_asked_through_the_proxy_and_the_node_itself_never() {
    let node = Node::fresh(Profile::Emr712);
    let before = node.tree();

    // Of S3A: nothing on this node has an address for the store.
    start_proxy(&node, 3128, "");
    let core = "/etc/hadoop/conf/core-site.xml";
    node.sh(&format!(
        "cp -p {core} /root/core-site.xml
        sed -i 's|http://127.0.0.1:7070|http://s3.behind.invalid|; s|</configuration>|<property><name>fs.s3a.proxy.host</name><value>127.0.0.1</value></property><property><name>fs.s3a.proxy.port</name><value>3128</value></property>&|' {core}"
    ));
    let plan = node.emr_shs(&["plan", "--event-logs", LOGS]).expect(0);
    assert!(plan.out().contains("through the proxy http://127.0.0.1:3128"), "{}", plan.out());
    node.emr_shs(&["install", "--event-logs", LOGS, "--verify"]).expect(0);
    let seen = proxied(&node, 3128);
    assert!(seen.contains("PUT http://s3.behind.invalid/acme-spark/events/"), "{seen}");
    assert!(!seen.contains("latest/") && !seen.contains("127.0.0.1"), "the node itself: {seen}");
    node.emr_shs(&["doctor"]).expect(0);
    node.emr_shs(&["uninstall"]).expect(0);
    node.sh(&format!("cp -p /root/core-site.xml {core}; rm /root/core-site.xml"));

    // Of the shell, with a password. sudo removes the variables, so the receipt keeps them.
    start_proxy(&node, 3129, "me:s3cret");
    let gateway = ["proxy", "install", "--log-uri", LOG_URI, "--endpoint-url", "http://s3.behind.invalid"];
    let url = "HTTP_PROXY=http://me:s3cret@127.0.0.1:3129";
    let installed = node.run(&[&["env", url, "NO_PROXY=*.corp", "emr-shs"], &gateway[..]].concat()).expect(0);
    let told = installed.out() + &installed.err();
    assert!(told.contains("http://…@127.0.0.1:3129") && !told.contains("s3cret"), "{told}");
    assert!(
        node.sh("emr-shs status; emr-shs status --json; emr-shs plan --json --event-logs s3://acme-spark/x/")
            .find("s3cret")
            .is_none()
    );
    let ready = || node.sh("curl -s http://localhost:9977/-/readyz").starts_with("ready").then_some(());
    wait("the gateway", ready);
    assert_eq!(node.sh("stat -c '%a %U' /etc/emr-shs/gateway.env").trim(), "600 root");
    wait("the proxy's log", || proxied(&node, 3129).contains("HEAD http://s3.behind.invalid/acme-logs").then_some(()));
    // Another run keeps the proxy.
    node.emr_shs(&gateway).expect(0);
    assert!(node.sh("cat /etc/emr-shs/gateway.env").contains(url.split_once('=').unwrap().1));

    // What a proxy says is not taken for S3's answer.
    let refused = node.run(&[
        "env",
        "HTTP_PROXY=http://127.0.0.1:3129",
        "emr-shs",
        "prefix",
        "--event-logs",
        LOGS,
        "--endpoint-url",
        "http://s3.behind.invalid",
    ]);
    let refused = refused.expect(3).err();
    for part in [
        "not S3 answered",
        "407",
        "lab-proxy",
        "asked through the proxy http://127.0.0.1:3129 (HTTP_PROXY)",
        "sudo --preserve-env=HTTPS_PROXY emr-shs",
    ] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let silent = [
        "env",
        "HTTP_PROXY=http://127.0.0.1:9",
        "emr-shs",
        "prefix",
        "--event-logs",
        LOGS,
        "--endpoint-url",
        "http://s3.behind.invalid",
    ];
    let silent = node.run(&silent).expect(3).err();
    assert!(silent.contains("asked through the proxy http://127.0.0.1:9 (HTTP_PROXY)"), "{silent}");

    node.emr_shs(&["uninstall"]).expect(0);
    assert_same_tree(&before, &node.tree());
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn buckets_and_accounts_with_rules_of_their_own_are_told_as_what_they_are() {
    let node = Node::fresh(Profile::Emr712);
    // A log URI as EMR accepts it.
    let settings: Value = serde_json::from_str(&node.sh("cat /etc/lab/standin.json")).unwrap();
    let mut cluster = settings["cluster"].clone();
    cluster["LogUri"] = json!(" S3N://acme-logs//elasticmapreduce ");
    node.stand_in("cluster", cluster);
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    let doctor = node.emr_shs(&["doctor"]).expect(0).out();
    assert!(doctor.contains("s3://acme-logs//elasticmapreduce/"), "{doctor}");
    // The lab's store takes the two directories for one.
    let log = "elasticmapreduce/j-3H6EATEWWRWS/containers/application_1700000000000_0001/container_1700000000000_0001_01_000001/stderr.gz";
    node.sh(&format!("echo hello | gzip | /opt/lab/s3 put - s3://acme-logs/{log}"));
    let found = node.sh("curl -s -o /dev/null -w '%{redirect_url}' http://localhost:9977/logs/container_1700000000000_0001_01_000001/stderr");
    assert!(found.contains(log), "{found}");

    // A key that XML cannot hold.
    node.sh("echo x | /opt/lab/s3 put - s3://acme-spark/events/$'a\\x01b'; echo y | /opt/lab/s3 put - s3://acme-spark/events/'c+d %41'");
    node.emr_shs(&["doctor"]).expect(0);
    node.sh("/opt/lab/s3 rm s3://acme-spark/events/*; /opt/lab/s3 put - s3://acme-spark/events/ </dev/null");

    // The gateway's account gets no credentials.
    let unit = "/run/systemd/system/emr-shs-gateway.service.d/none.conf";
    node.sh(&format!("mkdir -p $(dirname {unit}); printf '[Service]\\nEnvironment=AWS_EC2_METADATA_DISABLED=true\\n' >{unit}; systemctl daemon-reload; systemctl restart emr-shs-gateway"));
    let doctor = in_one_line(&node.emr_shs(&["doctor"]).expect(3).out());
    assert!(
        doctor.contains("root gets credentials for AWS, and emr-shs, the account of the log gateway, gets none"),
        "{doctor}"
    );
    node.sh(&format!("rm {unit}; systemctl daemon-reload; systemctl restart emr-shs-gateway"));
    wait("the gateway", || (node.sh("curl -s http://localhost:9977/-/readyz || true") == "ready\n").then_some(()));

    // The gateway's account has credentials of another role than root.
    node.stand_in("role", json!("RoleOfRoot"));
    let doctor = in_one_line(&node.emr_shs(&["doctor"]).expect(0).out());
    let role = settings["role"].as_str().unwrap();
    assert!(doctor.contains(&format!("of the role {role}, while root has RoleOfRoot")), "{doctor}");
    assert!(doctor.contains(&format!("the log gateway has the role {role}")), "{doctor}");
    node.stand_in("role", settings["role"].clone());

    // Certificates: of an authority that nobody knows, and of an authority in the place of a server's.
    node.sh(&format!(
        "cd /root && openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=ca -days 2 -keyout ca.key -out ca.pem 2>&1
        openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout tls.key -out tls.csr 2>&1
        echo 'subjectAltName=DNS:localhost' >san
        openssl x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out tls.pem 2>&1
        systemd-run -q --unit tls python3 -c \"{TLS}\"; until (: </dev/tcp/127.0.0.1/9443 && : </dev/tcp/127.0.0.1/9444) 2>/dev/null; do sleep 0.05; done"
    ));
    for (port, says) in
        [(9443, "is signed by an unknown authority"), (9444, "is that of an authority itself (CA:TRUE)")]
    {
        let endpoint = format!("https://localhost:{port}");
        let ran = node.emr_shs(&["plan", "--event-logs", "s3://acme-spark/x/", "--endpoint-url", &endpoint]).expect(3);
        let told = in_one_line(&ran.err());
        assert!(told.contains(&format!("the certificate of localhost:{port} {says}")), "{told}");
    }
    let emr = "AWS_ENDPOINT_URL_EMR=https://localhost:9443";
    let told = in_one_line(&node.run(&["env", emr, "emr-shs", "doctor"]).out());
    assert!(
        told.contains("the certificate of EMR's API (elasticmapreduce) is signed by an unknown authority"),
        "{told}"
    );
    node.sh("systemctl stop tls; rm /root/ca.* /root/tls.* /root/san");

    // What S3 says of a request.
    node.sh("/opt/lab/s3-fault on");
    let told = |code: &str, status: u16, message: &str| {
        let rule =
            json!({ "method": "PUT", "match": "/acme-spark/", "status": status, "code": code, "message": message });
        node.sh(&format!("echo '{}' >/etc/lab/s3-fault.json", json!({ "refuse": [rule] })));
        in_one_line(&node.emr_shs(&["doctor"]).expect(3).out())
    };
    let lock = told(
        "InvalidRequest",
        400,
        "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters",
    );
    assert!(lock.contains("the bucket keeps objects with Object Lock"), "{lock}");
    let acl = told("AccessControlListNotSupported", 400, "The bucket does not allow ACLs");
    assert!(acl.contains("take fs.s3a.acl.default out"), "{acl}");
    let policy = told(
        "AccessDenied",
        403,
        "User: x is not authorized to perform: s3:PutObject on resource: y with an explicit deny in a resource-based policy",
    );
    assert!(policy.contains("what denies it: the policy of the bucket"), "{policy}");
}

/// Takes back the line ends of a report.
fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn a_store_with_a_host_for_each_bucket_and_a_region_of_its_own_is_reached_as_s3a_reaches_it() {
    let node = Node::fresh(Profile::Emr712);
    node.sh(r"echo '127.0.0.1 s3.corp acme-spark.s3.corp acme-logs.s3.corp' >>/etc/hosts
        sed -i 's|http://127.0.0.1:7070|http://s3.corp:7070|; s|\(path.style.access</name><value>\)true|\1false|; s|\(endpoint.region</name><value>\)eu-west-3|\1corp-1|' /etc/hadoop/conf/core-site.xml
        sed -i 's/^AWS_REGION=.*/AWS_REGION=corp-1/' /etc/lab/s3.env
        mkdir -p /run/systemd/system/lab-s3.service.d
        printf '[Service]\nEnvironment=VGW_VIRTUAL_DOMAIN=s3.corp:7070\n' >/run/systemd/system/lab-s3.service.d/hosts.conf
        systemctl daemon-reload; systemctl restart lab-s3; : >/var/log/lab-s3.log");
    let often = ["--set", "spark.history.fs.update.interval=3s", "--verify"];
    node.emr_shs(&[&["install", "--event-logs", LOGS], &often[..]].concat()).expect(0);
    // A request that names the bucket in its path begins with the bucket.
    assert_eq!(node.sh("grep -E ' /acme-(spark|logs)' /var/log/lab-s3.log || true"), "");
    assert_eq!(node.sh("grep -c ' s3_HeadBucket - / 200 ' /var/log/lab-s3.log | sed 's/[1-9].*/some/'"), "some\n");
    node.emr_shs(&["plan", "--check"]).expect(0);
    node.emr_shs(&["doctor"]).expect(0);
    // The region that the cluster is in is not that of the store.
    assert!(node.sh("cat /etc/emr-shs/gateway.env").contains("EMR_SHS_BUCKET_REGION=\"acme-logs=corp-1\""));
    node.emr_shs(&["uninstall"]).expect(0);
}
