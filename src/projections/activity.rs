//! What happened, in order: a row an event, for whoever asks who did what. The payload stays in the log.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;

use super::fact::Told;
use super::model::{Batch, FoldError, Folded, Model};
use super::statement::{Columns, Statement};
use crate::event_store::Recorded;

/// The activity.
pub struct Activity;

#[async_trait]
impl Model for Activity {
    fn name(&self) -> &'static str {
        "activity"
    }

    fn is_beside(&self) -> bool {
        true
    }

    async fn fold(
        &mut self,
        _: &mut PgConnection,
        batch: Batch<'_>,
        statement: &mut Statement,
    ) -> Result<Folded, FoldError> {
        // What surrounds an event is enough: one that cannot be read has happened all the same.
        let mut rows: Vec<&Recorded> = batch.told.iter().filter_map(Told::recorded).collect();
        // All indexes begin with the tenant: who is written after each other meets the same pages.
        rows.sort_by_key(|row| row.tenant_id);
        let mut columns = Columns::default();
        let texts = |of: fn(&Recorded) -> &str| rows.iter().map(|row| of(row)).collect::<Vec<_>>();
        let times = |of: fn(&Recorded) -> DateTime<Utc>| rows.iter().map(|row| of(row)).collect::<Vec<_>>();
        columns.add(statement, "tenant_id", rows.iter().map(|row| row.tenant_id.to_string()).collect())?;
        columns.add(statement, "tenant_position", rows.iter().map(|row| row.tenant_position).collect())?;
        columns.add(statement, "position", rows.iter().map(|row| row.position).collect())?;
        columns.add(statement, "event_id", rows.iter().map(|row| row.event_id).collect())?;
        columns.add(statement, "event_type", texts(|row| &row.event_type))?;
        columns.add(statement, "aggregate_type", texts(|row| &row.aggregate_type))?;
        columns.add(statement, "subject", texts(Recorded::local_id))?;
        columns.add(statement, "actor", texts(Recorded::actor))?;
        columns.add(statement, "correlation_id", texts(|row| row.meta("correlation_id").unwrap_or_default()))?;
        columns.add(statement, "occurred_at", times(|row| row.occurred_at))?;
        columns.add(statement, "recorded_at", times(|row| row.recorded_at))?;
        let (names, values, rows) = (columns.names(), columns.values(), columns.rows());
        statement.part("new_activity", format_args!("insert into activity ({names}) select {values} from ok, {rows}"));
        Ok(Folded::default())
    }

    fn forget(&mut self) {}
}
