//! What Spark reads from spark-defaults.conf: the last line of each key, trimmed, with `${…}` replaced.

use crate::properties::SparkDefaults;
use crate::values::SparkValue;
use std::collections::BTreeMap;

/// The variables with options for the history server's JVM, in the order in which Spark puts them together.
const OPTIONS_VARIABLES: [&str; 2] = ["SPARK_DAEMON_JAVA_OPTS", "SPARK_HISTORY_OPTS"];

/// The system properties among the options of the history server's JVM. Spark appends the second variable to the first
/// one, and the last option wins.
pub(super) fn options(env: &BTreeMap<String, String>) -> impl DoubleEndedIterator<Item = (&str, &str)> {
    let options = OPTIONS_VARIABLES.iter().filter_map(|name| env.get(*name)).flat_map(|o| o.split_whitespace());
    options.filter_map(|o| o.strip_prefix("-D")?.split_once('='))
}

/// The properties of spark-defaults.conf.
#[derive(Clone, Debug, Default)]
pub struct SparkConf {
    /// As they are written, trimmed.
    written: BTreeMap<String, String>,
    /// As Spark uses them.
    values: BTreeMap<String, SparkValue>,
    /// The environment of Spark's daemons, for `${env:NAME}`.
    env: BTreeMap<String, String>,
    /// The system properties of the history server's JVM, as far as emr-shs knows them: Spark makes one of each line of the
    /// file, and an option of the JVM wins over a line.
    system: BTreeMap<String, String>,
}

impl SparkConf {
    pub fn new(file: &SparkDefaults, env: &BTreeMap<String, String>) -> Self {
        let written: BTreeMap<String, String> =
            file.iter().filter_map(|(key, _)| Some((key.to_string(), file.trimmed(key)?.to_string()))).collect();
        let mut system = written.clone();
        system.retain(|key, _| key.starts_with("spark."));
        system.extend(options(env).map(|(key, value)| (key.to_string(), value.to_string())));
        let mut conf = Self { written, values: BTreeMap::new(), env: env.clone(), system };
        conf.values = conf.written.iter().map(|(key, text)| (key.clone(), conf.value(text))).collect();
        conf
    }

    /// The value of a key; `None` if no line sets it.
    pub fn get(&self, key: &str) -> Option<&SparkValue> {
        self.values.get(key)
    }

    /// The value of a key that is a name, a path or a URI.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).map(SparkValue::text)
    }

    /// The value of a key that is a name, a path or a URI, if emr-shs can tell it: only the server's own JVM knows each of
    /// its variables and system properties.
    pub(crate) fn known_text(&self, key: &str) -> Option<&str> {
        self.text(key).filter(|text| !["${env:", "${system:"].iter().any(|reference| text.contains(reference)))
    }

    /// The value of a key as it is written.
    pub(crate) fn written(&self, key: &str) -> Option<&str> {
        self.written.get(key).map(String::as_str)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.written.keys().map(String::as_str)
    }

    /// The Hadoop properties that the file sets. Hadoop replaces `${…}` in them, and Spark does not.
    pub(crate) fn hadoop_properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.written.iter().filter_map(|(key, text)| Some((key.strip_prefix("spark.hadoop.")?, text.as_str())))
    }

    /// The system properties of the history server's JVM, as far as emr-shs knows them.
    pub(super) fn system_properties(&self) -> &BTreeMap<String, String> {
        &self.system
    }

    /// What Spark makes of a text that is the value of one of its keys: on a command line, for example.
    pub fn value(&self, text: &str) -> SparkValue {
        SparkValue::new(self.replaced(text, &[]))
    }

    /// Replaces `${spark.…}`, `${env:…}` and `${system:…}`. What Spark does not know, and what only the server's JVM
    /// knows, stays as it is written; so does a reference to a value in which it occurs, which Spark refuses.
    fn replaced(&self, text: &str, within: &[&str]) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            // A name has at least one character, so `${}` does not end there.
            let name = rest.char_indices().skip(3).find(|(_, c)| *c == '}').map(|(end, _)| &rest[2..end]);
            let Some(name) = name.filter(|name| !name.contains(char::is_whitespace)) else {
                out.push_str("${");
                rest = &rest[2..];
                continue;
            };
            match self.referred(name).filter(|_| !within.contains(&name)) {
                Some(value) => out.push_str(&self.replaced(value, &[within, &[name]].concat())),
                None => out.push_str(&rest[..name.len() + 3]),
            }
            rest = &rest[name.len() + 3..];
        }
        out.push_str(rest);
        out
    }

    fn referred(&self, name: &str) -> Option<&str> {
        if let Some(variable) = name.strip_prefix("env:") {
            return self.env.get(variable).map(String::as_str);
        }
        let of_system = |name: &str| self.system.get(name).map(String::as_str);
        if let Some(property) = name.strip_prefix("system:") {
            return of_system(property);
        }
        // Without a line, Spark takes the key's own default.
        let default = || match name {
            "spark.history.ui.port" => Some("18080"),
            "spark.eventLog.dir" => Some("/tmp/spark-events"),
            _ => None,
        };
        let spark = name.starts_with("spark.").then(|| of_system(name));
        spark?.or_else(default)
    }
}
