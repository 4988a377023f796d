//! systemd, through `systemctl`: what a unit is, and restarting it without waiting for ever.

use crate::error::Fault;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A unit as systemd knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unit {
    /// Whether there is such a unit.
    pub exists: bool,
    /// `active`, `inactive`, `failed`, …
    pub active: String,
    /// The main process, if systemd knows one.
    pub main_pid: Option<u32>,
    /// Whether it starts at boot.
    pub enabled: bool,
    /// How its last run ended: `success`, `exit-code`, `signal`, `oom-kill`, …
    pub result: String,
    /// The exit code or the signal it ended with.
    pub status: Option<i32>,
    /// When it became active, in systemd's words.
    pub since: String,
    /// Whether its start script is at work.
    #[serde(skip)]
    pub is_starting: bool,
    /// Whether it was ever started since boot.
    #[serde(skip)]
    pub was_started: bool,
    /// What it says it is doing, if it says so.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub says: String,
    /// When it was last started, in systemd's words.
    #[serde(skip)]
    pub started: String,
    /// How often systemd has started it again by itself.
    #[serde(skip)]
    pub restarts: u32,
    /// The `Environment=` of the unit and all its drop-ins. Not for others to read: it may hold
    /// what is nobody's business.
    #[serde(skip)]
    pub environment: BTreeMap<String, String>,
}

impl Unit {
    /// Whether it was stopped, and did not end by itself: what a Java process that is told to end
    /// makes of it is a failure.
    pub fn was_stopped(&self) -> bool {
        const TOLD_TO_END: [i32; 2] = [15, 128 + 15];
        self.active == "inactive" || self.active == "failed" && self.status.is_some_and(|s| TOLD_TO_END.contains(&s))
    }

    /// Whether it failed because its process was killed.
    pub fn was_killed(&self) -> bool {
        self.active == "failed" && matches!((self.result.as_str(), self.status), ("oom-kill", _) | ("signal", Some(9)))
    }
}

/// Whether this machine runs systemd.
pub(crate) fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Reads a unit.
pub(crate) fn show(unit: &str) -> Result<Unit> {
    let properties = "LoadState,ActiveState,SubState,UnitFileState,MainPID,ActiveEnterTimestamp,InactiveExitTimestamp,\
                      Environment,Result,ExecMainStatus,NRestarts,StatusText";
    let text = run(&["show", "--property", properties, unit], Duration::from_secs(10))?;
    let fields: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.split_once('=')).collect();
    let field = |name: &str| fields.get(name).copied().unwrap_or_default();
    Ok(Unit {
        exists: !matches!(field("LoadState"), "not-found" | ""),
        active: field("ActiveState").into(),
        main_pid: field("MainPID").parse().ok().filter(|pid| *pid != 0),
        enabled: field("UnitFileState") == "enabled",
        result: field("Result").into(),
        status: field("ExecMainStatus").parse().ok(),
        is_starting: field("SubState").starts_with("start"),
        was_started: !field("InactiveExitTimestamp").is_empty(),
        started: field("InactiveExitTimestamp").into(),
        says: field("StatusText").into(),
        restarts: field("NRestarts").parse().unwrap_or_default(),
        since: field("ActiveEnterTimestamp").into(),
        environment: words(field("Environment"))
            .iter()
            .filter_map(|w| w.split_once('='))
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect(),
    })
}

/// Makes systemd read its unit files again.
pub(crate) fn daemon_reload() -> Result<()> {
    run(&["daemon-reload"], Duration::from_secs(60)).map(drop)
}

/// Restarts a unit; fails if that is not through by `timeout`. That it succeeds proves little:
/// the script that starts the history server only looks for a pid after three seconds.
/// `watch` is called every now and then while it runs.
pub(crate) fn restart(unit: &str, timeout: Duration, watch: &mut dyn FnMut()) -> Result<()> {
    // A server that died several times is refused a start until its failures are forgotten.
    let _ = run(&["reset-failed", unit], Duration::from_secs(10));
    let begun = Instant::now();
    run_watched(&["restart", unit], timeout, watch).map(drop).inspect_err(|_| {
        if begun.elapsed() >= timeout {
            // The unit's own start or stop script hangs; without this the next restart waits for it.
            let _ = run(&["kill", "--signal=SIGKILL", "--kill-who=control", unit], Duration::from_secs(10));
        }
    })
}

/// Stops a unit.
pub(crate) fn stop(unit: &str) -> Result<()> {
    run(&["stop", unit], Duration::from_secs(60)).map(drop)
}

/// Makes a unit of ours start at boot or not, and run (anew) or not. The unit whose process this is
/// runs on: it is about to end by itself. The error ends with what the unit said last.
pub(crate) fn switch(unit: &str, enabled: bool, running: bool) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(60);
    let now = show(unit)?;
    let is_this = now.main_pid == Some(std::process::id());
    // One whose file is gone may still run.
    if !running && !is_this && (now.exists || now.main_pid.is_some()) {
        run(&["stop", unit], PATIENCE)?;
        // How it ended earlier is nobody's business any more.
        let _ = run(&["reset-failed", unit], Duration::from_secs(10));
    }
    if !now.exists && !enabled && !running {
        return Ok(());
    }
    // Either makes systemd read its unit files again.
    run(&[if enabled { "enable" } else { "disable" }, unit], PATIENCE)?;
    if running && !is_this {
        let _ = run(&["reset-failed", unit], Duration::from_secs(10));
        run(&["restart", unit], PATIENCE).map_err(|e| {
            let fault = Fault::failed(format!("{unit} does not start")).detail(format!("{e:#}"));
            last_words(unit).into_iter().fold(fault, Fault::detail).hint(format!("journalctl -u {unit} shows more"))
        })?;
    }
    Ok(())
}

/// The last error that a unit of ours wrote to the journal, with what belongs to it.
pub(crate) fn last_words(unit: &str) -> Vec<String> {
    let out = Command::new("journalctl").args(["-q", "-u", unit, "-n", "20", "-o", "cat", "--no-pager"]).output();
    let text = out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    let error = text.rfind("error: ").map_or("", |at| &text[at..]);
    let of_ours = error.lines().filter(|l| l.starts_with("error:") || l.starts_with("  ") || l.starts_with("hint:"));
    of_ours.map(|line| line.trim().to_string()).collect()
}

/// A value as an environment file holds it.
pub(crate) fn quote_value(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// An argument as an `Exec…=` line of a unit file holds it.
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
    let mut child = Command::new("systemctl")
        .args(args)
        // A Ctrl-C on the terminal is ours to answer.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| {
            Fault::preflight("systemctl cannot be run")
                .detail(e.to_string())
                .hint("emr-shs needs systemd: EMR 5.30, 6.0 or newer")
        })?;
    let deadline = Instant::now() + timeout;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // Not cut short by Ctrl-C: a start script that is left alone goes on, and what it starts
        // then is in the way of the next one.
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("systemctl {} did not end within {} s", args.join(" "), timeout.as_secs());
        }
        watch();
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut out = String::new();
    let mut err = String::new();
    child.stdout.take().context("piped")?.read_to_string(&mut out)?;
    child.stderr.take().context("piped")?.read_to_string(&mut err)?;
    if !status.success() {
        bail!(
            "systemctl {} failed: {}",
            args.join(" "),
            err.lines().next().unwrap_or("no reason given").trim_end_matches('.')
        );
    }
    Ok(out)
}

/// Splits what `systemctl show` prints for `Environment`: words, quoted where they hold spaces.
fn words(text: &str) -> Vec<String> {
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
