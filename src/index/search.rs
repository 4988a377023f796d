//! Finding applications in the database: newest first, a page at a time.
//!
//! The ids of the table `attempt` are in the order of the list, so a page needs no sorting, and a search can stop when it has
//! its page. How many rows fit is counted exactly without a text, and else up to [`COUNTED`].

use super::store::{Attempt, ID_BITS, Store, count, id_of};
use anyhow::Result;
use rusqlite::{Row, ToSql, params_from_iter};
use serde::Serialize;

/// Up to how many fitting rows are counted.
const COUNTED: u64 = 10_000;
/// How many rows are compared with a text for counting alone, when the page is complete.
const COMPARED: u64 = 20_000;
/// How many of the newest names show how frequent three characters are.
const SAMPLE: i64 = 1000;
/// How many trigrams of a text are looked up. The names that have them are compared with the text itself.
const TRIGRAMS: usize = 4;
const MORE_TRIGRAMS: usize = 12;

/// Which applications to find.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    /// Words that must all occur in the name, the id or the user, in any case of letters.
    pub(crate) text: Option<String>,
    /// The whole name of the user.
    pub(crate) user: Option<String>,
    /// The earliest start, in milliseconds since 1970.
    pub(crate) since: Option<i64>,
    /// The latest start.
    pub(crate) until: Option<i64>,
    pub(crate) state: Option<RunState>,
    /// The ids of the sources.
    pub(crate) sources: Vec<i64>,
    /// Only logs whose keys below their source begin so.
    pub(crate) below: Option<String>,
    /// How many fitting rows to leave out at the beginning.
    pub(crate) offset: u64,
    /// How many rows to give at most.
    pub(crate) limit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RunState {
    /// The event log contains the application's end; the application can have failed
    Completed,
    /// The event log contains no end: the application runs, or was killed
    Incomplete,
}

/// How many rows fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Total {
    Exact(u64),
    AtLeast(u64),
}

/// An attempt of an application, and the log that tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) app: String,
    pub(crate) attempt: Option<String>,
    pub(crate) name: String,
    pub(crate) user: String,
    pub(crate) queue: Option<String>,
    pub(crate) spark: Option<String>,
    /// In milliseconds since 1970, as all times here but `modified`.
    pub(crate) started: i64,
    pub(crate) ended: Option<i64>,
    /// The end is not read yet: `ended` is when the log was written.
    pub(crate) is_ended_guessed: bool,
    /// In seconds since 1970.
    pub(crate) modified: i64,
    pub(crate) size: u64,
    /// The log's URI.
    pub(crate) log: String,
    pub(crate) codec: String,
}

/// The words of a search, in small letters.
struct Words(Vec<String>);

impl Words {
    fn of(text: Option<&str>) -> Self {
        Self(text.unwrap_or_default().split_whitespace().map(str::to_lowercase).collect())
    }

    fn are_in(&self, attempt: &Attempt) -> bool {
        self.0.is_empty() || {
            let (name, user) = (attempt.name.to_lowercase(), attempt.user.to_lowercase());
            let app = attempt.app.to_lowercase();
            let is_attempt = |word: &str| {
                with_attempt(word)
                    .is_some_and(|(id, number)| app.ends_with(id) && attempt.attempt.as_deref() == Some(number))
            };
            self.0
                .iter()
                .all(|word| name.contains(word) || app.contains(word) || user.contains(word) || is_attempt(word))
        }
    }

    fn trigrams(&self) -> Vec<String> {
        let mut found: Vec<String> = self
            .0
            .iter()
            .flat_map(|word| {
                let word = with_attempt(word).map_or(word.as_str(), |(id, _)| id);
                let letters: Vec<char> = word.chars().collect();
                letters.windows(3).map(|three| three.iter().collect()).collect::<Vec<String>>()
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// An id and the number of an attempt, as tables show them: `application_1795352263709_0003/1`.
fn with_attempt(word: &str) -> Option<(&str, &str)> {
    word.rsplit_once('/').filter(|(_, number)| crate::ids::is_digits(number, 1..=6))
}

/// Conditions of a query, with their values.
#[derive(Default)]
struct Conditions {
    words: Vec<String>,
    values: Vec<Box<dyn ToSql>>,
}

impl Conditions {
    fn add(&mut self, condition: &str, value: impl ToSql + 'static) {
        self.values.push(Box::new(value));
        self.words.push(condition.replace('?', &format!("?{}", self.values.len())));
    }

    fn text(&self) -> String {
        self.words.join(" AND ")
    }
}

impl Query {
    /// The conditions that an index answers alone, if these are all.
    fn conditions(&self, all_sources: bool) -> Conditions {
        let mut conditions = Conditions::default();
        if let Some(user) = &self.user {
            conditions.add("a.user = ?", user.clone());
        }
        if let Some(since) = self.since {
            conditions.add("a.id >= ?", id_of(since));
        }
        if let Some(until) = self.until {
            conditions.add("a.id < ?", id_of(until.saturating_add(1)));
        }
        match self.state {
            Some(RunState::Completed) => conditions.words.push("a.ended IS NOT NULL".into()),
            Some(RunState::Incomplete) => conditions.words.push("a.ended IS NULL".into()),
            None => {}
        }
        if let Some(below) = &self.below {
            let last = format!("{below}\u{10ffff}");
            conditions.add("(SELECT key FROM log WHERE log.id = a.log) >= ?", below.clone());
            conditions.add("(SELECT key FROM log WHERE log.id = a.log) < ?", last);
        }
        if !all_sources {
            let sources: Vec<String> = self.sources.iter().map(ToString::to_string).collect();
            conditions.words.push(format!("a.source IN ({})", sources.join(", ")));
        }
        conditions.words.push("a.is_hidden = 0".into());
        conditions
    }

    /// The index to use, because SQLite does not know how many rows each value has.
    fn through(&self, all_sources: bool) -> &'static str {
        match (&self.user, self.state) {
            (Some(_), _) => "INDEXED BY attempt_user",
            (None, Some(RunState::Incomplete)) => "INDEXED BY attempt_running",
            // A page far behind is reached through the narrow index, not through the rows.
            (None, None) if all_sources => "INDEXED BY attempt_hidden",
            (None, _) => "",
        }
    }

    /// Whether SQL tells which rows fit.
    fn has_conditions_alone(&self) -> bool {
        self.text.is_none() && self.below.is_none()
    }
}

impl Store {
    /// The attempts that fit, and how many fit in all.
    pub(crate) fn search(&self, query: &Query) -> Result<(Vec<Hit>, Total)> {
        let words = Words::of(query.text.as_deref());
        let all_sources = self.are_all(&query.sources)?;
        let mut conditions = query.conditions(all_sources);
        if query.has_conditions_alone() {
            return Ok((
                self.page(query, &conditions, all_sources)?,
                Total::Exact(self.count_by_sql(query, all_sources)?),
            ));
        }
        let trigrams = self.rare(words.trigrams())?;
        let (from, order) = match trigrams.as_slice() {
            [] => ("attempt a", "a.id"),
            rare => {
                let quoted: Vec<String> = rare.iter().map(|t| format!("\"{}\"", t.replace('"', "\"\""))).collect();
                conditions.add("words MATCH ?", quoted.join(" AND "));
                // An id of the words is an id of an attempt, and what orders the one orders the other.
                conditions.words.iter_mut().for_each(|c| *c = c.replace("a.id", "words.rowid"));
                ("words CROSS JOIN attempt a ON a.id = words.rowid", "words.rowid")
            }
        };
        let sql = format!("SELECT {} FROM {from} WHERE {} ORDER BY {order} DESC", Attempt::COLUMNS, conditions.text());
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(conditions.values.iter()))?;
        let (mut found, mut fitting) = (Vec::new(), 0);
        let end = query.offset.saturating_add(query.limit);
        let mut compared = 0;
        while let Some(row) = rows.next()? {
            // With a page that is complete, only the number matters.
            if fitting >= end {
                compared += 1;
                if fitting > COUNTED.max(end) || compared > COMPARED {
                    return Ok((found, Total::AtLeast(fitting)));
                }
            }
            let attempt = Attempt::read(row)?;
            if words.are_in(&attempt) {
                if (query.offset..end).contains(&fitting) {
                    found.push(self.hit(attempt)?);
                }
                fitting += 1;
            }
        }
        Ok((found, Total::Exact(fitting)))
    }

    /// A page of the attempts that fit conditions that SQL can tell.
    fn page(&self, query: &Query, conditions: &Conditions, all_sources: bool) -> Result<Vec<Hit>> {
        let through = query.through(all_sources);
        let sql = format!(
            "SELECT {} FROM attempt a WHERE a.id IN
             (SELECT a.id FROM attempt a {through} WHERE {} ORDER BY a.id DESC LIMIT {} OFFSET {}) ORDER BY a.id DESC",
            Attempt::COLUMNS,
            conditions.text(),
            count(query.limit),
            count(query.offset),
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(conditions.values.iter()))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(self.hit(Attempt::read(row)?)?);
        }
        Ok(found)
    }

    /// How many attempts fit conditions that SQL can tell.
    fn count_by_sql(&self, query: &Query, all_sources: bool) -> Result<u64> {
        let number = |state: Option<RunState>| -> Result<u64> {
            let query = Query { state, ..query.clone() };
            let conditions = query.conditions(all_sources);
            let through = query.through(all_sources);
            let sql = format!("SELECT count(*) FROM attempt a {through} WHERE {}", conditions.text());
            let mut statement = self.db.prepare_cached(&sql)?;
            let found: i64 = statement.query_row(params_from_iter(conditions.values.iter()), |row| row.get(0))?;
            Ok(found.unsigned_abs())
        };
        match query.state {
            // The index of incomplete attempts is small.
            Some(RunState::Completed) => Ok(number(None)?.saturating_sub(number(Some(RunState::Incomplete))?)),
            state => number(state),
        }
    }

    /// Whether these are all sources of the database.
    fn are_all(&self, sources: &[i64]) -> Result<bool> {
        let known: i64 = self.db.query_row("SELECT count(*) FROM source", [], |row| row.get(0))?;
        Ok(known.unsigned_abs() <= sources.len() as u64)
    }

    /// The rarest of some trigrams, by a sample of the newest names.
    fn rare(&self, trigrams: Vec<String>) -> Result<Vec<String>> {
        if trigrams.len() <= TRIGRAMS {
            return Ok(trigrams);
        }
        let mut statement = self.db.prepare_cached("SELECT name, app, user FROM attempt ORDER BY id DESC LIMIT ?1")?;
        let text = |row: &Row<'_>| -> rusqlite::Result<String> {
            let part = |at| row.get::<_, String>(at);
            Ok([part(0)?, part(1)?, part(2)?].join("\n").to_lowercase())
        };
        let sample: Vec<String> = statement.query_map([SAMPLE], text)?.collect::<Result<_, _>>()?;
        let mut counted: Vec<(usize, String)> = trigrams
            .into_iter()
            .map(|trigram| {
                let finder = memchr::memmem::Finder::new(trigram.as_bytes());
                (sample.iter().filter(|text| finder.find(text.as_bytes()).is_some()).count(), trigram)
            })
            .collect();
        counted.sort_unstable();
        let is_rare = counted.first().is_some_and(|(times, _)| *times * 10 < sample.len().max(1));
        let wanted = if is_rare { TRIGRAMS } else { MORE_TRIGRAMS };
        Ok(counted.into_iter().take(wanted).map(|(_, trigram)| trigram).collect())
    }

    fn hit(&self, attempt: Attempt) -> Result<Hit> {
        let mut statement = self.db.prepare_cached(
            "SELECT uri || key, codec FROM log JOIN source ON source.id = log.source WHERE log.id = ?1",
        )?;
        let (log, codec) = statement.query_row([attempt.log], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Hit {
            app: attempt.app,
            attempt: attempt.attempt,
            name: attempt.name,
            user: attempt.user,
            queue: attempt.queue,
            spark: attempt.spark,
            started: attempt.started,
            ended: attempt.ended,
            is_ended_guessed: attempt.is_ended_guessed,
            modified: attempt.modified,
            size: attempt.size.unsigned_abs(),
            log,
            codec,
        })
    }

    /// How many attempts the list shows, and when the newest of them started.
    pub(crate) fn shown(&self, source: i64) -> Result<(u64, Option<i64>)> {
        let row = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, Option<i64>>(1)?));
        let sql = "SELECT count(*), max(id) FROM attempt WHERE source = ?1";
        let (all, newest) = self.db.query_row(sql, [source], row)?;
        let hidden = "SELECT count(*) FROM attempt WHERE is_hidden = 1 AND source = ?1";
        let hidden: i64 = self.db.query_row(hidden, [source], |row| row.get(0))?;
        Ok((all.saturating_sub(hidden.unsigned_abs()), newest.map(|id| id >> ID_BITS)))
    }
}
