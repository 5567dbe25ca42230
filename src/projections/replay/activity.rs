//! The replay of the activity: a row an event, only ever added.

use async_trait::async_trait;

use super::{COPY_BYTES, Folding, MadeOf, ReplayError, Replayable, Table};
use crate::projections::copy::{CopiedRows, Output};
use crate::projections::fact::Told;

const TABLE: &str = "activity";
const COLUMNS: [&str; 11] = [
    "tenant_id",
    "tenant_position",
    "position",
    "event_id",
    "event_type",
    "aggregate_type",
    "subject",
    "actor",
    "correlation_id",
    "occurred_at",
    "recorded_at",
];

pub(super) fn replayable() -> Replayable {
    Replayable {
        name: TABLE,
        tables: &[Table { name: TABLE, key: &["tenant_id", "tenant_position"] }],
        fed_by: &[],
        searched: None,
        made_of: MadeOf::OneEvent,
        metadata: true,
        touched: |_| Vec::new(),
        begin: |settings| {
            Box::new(Activity { table: settings.table(TABLE), rows: CopiedRows::default(), written: 0, settled: false })
        },
    }
}

struct Activity {
    table: String,
    rows: CopiedRows,
    written: u64,
    settled: bool,
}

impl Activity {
    async fn write(&mut self, output: &mut Output) -> Result<(), ReplayError> {
        let rows = std::mem::take(&mut self.rows);
        self.written += rows.rows();
        Ok(output.copy(&self.table, &COLUMNS.join(", "), rows).await?)
    }
}

#[async_trait]
impl Folding for Activity {
    async fn fold(&mut self, told: &[Told], output: &mut Output) -> Result<(), ReplayError> {
        for recorded in told.iter().filter_map(Told::recorded) {
            let rows = &mut self.rows;
            rows.begin(COLUMNS.len());
            rows.field(recorded.tenant_id.to_string())?;
            rows.field(recorded.tenant_position)?;
            rows.field(recorded.position)?;
            rows.field(recorded.event_id)?;
            rows.field(recorded.event_type.as_str())?;
            rows.field(recorded.aggregate_type.as_str())?;
            rows.field(recorded.local_id())?;
            rows.field(recorded.actor())?;
            rows.field(recorded.meta("correlation_id").unwrap_or_default())?;
            rows.field(recorded.occurred_at)?;
            rows.field(recorded.recorded_at)?;
        }
        if self.settled || self.rows.bytes() >= COPY_BYTES {
            self.write(output).await?;
        }
        Ok(())
    }

    async fn settle(&mut self, output: &mut Output) -> Result<Option<String>, ReplayError> {
        self.settled = true;
        self.write(output).await?;
        Ok(None)
    }

    fn rows(&self) -> u64 {
        self.written + self.rows.rows()
    }
}
