//! Other accounts of the node: what they put in the way of root, and what they could read afterwards.

use crate::helpers::node::{LOGS, Node, Profile};
use std::time::{Duration, Instant};

const LOG: &str = "/var/log/spark/spark-history-server.out";
/// Accepts connections on port 9, and never answers.
const SILENT: &str = "import socket, time; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); \
                      s.bind(('127.0.0.1', 9)); s.listen(50); time.sleep(600)";
/// Starts a command, sends it a signal after two seconds, and prints how long it then took, and its exit code.
const SIGNALLED: &str = "import signal, subprocess, sys, time\n\
    default = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)\n\
    p = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=default)\n\
    time.sleep(2)\n\
    ended = p.poll()\n\
    begun = time.time()\n\
    p.send_signal(getattr(signal, sys.argv[1]))\n\
    code = p.wait(60)\n\
    print(ended, code, time.time() - begun < 1)";

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn other_accounts_neither_stop_root_nor_use_it() {
    let node = Node::fresh(Profile::Emr712);
    // The history server's account owns the directory of its log.
    node.sh(&format!("mv {LOG} {LOG}.away; runuser -u spark -- mkfifo {LOG}"));
    let begun = Instant::now();
    node.emr_shs(&["doctor"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    node.sh(&format!("echo 'Exception of root' >/root/secret; rm {LOG}; runuser -u spark -- ln -s /root/secret {LOG}"));
    let ran = node.emr_shs(&["doctor", "-v"]);
    assert!(!ran.out().contains("Exception of root"), "{}", ran.out());
    node.sh(&format!("rm {LOG} /root/secret; mv {LOG}.away {LOG}"));

    // A service that hangs.
    node.sh(&format!("systemd-run --quiet --unit=silent python3 -c \"{SILENT}\"; sleep 1"));
    let hangs = ["--event-logs", "s3://acme-spark/x/", "--endpoint-url", "http://127.0.0.1:9"];
    for (signal, command) in [("SIGTERM", "doctor"), ("SIGINT", "install"), ("SIGTERM", "plan")] {
        let ran = node.run(&[&["python3", "-c", SIGNALLED, signal, "emr-shs", command], &hangs[..]].concat()).expect(0);
        assert_eq!(ran.out().trim(), "None 1 True", "{signal} {command}");
    }
    node.sh("systemctl stop silent");

    // Somebody holds the lock, which an earlier version let everybody read, and plants links where the store goes.
    node.sh("touch /run/emr-shs.lock; chmod 644 /run/emr-shs.lock; chmod 777 /mnt
        systemd-run --quiet --uid=nobody --unit=holder flock /run/emr-shs.lock sleep 600
        systemd-run --quiet --uid=nobody --unit=planter bash -c \
            'while :; do ln -s /etc /mnt/spark-history; rm -f /mnt/spark-history; done'; sleep 1");
    node.emr_shs(&["install", "--event-logs", LOGS]);
    node.sh("systemctl stop holder planter; chmod 755 /mnt; rm -f /mnt/spark-history 2>/dev/null || true");
    assert_eq!(node.sh("stat -c '%U %a' /etc"), "root 755\n");
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    assert_eq!(node.sh("stat -c '%U %a' /run/emr-shs.lock"), "root 600\n");

    // The next account could get the numbers of the account that goes.
    node.sh(
        "cd /etc/emr-shs; echo KEY >key.pem; echo a:b >users; chgrp emr-shs key.pem users; chmod 640 key.pem users",
    );
    let ran = node.emr_shs(&["uninstall"]).expect(0);
    assert!(ran.err().contains("/etc/emr-shs/key.pem") && ran.err().contains("only root may read it"), "{}", ran.err());
    assert_eq!(node.sh("stat -c '%U %G %a' /etc/emr-shs/key.pem /etc/emr-shs/users"), "root root 600\nroot root 600\n");
    node.sh("rm -r /etc/emr-shs");
}
