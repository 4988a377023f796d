//! Which jars the history server's class path lacks. The evidence is the class that serves the scheme of
//! the event logs, the jars that contain it, and the SDK to which that class refers.

use super::hadoop::{EMRFS, Hadoop};
use super::jar;
use crate::error::Fault;
use crate::host::Host;
use crate::shown::hint;
use fs_err as fs;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use walkdir::WalkDir;

/// The directories in which EMR keeps the EMRFS assembly, hadoop-aws and the two SDKs, best first
/// (`docs/emr.md §2.1`).
const EMRFS_PLACES: &[&str] = &["/usr/share/aws/emr/emrfs/lib", "/usr/share/aws/emr/emrfs/auxlib"];
const HADOOP_PLACES: &[&str] = &["/usr/lib/hadoop", "/usr/lib/hadoop-mapreduce", "/usr/lib/hadoop/tools/lib"];
const SDK_V1_PLACES: &[&str] = &["/usr/share/aws/aws-java-sdk"];
const SDK_V2_PLACES: &[&str] = &["/usr/share/aws/aws-java-sdk-v2"];
/// The modules of SDK v1 to which S3A of Hadoop 2.10 to 3.3 refers, with their own dependencies. EMR 5's
/// directory contains a jar for every service of AWS.
const SDK_V1_MODULES: &[&str] = &["core", "dynamodb", "kms", "s3", "sts"];
/// How long the search through all of [`WIDE_PLACES`] may take.
const SEARCH: Duration = Duration::from_secs(4);
/// Directories with many jars. They are searched only for an error message.
const WIDE_PLACES: &[&str] = &["/usr/share/aws", "/usr/lib/hadoop", "/usr/lib", "/opt"];

/// An AWS SDK for Java.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Sdk {
    /// `com.amazonaws`
    V1,
    /// `software.amazon.awssdk`
    V2,
}

impl Sdk {
    const ALL: [Sdk; 2] = [Sdk::V2, Sdk::V1];

    pub(crate) fn client(self) -> &'static str {
        match self {
            Sdk::V1 => "com.amazonaws.services.s3.AmazonS3Client",
            Sdk::V2 => "software.amazon.awssdk.services.s3.S3Client",
        }
    }

    fn package(self) -> &'static [u8] {
        match self {
            Sdk::V1 => b"com/amazonaws/",
            Sdk::V2 => b"software/amazon/awssdk/",
        }
    }

    fn places(self) -> &'static [&'static str] {
        match self {
            Sdk::V1 => SDK_V1_PLACES,
            Sdk::V2 => SDK_V2_PLACES,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Sdk::V1 => "AWS SDK v1",
            Sdk::V2 => "AWS SDK v2",
        }
    }

    fn link(self) -> &'static str {
        match self {
            Sdk::V1 => "aws-sdk-v1.jar",
            Sdk::V2 => "aws-sdk-v2.jar",
        }
    }
}

/// The class path of the history server, without the jars that `is_ours` named.
#[derive(Clone, Debug, Serialize)]
pub struct ClassPath {
    /// Jars and class directories. Wildcards are resolved.
    pub elements: Vec<PathBuf>,
    /// Whether it comes from the running process and not from configuration files.
    pub from_process: bool,
}

impl ClassPath {
    /// Resolves a `-cp` argument. Leaves out the jars that are ours.
    pub fn resolve(host: &Host, argument: &str, from_process: bool, is_ours: &dyn Fn(&Path) -> bool) -> Self {
        let mut elements = Vec::new();
        for element in argument.split(':').filter(|e| !e.is_empty()) {
            match element.strip_suffix("/*") {
                Some(dir) => elements.extend(jars_in(host, Path::new(dir))),
                None => elements.push(PathBuf::from(element)),
            }
        }
        let mut known = BTreeSet::new();
        elements.retain(|e| !is_ours(e) && known.insert(e.clone()));
        Self { elements, from_process }
    }

    /// The element from which the JVM takes a class.
    pub(crate) fn source_of(&self, host: &Host, class: &str) -> Option<&Path> {
        let names = [jar::entry_name(class)];
        let is_there = |element: &&PathBuf| {
            host.target(element).is_ok_and(|real| contains(&real, &names).into_iter().any(|found| found))
        };
        self.elements.iter().find(is_there).map(PathBuf::as_path)
    }

    /// For each class, the elements that contain it.
    fn elements_with(&self, host: &Host, classes: &[&str]) -> Vec<Vec<PathBuf>> {
        let names: Vec<String> = classes.iter().map(|c| jar::entry_name(c)).collect();
        let mut found = vec![Vec::new(); classes.len()];
        for element in &self.elements {
            let Ok(real) = host.target(element) else { continue };
            for (i, is_there) in contains(&real, &names).into_iter().enumerate() {
                if is_there {
                    found[i].push(element.clone());
                }
            }
        }
        found
    }
}

/// A class that the history server needs, and the jars that contain it.
#[derive(Clone, Debug, Serialize)]
pub struct Need {
    pub class: String,
    /// The SDK to which the class belongs; `None` for the file system itself.
    pub sdk: Option<Sdk>,
    /// The elements of the class path that contain the class.
    pub on_path: Vec<PathBuf>,
    /// Other jars of the node that contain the class, best first.
    pub elsewhere: Vec<PathBuf>,
}

impl Need {
    /// The failure of a class path that contains `count` jars of one SDK.
    pub fn two_versions(&self, count: usize) -> Fault {
        let sdk = self.sdk.map_or("an SDK", Sdk::name);
        let fault = Fault::preflight(format!("the history server has {count} jars of {sdk} on its class path"));
        let fault = self.on_path.iter().fold(fault, |fault, jar| fault.detail(format!("found {}", jar.display())));
        fault.detail("wanted one; two versions cause NoSuchMethodError or NoSuchFieldError")
    }
}

/// A link to make in the link directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    pub name: String,
    pub jar: PathBuf,
    /// What the jar brings.
    pub why: String,
}

/// The classes that a scheme of event logs needs on this node.
#[derive(Clone, Debug, Serialize)]
pub struct Scheme {
    /// `s3`, `s3a`, …
    pub scheme: String,
    /// The class that serves the scheme.
    pub file_system: String,
    /// That class, and the client of the SDK to which it refers.
    pub needs: Vec<Need>,
}

impl Scheme {
    /// Searches the class path and EMR's directories. The jars that the user names with `--jar` (`extra`)
    /// come before all others.
    pub fn observe(
        host: &Host,
        hadoop: &Hadoop,
        path: &ClassPath,
        scheme: &str,
        extra: &[PathBuf],
    ) -> Result<Self, Fault> {
        let Some(class) = hadoop.file_system(scheme) else {
            return Err(Fault::preflight(format!("this node has no file system for {scheme}://"))
                .detail(format!("core-site.xml does not set fs.{scheme}.impl"))
                .hint("use a scheme that this node serves; Hadoop itself knows s3a://"));
        };
        let wanted = [class.as_str(), Sdk::V2.client(), Sdk::V1.client()];
        let [on_path, v2, v1] = <[_; 3]>::try_from(path.elements_with(host, &wanted)).unwrap_or_default();
        let places = if class == EMRFS { EMRFS_PLACES } else { HADOOP_PLACES };
        let elsewhere = if on_path.is_empty() { search(host, &class, extra, places) } else { Vec::new() };
        let mut needs = vec![Need { class: class.clone(), sdk: None, on_path, elsewhere }];
        let provider = needs[0].on_path.first().or(needs[0].elsewhere.first());
        if class != EMRFS
            && let Some(sdk) = provider.and_then(|jar| built_for(host, jar, &class))
        {
            let on_path = if sdk == Sdk::V2 { v2 } else { v1 };
            let elsewhere =
                if on_path.is_empty() { search(host, sdk.client(), extra, sdk.places()) } else { Vec::new() };
            needs.push(Need { class: sdk.client().into(), sdk: Some(sdk), on_path, elsewhere });
        }
        Ok(Self { scheme: scheme.into(), file_system: class, needs })
    }

    /// The SDK for which the file system was built; `None` if the file system brings its own, or is not
    /// found.
    pub fn sdk(&self) -> Option<Sdk> {
        self.needs.iter().find_map(|n| n.sdk)
    }

    pub fn is_complete(&self) -> bool {
        self.needs.iter().all(|n| !n.on_path.is_empty())
    }

    /// The links that complete the class path.
    pub fn links(&self, host: &Host, extra: &[PathBuf], force: bool) -> Result<Vec<Link>, Fault> {
        let mut links: Vec<Link> = Vec::new();
        for need in &self.needs {
            self.require_one_version(host, need, force)?;
            if !need.on_path.is_empty() {
                continue;
            }
            let Some(best) = need.elsewhere.first() else { return Err(self.not_found(need)) };
            if extra.contains(best) {
                continue;
            }
            match need.sdk {
                None if self.file_system == EMRFS => links.push(Link::to(host, "emrfs.jar", best, "EMRFS")),
                None => links.push(Link::to(host, "hadoop-aws.jar", best, short(&need.class))),
                Some(sdk) if file_name(best).contains("bundle") => {
                    links.push(Link::to(host, sdk.link(), best, sdk.name()));
                }
                // EMR 5 has a jar for each module of the SDK. The client needs the other modules too.
                Some(sdk) => links.extend(module_jars(host, best).iter().map(|jar| Link {
                    name: file_name(jar),
                    jar: jar.clone(),
                    why: sdk.name().into(),
                })),
            }
        }
        links.extend(extra.iter().map(|jar| Link {
            name: file_name(jar),
            jar: jar.clone(),
            why: "named with --jar".into(),
        }));
        Ok(links)
    }

    /// Two versions of one SDK on a class path cause NoSuchMethodError (`docs/emr.md §2.5`).
    fn require_one_version(&self, host: &Host, need: &Need, force: bool) -> Result<(), Fault> {
        if need.sdk.is_none() || force {
            return Ok(());
        }
        let files: BTreeSet<PathBuf> = need.on_path.iter().filter_map(|p| host.target(p).ok()).collect();
        if files.len() < 2 {
            return Ok(());
        }
        Err(need.two_versions(files.len()).hint(hint!(
            "remove the jar that EMR did not install; or add --force, and {} stays on the class path",
            need.on_path[0]
        )))
    }

    fn not_found(&self, need: &Need) -> Fault {
        let places = match need.sdk {
            Some(sdk) => sdk.places(),
            None if self.file_system == EMRFS => EMRFS_PLACES,
            None => HADOOP_PLACES,
        };
        let fault = Fault::preflight(format!("no jar on this node contains {}", need.class))
            .detail(match need.sdk {
                Some(sdk) => format!("{} was built for {}", short(&self.file_system), sdk.name()),
                None => format!("that class serves {}:// on this node", self.scheme),
            })
            .detail(format!("searched the history server's class path and {}", places.join(", ")))
            .unchanged();
        match need.sdk {
            Some(_) => fault.hint("if another jar contains the class, name that jar: --jar /path/to/it.jar"),
            None => fault.hint("if another jar contains the class, name that jar: --jar /path/to/it.jar; or use a scheme that this node serves; to list them: sudo emr-shs discover"),
        }
    }
}

impl Link {
    fn to(host: &Host, name: &str, jar: &Path, why: &str) -> Self {
        Self { name: name.into(), jar: unversioned(host, jar), why: why.into() }
    }
}

/// Searches every directory that can contain jars, for a few seconds. For error messages only.
pub(crate) fn find_anywhere(host: &Host, class: &str) -> Option<PathBuf> {
    let (name, begun) = ([jar::entry_name(class)], Instant::now());
    let jars = WIDE_PLACES.iter().flat_map(|place| {
        let mut jars = jars_below(host, Path::new(place));
        jars.sort_by_key(|jar| (std::cmp::Reverse(version_in(&file_name(jar))), jar.clone()));
        jars
    });
    let mut jars = jars.take_while(|_| begun.elapsed() < SEARCH);
    jars.find(|jar| host.target(jar).is_ok_and(|real| contains(&real, &name)[0]))
}

/// The jars of the node that `discover` shows, used or not.
pub(crate) fn inventory(host: &Host) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut add = |class: &str, places: &[&str], what: &str| {
        found.extend(search(host, class, &[], places).into_iter().map(|jar| (jar, what.to_string())));
    };
    add(EMRFS, EMRFS_PLACES, "EMRFS");
    add(super::hadoop::S3A, HADOOP_PLACES, "S3AFileSystem");
    for sdk in Sdk::ALL {
        add(sdk.client(), sdk.places(), sdk.name());
    }
    found
}

/// The jars that contain a class: those of the user first, the others by directory and falling version.
/// A file with several names counts once.
fn search(host: &Host, class: &str, extra: &[PathBuf], places: &[&str]) -> Vec<PathBuf> {
    let name = [jar::entry_name(class)];
    let mut known = BTreeSet::new();
    let mut found = Vec::new();
    let mut search = |jar: PathBuf| {
        let Ok(real) = host.target(&jar) else { return };
        if known.insert(real.clone()) && contains(&real, &name)[0] {
            found.push(jar);
        }
    };
    extra.iter().cloned().for_each(&mut search);
    for place in places {
        let deep = WIDE_PLACES.contains(place) && !HADOOP_PLACES.contains(place);
        let mut jars = if deep { jars_below(host, Path::new(place)) } else { jars_in(host, Path::new(place)) };
        jars.sort_by_key(|jar| (std::cmp::Reverse(version_in(&file_name(jar))), jar.clone()));
        jars.into_iter().for_each(&mut search);
    }
    found
}

/// Which entries a jar or a class directory contains. Like Java, this ignores what it cannot read.
fn contains(real: &Path, names: &[String]) -> Vec<bool> {
    if real.is_dir() {
        return names.iter().map(|n| real.join(n).is_file()).collect();
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match jar::find(real, &names) {
        Ok(found) => found.iter().map(Option::is_some).collect(),
        Err(_) => vec![false; names.len()],
    }
}

/// The SDK to which a class refers: its constant pool contains the names of the classes it uses.
fn built_for(host: &Host, jar: &Path, class: &str) -> Option<Sdk> {
    let real = host.target(jar).ok()?;
    let entry = jar::find(&real, &[&jar::entry_name(class)]).ok()?.pop()??;
    let bytes = jar::read(&real, entry).ok()?;
    Sdk::ALL.into_iter().find(|sdk| memchr::memmem::find(&bytes, sdk.package()).is_some())
}

/// The jars of a directory, without those of its subdirectories.
pub(crate) fn jars_in(host: &Host, dir: &Path) -> Vec<PathBuf> {
    let Ok(real) = host.target(dir) else { return Vec::new() };
    let Ok(entries) = fs::read_dir(real) else { return Vec::new() };
    let mut jars: Vec<PathBuf> = entries
        .flatten()
        .map(|e| dir.join(e.file_name()))
        .filter(|p| is_jar(p) && host.target(p).is_ok_and(|t| t.is_file()))
        .collect();
    jars.sort();
    jars
}

fn jars_below(host: &Host, dir: &Path) -> Vec<PathBuf> {
    let Ok(real) = host.target(dir) else { return Vec::new() };
    WalkDir::new(&real)
        .max_depth(8)
        .into_iter()
        .flatten()
        .filter(|e| is_jar(e.path()) && !e.file_type().is_dir())
        .map(|e| host.inside(e.path()))
        .collect()
}

fn is_jar(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("jar"))
}

/// The jars of SDK v1 beside a module jar, each module in its highest version.
fn module_jars(host: &Host, jar: &Path) -> Vec<PathBuf> {
    let mut jars = jars_in(host, jar.parent().unwrap_or(Path::new("/")));
    let module = |jar: &PathBuf| {
        let name = file_name(jar);
        name.split('-').take_while(|part| !part.starts_with(|c: char| c.is_ascii_digit())).collect::<Vec<_>>().join("-")
    };
    jars.sort_by_key(|jar| (module(jar), std::cmp::Reverse(version_in(&file_name(jar)))));
    jars.dedup_by_key(|jar| module(jar));
    jars.retain(|jar| module(jar).strip_prefix("aws-java-sdk-").is_none_or(|part| SDK_V1_MODULES.contains(&part)));
    jars
}

/// The name of a jar without its version (`hadoop-aws.jar`), if EMR provides such a link.
fn unversioned(host: &Host, jar: &Path) -> PathBuf {
    let real = host.target(jar).ok();
    jars_in(host, jar.parent().unwrap_or(Path::new("/")))
        .into_iter()
        .find(|other| version_in(&file_name(other)).is_empty() && host.target(other).ok() == real)
        .unwrap_or_else(|| jar.to_path_buf())
}

/// Whether a jar belongs to an AWS SDK, or needs one, by its name.
pub(crate) fn is_of_aws(jar: &Path) -> bool {
    let name = file_name(jar);
    ["aws-java-sdk", "aws-sdk", "hadoop-aws"].iter().any(|part| name.contains(part)) || name.starts_with("bundle-")
}

/// The numbers of a versioned jar name: `hadoop-aws-3.4.1-amzn-3.jar` is `[3, 4, 1, 3]`.
fn version_in(name: &str) -> Vec<u64> {
    let stem = name.trim_end_matches(".jar");
    let Some(at) =
        stem.match_indices('-').map(|(i, _)| i + 1).find(|i| stem[*i..].starts_with(|c: char| c.is_ascii_digit()))
    else {
        return Vec::new();
    };
    stem[at..].split(['.', '-']).filter_map(|part| part.parse().ok()).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The name of a class without its package.
pub(crate) fn short(class: &str) -> &str {
    class.rsplit('.').next().unwrap_or(class)
}
