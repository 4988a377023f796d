//! The documents are true: every `emr-shs` command that they show parses, every link leads somewhere, and every path of
//! the repository that they name exists.

use crate::helpers::documented_keys::{as_documented, documented_keys, planned_keys};
use crate::helpers::root_dir::RootDir;
use clap::CommandFactory;
use emr_shs::cli::Cli;
use regex::Regex;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

struct Document {
    /// Below the repository.
    path: PathBuf,
    text: String,
}

fn documents() -> Vec<Document> {
    let files = |dir: &str| fs::read_dir(Path::new(REPOSITORY).join(dir)).unwrap();
    let mut paths: Vec<PathBuf> = files("").chain(files("docs")).map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    assert!(paths.len() > 10, "{paths:?}");
    let document = |path: PathBuf| Document {
        text: fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(REPOSITORY).unwrap().into(),
    };
    paths.into_iter().map(document).collect()
}

/// The indented and fenced lines, those that end in a backslash joined. Of a transcript, only the commands.
fn shell_lines(text: &str) -> Vec<String> {
    let mut is_fenced = false;
    let mut is_transcript = false;
    let mut lines: Vec<String> = Vec::new();
    let mut is_continued = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
            continue;
        }
        is_transcript = line.starts_with("<!-- transcript") || is_transcript && !line.starts_with("<!-- end");
        if !is_fenced && !line.starts_with("    ") || is_transcript && !line.starts_with("    # ") {
            continue;
        }
        let (part, continues) = line.trim().strip_suffix('\\').map_or((line.trim(), false), |part| (part, true));
        match lines.last_mut().filter(|_| is_continued) {
            Some(last) => last.push_str(part),
            None => lines.push(part.into()),
        }
        is_continued = continues;
    }
    lines
}

/// The `emr-shs` command in a line of shell, as words.
fn command(line: &str) -> Option<Vec<String>> {
    let line = line.strip_prefix("# ").unwrap_or(line);
    let program = Regex::new(r"(?:^|[ '/])(?:\./)?emr-shs(?:-\$\(uname -m\))? ").unwrap();
    let at = program.find(line).filter(|found| {
        let before = Regex::new(r"^(|sudo|ssh \S+ sudo|lab/node .* --|.* root /usr/bin)$").unwrap();
        before.is_match(&line[..found.start()])
    })?;
    let end = Regex::new(r" # |  +#| \||>| && |; |'$").unwrap();
    let arguments = line[at.end()..].replace("$(date +\\%Y-\\%m)", "2026-11");
    let arguments = end.split(&arguments).next().unwrap();
    Some(std::iter::once("emr-shs").chain(arguments.split_whitespace()).map(|word| word.replace('\'', "")).collect())
}

#[test]
fn every_command_in_the_documents_parses() {
    let inline = Regex::new("`((?:sudo )?emr-shs [^`]+)`").unwrap();
    let mut commands = 0;
    for Document { path, text } in documents() {
        let quoted = inline.captures_iter(&text).map(|found| found[1].replace('\n', " "));
        for line in shell_lines(&text).into_iter().chain(quoted) {
            let Some(words) = command(&line) else { continue };
            // A part of a command line, in prose.
            if words.last().is_some_and(|word| word == "…") || words.len() == 1 {
                continue;
            }
            commands += 1;
            if let Err(error) = Cli::command().try_get_matches_from(&words) {
                let is_answer = matches!(
                    error.kind(),
                    clap::error::ErrorKind::DisplayVersion
                        | clap::error::ErrorKind::DisplayHelp
                        // Prose can name a command without the arguments that it requires.
                        | clap::error::ErrorKind::MissingRequiredArgument
                        | clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                );
                assert!(is_answer, "{}: {line}\n{error}", path.display());
            }
        }
    }
    assert!(commands > 40, "{commands}");
}

/// The anchors that GitHub gives the headings of a page.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    for Document { path, text } in documents() {
        for target in link.captures_iter(&text).map(|found| found[1].to_string()) {
            if target.starts_with("https://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let linked = match file {
                "" => Path::new(REPOSITORY).join(&path),
                file => Path::new(REPOSITORY).join(path.parent().unwrap()).join(file),
            };
            assert!(linked.exists(), "{}: {target}: there is no such file", path.display());
            let has_anchor = || anchors(&fs::read_to_string(&linked).unwrap()).contains(anchor);
            assert!(anchor.is_empty() || has_anchor(), "{}: {target}: there is no such heading", path.display());
        }
    }
}

#[test]
fn every_path_that_the_documents_name_exists() {
    let named =
        Regex::new(r"\b(?:src|tests|lab|scripts|packaging|assets|docs|fuzz|examples)/[A-Za-z0-9_./-]*").unwrap();
    let mut paths = 0;
    for Document { path, text } in documents() {
        for found in named.find_iter(&text) {
            // A part of a longer path, such as a node's.
            let before = text[..found.start()].chars().next_back();
            if before.is_some_and(|c| c == '/' || c == '.' || c == '-') {
                continue;
            }
            let name = found.as_str().trim_end_matches(['.', '/']);
            paths += 1;
            assert!(Path::new(REPOSITORY).join(name).exists(), "{}: {name} does not exist", path.display());
        }
    }
    assert!(paths > 60, "{paths}");
}

#[test]
fn the_page_about_install_lists_every_key_that_it_sets() {
    const SMALL_DISK: [&str; 2] = ["spark.history.retainedApplications", "spark.history.store.maxDiskUsage"];
    let bucket = "acme.spark";
    let logs = ["--event-logs", "s3://acme.spark/events/"];
    let mut set = BTreeSet::new();
    for endpoint in ["https://store.example:7070", "https://s3.eu-west-3.amazonaws.com"] {
        let root = RootDir::new();
        root.write("etc/spark/conf.dist/spark-env.sh", "export SPARK_DAEMON_MEMORY=8g\n");
        let plan = root.run(&[&["plan"], &logs[..], &["--endpoint-url", endpoint, "--json"]].concat()).expect(0).json();
        set.extend(planned_keys(&plan, bucket));
    }
    // A directory has no gateway, and no store says where the bucket is.
    let known = ["--release", "emr-7.12.0", "--region", "eu-west-3", "--public-url", "https://logs.example"];
    let rendered = RootDir::new().run(&[&["render", "cluster-config"], &logs[..], &known].concat()).expect(0);
    let rendered: serde_json::Value = rendered.json();
    let keys = rendered[0]["Properties"].as_object().unwrap().keys();
    set.extend(keys.map(|key| as_documented(key, bucket)));
    // tests/node/local_store.rs looks at the keys on a small disk.
    set.extend(SMALL_DISK.map(str::to_string));
    assert_eq!(set, documented_keys(), "left: what is set; right: the table of docs/install.md");
}
