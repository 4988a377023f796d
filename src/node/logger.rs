//! The files into which the configuration of Log4j makes a server of Spark write.

use crate::host::Host;
use crate::paths::SPARK_CONF;
use crate::properties::SparkDefaults;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names inside names, at most.
const DEPTH: usize = 5;

/// What a configuration can refer to.
pub(super) struct Lookups<'a> {
    pub env: &'a BTreeMap<String, String>,
    /// The system property of a name.
    pub option: &'a dyn Fn(&str) -> Option<&'a str>,
}

/// The files of a server's appenders, as far as the configuration names them without a lookup that only Log4j can do.
/// Spark 3.3 brought Log4j 2.
pub(super) fn files(host: &Host, has_log4j2: bool, lookups: &Lookups<'_>) -> Vec<PathBuf> {
    let named = ["log4j2.configurationFile", "log4j.configurationFile", "log4j.configuration"];
    let named = named.iter().find_map(|key| (lookups.option)(key));
    let own = if has_log4j2 { "log4j2.properties" } else { "log4j.properties" };
    let path = match named {
        Some(uri) => PathBuf::from(uri.trim_start_matches("file:").replacen("//", "/", 1)),
        None => Path::new(SPARK_CONF).join(own),
    };
    let bytes = host.read_bytes(&path).ok().flatten().unwrap_or_default();
    let Ok(file) = SparkDefaults::parse(&bytes) else { return Vec::new() };
    let is_file = |key: &str| {
        let last = key.rsplit('.').next().unwrap_or_default();
        key.split('.').any(|word| word == "appender") && (last == "fileName" || last.eq_ignore_ascii_case("file"))
    };
    let values = file.iter().filter(|(key, _)| is_file(key));
    let files = values.filter_map(|(_, value)| lookups.resolve(value, &file, DEPTH)).map(PathBuf::from);
    files.filter(|path| path.is_absolute()).collect()
}

impl Lookups<'_> {
    /// The text with `${name}`, `${sys:name}` and `${env:name}` filled in; `None` if one of them is not known.
    fn resolve(&self, text: &str, file: &SparkDefaults, depth: usize) -> Option<String> {
        let Some((before, rest)) = text.split_once("${") else { return Some(text.trim().into()) };
        let (name, after) = rest.split_once('}')?;
        let (name, default) = name.split_once(":-").map_or((name, None), |(name, default)| (name, Some(default)));
        let option = |name: &str| (self.option)(name);
        let value = match name.split_once(':') {
            Some(("sys", name)) => option(name),
            Some(("env", name)) => self.env.get(name).map(String::as_str),
            Some(_) => None,
            None => file.trimmed(&format!("property.{name}")).or_else(|| file.trimmed(name)).or_else(|| option(name)),
        };
        let value = value.or(default)?;
        self.resolve(&format!("{before}{value}{after}"), file, depth.checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test says what it expects by unwrapping it")]

    use super::*;

    #[test]
    fn the_files_of_appenders_are_found_through_their_lookups() {
        let root = std::env::temp_dir().join(format!("emr-shs-logger-{}", std::process::id()));
        let conf = root.join("etc/spark/conf");
        std::fs::create_dir_all(&conf).unwrap();
        let text = "property.dir = ${env:SPARK_LOG_DIR}
appender.console.type = Console
appender.file.type = RollingFile
                    appender.file.fileName = ${dir}/shs.log
appender.file.filePattern = ${dir}/shs-%i.log
                    appender.b.fileName = ${sys:to}
appender.c.fileName = ${sys:no:-/c.log}
appender.d.fileName = ${date:x}
";
        std::fs::write(conf.join("log4j2.properties"), text).unwrap();
        std::fs::write(
            conf.join("log4j.properties"),
            "log4j.appender.x.File=${to}
",
        )
        .unwrap();
        let env = BTreeMap::from([("SPARK_LOG_DIR".to_string(), "/logs".to_string())]);
        let lookups = Lookups { env: &env, option: &|key| (key == "to").then_some("/to.log") };
        let mut found = files(&Host::new(&root), true, &lookups);
        found.sort();
        assert_eq!(found, ["/c.log", "/logs/shs.log", "/to.log"].map(PathBuf::from));
        assert_eq!(files(&Host::new(&root), false, &lookups), [PathBuf::from("/to.log")]);
        std::fs::remove_dir_all(root).unwrap();
    }
}
