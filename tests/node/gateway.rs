//! The log gateway on the EMR-like node, below what a browser shows: whom it serves, what it asks
//! of S3, what it gives when something fails, and how it comes and goes.

use crate::helpers::command_output::assert_same_tree;
use crate::helpers::node::{CLUSTER, LOG_URI, LOGS, Laptop, Node, PRIVATE_NAME, Profile, wait};
use serde_json::json;
use std::path::Path;

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

/// The requests S3 has had for the bucket of the logs.
fn log_requests(node: &Node) -> usize {
    node.sh("grep -c acme-logs /var/log/lab-s3.log || true").trim().parse().unwrap()
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn another_clusters_log_costs_a_few_requests_once() {
    const OTHER: &str = "j-1OTHER2CLUSTER";
    let node = node("others");
    // The fixtures' applications ran on another cluster; three more did something else.
    node.sh(&format!("/opt/lab/s3 rm 's3://acme-logs/elasticmapreduce/{CLUSTER}/*'"));
    assert!(!node.s3_has(&format!("s3://acme-logs/elasticmapreduce/{CLUSTER}/")));
    node.sh(&format!("/opt/lab/s3 put-tree /srv/container-logs s3://acme-logs/elasticmapreduce/{OTHER}/containers/"));
    node.sh("echo a log | gzip > /srv/log.gz");
    for (cluster, timestamp) in
        [("j-AAAAAAAA", 1_795_000_000_000_u64), ("j-BBBBBBBB", 1_795_100_000_000), ("j-ZZZZZZZZ", 1_795_900_000_000)]
    {
        let container = format!("application_{timestamp}_0001/container_{timestamp}_0001_01_000001");
        node.sh(&format!(
            "/opt/lab/s3 put /srv/log.gz s3://acme-logs/elasticmapreduce/{cluster}/containers/{container}/stderr.gz"
        ));
    }
    wait("the gateway to be ready", || (get(&node, "/-/readyz", &[]).status == 200).then_some(()));

    let before = log_requests(&node);
    let answer = get(&node, LOG, &[]);
    assert_eq!(answer.status, 302, "{}", answer.body);
    assert!(answer.header("location").contains(&format!("/elasticmapreduce/{OTHER}/containers/")), "{}", answer.head);
    // HEAD in the own cluster, the clusters, one request to each of four, HEAD in the right one.
    let first = log_requests(&node) - before;
    assert!((3..=7).contains(&first), "{first} requests");
    for _ in 0..20 {
        assert_eq!(get(&node, LOG, &[]).status, 302);
    }
    assert_eq!(log_requests(&node) - before, first, "nothing more is asked");
    // Any other log of that cluster: whether it is there, and no more than that.
    assert_eq!(get(&node, "/logs/container_1795352263709_0009_02_000001/stdout", &[]).status, 302);
    assert_eq!(log_requests(&node) - before, first + 1);

    // A ResourceManager that was restarted: a cluster's later applications have another timestamp.
    node.sh("/opt/lab/s3 put /srv/log.gz s3://acme-logs/elasticmapreduce/j-BBBBBBBB/containers/application_1795200000000_0001/container_1795200000000_0001_01_000001/stderr.gz");
    let answer = get(&node, "/logs/container_1795200000000_0001_01_000001/stderr", &[]);
    assert!(answer.header("location").contains("/j-BBBBBBBB/"), "{}", answer.head);
    // One that is nowhere: said, and not looked for again at every click.
    let answer = get(&node, "/logs/container_1795300000000_0001_01_000001/stderr", &[]);
    assert_eq!(answer.status, 404);
    assert!(
        answer
            .body
            .contains(&format!("s3://acme-logs/elasticmapreduce/{CLUSTER}/containers/application_1795300000000_0001/"))
    );
    let before = log_requests(&node);
    assert_eq!(get(&node, "/logs/container_1795300000000_0001_01_000002/stderr", &[]).status, 404);
    assert!(log_requests(&node) - before <= 2);
    // The pages know the other clusters, too.
    let page = get(&node, "/logs/", &[]).body;
    assert!(page.contains(&format!("<a href=\"/logs/{OTHER}/\">{OTHER}</a>")), "{page}");
    let page = get(&node, &format!("/logs/{OTHER}/"), &[]).body;
    assert!(page.contains("application_1795352263709_0013"), "{page}");
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_store_accepts_what_was_signed_and_nothing_else() {
    let node = node("signed");
    node.stand_in("rotate", json!({ "every": 4, "life": 8 }));
    node.sh(&format!("systemctl restart {UNIT}"));
    wait("the gateway to be ready", || (get(&node, "/-/readyz", &[]).status == 200).then_some(()));
    let location = |path: &str| get(&node, path, &[]).header("location").to_string();
    let status = |url: &str| ask(&node, &[url]).status;

    let url = location(LOG);
    let answer = ask(&node, &["--compressed", &url]);
    assert_eq!((answer.status, answer.header("Content-Type")), (200, "text/plain; charset=utf-8"), "{}", answer.head);
    assert!(answer.body.contains(SAYS));
    assert_eq!(status(&location(&format!("{LOG}?download=1"))), 200);
    // HostNames as no shell would like them, in the short form and in the long one.
    for (name, path) in [
        ("stderr-2026-11-22-13.gz", "stderr-2026-11-22-13"),
        ("stdout.1.gz", "stdout.1.gz"),
        ("a%2Fb +c.gz", "a%252Fb%20+c"),
        ("größe~(1)'&=.gz", "gr%C3%B6%C3%9Fe~(1)'&="),
    ] {
        let directory =
            format!("{CLUSTER}/containers/application_1795352263709_0001/container_1795352263709_0001_01_000002");
        node.run(&[
            "bash",
            "-c",
            "echo \"$1\" | gzip > /srv/x.gz && /opt/lab/s3 put /srv/x.gz \"s3://acme-logs/elasticmapreduce/$2/$1\"",
            "sh",
            name,
            &directory,
        ])
        .expect(0);
        for path in [
            format!("/logs/container_1795352263709_0001_01_000002/{path}"),
            format!("/elasticmapreduce/{directory}/{path}"),
        ] {
            let answer = ask(&node, &["--compressed", &location(&path)]);
            assert_eq!((answer.status, answer.body.trim()), (200, name), "{path}");
        }
    }
    // EMR Serverless and EMR on EKS.
    for key in [
        "applications/00f1r2fo0l4l4l09/jobs/00f1r2fo0l4l4l0a/SPARK_DRIVER/stderr",
        "applications/00f1r2fo0l4l4l09/jobs/00f1r2fo0l4l4l0a/attempts/2/SPARK_EXECUTOR/17/stdout",
        "abcdefghij0123456789klmno/jobs/00000002u5ipstrq84e/containers/spark-00000002u5ipstrq84e/spark-00000002u5ipstrq84e-exec-1/stderr",
    ] {
        node.sh(&format!("/opt/lab/s3 put /srv/x.gz s3://acme-logs/elasticmapreduce/{key}.gz"));
        assert_eq!(status(&location(&format!("/logs/{key}"))), 200, "{key}");
    }

    let url = location(LOG);
    let other_log = url.replace("_01_000002/stderr.gz", "_01_000003/stderr.gz");
    let as_html = url.replace("text%2Fplain", "text%2Fhtml");
    let longer = url.replace("X-Amz-Expires=", "X-Amz-Expires=1");
    let other_key = {
        let key = url.split("X-Amz-Credential=").nth(1).unwrap().split("%2F").next().unwrap();
        url.replace(key, "AKIAIOSFODNN7EXAMPLE")
    };
    let cut = url[..url.len() - 1].to_string() + if url.ends_with('0') { "1" } else { "0" };
    for tampered in [other_log, as_html, longer, other_key, cut] {
        assert_ne!(tampered, url);
        assert!([400, 403].contains(&status(&tampered)), "{tampered}");
    }
    assert_eq!(status(&url), 200, "the untouched one still is good");
    wait("the URL to end", || ([400, 403].contains(&status(&url))).then_some(()));
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn credentials_that_rotate_under_load() {
    let node = node("rotation");
    node.stand_in("rotate", json!({ "every": 60, "life": 90 }));
    node.sh(&format!("systemctl restart {UNIT}"));
    let load = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/load.py");
    node.copy(load, "/srv/load.py");
    let paths = "/logs/container_1795352263709_000{1,2,3,5}_01_00000{1,2,3}/std{err,out}";
    let said = node.sh(&format!("python3 /srv/load.py 150 8 {paths}"));
    let keys: usize = said.split("clicks, ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(!said.contains("wrong") && keys >= 3, "{said}");

    // The metadata service goes away: served while what is at hand lasts, then a clear no.
    node.stand_in("rotate", json!({ "every": 5, "life": 20 }));
    node.sh(&format!("systemctl restart {UNIT}"));
    assert_eq!(get(&node, LOG, &[]).status, 302);
    node.stand_in("outage", json!("refuse"));
    let served = node.sh("python3 /srv/load.py 8 2 /logs/container_1795352263709_0001_01_000002/stderr");
    assert!(!served.contains("wrong"), "{served}");
    let answer = wait("the credentials to end", || {
        let answer = get(&node, LOG, &[]);
        (answer.status != 302).then_some(answer)
    });
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.body.contains("The gateway has no credentials"), "{}", answer.body);
    assert_eq!(get(&node, "/-/readyz", &[]).status, 503);
    assert_eq!(get(&node, "/-/healthz", &[]).status, 200);
    assert!(get(&node, "/-/metrics", &[]).body.contains("emr_shs_gateway_credentials_left_seconds 0\n"));
    node.stand_in("outage", json!(null));
    wait("the gateway to recover", || (get(&node, LOG, &[]).status == 302).then_some(()));

    // What has ended, served as if it had not: real metadata services do so when they cannot rotate.
    node.stand_in("rotate", json!({ "every": 1, "life": 3, "until": 1 }));
    let answer = wait("no more credentials", || {
        let answer = get(&node, LOG, &[]);
        (answer.status != 302).then_some(answer)
    });
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("they ended at"), "{}", answer.body);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn only_this_node_is_served_and_only_by_its_names() {
    let node = node("peers");
    let foreign = |options: &[&str]| {
        let url = format!("http://{PRIVATE_NAME}:9977{LOG}");
        let out = node
            .laptop(Laptop::Vpn, &[&["curl", "-si", "--max-time", "10"], options, &[url.as_str()]].concat())
            .output();
        String::from_utf8(out.unwrap().stdout).unwrap()
    };
    for options in [&[][..], &["-H", "X-Forwarded-For: 127.0.0.1"], &["-H", "Host: localhost"]] {
        let refused = foreign(options);
        assert!(refused.starts_with("HTTP/1.1 403") && !refused.contains("X-Amz-Signature"), "{refused}");
        assert!(refused.contains("10.77.0.2") && refused.contains("--tls-cert"), "{refused}");
    }
    for host in [
        "localhost",
        "localhost:1234",
        "LOCALHOST.",
        "127.0.0.1:80",
        "[::1]:9",
        "172.31.59.96",
        PRIVATE_NAME,
        "ip-172-31-59-96",
        "ec2-203-0-113-7.eu-west-3.compute.amazonaws.com:9977",
    ] {
        assert_eq!(get(&node, LOG, &["-H", &format!("Host: {host}")]).status, 302, "{host}");
    }
    for host in ["evil.example", "10.77.0.2", "localhost.evil.example", "localhost:x", "[::2]"] {
        let refused = get(&node, LOG, &["-H", &format!("Host: {host}")]);
        assert_eq!(refused.status, 421, "{host}");
        assert!(refused.body.contains("--host-name"), "{}", refused.body);
    }
    // A name of one's own; links by it; and one that serves everybody, if told so twice.
    node.emr_shs(&["proxy", "install", "--public-url", "http://logs.example.com:9977", "--insecure"]).expect(0);
    assert_eq!(get(&node, LOG, &["-H", "Host: logs.example.com:9977"]).status, 302);
    assert!(
        node.sh("cat /etc/spark/conf/spark-defaults.conf")
            .contains(" http://logs.example.com:9977/logs/{{CONTAINER_ID}}")
    );
    assert!(foreign(&[]).starts_with("HTTP/1.1 302"));
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn hostile_requests_get_nothing() {
    let node = node("hostile");
    // Objects that nobody may have: beside the logs, and in another bucket.
    node.sh("echo secret | gzip > /srv/secret.gz");
    for key in ["acme-logs/secret.gz", "acme-logs/elasticmapreduce/secret.gz", "acme-spark/secret.gz"] {
        node.sh(&format!("/opt/lab/s3 put /srv/secret.gz s3://{key}"));
    }
    for key in ["node/i-0123/daemons/instance-state/console.gz", "steps/s-0123/stdout.gz"] {
        node.sh(&format!("/opt/lab/s3 put /srv/secret.gz s3://acme-logs/elasticmapreduce/{CLUSTER}/{key}"));
    }
    node.copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/hostile.py"), "/srv/hostile.py");
    let said = node.sh("python3 /srv/hostile.py");
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split('\t').collect()).collect();
    assert!(lines.len() > 60, "{said}");
    for line in &lines {
        let (status, location, request) = (line[0], line[1], line[2]);
        // Paths that are the history server's are its to answer; a redirect leads nowhere else.
        assert!(location == "-" || location.starts_with('/'), "{request} gave {location}");
        assert!(!location.contains("X-Amz-"), "{request} gave {location}");
        assert!(
            ["000", "200", "400", "401", "403", "404", "405", "414", "421", "431", "501", "505"].contains(&status),
            "{request} gave {status}"
        );
    }
    let served: Vec<_> = lines.iter().filter(|line| line[0] == "200").collect();
    assert!(served.iter().all(|line| !line[2].contains("GET /logs/")), "{served:?}");
    // HostNames that are not what they seem.
    let name = "<b onclick='alert(1)'>\"&.gz";
    let directory =
        format!("{CLUSTER}/containers/application_1795352263709_0001/container_1795352263709_0001_01_000002");
    node.run(&["/opt/lab/s3", "put", "/srv/secret.gz", &format!("s3://acme-logs/elasticmapreduce/{directory}/{name}")])
        .expect(0);
    for page in ["/logs/container_1795352263709_0001_01_000002/", "/logs/application_1795352263709_0001/"] {
        let page = get(&node, page, &[]).body;
        assert!(page.contains("&lt;b onclick=&#39;alert(1)&#39;&gt;&quot;&amp;") && !page.contains("<b "), "{page}");
    }
    let page = get(&node, "/logs/container_1795352263709_0001_01_000002/%3Cb%20x%3E", &[]).body;
    assert!(page.contains("&lt;b x&gt; of container_") && !page.contains("<b "), "{page}");
    assert_eq!(get(&node, LOG, &[]).status, 302, "and it lives");
    let journal = node.sh(&format!("journalctl -u {UNIT} -o cat --no-pager"));
    assert!(!journal.contains("panicked") && !journal.contains("X-Amz-"), "{journal}");
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn slow_and_idle_peers_hold_nobody_up() {
    let node = node("idle");
    let script = r#"
import socket, sys, time
idle = [socket.create_connection(("127.0.0.1", 9977)) for _ in range(200)]
slow = [socket.create_connection(("127.0.0.1", 9977)) for _ in range(50)]
for s in slow:
    s.sendall(b"GET /logs/ HTTP/1.1\r\nHost: local")
begun = time.monotonic()
fast = socket.create_connection(("127.0.0.1", 9977))
fast.sendall(b"GET /-/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
assert fast.recv(4096).startswith(b"HTTP/1.1 200"), "it answers"
assert time.monotonic() - begun < 2, "at once"
for s in slow[:10] + idle[:10]:
    s.settimeout(60)
    while s.recv(4096):
        pass
    assert time.monotonic() - begun < 50, "and they are ended"
fast.settimeout(60)
assert fast.recv(4096) == b"", "an idle keep-alive connection, too"
print("fine")
"#;
    assert_eq!(node.run(&["python3", "-c", script]).expect(0).out(), "fine\n");
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn streamed_logs() {
    let node = node("stream");
    node.emr_shs(&["proxy", "install", "--mode", "stream"]).expect(0);
    let plain = get(&node, LOG, &[]);
    assert_eq!((plain.status, plain.header("content-type")), (200, "text/plain; charset=utf-8"));
    assert!(plain.body.contains(SAYS) && !plain.head.contains("content-encoding"), "{}", plain.head);
    let packed = get(&node, LOG, &["--compressed"]);
    assert!(packed.body.contains(SAYS));
    assert_eq!(packed.header("content-encoding"), "gzip");
    // As stored, whole and in part.
    let directory = format!(
        "s3://acme-logs/elasticmapreduce/{CLUSTER}/containers/application_1795352263709_0001/container_1795352263709_0001_01_000002"
    );
    let same = |options: &str, stored: &str| {
        node.sh(&format!("cmp <(curl -sf {options} 'http://localhost:9977{LOG}?download=1') <(/opt/lab/s3 cat {directory}/stderr.gz {stored})"));
    };
    same("", "");
    same("-r 100-199", "| tail -c +101 | head -c 100");
    let part = get(&node, &format!("{LOG}?download=1"), &["-r", "100-199", "-o", "/dev/null", "-D", "-"]);
    assert_eq!(part.status, 206, "{}", part.head);
    assert!(part.header("content-range").starts_with("bytes 100-199/"));
    // Larger than what the gateway may hold: 400 MB that pack well, and 200 MB that do not.
    node.sh(&format!(
        "head -c 400000000 /dev/zero | gzip -1 > /srv/zeros.gz; head -c 200000000 /dev/urandom > /srv/noise.gz; \
         /opt/lab/s3 put /srv/zeros.gz {directory}/zeros.gz; /opt/lab/s3 put /srv/noise.gz {directory}/noise.gz"
    ));
    let base = "http://localhost:9977/logs/container_1795352263709_0001_01_000002";
    let size = |path: &str| {
        node.sh(&format!("curl -sf --limit-rate 400M {base}/{path} | wc -c")).trim().parse::<u64>().unwrap()
    };
    assert_eq!(size("zeros"), 400_000_000);
    assert_eq!(size("'noise?download=1'"), 200_000_000);
    let pid = node.sh(&format!("systemctl show -p MainPID --value {UNIT}"));
    let peak = node.sh(&format!("awk '/VmHWM/ {{print $2}}' /proc/{}/status", pid.trim()));
    assert!(peak.trim().parse::<u64>().unwrap() < 120_000, "{} kB", peak.trim());

    // Told to end, it finishes what it has begun.
    let script = format!(
        "curl -s --limit-rate 100M {base}/zeros | wc -c > /srv/got & sleep 1; systemctl stop {UNIT}; wait; cat /srv/got"
    );
    assert_eq!(node.sh(&script).trim(), "400000000");
    assert_eq!(node.sh(&format!("systemctl is-failed {UNIT} || true")).trim(), "inactive");
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn what_s3_refuses_is_explained() {
    let node = node("refused");
    let role_may = |actions: &str| {
        node.sh(&format!(
            r#"/opt/lab/s3 user limited limitedsecret user >/dev/null 2>&1; echo limited >/etc/lab/session-user
            echo '{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":"*","Action":[{actions}],"Resource":["arn:aws:s3:::acme-logs","arn:aws:s3:::acme-logs/*"]}}]}}' >/tmp/policy.json
            /opt/lab/s3 policy s3://acme-logs /tmp/policy.json; systemctl restart {UNIT}"#
        ));
        wait("the gateway", || get_ok(&node).then_some(()));
    };
    role_may(r#""s3:ListBucket""#);
    let answer = get(&node, LOG, &[]);
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert!(
        answer.body.contains("S3 refuses stderr of") && answer.body.contains("needs s3:GetObject here"),
        "{}",
        answer.body
    );
    assert!(!answer.body.contains("answers so when an object is not there"), "{}", answer.body);
    // Missing, and S3 says so, because the role may list.
    assert_eq!(get(&node, &format!("{LOG}.9"), &[]).status, 404);
    // Without the right to list, what is missing looks like what is refused.
    role_may(r#""s3:GetObject""#);
    assert_eq!(get(&node, LOG, &[]).status, 302, "reading is enough for a log of this cluster");
    let answer = get(&node, &format!("{LOG}.9"), &[]);
    assert!([403, 404].contains(&answer.status), "{}", answer.body);
    let answer = get(&node, "/logs/application_1795352263709_0001/", &[]);
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert!(answer.body.contains("s3:ListBucket"), "{}", answer.body);

    // S3 that is slow: a log whose place is known opens all the same. S3 that is gone: said.
    node.sh("/opt/lab/s3 policy s3://acme-logs; rm /etc/lab/session-user");
    node.sh(&format!("systemctl restart {UNIT}"));
    assert_eq!(get(&node, LOG, &[]).status, 302);
    let pid = node.sh("systemctl show -p MainPID --value lab-s3");
    node.sh(&format!("kill -STOP {}", pid.trim()));
    let begun = std::time::Instant::now();
    let answer = get(&node, "/logs/container_1795352263709_0001_01_000002/stdout", &[]);
    assert_eq!(answer.status, 302, "{}", answer.body);
    assert!(begun.elapsed().as_secs() < 3, "at once");
    let answer = get(&node, "/logs/container_1795000000000_0001_01_000002/stdout", &[]);
    assert_eq!(answer.status, 502, "{}", answer.body);
    assert!(answer.body.contains("S3 cannot be asked"), "{}", answer.body);
    node.sh(&format!("kill -CONT {}", pid.trim()));
    // A history server that is down takes nothing with it.
    node.sh("systemctl stop spark-history-server || true");
    let answer = get(&node, "/", &[]);
    assert_eq!(answer.status, 502);
    assert!(answer.body.contains("The history server does not answer"), "{}", answer.body);
    assert_eq!(get(&node, LOG, &[]).status, 302);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn stores_that_the_lab_has_not() {
    // Storage classes and buckets in other regions, which the lab's own store does not know.
    const STUB: &str = r#"
import http.server
ARCHIVED = "<Error><Code>InvalidObjectState</Code><Message>no</Message><StorageClass>%s</StorageClass>%s</Error>"
class Store(http.server.BaseHTTPRequestHandler):
    def say(self, status, body=b""):
        self.send_response(status)
        self.send_header("x-amz-bucket-region", "eu-central-1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
    def do_HEAD(self):
        self.say(301)
    def do_GET(self):
        if "stderr" in self.path:
            self.say(403, (ARCHIVED % ("DEEP_ARCHIVE", "")).encode())
        elif "tiered" in self.path:
            self.say(403, (ARCHIVED % ("INTELLIGENT_TIERING", "<AccessTier>ARCHIVE_ACCESS</AccessTier>")).encode())
        elif "secret" in self.path:
            self.say(400, b"<Error><Code>KMS.DisabledException</Code><Message>the key is disabled</Message></Error>")
        elif "empty" in self.path:
            self.say(416, b"<Error><Code>InvalidRange</Code></Error>")
        elif "list-type" in self.path:
            self.say(200, b"<ListBucketResult></ListBucketResult>")
        else:
            self.say(206, b"x")
http.server.ThreadingHTTPServer(("127.0.0.1", 7071), Store).serve_forever()
"#;
    let node = node("stub");
    let _store = Ended(node.spawn(&["python3", "-c", STUB]));
    let serve = "emr-shs proxy serve --log-uri s3://acme-logs/elasticmapreduce/ --cluster-id j-3H6EATEWWRWS --listen 127.0.0.1:9978 \
                 --endpoint-url http://127.0.0.1:7071";
    let _gateway = Ended(node.spawn(&["bash", "-c", &format!("exec {serve}")]));
    let ask = |file: &str| {
        ask(&node, &[&format!("http://localhost:9978/logs/container_1795352263709_0001_01_000002/{file}")])
    };
    wait("the gateway", || (node.run(&["curl", "-sf", "http://localhost:9978/-/readyz"]).code() == 0).then_some(()));
    for (file, class) in [("stderr", "DEEP_ARCHIVE"), ("tiered", "INTELLIGENT_TIERING, ARCHIVE_ACCESS")] {
        let answer = ask(file);
        assert_eq!(answer.status, 409, "{}", answer.body);
        assert!(
            answer.body.contains("is archived") && answer.body.contains(&format!("Its storage class is {class},")),
            "{}",
            answer.body
        );
        assert!(answer.body.contains("aws s3api restore-object --bucket acme-logs --key"), "{}", answer.body);
    }
    let answer = ask("secret");
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert!(
        answer.body.contains("needs kms:Decrypt here") && answer.body.contains("the key is disabled"),
        "{}",
        answer.body
    );
    assert_eq!(ask("empty").status, 302, "an empty log is one, too");
    let answer = ask("stdout");
    assert!(answer.header("location").contains("%2Feu-central-1%2Fs3%2Faws4_request"), "{}", answer.head);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn tls_and_a_login() {
    let node = node("tls");
    let make = |name: &str| {
        node.sh(&format!(
            "mkdir -p /srv/tls; cd /srv/tls; openssl req -x509 -newkey rsa:2048 -nodes -subj /CN={name} -days 2 -keyout k -out c 2>/dev/null; \
             chmod 644 k; cat k > key.pem; cat c > chain.pem"
        ));
    };
    let served =
        || node.sh("openssl s_client -connect localhost:9977 </dev/null 2>/dev/null | openssl x509 -noout -subject");
    node.emr_shs(&["proxy", "install", "--tls-self-signed"]).expect(0);
    assert!(served().contains("rcgen"), "{}", served());
    // TLS alone lets nobody else in, and tells them so.
    let url = format!("https://{PRIVATE_NAME}:9977{LOG}");
    let refused = node.laptop(Laptop::Vpn, &["curl", "-ski", "--max-time", "10", &url]).output().unwrap();
    let refused = String::from_utf8(refused.stdout).unwrap();
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("--htpasswd"), "{refused}");
    make("one");
    node.copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/htpasswd"), "/srv/users");
    let files = ["--tls-cert", "/srv/tls/chain.pem", "--tls-key", "/srv/tls/key.pem", "--htpasswd", "/srv/users"];
    node.emr_shs(&[&["proxy", "install"], &files[..]].concat()).expect(0);
    assert!(served().contains("CN = one"), "{}", served());
    let status = node.emr_shs(&["status"]).expect(0).out();
    assert!(
        status.contains("answers, wants a login on port 9977") && status.contains("https://localhost:9977"),
        "{status}"
    );

    let url = format!("https://localhost:9977{LOG}");
    let login = |user: &str| ask(&node, &["-k", "-u", user, &url]);
    let nobody = ask(&node, &["-k", &url]);
    assert_eq!((nobody.status, nobody.header("www-authenticate")), (401, "Basic realm=\"emr-shs\", charset=\"UTF-8\""));
    assert!(nobody.body.contains("A login is needed"), "{}", nobody.body);
    for wrong in ["admin:wrong", "nobody:correct horse", "admin:", ":"] {
        assert_eq!(login(wrong).status, 401, "{wrong}");
    }
    assert_eq!(login("admin:correct horse").status, 302);
    assert_eq!(ask(&node, &["-k", "https://localhost:9977/-/healthz"]).status, 200);
    assert_eq!(ask(&node, &["-k", "https://localhost:9977/-/metrics"]).status, 401);
    assert_eq!(ask(&node, &["-k", "https://localhost:9977/"]).status, 401, "the history server, too");

    // A renewed certificate; then one that does not fit its key, which changes nothing.
    make("two");
    wait("the new certificate", || served().contains("CN = two").then_some(()));
    node.sh("echo broken > /srv/tls/chain.pem");
    wait("a warning", || {
        node.sh(&format!("journalctl -u {UNIT} -o cat")).contains("the new certificate is not used").then_some(())
    });
    assert!(served().contains("CN = two"));
    let ran = node.emr_shs(&["proxy", "install"]).expect(3);
    assert!(ran.err().contains("/srv/tls/chain.pem"), "{}", ran.err());
}

/// A process that ends with the test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn it_comes_and_goes_without_a_trace() {
    let node = Node::fresh(Profile::Emr71, "comings");
    let before = node.tree();
    // Before the first change.
    let mut taken = node.spawn(&["python3", "-m", "http.server", "9977"]);
    wait("the port to be taken", || (node.run(&["curl", "-s", "localhost:9977"]).code() == 0).then_some(()));
    let ran = node.emr_shs(&["install", "--event-logs", LOGS]).expect(3);
    assert!(
        ran.err().contains("port 9977 of the log gateway is taken")
            && ran.err().contains("python3 -m http.server 9977"),
        "{}",
        ran.err()
    );
    assert_same_tree(&before, &node.tree());
    // Another port is free; and --no-proxy needs none.
    assert!(
        node.emr_shs(&["plan", "--event-logs", LOGS, "--listen", "[::]:9978"]).expect(0).out().contains(":9978/logs/")
    );
    assert!(!node.emr_shs(&["plan", "--event-logs", LOGS, "--no-proxy"]).expect(0).out().contains("gateway"));
    taken.kill().unwrap();
    taken.wait().unwrap();
    node.sh("pkill -f '[h]ttp.server 9977' || true");
    let defaults = "/etc/spark/conf.dist/spark-defaults.conf";
    let key = "spark.history.custom.executor.log.url";
    node.sh(&format!(
        "cp -p {defaults} /srv/defaults; echo '{key} https://elsewhere.example/{{{{CONTAINER_ID}}}}' >> {defaults}"
    ));
    let ran = node.emr_shs(&["install", "--event-logs", LOGS]).expect(3);
    assert!(
        ran.err().contains("log links lead elsewhere") && ran.err().contains("https://elsewhere.example/"),
        "{}",
        ran.err()
    );
    node.sh(&format!("cp -p /srv/defaults {defaults}"));
    node.sh("cp -p /etc/lab/standin.json /srv/");
    node.stand_in("cluster", json!({ "Id": CLUSTER, "Status": { "State": "WAITING" } }));
    let ran = node.emr_shs(&["proxy", "install"]).expect(3);
    assert!(ran.err().contains("no log gateway: this cluster has no log URI"), "{}", ran.err());
    let ran = node.emr_shs(&["plan", "--event-logs", LOGS]).expect(0);
    assert!(ran.out().contains("No log gateway: this cluster has no log URI"), "{}", ran.out());
    assert!(!ran.out().contains(UNIT), "{}", ran.out());
    node.sh("cp -p /srv/standin.json /etc/lab/");

    // Files that it could not use are found before the first change.
    let users = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/htpasswd");
    for (path, mode, says) in [
        ("/nowhere", "644", "No such file"),
        ("/srv/private", "600", "found mode 600"),
        ("/root/users", "644", "sees nothing below /root"),
    ] {
        if path != "/nowhere" {
            node.copy(users.to_str().unwrap(), path);
            node.sh(&format!("chmod {mode} {path}"));
        }
        let ran = node.emr_shs(&["proxy", "install", "--htpasswd", path]).expect(3);
        assert!(ran.err().contains(&format!("cannot read {path}")) && ran.err().contains(says), "{}", ran.err());
    }
    // A gateway that cannot start is put back, and says why.
    node.sh("mkdir -m 700 /srv/closed");
    node.copy(users.to_str().unwrap(), "/srv/closed/users");
    let closed = ["proxy", "install", "--htpasswd", "/srv/closed/users"];
    let ran = node.emr_shs(&closed).expect(1);
    assert!(ran.err().contains("does not start") && ran.err().contains("ermission denied"), "{}", ran.err());
    assert_same_tree(&before, &node.tree());
    assert_eq!(node.sh("getent passwd emr-shs || true"), "");

    // It comes, and stays.
    node.emr_shs(&["proxy", "install"]).expect(0);
    let ran = node.emr_shs(&["proxy", "install"]).expect(0);
    assert!(ran.err().contains("nothing to do"), "{}", ran.err());
    let status = node.emr_shs(&["status"]).expect(0).out();
    assert!(status.contains("log gateway") && status.contains("ready on port 9977"), "{status}");
    assert!(
        status.contains("ssh -L 9977:localhost:9977 hadoop@ec2-203-0-113-7.eu-west-3.compute.amazonaws.com"),
        "{status}"
    );
    let pid = || node.sh(&format!("systemctl show -p MainPID --value {UNIT}")).trim().to_string();
    let process = pid();
    assert_eq!(node.sh(&format!("systemd-analyze verify /etc/systemd/system/{UNIT}.service 2>&1")), "");
    let facts = node.sh(&format!("cat /proc/{process}/status"));
    assert!(facts.contains("NoNewPrivs:\t1") && facts.contains("CapBnd:\t0000000000000000"), "{facts}");
    let user = node.sh(&format!("stat -c %U /proc/{process}"));
    assert_eq!(user.trim(), "emr-shs");
    // Killed, it comes again; stopped, status says so and install starts it.
    node.sh(&format!("kill -9 {process}"));
    wait("systemd to start it again", || (pid() != process && get_ok(&node)).then_some(()));
    node.sh(&format!("systemctl stop {UNIT}"));
    let status = node.emr_shs(&["status"]).expect(0).out();
    assert!(status.contains("nothing answers on port 9977"), "{status}");
    node.emr_shs(&["proxy", "install"]).expect(0);
    assert!(get_ok(&node));
    // After a boot it is there again.
    assert_eq!(node.sh(&format!("systemctl is-enabled {UNIT}")).trim(), "enabled");

    // A newer program takes the older one's place; one whose settings do not start leaves the older.
    let older = node.sh("readlink /usr/libexec/emr-shs/emr-shs");
    node.sh("cp /usr/local/bin/emr-shs /srv/newer && printf x >> /srv/newer");
    let ran = node.run(&[&["/srv/newer"], &closed[..]].concat()).expect(1);
    assert!(ran.err().contains("put back"), "{}", ran.err());
    assert_eq!(node.sh("readlink /usr/libexec/emr-shs/emr-shs"), older);
    assert!(get_ok(&node), "the older one runs again");
    node.run(&["/srv/newer", "proxy", "install"]).expect(0);
    assert_ne!(node.sh("readlink /usr/libexec/emr-shs/emr-shs"), older);
    assert_eq!(node.sh("ls /usr/libexec/emr-shs | wc -l").trim(), "2", "the program and the link to it");
    node.sh("cmp /usr/libexec/emr-shs/emr-shs /srv/newer");

    // And goes: with the older program, with what was changed in between.
    node.emr_shs(&["uninstall"]).expect(0);
    assert_same_tree(&before, &node.tree());
    assert_eq!(node.sh("getent passwd emr-shs || true"), "");
    assert_eq!(node.sh(&format!("systemctl is-active {UNIT} || true")).trim(), "inactive");

    // A whole install without it, then with it, then without it again.
    node.emr_shs(&["install", "--event-logs", LOGS, "--no-proxy"]).expect(0);
    assert!(!Path::new(&node.path("etc/emr-shs")).exists());
    node.emr_shs(&["install", "--no-proxy=false"]).expect(0);
    assert!(get_ok(&node));
    node.emr_shs(&["install", "--no-proxy"]).expect(0);
    assert!(!Path::new(&node.path("etc/emr-shs")).exists() && !get_ok(&node));
    node.emr_shs(&["uninstall"]).expect(0);
    assert_same_tree(&before, &node.tree());
}

fn get_ok(node: &Node) -> bool {
    node.run(&["curl", "-sf", "-o", "/dev/null", "http://localhost:9977/-/healthz"]).code() == 0
}
