//! Compares output with the files in tests/snapshots.

use std::path::Path;

/// Fails unless the text equals that file of tests/snapshots. Parts that differ from run to run are replaced first.
#[track_caller]
pub fn assert_snapshot(name: &str, text: &str) {
    let mut text = text.to_string();
    for (of, is) in [
        (r"\d\d/\d\d/\d\d \d\d:\d\d:\d\d", "DATE"),
        (r"probe-[0-9a-f]+-\d+", "probe-N"),
        (r"\b(process|CONT|pid) \d+", "$1 N"),
        // Times can differ in their unit, too.
        (r" +\d+\.\d s\b", "  N s"),
        (r"\b\d+ (s|ms|min|h|days)\b", "N s"),
        (r"\b\d+ (MB|GB)\b", "N $1"),
        (r", (once|\d+ times)", ", N times"),
        (r"_\d{13}_9\d{9}", "_T_N"),
        (r"\b\d+ MiB left|this machine's \d+ MiB", "N MiB"),
        (r"@[0-9a-f]{6,}", "@N"),
    ] {
        text = regex::Regex::new(of).unwrap().replace_all(&text, is).into_owned();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var("SNAPSHOTS").is_ok_and(|v| v == "overwrite") {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(known == text, "{} differs (SNAPSHOTS=overwrite takes it):\n{text}", path.display());
}
