//! The log in order: what projections, audits and exports read.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::QueryAs;
use sqlx::types::Json;
use sqlx::{FromRow, PgExecutor, PgPool, Postgres, Row};

use super::envelope::Recorded;
use super::scope::TenantScope;
use super::stream::StreamId;
use crate::aggregates::ids::TenantId;

/// The columns that make a [`Recorded`], for statements on `events`.
pub const COLUMNS: &str = "aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, \
     tenant_id, position, tenant_position, event_id, occurred_at, recorded_at, hash";

impl<'r> FromRow<'r, PgRow> for Recorded {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        let Json(payload): Json<Value> = row.try_get("payload")?;
        let Json(metadata): Json<HashMap<String, String>> = row.try_get("metadata")?;
        Ok(Self { payload, hash: row.try_get("hash")?, ..surroundings(row, metadata)? })
    }
}

/// An event without its payload and hash.
fn surroundings(row: &PgRow, metadata: HashMap<String, String>) -> sqlx::Result<Recorded> {
    let tenant: &str = row.try_get("tenant_id")?;
    Ok(Recorded {
        tenant_id: tenant.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        aggregate_type: row.try_get("aggregate_type")?,
        aggregate_id: row.try_get("aggregate_id")?,
        sequence: row.try_get("sequence")?,
        position: row.try_get("position")?,
        tenant_position: row.try_get("tenant_position")?,
        event_id: row.try_get("event_id")?,
        event_type: row.try_get("event_type")?,
        event_version: row.try_get("event_version")?,
        payload: Value::Null,
        metadata,
        occurred_at: row.try_get("occurred_at")?,
        recorded_at: row.try_get("recorded_at")?,
        hash: Vec::new(),
    })
}

/// An event as projections read it, at half the cost: its payload as it is stored, to be read by its type, and of
/// what surrounds it no hash and only those entries of the metadata that projections use.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What surrounds it; the payload is null.
    pub recorded: Recorded,
    /// The payload as JSON.
    pub payload: String,
}

/// The entries of the metadata that an [`Entry`] has.
const ENTRY_METADATA: [&str; 2] = ["actor", "correlation_id"];

/// The same of the metadata as it was written, which is text to text.
pub(super) fn entry_metadata(written: &str) -> HashMap<String, String> {
    /// What is asked for; the rest is passed over.
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Asked {
        actor: Option<String>,
        correlation_id: Option<String>,
    }
    let Asked { actor, correlation_id } = serde_json::from_str(written).unwrap_or_default();
    let values = ENTRY_METADATA.into_iter().zip([actor, correlation_id]);
    values.filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

impl<'r> FromRow<'r, PgRow> for Entry {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        // Nothing is allocated where nobody asks for them.
        let mut metadata = HashMap::new();
        for key in ENTRY_METADATA {
            if let Some(value) = row.try_get::<Option<String>, _>(key)? {
                metadata.insert(key.to_owned(), value);
            }
        }
        let recorded = surroundings(row, metadata)?;
        Ok(Self { recorded, payload: row.try_get("payload")? })
    }
}

/// The columns of an [`Entry`], but for those of the metadata.
const BARE_ENTRY_COLUMNS: &str = "aggregate_type, aggregate_id, sequence, event_type, event_version, \
     payload::text as payload, tenant_id, position, tenant_position, event_id, occurred_at, recorded_at";
const METADATA_COLUMNS: &str = "metadata->>'actor' as actor, metadata->>'correlation_id' as correlation_id";
/// The same where nobody asks for them: what has no value is not read.
const NO_METADATA: &str = "null::text as actor, null::text as correlation_id";

/// Whose events are read again.
#[derive(Debug, Clone)]
pub enum Whose {
    /// Everybody's, in the cell's order.
    Everybody,
    /// One tenant's, in the order of its own history.
    Tenant(TenantId),
    /// Those of some aggregates, by their whole ids.
    Aggregates(Vec<String>),
    /// Those that stand at these positions of the cell's log.
    At(Vec<i64>),
    /// Those that stand at these places of their tenants' histories.
    Told(Vec<(TenantId, i64)>),
}

/// Which events are read again.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Of these types of aggregates; of all of them if there are none.
    pub aggregate_types: Vec<String>,
    /// Whose.
    pub whose: Whose,
    /// With those entries of the metadata that an [`Entry`] has; else with none, which is faster.
    pub metadata: bool,
}

impl Selection {
    /// The column that orders them, and which places are given in: the tenant's own history is read by its index.
    fn order(&self) -> &'static str {
        match self.whose {
            Whose::Tenant(_) => "tenant_position",
            Whose::Everybody | Whose::Aggregates(_) | Whose::At(_) | Whose::Told(_) => "position",
        }
    }

    /// The place of an entry in the order that this selection is read in.
    #[must_use]
    pub fn place(&self, recorded: &Recorded) -> i64 {
        match self.whose {
            Whose::Tenant(_) => recorded.tenant_position,
            Whose::Everybody | Whose::Aggregates(_) | Whose::At(_) | Whose::Told(_) => recorded.position,
        }
    }

    /// The place up to which this selection has to be read to have all that the cell's log has up to `position`.
    ///
    /// # Errors
    /// The database's.
    pub async fn end(&self, db: impl PgExecutor<'_>, position: i64) -> sqlx::Result<i64> {
        let Whose::Tenant(tenant) = self.whose else { return Ok(position) };
        sqlx::query_scalar(
            "select coalesce((select tenant_position from events where tenant_id = $1 and position <= $2
                              order by tenant_position desc limit 1), 0)",
        )
        .bind(tenant.to_string())
        .bind(position)
        .fetch_one(db)
        .await
    }

    /// The statement that reads it.
    #[must_use]
    pub fn statement(&self) -> String {
        let order = self.order();
        let metadata = if self.metadata { METADATA_COLUMNS } else { NO_METADATA };
        let whose = match self.whose {
            Whose::Everybody => "",
            Whose::Tenant(_) => "and tenant_id = $4",
            Whose::Aggregates(_) => "and aggregate_id = any($4)",
            Whose::At(_) => "and position = any($4)",
            Whose::Told(_) => "and (tenant_id, tenant_position) in (select * from unnest($4::text[], $5::bigint[]))",
        };
        // The types are not to choose the index: the order is.
        format!(
            "select {BARE_ENTRY_COLUMNS}, {metadata} from events
             where {order} > $1 and {order} <= $2 and (cardinality($3) = 0 or aggregate_type = any($3)) {whose}
             order by {order}"
        )
    }

    /// The entries between two places, the first excluded, in order, by [`statement`](Self::statement).
    pub fn entries<'q>(
        &'q self,
        statement: &'q str,
        after: i64,
        upto: i64,
    ) -> QueryAs<'q, Postgres, Entry, PgArguments> {
        let query = sqlx::query_as(statement).bind(after).bind(upto).bind(&self.aggregate_types);
        match &self.whose {
            Whose::Everybody => query,
            Whose::Tenant(tenant) => query.bind(tenant.to_string()),
            Whose::Aggregates(ids) => query.bind(ids),
            Whose::At(positions) => query.bind(positions),
            Whose::Told(places) => {
                let (tenants, places): (Vec<String>, Vec<i64>) =
                    places.iter().map(|(tenant, place)| (tenant.to_string(), *place)).unzip();
                query.bind(tenants).bind(places)
            }
        }
    }
}

/// What projections need of up to `limit` events after `position` and not after `last`, in the cell's order, but for
/// those of some tenants; nothing else is ever skipped.
///
/// # Errors
/// The database's, or an event that cannot be read.
pub async fn entries_between(
    db: impl PgExecutor<'_>,
    (position, last): (i64, i64),
    but_for: &[String],
    limit: i64,
) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as(&format!(
        "select {BARE_ENTRY_COLUMNS}, {METADATA_COLUMNS} from events
         where position > $1 and position <= $2 and tenant_id <> all($3) order by position limit $4"
    ))
    .bind(position)
    .bind(last)
    .bind(but_for)
    .bind(limit)
    .fetch_all(db)
    .await
}

/// The same of one tenant, after a position of its own history.
///
/// # Errors
/// The database's, or an event that cannot be read.
pub async fn entries_of(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    tenant_position: i64,
    limit: i64,
) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as(&format!(
        "select {BARE_ENTRY_COLUMNS}, {METADATA_COLUMNS} from events
         where tenant_id = $1 and tenant_position > $2 order by tenant_position limit $3"
    ))
    .bind(tenant.to_string())
    .bind(tenant_position)
    .bind(limit)
    .fetch_all(db)
    .await
}

/// The same of the events of one tenant at these positions of the cell's log, in order.
///
/// # Errors
/// The database's, or an event that cannot be read.
pub async fn entries_at(db: impl PgExecutor<'_>, tenant: TenantId, positions: &[i64]) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as(&format!(
        "select {BARE_ENTRY_COLUMNS}, {METADATA_COLUMNS} from events where tenant_id = $1 and position = any($2) order by position"
    ))
    .bind(tenant.to_string())
    .bind(positions)
    .fetch_all(db)
    .await
}

/// Up to `limit` events after `position`, in the cell's order. The order is dense: nothing is ever skipped.
///
/// # Errors
/// The database's, or an event that cannot be read.
pub async fn events_after(db: impl PgExecutor<'_>, position: i64, limit: i64) -> sqlx::Result<Vec<Recorded>> {
    sqlx::query_as(&format!("select {COLUMNS} from events where position > $1 order by position limit $2"))
        .bind(position)
        .bind(limit)
        .fetch_all(db)
        .await
}

/// Up to `limit` events of one tenant after a position of its own history, in its order.
///
/// # Errors
/// The database's, or an event that cannot be read.
pub async fn events_of(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    tenant_position: i64,
    limit: i64,
) -> sqlx::Result<Vec<Recorded>> {
    sqlx::query_as(&format!(
        "select {COLUMNS} from events where tenant_id = $1 and tenant_position > $2 order by tenant_position limit $3"
    ))
    .bind(tenant.to_string())
    .bind(tenant_position)
    .bind(limit)
    .fetch_all(db)
    .await
}

/// The position in a tenant's history of its last event up to `position` of the cell's log; 0 if there is none.
///
/// # Errors
/// The database's.
pub async fn tenant_position(pool: &PgPool, scope: TenantScope, position: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id)
         select coalesce(max(q.tenant_position), 0)
         from scope cross join lateral (
             select tenant_position from events where tenant_id = scope.tenant_id and position <= $2
             order by tenant_position desc limit 1
         ) q",
    )
    .bind(scope.tenant().to_string())
    .bind(position)
    .fetch_one(pool)
    .await
}

/// The version that a stream has, and the position of the event that made it so in the cell's log; none of a stream that
/// has not begun.
///
/// # Errors
/// The database's.
pub async fn stream_end(pool: &PgPool, stream: &StreamId) -> sqlx::Result<Option<(i64, i64)>> {
    sqlx::query_as(
        "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id)
         select q.sequence, q.position from scope cross join lateral (
             select sequence, position from events
             where tenant_id = scope.tenant_id and aggregate_type = $2 and aggregate_id = $3
             order by sequence desc limit 1
         ) q",
    )
    .bind(stream.tenant.to_string())
    .bind(stream.aggregate_type)
    .bind(stream.aggregate_id())
    .fetch_optional(pool)
    .await
}

/// The position in the cell's log of an event of a tenant's history; none if it has not happened.
///
/// # Errors
/// The database's.
pub async fn cell_position(pool: &PgPool, scope: TenantScope, tenant_position: i64) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar(
        "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id)
         select q.position from scope cross join lateral (
             select position from events where tenant_id = scope.tenant_id and tenant_position = $2 limit 1
         ) q",
    )
    .bind(scope.tenant().to_string())
    .bind(tenant_position)
    .fetch_optional(pool)
    .await
}
