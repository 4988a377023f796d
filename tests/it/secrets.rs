//! Secrets that `--set` names: no output and no file that others can read contains them, but for spark-defaults.conf.

use crate::helpers::command_output::CommandOutput;
use crate::helpers::root_dir::{DEFAULTS, RootDir};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const LOGS: [&str; 2] = ["--event-logs", "s3://acme-spark/events/"];
const KEY: &str = "spark.history.acme.password";
const SECRETS: [&str; 3] = ["open-sesame", "close-sesame", "elder-sesame"];

/// Runs emr-shs with `EMR_SHS_SET` in its environment.
fn run(root: &RootDir, set: &str, args: &[&str]) -> CommandOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emr-shs"));
    command.arg("--root").arg(root.path()).args(args).env_clear();
    CommandOutput(command.env("AWS_EC2_METADATA_DISABLED", "true").env("EMR_SHS_SET", set).output().unwrap())
}

#[track_caller]
fn tells_no_secret(ran: CommandOutput) -> String {
    let told = format!("{}{}", ran.out(), ran.err());
    assert!(SECRETS.iter().all(|secret| !told.contains(secret)), "{told}");
    told.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The files that every account can read and that contain a secret.
fn readable_with_secret(root: &RootDir) -> Vec<String> {
    let tree = root.tree();
    let has_secret = |path: &std::path::Path| {
        let meta = fs::symlink_metadata(root.path().join(path)).unwrap();
        let text = || String::from_utf8_lossy(&fs::read(root.path().join(path)).unwrap()).into_owned();
        meta.is_file() && meta.permissions().mode() & 0o044 != 0 && SECRETS.iter().any(|secret| text().contains(secret))
    };
    tree.keys().filter(|path| has_secret(path)).map(|path| path.display().to_string()).collect()
}

#[test]
fn no_output_and_no_other_file_that_others_can_read_tells_a_secret() {
    let root = RootDir::new();
    // One value of somebody else, one of the first installation, one of the second.
    root.write(DEFAULTS, format!("{}{KEY} {}\n", root.read(DEFAULTS), SECRETS[2]));
    let before = root.read(DEFAULTS);
    for secret in &SECRETS[..2] {
        let set = format!("{KEY}={secret}");
        for command in [&["plan"][..], &["install", "-n"], &["configure", "-n"], &["install"], &["plan"]] {
            for json in [&["-v"][..], &["--json"]] {
                let command = [command, &LOGS, json].concat();
                let told = tells_no_secret(run(&root, &set, &command));
                assert!(told.contains("***") || told.contains("nothing to do"), "{command:?}: {told}");
                assert!(!told.contains("--set shows the value"), "a variable is not on the command line: {told}");
            }
        }
        assert_eq!(readable_with_secret(&root), [DEFAULTS]);
        assert!(root.read(DEFAULTS).contains(&format!("{KEY} {secret}\n")), "{}", root.read(DEFAULTS));
    }
    for command in ["status", "discover", "doctor", "uninstall -n"] {
        for json in ["-v", "--json"] {
            tells_no_secret(root.run(&command.split(' ').chain([json]).collect::<Vec<_>>()));
        }
    }
    // What somebody else has changed is told without the value, too.
    root.write(DEFAULTS, root.read(DEFAULTS).replace(SECRETS[1], SECRETS[0]).replace(KEY, &format!("  {KEY}")));
    root.write(DEFAULTS, root.read(DEFAULTS).replace(SECRETS[0], "elder-sesame-2"));
    let told = tells_no_secret(root.run(&["status", "-v"]));
    assert!(told.contains(&format!("{KEY} found ***, wanted ***")), "{told}");
    tells_no_secret(root.run(&["uninstall"]));
    root.write(DEFAULTS, &before);
    run(&root, &format!("{KEY}={}", SECRETS[0]), &["install", LOGS[0], LOGS[1]]).expect(0);
    tells_no_secret(root.run(&["uninstall", "--json"]).expect(0));
    assert_eq!(root.read(DEFAULTS), before, "the first value comes back");
}

#[test]
fn who_names_a_secret_learns_who_can_read_it() {
    let root = RootDir::new();
    let set = format!("{KEY}={}", SECRETS[0]);
    for option in [&["--set", &set][..], &[&format!("--set={set}")]] {
        let told = tells_no_secret(root.run(&[&["plan"], &LOGS[..], option].concat()).expect(0));
        assert!(told.contains(&format!("--set shows the value of {KEY} to every user of this node")), "{told}");
        assert!(told.contains("Every account of this node can read /etc/spark/conf/spark-defaults.conf"), "{told}");
        assert!(told.contains(&format!("and so the value of {KEY}")), "{told}");
    }
    // A file that only some can read keeps its mode, and nothing warns of it.
    fs::set_permissions(root.at(DEFAULTS), fs::Permissions::from_mode(0o640)).unwrap();
    let told = tells_no_secret(run(&root, &set, &["install", LOGS[0], LOGS[1]]).expect(0));
    assert!(!told.contains("can read") && !told.contains("shows the value"), "{told}");
    assert_eq!(fs::metadata(root.at(DEFAULTS)).unwrap().permissions().mode() & 0o7777, 0o640);
    let told = tells_no_secret(root.run(&["install", "--set", "spark.history.ui.title=open", "-n"]).expect(0));
    assert!(!told.contains("shows the value"), "a title is no secret: {told}");
}

#[test]
fn an_option_that_is_refused_is_quoted_without_its_secret() {
    let root = RootDir::new();
    for pair in ["spark.hadoop.fs.s3a.secret.key=open-sesame", "spark.history.acme.password= open-sesame"] {
        for json in [&[][..], &["--json"]] {
            let refused = root.run(&[&["install"], &LOGS[..], &["--set", pair], json].concat()).expect(2);
            let told = tells_no_secret(refused);
            let (key, _) = pair.split_once('=').unwrap();
            assert!(told.contains(&format!("--set {key}=***: wanted a ")), "{told}");
        }
    }
}
