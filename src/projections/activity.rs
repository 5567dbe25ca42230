//! What happened, in order: a row an event, for whoever asks who did what. The payload stays in the log.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::fact::Fact;
use super::model::{FoldError, Model, Part};
use crate::event_store::TenantScope;

/// The activity.
pub struct Activity;

#[derive(Serialize)]
struct ActivityRow<'a> {
    tenant_id: String,
    tenant_position: i64,
    position: i64,
    event_id: Uuid,
    event_type: &'a str,
    aggregate_type: &'a str,
    subject: &'a str,
    actor: &'a str,
    correlation_id: &'a str,
    occurred_at: DateTime<Utc>,
    recorded_at: DateTime<Utc>,
}

const INSERT: &str = "insert into activity (tenant_id, tenant_position, position, event_id, event_type, \
     aggregate_type, subject, actor, correlation_id, occurred_at, recorded_at)
     select r.tenant_id, r.tenant_position, r.position, r.event_id, r.event_type, r.aggregate_type, r.subject, r.actor,
            r.correlation_id, r.occurred_at, r.recorded_at
     from ok, json_populate_recordset(null::activity, {}) r";

#[async_trait]
impl Model for Activity {
    fn name(&self) -> &'static str {
        "activity"
    }

    async fn fold(&mut self, _: &mut PgConnection, facts: &[Fact]) -> Result<Vec<Part>, FoldError> {
        let mut rows: Vec<ActivityRow<'_>> = Vec::with_capacity(facts.len());
        for Fact { recorded, .. } in facts {
            // One event can mean several facts; it happened once.
            if rows.last().is_some_and(|last| last.position == recorded.position) {
                continue;
            }
            rows.push(ActivityRow {
                tenant_id: recorded.tenant_id.to_string(),
                tenant_position: recorded.tenant_position,
                position: recorded.position,
                event_id: recorded.event_id,
                event_type: &recorded.event_type,
                aggregate_type: &recorded.aggregate_type,
                subject: recorded.local_id(),
                actor: recorded.actor(),
                correlation_id: recorded.meta("correlation_id").unwrap_or_default(),
                occurred_at: recorded.occurred_at,
                recorded_at: recorded.recorded_at,
            });
        }
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Part { name: "activity_rows".into(), sql: INSERT.into(), json: serde_json::to_string(&rows)? }])
    }

    fn forget(&mut self) {}
}

/// The position in the tenant's history up to which everything can be read; 0 if nothing has happened yet.
///
/// # Errors
/// The database's.
pub async fn position(pool: &PgPool, scope: TenantScope) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id)
         select coalesce(max(q.tenant_position), 0)
         from scope cross join lateral (
             select tenant_position from activity where tenant_id = scope.tenant_id
             order by tenant_position desc limit 1
         ) q",
    )
    .bind(scope.tenant().to_string())
    .fetch_one(pool)
    .await
}

/// Whether everything up to `position` of the tenant's history can be read.
///
/// # Errors
/// The database's.
pub async fn reached(pool: &PgPool, scope: TenantScope, wanted: i64) -> sqlx::Result<bool> {
    Ok(position(pool, scope).await? >= wanted)
}
