//! Other programs: how emr-shs starts them, and how long it waits for them.
//!
//! What sudo, a step or a shell's profile leaves in the environment must not decide what root executes: `PATH`,
//! `LD_PRELOAD`, `BASH_ENV` or `JAVA_TOOL_OPTIONS` can make a program run somebody else's code. So a program is started by
//! its absolute path, and its environment contains what this module and the caller name, and nothing else. Clippy refuses
//! `Command::new` elsewhere (`clippy.toml`).

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::Pid;
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The directories of the system's programs. Only root can write there.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// How often a program that runs is looked at.
const POLL: Duration = Duration::from_millis(5);
/// How long a program may take to end after SIGKILL.
const LAST_MOMENT: Duration = Duration::from_millis(500);
/// How much of what a program prints is kept.
const KEPT_OUTPUT: usize = 4 << 20;
/// How much is read from a pipe at once: more than a pipe holds, which is 64 KiB.
const ONE_READING: usize = 1 << 20;

/// The program at an absolute path. A Ctrl-C on the terminal does not reach it: emr-shs decides when it ends.
#[expect(clippy::disallowed_methods, reason = "this is the only place that starts programs")]
pub(crate) fn at(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.env_clear().env("PATH", PATH).env("LANG", "C.UTF-8");
    command.current_dir("/").stdin(Stdio::null()).process_group(0);
    command
}

/// Starts a program that [`at`] made. emr-shs blocks signals in most of its threads (`src/signals.rs`), and a program would
/// inherit that.
#[expect(clippy::disallowed_methods, reason = "this is the only place that starts programs")]
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    let mask = SigSet::thread_get_mask()?;
    SigSet::empty().thread_set_mask()?;
    let child = command.spawn();
    mask.thread_set_mask()?;
    child
}

/// Where a program of the system lies.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    PATH.split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
}

/// Why a program has not done its work.
#[derive(Debug)]
pub(crate) enum NotRun {
    NotStarted(io::Error),
    /// The program did not end in time, and was killed.
    Hangs {
        limit: Duration,
    },
}

impl fmt::Display for NotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(why) => write!(f, "cannot be run: {why}"),
            Self::Hangs { limit } => write!(f, "did not end within {} s", limit.as_secs()),
        }
    }
}

impl std::error::Error for NotRun {}

/// What a program that has ended printed.
pub(crate) struct Ended {
    pub success: bool,
    pub out: String,
    pub err: String,
}

/// Runs a program of the system, which has to end within a limit. Calls `watch` again and again meanwhile. A signal does
/// not cut this short: what the program has begun would go on alone.
pub(crate) fn run(name: &str, args: &[&str], limit: Duration, watch: &mut dyn FnMut()) -> Result<Ended, NotRun> {
    let path = find(name).ok_or_else(|| {
        NotRun::NotStarted(io::Error::new(ErrorKind::NotFound, format!("there is no {name} in {PATH}")))
    })?;
    let mut command = at(&path);
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    let begun = Instant::now();
    let mut child = spawn(&mut command).map_err(NotRun::NotStarted)?;
    let pipes = (child.stdout.take().map(Printed::of), child.stderr.take().map(Printed::of));
    let (Some(Ok(mut out)), Some(Ok(mut err))) = pipes else {
        kill(&mut child);
        return Err(NotRun::NotStarted(io::Error::other("its output cannot be read")));
    };
    let status = loop {
        if let Some(status) = child.try_wait().map_err(NotRun::NotStarted)? {
            break status;
        }
        if begun.elapsed() > limit {
            kill(&mut child);
            return Err(NotRun::Hangs { limit });
        }
        watch();
        out.read();
        err.read();
        thread::sleep(POLL);
    };
    Ok(Ended { success: status.success(), out: out.text(), err: err.text() })
}

/// Ends a program that [`at`] made, and all that it has started. Does not wait for one that the kernel holds.
pub(crate) fn kill(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id())
        && !matches!(child.try_wait(), Ok(Some(_)))
    {
        // This fails if the process is gone already, which is what we want.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let begun = Instant::now();
    while matches!(child.try_wait(), Ok(None)) && begun.elapsed() < LAST_MOMENT {
        thread::sleep(POLL);
    }
}

/// The beginning of what a program prints. The rest is read, too, so that the program does not wait.
pub(crate) struct Printed<P> {
    pipe: P,
    kept: Vec<u8>,
}

impl<P: Read + AsFd> Printed<P> {
    pub(crate) fn of(pipe: P) -> io::Result<Self> {
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { pipe, kept: Vec::new() })
    }

    /// Reads what is in the pipe now. A program that has filled its pipe waits until somebody calls this.
    pub(crate) fn read(&mut self) {
        let mut chunk = [0; 4096];
        let mut read = 0;
        while let Ok(n @ 1..) = self.pipe.read(&mut chunk) {
            let room = KEPT_OUTPUT.saturating_sub(self.kept.len()).min(n);
            self.kept.extend_from_slice(&chunk[..room]);
            read += n;
            if read > ONE_READING {
                return;
            }
        }
    }

    /// The text so far: the whole one of a program that has ended, for what it printed is in the pipe. Nothing waits for
    /// what the program has started and left: that can keep the pipe open. A unit's environment can contain bytes that
    /// are not UTF-8.
    pub(crate) fn text(&mut self) -> String {
        self.read();
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

    use super::*;

    fn sh(script: &str, limit: Duration) -> Result<Ended, NotRun> {
        run("sh", &["-c", script], limit, &mut || ())
    }

    #[test]
    fn a_program_gets_no_variable_of_this_process() {
        assert!(std::env::vars().count() > 2);
        let ended = run("env", &[], Duration::from_secs(10), &mut || ()).unwrap();
        let mut lines: Vec<&str> = ended.out.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["LANG=C.UTF-8", &format!("PATH={PATH}")]);
        assert!(PATH.split(':').all(|dir| find("sh").is_some_and(|sh| sh.is_absolute()) && dir.starts_with('/')));
    }

    #[test]
    fn a_program_blocks_no_signal_that_this_process_blocks() {
        let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
        signals.thread_block().unwrap();
        let ended = run("grep", &["SigBlk", "/proc/self/status"], Duration::from_secs(10), &mut || ()).unwrap();
        signals.thread_unblock().unwrap();
        assert_eq!(ended.out.trim_start_matches("SigBlk:").trim(), "0000000000000000");
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_all_that_it_started() {
        let begun = Instant::now();
        let dir = tempfile::tempdir().unwrap();
        let late = dir.path().join("late");
        // The shell below it has the name in its command line.
        let script = format!("(sleep 40; touch {}) & sleep 60", late.display());
        let hangs = sh(&script, Duration::from_millis(300));
        assert!(matches!(hangs, Err(NotRun::Hangs { .. })));
        let runs = || {
            let processes = fs_err::read_dir("/proc").unwrap().flatten();
            let lines = processes.filter_map(|process| fs_err::read_to_string(process.path().join("cmdline")).ok());
            lines.into_iter().any(|line| line.contains(late.to_str().unwrap()))
        };
        while runs() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
            thread::sleep(Duration::from_millis(20));
        }
        assert!(begun.elapsed() < Duration::from_secs(20) && !late.exists(), "{:?}", begun.elapsed());
    }

    #[test]
    fn output_of_any_length_arrives_also_from_a_program_that_leaves_something_running() {
        let ended = sh("head -c 300000 /dev/zero | tr '\\0' x; echo end >&2; exit 3", Duration::from_secs(20)).unwrap();
        assert_eq!((ended.success, ended.out.len(), ended.err.as_str()), (false, 300_000, "end\n"));
        let begun = Instant::now();
        let ended = sh("sleep 30 & echo done", Duration::from_secs(20)).unwrap();
        assert_eq!(ended.out, "done\n");
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let missing = run("no-such-program", &[], Duration::from_secs(1), &mut || ());
        assert!(missing.err().unwrap().to_string().contains("there is no no-such-program in /usr/sbin"));
    }
}
