//! The state of an aggregate: its stream read through postgres-es and folded, or remembered from last time.
//!
//! What is remembered may be old. That is safe: the append checks the version that a decision was taken on, and
//! a command that was decided on an old state is decided again on the fresh one.

use std::any::Any;
use std::sync::Arc;

use cqrs_es::Aggregate;
use cqrs_es::persist::PersistedEventRepository;
use postgres_es::PostgresEventRepository;
use quick_cache::sync::Cache;
use sqlx::PgPool;

use super::append::AppendError;
use super::stream::StreamId;
use super::upcast::{UPCASTERS, Versioned, upcast};
use crate::aggregates::claims::ClaimKind;
use crate::aggregates::ids::TenantId;

/// Aggregates whose state is remembered.
const REMEMBERED: usize = 20_000;

/// A stream could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The database failed.
    #[error("the stream of {0} could not be read: {1}")]
    Read(StreamId, String),
    /// An event of it is not what this version of the program knows.
    #[error("event {sequence} of {stream} ({event_type}) is not understood: {reason}")]
    Unknown {
        /// Whose stream.
        stream: StreamId,
        /// Which event.
        sequence: usize,
        /// Its type.
        event_type: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// An aggregate as it is at a version.
#[derive(Debug, Clone)]
pub struct Loaded<A> {
    /// The state.
    pub state: A,
    /// The number of the last event in it; 0 for a stream that does not exist.
    pub version: i64,
}

type Entry = Arc<dyn Any + Send + Sync>;

/// Reads streams and remembers states.
#[derive(Clone)]
pub struct Streams {
    pool: PgPool,
    states: Arc<Cache<StreamId, Entry>>,
}

impl Streams {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool, states: Arc::new(Cache::new(REMEMBERED)) }
    }

    /// The aggregate's state, remembered if it is.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn load<A>(&self, stream: &StreamId) -> Result<Loaded<A>, LoadError>
    where
        A: Aggregate + Clone + 'static,
    {
        let remembered = self.states.get(stream).and_then(|entry| entry.downcast_ref::<Loaded<A>>().cloned());
        if let Some(loaded) = remembered {
            return Ok(loaded);
        }
        let loaded = self.read::<A>(stream).await?;
        if loaded.version > 0 {
            self.remember(stream.clone(), loaded.clone());
        }
        Ok(loaded)
    }

    /// The aggregate's state, folded from the log.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn read<A: Aggregate>(&self, stream: &StreamId) -> Result<Loaded<A>, LoadError> {
        let repository = PostgresEventRepository::new(self.pool.clone());
        let stored = repository
            .get_events::<A>(&stream.aggregate_id())
            .await
            .map_err(|error| LoadError::Read(stream.clone(), error.to_string()))?;
        let mut state = A::default();
        let mut version = 0;
        for event in stored {
            let sequence = event.sequence;
            let event_type = event.event_type.clone();
            let unknown = |reason: String| LoadError::Unknown {
                stream: stream.clone(),
                sequence,
                event_type: event_type.clone(),
                reason,
            };
            let stored =
                Versioned { event_type: event.event_type, event_version: event.event_version, payload: event.payload };
            for event in upcast(stored, UPCASTERS).map_err(|error| unknown(error.to_string()))? {
                state.apply(serde_json::from_value(event.payload).map_err(|error| unknown(error.to_string()))?);
            }
            version = i64::try_from(sequence).map_err(|error| unknown(error.to_string()))?;
        }
        Ok(Loaded { state, version })
    }

    /// That something which may exist once is nobody's, or this holder's.
    ///
    /// # Errors
    /// [`AppendError::Claimed`], or the database's.
    pub(super) async fn free(
        &self,
        tenant: TenantId,
        kind: ClaimKind,
        key: &str,
        holder: &str,
    ) -> Result<(), AppendError> {
        let held = match kind {
            ClaimKind::Login => {
                sqlx::query_scalar("select tenant_id || ':' || user_id from platform.logins where email_key = $1")
                    .bind(key)
            }
            ClaimKind::InvoiceNumber => {
                sqlx::query_scalar("select holder from claims where tenant_id = $1 and kind = $2 and key = $3")
                    .bind(tenant.to_string())
                    .bind(kind.as_str())
                    .bind(key)
            }
        };
        let held: Option<String> = held.fetch_optional(&self.pool).await?;
        match held {
            Some(held) if held != holder => Err(AppendError::Claimed { kind: kind.as_str(), key: key.to_owned() }),
            _ => Ok(()),
        }
    }

    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(super) fn remember<A: Send + Sync + 'static>(&self, stream: StreamId, loaded: Loaded<A>) {
        self.states.insert(stream, Arc::new(loaded));
    }

    pub(super) fn forget(&self, stream: &StreamId) {
        self.states.remove(stream);
    }
}
