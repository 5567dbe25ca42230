//! Work that does not need other work, on several connections at once.
//!
//! An index waits for the disk when it is made, whatever its size: those of a small table are made in the time of a few.

use std::sync::{Mutex, PoisonError};

use sqlx::PgPool;
use sqlx::postgres::PgConnection;
use tokio::sync::Semaphore;

use super::tables::run;

/// Connections that help, besides the one that works in any case.
const HELPERS: usize = 2;

/// Statements of which each needs those before it.
pub(super) type Steps = Vec<String>;

/// Does all the work, beginning with the first; nothing is under way any more when this answers.
///
/// # Errors
/// An error of a statement; some may not have been run then.
pub(super) async fn run_abreast(owner: &mut PgConnection, pool: &PgPool, work: Vec<Steps>) -> sqlx::Result<()> {
    let queue = Queue { waiting: Mutex::new(work.into_iter()), open: Semaphore::new(0) };
    let own = async {
        let worked = queue.work(owner).await;
        // Whoever has no connection by now need not wait for one.
        queue.open.close();
        worked
    };
    let helping = futures::future::join_all((0..HELPERS).map(|_| queue.help(pool)));
    let (worked, helped) = tokio::join!(own, helping);
    worked.and(helped.into_iter().collect())
}

struct Queue {
    waiting: Mutex<std::vec::IntoIter<Steps>>,
    /// Closed once nothing waits.
    open: Semaphore,
}

impl Queue {
    async fn work(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        while let Some(steps) = self.next() {
            for statement in steps {
                if let Err(error) = run(connection, statement).await {
                    // What is not begun would be in vain.
                    while self.next().is_some() {}
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Works as well if there is a connection for it; without one, the others do it all.
    async fn help(&self, pool: &PgPool) -> sqlx::Result<()> {
        tokio::select! {
            connection = pool.acquire() => match connection {
                Ok(mut connection) => self.work(&mut connection).await,
                Err(_) => Ok(()),
            },
            _ = self.open.acquire() => Ok(()),
        }
    }

    fn next(&self) -> Option<Steps> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}
