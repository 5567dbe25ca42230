//! What is asked of the appender, and what it answers.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::stream::{StreamId, Target};
use crate::aggregates::claims::ClaimChange;
use crate::aggregates::ids::TenantId;

/// An event that was decided and not yet stored.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Its own id.
    pub event_id: Uuid,
    /// `LeadCaptured`.
    pub event_type: String,
    /// The version of that type.
    pub event_version: String,
    /// The payload as RFC 8785 JSON.
    pub payload: String,
    /// The metadata as RFC 8785 JSON.
    pub metadata: Arc<str>,
    /// When it happened in the business.
    pub occurred_at: DateTime<Utc>,
    /// What it takes or gives back of the things that may exist only once.
    pub claims: Vec<ClaimChange>,
}

/// The events for one stream, decided on its state at `expected`.
#[derive(Debug, Clone)]
pub struct StreamWrite {
    /// Which stream.
    pub target: Target,
    /// The version that the decision was taken on; 0 for a new stream.
    pub expected: i64,
    /// What was decided.
    pub events: Vec<NewEvent>,
}

/// Another stream that the decision relied on: it must not have moved.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Which stream.
    pub stream: StreamId,
    /// The version that was relied on.
    pub version: i64,
}

/// A part of the tenant's history that the decision relied on: nothing of these types may have been added.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The tenant position up to which the decision knew everything.
    pub after: i64,
    /// The event types that would change the decision.
    pub event_types: &'static [&'static str],
}

/// The key under which a request may be repeated without a second effect.
#[derive(Debug, Clone)]
pub struct IdempotencyClaim {
    /// Who asked: keys of different people never meet.
    pub actor: String,
    /// The key that the client chose.
    pub key: String,
    /// SHA-256 of what was asked.
    pub request_hash: [u8; 32],
    /// The correlation id of the command.
    pub correlation_id: Uuid,
}

/// One command's outcome: all of it is stored, or nothing.
#[derive(Debug, Clone)]
pub struct Append {
    /// Whose history it goes to.
    pub tenant: TenantId,
    /// The streams it writes.
    pub writes: Vec<StreamWrite>,
    /// The streams it relied on.
    pub guards: Vec<Guard>,
    /// The parts of history it relied on.
    pub conditions: Vec<Condition>,
    /// The request it answers.
    pub idempotency: Option<IdempotencyClaim>,
}

impl Append {
    /// The streams that it adds to, as far as they have a name.
    pub(super) fn writes_to(&self) -> impl Iterator<Item = &StreamId> {
        self.writes.iter().filter_map(|write| write.target.stream())
    }

    /// The streams that have to be where it says.
    pub(super) fn builds_on(&self) -> impl Iterator<Item = &StreamId> {
        self.writes_to().chain(self.guards.iter().map(|guard| &guard.stream))
    }
}

/// Where a command's events came to stand.
#[derive(Debug, Clone)]
pub struct Appended {
    /// The position of the last one in the cell's log.
    pub position: i64,
    /// The position of the last one in the tenant's history.
    pub tenant_position: i64,
    /// When the store took them.
    pub recorded_at: DateTime<Utc>,
    /// The streams written, in the order asked, with the version that each has now.
    pub streams: Vec<(StreamId, i64)>,
}

/// Why nothing was stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// Somebody else wrote to a stream, or to what the decision relied on: decide again.
    #[error("{0} has changed in the meantime")]
    Conflict(String),
    /// Something that may exist once exists already.
    #[error("{kind} is taken")]
    Claimed {
        /// What kind of thing, `login`.
        kind: &'static str,
        /// Which one.
        key: String,
    },
    /// The idempotency key was used before.
    #[error("the idempotency key was used before")]
    KeyUsed,
    /// Too many commands are waiting.
    #[error("too many commands are waiting")]
    Overloaded,
    /// The appender has stopped.
    #[error("the store is shutting down")]
    Stopped,
    /// The database is not there; nothing was stored.
    #[error("the database could not be reached")]
    Unreachable,
    /// The database failed; what was asked may or may not have been stored.
    #[error("the event store failed: {0}")]
    Store(Arc<sqlx::Error>),
}

impl From<sqlx::Error> for AppendError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(Arc::new(error))
    }
}
