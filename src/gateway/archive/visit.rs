//! For whom the archive asks S3. What one client asks for counts against its part of the budget, also where a task of its own goes on
//! after the client has left.
//!
//! A client is refused before S3 is asked for it, and never in the middle: others can be waiting for the same answer. What it spends
//! beyond its part is a debt.

use super::budget::{Budget, OverBudget};
use super::error::LogError;
use crate::gateway::shares::{Client, Share};
use std::sync::Arc;
use std::time::Instant;

tokio::task_local! {
    static VISIT: Visit;
}

/// A client, and what it asks S3 for.
#[derive(Clone)]
struct Visit {
    client: Client,
    budget: Arc<Budget>,
    /// Whether the client has been let in: its requests to S3 are counted, and no longer refused for what it owes.
    is_let_in: bool,
}

/// What a client may ask S3 for. Others can wait for the answer, too.
pub(crate) struct LetIn {
    /// `None` if the gateway itself asks.
    visit: Option<Visit>,
    _place: Option<Share>,
}

/// Lets a client pay for the requests to S3 that a future sends.
pub(crate) fn paid_by<F: Future>(client: Client, budget: &Arc<Budget>, future: F) -> impl Future<Output = F::Output> {
    VISIT.scope(Visit { client, budget: budget.clone(), is_let_in: false }, future)
}

/// The same future in a task of its own: what it asks for counts as it would here.
pub(crate) fn in_a_task<F: Future>(future: F) -> impl Future<Output = F::Output> {
    of(VISIT.try_with(Visit::clone).ok(), future)
}

async fn of<F: Future>(visit: Option<Visit>, future: F) -> F::Output {
    match visit {
        Some(visit) => VISIT.scope(visit, future).await,
        None => future.await,
    }
}

/// Lets the client of this task ask S3; an error if it owes too much, or has too many requests under way. What belongs to an answer that
/// was let in is let in.
pub(crate) fn let_in() -> Result<LetIn, LogError> {
    let Ok(visit) = VISIT.try_with(Visit::clone) else { return Ok(LetIn { visit: None, _place: None }) };
    if visit.is_let_in {
        return Ok(LetIn { visit: Some(visit), _place: None });
    }
    visit.budget.solvent(visit.client, Instant::now())?;
    let place = visit.budget.places.take(visit.client).ok_or(LogError::Overloaded)?;
    Ok(LetIn { visit: Some(Visit { is_let_in: true, ..visit }), _place: Some(place) })
}

impl LetIn {
    /// The future of what was let in, for a task of its own.
    pub(crate) async fn run<F: Future>(self, future: F) -> F::Output {
        let Self { visit, _place: place } = self;
        let output = of(visit, future).await;
        drop(place);
        output
    }
}

/// Fails if a client owes too much for a request to S3 that it has not been let in for.
pub(super) fn check(now: Instant) -> Result<(), OverBudget> {
    let checked = VISIT.try_with(|visit| match visit.is_let_in {
        true => Ok(()),
        false => visit.budget.solvent(visit.client, now),
    });
    checked.unwrap_or(Ok(()))
}

/// Counts a request to S3 that is sent, if a client pays for it.
pub(super) fn pay(tokens: u32, now: Instant) {
    let _ = VISIT.try_with(|visit| visit.budget.charge(visit.client, tokens, now));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::*;
    use crate::gateway::limits::{MAX_S3_QUESTIONS, MAX_S3_QUESTIONS_OF_CLIENT};
    use std::future::ready;
    use std::time::Duration;

    fn client(last: u8) -> Client {
        Client { address: [10, 0, 0, last].into(), is_own: last == 1, is_root: false }
    }

    /// What a client's task says when it is to begin something.
    async fn begins(last: u8, budget: &Arc<Budget>) -> Result<LetIn, LogError> {
        paid_by(client(last), budget, async { let_in() }).await
    }

    #[tokio::test]
    async fn what_was_let_in_goes_on_and_the_next_is_refused_until_the_debt_is_paid() {
        let (budget, now) = (Budget::new(Instant::now()), Instant::now());
        let begun = begins(2, &budget).await.unwrap();
        let spent = begun.run(async {
            // More than its part, in a task of its own, with a question within the question.
            let task = in_a_task(async move {
                let may_pay = (0..9_000).all(move |_| {
                    pay(13, now);
                    check(now).is_ok()
                });
                (may_pay, let_in().is_ok())
            });
            tokio::spawn(task).await.unwrap()
        });
        assert_eq!(spent.await, (true, true));
        let Err(LogError::OverBudget { retry_after }) = begins(2, &budget).await else { panic!() };
        assert!(retry_after.as_secs() <= 61, "{retry_after:?}");
        let direct = paid_by(client(2), &budget, async { check(now) });
        assert!(direct.await.is_err(), "a request of its own");
        assert!(begins(3, &budget).await.is_ok() && begins(1, &budget).await.is_ok());
        let paid = Instant::now() + retry_after + Duration::from_millis(1);
        assert!(budget.solvent(client(2), paid).is_ok());
    }

    #[tokio::test]
    async fn a_client_has_only_so_many_questions_under_way_although_it_leaves() {
        let budget = Budget::new(Instant::now());
        let mut under_way = Vec::new();
        while let Ok(begun) = begins(2, &budget).await {
            under_way.push(begun);
        }
        assert_eq!(under_way.len(), MAX_S3_QUESTIONS_OF_CLIENT);
        assert!(matches!(begins(2, &budget).await, Err(LogError::Overloaded)));
        for last in 3.. {
            let before = under_way.len();
            while let Ok(begun) = begins(last, &budget).await {
                under_way.push(begun);
            }
            if under_way.len() == before {
                break;
            }
        }
        assert_eq!(under_way.len(), MAX_S3_QUESTIONS);
        under_way.pop().unwrap().run(ready(())).await;
        assert!(begins(9, &budget).await.is_ok(), "a place is free again");
    }
}
