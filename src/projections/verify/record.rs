//! What is remembered of verifications: what each found, and what of that still stands.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::Serialize;
use sqlx::types::Json;
use sqlx::{FromRow, PgExecutor, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Difference;

/// How far a verification is.
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
#[schema(as = ProjectionVerificationState, rename_all = "snake_case")]
pub enum State {
    /// It replays and compares.
    Running,
    /// It has compared everything it was to.
    Done,
    /// It could not.
    Failed,
}

/// A verification.
#[derive(Debug, Clone, Serialize, FromRow, ToSchema)]
#[schema(as = ProjectionVerification, example = json!({"verification_id": "01928d3e-7a10-7c3e-9f5b-0a6f5e8a1c11",
    "projection": "leads", "tenant_id": null, "sample": null, "night": null, "state": "done", "position": 480_000,
    "rows": 150_000, "differences": 1,
    "found": [{"table": "leads", "tenant_id": "TNT-001", "id": "LED-007", "position": 1200, "kind": "differs",
               "columns": [{"column": "stage", "live": "proposal", "replayed": "contacted"}]}],
    "started_at": "2026-01-31T09:00:00Z", "finished_at": "2026-01-31T09:00:01Z", "error": null}))]
pub struct Record {
    /// The verification's id.
    pub verification_id: Uuid,
    /// What was verified.
    pub projection: String,
    /// Of this business only; null: of all.
    #[schema(required)]
    pub tenant_id: Option<String>,
    /// About so many entities only, picked at random; null: all.
    #[schema(required)]
    pub sample: Option<i64>,
    /// The night whose verification it is; null: somebody asked for it.
    #[schema(required)]
    pub night: Option<NaiveDate>,
    /// How far it is.
    #[schema(value_type = State)]
    pub state: String,
    /// The position of the cell's log for which rows and log were compared.
    pub position: i64,
    /// Rows that were compared, over all tables.
    pub rows: i64,
    /// How many of them are not as the log says.
    pub differences: i64,
    /// The first of them.
    #[schema(value_type = Vec<Difference>)]
    pub found: Json<Vec<Difference>>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    #[schema(required)]
    pub finished_at: Option<DateTime<Utc>>,
    /// Why it could not be said.
    #[schema(required)]
    pub error: Option<String>,
}

/// A difference that was found and that nothing has put right since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow, ToSchema)]
#[schema(as = ProjectionStanding, example = json!({"projection": "leads", "differences": 1,
    "verified_at": "2026-01-31T02:30:00Z"}))]
pub struct Standing {
    /// The projection that differs from the log.
    pub projection: String,
    /// In how many rows.
    pub differences: i64,
    /// When that was found.
    pub verified_at: DateTime<Utc>,
}

/// The verifications of a projection, the newest first.
///
/// # Errors
/// The database's.
pub async fn list(pool: &PgPool, projection: &str, limit: i64) -> sqlx::Result<Vec<Record>> {
    sqlx::query_as(
        "select * from projection_verifications where projection = $1
         order by started_at desc, verification_id desc limit $2",
    )
    .bind(projection)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// One verification of a projection.
///
/// # Errors
/// The database's.
pub async fn read(pool: &PgPool, projection: &str, id: Uuid) -> sqlx::Result<Option<Record>> {
    sqlx::query_as("select * from projection_verifications where projection = $1 and verification_id = $2")
        .bind(projection)
        .bind(id)
        .fetch_optional(pool)
        .await
}

/// The last verification of each projection that was done.
///
/// # Errors
/// The database's.
pub async fn latest(pool: &PgPool) -> sqlx::Result<Vec<Record>> {
    sqlx::query_as(
        "select distinct on (projection) * from projection_verifications where state = 'done'
         order by projection, started_at desc, verification_id desc",
    )
    .fetch_all(pool)
    .await
}

/// The differences that stand: no rebuild of at least that much has put them right since, and no verification of at
/// least that much has found the rows to be as the log says. A sample takes nothing back.
///
/// # Errors
/// The database's.
pub async fn standing(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Standing>> {
    sqlx::query_as(
        "select distinct on (v.projection) v.projection, v.differences, v.finished_at as verified_at
         from projection_verifications v
         where v.state = 'done' and v.differences > 0
           and not exists (
               select from projection_rebuilds r
               where r.projection = v.projection and r.state = 'done' and r.finished_at >= v.started_at
                 and (r.tenant_id is null or r.tenant_id = v.tenant_id))
           and not exists (
               select from projection_verifications later
               where later.projection = v.projection and later.state = 'done' and later.differences = 0
                 and later.sample is null and later.verification_id > v.verification_id
                 and (later.tenant_id is null or later.tenant_id = v.tenant_id))
         order by v.projection, v.started_at desc",
    )
    .fetch_all(db)
    .await
}

/// Days for which it is remembered what a verification found: its rows may hold personal data.
const REMEMBERED: TimeDelta = TimeDelta::days(30);
/// A verification that has run for longer has lost its process.
const LONGEST: TimeDelta = TimeDelta::days(1);

/// Forgets old verifications, unless their differences stand, and ends those whose process has ended.
///
/// # Errors
/// The database's.
pub async fn tidy(pool: &PgPool, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query(
        "update projection_verifications set state = 'failed', finished_at = $1, error = 'its process ended'
         where state = 'running' and started_at < $2",
    )
    .bind(now)
    .bind(now - LONGEST)
    .execute(pool)
    .await?;
    let standing: Vec<String> = standing(pool).await?.into_iter().map(|standing| standing.projection).collect();
    sqlx::query("delete from projection_verifications where started_at < $1 and projection <> all($2)")
        .bind(now - REMEMBERED)
        .bind(standing)
        .execute(pool)
        .await
        .map(drop)
}

/// Writes down a verification that begins. False: another process has taken that night's.
pub(super) async fn begin(pool: &PgPool, record: &Record) -> sqlx::Result<bool> {
    let begun = sqlx::query(
        "insert into projection_verifications
         (verification_id, projection, tenant_id, sample, night, state, position, rows, differences, found, started_at)
         values ($1, $2, $3, $4, $5, $6, 0, 0, 0, '[]', $7) on conflict (projection, night) do nothing",
    )
    .bind(record.verification_id)
    .bind(&record.projection)
    .bind(&record.tenant_id)
    .bind(record.sample)
    .bind(record.night)
    .bind(&record.state)
    .bind(record.started_at)
    .execute(pool)
    .await?;
    Ok(begun.rows_affected() == 1)
}

pub(super) async fn update(pool: &PgPool, record: &Record) -> sqlx::Result<()> {
    sqlx::query(
        "update projection_verifications set state = $2, position = $3, rows = $4, differences = $5, found = $6,
             finished_at = $7, error = $8
         where verification_id = $1",
    )
    .bind(record.verification_id)
    .bind(&record.state)
    .bind(record.position)
    .bind(record.rows)
    .bind(record.differences)
    .bind(&record.found)
    .bind(record.finished_at)
    .bind(&record.error)
    .execute(pool)
    .await
    .map(drop)
}

/// Shows what a verification found in the metrics of this process.
pub(super) fn measure(record: &Record) {
    let label = [("projection", record.projection.clone())];
    metrics::gauge!("projection_verify_differences", &label).set(record.differences as f64);
    metrics::gauge!("projection_verify_rows", &label).set(record.rows as f64);
    if let Some(at) = record.finished_at {
        metrics::gauge!("projection_verified_at", &label).set(at.timestamp() as f64);
    }
}
