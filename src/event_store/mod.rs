//! The event store: the only code that touches `events`.
//!
//! ```text
//! work ──decides──► appender ──one statement a batch──► events, heads, counters, claims, idempotency keys
//! streams ◄──postgres-es── events ──in order──► reader ──► projections
//! ```
//!
//! Positions are given inside the transaction that holds the cell's head row, so the order of the log is the
//! order of commits, dense, over the cell and for each tenant: no reader ever skips or waits for a gap.

pub mod append;
pub mod appender;
mod batch;
pub(crate) mod canonical;
mod cell;
pub mod chain;
pub mod directory;
pub mod envelope;
pub mod hash;
pub mod history;
pub mod reader;
pub mod scope;
pub mod stream;
pub mod streams;
pub mod tail;
pub mod upcast;
pub mod work;

pub(crate) use cell::{BY_KEY, in_time, is_lock_refused, is_refusal};

pub use append::{Append, AppendError, Appended, Condition, IdempotencyClaim, NewEvent, StreamWrite};
pub use cell::{Cell, Database, MigrateError, is_lost, migrate, unmigrated};
pub use envelope::{Actor, Context, Recorded};
pub use history::{Happened, History};
pub use scope::TenantScope;
pub use stream::{StreamId, Target};
pub use streams::{LoadError, Loaded};
pub use work::{Planned, Work, WorkError};

use appender::Appender;
use streams::Streams;
use tail::Tail;
use tokio::task::JoinHandle;

use crate::aggregates::ids::TenantId;
use crate::clock::Clock;

/// The log of one cell: what commands use.
#[derive(Clone)]
pub struct EventStore {
    streams: Streams,
    appender: Appender,
    clock: Clock,
}

impl EventStore {
    /// Opens the log of a cell and starts its appender, which ends once every handle is gone.
    #[must_use]
    pub fn open(cell: &Cell, clock: Clock) -> (Self, JoinHandle<()>) {
        let (appender, task) = Appender::start(cell, clock.clone());
        (Self { streams: Streams::new(cell.appender.clone()), appender, clock }, task)
    }

    /// Begins a unit of work inside a tenant.
    #[must_use]
    pub fn begin(&self, scope: TenantScope, context: Context) -> Work {
        Work::new(self.streams.clone(), self.appender.clone(), self.clock.clone(), scope, context)
    }

    /// Takes `count` numbers of `kind` (INT, NOT, …) and returns the first; they are never given again.
    ///
    /// # Errors
    /// [`AppendError`] if the store cannot be reached.
    pub async fn numbers(&self, tenant: TenantId, kind: &'static str, count: u32) -> Result<u32, AppendError> {
        self.appender.numbers(tenant, kind, count).await
    }

    /// Sees to it that no number of `kind` (LED, INT, …) below `at_least` is given any more: for whoever brings
    /// ids along. Asking twice does no more than asking once.
    ///
    /// # Errors
    /// [`AppendError`] if the store cannot be reached.
    pub async fn reserve_numbers(
        &self,
        tenant: TenantId,
        kind: &'static str,
        at_least: u32,
    ) -> Result<(), AppendError> {
        self.appender.reserve_numbers(tenant, kind, at_least).await
    }

    /// Stores what was decided in bulk, by an import, say: each append whole or not at all, those of one tenant in
    /// the order given. Answers in that order once all are settled. An append may build on one before it that is
    /// not stored yet; if that is refused, what builds on it conflicts. However many they are, they take no more
    /// than half of the appender's queue, so that others are served in between.
    pub async fn append_all(&self, appends: Vec<Append>) -> Vec<Result<Appended, AppendError>> {
        self.appender.append_all(appends).await
    }

    /// The states of aggregates.
    #[must_use]
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// The position of the last event that this process stored.
    #[must_use]
    pub fn head(&self) -> tokio::sync::watch::Receiver<i64> {
        self.appender.tail().head()
    }

    /// What this process stored last, for whoever reads the log right behind it.
    #[must_use]
    pub fn tail(&self) -> Tail {
        self.appender.tail().clone()
    }
}
