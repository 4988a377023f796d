//! The snapshot: what the index knows, as one object in the first source, so that a new node need not read every log.
//!
//! Whoever may write event logs can forge it. So a reader bounds its size, takes rows of its own sources alone, and only such
//! keys as a log can have; and the next complete listing removes every row that S3 does not show with the same size, time and
//! tag.
//!
//! It is lines of JSON, compressed with zstd: a [`Header`], and a [`Line`] for each log. Of each source, the logs that were
//! written last come first, so that a new node can show them while it reads the others.

use super::attempts::{Attempt, Batch};
use super::layout::{Logs, Object, is_codec};
use super::logs::State;
use super::remote::{Condition, NotWritten, Remote};
use super::store::Store;
use crate::aws::error::S3Error;
use crate::ids::Application;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::time::Duration;

/// The snapshot's key below the first source. The history server passes over names that begin with a dot.
pub(crate) const KEY: &str = ".emr-shs/index-v1.zst";
const FORMAT: &str = "emr-shs index";
const VERSION: u32 = 1;
/// The largest snapshot, as it lies in S3.
const PACKED: u64 = 256 << 20;
/// The most bytes that are unpacked.
const UNPACKED: u64 = 2 << 30;
/// How long reading the snapshot may take.
const LOADING: Duration = Duration::from_secs(60);
/// How long S3 may take to take it.
const WRITING: Duration = Duration::from_secs(60);
/// How many rows that are not this node's are passed on, and how many bytes they may have.
const PASSED_ON: (usize, usize) = (200_000, 64 << 20);
/// How many rows are written at once: few at first, so that a new node soon shows the newest.
const FIRST: usize = 1000;
const TOGETHER: usize = 20_000;
/// The longest line. Names of applications can be long.
const LINE: u64 = 64 << 10;
/// The largest window of a zstd frame, as a power of two. A decoder allocates it before it gives the first byte.
const WINDOW: u32 = 23;
/// How long rows of a source that no node lists any more are passed on, in milliseconds.
const FORGOTTEN: i64 = 30 * 86_400_000;
/// How far the clocks of two nodes may differ, in milliseconds.
const CLOCKS: i64 = 3_600_000;
/// How often a snapshot is merged with one that another node has written meanwhile.
const ATTEMPTS: u32 = 6;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
    /// In milliseconds since 1970.
    written: i64,
    /// Each source with the time of its last complete listing.
    sources: Vec<(String, i64)>,
}

/// An event log. The fields are those of the tables `log` and `attempt`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line {
    /// The source's position in the header.
    #[serde(rename = "s")]
    source: usize,
    #[serde(rename = "k")]
    key: String,
    #[serde(rename = "z")]
    size: i64,
    #[serde(rename = "m")]
    modified: i64,
    #[serde(rename = "e")]
    etag: String,
    #[serde(rename = "c")]
    is_closed: bool,
    /// A rolling log's key does not tell it.
    codec: String,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    application: Option<ApplicationLine>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ApplicationLine {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempt: Option<String>,
    name: String,
    user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spark: Option<String>,
    started: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<i64>,
}

/// What reading a snapshot came to.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// How many logs the database has from it.
    pub(crate) rows: u64,
    /// When it was written, in milliseconds since 1970.
    pub(crate) written: i64,
    /// The rows of other nodes' sources, to be passed on: each source with its time and its lines.
    others: BTreeMap<String, (i64, Vec<Line>)>,
    /// Rows of own sources that were written after this node's last listing, so that this node cannot check them: each with
    /// the source's id.
    newer: Vec<(i64, Line)>,
}

/// What writing a snapshot came to.
#[derive(Debug)]
pub(crate) enum Written {
    Done,
    /// Other nodes wrote again and again.
    Outrun,
    /// S3 did not take it in time.
    TooSlow,
    Failed(S3Error),
}

/// Reads the snapshot into the database. `None` if there is none, or none that can be used. `tell` gets how many logs the
/// database has from it by now, and when it was written, in milliseconds since 1970.
pub(crate) async fn load(
    store: &mut Store,
    remote: &Remote,
    sources: &[(i64, String)],
    tell: &mut dyn FnMut(u64, i64),
) -> Result<(Option<Loaded>, Option<String>), LoadError> {
    let Some((body, size, tag)) = remote.get(KEY).await.map_err(LoadError::S3)? else { return Ok((None, None)) };
    if size.is_none_or(|size| size > PACKED) {
        return Ok((None, Some(tag)));
    }
    // One that breaks off is as good as none.
    let Ok(Ok(packed)) = tokio::time::timeout(LOADING, body.collect()).await else { return Ok((None, None)) };
    let packed = packed.into_bytes();
    match take(store, &packed, sources, tell) {
        Ok(loaded) => Ok((Some(loaded), Some(tag))),
        // A database that fails is no fault of the snapshot.
        Err(error) if error.downcast_ref::<rusqlite::Error>().is_some() => Err(LoadError::Store(error)),
        Err(_) => Ok((None, Some(tag))),
    }
}

pub(crate) enum LoadError {
    S3(S3Error),
    Store(anyhow::Error),
}

/// Takes the rows of a packed snapshot. Of one that is damaged behind its header, those before the damage.
fn take(store: &mut Store, packed: &[u8], sources: &[(i64, String)], tell: &mut dyn FnMut(u64, i64)) -> Result<Loaded> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
    decoder.window_log_max(WINDOW)?;
    let mut lines = BufReader::new(decoder.take(UNPACKED));
    let mut line = Vec::new();
    if !next_line(&mut lines, &mut line)? {
        bail!("it is empty");
    }
    let header: Header = serde_json::from_slice(&line).context("it has no header")?;
    if header.format != FORMAT || header.version != VERSION {
        bail!("it has version {}", header.version);
    }
    // Each source of the snapshot, if this node has it.
    let mut own = Vec::new();
    for (uri, _) in &header.sources {
        let id = sources.iter().find(|(_, known)| known == uri).map(|(id, _)| *id);
        own.push(match id {
            Some(id) => Some(OwnSource { id, listed: store.listed(id)?.0, has_logs: store.has_logs(id)? }),
            None => None,
        });
    }
    let mut loaded = Loaded { written: header.written, ..Loaded::default() };
    let (mut passed_on, mut passed_bytes) = (0, 0);
    let mut rows: Vec<(usize, Line)> = Vec::new();
    let mut together = FIRST;
    loop {
        let has_line = next_line(&mut lines, &mut line).unwrap_or(false);
        if !has_line || rows.len() == together {
            together = TOGETHER;
            // The database takes rows faster in the order of its ids.
            rows.sort_unstable_by_key(|(_, row)| row.application.as_ref().map(|application| application.started));
            let mut batch = Batch::begin(&mut store.db)?;
            for (bytes, row) in rows.drain(..) {
                let Some(source) = &own[row.source] else { continue };
                match take_row(&mut batch, source, &row)? {
                    Taken::Yes => loaded.rows += 1,
                    Taken::NotKnown if passed_on < PASSED_ON.0 && passed_bytes + bytes < PASSED_ON.1 => {
                        (passed_on, passed_bytes) = (passed_on + 1, passed_bytes + bytes);
                        loaded.newer.push((source.id, row));
                    }
                    Taken::No | Taken::NotKnown => {}
                }
            }
            batch.commit()?;
            if loaded.rows > 0 {
                tell(loaded.rows, header.written);
            }
        }
        if !has_line {
            return Ok(loaded);
        }
        let Ok(row) = serde_json::from_slice::<Line>(&line) else { continue };
        let Some((uri, listed)) = header.sources.get(row.source) else { continue };
        if !row.can_be_a_log() {
            continue;
        }
        let has_room = passed_on < PASSED_ON.0 && passed_bytes + line.len() < PASSED_ON.1;
        match own[row.source] {
            Some(_) => rows.push((line.len(), row)),
            None if has_room => {
                (passed_on, passed_bytes) = (passed_on + 1, passed_bytes + line.len());
                loaded.others.entry(uri.clone()).or_insert((*listed, Vec::new())).1.push(row);
            }
            None => {}
        }
    }
}

/// Reads a line without its end. `false` at the end of the text. A line that is too long is passed over.
fn next_line(text: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool> {
    loop {
        line.clear();
        if text.take(LINE).read_until(b'\n', line)? == 0 {
            return Ok(false);
        }
        if line.pop_if(|last| *last == b'\n').is_some() {
            return Ok(true);
        }
        let is_too_long = line.len() as u64 == LINE;
        if !is_too_long {
            return Ok(true);
        }
        // The rest of the line.
        loop {
            line.clear();
            let read = text.take(LINE).read_until(b'\n', line)?;
            if read == 0 || line.ends_with(b"\n") {
                break;
            }
        }
    }
}

impl Line {
    /// Whether a listing can find a log with this key, and the facts have a place.
    fn can_be_a_log(&self) -> bool {
        let name = match self.key.strip_suffix('/') {
            Some(directory) => format!("{directory}/events_1_x"),
            None => self.key.clone(),
        };
        let mut logs = Logs::default();
        let object = Object { key: name, size: 1, modified: self.modified, etag: String::new() };
        let found = logs.push(object).next().or_else(|| logs.finish());
        let has_facts = self.application.is_some() != self.problem.is_some();
        has_facts
            && self.size >= 0
            && (is_codec(&self.codec) || self.application.is_none())
            && found.is_some_and(|found| found.key == self.key)
            && self
                .application
                .as_ref()
                .is_none_or(|application| !application.id.is_empty() && !is_synthetic(&application.id))
    }
}

fn is_synthetic(id: &str) -> bool {
    Application::parse(id).is_some_and(|application| application.is_synthetic())
}

/// A source of a snapshot that is a source of this node, too, before the snapshot is taken.
struct OwnSource {
    /// In this database.
    id: i64,
    /// When this node has last listed it completely.
    listed: Option<i64>,
    /// Whether this database has logs of it. Without any, none is looked for.
    has_logs: bool,
}

/// Whether the database has a row of a snapshot now.
enum Taken {
    Yes,
    /// This node knows better.
    No,
    /// Its last listing does not tell.
    NotKnown,
}

/// What the database has of the log of a row: its id, whether it is the same object, and its state.
fn known(db: &Batch<'_>, source: i64, row: &Line) -> Result<Option<(i64, bool, i64)>> {
    let mut query =
        db.prepare_cached("SELECT id, size, modified, etag, is_closed, state FROM log WHERE source = ?1 AND key = ?2")?;
    let known = query.query_row(params![source, row.key], |known| {
        let size_and_times = (known.get::<_, i64>(1)?, known.get::<_, i64>(2)?);
        let tag_and_end = (known.get_ref(3)?.as_str()?, known.get::<_, bool>(4)?);
        let is_same = size_and_times == (row.size, row.modified) && tag_and_end == (row.etag.as_str(), row.is_closed);
        Ok((known.get(0)?, is_same, known.get(5)?))
    });
    Ok(known.optional()?)
}

/// Takes a row, unless this node knows better.
fn take_row(db: &mut Batch<'_>, own: &OwnSource, row: &Line) -> Result<Taken> {
    let OwnSource { id: source, listed, has_logs } = *own;
    let known = if has_logs { known(db, source, row)? } else { None };
    let state = if row.application.is_some() { State::Read } else { State::NoApplication };
    let (log, is_new) = match known {
        Some((id, true, known)) if known < State::Read as i64 => {
            db.prepare_cached(
                "UPDATE log SET state = ?2, problem = ?3, parts = NULL, tries = 0, next_try = 0 WHERE id = ?1",
            )?
            .execute(params![id, state as i64, row.problem])?;
            // What the log showed before it changed is no longer true.
            if row.application.is_none() {
                db.delete_attempt(id)?;
            }
            (id, false)
        }
        Some(_) => return Ok(Taken::No),
        // The log was deleted before this node's last complete listing.
        None if listed.is_some_and(|listed| row.modified.saturating_mul(1000) < listed - CLOCKS) => {
            return Ok(Taken::No);
        }
        None if listed.is_some() => return Ok(Taken::NotKnown),
        None => {
            let mut insert = db.prepare_cached(
                "INSERT INTO log (source, key, size, modified, etag, is_closed, codec, state, problem)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
            )?;
            let inserted = insert.execute(params![
                source,
                row.key,
                row.size,
                row.modified,
                row.etag,
                row.is_closed,
                row.codec,
                state as i64,
                row.problem
            ])?;
            drop(insert);
            // The snapshot has two rows of this key.
            if inserted == 0 {
                return Ok(Taken::No);
            }
            (db.last_insert_rowid(), true)
        }
    };
    if let Some(application) = &row.application {
        let attempt = Attempt {
            log,
            source,
            app: application.id.clone(),
            attempt: application.attempt.clone(),
            name: application.name.clone(),
            user: application.user.clone(),
            queue: application.queue.clone(),
            spark: application.spark.clone(),
            started: application.started,
            ended: application.ended,
            is_ended_guessed: false,
            modified: row.modified,
            size: row.size,
        };
        if is_new { db.add_attempt(&attempt)? } else { db.insert_attempt(&attempt)? }
    }
    Ok(Taken::Yes)
}

/// Writes the snapshot of these sources to the first of them. What another node has written meanwhile is taken over first.
pub(crate) async fn write(store: &mut Store, remote: &Remote, sources: &[(i64, String)], now: i64) -> Result<Written> {
    /// Whether the store knows conditional writes, as far as this database has learned.
    const CONDITIONAL: &str = "store_knows_conditions";
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            let pause = Duration::from_millis(100 << attempt);
            tokio::time::sleep(pause + pause.mul_f64(f64::from(std::process::id() % 100) / 100.0)).await;
        }
        let (theirs, tag) = match load(store, remote, sources, &mut |_, _| {}).await {
            Ok(loaded) => loaded,
            Err(LoadError::S3(error)) => return Ok(Written::Failed(error)),
            Err(LoadError::Store(error)) => return Err(error),
        };
        let packed = pack(store, sources, theirs.unwrap_or_default(), now)?;
        let packed = Bytes::from(packed);
        let knows = store.fact(CONDITIONAL)?;
        let condition = match (&tag, knows.as_deref()) {
            (_, Some("no")) => Condition::Always,
            (None, _) => Condition::Absent,
            // The first write tests the store, which must refuse to create an object that exists. A store that accepts it
            // ignores conditions; what it has written then is a good snapshot, too.
            (Some(_), None) => Condition::Absent,
            (Some(tag), Some(_)) => Condition::Is(tag),
        };
        let is_test = tag.is_some() && matches!(condition, Condition::Absent);
        let Ok(put) = tokio::time::timeout(WRITING, remote.put(KEY, packed, condition)).await else {
            return Ok(Written::TooSlow);
        };
        match put {
            Ok(()) => {
                if is_test {
                    store.set_fact(CONDITIONAL, "no")?;
                }
                return Ok(Written::Done);
            }
            Err(NotWritten::Outrun) if is_test => store.set_fact(CONDITIONAL, "yes")?,
            Err(NotWritten::Outrun) => {}
            Err(NotWritten::Unconditional) => store.set_fact(CONDITIONAL, "no")?,
            Err(NotWritten::Failed(error)) => return Ok(Written::Failed(error)),
        }
    }
    Ok(Written::Outrun)
}

fn pack(store: &Store, sources: &[(i64, String)], theirs: Loaded, now: i64) -> Result<Vec<u8>> {
    let mut header = Header { format: FORMAT.into(), version: VERSION, written: now, sources: Vec::new() };
    for (id, uri) in sources {
        header.sources.push((uri.clone(), store.listed(*id)?.0.unwrap_or(0)));
    }
    let others: Vec<_> = theirs
        .others
        .into_iter()
        .filter(|(_, (listed, _))| (-CLOCKS..FORGOTTEN).contains(&now.saturating_sub(*listed)))
        .collect();
    header.sources.extend(others.iter().map(|(uri, (listed, _))| (uri.clone(), *listed)));
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3)?;
    let line = |encoder: &mut zstd::stream::write::Encoder<'_, Vec<u8>>, bytes: Vec<u8>| -> Result<()> {
        if bytes.len() as u64 + 1 < LINE {
            encoder.write_all(&bytes)?;
            encoder.write_all(b"\n")?;
        }
        Ok(())
    };
    line(&mut encoder, serde_json::to_vec(&header)?)?;
    for (position, (id, _)) in sources.iter().enumerate() {
        let mut query = store.db.prepare_cached(
            "SELECT l.key, l.size, l.modified, l.etag, l.is_closed, l.codec, l.problem,
                    a.app, a.attempt, a.name, a.user, a.queue, a.spark, a.started, a.ended
             FROM log l LEFT JOIN attempt a ON a.log = l.id WHERE l.source = ?1 AND l.state IN (2, 3) ORDER BY l.modified DESC",
        )?;
        let mut found = query.query([id])?;
        while let Some(row) = found.next()? {
            let app: Option<String> = row.get(7)?;
            let application = match app {
                Some(id) if is_synthetic(&id) => continue,
                Some(id) => Some(ApplicationLine {
                    id,
                    attempt: row.get(8)?,
                    name: row.get(9)?,
                    user: row.get(10)?,
                    queue: row.get(11)?,
                    spark: row.get(12)?,
                    started: row.get(13)?,
                    ended: row.get(14)?,
                }),
                None => None,
            };
            let problem = if application.is_some() { None } else { row.get(6)? };
            let log = Line {
                source: position,
                key: row.get(0)?,
                size: row.get(1)?,
                modified: row.get(2)?,
                etag: row.get(3)?,
                is_closed: row.get(4)?,
                codec: row.get(5)?,
                problem,
                application,
            };
            line(&mut encoder, serde_json::to_vec(&log)?)?;
        }
    }
    for (id, log) in theirs.newer {
        let Some(source) = sources.iter().position(|(known, _)| *known == id) else { continue };
        line(&mut encoder, serde_json::to_vec(&Line { source, ..log })?)?;
    }
    for (at, (_, (_, lines))) in others.into_iter().enumerate() {
        for log in lines {
            line(&mut encoder, serde_json::to_vec(&Line { source: sources.len() + at, ..log })?)?;
        }
    }
    Ok(encoder.finish()?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::{Loaded, Store, pack, take};
    use crate::index::layout::Found;
    use crate::index::logs::Keys;

    #[test]
    fn a_log_that_shows_no_application_any_more_loses_its_row() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::open(&directory.path().join("index.sqlite")).unwrap();
        store.prepare_list().unwrap();
        let uri = "s3://acme/flat/";
        let sources = [(store.source(uri).unwrap(), uri.to_string())];
        let take = |store: &mut Store, etag: &str, says: &str| {
            let header = format!(r#"{{"format":"emr-shs index","version":1,"written":1,"sources":[["{uri}",1]]}}"#);
            let row = format!(
                r#"{{"s":0,"k":"application_1_0001","z":5,"m":1,"e":"{etag}","c":true,"codec":"none",{says}}}"#
            );
            let packed = zstd::encode_all(format!("{header}\n{row}\n").as_bytes(), 3).unwrap();
            take(store, &packed, &sources, &mut |_, _| {}).unwrap().rows
        };
        let application = r#""a":{"id":"application_1_0001","name":"n","user":"u","started":1}"#;
        assert_eq!(take(&mut store, "old", application), 1);
        assert!(store.application("application_1_0001").unwrap().is_some());
        let found = Found {
            key: "application_1_0001".into(),
            size: 5,
            modified: 1,
            etag: "new".into(),
            is_closed: true,
            codec: "none".into(),
            ..Found::default()
        };
        store.take_listing(sources[0].0, &Keys::default(), &[found], true).unwrap();
        assert!(store.application("application_1_0001").unwrap().is_some(), "it is not read again yet");
        // Another node has read the new object.
        assert_eq!(take(&mut store, "new", r#""p":"it is no event log""#), 1);
        assert_eq!(store.application("application_1_0001").unwrap(), None);
        let packed = pack(&store, &sources, Loaded::default(), 2).unwrap();
        let text = String::from_utf8(zstd::decode_all(packed.as_slice()).unwrap()).unwrap();
        assert!(text.contains("it is no event log") && !text.contains(r#""a":"#), "{text}");
    }
}
