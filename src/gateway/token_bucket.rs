//! A limit of a rate, with a burst after a pause.

use std::time::{Duration, Instant};

/// A number of tokens that grows with time, up to a limit.
#[derive(Debug)]
pub(super) struct TokenBucket {
    capacity: f64,
    per_second: f64,
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    /// A full one.
    pub(super) fn new(capacity: u32, per_second: f64, now: Instant) -> Self {
        let capacity = f64::from(capacity);
        Self { capacity, per_second, tokens: capacity, at: now }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.capacity);
        self.at = self.at.max(now);
    }

    /// Takes tokens, or tells how long it takes until there are enough.
    pub(super) fn take(&mut self, tokens: u32, now: Instant) -> Result<(), Duration> {
        self.fill(now);
        let lacking = f64::from(tokens) - self.tokens;
        if lacking > 0.0 {
            return Err(Duration::from_secs_f64(lacking / self.per_second));
        }
        self.tokens -= f64::from(tokens);
        Ok(())
    }

    pub(super) fn has_more_than(&mut self, tokens: u32, now: Instant) -> bool {
        self.fill(now);
        self.tokens > f64::from(tokens)
    }

    /// How long it takes until there is a token. Takes none.
    pub(super) fn time_until_one(&mut self, now: Instant) -> Duration {
        self.fill(now);
        Duration::from_secs_f64((1.0 - self.tokens).max(0.0) / self.per_second)
    }

    /// Takes tokens, also more than there are: the number falls to `-most_debt` at the lowest.
    pub(super) fn charge(&mut self, tokens: u32, most_debt: f64, now: Instant) {
        self.fill(now);
        self.tokens = (self.tokens - f64::from(tokens)).max(-most_debt);
    }

    /// Takes as many tokens as there are, up to a number.
    pub(super) fn take_up_to(&mut self, tokens: usize, now: Instant) -> usize {
        (0..tokens).take_while(|_| self.take(1, now).is_ok()).count()
    }

    /// 1 if it is full, less than 0 in debt.
    pub(super) fn fraction_left(&mut self, now: Instant) -> f64 {
        self.fill(now);
        self.tokens / self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_spent_at_once_and_come_back_with_time() {
        let begun = Instant::now();
        let at = |seconds: f64| begun + Duration::from_secs_f64(seconds);
        let mut bucket = TokenBucket::new(10, 2.0, begun);
        assert_eq!((0..20).filter(|_| bucket.take(1, begun).is_ok()).count(), 10);
        assert_eq!(bucket.take(1, begun), Err(Duration::from_millis(500)));
        assert_eq!(bucket.take(4, at(1.0)), Err(Duration::from_secs(1)), "nothing is taken by a refusal");
        assert_eq!(bucket.take(4, at(2.0)), Ok(()));
        assert_eq!(bucket.take_up_to(8, at(3.0)), 2);
        assert_eq!(bucket.take_up_to(100, at(1000.0)), 10, "no more than the limit is saved");
        assert!(bucket.take(1, begun).is_err(), "a clock that goes back gives nothing");
    }
}
