//! The static binary of a release on a node: on an old kernel, and with the authorities that Amazon Linux trusts.

use crate::helpers::command_output::assert_same_tree;
use crate::helpers::node::{LOG_URI, LOGS, Node, Profile};
use crate::helpers::release_files::{OLD_KERNEL, release_binary};
use std::collections::BTreeSet;

/// systemd's names of the system calls that are newer than Linux 4.14, as far as systemd 252 knows them.
const NEW_CALLS: &str = "io_pgetevents rseq pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree \
    move_mount fsopen fsconfig fsmount fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise \
    epoll_pwait2 mount_setattr quotactl_fd landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret \
    process_mrelease futex_waitv";

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_static_binary_works_on_an_old_kernel() {
    let node = Node::fresh(Profile::Emr712);
    node.copy(OLD_KERNEL, "/opt/lab/old-kernel.py");
    node.copy(&release_binary("x86_64"), "/usr/local/bin/emr-shs");
    // systemd starts the gateway, so the filter has to be in its unit, in the place of the unit's own.
    let unit = "/run/systemd/system/emr-shs-gateway.service.d/old-kernel.conf";
    node.sh(&format!(
        "mkdir -p $(dirname {unit}); printf '[Service]\\nSystemCallFilter=\\nSystemCallFilter=~{NEW_CALLS}\\nSystemCallErrorNumber=ENOSYS\\n' >{unit}"
    ));
    let before = node.tree();
    let old = |args: &[&str]| node.run(&[&["/opt/lab/old-kernel.py", "emr-shs"], args].concat());
    old(&["install", "--event-logs", LOGS, "--log-uri", LOG_URI]).expect(0);
    let filter = node.sh("systemctl show -P SystemCallErrorNumber -P SystemCallFilter emr-shs-gateway");
    let refused: BTreeSet<&str> = filter.split(['~', ' ', '\n']).filter(|call| !call.is_empty()).collect();
    assert_eq!(refused, NEW_CALLS.split(' ').chain(["38"]).collect(), "the gateway is under the filter");
    old(&["verify"]).expect(0);
    old(&["status"]).expect(0);
    old(&["doctor"]).expect(0);
    old(&["uninstall"]).expect(0);
    assert_same_tree(&before, &node.tree());
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_static_binary_trusts_the_authorities_of_amazon_linux() {
    let node = Node::fresh(Profile::Emr712);
    node.copy(&release_binary("x86_64"), "/usr/local/bin/emr-shs");
    // S3 behind TLS, with a certificate of an authority that only this node knows.
    node.copy(concat!(env!("CARGO_MANIFEST_DIR"), "/lab/stand-ins/tls-front.py"), "/opt/lab/tls-front.py");
    node.sh(
        "cd /root && openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=lab-authority -days 2 -keyout ca.key -out ca.pem 2>&1
        openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout tls.key -out tls.csr 2>&1
        printf 'subjectAltName=DNS:localhost' >san
        openssl x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out tls.pem 2>&1
        systemd-run -q --unit lab-tls python3 /opt/lab/tls-front.py 7443 7070 /root/tls.pem /root/tls.key
        until (: </dev/tcp/127.0.0.1/7443) 2>/dev/null; do sleep 0.05; done",
    );
    // Amazon Linux keeps its authorities in this file, and has no /etc/ssl.
    node.sh("mv /etc/ssl /etc/ssl.away; mkdir -p /etc/pki/tls/certs; cp /etc/ssl.away/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt");
    let prefix = ["prefix", "--event-logs", "s3://acme-spark/trust/", "--endpoint-url", "https://localhost:7443"];
    let refused = node.emr_shs(&prefix).expect(3);
    assert!(refused.err().contains("certificate"), "{}", refused.err());
    assert!(!node.s3_has("s3://acme-spark/trust/"));
    node.sh("cat /root/ca.pem >>/etc/pki/tls/certs/ca-bundle.crt");
    node.emr_shs(&prefix).expect(0);
    assert!(node.s3_has("s3://acme-spark/trust/"));
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_static_binary_finds_names_where_a_resolver_refuses_questions_for_ipv6() {
    let node = Node::fresh(Profile::Emr712);
    node.copy(&release_binary("x86_64"), "/usr/local/bin/emr-shs");
    node.copy(concat!(env!("CARGO_MANIFEST_DIR"), "/lab/stand-ins/resolver.py"), "/opt/lab/resolver.py");
    node.sh("echo 'nameserver 127.0.0.1' >/etc/resolv.conf");
    let with_resolver = |kind: &str, wanted: i32| {
        node.sh(&format!("systemd-run -q --unit lab-resolver python3 /opt/lab/resolver.py {kind}; until ss -lun | grep -q 127.0.0.1:53; do sleep 0.05; done"));
        let prefix = format!("s3://acme-spark/{kind}/");
        let done = node.emr_shs(&[
            "prefix",
            "--event-logs",
            &prefix,
            "--endpoint-url",
            "http://s3.eu-west-3.example.com:7070",
        ]);
        node.sh("systemctl stop lab-resolver");
        let done = done.expect(wanted);
        assert_eq!(node.s3_has(&prefix), wanted == 0, "{}", done.err());
        done.err()
    };
    for kind in ["refused", "servfail", "silent"] {
        with_resolver(kind, 0);
    }
    let told = with_resolver("nothing", 3);
    let wanted = "DNS gives no address of s3.eu-west-3.example.com: the resolver 127.0.0.1 (/etc/resolv.conf) did not answer, or refused to";
    assert!(told.contains(wanted), "{told}");
}
