//! The gateway behind a reverse proxy that serves it below a path.

use super::*;
use regex::Regex;
use std::process::Child;

/// Where browsers find the proxy that passes the path on, and the one that takes the path away.
const LAYOUTS: [&str; 2] = ["http://tools.example:8080", "http://tools.example:8081"];

const CONF: &str = "
user root; worker_processes 1; pid DIR/pid; error_log stderr; daemon off;
events {}
http {
    access_log off; client_body_temp_path DIR/a; proxy_temp_path DIR/b; fastcgi_temp_path DIR/c;
    uwsgi_temp_path DIR/d; scgi_temp_path DIR/e;
    server { listen 127.0.0.1:8080; location /shs/ { proxy_pass http://172.31.59.96:9977; proxy_set_header Host $http_host; } }
    server { listen 127.0.0.1:8081; location /shs/ { proxy_pass http://172.31.59.96:9977/; } }
}
";

struct Nginx {
    process: Child,
    _dir: tempfile::TempDir,
}

impl Nginx {
    fn on_laptop(node: &Node) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("conf");
        std::fs::write(&conf, CONF.replace("DIR", dir.path().to_str().unwrap())).unwrap();
        // The first command on the laptop makes its network.
        assert!(node.laptop(Laptop::Vpn, &["true"]).status().unwrap().success());
        let process = node.laptop(Laptop::Vpn, &["nginx", "-c", conf.to_str().unwrap()]).spawn().unwrap();
        Self { process, _dir: dir }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it.
        let pid = nix::unistd::Pid::from_raw(self.process.id().try_into().unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

/// A browser's request on the laptop.
fn open(node: &Node, layout: &str, path: &str) -> Answer {
    let hosts = ["--resolve", "tools.example:8080:127.0.0.1", "--resolve", "tools.example:8081:127.0.0.1"];
    let url = format!("{layout}{path}");
    let curl = [&["curl", "-si", "--max-time", "20"], &hosts[..], &[&url]].concat();
    let ran = node.laptop(Laptop::Vpn, &curl).output().unwrap();
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_ascii_lowercase(), body: body.into() }
}

/// Fails if a link of a page leads to another program of the proxy's host.
#[track_caller]
fn stays_below_the_path(page: &Answer) {
    let links = Regex::new(r#"(?:href|src|action)\s*=\s*["'](/[^"']*)"#).unwrap();
    let links: Vec<&str> = links.captures_iter(&page.body).map(|link| link.get(1).unwrap().as_str()).collect();
    assert!(!links.is_empty() && links.iter().all(|link| link.starts_with("/shs/")), "{links:?}");
}

/// `node` has an installation, with event logs and container logs.
pub(super) fn every_page_opens(node: &Node) {
    let url = "http://tools.example:8080/shs/";
    node.emr_shs(&["proxy", "install", "--public-url", url, "--insecure", "--mode", "stream"]).expect(0);
    node.emr_shs(&["restart"]).expect(0);
    let _nginx = Nginx::on_laptop(node);
    wait("the proxy", || (open(node, LAYOUTS[0], "/shs/-/healthz").status == 200).then_some(()));
    let application = "application_1795352263709_0001";
    let page = format!("/shs/history/{application}/1/executors/");
    wait("the application", || (open(node, LAYOUTS[0], &page).status == 200).then_some(()));
    for layout in LAYOUTS {
        // The history server's own pages.
        let front = open(node, layout, "/shs/");
        stays_below_the_path(&front);
        assert!(
            front.body.contains("/shs/static/webui.css") && front.body.contains("setUIRoot('/shs')"),
            "{}",
            front.body
        );
        assert!(open(node, layout, "/shs/static/webui.css").header("content-type").starts_with("text/css"));
        for page in [page.as_str(), &page.replace("executors", "jobs"), &page.replace("executors", "environment")] {
            let page = open(node, layout, page);
            assert_eq!(page.status, 200);
            stays_below_the_path(&page);
        }
        for redirects in [format!("/shs/history/{application}"), format!("/shs/history/{application}/1")] {
            let answer = open(node, layout, &redirects);
            assert_eq!(answer.status, 302, "{}", answer.head);
            let to = answer.header("location");
            // nginx itself makes its own address of what it has taken away.
            assert!(to.trim_start_matches(layout).starts_with("/shs/history/"), "{redirects}: {to}");
        }
        // A log link in the page of executors, and what it opens.
        let executors = open(node, layout, &format!("/shs/api/v1/applications/{application}/1/allexecutors"));
        let link = format!("/shs{LOG}");
        assert!(executors.body.contains(&format!("\"{link}\"")), "{}", executors.body);
        assert!(open(node, layout, &link).body.contains(SAYS));
        // The gateway's own pages.
        for path in ["/shs/logs/", &format!("/shs/logs/{application}/"), "/shs/logs/x"] {
            let page = open(node, layout, path);
            assert!([200, 404].contains(&page.status), "{}", page.head);
            stays_below_the_path(&page);
        }
        assert!(open(node, layout, "/shs/logs").header("location").ends_with("/shs/logs/"));
        assert_eq!(open(node, layout, "/shs/-/style.css").status, 200);
    }
    // Through a tunnel the same links work.
    let front = get(node, "/", &[]);
    assert!(front.body.contains("/shs/static/webui.css"), "{}", front.body);
    assert_eq!(get(node, "/shs/static/webui.css", &[]).status, 200);
    assert!(get(node, LOG, &[]).body.contains(SAYS));
    let verify = node.emr_shs(&["verify"]).expect(0).out();
    assert!(verify.contains("PASS  gateway") || verify.contains("gateway"), "{verify}");

    // Another path before the history server's own links.
    let defaults = "/etc/spark/conf.dist/spark-defaults.conf";
    node.sh(&format!("cp -p {defaults} /srv/defaults; echo 'spark.ui.proxyBase /spark' >>{defaults}"));
    let ran = node.emr_shs(&["plan", "--check"]).expect(3);
    assert!(ran.err().contains("begin with /spark") && ran.err().contains("below /shs"), "{}", ran.err());
    node.sh(&format!("cp -p /srv/defaults {defaults}"));
    for refused in
        ["https://tools.example/history", "https://tools.example/a/proxy", "https://tools.example/a b", "/logs"]
    {
        node.emr_shs(&["proxy", "install", "--public-url", refused]).expect(2);
    }
    node.emr_shs(&["proxy", "install", "--public-url", "", "--insecure=false", "--mode", "redirect"]).expect(0);
    node.emr_shs(&["restart"]).expect(0);
}
