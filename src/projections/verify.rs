//! Whether a read model says what the log says: the log is folded once more, and the rows are compared one by one.
//!
//! ```text
//! snapshot: live rows, checkpoint C ─► replay up to C into temporary tables ─► full join: missing, unexpected, differing
//! ```
//!
//! All of it happens in one transaction of one connection, whose snapshot holds the live rows as they were at C while
//! the projector goes on, and with which the temporary tables vanish, however it ends.

mod compare;
mod nightly;
mod record;
mod sample;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{Executor, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

pub use nightly::{SAMPLE, run_if_due};
pub use record::{Record, Standing, State, latest, list, read, standing, tidy};

use super::copy::Output;
use super::model::Key;
use super::parking::set_aside;
use super::progress::by_tenant;
use super::replay::{MadeOf, ReplayError, Replayable, Settings, named, read_ahead};
use crate::aggregates::ids::TenantId;
use crate::clock::{Clock, new_event_id};
use crate::event_store::reader::Whose;
use crate::event_store::{Cell, Recorded};

/// Differences that are told one by one; the others are counted.
const TOLD: usize = 100;
/// How often it is written down how far a verification is.
const TOLD_EVERY: Duration = Duration::from_millis(500);
/// Where the replayed rows lie.
const REPLAYED: &str = "pg_temp";

/// Why it could not be said whether a read model is right.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no such projection.
    #[error("there is no projection {0}")]
    Unknown(String),
    /// Another process has taken this night's verification.
    #[error("another process verifies {0} tonight")]
    Taken(&'static str),
    /// The log could not be replayed.
    #[error("the log could not be replayed: {0}")]
    Replay(#[from] ReplayError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// What is compared.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope {
    /// One tenant's rows; none: everybody's.
    pub tenant: Option<TenantId>,
    /// So many entities, picked at random from the log and from the rows; none: all.
    pub sample: Option<u32>,
}

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, strum::Display, ToSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[schema(as = ProjectionDifferenceKind)]
pub enum Kind {
    /// The log says that there is one.
    Missing,
    /// The log knows nothing of it.
    Unexpected,
    /// Its columns say something else.
    Differs,
}

/// A column that says something else than the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, ToSchema)]
#[schema(as = ProjectionColumnDifference)]
pub struct ColumnDifference {
    /// Its name.
    pub column: String,
    /// What the read model says.
    #[schema(required)]
    pub live: serde_json::Value,
    /// What the log says.
    #[schema(required)]
    pub replayed: serde_json::Value,
}

/// A row that is not as the log says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, ToSchema)]
#[schema(as = ProjectionDifference)]
pub struct Difference {
    /// The table.
    pub table: String,
    /// Whose row.
    pub tenant_id: String,
    /// Which: the entity's id, or the event's place in the tenant's history.
    pub id: String,
    /// The event that made the row what it is.
    #[schema(required)]
    pub position: Option<i64>,
    /// What is wrong with it.
    pub kind: Kind,
    /// The columns that differ; none for a row that is missing or unexpected.
    pub columns: Vec<ColumnDifference>,
}

/// A verification that is written down and has not begun to work.
pub struct Verification {
    cell: Cell,
    clock: Clock,
    projection: Replayable,
    scope: Scope,
    record: Record,
}

impl Verification {
    /// Writes down that it begins.
    ///
    /// # Errors
    /// [`VerifyError::Unknown`], or the database's.
    pub async fn begin(cell: &Cell, clock: &Clock, projection: &str, scope: Scope) -> Result<Self, VerifyError> {
        let projection = named(projection).ok_or_else(|| VerifyError::Unknown(projection.to_owned()))?;
        Self::of(cell, clock, projection, scope, None).await
    }

    /// The same for a night; only one process gets to do it.
    async fn of(
        cell: &Cell,
        clock: &Clock,
        projection: Replayable,
        scope: Scope,
        night: Option<chrono::NaiveDate>,
    ) -> Result<Self, VerifyError> {
        let now = clock.now();
        let record = Record {
            verification_id: new_event_id(now),
            projection: projection.name.to_owned(),
            tenant_id: scope.tenant.map(|tenant| tenant.to_string()),
            sample: scope.sample.map(i64::from),
            night,
            state: State::Running.to_string(),
            position: 0,
            rows: 0,
            differences: 0,
            found: sqlx::types::Json(Vec::new()),
            started_at: now,
            finished_at: None,
            error: None,
        };
        if !record::begin(&cell.replayer, &record).await? {
            return Err(VerifyError::Taken(projection.name));
        }
        Ok(Self { cell: cell.clone(), clock: clock.clone(), projection, scope, record })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.record.verification_id
    }

    /// Replays and compares. `watch` is told how far it is, of how far.
    ///
    /// # Errors
    /// [`VerifyError`]; it is written down as failed.
    pub async fn run(mut self, watch: impl Fn(i64, i64) + Send + Sync) -> Result<Record, VerifyError> {
        let worked = self.work(&watch).await;
        self.record.finished_at = Some(self.clock.now());
        let state = if worked.is_ok() { State::Done } else { State::Failed };
        self.record.state = state.to_string();
        self.record.error = worked.as_ref().err().map(ToString::to_string);
        record::update(&self.cell.replayer, &self.record).await?;
        worked?;
        record::measure(&self.record);
        let Record { projection, differences, rows, .. } = &self.record;
        if *differences > 0 {
            tracing::error!(
                projection,
                differences,
                "{projection} differs from the log in {differences} of {rows} rows"
            );
        }
        Ok(self.record)
    }

    async fn work(&mut self, watch: &(impl Fn(i64, i64) + Send + Sync)) -> Result<(), VerifyError> {
        let mut connection = self.cell.replayer.acquire().await?.detach();
        let live: Vec<String> =
            self.projection.tables.iter().map(|table| format!("{}.{}", self.cell.name, table.name)).collect();
        connection.execute("begin isolation level repeatable read").await?;
        // Locked before the snapshot is taken: what a rebuild has put in their place by then is what is looked at.
        let lock = format!("lock table {} in access share mode", live.join(", "));
        connection.execute(&*lock).await?;
        let position: i64 =
            sqlx::query_scalar("select coalesce(max(position), 0) from projection_checkpoints where projection = $1")
                .bind(self.projection.name)
                .fetch_one(&mut connection)
                .await?;
        self.record.position = position;
        let held = Held::read(&mut connection, self.projection.name).await?;
        for table in self.projection.tables {
            let name = table.name;
            let temporary = format!(
                "create temporary table {name} (like {}.{name} including generated) on commit drop",
                self.cell.name
            );
            connection.execute(&*temporary).await?;
        }
        let picked = match self.scope.sample {
            Some(entities) => Some(
                sample::pick(&mut connection, &self.cell, &self.projection, self.scope.tenant, entities, position)
                    .await?,
            ),
            None => None,
        };
        let mut output = Output::new(connection);
        self.replay(&mut output, picked.as_ref(), held, position, watch).await?;
        let connection = output.connection().await?;
        for table in self.projection.tables {
            connection.execute(&*format!("analyze {REPLAYED}.{}", table.name)).await?;
        }
        let mut found = Vec::new();
        for table in self.projection.tables {
            let compared = compare::compare(
                connection,
                &self.cell,
                table,
                self.scope.tenant,
                picked.is_some(),
                TOLD - found.len(),
            )
            .await?;
            self.record.differences += compared.differences;
            self.record.rows += compared.rows;
            found.extend(compared.found);
        }
        self.record.found = sqlx::types::Json(found);
        connection.execute("rollback").await?;
        Ok(())
    }

    /// Folds what the selected rows are made of.
    async fn replay(
        &self,
        output: &mut Output,
        picked: Option<&HashSet<Key>>,
        held: Held,
        position: i64,
        watch: &(impl Fn(i64, i64) + Send + Sync),
    ) -> Result<(), VerifyError> {
        let Held { parked, lanes } = held;
        let settings = Settings { only: picked.cloned(), parked, ..Settings::into_schema(REPLAYED) };
        let mut folding = self.projection.folding(settings);
        for whose in self.sources(picked) {
            let selection = self.projection.events_of(whose);
            let end = selection.end(&self.cell.replayer, position).await?;
            let mut told = Instant::now();
            let mut chunks = read_ahead(self.cell.replayer.clone(), selection, 0, end);
            while let Some(chunk) = chunks.recv().await {
                let mut chunk = chunk?;
                if !lanes.is_empty() {
                    let taken = |recorded: &Recorded| {
                        lanes.get(&recorded.tenant_id).is_none_or(|lane| recorded.position <= *lane)
                    };
                    chunk.told.retain(|told| told.recorded().is_some_and(taken));
                }
                folding.fold(&chunk.told, output).await?;
                if told.elapsed() >= TOLD_EVERY {
                    told = Instant::now();
                    watch(chunk.place, end);
                }
            }
        }
        if let Some(versions) = folding.settle(output).await? {
            run(output.connection().await?, &versions).await?;
        }
        Ok(())
    }

    /// Whose events have to be read, one after the other.
    fn sources(&self, picked: Option<&HashSet<Key>>) -> Vec<Whose> {
        let whole = self.scope.tenant.map_or(Whose::Everybody, Whose::Tenant);
        let Some(picked) = picked else { return vec![whole] };
        match self.projection.made_of {
            MadeOf::ItsAggregate => vec![Whose::Aggregates(picked.iter().map(sample::aggregate_id).collect())],
            MadeOf::ItsTenant => {
                let tenants: HashSet<TenantId> = picked.iter().map(|(tenant, _)| *tenant).collect();
                tenants.into_iter().map(Whose::Tenant).collect()
            }
            MadeOf::OneEvent => {
                let places = picked.iter().filter_map(|(tenant, place)| Some((*tenant, place.parse().ok()?)));
                vec![Whose::Told(places.collect())]
            }
        }
    }
}

/// What the live rows do not have yet: of entities that are set aside, and of tenants who are read in lanes of their own,
/// what stands behind these positions.
struct Held {
    parked: HashMap<Key, i64>,
    lanes: HashMap<TenantId, i64>,
}

impl Held {
    async fn read(connection: &mut PgConnection, projection: &str) -> sqlx::Result<Self> {
        let parked = set_aside(&mut *connection, projection).await?;
        let lanes: Vec<(String, i64)> =
            sqlx::query_as("select tenant_id, position from projection_lanes where projection = $1")
                .bind(projection)
                .fetch_all(connection)
                .await?;
        Ok(Self { parked, lanes: by_tenant(lanes)?.into_iter().collect() })
    }
}

/// Compares a projection with the log.
///
/// # Errors
/// [`VerifyError`]
pub async fn verify(cell: &Cell, clock: &Clock, projection: &str, scope: Scope) -> Result<Record, VerifyError> {
    Verification::begin(cell, clock, projection, scope).await?.run(|_, _| {}).await
}

/// What the last verifications found, for whoever reads the metrics of this process.
///
/// # Errors
/// The database's.
pub async fn measure(pool: &PgPool) -> sqlx::Result<()> {
    for record in latest(pool).await? {
        record::measure(&record);
    }
    Ok(())
}

/// Runs a statement that is used once.
async fn run(connection: &mut PgConnection, statement: &str) -> sqlx::Result<()> {
    connection.execute(statement).await.map(drop)
}
