//! Which event logs an update reads next.

use super::logs::{State, ToRead};
use super::store::Store;
use anyhow::Result;

/// How many logs are taken from the database at once.
const TAKEN: usize = 2048;

/// The logs in one state that an update has still to read: first those that nobody has tried, then those that have failed before. So
/// logs that fail again and again, however many they are, delay no others. No log comes twice.
pub(crate) struct Queue {
    state: State,
    /// The sources whose logs are read.
    sources: Vec<i64>,
    /// When the update began to read, in milliseconds since 1970. What fails from then on is not due again in this update.
    began: i64,
    is_retry: bool,
    /// Logs with this id, and with greater ones, were taken already.
    before: i64,
    /// The next one comes last.
    taken: Vec<ToRead>,
    /// Whether the database has no more.
    is_last: bool,
}

impl Queue {
    pub(crate) fn new(state: State, sources: Vec<i64>, began: i64) -> Self {
        Self { state, sources, began, is_retry: false, before: i64::MAX, taken: Vec::new(), is_last: false }
    }

    /// The next log; `None` behind the last one.
    pub(crate) fn next(&mut self, store: &Store) -> Result<Option<ToRead>> {
        loop {
            if let Some(log) = self.taken.pop() {
                return Ok(Some(log));
            }
            if self.is_last {
                return Ok(None);
            }
            self.taken = store.to_read(self.state, &self.sources, self.is_retry, self.before, self.began, TAKEN)?;
            self.before = self.taken.last().map_or(self.before, |log| log.id);
            let is_end = self.taken.len() < TAKEN;
            self.taken.reverse();
            match (is_end, self.is_retry) {
                (true, false) => (self.is_retry, self.before) = (true, i64::MAX),
                (true, true) => self.is_last = true,
                (false, _) => {}
            }
        }
    }

    /// No other log of this source comes.
    pub(crate) fn leave_out(&mut self, source: i64) {
        self.sources.retain(|kept| *kept != source);
        self.taken.retain(|log| log.source != source);
    }

    /// No other log comes.
    pub(crate) fn end(&mut self) {
        self.taken.clear();
        self.is_last = true;
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.taken.is_empty() && self.is_last
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::super::layout::Found;
    use super::super::logs::{Keys, Outcome, ReadResult, State};
    use super::super::store::Store;
    use super::Queue;

    #[test]
    fn logs_that_fail_again_and_again_delay_no_others() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::open(&directory.path().join("index.sqlite")).unwrap();
        let (good, bad) = (store.source("s3://a/good/").unwrap(), store.source("s3://a/bad/").unwrap());
        let list = |store: &mut Store, source: i64, keys: &[&str]| {
            let found: Vec<Found> = keys.iter().map(|key| Found { key: (*key).into(), ..Found::default() }).collect();
            store.take_listing(source, &Keys::default(), &found, false).unwrap();
        };
        let all = |store: &Store, now: i64, without: &[i64]| {
            let mut queue = Queue::new(State::Unread, vec![good, bad], now);
            without.iter().for_each(|source| queue.leave_out(*source));
            std::iter::from_fn(|| queue.next(store).unwrap()).map(|log| log.key).collect::<Vec<_>>()
        };
        list(&mut store, good, &["1"]);
        list(&mut store, bad, &["2", "3"]);
        assert_eq!(all(&store, 0, &[]), ["3", "2", "1"]);
        assert_eq!(all(&store, 0, &[bad]), ["1"]);
        let failed = |log, source| Outcome {
            log,
            source,
            etag: String::new(),
            result: ReadResult::Failed("it is refused".into()),
        };
        store.take_outcomes(&mut [failed(2, bad), failed(3, bad)], 0).unwrap();
        list(&mut store, good, &["4"]);
        // They are due again after a minute, and then behind those that nobody has tried.
        assert_eq!(all(&store, 0, &[]), ["4", "1"]);
        assert_eq!(all(&store, 60_000, &[]), ["4", "1", "3", "2"]);
    }
}
