//! Which clients and host names the gateway serves, TLS and logins, and requests that try to get more than a log.

use super::*;

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn only_the_node_itself_is_served_and_only_by_its_names() {
    let node = node();
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
    // A host name of the user's, in links too. With --insecure the gateway serves other machines.
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
fn people_of_the_node_are_served_and_services_and_relays_are_not() {
    let node = node();
    node.sh("useradd --system --home-dir /var/lib/yarn --shell /bin/bash yarn; useradd --create-home --shell /bin/bash alice");
    let ask_as = |account: &str, url: &str, options: &str| {
        let curl = format!("curl -s -o /srv/page -w '%{{http_code}}' --max-time 20 {options} {url}");
        node.sh("rm -f /srv/page; touch /srv/page; chmod 666 /srv/page");
        let id = format!("$(id -u {account})");
        let status = node.sh(&format!("setpriv --reuid {id} --clear-groups {curl}"));
        (status.parse::<u16>().unwrap(), node.sh("cat /srv/page"))
    };
    let log = |host: &str| format!("http://{host}:9977{LOG}");
    // Also by IPv6, and by the node's own name, as through SOCKS.
    for host in ["127.0.0.1", "[::1]", PRIVATE_NAME] {
        for (account, wanted) in
            [("root", 302), ("hadoop", 302), ("alice", 302), ("nobody", 403), ("yarn", 403), ("spark", 403)]
        {
            let (status, page) = ask_as(account, &log(host), "");
            assert_eq!(status, wanted, "{account} at {host}: {page}");
            if wanted == 403 {
                assert!(page.contains(&format!("--allow-account {account}<")) && page.contains("ssh -L"), "{page}");
            }
        }
    }
    for page in ["/", "/logs/", "/api/v1/applications"] {
        assert_eq!(ask_as("yarn", &format!("http://localhost:9977{page}"), "").0, 403, "{page}");
    }
    assert_eq!(ask_as("nobody", "http://localhost:9977/-/metrics", "").0, 200, "a monitor sees no logs there");
    for mark in
        ["Via: 1.1 knox", "Forwarded: for=10.0.0.1", "X-Forwarded-For: 10.0.0.1", "Cookie: a=b; proxy-user=dr.who"]
    {
        let (status, page) = ask_as("hadoop", &log("localhost"), &format!("-H '{mark}'"));
        assert!(status == 403 && page.contains("serves no relay"), "{mark}: {status} {page}");
    }
    // A tunnel is the account's that has logged in.
    let tunnel = node.tunnel(&["-L", "19977:localhost:9977"]);
    let through = node.laptop(Laptop::Ssh, &["curl", "-si", &format!("http://localhost:19977{LOG}")]).output().unwrap();
    assert!(through.stdout.starts_with(b"HTTP/1.1 302"), "{}", String::from_utf8_lossy(&through.stdout));
    drop(tunnel);

    node.emr_shs(&["proxy", "install", "--allow-account", "nobdy"]).expect(3);
    node.emr_shs(&["proxy", "install", "--allow-account", "nobody"]).expect(0);
    assert!(node.emr_shs(&["status"]).expect(0).out().contains("also programs of nobody"));
    assert_eq!(ask_as("nobody", &log("localhost"), "-H 'X-Forwarded-For: 10.0.0.1'").0, 302, "it asks who it is");
    assert_eq!(ask_as("yarn", &log("localhost"), "").0, 403);
    node.emr_shs(&["proxy", "install", "--allow-account", "*"]).expect(0);
    assert_eq!(ask_as("yarn", &log("localhost"), "").0, 302);
    assert_eq!(ask_as("yarn", &log("localhost"), "-H 'Via: 1.1 knox'").0, 403);
    // With a login, the login decides.
    node.copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/htpasswd"), "/srv/users");
    node.emr_shs(&["proxy", "install", "--allow-account=", "--htpasswd", "/srv/users"]).expect(0);
    assert_eq!(ask_as("yarn", &log("localhost"), "").0, 401);
    assert_eq!(ask_as("yarn", &log("localhost"), "-H 'Via: 1.1 knox' -u 'admin:correct horse'").0, 302);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn hostile_requests_get_nothing() {
    let node = node();
    // Objects that the gateway must not serve: beside the logs, and in another bucket.
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
        // The history server answers its own paths. Its redirects stay on this host.
        let names_a_host = location.starts_with("//") || location.starts_with("/\\");
        assert!(location == "-" || location.starts_with('/') && !names_a_host, "{request} gave {location}");
        assert!(!location.contains("X-Amz-"), "{request} gave {location}");
        assert!(
            ["000", "200", "400", "401", "403", "404", "405", "414", "421", "431", "501", "505"].contains(&status),
            "{request} gave {status}"
        );
    }
    let served: Vec<_> = lines.iter().filter(|line| line[0] == "200").collect();
    assert!(served.iter().all(|line| !line[2].contains("GET /logs/")), "{served:?}");
    // Names that contain HTML.
    let name = "<b onclick='alert(1)'>\"&.log.gz";
    let directory =
        format!("{CLUSTER}/containers/application_1795352263709_0001/container_1795352263709_0001_01_000002");
    node.run(&["/opt/lab/s3", "put", "/srv/secret.gz", &format!("s3://acme-logs/elasticmapreduce/{directory}/{name}")])
        .expect(0);
    for page in ["/logs/container_1795352263709_0001_01_000002/", "/logs/application_1795352263709_0001/"] {
        // A list can be some seconds old.
        let page = wait("the new log in the list", || {
            Some(get(&node, page, &[]).body).filter(|page| page.contains("alert(1)"))
        });
        assert!(page.contains("&#60;b onclick=&#39;alert(1)&#39;&#62;&#34;&#38;") && !page.contains("<b "), "{page}");
    }
    let page = get(&node, "/logs/container_1795352263709_0001_01_000002/%3Cb%20x%3E", &[]).body;
    assert!(page.contains("does not serve the file &#60;b x&#62;") && !page.contains("<b "), "{page}");
    let page = confirmed(&node, "/logs/container_1795352263709_0001_01_000002/%3Cb%20x%3E.log").body;
    assert!(page.contains("&#60;b x&#62;.log of container_") && !page.contains("<b "), "{page}");
    assert_eq!(get(&node, LOG, &[]).status, 302, "and it lives");
    let journal = node.sh(&format!("journalctl -u {UNIT} -o cat --no-pager"));
    assert!(!journal.contains("panicked") && !journal.contains("X-Amz-"), "{journal}");
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn slow_and_idle_clients_do_not_delay_others() {
    let node = node();
    let script = r#"
import socket, sys, time
idle = [socket.create_connection(("127.0.0.1", 9977)) for _ in range(200)]
slow = [socket.create_connection(("127.0.0.1", 9977)) for _ in range(50)]
for s in slow:
    s.sendall(b"GET /logs/ HTTP/1.1\r\nHost: local")
begun, took = time.monotonic(), []
# The slow ones are ended after 30 seconds. This program, too, can stall for a moment.
for _ in range(3):
    asked = time.monotonic()
    fast = socket.create_connection(("127.0.0.1", 9977))
    fast.sendall(b"GET /-/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert fast.recv(4096).startswith(b"HTTP/1.1 200"), "it answers"
    took.append(time.monotonic() - asked)
assert min(took) < 2, "at once"
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
fn tls_and_a_login_protect_the_gateway() {
    let node = node();
    let make = |name: &str| {
        node.sh(&format!(
            "mkdir -p /srv/tls; cd /srv/tls; openssl req -x509 -newkey rsa:2048 -nodes -subj /CN={name} -days 2 -keyout k -out c 2>/dev/null; \
             chmod 644 k; cat k > key.pem; cat c > chain.pem"
        ));
    };
    let served =
        || node.sh("openssl s_client -connect localhost:9977 </dev/null 2>/dev/null | openssl x509 -noout -subject");
    node.emr_shs(&["proxy", "install", "--tls-self-signed"]).expect(0);
    assert!(served().contains("emr-shs self-signed"), "{}", served());
    // The certificate stays over restarts. The key is the gateway's alone, and status shows the fingerprint.
    let fingerprint = || {
        node.sh("openssl s_client -connect localhost:9977 </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256")
    };
    let before = fingerprint();
    node.sh(&format!("systemctl restart {UNIT}"));
    assert_eq!(fingerprint(), before);
    let shown = before.trim().split('=').nth(1).unwrap();
    let status = node.emr_shs(&["status"]).expect(0).out();
    assert!(status.contains(&format!("self-signed certificate, SHA-256 {shown}")), "{status}");
    assert_eq!(node.sh("stat -c '%U %a' /var/lib/emr-shs-gateway/self-signed.json"), "emr-shs 600\n");
    // A damaged one, and one for other names, is made anew.
    for spoil in [
        "truncate -s 900 /var/lib/emr-shs-gateway/self-signed.json",
        "sed -i 's/localhost/elsewhere/' /var/lib/emr-shs-gateway/self-signed.json",
    ] {
        let before = fingerprint();
        node.sh(&format!("{spoil}; systemctl restart {UNIT}"));
        assert_ne!(fingerprint(), before, "{spoil}");
    }
    // With TLS but without a login, other machines are refused with a hint.
    let url = format!("https://{PRIVATE_NAME}:9977{LOG}");
    let refused = node.laptop(Laptop::Vpn, &["curl", "-ski", "--max-time", "10", &url]).output().unwrap();
    let refused = String::from_utf8(refused.stdout).unwrap();
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("--htpasswd"), "{refused}");
    // Machines that are refused cannot keep the cores busy with handshakes either: 400 at once, then 100 in a second.
    let gateway = format!("GATEWAY={PRIVATE_NAME}");
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/attacks.py");
    let command = ["env", &gateway, "python3", fixture, "handshakes", "15"];
    let made = node.laptop(Laptop::Vpn, &command).output().unwrap();
    let made: u32 = String::from_utf8(made.stdout).unwrap().trim().parse().unwrap();
    assert!(made > 400 && made <= 400 + 100 * (15 + 5), "{made} handshakes in 15 s, the last ones up to 5 s later");
    let metrics = ask(&node, &["-k", "https://localhost:9977/-/metrics"]).body;
    let delayed = metrics.lines().find_map(|line| line.strip_prefix("emr_shs_gateway_delayed_handshakes_total "));
    assert!(delayed.unwrap().parse::<u32>().unwrap() > 0, "{metrics}");
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
    assert!(nobody.body.contains("A login is required"), "{}", nobody.body);
    for wrong in ["admin:wrong", "nobody:correct horse", "admin:", ":"] {
        assert_eq!(login(wrong).status, 401, "{wrong}");
    }
    assert_eq!(login("admin:correct horse").status, 302);
    // The journal names who has logged in, and no name of a wrong login, which can be a password.
    let line = wait("a line of the login", || {
        let journal = node.sh(&format!("journalctl -u {UNIT} -o cat --no-pager"));
        assert!(!journal.contains("user=nobody"), "{journal}");
        journal.lines().find(|line| line.ends_with("user=admin")).map(str::to_string)
    });
    assert!(line.contains(&format!("GET {LOG} 302 redirect ")), "{line}");
    let metrics = ask(&node, &["-k", "-u", "admin:correct horse", "https://localhost:9977/-/metrics"]).body;
    assert!(metrics.contains("logins_total{result=\"right\"} 1\n"), "{metrics}");
    assert!(metrics.contains("logins_total{result=\"wrong\"} 4\n"), "{metrics}");
    assert_eq!(ask(&node, &["-k", "https://localhost:9977/-/healthz"]).status, 200);
    assert_eq!(ask(&node, &["-k", "https://localhost:9977/-/metrics"]).status, 401);
    assert_eq!(ask(&node, &["-k", "https://localhost:9977/"]).status, 401, "the history server, too");

    // The gateway loads a renewed certificate, and ignores one that it cannot use.
    make("two");
    wait("the new certificate", || served().contains("CN = two").then_some(()));
    node.sh("echo broken > /srv/tls/chain.pem");
    wait("a warning", || {
        node.sh(&format!("journalctl -u {UNIT} -o cat")).contains("because it cannot use the new one").then_some(())
    });
    assert!(served().contains("CN = two"));
    let ran = node.emr_shs(&["proxy", "install"]).expect(3);
    assert!(ran.err().contains("/srv/tls/chain.pem"), "{}", ran.err());

    // What was readable for the gateway's group is root's alone once the group's number is free, also behind a link.
    make("three");
    node.sh(
        "mkdir /srv/live; ln -s ../tls/key.pem /srv/live/; chgrp emr-shs /srv/tls/key.pem; chmod 640 /srv/tls/key.pem",
    );
    node.emr_shs(&["proxy", "install", "--tls-key", "/srv/live/key.pem"]).expect(0);
    node.emr_shs(&["uninstall"]).expect(0);
    assert_eq!(node.sh("stat -c '%U %G %a' /srv/tls/key.pem"), "root root 600\n");
}
