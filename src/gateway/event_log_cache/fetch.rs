//! One application on its way into the cache: what the index and S3 say of its logs, room, the bytes, the names, and the history
//! server's list.

use super::directory::{Disk, Staging};
use super::download::{Broken, ToFetch, blocking, directory, fetch, s3};
use super::failure::{Failure, Stage};
use super::room::Turn;
use super::stored::{Log, Stored, is_within, without_progress};
use super::{Entry, EventLogCache, Flight, Outcome, Progress, State, Use, asker};
use crate::aws::uri::EventLogs;
use crate::gateway::history_server::api::Listed;
use crate::gateway::shares::{Client, Share};
use crate::index::{ApplicationLog, application_logs};
use crate::shown::visible_line;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How often a log that changes while it is fetched is fetched again.
const TRIES: usize = 3;
/// How often an application that waits asks whether it has room.
const TURN: Duration = Duration::from_millis(250);
/// For how long nobody asks for an application that waits for room before it no longer waits. A browser reloads a page that nobody
/// looks at only once a minute.
const ABANDONED: Duration = Duration::from_secs(75);
/// How long a failure is told without another try, so that the page that reloads shows it.
const FAILURE_FRESH: Duration = Duration::from_secs(5);
/// How often the history server is asked whether it shows an application.
const POLL: Duration = Duration::from_millis(200);
/// How long it can list nothing new before it counts as unable to list an application. It reads its directory each second.
const LISTED: Duration = Duration::from_secs(20);
/// How many bytes of a log the history server reads in a second at least. It reads a packed log whole before it lists it.
const READ_IN_A_SECOND: u64 = 10 << 20;
/// How often the history server is asked how many applications it lists.
const COUNT: Duration = Duration::from_secs(2);
/// How long it can take until it no longer shows what has gone.
const NOTICED: Duration = Duration::from_secs(5);

/// What a request for an application comes to.
pub(super) enum Opened {
    Ready(Use),
    /// The index does not know it.
    Unknown,
    /// Not yet: how far it is.
    Waiting(Stage),
    Failed(Arc<Failure>),
    /// Too many wait.
    Busy,
}

/// How long the history server may still take to list an application. After a start it lists all that lies in the directory anew, one
/// after the other: as long as its list changes, it gets on.
struct Patience {
    /// When its list changed last, as far as is known.
    since: Instant,
    /// How many applications it lists.
    listed: Option<usize>,
    /// When it was asked for that last.
    counted: Option<Instant>,
    /// How long it can list nothing new.
    most: Duration,
}

impl Patience {
    fn new(logs: &[Log], now: Instant) -> Self {
        let bytes: u64 = logs.iter().map(Log::size).sum();
        Self { since: now, listed: None, counted: None, most: LISTED + Duration::from_secs(bytes / READ_IN_A_SECOND) }
    }

    fn lists(&mut self, count: usize, now: Instant) {
        if self.listed.replace(count) != Some(count) {
            self.since = now;
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= self.most
    }
}

impl EventLogCache {
    /// Waits until the history server shows the newest state of an application, `patience` at most.
    pub(super) async fn open(self: &Arc<Self>, client: Client, id: &str, patience: Duration) -> Opened {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(used) = self.ready(client, id) {
                return Opened::Ready(used);
            }
            let Some(mut flight) = self.join(client, id) else { return Opened::Busy };
            let outcome = loop {
                flight.lock().asked = Instant::now();
                let left = deadline.saturating_duration_since(Instant::now());
                let outcome = flight.outcome.wait_for(Option::is_some);
                let outcome = timeout(left.min(ABANDONED / 4), outcome).await.map(|seen| seen.map(|seen| seen.clone()));
                match outcome {
                    Ok(Ok(outcome)) => break outcome,
                    // Nobody seemed to wait for it.
                    Ok(Err(_)) => break None,
                    Err(_) if Instant::now() >= deadline => return Opened::Waiting(flight.lock().stage()),
                    Err(_) => {}
                }
            };
            match outcome {
                Some(Outcome::Ready) => {
                    let mut state = self.lock();
                    if state.entries.contains_key(id) {
                        return Opened::Ready(self.begin_use(&mut state, client, id, Instant::now()));
                    }
                }
                Some(Outcome::Unknown) => return Opened::Unknown,
                Some(Outcome::Failed(failure)) => return Opened::Failed(failure),
                None => {}
            }
            if Instant::now() >= deadline {
                return Opened::Waiting(Stage::Looking);
            }
        }
    }

    /// The flight for an application: there is one, whoever asks.
    fn join(self: &Arc<Self>, client: Client, id: &str) -> Option<Flight> {
        let mut state = self.lock();
        if let Some(flight) = state.flights.get(id) {
            return Some(flight.clone());
        }
        let share = self.fetches.take(client)?;
        let (sends, outcome) = watch::channel(None);
        let progress =
            Progress { is_waiting: false, all: None, is_fetched: false, done: Arc::default(), asked: Instant::now() };
        let flight = Flight { outcome, progress: Arc::new(Mutex::new(progress)) };
        state.flights.insert(id.into(), flight.clone());
        let (cache, id, taken) = (self.clone(), id.to_string(), flight.clone());
        tokio::spawn(async move { cache.fly(client, &id, &taken, &sends, share).await });
        Some(flight)
    }

    async fn fly(
        self: Arc<Self>,
        client: Client,
        id: &str,
        flight: &Flight,
        sends: &watch::Sender<Option<Outcome>>,
        share: Share,
    ) {
        let outcome = match self.look_and_fetch(client, id, flight).await {
            Ok(outcome) => Some(outcome),
            Err(Stopped::Abandoned) => None,
            Err(Stopped::Failed(failure)) => {
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                eprintln!("event log of {}: {}", visible_line(id), visible_line(&failure.in_a_line()));
                Some(Outcome::Failed(Arc::new(failure)))
            }
        };
        drop(share);
        let has_failed = matches!(outcome, Some(Outcome::Failed(_)));
        if !has_failed {
            self.lock().flights.remove(id);
        }
        if outcome.is_some() {
            sends.send_replace(outcome);
        }
        if has_failed {
            sleep(FAILURE_FRESH).await;
            self.lock().flights.remove(id);
        }
    }

    async fn look_and_fetch(&self, client: Client, id: &str, flight: &Flight) -> Result<Outcome, Stopped> {
        let mut changed = None;
        for _ in 0..TRIES {
            let before = self.lock().entries.get(id).map(|entry| entry.stored.clone()).unwrap_or_default();
            let logs = match self.look(id, &before).await {
                Ok(logs) => logs,
                // Its logs are here, as they were a moment ago.
                Err(_) if self.is_listed(id) => {
                    self.note_checked(id);
                    return Ok(Outcome::Ready);
                }
                Err(failure) => return Err(failure.into()),
            };
            if logs.is_empty() {
                self.evict(vec![id.to_string()]).await?;
                self.lock().room.remove(id);
                return Ok(Outcome::Unknown);
            }
            match self.bring(client, id, flight, before, logs).await {
                Ok(()) => return Ok(Outcome::Ready),
                Err(Stopping::Changed(uri)) => changed = Some(uri),
                Err(Stopping::Stopped(stopped)) => return Err(stopped),
            }
        }
        Err(Failure::Changing { uri: changed.unwrap_or_default() }.into())
    }

    /// The logs of an application as they are in S3 now; none if nobody knows the application.
    async fn look(&self, id: &str, before: &Stored) -> Result<Vec<Log>, Failure> {
        let (index, asked) = (self.index.clone(), id.to_string());
        let known =
            blocking(move || application_logs(&index, &asked).map_err(|error| Failure::Index(format!("{error:#}"))))
                .await?;
        let mut logs: Vec<Log> = Vec::new();
        for (known, place, attempt) in places(&known, before)? {
            // The index can be older than the sources, and so can the cache.
            if !is_within(&self.sources, &place) {
                continue;
            }
            let old = before.logs.iter().find(|log| log.place == place);
            let log = match (known, old) {
                (Some(known), Some(old)) if is_unchanged(known, old) => Some(old.clone()),
                _ => {
                    let bucket = self.bucket(&place.0);
                    let prefix = without_progress(&place.1);
                    let objects = bucket.event_log_objects(prefix).await;
                    Log::of_objects(attempt.as_deref(), place.clone(), &objects.map_err(|e| s3(&bucket, prefix, e))?)?
                }
            };
            // Only one of two logs of one name can lie in the directory: that of the later attempt.
            if let Some(log) = log {
                logs.retain(|other| other.name != log.name);
                logs.push(log);
            }
        }
        Ok(logs)
    }

    /// Brings an application from the state in the cache to that in S3.
    async fn bring(
        &self,
        client: Client,
        id: &str,
        flight: &Flight,
        before: Stored,
        logs: Vec<Log>,
    ) -> Result<(), Stopping> {
        let is_same = before.logs == logs;
        if is_same {
            if !self.is_listed(id) {
                self.wait_until_listed(id, &logs, flight).await?;
            }
            self.note_checked(id);
            return Ok(());
        }
        if logs.iter().any(|log| log.is_rolling) {
            self.check_rolling().await?;
        }
        let work: Vec<ToFetch<'_>> = logs
            .iter()
            .map(|log| ToFetch {
                bucket: self.bucket(&log.place.0),
                files: log.new_files(of(&before, log)).into_iter().map(|(name, _)| name.clone()).collect(),
                log,
            })
            .collect();
        let size = |work: &ToFetch<'_>| work.files.iter().map(|name| work.log.files[name].size).sum::<u64>();
        let bytes = work.iter().map(size).sum();
        let names: Vec<String> = logs.iter().map(|log| log.name.clone()).collect();
        self.wait_for_room(client, id, flight, bytes, &names).await?;
        // While it waited, what was here of it can have made room for others.
        if self.lock().entries.get(id).map_or(0, |entry| entry.stored.logs.len()) != before.logs.len() {
            self.lock().room.not_fetched(id);
            return Err(Stopping::Changed(logs.first().map(Log::uri).unwrap_or_default()));
        }
        let fetched = self.fetch(&work, flight).await;
        let put = match fetched {
            Ok(staging) => self.put(id, staging, &before, &logs).await.map_err(Broken::from),
            Err(broken) => Err(broken),
        };
        if let Err(broken) = put {
            self.lock().room.not_fetched(id);
            return Err(match broken {
                Broken::Changed => Stopping::Changed(work.first().map(|w| w.log.uri()).unwrap_or_default()),
                Broken::Failed(failure) => failure.into(),
            });
        }
        self.counters.fetches.fetch_add(1, Ordering::Relaxed);
        self.counters.fetched_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.wait_until_listed(id, &logs, flight).await?;
        self.note_checked(id);
        Ok(())
    }

    /// Waits until the cache has room, and makes it.
    async fn wait_for_room(
        &self,
        client: Client,
        id: &str,
        flight: &Flight,
        bytes: u64,
        names: &[String],
    ) -> Result<(), Stopping> {
        let ticket = self.lock().room.ask(id, asker(client), bytes, names.to_vec(), Instant::now());
        let turn = loop {
            match self.turn(ticket, flight, bytes) {
                Some(turn) => break turn,
                None => sleep(TURN).await,
            }
        };
        match turn {
            Ok(victims) => self.make_room(id, victims, names).await,
            Err(stopped) => {
                self.lock().room.give_up(ticket);
                if matches!(stopped, Stopped::Failed(_)) {
                    self.counters.refusals.fetch_add(1, Ordering::Relaxed);
                }
                Err(Stopping::Stopped(stopped))
            }
        }
    }

    /// What must go now for an application that waits for room; `None` if its turn has not come.
    fn turn(&self, ticket: u64, flight: &Flight, bytes: u64) -> Option<Result<Vec<String>, Stopped>> {
        let mut state = self.lock();
        let free = self.free(&state);
        let turn = state.room.turn(ticket, Instant::now(), free);
        // Under the same lock, so that the next one sees that these bytes of the disk are taken.
        let mut progress = flight.lock();
        Some(match turn {
            Turn::Go(victims) => {
                (progress.is_waiting, progress.all) = (false, Some(bytes));
                (progress.done, progress.is_fetched) = (Arc::default(), false);
                Ok(victims)
            }
            Turn::Wait if progress.asked.elapsed() >= ABANDONED => Err(Stopped::Abandoned),
            Turn::Wait => {
                progress.is_waiting = true;
                return None;
            }
            Turn::TooLarge(limit) => Err(Failure::TooLarge { bytes, limit }.into()),
            Turn::NoDisk(free) => {
                let kept = self.directory.disk().map_or(0, Disk::kept);
                Err(Failure::NoDisk { bytes, free, kept }.into())
            }
        })
    }

    async fn make_room(&self, id: &str, victims: Vec<String>, names: &[String]) -> Result<(), Stopping> {
        let of_same_name: Vec<(String, Vec<Log>)> = {
            let state = self.lock();
            let logs = |id: &String| Some((id.clone(), state.entries.get(id)?.stored.logs.clone()));
            let has_name = |(_, logs): &(String, Vec<Log>)| logs.iter().any(|log| names.contains(&log.name));
            victims.iter().filter_map(logs).filter(has_name).collect()
        };
        if let Err(failure) = self.evict(victims).await {
            self.lock().room.not_fetched(id);
            return Err(failure.into());
        }
        // Else the history server could take the new log for the old one that has grown.
        for (id, logs) in of_same_name {
            self.wait_until_gone(&id, &logs).await;
        }
        Ok(())
    }

    async fn fetch(&self, work: &[ToFetch<'_>], flight: &Flight) -> Result<Arc<Staging>, Broken> {
        let cache = self.directory.clone();
        let staging = blocking(move || cache.staging().map_err(|e| directory(&e))).await?;
        let (staging, done) = (Arc::new(staging), flight.lock().done.clone());
        let bytes = flight.lock().all.unwrap_or(0);
        let has_room = || match self.directory.disk() {
            // Somebody else has filled the disk meanwhile.
            Some(disk) if disk.free < disk.kept() / 10 * 9 => {
                Err(Failure::NoDisk { bytes, free: 0, kept: disk.kept() })
            }
            _ => Ok(()),
        };
        let fetched = fetch(work, &staging, &done, has_room).await;
        flight.lock().is_fetched = true;
        fetched.map(|()| staging)
    }

    /// Gives what was fetched its names. The history server must first forget what has changed: else it shows what it has kept on
    /// its disk of the log as it was, however the log has grown.
    async fn put(&self, id: &str, staging: Arc<Staging>, before: &Stored, logs: &[Log]) -> Result<(), Failure> {
        let changed: Vec<Log> = logs.iter().filter(|log| of(before, log) != Some(*log)).cloned().collect();
        let is_gone = |old: &&Log| !logs.iter().any(|log| log.is_same_log(old));
        let gone: Vec<String> = before.logs.iter().filter(is_gone).map(|old| old.name.clone()).collect();
        let aside: Vec<Log> = changed.iter().filter_map(|log| of(before, log).cloned()).collect();
        self.take_up(id, &aside).await;
        let (cache, new) = (self.directory.clone(), staging.clone());
        blocking(move || {
            gone.iter().try_for_each(|name| cache.hide(name)).map_err(|error| directory(&error))?;
            aside.iter().try_for_each(|old| cache.set_aside(&new, old)).map_err(|error| directory(&error))
        })
        .await?;
        self.wait_until_gone(id, &changed).await;
        let (cache, before) = (self.directory.clone(), before.clone());
        let put = blocking(move || {
            let put = changed.iter().try_for_each(|log| cache.put(&staging, log, of(&before, log)));
            put.map_err(|error| directory(&error))
        });
        if let Err(failure) = put.await {
            // Nobody knows what is there now.
            self.evict(vec![id.to_string()]).await?;
            return Err(failure);
        }
        let used = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        {
            let mut state = self.lock();
            state.room.fetched(id, logs.iter().map(Log::size).sum(), logs.iter().map(|log| log.name.clone()).collect());
            let stored = Stored { logs: logs.to_vec(), used };
            state.entries.insert(id.into(), Entry { stored, checked: None, is_listed: false });
        }
        self.save().await;
        Ok(())
    }

    /// Takes applications out of the cache.
    pub(super) async fn evict(&self, ids: Vec<String>) -> Result<(), Failure> {
        let mut removed = Vec::new();
        {
            let mut state = self.lock();
            for id in &ids {
                if let Some(entry) = state.entries.remove(id) {
                    removed.push((id, entry.stored.logs));
                    self.counters.evictions.fetch_add(1, Ordering::Relaxed);
                }
                // One that is being fetched keeps its room.
                if !state.flights.contains_key(id) {
                    state.room.remove(id);
                }
            }
        }
        if removed.is_empty() {
            return Ok(());
        }
        for (id, logs) in &removed {
            self.take_up(id, logs).await;
        }
        let names: Vec<String> = removed.into_iter().flat_map(|(_, logs)| logs).map(|log| log.name).collect();
        let cache = self.directory.clone();
        blocking(move || names.iter().try_for_each(|name| cache.hide(name)).map_err(|e| directory(&e))).await?;
        self.save().await;
        Ok(())
    }

    /// Makes the history server delete what it has on its disk of unfinished logs, once it misses them. Of finished logs it stays true.
    async fn take_up(&self, id: &str, logs: &[Log]) {
        for log in logs.iter().filter(|log| log.is_open()) {
            self.history_server.take_up(id, log.attempt.as_deref()).await;
        }
    }

    /// Writes which applications the directory has. Without it, the next start fetches some again.
    pub(super) async fn save(&self) {
        let (cache, stored) = (self.directory.clone(), self.stored());
        let saved = blocking(move || cache.save(&stored).map_err(|e| directory(&e))).await;
        if let Err(failure) = saved {
            eprintln!("warning: {}", visible_line(&failure.in_a_line()));
        }
    }

    /// Spark reads rolling logs from version 3.0 on.
    async fn check_rolling(&self) -> Result<(), Failure> {
        match self.history_server.spark_version().await {
            Some(spark) if spark.starts_with("2.") => Err(Failure::Rolling { spark }),
            _ => Ok(()),
        }
    }

    /// Waits until the history server shows all attempts of an application.
    async fn wait_until_listed(&self, id: &str, logs: &[Log], flight: &Flight) -> Result<(), Failure> {
        let mut patience = Patience::new(logs, Instant::now());
        flight.lock().is_fetched = true;
        loop {
            let is_listed = match self.history_server.listed(id).await {
                // Whoever asks is told so.
                Listed::Unknown => return Ok(()),
                listed => has_all(&listed, logs),
            };
            if is_listed {
                if let Some(entry) = self.lock().entries.get_mut(id) {
                    entry.is_listed = true;
                }
                return Ok(());
            }
            if self.is_over(&mut patience).await {
                return Err(Failure::NotListed { names: logs.iter().map(|log| log.name.clone()).collect() });
            }
            sleep(POLL).await;
        }
    }

    /// Waits until the history server, which has just denied something of an application in the cache, lists the application.
    pub(super) async fn wait_until_listed_again(&self, id: &str) {
        let mut patience: Option<Patience> = None;
        loop {
            let Some(logs) = self.lock().entries.get(id).map(|entry| entry.stored.logs.clone()) else { return };
            let patience = patience.get_or_insert_with(|| Patience::new(&logs, Instant::now()));
            if self.is_over(patience).await {
                break;
            }
            match self.history_server.listed(id).await {
                Listed::Unknown => return,
                listed if has_all(&listed, &logs) => return,
                _ => sleep(POLL).await,
            }
        }
        // The next request waits, and then tells which event logs the history server does not show.
        if let Some(entry) = self.lock().entries.get_mut(id) {
            entry.is_listed = false;
        }
    }

    /// Whether the history server has had the time to list an application, and has not.
    async fn is_over(&self, patience: &mut Patience) -> bool {
        if patience.counted.is_none_or(|counted| counted.elapsed() >= COUNT) {
            patience.counted = Some(Instant::now());
            if let Some(count) = self.history_server.count().await {
                patience.lists(count, Instant::now());
            }
        }
        patience.is_over(Instant::now())
    }

    /// Waits until the history server shows none of these attempts of an application.
    async fn wait_until_gone(&self, id: &str, logs: &[Log]) {
        let begun = Instant::now();
        while begun.elapsed() < NOTICED {
            match self.history_server.listed(id).await {
                Listed::Attempts(attempts) if logs.iter().any(|log| attempts.contains(&log.attempt)) => {}
                _ => return,
            }
            sleep(POLL).await;
        }
    }

    fn is_listed(&self, id: &str) -> bool {
        self.lock().entries.get(id).is_some_and(|entry| entry.is_listed)
    }

    fn note_checked(&self, id: &str) {
        if let Some(entry) = self.lock().entries.get_mut(id) {
            entry.checked = Some(Instant::now());
        }
    }

    /// What the directory has, with the time of each last use.
    pub(super) fn stored(&self) -> std::collections::BTreeMap<String, Stored> {
        let mut state = self.lock();
        let State { room, entries, is_unsaved, .. } = &mut *state;
        *is_unsaved = false;
        let (now, system) = (Instant::now(), SystemTime::now());
        for (id, used) in room.uses() {
            if let Some(entry) = entries.get_mut(id) {
                let at = system.checked_sub(now.saturating_duration_since(used)).unwrap_or(system);
                entry.stored.used = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            }
        }
        entries.iter().map(|(id, entry)| (id.clone(), entry.stored.clone())).collect()
    }
}

/// Why an application is not brought into the cache now.
enum Stopping {
    /// An object has changed while it was fetched.
    Changed(String),
    Stopped(Stopped),
}

enum Stopped {
    /// Nobody asks for it any more.
    Abandoned,
    Failed(Failure),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Failure> for Stopping {
    fn from(failure: Failure) -> Self {
        Self::Stopped(failure.into())
    }
}

impl Flight {
    fn lock(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    pub(super) fn stage(&self) -> Stage {
        match self.all {
            _ if self.is_fetched => Stage::Listing,
            Some(all) => Stage::Fetching { done: self.done.load(Ordering::Relaxed), all },
            None if self.is_waiting => Stage::Waiting,
            None => Stage::Looking,
        }
    }
}

/// Whether the history server shows the attempts of all these logs.
fn has_all(listed: &Listed, logs: &[Log]) -> bool {
    matches!(listed, Listed::Attempts(attempts) if logs.iter().all(|log| attempts.contains(&log.attempt)))
}

/// The state of a log in the cache.
fn of<'a>(stored: &'a Stored, log: &Log) -> Option<&'a Log> {
    stored.logs.iter().find(|old| old.is_same_log(log))
}

type Place<'a> = (Option<&'a ApplicationLog>, (String, String), Option<String>);

/// Where the logs of an application lie. What the index does not know at this moment can be there all the same: it is built anew
/// where it was damaged.
fn places<'a>(known: &'a [ApplicationLog], before: &Stored) -> Result<Vec<Place<'a>>, Failure> {
    if known.is_empty() {
        let place = |log: &Log| (None, log.place.clone(), log.attempt.clone());
        return Ok(before.logs.iter().map(place).collect());
    }
    let place = |log: &'a ApplicationLog| {
        let source: EventLogs = log.source.parse().map_err(|error| Failure::Index(format!("{error}")))?;
        super::names::check_name(log.name())?;
        Ok((Some(log), (source.bucket, format!("{}{}", source.prefix, log.key)), log.attempt.clone()))
    };
    known.iter().map(place).collect()
}

/// Whether the index tells the state in the cache, and Spark has finished the log.
fn is_unchanged(known: &ApplicationLog, old: &Log) -> bool {
    known.is_closed
        && !old.is_open()
        && known.modified <= old.modified()
        && (known.is_rolling() || known.size == old.size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_server_that_gets_on_is_waited_for() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut patience = Patience::new(&[], begun);
        for (seconds, count) in [(10, 0), (25, 1), (44, 2), (60, 2)] {
            patience.lists(count, after(seconds));
            assert!(!patience.is_over(after(seconds)), "{seconds}");
        }
        // It lists nothing new since the 44th second.
        assert!(!patience.is_over(after(63)) && patience.is_over(after(64)));
        // It has restarted.
        patience.lists(0, after(65));
        assert!(!patience.is_over(after(84)) && patience.is_over(after(85)));
    }
}
