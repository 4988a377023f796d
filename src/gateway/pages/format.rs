//! Sizes, times and spans, as the pages show them.

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use std::time::Duration;

/// `1.4 MB`
pub(in crate::gateway) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    // From 999.5 on, a value without decimals is rounded to four digits: the next unit is shorter.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 10.0 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// `2026-11-22 18:00:03`
pub(super) fn time(at: Option<&DateTime>) -> String {
    let text = at.and_then(|t| DateTime::from_secs(t.secs()).fmt(DateTimeFormat::DateTime).ok()).unwrap_or_default();
    text.replace('T', " ").trim_end_matches('Z').to_string()
}

/// `2 minutes`
pub(in crate::gateway) fn span(span: Duration) -> String {
    let (count, unit) = match span.as_secs() {
        s @ 0..60 => (s, "second"),
        s @ 60..3600 => (s / 60, "minute"),
        s @ 3600..172_800 => (s / 3600, "hour"),
        s => (s / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
