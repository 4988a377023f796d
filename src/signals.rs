//! Ctrl-C, SIGTERM and SIGHUP. A command notices them between two changes, and puts the node back before it ends.

use anyhow::{Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

static STOP_REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
static IGNORED: AtomicBool = AtomicBool::new(false);

/// From now on a signal sets a flag and does not kill the process. A signal that the caller made this process ignore,
/// as `nohup` does, stays ignored.
pub(crate) fn listen() -> Result<()> {
    let flag = STOP_REQUESTED.get_or_init(Arc::default);
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let mask =
        status.lines().find_map(|l| u64::from_str_radix(l.strip_prefix("SigIgn:")?.trim(), 16).ok()).unwrap_or(0);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if mask & (1 << (signal - 1)) == 0 {
            signal_hook::flag::register(signal, Arc::clone(flag))?;
        }
    }
    Ok(())
}

/// Whether a signal has asked this process to stop.
pub(crate) fn stop_requested() -> bool {
    !IGNORED.load(Ordering::Relaxed) && STOP_REQUESTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
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
