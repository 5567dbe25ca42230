//! The log in order: what projections, audits and exports read.

use std::collections::HashMap;

use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgExecutor, Row};

use super::envelope::Recorded;

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

impl<'r> FromRow<'r, PgRow> for Entry {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        let mut metadata = HashMap::with_capacity(ENTRY_METADATA.len());
        for key in ENTRY_METADATA {
            if let Some(value) = row.try_get::<Option<String>, _>(key)? {
                metadata.insert(key.to_owned(), value);
            }
        }
        let recorded = surroundings(row, metadata)?;
        Ok(Self { recorded, payload: row.try_get("payload")? })
    }
}

/// What projections need of up to `limit` events after `position`, in the cell's order; nothing is ever skipped.
///
/// # Errors
/// The database's, or an event that cannot be read.
pub async fn entries_after(db: impl PgExecutor<'_>, position: i64, limit: i64) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as(
        "select aggregate_type, aggregate_id, sequence, event_type, event_version, payload::text as payload,
                metadata->>'actor' as actor, metadata->>'correlation_id' as correlation_id, tenant_id, position,
                tenant_position, event_id, occurred_at, recorded_at
         from events where position > $1 order by position limit $2",
    )
    .bind(position)
    .bind(limit)
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
