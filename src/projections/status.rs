//! How each registered projection is, for whoever looks after them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;

/// How a projection is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct ProjectionStatus {
    /// Its name.
    pub name: String,
    /// The position up to which it has taken everything, but for tenants that are read in lanes of their own.
    pub position: i64,
    /// The end of the log.
    pub head: i64,
    /// How many events of the log it has still to come by, lanes included; an upper bound while there are lanes.
    pub lag: i64,
    /// How often its tables were changed by somebody but the projector's ordinary work.
    pub generation: i64,
    /// Why it does not move, if it does not.
    pub stopped: Option<String>,
    /// When it was last written.
    pub updated_at: Option<DateTime<Utc>>,
    /// Since when it does not move.
    pub stopped_at: Option<DateTime<Utc>>,
    /// How many entities are set aside.
    pub parked: i64,
    /// How many tenants are read in lanes of their own.
    pub lanes: i64,
}

/// An entity that is set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow, ToSchema)]
#[schema(as = ParkedRecord, example = json!({"projection": "leads", "tenant_id": "TNT-001", "id": "LED-007",
    "position": 1200, "event_type": "LeadStageChanged", "reason": "it changes something that is not there", "events": 3,
    "parked_at": "2026-01-31T09:00:00Z"}))]
pub struct ParkedEntity {
    /// By which projection.
    pub projection: String,
    /// Whose it is.
    pub tenant_id: String,
    /// Which.
    pub id: String,
    /// The event that was refused.
    pub position: i64,
    /// Its type.
    pub event_type: String,
    /// Why.
    pub reason: String,
    /// How many events wait, that one included.
    pub events: i64,
    /// Since when, or when it was refused again.
    pub parked_at: DateTime<Utc>,
}

/// How each of these projections of a cell is, in this order. One that never ran is at 0. `pool` is the founder's or
/// the projector's.
///
/// # Errors
/// The database's.
pub async fn status(pool: &PgPool, cell: &str, projections: &[&str]) -> sqlx::Result<Vec<ProjectionStatus>> {
    sqlx::query_as(
        "select n.name, coalesce(c.position, 0) as position, h.position as head,
                greatest(h.position - coalesce(least(c.position, l.position), 0), 0) as lag,
                coalesce(c.generation, 0) as generation, c.stopped_reason as stopped, c.stopped_at, c.updated_at,
                (select count(*) from parked_entities p where p.projection = n.name) as parked, l.lanes
         from unnest($1::text[]) with ordinality as n (name, place)
         cross join (select position from cell_head where cell = $2) h
         left join projection_checkpoints c on c.projection = n.name
         cross join lateral (
             select count(*) as lanes, min(l.position) as position from projection_lanes l where l.projection = n.name
         ) l
         order by n.place",
    )
    .bind(projections)
    .bind(cell)
    .fetch_all(pool)
    .await
}

/// What a projection has set aside, the longest first; at most `limit`.
///
/// # Errors
/// The database's.
pub async fn parked(pool: &PgPool, projection: &str, limit: i64) -> sqlx::Result<Vec<ParkedEntity>> {
    sqlx::query_as(
        "select p.projection, p.tenant_id, p.id, p.position, p.event_type, p.reason, p.parked_at,
                (select count(*) from parked_events e
                 where e.projection = p.projection and e.tenant_id = p.tenant_id and e.id = p.id) as events
         from parked_entities p where p.projection = $1 order by p.position, p.tenant_id, p.id limit $2",
    )
    .bind(projection)
    .bind(limit)
    .fetch_all(pool)
    .await
}
