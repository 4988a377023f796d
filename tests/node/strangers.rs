//! Other accounts of the node: what they put in the way of root, and what they could read afterwards.

use crate::helpers::command_output::{CommandOutput, assert_same_tree};
use crate::helpers::node::{LOGS, Node, Profile, script};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LOG: &str = "/var/log/spark/spark-history-server.out";
/// Makes a socket.
const SOCKET: &str =
    "runuser -u spark -- python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])'";
/// Accepts connections on port 9, and never answers.
const SILENT: &str = "import socket, time; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); \
                      s.bind(('127.0.0.1', 9)); s.listen(50); time.sleep(600)";
/// Holds the lock of emr-shs, and has the kernel give the files in /proc that show this process to root.
const UNSEEN_HOLDER: &str = "import ctypes, fcntl, time; ctypes.CDLL(None).prctl(4, 0); f = open('/run/emr-shs.lock'); \
                             fcntl.flock(f, 2); time.sleep(600)";
/// Answers on the log gateway's port, and prints what it was asked.
const LISTENER: &str = "import socket\ns = socket.socket(); s.setsockopt(1, 2, 1); s.bind(('127.0.0.1', 9977)); s.listen(50)\n\
    while True:\n\
    \x20 c, _ = s.accept(); print(c.recv(65536).decode())\n\
    \x20 c.sendall(b'HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok'); c.close()";
/// Starts a command, and sends it a signal two seconds after it has begun to listen for signals. Prints whether it had ended before, its
/// exit code, and whether it then ended soon.
const SIGNALLED: &str = "import signal, subprocess, sys, time\n\
    default = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)\n\
    p = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=default)\n\
    caught = 1 << getattr(signal, sys.argv[1]) - 1\n\
    def catches():\n\
    \x20   mask = open(f'/proc/{p.pid}/status').read().split('SigCgt:')[1].split()[0]\n\
    \x20   return int(mask, 16) & caught\n\
    while p.poll() is None and not catches(): time.sleep(0.05)\n\
    time.sleep(2)\n\
    ended = p.poll()\n\
    begun = time.time()\n\
    p.send_signal(getattr(signal, sys.argv[1]))\n\
    code = p.wait(60)\n\
    print(ended, code, time.time() - begun < 4)";

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn other_accounts_neither_stop_root_nor_use_it() {
    let node = Node::fresh(Profile::Emr712);
    // The history server's account owns the directory of its log.
    node.sh(&format!("mv {LOG} {LOG}.away; echo 'ERROR Exception of root' >/root/secret"));
    let pid = node.history_server_pid();
    for (puts, found) in [
        ("runuser -u spark -- mkfifo", "is a pipe"),
        ("runuser -u spark -- mkdir", "is a directory"),
        (SOCKET, "is a socket"),
        ("runuser -u spark -- ln -s /root/secret", "is a link that user"),
        ("ln /root/secret", "hard links"),
    ] {
        node.sh(&format!("{puts} {LOG}"));
        let begun = Instant::now();
        let (ran, took) = node.timed(&["emr-shs", "doctor", "-v", "--bundle", "/root/bundle.tar.gz"]);
        assert!(took < Duration::from_secs(20), "{took:?}");
        let ran = ran.expect(3);
        let bundle = node.sh("tar -xzOf /root/bundle.tar.gz; rm /root/bundle.tar.gz");
        assert!(!bundle.contains("Exception of root") && bundle.contains(found), "{bundle}");
        assert!(!ran.out().contains("Exception of root"), "{}", ran.out());
        let says = in_one_line(&ran.out());
        assert!(
            says.contains("FAIL server log the history server's log cannot be read") && says.contains(found),
            "{says}"
        );
        // Nobody can write into these, so a restarted server would not come back.
        if ["is a pipe", "is a directory", "is a socket"].contains(&found) {
            for command in [&["install", "--event-logs", LOGS][..], &["plan", "--event-logs", LOGS], &["restart"]] {
                let refused = node.emr_shs(command).expect(3);
                let says = in_one_line(&refused.err());
                assert!(says.contains("would not start again") && says.contains(found), "{says}");
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        } else {
            node.emr_shs(&["plan", "--event-logs", LOGS]).expect(0);
        }
        node.sh(&format!("rm -r {LOG}"));
    }
    assert_eq!(node.history_server_pid(), pid, "nobody restarted the server");
    node.sh(&format!("rm /root/secret; mv {LOG}.away {LOG}"));

    // A service that hangs.
    node.sh(&format!("systemd-run --quiet --unit=silent python3 -c \"{SILENT}\"; until (: </dev/tcp/127.0.0.1/9) 2>/dev/null; do sleep 0.05; done"));
    let hangs = ["--event-logs", "s3://acme-spark/x/", "--endpoint-url", "http://127.0.0.1:9"];
    for (signal, command) in [("SIGTERM", "doctor"), ("SIGINT", "install"), ("SIGTERM", "plan")] {
        let ran = node.run(&[&["python3", "-c", SIGNALLED, signal, "emr-shs", command], &hangs[..]].concat()).expect(0);
        assert_eq!(ran.out().trim(), "None 1 True", "{signal} {command}");
    }
    node.sh("systemctl stop silent");

    // Somebody holds the lock, which an earlier version let everybody read, and plants links where the store goes: now
    // one that stays, now one that comes and goes.
    const STORE: &str = "/mnt/emr-shs";
    node.sh(&format!(
        "touch /run/emr-shs.lock; chmod 644 /run/emr-shs.lock; chmod 1777 /mnt
        systemd-run --quiet --uid=nobody --unit=holder python3 -c \"{UNSEEN_HOLDER}\"
        systemd-run --quiet --uid=nobody --unit=planter bash -c \
            'while :; do ln -s /etc /mnt/emr-shs; rm -f /mnt/emr-shs; done' 2>/dev/null
        runuser -u games -- ln -s /etc /mnt/spare; sleep 1"
    ));
    let ran = node.emr_shs(&["install", "--event-logs", LOGS]);
    assert!([0, 5].contains(&ran.code()), "{}: {}", ran.code(), ran.err());
    let is_made = format!("systemctl stop holder planter; test ! -L {STORE} -a -d {STORE} && echo made || true");
    assert_eq!(ran.code() == 0, node.sh(&is_made) == "made\n", "{}: {}", ran.code(), ran.err());
    node.sh(&format!("rm -rf {STORE}; mv -T /mnt/spare {STORE}"));
    let ran = node.emr_shs(&["install", "--event-logs", LOGS]).expect(5);
    let says = in_one_line(&ran.err());
    assert!(
        says.contains("missing local store") && says.contains("/mnt/emr-shs is a symbolic link of user games"),
        "{says}"
    );
    assert_eq!(
        (node.reads().as_str(), node.sh(&format!("stat -c '%U %N' {STORE}")).trim()),
        (LOGS, "games '/mnt/emr-shs' -> '/etc'")
    );
    assert_eq!(node.sh("stat -c '%U %a' /etc"), "root 755\n");
    node.sh(&format!("rm {STORE}; chmod 755 /mnt"));
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    assert_eq!(node.sh(&format!("stat -c '%U %a' {STORE}")), "root 755\n");
    assert_eq!(node.sh("stat -c '%U %a' /run/emr-shs.lock"), "root 600\n");

    // The next account could get the numbers of the account that goes.
    node.sh(
        "cd /etc/emr-shs; echo KEY >key.pem; echo a:b >users; chgrp emr-shs key.pem users; chmod 640 key.pem users",
    );
    give_password_to_no_stranger(&node);
    node.sh(&format!("mv {LOG} {LOG}.away; runuser -u spark -- mkfifo {LOG}"));
    let refused = node.emr_shs(&["uninstall"]).expect(3);
    assert!(in_one_line(&refused.err()).contains("would not start again"), "{}", refused.err());
    assert_eq!(node.reads(), LOGS);
    node.sh(&format!("mv {LOG}.away {LOG}"));
    let ran = node.emr_shs(&["uninstall"]).expect(0);
    assert!(ran.err().contains("/etc/emr-shs/key.pem") && ran.err().contains("only root may read it"), "{}", ran.err());
    assert_eq!(node.sh("stat -c '%U %G %a' /etc/emr-shs/key.pem /etc/emr-shs/users"), "root root 600\nroot root 600\n");
    node.sh("rm -r /etc/emr-shs");
}

/// A user's password goes to the log gateway, and not to whoever listens on its port while it is down.
fn give_password_to_no_stranger(node: &Node) {
    node.sh(&format!(
        "systemctl stop emr-shs-gateway.socket emr-shs-gateway.service
         systemd-run --quiet --uid=nobody --unit=listener -p StandardOutput=file:/root/heard python3 -uc \"{LISTENER}\"; sleep 1"
    ));
    let ran = node.run(&["env", "EMR_SHS_LOGIN=alice:wonderland", "emr-shs", "verify"]);
    assert_ne!(ran.code(), 0, "{}{}", ran.out(), ran.err());
    let heard = node.sh("systemctl stop listener; cat /root/heard");
    assert!(heard.contains("GET /") && !heard.to_lowercase().contains("authorization"), "{heard}");
    node.sh("rm /root/heard; systemctl start emr-shs-gateway.socket");
}

/// Mounts a file system that answers nothing on a directory of a node, once another file of the node exists. From the end
/// of its standard input on, every file of the file system gives an error.
const HANGING: &str = "import ctypes, os, sys, time\n\
    pid, path, after = sys.argv[1:]\n\
    libc = ctypes.CDLL(None, use_errno=True)\n\
    fuse = os.open('/dev/fuse', os.O_RDWR)\n\
    def must(result):\n\
    \x20   if result: raise OSError(ctypes.get_errno(), path)\n\
    must(libc.setns(os.open(f'/proc/{pid}/ns/mnt', os.O_RDONLY), 0))\n\
    print('waits', flush=True)\n\
    while not os.path.exists(after): time.sleep(0.0005)\n\
    options = f'fd={fuse},rootmode=40755,user_id=0,group_id=0,allow_other'\n\
    must(libc.mount(b'hanging', path.encode(), b'fuse', 0, options.encode()))\n\
    print('hangs', flush=True)\n\
    sys.stdin.read()";

struct Hanging {
    server: Child,
    says: BufReader<std::process::ChildStdout>,
}

impl Hanging {
    fn on(node: &Node, path: &str, after: &str) -> Self {
        let pid = String::from_utf8(script(&["pid", node.name()]).stdout).unwrap();
        let mut server = Command::new("python3");
        server.args(["-c", HANGING, pid.trim(), path, after]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = server.spawn().unwrap();
        let mut hanging = Self { says: BufReader::new(server.stdout.take().unwrap()), server };
        hanging.wait_until("waits");
        hanging
    }

    #[track_caller]
    fn wait_until(&mut self, wanted: &str) {
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), wanted);
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        let _ = self.server.wait();
    }
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn whatever_hangs_or_is_left_in_the_environment_a_command_ends_as_it_should() {
    const CONF: &str = "/etc/spark/conf.dist";
    let node = Node::fresh(Profile::Emr712);
    let before = node.tree();

    // A file system that hangs in the middle of the changes, and two signals.
    let mut hanging = Hanging::on(&node, CONF, "/var/lib/emr-shs/receipt.json");
    let install = "emr-shs install --event-logs $0; code=$?; date +%s%3N >/run/ended; exit $code";
    let child = node.spawn(&["bash", "-c", install, LOGS]);
    hanging.wait_until("hangs");
    std::thread::sleep(Duration::from_millis(1500));
    let begun = node.sh("date +%s%3N; pkill -TERM -x emr-shs; sleep 0.1; pkill -TERM -x emr-shs || true");
    let ran = CommandOutput(child.wait_with_output().unwrap());
    let took = node.sh(&format!("echo $(($(cat /run/ended) - {}))", begun.trim()));
    assert!(took.trim().parse::<i64>().unwrap() < 3000, "{took}");
    let says = in_one_line(&ran.err());
    assert_eq!(ran.code(), 1, "{says}");
    assert!(says.contains("interrupted while /etc/spark/conf") && says.contains("hangs"), "{says}");
    assert!(
        says.contains("the receipt lists what it has changed") && says.contains("sudo emr-shs uninstall"),
        "{says}"
    );
    for (signal, command) in [("SIGINT", "doctor"), ("SIGINT", "status"), ("SIGTERM", "verify"), ("SIGTERM", "plan")] {
        let ran = node.run(&["python3", "-c", SIGNALLED, signal, "emr-shs", command]).expect(0);
        assert_eq!(ran.out().trim(), "None 1 True", "{signal} {command}");
    }
    // Without a signal doctor ends, too, and says what hangs. It has the file system to itself: the kernel lets a process
    // that waits for what another one is looking up not even be killed.
    let ran = node.emr_shs(&["doctor"]);
    let says = in_one_line(&ran.err());
    assert!(ran.code() == 1 && says.contains("doctor has not finished within 20 s"), "{says}");
    drop(hanging);
    node.sh(&format!("umount -l {CONF}"));
    node.emr_shs(&["uninstall"]).expect(0);
    assert_same_tree(&before, &node.tree());

    // A systemd that hangs.
    node.sh("printf '#!/bin/sh\\nexec sleep 600\\n' >/root/hangs; chmod 755 /root/hangs");
    let without_answer = |command| {
        let line = format!("mount --bind /root/hangs /usr/bin/systemctl; exec emr-shs {command}");
        node.spawn(&["unshare", "-m", "bash", "-c", &line])
    };
    let begun = Instant::now();
    for child in ["doctor", "status", "install --event-logs s3://acme-spark/events/"].map(without_answer) {
        let ran = CommandOutput(child.wait_with_output().unwrap());
        let says = in_one_line(&ran.err());
        let wanted = "systemd does not answer: systemctl show spark-history-server.service did not end within 10 s";
        assert!(ran.code() != 0 && says.contains(wanted) && says.contains("journalctl"), "{says}");
    }
    assert!(begun.elapsed() < Duration::from_secs(16), "{:?}", begun.elapsed());
    node.sh("rm /root/hangs");

    // Processes that only root sees.
    for (hidden, user) in [(1, "hadoop"), (2, "hadoop"), (2, "root")] {
        let line = format!(
            "mount -t proc -o hidepid={hidden} proc /proc; exec runuser -u {user} -- /usr/local/bin/emr-shs status"
        );
        let ran = node.run(&["unshare", "-m", "bash", "-c", &line]).expect(0);
        assert!(ran.out().contains("answers on port 18080"), "hidepid={hidden} {user}: {}", ran.out());
    }

    // Programs and settings that a shell's profile, or sudo -E, leaves in the environment.
    node.sh(
        "mkdir /tmp/theirs; cd /tmp/theirs; printf '#!/bin/sh\\ntouch /tmp/theirs/ran\\n' >systemctl
        chmod 755 systemctl; for name in journalctl useradd userdel setpriv java sh bash runuser; do cp systemctl $name; done",
    );
    let theirs = [
        "PATH=/tmp/theirs:/usr/local/bin:/usr/bin:/bin",
        "BASH_ENV=/tmp/theirs/sh",
        "ENV=/tmp/theirs/sh",
        "JAVA_TOOL_OPTIONS=-Dno=such -XX:NoSuchOption",
        "HADOOP_CLASSPATH=/tmp/theirs",
        "TMPDIR=/tmp/theirs",
    ];
    for command in [&["install", "--event-logs", LOGS][..], &["uninstall"]] {
        node.run(&[&["env"], &theirs[..], &["/usr/local/bin/emr-shs"], command].concat()).expect(0);
    }
    assert_eq!(node.sh("ls /tmp/theirs/ran 2>&1 || true; ls /tmp/theirs | wc -l").lines().last(), Some("9"));
    node.sh("rm -r /tmp/theirs");
    assert_same_tree(&before, &node.tree());
}

/// Takes back the line ends of a report.
fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
