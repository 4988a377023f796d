//! The gateway's TLS, as testssl.sh and browsers see it.

use crate::helpers::ports::unused_port;
use crate::helpers::wait::wait;
use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tempfile::TempDir;

/// What testssl.sh finds because an authority of our own has signed the certificate, and because of the openssl of this
/// machine.
const OF_THIS_MACHINE: [&str; 2] = ["cert_revocation", "engine_problem"];

/// The openssl that testssl.sh runs. With TLS 1.3 a server sends its tickets after the handshake. A client whose input has
/// ended leaves at that moment, and has a ticket or has none. So now and then testssl.sh finds tickets with one connection and
/// none with the next, and warns that it could not test resumption. The connections with which it looks for a ticket stay open
/// for two seconds.
const OPENSSL: &str = r#"#!/bin/sh
case " $* " in
*" -showcerts "* | *" -sess_out "*) sleep 2 | openssl "$@" ;;
*) exec openssl "$@" ;;
esac
"#;

/// A gateway with TLS, without credentials.
struct Gateway {
    process: Child,
    port: u16,
    dir: TempDir,
}

impl Gateway {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = unused_port();
        openssl(
            dir.path(),
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=authority -days 300 -keyout ca.key -out ca.pem",
        );
        certify(dir.path(), "1");
        let process = Command::new(env!("CARGO_BIN_EXE_emr-shs"))
            .args(["proxy", "serve", "--log-uri", "s3://bucket/logs/", "--endpoint-url", "http://127.0.0.1:9"])
            .args(["--listen", &format!("127.0.0.1:{port}"), "--region", "eu-west-3"])
            .arg("--tls-cert")
            .arg(dir.path().join("chain.pem"))
            .arg("--tls-key")
            .arg(dir.path().join("key.pem"))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let gateway = Self { process, port, dir };
        wait("the gateway", || gateway.answers().then_some(()));
        gateway
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/-/healthz", self.port)
    }

    /// Whether a client that trusts the authority gets a page.
    fn answers(&self) -> bool {
        let mut curl = Command::new("curl");
        curl.args(["-sf", "--noproxy", "*", "--max-time", "20", "--cacert"]).arg(self.path("ca.pem")).arg(self.url());
        curl.output().unwrap().stdout == b"ok\n"
    }

    /// The status of the answer to plain HTTP with a header of this length, from a client that closes its half afterwards.
    fn plain_status(&self, length: usize) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {}\r\n\r\n", "a".repeat(length));
        // The gateway can have closed the connection before it has read all.
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or_default().into()
    }

    fn serial(&self) -> String {
        let line = format!(
            "openssl s_client -connect 127.0.0.1:{} </dev/null 2>/dev/null | openssl x509 -noout -serial",
            self.port
        );
        String::from_utf8(Command::new("sh").args(["-c", &line]).output().unwrap().stdout).unwrap().trim().into()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Makes a key, and a certificate for `localhost` with this serial number. The files appear one after the other, as an
/// administrator copies them.
fn certify(dir: &Path, serial: &str) {
    std::fs::write(
        dir.join("extensions"),
        "subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\n",
    )
    .unwrap();
    openssl(
        dir,
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout new.key -out request.pem",
    );
    openssl(
        dir,
        &format!(
            "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -set_serial {serial} -days 200 -extfile extensions -out new.pem"
        ),
    );
    std::fs::rename(dir.join("new.key"), dir.join("key.pem")).unwrap();
    std::fs::rename(dir.join("new.pem"), dir.join("chain.pem")).unwrap();
}

fn openssl(dir: &Path, arguments: &str) {
    let ran = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().unwrap();
    assert!(ran.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn testssl_finds_nothing_serious() {
    let gateway = Gateway::start();
    let mut findings = testssl(&gateway);
    // It has looked.
    for (id, wanted) in [
        ("TLS1_3", "offered"),
        ("TLS1", "not offered"),
        ("cert_chain_of_trust", "passed"),
        ("heartbleed", "not vulnerable"),
        ("sessionresumption_ticket", "supported"),
    ] {
        let found = findings.iter().find(|finding| finding.id == id).map(|finding| finding.finding.as_str());
        assert!(found.is_some_and(|found| found.starts_with(wanted)), "{id}: {found:?}");
    }
    findings.retain(Finding::is_serious);
    assert!(findings.is_empty(), "{findings:#?}");
}

/// One line of testssl's report.
#[derive(Debug, serde::Deserialize)]
struct Finding {
    id: String,
    severity: String,
    finding: String,
}

impl Finding {
    fn is_serious(&self) -> bool {
        !["OK", "INFO", "LOW", "DEBUG"].contains(&self.severity.as_str())
            && !OF_THIS_MACHINE.contains(&self.id.as_str())
    }
}

fn testssl(gateway: &Gateway) -> Vec<Finding> {
    let findings = gateway.path("findings.json");
    let openssl = gateway.path("openssl");
    std::fs::write(&openssl, OPENSSL).unwrap();
    std::fs::set_permissions(&openssl, Permissions::from_mode(0o755)).unwrap();
    let ran = Command::new("testssl")
        .args(["--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", "127.0.0.1", "--add-ca"])
        .arg(gateway.path("ca.pem"))
        .arg("--openssl")
        .arg(openssl)
        .arg("--jsonfile")
        .arg(&findings)
        // Protocols, ciphers, their order, forward secrecy, the certificate, headers, known attacks.
        .args(["-p", "-s", "-P", "-f", "-S", "-h", "-U", &gateway.url()])
        .output()
        .expect("testssl of Debian's testssl.sh");
    let said = String::from_utf8_lossy(&ran.stdout);
    let findings = std::fs::read_to_string(findings).unwrap_or_else(|e| panic!("{e}: {said}"));
    serde_json::from_str(&findings).unwrap_or_else(|e| panic!("{e}: {said}"))
}

#[test]
fn plain_http_on_the_tls_port_gets_a_redirect_and_no_more_room_than_a_head_needs() {
    let gateway = Gateway::start();
    assert_eq!(gateway.plain_status(1000), "302");
    // The gateway may close the connection before the client has read why.
    assert_ne!(gateway.plain_status(300 * 1024), "302");
}

#[test]
fn no_page_fails_while_the_certificate_is_replaced() {
    let gateway = Gateway::start();
    assert_eq!(gateway.serial(), "serial=01");
    let (is_done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let answers: Vec<bool> = std::thread::scope(|scope| {
        let client = || {
            let mut answers = Vec::new();
            while !is_done.load(Ordering::Relaxed) {
                answers.push(gateway.answers());
                asked.fetch_add(1, Ordering::Relaxed);
            }
            answers
        };
        let clients: Vec<_> = (0..2).map(|_| scope.spawn(client)).collect();
        certify(gateway.dir.path(), "2");
        wait("the new certificate", || (gateway.serial() == "serial=02").then_some(()));
        wait("enough pages", || (asked.load(Ordering::Relaxed) > 20).then_some(()));
        is_done.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| *answer), "{answers:?}");
}
