//! What is remembered of rebuilds: how far each is, and what became of it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgExecutor, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

/// How far a rebuild is.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantNames,
    strum::Display,
    ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[schema(as = ProjectionRebuildState, rename_all = "snake_case")]
pub enum State {
    /// It folds the log into tables beside the live ones.
    Replaying,
    /// It makes the indexes.
    Indexing,
    /// It folds what has come in meanwhile.
    CatchingUp,
    /// It waits for the moment to put the new tables in the place of the live ones.
    Switching,
    /// The new tables are being read.
    Done,
    /// It has ended, and the tables that there were go on being read.
    Failed,
    /// Its process ended, and the tables that there were go on being read.
    Abandoned,
}

/// A rebuild.
#[derive(Debug, Clone, Serialize, FromRow, ToSchema)]
#[schema(as = ProjectionRebuild, example = json!({"rebuild_id": "01928d3e-7a10-7c3e-9f5b-0a6f5e8a1c11",
    "projection": "leads", "tenant_id": null, "state": "replaying", "position": 120_000, "target": 480_000,
    "rows": 150_000, "started_at": "2026-01-31T09:00:00Z", "updated_at": "2026-01-31T09:00:01Z", "finished_at": null,
    "error": null}))]
pub struct Record {
    /// The rebuild's id.
    pub rebuild_id: Uuid,
    /// What is rebuilt.
    pub projection: String,
    /// Of this business only; null: of all.
    #[schema(required)]
    pub tenant_id: Option<String>,
    /// How far it is.
    #[schema(value_type = State)]
    pub state: String,
    /// The place in the log up to which it has folded: of the cell's, or, if it is one business's, of that one's.
    pub position: i64,
    /// The place up to which it has to.
    pub target: i64,
    /// Rows written, over all tables.
    pub rows: i64,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When this was last written down.
    pub updated_at: DateTime<Utc>,
    /// When it ended.
    #[schema(required)]
    pub finished_at: Option<DateTime<Utc>>,
    /// Why it came to nothing.
    #[schema(required)]
    pub error: Option<String>,
}

/// The rebuilds of a projection, the newest first.
///
/// # Errors
/// The database's.
pub async fn list(pool: &PgPool, projection: &str, limit: i64) -> sqlx::Result<Vec<Record>> {
    sqlx::query_as(
        "select * from projection_rebuilds where projection = $1 order by started_at desc, rebuild_id desc limit $2",
    )
    .bind(projection)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// One rebuild of a projection.
///
/// # Errors
/// The database's.
pub async fn read(pool: &PgPool, projection: &str, id: Uuid) -> sqlx::Result<Option<Record>> {
    sqlx::query_as("select * from projection_rebuilds where projection = $1 and rebuild_id = $2")
        .bind(projection)
        .bind(id)
        .fetch_optional(pool)
        .await
}

/// The last rebuild of each projection.
///
/// # Errors
/// The database's.
pub async fn latest(pool: &PgPool) -> sqlx::Result<Vec<Record>> {
    sqlx::query_as(
        "select distinct on (projection) * from projection_rebuilds
         order by projection, started_at desc, rebuild_id desc",
    )
    .fetch_all(pool)
    .await
}

pub(super) async fn begin(pool: &PgPool, record: &Record) -> sqlx::Result<()> {
    sqlx::query(
        "insert into projection_rebuilds
         (rebuild_id, projection, tenant_id, state, position, target, rows, started_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
    )
    .bind(record.rebuild_id)
    .bind(&record.projection)
    .bind(&record.tenant_id)
    .bind(&record.state)
    .bind(record.position)
    .bind(record.target)
    .bind(record.rows)
    .bind(record.started_at)
    .execute(pool)
    .await
    .map(drop)
}

/// What has ended stays as it ended, whatever its process believes.
pub(super) async fn update(db: impl PgExecutor<'_>, record: &Record) -> sqlx::Result<()> {
    sqlx::query(
        "update projection_rebuilds set state = $2, position = $3, target = $4, rows = $5, updated_at = $6,
             finished_at = $7, error = $8
         where rebuild_id = $1 and finished_at is null",
    )
    .bind(record.rebuild_id)
    .bind(&record.state)
    .bind(record.position)
    .bind(record.target)
    .bind(record.rows)
    .bind(record.updated_at)
    .bind(record.finished_at)
    .bind(&record.error)
    .execute(db)
    .await
    .map(drop)
}

/// Whoever holds the lock knows that no other rebuild of the projection lives.
pub(super) async fn abandon(pool: &PgPool, projection: &str, now: DateTime<Utc>) -> sqlx::Result<u64> {
    let abandoned = sqlx::query(
        "update projection_rebuilds set state = 'abandoned', finished_at = $2, updated_at = $2,
             error = 'the process that rebuilt it ended'
         where projection = $1 and finished_at is null",
    )
    .bind(projection)
    .bind(now)
    .execute(pool)
    .await?;
    Ok(abandoned.rows_affected())
}
