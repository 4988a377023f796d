//! What the gateway costs: how many requests it sends to S3, whatever visitors ask for. The requests are counted at the
//! S3 server.

use super::*;
use std::time::{Duration, Instant};

/// The number of requests that S3 has had for the bucket of the logs.
fn log_requests(node: &Node) -> usize {
    node.sh("grep -c acme-logs /var/log/lab-s3.log || true").trim().parse().unwrap()
}

fn container(timestamp: u64, number: usize) -> String {
    format!("/logs/container_{timestamp}_0001_01_{number:06}/stderr")
}

/// Asks for paths one after the other, and returns how often each status came.
fn statuses(node: &Node, paths: &[String]) -> String {
    let urls: String =
        paths.iter().map(|path| format!("url = \"http://localhost:9977{path}\"\noutput = /dev/null\n")).collect();
    std::fs::write(node.path("/srv/urls"), urls).unwrap();
    node.sh("curl -s --max-time 20 -w '%{http_code}\\n' -K /srv/urls | sort | uniq -c | awk '{print $2 \" \" $1}'")
}

/// Asks until the gateway has searched all clusters.
fn not_found(node: &Node, path: &str) {
    wait("the search to end", || (get(node, path, &[]).status == 404).then_some(()));
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn unknown_logs_and_lists_cost_few_requests_whoever_asks_for_them() {
    let node = node();
    let logs = "/srv/s3/acme-logs/elasticmapreduce";
    // What the gateway has learned of the bucket before: for some seconds it answers from a list of clusters.
    node.sh(&format!("systemctl stop {UNIT}; rm -f /var/lib/emr-shs-gateway/clusters.json"));
    // Clusters without containers, as transient clusters leave them that only ran a step on the primary node.
    node.sh(&format!(
        "cd {logs} && for i in $(seq 1000 3999); do mkdir -p j-EMPTY$i/node && echo x >j-EMPTY$i/node/log.gz; done"
    ));
    // An application with 10,000 logs.
    let large = format!("{CLUSTER}/containers/application_1795352263709_7777");
    node.sh(&format!(
        "cd {logs} && for i in $(seq 100001 105000); do d={large}/container_1795352263709_7777_01_$i; mkdir -p $d; echo x >$d/stderr.gz; echo x >$d/stdout.gz; done"
    ));
    node.sh(&format!("systemctl start {UNIT}"));
    wait("the gateway to be ready", || (get(&node, "/-/readyz", &[]).status == 200).then_some(()));

    // Each cluster is asked once.
    let begun = log_requests(&node);
    not_found(&node, &container(1_795_000_000_000, 1));
    let first = log_requests(&node) - begun;
    assert!((3000..3020).contains(&first), "{first} requests for the first unknown timestamp");
    let asked = |what: &dyn Fn()| {
        let before = log_requests(&node);
        what();
        log_requests(&node) - before
    };
    let second = asked(&|| not_found(&node, &container(1_795_000_000_001, 1)));
    assert!(second <= 50, "{second} requests for the second one");
    // The gateway trusts for five seconds that a log is nowhere.
    let again = (10..30).find_map(|last| {
        let begun = Instant::now();
        not_found(&node, &container(1_795_000_000_000 + last, 1));
        let again = asked(&|| assert_eq!(get(&node, &container(1_795_000_000_000 + last, 2), &[]).status, 404));
        (begun.elapsed() < Duration::from_secs(4)).then_some(again)
    });
    assert!(again.unwrap() <= 1, "{again:?} requests for the same one again");
    // Also after a restart.
    assert_eq!(node.sh("stat -c '%a %U' /var/lib/emr-shs-gateway"), "700 emr-shs\n");
    node.sh(&format!("systemctl restart {UNIT}"));
    wait("the gateway to be ready", || (get(&node, "/-/readyz", &[]).status == 200).then_some(()));
    assert_eq!(node.sh("stat -c '%a %U' /var/lib/emr-shs-gateway/clusters.json"), "600 emr-shs\n");
    let third = asked(&|| not_found(&node, &container(1_795_000_000_002, 1)));
    assert!(third <= 50, "{third} requests after a restart");
    // Many unknown timestamps, and times at which no cluster can have started.
    let unknown: Vec<String> = (0..50).map(|n| container(1_790_000_000_000 + n * 3_600_000, 1)).collect();
    let many = asked(&|| assert_eq!(statuses(&node, &unknown), "404 50\n"));
    assert!(many <= 100, "{many} requests for 50 unknown timestamps");
    let impossible: Vec<String> = [1, 946_684_800_000, 9_467_000_000_000_000, 1_899_999_999_999]
        .iter()
        .flat_map(|t| {
            let application = format!("application_{t}_0001");
            [
                container(*t, 1),
                format!("/logs/{application}/"),
                format!("/logs/container_{t}_0001_01_000001/"),
                format!("/logs/{CLUSTER}/containers/{application}/"),
                format!("/logs/{CLUSTER}/containers/{application}/container_{t}_0001_01_000001/stderr.gz"),
            ]
        })
        .collect();
    let none = asked(&|| assert_eq!(statuses(&node, &impossible), "404 20\n"));
    assert_eq!(none, 0, "requests for impossible times");

    // Lists are fetched once for all who ask at the same time, and kept for some seconds.
    let front = vec!["/logs/".to_string(); 200];
    let one_by_one = asked(&|| assert_eq!(statuses(&node, &front), "200 200\n"));
    assert!(one_by_one <= 20, "{one_by_one} requests for 200 lists, one after the other");
    let at_once = |path: &str, count: usize| {
        let shell = format!(
            "seq {count} | xargs -P {count} -I@ curl -s -o /dev/null -w '%{{http_code}}\\n' http://localhost:9977{path} | sort | uniq -c"
        );
        asked(&|| assert_eq!(node.sh(&shell).split_whitespace().collect::<Vec<_>>(), [&count.to_string()[..], "200"]))
    };
    let together = at_once("/logs/", 200);
    assert!(together <= 20, "{together} requests for 200 lists at once");
    let pages = at_once("/logs/application_1795352263709_7777/", 20);
    assert!(pages <= 10, "{pages} requests for a list of ten pages");
    // A client that hangs up does not make the gateway begin again.
    node.sh(&format!("mv {logs}/{large} {logs}/{CLUSTER}/containers/application_1795352263709_7778"));
    let hasty = "for i in $(seq 30); do curl -s --max-time 0.02 -o /dev/null http://localhost:9977/logs/application_1795352263709_7778/; done; true";
    let hung_up = asked(&|| {
        node.sh(hasty);
        assert_eq!(get(&node, "/logs/application_1795352263709_7778/", &[]).status, 200);
    });
    assert!(hung_up <= 11, "{hung_up} requests for those who hang up");

    // Other sites' pages get nothing, and cost nothing. A click on a link of another site opens.
    let from = |site: &str, mode: &str, destination: &str, path: &str| {
        let header = |name: &str, value: &str| format!("Sec-Fetch-{name}: {value}");
        let headers = [header("Site", site), header("Mode", mode), header("Dest", destination)];
        get(&node, path, &["-H", &headers[0], "-H", &headers[1], "-H", &headers[2]])
    };
    let embedded = asked(&|| {
        for number in 0..20 {
            let path = container(1_791_000_000_000 + number, 1);
            assert_eq!(from("cross-site", "no-cors", "image", &path).status, 403);
        }
        assert_eq!(from("cross-site", "no-cors", "script", LOG).status, 403);
        assert_eq!(from("same-site", "no-cors", "script", "/logs/").status, 403);
        assert_eq!(from("cross-site", "navigate", "iframe", LOG).status, 403);
    });
    assert_eq!(embedded, 0, "requests of another site's page");
    assert_eq!(from("cross-site", "navigate", "document", LOG).status, 302);
    assert_eq!(from("same-site", "navigate", "document", LOG).status, 302);
    assert_eq!(from("same-origin", "no-cors", "image", LOG).status, 302);
    for path in [LOG, "/logs/", "/logs/nothing", "/", "/static/webui.css", "/-/healthz", "/-/metrics", "/nowhere"] {
        let head = get(&node, path, &[]).head.to_lowercase();
        for header in ["cross-origin-resource-policy: same-origin", "x-content-type-options: nosniff"] {
            assert_eq!(head.matches(header).count(), 1, "{path}: {header}\n{head}");
        }
    }

    // A damaged file costs nothing but its content.
    node.sh(&format!(
        "systemctl stop {UNIT}; echo '{{\"version\": 1, \"clus' >/var/lib/emr-shs-gateway/clusters.json; systemctl start {UNIT}"
    ));
    wait("the gateway to be ready", || (get(&node, "/-/readyz", &[]).status == 200).then_some(()));
    assert_eq!(get(&node, LOG, &[]).status, 302);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_budget_for_requests_ends_and_known_logs_still_open() {
    let node = node();
    node.emr_shs(&["proxy", "install", "--insecure"]).expect(0);
    wait("the gateway to be ready", || (get(&node, "/-/readyz", &[]).status == 200).then_some(()));
    assert_eq!(get(&node, LOG, &[]).status, 302);
    // Each is one list of an empty directory.
    let script = format!(
        r#"
import http.client, sys, threading
listed, refused = [], []
host, first_container = sys.argv[1], int(sys.argv[2])
def ask(first):
    gateway = http.client.HTTPConnection(host, 9977)
    for n in range(first, 40000, 8):
        if refused:
            return
        gateway.request("GET", f"/logs/{CLUSTER}/containers/application_1795352263709_0001/container_1795352263709_0001_01_{{n + first_container}}/")
        answer = gateway.getresponse()
        body = answer.read()
        if answer.status == 404:
            listed.append(n)
        else:
            refused.append((answer.status, answer.getheader("retry-after"), b"too many requests to S3" in body))
threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(listed), *refused[0])
"#
    );
    let flooded = |told: &str| -> (u32, String) {
        let (lists, answer) = told.split_once(' ').unwrap_or_else(|| panic!("{told}"));
        (lists.parse().unwrap(), answer.to_string())
    };
    // Another machine can spend half of the budget. What it asks for then is refused, and what others ask for is not.
    let other = node.laptop(Laptop::Vpn, &["python3", "-c", &script, PRIVATE_NAME, "1000000"]).output().unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&other.stdout), String::from_utf8_lossy(&other.stderr));
    let (lists, answer) = flooded(&told);
    assert!((4_900..8_000).contains(&lists) && answer == "503 1 True\n", "{told}");
    assert_eq!(get(&node, &format!("/logs/{CLUSTER}/"), &[]).status, 200, "a list for somebody else");
    let (rest, answer) = flooded(&node.run(&["python3", "-c", &script, "localhost", "2000000"]).expect(0).out());
    assert!(lists + rest > 9_900 && answer == "503 1 True\n", "{lists} lists, {rest} lists, {answer}");
    assert_eq!(get(&node, LOG, &[]).status, 302, "a log that was found before");
    assert_eq!(get(&node, "/-/readyz", &[]).body, "ready\n");
    let metrics = get(&node, "/-/metrics", &[]).body;
    let metric = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}")).trim().parse::<u64>().unwrap()
    };
    assert!(metric("emr_shs_gateway_s3_requests_total{operation=\"ListObjectsV2\"}") >= 9_900, "{metrics}");
    assert!(metric("emr_shs_gateway_s3_requests_refused_total ") >= 1, "{metrics}");
    // Seconds later there is something to spend again.
    wait("the next list", || (get(&node, &format!("/logs/{CLUSTER}/"), &[]).status == 200).then_some(()));

    // Whoever asks again and again how the log URIs are gets what is known. Root gets what is now, until the gateway's own checks
    // have spent their budget; what S3 said before is true then, too.
    let script = r#"
import http.client, re, time
gateway = http.client.HTTPConnection("localhost", 9977)
def ask(path, headers={}):
    gateway.request("GET", path, headers=headers)
    answer = gateway.getresponse()
    return answer.status, answer.read().decode()
def counts():
    metrics = ask("/-/metrics")[1]
    names = (r's3_requests_total\{operation="ListObjectsV2"\}', "s3_requests_refused_total")
    return [int(re.search(f"^emr_shs_gateway_{name} ([0-9]+)", metrics, re.M).group(1)) for name in names]
begun, (lists, refused) = time.monotonic(), counts()
for _ in range(120):
    assert ask("/-/log-uris") == (200, "[]")
    time.sleep(0.05)
lists_of_anyone, seconds = counts()[0] - lists, time.monotonic() - begun
token = {"Authorization": "Bearer " + open("/run/emr-shs-gateway/token").read().strip()}
ends = time.monotonic() + 120
while counts()[1] == refused and time.monotonic() < ends:
    assert ask("/-/log-uris", token) == (200, "[]")
    time.sleep(0.05)
for _ in range(20):
    assert ask("/-/log-uris", token) == (200, "[]")
    time.sleep(0.05)
print(lists_of_anyone <= 2 * (seconds / 3 + 2), counts()[0] - lists > lists_of_anyone, counts()[1] > refused, ask("/-/readyz"))
"#;
    let told = node.run(&["python3", "-c", script]).expect(0);
    assert_eq!(told.out(), "True True True (200, 'ready\\n')\n", "{}", told.err());
}
