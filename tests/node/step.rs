//! `packaging/step` and `packaging/bootstrap`, run as EMR runs them: exit codes, logs in S3, and what a failure leaves behind.

use crate::helpers::command_output::assert_same_tree;
use crate::helpers::emr_scripts::{BINARIES, EmrNode, ScriptKind, ScriptOutcome};
use crate::helpers::node::{LOGS, Node, Profile};
use crate::helpers::wait::wait;
use std::thread;

/// An argument with characters that a shell treats specially.
const TITLE: &str = "spark.history.ui.title=It's $5 * \"x\" \\n `id`";
/// A short scan interval, so that `verify` does not wait a minute.
const SCANS: &[&str] = &["--set", "spark.history.fs.update.interval=2s"];

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn a_step_installs_once_and_can_be_stopped() {
    let emr = EmrNode::new(Node::fresh(Profile::Emr712), "bash");
    let node = &emr.node;
    let first = [&["--event-logs", LOGS, "--verify", "--set", TITLE], SCANS].concat();
    let told = emr.runs_true(ScriptKind::Step, "s-FIRST", &[&["--"], &first[..]].concat());
    let told = told.expect(
        0,
        &[
            "emr-shs step on ip-172-31-59-96, x86_64",
            &format!("copied {BINARIES}emr-shs-x86_64"),
            "installed /usr/bin/emr-shs, emr-shs ",
            "sudo emr-shs install --if-primary --event-logs s3://acme-spark/events/ --verify --set 'spark.history.ui.title=It'\\''s $5",
            "ok      s3://acme-spark/events/",
            "ok      history server",
            "PASS  log ",
            "step: done after ",
        ],
    );
    assert_eq!(told.err, "", "nothing failed");
    assert_eq!(emr.leftovers(), "/usr/bin/emr-shs\n");
    assert_eq!(node.sh("stat -c '%a %U %G' /usr/bin/emr-shs"), "755 root root\n");
    let defaults = node.sh("grep ^spark.history.ui.title /etc/spark/conf/spark-defaults.conf");
    let written = r#"It's $5 * "x" \\n `id`"#;
    assert!(defaults.trim_end().ends_with(written), "{defaults}");
    // The commands that messages recommend work for a user who comes by ssh.
    let status = emr.ssh("sudo emr-shs status").expect(0).out();
    assert!(status.contains("reads s3://acme-spark/events/"), "{status}");

    let pid = node.history_server_pid();
    // The checksum may be in capital letters.
    let sum = emr.sha256.to_uppercase();
    let again =
        emr.runs(ScriptKind::Step, "s-AGAIN", &["--binaries", BINARIES, "--sha256-x86_64", &sum, "--event-logs", LOGS]);
    again.expect(0, &["/usr/bin/emr-shs has the given sha256 already: nothing to copy", "nothing to do"]);
    assert_eq!(node.history_server_pid(), pid, "a second run restarts nothing");

    // EMR stops the step while the history server starts. It must not signal root's processes, so the script does.
    let before = node.sh("cat /etc/spark/conf/spark-defaults.conf");
    node.sh("echo START_DELAY=10 >/etc/default/spark-history-server");
    let stopped = thread::scope(|scope| {
        let step = scope
            .spawn(|| emr.runs_true(ScriptKind::Step, "s-STOPPED", &["--set", "spark.history.ui.maxApplications=7"]));
        wait("the restart", || {
            node.sh("cat /mnt/var/log/hadoop/steps/s-STOPPED/stdout || true").contains("\nrestart ").then_some(())
        });
        node.sh("runuser -u hadoop -- pkill -TERM -o -f steps/s-STOPPED/step");
        step.join().unwrap()
    });
    node.sh("rm /etc/default/spark-history-server");
    stopped
        .failed(143, &["error: stopped by SIGTERM"])
        .expect(143, &["put back: ", "answers again from s3://acme-spark/events/"]);
    assert_eq!(node.sh("cat /etc/spark/conf/spark-defaults.conf"), before);
    assert_eq!(emr.leftovers(), "/usr/bin/emr-shs\n");

    // The message and exit code of a failed `install` are those of the step.
    node.sh(r#"/opt/lab/s3 user limited limitedsecret user; echo limited >/etc/lab/session-user
        cp -p /etc/hadoop/conf/core-site.xml /root/
        sed -i 's/>labroot</>limited</; s/>labrootsecret</>limitedsecret</' /etc/hadoop/conf/core-site.xml"#);
    let refused = emr.runs_true(ScriptKind::Step, "s-REFUSED", &["--event-logs", "s3://acme-spark/other/"]);
    refused.failed(
        3,
        &["error: the role EMR_EC2_DefaultRole is not allowed to", "hint: ", "step: failed with exit code 3"],
    );
    let odd = "two\nlines  *\t$HOME";
    let usage = emr.runs_true(ScriptKind::Step, "s-USAGE", &["--event-logs", LOGS, odd]);
    usage.failed(2, &[&format!("error: unexpected argument '{odd}' found"), "step: failed with exit code 2"]);
    node.sh("rm /etc/lab/session-user; cp -p /root/core-site.xml /etc/hadoop/conf/");
    // The program stays, so that the user can run `doctor`.
    let doctor = emr.ssh("sudo emr-shs doctor").expect(0).out();
    assert!(doctor.contains(" PASS"), "{doctor}");
}

/// One failure: lines of shell that cause and mend it, and the exit code and words of the step.
struct Case<'a> {
    name: &'a str,
    given: &'a str,
    mend: &'a str,
    args: Vec<&'a str>,
    code: i32,
    says: &'a [&'a str],
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn a_failed_step_says_why_and_leaves_nothing_behind() {
    let emr = EmrNode::new(Node::fresh(Profile::Emr71), "dash");
    let node = &emr.node;
    let lines = |text: &str| -> Vec<String> { text.lines().map(Into::into).collect() };
    // Files that are not the binary: a truncated one, another text, and one for another CPU with a correct checksum.
    let sums =
        lines(&node.sh("cd /srv; mkdir short other arm; head -c 9000000 release/emr-shs-x86_64 >short/emr-shs-x86_64
         echo 'not a program' >other/emr-shs-x86_64
         cp release/emr-shs-x86_64 arm; printf '\\267' | dd of=arm/emr-shs-x86_64 bs=1 seek=18 conv=notrunc status=none
         for kind in short other arm; do /opt/lab/s3 put-tree $kind s3://acme-spark/$kind/; done
         sha256sum other/emr-shs-x86_64 arm/emr-shs-x86_64 | cut -c-64"));
    let sum = emr.sha256.as_str();
    let (no_digits, false_sum) = ("g".repeat(64), "0".repeat(64));
    let before = node.tree();
    let from = |binaries, sum| vec!["--binaries", binaries, "--sha256-x86_64", sum, "--event-logs", LOGS];
    let usual = || from(BINARIES, sum);
    let case = |name, args, code, says| Case { name, given: "", mend: "", args, code, says };
    let caused = |name, given, mend, says| Case { name, given, mend, args: usual(), code: 1, says };
    let full = "for dir in /tmp /var/tmp /mnt/var/lib/hadoop; do mkdir -p $dir; /opt/lab/small-disk $dir 4; done; chmod 1777 /tmp /var/tmp";
    let roomy = "for dir in /tmp /var/tmp /mnt/var/lib/hadoop; do umount $dir; done";
    // A full disk at /usr/bin, with the files of the real one below it.
    let full_target = "/opt/lab/small-disk /srv/small 4; mkdir /srv/small/{upper,work}
        mount -t overlay small -o lowerdir=/usr/bin,upperdir=/srv/small/upper,workdir=/srv/small/work /usr/bin";
    let denied = r#"/opt/lab/s3 user limited limitedsecret user; echo limited >/etc/lab/session-user"#;
    let fake_cpu =
        "printf '#!/bin/sh\\ncase $1 in -m) echo riscv64 ;; *) exec /usr/bin/uname.real \"$@\" ;; esac\\n' >/srv/uname
        cp -p /usr/bin/uname /usr/bin/uname.real; chmod 755 /srv/uname; mount --bind /srv/uname /usr/bin/uname";
    let cases = [
        case(
            "sum of something else",
            from(BINARIES, &false_sum),
            1,
            &["error: s3://acme-spark/emr-shs/emr-shs-x86_64 is not the expected binary", "wanted 0000"],
        ),
        case("malformed sum", from(BINARIES, "abc"), 2, &["error: --sha256-x86_64 is 'abc'"]),
        case("a sum's length of no digits", from(BINARIES, &no_digits), 2, &["error: --sha256-x86_64 is 'ggg"]),
        case(
            "no sum for this CPU",
            vec!["--binaries", BINARIES, "--sha256-aarch64", sum],
            2,
            &["error: --sha256-x86_64 is missing", "x86_64 is this node's CPU"],
        ),
        case(
            "no binaries",
            vec!["--event-logs", LOGS, "--binaries", BINARIES],
            2,
            &["error: --binaries is missing; it comes before"],
        ),
        case("no value", vec!["--binaries"], 2, &["error: --binaries needs a value"]),
        case(
            "not in S3",
            from("https://acme-spark/emr-shs/", sum),
            2,
            &["error: --binaries is 'https://acme-spark/emr-shs/', wanted s3://"],
        ),
        case(
            "cut short",
            from("s3://acme-spark/short/", sum),
            1,
            &["error: s3://acme-spark/short/emr-shs-x86_64 is not the expected binary"],
        ),
        case(
            "other content",
            from("s3://acme-spark/other/", sum),
            1,
            &["error: s3://acme-spark/other/emr-shs-x86_64 is not the expected binary"],
        ),
        case(
            "no program, true sum",
            from("s3://acme-spark/other", &sums[0]),
            1,
            &["error: cannot execute s3://acme-spark/other/emr-shs-x86_64"],
        ),
        case(
            "another CPU's program, true sum",
            from("s3://acme-spark/arm", &sums[1]),
            1,
            &["error: cannot execute s3://acme-spark/arm/emr-shs-x86_64", "this node's CPU, x86_64"],
        ),
        case(
            "no object",
            from("s3://acme-spark/nowhere/", sum),
            1,
            &["error: could not copy s3://acme-spark/nowhere/emr-shs-x86_64: it is not there"],
        ),
        case(
            "no bucket",
            from("s3://acme-nowhere/", sum),
            1,
            &["error: could not copy s3://acme-nowhere/emr-shs-x86_64: it is not there"],
        ),
        caused(
            "access denied",
            denied,
            "rm /etc/lab/session-user",
            &[
                "(403)",
                "error: could not copy s3://acme-spark/emr-shs/emr-shs-x86_64: S3 does not let",
                "hint: allow s3:GetObject",
            ],
        ),
        caused(
            "no aws",
            "mv /usr/bin/aws /srv/aws",
            "mv /srv/aws /usr/bin/aws",
            &["error: there is no 'aws' on this node"],
        ),
        caused(
            "S3 breaks off",
            r#"/opt/lab/s3-fault on; echo '{"refuse":[{"method":"GET","match":"emr-shs-x86","status":400,"code":"ExpiredToken","message":"The provided token has expired."}]}' >/etc/lab/s3-fault.json"#,
            "/opt/lab/s3-fault off",
            &[
                "ExpiredToken",
                "error: could not copy s3://acme-spark/emr-shs/emr-shs-x86_64: aws ended with exit code 1",
            ],
        ),
        caused(
            "disks full",
            full,
            roomy,
            &["No space left on device", "error: could not copy s3://acme-spark/emr-shs/emr-shs-x86_64: the disk of "],
        ),
        caused(
            "disk of /usr/bin full",
            full_target,
            "umount --lazy /usr/bin /srv/small; rm -d /srv/small",
            &["error: could not install /usr/bin/emr-shs: ", "No space left on device"],
        ),
        caused(
            "a directory is in its place",
            "mkdir /usr/bin/emr-shs",
            "rmdir /usr/bin/emr-shs",
            &["error: could not install /usr/bin/emr-shs: ", "directory"],
        ),
        caused(
            "no such CPU",
            fake_cpu,
            "umount /usr/bin/uname; rm /usr/bin/uname.real",
            &["error: this node's CPU is riscv64; there are binaries for x86_64 and aarch64"],
        ),
        caused(
            "no sudo",
            "mv /etc/sudoers.d/hadoop /srv/sudoers",
            "mv /srv/sudoers /etc/sudoers.d/hadoop",
            &["error: user hadoop cannot use sudo on this node: "],
        ),
    ];
    for (i, case) in cases.iter().enumerate() {
        if !case.given.is_empty() {
            node.sh(case.given);
        }
        // Before mending: removing a small disk removes the files that were left on it.
        let there = emr.leftovers();
        let told = emr.runs(ScriptKind::Step, &format!("s-{i}"), &case.args);
        assert_eq!(emr.leftovers(), there, "{}", case.name);
        if !case.mend.is_empty() {
            node.sh(case.mend);
        }
        eprintln!("== {}: {}", case.name, told.out);
        told.failed(case.code, case.says);
        assert_eq!(emr.leftovers(), "", "{}", case.name);
    }

    // EMR stops the step while it copies.
    node.sh(r#"/opt/lab/s3-fault on; echo '{"refuse":[{"method":"GET","match":"emr-shs-x86_64","hang":true}]}' >/etc/lab/s3-fault.json"#);
    let stopped = thread::scope(|scope| {
        let step = scope.spawn(|| emr.runs_true(ScriptKind::Step, "s-HANGS", &["--event-logs", LOGS]));
        wait("aws to begin", || node.sh("pgrep -f 'aws s3 c[p]' || true").lines().next().map(|_| ()));
        node.sh("runuser -u hadoop -- pkill -TERM -o -f steps/s-HANGS/step");
        step.join().unwrap()
    });
    node.sh("/opt/lab/s3-fault off");
    stopped.failed(143, &["error: stopped by SIGTERM"]);
    assert_eq!(emr.leftovers(), "");

    // The same failure of a bootstrap action ends the cluster, except with --continue-on-failure.
    let nowhere = from("s3://acme-spark/nowhere/", sum);
    let ends = emr.runs(ScriptKind::BootstrapAction, "1", &nowhere);
    assert!(ends.emr.contains("the instance would be terminated"), "{ends:?}");
    ends.failed(1, &["it is not there", "bootstrap: failed with exit code 1", "hint: EMR now ends the cluster"]);
    let lives = emr.runs(ScriptKind::BootstrapAction, "2", &[&["--continue-on-failure"], &nowhere[..]].concat());
    assert!(!lives.emr.contains("terminated"), "{lives:?}");
    lives.failed(0, &["it is not there", "bootstrap: failed with exit code 1", "the cluster runs without emr-shs"]);

    // On a node that is not the primary the script does nothing, even with wrong arguments.
    let instance = node.path("/mnt/var/lib/info/instance.json");
    let primary = std::fs::read_to_string(&instance).unwrap();
    std::fs::write(&instance, primary.replace("true", "false")).unwrap();
    for (how, id) in [(ScriptKind::Step, "s-WORKER"), (ScriptKind::BootstrapAction, "3")] {
        passes_by(&emr.runs(how, id, &nowhere), 1);
        passes_by(&emr.runs(how, id, &["--binaries"]), 1);
    }
    // If instance.json does not say which node this is, emr-shs finds out.
    std::fs::write(&instance, "{}").unwrap();
    node.sh("cd /mnt/var/lib/info; cp -p extraInstanceData.json /srv/; sed -i '/\"instanceRole\"/s/master/core/' extraInstanceData.json");
    passes_by(&emr.runs_true(ScriptKind::Step, "s-WORKER", &["--event-logs", LOGS]), 6);
    node.sh("cp -p /srv/extraInstanceData.json /mnt/var/lib/info/; rm -f /usr/bin/emr-shs");
    std::fs::write(&instance, primary).unwrap();

    node.sh("rm -r /mnt/var/lib/hadoop");
    assert_same_tree(&before, &node.tree());
}

/// Fails unless the script exited with 0, said that this is not the primary node, and wrote nothing to stderr.
#[track_caller]
fn passes_by(told: &ScriptOutcome, lines: usize) {
    assert_eq!((told.code, told.out.lines().count(), told.err.as_str()), (0, lines, ""), "{told:?}");
    assert!(told.out.contains("not the primary node: nothing to do here\n"), "{told:?}");
}
