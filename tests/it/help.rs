//! Help that fits a terminal, completions and man pages.

use clap::CommandFactory;
use emr_shs::cli::Cli;
use std::process::{Command, Output, Stdio};

fn emr_shs(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_emr-shs")).args(args).output().unwrap()
}

/// The words of each command: `[]`, `["install"]`, `["proxy", "serve"]`, …
fn commands() -> Vec<Vec<String>> {
    fn walk(command: &clap::Command, words: Vec<String>, all: &mut Vec<Vec<String>>) {
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            walk(below, [words.clone(), vec![below.get_name().into()]].concat(), all);
        }
        all.push(words);
    }
    let mut all = Vec::new();
    walk(&Cli::command(), Vec::new(), &mut all);
    all
}

#[test]
fn the_help_of_every_command_fits_80_columns_and_explains_each_option() {
    let all = commands();
    assert!(all.len() > 15, "{all:?}");
    for words in all {
        for flag in ["-h", "--help"] {
            let words: Vec<&str> = words.iter().map(String::as_str).chain([flag]).collect();
            let out = Command::new(env!("CARGO_BIN_EXE_emr-shs")).args(&words).env("COLUMNS", "80").output().unwrap();
            let text = String::from_utf8(out.stdout).unwrap();
            assert_eq!(out.status.code(), Some(0), "{words:?}");
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{words:?}: {line}");
            }
            assert!(text.contains("Usage: emr-shs"), "{words:?}: {text}");
        }
    }
    fn explained(command: &clap::Command) {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        for arg in command.get_arguments() {
            assert!(arg.get_help().is_some(), "{} {}", command.get_name(), arg.get_id());
        }
        command.get_subcommands().for_each(explained);
    }
    explained(&Cli::command());
}

#[test]
fn bash_completes_commands_and_options() {
    let script = emr_shs(&["completions", "bash"]);
    assert_eq!(script.status.code(), Some(0));
    // Call the completion function as readline does after Tab.
    let asked = |words: &str| {
        let typed: Vec<&str> = words.split(' ').collect();
        let run = format!(
            "{}\nf=$(complete -p emr-shs); f=${{f#*-F }}; COMP_WORDS=({words}); COMP_CWORD={}\n${{f%% *}} emr-shs \"${{COMP_WORDS[-1]}}\" x\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
            String::from_utf8_lossy(&script.stdout),
            typed.len() - 1
        );
        let out = Command::new("bash").args(["--norc", "-c", &run]).stdin(Stdio::null()).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    assert_eq!(asked("emr-shs inst"), "install\n");
    assert_eq!(asked("emr-shs install --event"), "--event-logs\n");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = emr_shs(&["completions", shell]);
        assert!(String::from_utf8_lossy(&script.stdout).contains("event-logs"), "{shell}");
    }
}

#[test]
fn man_pages_are_written_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man/man1");
    let out = emr_shs(&["man", pages.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    for words in commands() {
        let page = pages.join(format!("{}.1", [vec!["emr-shs".to_string()], words].concat().join("-")));
        let text = std::fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
        assert!(text.contains(".SH SYNOPSIS"), "{}", page.display());
    }
}

#[test]
fn man_reports_a_directory_that_it_cannot_create() {
    let out = emr_shs(&["man", "/dev/null/man"]);
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(text.starts_with("error: ") && text.contains("/dev/null/man"), "{text}");
}

#[test]
fn output_that_does_not_arrive_is_no_success() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().to_str().unwrap();
    for words in [
        &["status", "--json"][..],
        &["render", "iam-policy", "--event-logs", "s3://acme-spark/events/"],
        &["discover", "--json"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_emr-shs"));
        let ran = command.args(["--root", root]).args(words).stdout(full).output().unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert!(ran.status.code() == Some(1) && said.contains("No space left on device"), "{words:?}: {said}");
        // Who reads no more has read enough.
        let mut command = Command::new(env!("CARGO_BIN_EXE_emr-shs"));
        let mut child =
            command.args(["--root", root]).args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ran = child.wait_with_output().unwrap();
        assert_eq!(ran.status.code(), Some(0), "{words:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }
}
