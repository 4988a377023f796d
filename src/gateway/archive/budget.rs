//! What the gateway may spend on S3 for its visitors. Every request of the archive's clients passes `spending.rs`, whatever sends it,
//! so no path of the program can leave the budget out. The index has clients of its own: no visitor makes it ask more.
//!
//! A client that has spent half of it may begin nothing new, so that others have the other half; `payer.rs` records who asks.
//!
//! S3 bills requests: a LIST costs as much as 12.5 GETs (docs/emr.md §7.2). A token is the price of a GET.

use crate::gateway::limits::{MAX_S3_QUESTIONS, MAX_S3_QUESTIONS_OF_CLIENT};
use crate::gateway::shares::{Client, ClientKey, Shares};
use crate::gateway::token_bucket::TokenBucket;
use std::collections::HashMap;
use std::error::Error;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The price of a LIST in GETs, rounded up.
const LIST_PRICE: u32 = 13;
/// What visitors may spend in the long run: ten LISTs or 130 GETs a second. At the worst that is 4.32 USD a day.
const RATE: u32 = 10 * LIST_PRICE;
/// What visitors may spend at once: the first search through 10,000 clusters, which costs 5 cents, once.
const BURST: u32 = 10_000 * LIST_PRICE;
/// [`RATE`] and [`BURST`] divided by this are those of one client that is not this node itself. Tunnels come from this node, and many people
/// can share those of one account.
const CLIENT_DIVISOR: u32 = 2;
const CLIENT_RATE: u32 = RATE / CLIENT_DIVISOR;
/// A client's debt is at most what so many seconds refill: one search through ten thousand clusters costs more than the client's half,
/// and must not keep it out for a quarter of an hour.
const LONGEST_DEBT: u32 = 60;
/// How many of a client's tokens are reserved for each of its questions under way: the price of a list of ten pages. Without that, a
/// client with one token could begin hundreds of questions at the same moment.
const RESERVED: u32 = 10 * LIST_PRICE;
/// For how many clients the gateway remembers what they have left. If there is no room, it forgets the one with the most left.
const MAX_CLIENTS: usize = 4096;
/// What the gateway's own checks may spend: one LIST a second, which is enough for 60 log URIs that do not answer. They
/// have a bucket of their own, so that `/-/readyz` tells the truth while visitors have spent theirs.
const OWN_RATE: u32 = LIST_PRICE;
const OWN_BURST: u32 = 40 * LIST_PRICE;

/// The operations that the gateway uses, by the SDK's names. Another one would count as the last.
const OPERATIONS: [(&str, u32); 4] =
    [("GetObject", 1), ("HeadBucket", 1), ("ListObjectsV2", LIST_PRICE), ("other", LIST_PRICE)];

/// For whom the gateway asks S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    Visitors,
    /// The gateway's own checks.
    Own,
}

/// The budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OverBudget {
    pub(super) retry_after: Duration,
}

impl OverBudget {
    /// Whether a request was not sent because of the budget.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(cause) = next {
            if let Some(over) = cause.downcast_ref() {
                return Some(*over);
            }
            next = cause.source();
        }
        None
    }
}

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the budget for requests to S3 is spent, or this client's half of it")
    }
}

impl Error for OverBudget {}

/// What a client has left of its half.
struct ClientTokens {
    left: TokenBucket,
    /// How many of them are reserved for its questions under way.
    reserved: u32,
}

/// The tokens of both shares, and what was spent.
pub(crate) struct Budget {
    visitors: Mutex<TokenBucket>,
    /// Clients that have spent something.
    clients: Mutex<HashMap<ClientKey, ClientTokens>>,
    /// Questions to S3 that are under way.
    pub(super) questions: Shares,
    own: Mutex<TokenBucket>,
    sent: [AtomicU64; OPERATIONS.len()],
    refused: AtomicU64,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self {
            visitors: Mutex::new(TokenBucket::new(BURST, RATE.into(), now)),
            clients: Mutex::default(),
            questions: Shares::new(MAX_S3_QUESTIONS, MAX_S3_QUESTIONS_OF_CLIENT),
            own: Mutex::new(TokenBucket::new(OWN_BURST, OWN_RATE.into(), now)),
            sent: Default::default(),
            refused: AtomicU64::new(0),
        })
    }

    /// Spends the price of a request, and returns it.
    pub(super) fn spend(&self, share: Share, operation: &str, now: Instant) -> Result<u32, OverBudget> {
        let kind = OPERATIONS.iter().position(|(name, _)| *name == operation).unwrap_or(OPERATIONS.len() - 1);
        let price = OPERATIONS[kind].1;
        let bucket = match share {
            Share::Visitors => &self.visitors,
            Share::Own => &self.own,
        };
        let taken = bucket.lock().unwrap_or_else(PoisonError::into_inner).take(price, now);
        taken.map_err(|retry_after| self.refuse(retry_after))?;
        self.sent[kind].fetch_add(1, Ordering::Relaxed);
        Ok(price)
    }

    fn refuse(&self, retry_after: Duration) -> OverBudget {
        self.refused.fetch_add(1, Ordering::Relaxed);
        OverBudget { retry_after }
    }

    /// Refuses a client whose half is spent, or reserved for its own questions under way. Counts the refusal as a request that was not
    /// sent.
    pub(super) fn check_client(&self, client: Client, now: Instant) -> Result<(), OverBudget> {
        let mut clients = self.clients();
        let Some(ClientTokens { left, reserved }) = clients.get_mut(&client.key()) else { return Ok(()) };
        let wait = left.time_until_one(now);
        // What is reserved is free again when a question ends, which no time tells: `retry_after` leaves it out.
        if wait.is_zero() && left.has_more_than(*reserved, now) { Ok(()) } else { Err(self.refuse(wait)) }
    }

    /// Takes what a client spends.
    pub(super) fn charge(&self, client: Client, tokens: u32, now: Instant) {
        self.change(client, now, |of_client| {
            of_client.left.charge(tokens, f64::from(CLIENT_RATE * LONGEST_DEBT), now);
        });
    }

    /// Reserves tokens for a question that a client begins.
    pub(super) fn reserve(&self, client: Client, now: Instant) {
        self.change(client, now, |of_client| of_client.reserved += RESERVED);
    }

    /// The question has ended.
    pub(super) fn release(&self, client: Client) {
        if let Some(of_client) = self.clients().get_mut(&client.key()) {
            of_client.reserved = of_client.reserved.saturating_sub(RESERVED);
        }
    }

    fn change(&self, client: Client, now: Instant, change: impl FnOnce(&mut ClientTokens)) {
        if client.is_own {
            return;
        }
        let mut clients = self.clients();
        if clients.len() >= MAX_CLIENTS && !clients.contains_key(&client.key()) {
            clients.retain(|_, of_client| of_client.reserved > 0 || of_client.left.fraction_left(now) < 1.0);
            let most = clients.iter_mut().map(|(key, of_client)| (of_client.left.fraction_left(now), *key));
            if let Some((_, key)) = most.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|_| clients.len() >= MAX_CLIENTS) {
                clients.remove(&key);
            }
        }
        let full = || TokenBucket::new(BURST / CLIENT_DIVISOR, CLIENT_RATE.into(), now);
        change(clients.entry(client.key()).or_insert_with(|| ClientTokens { left: full(), reserved: 0 }));
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<ClientKey, ClientTokens>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many questions to S3 had no place.
    pub(crate) fn refused_questions(&self) -> u64 {
        self.questions.refused()
    }

    /// The lines of `/-/metrics`.
    pub(crate) fn metrics(&self, now: Instant) -> String {
        let mut text = String::from(
            "# HELP emr_shs_gateway_s3_requests_total Requests to S3, as S3 bills them.\n\
             # TYPE emr_shs_gateway_s3_requests_total counter\n",
        );
        for ((name, _), sent) in OPERATIONS.iter().zip(&self.sent) {
            let sent = sent.load(Ordering::Relaxed);
            let _ = writeln!(text, "emr_shs_gateway_s3_requests_total{{operation=\"{name}\"}} {sent}");
        }
        let refused = self.refused.load(Ordering::Relaxed);
        let left =
            |bucket: &Mutex<TokenBucket>| bucket.lock().unwrap_or_else(PoisonError::into_inner).fraction_left(now);
        let (visitors, own) = (left(&self.visitors), left(&self.own));
        let _ = write!(
            text,
            "# HELP emr_shs_gateway_s3_requests_refused_total Requests to S3 that were not sent, because the budget, or the client's half of it, was spent.\n\
             # TYPE emr_shs_gateway_s3_requests_refused_total counter\n\
             emr_shs_gateway_s3_requests_refused_total {refused}\n\
             # HELP emr_shs_gateway_s3_budget_left_ratio The part of the budget for requests to S3 that is left.\n\
             # TYPE emr_shs_gateway_s3_budget_left_ratio gauge\n\
             emr_shs_gateway_s3_budget_left_ratio {visitors:.3}\n\
             # HELP emr_shs_gateway_s3_own_budget_left_ratio The part of the budget for the gateway's own checks that is left.\n\
             # TYPE emr_shs_gateway_s3_own_budget_left_ratio gauge\n\
             emr_shs_gateway_s3_own_budget_left_ratio {own:.3}\n"
        );
        text
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::{BURST, Budget, LIST_PRICE, OWN_BURST, OWN_RATE, OverBudget, RATE, Share};
    use std::time::{Duration, Instant};

    #[test]
    fn visitors_cannot_spend_what_the_gateways_own_checks_need() {
        let begun = Instant::now();
        let budget = Budget::new(begun);
        let lists = || (0..).take_while(|_| budget.spend(Share::Visitors, "ListObjectsV2", begun).is_ok()).count();
        assert_eq!(lists(), 10_000);
        let OverBudget { retry_after } = budget.spend(Share::Visitors, "ListObjectsV2", begun).unwrap_err();
        assert_eq!(retry_after, Duration::from_millis(100));
        assert_eq!(budget.spend(Share::Own, "ListObjectsV2", begun), Ok(LIST_PRICE));
        // A day of nothing but LISTs.
        let day = 86_400 * u64::from((RATE + OWN_RATE) / LIST_PRICE) + u64::from((BURST + OWN_BURST) / LIST_PRICE);
        assert!(day * 5 < 5_000_000, "less than 5 USD, in millionths");
        let text = budget.metrics(begun);
        assert!(text.contains("s3_requests_total{operation=\"ListObjectsV2\"} 10001\n"), "{text}");
        assert!(
            text.contains("s3_requests_refused_total 2\n") && text.contains("s3_budget_left_ratio 0.000\n"),
            "{text}"
        );
    }
}
