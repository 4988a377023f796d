//! A click on *stderr* in Chromium, through a tunnel, through ssh's SOCKS proxy, and in a VPN.
//!
//! Screenshots lie in `tmp/screenshots` of the target directory.

use crate::helpers::chromium::{Browser, Setup, key};
use crate::helpers::laptop::Laptop;
use crate::helpers::node::{CLUSTER, LOG_URI, LOGS, Node, PRIVATE_NAME, Profile};
use serde_json::json;
use std::path::Path;

on_profiles! {
    [emr_7_1: Emr71, emr_7_12: Emr712]
    [a_click_on_stderr_opens_the_log_through_a_tunnel, a_click_on_stderr_opens_the_log_through_socks_and_vpn]
}

/// A node with an installation that lists the fixtures' applications.
fn showing(profile: Profile, encoded: bool) -> Node {
    let node = Node::fresh(profile);
    node.upload_event_logs(LOGS);
    // EMR's uploads had `Content-Encoding: gzip` where they were seen, but no document promises it: test both.
    node.upload_container_logs(LOG_URI, encoded);
    // The node's private name resolves to its address, as on a real node, once it has a laptop.
    assert!(node.laptop(Laptop::Ssh, &["true"]).status().unwrap().success());
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    node.wait_for_attempts(10);
    node
}

fn executors(application: &str, attempt: Option<u32>) -> String {
    let attempt = attempt.map(|n| format!("/{n}")).unwrap_or_default();
    format!("/history/application_1795352263709_{application}{attempt}/executors/")
}

/// Clicks a log on an Executors page and reads the log.
#[track_caller]
fn read_log(browser: &Browser<'_>, page: &str, container: &str, log: &str, says: &str) {
    browser.open(page);
    browser.click(&format!("#active-executors a[href$='/logs/{container}/{log}']"));
    browser.wait_for_text(says);
    let (status, kind) = browser.status();
    assert_eq!((status, kind.as_str()), (200, "text/plain"), "{}", browser.url());
}

fn a_click_on_stderr_opens_the_log_through_a_tunnel(profile: Profile) {
    let name = if profile == Profile::Emr71 { "7.1" } else { "7.12" };
    let node = showing(profile, profile == Profile::Emr71);
    let _tunnel = node.tunnel(&["-L", "19977:localhost:9977", "-L", "7070:localhost:7070"]);
    let browser = Browser::start(&node, Setup::default());
    let at = |path: &str| format!("http://localhost:19977{path}");

    // Cluster mode: logs of executors and of the driver, which runs in a container.
    browser.open(&at("/"));
    browser.wait_for_text("application_1795352263709_0001");
    browser.screenshot(&format!("{name}-history-server"));
    browser.open(&at(&executors("0001", Some(1))));
    browser.wait_for_text("stderr");
    browser.screenshot(&format!("{name}-executors"));
    let says = "FIXTURE task stderr app=yarn-cluster-single executor=1";
    read_log(&browser, &at(&executors("0001", Some(1))), "container_1795352263709_0001_01_000002", "stderr", says);
    browser.screenshot(&format!("{name}-log"));
    let from_s3 = browser.url();
    assert!(from_s3.starts_with("http://127.0.0.1:7070/acme-logs/elasticmapreduce/"), "{from_s3}");
    let says = "FIXTURE driver stdout app=yarn-cluster-single";
    read_log(&browser, &at(&executors("0001", Some(1))), "container_1795352263709_0001_01_000001", "stdout", says);

    // Client mode, both attempts of a failed application, and applications that did not end.
    let says = "FIXTURE task stdout app=yarn-client-single executor=1";
    read_log(&browser, &at(&executors("0003", None)), "container_1795352263709_0003_01_000002", "stdout", says);
    for attempt in [1, 2] {
        let container = format!("container_1795352263709_0009_0{attempt}_000002");
        read_log(&browser, &at(&executors("0009", Some(attempt))), &container, "stderr", "app=yarn-cluster-failed");
    }
    let says = "FIXTURE task stderr app=yarn-cluster-incomplete";
    read_log(&browser, &at(&executors("0010", Some(1))), "container_1795352263709_0010_01_000002", "stderr", says);
    let says = "FIXTURE task stderr app=yarn-client-incomplete";
    read_log(&browser, &at(&executors("0011", None)), "container_1795352263709_0011_01_000002", "stderr", says);

    // The gateway's pages of applications, containers and files, by keyboard.
    browser.open(&at("/logs/"));
    browser.wait_for_text(&format!("Executor logs of {CLUSTER}"));
    browser.wait_for_text("yarn-cluster-single");
    browser.whole_page(&format!("{name}-applications"));
    let stops = browser.tab_walk();
    assert!(stops.iter().any(|stop| stop.contains("application_1795352263709_0001")), "{stops:?}");
    browser.click_link("application_1795352263709_0001");
    browser.wait_for_text("executor 1");
    browser.whole_page(&format!("{name}-containers"));
    browser.click_link("container_1795352263709_0001_01_000002");
    browser.wait_for_text("Size in S3");
    browser.whole_page(&format!("{name}-files"));
    let policy = "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let head = node.sh("curl -sI http://localhost:9977/logs/");
    assert!(head.contains(&format!("content-security-policy: {policy}")), "{head}");
    assert_eq!(browser.count("script"), 0);

    // A download gives the object as it is stored.
    browser.open(&at("/logs/container_1795352263709_0001_01_000002/"));
    browser.wait_for_text("Size in S3");
    browser.script("document.querySelector('a[href$=\"stderr?download=1\"]').click()");
    let got = browser.downloaded("container_1795352263709_0001_01_000002-stderr.gz");
    let stored = node.path("srv/stored.gz");
    node.sh(&format!("/opt/lab/s3 cat s3://acme-logs/elasticmapreduce/{CLUSTER}/containers/application_1795352263709_0001/container_1795352263709_0001_01_000002/stderr.gz > /srv/stored.gz"));
    assert_eq!(got, std::fs::read(stored).unwrap());

    // Logs that are not in S3, and paths that are no logs.
    browser.open(&at("/logs/container_1795352263709_0001_01_000002/stderr-2026-11-22-13"));
    browser.wait_for_text("is not in S3");
    assert_eq!(browser.status().0, 404);
    browser.wait_for_text("Logs in the same directory");
    browser.whole_page(&format!("{name}-missing"));
    browser.press(&format!("{}{}", key::TAB, key::TAB));
    browser.click_link("stderr");
    browser.wait_for_text("FIXTURE task stderr app=yarn-cluster-single executor=1");
    browser.open(&at("/logs/container_1795352263709_0010_01_000002/stdout.7"));
    browser.wait_for_text("still running");
    browser.wait_for_text("/node/containerlogs/container_1795352263709_0010_01_000002/hadoop/stdout.7/");
    browser.whole_page(&format!("{name}-missing-of-one-that-runs"));
    browser.open(&at("/logs/j-3H6EATEWWRWS/node/i-1/daemons/x.gz"));
    browser.wait_for_text("Not a log");
    browser.whole_page(&format!("{name}-no-log"));

    // S3, the metadata service and the history server refuse.
    let role_may_list = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":["s3:ListBucket"],"Resource":["arn:aws:s3:::acme-logs"]}]}"#;
    node.sh(&format!(
        "/opt/lab/s3 user limited limitedsecret user; echo limited >/etc/lab/session-user; echo '{role_may_list}' >/tmp/policy.json
         /opt/lab/s3 policy s3://acme-logs /tmp/policy.json; systemctl restart emr-shs-gateway"
    ));
    let log = at("/logs/container_1795352263709_0001_01_000002/stderr");
    browser.open(&log);
    browser.wait_for_text("The gateway's role needs s3:GetObject here");
    browser.whole_page(&format!("{name}-refused"));
    node.sh("/opt/lab/s3 policy s3://acme-logs; rm /etc/lab/session-user");
    node.stand_in("outage", json!("refuse"));
    node.sh("systemctl restart emr-shs-gateway");
    browser.open(&log);
    browser.wait_for_text("The gateway has no credentials");
    browser.whole_page(&format!("{name}-no-credentials"));
    node.stand_in("outage", json!(null));
    node.sh("systemctl stop spark-history-server || true");
    browser.open(&at("/"));
    browser.wait_for_text("The history server does not answer");
    browser.whole_page(&format!("{name}-no-history-server"));
    node.sh("systemctl start spark-history-server; systemctl restart emr-shs-gateway");
    node.wait_for_attempts(10);
    drop(browser);

    // Dark pages on a phone, which must not be wider than its screen.
    let browser = Browser::start(&node, Setup { dark: true, ..Setup::default() }.on_a_phone());
    for (path, picture) in [
        ("/logs/", "phone-applications"),
        ("/logs/application_1795352263709_0001/", "phone-containers"),
        ("/logs/container_1795352263709_0001_01_000002/", "phone-files"),
        ("/logs/container_1795352263709_0001_01_000002/nothing.log", "phone-missing"),
    ] {
        browser.open(&at(path));
        browser.wait_for("h1");
        browser.screenshot(&format!("{name}-{picture}"));
        let wide = browser.script("return document.documentElement.scrollWidth > window.innerWidth");
        assert_eq!(wide, false, "{path} is wider than a phone");
    }
    let back = browser.script("return getComputedStyle(document.body).backgroundColor");
    assert_eq!(back, "rgb(22, 22, 24)", "dark");
}

fn a_click_on_stderr_opens_the_log_through_socks_and_vpn(profile: Profile) {
    let name = if profile == Profile::Emr71 { "7.1" } else { "7.12" };
    let node = showing(profile, profile == Profile::Emr712);
    let says = "FIXTURE task stderr app=yarn-cluster-single executor=2";
    let container = "container_1795352263709_0001_01_000003";
    {
        // The history server's own pages contain absolute links.
        let _tunnel = node.tunnel(&["-D", "1080"]);
        let browser = Browser::start(&node, Setup::socks(1080));
        let page = format!("http://{PRIVATE_NAME}:18080{}", executors("0001", Some(1)));
        read_log(&browser, &page, container, "stderr", says);
        let page = format!("http://{PRIVATE_NAME}:9977{}", executors("0001", Some(1)));
        read_log(&browser, &page, container, "stderr", says);
    }

    // The gateway refuses another machine and says what to do. Then that is done.
    let browser = Browser::start(&node, Setup { any_certificate: true, ..Setup::vpn() });
    browser.open(&format!("http://{PRIVATE_NAME}:9977/"));
    browser.wait_for_text("This gateway serves only its own node");
    browser.wait_for_text("Your address is 10.77.0.2");
    assert_eq!(browser.status().0, 403);
    browser.whole_page(&format!("{name}-foreign"));
    // User admin, password “correct horse”, made with htpasswd -nbB.
    let users = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/htpasswd");
    node.copy(users.to_str().unwrap(), "/etc/emr-shs/users");
    let ran = node.emr_shs(&[
        "proxy",
        "install",
        "--tls-self-signed",
        "--htpasswd",
        "/etc/emr-shs/users",
        "--mode",
        "stream",
    ]);
    ran.expect(0);
    node.emr_shs(&["restart"]).expect(0);
    let plain =
        node.laptop(Laptop::Vpn, &["curl", "-si", &format!("http://{PRIVATE_NAME}:9977/logs/")]).output().unwrap();
    let plain = String::from_utf8(plain.stdout).unwrap();
    assert!(plain.contains(&format!("location: https://{PRIVATE_NAME}:9977/logs/")), "{plain}");
    let login = format!("https://admin:correct%20horse@{PRIVATE_NAME}:9977");
    browser.open(&format!("{login}/logs/"));
    browser.wait_for_text("Executor logs of");
    node.wait_for_attempts(10);
    let page = format!("https://{PRIVATE_NAME}:9977{}", executors("0001", Some(1)));
    read_log(&browser, &page, container, "stderr", says);
    assert!(browser.url().starts_with(&format!("https://{PRIVATE_NAME}:9977/logs/")), "streamed: {}", browser.url());
    // On the history server's own port the links lead to the gateway, too.
    let page = format!("http://{PRIVATE_NAME}:18080{}", executors("0001", Some(1)));
    read_log(&browser, &page, container, "stderr", says);
}
