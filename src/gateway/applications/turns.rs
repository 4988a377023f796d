//! Clients take turns at the queries of the index: when a query ends, the next client's first one begins. So the queries of a client that
//! sends many wait for each other, and hold up another client's query by one.

use crate::gateway::shares::ClientKey;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

pub(super) struct Turns(Mutex<State>);

struct State {
    /// How many more can run.
    free: usize,
    /// Who waits, the next client first. A client that has had its turn goes to the end.
    waiting: VecDeque<(ClientKey, VecDeque<oneshot::Sender<Turn>>)>,
}

/// The permission to run one query. Dropped, it goes to the next query that waits.
pub(super) struct Turn(Option<Arc<Turns>>);

impl Turns {
    pub(super) fn new(at_once: usize) -> Self {
        Self(Mutex::new(State { free: at_once, waiting: VecDeque::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of a client. If the future is dropped, its place in the queue is passed over.
    pub(super) async fn take(self: &Arc<Self>, client: ClientKey) -> Turn {
        loop {
            let turn = {
                let mut state = self.lock();
                if state.free > 0 {
                    state.free -= 1;
                    return Turn(Some(self.clone()));
                }
                let (sender, turn) = oneshot::channel();
                match state.waiting.iter_mut().find(|(waits, _)| *waits == client) {
                    Some((_, queries)) => {
                        queries.retain(|waits| !waits.is_closed());
                        queries.push_back(sender);
                    }
                    None => state.waiting.push_back((client, VecDeque::from([sender]))),
                }
                turn
            };
            // The queue keeps each sender until it sends, so this does not fail. If it did, the query would wait again.
            if let Ok(turn) = turn.await {
                return turn;
            }
        }
    }

    /// The query whose turn is next; `None` if none waits.
    fn next(&self) -> Option<oneshot::Sender<Turn>> {
        let mut state = self.lock();
        while let Some((client, mut queries)) = state.waiting.pop_front() {
            let next = queries.pop_front();
            if !queries.is_empty() {
                state.waiting.push_back((client, queries));
            }
            if next.is_some() {
                return next;
            }
        }
        state.free += 1;
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(turns) = self.0.take() else { return };
        while let Some(next) = turns.next() {
            match next.send(Self(Some(turns.clone()))) {
                Ok(()) => return,
                // The query does not wait any more.
                Err(mut turn) => turn.0 = None,
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::*;
    use crate::gateway::shares::Client;
    use std::task::{Context, Waker};
    use std::time::Duration;
    use tokio::task::{JoinSet, yield_now};
    use tokio::time::timeout;

    fn key(last: u8) -> ClientKey {
        Client { address: [10, 0, 0, last].into(), is_own: false, account: None }.key()
    }

    #[tokio::test]
    async fn a_client_waits_for_one_query_of_another_and_not_for_all() {
        let (turns, order) = (Arc::new(Turns::new(1)), Arc::new(Mutex::new(Vec::new())));
        let first = turns.take(key(1)).await;
        let mut queries = JoinSet::new();
        for last in [1, 1, 1, 1, 2, 2, 3] {
            let (turns, order) = (turns.clone(), order.clone());
            queries.spawn(async move {
                let _turn = turns.take(key(last)).await;
                order.lock().unwrap().push(last);
                yield_now().await;
            });
            yield_now().await;
        }
        drop(first);
        queries.join_all().await;
        assert_eq!(*order.lock().unwrap(), [1, 2, 3, 1, 2, 1, 1]);
        assert_eq!(turns.lock().free, 1);
    }

    #[tokio::test]
    async fn who_does_not_wait_any_more_takes_no_turn() {
        let turns = Arc::new(Turns::new(2));
        let running = (turns.take(key(1)).await, turns.take(key(1)).await);
        let mut gone = Vec::new();
        for n in 0..20_000_u32 {
            let mut waits = Box::pin(turns.take(key(n.to_le_bytes()[0])));
            assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            gone.push(waits);
        }
        // To pass over them, a call within a call for each would overflow the stack.
        drop(gone);
        let waits = tokio::spawn({
            let turns = turns.clone();
            async move { drop(turns.take(key(9)).await) }
        });
        yield_now().await;
        drop(running);
        timeout(Duration::from_secs(10), waits).await.unwrap().unwrap();
        let state = turns.lock();
        assert_eq!((state.free, state.waiting.len()), (2, 0));
    }
}
