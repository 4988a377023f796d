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
    assert_eq!(node.sh(&format!("systemd-analyze verify /etc/systemd/system/{UNIT}.service 2>&1")), "");
    let facts = node.sh(&format!("cat /proc/{process}/status"));
    assert!(facts.contains("NoNewPrivs:\t1") && facts.contains("CapBnd:\t0000000000000000"), "{facts}");
    let user = node.sh(&format!("stat -c %U /proc/{process}"));
    assert_eq!(user.trim(), "emr-shs");
    // systemd restarts it when it is killed. When it is stopped, `status` says so and `install` starts it.
    node.sh(&format!("kill -9 {process}"));
    wait("systemd to start it again", || (pid() != process && get_ok(&node)).then_some(()));
    node.sh(&format!("systemctl stop {UNIT}"));
    let status = node.emr_shs(&["status"]).expect(0).out();
    assert!(status.contains("nothing answers on port 9977"), "{status}");
    node.emr_shs(&["proxy", "install"]).expect(0);
    assert!(get_ok(&node));
    // It starts at boot.
    assert_eq!(node.sh(&format!("systemctl is-enabled {UNIT}")).trim(), "enabled");

    // A newer program replaces the older one, except when it does not start.
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

    // `uninstall` with the older program removes it without a trace.
    node.emr_shs(&["uninstall"]).expect(0);
    assert_same_tree(&before, &node.tree());
    assert_eq!(node.sh("getent passwd emr-shs || true"), "");
    assert_eq!(node.sh(&format!("systemctl is-active {UNIT} || true")).trim(), "inactive");

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
