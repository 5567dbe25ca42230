//! Connections that lists and events are read over. They are kept from one page to the next: a pool sends a ping
//! whenever one is handed back, which is a round trip for each page.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{Connection as _, FromRow, PgPool, Postgres, QueryBuilder};
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
    was_kept: bool,
    _place: OwnedSemaphorePermit,
}

impl Readers {
    /// Connections like those of this pool.
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
        // A cursor is refused before anything is asked.
        let is_whole = |page: &Result<_, Problem>| {
            page.as_ref().err().is_none_or(|problem| problem.kind() == ProblemKind::InvalidCursor)
        };
        let mut reading = self.take().await?;
        let mut page = query.records(&mut reading.connection, scope, &view).await;
        if !is_whole(&page) && self.begins_anew(&mut reading).await? {
            page = query.records(&mut reading.connection, scope, &view).await;
        }
        let is_whole = is_whole(&page);
        self.keep(reading, is_whole);
        page
    }

    /// Reads all rows of a statement.
    ///
    /// # Errors
    /// The database's.
    pub async fn rows<R>(&self, statement: impl Fn() -> QueryBuilder<'static, Postgres>) -> sqlx::Result<Vec<R>>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut reading = self.take().await?;
        let mut rows = statement().build_query_as().fetch_all(&mut reading.connection).await;
        if rows.is_err() && self.begins_anew(&mut reading).await? {
            rows = statement().build_query_as().fetch_all(&mut reading.connection).await;
        }
        self.keep(reading, rows.is_ok());
        rows
    }

    /// One that is free, or a new one; waits if there are as many as there may be.
    async fn take(&self) -> sqlx::Result<Reading> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = self.idle().pop();
        let was_kept = idle.is_some();
        let connection = match idle {
            Some(connection) => connection,
            None => open(&self.options).await?,
        };
        Ok(Reading { connection, was_kept, _place: place })
    }

    /// After an error: whether the connection was one that the database had closed since it was last used. Then it is
    /// another.
    async fn begins_anew(&self, reading: &mut Reading) -> sqlx::Result<bool> {
        if !reading.was_kept || reading.connection.ping().await.is_ok() {
            return Ok(false);
        }
        self.idle().clear();
        reading.connection = open(&self.options).await?;
        reading.was_kept = false;
        Ok(true)
    }

    /// Keeps a connection for the next page, unless something went wrong on it.
    fn keep(&self, reading: Reading, is_whole: bool) {
        let mut idle = self.idle();
        if is_whole {
            idle.push(reading.connection);
        } else {
            idle.clear();
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<PgConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
