//! How many TLS handshakes a client on another machine can begin: each takes about a millisecond of a core, mostly for the signature
//! with the certificate's key. Further ones wait, so that a client that connects without end leaves the cores to Spark and to others.

use super::limits::{HANDSHAKE_BURST, HANDSHAKE_CLIENTS, HANDSHAKE_LONGEST_WAIT, HANDSHAKE_RATE};
use super::shares::{Client, ClientKey};
use super::token_bucket::TokenBucket;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(super) struct Handshakes {
    /// What clients that have begun some may begin at once.
    left: Mutex<HashMap<ClientKey, TokenBucket>>,
    delayed: AtomicU64,
}

impl Handshakes {
    /// Waits until a client may begin a handshake.
    pub(super) async fn turn(&self, client: Client) {
        let wait = self.wait(client, Instant::now());
        if !wait.is_zero() {
            self.delayed.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(wait).await;
        }
    }

    /// How long a client must wait. The handshake counts from now on, whether or not the client waits for it.
    fn wait(&self, client: Client, now: Instant) -> Duration {
        // All tunnels are this node.
        if client.is_own {
            return Duration::ZERO;
        }
        let rate = f64::from(HANDSHAKE_RATE);
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.len() >= HANDSHAKE_CLIENTS && !left.contains_key(&client.key()) {
            left.retain(|_, bucket| bucket.left(now) < 1.0);
            if left.len() >= HANDSHAKE_CLIENTS {
                left.clear();
            }
        }
        let bucket = left.entry(client.key()).or_insert_with(|| TokenBucket::new(HANDSHAKE_BURST, rate, now));
        let wait = bucket.wait(now);
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
        let wait = |last, at: Duration| handshakes.wait(client(last), begun + at);
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
            assert!(handshakes.wait(Client { address, is_own: false, account: None }, now).is_zero());
        }
        assert!(handshakes.left.lock().is_ok_and(|left| left.len() <= HANDSHAKE_CLIENTS));
    }
}
