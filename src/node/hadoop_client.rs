//! The node's own Hadoop as the judge of what this node may do in S3.
//!
//! emr-shs asks S3 in its own way: with the instance profile, and with those settings of Hadoop that it knows. Jobs and the
//! history server can have another way: credentials, an endpoint, a proxy, headers that a bucket policy wants. So where
//! emr-shs is refused, Hadoop's client is asked: as the account of the jobs, with the jobs' class path, and as the account of
//! the history server, with the class path that is planned for the server.

use super::Node;
use super::hadoop::Hadoop;
use super::process::account_of;
use super::spark::assignments;
use super::unlike::{self, Unlike};
use crate::aws::uri::EventLogs;
use crate::hadoop_client::{HadoopClient, No, Session};
use crate::host::Host;
use crate::paths::{HISTORY_SERVER_ACCOUNT, HISTORY_SERVER_UNIT, JOBS_ACCOUNT, STORE_DROP_IN, UNIT_DIR};
use crate::test_objects::TestObject;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long Hadoop's clients may take for one question. Java starts in two seconds, but EMR runs steps, and other programs
/// start, while a new cluster's first step installs.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// How long they may take where S3 was busy when emr-shs asked. They repeat their requests for minutes.
const LIMIT_IF_BUSY: Duration = Duration::from_secs(20);

/// How long Hadoop's clients may take for a question, by whether S3 was busy when emr-shs asked.
pub(crate) fn limit(is_busy: bool) -> Duration {
    if is_busy { LIMIT_IF_BUSY } else { LIMIT }
}

/// How much of that is kept for deleting what was written.
const TO_DELETE: Duration = Duration::from_secs(3);

/// Hadoop's clients of this node. Each starts when it is first asked, and runs until this is dropped.
pub(crate) struct HadoopClients {
    /// As the jobs write and read.
    jobs: Mutex<Client>,
    /// As the history server reads.
    server: Mutex<Client>,
    /// The account of the history server.
    server_account: String,
    /// The settings by which Hadoop's way to this bucket can differ from that of emr-shs.
    pub(crate) differs: Vec<String>,
    /// Those of which emr-shs knows that it does not follow them.
    unusable: Vec<Unlike>,
}

struct Client {
    /// How to start the client, or why it cannot be started.
    client: Result<HadoopClient, No>,
    session: Option<Session>,
    was_asked: bool,
}

/// How much an opinion is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// Only what the history server does: nothing is written.
    Reading,
    /// An object is written and deleted, too, as jobs do it.
    Writing,
}

/// What Hadoop's client answers as one account; `None` for what was not asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    pub(crate) account: String,
    pub(crate) write: Option<Result<(), No>>,
    pub(crate) list: Option<Result<(), No>>,
    pub(crate) read: Option<Result<(), No>>,
    pub(crate) delete: Option<Result<(), No>>,
}

impl Answers {
    fn of(account: &str) -> Self {
        Self { account: account.into(), ..Self::default() }
    }

    /// A line below a message that says how S3 answered emr-shs.
    pub(crate) fn detail(&self, no: &No) -> String {
        match no {
            No::Refused { text, .. } => format!("Hadoop's own client, as user {}, fails: {text}", self.account),
            No::CannotTell(why) => format!("Hadoop's own client could not be asked as user {}: {why}", self.account),
            No::Interrupted => "interrupted".into(),
        }
    }

    /// A line for people: what the account may do, or what it was refused.
    fn line(&self, role: &str) -> String {
        let all = [("write", &self.write), ("list", &self.list), ("read", &self.read), ("delete", &self.delete)];
        let asked: Vec<(&str, &Result<(), No>)> =
            all.into_iter().filter_map(|(verb, answer)| Some((verb, answer.as_ref()?))).collect();
        let who = format!("Hadoop's own client, as user {} ({role})", self.account);
        match asked.iter().find_map(|(verb, answer)| Some((verb, answer.as_ref().err()?))) {
            Some((verb, No::Refused { text, .. })) => format!("{who}: fails to {verb}: {text}"),
            Some((_, No::CannotTell(why))) => format!("{who}: could not be asked: {why}"),
            Some((_, No::Interrupted)) => format!("{who}: interrupted"),
            None => {
                format!("{who}: is allowed to {}", asked.iter().map(|(verb, _)| *verb).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl Opinion {
    /// The accounts as which Hadoop's client was asked.
    pub(crate) fn accounts(&self) -> Vec<&str> {
        let jobs = self.jobs.as_ref().map(|jobs| jobs.account.as_str());
        let mut accounts: Vec<&str> = jobs.into_iter().chain([self.server.account.as_str()]).collect();
        accounts.dedup();
        accounts
    }

    /// Whether Hadoop's client could not be asked as one of the accounts.
    pub(crate) fn is_unknown(&self) -> bool {
        let write = self.jobs.as_ref().and_then(|jobs| jobs.write.as_ref());
        [write, self.server.list.as_ref()].into_iter().flatten().any(|answer| matches!(answer, Err(No::CannotTell(_))))
    }

    /// Lines for people: what Hadoop's client may do as each account, and what its way can differ in.
    pub(crate) fn lines(&self) -> Vec<String> {
        let jobs = self.jobs.as_ref().map(|jobs| jobs.line("as jobs write event logs"));
        let server = self.server.line("as the history server reads them");
        let differs = (!self.differs.is_empty()).then(|| {
            format!("with these settings, Hadoop can reach S3 in another way than emr-shs: {}", self.differs.join(", "))
        });
        let unusable = self.unusable.iter().map(|Unlike { key, why }| format!("{key}: {why}"));
        jobs.into_iter().chain([server]).chain(differs).chain(unusable).collect()
    }
}

/// The second opinion about a directory of event logs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opinion {
    /// Not asked where no job of this node writes event logs there.
    pub(crate) jobs: Option<Answers>,
    pub(crate) server: Answers,
    pub(crate) differs: Vec<String>,
    /// The settings of which emr-shs knows that it does not follow them.
    pub(crate) unusable: Vec<Unlike>,
}

/// What a run of emr-shs plans to add to the node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Planned<'a> {
    /// Jars for the history server's class path.
    pub(crate) jars: &'a [PathBuf],
    /// Keys of spark-defaults.conf.
    pub(crate) keys: Option<&'a BTreeMap<String, String>>,
}

impl HadoopClients {
    /// Reads how the clients start on this node. Starts nothing.
    pub(crate) fn of(host: &Host, node: &Node, uri: &EventLogs, planned: Planned<'_>) -> Self {
        let server_account = server_account(host, node);
        let client = |account: &str, class_path: Vec<String>, options: Vec<String>, own: BTreeMap<String, String>| {
            let ids = host.account(account);
            let (uid, gid) = ids.ok_or_else(|| No::CannotTell(format!("this node has no account {account}")))?;
            let java = java(host, node).ok_or_else(|| No::CannotTell("no java was found on this node".into()))?;
            if !nix::unistd::geteuid().is_root() {
                return Err(No::CannotTell(format!("only root can ask as user {account}")));
            }
            let environment = environment(node);
            let settings = settings(node, planned).into_iter().chain(own).collect();
            Ok(HadoopClient { java, account: (uid, gid), class_path, options, environment, settings })
        };
        let driver = ["spark.driver.defaultJavaOptions", "spark.driver.extraJavaOptions"];
        let driver = driver.map(|key| node.spark.defaults.text(key).unwrap_or_default()).join(" ");
        let planned_keys = planned.keys.into_iter().flatten();
        let hadoop = node.hadoop.with_spark_keys(planned_keys.map(|(key, value)| (key.clone(), Some(value.clone()))));
        let stopped = |client| Mutex::new(Client { client, session: None, was_asked: false });
        Self {
            jobs: stopped(client(
                JOBS_ACCOUNT,
                jobs_class_path(node),
                definitions(driver.split_whitespace()),
                BTreeMap::new(),
            )),
            server: stopped(client(
                &server_account,
                server_class_path(node, planned),
                server_options(node),
                server_properties(node),
            )),
            server_account,
            differs: differences(&hadoop, uri),
            unusable: unlike::unusable(&hadoop, &uri.scheme, &uri.bucket),
        }
    }

    /// Asks about a directory of event logs.
    pub(crate) fn ask(&self, uri: &EventLogs, about: About, deadline: Instant) -> Opinion {
        let name = probe_name();
        let object = format!("{uri}{name}");
        let plain = |no: No| no.without(&name, PROBE_NAME);
        let mut jobs = (about == About::Writing).then(|| Answers::of(JOBS_ACCOUNT));
        let mut server = Answers::of(&self.server_account);
        let mut file = None;
        let mut sent = None;
        // What was written must go in time, too.
        let until = deadline.checked_sub(TO_DELETE).unwrap_or(deadline);
        std::thread::scope(|scope| {
            // Both begin at once: most of the time is the start of Java.
            scope.spawn(|| {
                let listed = self.as_server(until, |session| list(session, uri));
                file = listed.clone().ok().flatten();
                server.list = Some(listed.map(drop));
            });
            if let Some(jobs) = &mut jobs {
                let written = self.as_jobs(until, |session| {
                    sent = Some(TestObject::about_to_be_written(&uri.bucket, &format!("{}{name}", uri.prefix)));
                    session.write(&object, PROBE)
                });
                jobs.write = Some(written.map_err(plain));
            }
        });
        let is_written = jobs.as_ref().is_some_and(|jobs| jobs.write == Some(Ok(())));
        if is_written {
            file = Some(object.clone());
        }
        if let (Some(file), Some(Ok(()))) = (&file, &server.list) {
            server.read = Some(self.as_server(until, |session| session.read(file)).map_err(plain));
        }
        if let Some(jobs) = &mut jobs {
            if is_written {
                jobs.list = Some(self.as_jobs(until, |session| list(session, uri).map(drop)));
                jobs.read = Some(self.as_jobs(until, |session| session.read(&object)).map_err(plain));
            }
            // The object can exist although the answer was no, or did not come.
            if let Some(sent) = sent {
                let deleted = self.as_jobs(deadline, |session| session.delete(&object));
                let is_refused = matches!(jobs.write, Some(Err(No::Refused { .. })));
                // The history server's account can be allowed what the jobs' account is not.
                let is_gone = deleted.is_ok() || self.as_server(deadline, |session| session.delete(&object)).is_ok();
                if is_gone || is_refused {
                    sent.gone();
                }
                jobs.delete = is_written.then_some(deleted.map_err(plain));
            }
        }
        Opinion { jobs, server, differs: self.differs.clone(), unusable: self.unusable.clone() }
    }

    /// Whether emr-shs knows that it does not do what Hadoop's settings for the bucket say.
    pub(crate) fn has_settings_of_its_own(&self) -> bool {
        !self.unusable.is_empty()
    }

    /// Whether one of the clients was asked anything.
    pub(crate) fn were_asked(&self) -> bool {
        let was_asked = |client: &Mutex<Client>| client.lock().unwrap_or_else(PoisonError::into_inner).was_asked;
        was_asked(&self.jobs) || was_asked(&self.server)
    }

    /// Whether the directory exists, as the jobs' account sees it, else as the server's.
    pub(crate) fn exists(&self, uri: &EventLogs, only_server: bool) -> Result<bool, No> {
        self.as_either(only_server, |session| session.exists(&uri.to_string()))
    }

    /// Makes the directory as the jobs' account, which will write there, else as the server's.
    pub(crate) fn make_directory(&self, uri: &EventLogs, only_server: bool) -> Result<(), No> {
        self.as_either(only_server, |session| session.make_directory(&uri.to_string()))
    }

    /// Acts as the jobs' account, else as the server's. Where no job of this node writes, the server's comes first.
    fn as_either<T>(&self, only_server: bool, act: impl Fn(&mut Session) -> Result<T, No>) -> Result<T, No> {
        let until = || Instant::now() + LIMIT;
        let first = if only_server { self.as_server(until(), &act) } else { self.as_jobs(until(), &act) };
        let Err(first) = first else { return first };
        if first.is_interrupted() {
            return Err(first);
        }
        let second = if only_server { self.as_jobs(until(), &act) } else { self.as_server(until(), &act) };
        second.map_err(|second| {
            let mut accounts = [JOBS_ACCOUNT, self.server_account.as_str()];
            if only_server {
                accounts.reverse();
            }
            first.and([accounts[0], accounts[1]], &second)
        })
    }

    pub(crate) fn as_jobs<T>(&self, until: Instant, act: impl FnOnce(&mut Session) -> Result<T, No>) -> Result<T, No> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).act(until, act)
    }

    fn as_server<T>(&self, until: Instant, act: impl FnOnce(&mut Session) -> Result<T, No>) -> Result<T, No> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).act(until, act)
    }
}

impl Client {
    fn act<T>(&mut self, until: Instant, act: impl FnOnce(&mut Session) -> Result<T, No>) -> Result<T, No> {
        self.was_asked = true;
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.client.as_ref().map_err(No::clone)?.start(until)?,
        };
        session.deadline = until;
        let answer = act(&mut session);
        // A client that could not answer has ended.
        if !matches!(answer, Err(No::CannotTell(_) | No::Interrupted)) {
            self.session = Some(session);
        }
        answer
    }
}

/// What is in the object that tests permissions.
const PROBE: &[u8] = b"emr-shs wrote this to test permissions; you can delete it\n";

/// The beginning of that object's name. The dot makes the history server ignore it.
const PROBE_NAME: &str = ".emr-shs-probe";

fn probe_name() -> String {
    let nonce = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{PROBE_NAME}-{nonce:x}-{}", std::process::id())
}

/// Lists the directory. One that does not exist yet can be listed all the same, unless its bucket does not exist.
fn list(session: &mut Session, uri: &EventLogs) -> Result<Option<String>, No> {
    let listed = session.list(&uri.to_string());
    if !matches!(listed, Err(No::Refused { is_missing: true, .. })) {
        return listed;
    }
    match session.list(&format!("{}://{}/", uri.scheme, uri.bucket)) {
        Err(No::Refused { is_missing: true, .. }) => listed,
        _ => Ok(None),
    }
}

/// What runs a command as an account, and stands before the account's name, in the drop-in for the local store.
pub(crate) const AS_ACCOUNT: &str = "runuser -u ";

/// The account of the history server: that of its process; if no process runs, that of the installation; else EMR's.
pub(crate) fn server_account(host: &Host, node: &Node) -> String {
    let process = node.server.as_ref().and_then(|server| server.process.as_ref());
    let of_process = process.and_then(|process| account_of(process.pid)).and_then(|uid| host.account_name(uid));
    let of_installation = || {
        let drop_in = Path::new(UNIT_DIR).join(format!("{HISTORY_SERVER_UNIT}.d")).join(STORE_DROP_IN);
        let drop_in = host.read(&drop_in).ok()??;
        let (_, account) = drop_in.split_once(AS_ACCOUNT)?;
        Some(account.split_once(' ')?.0.to_string())
    };
    of_process.or_else(of_installation).unwrap_or_else(|| HISTORY_SERVER_ACCOUNT.into())
}

/// The program java: that of the server's process, else by JAVA_HOME of Spark's or Hadoop's files, else the system's. The
/// server's account can write what it likes into the arguments of its process. So a program that others than root can
/// exchange does not count: other accounts would run it, too.
fn java(host: &Host, node: &Node) -> Option<PathBuf> {
    let process = node.server.as_ref().and_then(|server| server.process.as_ref());
    let of_process = process.and_then(|process| process.args.first()).map(PathBuf::from);
    let of_home = |home: &str| Path::new(home).join("bin/java");
    let of_spark = node.spark.env.get("JAVA_HOME").map(|home| of_home(home));
    let places = ["/usr/bin/java", "/usr/local/bin/java", "/etc/alternatives/jre/bin/java"].map(PathBuf::from);
    let of_hadoop = host.read(&node.spark.hadoop_conf().join("hadoop-env.sh")).ok().flatten();
    let of_hadoop = of_hadoop.and_then(|script| assignments(&script).remove("JAVA_HOME")).map(|home| of_home(&home));
    let mut all = of_process.into_iter().chain(of_spark).chain(of_hadoop).chain(places);
    all.find(|java| java.is_absolute() && java.is_file() && host.is_roots_alone(java))
}

/// The options that reach every Java of the history server, such as a trust store.
fn server_options(node: &Node) -> Vec<String> {
    match node.server.as_ref().and_then(|server| server.process.as_ref()) {
        Some(process) => definitions(process.args.iter().map(String::as_str)),
        None => definitions(written_options(node).split_whitespace()),
    }
}

/// System properties that are not Spark's own.
fn definitions<'a>(options: impl Iterator<Item = &'a str>) -> Vec<String> {
    options.filter(|o| o.starts_with("-D") && !o.starts_with("-Dspark.")).map(str::to_string).collect()
}

/// The variables of spark-env.sh that Java, Hadoop or an SDK read. Of the variables of this process only those that lead to
/// the metadata service: root's credentials are not those of the accounts.
fn environment(node: &Node) -> BTreeMap<String, String> {
    const PREFIXES: [&str; 6] = ["AWS_", "HADOOP_", "JAVA_", "JDK_JAVA_", "HTTP", "NO_PROXY"];
    let is_read = |name: &str| PREFIXES.iter().any(|prefix| name.to_ascii_uppercase().starts_with(prefix));
    let ours = std::env::vars().filter(|(name, _)| name.starts_with("AWS_EC2_METADATA_"));
    let sparks = node.spark.env.iter().filter(|(name, _)| is_read(name));
    ours.chain(sparks.map(|(name, value)| (name.clone(), value.clone()))).collect()
}

/// The class path that is planned for the history server.
fn server_class_path(node: &Node, planned: Planned<'_>) -> Vec<String> {
    node.class_path.elements.iter().chain(planned.jars).map(|element| element.display().to_string()).collect()
}

/// The class path of a driver: what spark-defaults.conf puts before it, then Spark's and Hadoop's configuration and jars.
fn jobs_class_path(node: &Node) -> Vec<String> {
    let home = node.spark.home.display();
    let extra = node.spark.defaults.text("spark.driver.extraClassPath").unwrap_or_default();
    let own = [format!("{home}/conf/"), format!("{home}/jars/*"), format!("{}/", node.spark.hadoop_conf().display())];
    extra.split(':').filter(|element| !element.is_empty()).map(str::to_string).chain(own).collect()
}

/// The `spark.hadoop.*` keys, as Spark gives them to Hadoop, with those that are planned.
fn settings(node: &Node, planned: Planned<'_>) -> BTreeMap<String, String> {
    let hadoops =
        |(key, value): (&str, &str)| Some((key.strip_prefix("spark.hadoop.")?.to_string(), value.trim().to_string()));
    // A store that does not answer must not take the minutes that Hadoop's own settings allow.
    let quick = [
        ("fs.s3a.attempts.maximum", "2"),
        ("fs.s3a.retry.limit", "2"),
        ("fs.s3a.connection.establish.timeout", "5000"),
        ("fs.s3.maxRetries", "3"),
    ];
    let quick = quick.map(|(key, value)| (key.to_string(), value.to_string()));
    let mut settings: BTreeMap<String, String> = quick.into();
    let written = node.spark.defaults.hadoop_properties();
    settings.extend(written.map(|(key, value)| (key.to_string(), value.to_string())));
    let planned = planned.keys.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()));
    settings.extend(planned.filter_map(hadoops));
    settings
}

/// The `spark.hadoop.*` keys that the start files give the history server as system properties, which have the last word.
fn server_properties(node: &Node) -> BTreeMap<String, String> {
    let properties = |arguments: &mut dyn Iterator<Item = &str>| {
        let pairs = arguments.filter_map(|argument| argument.strip_prefix("-Dspark.hadoop.")?.split_once('='));
        pairs
            .map(|(key, value)| (key.to_string(), node.spark.defaults.value(value).text().trim().to_string()))
            .collect()
    };
    match node.server.as_ref().and_then(|server| server.process.as_ref()) {
        Some(process) => properties(&mut process.args.iter().map(String::as_str)),
        None => properties(&mut written_options(node).split_whitespace()),
    }
}

/// The options that spark-env.sh gives the history server.
fn written_options(node: &Node) -> String {
    let options = |name: &str| node.spark.env.get(name).map_or("", String::as_str);
    ["SPARK_DAEMON_JAVA_OPTS", "SPARK_HISTORY_OPTS"].map(options).join(" ")
}

/// The settings that can lead Hadoop's clients to S3 in another way than emr-shs: their names, without their values, which
/// can be secrets.
fn differences(hadoop: &Hadoop, uri: &EventLogs) -> Vec<String> {
    const ABOUT: [&str; 13] = [
        "access.key",
        "accesskey",
        "secret",
        "session.token",
        "credential",
        "role",
        "grants",
        "endpoint",
        "proxy",
        "acl",
        "encrypt",
        "requester",
        "sign",
    ];
    let of_bucket = format!("fs.s3a.bucket.{}.", uri.bucket);
    let concerns = |key: &&str| {
        let name = match key.strip_prefix("fs.s3a.bucket.") {
            Some(_) => key.strip_prefix(of_bucket.as_str()),
            None => key.strip_prefix("fs.s3a.").or(key.strip_prefix("fs.s3.")).or(key.strip_prefix("hadoop.security.")),
        };
        let name = name.unwrap_or_default().to_ascii_lowercase();
        ABOUT.iter().any(|word| name.contains(word))
    };
    let mut keys: Vec<String> = hadoop.names().filter(concerns).map(str::to_string).collect();
    keys.extend(unlike::unfamiliar(hadoop, &uri.scheme, &uri.bucket));
    keys.extend(unlike::unusable(hadoop, &uri.scheme, &uri.bucket).into_iter().map(|unlike| unlike.key));
    keys.sort();
    keys.dedup();
    keys
}
