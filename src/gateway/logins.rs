//! Logins: passwords are checked by a few threads of their own, and who guesses waits.
//!
//! Checking a password costs a tenth of a second of a core by design, so checks are what an attacker can make the gateway
//! spend. They wait in lanes, one for each client and name. The clients take turns, and so do the lanes of a client. So
//! whoever sends many wrong passwords delays himself, and the owner of the name at the same address, but nobody else.

use super::access::{Login, Users};
use super::limits::{
    FREE_GUESSES, GUESS_PAUSE, GUESSES_WINDOW, MAX_REMEMBERED_GUESSERS, MAX_WAITING_PASSWORDS,
    MAX_WAITING_PASSWORDS_IN_ALL, NOTED_GUESSES, PASSWORD_THREADS,
};
use anyhow::Result;
use fs_err as fs;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often the gateway looks whether the file with the users has changed.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);
/// How often the journal names the same client.
const NOTE_INTERVAL: Duration = Duration::from_secs(600);

/// How a login ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginResult {
    Right,
    Wrong,
    /// Too many checks wait; the client must come back.
    Busy,
}

#[derive(Clone)]
pub(super) struct Logins(Arc<Shared>);

struct Shared {
    /// The file with the users; it can change while the gateway runs.
    file: PathBuf,
    users: RwLock<Arc<Users>>,
    queue: Mutex<Queue>,
    work: Condvar,
    counts: [AtomicU64; 3],
}

#[derive(Default)]
struct Queue {
    lanes: HashMap<Lane, Waiting>,
    /// When the password of a client was checked last.
    served: HashMap<IpAddr, Instant>,
    waiting: usize,
    noted: HashMap<IpAddr, Instant>,
}

/// A client and the user that it names; all names that nobody has are one.
type Lane = (IpAddr, Option<Arc<str>>);

#[derive(Default)]
struct Waiting {
    checks: VecDeque<Check>,
    /// Whether a thread checks a password of this lane.
    is_served: bool,
    served: Option<Instant>,
    /// Wrong passwords since `guessing_since`.
    guesses: u32,
    guessing_since: Option<Instant>,
}

struct Check {
    /// The users at the time of the request.
    users: Arc<Users>,
    login: Login,
    answer: oneshot::Sender<bool>,
}

impl Logins {
    /// Reads the file with the users, and starts the threads.
    pub(super) fn start(file: &Path) -> Result<Self> {
        let shared = Arc::new(Shared::new(file)?);
        for _ in 0..PASSWORD_THREADS {
            let shared = shared.clone();
            std::thread::Builder::new().name("passwords".into()).spawn(move || shared.check_forever())?;
        }
        Ok(Self(shared))
    }

    /// The user of an `Authorization` header that has been found right before. Costs nothing.
    pub(super) fn verified(&self, authorization: &str) -> Option<Arc<str>> {
        self.0.users().verified(authorization)
    }

    /// Reads the file with the users whenever it changes. If the new one cannot be used, it warns once and keeps the old
    /// users.
    pub(super) async fn reload_forever(self, warn: impl Fn(&str)) {
        let modified = || fs::metadata(&self.0.file).and_then(|meta| meta.modified()).ok();
        let mut loaded = modified();
        loop {
            tokio::time::sleep(RELOAD_INTERVAL).await;
            let now = modified();
            if now == loaded {
                continue;
            }
            loaded = now;
            match Users::read(&self.0.file) {
                Ok(users) => *self.0.users.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(users),
                Err(e) => warn(&format!("the gateway keeps its old users, because it cannot use the new ones: {e:#}")),
            }
        }
    }

    /// Whether an `Authorization` header contains the right password of a user. A check that waits is given up when the
    /// caller goes away.
    pub(super) async fn verify(&self, client: IpAddr, authorization: &str) -> LoginResult {
        let users = self.0.users();
        let result = match users.login(authorization) {
            Some(login) => match self.0.wait(client, users, login) {
                Some(answer) => match answer.await {
                    Ok(true) => LoginResult::Right,
                    _ => LoginResult::Wrong,
                },
                None => LoginResult::Busy,
            },
            None => LoginResult::Wrong,
        };
        self.0.counts[result as usize].fetch_add(1, Ordering::Relaxed);
        result
    }

    /// How many logins ended in each way.
    pub(super) fn counts(&self) -> [(&'static str, u64); 3] {
        let count = |result: LoginResult| self.0.counts[result as usize].load(Ordering::Relaxed);
        [("right", count(LoginResult::Right)), ("wrong", count(LoginResult::Wrong)), ("busy", count(LoginResult::Busy))]
    }
}

impl Shared {
    fn new(file: &Path) -> Result<Self> {
        Ok(Self {
            file: file.into(),
            users: RwLock::new(Arc::new(Users::read(file)?)),
            queue: Mutex::default(),
            work: Condvar::new(),
            counts: Default::default(),
        })
    }

    fn users(&self) -> Arc<Users> {
        self.users.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a check; `None` if too many wait.
    fn wait(&self, client: IpAddr, users: Arc<Users>, login: Login) -> Option<oneshot::Receiver<bool>> {
        let mut queue = self.lock();
        queue.forget_the_gone(Instant::now());
        let lane = (client, login.user.clone());
        if queue.waiting >= MAX_WAITING_PASSWORDS_IN_ALL {
            return None;
        }
        let waiting = queue.lanes.entry(lane).or_default();
        if waiting.checks.len() >= MAX_WAITING_PASSWORDS {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        waiting.checks.push_back(Check { users, login, answer });
        queue.waiting += 1;
        drop(queue);
        self.work.notify_one();
        Some(answered)
    }

    fn check_forever(&self) {
        loop {
            let (lane, check) = self.next();
            let is_right = check.users.verify(&check.login);
            let mut queue = self.lock();
            if let Some(client) = queue.end(&lane, is_right, Instant::now()) {
                eprintln!(
                    "warning: {client} has sent {NOTED_GUESSES} wrong passwords for one user name within a minute; since the \
                     {FREE_GUESSES}th, the gateway checks the passwords of this client for this name one by one"
                );
            }
            drop(queue);
            let _ = check.answer.send(is_right);
            // The lane of this check may have another one.
            self.work.notify_one();
        }
    }

    /// Waits for the next check whose client is still there.
    fn next(&self) -> (Lane, Check) {
        let mut queue = self.lock();
        loop {
            let now = Instant::now();
            queue.forget_the_gone(now);
            match queue.take(now) {
                Ok(taken) => return taken,
                Err(Some(pause)) => {
                    let waited = self.work.wait_timeout(queue, pause).unwrap_or_else(PoisonError::into_inner);
                    queue = waited.0;
                }
                Err(None) => queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Queue {
    /// The next check: of the client, and then of the lane, that has waited longest for its turn. Otherwise how long
    /// nothing can be checked; `None` if nothing waits.
    fn take(&mut self, now: Instant) -> Result<(Lane, Check), Option<Duration>> {
        let waits = |waiting: &&Waiting| !waiting.checks.is_empty() && !waiting.is_served;
        let ready = self.lanes.iter().filter(|(_, waiting)| waits(waiting) && waiting.pause(now).is_zero());
        let next = ready.min_by_key(|(lane, waiting)| (self.served.get(&lane.0).copied(), waiting.served));
        let Some(lane) = next.map(|(lane, _)| lane.clone()) else {
            return Err(self.lanes.values().filter(waits).map(|waiting| waiting.pause(now)).min());
        };
        self.served.insert(lane.0, now);
        let waiting = self.lanes.entry(lane.clone()).or_default();
        let Some(check) = waiting.checks.pop_front() else { return Err(None) };
        (waiting.is_served, waiting.served) = (true, Some(now));
        self.waiting -= 1;
        Ok((lane, check))
    }

    /// Notes how a check ended. Returns the client if the journal should name it.
    fn end(&mut self, lane: &Lane, is_right: bool, now: Instant) -> Option<IpAddr> {
        let waiting = self.lanes.entry(lane.clone()).or_default();
        (waiting.is_served, waiting.served) = (false, Some(now));
        if is_right {
            return None;
        }
        if waiting.guessing_since.is_none_or(|since| now.duration_since(since) > GUESSES_WINDOW) {
            (waiting.guesses, waiting.guessing_since) = (0, Some(now));
        }
        waiting.guesses = waiting.guesses.saturating_add(1);
        let is_news = self.noted.get(&lane.0).is_none_or(|noted| now.duration_since(*noted) > NOTE_INTERVAL);
        let notes = waiting.guesses >= NOTED_GUESSES && is_news;
        notes.then(|| {
            self.noted.insert(lane.0, now);
            lane.0
        })
    }

    /// Forgets checks whose clients have gone away, and lanes that do not matter any more.
    fn forget_the_gone(&mut self, now: Instant) {
        for waiting in self.lanes.values_mut() {
            waiting.checks.retain(|check| !check.answer.is_closed());
        }
        self.waiting = self.lanes.values().map(|waiting| waiting.checks.len()).sum();
        if self.lanes.len() > MAX_REMEMBERED_GUESSERS {
            let is_recent = |since: Instant| now.duration_since(since) <= GUESSES_WINDOW;
            self.lanes.retain(|_, waiting| waiting.is_busy() || waiting.guessing_since.is_some_and(is_recent));
        }
        if self.lanes.len() > MAX_REMEMBERED_GUESSERS {
            self.lanes.retain(|_, waiting| waiting.is_busy());
        }
        if self.served.len() > MAX_REMEMBERED_GUESSERS {
            self.served.clear();
        }
        if self.noted.len() > MAX_REMEMBERED_GUESSERS {
            self.noted.clear();
        }
    }
}

impl Waiting {
    fn is_busy(&self) -> bool {
        self.is_served || !self.checks.is_empty()
    }

    /// How long the next check of this lane must wait.
    fn pause(&self, now: Instant) -> Duration {
        let guesses = self.guessing_since.is_some_and(|since| now.duration_since(since) <= GUESSES_WINDOW)
            && self.guesses >= FREE_GUESSES;
        let until = self.served.filter(|_| guesses).map(|served| served + GUESS_PAUSE);
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_STANDARD, Engine};
    use std::io::Write;

    fn users() -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for name in ["admin", "eve"] {
            writeln!(file, "{name}:{}", bcrypt::hash("right", 4).unwrap()).unwrap();
        }
        file
    }

    fn basic(name: &str, password: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")))
    }

    fn client(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    /// A queue of checks, without threads.
    fn queue() -> Shared {
        Shared::new(users().path()).unwrap()
    }

    fn wait(shared: &Shared, client: IpAddr, name: &str) -> Option<oneshot::Receiver<bool>> {
        let users = shared.users();
        let login = users.login(&basic(name, "x")).unwrap();
        shared.wait(client, users, login)
    }

    #[test]
    fn clients_and_names_take_turns() {
        let shared = queue();
        let now = Instant::now();
        let guesses: Vec<_> = (0..5).map(|_| wait(&shared, client(1), "admin")).collect();
        let others = [wait(&shared, client(1), "eve"), wait(&shared, client(2), "admin")];
        assert!(guesses.iter().chain(&others).all(Option::is_some));
        let mut order = Vec::new();
        for n in 0..4 {
            let now = now + Duration::from_millis(n);
            let (lane, _) = shared.lock().take(now).ok().unwrap();
            shared.lock().end(&lane, false, now);
            order.push(lane);
        }
        let [first, second, other] =
            [(1, "admin"), (1, "eve"), (2, "admin")].map(|(n, name)| (client(n), Some(name.into())));
        assert!(order.contains(&other), "{order:?}");
        assert!(order[..3].contains(&first) && order[..3].contains(&second), "{order:?}");
    }

    #[test]
    fn who_guesses_waits_alone() {
        let shared = queue();
        let mut now = Instant::now();
        let mut answers = Vec::new();
        for _ in 0..FREE_GUESSES {
            answers.push(wait(&shared, client(1), "admin"));
            let (lane, _) = shared.lock().take(now).ok().unwrap();
            shared.lock().end(&lane, false, now);
        }
        answers.push(wait(&shared, client(1), "admin"));
        now += Duration::from_millis(100);
        assert_eq!(shared.lock().take(now).err(), Some(Some(GUESS_PAUSE - Duration::from_millis(100))));
        answers.push(wait(&shared, client(1), "eve"));
        answers.push(wait(&shared, client(2), "admin"));
        assert!(shared.lock().take(now).is_ok() && shared.lock().take(now).is_ok());
        assert!(shared.lock().take(now + GUESS_PAUSE).is_ok());
    }

    #[test]
    fn checks_of_clients_that_went_away_are_not_made_and_the_queue_is_bounded() {
        let shared = queue();
        let one = || wait(&shared, client(1), "nobody");
        let waiting: Vec<_> = (0..MAX_WAITING_PASSWORDS).map(|_| one()).collect();
        assert!(waiting.iter().all(Option::is_some) && one().is_none());
        drop(waiting);
        let there = one();
        assert!(there.is_some());
        assert_eq!(shared.lock().waiting, 1);
    }

    #[tokio::test]
    async fn a_right_password_is_right_while_others_guess() {
        let logins = Logins::start(users().path()).unwrap();
        for _ in 0..3 {
            assert_eq!(logins.verify(client(1), &basic("admin", "wrong")).await, LoginResult::Wrong);
        }
        assert_eq!(logins.verify(client(1), &basic("admin", "right")).await, LoginResult::Right);
        assert_eq!(logins.verified(&basic("admin", "right")).as_deref(), Some("admin"));
        assert_eq!(logins.verify(client(1), "Bearer x").await, LoginResult::Wrong);
        assert_eq!(logins.counts(), [("right", 1), ("wrong", 4), ("busy", 0)]);
    }
}
