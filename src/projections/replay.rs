//! The log once more, into tables beside the live ones: what rebuilds and verifications share.
//!
//! ```text
//! events ─► read ahead ─► decoded ─► folded in memory ─► COPY: versions as they end, at last the rows that still hold
//! ```
//!
//! Memory is bounded whatever the log holds: rows that were not touched for long go to the table of current rows and
//! are taken back when an event touches them again.

mod activity;
mod entities;

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use futures::TryStreamExt;
use sqlx::PgPool;
use sqlx::error::BoxDynError;
use tokio::sync::mpsc;

use super::copy::Output;
use super::fact::{Fact, Told};
use super::model::{Key, Poison, Projection};
use super::row::Row;
use super::search::Searched;
use super::{customers, interactions, invoices, leads, notes, projects, tenants, users};
use crate::event_store::reader::{Entry, Selection, Whose};

/// Rows that a replay keeps in memory before it puts those aside that were not touched for as long.
const KEPT: usize = 50_000;
/// Places of the log that one statement reads, so that none holds back the server's tidying for long.
const WINDOW: i64 = 10_000;
/// Events that are decoded and folded at once.
const CHUNK: usize = 2_000;
/// The same in bytes of their payloads.
const CHUNK_BYTES: usize = 4 << 20;
/// Bytes of rows that are copied at once.
const COPY_BYTES: usize = 4 << 20;

/// Why a replay came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The database failed.
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    /// The projection refuses an event, or cannot tell whose row it changes.
    #[error("event {position} ({event_type}) is refused: {reason}")]
    Refused {
        /// Where it stands in the log.
        position: i64,
        /// Its type.
        event_type: String,
        /// Why.
        reason: Poison,
    },
    /// A row cannot be written down.
    #[error("a row cannot be written down: {0}")]
    Encode(#[from] BoxDynError),
}

/// One table of a projection.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name, without a schema.
    pub name: &'static str,
    /// What tells its rows apart; the tenant comes first.
    pub key: &'static [&'static str],
}

/// A projection as far as it can be replayed.
#[derive(Clone, Copy)]
pub struct Replayable {
    /// Its name.
    pub name: &'static str,
    /// Its tables: the current rows, then every row that ever was; or the one that is only added to.
    pub tables: &'static [Table],
    /// The types of the aggregates that feed it; all of them if there are none.
    pub fed_by: &'static [&'static str],
    /// What of it is searched.
    pub(super) searched: Option<&'static Searched>,
    /// What an entity's row is made of.
    pub(super) made_of: MadeOf,
    metadata: bool,
    pub(super) touched: fn(&Fact) -> Vec<Key>,
    begin: fn(Settings) -> Box<dyn Folding>,
}

/// Which events make a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MadeOf {
    /// Those of the aggregate whose id the entity has.
    ItsAggregate,
    /// Any of its tenant's.
    ItsTenant,
    /// The one that the row tells of.
    OneEvent,
}

/// Where and what a replay folds.
pub(super) struct Settings {
    /// The schema of the tables to fill.
    pub schema: String,
    /// These entities only.
    pub only: Option<HashSet<Key>>,
    /// Rows kept in memory.
    pub kept: usize,
    /// Entities that are set aside, and the position from which on: as the live rows, they stay as they were before.
    pub parked: HashMap<Key, i64>,
}

impl Settings {
    /// All entities, into the tables of a schema.
    pub fn into_schema(schema: &str) -> Self {
        Self { schema: schema.to_owned(), only: None, kept: KEPT, parked: HashMap::new() }
    }

    fn table(&self, name: &str) -> String {
        format!("{}.{name}", self.schema)
    }
}

/// A replay's fold, whatever the rows.
#[async_trait]
pub(super) trait Folding: Send + Sync {
    /// Takes some events, in order. Once [`settle`](Self::settle) was called, the tables have everything afterwards, and
    /// all of it is written through the same connection: a transaction that is rolled back takes it back.
    async fn fold(&mut self, told: &[Told], output: &mut Output) -> Result<(), ReplayError>;

    /// Writes what is kept in memory, and keeps nothing in it from now on. Answers the statement, if there is one, by
    /// which the rows that still hold become versions too: to be run before anything else is folded.
    async fn settle(&mut self, output: &mut Output) -> Result<Option<String>, ReplayError>;

    /// How many rows were written, over all tables.
    fn rows(&self) -> u64;
}

/// The tables that a projection of this kind has.
struct Tables<P>(std::marker::PhantomData<P>);

impl<P: Projection> Tables<P> {
    const ALL: &'static [Table] = &[
        Table { name: P::Row::TABLE, key: &["tenant_id", "id"] },
        Table { name: P::Row::VERSIONS, key: &["tenant_id", "id", "position"] },
    ];
}

impl Replayable {
    /// Of a projection that keeps rows of entities.
    fn of<P: Projection>() -> Self {
        Self {
            name: P::NAME,
            tables: Tables::<P>::ALL,
            fed_by: P::FED_BY,
            searched: P::Row::SEARCHED,
            made_of: if P::OF_ITS_AGGREGATE { MadeOf::ItsAggregate } else { MadeOf::ItsTenant },
            metadata: P::USES_METADATA,
            touched: entities::keys::<P>,
            begin: entities::begin::<P>,
        }
    }

    /// Begins to fold.
    pub(super) fn folding(&self, settings: Settings) -> Box<dyn Folding> {
        (self.begin)(settings)
    }

    /// The events that it is made of.
    pub(super) fn events_of(&self, whose: Whose) -> Selection {
        let aggregate_types = self.fed_by.iter().map(|name| (*name).to_owned()).collect();
        Selection { aggregate_types, whose, metadata: self.metadata }
    }
}

/// Every projection there is.
#[must_use]
pub fn all() -> Vec<Replayable> {
    vec![
        Replayable::of::<tenants::Tenants>(),
        Replayable::of::<users::Users>(),
        Replayable::of::<customers::Customers>(),
        Replayable::of::<leads::Leads>(),
        Replayable::of::<projects::Projects>(),
        Replayable::of::<invoices::Invoices>(),
        Replayable::of::<interactions::Interactions>(),
        Replayable::of::<notes::Notes>(),
        activity::replayable(),
    ]
}

/// The projection of this name.
#[must_use]
pub fn named(name: &str) -> Option<Replayable> {
    all().into_iter().find(|projection| projection.name == name)
}

/// Some events, and the place up to which the log has been read with them.
pub(super) struct Chunk {
    pub told: Vec<Told>,
    pub place: i64,
}

/// Reads and decodes ahead of whoever folds. The tasks behind it end when nobody receives any more.
pub(super) fn read_ahead(
    pool: PgPool,
    selection: Selection,
    after: i64,
    upto: i64,
) -> mpsc::Receiver<Result<Chunk, ReplayError>> {
    let (read, mut entries) = mpsc::channel::<Result<(Vec<Entry>, i64), sqlx::Error>>(2);
    let (decoded, facts) = mpsc::channel(2);
    tokio::spawn(async move {
        if let Err(error) = read_windows(&pool, &selection, after, upto, &read).await {
            let _ = read.send(Err(error)).await;
        }
    });
    tokio::spawn(async move {
        while let Some(entries) = entries.recv().await {
            let chunk = entries
                .map(|(entries, place)| Chunk { told: entries.into_iter().map(Told::of_entry).collect(), place })
                .map_err(ReplayError::from);
            if decoded.send(chunk).await.is_err() {
                break;
            }
        }
    });
    facts
}

async fn read_windows(
    pool: &PgPool,
    selection: &Selection,
    after: i64,
    upto: i64,
    read: &mpsc::Sender<Result<(Vec<Entry>, i64), sqlx::Error>>,
) -> sqlx::Result<()> {
    let mut connection = pool.acquire().await?;
    // What is picked out is read at once, wherever it stands.
    let window = match selection.whose {
        Whose::Everybody | Whose::Tenant(_) => WINDOW,
        Whose::Aggregates(_) | Whose::At(_) | Whose::Told(_) => upto.saturating_sub(after).max(1),
    };
    let statement = selection.statement();
    let mut at = after;
    while at < upto {
        let end = at.saturating_add(window).min(upto);
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        let mut entries = selection.entries(&statement, at, end).fetch(&mut *connection);
        while let Some(entry) = entries.try_next().await? {
            bytes += entry.payload.len();
            let place = selection.place(&entry.recorded);
            chunk.push(entry);
            if chunk.len() >= CHUNK || bytes >= CHUNK_BYTES {
                bytes = 0;
                if read.send(Ok((std::mem::take(&mut chunk), place))).await.is_err() {
                    return Ok(());
                }
            }
        }
        drop(entries);
        if read.send(Ok((chunk, end))).await.is_err() {
            return Ok(());
        }
        at = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_projection_can_be_replayed() {
        let models: Vec<&str> = crate::projections::all().iter().map(|model| model.name()).collect();
        let replayable: Vec<&str> = all().iter().map(|projection| projection.name).collect();
        assert_eq!(models, replayable);
    }
}
