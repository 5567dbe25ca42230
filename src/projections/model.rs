//! A projection at work: events in, the rows they make out, as parts of one statement.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use quick_cache::unsync::Cache;
use serde::Serialize;
use sqlx::postgres::PgConnection;

use super::fact::Fact;
use super::row::{COMMON_COLUMNS, Row, Stored};

/// Rows that a projection remembers, so that it need not read back what it wrote.
const REMEMBERED: usize = 20_000;

/// An entity that an event touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// It begins with this event: there is no row to look for.
    New(String),
    /// There may be a row.
    Known(String),
}

/// Events in, rows out: a pure fold, keyed by entity.
pub trait Projection: Send + Sync + 'static {
    /// What it keeps of each entity.
    type Row: Row;
    /// Its name, for checkpoints and people.
    const NAME: &'static str;

    /// The entities whose row an event may change.
    fn touched(fact: &Fact) -> Vec<Touched>;

    /// The row of entity `id` after the event. None only as long as there is none.
    fn fold(row: Option<Self::Row>, id: &str, fact: &Fact) -> Option<Self::Row>;
}

/// One part of the statement that writes a batch: SQL over `ok` with one JSON parameter in the place of `{}`.
pub struct Part {
    /// A name that no other part has.
    pub name: String,
    /// The data-modifying statement.
    pub sql: Arc<str>,
    /// Its rows.
    pub json: String,
}

/// A projection, whatever its rows.
#[async_trait]
pub trait Model: Send {
    /// The projection's name.
    fn name(&self) -> &'static str;

    /// Folds a batch and says what is to be written. What it remembers is true only if that is written.
    async fn fold(&mut self, connection: &mut PgConnection, facts: &[Fact]) -> anyhow_free::Result<Vec<Part>>;

    /// Forgets what it remembers: somebody else may have written.
    fn forget(&mut self);
}

/// Errors of a fold: the database's, or a row that cannot be written as JSON.
pub mod anyhow_free {
    /// What can go wrong while a batch is folded.
    #[derive(Debug, thiserror::Error)]
    pub enum FoldError {
        /// The database failed.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
        /// A row cannot be written down.
        #[error("a row cannot be written down: {0}")]
        Encode(#[from] serde_json::Error),
    }

    /// The result of a fold.
    pub type Result<T> = std::result::Result<T, FoldError>;
}
