//! What happened, one row an event: who did what to what, and when. Fed by every event.
//!
//! Append-only: a row is never changed. The payload stays in the log.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::fact::Fact;
use super::model::{FoldError, Model, Part};
use crate::event_store::Recorded;

/// An event, without what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct ActivityRow {
    /// Whose.
    pub tenant_id: String,
    /// Its place in the tenant's history.
    pub tenant_position: i64,
    /// Its place in the cell's log.
    pub position: i64,
    /// Its own id.
    pub event_id: Uuid,
    /// `LeadStageChanged`.
    pub event_type: String,
    /// `Lead`.
    pub aggregate_type: String,
    /// To what it happened: `LED-007`, or the tenant's own id.
    pub subject: String,
    /// Who did it, whole: `TNT-001:USR-003`, or `system`.
    pub actor: String,
    /// What belongs together.
    pub correlation_id: String,
    /// When it happened in the business.
    pub occurred_at: DateTime<Utc>,
    /// When the store took it.
    pub recorded_at: DateTime<Utc>,
}

impl From<&Recorded> for ActivityRow {
    fn from(recorded: &Recorded) -> Self {
        Self {
            tenant_id: recorded.tenant_id.to_string(),
            tenant_position: recorded.tenant_position,
            position: recorded.position,
            event_id: recorded.event_id,
            event_type: recorded.event_type.clone(),
            aggregate_type: recorded.aggregate_type.clone(),
            subject: recorded.local_id().to_owned(),
            actor: recorded.actor().to_owned(),
            // An event that says of nothing that it belongs with it, belongs with itself.
            correlation_id: recorded
                .meta("correlation_id")
                .map_or_else(|| recorded.event_id.to_string(), ToOwned::to_owned),
            occurred_at: recorded.occurred_at,
            recorded_at: recorded.recorded_at,
        }
    }
}

/// The activity.
pub struct Activity;

impl Activity {
    /// Its name, for checkpoints and people.
    pub const NAME: &'static str = "activity";
}

#[async_trait]
impl Model for Activity {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    async fn fold(&mut self, _: &mut PgConnection, facts: &[Fact]) -> Result<Vec<Part>, FoldError> {
        let mut rows: Vec<ActivityRow> = facts.iter().map(|fact| ActivityRow::from(&fact.recorded)).collect();
        // One stored event may mean several things today.
        rows.dedup_by_key(|row| row.position);
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Part {
            name: "activity_added".to_owned(),
            sql: "insert into activity select r.* from ok, json_populate_recordset(null::activity, {}) r".to_owned(),
            json: serde_json::to_string(&rows)?,
        }])
    }

    fn forget(&mut self) {}
}
