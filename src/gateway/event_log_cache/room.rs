//! Which applications have room in the cache, and which ones must go. It decides alone: it reads no clock and no disk.
//!
//! Least recently used goes first, and whatever was asked for within [`PROTECTED`] stays. Where somebody waits for room, this time
//! shrinks with each second of waiting, down to [`LEAST`]: so fifty people take turns in a cache for twenty. What others look at
//! makes room only for a client that has fewer applications in the cache than each of them. A client that asks for everything
//! takes turns with itself. All tunnels together are one client, this node itself: it gets half of the places whatever others have.

use crate::gateway::shares::ClientKey;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// For how long an application stays in the cache after it was asked for, unless somebody waits for room.
pub(super) const PROTECTED: Duration = Duration::from_secs(600);
/// For how long it stays even then: a reader who has just got a page clicks again within that time. It suffices to serve two
/// hundred applications with a cache for twenty before a program gives up waiting.
const LEAST: Duration = Duration::from_secs(30);
/// The same while a request for it waits for the history server, which reads the log.
const LEAST_WHILE_ASKED: Duration = Duration::from_secs(120);
/// How many seconds of protection a second of waiting takes away.
const SHRINKING: u32 = 20;
/// Who has waited for so long is overtaken only by clients that have fewer applications in the cache.
const PATIENT: Duration = Duration::from_secs(60);
/// How long it counts that nobody's turn has come, unless something changes: all that wait ask several times a second.
const NOBODY: Duration = Duration::from_millis(200);

/// What the cache may hold at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) applications: usize,
    /// How many applications can be fetched at the same time.
    pub(super) fetches: usize,
    /// How many of them one client that is not this node itself can have asked for.
    pub(super) fetches_of_client: usize,
}

/// Who asks for an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) client: ClientKey,
    pub(super) is_own: bool,
}

/// An application in the cache.
#[derive(Debug)]
struct Held {
    bytes: u64,
    /// While more of it is fetched: how many bytes more it takes meanwhile, and for whom.
    fetching: Option<(u64, ClientKey)>,
    /// The names of its logs in the cache's directory.
    names: Vec<String>,
    /// When it was last asked for.
    used: Instant,
    /// Who has asked for it within [`PROTECTED`], and when last.
    viewers: BTreeMap<ClientKey, Instant>,
    /// Requests that wait for the history server.
    requests: usize,
}

/// An application that waits for room.
#[derive(Debug)]
struct Waiting {
    ticket: u64,
    id: String,
    asker: Asker,
    /// How many bytes more it takes.
    bytes: u64,
    names: Vec<String>,
    since: Instant,
}

/// Whether an application that waits for room has it now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It has it, after these have gone.
    Go(Vec<String>),
    Wait,
    /// It has never room: the limit for the bytes of the cache.
    TooLarge(u64),
    /// The disk has no room, whatever goes: how many bytes there would be.
    NoDisk(u64),
}

#[derive(Debug)]
pub(super) struct Room {
    limits: Limits,
    held: BTreeMap<String, Held>,
    waiting: Vec<Waiting>,
    tickets: u64,
    /// When it was nobody's turn.
    nobody: Option<Instant>,
}

/// How many applications of the cache each client has asked for lately.
type Loads = HashMap<ClientKey, usize>;

impl Room {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, held: BTreeMap::new(), waiting: Vec::new(), tickets: 0, nobody: None }
    }

    /// Takes over an application that an earlier process has fetched.
    pub(super) fn take_over(&mut self, id: &str, bytes: u64, names: Vec<String>, used: Instant) {
        let held = Held { bytes, fetching: None, names, used, viewers: BTreeMap::new(), requests: 0 };
        self.held.insert(id.into(), held);
    }

    /// Notes that somebody asks for an application that is in the cache.
    pub(super) fn note_use(&mut self, id: &str, asker: Asker, now: Instant) {
        if let Some(held) = self.held.get_mut(id) {
            held.used = held.used.max(now);
            held.viewers.retain(|_, at| now.saturating_duration_since(*at) < PROTECTED);
            held.viewers.insert(asker.client, now);
        }
    }

    /// Notes that a request for an application begins to wait for the history server, or has ended.
    pub(super) fn note_request(&mut self, id: &str, begins: bool) {
        if let Some(held) = self.held.get_mut(id) {
            held.requests = if begins { held.requests + 1 } else { held.requests.saturating_sub(1) };
        }
    }

    /// Lets an application wait for room for `bytes` more. Returns its ticket.
    pub(super) fn ask(&mut self, id: &str, asker: Asker, bytes: u64, names: Vec<String>, now: Instant) -> u64 {
        self.nobody = None;
        self.tickets += 1;
        let ticket = self.tickets;
        self.waiting.push(Waiting { ticket, id: id.into(), asker, bytes, names, since: now });
        ticket
    }

    pub(super) fn give_up(&mut self, ticket: u64) {
        self.nobody = None;
        self.waiting.retain(|waiting| waiting.ticket != ticket);
    }

    /// Whether a ticket's turn has come. `free` is how many bytes of the disk the cache may take now. If the answer is
    /// [`Turn::Go`], the applications that must go are no longer held, and the application is.
    pub(super) fn turn(&mut self, ticket: u64, now: Instant, free: u64) -> Turn {
        let Some(asked) = self.waiting.iter().find(|waiting| waiting.ticket == ticket) else { return Turn::Wait };
        if let Some(never) = self.never(asked, free) {
            return never;
        }
        if self.nobody.is_some_and(|at| now.saturating_duration_since(at) < NOBODY) {
            return Turn::Wait;
        }
        let loads = self.loads(now);
        let load = |waiting: &Waiting| loads.get(&waiting.asker.client).copied().unwrap_or(0);
        let mut order: Vec<&Waiting> =
            self.waiting.iter().filter(|waiting| self.never(waiting, free).is_none()).collect();
        order.sort_by_key(|waiting| (load(waiting), waiting.ticket));
        for waiting in order {
            if let Some(victims) = self.room_for(waiting, &loads, now, free, false) {
                return if waiting.ticket == ticket { self.go(ticket, victims, now) } else { Turn::Wait };
            }
            // Small ones must not take the room of a large one again and again.
            let is_patient = now.saturating_duration_since(waiting.since) >= PATIENT;
            if is_patient && self.room_for(waiting, &loads, now, free, true).is_some() {
                break;
            }
        }
        self.nobody = Some(now);
        Turn::Wait
    }

    /// Why an application has never room, if so.
    fn never(&self, waiting: &Waiting, free: u64) -> Option<Turn> {
        if waiting.bytes > self.limits.bytes {
            return Some(Turn::TooLarge(self.limits.bytes));
        }
        let others = self.held.iter().filter(|(id, _)| **id != waiting.id);
        let most = others.fold(free, |sum, (_, held)| sum.saturating_add(held.bytes));
        (waiting.bytes > most).then_some(Turn::NoDisk(most))
    }

    fn go(&mut self, ticket: u64, victims: Vec<String>, now: Instant) -> Turn {
        self.nobody = None;
        let Some(at) = self.waiting.iter().position(|waiting| waiting.ticket == ticket) else { return Turn::Wait };
        let waiting = self.waiting.remove(at);
        for victim in &victims {
            self.held.remove(victim);
        }
        let held = self.held.entry(waiting.id.clone()).or_insert_with(|| Held {
            bytes: 0,
            fetching: None,
            names: Vec::new(),
            used: now,
            viewers: BTreeMap::new(),
            requests: 0,
        });
        held.fetching = Some((waiting.bytes, waiting.asker.client));
        held.names.extend(waiting.names);
        self.note_use(&waiting.id, waiting.asker, now);
        Turn::Go(victims)
    }

    /// Notes that an application has been fetched, and what it takes now.
    pub(super) fn fetched(&mut self, id: &str, bytes: u64, names: Vec<String>) {
        self.nobody = None;
        if let Some(held) = self.held.get_mut(id) {
            (held.bytes, held.names, held.fetching) = (bytes, names, None);
        }
    }

    /// Notes that an application has not been fetched. What was in the cache before still is.
    pub(super) fn not_fetched(&mut self, id: &str) {
        self.nobody = None;
        if let Some(held) = self.held.get_mut(id) {
            held.fetching = None;
            if held.bytes == 0 {
                self.held.remove(id);
            }
        }
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.nobody = None;
        self.held.remove(id);
    }

    /// Applications that must go because the disk lacks so many bytes, although nobody asks for another one. Others than this
    /// cache write to the disk, so that what was asked for a moment ago goes, too.
    pub(super) fn excess(&mut self, lacking: u64, now: Instant) -> Vec<String> {
        let mut candidates: Vec<(Instant, &String)> = self
            .held
            .iter()
            .filter(|(_, held)| held.fetching.is_none() && now.saturating_duration_since(held.used) >= LEAST)
            .map(|(id, held)| (held.used, id))
            .collect();
        candidates.sort();
        let mut freed = 0;
        let enough = |id: &&String| {
            let go = freed < lacking;
            freed += self.held[*id].bytes;
            go
        };
        let victims: Vec<String> = candidates.into_iter().map(|(_, id)| id).take_while(enough).cloned().collect();
        for victim in &victims {
            self.held.remove(victim);
        }
        victims
    }

    /// How many bytes the cache takes, those included that are being fetched.
    pub(super) fn bytes(&self) -> u64 {
        self.held.values().map(|held| held.bytes + held.fetching.map_or(0, |(bytes, _)| bytes)).sum()
    }

    pub(super) fn applications(&self) -> usize {
        self.held.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// When each application was last asked for.
    pub(super) fn uses(&self) -> impl Iterator<Item = (&str, Instant)> {
        self.held.iter().map(|(id, held)| (id.as_str(), held.used))
    }

    fn loads(&self, now: Instant) -> Loads {
        let mut loads = Loads::new();
        for (viewer, at) in self.held.values().flat_map(|held| &held.viewers) {
            if now.saturating_duration_since(*at) < PROTECTED {
                *loads.entry(*viewer).or_default() += 1;
            }
        }
        loads
    }

    /// What must go so that an application has room now; `None` if that is not possible. With `later`, as if all others had been
    /// asked for so long ago that their time is over for somebody who waits.
    fn room_for(&self, waiting: &Waiting, loads: &Loads, now: Instant, free: u64, later: bool) -> Option<Vec<String>> {
        let fetching = |client: Option<ClientKey>| {
            let clients = self.held.values().filter_map(|held| Some(held.fetching?.1));
            clients.filter(|fetching| client.is_none_or(|client| client == *fetching)).count()
        };
        let asker = waiting.asker;
        if fetching(None) >= self.limits.fetches
            || !asker.is_own && fetching(Some(asker.client)) >= self.limits.fetches_of_client
        {
            return None;
        }
        // Two logs of one name cannot lie in one directory.
        let has_name = |held: &Held| waiting.names.iter().any(|name| held.names.contains(name));
        let (mut victims, mut candidates) = (Vec::new(), Vec::new());
        for (id, held) in self.held.iter().filter(|(id, _)| **id != waiting.id) {
            match (has_name(held), self.may_go(held, waiting, loads, now, later)) {
                (true, false) => return None,
                (true, true) => victims.push((id, held)),
                (false, true) => candidates.push((id, held)),
                (false, false) => {}
            }
        }
        // What is protected goes from the client with the most.
        let fewest = |held: &Held| held.viewers.keys().filter_map(|viewer| loads.get(viewer)).min().copied();
        let is_protected = |held: &Held| now.saturating_duration_since(held.used) < PROTECTED;
        candidates.sort_by_key(|(_, held)| (is_protected(held).then(|| Reverse(fewest(held))), held.used));
        let mut candidates = candidates.into_iter();
        let own = usize::from(!self.held.contains_key(&waiting.id));
        let bytes = self.bytes();
        let mut freed: u64 = victims.iter().map(|(_, held)| held.bytes).sum();
        loop {
            let fits = self.held.len() + own - victims.len() <= self.limits.applications
                && bytes - freed + waiting.bytes <= self.limits.bytes
                && free.saturating_add(freed) >= waiting.bytes;
            if fits {
                return Some(victims.into_iter().map(|(id, _)| id.clone()).collect());
            }
            let (id, held) = candidates.next()?;
            freed += held.bytes;
            victims.push((id, held));
        }
    }

    fn may_go(&self, held: &Held, waiting: &Waiting, loads: &Loads, now: Instant, later: bool) -> bool {
        let age = now.saturating_duration_since(held.used);
        if held.fetching.is_some() {
            return false;
        }
        if age >= PROTECTED {
            return true;
        }
        let least = if held.requests > 0 { LEAST_WHILE_ASKED } else { LEAST };
        let waited = now.saturating_duration_since(waiting.since);
        let protected = PROTECTED.saturating_sub(waited.saturating_mul(SHRINKING)).max(least);
        let client = waiting.asker.client;
        let load = |client: &ClientKey| loads.get(client).copied().unwrap_or(0);
        let its_own = load(&client);
        let is_many = waiting.asker.is_own && its_own < self.limits.applications / 2;
        let has_more = |(viewer, at): (&ClientKey, &Instant)| {
            *viewer == client || now.saturating_duration_since(*at) >= PROTECTED || load(viewer) > its_own
        };
        (later || age >= protected) && (is_many || held.viewers.iter().all(has_more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::shares::Client;
    use std::net::IpAddr;

    const GB: u64 = 1_000_000_000;

    struct Clock(Instant);

    impl Clock {
        fn pass(&mut self, seconds: u64) -> Instant {
            self.0 += Duration::from_secs(seconds);
            self.0
        }
    }

    fn asker(last: u8) -> Asker {
        let client = Client { address: IpAddr::from([10, 0, 0, last]), is_own: last == 1, account: None };
        Asker { client: client.key(), is_own: client.is_own }
    }

    fn room(applications: usize, gb: u64) -> (Room, Clock) {
        let limits = Limits { bytes: gb * GB, applications, fetches: 100, fetches_of_client: 100 };
        (Room::new(limits), Clock(Instant::now()))
    }

    /// Asks once, and gives up if there is no room.
    fn fetch(room: &mut Room, id: &str, client: u8, gb: u64, now: Instant) -> Turn {
        let ticket = room.ask(id, asker(client), gb * GB, vec![id.into()], now);
        let turn = room.turn(ticket, now, 1000 * GB);
        match turn {
            Turn::Go(_) => room.fetched(id, gb * GB, vec![id.into()]),
            _ => room.give_up(ticket),
        }
        turn
    }

    fn gone(ids: &[&str]) -> Turn {
        Turn::Go(ids.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let (mut room, mut clock) = room(3, 10);
        for id in ["a", "b", "c"] {
            assert_eq!(fetch(&mut room, id, 2, 3, clock.pass(1)), gone(&[]));
        }
        room.note_use("a", asker(2), clock.pass(1));
        assert_eq!(fetch(&mut room, "d", 2, 3, clock.pass(1)), Turn::Wait, "all were asked for lately");
        assert_eq!(fetch(&mut room, "d", 2, 3, clock.pass(598)), gone(&["b"]), "by number");
        assert_eq!(fetch(&mut room, "e", 2, 7, clock.pass(600)), gone(&["c", "a"]), "by bytes");
        assert_eq!((room.bytes(), room.applications()), (10 * GB, 2));
    }

    #[test]
    fn what_never_fits_is_told_so() {
        let (mut room, mut clock) = room(3, 10);
        assert_eq!(fetch(&mut room, "a", 2, 11, clock.pass(1)), Turn::TooLarge(10 * GB));
        let ticket = room.ask("a", asker(2), 5 * GB, Vec::new(), clock.0);
        assert_eq!(room.turn(ticket, clock.0, 4 * GB), Turn::NoDisk(4 * GB));
        room.take_over("old", 2 * GB, Vec::new(), clock.0);
        assert_eq!(room.turn(ticket, clock.pass(1), 4 * GB), Turn::Wait);
        assert_eq!(room.turn(ticket, clock.pass(600), 4 * GB), gone(&["old"]), "the disk has no other room");
    }

    #[test]
    fn fifty_clients_take_turns_in_a_cache_for_twenty() {
        let (mut room, mut clock) = room(20, 1000);
        // With one address each, and all behind one.
        for client in [|n: u8| n, |_: u8| 1] {
            let tickets: Vec<(String, u64)> = (2..52_u8)
                .map(|n| {
                    let id = format!("{n}-{}", client(n));
                    let ticket = room.ask(&id, asker(client(n)), GB, vec![id.clone()], clock.0);
                    (id, ticket)
                })
                .collect();
            let mut left = tickets;
            let begun = clock.0;
            while !left.is_empty() {
                clock.pass(1);
                left.retain(|(id, ticket)| match room.turn(*ticket, clock.0, 1000 * GB) {
                    Turn::Go(_) => {
                        room.fetched(id, GB, vec![id.clone()]);
                        false
                    }
                    Turn::Wait => true,
                    other => panic!("{other:?}"),
                });
                assert!(room.applications() <= 20);
                assert!(clock.0 - begun < Duration::from_secs(300), "a program does not wait longer: {}", left.len());
            }
        }
    }

    #[test]
    fn who_asks_for_everything_takes_nothing_from_others() {
        let (mut room, mut clock) = room(10, 1000);
        for n in 0..4 {
            fetch(&mut room, &format!("others {n}"), 3 + n, 1, clock.pass(1));
        }
        let mut greedy: Vec<(String, u64)> = Vec::new();
        for n in 0..100 {
            let id = format!("greedy {n}");
            let ticket = room.ask(&id, asker(2), GB, vec![id.clone()], clock.0);
            greedy.push((id, ticket));
        }
        for _ in 0..700 {
            clock.pass(1);
            (0..4).for_each(|n| room.note_use(&format!("others {n}"), asker(3 + n), clock.0));
            greedy.retain(|(id, ticket)| match room.turn(*ticket, clock.0, 1000 * GB) {
                Turn::Go(victims) => {
                    assert!(victims.iter().all(|victim| victim.starts_with("greedy")), "{victims:?}");
                    room.fetched(id, GB, vec![id.clone()]);
                    false
                }
                _ => true,
            });
        }
        assert!(greedy.is_empty(), "{}", greedy.len());
        // Who has nothing gets a place of the client with the most.
        (94..100).for_each(|n| room.note_use(&format!("greedy {n}"), asker(2), clock.0));
        let ticket = room.ask("new", asker(9), GB, Vec::new(), clock.0);
        let turn = room.turn(ticket, clock.pass(31), 1000 * GB);
        assert!(matches!(&turn, Turn::Go(victims) if victims[0].starts_with("greedy")), "{turn:?}");
    }

    #[test]
    fn a_large_one_is_not_overtaken_for_ever() {
        let (mut room, mut clock) = room(100, 10);
        for n in 0..10 {
            fetch(&mut room, &format!("old {n}"), 2, 1, clock.0);
        }
        let large = room.ask("large", asker(2), 9 * GB, Vec::new(), clock.0);
        let mut small = 0;
        for second in 0..200 {
            clock.pass(1);
            if let Turn::Go(victims) = room.turn(large, clock.0, 1000 * GB) {
                assert!(victims.len() >= 9 && second < 150);
                return;
            }
            let id = format!("small {small}");
            if fetch(&mut room, &id, 2, 1, clock.0) != Turn::Wait {
                small += 1;
            }
        }
        panic!("it never came, and {small} small ones did");
    }

    #[test]
    fn a_name_is_in_the_cache_once() {
        let (mut room, mut clock) = room(10, 10);
        let ask = |room: &mut Room, id: &str, now| room.ask(id, asker(2), GB, vec!["log".into()], now);
        let first = ask(&mut room, "a", clock.0);
        assert_eq!(room.turn(first, clock.0, 1000 * GB), gone(&[]));
        let second = ask(&mut room, "b", clock.0);
        assert_eq!(room.turn(second, clock.pass(700), 1000 * GB), Turn::Wait, "the other one is still being fetched");
        room.fetched("a", GB, vec!["log".into()]);
        assert_eq!(room.turn(second, clock.0, 1000 * GB), gone(&["a"]));
    }

    #[test]
    fn few_are_fetched_at_once_and_fewer_for_one_client() {
        let (mut room, clock) = room(10, 10);
        (room.limits.fetches, room.limits.fetches_of_client) = (3, 2);
        let mut ask = |client: u8, n: u8| {
            let ticket = room.ask(&format!("{client} {n}"), asker(client), GB, Vec::new(), clock.0);
            let turn = room.turn(ticket, clock.0, 1000 * GB);
            room.give_up(ticket);
            turn
        };
        assert_eq!([ask(2, 1), ask(2, 2), ask(2, 3)], [gone(&[]), gone(&[]), Turn::Wait]);
        assert_eq!([ask(3, 1), ask(3, 2)], [gone(&[]), Turn::Wait]);
    }

    #[test]
    fn where_others_fill_the_disk_the_cache_makes_room() {
        let (mut room, mut clock) = room(10, 10);
        for id in ["a", "b", "c"] {
            fetch(&mut room, id, 2, 2, clock.pass(20));
        }
        assert_eq!(room.excess(GB, clock.0), ["a"]);
        assert_eq!(room.excess(GB, clock.0), [""; 0], "the others were asked for a moment ago");
        assert_eq!(room.excess(3 * GB, clock.pass(60)), ["b", "c"]);
    }
}
