//! Hadoop's own client: a Java process that runs as one account of this machine, with a small class of emr-shs on a
//! class path of Hadoop's (`assets/hadoop-client/HadoopClient.java`).
//!
//! Requests and settings go through the process's standard input. Nothing secret is in its arguments, which every account
//! can read, or in a file.

use crate::files::Place;
use crate::programs::{self, Printed};
use crate::signals;
use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fs_err as fs;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// The class, compiled: `tests/node/hadoop_client.rs` compiles it again and compares.
const CLASS: &[u8] = include_bytes!("../assets/hadoop-client/HadoopClient.class");
const CLASS_NAME: &str = "HadoopClient";
/// Below this directory only root can make entries.
const RUNTIME_DIR: &str = "/run";
/// The directory of one process's class: this, the process's id, and a number.
const CLASS_DIR: &str = "emr-shs-hadoop-client-";
/// How long a line of an answer may be.
const LONGEST_ANSWER: usize = 1 << 20;
/// How often a waiting request looks whether a signal asks this process to stop.
const POLL: Duration = Duration::from_millis(50);
/// Enough for a client that moves a few kilobytes.
const JVM_OPTIONS: &[&str] = &["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"];

/// How to start the client for one account.
#[derive(Clone, Debug)]
pub(crate) struct HadoopClient {
    /// The program `java`.
    pub java: PathBuf,
    /// The account: its user id and its group id.
    pub account: (u32, u32),
    /// Elements as `java -cp` takes them.
    pub class_path: Vec<String>,
    /// Further options of Java.
    pub options: Vec<String>,
    pub environment: BTreeMap<String, String>,
    /// Hadoop properties that override those of the files on the class path.
    pub settings: BTreeMap<String, String>,
}

/// Why Hadoop's client did not do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum No {
    /// The file system refused, or could not. The text is Hadoop's own.
    Refused {
        text: String,
        /// Whether Hadoop says that the file or directory does not exist.
        is_missing: bool,
    },
    /// The client did not get as far as asking: there is no Java, a class is missing, the time was up.
    CannotTell(String),
    /// A signal asked emr-shs to stop.
    Interrupted,
}

impl No {
    /// A line below a message that says how S3 answered emr-shs.
    pub(crate) fn as_detail(&self) -> String {
        match self {
            No::Refused { text, .. } => format!("Hadoop's own client fails, too: {text}"),
            No::CannotTell(_) | No::Interrupted => self.as_message(),
        }
    }

    /// The same where nobody else has failed.
    pub(crate) fn as_message(&self) -> String {
        match self {
            No::Refused { text, .. } => format!("Hadoop's own client fails: {text}"),
            No::CannotTell(why) => format!("Hadoop's own client could not be asked: {why}"),
            No::Interrupted => "interrupted".into(),
        }
    }

    /// The same without a name that differs from run to run.
    pub(crate) fn without(self, name: &str, instead: &str) -> Self {
        match self {
            No::Refused { text, is_missing } => No::Refused { text: text.replace(name, instead), is_missing },
            other => other,
        }
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        *self == No::Interrupted
    }

    /// The same answer, or another one, to two accounts.
    pub(crate) fn and(&self, accounts: [&str; 2], other: &Self) -> Self {
        match (self, other) {
            (No::Interrupted, _) | (_, No::Interrupted) => No::Interrupted,
            (No::Refused { text: one, .. }, No::Refused { text: two, .. }) => {
                let text = format!("as user {}: {one}; as user {}: {two}", accounts[0], accounts[1]);
                No::Refused { text, is_missing: false }
            }
            (No::Refused { .. }, No::CannotTell(_)) => self.clone(),
            (No::CannotTell(_), _) => other.clone(),
        }
    }
}

/// A running client. Dropped, it ends.
pub(crate) struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    answers: Receiver<String>,
    printed: Printed<ChildStderr>,
    /// Until when a request waits for its answer.
    pub deadline: Instant,
    _class: ClassDir,
}

impl HadoopClient {
    /// Starts the client, which has until `deadline` for its first answers.
    pub(crate) fn start(&self, deadline: Instant) -> Result<Session, No> {
        let cannot = |e: anyhow::Error| No::CannotTell(format!("{} cannot be started: {e:#}", self.java.display()));
        self.try_to_start(deadline).map_err(cannot).and_then(|mut session| {
            for (key, value) in &self.settings {
                session.ask("set", &[key.as_bytes(), value.as_bytes()])?;
            }
            Ok(session)
        })
    }

    fn try_to_start(&self, deadline: Instant) -> Result<Session> {
        let class = ClassDir::make()?;
        let class_path = self.class_path.iter().map(String::as_str).chain([class.0.to_str().context("a path")?]);
        let (uid, gid) = self.account;
        let mut command = as_account(uid, gid, &self.java);
        command.args(JVM_OPTIONS).args(&self.options);
        command.arg("-cp").arg(class_path.collect::<Vec<_>>().join(":")).arg(CLASS_NAME);
        command.envs(&self.environment);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = programs::spawn(&mut command)?;
        let stdin = child.stdin.take();
        let (stdout, stderr) = (child.stdout.take().context("piped")?, child.stderr.take().context("piped")?);
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || pass_on(stdout, &sender));
        let printed = Printed::of(stderr).inspect_err(|_| programs::kill(&mut child))?;
        Ok(Session { child, stdin, answers, printed, deadline, _class: class })
    }
}

/// A command that runs `java` as an account, with all groups of the account. The Rust library alone can set the user and
/// one group, which has to do where there is no setpriv.
fn as_account(uid: u32, gid: u32, java: &Path) -> Command {
    let Some(setpriv) = programs::find("setpriv") else {
        let mut command = programs::at(java);
        command.uid(uid).gid(gid);
        return command;
    };
    let mut command = programs::at(&setpriv);
    command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).args(["--init-groups", "--"]).arg(java);
    command
}

impl Session {
    /// Whether a directory or an object exists.
    pub(crate) fn exists(&mut self, uri: &str) -> Result<bool, No> {
        self.ask("exists", &[uri.as_bytes()]).map(|said| said.as_deref() == Some("true"))
    }

    pub(crate) fn make_directory(&mut self, uri: &str) -> Result<(), No> {
        self.ask("make-directory", &[uri.as_bytes()]).map(drop)
    }

    /// Writes an object, over one that is there.
    pub(crate) fn write(&mut self, uri: &str, content: &[u8]) -> Result<(), No> {
        self.ask("write", &[uri.as_bytes(), content]).map(drop)
    }

    /// Lists a directory. Returns a file of it that is not empty.
    pub(crate) fn list(&mut self, uri: &str) -> Result<Option<String>, No> {
        self.ask("list", &[uri.as_bytes()])
    }

    /// Reads a byte.
    pub(crate) fn read(&mut self, uri: &str) -> Result<(), No> {
        self.ask("read", &[uri.as_bytes()]).map(drop)
    }

    pub(crate) fn delete(&mut self, uri: &str) -> Result<(), No> {
        self.ask("delete", &[uri.as_bytes()]).map(drop)
    }

    fn ask(&mut self, verb: &str, words: &[&[u8]]) -> Result<Option<String>, No> {
        let line = words.iter().fold(verb.to_string(), |line, word| line + " " + &STANDARD.encode(word)) + "\n";
        let sent = self.stdin.as_mut().map(|stdin| stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush()));
        if !matches!(sent, Some(Ok(()))) {
            return Err(self.why_it_ended());
        }
        loop {
            self.printed.read();
            match self.answers.recv_timeout(POLL) {
                Ok(line) => return understand(&line),
                Err(RecvTimeoutError::Disconnected) => return Err(self.why_it_ended()),
                // What a command wrote must go, also after a signal.
                Err(RecvTimeoutError::Timeout) if signals::stop_requested() && verb != "delete" => {
                    self.end();
                    return Err(No::Interrupted);
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() > self.deadline => {
                    self.end();
                    return Err(No::CannotTell("Hadoop's client did not answer in time".into()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Why Java ended before it was asked to: the first line of an error that it printed.
    fn why_it_ended(&mut self) -> No {
        self.end();
        let text = self.printed.text();
        let is_error = |line: &&str| ["rror", "xception", "nrecognized"].iter().any(|word| line.contains(word));
        let line = text.lines().find(is_error).or(text.lines().last()).unwrap_or("it printed nothing");
        No::CannotTell(format!("Java ended: {}", short(line)))
    }

    /// Ends the process and all that it has started.
    fn end(&mut self) {
        self.stdin = None;
        programs::kill(&mut self.child);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads an answer: `emr-shs yes [TEXT]`, or `emr-shs no` and the class and the message of each cause.
fn understand(line: &str) -> Result<Option<String>, No> {
    let mut words = line.split(' ');
    let decode = |word: &str| {
        let bytes = STANDARD.decode(word).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    match (words.next(), words.next()) {
        (Some("emr-shs"), Some("yes")) => Ok(words.next().map(decode)),
        (Some("emr-shs"), Some("no")) => {
            let words: Vec<String> = words.map(decode).collect();
            Err(refusal(words.chunks(2).filter_map(|cause| Some((cause.first()?.as_str(), cause.get(1)?.as_str())))))
        }
        _ => Err(No::CannotTell("Java answered with something else".into())),
    }
}

/// What the causes of an exception mean, outermost first.
fn refusal<'a>(causes: impl Iterator<Item = (&'a str, &'a str)>) -> No {
    let causes: Vec<(&str, &str)> = causes.collect();
    let lacks_class = |class: &str| {
        [
            "ClassNotFoundException",
            "NoClassDefFoundError",
            "NoSuchMethodError",
            "NoSuchFieldError",
            "UnsatisfiedLinkError",
        ]
        .iter()
        .any(|error| class.ends_with(error))
    };
    let name = |class: &str| class.rsplit(['.', '$']).next().unwrap_or(class).to_string();
    if let Some((class, message)) = causes.iter().rev().find(|(class, _)| lacks_class(class)) {
        // The class is missing by its whole name.
        return No::CannotTell(format!("{}: {}", name(class), cut(&first_line(message))));
    }
    let (class, message) = causes.first().copied().unwrap_or(("an exception", "without a text"));
    let is_missing = causes.iter().any(|(class, _)| class.ends_with(".FileNotFoundException"));
    No::Refused { text: format!("{}: {}", name(class), short(message)), is_missing }
}

/// The beginning of a text of Java, in one line, without names of packages.
fn short(text: &str) -> String {
    cut(&first_line(text).split(' ').map(without_package).collect::<Vec<_>>().join(" "))
}

/// The first line of a text of Java. S3A repeats the SDK's words, with names of packages and ids of the request, from where
/// the SDK names the service.
fn first_line(text: &str) -> String {
    let line = text.split(['\n', '\r']).next().unwrap_or_default();
    let line = line.split(" (Service: ").next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).collect()
}

fn cut(line: &str) -> String {
    const LONGEST: usize = 300;
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.into(),
    }
}

/// `S3Exception:` of `com.amazonaws.services.s3.model.S3Exception:`.
fn without_package(word: &str) -> &str {
    let is_package = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase()) && part.chars().all(|c| c.is_ascii_alphanumeric())
    };
    let parts: Vec<&str> = word.split('.').collect();
    match parts.split_last() {
        Some((class, packages))
            if packages.len() > 1
                && packages.iter().all(|part| is_package(part))
                && class.starts_with(char::is_uppercase) =>
        {
            class
        }
        _ => word,
    }
}

/// Passes the answers on, and nothing that is too long for one.
fn pass_on(stdout: impl Read, answers: &mpsc::Sender<String>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        match stdout.by_ref().take(LONGEST_ANSWER as u64).read_until(b'\n', &mut line) {
            Ok(n) if n > 0 && line.ends_with(b"\n") => {}
            _ => return,
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_string();
        // An agent of Java can print here, too.
        if line.starts_with("emr-shs ") && answers.send(line).is_err() {
            return;
        }
    }
}

/// The directory of the class, which every account may read and nobody but root may change.
struct ClassDir(PathBuf);

impl ClassDir {
    fn make() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        sweep();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = Self(Path::new(RUNTIME_DIR).join(format!("{CLASS_DIR}{}-{number}", std::process::id())));
        let place = |path: &Path| Place::find(Path::new("/"), path, false);
        place(&dir.0)?.create_dir(0o755, (0, 0))?;
        place(&dir.0.join(format!("{CLASS_NAME}.class")))?.create_file(0o644, None, &mut &CLASS[..])?;
        Ok(dir)
    }
}

/// Removes the directories of processes that were killed.
fn sweep() {
    for entry in fs::read_dir(RUNTIME_DIR).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(CLASS_DIR)?.split_once('-')?.0.parse::<u32>().ok());
        let is_over = |pid: u32| pid != std::process::id() && !Path::new("/proc").join(pid.to_string()).exists();
        if pid.is_some_and(is_over) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for ClassDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
