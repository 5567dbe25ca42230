//! What came of a run: per table what was read and where it was put, who needs a new password, what to do next.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::accounts::{self, Hashes, NeedsReset};
use super::reading::ReadRows;
use super::source::Shape;
use super::{ImportError, Run};
use crate::aggregates::ids::TenantId;

/// What came of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = LegacyTableReport)]
pub struct TableReport {
    /// Rows read.
    pub read: i64,
    /// Rows replayed as they were.
    pub replayed: i64,
    /// Rows replayed with a named repair.
    pub repaired: i64,
    /// Rows kept aside.
    pub quarantined: i64,
    /// Events that this run appended for them, or would have appended.
    pub events: i64,
    /// Repairs by rule.
    pub repairs: BTreeMap<String, i64>,
    /// Rows kept aside by reason.
    pub reasons: BTreeMap<String, i64>,
}

/// What came of a run.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = LegacyReport, example = json!({"import_id": "01928d3e-7a10-7c3e-9f5b-0a6f5e8a1c11", "tenant": "DEV-000",
    "revision": "fef60ef31522", "source": {"revision": "fef60ef31522", "missing_tables": [], "missing_columns": [],
    "added_columns": [], "other_tables": [], "rows": {"invoices": 2}}, "dry_run": false,
    "started_at": "2026-01-31T09:00:00Z", "milliseconds": 840, "events": 4, "new_rows": 2, "changed_rows": 0,
    "vanished_rows": 0, "founder": "The old founder is USR-000 of TNT-PLT.",
    "tables": {"invoices": {"read": 2, "replayed": 1, "repaired": 0, "quarantined": 1, "events": 4, "repairs": {},
    "reasons": {"amount_missing": 1}}}, "needs_reset": [{"id": "USR-003", "email": "ada@devhub.example",
    "reasons": ["placeholder_password"]}], "next": ["Check it row by row with `devhub legacy verify --from …`."]}))]
pub struct Report {
    /// The run.
    pub import_id: Uuid,
    /// Whose history it became.
    pub tenant: String,
    /// The old database's revision.
    pub revision: String,
    /// What else was found out about the old database.
    pub source: Shape,
    /// Whether nothing was appended.
    pub dry_run: bool,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took, in milliseconds.
    pub milliseconds: i64,
    /// How long each part of it took, in milliseconds, in their order.
    #[serde(default)]
    pub parts: Vec<(String, i64)>,
    /// Events appended, or that would have been.
    pub events: i64,
    /// Rows that are new, that have changed, and that are gone since the run before.
    pub new_rows: u64,
    #[allow(missing_docs)]
    pub changed_rows: u64,
    #[allow(missing_docs)]
    pub vanished_rows: u64,
    /// What became of the founder.
    pub founder: String,
    /// What came of each table.
    pub tables: BTreeMap<String, TableReport>,
    /// Who cannot sign in with the old password, or should not.
    pub needs_reset: Vec<NeedsReset>,
    /// What to do next, a sentence each.
    pub next: Vec<String>,
    /// Replacements that were asked for and that no row was touched by.
    #[serde(skip)]
    pub(super) idle_mappings: Vec<String>,
}

/// What is known of a run before it has done anything.
pub(super) struct Facts {
    pub import_id: Uuid,
    pub tenant: TenantId,
    pub shape: Shape,
    pub dry_run: bool,
    pub started_at: DateTime<Utc>,
}

impl Report {
    pub(super) fn begin(facts: &Facts) -> Self {
        Self {
            import_id: facts.import_id,
            tenant: facts.tenant.to_string(),
            revision: facts.shape.revision.clone(),
            source: facts.shape.clone(),
            dry_run: facts.dry_run,
            started_at: facts.started_at,
            milliseconds: 0,
            parts: Vec::new(),
            events: 0,
            new_rows: 0,
            changed_rows: 0,
            vanished_rows: 0,
            founder: String::new(),
            tables: BTreeMap::new(),
            needs_reset: Vec::new(),
            next: Vec::new(),
            idle_mappings: Vec::new(),
        }
    }

    pub(super) fn read(&mut self, read: &ReadRows) {
        (self.new_rows, self.changed_rows, self.vanished_rows) = (read.new, read.changed, read.vanished);
        if read.founder.is_none() {
            self.founder = "The old database names no founder.".to_owned();
        }
    }

    /// Counts what is in the tables of the run.
    pub(super) async fn finish(
        &mut self,
        run: &Run<'_>,
        hashes: Option<&Hashes>,
        resumed: i64,
    ) -> Result<(), ImportError> {
        let planned: i64 = sqlx::query_scalar("select count(*) from legacy_plan where tenant_id = $1")
            .bind(run.staging.tenant())
            .fetch_one(&run.staging.pool)
            .await?;
        self.events = planned + resumed;
        self.heaps(run).await?;
        self.events(run).await?;
        self.rules(run).await?;
        if self.founder.is_empty() {
            self.founder = founder(run).await?;
        }
        if let Some(hashes) = hashes {
            self.needs_reset = accounts::needing_reset(run, hashes).await?;
        }
        Ok(())
    }

    /// Says what to do next, once the read models have taken everything, and how long it took.
    pub(super) async fn advise(&mut self, run: &Run<'_>) -> Result<(), ImportError> {
        self.next = self.advice(run).await?;
        self.parts = run.progress.parts();
        self.milliseconds = (run.app.clock.now() - self.started_at).num_milliseconds();
        Ok(())
    }

    async fn heaps(&mut self, run: &Run<'_>) -> Result<(), ImportError> {
        let rows: Vec<(String, String, i64)> = sqlx::query_as(&format!(
            "select source_table, heap, count(*) from ({STANDING}) s group by source_table, heap"
        ))
        .bind(run.staging.tenant())
        .fetch_all(&run.staging.pool)
        .await?;
        for table in self.source.rows.keys() {
            self.tables.entry(table.clone()).or_default();
        }
        for (table, heap, rows) in rows {
            let table = self.tables.entry(table).or_default();
            table.read += rows;
            match heap.as_str() {
                "replayed" => table.replayed += rows,
                "repaired" => table.repaired += rows,
                _ => table.quarantined += rows,
            }
        }
        Ok(())
    }

    async fn events(&mut self, run: &Run<'_>) -> Result<(), ImportError> {
        let planned: Vec<(String, i64)> =
            sqlx::query_as("select source_table, count(*) from legacy_plan where tenant_id = $1 group by source_table")
                .bind(run.staging.tenant())
                .fetch_all(&run.staging.pool)
                .await?;
        for (table, events) in planned {
            self.tables.entry(table).or_default().events = events;
        }
        Ok(())
    }

    async fn rules(&mut self, run: &Run<'_>) -> Result<(), ImportError> {
        let rules: Vec<(String, String, i64)> = sqlx::query_as(&format!(
            "select s.source_table, r ->> 'rule', count(*) from ({STANDING}) s,
                    json_array_elements(s.repairs::json) r
             where s.heap = 'repaired' group by 1, 2"
        ))
        .bind(run.staging.tenant())
        .fetch_all(&run.staging.pool)
        .await?;
        for (table, rule, rows) in rules {
            self.tables.entry(table).or_default().repairs.insert(rule, rows);
        }
        let reasons: Vec<(String, Option<String>, i64)> = sqlx::query_as(&format!(
            "select source_table, reason, count(*) from ({STANDING}) s where heap = 'quarantined' group by 1, 2"
        ))
        .bind(run.staging.tenant())
        .fetch_all(&run.staging.pool)
        .await?;
        for (table, reason, rows) in reasons {
            self.tables.entry(table).or_default().reasons.insert(reason.unwrap_or_default(), rows);
        }
        Ok(())
    }

    async fn advice(&self, run: &Run<'_>) -> Result<Vec<String>, ImportError> {
        let mut next = Vec::new();
        if self.dry_run {
            next.push("Nothing was appended. Run it again without --dry-run to import.".to_owned());
        }
        let aside: i64 = self.tables.values().map(|table| table.quarantined).sum();
        if aside > 0 {
            next.push(format!(
                "{aside} rows are in quarantine: see `devhub legacy quarantine list`, mend them in the old database or \
                 with --map, and import again or `devhub legacy quarantine retry`."
            ));
        }
        let stay: i64 = sqlx::query_scalar(
            "select count(*) from (
                 select source_table, pk from legacy_outcomes where tenant_id = $1 and reason = 'deletion_refused'
                 union
                 select source_table, pk from legacy_rows
                 where tenant_id = $1 and reason = 'deletion_refused' and not vanished) gone",
        )
        .bind(&self.tenant)
        .fetch_one(&run.staging.pool)
        .await?;
        if stay > 0 {
            next.push(format!(
                "{stay} rows are gone from the old database, and a rule keeps what they became: see `devhub legacy \
                 quarantine list --reason deletion_refused`. Every import tries again."
            ));
        }
        for mapping in &self.idle_mappings {
            next.push(format!(
                "--map '{mapping}' touched no row: see how the value is written with `devhub legacy quarantine show` or in \
                 the old database, and ask again. It is kept for rows to come."
            ));
        }
        if !self.needs_reset.is_empty() {
            next.push(format!(
                "{} people need a new password: an owner makes them a link with POST /api/users/{{id}}/password-reset, \
                 the founder with POST /api/admin/tenants/{}/users/{{id}}/password-reset.",
                self.needs_reset.len(),
                self.tenant
            ));
        }
        if self.needs_reset.iter().any(|user| user.reasons.iter().any(|reason| reason == "password_in_vault")) {
            next.push(
                "The old password vault holds passwords in clear text: destroy it once everybody has a new one."
                    .to_owned(),
            );
        }
        if !self.dry_run {
            let owners: i64 = sqlx::query_scalar(
                "select count(*) from users where tenant_id = $1 and role = 'BUSINESS_OWNER' and status = 'active'",
            )
            .bind(&self.tenant)
            .fetch_one(&run.staging.pool)
            .await?;
            if owners == 0 {
                next.push(format!(
                    "{} has no active owner: the founder visits it (POST /api/admin/tenants/{}/support-sessions, mode \
                     write) and makes somebody one (PATCH /api/users/{{id}}).",
                    self.tenant, self.tenant
                ));
            }
            next.push("Check it row by row with `devhub legacy verify --from …`.".to_owned());
        }
        if self.source.rows.contains_key("tenants")
            && self.tables.get("tenants").is_some_and(|tenants| tenants.quarantined > 0)
        {
            next.push(
                "Other businesses were found; their rows became this one's and are marked tenant_folded.".to_owned(),
            );
        }
        Ok(next)
    }
}

/// How every row stands that is not gone: as this run found, or else as an earlier one left it.
const STANDING: &str = "
    select o.source_table, o.pk, o.heap, o.reason, o.repairs from legacy_outcomes o
    where o.tenant_id = $1 and o.reason is distinct from 'deletion_refused'
    union all
    select r.source_table, r.pk, r.heap, r.reason, r.repairs from legacy_rows r
    where r.tenant_id = $1 and not r.vanished and r.reason is distinct from 'deletion_refused' and not exists (
        select 1 from legacy_staged s where s.tenant_id = $1 and s.source_table = r.source_table and s.pk = r.pk)";

async fn founder(run: &Run<'_>) -> Result<String, ImportError> {
    let found: Option<(String, String, Option<String>)> = sqlx::query_as(
        "select coalesce(o.heap, r.heap), coalesce(o.repairs, r.repairs), coalesce(o.detail, r.detail)
         from legacy_keys k
         left join legacy_outcomes o on o.tenant_id = $1 and o.source_table = 'users' and o.pk = k.pk
         left join legacy_rows r on r.tenant_id = $1 and r.source_table = 'users' and r.pk = k.pk
         where k.tenant_id = $1 and k.source_table = 'users' and k.local_id = 'USR-000'",
    )
    .bind(run.staging.tenant())
    .fetch_optional(&run.staging.pool)
    .await?;
    Ok(match found {
        None => "The old database names no founder.".to_owned(),
        Some((heap, _, detail)) if heap == "quarantined" => {
            format!("The old founder did not come in: {}.", detail.unwrap_or_default())
        }
        Some((_, repairs, _)) if repairs.contains("founder_already_there") => {
            "The platform has its founder already: the old founder is the same person, and signs in as before here."
                .to_owned()
        }
        Some(_) => "The old founder is USR-000 of TNT-PLT.".to_owned(),
    })
}
