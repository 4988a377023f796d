//! What is known of each event log: where it lies, how far it has been read, and which one is to be read next.

use super::attempts::{Attempt, Batch};
use super::layout::Found;
use super::places::Recent;
use super::store::{Store, count};
use crate::event_log::{Codec, Facts, LogFile};
use anyhow::Result;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use std::collections::HashMap;

/// How far an event log has been read. The numbers stand in the column `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Unread = 0,
    EndUnread = 1,
    Read = 2,
    NoApplication = 3,
}

/// A log that has to be read.
#[derive(Clone, Debug)]
pub(crate) struct ToRead {
    pub(crate) id: i64,
    pub(crate) source: i64,
    pub(crate) key: String,
    pub(crate) size: u64,
    pub(crate) etag: String,
    pub(crate) parts: Vec<(String, u64)>,
    pub(crate) is_closed: bool,
    pub(crate) state: State,
}

/// What reading a log came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) log: i64,
    pub(crate) source: i64,
    /// As [`ToRead`] has it: if a listing has found another object meanwhile, the outcome is void.
    pub(crate) etag: String,
    pub(crate) result: ReadResult,
}

impl Outcome {
    /// Why the log could not be read.
    pub(crate) fn failure(&self) -> Option<&str> {
        match &self.result {
            ReadResult::Failed(why) | ReadResult::Silent(why) => Some(why),
            _ => None,
        }
    }

    fn started(&self) -> Option<i64> {
        match &self.result {
            ReadResult::Attempt { facts, .. } => Some(facts.start.as_ref()?.time),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(crate) enum ReadResult {
    /// The application, and whether its end is still to be read.
    Attempt { facts: Box<Facts>, end_is_missing: bool },
    /// Neither the beginning nor the end shows the application: the log must be read whole.
    Whole,
    /// No application can be listed for the log: why. Only another object can change that.
    NoApplication(String),
    /// This log could not be read now: why.
    Failed(String),
    /// S3 does not answer as it should, so that this log was not read: why. Other logs of the source would not be read, either.
    Silent(String),
}

/// A range of keys: from `from` (inclusive) to `before` (exclusive), or to the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) from: String,
    pub(crate) before: Option<String>,
}

impl Keys {
    /// All keys in a directory, whose own key ends in a slash.
    pub(crate) fn below(directory: &str) -> Self {
        Self { from: directory.into(), before: behind(directory) }
    }

    /// The keys in a directory that are greater than `key`.
    pub(crate) fn behind(key: &str, directory: &str) -> Self {
        Self { from: format!("{key}\0"), before: behind(directory) }
    }
}

/// The first key behind all that begin with a directory's key; `None` if the directory is the source.
pub(crate) fn behind(directory: &str) -> Option<String> {
    directory.strip_suffix('/').map(|name| format!("{name}0"))
}

/// What a listing has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) new: u64,
    pub(crate) changed: u64,
    pub(crate) gone: u64,
}

impl std::ops::AddAssign for Changes {
    fn add_assign(&mut self, other: Self) {
        self.new += other.new;
        self.changed += other.changed;
        self.gone += other.gone;
    }
}

/// How many logs have something left to read, and how many nothing can be listed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Logs that show nothing yet, because nobody has read them.
    pub(crate) unread: u64,
    /// Logs that show nothing, because reading them failed.
    pub(crate) failed: u64,
    /// Logs that have changed, or are to be read again: they show what they showed before.
    pub(crate) to_read_again: u64,
    /// Logs whose end is not read yet.
    pub(crate) end_unread: u64,
    pub(crate) without_application: u64,
}

impl Store {
    /// Makes the next listing take every log of a source for a changed one. Until it is read again, each shows what it showed.
    pub(crate) fn distrust(&self, source: i64) -> Result<()> {
        self.db.execute("UPDATE source SET listed = NULL WHERE id = ?1", [source])?;
        // Else the listing passes over job runs that are not due.
        self.db.execute("DELETE FROM run WHERE source = ?1", [source])?;
        self.db.execute("UPDATE log SET etag = '', is_closed = 0 WHERE source = ?1", [source])?;
        Ok(())
    }

    /// The id of a source. The first call makes the row.
    pub(crate) fn source(&self, uri: &str) -> Result<i64> {
        if let Some(id) = self.known_source(uri)? {
            return Ok(id);
        }
        self.db.execute("INSERT INTO source (uri) VALUES (?1)", [uri])?;
        Ok(self.db.last_insert_rowid())
    }

    pub(crate) fn known_source(&self, uri: &str) -> Result<Option<i64>> {
        Ok(self.db.query_row("SELECT id FROM source WHERE uri = ?1", [uri], |row| row.get(0)).optional()?)
    }

    pub(crate) fn fact(&self, name: &str) -> Result<Option<String>> {
        Ok(self.db.query_row("SELECT value FROM fact WHERE name = ?1", [name], |row| row.get(0)).optional()?)
    }

    pub(crate) fn set_fact(&self, name: &str, value: &str) -> Result<()> {
        self.db.execute("INSERT OR REPLACE INTO fact VALUES (?1, ?2)", [name, value])?;
        Ok(())
    }

    pub(crate) fn forget_fact(&self, name: &str) -> Result<()> {
        self.db.execute("DELETE FROM fact WHERE name = ?1", [name])?;
        Ok(())
    }

    /// When the last complete listing of a source, and the last look at it, began.
    pub(crate) fn listed(&self, source: i64) -> Result<(Option<i64>, Option<i64>)> {
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        Ok(self.db.query_row("SELECT listed, looked FROM source WHERE id = ?1", [source], row)?)
    }

    pub(crate) fn note_look(&self, source: i64, began: i64) -> Result<()> {
        self.db.execute("UPDATE source SET looked = ?2 WHERE id = ?1", params![source, began])?;
        Ok(())
    }

    pub(crate) fn note_listing(&self, source: i64, began: i64, foreign: &(u64, Option<String>)) -> Result<()> {
        self.db.execute(
            "UPDATE source SET listed = ?2, looked = ?2, foreign_objects = ?3, foreign_example = ?4 WHERE id = ?1",
            params![source, began, count(foreign.0), foreign.1],
        )?;
        Ok(())
    }

    /// Takes over what a listing of some keys has found. If `is_complete`, a log between them that was not found is gone.
    pub(crate) fn take_listing(
        &mut self,
        source: i64,
        keys: &Keys,
        found: &[Found],
        is_complete: bool,
    ) -> Result<Changes> {
        let mut batch = Batch::begin(&mut self.db)?;
        let mut known: HashMap<String, Known> = HashMap::new();
        {
            let mut rows = batch.prepare_cached(
                "SELECT key, id, size, modified, etag, is_closed FROM log
                 WHERE source = ?1 AND key >= ?2 AND (?3 IS NULL OR key < ?3)",
            )?;
            let mut rows = rows.query(params![source, keys.from, keys.before])?;
            while let Some(row) = rows.next()? {
                known.insert(row.get(0)?, Known::read(row)?);
            }
        }
        let mut changes = Changes::default();
        for log in found {
            match known.remove(&log.key) {
                None => {
                    changes.new += 1;
                    write_log(&batch, source, log)?;
                }
                Some(known) if known.is(log) => {}
                Some(known) => {
                    changes.changed += 1;
                    update_log(&mut batch, known.id, source, log)?;
                }
            }
        }
        for gone in known.into_values().filter(|_| is_complete) {
            changes.gone += 1;
            delete_log(&mut batch, gone.id)?;
        }
        batch.commit()?;
        Ok(changes)
    }

    /// Up to `limit` logs of these sources that have to be read, the newest first: in this state, with an id below `before`, and
    /// either never tried, or tried in vain with a next try that is due at `now`.
    pub(crate) fn to_read(
        &self,
        state: State,
        sources: &[i64],
        is_retry: bool,
        before: i64,
        now: i64,
        limit: usize,
    ) -> Result<Vec<ToRead>> {
        let mut rows = self.db.prepare_cached(
            "SELECT id, source, key, size, etag, parts, is_closed FROM log
             WHERE state = ?1 AND state < 2 AND id < ?2 AND next_try <= ?3 AND (tries > 0) = ?4 ORDER BY id DESC",
        )?;
        let mut rows = rows.query(params![state as i64, before, now, is_retry])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let log = ToRead {
                id: row.get(0)?,
                source: row.get(1)?,
                key: row.get(2)?,
                size: row.get::<_, i64>(3)?.unsigned_abs(),
                etag: row.get(4)?,
                parts: parts(row.get(5)?),
                is_closed: row.get(6)?,
                state,
            };
            if sources.contains(&log.source) {
                found.push(log);
            }
            if found.len() == limit {
                break;
            }
        }
        Ok(found)
    }

    /// Writes down what readings came to.
    pub(crate) fn take_outcomes(&mut self, outcomes: &mut [Outcome], now: i64) -> Result<()> {
        outcomes.sort_unstable_by_key(Outcome::started);
        let mut batch = Batch::begin(&mut self.db)?;
        for outcome in &*outcomes {
            take_outcome(&mut batch, outcome, now)?;
        }
        batch.commit()?;
        Ok(())
    }

    /// The logs of the last day of a source, the newest first. The day ends with the newest log, whose clock that is does not
    /// matter. The logs that `verify` writes do not count: their numbers have ten digits.
    pub(super) fn recent(&self, source: i64) -> Result<Vec<Recent>> {
        const DAY: i64 = 86_400;
        let mut rows = self.db.prepare_cached(
            "SELECT key, is_closed FROM log WHERE source = ?1
             AND modified >= (SELECT modified FROM log WHERE source = ?1
                              AND key NOT GLOB '*application_[0-9]*_[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]*'
                              ORDER BY modified DESC LIMIT 1) - ?2 ORDER BY modified DESC",
        )?;
        let row = |row: &Row<'_>| Ok(Recent { key: row.get(0)?, is_over: row.get(1)? });
        Ok(rows.query_map([source, DAY], row)?.collect::<Result<_, _>>()?)
    }

    /// Whether nothing new is to be expected in a directory: it has logs, and all are closed, `hours` before the newest log of the
    /// source at the latest.
    pub(super) fn is_over(&self, source: i64, directory: &str, hours: i64) -> Result<bool> {
        let Keys { from, before } = Keys::below(directory);
        let mut query = self.db.prepare_cached(
            "SELECT count(*) > 0 AND min(is_closed) AND max(modified) + ?4 <= (SELECT max(modified) FROM log WHERE source = ?1)
             FROM log WHERE source = ?1 AND key >= ?2 AND key < ?3",
        )?;
        let is_over =
            query.query_row(params![source, from, before, hours * 3600], |row| row.get::<_, Option<bool>>(0))?;
        Ok(is_over.unwrap_or(false))
    }

    /// Whether a job run that is not over is listed now. The longer nothing has changed in it, the more seldom it is: after an hour
    /// every three minutes, after a day every 72 minutes. Runs that have failed before Spark started, and those that were killed,
    /// never close an event log.
    pub(super) fn is_due(&self, source: i64, run: &str, now: i64) -> Result<bool> {
        let mut query = self.db.prepare_cached("SELECT changed, listed FROM run WHERE source = ?1 AND key = ?2")?;
        let row = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let Some((changed, listed)) = query.query_row(params![source, run], row).optional()? else { return Ok(true) };
        // A clock that was set back must not make it wait.
        Ok(now < listed || now.saturating_sub(listed) >= listed.saturating_sub(changed) / 20)
    }

    /// Notes that a job run was listed, and whether something was new in it.
    pub(super) fn note_run(&self, source: i64, run: &str, now: i64, is_changed: bool) -> Result<()> {
        if self.is_over(source, run, 0)? {
            self.db.prepare_cached("DELETE FROM run WHERE source = ?1 AND key = ?2")?.execute(params![source, run])?;
            return Ok(());
        }
        let mut note = self.db.prepare_cached(
            "INSERT INTO run VALUES (?1, ?2, ?3, ?3)
             ON CONFLICT DO UPDATE SET listed = ?3, changed = iif(?4, ?3, min(changed, ?3))",
        )?;
        note.execute(params![source, run, now, is_changed])?;
        Ok(())
    }

    /// Forgets the job runs between some keys: they are gone.
    pub(super) fn forget_runs(&self, source: i64, keys: &Keys) -> Result<()> {
        let mut delete =
            self.db.prepare_cached("DELETE FROM run WHERE source = ?1 AND key >= ?2 AND (?3 IS NULL OR key < ?3)")?;
        delete.execute(params![source, keys.from, keys.before])?;
        Ok(())
    }

    /// Counts without those that have been read, which are nearly all: each search tells these numbers.
    pub(crate) fn counts(&self, source: i64) -> Result<Counts> {
        let mut waiting = self.db.prepare_cached(
            "SELECT count(*) FILTER (WHERE a.id IS NULL AND problem IS NULL),
                    count(*) FILTER (WHERE a.id IS NULL AND problem IS NOT NULL),
                    count(*) FILTER (WHERE a.id IS NOT NULL AND state = 0),
                    count(*) FILTER (WHERE a.id IS NOT NULL AND state = 1)
             FROM log INDEXED BY log_to_read LEFT JOIN attempt a ON a.log = log.id WHERE state < 2 AND log.source = ?1",
        )?;
        let mut without = self.db.prepare_cached(
            "SELECT count(*) FROM log INDEXED BY log_without_application
             WHERE problem IS NOT NULL AND state = 3 AND source = ?1",
        )?;
        let number = |row: &Row<'_>, at| Ok(row.get::<_, i64>(at)?.unsigned_abs());
        let mut counts = waiting.query_row([source], |row| {
            Ok(Counts {
                unread: number(row, 0)?,
                failed: number(row, 1)?,
                to_read_again: number(row, 2)?,
                end_unread: number(row, 3)?,
                without_application: 0,
            })
        })?;
        counts.without_application = without.query_row([source], |row| number(row, 0))?;
        Ok(counts)
    }

    /// How many logs of a source are in a state.
    pub(crate) fn waiting(&self, source: i64, state: State) -> Result<u64> {
        let sql = "SELECT count(*) FROM log INDEXED BY log_to_read WHERE state < 2 AND state = ?2 AND source = ?1";
        let mut query = self.db.prepare_cached(sql)?;
        Ok(query.query_row(params![source, state as i64], |row| row.get::<_, i64>(0))?.unsigned_abs())
    }

    /// Whether a source has a log. Counting them would take longer than a search.
    pub(crate) fn has_logs(&self, source: i64) -> Result<bool> {
        Ok(self.db.prepare_cached("SELECT 1 FROM log WHERE source = ?1 LIMIT 1")?.exists([source])?)
    }

    /// How many logs a source has.
    pub(crate) fn logs(&self, source: i64) -> Result<u64> {
        let mut query = self.db.prepare_cached("SELECT count(*) FROM log WHERE source = ?1")?;
        Ok(query.query_row([source], |row| row.get::<_, i64>(0))?.unsigned_abs())
    }

    /// Logs that could not be read or have no application, with the reason, grouped by reason: how many, and one of them.
    pub(crate) fn problems(&self, source: i64) -> Result<Vec<(String, u64, String)>> {
        let mut rows = self.db.prepare_cached(
            "SELECT problem, count(*), min(key) FROM log WHERE source = ?1 AND problem IS NOT NULL
             GROUP BY problem ORDER BY count(*) DESC, problem LIMIT 20",
        )?;
        let rows =
            rows.query_map([source], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs(), row.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many objects of the last complete listing belong to no event log, and one of them.
    pub(crate) fn foreign(&self, source: i64) -> Result<(u64, Option<String>)> {
        let row = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?));
        let query = "SELECT foreign_objects, foreign_example FROM source WHERE id = ?1";
        Ok(self.db.query_row(query, [source], row)?)
    }
}

/// What the database knows of a log.
struct Known {
    id: i64,
    size: i64,
    modified: i64,
    etag: String,
    is_closed: bool,
}

impl Known {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(1)?,
            size: row.get(2)?,
            modified: row.get(3)?,
            etag: row.get(4)?,
            is_closed: row.get(5)?,
        })
    }

    fn is(&self, found: &Found) -> bool {
        (self.size, self.modified, self.etag.as_str(), self.is_closed)
            == (count(found.size), found.modified, found.etag.as_str(), found.is_closed)
    }
}

fn parts(json: Option<String>) -> Vec<(String, u64)> {
    json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default()
}

fn as_json(parts: &[(String, u64)]) -> Option<String> {
    if parts.is_empty() { None } else { serde_json::to_string(parts).ok() }
}

impl ToRead {
    /// The objects with events, as keys below the source's prefix, with their sizes.
    pub(crate) fn objects(&self) -> Vec<(String, u64)> {
        match self.parts.as_slice() {
            [] => vec![(self.key.clone(), self.size)],
            parts => parts.iter().map(|(name, size)| (format!("{}{name}", self.key), *size)).collect(),
        }
    }

    /// The objects for the reader; the word if the codec is none of Spark's.
    pub(crate) fn files(&self) -> Result<Vec<LogFile>, &str> {
        match self.parts.as_slice() {
            [] => Ok(vec![LogFile { size: self.size, codec: Codec::of_name(name(&self.key))? }]),
            parts => {
                let mut files = Vec::new();
                for (name, size) in parts {
                    files.push(LogFile { size: *size, codec: Codec::of_name(name)? });
                }
                Ok(files)
            }
        }
    }
}

fn name(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or_default()
}

fn write_log(db: &Transaction<'_>, source: i64, log: &Found) -> Result<()> {
    let state = if log.problem.is_some() { State::NoApplication } else { State::Unread };
    db.prepare_cached(
        "INSERT INTO log (source, key, size, modified, etag, parts, is_closed, codec, state, problem)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (source, key) DO UPDATE SET size = excluded.size, modified = excluded.modified, etag = excluded.etag,
         parts = excluded.parts, is_closed = excluded.is_closed, codec = excluded.codec, state = excluded.state,
         problem = excluded.problem, tries = 0, next_try = 0",
    )?
    .execute(params![
        source,
        log.key,
        count(log.size),
        log.modified,
        log.etag,
        as_json(&log.parts),
        log.is_closed,
        log.codec,
        state as i64,
        log.problem,
    ])?;
    Ok(())
}

/// The attempt of a log that has changed stays, with its old facts, until the log is read again.
fn update_log(db: &mut Batch<'_>, id: i64, source: i64, log: &Found) -> Result<()> {
    write_log(db, source, log)?;
    if log.problem.is_some() {
        db.delete_attempt(id)?;
    }
    Ok(())
}

pub(super) fn delete_log(db: &mut Batch<'_>, id: i64) -> Result<()> {
    db.delete_attempt(id)?;
    db.prepare_cached("DELETE FROM log WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// How long a log whose reading has failed waits for the next one, in milliseconds.
fn pause(tries: u32) -> i64 {
    const MINUTE: i64 = 60_000;
    (MINUTE << tries.saturating_sub(1).min(6)).min(60 * MINUTE)
}

fn take_outcome(db: &mut Batch<'_>, outcome: &Outcome, now: i64) -> Result<()> {
    let mut query = db.prepare_cached("SELECT etag, source, size, modified, tries FROM log WHERE id = ?1")?;
    let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
    let known: Option<(String, i64, i64, i64, u32)> = query.query_row([outcome.log], row).optional()?;
    drop(query);
    let Some((etag, source, size, modified, tries)) = known else { return Ok(()) };
    if etag != outcome.etag {
        return Ok(());
    }
    let (state, problem) = match &outcome.result {
        ReadResult::Failed(why) | ReadResult::Silent(why) => {
            db.prepare_cached("UPDATE log SET problem = ?2, tries = ?3, next_try = ?4 WHERE id = ?1")?
                .execute(params![outcome.log, why, tries + 1, now + pause(tries + 1)])?;
            return Ok(());
        }
        ReadResult::Whole => (State::EndUnread, None),
        ReadResult::NoApplication(why) => {
            db.delete_attempt(outcome.log)?;
            (State::NoApplication, Some(why))
        }
        ReadResult::Attempt { facts, end_is_missing } => {
            let Some(start) = &facts.start else { return Ok(()) };
            let guess = end_is_missing.then_some(modified.saturating_mul(1000));
            let attempt = Attempt {
                log: outcome.log,
                source,
                app: start.id.clone().unwrap_or_default(),
                attempt: start.attempt.clone(),
                name: start.name.clone(),
                user: start.user.clone(),
                queue: facts.queue.clone(),
                spark: facts.spark.clone(),
                started: start.time,
                ended: facts.end.or(guess),
                is_ended_guessed: guess.is_some() && facts.end.is_none(),
                modified,
                size,
            };
            db.insert_attempt(&attempt)?;
            (if *end_is_missing { State::EndUnread } else { State::Read }, None)
        }
    };
    let keeps_parts = state == State::EndUnread;
    db.prepare_cached(
        "UPDATE log SET state = ?2, problem = ?3, tries = 0, next_try = 0, parts = iif(?4, parts, NULL) WHERE id = ?1",
    )?
    .execute(params![outcome.log, state as i64, problem, keeps_parts])?;
    Ok(())
}
