//! `proxy passwd`: what it writes into the password file, and what it shows on the terminal.

use crate::helpers::root_dir::RootDir;
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{self, LocalFlags};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

fn passwd(root: &RootDir, name: &str, stdin: Stdio) -> Child {
    // Whoever runs the tests with nohup ignores SIGHUP.
    Command::new("env")
        .args(["--default-signal=TERM,HUP", env!("CARGO_BIN_EXE_emr-shs")])
        .args(["--root", root.at("").to_str().unwrap(), "proxy", "passwd", "/etc/users", name])
        .env_remove("EMR_SHS_ROOT")
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs the command with a password on stdin. Returns whether it ended well, and what it said.
fn from_stdin(root: &RootDir, name: &str, password: &[u8]) -> (bool, String) {
    let mut child = passwd(root, name, Stdio::piped());
    // A command that refuses the name does not read.
    let _ = child.stdin.take().unwrap().write_all(password);
    let out = child.wait_with_output().unwrap();
    (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout))
}

fn is_of(line: &str, name: &str, password: &str) -> bool {
    let hash = line.strip_prefix(&format!("{name}:")).unwrap_or_default();
    hash.starts_with("$2b$10$") && bcrypt::verify(password, hash).unwrap()
}

#[test]
fn a_user_is_added_or_replaced_and_the_rest_of_the_file_stays() {
    let root = RootDir::new();
    let file = root.at("etc/users");
    assert!(from_stdin(&root, "alice", b"correct horse\n").0);
    let made = fs::read_to_string(&file).unwrap();
    assert!(is_of(made.trim_end(), "alice", "correct horse"), "{made}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o007, 0, "others cannot read it");

    fs::write(&file, format!("# people\n{made}\n{}", made.trim_end().replace("alice", "al"))).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
    // The last line has no end. Windows ends lines with two characters.
    assert!(from_stdin(&root, "bob", "größe\r\n".as_bytes()).0);
    let (done, said) = from_stdin(&root, "alice", b"another one");
    assert!(done && said.contains("another password"), "{said}");
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0] == "# people" && lines[2].is_empty() && lines.len() == 5, "{text}");
    assert!(is_of(lines[1], "alice", "another one") && is_of(lines[3], "al", "correct horse"), "{text}");
    assert!(is_of(lines[4], "bob", "größe"), "{text}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o604);

    let long = [b'x'; 73];
    let refused: [(&str, &[u8], &str); 6] = [
        ("eve", b"", "is empty"),
        ("eve", &long, "longer than 72"),
        ("eve", b"a\x07b\n", "control characters"),
        ("eve", b"\xff\n", "UTF-8"),
        ("e:ve", b"x\n", "name of a user"),
        ("#eve", b"x\n", "name of a user"),
    ];
    for (name, password, why) in refused {
        let (done, said) = from_stdin(&root, name, password);
        assert!(!done && said.contains(why), "{said}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), text, "nothing of that has changed the file");
    // A file that the gateway would not take.
    fs::write(&file, "alice:plain\nbob:plain\n").unwrap();
    let (done, said) = from_stdin(&root, "alice", b"x\n");
    assert!(!done && said.contains("users:2") && said.contains("bob"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "alice:plain\nbob:plain\n");
}

/// Types at a terminal whenever the command asks. Returns whether it ended well, and what the terminal showed.
fn typed(root: &RootDir, keys: [&str; 2]) -> (bool, String) {
    let pty = openpty(None, None).unwrap();
    let (mut master, slave) = (File::from(pty.master), File::from(pty.slave));
    let mut child = passwd(root, "alice", slave.try_clone().unwrap().into());
    let mut err = child.stderr.take().unwrap();
    for keys in keys {
        let mut asked = Vec::new();
        let mut byte = [0];
        while !asked.ends_with(b": ") && err.read(&mut byte).unwrap() == 1 {
            asked.push(byte[0]);
        }
        if asked.ends_with(b": ") {
            master.write_all(keys.as_bytes()).unwrap();
        }
    }
    let done = child.wait().unwrap().success();
    let mut said = String::new();
    err.read_to_string(&mut said).unwrap();
    // What the terminal shows comes back to its master. A terminal that is as before shows this word.
    master.write_all(b"echo").unwrap();
    let mut shown = Vec::new();
    while shown.len() < 4 {
        let mut more = [0; 256];
        let count = master.read(&mut more).unwrap();
        shown.extend_from_slice(&more[..count]);
    }
    drop(slave);
    (done, String::from_utf8_lossy(&shown).into_owned() + &said)
}

#[test]
fn a_terminal_shows_no_password_and_is_as_before() {
    let root = RootDir::new();
    let (done, shown) = typed(&root, ["secreX\u{7f}t\r", "secret\n"]);
    assert!(done && shown.starts_with("echo") && !shown.contains("secre"), "{shown}");
    let file = root.at("etc/users");
    let text = fs::read_to_string(&file).unwrap();
    assert!(is_of(text.trim_end(), "alice", "secret"), "{text}");
    for (keys, why) in [(["qqq\n", "qqqq\n"], "differ"), (["qqq\u{3}", ""], "interrupted"), (["\n", ""], "is empty")] {
        let (done, shown) = typed(&root, keys);
        assert!(!done && shown.starts_with("echo") && shown.contains(why) && !shown.contains("qqq"), "{shown}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn a_signal_at_the_prompt_leaves_the_terminal_as_before() {
    let root = RootDir::new();
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let pty = openpty(None, None).unwrap();
        let echoes = || termios::tcgetattr(&pty.slave).unwrap().local_flags.contains(LocalFlags::ECHO);
        let mut child = passwd(&root, "alice", pty.slave.try_clone().unwrap().into());
        while echoes() {
            assert!(child.try_wait().unwrap().is_none(), "it waits for a password");
            thread::sleep(Duration::from_millis(10));
        }
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.code() == Some(1) && said.contains("interrupted"), "{:?}: {said}", ended.status);
        assert!(echoes(), "{signal}");
    }
    assert!(!root.at("etc/users").exists());
}
