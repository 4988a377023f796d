//! `index`: every application in S3 from a local database, on a node or on any machine with credentials.

mod format;
mod search;
mod status;
mod times;

use super::host;
use crate::aws::config::{self, TimeoutProfile};
use crate::aws::s3::S3;
use crate::aws::uri::EventLogs;
use crate::change::receipt::Receipt;
use crate::cli::index::{Index, IndexArgs};
use crate::cli::options::given;
use crate::error::{Exit, Fault};
use crate::host::Host;
use crate::index::{Progress, Remote, Requests, Source, Store, Summary, Update, Wanted, is_damage};
use crate::node::Node;
use crate::paths::LOG_DIRECTORY_KEY;
use crate::shown::hint;
use crate::signals;
use crate::ui::Console;
use anyhow::{Context, Result};
use fs_err as fs;
use indicatif::ProgressBar;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub(super) fn run(root: &Path, what: &Index, console: &Console) -> Result<Exit> {
    let host = host(root)?;
    if !host.is_live() {
        return Err(Fault::usage("index reads S3, and --root leaves S3 out").hint("leave --root out").into());
    }
    match what {
        Index::Search(args) => search::run(&host, args, console),
        Index::Status(args) => status::run(&host, args, console),
        Index::Rebuild(args) => rebuild(&host, args, console),
    }
}

fn rebuild(host: &Host, args: &IndexArgs, console: &Console) -> Result<Exit> {
    let mut index = OpenIndex::open(host, args)?;
    if !index.store.is_writer() {
        return Err(Fault::failed(format!("another emr-shs is writing {}", index.store.path().display()))
            .hint("wait for its end, or name another file with --db")
            .into());
    }
    index.store.clear()?;
    let summary = index.update(Wanted { is_full: true, has_snapshot: !args.no_snapshot }, true, console)?;
    status::report(&index, Some(&summary), "index rebuild", console)?;
    Ok(index.exit(&summary, console))
}

/// An index with its sources.
struct OpenIndex {
    store: Store,
    uris: Vec<EventLogs>,
    connections: Connections,
}

/// How the sources are reached.
struct Connections {
    node: Node,
    region: Option<String>,
    endpoint: Option<String>,
}

impl OpenIndex {
    fn open(host: &Host, args: &IndexArgs) -> Result<Self> {
        let receipt = Receipt::load(host).unwrap_or_default();
        // A machine that is no node has no configuration, and needs none.
        let (node, _) = Node::read_leniently(host);
        let named = args.event_logs.iter().filter(|text| !text.is_empty()).map(|text| text.parse());
        let mut uris: Vec<EventLogs> = named.collect::<Result<_, Fault>>()?;
        if uris.is_empty() {
            let configured = || node.spark.defaults.text(LOG_DIRECTORY_KEY)?.parse().ok();
            uris.extend(receipt.settings.event_logs.clone().or_else(configured));
        }
        if uris.is_empty() {
            return Err(Fault::usage("no prefix with event logs is known")
                .detail("emr-shs is not installed here, and spark-defaults.conf names no prefix in S3")
                .hint("emr-shs index search --event-logs s3://my-bucket/spark-events/")
                .into());
        }
        let path = match &args.db {
            Some(path) => path.clone(),
            None => usual_file()?,
        };
        let settings = &receipt.settings;
        let connections = Connections {
            node,
            region: args.s3.region.given().map(str::to_string).or_else(|| settings.region.clone()),
            endpoint: given(&args.s3.endpoint_url).map(str::to_string).or_else(|| settings.endpoint_url.clone()),
        };
        Ok(Self { store: Store::open(&path)?, uris, connections })
    }

    /// Brings the index up to date. A damaged database is made anew. `is_patient` tells on a terminal what happens.
    fn update(&mut self, wanted: Wanted, is_patient: bool, console: &Console) -> Result<Summary> {
        match self.try_update(wanted, is_patient, console) {
            Err(error) if is_damage(&error) => {
                console.warn(&format!("{} is damaged, so emr-shs reads everything again", self.store.path().display()));
                self.store.clear()?;
                self.try_update(wanted, is_patient, console)
            }
            updated => updated,
        }
    }

    fn try_update(&mut self, wanted: Wanted, is_patient: bool, console: &Console) -> Result<Summary> {
        let requests = Arc::new(Requests::default());
        let runtime = config::parallel_runtime()?;
        let mut open: Vec<S3> = Vec::new();
        let mut sources = Vec::new();
        for uri in &self.uris {
            let s3 = self.connections.open(uri)?;
            let name = name_of(uri);
            sources.push(Source { id: self.store.source(&name)?, uri: name, remote: Remote::new(&s3, uri, &requests) });
            open.push(s3);
        }
        let spinner = if is_patient { console.spinner() } else { None };
        let mut tell = |progress: Progress| {
            if let Some(spinner) = &spinner {
                show(spinner, &progress);
            }
        };
        let update = Update { store: &mut self.store, sources: &sources, requests: &requests, tell: &mut tell };
        let updated = runtime.block_on(update.run(wanted));
        // A request that hangs must not hold the process.
        runtime.shutdown_timeout(Duration::from_millis(50));
        if let Some(spinner) = spinner {
            spinner.finish_and_clear();
        }
        let mut summary = updated.with_context(|| format!("cannot write {}", self.store.path().display()))?;
        for (position, error) in std::mem::take(&mut summary.unlisted) {
            let refusal = open[position].explain(&self.uris[position], "s3:ListBucket", "list", error);
            summary.faults.push((position, refusal.fault));
        }
        Ok(summary)
    }

    /// The ids of the sources that the database knows.
    fn known(&self) -> Result<Vec<i64>> {
        let known = self.uris.iter().map(|uri| self.store.known_source(&name_of(uri)));
        Ok(known.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Says what failed. Sources that cannot be listed do not hide the others.
    fn exit(&self, summary: &Summary, console: &Console) -> Exit {
        for (_, fault) in &summary.faults {
            console.fault_in_words(fault);
        }
        if summary.is_interrupted || signals::stop_requested() {
            console.say("interrupted: what has been read is kept, and the next run goes on");
            return Exit::Failed;
        }
        if summary.faults.is_empty() { Exit::Done } else { Exit::CheckFailed }
    }
}

impl Connections {
    fn open(&self, uri: &EventLogs) -> Result<S3> {
        let connection = self.node.s3_connection(uri, self.region.as_deref(), self.endpoint.as_deref());
        // Connections go on while the thread that opened them waits for something else.
        let mut s3 = connection.open_on(config::parallel_runtime()?, TimeoutProfile::Patient)?;
        s3.find_bucket(uri)?;
        Ok(s3)
    }
}

/// How the database names a source: the schemes s3 and s3a mean the same place.
fn name_of(uri: &EventLogs) -> String {
    EventLogs { scheme: "s3".into(), ..uri.clone() }.to_string()
}

/// The file of the index in the caller's cache directory, which is made if it does not exist.
fn usual_file() -> Result<PathBuf> {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")));
    let Some(cache) = cache else {
        return Err(Fault::usage("your account has no home directory, so there is no place for the index")
            .hint(hint!("name a file: --db {}", "/var/tmp/emr-shs-index.sqlite"))
            .into());
    };
    let directory = cache.join("emr-shs");
    fs::create_dir_all(&cache)?;
    let made = std::fs::DirBuilder::new().mode(0o700).create(&directory);
    if let Err(error) = made
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(error).with_context(|| format!("cannot make {}", directory.display()));
    }
    Ok(directory.join("index.sqlite"))
}

/// Tells on a terminal how far an update is.
fn show(spinner: &ProgressBar, progress: &Progress) {
    spinner.set_message(match progress {
        Progress::Snapshot => "exchanging the snapshot".into(),
        Progress::Listing { found } => format!("listing: {} new event logs", format::number(*found)),
        Progress::Reading { read, of, since } => {
            let rate = *read as f64 / since.elapsed().as_secs_f64().max(0.001);
            let left = Duration::from_secs_f64(of.saturating_sub(*read) as f64 / rate.max(0.001));
            let (read, of) = (format::number(*read), format::number(*of));
            format!("{read} of {of} event logs read, {rate:.0} a second, {} left", format::span(left))
        }
        Progress::ReadingWhole { read, of } => {
            format!("{} of {} event logs read whole for their ends", format::number(*read), format::number(*of))
        }
    });
    spinner.tick();
}
