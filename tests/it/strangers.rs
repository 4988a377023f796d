//! What other people of the machine can put in the way of emr-shs, and what emr-shs keeps of theirs.

use crate::helpers::root_dir::{DEFAULTS, RootDir};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const RECEIPT: &str = "var/lib/emr-shs/receipt.json";
const INSTALL: [&str; 4] = ["install", "--event-logs", "s3://acme-spark/events/", "--no-proxy"];

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_named_and_not_waited_for() {
    for file in [DEFAULTS, "etc/spark/conf.dist/spark-env.sh", RECEIPT, "run/emr-shs.lock"] {
        let root = RootDir::new();
        let path = root.at(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        make_fifo(&path);
        let begun = Instant::now();
        let ran = root.run(&INSTALL);
        assert!(begun.elapsed() < Duration::from_secs(10), "{file}");
        let name = Path::new(file).file_name().unwrap().to_str().unwrap();
        assert!(ran.code() != 0 && ran.err().contains(name), "{file}: {}", ran.err());
        assert!(ran.err().contains("regular file"), "{file}: {}", ran.err());
    }
}

#[test]
fn a_file_with_a_second_name_is_left_alone_where_others_can_make_names() {
    for (directory, file) in [("etc/spark/conf.dist", "spark-defaults.conf"), ("var/lib/emr-shs", "receipt.json")] {
        let root = RootDir::new();
        root.run(&INSTALL).expect(0);
        // What somebody else must neither read nor change, with the content that emr-shs expects.
        let (secret, named) = (root.at("secret"), root.at(directory).join(file));
        let content = fs::read(&named).unwrap();
        fs::rename(&named, &secret).unwrap();
        fs::hard_link(&secret, &named).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(root.at(directory), fs::Permissions::from_mode(0o777)).unwrap();
        let ran = root.run(&["uninstall"]);
        assert!(ran.code() != 0 && ran.err().contains("hard links") && ran.err().contains(file), "{}", ran.err());
        assert_eq!(fs::read(&secret).unwrap(), content);
        assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
        // Where only root makes names, root made this one. The second name keeps the old content.
        fs::set_permissions(root.at(directory), fs::Permissions::from_mode(0o700)).unwrap();
        root.run(&["uninstall"]).expect(0);
        assert_eq!(fs::read(&secret).unwrap(), content);
    }
}

#[test]
fn no_line_that_somebody_adds_meanwhile_is_lost() {
    let root = RootDir::new();
    let path = root.at(DEFAULTS);
    let stop = AtomicBool::new(false);
    let times = AtomicUsize::new(0);
    let added = std::thread::scope(|scope| {
        let editor = scope.spawn(|| {
            let mut added = 0;
            while !stop.load(Ordering::Relaxed) {
                // As an editor saves: a new file under the old name.
                let mut text = fs::read_to_string(&path).unwrap();
                text.push_str(&format!("# theirs {added}\n"));
                let new = path.with_extension("theirs");
                fs::write(&new, &text).unwrap();
                // A file that emr-shs has changed since must not be replaced by the editor of this test, either.
                let kept = text.replace(&format!("# theirs {added}\n"), "");
                if fs::read_to_string(&path).unwrap() == kept {
                    fs::rename(&new, &path).unwrap();
                    added += 1;
                    times.store(added, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            added
        });
        for run in 0.. {
            // Where the others are faster twenty times, emr-shs says so and puts everything back.
            root.run(&INSTALL);
            root.run(&["uninstall"]);
            if run >= 3 && (times.load(Ordering::Relaxed) > 20 || editor.is_finished()) {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        editor.join().unwrap()
    });
    root.run(&["uninstall"]);
    let text = fs::read_to_string(&path).unwrap();
    let lost: Vec<usize> = (0..added).filter(|i| !text.lines().any(|line| line == format!("# theirs {i}"))).collect();
    // The editor looks before it renames, and not in one step: it can overwrite what emr-shs wrote, not its own lines.
    assert_eq!(lost, Vec::<usize>::new(), "of {added}");
    assert!(added > 20, "{added}");
}

#[test]
fn an_entry_that_a_later_version_wrote_stays_in_the_receipt() {
    let root = RootDir::new();
    root.run(&INSTALL).expect(0);
    let text = root.read(RECEIPT);
    let mut receipt: serde_json::Value = serde_json::from_str(&text).unwrap();
    let later = serde_json::json!({
        "resource": {"kind": "crontab", "path": "/etc/cron.d/x"}, "before": {"is": "absent"}, "ours": [{"is": "scheduled"}]
    });
    let entries = receipt["entries"].as_array_mut().unwrap();
    let first = entries[0].clone();
    entries.insert(0, later.clone());
    root.write(RECEIPT, receipt.to_string());
    let ran = root.run(&INSTALL).expect(0);
    assert!(ran.err().contains("crontab"), "{}", ran.err());
    let status = root.run(&["status"]).expect(0);
    assert!(status.out().lines().any(|line| line.contains("crontab /etc/cron.d/x")), "{}", status.out());
    let status: serde_json::Value = serde_json::from_str(&root.run(&["status", "--json"]).expect(0).out()).unwrap();
    let entry = &status["unknown"][0];
    assert_eq!((entry["kind"].as_str(), entry["name"].as_str()), (Some("crontab"), Some("/etc/cron.d/x")), "{status}");
    let ran = root.run(&["uninstall"]).expect(1);
    assert!(ran.err().contains("crontab") && ran.err().contains("not everything is uninstalled"), "{}", ran.err());
    let left: serde_json::Value = serde_json::from_str(&root.read(RECEIPT)).unwrap();
    assert_eq!(left["entries"], serde_json::json!([later]));
    assert_ne!(left["entries"][0], first);
}

#[test]
fn a_directory_that_others_can_change_holds_nothing_of_root() {
    let root = RootDir::new();
    fs::create_dir_all(root.at("usr/lib/emr-shs")).unwrap();
    fs::set_permissions(root.at("usr/lib/emr-shs"), fs::Permissions::from_mode(0o777)).unwrap();
    let ran = root.run(&INSTALL).expect(3);
    assert!(ran.err().contains("others than root can change /usr/lib/emr-shs"), "{}", ran.err());
    fs::set_permissions(root.at("usr/lib/emr-shs"), fs::Permissions::from_mode(0o755)).unwrap();
    root.run(&INSTALL).expect(0);
    fs::set_permissions(root.at(RECEIPT), fs::Permissions::from_mode(0o666)).unwrap();
    let ran = root.run(&["uninstall"]).expect(3);
    assert!(ran.err().contains("others than root can change /var/lib/emr-shs/receipt.json"), "{}", ran.err());
}

#[test]
fn what_others_make_in_the_place_of_the_local_store_costs_the_store_alone() {
    let has_store = |root: &RootDir| root.read(DEFAULTS).contains("spark.history.store.path");
    type Plant = fn(&Path);
    let plants: [(&str, Plant); 5] = [
        ("is a symbolic link of user", |path| symlink("/etc", path).unwrap()),
        ("is a symbolic link of user", |path| symlink("/nowhere", path).unwrap()),
        ("is a regular file of user", |path| fs::write(path, "").unwrap()),
        ("is a pipe of user", make_fifo),
        ("others than root can change /mnt/emr-shs", |path| {
            fs::create_dir(path).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        }),
    ];
    for (found, plant) in plants {
        let root = RootDir::new();
        let (place, other) = (root.at("mnt/emr-shs"), root.at("mnt1"));
        plant(&place);
        let planted = fs::symlink_metadata(&place).unwrap();
        let is_untouched = || {
            let now = fs::symlink_metadata(&place).unwrap();
            let of = |meta: &fs::Metadata| (meta.ino(), meta.mode(), meta.uid(), meta.ctime(), meta.ctime_nsec());
            assert_eq!(of(&now), of(&planted), "{found}");
        };
        root.run(&[&["plan"], &INSTALL[1..]].concat()).expect(0);
        let ran = root.run(&INSTALL).expect(0);
        let says = ran.err().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(says.contains("No local store for the history server: ") && says.contains(found), "{says}");
        assert!(!has_store(&root), "{found}");
        root.run(&["plan", "--check"]).expect(0);
        // Another disk has a place.
        fs::create_dir(&other).unwrap();
        root.run(&INSTALL).expect(0);
        assert!(root.read(DEFAULTS).contains("/mnt1/emr-shs/store-"), "{}", root.read(DEFAULTS));
        is_untouched();
        // The store itself goes, and something else takes its place. A directory of root is mended.
        fs::remove_dir_all(other.join("emr-shs")).unwrap();
        plant(&other.join("emr-shs"));
        let is_directory = other.join("emr-shs").symlink_metadata().unwrap().is_dir();
        let ran = root.run(&INSTALL).expect(if is_directory { 0 } else { 5 });
        assert_eq!(has_store(&root), is_directory, "{found}: {}", ran.err());
        root.run(&["uninstall"]);
        is_untouched();
        assert_eq!(fs::symlink_metadata(other.join("emr-shs")).is_ok(), !is_directory, "{found}");
    }
}

#[test]
fn files_have_their_modes_whatever_the_umask() {
    let root = RootDir::new();
    let binary = env!("CARGO_BIN_EXE_emr-shs");
    let command = format!("umask 000; {binary} --root {} {} >/dev/null 2>&1", root.at("").display(), INSTALL.join(" "));
    assert!(Command::new("bash").args(["-c", &command]).status().unwrap().success());
    let mode = |path: &str| fs::symlink_metadata(root.at(path)).unwrap().permissions().mode() & 0o777;
    let wanted =
        [("var/lib/emr-shs", 0o700), (RECEIPT, 0o600), ("run/emr-shs.lock", 0o600), ("usr/lib/emr-shs", 0o755)];
    for (path, wanted) in wanted {
        assert_eq!(mode(path), wanted, "{path}");
    }
}

#[test]
fn nothing_is_written_through_a_link_or_into_a_directory_of_everybody() {
    let serverless = ["render", "serverless", "--application", "00f1r2fo0l4l4l09", "--region", "eu-west-3"];
    let places =
        ["--event-logs", "s3://acme-spark/e/", "--log-uri", "s3://acme-logs/l/", "--account", "123456789012", "--into"];
    for (command, file) in [(vec!["man"], "emr-shs.1"), ([&serverless[..], &places[..]].concat(), "README.txt")] {
        let dir = tempfile::tempdir().unwrap();
        let run = |at: &Path| Command::new(env!("CARGO_BIN_EXE_emr-shs")).args(&command).arg(at).output().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "theirs").unwrap();
        let own = dir.path().join("own");
        fs::create_dir(&own).unwrap();
        symlink(&victim, own.join(file)).unwrap();
        let written = run(&own);
        assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
        assert_eq!(fs::read_to_string(&victim).unwrap(), "theirs");
        assert!(fs::symlink_metadata(own.join(file)).unwrap().is_file());
        fs::set_permissions(&own, fs::Permissions::from_mode(0o1777)).unwrap();
        let refused = run(&own);
        assert!(String::from_utf8_lossy(&refused.stderr).contains("others than you can change"));
    }
}

#[test]
fn a_step_contains_no_password() {
    let root = RootDir::new();
    let step = [
        "render",
        "step",
        "--script",
        "s3://b/k/step",
        "--sha256-x86_64",
        &"0".repeat(64),
        "--region",
        "eu-west-3",
        "--",
    ];
    let ran = root.run(&[&step[..], &["--event-logs", "s3://b/e/", "--login", "a:b"]].concat()).expect(2);
    assert!(ran.err().contains("must not contain a password"), "{}", ran.err());
}
