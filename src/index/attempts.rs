//! The attempts of applications that a search finds, and the words of their names.

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

/// How many low bits of an attempt's id tell attempts of one millisecond apart.
pub(super) const ID_BITS: u32 = 20;
/// The latest time that fits an attempt's id, in milliseconds: in the year 2248.
const LATEST: i64 = (1 << 43) - 1;

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

/// A transaction that changes attempts. The words of their names are written at its end, in the order of their ids, because FTS5
/// writes what it has gathered whenever ids do not rise, and whenever another statement changes something.
pub(super) struct Batch<'db> {
    db: Transaction<'db>,
    /// Ids whose words the database has and loses.
    gone: BTreeSet<i64>,
    /// The name, id and user of each new row.
    new: BTreeMap<i64, [String; 3]>,
}

impl<'db> Deref for Batch<'db> {
    type Target = Transaction<'db>;

    fn deref(&self) -> &Self::Target {
        &self.db
    }
}

impl<'db> Batch<'db> {
    pub(super) fn begin(db: &'db mut Connection) -> Result<Self> {
        Ok(Self { db: db.transaction()?, gone: BTreeSet::new(), new: BTreeMap::new() })
    }

    pub(super) fn commit(mut self) -> Result<()> {
        self.write_words()?;
        Ok(self.db.commit()?)
    }

    /// Writes the words that wait. A long transaction does so now and then, because they take memory.
    pub(super) fn write_words(&mut self) -> Result<()> {
        let mut delete = self.db.prepare_cached("DELETE FROM words WHERE rowid = ?1")?;
        for id in std::mem::take(&mut self.gone) {
            delete.execute([id])?;
        }
        let mut insert =
            self.db.prepare_cached("INSERT INTO words (rowid, name, app, user) VALUES (?1, ?2, ?3, ?4)")?;
        for (id, [name, app, user]) in std::mem::take(&mut self.new) {
            insert.execute(params![id, name, app, user])?;
        }
        Ok(())
    }

    /// Removes the attempt that a log tells, and shows another event log of it, if there is one.
    pub(super) fn delete_attempt(&mut self, log: i64) -> Result<()> {
        let mut query =
            self.db.prepare_cached("SELECT id, app, attempt, source, is_hidden FROM attempt WHERE log = ?1")?;
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
        let found: Option<(i64, String, Option<String>, i64, bool)> = query.query_row([log], row).optional()?;
        let Some((id, app, attempt, source, is_hidden)) = found else { return Ok(()) };
        self.db.prepare_cached("DELETE FROM attempt WHERE id = ?1")?.execute([id])?;
        if self.new.remove(&id).is_none() {
            self.gone.insert(id);
        }
        if is_hidden { Ok(()) } else { self.show_best(source, &app, attempt.as_deref()) }
    }

    /// Writes an attempt in place of the one that its log told before.
    pub(super) fn insert_attempt(&mut self, attempt: &Attempt) -> Result<()> {
        self.delete_attempt(attempt.log)?;
        self.add_attempt(attempt)
    }

    /// Writes the attempt of a log that has told none before.
    pub(super) fn add_attempt(&mut self, attempt: &Attempt) -> Result<()> {
        let attempt = attempt.bounded();
        let Some(id) = self.free_id(&attempt)? else { return Ok(()) };
        self.db
            .prepare_cached(
                "INSERT INTO attempt VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?
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
        self.hide_worse(&attempt)?;
        self.new.insert(id, [attempt.name, attempt.app, attempt.user]);
        Ok(())
    }

    /// `None` if so many attempts have started in the same millisecond that somebody has invented them: whoever writes event logs
    /// chooses their times. None is shown of the rest.
    fn free_id(&self, attempt: &Attempt) -> Result<Option<i64>> {
        const MASK: i64 = (1 << ID_BITS) - 1;
        const TRIES: i64 = 4096;
        let mut query = self.db.prepare_cached("SELECT 1 FROM attempt WHERE id = ?1")?;
        for more in 0..TRIES {
            let id = id_of(attempt.started) | (attempt.log.wrapping_add(more) & MASK);
            if !query.exists([id])? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Shows one of two event logs of one attempt: the new one, or the one that was shown.
    fn hide_worse(&self, attempt: &Attempt) -> Result<()> {
        let shown = self.best_first(attempt.source, &attempt.app, attempt.attempt.as_deref(), "is_hidden = 0")?;
        if let Some(worse) = shown.get(1) {
            self.db.prepare_cached("UPDATE attempt SET is_hidden = 1 WHERE id = ?1")?.execute([worse])?;
        }
        Ok(())
    }

    /// Shows the best of the event logs of an attempt, because the one that was shown is gone.
    fn show_best(&self, source: i64, app: &str, attempt: Option<&str>) -> Result<()> {
        if let Some(best) = self.best_first(source, app, attempt, "true")?.first() {
            self.db.prepare_cached("UPDATE attempt SET is_hidden = 0 WHERE id = ?1")?.execute([best])?;
        }
        Ok(())
    }

    /// The ids of the two best event logs of one attempt in one source: first the one that tells most, which is the end, if any
    /// does, and else the newest facts.
    fn best_first(&self, source: i64, app: &str, attempt: Option<&str>, condition: &str) -> Result<Vec<i64>> {
        let query = |is_attempt: &str| {
            format!(
                "SELECT id FROM attempt INDEXED BY attempt_app WHERE source = ?1 AND app = ?2 AND {is_attempt} AND {condition}
                 ORDER BY ended IS NOT NULL AND NOT is_ended_guessed DESC, modified DESC, log DESC LIMIT 2"
            )
        };
        let id = |row: &Row<'_>| row.get(0);
        // With `attempt IS ?3` SQLite would make a new plan for each value.
        let ids: Result<Vec<i64>, _> = match attempt {
            Some(attempt) => {
                self.db.prepare_cached(&query("attempt = ?3"))?.query_map(params![source, app, attempt], id)?.collect()
            }
            None => self.db.prepare_cached(&query("attempt IS NULL"))?.query_map(params![source, app], id)?.collect(),
        };
        Ok(ids?)
    }
}

/// The id of a time, before the bits that tell attempts apart.
pub(super) fn id_of(started: i64) -> i64 {
    started.clamp(0, LATEST) << ID_BITS
}

/// The longest name, id or user that the database keeps, in bytes. Whoever writes an event log chooses them.
pub(crate) const LONGEST: usize = 4096;

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST)].to_string()
}

impl Attempt {
    /// The columns of this struct, for a query that [`Attempt::read`] reads.
    pub(super) const COLUMNS: &str = "a.log, a.source, a.app, a.attempt, a.name, a.user, a.queue, a.spark, a.started, a.ended, \
        a.is_ended_guessed, a.modified, a.size";

    /// Positions of columns among these.
    pub(super) const APP: usize = 2;
    pub(super) const ATTEMPT: usize = 3;
    pub(super) const NAME: usize = 4;
    pub(super) const USER: usize = 5;

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
