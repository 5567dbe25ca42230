//! Every projection at a glance: how far it is, what was last done about it, and whether it is known to be wrong.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;

use super::record::{self, Record};
use crate::event_store::Cell;
use crate::projections::status::{self, ParkedEntity};
use crate::projections::{replay, verify};

/// A projection.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Projection)]
pub struct Overview {
    /// Its name.
    pub name: String,
    /// The position of the log up to which its read model is written.
    pub position: i64,
    /// The position of the last event of the log.
    pub head: i64,
    /// How many events it has still to come by; those of tenants who are read in lanes of their own included.
    pub lag: i64,
    /// How often its tables were changed by somebody but the projector's ordinary work.
    pub generation: i64,
    /// Why it does not move; null if it does.
    #[schema(required)]
    pub stopped: Option<String>,
    /// How many records are set aside.
    pub parked: i64,
    /// How many tenants are read in lanes of their own.
    pub lanes: i64,
    /// When it was last written.
    #[schema(required)]
    pub updated_at: Option<DateTime<Utc>>,
    /// The last rebuild, which may be under way.
    #[schema(required)]
    pub rebuild: Option<Record>,
    /// When it was last compared with the log.
    #[schema(required)]
    pub verified_at: Option<DateTime<Utc>>,
    /// Rows that were found to differ from the log, as long as nothing has put that right.
    pub differences: i64,
}

/// A projection, with what it has set aside.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = ProjectionDetail)]
pub struct Detail {
    /// The projection.
    #[serde(flatten)]
    pub overview: Overview,
    /// The records that are set aside, those first that have been for longest; a hundred at most.
    pub parked_records: Vec<ParkedEntity>,
}

/// The most that is told of what a projection has set aside.
const TOLD: i64 = 100;

/// One projection; none if there is none of this name.
///
/// # Errors
/// The database's.
pub async fn detail(cell: &Cell, name: &str) -> sqlx::Result<Option<Detail>> {
    let Some(overview) = overview(cell).await?.into_iter().find(|projection| projection.name == name) else {
        return Ok(None);
    };
    Ok(Some(Detail { overview, parked_records: status::parked(&cell.founder, name, TOLD).await? }))
}

/// Every projection, in the order in which the projector feeds them.
///
/// # Errors
/// The database's.
pub async fn overview(cell: &Cell) -> sqlx::Result<Vec<Overview>> {
    let pool: &PgPool = &cell.founder;
    let names: Vec<&str> = replay::all().iter().map(|projection| projection.name).collect();
    let status = status::status(pool, &cell.name, &names).await?;
    let mut rebuilds: HashMap<String, Record> =
        record::latest(pool).await?.into_iter().map(|record| (record.projection.clone(), record)).collect();
    let mut verified: HashMap<String, DateTime<Utc>> = verify::latest(pool)
        .await?
        .into_iter()
        .filter_map(|record| Some((record.projection, record.finished_at?)))
        .collect();
    let standing: HashMap<String, i64> =
        verify::standing(pool).await?.into_iter().map(|standing| (standing.projection, standing.differences)).collect();
    let overview = status.into_iter().map(|status| Overview {
        rebuild: rebuilds.remove(&status.name),
        verified_at: verified.remove(&status.name),
        differences: standing.get(&status.name).copied().unwrap_or(0),
        name: status.name,
        position: status.position,
        head: status.head,
        lag: status.lag,
        generation: status.generation,
        stopped: status.stopped,
        parked: status.parked,
        lanes: status.lanes,
        updated_at: status.updated_at,
    });
    Ok(overview.collect())
}
