//! The state of an aggregate: its stream read through postgres-es and folded, or remembered from last time.
//!
//! What is remembered may be old, since other processes append too. That is safe: the append checks the version that
//! a decision was taken on, and a command is neither refused nor found to change nothing before the latest is read.
//! For that only what was appended since is needed, so a command costs the same however long the stream has become.

use std::any::Any;
use std::sync::Arc;

use cqrs_es::Aggregate;
use cqrs_es::persist::{PersistedEventRepository, PersistenceError, SerializedEvent};
use postgres_es::PostgresEventRepository;
use quick_cache::sync::Cache;
use sqlx::PgPool;

use super::append::AppendError;
use super::cell::is_lost;
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
    /// The database is not there.
    #[error("the stream of {0} could not be read: {1}")]
    Unreachable(StreamId, String),
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

/// A state that is remembered: what the stream was at a version, which stays true whatever is appended after it.
#[derive(Clone)]
struct Remembered {
    /// A `Loaded` of the stream's aggregate.
    loaded: Arc<dyn Any + Send + Sync>,
    version: i64,
    /// Something was appended after it, or may have been: what that is has to be read.
    behind: bool,
}

/// Reads streams and remembers states.
#[derive(Clone)]
pub struct Streams {
    pool: PgPool,
    states: Arc<Cache<StreamId, Remembered>>,
}

impl Streams {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool, states: Arc::new(Cache::new(REMEMBERED)) }
    }

    /// The aggregate's state as it is now: what is remembered, and what was appended since.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn load<A>(&self, stream: &StreamId) -> Result<Loaded<A>, LoadError>
    where
        A: Aggregate + Clone + 'static,
    {
        let loaded = match self.known(stream) {
            Some((known, _)) => self.read_on(stream, known).await?,
            None => self.read::<A>(stream).await?,
        };
        if loaded.version > 0 {
            self.remember(stream.clone(), loaded.version, Arc::new(loaded.clone()));
        }
        Ok(loaded)
    }

    /// The state as it is remembered, if `serves` says that it will do; else as it is now.
    ///
    /// Another process may have added to the stream: whoever goes on with this has to have its version checked when
    /// what follows from it is appended, and nobody may be refused for it.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn remembered<A>(&self, stream: &StreamId, serves: impl Fn(&A) -> bool) -> Result<Loaded<A>, LoadError>
    where
        A: Aggregate + Clone + 'static,
    {
        match self.known::<A>(stream) {
            Some((known, false)) if serves(&known.state) => Ok(known),
            _ => self.load(stream).await,
        }
    }

    /// What is remembered of a stream, and whether it is known to be behind.
    fn known<A: Clone + Send + Sync + 'static>(&self, stream: &StreamId) -> Option<(Loaded<A>, bool)> {
        let remembered = self.states.get(stream)?;
        Some((remembered.loaded.downcast_ref::<Loaded<A>>()?.clone(), remembered.behind))
    }

    /// The version that is remembered of a stream.
    pub(super) fn version(&self, stream: &StreamId) -> Option<i64> {
        self.states.get(stream).map(|remembered| remembered.version)
    }

    /// The aggregate's state, folded from the log.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn read<A: Aggregate>(&self, stream: &StreamId) -> Result<Loaded<A>, LoadError> {
        self.read_on(stream, Loaded { state: A::default(), version: 0 }).await
    }

    /// A state brought up to date by what was appended after it.
    async fn read_on<A: Aggregate>(&self, stream: &StreamId, from: Loaded<A>) -> Result<Loaded<A>, LoadError> {
        let unreadable = |error: &dyn std::error::Error| LoadError::Read(stream.clone(), error.to_string());
        let Loaded { mut state, mut version } = from;
        let last = usize::try_from(version).map_err(|error| unreadable(&error))?;
        let stored = self.stored::<A>(stream, last).await?;
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

    /// The events of a stream after its `last`. If the database has closed a connection meanwhile, another is taken, until
    /// none is left of those that were kept.
    async fn stored<A: Aggregate>(&self, stream: &StreamId, last: usize) -> Result<Vec<SerializedEvent>, LoadError> {
        let repository = PostgresEventRepository::new(self.pool.clone());
        let mut kept = self.pool.options().get_max_connections();
        loop {
            let error = match repository.get_last_events::<A>(&stream.aggregate_id(), last).await {
                Ok(stored) => return Ok(stored),
                Err(error) => error,
            };
            let because = match &error {
                PersistenceError::ConnectionError(cause) | PersistenceError::UnknownError(cause) => {
                    cause.downcast_ref::<sqlx::Error>()
                }
                _ => None,
            };
            match because {
                Some(cause) if is_lost(cause) && kept > 0 => kept -= 1,
                Some(cause) if is_lost(cause) || matches!(cause, sqlx::Error::PoolTimedOut) => {
                    return Err(LoadError::Unreachable(stream.clone(), error.to_string()));
                }
                _ => return Err(LoadError::Read(stream.clone(), error.to_string())),
            }
        }
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

    /// Keeps a state, a `Loaded` of the stream's aggregate at this version, for the next command, unless a later one is
    /// there already.
    pub(super) fn remember(&self, stream: StreamId, version: i64, loaded: Arc<dyn Any + Send + Sync>) {
        if self.states.get(&stream).is_none_or(|there| there.version <= version) {
            self.states.insert(stream, Remembered { loaded, version, behind: false });
        }
    }

    /// What is remembered of a stream may be behind it; the next command reads on from there.
    pub(super) fn doubt(&self, stream: &StreamId) {
        if let Some(remembered) = self.states.get(stream) {
            self.states.insert(stream.clone(), Remembered { behind: true, ..remembered });
        }
    }
}
