//! The list as the history server's REST API gives it: applications with all their attempts, the one whose newest attempt
//! ended last first.

use super::attempts::{Attempt, Batch, ID_BITS};
use super::logs::delete_log;
use super::store::Store;
use anyhow::Result;
use rusqlite::types::Value;
use rusqlite::{Row, params};

/// How many attempts a step of the list reads at most.
const STEP: i64 = 200;
/// How many logs are removed in a transaction.
const REMOVED: i64 = 1000;

/// An application with its attempts, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Application {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) attempts: Vec<Run>,
}

/// An attempt of an application. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) attempt: Option<String>,
    pub(crate) user: String,
    pub(crate) spark: Option<String>,
    pub(crate) started: i64,
    pub(crate) ended: Option<i64>,
    pub(crate) modified: i64,
}

/// Where the list goes on.
#[derive(Clone, Debug, Default)]
pub(crate) enum Place {
    #[default]
    Begin,
    /// Behind this end, id and row.
    Ended(i64, String, i64),
    /// At the first application that has not ended.
    Running,
    /// Behind this id and row, among those that have not ended.
    RunningBehind(String, i64),
    End,
}

impl Store {
    /// Makes what the list needs beside the tables: the order of ends. Databases that only the command line reads do without. A
    /// process that stays keeps little of the file in its memory.
    pub(crate) fn prepare_list(&self) -> Result<()> {
        self.db.pragma_update(None, "mmap_size", 16 << 20)?;
        self.db.execute_batch(
            "CREATE INDEX IF NOT EXISTS attempt_ended ON attempt (ended, app) WHERE is_hidden = 0;
             CREATE INDEX IF NOT EXISTS attempt_shown ON attempt (app) WHERE is_hidden = 0;",
        )?;
        Ok(())
    }

    /// The next applications, and where the list goes on. There can be none before the end of the list.
    pub(crate) fn applications(&self, place: &Place) -> Result<(Vec<Application>, Place)> {
        let (condition, values): (&str, Vec<Value>) = match place {
            Place::Begin => ("ended IS NOT NULL", Vec::new()),
            Place::Ended(ended, app, id) => (
                "ended IS NOT NULL AND (ended, app, id) < (?1, ?2, ?3)",
                vec![(*ended).into(), app.clone().into(), (*id).into()],
            ),
            Place::Running => ("ended IS NULL", Vec::new()),
            Place::RunningBehind(app, id) => {
                ("ended IS NULL AND (app, id) < (?1, ?2)", vec![app.clone().into(), (*id).into()])
            }
            Place::End => return Ok((Vec::new(), Place::End)),
        };
        let sql = format!(
            "SELECT id, app, ended, EXISTS (SELECT 1 FROM attempt b INDEXED BY attempt_shown
                                            WHERE b.is_hidden = 0 AND b.app = a.app
                                                  AND b.id >= ((a.id >> {ID_BITS}) << {ID_BITS}) AND {} > {})
             FROM attempt a INDEXED BY attempt_ended
             WHERE is_hidden = 0 AND {condition} ORDER BY ended DESC, app DESC, id DESC LIMIT {STEP}",
            newness("b"),
            newness("a")
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut rows = statement.query(rusqlite::params_from_iter(values))?;
        let (mut found, mut read, mut last) = (Vec::new(), 0, None);
        while let Some(row) = rows.next()? {
            let (id, app, ended): (i64, String, Option<i64>) = (row.get(0)?, row.get(1)?, row.get(2)?);
            // An application stands where its newest attempt stands.
            if !row.get::<_, bool>(3)? {
                found.extend(self.application(&app)?);
            }
            read += 1;
            last = Some((id, app, ended));
        }
        let next = match (last, place) {
            (Some((id, app, Some(ended))), _) if read == STEP => Place::Ended(ended, app, id),
            (Some((id, app, None)), _) if read == STEP => Place::RunningBehind(app, id),
            (_, Place::Begin | Place::Ended(..)) => Place::Running,
            _ => Place::End,
        };
        Ok((found, next))
    }

    /// The ids of the applications that have an attempt without an end: so many at most.
    pub(crate) fn running(&self, most: usize) -> Result<Vec<String>> {
        let mut ids = self.db.prepare_cached(
            "SELECT DISTINCT app FROM attempt INDEXED BY attempt_ended
             WHERE is_hidden = 0 AND ended IS NULL ORDER BY app DESC LIMIT ?1",
        )?;
        let ids = ids.query_map([i64::try_from(most).unwrap_or(i64::MAX)], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// The application with this id.
    pub(crate) fn application(&self, id: &str) -> Result<Option<Application>> {
        let mut statement = self.db.prepare_cached(&format!(
            "SELECT {} FROM attempt a INDEXED BY attempt_shown WHERE a.is_hidden = 0 AND a.app = ?1 ORDER BY a.id DESC",
            Attempt::COLUMNS
        ))?;
        let rows = statement.query_map([id], Attempt::read)?.collect::<Result<Vec<_>, _>>()?;
        let Some(name) = rows.first().map(|newest| newest.name.clone()) else { return Ok(None) };
        let mut kept: Vec<Attempt> = Vec::new();
        for row in rows {
            // Several sources can have the same attempt.
            match kept.iter_mut().find(|other| other.attempt == row.attempt) {
                Some(other) if is_better(&row, other) => *other = row,
                Some(_) => {}
                None => kept.push(row),
            }
        }
        let attempts = kept.into_iter().map(|row| Run {
            attempt: row.attempt,
            user: row.user,
            spark: row.spark,
            started: row.started,
            ended: row.ended,
            modified: row.modified.saturating_mul(1000),
        });
        Ok(Some(Application { id: id.into(), name, attempts: attempts.collect() }))
    }

    /// Removes what the database knows of all sources but these. `stop` is asked between steps.
    pub(crate) fn keep_sources(&mut self, kept: &[i64], stop: &dyn Fn() -> bool) -> Result<()> {
        for (source, _) in self.sources()?.into_iter().filter(|(source, _)| !kept.contains(source)) {
            loop {
                if stop() {
                    return Ok(());
                }
                let mut batch = Batch::begin(&mut self.db)?;
                let ids: Vec<i64> = {
                    let mut logs = batch.prepare_cached("SELECT id FROM log WHERE source = ?1 LIMIT ?2")?;
                    let id = |row: &Row<'_>| row.get(0);
                    logs.query_map(params![source, REMOVED], id)?.collect::<Result<_, _>>()?
                };
                for id in &ids {
                    delete_log(&mut batch, *id)?;
                }
                if ids.is_empty() {
                    batch.execute("DELETE FROM span WHERE source = ?1", [source])?;
                    batch.execute("DELETE FROM run WHERE source = ?1", [source])?;
                    batch.execute("DELETE FROM source WHERE id = ?1", [source])?;
                }
                batch.commit()?;
                if ids.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The id and the URI of each source.
    pub(crate) fn sources(&self) -> Result<Vec<(i64, String)>> {
        let mut sources = self.db.prepare_cached("SELECT id, uri FROM source ORDER BY uri")?;
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        Ok(sources.query_map([], row)?.collect::<Result<_, _>>()?)
    }
}

/// SQL: the values of the row `of` by which the attempts of an application are sorted. If several sources have the same attempt, the
/// last one is the one that [`is_better`] keeps.
fn newness(of: &str) -> String {
    format!("({of}.id >> {ID_BITS}, {of}.ended IS NOT NULL AND NOT {of}.is_ended_guessed, {of}.modified, {of}.id)")
}

/// Whether one event log tells more about an attempt than another one: the end, if one of them does, and else newer facts.
fn is_better(one: &Attempt, other: &Attempt) -> bool {
    let worth = |attempt: &Attempt| (attempt.ended.is_some() && !attempt.is_ended_guessed, attempt.modified);
    worth(one) > worth(other)
}
