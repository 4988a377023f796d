//! Sizes, spans and names for people.

use std::time::Duration;

/// A span in its two largest units: `37s`, `4m 05s`, `2h 13m`, `3d 04h`.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match (seconds, span.as_millis()) {
        (0, 0) => "0s".into(),
        (0, ms) => format!("{ms}ms"),
        (1..60, _) => format!("{seconds}s"),
        (60..3600, _) => format!("{}m {:02}s", seconds / 60, seconds % 60),
        (3600..86_400, _) => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Bytes in the unit that gives one to three digits before the dot: `1.4 MB`.
pub(super) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.5 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A name in at most `width` columns. What distinguishes names of one pipeline stands at their end, so the middle goes.
pub(super) fn cut(name: &str, width: usize) -> String {
    if textwrap::core::display_width(name) <= width {
        return name.to_string();
    }
    let letters: Vec<char> = name.chars().collect();
    let fits = |letters: &[char]| textwrap::core::display_width(&letters.iter().collect::<String>());
    let room = width.saturating_sub(1);
    let (mut head, mut tail) = (0, letters.len());
    // One letter at a time from both ends, the beginning first.
    loop {
        let with_head = fits(&letters[..head + 1]) + fits(&letters[tail..]);
        if head >= tail || with_head > room {
            break;
        }
        head += 1;
        let with_tail = fits(&letters[..head]) + fits(&letters[tail - 1..]);
        if head >= tail || with_tail > room {
            break;
        }
        tail -= 1;
    }
    let part = |letters: &[char]| letters.iter().collect::<String>();
    format!("{}…{}", part(&letters[..head]), part(&letters[tail..]))
}

/// A text with blanks behind it up to a width in columns.
pub(super) fn padded(text: &str, width: usize) -> String {
    let blanks = width.saturating_sub(textwrap::core::display_width(text));
    format!("{text}{}", " ".repeat(blanks))
}

#[cfg(test)]
mod tests {
    use super::{bytes, cut, span};
    use crate::shown::number;
    use std::time::Duration;

    #[test]
    fn numbers_and_spans_are_readable() {
        assert_eq!([0, 999, 1000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        let spans = [0, 45, 999, 59_000, 245_000, 8_000_000, 270_000_000].map(|ms| span(Duration::from_millis(ms)));
        assert_eq!(spans, ["0s", "45ms", "999ms", "59s", "4m 05s", "2h 13m", "3d 03h"]);
        assert_eq!([0, 999, 1000, 131_072, 2_500_000_000].map(bytes), ["0 B", "999 B", "1.0 kB", "131 kB", "2.5 GB"]);
    }

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(cut("short", 10), "short");
        assert_eq!(cut("nightly_etl.load_orders__2026-11-01T00:00:00", 20), "nightly_et…T00:00:00");
        assert_eq!(cut("抽出変換書出し処理", 9), "抽出…処理");
        assert_eq!(cut("abc", 1), "…");
    }
}
