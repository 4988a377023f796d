//! Records which client causes a request to S3, so that the request counts against that client's half of the budget. A task that the
//! request spawns keeps the record, also after the client has left.
//!
//! A client is refused only before its question starts, because other clients can wait for the same answer. What a question costs
//! beyond the client's half is a debt.

use super::budget::{Budget, OverBudget};
use super::error::LogError;
use crate::gateway::shares::{self, Client};
use std::sync::Arc;
use std::time::Instant;

tokio::task_local! {
    static PAYER: Payer;
}

/// The client for which the current task asks S3.
#[derive(Clone)]
struct Payer {
    client: Client,
    budget: Arc<Budget>,
    /// Whether the task answers a question that was admitted: its requests to S3 are counted, and not refused for the client's debt.
    is_admitted: bool,
}

/// The permission to ask S3 a question.
pub(crate) struct Admission {
    /// `None` if the gateway itself asks.
    payer: Option<Payer>,
    /// `None` if the question is part of another one.
    place: Option<Place>,
}

/// A place among the questions that are under way, with tokens that are reserved for it.
struct Place {
    client: Client,
    budget: Arc<Budget>,
    _share: shares::Share,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.budget.release(self.client);
    }
}

/// The future, whose requests to S3 a client pays for.
pub(crate) fn paid_by<F: Future>(client: Client, budget: &Arc<Budget>, future: F) -> impl Future<Output = F::Output> {
    PAYER.scope(Payer { client, budget: budget.clone(), is_admitted: false }, future)
}

/// The future, for a task of its own: the client of the current task pays there, too.
pub(crate) fn in_a_task<F: Future>(future: F) -> impl Future<Output = F::Output> {
    run_for(PAYER.try_with(Payer::clone).ok(), future)
}

async fn run_for<F: Future>(payer: Option<Payer>, future: F) -> F::Output {
    match payer {
        Some(payer) => PAYER.scope(payer, future).await,
        None => future.await,
    }
}

/// Admits a question of the current task's client to S3. Fails if the client's half of the budget is spent or reserved, or if it has too
/// many questions under way. A question that is part of an admitted one is admitted.
pub(crate) fn admit() -> Result<Admission, LogError> {
    let Ok(payer) = PAYER.try_with(Payer::clone) else { return Ok(Admission { payer: None, place: None }) };
    if payer.is_admitted {
        return Ok(Admission { payer: Some(payer), place: None });
    }
    let (client, budget, now) = (payer.client, payer.budget.clone(), Instant::now());
    budget.check_client(client, now)?;
    let share = budget.questions.take(client).ok_or(LogError::Overloaded)?;
    budget.reserve(client, now);
    let place = Some(Place { client, budget, _share: share });
    Ok(Admission { payer: Some(Payer { is_admitted: true, ..payer }), place })
}

impl Admission {
    /// Runs the future that answers the question, also in another task.
    pub(crate) async fn run<F: Future>(self, future: F) -> F::Output {
        let Self { payer, place } = self;
        let output = run_for(payer, future).await;
        drop(place);
        output
    }
}

/// Fails if the half of the current task's client is spent or reserved, and the request to S3 belongs to no admitted question.
pub(super) fn check(now: Instant) -> Result<(), OverBudget> {
    let checked = PAYER.try_with(|payer| match payer.is_admitted {
        true => Ok(()),
        false => payer.budget.check_client(payer.client, now),
    });
    checked.unwrap_or(Ok(()))
}

/// Charges the client of the current task for a request to S3.
pub(super) fn pay(tokens: u32, now: Instant) {
    let _ = PAYER.try_with(|payer| payer.budget.charge(payer.client, tokens, now));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::*;
    use crate::gateway::limits::{MAX_S3_QUESTIONS, MAX_S3_QUESTIONS_OF_CLIENT};
    use std::future::ready;
    use std::time::Duration;

    fn client(last: u8) -> Client {
        Client { address: [10, 0, 0, last].into(), is_own: last == 1, account: None }
    }

    /// What a client's task says when it is to begin something.
    async fn begins(last: u8, budget: &Arc<Budget>) -> Result<Admission, LogError> {
        paid_by(client(last), budget, async { admit() }).await
    }

    #[tokio::test]
    async fn an_admitted_question_ends_and_the_next_is_refused_until_the_debt_is_paid() {
        let (budget, now) = (Budget::new(Instant::now()), Instant::now());
        let begun = begins(2, &budget).await.unwrap();
        let spent = begun.run(async {
            // More than its part, in a task of its own, with a question within the question.
            let task = in_a_task(async move {
                let may_pay = (0..9_000).all(move |_| {
                    pay(13, now);
                    check(now).is_ok()
                });
                (may_pay, admit().is_ok())
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
        assert!(budget.check_client(client(2), paid).is_ok());
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

    #[tokio::test]
    async fn a_client_that_has_paid_its_debt_begins_one_question_and_not_hundreds() {
        let (budget, now) = (Budget::new(Instant::now()), Instant::now());
        budget.charge(client(2), 65_030, now);
        let Err(LogError::OverBudget { retry_after }) = begins(2, &budget).await.map(drop) else { panic!() };
        assert!(retry_after < Duration::from_secs(1), "{retry_after:?}");
        tokio::time::sleep(retry_after).await;
        let one = begins(2, &budget).await.unwrap();
        assert!(begins(2, &budget).await.is_err(), "a second one");
        drop(one);
        tokio::time::sleep(retry_after).await;
        assert!(begins(2, &budget).await.is_ok(), "its tokens are free again");
    }
}
