//! The state of a resource, observed or desired.

use crate::host::Owner;
use crate::properties;
use crate::redact::{REMOVED, is_secret_key};
use nix::unistd::{Gid, Group, Uid, User};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

/// The state of a resource. The receipt keeps states, so a variant must stay readable for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(crate) enum State {
    Absent,
    /// The resource exists, and nothing else about it matters: a prefix, an account, a program.
    Exists,
    Dir {
        /// Permission bits.
        mode: u32,
        owner: Owner,
    },
    Link {
        /// The target as the link spells it.
        target: PathBuf,
    },
    File {
        content: String,
        /// Permission bits.
        mode: u32,
        owner: Owner,
    },
    /// The line of a properties file that sets a key: its bytes with continuation lines, without the line end.
    Line {
        raw: String,
    },
    Unit {
        /// Whether the unit starts at boot.
        enabled: bool,
        /// With what the unit started, if it runs: the value of
        /// [`STARTED_AS_VARIABLE`](crate::paths::STARTED_AS_VARIABLE) in its environment. Of a socket: the address on which
        /// systemd listens.
        runs: Option<String>,
    },
    /// Something other than a link stands where a link belongs: `a regular file`, `a directory`, …
    Occupied {
        by: String,
    },
}

impl State {
    /// The value that a [`State::Line`] sets.
    pub(crate) fn value(&self) -> Option<String> {
        match self {
            State::Line { raw } => properties::value_of(raw),
            _ => None,
        }
    }

    /// The state as others may read it: without the content of a file that only its owner may read, and without the values of
    /// secret settings.
    pub(crate) fn without_secrets(&self) -> Cow<'_, State> {
        match self {
            State::File { content, mode, owner } if mode & 0o077 == 0 => {
                let content = format!("{} bytes, not shown: only the owner may read them", content.len());
                Cow::Owned(State::File { content, mode: *mode, owner: *owner })
            }
            State::File { content, mode, owner } if content.contains(SET) => {
                Cow::Owned(State::File { content: without_secret_settings(content), mode: *mode, owner: *owner })
            }
            State::Line { raw } if sets_secret(raw) => {
                let key = properties::key_of(raw).unwrap_or_default();
                Cow::Owned(State::Line { raw: format!("{key} {REMOVED}") })
            }
            state => Cow::Borrowed(state),
        }
    }

    /// Whether two states mean the same. Of a key only the value counts, so a line that somebody realigned is still
    /// what emr-shs wrote.
    pub(crate) fn is_equivalent_to(&self, other: &State) -> bool {
        self == other || matches!((self.value(), other.value()), (Some(a), Some(b)) if a == b)
    }
}

impl State {
    /// Whether this state serves as well as the wanted one. A file or a directory may have another group, if the
    /// group has no right that everybody else lacks.
    pub(crate) fn serves_as(&self, wanted: &State) -> bool {
        let same_rights = |mode: u32, owner: Owner, wanted_mode: u32, wanted: Owner| {
            let group_has_more = (mode >> 3) & !mode & 0o7 != 0;
            mode == wanted_mode && owner.0 == wanted.0 && (owner.1 == wanted.1 || !group_has_more)
        };
        match (self, wanted) {
            (State::File { content, mode, owner }, State::File { content: text, mode: bits, owner: account }) => {
                content == text && same_rights(*mode, *owner, *bits, *account)
            }
            (State::Dir { mode, owner }, State::Dir { mode: bits, owner: account }) => {
                same_rights(*mode, *owner, *bits, *account)
            }
            _ => self.is_equivalent_to(wanted),
        }
    }

    /// Whether two states have the same content, whoever may read and write it. Of a directory the content counts
    /// as its owner's.
    pub(crate) fn has_content_of(&self, other: &State) -> bool {
        match (self, other) {
            (State::File { content, .. }, State::File { content: other, .. }) => content == other,
            (State::Dir { owner, .. }, State::Dir { owner: other, .. }) => owner.0 == other.0,
            _ => false,
        }
    }

    /// What differs from the wanted state, for people.
    pub(crate) fn difference(&self, wanted: &State) -> String {
        let mut parts = Vec::new();
        match (self, wanted) {
            (State::File { content, mode, owner }, State::File { content: text, mode: bits, owner: account }) => {
                if content != text {
                    let is_secret = mode & 0o077 == 0
                        || bits & 0o077 == 0
                        || [content, text].iter().any(|text| without_secret_settings(text) != **text);
                    parts.push(format!("other content: {}", lines_that_differ(content, text, is_secret)));
                }
                parts.extend(rights((*mode, *owner), (*bits, *account)));
            }
            (State::Dir { mode, owner }, State::Dir { mode: bits, owner: account }) => {
                parts.extend(rights((*mode, *owner), (*bits, *account)));
            }
            (State::Unit { enabled, runs }, State::Unit { enabled: starts, runs: wanted }) => {
                if enabled != starts {
                    parts.push(if *enabled { "starts at boot" } else { "does not start at boot" }.into());
                }
                match (runs, wanted) {
                    (None, Some(_)) => parts.push("does not run".into()),
                    (Some(_), None) => parts.push("runs".into()),
                    (Some(a), Some(b)) if a != b => {
                        parts.push("runs with another program or other settings than those installed".into());
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        if parts.is_empty() { format!("found {self}, wanted {wanted}") } else { parts.join("; ") }
    }
}

/// The option with which a command line in a unit file names settings.
const SET: &str = "--set";

/// Whether a line of spark-defaults.conf sets a secret.
fn sets_secret(line: &str) -> bool {
    properties::key_of(line).is_some_and(|key| is_secret_key(&key))
}

/// A unit file without the secrets that its command line sets: `"--set" "KEY=VALUE"`, `"--set=KEY=VALUE"`.
fn without_secret_settings(unit: &str) -> String {
    // A backslash takes the next character's meaning away.
    let mut is_escaped = false;
    let parts: Vec<&str> = unit
        .split(|c: char| {
            let splits = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            splits
        })
        .collect();
    let is_named = |at: usize| at >= 2 && parts[at - 2] == SET;
    let shown = parts.iter().enumerate().map(|(at, part)| {
        let (option, setting) = match part.strip_prefix("--set=") {
            Some(setting) => ("--set=", setting),
            None => ("", if is_named(at) { part } else { "" }),
        };
        match setting.split_once('=') {
            Some((key, _)) if is_secret_key(key) => format!("{option}{key}={REMOVED}"),
            _ => (*part).to_string(),
        }
    });
    shown.collect::<Vec<_>>().join("\"")
}

/// Where a text differs from the wanted one. A secret text is not quoted.
fn lines_that_differ(found: &str, wanted: &str, is_secret: bool) -> String {
    /// As much of a line is quoted, in characters.
    const QUOTED: usize = 120;
    let (mut found, mut wanted): (Vec<&str>, Vec<&str>) = (found.lines().collect(), wanted.lines().collect());
    let same = found.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
    (found, wanted) = (found.split_off(same), wanted.split_off(same));
    while found.last().is_some_and(|last| Some(last) == wanted.last()) {
        found.pop();
        wanted.pop();
    }
    let line = same + 1;
    let quoted = |text: &str| match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("“{}…”", &text[..end]),
        None => format!("“{text}”"),
    };
    let more = |n: usize| if n > 1 { format!(", and {} more lines", n - 1) } else { String::new() };
    match (found.as_slice(), wanted.as_slice()) {
        ([], []) => "the line ends differ".into(),
        _ if is_secret => format!("it differs from line {line} on"),
        ([], [first, ..]) => format!("line {line} lacks {}{}", quoted(first), more(wanted.len())),
        ([first, ..], []) => format!("line {line} should not be there: {}{}", quoted(first), more(found.len())),
        ([one, ..], [other, ..]) => {
            format!(
                "line {line}: found {}, wanted {}{}",
                quoted(one),
                quoted(other),
                more(found.len().max(wanted.len()))
            )
        }
    }
}

/// How the owner, the group and the mode differ.
fn rights(found: (u32, Owner), wanted: (u32, Owner)) -> Vec<String> {
    let user = |id: u32| User::from_uid(Uid::from_raw(id)).ok().flatten().map_or(id.to_string(), |user| user.name);
    let group = |id: u32| Group::from_gid(Gid::from_raw(id)).ok().flatten().map_or(id.to_string(), |group| group.name);
    let (mode, (uid, gid)) = found;
    let (wanted_mode, (wanted_uid, wanted_gid)) = wanted;
    let mut parts = Vec::new();
    if uid != wanted_uid {
        parts.push(format!("owner {}, wanted {}", user(uid), user(wanted_uid)));
    }
    if gid != wanted_gid {
        parts.push(format!("group {}, wanted {}", group(gid), group(wanted_gid)));
    }
    if mode != wanted_mode {
        parts.push(format!("mode {mode:04o}, wanted {wanted_mode:04o}"));
    }
    parts
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Absent => f.write_str("absent"),
            State::Exists => f.write_str("exists"),
            State::Dir { mode, owner } => write!(f, "directory {mode:04o} {}:{}", owner.0, owner.1),
            State::Link { target } => write!(f, "→ {}", target.display()),
            State::File { content, mode, .. } => write!(f, "file {mode:04o}, {} bytes", content.len()),
            State::Line { raw } if sets_secret(raw) => f.write_str(REMOVED),
            State::Line { .. } => f.write_str(&self.value().unwrap_or_default()),
            State::Unit { enabled, runs } => {
                f.write_str(if runs.is_some() { "running" } else { "not running" })?;
                f.write_str(if *enabled { ", starts at boot" } else { "" })
            }
            State::Occupied { by } => f.write_str(by),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{State, without_secret_settings};

    #[test]
    fn what_others_read_of_a_unit_names_no_secret_setting() {
        let line = |words: &[&str]| {
            let words: String = words.iter().map(|word| format!(" {}", crate::systemd::quote_argument(word))).collect();
            format!("[Service]\nExecStart=/usr/libexec/emr-shs/emr-shs{words}\n[Install]\n")
        };
        let table = [
            (
                ["install", "--set", "spark.hadoop.fs.s3a.secret.key=hush"],
                ["install", "--set", "spark.hadoop.fs.s3a.secret.key=***"],
            ),
            (["a\\", "--set", "x.password=h\"u\\sh"], ["a\\", "--set", "x.password=***"]),
            (["a\"b", "--set=x.password=hu=sh", "c"], ["a\"b", "--set=x.password=***", "c"]),
            (["--set", "spark.ui.title=a=b", "x.password=c"], ["--set", "spark.ui.title=a=b", "x.password=c"]),
        ];
        for (unit, shown) in table {
            assert_eq!(without_secret_settings(&line(&unit)), line(&shown));
        }
    }

    #[test]
    fn another_group_counts_if_it_may_do_what_others_must_not() {
        let file = |mode, group| State::File { content: "a".into(), mode, owner: (0, group) };
        let dir = |mode, group| State::Dir { mode, owner: (0, group) };
        for mode in [0o644, 0o600, 0o755, 0o700] {
            assert!(file(mode, 4).serves_as(&file(mode, 0)) && dir(mode, 4).serves_as(&dir(mode, 0)), "{mode:o}");
        }
        for mode in [0o640, 0o664, 0o750, 0o710] {
            assert!(!file(mode, 4).serves_as(&file(mode, 0)) && !dir(mode, 4).serves_as(&dir(mode, 0)), "{mode:o}");
            let told = file(mode, 4).difference(&file(mode, 0));
            assert!(told.starts_with("group ") && told.ends_with(", wanted root"), "{told}");
        }
        let told = file(0o664, 4).difference(&file(0o644, 0));
        assert!(told.ends_with("mode 0664, wanted 0644") && !file(0o664, 4).serves_as(&file(0o644, 0)), "{told}");
    }

    #[test]
    fn a_file_with_another_content_is_told_by_its_lines() {
        let differs = |found: &str, wanted: &str, mode| {
            let file = |content: &str| State::File { content: content.into(), mode, owner: (0, 0) };
            file(found).difference(&file(wanted))
        };
        let table = [
            ("a\nX=1\nb\n", "a\nX=2\nb\n", "line 2: found “X=1”, wanted “X=2”"),
            ("a\nb\n", "a\nX=2\nb\n", "line 2 lacks “X=2”"),
            ("a\nX=1\nX=2\nb\n", "a\nb\n", "line 2 should not be there: “X=1”, and 1 more lines"),
            ("a\n1\n2\n3\n", "a\n4\n5\n6\n", "line 2: found “1”, wanted “4”, and 2 more lines"),
            ("", "a\n", "line 1 lacks “a”"),
            ("a\r\n", "a\n", "the line ends differ"),
            ("a", "a\n", "the line ends differ"),
        ];
        for (found, wanted, says) in table {
            assert_eq!(differs(found, wanted, 0o644), format!("other content: {says}"));
        }
        assert_eq!(differs("PASSWORD=a\n", "PASSWORD=b\n", 0o600), "other content: it differs from line 1 on");
        assert!(differs(&"x".repeat(999), "y", 0o644).chars().count() < 200);
    }
}
