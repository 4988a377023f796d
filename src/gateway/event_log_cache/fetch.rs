//! One application on its way into the cache: what the index and S3 say of its logs, room, the bytes, the names, and at last the
//! history server's list (`listed`).

use super::directory::{Disk, Staging};
use super::download::{Broken, ToFetch, blocking, directory, fetch, s3};
use super::failure::Failure;
use super::flight::{Flight, Outcome};
use super::room::Turn;
use super::stored::{Log, Stored, is_within, without_progress};
use super::{Entry, EventLogCache, State, asker};
use crate::aws::uri::EventLogs;
use crate::gateway::shares::Client;
use crate::index::{ApplicationLog, application_logs};
use crate::shown::visible_line;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};
use tokio::time::sleep;

/// How often a log that changes while it is fetched is fetched again.
const TRIES: usize = 3;
/// How often an application that waits asks whether it has room.
const TURN: Duration = Duration::from_millis(250);

impl EventLogCache {
    /// Brings an application into the cache as it is in S3 now, or takes it out.
    pub(super) async fn look_and_fetch(&self, client: Client, id: &str, flight: &Flight) -> Result<Outcome, Stopped> {
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
        if before.logs == logs {
            if !self.is_listed(id) {
                if !self.has(&logs).await? {
                    // Somebody has taken away what was here.
                    return self.begin_anew(id, &before, &logs).await;
                }
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
        let bytes: u64 = work.iter().map(size).sum();
        let here: u64 = before.logs.iter().map(Log::size).sum();
        let limit = self.lock().room.limits().bytes;
        if here > 0 && bytes <= limit && here.saturating_add(bytes) > limit {
            // What is here and what comes have no room beside each other.
            return self.begin_anew(id, &before, &logs).await;
        }
        let names: Vec<String> = logs.iter().map(|log| log.name.clone()).collect();
        self.wait_for_room(client, id, flight, bytes, &names).await?;
        // While it waited, what was here of it can have made room for others.
        if self.lock().entries.get(id).map_or(0, |entry| entry.stored.logs.len()) != before.logs.len() {
            self.lock().room.not_fetched(id);
            return Err(Stopping::Changed(logs.first().map(Log::uri).unwrap_or_default()));
        }
        // Another task may still be removing a log of the same name. Wait for it: else it would remove the log that is put there now.
        while self.lock().leaving.iter().any(|name| names.contains(name)) {
            sleep(TURN).await;
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

    /// Takes an application out of the cache, so that the next try fetches all of it.
    async fn begin_anew(&self, id: &str, before: &Stored, logs: &[Log]) -> Result<(), Stopping> {
        self.evict(vec![id.to_string()]).await?;
        self.lock().room.remove(id);
        // Else the history server could take the log that comes for the old one that has grown.
        self.wait_until_gone(id, &before.logs, before.logs.iter().any(Log::is_open)).await;
        Err(Stopping::Changed(logs.first().map(Log::uri).unwrap_or_default()))
    }

    /// Whether logs lie in the directory as they were fetched.
    pub(super) async fn has(&self, logs: &[Log]) -> Result<bool, Failure> {
        let (cache, logs) = (self.directory.clone(), logs.to_vec());
        blocking(move || Ok(logs.iter().all(|log| cache.has(log)))).await
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
            Turn::Wait if progress.is_abandoned() => Err(Stopped::Abandoned),
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
            self.wait_until_gone(&id, &logs, logs.iter().any(Log::is_open)).await;
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
        let gone: Vec<Log> = before.logs.iter().filter(is_gone).cloned().collect();
        let aside: Vec<Log> = changed.iter().filter_map(|log| of(before, log).cloned()).collect();
        // A log can come in place of one of another source that goes.
        let old: Vec<Log> = gone.iter().chain(&aside).cloned().collect();
        self.take_up(id, &old).await;
        let were_open = old.iter().any(Log::is_open);
        let (cache, new) = (self.directory.clone(), staging.clone());
        let taken = blocking(move || {
            gone.iter().try_for_each(|old| cache.hide(&old.name)).map_err(|error| directory(&error))?;
            aside.iter().try_for_each(|old| cache.set_aside(&new, old)).map_err(|error| directory(&error))
        });
        if let Err(failure) = taken.await {
            // Some of it can be set aside, and the directory that it is in is deleted.
            self.evict(vec![id.to_string()]).await?;
            return Err(failure);
        }
        self.wait_until_gone(id, &changed, were_open).await;
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
                    state.leaving.extend(entry.stored.logs.iter().map(|log| log.name.clone()));
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
        let (cache, leaving) = (self.directory.clone(), names.clone());
        let hidden =
            blocking(move || leaving.iter().try_for_each(|name| cache.hide(name)).map_err(|e| directory(&e))).await;
        self.lock().leaving.retain(|name| !names.contains(name));
        hidden?;
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
        // One at a time: all write the same file, and the newest list must be the last.
        let _turn = self.saving.lock().await;
        let (cache, stored) = (self.directory.clone(), self.stored());
        let saved = blocking(move || cache.save(&stored).map_err(|e| directory(&e))).await;
        if let Err(failure) = saved {
            self.lock().is_unsaved = true;
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

/// Why nothing is brought for those who ask.
pub(super) enum Stopped {
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
