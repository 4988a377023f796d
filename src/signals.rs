//! Ctrl-C and SIGTERM, noticed between two changes, so that the node is put back before we go.

use anyhow::{Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
static IGNORED: AtomicBool = AtomicBool::new(false);

/// From now on a signal asks us to stop instead of killing us. A signal that `nohup` told us to
/// ignore stays ignored.
pub(crate) fn listen() -> Result<()> {
    let flag = ASKED.get_or_init(Arc::default);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask =
        status.lines().find_map(|l| u64::from_str_radix(l.strip_prefix("SigIgn:")?.trim(), 16).ok()).unwrap_or(0);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if mask & (1 << (signal - 1)) == 0 {
            signal_hook::flag::register(signal, Arc::clone(flag))?;
        }
    }
    Ok(())
}

/// Whether somebody asked us to stop.
pub(crate) fn asked() -> bool {
    !IGNORED.load(Ordering::Relaxed) && ASKED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// An error if somebody asked us to stop.
pub(crate) fn check() -> Result<()> {
    if asked() {
        bail!("interrupted");
    }
    Ok(())
}

/// From now on nobody is listened to: the way back is gone to its end.
pub(crate) fn ignore() {
    IGNORED.store(true, Ordering::Relaxed);
}
