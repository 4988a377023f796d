//! The answers of several log URIs, and the errors of those that do not answer.

use super::error::{LogError, Unanswered};
use super::fresh::{Answer, Flight};
use super::lists::{Depth, Directories, Objects, Question};
use super::{Archive, ages};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// The answers of the log URIs that answered, and the errors of the others.
pub(crate) struct Answers<T> {
    /// With the bucket that answers.
    pub(crate) given: Vec<(usize, T)>,
    failures: Failures,
}

/// Why buckets do not answer: one reason for each.
#[derive(Debug, Default)]
pub(crate) struct Failures(pub(super) Vec<(usize, LogError)>);

impl<T> Answers<T> {
    /// Adds what did not answer before.
    pub(crate) fn and(mut self, failures: Failures) -> Self {
        for (bucket, error) in failures.0 {
            self.failures.add(bucket, error);
        }
        self
    }

    /// The answers alone.
    pub(crate) fn into_parts(self) -> (Vec<(usize, T)>, Failures) {
        (self.given, self.failures)
    }
}

impl Failures {
    pub(super) fn add(&mut self, bucket: usize, error: LogError) {
        if !self.0.iter().any(|(failed, _)| *failed == bucket) {
            self.0.push((bucket, error));
        }
    }

    /// Those of the log URIs that answer "nothing is there" whose answer counts for their other spelling, too. It does not if
    /// S3 gave no answer: the other spelling can have what is looked for.
    fn of_those_that_have_nothing<'a>(&self, answered: &'a [usize]) -> &'a [usize] {
        let is_silent = self.0.iter().any(|(_, error)| matches!(error, LogError::Unreachable(_)));
        if is_silent { &[] } else { answered }
    }
}

impl Archive {
    /// The log URIs that failed, as people know them. The other spelling of one that answered does not count: it is not
    /// known whether it means anything.
    pub(super) fn unanswered(&self, failures: &Failures, answered: &[usize]) -> Vec<Unanswered> {
        let mut unanswered: Vec<(usize, Unanswered)> = Vec::new();
        for (bucket, error) in &failures.0 {
            let is_known = answered.iter().chain(unanswered.iter().map(|(bucket, _)| bucket));
            if is_known.into_iter().any(|other| self.are_one_log_uri(*bucket, *other)) {
                continue;
            }
            let (uri, why) = (self.buckets[*bucket].uri.to_string(), error.in_a_line());
            let is_denied = matches!(error, LogError::Denied { .. });
            let is_pending = matches!(error, LogError::Unasked);
            unanswered.push((*bucket, Unanswered { uri, why, is_denied, is_pending }));
        }
        unanswered.into_iter().map(|(_, unanswered)| unanswered).collect()
    }

    /// Why something was not found: not there, or below a log URI that does not answer.
    pub(super) fn conclude(&self, missing: Option<LogError>, failures: Failures, answered: &[usize]) -> LogError {
        let answered = failures.of_those_that_have_nothing(answered);
        let unanswered = self.unanswered(&failures, answered);
        if unanswered.is_empty() {
            return missing.unwrap_or(LogError::Searching);
        }
        let is_only = self.buckets_of(Some(0)).len() == self.log_uris;
        let errors = || failures.0.iter().map(|(_, error)| error);
        let plain = errors().find(|error| error.is_about_an_object() || error.concerns_all());
        match plain.or_else(|| errors().next().filter(|_| is_only)) {
            Some(error) => error.clone(),
            None => LogError::Incomplete(unanswered),
        }
    }

    /// The objects directly below a path, below each of some log URIs: at most a thousand each.
    pub(crate) async fn list(&self, buckets: Range<usize>, path: &str) -> Answers<Objects> {
        self.lists_of(buckets, path, Depth::Directory).await
    }

    /// The objects below a path, at any depth, below each of some log URIs.
    pub(crate) async fn list_all(&self, buckets: Range<usize>, path: &str) -> Answers<Objects> {
        self.lists_of(buckets, path, Depth::All).await
    }

    async fn lists_of(&self, buckets: Range<usize>, path: &str, depth: Depth) -> Answers<Objects> {
        let list = |bucket| self.lists.objects(Question { bucket, path: path.into() }, depth, ages::LISTING);
        answers(buckets.map(|bucket| (bucket, list(bucket))).collect()).await
    }

    /// The names of the directories of clusters below each log URI: at most fifty thousand.
    pub(crate) async fn clusters(&self) -> Answers<Directories> {
        self.directories(0..self.log_uris, "", ages::CLUSTERS).await
    }

    /// The names of the directories of applications of a cluster, below each log URI. `clusters` are those that there are. A log URI whose
    /// complete list lacks the cluster is not asked: whoever asks for clusters that do not exist costs nothing.
    pub(crate) async fn applications(&self, cluster: &str, clusters: &Answers<Directories>) -> Answers<Directories> {
        // This node's own cluster gets its first logs while people wait for them.
        let is_own = self.own_cluster.as_deref() == Some(cluster);
        let lacks = |(_, list): &&(usize, Directories)| {
            !is_own && list.complete && !list.names.iter().any(|name| name == cluster)
        };
        let lacking: Vec<usize> = clusters.given.iter().filter(lacks).map(|(bucket, _)| *bucket).collect();
        let asked = (0..self.log_uris).filter(|bucket| !lacking.contains(bucket));
        let mut listed = self.directories(asked, &format!("{cluster}/containers/"), ages::LISTING).await;
        let nothing = |bucket| (bucket, Directories { names: Arc::new([]), complete: true });
        listed.given.extend(lacking.into_iter().map(nothing));
        listed
    }

    async fn directories(
        &self,
        buckets: impl Iterator<Item = usize>,
        path: &str,
        trusted_for: Duration,
    ) -> Answers<Directories> {
        let list = |bucket| self.lists.names(Question { bucket, path: path.into() }, trusted_for);
        answers(buckets.map(|bucket| (bucket, list(bucket))).collect()).await
    }

    /// The log URIs that a page must name, because they do not give what the page lists. An error, if the page would be
    /// empty for that.
    pub(crate) fn gaps<T>(&self, answers: &Answers<T>, is_empty: bool) -> Result<Vec<Unanswered>, LogError> {
        let answered: Vec<usize> = answers.given.iter().map(|(bucket, _)| *bucket).collect();
        let covers = if is_empty { answers.failures.of_those_that_have_nothing(&answered) } else { &answered };
        let gaps = self.unanswered(&answers.failures, covers);
        if is_empty && !gaps.is_empty() {
            return Err(self.conclude(None, Failures(answers.failures.0.clone()), &answered));
        }
        Ok(gaps)
    }
}

/// The answers of all flights.
async fn answers<T: Answer>(flights: Vec<(usize, Flight<T>)>) -> Answers<T> {
    let mut answers = Answers { given: Vec::new(), failures: Failures::default() };
    for (bucket, flight) in flights {
        match flight.answer().await {
            Ok(answer) => answers.given.push((bucket, answer)),
            Err(error) => answers.failures.add(bucket, error),
        }
    }
    answers
}
