//! One client cannot use up what others need: connections, memory, cores, and lines of the journal.

use super::*;
use std::time::Instant;

/// Two users with the password "correct horse"; a check takes a tenth of a second.
const USERS: &str = "alice:$2b$10$drwz2r8i5bT1zmhrjQOE.OauYG1HxF8cNkFkkY82fA/7YGbvl2Mb6\n\
                     bob:$2b$10$drwz2r8i5bT1zmhrjQOE.OauYG1HxF8cNkFkkY82fA/7YGbvl2Mb6\n";

#[track_caller]
fn metric(node: &Node, name: &str) -> u64 {
    let metrics = ask(node, &["-u", "bob:correct horse", "http://localhost:9977/-/metrics"]).body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("emr_shs_gateway_")?.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {metrics}")).trim().parse().unwrap()
}

fn journal(node: &Node) -> String {
    node.sh(&format!("journalctl -u {UNIT} -o cat --no-pager"))
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn clients_that_do_not_read_or_say_nothing_make_room() {
    let node = node();
    attack(&node, &["odd"]);
    attack(&node, &["unread"]);
    assert_eq!(get(&node, LOG, &[]).status, 302);
    attack(&node, &["crowd"]);
    attack(&node, &["root"]);
    attack(&node, &["addresses"]);

    // Another machine gets its part, and no more.
    node.emr_shs(&["proxy", "install", "--insecure"]).expect(0);
    let gateway = format!("GATEWAY={PRIVATE_NAME}");
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/attacks.py");
    let command = ["env", &gateway, "python3", fixture, "moving", "300", "60"];
    let mut other = node.laptop(Laptop::Vpn, &command).spawn().unwrap();
    let connections = || metric(&node, "connections");
    wait("the connections of another machine", || (connections() >= 240).then_some(()));
    for _ in 0..10 {
        let open = connections();
        assert!(open <= 245, "{open} connections");
        assert_eq!(get(&node, "/-/readyz", &[]).status, 200);
    }
    assert!(metric(&node, r#"closed_connections_total{reason="no_room"}"#) > 0);
    // It would go on for a minute.
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_journal_stays_readable_whatever_is_asked() {
    let node = node();
    let (before, begun) = (journal(&node).len(), Instant::now());
    attack(&node, &["lines"]);
    wait("the note about lines that are left out", || journal(&node).contains("left out: ").then_some(()));
    let said = journal(&node);
    let longest = said.lines().map(str::len).max().unwrap();
    assert!(longest <= 1024, "a line of {longest} bytes");
    // Two hundred at once, 25 in a second then, and a note each second.
    let (lines, seconds) = (said[before..].lines().count() as u64, begun.elapsed().as_secs());
    assert!(lines < 300 + 30 * seconds && lines < 3000, "{lines} lines in {seconds} s");
    // Clients that are not served get one line in a second.
    let (before, begun) = (journal(&node).lines().count(), Instant::now());
    let url = format!("http://{PRIVATE_NAME}:9977{LOG}?[1-60]");
    assert!(node.laptop(Laptop::Vpn, &["curl", "-s", &url]).output().unwrap().status.success());
    wait("the note about clients that are not served", || {
        journal(&node)
            .lines()
            .skip(before)
            .any(|line| line.contains(" about clients that are not served"))
            .then_some(())
    });
    // And a note about what was left out.
    let (lines, seconds) = ((journal(&node).lines().count() - before) as u64, begun.elapsed().as_secs());
    assert!(lines < 5 + 2 * seconds && lines < 60, "{lines} lines in {seconds} s");
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn logins_are_checked_while_others_guess() {
    let node = node();
    std::fs::write(node.path("/srv/users"), USERS).unwrap();
    node.emr_shs(&["proxy", "install", "--htpasswd", "/srv/users"]).expect(0);
    attack(&node, &["guesses"]);
    attack(&node, &["hang_ups"]);
    // The journal names each client once.
    let said = journal(&node);
    let told = said.lines().filter_map(|line| line.split_once(" has sent 10 wrong passwords within a minute")).count();
    let clients = said.lines().filter_map(|line| line.strip_prefix("warning: ")?.split_once(" has sent 10 wrong"));
    let clients: std::collections::BTreeSet<&str> = clients.map(|(client, _)| client).collect();
    assert!(told >= 1 && told == clients.len(), "{said}");
    // Each login that was not known yet is counted.
    let counts = || ["right", "wrong"].map(|result| metric(&node, &format!("logins_total{{result=\"{result}\"}}")));
    let [right, wrong] = counts();
    assert!(right >= 2 && wrong >= 10, "{right} right, {wrong} wrong");
    assert_eq!(ask(&node, &["-u", "carol:wrong", "http://localhost:9977/-/metrics"]).status, 401);
    let again =
        ask(&node, &["-H", "Authorization:  basic Ym9iOmNvcnJlY3QgaG9yc2U=", "http://localhost:9977/-/metrics"]);
    assert_eq!(again.status, 200);
    let now = counts();
    assert!(now[0] == right + 1 && now[1] > wrong, "{now:?} after {right} right, {wrong} wrong");
    assert!(attack(&node, &["long_login"]).out().starts_with("431\n"));

    // The gateway reads a changed file, and forgets who was there before.
    std::fs::write(node.path("/srv/users"), USERS.lines().last().unwrap()).unwrap();
    let metrics = "http://localhost:9977/-/metrics";
    wait("the new users", || (ask(&node, &["-u", "alice:correct horse", metrics]).status == 401).then_some(()));
    assert_eq!(ask(&node, &["-u", "bob:correct horse", metrics]).status, 200);

    // What cannot be a hash, or would cost too much, is found before the gateway uses it.
    for (line, says) in [
        ("carol:$2y$05$short", "/srv/bad:3: the hash of carol is no complete bcrypt hash"),
        ("carol:$2b$24$drwz2r8i5bT1zmhrjQOE.OauYG1HxF8cNkFkkY82fA/7YGbvl2Mb6", "has the cost 24, wanted at most 12"),
        (
            "carol:$argon2id$v=19$m=524288,t=1,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "needs 512 MiB of memory, wanted at most 64",
        ),
        ("carol:$argon2id$nonsense", "is no complete argon2 hash"),
        ("carol:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "is neither bcrypt nor argon2"),
        ("alice:$2b$10$drwz2r8i5bT1zmhrjQOE.OauYG1HxF8cNkFkkY82fA/7YGbvl2Mb6", "/srv/bad:3: alice has a line already"),
    ] {
        std::fs::write(node.path("/srv/bad"), format!("{USERS}{line}\n")).unwrap();
        let ran = node.emr_shs(&["proxy", "install", "--htpasswd", "/srv/bad"]).expect(3);
        assert!(ran.err().contains(says), "wanted “{says}” in {}", ran.err());
    }
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_unit_is_a_narrow_one() {
    let node = node();
    // From 0, closed, to 10, open.
    let exposure = node.sh(&format!("systemd-analyze security --no-pager {UNIT} | tail -n 1"));
    let level: f64 = exposure.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    assert!(level < 2.5, "{exposure}");
    // Where memory ends, the gateway ends before Hadoop's daemons, and leaves no core with credentials.
    let pid = node.sh(&format!("systemctl show -p MainPID --value {UNIT}")).trim().to_string();
    assert_eq!(node.sh(&format!("cat /proc/{pid}/oom_score_adj")).trim(), "500");
    assert!(node.sh(&format!("grep core /proc/{pid}/limits")).contains(" 0 "));
    // It takes both versions of IP, also where the node's sockets are for one each.
    node.sh(&format!("sysctl -qw net.ipv6.bindv6only=1; systemctl restart {UNIT}"));
    for address in ["127.0.0.1", "[::1]"] {
        assert_eq!(ask(&node, &[&format!("http://{address}:9977/-/healthz")]).status, 200, "{address}");
    }
    node.sh(&format!("sysctl -qw net.ipv6.bindv6only=0; systemctl restart {UNIT}"));
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn large_pages_and_streams_need_little_memory() {
    let node = node();
    let application = "application_1795352263709_0077";
    let containers = format!("/srv/s3/acme-logs/elasticmapreduce/{CLUSTER}/containers/{application}");
    // 291 kB that become 300 MB, and a container with 10,000 files.
    node.sh(&format!(
        "mkdir -p /srv/big/{application}/container_1795352263709_0077_01_00000{{1,2}}; cd /srv/big/{application}
        head -c 300M /dev/zero | gzip >container_1795352263709_0077_01_000001/stderr.gz
        /opt/lab/s3 put-tree /srv/big s3://acme-logs/elasticmapreduce/{CLUSTER}/containers/
        cd {containers}; ls; mkdir -p container_1795352263709_0077_01_000002; cd container_1795352263709_0077_01_000002
        for i in $(seq 10000); do : >part-with-a-long-name-$i.log.gz; done"
    ));
    let files = "/logs/container_1795352263709_0077_01_000002/";
    let page = get(&node, files, &[]);
    assert!(page.status == 200 && page.body.len() > 300_000, "{} bytes", page.body.len());
    attack(&node, &["slow", files, "240", "200"]);
    assert_eq!(get(&node, files, &[]).status, 200);

    node.emr_shs(&["proxy", "install", "--mode", "stream"]).expect(0);
    attack(&node, &["slow", "/logs/container_1795352263709_0077_01_000001/stderr", "260", "250"]);
    attack(&node, &["root_streams", "/logs/container_1795352263709_0077_01_000001/stderr", LOG]);
    let text = node.sh("curl -s http://localhost:9977/logs/container_1795352263709_0077_01_000001/stderr | wc -c");
    assert_eq!(text.trim(), (300 << 20).to_string());
}
