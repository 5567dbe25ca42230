//! Connections that lists are read over. They are kept from one list to the next: a pool sends a ping whenever one is
//! handed back, which is a round trip for each page.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::standing::open;

/// As many connections as the pool may have, each opened when it is needed first.
pub struct Readers {
    options: Arc<PgConnectOptions>,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<PgConnection>>,
}

/// A connection that is read over; dropped without [`Readers::keep`], it is closed.
pub struct Reading {
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

    /// One that is free, or a new one; waits if there are as many as there may be.
    ///
    /// # Errors
    /// If none can be opened.
    pub async fn take(&self) -> sqlx::Result<Reading> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open(&self.options).await?,
        };
        Ok(Reading { connection, _place: place })
    }

    /// Keeps one that has worked for whoever reads next.
    pub fn keep(&self, reading: Reading) {
        self.idle().push(reading.connection);
    }

    /// Forgets those that are idle, after one has failed: if the database has closed that, it has closed them all.
    pub fn forget(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<PgConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Reading {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Reading {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
