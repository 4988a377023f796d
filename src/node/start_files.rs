//! The scripts that decide with which options the history server starts.
//!
//! Only a shell knows what a script does, and this one would run as root. So emr-shs reads the assignments that it can
//! read, and where much depends on an option, it looks for each place that mentions the option.

use crate::host::Host;
use anyhow::Result;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Spark's script of settings, as people name it.
const SPARK_ENV: &str = "/etc/spark/conf/spark-env.sh";
/// EMR's start script reads these before Spark's start script reads spark-env.sh (`docs/emr.md §3.1`).
const DEFAULTS: [&str; 2] = ["/etc/default/hadoop", "/etc/default/spark-history-server"];

/// The scripts' names and texts.
#[derive(Clone, Debug, Default)]
pub(crate) struct StartFiles {
    texts: Vec<(&'static str, String)>,
    /// When one of them last changed, since 1970; `None` if nobody knows.
    changed: Option<Duration>,
}

/// A place that mentions a system property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    pub place: Place,
    /// The value; `None` if only a shell can tell.
    pub value: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A file, and the number of a line.
    Line(&'static str, usize),
    /// A variable that systemd gives the server.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(file, line) => write!(f, "line {line} of {file}"),
            Self::Variable(name) => write!(f, "the variable {name} of the server's unit"),
        }
    }
}

impl StartFiles {
    /// Files that cannot be read count as empty, except spark-env.sh.
    pub(super) fn read(host: &Host) -> Result<Self> {
        let mut files = vec![(SPARK_ENV, host.read(Path::new(SPARK_ENV))?.unwrap_or_default())];
        files.extend(DEFAULTS.iter().filter_map(|file| Some((*file, host.read(Path::new(file)).ok()??))));
        // ctime, because cp -p and tar can set an old mtime, and nobody can set ctime.
        let changed = |file: &str| {
            let meta = host.metadata(Path::new(file)).ok()??;
            let (seconds, rest) = (u64::try_from(meta.ctime()).ok()?, u64::try_from(meta.ctime_nsec()).ok()?);
            Some(Duration::from_secs(seconds) + Duration::from_nanos(rest))
        };
        let changed = files.iter().map(|(file, _)| changed(file)).collect::<Option<Vec<Duration>>>();
        Ok(Self { texts: files, changed: changed.and_then(|times| times.into_iter().max()) })
    }

    /// Whether a process that has run for so long has started after the last change of the scripts.
    pub(crate) fn were_read_by(&self, up: Option<Duration>) -> bool {
        let started = up.and_then(|up| SystemTime::now().checked_sub(up));
        let started = started.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        // The clock of the processes and that of the files can differ a little.
        self.changed.zip(started).is_some_and(|(changed, started)| changed + Duration::from_secs(1) < started)
    }

    pub(super) fn spark_env(&self) -> &str {
        self.texts.first().map_or("", |(_, text)| text)
    }

    /// Each place, outside comments, that mentions a system property.
    pub(crate) fn mentions(&self, key: &str) -> Vec<Mention> {
        let lines =
            self.texts.iter().flat_map(|(file, text)| text.lines().zip(1..).map(move |(line, n)| (*file, n, line)));
        let of_line = |(file, n, line): (&'static str, usize, &str)| {
            let values = mentioned(line, key).collect::<Vec<_>>();
            values.into_iter().map(move |value| Mention { place: Place::Line(file, n), value }).collect::<Vec<_>>()
        };
        lines.flat_map(of_line).collect()
    }
}

/// The values of a key in a text of a shell; `None` for one that is not written there.
pub(crate) fn mentioned<'a>(line: &'a str, key: &'a str) -> impl Iterator<Item = Option<String>> + 'a {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
    let comment = if line.trim_start().starts_with('#') { 0 } else { line.find(" #").unwrap_or(line.len()) };
    let text = &line[..comment];
    text.match_indices(key).filter_map(move |(at, _)| {
        // `-Dkey`, and not a longer key.
        let before = text[..at].strip_suffix("-D").unwrap_or(&text[..at]);
        let after = &text[at + key.len()..];
        if before.len() == at && before.ends_with(is_name) || after.starts_with(is_name) {
            return None;
        }
        let quotes = ['"', '\'', '\\'];
        let value = after.strip_prefix('=').map(|value| {
            let value = value.trim_start_matches(quotes);
            value.split(|c: char| c.is_whitespace() || quotes.contains(&c) || c == ';').next().unwrap_or_default()
        });
        Some(value.filter(|value| !value.is_empty() && !value.contains(['$', '`'])).map(Into::into))
    })
}

#[cfg(test)]
mod tests {
    use super::mentioned;

    #[test]
    fn an_option_is_found_however_a_shell_writes_it() {
        const KEY: &str = crate::paths::CLEANER_KEY;
        let table: [(&str, &[Option<&str>]); 12] = [
            ("export SPARK_HISTORY_OPTS=\"-DKEY=true\"", &[Some("true")]),
            ("SPARK_DAEMON_JAVA_OPTS+=' -DKEY=true'", &[Some("true")]),
            ("  -DKEY=true \\", &[Some("true")]),
            ("-DKEY=\\", &[None]),
            ("A=\"-DKEY=\\\"true\\\"\"", &[Some("true")]),
            ("A=-DKEY=$ON", &[None]),
            ("KEY=KEY; A=-D$KEY=true", &[None]),
            ("A=-DKEY=true; A=-DKEY=false", &[Some("true"), Some("false")]),
            ("# A=-DKEY=true", &[]),
            ("A=-Da=b # -DKEY=true", &[]),
            ("A=-DKEY.x=true", &[]),
            ("A=-Dmy.KEY=true", &[]),
        ];
        for (line, wanted) in table {
            // The name of the variable stays as it is.
            let line = line.replace("KEY=KEY", &format!("NAME={KEY}")).replace("DKEY", &format!("D{KEY}"));
            let line = line.replace("my.KEY", &format!("my.{KEY}"));
            let found: Vec<Option<String>> = mentioned(&line, KEY).collect();
            assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), wanted, "{line}");
        }
    }
}
