//! Lists of what is below a log URI, kept for some seconds and fetched once for all who ask at the same time.

use super::ages;
use super::bucket::LogBucket;
use super::fresh::{Answer, Flight, Fresh, Known};
use super::object::Object;
use std::sync::Arc;
use std::time::Duration;

/// How many names and objects all lists can have in all: some 40 MB.
const MAX_WEIGHT: u64 = 200_000;
/// How many lists there can be.
const MAX_LISTS: usize = 4096;
/// How many pages of a thousand directories a list of them has.
const MAX_DIRECTORY_PAGES: usize = 50;

/// What a list is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) bucket: usize,
    /// Below the prefix of the log URI.
    pub(super) path: String,
}

/// The objects below a prefix.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    pub(crate) objects: Arc<[Object]>,
    /// Whether these are all.
    pub(crate) complete: bool,
}

impl Answer for Objects {
    fn weight(&self) -> u64 {
        self.objects.len() as u64
    }
}

/// The names of the directories directly below a prefix.
#[derive(Clone, Debug)]
pub(crate) struct Directories {
    pub(crate) names: Arc<[String]>,
    /// Whether these are all.
    pub(crate) complete: bool,
}

impl Answer for Directories {
    fn weight(&self) -> u64 {
        self.names.len() as u64
    }
}

/// How deep a list of objects goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Depth {
    /// The objects directly below the prefix: at most a thousand.
    Directory,
    /// The objects at any depth.
    All,
}

pub(super) struct Lists {
    buckets: Arc<[LogBucket]>,
    names: Fresh<Question, Directories>,
    objects: Fresh<(Question, Depth), Objects>,
}

impl Lists {
    pub(super) fn new(buckets: Arc<[LogBucket]>) -> Self {
        let (names, objects) = (Fresh::new(MAX_LISTS, MAX_WEIGHT), Fresh::new(MAX_LISTS, MAX_WEIGHT));
        Self { buckets, names, objects }
    }

    /// The names of the directories directly below a prefix: at most fifty thousand.
    pub(super) fn names(&self, question: Question, trusted_for: Duration) -> Flight<Directories> {
        let trust = |known: &Known<_>| trust_in(known, trusted_for);
        self.names.ask(question.clone(), trust, || {
            let buckets = self.buckets.clone();
            async move {
                let bucket = &buckets[question.bucket];
                let prefix = format!("{}{}", bucket.uri.prefix, question.path);
                let (names, complete) = bucket.directories(&prefix, MAX_DIRECTORY_PAGES).await?;
                Ok(Directories { names: names.into(), complete })
            }
        })
    }

    pub(super) fn objects(&self, question: Question, depth: Depth, trusted_for: Duration) -> Flight<Objects> {
        let trust = |known: &Known<_>| trust_in(known, trusted_for);
        self.objects.ask((question.clone(), depth), trust, || {
            let buckets = self.buckets.clone();
            async move {
                let bucket = &buckets[question.bucket];
                let prefix = format!("{}{}", bucket.uri.prefix, question.path);
                match depth {
                    Depth::Directory => Ok(Objects { objects: bucket.list(&prefix).await?.into(), complete: true }),
                    Depth::All => {
                        let (objects, complete) = bucket.list_all(&prefix).await?;
                        Ok(Objects { objects: objects.into(), complete })
                    }
                }
            }
        })
    }
}

fn trust_in<T>(known: &Known<T>, trusted_for: Duration) -> Duration {
    if known.value.is_ok() { trusted_for } else { ages::FAILURE }
}
