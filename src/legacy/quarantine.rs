//! The rows that were kept aside: to look at, and to try again after a fix or with a mapping.

use serde::Serialize;
use serde_json::Value;
use sqlx::Row;

use super::staging::{Staging, Status};
use super::tables::Table;
use super::{ImportError, Options, Progress, Repair, Report, Run, alone, refuse_if_unfinished};
use crate::aggregates::ids::TenantId;
use crate::api::App;

/// A row that was kept aside.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = LegacyQuarantined, example = json!({"table": "invoices", "key": 7, "legacy_id": "INV-007",
    "reason": "amount_missing", "detail": "the invoice has no amount", "repairs": [{"rule": "status_spelling",
    "field": "status", "before": "Draft", "after": "draft"}],
    "row": {"id": 7, "system_id": "INV-007", "customer_id": "CUS-001", "amount": null, "status": "Draft"}}))]
pub struct Quarantined {
    /// Its table.
    pub table: String,
    /// Its primary key.
    pub key: i64,
    /// The id that it had.
    #[schema(required)]
    pub legacy_id: Option<String>,
    /// Why, for programs.
    pub reason: String,
    /// Why, for people; names the parent if it is the parent's fault.
    pub detail: String,
    /// What would have been repaired.
    pub repairs: Vec<Repair>,
    /// The whole row, without its secrets.
    #[schema(value_type = Object)]
    pub row: Value,
}

/// Which rows.
#[derive(Debug, Clone, Default)]
pub struct Which {
    /// Of one table.
    pub table: Option<Table>,
    /// One row of it.
    pub key: Option<i64>,
    /// For one reason.
    pub reason: Option<String>,
    /// After this row.
    pub after: Option<(String, i64)>,
    /// At most so many.
    pub limit: i64,
}

/// Rows in quarantine, by table and key.
///
/// # Errors
/// The database's, or a row that cannot be read back.
pub async fn list(
    db: impl sqlx::PgExecutor<'_>,
    tenant: TenantId,
    which: &Which,
) -> Result<Vec<Quarantined>, ImportError> {
    let rows = sqlx::query(
        "select r.source_table, r.pk, k.legacy_id, r.reason, r.detail, r.repairs, r.row from legacy_rows r
         left join legacy_keys k on k.tenant_id = r.tenant_id and k.source_table = r.source_table and k.pk = r.pk
         where r.tenant_id = $1 and r.heap = 'quarantined' and not r.vanished
           and ($2::text is null or r.source_table = $2) and ($3::bigint is null or r.pk = $3)
           and ($4::text is null or r.reason = $4)
           and ($5::text is null or (r.source_table, r.pk) > ($5, $6::bigint))
         order by r.source_table, r.pk limit $7",
    )
    .bind(tenant.to_string())
    .bind(which.table.map(Table::name))
    .bind(which.key)
    .bind(&which.reason)
    .bind(which.after.as_ref().map(|(table, _)| table.as_str()))
    .bind(which.after.as_ref().map(|(_, key)| *key))
    .bind(which.limit)
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let (repairs, json): (&str, &str) = (row.try_get("repairs")?, row.try_get("row")?);
            Ok(Quarantined {
                table: row.try_get("source_table")?,
                key: row.try_get("pk")?,
                legacy_id: row.try_get("legacy_id")?,
                reason: row.try_get::<Option<String>, _>("reason")?.unwrap_or_default(),
                detail: row.try_get::<Option<String>, _>("detail")?.unwrap_or_default(),
                repairs: serde_json::from_str(repairs).map_err(ImportError::Encode)?,
                row: serde_json::from_str(json).map_err(ImportError::Encode)?,
            })
        })
        .collect()
}

/// What a run that tries again says it reads from.
const SOURCE: &str = "quarantine";

/// Tries rows in quarantine again, as they were last read; `options.mappings` say what is to be read differently, now
/// and in every later run. One that was interrupted is finished first.
///
/// # Errors
/// [`ImportError`]; what was appended stays.
pub async fn retry(app: &App, options: &Options, which: &Which, progress: &Progress) -> Result<Report, ImportError> {
    alone(app, options, progress, async |staging| retry_locked(app, staging, options, which, progress).await).await
}

async fn retry_locked(
    app: &App,
    staging: Staging,
    options: &Options,
    which: &Which,
    progress: &Progress,
) -> Result<Report, ImportError> {
    if options.dry_run {
        refuse_if_unfinished(&staging).await?;
    }
    let last: Option<(String, Value)> = sqlx::query_as(
        "select revision, report from legacy_imports
         where tenant_id = $1 and status = 'done' and not dry_run and report is not null
         order by started_at desc limit 1",
    )
    .bind(staging.tenant())
    .fetch_optional(&staging.pool)
    .await?;
    let Some((revision, report)) = last else {
        return Err(ImportError::Other(format!("nothing was imported into {} yet", options.tenant)));
    };
    let last: Report = serde_json::from_value(report).map_err(ImportError::Encode)?;
    let resumed = if options.dry_run { 0 } else { resume(app, &staging, options, &last, progress).await? };
    let run = Run::begin(app, staging, options, SOURCE, revision, progress).await?;
    run.or_give_up(run.again(options, which, &last, resumed).await).await
}

/// Finishes a retry that was interrupted; an import that was needs the old database. Returns the number of events that
/// were still to be appended.
async fn resume(
    app: &App,
    staging: &Staging,
    options: &Options,
    last: &Report,
    progress: &Progress,
) -> Result<i64, ImportError> {
    let Some(left) = staging.interrupted().await? else { return Ok(0) };
    let (appending, retry) = (left.status == Status::Appending, left.source == SOURCE);
    if appending && !retry {
        return Err(ImportError::Other(
            "an import was interrupted while it appended; finish it first with `devhub legacy import`".into(),
        ));
    }
    let run = Run::taken_up(app, staging, options.tenant, left, progress);
    if !appending {
        run.give_up().await;
        return Ok(0);
    }
    let before = run.appended().await?;
    run.append(run.follows(last, false), None, 0).await?;
    Ok(run.appended().await? - before)
}

impl Run<'_> {
    /// A report that says what only the old database knows as the one before did.
    fn follows(&self, last: &Report, dry_run: bool) -> Report {
        let mut report = Report::begin(&self.facts(&last.source, dry_run));
        report.founder.clone_from(&last.founder);
        // Only the old database knows who proves themselves with what.
        report.needs_reset.clone_from(&last.needs_reset);
        report
    }

    async fn again(
        &self,
        options: &Options,
        which: &Which,
        last: &Report,
        resumed: i64,
    ) -> Result<Report, ImportError> {
        let maps = self.staging.maps(&options.mappings).await?;
        self.staging.stage_quarantined(which.table, which.key).await?;
        let founder: Option<i64> = sqlx::query_scalar(
            "select pk from legacy_keys where tenant_id = $1 and source_table = 'users' and local_id = 'USR-000'",
        )
        .bind(self.staging.tenant())
        .fetch_optional(&self.staging.pool)
        .await?;
        // What has no time of its own was there when the old database was last looked at.
        let idle = self.stage_mapped(options).await?;
        self.plan(maps, founder, last.started_at, options.dry_run).await?;
        let mut report = self.follows(last, options.dry_run);
        report.idle_mappings = idle;
        self.carry_out(report, None, options, resumed).await
    }
}
