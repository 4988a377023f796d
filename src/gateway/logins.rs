//! Logins: passwords are checked by a few threads of their own, and who guesses waits.
//!
//! Checking a password costs a tenth of a second of a core by design, so checks are what an attacker can make the gateway
//! spend. They wait in lanes, one for each client and name. The clients take turns, and so do the lanes of a client. So
//! whoever sends many wrong passwords for a name delays himself, and the owner of the name as the same client, but nobody else.
//! A name that nobody has takes the same way as any other: otherwise the time of an answer would tell which names exist.

use super::access::{Login, Users};
use super::limits::{
    FREE_GUESSES, FREE_GUESSES_OF_CLIENT, GUESS_PAUSE, GUESS_PAUSE_OF_CLIENT, GUESSES_WINDOW, MAX_REMEMBERED_GUESSERS,
    MAX_WAITING_PASSWORDS, MAX_WAITING_PASSWORDS_IN_ALL, MAX_WAITING_PASSWORDS_OF_CLIENT, NOTED_GUESSES,
    PASSWORD_THREADS,
};
use super::shares::ClientKey;
use anyhow::Result;
use fs_err as fs;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often the gateway looks whether the file with the users has changed.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);
/// Who comes for the first time has its turn as if it had been served so long ago: before those who send many passwords, but not
/// before those who wait for longer than that.
const UNSERVED: Duration = Duration::from_secs(5);
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
    clients: HashMap<ClientKey, Guesser>,
    waiting: usize,
}

/// A client, and the digest of the name that it sends.
type Lane = (ClientKey, [u8; 32]);

#[derive(Default)]
struct Waiting {
    checks: VecDeque<Check>,
    /// Whether a thread checks a password of this lane.
    is_served: bool,
    served: Option<Instant>,
    guesses: Guesses,
}

/// A client.
#[derive(Default)]
struct Guesser {
    /// How many threads check passwords of this client.
    checking: usize,
    served: Option<Instant>,
    guesses: Guesses,
    /// When the journal named it.
    noted: Option<Instant>,
}

/// Wrong passwords since a time.
#[derive(Default)]
struct Guesses {
    count: u32,
    since: Option<Instant>,
}

struct Check {
    arrived: Instant,
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
    pub(super) async fn verify(&self, client: ClientKey, authorization: &str) -> LoginResult {
        let users = self.0.users();
        let result = match users.login(authorization) {
            Some(login) => match self.0.wait(client, users, login) {
                Some(answer) => match answer.await {
                    Ok(true) => LoginResult::Right,
                    Ok(false) => LoginResult::Wrong,
                    // It has made room for another client's.
                    Err(_) => LoginResult::Busy,
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
    fn wait(&self, client: ClientKey, users: Arc<Users>, login: Login) -> Option<oneshot::Receiver<bool>> {
        let mut queue = self.lock();
        let arrived = Instant::now();
        queue.forget_the_gone(arrived);
        let lane = (client, login.name);
        if queue.lanes.get(&lane).is_some_and(|waiting| waiting.checks.len() >= MAX_WAITING_PASSWORDS)
            || !queue.make_room(client)
        {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        let waiting = queue.lanes.entry(lane).or_default();
        waiting.checks.push_back(Check { arrived, users, login, answer });
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
                    "warning: {client} has sent {NOTED_GUESSES} wrong passwords within a minute; from {FREE_GUESSES} for one user \
                     name or {FREE_GUESSES_OF_CLIENT} in all, the gateway checks further ones of this client one by one"
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
    /// Whether there is room for another check of a client, or a client with more of them has lost one.
    fn make_room(&mut self, client: ClientKey) -> bool {
        let mut of_clients = HashMap::<ClientKey, usize>::new();
        for ((client, _), waiting) in &self.lanes {
            *of_clients.entry(*client).or_default() += waiting.checks.len();
        }
        let own = of_clients.get(&client).copied().unwrap_or(0);
        if own >= MAX_WAITING_PASSWORDS_OF_CLIENT {
            return false;
        }
        if self.waiting < MAX_WAITING_PASSWORDS_IN_ALL {
            return true;
        }
        let Some((most, _)) =
            of_clients.into_iter().max_by_key(|(_, count)| *count).filter(|(_, count)| *count > own + 1)
        else {
            return false;
        };
        let lanes = self.lanes.iter_mut().filter(|((client, _), _)| *client == most);
        let longest = lanes.map(|(_, waiting)| waiting).max_by_key(|waiting| waiting.checks.len());
        let dropped = longest.and_then(|waiting| waiting.checks.pop_back()).is_some();
        self.waiting -= usize::from(dropped);
        dropped
    }

    /// The next check: of the client, and then of the lane, that has waited longest for its turn. Otherwise how long
    /// nothing can be checked; `None` if nothing waits.
    fn take(&mut self, now: Instant) -> Result<(Lane, Check), Option<Duration>> {
        let mut waiting = Vec::new();
        for (lane, lane_waiting) in self.lanes.iter().filter(|(_, waiting)| !waiting.is_served) {
            let Some(arrived) = lane_waiting.checks.front().map(|check| check.arrived) else { continue };
            let (mut pause, mut served) = (lane_waiting.pause(now), None);
            if let Some(client) = self.clients.get(&lane.0) {
                if client.checking > 0 && client.guesses_much(now) {
                    continue;
                }
                (pause, served) = (pause.max(client.pause(now)), client.served);
            }
            let unserved = arrived.checked_sub(UNSERVED);
            let turn = (served.max(unserved), lane_waiting.served.max(unserved));
            waiting.push((pause, turn, *lane));
        }
        let next = waiting.iter().filter(|(pause, ..)| pause.is_zero()).min_by_key(|(_, turn, _)| *turn);
        let Some((_, _, lane)) = next.copied() else {
            return Err(waiting.into_iter().map(|(pause, ..)| pause).min());
        };
        let waiting = self.lanes.entry(lane).or_default();
        let Some(check) = waiting.checks.pop_front() else { return Err(None) };
        (waiting.is_served, waiting.served) = (true, Some(now));
        self.waiting -= 1;
        let client = self.clients.entry(lane.0).or_default();
        (client.checking, client.served) = (client.checking + 1, Some(now));
        Ok((lane, check))
    }

    /// Notes how a check ended. Returns the client if the journal should name it.
    fn end(&mut self, lane: &Lane, is_right: bool, now: Instant) -> Option<ClientKey> {
        let waiting = self.lanes.entry(*lane).or_default();
        (waiting.is_served, waiting.served) = (false, Some(now));
        let client = self.clients.entry(lane.0).or_default();
        (client.checking, client.served) = (client.checking.saturating_sub(1), Some(now));
        if is_right {
            return None;
        }
        waiting.guesses.add(now);
        client.guesses.add(now);
        let is_news = client.noted.is_none_or(|noted| now.duration_since(noted) > NOTE_INTERVAL);
        let notes = client.guesses.lately(now) >= NOTED_GUESSES && is_news;
        notes.then(|| {
            client.noted = Some(now);
            lane.0
        })
    }

    /// Forgets checks whose clients have gone away, and lanes and clients that do not matter any more.
    fn forget_the_gone(&mut self, now: Instant) {
        for waiting in self.lanes.values_mut() {
            waiting.checks.retain(|check| !check.answer.is_closed());
        }
        self.waiting = self.lanes.values().map(|waiting| waiting.checks.len()).sum();
        if self.lanes.len() > MAX_REMEMBERED_GUESSERS {
            self.lanes.retain(|_, waiting| waiting.is_busy() || waiting.guesses.lately(now) > 0);
        }
        if self.lanes.len() > MAX_REMEMBERED_GUESSERS {
            self.lanes.retain(|_, waiting| waiting.is_busy());
        }
        if self.clients.len() > MAX_REMEMBERED_GUESSERS {
            self.clients.retain(|_, client| client.checking > 0 || client.guesses.lately(now) > 0);
        }
        if self.clients.len() > MAX_REMEMBERED_GUESSERS {
            self.clients.retain(|_, client| client.checking > 0);
        }
    }
}

impl Waiting {
    fn is_busy(&self) -> bool {
        self.is_served || !self.checks.is_empty()
    }

    /// How long the next check of this lane must wait.
    fn pause(&self, now: Instant) -> Duration {
        let served = self.served.filter(|_| self.guesses.lately(now) >= FREE_GUESSES);
        served.map_or(Duration::ZERO, |served| (served + GUESS_PAUSE).saturating_duration_since(now))
    }
}

impl Guesser {
    fn guesses_much(&self, now: Instant) -> bool {
        self.guesses.lately(now) >= FREE_GUESSES_OF_CLIENT
    }

    /// How long the next check of this client must wait.
    fn pause(&self, now: Instant) -> Duration {
        let served = self.served.filter(|_| self.guesses_much(now));
        served.map_or(Duration::ZERO, |served| (served + GUESS_PAUSE_OF_CLIENT).saturating_duration_since(now))
    }
}

impl Guesses {
    fn add(&mut self, now: Instant) {
        if self.since.is_none_or(|since| now.duration_since(since) > GUESSES_WINDOW) {
            (self.count, self.since) = (0, Some(now));
        }
        self.count = self.count.saturating_add(1);
    }

    /// How many there were within the last minute.
    fn lately(&self, now: Instant) -> u32 {
        let is_recent = self.since.is_some_and(|since| now.duration_since(since) <= GUESSES_WINDOW);
        if is_recent { self.count } else { 0 }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::gateway::shares::Client;
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

    fn client(last: u8) -> ClientKey {
        Client { address: [10, 0, 0, last].into(), is_own: false, account: None }.key()
    }

    /// A queue of checks, without threads.
    fn queue() -> Shared {
        Shared::new(users().path()).unwrap()
    }

    fn wait(shared: &Shared, client: ClientKey, name: &str) -> Option<oneshot::Receiver<bool>> {
        let users = shared.users();
        let login = users.login(&basic(name, "x")).unwrap();
        shared.wait(client, users, login)
    }

    fn lane(shared: &Shared, client: ClientKey, name: &str) -> Lane {
        (client, shared.users().login(&basic(name, "x")).unwrap().name)
    }

    /// What happens to the checks of two names after wrong passwords for the first one.
    fn way_of(names: [&str; 2]) -> String {
        let shared = queue();
        let mut now = Instant::now() + Duration::from_secs(1);
        let mut told = String::new();
        for _ in 0..FREE_GUESSES {
            let answer = wait(&shared, client(1), names[0]);
            let taken = shared.lock().take(now).ok().map(|(lane, _)| lane);
            told += &format!("{} {} ", answer.is_some(), taken == Some(lane(&shared, client(1), names[0])));
            let noted = taken.and_then(|lane| shared.lock().end(&lane, false, now));
            told += &format!("{noted:?}\n");
        }
        let kept: Vec<_> = names.map(|name| [(); 12].map(|()| wait(&shared, client(1), name))).into();
        for name in names {
            told += &format!("{:?}\n", shared.lock().lanes[&lane(&shared, client(1), name)].checks.len());
        }
        for _ in 0..24 {
            now += GUESS_PAUSE / 4;
            let taken = shared.lock().take(now).map(|(lane, _)| lane);
            if let Ok(lane) = taken {
                shared.lock().end(&lane, false, now);
            }
            let at = names.iter().position(|name| taken == Ok(lane(&shared, client(1), name)));
            told += &format!("{at:?} {:?}\n", taken.err());
        }
        drop(kept);
        told
    }

    #[test]
    fn names_that_nobody_has_take_the_way_of_those_that_exist() {
        let known = way_of(["admin", "eve"]);
        assert!(known.contains("Some(1)") && known.contains("Some(0)"), "{known}");
        for names in [["nobody", "no-one"], ["admin", "no-one"], ["nobody", "eve"]] {
            assert_eq!(way_of(names), known, "{names:?}");
        }
    }

    #[test]
    fn a_client_that_tries_many_names_is_checked_one_by_one_and_keeps_nobody_out() {
        let shared = queue();
        let many: Vec<_> = (0..40).map(|n| wait(&shared, client(1), &format!("user{n}"))).collect();
        assert_eq!(many.iter().flatten().count(), MAX_WAITING_PASSWORDS_OF_CLIENT);
        let now = Instant::now();
        let mut noted = Vec::new();
        for _ in 0..FREE_GUESSES_OF_CLIENT {
            let (lane, _) = shared.lock().take(now).ok().unwrap();
            noted.extend(shared.lock().end(&lane, false, now));
        }
        assert_eq!(noted, [client(1)], "the journal names it once");
        assert_eq!(shared.lock().take(now).err(), Some(Some(GUESS_PAUSE_OF_CLIENT)));
        let now = now + GUESS_PAUSE_OF_CLIENT;
        let (lane, _) = shared.lock().take(now).ok().unwrap();
        assert_eq!(shared.lock().take(now).err(), Some(None), "one at a time");
        let other = wait(&shared, client(2), "admin");
        assert_eq!(shared.lock().take(now).ok().map(|(lane, _)| lane.0), Some(client(2)));
        shared.lock().end(&lane, false, now);
        drop(other);
        // Where all places are taken, those with many give one.
        let full: Vec<_> = (10..20).flat_map(|n| (0..32).map(move |name| (n, format!("user{name}")))).collect();
        let full: Vec<_> = full.iter().map(|(n, name)| wait(&shared, client(*n), name)).collect();
        assert_eq!(shared.lock().waiting, MAX_WAITING_PASSWORDS_IN_ALL);
        assert!(wait(&shared, client(30), "admin").is_some());
        assert!(full.iter().flatten().count() >= MAX_WAITING_PASSWORDS_IN_ALL - MAX_WAITING_PASSWORDS_OF_CLIENT);
    }

    #[test]
    fn clients_and_names_take_turns() {
        let shared = queue();
        let guesses: Vec<_> = (0..5).map(|_| wait(&shared, client(1), "admin")).collect();
        let others = [wait(&shared, client(1), "eve"), wait(&shared, client(2), "admin")];
        assert!(guesses.iter().chain(&others).all(Option::is_some));
        let now = Instant::now();
        let mut order = Vec::new();
        for n in 0..4 {
            let now = now + Duration::from_millis(n);
            let (lane, _) = shared.lock().take(now).ok().unwrap();
            shared.lock().end(&lane, false, now);
            order.push(lane);
        }
        let [first, second, other] =
            [(1, "admin"), (1, "eve"), (2, "admin")].map(|(n, name)| lane(&shared, client(n), name));
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
