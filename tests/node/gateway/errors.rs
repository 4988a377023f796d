//! What a user reads when S3 or the metadata service refuses.

use super::*;

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn logs_open_while_credentials_rotate() {
    let node = node();
    let ready = || (get(&node, "/-/readyz", &[]).status == 200).then_some(());
    node.stand_in("rotate", json!({ "every": 20, "life": 30 }));
    node.sh(&format!("systemctl restart {UNIT}"));
    wait("the gateway to be ready", ready);
    let load = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/load.py");
    node.copy(load, "/srv/load.py");
    let paths = "/logs/container_1795352263709_000{1,2,3,5}_01_00000{1,2,3}/std{err,out}";
    let said = node.sh(&format!("python3 /srv/load.py 55 8 {paths}"));
    let keys: usize = said.split("clicks, ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(!said.contains("wrong") && keys >= 3, "{said}");

    // While the metadata service is down, logs open until the credentials expire. Then the gateway says why they do not.
    node.stand_in("rotate", json!({ "every": 5, "life": 40 }));
    node.sh(&format!("systemctl restart {UNIT}"));
    wait("the gateway to be ready", ready);
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

    // A metadata service that cannot rotate serves expired credentials.
    node.stand_in("rotate", json!({ "every": 1, "life": 3, "until": 1 }));
    let answer = wait("no more credentials", || {
        let answer = get(&node, LOG, &[]);
        (answer.status != 302).then_some(answer)
    });
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("the credentials expired at"), "{}", answer.body);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_page_explains_what_s3_refuses() {
    let node = node();
    let role_may = |actions: &str| {
        node.sh(&format!(
            r#"/opt/lab/s3 user limited limitedsecret user >/dev/null 2>&1; echo limited >/etc/lab/session-user
            echo '{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":"*","Action":[{actions}],"Resource":["arn:aws:s3:::acme-logs","arn:aws:s3:::acme-logs/*"]}}]}}' >/tmp/policy.json
            /opt/lab/s3 policy s3://acme-logs /tmp/policy.json; systemctl restart {UNIT}"#
        ));
        wait("the gateway", || get_ok(&node).then_some(()));
    };
    role_may(r#""s3:ListBucket""#);
    let answer = confirmed(&node, LOG);
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert!(
        answer.body.contains("S3 denies access to stderr of") && answer.body.contains("needs s3:GetObject here"),
        "{}",
        answer.body
    );
    assert!(!answer.body.contains("denies access to a missing object"), "{}", answer.body);
    // With s3:ListBucket, S3 says that an object is missing.
    assert_eq!(confirmed(&node, &format!("{LOG}.9")).status, 404);
    // Without s3:ListBucket, S3 answers 403 for a missing object.
    role_may(r#""s3:GetObject""#);
    assert_eq!(get(&node, LOG, &[]).status, 302, "reading is enough for a log of this cluster");
    let answer = confirmed(&node, &format!("{LOG}.9"));
    assert!([403, 404].contains(&answer.status), "{}", answer.body);
    let answer = get(&node, "/logs/application_1795352263709_0001/", &[]);
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert!(answer.body.contains("s3:ListBucket"), "{}", answer.body);

    // While S3 hangs, a log whose location is known still opens, and for another one the gateway reports S3.
    node.sh("/opt/lab/s3 policy s3://acme-logs; rm /etc/lab/session-user; echo a log | gzip > /srv/log.gz");
    node.sh("/opt/lab/s3 put /srv/log.gz s3://acme-logs/elasticmapreduce/j-2AXXXXXXGAPLF/containers/application_1795300000000_0001/container_1795300000000_0001_01_000001/stderr.gz");
    node.sh(&format!("systemctl restart {UNIT}"));
    let ready = || (get(&node, "/-/readyz", &[]).body == "ready\n").then_some(());
    wait("the gateway to be ready", ready);
    let pid = node.sh("systemctl show -p MainPID --value lab-s3");
    // S3 stops while the gateway runs, and comes back.
    node.sh(&format!("kill -STOP {}", pid.trim()));
    wait("the gateway to find out", || {
        let troubles = get(&node, "/-/log-uris", &[]).body;
        let ready = get(&node, "/-/readyz", &[]);
        let told = troubles.contains("acme-logs/") && ready.body.contains("acme-logs/");
        (told && ready.status == 503).then_some(())
    });
    node.sh(&format!("kill -CONT {}", pid.trim()));
    wait("the gateway to be ready again", ready);
    assert_eq!(get(&node, "/-/log-uris", &[]).body, "[]");
    assert_eq!(get(&node, LOG, &[]).status, 302);
    assert_eq!(get(&node, "/logs/", &[]).status, 200);
    node.sh(&format!("kill -STOP {}", pid.trim()));
    let url = "http://localhost:9977/logs/container_1795352263709_0001_01_000002/stdout";
    let told = node.sh(&format!("curl -s --max-time 20 -o /dev/null -w '%{{http_code}} %{{time_total}}' {url}"));
    let (status, seconds) = told.split_once(' ').unwrap();
    assert!(status == "302" && seconds.parse::<f64>().unwrap() < 3.0, "at once: {told}");
    // The clusters are known, and nothing of this one: nobody can say that it has no logs.
    let answer = get(&node, "/logs/j-2AXXXXXXGAPLF/", &[]);
    assert_eq!(answer.status, 502, "{}", answer.body);
    assert!(answer.body.contains("from S3</h1>"), "{}", answer.body);
    // The list of clusters lacks this one, so there is nothing to ask S3 for.
    assert_eq!(get(&node, "/logs/j-3AXXXXXXGAPLF/", &[]).status, 200);
    let answer = get(&node, "/logs/container_1795000000000_0001_01_000002/stdout", &[]);
    assert_eq!(answer.status, 502, "{}", answer.body);
    assert!(answer.body.contains("from S3</h1>"), "{}", answer.body);
    node.sh(&format!("kill -CONT {}", pid.trim()));
    // Logs open while the history server is down.
    node.sh("systemctl stop spark-history-server || true");
    let answer = get(&node, "/", &[]);
    assert_eq!(answer.status, 502);
    assert!(answer.body.contains("<h1>The history server does not answer</h1>"), "{}", answer.body);
    // A program shows its user the text of an answer.
    let answer = get(&node, "/api/v1/version", &[]);
    assert_eq!(answer.status, 502);
    assert!(answer.head.to_lowercase().contains("content-type: text/plain"), "{}", answer.head);
    assert!(answer.body.starts_with("The history server does not answer\nExecutor logs"), "{}", answer.body);
    assert_eq!(get(&node, LOG, &[]).status, 302);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn archived_encrypted_and_foreign_objects_are_explained() {
    // A stand-in for S3 with storage classes and another region, which the lab's S3 server does not have.
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
    let node = node();
    let _store = Ended(node.spawn(&["python3", "-c", STUB]));
    let serve = "emr-shs proxy serve --log-uri s3://acme-logs/elasticmapreduce/ --cluster-id j-3H6EATEWWRWS --listen 127.0.0.1:9978 \
                 --endpoint-url http://127.0.0.1:7071 --allow-file \\*";
    let _gateway = Ended(node.spawn(&["bash", "-c", &format!("exec {serve}")]));
    let ask = |file: &str| {
        ask(&node, &[&format!("http://localhost:9978/logs/container_1795352263709_0001_01_000002/{file}")])
    };
    wait("the gateway", || (node.run(&["curl", "-sf", "http://localhost:9978/-/readyz"]).code() == 0).then_some(()));
    for (file, class) in [("stderr", "DEEP_ARCHIVE"), ("tiered", "INTELLIGENT_TIERING, ARCHIVE_ACCESS")] {
        let answer = ask(file);
        assert_eq!(answer.status, 409, "{}", answer.body);
        assert!(
            answer.body.contains("in an archive class")
                && answer.body.contains(&format!("Its storage class is {class},")),
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

/// A process that is killed when dropped.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
