//! Finding applications in the database, a page at a time.
//!
//! The ids of the table `attempt` are in the order of the list, the newest first: a page needs no sorting, and a search can stop
//! when it has its page. So can the oldest first without a text; any other order visits every attempt that fits. How many rows fit
//! is counted exactly without a text and in other orders, and else up to [`COUNTED`].

use super::attempts::{Attempt, ID_BITS, id_of};
use super::store::{Store, count};
use anyhow::Result;
use memchr::memmem;
use rusqlite::{Row, ToSql, params, params_from_iter};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How many bits of an attempt's id a span of the table `span` leaves out.
const SPAN: u32 = 42;
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
    /// The whole name of the user, in any case of ASCII letters.
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
    pub(crate) order: Order,
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

/// Which rows come first. Among equal ones, those that started later do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Order {
    /// Those that started last
    #[default]
    Newest,
    /// Those that started first
    Oldest,
    /// Those that ended last; incomplete ones come at the end
    Ended,
    /// Those that took the longest; incomplete ones come at the end
    Longest,
    /// Those with the largest event log
    Largest,
}

impl Order {
    /// What sorts attempts before their ids do, the greatest first, as an expression of SQL. Whoever writes an event log chooses its
    /// times: their difference can be too large for an integer.
    fn key(self) -> &'static str {
        match self {
            Self::Newest => "NULL",
            Self::Oldest => "-a.id",
            Self::Ended => "a.ended",
            Self::Longest => "CAST(a.ended - a.started AS INTEGER)",
            Self::Largest => "a.size",
        }
    }

    /// What stands behind ORDER BY in SQL.
    fn sql(self) -> String {
        match self {
            // The order of the table: a page needs no sorting.
            Self::Newest => "a.id DESC".into(),
            Self::Oldest => "a.id".into(),
            other => format!("{} DESC, a.id DESC", other.key()),
        }
    }
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
struct Words(Vec<Word>);

struct Word {
    text: String,
    finder: memmem::Finder<'static>,
    /// The word as an id and the number of an attempt.
    attempt: Option<(String, String)>,
}

/// Small letters, one letter at a time: what a letter becomes does not depend on its neighbours.
fn small(text: &str, into: &mut String) {
    match text.is_ascii() {
        true => {
            let begin = into.len();
            into.push_str(text);
            into[begin..].make_ascii_lowercase();
        }
        false => into.extend(text.chars().flat_map(char::to_lowercase)),
    }
}

impl Words {
    fn of(text: Option<&str>) -> Self {
        let words = text.unwrap_or_default().split_whitespace().map(|word| {
            let mut text = String::new();
            small(word, &mut text);
            let attempt = with_attempt(&text).map(|(id, number)| (id.to_string(), number.to_string()));
            Word { finder: memmem::Finder::new(&text).into_owned(), attempt, text }
        });
        Self(words.collect())
    }

    /// Whether all words occur in the row of a query for [`Attempt::COLUMNS`]. `buffer` is kept from row to row.
    fn are_in(&self, row: &Row<'_>, buffer: &mut String) -> Result<bool> {
        if self.0.is_empty() {
            return Ok(true);
        }
        buffer.clear();
        for column in [Attempt::NAME, Attempt::USER, Attempt::APP] {
            // No word contains it.
            buffer.push('\n');
            small(row.get_ref(column)?.as_str()?, buffer);
        }
        for word in &self.0 {
            let is_in = word.finder.find(buffer.as_bytes()).is_some()
                || match &word.attempt {
                    Some((id, number)) => {
                        buffer.ends_with(id.as_str())
                            && row.get_ref(Attempt::ATTEMPT)?.as_str_or_null()? == Some(number.as_str())
                    }
                    None => false,
                };
            if !is_in {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn trigrams(&self) -> Vec<String> {
        let mut found: Vec<String> = self
            .0
            .iter()
            .flat_map(|word| {
                let word = word.attempt.as_ref().map_or(&word.text, |(id, _)| id);
                let letters: Vec<char> = word.chars().collect();
                let kept = letters.windows(3).filter(|three| three.iter().all(|letter| is_folded_alike(*letter)));
                kept.map(|three| three.iter().collect()).collect::<Vec<String>>()
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Whether SQLite makes the same small letter of it as Rust does: letters without cases, but for marks that Rust puts behind
/// a letter, and for NUL, at which FTS5 takes a query to end.
fn is_folded_alike(letter: char) -> bool {
    let is_mark = ('\u{300}'..='\u{36f}').contains(&letter);
    letter.is_ascii() && letter != '\0'
        || !letter.is_ascii() && !is_mark && letter.to_lowercase().eq([letter]) && letter.to_uppercase().eq([letter])
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
            conditions.words.push(format!("a.source IN ({})", listed(&self.sources)));
        }
        conditions.words.push("a.is_hidden = 0".into());
        conditions
    }

    /// The index to use, because SQLite does not know how many rows each value has. Whatever is used gives attempts in the order
    /// of the list.
    fn through(&self) -> &'static str {
        match (&self.user, self.state) {
            (Some(_), _) => "INDEXED BY attempt_user",
            (None, Some(RunState::Incomplete)) => "INDEXED BY attempt_running",
            (None, _) => "NOT INDEXED",
        }
    }

    /// The attempts of a span that fit the state, as an expression of its columns.
    fn in_span(&self) -> &'static str {
        match self.state {
            None => "shown",
            Some(RunState::Incomplete) => "running",
            Some(RunState::Completed) => "shown - running",
        }
    }

    /// Whether SQL tells which rows fit.
    fn has_conditions_alone(&self) -> bool {
        self.text.is_none() && self.below.is_none()
    }
}

/// The rarest of some trigrams, by a sample of the newest names.
fn rare(trigrams: Vec<String>, sample: &[String]) -> Vec<String> {
    if trigrams.len() <= TRIGRAMS {
        return trigrams;
    }
    let mut counted: Vec<(usize, String)> = trigrams
        .into_iter()
        .map(|trigram| {
            let finder = memmem::Finder::new(trigram.as_bytes());
            (sample.iter().filter(|text| finder.find(text.as_bytes()).is_some()).count(), trigram)
        })
        .collect();
    counted.sort_unstable();
    let is_rare = counted.first().is_some_and(|(times, _)| *times * 10 < sample.len().max(1));
    let wanted = if is_rare { TRIGRAMS } else { MORE_TRIGRAMS };
    counted.into_iter().take(wanted).map(|(_, trigram)| trigram).collect()
}

fn listed(sources: &[i64]) -> String {
    sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Store {
    /// The attempts that fit, and how many fit in all.
    pub(crate) fn search(&self, query: &Query) -> Result<(Vec<Hit>, Total)> {
        let words = Words::of(query.text.as_deref());
        let all_sources = self.are_all(&query.sources)?;
        if query.has_conditions_alone() {
            return Ok((self.page(query, all_sources)?, Total::Exact(self.count_by_sql(query)?)));
        }
        let mut conditions = query.conditions(all_sources);
        let trigrams = words.trigrams();
        let has_choice = trigrams.len() > TRIGRAMS || query.user.is_some() && !words.0.is_empty();
        let sample = if has_choice { self.sample()? } else { Vec::new() };
        let trigrams = match self.is_user_rarer(query, &words, &sample)? {
            true => Vec::new(),
            false => rare(trigrams, &sample),
        };
        let (from, order) = match trigrams.as_slice() {
            [] => (format!("attempt a {}", query.through()), "a.id"),
            rare => {
                let quoted: Vec<String> = rare.iter().map(|t| format!("\"{}\"", t.replace('"', "\"\""))).collect();
                conditions.add("words MATCH ?", quoted.join(" AND "));
                // An id of the words is an id of an attempt, and what orders the one orders the other.
                conditions.words.iter_mut().for_each(|c| *c = c.replace("a.id", "words.rowid"));
                ("words CROSS JOIN attempt a ON a.id = words.rowid".to_string(), "words.rowid")
            }
        };
        if query.order != Order::Newest {
            return self.search_sorted(query, &words, &from, &conditions);
        }
        let sql = format!("SELECT {} FROM {from} WHERE {} ORDER BY {order} DESC", Attempt::COLUMNS, conditions.text());
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(conditions.values.iter()))?;
        let (mut found, mut fitting) = (Vec::new(), 0);
        let end = query.offset.saturating_add(query.limit);
        let mut compared = 0;
        let mut buffer = String::new();
        while let Some(row) = rows.next()? {
            // With a page that is complete, only the number matters.
            if fitting >= end {
                compared += 1;
                if fitting > COUNTED.max(end) || compared > COMPARED {
                    return Ok((found, Total::AtLeast(fitting)));
                }
            }
            if words.are_in(row, &mut buffer)? {
                if (query.offset..end).contains(&fitting) {
                    found.push(self.hit(Attempt::read(row)?)?);
                }
                fitting += 1;
            }
        }
        Ok((found, Total::Exact(fitting)))
    }

    /// A page of the attempts among `from` that fit the conditions and have the words, in another order than that of their ids.
    fn search_sorted(
        &self,
        query: &Query,
        words: &Words,
        from: &str,
        conditions: &Conditions,
    ) -> Result<(Vec<Hit>, Total)> {
        let key = query.order.key();
        // What the first statement finds must still be there for the second one.
        let _snapshot = self.db.unchecked_transaction()?;
        let sql = format!(
            "SELECT {}, {key} AS sort_key, a.id AS attempt_id FROM {from} WHERE {}",
            Attempt::COLUMNS,
            conditions.text()
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(conditions.values.iter()))?;
        let end = usize::try_from(query.offset.saturating_add(query.limit)).unwrap_or(usize::MAX);
        // The first rows, up to the end of the page. The last of them is at the top.
        let mut first = BinaryHeap::new();
        let (mut fitting, mut buffer) = (0, String::new());
        while let Some(row) = rows.next()? {
            if words.are_in(row, &mut buffer)? {
                fitting += 1;
                first.push(Reverse((row.get::<_, Option<i64>>("sort_key")?, row.get::<_, i64>("attempt_id")?)));
                if first.len() > end {
                    first.pop();
                }
            }
        }
        let sql = format!("SELECT {} FROM attempt a WHERE a.id = ?1", Attempt::COLUMNS);
        let mut attempt = self.db.prepare_cached(&sql)?;
        let offset = usize::try_from(query.offset).unwrap_or(usize::MAX);
        let page = first.into_sorted_vec().into_iter().skip(offset);
        let hits = page.map(|Reverse((_, id))| self.hit(attempt.query_row([id], Attempt::read)?));
        Ok((hits.collect::<Result<_>>()?, Total::Exact(fitting)))
    }

    /// A page of the attempts that fit conditions that SQL can tell.
    fn page(&self, query: &Query, all_sources: bool) -> Result<Vec<Hit>> {
        let through = query.through();
        let (offset, before) = self.place(query)?;
        let mut conditions = query.conditions(all_sources);
        if let Some(before) = before {
            conditions.add("a.id < ?", before);
        }
        let sql = format!(
            "SELECT {} FROM attempt a WHERE a.id IN
             (SELECT a.id FROM attempt a {through} WHERE {} ORDER BY {order} LIMIT {} OFFSET {}) ORDER BY {order}",
            Attempt::COLUMNS,
            conditions.text(),
            count(query.limit),
            count(offset),
            order = query.order.sql(),
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(conditions.values.iter()))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(self.hit(Attempt::read(row)?)?);
        }
        Ok(found)
    }

    /// Where the page of a query begins: how many attempts to leave out among those whose ids are below the second number. Whole
    /// spans of time are left out by their numbers.
    fn place(&self, query: &Query) -> Result<(u64, Option<i64>)> {
        if query.offset == 0 || query.user.is_some() || query.order != Order::Newest {
            return Ok((query.offset, None));
        }
        let mut left = query.offset;
        let mut before = None;
        // The span that `until` divides.
        if let Some(until) = query.until {
            let end = id_of(until.saturating_add(1));
            let begin = end >> SPAN << SPAN;
            let in_it = self.count_ids(query, begin, end)?;
            if in_it > left {
                return Ok((left, None));
            }
            (left, before) = (left - in_it, Some(begin));
        }
        let mut spans = self.db.prepare_cached(&format!(
            "SELECT span, sum({}) FROM span WHERE source IN ({}) AND span < ?1 GROUP BY span ORDER BY span DESC",
            query.in_span(),
            listed(&query.sources),
        ))?;
        let mut spans = spans.query([before.map_or(i64::MAX, |id| id >> SPAN)])?;
        while let Some(row) = spans.next()? {
            let in_it = row.get::<_, i64>(1)?.unsigned_abs();
            if in_it > left {
                break;
            }
            (left, before) = (left - in_it, Some(row.get::<_, i64>(0)? << SPAN));
        }
        Ok((left, before))
    }

    /// How many attempts fit conditions that SQL can tell.
    fn count_by_sql(&self, query: &Query) -> Result<u64> {
        let begin = query.since.map_or(0, id_of);
        let end = query.until.map_or(i64::MAX, |until| id_of(until.saturating_add(1)));
        // Whole spans between both.
        let is_inside = begin & ((1 << SPAN) - 1) > 0;
        let first = (begin >> SPAN) + i64::from(is_inside);
        // Whoever writes an event log chooses when it started: the last span is whole, too.
        let last = query.until.map_or(i64::MAX, |_| end >> SPAN);
        if query.user.is_some() || first >= last {
            return self.count_ids(query, begin, end);
        }
        let sql = format!(
            "SELECT ifnull(sum({}), 0) FROM span WHERE source IN ({}) AND span >= ?1 AND span < ?2",
            query.in_span(),
            listed(&query.sources),
        );
        let whole: i64 = self.db.prepare_cached(&sql)?.query_row([first, last], |row| row.get(0))?;
        let mut all = whole.unsigned_abs() + self.count_ids(query, begin, first << SPAN)?;
        if query.until.is_some() {
            all += self.count_ids(query, last << SPAN, end)?;
        }
        Ok(all)
    }

    /// How many of the attempts that fit have ids from `begin` (inclusive) to `end` (exclusive).
    fn count_ids(&self, query: &Query, begin: i64, end: i64) -> Result<u64> {
        if begin >= end {
            return Ok(0);
        }
        let all_sources = self.are_all(&query.sources)?;
        let number = |state: Option<RunState>| -> Result<u64> {
            let query = Query { state, since: None, until: None, ..query.clone() };
            let mut conditions = query.conditions(all_sources);
            conditions.add("a.id >= ?", begin);
            conditions.add("a.id < ?", end);
            let through = query.through();
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

    /// Whether fewer attempts are of the wanted user than have the words, as far as a sample tells.
    fn is_user_rarer(&self, query: &Query, words: &Words, sample: &[String]) -> Result<bool> {
        let Some(user) = query.user.as_ref().filter(|_| !words.0.is_empty()) else { return Ok(false) };
        let all: i64 = self.db.query_row("SELECT ifnull(sum(shown), 0) FROM span", [], |row| row.get(0))?;
        let have = |text: &&String| words.0.iter().all(|word| word.finder.find(text.as_bytes()).is_some());
        let with_words = all.saturating_mul(count(sample.iter().filter(have).count() as u64)) / SAMPLE;
        let mut of_user = self.db.prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM attempt INDEXED BY attempt_user WHERE user = ?1 AND is_hidden = 0 LIMIT ?2)",
        )?;
        let of_user: i64 = of_user.query_row(params![user, with_words], |row| row.get(0))?;
        Ok(of_user < with_words)
    }

    /// The names, ids and users of the newest attempts in small letters.
    fn sample(&self) -> Result<Vec<String>> {
        let mut statement = self.db.prepare_cached("SELECT name, app, user FROM attempt ORDER BY id DESC LIMIT ?1")?;
        let text = |row: &Row<'_>| -> rusqlite::Result<String> {
            let part = |at| row.get::<_, String>(at);
            let mut text = String::new();
            small(&[part(0)?, part(1)?, part(2)?].join("\n"), &mut text);
            Ok(text)
        };
        Ok(statement.query_map([SAMPLE], text)?.collect::<Result<_, _>>()?)
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
        let row = |row: &Row<'_>| Ok(row.get::<_, i64>(0)?.unsigned_abs());
        let all = self.db.query_row("SELECT ifnull(sum(shown), 0) FROM span WHERE source = ?1", [source], row)?;
        let last = "SELECT max(span) FROM span WHERE source = ?1 AND shown > 0";
        let Some(last) = self.db.query_row(last, [source], |row| row.get::<_, Option<i64>>(0))? else {
            return Ok((all, None));
        };
        let newest =
            "SELECT max(id) FROM attempt NOT INDEXED WHERE source = ?1 AND is_hidden = 0 AND id BETWEEN ?2 AND ?3";
        let (begin, end) = (last << SPAN, last << SPAN | ((1 << SPAN) - 1));
        let newest: Option<i64> = self.db.query_row(newest, [source, begin, end], |row| row.get(0))?;
        Ok((all, newest.map(|id| id >> ID_BITS)))
    }
}
