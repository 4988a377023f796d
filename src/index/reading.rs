//! Reading many logs at a time: the ranges that the event log reader wants, or the whole log.

use super::logs::{Outcome, ReadResult, State, ToRead};
use super::remote::{NotRead, Remote};
use crate::event_log::{Facts, LogReading, WholeReading};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How many logs are read at a time by ranges.
const AT_A_TIME: usize = 128;
/// How many more wait for their turn, so that reading goes on while the database takes what has been read.
const WAITING: usize = 384;
/// How many are read whole at a time: each costs memory and processor time.
const WHOLE_AT_A_TIME: usize = 4;

/// Reads logs, and remembers how long the beginnings of a source's logs are.
pub(crate) struct Reader {
    remotes: HashMap<i64, (Remote, Arc<AtomicU64>)>,
    tasks: JoinSet<Outcome>,
    turns: Arc<Semaphore>,
}

impl Reader {
    pub(crate) fn new(remotes: impl IntoIterator<Item = (i64, Remote)>) -> Self {
        let remotes = remotes.into_iter().map(|(source, remote)| (source, (remote, Arc::default()))).collect();
        Self { remotes, tasks: JoinSet::new(), turns: Arc::new(Semaphore::new(AT_A_TIME)) }
    }

    /// Whether another log of this state can be begun.
    pub(crate) fn has_room(&self, state: State) -> bool {
        self.tasks.len() < if state == State::EndUnread { WHOLE_AT_A_TIME } else { AT_A_TIME + WAITING }
    }

    pub(crate) fn begin(&mut self, log: ToRead) {
        let Some((remote, head)) = self.remotes.get(&log.source) else { return };
        let (remote, head) = (remote.clone(), head.clone());
        let turns = self.turns.clone();
        self.tasks.spawn(async move {
            let _turn = turns.acquire().await;
            let result = match log.state {
                State::EndUnread => read_whole(&remote, &log).await,
                _ => read_ranges(&remote, &log, &head).await,
            };
            Outcome { log: log.id, source: log.source, etag: log.etag, result }
        });
    }

    /// The next log that has been read; `None` if none is under way.
    pub(crate) async fn next(&mut self) -> Option<Outcome> {
        loop {
            match self.tasks.join_next().await? {
                Ok(outcome) => return Some(outcome),
                // A task that has panicked or was cancelled: the log stays unread.
                Err(_) => continue,
            }
        }
    }
}

async fn read_ranges(remote: &Remote, log: &ToRead, head: &AtomicU64) -> ReadResult {
    let files = match log.files() {
        Ok(files) => files,
        Err(word) => {
            return ReadResult::NoApplication(format!("it is compressed with “{word}”, which Spark does not read"));
        }
    };
    let objects = log.objects();
    let mut reading = LogReading::new(files, log.is_closed).with_head(head.load(Ordering::Relaxed));
    while let Some(wanted) = reading.wants() {
        let Some((key, size)) = objects.get(wanted.file) else { break };
        match remote.range(key, &wanted.range, *size).await {
            Ok(bytes) => reading.give(&bytes),
            Err(not_read) => return failed(not_read),
        }
    }
    let facts = reading.finish();
    head.fetch_max(facts.head.unwrap_or(0), Ordering::Relaxed);
    result(facts, log.is_closed)
}

async fn read_whole(remote: &Remote, log: &ToRead) -> ReadResult {
    let Ok(files) = log.files() else { return ReadResult::NoApplication("its codec is not one of Spark's".into()) };
    let objects = log.objects();
    let mut facts = Facts::default();
    // The facts of the first reading are not kept, so all files are read from the first one on.
    for _ in 0..2 {
        let mut reading = WholeReading::new(files.clone(), log.is_closed, facts);
        while let Some(file) = reading.file() {
            let Some((key, size)) = objects.get(file) else { break };
            let mut body = match remote.stream(key, *size).await {
                Ok(body) => body,
                Err(not_read) => return failed(not_read),
            };
            let mut left = *size;
            let mut is_done = false;
            while let Some(piece) = body.next().await {
                let piece = match piece {
                    Ok(piece) => piece,
                    Err(error) => {
                        let why = crate::aws::error::root_causes(&error);
                        return ReadResult::Silent(format!("S3 broke off: {why}"));
                    }
                };
                left = left.saturating_sub(piece.len() as u64);
                if reading.push(&piece).is_break() {
                    is_done = true;
                    break;
                }
            }
            if left > 0 && !is_done {
                return ReadResult::Silent("S3 broke off before the end of the object".into());
            }
            reading.end_file(left == 0);
        }
        facts = reading.finish();
        if facts.whole.is_none() {
            break;
        }
    }
    facts.whole = None;
    result(facts, log.is_closed)
}

fn failed(not_read: NotRead) -> ReadResult {
    match not_read {
        NotRead::Changed => changed(),
        NotRead::Refused(why) => ReadResult::Failed(why),
        NotRead::Silent(why) => ReadResult::Silent(why),
    }
}

fn changed() -> ReadResult {
    ReadResult::Failed("it changed while it was read".into())
}

/// What the history server makes of a log that says this.
fn result(facts: Facts, is_closed: bool) -> ReadResult {
    if facts.is_cut_short {
        return changed();
    }
    if facts.is_foreign {
        return ReadResult::NoApplication("it is no event log".into());
    }
    let has_start = facts.start.is_some() || facts.whole.is_some();
    if let Some(damage) = facts.damage.as_ref().filter(|_| is_closed || !has_start) {
        return ReadResult::NoApplication(format!("it is damaged: {damage}"));
    }
    if let Some(broken) = facts.broken.as_ref().filter(|broken| is_closed && !broken.is_json) {
        return ReadResult::NoApplication(format!("a line of it is not valid JSON of Spark: {broken}"));
    }
    match &facts.start {
        None if facts.whole.is_some() => ReadResult::Whole,
        None if is_closed => ReadResult::NoApplication("no application starts in it".into()),
        None => ReadResult::NoApplication("no application starts in it yet".into()),
        Some(start) if start.id.is_none() => {
            ReadResult::NoApplication("the application in it has no id, as before Spark 1.2".into())
        }
        Some(_) => {
            let end_is_missing = facts.whole.is_some();
            ReadResult::Attempt { facts: Box::new(facts), end_is_missing }
        }
    }
}
