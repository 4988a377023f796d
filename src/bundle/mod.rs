//! The bundle of `doctor --bundle`: what somebody elsewhere needs to help, in one file, without secrets and names.
//!
//! Each source is read on a thread of its own, beside the checks of `doctor`, so that one that hangs costs nothing but
//! itself. What was not read in time is listed with its reason. Nothing reaches the file that has not passed the
//! [`Redactor`]: it knows this node's secrets and names from [`known`], and if those are not known in time, free text
//! stays out.

mod answers;
mod archive;
mod container_logs;
mod known;
pub(crate) mod questions;
mod read;
mod sources;

pub(crate) use archive::Target;

use crate::host::Host;
use crate::redact::{Kind, Redactor};
use answers::Answer;
use anyhow::Result;
use known::Known;
use questions::{Find, QUESTIONS};
use serde::Serialize;
use serde_json::Value;
use sources::{Part, SOURCES};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// The file that a person reads before sending the bundle.
pub(crate) const ANSWERS: &str = "answers.txt";
const LIST: &str = "README.txt";
/// After this time no source is waited for any more.
const READ: Duration = Duration::from_millis(16_800);
/// After this time nothing more is made ready: there must be time to write the file.
const READY: Duration = Duration::from_millis(18_500);
/// Why a file is left out whose secrets cannot be told from the rest.
const UNKNOWN: &str = "the names and secrets of this node could not be read in time, so they could not be taken out";
/// No file of a bundle is larger.
const LARGEST: usize = 1 << 20;

/// What `doctor` found out, for the bundle.
#[derive(Default)]
pub(crate) struct Checks {
    /// The report for people.
    pub text: String,
    /// The report for programs.
    pub json: Value,
    /// What each check found, by its name.
    pub findings: Vec<(String, String)>,
    /// This cluster's log URI as EMR tells it, or why EMR does not; `None` if EMR did not answer in time.
    pub described: Option<Result<Option<String>, String>>,
    /// Names that S3 and EMR told.
    pub names: Vec<(Kind, String)>,
}

impl Checks {
    fn found(&self, name: &str) -> Option<&str> {
        self.findings.iter().find(|(check, _)| check == name).map(|(_, found)| found.as_str())
    }
}

/// A file in a bundle.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    pub name: String,
    /// In bytes, unpacked.
    pub size: usize,
    pub purpose: &'static str,
}

/// What is not in a bundle, and why.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LeftOut {
    pub name: String,
    pub why: String,
}

/// A bundle that is written.
#[derive(Debug, Serialize)]
pub(crate) struct Written {
    pub file: PathBuf,
    pub size: u64,
    pub files: Vec<Entry>,
    pub left_out: Vec<LeftOut>,
}

/// Everything that is being read.
pub(crate) struct Collection {
    begun: Instant,
    known: Receiver<Known>,
    sources: Vec<Receiver<Result<Vec<Part>>>>,
    answers: Vec<Option<Receiver<Result<Answer>>>>,
}

impl Collection {
    /// Begins to read, in the background.
    pub(crate) fn begin(root: &Path) -> Self {
        let host = || Host::new(root);
        Self {
            begun: Instant::now(),
            known: in_background(host(), Known::gather),
            sources: SOURCES.iter().map(|source| in_background(host(), source.read)).collect(),
            answers: QUESTIONS
                .iter()
                .map(|question| match question.find {
                    Find::Node(find) => Some(in_background(host(), find)),
                    Find::Checks(_) | Find::Person => None,
                })
                .collect(),
        }
    }

    /// How long the checks of `doctor` may take.
    pub(crate) fn time_for_checks(&self) -> Duration {
        READ.saturating_sub(self.begun.elapsed())
    }

    /// Waits for what is still being read, takes out secrets and names, and writes the file.
    pub(crate) fn write(self, target: &Target, checks: Result<Checks, String>) -> Result<Written> {
        let mut made = Making { begun: self.begun, files: Vec::new(), entries: Vec::new(), left_out: Vec::new() };
        let mut redactor = Redactor::default();
        let known = self.known.recv_timeout(READ.saturating_sub(self.begun.elapsed()));
        let knows_all = known.is_ok();
        if let Ok(checks) = &checks {
            // What this node itself calls a bucket comes first, so `bucket-1` is the one of the event logs.
            checks.names.iter().for_each(|(kind, name)| redactor.know_name(*kind, name));
        }
        if let Ok(known) = &known {
            known.teach(&mut redactor);
        }
        let unknown = || UNKNOWN.to_string();
        let texts = match &checks {
            _ if !knows_all => (Err(unknown()), Err(unknown())),
            Ok(checks) => {
                let json = serde_json::to_string_pretty(&redactor.messages(&checks.json)).unwrap_or_default();
                (Ok(redactor.text(&checks.text)), Ok(json))
            }
            Err(why) => (Err(why.clone()), Err(why.clone())),
        };
        let answers = match knows_all {
            true => Ok(answers(self.begun, &self.answers, checks.as_ref().ok(), &mut redactor)),
            false => Err(unknown()),
        };
        made.add(ANSWERS, "what this node answers to the open questions about EMR; read this first", answers);
        made.add("checks.txt", "the checks of doctor, as people read them", texts.0);
        made.add("checks.json", "the same for programs", texts.1);
        for (source, receiver) in SOURCES.iter().zip(&self.sources) {
            let parts =
                receive(receiver, self.begun).and_then(|parts| if knows_all { Ok(parts) } else { Err(unknown()) });
            let is_late = self.begun.elapsed() > READY;
            let text = match parts {
                Ok(_) if is_late => Err("there was no time left to take out names and secrets".into()),
                Ok(parts) => Ok(parts.into_iter().map(|part| shown(&mut redactor, part)).collect::<String>()),
                Err(why) => Err(redactor.text(&why)),
            };
            made.add(source.name, source.purpose, text);
        }
        for (path, why) in known.iter().flat_map(|known| &known.unread) {
            let why = format!("not read, so its secrets are recognized by their shape alone: {why}");
            let (name, why) = (redactor.text(&path.display().to_string()), redactor.text(&why));
            made.left_out.push(LeftOut { name, why });
        }
        made.finish(target)
    }
}

/// A bundle in the making.
struct Making {
    begun: Instant,
    files: Vec<(String, String)>,
    entries: Vec<Entry>,
    left_out: Vec<LeftOut>,
}

impl Making {
    fn add(&mut self, name: &str, purpose: &'static str, text: Result<String, String>) {
        match text {
            Ok(text) => {
                let text = at_most(text, LARGEST);
                self.entries.push(Entry { name: name.into(), size: text.len(), purpose });
                self.files.push((name.into(), text));
            }
            Err(why) => self.left_out.push(LeftOut { name: name.into(), why }),
        }
    }

    fn finish(mut self, target: &Target) -> Result<Written> {
        let list = self.list();
        self.add(LIST, "this list", Ok(list));
        let size = target.write(&self.files)?;
        Ok(Written { file: target.path().into(), size, files: self.entries, left_out: self.left_out })
    }

    /// The list for somebody who gets the bundle.
    fn list(&self) -> String {
        let mut text = format!(
            "A bundle of emr-shs {}: what helps to find out why a Spark History Server on Amazon EMR does not work.\n\
             Secrets are replaced by ***, and names by placeholders: bucket-1 is the same bucket in every file.\n\n",
            env!("CARGO_PKG_VERSION")
        );
        for entry in &self.entries {
            _ = writeln!(text, "{:<28} {:>8}  {}", entry.name, entry.size, entry.purpose);
        }
        for left in &self.left_out {
            _ = writeln!(text, "{:<28} not here  {}", left.name, left.why);
        }
        _ = writeln!(text, "\nmade within {:.1} s", self.begun.elapsed().as_secs_f64());
        text
    }
}

/// A part of a file without its secrets and names.
fn shown(redactor: &mut Redactor, part: Part) -> String {
    match part {
        Part::Text(text) => redactor.text(&text),
        Part::Unit(text) => redactor.unit(&text),
        Part::Settings(pairs) => {
            let lines =
                pairs.iter().map(|(key, value)| format!("{} {}\n", redactor.key(key), redactor.value(key, value)));
            lines.collect()
        }
        Part::Receipt(json) => serde_json::to_string_pretty(&redactor.settings(&json)).unwrap_or_default(),
        Part::JavaOptions(options) => {
            options.iter().map(|option| format!("  {}\n", redactor.java_option(option))).collect()
        }
    }
}

/// The text of [`ANSWERS`].
fn answers(
    begun: Instant,
    found: &[Option<Receiver<Result<Answer>>>],
    checks: Option<&Checks>,
    redactor: &mut Redactor,
) -> String {
    let mut text = String::from(
        "What this node answers to the open questions about EMR (docs/emr.md, section 11).\n\
         Names are replaced by placeholders and secrets by ***. Read this before you send it.\n",
    );
    for (question, receiver) in QUESTIONS.iter().zip(found) {
        _ = writeln!(text, "\nQ{}  {}", question.number, question.text);
        let answer = match (&question.find, receiver) {
            (Find::Node(_), Some(receiver)) => receive(receiver, begun),
            (Find::Checks(find), _) => checks.and_then(find).ok_or_else(|| "doctor did not find out".to_string()),
            _ => Err("a person has to do something first".into()),
        };
        let mut indented = |lines: &str| {
            for line in lines.trim_end().lines() {
                _ = writeln!(text, "    {line}");
            }
        };
        let needs_person = match answer {
            Ok(answer) => {
                indented(&redactor.text(&answer.found));
                answer.is_partial
            }
            Err(why) => {
                indented(&format!("not answered: {}", redactor.text(&why)));
                true
            }
        };
        if needs_person {
            indented(&format!("to find out more: {}", question.how));
        }
    }
    text
}

fn receive<T>(receiver: &Receiver<Result<T>>, begun: Instant) -> Result<T, String> {
    match receiver.recv_timeout(READ.saturating_sub(begun.elapsed())) {
        Ok(result) => result.map_err(|why| format!("{why:#}")),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            let file = crate::signals::hanging_file().map(|path| format!(": {} does not answer", path.display()));
            Err(format!("not read within {} s{}", READ.as_secs(), file.unwrap_or_default()))
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => Err("reading it failed".into()),
    }
}

fn in_background<T: Send + 'static>(host: Host, read: fn(&Host) -> T) -> Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // This fails if nobody waits any more.
        let _ = sender.send(read(&host));
    });
    receiver
}

fn at_most(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        let cut = (0..=bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push_str("\n… cut here\n");
    }
    text
}
