//! What Spark reads from spark-defaults.conf: the last line of each key, trimmed, with `${…}` replaced.

use crate::properties::SparkDefaults;
use crate::values::SparkValue;
use std::collections::BTreeMap;

/// The properties of spark-defaults.conf.
#[derive(Clone, Debug, Default)]
pub struct SparkConf {
    /// As they are written, trimmed.
    written: BTreeMap<String, String>,
    /// As Spark uses them.
    values: BTreeMap<String, SparkValue>,
    /// The environment of Spark's daemons, for `${env:NAME}`.
    env: BTreeMap<String, String>,
}

impl SparkConf {
    pub fn new(file: &SparkDefaults, env: &BTreeMap<String, String>) -> Self {
        let written: BTreeMap<String, String> =
            file.iter().filter_map(|(key, _)| Some((key.to_string(), file.trimmed(key)?.to_string()))).collect();
        let mut conf = Self { written, values: BTreeMap::new(), env: env.clone() };
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

    /// What Spark makes of a text that is the value of one of its keys: on a command line, for example.
    pub fn value(&self, text: &str) -> SparkValue {
        SparkValue::new(self.replaced(text, &[]))
    }

    /// Replaces `${spark.…}` and `${env:…}`. What Spark does not know, and what only the server's JVM knows
    /// (`${system:…}`), stays as it is written; so does a reference to a value in which it occurs, which Spark refuses.
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
        // Without a line, Spark takes the key's own default.
        let default = || match name {
            "spark.history.ui.port" => Some("18080"),
            "spark.eventLog.dir" => Some("/tmp/spark-events"),
            _ => None,
        };
        let spark = name.starts_with("spark.").then(|| self.written.get(name).map(String::as_str));
        spark?.or_else(default)
    }
}
