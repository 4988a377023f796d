//! systemd, through `systemctl`: reads units, and restarts them within a time limit.

use crate::error::Fault;
use crate::programs::{self, NotRun};
use crate::shown::hint;
use anyhow::{Result, bail};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The process id of systemd.
pub(crate) const SYSTEMD: u32 = 1;

/// How long journald may take to have the error of a unit that has failed.
const JOURNAL_DELAY: Duration = Duration::from_secs(1);
/// How long a read of the journal may take.
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a unit of emr-shs may take to start or to stop.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(60);

/// Whether unit files have changed since systemd read them. Each reading takes a tenth of a second and more, so systemd
/// reads them once, before it starts something.
static UNREAD: AtomicBool = AtomicBool::new(false);

/// A unit as systemd knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unit {
    pub exists: bool,
    /// `active`, `inactive`, `failed`, …
    pub active: String,
    /// The main process; `None` if systemd knows none.
    pub main_pid: Option<u32>,
    /// The unit's control group, from the root of systemd's own hierarchy: `/system.slice/spark-history-server.service`.
    #[serde(skip)]
    pub control_group: Option<String>,
    /// Whether `systemctl mask` forbids every start of the unit.
    #[serde(skip)]
    pub is_masked: bool,
    /// Whether the unit starts at boot.
    pub enabled: bool,
    /// How the last run ended: `success`, `exit-code`, `signal`, `oom-kill`, …
    pub result: String,
    /// The exit code or the signal of the last run.
    pub status: Option<i32>,
    /// When the unit became active, as systemd prints it.
    pub since: String,
    /// Whether the unit's start script is running.
    #[serde(skip)]
    pub is_starting: bool,
    /// Whether the unit's process was killed and systemd waits before it starts it again.
    #[serde(skip)]
    pub is_restarting: bool,
    /// Whether systemd is to start or to stop the unit, and has not done so yet.
    #[serde(skip)]
    pub is_queued: bool,
    /// Whether systemd has started the unit since boot.
    #[serde(skip)]
    pub was_started: bool,
    /// The status text that the unit sent to systemd; empty if it sent none.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[serde(rename = "says")]
    pub status_text: String,
    /// When systemd last started the unit, as systemd prints it.
    #[serde(skip)]
    pub started: String,
    /// The sockets, paths and timers that start the unit.
    #[serde(skip)]
    pub triggered_by: Vec<String>,
    /// What a socket unit names in `Listen…=`, as systemd prints it.
    #[serde(skip)]
    pub listens: Vec<String>,
    /// How often systemd has restarted the unit by itself.
    #[serde(skip)]
    pub restarts: u32,
    /// The `Environment=` of the unit and of its drop-ins. JSON leaves it out, because it may contain secrets.
    #[serde(skip)]
    pub environment: BTreeMap<String, String>,
}

impl Unit {
    /// Whether somebody stopped the unit. A Java process that receives SIGTERM exits with 143, which systemd takes
    /// for a failure.
    pub fn was_stopped(&self) -> bool {
        const SIGTERM: [i32; 2] = [15, 128 + 15];
        self.active == "inactive" || self.active == "failed" && self.status.is_some_and(|s| SIGTERM.contains(&s))
    }

    /// The first address of a socket unit, while the unit is active.
    pub(crate) fn listens_on(&self) -> Option<SocketAddr> {
        self.listens.first().filter(|_| self.active == "active")?.parse().ok()
    }

    /// Whether the unit failed because somebody, or the kernel, killed its process.
    pub fn was_killed(&self) -> bool {
        self.active == "failed" && matches!((self.result.as_str(), self.status), ("oom-kill", _) | ("signal", Some(9)))
    }
}

pub(crate) fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// What the systemd that runs says of its version: `systemd 252 (252.39-1~deb12u1)`; `None` if none runs, or if it does not tell.
pub(crate) fn version_line() -> Option<String> {
    let text = is_running().then(|| run(&["--version"], Duration::from_secs(8)).ok())??;
    text.lines().next().map(str::to_string)
}

/// The version of the systemd that runs; `None` if none does, or if it does not tell.
pub(crate) fn version() -> Option<u32> {
    version_line()?.split_whitespace().nth(1)?.parse().ok()
}

pub(crate) fn show(unit: &str) -> Result<Unit> {
    let properties = "LoadState,ActiveState,SubState,UnitFileState,MainPID,ActiveEnterTimestamp,InactiveExitTimestamp,\
                      Environment,Result,ExecMainStatus,NRestarts,StatusText,Id,Slice,ControlGroup,\
                      TriggeredBy,Listen,Job";
    let text = run(&["show", "--property", properties, unit], Duration::from_secs(10))?;
    let fields: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.split_once('=')).collect();
    let field = |name: &str| fields.get(name).copied().unwrap_or_default();
    // An empty answer must not count as a unit that does not run: emr-shs would report a living server as dead.
    if field("ActiveState").is_empty() {
        bail!("systemctl show {unit} told no state of the unit");
    }
    Ok(Unit {
        exists: !matches!(field("LoadState"), "not-found" | ""),
        active: field("ActiveState").into(),
        main_pid: field("MainPID").parse().ok().filter(|pid| *pid != 0),
        control_group: control_group(field("ControlGroup"), field("Slice"), field("Id")),
        is_masked: field("LoadState") == "masked",
        enabled: field("UnitFileState") == "enabled",
        result: field("Result").into(),
        status: field("ExecMainStatus").parse().ok(),
        is_starting: field("SubState").starts_with("start"),
        is_restarting: field("SubState") == "auto-restart",
        is_queued: !matches!(field("Job"), "" | "0"),
        was_started: !field("InactiveExitTimestamp").is_empty(),
        started: field("InactiveExitTimestamp").into(),
        status_text: field("StatusText").into(),
        triggered_by: field("TriggeredBy").split_whitespace().map(Into::into).collect(),
        listens: listens(&text),
        restarts: field("NRestarts").parse().unwrap_or_default(),
        since: field("ActiveEnterTimestamp").into(),
        environment: words(field("Environment"))
            .iter()
            .filter_map(|w| w.split_once('='))
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect(),
    })
}

/// What a socket unit listens on. systemd 219 prints `ListenStream=[::]:9977`, later ones `Listen=[::]:9977 (Stream)`.
fn listens(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("Listen")?.split_once('='));
    lines.filter_map(|(_, value)| value.split(' ').next()).map(Into::into).collect()
}

/// The control group of a unit. systemd names none while nothing of the unit runs. The next start makes the group in the
/// unit's slice, and `a-b.slice` lies in `a.slice`.
fn control_group(named: &str, slice: &str, id: &str) -> Option<String> {
    if !named.is_empty() {
        return Some(named.into());
    }
    let name = slice.strip_suffix(".slice").filter(|_| !id.is_empty())?;
    let parents = name.match_indices('-').map(|(at, _)| &name[..at]).chain([name]);
    // The name of the root slice is `-.slice`, and its path is empty.
    let parents = parents.filter(|part| !part.is_empty() && *part != "-");
    Some(parents.map(|part| format!("/{part}.slice")).collect::<String>() + "/" + id)
}

/// Notes that a unit file, or what starts at boot, has changed.
pub(crate) fn unit_files_changed() {
    UNREAD.store(true, Ordering::Relaxed);
}

/// Makes systemd read its unit files again, if this process has changed them.
pub(crate) fn read_unit_files() -> Result<()> {
    if !is_running() || !UNREAD.swap(false, Ordering::Relaxed) {
        return Ok(());
    }
    run(&["daemon-reload"], Duration::from_secs(60)).map(drop).inspect_err(|_| unit_files_changed())
}

/// Restarts a unit. Fails if systemctl has not ended after `timeout`. Success proves little: the start script of the
/// history server looks once, after three seconds, whether the process exists. Calls `watch` again and again while
/// systemctl runs.
pub(crate) fn restart(unit: &str, timeout: Duration, watch: &mut dyn FnMut()) -> Result<()> {
    read_unit_files()?;
    // systemd refuses to start a unit that has failed several times, until the failures are reset.
    let _ = run(&["reset-failed", unit], Duration::from_secs(10));
    let begun = Instant::now();
    run_watched(&["restart", unit], timeout, watch).map(drop).inspect_err(|_| {
        if begun.elapsed() >= timeout {
            // The unit's start or stop script hangs. The next restart would wait for it.
            let _ = run(&["kill", "--signal=SIGKILL", "--kill-who=control", unit], Duration::from_secs(10));
        }
    })
}

pub(crate) fn stop(unit: &str) -> Result<()> {
    run(&["stop", unit], Duration::from_secs(60)).map(drop)
}

/// Enables or disables a unit of emr-shs, and (re)starts or stops it. If this process is the unit's main process, the
/// unit keeps running, because the process is about to end. The error ends with the unit's last error.
pub(crate) fn switch(unit: &str, enabled: bool, running: bool) -> Result<()> {
    let now = show(unit)?;
    let is_this = now.main_pid == Some(std::process::id());
    // A unit whose file is gone can still run.
    if !running && !is_this && (now.exists || now.main_pid.is_some()) {
        // A socket that listens on would start the unit again.
        let triggers = now.triggered_by.iter().map(String::as_str);
        let stop: Vec<&str> = ["stop"].into_iter().chain(triggers).chain([unit]).collect();
        run(&stop, SWITCH_TIMEOUT)?;
        // Otherwise systemd keeps showing the unit as failed.
        let _ = run(&["reset-failed", unit], Duration::from_secs(10));
    }
    if !now.exists && !enabled && !running {
        return Ok(());
    }
    if now.enabled != enabled {
        enable(&[unit], enabled)?;
    }
    if running && !is_this {
        reset_failures(&now, unit);
        start("restart", unit)?;
    }
    Ok(())
}

/// Decides whether units start at boot. systemd reads its unit files again before it starts something.
pub(crate) fn enable(units: &[&str], enabled: bool) -> Result<()> {
    unit_files_changed();
    let verb = if enabled { "enable" } else { "disable" };
    run(&[&[verb, "--no-reload"], units].concat(), SWITCH_TIMEOUT).map(drop)
}

/// systemd refuses to start a unit that it has started too often, until the failures are reset.
fn reset_failures(now: &Unit, unit: &str) {
    if now.was_started || now.active == "failed" {
        let _ = run(&["reset-failed", unit], Duration::from_secs(10));
    }
}

/// Makes systemd listen on the address in the file of a socket unit. systemd opens no socket under a service that runs, so
/// the service stops meanwhile, with its other sockets, which would start it, and starts again with all of them.
pub(crate) fn listen(now: &Unit, socket: &str, service: &str) -> Result<()> {
    let running = show(service)?;
    let ran = running.main_pid.is_some();
    let mut others = Vec::new();
    for other in running.triggered_by.iter().filter(|other| *other != socket) {
        if show(other)?.active == "active" {
            others.push(other.as_str());
        }
    }
    // A service that does not run stops, too: another socket could start it meanwhile.
    let stopped = match ran || !others.is_empty() {
        true => run(&[&["stop", socket, service], &others[..]].concat(), SWITCH_TIMEOUT).map(drop),
        false => Ok(()),
    };
    reset_failures(now, socket);
    // The other sockets and the service start again, also where the stop has failed.
    let listens = stopped.and_then(|()| start("restart", socket));
    let began = others.iter().try_for_each(|other| start("start", other));
    let runs = if ran { start("start", service) } else { Ok(()) };
    listens.and(began).and(runs)
}

fn start(verb: &str, unit: &str) -> Result<()> {
    read_unit_files()?;
    run(&[verb, unit], SWITCH_TIMEOUT).map(drop).map_err(|e| {
        let fault = Fault::failed(format!("{unit} does not start")).detail(format!("{e:#}"));
        let fault = last_words(unit).into_iter().fold(fault, Fault::detail);
        fault.hint(hint!("to see more: sudo journalctl -u {}", unit)).into()
    })
}

/// The last error that a unit of emr-shs wrote to the journal since the boot, with its facts and its hint.
pub(crate) fn last_words(unit: &str) -> Vec<String> {
    let args = ["-q", "-b", "-u", unit, "-n", "20", "-o", "cat", "--no-pager"];
    // journald can have the lines of a process only a moment after the process has ended.
    let until = Instant::now() + JOURNAL_DELAY;
    loop {
        let Ok(ended) = programs::run("journalctl", &args, JOURNAL_TIMEOUT, &mut || ()) else { return Vec::new() };
        let words = last_error(&ended.out);
        if !words.is_empty() || Instant::now() >= until {
            return words;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The last error of emr-shs in a text, with its facts and its hint.
fn last_error(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let begin = lines.iter().rposition(|line| line.starts_with("error: ")).unwrap_or(lines.len());
    let of_ours =
        lines[begin..].iter().filter(|l| l.starts_with("error:") || l.starts_with("  ") || l.starts_with("hint:"));
    of_ours.map(|line| line.trim().to_string()).collect()
}

/// Quotes a value for an environment file.
pub(crate) fn quote_value(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Quotes an argument for an `Exec…=` line of a unit file. systemd has rules of its own, so no library for shell
/// quoting fits.
pub(crate) fn quote_argument(argument: &str) -> String {
    let escaped = argument.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        '%' | '$' => format!("{c}{c}"),
        c if c.is_ascii_control() => format!("\\x{:02x}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

fn run(args: &[&str], timeout: Duration) -> Result<String> {
    run_watched(args, timeout, &mut || ())
}

fn run_watched(args: &[&str], timeout: Duration, watch: &mut dyn FnMut()) -> Result<String> {
    let ended = programs::run("systemctl", args, timeout, watch).map_err(|why| not_run(args, why))?;
    if !ended.success {
        bail!(
            "systemctl {} failed: {}",
            args.join(" "),
            ended.err.lines().next().unwrap_or("no reason given").trim_end_matches('.')
        );
    }
    Ok(ended.out)
}

fn not_run(args: &[&str], why: NotRun) -> Fault {
    let limit = match why {
        NotRun::NotStarted(why) => {
            return Fault::preflight("systemctl cannot be run")
                .detail(why.to_string())
                .hint("emr-shs needs systemd: EMR 5.30, 6.0 or newer");
        }
        NotRun::Hangs { limit } => limit.as_secs(),
    };
    let verb = args.first().copied().unwrap_or_default();
    let unit = args.last().copied().filter(|last| *last != verb);
    let command = [Some("systemctl"), Some(verb), unit].into_iter().flatten().collect::<Vec<_>>().join(" ");
    match unit {
        // These wait for the unit's own programs.
        Some(unit) if ["restart", "stop"].contains(&verb) => {
            Fault::failed(format!("{command} did not end within {limit} s"))
                .hint(hint!("to see what {} waits for: sudo systemctl list-jobs; sudo systemctl status {}", unit, unit))
        }
        _ => Fault::failed(format!("systemd does not answer: {command} did not end within {limit} s")).hint(
            "to see whether systemd answers again: sudo systemctl list-jobs; to see what it said last: sudo journalctl -n 50 \
             _PID=1; then run this command again",
        ),
    }
}

/// Splits the `Environment` that `systemctl show` prints: words, quoted if they contain spaces. systemd's quoting is
/// not that of a shell, so no library for shell words fits.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => word.extend(chars.next()),
            (c, Some(q)) if c == q => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            (' ', None) => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            (c, _) => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{control_group, last_error, listens};

    #[test]
    fn the_last_error_begins_a_line() {
        let text =
            "error: an older one\nhint: x\nstarted\nerror: S3 refuses\n  Hadoop says: error: 403\nhint: y\nstopped";
        assert_eq!(last_error(text), ["error: S3 refuses", "Hadoop says: error: 403", "hint: y"]);
        assert!(last_error("all is well\n").is_empty());
    }

    #[test]
    fn every_systemd_tells_what_a_socket_unit_listens_on() {
        assert_eq!(listens("Id=a.socket\nListenStream=[::]:9977\nListenStream=/run/a"), ["[::]:9977", "/run/a"]);
        assert_eq!(listens("Listen=0.0.0.0:9977 (Stream)\nActiveState=active"), ["0.0.0.0:9977"]);
        assert_eq!(listens("ActiveState=active"), [""; 0]);
    }

    #[test]
    fn the_control_group_of_a_unit_that_does_not_run_follows_from_its_slice() {
        let group = |named, slice| control_group(named, slice, "a.service").unwrap_or_default();
        assert_eq!(group("/system.slice/b.service", "system.slice"), "/system.slice/b.service");
        assert_eq!(group("", "system.slice"), "/system.slice/a.service");
        assert_eq!(group("", "emr-spark.slice"), "/emr.slice/emr-spark.slice/a.service");
        assert_eq!(group("", "-.slice"), "/a.service");
        assert_eq!(group("", ""), "");
        assert_eq!(control_group("", "system.slice", ""), None);
    }
}
