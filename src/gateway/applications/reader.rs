//! A few connections that read the index, while the keeper writes it.

use super::status::Status;
use super::turns::Turns;
use crate::gateway::limits::MAX_RUNNING_INDEX_QUERIES;
use crate::gateway::shares::ClientKey;
use crate::index::{Store, is_damage};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// The readers of one client. Clients take turns.
#[derive(Clone)]
pub(super) struct Readers {
    pool: Arc<Pool>,
    client: ClientKey,
}

/// The readers of all clients.
pub(super) struct AllReaders(Arc<Pool>);

struct Pool {
    file: PathBuf,
    status: Arc<Status>,
    turns: Arc<Turns>,
    /// Connections that nobody uses, each with the generation of its file.
    idle: Mutex<Vec<(u64, Store)>>,
}

impl AllReaders {
    pub(super) fn new(file: PathBuf, status: Arc<Status>) -> Self {
        let turns = Arc::new(Turns::new(MAX_RUNNING_INDEX_QUERIES));
        Self(Arc::new(Pool { file, status, turns, idle: Mutex::default() }))
    }

    pub(super) fn of(&self, client: ClientKey) -> Readers {
        Readers { pool: self.0.clone(), client }
    }
}

impl Readers {
    /// Reads on a thread that may block.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let pool = self.pool.clone();
        let turn = pool.turns.take(self.client).await;
        let task = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            pool.read(read)
        });
        task.await.context("a query of the index was given up")?
    }
}

impl Pool {
    fn read<T>(&self, read: impl FnOnce(&Store) -> Result<T>) -> Result<T> {
        let generation = self.status.generation();
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|(of, _)| *of == generation);
            idle.pop()
        };
        let store = match idle {
            Some((_, store)) => store,
            None => Store::open_to_read(&self.file)?,
        };
        match read(&store) {
            Ok(answer) => {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((generation, store));
                Ok(answer)
            }
            Err(error) => {
                if is_damage(&error) {
                    self.status.note_damage(generation);
                }
                Err(error)
            }
        }
    }
}
