//! How many TLS handshakes a client on another machine can begin. Each takes half a millisecond of a core (`openssl s_time -new`, with a
//! key of RSA 2048), mostly for the signature. Further ones wait, so that a client that connects without end leaves the cores to Spark
//! and to others.

use super::limits::{HANDSHAKE_BURST, HANDSHAKE_CLIENTS, HANDSHAKE_LONGEST_WAIT, HANDSHAKE_RATE};
use super::shares::{Client, ClientKey};
use super::token_bucket::TokenBucket;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(super) struct Handshakes {
    /// What each client may begin at once.
    buckets: Mutex<HashMap<ClientKey, TokenBucket>>,
    delayed: AtomicU64,
}

impl Handshakes {
    /// Waits until a client may begin a handshake.
    pub(super) async fn wait_for_turn(&self, client: Client) {
        let wait = self.reserve_turn(client, Instant::now());
        if !wait.is_zero() {
            self.delayed.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(wait).await;
        }
    }

    /// Counts a handshake, also if the client will not wait for it. Returns how long the client must wait.
    fn reserve_turn(&self, client: Client, now: Instant) -> Duration {
        // Many people can share the tunnels of one account.
        if client.is_own {
            return Duration::ZERO;
        }
        let rate = f64::from(HANDSHAKE_RATE);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= HANDSHAKE_CLIENTS && !buckets.contains_key(&client.key()) {
            buckets.retain(|_, bucket| bucket.fraction_left(now) < 1.0);
            if buckets.len() >= HANDSHAKE_CLIENTS {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(client.key()).or_insert_with(|| TokenBucket::new(HANDSHAKE_BURST, rate, now));
        let wait = bucket.time_until_one(now);
        bucket.charge(1, rate * HANDSHAKE_LONGEST_WAIT.as_secs_f64(), now);
        wait
    }

    /// How many handshakes had to wait.
    pub(super) fn delayed(&self) -> u64 {
        self.delayed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> Client {
        Client { address: [10, 0, 0, last].into(), is_own: last == 1, account: None }
    }

    #[test]
    fn a_client_that_connects_without_end_waits_and_others_do_not() {
        let (handshakes, begun) = (Handshakes::default(), Instant::now());
        let wait = |last, at: Duration| handshakes.reserve_turn(client(last), begun + at);
        let waits: Vec<Duration> = (0..HANDSHAKE_BURST + 100).map(|_| wait(2, Duration::ZERO)).collect();
        assert_eq!(waits.iter().filter(|wait| wait.is_zero()).count(), HANDSHAKE_BURST as usize);
        assert_eq!(waits.last(), Some(&Duration::from_secs(100).div_f64(HANDSHAKE_RATE.into())));
        assert!(wait(3, Duration::ZERO).is_zero() && wait(1, Duration::ZERO).is_zero());
        assert!((0..2 * HANDSHAKE_BURST).all(|_| wait(1, Duration::ZERO).is_zero()), "this node");
        // Whoever does not wait for its handshakes gets no longer wait by them.
        let longest = (0..10_000).map(|_| wait(2, Duration::ZERO)).max().unwrap_or_default();
        assert!(longest <= HANDSHAKE_LONGEST_WAIT + Duration::from_secs(1), "{longest:?}");
        assert!(wait(2, Duration::from_secs(60)).is_zero(), "its time is over");
    }

    #[test]
    fn few_clients_are_remembered() {
        let (handshakes, now) = (Handshakes::default(), Instant::now());
        for n in 0..3 * u32::try_from(HANDSHAKE_CLIENTS).unwrap_or(0) {
            let address = std::net::Ipv4Addr::from(0x0b00_0000 + n).into();
            assert!(handshakes.reserve_turn(Client { address, is_own: false, account: None }, now).is_zero());
        }
        assert!(handshakes.buckets.lock().is_ok_and(|buckets| buckets.len() <= HANDSHAKE_CLIENTS));
    }
}
