//! The thread that keeps the index: it owns the one connection that writes. A source that fails hides no other, and is tried again
//! with the next look.

use super::Place;
use super::status::Status;
use crate::aws::config::{self, TimeoutProfile};
use crate::aws::proxies;
use crate::aws::s3::S3;
use crate::error::Fault;
use crate::gateway::credentials::{CachedProvider, CredentialsCache};
use crate::index::{Progress, Remote, Source, Store, Summary, Update, Wanted, is_damage};
use crate::shown::visible_line;
use crate::signals;
use anyhow::{Context, Result, anyhow};
use aws_credential_types::provider::SharedCredentialsProvider;
use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// How long the keeper may take to stop: the snapshot can be due.
const STOP: Duration = Duration::from_secs(5);

pub(super) struct Keeper {
    pub(super) store: Store,
    pub(super) places: Vec<Place>,
    pub(super) status: Arc<Status>,
    pub(super) credentials: Arc<CredentialsCache>,
    pub(super) look_interval: Duration,
    pub(super) listing_interval: Duration,
}

/// A keeper that runs.
pub(super) struct Running {
    stop: mpsc::Sender<()>,
    stopped: oneshot::Receiver<()>,
}

/// What a keeper knows beside its options.
struct Keeping {
    keeper: Keeper,
    /// By position; `None` where a source cannot be reached.
    open: Vec<Option<(S3, Source)>>,
    /// Why each source failed when it was last told, by its name.
    told: BTreeMap<String, String>,
    told_of_snapshot: Option<String>,
    /// Whether the snapshot was read, if there was a reason.
    has_begun: bool,
}

impl Keeper {
    pub(super) fn start(self) -> Result<Running> {
        let runtime = config::parallel_runtime()?;
        let (stop, stopping) = mpsc::channel();
        let (ended, stopped) = oneshot::channel();
        let keep = move || {
            let open = self.places.iter().map(|_| None).collect();
            let (told, told_of_snapshot) = (BTreeMap::new(), None);
            let mut keeping = Keeping { keeper: self, open, told, told_of_snapshot, has_begun: false };
            keeping.keep(&runtime, &stopping);
            // The connections of the sources need their runtimes until here.
            drop(keeping);
            runtime.shutdown_timeout(Duration::from_millis(50));
            let _ = ended.send(());
        };
        thread::Builder::new()
            .name("index".into())
            .spawn(keep)
            .context("cannot start the thread that keeps the index")?;
        Ok(Running { stop, stopped })
    }
}

impl Running {
    pub(super) async fn stop(self) {
        signals::request_stop();
        drop(self.stop);
        let _ = tokio::time::timeout(STOP, self.stopped).await;
    }
}

impl Keeping {
    fn keep(&mut self, runtime: &Runtime, stop: &mpsc::Receiver<()>) {
        loop {
            let begun = Instant::now();
            if let Err(error) = self.look(runtime) {
                self.take_error(&error);
            }
            let pause = self.keeper.look_interval.saturating_sub(begun.elapsed());
            let stops = !matches!(stop.recv_timeout(pause), Err(mpsc::RecvTimeoutError::Timeout));
            if stops || signals::stop_requested() {
                break;
            }
        }
        let last = Wanted {
            is_fresh: false,
            listing_age: self.keeper.listing_interval,
            reads_snapshot: false,
            writes_snapshot: true,
            reads_whole: Some(self.keeper.look_interval),
        };
        // What it says would only be of the snapshot, and the next start says it again.
        let _ = self.update(runtime, last);
    }

    /// A database that is damaged is made anew; whatever else fails is told, and tried again.
    fn take_error(&mut self, error: &anyhow::Error) {
        let file = self.keeper.store.path().display().to_string();
        if !is_damage(error) {
            return self.tell(&file, Some(format!("{error:#}")));
        }
        match self.begin_anew() {
            Ok(()) => eprintln!("warning: {file} was damaged ({error:#}), so the gateway reads everything again"),
            Err(again) => self.tell(&file, Some(format!("{again:#}"))),
        }
    }

    fn begin_anew(&mut self) -> Result<()> {
        self.keeper.store.clear()?;
        self.keeper.store.prepare_list()?;
        // The ids of sources are the database's.
        self.open.iter_mut().for_each(|open| *open = None);
        self.has_begun = false;
        self.keeper.status.has_begun_anew();
        Ok(())
    }

    fn look(&mut self, runtime: &Runtime) -> Result<()> {
        let is_gone = !self.keeper.store.path().exists();
        if is_gone || self.keeper.status.is_damaged() {
            self.begin_anew()?;
            let (file, why) = (self.keeper.store.path().display(), if is_gone { "gone" } else { "damaged" });
            eprintln!("warning: {file} was {why}, so the gateway reads everything again");
        }
        let mut kept = Vec::new();
        for place in &self.keeper.places {
            kept.push(self.keeper.store.source(&place.name())?);
        }
        if !self.has_begun {
            self.keeper.store.keep_sources(&kept, &signals::stop_requested)?;
            self.measure(&kept)?;
        }
        let mut failing = BTreeMap::new();
        let missing: Vec<(usize, i64)> =
            kept.iter().copied().enumerate().filter(|(at, _)| self.open[*at].is_none()).collect();
        for (at, opened) in self.open(&missing) {
            match opened {
                Ok(open) => self.open[at] = Some(open),
                Err(error) => drop(failing.insert(at, in_words(&Fault::of(error)))),
            }
        }
        let wanted = Wanted {
            is_fresh: true,
            listing_age: self.keeper.listing_interval,
            reads_snapshot: !self.has_begun,
            writes_snapshot: true,
            reads_whole: Some(self.keeper.look_interval),
        };
        if self.open.iter().any(Option::is_some) {
            let summary = self.update(runtime, wanted)?;
            // If the snapshot could not be read, the next look tries again. A source that was listed completely takes no rows from it.
            self.has_begun = self.open.first().is_some_and(Option::is_some) && summary.snapshot_error.is_none();
            self.take_summary(summary, &mut failing);
        }
        if signals::stop_requested() {
            return Ok(());
        }
        let failing: Vec<(String, String)> =
            failing.into_iter().map(|(at, why)| (self.keeper.places[at].name(), why)).collect();
        for place in self.keeper.places.clone() {
            let name = place.name();
            let why = failing.iter().find(|(failed, _)| *failed == name).map(|(_, why)| why.clone());
            self.tell(&name, why);
        }
        self.keeper.status.change(|state| state.failing = failing);
        self.measure(&kept)?;
        let file = self.keeper.store.path().display().to_string();
        self.tell(&file, None);
        Ok(())
    }

    /// Connects to sources, all at once: one that does not answer must not delay the others.
    fn open(&self, missing: &[(usize, i64)]) -> Vec<(usize, Result<(S3, Source)>)> {
        let Keeper { places, credentials, status, .. } = &self.keeper;
        thread::scope(|scope| {
            let opening: Vec<_> = missing
                .iter()
                .map(|(at, id)| (*at, scope.spawn(|| open(&places[*at], *id, credentials, status))))
                .collect();
            opening
                .into_iter()
                .map(|(at, opening)| {
                    (at, opening.join().unwrap_or_else(|_| Err(anyhow!("the connection was given up"))))
                })
                .collect()
        })
    }

    fn update(&mut self, runtime: &Runtime, wanted: Wanted) -> Result<Summary> {
        let open = self.open.iter().flatten();
        let sources: Vec<Source> = open
            .map(|(_, source)| Source { id: source.id, uri: source.uri.clone(), remote: source.remote.clone() })
            .collect();
        // The snapshot lies below the first source.
        let is_first_open = self.open.first().is_some_and(Option::is_some);
        let wanted = Wanted {
            reads_snapshot: wanted.reads_snapshot && is_first_open,
            writes_snapshot: wanted.writes_snapshot && is_first_open,
            ..wanted
        };
        let status = self.keeper.status.clone();
        let mut tell = |progress: Progress| {
            let unread = match progress {
                Progress::Listing { found } => found,
                Progress::Reading { read, of, .. } | Progress::ReadingWhole { read, of } => of.saturating_sub(read),
                Progress::Snapshot => return,
                Progress::SnapshotRows { rows, written } => {
                    return status.change(|state| state.snapshot = Some((rows, written)));
                }
            };
            status.change(|state| state.unread = unread);
        };
        let requests = &self.keeper.status.requests;
        let update = Update { store: &mut self.keeper.store, sources: &sources, requests, tell: &mut tell };
        runtime.block_on(update.run(wanted))
    }

    /// Adds why sources could not be listed, and tells what concerns no single source.
    fn take_summary(&mut self, mut summary: Summary, failing: &mut BTreeMap<usize, String>) {
        let positions: Vec<usize> = (0..self.open.len()).filter(|at| self.open[*at].is_some()).collect();
        for (position, error) in std::mem::take(&mut summary.unlisted) {
            let at = positions[position];
            if let Some((s3, _)) = &self.open[at] {
                let fault = s3.explain(&self.keeper.places[at].uri, "s3:ListBucket", "list", error).fault;
                failing.insert(at, in_words(&fault));
            }
        }
        let faults: Vec<String> = summary.faults.iter().map(in_words).collect();
        self.tell("the index", (!faults.is_empty()).then(|| faults.join("; ")));
        let snapshot = summary.snapshot_error.map(|error| error.words());
        if let Some(why) = snapshot.filter(|why| self.told_of_snapshot.as_ref() != Some(why)) {
            let first = self.keeper.places.first().map(Place::name).unwrap_or_default();
            eprintln!(
                "warning: the snapshot of the index below {first} cannot be exchanged, so other nodes read all event logs themselves: \
                 S3 answered {why}"
            );
            self.told_of_snapshot = Some(why);
        }
    }

    /// Writes to the journal why something fails, or that it works again, once for each change.
    fn tell(&mut self, what: &str, why: Option<String>) {
        match (&why, self.told.get(what)) {
            (Some(why), told) if told != Some(why) => eprintln!("warning: {what}: {}", visible_line(why)),
            (None, Some(_)) => eprintln!("{what}: works again"),
            _ => {}
        }
        match why {
            Some(why) => drop(self.told.insert(what.into(), why)),
            None => drop(self.told.remove(what)),
        }
    }

    /// Reads from the database what monitoring wants to know.
    fn measure(&self, sources: &[i64]) -> Result<()> {
        let store = &self.keeper.store;
        let (mut attempts, mut unread, mut unreadable) = (0, 0, 0);
        let (mut looked, mut listed) = (Some(i64::MAX), Some(i64::MAX));
        for source in sources {
            attempts += store.shown(*source)?.0;
            let counts = store.counts(*source)?;
            unread += counts.unread + counts.to_read_again + counts.end_unread;
            unreadable += counts.failed + counts.without_application;
            let times = store.listed(*source)?;
            listed = listed.zip(times.0).map(|(one, other)| one.min(other));
            looked = looked.zip(times.1).map(|(one, other)| one.min(other));
        }
        self.keeper.status.change(|state| {
            (state.attempts, state.unread, state.unreadable) = (attempts, unread, unreadable);
            (state.looked, state.listed) = (looked, listed);
        });
        Ok(())
    }
}

fn open(place: &Place, id: i64, credentials: &Arc<CredentialsCache>, status: &Status) -> Result<(S3, Source)> {
    let Place { uri, store, region } = place;
    let runtime = config::parallel_runtime()?;
    let proxies = proxies::in_force();
    let config = config::load(&runtime, region.clone(), TimeoutProfile::Patient, &proxies);
    let provider = SharedCredentialsProvider::new(CachedProvider(credentials.clone()));
    let config = config.into_builder().credentials_provider(provider).build();
    let mut s3 = S3::new(runtime, config, store.clone(), proxies);
    s3.find_bucket(uri)?;
    let remote = Remote::new(&s3, uri, &status.requests);
    Ok((s3, Source { id, uri: place.name(), remote }))
}

/// A fault in one line of the journal.
fn in_words(fault: &Fault) -> String {
    let mut words = vec![fault.message.clone()];
    words.extend(fault.details.iter().cloned());
    words.join("; ")
}
