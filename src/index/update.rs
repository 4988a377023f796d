//! Bringing the index up to date: list, read what is new, write the snapshot.

use super::listing::{Listing, Look};
use super::logs::{Changes, Outcome, ReadResult, State};
use super::queue::Queue;
use super::reading::Reader;
use super::remote::{ListingError, Remote, Requests, Sent};
use super::snapshot::{self, LoadError, Written};
use super::store::Store;
use crate::aws::error::S3Error;
use crate::error::Fault;
use crate::signals;
use anyhow::Result;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How old the snapshot may be, in milliseconds, before an update that has read logs writes it again.
const SNAPSHOT: i64 = 15 * 60_000;
/// How old a complete listing must be, in milliseconds, before a look that did not see everything makes another one.
const FORCED: i64 = 5 * 60_000;
/// How many outcomes are written at once, and how long they wait for each other.
const BATCH: usize = 1024;
const BATCH_TIME: Duration = Duration::from_millis(400);
/// After so many readings of a source in a row that have failed, its next ones would fail, too.
const HOPELESS: u64 = 1000;
/// How often a signal is looked for.
const TICK: Duration = Duration::from_millis(150);

/// A source that is open.
pub(crate) struct Source {
    pub(crate) id: i64,
    /// As the table `source` has it.
    pub(crate) uri: String,
    pub(crate) remote: Remote,
}

/// What an update is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// List what is new, and read it.
    pub(crate) is_fresh: bool,
    /// How old the last complete listing may be before everything is listed again.
    pub(crate) listing_age: Duration,
    /// Begin with the snapshot, if the database knows nothing of a source.
    pub(crate) reads_snapshot: bool,
    /// Write the snapshot, if it is due.
    pub(crate) writes_snapshot: bool,
    /// How long to read logs whole before the update ends. The next one goes on. Without a limit, until all are read.
    pub(crate) reads_whole: Option<Duration>,
}

/// What an update does at a moment.
#[derive(Clone, Debug)]
pub(crate) enum Progress {
    Snapshot,
    /// So many event logs are known from the snapshot by now. It was written then, in milliseconds since 1970.
    SnapshotRows {
        rows: u64,
        written: i64,
    },
    Listing {
        found: u64,
    },
    Reading {
        read: u64,
        of: u64,
        since: Instant,
    },
    ReadingWhole {
        read: u64,
        of: u64,
    },
}

/// What an update came to.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) changes: Changes,
    /// How many logs were read, without those that could not be read.
    read: u64,
    /// The position of each source that could not be listed, and why.
    pub(crate) unlisted: Vec<(usize, S3Error)>,
    /// Whether the first source, below which the snapshot lies, could not be listed.
    is_first_unlisted: bool,
    /// The ids of sources whose event logs cannot be read, because S3 does not answer as it should.
    silent: BTreeSet<i64>,
    /// Why sources could not be reached, listed or read, for people.
    pub(crate) faults: Vec<Fault>,
    /// When the snapshot that this database began with was written.
    pub(crate) snapshot_from: Option<i64>,
    /// Why the snapshot was not read or written.
    pub(crate) snapshot_error: Option<S3Error>,
    pub(crate) sent: Sent,
    /// Whether a signal ended it early.
    pub(crate) is_interrupted: bool,
}

/// The readings of a source that have failed since the last one that has not.
#[derive(Default)]
struct Failures {
    in_a_row: u64,
    /// Those of them that would have failed whatever the object was.
    silent: u64,
}

impl Failures {
    fn take(&mut self, result: &ReadResult) {
        match result {
            ReadResult::Silent(_) => (self.in_a_row, self.silent) = (self.in_a_row + 1, self.silent + 1),
            ReadResult::Failed(_) => self.in_a_row += 1,
            _ => *self = Self::default(),
        }
    }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// An update of some sources.
pub(crate) struct Update<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) sources: &'a [Source],
    pub(crate) requests: &'a Arc<Requests>,
    pub(crate) tell: &'a mut dyn FnMut(Progress),
}

impl Update<'_> {
    pub(crate) async fn run(mut self, wanted: Wanted) -> Result<Summary> {
        let mut summary = Summary::default();
        if wanted.reads_snapshot {
            self.begin_with_snapshot(&mut summary).await?;
        }
        for position in 0..self.sources.len() {
            if wanted.is_fresh && !summary.is_interrupted {
                self.list(position, wanted.listing_age, &mut summary).await?;
            }
        }
        for state in [State::Unread, State::EndUnread] {
            if wanted.is_fresh && !summary.is_interrupted {
                let limit = wanted.reads_whole.filter(|_| state == State::EndUnread);
                self.read(state, limit, &mut summary).await?;
            }
        }
        if wanted.writes_snapshot && !summary.is_interrupted {
            self.write_snapshot(&mut summary).await?;
        }
        summary.sent = self.requests.sent();
        Ok(summary)
    }

    fn pairs(&self) -> Vec<(i64, String)> {
        self.sources.iter().map(|source| (source.id, source.uri.clone())).collect()
    }

    /// A database that knows nothing of a source begins with what other nodes have read.
    async fn begin_with_snapshot(&mut self, summary: &mut Summary) -> Result<()> {
        let mut is_new = false;
        for source in self.sources {
            is_new |= self.store.listed(source.id)?.0.is_none();
        }
        let Some(first) = self.sources.first().filter(|_| is_new) else { return Ok(()) };
        (self.tell)(Progress::Snapshot);
        let pairs = self.pairs();
        let tell = &mut *self.tell;
        let mut tell_rows = |rows, written| tell(Progress::SnapshotRows { rows, written });
        match snapshot::load(self.store, &first.remote, &pairs, &mut tell_rows).await {
            Ok((loaded, _)) => {
                summary.snapshot_from = loaded.filter(|loaded| loaded.rows > 0).map(|loaded| loaded.written)
            }
            Err(LoadError::S3(error)) => summary.snapshot_error = Some(error),
            Err(LoadError::Store(error)) => return Err(error),
        }
        Ok(())
    }

    async fn list(&mut self, position: usize, age: Duration, summary: &mut Summary) -> Result<()> {
        let source = &self.sources[position];
        let began = now();
        let (listed, _) = self.store.listed(source.id)?;
        // A clock that was set back must not keep a listing young for ever.
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let is_full = listed.is_none_or(|listed| !(0..age).contains(&(began - listed)));
        let tell = &mut *self.tell;
        let mut found = 0;
        let mut stop = |changes: &Changes| {
            if changes.new != found {
                found = changes.new;
                tell(Progress::Listing { found });
            }
            signals::stop_requested()
        };
        let mut listing = Listing {
            store: self.store,
            remote: &source.remote,
            source: source.id,
            began,
            stop: &mut stop,
            changes: Changes::default(),
        };
        let mut outcome = Ok(None);
        let mut look = Look::Done;
        if !is_full {
            match listing.look().await {
                Ok(looked) => look = looked,
                Err(error) => outcome = Err(error),
            }
        }
        let is_forced = listed.is_none_or(|listed| !(0..FORCED).contains(&(began - listed)));
        let is_full = is_full || look == Look::NoPlace || look == Look::TooMuch && is_forced;
        if is_full {
            outcome = listing.all().await;
        }
        summary.changes += listing.changes;
        match outcome {
            Ok(Some(foreign)) => self.store.note_listing(source.id, began, &foreign)?,
            Ok(None) if is_full => summary.is_interrupted = true,
            Ok(None) => self.store.note_look(source.id, began)?,
            Err(ListingError::S3(error)) => {
                summary.is_first_unlisted |= position == 0;
                summary.unlisted.push((position, error));
            }
            Err(ListingError::Odd(what)) => {
                summary.is_first_unlisted |= position == 0;
                summary.faults.push(
                    Fault::failed(format!("{} cannot be listed: {what}", source.uri))
                        .detail("the index keeps what it knows of these event logs")
                        .hint(
                            "the store does not answer as S3 does: check --endpoint-url, and the version of the store",
                        ),
                );
            }
            Err(ListingError::Store(error)) => return Err(error),
        }
        summary.is_interrupted |= signals::stop_requested();
        Ok(())
    }

    /// Reads the event logs that are in this state. After `limit` it begins no other one. A source whose event logs fail again and
    /// again is left out: the others are read all the same.
    async fn read(&mut self, state: State, limit: Option<Duration>, summary: &mut Summary) -> Result<()> {
        let ids = self.sources.iter().map(|source| source.id).filter(|id| !summary.silent.contains(id));
        let ids: Vec<i64> = ids.collect();
        let mut of = 0;
        for id in &ids {
            of += self.store.waiting(*id, state)?;
        }
        let mut reader = Reader::new(self.sources.iter().map(|source| (source.id, source.remote.clone())));
        let mut queue = Queue::new(state, ids, now());
        let mut failures: HashMap<i64, Failures> = HashMap::new();
        let mut outcomes: Vec<Outcome> = Vec::new();
        let mut written = Instant::now();
        let since = Instant::now();
        let mut read = 0;
        loop {
            if limit.is_some_and(|limit| since.elapsed() >= limit) {
                // Those that are being read come to their end.
                queue.end();
            }
            while reader.has_room(state)
                && let Some(log) = queue.next(self.store)?
            {
                reader.begin(log);
            }
            let next = tokio::time::timeout(TICK, reader.next()).await;
            match next {
                Ok(Some(outcome)) => {
                    read += 1;
                    summary.read += u64::from(outcome.failure().is_none());
                    let of_source = failures.entry(outcome.source).or_default();
                    of_source.take(&outcome.result);
                    if of_source.in_a_row == HOPELESS {
                        queue.leave_out(outcome.source);
                        self.note_hopeless(outcome.source, of_source, outcome.failure(), summary);
                    }
                    outcomes.push(outcome);
                }
                Ok(None) if queue.is_at_end() => break,
                Ok(None) | Err(_) => {}
            }
            if outcomes.len() >= BATCH || written.elapsed() > BATCH_TIME && !outcomes.is_empty() {
                self.store.take_outcomes(&mut outcomes, now())?;
                outcomes.clear();
                written = Instant::now();
                (self.tell)(match state {
                    State::EndUnread => Progress::ReadingWhole { read, of },
                    _ => Progress::Reading { read, of, since },
                });
            }
            if signals::stop_requested() {
                summary.is_interrupted = true;
                break;
            }
        }
        self.store.take_outcomes(&mut outcomes, now())
    }

    /// Notes that too many event logs of a source in a row could not be read.
    fn note_hopeless(&self, source: i64, failures: &Failures, last: Option<&str>, summary: &mut Summary) {
        if failures.silent * 2 > failures.in_a_row {
            summary.silent.insert(source);
        }
        let uri = self.sources.iter().find(|known| known.id == source).map_or("", |source| source.uri.as_str());
        summary.faults.push(
            Fault::failed(format!(
                "the last {HOPELESS} event logs of {uri} could not be read, so emr-shs stopped reading there"
            ))
            .detail(last.unwrap_or_default())
            .detail("the index keeps what it has; the next run begins with the event logs that were never tried")
            .hint("to see what cannot be read: emr-shs index status, with the options of this command"),
        );
    }

    /// Shares what was read with other nodes, every quarter of an hour at most.
    async fn write_snapshot(&mut self, summary: &mut Summary) -> Result<()> {
        const WRITTEN: &str = "snapshot_written";
        /// When this database last tried to write it.
        const TRIED: &str = "snapshot_tried";
        /// Whether this database knows what the snapshot does not, because the snapshot was not due.
        const BEHIND: &str = "snapshot_is_behind";
        let Some(first) = self.sources.first() else { return Ok(()) };
        // What concerns another source, or single event logs, is no reason to keep from other nodes what was read.
        let is_first_down = summary.is_first_unlisted || summary.silent.contains(&first.id);
        let last = self.store.fact(TRIED)?.and_then(|text| text.parse::<i64>().ok());
        let is_due = last.is_none_or(|last| !(0..SNAPSHOT).contains(&(now() - last)));
        let is_behind = self.store.fact(BEHIND)?.is_some();
        let has_news =
            summary.read > 0 || summary.changes.gone > 0 || last.is_none() && summary.snapshot_from.is_none();
        if has_news && !is_due && !is_behind {
            self.store.set_fact(BEHIND, "1")?;
        }
        if !is_due || !(has_news || is_behind) || is_first_down {
            return Ok(());
        }
        (self.tell)(Progress::Snapshot);
        let pairs = self.pairs();
        let written = snapshot::write(self.store, &first.remote, &pairs, now()).await?;
        // Reading and packing a large snapshot takes long: one that was not written is tried again when the next one is due.
        self.store.set_fact(TRIED, &now().to_string())?;
        match written {
            Written::Done => {
                self.store.set_fact(WRITTEN, &now().to_string())?;
                self.store.forget_fact(BEHIND)?;
            }
            Written::Outrun | Written::TooSlow => self.store.set_fact(BEHIND, "1")?,
            Written::Failed(error) => {
                self.store.set_fact(BEHIND, "1")?;
                summary.snapshot_error = Some(error);
            }
        }
        Ok(())
    }
}
