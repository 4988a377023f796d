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
use crate::error::{Exit, Fault};
use crate::host::Host;
use crate::index::{
    MOST_SOURCES, Progress, Remote, Requests, Source, Store, Summary, Update, Wanted, is_damage, source_name,
    without_covered,
};
use crate::node::Node;
use crate::paths::{GATEWAY_APPLICATIONS, LOG_DIRECTORY_KEY};
use crate::shown::{hint, number};
use crate::signals;
use crate::ui::Console;
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often the spinner turns while nothing else moves it.
const TICK: Duration = Duration::from_millis(120);

pub(super) fn run(root: &Path, what: &Index, console: &Console) -> Result<Exit> {
    let host = host(root)?;
    if !host.is_live() {
        return Err(Fault::usage("index reads S3, and --root leaves S3 out").hint("leave --root out").into());
    }
    let go = || match what {
        Index::Search(args) => search::run(&host, args, console),
        Index::Status(args) => status::run(&host, args, console),
        Index::Rebuild(args) => rebuild(&host, args, console),
    };
    let ran = match go() {
        Err(error) if is_damage(&error) => match begin_anew(&host, what, console)? {
            true => go(),
            false => Err(error),
        },
        ran => ran,
    };
    match ran {
        Err(error) if is_damage(&error) => Err(Fault::failed("the index is damaged")
            .detail(format!("{error:#}"))
            .hint("read everything again: emr-shs index rebuild, with the options of this command")
            .into()),
        ran => ran,
    }
}

/// Begins a damaged database anew, if the command reads S3 and this process may write the database.
fn begin_anew(host: &Host, what: &Index, console: &Console) -> Result<bool> {
    let args = match what {
        Index::Search(args) if !args.no_refresh => &args.index,
        Index::Rebuild(args) => args,
        Index::Search(_) | Index::Status(_) => return Ok(false),
    };
    let mut index = OpenIndex::open(host, args, console)?;
    if index.store.writing_refused().is_some() {
        return Ok(false);
    }
    console.warn(&format!("{} is damaged, so emr-shs reads everything again", index.store.path().display()));
    index.store.clear()?;
    Ok(true)
}

fn rebuild(host: &Host, args: &IndexArgs, console: &Console) -> Result<Exit> {
    let mut index = OpenIndex::open(host, args, console)?;
    if index.store.path() == Path::new(GATEWAY_APPLICATIONS) {
        return Err(Fault::failed(format!("the log gateway keeps {GATEWAY_APPLICATIONS}, and nobody else writes it"))
            .hint("make an index of your own: emr-shs index rebuild --db FILE")
            .into());
    }
    if let Some(why) = index.store.writing_refused() {
        return Err(Fault::failed(why)
            .hint("name another file: --db FILE; if another command writes this one, wait for its end")
            .into());
    }
    let wanted = Wanted {
        is_fresh: true,
        listing_age: Duration::ZERO,
        reads_snapshot: false,
        writes_snapshot: !args.no_snapshot,
        reads_whole: None,
    };
    index.is_distrusted = true;
    let summary = index.update(wanted, console)?;
    status::report(&index, Some(&summary), "index rebuild", console)?;
    index.exit(&summary, console)
}

/// What the options name, before the database is open.
struct Named {
    path: PathBuf,
    uris: Vec<EventLogs>,
    connections: Connections,
}

/// An index with its sources.
struct OpenIndex {
    store: Store,
    uris: Vec<EventLogs>,
    connections: Connections,
    /// Whether every log is to be read again.
    is_distrusted: bool,
}

/// How the sources are reached.
struct Connections {
    node: Node,
    region: Option<String>,
    endpoint: Option<String>,
}

impl Named {
    fn by(host: &Host, args: &IndexArgs) -> Result<Self> {
        let receipt = Receipt::load(host).unwrap_or_default();
        // A machine that is no node has no configuration, and needs none.
        let (node, _) = Node::read_leniently(host);
        let named = args.event_logs.iter().filter(|text| !text.is_empty()).map(|text| text.parse());
        let mut uris: Vec<EventLogs> = named.collect::<Result<_, Fault>>()?;
        if uris.is_empty() {
            let configured = || node.spark.defaults.text(LOG_DIRECTORY_KEY)?.parse().ok();
            uris.extend(receipt.settings.sources().cloned());
            if uris.is_empty() {
                uris.extend(configured());
            }
        }
        if uris.is_empty() {
            return Err(Fault::usage("no prefix with event logs is known")
                .detail("emr-shs is not installed here, and spark-defaults.conf names no prefix in S3")
                .hint("emr-shs index search --event-logs s3://my-bucket/spark-events/")
                .into());
        }
        uris = without_covered(uris, |uri| uri);
        if uris.len() > MOST_SOURCES {
            return Err(Fault::usage(format!(
                "index takes at most {MOST_SOURCES} prefixes at once, found {}",
                uris.len()
            ))
            .hint("name a prefix above them: the layout below it does not matter")
            .into());
        }
        let settings = &receipt.settings;
        // Only the gateway's account and root can read the gateway's index.
        let is_gateways = args.event_logs.is_empty() && settings.index && nix::unistd::geteuid().is_root();
        let path = match &args.db {
            Some(path) => path.clone(),
            None if is_gateways => GATEWAY_APPLICATIONS.into(),
            None => usual_file()?,
        };
        let connections = Connections {
            node,
            region: args.s3.region.given().map(str::to_string).or_else(|| settings.region.clone()),
            endpoint: args.s3.endpoint()?.or_else(|| settings.endpoint_url.clone()),
        };
        Ok(Self { path, uris, connections })
    }
}

impl OpenIndex {
    fn open(host: &Host, args: &IndexArgs, console: &Console) -> Result<Self> {
        let Named { path, uris, connections } = Named::by(host, args)?;
        if path == Path::new(GATEWAY_APPLICATIONS) {
            let store = Store::look(&path)?.ok_or_else(|| {
                Fault::failed("the log gateway has not made its index yet")
                    .detail(format!("there is no {GATEWAY_APPLICATIONS}"))
                    .hint("sudo emr-shs status; or make an index of your own: --db FILE")
            })?;
            return Ok(Self { store, uris, connections, is_distrusted: false });
        }
        if args.db.is_none() {
            make_directory(&path)?;
        }
        let store = Store::open(&path)?;
        if let Some(why) = store.replaced() {
            console
                .warn(&format!("{} could not be used ({why}), so emr-shs has begun a new index there", path.display()));
        }
        Ok(Self { store, uris, connections, is_distrusted: false })
    }

    /// Brings the index up to date.
    fn update(&mut self, wanted: Wanted, console: &Console) -> Result<Summary> {
        let spinner = console.spinner();
        if let Some(spinner) = &spinner {
            spinner.set_message("connecting to S3");
            spinner.enable_steady_tick(TICK);
        }
        let requests = Arc::new(Requests::default());
        let runtime = config::parallel_runtime()?;
        let mut open: Vec<(&EventLogs, S3)> = Vec::new();
        let mut sources = Vec::new();
        let mut faults = Vec::new();
        for uri in &self.uris {
            match self.connections.open(uri) {
                Ok(s3) => {
                    let name = source_name(uri);
                    let remote = Remote::new(&s3, uri, &requests);
                    let id = self.store.source(&name)?;
                    if self.is_distrusted {
                        self.store.distrust(id)?;
                    }
                    sources.push(Source { id, uri: name, remote });
                    open.push((uri, s3));
                }
                // A prefix that cannot be reached does not hide the others.
                Err(error) => faults.push(Fault { unchanged: false, ..Fault::of(error) }),
            }
        }
        if sources.is_empty()
            && let Some(fault) = faults.pop()
        {
            if let Some(spinner) = spinner {
                spinner.finish_and_clear();
            }
            return Err(fault.into());
        }
        // The snapshot lies below the first prefix.
        let is_first_open = open.first().is_some_and(|(uri, _)| self.uris.first() == Some(*uri));
        let wanted = Wanted {
            reads_snapshot: wanted.reads_snapshot && is_first_open,
            writes_snapshot: wanted.writes_snapshot && is_first_open,
            ..wanted
        };
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
            let (uri, s3) = &open[position];
            let fault = s3.explain(uri, "s3:ListBucket", "list", error).fault;
            faults.push(Fault { unchanged: false, ..fault });
        }
        summary.faults.extend(faults);
        Ok(summary)
    }

    /// Whether the database has no event log of a source.
    fn is_empty(&self) -> Result<bool> {
        for id in self.known()? {
            if self.store.has_logs(id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The ids of the sources that the database knows.
    fn known(&self) -> Result<Vec<i64>> {
        let known = self.uris.iter().map(|uri| self.store.known_source(&source_name(uri)));
        Ok(known.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Says what failed. Sources that cannot be listed do not hide the others.
    fn exit(&self, summary: &Summary, console: &Console) -> Result<Exit> {
        self.tell_of_snapshot(summary, console)?;
        for fault in &summary.faults {
            console.fault_in_words(fault);
        }
        if summary.is_interrupted || signals::stop_requested() {
            console.say("interrupted: what has been read is kept, and the next run goes on");
            return Ok(Exit::Failed);
        }
        Ok(if summary.faults.is_empty() { Exit::Done } else { Exit::CheckFailed })
    }

    /// Says once why there is no snapshot, because nothing else fails for it.
    fn tell_of_snapshot(&self, summary: &Summary, console: &Console) -> Result<()> {
        const TOLD: &str = "snapshot_trouble_told";
        let Some(error) = &summary.snapshot_error else { return Ok(()) };
        let why = error.words();
        if self.store.fact(TOLD)?.as_deref() != Some(&why) {
            console.warn(&format!(
                "the snapshot of this index below {} cannot be exchanged, so other machines read all event logs themselves: \
                 S3 answered {why}. emr-shs does not repeat this warning; --no-snapshot leaves the snapshot out",
                self.uris.first().map(ToString::to_string).unwrap_or_default()
            ));
            self.store.set_fact(TOLD, &why)?;
        }
        Ok(())
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

/// The file of the index in the caller's cache directory.
fn usual_file() -> Result<PathBuf> {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")));
    let Some(cache) = cache else {
        return Err(Fault::usage("your account has no home directory, so there is no place for the index")
            .hint(hint!("name a file: --db {}", "/var/tmp/emr-shs-index.sqlite"))
            .into());
    };
    Ok(cache.join("emr-shs").join("index.sqlite"))
}

/// Makes the directory of the usual file, if it does not exist.
fn make_directory(file: &Path) -> Result<()> {
    let Some((directory, cache)) = file.parent().and_then(|directory| Some((directory, directory.parent()?))) else {
        return Ok(());
    };
    let made = fs_err::create_dir_all(cache).and_then(|()| {
        let made = std::fs::DirBuilder::new().mode(0o700).create(directory);
        made.or_else(|error| if error.kind() == std::io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
    });
    made.map_err(|error| {
        Fault::usage(format!("the directory of the index, {}, cannot be made", directory.display()))
            .detail(error.to_string())
            .hint(hint!(
                "name a file in a directory that this account can write: --db {}",
                "/var/tmp/emr-shs-index.sqlite"
            ))
            .into()
    })
}

/// Tells on a terminal how far an update is.
fn show(spinner: &ProgressBar, progress: &Progress) {
    spinner.set_message(match progress {
        Progress::Snapshot => "reading or writing the snapshot".into(),
        Progress::SnapshotRows { rows, .. } => format!("{} event logs known from the snapshot", number(*rows)),
        Progress::Listing { found } => format!("listing: {} new event logs", number(*found)),
        Progress::Reading { read, of, since } => {
            let rate = *read as f64 / since.elapsed().as_secs_f64().max(0.001);
            let left = Duration::from_secs_f64(of.saturating_sub(*read) as f64 / rate.max(0.001));
            let (read, of) = (number(*read), number(*of));
            format!("{read} of {of} event logs read, {rate:.0} a second, {} left", format::span(left))
        }
        Progress::ReadingWhole { read, of } => {
            format!(
                "{} of {} event logs read completely, because their compression hides the end",
                number(*read),
                number(*of)
            )
        }
    });
}
