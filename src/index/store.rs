//! The database: what is known of each event log, in one file of SQLite. `schema.sql` says what each column means.
//!
//! The database is a cache of S3. One that is damaged or of another version is made anew. One process writes at a time; others
//! can read meanwhile.

use super::layout::Found;
use super::places::Recent;
use crate::error::Fault;
use crate::event_log::{Codec, Facts, LogFile};
use crate::shown::hint;
use anyhow::{Context, Result};
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, params};
use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The version of `schema.sql`.
const VERSION: i32 = 1;
/// Marks a database of SQLite as an index: "emSI".
const APPLICATION_ID: i32 = 0x656d_5349;
/// How long a reader waits for a writer.
const BUSY: Duration = Duration::from_secs(10);
/// How many low bits of an attempt's id tell attempts of one millisecond apart.
pub(super) const ID_BITS: u32 = 20;
/// The latest time that fits an attempt's id, in milliseconds: in the year 2248.
const LATEST: i64 = (1 << 43) - 1;

/// A link is not followed, and a pipe does not hang.
const NO_LINK_AND_NO_WAIT: i32 = rustix::fs::OFlags::NOFOLLOW.union(rustix::fs::OFlags::NONBLOCK).bits().cast_signed();

/// How far an event log has been read. The numbers stand in the column `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Unread = 0,
    EndUnread = 1,
    Read = 2,
    NoApplication = 3,
}

/// A database that is open.
pub(crate) struct Store {
    pub(super) db: Connection,
    path: PathBuf,
    /// Held while this process may write.
    writer: Option<File>,
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
    /// As [`ToRead`] has it: if a listing has found another object meanwhile, the outcome is void.
    pub(crate) etag: String,
    pub(crate) result: ReadResult,
}

impl Outcome {
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.result, ReadResult::Failed(_))
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
    /// The log could not be read now: why.
    Failed(String),
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

/// How many logs there are, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) unread: u64,
    pub(crate) end_unread: u64,
    pub(crate) without_application: u64,
    /// Logs of the others whose last reading failed.
    pub(crate) failed: u64,
}

impl Store {
    /// Opens the database, and makes it if there is none. A database of another version, or a damaged one, is made anew if
    /// this process is the one that writes. A file that is no index is left alone.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let writer = lock(path)?;
        let begun = Instant::now();
        let mut connected = connect(path, writer.is_some());
        // Another process is making the tables.
        while writer.is_none() && matches!(connected, Err(Unusable::Index(_))) && begun.elapsed() < BUSY {
            std::thread::sleep(Duration::from_millis(50));
            connected = connect(path, false);
        }
        let db = match connected {
            Ok(db) => db,
            Err(Unusable::Index(_)) if writer.is_some() => {
                remove(path)?;
                connect(path, true).map_err(|unusable| unusable.fault(path))?
            }
            Err(unusable) => return Err(unusable.fault(path).into()),
        };
        Ok(Self { db, path: path.into(), writer })
    }

    /// Whether this process may write: no other one does.
    pub(crate) fn is_writer(&self) -> bool {
        self.writer.is_some()
    }

    /// Makes the next listing take every log of a source for a changed one. Until it is read again, each shows what it showed.
    pub(crate) fn distrust(&self, source: i64) -> Result<()> {
        self.db.execute("UPDATE source SET listed = NULL WHERE id = ?1", [source])?;
        self.db.execute("UPDATE log SET etag = '', is_closed = 0 WHERE source = ?1", [source])?;
        Ok(())
    }

    /// Begins anew with an empty database.
    pub(crate) fn clear(&mut self) -> Result<()> {
        let closed = std::mem::replace(&mut self.db, Connection::open_in_memory()?);
        drop(closed);
        remove(&self.path)?;
        self.db = connect(&self.path, true).map_err(|unusable| unusable.fault(&self.path))?;
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
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
        let transaction = self.db.transaction()?;
        let mut known: HashMap<String, Known> = HashMap::new();
        {
            let mut rows = transaction.prepare_cached(
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
                    write_log(&transaction, source, log)?;
                }
                Some(known) if known.is(log) => {}
                Some(known) => {
                    changes.changed += 1;
                    update_log(&transaction, known.id, source, log)?;
                }
            }
        }
        for gone in known.into_values().filter(|_| is_complete) {
            changes.gone += 1;
            delete_log(&transaction, gone.id)?;
        }
        transaction.commit()?;
        Ok(changes)
    }

    /// Up to `limit` logs of these sources that have to be read, the newest first: in this state, with an id below `before`, and
    /// with a next try that is due at `now`.
    pub(crate) fn to_read(
        &self,
        state: State,
        sources: &[i64],
        before: i64,
        now: i64,
        limit: usize,
    ) -> Result<Vec<ToRead>> {
        let mut rows = self.db.prepare_cached(
            "SELECT id, source, key, size, etag, parts, is_closed FROM log
             WHERE state = ?1 AND state < 2 AND id < ?2 AND next_try <= ?3 ORDER BY id DESC",
        )?;
        let mut rows = rows.query(params![state as i64, before, now])?;
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
        // FTS5 writes what it has gathered whenever ids do not rise.
        outcomes.sort_unstable_by_key(Outcome::started);
        let transaction = self.db.transaction()?;
        for outcome in &*outcomes {
            take_outcome(&transaction, outcome, now)?;
        }
        transaction.commit()?;
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

    /// Counts without those that have been read, which are nearly all: each search tells these numbers.
    pub(crate) fn counts(&self, source: i64) -> Result<Counts> {
        let mut counts = Counts::default();
        let mut waiting = self.db.prepare_cached(
            "SELECT state, count(*) FROM log INDEXED BY log_to_read WHERE state < 2 AND source = ?1 GROUP BY state",
        )?;
        let mut rows = waiting.query([source])?;
        while let Some(row) = rows.next()? {
            let logs = row.get::<_, i64>(1)?.unsigned_abs();
            match row.get::<_, i64>(0)? {
                0 => counts.unread = logs,
                _ => counts.end_unread = logs,
            }
        }
        let mut problems = self.db.prepare_cached(
            "SELECT state = 3, count(*) FROM log INDEXED BY log_without_application
             WHERE problem IS NOT NULL AND source = ?1 GROUP BY 1",
        )?;
        let mut rows = problems.query([source])?;
        while let Some(row) = rows.next()? {
            let logs = row.get::<_, i64>(1)?.unsigned_abs();
            match row.get::<_, bool>(0)? {
                true => counts.without_application = logs,
                false => counts.failed = logs,
            }
        }
        Ok(counts)
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

/// Why a file cannot be used as it is.
enum Unusable {
    /// It is an index, and damaged or of another version.
    Index(String),
    /// It is something else.
    Foreign,
    Failed(rusqlite::Error),
}

impl Unusable {
    fn fault(self, path: &Path) -> Fault {
        let name = path.display();
        match self {
            Self::Index(why) => Fault::failed(format!("{name} cannot be read as an index now: {why}"))
                .detail("another process is writing it")
                .hint("type the command again when the other emr-shs has ended"),
            Self::Foreign => Fault::usage(format!("{name} is no index of emr-shs, so emr-shs does not replace it"))
                .detail("found another kind of file, wanted a new file, or one that emr-shs index has written")
                .hint(hint!("name another file: --db {}", path.with_extension("index"))),
            Self::Failed(error) => Fault::failed(format!("{name} cannot be opened")).detail(error.to_string()),
        }
    }
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt) => Self::Index(error.to_string()),
            Some(ErrorCode::NotADatabase) => Self::Foreign,
            _ => Self::Failed(error),
        }
    }
}

/// Whether an error says that the database is damaged.
pub(crate) fn is_damage(error: &anyhow::Error) -> bool {
    let code = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn connect(path: &Path, writes: bool) -> Result<Connection, Unusable> {
    let flags = match writes {
        true => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        false => OpenFlags::SQLITE_OPEN_READ_WRITE,
    };
    let db = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(BUSY)?;
    let number = |pragma: &str| db.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let is_empty: bool = db.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?;
    match (number("application_id")?, number("user_version")?) {
        (APPLICATION_ID, VERSION) => {}
        (APPLICATION_ID, version) => return Err(Unusable::Index(format!("it has version {version} of the tables"))),
        _ if is_empty && writes => {}
        _ if is_empty => return Err(Unusable::Index("it has no tables yet".into())),
        _ => return Err(Unusable::Foreign),
    }
    db.pragma_update(None, "cache_size", -16_384)?;
    db.pragma_update(None, "mmap_size", 1_i64 << 30)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.set_prepared_statement_cache_capacity(64);
    if writes {
        db.pragma_update(None, "journal_mode", "WAL")?;
        // A crash of the machine can lose the last transactions, never the file: what they said is read again.
        db.pragma_update(None, "synchronous", "NORMAL")?;
    }
    if is_empty {
        let schema = include_str!("schema.sql");
        db.execute_batch(&format!(
            "BEGIN; {schema} PRAGMA user_version = {VERSION}; PRAGMA application_id = {APPLICATION_ID}; COMMIT;"
        ))?;
    }
    Ok(db)
}

/// The lock of the one process that writes; `None` if another one has it.
fn lock(path: &Path) -> Result<Option<File>> {
    let path = beside(path, "-lock");
    let mut options = fs::OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(NO_LINK_AND_NO_WAIT)
        .open(&path)?
        .into_parts()
        .0;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Removes a database with the files that SQLite keeps beside it.
fn remove(path: &Path) -> Result<()> {
    for end in ["", "-wal", "-shm"] {
        match fs::remove_file(beside(path, end)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(end);
    name.into()
}

/// A number for SQLite, which knows signed ones only.
pub(super) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
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
fn update_log(db: &Transaction<'_>, id: i64, source: i64, log: &Found) -> Result<()> {
    write_log(db, source, log)?;
    if log.problem.is_some() {
        delete_attempt(db, id)?;
    }
    Ok(())
}

fn delete_log(db: &Transaction<'_>, id: i64) -> Result<()> {
    delete_attempt(db, id)?;
    db.prepare_cached("DELETE FROM log WHERE id = ?1")?.execute([id])?;
    Ok(())
}

fn delete_attempt(db: &Transaction<'_>, log: i64) -> Result<()> {
    let mut query = db.prepare_cached("SELECT id, app, attempt, source, is_hidden FROM attempt WHERE log = ?1")?;
    let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
    let found: Option<(i64, String, Option<String>, i64, bool)> = query.query_row([log], row).optional()?;
    let Some((id, app, attempt, source, is_hidden)) = found else { return Ok(()) };
    db.prepare_cached("DELETE FROM attempt WHERE id = ?1")?.execute([id])?;
    db.prepare_cached("DELETE FROM words WHERE rowid = ?1")?.execute([id])?;
    if is_hidden { Ok(()) } else { show_best(db, source, &app, attempt.as_deref()) }
}

/// How long a log whose reading has failed waits for the next one, in milliseconds.
fn pause(tries: u32) -> i64 {
    const MINUTE: i64 = 60_000;
    (MINUTE << tries.saturating_sub(1).min(6)).min(60 * MINUTE)
}

fn take_outcome(db: &Transaction<'_>, outcome: &Outcome, now: i64) -> Result<()> {
    let mut query = db.prepare_cached("SELECT etag, source, size, modified, tries FROM log WHERE id = ?1")?;
    let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
    let known: Option<(String, i64, i64, i64, u32)> = query.query_row([outcome.log], row).optional()?;
    let Some((etag, source, size, modified, tries)) = known else { return Ok(()) };
    if etag != outcome.etag {
        return Ok(());
    }
    let (state, problem) = match &outcome.result {
        ReadResult::Failed(why) => {
            db.prepare_cached("UPDATE log SET problem = ?2, tries = ?3, next_try = ?4 WHERE id = ?1")?
                .execute(params![outcome.log, why, tries + 1, now + pause(tries + 1)])?;
            return Ok(());
        }
        ReadResult::Whole => (State::EndUnread, None),
        ReadResult::NoApplication(why) => {
            delete_attempt(db, outcome.log)?;
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
            insert_attempt(db, &attempt)?;
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

/// A row of the table `attempt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) log: i64,
    pub(super) source: i64,
    pub(super) app: String,
    pub(super) attempt: Option<String>,
    pub(super) name: String,
    pub(super) user: String,
    pub(super) queue: Option<String>,
    pub(super) spark: Option<String>,
    pub(super) started: i64,
    pub(super) ended: Option<i64>,
    pub(super) is_ended_guessed: bool,
    pub(super) modified: i64,
    pub(super) size: i64,
}

/// Writes an attempt in place of the one that its log told before.
pub(super) fn insert_attempt(db: &Transaction<'_>, attempt: &Attempt) -> Result<()> {
    delete_attempt(db, attempt.log)?;
    let attempt = &attempt.bounded();
    let id = free_id(db, attempt)?;
    db.prepare_cached("INSERT INTO attempt VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)")?
        .execute(params![
        id,
        attempt.log,
        attempt.source,
        attempt.app,
        attempt.attempt,
        attempt.name,
        attempt.user,
        attempt.queue,
        attempt.spark,
        attempt.started,
        attempt.ended,
        attempt.is_ended_guessed,
        attempt.modified,
        attempt.size,
    ])?;
    db.prepare_cached("INSERT INTO words (rowid, name, app, user) VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        id,
        attempt.name,
        attempt.app,
        attempt.user
    ])?;
    hide_worse(db, attempt)
}

/// The id of a time, before the bits that tell attempts apart.
pub(super) fn id_of(started: i64) -> i64 {
    started.clamp(0, LATEST) << ID_BITS
}

fn free_id(db: &Transaction<'_>, attempt: &Attempt) -> Result<i64> {
    const MASK: i64 = (1 << ID_BITS) - 1;
    let mut query = db.prepare_cached("SELECT 1 FROM attempt WHERE id = ?1")?;
    let mut bits = attempt.log & MASK;
    while query.exists([id_of(attempt.started) | bits])? {
        bits = (bits + 1) & MASK;
    }
    Ok(id_of(attempt.started) | bits)
}

/// The order of several event logs of one attempt in one source: first the one that tells most, which is the end, if any
/// does, and else the newest facts.
const BEST_FIRST: &str = "ended IS NOT NULL AND NOT is_ended_guessed DESC, modified DESC, log DESC";

/// Shows one of two event logs of one attempt: the new one, or the one that was shown.
fn hide_worse(db: &Transaction<'_>, attempt: &Attempt) -> Result<()> {
    let mut query = db.prepare_cached(&format!(
        "SELECT id FROM attempt INDEXED BY attempt_app
         WHERE app = ?1 AND attempt IS ?2 AND is_hidden = 0 AND source = ?3 ORDER BY {BEST_FIRST} LIMIT 2",
    ))?;
    let shown = query.query_map(params![attempt.app, attempt.attempt, attempt.source], |row| row.get::<_, i64>(0))?;
    if let Some(worse) = shown.collect::<Result<Vec<_>, _>>()?.get(1) {
        db.prepare_cached("UPDATE attempt SET is_hidden = 1 WHERE id = ?1")?.execute([worse])?;
    }
    Ok(())
}

/// Shows the best of the event logs of an attempt, because the one that was shown is gone.
fn show_best(db: &Transaction<'_>, source: i64, app: &str, attempt: Option<&str>) -> Result<()> {
    db.prepare_cached(&format!(
        "UPDATE attempt SET is_hidden = 0 WHERE id =
         (SELECT id FROM attempt INDEXED BY attempt_app WHERE app = ?1 AND attempt IS ?2 AND source = ?3 ORDER BY {BEST_FIRST} LIMIT 1)",
    ))?
    .execute(params![app, attempt, source])?;
    Ok(())
}

/// The longest name, id or user that the database keeps, in bytes. Whoever writes an event log chooses them.
const LONGEST: usize = 4096;

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST)].to_string()
}

impl Attempt {
    /// The columns of this struct, for a query that [`Attempt::read`] reads.
    pub(super) const COLUMNS: &str = "a.log, a.source, a.app, a.attempt, a.name, a.user, a.queue, a.spark, a.started, a.ended, \
        a.is_ended_guessed, a.modified, a.size";

    fn bounded(&self) -> Self {
        Self {
            app: bounded(&self.app),
            attempt: self.attempt.as_deref().map(bounded),
            name: bounded(&self.name),
            user: bounded(&self.user),
            queue: self.queue.as_deref().map(bounded),
            spark: self.spark.as_deref().map(bounded),
            ..self.clone()
        }
    }

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            log: row.get(0)?,
            source: row.get(1)?,
            app: row.get(2)?,
            attempt: row.get(3)?,
            name: row.get(4)?,
            user: row.get(5)?,
            queue: row.get(6)?,
            spark: row.get(7)?,
            started: row.get(8)?,
            ended: row.get(9)?,
            is_ended_guessed: row.get(10)?,
            modified: row.get(11)?,
            size: row.get(12)?,
        })
    }
}
