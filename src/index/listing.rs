//! Which logs a source has: a complete listing, or a look at where new ones appear.

use super::layout::{Found, Jump, Logs, Object, jump};
use super::logs::{Changes, Keys, behind};
use super::remote::{ListingError, Remote};
use super::store::Store;
use crate::ids::is_id;
use crate::node::event_logs::ROLLING;
use anyhow::Result;
use std::collections::BTreeSet;
use tokio::task::JoinSet;

/// How many job runs of EMR Serverless are listed at a time.
const RUNS: usize = 16;
/// How many logs and parts of logs of a run are kept in memory. Nearly all runs have fewer; one that has more is listed alone, page
/// by page.
const KEPT: usize = 1000;
/// A run whose logs are closed can be tried again. After so many hours nobody does.
const RETRIES: i64 = 6;
/// How many pages in a row may be empty.
const EMPTY_PAGES: u32 = 100;
/// How many directories that are not known a look lists.
const NEW_DIRECTORIES: usize = 8;

/// A listing of one source.
pub(crate) struct Listing<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) remote: &'a Remote,
    pub(crate) source: i64,
    /// When it began, in milliseconds since 1970.
    pub(crate) began: i64,
    /// Told after each page. Whether to stop there.
    pub(crate) stop: &'a mut dyn FnMut(&Changes) -> bool,
    pub(crate) changes: Changes,
}

/// What a look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Done,
    /// A place had more pages than a look reads.
    TooMuch,
    /// No log tells where the first one will appear, and listing everything costs no more than a look.
    NoPlace,
}

/// Whether a listing came to its end.
pub(crate) type Ended = Result<bool, ListingError>;

impl Listing<'_> {
    /// Lists everything. Logs that are gone leave the database as far as the listing came.
    pub(crate) async fn all(&mut self) -> Result<Option<(u64, Option<String>)>, ListingError> {
        let mut logs = Logs::default();
        match self.below("", None, &mut logs, None).await? {
            true => Ok(Some(logs.foreign)),
            false => Ok(None),
        }
    }

    /// Lists everything in a directory, or all that lies behind a key, or the first pages. With a limit, a log that is not found stays.
    async fn below(
        &mut self,
        directory: &str,
        mut after: Option<String>,
        logs: &mut Logs,
        pages: Option<usize>,
    ) -> Ended {
        let mut from = after.as_ref().map_or_else(|| directory.to_string(), |after| format!("{after}\0"));
        let mut next: Option<String> = None;
        let (mut is_sorted, mut empty) = (true, 0);
        for _ in 0..pages.unwrap_or(usize::MAX) {
            let page = self.remote.page(directory, after.as_deref(), true, next.take()).await?;
            let mut found = Vec::new();
            let (mut last, mut jumps): (Option<String>, _) = (None, None);
            for object in page.objects {
                // S3 sorts by the bytes of the keys. Where a store does not, what was not found can be there all the same.
                is_sorted &= last.as_ref().is_none_or(|last| *last < object.key);
                // Whoever lists a job run must not jump to the run.
                let is_within = |jump: &Jump| !matches!(jump, Jump::Runs { jobs, .. } if jobs.len() < directory.len());
                jumps = jump(&object.key).filter(is_within);
                if jumps.is_some() {
                    break;
                }
                last = Some(object.key.clone());
                found.extend(logs.push(object));
            }
            empty = if last.is_none() && jumps.is_none() { empty + 1 } else { 0 };
            if empty > EMPTY_PAGES {
                return Err(ListingError::Odd("one page of the listing after the other is empty"));
            }
            let is_last = jumps.is_none() && page.next.is_none();
            if is_last || jumps.is_some() {
                found.extend(logs.finish());
            }
            let before = match (&jumps, logs.directory()) {
                (Some(Jump::Over(over)), _) => behind(over),
                (Some(Jump::Runs { jobs, .. }), _) => Some(jobs.clone()),
                (None, _) if is_last => behind(directory),
                // The log of this directory comes with the next page.
                (None, Some(pending)) => Some(pending.to_string()),
                (None, None) => Some(last.map_or_else(|| from.clone(), |last| format!("{last}\0"))),
            };
            if let Some(Jump::Runs { jobs, .. }) = &jumps {
                // The listing of that directory finds these again.
                found.retain(|log| log.key < *jobs);
            }
            let keys = Keys { from: from.clone(), before: before.clone() };
            self.changes += self.store.take_listing(self.source, &keys, &found, pages.is_none() && is_sorted)?;
            if (self.stop)(&self.changes) {
                return Ok(false);
            }
            match jumps {
                Some(Jump::Over(over)) => after = behind(&over),
                Some(Jump::Runs { jobs, .. }) => {
                    if !Box::pin(self.runs(&jobs, false)).await? {
                        return Ok(false);
                    }
                    after = behind(&jobs);
                    from = behind(&jobs).unwrap_or_default();
                    continue;
                }
                None if is_last => return Ok(true),
                None => next = page.next,
            }
            from = before.unwrap_or_default();
        }
        // The directory at the end may have more objects.
        logs.abandon();
        Ok(true)
    }

    /// Looks at the job runs of all applications of EMR Serverless in a directory `applications/`.
    async fn look_at_applications(&mut self, directory: &str) -> Ended {
        for application in self.directories(directory).await? {
            if is_id(name_in(directory, &application)) && !self.runs(&format!("{application}jobs/"), true).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Lists the names of all job runs in a directory `jobs/` of EMR Serverless, and the event logs of each run that is new or
    /// unfinished. A complete listing lists those, too, that have ended less than [`RETRIES`] hours before the newest log, lists
    /// directories that are no job runs, and finds out which runs are gone.
    async fn runs(&mut self, jobs: &str, is_look: bool) -> Ended {
        let hours = if is_look { 0 } else { RETRIES };
        let directories = self.directories(jobs).await?;
        let is_run = |directory: &&String| is_id(name_in(jobs, directory));
        let mut to_list: Vec<&String> = Vec::new();
        for run in directories.iter().rev().filter(is_run) {
            if !self.store.is_over(self.source, run, hours)? && self.store.is_due(self.source, run, self.began)? {
                to_list.push(run);
            }
        }
        let mut listed = std::collections::BTreeMap::new();
        while !to_list.is_empty() {
            let batch = to_list.split_off(to_list.len().saturating_sub(RUNS * 8));
            listed.extend(list_runs(self.remote, &batch).await?);
            // What lies between two runs is gone.
            for run in batch.into_iter().rev() {
                let Some(found) = listed.remove(run) else { continue };
                let before = self.changes;
                match found {
                    RunLogs::All(found) => {
                        let keys = if is_look { Keys::behind(&before_logs(run), run) } else { Keys::below(run) };
                        self.changes += self.store.take_listing(self.source, &keys, &found, true)?;
                    }
                    RunLogs::TooMany => {
                        let logs = &mut Logs::default();
                        if !Box::pin(self.below(run, Some(before_logs(run)), logs, None)).await? {
                            return Ok(false);
                        }
                    }
                }
                self.store.note_run(self.source, run, self.began, self.changes != before)?;
            }
            if (self.stop)(&self.changes) {
                return Ok(false);
            }
        }
        if is_look {
            return Ok(true);
        }
        let mut last = jobs.to_string();
        for directory in &directories {
            self.forget(Keys { from: last, before: Some(directory.clone()) })?;
            last = behind(directory).unwrap_or_default();
            if !is_run(&directory) && !Box::pin(self.below(directory, None, &mut Logs::default(), None)).await? {
                return Ok(false);
            }
        }
        self.forget(Keys { from: last, before: behind(jobs) })?;
        Ok(true)
    }

    /// Between these keys there is nothing any more.
    fn forget(&mut self, keys: Keys) -> Result<()> {
        self.changes += self.store.take_listing(self.source, &keys, &[], true)?;
        self.store.forget_runs(self.source, &keys)
    }

    async fn directories(&self, directory: &str) -> Result<Vec<String>, ListingError> {
        let (mut found, mut next) = (Vec::new(), None);
        loop {
            let page = self.remote.page(directory, None, false, next).await?;
            found.extend(page.directories);
            match page.next {
                Some(token) => next = Some(token),
                None => return Ok(found),
            }
        }
    }

    /// Looks where new logs appear, and at recent logs that were not closed. Logs that are gone stay until the next complete
    /// listing.
    pub(crate) async fn look(&mut self) -> Result<Look, ListingError> {
        let recent = self.store.recent(self.source)?;
        if recent.is_empty() {
            let is_large = self.store.foreign(self.source)?.0 > NOT_MANY;
            return Ok(if is_large { Look::Done } else { Look::NoPlace });
        }
        let places = super::places::Places::of(&recent);
        let mut saw_all = true;
        for range in &places.ranges {
            // Listing everything would read these pages, too.
            let (objects, is_whole) = objects(self.remote, &range.prefix, range.after.as_deref(), MOST_PAGES).await?;
            saw_all &= is_whole;
            self.take(objects, is_whole)?;
        }
        for range in &places.unordered {
            // Where names do not grow, most of these objects are old: what a look does not reach comes with the next complete listing.
            let (objects, is_whole) = objects(self.remote, &range.prefix, range.after.as_deref(), LOOK_PAGES).await?;
            self.take(objects, is_whole)?;
        }
        for parent in &places.parents {
            let page = self.remote.page(&parent.directory, parent.after.as_deref(), false, None).await?;
            let known: BTreeSet<&String> = places.directories.iter().collect();
            let new = page.directories.iter().filter(|directory| !known.contains(directory));
            // The next complete listing finds the others.
            for directory in new.take(NEW_DIRECTORIES) {
                // The directory of a rolling log is no place for logs.
                let is_log =
                    directory.trim_end_matches('/').rsplit('/').next().is_some_and(|name| name.starts_with(ROLLING));
                if !is_log && !directory.starts_with('.') {
                    saw_all &= self.below(directory, None, &mut Logs::default(), Some(LOOK_PAGES)).await?;
                }
            }
        }
        for directory in &places.serverless {
            saw_all &= self.look_at_applications(directory).await?;
        }
        Ok(if saw_all { Look::Done } else { Look::TooMuch })
    }

    fn take(&mut self, objects: Vec<Object>, is_whole: bool) -> Result<()> {
        let found = logs_of(objects, is_whole);
        let (Some(first), Some(last)) = (found.first(), found.last()) else { return Ok(()) };
        let keys = Keys { from: first.key.clone(), before: Some(format!("{}\0", last.key)) };
        self.changes += self.store.take_listing(self.source, &keys, &found, false)?;
        Ok(())
    }
}

/// How many pages of a thousand objects a look reads at one place.
const LOOK_PAGES: usize = 3;
/// The same of a place whose objects are all newer than what is known.
const MOST_PAGES: usize = 50;
/// A source without event logs, and with no more objects than these, is listed completely by each look.
const NOT_MANY: u64 = 3000;

/// The name of a directory that lies directly in another one.
fn name_in<'d>(parent: &str, directory: &'d str) -> &'d str {
    directory.strip_prefix(parent).unwrap_or(directory).trim_end_matches('/')
}

/// The logs of some job runs.
async fn list_runs(
    remote: &Remote,
    runs: &[&String],
) -> Result<std::collections::BTreeMap<String, RunLogs>, ListingError> {
    let mut tasks = JoinSet::new();
    let mut found = std::collections::BTreeMap::new();
    let mut runs = runs.iter();
    loop {
        while tasks.len() < RUNS
            && let Some(run) = runs.next()
        {
            let (remote, run) = (remote.clone(), (*run).clone());
            tasks.spawn(async move {
                let logs = list_run(&remote, &run).await?;
                Ok::<_, ListingError>((run, logs))
            });
        }
        match tasks.join_next().await {
            None => return Ok(found),
            Some(Ok(listed)) => {
                let (run, logs) = listed?;
                found.insert(run, logs);
            }
            // A task that was cancelled or has panicked: the run is listed again the next time.
            Some(Err(_)) => {}
        }
    }
}

/// The key behind which the logs of a job run lie: in `sparklogs/` of the run, or of each of its attempts. What executors wrote sorts
/// before both.
fn before_logs(run: &str) -> String {
    format!("{run}attempts")
}

/// The logs of one job run.
enum RunLogs {
    All(Vec<Found>),
    /// They are more than are kept in memory.
    TooMany,
}

async fn list_run(remote: &Remote, run: &str) -> Result<RunLogs, ListingError> {
    let (mut logs, mut found, mut next) = (Logs::default(), Vec::new(), None);
    let mut kept = 0;
    loop {
        let page = remote.page(run, Some(&before_logs(run)), true, next).await?;
        for log in page.objects.into_iter().flat_map(|object| logs.push(object)) {
            kept += 1 + log.parts.len();
            found.push(log);
        }
        next = page.next;
        if kept + logs.parts() > KEPT {
            return Ok(RunLogs::TooMany);
        }
        if next.is_none() {
            found.extend(logs.finish());
            return Ok(RunLogs::All(found));
        }
    }
}

/// The objects whose keys begin with a prefix, behind a key, on so many pages. `true` says that these are all.
async fn objects(
    remote: &Remote,
    prefix: &str,
    after: Option<&str>,
    pages: usize,
) -> Result<(Vec<Object>, bool), ListingError> {
    let (mut found, mut next) = (Vec::new(), None);
    for _ in 0..pages {
        let page = remote.page(prefix, after, true, next).await?;
        found.extend(page.objects);
        next = page.next;
        if next.is_none() {
            return Ok((found, true));
        }
    }
    Ok((found, false))
}

/// The logs of some objects. Without the last objects, the rolling log at the end is not whole.
fn logs_of(objects: Vec<Object>, is_whole: bool) -> Vec<Found> {
    let mut logs = Logs::default();
    let mut found: Vec<Found> = objects.into_iter().flat_map(|object| logs.push(object)).collect();
    if is_whole {
        found.extend(logs.finish());
    }
    found
}
