//! Every projection at a glance: how far it is, what was last done about it, and whether it is known to be wrong.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;

use super::record::{self, Record};
use crate::event_store::Cell;
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
    /// How many events it is behind.
    pub lag: i64,
    /// How many times a rebuild has taken over.
    pub generation: i64,
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

#[derive(FromRow)]
struct Checkpoint {
    projection: String,
    position: i64,
    generation: i64,
    updated_at: DateTime<Utc>,
}

/// Every projection, in the order in which the projector feeds them.
///
/// # Errors
/// The database's.
pub async fn overview(cell: &Cell) -> sqlx::Result<Vec<Overview>> {
    let pool: &PgPool = &cell.founder;
    let checkpoints: Vec<Checkpoint> =
        sqlx::query_as("select projection, position, generation, updated_at from projection_checkpoints")
            .fetch_all(pool)
            .await?;
    let mut checkpoints: HashMap<String, Checkpoint> =
        checkpoints.into_iter().map(|at| (at.projection.clone(), at)).collect();
    // After the checkpoints, so that none is ahead of it.
    let head: i64 =
        sqlx::query_scalar("select position from cell_head where cell = $1").bind(&*cell.name).fetch_one(pool).await?;
    let mut rebuilds: HashMap<String, Record> =
        record::latest(pool).await?.into_iter().map(|record| (record.projection.clone(), record)).collect();
    let mut verified: HashMap<String, DateTime<Utc>> = verify::latest(pool)
        .await?
        .into_iter()
        .filter_map(|record| Some((record.projection, record.finished_at?)))
        .collect();
    let standing: HashMap<String, i64> =
        verify::standing(pool).await?.into_iter().map(|standing| (standing.projection, standing.differences)).collect();
    let overview = replay::all().into_iter().map(|projection| {
        let checkpoint = checkpoints.remove(projection.name);
        let position = checkpoint.as_ref().map_or(0, |at| at.position);
        Overview {
            name: projection.name.to_owned(),
            position,
            head,
            lag: (head - position).max(0),
            generation: checkpoint.as_ref().map_or(0, |at| at.generation),
            updated_at: checkpoint.map(|at| at.updated_at),
            rebuild: rebuilds.remove(projection.name),
            verified_at: verified.remove(projection.name),
            differences: standing.get(projection.name).copied().unwrap_or(0),
        }
    });
    Ok(overview.collect())
}
