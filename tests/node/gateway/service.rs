//! The gateway's unit: installed, restarted, replaced by a newer program, removed without a trace.

use super::*;

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_gateway_is_installed_restarted_and_removed_without_a_trace() {
    let node = Node::fresh(Profile::Emr71);
    let before = node.tree();
    // Errors that are found before the first change.
    let mut taken = node.spawn(&["python3", "-m", "http.server", "9977"]);
    wait("the port to be taken", || (node.run(&["curl", "-s", "localhost:9977"]).code() == 0).then_some(()));
    let ran = node.emr_shs(&["install", "--event-logs", LOGS]).expect(3);
    assert!(
        ran.err().contains("another process listens on port 9977") && ran.err().contains("python3 -m http.server 9977"),
        "{}",
        ran.err()
    );
    assert_same_tree(&before, &node.tree());
    // Another port is free, and --no-proxy needs no port.
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

    // Files that the gateway could not read are found before the first change.
    let users = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/htpasswd");
    for (path, mode, says) in [
        ("/nowhere", "644", "No such file"),
        ("/srv/private", "600", "found mode 600"),
        ("/root/users", "644", "systemd hides /root"),
    ] {
        if path != "/nowhere" {
            node.copy(users.to_str().unwrap(), path);
            node.sh(&format!("chmod {mode} {path}"));
        }
        let ran = node.emr_shs(&["proxy", "install", "--htpasswd", path]).expect(3);
        assert!(ran.err().contains(&format!("cannot read {path}")) && ran.err().contains(says), "{}", ran.err());
    }
    // A gateway that cannot start is removed, and the message says why.
    node.sh("mkdir -m 700 /srv/closed");
    node.copy(users.to_str().unwrap(), "/srv/closed/users");
    let closed = ["proxy", "install", "--htpasswd", "/srv/closed/users"];
    let ran = node.emr_shs(&closed).expect(1);
    assert!(ran.err().contains("does not start") && ran.err().contains("ermission denied"), "{}", ran.err());
    assert_same_tree(&before, &node.tree());
    assert_eq!(node.sh("getent passwd emr-shs || true"), "");

    // The gateway is installed and starts.
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
    let units = format!("/etc/systemd/system/{UNIT}.service /etc/systemd/system/{UNIT}.socket");
    assert_eq!(node.sh(&format!("systemd-analyze verify {units} 2>&1")), "");
    let facts = node.sh(&format!("cat /proc/{process}/status"));
    assert!(facts.contains("NoNewPrivs:\t1") && facts.contains("CapBnd:\t0000000000000000"), "{facts}");
    let user = node.sh(&format!("stat -c %U /proc/{process}"));
    assert_eq!(user.trim(), "emr-shs");
    // systemd restarts it when it is killed. When it is stopped, `status` says so and `install` starts it.
    node.sh(&format!("kill -9 {process}"));
    wait("systemd to start it again", || (pid() != process && get_ok(&node)).then_some(()));
    node.sh(&format!("systemctl stop {UNIT}.socket {UNIT}"));
    let status = node.emr_shs(&["status"]).expect(0).out();
    assert!(status.contains("nothing answers on port 9977") && !status.contains("not as installed"), "{status}");
    node.emr_shs(&["proxy", "install"]).expect(0);
    assert!(get_ok(&node));
    // It starts at boot.
    assert_eq!(node.sh(&format!("systemctl is-enabled {UNIT} {UNIT}.socket")), "enabled\nenabled\n");
    systemd_keeps_the_port(&node);
    the_port_of_an_earlier_version_becomes_a_socket(&node);

    // A newer program replaces the older one, except when it does not start.
    let older = node.sh("readlink /usr/libexec/emr-shs/emr-shs");
    node.sh("cp /usr/local/bin/emr-shs /srv/newer && printf x >> /srv/newer");
    let ran = node.run(&[&["/srv/newer"], &closed[..]].concat()).expect(1);
    assert!(ran.err().contains("put back"), "{}", ran.err());
    assert_eq!(node.sh("readlink /usr/libexec/emr-shs/emr-shs"), older);
    assert!(get_ok(&node), "the older one runs again");
    let clients = Clients::of(&node);
    node.sh(&format!("systemctl restart {UNIT}; systemctl restart {UNIT}"));
    node.run(&["/srv/newer", "proxy", "install"]).expect(0);
    clients.all_got_answers(&node);
    assert_ne!(node.sh("readlink /usr/libexec/emr-shs/emr-shs"), older);
    assert_eq!(node.sh("ls /usr/libexec/emr-shs | wc -l").trim(), "2", "the program and the link to it");
    node.sh("cmp /usr/libexec/emr-shs/emr-shs /srv/newer");

    // `uninstall` with the older program removes it without a trace.
    node.emr_shs(&["uninstall"]).expect(0);
    assert_same_tree(&before, &node.tree());
    assert_eq!(node.sh("getent passwd emr-shs || true"), "");
    assert_eq!(node.sh(&format!("systemctl is-active {UNIT} {UNIT}.socket || true")), "inactive\ninactive\n");
    assert_eq!(node.sh("ss -Hltn 'sport = :9977'"), "");

    // `install` without the gateway, then with it, then without it.
    node.emr_shs(&["install", "--event-logs", LOGS, "--no-proxy"]).expect(0);
    assert!(!Path::new(&node.path("etc/emr-shs")).exists());
    node.emr_shs(&["install", "--no-proxy=false"]).expect(0);
    assert!(get_ok(&node));
    node.emr_shs(&["install", "--no-proxy"]).expect(0);
    assert!(!Path::new(&node.path("etc/emr-shs")).exists() && !get_ok(&node));
    node.emr_shs(&["uninstall"]).expect(0);
    assert_same_tree(&before, &node.tree());
}

/// Programs that ask the gateway again and again, each time on a new connection.
struct Clients(std::process::Child);

const CLIENTS: &str = r#"
import os, socket, threading, time
failures = []
answers = []
def ask():
    while not os.path.exists("/srv/enough") or len(answers) <= 100:
        begun, is_late = time.monotonic(), False
        try:
            with socket.create_connection(("127.0.0.1", 9977), timeout=60) as s:
                s.sendall(b"GET /-/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                # A gateway that ends waits for half a second for requests on connections that it has.
                is_late = time.monotonic() - begun > 0.4
                answer = b"".join(iter(lambda: s.recv(4096), b""))
            assert answer.startswith(b"HTTP/1.1 200"), answer
            answers.append(1)
        except Exception as e:
            if not is_late:
                failures.append(repr(e))
threads = [threading.Thread(target=ask) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(failures[:3])
"#;

impl Clients {
    fn of(node: &Node) -> Self {
        node.sh("rm -f /srv/enough");
        Self(node.spawn(&["sh", "-c", "python3 -c \"$0\" >/srv/clients", CLIENTS]))
    }

    #[track_caller]
    fn all_got_answers(mut self, node: &Node) {
        node.sh("touch /srv/enough");
        self.0.wait().unwrap();
        assert_eq!(node.sh("cat /srv/clients; rm /srv/clients /srv/enough"), "[]\n");
    }
}

/// While the service is down, nobody else can listen, and a connection starts the service.
fn systemd_keeps_the_port(node: &Node) {
    let bind = r#"
import socket
for family, address in (socket.AF_INET, "0.0.0.0"), (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::"), (socket.AF_INET6, "::1"):
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        s.bind((address, 9977))
        s.listen()
        print(address)
    except OSError:
        pass
"#;
    node.sh(&format!("systemctl stop {UNIT}.service"));
    assert_eq!(node.run(&["setpriv", "--reuid=nobody", "--clear-groups", "python3", "-c", bind]).expect(0).out(), "");
    let status = node.emr_shs(&["status", "--json"]).expect(0).json();
    assert_eq!((&status["missing"], &status["gateway"]["says"]), (&json!([]), &json!("ready")), "{status}");
    // IPv4 is served whatever this says.
    node.sh("sysctl -qw net.ipv6.bindv6only=1");
    node.sh(&format!("systemctl stop {UNIT}.socket {UNIT}.service; systemctl start {UNIT}.service"));
    assert_eq!(node.sh("curl -s 127.0.0.1:9977/-/healthz; curl -s '[::1]:9977/-/healthz'"), "ok\nok\n");
    node.sh("sysctl -qw net.ipv6.bindv6only=0");
    // Another address: another socket.
    node.emr_shs(&["proxy", "install", "--listen", "127.0.0.1:9978"]).expect(0);
    let listeners = || node.sh("ss -Hltnp | grep -o '[^ ]*:997[0-9] .*'");
    assert!(listeners().starts_with("127.0.0.1:9978") && listeners().contains("systemd"), "{}", listeners());
    assert!(listeners().lines().count() == 1, "{}", listeners());
    let ran = node.emr_shs(&["proxy", "install", "--listen", "10.9.9.9:9977"]).expect(3);
    assert!(ran.err().contains("cannot listen on 10.9.9.9:9977"), "{}", ran.err());
    node.emr_shs(&["proxy", "install", "--listen", "[::]:9977"]).expect(0);

    // Without its socket the gateway still serves, and everybody is told.
    node.sh(&format!("systemctl stop {UNIT}.socket"));
    assert!(get_ok(node));
    let status = node.emr_shs(&["status"]).expect(0).out();
    assert!(status.contains(&format!("changed {UNIT}.socket")) && status.contains("does not run"), "{status}");
    assert!(node.emr_shs(&["doctor"]).expect(3).out().contains(&format!("{UNIT}.socket: does not run")));
    // Somebody takes the port meanwhile, and goes again.
    node.sh(&format!("systemctl stop {UNIT}"));
    let mut taken = node.spawn(&["python3", "-m", "http.server", "9977"]);
    wait("the port to be taken", || (node.run(&["curl", "-s", "localhost:9977"]).code() == 0).then_some(()));
    node.sh(&format!("systemctl start {UNIT} || true"));
    let doctor = node.emr_shs(&["doctor"]).expect(3).out();
    let doctor = doctor.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(doctor.contains("port 9977 answers, but the log gateway's unit is"), "{doctor}");
    node.sh("pkill -f '[h]ttp.server 9977'");
    taken.wait().unwrap();
    let is_active = || node.run(&["systemctl", "is-active", "-q", &format!("{UNIT}.socket")]).code() == 0;
    let is_ready = || node.run(&["curl", "-sf", "http://localhost:9977/-/readyz"]).code() == 0;
    wait("the socket", || (is_active() && is_ready()).then_some(()));
    let ran = node.emr_shs(&["proxy", "install"]).expect(0);
    assert!(ran.err().contains("nothing to do"), "{}", ran.err());
}

/// What a version leaves that has the service alone.
const EARLIER: &str = r#"
import json
path = "/var/lib/emr-shs/receipt.json"
text = open(path).read().replace("Wants=emr-shs-gateway.socket\\n", "")
receipt = json.loads(text)
receipt["entries"] = [e for e in receipt["entries"] if ".socket" not in json.dumps(e["resource"])]
json.dump(receipt, open(path, "w"))
"#;

fn the_port_of_an_earlier_version_becomes_a_socket(node: &Node) {
    let is_socket = || node.sh("ss -Hltnp 'sport = :9977'").contains("systemd");
    assert!(is_socket());
    let unit = format!("/etc/systemd/system/{UNIT}");
    node.sh(&format!(
        "systemctl disable -q --now {UNIT}.socket; rm {unit}.socket; sed -i '/^Wants=.*socket/d' {unit}.service
        systemctl daemon-reload; systemctl restart {UNIT}"
    ));
    node.run(&["python3", "-c", EARLIER]).expect(0);
    assert!(!is_socket() && get_ok(node));
    node.emr_shs(&["proxy", "install"]).expect(0);
    assert!(is_socket() && get_ok(node));
    let ran = node.emr_shs(&["proxy", "install"]).expect(0);
    assert!(ran.err().contains("nothing to do"), "{}", ran.err());
}
