//! Connections that lists are read over. They are kept from one list to the next: a pool sends a ping whenever one is
//! handed back, which is a round trip for each page.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Problem;
use super::list::{ListQuery, ListScope};
use super::page::Page;
use super::problem::ProblemKind;
use super::standing::open;
use crate::projections::row::{Row, Stored};

/// As many connections as the pool may have, each opened when it is needed first.
pub struct Readers {
    options: Arc<PgConnectOptions>,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<PgConnection>>,
}

/// A connection that is read over. One that has failed is closed, and those that are idle with it: if the database has
/// closed the one, it has closed them all.
struct Reading {
    connection: PgConnection,
    _place: OwnedSemaphorePermit,
}

impl Readers {
    /// Connections like those of this pool, which see the rows of one tenant.
    #[must_use]
    pub fn new(pool: &PgPool) -> Self {
        let most = pool.options().get_max_connections();
        let places = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(1)));
        Self { options: pool.connect_options(), places, idle: Mutex::default() }
    }

    /// Reads one page of a read model's rows, each as `view` shows it.
    ///
    /// # Errors
    /// As [`ListQuery::records`], and if no connection can be opened.
    pub async fn page<T: Row, V>(
        &self,
        query: &ListQuery,
        scope: &ListScope<'_>,
        view: impl Fn(Stored<T>) -> V,
    ) -> Result<Page<V>, Problem> {
        let mut reading = self.take().await?;
        let page = query.records(&mut reading.connection, scope, view).await;
        match &page {
            // A cursor is refused before anything is asked.
            Err(problem) if problem.kind() != ProblemKind::InvalidCursor => self.idle().clear(),
            Ok(_) | Err(_) => self.idle().push(reading.connection),
        }
        page
    }

    /// One that is free, or a new one; waits if there are as many as there may be.
    async fn take(&self) -> sqlx::Result<Reading> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open(&self.options).await?,
        };
        Ok(Reading { connection, _place: place })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<PgConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
