//! What a projection is, and what the projector asks of it: a batch of events in, the rows they make out, as parts of
//! one statement.

use std::str::FromStr;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use serde_json::Value;
use sqlx::error::BoxDynError;
use sqlx::postgres::PgConnection;

use super::fact::{Fact, Told, Unread};
use super::row::Row;
use super::statement::Statement;
pub use super::versioned::Versioned;
use super::written::Written;
use crate::aggregates::ids::TenantId;

/// The most that is kept of a reason; the rest is in the log, with the event.
const REASON: usize = 500;

/// Whose row, and which.
pub(super) type Key = (TenantId, String);

/// An entity that an event touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// It begins with this event: there is no row to look for.
    New(String),
    /// There may be a row.
    Known(String),
}

impl Touched {
    /// The aggregate that the event is about, which `begins` with it or not.
    #[must_use]
    pub fn of(fact: &Fact, begins: bool) -> Self {
        let id = fact.recorded.local_id().to_owned();
        if begins { Self::New(id) } else { Self::Known(id) }
    }
}

/// What an event touches that this version of the program does not understand, as far as that can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Affected {
    /// Nothing of this projection.
    Nothing,
    /// The rows of these entities.
    Rows(Vec<String>),
    /// Some, and nobody knows which.
    Unknown,
}

impl Affected {
    /// The aggregate itself, if the event is about one of this type.
    #[must_use]
    pub fn aggregate<A: Aggregate>(unread: &Unread) -> Self {
        if unread.recorded.aggregate_type == A::TYPE {
            Self::Rows(vec![unread.recorded.local_id().to_owned()])
        } else {
            Self::Nothing
        }
    }

    /// The entity whose id this is.
    #[must_use]
    pub fn called<I: FromStr>(id: Option<&Value>) -> Self {
        match id.and_then(Value::as_str) {
            Some(id) if id.parse::<I>().is_ok() => Self::Rows(vec![id.to_owned()]),
            _ => Self::Unknown,
        }
    }

    /// Each of these, if every one says its id.
    #[must_use]
    pub fn each<I: FromStr>(entities: Option<&Value>) -> Self {
        let Some(entities) = entities.and_then(Value::as_array) else { return Self::Unknown };
        let mut ids = Vec::with_capacity(entities.len());
        for entity in entities {
            match Self::called::<I>(entity.get("id")) {
                Self::Rows(id) => ids.extend(id),
                Self::Nothing | Self::Unknown => return Self::Unknown,
            }
        }
        Self::Rows(ids)
    }
}

/// Why a projection refuses an event: its entity is parked, and what follows of it waits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Poison(String);

impl Poison {
    /// For a reason of which the first few hundred characters are kept.
    #[must_use]
    pub fn new(reason: &str) -> Self {
        Self(reason.chars().filter(|c| *c != '\0').take(REASON).collect())
    }

    /// The event changes something that never began.
    #[must_use]
    pub fn absent() -> Self {
        Self::new("it changes something that is not there")
    }
}

/// Events in, rows out: a pure fold, keyed by entity.
pub trait Projection: Send + Sync + 'static {
    /// What it keeps of each entity.
    type Row: Row;
    /// Its name, for checkpoints and people.
    const NAME: &'static str;
    /// The types of the aggregates whose events it looks at: a replay reads no others.
    const FED_BY: &'static [&'static str];
    /// Whether an entity is an aggregate, so that its own events alone make its row.
    const OF_ITS_AGGREGATE: bool = true;
    /// Whether it looks at the metadata of events.
    const USES_METADATA: bool = false;

    /// The entities whose row an event may change.
    fn touched(fact: &Fact) -> Vec<Touched>;

    /// The entities whose row an event that cannot be read may change.
    fn affected(unread: &Unread) -> Affected;

    /// The row of entity `id` after the event. None only as long as there is none.
    ///
    /// # Errors
    /// [`Poison`] if the event cannot be, as things stand: a mistake in the log or in the program.
    fn fold(row: Option<Self::Row>, id: &str, fact: &Fact) -> Result<Option<Self::Row>, Poison>;
}

/// Events that a projection is to take.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The events, in order.
    pub told: &'a [Told],
    /// The position of one that the database did not take, and why: as if the projection had refused it.
    pub refused: Option<(i64, &'a Poison)>,
    /// When they are taken.
    pub now: DateTime<Utc>,
    /// Whether somebody waits for them, and would have use for the rows.
    pub awaited: bool,
    /// Whether all are about one type of aggregate. Then the statement has no part for which there is nothing to write;
    /// otherwise there would be too many different statements to keep prepared.
    pub alike: bool,
}

/// What a batch came to.
#[derive(Default)]
pub struct Folded {
    /// How many entities were set aside.
    pub parked: usize,
    /// The rows as they are after an awaited batch.
    pub rows: Vec<Written>,
}

/// An entity that is parked, with what it has to catch up on.
#[derive(Debug, Clone, Copy)]
pub struct Parked<'a> {
    /// Whose it is.
    pub tenant: TenantId,
    /// Which.
    pub id: &'a str,
    /// The event that was refused and those that followed, in order.
    pub told: &'a [Told],
}

/// Why a batch could not be folded.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// A row cannot be written down.
    #[error("a row cannot be written down: {0}")]
    Encode(#[from] BoxDynError),
    /// An event is refused, and no single entity can be set aside for it.
    #[error("{0}")]
    Stopped(String),
}

/// A projection, whatever its rows.
#[async_trait]
pub trait Model: Send + Sync {
    /// The projection's name.
    fn name(&self) -> &'static str;

    /// Whether it has as much to write of every event as others have of those that they look at: of a large batch, its
    /// rows are written at the same time as theirs instead of after them.
    fn is_beside(&self) -> bool {
        false
    }

    /// Folds a batch and adds what is to be written to the statement, as parts over its one-row relation `ok`.
    /// What the model remembers holds only if that is written.
    ///
    /// # Errors
    /// [`FoldError`]; then the statement is of no use.
    async fn fold(
        &mut self,
        connection: &mut PgConnection,
        batch: Batch<'_>,
        statement: &mut Statement,
    ) -> Result<Folded, FoldError>;

    /// Folds what a parked entity has to catch up on onto its row, and adds what is to be written. A projection that
    /// parks nothing has nothing to catch up on.
    ///
    /// # Errors
    /// [`FoldError::Stopped`] if an event is still refused, with the reason.
    async fn catch_up(
        &mut self,
        _connection: &mut PgConnection,
        _parked: Parked<'_>,
        _statement: &mut Statement,
    ) -> Result<(), FoldError> {
        Ok(())
    }

    /// Forgets what it remembers: the batch was not written, or somebody else wrote.
    fn forget(&mut self);
}
