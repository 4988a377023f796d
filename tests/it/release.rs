//! The binaries of a release are static, contain no path of the build machine, and run on both CPUs and on an old kernel.

use crate::helpers::command_output::CommandOutput;
use crate::helpers::node::{CLUSTER, LOGS};
use crate::helpers::ports::unused_port;
use crate::helpers::release_files::{OLD_KERNEL, release, release_binary};
use crate::helpers::root_dir::RootDir;
use crate::helpers::wait::wait;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// The CPUs by their names in `uname -m` and their numbers in ELF.
const CPUS: [(&str, u16); 2] = [("x86_64", 62), ("aarch64", 183)];

/// Commands that run the binary of a CPU on this machine: on its kernel, and with the system calls of an old one.
fn ways(cpu: &str) -> [Vec<String>; 2] {
    let mut plain = vec![release_binary(cpu)];
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

/// A little-endian number at an offset of a file.
fn number(file: &[u8], at: usize, bytes: usize) -> u64 {
    file[at..at + bytes].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[test]
fn the_signature_of_a_release_shows_who_made_its_checksums() {
    let dir = tempfile::tempdir().unwrap();
    let run = |line: &str| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/release");
        let mut command = Command::new("bash");
        command.args(["-c", line]).current_dir(dir.path()).stdin(Stdio::null());
        command.env("RELEASE", script).env("GNUPGHOME", dir.path().join("keys"));
        CommandOutput(command.output().unwrap())
    };
    run("mkdir -m 700 keys && mkdir release && echo binary >release/emr-shs-x86_64 && cd release && sha256sum * >SHA256SUMS
        for name in ours theirs; do
          gpg --batch -q --passphrase '' --quick-generate-key $name rsa3072 sign 1d && gpg --armor --export $name | gpg --dearmor >../$name.gpg
        done")
    .expect(0);
    let check =
        "cd release && gpgv -q --keyring ../ours.gpg SHA256SUMS.asc SHA256SUMS && sha256sum -c --strict SHA256SUMS";
    run("EMR_SHS_SIGNING_KEY=ours $RELEASE --sign release").expect(0);
    run(check).expect(0);
    // Checksums that somebody has changed, files that do not match, and the signature of somebody else.
    run("echo >>release/SHA256SUMS").expect(0);
    assert_ne!(run(check).code(), 0);
    run("sed -i '$d' release/SHA256SUMS").expect(0);
    run(check).expect(0);
    assert_ne!(run("echo another >release/emr-shs-x86_64; EMR_SHS_SIGNING_KEY=ours $RELEASE --sign release").code(), 0);
    run("cd release && sha256sum emr-shs-x86_64 >SHA256SUMS; cd .. && EMR_SHS_SIGNING_KEY=theirs $RELEASE --sign release").expect(0);
    assert_ne!(run(check).code(), 0);
    // Without the key there is no signature, and none of before.
    let ran = run("EMR_SHS_SIGNING_KEY=nobody $RELEASE --sign release");
    assert!(ran.code() != 0 && ran.err().contains("gpg did not sign with the key nobody"), "{}", ran.err());
    assert!(!dir.path().join("release/SHA256SUMS.asc").exists());
    run("gpgconf --kill all").expect(0);
}

#[test]
#[ignore = "needs a release: scripts/test"]
fn a_release_contains_its_files_checksums_and_licences() {
    let mut there: BTreeSet<String> =
        fs::read_dir(release("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let packed = format!("emr-shs-{}.tar.gz", env!("CARGO_PKG_VERSION"));
    for file in ["emr-shs-x86_64", "emr-shs-aarch64", "step", "bootstrap", "emr-shs.cdx.json", &packed] {
        assert!(there.contains(file), "{file} is not in {there:?}");
    }
    let sums = Command::new("sha256sum").args(["-c", "--strict", "SHA256SUMS"]).current_dir(release("")).output();
    let sums = CommandOutput(sums.unwrap()).expect(0).out();
    assert!(there.remove("SHA256SUMS"));
    there.remove("SHA256SUMS.asc");
    assert_eq!(sums.lines().map(|line| line.strip_suffix(": OK").unwrap().to_string()).collect::<BTreeSet<_>>(), there);

    let top = packed.strip_suffix(".tar.gz").unwrap();
    let files = CommandOutput(Command::new("tar").arg("-tzf").arg(release(&packed)).output().unwrap()).expect(0).out();
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
    // Crates that only build, only test, are for Windows, or are macros.
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
    // A dynamic program contains both kinds of segment, so the test can see them.
    let dynamic = segments(&fs::read("/bin/sh").unwrap());
    assert!(dynamic.1.contains(&2) && dynamic.1.contains(&3), "{dynamic:?}");
    for (cpu, machine) in CPUS {
        let (of, kinds) = segments(&fs::read(release_binary(cpu)).unwrap());
        assert_eq!(of, machine, "{cpu}");
        assert!(kinds.contains(&1), "{cpu}: {kinds:?}");
        // PT_DYNAMIC, PT_INTERP.
        assert!(!kinds.contains(&2) && !kinds.contains(&3), "{cpu}: {kinds:?}");
    }
}

/// The machine of a 64-bit ELF file, and the kinds of its segments.
fn segments(file: &[u8]) -> (u16, Vec<u64>) {
    assert_eq!(&file[..6], b"\x7fELF\x02\x01", "a 64-bit little-endian ELF file");
    let (offset, size, count) = (number(file, 32, 8), number(file, 54, 2), number(file, 56, 2));
    let kinds = (0..count).map(|n| number(file, (offset + n * size) as usize, 4)).collect();
    (number(file, 18, 2) as u16, kinds)
}

#[test]
#[ignore = "needs a release: scripts/test"]
fn a_binary_contains_no_path_of_the_build_machine() {
    let home = std::env::var("HOME").unwrap();
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_str().unwrap().to_string();
    let places = [env!("CARGO_MANIFEST_DIR").into(), target, format!("{home}/."), ".cargo/".into(), "/rustlib/".into()];
    let named = |file: &str| -> Vec<&String> {
        let file = fs::read(file).unwrap();
        places.iter().filter(|place| memchr::memmem::find(&file, place.as_bytes()).is_some()).collect()
    };
    assert!(!named(env!("CARGO_BIN_EXE_emr-shs")).is_empty(), "what is built for tests names places");
    for (cpu, _) in CPUS {
        assert_eq!(named(&release_binary(cpu)), Vec::<&String>::new(), "{cpu}");
    }
}

#[test]
#[ignore = "needs a release: scripts/test"]
fn both_binaries_plan_alike_on_new_and_old_kernels() {
    assert_the_old_kernel_is_old();
    let root = RootDir::new();
    let plan = ["plan", "--event-logs", LOGS];
    let wanted = root.run(&plan).expect(0).out();
    for (cpu, _) in CPUS {
        for way in ways(cpu) {
            let version = CommandOutput(command(&way).arg("--version").output().unwrap()).expect(0).out();
            assert_eq!(version, concat!("emr-shs ", env!("CARGO_PKG_VERSION"), "\n"), "{way:?}");
            let said = CommandOutput(command(&way).arg("--root").arg(root.path()).args(plan).output().unwrap())
                .expect(0)
                .out();
            assert_eq!(said, wanted, "{way:?}");
        }
    }
}

#[test]
#[ignore = "needs a release: scripts/test"]
fn both_binaries_serve_logs_on_new_and_old_kernels() {
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

/// A gateway on this machine. It is killed when dropped.
struct Gateway {
    process: Child,
    address: String,
}

impl Gateway {
    fn start(way: &[String], s3: &str) -> Self {
        let address = format!("127.0.0.1:{}", unused_port());
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

/// The URL of a stand-in for S3 that answers every HEAD request with 200.
fn an_s3_that_has_everything() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                // An empty line ends a HEAD request.
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
    CommandOutput(Command::new(new_call[0]).args(&new_call[1..]).output().unwrap()).expect(0);
    let refused = CommandOutput(Command::new("python3").arg(OLD_KERNEL).args(new_call).output().unwrap()).expect(1);
    assert!(refused.err().contains("[Errno 38]"), "{}", refused.err());
}
