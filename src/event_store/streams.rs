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
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use sqlx::PgPool;

use super::append::AppendError;
use super::cell::is_lost;
use super::stream::StreamId;
use super::upcast::{UPCASTERS, Versioned, upcast};
use crate::aggregates::claims::ClaimKind;
use crate::aggregates::ids::TenantId;

/// Aggregates whose state is remembered, at most.
const REMEMBERED: usize = 20_000;
/// What all of these take, as far as [`Loaded::bytes`] says.
const REMEMBERED_BYTES: u64 = 64 << 20;
/// The parts in which they are kept. None is remembered that does not fit into one.
const SHARDS: usize = 2;
/// What an event leaves in a state beside its own letters.
const EVENT_BYTES: u64 = 256;

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
    /// What it takes in memory, at most, roughly: what [`bytes_of`] says of its events.
    pub bytes: u64,
}

impl<A: Default> Default for Loaded<A> {
    fn default() -> Self {
        Self { state: A::default(), version: 0, bytes: 0 }
    }
}

/// A state that is remembered: what the stream was at a version, which stays true whatever is appended after it.
#[derive(Clone)]
struct Remembered {
    /// A `Loaded` of the stream's aggregate.
    loaded: Arc<dyn Any + Send + Sync>,
    version: i64,
    bytes: u64,
    /// Something was appended after it, or may have been: what that is has to be read.
    behind: bool,
}

/// What an event with a payload of so many bytes leaves in a state, at most, roughly.
pub(super) const fn bytes_of(payload: usize) -> u64 {
    EVENT_BYTES + payload as u64
}

/// Aggregates differ: a lead is a kilobyte, a customer with a history of years several megabytes.
#[derive(Debug, Clone, Copy)]
struct Bytes;

impl Weighter<StreamId, Remembered> for Bytes {
    fn weight(&self, _: &StreamId, remembered: &Remembered) -> u64 {
        // Small ones are as many as there may be.
        remembered.bytes.max(REMEMBERED_BYTES.div_ceil(REMEMBERED as u64))
    }
}

type States = Cache<StreamId, Remembered, Bytes>;

/// Reads streams and remembers states.
#[derive(Clone)]
pub struct Streams {
    pool: PgPool,
    states: Arc<States>,
}

/// An empty memory.
fn states() -> States {
    let built = OptionsBuilder::new()
        .estimated_items_capacity(REMEMBERED)
        .weight_capacity(REMEMBERED_BYTES)
        .shards(SHARDS)
        .build();
    match built {
        Ok(options) => Cache::with_options(options, Bytes, DefaultHashBuilder::default(), DefaultLifecycle::default()),
        // Only if one of these were missing.
        Err(_) => Cache::with_weighter(REMEMBERED, REMEMBERED_BYTES, Bytes),
    }
}

impl Streams {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool, states: Arc::new(states()) }
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
            self.remember(stream.clone(), loaded.version, (Arc::new(loaded.clone()), loaded.bytes));
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
        self.read_on(stream, Loaded::default()).await
    }

    /// A state brought up to date by what was appended after it.
    async fn read_on<A: Aggregate>(&self, stream: &StreamId, from: Loaded<A>) -> Result<Loaded<A>, LoadError> {
        let unreadable = |error: &dyn std::error::Error| LoadError::Read(stream.clone(), error.to_string());
        let Loaded { mut state, mut version, mut bytes } = from;
        let last = usize::try_from(version).map_err(|error| unreadable(&error))?;
        let stored = self.stored::<A>(stream, last).await?;
        for event in stored {
            let sequence = event.sequence;
            let event_type = event.event_type.clone();
            bytes += bytes_of(event.payload.to_string().len());
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
        Ok(Loaded { state, version, bytes })
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
    pub(super) fn remember(&self, stream: StreamId, version: i64, (loaded, bytes): (Arc<dyn Any + Send + Sync>, u64)) {
        if self.states.get(&stream).is_none_or(|there| there.version <= version) {
            self.states.insert(stream, Remembered { loaded, version, bytes, behind: false });
        }
    }

    /// What is remembered of a stream may be behind it; the next command reads on from there.
    pub(super) fn doubt(&self, stream: &StreamId) {
        if let Some(remembered) = self.states.get(stream) {
            self.states.insert(stream.clone(), Remembered { behind: true, ..remembered });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// States of these sizes, remembered one after the other.
    fn remembering(sizes: &[u64]) -> Streams {
        let streams = Streams::new(PgPool::connect_lazy("postgres://nowhere").unwrap());
        for (number, bytes) in sizes.iter().enumerate() {
            streams.remember(stream(number), 1, (Arc::new(()), *bytes));
        }
        streams
    }

    fn stream(number: usize) -> StreamId {
        StreamId::new("Lead", TenantId::Business(1), format!("LED-{number:03}"))
    }

    #[tokio::test]
    async fn of_small_states_as_many_are_remembered_as_there_may_be() {
        let streams = remembering(&vec![600; 2 * REMEMBERED]);
        let remembered = (0..2 * REMEMBERED).filter(|number| streams.version(&stream(*number)).is_some()).count();
        assert!((REMEMBERED * 9 / 10..=REMEMBERED).contains(&remembered), "{remembered}");
    }

    #[tokio::test]
    async fn a_state_as_large_as_a_customer_of_fifty_thousand_events_is_remembered() {
        let streams = remembering(&[50_000 * bytes_of(250)]);
        assert_eq!(streams.version(&stream(0)), Some(1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_remembered_never_takes_more_than_it_may(sizes in vec(0_u64..40 << 20, 1..400)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _runtime = runtime.enter();
            let streams = remembering(&sizes);
            let remembered = sizes.iter().enumerate().filter(|(number, _)| streams.version(&stream(*number)).is_some());
            let bytes: u64 = remembered.map(|(_, bytes)| bytes).sum();
            prop_assert!(bytes <= REMEMBERED_BYTES, "{bytes}");
        }
    }
}
