//! The bucket of one log URI: how the gateway reaches it, and the requests that the gateway sends to it.

use super::ages;
use super::budget::{Budget, OverBudget, Share};
use super::error::LogError;
use super::object::{Location, Object};
use super::spending::Spending;
use crate::aws::endpoint::{self, StoreAddress};
use crate::aws::error::{S3Error, S3Failure, lacks_a_thread};
use crate::aws::listing::{self, Names};
use crate::aws::uri::LogUri;
use crate::gateway::credentials::CredentialsCache;
use crate::gateway::presign::BucketAddress;
use crate::ids::Application;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::operation::list_objects_v2::{ListObjectsV2Error, ListObjectsV2Output};
use std::collections::BTreeSet;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OnceCell};

/// How long a request of a browser waits for one answer of S3.
pub(crate) const S3_TIMEOUT: Duration = Duration::from_secs(8);
/// How many pages of a thousand objects `list_all` reads.
const MAX_PAGES: usize = 10;
/// How many applications `timestamps` reads in a request. Most clusters have fewer, so that one request tells all.
const APPLICATIONS: i32 = 100;
/// After so many starts of its ResourceManager, further ones of a cluster are not read.
const MAX_STARTS: usize = 32;

pub(super) const GET: &str = "s3:GetObject";
pub(super) const LIST: &str = "s3:ListBucket";

/// Where the bucket of a log URI is, as far as the node's configuration tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct BucketStore {
    pub(crate) address: StoreAddress,
    /// The region that signatures name where the store tells none; `None` for the gateway's own.
    pub(crate) region: Option<String>,
}

/// The bucket of a log URI or of a source of the index.
pub(crate) struct LogBucket {
    pub(crate) uri: LogUri,
    /// The position among all log URIs and sources.
    position: usize,
    store: BucketStore,
    source: Arc<Source>,
    client: OnceCell<BucketClient>,
    state: Mutex<State>,
    /// Tells that a log URI that was good does not answer.
    silenced: Notify,
}

/// What the requests to all buckets have in common.
pub(super) struct Source {
    pub(super) config: SdkConfig,
    pub(super) credentials: Arc<CredentialsCache>,
    pub(super) budget: Arc<Budget>,
}

/// A client for a bucket whose region is known.
pub(crate) struct BucketClient {
    pub(crate) client: Client,
    /// The client of the gateway's own checks.
    own: Client,
    /// The bucket's address for a browser.
    pub(crate) address: BucketAddress,
    /// The region that signatures must name.
    pub(crate) region: String,
}

/// What S3 has answered lately.
#[derive(Default)]
struct State {
    /// When and why S3 did not answer. All requests of the next seconds fail at once.
    silent: Option<(Instant, LogError)>,
    /// When S3 last listed what is below the log URI; `None` since it did not answer.
    listed: Option<Instant>,
    /// When S3 last gave a list or an object.
    answered: Option<Instant>,
    /// When the gateway last began to check that by itself.
    checked: Option<Instant>,
    /// Whether S3 has ever given an object, which it does also for a role that is not allowed to list.
    gives: bool,
    /// Why S3 does not list what is below the log URI.
    trouble: Option<LogError>,
}

/// Whether a log URI gives its logs.
#[derive(Clone, Debug)]
pub(super) enum Health {
    Good,
    /// Logs open, as far as their places are known without a list.
    Partly(LogError),
    Bad(LogError),
}

impl State {
    fn health(&self, now: Instant) -> Health {
        match &self.trouble {
            None => match self.listed.map(|listed| now.saturating_duration_since(listed)) {
                Some(age) if age <= ages::READY => Health::Good,
                age => {
                    let age = age.map_or(0, |age| age.as_secs());
                    Health::Bad(LogError::Unreachable(format!("the last answer of S3 is {age} s old")))
                }
            },
            // An object that S3 gave before says nothing of a store that does not answer now.
            Some(trouble) if self.gives && !matches!(trouble, LogError::Unreachable(_)) => {
                Health::Partly(trouble.clone())
            }
            Some(trouble) => Health::Bad(trouble.clone()),
        }
    }

    /// Remembers why S3 does not list what is below the log URI. A request that was not sent says nothing of S3: what is known
    /// stays so.
    fn note_trouble(&mut self, error: &LogError) {
        if !error.is_unsent() {
            self.trouble = Some(error.clone());
        }
    }
}

impl LogBucket {
    /// Sends no request yet.
    pub(super) fn new(uri: LogUri, position: usize, store: BucketStore, source: Arc<Source>) -> Self {
        let state = Mutex::new(State { trouble: Some(LogError::Unasked), ..State::default() });
        Self { uri, position, store, source, client: OnceCell::new(), state, silenced: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client. The first successful call finds the bucket's region, and later calls return the same
    /// client.
    pub(crate) async fn client(&self) -> Result<&BucketClient, LogError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let found = self.client.get_or_try_init(|| async {
            // Others may have waited for the same failure.
            self.not_silent()?;
            self.find_client().await
        });
        Box::pin(found).await.map_err(|error| self.note_silence(error))
    }

    pub(super) fn health(&self) -> Health {
        self.state().health(Instant::now())
    }

    /// When S3 last gave a list or an object.
    pub(super) fn answered(&self) -> Option<Instant> {
        self.state().answered
    }

    /// Asks S3 for what is below the log URI, again and again, unless others do.
    pub(super) async fn watch(&self) {
        let mut pause = Duration::ZERO;
        loop {
            pause = self.check(pause).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.silenced.notified() => {
                    pause = ages::RECHECK.0;
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Asks S3, unless S3 has told lately. Returns when to ask again.
    async fn check(&self, last_pause: Duration) -> Duration {
        let age = self.state().listed.map(|listed| listed.elapsed());
        if let Some(left) = age.and_then(|age| ages::GOOD_ANSWER.checked_sub(age)).filter(|left| !left.is_zero()) {
            return left;
        }
        let (shortest, longest) = ages::RECHECK;
        match self.check_now().await {
            Ok(()) => ages::GOOD_ANSWER,
            // No request was sent that would cost anything.
            Err(LogError::NoCredentials(_)) => shortest,
            Err(_) => (2 * last_pause).clamp(shortest, longest),
        }
    }

    /// Asks S3 at once, because somebody wants to know how the log URI is now, unless S3 was asked within this time.
    pub(super) async fn recheck(&self, asked: Duration) {
        let latest = {
            let state = self.state();
            state.checked.max(state.listed)
        };
        if latest.is_none_or(|latest| latest.elapsed() >= asked) {
            let _ = self.check_now().await;
        }
    }

    async fn check_now(&self) -> Result<(), LogError> {
        self.state().checked = Some(Instant::now());
        let checked = self.ask_for_one().await;
        if let Err(error) = &checked {
            self.state().note_trouble(error);
        }
        checked
    }

    async fn ask_for_one(&self) -> Result<(), LogError> {
        self.source.credentials.session().await.map_err(LogError::NoCredentials)?;
        let client = &self.client().await?.own;
        let request = listing::request(client, &self.uri.bucket, &self.uri.prefix).max_keys(1);
        self.page(&self.uri.prefix, request.send()).await.map(drop)
    }

    /// Fails if S3 did not answer a moment ago, or the bucket was not there. What S3 says of one key does not count:
    /// whoever asks for an impossible key must not silence the bucket for others.
    fn not_silent(&self) -> Result<(), LogError> {
        match &self.state().silent {
            Some((when, error)) if when.elapsed() < ages::FAILURE => Err(error.clone()),
            _ => Ok(()),
        }
    }

    pub(super) fn note_silence(&self, error: LogError) -> LogError {
        if matches!(error, LogError::Unreachable(_)) {
            let mut state = self.state();
            if state.silent.as_ref().is_none_or(|(when, _)| when.elapsed() >= ages::FAILURE) {
                state.silent = Some((Instant::now(), error.clone()));
            }
            state.listed = None;
            if state.trouble.replace(error.clone()).is_none() {
                self.silenced.notify_one();
            }
        }
        error
    }

    async fn find_client(&self) -> Result<BucketClient, LogError> {
        let Source { config, budget, .. } = &*self.source;
        let BucketStore { address: store, region: configured } = &self.store;
        let client = |share: Share, region: Option<String>| {
            let spending = Spending { budget: budget.clone(), share };
            Client::from_conf(endpoint::builder(config, store, region).interceptor(spending).build())
        };
        let found = client(Share::Own, configured.clone()).head_bucket().bucket(&self.uri.bucket).send();
        let region = match with_timeout(found).await? {
            Ok(found) => found.bucket_region().map(str::to_string),
            Err(error) => self.region_from(within_budget(&error)?.meaning(LIST))?,
        };
        let usual = || config.region().map(ToString::to_string);
        let region = region.or(configured.clone()).or_else(usual).unwrap_or_else(|| "us-east-1".into());
        let address = BucketAddress::of(&self.uri.bucket, &region, store).await;
        let address = address.map_err(|e| LogError::Unreachable(format!("{e:#}")))?;
        let (visitors, own) = (client(Share::Visitors, Some(region.clone())), client(Share::Own, Some(region.clone())));
        Ok(BucketClient { client: visitors, own, address, region })
    }

    /// The bucket's region, from an answer that names it although HeadBucket failed.
    fn region_from(&self, error: S3Error) -> Result<Option<String>, LogError> {
        match error.failure {
            S3Failure::WrongRegion | S3Failure::Denied { .. } => Ok(error.region),
            S3Failure::NotFound | S3Failure::NoSuchBucket => {
                Err(LogError::Unreachable(format!("there is no bucket {}", self.uri.bucket)))
            }
            S3Failure::NoAnswer(why) => Err(LogError::Unreachable(why)),
            S3Failure::NoCredentials(why) => Err(LogError::NoCredentials(why)),
            _ => Err(LogError::Unreachable(format!("S3 answers {} to HeadBucket", error.answer()))),
        }
    }

    /// The SDK's client, once there are valid credentials.
    pub(super) async fn s3(&self) -> Result<&Client, LogError> {
        self.source.credentials.session().await.map_err(LogError::NoCredentials)?;
        self.not_silent()?;
        Ok(&self.client().await?.client)
    }

    /// Whether S3 contains an object that the gateway can read. It asks for the object's first byte: an
    /// answer to HEAD says nothing of the right to decrypt the object, and gives no reason for a refusal.
    pub(super) async fn contains(&self, key: &str) -> Result<bool, LogError> {
        let request = self.s3().await?.get_object().bucket(&self.uri.bucket).key(key).range("bytes=0-0");
        let answer = with_timeout(request.send()).await.map_err(|error| self.note_silence(error))?;
        let Err(error) = answer else {
            let mut state = self.state();
            (state.gives, state.answered) = (true, Some(Instant::now()));
            return Ok(true);
        };
        match within_budget(&error)?.meaning(GET).failure {
            // An empty object.
            S3Failure::InvalidRange => Ok(true),
            S3Failure::NotFound => Ok(false),
            S3Failure::Denied { .. } if self.listing_lacks(key).await? => Ok(false),
            S3Failure::NoAnswer(why) => Err(self.note_silence(LogError::Unreachable(why))),
            _ => Err(self.refusal(key, &error).await),
        }
    }

    /// Whether S3 lists no object with this key. To a role without `s3:ListBucket`, S3 answers 403 for an
    /// object that does not exist (`docs/emr.md` §8.2). Fails if the budget is spent: S3 was not asked.
    async fn listing_lacks(&self, key: &str) -> Result<bool, LogError> {
        match self.list(key).await {
            Ok(objects) => Ok(!objects.iter().any(|object| object.name.is_empty())),
            Err(error) if error.is_unsent() => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Why S3 does not give an object.
    pub(super) async fn refusal(&self, key: &str, error: &SdkError<GetObjectError>) -> LogError {
        let mut error = match within_budget(error) {
            Ok(error) => LogError::new(error.meaning(GET), self.location(key)),
            Err(over) => return over,
        };
        if let LogError::Denied { permission, .. } = &mut error
            && *permission == GET
        {
            match self.list(key).await {
                Ok(_) => {}
                Err(error) if error.is_unsent() => return error,
                Err(_) => *permission = "s3:GetObject and s3:ListBucket",
            }
        }
        error
    }

    /// The objects directly below a prefix: at most a thousand.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Object>, LogError> {
        let request = listing::request(self.s3().await?, &self.uri.bucket, prefix).delimiter("/");
        let page = self.page(prefix, request.send()).await?;
        Ok(page.objects().filter_map(|(key, object)| Object::new(&key, object, prefix)).collect())
    }

    /// The objects below a prefix, at any depth, and whether the list is complete.
    pub(super) async fn list_all(&self, prefix: &str) -> Result<(Vec<Object>, bool), LogError> {
        let client = self.s3().await?;
        let mut objects = Vec::new();
        let mut token = None;
        for _ in 0..MAX_PAGES {
            let request = listing::request(client, &self.uri.bucket, prefix);
            let page = self.page(prefix, request.set_continuation_token(token.take()).send()).await?;
            objects.extend(page.objects().filter_map(|(key, object)| Object::new(&key, object, prefix)));
            match page.next_continuation_token() {
                Some(next) => token = Some(next.to_string()),
                None => return Ok((objects, true)),
            }
        }
        Ok((objects, false))
    }

    /// The names of the directories directly below a prefix, from at most `max_pages` pages of a thousand, and whether the list is
    /// complete.
    pub(super) async fn directories(&self, prefix: &str, max_pages: usize) -> Result<(Vec<String>, bool), LogError> {
        let client = self.s3().await?;
        let mut names = Vec::new();
        let mut token = None;
        for _ in 0..max_pages {
            let request = listing::request(client, &self.uri.bucket, prefix).delimiter("/");
            let page = self.page(prefix, request.set_continuation_token(token.take()).send()).await?;
            let found = page.directories().filter_map(|key| key.strip_prefix(prefix).map(str::to_string));
            let found = found.map(|name| name.trim_end_matches('/').to_string());
            names.extend(found.filter(|name| !listing::is_odd(name)));
            match page.next_continuation_token() {
                Some(next) => token = Some(next.to_string()),
                None => return Ok((names, true)),
            }
        }
        Ok((names, false))
    }

    /// The cluster timestamps of a cluster's applications; those of `verify` do not count. From a page that is not the
    /// last one, the next page begins behind all applications of the last timestamp, so that a cluster with a million
    /// applications of one timestamp takes two requests.
    pub(super) async fn timestamps(&self, cluster: &str) -> Result<BTreeSet<u64>, LogError> {
        let client = self.s3().await?;
        let prefix = format!("{}{cluster}/containers/application_", self.uri.prefix);
        let mut found = BTreeSet::new();
        let mut after = None;
        for _ in 0..MAX_STARTS {
            let request = listing::request(client, &self.uri.bucket, &prefix).delimiter("/").max_keys(APPLICATIONS);
            let page = self.page(&prefix, request.set_start_after(after.take()).send()).await?;
            let directories: Vec<String> = page.directories().collect();
            let name = |key: &str| key.trim_end_matches('/').rsplit('/').next().map(str::to_string);
            let names = directories.iter().filter_map(|key| name(key));
            let applications = names.filter_map(|name| Application::parse(&name)).filter(|a| !a.is_synthetic());
            found.extend(applications.map(|application| application.timestamp));
            let Some(last) = directories.last().filter(|_| page.is_truncated() == Some(true)) else { break };
            let timestamp =
                last.strip_prefix(&prefix).and_then(|rest| rest.split(['_', '/']).next()).unwrap_or_default();
            // A tilde sorts behind all digits.
            after = Some(format!("{prefix}{timestamp}_~"));
        }
        Ok(found)
    }

    /// A page of a list of what is below a prefix.
    async fn page(
        &self,
        prefix: &str,
        request: impl Future<Output = Result<ListObjectsV2Output, SdkError<ListObjectsV2Error>>>,
    ) -> Result<ListObjectsV2Output, LogError> {
        let answer = with_timeout(request).await.map_err(|error| self.note_silence(error))?;
        let page = match answer {
            Ok(page) => page,
            Err(error) => return Err(self.list_refusal(prefix, within_budget(&error)?.meaning(LIST))),
        };
        let mut state = self.state();
        let now = Some(Instant::now());
        (state.listed, state.answered, state.trouble, state.silent) = (now, now, None, None);
        drop(state);
        Ok(page)
    }

    pub(super) fn list_refusal(&self, prefix: &str, error: S3Error) -> LogError {
        match error.failure {
            // Only an object can be missing: a prefix without objects has an empty listing.
            S3Failure::NotFound | S3Failure::NoSuchBucket => {
                self.note_silence(LogError::Unreachable(format!("there is no bucket {}", self.uri.bucket)))
            }
            S3Failure::NoAnswer(why) => self.note_silence(LogError::Unreachable(why)),
            _ => LogError::new(error, self.location(prefix)),
        }
    }

    pub(super) fn location(&self, key: &str) -> Location {
        Location { bucket: self.position, key: key.into() }
    }
}

/// An error of a request that was sent: neither the budget nor the gateway's own threads were in its way.
pub(super) struct WithinBudget<'a, E>(&'a SdkError<E>);

pub(super) fn within_budget<E: Error + 'static>(error: &SdkError<E>) -> Result<WithinBudget<'_, E>, LogError> {
    match OverBudget::of(error) {
        Some(over) => Err(over.into()),
        None if lacks_a_thread(error) => Err(LogError::Overloaded),
        None => Ok(WithinBudget(error)),
    }
}

impl<E: ProvideErrorMetadata + Error + 'static> WithinBudget<'_, E> {
    pub(super) fn meaning(&self, action: &'static str) -> S3Error {
        S3Error::new(self.0, action)
    }
}

/// Fails if S3 does not answer in time.
pub(super) async fn with_timeout<T>(request: impl Future<Output = T>) -> Result<T, LogError> {
    let late = |_| LogError::Unreachable(format!("S3 did not answer within {} s", S3_TIMEOUT.as_secs()));
    tokio::time::timeout(S3_TIMEOUT, request).await.map_err(late)
}

#[cfg(test)]
mod tests {
    use super::{Health, LogError, State};
    use crate::gateway::archive::ages;
    use std::time::{Duration, Instant};

    #[test]
    fn a_log_uri_is_good_as_long_as_the_answer_of_s3_is_young() {
        let listed = Instant::now();
        let good = State { listed: Some(listed), ..State::default() };
        assert!(matches!(good.health(listed + ages::GOOD_ANSWER), Health::Good));
        let Health::Bad(error) = good.health(listed + ages::READY + Duration::from_secs(1)) else {
            panic!("an old answer is none");
        };
        assert_eq!(error.in_a_line(), "the last answer of S3 is 301 s old");
    }

    #[test]
    fn an_object_of_before_says_nothing_of_a_store_that_does_not_answer() {
        let after_an_object = |trouble| State { gives: true, trouble: Some(trouble), ..State::default() };
        let silent = after_an_object(LogError::Unreachable("S3 did not answer within 8 s".into()));
        assert!(matches!(silent.health(Instant::now()), Health::Bad(_)));
        // A role that may read, and not list.
        assert!(matches!(after_an_object(LogError::Unasked).health(Instant::now()), Health::Partly(_)));
    }

    #[test]
    fn a_request_that_was_not_sent_says_nothing_of_s3() {
        let over = LogError::OverBudget { retry_after: Duration::from_secs(1) };
        let mut state = State::default();
        state.note_trouble(&over);
        state.note_trouble(&LogError::Overloaded);
        assert!(state.trouble.is_none(), "a log URI that was good stays good");
        state.note_trouble(&LogError::Unreachable("no route".into()));
        state.note_trouble(&over);
        assert!(matches!(&state.trouble, Some(LogError::Unreachable(why)) if why == "no route"));
    }
}
