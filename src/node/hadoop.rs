//! Hadoop's configuration on the node, as Hadoop's class `Configuration` reads it.

use super::spark_conf::SparkConf;
use crate::aws::s3::Encryption;
use crate::host::Host;
use crate::values::HadoopValue;
use anyhow::{Context, Result, bail};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The file system class of EMRFS (`docs/emr.md §6.1`).
pub(crate) const EMRFS: &str = "com.amazon.ws.emr.hadoop.fs.EmrFileSystem";
/// The file system class of S3A, which serves `s3a://` without any configuration.
pub(crate) const S3A: &str = "org.apache.hadoop.fs.s3a.S3AFileSystem";

const EMRFS_SITE: &str = "/usr/share/aws/emr/emrfs/conf/emrfs-site.xml";

/// The properties that S3A looks up as secrets. For one bucket they have a second, longer name, which wins:
/// `fs.s3a.bucket.NAME.fs.s3a.access.key` (`docs/emr.md §6.2`).
const SECRETS: [&str; 9] = [
    "access.key",
    "secret.key",
    "session.token",
    "encryption.algorithm",
    "encryption.key",
    "server-side-encryption-algorithm",
    "server-side-encryption.key",
    "proxy.username",
    "proxy.password",
];

/// How many `${…}` Hadoop replaces in one value.
const MAX_REPLACED: usize = 20;
/// How deep files may include one another.
const MAX_INCLUDED: usize = 8;

/// The Hadoop properties of Spark's daemons on this node. The `spark.hadoop.*` keys of spark-defaults.conf
/// override Hadoop's files.
#[derive(Clone, Debug, Default)]
pub struct Hadoop {
    /// What the files of Hadoop say.
    files: BTreeMap<String, String>,
    /// What spark-defaults.conf says.
    spark: BTreeMap<String, String>,
    /// Both, merged.
    properties: BTreeMap<String, String>,
    /// The environment of Spark's daemons, for `${env.NAME}`.
    env: BTreeMap<String, String>,
    /// The system properties of the history server's JVM, as far as emr-shs knows them. For `${NAME}` they come first.
    system: BTreeMap<String, String>,
    /// What a file includes with `xi:include`, and emr-shs could not read: the file and the reference.
    pub not_included: Vec<(PathBuf, String)>,
}

impl Hadoop {
    pub fn observe(host: &Host, conf_dir: &Path, spark: &SparkConf, env: &BTreeMap<String, String>) -> Result<Self> {
        let files = [PathBuf::from(EMRFS_SITE), conf_dir.join("core-site.xml")];
        let this = Self { system: spark.system_properties().clone(), ..Self::read(host, &files, env)? };
        Ok(this.with_spark(spark.hadoop_properties().map(|(key, value)| (key.into(), value.into())).collect()))
    }

    fn with_spark(mut self, spark: BTreeMap<String, String>) -> Self {
        self.properties = self.files.clone();
        self.properties.extend(spark.clone());
        self.spark = spark;
        self
    }

    /// The configuration as it would be if some keys of spark-defaults.conf had other values, or none.
    pub(crate) fn with_spark_keys(&self, keys: impl IntoIterator<Item = (String, Option<String>)>) -> Self {
        let mut spark = self.spark.clone();
        for (key, value) in keys {
            let Some(key) = key.strip_prefix("spark.hadoop.") else { continue };
            match value {
                Some(value) => drop(spark.insert(key.into(), value)),
                None => drop(spark.remove(key)),
            }
        }
        self.clone().with_spark(spark)
    }

    /// Reads files of properties. A later property overrides an earlier one, unless the earlier one is final.
    pub fn read(host: &Host, files: &[PathBuf], env: &BTreeMap<String, String>) -> Result<Self> {
        let mut this = Self { env: env.clone(), ..Self::default() };
        let mut finals = BTreeSet::new();
        for file in files {
            let mut found = Vec::new();
            this.not_included.extend(read_file(host, file, 0, &mut found)?);
            for property in found {
                if finals.contains(&property.name) {
                    continue;
                }
                if property.is_final {
                    finals.insert(property.name.clone());
                }
                this.files.insert(property.name, property.value);
            }
        }
        Ok(this.with_spark(BTreeMap::new()))
    }

    /// A configuration of which only the class of one scheme is known.
    pub fn serving(scheme: &str, class: &str) -> Self {
        let files = [(format!("fs.{scheme}.impl"), class.to_string())].into();
        Self { files, ..Self::default() }.with_spark(BTreeMap::new())
    }

    /// The value of a property; `None` if no file sets it.
    pub fn get(&self, key: &str) -> Option<HadoopValue> {
        Some(HadoopValue::new(self.replaced(self.properties.get(key)?)))
    }

    /// The value of a property that is a name, a path or a URI. An empty one counts as none.
    pub fn text(&self, key: &str) -> Option<String> {
        self.get(key).map(|value| value.text().to_string()).filter(|text| !text.is_empty())
    }

    /// Whether a property is set, for one whose value is a secret.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.properties.contains_key(key)
    }

    /// The names of the properties that are set.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.properties.keys().map(String::as_str)
    }

    /// The class that serves a scheme. Without one Hadoop reports “No FileSystem for scheme”.
    pub fn file_system(&self, scheme: &str) -> Option<String> {
        self.text(&format!("fs.{scheme}.impl")).or((scheme == "s3a").then(|| S3A.to_string()))
    }

    /// Whether S3A serves a scheme.
    pub(crate) fn is_s3a(&self, scheme: &str) -> bool {
        self.file_system(scheme).as_deref() == Some(S3A)
    }

    /// The schemes of S3 that a class serves.
    pub fn s3_schemes(&self) -> Vec<(&'static str, String)> {
        ["s3", "s3n", "s3a"].into_iter().filter_map(|s| Some((s, self.file_system(s)?))).collect()
    }

    /// How EMRFS encrypts what it writes (`docs/emr.md §6.2`).
    pub(super) fn emrfs_encryption(&self) -> Option<Encryption> {
        let key = self.text("fs.s3.serverSideEncryption.kms.keyId");
        self.get("fs.s3.enableServerSideEncryption")?.boolean().filter(|on| *on)?;
        let algorithm = if key.is_some() { "aws:kms" } else { "AES256" };
        Some(Encryption { algorithm: algorithm.into(), key })
    }

    /// The properties with which S3A serves a bucket: `fs.s3a.bucket.NAME.*` overrides `fs.s3a.*`.
    pub(super) fn for_bucket(&self, bucket: &str) -> Self {
        let prefix = format!("fs.s3a.bucket.{bucket}.");
        let own = self.properties.iter().filter_map(|(key, value)| {
            let name = key.strip_prefix(&prefix).filter(|name| !name.starts_with("bucket.") && *name != "impl")?;
            Some((format!("fs.s3a.{name}"), value.clone()))
        });
        let longer = SECRETS.iter().filter_map(|name| {
            let value = self.properties.get(&format!("{prefix}fs.s3a.{name}")).filter(|value| !value.is_empty())?;
            Some((format!("fs.s3a.{name}"), value.clone()))
        });
        let mut this = self.clone();
        this.properties.extend(own.chain(longer).collect::<Vec<_>>());
        this
    }

    /// A property that S3A looks up as a secret of one bucket, by either of its names.
    pub(super) fn secret_of_bucket(&self, bucket: &str, name: &str) -> Option<String> {
        let of_bucket = |name: &str| self.text(&format!("fs.s3a.bucket.{bucket}.{name}"));
        of_bucket(&format!("fs.s3a.{name}")).or_else(|| of_bucket(name))
    }

    /// Replaces `${NAME}`, `${env.NAME}`, `${env.NAME-default}` and `${env.NAME:-default}`. The first name that is
    /// not known ends the replacement, and a value that contains itself stays as it is written.
    fn replaced(&self, text: &str) -> String {
        let mut value = text.to_string();
        for _ in 0..MAX_REPLACED {
            let Some((from, to)) = reference(&value) else { return value };
            let Some(new) = self.referred(&value[from..to]) else { return value };
            let whole = &value[from - 2..=to];
            if new.contains(whole) {
                return text.into();
            }
            value = format!("{}{new}{}", &value[..from - 2], &value[to + 1..]);
        }
        value
    }

    fn referred(&self, name: &str) -> Option<String> {
        let from_env = name.strip_prefix("env.").filter(|name| !name.is_empty()).and_then(|name| {
            let at = name.find(['-', ':']).filter(|at| name[*at..].starts_with('-') || name[*at..].starts_with(":-"));
            let Some(at) = at else { return self.env.get(name).cloned() };
            let found = self.env.get(&name[..at]);
            match name[at..].strip_prefix(":-") {
                Some(default) => Some(found.filter(|v| !v.is_empty()).map_or(default, String::as_str).to_string()),
                None => Some(found.cloned().unwrap_or_else(|| name[at + 1..].to_string())),
            }
        });
        from_env.or_else(|| self.system.get(name).or_else(|| self.properties.get(name)).cloned())
    }
}

/// The first name in `${…}`: where the name begins and ends. A name contains neither blanks nor `$`.
fn reference(text: &str) -> Option<(usize, usize)> {
    let mut at = 0;
    while let Some(found) = text[at..].find("${") {
        let from = at + found + 2;
        let length = text[from..].find(['}', ' ', '$'])?;
        if length > 0 && text[from + length..].starts_with('}') {
            return Some((from, from + length));
        }
        at = from + length + usize::from(!text[from + length..].starts_with('$'));
    }
    None
}

struct Property {
    name: String,
    value: String,
    is_final: bool,
}

/// Reads the properties of a file and of those that it includes. Returns what could not be included.
fn read_file(host: &Host, file: &Path, depth: usize, found: &mut Vec<Property>) -> Result<Vec<(PathBuf, String)>> {
    let Some(bytes) = host.read_bytes(file)? else { return Ok(Vec::new()) };
    let mut included = |reference: &str, found: &mut Vec<Property>| -> Result<bool> {
        let path = reference.strip_prefix("file://").unwrap_or(reference);
        let path = file.parent().unwrap_or(file).join(path);
        if reference.contains("://") && !reference.starts_with("file://") || !host.exists(&path) {
            return Ok(false);
        }
        if depth >= MAX_INCLUDED {
            bail!("{} includes files that include one another", file.display());
        }
        read_file(host, &path, depth + 1, found).map(|_| true)
    };
    parse(&decode(&bytes), &mut included, found)
        .map(|missing| missing.into_iter().map(|reference| (file.to_path_buf(), reference)).collect())
        .with_context(|| format!("reading {}", file.display()))
}

/// The text of an XML file in the encoding that its first line declares. What is not UTF-8 becomes U+FFFD: a comment
/// in Latin-1 must not hide the properties.
fn decode(bytes: &[u8]) -> String {
    let head = String::from_utf8_lossy(bytes.get(..200).unwrap_or(bytes)).to_lowercase();
    let declaration = head.split("?>").next().unwrap_or_default();
    let is_latin = ["iso-8859-1", "latin1", "windows-1252", "us-ascii"].iter().any(|name| declaration.contains(name));
    match declaration.starts_with("<?xml") && is_latin {
        true => bytes.iter().map(|b| char::from(*b)).collect(),
        false => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Reads `<property>` elements, their attributes of the same meaning, and `xi:include` with its fallback. Returns what
/// could not be included.
fn parse(
    xml: &str,
    include: &mut dyn FnMut(&str, &mut Vec<Property>) -> Result<bool>,
    found: &mut Vec<Property>,
) -> Result<Vec<String>> {
    let mut reader = Reader::from_str(xml);
    let mut missing = Vec::new();
    let empty = || Property { name: String::new(), value: String::new(), is_final: false };
    let (mut property, mut text) = (empty(), String::new());
    let mut skips_fallback = false;
    loop {
        let event = reader.read_event()?;
        match &event {
            Event::Start(tag) | Event::Empty(tag) => {
                text.clear();
                match local_name(tag.name().as_ref()) {
                    "property" => {
                        property = empty();
                        property.name = attribute(tag, "name").unwrap_or_default().trim().into();
                        property.value = attribute(tag, "value").unwrap_or_default();
                        property.is_final = attribute(tag, "final").as_deref() == Some("true");
                    }
                    "include" => {
                        let reference = attribute(tag, "href").unwrap_or_default();
                        skips_fallback = include(&reference, found)?;
                        if !skips_fallback {
                            missing.push(reference);
                        }
                    }
                    "fallback" if skips_fallback => {
                        let end = tag.to_end().into_owned();
                        if matches!(event, Event::Start(_)) {
                            reader.read_to_end(end.name())?;
                        }
                    }
                    "fallback" => drop(missing.pop()),
                    _ => {}
                }
                let closes = matches!(event, Event::Empty(_)) && local_name(tag.name().as_ref()) == "property";
                if closes && !property.name.is_empty() {
                    found.push(std::mem::replace(&mut property, empty()));
                }
            }
            Event::Text(t) => text.push_str(t),
            Event::CData(t) => text.push_str(t),
            Event::GeneralRef(r) => match (r.resolve_char_ref()?, &**r) {
                (Some(c), _) => text.push(c),
                (None, entity) => {
                    text.push_str(quick_xml::escape::resolve_predefined_entity(entity).unwrap_or_default())
                }
            },
            Event::End(end) => match local_name(end.name().as_ref()) {
                "name" => property.name = text.trim().to_string(),
                "value" => property.value = std::mem::take(&mut text),
                "final" => property.is_final = text == "true",
                "property" if !property.name.is_empty() => found.push(std::mem::replace(&mut property, empty())),
                _ => {}
            },
            Event::Eof => return Ok(missing),
            _ => {}
        }
    }
}

/// The name of an element without the prefix of its name space.
fn local_name(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    let found = tag.attributes().flatten().find(|a| a.key.as_ref() == name)?;
    Some(quick_xml::escape::unescape(&found.value).map_or_else(|_| found.value.to_string(), |text| text.into_owned()))
}
