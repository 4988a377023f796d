//! Ctrl-C, SIGTERM and SIGHUP. A command notices them between two steps. A command that does not notice, because a
//! call of the kernel hangs, is ended by a thread of its own: at once while nothing is being changed; while changes are
//! being made or put back, only if a file hangs. Then the receipt tells the next run what is left to do.

use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How long a command may take to notice a signal.
const GRACE: Duration = Duration::from_millis(600);
/// How long it may take to delete what a command has written to S3.
const TIDY: Duration = Duration::from_secs(6);
/// A file that has not answered for so long hangs: one that is read, and one that is written, because a busy disk takes
/// seconds to write.
const READING_HANGS: Duration = Duration::from_secs(1);
const WRITING_HANGS: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

static ASKED: AtomicBool = AtomicBool::new(false);
static IGNORED: AtomicBool = AtomicBool::new(false);
static JSON: AtomicBool = AtomicBool::new(false);
/// How many [`Changing`] exist.
static CHANGING: AtomicUsize = AtomicUsize::new(0);
/// One for each [`Tidying`].
static TIDYING: Mutex<Vec<(usize, Option<Cleanup>)>> = Mutex::new(Vec::new());
/// The exit code of a command that a signal ends.
static EXIT: AtomicI32 = AtomicI32::new(1);
/// What a command that a signal ends has to say.
static LAST_WORDS: Mutex<Option<&'static str>> = Mutex::new(None);
/// The files that are being read or written, and from when on they hang.
static USED: Mutex<Vec<(usize, PathBuf, Instant)>> = Mutex::new(Vec::new());
/// What else a process has to say that this module ends.
static POSTSCRIPT: Mutex<fn() -> Option<String>> = Mutex::new(|| None);
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// From now on a signal sets a flag, and ends the process if nobody looks at the flag. A signal that the caller made
/// this process ignore, as `nohup` does, stays ignored.
pub(crate) fn listen(json: bool) -> Result<()> {
    JSON.store(json, Ordering::Relaxed);
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let mask =
        status.lines().find_map(|l| u64::from_str_radix(l.strip_prefix("SigIgn:")?.trim(), 16).ok()).unwrap_or(0);
    let wanted: Vec<i32> = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|s| mask & (1 << (s - 1)) == 0).collect();
    let mut signals = Signals::new(&wanted)?;
    // The kernel gives a signal to the first thread that does not block it, and that thread may wait for a file without an
    // end. So only the thread for signals gets them. Threads that start later inherit this. Programs would, too, without
    // `programs::spawn`.
    let blocked: SigSet = wanted.iter().filter_map(|signal| Signal::try_from(*signal).ok()).collect();
    blocked.thread_block()?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        let _ = blocked.thread_unblock();
        if signals.forever().next().is_some() {
            ASKED.store(true, Ordering::Relaxed);
            // Further signals change nothing, and must not kill the process.
            thread::spawn(move || signals.forever().for_each(drop));
            end_if_nobody_does();
        }
    })?;
    Ok(())
}

/// Whether a signal has asked this process to stop.
pub(crate) fn stop_requested() -> bool {
    !IGNORED.load(Ordering::Relaxed) && ASKED.load(Ordering::Relaxed)
}

/// Asks what looks at [`stop_requested`] to stop. For a process that takes its signals itself.
pub(crate) fn request_stop() {
    ASKED.store(true, Ordering::Relaxed);
}

/// An error if a signal has asked this process to stop.
pub(crate) fn check() -> Result<()> {
    if stop_requested() {
        bail!("interrupted");
    }
    Ok(())
}

/// Ignores signals from here on: a rollback must finish.
pub(crate) fn ignore() {
    IGNORED.store(true, Ordering::Relaxed);
}

/// While this exists, the node is being changed: a signal must not end the process, unless a file hangs.
pub(crate) struct Changing(());

impl Changing {
    pub(crate) fn begin() -> Self {
        CHANGING.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        CHANGING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Deletes what a command has written to S3. The error names what is left.
type Cleanup = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// While this exists, objects of this command lie in S3: after a signal there is a moment to delete them.
pub(crate) struct Tidying(usize);

impl Tidying {
    /// For a command that deletes its objects by itself, whatever happens, and waits for S3 alone.
    pub(crate) fn begin() -> Self {
        Self::register(None)
    }

    /// For a command that also waits for others, which may hang: after a signal, `cleanup` runs on another thread.
    pub(crate) fn by(cleanup: impl FnOnce() -> Result<(), String> + Send + 'static) -> Self {
        Self::register(Some(Box::new(cleanup)))
    }

    fn register(cleanup: Option<Cleanup>) -> Self {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        TIDYING.lock().unwrap_or_else(PoisonError::into_inner).push((id, cleanup));
        Self(id)
    }
}

impl Drop for Tidying {
    fn drop(&mut self) {
        TIDYING.lock().unwrap_or_else(PoisonError::into_inner).retain(|(id, _)| *id != self.0);
    }
}

/// Starts the cleanups of the command, and counts those that are not over. Each sends what it could not delete.
fn tidy(failed: &mpsc::Sender<String>) -> usize {
    let mut tidying = TIDYING.lock().unwrap_or_else(PoisonError::into_inner);
    for (id, cleanup) in tidying.iter_mut() {
        let (id, failed) = (*id, failed.clone());
        if let Some(cleanup) = cleanup.take() {
            thread::spawn(move || {
                if let Err(left) = cleanup() {
                    let _ = failed.send(left);
                }
                drop(Tidying(id));
            });
        }
    }
    tidying.len()
}

/// The exit code and the words of a command that a signal ends from here on.
pub(crate) fn end_with(exit: i32, words: &'static str) {
    EXIT.store(exit, Ordering::Relaxed);
    *LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
}

/// Whatever ends the command, a warning follows its last words if `warning` gives one.
pub(crate) fn end_with_warning(warning: fn() -> Option<String>) {
    *POSTSCRIPT.lock().unwrap_or_else(PoisonError::into_inner) = warning;
}

/// A file that is being read or written; dropped when the file has answered.
pub(crate) struct Using(usize);

/// Notes that a file is about to be opened or read.
pub(crate) fn reading(path: &Path) -> Using {
    Using::begin(path, READING_HANGS)
}

/// Notes that a file or an entry of a directory is about to be written, made, renamed or removed.
pub(crate) fn writing(path: &Path) -> Using {
    Using::begin(path, WRITING_HANGS)
}

impl Using {
    fn begin(path: &Path, patience: Duration) -> Self {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let hangs_from = Instant::now() + patience;
        USED.lock().unwrap_or_else(PoisonError::into_inner).push((id, path.into(), hangs_from));
        Self(id)
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        USED.lock().unwrap_or_else(PoisonError::into_inner).retain(|(id, ..)| *id != self.0);
    }
}

/// A file that keeps this process waiting, if one hangs.
pub(crate) fn hanging_file() -> Option<PathBuf> {
    let used = USED.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    used.iter().find(|(_, _, hangs_from)| now > *hangs_from).map(|(_, path, _)| path.clone())
}

/// Ends the process after `time`, whatever hangs. For commands that change nothing.
pub(crate) fn deadline(time: Duration, words: &'static str) {
    thread::spawn(move || {
        thread::sleep(time);
        let file = hanging_file().map(|path| format!(": {} does not answer", path.display())).unwrap_or_default();
        end(&format!("{words}{file}"), None);
    });
}

fn end_if_nobody_does() {
    let begun = Instant::now();
    // A command that has put everything back still has to say so.
    let mut idle_since = begun;
    let (failed, left) = mpsc::channel();
    loop {
        thread::sleep(POLL);
        let is_changing = CHANGING.load(Ordering::Relaxed) > 0 || IGNORED.load(Ordering::Relaxed);
        if is_changing {
            idle_since = Instant::now();
            if let Some(path) = hanging_file().filter(|_| begun.elapsed() > GRACE) {
                end(
                    &format!(
                        "interrupted while {} hangs, so this command stops in the middle; the receipt lists what it has changed",
                        path.display()
                    ),
                    Some("once the file answers: sudo emr-shs uninstall, or run the command again"),
                );
            }
            continue;
        }
        if idle_since.elapsed() > GRACE && (tidy(&failed) == 0 || begun.elapsed() > TIDY) {
            let words = *LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner);
            let hangs = hanging_file().map(|path| format!("{} does not answer", path.display()));
            let words: String = [words.unwrap_or("interrupted").to_string()]
                .into_iter()
                .chain(hangs)
                .chain(left.try_iter())
                .collect::<Vec<_>>()
                .join("; ");
            end(&words, None);
        }
    }
}

/// Ends the process. The terminal, too, may hang.
fn end(message: &str, hint: Option<&'static str>) {
    let exit = EXIT.load(Ordering::Relaxed);
    let is_failure = exit != 0;
    let message = crate::shown::visible_line(message).into_owned();
    let warning = *POSTSCRIPT.lock().unwrap_or_else(PoisonError::into_inner);
    let warning = warning().map(|text| crate::shown::visible_line(&text).into_owned());
    let (done, printed) = mpsc::channel();
    thread::spawn(move || {
        let mut stderr = std::io::stderr();
        // A spinner leaves its line.
        let clear = if stderr.is_terminal() { "\r\u{1b}[K" } else { "" };
        let _ = match is_failure {
            true => writeln!(stderr, "{clear}error: {message}"),
            false => writeln!(stderr, "{clear}{message}"),
        };
        if let Some(hint) = hint {
            let _ = writeln!(stderr, "hint: {hint}");
        }
        if let Some(warning) = &warning {
            let _ = writeln!(stderr, "warning: {warning}");
        }
        if is_failure && JSON.load(Ordering::Relaxed) {
            let details: Vec<String> = warning.into_iter().collect();
            let error = serde_json::json!({ "message": message, "details": details, "hint": hint, "exit": exit });
            let _ = writeln!(std::io::stdout(), "{}", serde_json::json!({ "schema": 1, "error": error }));
        }
        let _ = done.send(());
    });
    let _ = printed.recv_timeout(Duration::from_millis(150));
    signal_hook::low_level::exit(exit);
}
