//! The binaries that users get: static, of no place, and at work on both CPUs and on an old kernel.
//!
//! `scripts/test` makes the release and names its directory in `EMR_SHS_TEST_RELEASE`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects by unwrapping it")]

mod lab;
mod ran;
mod support;

use lab::{CLUSTER, LOGS, Node, Profile, wait};
use ran::same_tree;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use support::{Ran, Root};

/// Runs a command as on the kernel of Amazon Linux 2.
const OLD_KERNEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/stand-ins/old-kernel.py");
/// The system calls that came after that kernel, as systemd names them. What is newer still, systemd 252 does not know.
const NEW_CALLS: &str = "io_pgetevents rseq pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree \
    move_mount fsopen fsconfig fsmount fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise \
    epoll_pwait2 mount_setattr quotactl_fd landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret \
    process_mrelease futex_waitv";
/// The CPUs, as `uname -m` and as ELF has them.
const CPUS: [(&str, u16); 2] = [("x86_64", 62), ("aarch64", 183)];

fn release(file: &str) -> PathBuf {
    let dir = std::env::var_os("EMR_SHS_TEST_RELEASE")
        .expect("EMR_SHS_TEST_RELEASE names what packaging/release made; scripts/test sets it");
    PathBuf::from(dir).join(file)
}

fn binary(cpu: &str) -> String {
    release(&format!("emr-shs-{cpu}")).to_str().unwrap().into()
}

/// How to run the binary of a CPU here: plainly, and on an old kernel.
fn ways(cpu: &str) -> [Vec<String>; 2] {
    let mut plain = vec![binary(cpu)];
    if cpu != std::env::consts::ARCH {
        plain.insert(0, format!("qemu-{cpu}-static"));
    }
    let old = [&["python3".to_string(), OLD_KERNEL.to_string()], &plain[..]].concat();
    [plain, old]
}

fn command(way: &[String]) -> Command {
    let mut command = Command::new(&way[0]);
    command.args(&way[1..]).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("AWS_EC2_METADATA_DISABLED", "true").stdin(Stdio::null());
    command
}

/// Numbers at a place of a 64-bit little-endian file.
fn number(file: &[u8], at: usize, bytes: usize) -> u64 {
    file[at..at + bytes].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[test]
#[ignore = "needs a release: scripts/test"]
fn a_release_is_whole_and_says_what_it_is_made_of() {
    let mut there: BTreeSet<String> =
        fs::read_dir(release("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let packed = format!("emr-shs-{}.tar.gz", env!("CARGO_PKG_VERSION"));
    for file in ["emr-shs-x86_64", "emr-shs-aarch64", "step", "bootstrap", "emr-shs.cdx.json", &packed] {
        assert!(there.contains(file), "{file} is not in {there:?}");
    }
    let sums = Command::new("sha256sum").args(["-c", "--strict", "SHA256SUMS"]).current_dir(release("")).output();
    let sums = Ran(sums.unwrap()).expect(0).out();
    assert!(there.remove("SHA256SUMS"));
    assert_eq!(sums.lines().map(|line| line.strip_suffix(": OK").unwrap().to_string()).collect::<BTreeSet<_>>(), there);

    let top = packed.strip_suffix(".tar.gz").unwrap();
    let files = Ran(Command::new("tar").arg("-tzf").arg(release(&packed)).output().unwrap()).expect(0).out();
    for file in
        ["README.md", "LICENSE", "completions/emr-shs.bash", "completions/emr-shs.zsh", "completions/emr-shs.fish"]
    {
        assert!(files.lines().any(|line| line == format!("{top}/{file}")), "{file} is not in {files}");
    }
    assert!(files.contains(&format!("{top}/man/man1/emr-shs-proxy-serve.1")), "{files}");

    let sbom: serde_json::Value = serde_json::from_slice(&fs::read(release("emr-shs.cdx.json")).unwrap()).unwrap();
    let linked: BTreeMap<&str, &str> = sbom["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| (each["name"].as_str().unwrap(), each["version"].as_str().unwrap()))
        .collect();
    let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
    for name in ["aws-lc-sys", "aws-sdk-s3", "tokio"] {
        assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{}\"", linked[name])), "{name} {linked:?}");
    }
    for name in ["musl", "rust-std"] {
        assert!(linked.contains_key(name), "{name} is linked, too");
    }
    // Builds, tests, Windows, macros.
    for name in ["cc", "proptest", "windows-sys", "serde_derive"] {
        assert!(!linked.contains_key(name), "{name} is in no binary");
    }
    let licences = fs::read_to_string(release("THIRD-PARTY-LICENSES.txt")).unwrap();
    for (name, version) in linked {
        assert!(licences.contains(&format!("\n{name} {version} (")), "no licence of {name} {version}");
    }
}

#[test]
#[ignore = "needs a release: scripts/test"]
fn a_binary_needs_no_library_and_no_loader() {
    // What a dynamic program has, so that its lack means something.
    let dynamic = segments(&fs::read("/bin/sh").unwrap());
    assert!(dynamic.1.contains(&2) && dynamic.1.contains(&3), "{dynamic:?}");
    for (cpu, machine) in CPUS {
        let (of, kinds) = segments(&fs::read(binary(cpu)).unwrap());
        assert_eq!(of, machine, "{cpu}");
        assert!(kinds.contains(&1), "{cpu}: {kinds:?}");
        // PT_DYNAMIC, PT_INTERP.
        assert!(!kinds.contains(&2) && !kinds.contains(&3), "{cpu}: {kinds:?}");
    }
}

/// An ELF file's machine, and the kinds of its segments.
fn segments(file: &[u8]) -> (u16, Vec<u64>) {
    assert_eq!(&file[..6], b"\x7fELF\x02\x01", "a 64-bit little-endian ELF file");
    let (offset, size, count) = (number(file, 32, 8), number(file, 54, 2), number(file, 56, 2));
    let kinds = (0..count).map(|n| number(file, (offset + n * size) as usize, 4)).collect();
    (number(file, 18, 2) as u16, kinds)
}

#[test]
#[ignore = "needs a release: scripts/test"]
fn a_binary_names_no_place_of_this_machine() {
    let home = std::env::var("HOME").unwrap();
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_str().unwrap().to_string();
    let places = [env!("CARGO_MANIFEST_DIR").into(), target, format!("{home}/."), ".cargo/".into(), "/rustlib/".into()];
    let named = |file: &str| -> Vec<&String> {
        let file = fs::read(file).unwrap();
        places.iter().filter(|place| memchr::memmem::find(&file, place.as_bytes()).is_some()).collect()
    };
    assert!(!named(env!("CARGO_BIN_EXE_emr-shs")).is_empty(), "what is built for tests names places");
    for (cpu, _) in CPUS {
        assert_eq!(named(&binary(cpu)), Vec::<&String>::new(), "{cpu}");
    }
}

#[test]
#[ignore = "needs a release: scripts/test"]
fn both_plan_alike_on_both_kernels() {
    assert_the_old_kernel_is_old();
    let root = Root::new();
    let plan = ["plan", "--event-logs", LOGS];
    let wanted = root.run(&plan).expect(0).out();
    for (cpu, _) in CPUS {
        for way in ways(cpu) {
            let version = Ran(command(&way).arg("--version").output().unwrap()).expect(0).out();
            assert_eq!(version, concat!("emr-shs ", env!("CARGO_PKG_VERSION"), "\n"), "{way:?}");
            let said = Ran(command(&way).arg("--root").arg(root.path()).args(plan).output().unwrap()).expect(0).out();
            assert_eq!(said, wanted, "{way:?}");
        }
    }
}

#[test]
#[ignore = "needs a release: scripts/test"]
fn both_serve_logs_on_both_kernels() {
    let s3 = an_s3_that_has_everything();
    for (cpu, _) in CPUS {
        for way in ways(cpu) {
            let gateway = Gateway::start(&way, &s3);
            let healthy = gateway.get("/-/healthz");
            assert!(healthy.starts_with("HTTP/1.1 200 ") && healthy.ends_with("ok\n"), "{way:?}: {healthy}");
            let click = gateway.get("/logs/container_1795352263709_0001_01_000002/stderr");
            let to = format!(
                "location: {s3}/acme-logs/elasticmapreduce/{CLUSTER}/containers/application_1795352263709_0001/container_1795352263709_0001_01_000002/stderr.gz?"
            );
            assert!(click.starts_with("HTTP/1.1 302 ") && click.contains(&to), "{way:?}: {click}");
            assert!(click.contains("X-Amz-Signature="), "{way:?}: {click}");
        }
    }
}

/// A gateway of this machine; killed when dropped.
struct Gateway {
    process: Child,
    address: String,
}

impl Gateway {
    fn start(way: &[String], s3: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let mut command = command(way);
        command.args(["proxy", "serve", "--listen", &address, "--log-uri", "s3://acme-logs/elasticmapreduce/"]);
        command.args(["--cluster-id", CLUSTER, "--region", "eu-west-3", "--endpoint-url", s3]);
        command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", "secret");
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut gateway = Self { process, address };
        wait("the gateway to listen", || {
            assert_eq!(gateway.process.try_wait().unwrap(), None, "{way:?}");
            TcpStream::connect(&gateway.address).ok()
        });
        gateway
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// The URL of what says of every object that it is there. The real one is on the node.
fn an_s3_that_has_everything() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                // Each empty line ends a request: they are HEADs.
                for _ in lines.map_while(Result::ok).filter(String::is_empty) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n");
                }
            });
        }
    });
    url
}

#[track_caller]
fn assert_the_old_kernel_is_old() {
    let new_call = ["python3", "-c", "import os; os.pidfd_open(os.getpid())"];
    Ran(Command::new(new_call[0]).args(&new_call[1..]).output().unwrap()).expect(0);
    let refused = Ran(Command::new("python3").arg(OLD_KERNEL).args(new_call).output().unwrap()).expect(1);
    assert!(refused.err().contains("[Errno 38]"), "{}", refused.err());
}

#[test]
#[ignore = "needs root: scripts/test"]
fn on_a_node_with_an_old_kernel_it_installs_proves_and_goes() {
    let node = Node::fresh(Profile::Emr712, "old-kernel");
    node.copy(OLD_KERNEL, "/opt/lab/old-kernel.py");
    node.copy(&binary("x86_64"), "/usr/local/bin/emr-shs");
    // The gateway's service is systemd's child, not ours.
    let unit = "/run/systemd/system/emr-shs-gateway.service.d/old-kernel.conf";
    node.sh(&format!(
        "mkdir -p $(dirname {unit}); printf '[Service]\\nSystemCallFilter=~{NEW_CALLS}\\nSystemCallErrorNumber=ENOSYS\\n' >{unit}"
    ));
    let before = node.tree();
    let old = |args: &[&str]| node.run(&[&["/opt/lab/old-kernel.py", "emr-shs"], args].concat());
    old(&["install", "--event-logs", LOGS, "--log-uri", lab::LOG_URI]).expect(0);
    let filter = node.sh("systemctl show -P SystemCallErrorNumber -P SystemCallFilter emr-shs-gateway");
    let refused: BTreeSet<&str> = filter.split(['~', ' ', '\n']).filter(|call| !call.is_empty()).collect();
    assert_eq!(refused, NEW_CALLS.split(' ').chain(["38"]).collect(), "the gateway is under the filter");
    old(&["verify"]).expect(0);
    old(&["status"]).expect(0);
    old(&["doctor"]).expect(0);
    old(&["uninstall"]).expect(0);
    same_tree(&before, &node.tree());
}

#[test]
#[ignore = "needs root: scripts/test"]
fn on_a_node_it_trusts_whom_amazon_linux_trusts() {
    let node = Node::fresh(Profile::Emr712, "trust");
    node.copy(&binary("x86_64"), "/usr/local/bin/emr-shs");
    // S3 behind TLS, its certificate from an authority of the node's own.
    node.copy(concat!(env!("CARGO_MANIFEST_DIR"), "/lab/stand-ins/tls-front.py"), "/opt/lab/tls-front.py");
    node.sh(
        "cd /root && openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=lab-authority -days 2 -keyout ca.key -out ca.pem 2>&1
        openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout tls.key -out tls.csr 2>&1
        printf 'subjectAltName=DNS:localhost' >san
        openssl x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out tls.pem 2>&1
        systemd-run -q --unit lab-tls python3 /opt/lab/tls-front.py 7443 7070 /root/tls.pem /root/tls.key
        until (: </dev/tcp/127.0.0.1/7443) 2>/dev/null; do sleep 0.05; done",
    );
    // Amazon Linux has its authorities in this file, and none of Debian's places.
    node.sh("mv /etc/ssl /etc/ssl.away; mkdir -p /etc/pki/tls/certs; cp /etc/ssl.away/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt");
    let prefix = ["prefix", "--event-logs", "s3://acme-spark/trust/", "--endpoint-url", "https://localhost:7443"];
    let refused = node.emr_shs(&prefix).expect(3);
    assert!(refused.err().contains("certificate"), "{}", refused.err());
    assert!(!node.s3_has("s3://acme-spark/trust/"));
    node.sh("cat /root/ca.pem >>/etc/pki/tls/certs/ca-bundle.crt");
    node.emr_shs(&prefix).expect(0);
    assert!(node.s3_has("s3://acme-spark/trust/"));
}
