//! A read model made anew from the log, beside the live one, which serves until the new one takes its place.
//!
//! ```text
//! replay up to the checkpoint ─► keys, indexes, rights ─► catch up ─► one transaction: the rest, the exchange, the generation
//! ```
//!
//! Nothing is ever half done: the new tables lie in a schema of their own, under the names that they will have, and
//! are thrown away by the next rebuild, or the next start of the server, if the process ends before the exchange.

mod abreast;
mod leftovers;
mod overview;
mod record;
mod switch;
mod tables;

use std::time::{Duration, Instant};

use serde::Serialize;
use uuid::Uuid;

pub use leftovers::clean_up;
pub use overview::{Detail, Overview, detail, overview};
pub use record::{Record, State, latest, list, read};

use super::copy::Output;
use super::replay::{Folding, ReplayError, Replayable, Settings, named, read_ahead};
use super::search;
use crate::aggregates::ids::TenantId;
use crate::clock::{Clock, new_event_id};
use crate::event_store::Cell;
use crate::event_store::reader::{Selection, Whose};
use abreast::run_abreast;
use leftovers::{clean, lock, unlock};
use tables::Place;

/// How often a rebuild writes down how far it is.
const TOLD_EVERY: Duration = Duration::from_millis(500);
/// So few events are folded while the projector waits.
const NEAR: i64 = 500;
/// How many times it tries to come that near before it switches all the same.
const ROUNDS: u32 = 20;

/// Why a read model was not made anew. The one that there was goes on being read.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// There is no such projection.
    #[error("there is no projection {0}")]
    Unknown(String),
    /// There is a rebuild of it already.
    #[error("{0} is being rebuilt already; one rebuild of a projection runs at a time")]
    Busy(&'static str),
    /// The account may not make tables.
    #[error(
        "the account of the database does not own the read models and may not make tables; \
         run `devhub projections rebuild` with the account that migrated the database"
    )]
    NotOwner,
    /// There are views on it.
    #[error(
        "the views {0} are on the tables of this projection and would go on showing what is replaced; drop them first"
    )]
    Views(String),
    /// The new tables did not become like the live ones.
    #[error("the new tables are not like the live ones: {0}")]
    Unlike(String),
    /// Others have used the tables all the time.
    #[error("the tables were in use for {} seconds without a moment to put the new ones in their place", .0.as_secs())]
    InUse(Duration),
    /// The log could not be replayed.
    #[error("the log could not be replayed: {0}")]
    Replay(#[from] ReplayError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// What a rebuild came to.
#[derive(Debug, Clone, Serialize)]
pub struct Rebuilt {
    /// The rebuild's id.
    pub rebuild_id: Uuid,
    /// What was rebuilt.
    pub projection: &'static str,
    /// Of this tenant only.
    pub tenant_id: Option<TenantId>,
    /// The position of the cell's log that it had reached when it took over.
    pub position: i64,
    /// Rows written, over all tables.
    pub rows: u64,
    /// How long it took.
    pub milliseconds: u64,
    /// How long the projector had to wait for it.
    pub held_milliseconds: u64,
}

/// A rebuild that holds its projection's lock: for as long as this lives, there is no other.
pub struct Rebuild {
    cell: Cell,
    clock: Clock,
    projection: Replayable,
    tenant: Option<TenantId>,
    selection: Selection,
    place: Place,
    folding: Box<dyn Folding>,
    output: Output,
    record: Record,
    told: Instant,
}

impl Rebuild {
    /// Takes the projection's lock and throws away what an earlier rebuild has left.
    ///
    /// # Errors
    /// [`RebuildError`]
    pub async fn begin(
        cell: &Cell,
        clock: &Clock,
        projection: &str,
        tenant: Option<TenantId>,
    ) -> Result<Self, RebuildError> {
        let projection = named(projection).ok_or_else(|| RebuildError::Unknown(projection.to_owned()))?;
        let place = place(cell);
        let mut owner = cell.owner.acquire().await?.detach();
        for table in projection.tables {
            if !place.is_ours(&mut owner, table.name).await? {
                return Err(RebuildError::NotOwner);
            }
            let views = place.views(&mut owner, table.name).await?;
            if tenant.is_none() && !views.is_empty() {
                return Err(RebuildError::Views(views.join(", ")));
            }
        }
        if !lock(&mut owner, cell, &projection).await? {
            return Err(RebuildError::Busy(projection.name));
        }
        clean(&mut owner, cell, clock, &projection).await?;
        let now = clock.now();
        let record = Record {
            rebuild_id: new_event_id(now),
            projection: projection.name.to_owned(),
            tenant_id: tenant.map(|tenant| tenant.to_string()),
            state: State::Replaying.to_string(),
            position: 0,
            target: 0,
            rows: 0,
            started_at: now,
            updated_at: now,
            finished_at: None,
            error: None,
        };
        record::begin(&cell.replayer, &record).await?;
        Ok(Self {
            cell: cell.clone(),
            clock: clock.clone(),
            selection: projection.events_of(tenant.map_or(Whose::Everybody, Whose::Tenant)),
            folding: projection.folding(Settings::into_schema(&place.side)),
            projection,
            tenant,
            place,
            output: Output::new(owner),
            record,
            told: Instant::now(),
        })
    }

    /// What is known of it so far.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Keeps no more than so many rows in memory.
    #[must_use]
    pub fn keeping(mut self, rows: usize) -> Self {
        let settings = Settings { kept: rows, ..Settings::into_schema(&self.place.side) };
        self.folding = self.projection.folding(settings);
        self
    }

    /// Makes the read model anew and puts it in the place of the live one. `watch` is told how far it is.
    ///
    /// # Errors
    /// [`RebuildError`]; the read model that there was goes on being read.
    pub async fn run(mut self, watch: impl Fn(&Record) + Send + Sync) -> Result<Rebuilt, RebuildError> {
        let begun = Instant::now();
        match self.work(&watch).await {
            Ok((position, held)) => {
                watch(&self.record);
                let rebuilt = Rebuilt {
                    rebuild_id: self.record.rebuild_id,
                    projection: self.projection.name,
                    tenant_id: self.tenant,
                    position,
                    rows: self.folding.rows(),
                    milliseconds: milliseconds(begun.elapsed()),
                    held_milliseconds: milliseconds(held),
                };
                self.leave_nothing().await;
                self.let_go().await;
                tracing::info!(
                    projection = rebuilt.projection,
                    position,
                    "{} was rebuilt up to {position} in {} ms",
                    rebuilt.projection,
                    rebuilt.milliseconds
                );
                Ok(rebuilt)
            }
            Err(error) => {
                tracing::error!(projection = self.projection.name, %error, "{} was not rebuilt: {error}", self.projection.name);
                self.record.error = Some(error.to_string());
                self.record.finished_at = Some(self.clock.now());
                self.leave_nothing().await;
                self.tell(State::Failed).await?;
                watch(&self.record);
                self.let_go().await;
                Err(error)
            }
        }
    }

    /// Throws away what is not read. What cannot be thrown away now is when the next rebuild begins.
    async fn leave_nothing(&mut self) {
        let left = async {
            let owner = self.output.connection().await?;
            tables::run(owner, "rollback".to_owned()).await?;
            tables::run(owner, "reset role".to_owned()).await?;
            for table in self.projection.tables {
                self.place.drop_leftovers(owner, table.name).await?;
            }
            Ok::<(), sqlx::Error>(())
        };
        if let Err(error) = left.await {
            tracing::warn!(%error, "tables of a rebuild were left behind: {error}");
        }
    }

    /// Gives the lock back. It ends with the session as well, but when the server notices that is its own affair, and the
    /// next rebuild may be about to begin.
    async fn let_go(mut self) {
        let unlocked = async { unlock(self.output.connection().await?, &self.cell, &self.projection).await };
        if let Err(error) = unlocked.await {
            tracing::debug!(%error, "the lock of a rebuild ends with its session: {error}");
        }
    }

    /// The position at which it took over, and how long the projector was held.
    async fn work(&mut self, watch: &(impl Fn(&Record) + Send + Sync)) -> Result<(i64, Duration), RebuildError> {
        for table in self.projection.tables {
            self.place.create(self.output.connection().await?, table.name).await?;
        }
        let mut at = self.catch_up(0, watch).await?;
        let versions = self.folding.settle(&mut self.output).await?;
        self.tell(State::Indexing).await?;
        watch(&self.record);
        self.finish(versions).await?;
        self.tell(State::CatchingUp).await?;
        for _ in 0..ROUNDS {
            let before = at;
            at = self.catch_up(at, watch).await?;
            if at - before <= NEAR {
                break;
            }
        }
        self.tell(State::Switching).await?;
        watch(&self.record);
        self.mark_searched().await?;
        self.switch(at, watch).await
    }

    /// Those who search look at every block of the new table of which they know nothing else: a signature is one of the
    /// table that it was made of. What is folded from here on, the projector marks as well.
    async fn mark_searched(&mut self) -> sqlx::Result<()> {
        let (Some(searched), None) = (self.projection.searched, self.tenant) else { return Ok(()) };
        let owner = self.output.connection().await?;
        tables::run(owner, "set role devhub_projector".to_owned()).await?;
        let made_anew = format!("{}.{}", self.place.side, searched.table);
        tables::run(owner, search::mark_all(searched, &made_anew, false)).await?;
        tables::run(owner, "reset role".to_owned()).await
    }

    /// Makes the new tables what the live ones are, but for row-level security, and tells the planner what is in them.
    /// `versions` puts the last rows into the last table; meanwhile the others get their indexes.
    async fn finish(&mut self, versions: Option<String>) -> Result<(), RebuildError> {
        let (place, tables, helping) = (&self.place, self.projection.tables, &self.cell.owner);
        let owner = self.output.connection().await?;
        let mut work = Vec::new();
        let mut after = versions;
        for table in tables.iter().rev() {
            let indexes = place.indexes(owner, table.name).await?;
            match after.take() {
                Some(versions) => work.push([vec![versions], indexes].concat()),
                None => work.extend(indexes.into_iter().map(|index| vec![index])),
            }
        }
        run_abreast(owner, helping, work).await?;
        let mut analyses = Vec::new();
        for table in tables {
            place.finish(owner, table.name).await?;
            analyses.push(vec![place.analyze(owner, table.name).await?]);
        }
        Ok(run_abreast(owner, helping, analyses).await?)
    }

    /// Folds what the projector has written by now and this has not. Answers the place in the log that it came to.
    async fn catch_up(&mut self, at: i64, watch: &(impl Fn(&Record) + Send + Sync)) -> Result<i64, RebuildError> {
        let position = self.checkpoint().await?;
        let end = self.selection.end(&self.cell.replayer, position).await?;
        self.record.target = end;
        self.replay(at, end, watch).await?;
        Ok(end)
    }

    /// Folds what stands between two places of the log.
    ///
    /// An event that the projection refuses ends the rebuild here, with the event's name: what is made anew has
    /// nothing set aside.
    async fn replay(
        &mut self,
        at: i64,
        end: i64,
        watch: &(impl Fn(&Record) + Send + Sync),
    ) -> Result<(), RebuildError> {
        let mut chunks = read_ahead(self.cell.replayer.clone(), self.selection.clone(), at, end);
        while let Some(chunk) = chunks.recv().await {
            let chunk = chunk?;
            self.folding.fold(&chunk.told, &mut self.output).await?;
            self.record.position = chunk.place;
            if self.told.elapsed() >= TOLD_EVERY {
                self.write_down().await?;
                watch(&self.record);
            }
        }
        Ok(())
    }

    /// Where the projector is.
    async fn checkpoint(&self) -> sqlx::Result<i64> {
        checkpoint(&self.cell, self.projection.name).await
    }

    async fn tell(&mut self, state: State) -> sqlx::Result<()> {
        self.record.state = state.to_string();
        self.write_down().await
    }

    async fn write_down(&mut self) -> sqlx::Result<()> {
        self.told = Instant::now();
        self.record.updated_at = self.clock.now();
        self.record.rows = i64::try_from(self.folding.rows()).unwrap_or(i64::MAX);
        record::update(&self.cell.replayer, &self.record).await
    }
}

/// How far a projection is; 0 if it never ran.
pub(super) async fn checkpoint(cell: &Cell, projection: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar("select coalesce(max(position), 0) from projection_checkpoints where projection = $1")
        .bind(projection)
        .fetch_one(&cell.replayer)
        .await
}

/// Rebuilds a projection, of one tenant or whole.
///
/// # Errors
/// [`RebuildError`]
pub async fn rebuild(
    cell: &Cell,
    clock: &Clock,
    projection: &str,
    tenant: Option<TenantId>,
) -> Result<Rebuilt, RebuildError> {
    Rebuild::begin(cell, clock, projection, tenant).await?.run(|_| {}).await
}

fn place(cell: &Cell) -> Place {
    Place { live: cell.name.to_string(), side: cell.rebuild_schema(), replaced: cell.replaced_schema() }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
